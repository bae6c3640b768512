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

/* Clustered vectors; every slot of the graph initialised, none linked. bits: of a code, 0 for none. */
void fixture_init(struct fixture *f, uint32_t count, uint32_t queries, uint32_t dimension, uint32_t m, uint32_t bits);
void fixture_fini(struct fixture *f);
float *fixture_row(struct fixture *f, uint32_t slot);
static inline const float *fixture_query(const struct fixture *f, uint32_t q) {
    return vector_row(&f->rows, f->count + q);
}
/* Links slots first..end-1 in order, alone. */
void fixture_insert(struct fixture *f, uint32_t first, uint32_t end);
/* For all that is linked, with the whole graph in view; to be altered and handed to fixture_ask. */
struct hnsw_request fixture_request(const struct fixture *f, const float *query, uint32_t k, uint32_t ef);
/* Best-first slots into `found` (room for k, at most FIXTURE_MAX_K). Returns how many. */
enum { FIXTURE_MAX_K = 1024 };
size_t fixture_ask(struct fixture *f, const struct hnsw_request *request, uint32_t *found);
/* The two together. */
size_t fixture_search(struct fixture *f, const float *query, uint32_t k, uint32_t ef, uint32_t *found);
/* Mean share of the k nearest (by an exact scan) that a search finds. */
double fixture_recall(struct fixture *f, uint32_t k, uint32_t ef);
/* No faults, and every node of every layer reachable from every other one. */
void fixture_assert_sound(const struct fixture *f, uint32_t slots);
/* As hnsw.h lays them out: a slot's block, its words behind the code, and its list at a layer. */
uint8_t *fixture_block(const struct fixture *f, uint32_t slot);
enum { FIXTURE_SCALE_WORD, FIXTURE_UPPER_WORD, FIXTURE_LINKS_WORD };
uint32_t *fixture_words(const struct fixture *f, uint32_t slot);
uint32_t fixture_room(const struct fixture *f, uint32_t layer);
uint32_t *fixture_list(const struct fixture *f, uint32_t slot, uint32_t layer);

#endif
