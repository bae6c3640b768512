/*
 * snapshotter.c - when snapshots are taken, and the thread that writes them (snapshotter.h).
 *
 * Due are: what a client asked for; snapshot_every_ops library operations since the last cut; snapshot_interval seconds since the
 * last cut, when anything was committed since. After a failure the next try waits, so that a full disk is not filled again and
 * again.
 *
 * A snapshot is cut by the committer, between two batches, so it holds one LSN wholly; the counts of what is new begin
 * again there. It is written here while commits go on, and at nice 10, since packing keeps a core busy. Only when it is durable may older records of the log
 * go (log_floor.h).
 *
 * It rests on the one before it, where that is sure to be an earlier state of the same history: written by this process, or found at the start and then
 *   - loaded by the recovery, or written by this server before (its sum is on record, so nobody edited it), not above the LSN that the log reached, and cut
 *     in a stretch of the log that this log has: a copy that was put back may have gone another way since;
 *   - verified with all that it rests on, before the first that rests on it is written.
 * In every other case the next one is whole.
 *
 * A stop waits for no large one: log and checkpoint have everything, and the next start goes on where this one ends.
 */
#include "proc/snapshotter.h"

#include "base/clock.h"
#include "base/log.h"
#include "durable/snapshot_api_keys.h"
#include "durable/snapshot_record.h"
#include "durable/restore.h"
#include "proc/archiver.h"
#include "proc/committer.h"
#include "proc/lock.h"
#include "proc/log_floor.h"
#include "proc/tasks.h"
#include "proc/thread.h"
#include "shm/atomics.h"

#include <stdlib.h>

enum { RETRY_SECONDS = 30, US_PER_MS = 1000, NICE = 10 };
#define US_PER_SECOND INT64_C(1000000)

struct snapshotter {
    struct supervisor *s;
    pthread_t thread;
    bool started;
    bool proven; /* at the start there was a snapshot of this state */
    struct lock mutex;
    pthread_cond_t wake;
    /* under the mutex */
    uint64_t ops;         /* committed since the last cut */
    uint64_t library_ops; /* likewise */
    int64_t cut_us;       /* when the last cut was taken, monotonic; at the start: now */
    int64_t not_before_us;
    uint64_t wakes;
    bool stopping;
    bool distrust;    /* a verification found fault with what the next one would rest on */
    struct uuid task; /* that the one under way is for; zero: none */
    bool cancel;      /* atomic: snapshot_write looks at it */
    /* of the thread, then of the stop */
    struct snapshot_base *base;          /* that the next one rests on; NULL: none */
    char candidate[SNAPSHOT_NAME_MAX];   /* found at the start, to be verified first; "": none */
    bool candidate_loaded;               /* by the recovery */
};

static void set_cancel(struct snapshotter *sn, bool value) {
    __atomic_store_n(&sn->cancel, value, __ATOMIC_RELAXED);
}

static void show_pending_locked(const struct snapshotter *sn) {
    store_relaxed_u64(&sn->s->figures->snapshot_pending_ops, sn->ops);
}

void snapshotter_note(struct snapshotter *sn, uint64_t ops, uint64_t library_ops) {
    uint64_t every = load_relaxed_u64(&sn->s->tunables.snapshot_every_ops);
    lock_take(&sn->mutex);
    bool first = sn->ops == 0; /* the interval begins to count */
    sn->ops += ops;
    sn->library_ops += library_ops;
    show_pending_locked(sn);
    if (first || (every > 0 && sn->library_ops >= every)) {
        (void)pthread_cond_broadcast(&sn->wake);
    }
    lock_release(&sn->mutex);
}

void snapshotter_wake(struct snapshotter *sn) {
    lock_take(&sn->mutex);
    sn->wakes++;
    (void)pthread_cond_broadcast(&sn->wake);
    lock_release(&sn->mutex);
}

