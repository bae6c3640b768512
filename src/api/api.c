/*
 * api.c - one request from its head to its reply.
 *
 * The order of the checks is part of the contract: who asks (401; but for a browser's preflight, which has no key, see cors.c) comes before what is asked for (404, 405), that before whether
 * it can be answered now (503), and only then is the request itself looked at (415, 413, 400, 422). All of these are decided on
 * the head, so a body that is not wanted is never read.
 *
 * An api serves one request at a time (a worker is one thread). What a request allocates lives in its pool and its parsed body,
 * both given back when it is answered; the response's buffers are kept for the next one, unless they have become very large.
 */
#include "api/exchange.h"

#include "api/cors.h"
#include "base/io.h"
#include "shm/atomics.h"
#include "store/model.h"

#include <inttypes.h>
#include <stdlib.h>
#include <strings.h>

#define REPLY_MEMORY_SHARE 4           /* a reply may take 1/4 of worker_memory_bytes */
#define RESPONSE_KEPT_BYTES (1u << 20) /* a larger response buffer is given back after its request */

void api_response_init(struct api_response *r) {
    *r = (struct api_response){.status = 500, .file_fd = -1};
    buf_init(&r->headers);
    buf_init(&r->body);
    buf_init(&r->audit);
}

void api_response_reset(struct api_response *r) {
    struct buf headers = r->headers;
    struct buf body = r->body;
    struct buf audit = r->audit;
    io_close(&r->file_fd);
    *r = (struct api_response){.status = 500, .file_fd = -1};
    if (body.cap > RESPONSE_KEPT_BYTES) {
        buf_fini(&body);
        buf_init(&body);
    }
    buf_reset(&headers);
    buf_reset(&body);
    buf_reset(&audit);
    r->headers = headers;
    r->body = body;
    r->audit = audit;
}

void api_response_fini(struct api_response *r) {
    io_close(&r->file_fd);
    buf_fini(&r->headers);
    buf_fini(&r->body);
    buf_fini(&r->audit);
}

bool api_new(const struct api_host *host, struct api **ret, struct status *st) {
    struct api *a = (struct api *)calloc(1, sizeof *a);
    if (a == NULL) {
        return status_no_memory(st);
    }
    a->host = *host;
    a->exchange = (struct exchange *)calloc(1, sizeof *a->exchange);
    a->scratch = host->scratch != NULL ? host->scratch : search_scratch_new(host->limits->filter_cache_bytes);
    a->query = (float *)calloc(EMBED_MAX_DIMENSION, sizeof *a->query);
    if (a->exchange == NULL || a->scratch == NULL || a->query == NULL) {
        api_free(a);
        return status_no_memory(st);
    }
    a->exchange->api = a;
    buf_init(&a->exchange->problems.json);
    *ret = a;
    return true;
}

void api_free(struct api *a) {
    if (a == NULL) {
        return;
    }
    if (a->exchange != NULL) {
        json_document_fini(&a->exchange->document);
        buf_fini(&a->exchange->problems.json);
        buf_fini(&a->exchange->key.results);
        pool_fini(&a->exchange->pool);
    }
    free(a->exchange);
    if (a->host.scratch == NULL) {
        search_scratch_free(a->scratch);
    }
    free(a->hits);
    free(a->query);
    free(a);
}

/* --- replies --- */

/* Headers that every reply has; drops what stood there before. */
static void reply_begin(struct exchange *x, int status) {
    struct api_response *r = x->response;
    buf_reset(&r->headers);
    buf_reset(&r->body);
    io_close(&r->file_fd);
    r->status = status;
    r->content_type = NULL;
    buf_put_str(&r->headers, "X-Request-Id: ");
    buf_put_str(&r->headers, x->request_id);
    buf_put_str(&r->headers, "\r\n");
    cors_put(x);
}

struct json_out reply_json(struct exchange *x, int status) {
    reply_begin(x, status);
    x->response->content_type = "application/json";
    return json_out_to(&x->response->body);
}

void reply_empty(struct exchange *x, int status) {
    reply_begin(x, status);
}

void reply_stream(struct exchange *x) {
    reply_begin(x, 200);
    x->response->content_type = "application/x-ndjson";
}

bool reply_flush(struct exchange *x, struct status *st) {
    if (!buf_check(&x->response->body, st) || !buf_check(&x->response->headers, st)) {
        return false;
    }
    x->streaming = true;
    return x->stream->write(x->stream->ctx, x->response, st);
}

bool reply_fits(const struct exchange *x, const struct buf *written, struct status *st) {
    uint64_t most = x->api->host.limits->worker_memory_bytes / REPLY_MEMORY_SHARE;
    if (written->len > most) {
        return status_set(st, STATUS_TOO_LARGE, "the reply would have more than %" PRIu64 " bytes; ask for less at once", most);
    }
    return true;
}

void reply_lsn(struct exchange *x, uint64_t lsn) {
    if (lsn == 0) {
        lsn = load_relaxed_u64(&x->api->host.control->published_lsn);
    }
    buf_printf(&x->response->headers, "Quire-LSN: %" PRIu64 "\r\n", lsn);
}

