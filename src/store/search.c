/*
 * search.c - the dense search of one view.
 *
 *   graph    Algorithm 5 over the slots below the watermark, then an exact scan of the tail above it, into one heap of ef candidates
 *   scan     every visible row, where that is cheap (few chunks, or many wanted), asked for, or there is no graph
 *
 * The watermark (hnsw_head.linked) is read once, before the walk: what is linked meanwhile stands above it and is scanned. It
 * moves past a deleted slot only when no pinned view still holds it (link_queue.c), so every chunk of this view is either in
 * the graph or in the tail.
 *
 * A view that is older than the newest links ignores what it does not count, and may miss what lies behind it. When the walk comes
 * home with fewer than k although the view has more, the scan answers instead: never fewer than k where k match.
 *
 * Equal distances are ordered by chunk id, and a scan also chooses by id which of them are among the k, so pages of one result
 * fit together: it looks for k + 1, and when the last two are equal it goes over the rows again for the smallest ids at that
 * distance. The graph chooses among its ef candidates likewise; being approximate, it promises no more.
 */
#include "store/search.h"

#include "index/distance.h"
#include "index/hnsw.h"
#include "index/scan.h"
#include "shm/atomics.h"
#include "store/reading_internal.h"

#include <stdlib.h>

#define SEARCH_SCAN_CHUNKS 2000 /* up to so many a scan is as fast as the graph, and exact */
#define SEARCH_SCAN_SHARE 16    /* a walk with ef candidates looks at some 16 ef rows: with fewer chunks than that, scan */

struct search_scratch {
    struct hnsw_scratch *walk;
    struct neighbor *heap;
    size_t heap_room;
};

struct search {
    const struct reading *rd;
    const struct search_request *request;
    struct search_scratch *scratch;
    struct vector_rows rows;
    const struct chunk_row *chunks;
    struct slot_filter filter;
    uint64_t candidates;
    size_t found; /* in scratch->heap, ascending */
};

