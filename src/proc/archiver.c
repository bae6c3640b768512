/*
 * archiver.c - see archiver.h; what a copy is stands in durable/wal_archive.c.
 *
 * The thread wakes when the log has gone over to another segment, now and then to let old copies go, and after a failure to try again, each time later.
 *
 * A failure is an alarm and nothing else: it is logged, counted and to be seen in the figures, while segments stay where they are and wait. That takes
 * room on the disk. When finished segments of more than archive_max_lag_bytes wait, writes are refused as on a full disk, until copies go through again:
 * the alternative would be to lose the only way back to a point in time, without a word, or to run the disk full.
 *
 * The first time takes what there is of the last segment, too: a server that was killed could not. So does the last time, at an orderly stop. That waits for it
 * as long as stop_timeout_ms says: a mount may hang. Then the thread is left where it is, and with it all that it works on, until the process ends.
 *
 * A copy goes when it is older than archive_keep_days, by the clock of snapshots/record, and holds nothing above the LSN of the oldest snapshot that is kept:
 * each of those can be rolled forward to now. Before this process has looked at the snapshots, no copy goes.
 */
#include "proc/archiver.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "durable/snapshot_record.h"
#include "durable/wal_format.h"
#include "proc/gauges.h"
#include "proc/lock.h"
#include "proc/log_floor.h"
#include "proc/thread.h"
#include "shm/atomics.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { RETRY_FIRST_SECONDS = 1, RETRY_MOST_SECONDS = 60, LOOK_SECONDS = 3600, NICE = 10 };
#define US_PER_SECOND INT64_C(1000000)
#define US_PER_MS INT64_C(1000)

struct archiver {
    struct supervisor *s;
    pthread_t thread;
    bool started;
    bool hangs; /* it did not end in time */
    struct lock mutex;
    pthread_cond_t wake;
    /* under the mutex */
    bool due;
    bool stopping;
    bool final;          /* when it stops: once more, with the last segment */
    bool over;           /* the thread has ended */
    uint64_t oldest_lsn; /* of the snapshots that are kept; 0: not known yet */
    /* of the thread */
    struct oplog_archived archived;
    int64_t retry_seconds; /* 0: the last time went well */
    /* of the committer */
    uint64_t place;
    uint64_t lag_bytes; /* atomic, written by the thread: the figures are for display, and workers can write there */
};

static bool is_on(const struct archiver *a) {
    return a->s->config.archive_dir[0] != '\0';
}

void archiver_note(struct archiver *a, uint64_t place) {
    if (!is_on(a) || place == a->place) {
        return;
    }
    a->place = place;
    lock_take(&a->mutex);
    a->due = true;
    (void)pthread_cond_broadcast(&a->wake);
    lock_release(&a->mutex);
}

bool archiver_admits(struct archiver *a, struct status *st) {
    uint64_t most = load_relaxed_u64(&a->s->tunables.archive_max_lag_bytes);
    uint64_t lag = load_relaxed_u64(&a->lag_bytes);
    return most == 0 || lag <= most ||
           status_set(st, STATUS_NO_SPACE, "%llu bytes of the log wait for archive_dir, more than archive_max_lag_bytes", (unsigned long long)lag);
}

void archiver_set_oldest(struct archiver *a, uint64_t lsn) {
    lock_take(&a->mutex);
    a->oldest_lsn = lsn;
    lock_release(&a->mutex);
}

/* --- copying ---------------------------------------------------------------------------------------------------------- */

static void show(struct archiver *a) {
    struct service_figures *f = a->s->figures;
    store_relaxed_u64(&a->lag_bytes, a->archived.waiting_bytes);
    store_relaxed_u64(&f->archive_lsn, a->archived.lsn);
    store_relaxed_u64(&f->archive_lag_segments, a->archived.waiting);
    store_relaxed_u64(&f->archive_lag_bytes, a->archived.waiting_bytes);
    store_relaxed_u64(&f->archived_segments, a->archived.copied);
}

/* What waits, without touching the directory. */
static void count_waiting(struct archiver *a) {
    struct status ignored;
    (void)!oplog_archive(a->s->log, -1, false, &a->archived, &ignored);
    show(a);
}

