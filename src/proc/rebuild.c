/*
 * rebuild.c - rebuilding an index (rebuild.h): the linkers do the work, this thread says when it begins and when it is switched
 * to.
 *
 *   begin   backlog_rebuild_begin with the library's settings as they stand (a change of settings is an op before it)
 *   wait    progress into the task; a cancelled task, a deleted library or a stop gives it up
 *   switch  backlog_rebuild_switch and a publication, on the committer's thread
 */
#include "proc/rebuild.h"

#include "base/clock.h"
#include "base/log.h"
#include "proc/background.h"
#include "proc/committer.h"
#include "proc/lock.h"
#include "proc/tasks.h"
#include "proc/thread.h"
#include "shm/atomics.h"
#include "store/backlog.h"

#include <stdlib.h>

enum { LOOK_US = 100000, US_PER_MS = 1000 };

struct rebuilder {
    struct supervisor *s;
    pthread_t thread;
    bool started;
    struct lock mutex;
    pthread_cond_t wake;
    /* under the mutex */
    uint64_t wakes;
    bool stopping;
};

void rebuilder_wake(struct rebuilder *r) {
    lock_take(&r->mutex);
    r->wakes++;
    (void)pthread_cond_broadcast(&r->wake);
    lock_release(&r->mutex);
}

static bool wait_for_task(struct rebuilder *r, uint64_t *seen) {
    lock_take(&r->mutex);
    while (r->wakes == *seen && !r->stopping) {
        lock_wait(&r->mutex, &r->wake);
    }
    *seen = r->wakes;
    bool go_on = !r->stopping;
    lock_release(&r->mutex);
    return go_on;
}

/* False: stop. */
static bool wait_a_moment(struct rebuilder *r) {
    int64_t until = clock_monotonic_us() + LOOK_US;
    lock_take(&r->mutex);
    if (!r->stopping) {
        (void)lock_wait_until(&r->mutex, &r->wake, until);
    }
    bool go_on = !r->stopping;
    lock_release(&r->mutex);
    return go_on;
}

/* Waits until the new graph is complete. False with STATUS_OK in *st: it was given up. */
static bool await_graph(struct rebuilder *r, const struct uuid *task, struct library *lib, struct status *st) {
    for (;;) {
        uint64_t done = 0;
        uint64_t total = 0;
        bool ready = false;
        backlog_rebuild_progress(lib, &done, &total, &ready);
        tasks_progress(r->s->tasks, task, done, total);
        if (library_is_deleted(lib)) {
            return status_set(st, STATUS_NOT_FOUND, "the library was deleted");
        }
        if (tasks_cancel_wanted(r->s->tasks, task)) {
            status_clear(st);
            return false;
        }
        if (ready) {
            return true;
        }
        if (!wait_a_moment(r)) {
            return status_set(st, STATUS_NOT_READY, "the server was stopped");
        }
    }
}

struct switching {
    struct supervisor *s;
    struct library *lib;
};

static bool switch_graph(void *ctx, struct status *st) {
    struct switching *w = (struct switching *)ctx;
    if (!backlog_rebuild_switch(w->s->catalog, w->lib, st)) {
        return false;
    }
    committer_republish(w->s->committer);
    return true;
}

static bool rebuild(struct rebuilder *r, const struct uuid *task, struct library *lib, struct status *st) {
    struct reading rd;
    struct switching w = {.s = r->s, .lib = lib};
    library_reading(lib, &rd);
    if (!backlog_rebuild_begin(lib, &rd.view.index, st)) {
        return false;
    }
    background_wake(r->s->background, false);
    if (!await_graph(r, task, lib, st) || !committer_call(r->s->committer, switch_graph, &w, st)) {
        backlog_rebuild_cancel(lib);
        return false;
    }
    return true;
}

static void run_task(struct rebuilder *r, const struct uuid *task, const struct uuid *library) {
    struct status st;
    char id[UUID_TEXT + 1];
    int64_t begun = clock_monotonic_us();
    struct library *lib = catalog_acquire(r->s->catalog, library);
    uuid_format(library, id);
    bool ok = lib == NULL ? status_set(&st, STATUS_NOT_FOUND, "the library was deleted") : rebuild(r, task, lib, &st);
    if (lib != NULL) {
        catalog_release(r->s->catalog, lib);
    }
    tasks_finish(r->s->tasks, task, ok ? NULL : &st);
    if (ok) {
        log_info("library %s: its index was rebuilt in %lld ms", id, (long long)((clock_monotonic_us() - begun) / US_PER_MS));
    } else if (st.code == STATUS_OK) {
        log_info("library %s: the rebuilding of its index was cancelled", id);
    } else {
        log_warn("library %s: its index was not rebuilt: %s", id, st.detail);
    }
}

static void *run(void *arg) {
    struct rebuilder *r = (struct rebuilder *)arg;
    uint64_t seen = 0;
    while (wait_for_task(r, &seen)) {
        struct uuid task;
        struct uuid library;
        while (tasks_begin_next(r->s->tasks, TASK_REBUILD, &task, &library)) {
            run_task(r, &task, &library);
        }
    }
    return NULL;
}

bool rebuilder_new(struct supervisor *s, struct rebuilder **ret, struct status *st) {
    struct rebuilder *r = (struct rebuilder *)calloc(1, sizeof *r);
    if (r == NULL) {
        return status_no_memory(st);
    }
    r->s = s;
    lock_init(&r->mutex, LOCK_REBUILDER);
    if (!thread_cond_init(&r->wake, st)) {
        lock_fini(&r->mutex);
        free(r);
        return false;
    }
    if (!thread_start(&r->thread, "rebuild", run, r, st)) {
        rebuilder_free(r);
        return false;
    }
    r->started = true;
    *ret = r;
    return true;
}

void rebuilder_stop(struct rebuilder *r) {
    if (!r->started) {
        return;
    }
    lock_take(&r->mutex);
    r->stopping = true;
    (void)pthread_cond_broadcast(&r->wake);
    lock_release(&r->mutex);
    (void)pthread_join(r->thread, NULL);
    r->started = false;
}

void rebuilder_free(struct rebuilder *r) {
    if (r == NULL) {
        return;
    }
    rebuilder_stop(r);
    (void)pthread_cond_destroy(&r->wake);
    lock_fini(&r->mutex);
    free(r);
}
