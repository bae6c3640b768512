/*
 * restore_log.c - in the child of a restore: the records behind the archive, out of segments that may come from several directories.
 *
 * A wal directory and an archive of it overlap, an archive may hold a part of a segment beside the whole one, and segments may be missing. So there is no
 * list that is judged as a whole (wal_open.c does that for a server's own log), but a question: where is the next record? Among the segments that begin at
 * or before it, the one that begins last and is longest is asked first; the others when that has it not. What must hold:
 *
 *   - all segments are of one log (instance), and of two that begin with the same LSN both are the same segment (id): else two logs were mixed, and it is
 *     not for a program to choose, but where the archive says which one it was cut from: the segments of others are passed over then;
 *   - a segment that continues another, or the stretch of the log that the archive says it was cut from, is that one or names it as its predecessor, and none
 *     begins in the middle of another: else it is of another server, or from a copy that went another way;
 *   - before the target no record is missing that a later segment proves to have existed, but for those that a repair gave up (wal_header.needs_lsn).
 */
#include "durable/restore_internal.h"

#include "base/clock.h"
#include "base/io.h"
#include "durable/wal_scan.h"
#include "store/op.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A batch that is larger than wal_segment_bytes has a segment of its own: two operations of the widest limit and some. */
#define SEGMENT_BYTES_MAX ((uint64_t)4 << 30)

struct segment {
    const struct restore_file *file;
    struct wal_header header;
    uint64_t size;
    bool spent; /* it has nothing more to give */
};

struct log_reading {
    struct restore_reader *reader;
    struct segment *segments; /* by first LSN; of one, the longest first */
    size_t count;
    bool reached;        /* the target: what comes is too much */
    const struct segment *at; /* being read */
    uint64_t from_id;    /* of the segment that the last record came from; 0: not known */
    uint64_t from_next;  /* the LSN that follows all of that segment; 0: it has no end marker */
    const char *from_name;
    uint64_t highest;    /* LSN that was durable, as records behind damage say */
};

/* --- what there is --- */

static bool read_header(const struct restore_file *file, struct segment *ret, bool *ret_good, struct restore_reader *r, struct status *st) {
    uint8_t page[WAL_HEADER_BYTES];
    struct status why = {0};
    size_t have = 0;
    *ret_good = false;
    if (!io_pread(file->fd, page, sizeof page, 0, &have, st)) {
        return false;
    }
    if (have < sizeof page) {
        restore_note(r, "%s is passed over: its header is cut short", file->name);
    } else if (file->size > SEGMENT_BYTES_MAX) {
        restore_note(r, "%s is passed over: no segment is that large", file->name);
    } else if (!wal_header_decode(page, &ret->header, &why)) {
        restore_note(r, "%s is passed over: %s", file->name, why.detail);
    } else {
        ret->file = file;
        ret->size = file->size < ret->header.bytes ? file->size : ret->header.bytes;
        *ret_good = true;
    }
    return true;
}

static int by_lsn_longest_first(const void *a, const void *b) {
    const struct segment *x = (const struct segment *)a;
    const struct segment *y = (const struct segment *)b;
    if (x->header.first_lsn != y->header.first_lsn) {
        return x->header.first_lsn < y->header.first_lsn ? -1 : 1;
    }
    return (x->size < y->size) - (x->size > y->size);
}

static bool all_of_one_log(const struct log_reading *l, struct status *st) {
    for (size_t i = 1; i < l->count; i++) {
        const struct segment *s = &l->segments[i];
        const struct segment *before = s - 1;
        if (!uuid_equal(&s->header.instance, &before->header.instance)) {
            return status_set(st, STATUS_CORRUPT, "%s belongs to another log than %s: give the directories of one log only", s->file->name,
                              before->file->name);
        }
        if (s->header.first_lsn == before->header.first_lsn && s->header.segment_id != before->header.segment_id) {
            return status_set(st, STATUS_CORRUPT, "%s and %s begin with the same LSN and are not the same: one was written after a copy was made",
                              s->file->name, before->file->name);
        }
    }
    return true;
}

