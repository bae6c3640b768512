/*
 * contender.h - what bench/engine asks of every engine that it measures, ours and the libraries it is measured against.
 *
 * Vectors are of unit length and compared by inner product. A contender that is not compiled in (its library was not found) is not
 * in the list. No call lets an exception out.
 */
#ifndef QUIRE_BENCH_CONTENDER_H
#define QUIRE_BENCH_CONTENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CONTENDER_NONE UINT32_MAX

struct contender_shape {
    uint32_t dimension;
    uint32_t capacity; /* vectors, at most */
    uint32_t m;
    uint32_t ef_construction;
    uint32_t bits; /* of a code of ours: 8, 4, or 0 for none; the others have their own */
};

/* Many searches by one thread, one after the other. */
struct contender_searches {
    const float *rows;
    size_t stride; /* in floats */
    uint32_t count;
    uint32_t k;
    uint32_t ef;
    uint32_t *found; /* k labels a row, nearest first; CONTENDER_NONE where fewer were found */
};

/* Bytes a vector: what a search of the graph reads, and all there is, the float32 vector included. */
struct contender_bytes {
    double touched;
    double all;
};

struct contender {
    const char *name;
    /* NULL: no memory. */
    void *(*create)(const struct contender_shape *shape);
    void (*destroy)(void *self);
    /* Puts `count` rows in, under the labels 0 to count - 1, with so many threads at work. */
    bool (*insert_all)(void *self, const float *rows, size_t stride, uint32_t count, unsigned threads);
    /* What one thread needs to search; NULL where nothing is needed. */
    void *(*searcher_new)(void *self);
    void (*searcher_free)(void *searcher);
    bool (*search)(void *self, void *searcher, const struct contender_searches *s);
    void (*bytes)(void *self, struct contender_bytes *ret);
    /* To and from a file; NULL where it must be built each time. */
    bool (*save)(void *self, const char *path);
    void *(*load)(const struct contender_shape *shape, const char *path);
};

extern const struct contender contender_quire;
extern const struct contender contender_hnswlib;
extern const struct contender contender_faiss;     /* IndexHNSWFlat */
extern const struct contender contender_faiss_sq8; /* IndexHNSWSQ, 8 bits a number */

#ifdef __cplusplus
}
#endif

#endif
