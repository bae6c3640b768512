/* lock.c - see lock.h. */
#include "proc/lock.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

enum { US_PER_SECOND = 1000000, NS_PER_US = 1000 };

/* A bit per rank that this thread holds. */
static _Thread_local unsigned held;

static unsigned bit_of(const struct lock *l) {
    return 1U << (unsigned)l->rank;
}

void lock_init(struct lock *l, enum lock_rank rank) {
    (void)pthread_mutex_init(&l->mutex, NULL);
    l->rank = rank;
}

void lock_fini(struct lock *l) {
    (void)pthread_mutex_destroy(&l->mutex);
}

void lock_take(struct lock *l) {
    assert(held < bit_of(l)); /* nothing of this rank or above */
    (void)pthread_mutex_lock(&l->mutex);
    held |= bit_of(l);
}

void lock_release(struct lock *l) {
    assert((held & bit_of(l)) != 0);
    held &= ~bit_of(l);
    (void)pthread_mutex_unlock(&l->mutex);
}

void lock_wait(struct lock *l, pthread_cond_t *cond) {
    assert((held & bit_of(l)) != 0);
    (void)pthread_cond_wait(cond, &l->mutex);
}

bool lock_wait_until(struct lock *l, pthread_cond_t *cond, int64_t deadline_us) {
    struct timespec until = {.tv_sec = deadline_us / US_PER_SECOND, .tv_nsec = (deadline_us % US_PER_SECOND) * NS_PER_US};
    assert((held & bit_of(l)) != 0);
    return pthread_cond_timedwait(cond, &l->mutex, &until) != ETIMEDOUT;
}
