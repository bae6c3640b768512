/*
 * channel.c - encoding and decoding of the frames (channel.h). No descriptors here: both ends bring their bytes.
 *
 * What a decoder meets is from the other process. Counts are compared with the bytes that are left before anything is multiplied
 * or allocated with them, and what remains at a payload's end is an error.
 */
#include "proc/channel.h"

#include "base/bytes.h"

enum {
    LENGTH_BYTES = 4,
    ZERO_BYTES = 3,
    /* every field takes a byte at least */
    RESULT_LEAST_BYTES = 7,
    OP_LEAST_BYTES = 19
};
_Static_assert(CHANNEL_HEADER_BYTES == LENGTH_BYTES + 1 + ZERO_BYTES + 8, "length, kind, zeros, request");

void channel_frame_begin(struct buf *out, enum channel_kind kind, uint64_t request) {
    buf_reset(out);
    buf_put_u32le(out, 0);
    buf_put_u8(out, (uint8_t)kind);
    buf_put_zero(out, ZERO_BYTES);
    buf_put_u64le(out, request);
}

void channel_frame_end(struct buf *out) {
    if (!buf_ok(out)) {
        return;
    }
    if (out->len - LENGTH_BYTES > UINT32_MAX) {
        out->failed = true;
        return;
    }
    store_u32le(out->data, (uint32_t)(out->len - LENGTH_BYTES));
}

bool channel_header_parse(const uint8_t header[CHANNEL_HEADER_BYTES], uint64_t max_bytes, struct channel_header *ret,
                          struct status *st) {
    uint32_t length = load_u32le(header);
    uint8_t kind = header[LENGTH_BYTES];
    const uint8_t *zeros = header + LENGTH_BYTES + 1;
    if (length < CHANNEL_HEADER_BYTES - LENGTH_BYTES || length > max_bytes) {
        return status_set(st, STATUS_MALFORMED, "a channel frame of %u bytes", length);
    }
    if (kind < CHANNEL_SUBMIT || kind > CHANNEL_MODEL || (zeros[0] | zeros[1] | zeros[2]) != 0) {
        return status_set(st, STATUS_MALFORMED, "a channel frame of unknown kind %u", kind);
    }
    *ret = (struct channel_header){.kind = kind,
                                   .request = load_u64le(header + CHANNEL_HEADER_BYTES - 8),
                                   .payload_bytes = length - (CHANNEL_HEADER_BYTES - LENGTH_BYTES)};
    return true;
}

bool channel_frame_parse(struct slice bytes, uint64_t max_bytes, struct channel_frame *ret, size_t *ret_used, struct status *st) {
    struct channel_header h = {0};
    status_clear(st);
    if (bytes.len < CHANNEL_HEADER_BYTES) {
        return false;
    }
    if (!channel_header_parse(bytes.data, max_bytes, &h, st)) {
        return false;
    }
    if (bytes.len - CHANNEL_HEADER_BYTES < h.payload_bytes) {
        return false;
    }
    *ret = (struct channel_frame){
        .kind = h.kind, .request = h.request, .payload = slice_of(bytes.data + CHANNEL_HEADER_BYTES, h.payload_bytes)};
    *ret_used = CHANNEL_HEADER_BYTES + (size_t)h.payload_bytes;
    return true;
}

/* --- SUBMIT ----------------------------------------------------------------------------------------------------------- */

#define CHANGES_KEYS 2 /* as `keyed` of a SUBMIT */

static void put_id(struct buf *out, const struct idempotency_id *id) {
    buf_put(out, id->scope, sizeof id->scope);
    buf_put(out, id->body, sizeof id->body);
}

static void read_id(struct reader *r, struct idempotency_id *ret) {
    struct slice scope = read_slice(r, sizeof ret->scope);
    struct slice body = read_slice(r, sizeof ret->body);
    if (!r->failed) {
        memcpy(ret->scope, scope.data, sizeof ret->scope);
        memcpy(ret->body, body.data, sizeof ret->body);
    }
}

