/*
 * supervisor.c - the main thread: start, signals, watching, stop.
 *
 *   phase        what happens                                                        ends when
 *   RECOVERING   the recovery thread brings the libraries back; nobody can connect   it is done
 *   SERVING      workers answer; main watches                                        a signal, or the log has failed
 *   DRAINING     nobody new can connect, or waits for the next server; workers       no worker is left, or time is up
 *                finish what they have in hand
 *   FINISHING    the stop thread commits what waits, takes the final snapshot,       it is done
 *                closes the log and saves the arenas
 *   OVER         the process ends, or becomes its successor (supervisor_upgrade.c)
 *
 * Main never does long work itself, so signals are answered at any time and systemd hears from us: it sleeps in poll on a
 * signalfd and an eventfd and wakes at least every TICK_MS for the watchdog. It alone spawns and reaps: PR_SET_PDEATHSIG follows
 * the thread that forked.
 *
 * A second TERM or INT, or QUIT at any time, ends the process at once. That is always safe: what was acknowledged is in the log.
 * When the log has failed the process ends with EX_IOERR after the workers have passed the bad news on, without snapshot or
 * checkpoint.
 */
#include "proc/supervisor_internal.h"

#include "proc/asker.h"
#include "proc/audit.h"
#include "proc/newkey.h"

#include "base/clock.h"
#include "base/log.h"
#include "proc/channels.h"
#include "proc/children.h"
#include "proc/committer.h"
#include "proc/gauges.h"
#include "proc/notify.h"
#include "proc/providers.h"
#include "proc/snapshotter.h"
#include "proc/startlog.h"
#include "shm/atomics.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    TICK_MS = 50,
    EAGER_TICK_MS = 2,  /* while a worker starts: its successor is announced, and the next one of a reload goes */
    LOOK_US = 500000,   /* at what others ask main to look at */
    WATCHDOG_SHARE = 4, /* so often in a period systemd hears from us */
    FILE_MASK = 027
};

void supervisor_wake(struct supervisor *s) {
    const uint64_t one = 1;
    ssize_t n = write(s->wake_fd, &one, sizeof one);
    (void)n; /* a full counter wakes as well */
}

/* --- errands ---------------------------------------------------------------------------------------------------------- */

void errand_end(struct run *r, struct errand *e, bool ok) {
    e->ok = ok;
    store_release_u32(&e->done, 1); /* pairs with: ERRAND_DONE; else main could read the outcome before it is written */
    supervisor_wake(&r->s);
}

bool errand_over(struct errand *e) {
    if (!e->running || load_acquire_u32(&e->done) == 0) { /* pairs with: ERRAND_DONE */
        return false;
    }
    (void)pthread_join(e->thread, NULL);
    e->running = false;
    return true;
}

static int exit_code_of(const struct status *st) {
    switch (st->code) {
    case STATUS_CONFIG:
        return EX_CONFIG;
    case STATUS_CORRUPT:
        return EX_DATAERR;
    case STATUS_IO:
    case STATUS_NO_SPACE:
        return EX_IOERR;
    case STATUS_NO_MEMORY:
        return EX_OSERR;
    case STATUS_CONFLICT:
    case STATUS_BUSY:
        return EX_TEMPFAIL;
    default:
        return EX_SOFTWARE;
    }
}

void supervisor_fail(struct run *r, const char *what, const struct status *st) {
    log_status(LOG_LEVEL_ERROR, what, st);
    r->exit_code = exit_code_of(st);
    r->phase = PHASE_OVER;
}

/* --- serving ---------------------------------------------------------------------------------------------------------- */

static void announce(struct run *r, int64_t now_us) {
    if (r->announced || children_ready(r->s.children) == 0) {
        return;
    }
    r->announced = true;
    __atomic_store_n(&r->s.figures->startup_us, now_us - r->begun_us, __ATOMIC_RELAXED);
    log_info("ready, %.1f ms after the start", (double)(now_us - r->begun_us) / US_PER_MS);
    notify_send("READY=1\nSTATUS=Serving");
}

