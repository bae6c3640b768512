/*
 * search.c - the front of the search: what is asked of which side, and what becomes of the candidates.
 *
 *   1. the filter becomes a set of slots, once
 *   2. mode: what was asked for, as far as there is something to go by
 *   3. candidates of each side, best first; hybrid: fused. Where results are to be grouped and too few documents are among the candidates, again with
 *      GROUP_DEEPER times as many, until there are k or nothing is left
 *   4. order: by score, equal ones by chunk id; then one chunk of each document; then diversity
 *   5. what a hit lacks: its distance where the lexical side found it
 *
 * So that no id is decoded for nothing, candidates are sorted by score first, and only runs of equal scores among the first k are put in the
 * order of ids.
 */
#include "store/search_internal.h"

#include "shm/atomics.h"
#include "store/reading_internal.h"

#include <math.h>
#include <stdlib.h>

#define GROUP_DEPTH 4         /* candidates looked for at first for each document wanted */
#define GROUP_DEEPER 4        /* and so many times as many whenever that was too few */
#define KEPT_BYTES (4u << 20) /* more than that is given back after a search */
#define DIVERSE_DEPTH 2       /* candidates for each result of a diverse search */

struct search_scratch {
    struct dense_scratch *dense;
    struct lexical_side *lexical;
    struct filter_cache *filters;
    struct neighbor *nearest; /* candidates of the dense side */
    size_t nearest_room;
    struct search_hit *hits; /* candidates, fused */
    size_t hits_room;
    struct slot_map map;
    struct buf work;
};

struct search_scratch *search_scratch_new(uint64_t filter_cache_bytes) {
    struct search_scratch *s = (struct search_scratch *)calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    buf_init(&s->work);
    s->dense = dense_scratch_new();
    s->lexical = lexical_side_new();
    s->filters = filter_cache_new(filter_cache_bytes);
    if (s->dense == NULL || s->lexical == NULL || s->filters == NULL) {
        search_scratch_free(s);
        return NULL;
    }
    return s;
}

void search_scratch_free(struct search_scratch *s) {
    if (s == NULL) {
        return;
    }
    dense_scratch_free(s->dense);
    lexical_side_free(s->lexical);
    filter_cache_free(s->filters);
    free(s->nearest);
    free(s->hits);
    slot_map_fini(&s->map);
    buf_fini(&s->work);
    free(s);
}

/* --- what the sides ask --- */

bool search_visible(const struct search *s, uint32_t slot) {
    const struct chunk_row *c = &s->chunks[slot];
    if (s->matches != NULL && !slot_set_has(s->matches, slot)) {
        return false;
    }
    /* pairs with: CHUNK_DELETED */
    return lsn_alive(c->created_lsn, load_acquire_u64(&c->deleted_lsn), s->rd->view.lsn);
}

static struct slice chunk_id(const struct search *s, uint32_t slot) {
    const struct chunk_row *c = &s->chunks[slot];
    struct op_chunk fields;
    return op_chunk_decode(arena_record(s->rd->arena, c->record, c->record_length), &fields) ? fields.id : slice_of(NULL, 0);
}

int search_compare_ids(const struct search *s, uint32_t a, uint32_t b) {
    int order = item_id_compare(chunk_id(s, a), chunk_id(s, b));
    return order != 0 ? order : (a > b) - (a < b);
}

/* --- candidates --- */

bool search_filter(const struct reading *rd, const struct filter *filter, struct search_scratch *scratch, struct slot_set *ret, struct status *st) {
    return filter_evaluate(scratch->filters, rd, filter, ret, st);
}

/* What step 3 found: scratch->hits[0, count), best first as far as `ordered` says. */
struct candidates {
    uint32_t count;
    bool more; /* a deeper search may find more */
    bool exact;
};

static bool candidate_room(struct search_scratch *s, size_t nearest, size_t hits, struct status *st) {
    if (nearest > s->nearest_room) {
        struct neighbor *more = (struct neighbor *)realloc(s->nearest, nearest * sizeof *more);
        if (more == NULL) {
            return status_no_memory(st);
        }
        s->nearest = more;
        s->nearest_room = nearest;
    }
    if (hits > s->hits_room) {
        struct search_hit *more = (struct search_hit *)realloc(s->hits, hits * sizeof *more);
        if (more == NULL) {
            return status_no_memory(st);
        }
        s->hits = more;
        s->hits_room = hits;
    }
    return true;
}

