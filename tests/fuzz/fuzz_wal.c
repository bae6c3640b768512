/*
 * fuzz_wal.c - a log segment: records with sound sums whose fields lie, between bytes of chance.
 *
 * Random bytes never pass a CRC, so an input is a recipe: it appends valid records with its own types, numbers and places in the batch, and raw bytes, behind a
 * header. Then the segment is read as a start reads it.
 */
#include "fuzz.h"

#include "base/io.h"
#include "durable/wal_scan.h"

#include <sys/mman.h>
#include <unistd.h>

enum { MOST_BYTES = 1 << 18 };

static bool count_record(const struct oplog_record *record, void *ctx, struct status *st) {
    (void)st;
    (void)record;
    ++*(uint64_t *)ctx;
    return true;
}

static void cook(const struct wal_header *h, struct slice in, struct buf *out) {
    uint64_t lsn = h->first_lsn;
    while (in.len > 0 && out->len < MOST_BYTES) {
        uint8_t what = fuzz_byte(&in);
        struct slice payload = fuzz_take(&in, what & 0x1f);
        if ((what & 0x20) != 0) {
            buf_put(out, payload.data, payload.len);
            continue;
        }
        uint8_t lie = fuzz_byte(&in);
        const struct wal_record r = {.type = (enum wal_record_type)(1 + (what >> 6) % 3),
                                     .batch_index = lie & 0x0f,
                                     .lsn = (lie & 0x80) != 0 ? lsn + (lie >> 4 & 7) : lsn,
                                     .time_us = lie};
        wal_record_encode(out, h, &r, payload);
        lsn += r.type == WAL_RECORD_OP ? 1 : 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice in = slice_of(data, size);
    struct status st = {0};
    struct wal_header h = {.segment_id = 7, .first_lsn = 1 + fuzz_byte(&in), .needs_lsn = 0, .created_at = 1, .zeroed = (fuzz_byte(&in) & 1) != 0};
    uint8_t head[WAL_HEADER_BYTES];
    struct buf body = {0};
    uint8_t flip = fuzz_byte(&in);
    size_t where = (size_t)fuzz_byte(&in) << 4;
    h.bytes = WAL_HEADER_BYTES + MOST_BYTES;
    wal_header_encode(&h, head);
    FUZZ_CHECK(wal_header_decode(head, &h, &st));
    cook(&h, in, &body);
    if (body.len > where) {
        body.data[where] ^= flip;
    }
    int fd = memfd_create("segment", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && write(fd, head, sizeof head) == (ssize_t)sizeof head);
    FUZZ_CHECK(body.len == 0 || write(fd, body.data, body.len) == (ssize_t)body.len);
    uint64_t file_bytes = WAL_HEADER_BYTES + body.len;
    struct wal_window w;
    struct wal_scan scan = {0};
    struct wal_evidence evidence = {0};
    struct wal_run run = {0};
    uint64_t records = 0;
    wal_window_init(&w, fd, file_bytes);
    bool good = wal_scan_segment(&w, &h, 0, count_record, &records, &scan, &st);
    fuzz_check_status(good, &st);
    if (good) {
        FUZZ_CHECK(scan.end >= WAL_HEADER_BYTES && scan.end + scan.guard <= file_bytes && scan.last_batch <= scan.end);
        FUZZ_CHECK(records == scan.records);
        fuzz_check_status(wal_find_evidence(&w, &h, &scan, &evidence, &st), &st);
        FUZZ_CHECK(evidence.tail_end <= file_bytes || evidence.tail_end == scan.end + scan.guard);
        if (wal_find_run(&w, &h, &scan, 0, &run, &st) && run.first_lsn != 0) {
            struct wal_scan behind = {0};
            FUZZ_CHECK(run.at >= scan.end && run.at < file_bytes);
            fuzz_check_status(wal_scan_run(&w, &h, &run, count_record, &records, &behind, &st), &st);
        }
    }
    wal_window_fini(&w);
    (void)close(fd);
    buf_fini(&body);
    return 0;
}
