/* test_durable_recovery_faults.c - a recovery that fails, or is killed, at any call; and the LOCK. */
#include "recovery_fixture.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- failing and dying --- */

static void no_room_for_both(void **state) {
    struct server *s = (struct server *)*state;
    recovery_live_a_little(s);
    server_crash(s);
    struct fault_plan full = {.calls = FAULT_BIT(IO_FALLOCATE), .after = 12, .times = 2, .error = ENOSPC, .path = "/vectors/"};
    fault_arm(&full);
    server_start_ok(s);
    fault_disarm();
    assert_int_equal(full.failed, 2);
    assert_true(server_check(s) > 0); /* given up, to be made again */
    recovery_no_leftovers(s);
}

/* At each call, or at some of them where each costs much more (sanitizers, memcheck). */
static uint64_t stride(void) {
    return getenv("QUIRE_TEST_QUICK") != NULL ? 7 : 1;
}

static void every_call_fails(void **state) {
    struct server *s = (struct server *)*state;
    static const int errors[] = {EIO, ENOSPC};
    recovery_live_a_little(s);
    server_crash(s);
    for (size_t e = 0; e < 2; e++) {
        for (uint64_t after = 0;; after += stride()) {
            struct fault_plan plan = {.calls = FAULT_CHANGES | FAULT_BIT(IO_READ) | FAULT_BIT(IO_MMAP),
                                      .after = after,
                                      .times = UINT64_MAX,
                                      .error = errors[e],
                                      .path = s->data.path};
            struct status st = {0};
            fault_arm(&plan);
            bool ok = server_start(s, &st);
            fault_disarm();
            if (ok && plan.failed == 0) {
                (void)server_check(s);
                server_crash(s);
                break;
            }
            if (ok) {
                server_crash(s);
            }
            server_start_ok(s);
            (void)server_check(s);
            server_crash(s);
        }
    }
}

/* Killed at each call of a recovery: the next one finds the same, and no vector is lost by it. */
static void killed_while_recovering(void **state) {
    struct server *s = (struct server *)*state;
    struct status st;
    for (int stopped = 0; stopped < 2; stopped++) {
        uint64_t after = 0;
        for (;; after += stride()) {
            if (stopped != 0) {
                server_start_ok(s);
                (void)server_check(s);
                recovery_stop_ok(s);
            } else if (after == 0) {
                recovery_live_a_little(s);
                server_crash(s);
            }
            pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0) {
                struct fault_plan plan = {.calls = FAULT_CHANGES, .after = after, .times = 1, .error = 0, .path = s->data.path};
                fault_arm(&plan);
                _exit(server_start(s, &st) ? 0 : 1);
            }
            int status = 0;
            assert_int_equal(waitpid(child, &status, 0), child);
            server_start_ok(s);
            assert_int_equal(server_check(s), 0);
            recovery_no_leftovers(s);
            server_crash(s);
            if (WIFEXITED(status)) {
                assert_int_equal(WEXITSTATUS(status), 0);
                break;
            }
            if (s->account->next_lsn > LSN_MAX - 10) {
                fail_msg("the account is too small");
            }
        }
        assert_true(after > 5);
    }
}

/* A whole life, killed at the Nth call, for growing N: writes, snapshots, an orderly stop and a start in between. */
static void killed_anywhere(void **state) {
    struct server *s = (struct server *)*state;
    for (uint64_t after = 0;; after += stride() + after / 40) {
        struct status st = {0};
        server_crash(s);
        assert_true(io_remove_tree(s->data.fd, "wal", &st) && io_remove_tree(s->data.fd, "vectors", &st) &&
                    io_remove_tree(s->data.fd, "snapshots", &st));
        memset(s->account, 0, sizeof *s->account);
        s->account->next_lsn = 1;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct fault_plan plan = {.calls = FAULT_CHANGES, .after = after, .times = 1, .error = 0, .path = s->data.path};
            fault_arm(&plan);
            bool ok = server_start(s, &st);
            for (uint32_t round = 0; ok && round < 3; round++) {
                for (uint32_t n = 0; ok && n < 40; n++) {
                    ok = server_step(s, &st);
                }
                ok = ok && server_snapshot(s, NULL, &st) && server_step(s, &st) && server_step(s, &st) && server_stop(s, &st) &&
                     server_start(s, &st);
            }
            _exit(ok ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        uint32_t acknowledged = s->account->acknowledged;
        server_start_ok(s);
        uint32_t pending = server_check(s);
        /* Only an op that was logged and not applied yet has its vectors nowhere. */
        if (pending > 0 && s->account->steps == acknowledged) {
            fail_msg("killed at call %llu, step %u: %u vectors lost", (unsigned long long)after, s->account->steps, pending);
        }
        recovery_no_leftovers(s);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            assert_true(after > 100);
            break;
        }
    }
}

/* --- LOCK --- */

static void one_server_at_a_time(void **state) {
    struct server *s = (struct server *)*state;
    struct status st = {0};
    int first = -1;
    int second = -1;
    char pid[32];
    assert_true(data_lock(s->data.fd, &first, &st));
    assert_false(data_lock(s->data.fd, &second, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    (void)snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_non_null(strstr(st.detail, pid));
    assert_int_equal(second, -1);
    io_close(&first);
    assert_true(data_lock(s->data.fd, &second, &st));
    io_close(&second);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_room_for_both, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(every_call_fails, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(killed_while_recovering, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(killed_anywhere, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(one_server_at_a_time, recovery_set_up, recovery_tear_down),
    };
    log_set_level(LOG_LEVEL_ERROR); /* what recovery warns of is what these tests do */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