/* When the next snapshot is due by itself; INT64_MAX: not before something happens. */
static int64_t due_at_locked(const struct snapshotter *sn) {
    uint64_t every = load_relaxed_u64(&sn->s->tunables.snapshot_every_ops);
    uint64_t interval = load_relaxed_u64(&sn->s->tunables.snapshot_interval);
    int64_t at = INT64_MAX;
    if (every > 0 && sn->library_ops >= every) {
        at = 0;
    } else if (interval > 0 && sn->ops > 0) {
        at = sn->cut_us + (int64_t)interval * US_PER_SECOND;
    }
    return at < sn->not_before_us ? sn->not_before_us : at;
}

/* --- taking one ------------------------------------------------------------------------------------------------------- */

struct cutting {
    struct snapshotter *sn;
    struct snapshot_cut cut;
    uint64_t ops, library_ops; /* what the cut covers: put back when it comes to nothing */
    int64_t kept_us;           /* how long the committer was kept */
};

static bool take_cut(void *ctx, struct status *st) {
    struct cutting *c = (struct cutting *)ctx;
    struct snapshotter *sn = c->sn;
    struct oplog_position position;
    int64_t begun = clock_monotonic_us();
    if (!snapshot_cut_take(sn->s->catalog, &c->cut, st)) {
        return false;
    }
    oplog_position_get(sn->s->log, &position);
    c->cut.log_place = position.place;
    c->cut.keys = sn->s->idempotency;
    snapshot_put_api_keys(sn->s->keys, &c->cut.api_keys);
    lock_take(&sn->mutex);
    c->ops = sn->ops;
    c->library_ops = sn->library_ops;
    sn->ops = 0;
    sn->library_ops = 0;
    sn->cut_us = clock_monotonic_us();
    lock_release(&sn->mutex);
    c->kept_us = clock_monotonic_us() - begun;
    return true;
}

/* What may go after a snapshot goes. A failure costs room on the disk and nothing else. */
static void clean_up(struct snapshotter *sn, uint64_t lsn) {
    const struct tunables *t = &sn->s->tunables;
    struct snapshot_retention retention = {.keep = (uint32_t)load_relaxed_u64(&t->snapshot_keep),
                                           .keep_days = (uint32_t)load_relaxed_u64(&t->snapshot_keep_days),
                                           .record = sn->s->snapshot_record};
    struct snapshot_pruned pruned = {0};
    struct status st;
    log_floor_set(sn->s->log_floor, LOG_NEED_SNAPSHOT, lsn);
    if (!snapshot_prune(sn->s->snapshots_dir_fd, &retention, &pruned, &st)) {
        log_status(LOG_LEVEL_WARN, "old snapshots stay", &st);
        return;
    }
    archiver_set_oldest(sn->s->archiver, pruned.oldest_lsn);
    if (pruned.removed > 0) {
        log_debug("removed %u old snapshots", pruned.removed);
    }
}

/* A state that serves and is in a snapshot is good: what `quire restore` put it in the place of may go. The snapshot of a stop does not count before the next
 * start: who looks at what was restored, and stops to have it otherwise, can still go back. */
static void accept_restore(struct snapshotter *sn) {
    struct status st;
    uint32_t removed = 0;
    if (!restore_accept(sn->s->data_dir_fd, &removed, &st)) {
        log_status(LOG_LEVEL_WARN, "what a restore replaced stays", &st);
    } else if (removed > 0) {
        log_info("the restored state has started well and is in a snapshot: what it replaced is removed");
    }
}

static void show(struct snapshotter *sn, const struct snapshot_info *info, int64_t took_us, int64_t kept_us) {
    struct service_figures *f = sn->s->figures;
    if (kept_us > __atomic_load_n(&f->snapshot_cut_us_max, __ATOMIC_RELAXED)) {
        __atomic_store_n(&f->snapshot_cut_us_max, kept_us, __ATOMIC_RELAXED);
    }
    (void)add_relaxed_u64(&f->snapshots_incremental, info->base[0] != '\0' ? 1 : 0);
    (void)add_relaxed_u64(&f->snapshots_taken, 1);
    __atomic_store_n(&f->snapshot_at, info->created_at, __ATOMIC_RELAXED);
    __atomic_store_n(&f->snapshot_us, took_us, __ATOMIC_RELAXED);
    store_relaxed_u64(&f->snapshot_lsn, info->lsn);
    store_relaxed_u64(&f->snapshot_bytes, info->bytes);
}

