/*
 * supervisor_start.c - from a configuration to workers that serve.
 *
 * The order: the log, signals (blocked before the first thread starts, which inherits that), the data directory and its lock, the
 * pid file (only whoever holds the lock writes it), the socket under its temporary name, the control segment, recovery in a
 * thread of its own. When the libraries are back: the threads, the socket's real name, the workers. They serve from that moment;
 * what embeddings and links are missing is made behind them.
 */
#include "proc/supervisor_internal.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "proc/audit.h"
#include "durable/restore.h"
#include "durable/snapshot_record.h"
#include "index/distance.h"
#include "proc/archiver.h"
#include "proc/asker.h"
#include "proc/background.h"
#include "proc/channels.h"
#include "proc/checkpointer.h"
#include "proc/children.h"
#include "proc/committer.h"
#include "proc/exchanger.h"
#include "proc/flusher.h"
#include "proc/gauges.h"
#include "proc/handover.h"
#include "proc/keyed.h"
#include "proc/log_floor.h"
#include "proc/models.h"
#include "proc/notify.h"
#include "proc/peers.h"
#include "proc/providers.h"
#include "proc/rebuild.h"
#include "proc/snapshotter.h"
#include "proc/startlog.h"
#include "proc/tasks.h"
#include "proc/thread.h"
#include "proc/verifier.h"
#include "shm/atomics.h"
#include "store/backlog.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIRECTORY_MODE = 0750, RUN_DIRECTORY_MODE = 0755, PID_FILE_MODE = 0644, PUBLIC_MASK = 022, LOG_FILE_MODE = 0640 };

/* --- configuration ---------------------------------------------------------------------------------------------------- */

/* Whether the keys of remote models can be read. They are not kept: this process has no use for them. */
static bool check_model_keys(const struct config *c, struct status *st) {
    struct buf key = {0};
    bool ok = true;
    for (size_t i = 0; i < c->model_count && ok; i++) {
        ok = remote_key_read(&c->models[i], getenv("CREDENTIALS_DIRECTORY"), &key, st);
        remote_key_wipe(&key);
    }
    return ok;
}

