/*
 * hnsw_graph.c - the memory of a graph: its head, the blocks of its nodes, how high a node reaches, and figures about it all.
 *
 * A level is drawn from a hash of the slot number, with integers only: floor(-ln(U) / ln(M)) >= k is the same as U <= M^-k, and
 * with U = (h + 1) / 2^64 that is h < 2^64 / M^k. So a level never depends on a machine's logarithm, and the committer, the
 * indexers and the validator agree for ever on how much room a node has in `upper`.
 */
#include "index/hnsw_internal.h"

#include "base/hash.h"

#include <string.h>

/* "QUIREGRF", read as a little-endian word; a change of the layout raises the format. */
static const uint64_t HEAD_MAGIC = 0x4652474552495551ULL;
static const uint32_t HEAD_FORMAT = 2;
/* Part of the format: another seed draws other levels. */
static const uint64_t LEVEL_SEED = 0x51756972654c766cULL;

enum { BLOCK_ALIGNMENT = 64 };

_Static_assert(sizeof(struct hnsw_head) <= HNSW_HEAD_BYTES, "the head is one page");

size_t hnsw_block_bytes(const struct hnsw_shape *shape) {
    size_t bytes =
        code_bytes(shape->dimension, shape->bits) + (WORD_LINKS + (size_t)HNSW_BASE_LINKS(shape->m)) * sizeof(uint32_t);
    return (bytes + BLOCK_ALIGNMENT - 1) / BLOCK_ALIGNMENT * BLOCK_ALIGNMENT;
}

uint32_t hnsw_level_of(uint32_t slot, uint32_t m) {
    uint8_t key[4] = {(uint8_t)slot, (uint8_t)(slot >> 8), (uint8_t)(slot >> 16), (uint8_t)(slot >> 24)};
    uint64_t drawn = hash64(LEVEL_SEED, key, sizeof key);
    uint64_t limit = UINT64_MAX / m;
    uint32_t level = 0;

    while (level < HNSW_MAX_LEVEL && drawn < limit) {
        limit /= m;
        level++;
    }
    return level;
}

uint64_t hnsw_upper_words_for(uint32_t first, uint32_t end, uint32_t m) {
    uint64_t words = 0;

    for (uint32_t slot = first; slot < end; slot++) {
        words += (uint64_t)hnsw_level_of(slot, m) * m;
    }
    return words;
}

void hnsw_head_init(struct hnsw_head *head, const struct hnsw_shape *shape) {
    memset(head, 0, HNSW_HEAD_BYTES);
    head->magic = HEAD_MAGIC;
    head->format = HEAD_FORMAT;
    head->m = shape->m;
    head->ef_construction = shape->ef_construction;
    head->dimension = shape->dimension;
    head->bits = shape->bits;
    head->block_bytes = (uint32_t)hnsw_block_bytes(shape);
    head->entry = HNSW_NO_ENTRY;
}

bool hnsw_head_valid(const struct hnsw_head *head) {
    const struct hnsw_shape shape = {head->m, head->ef_construction, head->dimension, head->bits};

    return head->magic == HEAD_MAGIC && head->format == HEAD_FORMAT && head->m >= HNSW_MIN_M && head->m <= HNSW_MAX_M &&
           head->ef_construction > 0 && head->dimension > 0 && head->dimension <= HNSW_MAX_DIMENSION &&
           (head->bits == 0 || head->bits == 4 || head->bits == 8) && head->block_bytes == hnsw_block_bytes(&shape);
}

static void clear_words(uint32_t *words, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        words[i] = HNSW_NONE;
    }
}

void hnsw_node_init(const struct hnsw_graph *g, uint32_t slot) {
    struct hnsw_walk w = hnsw_walk_over(g, NULL, slot + 1, NULL);
    uint32_t *own = hnsw_words(&w, slot);
    uint64_t words = (uint64_t)hnsw_level_of(slot, w.m) * w.m;
    uint64_t offset = g->head->upper_used;

    /* Plain stores: nobody knows the slot until the committer publishes it, and that publication orders them. */
    memset(hnsw_block(&w, slot), 0, w.block_bytes);
    own[WORD_SCALE] = SCALE_NONE;
    own[WORD_UPPER] = (uint32_t)offset;
    clear_words(own + WORD_LINKS, HNSW_BASE_LINKS(w.m));
    clear_words(g->upper + offset, words);
    store_relaxed_u64(&g->head->upper_used, offset + words);
}

