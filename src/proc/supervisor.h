/*
 * supervisor.h - what the supervisor's threads share.
 *
 *   thread          does                                                            file
 *   main            starts, signals, spawns and watches workers, stops              supervisor.c, children.c
 *   channels, two   read the workers' frames, check them, queue them                channels.c
 *   one of them     is the committer: checks, reserves, logs, applies and           committer.c
 *                   publishes ops; answers
 *   embed N         makes missing vectors                                           background.c
 *   ask N           has missing vectors made by providers                           asker.c
 *   provider        speaks with the provider process                                providers.c
 *   link N          links chunks into the graphs                                    background.c
 *   rebuild         carries the rebuilding of an index from begin to switch         rebuild.c
 *   flush           writes changed pages of the arenas back, a few at a time        flusher.c
 *   checkpoint      takes live checkpoints                                          checkpointer.c
 *   snapshot        writes snapshots, lets the log before them go                   snapshotter.c
 *   verify          restores snapshots on trial                                     verifier.c
 *   audit           writes what workers have for the audit log                      audit.c
 *   archive         copies finished log segments into archive_dir                   archiver.c
 *   recovery, stop  one at the start, one at the end; nobody else is at work        supervisor.c
 *
 * Locks, in the order in which they may be taken: a thread that holds one takes only such as stand below it. All are held for
 * short work in memory; none while a file is synced or a text embedded.
 *
 *   rank  lock                    guards                                                   taken by
 *    0    channels.reading        frames under way, closing of channels                    channels
 *    1    committer.mutex         who is the committer, the queue of submissions and       channels, committer, snapshot,
 *                                 calls                                                    rebuild, embed
 *    2    snapshotter.mutex       what is due and why                                      committer, channels, snapshot, stop
 *         checkpointer.mutex      the same; never held with the one above                  committer, checkpoint, rebuild, stop
 *         archiver.mutex          likewise                                                 committer, archive, snapshot, stop
 *         verifier.mutex          likewise                                                 channels, verify, stop
 *    3    background.mutex        wake-up counts                                           committer, embed, link, rebuild, stop
 *         asker.mutex             wake-up counts, rests of models; never held with it      committer, ask, stop
 *    4    rebuilder.mutex         wake-up counts                                           channels, rebuild, main, stop
 *         flusher.mutex           likewise                                                 flush, stop
 *    5    tasks.mutex             the table of tasks and its copy in the figures           channels, rebuild, snapshot, main
 *    6    store's own             (catalog, libraries; see store/)                         all
 *    7    control.lock, writing   what workers see (shm/rwlock.h)                          committer
 *    8    channels.mutex          descriptors and unsent answers                           channels, committer, main
 *    9    children.mutex          pid and generation of each slot, so that a kill          all
 *                                 cannot meet a reaped pid
 *   10    progress_mutex          the line of progress                                     recovery, main
 *   11    providers.mutex         who waits for a provider, what is to be sent to it       channels, provider, ask, main
 *
 * Ranks are checked by lock_take (lock.h), in every build.
 * Children.mutex stands so low because the committer kills a worker that blocks it while it takes control.lock.
 */
#ifndef QUIRE_PROC_SUPERVISOR_H
#define QUIRE_PROC_SUPERVISOR_H

#include "api/figures.h"
#include "durable/oplog.h"
#include "durable/recovery.h"
#include "embed/embedder.h"
#include "proc/config.h"
#include "proc/listener.h"
#include "store/catalog.h"
#include "store/key_table.h"

struct archiver;
struct asker;
struct audit;
struct background;
struct channels;
struct children;
struct checkpointer;
struct committer;
struct exchanger;
struct gauges;
struct log_floor;
struct flusher;
struct providers;
struct rebuilder;
struct snapshot_record;
struct snapshotter;
struct tasks;
struct verifier;

/* [reload] keys that other threads than main look at: written by main, read by all, relaxed. */
struct tunables {
    uint64_t checkpoint_interval, checkpoint_ops;
    uint64_t write_back_interval;
    uint64_t snapshot_interval, snapshot_every_ops, snapshot_keep, snapshot_keep_days, snapshot_chain_max;
    uint64_t snapshot_compression, snapshot_level, snapshot_include_embeddings, snapshot_stop_max_bytes;
    uint64_t snapshot_verify_interval;
    uint64_t archive_keep_days, archive_max_lag_bytes;
    uint64_t watchdog_lock_ms;
    uint64_t reembed_keep_seconds;
};

struct supervisor {
    struct config config; /* main thread only, but for its [start] keys, which do not change */
    struct tunables tunables;
    struct embed_registry models;
    int model_fd; /* the model file; workers inherit it */
    int data_dir_fd, vectors_dir_fd, snapshots_dir_fd;
    int lock_fd;
    int control_fd;
    struct control *control;
    struct service_figures *figures; /* in the control segment */
    struct catalog *catalog;
    struct key_table *keys; /* likewise, under its own mutex */
    struct key_page *key_page;
    int key_page_fd; /* workers inherit it */
    struct audit *audit;
    int audit_fd; /* the end of its pipe that workers inherit */
    struct idempotency *idempotency; /* changed by recovery, then by the committer; asked by channels, checkpoint and snapshot, too */
    struct oplog *log; /* after recovery */
    struct log_floor *log_floor;
    struct listener listener[LISTENERS];
    char pid_path[CONFIG_PATH_MAX];
    bool pid_written;

    struct children *children;
    struct channels *channels;
    struct committer *committer;
    struct background *background;
    struct gauges *gauges;
    struct providers *providers;
    struct asker *asker;
    struct rebuilder *rebuilder;
    struct exchanger *exchanger;
    struct snapshotter *snapshotter;
    struct verifier *verifier;
    struct snapshot_record *snapshot_record; /* has a lock of its own */
    struct checkpointer *checkpointer;
    struct flusher *flusher;
    struct archiver *archiver;
    struct tasks *tasks;

    int wake_fd;         /* eventfd: something for the main thread to look at */
    uint32_t log_failed; /* atomic: the log has latched an error, written by the committer */
};

/* What main.c hands over. */
struct supervisor_options {
    const char *config_path; /* NULL: presets */
    const char *const *sets; /* --set */
    size_t set_count;
    bool repair;
};

/* Reads file and --set, and checks all that can be checked without touching anything; for the start, -t and SIGHUP. */
MUST_CHECK bool supervisor_read_config(const struct supervisor_options *options, struct config *ret, struct status *st);

/* Runs until it is told to stop. Returns an exit code of sysexits.h. */
int supervisor_run(const struct supervisor_options *options, const struct config *config);

/* Any thread: the main thread looks around at once. */
void supervisor_wake(struct supervisor *s);

#endif
