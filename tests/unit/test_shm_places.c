/* Places: never more holders than places, whoever dies; what a dead one held is given back. */
#include "shm/places.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { PLACES = 3, PROCESSES = 8, TURNS = 20000 };

static void test_count(void **state) {
    struct places p;
    (void)state;
    places_init(&p, PLACES);
    for (uint32_t who = 0; who < PLACES; who++) {
        assert_true(places_take(&p, who));
    }
    assert_false(places_take(&p, PLACES));
    assert_int_equal(places_taken(&p), PLACES);
    places_leave(&p, PLACES); /* who has none gives none back */
    assert_false(places_take(&p, PLACES));
    places_leave(&p, 1);
    assert_true(places_take(&p, PLACES));
    assert_false(places_take(&p, 1));
}

/* The count is where any worker can write: a wild one reaches no further than the array. */
static void test_wild_count(void **state) {
    struct places p;
    (void)state;
    places_init(&p, UINT32_MAX);
    assert_int_equal(p.count, PLACES_MAX);
    p.count = UINT32_MAX;
    for (uint32_t who = 0; who < PLACES_MAX; who++) {
        assert_true(places_take(&p, who));
    }
    assert_false(places_take(&p, PLACES_MAX));
}

struct shared {
    struct places places;
    uint32_t inside;
    uint32_t most;
};

static void note_most(struct shared *s, uint32_t now) {
    uint32_t most = __atomic_load_n(&s->most, __ATOMIC_SEQ_CST);
    while (now > most && !__atomic_compare_exchange_n(&s->most, &most, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
}

static void test_processes(void **state) {
    struct shared *s =
        (struct shared *)mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid[PROCESSES];
    (void)state;
    assert_true(s != MAP_FAILED);
    places_init(&s->places, PLACES);
    for (uint32_t who = 0; who < PROCESSES; who++) {
        pid[who] = fork();
        if (pid[who] == 0) {
            for (int i = 0; i < TURNS; i++) {
                if (places_take(&s->places, who)) {
                    note_most(s, __atomic_add_fetch(&s->inside, 1, __ATOMIC_SEQ_CST));
                    (void)__atomic_sub_fetch(&s->inside, 1, __ATOMIC_SEQ_CST);
                    places_leave(&s->places, who);
                }
            }
            _exit(EXIT_SUCCESS);
        }
    }
    for (uint32_t who = 0; who < PROCESSES; who++) {
        int status = 0;
        assert_int_equal(waitpid(pid[who], &status, 0), pid[who]);
        assert_true(WIFEXITED(status));
    }
    assert_in_range(s->most, 1, PLACES);
    assert_int_equal(places_taken(&s->places), 0);
    (void)munmap(s, sizeof *s);
}

static void test_death(void **state) {
    struct places *p = (struct places *)mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0;
    (void)state;
    assert_true(p != MAP_FAILED);
    places_init(p, 1);
    pid_t pid = fork();
    if (pid == 0) {
        (void)places_take(p, 5);
        (void)kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_false(places_take(p, 6));
    places_leave(p, 5);
    assert_true(places_take(p, 6));
    (void)munmap(p, sizeof *p);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_count), cmocka_unit_test(test_wild_count),
                                       cmocka_unit_test(test_processes), cmocka_unit_test(test_death)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
