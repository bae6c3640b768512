/*
 * wal_open.c - judging the segments that are there, and getting ready to append behind them.
 *
 * The segments are judged in the order of the LSNs in their names, each against the one before it; the first fault ends it.
 * Without `repair` a fault is refused and nothing on disk has changed. With it, a segment that does not belong where it is or
 * cannot be read at all is set aside, which may leave a gap; at a gap or at damaged records the log is cut, but where that lies in
 * what the caller has anyway (expect_lsn) and records that follow it are there: then all before those is set aside. What is set aside or
 * cut off is kept beside the log, under a name that ends in
 * ".damaged.<time>", because even a damaged segment may hold text that somebody can still read. Each such step, and the LSNs that are gone with it, is
 * a line of the server's log. The rules are those of wal.c.
 */
#include "durable/wal_internal.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "store/op.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { COPY_STEP = 1024 * 1024, DAMAGED_NAME_MAX = WAL_NAME_MAX + 40, FOUND_FIRST_CAP = 16 };

/* A segment as found. */
struct found {
    struct wal_segment segment; /* header: once it was judged */
    uint64_t name_lsn;
    uint64_t size; /* of the file, at most the segment's */
    struct wal_scan scan;
    struct wal_evidence tail; /* of the last segment, and of one that lacks its end marker */
};

enum fault_kind {
    FAULT_NONE,
    FAULT_FRONT,   /* records before the oldest segment are nowhere */
    FAULT_SEGMENT, /* the segment cannot be used at all */
    FAULT_BYTES,   /* it can up to an offset */
    FAULT_MISSING  /* it can as a whole, but what followed it is gone */
};

struct fault {
    enum fault_kind kind;
    size_t index;
    uint64_t lsn; /* the first that cannot be read */
    char what[STATUS_DETAIL_MAX];
};

struct place_search {
    uint64_t place;
    bool found;
    bool any; /* segment */
};

struct opening {
    const struct wal_options *options;
    struct found *found; /* ascending by the LSN in the name */
    size_t count;
    size_t cap;
    struct fault fault;
    /* with repair */
    uint64_t front_lost_until; /* LSN before the oldest segment, where what it builds on is missing; 0: nothing is */
    uint64_t highest;          /* LSN that a segment that was set aside speaks of */
    bool changed;              /* names in the directory */
    bool repaired;
};

static void set_fault(struct opening *o, enum fault_kind kind, size_t index, uint64_t lsn, const char *fmt, ...)
    PRINTF_LIKE(5, 6);
static void set_fault(struct opening *o, enum fault_kind kind, size_t index, uint64_t lsn, const char *fmt, ...) {
    o->fault.kind = kind;
    o->fault.index = index;
    o->fault.lsn = lsn;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(o->fault.what, sizeof o->fault.what, fmt, args);
    va_end(args);
}

/* --- what is there --- */

