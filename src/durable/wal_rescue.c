/*
 * wal_rescue.c - the records behind damage in a segment, in a segment of their own.
 *
 * A repair cuts a log at damage, because records behind a gap are of no use. But where a snapshot or checkpoint covers the gap they are: all that it does not
 * cover may lie behind it, in the same file. They are found as evidence of damage is (wal_scan.c), and written anew under a header that begins with the first
 * of them. The segment keeps its id, so that the next one still names it as its predecessor, and checkpoints that were taken in it know it. Each record
 * becomes a batch of its own: all of them are made durable here, together.
 */
#include "durable/wal_internal.h"

#include "base/io.h"

#include <fcntl.h>

enum { WRITE_STEP = 1024 * 1024 };

struct rescue {
    int fd;
    struct wal_header header;
    struct buf bytes; /* not written yet */
    uint64_t at;      /* where they go */
};

static bool flush(struct rescue *r, struct status *st) {
    if (!buf_check(&r->bytes, st) || !io_pwrite_full(r->fd, r->bytes.data, r->bytes.len, (off_t)r->at, st)) {
        return false;
    }
    r->at += r->bytes.len;
    buf_reset(&r->bytes);
    return true;
}

static bool take_record(const struct oplog_record *record, void *ctx, struct status *st) {
    struct rescue *r = (struct rescue *)ctx;
    const struct wal_record head = {.type = WAL_RECORD_OP, .lsn = record->lsn, .time_us = record->time_us};
    wal_record_encode(&r->bytes, &r->header, &head, record->op);
    return r->bytes.len < WRITE_STEP || flush(r, st);
}

static bool write_end(struct rescue *r, const struct wal_segment *segment, uint64_t next_lsn, struct status *st) {
    struct wal_segment own = *segment;
    own.header = r->header;
    return wal_write_end(r->fd, &own, r->at, next_lsn, st);
}

/* The header, and the records of the run. */
static bool write_all(struct rescue *r, struct wal_window *window, const struct wal_segment *segment, const struct wal_run *run, struct status *st) {
    uint8_t page[WAL_HEADER_BYTES];
    struct wal_scan scan;
    wal_header_encode(&r->header, page);
    return io_pwrite_full(r->fd, page, sizeof page, 0, st) && wal_scan_run(window, &segment->header, run, take_record, r, &scan, st) && flush(r, st) &&
           wal_sync(r->fd, segment->name, st) && (!scan.ended || write_end(r, segment, scan.next_lsn, st));
}

static bool write_segment(int dir_fd, struct wal_window *window, const struct wal_segment *segment, const struct wal_run *run, struct wal_segment *ret,
                          struct status *st) {
    struct rescue r = {.fd = -1, .header = segment->header, .at = WAL_HEADER_BYTES};
    r.header.first_lsn = run->first_lsn;
    r.header.needs_lsn = run->first_lsn - 1;
    r.header.zeroed = true;
    *ret = (struct wal_segment){.header = r.header};
    wal_name_format(r.header.created_at, r.header.first_lsn, ret->name);
    bool ok = wal_make_zeroed(dir_fd, WAL_LARGE_NAME, r.header.bytes, &r.fd, st) && write_all(&r, window, segment, run, st) &&
              io_rename_at(dir_fd, WAL_LARGE_NAME, dir_fd, ret->name, st) && wal_sync_dir(dir_fd, st);
    io_close(&r.fd);
    buf_fini(&r.bytes);
    return ok;
}

bool wal_rescue(int dir_fd, const struct wal_segment *segment, uint64_t size, const struct wal_scan *broken, uint64_t lsn, struct wal_segment *ret,
                bool *ret_made, struct status *st) {
    struct wal_window window;
    struct wal_run run;
    int fd = -1;
    *ret_made = false;
    if (!io_open_at(dir_fd, segment->name, O_RDONLY | O_NOFOLLOW, 0, &fd, st)) {
        return false;
    }
    wal_window_init(&window, fd, size);
    bool ok = wal_find_run(&window, &segment->header, broken, lsn, &run, st);
    if (ok && run.first_lsn != 0) {
        ok = write_segment(dir_fd, &window, segment, &run, ret, st);
        *ret_made = ok;
    }
    wal_window_fini(&window);
    io_close(&fd);
    return ok;
}
