/* test_store_search.c - dense search of a view: graph against scan, ties, deletions, thresholds. */
#include "store/search.h"

#include "index/distance.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store_fixture.h"

enum { MANY = 12000, PER_DOCUMENT = 100, QUERIES = 60, K = 10, MAX_HITS = 5000 };

struct searching {
    struct store_reader *reader;
    struct search_scratch *scratch;
    struct reading rd;
    struct search_hit *hits;
    struct search_result result;
};

static void begin(struct searching *s, struct fixture *f, const struct uuid *library) {
    struct status st = {0};
    *s = (struct searching){.scratch = search_scratch_new(0),
                            .hits = (struct search_hit *)calloc(MAX_HITS, sizeof(struct search_hit))};
    assert_non_null(s->scratch);
    assert_non_null(s->hits);
    assert_true(store_reader_new(f->control, 3, f->dir_fd, &s->reader, &st));
    assert_true(reading_begin(s->reader, library, &s->rd, &st));
    s->result.hits = s->hits;
}

static void end(struct searching *s) {
    reading_end(&s->rd);
    store_reader_free(s->reader);
    search_scratch_free(s->scratch);
    free(s->hits);
}

static void search(struct searching *s, const float *query, uint32_t k, bool exact) {
    struct status st = {0};
    struct search_request request = {.mode = SEARCH_DENSE, .query = query, .k = k, .exact = exact};
    assert_true(search_library(&s->rd, &request, s->scratch, &s->result, &st));
}

static void random_query(uint64_t *random, float *out) {
    fixture_unit_vector(random, out, FIXTURE_DIMENSION);
}

/* Chunks "d<n>/<i>" with texts "d<n> <i>". */
static void fill(struct fixture *f, const struct uuid *library, uint32_t chunks) {
    for (uint32_t n = 0; n * PER_DOCUMENT < chunks; n++) {
        char name[16];
        (void)snprintf(name, sizeof name, "d%u", n);
        fixture_put(f, library, PUT_CREATE, name, PER_DOCUMENT, name);
    }
}

static float distance_to(const struct searching *s, const float *query, uint32_t slot) {
    return cosine_distance(dot_product(query, reading_vector(&s->rd, slot), FIXTURE_DIMENSION));
}

static void assert_sound(const struct searching *s, const float *query) {
    const struct search_result *r = &s->result;
    for (uint32_t i = 0; i < r->count; i++) {
        assert_true(reading_chunk_visible(&s->rd, r->hits[i].slot));
        assert_float_equal(r->hits[i].distance, distance_to(s, query, r->hits[i].slot), 1e-6);
        assert_true(i == 0 || r->hits[i - 1].distance <= r->hits[i].distance);
        for (uint32_t j = 0; j < i; j++) {
            assert_int_not_equal(r->hits[i].slot, r->hits[j].slot);
        }
    }
}

/* How many of the k nearest are at most as far as the true k-th. */
static uint32_t found_of_exact(struct searching *s, const float *query, uint32_t k) {
    search(s, query, k, true);
    assert_true(s->result.exact);
    assert_sound(s, query);
    float bound = s->result.hits[s->result.count - 1].distance;
    search(s, query, k, false);
    assert_sound(s, query);
    uint32_t found = 0;
    for (uint32_t i = 0; i < s->result.count; i++) {
        found += s->result.hits[i].distance <= bound ? 1 : 0;
    }
    return found;
}

static void test_recall(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    float query[FIXTURE_DIMENSION];
    uint64_t random = 1;
    uint32_t found = 0;
    fixture_create(f, &library, INDEX_HNSW, "test");
    fill(f, &library, MANY);

    /* nothing is linked yet: right all the same */
    begin(&s, f, &library);
    random_query(&random, query);
    assert_int_equal(found_of_exact(&s, query, K), K);
    assert_true(s.result.exact);
    end(&s);

    fixture_catch_up(f, &library);
    fixture_put(f, &library, PUT_CREATE, "tail", PER_DOCUMENT, "tail"); /* not linked */
    begin(&s, f, &library);
    for (int i = 0; i < QUERIES; i++) {
        random_query(&random, query);
        found += found_of_exact(&s, query, K);
        assert_false(s.result.exact);
        assert_true(s.result.candidates < MANY / 2);
    }
    (void)printf("recall@%d %.3f\n", K, (double)found / (QUERIES * K));
    assert_true(found >= QUERIES * K * 95 / 100);

    /* what stands in the tail, and in the graph, is found at distance 0 */
    struct stored_chunk c;
    struct status st = {0};
    fixture_embed(slice_str("tail 7"), query);
    search(&s, query, 3, false);
    assert_true(s.result.hits[0].distance < 1e-6F);
    assert_true(reading_chunk(&s.rd, s.result.hits[0].slot, &c, &st));
    assert_true(slice_is(c.fields.text, "tail 7"));
    fixture_embed(slice_str("d44 7"), query);
    search(&s, query, 3, false);
    assert_true(s.result.hits[0].distance < 1e-6F);
    assert_true(reading_chunk(&s.rd, s.result.hits[0].slot, &c, &st));
    assert_true(slice_is(c.fields.text, "d44 7"));
    end(&s);
}

