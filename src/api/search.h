/* search.h - a search as this layer reads it. */
#ifndef QUIRE_API_SEARCH_H
#define QUIRE_API_SEARCH_H

#include "api/json_in.h"
#include "store/search.h"

/* What is looked for by default, and how the two sides are fused: as known items are found best (bench/hybrid). With the built-in model, which knows less than the
 * words do, reciprocal ranks do worse than words alone, and a small share of the vectors does better. */
#define SEARCH_MODE_FOR_TEXT SEARCH_HYBRID
#define SEARCH_MODE_FOR_VECTOR SEARCH_DENSE
#define SEARCH_FUSION_DEFAULT FUSION_WEIGHTED
#define SEARCH_FUSION_BY_MODEL (-1.0F) /* a weight that was not given: the model's own, or FUSION_DEFAULT_WEIGHT where there is no model */

/* Which names a search comes under. */
enum search_shape { SEARCH_FULL, SEARCH_BY_EMBEDDING, SEARCH_FILTERED, SEARCH_LIBRARIES };

struct search_input {
    struct search_request request; /* all but `query`, the vector; k with the offset */
    float *vector;                 /* the caller's, unit length; NULL: none */
    uint32_t dimension;            /* of vector */
    uint32_t offset;
    bool include_embeddings;
};

/* False: refused outright. Problems are collected. *ret_libraries: the member "libraries", or NULL. */
MUST_CHECK bool search_read(struct exchange *x, const struct place *at, struct json_object *object, enum search_shape shape,
                            struct search_input *in, struct json_object **ret_libraries, struct status *st);

/* Waits until what the search's min_lsn names is visible. STATUS_NOT_READY at the deadline. */
MUST_CHECK bool search_await(struct exchange *x, struct status *st);

/* filter_read.c: a tree of conditions, and the flat list whose conditions must all hold. *ret in the pool; NULL: all match. Problems are collected; false: no
 * memory. */
MUST_CHECK bool filter_read(struct exchange *x, const struct place *at, struct json_object *v, const struct filter **ret,
                            struct status *st);
MUST_CHECK bool filter_read_list(struct exchange *x, const struct place *at, struct json_object *v, const struct filter **ret,
                                 struct status *st);

#endif