static bool copy(struct archiver *a, int dir_fd, bool with_last, struct status *st) {
    bool ok = oplog_archive(a->s->log, dir_fd, with_last, &a->archived, st);
    show(a);
    log_floor_set(a->s->log_floor, LOG_NEED_ARCHIVE, a->archived.lsn);
    return ok;
}

static bool let_go(struct archiver *a, int dir_fd, struct status *st) {
    uint32_t days = (uint32_t)load_relaxed_u64(&a->s->tunables.archive_keep_days);
    uint64_t removed = 0;
    if (!snapshot_record_mark(a->s->snapshot_record, catalog_published_lsn(a->s->catalog), st)) {
        return false;
    }
    lock_take(&a->mutex);
    uint64_t lsn = a->oldest_lsn;
    lock_release(&a->mutex);
    uint64_t old = days > 0 ? snapshot_record_lsn_before(a->s->snapshot_record, days) : 0;
    lsn = old < lsn ? old : lsn;
    if (lsn == 0) {
        return true;
    }
    bool ok = oplog_archive_prune(a->s->log, dir_fd, lsn, &removed, st);
    if (removed > 0) {
        log_info("the archive of the log: %llu old segments removed", (unsigned long long)removed);
    }
    return ok;
}

/* The directory is opened each time: it may be a mount that comes and goes. */
static bool work(struct archiver *a, bool with_last, struct status *st) {
    int fd = -1;
    if (!io_open_at(AT_FDCWD, a->s->config.archive_dir, O_RDONLY | O_DIRECTORY, 0, &fd, st)) {
        count_waiting(a);
        return false;
    }
    bool ok = copy(a, fd, with_last, st);
    struct status later;
    gauges_disk(&a->s->figures->disk[DISK_ARCHIVE], fd);
    if (ok && !let_go(a, fd, &later)) {
        log_status(LOG_LEVEL_WARN, "old segments stay in the archive of the log", &later);
    }
    io_close(&fd);
    return ok;
}

static bool work_and_tell(struct archiver *a, bool with_last) {
    struct status st = {0};
    if (work(a, with_last, &st)) {
        if (a->retry_seconds > 0) {
            log_info("the log is archived again, up to LSN %llu", (unsigned long long)a->archived.lsn);
        }
        a->retry_seconds = 0;
        return true;
    }
    (void)add_relaxed_u64(&a->s->figures->archive_failures, 1);
    log_status(LOG_LEVEL_ERROR, "the log is not archived; its segments stay and wait", &st);
    a->retry_seconds = a->retry_seconds == 0 ? RETRY_FIRST_SECONDS : 2 * a->retry_seconds;
    a->retry_seconds = a->retry_seconds > RETRY_MOST_SECONDS ? RETRY_MOST_SECONDS : a->retry_seconds;
    return false;
}

/* --- the thread ------------------------------------------------------------------------------------------------------- */

/* False: to stop. After a failure a new segment is counted at once, and copied when it is time to try again. */
static bool wait_until_due(struct archiver *a) {
    int64_t until = clock_monotonic_us() + (a->retry_seconds > 0 ? a->retry_seconds : LOOK_SECONDS) * US_PER_SECOND;
    bool waiting = true;
    lock_take(&a->mutex);
    while (!a->stopping && waiting) {
        waiting = !a->due && lock_wait_until(&a->mutex, &a->wake, until);
        if (a->due && a->retry_seconds > 0) {
            a->due = false;
            lock_release(&a->mutex);
            count_waiting(a);
            lock_take(&a->mutex);
            waiting = clock_monotonic_us() < until;
        }
    }
    a->due = false;
    bool go_on = !a->stopping;
    lock_release(&a->mutex);
    return go_on;
}

static void *run(void *arg) {
    struct archiver *a = (struct archiver *)arg;
    bool caught_up = false;
    thread_set_nice(NICE);
    do {
        caught_up = work_and_tell(a, !caught_up) || caught_up;
    } while (wait_until_due(a));
    lock_take(&a->mutex);
    bool final = a->final;
    lock_release(&a->mutex);
    if (final) {
        (void)!work_and_tell(a, true);
    }
    lock_take(&a->mutex);
    a->over = true;
    (void)pthread_cond_broadcast(&a->wake);
    lock_release(&a->mutex);
    return NULL;
}

