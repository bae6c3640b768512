/* hnswlib_baseline.h - the library of the paper's first author, with a C face, to measure ours against in the same run. Built
 * only where it is found. */
#ifndef QUIRE_BENCH_HNSWLIB_BASELINE_H
#define QUIRE_BENCH_HNSWLIB_BASELINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct baseline;

/* NULL: it threw. Vectors are of unit length and compared by inner product. */
struct baseline *baseline_new(uint32_t dimension, uint32_t max_elements, uint32_t m, uint32_t ef_construction);
void baseline_free(struct baseline *b);
/* May be called by several threads at once. 0: it threw. */
int baseline_insert(struct baseline *b, const float *vector, uint32_t label);
/* Nearest first; returns how many. */
size_t baseline_search(struct baseline *b, const float *query, uint32_t k, uint32_t ef, uint32_t *labels);

#ifdef __cplusplus
}
#endif

#endif
