/* test_store_vectors.c - vectors that a provider makes: they come behind the text, by ops of their own, and only where they still fit. */
#include "store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store/compact.h"
#include "store/library_internal.h"

enum { FINGERPRINT = 4711, OTHER = 4712 };

static struct uuid id;

static int set_up(void **state) {
    int failed = fixture_set_up(state);
    struct fixture *f = (struct fixture *)*state;
    f->pending = true;
    id = fixture_library_id(1);
    fixture_create(f, &id, INDEX_HNSW, "far");
    return failed;
}

static struct library_view view_of(struct fixture *f) {
    struct library *lib = catalog_acquire(f->catalog, &id);
    struct reading rd;
    assert_non_null(lib);
    library_reading(lib, &rd);
    catalog_release(f->catalog, lib);
    return rd.view;
}

static bool try_vectors(struct fixture *f, uint64_t fingerprint, const char *document, uint32_t count, const char *text, struct status *st) {
    struct buf op = {0};
    fixture_vectors_op(&op, &id, fingerprint, document, count, text);
    bool ok = fixture_try(f, &op, st);
    buf_fini(&op);
    return ok;
}

static void give_vectors(struct fixture *f, const char *document, uint32_t count, const char *text) {
    struct status st = {0};
    if (!try_vectors(f, FINGERPRINT, document, count, text, &st)) {
        fail_msg("vectors: %s", st.detail);
    }
}

/* Live chunks that have the vector of their text; one that has another fails the test. */
static uint32_t right_vectors(struct fixture *f) {
    struct library *lib = catalog_acquire(f->catalog, &id);
    struct reading rd;
    uint32_t right = 0;
    library_reading(lib, &rd);
    for (uint32_t slot = 0; slot < rd.view.chunk_slots; slot++) {
        struct stored_chunk c;
        struct status st = {0};
        float expected[FIXTURE_DIMENSION];
        const float *vector = reading_chunk_visible(&rd, slot) ? reading_vector(&rd, slot) : NULL;
        if (vector != NULL) {
            assert_true(reading_chunk(&rd, slot, &c, &st));
            fixture_embed(c.fields.text, expected);
            assert_memory_equal(vector, expected, sizeof expected);
            right++;
        }
    }
    catalog_release(f->catalog, lib);
    return right;
}

static void test_text_first_then_vectors(void **state) {
    struct fixture *f = (struct fixture *)*state;
    fixture_put(f, &id, PUT_CREATE, "a", 3, "text of a");
    fixture_put(f, &id, PUT_CREATE, "b", 2, "text of b");
    assert_int_equal(view_of(f).dimension, 0);
    assert_int_equal(view_of(f).reembedding, 1);
    give_vectors(f, "a", 3, "text of a");
    struct library_view view = view_of(f);
    assert_int_equal(view.dimension, FIXTURE_DIMENSION);
    assert_int_equal(view.model_fingerprint, FINGERPRINT);
    assert_int_equal(view.pinned, 1);
    assert_int_equal(view.reembedding, 1);
    assert_int_equal(right_vectors(f), 3);
    give_vectors(f, "b", 2, "text of b");
    assert_int_equal(view_of(f).reembedding, 0);
    assert_int_equal(right_vectors(f), 5);
    fixture_catch_up(f, &id); /* they are linked, those that came before the graph as well */
    struct library *lib = catalog_acquire(f->catalog, &id);
    assert_int_equal(backlog_tail(lib), 0);
    catalog_release(f->catalog, lib);
    fixture_verify_texts(f->catalog, &id);
}

static void test_known_before_any_text(void **state) {
    struct fixture *f = (struct fixture *)*state;
    give_vectors(f, "a", 0, "");
    assert_int_equal(view_of(f).dimension, FIXTURE_DIMENSION);
    assert_int_equal(view_of(f).model_fingerprint, FINGERPRINT);
    fixture_put(f, &id, PUT_CREATE, "a", 3, "text of a");
    assert_int_equal(right_vectors(f), 0);
    give_vectors(f, "a", 3, "text of a");
    give_vectors(f, "a", 3, "text of a"); /* a replay may say it again */
    assert_int_equal(right_vectors(f), 3);
    assert_int_equal(view_of(f).reembedding, 0);
}

static void test_only_what_still_fits(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st = {0};
    fixture_put(f, &id, PUT_CREATE, "a", 3, "text of a");
    fixture_put(f, &id, PUT_CREATE, "b", 1, "text of b");
    fixture_delete_chunk(f, &id, "a/1");
    fixture_put(f, &id, PUT_REPLACE, "b", 1, "another text"); /* the provider was asked about the old one */
    give_vectors(f, "a", 3, "text of a");
    give_vectors(f, "b", 1, "text of b");
    give_vectors(f, "never there", 2, "text");
    assert_int_equal(right_vectors(f), 2);
    assert_int_equal(view_of(f).reembedding, 1);
    assert_false(try_vectors(f, OTHER, "b", 1, "another text", &st)); /* no two models in one library */
    assert_int_equal(st.code, STATUS_CONFLICT);
    assert_int_equal(right_vectors(f), 2);
    give_vectors(f, "b", 1, "another text");
    assert_int_equal(right_vectors(f), 3);
    assert_int_equal(view_of(f).reembedding, 0);
}

