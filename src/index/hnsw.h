/*
 * hnsw.h - the graph of Malkov and Yashunin (2018, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
 * Small World graphs") over memory that somebody else owns: usually two mapped files, `graph.<g>.mmap` and `upper.<g>.mmap`.
 *
 * It is walked on quantized codes (codes.h) that lie beside the links, and the best candidates are measured again with float32. Everything is slot numbers
 * and offsets, never a pointer, so every process can map it anywhere. Readers take no lock.
 *
 * Memory (all words uint32_t, little-endian, naturally aligned):
 *   head    struct hnsw_head, one 4 KiB page at the begin of graph.<g>.mmap
 *   base    after the head: a block per slot, a multiple of 64 bytes: the code's planes (none where bits is 0: then float32 rows are walked on), its
 *           scale (float), upper offset with the dead hint in bit 31, then HNSW_BASE_LINKS(M) links of layer 0. With 384 dimensions and M 16 that is
 *           512 bytes at 8 bits, 320 at 4
 *   upper   in upper.<g>.mmap: M links per layer 1..level of a node, layer 1 first, at the node's upper offset (in words)
 * A list of links ends at the first HNSW_NONE. Lists are rewritten in place, one aligned word at a time with release stores; a reader
 * (acquire loads) may meet old and new neighbours mixed, or one twice, and every one is a valid, wholly initialised node, so that is
 * harmless: it only walks a slightly other graph. A reader that gets a link >= the slots it knows (its view's count) ignores it.
 *
 * The first link of a list is the node's parent at that layer, for ever, and the parent's list holds the node for ever. So each layer is
 * connected at every moment, whatever the neighbour selection drops (hnsw_select.c).
 *
 * A node's block is initialised (hnsw_node_init) by the committer before the slot is published; its level is drawn from a hash of
 * the slot number, so the room in `upper` is known when room is reserved. Linking (hnsw_insert) happens later, when the vector is there, by several indexer
 * threads of the supervisor at once, each guarding a node whose list it changes with `struct hnsw_guard` (index itself knows no lock); it writes the code first.
 *
 * The dead hint is set when a chunk is deleted, before that is published. A reader asks `visible` (a look at the chunk's row, another cache line) only where it is set, or
 * the code is that of a zero vector, of which the row knows whether it counts.
 */
#ifndef QUIRE_INDEX_HNSW_H
#define QUIRE_INDEX_HNSW_H

#include "index/codes.h"
#include "index/topk.h"
#include "index/vectors.h"

#define HNSW_NONE UINT32_MAX
#define HNSW_MAX_DIMENSION 65536
#define HNSW_MAX_LEVEL 15
#define HNSW_MIN_M 4
#define HNSW_MAX_M 96
#define HNSW_BASE_LINKS(m) (2 * (m)-2)
#define HNSW_HEAD_BYTES 4096
#define HNSW_DEFAULT_M 16
#define HNSW_DEFAULT_EF_CONSTRUCTION 100
#define HNSW_DEFAULT_EF_SEARCH 64
#define HNSW_DEFAULT_RERANK 16

/* written by: the committer at creation (all but entry, linked, spread and samples); indexers change `entry` (compare and swap, release). */
struct hnsw_head {
    uint64_t magic;
    uint32_t format;
    uint32_t m;
    uint32_t ef_construction;
    uint32_t dimension;
    uint32_t bits; /* of a code: 0, 4, 8 */
    uint32_t block_bytes;
    uint64_t entry; /* level << 32 | slot of the entry point; HNSW_NO_ENTRY: empty graph. pairs with: HNSW_ENTRY */
    uint64_t
        linked; /* every slot below is linked or will never be (deleted before); pairs with: HNSW_LINKED. Written by the owner of
                       * the indexer's queue, read by searches, which scan [linked, count) exactly */
    uint64_t upper_used; /* words of `upper` in use; the committer's */
    /* How fast distances grow with ranks, as insertions see it: distance of the j-th neighbour ~ j^spread. A running mean, by relaxed loads and stores of the
     * indexers (a lost update does no harm); the reciprocal of half the local intrinsic dimension. */
    float spread;
    uint32_t samples; /* behind the mean, up to HNSW_SPREAD_WINDOW */
};
#define HNSW_NO_ENTRY UINT64_MAX
#define HNSW_SPREAD_WINDOW 4096

