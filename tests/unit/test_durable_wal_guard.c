/* test_durable_wal_guard.c - the last batch of a log that had a quiet moment: damage to it shows, a batch torn behind it is cut, and nothing of the guard
 * stays where a record goes. */
#include "durable_fixture.h"

#include "durable/wal_format.h"

#include <errno.h>
#include <stdio.h>

enum { BEFORE = 5, LAST = 8, RECORDS_MAX = 64 };

/* A log of one segment with records up to LAST, the last three of one batch, and a guard. */
struct guarded {
    struct scratch dir;
    struct wal_options options;
    char name[1][64];
    struct buf content;
    uint64_t begins[RECORDS_MAX]; /* of the record of LSN i + 1; [count]: of the guard, or where it would be */
    size_t count;
    uint64_t guard_end; /* = begins[count]: there is none */
};

static void look(struct guarded *g) {
    struct wal_header h;
    struct wal_record r;
    struct status st;
    assert_int_equal(names_with(g->dir.fd, "wal_", g->name, 1), 1);
    buf_reset(&g->content);
    file_read(g->dir.fd, g->name[0], &g->content);
    assert_true(wal_header_decode(g->content.data, &h, &st));
    uint64_t at = WAL_HEADER_BYTES;
    g->count = 0;
    while (wal_record_head(&h, g->content.data + at, g->content.len - at, g->content.len - at, &r) && r.type == WAL_RECORD_OP) {
        g->begins[g->count++] = at;
        at += r.head + r.length;
    }
    g->begins[g->count] = at;
    bool there = wal_record_head(&h, g->content.data + at, g->content.len - at, g->content.len - at, &r) && r.type == WAL_RECORD_GUARD;
    g->guard_end = there ? at + r.head : at;
}

static void make(struct guarded *g) {
    struct status st;
    *g = (struct guarded){0};
    scratch_make(&g->dir);
    g->options = log_options(&g->dir);
    struct oplog *log = log_open_ok(&g->options, NULL);
    assert_true(log_put(log, 1, BEFORE, 0, &st) && log_put(log, BEFORE + 1, LAST - BEFORE, 0, &st));
    assert_true(oplog_guard(log, &st) && oplog_guard(log, &st));
    oplog_close(log);
    look(g);
    assert_int_equal(g->count, LAST);
    assert_true(g->guard_end > g->begins[LAST]);
}

static void drop(struct guarded *g) {
    buf_fini(&g->content);
    scratch_remove(&g->dir);
}

static void put_back(struct guarded *g) {
    file_write(g->dir.fd, g->name[0], buf_slice(&g->content));
}

/* Opens; all up to `last` must be there, and so many bytes were cut off. */
static void must_hold(struct guarded *g, uint64_t last, uint64_t torn) {
    struct wal_report report = {0};
    struct oplog *log = log_open_ok(&g->options, &report);
    assert_int_equal(report.last_lsn, last);
    assert_int_equal(report.torn_bytes, torn);
    assert_int_equal(log_check(log, 1, NULL), last);
    oplog_close(log);
}

