/*
 * hnsw_select.c - algorithm 4 of the paper, for the neighbours of a new node and for lists that are full.
 *
 * The heuristic: going outward from a base, a candidate is a neighbour only when it is nearer to the base than to every neighbour
 * picked before; else it is "occluded", and is found through the one that stands between. No candidates are extended, and no
 * pruned connections are kept: measured on 100,000 clustered vectors, filling lists up with pruned ones adds 0.4 points of recall
 * for 4% more distances in a search and 20% more time for building; a larger ef buys the same for less.
 *
 * We leave the paper in two places, both about what its heuristic does to connectivity:
 *
 * 1. Vectors in the same place (copies of a text, or nearly) count once. Between copies all distances are ties; broken one way a
 * list fills with copies and has no link out of their group, broken the other way a copy has one link in all.
 *
 * 2. Parents. The heuristic may drop the last link that leads to a node: rarely among well spread vectors, and most of the time
 * among copies, where everybody's list is full of others. So every node has, at each of its layers, a parent for life: the node
 * that its own list begins with, which in turn never drops its children. Both links of a pair stay, so the pairs are a tree in
 * which one can go up and down, every node of a layer is reachable from every other at every moment, and no shortening, however
 * unlucky or concurrent, can change that. The argument needs no order between threads, because a parent is chosen before the node
 * is linked and never changes. The root (the first node of a layer) begins its list with its first child. At most half of a list
 * are children, so the heuristic keeps a say; a node that finds no parent among its neighbours takes one further down the tree
 * (hnsw_build.c).
 *
 * Order of the words of a list: the parent first, then anything.
 */
#include "index/hnsw_internal.h"

/* Rounding keeps the distance of a float32 vector to its copy below this. */
static const float SAME_PLACE = 1e-6F;

bool hnsw_occluded(struct hnsw_walk *w, struct neighbor candidate, const struct neighbor *picked, uint32_t count) {
    if (count > 0) {
        hnsw_probe_node(w, &w->scratch->node, candidate.slot);
    }
    /* In small groups, nearest first: most who are occluded are so by one of the first. */
    for (uint32_t at = 0; at < count; at += DOT_ROWS) {
        uint32_t n = count - at < DOT_ROWS ? count - at : DOT_ROWS;
        uint32_t slots[DOT_ROWS];
        float distance[DOT_ROWS];
        for (uint32_t i = 0; i < n; i++) {
            slots[i] = picked[at + i].slot;
        }
        hnsw_distances(w, &w->scratch->node, FINE, slots, n, distance);
        for (uint32_t i = 0; i < n; i++) {
            if (distance[i] < candidate.distance || distance[i] < SAME_PLACE) {
                return true;
            }
        }
    }
    return false;
}

void hnsw_select(struct hnsw_walk *w, const struct neighbor *candidates, size_t count, struct hnsw_choice *ret) {
    ret->count = 0;
    for (size_t i = 0; i < count && ret->count < w->m; i++) {
        if (!hnsw_occluded(w, candidates[i], ret->picked, ret->count)) {
            ret->picked[ret->count++] = candidates[i];
        }
    }
}

bool hnsw_is_parent(const struct hnsw_walk *w, uint32_t holder, uint32_t slot, uint32_t layer) {
    struct link_list list = hnsw_links(w, slot, layer);

    /* pairs with: HNSW_LINK. Who reads a link to `slot` sees the parent that was written before it; without the acquire, a child
     * could be taken for none, and dropped. */
    return list.room > 0 && load_acquire_u32(&list.words[0]) == holder;
}

/* --- shortening a full list ------------------------------------------------------------------------------------------- */

/* A full list and the node that wants to be in it. */
struct shortening {
    uint32_t holder;
    uint32_t added;
    uint32_t layer;
    uint32_t slots[MAX_LINKS + 1];
    uint32_t count;
    uint32_t fixed; /* how many must stay: the holder's parent, its children, and links that we cannot judge */
    struct neighbor kept[MAX_LINKS + 1];
    uint32_t kept_count;
};

static bool must_stay(const struct hnsw_walk *w, const struct shortening *s, uint32_t slot) {
    /* Beyond w->slots: the block of a node that another thread linked a moment ago may not be mapped here. */
    return slot == s->slots[0] || slot >= w->slots || hnsw_is_parent(w, s->holder, slot, s->layer);
}