/* Deep searches (groups behind a crowd) may have taken much. */
static void give_back(struct search_scratch *s) {
    if (s->nearest_room * sizeof s->nearest[0] > KEPT_BYTES) {
        free(s->nearest);
        s->nearest = NULL;
        s->nearest_room = 0;
    }
    if (s->hits_room * sizeof s->hits[0] > KEPT_BYTES) {
        free(s->hits);
        s->hits = NULL;
        s->hits_room = 0;
    }
    if (s->map.room * sizeof s->map.keys[0] > KEPT_BYTES) {
        slot_map_fini(&s->map);
    }
    if (s->work.cap > KEPT_BYTES) {
        buf_fini(&s->work);
        buf_init(&s->work);
    }
    lexical_side_end(s->lexical, KEPT_BYTES);
}

/* The nearest within the threshold, in scratch->nearest. */
static bool gather_nearest(struct search *s, uint32_t depth, uint32_t *ret_count, struct candidates *c, struct status *st) {
    const struct search_request *r = s->request;
    const struct neighbor *nearest = s->scratch->nearest;
    uint32_t found = 0;
    if (!search_dense(s, s->scratch->dense, depth, s->scratch->nearest, &found, &c->exact, st)) {
        return false;
    }
    uint32_t within = found;
    while (r->has_threshold && within > 0 && nearest[within - 1].distance > r->distance_threshold) {
        within--;
    }
    c->more = c->more || (found == depth && within == found);
    *ret_count = within;
    return true;
}

static bool gather_dense(struct search *s, uint32_t depth, struct candidates *c, struct status *st) {
    const struct neighbor *nearest = s->scratch->nearest;
    struct search_hit *hits = s->scratch->hits;
    if (!gather_nearest(s, depth, &c->count, c, st)) {
        return false;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        bool equal = i > 0 && nearest[i].distance == nearest[i - 1].distance;
        hits[i] = (struct search_hit){.slot = nearest[i].slot,
                                      .distance = nearest[i].distance,
                                      .score = 1.0F - nearest[i].distance,
                                      .dense_rank = equal ? hits[i - 1].dense_rank : i + 1};
    }
    return true;
}

static bool gather_lexical(struct search *s, uint32_t depth, struct candidates *c, struct status *st) {
    const struct scored *scored = NULL;
    struct search_hit *hits = s->scratch->hits;
    if (!search_lexical(s, s->scratch->lexical, depth, true, &scored, &c->count, st)) {
        return false;
    }
    c->more = c->count == depth;
    for (uint32_t i = 0; i < c->count; i++) {
        bool equal = i > 0 && scored[i].score == scored[i - 1].score;
        hits[i] = (struct search_hit){.slot = scored[i].slot,
                                      .distance = NAN,
                                      .score = scored[i].score,
                                      .lexical_score = scored[i].score,
                                      .lexical_rank = equal ? hits[i - 1].lexical_rank : i + 1};
    }
    return true;
}

static int compare_hits(const void *a, const void *b) {
    const struct search_hit *left = (const struct search_hit *)a;
    const struct search_hit *right = (const struct search_hit *)b;
    if (left->score != right->score) {
        return left->score > right->score ? -1 : 1;
    }
    return (left->slot > right->slot) - (left->slot < right->slot);
}

static int compare_hits_by_id(const void *a, const void *b, void *ctx) {
    return search_compare_ids((const struct search *)ctx, ((const struct search_hit *)a)->slot,
                              ((const struct search_hit *)b)->slot);
}

/* Sorts by score, and by id those of equal scores that may be among the first `want`. */
static void order_hits(struct search *s, struct search_hit *hits, uint32_t count, uint32_t want) {
    qsort(hits, count, sizeof hits[0], compare_hits);
    for (uint32_t begin = 0, end = 0; begin < count && begin < want; begin = end) {
        for (end = begin + 1; end < count && hits[end].score == hits[begin].score; end++) {
        }
        if (end - begin > 1) {
            qsort_r(&hits[begin], end - begin, sizeof hits[0], compare_hits_by_id, s);
        }
    }
}

