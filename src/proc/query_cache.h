/*
 * query_cache.h - vectors of queries that a provider has made, and who asks for one that is not there.
 *
 * The key is the model and the whole text, compared byte by byte: two texts never share a vector, whatever somebody finds out about the hash. It lies in the
 * provider process, and workers can only ask: one that is broken into cannot change what the others get. Least recently used ones go first when
 * the bytes are too many. Of several who ask for the same text at once, one is told to ask the provider, and the others get what came.
 * Safe to call from several threads.
 */
#ifndef QUIRE_PROC_QUERY_CACHE_H
#define QUIRE_PROC_QUERY_CACHE_H

#include "base/buf.h"

struct query_cache;

/* max_bytes 0: nothing is kept, but who asks at once is still told together. */
MUST_CHECK bool query_cache_new(uint64_t max_bytes, struct query_cache **ret, struct status *st);
void query_cache_free(struct query_cache *c); /* takes NULL */

enum query_found {
    QUERY_HERE,  /* *ret_vector holds dimension floats */
    QUERY_ASK,   /* the caller asks the provider, and says what came by query_cache_settle, in any case */
    QUERY_SHARED /* somebody is asking: `waiter` is among those whom query_cache_settle hands out */
};
/* vector: appended to (empty before). Where there is no memory to remember an asker, QUERY_ASK. */
enum query_found query_cache_look(struct query_cache *c, uint32_t model, struct slice text, uint64_t waiter, struct buf *vector);
/* values NULL: nothing came. *ret_waiters: those who wait beside the caller, uint64_t each, appended. */
void query_cache_settle(struct query_cache *c, uint32_t model, struct slice text, const float *values, uint32_t dimension, struct buf *ret_waiters);
/* For who asks for many at once, and neither waits for others nor lets them wait. False: it is not there; else out has its `dimension` floats. */
bool query_cache_get(struct query_cache *c, uint32_t model, struct slice text, uint32_t dimension, float *out);
/* What came for one of them. */
void query_cache_put(struct query_cache *c, uint32_t model, struct slice text, const float *values, uint32_t dimension);
/* The model has changed: nothing of it is handed out any more. */
void query_cache_forget(struct query_cache *c, uint32_t model);

struct query_cache_figures {
    uint64_t hits, misses, shared, bytes, entries;
};
void query_cache_figures(struct query_cache *c, uint32_t model, struct query_cache_figures *ret);

#endif