bool archiver_new(struct supervisor *s, struct archiver **ret, struct status *st) {
    struct archiver *a = (struct archiver *)calloc(1, sizeof *a);
    if (a == NULL) {
        return status_no_memory(st);
    }
    a->s = s;
    lock_init(&a->mutex, LOCK_SNAPSHOTTER);
    if (!thread_cond_init(&a->wake, st)) {
        lock_fini(&a->mutex);
        free(a);
        return false;
    }
    if (is_on(a)) {
        log_floor_set(s->log_floor, LOG_NEED_ARCHIVE, 0);
        if (!thread_start(&a->thread, "archive", run, a, st)) {
            archiver_free(a);
            return false;
        }
        a->started = true;
    }
    *ret = a;
    return true;
}

/* --- the end ---------------------------------------------------------------------------------------------------------- */

struct unarchived {
    uint64_t lsn; /* archived up to there */
    uint64_t first_lsn;
    char first[WAL_NAME_MAX];
    unsigned count;
};

/* The segment that holds the first record which is not archived. */
static bool find_first(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct unarchived *u = (struct unarchived *)ctx;
    uint64_t first_lsn = 0;
    (void)dir_fd;
    (void)st;
    if (wal_name_parse(name, &first_lsn) && first_lsn <= u->lsn + 1 && first_lsn > u->first_lsn) {
        u->first_lsn = first_lsn;
        (void)snprintf(u->first, sizeof u->first, "%s", name);
    }
    return true;
}

static bool count_those_behind(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct unarchived *u = (struct unarchived *)ctx;
    uint64_t first_lsn = 0;
    (void)dir_fd;
    (void)st;
    u->count += wal_name_parse(name, &first_lsn) && first_lsn > u->first_lsn ? 1 : 0;
    return true;
}

static void tell_unarchived(const struct archiver *a) {
    struct unarchived u = {.lsn = load_relaxed_u64(&a->s->figures->archive_lsn)};
    struct status st;
    int fd = -1;
    bool ok = io_open_at(a->s->data_dir_fd, "wal", O_RDONLY | O_DIRECTORY, 0, &fd, &st) && io_each_entry(fd, "the log", find_first, &u, &st) &&
              io_each_entry(fd, "the log", count_those_behind, &u, &st);
    io_close(&fd);
    if (ok) {
        log_error("archive_dir does not answer, and the stop goes on without it: wal/%s and %u segments behind it are not archived; the next start goes on there", u.first,
                  u.count);
    } else {
        log_status(LOG_LEVEL_ERROR, "archive_dir does not answer, and the stop goes on without it", &st);
    }
}

/* Ends the thread, when it does what it has in hand before the deadline. */
static bool end_thread(struct archiver *a, bool final) {
    int64_t deadline = clock_monotonic_us() + (int64_t)a->s->config.stop_timeout_ms * US_PER_MS;
    bool in_time = true;
    lock_take(&a->mutex);
    a->stopping = true;
    a->final = final;
    (void)pthread_cond_broadcast(&a->wake);
    while (!a->over && in_time) {
        in_time = lock_wait_until(&a->mutex, &a->wake, deadline);
    }
    bool over = a->over;
    lock_release(&a->mutex);
    if (over) {
        (void)pthread_join(a->thread, NULL);
        a->started = false;
    }
    return over;
}

bool archiver_stop(struct archiver *a, bool final) {
    if (a == NULL || !a->started) {
        return true;
    }
    if (a->hangs || !end_thread(a, final)) {
        if (!a->hangs) {
            tell_unarchived(a);
        }
        a->hangs = true;
    }
    return !a->hangs;
}

void archiver_free(struct archiver *a) {
    if (a == NULL || !archiver_stop(a, false)) {
        return;
    }
    (void)pthread_cond_destroy(&a->wake);
    lock_fini(&a->mutex);
    free(a);
}
