/* index_fixture.h - a graph with its vectors in memory of its own, for the tests of the index layer. What cannot be allocated
 * fails the test. */
#ifndef QUIRE_TESTS_INDEX_FIXTURE_H
#define QUIRE_TESTS_INDEX_FIXTURE_H

#include "index/hnsw.h"

struct fixture {
    struct hnsw_graph graph;
    struct vector_rows rows; /* count rows in the graph's slots, then `queries` more */
    float *vectors;
    uint32_t count;
    uint32_t queries;
    struct hnsw_scratch *scratch;
};

/* Clustered vectors; every slot of the graph initialised, none linked. */
void fixture_init(struct fixture *f, uint32_t count, uint32_t queries, uint32_t dimension, uint32_t m);
void fixture_fini(struct fixture *f);
float *fixture_row(struct fixture *f, uint32_t slot);
static inline const float *fixture_query(const struct fixture *f, uint32_t q) {
    return vector_row(&f->rows, f->count + q);
}
/* Links slots first..end-1 in order, alone. */
void fixture_insert(struct fixture *f, uint32_t first, uint32_t end);
/* Searches with the whole graph in view; best-first slots into `found` (room for k). Returns how many. */
size_t fixture_search(struct fixture *f, const float *query, uint32_t k, uint32_t ef, const struct slot_filter *filter,
                      uint32_t *found);
/* Mean share of the k nearest (by an exact scan) that a search finds. */
double fixture_recall(struct fixture *f, uint32_t k, uint32_t ef);
/* No faults, and every node of every layer reachable from every other one. */
void fixture_assert_sound(const struct fixture *f, uint32_t slots);
/* The words of slot's list at a layer, as hnsw.h lays them out. */
uint32_t *fixture_list(const struct fixture *f, uint32_t slot, uint32_t layer);

#endif