static void must_refuse(struct guarded *g, uint64_t lsn) {
    struct oplog *log = NULL;
    struct status st = {0};
    char where[128];
    (void)snprintf(where, sizeof where, "%s is damaged at byte %llu (LSN %llu)", g->name[0], (unsigned long long)g->begins[lsn - 1], (unsigned long long)lsn);
    assert_false(wal_open(&g->options, &log, NULL, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    assert_non_null(strstr(st.detail, where));
}

static void damage_to_the_last_batch_is_refused(void **state) {
    struct guarded g;
    (void)state;
    make(&g);
    for (uint64_t lsn = 1; lsn <= LAST; lsn++) {
        for (uint64_t at = g.begins[lsn - 1]; at < g.begins[lsn]; at++) {
            file_flip(g.dir.fd, g.name[0], (size_t)at, (uint8_t)(1U << at % 8));
            must_refuse(&g, lsn);
            file_flip(g.dir.fd, g.name[0], (size_t)at, (uint8_t)(1U << at % 8));
        }
    }
    must_hold(&g, LAST, 0);
    drop(&g);
}

/* It says of no record that it is there. */
static void damage_to_the_guard_costs_nothing(void **state) {
    struct guarded g;
    (void)state;
    make(&g);
    for (uint64_t at = g.begins[LAST]; at < g.guard_end; at++) {
        file_flip(g.dir.fd, g.name[0], (size_t)at, 0x80);
        must_hold(&g, LAST, g.guard_end - g.begins[LAST]);
        put_back(&g);
    }
    drop(&g);
}

/* A start keeps the guard, and the next record takes its place. */
static void the_next_record_takes_its_place(void **state) {
    struct guarded g;
    struct status st;
    (void)state;
    make(&g);
    uint64_t at = g.begins[LAST];
    must_hold(&g, LAST, 0);
    look(&g);
    assert_true(g.guard_end > at);
    struct oplog *log = log_open_ok(&g.options, NULL);
    assert_true(log_put(log, LAST + 1, 1, 0, &st));
    oplog_close(log);
    look(&g);
    assert_int_equal(g.count, LAST + 1);
    assert_int_equal(g.begins[LAST], at);
    assert_int_equal(g.guard_end, g.begins[LAST + 1]);
    for (uint64_t i = g.guard_end; i < g.content.len; i++) {
        assert_int_equal(g.content.data[i], 0);
    }
    must_hold(&g, LAST + 1, 0);
    drop(&g);
}

/* The next batch, of which the power left the first byte and what is behind another one: never refused, and the batch before it stays. */
static void a_batch_torn_over_it_is_cut(void **state) {
    struct guarded g;
    struct buf before = {0};
    struct status st;
    (void)state;
    make(&g);
    buf_put_slice(&before, buf_slice(&g.content));
    struct oplog *log = log_open_ok(&g.options, NULL);
    assert_true(log_put(log, LAST + 1, 3, 0, &st));
    oplog_close(log);
    look(&g);
    uint64_t end = g.begins[g.count];
    for (uint64_t at = g.begins[LAST]; at < end; at++) {
        /* arrived up to there */
        struct buf torn = {0};
        buf_put_slice(&torn, buf_slice(&g.content));
        memcpy(torn.data + at, before.data + at, (size_t)(end - at));
        file_write(g.dir.fd, g.name[0], buf_slice(&torn));
        log = log_open_ok(&g.options, NULL);
        assert_true(log_check(log, 1, NULL) >= LAST);
        oplog_close(log);
        /* arrived from there on */
        memcpy(torn.data + at, g.content.data + at, (size_t)(end - at));
        memcpy(torn.data + g.begins[LAST], before.data + g.begins[LAST], (size_t)(at - g.begins[LAST]));
        file_write(g.dir.fd, g.name[0], buf_slice(&torn));
        log = log_open_ok(&g.options, NULL);
        assert_true(log_check(log, 1, NULL) == LAST || at == g.begins[LAST]);
        assert_true(log_put(log, log_check(log, 1, NULL) + 1, 1, 0, &st));
        oplog_close(log);
        log = log_open_ok(&g.options, NULL);
        assert_true(log_check(log, 1, NULL) > LAST);
        oplog_close(log);
        buf_fini(&torn);
    }
    buf_fini(&before);
    drop(&g);
}

/* Without room it is tried again; any other error latches, like every error while writing. */
static void what_fails(void **state) {
    struct guarded g;
    struct status st;
    struct fault_plan no_room = {.calls = FAULT_BIT(IO_WRITE), .times = 1, .error = ENOSPC};
    struct fault_plan broken = {.calls = FAULT_BIT(IO_WRITE), .times = 1, .error = EIO};
    (void)state;
    make(&g);
    struct oplog *log = log_open_ok(&g.options, NULL);
    assert_true(log_put(log, LAST + 1, 1, 0, &st));
    fault_arm(&no_room);
    assert_false(oplog_guard(log, &st));
    assert_int_equal(st.code, STATUS_NO_SPACE);
    assert_true(oplog_guard(log, &st));
    fault_disarm();
    assert_true(log_put(log, LAST + 2, 1, 0, &st));
    fault_arm(&broken);
    assert_false(oplog_guard(log, &st));
    assert_int_equal(st.code, STATUS_IO);
    fault_disarm();
    assert_false(log_put(log, LAST + 3, 1, 0, &st));
    assert_false(oplog_guard(log, &st));
    oplog_close(log);
    must_hold(&g, LAST + 2, 0);
    drop(&g);
}

/* Over many segments, guarded behind every batch: it is never in the way of an end marker, and none is needed before the first record of a segment. */
static void in_every_place_of_a_segment(void **state) {
    struct scratch dir;
    struct status st;
    (void)state;
    scratch_make(&dir);
    struct wal_options o = log_options(&dir);
    struct oplog *log = log_open_ok(&o, NULL);
    assert_true(oplog_guard(log, &st));
    for (uint64_t lsn = 1; lsn <= 200; lsn++) {
        assert_true(log_put(log, lsn, 1, 0, &st) && oplog_guard(log, &st));
        if (lsn % 10 == 0) {
            oplog_close(log);
            log = log_open_ok(&o, NULL);
            assert_int_equal(log_check(log, 1, NULL), lsn);
        }
    }
    oplog_close(log);
    scratch_remove(&dir);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_to_the_last_batch_is_refused), cmocka_unit_test(damage_to_the_guard_costs_nothing),
        cmocka_unit_test(the_next_record_takes_its_place),     cmocka_unit_test(a_batch_torn_over_it_is_cut),
        cmocka_unit_test(what_fails),                          cmocka_unit_test(in_every_place_of_a_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
