/* wal_scan.h - reading segments: in order up to the first byte that is no record, and behind it in search of what proves damage.
 */
#ifndef QUIRE_DURABLE_WAL_SCAN_H
#define QUIRE_DURABLE_WAL_SCAN_H

#include "durable/wal_format.h"

/* A file read through a window that moves and grows as asked. */
struct wal_window {
    int fd;        /* borrowed */
    uint64_t size; /* nothing is read at or above it */
    uint8_t *data;
    size_t cap;
    uint64_t at; /* data[0] is this byte of the file */
    size_t len;
};

void wal_window_init(struct wal_window *w, int fd, uint64_t size);
void wal_window_fini(struct wal_window *w);
/* At least min(want, size - at) bytes from offset `at`; *ret_have is how many there are (it may be more than asked for). Valid
 * until the next call. */
MUST_CHECK bool wal_window_get(struct wal_window *w, uint64_t at, size_t want, const uint8_t **ret, size_t *ret_have,
                               struct status *st);

/* What reading a segment in order found. */
struct wal_scan {
    uint64_t end;      /* offset behind the last valid record */
    uint64_t last_batch; /* offset of the last batch's first record; `end` when there is none */
    uint64_t next_lsn; /* of the record that would stand there */
    uint64_t records;  /* ops */
    bool ended;        /* there is a WAL_RECORD_END; `end` is behind it, `marker` before it */
    uint64_t marker;
    uint64_t guard;  /* bytes of the WAL_RECORD_GUARD at `end`; 0: none */
    uint8_t last_op; /* type byte of the last op, 0: none */
};
/* Reads records from the header on. fn (may be NULL) gets those with lsn >= from. */
MUST_CHECK bool wal_scan_segment(struct wal_window *w, const struct wal_header *h, uint64_t from, oplog_record_fn fn, void *ctx,
                                 struct wal_scan *ret, struct status *st);

/* Records that follow each other, behind damage. */
struct wal_run {
    uint64_t at; /* offset of the first */
    uint64_t first_lsn; /* 0: there is none */
};
/* The first run behind scan->end; with an lsn, that has it. */
MUST_CHECK bool wal_find_run(struct wal_window *w, const struct wal_header *h, const struct wal_scan *scan, uint64_t lsn, struct wal_run *ret,
                             struct status *st);
/* Reads it as wal_scan_segment does. */
MUST_CHECK bool wal_scan_run(struct wal_window *w, const struct wal_header *h, const struct wal_run *run, oplog_record_fn fn, void *ctx, struct wal_scan *ret,
                             struct status *st);

/* What lies behind the last valid record. */
struct wal_evidence {
    uint64_t durable_lsn; /* the highest that some valid record there claims; 0: none */
    uint64_t highest_lsn; /* of the valid records there; 0: none */
    uint64_t
        tail_end; /* behind the last byte that the torn tail wrote, as far as it can be known; = scan->end + scan->guard when there is none */
};
MUST_CHECK bool wal_find_evidence(struct wal_window *w, const struct wal_header *h, const struct wal_scan *scan,
                                  struct wal_evidence *ret, struct status *st);

#endif
