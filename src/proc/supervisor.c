/*
 * supervisor.c - the main thread: start, signals, watching, stop.
 *
 *   phase        what happens                                                        ends when
 *   RECOVERING   the recovery thread brings the libraries back; nobody can connect   it is done
 *   SERVING      workers answer; main watches                                        a signal, or the log has failed
 *   DRAINING     nobody new can connect; workers finish what they have in hand       no worker is left, or time is up
 *   FINISHING    the stop thread commits what waits, takes the final snapshot,       it is done
 *                closes the log and saves the arenas
 *   OVER
 *
 * Main never does long work itself, so signals are answered at any time and systemd hears from us: it sleeps in poll on a signalfd and an eventfd and wakes
 * at least every TICK_MS for the watchdog. It alone spawns and reaps: PR_SET_PDEATHSIG follows the thread that forked.
 *
 * A second TERM or INT, or QUIT at any time, ends the process at once. That is always safe: what was acknowledged is in the log.
 * When the log has failed the process ends with EX_IOERR after the workers have passed the bad news on, without snapshot or checkpoint.
 */
#include "proc/supervisor.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "index/distance.h"
#include "proc/background.h"
#include "proc/channels.h"
#include "proc/children.h"
#include "proc/committer.h"
#include "proc/notify.h"
#include "proc/peers.h"
#include "proc/rebuild.h"
#include "proc/snapshotter.h"
#include "proc/startlog.h"
#include "proc/tasks.h"
#include "proc/thread.h"
#include "shm/atomics.h"
#include "store/backlog.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    US_PER_MS = 1000,
    TICK_MS = 50,
    EAGER_TICK_MS = 2,   /* while a worker starts: its successor is announced, and the next one of a reload goes */
    LOOK_US = 500000,    /* figures and embeddings */
    EXTEND_US = 2000000, /* how often systemd is asked for more time */
    EXTEND_BY_US = 30000000,
    IDLE_GRACE_US = 1000000, /* a stop waits so long for workers whose client has sent nothing yet */
    BAD_NEWS_US = 1000000,   /* after the log failed: so long workers have to tell their clients */
    DIRECTORY_MODE = 0750,
    RUN_DIRECTORY_MODE = 0755,
    PID_FILE_MODE = 0644,
    LOG_FILE_MODE = 0640,
    FILE_MASK = 027
};

enum phase { PHASE_RECOVERING, PHASE_SERVING, PHASE_DRAINING, PHASE_FINISHING, PHASE_OVER };

/* A thread that main waits for without blocking. */
struct errand {
    pthread_t thread;
    bool running;
    uint32_t done; /* atomic; pairs with: ERRAND_DONE */
    bool ok;
    struct status st;
};

struct run {
    struct supervisor s;
    const struct supervisor_options *options;
    enum phase phase;
    int exit_code;
    int signal_fd;
    struct errand recovery, finish;
    struct recovery_report report;
    struct reembed *reembed;
    int64_t begun_us;       /* the start, then the stop */
    int64_t draining_us;
    int64_t looked_us, extended_us, beat_us;
    bool announced;         /* READY was sent */
    bool reloading;         /* RELOADING was sent, READY not yet */
    bool stop_asked;
    bool finishing_kills;   /* the drain's deadline has passed */
    /* what the recovery thread says, under its mutex */
    pthread_mutex_t progress_mutex;
    char progress[160];
};

void supervisor_wake(struct supervisor *s) {
    const uint64_t one = 1;
    ssize_t n = write(s->wake_fd, &one, sizeof one);
    (void)n; /* a full counter wakes as well */
}

/* --- configuration ---------------------------------------------------------------------------------------------------- */

