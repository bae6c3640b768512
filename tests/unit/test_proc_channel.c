/*
 * test_proc_channel.c - frames between worker and supervisor: what goes in comes out; what was cut, changed or lied about is
 * refused.
 */
#include "proc/channel.h"
#include "proc/submission.h"
#include "store/op.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_FRAME = 1048576, DIMENSION = 3, MAX_OPS = 100 };

static const struct uuid library = {{1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, 16}};

/* A DOCUMENT_PUT of so many chunks. */
static void put_document(struct buf *out, uint32_t chunks) {
    struct buf id = {0};
    assert_true(item_id_encode(slice_str("doc"), &id));
    struct op_document d = {
        .mode = PUT_CREATE, .created_at = 1, .id = buf_slice(&id), .title = slice_str("t"), .num_chunks = chunks};
    op_encode_document(out, &library, &d);
    for (uint32_t i = 0; i < chunks; i++) {
        struct buf chunk_id = {0};
        char name[16] = {'c', (char)('0' + i), 0};
        assert_true(item_id_encode(slice_str(name), &chunk_id));
        struct op_chunk c = {.id = buf_slice(&chunk_id), .text = slice_str("some text"), .page_number = -1};
        op_encode_chunk(out, &c);
        buf_fini(&chunk_id);
    }
    op_encode_vectors(out, NULL, 0, 0);
    buf_fini(&id);
    assert_true(buf_ok(out));
}

/* Payload of a submission: a document with vectors, a deletion without. */
static void put_two(struct buf *out, const float *vectors, uint32_t count, uint32_t dimension) {
    struct buf document = {0};
    struct buf deletion = {0};
    put_document(&document, 2);
    op_encode_library_delete(&deletion, &library);
    struct api_submission ops[2] = {
        {.op = buf_slice(&document), .model = 77, .vectors = vectors, .vector_count = count, .dimension = dimension},
        {.op = buf_slice(&deletion)},
    };
    channel_put_submission(out, NULL, ops, 2);
    assert_true(out->len <= channel_submission_bytes(&ops[0]) + channel_submission_bytes(&ops[1]) + 10);
    buf_fini(&document);
    buf_fini(&deletion);
}

static const float six[2 * DIMENSION] = {0.5F, -1.25F, 3, 4, 5, -0.0F};

static bool decode(struct slice payload, struct submission **ret, struct status *st) {
    struct limits limits;
    limits_default(&limits);
    uint8_t *copy = (uint8_t *)malloc(payload.len + 1);
    assert_non_null(copy);
    if (payload.len > 0) {
        memcpy(copy, payload.data, payload.len);
    }
    if (submission_decode(copy, payload.len, MAX_OPS, &limits, ret, st)) {
        return true;
    }
    free(copy);
    return false;
}

static void a_frame_comes_in_pieces(void **state) {
    struct buf frame = {0};
    struct channel_frame f;
    struct status st;
    size_t used = 0;
    (void)state;
    channel_frame_begin(&frame, CHANNEL_RESULTS, 0x1122334455667788U);
    buf_put_str(&frame, "payload");
    channel_frame_end(&frame);
    for (size_t n = 0; n < frame.len; n++) {
        assert_false(channel_frame_parse(slice_of(frame.data, n), MAX_FRAME, &f, &used, &st));
        assert_int_equal(st.code, STATUS_OK);
    }
    buf_put_str(&frame, "more");
    assert_true(channel_frame_parse(buf_slice(&frame), MAX_FRAME, &f, &used, &st));
    assert_int_equal(used, frame.len - 4);
    assert_int_equal(f.kind, CHANNEL_RESULTS);
    assert_int_equal(f.request, 0x1122334455667788U);
    assert_true(slice_is(f.payload, "payload"));
    buf_fini(&frame);
}

