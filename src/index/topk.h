/*
 * topk.h - the k nearest found so far: a bounded max-heap over (distance, slot).
 *
 * Order is total: smaller distance first, then smaller slot, so the same set gives the same answer whatever the order of insertion.
 * (Ties by id are broken by the caller, who knows ids.)
 */
#ifndef QUIRE_INDEX_TOPK_H
#define QUIRE_INDEX_TOPK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct neighbor {
    float distance;
    uint32_t slot;
};

struct topk {
    struct neighbor *heap; /* caller's storage, room for k */
    size_t k;
    size_t count;
};

static inline bool neighbor_before(struct neighbor a, struct neighbor b) {
    return a.distance < b.distance || (a.distance == b.distance && a.slot < b.slot);
}
void topk_init(struct topk *t, struct neighbor *storage, size_t k);
/* Keeps n when it is among the best k. */
void topk_offer(struct topk *t, struct neighbor n);
/* What a candidate must be better than: INFINITY until there are k. */
float topk_bound(const struct topk *t);
/* Sorts the storage ascending and returns count; t must not be offered to afterwards. */
size_t topk_finish(struct topk *t);

#endif
