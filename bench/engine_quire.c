/* engine_quire.c - see engine_quire.h: the graph of src/index in shared memory, with the locks that the supervisor has, and the choice
 * between graph and scan that the store makes. */
#include "engine_quire.h"

#include "index/distance.h"
#include "index/hnsw.h"
#include "index/scan.h"
#include "shm/atomics.h"
#include "shm/mapfile.h"

#include <fcntl.h>
#include <limits.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAPS_MOST = 8, LEAST_BYTES = 4096, STRIPES = 1024, LANE = 16, MAX_THREADS = 64, WORD_BITS = 64 };

struct quire_head {
    uint32_t count; /* slots put; release by the writer. pairs with: BENCH_COUNT */
    uint32_t linked;
    uint32_t next; /* slot that the next thread of insert_all takes */
    uint32_t deleted;
};

struct quire {
    struct contender_shape shape;
    struct quire_head *head;
    struct hnsw_graph graph;
    float *vectors;
    struct vector_rows rows;
    uint64_t *alive; /* bit per slot */
    pthread_mutex_t *stripes;
    struct mapfile maps[MAPS_MOST];
    unsigned map_count;
};

struct quire_searcher {
    struct hnsw_scratch *scratch;
};

/* A map of a file that has no name any more, made as those of an arena are. */
static void *share(struct quire *q, size_t bytes) {
    struct mapfile *m = &q->maps[q->map_count++];
    const char *parent = getenv("TMPDIR");
    char name[PATH_MAX];
    struct status st = {0};
    *m = MAPFILE_CLOSED;
    (void)snprintf(name, sizeof name, "%s/quire-bench-%d-%u", parent != NULL ? parent : "/tmp", (int)getpid(), q->map_count);
    if (!mapfile_create(m, AT_FDCWD, name, MAPFILE_HUGE_PAGES, bytes < LEAST_BYTES ? LEAST_BYTES : bytes, &st)) {
        fprintf(stderr, "bench/engine: %s\n", st.detail);
        exit(EXIT_FAILURE);
    }
    (void)unlink(name);
    return mapfile_base(m);
}

static size_t alive_bytes(uint32_t capacity) {
    return ((size_t)capacity + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t);
}

static struct hnsw_shape graph_shape(const struct quire *q) {
    return (struct hnsw_shape){q->shape.m, q->shape.ef_construction, q->shape.dimension, q->shape.bits};
}

static size_t base_bytes(const struct quire *q) {
    struct hnsw_shape shape = graph_shape(q);
    return q->shape.capacity * hnsw_block_bytes(&shape);
}

static size_t vector_bytes(const struct quire *q) {
    return (size_t)q->shape.capacity * q->rows.stride * sizeof(float);
}

struct quire *quire_new(const struct contender_shape *shape) {
    struct quire *q = calloc(1, sizeof *q);
    if (q == NULL) {
        return NULL;
    }
    q->shape = *shape;
    q->rows = (struct vector_rows){NULL, ((size_t)shape->dimension + LANE - 1) / LANE * LANE, shape->dimension};
    q->head = share(q, sizeof *q->head);
    q->vectors = share(q, vector_bytes(q));
    q->rows.base = q->vectors;
    q->alive = share(q, alive_bytes(shape->capacity));
    q->stripes = share(q, STRIPES * sizeof *q->stripes);
    for (size_t i = 0; i < STRIPES; i++) {
        (void)pthread_mutex_init(&q->stripes[i], NULL);
    }
    q->graph.upper_words = hnsw_upper_words_for(0, shape->capacity, shape->m);
    q->graph.head = share(q, HNSW_HEAD_BYTES);
    q->graph.base = share(q, base_bytes(q));
    q->graph.upper = share(q, q->graph.upper_words * sizeof(uint32_t));
    struct hnsw_shape graph = graph_shape(q);
    hnsw_head_init(q->graph.head, &graph);
    return q;
}

void quire_free(struct quire *q) {
    if (q == NULL) {
        return;
    }
    for (size_t i = 0; i < STRIPES; i++) {
        (void)pthread_mutex_destroy(&q->stripes[i]);
    }
    for (unsigned i = 0; i < q->map_count; i++) {
        mapfile_close(&q->maps[i]);
    }
    free(q);
}

struct quire_searcher *quire_searcher_new(const struct quire *q) {
    (void)q;
    struct quire_searcher *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    s->scratch = hnsw_scratch_new();
    if (s->scratch == NULL) {
        quire_searcher_free(s);
        return NULL;
    }
    return s;
}

