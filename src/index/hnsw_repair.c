/*
 * hnsw_repair.c - a graph after a crash: what is still sound stays, the rest is taken out, to be linked again.
 *
 * Nothing of a graph is in a checkpoint: it is as large as all else together, and every word of it can be told right from wrong. A killed process leaves at most
 * the nodes that were being linked in an odd state. A machine that lost power may have written some pages and not others, in any order, so each block may
 * be as it was at any time, or all zeros. What is checked, and what happens otherwise:
 *
 *   1. a node's code is that of its vector, its upper lists are where the order of slots puts them    its block is made anew, without links
 *   2. each link leads to another slot in use that reaches the layer, none twice                      the link goes
 *   3. each link leads to a node that is linked at this layer                                         the link goes
 *   4. the first link of a list leads to a node whose list holds this one (the parent)                the node loses all links
 *   5. a node that has no list at a layer has none above                                              the lists above go
 *   6. parents lead to the root to which most parents of the layer lead                               the node loses the links of this layer and above
 *
 * A list that loses its first link loses its parent, so 4 follows. 3 to 6 go round until nothing changes: a node that is taken out takes along those
 * whose parent it was. A node whose upper lists were lost while others still link to it there must lose those links (3), because the first who is linked
 * with it would become its parent without being asked to keep it. They are linked again by the indexers, searches scan them until then (the watermark is lowered), and a lost neighbour costs a
 * little recall, never a wrong distance.
 *
 * The work is split by slots over all cores; words that several threads look at are loaded and stored relaxed. Nobody else is at work on the graph.
 */
#include "index/hnsw_internal.h"

#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RANGE_SLOTS = 8192 };
#define ROOT_UNKNOWN UINT32_MAX
#define ROOT_GOING (UINT32_MAX - 1)

struct repair {
    struct hnsw_walk walk;
    struct slot_filter has_vector;
    const uint64_t *upper_from; /* per range: words of `upper` before it */
    uint8_t *linked;            /* by slot, relaxed */
    size_t code_bytes;
    uint64_t dropped; /* atomic */
    uint64_t recoded; /* atomic */
    uint32_t changed; /* atomic */
    uint32_t failed;  /* atomic: no memory */
};

static bool is_linked(const struct repair *r, uint32_t slot) {
    return __atomic_load_n(&r->linked[slot], __ATOMIC_RELAXED) != 0;
}

static void set_linked(struct repair *r, uint32_t slot, bool value) {
    __atomic_store_n(&r->linked[slot], value ? 1 : 0, __ATOMIC_RELAXED);
}

