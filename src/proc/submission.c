/*
 * submission.c - decoding what a worker submits, believing none of it.
 *
 * A worker may be broken into, so everything that later code relies on is checked here: each op decodes whole (op_decode), is one
 * that a worker may send, and the vectors beside it are as many as its chunks and finite. Whether their dimension is the
 * library's only the committer can tell, since the library may be created by an op that still waits.
 */
#include "proc/submission.h"

#include "base/clock.h"

#include <math.h>
#include <stdlib.h>

void submission_free(struct submission *s) {
    if (s == NULL) {
        return;
    }
    free(s->ops);
    free(s->results);
    free(s->payload);
    free(s->vectors);
    buf_fini(&s->answer);
    buf_fini(&s->record);
    idempotency_drop(s->held);
    free(s);
}

static struct submission *submission_new(size_t count) {
    struct submission *s = (struct submission *)calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    s->count = count;
    s->arrived_us = clock_monotonic_us();
    s->ops = (struct submitted_op *)calloc(count + 1, sizeof *s->ops);
    s->results = (struct api_op_result *)calloc(count + 1, sizeof *s->results);
    if (s->ops == NULL || s->results == NULL) {
        submission_free(s);
        return NULL;
    }
    return s;
}

bool submission_of_task(const struct channel_command *command, struct submission **ret, struct status *st) {
    struct submission *s = submission_new(0);
    if (s == NULL) {
        return status_no_memory(st);
    }
    s->keyed = true;
    s->id = command->id;
    s->origin = command->origin;
    s->command = *command;
    *ret = s;
    return true;
}

bool submission_of_op(struct slice op, struct submission **ret, struct status *st) {
    struct submission *s = submission_new(1);
    uint8_t *copy = (uint8_t *)malloc(op.len + 1);
    if (s == NULL || copy == NULL) {
        free(copy);
        submission_free(s);
        return status_no_memory(st);
    }
    memcpy(copy, op.data, op.len);
    s->payload = copy;
    if (!op_decode(slice_of(copy, op.len), NULL, &s->ops[0].op, st)) {
        submission_free(s);
        return false;
    }
    *ret = s;
    return true;
}

/* Copies floats from the frame, where they lie unaligned. False: one is not finite. */
static bool copy_floats(struct slice bytes, float *out) {
    size_t count = bytes.len / sizeof(float);
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = load_u32le(bytes.data + i * sizeof(float));
        memcpy(&out[i], &bits, sizeof bits);
        if (!isfinite(out[i])) {
            return false;
        }
    }
    return true;
}

static bool check_op(const struct submission *s, const struct op *op, const struct channel_op *frame, struct status *st) {
    if (op->type == OP_LOG_CLOSE || op->type == OP_VECTORS) {
        return status_set(st, STATUS_MALFORMED, "a worker cannot submit a %s", op_type_name(op->type));
    }
    if (op_is_of_keys(op) != s->changes_keys) {
        return status_set(st, STATUS_MALFORMED, "a %s %s a credential", op_type_name(op->type), s->changes_keys ? "beside" : "without");
    }
    if (op->type == OP_LIBRARY_MODEL && op->switches) {
        return status_set(st, STATUS_MALFORMED, "a worker cannot switch to another model");
    }
    bool has_version = op->type == OP_DOCUMENT_PUT || op->type == OP_DOCUMENT_DELETE || op->type == OP_LIBRARY_UPDATE || op->type == OP_LIBRARY_DELETE;
    if (frame->version != DOCUMENT_VERSION_NONE && !has_version) {
        return status_set(st, STATUS_MALFORMED, "a version beside a %s", op_type_name(op->type));
    }
    if (frame->vector_count == 0) {
        return true;
    }
    if (op->type != OP_DOCUMENT_PUT || op->as.document.vector_dimension != 0 ||
        frame->vector_count != op->as.document.num_chunks) {
        return status_set(st, STATUS_MALFORMED, "%u vectors beside a %s", frame->vector_count, op_type_name(op->type));
    }
    return true;
}

/* Room for all vectors of the frame: what the ops' vectors take, summed up in a first walk. */
static bool allocate_vectors(struct submission *s, struct reader rest, struct status *st) {
    size_t bytes = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct channel_op frame;
        if (!channel_submission_next(&rest, &frame, st)) {
            return false;
        }
        bytes += frame.vectors.len; /* each lies in the payload: no overflow */
    }
    if (!reader_done(&rest)) {
        return status_set(st, STATUS_MALFORMED, "a submission with trailing bytes");
    }
    if (bytes > 0) {
        s->vectors = (float *)malloc(bytes);
        if (s->vectors == NULL) {
            return status_no_memory(st);
        }
    }
    return true;
}

static bool decode_ops(struct submission *s, struct reader rest, const struct limits *limits, struct status *st) {
    float *vectors = s->vectors;
    for (size_t i = 0; i < s->count; i++) {
        struct channel_op frame;
        struct submitted_op *o = &s->ops[i];
        if (!channel_submission_next(&rest, &frame, st) || !op_decode(frame.op, limits, &o->op, st) ||
            !check_op(s, &o->op, &frame, st)) {
            return false;
        }
        o->version = frame.version;
        o->model = frame.model;
        if (frame.vector_count == 0) {
            continue;
        }
        if (!copy_floats(frame.vectors, vectors)) {
            return status_set(st, STATUS_MALFORMED, "a vector that is not finite");
        }
        o->vectors = vectors;
        o->dimension = frame.dimension;
        vectors += frame.vectors.len / sizeof(float);
    }
    return true;
}

bool submission_decode(uint8_t *payload, size_t len, uint64_t max_ops, const struct limits *limits, struct submission **ret,
                       struct status *st) {
    struct channel_submission head;
    struct submission *s = NULL;

    if (!channel_submission_begin(slice_of(payload, len), max_ops, &head, st)) {
        return false;
    }
    if (head.keyed && !idempotency_time_good(head.origin.created_at)) {
        return status_set(st, STATUS_MALFORMED, "a request of no time");
    }
    s = submission_new((size_t)head.count);
    if (s == NULL) {
        return status_no_memory(st);
    }
    s->changes_keys = head.changes_keys;
    s->credential = head.credential;
    s->keyed = head.keyed;
    s->id = head.id;
    s->origin = head.origin;
    if (!allocate_vectors(s, head.rest, st) || !decode_ops(s, head.rest, limits, st)) {
        submission_free(s);
        return false;
    }
    s->payload = payload;
    *ret = s;
    return true;
}
