/* test_durable_restore_switch.c - one state in the place of another: killed, or failed, at every call that changes anything, it is the one or the other. */
#include "durable_fixture.h"

#include "durable/restore_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const parts[] = {"wal", "snapshots", "vectors"};
enum { PARTS = 3, CALLS_MAX = 200, PATH_BYTES = 160 };
#define ASIDE_OF_TEST RESTORE_REPLACED_PREFIX "20260101_000000.000"

static void make_dir(int dir_fd, const char *path) {
    assert_true(mkdirat(dir_fd, path, 0700) == 0 || errno == EEXIST);
}

/* under/wal/<mark> and so on; "" is the directory itself. */
static void make_state(int dir_fd, const char *under, const char *mark) {
    char path[PATH_BYTES];
    if (under[0] != '\0') {
        make_dir(dir_fd, under);
    }
    for (size_t i = 0; i < PARTS; i++) {
        (void)snprintf(path, sizeof path, "%s%s%s", under, under[0] != '\0' ? "/" : "", parts[i]);
        make_dir(dir_fd, path);
        (void)snprintf(path, sizeof path, "%s%s%s/%s", under, under[0] != '\0' ? "/" : "", parts[i], mark);
        file_write(dir_fd, path, slice_str(mark));
    }
}

static bool has_state(int dir_fd, const char *under, const char *mark, const char *other) {
    size_t found = 0;
    size_t others = 0;
    char path[PATH_BYTES];
    for (size_t i = 0; i < PARTS; i++) {
        (void)snprintf(path, sizeof path, "%s%s%s/%s", under, under[0] != '\0' ? "/" : "", parts[i], mark);
        found += file_exists(dir_fd, path) ? 1 : 0;
        (void)snprintf(path, sizeof path, "%s%s%s/%s", under, under[0] != '\0' ? "/" : "", parts[i], other);
        others += file_exists(dir_fd, path) ? 1 : 0;
    }
    return found == PARTS && others == 0;
}

static void empty(const struct scratch *s) {
    char names[32][64];
    struct status st;
    size_t count = names_with(s->fd, "", names, 32);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], ".") != 0 && strcmp(names[i], "..") != 0) {
            assert_true(io_remove_tree(s->fd, names[i], &st));
        }
    }
}

/* What is done to a directory, and how it is prepared for it. */
struct action {
    void (*prepare)(int dir_fd);
    bool (*act)(const struct scratch *s, struct status *st);
};

static void prepare_switch(int dir_fd) {
    make_state(dir_fd, "", "old");
    make_state(dir_fd, RESTORE_NEW, "new");
}

static bool act_switch(const struct scratch *s, struct status *st) {
    char aside[RESTORE_NAME_MAX];
    return restore_switch(s->fd, aside, st);
}

static void prepare_undo(int dir_fd) {
    make_state(dir_fd, "", "old");
    make_state(dir_fd, ASIDE_OF_TEST, "new");
    file_write(dir_fd, "LOCK", slice_str(""));
}

static bool act_undo(const struct scratch *s, struct status *st) {
    char from[RESTORE_NAME_MAX];
    return restore_undo(s->path, from, st);
}

static const struct action switching = {prepare_switch, act_switch};
static const struct action undoing = {prepare_undo, act_undo};

/* In a child that is killed at call number n. True: it came to its end before. */
static bool killed_at(const struct scratch *s, bool (*act)(const struct scratch *s, struct status *st), uint64_t n) {
    int how = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct fault_plan plan = {.calls = FAULT_CHANGES, .after = n, .times = 1};
        struct status st;
        fault_arm(&plan);
        _exit(act(s, &st) ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFSIGNALED(how) ? WTERMSIG(how) == SIGKILL : WEXITSTATUS(how) == 0);
    return WIFEXITED(how);
}

static bool complete(const struct scratch *s, struct status *st) {
    return restore_complete(s->fd, NULL, st);
}