static void count(uint64_t *counter) {
    (void)__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static uint32_t range_end(const struct repair *r, size_t range) {
    uint64_t end = ((uint64_t)range + 1) * RANGE_SLOTS;
    return end < r->walk.slots ? (uint32_t)end : r->walk.slots;
}

/* --- lists --- */

static void clear_lists(const struct repair *r, uint32_t slot, uint32_t first_layer) {
    uint32_t level = hnsw_level_of(slot, r->walk.m);
    for (uint32_t layer = first_layer; layer <= level; layer++) {
        struct link_list list = hnsw_links(&r->walk, slot, layer);
        for (uint32_t i = 0; i < list.room; i++) {
            store_relaxed_u32(&list.words[i], HNSW_NONE);
        }
    }
}

static bool stands_before(struct link_list list, uint32_t end, uint32_t link) {
    for (uint32_t i = 0; i < end; i++) {
        if (load_relaxed_u32(&list.words[i]) == link) {
            return true;
        }
    }
    return false;
}

/* Keeps the links for which `keep` says so, in their order, up to the end of the list. False: the first one went. */
static bool keep_links(struct repair *r, uint32_t slot, uint32_t layer,
                       bool (*keep)(const struct repair *r, uint32_t link, uint32_t layer)) {
    struct link_list list = hnsw_links(&r->walk, slot, layer);
    uint32_t kept = 0;
    bool first_stays = true;
    for (uint32_t i = 0; i < list.room; i++) {
        uint32_t link = load_relaxed_u32(&list.words[i]);
        if (link == HNSW_NONE) {
            break;
        }
        if (link != slot && keep(r, link, layer) && !stands_before(list, kept, link)) {
            store_relaxed_u32(&list.words[kept++], link);
        } else {
            first_stays = first_stays && i > 0;
        }
    }
    for (uint32_t i = kept; i < list.room; i++) {
        if (load_relaxed_u32(&list.words[i]) != HNSW_NONE) {
            store_relaxed_u32(&list.words[i], HNSW_NONE);
            __atomic_store_n(&r->changed, 1, __ATOMIC_RELAXED);
        }
    }
    return first_stays;
}

static bool can_be(const struct repair *r, uint32_t link, uint32_t layer) {
    return link < r->walk.slots && (layer == 0 || hnsw_level_of(link, r->walk.m) >= layer);
}

static bool has_list(const struct repair *r, uint32_t slot, uint32_t layer) {
    return is_linked(r, slot) && (layer == 0 || load_relaxed_u32(&hnsw_links(&r->walk, slot, layer).words[0]) != HNSW_NONE);
}

/* --- blocks: steps 1 and 2 --- */

/* True: the code is that of the vector. Else it is now. */
static bool code_stands(struct repair *r, uint32_t slot, uint8_t *fresh) {
    if (r->walk.bits == 0) {
        return true;
    }
    float scale = code_encode(vector_row(r->walk.rows, slot), r->walk.dimension, r->walk.bits, fresh);
    uint32_t *words = hnsw_words(&r->walk, slot);
    if (memcmp(hnsw_block(&r->walk, slot), fresh, r->code_bytes) == 0 && memcmp(&words[WORD_SCALE], &scale, sizeof scale) == 0) {
        return true;
    }
    memcpy(hnsw_block(&r->walk, slot), fresh, r->code_bytes);
    memcpy(&words[WORD_SCALE], &scale, sizeof scale);
    return false;
}

/* Whether the block of a slot can be that of a linked node; where it cannot it is made anew. */
static bool block_stands(struct repair *r, uint32_t slot, uint64_t upper, uint8_t *fresh) {
    uint32_t *words = hnsw_words(&r->walk, slot);
    bool in_place = (words[WORD_UPPER] & UPPER_OFFSET) == upper;
    words[WORD_UPPER] = (uint32_t)upper; /* the dead hint comes again from the rows */
    if (!r->has_vector.accepts(r->has_vector.ctx, slot)) {
        memset(hnsw_block(&r->walk, slot), 0, r->walk.words_at);
        words[WORD_SCALE] = SCALE_NONE;
        return false;
    }
    if (code_stands(r, slot, fresh)) {
        return in_place;
    }
    count(&r->recoded);
    return false;
}

static bool lists_stand(struct repair *r, uint32_t slot, uint32_t level) {
    bool stand = true;
    for (uint32_t layer = 0; layer <= level; layer++) {
        stand = keep_links(r, slot, layer, can_be) && stand;
    }
    return stand;
}

static bool had_links(const struct repair *r, uint32_t slot) {
    return load_relaxed_u32(&hnsw_words(&r->walk, slot)[WORD_LINKS]) != HNSW_NONE;
}

static void repair_blocks(void *ctx, size_t range) {
    struct repair *r = (struct repair *)ctx;
    uint8_t *fresh = (uint8_t *)malloc(r->code_bytes + 1);
    uint64_t upper = r->upper_from[range];
    if (fresh == NULL) {
        __atomic_store_n(&r->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    for (uint32_t slot = (uint32_t)range * RANGE_SLOTS; slot < range_end(r, range); slot++) {
        uint32_t level = hnsw_level_of(slot, r->walk.m);
        bool before = had_links(r, slot);
        /* Links only above layer 0 are what is left of lists whose lower part was lost. */
        bool stands = block_stands(r, slot, upper, fresh) && lists_stand(r, slot, level) && had_links(r, slot);
        if (!stands) {
            clear_lists(r, slot, 0);
            if (before) {
                count(&r->dropped);
            }
        }
        set_linked(r, slot, stands);
        upper += (uint64_t)level * r->walk.m;
    }
    free(fresh);
}

/* --- links: steps 3 and 4 --- */

/* At layer 0: wholly. */
static void take_out(struct repair *r, uint32_t slot, uint32_t layer) {
    clear_lists(r, slot, layer);
    if (layer == 0) {
        set_linked(r, slot, false);
        count(&r->dropped);
    }
    __atomic_store_n(&r->changed, 1, __ATOMIC_RELAXED);
}

static bool has_parent(const struct repair *r, uint32_t slot, uint32_t layer) {
    struct link_list own = hnsw_links(&r->walk, slot, layer);
    uint32_t parent = load_relaxed_u32(&own.words[0]);
    if (parent == HNSW_NONE) {
        return layer > 0; /* a node may be missing from the layers that only make the way shorter */
    }
    struct link_list list = hnsw_links(&r->walk, parent, layer);
    return stands_before(list, list.room, slot);
}

/* False: a list has lost its parent. */
static bool repair_lists(struct repair *r, uint32_t slot) {
    uint32_t level = hnsw_level_of(slot, r->walk.m);
    for (uint32_t layer = 0; layer <= level; layer++) {
        if (layer > 1 && has_list(r, slot, layer) && !has_list(r, slot, layer - 1)) {
            take_out(r, slot, layer);
        }
        if (!keep_links(r, slot, layer, has_list) || !has_parent(r, slot, layer)) {
            return false;
        }
    }
    return true;
}

static void repair_links(void *ctx, size_t range) {
    struct repair *r = (struct repair *)ctx;
    for (uint32_t slot = (uint32_t)range * RANGE_SLOTS; slot < range_end(r, range); slot++) {
        if (is_linked(r, slot) && !repair_lists(r, slot)) {
            take_out(r, slot, 0);
        }
    }
}

static void repair_all_links(struct repair *r, size_t ranges) {
    do {
        r->changed = 0;
        parallel_for(ranges, repair_links, r);
    } while (r->changed != 0);
}

/* --- the entry point and its component: step 6 --- */

/* Working memory: the nodes of a layer, and by slot. */
struct components {
    uint32_t *nodes;
    uint32_t count;
    uint32_t *roots;
    uint32_t *sizes;
};

static uint32_t parent_of(const struct repair *r, uint32_t slot, uint32_t layer) {
    return load_relaxed_u32(&hnsw_links(&r->walk, slot, layer).words[0]);
}

/* Follows parents to where the root is known, or to a circle, which is one: the oldest node and its first child are one another's parents. */
static uint32_t find_root(const struct repair *r, uint32_t *roots, uint32_t slot, uint32_t layer) {
    uint32_t at = slot;
    while (roots[at] == ROOT_UNKNOWN) {
        roots[at] = ROOT_GOING;
        at = parent_of(r, at, layer);
    }
    uint32_t root = roots[at] == ROOT_GOING ? at : roots[at];
    for (at = slot; roots[at] == ROOT_GOING; at = parent_of(r, at, layer)) {
        roots[at] = root;
    }
    return root;
}

/* Takes out what does not hang together with most of a layer. */
static void repair_layer(struct repair *r, struct components *c, uint32_t layer) {
    uint32_t largest = c->nodes[0];
    for (uint32_t i = 0; i < c->count; i++) {
        c->roots[c->nodes[i]] = ROOT_UNKNOWN;
        c->sizes[c->nodes[i]] = 0;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        uint32_t root = find_root(r, c->roots, c->nodes[i], layer);
        c->sizes[root]++;
        largest = c->sizes[root] > c->sizes[largest] ? root : largest;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->roots[c->nodes[i]] != largest) {
            take_out(r, c->nodes[i], layer);
        }
    }
}

/* Leaves the nodes that have a list at this layer, too. */
static void go_up(const struct repair *r, struct components *c, uint32_t layer) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (hnsw_level_of(c->nodes[i], r->walk.m) >= layer && has_list(r, c->nodes[i], layer)) {
            c->nodes[count++] = c->nodes[i];
        }
    }
    c->count = count;
}

