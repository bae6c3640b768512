/*
 * restore.h - `quire restore`: from an archive, a directory of snapshots or a whole data directory, with log segments from anywhere, to a data directory
 * that a server can start on. Offline: it holds the directory's LOCK.
 *
 *   1. What is to be read is opened; then a child without any rights (restore_reader.c, base/confine.h) reads it and writes ops into a pipe.
 *   2. The parent believes none of them: each is decoded and held against what came before (restore_state.c), and goes into a new log in
 *      DIR/restore.new/, under a quota.
 *   3. DIR/restore.new becomes DIR/restore.ready: from that rename on the directory is the new one, whoever completes it (restore_switch.c). What was there
 *      stays under DIR/replaced.<time>/ until the first good start: the server has been up on the new state and has put a snapshot of it on disk. (One that
 *      it took at a stop counts at the next start.)
 *
 * The new log begins with LSN 1 and is a log of its own (another instance): what clients remember of LSNs is of no use with it.
 */
#ifndef QUIRE_DURABLE_RESTORE_H
#define QUIRE_DURABLE_RESTORE_H

#include "base/uuid.h"
#include "store/limits.h"

enum { RESTORE_NAME_MAX = 48 };
#define RESTORE_FETCHED "restore.fetched" /* in the data directory: what is to be restored from, fetched from elsewhere (s3/fetch.h) */

struct restore_options {
    const char *source;
    const char *into;
    const char *const *logs; /* directories with log segments */
    size_t log_count;
    uint64_t to_lsn;      /* 0: no such target */
    int64_t to_time_us;   /* INT64_MAX: no such target */
    const char *library;  /* name or id; NULL: all */
    const char *as;       /* its new name; NULL: as it was */
    uint64_t max_bytes;   /* that the new log may take; 0: what is free, less a reserve */
    /* Called now and then; may be NULL. `line` is clean of control characters. */
    void (*tell)(void *ctx, const char *line);
    void *ctx;
};

struct restore_report {
    uint32_t libraries; /* that are there now */
    uint64_t documents;
    uint64_t chunks;
    char base[64];       /* the archive, or "" */
    uint64_t lsn;        /* of the source: the last that was taken */
    int64_t time_us;     /* of that; 0: it is not known */
    uint64_t log_bytes;
    char replaced_as[RESTORE_NAME_MAX]; /* where what was there before is kept; "": nothing was */
};

/* STATUS_BUSY: a server runs on the directory or the source. STATUS_NOT_FOUND: no such source. STATUS_TOO_LARGE: over max_bytes. */
MUST_CHECK bool restore_run(const struct restore_options *options, struct restore_report *ret, struct status *st);
/* Puts back what the last restore replaced, while it is there, and gives up what it brought. *ret_from: the directory's name it came from. */
MUST_CHECK bool restore_undo(const char *dir, char ret_from[RESTORE_NAME_MAX], struct status *st);

/* Whether a directory may be restored into: it is empty, or a data directory. STATUS_INVALID: it is neither. */
MUST_CHECK bool restore_fits(int dir_fd, struct status *st);

/* For whoever opens a data directory, with its LOCK held, before anything else: completes what an interrupted restore had decided, and removes what one
 * had begun. *ret_done: it completed one. */
MUST_CHECK bool restore_complete(int data_dir_fd, bool *ret_done, struct status *st);
/* For whoever only reads. STATUS_CONFLICT: a restore into the directory was interrupted when it had decided, so what lies there is neither of the two. */
MUST_CHECK bool restore_none_pending(int data_dir_fd, struct status *st);
/* The state that is there has proven good: what it replaced is removed. *ret_removed: how many. */
MUST_CHECK bool restore_accept(int data_dir_fd, uint32_t *ret_removed, struct status *st);

#endif
