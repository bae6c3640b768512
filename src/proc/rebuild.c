/*
 * rebuild.c - rebuilding and optimizing an index (rebuild.h): the linkers do most of the work, this thread says when it begins and when it
 * is switched to. One task at a time, so a library is never rebuilt and optimized at once.
 *
 *   begin   backlog_rebuild_begin with the library's settings as they stand (a change of settings is an op before it)
 *   wait    progress into the task; a cancelled task, a deleted library or a stop gives it up
 *   switch  backlog_rebuild_switch and a publication, by the committer
 *
 * Optimizing is a compaction (store/compact.h): this thread copies what lives, linkers link it, and the committer switches. It is asked for by
 * clients, or by this thread itself, which looks every few seconds for a library with more than its share of deleted chunks.
 */
#include "proc/rebuild.h"

#include "base/clock.h"
#include "base/log.h"
#include "proc/background.h"
#include "proc/checkpointer.h"
#include "proc/committer.h"
#include "proc/service_thread.h"
#include "proc/tasks.h"
#include "proc/thread.h"
#include "shm/atomics.h"
#include "store/backlog.h"
#include "store/compact.h"
#include "store/exchange.h"

#include <stdlib.h>

enum {
    LOOK_US = 100000,
    US_PER_MS = 1000,
    NICE = 5,
    STEP_DOCUMENTS = 64,
    DEAD_LOOK_US = 5000000,    /* between two looks for deleted chunks */
    DEAD_PAUSE_US = 600000000, /* after one that failed */
    PERCENT = 100
};

struct rebuilder {
    struct supervisor *s;
    struct service_thread thread;
    /* the thread's own */
    int64_t pause_until_us; /* no compaction is begun by itself before */
};

