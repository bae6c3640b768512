/* test_durable_restore_state.c - the ops that a restore takes are those that a server would have logged: held against the catalog's own check. */
#include "store_fixture.h"

#include "durable/restore_internal.h"
#include "store/op_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { STEPS = 1500, LIBRARIES = 4, BRINGS_VECTORS = 0, DOCUMENTS = 12, CHUNKS_MAX = 3, VALUES_MAX = CHUNKS_MAX * FIXTURE_DIMENSION };

/* The ops that were taken, and a state that took them. */
struct history {
    struct restore_state *state;
    struct buf *ops;
    size_t count;
};

static bool offer(struct restore_state *s, const struct buf *bytes, struct status *st) {
    struct op op;
    assert_true(op_decode(buf_slice(bytes), NULL, &op, st));
    return restore_state_apply(s, &op, st);
}

/* A failure is final for a state: begins again with those that were taken. */
static void begin_again(struct history *h) {
    struct status st = {0};
    restore_state_free(h->state);
    h->state = restore_state_new(false);
    assert_non_null(h->state);
    for (size_t i = 0; i < h->count; i++) {
        assert_true(offer(h->state, &h->ops[i], &st));
    }
}

static void make_document(struct buf *out, uint64_t *random, const struct uuid *library, const char *id) {
    float values[VALUES_MAX];
    uint32_t count = (uint32_t)(fixture_random(random) % (CHUNKS_MAX + 1));
    enum put_mode mode = fixture_random(random) % 2 == 0 ? PUT_CREATE : PUT_REPLACE;
    for (size_t i = 0; i < VALUES_MAX; i++) {
        values[i] = (float)i;
    }
    if (fixture_random(random) % 4 == 0) {
        fixture_put_vectors_op(out, library, id, count, fixture_random(random) % 3 == 0 ? 3 : FIXTURE_DIMENSION, values);
    } else {
        fixture_put_op(out, library, mode, id, count, "some text");
    }
}

/* A document whose chunks have ids from a small set, so that they meet those of others, and one another. */
static void make_colliding(struct buf *out, uint64_t *random, const struct uuid *library, const char *id) {
    struct buf encoded = {0};
    uint32_t count = 1 + (uint32_t)(fixture_random(random) % CHUNKS_MAX);
    struct op_document d = {.mode = PUT_REPLACE, .created_at = 1, .id = fixture_id(&encoded, id), .num_chunks = count};
    op_encode_document(out, library, &d);
    for (uint32_t i = 0; i < count; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "shared/%u", (unsigned)(fixture_random(random) % 10));
        struct op_chunk c = {.id = fixture_id(&encoded, name), .text = slice_str("text"), .page_number = -1};
        op_encode_chunk(out, &c);
    }
    op_encode_vectors(out, NULL, 0, 0);
    buf_fini(&encoded);
}

static void make_deletion(struct buf *out, uint64_t *random, const struct uuid *library, const char *id) {
    struct buf encoded = {0};
    char name[48];
    if (fixture_random(random) % 2 == 0) {
        op_encode_document_delete(out, library, fixture_id(&encoded, id));
    } else {
        (void)snprintf(name, sizeof name, fixture_random(random) % 2 == 0 ? "%s/0" : "shared/%.1s", id);
        struct slice chunk = fixture_id(&encoded, name);
        op_encode_chunks_delete(out, library, &chunk, 1);
    }
    buf_fini(&encoded);
}

static void make_op(struct buf *out, uint64_t *random) {
    unsigned number = (unsigned)(fixture_random(random) % LIBRARIES);
    struct uuid library = fixture_library_id(number);
    const char *model = number == BRINGS_VECTORS ? "none" : "test";
    char id[32];
    (void)snprintf(id, sizeof id, "%u", (unsigned)(fixture_random(random) % DOCUMENTS));
    switch (fixture_random(random) % 16) {
    case 0:
    case 1:
        fixture_library_op(out, OP_LIBRARY_CREATE, &library, INDEX_FLAT, model);
        break;
    case 2:
        fixture_library_op(out, OP_LIBRARY_UPDATE, &library, INDEX_FLAT, fixture_random(random) % 4 == 0 ? "none" : model);
        break;
    case 3:
        if (fixture_random(random) % 6 == 0) {
            op_encode_library_delete(out, &library);
            break;
        }
        make_colliding(out, random, &library, id);
        break;
    case 4:
    case 5:
    case 6:
        make_colliding(out, random, &library, id);
        break;
    case 7:
    case 8:
    case 9:
        make_deletion(out, random, &library, id);
        break;
    default:
        make_document(out, random, &library, id);
        break;
    }
}

