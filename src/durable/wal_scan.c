/*
 * wal_scan.c - reading segments.
 *
 * Reading in order ends at the first byte that does not begin a valid record with the expected LSN. Whether that is a torn tail
 * or damage is told by what lies behind it, so the rest of the segment is searched for valid records at every byte. The check
 * byte of a record's head spares almost all CRCs, and because it is seeded with the segment's random id, no content can be made
 * to pass it more often than one in 256 times.
 */
#include "durable/wal_scan.h"

#include "base/bytes.h"
#include "base/io.h"
#include "store/op.h"

#include <stdlib.h>

enum { WINDOW_STEP = 1024 * 1024, WORD = 8, TYPE_OFFSET = 5 /* of the byte that holds a record's type */ };

void wal_window_init(struct wal_window *w, int fd, uint64_t size) {
    *w = (struct wal_window){.fd = fd, .size = size};
}

void wal_window_fini(struct wal_window *w) {
    free(w->data);
    w->data = NULL;
    w->cap = 0;
    w->len = 0;
}

static bool window_fill(struct wal_window *w, uint64_t at, size_t want, struct status *st) {
    uint64_t left = w->size - at;
    size_t len = want < WINDOW_STEP ? WINDOW_STEP : want;
    if (len > left) {
        len = (size_t)left;
    }
    if (len > w->cap) {
        uint8_t *data = (uint8_t *)realloc(w->data, len);
        if (data == NULL) {
            return status_no_memory(st);
        }
        w->data = data;
        w->cap = len;
    }
    w->len = 0;
    w->at = at;
    return io_pread(w->fd, w->data, len, (off_t)at, &w->len, st);
}

bool wal_window_get(struct wal_window *w, uint64_t at, size_t want, const uint8_t **ret, size_t *ret_have, struct status *st) {
    if (at >= w->size) {
        *ret = w->data;
        *ret_have = 0;
        return true;
    }
    if (want > w->size - at) {
        want = (size_t)(w->size - at);
    }
    if (at < w->at || at - w->at > w->len || w->len - (size_t)(at - w->at) < want) {
        if (!window_fill(w, at, want, st)) {
            return false;
        }
    }
    *ret = w->data + (at - w->at);
    *ret_have = w->len - (size_t)(at - w->at);
    return true;
}

/* The record at `at`, valid as a whole; *ret_data points to its begin. *ret_valid false: there is none. */
static bool record_at(struct wal_window *w, const struct wal_header *h, uint64_t at, struct wal_record *ret,
                      const uint8_t **ret_data, bool *ret_valid, struct status *st) {
    const uint8_t *data = NULL;
    size_t have = 0;
    *ret_valid = false;
    if (!wal_window_get(w, at, WAL_RECORD_HEAD_MAX, &data, &have, st)) {
        return false;
    }
    struct wal_record found;
    if (!wal_record_head(h, data, have, w->size - at, &found)) {
        return true;
    }
    if (!wal_window_get(w, at, found.head + found.length, &data, &have, st)) {
        return false;
    }
    if (have >= found.head + found.length && wal_record_check(h, data, &found)) {
        *ret = found;
        *ret_data = data;
        *ret_valid = true;
    }
    return true;
}

/* Whether it may follow what was read so far: the next LSN, and the next record of the batch before it or the first of a new one.
 */
static bool follows(const struct wal_record *r, const struct wal_scan *scan, uint64_t next_in_batch) {
    return r->lsn == scan->next_lsn && (r->batch_index == 0 || r->batch_index == next_in_batch);
}

/* Goes on from scan, whose next record may be in the middle of a batch. */
static bool scan_on(struct wal_window *w, const struct wal_header *h, struct wal_scan scan, uint64_t next_in_batch, uint64_t from, oplog_record_fn fn,
                    void *ctx, struct wal_scan *ret, struct status *st) {
    for (;;) {
        struct wal_record r;
        const uint8_t *data = NULL;
        bool valid = false;
        if (!record_at(w, h, scan.end, &r, &data, &valid, st)) {
            return false;
        }
        if (!valid || !follows(&r, &scan, next_in_batch)) {
            break;
        }
        if (r.type == WAL_RECORD_GUARD) {
            scan.guard = r.head + r.length;
            break;
        }
        if (r.type == WAL_RECORD_END) {
            scan.ended = true;
            scan.marker = scan.end;
            scan.end += r.head + r.length;
            break;
        }
        struct oplog_record record = {.lsn = r.lsn, .time_us = r.time_us, .op = slice_of(data + r.head, r.length)};
        if (fn != NULL && r.lsn >= from && !fn(&record, ctx, st)) {
            return false;
        }
        scan.last_batch = r.batch_index == 0 ? scan.end : scan.last_batch;
        scan.last_op = r.length > 0 ? record.op.data[0] : 0;
        scan.end += r.head + r.length;
        scan.next_lsn++;
        scan.records++;
        next_in_batch = r.batch_index + 1;
    }
    *ret = scan;
    return true;
}

bool wal_scan_segment(struct wal_window *w, const struct wal_header *h, uint64_t from, oplog_record_fn fn, void *ctx,
                      struct wal_scan *ret, struct status *st) {
    const struct wal_scan begin = {.end = WAL_HEADER_BYTES, .last_batch = WAL_HEADER_BYTES, .next_lsn = h->first_lsn};
    return scan_on(w, h, begin, 0, from, fn, ctx, ret, st);
}

