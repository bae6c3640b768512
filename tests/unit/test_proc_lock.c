/* test_proc_lock.c - a wrong order of locks ends the process at once, the right one does not. */
#include "proc/lock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Takes both, first and then second, in a child. Returns how it ended: 0, or a signal. */
static int take_both(enum lock_rank first, enum lock_rank second) {
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct rlimit no_core = {0, 0};
        struct lock a;
        struct lock b;
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGABRT, SIG_DFL);
        (void)close(STDERR_FILENO); /* the assertion has something to say */
        lock_init(&a, first);
        lock_init(&b, second);
        lock_take(&a);
        lock_take(&b);
        lock_release(&a); /* in any order */
        lock_release(&b);
        lock_take(&a);
        lock_release(&a);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void the_right_order(void **state) {
    (void)state;
    assert_int_equal(take_both(LOCK_COMMITTER, LOCK_CHILDREN), 0);
    assert_int_equal(take_both(LOCK_CHANNELS, LOCK_CHILDREN), 0);
}

static void the_wrong_order(void **state) {
    (void)state;
    assert_int_equal(take_both(LOCK_CHILDREN, LOCK_COMMITTER), SIGABRT);
    assert_int_equal(take_both(LOCK_CHANNELS, LOCK_TASKS), SIGABRT);
    assert_int_equal(take_both(LOCK_TASKS, LOCK_TASKS), SIGABRT);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_right_order), cmocka_unit_test(the_wrong_order)};
    return cmocka_run_group_tests_name("proc_lock", tests, NULL, NULL);
}
