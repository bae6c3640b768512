/* test_durable_wal_damage.c - the log found in a bad state: torn tails are cut exactly, damage is refused with its place, and
 * repair saves what it can. */
#include "durable_fixture.h"

#include "durable/wal_format.h"
#include "store/op.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { NAMES_MAX = 64, RECORDS_MAX = 512 };

/* A log of several segments, closed, and a copy of its files to go back to. */
struct specimen {
    struct scratch live;
    struct scratch pristine;
    char names[NAMES_MAX][64];
    size_t count;
    uint64_t last_lsn;
    uint64_t last_batch; /* first LSN of the last batch */
    /* of the last segment */
    uint64_t first_in_last;
    uint64_t begins[RECORDS_MAX]; /* offset of record first_in_last + i; begins[n] is the end */
    size_t records_in_last;
};

static void locate_records(struct specimen *x) {
    struct buf content = {0};
    struct wal_header h;
    struct status st;
    file_read(x->live.fd, x->names[x->count - 1], &content);
    assert_true(wal_header_decode(content.data, &h, &st));
    x->first_in_last = h.first_lsn;
    uint64_t at = WAL_HEADER_BYTES;
    struct wal_record r;
    x->records_in_last = 0;
    while (at < content.len && wal_record_head(&h, content.data + at, content.len - at, content.len - at, &r)) {
        x->begins[x->records_in_last++] = at;
        at += r.head + r.length;
    }
    x->begins[x->records_in_last] = at;
    buf_fini(&content);
}

/* `records` in all, in batches of 1 to 4, the last batch having 3. */
static void specimen_make(struct specimen *x, uint64_t records) {
    scratch_make(&x->live);
    scratch_make(&x->pristine);
    struct wal_options o = log_options(&x->live);
    struct oplog *log = log_open_ok(&o, NULL);
    struct status st;
    uint64_t lsn = 1;
    while (lsn + 3 <= records) {
        uint64_t count = lsn % 4 + 1;
        count = count > records - 3 - lsn + 1 ? records - 3 - lsn + 1 : count;
        assert_true(log_put(log, lsn, (size_t)count, 0, &st));
        lsn += count;
    }
    x->last_batch = lsn;
    x->last_lsn = records;
    assert_true(log_put(log, lsn, (size_t)(records - lsn + 1), 0, &st));
    oplog_close(log);
    (void)unlinkat(x->live.fd, "spare.log", 0);
    x->count = names_with(x->live.fd, "wal_", x->names, NAMES_MAX);
    for (size_t i = 0; i < x->count; i++) {
        file_copy(x->live.fd, x->names[i], x->pristine.fd, x->names[i]);
    }
    locate_records(x);
    assert_true(x->first_in_last <= x->last_batch);
}

static void specimen_remove(struct specimen *x) {
    scratch_remove(&x->live);
    scratch_remove(&x->pristine);
}

static void restore(struct specimen *x) {
    char names[NAMES_MAX][64];
    size_t count = names_with(x->live.fd, "", names, NAMES_MAX);
    for (size_t i = 0; i < count; i++) {
        if (names[i][0] != '.') {
            assert_int_equal(unlinkat(x->live.fd, names[i], 0), 0);
        }
    }
    for (size_t i = 0; i < x->count; i++) {
        file_copy(x->pristine.fd, x->names[i], x->live.fd, x->names[i]);
    }
}

static void must_refuse(struct specimen *x, uint64_t expect, const char *mentions) {
    struct wal_options o = log_options(&x->live);
    struct oplog *log = NULL;
    struct status st = {0};
    o.expect_lsn = expect;
    if (wal_open(&o, &log, NULL, &st)) {
        fail_msg("a log was taken that should have been refused for: %s", mentions);
    }
    assert_int_equal(st.code, STATUS_CORRUPT);
    if (strstr(st.detail, mentions) == NULL || strstr(st.detail, "--repair") == NULL) {
        fail_msg("\"%s\" does not speak of \"%s\"", st.detail, mentions);
    }
}

