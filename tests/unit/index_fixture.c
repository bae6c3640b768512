/* index_fixture.c - see index_fixture.h. Lists are found by the layout in hnsw.h, not by the code under test. */
#include "index_fixture.h"

#include "clustered.h"
#include "index/scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CENTRES = 60, SEED = 7, EF_CONSTRUCTION = 100, ALIGN = 64, DEAD_HINT_BIT = 31 };

void fixture_init(struct fixture *f, uint32_t count, uint32_t queries, uint32_t dimension, uint32_t m, uint32_t bits) {
    struct hnsw_shape shape = {m, EF_CONSTRUCTION, dimension, bits};
    struct clustered *process = clustered_new(SEED, dimension, CENTRES);
    size_t stride = (dimension + 15) / 16 * 16;

    assert_non_null(process);
    *f = (struct fixture){.count = count, .queries = queries};
    f->vectors = aligned_alloc(ALIGN, ((size_t)count + queries) * stride * sizeof(float));
    assert_non_null(f->vectors);
    memset(f->vectors, 0, ((size_t)count + queries) * stride * sizeof(float));
    for (size_t i = 0; i < (size_t)count + queries; i++) {
        clustered_next(process, f->vectors + i * stride);
    }
    clustered_free(process);
    f->rows = (struct vector_rows){f->vectors, stride, dimension};
    f->graph.upper_words = hnsw_upper_words_for(0, count, m);
    f->graph.head = calloc(1, HNSW_HEAD_BYTES);
    f->graph.base = aligned_alloc(ALIGN, count * hnsw_block_bytes(&shape));
    f->graph.upper = malloc((f->graph.upper_words + 1) * sizeof(uint32_t));
    f->scratch = hnsw_scratch_new();
    assert_true(f->graph.head != NULL && f->graph.base != NULL && f->graph.upper != NULL && f->scratch != NULL);
    hnsw_head_init(f->graph.head, &shape);
    for (uint32_t slot = 0; slot < count; slot++) {
        hnsw_node_init(&f->graph, slot);
    }
}

void fixture_fini(struct fixture *f) {
    free(f->vectors);
    free(f->graph.head);
    free(f->graph.base);
    free(f->graph.upper);
    hnsw_scratch_free(f->scratch);
}

float *fixture_row(struct fixture *f, uint32_t slot) {
    return f->vectors + (size_t)slot * f->rows.stride;
}

void fixture_insert(struct fixture *f, uint32_t first, uint32_t end) {
    for (uint32_t slot = first; slot < end; slot++) {
        assert_true(hnsw_insert(&f->graph, &f->rows, f->count, slot, EF_CONSTRUCTION, NULL, f->scratch));
    }
}

struct hnsw_request fixture_request(const struct fixture *f, const float *query, uint32_t k, uint32_t ef) {
    return (struct hnsw_request){
        .query = query, .slots = f->count, .below = f->count, .k = k, .ef = ef, .rerank = HNSW_DEFAULT_RERANK};
}

static size_t ask(struct fixture *f, const struct hnsw_request *request, struct neighbor *storage) {
    struct topk best;

    assert_true(request->k <= FIXTURE_MAX_K);
    topk_init(&best, storage, request->k);
    assert_true(hnsw_search(&f->graph, &f->rows, request, f->scratch, &best) != UINT64_MAX);
    return topk_finish(&best);
}

size_t fixture_ask(struct fixture *f, const struct hnsw_request *request, uint32_t *found) {
    struct neighbor storage[FIXTURE_MAX_K];
    size_t count = ask(f, request, storage);

    for (size_t i = 0; i < count; i++) {
        found[i] = storage[i].slot;
    }
    return count;
}

size_t fixture_search(struct fixture *f, const float *query, uint32_t k, uint32_t ef, uint32_t *found) {
    struct hnsw_request request = fixture_request(f, query, k, ef);

    return fixture_ask(f, &request, found);
}