/* Of several logs the one that the archive was cut from. A server that was restored writes another log than before, maybe to the same archive_dir. */
static void choose_log(struct log_reading *l) {
    const struct segment *known = NULL;
    size_t kept = 0;
    for (size_t i = 0; l->from_id != 0 && known == NULL && i < l->count; i++) {
        const struct wal_header *h = &l->segments[i].header;
        known = h->segment_id == l->from_id || h->previous_id == l->from_id ? &l->segments[i] : NULL;
    }
    if (known == NULL) {
        return;
    }
    struct uuid instance = known->header.instance;
    for (size_t i = 0; i < l->count; i++) {
        if (uuid_equal(&l->segments[i].header.instance, &instance)) {
            l->segments[kept++] = l->segments[i];
        }
    }
    if (kept < l->count) {
        restore_note(l->reader, "segments of another log than %s, which are passed over: %zu", l->from_name, l->count - kept);
    }
    l->count = kept;
}

static bool read_headers(struct log_reading *l, struct status *st) {
    const struct restore_source *source = l->reader->source;
    l->segments = (struct segment *)calloc(source->segment_count + 1, sizeof *l->segments);
    if (l->segments == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < source->segment_count; i++) {
        bool good = false;
        if (!read_header(&source->segments[i], &l->segments[l->count], &good, l->reader, st)) {
            return false;
        }
        l->count += good ? 1 : 0;
    }
    if (l->count > 1) {
        qsort(l->segments, l->count, sizeof *l->segments, by_lsn_longest_first);
    }
    choose_log(l);
    return all_of_one_log(l, st);
}

/* --- reading --- */

/* Whether the segment may have the next record. */
static bool may_follow(const struct log_reading *l, const struct segment *s, struct status *st) {
    const struct wal_header *h = &s->header;
    if (l->from_id == 0 || h->segment_id == l->from_id) {
        return true;
    }
    bool first_of_all = h->previous_id == 0 && h->needs_lsn <= l->reader->lsn; /* of a log that was begun anew behind a snapshot */
    bool continues = h->first_lsn != l->from_next || h->previous_id == l->from_id || first_of_all;
    return (h->first_lsn > l->reader->lsn && continues) ||
           status_set(st, STATUS_CORRUPT, "%s does not continue %s: it is of another log, or of a copy that went another way", s->file->name, l->from_name);
}

static void comes_from(struct log_reading *l, const struct segment *s, uint64_t next) {
    l->from_id = s->header.segment_id;
    l->from_next = next;
    l->from_name = s->file->name;
}

static bool take_record(const struct oplog_record *record, void *ctx, struct status *st) {
    struct log_reading *l = (struct log_reading *)ctx;
    struct restore_reader *r = l->reader;
    if ((r->target.lsn != 0 && record->lsn > r->target.lsn) || record->time_us > r->target.time_us) {
        l->reached = true;
        return status_set(st, STATUS_BUSY, "the target is reached");
    }
    if (!may_follow(l, l->at, st)) {
        return false;
    }
    if (record->lsn != r->lsn + 1) {
        return status_set(st, STATUS_INTERNAL, "LSN %" PRIu64 " came after %" PRIu64, record->lsn, r->lsn);
    }
    comes_from(l, l->at, 0);
    r->lsn = record->lsn;
    r->time_us = record->time_us;
    return restore_send(r, FRAME_RECORD, record->lsn, record->time_us, 0, record->op, st);
}

/* The record after the last good one may be damaged, and not just the torn end: then some valid record behind it says that it was durable. Another copy of
 * the segment may still have it. */
static bool look_behind(struct log_reading *l, struct wal_window *window, const struct segment *s, const struct wal_scan *scan, struct status *st) {
    struct wal_evidence evidence = {0};
    if (scan->ended) {
        return true;
    }
    if (!wal_find_evidence(window, &s->header, scan, &evidence, st)) {
        return false;
    }
    if (evidence.durable_lsn >= scan->next_lsn) {
        restore_note(l->reader, "%s is damaged at byte %" PRIu64 " (LSN %" PRIu64 "), behind which records up to LSN %" PRIu64 " were durable",
                     s->file->name, scan->end, scan->next_lsn, evidence.durable_lsn);
        l->highest = evidence.durable_lsn > l->highest ? evidence.durable_lsn : l->highest;
    }
    return true;
}