/* Opens with repair; afterwards everything up to `last` must be there, and the log must go on and open again without repair. */
static void must_repair(struct specimen *x, uint64_t expect, uint64_t last, uint64_t lost) {
    struct wal_options o = log_options(&x->live);
    struct wal_report report = {0};
    struct status st = {0};
    o.expect_lsn = expect;
    o.repair = true;
    struct oplog *log = log_open_ok(&o, &report);
    struct oplog_position p;
    oplog_position_get(log, &p);
    assert_int_equal(p.durable_lsn, last);
    assert_int_equal(report.lost_records_bound, lost);
    assert_int_equal(report.lost_last, lost == 0 ? 0 : report.lost_first + lost - 1);
    if (p.oldest_lsn <= last) {
        assert_int_equal(log_check(log, p.oldest_lsn, NULL), last);
    }
    assert_true(log_put(log, last + 1, 2, 0, &st));
    oplog_close(log);
    /* Repaired is repaired: the next start needs no --repair. */
    o.repair = false;
    log = log_open_ok(&o, &report);
    assert_int_equal(report.last_lsn, last + 2);
    oplog_position_get(log, &p);
    assert_int_equal(log_check(log, p.oldest_lsn, NULL), last + 2);
    oplog_close(log);
}

static int set_up(void **state) {
    struct specimen *x = (struct specimen *)calloc(1, sizeof *x);
    specimen_make(x, 115);
    assert_true(x->count >= 3);
    *state = x;
    return 0;
}

static int set_up_small(void **state) {
    struct specimen *x = (struct specimen *)calloc(1, sizeof *x);
    specimen_make(x, 50);
    assert_int_equal(x->count, 2);
    *state = x;
    return 0;
}

static int tear_down(void **state) {
    struct specimen *x = (struct specimen *)*state;
    specimen_remove(x);
    free(x);
    return 0;
}

static uint64_t end_of(const struct specimen *x, uint64_t lsn) {
    return x->begins[lsn - x->first_in_last + 1];
}

/* --- torn tails --- */

/* The file ends, or is zeros or noise, from each byte of the last batch on. */
static void torn_at(struct specimen *x, uint64_t at, int kind) {
    const char *name = x->names[x->count - 1];
    struct buf content = {0};
    file_read(x->pristine.fd, name, &content);
    uint64_t batch_end = end_of(x, x->last_lsn);
    if (kind == 0) {
        content.len = (size_t)at;
    } else {
        for (uint64_t i = at; i < batch_end; i++) {
            uint8_t noise = (uint8_t)(content.data[i] ^ (0x55 + i % 7));
            content.data[i] = kind == 1 ? 0 : (noise != 0 ? noise : 1);
        }
    }
    file_write(x->live.fd, name, buf_slice(&content));
    buf_fini(&content);

    uint64_t last = x->last_batch - 1;
    while (last < x->last_lsn && end_of(x, last + 1) <= at) {
        last++;
    }
    uint64_t good = last < x->first_in_last ? WAL_HEADER_BYTES : end_of(x, last);
    struct wal_options o = log_options(&x->live);
    struct wal_report report = {0};
    struct oplog *log = log_open_ok(&o, &report);
    struct status st = {0};
    assert_int_equal(report.last_lsn, last);
    if (kind != 1) {
        uint64_t expected = kind == 0 ? at - good : (at < batch_end ? batch_end - good : 0);
        assert_int_equal(report.torn_bytes, expected);
        if (expected > 0) {
            char where[96];
            (void)snprintf(where, sizeof where, "%s:%llu", name, (unsigned long long)good);
            assert_string_equal(report.torn_at, where);
        }
    }
    assert_int_equal(log_check(log, 1, NULL), last);
    assert_true(log_put(log, last + 1, 1, 0, &st));
    oplog_close(log);
    log = log_open_ok(&o, &report);
    assert_int_equal(report.last_lsn, last + 1);
    assert_int_equal(report.torn_bytes, 0);
    assert_int_equal(log_check(log, 1, NULL), last + 1);
    oplog_close(log);
}

static void cut_at_every_byte_of_the_last_batch(void **state) {
    struct specimen *x = (struct specimen *)*state;
    uint64_t from = x->begins[x->last_batch - x->first_in_last];
    uint64_t to = end_of(x, x->last_lsn);
    for (int kind = 0; kind < 3; kind++) {
        for (uint64_t at = from; at <= to; at++) {
            torn_at(x, at, kind);
            if (at % 16 == 0) {
                restore(x);
            }
        }
        restore(x);
    }
}

/* A batch of three whose first record was lost by the disk while the others arrived: they must not come back behind a shorter new
 * record. */
