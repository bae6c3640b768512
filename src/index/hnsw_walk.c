/*
 * hnsw_walk.c - how a graph is walked: the scratch of a thread, the greedy descent, and algorithm 2 of the paper in a form that suits a machine
 * on which memory traffic and branches are what costs.
 *
 * One pool, ascending by distance, stands for the paper's two heaps: its first entry whose links were not followed is the next to follow, and its
 * begin are the results. Most met nodes are turned away by one comparison; those that are not move a few entries of eight bytes.
 *
 * When to stop. The paper follows the ef nearest, for every query alike. Here a walk goes on while the next node is nearer than
 *
 *      d_k * (ef / k) ^ spread
 *
 * (and a little farther, by what rounding may have added to distances of codes), d_k being the distance of the k-th result so far: that is where the ef-th neighbour is expected, when distances grow with ranks as they do
 * around the graph's nodes (hnsw_head.spread, which insertions measure). So ef keeps its meaning on the average, but a query among many
 * near neighbours follows more of them and one in the open fewer, which costs less for the same recall (the rule is that of
 * Al-Jazzazi et al. 2025, "Distance Adaptive Beam Search"; tying it to ef by the intrinsic dimension is ours). Where rejected nodes (a filter, deletions) lie among the
 * results, the k-th accepted one has a higher rank r in the pool than k; the factor is then that of ef * (r / k)^REJECTED_SHARE over r, at least OVERSHOOT; among deleted nodes, which are never so
 * many, that of ef for the nodes that are left.
 *
 * Tags are bytes that hold the number of the walk, so starting a walk costs nothing, and once in 255 walks a memset. No allocation but in
 * hnsw_scratch_reserve.
 */
#include "index/hnsw_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_LINE = 64, ROOM_FIRST = 1024 };
/* The begin of a row. The lines behind come by themselves once the CPU sees the row being read; asking for them all only takes
 * the places of other rows' first lines. */
enum { ROW_PREFETCH_LINES = 4 };
static const float OVERSHOOT = 1.5F;
static const float REJECTED_SHARE = 0.55F;
/* Distances that are fewer times their errors are measured more finely. */
static const float NOISE_RATIO = 6.0F;
/* How many nodes lie within a distance varies from query to query, most of all in clusters, so the whole spread would follow more than ef nodes on the average. With this
 * share ef 64 finds 0.95 of the ten nearest among uniformly random vectors of 24 dimensions, and more where there is structure. */
static const float SPREAD_SHARE = 0.7F;

/* --- scratch ---------------------------------------------------------------------------------------------------------- */

struct hnsw_scratch *hnsw_scratch_new(void) {
    return calloc(1, sizeof(struct hnsw_scratch));
}

