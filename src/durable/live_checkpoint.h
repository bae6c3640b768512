/*
 * live_checkpoint.h - checkpoints that are taken while the server is alive, so that a start after a crash goes on where the last one was, and not at the last
 * snapshot.
 *
 * The other kind (checkpoint.h) is written when the server is closed, and says of every byte of the arenas that it is as it was. This one says how to get
 * back to an LSN from arenas that went on changing (store/arena_cut.h, store/resume.h):
 *
 *   vectors/checkpoint.live          the newest: the log's place, and for each library its view, sums of rows and records, and the page files to be applied
 *   vectors/checkpoint.live.before   the one before it
 *   vectors/<directory>/pages.<n>    pages of terms, postings and columns: all (a base), or those changed since the file before it
 *
 * Page files are written once and never changed; a checkpoint names those it needs with their length and sum. A new one is written wholly and synced before
 * it takes its name, and what the newest two name is kept. So at each moment there is a good one, and one behind it should a disk have lost it.
 */
#ifndef QUIRE_DURABLE_LIVE_CHECKPOINT_H
#define QUIRE_DURABLE_LIVE_CHECKPOINT_H

#include "durable/oplog.h"
#include "store/arena_cut.h"

#define LIVE_CHECKPOINT_PATH "vectors/checkpoint.live"
#define LIVE_CHECKPOINT_BEFORE_PATH "vectors/checkpoint.live.before"
#define LIVE_PAGE_FILES_MAX 16

struct live_pages {
    uint64_t number; /* of the name */
    uint64_t bytes;
    uint32_t crc;
};

struct live_library {
    struct library_view view;
    uint64_t missing;
    /* sums of LIVE_SUM_ROWS rows and LIVE_SUM_BYTES bytes each; the counts follow from the view */
    uint32_t *chunk_sums, *document_sums, *record_sums;
    struct live_pages pages[LIVE_PAGE_FILES_MAX]; /* in the order of application, the base first */
    uint32_t page_files;
};
#define LIVE_SUM_ROWS 65536
#define LIVE_SUM_BYTES ((uint64_t)16 << 20)

struct live_checkpoint {
    uint64_t lsn;
    uint64_t place;  /* oplog_position.place */
    uint64_t number; /* ascending; that of the page files written for it */
    struct live_library *libraries;
    size_t library_count;
    struct buf extra;    /* what is remembered of requests (live_options.extra) */
    struct buf api_keys; /* live_options.api_keys; empty: the format is the one before */
};

/* --- reading --- */
/* *ret_there false: there is none, or none that can be used; `why` says so ("" when there is none at all). false: out of memory. */
MUST_CHECK bool live_checkpoint_read(int data_dir_fd, const char *path, struct live_checkpoint *ret, bool *ret_there, char why[200], struct status *st);
void live_checkpoint_fini(struct live_checkpoint *c); /* takes a zeroed one */
const struct live_library *live_checkpoint_find(const struct live_checkpoint *c, const struct uuid *id);
/* Makes terms, postings and columns of a library anew, from its page files. Any code but those of resources: they are no good. */
MUST_CHECK bool live_restore_texts(int vectors_dir_fd, const struct live_library *l, struct status *st);
/* Goes on with a library (catalog_resume), after its text files were restored. */
MUST_CHECK bool live_resume(struct catalog *c, const struct live_checkpoint *from, const struct live_library *l, struct status *st);

/* --- taking --- */
typedef bool (*live_fn)(void *ctx, struct status *st);
struct live_options {
    int data_dir_fd; /* borrowed, as the next two */
    struct catalog *catalog;
    struct oplog *log;
    /* Runs fn as the committer, between two commits. */
    bool (*call)(void *host, live_fn fn, void *ctx, struct status *st);
    /* Looked at while pages are copied: then it is given up, with STATUS_BUSY. May be NULL. */
    bool (*cancelled)(void *host);
    /* After the cut, while commits go on: what else belongs to its LSN. May be NULL. */
    void (*extra)(void *host, uint64_t lsn, struct buf *out);
    /* The API keys (key_table_encode): of that LSN or a later one. May be NULL. */
    void (*api_keys)(void *host, struct buf *out);
    void *host;
};
struct live_checkpointer;
/* found: what recovery went on from (resumed), or what it found beside arenas that were closed in order (NULL: nothing); it is taken over and zeroed. A library
 * whose text files are as `found` has them, but for changes that were noted since, is written by its changed pages from now on, any other as a whole. */
MUST_CHECK bool live_checkpointer_new(const struct live_options *options, struct live_checkpoint *found, bool resumed,
                                      struct live_checkpointer **ret, struct status *st);
void live_checkpointer_free(struct live_checkpointer *k); /* takes NULL */

struct live_report {
    uint64_t lsn;
    uint64_t libraries_written; /* the others are as the checkpoint before has them */
    uint64_t page_bytes;
    int64_t cut_us; /* how long the committer was kept by the cut; the pages come in helpings of LIVE_HELPING after it */
    int64_t most_us; /* the longest that it was kept at once */
};
#define LIVE_HELPING 256 /* pages copied between two commits */
/* Takes one. May take seconds; commits go on. On failure the one before stands. */
MUST_CHECK bool live_checkpoint_take(struct live_checkpointer *k, struct live_report *ret, struct status *st);
/* The log is needed behind this LSN by those on the disk; 0: there is none. */
uint64_t live_checkpoint_floor(const struct live_checkpointer *k);

#endif