static void wrong_headers_are_refused_at_once(void **state) {
    struct channel_header h;
    struct status st;
    struct buf frame = {0};
    (void)state;
    channel_frame_begin(&frame, CHANNEL_SUBMIT, 1);
    buf_put_str(&frame, "x");
    channel_frame_end(&frame);
    assert_true(channel_header_parse(frame.data, MAX_FRAME, &h, &st));
    assert_int_equal(h.payload_bytes, 1);
    assert_false(channel_header_parse(frame.data, 12, &h, &st)); /* longer than allowed */
    for (size_t i = 4; i < 8; i++) {
        uint8_t old = frame.data[i];
        frame.data[i] = 9; /* kind, zeros */
        assert_false(channel_header_parse(frame.data, MAX_FRAME, &h, &st));
        assert_int_equal(st.code, STATUS_MALFORMED);
        frame.data[i] = old;
    }
    for (uint32_t length = 0; length < CHANNEL_HEADER_BYTES - 4; length++) {
        store_u32le(frame.data, length);
        assert_false(channel_header_parse(frame.data, MAX_FRAME, &h, &st));
    }
    store_u32le(frame.data, UINT32_MAX);
    assert_false(channel_header_parse(frame.data, MAX_FRAME, &h, &st));
    buf_fini(&frame);
}

static void a_submission_comes_through(void **state) {
    struct buf payload = {0};
    struct submission *sub = NULL;
    struct status st;
    (void)state;
    put_two(&payload, six, 2, DIMENSION);
    if (!decode(buf_slice(&payload), &sub, &st)) {
        fail_msg("%s", st.detail);
    }
    assert_int_equal(sub->count, 2);
    assert_int_equal(sub->ops[0].op.type, OP_DOCUMENT_PUT);
    assert_int_equal(sub->ops[0].dimension, DIMENSION);
    assert_int_equal(sub->ops[0].model, 77);
    assert_int_equal(sub->ops[1].model, 0);
    assert_int_equal((uintptr_t)sub->ops[0].vectors % _Alignof(float), 0);
    assert_memory_equal(sub->ops[0].vectors, six, sizeof six);
    assert_int_equal(sub->ops[1].op.type, OP_LIBRARY_DELETE);
    assert_null(sub->ops[1].vectors);
    submission_free(sub);
    buf_fini(&payload);
}

static void a_cut_submission_is_refused(void **state) {
    struct buf payload = {0};
    struct submission *sub = NULL;
    struct status st;
    (void)state;
    put_two(&payload, six, 2, DIMENSION);
    for (size_t n = 0; n < payload.len; n++) {
        assert_false(decode(slice_of(payload.data, n), &sub, &st));
        assert_int_equal(st.code, STATUS_MALFORMED);
    }
    buf_put_u8(&payload, 0);
    assert_false(decode(buf_slice(&payload), &sub, &st));
    buf_fini(&payload);
}

/* Whatever a broken worker makes of the bytes: refused or decoded, never worse. The sanitizers look on. */
static void changed_bytes_do_no_harm(void **state) {
    struct buf payload = {0};
    struct status st;
    (void)state;
    put_two(&payload, six, 2, DIMENSION);
    for (size_t i = 0; i < payload.len; i++) {
        uint8_t old = payload.data[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            struct submission *sub = NULL;
            payload.data[i] = old ^ (uint8_t)(1U << bit);
            if (decode(buf_slice(&payload), &sub, &st)) {
                submission_free(sub);
            }
        }
        payload.data[i] = 0xff;
        struct submission *sub = NULL;
        if (decode(buf_slice(&payload), &sub, &st)) {
            submission_free(sub);
        }
        payload.data[i] = old;
    }
    buf_fini(&payload);
}

static void refuse_vectors(const float *vectors, uint32_t count, uint32_t dimension) {
    struct buf payload = {0};
    struct submission *sub = NULL;
    struct status st;
    put_two(&payload, vectors, count, dimension);
    assert_false(decode(buf_slice(&payload), &sub, &st));
    assert_int_equal(st.code, STATUS_MALFORMED);
    buf_fini(&payload);
}