bool library_param(struct exchange *x, struct uuid *ret, struct status *st) {
    if (!uuid_parse(x->param[0], ret)) {
        return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_LIBRARY, "a library's id is a UUID in its canonical form");
    }
    access_narrow(x, ret);
    return true;
}

/* --- the head --- */

static bool request_id_good(struct slice id) {
    if (id.len < 1 || id.len > REQUEST_ID_MAX) {
        return false;
    }
    for (size_t i = 0; i < id.len; i++) {
        uint8_t c = id.data[i];
        bool good =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        if (!good) {
            return false;
        }
    }
    return true;
}

static void exchange_end(struct exchange *x) {
    json_document_fini(&x->document);
    x->document = (struct json_document){0};
    problems_clear(&x->problems);
    pool_reset(&x->pool);
    x->asked = NULL; /* they lay in the pool */
    x->asked_count = 0;
    x->begun = false;
    x->keyed = false;
    x->min_lsn = 0;
    x->stream = NULL;
    x->streaming = false;
    x->route = NULL;
    x->open = false;
    x->who = (struct access){0};
    x->has_library = false;
    x->has_about_key = false;
    x->problem_type = NULL;
    x->problem_subject = SUBJECT_NONE;
}

static void exchange_begin(struct api *a, const struct api_request *request, struct api_response *response) {
    struct exchange *x = a->exchange;
    exchange_end(x);
    x->request = request;
    x->response = response;
    x->begun_ns = clock_monotonic_ns();
    x->begun = true;
    if (request_id_good(request->request_id)) {
        memcpy(x->request_id, request->request_id.data, request->request_id.len);
        x->request_id[request->request_id.len] = '\0';
    } else {
        struct uuid made;
        uuid_make(&made);
        uuid_format(&made, x->request_id);
    }
}

static bool media_type_is(struct slice type, const char *json) {
    size_t len = strlen(json);
    if (type.len < len || strncasecmp((const char *)type.data, json, len) != 0) {
        return false;
    }
    char rest[32];
    size_t used = 0;
    for (size_t i = len; i < type.len; i++) { /* what is behind, without white space and quotes, in lower case */
        uint8_t c = type.data[i];
        if (c == ' ' || c == '\t' || c == '"') {
            continue;
        }
        if (used == sizeof rest - 1) {
            return false;
        }
        rest[used++] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    rest[used] = '\0';
    return used == 0 || strcmp(rest, ";") == 0 || strcmp(rest, ";charset=utf-8") == 0;
}

static bool check_media_type(const struct exchange *x, struct status *st) {
    struct slice type = x->request->content_type;
    if ((x->route->flags & ROUTE_STREAM) != 0) {
        return media_type_is(type, "application/x-ndjson") || media_type_is(type, "application/ndjson") ||
               status_set(st, STATUS_UNSUPPORTED_MEDIA, "the body must be application/x-ndjson (in UTF-8): one document a line");
    }
    if (media_type_is(type, "application/json")) {
        return true;
    }
    return status_set(st, STATUS_UNSUPPORTED_MEDIA, "the body must be application/json (in UTF-8)");
}

static bool check_ready(const struct exchange *x, struct status *st) {
    const struct control *control = x->api->host.control;
    unsigned flags = x->route->flags;
    /* pairs with: CONTROL_STATE; without it a library could be looked for in a directory that is not filled yet */
    if ((flags & ROUTE_DATA) != 0 && load_acquire_u32(&control->ready) == 0) {
        return status_set(st, STATUS_NOT_READY, "the libraries are being restored; try again soon");
    }
    /* pairs with: CONTROL_STATE */
    if ((flags & ROUTE_WRITE) != 0 && load_acquire_u32(&control->accepting) == 0) {
        return status_set(st, STATUS_NOT_READY, "the server is stopping and takes no more writes");
    }
    return true;
}

static bool check_body_head(const struct exchange *x, struct status *st) {
    int64_t length = x->request->content_length;
    uint64_t most = x->api->host.limits->max_body_bytes;
    if (x->route->body == BODY_NONE) {
        return true;
    }
    if ((x->route->flags & ROUTE_STREAM) != 0) {
        return check_media_type(x, st);
    }
    if (length > 0 && (uint64_t)length > most) {
        return status_set(st, STATUS_TOO_LARGE, "the body has %" PRId64 " bytes; at most %" PRIu64 " are taken", length, most);
    }
    if (length == 0 && x->route->body == BODY_REQUIRED) {
        return status_set(st, STATUS_MALFORMED, "the body is empty; this call needs one in JSON");
    }
    return length <= 0 || check_media_type(x, st);
}

static bool reply_options(struct exchange *x, unsigned methods) {
    reply_empty(x, 204);
    buf_put_str(&x->response->headers, "Allow: ");
    route_allow(methods, &x->response->headers);
    buf_put_str(&x->response->headers, "\r\n");
    return true;
}

/* For the audit log, which names the library of a call that is refused for its scope, too. */
static void note_library(struct exchange *x, const struct route_match *match) {
    struct status ignored;
    struct slice id;
    x->has_library = match->route->reach == REACH_PATH && percent_decode(x, match->param[0], false, &id, &ignored) && uuid_parse(id, &x->library);
}

/* What the path has to say. True: x->route is set, or the request is answered (*ret_answered). */
static bool choose_route(struct exchange *x, bool *ret_answered, struct status *st) {
    const struct api_request *request = x->request;
    enum method method = method_of(request->method);
    struct route_match match;
    if (cors_preflight(x)) {
        *ret_answered = true;
        return true;
    }
    route_find(method, request->path, &match);
    x->response->route = match.number;
    x->open = auth_open(x, &match);
    if (!x->open && !auth_check(x, st)) {
        return false;
    }
    if (match.methods == 0) {
        return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_ROUTE, "there is nothing at this path");
    }
    if (method == METHOD_OPTIONS) {
        *ret_answered = reply_options(x, match.methods);
        return true;
    }
    if (match.route == NULL) {
        *ret_answered = true;
        (void)status_set(st, STATUS_METHOD, "this path has other methods; Allow names them");
        reply_problem(x, st);
        buf_put_str(&x->response->headers, "Allow: ");
        route_allow(match.methods, &x->response->headers);
        buf_put_str(&x->response->headers, "\r\n");
        return true;
    }
    x->route = match.route;
    note_library(x, &match);
    if (!access_check(x, st)) {
        return false;
    }
    for (size_t i = 0; i < ROUTE_MAX_PARAMS; i++) {
        if (!percent_decode(x, match.param[i], false, &x->param[i], st)) {
            return false;
        }
    }
    return true;
}

