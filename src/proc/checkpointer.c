/*
 * checkpointer.c - when live checkpoints are taken.
 *
 * Due are: checkpoint_ops operations and chunks since the last cut, so that a replay after a crash is short; checkpoint_interval seconds since the last cut, when
 * anything was committed or embedded since; an arena that was exchanged. Between two of them lies at least PAUSE_TIMES as long as the last one took, so that a
 * mass import on a slow disk does not spend itself on checkpoints. After a failure the next try waits.
 *
 * The thread has the priority of all that serve, not a lower one: while the kernel writes pages of a file back for it, it holds locks that whoever maps or changes these pages
 * waits for, and a thread of low priority that loses its processor there gets its next turn 30 ms later.
 */
#include "proc/checkpointer.h"

#include "base/clock.h"
#include "base/log.h"
#include "proc/committer.h"
#include "proc/lock.h"
#include "proc/log_floor.h"
#include "proc/thread.h"
#include "shm/atomics.h"

#include <stdlib.h>

enum { RETRY_SECONDS = 30, US_PER_MS = 1000, PAUSE_TIMES = 4 };
#define US_PER_SECOND INT64_C(1000000)

struct checkpointer {
    struct supervisor *s;
    struct live_checkpointer *live;
    pthread_t thread;
    bool started;
    struct lock mutex;
    pthread_cond_t wake;
    /* under the mutex */
    uint64_t ops;    /* and chunks, committed since the last cut */
    uint64_t wanted; /* vectors that were pending at the last cut */
    int64_t cut_us;  /* when the last one was begun, monotonic; at the start: now */
    int64_t not_before_us;
    bool urgent;
    bool stopping;
    uint32_t cancel; /* atomic: the thread's calls look at it */
};

static bool is_cancelled(void *host) {
    return load_relaxed_u32(&((struct checkpointer *)host)->cancel) != 0;
}

static bool call_committer(void *host, live_fn fn, void *ctx, struct status *st) {
    return committer_call(((struct checkpointer *)host)->s->committer, fn, ctx, st);
}

/* What is remembered of requests, without what is too old. */
static void put_keys(void *host, uint64_t lsn, struct buf *out) {
    struct idempotency *keys = ((struct checkpointer *)host)->s->idempotency;
    idempotency_expire(keys, idempotency_clock(keys, clock_monotonic_us()));
    idempotency_encode(keys, lsn, out);
}

static void put_api_keys(void *host, struct buf *out) {
    key_table_encode(((struct checkpointer *)host)->s->keys, out);
}

void checkpointer_note(struct checkpointer *c, uint64_t ops) {
    uint64_t every = load_relaxed_u64(&c->s->tunables.checkpoint_ops);
    lock_take(&c->mutex);
    bool first = c->ops == 0;
    c->ops += ops;
    if (first || c->ops >= every) {
        (void)pthread_cond_broadcast(&c->wake);
    }
    lock_release(&c->mutex);
}

void checkpointer_wake(struct checkpointer *c) {
    lock_take(&c->mutex);
    c->urgent = true;
    (void)pthread_cond_broadcast(&c->wake);
    lock_release(&c->mutex);
}

static int64_t due_at_locked(const struct checkpointer *c) {
    uint64_t every = load_relaxed_u64(&c->s->tunables.checkpoint_ops);
    int64_t interval = (int64_t)load_relaxed_u64(&c->s->tunables.checkpoint_interval) * US_PER_SECOND;
    bool embedded = load_relaxed_u64(&c->s->figures->pending_vectors) < c->wanted;
    int64_t at = INT64_MAX;
    if (c->urgent || c->ops >= every) {
        at = 0;
    } else if (c->ops > 0 || embedded) {
        at = c->cut_us + interval;
    }
    return at < c->not_before_us ? c->not_before_us : at;
}

/* --- taking one --- */

static void show(struct checkpointer *c, const struct live_report *r, int64_t took_us) {
    struct service_figures *f = c->s->figures;
    (void)add_relaxed_u64(&f->checkpoints_taken, 1);
    __atomic_store_n(&f->checkpoint_at, clock_wall_us(), __ATOMIC_RELAXED);
    __atomic_store_n(&f->checkpoint_us, took_us, __ATOMIC_RELAXED);
    store_relaxed_u64(&f->checkpoint_lsn, r->lsn);
    store_relaxed_u64(&f->checkpoint_bytes, r->page_bytes);
    log_debug(
        "checkpoint at LSN %llu: %llu libraries, %llu bytes of pages, in %lld ms; the committer was kept for %lld us at most",
        (unsigned long long)r->lsn, (unsigned long long)r->libraries_written, (unsigned long long)r->page_bytes,
        (long long)(took_us / US_PER_MS), (long long)r->most_us);
}

