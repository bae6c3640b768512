/*
 * hnsw_build.c - algorithm 1: linking a node into the graph, by several threads at once, while searches go on.
 *
 * Where we leave the paper:
 *
 * 1. All neighbours first, then all links, lowest layer first. The paper links a layer, then searches the next lower one. But a
 * node that can be reached at layer 1 is a step of a search's way down, and if its list at layer 0 were still empty then, the
 * search would end with that one node. So the search goes down all layers and only remembers its choices; nothing has changed up
 * to there, and memory can run out only up to there. Then come the links from layer 0 upwards: whenever a node can be reached at
 * a layer, its lists at that layer and all lower ones are complete (see HNSW_LINK below).
 *
 * 2. Parents, and vectors in the same place: hnsw_select.c.
 *
 * 3. Newcomers. Two threads that insert neighbours of one another at the same time do not find each other, since neither is
 * linked yet while the other searches. This is no rare case: the chunks of a document come together, are alike, and are handed to
 * different threads. But they choose common neighbours, and a search follows all links of every node that it ends up choosing. So
 * a link of a chosen node that this walk has not met (its tag says so) belongs to a node that was linked since. After linking
 * itself at layer 0 each thread reads its neighbours' lists once more, and links with such newcomers. Of two threads with a
 * common neighbour, at least the later one to link to it sees the other (the neighbour's guard puts the two in an order).
 *
 * 4. The lists of a node that does not fit in are left as they are: LINK_REFUSED changes nothing.
 *
 * Entry point: the first node of a higher level than any before becomes it, by compare and swap (HNSW_ENTRY). The loser of a race
 * finds the new entry point, links itself at those layers which it now shares with it, and tries again if it still is higher. So
 * the nodes of every layer are one tree, whoever came first.
 *
 * Guards: one at a time, around each change of one node's list. Reading needs none. Nobody waits for a guard while holding one,
 * so there can be no deadlock.
 *
 * pairs with: HNSW_LINK. A link to a node is stored (release) after all words of that node's own lists at this layer and below;
 * its block and its vector were written before its slot was handed to us. Who loads the link (acquire) therefore sees a node that
 * is wholly there. After that, its words change only to other links of which the same holds, or to HNSW_NONE behind the end.
 */
#include "index/hnsw_internal.h"

#include <assert.h>
#include <math.h>

enum { SPREAD_RANKS = 64, SPREAD_RANKS_LEAST = 16 };
static const double SPREAD_RATIO_MOST = 20.0; /* copies stand at distance 0 */

struct insertion {
    struct hnsw_walk walk;
    const struct hnsw_guard *guard;
    uint32_t slot;
    uint32_t level;
    uint32_t ef;
};

static void enter(const struct insertion *in, uint32_t slot) {
    if (in->guard != NULL) {
        in->guard->enter(in->guard->ctx, slot);
    }
}

static void leave(const struct insertion *in, uint32_t slot) {
    if (in->guard != NULL) {
        in->guard->leave(in->guard->ctx, slot);
    }
}

static enum hnsw_link_result link_guarded(struct insertion *in, uint32_t holder, uint32_t added, uint32_t layer, bool as_parent) {
    enum hnsw_link_result result;

    enter(in, holder);
    result = hnsw_link(&in->walk, holder, added, layer, as_parent);
    leave(in, holder);
    return result;
}

/* What the walk of a layer has met, in the order of fine distances: the candidates. Returns how many. */
static uint32_t take_candidates(struct hnsw_walk *w, uint32_t met, uint32_t most) {
    struct hnsw_scratch *s = w->scratch;
    struct topk order;

    met = met < most ? met : most;
    topk_init(&order, s->found, met);
    for (uint32_t at = 0; at < met; at += MAX_LINKS) {
        uint32_t n = met - at < MAX_LINKS ? met - at : MAX_LINKS;
        for (uint32_t i = 0; i < n; i++) {
            s->batch[i] = s->pool[at + i].slot & MET_SLOT;
        }
        hnsw_distances(w, &s->query, FINE, s->batch, n, s->batch_distance);
        for (uint32_t i = 0; i < n; i++) {
            topk_offer(&order, (struct neighbor){s->batch_distance[i], s->batch[i]});
        }
    }
    return (uint32_t)topk_finish(&order);
}

