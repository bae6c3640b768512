/*
 * background.c - the threads behind the commit (background.h).
 *
 * Each thread sleeps until something was published since it last looked; then it goes over all libraries, batch by batch, until a
 * whole round finds nothing to do. What one thread has claimed the others do not get, so a thread that finds nothing may sleep
 * while others still work. Wake-ups are counted and not flagged: one that comes while a thread is looking makes it look once
 * more.
 *
 * They run at nice 5: on a machine with nothing to spare, searches and commits go first.
 *
 * A linker that gets less than its share of a processor pauses after each batch, as long as the tail is short: what linking takes from those who write would
 * make them wait, and searches scan a short tail in half a millisecond. So a burst of writes goes first, and only what goes on is slowed down by its links.
 *
 * A linker that was woken waits a moment before it looks, so that a stream of small commits wakes it fifty times a second and not at each of them: what is not
 * linked yet is scanned, and that much is soon scanned. One linker is woken for it, which takes few chunks at a time and rests behind them: whoever a write wakes on its
 * processor meanwhile would else wait until a whole batch is done, longer than the write takes. It calls the others when the tail grows all the same.
 */
#include "proc/background.h"

#include "base/clock.h"
#include "base/log.h"
#include "proc/committer.h"
#include "proc/lock.h"
#include "proc/thread.h"
#include "shm/atomics.h"
#include "store/backlog.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    NICE = 5,
    LINK_BATCH = 32,
    LINK_GATHER_US = 20000,
    LINK_YIELD_US = 20000,
    LINK_ALONE = 512,       /* chunks of a tail that one linker sees to, */
    LINK_FEW = 2,           /* so many at a time, */
    LINK_REST_US = 50,      /* with a rest behind them */
    LINK_TAIL_SHORT = 4096,
    CROWDED_FACTOR = 2,     /* by which a batch takes longer than it computes */
    BATCHES_PER_VISIT = 16, /* of one library, before the next one has its turn */
    RETRY_US = 1000000,     /* after an error: a model that cannot be reached, memory that is short */
    COMPLAIN_US = 60000000
};

/* Under the mutex. */
struct queue {
    uint64_t wakes;
    pthread_cond_t wake;
};

struct background {
    struct supervisor *s;
    struct lock mutex;
    struct queue embed, link; /* link: the first linker's */
    struct queue help;        /* the other linkers' */
    pthread_cond_t stop;
    /* under the mutex */
    int64_t complained_us;
    uint32_t stopping; /* written under it, read without (atomic) by threads at work */
    pthread_t *threads;
    size_t started;
};

unsigned background_cores(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return count > 0 ? (unsigned)count : 1;
}

static bool is_stopping(const struct background *b) {
    return load_relaxed_u32(&b->stopping) != 0;
}

static void wake_locked(struct queue *q) {
    q->wakes++;
    (void)pthread_cond_broadcast(&q->wake);
}

void background_wake(struct background *b, bool to_embed) {
    lock_take(&b->mutex);
    wake_locked(&b->link);
    if (to_embed) {
        wake_locked(&b->embed);
    }
    lock_release(&b->mutex);
}

static void call_help(struct background *b) {
    lock_take(&b->mutex);
    wake_locked(&b->help);
    lock_release(&b->mutex);
}

/* Waits that long, whatever wakes. */
static void pause_locked(struct background *b, int64_t us) {
    int64_t until = clock_monotonic_us() + us;
    while (b->stopping == 0 && lock_wait_until(&b->mutex, &b->stop, until)) {
        /* woken for nothing */
    }
}

/* Sleeps until something was published since *seen, and `gather_us` longer. False: stop. */
static bool wait_for(struct background *b, struct queue *q, int64_t gather_us, uint64_t *seen) {
    lock_take(&b->mutex);
    while (q->wakes == *seen && b->stopping == 0) {
        lock_wait(&b->mutex, &q->wake);
    }
    if (gather_us > 0) {
        pause_locked(b, gather_us);
    }
    *seen = q->wakes;
    bool go_on = b->stopping == 0;
    lock_release(&b->mutex);
    return go_on;
}

