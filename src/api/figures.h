/*
 * figures.h - what the supervisor tells about itself, in the control segment's page of figures, for /metrics, /health/detailed, /v1/tasks.
 *
 * written by: the supervisor's threads, each field by one thread only, relaxed single-word stores (text fields before their count, with
 * release); read by: workers, for display only. Nothing is decided by it.
 */
#ifndef QUIRE_API_FIGURES_H
#define QUIRE_API_FIGURES_H

#include "base/uuid.h"
#include "durable/snapshot.h"
#include "embed/remote.h"
#include "shm/control.h"

#define FIGURES_TASKS 64

enum task_state { TASK_NONE, TASK_PENDING, TASK_RUNNING, TASK_SUCCEEDED, TASK_FAILED, TASK_CANCELLED };
enum task_pause { PAUSE_NONE, PAUSE_AWAY /* the provider does not answer */, PAUSE_CHANGED /* it has another model by now */ };
enum task_kind { TASK_REBUILD = 1, TASK_SNAPSHOT, TASK_REEMBED, TASK_OPTIMIZE, TASK_VERIFY };

/* written by: the supervisor under its task mutex, `sequence` odd while it writes; a reader copies and tries again when it changed.
 * pairs with: FIGURES_TASK */
struct figures_task {
    uint64_t sequence;
    struct uuid id;
    struct uuid library; /* of TASK_VERIFY: the snapshot (snapshot_name_pack) */
    uint32_t kind;  /* enum task_kind */
    uint32_t state; /* enum task_state */
    uint64_t done, total;
    int64_t started_at, finished_at; /* wall, us; 0: not yet */
    double overlap;           /* of an exchange: the share of the ten nearest that old and new model agree on, a mean over */
    uint32_t overlap_queries; /* so many; 0: not known */
    uint32_t paused; /* enum task_pause; `error` says why */
    char error[200];
};

/* What is known of a remote model and its provider. */
enum provider_state { PROVIDER_UNKNOWN, PROVIDER_READY, PROVIDER_AWAY /* the last call failed */ };
enum { PROVIDER_ERROR_MAX = 200 };
struct figures_provider {
    uint32_t state; /* enum provider_state */
    uint32_t dimension;   /* 0: it has not been reached yet */
    uint64_t fingerprint; /* likewise */
    uint64_t retry_after_ms; /* as it said with its last failure; 0: it did not */
    uint64_t calls, retries, texts, tokens, failures, busy_us;
    uint64_t failed_calls[REMOTE_FAILURES]; /* by reason, repeated ones included */
    uint64_t cache_hits, cache_misses, cache_shared, cache_bytes, cache_entries; /* query embeddings */
    char error[PROVIDER_ERROR_MAX]; /* of the last failure; "" when all is well */
};
/* Which models of the embed registry they are: the remote ones in their order. written by: the thread that reads the provider process, `sequence` odd while it
 * writes. pairs with: FIGURES_PROVIDER */
#define FIGURES_PROVIDERS 8
struct figures_provider_slot {
    uint64_t sequence;
    struct figures_provider model;
    uint64_t refused_texts; /* of chunks that the provider will never embed; written by: its askers (atomic) */
    uint64_t vectors_logged; /* likewise */
    uint64_t waiting_until_us; /* monotonic; no chunk is asked for before; written by: its askers */
};
/* A copy that holds together. Any process. */
void figures_provider_read(const struct figures_provider_slot *slot, struct figures_provider *ret);
void figures_provider_write(struct figures_provider_slot *slot, const struct figures_provider *m);

/* Files of arenas by what they hold: the names of store/arena.h up to the first dot. */
#define ARENA_KINDS 10
const char *figures_arena_kind(unsigned kind);
/* Of a file's name; -1: none. */
int figures_arena_kind_of(const char *name);

/* File systems that may be different ones. */
enum figures_disk_of { DISK_DATA /* arenas */, DISK_WAL, DISK_SNAPSHOTS, DISK_ARCHIVE, FIGURES_DISKS };
struct figures_disk {
    uint64_t size, available; /* bytes, the second without what is root's; size 0: not known */
};

