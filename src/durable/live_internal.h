/* live_internal.h - inside durable: what the files of live checkpoints share. live_format.c has the bytes, live_checkpoint.c takes them, live_resume.c goes on from
 * them. */
#ifndef QUIRE_DURABLE_LIVE_INTERNAL_H
#define QUIRE_DURABLE_LIVE_INTERNAL_H

#include "durable/live_checkpoint.h"

enum { LIVE_NAME_BYTES = 48, LIVE_PATH_BYTES = ARENA_DIRECTORY_MAX + LIVE_NAME_BYTES + 16 };

#define LIVE_MAGIC 0x56494c4552495551ULL /* "QUIRELIV" */
#define LIVE_FORMAT_WITHOUT_KEYS 1
#define LIVE_FORMAT 2 /* raised with that of any file of an arena, too: formats.c */

/* A page file: a head, then records of file (u32, enum arena_text_file), page (u32) and DIRTY_PAGE_BYTES. */
#define LIVE_PAGES_MAGIC 0x5345474150495551ULL /* "QUIPAGES" */
#define LIVE_PAGES_FORMAT 1
#define LIVE_PAGES_HEAD_BYTES 64
#define LIVE_PAGE_RECORD_BYTES (8 + DIRTY_PAGE_BYTES)

void live_pages_name(uint64_t number, char out[LIVE_NAME_BYTES]);
bool live_pages_parse(const char *name, uint64_t *ret_number);

static inline size_t live_chunk_sums(const struct library_view *v) {
    return ((size_t)v->chunk_slots + LIVE_SUM_ROWS - 1) / LIVE_SUM_ROWS;
}
static inline size_t live_document_sums(const struct library_view *v) {
    return ((size_t)v->document_rows + LIVE_SUM_ROWS - 1) / LIVE_SUM_ROWS;
}
static inline size_t live_record_sums(const struct library_view *v) {
    return (size_t)((v->records_used + LIVE_SUM_BYTES - 1) / LIVE_SUM_BYTES);
}
MUST_CHECK bool live_library_make_sums(struct live_library *l, struct status *st);
void live_library_fini(struct live_library *l);
void live_checkpoint_encode(const struct live_checkpoint *c, struct buf *out);

/* All sums of a library at `lsn`, on all cores. The first `record_sums_known` of l->record_sums stand already. */
void live_sum(struct live_library *l, uint64_t lsn, const struct chunk_row *chunks, const struct document_row *documents, const uint8_t *records,
              size_t record_sums_known);

#endif
