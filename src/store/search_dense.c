/*
 * search_dense.c - the dense side: the nearest chunks of one view.
 *
 *   graph    Algorithm 5 over the slots below the watermark, then an exact scan of the tail above it, into one heap
 *   scan     of all that is visible and matches, where that is cheap (few chunks, few matches, or many wanted), asked for, or there is no graph
 *
 * A scan reads the codes in the graph's blocks and measures in float32 what their error bounds leave open (hnsw_scan.c).
 *
 * The watermark (hnsw_head.linked) is read once, before the walk: what is linked meanwhile stands above it and is scanned. It
 * moves past a deleted slot only when no pinned view still holds it (link_queue.c), so every chunk of this view is either in
 * the graph or in the tail.
 *
 * A view that is older than the newest links ignores what it does not count, and may miss what lies behind it. When the walk comes
 * home with fewer than are wanted although more may match, the scan answers instead: never fewer than k where k match.
 *
 * A text that the model knows nothing of has a zero vector, which is no nearer to one query than to another. Such a chunk is none of the results, as if it had no
 * vector; words find it. It is known by its row's checksum, which is that of zeros.
 *
 * Equal distances are ordered by chunk id, and a scan also chooses by id which of them are among the k, so pages of one result
 * fit together: it looks for k + 1, and when the last two are equal it goes over the rows again for the smallest ids at that
 * distance. The graph chooses among its ef candidates likewise; being approximate, it promises no more.
 */
#include "store/search_internal.h"

#include "base/crc32c.h"
#include "index/distance.h"
#include "index/hnsw.h"
#include "index/scan.h"
#include "shm/atomics.h"

#include <math.h>

#include <stdlib.h>

#define SEARCH_SCAN_CHUNKS 2000 /* up to so many a scan is as fast as the graph, and exact */
#define CODE_SCAN_SLOTS 32      /* fewer are sooner measured in float32 at once */
/* With a filter: a walk measures about so many nodes for each that it follows; it is begun when that is likely to be less than this share of what matches. One that takes
 * so many times what was expected is far from all that matches, and may have all of the others to go through: it gives up, and what matches is scanned. */
#define WALK_DISTANCES 24
#define WALK_PERCENT 65
#define WALK_PATIENCE 3
#define WALK_LEAST_SHARE 8
#define SEARCH_SCAN_SHARE 16 /* a walk with ef candidates looks at some 16 ef rows: with fewer chunks than that, scan */

/* The answer to one request of a batch, found in a pass for many. */
struct shared_answer {
    const struct search_request *request;
    struct neighbor *heap; /* room for request->k + 1 */
    size_t found;          /* ascending */
};

struct dense_scratch {
    struct hnsw_scratch *walk;
    struct neighbor *heap;
    size_t heap_room;
    struct shared_answer *shared;
    size_t shared_count;
};

/* A dense search under way. */
struct dense {
    struct search *search;
    struct dense_scratch *scratch;
    const float *query;
    uint32_t want;
    struct vector_rows rows;
    uint32_t zeros_crc; /* of a zero vector */
    struct slot_filter filter;
    size_t found; /* in scratch->heap, ascending */
};

struct dense_scratch *dense_scratch_new(void) {
    struct dense_scratch *s = (struct dense_scratch *)calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    s->walk = hnsw_scratch_new();
    if (s->walk == NULL) {
        free(s);
        return NULL;
    }
    return s;
}

void dense_scratch_free(struct dense_scratch *s) {
    if (s == NULL) {
        return;
    }
    dense_share_end(s);
    hnsw_scratch_free(s->walk);
    free(s->heap);
    free(s);
}

static bool heap_room(struct dense_scratch *s, size_t room) {
    if (room <= s->heap_room) {
        return true;
    }
    struct neighbor *more = (struct neighbor *)realloc(s->heap, room * sizeof(struct neighbor));
    if (more == NULL) {
        return false;
    }
    s->heap = more;
    s->heap_room = room;
    return true;
}

static uint32_t crc_of_zeros(uint32_t dimension) {
    static const float zeros[64];
    uint32_t crc = 0;
    for (uint32_t left = dimension; left > 0;) {
        uint32_t some = left < 64 ? left : 64;
        crc = crc32c(crc, zeros, some * sizeof zeros[0]);
        left -= some;
    }
    return crc;
}

/* Its checksum says so; another vector may have the same. */
static bool is_zero(const struct vector_rows *rows, uint32_t slot) {
    const float *row = vector_row(rows, slot);
    uint32_t i = 0;
    while (i < rows->dimension && row[i] == 0) {
        i++;
    }
    return i == rows->dimension;
}