/* Says what went wrong, once a minute, and waits before it is tried again. */
static void pause_after(struct background *b, const char *what, const struct status *st) {
    int64_t now = clock_monotonic_us();
    lock_take(&b->mutex);
    bool complain = b->complained_us == 0 || now - b->complained_us > COMPLAIN_US;
    if (complain) {
        b->complained_us = now;
    }
    pause_locked(b, RETRY_US);
    lock_release(&b->mutex);
    if (complain) {
        log_status(LOG_LEVEL_WARN, what, st);
    }
}

static bool republish(void *ctx, struct status *st) {
    (void)st;
    committer_republish(((struct background *)ctx)->s->committer);
    return true;
}

/* What a thread does to one library. *ret_done: chunks. */
typedef bool (*work_fn)(struct background *b, struct library *lib, void *own, size_t *ret_done, struct status *st);

static bool embed_batch(struct background *b, struct library *lib, void *own, size_t *ret_done, struct status *st) {
    (void)own;
    int64_t begun = clock_monotonic_us();
    if (!backlog_embed_some(lib, &b->s->models, (size_t)b->s->config.embed_batch, ret_done, st)) {
        return false;
    }
    if (*ret_done == 0) {
        return true;
    }
    (void)add_relaxed_u64(&b->s->figures->embedded_chunks, *ret_done);
    (void)add_relaxed_u64(&b->s->figures->embedding_us, (uint64_t)(clock_monotonic_us() - begun));
    background_wake(b, false); /* they can be linked now */
    /* After the last one, workers are told that the library is complete. */
    return backlog_pending_vectors(lib) > 0 || committer_call(b->s->committer, republish, b, st);
}

static void rest(void) {
    const struct timespec a_moment = {.tv_nsec = LINK_REST_US * INT64_C(1000)};
    (void)nanosleep(&a_moment, NULL);
}

static bool link_batch(struct background *b, struct library *lib, void *own, size_t *ret_done, struct status *st) {
    int64_t begun = clock_monotonic_us();
    int64_t begun_thread = clock_thread_us();
    bool alone = backlog_can_wait(lib, LINK_ALONE);
    if (!backlog_link_some(lib, (struct backlog_linker *)own, alone ? LINK_FEW : LINK_BATCH, ret_done, st)) {
        return false;
    }
    (void)add_relaxed_u64(&b->s->figures->linked, *ret_done);
    if (*ret_done > 0 && alone) {
        rest();
        return true;
    }
    if (*ret_done > 0) {
        call_help(b);
    }
    bool crowded = clock_monotonic_us() - begun > CROWDED_FACTOR * (clock_thread_us() - begun_thread);
    if (*ret_done > 0 && crowded && backlog_can_wait(lib, LINK_TAIL_SHORT)) {
        lock_take(&b->mutex);
        pause_locked(b, LINK_YIELD_US);
        lock_release(&b->mutex);
    }
    return true;
}

/* Some batches of one library. False: an error. */
static bool visit(struct background *b, struct library *lib, work_fn work, void *own, bool *ret_worked, struct status *st) {
    for (int i = 0; i < BATCHES_PER_VISIT && !is_stopping(b) && !library_is_deleted(lib); i++) {
        size_t done = 0;
        if (!work(b, lib, own, &done, st)) {
            return false;
        }
        if (done == 0) {
            break;
        }
        *ret_worked = true;
    }
    return true;
}

/* One round over all libraries, those that compactions and exchanges are making included. */
static bool round_of(struct background *b, work_fn work, void *own, bool *ret_worked, struct status *st) {
    struct library **libraries = NULL;
    size_t count = 0;
    bool ok = true;
    if (!catalog_acquire_linkable(b->s->catalog, &libraries, &count, st)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        ok = ok && visit(b, libraries[i], work, own, ret_worked, st);
        catalog_release(b->s->catalog, libraries[i]);
    }
    free(libraries);
    return ok;
}

static void work_until_done(struct background *b, work_fn work, void *own, const char *what) {
    bool worked = true;
    while (worked && !is_stopping(b)) {
        struct status st;
        worked = false;
        if (!round_of(b, work, own, &worked, &st)) {
            pause_after(b, what, &st);
            worked = true;
        }
    }
}