void quire_searcher_free(struct quire_searcher *s) {
    if (s != NULL) {
        hnsw_scratch_free(s->scratch);
        free(s);
    }
}

/* --- writing ---------------------------------------------------------------------------------------------------------- */

static void stripe_enter(void *ctx, uint32_t slot) {
    (void)pthread_mutex_lock((pthread_mutex_t *)ctx + slot % STRIPES);
}
static void stripe_leave(void *ctx, uint32_t slot) {
    (void)pthread_mutex_unlock((pthread_mutex_t *)ctx + slot % STRIPES);
}

/* The vector and an empty node, not to be found yet. */
static uint32_t place(struct quire *q, const float *vector) {
    uint32_t slot = q->head->count;
    memcpy(q->vectors + (size_t)slot * q->rows.stride, vector, q->rows.dimension * sizeof *vector);
    hnsw_node_init(&q->graph, slot);
    q->alive[slot / WORD_BITS] |= UINT64_C(1) << slot % WORD_BITS;
    return slot;
}

uint32_t quire_put(struct quire *q, const float *vector) {
    uint32_t slot = place(q, vector);
    hnsw_encode(&q->graph, &q->rows, slot);
    /* pairs with: BENCH_COUNT - else a search would scan a slot whose vector is not there yet */
    store_release_u32(&q->head->count, slot + 1);
    return slot;
}

static bool link_slot(struct quire *q, struct quire_searcher *s, uint32_t slot) {
    struct hnsw_guard guard = {stripe_enter, stripe_leave, q->stripes};
    uint32_t count = load_acquire_u32(&q->head->count); /* pairs with: BENCH_COUNT */
    return hnsw_insert(&q->graph, &q->rows, count, slot, q->shape.ef_construction, &guard, s->scratch);
}

bool quire_link_pending(struct quire *q, struct quire_searcher *s) {
    uint32_t count = load_acquire_u32(&q->head->count); /* pairs with: BENCH_COUNT */
    for (uint32_t slot = q->head->linked; slot < count; slot++) {
        if (!link_slot(q, s, slot)) {
            return false;
        }
        /* pairs with: BENCH_LINKED - else a search would leave out of its scan what is not in the graph yet */
        store_release_u32(&q->head->linked, slot + 1);
    }
    return true;
}

uint32_t quire_replace(struct quire *q, struct quire_searcher *s, uint32_t slot, const float *vector) {
    q->alive[slot / WORD_BITS] &= ~(UINT64_C(1) << slot % WORD_BITS);
    q->head->deleted++;
    hnsw_node_died(&q->graph, slot);
    uint32_t now = quire_put(q, vector);
    if (!quire_link_pending(q, s)) {
        fprintf(stderr, "bench/engine: linking failed\n");
        exit(EXIT_FAILURE);
    }
    return now;
}

struct crew {
    struct quire *q;
    bool good;
};

static void *link_share(void *ctx) {
    struct crew *c = ctx;
    struct quire *q = c->q;
    struct quire_searcher *s = quire_searcher_new(q);
    uint32_t slot;

    c->good = s != NULL;
    while (c->good && (slot = __atomic_fetch_add(&q->head->next, 1, __ATOMIC_RELAXED)) < q->head->count) {
        c->good = link_slot(q, s, slot);
    }
    quire_searcher_free(s);
    return NULL;
}

static bool insert_all(void *self, const float *rows, size_t stride, uint32_t count, unsigned threads) {
    struct quire *q = self;
    pthread_t thread[MAX_THREADS];
    struct crew crew[MAX_THREADS];
    unsigned started = 0;
    bool good = true;

    for (uint32_t i = 0; i < count; i++) {
        q->head->count = place(q, rows + (size_t)i * stride) + 1; /* nobody searches yet, and linking encodes */
    }
    for (; started < threads && started < MAX_THREADS; started++) {
        crew[started] = (struct crew){q, false};
        if (pthread_create(&thread[started], NULL, link_share, &crew[started]) != 0) {
            break;
        }
    }
    for (unsigned i = 0; i < started; i++) {
        (void)pthread_join(thread[i], NULL);
        good = good && crew[i].good;
    }
    q->head->linked = q->head->count;
    return good && started > 0;
}

/* --- searching -------------------------------------------------------------------------------------------------------- */

static bool accepts(const void *ctx, uint32_t slot) {
    const uint64_t *alive = ctx;
    return (alive[slot / WORD_BITS] >> slot % WORD_BITS & 1) != 0;
}

