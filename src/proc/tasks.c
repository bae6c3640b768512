/*
 * tasks.c - the table of tasks (tasks.h).
 *
 * The table is the supervisor's own; workers read the copy in the figures, which nothing is decided by. A copy is written under a
 * sequence number: odd while it is being written, so that a reader who met the middle of it sees that and tries again.
 */
#include "proc/tasks.h"

#include "base/clock.h"
#include "proc/lock.h"
#include "shm/atomics.h"
#include "store/model.h"

#include <stdio.h>
#include <stdlib.h>

struct task {
    struct figures_task shown; /* sequence is not used here */
    bool cancel_wanted;
};

struct tasks {
    struct lock mutex;
    struct service_figures *figures;
    struct task task[FIGURES_TASKS];
};

bool tasks_new(struct service_figures *figures, struct tasks **ret, struct status *st) {
    struct tasks *t = (struct tasks *)calloc(1, sizeof *t);
    if (t == NULL) {
        return status_no_memory(st);
    }
    lock_init(&t->mutex, LOCK_TASKS);
    t->figures = figures;
    *ret = t;
    return true;
}

void tasks_free(struct tasks *t) {
    if (t != NULL) {
        lock_fini(&t->mutex);
        free(t);
    }
}

static bool is_live(const struct task *task) {
    return task->shown.state == TASK_PENDING || task->shown.state == TASK_RUNNING;
}

static void show_locked(struct tasks *t, const struct task *task) {
    struct figures_task *out = &t->figures->task[task - t->task];
    uint64_t sequence = load_relaxed_u64(&out->sequence);
    store_relaxed_u64(&out->sequence, sequence + 1);
    /* pairs with: FIGURES_TASK. Without the fence the new fields could be seen under the old even number. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    out->id = task->shown.id;
    out->library = task->shown.library;
    out->kind = task->shown.kind;
    out->state = task->shown.state;
    out->done = task->shown.done;
    out->total = task->shown.total;
    out->started_at = task->shown.started_at;
    out->finished_at = task->shown.finished_at;
    out->overlap = task->shown.overlap;
    out->overlap_queries = task->shown.overlap_queries;
    out->paused = task->shown.paused;
    memcpy(out->error, task->shown.error, sizeof out->error);
    /* pairs with: FIGURES_TASK. Without the release the even number could be seen before the last fields. */
    store_release_u64(&out->sequence, sequence + 2);
}

static struct task *find_locked(struct tasks *t, const struct uuid *id) {
    for (size_t i = 0; i < FIGURES_TASKS; i++) {
        if (t->task[i].shown.state != TASK_NONE && uuid_equal(&t->task[i].shown.id, id)) {
            return &t->task[i];
        }
    }
    return NULL;
}

/* An empty place, else that of the task that was finished first. */
static struct task *free_place_locked(struct tasks *t) {
    struct task *oldest = NULL;
    for (size_t i = 0; i < FIGURES_TASKS; i++) {
        struct task *task = &t->task[i];
        if (task->shown.state == TASK_NONE) {
            return task;
        }
        if (!is_live(task) && (oldest == NULL || task->shown.finished_at < oldest->shown.finished_at)) {
            oldest = task;
        }
    }
    return oldest;
}

bool tasks_add(struct tasks *t, enum task_kind kind, const struct uuid *library, const struct uuid *id, struct uuid *ret_id,
               struct status *st) {
    bool ok = false;
    lock_take(&t->mutex);
    struct task *task = free_place_locked(t);
    if (task == NULL) {
        (void)status_set(st, STATUS_BUSY, "%d tasks are under way already", FIGURES_TASKS);
        goto out;
    }
    *task = (struct task){.shown = {.kind = (uint32_t)kind, .state = TASK_PENDING, .started_at = clock_wall_us()}};
    if (id != NULL) {
        task->shown.id = *id;
    } else {
        uuid_make(&task->shown.id);
    }
    if (library != NULL) {
        task->shown.library = *library;
    }
    show_locked(t, task);
    *ret_id = task->shown.id;
    ok = true;
out:
    lock_release(&t->mutex);
    return ok;
}

static bool find_kind(struct tasks *t, enum task_kind kind, bool running_too, const struct uuid *library, struct uuid *ret_id) {
    bool found = false;
    lock_take(&t->mutex);
    for (size_t i = 0; i < FIGURES_TASKS && !found; i++) {
        const struct task *task = &t->task[i];
        found = (task->shown.state == TASK_PENDING || (running_too && task->shown.state == TASK_RUNNING)) &&
                task->shown.kind == (uint32_t)kind && (library == NULL || uuid_equal(library, &task->shown.library));
        if (found) {
            *ret_id = task->shown.id;
        }
    }
    lock_release(&t->mutex);
    return found;
}

bool tasks_find_pending(struct tasks *t, enum task_kind kind, const struct uuid *library, struct uuid *ret_id) {
    return find_kind(t, kind, false, library, ret_id);
}

