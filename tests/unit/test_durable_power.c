/* test_durable_power.c - what a start has found and shown is there after every later loss of power, too, although nobody had synced it. */
#include "disk.h"
#include "durable_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SEEDS = 150, ROTATIONS = 60 };

struct bench {
    struct scratch work;
    struct scratch state;
    struct disk *disk;
};

static int set_up(void **state) {
    struct bench *b = (struct bench *)malloc(sizeof *b);
    scratch_make(&b->work);
    b->disk = disk_new(b->work.fd);
    disk_start(b->disk);
    *state = b;
    return 0;
}

static int tear_down(void **state) {
    struct bench *b = (struct bench *)*state;
    disk_stop(b->disk);
    disk_free(b->disk);
    scratch_remove(&b->work);
    free(b);
    return 0;
}

/* Appends while the process is dead from its `after`th call of that kind on. */
static void put_and_die(struct oplog *log, uint64_t first, size_t count, uint32_t calls, uint64_t after) {
    struct fault_plan all = {.calls = calls, .after = after, .times = UINT64_MAX, .error = EIO};
    struct status st;
    fault_arm(&all);
    (void)!log_put(log, first, count, 0, &st);
    fault_disarm();
}

static uint64_t durable_of(struct oplog *log) {
    struct oplog_position p;
    oplog_position_get(log, &p);
    return p.durable_lsn;
}

/* On every disk that a loss of power may leave now, a start finds at least `least` and is not refused. */
static void must_hold(struct bench *b, uint64_t least) {
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct disk_state drawn;
        struct oplog *log = NULL;
        struct wal_report report;
        struct status st = {0};
        scratch_make(&b->state);
        disk_make(b->disk, disk_changes(b->disk), seed, b->state.fd, &drawn);
        struct wal_options o = log_options(&b->state);
        o.expect_lsn = least; /* as a checkpoint would say that was taken since */
        if (!wal_open(&o, &log, &report, &st)) {
            fail_msg("seed %llu (%s): %s", (unsigned long long)seed, drawn.how, st.detail);
        }
        assert_true(durable_of(log) >= least);
        assert_int_equal(log_check(log, 1, NULL), durable_of(log));
        oplog_close(log);
        scratch_remove(&b->state);
    }
}

static void a_batch_that_was_not_synced(void **state) {
    struct bench *b = (struct bench *)*state;
    struct wal_options o = log_options(&b->work);
    struct status st;
    struct oplog *log = log_open_ok(&o, NULL);
    assert_true(log_put(log, 1, 5, 0, &st));
    put_and_die(log, 6, 3, FAULT_BIT(IO_FDATASYNC), 0);
    oplog_close(log);
    disk_stop(b->disk);
    disk_start(b->disk);
    log = log_open_ok(&o, NULL);
    assert_int_equal(durable_of(log), 8);
    disk_stop(b->disk);
    must_hold(b, 8);
    disk_start(b->disk);
    oplog_close(log);
}

/* Killed at each call while the log goes over to another segment; what the next start says is durable stays. */
static void killed_between_segments(void **state) {
    struct bench *b = (struct bench *)*state;
    uint64_t next = 1;
    for (uint64_t after = 0; after < ROTATIONS; after++) {
        struct wal_options o = log_options(&b->work);
        struct oplog *log = log_open_ok(&o, NULL);
        struct status st;
        assert_int_equal(durable_of(log), next - 1);
        while (next % 20 != 0) {
            assert_true(log_put(log, next, 1, 0, &st));
            next++;
        }
        put_and_die(log, next, 20, FAULT_CHANGES, after % 12);
        oplog_close(log);
        log = log_open_ok(&o, NULL);
        next = durable_of(log) + 1;
        disk_stop(b->disk);
        if (after % 5 == 0) {
            must_hold(b, next - 1);
        }
        disk_start(b->disk);
        oplog_close(log);
        log = log_open_ok(&o, NULL);
        assert_true(log_put(log, next, 1, 0, &st)); /* one batch behind it: everything before is told durable by it */
        next++;
        oplog_close(log);
        disk_stop(b->disk);
        if (after % 5 == 0) {
            must_hold(b, next - 1);
        }
        disk_start(b->disk);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_batch_that_was_not_synced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(killed_between_segments, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