/* What the machine has to say about it: users, groups, CPU, models. */
static bool check_surroundings(const struct config *c, struct status *st) {
    char kernel[CONFIG_CHOICE_MAX];
    struct peers peers;
    struct embed_registry models;
    gid_t group;
    if (!peers_parse(c->socket_peers, &peers, st) || !listener_group(c->socket_group, &group, st)) {
        return false;
    }
    config_kernel_name(c, kernel);
    if (!distance_init(kernel[0] == '\0' ? NULL : kernel)) {
        return status_set(st, STATUS_CONFIG, "distance_kernel: this CPU cannot run %s", kernel);
    }
    if (!embed_registry_init(&models, c->default_model, st)) {
        return false;
    }
    embed_registry_fini(&models);
    return true;
}

bool supervisor_read_config(const struct supervisor_options *options, struct config *ret, struct status *st) {
    config_default(ret);
    if (options->config_path != NULL && !config_read_file(ret, options->config_path, st)) {
        return false;
    }
    for (size_t i = 0; i < options->set_count; i++) {
        if (!config_set(ret, options->sets[i], st)) {
            return false;
        }
    }
    return config_check(ret, st) && config_read_secrets(ret, st) && check_surroundings(ret, st);
}

static void set_tunables(struct supervisor *s) {
    store_relaxed_u64(&s->tunables.snapshot_interval, s->config.snapshot_interval);
    store_relaxed_u64(&s->tunables.snapshot_every_ops, s->config.snapshot_every_ops);
    store_relaxed_u64(&s->tunables.snapshot_keep, s->config.snapshot_keep);
    store_relaxed_u64(&s->tunables.watchdog_lock_ms, s->config.watchdog_lock_ms);
}

/* Workers write to the same descriptor, so the file goes under standard error. */
static bool open_log_file(const char *path, struct status *st) {
    int fd = -1;
    if (path[0] == '\0') {
        return true;
    }
    if (!io_open_at(AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY, LOG_FILE_MODE, &fd, st)) {
        return false;
    }
    bool ok = dup2(fd, STDERR_FILENO) >= 0 || status_set_errno(st, errno, "cannot write the log %s", path);
    io_close(&fd);
    return ok;
}

static bool begin_log(const struct config *c, struct status *st) {
    return open_log_file(c->log_file, st) &&
           log_open("quired", NULL, (enum log_level)c->log_level, (enum log_format)c->log_format, st);
}

/* --- errands ---------------------------------------------------------------------------------------------------------- */

static void errand_end(struct run *r, struct errand *e, bool ok) {
    e->ok = ok;
    store_release_u32(&e->done, 1); /* pairs with: ERRAND_DONE; else main could read the outcome before it is written */
    supervisor_wake(&r->s);
}

static bool errand_over(struct errand *e) {
    if (!e->running || load_acquire_u32(&e->done) == 0) { /* pairs with: ERRAND_DONE */
        return false;
    }
    (void)pthread_join(e->thread, NULL);
    e->running = false;
    return true;
}

/* --- recovery --------------------------------------------------------------------------------------------------------- */

static void on_progress(void *ctx, const char *what, double fraction) {
    struct run *r = (struct run *)ctx;
    (void)pthread_mutex_lock(&r->progress_mutex);
    (void)snprintf(r->progress, sizeof r->progress, "%s (%.0f %%)", what, 100.0 * fraction);
    (void)pthread_mutex_unlock(&r->progress_mutex);
}

static void *run_recovery(void *arg) {
    struct run *r = (struct run *)arg;
    struct recovery_options options = {.data_dir_fd = r->s.data_dir_fd,
                                       .wal_segment_bytes = r->s.config.wal_segment_bytes,
                                       .max_record_bytes = r->s.config.limits.max_op_bytes,
                                       .limits = &r->s.config.limits,
                                       .repair = r->options->repair,
                                       .progress = on_progress,
                                       .progress_ctx = r};
    bool ok = recovery_run(&options, r->s.catalog, &r->s.log, &r->report, &r->recovery.st);
    errand_end(r, &r->recovery, ok);
    return NULL;
}