static void vectors_must_fit_their_op(void **state) {
    float bad[2 * DIMENSION];
    (void)state;
    refuse_vectors(six, 1, DIMENSION); /* two chunks, one vector */
    refuse_vectors(six, 3, 2);         /* three vectors */
    memcpy(bad, six, sizeof bad);
    bad[4] = (float)NAN;
    refuse_vectors(bad, 2, DIMENSION);
    bad[4] = (float)INFINITY;
    refuse_vectors(bad, 2, DIMENSION);
}

static void refuse_op(const struct buf *op) {
    struct buf payload = {0};
    struct submission *sub = NULL;
    struct status st;
    struct api_submission one = {.op = buf_slice(op)};
    channel_put_submission(&payload, NULL, &one, 1);
    assert_false(decode(buf_slice(&payload), &sub, &st));
    assert_int_equal(st.code, STATUS_MALFORMED);
    buf_fini(&payload);
}

static void ops_that_a_worker_may_not_send(void **state) {
    struct buf op = {0};
    (void)state;
    op_encode_log_close(&op);
    refuse_op(&op);
    buf_reset(&op);
    op_encode_key_remove(&op, &(struct uuid){{1}});
    refuse_op(&op);
    buf_reset(&op);
    buf_put_str(&op, "no op at all, but long enough");
    refuse_op(&op);
    buf_fini(&op);
}

static void too_many_ops(void **state) {
    struct buf payload = {0};
    struct submission *sub = NULL;
    struct status st;
    (void)state;
    buf_put_u8(&payload, 0);
    buf_put_varint(&payload, MAX_OPS + 1);
    buf_put_zero(&payload, 4096);
    assert_false(decode(buf_slice(&payload), &sub, &st));
    buf_reset(&payload);
    buf_put_u8(&payload, 0);
    buf_put_varint(&payload, 0);
    assert_false(decode(buf_slice(&payload), &sub, &st));
    buf_reset(&payload);
    buf_put_u8(&payload, 0);
    buf_put_varint(&payload, UINT64_MAX);
    assert_false(decode(buf_slice(&payload), &sub, &st));
    buf_fini(&payload);
}

static struct api_keyed a_key(void) {
    struct api_keyed key = {.id = {.scope = {1, 2, 3}, .body = {4, 5, 6}}, .origin = {.created_at = 1764000000000000}};
    uuid_make(&key.origin.seed);
    return key;
}

static void a_keyed_submission_comes_through(void **state) {
    struct buf payload = {0}, op = {0};
    struct submission *sub = NULL;
    struct status st;
    struct api_keyed key = a_key();
    (void)state;
    op_encode_library_delete(&op, &library);
    const struct api_submission one = {.op = buf_slice(&op)};
    channel_put_submission(&payload, &key, &one, 1);
    assert_true(decode(buf_slice(&payload), &sub, &st));
    assert_true(sub->keyed);
    assert_int_equal(sub->count, 1);
    assert_memory_equal(&sub->id, &key.id, sizeof key.id);
    assert_true(uuid_equal(&sub->origin.seed, &key.origin.seed));
    assert_int_equal(sub->origin.created_at, key.origin.created_at);
    submission_free(sub);
    for (size_t n = 0; n < payload.len; n++) {
        assert_false(decode(slice_of(payload.data, n), &sub, &st));
    }
    payload.data[0] = 2;
    assert_false(decode(buf_slice(&payload), &sub, &st));
    buf_reset(&payload);
    key.origin.created_at = INT64_MAX; /* no record could hold it */
    channel_put_submission(&payload, &key, &one, 1);
    assert_false(decode(buf_slice(&payload), &sub, &st));
    assert_int_equal(st.code, STATUS_MALFORMED);
    buf_fini(&payload);
    buf_fini(&op);
}

