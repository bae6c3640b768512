/*
 * worker_stream.c - see worker_stream.h.
 *
 * A stream may take hours, so what else bounds a request counts anew with each piece of it: the watchdog's time, and the deadline of what is submitted. What
 * bounds a stream is that its client may not be silent, nor leave the reply unread, for stream_idle_ms.
 *
 * It keeps a worker for all that time, and the place of the socket that it came by. So those that stream at a time have places of their own, fewer than there are
 * of either kind (max_streams); who finds none is told to come again.
 */
#include "proc/worker_stream.h"

#include "api/count.h"
#include "base/clock.h"
#include "base/log.h"
#include "proc/worker.h"
#include "proc/http2.h"
#include "shm/atomics.h"

struct serving {
    const struct worker_stream *w;
    struct http2 *connection;
    struct api_request request;
    bool head_only; /* HEAD */
    bool begun;     /* the reply's head is sent */
};

static void still_alive(void *ctx) {
    struct serving *s = (struct serving *)ctx;
    store_relaxed_u64(&s->w->page->busy_since_us, (uint64_t)clock_monotonic_us());
}

/* --- the reply ----------------------------------------------------------------------------------------------------------- */

/* length: -1: nobody knows. */
static bool send_head(struct serving *s, const struct api_response *r, int64_t length, struct status *st) {
    struct buf head = {0};
    if (r->content_type != NULL) {
        buf_printf(&head, "Content-Type: %s\r\n", r->content_type);
    }
    if (r->content_type != NULL && length >= 0) {
        buf_printf(&head, "Content-Length: %lld\r\n", (long long)length);
    }
    buf_put_slice(&head, buf_slice(&r->headers));
    bool end = length >= 0 && r->body.len == 0;
    bool ok = buf_check(&head, st) && http2_respond(s->connection, r->status, buf_slice(&head), end, st);
    s->begun = true;
    buf_fini(&head);
    return ok;
}

/* What stands in the response when the api is done with it. */
static void finish(struct serving *s) {
    struct api_response *r = s->w->response;
    struct slice rest = s->head_only ? (struct slice){NULL, 0} : buf_slice(&r->body);
    struct status st = {0};
    count_work(r, s->w->page);
    if (r->cut) {
        http2_abort(s->connection);
        return;
    }
    bool whole = !s->begun && r->body.len == 0;
    bool ok = s->begun || send_head(s, r, (int64_t)r->body.len, &st);
    ok = ok && (whole || http2_write(s->connection, rest, true, &st));
    if (ok) {
        http2_drain(s->connection);
    } else {
        log_debug("the end of a reply was not taken: %s", st.detail);
    }
}

/* --- what the api sees --------------------------------------------------------------------------------------------------- */

static bool stream_begin(void *ctx, struct status *st) {
    struct serving *s = (struct serving *)ctx;
    struct intake *in = s->w->intake;
    return places_take(&in->control->streams, in->slot) ||
           status_set(st, STATUS_BUSY, "as many streams and exports as may be are under way already");
}

static enum api_stream_read stream_read(void *ctx, struct buf *to, size_t most, int64_t wait_ms, struct status *st) {
    struct serving *s = (struct serving *)ctx;
    return http2_read(s->connection, to, most, wait_ms, st);
}

static bool stream_write(void *ctx, struct api_response *r, struct status *st) {
    struct serving *s = (struct serving *)ctx;
    bool ok = s->begun || send_head(s, r, -1, st);
    ok = ok && (s->head_only || http2_write(s->connection, buf_slice(&r->body), false, st));
    count_work(r, s->w->page);
    buf_reset(&r->body);
    worker_link_begin(s->w->call, 0); /* what comes next is submitted by a deadline of its own */
    return ok;
}

/* --- the request --------------------------------------------------------------------------------------------------------- */

static void read_head(struct serving *s) {
    const struct http2 *c = s->connection;
    struct slice path = http2_field(c, HTTP2_PATH);
    struct slice length = http2_field(c, HTTP2_CONTENT_LENGTH);
    const uint8_t *question = path.len == 0 ? NULL : (const uint8_t *)memchr(path.data, '?', path.len);
    size_t path_len = question == NULL ? path.len : (size_t)(question - path.data);
    s->request = (struct api_request){
        .method = http2_field(c, HTTP2_METHOD),
        .path = slice_of(path.data, path_len),
        .query = question == NULL ? (struct slice){NULL, 0} : slice_of(question + 1, path.len - path_len - 1),
        .content_type = http2_field(c, HTTP2_CONTENT_TYPE),
        .content_length = length.len == 0 ? -1 : 1, /* of a stream only whether there is one; the library holds it against what comes */
        .authorization = http2_field(c, HTTP2_AUTHORIZATION),
        .x_api_key = http2_field(c, HTTP2_X_API_KEY),
        .request_id = http2_field(c, HTTP2_REQUEST_ID),
        .host = http2_field(c, HTTP2_AUTHORITY),
        .origin = http2_field(c, HTTP2_ORIGIN),
        .cors_method = http2_field(c, HTTP2_CORS_METHOD),
        .remote_address = http2_field(c, HTTP2_REMOTE_ADDR),
    };
    s->head_only = slice_is(s->request.method, "HEAD");
}

static void answer(struct serving *s) {
    const struct api_stream stream = {.begin = stream_begin, .read = stream_read, .write = stream_write, .ctx = s};
    struct api_response *r = s->w->response;
    struct status st = {0};
    uint64_t body_max = 0;
    api_response_reset(r);
    worker_link_begin(s->w->call, 0);
    if (!api_begin(s->w->api, &s->request, r, &body_max)) {
        if (r->streams) {
            api_stream(s->w->api, &s->request, &stream, r);
        } else {
            (void)status_set(&st, STATUS_CONFIG, "nginx sends a call by HTTP/2 that is no stream: its configuration is not the one of this version");
            api_fail(s->w->api, &s->request, &st, r);
        }
    }
    worker_audit(r, s->w->page);
    finish(s);
    places_leave(&s->w->intake->control->streams, s->w->intake->slot);
}

void worker_stream_serve(const struct worker_stream *w) {
    struct serving s = {.w = w};
    const struct http2_options options = {.fd = w->fd,
                                          .idle_ms = w->config->stream_idle_ms,
                                          .sleeping = &w->intake->sleeping,
                                          .told_to_go = intake_told_to_go,
                                          .alive = still_alive,
                                          .ctx = &s};
    struct status st = {0};
    if (!http2_new(&options, &s.connection, &st)) {
        log_status(LOG_LEVEL_WARN, "a stream cannot be taken", &st);
        return;
    }
    if (http2_read_head(s.connection, &st)) {
        store_release_u32(&w->page->state, WORKER_BUSY);
        read_head(&s);
        answer(&s);
    } else {
        log_debug("a request by HTTP/2 did not begin: %s", st.detail);
    }
    http2_free(s.connection);
}
