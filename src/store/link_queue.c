/*
 * link_queue.c - which slots of a graph are linked, which are being linked, and how far the watermark is.
 *
 * Several linkers claim slots in ascending order and finish them in any. Two bit sets in the supervisor's memory remember what is
 * claimed and what is done; the watermark `low` is the first slot that is neither linked nor dead, and is what searches read in
 * hnsw_head.linked.
 *
 * A slot without a vector stops the watermark until it has one. A dead slot that nobody linked is passed over, but only when
 * every reader can do without it: a view older than the deletion still holds the chunk, and would find it neither in the graph
 * nor above the watermark. So its deletion has to be published, and no pinned view may be older.
 */
#include "store/library_internal.h"

#include <stdlib.h>

#define BITS_LEAST_ROOM 4096

/* --- bit sets --- */

uint32_t bits_room_for(uint32_t slots) {
    uint64_t room = (uint64_t)slots + slots / 4;
    room = room < BITS_LEAST_ROOM ? BITS_LEAST_ROOM : (room + 63) / 64 * 64;
    return room > UINT32_MAX - 63 ? UINT32_MAX - 63 : (uint32_t)room;
}

uint64_t *bits_grown(uint64_t *bits, uint32_t old_room, uint32_t new_room) {
    uint64_t *more = (uint64_t *)realloc(bits, (size_t)new_room / 8);
    if (more != NULL) {
        memset(more + old_room / 64, 0, (size_t)(new_room - old_room) / 8);
    }
    return more;
}

static bool room_for(struct graph_work *g, uint32_t slots) {
    if (slots <= g->room) {
        return true;
    }
    uint32_t room = bits_room_for(slots);
    uint64_t *claimed = bits_grown(g->claimed, g->room, room);
    if (claimed == NULL) {
        return false;
    }
    g->claimed = claimed;
    uint64_t *done = bits_grown(g->done, g->room, room);
    if (done == NULL) {
        return false;
    }
    g->done = done;
    g->room = room;
    return true;
}

void link_queue_free(struct graph_work *g) {
    free(g->claimed);
    free(g->done);
}

/* --- the watermark --- */

/* No reader, present or to come, has a view older than this LSN. */
static uint64_t oldest_view(const struct catalog *c) {
    /* pairs with: CATALOG_PUBLISHED. It is stored after the write lock was held; so a reader that took an older view before that
     * has its pin visible here. Without the order a pin could be missed, and with it the reader. */
    uint64_t oldest = load_acquire_u64(&c->published_lsn);
    for (uint32_t i = 0; i < c->workers; i++) {
        uint64_t pin = load_acquire_u64(&c->options.control->worker[i].pin_lsn); /* pairs with: VIEW_PIN */
        oldest = pin != 0 && pin < oldest ? pin : oldest;
    }
    return oldest;
}

/* Moves the watermark as far as it goes. Returns how many dead slots it passed over. */
static size_t advance(const struct library *lib, struct graph_work *g, uint32_t slots) {
    uint64_t oldest = 0;
    size_t passed = 0;
    uint32_t low = g->low;
    for (; low < slots; low++) {
        if (low < g->room && bit_is_set(g->done, low)) {
            g->done_above--;
            continue;
        }
        if (low < g->room && bit_is_set(g->claimed, low)) {
            break;
        }
        uint64_t deleted = load_acquire_u64(&library_chunk(lib, low)->deleted_lsn);
        if (deleted != 0 && oldest == 0) {
            oldest = oldest_view(lib->catalog);
        }
        if (deleted == 0 || deleted > oldest) {
            break;
        }
        passed++;
    }
    if (low != g->low) {
        g->low = low;
        /* pairs with: HNSW_LINKED. Without it a search could trust the watermark before it sees the links below it. */
        store_release_u64(&graph_work_graph(g).head->linked, low);
    }
    return passed;
}

/* --- claims --- */

static bool can_be_linked(const struct library *lib, uint32_t slot) {
    const struct chunk_row *c = library_chunk(lib, slot);
    return (load_acquire_u32(&c->state) & CHUNK_HAS_VECTOR) != 0 &&
           load_acquire_u64(&c->deleted_lsn) == 0; /* pairs with: CHUNK_STATE */
}

bool link_queue_claim(struct link_claim *claim, size_t most, struct status *st) {
    struct graph_work *g = claim->graph;
    uint32_t slots = claim->view.chunk_slots;
    claim->count = 0;
    claim->passed = 0;
    most = most < LINK_CLAIM_MAX ? most : LINK_CLAIM_MAX;
    (void)pthread_mutex_lock(&g->mutex);
    bool ok = room_for(g, slots);
    if (ok) {
        claim->passed = advance(claim->lib, g, slots);
        uint32_t slot = g->next > g->low ? g->next : g->low;
        for (; slot < slots && claim->count < most; slot++) {
            if (!bit_is_set(g->claimed, slot) && can_be_linked(claim->lib, slot)) {
                bit_set(g->claimed, slot);
                claim->slots[claim->count++] = slot;
            }
        }
        g->next = slot;
    }
    (void)pthread_mutex_unlock(&g->mutex);
    return ok || status_no_memory(st);
}

void link_queue_finish(struct link_claim *claim, size_t linked) {
    struct graph_work *g = claim->graph;
    (void)pthread_mutex_lock(&g->mutex);
    for (size_t i = 0; i < claim->count; i++) {
        uint32_t slot = claim->slots[i];
        if (i < linked) {
            bit_set(g->done, slot);
            g->done_above++;
        } else {
            bit_clear(g->claimed, slot);
            g->next = slot < g->next ? slot : g->next;
        }
    }
    claim->passed += advance(claim->lib, g, claim->view.chunk_slots);
    (void)pthread_mutex_unlock(&g->mutex);
}

void link_queue_rewind(struct graph_work *g, uint32_t slot) {
    (void)pthread_mutex_lock(&g->mutex);
    g->next = slot < g->next ? slot : g->next;
    (void)pthread_mutex_unlock(&g->mutex);
}

uint32_t link_queue_settled(struct graph_work *g, uint32_t slots) {
    (void)pthread_mutex_lock(&g->mutex);
    uint32_t settled = g->low + g->done_above;
    (void)pthread_mutex_unlock(&g->mutex);
    return settled < slots ? settled : slots;
}

uint32_t link_queue_waiting(const struct library *lib, struct graph_work *g, uint32_t slots, uint32_t most) {
    uint32_t waiting = 0;
    (void)pthread_mutex_lock(&g->mutex);
    for (uint32_t slot = g->low; slot < slots && waiting < most; slot++) {
        bool linked = slot < g->room && bit_is_set(g->done, slot);
        waiting += !linked && can_be_linked(lib, slot) ? 1 : 0;
    }
    (void)pthread_mutex_unlock(&g->mutex);
    return waiting;
}

bool link_queue_restore(struct graph_work *g, uint32_t slots, struct status *st) {
    if (!room_for(g, slots)) {
        return status_no_memory(st);
    }
    struct hnsw_graph graph = graph_work_graph(g);
    g->low = (uint32_t)graph.head->linked;
    g->next = g->low;
    for (uint32_t slot = g->low; slot < slots; slot++) {
        if (hnsw_is_linked(&graph, slot)) {
            bit_set(g->claimed, slot);
            bit_set(g->done, slot);
            g->done_above++;
        }
    }
    return true;
}
