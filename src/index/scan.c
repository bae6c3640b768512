/*
 * scan.c - exact search: DOT_ROWS accepted rows at a time against the query.
 *
 * Accepted slots are gathered a group ahead of the group that is computed, and the rows of the waiting group are prefetched as
 * they are found: where few rows are accepted, the CPU cannot guess the next address by itself.
 */
#include "index/scan.h"

#include "index/distance.h"

enum { CACHE_LINE_FLOATS = 16, PREFETCH_LINES = 4 };

struct group {
    uint32_t slots[DOT_ROWS];
    uint32_t count;
};

/* The begin of a row is enough: what follows is read in order, and the CPU sees that. */
static inline void prefetch_row(const float *row, uint32_t dimension) {
    for (uint32_t i = 0; i < PREFETCH_LINES * CACHE_LINE_FLOATS && i < dimension; i += CACHE_LINE_FLOATS) {
        __builtin_prefetch(row + i);
    }
}

/* Gathers the next accepted slots of [*at, end). */
static struct group next_group(const struct vector_rows *rows, uint32_t *at, uint32_t end, const struct slot_filter *filter) {
    struct group g = {.count = 0};

    while (*at < end && g.count < DOT_ROWS) {
        uint32_t slot = (*at)++;
        if (filter == NULL || filter->accepts(filter->ctx, slot)) {
            prefetch_row(vector_row(rows, slot), rows->dimension);
            g.slots[g.count++] = slot;
        }
    }
    return g;
}

static void offer_group(const struct vector_rows *rows, const struct group *g, const float *query, struct topk *best) {
    const float *row[DOT_ROWS];
    float dot[DOT_ROWS];

    if (g->count == DOT_ROWS) {
        for (uint32_t i = 0; i < DOT_ROWS; i++) {
            row[i] = vector_row(rows, g->slots[i]);
        }
        dot_product_rows(query, row, rows->dimension, dot);
    } else {
        for (uint32_t i = 0; i < g->count; i++) {
            dot[i] = dot_product(query, vector_row(rows, g->slots[i]), rows->dimension);
        }
    }
    for (uint32_t i = 0; i < g->count; i++) {
        topk_offer(best, (struct neighbor){cosine_distance(dot[i]), g->slots[i]});
    }
}

uint64_t scan_exact(const struct vector_rows *rows, uint32_t first, uint32_t end, const float *query,
                    const struct slot_filter *filter, struct topk *best) {
    uint32_t at = first;
    uint64_t computed = 0;
    struct group now = next_group(rows, &at, end, filter);

    while (now.count > 0) {
        struct group ahead = next_group(rows, &at, end, filter);
        offer_group(rows, &now, query, best);
        computed += now.count;
        now = ahead;
    }
    return computed;
}
