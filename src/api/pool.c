/* pool.c - see pool.h. Blocks of an ordinary size are carved up; what is larger gets a block of its own. */
#include "api/pool.h"

#include <stdalign.h>
#include <stdlib.h>

#define POOL_BLOCK_BYTES 65536u

struct pool_block {
    struct pool_block *next;
    size_t used, size; /* bytes after the head */
    alignas(max_align_t) uint8_t bytes[];
};

static struct pool_block *block_new(size_t size) {
    if (size > SIZE_MAX - sizeof(struct pool_block)) {
        return NULL;
    }
    struct pool_block *b = (struct pool_block *)malloc(sizeof *b + size);
    if (b != NULL) {
        b->next = NULL;
        b->used = 0;
        b->size = size;
    }
    return b;
}

void *pool_take(struct pool *p, size_t bytes) {
    size_t step = alignof(max_align_t);
    if (bytes > SIZE_MAX - step) {
        return NULL;
    }
    size_t wanted = bytes == 0 ? step : (bytes + step - 1) / step * step;
    struct pool_block *b = p->blocks;
    if (b == NULL || b->size - b->used < wanted) {
        struct pool_block *fresh = block_new(wanted > POOL_BLOCK_BYTES / 4 ? wanted : POOL_BLOCK_BYTES);
        if (fresh == NULL) {
            return NULL;
        }
        if (b != NULL && fresh->size == wanted) { /* a piece of its own goes behind, so that the block in use stays in use */
            fresh->next = b->next;
            b->next = fresh;
        } else {
            fresh->next = b;
            p->blocks = fresh;
        }
        b = fresh;
    }
    void *piece = b->bytes + b->used;
    b->used += wanted;
    p->taken += wanted;
    memset(piece, 0, wanted);
    return piece;
}

void *pool_take_array(struct pool *p, size_t count, size_t size) {
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        return NULL;
    }
    return pool_take(p, bytes);
}

bool pool_copy(struct pool *p, struct slice s, struct slice *ret) {
    uint8_t *copy = (uint8_t *)pool_take(p, s.len);
    if (copy == NULL) {
        return false;
    }
    if (s.len > 0) {
        memcpy(copy, s.data, s.len);
    }
    *ret = slice_of(copy, s.len);
    return true;
}

void pool_reset(struct pool *p) {
    struct pool_block *kept = NULL;
    for (struct pool_block *b = p->blocks; b != NULL;) {
        struct pool_block *next = b->next;
        if (kept == NULL && b->size == POOL_BLOCK_BYTES) {
            kept = b;
        } else {
            free(b);
        }
        b = next;
    }
    if (kept != NULL) {
        kept->next = NULL;
        kept->used = 0;
    }
    p->blocks = kept;
    p->taken = 0;
}

void pool_fini(struct pool *p) {
    pool_reset(p);
    free(p->blocks);
    p->blocks = NULL;
}