static bool add_found(struct opening *o, const char *name, uint64_t lsn, struct status *st) {
    if (o->count == o->cap) {
        size_t cap = o->cap == 0 ? FOUND_FIRST_CAP : o->cap * 2;
        struct found *grown = (struct found *)realloc(o->found, cap * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        o->found = grown;
        o->cap = cap;
    }
    struct found *f = &o->found[o->count++];
    memset(f, 0, sizeof *f);
    memcpy(f->segment.name, name, strlen(name) + 1); /* wal_name_parse saw to its length */
    f->name_lsn = lsn;
    return true;
}

static int by_lsn_then_name(const void *a, const void *b) {
    const struct found *x = (const struct found *)a;
    const struct found *y = (const struct found *)b;
    if (x->name_lsn != y->name_lsn) {
        return x->name_lsn < y->name_lsn ? -1 : 1;
    }
    return strcmp(x->segment.name, y->segment.name);
}

static bool take_found(int dir_fd, const char *name, void *ctx, struct status *st) {
    uint64_t lsn = 0;
    (void)dir_fd;
    return !wal_name_parse(name, &lsn) || add_found((struct opening *)ctx, name, lsn, st);
}

static bool list_segments(struct opening *o, struct status *st) {
    bool ok = io_each_entry(o->options->dir_fd, "the log's directory", take_found, o, st);
    if (ok && o->count > 1) {
        qsort(o->found, o->count, sizeof *o->found, by_lsn_then_name);
    }
    return ok;
}

/* --- judging one segment --- */

/* Reads the header; a fault when it cannot be one of this log. */
static bool judge_header(struct opening *o, size_t i, int fd, struct status *st) {
    struct found *f = &o->found[i];
    uint8_t page[WAL_HEADER_BYTES];
    size_t have = 0;
    off_t size = 0;
    struct status why = {0};
    uint64_t lsn = i > 0 ? o->found[i - 1].scan.next_lsn : f->name_lsn;
    if (!io_size(fd, &size, st) || !io_pread(fd, page, sizeof page, 0, &have, st)) {
        return false;
    }
    if (have < sizeof page) {
        set_fault(o, FAULT_SEGMENT, i, lsn, "%s is damaged at byte %zu: its header is cut short", f->segment.name, have);
    } else if (!wal_header_decode(page, &f->segment.header, &why)) {
        set_fault(o, FAULT_SEGMENT, i, lsn, "%s is damaged at byte 0: %s", f->segment.name, why.detail);
    } else if (f->segment.header.first_lsn != f->name_lsn) {
        set_fault(o, FAULT_SEGMENT, i, lsn, "%s holds the segment that begins with LSN %" PRIu64 ": it was renamed or exchanged",
                  f->segment.name, f->segment.header.first_lsn);
    }
    f->size = (uint64_t)size < f->segment.header.bytes ? (uint64_t)size : f->segment.header.bytes;
    return true;
}

/* The oldest segment: is all before it in the snapshot or checkpoint that the caller has? */
static void judge_front(struct opening *o) {
    const struct wal_header *h = &o->found[0].segment.header;
    if (h->needs_lsn > o->options->expect_lsn) {
        set_fault(o, FAULT_FRONT, 0, h->first_lsn,
                  "the log begins with %s: LSN %" PRIu64 " to %" PRIu64 " are in no segment and in no good snapshot",
                  o->found[0].segment.name, o->options->expect_lsn + 1, h->first_lsn - 1);
    }
}

/* Holds a header against the segment before it; needs no records of its own. */
static void judge_place(struct opening *o, size_t i) {
    const struct found *f = &o->found[i];
    if (i == 0) {
        judge_front(o);
        return;
    }
    const struct found *before = &o->found[i - 1];
    const char *name = f->segment.name;
    uint64_t first = f->segment.header.first_lsn;
    uint64_t next = before->scan.next_lsn;
    if (!uuid_equal(&f->segment.header.instance, &o->found[0].segment.header.instance)) {
        set_fault(o, FAULT_SEGMENT, i, next, "%s belongs to another log than %s", name, o->found[0].segment.name);
    } else if (first == before->segment.header.first_lsn) {
        set_fault(o, FAULT_SEGMENT, i, next, "%s is a double of %s", name, before->segment.name);
    } else if (first < next) {
        set_fault(o, FAULT_SEGMENT, i, next, "%s holds LSNs from %" PRIu64 " on that %s holds, too", name, first,
                  before->segment.name);
    } else if (first > next && before->scan.ended) {
        set_fault(o, FAULT_MISSING, i - 1, next, "the segment between %s and %s is missing: LSN %" PRIu64 " to %" PRIu64,
                  before->segment.name, name, next, first - 1);
    } else if (first > next) {
        set_fault(o, FAULT_BYTES, i - 1, next,
                  "%s is damaged at byte %" PRIu64 " (LSN %" PRIu64 "), and %s continues with LSN %" PRIu64, before->segment.name,
                  before->scan.end, next, name, first);
    } else if (f->segment.header.previous_id != before->segment.header.segment_id) {
        set_fault(o, FAULT_SEGMENT, i, next, "%s was not written after %s: one of them comes from a copy", name,
                  before->segment.name);
    }
}

/* The LSN up to which the log is known to have been durable. */
static uint64_t must_reach(const struct opening *o) {
    const struct wal_options *options = o->options;
    return options->reached_lsn > options->expect_lsn ? options->reached_lsn : options->expect_lsn;
}

/* The last segment: is what follows its last valid record a torn tail or damage? */
static void judge_tail(struct opening *o, size_t i) {
    const struct found *f = &o->found[i];
    uint64_t next = f->scan.next_lsn;
    uint64_t expect = must_reach(o);
    if (f->scan.ended) {
        set_fault(o, FAULT_MISSING, i, next, "the segment that follows %s is missing: it begins with LSN %" PRIu64,
                  f->segment.name, next);
    } else if (f->tail.durable_lsn >= next) {
        set_fault(o, FAULT_BYTES, i, next,
                  "%s is damaged at byte %" PRIu64 " (LSN %" PRIu64 "), and a later record says that LSN %" PRIu64 " was durable",
                  f->segment.name, f->scan.end, next, f->tail.durable_lsn);
    } else if (expect >= next) {
        set_fault(o, FAULT_BYTES, i, next, "%s ends at byte %" PRIu64 " with LSN %" PRIu64 ", but LSN %" PRIu64 " was durable",
                  f->segment.name, f->scan.end, next - 1, expect);
    }
}

/* Segment i begins right where i - 1 ends; was the end marker of i - 1 written before the first record of i, as it must be? */
static void judge_marker(struct opening *o, size_t i) {
    const struct found *before = &o->found[i - 1];
    const struct found *f = &o->found[i];
    bool empty = i + 1 == o->count && f->scan.records == 0 && !f->scan.ended && f->tail.highest_lsn == 0;
    if (!empty) {
        set_fault(o, FAULT_BYTES, i - 1, before->scan.next_lsn, "%s is damaged at byte %" PRIu64 ", where its end is marked",
                  before->segment.name, before->scan.end);
    }
}

static bool scan_found(struct opening *o, size_t i, int fd, struct status *st) {
    struct found *f = &o->found[i];
    struct wal_window window;
    wal_window_init(&window, fd, f->size);
    bool ok = wal_scan_segment(&window, &f->segment.header, 0, NULL, NULL, &f->scan, st);
    f->tail.tail_end = f->scan.end;
    if (ok && !f->scan.ended) {
        /* In a segment that others follow this serves only the count of what is lost. */
        ok = wal_find_evidence(&window, &f->segment.header, &f->scan, &f->tail, st);
    }
    wal_window_fini(&window);
    return ok;
}

static bool write_marker(struct opening *o, size_t i, struct status *st);

static bool judge_records(struct opening *o, size_t i, int fd, struct status *st) {
    if (!scan_found(o, i, fd, st)) {
        return false;
    }
    if (i > 0 && !o->found[i - 1].scan.ended) {
        judge_marker(o, i);
        if (o->fault.kind != FAULT_NONE && o->options->repair) {
            o->fault.kind = FAULT_NONE; /* no record is lost with it */
            return write_marker(o, i - 1, st);
        }
    }
    return true;
}

static bool rewrite_front(struct opening *o, int fd, struct status *st);

static bool judge_segment(struct opening *o, size_t i, struct status *st) {
    int fd = -1;
    if (!io_open_at(o->options->dir_fd, o->found[i].segment.name, O_RDONLY | O_NOFOLLOW, 0, &fd, st)) {
        return false;
    }
    bool ok = judge_header(o, i, fd, st);
    if (ok && o->fault.kind == FAULT_NONE) {
        judge_place(o, i);
        if (o->fault.kind == FAULT_FRONT && o->options->repair) {
            o->fault.kind = FAULT_NONE;
            ok = rewrite_front(o, fd, st);
        }
    }
    if (ok && o->fault.kind == FAULT_NONE) {
        ok = judge_records(o, i, fd, st);
    }
    io_close(&fd);
    return ok;
}

static bool refuse(const char *what, struct status *st) {
    return status_set(
        st, STATUS_CORRUPT,
        "%s. Put what is missing or damaged back from a copy, or start once with `quired --repair`, which keeps what it can",
        what);
}

/* --- repair --- */

static bool write_marker(struct opening *o, size_t i, struct status *st) {
    const struct found *f = &o->found[i];
    int fd = -1;
    if (!io_open_at(o->options->dir_fd, f->segment.name, O_RDWR | O_NOFOLLOW, 0, &fd, st)) {
        return false;
    }
    bool ok = wal_erase(fd, f->scan.end, f->tail.tail_end, f->segment.name, st) &&
              wal_write_end(fd, &f->segment, f->scan.end, f->scan.next_lsn, st);
    io_close(&fd);
    return ok;
}

static void damaged_name(const char *name, char out[DAMAGED_NAME_MAX]) {
    (void)snprintf(out, DAMAGED_NAME_MAX, "%s.damaged.%" PRId64, name, clock_wall_us());
}

static bool set_aside(struct opening *o, size_t i, struct status *st) {
    char name[DAMAGED_NAME_MAX];
    damaged_name(o->found[i].segment.name, name);
    o->changed = true;
    if (!io_rename_at(o->options->dir_fd, o->found[i].segment.name, o->options->dir_fd, name, st)) {
        return false;
    }
    o->repaired = true;
    log_warn("repair: %s does not count any more; it is kept as wal/%s", o->found[i].segment.name, name);
    return true;
}

/* LSNs that have existed, and are nowhere now. */
static void note_lost(struct wal_report *report, uint64_t first, uint64_t last) {
    uint64_t count = last >= first ? last - first + 1 : 0;
    if (count == 0) {
        return;
    }
    report->lost_records_bound += count;
    report->lost_first = report->lost_first == 0 || first < report->lost_first ? first : report->lost_first;
    report->lost_last = last > report->lost_last ? last : report->lost_last;
    log_error("repair: LSN %" PRIu64 " to %" PRIu64 " are lost, %" PRIu64 " operations", first, last, count);
}

static bool copy_bytes(int from, int to, const char *name, struct status *st) {
    uint8_t *step = (uint8_t *)malloc(COPY_STEP);
    if (step == NULL) {
        return status_no_memory(st);
    }
    bool ok = true;
    size_t have = COPY_STEP;
    for (off_t at = 0; ok && have == COPY_STEP; at += COPY_STEP) {
        ok = io_pread(from, step, COPY_STEP, at, &have, st) && io_pwrite_full(to, step, have, at, st);
    }
    free(step);
    return ok && io_fsync(to, name, st);
}

/* Writes the oldest segment anew with a header that does without what was before it, so that the next start needs no repair. */
static bool rewrite_front(struct opening *o, int fd, struct status *st) {
    struct found *f = &o->found[0];
    uint8_t page[WAL_HEADER_BYTES];
    int to = -1;
    o->front_lost_until = f->segment.header.first_lsn - 1;
    f->segment.header.needs_lsn = o->options->expect_lsn;
    wal_header_encode(&f->segment.header, page);
    bool ok = io_unlink_at(o->options->dir_fd, WAL_LARGE_NAME, st) &&
              io_open_at(o->options->dir_fd, WAL_LARGE_NAME, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, WAL_FILE_MODE, &to, st) &&
              copy_bytes(fd, to, WAL_LARGE_NAME, st) && io_pwrite_full(to, page, sizeof page, 0, st) &&
              wal_sync(to, WAL_LARGE_NAME, st) &&
              io_rename_at(o->options->dir_fd, WAL_LARGE_NAME, o->options->dir_fd, f->segment.name, st);
    io_close(&to);
    o->changed = true;
    return ok;
}

/* A segment that is of no use where it is. */
static bool remove_stray(struct opening *o, struct status *st) {
    size_t i = o->fault.index;
    uint64_t before = o->found[i].name_lsn - 1; /* a segment is created when all before it is durable */
    o->highest = before > o->highest ? before : o->highest;
    log_warn("repair: %s", o->fault.what);
    if (!set_aside(o, i, st)) {
        return false;
    }
    o->count--;
    memmove(&o->found[i], &o->found[i + 1], (o->count - i) * sizeof *o->found);
    o->fault.kind = FAULT_NONE;
    return true;
}

/* A copy of the segment that will be cut. */
static bool keep_copy(struct opening *o, size_t i, struct status *st) {
    char name[DAMAGED_NAME_MAX];
    int from = -1;
    int to = -1;
    damaged_name(o->found[i].segment.name, name);
    bool ok = io_open_at(o->options->dir_fd, o->found[i].segment.name, O_RDONLY | O_NOFOLLOW, 0, &from, st) &&
              io_open_at(o->options->dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, WAL_FILE_MODE, &to, st) &&
              copy_bytes(from, to, name, st);
    io_close(&from);
    io_close(&to);
    if (ok) {
        o->repaired = true;
        log_warn("repair: %s is cut off at byte %" PRIu64 ", behind LSN %" PRIu64 "; as it was it is kept as wal/%s", o->found[i].segment.name,
                 o->found[i].scan.end, o->fault.lsn - 1, name);
    }
    return ok;
}

/* The highest LSN that anything in the log says has existed. */
static uint64_t highest_known(struct opening *o) {
    uint64_t highest = o->highest > must_reach(o) ? o->highest : must_reach(o);
    for (size_t i = o->fault.index; i < o->count; i++) {
        const struct found *f = &o->found[i];
        uint64_t by_name = f->name_lsn - 1;
        highest = by_name > highest ? by_name : highest;
        if (f->tail.highest_lsn > highest) {
            highest = f->tail.highest_lsn;
        }
    }
    return highest;
}

/* For segments behind the fault, which were not judged: as far as they can be read, for the count of what is lost. */
static bool look_behind(struct opening *o, struct status *st) {
    for (size_t i = o->fault.index; i < o->count; i++) {
        struct found *f = &o->found[i];
        int fd = -1;
        uint8_t page[WAL_HEADER_BYTES];
        size_t have = 0;
        off_t size = 0;
        struct status ignored;
        bool ok = io_open_at(o->options->dir_fd, f->segment.name, O_RDONLY | O_NOFOLLOW, 0, &fd, st) && io_size(fd, &size, st) &&
                  io_pread(fd, page, sizeof page, 0, &have, st);
        if (ok && have == sizeof page && wal_header_decode(page, &f->segment.header, &ignored)) {
            f->size = (uint64_t)size < f->segment.header.bytes ? (uint64_t)size : f->segment.header.bytes;
            ok = scan_found(o, i, fd, st);
            uint64_t last = f->scan.next_lsn - 1;
            f->tail.highest_lsn = last > f->tail.highest_lsn ? last : f->tail.highest_lsn;
        }
        io_close(&fd);
        if (!ok) {
            return false;
        }
    }
    return true;
}

/* Cuts the log at the fault. Afterwards `count` segments are good, the last of them up to scan.end, with nothing behind it. From
 * the back to the front, so that a repair that is killed finds the same fault again. */
static bool cut(struct opening *o, struct wal_report *report, struct status *st) {
    size_t keep = o->fault.index + 1;
    uint64_t next = o->fault.lsn;
    uint64_t expect = o->options->expect_lsn;
    struct found last = o->found[keep - 1];
    if (!look_behind(o, st)) {
        return false;
    }
    log_warn("repair: %s", o->fault.what);
    uint64_t first_lost = next > expect ? next : expect + 1;
    note_lost(report, first_lost, highest_known(o));
    if (o->fault.kind == FAULT_MISSING && report->lost_last == 0) {
        report->lost_first = first_lost;
        log_error("repair: what was logged from LSN %" PRIu64 " on is lost; how much that was cannot be told", first_lost);
    }
    /* What is kept ends below what a snapshot covers: all of it is superfluous, and its LSNs must not be given out again. */
    if (next <= expect) {
        keep = 0;
    }
    for (; o->count > keep; o->count--) {
        if (!set_aside(o, o->count - 1, st)) {
            return false;
        }
    }
    if (keep == 0) {
        return true;
    }
    if (!keep_copy(o, keep - 1, st)) {
        return false;
    }
    last.scan.end = last.scan.ended ? last.scan.marker : last.scan.end;
    last.scan.ended = false;
    last.tail = (struct wal_evidence){.tail_end = last.size};
    o->found[keep - 1] = last;
    return true;
}

/* Lets all segments before `first` go: what they hold is covered. From the front, so that a repair that is killed finds the same fault again. */
static bool skip_to(struct opening *o, size_t first, struct status *st) {
    for (size_t i = 0; i < first; i++) {
        if (!set_aside(o, 0, st)) {
            return false;
        }
        o->count--;
        memmove(&o->found[0], &o->found[1], o->count * sizeof *o->found);
    }
    o->fault.kind = FAULT_NONE;
    return true;
}

/* The records behind the damage in the segment of the fault, when they are wanted: as a segment that takes its place. */
static bool rescue(struct opening *o, bool *ret_made, struct status *st) {
    struct found *f = &o->found[o->fault.index];
    struct wal_segment made;
    if (!wal_rescue(o->options->dir_fd, &f->segment, f->size, &f->scan, o->options->expect_lsn + 1, &made, ret_made, st)) {
        return false;
    }
    if (!*ret_made) {
        return true;
    }
    log_warn("repair: what follows the damage in %s is kept from LSN %" PRIu64 " on, in %s", f->segment.name, made.header.first_lsn, made.name);
    size_t at = o->fault.index + 1;
    if (!add_found(o, made.name, made.header.first_lsn, st)) {
        return false;
    }
    struct found rescued = o->found[o->count - 1];
    memmove(&o->found[at + 1], &o->found[at], (o->count - 1 - at) * sizeof *o->found);
    o->found[at] = rescued;
    return skip_to(o, at, st);
}

/* A fault in what a snapshot or checkpoint covers, with records behind it that go on behind that: they are kept, and what is covered is let go. */
static bool skip_covered(struct opening *o, bool *ret_skipped, struct status *st) {
    uint64_t next = o->options->expect_lsn + 1;
    *ret_skipped = false;
    if (o->fault.lsn >= next) {
        return true;
    }
    if (!look_behind(o, st)) {
        return false;
    }
    if (highest_known(o) < next) {
        return true;
    }
    log_warn("repair: %s; a snapshot or checkpoint covers up to LSN %" PRIu64, o->fault.what, next - 1);
    for (size_t i = o->count - 1; i > o->fault.index; i--) {
        const struct wal_header *h = &o->found[i].segment.header;
        if (h->first_lsn == o->found[i].name_lsn && h->first_lsn <= next && uuid_equal(&h->instance, &o->found[o->fault.index].segment.header.instance)) {
            *ret_skipped = true;
            return skip_to(o, i, st);
        }
    }
    return o->fault.kind != FAULT_BYTES || rescue(o, ret_skipped, st);
}

/* --- standing ready --- */

/* The last batch was perhaps never synced, or in vain: the process that wrote it may have died before, or because that failed. Now that it was found and will be
 * shown, it must stay. It is written once more, because the kernel may have forgotten that it is not on the disk. All before it is durable, or it would
 * not have been written. */
static bool settle_batch(const struct found *f, int fd, struct status *st) {
    uint64_t end = f->scan.ended ? f->scan.marker : f->scan.end;
    struct wal_window window;
    const uint8_t *data = NULL;
    size_t have = 0;
    if (f->scan.last_batch >= end) {
        return true;
    }
    wal_window_init(&window, fd, end);
    bool ok = wal_window_get(&window, f->scan.last_batch, (size_t)(end - f->scan.last_batch), &data, &have, st) &&
              io_pwrite_full(fd, data, have, (off_t)f->scan.last_batch, st) && wal_sync(fd, f->segment.name, st);
    wal_window_fini(&window);
    return ok;
}

/* The end marker of the segment before one without records: the first record there would say that it is durable. It is written anew where it stands, or was
 * lost. */
static bool settle_marker(struct opening *o, size_t i, struct status *st) {
    struct found *f = &o->found[i];
    if (f->scan.ended) {
        f->scan.end = f->scan.marker;
        f->tail.tail_end = f->scan.marker;
    }
    return write_marker(o, i, st);
}

/* Cuts the torn tail off, gives the file its whole size again, and opens it for appending. */
static bool enter_last(struct opening *o, struct wal *w, struct status *st) {
    const struct found *f = &o->found[o->count - 1];
    const char *name = f->segment.name;
    if (!io_open_at(w->dir_fd, name, O_RDWR | O_NOFOLLOW, 0, &w->fd, st) ||
        !settle_batch(f, w->fd, st) || !wal_erase(w->fd, f->scan.end + f->scan.guard, f->tail.tail_end, name, st) ||
        !wal_erase(w->fd, f->size, f->segment.header.bytes, name, st)) {
        return false;
    }
    for (size_t i = 0; i < o->count; i++) {
        if (!wal_add_segment(w, &o->found[i].segment, st)) {
            return false;
        }
    }
    w->offset = f->scan.end;
    w->guarded = f->scan.guard > 0;
    w->next_lsn = f->scan.next_lsn;
    return true;
}

/* The first segment of a new log, behind what is covered and what a repair gave up. */
static bool enter_first(struct opening *o, struct wal *w, struct status *st) {
    uint64_t expect = o->options->expect_lsn;
    uint64_t first_lsn = (o->highest > expect ? o->highest : expect) + 1;
    struct wal_segment segment = {
        .header = {.first_lsn = first_lsn, .needs_lsn = expect, .created_at = clock_wall_us(), .bytes = w->segment_bytes}};
    uuid_make(&segment.header.instance);
    if (!wal_spare_take(w, &w->fd, &segment.header.zeroed, &segment.header.seed, st)) {
        return false;
    }
    bool ok = wal_name_segment(w, w->fd, WAL_SPARE_NAME, &segment, st);
    wal_spare_gone(w);
    w->offset = WAL_HEADER_BYTES;
    w->next_lsn = first_lsn;
    return ok && wal_add_segment(w, &segment, st);
}

static void fill_report(const struct opening *o, struct wal_report *report) {
    report->repaired = o->repaired || (o->count == 0 && must_reach(o) > 0); /* without any segment there is nothing to set aside */
    for (size_t i = 0; i < o->count; i++) {
        report->records += o->found[i].scan.records;
    }
    if (o->count == 0) {
        return;
    }
    const struct found *last = &o->found[o->count - 1];
    if (report->records > 0) {
        report->first_lsn = o->found[0].segment.header.first_lsn;
        report->last_lsn = last->scan.next_lsn - 1;
    }
    /* With an empty last segment, the record before it stands at the end of the one before. */
    const struct found *with_last = last->scan.records == 0 && o->count > 1 ? last - 1 : last;
    report->closed_in_order = with_last->scan.last_op == OP_LOG_CLOSE;
    uint64_t end = last->scan.end + last->scan.guard;
    if (report->lost_records_bound == 0 && last->tail.tail_end > end) {
        report->torn_bytes = last->tail.tail_end - end;
        (void)snprintf(report->torn_at, sizeof report->torn_at, "%s:%" PRIu64, last->segment.name, end);
    }
}

static bool judge_all(struct opening *o, struct status *st) {
    for (size_t i = 0; i < o->count;) {
        if (!judge_segment(o, i, st)) {
            return false;
        }
        if (o->fault.kind == FAULT_SEGMENT && o->options->repair) {
            if (!remove_stray(o, st)) {
                return false;
            }
            continue; /* with what is now at i */
        }
        if (o->fault.kind != FAULT_NONE) {
            return true;
        }
        i++;
    }
    if (o->count > 0) {
        judge_tail(o, o->count - 1);
    }
    return true;
}

/* With repair, anew behind each fault in what is covered. */
static bool judge_all_wanted(struct opening *o, struct status *st) {
    bool again = true;
    while (again) {
        again = false;
        if (!judge_all(o, st) || (o->fault.kind != FAULT_NONE && o->options->repair && !skip_covered(o, &again, st))) {
            return false;
        }
    }
    return true;
}

static bool judge(struct opening *o, struct wal_report *report, struct status *st) {
    if (!list_segments(o, st)) {
        return false;
    }
    if (o->count == 0 && must_reach(o) > 0 && !o->options->repair) {
        return status_set(st, STATUS_CORRUPT,
                          "there is no log in wal/, but a snapshot or checkpoint covers LSN %" PRIu64
                          " and later changes may have been in "
                          "it. Put it back, or start once with `quired --repair` to go on without it",
                          must_reach(o));
    }
    if (!judge_all_wanted(o, st)) {
        return false;
    }
    if (o->front_lost_until > 0) {
        note_lost(report, o->options->expect_lsn + 1, o->front_lost_until);
    }
    if (o->fault.kind != FAULT_NONE && !(o->options->repair ? cut(o, report, st) : refuse(o->fault.what, st))) {
        return false;
    }
    return !o->changed || wal_sync_dir(o->options->dir_fd, st);
}

static bool is_place(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct place_search *search = (struct place_search *)ctx;
    uint8_t page[WAL_HEADER_BYTES];
    struct wal_header h;
    struct status ignored;
    size_t have = 0;
    uint64_t lsn = 0;
    int fd = -1;
    if (!wal_name_parse(name, &lsn)) {
        return true;
    }
    bool ok = io_open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW, 0, &fd, st) && io_pread(fd, page, sizeof page, 0, &have, st);
    io_close(&fd);
    search->any = true;
    if (ok && have == sizeof page && wal_header_decode(page, &h, &ignored)) {
        search->found = search->found || h.segment_id == search->place || h.previous_id == search->place;
    }
    return ok;
}