/* What a graph is made for. */
struct hnsw_shape {
    uint32_t m;
    uint32_t ef_construction;
    uint32_t dimension;
    uint32_t bits;
};

/* The graph as one process sees it. Pointers are valid for this call only (the caller takes them afresh from its maps). */
struct hnsw_graph {
    struct hnsw_head *head; /* readers: mapped read-only */
    uint8_t *base;
    uint32_t *upper;
    uint64_t upper_words; /* mapped */
};

size_t hnsw_block_bytes(const struct hnsw_shape *shape);
/* The level of a slot: floor(-ln(U) * 1/ln(M)), U from a hash of the slot; at most HNSW_MAX_LEVEL. */
uint32_t hnsw_level_of(uint32_t slot, uint32_t m);
/* Words of `upper` that slots [first, end) need. */
uint64_t hnsw_upper_words_for(uint32_t first, uint32_t end, uint32_t m);
void hnsw_head_init(struct hnsw_head *head, const struct hnsw_shape *shape);
/* Also whether block_bytes is what the other members say. */
bool hnsw_head_valid(const struct hnsw_head *head);
/* Writes slot's block with no links and takes its room in `upper` (upper_used). Room must have been reserved. */
void hnsw_node_init(const struct hnsw_graph *g, uint32_t slot);
/* Writes the slot's code, when it has none yet and the graph has codes. Its vector is there, and nobody has been told of it yet: whoever writes a vector does this
 * before he says that it is there. (A graph that is attached later misses it until the slot is linked.) */
void hnsw_encode(const struct hnsw_graph *g, const struct vector_rows *rows, uint32_t slot);
/* Sets the dead hint. The committer's, before it publishes the deletion. */
void hnsw_node_died(const struct hnsw_graph *g, uint32_t slot);
/* Whether the dead hint is set, for checks. */
bool hnsw_node_is_dead(const struct hnsw_graph *g, uint32_t slot);
/* Whether the node has links at layer 0, or is the entry point. For the owner of the indexer's queue. */
bool hnsw_is_linked(const struct hnsw_graph *g, uint32_t slot);
/* The code of a linked node, for exact scans by codes and for checks. bits must not be 0. */
const uint8_t *hnsw_code(const struct hnsw_graph *g, uint32_t slot, float *ret_scale);

struct hnsw_guard {
    void (*enter)(void *ctx, uint32_t slot); /* exclusive for this slot's lists; never two at once by one thread */
    void (*leave)(void *ctx, uint32_t slot);
    void *ctx;
};

/* Per-thread working memory (visit tags, pools); grows as needed, so a call can fail for memory and changes nothing then. */
struct hnsw_scratch;
struct hnsw_scratch *hnsw_scratch_new(void);
void hnsw_scratch_free(struct hnsw_scratch *s);

/* Algorithm 1. Links slot (initialised, with a vector); a slot that is linked already is left alone. `slots`: number of initialised slots.
 * guard NULL: nobody else inserts meanwhile. False: no memory, or so much of what is linked around it lies beyond `slots` that there is no
 * place for it (take a fresh count); nothing has changed then. */
bool hnsw_insert(const struct hnsw_graph *g, const struct vector_rows *rows, uint32_t slots, uint32_t slot,
                 uint32_t ef_construction, const struct hnsw_guard *guard, struct hnsw_scratch *scratch);