/* The candidates of a full list, nearest to the holder first. Nodes beyond w->slots come last: their distance is not known. */
static uint32_t order_by_distance(struct hnsw_walk *w, const struct shortening *s, struct neighbor *out) {
    uint32_t known[MAX_LINKS + 1];
    float distance[MAX_LINKS + 1];
    uint32_t n = 0;
    struct topk order;

    for (uint32_t i = 0; i < s->count; i++) {
        if (s->slots[i] < w->slots) {
            known[n++] = s->slots[i];
        }
    }
    hnsw_probe_node(w, &w->scratch->node, s->holder);
    hnsw_distances(w, &w->scratch->node, FINE, known, n, distance);
    topk_init(&order, out, n);
    for (uint32_t i = 0; i < n; i++) {
        topk_offer(&order, (struct neighbor){distance[i], known[i]});
    }
    return (uint32_t)topk_finish(&order);
}

/* Algorithm 4 over the list, with those that must stay picked beforehand. False: `added` is not among the picked. */
static bool pick_who_stays(struct hnsw_walk *w, struct shortening *s, uint32_t room) {
    struct neighbor candidates[MAX_LINKS + 1];
    uint32_t count = order_by_distance(w, s, candidates);
    uint32_t free_places = room - s->fixed;

    for (uint32_t i = 0; i < count; i++) {
        struct neighbor c = candidates[i];
        if (!must_stay(w, s, c.slot)) {
            if (free_places == 0 || hnsw_occluded(w, c, s->kept, s->kept_count)) {
                if (c.slot == s->added) {
                    return false;
                }
                continue;
            }
            free_places--;
        }
        s->kept[s->kept_count++] = c;
    }
    return true;
}

/*
 * Rewrites the list in place, word by word. The parent's word is not touched. A search that reads meanwhile meets old and new
 * neighbours mixed, one twice, or misses one that moved to a place it had passed: all are linked nodes whose words were written
 * before any link to them was (HNSW_LINK), so it walks a slightly other graph, and every step of it is valid. The words behind
 * the new end become HNSW_NONE, so that a list never continues into old words.
 */
static void rewrite(struct link_list list, const struct hnsw_walk *w, const struct shortening *s) {
    uint32_t at = 1;

    for (uint32_t i = 0; i < s->kept_count; i++) {
        if (s->kept[i].slot != s->slots[0]) {
            store_release_u32(&list.words[at++], s->kept[i].slot); /* pairs with: HNSW_LINK */
        }
    }
    for (uint32_t i = 1; i < s->count; i++) {
        if (s->slots[i] >= w->slots) {
            store_release_u32(&list.words[at++], s->slots[i]); /* pairs with: HNSW_LINK */
        }
    }
    while (at < list.room) {
        store_release_u32(&list.words[at++], HNSW_NONE); /* pairs with: HNSW_LINK */
    }
}

static uint32_t count_fixed(const struct hnsw_walk *w, const struct shortening *s) {
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->count; i++) {
        n += must_stay(w, s, s->slots[i]);
    }
    return n;
}

static enum hnsw_link_result shorten(struct hnsw_walk *w, struct link_list list, struct shortening *s) {
    s->slots[s->count++] = s->added;
    s->fixed = count_fixed(w, s);
    if (s->fixed > list.room) {
        return LINK_CROWDED;
    }
    if (!pick_who_stays(w, s, list.room)) {
        return LINK_REFUSED;
    }
    rewrite(list, w, s);
    return LINK_MADE;
}

static uint32_t count_children(const struct hnsw_walk *w, const struct shortening *s) {
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->count; i++) {
        n += s->slots[i] >= w->slots || hnsw_is_parent(w, s->holder, s->slots[i], s->layer);
    }
    return n;
}

static bool lists(const struct shortening *s, uint32_t slot) {
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->slots[i] == slot) {
            return true;
        }
    }
    return false;
}

enum hnsw_link_result hnsw_link(struct hnsw_walk *w, uint32_t holder, uint32_t added, uint32_t layer, bool as_parent) {
    struct link_list list = hnsw_links(w, holder, layer);
    struct shortening s = {.holder = holder, .added = added, .layer = layer};

    s.count = hnsw_read_links(list, s.slots);
    if (lists(&s, added)) {
        return LINK_MADE;
    }
    if (as_parent && count_children(w, &s) >= list.room / 2) {
        return LINK_CROWDED;
    }
    if (s.count == list.room) {
        return list.room > 0 ? shorten(w, list, &s) : LINK_CROWDED;
    }
    /* pairs with: HNSW_LINK. The release makes the words of `added` itself, written before, visible to whoever reads this link.
     * Without it a search could step onto a node whose list still reads as empty, and end there. */
    store_release_u32(&list.words[s.count], added);
    return LINK_MADE;
}
