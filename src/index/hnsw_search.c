/* hnsw_search.c - algorithm 5: down the upper layers to the nearest node, then the ef nearest accepted nodes of layer 0. */
#include "index/hnsw_internal.h"

uint64_t hnsw_search(const struct hnsw_graph *g, const struct vector_rows *rows, uint32_t slots, uint32_t below,
                     const float *query, uint32_t ef, const struct slot_filter *filter, struct hnsw_scratch *scratch,
                     struct topk *best) {
    struct hnsw_walk walk = hnsw_walk_over(g, rows, slots, scratch);
    struct hnsw_acceptance accept = {below < slots ? below : slots, filter};
    /* pairs with: HNSW_ENTRY. Without the acquire, the entry point's own lists could be read as empty. */
    uint64_t entry = load_acquire_u64(&g->head->entry);
    struct neighbor at;
    struct topk found;

    if (entry == HNSW_NO_ENTRY || (hnsw_entry_slot(entry) >= slots && !hnsw_entry_within(&walk, below, &entry))) {
        return 0;
    }
    if (!hnsw_scratch_reserve(scratch, slots, ef)) {
        return UINT64_MAX;
    }
    walk.query = query;
    at = hnsw_descend(&walk, hnsw_measure(&walk, hnsw_entry_slot(entry)), hnsw_entry_level(entry), 0);
    topk_init(&found, scratch->found, ef);
    if (!hnsw_search_layer(&walk, at, 0, &accept, &found)) {
        return UINT64_MAX;
    }
    for (size_t i = 0; i < found.count; i++) {
        topk_offer(best, found.heap[i]);
    }
    return walk.distances;
}
