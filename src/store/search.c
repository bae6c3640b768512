/*
 * search.c - the front of the search: what is asked of which side, and what becomes of the candidates.
 */
#include "store/search_internal.h"

#include "shm/atomics.h"
#include "store/reading_internal.h"

#include <stdlib.h>

struct search_scratch {
    struct dense_scratch *dense;
    struct neighbor *nearest; /* candidates of the dense side */
    size_t nearest_room;
};

struct search_scratch *search_scratch_new(uint64_t filter_cache_bytes) {
    (void)filter_cache_bytes;
    struct search_scratch *s = (struct search_scratch *)calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    s->dense = dense_scratch_new();
    if (s->dense == NULL) {
        search_scratch_free(s);
        return NULL;
    }
    return s;
}

void search_scratch_free(struct search_scratch *s) {
    if (s == NULL) {
        return;
    }
    dense_scratch_free(s->dense);
    free(s->nearest);
    free(s);
}

bool search_visible(const struct search *s, uint32_t slot) {
    const struct chunk_row *c = &s->chunks[slot];
    if (s->matches != NULL && !slot_set_has(s->matches, slot)) {
        return false;
    }
    /* pairs with: CHUNK_DELETED */
    return lsn_alive(c->created_lsn, load_acquire_u64(&c->deleted_lsn), s->rd->view.lsn);
}

static struct slice chunk_id(const struct search *s, uint32_t slot) {
    const struct chunk_row *c = &s->chunks[slot];
    struct op_chunk fields;
    return op_chunk_decode(arena_record(s->rd->arena, c->record, c->record_length), &fields) ? fields.id : slice_of(NULL, 0);
}

int search_compare_ids(const struct search *s, uint32_t a, uint32_t b) {
    int order = item_id_compare(chunk_id(s, a), chunk_id(s, b));
    return order != 0 ? order : (a > b) - (a < b);
}

static bool nearest_room(struct search_scratch *s, size_t room, struct status *st) {
    if (room <= s->nearest_room) {
        return true;
    }
    struct neighbor *more = (struct neighbor *)realloc(s->nearest, room * sizeof(struct neighbor));
    if (more == NULL) {
        return status_no_memory(st);
    }
    s->nearest = more;
    s->nearest_room = room;
    return true;
}

static void copy_hits(const struct search *s, uint32_t found, struct search_result *result) {
    const struct search_request *q = s->request;
    const struct neighbor *nearest = s->scratch->nearest;
    for (uint32_t i = 0; i < found && (!q->has_threshold || nearest[i].distance <= q->distance_threshold); i++) {
        result->hits[result->count++] = (struct search_hit){
            .slot = nearest[i].slot, .distance = nearest[i].distance, .score = 1.0F - nearest[i].distance, .dense_rank = i + 1};
    }
}

bool search_library(const struct reading *rd, const struct search_request *request, struct search_scratch *scratch,
                    struct search_result *result, struct status *st) {
    struct search s = {.rd = rd, .request = request, .scratch = scratch};
    uint32_t found = 0;
    result->count = 0;
    result->candidates = 0;
    result->exact = true;
    if (rd->view.live_chunks == 0 || request->k == 0) {
        return true;
    }
    s.chunks = arena_chunk(rd->arena, 0);
    if (!nearest_room(scratch, request->k, st) ||
        !search_dense(&s, scratch->dense, request->k, scratch->nearest, &found, &result->exact, st)) {
        return false;
    }
    copy_hits(&s, found, result);
    result->candidates = s.candidates;
    return true;
}

bool search_library_batch(const struct reading *rd, const struct search_request *requests, size_t count,
                          struct search_scratch *scratch, struct search_result *results, struct status *st) {
    for (size_t i = 0; i < count; i++) {
        if (!search_library(rd, &requests[i], scratch, &results[i], st)) {
            return false;
        }
    }
    return true;
}