static void put_origin(struct buf *out, const struct idempotency_origin *origin) {
    buf_put(out, origin->seed.b, UUID_BYTES);
    buf_put_u64le(out, (uint64_t)origin->created_at);
}

static void read_origin(struct reader *r, struct idempotency_origin *ret) {
    struct slice seed = read_slice(r, UUID_BYTES);
    ret->created_at = (int64_t)read_u64le(r);
    if (!r->failed) {
        memcpy(ret->seed.b, seed.data, UUID_BYTES);
    }
}

void channel_put_submission(struct buf *out, const struct api_keyed *key, const struct api_submission *ops, size_t count) {
    buf_put_u8(out, key != NULL ? 1 : 0);
    if (key != NULL) {
        put_id(out, &key->id);
        put_origin(out, &key->origin);
    }
    buf_put_varint(out, count);
    for (size_t i = 0; i < count; i++) {
        bool with_vectors = ops[i].vectors != NULL && ops[i].vector_count > 0;
        buf_put_bytes(out, ops[i].op);
        buf_put_u64le(out, ops[i].version);
        buf_put_u64le(out, ops[i].model);
        buf_put_varint(out, with_vectors ? ops[i].vector_count : 0);
        buf_put_varint(out, with_vectors ? ops[i].dimension : 0);
        if (with_vectors) {
            size_t floats = (size_t)ops[i].vector_count * ops[i].dimension;
            buf_put_f32le_array(out, ops[i].vectors, floats);
        }
    }
}

void channel_put_key_change(struct buf *out, struct slice credential, struct slice op) {
    const struct api_submission only = {.op = op};
    struct buf plain = {0};
    channel_put_submission(&plain, NULL, &only, 1);
    buf_put_u8(out, CHANGES_KEYS);
    buf_put_bytes(out, credential);
    buf_put_slice(out, plain.len > 0 ? slice_of(plain.data + 1, plain.len - 1) : slice_of(NULL, 0)); /* its `keyed` is another */
    out->failed = out->failed || !buf_ok(&plain);
    buf_fini(&plain);
}

size_t channel_submission_bytes(const struct api_submission *op) {
    enum { VARINTS = 3 * 10 };
    size_t floats = op->vectors == NULL ? 0 : (size_t)op->vector_count * op->dimension;
    return VARINTS + sizeof op->version + sizeof op->model + op->op.len + floats * sizeof(float);
}

bool channel_submission_begin(struct slice payload, uint64_t max_ops, struct channel_submission *ret, struct status *st) {
    struct reader r = reader_of(payload);
    struct channel_submission s = {0};
    uint8_t keyed = read_u8(&r);
    s.keyed = keyed == 1;
    s.changes_keys = keyed == CHANGES_KEYS;
    if (s.keyed) {
        read_id(&r, &s.id);
        read_origin(&r, &s.origin);
    } else if (s.changes_keys) {
        s.credential = read_bytes(&r);
    }
    s.count = read_varint(&r);
    if (r.failed || keyed > CHANGES_KEYS || (s.changes_keys && s.count != 1) || s.count == 0 || s.count > max_ops || s.count > reader_left(&r) / OP_LEAST_BYTES) {
        return status_set(st, STATUS_MALFORMED, "a submission of %llu ops in %zu bytes", (unsigned long long)s.count,
                          payload.len);
    }
    s.rest = r;
    *ret = s;
    return true;
}

