/*
 * verifier.c - see verifier.h; what a trial is stands in durable/snapshot_trial.c.
 *
 * Due are: what a client asked for; every snapshot_verify_interval seconds the newest snapshot, when it did not verify within that time already. The first look
 * is soon after the start: a server that is restarted every day would else never come to it. The thread runs at the lowest priority, reading files that
 * nobody waits for.
 *
 * The outcome is kept in snapshots/record, so that the last good one is known after a restart and stays, whatever else goes (snapshot_list.c). A snapshot that
 * fails is an alarm: it is logged, counted, and the next snapshot rests on nothing.
 */
#include "proc/verifier.h"

#include "base/clock.h"
#include "base/log.h"
#include "durable/snapshot_record.h"
#include "proc/service_thread.h"
#include "proc/snapshotter.h"
#include "proc/tasks.h"
#include "proc/thread.h"
#include "shm/atomics.h"

#include <stdlib.h>

enum { FIRST_LOOK_SECONDS = 60, NICE = 19, US_PER_MS = 1000 };
#define US_PER_SECOND INT64_C(1000000)

struct verifier {
    struct supervisor *s;
    struct service_thread thread;
    /* under its mutex */
    struct uuid task; /* that the trial under way is for; zero: none */
    bool cancel;      /* atomic: the trial looks at it */
    int64_t looked_us; /* the thread's: when the newest was looked at by itself; monotonic */
};

static void set_cancel(struct verifier *v, bool value) {
    __atomic_store_n(&v->cancel, value, __ATOMIC_RELAXED);
}

void verifier_wake(struct verifier *v) {
    service_thread_wake(&v->thread);
}

static void set_task(struct verifier *v, const struct uuid *task) {
    lock_take(&v->thread.mutex);
    v->task = task == NULL ? (struct uuid){{0}} : *task;
    set_cancel(v, v->thread.stopping);
    lock_release(&v->thread.mutex);
}

void verifier_cancel(struct verifier *v, const struct uuid *task) {
    lock_take(&v->thread.mutex);
    if (uuid_equal(&v->task, task)) {
        set_cancel(v, true);
    }
    lock_release(&v->thread.mutex);
}

/* --- a trial ---------------------------------------------------------------------------------------------------------- */

/* The last one that verified, as it is on record. */
static void show_last(struct verifier *v) {
    struct service_figures *f = v->s->figures;
    struct snapshot_note note;
    if (snapshot_record_last_good(v->s->snapshot_record, &note)) {
        __atomic_store_n(&f->verified_at, note.verified_at, __ATOMIC_RELAXED);
        store_relaxed_u64(&f->verified_lsn, note.lsn);
    }
}

static void keep(struct verifier *v, const struct snapshot_info *info, bool good) {
    struct service_figures *f = v->s->figures;
    struct status st;
    if (!snapshot_record_verified(v->s->snapshot_record, info, good, &st)) {
        log_status(LOG_LEVEL_WARN, "the record of snapshots is not saved", &st);
    }
    (void)add_relaxed_u64(good ? &f->verifications : &f->verification_failures, 1);
    store_relaxed_u32(&f->verified_good, good ? 1 : 0);
    show_last(v);
}

static void tell_task(void *ctx, uint64_t done, uint64_t total) {
    struct verifier *v = (struct verifier *)ctx;
    if (!uuid_equal(&v->task, &(struct uuid){{0}})) {
        tasks_progress(v->s->tasks, &v->task, done, total); /* this thread alone changes v->task */
    }
}

/* Whether it failed because of what it is, and not for want of memory, or because it is gone. */
static bool is_verdict(const struct status *st) {
    return st->code != STATUS_BUSY && st->code != STATUS_NO_MEMORY && st->code != STATUS_NOT_FOUND;
}

static bool try_one(struct verifier *v, const char *name, struct status *st) {
    struct snapshot_trial_options options = {.cancel = &v->cancel, .tell = tell_task, .ctx = v};
    struct snapshot_info info = {0};
    int64_t begun = clock_monotonic_us();
    bool ok = snapshot_trial(v->s->snapshots_dir_fd, name, &options, &info, st);
    long long took = (long long)((clock_monotonic_us() - begun) / US_PER_MS);
    if (ok) {
        tell_task(v, info.documents, info.documents);
        keep(v, &info, true);
        log_info("snapshot %s verified: %llu documents and %llu chunks came out, in %lld ms", name, (unsigned long long)info.documents,
                 (unsigned long long)info.chunks, took);
    } else if (is_verdict(st)) {
        memcpy(info.name, name, strlen(name) + 1);
        keep(v, &info, false);
        snapshotter_distrust(v->s->snapshotter);
        log_status(LOG_LEVEL_ERROR, "a snapshot does not verify; the next one will be whole", st);
    }
    return ok;
}