size_t quire_search(const struct quire *q, struct quire_searcher *s, const float *query, uint32_t k, uint32_t ef,
                    struct neighbor *found) {
    /* pairs with: BENCH_LINKED, BENCH_COUNT; in this order, so that a slot is in the graph or in the scan */
    uint32_t linked = load_acquire_u32(&q->head->linked);
    uint32_t count = load_acquire_u32(&q->head->count);
    struct slot_filter filter = {accepts, q->alive};
    struct hnsw_request request = {
        .query = query, .slots = count, .below = linked, .k = k, .ef = ef, .rerank = HNSW_DEFAULT_RERANK, .visible = filter};
    struct topk best;

    topk_init(&best, found, k);
    (void)hnsw_search(&q->graph, &q->rows, &request, s->scratch, &best);
    (void)scan_exact(&q->rows, linked, count, query, q->head->deleted == 0 ? NULL : &filter, &best);
    return topk_finish(&best);
}

void quire_search_exact(const struct quire *q, struct quire_searcher *s, const float *queries, size_t stride, uint32_t count,
                        uint32_t k, struct neighbor *found, size_t *counts) {
    uint32_t linked = load_acquire_u32(&q->head->linked); /* pairs with: BENCH_LINKED */
    uint32_t slots = load_acquire_u32(&q->head->count);   /* pairs with: BENCH_COUNT */
    struct slot_filter filter = {accepts, q->alive};
    struct hnsw_request requests[QUIRE_EXACT_MOST] = {0};
    struct topk best[QUIRE_EXACT_MOST];

    for (uint32_t i = 0; i < count; i++) {
        const float *query = queries + i * stride;
        requests[i] = (struct hnsw_request){.query = query, .slots = slots, .below = slots, .k = k, .visible = filter};
        topk_init(&best[i], found + (size_t)i * k, k);
        if (q->shape.bits == 0) {
            (void)scan_exact(&q->rows, 0, slots, query, &filter, &best[i]);
        }
    }
    if (q->shape.bits != 0) {
        (void)hnsw_scan_exact(&q->graph, &q->rows, requests, count, 0, linked, s->scratch, best);
    }
    for (uint32_t i = 0; i < count; i++) {
        counts[i] = topk_finish(&best[i]);
    }
}

void quire_describe(const struct quire *q) {
    struct hnsw_statistics s;
    uint64_t unreachable = 0;
    char detail[160] = "";
    uint32_t count = q->head->count;
    uint64_t faults = hnsw_validate(&q->graph, count, &unreachable, detail);

    hnsw_statistics(&q->graph, count, &s);
    printf("  quire's graph: %u levels, mean degree %.1f, %llu unreachable, %llu faults %s\n", s.levels, s.mean_degree,
           (unsigned long long)unreachable, (unsigned long long)faults, detail);
}

/* --- as a contender --------------------------------------------------------------------------------------------------- */

static void *create(const struct contender_shape *shape) {
    return quire_new(shape);
}
static void destroy(void *self) {
    quire_free(self);
}
static void *searcher_new(void *self) {
    return quire_searcher_new(self);
}
static void searcher_free(void *searcher) {
    quire_searcher_free(searcher);
}

static bool search(void *self, void *searcher, const struct contender_searches *s) {
    struct neighbor *found = calloc(s->k, sizeof *found);
    if (found == NULL) {
        return false;
    }
    for (size_t i = 0; i < s->count; i++) {
        size_t n = quire_search(self, searcher, s->rows + i * s->stride, s->k, s->ef, found);
        for (size_t j = 0; j < s->k; j++) {
            s->found[i * s->k + j] = j < n ? found[j].slot : CONTENDER_NONE;
        }
    }
    free(found);
    return true;
}

static void bytes(void *self, struct contender_bytes *ret) {
    const struct quire *q = self;
    struct hnsw_shape shape = graph_shape(q);
    double vector = (double)(q->rows.stride * sizeof(float));
    double upper = (double)hnsw_upper_words_for(0, q->head->count, q->shape.m) * sizeof(uint32_t) / (double)q->head->count;
    double walked = (double)hnsw_block_bytes(&shape) + upper;

    ret->touched = walked + (shape.bits == 0 ? vector : 0.0);
    ret->all = walked + vector;
}

const struct contender contender_quire = {
    .name = "quire",
    .create = create,
    .destroy = destroy,
    .insert_all = insert_all,
    .searcher_new = searcher_new,
    .searcher_free = searcher_free,
    .search = search,
    .bytes = bytes,
};
