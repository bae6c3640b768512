/*
 * worker_request.c - one request: from libfcgi to the api, and the reply back. The only file that uses libfcgi; what streams comes by HTTP/2 (worker_stream.c).
 *
 * How it differs from the usual libfcgi loop: FCGX_Accept_r accepts by itself and then reads without a deadline, so
 * one silent client parks a worker for ever, and SIGTERM does not free it. Here the worker accepts (intake.c), checks who is there
 * (SO_PEERCRED), sets both timeouts, waits for the first bytes with SIGTERM let in, looks at them, and only then hands the
 * descriptor to libfcgi:
 *
 *   request.ipcFd = fd              FCGX_Accept_r parses from it instead of accepting
 *   request.listen_sock = -1        a bad begin makes it accept again, which fails, and it returns
 *   request.keepConnection = 1      else its first step, finishing the request before, closes the new descriptor
 *   FCGX_Detach                     closes without its lingering read (up to 2 s for a silent client)
 *
 * The first record must be the begin of a responder's request. So FCGI_GET_VALUES, whose answer overflows a stack buffer of
 * libfcgi 2.4.2, never reaches it in the first place; nginx sends none, and who else may connect is decided by the socket's
 * permissions.
 *
 * A write's deadline counts from when nginx had it whole (QUIRE_SENT_AT): what it waited in the socket's queue is part of it. One whose
 * time is over when its turn comes is refused before anything is done.
 */
#include "proc/worker_internal.h"

#include "api/count.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "proc/audit.h"
#include "proc/heritage.h"
#include "shm/atomics.h"

#include <malloc.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    US_PER_MS = 1000,
    NS_PER_US = 1000,
    MS_PER_SECOND = 1000,
    READ_STEP = 65536,
    SEND_STEP = 65536,
    SHORT_REPLY = 65536,
    TRIM_BYTES = 4194304 /* after a larger request memory is given back to the system */
};

/* A write that says it waited longer than any nginx waits has met another clock, not a long queue. */
#define LONGEST_WAIT_MS INT64_C(600000)

static const char *reason_of(int status) {
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {{200, "OK"},
                   {201, "Created"},
                   {202, "Accepted"},
                   {204, "No Content"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {409, "Conflict"},
                   {413, "Content Too Large"},
                   {415, "Unsupported Media Type"},
                   {422, "Unprocessable Content"},
                   {429, "Too Many Requests"},
                   {500, "Internal Server Error"},
                   {503, "Service Unavailable"},
                   {507, "Insufficient Storage"}};
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Status";
}

/* CONTENT_LENGTH: empty is none. False: not a number. */
static bool parse_length(struct slice text, int64_t *ret) {
    int64_t value = 0;
    *ret = -1;
    if (text.len == 0) {
        return true;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || value > (INT64_MAX - 9) / 10) {
            return false;
        }
        value = value * 10 + (text.data[i] - '0');
    }
    *ret = value;
    return true;
}

/* How long ago nginx had the request whole, as nginx tells it ("seconds.milliseconds" since 1970); 0 where it does not. */
static int64_t waited_ms(struct slice text) {
    const uint8_t *point = text.len == 0 ? NULL : (const uint8_t *)memchr(text.data, '.', text.len);
    int64_t seconds = 0;
    int64_t ms = 0;
    if (point == NULL || !parse_length(slice_of(text.data, (size_t)(point - text.data)), &seconds) ||
        !parse_length(slice_of(point + 1, text.len - (size_t)(point - text.data) - 1), &ms) || seconds < 0 || ms < 0 ||
        seconds > INT64_MAX / MS_PER_SECOND / US_PER_MS || ms >= MS_PER_SECOND) {
        return 0;
    }
    int64_t waited = clock_wall_us() / US_PER_MS - (seconds * MS_PER_SECOND + ms);
    return waited > 0 && waited < LONGEST_WAIT_MS ? waited : 0;
}

/* The parameters that are asked for, found in one pass: FCGX_GetParam compares with all of them for each. */
struct params {
    struct api_request request;
    struct slice uri, content_length, sent_at;
};