static bool handle(struct exchange *x, struct status *st) {
    if (!request_key_recall(x, st) || !request_run(x, st)) {
        return false;
    }
    return buf_check(&x->response->body, st) && buf_check(&x->response->headers, st);
}

/* The last word when even the problem could not be written: a reply without a body. */
static void finish_reply(struct exchange *x) {
    struct api_response *r = x->response;
    if (!buf_ok(&r->body) || !buf_ok(&r->headers)) {
        buf_fini(&r->body);
        buf_fini(&r->headers);
        buf_init(&r->body);
        buf_init(&r->headers);
        r->status = 503;
        r->content_type = NULL;
    }
    audit_note(x);
    exchange_end(x);
}

bool api_begin(struct api *a, const struct api_request *request, struct api_response *response, uint64_t *ret_body_max) {
    struct exchange *x = a->exchange;
    struct status st = {0};
    exchange_begin(a, request, response);
    bool answered = false;
    bool good = choose_route(x, &answered, &st);
    if (good && !answered) {
        good = check_ready(x, &st) && request_key_read(x, &st) && query_read(x, x->route->query, &st) && check_body_head(x, &st);
    }
    bool streams = good && !answered && (x->route->flags & ROUTE_STREAM) != 0;
    if (good && !answered && !streams && x->route->body == BODY_NONE) {
        good = handle(x, &st);
        answered = good;
    }
    if (!good) {
        reply_problem(x, &st);
        answered = true;
    }
    if (answered) {
        finish_reply(x);
        return true;
    }
    response->streams = streams;
    *ret_body_max = a->host.limits->max_body_bytes;
    return false;
}

static bool check_body(const struct exchange *x, struct status *st) {
    size_t len = x->request->body.len;
    if (len == 0) {
        return x->route->body == BODY_OPTIONAL ||
               status_set(st, STATUS_MALFORMED, "the body is empty; this call needs one in JSON");
    }
    if (len > x->api->host.limits->max_body_bytes) {
        return status_set(st, STATUS_TOO_LARGE, "at most %" PRIu64 " bytes of a body are taken",
                          x->api->host.limits->max_body_bytes);
    }
    return check_media_type(x, st);
}

void api_finish(struct api *a, const struct api_request *request, struct api_response *response) {
    struct exchange *x = a->exchange;
    struct status st = {0};
    x->request = request;
    x->response = response;
    if (!x->begun || x->route == NULL) { /* a caller that asks for the second step without the first */
        exchange_begin(a, request, response);
        (void)status_set(&st, STATUS_INTERNAL, "api_finish without api_begin");
        reply_problem(x, &st);
    } else if (!check_body(x, &st) || !handle(x, &st)) {
        reply_problem(x, &st);
    }
    finish_reply(x);
}

void api_stream(struct api *a, const struct api_request *request, const struct api_stream *stream, struct api_response *response) {
    struct exchange *x = a->exchange;
    struct status st = {0};
    x->request = request;
    x->response = response;
    x->stream = stream;
    if (!handle(x, &st)) {
        response->cut = x->streaming;
        if (!x->streaming) {
            reply_problem(x, &st);
        }
    }
    finish_reply(x);
}

void api_fail(struct api *a, const struct api_request *request, const struct status *st, struct api_response *response) {
    struct exchange *x = a->exchange;
    if (!x->begun) {
        exchange_begin(a, request, response);
    }
    x->request = request;
    x->response = response;
    reply_problem(x, st);
    finish_reply(x);
}