bool channel_submission_next(struct reader *rest, struct channel_op *ret, struct status *st) {
    struct slice op = read_bytes(rest);
    uint64_t version = read_u64le(rest);
    uint64_t model = read_u64le(rest);
    uint64_t count = read_varint(rest);
    uint64_t dimension = read_varint(rest);
    if (rest->failed || count > UINT32_MAX || dimension > EMBED_MAX_DIMENSION || (count == 0) != (dimension == 0)) {
        return status_set(st, STATUS_MALFORMED, "a submission that does not decode");
    }
    /* count < 2^32 and dimension <= 2^12, so the product fits */
    struct slice vectors = read_slice(rest, count * dimension * sizeof(float));
    if (rest->failed) {
        return status_set(st, STATUS_MALFORMED, "a submission whose vectors are cut short");
    }
    *ret = (struct channel_op){
        .op = op, .version = version, .model = model, .vectors = vectors, .vector_count = (uint32_t)count, .dimension = (uint32_t)dimension};
    return true;
}

/* --- RESULTS ---------------------------------------------------------------------------------------------------------- */

void channel_put_results(struct buf *out, uint64_t lsn, const struct api_op_result *results, size_t count) {
    buf_put_u8(out, 0);
    buf_put_varint(out, lsn);
    buf_put_varint(out, count);
    for (size_t i = 0; i < count; i++) {
        const struct api_op_result *r = &results[i];
        buf_put_u8(out, (uint8_t)r->status.code);
        buf_put_varint(out, r->status.subject);
        buf_put_varint(out, r->lsn);
        buf_put_varint(out, r->replaced ? 1 : 0);
        buf_put_varint(out, r->chunks_added);
        buf_put_varint(out, r->chunks_deleted);
        buf_put_bytes(out, slice_str(r->status.code == STATUS_OK ? "" : r->status.detail));
    }
}

void channel_put_remembered(struct buf *out, const struct idempotency_entry *entry) {
    struct idempotency_results_reader results;
    struct idempotency_result r;
    if (!idempotency_results_open(entry->results, &results)) {
        out->failed = true; /* cannot be: it was decoded before it was remembered */
        return;
    }
    buf_put_u8(out, 1);
    put_origin(out, &entry->origin);
    buf_put_varint(out, entry->lsn);
    buf_put_varint(out, results.count);
    while (idempotency_results_next(&results, &r)) {
        buf_put_u8(out, r.code);
        buf_put_varint(out, r.subject);
        buf_put_varint(out, r.code == STATUS_OK ? entry->lsn : 0);
        buf_put_varint(out, r.replaced ? 1 : 0);
        buf_put_varint(out, r.chunks_added);
        buf_put_varint(out, r.chunks_deleted);
        buf_put_bytes(out, r.detail);
    }
}

/* Code, subject and detail as they come over the channel, into a status. */
static bool take_status(uint8_t code, uint64_t subject, struct slice detail, struct status *out) {
    if (code > STATUS_LAST || subject > UINT16_MAX || detail.len >= STATUS_DETAIL_MAX) {
        return false;
    }
    status_clear(out);
    out->code = (enum status_code)code;
    out->subject = (uint16_t)subject;
    if (detail.len > 0) {
        memcpy(out->detail, detail.data, detail.len);
    }
    out->detail[detail.len] = '\0';
    return true;
}

static bool get_result(struct reader *r, struct api_op_result *ret) {
    uint8_t code = read_u8(r);
    uint64_t subject = read_varint(r);
    uint64_t lsn = read_varint(r);
    uint64_t flags = read_varint(r);
    uint64_t added = read_varint(r);
    uint64_t deleted = read_varint(r);
    struct slice detail = read_bytes(r);
    if (r->failed || flags > 1 || added > UINT32_MAX || deleted > UINT32_MAX) {
        return false;
    }
    ret->lsn = lsn;
    ret->replaced = flags == 1;
    ret->chunks_added = (uint32_t)added;
    ret->chunks_deleted = (uint32_t)deleted;
    return take_status(code, subject, detail, &ret->status);
}