static void end_reload(struct run *r) {
    if (r->reloading && !children_replacing(r->s.children)) {
        r->reloading = false;
        notify_send("READY=1\nSTATUS=Serving");
    }
}

static void look_around(struct run *r, int64_t now_us) {
    struct supervisor *s = &r->s;
    if (r->reembed != NULL && !reembed_look(r->reembed, now_us)) {
        reembed_free(r->reembed);
        r->reembed = NULL;
    }
    gauges_look(s->gauges, now_us);
    if (now_us - r->looked_us >= LOOK_US) {
        r->looked_us = now_us;
        newkey_look(s);
    }
}

/* systemd's watchdog hears from us as long as the threads that matter move, too. */
static void beat(struct run *r, int64_t now_us) {
    int64_t period = notify_watchdog_us();
    if (period == 0 || now_us - r->beat_us < period / WATCHDOG_SHARE) {
        return;
    }
    bool stuck = r->phase == PHASE_SERVING &&
                 (committer_busy_us(r->s.committer) > period / 2 || channels_quiet_us(r->s.channels) > period / 2);
    if (!stuck) {
        r->beat_us = now_us;
        notify_send("WATCHDOG=1");
    }
}

static void replace_workers(struct run *r) {
    struct status st;
    if (!children_configure(r->s.children, &r->s.config, &st)) {
        log_status(LOG_LEVEL_ERROR, "workers keep their configuration", &st);
    }
}

static void reload(struct run *r) {
    struct config fresh;
    struct status st;
    char ignored[CONFIG_TEXT_MAX];
    unsigned ignored_count = 0;
    notify_send("RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=Reloading", (long long)clock_monotonic_us());
    r->reloading = true;
    if (!supervisor_read_config(r->options, &fresh, &st)) {
        log_error("not reloaded, the running configuration stays: %s", st.detail);
        return;
    }
    bool for_workers = config_reload(&r->s.config, &fresh, ignored, &ignored_count);
    key_table_set_configured(r->s.keys, r->s.config.has_admin_key ? r->s.config.admin_key_sha256 : NULL);
    log_set_level((enum log_level)r->s.config.log_level);
    supervisor_set_tunables(&r->s);
    snapshotter_wake(r->s.snapshotter);
    if (ignored_count > 0) {
        log_warn("%u changed key%s only taken at the next start: %s", ignored_count, ignored_count == 1 ? " is" : "s are",
                 ignored);
    }
    if (for_workers) {
        replace_workers(r);
    }
    providers_renew(r->s.providers); /* it reads its keys anew */
    asker_resume(r->s.asker);
    log_info("configuration reloaded%s", for_workers ? "; workers are replaced one by one" : "");
}

static void reopen_log(struct run *r) {
    struct status st;
    audit_reopen(r->s.audit);
    if (r->s.config.log_file[0] == '\0') {
        return;
    }
    if (!supervisor_open_log_file(r->s.config.log_file, &st)) {
        log_status(LOG_LEVEL_ERROR, "the log is not reopened", &st);
        return;
    }
    log_info("log reopened");
    if (r->phase == PHASE_SERVING) {
        replace_workers(r); /* they have inherited the old file */
        providers_renew(r->s.providers);
    }
}

/* --- the loop ----------------------------------------------------------------------------------------------------------- */

static void ask_to_stop(struct run *r, int signal_number) {
    const char *name = sigdescr_np(signal_number);
    if (r->stop_asked || signal_number == SIGQUIT || r->phase == PHASE_RECOVERING) {
        supervisor_stop_at_once(r, name == NULL ? "signal" : name);
    }
    r->stop_asked = true;
    r->upgrading = false;
    if (r->phase == PHASE_SERVING) {
        supervisor_begin_drain(r);
    }
}

