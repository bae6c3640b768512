/*
 * supervisor_stop.c - the ends of the process.
 *
 *   in order     nobody new can connect; workers finish what they have in hand and what stands in the socket's queue; what
 *                waits is committed; final snapshot, unless it would be large, LOG_CLOSE, checkpoint of the arenas, the archive of the log.
 *                Where the sockets stay, held by the service manager or kept for a successor (supervisor_upgrade.c), who connects
 *                waits in their queues for the next server, and no request fails
 *   at once      QUIT, or a second TERM: nothing is saved, because everything that was acknowledged is in the log
 *   log failed   the clients that wait are told, then exit code EX_IOERR: only a start can find out what is really on the disk
 */
#include "proc/supervisor_internal.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "proc/archiver.h"
#include "proc/asker.h"
#include "proc/background.h"
#include "proc/checkpointer.h"
#include "proc/children.h"
#include "proc/committer.h"
#include "proc/notify.h"
#include "proc/exchanger.h"
#include "proc/flusher.h"
#include "proc/providers.h"
#include "proc/rebuild.h"
#include "proc/snapshotter.h"
#include "proc/thread.h"
#include "proc/verifier.h"
#include "shm/atomics.h"

#include <fcntl.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    IDLE_GRACE_US = 2000000, /* so long for workers whose client does not complete its request's head */
    BAD_NEWS_US = 1000000    /* after the log failed: so long workers have to tell their clients */
};

static void close_sockets(struct supervisor *s) {
    for (int i = 0; i < LISTENERS; i++) {
        listener_close(&s->listener[i]);
    }
}

/* The queues that workers leave are somebody's. */
static bool sockets_stay(const struct run *r) {
    bool held = true;
    for (int i = 0; i < LISTENERS; i++) {
        held &= r->s.listener[i].held;
    }
    return held || r->upgrading;
}

void supervisor_begin_drain(struct run *r) {
    struct supervisor *s = &r->s;
    r->begun_us = clock_monotonic_us();
    r->draining_us = r->begun_us;
    r->phase = PHASE_DRAINING;
    log_info("stopping: %u worker%s finish what they have in hand", children_alive(s->children),
             children_alive(s->children) == 1 ? "" : "s");
    if (r->upgrading) {
        notify_send("RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=Upgrading: workers finish", (long long)r->begun_us);
    } else {
        notify_send("STOPPING=1\nSTATUS=Stopping: workers finish");
    }
    if (!sockets_stay(r)) {
        store_release_u32(&s->control->accepting, 0); /* pairs with: CONTROL_STATE; else workers would leave the queues to others */
        close_sockets(s);
    }
    children_drain(s->children);
    providers_stop(s->providers);
}

static bool save_all(struct run *r, struct status *st) {
    struct supervisor *s = &r->s;
    struct snapshot_info info;
    struct status why;
    bool taken = false;
    int64_t begun = clock_monotonic_us();
    log_info("saving: %zu librar%s", catalog_library_count(s->catalog), catalog_library_count(s->catalog) == 1 ? "y" : "ies");
    if (r->upgrading) {
        log_info("no final snapshot: the next server goes on from the checkpoint");
    } else if (!snapshotter_final(s->snapshotter, &taken, &info, &why)) {
        log_status(LOG_LEVEL_ERROR, "no final snapshot; the log keeps everything", &why);
    } else if (taken) {
        log_info("final snapshot: %s", info.name);
    }
    log_info("flushing the log");
    if (!committer_close_log(s->committer, st)) {
        return false;
    }
    int64_t closed = clock_monotonic_us();
    uint64_t lsn = committer_last_lsn(s->committer);
    log_info("log closed at LSN %llu; snapshot and log took %.1f ms", (unsigned long long)lsn,
             (double)(closed - begun) / US_PER_MS);
    if (!catalog_settle(s->catalog, st)) {
        return false;
    }
    if (!checkpointer_final(s->checkpointer, &why)) {
        log_status(LOG_LEVEL_ERROR, "no last checkpoint; the log keeps everything", &why);
    }
    if (!checkpoint_write(s->data_dir_fd, s->catalog, s->idempotency, s->keys, lsn, st)) {
        return false;
    }
    log_info("vector stores saved in %.1f ms", (double)(clock_monotonic_us() - closed) / US_PER_MS);
    (void)archiver_stop(s->archiver, true); /* the last thing: it may take its time */
    return true;
}