void hnsw_encode(const struct hnsw_graph *g, const struct vector_rows *rows, uint32_t slot) {
    struct hnsw_walk w = hnsw_walk_over(g, rows, slot + 1, NULL);
    uint32_t *scale_word = &hnsw_words(&w, slot)[WORD_SCALE];

    if (w.bits != 0 && load_relaxed_u32(scale_word) == SCALE_NONE) {
        float scale = code_encode(vector_row(rows, slot), w.dimension, w.bits, hnsw_block(&w, slot));
        uint32_t word;
        memcpy(&word, &scale, sizeof word);
        /* pairs with: HNSW_CODE. Without it a scan could read the code half-written. */
        store_release_u32(scale_word, word);
    }
}

void hnsw_node_died(const struct hnsw_graph *g, uint32_t slot) {
    struct hnsw_walk w = hnsw_walk_over(g, NULL, slot + 1, NULL);

    (void)or_release_u32(&hnsw_words(&w, slot)[WORD_UPPER], UPPER_DEAD);
}

bool hnsw_is_linked(const struct hnsw_graph *g, uint32_t slot) {
    struct hnsw_walk w = hnsw_walk_over(g, NULL, slot + 1, NULL);
    uint64_t entry = load_acquire_u64(&g->head->entry); /* pairs with: HNSW_ENTRY */

    return (entry != HNSW_NO_ENTRY && hnsw_entry_slot(entry) == slot) ||
           load_acquire_u32(&hnsw_words(&w, slot)[WORD_LINKS]) != HNSW_NONE; /* pairs with: HNSW_LINK */
}

const uint8_t *hnsw_code(const struct hnsw_graph *g, uint32_t slot, float *ret_scale) {
    struct hnsw_walk w = hnsw_walk_over(g, NULL, slot + 1, NULL);

    memcpy(ret_scale, &hnsw_words(&w, slot)[WORD_SCALE], sizeof *ret_scale);
    return hnsw_block(&w, slot);
}

static uint32_t list_length(struct link_list list) {
    uint32_t links[MAX_LINKS];
    return hnsw_read_links(list, links);
}

static void count_node(const struct hnsw_walk *w, uint32_t slot, uint32_t degree, struct hnsw_statistics *out) {
    uint32_t level = hnsw_level_of(slot, w->m);

    out->nodes++;
    out->links += degree;
    out->isolated += degree == 0;
    out->max_degree = degree > out->max_degree ? degree : out->max_degree;
    for (uint32_t layer = 0; layer <= level && layer <= HNSW_MAX_LEVEL; layer++) {
        out->nodes_at_level[layer]++;
        out->levels = layer + 1 > out->levels ? layer + 1 : out->levels;
        if (layer > 0) {
            out->links += list_length(hnsw_links(w, slot, layer));
        }
    }
}

void hnsw_statistics(const struct hnsw_graph *g, uint32_t slots, struct hnsw_statistics *out) {
    struct hnsw_walk w = hnsw_walk_over(g, NULL, slots, NULL);
    uint64_t entry = load_acquire_u64(&g->head->entry); /* pairs with: HNSW_ENTRY, so that the entry point's links are counted */
    uint64_t base_links = 0;

    *out = (struct hnsw_statistics){0};
    for (uint32_t slot = 0; slot < slots; slot++) {
        uint32_t degree = list_length(hnsw_links(&w, slot, 0));
        bool is_entry = entry != HNSW_NO_ENTRY && hnsw_entry_slot(entry) == slot;
        if (degree > 0 || is_entry) {
            count_node(&w, slot, degree, out);
            base_links += degree;
        }
    }
    if (out->nodes == 1) {
        out->isolated = 0;
    }
    out->mean_degree = out->nodes > 0 ? (double)base_links / (double)out->nodes : 0.0;
}
