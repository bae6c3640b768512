/* test_durable_wal.c - the log at work: appending, reading, rolling over, retiring, and what it does when calls fail. */
#include "allocations.h"
#include "durable_fixture.h"

#include "base/clock.h"
#include "durable/wal_format.h"
#include "store/op.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NAMES_MAX = 64, ATTEMPTS_MAX = 4096, WORK_UNTIL = 110, STARVED_UNTIL = 1400 };

static int set_up(void **state) {
    struct scratch *s = (struct scratch *)malloc(sizeof *s);
    scratch_make(s);
    *state = s;
    return 0;
}

static int tear_down(void **state) {
    struct scratch *s = (struct scratch *)*state;
    scratch_remove(s);
    free(s);
    return 0;
}

static void append_ok(struct oplog *log, uint64_t first, size_t count) {
    struct status st = {0};
    if (!log_put(log, first, count, 0, &st)) {
        fail_msg("append of LSN %llu: %s", (unsigned long long)first, st.detail);
    }
}

/* --- format --- */

static void record_overhead_is_small(void **state) {
    (void)state;
    struct wal_header h = {.first_lsn = 1000, .created_at = clock_wall_us(), .bytes = 16 << 20};
    wal_header_renew(&h);
    static const uint8_t text[1000];
    struct buf out = {0};
    /* A million records and ten hours into a segment: more than a segment of 16 MiB ever sees. */
    struct wal_record r = {.type = WAL_RECORD_OP, .lsn = 1001000, .time_us = h.created_at + 36000000000};
    wal_record_encode(&out, &h, &r, slice_of(text, sizeof text));
    assert_true(buf_ok(&out));
    assert_true(out.len - sizeof text <= 18);
    buf_fini(&out);
}