static bool get_results(struct slice payload, struct channel_results *head, struct api_op_result *results, size_t room,
                        struct status *st) {
    return channel_results_begin(payload, head, st) && head->count <= room && channel_results_take(head, results, st);
}

static void what_is_remembered_comes_through(void **state) {
    struct buf bytes = {0}, payload = {0};
    struct idempotency_entry entry;
    struct idempotency_results_writer w;
    struct channel_results head;
    struct api_op_result out[3];
    struct idempotency_id id;
    struct status st;
    const struct api_keyed key = a_key();
    (void)state;
    idempotency_entry_begin(&bytes, &key.id, &key.origin, key.origin.created_at);
    idempotency_results_begin(&w, &bytes, 3);
    idempotency_results_add(&w, &(struct idempotency_result){.chunks_added = 4, .replaced = true});
    idempotency_results_add(&w, &(struct idempotency_result){.chunks_added = 4, .replaced = true});
    idempotency_results_add(&w, &(struct idempotency_result){.code = STATUS_CONFLICT, .subject = 2, .detail = slice_str("taken")});
    idempotency_results_end(&w);
    assert_true(idempotency_entry_decode(buf_slice(&bytes), &entry, &st));
    entry.lsn = 99;
    channel_put_remembered(&payload, &entry);
    assert_true(get_results(buf_slice(&payload), &head, out, 3, &st));
    assert_true(head.remembered);
    assert_int_equal(head.lsn, 99);
    assert_int_equal(head.count, 3);
    assert_true(uuid_equal(&head.origin.seed, &key.origin.seed));
    assert_int_equal(head.origin.created_at, key.origin.created_at);
    assert_int_equal(out[1].lsn, 99);
    assert_int_equal(out[1].chunks_added, 4);
    assert_true(out[1].replaced);
    assert_int_equal(out[2].status.code, STATUS_CONFLICT);
    assert_string_equal(out[2].status.detail, "taken");
    for (size_t n = 0; n < payload.len; n++) {
        assert_false(get_results(slice_of(payload.data, n), &head, out, 3, &st));
    }
    buf_reset(&payload);
    channel_put_recall(&payload, &key.id);
    assert_true(channel_get_recall(buf_slice(&payload), &id, &st));
    assert_memory_equal(&id, &key.id, sizeof id);
    assert_false(channel_get_recall(slice_of(payload.data, payload.len - 1), &id, &st));
    buf_put_u8(&payload, 0);
    assert_false(channel_get_recall(buf_slice(&payload), &id, &st));
    buf_fini(&payload);
    buf_fini(&bytes);
}

static void results_come_through(void **state) {
    struct api_op_result in[3] = {{.lsn = 77, .replaced = true, .chunks_added = 5, .chunks_deleted = 6}};
    struct api_op_result out[3];
    struct channel_results head;
    struct buf payload = {0};
    struct status st;
    (void)state;
    (void)status_set_subject(&in[1].status, STATUS_NOT_FOUND, SUBJECT_DOCUMENT, "no \"such\" document");
    (void)status_set(&in[2].status, STATUS_NO_SPACE, "full");
    channel_put_results(&payload, 0, in, 3);
    assert_true(get_results(buf_slice(&payload), &head, out, 3, &st));
    assert_false(head.remembered);
    assert_int_equal(head.lsn, 0);
    assert_int_equal(head.count, 3);
    assert_int_equal(out[0].status.code, STATUS_OK);
    assert_int_equal(out[0].lsn, 77);
    assert_true(out[0].replaced);
    assert_int_equal(out[0].chunks_added, 5);
    assert_int_equal(out[0].chunks_deleted, 6);
    assert_int_equal(out[1].status.code, STATUS_NOT_FOUND);
    assert_int_equal(out[1].status.subject, SUBJECT_DOCUMENT);
    assert_string_equal(out[1].status.detail, "no \"such\" document");
    assert_int_equal(out[2].status.code, STATUS_NO_SPACE);
    for (size_t n = 0; n < payload.len; n++) {
        assert_false(get_results(slice_of(payload.data, n), &head, out, 3, &st));
    }
    buf_put_u8(&payload, 0);
    assert_false(get_results(buf_slice(&payload), &head, out, 3, &st));
    buf_fini(&payload);
}

