/* provider_frames.c - see provider_frames.h. */
#include "proc/provider_frames.h"

#include "base/utf8.h"

#include <math.h>

/* Of the answer's status codes none else can come from a provider. */
static bool is_answer_code(uint8_t code) {
    return code == STATUS_OK || code == STATUS_NO_EMBEDDING || code == STATUS_NO_MEMORY || code == STATUS_BUSY;
}

/* --- EMBED --- */

void provider_put_ask(struct buf *out, const struct provider_ask *ask, const struct slice *texts) {
    buf_put_u8(out, ask->model);
    buf_put_u8(out, ask->role);
    buf_put_u8(out, ask->hurry ? 1 : 0);
    buf_put_u32le(out, ask->patience_ms);
    buf_put_varint(out, ask->count);
    for (uint32_t i = 0; i < ask->count; i++) {
        buf_put_bytes(out, texts[i]);
    }
}

bool provider_ask_next(struct provider_ask *ask, struct slice *ret) {
    if (ask->texts.failed || reader_left(&ask->texts) == 0) {
        return false;
    }
    *ret = read_bytes(&ask->texts);
    return !ask->texts.failed;
}

bool provider_get_ask(struct slice payload, struct provider_ask *ret, struct status *st) {
    struct reader r = reader_of(payload);
    struct provider_ask ask = {.model = read_u8(&r), .role = read_u8(&r)};
    uint8_t hurry = read_u8(&r);
    ask.hurry = hurry != 0;
    ask.patience_ms = read_u32le(&r);
    uint64_t count = read_varint(&r);
    ask.texts = r;
    if (r.failed || ask.role > EMBED_DOCUMENT || hurry > 1 || count == 0 || count > PROVIDER_TEXTS_MAX ||
        ask.patience_ms > PROVIDER_PATIENCE_MAX_MS) {
        return status_set(st, STATUS_MALFORMED, "a request for vectors that does not decode");
    }
    ask.count = (uint32_t)count;
    for (uint64_t i = 0; i < count; i++) {
        if (!utf8_valid(read_bytes(&r))) {
            return status_set(st, STATUS_MALFORMED, "a text that is not UTF-8");
        }
    }
    if (!reader_done(&r)) {
        return status_set(st, STATUS_MALFORMED, "a request for vectors that does not decode");
    }
    *ret = ask;
    return true;
}

/* --- EMBEDDED --- */

void provider_put_answer(struct buf *out, const struct provider_answer *a) {
    buf_put_u8(out, (uint8_t)a->status.code);
    buf_put_u8(out, a->permanent ? 1 : 0);
    buf_put_u64le(out, a->retry_after_ms);
    buf_put_u64le(out, a->fingerprint);
    buf_put_varint(out, a->dimension);
    buf_put_varint(out, a->done);
    buf_put_slice(out, a->values);
    buf_put_bytes(out, slice_str(a->status.code != STATUS_OK ? a->status.detail : ""));
}

static bool all_finite(struct slice values) {
    for (size_t at = 0; at < values.len; at += sizeof(float)) {
        float value;
        memcpy(&value, values.data + at, sizeof value);
        if (!isfinite(value)) {
            return false;
        }
    }
    return true;
}

bool provider_get_answer(struct slice payload, struct provider_answer *ret, struct status *st) {
    struct reader r = reader_of(payload);
    struct provider_answer a = {0};
    uint8_t code = read_u8(&r);
    a.permanent = read_u8(&r) != 0;
    a.retry_after_ms = read_u64le(&r);
    a.fingerprint = read_u64le(&r);
    uint64_t dimension = read_varint(&r);
    uint64_t done = read_varint(&r);
    if (r.failed || !is_answer_code(code) || dimension > EMBED_MAX_DIMENSION || done > PROVIDER_TEXTS_MAX ||
        (done > 0 && (dimension == 0 || a.fingerprint == 0))) {
        return status_set(st, STATUS_MALFORMED, "an answer with vectors that does not decode");
    }
    a.values = read_slice(&r, (size_t)(done * dimension * sizeof(float)));
    struct slice detail = read_bytes(&r);
    if (!reader_done(&r) || !all_finite(a.values) || !utf8_valid(detail)) {
        return status_set(st, STATUS_MALFORMED, "an answer with vectors that does not decode");
    }
    a.dimension = (uint32_t)dimension;
    a.done = (uint32_t)done;
    if (code != STATUS_OK) {
        (void)status_set(&a.status, (enum status_code)code, "%.*s", (int)utf8_prefix(detail, STATUS_DETAIL_MAX - 1), (const char *)detail.data);
    }
    *ret = a;
    return true;
}

/* --- MODEL --- */

void provider_put_model(struct buf *out, uint8_t model, const struct figures_provider *m) {
    buf_put_u8(out, model);
    buf_put(out, m, sizeof *m);
}

bool provider_get_model(struct slice payload, uint8_t *ret_model, struct figures_provider *ret, struct status *st) {
    struct figures_provider m;
    if (payload.len != 1 + sizeof m) {
        return status_set(st, STATUS_MALFORMED, "a model's state that does not decode");
    }
    memcpy(&m, payload.data + 1, sizeof m);
    size_t len = strnlen(m.error, sizeof m.error);
    if (len == sizeof m.error || !utf8_valid(slice_of(m.error, len)) || m.dimension > EMBED_MAX_DIMENSION || m.state > PROVIDER_AWAY) {
        return status_set(st, STATUS_MALFORMED, "a model's state that does not decode");
    }
    *ret_model = payload.data[0];
    *ret = m;
    return true;
}