static void torn_records_do_not_resurface(void **state) {
    struct specimen *x = (struct specimen *)*state;
    const char *name = x->names[x->count - 1];
    struct wal_options o = log_options(&x->live);
    struct wal_report report = {0};
    struct status st = {0};
    uint64_t begin = x->begins[x->last_batch - x->first_in_last];
    file_flip(x->live.fd, name, (size_t)begin + 30, 1);
    struct oplog *log = log_open_ok(&o, &report);
    assert_int_equal(report.last_lsn, x->last_batch - 1);
    assert_int_equal(report.torn_bytes, end_of(x, x->last_lsn) - begin);
    /* The same record again: same LSN, same length, same place; directly behind it stood the old next one. */
    assert_true(log_put(log, x->last_batch, 1, 0, &st));
    oplog_close(log);
    log = log_open_ok(&o, &report);
    assert_int_equal(report.last_lsn, x->last_batch);
    oplog_close(log);
}

static void expected_lsn_makes_a_torn_tail_damage(void **state) {
    struct specimen *x = (struct specimen *)*state;
    const char *name = x->names[x->count - 1];
    char where[96];
    uint64_t begin = x->begins[x->last_batch - x->first_in_last];
    (void)snprintf(where, sizeof where, "%s ends at byte %llu", name, (unsigned long long)begin);
    file_flip(x->live.fd, name, (size_t)begin + 20, 4);
    must_refuse(x, x->last_batch, where);
    must_refuse(x, x->last_lsn, where);
    /* Below what is expected, all is superfluous; the log goes on above it. */
    must_repair(x, x->last_lsn, x->last_lsn, 0);
}

/* --- flipped bytes --- */

static void check_flip(struct specimen *x, size_t segment, size_t at) {
    const char *name = x->names[segment];
    bool in_last = segment + 1 == x->count;
    struct wal_options o = log_options(&x->live);
    struct oplog *log = NULL;
    struct wal_report report = {0};
    struct status st = {0};
    uint64_t durable_end = x->begins[x->last_batch - x->first_in_last];
    uint64_t end = end_of(x, x->last_lsn);
    file_flip(x->live.fd, name, at, (uint8_t)(1 << at % 8));
    if (wal_open(&o, &log, &report, &st)) {
        /* Taken: only when the flip is behind all records, or in the last batch, which was then cut from its record on. */
        if (!in_last || at < durable_end) {
            struct buf content = {0};
            static const uint8_t zeros[8192];
            file_read(x->pristine.fd, name, &content);
            /* behind the end marker of a full segment there may be unused room */
            if (in_last || memcmp(content.data + at, zeros, content.len - at) != 0) {
                fail_msg("silently accepted: byte %zu of %s", at, name);
            }
            buf_fini(&content);
        }
        if (in_last && at < end) {
            assert_true(report.last_lsn < x->last_lsn && report.last_lsn >= x->last_batch - 1);
            uint64_t lost = report.last_lsn + 1;
            assert_true(at >= x->begins[lost - x->first_in_last] && at < end_of(x, lost));
            assert_true(report.torn_bytes > 0);
        } else {
            assert_int_equal(report.last_lsn, x->last_lsn);
            assert_int_equal(report.torn_bytes > 0, in_last);
        }
        assert_int_equal(log_check(log, 1, NULL), report.last_lsn);
        oplog_close(log);
        restore(x);
        return;
    }
    assert_int_equal(st.code, STATUS_CORRUPT);
    assert_non_null(strstr(st.detail, name));
    if (in_last && at >= WAL_HEADER_BYTES) {
        size_t i = 0;
        char where[64];
        while (x->begins[i + 1] <= at) {
            i++;
        }
        (void)snprintf(where, sizeof where, "at byte %llu (LSN %llu)", (unsigned long long)x->begins[i],
                       (unsigned long long)(x->first_in_last + i));
        if (strstr(st.detail, where) == NULL) {
            fail_msg("flip of byte %zu: \"%s\" does not name \"%s\"", at, st.detail, where);
        }
        assert_true(at < durable_end);
    }
    file_flip(x->live.fd, name, at, (uint8_t)(1 << at % 8));
}

static void every_flipped_byte_is_noticed(void **state) {
    struct specimen *x = (struct specimen *)*state;
    for (size_t segment = 0; segment < x->count; segment++) {
        struct buf content = {0};
        file_read(x->pristine.fd, x->names[segment], &content);
        for (size_t at = 0; at < content.len; at++) {
            check_flip(x, segment, at);
        }
        buf_fini(&content);
    }
}