static void commands_and_answers_come_through(void **state) {
    struct buf payload = {0};
    struct channel_command command;
    const struct api_keyed key = a_key();
    const struct channel_command rebuild = {.command = API_REBUILD_INDEX, .argument = library};
    struct channel_command keyed = {API_OPTIMIZE_INDEX, library, true, key.id, key.origin, {{9}}};
    struct uuid task;
    struct status in;
    struct status out;
    struct status st;
    (void)state;
    channel_put_command(&payload, &rebuild);
    assert_true(channel_get_command(buf_slice(&payload), &command, &st));
    assert_int_equal(command.command, API_REBUILD_INDEX);
    assert_true(uuid_equal(&command.argument, &library));
    assert_false(command.keyed);
    payload.data[0] = 0;
    assert_false(channel_get_command(buf_slice(&payload), &command, &st));
    payload.data[0] = API_VERIFY_SNAPSHOT + 1;
    assert_false(channel_get_command(buf_slice(&payload), &command, &st));
    assert_false(channel_get_command(slice_of(payload.data, payload.len - 1), &command, &st));
    buf_reset(&payload);
    channel_put_command(&payload, &keyed);
    assert_true(channel_get_command(buf_slice(&payload), &command, &st));
    assert_true(command.keyed);
    assert_true(uuid_equal(&command.task, &keyed.task));
    assert_memory_equal(&command.id, &keyed.id, sizeof keyed.id);
    assert_int_equal(command.origin.created_at, keyed.origin.created_at);
    for (size_t n = 0; n < payload.len; n++) {
        assert_false(channel_get_command(slice_of(payload.data, n), &command, &st));
    }
    buf_reset(&payload);
    keyed.origin.created_at = INT64_MIN;
    channel_put_command(&payload, &keyed);
    assert_false(channel_get_command(buf_slice(&payload), &command, &st));

    buf_reset(&payload);
    (void)status_set_subject(&in, STATUS_CONFLICT, SUBJECT_TASK, "it runs");
    channel_put_answer(&payload, &in, &library);
    assert_true(channel_get_answer(buf_slice(&payload), &out, &task, &st));
    assert_int_equal(out.code, STATUS_CONFLICT);
    assert_int_equal(out.subject, SUBJECT_TASK);
    assert_string_equal(out.detail, "it runs");
    assert_true(uuid_equal(&task, &library));
    for (size_t n = 0; n < payload.len; n++) {
        assert_false(channel_get_answer(slice_of(payload.data, n), &out, &task, &st));
    }
    payload.data[0] = 0xff; /* no such code */
    assert_false(channel_get_answer(buf_slice(&payload), &out, &task, &st));
    buf_fini(&payload);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_comes_in_pieces),        cmocka_unit_test(wrong_headers_are_refused_at_once),
        cmocka_unit_test(a_submission_comes_through),     cmocka_unit_test(a_cut_submission_is_refused),
        cmocka_unit_test(changed_bytes_do_no_harm),       cmocka_unit_test(vectors_must_fit_their_op),
        cmocka_unit_test(ops_that_a_worker_may_not_send), cmocka_unit_test(too_many_ops),
        cmocka_unit_test(results_come_through),           cmocka_unit_test(commands_and_answers_come_through),
        cmocka_unit_test(a_keyed_submission_comes_through), cmocka_unit_test(what_is_remembered_comes_through),
    };
    return cmocka_run_group_tests_name("proc_channel", tests, NULL, NULL);
}