struct service_figures {
    int64_t started_at;            /* wall, us */
    int64_t started_us;            /* the same moment, monotonic */
    uint64_t generation;           /* random per start */
    uint32_t auth_on;
    uint32_t write_path_failed;    /* 1: the log has latched an error; the supervisor is about to restart */
    uint32_t disk_full;            /* 1: the last append or reservation met a full disk */
    uint32_t workers_wanted;
    uint64_t worker_restarts;
    uint64_t watchdog_kills;
    int64_t startup_us; /* from the start to the first worker that serves; 0: not yet */
    /* what the system says of the supervisor and of the file systems, every few seconds (proc/gauges.c) */
    uint64_t open_fds, max_fds, resident_bytes;
    int64_t cpu_us, children_cpu_us; /* the supervisor's; that of workers and the provider process, dead ones included */
    struct figures_disk disk[FIGURES_DISKS];
    /* recovery */
    uint32_t recovered_from_checkpoint;
    uint32_t recovering;
    int64_t recovery_us, recovery_snapshot_us, recovery_replay_us, recovery_checkpoint_us, recovery_wal_open_us,
        recovery_resume_us, recovery_graph_us;
    uint64_t recovery_replayed_ops, recovery_vectors_kept, recovery_vectors_pending, recovery_torn_bytes;
    int64_t reembed_us;            /* of the last complete re-embedding at start; 0: none was needed or it runs */
    uint64_t reembedded, reembed_total;
    int64_t reembed_begun_at; /* wall, us, while one at the start runs; else 0 */
    uint64_t embedded_chunks, embedding_us; /* by the threads that make missing vectors; the time of all of them together */
    /* committer */
    uint64_t commits, committed_ops, rejected_ops, queue_ops, queue_bytes, queue_full;
    uint64_t append_failures;             /* appends to the log that failed, whatever the reason */
    struct control_histogram commit_time; /* from reading the queue to answering */
    struct control_histogram queue_time;  /* from a submission's arrival to the begin of the batch that decides it */
    struct control_histogram append_time; /* the log's write with its sync */
    struct control_histogram sync_time;   /* the sync alone */
    struct control_histogram publish_time; /* with the wait for the write lock */
    struct control_histogram batch_ops;   /* ops in a batch: sizes */
    uint64_t lock_waits;                  /* times the writer had to wait beyond watchdog_lock_ms */
    uint64_t dead_readers;                /* mutexes taken over from dead workers */
    /* requests with an Idempotency-Key */
    uint64_t idempotency_keys, idempotency_bytes; /* remembered */
    uint64_t audit_lines, audit_suppressed, audit_lost; /* lines of the audit log: written; refusals beyond what is written of them; lost */
    uint64_t api_keys;
    uint64_t idempotency_replays, idempotency_mismatches; /* answered from memory; refused because of another body */
    /* log and snapshots */
    uint64_t wal_lsn, wal_oldest_lsn, wal_bytes, wal_segments, wal_appended_bytes; /* the last: of records, since start */
    int64_t wal_at;       /* wall, us: when the last record was appended since start; 0: none */
    uint64_t checkpoints_taken, checkpoint_failures, checkpoint_lsn, checkpoint_bytes; /* live ones; bytes of pages */
    int64_t checkpoint_at, checkpoint_us;
    uint64_t snapshots_taken, snapshot_failures;
    uint64_t snapshots_incremental;
    int64_t snapshot_at, snapshot_us;
    int64_t snapshot_cut_us_max; /* the longest that a cut kept the committer */
    uint64_t snapshot_lsn, snapshot_bytes;
    uint64_t snapshot_pending_ops; /* committed since the last one; after a start 1 where there is something */
    uint64_t verifications, verification_failures, verified_lsn; /* the last: of the newest one that verified */
    int64_t verified_at;
    uint32_t verified_good, unused_verified; /* how the last verification ended */
    uint64_t archive_lsn, archive_lag_segments, archive_lag_bytes, archived_segments, archive_failures;
    int64_t backup_at; /* of quire backup, as its state file says: the last one that did all it had to */
    uint64_t backup_lsn, backup_snapshot_lsn, backup_objects, backup_bytes, backup_failures; /* the last: in a row */
    /* exchanges of models */
    uint64_t exchanges, exchanges_returned, exchanges_failed, exchanges_kept; /* done; went back; failed; kept now */
    uint64_t exchange_chunks; /* of the last one that was done, and how long it took: */
    int64_t exchange_us;
    int64_t exchange_begun_at; /* wall, us, while one is built; else 0 */
    /* backlog */
    uint64_t pending_vectors, tail, linked;
    uint64_t arena_bytes[ARENA_KINDS];
    uint64_t provider_restarts;
    struct figures_provider_slot provider[FIGURES_PROVIDERS];
    struct figures_task task[FIGURES_TASKS]; /* a ring by age */
};

#endif