static void record_round_trip(void **state) {
    (void)state;
    struct wal_header h = {.first_lsn = 77, .created_at = 1700000000000000, .bytes = 16 << 20};
    wal_header_renew(&h);
    static const struct wal_record cases[] = {
        {.type = WAL_RECORD_OP, .lsn = 77, .time_us = 1700000000000000},
        {.type = WAL_RECORD_OP, .lsn = 78, .batch_index = 1, .time_us = 1699999999999999},
        {.type = WAL_RECORD_OP, .lsn = 77 + UINT32_MAX, .batch_index = 100000, .time_us = INT64_MAX},
        {.type = WAL_RECORD_END, .lsn = 79, .time_us = INT64_MIN},
        {.type = WAL_RECORD_OP, .lsn = 100, .time_us = -1},
        {.type = WAL_RECORD_OP, .lsn = 100, .time_us = 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf out = {0};
        struct wal_record back;
        wal_record_encode(&out, &h, &cases[i], slice_str("payload"));
        assert_true(wal_record_head(&h, out.data, out.len, out.len, &back));
        assert_true(wal_record_check(&h, out.data, &back));
        assert_int_equal(back.type, cases[i].type);
        assert_int_equal(back.lsn, cases[i].lsn);
        assert_int_equal(back.batch_index, cases[i].batch_index);
        assert_true(back.time_us == cases[i].time_us);
        assert_int_equal(back.length, 7);
        assert_memory_equal(out.data + back.head, "payload", 7);
        /* A length that the room does not hold is no head. */
        assert_false(wal_record_head(&h, out.data, out.len, out.len - 1, &back));
        buf_fini(&out);
    }
}

static void names_are_strict(void **state) {
    (void)state;
    uint64_t lsn = 0;
    char name[WAL_NAME_MAX];
    wal_name_format(1763935200000000, UINT64_MAX, name);
    assert_string_equal(name, "wal_20251123_18446744073709551615.log");
    assert_true(wal_name_parse(name, &lsn));
    assert_true(lsn == UINT64_MAX);
    static const char *const bad[] = {
        "wal_20251123_18446744073709551616.log",
        "wal_20251123_00000000000000000000.log",
        "wal_20251123_0000000000000000001.log",
        "wal_20251123_00000000000000000001.log.damaged.1",
        "wal_2025112a_00000000000000000001.log",
        "wal-20251123_00000000000000000001.log",
        "wal_20251123_0000000000000000000x.log",
        "spare.log",
        "",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(wal_name_parse(bad[i], &lsn));
    }
}

/* --- life --- */

static void append_and_reopen(void **state) {
    struct scratch *s = (struct scratch *)*state;
    struct wal_options o = log_options(s);
    struct wal_report report;
    struct oplog *log = log_open_ok(&o, &report);
    assert_int_equal(report.records, 0);
    assert_int_equal(report.last_lsn, 0);
    append_ok(log, 1, 1);
    append_ok(log, 2, 5);
    assert_int_equal(log_check(log, 1, NULL), 6);
    assert_int_equal(log_check(log, 4, NULL), 6);
    assert_int_equal(log_check(log, 7, NULL), 6);
    struct oplog_position p;
    oplog_position_get(log, &p);
    assert_int_equal(p.durable_lsn, 6);
    assert_int_equal(p.oldest_lsn, 1);
    assert_int_equal(p.segments, 1);
    assert_int_equal(p.syncs, 2);
    oplog_close(log);

    log = log_open_ok(&o, &report);
    assert_int_equal(report.records, 6);
    assert_int_equal(report.first_lsn, 1);
    assert_int_equal(report.last_lsn, 6);
    assert_int_equal(report.torn_bytes, 0);
    assert_false(report.closed_in_order);
    append_ok(log, 7, 1);
    assert_int_equal(log_check(log, 1, NULL), 7);
    oplog_close(log);
}

/* Group commit: whatever the number of records, one write and one sync, and neither names nor sizes change. */
static void one_write_and_one_sync(void **state) {
    struct scratch *s = (struct scratch *)*state;
    struct wal_options o = log_options(s);
    o.segment_bytes = 1 << 20;
    struct oplog *log = log_open_ok(&o, NULL);
    uint64_t lsn = 1;
    for (size_t count = 1; count <= 64; count *= 4) {
        struct fault_plan writes = {.calls = FAULT_BIT(IO_WRITE)};
        struct fault_plan syncs = {.calls = FAULT_BIT(IO_FDATASYNC)};
        struct fault_plan all = {.calls = FAULT_CHANGES};
        struct fault_plan *plans[] = {&writes, &syncs, &all};
        for (size_t i = 0; i < 3; i++, lsn += count) {
            fault_arm(plans[i]);
            append_ok(log, lsn, count);
            fault_disarm();
        }
        assert_int_equal(writes.seen, 1);
        assert_int_equal(syncs.seen, 1);
        assert_int_equal(all.seen, 2);
    }
    oplog_close(log);
}

static void close_record_is_reported(void **state) {
    struct scratch *s = (struct scratch *)*state;
    struct wal_options o = log_options(s);
    struct wal_report report;
    struct oplog *log = log_open_ok(&o, &report);
    struct status st;
    struct buf op = {0};
    append_ok(log, 1, 3);
    op_encode_log_close(&op);
    struct oplog_record r = {.lsn = 4, .time_us = clock_wall_us(), .op = buf_slice(&op)};
    assert_true(oplog_append(log, &r, 1, &st));
    oplog_close(log);
    buf_fini(&op);
    log = log_open_ok(&o, &report);
    assert_true(report.closed_in_order);
    assert_int_equal(report.last_lsn, 4);
    oplog_close(log);
}

static void rolls_over_and_retires(void **state) {
    struct scratch *s = (struct scratch *)*state;
    struct wal_options o = log_options(s);
    struct wal_report report;
    struct status st;
    struct oplog *log = log_open_ok(&o, &report);
    for (uint64_t lsn = 1; lsn <= 300; lsn += 3) {
        append_ok(log, lsn, 3);
    }
    struct oplog_position p;
    oplog_position_get(log, &p);
    assert_true(p.segments > 3);
    assert_int_equal(p.bytes, p.segments * 8192);
    assert_int_equal(log_check(log, 1, NULL), 300);

    /* Nothing is covered below the second segment's first LSN. */
    char names[NAMES_MAX][64];
    size_t before = names_with(s->fd, "wal_", names, NAMES_MAX);
    uint64_t second = 0;
    assert_int_equal(before, p.segments);
    assert_true(wal_name_parse(names[1], &second));
    assert_true(oplog_publish_snapshot(log, second - 2, &st));
    assert_int_equal(names_with(s->fd, "wal_", names, NAMES_MAX), before);
    assert_true(oplog_publish_snapshot(log, second - 1, &st));
    assert_int_equal(names_with(s->fd, "wal_", names, NAMES_MAX), before - 1);
    oplog_position_get(log, &p);
    assert_int_equal(p.oldest_lsn, second);
    assert_int_equal(log_check(log, second, NULL), 300);

    /* All covered: the segment in use stays. */
    assert_true(oplog_publish_snapshot(log, 300, &st));
    assert_int_equal(names_with(s->fd, "wal_", names, NAMES_MAX), 1);
    append_ok(log, 301, 10);
    oplog_close(log);

    o.expect_lsn = 300;
    log = log_open_ok(&o, &report);
    assert_int_equal(report.last_lsn, 310);
    assert_true(report.first_lsn <= 301);
    assert_int_equal(log_check(log, 301, NULL), 310);
    oplog_close(log);
    assert_true(file_exists(s->fd, "spare.log"));
    assert_int_equal(names_with(s->fd, "filling", names, NAMES_MAX), 0);
}

static void large_batches_get_segments_of_their_own(void **state) {
    struct scratch *s = (struct scratch *)*state;
    struct wal_options o = log_options(s);
    struct wal_report report;
    struct status st = {0};
    struct oplog *log = log_open_ok(&o, &report);
    append_ok(log, 1, 2);
    static uint8_t big[300000];
    memset(big, 0x5a, sizeof big);
    struct oplog_record r[3] = {{.lsn = 3, .op = slice_of(big, sizeof big)},
                                {.lsn = 4, .op = slice_of(big, 10)},
                                {.lsn = 5, .op = slice_of(big, sizeof big)}};
    assert_true(oplog_append(log, r, 3, &st));
    for (uint64_t lsn = 6; lsn < 100; lsn++) {
        struct oplog_record small = {.lsn = lsn, .op = slice_of(big, 900)};
        assert_true(oplog_append(log, &small, 1, &st));
    }
    struct oplog_record over = {.lsn = 100, .op = slice_of(big, (1 << 20) + 1)};
    assert_false(oplog_append(log, &over, 1, &st));
    assert_int_equal(st.code, STATUS_TOO_LARGE);
    oplog_close(log);
    log = log_open_ok(&o, &report);
    assert_int_equal(report.last_lsn, 99);
    assert_int_equal(report.records, 99);
    struct oplog_position p;
    oplog_position_get(log, &p);
    assert_true(p.bytes > 600000);
    oplog_close(log);
}

static void wrong_lsns_are_refused(void **state) {
    struct scratch *s = (struct scratch *)*state;
    struct wal_options o = log_options(s);
    struct wal_report report;
    struct status st;
    struct oplog *log = log_open_ok(&o, &report);
    append_ok(log, 1, 2);
    assert_false(log_put(log, 2, 1, 0, &st));
    assert_int_equal(st.code, STATUS_INTERNAL);
    assert_false(log_put(log, 4, 1, 0, &st));
    append_ok(log, 3, 1);
    oplog_close(log);
}

struct stop_at {
    uint64_t lsn;
};

static bool stop_reading(const struct oplog_record *r, void *ctx, struct status *st) {
    struct stop_at *stop = (struct stop_at *)ctx;
    return r->lsn < stop->lsn || status_set(st, STATUS_BUSY, "enough");
}

static void reader_can_stop(void **state) {
    struct scratch *s = (struct scratch *)*state;
    struct wal_options o = log_options(s);
    struct status st;
    struct oplog *log = log_open_ok(&o, NULL);
    append_ok(log, 1, 9);
    struct stop_at stop = {.lsn = 4};
    assert_false(oplog_read_from(log, 1, stop_reading, &stop, &st));
    assert_int_equal(st.code, STATUS_BUSY);
    oplog_close(log);
}

/* --- recycled segments --- */

static void stale_records_never_come_back(void **state) {
    struct scratch *s = (struct scratch *)*state;
    struct wal_options o = log_options(s);
    struct wal_report report;
    struct status st;
    struct oplog *log = log_open_ok(&o, &report);
    uint64_t lsn = 1;
    char names[NAMES_MAX][64];
    for (int round = 0; round < 40; round++) {
        /* Records of the same sizes at the same places in every life of a file: the worst case for telling old from new. */
        for (int i = 0; i < 40; i++, lsn++) {
            append_ok(log, lsn, 1);
        }
        assert_true(oplog_publish_snapshot(log, lsn - 1, &st));
        oplog_close(log);
        assert_true(names_with(s->fd, "wal_", names, NAMES_MAX) <= 2);
        o.expect_lsn = lsn - 1;
        log = log_open_ok(&o, &report);
        if (report.last_lsn != 0) {
            assert_int_equal(report.last_lsn, lsn - 1);
        }
        assert_int_equal(report.torn_bytes, 0);
        struct oplog_position p;
        oplog_position_get(log, &p);
        assert_int_equal(p.durable_lsn, lsn - 1);
        assert_int_equal(log_check(log, p.oldest_lsn, NULL), lsn - 1);
    }
    oplog_close(log);
}

/* A segment that was full, used again: its header says so, and its old records are still there as bytes. */
static void recycled_file_holds_old_bytes(void **state) {
    struct scratch *s = (struct scratch *)*state;
    struct wal_options o = log_options(s);
    struct status st;
    struct oplog *log = log_open_ok(&o, NULL);
    char names[NAMES_MAX][64];
    uint64_t lsn = 1;
    /* No spare is made ahead in this test: it would be taken instead of the retired one. */
    struct fault_plan no_filling = {.calls = FAULT_BIT(IO_OPEN), .times = UINT64_MAX, .error = ENOSPC, .path = "filling.tmp"};
    while (names_with(s->fd, "wal_", names, NAMES_MAX) < 2) {
        append_ok(log, lsn++, 1);
    }
    fault_arm(&no_filling);
    assert_true(oplog_publish_snapshot(log, lsn - 1, &st));
    while (names_with(s->fd, "wal_", names, NAMES_MAX) < 2) {
        append_ok(log, lsn++, 1);
    }
    fault_disarm();
    oplog_close(log);
    struct buf content = {0};
    struct wal_header h;
    file_read(s->fd, names[1], &content);
    assert_true(wal_header_decode(content.data, &h, &st));
    assert_int_equal(content.len, 8192);
    if (!h.zeroed) { /* else the helper was quicker than the retirement */
        static const uint8_t zeros[512];
        assert_memory_not_equal(content.data + content.len / 2 + 1024, zeros, sizeof zeros);
    }
    buf_fini(&content);
    o.expect_lsn = lsn - 1;
    log = log_open_ok(&o, NULL);
    struct oplog_position p;
    oplog_position_get(log, &p);
    assert_int_equal(p.durable_lsn, lsn - 1);
    oplog_close(log);
}

/* --- failing calls --- */

static void failed_sync_latches(void **state) {
    struct scratch *s = (struct scratch *)*state;
    static const int errors[] = {EIO, ENOSPC};
    for (size_t i = 0; i < 2; i++) {
        struct wal_options o = log_options(s);
        struct wal_report report;
        struct status st;
        struct oplog *log = log_open_ok(&o, &report);
        uint64_t next = report.last_lsn + 1;
        struct fault_plan once = {.calls = FAULT_BIT(IO_FDATASYNC), .times = 1, .error = errors[i]};
        append_ok(log, next, 1);
        fault_arm(&once);
        assert_false(log_put(log, next + 1, 1, 0, &st));
        assert_int_equal(st.code, STATUS_IO);
        /* The disk is well again, but what it dropped is not known. */
        assert_false(log_put(log, next + 1, 1, 0, &st));
        assert_int_equal(st.code, STATUS_IO);
        assert_int_equal(once.seen, 1);
        fault_disarm();
        struct oplog_position p;
        oplog_position_get(log, &p);
        assert_int_equal(p.durable_lsn, next);
        oplog_close(log);
    }
}

static void no_room_heals(void **state) {
    struct scratch *s = (struct scratch *)*state;
    struct wal_options o = log_options(s);
    struct wal_report report;
    struct status st;
    struct oplog *log = log_open_ok(&o, &report);
    append_ok(log, 1, 2);
    struct fault_plan full = {.calls = FAULT_BIT(IO_WRITE), .times = UINT64_MAX, .error = ENOSPC};
    fault_arm(&full);
    for (int i = 0; i < 3; i++) {
        assert_false(log_put(log, 3, 2, 7, &st));
        assert_int_equal(st.code, STATUS_NO_SPACE);
    }
    fault_disarm();
    append_ok(log, 3, 1);
    assert_int_equal(log_check(log, 1, NULL), 3);
    oplog_close(log);
    log = log_open_ok(&o, &report);
    assert_int_equal(report.last_lsn, 3);
    assert_int_equal(report.torn_bytes, 0);
    oplog_close(log);
}

/* What a workload of appends, roll-overs and retirements did. Shared with a child that is killed. */
struct progress {
    uint64_t acknowledged;
    uint64_t next;
    uint64_t snapshot;
    bool latched;
    uint32_t attempts[ATTEMPTS_MAX];
};

static void work(const struct scratch *s, struct progress *p, uint64_t until) {
    struct wal_options o = log_options(s);
    struct oplog *log = NULL;
    struct status st = {0};
    o.expect_lsn = p->snapshot;
    if (!wal_open(&o, &log, NULL, &st)) {
        return;
    }
    for (uint32_t attempt = 0; p->next <= until && attempt < 400; attempt++) {
        size_t count = (size_t)(p->next * 5 % 4 + 1);
        for (size_t i = 0; i < count; i++) {
            p->attempts[p->next + i] = attempt;
        }
        if (log_put(log, p->next, count, attempt, &st)) {
            assert_false(p->latched);
            p->next += count;
            p->acknowledged = p->next - 1;
        } else {
            p->latched = p->latched || st.code != STATUS_NO_SPACE;
        }
        if (p->next % 50 < 4 && p->acknowledged > 20) {
            p->snapshot = p->acknowledged - 20; /* it is there before the log is told, and stays when that fails */
            (void)!oplog_publish_snapshot(log, p->snapshot, &st);
        }
        if (p->latched) {
            break;
        }
    }
    oplog_close(log);
}

/* After whatever happened: opens, holds all that was acknowledged, nothing that was not tried, and takes more. */
static void inspect(const struct scratch *s, struct progress *p) {
    struct wal_options o = log_options(s);
    struct wal_report report = {0};
    o.expect_lsn = p->snapshot;
    struct oplog *log = log_open_ok(&o, &report);
    struct oplog_position position;
    oplog_position_get(log, &position);
    assert_true(position.durable_lsn >= p->acknowledged);
    assert_true(position.durable_lsn < p->next + 4);
    assert_true(position.oldest_lsn <= p->snapshot + 1);
    assert_int_equal(log_check(log, position.oldest_lsn, p->attempts), position.durable_lsn);
    struct status st = {0};
    uint64_t next = position.durable_lsn + 1;
    p->attempts[next] = 9999;
    if (!log_put(log, next, 1, 9999, &st)) {
        fail_msg("%s", st.detail);
    }
    assert_int_equal(log_check(log, next, p->attempts), next);
    oplog_close(log);
}

static void empty_directory(const struct scratch *s) {
    char names[NAMES_MAX][64];
    size_t count = names_with(s->fd, "", names, NAMES_MAX);
    for (size_t i = 0; i < count; i++) {
        if (names[i][0] != '.') {
            assert_int_equal(unlinkat(s->fd, names[i], 0), 0);
        }
    }
}

static void every_call_fails_once(void **state) {
    struct scratch *s = (struct scratch *)*state;
    static const int errors[] = {ENOSPC, EIO};
    static struct progress p;
    for (size_t e = 0; e < 2; e++) {
        for (uint64_t after = 0;; after++) {
            struct fault_plan plan = {.calls = FAULT_CHANGES, .after = after, .times = 1, .error = errors[e]};
            memset(&p, 0, sizeof p);
            p.next = 1;
            empty_directory(s);
            fault_arm(&plan);
            work(s, &p, WORK_UNTIL);
            fault_disarm();
            if (plan.failed == 0) {
                assert_true(p.acknowledged >= WORK_UNTIL);
                assert_true(after > WORK_UNTIL / 2);
                break;
            }
            if (errors[e] == ENOSPC && plan.failed_syncs == 0 && p.next > 1) {
                assert_false(p.latched); /* and so the work came to its end */
                assert_true(p.acknowledged >= WORK_UNTIL);
            }
            inspect(s, &p);
        }
    }
}

static void every_call_fails_for_ever(void **state) {
    struct scratch *s = (struct scratch *)*state;
    static const int errors[] = {ENOSPC, EIO};
    static struct progress p;
    for (size_t e = 0; e < 2; e++) {
        for (uint64_t after = 0;; after += 3) {
            struct fault_plan plan = {.calls = FAULT_CHANGES, .after = after, .times = UINT64_MAX, .error = errors[e]};
            memset(&p, 0, sizeof p);
            p.next = 1;
            empty_directory(s);
            fault_arm(&plan);
            work(s, &p, WORK_UNTIL);
            fault_disarm();
            if (plan.failed == 0) {
                break;
            }
            inspect(s, &p);
        }
    }
}

static void killed_at_every_call(void **state) {
    struct scratch *s = (struct scratch *)*state;
    struct progress *p = (struct progress *)mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    for (uint64_t after = 0;; after++) {
        memset(p, 0, sizeof *p);
        p->next = 1;
        empty_directory(s);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct fault_plan plan = {.calls = FAULT_CHANGES, .after = after, .times = 1, .error = 0};
            fault_arm(&plan);
            work(s, p, WORK_UNTIL);
            _exit(plan.seen <= after ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        inspect(s, p);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            assert_true(after > WORK_UNTIL / 2);
            break;
        }
    }
    (void)munmap(p, sizeof *p);
}

/* --- threads --- */

struct parallel {
    struct oplog *log;
    uint64_t until;
    uint64_t acknowledged; /* atomic */
};

static void *append_all(void *ctx) {
    struct parallel *x = (struct parallel *)ctx;
    struct status st;
    for (uint64_t lsn = 1; lsn <= x->until; lsn += 2) {
        assert_true(log_put(x->log, lsn, 2, 0, &st));
        __atomic_store_n(&x->acknowledged, lsn + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void readers_and_retirement_beside_appends(void **state) {
    struct scratch *s = (struct scratch *)*state;
    struct wal_options o = log_options(s);
    struct parallel x = {.log = log_open_ok(&o, NULL), .until = 1200};
    pthread_t appender;
    assert_int_equal(pthread_create(&appender, NULL, append_all, &x), 0);
    for (uint64_t seen = 0; seen < x.until;) {
        struct oplog_position p;
        struct status st = {0};
        seen = __atomic_load_n(&x.acknowledged, __ATOMIC_ACQUIRE);
        oplog_position_get(x.log, &p);
        assert_true(p.durable_lsn >= seen);
        if (seen > 400) {
            assert_true(oplog_publish_snapshot(x.log, seen - 400, &st));
        }
        oplog_position_get(x.log, &p);
        assert_true(log_check(x.log, p.oldest_lsn, NULL) >= seen);
    }
    assert_int_equal(pthread_join(appender, NULL), 0);
    oplog_close(x.log);
}

/* Each allocation of an append fails, also of those that go over to another segment: nothing was appended, and the log goes on as soon as there is memory. */
static void no_memory_heals(void **state) {
    struct scratch *s = (struct scratch *)*state;
    struct wal_options o = log_options(s);
    struct oplog *log = log_open_ok(&o, NULL);
    struct oplog_position p;
    unsigned refused = 0;
    for (uint64_t lsn = 1; lsn <= STARVED_UNTIL; lsn++) {
        bool ok = false;
        for (uint32_t nth = 1; !ok; nth++) {
            struct status st = {0};
            allocations->end = nth % 2;
            allocations->left = nth;
            ok = log_put(log, lsn, 1, 0, &st);
            allocations->left = 0;
            allocations->end = 0;
            if (!ok) {
                assert_int_equal(st.code, STATUS_NO_MEMORY);
                refused++;
                oplog_position_get(log, &p);
                assert_int_equal(p.durable_lsn, lsn - 1);
            }
        }
    }
    oplog_position_get(log, &p);
    assert_int_equal(p.durable_lsn, STARVED_UNTIL);
    assert_true(p.segments > 16 && refused > 16);
    oplog_close(log);
    log = log_open_ok(&o, NULL);
    assert_int_equal(log_check(log, 1, NULL), STARVED_UNTIL);
    oplog_close(log);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(record_overhead_is_small),
        cmocka_unit_test(record_round_trip),
        cmocka_unit_test(names_are_strict),
        cmocka_unit_test_setup_teardown(append_and_reopen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_write_and_one_sync, set_up, tear_down),
        cmocka_unit_test_setup_teardown(close_record_is_reported, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rolls_over_and_retires, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_batches_get_segments_of_their_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_lsns_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reader_can_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stale_records_never_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(recycled_file_holds_old_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failed_sync_latches, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_room_heals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_memory_heals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_call_fails_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_call_fails_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(killed_at_every_call, set_up, tear_down),
        cmocka_unit_test_setup_teardown(readers_and_retirement_beside_appends, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
