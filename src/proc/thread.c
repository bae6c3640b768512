/* thread.c - see thread.h. Signals are blocked in the main thread before the first thread starts, so no thread gets any. */
#include "proc/thread.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { THREAD_NAME_MAX = 16 };

bool thread_start(pthread_t *ret, const char *name, void *(*run)(void *), void *arg, struct status *st) {
    char shown[THREAD_NAME_MAX];
    pthread_t thread;
    int err = pthread_create(&thread, NULL, run, arg);
    if (err != 0) {
        return status_set_errno(st, err, "cannot start the thread %s", name);
    }
    (void)snprintf(shown, sizeof shown, "%s", name);
    (void)pthread_setname_np(thread, shown);
    *ret = thread;
    return true;
}

void thread_set_nice(int nice) {
    /* On Linux the nice value belongs to the thread. Where it is refused, work goes on at the old one. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), nice);
}

bool thread_cond_init(pthread_cond_t *cond, struct status *st) {
    pthread_condattr_t attributes;
    int err = pthread_condattr_init(&attributes);
    if (err == 0) {
        (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        err = pthread_cond_init(cond, &attributes);
        (void)pthread_condattr_destroy(&attributes);
    }
    return err == 0 || status_set_errno(st, err, "cannot make a condition variable");
}