void hnsw_scratch_free(struct hnsw_scratch *s) {
    if (s != NULL) {
        free(s->tags);
        free(s->pool);
        free(s->found);
        free(s->values);
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

static bool grow_values(struct hnsw_walk *w) {
    struct hnsw_scratch *s = w->scratch;
    size_t each = 2 * (size_t)w->plane_bytes;

    if (w->bits != 0 && each > s->values_room) {
        int8_t *grown = aligned_alloc(CACHE_LINE, 2 * each);
        if (grown == NULL) {
            return false;
        }
        free(s->values);
        s->values = grown;
        s->values_room = each;
    }
    s->query.code.values = s->values;
    s->node.code.values = s->values + s->values_room;
    return true;
}

bool hnsw_scratch_reserve(struct hnsw_walk *w, size_t pool) {
    struct hnsw_scratch *s = w->scratch;

    return grow_tags(s, w->slots) && grow_neighbors(&s->pool, &s->pool_room, pool + 1) &&
           grow_neighbors(&s->found, &s->found_room, pool + 1) && grow_values(w);
}

struct hnsw_walk hnsw_walk_over(const struct hnsw_graph *g, const struct vector_rows *rows, uint32_t slots,
                                struct hnsw_scratch *scratch) {
    const struct hnsw_head *head = g->head;

    return (struct hnsw_walk){.g = g,
                              .rows = rows,
                              .scratch = scratch,
                              .slots = slots,
                              .m = head->m,
                              .bits = head->bits,
                              .dimension = head->dimension,
                              .plane_bytes = code_plane_bytes(head->dimension),
                              .words_at = code_bytes(head->dimension, head->bits),
                              .block_bytes = head->block_bytes};
}

/* --- distances -------------------------------------------------------------------------------------------------------- */

void hnsw_probe_vector(struct hnsw_walk *w, struct hnsw_probe *p, const float *vector) {
    p->vector = vector;
    if (w->bits != 0) {
        code_query_of_vector(vector, w->dimension, &p->code);
    }
}

static inline float scale_of(const struct hnsw_walk *w, uint32_t slot) {
    float scale;

    memcpy(&scale, &hnsw_words(w, slot)[WORD_SCALE], sizeof scale);
    return scale;
}

void hnsw_probe_node(struct hnsw_walk *w, struct hnsw_probe *p, uint32_t slot) {
    if (w->bits != 0) {
        code_query_of_code(hnsw_block(w, slot), scale_of(w, slot), w->dimension, w->bits, &p->code);
    } else {
        p->vector = vector_row(w->rows, slot);
    }
}

static void distances_by_rows(struct hnsw_walk *w, const float *from, const uint32_t *slots, uint32_t count, float *out) {
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
}

static void distances_by_codes(struct hnsw_walk *w, const struct code_query *from, bool fine, const uint32_t *slots,
                               uint32_t count, float *out) {
    const uint8_t *planes[MAX_LINKS] = {NULL};
    int32_t high[MAX_LINKS];
    int32_t low[MAX_LINKS];
    uint32_t beside = (uint32_t)w->words_at;

    for (uint32_t i = 0; i < count; i++) {
        planes[i] = hnsw_block(w, slots[i]);
    }
    code_dots(from->values, planes, count, w->plane_bytes, beside, high);
    if (!fine) {
        for (uint32_t i = 0; i < count; i++) {
            out[i] = code_distance_coarse(from, scale_of(w, slots[i]), high[i]);
        }
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        planes[i] += w->plane_bytes;
    }
    code_dots(from->values, planes, count, w->plane_bytes, 0, low);
    for (uint32_t i = 0; i < count; i++) {
        out[i] = code_distance_fine(from, scale_of(w, slots[i]), high[i], low[i]);
    }
}

void hnsw_distances(struct hnsw_walk *w, const struct hnsw_probe *from, enum hnsw_precision precision, const uint32_t *slots,
                    uint32_t count, float *out) {
    if (count == 0) {
        return;
    }
    w->distances += count;
    if (w->bits == 0 || precision == EXACT) {
        distances_by_rows(w, from->vector, slots, count, out);
    } else {
        distances_by_codes(w, &from->code, precision == FINE && code_planes(w->bits) > 1, slots, count, out);
    }
}

struct neighbor hnsw_measure(struct hnsw_walk *w, uint32_t slot) {
    struct neighbor n = {.slot = slot};

    hnsw_distances(w, &w->scratch->query, FINE, &slot, 1, &n.distance);
    return n;
}

/* --- steps ------------------------------------------------------------------------------------------------------------ */

static void begin_layer(struct hnsw_scratch *s) {
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
        uint32_t level = hnsw_level_of(slot, w->m);
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

static inline void prefetch_row(const struct hnsw_walk *w, uint32_t slot) {
    const char *row = (const char *)vector_row(w->rows, slot);

    for (int line = 0; line < ROW_PREFETCH_LINES; line++) {
        __builtin_prefetch(row + line * CACHE_LINE);
    }
}

/* The links of a node that can be followed and that this walk did not meet: into scratch->batch. */
static uint32_t gather(struct hnsw_walk *w, struct link_list list) {
    struct hnsw_scratch *s = w->scratch;
    uint32_t n = 0;

    for (uint32_t i = 0; i < list.room; i++) {
        uint32_t slot = load_acquire_u32(&list.words[i]); /* pairs with: HNSW_LINK */
        if (slot >= w->slots) {
            if (slot == HNSW_NONE) {
                break;
            }
            continue;
        }
        s->batch[n] = slot;
        n += s->tags[slot] != s->epoch;
        s->tags[slot] = s->epoch;
    }
    if (w->bits == 0) {
        for (uint32_t i = 0; i < n; i++) {
            prefetch_row(w, s->batch[i]);
        }
    }
    return n;
}

uint32_t hnsw_descend(struct hnsw_walk *w, uint32_t at, uint32_t from, uint32_t to) {
    struct hnsw_scratch *s = w->scratch;
    float nearest;

    /* What was met at a layer and not gone to is no nearer at the next: one number for the whole way down. */
    begin_layer(s);
    hnsw_distances(w, &s->query, COARSE, &at, 1, &nearest);
    for (uint32_t layer = from; layer > to; layer--) {
        uint32_t before;
        do {
            uint32_t n = gather(w, hnsw_links(w, at, layer));
            before = at;
            hnsw_distances(w, &s->query, COARSE, s->batch, n, s->batch_distance);
            for (uint32_t i = 0; i < n; i++) {
                if (s->batch_distance[i] < nearest) {
                    nearest = s->batch_distance[i];
                    at = s->batch[i];
                }
            }
        } while (at != before);
    }
    return at;
}

/* --- algorithm 2 ------------------------------------------------------------------------------------------------------ */

bool hnsw_accepts(const struct hnsw_walk *w, const struct hnsw_reach *r, uint32_t slot) {
    if (slot >= r->below || (r->matches != NULL && (r->matches[slot / 64] >> (slot % 64) & 1) == 0)) {
        return false;
    }
    /* The hint was set before the deletion was published, and the publication came before this view; so an unset one is right. */
    const uint32_t *words = hnsw_words(w, slot);
    bool ask = (load_relaxed_u32(&words[WORD_UPPER]) & UPPER_DEAD) != 0 || load_relaxed_u32(&words[WORD_SCALE]) == 0;
    return !ask || r->visible.accepts == NULL || r->visible.accepts(r->visible.ctx, slot);
}

/* Without codes a zero vector shows in its distance. */
static bool accepts_at(const struct hnsw_walk *w, const struct hnsw_reach *r, struct neighbor met) {
    bool may_be_zero = w->bits == 0 && met.distance == 1.0F;
    return hnsw_accepts(w, r, met.slot) && (!may_be_zero || r->visible.accepts == NULL || r->visible.accepts(r->visible.ctx, met.slot));
}

/* Those of a batch that are near enough, ascending, with their marks, into batch[0..returned). */
static uint32_t take_near(struct hnsw_walk *w, struct hnsw_pool *p, uint32_t n, struct neighbor *near) {
    const struct hnsw_scratch *s = w->scratch;
    uint32_t count = 0;

    for (uint32_t i = 0; i < n; i++) {
        struct neighbor met = {s->batch_distance[i], s->batch[i]};
        if (!(met.distance < p->limit)) {
            continue; /* NaN, of a damaged scale, among them */
        }
        if (!accepts_at(w, p->reach, met)) {
            met.slot |= MET_REJECTED;
            p->rejected++;
        }
        uint32_t at = count++;
        for (; at > 0 && near[at - 1].distance > met.distance; at--) {
            near[at] = near[at - 1];
        }
        near[at] = met;
    }
    return count;
}

/* Drops the last entries until `more` fit in, those of the new ones first that are farther. Returns how many new ones are left. */
static uint32_t make_room(struct hnsw_pool *p, const struct neighbor *near, uint32_t more) {
    while (p->count + more > p->room) {
        bool drop_new = p->count == 0 || near[more - 1].distance >= p->entries[p->count - 1].distance;
        const struct neighbor *last = drop_new ? &near[more - 1] : &p->entries[p->count - 1];
        p->rejected -= (last->slot & MET_REJECTED) != 0 ? 1 : 0;
        if (drop_new) {
            more--;
        } else {
            p->count--;
        }
    }
    return more;
}

/* One pass from the end, however many come in. */
static void merge(struct hnsw_pool *p, const struct neighbor *near, uint32_t more) {
    struct neighbor *e = p->entries;
    uint32_t from = p->count;
    uint32_t to = p->count + more;

    p->count = to;
    while (more > 0) {
        if (from > 0 && e[from - 1].distance > near[more - 1].distance) {
            e[--to] = e[--from];
        } else {
            e[--to] = near[--more];
        }
    }
    p->next = to < p->next ? to : p->next;
}

/* Where the k-th accepted entry stands; p->count: there are fewer. */
static uint32_t kth_accepted(const struct hnsw_pool *p) {
    uint32_t k = p->reach->k;
    uint32_t found = 0;

    if (p->rejected == 0 || p->count < k) {
        return k <= p->count ? k - 1 : p->count;
    }
    for (uint32_t at = 0; at < p->count; at++) {
        found += (p->entries[at].slot & MET_REJECTED) == 0 ? 1 : 0;
        if (found == k) {
            return at;
        }
    }
    return p->count;
}

/* What is beyond the limit will not be followed. */
static void drop_beyond(struct hnsw_pool *p, uint32_t kth) {
    while (p->count > kth + 1 && p->entries[p->count - 1].distance > p->limit) {
        p->count--;
        p->rejected -= (p->entries[p->count].slot & MET_REJECTED) != 0 ? 1 : 0;
    }
}

/* Where distances are as small as their errors, as among near copies, the order of a coarse walk is chance. So it is measured anew, and onward, more finely. */
static void sharpen(struct hnsw_walk *w, struct hnsw_pool *p) {
    struct neighbor *e = p->entries;

    p->precision = p->precision == COARSE && code_planes(w->bits) > 1 ? FINE : EXACT;
    p->noise = p->precision == FINE ? p->noise / CODE_HIGH : 0.0F;
    for (uint32_t at = 0; at < p->count; at += MAX_LINKS) {
        uint32_t slots[MAX_LINKS];
        float distance[MAX_LINKS];
        uint32_t n = p->count - at < MAX_LINKS ? p->count - at : MAX_LINKS;
        for (uint32_t i = 0; i < n; i++) {
            slots[i] = e[at + i].slot & MET_SLOT;
        }
        hnsw_distances(w, &w->scratch->query, p->precision, slots, n, distance);
        for (uint32_t i = 0; i < n; i++) {
            e[at + i].distance = distance[i];
        }
    }
    for (uint32_t i = 1; i < p->count; i++) {
        struct neighbor moving = e[i];
        uint32_t at = i;
        for (; at > 0 && e[at - 1].distance > moving.distance; at--) {
            e[at] = e[at - 1];
        }
        e[at] = moving;
    }
    p->next = 0;
}

/* After a batch: where the walk ends now. */
static void set_limit(struct hnsw_walk *w, struct hnsw_pool *p) {
    const struct hnsw_reach *r = p->reach;

    p->limit = p->count == p->room ? p->entries[p->count - 1].distance : INFINITY;
    if (r->spread > 0.0F) {
        uint32_t kth = kth_accepted(p);
        while (kth < p->count && p->precision < r->finest && p->entries[kth].distance < NOISE_RATIO * p->noise) {
            sharpen(w, p);
            kth = kth_accepted(p);
        }
        if (kth < p->count) {
            float rank = (float)(kth + 1);
            float ef = (float)r->ef * powf(rank / (float)r->k, r->matches != NULL ? REJECTED_SHARE : 1.0F);
            ef = ef > OVERSHOOT * rank ? ef : OVERSHOOT * rank;
            float limit = p->entries[kth].distance * powf(ef / rank, SPREAD_SHARE * r->spread) + p->noise;
            p->limit = limit < p->limit ? limit : p->limit;
            drop_beyond(p, kth);
        }
    }
}

void hnsw_offer_batch(struct hnsw_walk *w, struct hnsw_pool *p, uint32_t n) {
    struct hnsw_scratch *s = w->scratch;
    struct neighbor near[MAX_LINKS];

    hnsw_distances(w, &s->query, p->precision, s->batch, n, s->batch_distance);
    uint32_t more = take_near(w, p, n, near);
    if (more > 0) {
        more = make_room(p, near, more);
        merge(p, near, more);
        set_limit(w, p);
    }
}

uint32_t hnsw_search_layer(struct hnsw_walk *w, uint32_t start, uint32_t layer, const struct hnsw_reach *reach) {
    struct hnsw_scratch *s = w->scratch;
    struct hnsw_pool p = {.entries = s->pool, .room = reach->pool, .limit = INFINITY, .noise = reach->noise, .reach = reach};
    uint64_t budget = w->distances + reach->budget;

    begin_layer(s);
    (void)hnsw_meet(w, start);
    s->batch[0] = start;
    hnsw_offer_batch(w, &p, 1);
    while (p.next < p.count) {
        struct neighbor *nearest = &p.entries[p.next];
        if ((nearest->slot & MET_EXPANDED) != 0) {
            p.next++;
            continue;
        }
        if (nearest->distance > p.limit || w->distances > budget) {
            w->spent = w->distances > budget;
            break; /* nothing nearer can come, or it costs too much to look */
        }
        uint32_t slot = nearest->slot & MET_SLOT;
        nearest->slot |= MET_EXPANDED;
        p.next++;
        hnsw_offer_batch(w, &p, gather(w, hnsw_links(w, slot, layer)));
        if (p.next < p.count && layer == 0) {
            const char *words = (const char *)hnsw_words(w, p.entries[p.next].slot & MET_SLOT);
            for (size_t at = CACHE_LINE; at < w->block_bytes - w->words_at + CACHE_LINE; at += CACHE_LINE) {
                __builtin_prefetch(words + at - 1);
            }
        }
    }
    return p.count;
}
