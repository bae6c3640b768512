/*
 * engine_quire.h - our engine as bench/engine uses it, beyond what it asks of every contender: changes while others search, and
 * exact answers. The only file of the bench that knows src/index's graph is engine_quire.c.
 *
 * All of it lies in memory that a forked process shares, as the arena of a library does. One process writes.
 */
#ifndef QUIRE_BENCH_ENGINE_QUIRE_H
#define QUIRE_BENCH_ENGINE_QUIRE_H

#include "contender.h"

#include "index/topk.h"

struct quire;
struct quire_searcher;

struct quire *quire_new(const struct contender_shape *shape);
void quire_free(struct quire *q);
struct quire_searcher *quire_searcher_new(const struct quire *q);
void quire_searcher_free(struct quire_searcher *s);

/* One more vector, found by searches from here on, although not linked yet. Returns its slot. One thread at a time. */
uint32_t quire_put(struct quire *q, const float *vector);
/* Links what was put up to here; quire_put may be at work in another thread. False: no memory. */
bool quire_link_pending(struct quire *q, struct quire_searcher *s);
/* Deletes what is in the slot, with what repair goes with it, and puts and links another vector. Returns the slot that it has now. */
uint32_t quire_replace(struct quire *q, struct quire_searcher *s, uint32_t slot, const float *vector);

/* What is not deleted, nearest first; returns how many. */
size_t quire_search(const struct quire *q, struct quire_searcher *s, const float *query, uint32_t k, uint32_t ef,
                    struct neighbor *found);
/* Provably what a scan in float32 gives, for up to QUIRE_EXACT_MOST queries in one pass; k of found and one of counts a query. */
#define QUIRE_EXACT_MOST 16
void quire_search_exact(const struct quire *q, struct quire_searcher *s, const float *queries, size_t stride, uint32_t count,
                        uint32_t k, struct neighbor *found, size_t *counts);

/* Levels, degrees and the validator's verdict, in one line. */
void quire_describe(const struct quire *q);

#endif