/* Most chunks deleted: as many hits as are wanted, also where the graph lost its way. */
static void test_deletions(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    float query[FIXTURE_DIMENSION];
    uint64_t random = 2;
    uint32_t left = MANY;
    fixture_create(f, &library, INDEX_HNSW, "test");
    fill(f, &library, MANY);
    fixture_catch_up(f, &library);
    for (uint32_t n = 0; n < MANY / PER_DOCUMENT * 3 / 4; n++) {
        char name[16];
        (void)snprintf(name, sizeof name, "d%u", n);
        fixture_delete_document(f, &library, name);
        left -= PER_DOCUMENT;
    }
    begin(&s, f, &library);
    assert_int_equal(s.rd.view.live_chunks, left);
    uint32_t found = 0;
    for (int i = 0; i < QUERIES; i++) {
        random_query(&random, query);
        found += found_of_exact(&s, query, K);
        assert_int_equal(s.result.count, K);
        assert_false(s.result.exact);
        search(&s, query, 100, false);
        assert_int_equal(s.result.count, 100);
        assert_sound(&s, query);
    }
    assert_true(found >= QUERIES * K * 95 / 100);
    search(&s, query, left + 100, false);
    assert_int_equal(s.result.count, left);
    assert_true(s.result.exact);
    end(&s);
}

static void test_flat_and_small(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid flat = fixture_library_id(1);
    struct uuid small = fixture_library_id(2);
    struct searching s;
    float query[FIXTURE_DIMENSION];
    uint64_t random = 3;
    fixture_create(f, &flat, INDEX_FLAT, "test");
    fixture_create(f, &small, INDEX_HNSW, "test");
    random_query(&random, query);
    begin(&s, f, &small);
    search(&s, query, 10, false); /* nothing there */
    assert_int_equal(s.result.count, 0);
    assert_true(s.result.exact);
    end(&s);
    fill(f, &flat, 5000);
    fill(f, &small, 300);
    fixture_catch_up(f, &flat);
    fixture_catch_up(f, &small);
    begin(&s, f, &flat);
    search(&s, query, 10, false);
    assert_int_equal(s.result.count, 10);
    assert_true(s.result.exact);
    assert_int_equal(s.result.candidates, 5000);
    end(&s);
    begin(&s, f, &small);
    search(&s, query, 1000, false);
    assert_int_equal(s.result.count, 300);
    assert_true(s.result.exact);
    assert_sound(&s, query);
    search(&s, query, 0, false);
    assert_int_equal(s.result.count, 0);
    end(&s);
}

static void test_threshold(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    struct status st = {0};
    float query[FIXTURE_DIMENSION];
    uint64_t random = 4;
    fixture_create(f, &library, INDEX_FLAT, "test");
    fill(f, &library, 1000);
    random_query(&random, query);
    begin(&s, f, &library);
    search(&s, query, 1000, false);
    float bound = s.result.hits[99].distance;
    struct search_request request = {
        .mode = SEARCH_DENSE, .query = query, .k = 500, .has_threshold = true, .distance_threshold = bound};
    assert_true(search_library(&s.rd, &request, s.scratch, &s.result, &st));
    assert_int_equal(s.result.count, 100);
    request.k = 50;
    assert_true(search_library(&s.rd, &request, s.scratch, &s.result, &st));
    assert_int_equal(s.result.count, 50);
    request.distance_threshold = -1;
    assert_true(search_library(&s.rd, &request, s.scratch, &s.result, &st));
    assert_int_equal(s.result.count, 0);
    end(&s);
}

/* --- ties --- */

static void put_vector(struct fixture *f, const struct uuid *library, const char *document, const float *values) {
    struct buf op = {0};
    fixture_put_vectors_op(&op, library, document, 1, FIXTURE_DIMENSION, values);
    fixture_commit(f, &op);
    buf_fini(&op);
}

static void id_of_hit(const struct searching *s, uint32_t i, char out[ITEM_ID_TEXT_MAX + 1]) {
    struct stored_chunk c;
    struct status st = {0};
    assert_true(reading_chunk(&s->rd, s->result.hits[i].slot, &c, &st));
    (void)item_id_text(c.fields.id, out);
}