/* Keeps the service manager and the log informed while recovery goes on. */
static void tell_progress(struct run *r, int64_t now_us) {
    char progress[sizeof r->progress];
    if (now_us - r->extended_us < EXTEND_US) {
        return;
    }
    r->extended_us = now_us;
    (void)pthread_mutex_lock(&r->progress_mutex);
    memcpy(progress, r->progress, sizeof progress);
    (void)pthread_mutex_unlock(&r->progress_mutex);
    notify_send("EXTEND_TIMEOUT_USEC=%d\nSTATUS=Restoring: %s", EXTEND_BY_US, progress);
    log_info("restoring: %s", progress[0] == '\0' ? "under way" : progress);
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

static void fail(struct run *r, const char *what, const struct status *st) {
    log_status(LOG_LEVEL_ERROR, what, st);
    r->exit_code = exit_code_of(st);
    r->phase = PHASE_OVER;
}

/* --- beginning to serve ----------------------------------------------------------------------------------------------- */

static bool stop_at_first(const struct oplog_record *record, void *ctx, struct status *st) {
    struct op op;
    bool *news = (bool *)ctx;
    const struct limits *limits = NULL;
    struct limits widest;
    limits_widest(&widest);
    limits = &widest;
    if (op_decode(record->op, limits, &op, st) && op.type == OP_LOG_CLOSE) {
        return true;
    }
    *news = true;
    return status_set(st, STATUS_BUSY, "enough was read");
}

/* Does the log hold changes after the newest snapshot? The closing records of earlier stops are none. */
static bool log_has_news(struct supervisor *s, uint64_t snapshot_lsn, uint64_t last_lsn) {
    struct status ignored;
    bool news = false;
    if (last_lsn <= snapshot_lsn) {
        return false;
    }
    /* A log that cannot be read from there counts as new: a snapshot too many harms nobody. */
    return !oplog_read_from(s->log, snapshot_lsn + 1, stop_at_first, &news, &ignored) || news;
}

static bool start_snapshotter(struct run *r, struct status *st) {
    struct supervisor *s = &r->s;
    struct snapshot_info *list = NULL;
    size_t count = 0;
    if (!snapshot_list(s->snapshots_dir_fd, &list, &count, st)) {
        return false;
    }
    bool news = log_has_news(s, count > 0 ? list[0].lsn : 0, r->report.last_lsn);
    bool ok = snapshotter_new(s, count > 0 ? &list[0] : NULL, news, &s->snapshotter, st);
    free(list);
    return ok;
}

/* A rebuild that a restart cut off begins again. */
static void resume_rebuilds(struct supervisor *s) {
    struct library **libraries = NULL;
    size_t count = 0;
    struct status st;
    if (!catalog_acquire_all(s->catalog, &libraries, &count, &st)) {
        log_status(LOG_LEVEL_WARN, "indexes are not looked at", &st);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct index_settings settings;
        struct reading rd;
        struct uuid task;
        library_reading(libraries[i], &rd);
        if (backlog_rebuild_wanted(libraries[i], &settings) && !tasks_add(s->tasks, TASK_REBUILD, &rd.view.id, &task, &st)) {
            log_status(LOG_LEVEL_WARN, "an index is not rebuilt", &st);
        }
        catalog_release(s->catalog, libraries[i]);
    }
    free(libraries);
    rebuilder_wake(s->rebuilder);
}

static void show_recovery(struct run *r, int64_t took_us) {
    struct service_figures *f = r->s.figures;
    const struct recovery_report *p = &r->report;
    f->recovered_from_checkpoint = p->from_checkpoint ? 1 : 0;
    f->recovery_us = took_us;
    f->recovery_snapshot_us = p->snapshot_us;
    f->recovery_replay_us = p->replay_us;
    f->recovery_checkpoint_us = p->checkpoint_us;
    f->recovery_wal_open_us = p->wal_open_us;
    f->recovery_replayed_ops = p->replayed_ops;
    f->recovery_torn_bytes = p->torn_bytes;
    for (size_t i = 0; i < p->library_count; i++) {
        f->recovery_vectors_kept += p->libraries[i].vectors_kept;
        f->recovery_vectors_pending += p->libraries[i].vectors_pending;
    }
    f->recovering = 0;
}

static bool start_threads(struct run *r, struct status *st) {
    struct supervisor *s = &r->s;
    return tasks_new(s->figures, &s->tasks, st) && committer_new(s, r->report.last_lsn, &s->committer, st) &&
           start_snapshotter(r, st) && background_new(s, &s->background, st) && rebuilder_new(s, &s->rebuilder, st) &&
           channels_new(s, &s->channels, st) && reembed_new(s, &r->report, &r->reembed, st);
}

static void begin_serving(struct run *r) {
    struct supervisor *s = &r->s;
    struct status st;
    int64_t now_us = clock_monotonic_us();
    if (!r->recovery.ok) {
        fail(r, "the data cannot be restored", &r->recovery.st);
        return;
    }
    show_recovery(r, now_us - r->begun_us);
    startlog_restored(s, &r->report, now_us - r->begun_us);
    if (!start_threads(r, &st) || !listener_publish(&s->listener, &st) || !children_configure(s->children, &s->config, &st)) {
        fail(r, "cannot begin to serve", &st);
        return;
    }
    resume_rebuilds(s);
    store_release_u32(&s->control->ready, 1);     /* pairs with: CONTROL_STATE; else a worker could look at half a directory */
    store_release_u32(&s->control->accepting, 1); /* pairs with: CONTROL_STATE */
    r->phase = PHASE_SERVING;
    children_tend(s->children, now_us);
}

/* --- serving ---------------------------------------------------------------------------------------------------------- */

static void announce(struct run *r, int64_t now_us) {
    if (r->announced || children_ready(r->s.children) == 0) {
        return;
    }
    r->announced = true;
    log_info("ready, %.1f ms after the start", (double)(now_us - r->begun_us) / US_PER_MS);
    notify_send("READY=1\nSTATUS=Serving");
}

static void end_reload(struct run *r) {
    if (r->reloading && !children_replacing(r->s.children)) {
        r->reloading = false;
        notify_send("READY=1\nSTATUS=Serving");
    }
}

/* Sums over all libraries, for /metrics. */
static void look_at_backlog(struct supervisor *s) {
    struct library **libraries = NULL;
    size_t count = 0;
    struct status st;
    uint64_t pending = 0;
    uint64_t tail = 0;
    if (!catalog_acquire_all(s->catalog, &libraries, &count, &st)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        pending += backlog_pending_vectors(libraries[i]);
        tail += backlog_tail(libraries[i]);
        catalog_release(s->catalog, libraries[i]);
    }
    free(libraries);
    store_relaxed_u64(&s->figures->pending_vectors, pending);
    store_relaxed_u64(&s->figures->tail, tail);
}

static void look_around(struct run *r, int64_t now_us) {
    struct supervisor *s = &r->s;
    uint64_t dead = 0;
    if (now_us - r->looked_us < LOOK_US) {
        return;
    }
    r->looked_us = now_us;
    look_at_backlog(s);
    for (uint32_t i = 0; i < RWLOCK_MAX_READERS; i++) {
        dead += load_relaxed_u64(&s->control->lock.reader[i].recovered);
    }
    store_relaxed_u64(&s->figures->dead_readers, dead);
    if (r->reembed != NULL && !reembed_look(r->reembed, now_us)) {
        reembed_free(r->reembed);
        r->reembed = NULL;
    }
}

/* systemd's watchdog hears from us as long as the threads that matter move, too. */
static void beat(struct run *r, int64_t now_us) {
    int64_t period = notify_watchdog_us();
    if (period == 0 || now_us - r->beat_us < period / 4) {
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
    log_set_level((enum log_level)r->s.config.log_level);
    set_tunables(&r->s);
    snapshotter_wake(r->s.snapshotter);
    if (ignored_count > 0) {
        log_warn("%u changed key%s only taken at the next start: %s", ignored_count, ignored_count == 1 ? " is" : "s are", ignored);
    }
    if (for_workers) {
        replace_workers(r);
    }
    log_info("configuration reloaded%s", for_workers ? "; workers are replaced one by one" : "");
}

static void reopen_log(struct run *r) {
    struct status st;
    if (r->s.config.log_file[0] == '\0') {
        return;
    }
    if (!open_log_file(r->s.config.log_file, &st)) {
        log_status(LOG_LEVEL_ERROR, "the log is not reopened", &st);
        return;
    }
    log_info("log reopened");
    if (r->phase == PHASE_SERVING) {
        replace_workers(r); /* they have inherited the old file */
    }
}

/* --- stopping --------------------------------------------------------------------------------------------------------- */

static void begin_drain(struct run *r) {
    struct supervisor *s = &r->s;
    r->begun_us = clock_monotonic_us();
    r->draining_us = r->begun_us;
    r->phase = PHASE_DRAINING;
    log_info("stopping: %u worker%s finish what they have in hand", children_alive(s->children), children_alive(s->children) == 1 ? "" : "s");
    notify_send("STOPPING=1\nSTATUS=Stopping: workers finish");
    store_release_u32(&s->control->accepting, 0); /* pairs with: CONTROL_STATE; else a worker would still send writes */
    listener_close(&s->listener);
    children_drain(s->children);
}

static bool save_all(struct run *r, struct status *st) {
    struct supervisor *s = &r->s;
    struct snapshot_info info;
    struct status why;
    bool taken = false;
    int64_t begun = clock_monotonic_us();
    log_info("saving: %zu librar%s", catalog_library_count(s->catalog), catalog_library_count(s->catalog) == 1 ? "y" : "ies");
    if (!snapshotter_final(s->snapshotter, &taken, &info, &why)) {
        log_status(LOG_LEVEL_ERROR, "no final snapshot; the log keeps everything", &why);
    } else if (!taken) {
        log_info("final snapshot: not needed, nothing has changed since the last one");
    } else {
        log_info("final snapshot: %s", info.name);
    }
    log_info("flushing the log");
    if (!committer_close_log(s->committer, st)) {
        return false;
    }
    int64_t closed = clock_monotonic_us();
    uint64_t lsn = committer_last_lsn(s->committer);
    log_info("log closed at LSN %llu; snapshot and log took %.1f ms", (unsigned long long)lsn, (double)(closed - begun) / US_PER_MS);
    if (!checkpoint_write(s->data_dir_fd, s->catalog, lsn, st)) {
        return false;
    }
    log_info("vector stores saved in %.1f ms", (double)(clock_monotonic_us() - closed) / US_PER_MS);
    return true;
}

/* In this order, because those above may still call those below. */
static void stop_threads(struct supervisor *s) {
    if (s->rebuilder != NULL) {
        rebuilder_stop(s->rebuilder);
    }
    if (s->snapshotter != NULL) {
        snapshotter_stop(s->snapshotter);
    }
    if (s->background != NULL) {
        background_stop(s->background);
    }
    committer_stop(s->committer);
}

static void *run_finish(void *arg) {
    struct run *r = (struct run *)arg;
    stop_threads(&r->s);
    bool ok = load_acquire_u32(&r->s.log_failed) == 0 ? save_all(r, &r->finish.st) /* pairs with: LOG_FAILED */
                                                      : status_set(&r->finish.st, STATUS_IO, "the log has failed");
    errand_end(r, &r->finish, ok);
    return NULL;
}

static void begin_finish(struct run *r) {
    r->phase = PHASE_FINISHING;
    notify_send("STATUS=Stopping: saving");
    if (!thread_start(&r->finish.thread, "stop", run_finish, r, &r->finish.st)) {
        fail(r, "cannot save; the log keeps everything", &r->finish.st);
        return;
    }
    r->finish.running = true;
}

static void end_finish(struct run *r) {
    if (!r->finish.ok) {
        fail(r, "not everything was saved; the log keeps what was acknowledged", &r->finish.st);
        return;
    }
    log_info("stopped; complete in %.1f ms", (double)(clock_monotonic_us() - r->begun_us) / US_PER_MS);
    r->phase = PHASE_OVER;
}

/* While workers finish: those that wait for a silent client get a moment, the others the configured time. */
static void watch_drain(struct run *r, int64_t now_us) {
    struct supervisor *s = &r->s;
    int64_t waited = now_us - r->draining_us;
    if (children_alive(s->children) == 0) {
        begin_finish(r);
        return;
    }
    if (waited > IDLE_GRACE_US) {
        children_kill_idle(s->children);
    }
    if (waited > (int64_t)s->config.stop_timeout_ms * US_PER_MS && !r->finishing_kills) {
        log_warn("%u workers did not finish in time and are killed", children_alive(s->children));
        r->finishing_kills = true;
        children_kill_all(s->children);
    }
}

static void extend_stop(struct run *r, int64_t now_us) {
    if (now_us - r->extended_us >= EXTEND_US) {
        r->extended_us = now_us;
        notify_send("EXTEND_TIMEOUT_USEC=%d", EXTEND_BY_US);
    }
}

static void remove_files(struct supervisor *s) {
    struct status st;
    listener_close(&s->listener);
    if (s->pid_written && !io_unlink_at(AT_FDCWD, s->pid_path, &st)) {
        log_status(LOG_LEVEL_WARN, "the pid file stays behind", &st);
    }
    s->pid_written = false;
}

/* Workers die with us. */
static _Noreturn void stop_at_once(struct run *r, const char *why) {
    notify_send("STOPPING=1");
    log_info("stopped at once (%s); the log has everything that was acknowledged", why);
    remove_files(&r->s);
    _exit(EX_OK);
}

/* The committer has told its clients; workers get a moment to pass that on. */
static void watch_failed_log(struct run *r, int64_t now_us) {
    struct supervisor *s = &r->s;
    if (r->phase == PHASE_SERVING) {
        begin_drain(r);
        return;
    }
    if (children_alive(s->children) > 0 && now_us - r->draining_us < BAD_NEWS_US) {
        return;
    }
    log_error("ending with exit code %d because the log has failed; the next start recovers", EX_IOERR);
    remove_files(s);
    _exit(EX_IOERR);
}

static void ask_to_stop(struct run *r, int signal_number) {
    const char *name = sigdescr_np(signal_number);
    if (r->stop_asked || signal_number == SIGQUIT || r->phase == PHASE_RECOVERING) {
        stop_at_once(r, name == NULL ? "signal" : name);
    }
    r->stop_asked = true;
    if (r->phase == PHASE_SERVING) {
        begin_drain(r);
    }
}

/* --- the loop --------------------------------------------------------------------------------------------------------- */

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
        default: /* SIGCHLD: children_reap looks at every turn */
            break;
        }
    }
}