/* The same with a log whose last segment was used before: what is behind its records are old records. */
static void flips_in_a_recycled_segment(void **state) {
    (void)state;
    struct scratch s;
    scratch_make(&s);
    struct wal_options o = log_options(&s);
    struct status st;
    struct wal_header h = {0};
    struct buf content = {0};
    char names[NAMES_MAX][64];
    struct oplog *log = log_open_ok(&o, NULL);
    uint64_t lsn = 1;
    for (int round = 0; round < 30; round++) {
        for (int i = 0; i < 25; i++) {
            assert_true(log_put(log, lsn++, 1, 0, &st));
        }
        assert_true(oplog_publish_snapshot(log, lsn - 1, &st));
        size_t count = names_with(s.fd, "wal_", names, NAMES_MAX);
        file_read(s.fd, names[count - 1], &content);
        assert_true(wal_header_decode(content.data, &h, &st));
        if (!h.zeroed && lsn - h.first_lsn > 10 && lsn - h.first_lsn < 25) {
            break;
        }
    }
    oplog_close(log);
    assert_false(h.zeroed);
    uint64_t at = WAL_HEADER_BYTES;
    struct wal_record r;
    uint64_t oldest = 0;
    assert_true(wal_name_parse(names[0], &oldest));
    o.expect_lsn = oldest - 1;
    for (uint64_t n = h.first_lsn; n < lsn; n++) {
        assert_true(wal_record_head(&h, content.data + at, content.len - at, content.len - at, &r));
        for (size_t i = 0; i < r.head + r.length; i += 3) {
            file_flip(s.fd, names[0], at + i, 0x10);
            bool opened = wal_open(&o, &log, NULL, &st);
            assert_int_equal(opened, n == lsn - 1);
            if (opened) {
                oplog_close(log);
                file_write(s.fd, names[0], buf_slice(&content));
            } else {
                file_flip(s.fd, names[0], at + i, 0x10);
            }
        }
        at += r.head + r.length;
    }
    buf_fini(&content);
    scratch_remove(&s);
}

static void damage_in_the_middle_is_repaired(void **state) {
    struct specimen *x = (struct specimen *)*state;
    /* record 3 of the last segment */
    uint64_t lsn = x->first_in_last + 3;
    char names[NAMES_MAX][64];
    file_flip(x->live.fd, x->names[x->count - 1], (size_t)x->begins[3] + 20, 1);
    must_refuse(x, 0, x->names[x->count - 1]);
    must_repair(x, 0, lsn - 1, x->last_lsn - lsn + 1);
    /* what was cut off is still there to be looked at */
    assert_int_equal(names_with(x->live.fd, "wal_", names, NAMES_MAX), x->count + 1);
    restore(x);

    /* in the first segment: the later ones are set aside */
    file_flip(x->live.fd, x->names[0], WAL_HEADER_BYTES + 200, 1);
    must_refuse(x, 0, x->names[0]);
    struct wal_options o = log_options(&x->live);
    struct wal_report report = {0};
    o.repair = true;
    struct oplog *log = log_open_ok(&o, &report);
    assert_true(report.last_lsn > 0 && report.last_lsn < 10);
    assert_int_equal(report.lost_records_bound, x->last_lsn - report.last_lsn);
    oplog_close(log);
}

/* All of a damaged log lies below what a snapshot or checkpoint covers, so it begins anew, and says behind which: else nothing would be known to belong to it. */
static void begun_anew_it_says_behind_what(void **state) {
    struct specimen *x = (struct specimen *)*state;
    struct wal_options o = log_options(&x->live);
    struct wal_report report = {0};
    struct oplog_position p;
    file_flip(x->live.fd, x->names[x->count - 1], (size_t)x->begins[3] + 20, 1);
    o.expect_lsn = x->last_lsn;
    for (int start = 0; start < 2; start++) {
        o.repair = start == 0;
        struct oplog *log = log_open_ok(&o, &report);
        assert_int_equal(report.repaired, start == 0);
        assert_int_equal(report.lost_records_bound, 0);
        oplog_position_get(log, &p);
        assert_int_equal(p.begun_behind, x->last_lsn);
        oplog_close(log);
    }
}