static uint32_t hits_of_one(struct fixture *f, uint32_t q, uint32_t k, uint32_t ef) {
    struct neighbor truth_storage[FIXTURE_MAX_K];
    struct neighbor found[FIXTURE_MAX_K];
    struct hnsw_request request = fixture_request(f, fixture_query(f, q), k, ef);
    struct topk truth;
    uint32_t hits = 0;

    assert_int_equal(ask(f, &request, found), k);
    topk_init(&truth, truth_storage, k);
    (void)scan_exact(&f->rows, 0, f->count, fixture_query(f, q), NULL, &truth);
    (void)topk_finish(&truth);
    /* By distance: of several copies any will do. */
    for (size_t i = 0; i < k; i++) {
        hits += found[i].distance <= truth_storage[k - 1].distance;
    }
    return hits;
}

double fixture_recall(struct fixture *f, uint32_t k, uint32_t ef) {
    uint64_t hits = 0;

    for (uint32_t q = 0; q < f->queries; q++) {
        hits += hits_of_one(f, q, k, ef);
    }
    return (double)hits / ((double)f->queries * k);
}

uint8_t *fixture_block(const struct fixture *f, uint32_t slot) {
    struct hnsw_shape shape = {f->graph.head->m, EF_CONSTRUCTION, f->rows.dimension, f->graph.head->bits};

    return f->graph.base + (size_t)slot * hnsw_block_bytes(&shape);
}

uint32_t *fixture_words(const struct fixture *f, uint32_t slot) {
    return (uint32_t *)(void *)(fixture_block(f, slot) + code_bytes(f->rows.dimension, f->graph.head->bits));
}

uint32_t fixture_room(const struct fixture *f, uint32_t layer) {
    return layer == 0 ? HNSW_BASE_LINKS(f->graph.head->m) : f->graph.head->m;
}

uint32_t *fixture_list(const struct fixture *f, uint32_t slot, uint32_t layer) {
    uint32_t *words = fixture_words(f, slot);
    uint32_t upper = words[FIXTURE_UPPER_WORD] & ~(1U << DEAD_HINT_BIT);

    return layer == 0 ? words + FIXTURE_LINKS_WORD : f->graph.upper + upper + (size_t)(layer - 1) * f->graph.head->m;
}

/* Nodes met from `start`, following the links forward, or with `against` backward (a scan of all lists a step: small graphs
 * only). */
static uint32_t count_met(const struct fixture *f, uint32_t slots, uint32_t start, uint32_t layer, bool against) {
    uint8_t *met = calloc(slots, 1);
    uint32_t total = 1;
    bool more = true;

    assert_non_null(met);
    met[start] = 1;
    while (more) {
        more = false;
        for (uint32_t slot = 0; slot < slots; slot++) {
            if (layer > hnsw_level_of(slot, f->graph.head->m)) {
                continue;
            }
            const uint32_t *links = fixture_list(f, slot, layer);
            for (uint32_t i = 0; i < fixture_room(f, layer) && links[i] != HNSW_NONE; i++) {
                uint32_t from = against ? links[i] : slot;
                uint32_t to = against ? slot : links[i];
                if (met[from] && !met[to]) {
                    met[to] = 1;
                    total++;
                    more = true;
                }
            }
        }
    }
    free(met);
    return total;
}

void fixture_assert_sound(const struct fixture *f, uint32_t slots) {
    char detail[160];
    uint64_t unreachable;
    uint64_t faults = hnsw_validate(&f->graph, slots, &unreachable, detail);
    uint64_t entry = f->graph.head->entry;

    assert_string_equal(detail, "");
    assert_int_equal(faults, 0);
    assert_int_equal(unreachable, 0);
    for (uint32_t layer = 0; entry != HNSW_NO_ENTRY && layer <= entry >> 32; layer++) {
        uint32_t linked = 0;
        for (uint32_t slot = 0; slot < slots; slot++) {
            bool here = layer <= hnsw_level_of(slot, f->graph.head->m);
            linked += here && (slot == (uint32_t)entry || fixture_list(f, slot, layer)[0] != HNSW_NONE);
        }
        assert_int_equal(count_met(f, slots, (uint32_t)entry, layer, false), linked);
        assert_int_equal(count_met(f, slots, (uint32_t)entry, layer, true), linked);
    }
}
