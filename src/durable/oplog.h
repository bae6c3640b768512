/*
 * oplog.h - the log as an interface: nothing above `durable` may care which driver runs. The embedded driver is the WAL on local
 * disk (wal.h); the second will be PostgreSQL.
 */
#ifndef QUIRE_DURABLE_OPLOG_H
#define QUIRE_DURABLE_OPLOG_H

#include "base/buf.h"

struct oplog_record {
    uint64_t lsn;
    int64_t time_us;
    struct slice op; /* encoded */
};

/* false stops the reading, with *st set */
typedef bool (*oplog_record_fn)(const struct oplog_record *record, void *ctx, struct status *st);

struct oplog_position {
    uint64_t durable_lsn; /* the last one that is on disk; 0: none */
    uint64_t oldest_lsn;  /* the first that can be read */
    uint64_t bytes;       /* of all segments */
    uint64_t segments;
    uint64_t appended_bytes; /* records since start */
    uint64_t syncs;
    uint64_t sync_us; /* in all */
    uint64_t place;   /* of the last record: a random number that this stretch of this log has, and no other */
    uint64_t begun_behind; /* the log was begun behind a snapshot or checkpoint of that LSN, for want of an older one; UINT64_MAX: it goes on from segments that were
                            * retired */
};

/* How far the log is in an archive. */
struct oplog_archived {
    uint64_t lsn;                    /* records up to that need not be kept for the archive's sake */
    uint64_t copied;                 /* segments, so far */
    uint64_t waiting, waiting_bytes; /* finished segments that are not there yet */
};

struct oplog;
struct oplog_driver {
    const char *name;
    /* The right to append; the embedded driver holds the directory's LOCK already. */
    bool (*acquire)(struct oplog *log, struct status *st);
    bool (*renew)(struct oplog *log, struct status *st);
    /* Appends all records (LSNs ascending by one) and makes them durable, in one write and one sync. On failure none counts as
     * appended: STATUS_NO_SPACE leaves the log usable (cut back to its last good offset); anything else (a failed sync above all)
     * latches: every later append fails. */
    bool (*append)(struct oplog *log, const struct oplog_record *records, size_t count, struct status *st);
    /* Notes in the log itself that all of it is durable, where it is not noted yet: after that, damage to the last batch cannot pass for a write that was not
     * finished. Costs no sync, and the next append takes its place; for when no append is in sight. Fails as append does. */
    bool (*guard)(struct oplog *log, struct status *st);
    /* All records with lsn >= from, in order. */
    bool (*read_from)(struct oplog *log, uint64_t from, oplog_record_fn fn, void *ctx, struct status *st);
    /* A snapshot that covers everything up to lsn is durable: older records may go. */
    bool (*publish_snapshot)(struct oplog *log, uint64_t lsn, struct status *st);
    /* Whether `place` (of an earlier position) is one of this log, and its records behind it can be read. What lies beside a log, a checkpoint above all, is believed
     * only then: it may come from a copy that went another way. */
    bool (*knows)(struct oplog *log, uint64_t place);
    /* Copies the finished segments behind archived->lsn that are not in the directory yet, in order, each made durable before the next; with_last: what is durable
     * of the one in use, too. *archived goes on (begin with zeros), and tells what is left also after a failure. A directory of -1: only that. */
    bool (*archive)(struct oplog *log, int archive_dir_fd, bool with_last, struct oplog_archived *archived, struct status *st);
    /* Removes copies from the archive that hold nothing above lsn, of this log only. */
    bool (*archive_prune)(struct oplog *log, int archive_dir_fd, uint64_t lsn, uint64_t *ret_removed, struct status *st);
    void (*position)(struct oplog *log, struct oplog_position *ret);
    void (*close)(struct oplog *log);
};
struct oplog {
    const struct oplog_driver *driver;
};

static inline MUST_CHECK bool oplog_append(struct oplog *l, const struct oplog_record *r, size_t n, struct status *st) {
    return l->driver->append(l, r, n, st);
}
static inline MUST_CHECK bool oplog_guard(struct oplog *l, struct status *st) {
    return l->driver->guard(l, st);
}
static inline MUST_CHECK bool oplog_read_from(struct oplog *l, uint64_t from, oplog_record_fn fn, void *ctx, struct status *st) {
    return l->driver->read_from(l, from, fn, ctx, st);
}
static inline MUST_CHECK bool oplog_publish_snapshot(struct oplog *l, uint64_t lsn, struct status *st) {
    return l->driver->publish_snapshot(l, lsn, st);
}
static inline bool oplog_knows(struct oplog *l, uint64_t place) {
    return l->driver->knows(l, place);
}
static inline MUST_CHECK bool oplog_archive(struct oplog *l, int archive_dir_fd, bool with_last, struct oplog_archived *archived, struct status *st) {
    return l->driver->archive(l, archive_dir_fd, with_last, archived, st);
}
static inline MUST_CHECK bool oplog_archive_prune(struct oplog *l, int archive_dir_fd, uint64_t lsn, uint64_t *ret_removed, struct status *st) {
    return l->driver->archive_prune(l, archive_dir_fd, lsn, ret_removed, st);
}
static inline void oplog_position_get(struct oplog *l, struct oplog_position *ret) {
    l->driver->position(l, ret);
}
static inline void oplog_close(struct oplog *l) {
    if (l != NULL)
        l->driver->close(l);
}

#endif
