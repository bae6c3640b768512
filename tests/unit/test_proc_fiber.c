/* test_proc_fiber.c - functions that are put aside and gone on with: in any order, with what they had on their stacks, again and again. */
#include "proc/fiber.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { FIBERS = 40, PAUSES = 5, DEEP_BYTES = 65536, DEPTH = 4 };

struct task {
    struct fiber *fiber;
    unsigned number;
    unsigned steps;
    bool kept; /* what stood on its stack was there after each pause */
};

static void count_up(void *arg) {
    struct task *t = (struct task *)arg;
    uint8_t mine[512];
    memset(mine, (int)t->number, sizeof mine);
    t->kept = true;
    for (unsigned i = 0; i < PAUSES; i++) {
        t->steps++;
        fiber_pause(t->fiber);
        for (size_t at = 0; at < sizeof mine; at++) {
            t->kept = t->kept && mine[at] == (uint8_t)t->number;
        }
    }
}

static void make(struct task *t, unsigned number) {
    struct status st;
    *t = (struct task){.number = number};
    assert_true(fiber_new(&t->fiber, &st));
}

static void many_take_turns(void **state) {
    (void)state;
    struct task tasks[FIBERS];
    for (unsigned i = 0; i < FIBERS; i++) {
        make(&tasks[i], i);
        assert_false(fiber_start(tasks[i].fiber, count_up, &tasks[i]));
    }
    for (unsigned turn = 1; turn <= PAUSES; turn++) {
        for (unsigned i = 0; i < FIBERS; i++) {
            struct task *t = &tasks[(i * 7 + turn) % FIBERS]; /* 7 and FIBERS share no factor: each once */
            assert_int_equal(t->steps, turn);
            assert_int_equal(fiber_resume(t->fiber), turn == PAUSES);
        }
    }
    for (unsigned i = 0; i < FIBERS; i++) {
        assert_true(tasks[i].kept);
        fiber_free(tasks[i].fiber);
    }
}

static void one_that_ended_is_used_again(void **state) {
    (void)state;
    struct task t;
    make(&t, 3);
    for (unsigned round = 1; round <= 100; round++) {
        bool ended = fiber_start(t.fiber, count_up, &t);
        while (!ended) {
            ended = fiber_resume(t.fiber);
        }
        assert_int_equal(t.steps, round * PAUSES);
    }
    fiber_free(t.fiber);
    fiber_free(NULL);
}

/* As deep as any request goes, and deeper. */
static unsigned deep(unsigned depth) {
    volatile uint8_t room[DEEP_BYTES];
    room[0] = (uint8_t)depth;
    room[DEEP_BYTES - 1] = 1;
    return depth == 0 ? room[DEEP_BYTES - 1] : deep(depth - 1) + room[DEEP_BYTES - 1];
}

static void go_deep(void *arg) {
    *(unsigned *)arg = deep(DEPTH);
}

static void its_stack_is_large_enough(void **state) {
    (void)state;
    struct fiber *f = NULL;
    struct status st;
    unsigned found = 0;
    assert_true(fiber_new(&f, &st));
    assert_true(fiber_start(f, go_deep, &found));
    assert_int_equal(found, DEPTH + 1);
    fiber_free(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_take_turns),
        cmocka_unit_test(one_that_ended_is_used_again),
        cmocka_unit_test(its_stack_is_large_enough),
    };
    return cmocka_run_group_tests_name("proc_fiber", tests, NULL, NULL);
}