bool tasks_find_live(struct tasks *t, enum task_kind kind, const struct uuid *library, struct uuid *ret_id) {
    return find_kind(t, kind, true, library, ret_id);
}

bool tasks_begin_next(struct tasks *t, enum task_kind kind, struct uuid *ret_id, struct uuid *ret_library) {
    struct task *next = NULL;
    lock_take(&t->mutex);
    for (size_t i = 0; i < FIGURES_TASKS; i++) {
        struct task *task = &t->task[i];
        if (task->shown.state == TASK_PENDING && task->shown.kind == (uint32_t)kind &&
            (next == NULL || task->shown.started_at < next->shown.started_at)) {
            next = task;
        }
    }
    if (next != NULL) {
        next->shown.state = TASK_RUNNING;
        *ret_id = next->shown.id;
        *ret_library = next->shown.library;
        show_locked(t, next);
    }
    lock_release(&t->mutex);
    return next != NULL;
}

enum task_state tasks_state(struct tasks *t, const struct uuid *id) {
    lock_take(&t->mutex);
    const struct task *task = find_locked(t, id);
    enum task_state state = task != NULL ? (enum task_state)task->shown.state : TASK_NONE;
    lock_release(&t->mutex);
    return state;
}

void tasks_begin(struct tasks *t, const struct uuid *id) {
    lock_take(&t->mutex);
    struct task *task = find_locked(t, id);
    if (task != NULL && task->shown.state == TASK_PENDING) {
        task->shown.state = TASK_RUNNING;
        show_locked(t, task);
    }
    lock_release(&t->mutex);
}

void tasks_overlap(struct tasks *t, const struct uuid *id, double overlap, uint32_t queries) {
    lock_take(&t->mutex);
    struct task *task = find_locked(t, id);
    if (task != NULL) {
        task->shown.overlap = overlap;
        task->shown.overlap_queries = queries;
        show_locked(t, task);
    }
    lock_release(&t->mutex);
}

bool tasks_cancel(struct tasks *t, const struct uuid *id, enum task_kind *ret_kind, struct status *st) {
    bool ok = true;
    lock_take(&t->mutex);
    struct task *task = find_locked(t, id);
    if (task == NULL) {
        ok = status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_TASK, "there is no such task");
    } else if (!is_live(task)) {
        ok = status_set_subject(st, STATUS_CONFLICT, SUBJECT_TASK, "the task is over");
    } else {
        task->cancel_wanted = true;
        if (task->shown.state == TASK_PENDING) {
            task->shown.state = TASK_CANCELLED;
            task->shown.finished_at = clock_wall_us();
            show_locked(t, task);
        }
        *ret_kind = (enum task_kind)task->shown.kind;
    }
    lock_release(&t->mutex);
    return ok;
}

bool tasks_cancel_wanted(struct tasks *t, const struct uuid *id) {
    lock_take(&t->mutex);
    const struct task *task = find_locked(t, id);
    bool wanted = task == NULL || task->cancel_wanted;
    lock_release(&t->mutex);
    return wanted;
}

void tasks_pause(struct tasks *t, const struct uuid *id, enum task_pause pause, const char *why) {
    char line[sizeof((struct figures_task *)0)->error];
    (void)snprintf(line, sizeof line, "%.*s", (int)sizeof line - 1, why);
    lock_take(&t->mutex);
    struct task *task = find_locked(t, id);
    if (task != NULL && (task->shown.paused != (uint32_t)pause || strcmp(task->shown.error, line) != 0)) {
        task->shown.paused = (uint32_t)pause;
        memcpy(task->shown.error, line, sizeof line);
        show_locked(t, task);
    }
    lock_release(&t->mutex);
}

void tasks_progress(struct tasks *t, const struct uuid *id, uint64_t done, uint64_t total) {
    lock_take(&t->mutex);
    struct task *task = find_locked(t, id);
    if (task != NULL && (task->shown.done != done || task->shown.total != total)) {
        task->shown.done = done;
        task->shown.total = total;
        show_locked(t, task);
    }
    lock_release(&t->mutex);
}

void tasks_finish(struct tasks *t, const struct uuid *id, const struct status *why) {
    lock_take(&t->mutex);
    struct task *task = find_locked(t, id);
    if (task != NULL) {
        bool failed = why != NULL && why->code != STATUS_OK;
        task->shown.state = why == NULL ? TASK_SUCCEEDED : failed ? TASK_FAILED : TASK_CANCELLED;
        task->shown.finished_at = clock_wall_us();
        task->shown.paused = PAUSE_NONE;
        (void)snprintf(task->shown.error, sizeof task->shown.error, "%.*s", (int)sizeof task->shown.error - 1, failed ? why->detail : "");
        show_locked(t, task);
    }
    lock_release(&t->mutex);
}
