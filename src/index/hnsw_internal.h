/*
 * hnsw_internal.h - what the files of the graph share: where words stand, a walk and its scratch, and the steps that searching
 * and building have in common. Only src/index/hnsw_*.c include it.
 *
 *   hnsw_graph.c     the memory: heads, blocks, levels, statistics
 *   hnsw_walk.c      scratch, the greedy descent, algorithm 2 (search of a layer)
 *   hnsw_search.c    algorithm 5
 *   hnsw_scan.c      search without the graph, by the codes
 *   hnsw_select.c    algorithm 4 (which neighbours), and how a full list makes room
 *   hnsw_build.c     algorithm 1, and the essay on where we leave the paper
 *   hnsw_validate.c  the validator
 */
#ifndef QUIRE_INDEX_HNSW_INTERNAL_H
#define QUIRE_INDEX_HNSW_INTERNAL_H

#include "index/hnsw.h"
#include "shm/atomics.h"

/* Words of a block behind the code. */
enum { WORD_SCALE, WORD_UPPER, WORD_LINKS };
#define SCALE_NONE 0x7fc00000U /* a NaN: there is no code yet. pairs with: HNSW_CODE */
#define UPPER_DEAD 0x80000000U
#define UPPER_OFFSET 0x7fffffffU

/* The longest list there can be: layer 0 of the largest M. */
enum { MAX_LINKS = HNSW_BASE_LINKS(HNSW_MAX_M) };

/* One list: the words of one node at one layer. room 0: the node has none there, or what its block says cannot be. */
struct link_list {
    uint32_t *words;
    uint32_t room;
};

/* Neighbours chosen for a node at one layer, nearest first. */
struct hnsw_choice {
    struct neighbor picked[HNSW_MAX_M];
    uint32_t count;
};

/* What distances are measured from. */
struct hnsw_probe {
    const float *vector; /* where the graph has no codes, and for measuring again */
    struct code_query code;
};

/* A met node, in a pool that is ascending by distance. The slot's two highest bits say what is known of it. */
#define MET_EXPANDED 0x80000000U /* its links were followed */
#define MET_REJECTED 0x40000000U /* it is no result */
#define MET_SLOT 0x3fffffffU

/* Owned by one thread; nothing in it outlives a call but the room. */
struct hnsw_scratch {
    uint8_t *tags; /* by slot: equal to `epoch` when the slot was met in this walk of a layer */
    size_t tag_room;
    uint8_t epoch;
    struct neighbor *pool; /* the walk's; `slot` with MET_ bits */
    size_t pool_room;
    struct neighbor *found; /* candidates being put in order */
    size_t found_room;
    int8_t *values;     /* of the two probes, 64-byte aligned */
    size_t values_room; /* of each */
    struct hnsw_probe query;
    struct hnsw_probe node;
    uint32_t batch[MAX_LINKS]; /* links of one node, and their distances to the query */
    float batch_distance[MAX_LINKS];
    struct hnsw_choice choice[HNSW_MAX_LEVEL + 1]; /* insertion: the new node's neighbours by layer */
};

/* One search or insertion under way. */
struct hnsw_walk {
    const struct hnsw_graph *g;
    const struct vector_rows *rows;
    struct hnsw_scratch *scratch;
    uint32_t slots; /* links at or above are not followed: their blocks and vectors may not be mapped here */
    uint32_t m;
    uint32_t bits;
    uint32_t dimension;
    uint32_t plane_bytes;
    size_t words_at; /* of the words in a block: behind the planes */
    size_t block_bytes;
    uint64_t distances; /* computed so far */
    bool spent;         /* a walk gave up at its budget */
};

/* Coarse: by 4 bits, where there are codes. Fine: by all the bits there are. Exact: by float32 rows. */
enum hnsw_precision { COARSE, FINE, EXACT };

/* Which met nodes are results (the others are only walked through), and how far the walk goes. */
struct hnsw_reach {
    uint32_t k;
    uint32_t ef;
    uint32_t pool;              /* met nodes kept at most */
    float spread;               /* hnsw_head.spread; 0: the pool alone ends the walk */
    float noise;                /* by how much coarse distances may be wrong; 0: the walk stays coarse */
    enum hnsw_precision finest; /* what the walk may come to */
    uint32_t below;
    uint64_t budget; /* distances at most */
    const uint64_t *matches;
    struct slot_filter visible;
};

/* The nearest nodes that a walk or a scan has met, ascending by coarse distance, and what decides how far it goes. */
struct hnsw_pool {
    struct neighbor *entries;
    uint32_t count;
    uint32_t room;
    uint32_t next;     /* no entry before it is waiting to be expanded */
    uint32_t rejected; /* entries that are no results */
    float limit;       /* nothing beyond is taken in or followed */
    float noise;       /* of the distances as they are measured now */
    enum hnsw_precision precision;
    const struct hnsw_reach *reach;
};

static inline uint8_t *hnsw_block(const struct hnsw_walk *w, uint32_t slot) {
    return w->g->base + (size_t)slot * w->block_bytes;
}
static inline uint32_t *hnsw_words(const struct hnsw_walk *w, uint32_t slot) {
    return (uint32_t *)(void *)(hnsw_block(w, slot) + w->words_at);
}

