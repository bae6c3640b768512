/* service_thread.h - a thread of the supervisor's that sleeps until it is woken or a time has come, and then looks what there is to do. */
#ifndef QUIRE_PROC_SERVICE_THREAD_H
#define QUIRE_PROC_SERVICE_THREAD_H

#include "proc/lock.h"

#include <stdint.h>

struct service_thread {
    pthread_t thread;
    bool started;
    struct lock mutex; /* may guard what its owner shares with it, too */
    pthread_cond_t wake;
    /* under the mutex */
    uint64_t wakes; /* counted, not flagged: one that comes while the thread is looking makes it look once more */
    bool stopping;
};

/* After it, whatever else fails, service_thread_fini. On failure there is nothing to end. */
MUST_CHECK bool service_thread_init(struct service_thread *t, enum lock_rank rank, struct status *st);
/* name: as for thread_start. */
MUST_CHECK bool service_thread_start(struct service_thread *t, const char *name, void *(*run)(void *), void *arg, struct status *st);
/* Any thread. */
void service_thread_wake(struct service_thread *t);
/* Tells it to stop, and waits until it has ended. Does nothing where it was not started, or has ended. */
void service_thread_stop(struct service_thread *t);
/* That, and the end of the rest. */
void service_thread_fini(struct service_thread *t);

/* The thread's own. It waits until it was woken since *seen (0 at first), or until `until_us` (monotonic; INT64_MAX: never). False: stop. */
bool service_thread_wait(struct service_thread *t, int64_t until_us, uint64_t *seen);
/* Waits that long, or until the next wake-up. False: stop. */
bool service_thread_pause(struct service_thread *t, int64_t us);
bool service_thread_is_stopping(struct service_thread *t);

#endif