/* All old or all new, and nothing of the way there is left but what was replaced. */
static void check_whole(const struct scratch *s, bool *ret_new) {
    struct status st = {0};
    char names[32][64];
    bool is_new = has_state(s->fd, "", "new", "old");
    assert_true(is_new || has_state(s->fd, "", "old", "new"));
    assert_int_equal(names_with(s->fd, "restore.", names, 32), 0);
    assert_true(restore_none_pending(s->fd, &st));
    *ret_new = is_new;
}

static void kill_everywhere(const struct action *a) {
    bool ended = false;
    bool was_new = false;
    uint64_t n = 0;
    for (; !ended; n++) {
        bool is_new = false;
        struct scratch s;
        struct status st = {0};
        assert_true(n < CALLS_MAX);
        scratch_make(&s);
        a->prepare(s.fd);
        ended = killed_at(&s, a->act, n);
        /* A start completes it, and is killed likewise. */
        for (uint64_t again = 0; !killed_at(&s, complete, again); again += 2) {
            assert_true(again < CALLS_MAX);
        }
        assert_true(complete(&s, &st));
        check_whole(&s, &is_new);
        assert_true(is_new || !was_new); /* the decision is one moment */
        assert_true(is_new || !ended);
        was_new = is_new;
        scratch_remove(&s);
    }
    assert_true(was_new && n > 10);
}

static void a_switch_killed_everywhere(void **state) {
    (void)state;
    kill_everywhere(&switching);
}

static void an_undo_killed_everywhere(void **state) {
    (void)state;
    kill_everywhere(&undoing);
}

/* A call that fails: the same, in one process. */
static void fail_everywhere(const struct action *a) {
    bool ok = false;
    struct scratch s;
    scratch_make(&s);
    for (uint64_t n = 0; !ok; n++) {
        struct fault_plan plan = {.calls = FAULT_CHANGES, .after = n, .times = 1, .error = EIO};
        struct status st = {0};
        bool is_new = false;
        assert_true(n < CALLS_MAX);
        empty(&s);
        a->prepare(s.fd);
        fault_arm(&plan);
        ok = a->act(&s, &st);
        fault_disarm();
        assert_true(ok || st.code == STATUS_IO);
        assert_true(complete(&s, &st));
        check_whole(&s, &is_new);
        assert_true(is_new || !ok);
    }
    scratch_remove(&s);
}

static void a_switch_that_fails_everywhere(void **state) {
    (void)state;
    fail_everywhere(&switching);
}

static void an_undo_that_fails_everywhere(void **state) {
    (void)state;
    fail_everywhere(&undoing);
}

static void what_was_replaced_is_kept_and_comes_back(void **state) {
    struct scratch s;
    struct status st = {0};
    char aside[RESTORE_NAME_MAX];
    char from[RESTORE_NAME_MAX];
    (void)state;
    scratch_make(&s);
    prepare_switch(s.fd);
    file_write(s.fd, "LOCK", slice_str(""));
    assert_true(restore_switch(s.fd, aside, &st));
    assert_true(has_state(s.fd, "", "new", "old"));
    assert_true(has_state(s.fd, aside, "old", "new"));
    /* A second one in the same second has a name of its own, and the newest comes back first. */
    char second[RESTORE_NAME_MAX];
    make_state(s.fd, RESTORE_NEW, "newer");
    assert_true(restore_switch(s.fd, second, &st));
    assert_string_not_equal(aside, second);
    assert_true(restore_undo(s.path, from, &st));
    assert_string_equal(from, second);
    assert_true(has_state(s.fd, "", "new", "newer"));
    assert_true(restore_undo(s.path, from, &st));
    assert_string_equal(from, aside);
    assert_true(has_state(s.fd, "", "old", "new"));
    assert_false(restore_undo(s.path, from, &st));
    assert_int_equal(st.code, STATUS_NOT_FOUND);
    scratch_remove(&s);
}