static void repair_layers(struct repair *r, struct components *c) {
    for (uint32_t slot = 0; slot < r->walk.slots; slot++) {
        if (is_linked(r, slot)) {
            c->nodes[c->count++] = slot;
        }
    }
    for (uint32_t layer = 0; c->count > 0; layer++, go_up(r, c, layer)) {
        repair_layer(r, c, layer);
    }
}

/* The highest layer at which it has links. */
static uint32_t reach_of(const struct repair *r, uint32_t slot, uint32_t level) {
    uint32_t layer = 0;
    while (layer < level && has_list(r, slot, layer + 1)) {
        layer++;
    }
    return layer;
}

/* A linked node that reaches the highest layer that has links; of those one of the highest level; the one that is the entry point already, if it can be. */
static uint64_t best_entry(const struct repair *r) {
    uint64_t now = r->walk.g->head->entry;
    uint64_t best = HNSW_NO_ENTRY;
    uint64_t best_rank = 0;
    for (uint32_t slot = 0; slot < r->walk.slots; slot++) {
        if (!is_linked(r, slot)) {
            continue;
        }
        uint32_t level = hnsw_level_of(slot, r->walk.m);
        uint64_t entry = hnsw_entry_of(level, slot);
        uint64_t rank = (uint64_t)reach_of(r, slot, level) << 32 | (uint64_t)level << 1 | (entry == now ? 1 : 0);
        if (best == HNSW_NO_ENTRY || rank > best_rank) {
            best = entry;
            best_rank = rank;
        }
    }
    return best;
}

