/*
 * rwlock.h - the process-shared reader-writer lock that survives the death of its holders.
 *
 * One robust, process-shared mutex per reader, each on a cache line of its own. A reader takes its own; the writer takes
 * all, in order. A plain pshared rwlock whose reader is killed blocks writers for ever; here the writer gets EOWNERDEAD from
 * that reader's mutex, marks it consistent and goes on: a reader only copies from what the lock protects, so it cannot have
 * left anything half-written. A writer lives in the supervisor, and when the supervisor dies the segment is never used again, so a
 * dead writer need not be repaired.
 *
 * A reader never waits for another reader. The writer waits at most for the tens of nanoseconds that each reader holds its mutex;
 * a reader that is stopped inside holds the writer up until the watchdog kills it (rwlock_write_lock reports
 * whom it waits for). Neither side can starve the other: the writer queues on each mutex, and releases all after a publication.
 */
#ifndef QUIRE_SHM_RWLOCK_H
#define QUIRE_SHM_RWLOCK_H

#include "base/status.h"

#include <pthread.h>

#define RWLOCK_MAX_READERS 128
#define RWLOCK_CACHE_LINE 64

struct rwlock_reader {
    pthread_mutex_t mutex; /* robust, process-shared */
    _Alignas(RWLOCK_CACHE_LINE) uint64_t recovered; /* how often the writer found its owner dead; written by the writer */
};

struct rwlock {
    uint32_t readers; /* fixed at init */
    struct rwlock_reader reader[RWLOCK_MAX_READERS];
};

/* Called when the writer has waited for reader `index` longer than patience_us, and again after each further patience_us. The
 * supervisor kills that worker. Returns nothing: the lock goes on waiting until the mutex comes free or its owner is dead. */
typedef void (*rwlock_stuck_fn)(uint32_t index, int64_t waited_us, void *ctx);

MUST_CHECK bool rwlock_init(struct rwlock *lock, uint32_t readers, struct status *st);
/* `index` < readers: the caller's own. Takes over (EOWNERDEAD) what a dead predecessor in the same slot left. */
void rwlock_read_lock(struct rwlock *lock, uint32_t index);
void rwlock_read_unlock(struct rwlock *lock, uint32_t index);
/* One thread of the supervisor at a time (the committer's publish mutex sees to that). stuck may be NULL. */
void rwlock_write_lock(struct rwlock *lock, int64_t patience_us, rwlock_stuck_fn stuck, void *ctx);
void rwlock_write_unlock(struct rwlock *lock);

#endif
