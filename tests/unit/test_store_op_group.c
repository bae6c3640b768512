/* test_store_op_group.c - several ops in one log record: what is written is read back, and a record that is no good gives nothing. */
#include "store/op_group.h"

#include "store/idempotency.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store_fixture.h"

enum { BITS = 8 };

static const struct uuid library = {{1, 2, 3}};

static void put_entry(struct buf *out, size_t ops) {
    const struct idempotency_id id = {{1}, {2}};
    struct idempotency_origin origin = {.created_at = 1700000000000000};
    struct idempotency_results_writer w;
    uuid_make(&origin.seed);
    idempotency_entry_begin(out, &id, &origin, origin.created_at);
    idempotency_results_begin(&w, out, ops);
    for (size_t i = 0; i < ops; i++) {
        idempotency_results_add(&w, &(struct idempotency_result){.chunks_deleted = 1});
    }
    idempotency_results_end(&w);
}

static void put_deletion(struct buf *out, unsigned number) {
    struct buf id = {0};
    char text[32];
    (void)snprintf(text, sizeof text, "document %u", number);
    op_encode_document_delete(out, &library, fixture_id(&id, text));
    buf_fini(&id);
}

static void put_group(struct buf *out, struct slice entry, unsigned ops) {
    op_group_begin(out, entry, ops);
    for (unsigned i = 0; i < ops; i++) {
        struct buf op = {0};
        put_deletion(&op, i);
        op_group_add(out, buf_slice(&op));
        buf_fini(&op);
    }
    assert_true(buf_ok(out));
}

static void assert_deletion(const struct op *op, unsigned number) {
    struct buf id = {0};
    char text[32];
    (void)snprintf(text, sizeof text, "document %u", number);
    assert_int_equal(op->type, OP_DOCUMENT_DELETE);
    assert_true(slice_equal(op->as.document_id, fixture_id(&id, text)));
    buf_fini(&id);
}

static void test_round_trip(void **state) {
    (void)state;
    struct limits limits;
    limits_default(&limits);
    for (unsigned ops = 0; ops < 40; ops++) {
        struct buf entry = {0}, bytes = {0};
        struct op_walk walk;
        struct op op;
        struct status st = {0};
        size_t op_bytes = 0;
        put_entry(&entry, ops);
        put_group(&bytes, buf_slice(&entry), ops);
        assert_true(op_walk_begin(&walk, buf_slice(&bytes), &limits, &st));
        assert_true(slice_equal(walk.entry, buf_slice(&entry)));
        assert_int_equal(walk.count, ops);
        for (unsigned i = 0; i < ops; i++) {
            assert_true(op_walk_next(&walk, &op));
            assert_deletion(&op, i);
            op_bytes += op.bytes.len;
        }
        assert_false(op_walk_next(&walk, &op));
        assert_true(bytes.len <= op_group_bytes(entry.len, ops, op_bytes));
        buf_fini(&entry);
        buf_fini(&bytes);
    }
}

static void test_a_plain_op_is_a_walk_of_one(void **state) {
    (void)state;
    struct buf bytes = {0};
    struct op_walk walk;
    struct op op;
    struct status st = {0};
    put_deletion(&bytes, 3);
    assert_true(op_walk_begin(&walk, buf_slice(&bytes), NULL, &st));
    assert_int_equal(walk.count, 1);
    assert_int_equal(walk.entry.len, 0);
    assert_true(op_walk_next(&walk, &op));
    assert_deletion(&op, 3);
    assert_false(op_walk_next(&walk, &op));
    buf_reset(&bytes);
    op_encode_log_close(&bytes);
    assert_true(op_walk_begin(&walk, buf_slice(&bytes), NULL, &st));
    assert_true(op_walk_next(&walk, &op));
    assert_int_equal(op.type, OP_LOG_CLOSE);
    assert_false(op_walk_begin(&walk, slice_of(NULL, 0), NULL, &st));
    buf_fini(&bytes);
}

/* In a block of its own, so that the sanitizer sees one byte too many. What is accepted is walked to its end. */
static bool walks(const uint8_t *bytes, size_t len) {
    struct op_walk walk;
    struct op op;
    struct status st = {0};
    uint8_t *copy = (uint8_t *)malloc(len + 1);
    assert_non_null(copy);
    memcpy(copy + 1, bytes, len);
    bool ok = op_walk_begin(&walk, slice_of(copy + 1, len), NULL, &st);
    assert_true(ok || (st.code == STATUS_MALFORMED && st.detail[0] != '\0'));
    uint64_t count = 0;
    while (ok && op_walk_next(&walk, &op)) {
        count++;
    }
    assert_true(!ok || count == walk.count);
    free(copy);
    return ok;
}

static void test_damage(void **state) {
    (void)state;
    struct buf entry = {0}, bytes = {0};
    put_entry(&entry, 3);
    put_group(&bytes, buf_slice(&entry), 3);
    assert_true(walks(bytes.data, bytes.len));
    for (size_t len = 0; len < bytes.len; len++) {
        assert_false(walks(bytes.data, len));
    }
    for (size_t bit = 0; bit < bytes.len * BITS; bit++) {
        bytes.data[bit / BITS] ^= (uint8_t)(1U << bit % BITS);
        (void)walks(bytes.data, bytes.len);
        bytes.data[bit / BITS] ^= (uint8_t)(1U << bit % BITS);
    }
    buf_put_u8(&bytes, 0);
    assert_false(walks(bytes.data, bytes.len));
    buf_fini(&entry);
    buf_fini(&bytes);
}

static void test_what_is_refused(void **state) {
    (void)state;
    struct buf op = {0}, bytes = {0}, inner = {0};
    struct op_walk walk;
    struct status st = {0};
    /* nothing at all */
    op_group_begin(&bytes, slice_of(NULL, 0), 0);
    assert_false(walks(bytes.data, bytes.len));
    /* more ops than bytes */
    buf_reset(&bytes);
    op_group_begin(&bytes, slice_of(NULL, 0), OP_GROUP_MAX_OPS);
    assert_false(walks(bytes.data, bytes.len));
    /* the log's end, or a group, within it */
    op_encode_log_close(&op);
    buf_reset(&bytes);
    op_group_begin(&bytes, slice_of(NULL, 0), 1);
    op_group_add(&bytes, buf_slice(&op));
    assert_false(walks(bytes.data, bytes.len));
    put_group(&inner, slice_of(NULL, 0), 1);
    buf_reset(&bytes);
    op_group_begin(&bytes, slice_of(NULL, 0), 1);
    op_group_add(&bytes, buf_slice(&inner));
    assert_false(walks(bytes.data, bytes.len));
    /* without an entry it is good; of another version, or with a library, not */
    assert_true(walks(inner.data, inner.len));
    inner.data[2] = 1;
    assert_false(walks(inner.data, inner.len));
    inner.data[2] = 0;
    inner.data[1] = 2;
    assert_false(op_walk_begin(&walk, buf_slice(&inner), NULL, &st));
    assert_non_null(strstr(st.detail, "version 2"));
    buf_fini(&op);
    buf_fini(&bytes);
    buf_fini(&inner);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_a_plain_op_is_a_walk_of_one),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
