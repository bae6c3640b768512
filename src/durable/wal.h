/*
 * wal.h - the embedded log driver: segments `wal_<YYYYMMDD>_<first LSN, 20 digits>.log` in <data>/wal/.
 *
 * The format (segment header, record, batch), when a record is valid, what is a torn tail and what is damage, and recycling are
 * told at the top of wal.c. Limits: a record's length is bounded by max_record_bytes and checked before anything is allocated.
 */
#ifndef QUIRE_DURABLE_WAL_H
#define QUIRE_DURABLE_WAL_H

#include "durable/oplog.h"

#define WAL_FORMAT 1

struct wal_options {
    int dir_fd;             /* <data>/wal, borrowed for the call */
    uint64_t segment_bytes; /* a batch larger than that gets a segment of its own size */
    uint64_t max_record_bytes;
    uint64_t expect_lsn; /* what a snapshot or checkpoint already covers: the log must reach at least that or begin right after
                          * it; a log that ends before it although it once held it is damage */
    uint64_t
        reached_lsn; /* more than that which is known to have been durable: by a checkpoint whose arenas cannot be used; else 0 */
    bool repair;     /* cut damage off instead of refusing, and report it */
};

struct wal_report {
    uint64_t records;
    uint64_t first_lsn, last_lsn; /* 0: empty */
    uint64_t torn_bytes;          /* cut off at the end */
    char torn_at[96];             /* "wal_...log:12345", or "" */
    bool closed_in_order;         /* the last record is LOG_CLOSE */
    bool repaired;                /* something was set aside or cut off */
    uint64_t lost_records_bound;  /* with repair: LSNs known to have existed and now gone */
    uint64_t lost_first, lost_last; /* they lie between these; last 0: so does what followed, whatever it was; both 0: none */
};

/* Scans the segments, cuts a torn tail off (makes that durable), and stands ready to append after the last record. Damage before
 * the durable end is STATUS_CORRUPT with file and offset, and what to do (`quired --repair`). */
MUST_CHECK bool wal_open(const struct wal_options *options, struct oplog **ret, struct wal_report *ret_report, struct status *st);
/* What wal_open would find, and every record of every segment that has a header, also behind a fault; changes nothing. `options` without repair.
 * fn (may be NULL) gets the records. *ret_fault: STATUS_OK, or what wal_open would refuse. false: it could not be read. */
MUST_CHECK bool wal_check(const struct wal_options *options, oplog_record_fn fn, void *ctx, struct wal_report *ret_report,
                          struct status *ret_fault, struct status *st);
/* Whether a segment that is there, damaged or not, is that place (oplog_position) or follows it; or there is none, of this log or another. */
MUST_CHECK bool wal_knows_place(int dir_fd, uint64_t place, bool *ret, struct status *st);

#endif
