/* allocations.c - see allocations.h */
#include "allocations.h"

#include <stdbool.h>
#include <stddef.h>

unsigned allocations_left;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);

static bool denied(void) {
    return allocations_left > 0 && --allocations_left == 0;
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
