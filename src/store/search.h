/*
 * search.h - searching one library: dense, lexical or both, over one view.
 *
 *   dense    the graph over what is linked and an exact scan of the tail that is not; or a scan of everything, or of the matches of a filter
 *   lexical  BM25
 *   hybrid   the best of both, fused
 *
 * Hybrid answers with what there is: by one side alone where the text has no term, or where there is no query vector, it is zero (a text without a
 * word that the model knows) or the library has no vectors yet. search_result.mode says which it was.
 *
 * Candidates: a side that is fused gives its best max(k, SEARCH_CANDIDATES_LEAST); candidates with equal distances or scores share their rank.
 *
 * search.c (the front: modes, filter, grouping), search_dense.c, search_lexical.c, search_fusion.c, search_diverse.c share search_internal.h.
 */
#ifndef QUIRE_STORE_SEARCH_H
#define QUIRE_STORE_SEARCH_H

#include "store/filter.h"
#include "store/reading.h"

#define SEARCH_CANDIDATES_LEAST 100
#define FUSION_DEFAULT_CONSTANT 60
#define FUSION_DEFAULT_WEIGHT 0.1F

enum search_mode { SEARCH_DENSE = 1, SEARCH_LEXICAL = 2, SEARCH_HYBRID = 3 };
enum fusion_method {
    FUSION_RECIPROCAL_RANK = 1, /* sum of 1 / (constant + rank) (Cormack, Clarke and Buettcher 2009) */
    FUSION_WEIGHTED = 2         /* weight * dense + (1 - weight) * lexical, each brought to 0..1 by its least and greatest candidate */
};

struct fusion {
    enum fusion_method method;
    uint32_t constant; /* of reciprocal ranks: 60 */
    float weight;      /* of the dense side, 0..1 */
};

struct search_request {
    enum search_mode mode;
    const float *query; /* dense, hybrid: unit length, view.dimension floats. lexical: NULL, or for the distances of the hits */
    struct slice text;  /* lexical, hybrid */
    bool prefix;        /* the last word of the text may go on */
    float k1, b;        /* of BM25 */
    uint32_t k;         /* results wanted, offset included */
    uint32_t ef;        /* 0: the library's */
    bool exact;         /* the dense side scans everything: the answer is provably that of float32 */
    bool has_threshold;
    float distance_threshold;    /* results beyond it are left out (those without a distance, too) */
    const struct filter *filter; /* NULL: all */
    struct fusion fusion;
    bool group_by_document; /* the best chunk of each document only */
    bool diverse;           /* maximal marginal relevance (Carbonell and Goldstein 1998): lambda * relevance - (1 - lambda) * likeness to those chosen */
    float lambda;
    bool explain; /* hits carry the score of the lexical side even where it did not rank them */
};

#define RANK_NONE 0
struct search_hit {
    uint32_t slot;
    float distance;      /* cosine distance, 0 to 2; NaN: none is known (lexical without a query vector, or a chunk without a vector) */
    float score;         /* what it is ordered by: dense 1 - distance, lexical BM25, hybrid the fused score */
    float lexical_score; /* BM25; 0 when it has none */
    uint32_t dense_rank; /* from 1 among the candidates of that side; RANK_NONE: not among them */
    uint32_t lexical_rank;
    float diversity; /* the measure of maximal marginal relevance that a diverse search is ordered by; else 0 */
};

struct search_result {
    struct search_hit *hits; /* room for request.k, the caller's; dense: ascending by (distance, chunk id), else descending by (score, then id); diverse: in the order of choice */
    uint32_t count;
    enum search_mode mode; /* that answered */
    uint64_t candidates; /* distances computed and postings scored */
    bool exact;          /* the answer is that of a full scan */
};

struct search_scratch; /* per process (thread): heaps, visit tags, analyzers, the filter cache */
struct search_scratch *search_scratch_new(uint64_t filter_cache_bytes);
void search_scratch_free(struct search_scratch *s);
/* filter_evaluate with the scratch's cache; *ret holds until the next evaluation. */
MUST_CHECK bool search_filter(const struct reading *rd, const struct filter *filter, struct search_scratch *scratch, struct slot_set *ret, struct status *st);

/* Never fewer than k hits where k chunks match (dense: chunks with a vector within the threshold; lexical: chunks with one of the terms). */
MUST_CHECK bool search_library(const struct reading *rd, const struct search_request *request, struct search_scratch *scratch,
                               struct search_result *result, struct status *st);
/* Many at once, over one reading. Those that scan share the pass over the data. */
MUST_CHECK bool search_library_batch(const struct reading *rd, const struct search_request *requests, size_t count, struct search_scratch *scratch,
                                     struct search_result *results, struct status *st);

#endif