struct hnsw_request {
    const float *query;
    uint32_t slots;             /* that the view counts; links beyond are ignored */
    uint32_t below;             /* only such slots are results: the tail is scanned by the caller */
    uint32_t k;                 /* so many accepted ones are wanted */
    uint32_t ef;                /* the walk goes as far as the ef-th neighbour is expected; 0 is not allowed */
    uint64_t budget;            /* a walk of more distances gives up; 0: none */
    uint32_t rerank;            /* so many (k at least) are measured with float32; 0: none, they are ranked by their codes */
    const uint64_t *matches;    /* bit per slot; NULL: all */
    uint64_t match_count;       /* bits set */
    struct slot_filter visible; /* asked for slots with the dead hint or a zero code; accepts NULL: all */
};

/* Algorithm 5, see hnsw_search.c for where it leaves the paper. Offers accepted slots to best (which wants k). Slots that are not accepted are walked through but not
 * offered, and the walk goes on until k accepted ones are found or its room or budget is exhausted: then it may come home with fewer (a spent budget: with none),
 * and the caller scans.
 * Returns distances computed; UINT64_MAX when there was no memory. */
uint64_t hnsw_search(const struct hnsw_graph *g, const struct vector_rows *rows, const struct hnsw_request *request,
                     struct hnsw_scratch *scratch, struct topk *best);

/* Exactly the k nearest accepted slots of [first, below) by float32 (rerank and ef are not looked at), for several queries in one pass over the codes: best[i] belongs to requests[i]; all have
 * the same slots and below. By codes first, then in float32 whatever their error bounds leave over, and slots that have no code yet. The graph has codes.
 * visible is asked for slots with the dead hint or a zero code, and for all from `linked` on: those may have no vector. */
#define HNSW_SCAN_QUERIES 16
uint64_t hnsw_scan_exact(const struct hnsw_graph *g, const struct vector_rows *rows, const struct hnsw_request *requests,
                         uint32_t count, uint32_t first, uint32_t linked, struct hnsw_scratch *scratch, struct topk *best);

/* After a crash: takes out of the graph what is not sound (hnsw_repair.c), so that the validator finds nothing, and sets entry, linked and upper_used. `upper` holds the words
 * of all slots. Slots that has_vector does not accept have no links afterwards, the others have the code of their vector. False: no memory; then the graph is not to
 * be used. Run it while nobody else is at work, on as many threads as there are cores. */
struct hnsw_repair_report {
    uint64_t dropped; /* nodes that had links and have none now */
    uint64_t recoded; /* nodes whose code was not that of their vector */
};
bool hnsw_repair(const struct hnsw_graph *g, const struct vector_rows *rows, uint32_t slots, const struct slot_filter *has_vector,
                 struct hnsw_repair_report *ret);

struct hnsw_statistics {
    uint32_t levels;
    uint64_t nodes; /* linked */
    uint64_t nodes_at_level[HNSW_MAX_LEVEL + 1];
    uint64_t links;
    double mean_degree; /* layer 0 */
    uint32_t max_degree;
    uint64_t isolated; /* linked nodes without a link, where there is more than one node */
};
void hnsw_statistics(const struct hnsw_graph *g, uint32_t slots, struct hnsw_statistics *out);

/* The validator: links in range, no self-links, no doubles, nothing behind the end of a list, upper offsets within bounds
 * and disjoint, neighbours at a layer reach that layer, each node in the list of its parent, no links above the entry point's level, everything linked reachable at layer 0 from the entry point (reported, not an error: *ret_unreachable).
 * Returns the number of faults (UINT64_MAX: no memory to check); the first is described in detail. Run it while no indexer is at work. */
uint64_t hnsw_validate(const struct hnsw_graph *g, uint32_t slots, uint64_t *ret_unreachable, char detail[160]);
/* Codes against the vectors they were made of: linked nodes among [first, end) whose code or scale is another. */
uint64_t hnsw_validate_codes(const struct hnsw_graph *g, const struct vector_rows *rows, uint32_t first, uint32_t end,
                             char detail[160]);

#endif
