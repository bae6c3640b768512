/*
 * search_internal.h - what the files of the search share. Only src/store/search*.c include it.
 */
#ifndef QUIRE_STORE_SEARCH_INTERNAL_H
#define QUIRE_STORE_SEARCH_INTERNAL_H

#include "index/topk.h"
#include "store/search.h"

/* A search under way. */
struct search {
    const struct reading *rd;
    const struct search_request *request;
    struct search_scratch *scratch;
    const struct chunk_row *chunks;
    const struct slot_set *matches; /* of the filter; NULL: all */
    uint64_t candidates;
};

/* --- search_dense.c --- */
struct dense_scratch;
struct dense_scratch *dense_scratch_new(void);
void dense_scratch_free(struct dense_scratch *s);
/* The `want` nearest visible chunks with a vector that match, ascending by (distance, chunk id), into out (room for want). */
MUST_CHECK bool search_dense(struct search *s, struct dense_scratch *scratch, uint32_t want, struct neighbor *out, uint32_t *ret_count, bool *ret_exact,
                             struct status *st);
/* The distance of one slot; NaN when it has no vector. */
float search_distance(const struct search *s, uint32_t slot);

/* --- search.c --- */
/* Orders by chunk id: how ties break. */
int search_compare_ids(const struct search *s, uint32_t a, uint32_t b);
/* In the view, and matches the filter. */
bool search_visible(const struct search *s, uint32_t slot);

#endif