/* The one that was replaced last, also where the clock had been ahead before. */
static void what_was_replaced_last_comes_back_first(void **state) {
    struct scratch s;
    struct status st = {0};
    char aside[RESTORE_NAME_MAX];
    char from[RESTORE_NAME_MAX];
    (void)state;
    scratch_make(&s);
    prepare_switch(s.fd);
    file_write(s.fd, "LOCK", slice_str(""));
    assert_int_equal(mkdirat(s.fd, "replaced.21991231_235959.007", 0700), 0);
    make_state(s.fd, "replaced.21991231_235959.007", "oldest");
    assert_true(restore_switch(s.fd, aside, &st));
    assert_string_equal(aside, "replaced.21991231_235959.008");
    assert_true(restore_undo(s.path, from, &st));
    assert_string_equal(from, aside);
    assert_true(has_state(s.fd, "", "old", "new"));
    assert_true(restore_undo(s.path, from, &st));
    assert_string_equal(from, "replaced.21991231_235959.007");
    assert_true(has_state(s.fd, "", "oldest", "old"));
    scratch_remove(&s);
}

static void a_new_directory_has_nothing_to_keep(void **state) {
    struct scratch s;
    struct status st = {0};
    char aside[RESTORE_NAME_MAX] = "x";
    (void)state;
    scratch_make(&s);
    make_state(s.fd, RESTORE_NEW, "new");
    assert_true(restore_switch(s.fd, aside, &st));
    assert_string_equal(aside, "");
    assert_true(has_state(s.fd, "", "new", "old"));
    scratch_remove(&s);
}

static void only_what_is_ours_is_removed(void **state) {
    static const char *const theirs[] = {"replaced.by-me", "replaced.20260101_000000", "replaced.20260101_000000.000.tar", "replaced.2026010x_000000.000"};
    struct scratch s;
    struct status st = {0};
    uint32_t removed = 0;
    (void)state;
    scratch_make(&s);
    make_state(s.fd, "", "new");
    make_state(s.fd, ASIDE_OF_TEST, "old");
    make_state(s.fd, RESTORE_REPLACED_PREFIX "20260102_000000.001", "older");
    for (size_t i = 0; i < sizeof theirs / sizeof theirs[0]; i++) {
        make_state(s.fd, theirs[i], "theirs");
    }
    assert_true(restore_accept(s.fd, &removed, &st));
    assert_int_equal(removed, 2);
    assert_false(file_exists(s.fd, ASIDE_OF_TEST));
    assert_true(has_state(s.fd, "", "new", "old"));
    for (size_t i = 0; i < sizeof theirs / sizeof theirs[0]; i++) {
        assert_true(has_state(s.fd, theirs[i], "theirs", "new"));
    }
    assert_true(restore_accept(s.fd, &removed, &st));
    assert_int_equal(removed, 0);
    scratch_remove(&s);
}

static void a_state_that_is_decided_for_says_where_the_old_one_goes(void **state) {
    static const char *const bad[] = {"", "../evil", "/tmp", "replaced.x", "restore.new", "replaced.20260101_000000.000/x"};
    struct scratch s;
    struct status st = {0};
    (void)state;
    scratch_make(&s);
    make_state(s.fd, "", "old");
    make_state(s.fd, RESTORE_READY, "new");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        file_write(s.fd, RESTORE_READY "/" RESTORE_ASIDE_FILE, slice_str(bad[i]));
        assert_false(restore_complete(s.fd, NULL, &st));
        assert_true(has_state(s.fd, "", "old", "new"));
        assert_false(restore_none_pending(s.fd, &st));
        assert_int_equal(st.code, STATUS_CONFLICT);
    }
    scratch_remove(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_switch_killed_everywhere),
        cmocka_unit_test(an_undo_killed_everywhere),
        cmocka_unit_test(a_switch_that_fails_everywhere),
        cmocka_unit_test(an_undo_that_fails_everywhere),
        cmocka_unit_test(what_was_replaced_is_kept_and_comes_back),
        cmocka_unit_test(what_was_replaced_last_comes_back_first),
        cmocka_unit_test(a_new_directory_has_nothing_to_keep),
        cmocka_unit_test(only_what_is_ours_is_removed),
        cmocka_unit_test(a_state_that_is_decided_for_says_where_the_old_one_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