/* A thousand copies of one vector, written in an order that is not that of their ids: every k gives the smallest ids, so pages
 * fit. */
static void test_ties(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    float near[FIXTURE_DIMENSION] = {1};
    float same[FIXTURE_DIMENSION] = {0.6F, 0.8F};
    const uint32_t sizes[] = {1, 2, 7, 10, 500, 999, 1000, 1003};
    enum { COPIES = 1000 };
    fixture_create(f, &library, INDEX_FLAT, "none");
    put_vector(f, &library, "near", near);
    for (uint32_t i = 0; i < COPIES; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "copy-%03u", i * 389 % COPIES); /* 389 and 1000 have no divisor in common */
        put_vector(f, &library, name, same);
    }
    begin(&s, f, &library);
    for (size_t n = 0; n < sizeof sizes / sizeof sizes[0]; n++) {
        char id[ITEM_ID_TEXT_MAX + 1];
        uint32_t expected = sizes[n] < COPIES + 1 ? sizes[n] : COPIES + 1;
        search(&s, near, sizes[n], false);
        assert_int_equal(s.result.count, expected);
        id_of_hit(&s, 0, id);
        assert_string_equal(id, "near/0");
        for (uint32_t i = 1; i < expected; i++) {
            char wanted[32];
            (void)snprintf(wanted, sizeof wanted, "copy-%03u/0", i - 1);
            id_of_hit(&s, i, id);
            assert_string_equal(id, wanted);
        }
    }
    end(&s);
}

/* --- an old view --- */

/* A reading that goes on while everything it sees is replaced gives the same answers as at its begin. */
static void test_old_view(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    float query[FIXTURE_DIMENSION];
    uint64_t random = 6;
    struct search_hit before[K];
    fixture_create(f, &library, INDEX_HNSW, "test");
    fill(f, &library, 3000);
    fixture_catch_up(f, &library);
    fixture_put(f, &library, PUT_CREATE, "tail", 20, "tail"); /* stays unlinked while the view is held */
    random_query(&random, query);
    begin(&s, f, &library);
    search(&s, query, K, true);
    assert_int_equal(s.result.count, K);
    memcpy(before, s.hits, sizeof before);
    fixture_delete_document(f, &library, "tail");
    for (uint32_t n = 0; n < 30; n++) {
        char name[16];
        (void)snprintf(name, sizeof name, "d%u", n);
        fixture_put(f, &library, PUT_REPLACE, name, 50, "other words");
        fixture_catch_up(f, &library);
    }
    search(&s, query, K, true);
    assert_int_equal(s.result.count, K);
    assert_memory_equal(before, s.hits, sizeof before);
    /* by the graph too: the deleted tail must not have fallen between graph and scan */
    fixture_embed(slice_str("tail 3"), query);
    search(&s, query, 1, false);
    assert_int_equal(s.result.count, 1);
    assert_false(s.result.exact);
    assert_true(s.hits[0].distance < 1e-6F);
    end(&s);
    begin(&s, f, &library);
    search(&s, query, 1, false);
    assert_true(s.hits[0].distance > 1e-3F);
    end(&s);
}

/* --- a new graph --- */

static bool finds(struct searching *s, const char *text, bool exact) {
    float query[FIXTURE_DIMENSION];
    fixture_embed(slice_str(text), query);
    search(s, query, K, exact);
    assert_int_equal(s->result.count, K);
    assert_sound(s, query);
    return s->hits[0].distance < 1e-3F;
}

/* What was deleted before a graph was made stays deleted in it, whichever way it is searched. */
static void test_rebuilt_after_deletions(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    struct status st = {0};
    fixture_create(f, &library, INDEX_HNSW, "test");
    fill(f, &library, 3000);
    fixture_delete_document(f, &library, "d3");
    fixture_catch_up(f, &library);
    fixture_delete_document(f, &library, "d1");
    struct library *lib = catalog_acquire(f->catalog, &library);
    struct index_settings settings = {.type = INDEX_HNSW, .m = 8, .ef_construction = 60, .ef_search = 64};
    assert_true(backlog_rebuild_begin(lib, &settings, &st));
    fixture_delete_document(f, &library, "d2");
    fixture_catch_up(f, &library);
    assert_true(backlog_rebuild_switch(f->catalog, lib, &st));
    catalog_release(f->catalog, lib);
    fixture_put(f, &library, PUT_CREATE, "published", 1, "with this");
    begin(&s, f, &library);
    for (int exact = 0; exact < 2; exact++) {
        assert_true(finds(&s, "d0 5", exact == 1));
        assert_false(finds(&s, "d1 5", exact == 1));
        assert_false(finds(&s, "d2 5", exact == 1));
        assert_false(finds(&s, "d3 5", exact == 1));
    }
    end(&s);
}

