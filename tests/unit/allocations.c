/* allocations.c - see allocations.h */
#include "allocations.h"

#include <stdbool.h>
#include <stddef.h>

static struct allocations own;
struct allocations *allocations = &own;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);

static bool denied(void) {
    uint32_t left = __atomic_load_n(&allocations->left, __ATOMIC_RELAXED);
    (void)__atomic_add_fetch(&allocations->seen, 1, __ATOMIC_RELAXED);
    while (left > 1 && !__atomic_compare_exchange_n(&allocations->left, &left, left - 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        /* another thread's was counted */
    }
    if (left != 1) {
        return false;
    }
    /* One of several threads that meet here is denied, where it is for once. */
    return __atomic_load_n(&allocations->end, __ATOMIC_RELAXED) != 0 ||
           __atomic_compare_exchange_n(&allocations->left, &left, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void *__wrap_malloc(size_t bytes) {
    return denied() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes) {
    return denied() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *old, size_t bytes) {
    return denied() ? NULL : __real_realloc(old, bytes);
}