/* What the machine has to say about it: users, groups, CPU, models. */
static bool check_surroundings(const struct config *c, struct status *st) {
    char kernel[CONFIG_CHOICE_MAX];
    struct peers peers;
    struct embed_registry models;
    int model_fd = -1;
    gid_t group;
    if (!peers_parse(c->socket_peers, &peers, st) || !listener_group(c->socket_group, &group, st)) {
        return false;
    }
    config_kernel_name(c, kernel);
    if (!distance_init(kernel[0] == '\0' ? NULL : kernel)) {
        return status_set(st, STATUS_CONFIG, "distance_kernel: this CPU cannot run %s", kernel);
    }
    if (!check_model_keys(c, st) || !models_open(c, &model_fd, st)) {
        return false;
    }
    bool ok = models_init(&models, c, model_fd, MODEL_VERIFY, st);
    if (ok) {
        embed_registry_fini(&models);
    }
    io_close(&model_fd);
    return ok;
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

void supervisor_set_tunables(struct supervisor *s) {
    store_relaxed_u64(&s->tunables.checkpoint_interval, s->config.checkpoint_interval);
    store_relaxed_u64(&s->tunables.checkpoint_ops, s->config.checkpoint_ops);
    store_relaxed_u64(&s->tunables.write_back_interval, s->config.write_back_interval);
    store_relaxed_u64(&s->tunables.snapshot_interval, s->config.snapshot_interval);
    store_relaxed_u64(&s->tunables.snapshot_every_ops, s->config.snapshot_every_ops);
    store_relaxed_u64(&s->tunables.snapshot_keep, s->config.snapshot_keep);
    store_relaxed_u64(&s->tunables.snapshot_keep_days, s->config.snapshot_keep_days);
    store_relaxed_u64(&s->tunables.snapshot_chain_max, s->config.snapshot_chain_max);
    store_relaxed_u64(&s->tunables.snapshot_include_embeddings, s->config.snapshot_include_embeddings);
    store_relaxed_u64(&s->tunables.snapshot_compression, s->config.snapshot_compression);
    store_relaxed_u64(&s->tunables.snapshot_level, s->config.snapshot_level);
    store_relaxed_u64(&s->tunables.snapshot_stop_max_bytes, s->config.snapshot_stop_max_bytes);
    store_relaxed_u64(&s->tunables.snapshot_verify_interval, s->config.snapshot_verify_interval);
    store_relaxed_u64(&s->tunables.archive_keep_days, s->config.archive_keep_days);
    store_relaxed_u64(&s->tunables.archive_max_lag_bytes, s->config.archive_max_lag_bytes);
    store_relaxed_u64(&s->tunables.watchdog_lock_ms, s->config.watchdog_lock_ms);
    store_relaxed_u64(&s->tunables.reembed_keep_seconds, s->config.reembed_keep_seconds);
}

/* Workers write to the same descriptor, so the file goes under standard error. */
bool supervisor_open_log_file(const char *path, struct status *st) {
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
    return supervisor_open_log_file(c->log_file, st) &&
           log_open("quired", NULL, (enum log_level)c->log_level, (enum log_format)c->log_format, st);
}

/* --- recovery --------------------------------------------------------------------------------------------------------- */

static void on_progress(void *ctx, const char *what, double fraction) {
    struct run *r = (struct run *)ctx;
    lock_take(&r->progress_mutex);
    (void)snprintf(r->progress, sizeof r->progress, "%s (%.0f %%)", what, 100.0 * fraction);
    lock_release(&r->progress_mutex);
}

static void *run_recovery(void *arg) {
    struct run *r = (struct run *)arg;
    struct recovery_options options = {.data_dir_fd = r->s.data_dir_fd,
                                       .wal_segment_bytes = r->s.config.wal_segment_bytes,
                                       .max_record_bytes = r->s.config.limits.max_op_bytes,
                                       .limits = &r->s.config.limits,
                                       .repair = r->options->repair,
                                       .keys = r->s.keys,
                                       .idempotency = r->s.idempotency,
                                       .progress = on_progress,
                                       .progress_ctx = r};
    bool ok = recovery_run(&options, r->s.catalog, &r->s.log, &r->report, &r->recovery.st);
    errand_end(r, &r->recovery, ok);
    return NULL;
}

/* Keeps the service manager and the log informed while recovery goes on. */
void supervisor_tell_progress(struct run *r, int64_t now_us) {
    char progress[sizeof r->progress];
    if (now_us - r->extended_us < EXTEND_US) {
        return;
    }
    r->extended_us = now_us;
    lock_take(&r->progress_mutex);
    memcpy(progress, r->progress, sizeof progress);
    lock_release(&r->progress_mutex);
    notify_send("EXTEND_TIMEOUT_USEC=%d\nSTATUS=Restoring: %s", EXTEND_BY_US, progress);
    log_info("restoring: %s", progress[0] == '\0' ? "under way" : progress);
}

/* --- beginning to serve ----------------------------------------------------------------------------------------------- */

static bool stop_at_first(const struct oplog_record *record, void *ctx, struct status *st) {
    bool *news = (bool *)ctx;
    if (record->op.len > 0 && record->op.data[0] == OP_LOG_CLOSE) {
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

/* The one that the recovery came from, or else the newest, when it is one of this log. */
static void find_candidate(struct run *r, const struct snapshot_info *list, size_t count, struct snapshot_candidate *ret) {
    size_t i = 0;
    ret->loaded = r->report.snapshot[0] != '\0';
    while (ret->loaded && i < count && strcmp(list[i].name, r->report.snapshot) != 0) {
        i++;
    }
    if (i < count && list[i].lsn <= r->report.last_lsn && list[i].log_place != 0 && oplog_knows(r->s.log, list[i].log_place)) {
        memcpy(ret->name, list[i].name, sizeof ret->name);
    }
}

static bool start_snapshotter(struct run *r, struct status *st) {
    struct supervisor *s = &r->s;
    struct snapshot_info *list = NULL;
    struct snapshot_candidate candidate = {0};
    size_t count = 0;
    if (!snapshot_list(s->snapshots_dir_fd, &list, &count, st)) {
        return false;
    }
    find_candidate(r, list, count, &candidate);
    bool news = log_has_news(s, count > 0 ? list[0].lsn : 0, r->report.last_lsn);
    bool ok = snapshotter_new(s, count > 0 ? &list[0] : NULL, news, &candidate, &s->snapshotter, st);
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
        if (backlog_rebuild_wanted(libraries[i], &settings) && !tasks_add(s->tasks, TASK_REBUILD, &rd.view.id, NULL, &task, &st)) {
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
    f->recovered_from_checkpoint = p->from_checkpoint || p->from_live ? 1 : 0;
    f->recovery_resume_us = p->resume_us;
    f->recovery_graph_us = p->graph_us;
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

/* The archive's need is told before anybody lets a segment go. A thread begins after those that it calls. */
static bool start_threads(struct run *r, struct status *st) {
    struct supervisor *s = &r->s;
    return gauges_new(s, &s->gauges, st) && tasks_new(s->figures, &s->tasks, st) && log_floor_new(s, &s->log_floor, st) &&
           snapshot_record_open(s->snapshots_dir_fd, &s->snapshot_record, st) && archiver_new(s, &s->archiver, st) &&
           committer_new(s, r->report.last_lsn, &s->committer, st) && start_snapshotter(r, st) && verifier_new(s, &s->verifier, st) &&
           checkpointer_new(s, &r->report, &s->checkpointer, st) && background_new(s, &s->background, st) && flusher_new(s, &s->flusher, st) &&
           providers_new(s, &s->providers, st) && rebuilder_new(s, &s->rebuilder, st) && channels_new(s, &s->channels, st) &&
           asker_new(s, &s->asker, st) && exchanger_new(s, &s->exchanger, st) && reembed_new(s, &r->report, &r->reembed, st);
}

/* The main socket last: who waits for a server waits for that one. */
static bool publish_sockets(struct supervisor *s, struct status *st) {
    return listener_publish(&s->listener[LISTENER_WRITES], st) && listener_publish(&s->listener[LISTENER_MAIN], st);
}

void supervisor_begin_serving(struct run *r) {
    struct supervisor *s = &r->s;
    struct status st;
    int64_t now_us = clock_monotonic_us();
    if (!r->recovery.ok) {
        supervisor_fail(r, "the data cannot be restored", &r->recovery.st);
        return;
    }
    show_recovery(r, now_us - r->begun_us);
    idempotency_start(s->idempotency, clock_wall_us(), now_us);
    key_table_show(s->keys, s->key_page, s->control);
    store_relaxed_u64(&s->figures->api_keys, key_table_count(s->keys));
    keyed_show(s);
    startlog_restored(s, &r->report, now_us - r->begun_us);
    if (!start_threads(r, &st) || !publish_sockets(s, &st) || !children_configure(s->children, &s->config, &st)) {
        supervisor_fail(r, "cannot begin to serve", &st);
        return;
    }
    resume_rebuilds(s);
    store_release_u32(&s->control->ready, 1);     /* pairs with: CONTROL_STATE; else a worker could look at half a directory */
    store_release_u32(&s->control->accepting, 1); /* pairs with: CONTROL_STATE */
    r->phase = PHASE_SERVING;
    children_tend(s->children, now_us);
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

/* What `quire restore` has decided and not done yet. */
static bool complete_restore(struct supervisor *s, struct status *st) {
    bool done = false;
    if (!restore_complete(s->data_dir_fd, &done, st)) {
        return false;
    }
    if (done) {
        log_info("a restore that was interrupted is completed: the directory is the restored one");
    }
    return true;
}

static bool open_data(struct supervisor *s, struct status *st) {
    if (!open_directory(AT_FDCWD, s->config.data_dir, DIRECTORY_MODE, &s->data_dir_fd, st)) {
        return false;
    }
    return data_lock(s->data_dir_fd, &s->lock_fd, st) && complete_restore(s, st) &&
           open_directory(s->data_dir_fd, "vectors", DIRECTORY_MODE, &s->vectors_dir_fd, st) &&
           open_directory(s->data_dir_fd, "snapshots", DIRECTORY_MODE, &s->snapshots_dir_fd, st);
}

/* Those that were handed over, and others for those that were not. */
static bool open_sockets(struct supervisor *s, struct status *st) {
    struct handover handed;
    char path[LISTENERS][CONFIG_PATH_MAX];
    gid_t group;
    config_socket_path(&s->config, path[LISTENER_MAIN]);
    config_write_socket_path(&s->config, path[LISTENER_WRITES]);
    if (!listener_group(s->config.socket_group, &group, st) || !handover_receive(&handed, st)) {
        return false;
    }
    for (int i = 0; i < LISTENERS; i++) {
        int fd = -1;
        bool own = false;
        if (handover_take(&handed, path[i], &fd, &own)) {
            listener_adopt(&s->listener[i], fd, !own, path[i]);
            log_info("%s is there already; who waits in its queue is served", path[i]);
        } else if (!listener_bind(&s->listener[i], path[i], group, st)) {
            return false;
        }
    }
    return handover_end(&handed, st);
}

static bool open_run_directory(struct supervisor *s, struct status *st) {
    /* nginx must be able to walk to the socket, whose own mode says who may use it; others may read the pid. */
    mode_t mask = umask(PUBLIC_MASK);
    bool made = io_mkdir_at(AT_FDCWD, s->config.run_dir, RUN_DIRECTORY_MODE, st) && write_pid_file(s, st);
    (void)umask(mask);
    return made && open_sockets(s, st);
}

static bool make_control(struct supervisor *s, struct status *st) {
    uint32_t wanted = children_wanted(&s->config);
    if (!control_create(children_slots(wanted), sizeof(struct library_view), (uint32_t)s->config.limits.max_libraries,
                        sizeof(struct service_figures), &s->control_fd, &s->control, st)) {
        return false;
    }
    struct service_figures *f = (struct service_figures *)control_figures(s->control);
    s->figures = f;
    places_init(&s->control->writers, children_writers(&s->config));
    places_init(&s->control->desks, children_desks(&s->config));
    places_init(&s->control->readers, children_readers(&s->config));
    places_init(&s->control->streams, children_streams(&s->config));
    places_init(&s->control->awaiting, children_awaiting(&s->config));
    f->started_at = clock_wall_us();
    f->started_us = clock_monotonic_us();
    f->auth_on = s->config.auth == CONFIG_AUTH_OFF ? 0 : 1;
    f->workers_wanted = wanted;
    f->recovering = 1;
    if (getrandom(&f->generation, sizeof f->generation, 0) != (ssize_t)sizeof f->generation) {
        f->generation = (uint64_t)f->started_at;
    }
    return true;
}

static bool make_idempotency(struct supervisor *s, struct status *st) {
    static const int64_t us_per_second = 1000000;
    const struct idempotency_limits limits = {.max_keys = s->config.idempotency_max_keys,
                                              .max_bytes = s->config.idempotency_max_bytes,
                                              .ttl_us = (int64_t)s->config.idempotency_ttl * us_per_second};
    return idempotency_new(&limits, &s->idempotency, st);
}

static bool make_keys(struct supervisor *s, struct status *st) {
    if (!key_table_new(s->config.limits.max_keys, &s->keys, st) || !key_page_create(&s->key_page_fd, &s->key_page, st)) {
        return false;
    }
    key_table_set_configured(s->keys, s->config.has_admin_key ? s->config.admin_key_sha256 : NULL);
    return true;
}

static bool make_catalog(struct supervisor *s, struct status *st) {
    struct catalog_options options = {
        .vectors_dir_fd = s->vectors_dir_fd, .control = s->control, .limits = &s->config.limits, .models = &s->models, .keep_replaced = true};
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
const char *supervisor_start(struct run *r, struct status *st) {
    struct supervisor *s = &r->s;
    struct test_hooks hooks = {0};
    if (!begin_log(&s->config, st)) {
        return "cannot open the log";
    }
    if (!catch_signals(r, st) || !io_fault_from_environment(&hooks.io_fault, st) ||
        !clock_shift_from_environment(&hooks.clock_shift, st) || !resolve_peers(&s->config, st) ||
        !models_open(&s->config, &s->model_fd, st) || !models_init(&s->models, &s->config, s->model_fd, MODEL_VERIFY, st)) {
        return "cannot start";
    }
    startlog_banner(s, &hooks);
    if (!open_data(s, st)) {
        return "cannot use the data directory";
    }
    if (!open_run_directory(s, st)) {
        return "cannot use the run directory";
    }
    if (!make_control(s, st) || !make_catalog(s, st) || !make_idempotency(s, st) || !make_keys(s, st) || !audit_new(s, &s->audit_fd, &s->audit, st) || !children_new(s, &s->children, st)) {
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

void supervisor_tear_down(struct run *r) {
    struct supervisor *s = &r->s;
    if (s->committer != NULL) {
        supervisor_stop_threads(s);
    }
    if (!archiver_stop(s->archiver, false)) {
        supervisor_remove_files(s); /* a thread that cannot be ended works on all the rest; the end of the process, or the successor's exec, ends it */
        return;
    }
    reembed_free(r->reembed);
    exchanger_free(s->exchanger);
    rebuilder_free(s->rebuilder);
    flusher_free(s->flusher);
    verifier_free(s->verifier);
    snapshotter_free(s->snapshotter);
    archiver_free(s->archiver);
    snapshot_record_free(s->snapshot_record);
    checkpointer_free(s->checkpointer);
    asker_free(s->asker);
    background_free(s->background);
    gauges_free(s->gauges);
    if (s->committer != NULL) {
        committer_stop(s->committer);
    }
    providers_quit(s->providers);
    channels_free(s->channels);
    providers_free(s->providers);
    committer_free(s->committer);
    tasks_free(s->tasks);
    children_free(s->children);
    audit_free(s->audit, &s->audit_fd);
    supervisor_remove_files(s);
    log_floor_free(s->log_floor);
    oplog_close(s->log);
    catalog_free(s->catalog);
    idempotency_free(s->idempotency);
    key_table_free(s->keys);
    key_page_unmap(s->key_page);
    io_close(&s->key_page_fd);
    recovery_report_fini(&r->report);
    embed_registry_fini(&s->models);
    io_close(&s->model_fd);
    control_unmap(s->control);
    io_close(&s->control_fd);
    io_close(&s->snapshots_dir_fd);
    io_close(&s->vectors_dir_fd);
    io_close(&s->data_dir_fd);
    io_close(&s->lock_fd);
    io_close(&s->wake_fd);
    io_close(&r->signal_fd);
    lock_fini(&r->progress_mutex);
    log_close();
}
