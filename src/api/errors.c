/*
 * errors.c - from a status to what a client reads: application/problem+json (RFC 9457), and the problems collected on the way.
 *
 * A status code of the server's own trouble (the operating system, damage, a bug) says nothing of the inside to a client; its
 * detail goes to the log with the request id, under which the client can ask for it.
 */
#include "api/exchange.h"

#include "base/log.h"
#include "base/utf8.h"

#include <stdio.h>

#define POINTER_KEY_SHOWN 128 /* bytes of a member's name in a pointer */

static struct http_error not_found_error(uint16_t subject) {
    switch ((enum subject)subject) {
    case SUBJECT_LIBRARY:
        return (struct http_error){404, "LibraryNotFoundError", "There is no such library"};
    case SUBJECT_DOCUMENT:
        return (struct http_error){404, "DocumentNotFoundError", "There is no such document"};
    case SUBJECT_CHUNK:
        return (struct http_error){404, "ChunkNotFoundError", "There is no such chunk"};
    case SUBJECT_TASK:
        return (struct http_error){404, "TaskNotFoundError", "There is no such task"};
    case SUBJECT_SNAPSHOT:
        return (struct http_error){404, "SnapshotNotFoundError", "There is no such snapshot"};
    case SUBJECT_KEY:
        return (struct http_error){404, "KeyNotFoundError", "There is no such key"};
    case SUBJECT_ROUTE:
    case SUBJECT_NONE:
        break;
    }
    return (struct http_error){404, "RouteNotFoundError", "There is no such path"};
}

struct http_error http_error_of(const struct status *st) {
    switch (st->code) {
    case STATUS_MALFORMED:
        return (struct http_error){400, "MalformedRequestError", "The request cannot be read"};
    case STATUS_DIMENSION:
        return (struct http_error){400, "DimensionMismatchError", "The vector has a wrong dimension"};
    case STATUS_INVALID:
        return (struct http_error){422, "ValidationError", "The request is not valid"};
    case STATUS_UNAUTHENTICATED:
        return (struct http_error){401, "AuthenticationError", "A valid key is needed"};
    case STATUS_DENIED:
        return (struct http_error){403, "PermissionDeniedError", "The key does not allow this"};
    case STATUS_NOT_FOUND:
        return not_found_error(st->subject);
    case STATUS_METHOD:
        return (struct http_error){405, "MethodNotAllowedError", "The path has no such method"};
    case STATUS_CONFLICT:
        return (struct http_error){409, "ConflictError", "The request conflicts with what is there"};
    case STATUS_PRECONDITION:
        return (struct http_error){412, "PreconditionFailedError", "What is there is not as the request asks"};
    case STATUS_TOO_LARGE:
        return (struct http_error){413, "PayloadTooLargeError", "The request is too large"};
    case STATUS_UNSUPPORTED_MEDIA:
        return (struct http_error){415, "UnsupportedMediaTypeError", "The media type is not supported"};
    case STATUS_NOT_READY:
        return (struct http_error){503, "NotReadyError", "The server is not ready"};
    case STATUS_BUSY:
    case STATUS_NO_MEMORY:
        return (struct http_error){503, "OverloadedError", "The server is overloaded"};
    case STATUS_NO_EMBEDDING:
        return (struct http_error){503, "EmbeddingUnavailableError", "The embedding model cannot answer"};
    case STATUS_NO_SPACE:
        return (struct http_error){507, "InsufficientStorageError", "There is no room left on the server"};
    case STATUS_OK:
    case STATUS_IO:
    case STATUS_CORRUPT:
    case STATUS_CONFIG:
    case STATUS_INTERNAL:
        break;
    }
    return (struct http_error){500, "InternalError", "The server failed"};
}

const char *public_detail(const struct status *st) {
    switch (st->code) {
    case STATUS_NO_SPACE: /* the detail may name files */
        return "the disk is full: nothing was written; searches go on";
    case STATUS_NO_MEMORY:
        return "the server has no memory, files or threads left for this request; try again, or send less at once";
    default:
        break;
    }
    if (http_error_of(st).status == 500) {
        return "something went wrong in the server; its log has more under this request id";
    }
    return st->detail;
}

