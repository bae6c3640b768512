/* parallel.c - see parallel.h. */
#include "base/parallel.h"

#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

enum { THREADS_MAX = 16 };

struct loop {
    void (*fn)(void *ctx, size_t i);
    void *ctx;
    size_t count;
    size_t next; /* atomic: the next call to make */
};

static void *take_turns(void *arg) {
    struct loop *l = (struct loop *)arg;
    for (;;) {
        size_t i = __atomic_fetch_add(&l->next, 1, __ATOMIC_RELAXED);
        if (i >= l->count) {
            return NULL;
        }
        l->fn(l->ctx, i);
    }
}

void parallel_for(size_t count, void (*fn)(void *ctx, size_t i), void *ctx) {
    struct loop l = {.fn = fn, .ctx = ctx, .count = count};
    pthread_t threads[THREADS_MAX];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t wanted = cores > 1 ? (size_t)cores : 1;
    wanted = wanted > THREADS_MAX ? THREADS_MAX : wanted;
    wanted = wanted > count ? count : wanted;
    size_t started = 0;
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, take_turns, &l) == 0) {
        started++;
    }
    (void)take_turns(&l);
    for (size_t i = 0; i < started; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}
