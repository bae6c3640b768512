/* thread.h - starting the supervisor's threads, and condition variables that wait by the monotonic clock. */
#ifndef QUIRE_PROC_THREAD_H
#define QUIRE_PROC_THREAD_H

#include "base/status.h"

#include <pthread.h>

/* Starts a thread under a name that ps and top show (15 bytes). */
MUST_CHECK bool thread_start(pthread_t *ret, const char *name, void *(*run)(void *), void *arg, struct status *st);
/* This thread's nice value: background work goes after commits and searches. */
void thread_set_nice(int nice);

/* For lock_wait_until. */
MUST_CHECK bool thread_cond_init(pthread_cond_t *cond, struct status *st);

#endif