/* False: no memory. */
static bool repair_components(struct repair *r) {
    size_t bytes = ((size_t)r->walk.slots + 1) * sizeof(uint32_t);
    struct components c = {
        .nodes = (uint32_t *)malloc(bytes), .roots = (uint32_t *)malloc(bytes), .sizes = (uint32_t *)malloc(bytes)};
    bool ok = c.nodes != NULL && c.roots != NULL && c.sizes != NULL;
    if (ok) {
        repair_layers(r, &c);
        r->walk.g->head->entry = best_entry(r);
    }
    free(c.nodes);
    free(c.roots);
    free(c.sizes);
    return ok;
}

/* --- the whole --- */

static uint64_t *upper_offsets(const struct repair *r, size_t ranges, uint64_t *ret_total) {
    uint64_t *from = (uint64_t *)malloc((ranges + 1) * sizeof *from);
    uint64_t words = 0;
    for (size_t i = 0; from != NULL && i < ranges; i++) {
        from[i] = words;
        words += hnsw_upper_words_for((uint32_t)i * RANGE_SLOTS, range_end(r, i), r->walk.m);
    }
    *ret_total = words;
    return from;
}

static bool repair_nodes(struct repair *r, size_t ranges) {
    parallel_for(ranges, repair_blocks, r);
    if (r->failed != 0) {
        return false;
    }
    do {
        repair_all_links(r, ranges);
        r->changed = 0;
        if (!repair_components(r)) {
            return false;
        }
    } while (r->changed != 0);
    return true;
}

static void finish_head(const struct repair *r, uint64_t upper_used) {
    struct hnsw_head *head = r->walk.g->head;
    uint32_t slot = 0;
    while (slot < r->walk.slots && is_linked(r, slot)) {
        slot++;
    }
    head->linked = slot;
    head->upper_used = upper_used;
    if (!isfinite(head->spread) || head->spread < 0.0F || head->samples > HNSW_SPREAD_WINDOW) {
        head->spread = 0.0F;
        head->samples = 0;
    }
}

bool hnsw_repair(const struct hnsw_graph *g, const struct vector_rows *rows, uint32_t slots, const struct slot_filter *has_vector,
                 struct hnsw_repair_report *ret) {
    struct repair r = {.walk = hnsw_walk_over(g, rows, slots, NULL), .has_vector = *has_vector};
    size_t ranges = ((size_t)slots + RANGE_SLOTS - 1) / RANGE_SLOTS;
    uint64_t upper_used = 0;
    uint64_t *from = upper_offsets(&r, ranges, &upper_used);
    bool ok = false;
    r.upper_from = from;
    r.linked = (uint8_t *)calloc((size_t)slots + 1, 1);
    r.code_bytes = r.walk.words_at;
    if (from != NULL && r.linked != NULL && repair_nodes(&r, ranges)) {
        finish_head(&r, upper_used);
        *ret = (struct hnsw_repair_report){.dropped = r.dropped, .recoded = r.recoded};
        ok = true;
    }
    free(from);
    free(r.linked);
    return ok;
}
