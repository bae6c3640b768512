/* test_proc_intake.c - which connection a worker takes: searches find it however many writes wait, and no write is forgotten. */
#include "base/io.h"
#include "proc/intake.h"

#include <fastcgi.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { WORKERS = 3, PLACES = 2, CLIENTS_MAX = 16 };

struct fixture {
    struct control *control;
    int socket[INTAKE_SOCKETS];
    struct sockaddr_un address[INTAKE_SOCKETS];
    socklen_t address_len[INTAKE_SOCKETS];
    struct intake worker[WORKERS]; /* of one process: only one waits at a time */
    int client[CLIENTS_MAX];
    size_t clients;
};

static int listening(struct sockaddr_un *address, socklen_t *len) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    *len = sizeof *address;
    /* An abstract name, which the kernel chooses. */
    assert_int_equal(bind(fd, (struct sockaddr *)address, sizeof address->sun_family), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)address, len), 0);
    assert_int_equal(listen(fd, CLIENTS_MAX), 0);
    return fd;
}

static int set_up(void **state) {
    struct fixture *f = (struct fixture *)calloc(1, sizeof *f);
    struct status st;
    int control_fd = -1;
    assert_non_null(f);
    (void)signal(SIGTERM, SIG_IGN); /* forgets one that pends of the test before */
    assert_true(control_create(WORKERS, 8, 1, 8, &control_fd, &f->control, &st));
    io_close(&control_fd);
    f->control->accepting = 1;
    places_init(&f->control->writers, PLACES);
    places_init(&f->control->desks, PLACES);
    places_init(&f->control->readers, WORKERS);
    for (int i = 0; i < INTAKE_SOCKETS; i++) {
        f->socket[i] = listening(&f->address[i], &f->address_len[i]);
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        f->worker[i] = (struct intake){.peers = {.anyone = true}, .peer_timeout_ms = 1000};
        assert_true(intake_begin(&f->worker[i], f->control, i, f->socket, &st));
    }
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = (struct fixture *)*state;
    for (size_t i = 0; i < f->clients; i++) {
        io_close(&f->client[i]);
    }
    for (int i = 0; i < WORKERS; i++) {
        intake_end(&f->worker[i]);
    }
    for (int i = 0; i < INTAKE_SOCKETS; i++) {
        io_close(&f->socket[i]);
    }
    control_unmap(f->control);
    free(f);
    return 0;
}

/* A client of one of the sockets, with a number after the begin of its request. */
static void come(struct fixture *f, enum intake_socket where, uint8_t number) {
    FCGI_BeginRequestRecord begin = {.header = {.version = FCGI_VERSION_1, .type = FCGI_BEGIN_REQUEST, .contentLengthB0 = 8},
                                     .body = {.roleB0 = FCGI_RESPONDER}};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(f->clients < CLIENTS_MAX);
    assert_int_equal(connect(fd, (struct sockaddr *)&f->address[where], f->address_len[where]), 0);
    assert_int_equal(send(fd, &begin, sizeof begin, 0), (ssize_t)sizeof begin);
    assert_int_equal(send(fd, &number, 1, 0), 1);
    f->client[f->clients++] = fd;
}

/* Which of them the worker has taken. */
static int number_of(int fd) {
    uint8_t got[sizeof(FCGI_BeginRequestRecord) + 1];
    assert_int_equal(recv(fd, got, sizeof got, MSG_WAITALL), (ssize_t)sizeof got);
    (void)close(fd);
    return got[sizeof got - 1];
}

static int next(struct fixture *f, int worker) {
    int fd = intake_next(&f->worker[worker]);
    return fd < 0 ? -1 : number_of(fd);
}

static void waiting_writes_leave_a_worker_to_searches(void **state) {
    struct fixture *f = (struct fixture *)*state;
    for (uint8_t i = 0; i < 5; i++) {
        come(f, INTAKE_WRITES, i);
    }
    assert_int_equal(next(f, 0), 0);
    assert_int_equal(next(f, 1), 1);
    come(f, INTAKE_MAIN, 100);
    assert_int_equal(next(f, 2), 100);
    assert_false(f->worker[2].has_place[INTAKE_WRITES]);
    assert_true(f->worker[2].turned_away[INTAKE_WRITES]);
    intake_done(&f->worker[2]);
    come(f, INTAKE_MAIN, 101);
    assert_int_equal(next(f, 2), 101);
    intake_done(&f->worker[2]);
    assert_int_equal(places_taken(&f->control->writers), PLACES);
}

static void as_many_searches_as_there_are_places(void **state) {
    struct fixture *f = (struct fixture *)*state;
    places_init(&f->control->readers, 1);
    for (uint8_t i = 0; i < 3; i++) {
        come(f, INTAKE_MAIN, i);
    }
    come(f, INTAKE_WRITES, 10);
    assert_int_equal(next(f, 0), 10);
    assert_int_equal(next(f, 1), 0);
    come(f, INTAKE_WRITES, 11);
    assert_int_equal(next(f, 2), 11); /* the place for searches is taken */
    for (uint8_t i = 1; i < 3; i++) {
        intake_done(&f->worker[1]);
        assert_int_equal(next(f, 1), i);
    }
    intake_done(&f->worker[1]);
    assert_int_equal(places_taken(&f->control->readers), 0);
}