bool search_has_vector(const struct search *s, uint32_t slot) {
    /* pairs with: CHUNK_STATE (a vector is read only once it is whole) */
    return (load_acquire_u32(&s->chunks[slot].state) & CHUNK_HAS_VECTOR) != 0;
}

static bool accepts(const void *ctx, uint32_t slot) {
    const struct dense *d = (const struct dense *)ctx;
    return search_has_vector(d->search, slot) && search_visible(d->search, slot) &&
           (d->search->chunks[slot].vector_crc != d->zeros_crc || !is_zero(&d->rows, slot));
}

static float distance_of(const struct dense *d, uint32_t slot) {
    return cosine_distance(dot_product(d->query, vector_row(&d->rows, slot), d->rows.dimension));
}

float search_distance(const struct search *s, uint32_t slot) {
    const struct vector_rows rows = arena_vectors(s->rd->arena, &s->rd->view);
    if (rows.base == NULL || s->request->query == NULL || !search_has_vector(s, slot) || is_zero(&rows, slot)) {
        return NAN;
    }
    return cosine_distance(dot_product(s->request->query, vector_row(&rows, slot), rows.dimension));
}

/* --- ties --- */

static int compare_neighbors_by_id(const void *a, const void *b, void *ctx) {
    return search_compare_ids((const struct search *)ctx, ((const struct neighbor *)a)->slot, ((const struct neighbor *)b)->slot);
}

/* The heap is ascending by distance; each run of equal distances is put in the order of ids. */
static void order_ties(struct dense *s) {
    struct neighbor *heap = s->scratch->heap;
    for (size_t begin = 0, end = 0; begin < s->found; begin = end) {
        for (end = begin + 1; end < s->found && heap[end].distance == heap[begin].distance; end++) {
        }
        if (end - begin > 1) {
            qsort_r(&heap[begin], end - begin, sizeof heap[0], compare_neighbors_by_id, s->search);
        }
    }
}