/* What has no vector yet can be no candidate of the dense side, which says nothing of it: the words count for both sides. */
static void let_words_speak(const struct search *s, struct search_hit *hits, uint32_t count) {
    const struct fusion *f = &s->request->fusion;
    float words_share = f->method == FUSION_WEIGHTED ? 1.0F - f->weight : 0.5F;
    for (uint32_t i = 0; i < count && words_share > 0; i++) {
        if (hits[i].dense_rank == RANK_NONE && !search_has_vector(s, hits[i].slot)) {
            hits[i].score /= words_share;
        }
    }
}

static bool gather_hybrid(struct search *s, uint32_t depth, uint32_t want, struct candidates *c, struct status *st) {
    struct search_scratch *scratch = s->scratch;
    const struct scored *scored = NULL;
    uint32_t scored_count = 0;
    uint32_t nearest_count = 0;
    if (!search_lexical(s, scratch->lexical, depth, false, &scored, &scored_count, st) ||
        !gather_nearest(s, depth, &nearest_count, c, st) ||
        !fuse_candidates(&s->request->fusion, scratch->nearest, nearest_count, scored, scored_count, search_lexical_ceiling(scratch->lexical),
                         &scratch->map, scratch->hits, &c->count, st)) {
        return false;
    }
    let_words_speak(s, scratch->hits, c->count);
    c->more = c->more || scored_count == depth;
    order_hits(s, scratch->hits, c->count, want);
    return true;
}

static bool gather(struct search *s, enum search_mode mode, uint32_t depth, uint32_t want, struct candidates *c,
                   struct status *st) {
    *c = (struct candidates){.exact = true};
    if (!candidate_room(s->scratch, mode == SEARCH_LEXICAL ? 0 : depth, mode == SEARCH_HYBRID ? 2 * (size_t)depth : depth, st)) {
        return false;
    }
    bool good = false;
    switch (mode) {
    case SEARCH_DENSE:
        good = gather_dense(s, depth, c, st);
        break;
    case SEARCH_LEXICAL:
        good = gather_lexical(s, depth, c, st);
        break;
    case SEARCH_HYBRID:
        good = gather_hybrid(s, depth, want, c, st);
        break;
    }
    c->more = c->more && depth < s->rd->view.live_chunks;
    return good;
}

/* --- from candidates to hits --- */

/* Keeps the first hit of each document, up to `want` of them. */
static bool group(struct search *s, uint32_t want, uint32_t *count, struct status *st) {
    struct search_hit *hits = s->scratch->hits;
    uint32_t kept = 0;
    if (!slot_map_reset(&s->scratch->map, *count, st)) {
        return false;
    }
    for (uint32_t i = 0; i < *count && kept < want; i++) {
        if (slot_map_put(&s->scratch->map, s->chunks[hits[i].slot].document, i) == i) {
            hits[kept++] = hits[i];
        }
    }
    *count = kept;
    return true;
}

static uint32_t at_most(uint64_t value, uint64_t most) {
    return (uint32_t)(value < most ? value : most);
}

/* Candidates, grouped: up to `want`, at least k where there are so many. */
static bool collect(struct search *s, enum search_mode mode, uint32_t want, struct candidates *c, struct status *st) {
    const struct search_request *r = s->request;
    uint64_t live = s->rd->view.live_chunks;
    uint64_t depth = want;
    if (mode == SEARCH_HYBRID || r->group_by_document || r->diverse) {
        /* in steps, so that the pages of one search are mostly cut from the same candidates: fused scores depend on them */
        uint64_t least = r->group_by_document ? depth * GROUP_DEPTH : depth;
        depth = SEARCH_CANDIDATES_LEAST;
        while (depth < least) {
            depth *= GROUP_DEEPER;
        }
    }
    for (;;) {
        /* grouped: whatever is among the candidates may be among the results */
        if (!gather(s, mode, at_most(depth, live), r->group_by_document ? UINT32_MAX : want, c, st)) {
            return false;
        }
        if (!r->group_by_document) {
            return true;
        }
        if (!group(s, want, &c->count, st)) {
            return false;
        }
        if (c->count >= r->k || !c->more) {
            return true;
        }
        depth *= GROUP_DEEPER;
    }
}