static void put_back(struct snapshotter *sn, const struct cutting *c) {
    lock_take(&sn->mutex);
    sn->ops += c->ops;
    sn->library_ops += c->library_ops;
    show_pending_locked(sn);
    sn->not_before_us = clock_monotonic_us() + RETRY_SECONDS * US_PER_SECOND;
    lock_release(&sn->mutex);
}

_Static_assert((int)CONFIG_COMPRESSION_NONE == (int)SNAPSHOT_PLAIN && (int)CONFIG_COMPRESSION_GZIP == (int)SNAPSHOT_GZIP &&
                   (int)CONFIG_COMPRESSION_ZSTD == (int)SNAPSHOT_ZSTD && (int)CONFIG_COMPRESSION_XZ == (int)SNAPSHOT_XZ,
               "the words of snapshot_compression stand in the order of their numbers");

static struct snapshot_options options_now(const struct snapshotter *sn) {
    const struct tunables *t = &sn->s->tunables;
    return (struct snapshot_options){.compression = (enum snapshot_compression)load_relaxed_u64(&t->snapshot_compression),
                                     .level = (unsigned)load_relaxed_u64(&t->snapshot_level),
                                     .include_embeddings = load_relaxed_u64(&t->snapshot_include_embeddings) == CONFIG_ON,
                                     .chain_max = (uint32_t)load_relaxed_u64(&t->snapshot_chain_max),
                                     .base = sn->base};
}

/* Whether what was found at the start is still what it was then. */
static bool is_candidate_meant(const struct snapshotter *sn, const struct snapshot_base *base) {
    struct snapshot_note note;
    return sn->candidate_loaded || (snapshot_record_find(sn->s->snapshot_record, sn->candidate, &note) && note.written &&
                                    memcmp(note.sum, snapshot_base_sum(base), sizeof note.sum) == 0);
}

static void try_candidate(struct snapshotter *sn) {
    struct snapshot_base *base = NULL;
    struct status st;
    if (sn->candidate[0] == '\0' || load_relaxed_u64(&sn->s->tunables.snapshot_chain_max) == 0) {
        return;
    }
    if (!snapshot_base_open(sn->s->snapshots_dir_fd, sn->candidate, &sn->cancel, &base, &st)) {
        if (st.code == STATUS_BUSY) {
            return; /* called off, and what comes is, too */
        }
        log_status(LOG_LEVEL_WARN, "the last snapshot does not verify; the next one does not rest on it", &st);
    } else if (is_candidate_meant(sn, base)) {
        sn->base = base;
        base = NULL;
    }
    snapshot_base_free(base);
    sn->candidate[0] = '\0';
}

void snapshotter_distrust(struct snapshotter *sn) {
    lock_take(&sn->mutex);
    sn->distrust = true;
    lock_release(&sn->mutex);
}

static void find_base(struct snapshotter *sn) {
    lock_take(&sn->mutex);
    bool distrust = sn->distrust;
    sn->distrust = false;
    lock_release(&sn->mutex);
    if (distrust) {
        snapshot_base_free(sn->base);
        sn->base = NULL;
        sn->candidate[0] = '\0';
    }
    try_candidate(sn);
}

/* What was written is the base of the next. */
static void go_on_from(struct snapshotter *sn, const struct snapshot_info *info, struct snapshot_base *next) {
    struct status st;
    snapshot_base_free(sn->base);
    sn->base = next;
    if (next != NULL && !snapshot_record_written(sn->s->snapshot_record, info, snapshot_base_sum(next), &st)) {
        log_status(LOG_LEVEL_WARN, "the record of snapshots is not saved", &st);
    }
}

static void tell(const struct snapshot_info *info, int64_t took_us) {
    log_info("snapshot %s (%s%s): %u libraries, %llu documents, %llu chunks, %llu bytes, up to LSN %llu, in %lld ms", info->name,
             info->base[0] != '\0' ? "what changed since " : "whole", info->base, info->libraries, (unsigned long long)info->documents,
             (unsigned long long)info->chunks, (unsigned long long)info->bytes, (unsigned long long)info->lsn, (long long)(took_us / US_PER_MS));
}