static void lost_end_marker(void **state) {
    struct specimen *x = (struct specimen *)*state;
    struct buf content = {0};
    struct wal_header h;
    struct wal_record r;
    struct status st;
    file_read(x->live.fd, x->names[0], &content);
    assert_true(wal_header_decode(content.data, &h, &st));
    size_t at = WAL_HEADER_BYTES;
    while (wal_record_head(&h, content.data + at, content.len - at, content.len - at, &r) && r.type != WAL_RECORD_END) {
        at += r.head + r.length;
    }
    assert_int_equal(r.type, WAL_RECORD_END);
    buf_fini(&content);
    file_flip(x->live.fd, x->names[0], at + 6, 1);
    must_refuse(x, 0, x->names[0]);
    must_repair(x, 0, x->last_lsn, 0);
}

/* --- segments that are missing, doubled, swapped, foreign --- */

/* How much a last segment held that is gone nobody can tell, but from where on. */
static void says_that_more_is_lost(struct specimen *x) {
    struct wal_options o = log_options(&x->live);
    struct wal_report report = {0};
    o.repair = true;
    oplog_close(log_open_ok(&o, &report));
    assert_int_equal(report.lost_records_bound, 0);
    assert_int_equal(report.lost_first, x->first_in_last);
    assert_int_equal(report.lost_last, 0);
}

static void missing_segments(void **state) {
    struct specimen *x = (struct specimen *)*state;
    uint64_t second = 0;
    uint64_t third = 0;
    assert_true(wal_name_parse(x->names[1], &second) && wal_name_parse(x->names[2], &third));
    /* the oldest */
    assert_int_equal(unlinkat(x->live.fd, x->names[0], 0), 0);
    must_refuse(x, 0, x->names[1]);
    must_repair(x, 0, x->last_lsn, second - 1);
    restore(x);
    /* the oldest, when a snapshot covers it: not missed */
    assert_int_equal(unlinkat(x->live.fd, x->names[0], 0), 0);
    must_repair(x, second - 1, x->last_lsn, 0);
    restore(x);
    /* one in between */
    assert_int_equal(unlinkat(x->live.fd, x->names[1], 0), 0);
    must_refuse(x, 0, x->names[2]);
    must_repair(x, 0, second - 1, x->last_lsn - second + 1);
    restore(x);
    /* the last: its predecessor says that there was one */
    assert_int_equal(unlinkat(x->live.fd, x->names[x->count - 1], 0), 0);
    must_refuse(x, 0, x->names[x->count - 2]);
    must_repair(x, 0, x->first_in_last - 1, 0);
    restore(x);
    assert_int_equal(unlinkat(x->live.fd, x->names[x->count - 1], 0), 0);
    says_that_more_is_lost(x);
    restore(x);
    /* all of them */
    for (size_t i = 0; i < x->count; i++) {
        assert_int_equal(unlinkat(x->live.fd, x->names[i], 0), 0);
    }
    must_refuse(x, x->last_lsn, "no log");
    struct wal_options o = log_options(&x->live);
    struct wal_report report = {0};
    o.expect_lsn = x->last_lsn;
    o.repair = true;
    oplog_close(log_open_ok(&o, &report));
    assert_true(report.repaired);
    must_repair(x, x->last_lsn, x->last_lsn, 0);
}

static void swapped_and_doubled_segments(void **state) {
    struct specimen *x = (struct specimen *)*state;
    file_copy(x->pristine.fd, x->names[0], x->live.fd, x->names[1]);
    file_copy(x->pristine.fd, x->names[1], x->live.fd, x->names[0]);
    must_refuse(x, 0, x->names[0]);
    restore(x);
    /* a copy under another date */
    char name[64];
    memcpy(name, x->names[1], sizeof name);
    memcpy(name + 4, "29991231", 8);
    file_copy(x->pristine.fd, x->names[1], x->live.fd, name);
    must_refuse(x, 0, name);
    must_repair(x, 0, x->last_lsn, 0); /* the double is set aside, the rest is whole */
    restore(x);
    /* a damaged header: the segment cannot be read, and what follows it is cut off from the rest */
    uint64_t second = 0;
    assert_true(wal_name_parse(x->names[1], &second));
    file_flip(x->live.fd, x->names[1], 20, 1);
    must_refuse(x, 0, x->names[1]);
    must_repair(x, 0, second - 1, x->last_lsn - second + 1);
}

