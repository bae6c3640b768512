/*
 * search_internal.h - what the files of the search share. Only src/store/search*.c include it.
 */
#ifndef QUIRE_STORE_SEARCH_INTERNAL_H
#define QUIRE_STORE_SEARCH_INTERNAL_H

#include "index/lexical.h"
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
    bool nothing; /* that could answer: no term, no vectors, no match */
};

/* --- search_dense.c --- */

bool search_has_vector(const struct search *s, uint32_t slot); /* one of zeros, too */
struct dense_scratch;
struct dense_scratch *dense_scratch_new(void);
void dense_scratch_free(struct dense_scratch *s);
/* The `want` nearest visible chunks with a vector that match, ascending by (distance, chunk id), into out (room for want). */
MUST_CHECK bool search_dense(struct search *s, struct dense_scratch *scratch, uint32_t want, struct neighbor *out, uint32_t *ret_count, bool *ret_exact,
                             struct status *st);
/* Scans once for all dense, exact, unfiltered requests of a batch; search_dense then finds their answers in the scratch, until
 * dense_share_end. */
MUST_CHECK bool dense_share(const struct reading *rd, const struct search_request *requests, size_t count, struct dense_scratch *scratch,
                            struct status *st);
void dense_share_end(struct dense_scratch *scratch);
/* The distance of one slot; NaN when it has no vector. */
float search_distance(const struct search *s, uint32_t slot);

/* --- search_lexical.c --- */
struct lexical_side; /* analyzers by language, and memory to work in */
struct lexical_side *lexical_side_new(void);
void lexical_side_free(struct lexical_side *l); /* takes NULL */
/* Reads the request's text. *ret_asks: it has a term to look for. */
MUST_CHECK bool lexical_side_begin(struct search *s, struct lexical_side *l, bool *ret_asks, struct status *st);
/* The `want` best visible chunks that match, within the threshold, descending by score, equal ones in the order of their ids (ties_by_id: which of them are
 * among the best goes by id, too; else, and beyond LEXICAL_TIES_MAX equal ones, by slot). *ret: the side's own memory. */
MUST_CHECK bool search_lexical(struct search *s, struct lexical_side *l, uint32_t want, bool ties_by_id, const struct scored **ret, uint32_t *ret_count,
                               struct status *st);
/* BM25 of one slot for the text that was read last; 0: none of its terms. */
float search_lexical_score(const struct lexical_side *l, uint32_t slot);
/* What no chunk's BM25 for it reaches (lexical_ceiling); below 0: not known just now, because a commit is under way. */
float search_lexical_ceiling(const struct lexical_side *l);
#define LEXICAL_TIES_MAX 1024
/* The search is over; memory for scores beyond `keep` bytes is given back. */
void lexical_side_end(struct lexical_side *l, size_t keep);

/* --- search_fusion.c --- */
/* From slots or rows to numbers; emptied by each slot_map_reset. Zeroed: empty. */
struct slot_map {
    uint32_t *keys;
    uint32_t *values;
    size_t room; /* a power of two, at least twice the entries */
};
MUST_CHECK bool slot_map_reset(struct slot_map *m, size_t entries, struct status *st);
void slot_map_fini(struct slot_map *m);
/* The value of a key, which becomes `value` when it had none. ROW_NONE is no key. */
uint32_t slot_map_put(struct slot_map *m, uint32_t key, uint32_t value);

/* One hit for each slot that is a candidate of either side, with its ranks and its fused score, in no order. ceiling: search_lexical_ceiling. hits: room
 * for both counts. Returns how many. */
MUST_CHECK bool fuse_candidates(const struct fusion *f, const struct neighbor *nearest, uint32_t nearest_count, const struct scored *scored,
                                uint32_t scored_count, float ceiling, struct slot_map *map, struct search_hit *hits, uint32_t *ret_count,
                                struct status *st);

/* --- search_diverse.c --- */
/* Chooses `want` of the hits, which are in the order of their scores, and puts them first, in the order of choice. `work` is grown as needed. Returns how
 * many there are in *ret_count. */
MUST_CHECK bool diversify(const struct search *s, enum search_mode mode, struct search_hit *hits, uint32_t count, uint32_t want, struct buf *work,
                          uint32_t *ret_count, struct status *st);

/* --- search.c --- */
/* Orders by chunk id: how ties break. */
int search_compare_ids(const struct search *s, uint32_t a, uint32_t b);
/* In the view, and matches the filter. */
bool search_visible(const struct search *s, uint32_t slot);

#endif