/* Takes from the segment what it has behind the last record. */
static bool read_segment(struct log_reading *l, struct segment *s, struct status *st) {
    struct wal_window window;
    struct wal_scan scan = {0};
    struct status failed = {0};
    l->at = s;
    wal_window_init(&window, s->file->fd, s->size);
    bool ok = wal_scan_segment(&window, &s->header, l->reader->lsn + 1, take_record, l, &scan, &failed) && look_behind(l, &window, s, &scan, &failed);
    wal_window_fini(&window);
    s->spent = true;
    if (l->reached) {
        return true;
    }
    if (!ok) {
        if (st != NULL) {
            *st = failed;
        }
        return false;
    }
    bool has_last = scan.next_lsn == l->reader->lsn + 1; /* the last record is its own, now or before */
    if (has_last && (l->from_id == 0 || l->from_id == s->header.segment_id)) {
        comes_from(l, s, scan.ended ? scan.next_lsn : 0);
    }
    return true;
}

/* The segment to ask for the next record: one that begins last of those that begin at or before it. Those that begin earlier end before that one begins. */
static struct segment *next_segment(const struct log_reading *l) {
    size_t end = 0;
    while (end < l->count && l->segments[end].header.first_lsn <= l->reader->lsn + 1) {
        end++;
    }
    for (size_t i = end; i > 0 && l->segments[i - 1].header.first_lsn == l->segments[end - 1].header.first_lsn; i--) {
        if (!l->segments[i - 1].spent) {
            return &l->segments[i - 1];
        }
    }
    return NULL;
}

/* Goes on behind records that a repair gave up, where it did. */
static bool step_over_lost(struct log_reading *l) {
    struct restore_reader *r = l->reader;
    for (size_t i = 0; i < l->count; i++) {
        const struct wal_header *h = &l->segments[i].header;
        bool wanted = r->target.lsn == 0 || h->first_lsn <= r->target.lsn;
        if (h->first_lsn > r->lsn + 1 && h->needs_lsn <= r->lsn && wanted) {
            restore_note(r, "LSN %" PRIu64 " to %" PRIu64 " were given up by a repair", r->lsn + 1, h->first_lsn - 1);
            r->lsn = h->first_lsn - 1;
            return true;
        }
    }
    return false;
}

/* What can be done where not all can be read. */
static void advise(uint64_t reached, const char *otherwise, char *out, size_t cap) {
    out[0] = '\0';
    if (reached > 0) { /* else nothing is left to be restored */
        (void)snprintf(out, cap, "%s --to-lsn %" PRIu64, otherwise, reached);
    }
}

/* What is known to have existed behind the last record that was found. */
static bool nothing_missing(const struct log_reading *l, struct status *st) {
    enum { ADVICE_MAX = 96 };
    char advice[ADVICE_MAX];
    uint64_t reached = l->reader->lsn;
    for (size_t i = 0; i < l->count; i++) {
        if (l->segments[i].header.first_lsn > reached + 1) {
            advise(reached, ", without them as far as", advice, sizeof advice);
            return status_set(st, STATUS_CORRUPT,
                              "LSN %" PRIu64 " to %" PRIu64 " are in no segment: %s begins behind them. With --log and the directory that has them, all can be "
                              "restored%s",
                              reached + 1, l->segments[i].header.first_lsn - 1, l->segments[i].file->name, advice);
        }
    }
    if (l->highest > reached) {
        advise(reached, ". It can be restored as far as", advice, sizeof advice);
        return status_set(st, STATUS_CORRUPT, "LSN %" PRIu64 " cannot be read, and later records say that up to LSN %" PRIu64 " all was durable%s", reached + 1,
                          l->highest, advice);
    }
    return true;
}

static bool read_log(struct log_reading *l, struct status *st) {
    const struct restore_target *target = &l->reader->target;
    struct segment *s = NULL;
    if (!read_headers(l, st)) {
        return false;
    }
    while (!l->reached && (target->lsn == 0 || l->reader->lsn < target->lsn) && ((s = next_segment(l)) != NULL || step_over_lost(l))) {
        if (s != NULL && !read_segment(l, s, st)) {
            return false;
        }
    }
    if (target->lsn != 0 ? l->reader->lsn >= target->lsn : l->reached) {
        return true;
    }
    if (!nothing_missing(l, st)) {
        return false;
    }
    return target->lsn == 0 || status_set(st, STATUS_INVALID, "LSN %" PRIu64 " is not there: what there is ends with LSN %" PRIu64, target->lsn,
                                          l->reader->lsn);
}

bool restore_read_log(struct restore_reader *r, struct status *st) {
    struct log_reading l = {.reader = r, .from_id = r->place, .from_next = r->place != 0 ? r->lsn + 1 : 0, .from_name = r->base};
    bool ok = read_log(&l, st);
    free(l.segments);
    return ok;
}
