/* scan.h - exact search: every accepted row of a range against the query. */
#ifndef QUIRE_INDEX_SCAN_H
#define QUIRE_INDEX_SCAN_H

#include "index/topk.h"
#include "index/vectors.h"

/* Offers each accepted slot of [first, end) to best with its cosine distance (0 to 2). Returns the number of distances computed.
 * Prefetches ahead; no allocation. */
uint64_t scan_exact(const struct vector_rows *rows, uint32_t first, uint32_t end, const float *query,
                    const struct slot_filter *filter, struct topk *best);

#endif
