/*
 * hnsw_validate.c - is this memory a graph? Every word that a walk relies on is checked against what the layout promises.
 *
 * It reads plainly what no indexer writes meanwhile, believes nothing (a damaged word is a fault in the report, never an address)
 * and goes on after a fault, so that the number says how bad it is.
 */
#include "index/hnsw_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DETAIL_BYTES = 160 };

struct check {
    struct hnsw_walk walk;
    uint64_t entry;
    uint64_t faults;
    char *detail;
    uint8_t *units;   /* of M words in `upper`: taken by a node seen before */
    uint8_t *reached; /* by slot: met from the entry point at layer 0 */
    uint32_t *queue;
};

__attribute__((format(printf, 2, 3))) static void fault(struct check *c, const char *fmt, ...) {
    va_list args;

    if (c->faults++ == 0) {
        va_start(args, fmt);
        (void)vsnprintf(c->detail, DETAIL_BYTES, fmt, args);
        va_end(args);
    }
}

static bool holds(struct link_list list, uint32_t slot) {
    for (uint32_t i = 0; i < list.room && list.words[i] != HNSW_NONE; i++) {
        if (list.words[i] == slot) {
            return true;
        }
    }
    return false;
}

static void check_link(struct check *c, uint32_t slot, uint32_t layer, struct link_list list, uint32_t at) {
    uint32_t link = list.words[at];

    if (link >= c->walk.slots) {
        fault(c, "slot %u, layer %u: link %u is beyond the %u slots", slot, layer, link, c->walk.slots);
        return;
    }
    if (link == slot) {
        fault(c, "slot %u, layer %u: linked to itself", slot, layer);
    }
    if (layer > 0 && hnsw_links(&c->walk, link, layer).room == 0) {
        fault(c, "slot %u, layer %u: neighbour %u does not reach this layer", slot, layer, link);
    }
    for (uint32_t i = 0; i < at; i++) {
        if (list.words[i] == link) {
            fault(c, "slot %u, layer %u: neighbour %u is listed twice", slot, layer, link);
            return;
        }
    }
}

static void check_list(struct check *c, uint32_t slot, uint32_t layer) {
    struct link_list list = hnsw_links(&c->walk, slot, layer);
    uint32_t n = 0;

    for (; n < list.room && list.words[n] != HNSW_NONE; n++) {
        check_link(c, slot, layer, list, n);
    }
    for (uint32_t i = n; i < list.room; i++) {
        if (list.words[i] != HNSW_NONE) {
            fault(c, "slot %u, layer %u: a link stands behind the end of the list", slot, layer);
            break;
        }
    }
    if (n == 0) {
        return;
    }
    if (list.words[0] < c->walk.slots && !holds(hnsw_links(&c->walk, list.words[0], layer), slot)) {
        fault(c, "slot %u, layer %u: its parent %u does not link to it", slot, layer, list.words[0]);
    }
    if (c->entry == HNSW_NO_ENTRY || layer > c->entry >> 32) {
        fault(c, "slot %u has links at layer %u, above the entry point", slot, layer);
    }
}

/* The node's room in `upper`: inside what is used, and nobody else's. */
static bool check_upper(struct check *c, uint32_t slot, uint32_t level) {
    const struct hnsw_graph *g = c->walk.g;
    uint32_t m = c->walk.m;
    uint64_t offset = hnsw_words(&c->walk, slot)[WORD_UPPER] & UPPER_OFFSET;
    uint64_t end = offset + (uint64_t)level * m;

    if (offset % m != 0 || end > g->head->upper_used || end > g->upper_words) {
        fault(c, "slot %u: its upper lists (words %llu to %llu) are not within those in use", slot, (unsigned long long)offset,
              (unsigned long long)end);
        return false;
    }
    for (uint64_t unit = offset / m; unit < end / m; unit++) {
        if (c->units[unit] != 0) {
            fault(c, "slot %u: its upper lists overlap those of another node", slot);
        }
        c->units[unit] = 1;
    }
    return true;
}

static void check_node(struct check *c, uint32_t slot) {
    uint32_t level = hnsw_level_of(slot, c->walk.m);

    check_list(c, slot, 0);
    if (level == 0 || !check_upper(c, slot, level)) {
        return;
    }
    for (uint32_t layer = 1; layer <= level; layer++) {
        check_list(c, slot, layer);
    }
}

