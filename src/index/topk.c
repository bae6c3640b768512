/* topk.c - a bounded max-heap: the worst of the k best stands at the root, so one comparison turns most candidates away. */
#include "index/topk.h"

#include <math.h>

void topk_init(struct topk *t, struct neighbor *storage, size_t k) {
    *t = (struct topk){.heap = storage, .k = k, .count = 0};
}

/* Puts n where the root is missing, in a heap of `count` places. */
static void sift_down(struct neighbor *heap, size_t count, struct neighbor n) {
    size_t at = 0;

    for (size_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && neighbor_before(heap[child], heap[child + 1])) {
            child++;
        }
        if (!neighbor_before(n, heap[child])) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = n;
}

static void sift_up(struct neighbor *heap, size_t at, struct neighbor n) {
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (!neighbor_before(heap[parent], n)) {
            break;
        }
        heap[at] = heap[parent];
        at = parent;
    }
    heap[at] = n;
}

void topk_offer(struct topk *t, struct neighbor n) {
    if (isnan(n.distance)) {
        return; /* a damaged vector is near to nothing */
    }
    if (t->count < t->k) {
        sift_up(t->heap, t->count++, n);
    } else if (t->k > 0 && neighbor_before(n, t->heap[0])) {
        sift_down(t->heap, t->count, n);
    }
}

float topk_bound(const struct topk *t) {
    if (t->count < t->k) {
        return INFINITY;
    }
    return t->k > 0 ? t->heap[0].distance : -INFINITY;
}

size_t topk_finish(struct topk *t) {
    for (size_t left = t->count; left > 1; left--) {
        struct neighbor last = t->heap[left - 1];
        t->heap[left - 1] = t->heap[0];
        sift_down(t->heap, left - 1, last);
    }
    return t->count;
}
