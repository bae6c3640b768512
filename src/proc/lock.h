/*
 * lock.h - the supervisor's mutexes, with the order in which they may be taken.
 *
 * Each has a rank (the table is in supervisor.h). A thread that holds one may take only such of a higher rank; lock_take holds that to be true
 * by an assertion, in every build: a wrong order is found by the first test that comes along, and not by the one run in a million that hangs.
 */
#ifndef QUIRE_PROC_LOCK_H
#define QUIRE_PROC_LOCK_H

#include "base/status.h"

#include <pthread.h>

enum lock_rank {
    LOCK_READING = 0,
    LOCK_COMMITTER = 1,
    LOCK_SNAPSHOTTER = 2,
    LOCK_BACKGROUND = 3,
    LOCK_REBUILDER = 4,
    LOCK_TASKS = 5,
    /* 6 and 7 are store's and shm's, which check nothing here */
    LOCK_CHANNELS = 8,
    LOCK_CHILDREN = 9,
    LOCK_PROGRESS = 10,
    LOCK_PROVIDERS = 11
};

struct lock {
    pthread_mutex_t mutex;
    enum lock_rank rank;
};

void lock_init(struct lock *l, enum lock_rank rank);
void lock_fini(struct lock *l);
void lock_take(struct lock *l);
void lock_release(struct lock *l);
/* Waits until cond is signalled; the caller holds l, and again afterwards. */
void lock_wait(struct lock *l, pthread_cond_t *cond);
/* Likewise, until `deadline_us` (monotonic) at most; false when it has passed. cond is from thread_cond_init. */
bool lock_wait_until(struct lock *l, pthread_cond_t *cond, int64_t deadline_us);

#endif