static void foreign_segments(void **state) {
    struct specimen *x = (struct specimen *)*state;
    struct specimen other;
    specimen_make(&other, 115);
    assert_int_equal(other.count, x->count);
    for (size_t i = 1; i < x->count; i++) {
        file_copy(other.pristine.fd, other.names[i], x->live.fd, x->names[i]);
        must_refuse(x, 0, x->names[i]);
        if (i + 1 == x->count) {
            must_repair(x, 0, x->first_in_last - 1, 0);
        }
        restore(x);
    }
    specimen_remove(&other);
}

/* A segment of the same log, from a backup: the same instance, the same LSNs, but another life of the log went on after it. */
static void segments_of_two_times(void **state) {
    struct specimen *x = (struct specimen *)*state;
    struct wal_options o = log_options(&x->live);
    struct status st;
    /* A second history from the end of segment 1 on. */
    for (size_t i = 2; i < x->count; i++) {
        assert_int_equal(unlinkat(x->live.fd, x->names[i], 0), 0);
    }
    uint64_t third = 0;
    assert_true(wal_name_parse(x->names[2], &third));
    o.repair = true;
    struct oplog *log = log_open_ok(&o, NULL);
    for (uint64_t lsn = third; lsn < third + 60; lsn++) {
        assert_true(log_put(log, lsn, 1, 0, &st));
    }
    oplog_close(log);
    char names[NAMES_MAX][64];
    size_t count = names_with(x->live.fd, "wal_", names, NAMES_MAX);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], x->names[2]) == 0) {
            file_copy(x->pristine.fd, x->names[2], x->live.fd, x->names[2]);
            must_refuse(x, 0, x->names[2]);
            return;
        }
    }
    /* the second history put its boundary elsewhere: an overlap */
    file_copy(x->pristine.fd, x->names[2], x->live.fd, x->names[2]);
    must_refuse(x, 0, x->names[2]);
}

static void newer_formats_are_refused(void **state) {
    struct specimen *x = (struct specimen *)*state;
    file_flip(x->live.fd, x->names[0], 8, 3);
    must_refuse(x, 0, "checksum");
}

/* --- crashes while rolling over --- */

static void empty_last_segment(void **state) {
    struct specimen *x = (struct specimen *)*state;
    /* As after a crash between naming the successor and the end marker: an empty named segment, and no marker before it. */
    struct wal_options o = log_options(&x->live);
    struct status st;
    uint64_t next = x->last_lsn + 1;
    struct wal_report report;
    struct oplog *log = log_open_ok(&o, &report);
    struct fault_plan no_marker = {
        .calls = FAULT_BIT(IO_WRITE), .times = UINT64_MAX, .error = ENOSPC, .path = x->names[x->count - 1]};
    char names[NAMES_MAX][64];
    /* Fill the segment with single records until only a roll-over can go on, with no room for the marker. */
    while (names_with(x->live.fd, "wal_", names, NAMES_MAX) == x->count) {
        if (!log_put(log, next, 1, 0, &st)) {
            assert_int_equal(st.code, STATUS_NO_SPACE);
            fault_disarm();
            assert_true(log_put(log, next, 1, 0, &st));
            fault_arm(&no_marker);
        }
        next++;
        fault_arm(&no_marker);
    }
    fault_disarm();
    oplog_close(log);
    log = log_open_ok(&o, &report);
    struct oplog_position p;
    oplog_position_get(log, &p);
    assert_true(p.durable_lsn >= next - 2);
    next = p.durable_lsn + 1;
    assert_true(log_put(log, next, 1, 0, &st));
    oplog_close(log);
    log = log_open_ok(&o, &report);
    assert_int_equal(report.last_lsn, next);
    assert_int_equal(log_check(log, 1, NULL), next);
    oplog_close(log);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(cut_at_every_byte_of_the_last_batch, set_up_small, tear_down),
        cmocka_unit_test_setup_teardown(torn_records_do_not_resurface, set_up, tear_down),
        cmocka_unit_test_setup_teardown(expected_lsn_makes_a_torn_tail_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_flipped_byte_is_noticed, set_up_small, tear_down),
        cmocka_unit_test(flips_in_a_recycled_segment),
        cmocka_unit_test_setup_teardown(damage_in_the_middle_is_repaired, set_up, tear_down),
        cmocka_unit_test_setup_teardown(begun_anew_it_says_behind_what, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lost_end_marker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(missing_segments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(swapped_and_doubled_segments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(foreign_segments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(segments_of_two_times, set_up, tear_down),
        cmocka_unit_test_setup_teardown(newer_formats_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(empty_last_segment, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