void reply_problem(struct exchange *x, const struct status *st) {
    struct http_error error = http_error_of(st);
    if (error.status == 500 || st->code == STATUS_NO_MEMORY) {
        char what[REQUEST_ID_MAX + 16];
        (void)snprintf(what, sizeof what, "request %s", x->request_id);
        log_status(LOG_LEVEL_ERROR, what, st);
    }
    x->problem_type = error.type;
    x->problem_subject = error.status == 404 ? st->subject : SUBJECT_NONE;
    struct json_out j = reply_json(x, error.status);
    x->response->content_type = "application/problem+json";
    if (error.status == 503) {
        uint64_t seconds = x->retry_after_ms / 1000 + (x->retry_after_ms % 1000 != 0 ? 1 : 0);
        buf_printf(&x->response->headers, "Retry-After: %" PRIu64 "\r\n", seconds > 0 ? seconds : (uint64_t)RETRY_AFTER_SECONDS);
    }
    if (error.status == 401) {
        buf_put_str(&x->response->headers, "WWW-Authenticate: Bearer realm=\"quire\"\r\n");
    }
    json_begin_object(&j);
    char type[64];
    (void)snprintf(type, sizeof type, "urn:quire:error:%s", error.type);
    json_member_cstring(&j, "type", type);
    json_member_cstring(&j, "title", error.title);
    json_member_int(&j, "status", error.status);
    json_member_cstring(&j, "detail", public_detail(st));
    json_member_cstring(&j, "error_type", error.type);
    json_member_cstring(&j, "request_id", x->request_id);
    if (st->code == STATUS_INVALID && x->problems.count > 0 && buf_ok(&x->problems.json)) {
        json_key(&j, "errors");
        json_begin_array(&j);
        json_raw(&j, buf_slice(&x->problems.json));
        json_end_array(&j);
    }
    json_end_object(&j);
}

/* --- problems --- */

/* One key of a pointer, escaped by RFC 6901 (~ and /), cut where it is very long. */
static void put_pointer_key(struct slice key, struct buf *out) {
    bool cut = key.len > POINTER_KEY_SHOWN;
    size_t len = cut ? utf8_prefix(key, POINTER_KEY_SHOWN) : key.len;
    for (size_t i = 0; i < len; i++) {
        if (key.data[i] == '~') {
            buf_put_str(out, "~0");
        } else if (key.data[i] == '/') {
            buf_put_str(out, "~1");
        } else {
            buf_put_u8(out, key.data[i]);
        }
    }
    if (cut) {
        buf_put_str(out, "...");
    }
}

#define POINTER_DEPTH 40 /* deeper than any body that passes json_max_depth's preset; what is above is left out */

static void put_pointer(const struct place *at, struct buf *out) {
    const struct place *chain[POINTER_DEPTH];
    unsigned depth = 0;
    for (; at != NULL && depth < POINTER_DEPTH; at = at->parent) {
        chain[depth++] = at;
    }
    while (depth > 0) {
        const struct place *p = chain[--depth];
        buf_put_u8(out, '/');
        if (p->key.data != NULL) {
            put_pointer_key(p->key, out);
        } else {
            buf_printf(out, "%zu", p->index);
        }
    }
}

static void problem_keep(struct problems *p, struct slice pointer, const char *detail) {
    if (p->count == 0) {
        char shown[96];
        size_t len = pointer.len < sizeof shown ? pointer.len : utf8_prefix(pointer, sizeof shown - 1);
        (void)snprintf(p->first, sizeof p->first, "%.*s%s%s", (int)len, len == 0 ? "" : (const char *)pointer.data,
                       len == 0 ? "" : ": ", detail);
        p->first[utf8_prefix(slice_str(p->first), strlen(p->first))] = '\0';
    }
    p->count++;
    if (p->count > PROBLEMS_MAX) {
        return;
    }
    if (p->count > 1) {
        buf_put_u8(&p->json, ',');
    }
    struct json_out j = json_out_to(&p->json);
    json_begin_object(&j);
    json_member_string(&j, "pointer", pointer);
    json_member_cstring(&j, "detail", detail);
    json_end_object(&j);
}

void problem_add(struct exchange *x, const struct place *at, const char *fmt, ...) {
    char detail[STATUS_DETAIL_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(detail, sizeof detail, fmt, args);
    va_end(args);
    detail[utf8_prefix(slice_str(detail), strlen(detail))] = '\0'; /* vsnprintf may have cut a code point */
    struct buf pointer;
    buf_init(&pointer);
    put_pointer(at, &pointer);
    problem_keep(&x->problems, buf_slice(&pointer), detail);
    buf_fini(&pointer);
}

void problem_add_query(struct exchange *x, struct slice name, const char *detail) {
    struct buf pointer;
    buf_init(&pointer);
    buf_put_u8(&pointer, '?');
    put_pointer_key(name, &pointer);
    problem_keep(&x->problems, buf_slice(&pointer), detail);
    buf_fini(&pointer);
}

void problems_clear(struct problems *p) {
    p->count = 0;
    p->first[0] = '\0';
    buf_reset(&p->json);
}

bool problems_none(struct exchange *x, struct status *st) {
    const struct problems *p = &x->problems;
    if (p->count == 0) {
        return true;
    }
    if (p->count == 1) {
        return status_set(st, STATUS_INVALID, "%s", p->first);
    }
    return status_set(st, STATUS_INVALID, "%s (and %u more)", p->first, p->count - 1);
}