static void who_gives_a_place_back_takes_the_next_write(void **state) {
    struct fixture *f = (struct fixture *)*state;
    for (uint8_t i = 0; i < 4; i++) {
        come(f, INTAKE_WRITES, i);
    }
    assert_int_equal(next(f, 0), 0);
    for (uint8_t i = 1; i < 4; i++) {
        intake_done(&f->worker[0]);
        assert_int_equal(next(f, 0), i); /* in the order in which they came */
        assert_true(f->worker[0].has_place[INTAKE_WRITES]);
    }
    intake_done(&f->worker[0]);
    assert_int_equal(places_taken(&f->control->writers), 0);
}

/* Few have a desk and take more while they have some in hand; a worker that finds none leaves the writes to them. */
static void who_has_a_desk_takes_more(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_true(intake_watch_link(&f->worker[0], pair[0], &st));
    places_init(&f->control->desks, 1);
    for (uint8_t i = 0; i < 4; i++) {
        come(f, INTAKE_WRITES, i);
    }
    assert_int_equal(next(f, 0), 0);
    come(f, INTAKE_MAIN, 100);
    assert_int_equal(next(f, 1), 100); /* there is a place for a write, but no desk */
    assert_true(f->worker[1].turned_away[INTAKE_WRITES]);
    intake_done(&f->worker[1]);
    assert_int_equal(number_of(intake_another(&f->worker[0])), 1);
    assert_int_equal(send(pair[1], "x", 1, 0), 1);
    intake_wait(&f->worker[0], true, -1, INT64_MAX);
    assert_true(f->worker[0].link_news);
    assert_int_equal(number_of(intake_another(&f->worker[0])), 2);
    intake_leave_desk(&f->worker[0]); /* its write is long */
    assert_int_equal(next(f, 1), 3);
    assert_int_equal(places_taken(&f->control->writers), 2);
    assert_int_equal(intake_another(&f->worker[1]), -1);
    intake_done(&f->worker[0]);
    intake_done(&f->worker[1]);
    assert_int_equal(places_taken(&f->control->desks), 0);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

/* Stopped, or looping: somebody else takes what waits, without a desk. */
static void writes_outlive_desks_that_stand_still(void **state) {
    struct fixture *f = (struct fixture *)*state;
    places_init(&f->control->desks, 1);
    for (uint8_t i = 0; i < 2; i++) {
        come(f, INTAKE_WRITES, i);
    }
    assert_int_equal(next(f, 0), 0);
    assert_int_equal(next(f, 1), 1); /* after a while in which nothing was taken */
    intake_done(&f->worker[1]);
    assert_int_equal(places_taken(&f->control->desks), 1);
}

/* The holders die; nobody tells the worker that was turned away. */
static void a_write_outlives_who_had_the_places(void **state) {
    struct fixture *f = (struct fixture *)*state;
    for (uint8_t i = 0; i < 3; i++) {
        come(f, INTAKE_WRITES, i);
    }
    assert_int_equal(next(f, 0), 0);
    assert_int_equal(next(f, 1), 1);
    come(f, INTAKE_MAIN, 100);
    assert_int_equal(next(f, 2), 100); /* woken by the write, too, and turned away */
    intake_done(&f->worker[2]);
    places_leave(&f->control->writers, 0);
    places_leave(&f->control->writers, 1);
    assert_int_equal(next(f, 2), 2);
}

/* After a while, in a process of its own; the number is the newcomer's. */
static pid_t later(struct fixture *f, bool go, uint8_t newcomer) {
    pid_t us = getpid();
    pid_t child = fork();
    if (child == 0) {
        (void)usleep(150000);
        if (!go) {
            come(f, INTAKE_WRITES, newcomer);
            (void)usleep(150000); /* it stays until it was taken */
        }
        _exit(!go || kill(us, SIGTERM) == 0 ? 0 : 1);
    }
    assert_true(child > 0);
    return child;
}

static void who_is_turned_away_is_not_woken_by_newcomers(void **state) {
    struct fixture *f = (struct fixture *)*state;
    for (uint8_t i = 0; i < 3; i++) {
        come(f, INTAKE_WRITES, i);
    }
    assert_int_equal(next(f, 0), 0);
    assert_int_equal(next(f, 1), 1);
    pid_t child = later(f, true, 0);
    assert_int_equal(intake_next(&f->worker[2]), -1);
    assert_false(f->worker[2].watched[INTAKE_WRITES]);
    assert_true(f->worker[2].watched[INTAKE_MAIN]);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void who_was_turned_away_is_woken_again_later(void **state) {
    struct fixture *f = (struct fixture *)*state;
    for (uint8_t i = 0; i < 3; i++) {
        come(f, INTAKE_WRITES, i);
    }
    assert_int_equal(next(f, 0), 0);
    assert_int_equal(next(f, 1), 1);
    come(f, INTAKE_MAIN, 100);
    assert_int_equal(next(f, 2), 100);
    assert_true(f->worker[2].turned_away[INTAKE_WRITES]);
    intake_done(&f->worker[2]);
    intake_done(&f->worker[0]);
    assert_int_equal(next(f, 0), 2);
    intake_done(&f->worker[0]);
    pid_t child = later(f, false, 3);
    assert_int_equal(next(f, 2), 3);
    assert_true(f->worker[2].watched[INTAKE_WRITES]);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void searches_and_writes_take_turns(void **state) {
    struct fixture *f = (struct fixture *)*state;
    for (uint8_t i = 0; i < 2; i++) {
        come(f, INTAKE_MAIN, i);
        come(f, INTAKE_WRITES, (uint8_t)(10 + i));
    }
    bool seen[20] = {false};
    for (int i = 0; i < 4; i++) {
        int n = next(f, 0);
        assert_in_range(n, 0, 11);
        seen[n] = true;
        intake_done(&f->worker[0]);
    }
    assert_true(seen[0] && seen[1] && seen[10] && seen[11]);
}

static void who_is_told_to_go_takes_one_more_of_each(void **state) {
    struct fixture *f = (struct fixture *)*state;
    for (uint8_t i = 0; i < 3; i++) {
        come(f, INTAKE_MAIN, i);
        come(f, INTAKE_WRITES, (uint8_t)(10 + i));
    }
    assert_int_equal(raise(SIGTERM), 0); /* blocked: it is pending */
    bool seen[20] = {false};
    int count = 0;
    for (int n = next(f, 0); n >= 0; n = next(f, 0)) {
        seen[n] = true;
        count++;
        intake_done(&f->worker[0]);
    }
    assert_int_equal(count, 2);
    assert_true(seen[0] && seen[10]);
    assert_int_equal(places_taken(&f->control->writers), 0);
}

static void when_the_server_stops_both_queues_are_emptied(void **state) {
    struct fixture *f = (struct fixture *)*state;
    for (uint8_t i = 0; i < 3; i++) {
        come(f, INTAKE_MAIN, i);
        come(f, INTAKE_WRITES, (uint8_t)(10 + i));
    }
    f->control->accepting = 0;
    assert_int_equal(raise(SIGTERM), 0);
    int count = 0;
    while (next(f, 0) >= 0) {
        intake_done(&f->worker[0]);
        count++;
    }
    assert_int_equal(count, 6);
}

static int64_t ns(clockid_t clock) {
    struct timespec t;
    assert_int_equal(clock_gettime(clock, &t), 0);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Without descriptors it must neither spin nor forget who waits. */
static void without_descriptors_it_pauses(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    come(f, INTAKE_MAIN, 7);
    come(f, INTAKE_WRITES, 8);
    struct rlimit none = {.rlim_cur = STDERR_FILENO + 1, .rlim_max = before.rlim_max};
    pid_t us = getpid();
    pid_t child = fork();
    if (child == 0) {
        (void)usleep(300000);
        _exit(kill(us, SIGTERM) == 0 ? 0 : 1);
    }
    assert_true(child > 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int64_t wall = ns(CLOCK_MONOTONIC);
    int64_t cpu = ns(CLOCK_PROCESS_CPUTIME_ID);
    int fd = intake_next(&f->worker[0]);
    cpu = ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = ns(CLOCK_MONOTONIC) - wall;
    bool exhausted = f->worker[0].exhausted;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(fd, -1);
    assert_true(exhausted);
    assert_true(cpu < wall / 4);
    assert_int_equal(places_taken(&f->control->writers), 0);
    bool seen[2] = {false, false};
    for (int i = 0; i < 2; i++) {
        int n = next(f, 1); /* another worker, with descriptors */
        assert_in_range(n, 7, 8);
        seen[n - 7] = true;
        intake_done(&f->worker[1]);
    }
    assert_true(seen[0] && seen[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(waiting_writes_leave_a_worker_to_searches, set_up, tear_down),
        cmocka_unit_test_setup_teardown(as_many_searches_as_there_are_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_gives_a_place_back_takes_the_next_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_has_a_desk_takes_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(writes_outlive_desks_that_stand_still, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_write_outlives_who_had_the_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_turned_away_is_not_woken_by_newcomers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_was_turned_away_is_woken_again_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(searches_and_writes_take_turns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_told_to_go_takes_one_more_of_each, set_up, tear_down),
        cmocka_unit_test_setup_teardown(when_the_server_stops_both_queues_are_emptied, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_descriptors_it_pauses, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("proc_intake", tests, NULL, NULL);
}