/* Takes the new node's neighbourhood into the running mean of how distances grow with ranks: the estimate of Levina and Bickel
 * (2005), by which the mean of ln(d_m / d_j) over j < m is the reciprocal of the dimension. */
static void measure_spread(struct hnsw_head *head, const struct neighbor *nearest, uint32_t count) {
    uint32_t m = count < SPREAD_RANKS ? count : SPREAD_RANKS;
    double sum = 0.0;

    if (m < SPREAD_RANKS_LEAST || !(nearest[m - 1].distance > 0.0F)) {
        return;
    }
    for (uint32_t j = 0; j + 1 < m; j++) {
        double ratio = (double)nearest[m - 1].distance / (double)nearest[j].distance;
        sum += ratio < SPREAD_RATIO_MOST && ratio >= 1.0 ? log(ratio) : log(SPREAD_RATIO_MOST);
    }
    float sample = (float)(sum / (double)(m - 1));
    uint32_t samples = load_relaxed_u32(&head->samples);
    samples += samples < HNSW_SPREAD_WINDOW ? 1 : 0;
    float mean = load_relaxed_f32(&head->spread);
    store_relaxed_u32(&head->samples, samples);
    store_relaxed_f32(&head->spread, mean + (sample - mean) / (float)samples);
}

/* Algorithm 1, lines 5 to 11, searching only: the neighbours of layers high..low into scratch->choice. */
static void choose_neighbors(struct insertion *in, uint64_t entry, uint32_t high, uint32_t low) {
    struct hnsw_walk *w = &in->walk;
    struct hnsw_reach reach = {.k = in->ef, .ef = in->ef, .pool = in->ef, .below = w->slots, .budget = UINT64_MAX / 2};
    uint32_t at = hnsw_descend(w, hnsw_entry_slot(entry), hnsw_entry_level(entry), high);

    for (uint32_t layer = high + 1; layer-- > low;) {
        uint32_t count = take_candidates(w, hnsw_search_layer(w, at, layer, &reach), in->ef);
        at = count > 0 ? w->scratch->found[0].slot : at;
        if (layer == 0) {
            measure_spread(w->g->head, w->scratch->found, count);
        }
        hnsw_select(w, w->scratch->found, count, &w->scratch->choice[layer]);
    }
}

/* The node's own list: the parent, then the other neighbours that were chosen. */
static void write_own_list(struct insertion *in, uint32_t layer, uint32_t parent) {
    const struct hnsw_choice *choice = &in->walk.scratch->choice[layer];
    struct link_list list = hnsw_links(&in->walk, in->slot, layer);
    uint32_t at = 1;

    enter(in, in->slot);
    store_release_u32(&list.words[0], parent); /* pairs with: HNSW_LINK */
    for (uint32_t i = 0; i < choice->count && at < list.room; i++) {
        if (choice->picked[i].slot != parent) {
            store_release_u32(&list.words[at++], choice->picked[i].slot); /* pairs with: HNSW_LINK */
        }
    }
    while (at < list.room) {
        store_release_u32(&list.words[at++], HNSW_NONE); /* pairs with: HNSW_LINK */
    }
    leave(in, in->slot);
}

static void clear_own_list(struct insertion *in, uint32_t layer) {
    struct link_list list = hnsw_links(&in->walk, in->slot, layer);

    enter(in, in->slot);
    for (uint32_t at = 0; at < list.room; at++) {
        store_release_u32(&list.words[at], HNSW_NONE); /* pairs with: HNSW_LINK */
    }
    leave(in, in->slot);
}

