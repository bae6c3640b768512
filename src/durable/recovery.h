/*
 * recovery.h - from what lies in a data directory to libraries that serve: checkpointed arenas, or snapshot and log.
 *
 *   1. wal_open finds the durable end and cuts a torn tail.
 *   2. A checkpoint (<data>/vectors/checkpoint, written at an orderly stop, removed before the first change after a start) that
 *      verifies (format, LSN = the log's last, checksums of every file up to its used bytes, model fingerprints): the arenas are
 *      adopted as they are.
 *   3. Otherwise the newest live checkpoint (live_checkpoint.h, taken every few minutes) whose place in the log is known: each library whose rows, records and page
 *      files stand is gone on with, the log after the checkpoint's LSN is replayed, and the graphs are held against what came out.
 *   4. Where there is none, and for libraries with which that failed, the newest snapshot that verifies is loaded (older ones are tried, and it is said), then the log after its LSN is
 *      replayed. The old arenas are set aside (vectors/<id>.old), and each chunk's vector is kept when chunk id, text hash, model
 *      fingerprint, dimension and the vector's CRC match. What is left is pending: the backlog embeds it while workers serve. Old
 *      arenas are removed at the end.
 * Idempotent: killed at any point, it starts again from the same files.
 */
#ifndef QUIRE_DURABLE_RECOVERY_H
#define QUIRE_DURABLE_RECOVERY_H

#include "durable/live_checkpoint.h"
#include "durable/oplog.h"
#include "durable/snapshot.h"
#include "store/idempotency.h"
#include "store/key_table.h"

struct recovery_options {
    int data_dir_fd;
    uint64_t wal_segment_bytes;
    uint64_t max_record_bytes;
    const struct limits *limits;
    bool repair;
    struct key_table *keys;          /* takes the API keys; NULL: nobody wants to know */
    struct idempotency *idempotency; /* takes what is remembered of requests; NULL: nobody wants to know */
    /* Called now and then with a line of progress and a fraction 0..1; may be NULL. */
    void (*progress)(void *ctx, const char *what, double fraction);
    void *progress_ctx;
};

struct recovered_library {
    struct uuid id;
    char name[256];
    uint32_t documents, chunks;
    uint32_t vectors_kept;    /* from the arena or salvaged */
    uint32_t vectors_pending; /* to be regenerated */
};

struct recovery_report {
    bool from_checkpoint; /* as the last stop left it */
    bool from_live;       /* gone on from a live checkpoint */
    uint64_t live_lsn;
    uint32_t resumed, rebuilt;      /* libraries: gone on with, made anew from a snapshot and the log */
    uint64_t graph_dropped;         /* nodes to be linked again */
    struct live_checkpoint live;    /* for live_checkpointer_new; with from_checkpoint what lies beside */
    char snapshot[SNAPSHOT_NAME_MAX]; /* loaded from, or "" */
    char why_not_checkpoint[200];     /* "" or why the arenas were not taken as they are */
    uint64_t snapshot_lsn, last_lsn;
    uint64_t replayed_ops;
    uint64_t torn_bytes;
    int64_t wal_open_us, checkpoint_us, resume_us, snapshot_us, replay_us, graph_us;
    struct recovered_library *libraries; /* malloc'd */
    size_t library_count;
    bool repaired; /* the log */
    uint64_t lost_records_bound;
    uint64_t lost_first, lost_last; /* as in wal_report */
};

/* Creates what is missing in the data directory (wal/, snapshots/, vectors/). The catalog is empty before and published after.
 * *ret_log is open for appending. */
MUST_CHECK bool recovery_run(const struct recovery_options *options, struct catalog *c, struct oplog **ret_log,
                             struct recovery_report *ret, struct status *st);
void recovery_report_fini(struct recovery_report *r);

/* At an orderly stop, with no commits, indexers or re-embedders at work: sync all arenas, then write the checkpoint. keys may be
 * NULL. */
MUST_CHECK bool checkpoint_write(int data_dir_fd, struct catalog *c, struct idempotency *keys, struct key_table *api_keys, uint64_t lsn, struct status *st);

/* The LOCK file of a data directory: held (flock, and the pid within) until the descriptor is closed. STATUS_CONFLICT names the
 * holder. */
MUST_CHECK bool data_lock(int data_dir_fd, int *ret_fd, struct status *st);
/* For tools that only read: keeps a server from starting on the directory, and writes nothing. STATUS_CONFLICT: one runs. *ret_fd -1: there is no
 * LOCK, no server was ever there. */
MUST_CHECK bool data_lock_shared(int data_dir_fd, int *ret_fd, struct status *st);

#endif