#define PARAM(name, field) {name, sizeof(name) - 1, offsetof(struct params, field)}
static const struct {
    const char *name;
    size_t len;
    size_t offset;
} known_params[] = {
    PARAM("REQUEST_METHOD", request.method),
    PARAM("REQUEST_URI", uri),
    PARAM("QUERY_STRING", request.query),
    PARAM("CONTENT_TYPE", request.content_type),
    PARAM("CONTENT_LENGTH", content_length),
    PARAM("HTTP_AUTHORIZATION", request.authorization),
    PARAM("HTTP_X_API_KEY", request.x_api_key),
    PARAM("QUIRE_REQUEST_ID", request.request_id),
    PARAM("HTTP_IDEMPOTENCY_KEY", request.idempotency_key),
    PARAM("HTTP_IF_MATCH", request.if_match),
    PARAM("HTTP_IF_NONE_MATCH", request.if_none_match),
    PARAM("HTTP_HOST", request.host),
    PARAM("HTTP_ORIGIN", request.origin),
    PARAM("HTTP_ACCESS_CONTROL_REQUEST_METHOD", request.cors_method),
    PARAM("REMOTE_ADDR", request.remote_address),
    PARAM("QUIRE_SENT_AT", sent_at),
};

static struct slice *field_of(struct params *p, size_t i) {
    return (struct slice *)(void *)((uint8_t *)p + known_params[i].offset);
}

/* One "NAME=value". Of a name that comes twice the first counts. */
static void take_param(struct params *p, const char *text) {
    const char *equals = strchr(text, '=');
    size_t len = equals == NULL ? 0 : (size_t)(equals - text);
    for (size_t i = 0; i < sizeof known_params / sizeof known_params[0]; i++) {
        if (known_params[i].len == len && memcmp(known_params[i].name, text, len) == 0) {
            struct slice *field = field_of(p, i);
            *field = field->data == NULL ? slice_str(equals + 1) : *field;
            return;
        }
    }
}

/* False: the head itself is wrong, *st says how; what could be read stands in *ret. */
static bool read_head(const FCGX_Request *r, struct api_request *ret, int64_t *ret_waited_ms, struct status *st) {
    struct params p = {.uri = {NULL, 0}};
    for (char **at = r->envp; at != NULL && *at != NULL; at++) {
        take_param(&p, *at);
    }
    for (size_t i = 0; i < sizeof known_params / sizeof known_params[0]; i++) {
        struct slice *field = field_of(&p, i);
        *field = field->data == NULL ? slice_str("") : *field;
    }
    const uint8_t *question = p.uri.len == 0 ? NULL : (const uint8_t *)memchr(p.uri.data, '?', p.uri.len);
    p.request.path = slice_of(p.uri.data, question == NULL ? p.uri.len : (size_t)(question - p.uri.data));
    *ret = p.request;
    *ret_waited_ms = waited_ms(p.sent_at);
    return parse_length(p.content_length, &ret->content_length) || status_set(st, STATUS_MALFORMED, "Content-Length is not a number");
}

/* A write's time begins with nginx. False: it is over already. */
static bool begin_deadline(struct seat *s, int64_t sent_ms_ago, struct status *st) {
    int64_t waited = s->is_write ? sent_ms_ago : 0;
    if (waited >= (int64_t)s->worker->config.write_deadline_ms) {
        (void)add_relaxed_u64(&s->worker->page->overdue, 1);
        return status_set(st, STATUS_BUSY, "the write waited %lld ms for its turn; it was not done", (long long)waited);
    }
    worker_link_begin(&s->call, waited);
    return true;
}

/* Reads the body to its end, at most `most` bytes. */
static bool read_body(struct seat *s, int64_t announced, uint64_t most, struct status *st) {
    struct buf *b = &s->body;
    size_t limit = most < SIZE_MAX - 1 ? (size_t)most : SIZE_MAX - 1;
    buf_reset(b);
    if (announced > 0 && (uint64_t)announced > most) {
        return status_set(st, STATUS_TOO_LARGE, "the body has %lld bytes; at most %llu are taken", (long long)announced,
                          (unsigned long long)most);
    }
    if (announced > 0 && !buf_reserve(b, (size_t)announced + 1)) {
        return status_no_memory(st);
    }
    for (;;) {
        /* One byte more than allowed is asked for: that tells a body of the limit from a longer one. */
        size_t room = limit + 1 - b->len;
        size_t want = room < READ_STEP ? room : READ_STEP;
        if (!buf_reserve(b, want)) {
            return status_no_memory(st);
        }
        int n = FCGX_GetStr((char *)b->data + b->len, (int)want, s->request.in);
        b->len += n > 0 ? (size_t)n : 0;
        if (b->len > limit) {
            return status_set(st, STATUS_TOO_LARGE, "the body has more than %llu bytes", (unsigned long long)most);
        }
        if (n < (int)want) {
            break;
        }
    }
    if (FCGX_GetError(s->request.in) != 0 || (announced >= 0 && (uint64_t)announced != b->len)) {
        return status_set(st, STATUS_MALFORMED, "the body ended after %zu bytes, and %lld were announced", b->len,
                          (long long)announced);
    }
    return true;
}