static void copy_hits(struct search *s, uint32_t count, enum search_mode mode, struct search_result *result) {
    const struct search_request *r = s->request;
    for (uint32_t i = 0; i < count && i < r->k; i++) {
        struct search_hit *hit = &result->hits[i];
        *hit = s->scratch->hits[i];
        if (hit->dense_rank == RANK_NONE) {
            hit->distance = search_distance(s, hit->slot);
        }
        if (r->explain && mode == SEARCH_HYBRID && hit->lexical_rank == RANK_NONE) {
            hit->lexical_score = search_lexical_score(s->scratch->lexical, hit->slot);
        }
        result->count++;
    }
}

static bool is_zero(const float *vector, uint32_t dimension) {
    for (uint32_t i = 0; i < dimension; i++) {
        if (vector[i] != 0) {
            return false;
        }
    }
    return true;
}

/* What the request can be answered by. */
static bool choose_mode(struct search *s, enum search_mode *ret, struct status *st) {
    const struct search_request *r = s->request;
    bool asks = false;
    *ret = r->mode;
    if (r->mode != SEARCH_DENSE && !lexical_side_begin(s, s->scratch->lexical, &asks, st)) {
        return false;
    }
    if (r->mode == SEARCH_HYBRID) {
        bool near = r->query != NULL && s->rd->view.dimension != 0 && !is_zero(r->query, s->rd->view.dimension);
        *ret = near && asks ? SEARCH_HYBRID : (near ? SEARCH_DENSE : SEARCH_LEXICAL);
    }
    s->nothing = *ret == SEARCH_LEXICAL ? !asks : s->rd->view.dimension == 0;
    return true;
}

/* The filter's matches, into s->matches. */
static bool apply_filter(struct search *s, struct slot_set *matches, struct status *st) {
    const struct search_request *r = s->request;
    if (r->filter == NULL || s->nothing) {
        return true;
    }
    if (!filter_evaluate(s->scratch->filters, s->rd, r->filter, matches, st)) {
        return false;
    }
    s->matches = matches;
    s->nothing = matches->count == 0;
    return true;
}

static bool answer(struct search *s, struct search_result *result, struct status *st) {
    const struct search_request *r = s->request;
    struct search_scratch *scratch = s->scratch;
    struct candidates c;
    uint64_t want = r->k;
    if (r->diverse) {
        want = want * DIVERSE_DEPTH > SEARCH_CANDIDATES_LEAST ? want * DIVERSE_DEPTH : SEARCH_CANDIDATES_LEAST;
    }
    if (!collect(s, result->mode, at_most(want, UINT32_MAX), &c, st) ||
        (r->diverse && !diversify(s, result->mode, scratch->hits, c.count, r->k, &scratch->work, &c.count, st))) {
        return false;
    }
    copy_hits(s, c.count, result->mode, result);
    result->candidates = s->candidates;
    result->exact = c.exact;
    return true;
}

bool search_library(const struct reading *rd, const struct search_request *request, struct search_scratch *scratch,
                    struct search_result *result, struct status *st) {
    struct search s = {.rd = rd, .request = request, .scratch = scratch};
    struct slot_set matches;
    result->count = 0;
    result->candidates = 0;
    result->exact = true;
    result->mode = request->mode;
    if (rd->view.live_chunks == 0 || request->k == 0) {
        return true;
    }
    s.chunks = arena_chunk(rd->arena, 0);
    if (!choose_mode(&s, &result->mode, st) || !apply_filter(&s, &matches, st)) {
        return false;
    }
    bool good = s.nothing || answer(&s, result, st);
    give_back(scratch);
    return good;
}

bool search_library_batch(const struct reading *rd, const struct search_request *requests, size_t count,
                          struct search_scratch *scratch, struct search_result *results, struct status *st) {
    bool good = dense_share(rd, requests, count, scratch->dense, st);
    for (size_t i = 0; i < count && good; i++) {
        good = search_library(rd, &requests[i], scratch, &results[i], st);
    }
    dense_share_end(scratch->dense);
    return good;
}