/* Nobody can reach the node yet, so its own list may be written anew for each parent that is tried. */
static bool try_parent(struct insertion *in, uint32_t layer, uint32_t parent) {
    write_own_list(in, layer, parent);
    return link_guarded(in, parent, in->slot, layer, true) == LINK_MADE;
}

/* The child of `parent` that is nearest to the new node. Among equals the slot number decides, so that copies of one vector fill
 * the tree evenly. HNSW_NONE: it has none that this thread may look at. */
static uint32_t nearest_child(struct insertion *in, uint32_t parent, uint32_t layer) {
    uint32_t links[MAX_LINKS];
    uint32_t count = hnsw_read_links(hnsw_links(&in->walk, parent, layer), links);
    struct neighbor best = {INFINITY, HNSW_NONE};

    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = links[(i + in->slot) % count];
        /* links[0] is the parent's own parent: going there would be going in a circle. */
        if (slot == links[0] || slot >= in->walk.slots || !hnsw_is_parent(&in->walk, parent, slot, layer)) {
            continue;
        }
        struct neighbor child = hnsw_measure(&in->walk, slot);
        best = child.distance < best.distance ? child : best;
    }
    return best.slot;
}

/* Makes the node reachable at a layer: by the nearest of its chosen neighbours that can take another child, else by a node
 * further down the tree below the nearest one. Every step down ends at last at a node without children. */
static bool find_parent(struct insertion *in, uint32_t layer) {
    const struct hnsw_choice *choice = &in->walk.scratch->choice[layer];
    uint32_t at = choice->count > 0 ? choice->picked[0].slot : HNSW_NONE;

    for (uint32_t i = 0; i < choice->count; i++) {
        if (try_parent(in, layer, choice->picked[i].slot)) {
            return true;
        }
    }
    while (at != HNSW_NONE) {
        at = nearest_child(in, at, layer);
        if (at != HNSW_NONE && try_parent(in, layer, at)) {
            return true;
        }
    }
    clear_own_list(in, layer);
    return false;
}

/* Departure 3: links with nodes that others linked to our neighbours since we searched. */
static void link_newcomers(struct insertion *in) {
    struct hnsw_walk *w = &in->walk;
    const struct hnsw_choice *choice = &w->scratch->choice[0];

    (void)hnsw_meet(w, in->slot); /* it is in those lists by now, and no newcomer to itself */
    for (uint32_t i = 0; i < choice->count; i++) {
        uint32_t links[MAX_LINKS];
        uint32_t count = hnsw_read_links(hnsw_links(w, choice->picked[i].slot, 0), links);
        for (uint32_t j = 0; j < count; j++) {
            if (links[j] >= w->slots || hnsw_meet(w, links[j]) ||
                hnsw_occluded(w, hnsw_measure(w, links[j]), choice->picked, choice->count)) {
                continue;
            }
            (void)link_guarded(in, in->slot, links[j], 0, false);
            (void)link_guarded(in, links[j], in->slot, 0, false);
        }
    }
}

/* Algorithm 1, lines 12 to 17, at one layer. False: no neighbour could take the node, and it is not reachable at this layer. */
static bool link_layer(struct insertion *in, uint32_t layer) {
    const struct hnsw_choice *choice = &in->walk.scratch->choice[layer];

    if (!find_parent(in, layer)) {
        return false;
    }
    for (uint32_t i = 0; i < choice->count; i++) {
        (void)link_guarded(in, choice->picked[i].slot, in->slot, layer, false);
    }
    return true;
}

/* Layers low..high, the lowest first: see departure 1. */
static bool link_layers(struct insertion *in, uint32_t low, uint32_t high) {
    for (uint32_t layer = low; layer <= high; layer++) {
        if (!link_layer(in, layer)) {
            return false;
        }
    }
    return true;
}