bool wal_knows_place(int dir_fd, uint64_t place, bool *ret, struct status *st) {
    struct place_search search = {.place = place};
    bool ok = io_each_entry(dir_fd, "the log's directory", is_place, &search, st);
    *ret = search.found || !search.any;
    return ok;
}

/* Hands out the records of one segment, also behind damage. */
static bool read_segment(const struct opening *o, size_t i, oplog_record_fn fn, void *ctx, struct status *st) {
    const struct found *f = &o->found[i];
    uint8_t page[WAL_HEADER_BYTES];
    struct wal_header header;
    struct wal_window window;
    struct wal_scan scan;
    struct wal_run run = {.first_lsn = 1}; /* there may be one */
    struct status ignored;
    size_t have = 0;
    off_t size = 0;
    int fd = -1;
    bool ok = io_open_at(o->options->dir_fd, f->segment.name, O_RDONLY | O_NOFOLLOW, 0, &fd, st) && io_size(fd, &size, st) &&
              io_pread(fd, page, sizeof page, 0, &have, st);
    if (ok && have == sizeof page && wal_header_decode(page, &header, &ignored)) {
        wal_window_init(&window, fd, (uint64_t)size < header.bytes ? (uint64_t)size : header.bytes);
        ok = wal_scan_segment(&window, &header, 0, fn, ctx, &scan, st);
        while (ok && !scan.ended && run.first_lsn != 0) {
            ok = wal_find_run(&window, &header, &scan, 0, &run, st) && (run.first_lsn == 0 || wal_scan_run(&window, &header, &run, fn, ctx, &scan, st));
        }
        wal_window_fini(&window);
    }
    io_close(&fd);
    return ok;
}