static void take_signals(struct run *r) {
    struct signalfd_siginfo info;
    while (read(r->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        switch ((int)info.ssi_signo) {
        case SIGTERM:
        case SIGINT:
        case SIGQUIT:
            ask_to_stop(r, (int)info.ssi_signo);
            break;
        case SIGHUP:
            if (r->phase == PHASE_SERVING) {
                reload(r);
            }
            break;
        case SIGUSR1:
            reopen_log(r);
            break;
        case SIGUSR2:
            if (r->phase == PHASE_SERVING) {
                supervisor_begin_upgrade(r);
            }
            break;
        default: /* SIGCHLD: children_reap looks at every turn */
            break;
        }
    }
}

static void serve_tick(struct run *r, int64_t now_us) {
    children_tend(r->s.children, now_us);
    providers_tend(r->s.providers, now_us);
    children_watch(r->s.children, &r->s.config, now_us);
    announce(r, now_us);
    end_reload(r);
    look_around(r, now_us);
    supervisor_watch_upgrade(r); /* last: it may end this phase */
}

static void tick(struct run *r) {
    int64_t now_us = clock_monotonic_us();
    beat(r, now_us);
    if (load_acquire_u32(&r->s.log_failed) != 0 && r->phase != PHASE_OVER) { /* pairs with: LOG_FAILED */
        supervisor_watch_failed_log(r, now_us);
        return;
    }
    switch (r->phase) {
    case PHASE_RECOVERING:
        if (errand_over(&r->recovery)) {
            supervisor_begin_serving(r);
        } else {
            supervisor_tell_progress(r, now_us);
        }
        break;
    case PHASE_SERVING:
        serve_tick(r, now_us);
        break;
    case PHASE_DRAINING:
        supervisor_watch_drain(r, now_us);
        break;
    case PHASE_FINISHING:
        supervisor_watch_finish(r, now_us);
        break;
    case PHASE_OVER:
        break;
    }
}

static void wait_for_events(struct run *r) {
    struct pollfd fds[2] = {{.fd = r->signal_fd, .events = POLLIN}, {.fd = r->s.wake_fd, .events = POLLIN}};
    uint64_t count;
    (void)poll(fds, 2, children_starting(r->s.children) ? EAGER_TICK_MS : TICK_MS);
    ssize_t n = read(r->s.wake_fd, &count, sizeof count);
    (void)n; /* it only wakes */
}

static void main_loop(struct run *r) {
    while (r->phase != PHASE_OVER) {
        wait_for_events(r);
        take_signals(r);
        children_reap(r->s.children);
        tick(r);
    }
}

int supervisor_run(const struct supervisor_options *options, const struct config *config) {
    static struct run r;
    struct listener kept[LISTENERS];
    struct status st;
    r = (struct run){.options = options,
                     .phase = PHASE_RECOVERING,
                     .exit_code = EX_OK,
                     .signal_fd = -1,
                     .begun_us = clock_monotonic_us(),
                     .s = {.config = *config,
                           .model_fd = -1,
                           .key_page_fd = -1,
                           .audit_fd = -1,
                           .data_dir_fd = -1,
                           .vectors_dir_fd = -1,
                           .snapshots_dir_fd = -1,
                           .lock_fd = -1,
                           .control_fd = -1,
                           .wake_fd = -1,
                           .listener = {LISTENER_CLOSED, LISTENER_CLOSED}}};
    lock_init(&r.progress_mutex, LOCK_PROGRESS);
    (void)umask(umask(FILE_MASK) | FILE_MASK); /* a stricter one stays */
    notify_init();
    supervisor_note_program(&r);
    supervisor_set_tunables(&r.s);
    const char *failed = supervisor_start(&r, &st);
    if (failed != NULL) {
        supervisor_fail(&r, failed, &st);
        r.exit_code = r.exit_code == EX_IOERR ? EX_CANTCREAT : r.exit_code; /* a directory, a socket, a file of the start */
    }
    main_loop(&r);
    if (r.s.children != NULL && children_alive(r.s.children) > 0) {
        children_kill_all(r.s.children);
    }
    if (r.upgrading) {
        supervisor_keep_sockets(&r, kept);
    }
    supervisor_tear_down(&r);
    return r.upgrading ? supervisor_exec_successor(&r, kept) : r.exit_code;
}