static void put(FCGX_Stream *out, struct slice s) {
    while (s.len > 0) {
        int step = s.len < INT32_MAX ? (int)s.len : INT32_MAX;
        if (FCGX_PutStr((const char *)s.data, step, out) != step) {
            return; /* nginx is gone */
        }
        s.data += step;
        s.len -= (size_t)step;
    }
}

/* In pieces. Each that nginx has taken is progress, so the watchdog counts anew; a client that takes nothing ends it by peer_timeout_ms. A file that turns out
 * shorter than announced ends the connection early, which nginx passes on as a response cut short. */
static void send_file(struct seat *s, int fd, uint64_t bytes) {
    struct control_worker *page = s->worker->page;
    char piece[SEND_STEP];
    struct status st;
    store_relaxed_u64(&page->sending, 1);
    for (uint64_t at = 0; at < bytes;) {
        size_t want = bytes - at < sizeof piece ? (size_t)(bytes - at) : sizeof piece;
        size_t have = 0;
        if (!io_pread(fd, piece, want, (off_t)at, &have, &st) || have == 0) {
            log_warn("a file that is being sent cannot be read to its end");
            break;
        }
        if (FCGX_PutStr(piece, (int)have, s->request.out) != (int)have) {
            break; /* nginx is gone */
        }
        at += have;
        store_relaxed_u64(&page->busy_since_us, (uint64_t)clock_monotonic_us());
    }
    store_relaxed_u64(&page->sending, 0);
}

static void send_response(struct seat *s, bool with_body) {
    const struct api_response *r = &s->response;
    FCGX_Stream *out = s->request.out;
    bool long_one = r->body.len + r->headers.len > SHORT_REPLY; /* writing it may wait */
    if (s->fiber != NULL && long_one && !intake_set_timeouts(&s->worker->intake, s->request.ipcFd)) {
        return;
    }
    if (!buf_ok(&r->headers) || !buf_ok(&r->body)) {
        put(out, slice_str("Status: 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"));
        return;
    }
    FCGX_FPrintF(out, "Status: %d %s\r\n", r->status, reason_of(r->status));
    if (r->content_type != NULL) {
        uint64_t bytes = r->file_fd >= 0 ? r->file_bytes : r->body.len;
        FCGX_FPrintF(out, "Content-Type: %s\r\nContent-Length: %lu\r\n", r->content_type, (unsigned long)bytes);
    }
    put(out, buf_slice(&r->headers));
    put(out, slice_str("\r\n"));
    if (with_body && r->file_fd >= 0) {
        send_file(s, r->file_fd, r->file_bytes);
    } else if (with_body) {
        put(out, buf_slice(&r->body));
    }
}

/* A body that nobody wanted is still under way; closing on it would make nginx drop the reply. */
static void drain_body(struct seat *s, uint64_t most) {
    char nowhere[READ_STEP];
    uint64_t got = 0;
    int n = 0;
    (void)FCGX_FFlush(s->request.out);
    do {
        n = FCGX_GetStr(nowhere, sizeof nowhere, s->request.in);
        got += n > 0 ? (uint64_t)n : 0;
    } while (n == (int)sizeof nowhere && got <= most);
}

/* FastCGI through nginx cannot answer while it reads (http2.c). */
static bool no_streams_here(struct status *st) {
    return status_set(st, STATUS_CONFIG, "nginx sends a stream by FastCGI: its configuration is not the one of this version");
}

/* Before the reply goes out, so that what a client has heard of has left this process, which may be killed at any moment. */
void worker_audit(const struct api_response *r, struct control_worker *page) {
    (void)add_relaxed_u64(&page->auth_failures, r->status == 401 ? 1 : 0);
    (void)add_relaxed_u64(&page->auth_denials, r->status == 403 ? 1 : 0);
    if (r->audit.len > 0 || r->audit.failed) {
        bool sent = buf_ok(&r->audit) && audit_send(HERITAGE_AUDIT, buf_slice(&r->audit), r->is_refusal);
        (void)add_relaxed_u64(&page->audit_lost, sent ? 0 : 1);
    }
}