static void test_replay_passes_over_another_model(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct buf bytes = {0};
    struct status st = {0};
    struct op op;
    fixture_put(f, &id, PUT_CREATE, "a", 1, "text of a");
    give_vectors(f, "a", 0, "");
    fixture_vectors_op(&bytes, &id, OTHER, "a", 1, "text of a");
    assert_true(op_decode(buf_slice(&bytes), NULL, &op, &st) && catalog_reserve(f->catalog, &op, &st));
    catalog_apply(f->catalog, &op, ++f->lsn, 0, NULL, NULL);
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    assert_int_equal(right_vectors(f), 0);
    assert_int_equal(view_of(f).model_fingerprint, FINGERPRINT);
    buf_fini(&bytes);
}

static void test_other_libraries_take_none(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st = {0};
    id = fixture_library_id(2);
    fixture_create(f, &id, INDEX_HNSW, "test");
    assert_false(try_vectors(f, 77, "a", 0, "", &st));
    assert_int_equal(st.code, STATUS_INVALID);
    id = fixture_library_id(3);
    fixture_create(f, &id, INDEX_FLAT, "none");
    assert_false(try_vectors(f, 77, "a", 0, "", &st));
    assert_int_equal(st.code, STATUS_INVALID);
}

/* A batch is checked and reserved whole before any of it is applied. */
static void test_text_and_first_vectors_in_one_batch(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct buf bytes[4] = {{0}};
    struct op op[4];
    struct status st = {0};
    fixture_put(f, &id, PUT_CREATE, "a", 40, "text of a");
    fixture_put_op(&bytes[0], &id, PUT_CREATE, "b", 40, "text of b");
    fixture_vectors_op(&bytes[1], &id, FINGERPRINT, "a", 40, "text of a");
    fixture_put_op(&bytes[2], &id, PUT_CREATE, "c", 40, "text of c");
    fixture_vectors_op(&bytes[3], &id, FINGERPRINT, "never there", 1, "text");
    for (int twice = 0; twice < 2; twice++) { /* the first is not logged */
        for (int i = 0; i < 4; i++) {
            assert_true(op_decode(buf_slice(&bytes[i]), &f->limits, &op[i], &st) && catalog_check(f->catalog, &op[i], &st));
            assert_true(catalog_reserve(f->catalog, &op[i], &st));
        }
        if (twice == 0) {
            catalog_abandon(f->catalog);
            assert_int_equal(view_of(f).dimension, 0);
            fixture_put(f, &id, PUT_CREATE, "between", 5, "text between");
            fixture_catch_up(f, &id);
        }
    }
    for (int i = 0; i < 4; i++) {
        catalog_apply(f->catalog, &op[i], ++f->lsn, 0, NULL, NULL);
    }
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    assert_int_equal(right_vectors(f), 40);
    give_vectors(f, "b", 40, "text of b");
    give_vectors(f, "c", 40, "text of c");
    give_vectors(f, "between", 5, "text between");
    assert_int_equal(right_vectors(f), 125);
    fixture_catch_up(f, &id);
    struct library *lib = catalog_acquire(f->catalog, &id);
    assert_int_equal(backlog_tail(lib), 0);
    catalog_release(f->catalog, lib);
    for (int i = 0; i < 4; i++) {
        buf_fini(&bytes[i]);
    }
}

static void test_vectors_beside_an_op_are_not_believed(void **state) {
    struct fixture *f = (struct fixture *)*state;
    give_vectors(f, "a", 0, "");
    f->pending = false; /* a worker that makes some up */
    fixture_put(f, &id, PUT_CREATE, "a", 3, "text of a");
    assert_int_equal(right_vectors(f), 0);
}

static void test_compaction_keeps_them(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct compaction *k = NULL;
    struct status st = {0};
    bool more = true;
    fixture_put(f, &id, PUT_CREATE, "a", 3, "text of a");
    fixture_put(f, &id, PUT_CREATE, "b", 3, "text of b");
    fixture_put(f, &id, PUT_CREATE, "c", 3, "text of c");
    give_vectors(f, "a", 3, "text of a");
    fixture_delete_document(f, &id, "a");
    give_vectors(f, "b", 3, "text of b");
    fixture_catch_up(f, &id);
    struct library *lib = catalog_acquire(f->catalog, &id);
    assert_true(compaction_new(f->catalog, lib, &k, &st) && compaction_begin(k, &st));
    while (more) {
        assert_true(compaction_step(k, 2, &more, &st));
    }
    give_vectors(f, "c", 3, "text of c"); /* to the old arena, after its document was copied */
    assert_true(compaction_step(k, 2, &more, &st));
    if (!compaction_switch(k, &st)) {
        fail_msg("%s", st.detail);
    }
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    compaction_end(k);
    catalog_release(f->catalog, lib);
    assert_int_equal(view_of(f).model_fingerprint, FINGERPRINT);
    assert_int_equal(view_of(f).pinned, 1);
    assert_int_equal(view_of(f).chunk_slots, 6);
    assert_int_equal(right_vectors(f), 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_text_first_then_vectors, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_known_before_any_text, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_only_what_still_fits, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_replay_passes_over_another_model, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_other_libraries_take_none, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_text_and_first_vectors_in_one_batch, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_vectors_beside_an_op_are_not_believed, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_compaction_keeps_them, set_up, fixture_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