static void run_task(struct verifier *v, const struct uuid *task, const struct uuid *packed) {
    char name[SNAPSHOT_NAME_MAX];
    struct status st = {0};
    set_task(v, task);
    bool ok = snapshot_name_unpack(packed, name) ? try_one(v, name, &st) : status_set(&st, STATUS_NOT_FOUND, "there is no such snapshot");
    set_task(v, NULL);
    if (!ok && st.code == STATUS_BUSY) {
        status_clear(&st); /* cancelled */
    }
    tasks_finish(v->s->tasks, task, ok ? NULL : &st);
}

/* --- by itself -------------------------------------------------------------------------------------------------------- */

static int64_t interval_us(const struct verifier *v) {
    return (int64_t)load_relaxed_u64(&v->s->tunables.snapshot_verify_interval) * US_PER_SECOND;
}

/* Not again what verified within the interval, by whatever clock; a step of the wall clock costs a trial more or a later one. */
static bool is_fresh(const struct verifier *v, const char *name) {
    struct snapshot_note note;
    int64_t now = clock_wall_us();
    return snapshot_record_find(v->s->snapshot_record, name, &note) && note.verified_at != 0 && note.good && now >= note.verified_at &&
           now - note.verified_at < interval_us(v);
}

static void try_newest(struct verifier *v) {
    struct snapshot_info *list = NULL;
    struct status st;
    size_t count = 0;
    if (!snapshot_list(v->s->snapshots_dir_fd, &list, &count, &st)) {
        log_status(LOG_LEVEL_WARN, "no snapshot is verified", &st);
        return;
    }
    if (count > 0 && !is_fresh(v, list[0].name)) {
        set_task(v, NULL);
        (void)!try_one(v, list[0].name, &st); /* it has been told */
    }
    free(list);
}

/* --- the thread ------------------------------------------------------------------------------------------------------- */

static int64_t due_at(const struct verifier *v) {
    return interval_us(v) > 0 ? v->looked_us + interval_us(v) : INT64_MAX;
}

static void *run(void *arg) {
    struct verifier *v = (struct verifier *)arg;
    struct uuid task;
    struct uuid packed;
    uint64_t seen = 0;
    thread_set_nice(NICE);
    while (service_thread_wait(&v->thread, due_at(v), &seen)) {
        while (tasks_begin_next(v->s->tasks, TASK_VERIFY, &task, &packed)) {
            run_task(v, &task, &packed);
        }
        if (due_at(v) <= clock_monotonic_us()) {
            v->looked_us = clock_monotonic_us();
            try_newest(v);
        }
    }
    return NULL;
}

bool verifier_new(struct supervisor *s, struct verifier **ret, struct status *st) {
    struct verifier *v = (struct verifier *)calloc(1, sizeof *v);
    if (v == NULL) {
        return status_no_memory(st);
    }
    v->s = s;
    int64_t first = FIRST_LOOK_SECONDS * US_PER_SECOND;
    v->looked_us = clock_monotonic_us() - (interval_us(v) > first ? interval_us(v) - first : 0);
    if (!service_thread_init(&v->thread, LOCK_SNAPSHOTTER, st)) {
        free(v);
        return false;
    }
    show_last(v);
    if (!service_thread_start(&v->thread, "verify", run, v, st)) {
        verifier_free(v);
        return false;
    }
    *ret = v;
    return true;
}

void verifier_stop(struct verifier *v) {
    lock_take(&v->thread.mutex);
    v->thread.stopping = true; /* together with the cancel: else a trial that begins now would take it back (set_task) */
    set_cancel(v, true);
    lock_release(&v->thread.mutex);
    service_thread_stop(&v->thread);
}

void verifier_free(struct verifier *v) {
    if (v == NULL) {
        return;
    }
    verifier_stop(v);
    service_thread_fini(&v->thread);
    free(v);
}