bool wal_scan_run(struct wal_window *w, const struct wal_header *h, const struct wal_run *run, oplog_record_fn fn, void *ctx, struct wal_scan *ret,
                  struct status *st) {
    const struct wal_scan begin = {.end = run->at, .last_batch = run->at, .next_lsn = run->first_lsn};
    struct wal_record r;
    const uint8_t *data = NULL;
    bool valid = false;
    if (!record_at(w, h, run->at, &r, &data, &valid, st)) {
        return false;
    }
    return scan_on(w, h, begin, valid ? r.batch_index : 0, run->first_lsn, fn, ctx, ret, st);
}

/* Where the run of zeros that begins at `at` ends within the window's bytes; `at` itself when there is none. */
static size_t skip_zeros(const uint8_t *data, size_t at, size_t end) {
    while (end - at >= WORD && load_u64le(data + at) == 0) {
        at += WORD;
    }
    while (at < end && data[at] == 0) {
        at++;
    }
    return at;
}

/* From *at on, the first place where a record may begin: behind all bytes that are zero, but for those that it may begin with (a CRC can), up to its type, which
 * is not. *at is w->size when nothing but zeros is left. */
static bool skip_to_bytes(struct wal_window *w, uint64_t *at, struct status *st) {
    while (*at < w->size) {
        const uint8_t *data = NULL;
        size_t have = 0;
        if (!wal_window_get(w, *at, WAL_RECORD_HEAD_MAX, &data, &have, st)) {
            return false;
        }
        size_t zeros = skip_zeros(data, 0, have);
        if (have == 0 || (zeros == have && *at + have == w->size)) {
            *at = w->size;
            break;
        }
        *at += zeros > TYPE_OFFSET ? zeros - TYPE_OFFSET : 0;
        if (zeros < have) {
            break;
        }
    }
    return true;
}

/* Whether a record that lies behind the end of the readable part can be there. With an LSN that there is no room for records before, it is chance. */
static bool is_plausible(const struct wal_record *r, const struct wal_scan *scan, uint64_t at) {
    return r->lsn >= scan->next_lsn && r->lsn - scan->next_lsn <= (at - scan->end) / WAL_RECORD_LEAST;
}

static void note_record(const struct wal_record *r, const struct wal_scan *scan, uint64_t at, struct wal_evidence *e) {
    if (!is_plausible(r, scan, at)) {
        return;
    }
    /* An end marker and a guard carry the LSN that follows, and were written alone, when all records before them were durable. */
    uint64_t durable = r->lsn - r->batch_index - 1;
    uint64_t last = r->type == WAL_RECORD_OP ? r->lsn : r->lsn - 1;
    e->durable_lsn = durable > e->durable_lsn ? durable : e->durable_lsn;
    e->highest_lsn = last > e->highest_lsn ? last : e->highest_lsn;
}

/* The first record of the torn batch may have its head and lack its rest. */
static bool note_torn_head(struct wal_window *w, const struct wal_header *h, const struct wal_scan *scan, struct wal_evidence *e,
                           struct status *st) {
    const uint8_t *data = NULL;
    size_t have = 0;
    if (!wal_window_get(w, scan->end, WAL_RECORD_HEAD_MAX, &data, &have, st)) {
        return false;
    }
    struct wal_record r;
    /* Its length is bounded by the segment, not by the file: a file cut short still holds the head of what was longer. */
    uint64_t room = h->bytes > scan->end ? h->bytes - scan->end : 0;
    if (wal_record_head(h, data, have, room, &r) && r.lsn == scan->next_lsn) {
        uint64_t end = scan->end + r.head + r.length;
        end = end < w->size ? end : w->size;
        e->tail_end = end > e->tail_end ? end : e->tail_end;
    }
    return true;
}

bool wal_find_evidence(struct wal_window *w, const struct wal_header *h, const struct wal_scan *scan, struct wal_evidence *ret,
                       struct status *st) {
    struct wal_evidence e = {.tail_end = scan->end + scan->guard};
    uint64_t at = e.tail_end;
    for (;;) {
        struct wal_record r;
        const uint8_t *data = NULL;
        bool valid = false;
        if (!skip_to_bytes(w, &at, st)) {
            return false;
        }
        if (at >= w->size) {
            break;
        }
        if (!record_at(w, h, at, &r, &data, &valid, st)) {
            return false;
        }
        if (valid) {
            note_record(&r, scan, at, &e);
        }
        uint64_t end = at + (valid ? r.head + r.length : 1);
        if (valid || h->zeroed) {
            e.tail_end = end;
        }
        at = end;
    }
    if (w->size < h->bytes) {
        e.tail_end = w->size; /* a segment is never shorter by itself: what there is was cut in the middle */
    }
    if (!note_torn_head(w, h, scan, &e, st)) {
        return false;
    }
    *ret = e;
    return true;
}

bool wal_find_run(struct wal_window *w, const struct wal_header *h, const struct wal_scan *scan, uint64_t lsn, struct wal_run *ret, struct status *st) {
    *ret = (struct wal_run){0};
    for (uint64_t at = scan->end + scan->guard; at < w->size;) {
        struct wal_record r;
        const uint8_t *data = NULL;
        bool valid = false;
        if (!skip_to_bytes(w, &at, st) || !record_at(w, h, at, &r, &data, &valid, st)) {
            return false;
        }
        if (!valid || r.type != WAL_RECORD_OP || !is_plausible(&r, scan, at)) {
            at++;
            continue;
        }
        const struct wal_run run = {.at = at, .first_lsn = r.lsn};
        struct wal_scan whole;
        if (!wal_scan_run(w, h, &run, NULL, NULL, &whole, st)) {
            return false;
        }
        if (lsn == 0 || (r.lsn <= lsn && whole.next_lsn > lsn)) {
            *ret = run;
            return true;
        }
        at = whole.end;
    }
    return true;
}
