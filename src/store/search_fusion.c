/*
 * search_fusion.c - two lists of candidates become one.
 *
 *   reciprocal ranks   a slot scores 1 / (constant + rank) on each side that has it (Cormack, Clarke and Buettcher 2009). Only ranks count, so the two
 *                      sides need no common scale
 *   weighted           weight * dense + (1 - weight) * lexical, each brought to 0..1: nearness from that of the farthest candidate to that of the nearest, BM25
 *                      from 0, which is what a text without any of the words has, to what no text reaches, however often it has them all. A slot that
 *                      a side does not have gets 0 from it; but see let_words_speak() in search.c
 *
 * BM25 is not measured by its best candidate, because the best may be bad: where a question and its answer share no words, some text has one of them by
 * chance, and would count as much as one that has them all. (bench/retrieval, questions: MRR 0.26 by the best, 0.43 by the ceiling; packages: 0.842
 * and 0.838.) Bruch, Gai and Ingber 2023 compare such bounds.
 *
 * Candidates that a side finds equally good share a rank, so what they score does not hang on the order in which they were written.
 */
#include "store/search_internal.h"

#include <math.h>
#include <stdlib.h>

#define SLOT_MAP_LEAST_ROOM 64
#define SLOT_MAP_MULTIPLIER 2654435769U /* 2^32 / the golden ratio: Knuth's multiplicative hashing, TAOCP 6.4 */

bool slot_map_reset(struct slot_map *m, size_t entries, struct status *st) {
    size_t room = m->room > 0 ? m->room : SLOT_MAP_LEAST_ROOM;
    while (room < 2 * entries) {
        room *= 2;
    }
    if (room > m->room) {
        free(m->keys);
        m->room = 0;
        m->keys = (uint32_t *)malloc(2 * room * sizeof m->keys[0]);
        if (m->keys == NULL) {
            return status_no_memory(st);
        }
        m->values = m->keys + room;
        m->room = room;
    }
    memset(m->keys, 0xff, m->room * sizeof m->keys[0]); /* ROW_NONE each */
    return true;
}

void slot_map_fini(struct slot_map *m) {
    free(m->keys);
    *m = (struct slot_map){0};
}

uint32_t slot_map_put(struct slot_map *m, uint32_t key, uint32_t value) {
    size_t at = (uint32_t)(key * SLOT_MAP_MULTIPLIER) & (m->room - 1);
    while (m->keys[at] != ROW_NONE) {
        if (m->keys[at] == key) {
            return m->values[at];
        }
        at = (at + 1) & (m->room - 1);
    }
    m->keys[at] = key;
    m->values[at] = value;
    return value;
}

/* From a side's least and greatest value to 0..1. */
struct span {
    float least;
    float greatest;
};
static float within(struct span s, float value) {
    return s.greatest > s.least ? (value - s.least) / (s.greatest - s.least) : 1.0F;
}

static float reciprocal(const struct fusion *f, uint32_t rank) {
    return 1.0F / (float)(f->constant + rank);
}

bool fuse_candidates(const struct fusion *f, const struct neighbor *nearest, uint32_t nearest_count, const struct scored *scored,
                     uint32_t scored_count, float ceiling, struct slot_map *map, struct search_hit *hits, uint32_t *ret_count,
                     struct status *st) {
    bool weighted = f->method == FUSION_WEIGHTED;
    uint32_t count = 0;
    uint32_t rank = 0;
    if (!slot_map_reset(map, (size_t)nearest_count + scored_count, st)) {
        return false;
    }
    const struct span distances = {.least = nearest_count == 0 ? 0 : -nearest[nearest_count - 1].distance,
                                   .greatest = nearest_count == 0 ? 0 : -nearest[0].distance};
    for (uint32_t i = 0; i < nearest_count; i++) {
        rank = i > 0 && nearest[i].distance == nearest[i - 1].distance ? rank : i + 1;
        (void)slot_map_put(map, nearest[i].slot, count);
        hits[count++] =
            (struct search_hit){.slot = nearest[i].slot,
                                .distance = nearest[i].distance,
                                .score = weighted ? f->weight * within(distances, -nearest[i].distance) : reciprocal(f, rank),
                                .dense_rank = rank};
    }
    const float best = scored_count == 0 ? 0 : scored[0].score;
    const struct span scores = {.least = 0, .greatest = ceiling > best ? ceiling : best};
    for (uint32_t i = 0; i < scored_count; i++) {
        rank = i > 0 && scored[i].score == scored[i - 1].score ? rank : i + 1;
        uint32_t at = slot_map_put(map, scored[i].slot, count);
        if (at == count) {
            hits[count++] = (struct search_hit){.slot = scored[i].slot, .distance = NAN};
        }
        hits[at].score += weighted ? (1.0F - f->weight) * within(scores, scored[i].score) : reciprocal(f, rank);
        hits[at].lexical_score = scored[i].score;
        hits[at].lexical_rank = rank;
    }
    *ret_count = count;
    return true;
}
