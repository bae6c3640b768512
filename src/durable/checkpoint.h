/* checkpoint.h - inside durable: reading and judging what checkpoint_write (recovery.h) left at an orderly stop. The format
 * stands in checkpoint.c. */
#ifndef QUIRE_DURABLE_CHECKPOINT_H
#define QUIRE_DURABLE_CHECKPOINT_H

#include "store/catalog.h"

#define CHECKPOINT_PATH "vectors/checkpoint"
#define CHECKPOINT_MAGIC 0x504b434552495551ULL /* "QUIRECKP" */
#define CHECKPOINT_FORMAT_WITHOUT_KEYS 3
#define CHECKPOINT_FORMAT 4 /* raised with that of any file of an arena, too: formats.c */
#define CHECKPOINT_BYTES_MAX ((size_t)1 << 28)
#define CHECKPOINT_WHY_MAX 200

struct checkpoint_file {
    char name[ARENA_FILE_NAME_MAX];
    uint64_t used;
    uint32_t *block_crcs; /* one per CHECKPOINT_BLOCK_BYTES begun */
};

struct checkpoint_library {
    struct library_view view;
    struct checkpoint_file files[LIBRARY_FILES_MAX];
    size_t file_count;
};

struct checkpoint {
    uint64_t lsn;
    struct checkpoint_library *libraries;
    size_t library_count;
    struct buf keys; /* idempotency_encode's, or empty */
    struct buf api_keys; /* key_table_encode's, or empty: then the format is the one before */
};

/* *ret_there false: there is none, or none that can be used; `why` says so ("" when there is none at all). false: out of memory.
 */
MUST_CHECK bool checkpoint_read(int data_dir_fd, struct checkpoint *ret, bool *ret_there, char why[CHECKPOINT_WHY_MAX],
                                struct status *st);
void checkpoint_fini(struct checkpoint *c); /* takes a zeroed one */
/* Reads every file up to its used bytes, on all cores. *ret_sound false: `why` names the first that is not as it was. */
MUST_CHECK bool checkpoint_verify(int data_dir_fd, const struct checkpoint *c, bool *ret_sound, char why[CHECKPOINT_WHY_MAX],
                                  struct status *st);
/* Durably: afterwards no start can take the arenas for what they were. */
MUST_CHECK bool checkpoint_remove(int data_dir_fd, struct status *st);

#endif