static bool take(struct snapshotter *sn, struct snapshot_info *ret, struct status *st) {
    struct cutting c = {.sn = sn};
    struct snapshot_base *next = NULL;
    find_base(sn);
    int64_t begun = clock_monotonic_us();
    if (!committer_call(sn->s->committer, take_cut, &c, st)) {
        put_back(sn, &c);
        return false;
    }
    struct snapshot_options options = options_now(sn);
    bool ok = snapshot_write(sn->s->snapshots_dir_fd, &c.cut, &options, &sn->cancel, ret, &next, st);
    snapshot_cut_release(sn->s->catalog, &c.cut);
    if (!ok) {
        put_back(sn, &c);
        return false;
    }
    int64_t took = clock_monotonic_us() - begun;
    show(sn, ret, took, c.kept_us);
    tell(ret, took);
    go_on_from(sn, ret, next);
    clean_up(sn, ret->lsn);
    return true;
}

/* Which task the next one is for; a stop that came before stays. */
static void set_task(struct snapshotter *sn, const struct uuid *task) {
    lock_take(&sn->mutex);
    sn->task = task == NULL ? (struct uuid){{0}} : *task;
    set_cancel(sn, sn->stopping);
    lock_release(&sn->mutex);
}

void snapshotter_cancel(struct snapshotter *sn, const struct uuid *task) {
    lock_take(&sn->mutex);
    if (uuid_equal(&sn->task, task)) {
        set_cancel(sn, true);
    }
    lock_release(&sn->mutex);
}

/* Takes one, for the tasks that wait for it, or because it is due. */
static void take_and_tell(struct snapshotter *sn, const struct uuid *task) {
    struct snapshot_info info;
    struct status st;
    set_task(sn, task);
    bool ok = take(sn, &info, &st);
    set_task(sn, NULL);
    if (ok) {
        accept_restore(sn);
    }
    bool cancelled = !ok && st.code == STATUS_BUSY;
    if (cancelled) {
        status_clear(&st);
    } else if (!ok) {
        (void)add_relaxed_u64(&sn->s->figures->snapshot_failures, 1);
        log_status(LOG_LEVEL_ERROR, "no snapshot; the log keeps everything", &st);
    }
    if (task != NULL) {
        tasks_progress(sn->s->tasks, task, ok ? info.documents : 0, ok ? info.documents : 0);
        tasks_finish(sn->s->tasks, task, ok ? NULL : &st);
    }
}

/* --- the thread ------------------------------------------------------------------------------------------------------- */

enum reason { REASON_STOP, REASON_WOKEN, REASON_DUE };

static enum reason wait_for_reason(struct snapshotter *sn, uint64_t *seen) {
    enum reason reason = REASON_STOP;
    lock_take(&sn->mutex);
    while (!sn->stopping) {
        int64_t due = due_at_locked(sn);
        if (sn->wakes != *seen) {
            *seen = sn->wakes;
            reason = REASON_WOKEN;
            break;
        }
        if (due <= clock_monotonic_us()) {
            reason = REASON_DUE;
            break;
        }
        if (due == INT64_MAX) {
            lock_wait(&sn->mutex, &sn->wake);
        } else {
            (void)lock_wait_until(&sn->mutex, &sn->wake, due);
        }
    }
    lock_release(&sn->mutex);
    return reason;
}

static void *run(void *arg) {
    struct snapshotter *sn = (struct snapshotter *)arg;
    uint64_t seen = 0;
    thread_set_nice(NICE);
    if (sn->proven) {
        accept_restore(sn);
    }
    for (;;) {
        struct uuid task;
        struct uuid library;
        enum reason reason = wait_for_reason(sn, &seen);
        if (reason == REASON_STOP) {
            return NULL;
        }
        if (tasks_begin_next(sn->s->tasks, TASK_SNAPSHOT, &task, &library)) {
            take_and_tell(sn, &task);
        } else if (reason == REASON_DUE) {
            take_and_tell(sn, NULL);
        }
    }
}

