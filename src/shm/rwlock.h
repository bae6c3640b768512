/*
 * rwlock.h - the process-shared reader-writer lock that survives the death of its holders.
 *
 * One robust word per reader, each on a cache line of its own: a futex that the kernel marks FUTEX_OWNER_DIED when its owner is
 * killed. A reader takes its own; the writer takes all, in order. A plain pshared rwlock whose reader is killed blocks
 * writers for ever; here the writer finds the mark, takes the word and goes on: a reader only copies from what the lock
 * protects, so it cannot have left anything half-written. A writer lives in the supervisor, and when the supervisor dies the
 * segment is never used again, so a dead writer need not be repaired.
 *
 * It is not made of pthread mutexes, because those keep list pointers of their present owner in the shared memory, and a writer
 * that unlocks stores through them: a worker that is broken into would choose what the supervisor writes, and where. These words
 * hold a thread id and nothing else. A worker that scribbles over the lock can make others wait, and the watchdog ends that.
 *
 * A reader never waits for another reader. The writer waits at most for the tens of nanoseconds that each reader holds its word;
 * a reader that is stopped inside holds the writer up until the watchdog kills it (rwlock_write_lock reports
 * whom it waits for). Neither side can starve the other: a reader that unlocks hands its word to the writer that waits, and a
 * writer that unlocks leaves the word reserved for the reader that waits (for RWLOCK_TURN_US at most, as that reader may be
 * dead).
 *
 * One thread at a time uses a reader's index, and unlocks what it locked. Between lock and unlock it takes no robust pthread
 * mutex (both announce themselves to the kernel in the same field) and does not lock again.
 */
#ifndef QUIRE_SHM_RWLOCK_H
#define QUIRE_SHM_RWLOCK_H

#include "base/status.h"

#define RWLOCK_MAX_READERS 128
#define RWLOCK_CACHE_LINE 64
#define RWLOCK_TURN_US 1000

struct rwlock_reader {
    _Alignas(RWLOCK_CACHE_LINE) uint32_t word;      /* who holds it, see rwlock.c; written by the reader and the writer */
    _Alignas(RWLOCK_CACHE_LINE) uint64_t recovered; /* how often the writer found its owner dead; written by the writer */
};

struct rwlock {
    uint32_t readers; /* fixed at init, not above RWLOCK_MAX_READERS */
    struct rwlock_reader reader[RWLOCK_MAX_READERS];
};

/* Called when the writer has waited for reader `index` longer than patience_us, and again after each further patience_us. The
 * supervisor kills that worker. Returns nothing: the lock goes on waiting until the word comes free or its owner is dead. */
typedef void (*rwlock_stuck_fn)(uint32_t index, int64_t waited_us, void *ctx);

MUST_CHECK bool rwlock_init(struct rwlock *lock, uint32_t readers, struct status *st);
/* `index` < readers: the caller's own. Takes over (EOWNERDEAD) what a dead predecessor in the same slot left. */
void rwlock_read_lock(struct rwlock *lock, uint32_t index);
void rwlock_read_unlock(struct rwlock *lock, uint32_t index);
/* One thread of the supervisor at a time (the committer's publish mutex sees to that). stuck may be NULL. */
void rwlock_write_lock(struct rwlock *lock, int64_t patience_us, rwlock_stuck_fn stuck, void *ctx);
void rwlock_write_unlock(struct rwlock *lock);
/* Supervisor, any thread: the process of this index is reaped, and no other has the index yet. The kernel has already freed what
 * it held; this frees what only looks held, because somebody scribbled over the word or the kernel could not reach it. */
void rwlock_reader_gone(struct rwlock *lock, uint32_t index);

#endif