static void answer_request(struct seat *s) {
    struct api_request request;
    int64_t waited = 0;
    struct status st;
    uint64_t body_max = 0;
    bool body_read = false;
    api_response_reset(&s->response);
    if (!read_head(&s->request, &request, &waited, &st) || !begin_deadline(s, waited, &st)) {
        api_fail(s->api, &request, &st, &s->response);
    } else if (!api_begin(s->api, &request, &s->response, &body_max)) {
        body_read = s->response.streams ? no_streams_here(&st) : read_body(s, request.content_length, body_max, &st);
        if (body_read) {
            request.body = buf_slice(&s->body);
            api_finish(s->api, &request, &s->response);
        } else {
            api_fail(s->api, &request, &st, &s->response);
        }
    }
    worker_audit(&s->response, s->worker->page);
    send_response(s, !slice_is(request.method, "HEAD"));
    if (!body_read && request.content_length > 0) {
        drain_body(s, s->worker->config.limits.max_body_bytes);
    }
}


/* A large request's memory goes back to the system. */
static void slim(struct seat *s) {
    if (s->body.cap + s->response.body.cap > TRIM_BYTES) {
        buf_fini(&s->body);
        buf_init(&s->body);
        api_response_reset(&s->response);
        (void)malloc_trim(0);
    }
}

void seat_serve(struct seat *s, int fd) {
    int64_t begun_ns = clock_monotonic_ns();
    s->begun_us = begun_ns / NS_PER_US;
    s->request.ipcFd = fd;
    s->request.keepConnection = 1;
    (void)FCGX_Detach(&s->request);
    if (FCGX_Accept_r(&s->request) == 0) {
        s->request.keepConnection = 0; /* one request a connection, whatever the client asked for */
        store_release_u32(&s->worker->page->state, WORKER_BUSY);
        answer_request(s);
        FCGX_Finish_r(&s->request);
        count_reply(&s->response, clock_monotonic_ns() - begun_ns, s->worker->page);
        slim(s);
    } else {
        log_debug("a request did not parse");
        (void)FCGX_InitRequest(&s->request, -1, 0);
    }
    s->begun_us = 0;
}

/* --- a seat -------------------------------------------------------------------------------------------------------------- */

static bool open_api(struct seat *s, struct status *st) {
    struct worker *w = s->worker;
    struct api_host host = {.reader = w->reader,
                            .control = w->control,
                            .figures = (const struct service_figures *)control_figures(w->control),
                            .limits = &w->config.limits,
                            .models = &w->models,
                            .snapshots_dir_fd = w->snapshots_fd,
                            .scratch = w->scratch,
                            .min_lsn_wait_ms = (uint32_t)w->config.min_lsn_wait_ms,
                            .slot = w->slot,
                            .auth_on = w->config.auth != CONFIG_AUTH_OFF,
                            .has_admin_key = w->config.has_admin_key,
                            .keys = w->keys,
                            .audits = strcmp(w->config.audit_log, AUDIT_NONE) != 0,
                            .cors_origins = w->config.cors_origins,
                            .open_metrics = w->config.open_metrics != CONFIG_OPEN_METRICS_OFF,
                            .change_keys = worker_link_change_keys,
                            .embed = worker_link_embed,
                            .submit = worker_link_submit,
                            .recall = worker_link_recall,
                            .command = worker_link_command,
                            .ctx = &s->call};
    memcpy(host.admin_key_sha256, w->config.admin_key_sha256, sizeof host.admin_key_sha256);
    return api_new(&host, &s->api, st);
}

bool seat_init(struct seat *s, struct worker *w, struct status *st) {
    *s = (struct seat){.worker = w, .call = {.link = &w->link}, .fd = -1};
    api_response_init(&s->response);
    buf_init(&s->body);
    if (FCGX_InitRequest(&s->request, -1, 0) != 0) {
        return status_set(st, STATUS_INTERNAL, "libfcgi does not start");
    }
    return open_api(s, st);
}

void seat_fini(struct seat *s) {
    api_response_fini(&s->response);
    api_free(s->api);
    s->api = NULL;
    buf_fini(&s->body);
}