/* Algorithm 1, lines 18 and 19. `entry` is the entry point that the layers up to its level were linked from. */
static void raise_entry(struct insertion *in, uint64_t entry) {
    uint64_t *head_entry = &in->walk.g->head->entry;

    while (in->level > hnsw_entry_level(entry)) {
        uint32_t linked = hnsw_entry_level(entry);
        /* pairs with: HNSW_ENTRY. The release makes the node's own lists visible to whoever loads the entry point; without it, a
         * search could begin at a node without links. */
        if (cas_acq_rel_u64(head_entry, &entry, hnsw_entry_of(in->level, in->slot))) {
            return;
        }
        /* Another thread was first: share its layers with it. The node is linked at layer 0, so where this fails (because
         * the other's slot is beyond what we know) it is only missing from the layers that make the way shorter. */
        uint32_t high = in->level < hnsw_entry_level(entry) ? in->level : hnsw_entry_level(entry);
        if (hnsw_entry_slot(entry) >= in->walk.slots) {
            return;
        }
        choose_neighbors(in, entry, high, linked + 1);
        if (!link_layers(in, linked + 1, high)) {
            return;
        }
    }
}

/* A node is linked when it is the entry point, or in the list of its parent. */
static bool is_linked(const struct insertion *in, uint64_t entry) {
    uint32_t links[MAX_LINKS];
    struct link_list own = hnsw_links(&in->walk, in->slot, 0);
    uint32_t parent = load_acquire_u32(&own.words[0]); /* pairs with: HNSW_LINK */

    if (entry != HNSW_NO_ENTRY && hnsw_entry_slot(entry) == in->slot) {
        return true;
    }
    if (parent >= in->walk.slots) { /* HNSW_NONE among them */
        return false;
    }
    uint32_t count = hnsw_read_links(hnsw_links(&in->walk, parent, 0), links);
    for (uint32_t i = 0; i < count; i++) {
        if (links[i] == in->slot) {
            return true;
        }
    }
    return false;
}

/* In a graph with an entry point. */
static bool insert_below(struct insertion *in, uint64_t entry) {
    struct hnsw_walk *w = &in->walk;
    uint64_t start = entry;
    bool known = hnsw_entry_slot(entry) < w->slots;
    uint32_t high;

    if (!known && !hnsw_entry_within(w, w->slots, &start)) {
        return false;
    }
    high = in->level < hnsw_entry_level(start) ? in->level : hnsw_entry_level(start);
    choose_neighbors(in, start, high, 0);
    if (!link_layer(in, 0)) {
        return false;
    }
    link_newcomers(in);
    /* From another start than the entry point the highest layers cannot be seen, so the node stays out of those. */
    if (link_layers(in, 1, high) && known) {
        raise_entry(in, entry);
    }
    return true;
}

bool hnsw_insert(const struct hnsw_graph *g, const struct vector_rows *rows, uint32_t slots, uint32_t slot,
                 uint32_t ef_construction, const struct hnsw_guard *guard, struct hnsw_scratch *scratch) {
    struct insertion in = {.walk = hnsw_walk_over(g, rows, slots, scratch), .guard = guard, .slot = slot};
    /* pairs with: HNSW_ENTRY. Without the acquire, the entry point's own lists could be read as empty. */
    uint64_t entry = load_acquire_u64(&g->head->entry);

    assert(slot < slots);
    in.level = hnsw_level_of(slot, in.walk.m);
    in.ef = ef_construction > in.walk.m ? ef_construction : in.walk.m;
    if (is_linked(&in, entry)) {
        return true;
    }
    if (!hnsw_scratch_reserve(&in.walk, in.ef)) {
        return false;
    }
    hnsw_encode(g, rows, slot);
    hnsw_probe_vector(&in.walk, &scratch->query, vector_row(rows, slot));
    /* The first node of all becomes the entry point, without a link; whoever loses this race links to it. */
    if (entry == HNSW_NO_ENTRY && cas_acq_rel_u64(&g->head->entry, &entry, hnsw_entry_of(in.level, slot))) {
        return true;
    }
    return insert_below(&in, entry);
}