/* A damaged block must not lead a reader out of the map, so offsets are checked where they are used. */
static inline struct link_list hnsw_links(const struct hnsw_walk *w, uint32_t slot, uint32_t layer) {
    uint32_t *words = hnsw_words(w, slot);

    if (layer == 0) {
        return (struct link_list){words + WORD_LINKS, HNSW_BASE_LINKS(w->m)};
    }
    uint32_t level = hnsw_level_of(slot, w->m);
    uint64_t offset = load_relaxed_u32(&words[WORD_UPPER]) & UPPER_OFFSET;
    if (layer > level || offset + (uint64_t)level * w->m > w->g->upper_words) {
        return (struct link_list){NULL, 0};
    }
    return (struct link_list){w->g->upper + offset + (uint64_t)(layer - 1) * w->m, w->m};
}

static inline uint64_t hnsw_entry_of(uint32_t level, uint32_t slot) {
    return (uint64_t)level << 32 | slot;
}
static inline uint32_t hnsw_entry_slot(uint64_t entry) {
    return (uint32_t)(entry & UINT32_MAX);
}

/* Never above HNSW_MAX_LEVEL, whatever a damaged head says. */
static inline uint32_t hnsw_entry_level(uint64_t entry) {
    uint64_t level = entry >> 32;
    return level < HNSW_MAX_LEVEL ? (uint32_t)level : HNSW_MAX_LEVEL;
}

/* --- hnsw_walk.c --- */

struct hnsw_walk hnsw_walk_over(const struct hnsw_graph *g, const struct vector_rows *rows, uint32_t slots,
                                struct hnsw_scratch *scratch);
/* Makes room for the tags of `slots`, for a pool, and for the probes. False: no memory. */
bool hnsw_scratch_reserve(struct hnsw_walk *w, size_t pool);
/* The probes. A node's own is made of its code, where there are codes. */
void hnsw_probe_vector(struct hnsw_walk *w, struct hnsw_probe *p, const float *vector);
void hnsw_probe_node(struct hnsw_walk *w, struct hnsw_probe *p, uint32_t slot);
/* Distances from a probe to `count` slots. */
void hnsw_distances(struct hnsw_walk *w, const struct hnsw_probe *from, enum hnsw_precision precision, const uint32_t *slots,
                    uint32_t count, float *out);
/* A slot with its fine distance from the query. */
struct neighbor hnsw_measure(struct hnsw_walk *w, uint32_t slot);
/* Whether this walk of a layer has met the slot; marks it as met. */
bool hnsw_meet(struct hnsw_walk *w, uint32_t slot);
/* Reads a list up to its end into `out` (room for MAX_LINKS), links beyond w->slots included. Returns how many. */
uint32_t hnsw_read_links(struct link_list list, uint32_t *out);
/* An entry point for those who do not know the slot of the graph's own, because it was published after their count: a linked node
 * of the highest level among the slots below `below`. Rare (the entry point changes about log(n) times in the life of a graph),
 * so it may look at all levels. False: no linked node. */
bool hnsw_entry_within(const struct hnsw_walk *w, uint32_t below, uint64_t *ret);
/* Down from layer `from` to above layer `to`, at each going to the nearest link until none is nearer (ef = 1). */
uint32_t hnsw_descend(struct hnsw_walk *w, uint32_t at, uint32_t from, uint32_t to);
/* Measures scratch->batch[0..n) coarsely and takes what is near enough into the pool. */
void hnsw_offer_batch(struct hnsw_walk *w, struct hnsw_pool *p, uint32_t n);
bool hnsw_accepts(const struct hnsw_walk *w, const struct hnsw_reach *r, uint32_t slot);
/* Algorithm 2: walks a layer from `start`; what it met is left in scratch->pool, ascending by coarse distance. Returns how many. */
uint32_t hnsw_search_layer(struct hnsw_walk *w, uint32_t start, uint32_t layer, const struct hnsw_reach *reach);

/* --- hnsw_search.c --- */

struct hnsw_reach hnsw_reach_of(const struct hnsw_graph *g, const struct hnsw_request *q);
/* From the first `met` of the pool to the caller's heap: put in order with ever more exact distances. */
void hnsw_finish(struct hnsw_walk *w, const struct hnsw_request *q, uint32_t met, struct topk *best);
/* So many candidates are looked at again at most. */
uint32_t hnsw_candidates(const struct hnsw_request *q);

/* --- hnsw_select.c --- */

/* Algorithm 4: from `count` candidates, nearest first, up to M that are nearer to the base than to any one picked before. */
void hnsw_select(struct hnsw_walk *w, const struct neighbor *candidates, size_t count, struct hnsw_choice *ret);
/* Whether one of `count` picked nodes stands between the base and a candidate. */
bool hnsw_occluded(struct hnsw_walk *w, struct neighbor candidate, const struct neighbor *picked, uint32_t count);

enum hnsw_link_result {
    LINK_MADE,    /* the list holds the node */
    LINK_REFUSED, /* a neighbour of the holder stands between: the node is found through that one. Nothing changed */
    LINK_CROWDED  /* the holder can be no more nodes' parent. Nothing changed */
};
/* Puts `added` into the list of `holder` at a layer, shortening a full one. as_parent: the link must be kept for ever. The caller
 * guards `holder`. */
enum hnsw_link_result hnsw_link(struct hnsw_walk *w, uint32_t holder, uint32_t added, uint32_t layer, bool as_parent);
/* Whether `holder` is the parent of `slot` at a layer. */
bool hnsw_is_parent(const struct hnsw_walk *w, uint32_t holder, uint32_t slot, uint32_t layer);

#endif