/* Puts slot into the ascending run[0, *count), which keeps the `most` smallest ids. */
static void keep_smallest_id(const struct search *s, struct neighbor *run, size_t *count, size_t most, struct neighbor n) {
    if (*count == most && search_compare_ids(s, n.slot, run[most - 1].slot) > 0) {
        return;
    }
    size_t low = 0;
    size_t high = *count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (search_compare_ids(s, run[middle].slot, n.slot) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *count += *count < most ? 1 : 0;
    memmove(&run[low + 1], &run[low], (*count - 1 - low) * sizeof run[0]);
    run[low] = n;
}

/* After a scan for k + 1 whose last two are equally far: chooses by id among all rows at that distance. */
static void choose_among_ties(struct dense *s, size_t k) {
    struct neighbor *heap = s->scratch->heap;
    float distance = heap[k - 1].distance;
    size_t nearer = k - 1;
    while (nearer > 0 && heap[nearer - 1].distance == distance) {
        nearer--;
    }
    size_t count = 0;
    for (uint32_t slot = 0; slot < s->search->rd->view.chunk_slots; slot++) {
        if (accepts(s, slot) && distance_of(s, slot) == distance) {
            keep_smallest_id(s->search, &heap[nearer], &count, k - nearer, (struct neighbor){distance, slot});
        }
    }
    s->found = nearer + count;
}

/* --- the two ways --- */

/* The watermark: slots below it are found through the graph. 0: a supervisor's own reading has no graph mapped. */
static uint32_t linked_slots(const struct search *s) {
    const struct library_view *view = &s->rd->view;
    if (view->graph_generation == 0 || s->rd->arena->graph_generation != view->graph_generation) {
        return 0;
    }
    struct hnsw_graph graph = arena_graph(s->rd->arena);
    /* pairs with: HNSW_LINKED. Without it the walk could meet a node below the watermark whose links it does not see yet. */
    uint64_t linked = load_acquire_u64(&graph.head->linked);
    return linked < view->chunk_slots ? (uint32_t)linked : view->chunk_slots;
}

static bool has_codes(const struct search *s) {
    const struct library_view *view = &s->rd->view;
    return view->graph_generation != 0 && s->rd->arena->graph_generation == view->graph_generation &&
           arena_graph(s->rd->arena).head->bits != 0;
}

/* How many nodes a walk measures when the filter has nothing to do with the query. */
static uint64_t expected_distances(const struct dense *d, uint32_t ef) {
    uint64_t matches = d->search->matches != NULL ? d->search->matches->count : d->search->rd->view.chunk_slots;
    uint64_t rank = (uint64_t)d->want * d->search->rd->view.chunk_slots / (matches + 1); /* of the last result among all nodes */
    uint64_t followed = rank + rank / 4 > ef ? rank + rank / 4 : ef;
    return followed * WALK_DISTANCES;
}

static struct hnsw_request request_of(const struct dense *d, uint32_t below) {
    const struct slot_set *matches = d->search->matches;
    return (struct hnsw_request){.query = d->query,
                                 .slots = d->search->rd->view.chunk_slots,
                                 .below = below,
                                 .k = d->want,
                                 .rerank = d->search->rd->view.rerank,
                                 .matches = matches != NULL ? matches->words : NULL,
                                 .match_count = matches != NULL ? matches->count : 0,
                                 .visible = d->filter};
}

/* Offers exactly what a float32 scan of the slots from `first` on would find: by codes, where the graph has them. */
static bool scan_from(struct dense *d, uint32_t first, uint32_t want, struct topk *best, struct status *st) {
    uint32_t slots = d->search->rd->view.chunk_slots;
    if (!has_codes(d->search) || slots - first < CODE_SCAN_SLOTS) {
        d->search->candidates += scan_exact(&d->rows, first, slots, d->query, &d->filter, best);
        return true;
    }
    struct hnsw_graph graph = arena_graph(d->search->rd->arena);
    struct hnsw_request request = request_of(d, slots);
    request.k = want;
    uint64_t measured = hnsw_scan_exact(&graph, &d->rows, &request, 1, first, linked_slots(d->search), d->scratch->walk, best);
    if (measured == UINT64_MAX) {
        return status_no_memory(st);
    }
    d->search->candidates += measured;
    return true;
}

/* Takes the answer out of a batch's pass, when it is there. */
static bool take_shared(struct dense *d) {
    for (size_t i = 0; i < d->scratch->shared_count; i++) {
        const struct shared_answer *a = &d->scratch->shared[i];
        if (a->request == d->search->request && d->want == a->request->k) {
            memcpy(d->scratch->heap, a->heap, a->found * sizeof a->heap[0]);
            d->found = a->found;
            return true;
        }
    }
    return false;
}

static bool search_scan(struct dense *d, struct status *st) {
    size_t k = d->want;
    if (!heap_room(d->scratch, k + 1)) {
        return status_no_memory(st);
    }
    if (!take_shared(d)) {
        struct topk best;
        topk_init(&best, d->scratch->heap, k + 1);
        if (!scan_from(d, 0, d->want + 1, &best, st)) {
            return false;
        }
        d->found = topk_finish(&best);
    }
    const struct neighbor *heap = d->scratch->heap;
    if (d->found > k && heap[k].distance == heap[k - 1].distance) {
        choose_among_ties(d, k);
    }
    return true;
}

/* d->found stays 0 when the walk gave up. */
static bool search_graph(struct dense *d, uint32_t ef, uint32_t below, struct status *st) {
    if (!heap_room(d->scratch, d->want)) {
        return status_no_memory(st);
    }
    struct hnsw_graph graph = arena_graph(d->search->rd->arena);
    struct hnsw_request request = request_of(d, below);
    request.ef = ef;
    if (d->search->matches != NULL) {
        uint64_t patience = WALK_PATIENCE * expected_distances(d, ef);
        uint64_t least =
            d->search->matches->count / WALK_LEAST_SHARE; /* what is little beside a scan is not worth giving up for */
        request.budget = patience > least ? patience : least;
    }
    struct topk best;
    topk_init(&best, d->scratch->heap, d->want);
    uint64_t walked = hnsw_search(&graph, &d->rows, &request, d->scratch->walk, &best);
    if (walked == UINT64_MAX) {
        return status_no_memory(st);
    }
    d->search->candidates += walked;
    if (request.budget != 0 && walked > request.budget) {
        return true;
    }
    if (!scan_from(d, below, d->want, &best, st)) {
        return false;
    }
    d->found = topk_finish(&best);
    return true;
}

static uint32_t effective_ef(const struct dense *d) {
    uint32_t ef = d->search->request->ef != 0 ? d->search->request->ef : d->search->rd->view.index.ef_search;
    ef = ef != 0 ? ef : HNSW_DEFAULT_EF_SEARCH;
    return ef > d->want ? ef : d->want;
}

/* At most so many chunks can be found. */
static uint64_t most_matches(const struct search *s) {
    uint64_t live = s->rd->view.live_chunks;
    return s->matches != NULL && s->matches->count < live ? s->matches->count : live;
}

/* Whether a walk can be expected to cost less than a scan of what matches. */
static bool walk_is_better(const struct dense *d, uint32_t ef) {
    uint64_t matches = most_matches(d->search);
    if (d->search->request->exact || matches <= SEARCH_SCAN_CHUNKS || (uint64_t)ef * SEARCH_SCAN_SHARE >= matches) {
        return false;
    }
    return d->search->matches == NULL || expected_distances(d, ef) < matches * WALK_PERCENT / 100;
}

bool search_dense(struct search *s, struct dense_scratch *scratch, uint32_t want, struct neighbor *out, uint32_t *ret_count,
                  bool *ret_exact, struct status *st) {
    struct dense d = {.search = s,
                      .scratch = scratch,
                      .query = s->request->query,
                      .want = want,
                      .rows = arena_vectors(s->rd->arena, &s->rd->view)};
    *ret_count = 0;
    *ret_exact = true;
    if (d.rows.base == NULL || most_matches(s) == 0 || want == 0) {
        return true;
    }
    d.zeros_crc = crc_of_zeros(d.rows.dimension);
    d.filter = (struct slot_filter){.accepts = accepts, .ctx = &d};

    uint32_t ef = effective_ef(&d);
    uint32_t linked = linked_slots(s);
    bool exact = linked == 0 || !walk_is_better(&d, ef);
    if (!exact) {
        if (!search_graph(&d, ef, linked, st)) {
            return false;
        }
        exact = d.found < want && d.found < most_matches(s);
    }
    if (exact && !search_scan(&d, st)) {
        return false;
    }
    order_ties(&d);
    *ret_count = d.found < want ? (uint32_t)d.found : want;
    memcpy(out, scratch->heap, *ret_count * sizeof out[0]);
    *ret_exact = exact;
    return true;
}

/* --- batches --- */

static bool can_share(const struct search_request *r) {
    return r->mode == SEARCH_DENSE && r->exact && r->filter == NULL && r->k > 0;
}

/* One pass for up to HNSW_SCAN_QUERIES answers. */
static bool share_pass(const struct dense *d, struct shared_answer *answers, uint32_t count, struct status *st) {
    struct hnsw_request requests[HNSW_SCAN_QUERIES];
    struct topk best[HNSW_SCAN_QUERIES];
    struct hnsw_graph graph = arena_graph(d->search->rd->arena);
    for (uint32_t i = 0; i < count; i++) {
        requests[i] = request_of(d, d->search->rd->view.chunk_slots);
        requests[i].query = answers[i].request->query;
        requests[i].k = answers[i].request->k + 1;
        topk_init(&best[i], answers[i].heap, requests[i].k);
    }
    uint32_t linked = linked_slots(d->search);
    uint64_t measured = hnsw_scan_exact(&graph, &d->rows, requests, count, 0, linked, d->scratch->walk, best);
    if (measured == UINT64_MAX) {
        return status_no_memory(st);
    }
    for (uint32_t i = 0; i < count; i++) {
        answers[i].found = topk_finish(&best[i]);
    }
    return true;
}

/* The answers to be found, with room for them. */
static bool list_shared(const struct search_request *requests, size_t count, struct dense_scratch *scratch, struct status *st) {
    scratch->shared = (struct shared_answer *)calloc(count, sizeof *scratch->shared);
    if (scratch->shared == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < count; i++) {
        if (can_share(&requests[i])) {
            struct neighbor *heap = (struct neighbor *)malloc(((size_t)requests[i].k + 1) * sizeof *heap);
            if (heap == NULL) {
                return status_no_memory(st);
            }
            scratch->shared[scratch->shared_count++] = (struct shared_answer){.request = &requests[i], .heap = heap};
        }
    }
    return true;
}

bool dense_share(const struct reading *rd, const struct search_request *requests, size_t count, struct dense_scratch *scratch,
                 struct status *st) {
    struct search s = {.rd = rd};
    struct dense d = {.search = &s, .scratch = scratch, .rows = arena_vectors(rd->arena, &rd->view)};
    if (count < 2 || d.rows.base == NULL || rd->view.live_chunks == 0 || !has_codes(&s)) {
        return true;
    }
    s.chunks = arena_chunk(rd->arena, 0);
    d.zeros_crc = crc_of_zeros(d.rows.dimension);
    d.filter = (struct slot_filter){.accepts = accepts, .ctx = &d};
    bool good = list_shared(requests, count, scratch, st);
    for (size_t at = 0; at < scratch->shared_count && good; at += HNSW_SCAN_QUERIES) {
        size_t left = scratch->shared_count - at;
        good = share_pass(&d, &scratch->shared[at], (uint32_t)(left < HNSW_SCAN_QUERIES ? left : HNSW_SCAN_QUERIES), st);
    }
    return good;
}

void dense_share_end(struct dense_scratch *scratch) {
    for (size_t i = 0; i < scratch->shared_count; i++) {
        free(scratch->shared[i].heap);
    }
    free(scratch->shared);
    scratch->shared = NULL;
    scratch->shared_count = 0;
}
