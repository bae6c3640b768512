/* test_proc_tasks.c - the table of tasks and the copy that workers read. */
#include "proc/tasks.h"
#include "store/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct service_figures figures;
static const struct uuid library = {{7, 7, 7}};

static struct tasks *make(void) {
    struct tasks *t = NULL;
    struct status st;
    memset(&figures, 0, sizeof figures);
    assert_true(tasks_new(&figures, &t, &st));
    return t;
}

static const struct figures_task *shown(const struct uuid *id) {
    for (size_t i = 0; i < FIGURES_TASKS; i++) {
        if (figures.task[i].state != TASK_NONE && uuid_equal(&figures.task[i].id, id)) {
            assert_int_equal(figures.task[i].sequence % 2, 0); /* whole */
            return &figures.task[i];
        }
    }
    fail_msg("the task is not shown");
    return NULL;
}

static void a_task_from_begin_to_end(void **state) {
    struct tasks *t = make();
    struct uuid id;
    struct uuid running;
    struct uuid of;
    struct status st;
    (void)state;
    assert_false(tasks_begin_next(t, TASK_REBUILD, &running, &of));
    assert_true(tasks_add(t, TASK_REBUILD, &library, NULL, &id, &st));
    assert_int_equal(shown(&id)->state, TASK_PENDING);
    assert_true(tasks_find_live(t, TASK_REBUILD, &library, &running));
    assert_false(tasks_find_live(t, TASK_SNAPSHOT, NULL, &running));
    assert_false(tasks_begin_next(t, TASK_SNAPSHOT, &running, &of));
    assert_true(tasks_begin_next(t, TASK_REBUILD, &running, &of));
    assert_true(uuid_equal(&running, &id) && uuid_equal(&of, &library));
    assert_int_equal(shown(&id)->state, TASK_RUNNING);
    assert_true(tasks_find_live(t, TASK_REBUILD, &library, &running));
    assert_false(tasks_find_pending(t, TASK_REBUILD, &library, &running));
    tasks_progress(t, &id, 3, 9);
    assert_int_equal(shown(&id)->done, 3);
    assert_int_equal(shown(&id)->total, 9);
    tasks_finish(t, &id, NULL);
    assert_int_equal(shown(&id)->state, TASK_SUCCEEDED);
    assert_true(shown(&id)->finished_at >= shown(&id)->started_at);
    assert_false(tasks_find_live(t, TASK_REBUILD, &library, &running));
    tasks_free(t);
}

static void cancelling(void **state) {
    struct tasks *t = make();
    struct uuid pending;
    struct uuid running;
    struct uuid of;
    struct status st;
    enum task_kind kind;
    (void)state;
    assert_true(tasks_add(t, TASK_SNAPSHOT, NULL, NULL, &running, &st));
    assert_true(tasks_begin_next(t, TASK_SNAPSHOT, &running, &of));
    assert_true(tasks_add(t, TASK_SNAPSHOT, NULL, NULL, &pending, &st));
    assert_true(tasks_cancel(t, &pending, &kind, &st));
    assert_int_equal(kind, TASK_SNAPSHOT);
    assert_int_equal(shown(&pending)->state, TASK_CANCELLED);
    assert_false(tasks_cancel(t, &pending, &kind, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    assert_false(tasks_cancel_wanted(t, &running));
    assert_true(tasks_cancel(t, &running, &kind, &st));
    assert_true(tasks_cancel_wanted(t, &running));
    assert_int_equal(shown(&running)->state, TASK_RUNNING);
    status_clear(&st);
    tasks_finish(t, &running, &st);
    assert_int_equal(shown(&running)->state, TASK_CANCELLED);
    assert_false(tasks_cancel(t, &library, &kind, &st));
    assert_int_equal(st.code, STATUS_NOT_FOUND);
    assert_int_equal(st.subject, SUBJECT_TASK);
    tasks_free(t);
}

static void the_oldest_finished_gives_its_place(void **state) {
    struct tasks *t = make();
    struct uuid id[FIGURES_TASKS];
    struct uuid one_more;
    struct uuid begun;
    struct uuid of;
    struct status st;
    (void)state;
    for (size_t i = 0; i < FIGURES_TASKS; i++) {
        assert_true(tasks_add(t, TASK_REBUILD, &library, NULL, &id[i], &st));
    }
    assert_false(tasks_add(t, TASK_REBUILD, &library, NULL, &one_more, &st));
    assert_int_equal(st.code, STATUS_BUSY);
    assert_true(tasks_begin_next(t, TASK_REBUILD, &begun, &of));
    (void)status_set(&st, STATUS_IO, "a disk that is full of errors");
    tasks_finish(t, &begun, &st);
    assert_int_equal(shown(&begun)->state, TASK_FAILED);
    assert_string_equal(shown(&begun)->error, "a disk that is full of errors");
    assert_true(tasks_add(t, TASK_SNAPSHOT, NULL, NULL, &one_more, &st));
    assert_int_equal(shown(&one_more)->state, TASK_PENDING);
    assert_string_equal(shown(&one_more)->error, "");
    assert_true(tasks_cancel_wanted(t, &begun)); /* forgotten */
    tasks_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_from_begin_to_end),
        cmocka_unit_test(cancelling),
        cmocka_unit_test(the_oldest_finished_gives_its_place),
    };
    return cmocka_run_group_tests_name("proc_tasks", tests, NULL, NULL);
}
