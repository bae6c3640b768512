/* service_thread.c - see service_thread.h. */
#include "proc/service_thread.h"

#include "base/clock.h"
#include "proc/thread.h"

bool service_thread_init(struct service_thread *t, enum lock_rank rank, struct status *st) {
    *t = (struct service_thread){.started = false};
    lock_init(&t->mutex, rank);
    if (!thread_cond_init(&t->wake, st)) {
        lock_fini(&t->mutex);
        return false;
    }
    return true;
}

bool service_thread_start(struct service_thread *t, const char *name, void *(*run)(void *), void *arg, struct status *st) {
    t->started = thread_start(&t->thread, name, run, arg, st);
    return t->started;
}

void service_thread_wake(struct service_thread *t) {
    lock_take(&t->mutex);
    t->wakes++;
    (void)pthread_cond_broadcast(&t->wake);
    lock_release(&t->mutex);
}

void service_thread_stop(struct service_thread *t) {
    if (!t->started) {
        return;
    }
    lock_take(&t->mutex);
    t->stopping = true;
    (void)pthread_cond_broadcast(&t->wake);
    lock_release(&t->mutex);
    (void)pthread_join(t->thread, NULL);
    t->started = false;
}

void service_thread_fini(struct service_thread *t) {
    service_thread_stop(t);
    (void)pthread_cond_destroy(&t->wake);
    lock_fini(&t->mutex);
}

/* False: the time has come. */
static bool sleep_locked(struct service_thread *t, int64_t until_us) {
    if (until_us == INT64_MAX) {
        lock_wait(&t->mutex, &t->wake);
        return true;
    }
    return lock_wait_until(&t->mutex, &t->wake, until_us);
}

bool service_thread_wait(struct service_thread *t, int64_t until_us, uint64_t *seen) {
    lock_take(&t->mutex);
    while (t->wakes == *seen && !t->stopping && sleep_locked(t, until_us)) {
        /* woken before its time, see why */
    }
    *seen = t->wakes;
    bool go_on = !t->stopping;
    lock_release(&t->mutex);
    return go_on;
}

bool service_thread_pause(struct service_thread *t, int64_t us) {
    int64_t until_us = clock_monotonic_us() + us;
    lock_take(&t->mutex);
    if (!t->stopping) {
        (void)sleep_locked(t, until_us);
    }
    bool go_on = !t->stopping;
    lock_release(&t->mutex);
    return go_on;
}

bool service_thread_is_stopping(struct service_thread *t) {
    lock_take(&t->mutex);
    bool stopping = t->stopping;
    lock_release(&t->mutex);
    return stopping;
}