bool snapshotter_new(struct supervisor *s, const struct snapshot_info *latest, bool news, const struct snapshot_candidate *candidate,
                     struct snapshotter **ret, struct status *st) {
    struct snapshotter *sn = (struct snapshotter *)calloc(1, sizeof *sn);
    if (sn == NULL) {
        return status_no_memory(st);
    }
    sn->s = s;
    sn->ops = news ? 1 : 0;
    memcpy(sn->candidate, candidate->name, sizeof sn->candidate);
    sn->candidate_loaded = candidate->loaded;
    sn->cut_us = clock_monotonic_us();
    lock_init(&sn->mutex, LOCK_SNAPSHOTTER);
    if (!thread_cond_init(&sn->wake, st)) {
        lock_fini(&sn->mutex);
        free(sn);
        return false;
    }
    sn->proven = latest != NULL;
    show_pending_locked(sn); /* no thread of it runs yet */
    if (latest != NULL) {
        store_relaxed_u64(&s->figures->snapshot_lsn, latest->lsn);
        store_relaxed_u64(&s->figures->snapshot_bytes, latest->bytes);
        __atomic_store_n(&s->figures->snapshot_at, latest->created_at, __ATOMIC_RELAXED);
    }
    if (!thread_start(&sn->thread, "snapshot", run, sn, st)) {
        snapshotter_free(sn);
        return false;
    }
    sn->started = true;
    *ret = sn;
    return true;
}

void snapshotter_stop(struct snapshotter *sn) {
    if (!sn->started) {
        return;
    }
    lock_take(&sn->mutex);
    sn->stopping = true;
    set_cancel(sn, true);
    (void)pthread_cond_broadcast(&sn->wake);
    lock_release(&sn->mutex);
    (void)pthread_join(sn->thread, NULL);
    sn->started = false;
    set_cancel(sn, false);
}

/* The LSN from which on the next snapshot holds what changed; 0: it will be whole. */
static uint64_t holds_since(const struct snapshotter *sn) {
    uint64_t most = load_relaxed_u64(&sn->s->tunables.snapshot_chain_max);
    return sn->base == NULL || snapshot_base_info(sn->base)->depth >= most ? 0 : snapshot_base_info(sn->base)->lsn;
}

/* The bytes of the records of all libraries that a snapshot would have to read, about. */
static bool changed_bytes(const struct snapshotter *sn, uint64_t *ret, struct status *st) {
    struct library **libraries = NULL;
    size_t count = 0;
    uint64_t since = holds_since(sn);
    *ret = 0;
    if (!catalog_acquire_all(sn->s->catalog, &libraries, &count, st)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct reading rd;
        library_reading(libraries[i], &rd);
        *ret += rd.view.lsn > since ? rd.view.records_used : 0;
        catalog_release(sn->s->catalog, libraries[i]);
    }
    free(libraries);
    return true;
}

bool snapshotter_final(struct snapshotter *sn, bool *ret_taken, struct snapshot_info *ret, struct status *st) {
    uint64_t bytes = 0;
    *ret_taken = false;
    sn->candidate[0] = '\0'; /* verifying it now could take long */
    if (sn->ops == 0) {
        log_info("final snapshot: not needed, nothing has changed since the last one");
        return true;
    }
    if (!changed_bytes(sn, &bytes, st)) {
        return false;
    }
    if (bytes > load_relaxed_u64(&sn->s->tunables.snapshot_stop_max_bytes)) {
        log_info("final snapshot: left out, %llu bytes have changed since the last one (snapshot_stop_max_bytes)",
                 (unsigned long long)bytes);
        return true;
    }
    *ret_taken = take(sn, ret, st);
    return *ret_taken;
}

void snapshotter_free(struct snapshotter *sn) {
    if (sn == NULL) {
        return;
    }
    snapshotter_stop(sn);
    snapshot_base_free(sn->base);
    (void)pthread_cond_destroy(&sn->wake);
    lock_fini(&sn->mutex);
    free(sn);
}
