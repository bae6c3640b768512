/*
 * hnsw_search.c - algorithm 5: down the upper layers to the nearest node, then the nearest accepted nodes of layer 0, put in order with ever more exact distances:
 *
 *   coarse   4 bits: the walk
 *   fine     8 bits: the first of what the walk has met
 *   exact    float32: the first `rerank` of those
 */
#include "index/hnsw_internal.h"

#include <stdlib.h>

/* Coarse distances may put a neighbour so many times its rank too far behind. */
enum { FINE_SHARE = 2, EXACT_PREFETCH_BYTES = 64, POOL_SHARE = 5, POOL_LEAST = 64 };

/* The accepted entries of the pool, up to `most`, into scratch->found. */
static uint32_t collect(struct hnsw_scratch *s, uint32_t count, uint32_t most) {
    uint32_t n = 0;

    for (uint32_t i = 0; i < count && n < most; i++) {
        if ((s->pool[i].slot & MET_REJECTED) == 0) {
            s->found[n++] = (struct neighbor){s->pool[i].distance, s->pool[i].slot & MET_SLOT};
        }
    }
    return n;
}

static int by_distance(const void *a, const void *b) {
    const struct neighbor *x = a;
    const struct neighbor *y = b;
    return neighbor_before(*x, *y) ? -1 : neighbor_before(*y, *x);
}

/* Puts found[0..count) in the order of fine distances. */
static void refine(struct hnsw_walk *w, uint32_t count) {
    struct hnsw_scratch *s = w->scratch;

    for (uint32_t at = 0; at < count; at += MAX_LINKS) {
        uint32_t n = count - at < MAX_LINKS ? count - at : MAX_LINKS;
        for (uint32_t i = 0; i < n; i++) {
            s->batch[i] = s->found[at + i].slot;
        }
        hnsw_distances(w, &s->query, FINE, s->batch, n, s->batch_distance);
        for (uint32_t i = 0; i < n; i++) {
            s->found[at + i].distance = s->batch_distance[i];
        }
    }
    qsort(s->found, count, sizeof s->found[0], by_distance);
}

static void prefetch_rows(const struct hnsw_walk *w, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const char *row = (const char *)vector_row(w->rows, w->scratch->found[i].slot);
        for (size_t at = 0; at < w->dimension * sizeof(float); at += 4 * (size_t)EXACT_PREFETCH_BYTES) {
            __builtin_prefetch(row + at);
        }
    }
}

static void rerank(struct hnsw_walk *w, uint32_t count, const float *query) {
    struct hnsw_scratch *s = w->scratch;

    prefetch_rows(w, count);
    for (uint32_t i = 0; i < count; i++) {
        s->found[i].distance = cosine_distance(dot_product(query, vector_row(w->rows, s->found[i].slot), w->dimension));
    }
}

uint32_t hnsw_candidates(const struct hnsw_request *q) {
    uint32_t share = FINE_SHARE * (q->rerank > q->k ? q->rerank : q->k);

    return share > q->ef ? share : q->ef;
}

void hnsw_finish(struct hnsw_walk *w, const struct hnsw_request *q, uint32_t met, struct topk *best) {
    struct hnsw_scratch *s = w->scratch;
    uint32_t wanted = q->rerank > q->k ? q->rerank : q->k;
    uint32_t n;

    if (w->bits == 0) {
        n = collect(s, met, q->k);
    } else {
        n = collect(s, met, hnsw_candidates(q));
        if (code_planes(w->bits) > 1) {
            refine(w, n);
            n = n < wanted ? n : wanted;
        }
        if (q->rerank > 0) {
            rerank(w, n, q->query);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        struct neighbor c = s->found[i];
        c.distance = c.distance < 0.0F ? 0.0F : c.distance;
        topk_offer(best, c);
    }
}

/* A walk among few matches meets many nodes for each of them. */
static uint32_t pool_room(const struct hnsw_request *q, uint32_t ef) {
    uint64_t room = (uint64_t)POOL_SHARE * ef;

    if (q->matches != NULL) {
        uint64_t met = (uint64_t)POOL_SHARE * q->k * q->slots / (q->match_count + 1);
        room = met > room ? met : room;
    }
    room = room < POOL_LEAST ? POOL_LEAST : room;
    return room < q->slots ? (uint32_t)room : q->slots;
}

struct hnsw_reach hnsw_reach_of(const struct hnsw_graph *g, const struct hnsw_request *q) {
    uint32_t ef = q->ef > q->k ? q->ef : q->k;
    float spread = load_relaxed_f32(&g->head->spread);

    return (struct hnsw_reach){.k = q->k,
                               .ef = ef,
                               .pool = spread > 0.0F || q->matches != NULL ? pool_room(q, ef) : ef,
                               .spread = spread,
                               .below = q->below < q->slots ? q->below : q->slots,
                               .budget = q->budget != 0 ? q->budget : UINT64_MAX / 2,
                               .matches = q->matches,
                               .visible = q->visible};
}

/* The mean error of a coarse distance: that of each dimension is even over a step, and unit length averages them. The scales of the nodes are about that of the query. */
static float coarse_noise(const struct hnsw_walk *w) {
    static const float EVEN = 0.288675F; /* 1 / sqrt(12) */

    return w->bits == 0 ? 0.0F : EVEN * CODE_HIGH * w->scratch->query.code.scale;
}

uint64_t hnsw_search(const struct hnsw_graph *g, const struct vector_rows *rows, const struct hnsw_request *q,
                     struct hnsw_scratch *scratch, struct topk *best) {
    struct hnsw_walk walk = hnsw_walk_over(g, rows, q->slots, scratch);
    struct hnsw_reach reach = hnsw_reach_of(g, q);
    /* pairs with: HNSW_ENTRY. Without the acquire, the entry point's own lists could be read as empty. */
    uint64_t entry = load_acquire_u64(&g->head->entry);
    uint32_t candidates = hnsw_candidates(q);

    if (entry == HNSW_NO_ENTRY || (hnsw_entry_slot(entry) >= q->slots && !hnsw_entry_within(&walk, q->below, &entry))) {
        return 0;
    }
    if (!hnsw_scratch_reserve(&walk, reach.pool > candidates ? reach.pool : candidates)) {
        return UINT64_MAX;
    }
    hnsw_probe_vector(&walk, &scratch->query, q->query);
    reach.noise = coarse_noise(&walk);
    reach.finest = q->rerank > 0 ? EXACT : FINE;
    uint32_t at = hnsw_descend(&walk, hnsw_entry_slot(entry), hnsw_entry_level(entry), 0);
    uint32_t met = hnsw_search_layer(&walk, at, 0, &reach);
    if (!walk.spent) {
        hnsw_finish(&walk, q, met, best);
    }
    return walk.distances;
}