/* In this order, because those above may still call those below. */
void supervisor_stop_threads(struct supervisor *s) {
    if (s->asker != NULL) { /* while there are sides yet: what is answered at the last moment may be for one */
        providers_hush(s->providers);
        asker_stop(s->asker);
    }
    exchanger_stop(s->exchanger);
    if (s->rebuilder != NULL) {
        rebuilder_stop(s->rebuilder);
    }
    if (s->flusher != NULL) {
        flusher_stop(s->flusher);
    }
    if (s->verifier != NULL) {
        verifier_stop(s->verifier);
    }
    if (s->snapshotter != NULL) {
        snapshotter_stop(s->snapshotter);
    }
    if (s->checkpointer != NULL) {
        checkpointer_stop(s->checkpointer);
    }
    if (s->background != NULL) {
        background_stop(s->background);
    }
    committer_stop(s->committer);
}

static void *run_finish(void *arg) {
    struct run *r = (struct run *)arg;
    supervisor_stop_threads(&r->s);
    bool ok = load_acquire_u32(&r->s.log_failed) == 0 ? save_all(r, &r->finish.st) /* pairs with: LOG_FAILED */
                                                      : status_set(&r->finish.st, STATUS_IO, "the log has failed");
    errand_end(r, &r->finish, ok);
    return NULL;
}

static void begin_finish(struct run *r) {
    r->phase = PHASE_FINISHING;
    notify_send("STATUS=Stopping: saving");
    if (!thread_start(&r->finish.thread, "stop", run_finish, r, &r->finish.st)) {
        supervisor_fail(r, "cannot save; the log keeps everything", &r->finish.st);
        return;
    }
    r->finish.running = true;
}

static void end_finish(struct run *r) {
    if (!r->finish.ok) {
        supervisor_fail(r, "not everything was saved; the log keeps what was acknowledged", &r->finish.st);
        return;
    }
    log_info("stopped; complete in %.1f ms", (double)(clock_monotonic_us() - r->begun_us) / US_PER_MS);
    r->phase = PHASE_OVER;
}

static void extend_stop(struct run *r, int64_t now_us) {
    if (now_us - r->extended_us >= EXTEND_US) {
        r->extended_us = now_us;
        notify_send("EXTEND_TIMEOUT_USEC=%d", EXTEND_BY_US);
    }
}

/* While workers finish: those that wait for a silent client get a moment, the others the configured time. */
void supervisor_watch_drain(struct run *r, int64_t now_us) {
    struct supervisor *s = &r->s;
    int64_t waited = now_us - r->draining_us;
    extend_stop(r, now_us);
    if (children_alive(s->children) == 0) {
        begin_finish(r);
        return;
    }
    children_watch(s->children, &s->config, now_us);
    children_kill_headless(s->children, now_us, IDLE_GRACE_US);
    if (waited > (int64_t)s->config.stop_timeout_ms * US_PER_MS && !r->finishing_kills) {
        log_warn("%u workers did not finish in time and are killed", children_alive(s->children));
        r->finishing_kills = true;
        children_kill_all(s->children);
    }
}

void supervisor_watch_finish(struct run *r, int64_t now_us) {
    extend_stop(r, now_us);
    if (errand_over(&r->finish)) {
        end_finish(r);
    }
}

void supervisor_remove_files(struct supervisor *s) {
    struct status st;
    close_sockets(s);
    if (s->pid_written && !io_unlink_at(AT_FDCWD, s->pid_path, &st)) {
        log_status(LOG_LEVEL_WARN, "the pid file stays behind", &st);
    }
    s->pid_written = false;
}

/* Workers die with us. */
_Noreturn void supervisor_stop_at_once(struct run *r, const char *why) {
    notify_send("STOPPING=1");
    log_info("stopped at once (%s); the log has everything that was acknowledged", why);
    supervisor_remove_files(&r->s);
    _exit(EX_OK);
}

/* The committer has told its clients; workers get a moment to pass that on. */
void supervisor_watch_failed_log(struct run *r, int64_t now_us) {
    struct supervisor *s = &r->s;
    if (r->phase == PHASE_SERVING) {
        supervisor_begin_drain(r);
        return;
    }
    if (children_alive(s->children) > 0 && now_us - r->draining_us < BAD_NEWS_US) {
        return;
    }
    log_error("ending with exit code %d because the log has failed; the next start recovers", EX_IOERR);
    supervisor_remove_files(s);
    _exit(EX_IOERR);
}
