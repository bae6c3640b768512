/* test_durable_repair.c - `quired --repair` where a live checkpoint covers what is damaged in the log: nothing that it or the good part of the log holds is
 * lost, wherever the damage lies and whatever interrupts the repair. */
#include "durable_server.h"

#include "durable/wal_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAMES_MAX = 64, STEPS_SNAPSHOT = 40, STEPS_LIVE = 90, STEPS = 120 };

struct place {
    char path[128];
    size_t begins; /* of the record */
};

static int set_up(void **state) {
    struct server *s = (struct server *)malloc(sizeof *s);
    struct status st;
    server_make(s);
    server_start_ok(s);
    server_steps_ok(s, STEPS_SNAPSHOT);
    assert_true(server_snapshot(s, NULL, &st));
    server_steps_ok(s, STEPS_LIVE);
    assert_true(server_live_checkpoint(s, NULL, &st));
    server_steps_ok(s, STEPS);
    *state = s;
    return 0;
}

static int tear_down(void **state) {
    struct server *s = (struct server *)*state;
    server_crash(s);
    server_remove(s);
    free(s);
    return 0;
}

/* Where the record of that LSN lies. The account gives a step an LSN. */
static struct place place_of(const struct server *s, uint64_t lsn) {
    char names[NAMES_MAX][64];
    struct place p = {.begins = 0};
    int wal_fd = -1;
    struct status st;
    assert_true(io_open_at(s->data.fd, "wal", O_RDONLY | O_DIRECTORY, 0, &wal_fd, &st));
    size_t count = names_with(wal_fd, "wal_", names, NAMES_MAX);
    for (size_t i = 0; i < count; i++) {
        struct buf content = {0};
        struct wal_header h;
        struct wal_record r;
        file_read(wal_fd, names[i], &content);
        assert_true(wal_header_decode(content.data, &h, &st));
        for (size_t at = WAL_HEADER_BYTES; wal_record_head(&h, content.data + at, content.len - at, content.len - at, &r) && r.type == WAL_RECORD_OP;
             at += r.head + r.length) {
            if (r.lsn == lsn) {
                (void)snprintf(p.path, sizeof p.path, "wal/%s", names[i]);
                p.begins = at;
            }
        }
        buf_fini(&content);
    }
    io_close(&wal_fd);
    assert_true(p.begins > 0);
    return p;
}

static void damage(const struct server *s, uint64_t lsn) {
    struct place p = place_of(s, lsn);
    file_flip(s->data.fd, p.path, p.begins + 20, 1);
}

static void must_refuse(struct server *s) {
    struct status st = {0};
    assert_false(server_start(s, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    server_crash(s);
}

/* Repairs, and starts once more without; all up to so many steps must be there. */
static void must_repair(struct server *s, uint32_t steps, bool from_live) {
    must_refuse(s);
    s->repair = true;
    server_start_ok(s);
    s->repair = false;
    assert_int_equal(s->report.from_live, from_live);
    assert_true(s->report.repaired);
    s->account->acknowledged = steps;
    uint32_t pending = server_check(s); /* of a library whose files were removed with it */
    assert_true(pending == 0 || !from_live);
    server_steps_ok(s, s->account->steps + 10);
    server_crash(s);
    server_start_ok(s);
    assert_true(server_check(s) <= pending);
}

static uint64_t live_lsn(struct server *s) {
    server_crash(s);
    server_start_ok(s);
    assert_true(s->report.from_live);
    uint64_t lsn = s->report.live_lsn;
    server_crash(s);
    return lsn;
}

static void in_an_earlier_segment(void **state) {
    struct server *s = (struct server *)*state;
    (void)live_lsn(s);
    damage(s, 60);
    must_repair(s, STEPS, true);
}

static void in_the_segment_of_the_checkpoint(void **state) {
    struct server *s = (struct server *)*state;
    uint64_t lsn = live_lsn(s);
    damage(s, lsn - 1);
    must_repair(s, STEPS, true);
}

/* It needs the record right behind the checkpoint, and finds it behind the damage of the last one that is covered. */
static void up_to_the_checkpoint_itself(void **state) {
    struct server *s = (struct server *)*state;
    uint64_t lsn = live_lsn(s);
    damage(s, lsn);
    damage(s, 60);
    must_repair(s, STEPS, true);
}

/* What is behind such damage is lost, and nothing before it. */
static void behind_the_checkpoint(void **state) {
    struct server *s = (struct server *)*state;
    uint64_t lsn = live_lsn(s) + 5;
    damage(s, lsn);
    uint32_t steps = s->account->steps_at_lsn[lsn - 1];
    must_repair(s, steps, false); /* a library whose deletion is lost has to come from the snapshot */
    assert_true(s->report.last_lsn >= lsn);
}

static void without_any_log(void **state) {
    struct server *s = (struct server *)*state;
    struct status st;
    assert_true(server_live_checkpoint(s, NULL, &st));
    server_crash(s);
    assert_true(io_remove_tree(s->data.fd, "wal", &st));
    must_repair(s, STEPS, true);
}

/* An arena that does not stand needs the log that the checkpoint does without: so it is kept as far as it goes. */
static void with_an_arena_that_does_not_stand(void **state) {
    struct server *s = (struct server *)*state;
    char path[128];
    char id[UUID_TEXT + 1];
    uint64_t lsn = live_lsn(s) - 1;
    struct uuid library = fixture_library_id(1);
    uuid_format(&library, id);
    (void)snprintf(path, sizeof path, "vectors/%s/records.mmap", id);
    file_flip(s->data.fd, path, 100, 1);
    damage(s, lsn);
    must_refuse(s);
    s->repair = true;
    server_start_ok(s);
    s->repair = false;
    assert_false(s->report.from_live);
    s->account->acknowledged = s->account->steps_at_lsn[lsn - 1];
    (void)server_check(s);
}

/* However often it is broken off. */
static void at_every_call(void **state) {
    struct server *s = (struct server *)*state;
    struct status st;
    uint64_t lsn = live_lsn(s);
    bool started = false;
    damage(s, 60);
    damage(s, lsn - 1);
    s->repair = true;
    for (uint64_t after = 0; !started; after++) {
        struct fault_plan broken = {.calls = FAULT_CHANGES, .after = after, .times = UINT64_MAX, .error = EIO};
        fault_arm(&broken);
        started = server_start(s, &st);
        fault_disarm();
        if (!started) {
            server_crash(s);
        }
    }
    s->repair = false;
    assert_int_equal(server_check(s), 0);
    assert_int_equal(s->account->steps, STEPS);
    server_crash(s);
    server_start_ok(s);
    assert_int_equal(server_check(s), 0);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(in_an_earlier_segment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(in_the_segment_of_the_checkpoint, set_up, tear_down),
        cmocka_unit_test_setup_teardown(up_to_the_checkpoint_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(behind_the_checkpoint, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_any_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown(with_an_arena_that_does_not_stand, set_up, tear_down),
        cmocka_unit_test_setup_teardown(at_every_call, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