static void *run_embedder(void *arg) {
    struct background *b = (struct background *)arg;
    uint64_t seen = 0;
    thread_set_nice(NICE);
    while (wait_for(b, &b->embed, 0, &seen)) {
        work_until_done(b, embed_batch, NULL, "embeddings are delayed");
    }
    return NULL;
}

/* With what it links by. NULL: stop. */
static struct backlog_linker *get_linker(struct background *b) {
    struct backlog_linker *linker = NULL;
    while ((linker = backlog_linker_new()) == NULL && !is_stopping(b)) {
        struct status st;
        (void)status_no_memory(&st);
        pause_after(b, "linking is delayed", &st);
    }
    return linker;
}

static void link_for(struct background *b, struct queue *q, int64_t gather_us) {
    uint64_t seen = 0;
    struct backlog_linker *linker = get_linker(b);
    thread_set_nice(NICE);
    while (linker != NULL && wait_for(b, q, gather_us, &seen)) {
        work_until_done(b, link_batch, linker, "linking is delayed");
    }
    backlog_linker_free(linker);
}

static void *run_linker(void *arg) {
    struct background *b = (struct background *)arg;
    link_for(b, &b->link, LINK_GATHER_US);
    return NULL;
}

static void *run_helper(void *arg) {
    struct background *b = (struct background *)arg;
    link_for(b, &b->help, 0);
    return NULL;
}

static bool start_threads(struct background *b, size_t embedders, size_t linkers, struct status *st) {
    b->threads = (pthread_t *)calloc(embedders + linkers, sizeof *b->threads);
    if (b->threads == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < embedders + linkers; i++) {
        char name[32];
        bool embeds = i < embedders;
        void *(*run)(void *) = embeds ? run_embedder : i == embedders ? run_linker : run_helper;
        (void)snprintf(name, sizeof name, "%s %zu", embeds ? "embed" : "link", embeds ? i : i - embedders);
        if (!thread_start(&b->threads[i], name, run, b, st)) {
            return false;
        }
        b->started++;
    }
    return true;
}

bool background_new(struct supervisor *s, struct background **ret, struct status *st) {
    struct background *b = (struct background *)calloc(1, sizeof *b);
    if (b == NULL) {
        return status_no_memory(st);
    }
    b->s = s;
    b->embed.wakes = 1; /* what recovery left is waiting already */
    b->link.wakes = 1;
    b->help.wakes = 1;
    lock_init(&b->mutex, LOCK_BACKGROUND);
    (void)pthread_cond_init(&b->embed.wake, NULL);
    (void)pthread_cond_init(&b->link.wake, NULL);
    (void)pthread_cond_init(&b->help.wake, NULL);
    if (!thread_cond_init(&b->stop, st)) {
        (void)pthread_cond_destroy(&b->embed.wake);
        (void)pthread_cond_destroy(&b->link.wake);
        (void)pthread_cond_destroy(&b->help.wake);
        lock_fini(&b->mutex);
        free(b);
        return false;
    }
    size_t embedders = s->config.embed_threads > 0 ? (size_t)s->config.embed_threads : background_cores();
    size_t linkers = s->config.indexer_threads > 0 ? (size_t)s->config.indexer_threads : background_cores();
    if (!start_threads(b, embedders, linkers, st)) {
        background_free(b);
        return false;
    }
    *ret = b;
    return true;
}

void background_stop(struct background *b) {
    lock_take(&b->mutex);
    store_relaxed_u32(&b->stopping, 1);
    (void)pthread_cond_broadcast(&b->embed.wake);
    (void)pthread_cond_broadcast(&b->link.wake);
    (void)pthread_cond_broadcast(&b->help.wake);
    (void)pthread_cond_broadcast(&b->stop);
    lock_release(&b->mutex);
    for (size_t i = 0; i < b->started; i++) {
        (void)pthread_join(b->threads[i], NULL);
    }
    b->started = 0;
}

void background_free(struct background *b) {
    if (b == NULL) {
        return;
    }
    background_stop(b);
    free(b->threads);
    (void)pthread_cond_destroy(&b->embed.wake);
    (void)pthread_cond_destroy(&b->link.wake);
    (void)pthread_cond_destroy(&b->stop);
    lock_fini(&b->mutex);
    free(b);
}
