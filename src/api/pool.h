/*
 * pool.h - memory that lives as long as one request: taken piece by piece, given back all at once, so that no handler has a
 * path on which something is forgotten.
 */
#ifndef QUIRE_API_POOL_H
#define QUIRE_API_POOL_H

#include "base/buf.h"

struct pool_block;
struct pool {
    struct pool_block *blocks; /* the newest first */
    size_t taken;              /* bytes handed out */
};

/* Zeroed bytes, aligned for anything; NULL when there is no memory. */
void *pool_take(struct pool *p, size_t bytes);
/* count * size, checked for overflow. */
void *pool_take_array(struct pool *p, size_t count, size_t size);
/* A copy of s in the pool; false when there is no memory. */
MUST_CHECK bool pool_copy(struct pool *p, struct slice s, struct slice *ret);
/* Gives everything back. One ordinary block is kept for the next request. */
void pool_reset(struct pool *p);
void pool_fini(struct pool *p);

#endif
