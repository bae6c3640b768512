/* test_proc_handover.c - sockets from the environment: which are taken, which refused, and what stays of their files. */
#include "base/io.h"
#include "proc/handover.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { FIRST_FD = 3, DIRECTORY_MAX = 88 }; /* a socket's path has at most 107 bytes */

struct fixture {
    char directory[DIRECTORY_MAX];
    char path[LISTENERS][DIRECTORY_MAX + 24];
};

static int set_up(void **state) {
    struct fixture *f = (struct fixture *)calloc(1, sizeof *f);
    const char *base = getenv("TMPDIR");
    char directory[DIRECTORY_MAX];
    assert_non_null(f);
    int len = snprintf(directory, sizeof directory, "%s/quire-handover.XXXXXX", base == NULL ? "/tmp" : base);
    assert_in_range(len, 0, sizeof directory - 1);
    assert_non_null(mkdtemp(directory));
    memcpy(f->directory, directory, sizeof directory);
    for (int i = 0; i < LISTENERS; i++) {
        (void)snprintf(f->path[i], sizeof f->path[i], "%s/%d.sock", directory, i);
    }
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = (struct fixture *)*state;
    for (int i = 0; i < LISTENERS; i++) {
        (void)unlink(f->path[i]);
    }
    assert_int_equal(rmdir(f->directory), 0);
    free(f);
    return 0;
}

/* As systemd hands it over: blocking, and at that number. */
static void hold(const char *path, int at, bool listens) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_true(!listens || listen(fd, 1) == 0);
    if (fd != at) {
        assert_int_equal(dup2(fd, at), at);
        (void)close(fd);
    }
}

static void say(long pid, int count, int own) {
    char text[32];
    (void)snprintf(text, sizeof text, "%ld", pid);
    assert_int_equal(setenv("LISTEN_PID", text, 1), 0);
    (void)snprintf(text, sizeof text, "%d", count);
    assert_int_equal(setenv("LISTEN_FDS", text, 1), 0);
    (void)snprintf(text, sizeof text, "%d", own);
    assert_int_equal(setenv("QUIRE_OWN_SOCKETS", text, 1), 0);
}

/* Runs in a process of its own, whose descriptors from 3 on are free. */
static void apart(void (*fn)(const struct fixture *f), const struct fixture *f) {
    int how = 0;
    pid_t pid = fork();
    if (pid == 0) {
        (void)close_range(FIRST_FD, ~0U, 0);
        fn(f);
        _exit(EXIT_SUCCESS);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), EXIT_SUCCESS);
}

#define NEED(condition)                                                                                                        \
    do {                                                                                                                       \
        if (!(condition)) {                                                                                                    \
            (void)fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                                      \
            _exit(EXIT_FAILURE);                                                                                               \
        }                                                                                                                      \
    } while (0)

/* In any order; non-blocking and closed on exec from then on; and the environment forgets it. */
static void taken_by_path(const struct fixture *f) {
    struct handover h;
    struct status st;
    hold(f->path[1], FIRST_FD, true);
    hold(f->path[0], FIRST_FD + 1, true);
    say((long)getpid(), 2, 1);
    NEED(handover_receive(&h, &st) && h.count == 2);
    NEED(getenv("LISTEN_PID") == NULL && getenv("LISTEN_FDS") == NULL && getenv("QUIRE_OWN_SOCKETS") == NULL);
    for (int i = 0; i < LISTENERS; i++) {
        int fd = -1;
        bool own = false;
        NEED(handover_take(&h, f->path[i], &fd, &own) && fd == FIRST_FD + 1 - i);
        NEED(own == (i == 1));
        NEED((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        NEED(!handover_take(&h, f->path[i], &fd, &own));
    }
    NEED(handover_end(&h, &st));
}

static void what_is_not_ours(const struct fixture *f) {
    struct handover h;
    struct status st;
    int fd = -1;
    bool own = false;
    hold(f->path[0], FIRST_FD, true);
    say((long)getpid() + 1, 1, 0);
    NEED(handover_receive(&h, &st) && h.count == 0 && !handover_take(&h, f->path[0], &fd, &own) && handover_end(&h, &st));
    NEED(fcntl(FIRST_FD, F_GETFD) >= 0);
    say((long)getpid(), HANDOVER_MAX + 1, 0);
    NEED(!handover_receive(&h, &st) && st.code == STATUS_CONFIG);
    say((long)getpid(), 2, 0); /* the second is no descriptor */
    NEED(!handover_receive(&h, &st));
}

static void one_that_nobody_wants(const struct fixture *f) {
    struct handover h;
    struct status st;
    int fd = -1;
    bool own = false;
    hold(f->path[0], FIRST_FD, true);
    hold(f->path[1], FIRST_FD + 1, false); /* it does not listen */
    say((long)getpid(), 2, 0);
    NEED(handover_receive(&h, &st) && handover_take(&h, f->path[0], &fd, &own) && !handover_take(&h, f->path[1], &fd, &own));
    NEED(!handover_end(&h, &st) && st.code == STATUS_CONFIG);
    NEED(fcntl(FIRST_FD + 1, F_GETFD) < 0);
}

/* The file of one that somebody else holds stays; of one's own it goes. One that was bound here is found by the name it has now. */
static void files(const struct fixture *f) {
    struct listener held = LISTENER_CLOSED;
    struct listener ours = LISTENER_CLOSED;
    struct handover h;
    struct status st;
    int fd = -1;
    bool own = false;
    hold(f->path[0], FIRST_FD, true);
    listener_adopt(&held, FIRST_FD, true, f->path[0]);
    NEED(listener_publish(&held, &st));
    listener_close(&held);
    NEED(access(f->path[0], F_OK) == 0);
    NEED(listener_bind(&ours, f->path[1], getegid(), &st) && listener_publish(&ours, &st));
    NEED(ours.fd == FIRST_FD);
    say((long)getpid(), 1, 1);
    NEED(handover_receive(&h, &st) && handover_take(&h, f->path[1], &fd, &own) && own && handover_end(&h, &st));
    listener_adopt(&ours, fd, !own, f->path[1]);
    listener_close(&ours);
    NEED(access(f->path[1], F_OK) != 0);
}

static void sockets_are_taken_by_their_paths(void **state) {
    apart(taken_by_path, (const struct fixture *)*state);
}
static void what_is_meant_for_others_is_left_alone(void **state) {
    apart(what_is_not_ours, (const struct fixture *)*state);
}
static void a_socket_that_is_not_configured_is_refused(void **state) {
    apart(one_that_nobody_wants, (const struct fixture *)*state);
}
static void whose_socket_it_is_decides_who_removes_it(void **state) {
    apart(files, (const struct fixture *)*state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sockets_are_taken_by_their_paths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_meant_for_others_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_socket_that_is_not_configured_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(whose_socket_it_is_decides_who_removes_it, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("proc_handover", tests, NULL, NULL);
}
