/* wal_internal.h - what the files of the embedded log share. Their tasks: wal.c appends, reads, retires; wal_open.c judges what
 * it finds; wal_spare.c has the next segment ready; wal_archive.c copies finished ones; wal_scan.c and wal_format.c read bytes. */
#ifndef QUIRE_DURABLE_WAL_INTERNAL_H
#define QUIRE_DURABLE_WAL_INTERNAL_H

#include "durable/wal_scan.h"

#include <pthread.h>

#define WAL_SPARE_NAME "spare.log"
#define WAL_FILLING_NAME "filling.tmp"
#define WAL_LARGE_NAME "large.tmp"
#define WAL_FILE_MODE 0600

struct wal_segment {
    char name[WAL_NAME_MAX];
    struct wal_header header;
};

/* Of the file WAL_SPARE_NAME: an unnamed segment of the usual size. BUSY: one thread makes, takes or drops it, without holding
 * the mutex. */
enum wal_spare_state { WAL_SPARE_NONE, WAL_SPARE_BUSY, WAL_SPARE_READY };

struct wal {
    struct oplog log; /* first: the driver's functions get it and mean all of this */

    /* fixed once it is open */
    int dir_fd;
    uint64_t segment_bytes;
    uint64_t max_record_bytes;

    /* of the appending thread */
    int fd;          /* of the segment in use */
    uint64_t offset; /* where its next record goes */
    uint64_t next_lsn;
    struct buf batch;
    bool guarded;        /* at offset stands a guard */
    uint64_t torn_until; /* > offset: a failed write may have left bytes in [offset, torn_until) */
    int successor_fd;    /* >= 0: its successor has its name, but the end marker is not written yet */
    struct wal_segment successor;

    pthread_mutex_t retire_mutex; /* one publish_snapshot at a time; taken before mutex */
    pthread_mutex_t mutex;        /* never held during a call that can block on the disk */

    /* under mutex */
    pthread_cond_t changed; /* spare, spare_wanted or closing changed */
    struct wal_segment
        *segments; /* ascending; the last is in use. Changed by the appending thread, and by publish_snapshot at the front */
    size_t segment_count;
    size_t segment_cap;
    uint64_t durable_lsn;
    uint64_t durable_end; /* offset in the segment in use */
    uint64_t appended_bytes;
    uint64_t syncs;
    uint64_t sync_us;
    bool latched;
    char latched_why[STATUS_DETAIL_MAX];
    enum wal_spare_state spare;
    bool spare_zeroed;
    bool spare_wanted;
    bool closing;
    bool helper_runs;
    pthread_t helper;
};

/* --- wal.c --- */
struct wal *wal_new(const struct wal_options *options); /* NULL: no memory */
void wal_free(struct wal *w);                           /* takes NULL; does not wait for anything but the helper */
bool wal_add_segment(struct wal *w, const struct wal_segment *segment, struct status *st);
/* Makes a file under a temporary name into the next segment: header, sync, name, sync of the directory. On success *segment is
 * complete. */
MUST_CHECK bool wal_name_segment(struct wal *w, int fd, const char *temporary, struct wal_segment *segment, struct status *st);
/* fdatasync, fsync of the directory; a failure is never STATUS_NO_SPACE, because room does not heal it. */
MUST_CHECK bool wal_sync(int fd, const char *name, struct status *st);
MUST_CHECK bool wal_sync_dir(int dir_fd, struct status *st);
/* Zeros [from, to) and syncs. */
MUST_CHECK bool wal_erase(int fd, uint64_t from, uint64_t to, const char *name, struct status *st);
/* Puts an end marker at `at`, which names next_lsn as the first LSN of the successor, and syncs. STATUS_NO_MEMORY: nothing was written. */
MUST_CHECK bool wal_write_end(int fd, const struct wal_segment *segment, uint64_t at, uint64_t next_lsn, struct status *st);

/* --- wal_rescue.c --- */
/* Writes the records behind `broken->end` that follow each other and of which one has `lsn`, into a segment of their own, *ret; *ret_made false: there are none.
 * The old one stays. `size`: of its file. */
MUST_CHECK bool wal_rescue(int dir_fd, const struct wal_segment *segment, uint64_t size, const struct wal_scan *broken, uint64_t lsn, struct wal_segment *ret,
                           bool *ret_made, struct status *st);

/* --- wal_archive.c: the driver's --- */
MUST_CHECK bool wal_archive(struct oplog *log, int dir_fd, bool with_last, struct oplog_archived *archived, struct status *st);
MUST_CHECK bool wal_archive_prune(struct oplog *log, int dir_fd, uint64_t lsn, uint64_t *ret_removed, struct status *st);

/* --- wal_spare.c --- */
/* A new file of zeros, written and synced, so that later syncs of its data write no metadata. *ret_fd is open for reading and
 * writing. */
MUST_CHECK bool wal_make_zeroed(int dir_fd, const char *name, uint64_t bytes, int *ret_fd, struct status *st);
/* Asks for a spare if there is none; does not wait. */
void wal_spare_want(struct wal *w);
/* The spare, ready to be named with wal_name_segment (which takes it away from WAL_SPARE_NAME). Waits while it is being made, and
 * makes it where there is none. *ret_old_seed: of its earlier life, 0 for none. Then the spare is BUSY until wal_spare_gone. */
MUST_CHECK bool wal_spare_take(struct wal *w, int *ret_fd, bool *ret_zeroed, uint32_t *ret_old_seed, struct status *st);
void wal_spare_gone(struct wal *w);
/* A retired segment becomes the spare where there is none. *ret_used, set in any case: it has lost its name; else remove the file. */
MUST_CHECK bool wal_spare_offer(struct wal *w, const struct wal_segment *segment, bool *ret_used, struct status *st);
/* At start: what an earlier run left. */
MUST_CHECK bool wal_spare_find(struct wal *w, struct status *st);
void wal_spare_stop(struct wal *w); /* ends the helper thread */

#endif