/* Exact searches of a batch go over the codes together, more of them than fit into one pass, and find what each finds alone. */
static void test_shared_pass(void **state) {
    enum { SEARCHES = 40, MOST = 50 };
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    struct search_hit hits[SEARCHES][MOST];
    struct search_result results[SEARCHES];
    struct search_request requests[SEARCHES];
    float queries[SEARCHES][FIXTURE_DIMENSION];
    struct status st = {0};
    uint64_t random = 23;
    fixture_create(f, &library, INDEX_HNSW, "test");
    fill(f, &library, MANY / 4);
    fixture_catch_up(f, &library);
    fixture_put(f, &library, PUT_CREATE, "tail", PER_DOCUMENT, "tail"); /* not linked */
    begin(&s, f, &library);
    for (uint32_t i = 0; i < SEARCHES; i++) {
        random_query(&random, queries[i]);
        requests[i] = (struct search_request){
            .mode = SEARCH_DENSE, .query = queries[i], .k = 1 + i % MOST, .exact = i % 7 != 3, .has_threshold = i % 5 == 1};
        requests[i].distance_threshold = 0.7F;
        results[i] = (struct search_result){.hits = hits[i]};
    }
    assert_true(search_library_batch(&s.rd, requests, SEARCHES, s.scratch, results, &st));
    for (uint32_t i = 0; i < SEARCHES; i++) {
        assert_true(search_library(&s.rd, &requests[i], s.scratch, &s.result, &st));
        assert_int_equal(results[i].count, s.result.count);
        assert_int_equal(results[i].exact, s.result.exact);
        for (uint32_t h = 0; h < s.result.count; h++) {
            assert_int_equal(hits[i][h].slot, s.hits[h].slot);
            assert_true(hits[i][h].distance == s.hits[h].distance);
        }
    }
    end(&s);
}

/* What has no direction is near to nothing: no dense search finds it, not even where all else lies on the other side. With codes and without. */
static void zero_vectors_are_not_found(struct fixture *f, unsigned number, uint32_t bits) {
    enum { DOCUMENTS = 23, WANTED = 20 };
    struct uuid library = fixture_library_id(number);
    static float values[PER_DOCUMENT * FIXTURE_DIMENSION];
    float query[FIXTURE_DIMENSION] = {-1};
    struct library_definition d;
    struct searching s;
    struct op made;
    struct status st;
    struct buf op = {0};
    uint64_t random = number;
    fixture_library_op(&op, OP_LIBRARY_CREATE, &library, INDEX_HNSW, "none");
    assert_true(op_decode(buf_slice(&op), &f->limits, &made, &st));
    d = made.as.definition;
    d.quantization.strategy = bits == 0 ? QUANTIZATION_NONE : d.quantization.strategy;
    struct buf create = {0};
    op_encode_library(&create, OP_LIBRARY_CREATE, &library, &d);
    fixture_commit(f, &create);
    memset(values, 0, sizeof values);
    for (uint32_t n = 0; n < DOCUMENTS; n++) {
        char name[16];
        (void)snprintf(name, sizeof name, "z%u", n);
        buf_reset(&op);
        fixture_put_vectors_op(&op, &library, name, PER_DOCUMENT, FIXTURE_DIMENSION, values); /* the first one has none */
        fixture_commit(f, &op);
        for (uint32_t i = 0; i < PER_DOCUMENT; i++) {
            float *v = &values[i * FIXTURE_DIMENSION];
            fixture_unit_vector(&random, v, FIXTURE_DIMENSION);
            v[0] += 2;
            (void)vector_normalize(v, FIXTURE_DIMENSION);
        }
    }
    for (int linked = 0; linked <= 1; linked++) {
        begin(&s, f, &library);
        for (int exact = 0; exact <= 1; exact++) {
            search(&s, query, WANTED, exact != 0);
            assert_int_equal(s.result.count, WANTED);
            for (uint32_t i = 0; i < s.result.count; i++) {
                assert_true(s.result.hits[i].slot >= PER_DOCUMENT);
            }
            assert_true(linked == 0 || s.result.exact == (exact != 0));
        }
        end(&s);
        fixture_catch_up(f, &library);
    }
    buf_fini(&create);
    buf_fini(&op);
}

static void test_zero_vectors(void **state) {
    zero_vectors_are_not_found((struct fixture *)*state, 1, 8);
    zero_vectors_are_not_found((struct fixture *)*state, 2, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shared_pass, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_recall, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_zero_vectors, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_deletions, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_flat_and_small, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_threshold, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_ties, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_old_view, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_rebuilt_after_deletions, fixture_set_up, fixture_tear_down),
    };
    return cmocka_run_group_tests_name("store search", tests, NULL, NULL);
}