struct search_scratch *search_scratch_new(void) {
    struct search_scratch *s = (struct search_scratch *)calloc(1, sizeof *s);
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

void search_scratch_free(struct search_scratch *s) {
    if (s == NULL) {
        return;
    }
    hnsw_scratch_free(s->walk);
    free(s->heap);
    free(s);
}

static bool heap_room(struct search_scratch *s, size_t room) {
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

/* In the view, and with a vector. */
static bool accepts(const void *ctx, uint32_t slot) {
    const struct search *s = (const struct search *)ctx;
    const struct chunk_row *c = &s->chunks[slot];
    /* pairs with: CHUNK_STATE (a vector is read only once it is whole), CHUNK_DELETED */
    return (load_acquire_u32(&c->state) & CHUNK_HAS_VECTOR) != 0 &&
           lsn_alive(c->created_lsn, load_acquire_u64(&c->deleted_lsn), s->rd->view.lsn);
}

/* --- ties --- */

static struct slice chunk_id(const struct search *s, uint32_t slot) {
    const struct chunk_row *c = &s->chunks[slot];
    struct op_chunk fields;
    return op_chunk_decode(arena_record(s->rd->arena, c->record, c->record_length), &fields) ? fields.id : slice_of(NULL, 0);
}

static int compare_slots_by_id(const struct search *s, uint32_t a, uint32_t b) {
    int order = item_id_compare(chunk_id(s, a), chunk_id(s, b));
    return order != 0 ? order : (a > b) - (a < b);
}

static int compare_neighbors_by_id(const void *a, const void *b, void *ctx) {
    return compare_slots_by_id((const struct search *)ctx, ((const struct neighbor *)a)->slot,
                               ((const struct neighbor *)b)->slot);
}

/* The heap is ascending by distance; each run of equal distances is put in the order of ids. */
static void order_ties(struct search *s) {
    struct neighbor *heap = s->scratch->heap;
    for (size_t begin = 0, end = 0; begin < s->found; begin = end) {
        for (end = begin + 1; end < s->found && heap[end].distance == heap[begin].distance; end++) {
        }
        if (end - begin > 1) {
            qsort_r(&heap[begin], end - begin, sizeof heap[0], compare_neighbors_by_id, s);
        }
    }
}

/* Puts slot into the ascending run[0, *count), which keeps the `most` smallest ids. */
static void keep_smallest_id(const struct search *s, struct neighbor *run, size_t *count, size_t most, struct neighbor n) {
    if (*count == most && compare_slots_by_id(s, n.slot, run[most - 1].slot) > 0) {
        return;
    }
    size_t low = 0;
    size_t high = *count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_slots_by_id(s, run[middle].slot, n.slot) < 0) {
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
static void choose_among_ties(struct search *s, size_t k) {
    struct neighbor *heap = s->scratch->heap;
    float distance = heap[k - 1].distance;
    size_t nearer = k - 1;
    while (nearer > 0 && heap[nearer - 1].distance == distance) {
        nearer--;
    }
    size_t count = 0;
    for (uint32_t slot = 0; slot < s->rd->view.chunk_slots; slot++) {
        if (accepts(s, slot) &&
            cosine_distance(dot_product(s->request->query, vector_row(&s->rows, slot), s->rows.dimension)) == distance) {
            keep_smallest_id(s, &heap[nearer], &count, k - nearer, (struct neighbor){distance, slot});
        }
    }
    s->found = nearer + count;
}

/* --- the two ways --- */

static bool search_scan(struct search *s, struct status *st) {
    size_t k = s->request->k;
    if (!heap_room(s->scratch, k + 1)) {
        return status_no_memory(st);
    }
    struct topk best;
    topk_init(&best, s->scratch->heap, k + 1);
    s->candidates += scan_exact(&s->rows, 0, s->rd->view.chunk_slots, s->request->query, &s->filter, &best);
    s->found = topk_finish(&best);
    const struct neighbor *heap = s->scratch->heap;
    if (s->found > k && heap[k].distance == heap[k - 1].distance) {
        choose_among_ties(s, k);
    }
    return true;
}

static bool search_graph(struct search *s, uint32_t ef, uint32_t below, struct status *st) {
    if (!heap_room(s->scratch, ef)) {
        return status_no_memory(st);
    }
    uint32_t slots = s->rd->view.chunk_slots;
    struct hnsw_graph graph = arena_graph(s->rd->arena);
    struct topk best;
    topk_init(&best, s->scratch->heap, ef);
    uint64_t walked = hnsw_search(&graph, &s->rows, slots, below, s->request->query, ef, &s->filter, s->scratch->walk, &best);
    if (walked == UINT64_MAX) {
        return status_no_memory(st);
    }
    s->candidates += walked + scan_exact(&s->rows, below, slots, s->request->query, &s->filter, &best);
    s->found = topk_finish(&best);
    return true;
}

static uint32_t effective_ef(const struct search *s) {
    const struct search_request *q = s->request;
    uint32_t ef = q->ef != 0 ? q->ef : s->rd->view.index.ef_search;
    ef = ef != 0 ? ef : HNSW_DEFAULT_EF_SEARCH;
    return ef > q->k ? ef : q->k;
}

static bool scan_is_better(const struct search *s, uint32_t ef) {
    const struct library_view *view = &s->rd->view;
    /* a supervisor's own reading has no graph mapped */
    bool graph = view->graph_generation != 0 && s->rd->arena->graph_generation == view->graph_generation;
    return s->request->exact || !graph || view->live_chunks <= SEARCH_SCAN_CHUNKS ||
           (uint64_t)ef * SEARCH_SCAN_SHARE >= view->live_chunks;
}

/* The watermark: slots below it are found through the graph. */
static uint32_t linked_slots(const struct search *s) {
    struct hnsw_graph graph = arena_graph(s->rd->arena);
    /* pairs with: HNSW_LINKED. Without it the walk could meet a node below the watermark whose links it does not see yet. */
    uint64_t linked = load_acquire_u64(&graph.head->linked);
    return linked < s->rd->view.chunk_slots ? (uint32_t)linked : s->rd->view.chunk_slots;
}

static void copy_hits(struct search *s, struct search_result *result) {
    const struct search_request *q = s->request;
    result->count = 0;
    for (size_t i = 0; i < s->found && result->count < q->k; i++) {
        struct neighbor n = s->scratch->heap[i];
        if (q->has_threshold && n.distance > q->distance_threshold) {
            break;
        }
        result->hits[result->count++] = (struct search_hit){.slot = n.slot, .distance = n.distance};
    }
}

bool search_dense(const struct reading *rd, const struct search_request *request, struct search_scratch *scratch,
                  struct search_result *result, struct status *st) {
    struct search s = {.rd = rd, .request = request, .scratch = scratch, .rows = arena_vectors(rd->arena, &rd->view)};
    result->count = 0;
    result->candidates = 0;
    result->exact = true;
    if (s.rows.base == NULL || rd->view.live_chunks == 0 || request->k == 0) {
        return true;
    }
    s.chunks = arena_chunk(rd->arena, 0);
    s.filter = (struct slot_filter){.accepts = accepts, .ctx = &s};

    uint32_t ef = effective_ef(&s);
    uint32_t below = scan_is_better(&s, ef) ? 0 : linked_slots(&s);
    bool exact = below == 0;
    if (!exact) {
        if (!search_graph(&s, ef, below, st)) {
            return false;
        }
        exact = s.found < request->k && s.found < rd->view.live_chunks;
    }
    if (exact && !search_scan(&s, st)) {
        return false;
    }
    order_ties(&s);
    copy_hits(&s, result);
    result->candidates = s.candidates;
    result->exact = exact;
    return true;
}