void rebuilder_wake(struct rebuilder *r) {
    service_thread_wake(&r->thread);
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
        if (!service_thread_pause(&r->thread, LOOK_US)) {
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

/* --- optimizing --- */

struct compacting {
    struct supervisor *s;
    struct compaction *k;
};

static bool begin_compaction(void *ctx, struct status *st) {
    return compaction_begin(((struct compacting *)ctx)->k, st);
}

static bool end_compaction(void *ctx, struct status *st) {
    (void)st;
    compaction_end(((struct compacting *)ctx)->k);
    return true;
}

/* Also ends it, whatever comes of it. */
static bool switch_arena(void *ctx, struct status *st) {
    struct compacting *c = (struct compacting *)ctx;
    bool ok = compaction_switch(c->k, st);
    if (ok) {
        committer_republish(c->s->committer);
    }
    compaction_end(c->k);
    return ok;
}

/* Copies, and waits for the linkers, until little is left. False with STATUS_OK in *st: it was given up. */
static bool carry_compaction(struct rebuilder *r, const struct uuid *task, struct library *lib, struct compaction *k,
                             struct status *st) {
    for (;;) {
        uint64_t done = 0;
        uint64_t total = 0;
        bool ready = false;
        bool more = false;
        if (!compaction_step(k, STEP_DOCUMENTS, &more, st)) {
            return false;
        }
        background_wake(r->s->background, false);
        if (library_is_deleted(lib)) {
            return status_set(st, STATUS_NOT_FOUND, "the library was deleted");
        }
        if (tasks_cancel_wanted(r->s->tasks, task)) {
            status_clear(st);
            return false;
        }
        compaction_progress(k, &done, &total, &ready);
        tasks_progress(r->s->tasks, task, done, total);
        if (ready) {
            return true;
        }
        if (more ? service_thread_is_stopping(&r->thread) : !service_thread_pause(&r->thread, LOOK_US)) {
            return status_set(st, STATUS_NOT_READY, "the server was stopped");
        }
    }
}

static bool optimize(struct rebuilder *r, const struct uuid *task, struct library *lib, struct status *st) {
    struct compacting c = {.s = r->s};
    struct reading rd;
    library_reading(lib, &rd);
    if (rd.view.dimension == 0 || compaction_gain(&rd.view) == 0) {
        return true; /* there is nothing to reclaim */
    }
    if (!compaction_new(r->s->catalog, lib, &c.k, st)) {
        return false;
    }
    if (!committer_call(r->s->committer, begin_compaction, &c, st) || !carry_compaction(r, task, lib, c.k, st)) {
        struct status ignored;
        (void)!committer_call(r->s->committer, end_compaction, &c, &ignored);
        return false;
    }
    bool ok = committer_call(r->s->committer, switch_arena, &c, st);
    if (ok) {
        checkpointer_wake(r->s->checkpointer); /* the old files stay until one does without them */
    }
    background_wake(r->s->background, true); /* what was claimed in the old one is to be done in the new one */
    return ok;
}

static bool too_many_dead(const struct rebuilder *r, struct library *lib) {
    struct reading rd;
    library_reading(lib, &rd);
    uint64_t dead = rd.view.chunk_slots - rd.view.live_chunks;
    uint64_t share = r->s->config.optimize_dead_percent;
    return share > 0 && rd.view.live != 0 && library_exchange_state(lib) == EXCHANGE_NONE && dead >= r->s->config.optimize_dead_least &&
           dead * PERCENT >= share * rd.view.chunk_slots;
}

/* Adds a task for each library that has more deleted chunks than it may. */
static void look_for_dead(struct rebuilder *r) {
    struct library **libraries = NULL;
    size_t count = 0;
    struct status st;
    if (clock_monotonic_us() < r->pause_until_us || !catalog_acquire_all(r->s->catalog, &libraries, &count, &st)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct reading rd;
        struct uuid task;
        library_reading(libraries[i], &rd);
        if (too_many_dead(r, libraries[i]) && !tasks_find_live(r->s->tasks, TASK_OPTIMIZE, &rd.view.id, &task)) {
            (void)!tasks_add(r->s->tasks, TASK_OPTIMIZE, &rd.view.id, NULL, &task, &st); /* else at the next look */
        }
        catalog_release(r->s->catalog, libraries[i]);
    }
    free(libraries);
}

/* --- the thread --- */

static void tell(const struct uuid *library, const char *done, bool ok, const struct status *st, int64_t begun_us) {
    char id[UUID_TEXT + 1];
    uuid_format(library, id);
    if (ok) {
        log_info("library %s: its index was %s in %lld ms", id, done, (long long)((clock_monotonic_us() - begun_us) / US_PER_MS));
    } else if (st->code == STATUS_OK) {
        log_info("library %s: its index was not %s: the task was cancelled", id, done);
    } else {
        log_warn("library %s: its index was not %s: %s", id, done, st->detail);
    }
}

static bool run_task(struct rebuilder *r, enum task_kind kind, const struct uuid *task, const struct uuid *library) {
    struct status st;
    int64_t begun = clock_monotonic_us();
    struct library *lib = catalog_acquire(r->s->catalog, library);
    bool ok = lib == NULL             ? status_set(&st, STATUS_NOT_FOUND, "the library was deleted")
              : kind == TASK_OPTIMIZE ? optimize(r, task, lib, &st)
                                      : rebuild(r, task, lib, &st);
    if (lib != NULL) {
        catalog_release(r->s->catalog, lib);
    }
    tasks_finish(r->s->tasks, task, ok ? NULL : &st);
    tell(library, kind == TASK_OPTIMIZE ? "optimized" : "rebuilt", ok, &st, begun);
    return ok;
}

static void run_tasks(struct rebuilder *r) {
    struct uuid task;
    struct uuid library;
    while (tasks_begin_next(r->s->tasks, TASK_REBUILD, &task, &library)) {
        (void)run_task(r, TASK_REBUILD, &task, &library);
    }
    while (tasks_begin_next(r->s->tasks, TASK_OPTIMIZE, &task, &library)) {
        if (!run_task(r, TASK_OPTIMIZE, &task, &library)) {
            r->pause_until_us = clock_monotonic_us() + DEAD_PAUSE_US;
        }
    }
}

static void *run(void *arg) {
    struct rebuilder *r = (struct rebuilder *)arg;
    uint64_t seen = 0;
    thread_set_nice(NICE);
    while (service_thread_wait(&r->thread, clock_monotonic_us() + DEAD_LOOK_US, &seen)) {
        run_tasks(r);
        look_for_dead(r);
        run_tasks(r);
    }
    return NULL;
}

bool rebuilder_new(struct supervisor *s, struct rebuilder **ret, struct status *st) {
    struct rebuilder *r = (struct rebuilder *)calloc(1, sizeof *r);
    if (r == NULL) {
        return status_no_memory(st);
    }
    r->s = s;
    if (!service_thread_init(&r->thread, LOCK_REBUILDER, st)) {
        free(r);
        return false;
    }
    if (!service_thread_start(&r->thread, "rebuild", run, r, st)) {
        rebuilder_free(r);
        return false;
    }
    *ret = r;
    return true;
}

void rebuilder_stop(struct rebuilder *r) {
    service_thread_stop(&r->thread);
}

void rebuilder_free(struct rebuilder *r) {
    if (r == NULL) {
        return;
    }
    service_thread_fini(&r->thread);
    free(r);
}
