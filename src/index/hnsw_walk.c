/*
 * hnsw_walk.c - how a graph is walked: the scratch of a thread, the greedy descent, and algorithm 2 of the paper.
 *
 * A walk through one layer takes the nearest node whose links were not followed yet, gathers those of its links that were never
 * met, and computes their distances together: the rows are prefetched while they are gathered, and four at a time share the loads
 * of the query. No allocation per candidate: tags and results are reserved before, and the frontier doubles when it must.
 *
 * Tags are bytes that hold the number of the walk, so starting a walk costs nothing, and once in 255 walks a memset.
 */
#include "index/hnsw_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_LINE = 64, ROOM_FIRST = 1024 };
/* The begin of a row. The lines behind come by themselves once the CPU sees the row being read; asking for them all only takes
 * the places of other rows' first lines. */
enum { ROW_PREFETCH_LINES = 4 };

struct hnsw_scratch *hnsw_scratch_new(void) {
    return calloc(1, sizeof(struct hnsw_scratch));
}

void hnsw_scratch_free(struct hnsw_scratch *s) {
    if (s != NULL) {
        free(s->tags);
        free(s->frontier);
        free(s->found);
        free(s);
    }
}

static bool grow_neighbors(struct neighbor **array, size_t *room, size_t want) {
    struct neighbor *grown;
    size_t to = *room < ROOM_FIRST ? ROOM_FIRST : *room;

    if (want <= *room) {
        return true;
    }
    while (to < want) {
        to *= 2;
    }
    grown = realloc(*array, to * sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    *array = grown;
    *room = to;
    return true;
}

static bool grow_tags(struct hnsw_scratch *s, uint32_t slots) {
    uint8_t *grown;
    size_t to = s->tag_room < ROOM_FIRST ? ROOM_FIRST : s->tag_room;

    if (slots <= s->tag_room) {
        return true;
    }
    while (to < slots) {
        to += to / 2;
    }
    grown = realloc(s->tags, to);
    if (grown == NULL) {
        return false;
    }
    memset(grown + s->tag_room, 0, to - s->tag_room); /* 0 is no walk's number */
    s->tags = grown;
    s->tag_room = to;
    return true;
}

bool hnsw_scratch_reserve(struct hnsw_scratch *s, uint32_t slots, uint32_t ef) {
    return grow_tags(s, slots) && grow_neighbors(&s->found, &s->found_room, ef) &&
           grow_neighbors(&s->frontier, &s->frontier_room, ROOM_FIRST);
}

struct hnsw_walk hnsw_walk_over(const struct hnsw_graph *g, const struct vector_rows *rows, uint32_t slots,
                                struct hnsw_scratch *scratch) {
    return (struct hnsw_walk){.g = g,
                              .rows = rows,
                              .scratch = scratch,
                              .slots = slots,
                              .m = g->head->m,
                              .block_bytes = hnsw_base_block_bytes(g->head->m)};
}

/* --- distances -------------------------------------------------------------------------------------------------------- */

struct neighbor hnsw_measure(struct hnsw_walk *w, uint32_t slot) {
    w->distances++;
    return (struct neighbor){cosine_distance(dot_product(w->query, vector_row(w->rows, slot), w->rows->dimension)), slot};
}

void hnsw_distances(struct hnsw_walk *w, const float *from, const uint32_t *slots, uint32_t count, float *out) {
    for (uint32_t i = 0; i < count; i += DOT_ROWS) {
        const float *rows[DOT_ROWS];
        float dot[DOT_ROWS];
        for (uint32_t j = 0; j < DOT_ROWS; j++) {
            /* A last group that is not full repeats its last row, which is in the cache by then. */
            rows[j] = vector_row(w->rows, slots[i + j < count ? i + j : count - 1]);
        }
        dot_product_rows(from, rows, w->rows->dimension, dot);
        for (uint32_t j = 0; j < DOT_ROWS && i + j < count; j++) {
            out[i + j] = cosine_distance(dot[j]);
        }
    }
    w->distances += count;
}

static inline void prefetch_row(const struct hnsw_walk *w, uint32_t slot) {
    const char *row = (const char *)vector_row(w->rows, slot);

    for (int line = 0; line < ROW_PREFETCH_LINES; line++) {
        __builtin_prefetch(row + line * CACHE_LINE);
    }
}

static inline void prefetch_block(const struct hnsw_walk *w, uint32_t slot) {
    const char *block = (const char *)hnsw_block(w->g, w->block_bytes, slot);

    for (size_t at = 0; at < w->block_bytes; at += CACHE_LINE) {
        __builtin_prefetch(block + at);
    }
}

/* --- the frontier: a min-heap ----------------------------------------------------------------------------------------- */

static bool frontier_reserve(struct hnsw_scratch *s, size_t more) {
    return grow_neighbors(&s->frontier, &s->frontier_room, s->frontier_count + more);
}

static void frontier_push(struct hnsw_scratch *s, struct neighbor n) {
    size_t at = s->frontier_count++;

    while (at > 0 && neighbor_before(n, s->frontier[(at - 1) / 2])) {
        s->frontier[at] = s->frontier[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    s->frontier[at] = n;
}

static struct neighbor frontier_pop(struct hnsw_scratch *s) {
    struct neighbor *heap = s->frontier;
    struct neighbor nearest = heap[0];
    struct neighbor last = heap[--s->frontier_count];
    size_t count = s->frontier_count;
    size_t at = 0;

    for (size_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && neighbor_before(heap[child + 1], heap[child])) {
            child++;
        }
        if (!neighbor_before(heap[child], last)) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return nearest;
}

/* --- walking ---------------------------------------------------------------------------------------------------------- */

static void begin_layer(struct hnsw_scratch *s) {
    s->frontier_count = 0;
    if (++s->epoch == 0) {
        memset(s->tags, 0, s->tag_room);
        s->epoch = 1;
    }
}

bool hnsw_meet(struct hnsw_walk *w, uint32_t slot) {
    bool met = w->scratch->tags[slot] == w->scratch->epoch;

    w->scratch->tags[slot] = w->scratch->epoch;
    return met;
}

uint32_t hnsw_read_links(struct link_list list, uint32_t *out) {
    uint32_t n = 0;

    while (n < list.room) {
        /* pairs with: HNSW_LINK. Without the acquire, the own words of a node that was just linked could be read as they were
         * before it was, and the walk would end there. */
        uint32_t slot = load_acquire_u32(&list.words[n]);
        if (slot == HNSW_NONE) {
            break;
        }
        out[n++] = slot;
    }
    return n;
}

bool hnsw_entry_within(const struct hnsw_walk *w, uint32_t below, uint64_t *ret) {
    bool any = false;

    for (uint32_t slot = 0; slot < below && slot < w->slots; slot++) {
        uint32_t level = hnsw_block_level(w, slot);
        if (any && level <= hnsw_entry_level(*ret)) {
            continue;
        }
        if (load_acquire_u32(hnsw_links(w, slot, 0).words) != HNSW_NONE) { /* pairs with: HNSW_LINK */
            *ret = hnsw_entry_of(level, slot);
            any = true;
        }
    }
    return any;
}

/* The links of a node that can be followed, and with `unmet`, only those that this walk did not meet: into scratch->batch. */
static uint32_t gather(struct hnsw_walk *w, struct link_list list, bool unmet) {
    uint32_t *batch = w->scratch->batch;
    uint32_t all = hnsw_read_links(list, batch);
    uint32_t n = 0;

    for (uint32_t i = 0; i < all; i++) {
        uint32_t slot = batch[i];
        if (slot < w->slots && !(unmet && hnsw_meet(w, slot))) {
            prefetch_row(w, slot);
            batch[n++] = slot;
        }
    }
    return n;
}

struct neighbor hnsw_descend(struct hnsw_walk *w, struct neighbor at, uint32_t from, uint32_t to) {
    struct hnsw_scratch *s = w->scratch;

    for (uint32_t layer = from; layer > to; layer--) {
        uint32_t before;
        do {
            uint32_t n = gather(w, hnsw_links(w, at.slot, layer), false);
            before = at.slot;
            hnsw_distances(w, w->query, s->batch, n, s->batch_distance);
            for (uint32_t i = 0; i < n; i++) {
                struct neighbor next = {s->batch_distance[i], s->batch[i]};
                at = next.distance < at.distance ? next : at;
            }
        } while (at.slot != before);
    }
    return at;
}

static inline bool accepts(const struct hnsw_acceptance *a, uint32_t slot) {
    return slot < a->below && (a->filter == NULL || a->filter->accepts(a->filter->ctx, slot));
}

/* Algorithm 2, lines 9 to 17: what was gathered, into C and W. */
static void offer_batch(struct hnsw_walk *w, uint32_t n, const struct hnsw_acceptance *accept, struct topk *found) {
    struct hnsw_scratch *s = w->scratch;
    float bound = topk_bound(found);

    hnsw_distances(w, w->query, s->batch, n, s->batch_distance);
    for (uint32_t i = 0; i < n; i++) {
        struct neighbor met = {s->batch_distance[i], s->batch[i]};
        if (met.distance < bound) {
            frontier_push(s, met);
            if (accepts(accept, met.slot)) {
                topk_offer(found, met);
                bound = topk_bound(found);
            }
        }
    }
}

bool hnsw_search_layer(struct hnsw_walk *w, struct neighbor start, uint32_t layer, const struct hnsw_acceptance *accept,
                       struct topk *found) {
    struct hnsw_scratch *s = w->scratch;

    begin_layer(s);
    (void)hnsw_meet(w, start.slot);
    frontier_push(s, start);
    if (accepts(accept, start.slot)) {
        topk_offer(found, start);
    }
    while (s->frontier_count > 0) {
        struct neighbor nearest = frontier_pop(s);
        uint32_t n;
        if (nearest.distance > topk_bound(found)) {
            break; /* lines 5 to 8: nothing nearer can come. The bound is infinite until ef are found */
        }
        n = gather(w, hnsw_links(w, nearest.slot, layer), true);
        if (s->frontier_count > 0) {
            prefetch_block(w, s->frontier[0].slot);
        }
        if (!frontier_reserve(s, n)) {
            return false;
        }
        offer_batch(w, n, accept, found);
    }
    return true;
}
