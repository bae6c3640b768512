/*
 * request_key.c - requests with an Idempotency-Key: the same key and body gives the first reply again, although what it did is not done
 * again.
 *
 * Replies are not stored. What is remembered of a request (store/idempotency.h) is what became of each of its ops, and what its ids
 * and times were drawn from; the body comes with the retry. So the handler simply runs again: request_uuid and request_time give
 * what they gave the first time, and where it submits its ops it gets the first results. A handler of such a route therefore
 *
 *   - draws ids and times of what it makes from these two, in an order that follows from the body,
 *   - submits once, and builds its reply from the body and the results, not from what the library is like now,
 *   - asks request_known before it looks at something that the first run may have changed.
 *
 * A request that was remembered meanwhile (two at once with one key) is told so when it submits, and the handler runs once more.
 * What changed nothing, because all of it was refused, is not remembered: then a retry is a new try.
 */
#include "api/exchange.h"

#include <inttypes.h>


static bool visible_ascii(struct slice s) {
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] <= ' ' || s.data[i] > '~') {
            return false;
        }
    }
    return true;
}

bool request_key_read(struct exchange *x, struct status *st) {
    struct slice key = x->request->idempotency_key;
    x->keyed = key.len > 0 && (x->route->flags & ROUTE_KEYED) != 0;
    if (x->keyed && (key.len > LIMIT_IDEMPOTENCY_KEY_BYTES || !visible_ascii(key))) {
        x->keyed = false;
        return status_set(st, STATUS_INVALID,
                          "the header Idempotency-Key must be one key of 1 to %d visible ASCII characters, without spaces",
                          LIMIT_IDEMPOTENCY_KEY_BYTES);
    }
    return true;
}

/* As routes.c takes it: one slash at the end is no other path. */
static struct slice path_of(const struct api_request *r) {
    size_t len = r->path.len;
    return slice_of(r->path.data, len > 1 && r->path.data[len - 1] == '/' ? len - 1 : len);
}

bool request_key_recall(struct exchange *x, struct status *st) {
    const struct api_request *r = x->request;
    const struct slice scope[] = {r->idempotency_key, r->method, path_of(r), auth_key(r)};
    const struct slice body[] = {r->body, r->query};
    if (!x->keyed) {
        return true;
    }
    x->key.known = false;
    x->key.lsn = 0;
    buf_reset(&x->key.results);
    idempotency_hash(scope, sizeof scope / sizeof scope[0], x->key.id.scope);
    idempotency_hash(body, sizeof body / sizeof body[0], x->key.id.body);
    uuid_make(&x->key.origin.seed);
    x->key.origin.created_at = clock_wall_us();
    return x->api->host.recall(x->api->host.ctx, &x->key, st);
}

bool request_run(struct exchange *x, struct status *st) {
    bool known = x->keyed && x->key.known;
    x->drawn = 0;
    bool good = x->route->handle(x, st);
    if (x->keyed && x->key.known && !known) { /* it was done meanwhile */
        x->drawn = 0;
        problems_clear(&x->problems);
        json_document_fini(&x->document);
        x->document = (struct json_document){0};
        status_clear(st);
        good = x->route->handle(x, st);
    }
    if (good && x->keyed && x->key.known) {
        buf_put_str(&x->response->headers, "Idempotency-Replayed: true\r\n");
    }
    return good;
}

bool request_known(const struct exchange *x) {
    return x->keyed && x->key.known;
}

void request_uuid(struct exchange *x, struct uuid *ret) {
    if (x->keyed) {
        idempotency_uuid(&x->key.origin.seed, x->drawn++, ret);
    } else {
        uuid_make(ret);
    }
}

int64_t request_time(const struct exchange *x) {
    return x->keyed ? x->key.origin.created_at : clock_wall_us();
}

/* --- submitting --- */

static bool ops_fit(const struct exchange *x, const struct api_submission *ops, size_t count, struct status *st) {
    uint64_t most = x->api->host.limits->max_op_bytes;
    uint64_t all = 0;
    for (size_t i = 0; i < count; i++) {
        all += ops[i].op.len;
        if (ops[i].op.len > most) {
            return status_set(st, STATUS_TOO_LARGE,
                              "what is to be written takes %zu bytes; at most %" PRIu64 " can be written at once", ops[i].op.len,
                              most);
        }
    }
    return !x->keyed || all <= most ||
           status_set(st, STATUS_TOO_LARGE,
                      "what is to be written takes %" PRIu64 " bytes; with an Idempotency-Key at most %" PRIu64
                      " can be written at once",
                      all, most);
}

static bool take_remembered(const struct exchange *x, size_t count, struct api_op_result *results, struct status *st) {
    size_t bytes = count * sizeof *results;
    if (x->key.results.len != bytes) {
        return status_set(st, STATUS_CONFLICT,
                          "this request was done at LSN %" PRIu64 "; its reply cannot be given again, because what it was made to is "
                          "no longer what it was",
                          x->key.lsn);
    }
    if (bytes > 0) {
        memcpy(results, x->key.results.data, bytes);
    }
    return true;
}

bool submit_ops(struct exchange *x, const struct api_submission *ops, size_t count, struct api_op_result *results,
                struct status *st) {
    const struct api_host *host = &x->api->host;
    if (request_known(x)) {
        return take_remembered(x, count, results, st);
    }
    if (!ops_fit(x, ops, count, st) || !host->submit(host->ctx, x->keyed ? &x->key : NULL, ops, count, results, st)) {
        return false;
    }
    return !request_known(x) || status_set(st, STATUS_CONFLICT, "another request with this key was done meanwhile");
}

bool submit_one(struct exchange *x, const struct api_submission *op, struct api_op_result *ret, struct status *st) {
    struct api_op_result result = {0};
    if (!submit_ops(x, op, 1, &result, st)) {
        return false;
    }
    if (result.status.code != STATUS_OK) {
        *st = result.status;
        return false;
    }
    *ret = result;
    return true;
}
