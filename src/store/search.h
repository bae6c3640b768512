/*
 * search.h - the dense search of one library: the graph over what is linked, an exact scan of the tail that is not, both over one view.
 * (Lexical and hybrid modes, filters and codes will stand beside it, behind the same request and result.)
 */
#ifndef QUIRE_STORE_SEARCH_H
#define QUIRE_STORE_SEARCH_H

#include "store/reading.h"

struct search_request {
    const float *query; /* unit length, view.dimension floats */
    uint32_t k;         /* results wanted, offset included */
    uint32_t ef;        /* 0: the library's */
    bool exact;         /* scan everything */
    bool has_threshold;
    float distance_threshold; /* results beyond it are left out */
};

struct search_hit {
    uint32_t slot;
    float distance; /* cosine distance, 0 to 2 */
};

struct search_result {
    struct search_hit *hits; /* room for request.k, the caller's; ascending by (distance, chunk id) */
    uint32_t count;
    uint64_t candidates;     /* distances computed */
    bool exact;              /* the answer is that of a full scan */
};

struct search_scratch; /* per process (thread): heaps, visit tags */
struct search_scratch *search_scratch_new(void);
void search_scratch_free(struct search_scratch *s);

/* Never fewer than k hits where k chunks with a vector are in the view (and within the threshold). */
MUST_CHECK bool search_dense(const struct reading *rd, const struct search_request *request, struct search_scratch *scratch,
                             struct search_result *result, struct status *st);

#endif