/* Which dimension a model has, a restore does not know. The replay passes over vectors that do not fit. */
static bool may_differ(const struct buf *bytes, const struct status *by_catalog) {
    struct uuid brings = fixture_library_id(BRINGS_VECTORS);
    struct status st = {0};
    struct op op;
    assert_true(op_decode(buf_slice(bytes), NULL, &op, &st));
    return by_catalog->code == STATUS_DIMENSION && !uuid_equal(&op.library, &brings);
}

static void hold_against_catalog(const struct history *h, struct catalog *c) {
    struct restore_report counted = {0};
    struct library **libraries = NULL;
    struct status st = {0};
    size_t count = 0;
    uint64_t documents = 0;
    uint64_t chunks = 0;
    assert_true(catalog_acquire_all(c, &libraries, &count, &st));
    for (size_t i = 0; i < count; i++) {
        struct reading rd;
        library_reading(libraries[i], &rd);
        documents += rd.view.live_documents;
        chunks += rd.view.live_chunks;
        catalog_release(c, libraries[i]);
    }
    free(libraries);
    restore_state_count(h->state, &counted);
    assert_int_equal(counted.libraries, count);
    assert_int_equal(counted.documents, documents);
    assert_int_equal(counted.chunks, chunks);
}

static void it_takes_what_a_server_takes_and_nothing_else(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct history h = {.ops = (struct buf *)calloc(STEPS, sizeof(struct buf))};
    uint64_t random = 7;
    size_t refused = 0;
    begin_again(&h);
    for (size_t i = 0; i < STEPS; i++) {
        struct status by_catalog = {0};
        struct status by_state = {0};
        struct buf op = {0};
        make_op(&op, &random);
        bool taken = fixture_try(f, &op, &by_catalog);
        if (offer(h.state, &op, &by_state) != taken && !may_differ(&op, &by_catalog)) {
            fail_msg("step %zu: the catalog %s (%s), the restore does not agree (%s)", i, taken ? "takes it" : "refuses it", by_catalog.detail, by_state.detail);
        }
        if (taken) {
            h.ops[h.count++] = op;
        } else {
            assert_true(by_state.code == STATUS_CORRUPT || may_differ(&op, &by_catalog));
            refused++;
            buf_fini(&op);
            begin_again(&h);
        }
        hold_against_catalog(&h, f->catalog);
    }
    assert_true(refused > STEPS / 10 && h.count > STEPS / 3);
    for (size_t i = 0; i < h.count; i++) {
        buf_fini(&h.ops[i]);
    }
    free(h.ops);
    restore_state_free(h.state);
}

static void names_and_ids(void **state) {
    struct restore_state *s = restore_state_new(true);
    struct status st = {0};
    struct buf op = {0};
    struct uuid found;
    char id[UUID_TEXT + 1];
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct uuid library = fixture_library_id(i);
        buf_reset(&op);
        fixture_library_op(&op, OP_LIBRARY_CREATE, &library, INDEX_FLAT, "test");
        assert_true(offer(s, &op, &st));
        uuid_format(&library, id);
        assert_int_equal(restore_state_find(s, id, &found), 1);
        assert_true(uuid_equal(&found, &library));
    }
    struct uuid first = fixture_library_id(0);
    assert_int_equal(restore_state_find(s, "nobody", &found), 0);
    buf_reset(&op);
    op_encode_library_delete(&op, &first);
    assert_true(offer(s, &op, &st));
    uuid_format(&first, id);
    assert_int_equal(restore_state_find(s, id, &found), 0);
    buf_fini(&op);
    restore_state_free(s);
}

/* An id of a library that was deleted may come again, and nothing of before is there. */
static void what_was_deleted_is_forgotten(void **state) {
    struct restore_state *s = restore_state_new(false);
    struct restore_report counted = {0};
    struct uuid library = fixture_library_id(1);
    struct status st = {0};
    struct buf op = {0};
    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        buf_reset(&op);
        fixture_library_op(&op, OP_LIBRARY_CREATE, &library, INDEX_FLAT, "test");
        assert_true(offer(s, &op, &st));
        buf_reset(&op);
        fixture_put_op(&op, &library, PUT_CREATE, "d", 2, "text");
        assert_true(offer(s, &op, &st));
        buf_reset(&op);
        op_encode_library_delete(&op, &library);
        assert_true(offer(s, &op, &st));
        assert_false(offer(s, &op, &st));
    }
    restore_state_count(s, &counted);
    assert_int_equal(counted.libraries + counted.documents + counted.chunks, 0);
    buf_fini(&op);
    restore_state_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_takes_what_a_server_takes_and_nothing_else, fixture_set_up, fixture_tear_down),
        cmocka_unit_test(names_and_ids),
        cmocka_unit_test(what_was_deleted_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