static void serve_tick(struct run *r, int64_t now_us) {
    children_tend(r->s.children, now_us);
    children_watch(r->s.children, &r->s.config, now_us);
    announce(r, now_us);
    end_reload(r);
    look_around(r, now_us);
}

static void tick(struct run *r) {
    int64_t now_us = clock_monotonic_us();
    beat(r, now_us);
    if (load_acquire_u32(&r->s.log_failed) != 0 && r->phase != PHASE_OVER) { /* pairs with: LOG_FAILED */
        watch_failed_log(r, now_us);
        return;
    }
    switch (r->phase) {
    case PHASE_RECOVERING:
        if (errand_over(&r->recovery)) {
            begin_serving(r);
        } else {
            tell_progress(r, now_us);
        }
        break;
    case PHASE_SERVING:
        serve_tick(r, now_us);
        break;
    case PHASE_DRAINING:
        extend_stop(r, now_us);
        watch_drain(r, now_us);
        break;
    case PHASE_FINISHING:
        extend_stop(r, now_us);
        if (errand_over(&r->finish)) {
            end_finish(r);
        }
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

/* --- start ------------------------------------------------------------------------------------------------------------ */

static bool catch_signals(struct run *r, struct status *st) {
    static const int caught[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++) {
        (void)sigaddset(&set, caught[i]);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    /* Before the first thread, which all inherit the mask. */
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0) {
        return status_set(st, STATUS_INTERNAL, "cannot block signals");
    }
    r->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    r->s.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->signal_fd < 0 || r->s.wake_fd < 0) {
        return status_set_errno(st, errno, "cannot wait for signals");
    }
    return true;
}

/* What is missing is made; only the last part of a path, so that a mistyped one does not grow a tree. */
static bool open_directory(int at, const char *path, mode_t mode, int *ret_fd, struct status *st) {
    return io_mkdir_at(at, path, mode, st) && io_open_at(at, path, O_RDONLY | O_DIRECTORY, 0, ret_fd, st);
}

static bool write_pid_file(struct supervisor *s, struct status *st) {
    char text[32];
    int len = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    config_pid_path(&s->config, s->pid_path);
    s->pid_written = io_replace_file(AT_FDCWD, s->pid_path, slice_of(text, (size_t)len), PID_FILE_MODE, st);
    return s->pid_written;
}

static bool open_data(struct supervisor *s, struct status *st) {
    if (!open_directory(AT_FDCWD, s->config.data_dir, DIRECTORY_MODE, &s->data_dir_fd, st)) {
        return false;
    }
    return data_lock(s->data_dir_fd, &s->lock_fd, st) &&
           open_directory(s->data_dir_fd, "vectors", DIRECTORY_MODE, &s->vectors_dir_fd, st) &&
           open_directory(s->data_dir_fd, "snapshots", DIRECTORY_MODE, &s->snapshots_dir_fd, st);
}

static bool open_run_directory(struct supervisor *s, struct status *st) {
    char path[CONFIG_PATH_MAX];
    gid_t group;
    config_socket_path(&s->config, path);
    return io_mkdir_at(AT_FDCWD, s->config.run_dir, RUN_DIRECTORY_MODE, st) && write_pid_file(s, st) &&
           listener_group(s->config.socket_group, &group, st) && listener_bind(&s->listener, path, group, st);
}

static bool make_control(struct supervisor *s, struct status *st) {
    uint32_t wanted = children_wanted(&s->config);
    if (!control_create(children_slots(wanted), sizeof(struct library_view), (uint32_t)s->config.limits.max_libraries,
                        sizeof(struct service_figures), &s->control_fd, &s->control, st)) {
        return false;
    }
    struct service_figures *f = (struct service_figures *)control_figures(s->control);
    s->figures = f;
    f->started_at = clock_wall_us();
    f->auth_on = s->config.auth == CONFIG_AUTH_OFF ? 0 : 1;
    f->workers_wanted = wanted;
    f->recovering = 1;
    if (getrandom(&f->generation, sizeof f->generation, 0) != (ssize_t)sizeof f->generation) {
        f->generation = (uint64_t)f->started_at;
    }
    return true;
}

static bool make_catalog(struct supervisor *s, struct status *st) {
    struct catalog_options options = {
        .vectors_dir_fd = s->vectors_dir_fd, .control = s->control, .limits = &s->config.limits, .models = &s->models};
    return catalog_new(&options, &s->catalog, st);
}

/* Workers need no user database: the list is handed to them as numbers. */
static bool resolve_peers(struct config *c, struct status *st) {
    struct peers peers;
    if (!peers_parse(c->socket_peers, &peers, st)) {
        return false;
    }
    peers_format(&peers, c->socket_peers, sizeof c->socket_peers);
    return true;
}

/* Returns what to say when it fails, or NULL. */
static const char *start(struct run *r, struct status *st) {
    struct supervisor *s = &r->s;
    bool armed = false;
    if (!begin_log(&s->config, st)) {
        return "cannot open the log";
    }
    if (!catch_signals(r, st) || !io_fault_from_environment(&armed, st) || !resolve_peers(&s->config, st) ||
        !embed_registry_init(&s->models, s->config.default_model, st)) {
        return "cannot start";
    }
    startlog_banner(s, armed);
    if (!open_data(s, st)) {
        return "cannot use the data directory";
    }
    if (!open_run_directory(s, st)) {
        return "cannot use the run directory";
    }
    if (!make_control(s, st) || !make_catalog(s, st) || !children_new(s, &s->children, st)) {
        return "cannot start";
    }
    log_info("restoring from %s", s->config.data_dir);
    notify_send("EXTEND_TIMEOUT_USEC=%d\nSTATUS=Restoring", EXTEND_BY_US);
    r->extended_us = clock_monotonic_us();
    if (!thread_start(&r->recovery.thread, "recovery", run_recovery, r, st)) {
        return "cannot start";
    }
    r->recovery.running = true;
    return NULL;
}

static void tear_down(struct run *r) {
    struct supervisor *s = &r->s;
    if (s->committer != NULL) {
        stop_threads(s);
    }
    reembed_free(r->reembed);
    rebuilder_free(s->rebuilder);
    snapshotter_free(s->snapshotter);
    background_free(s->background);
    if (s->committer != NULL) {
        committer_stop(s->committer);
    }
    channels_free(s->channels);
    committer_free(s->committer);
    tasks_free(s->tasks);
    children_free(s->children);
    remove_files(s);
    oplog_close(s->log);
    catalog_free(s->catalog);
    recovery_report_fini(&r->report);
    embed_registry_fini(&s->models);
    control_unmap(s->control);
    io_close(&s->control_fd);
    io_close(&s->snapshots_dir_fd);
    io_close(&s->vectors_dir_fd);
    io_close(&s->data_dir_fd);
    io_close(&s->lock_fd);
    io_close(&s->wake_fd);
    io_close(&r->signal_fd);
    (void)pthread_mutex_destroy(&r->progress_mutex);
    log_close();
}

int supervisor_run(const struct supervisor_options *options, const struct config *config) {
    static struct run r;
    struct status st;
    r = (struct run){.options = options,
                     .phase = PHASE_RECOVERING,
                     .exit_code = EX_OK,
                     .signal_fd = -1,
                     .begun_us = clock_monotonic_us(),
                     .s = {.config = *config,
                           .data_dir_fd = -1,
                           .vectors_dir_fd = -1,
                           .snapshots_dir_fd = -1,
                           .lock_fd = -1,
                           .control_fd = -1,
                           .wake_fd = -1,
                           .listener = LISTENER_CLOSED}};
    (void)pthread_mutex_init(&r.progress_mutex, NULL);
    (void)umask(FILE_MASK);
    notify_init();
    set_tunables(&r.s);
    const char *failed = start(&r, &st);
    if (failed != NULL) {
        fail(&r, failed, &st);
        r.exit_code = r.exit_code == EX_IOERR ? EX_CANTCREAT : r.exit_code; /* a directory, a socket, a file of the start */
    }
    main_loop(&r);
    if (r.s.children != NULL && children_alive(r.s.children) > 0) {
        children_kill_all(r.s.children);
    }
    tear_down(&r);
    return r.exit_code;
}