/* Pauses until the next one: longer after one that took long, or failed. */
static void settle(struct checkpointer *c, uint64_t ops, bool ok, int64_t begun_us) {
    int64_t now = clock_monotonic_us();
    lock_take(&c->mutex);
    c->ops += ok ? 0 : ops;
    c->urgent = c->urgent || !ok;
    c->not_before_us = now + (ok ? PAUSE_TIMES * (now - begun_us) : RETRY_SECONDS * US_PER_SECOND);
    lock_release(&c->mutex);
}

static bool take(struct checkpointer *c, struct status *st) {
    struct live_report report;
    int64_t begun = clock_monotonic_us();
    lock_take(&c->mutex);
    uint64_t ops = c->ops;
    c->ops = 0;
    c->urgent = false;
    c->cut_us = begun;
    c->wanted = load_relaxed_u64(&c->s->figures->pending_vectors);
    lock_release(&c->mutex);
    bool ok = live_checkpoint_take(c->live, &report, st);
    settle(c, ops, ok, begun);
    if (ok) {
        show(c, &report, clock_monotonic_us() - begun);
        log_floor_set(c->s->log_floor, LOG_NEED_CHECKPOINT, live_checkpoint_floor(c->live));
    }
    return ok;
}

static void take_and_tell(struct checkpointer *c) {
    struct status st = {0};
    if (take(c, &st) || is_cancelled(c)) {
        return;
    }
    (void)add_relaxed_u64(&c->s->figures->checkpoint_failures, 1);
    log_status(LOG_LEVEL_ERROR, "no checkpoint; the log keeps everything, a start after a crash would take longer", &st);
}

/* --- the thread --- */

static bool wait_until_due(struct checkpointer *c) {
    lock_take(&c->mutex);
    while (!c->stopping) {
        int64_t due = due_at_locked(c);
        int64_t now = clock_monotonic_us();
        if (due <= now) {
            break;
        }
        /* Vectors are made without a word to us, so it looks from time to time. */
        int64_t look = now + RETRY_SECONDS * US_PER_SECOND;
        (void)lock_wait_until(&c->mutex, &c->wake, due < look ? due : look);
    }
    bool go_on = !c->stopping;
    lock_release(&c->mutex);
    return go_on;
}

static void *run(void *arg) {
    struct checkpointer *c = (struct checkpointer *)arg;
    while (wait_until_due(c)) {
        take_and_tell(c);
    }
    return NULL;
}

static bool make_live(struct checkpointer *c, struct recovery_report *report, struct status *st) {
    const struct live_options options = {.data_dir_fd = c->s->data_dir_fd,
                                         .catalog = c->s->catalog,
                                         .log = c->s->log,
                                         .call = call_committer,
                                         .cancelled = is_cancelled,
                                         .extra = put_keys,
                                         .api_keys = put_api_keys,
                                         .host = c};
    return live_checkpointer_new(&options, &report->live, report->from_live, &c->live, st);
}

bool checkpointer_new(struct supervisor *s, struct recovery_report *report, struct checkpointer **ret, struct status *st) {
    struct checkpointer *c = (struct checkpointer *)calloc(1, sizeof *c);
    if (c == NULL) {
        return status_no_memory(st);
    }
    c->s = s;
    c->cut_us = clock_monotonic_us();
    /* What was made anew or replayed is worth a checkpoint, and so is the first after an orderly stop when anything comes. After a repair the arenas may hold
     * what no log has any more. */
    c->urgent = report->repaired || (!report->from_checkpoint && (report->replayed_ops > 0 || report->library_count > 0));
    lock_init(&c->mutex, LOCK_SNAPSHOTTER);
    if (!thread_cond_init(&c->wake, st) || !make_live(c, report, st)) {
        lock_fini(&c->mutex);
        free(c);
        return false;
    }
    if (live_checkpoint_floor(c->live) != 0) {
        log_floor_set(s->log_floor, LOG_NEED_CHECKPOINT, live_checkpoint_floor(c->live));
    }
    if (!thread_start(&c->thread, "checkpoint", run, c, st)) {
        checkpointer_free(c);
        return false;
    }
    c->started = true;
    *ret = c;
    return true;
}

void checkpointer_stop(struct checkpointer *c) {
    if (!c->started) {
        return;
    }
    lock_take(&c->mutex);
    c->stopping = true;
    store_relaxed_u32(&c->cancel, 1);
    (void)pthread_cond_broadcast(&c->wake);
    lock_release(&c->mutex);
    (void)pthread_join(c->thread, NULL);
    c->started = false;
    store_relaxed_u32(&c->cancel, 0);
}

bool checkpointer_final(struct checkpointer *c, struct status *st) {
    return take(c, st);
}

void checkpointer_free(struct checkpointer *c) {
    if (c == NULL) {
        return;
    }
    checkpointer_stop(c);
    live_checkpointer_free(c->live);
    (void)pthread_cond_destroy(&c->wake);
    lock_fini(&c->mutex);
    free(c);
}