bool channel_results_begin(struct slice payload, struct channel_results *ret, struct status *st) {
    struct reader r = reader_of(payload);
    struct channel_results results = {0};
    uint8_t remembered = read_u8(&r);
    results.remembered = remembered == 1;
    if (results.remembered) {
        read_origin(&r, &results.origin);
    }
    results.lsn = read_varint(&r);
    results.count = read_varint(&r);
    if (r.failed || remembered > 1 || reader_left(&r) / RESULT_LEAST_BYTES < results.count) {
        return status_set(st, STATUS_MALFORMED, "results that do not decode");
    }
    results.rest = r;
    *ret = results;
    return true;
}

bool channel_results_take(struct channel_results *r, struct api_op_result *results, struct status *st) {
    for (uint64_t i = 0; i < r->count; i++) {
        if (!get_result(&r->rest, &results[i])) {
            return status_set(st, STATUS_MALFORMED, "a result that does not decode");
        }
    }
    return reader_done(&r->rest) || status_set(st, STATUS_MALFORMED, "results with trailing bytes");
}

/* --- RECALL ----------------------------------------------------------------------------------------------------------- */

void channel_put_recall(struct buf *out, const struct idempotency_id *id) {
    put_id(out, id);
}

bool channel_get_recall(struct slice payload, struct idempotency_id *ret, struct status *st) {
    struct reader r = reader_of(payload);
    read_id(&r, ret);
    return reader_done(&r) || status_set(st, STATUS_MALFORMED, "a recall that does not decode");
}

/* --- COMMAND, ANSWER -------------------------------------------------------------------------------------------------- */

void channel_put_command(struct buf *out, const struct channel_command *c) {
    buf_put_u8(out, (uint8_t)c->command);
    buf_put(out, c->argument.b, UUID_BYTES);
    buf_put_u8(out, c->keyed ? 1 : 0);
    if (c->keyed) {
        put_id(out, &c->id);
        put_origin(out, &c->origin);
        buf_put(out, c->task.b, UUID_BYTES);
    }
}

bool channel_get_command(struct slice payload, struct channel_command *ret, struct status *st) {
    struct reader r = reader_of(payload);
    struct channel_command c = {0};
    uint8_t command = read_u8(&r);
    struct slice argument = read_slice(&r, UUID_BYTES);
    uint8_t keyed = read_u8(&r);
    struct slice task = {NULL, 0};
    c.keyed = keyed == 1;
    if (c.keyed) {
        read_id(&r, &c.id);
        read_origin(&r, &c.origin);
        task = read_slice(&r, UUID_BYTES);
    }
    if (!reader_done(&r) || keyed > 1 || (c.keyed && !idempotency_time_good(c.origin.created_at)) ||
        command < API_TAKE_SNAPSHOT || command > API_VERIFY_SNAPSHOT) {
        return status_set(st, STATUS_MALFORMED, "a command that does not decode");
    }
    c.command = (enum api_command)command;
    memcpy(c.argument.b, argument.data, UUID_BYTES);
    if (c.keyed) {
        memcpy(c.task.b, task.data, UUID_BYTES);
    }
    *ret = c;
    return true;
}

void channel_put_answer(struct buf *out, const struct status *st, const struct uuid *task) {
    buf_put_u8(out, (uint8_t)st->code);
    buf_put_varint(out, st->subject);
    buf_put(out, task->b, UUID_BYTES);
    buf_put_bytes(out, slice_str(st->code == STATUS_OK ? "" : st->detail));
}

bool channel_get_answer(struct slice payload, struct status *ret_status, struct uuid *ret_task, struct status *st) {
    struct reader r = reader_of(payload);
    uint8_t code = read_u8(&r);
    uint64_t subject = read_varint(&r);
    struct slice task = read_slice(&r, UUID_BYTES);
    struct slice detail = read_bytes(&r);
    if (!reader_done(&r) || !take_status(code, subject, detail, ret_status)) {
        return status_set(st, STATUS_MALFORMED, "an answer that does not decode");
    }
    memcpy(ret_task->b, task.data, UUID_BYTES);
    return true;
}