static void check_entry(struct check *c) {
    uint64_t level = c->entry >> 32;
    uint32_t slot = hnsw_entry_slot(c->entry);

    if (c->entry == HNSW_NO_ENTRY) {
        return;
    }
    if (slot >= c->walk.slots) {
        fault(c, "the entry point %u is beyond the %u slots", slot, c->walk.slots);
    } else if (level != hnsw_level_of(slot, c->walk.m)) {
        fault(c, "the entry point %u is said to have level %llu, but has %u", slot, (unsigned long long)level,
              hnsw_level_of(slot, c->walk.m));
    }
}

/* Breadth first from the entry point at layer 0; returns how many linked nodes were not met. */
static uint64_t count_unreachable(struct check *c) {
    uint32_t slots = c->walk.slots;
    uint64_t missed = 0;
    uint32_t tail = 0;

    if (c->entry != HNSW_NO_ENTRY && hnsw_entry_slot(c->entry) < slots) {
        c->queue[tail++] = hnsw_entry_slot(c->entry);
        c->reached[c->queue[0]] = 1;
    }
    for (uint32_t head = 0; head < tail; head++) {
        struct link_list list = hnsw_links(&c->walk, c->queue[head], 0);
        for (uint32_t i = 0; i < list.room && list.words[i] != HNSW_NONE; i++) {
            if (list.words[i] < slots && !c->reached[list.words[i]]) {
                c->reached[list.words[i]] = 1;
                c->queue[tail++] = list.words[i];
            }
        }
    }
    for (uint32_t slot = 0; slot < slots; slot++) {
        missed += !c->reached[slot] && hnsw_links(&c->walk, slot, 0).words[0] != HNSW_NONE;
    }
    return missed;
}

static uint64_t check_all(struct check *c, uint64_t *ret_unreachable) {
    check_entry(c);
    for (uint32_t slot = 0; slot < c->walk.slots; slot++) {
        check_node(c, slot);
    }
    *ret_unreachable = count_unreachable(c);
    return c->faults;
}

uint64_t hnsw_validate(const struct hnsw_graph *g, uint32_t slots, uint64_t *ret_unreachable, char detail[160]) {
    struct check c = {.detail = detail, .entry = g->head->entry};
    uint64_t faults = UINT64_MAX;

    detail[0] = '\0';
    *ret_unreachable = 0;
    if (!hnsw_head_valid(g->head)) {
        fault(&c, "the head is not that of a graph of this format");
        return c.faults;
    }
    c.walk = hnsw_walk_over(g, NULL, slots, NULL);
    c.units = calloc(g->upper_words / c.walk.m + 1, 1);
    c.reached = calloc((size_t)slots + 1, 1);
    c.queue = calloc((size_t)slots + 1, sizeof *c.queue);
    if (c.units == NULL || c.reached == NULL || c.queue == NULL) {
        (void)snprintf(detail, DETAIL_BYTES, "no memory to check %u slots", slots);
    } else {
        faults = check_all(&c, ret_unreachable);
    }
    free(c.units);
    free(c.reached);
    free(c.queue);
    return faults;
}

bool hnsw_node_is_dead(const struct hnsw_graph *g, uint32_t slot) {
    struct hnsw_walk w = hnsw_walk_over(g, NULL, slot + 1, NULL);

    return (load_relaxed_u32(&hnsw_words(&w, slot)[WORD_UPPER]) & UPPER_DEAD) != 0;
}

/* One linked node: its code must be what its vector makes. */
static bool code_is_right(const struct hnsw_walk *w, uint32_t slot, uint8_t *fresh) {
    float scale = code_encode(vector_row(w->rows, slot), w->dimension, w->bits, fresh);

    return memcmp(hnsw_block(w, slot), fresh, w->words_at) == 0 &&
           memcmp(&hnsw_words(w, slot)[WORD_SCALE], &scale, sizeof scale) == 0;
}

uint64_t hnsw_validate_codes(const struct hnsw_graph *g, const struct vector_rows *rows, uint32_t first, uint32_t end,
                             char detail[160]) {
    struct check c = {.detail = detail, .walk = hnsw_walk_over(g, rows, end, NULL)};
    uint8_t *fresh;

    detail[0] = '\0';
    if (g->head->bits == 0) {
        return 0;
    }
    fresh = malloc(c.walk.words_at);
    if (fresh == NULL) {
        (void)snprintf(detail, DETAIL_BYTES, "no memory for a code");
        return UINT64_MAX;
    }
    for (uint32_t slot = first; slot < end; slot++) {
        if (hnsw_is_linked(g, slot) && !code_is_right(&c.walk, slot, fresh)) {
            fault(&c, "slot %u: its code is not that of its vector", slot);
        }
    }
    free(fresh);
    return c.faults;
}