bool wal_check(const struct wal_options *options, oplog_record_fn fn, void *ctx, struct wal_report *ret_report,
               struct status *ret_fault, struct status *st) {
    struct opening o = {.options = options};
    struct wal_report report = {0};
    struct status fault = {0};
    bool ok = judge(&o, &report, &fault);
    if (ok) {
        fill_report(&o, &report);
    } else if (fault.code == STATUS_CORRUPT) {
        ok = true;
    } else if (st != NULL) {
        *st = fault;
    }
    for (size_t i = 0; ok && fn != NULL && i < o.count; i++) {
        ok = read_segment(&o, i, fn, ctx, st);
    }
    if (ok) {
        *ret_report = report;
        *ret_fault = fault;
    }
    free(o.found);
    return ok;
}

static bool stand_ready(struct opening *o, struct wal *w, struct status *st) {
    if (o->count == 0) {
        return enter_first(o, w, st);
    }
    size_t last = o->count - 1;
    if (last > 0 && o->found[last].scan.records == 0 && !settle_marker(o, last - 1, st)) {
        return false;
    }
    return enter_last(o, w, st) && wal_sync_dir(w->dir_fd, st); /* names, too, may have been seen by nobody but us */
}

bool wal_open(const struct wal_options *options, struct oplog **ret, struct wal_report *ret_report, struct status *st) {
    struct opening o = {.options = options};
    struct wal_report report = {0};
    struct wal *w = NULL;
    bool ok = false;
    if (!judge(&o, &report, st)) {
        goto out;
    }
    w = wal_new(options);
    if (w == NULL) {
        (void)status_no_memory(st);
        goto out;
    }
    if (!io_open_at(options->dir_fd, ".", O_RDONLY | O_DIRECTORY, 0, &w->dir_fd, st) || !wal_spare_find(w, st) ||
        !stand_ready(&o, w, st)) {
        goto out;
    }
    w->durable_end = w->offset;
    w->durable_lsn = w->next_lsn - 1;
    fill_report(&o, &report);
    *ret = &w->log;
    if (ret_report != NULL) {
        *ret_report = report;
    }
    w = NULL;
    ok = true;
out:
    wal_free(w);
    free(o.found);
    return ok;
}
