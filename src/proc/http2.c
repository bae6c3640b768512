/*
 * http2.c - see http2.h. The only file that uses libnghttp2.
 *
 * Why HTTP/2, where all else is FastCGI: once nginx has passed on the head of a FastCGI (or uwsgi, or HTTP/1) reply, it stops sending the rest of the request as soon
 * as that blocks once, and never goes on ("preserve_output" in its sources is for gRPC alone). A call that answers while it reads can only be had from its gRPC
 * side, which is HTTP/2 on a plain socket and asks nothing else of gRPC.
 *
 * Backpressure: what came of the body counts against the window until http2_read hands it out, so a caller that commits slowly slows down nginx, which slows
 * down the client. The other way round http2_write returns only when the socket has taken everything.
 *
 * The peer is nginx, or whoever else may connect to the socket (peers.h); the library checks the protocol, and bounds what it keeps of a head. One stream is taken,
 * others are refused.
 *
 * Signals: SIGTERM is let in while it waits, as in intake.c. A read ends with API_STREAM_STOP then; a write that the peer does not take gets LAST_MOMENT_MS.
 */
#include "proc/http2.h"

#include "base/clock.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
    US_PER_MS = 1000,
    NS_PER_MS = 1000000,
    MS_PER_SECOND = 1000,
    STEP_MS = 500,          /* longest single wait */
    LAST_MOMENT_MS = 3000,  /* for a peer that takes nothing when the server stops */
    DRAIN_MS = 2000,        /* for a peer that goes on sending what nobody wants */
    RECEIVE_BYTES = 65536,
    HEADERS_MAX = 32,
    FIELD_BYTES_MAX = 16384 /* of one field of the head */
};

struct http2 {
    struct http2_options options;
    nghttp2_session *session;
    int32_t stream; /* 0: none yet */
    bool head_done;
    bool body_ended;
    bool closed; /* by the peer, or nothing more can be had from it */
    bool failed; /* no memory */
    struct buf field[HTTP2_FIELDS];
    struct buf body; /* received, from body_at on not handed out */
    size_t body_at;
    struct buf out; /* of the reply, from out_at on not taken by the library */
    size_t out_at;
    bool out_ends, out_done;
    struct slice unsent; /* the library's bytes that the socket has not taken */
};

/* --- what the library tells ---------------------------------------------------------------------------------------------- */

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *ctx) {
    struct http2 *h = (struct http2 *)ctx;
    (void)session;
    if (h->stream != 0 && h->stream != frame->hd.stream_id) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    h->stream = frame->hd.stream_id;
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
                     size_t value_len, uint8_t flags, void *ctx) {
    static const char *const names[HTTP2_FIELDS] = {[HTTP2_METHOD] = ":method",
                                                    [HTTP2_PATH] = ":path",
                                                    [HTTP2_AUTHORITY] = ":authority",
                                                    [HTTP2_CONTENT_TYPE] = "content-type",
                                                    [HTTP2_CONTENT_LENGTH] = "content-length",
                                                    [HTTP2_AUTHORIZATION] = "authorization",
                                                    [HTTP2_X_API_KEY] = "x-api-key",
                                                    [HTTP2_REQUEST_ID] = "quire-request-id",
                                                    [HTTP2_REMOTE_ADDR] = "quire-remote-addr",
                                                    [HTTP2_ORIGIN] = "origin",
                                                    [HTTP2_CORS_METHOD] = "access-control-request-method"};
    struct http2 *h = (struct http2 *)ctx;
    (void)session;
    (void)flags;
    for (size_t i = 0; frame->hd.stream_id == h->stream && !h->head_done && i < HTTP2_FIELDS; i++) {
        if (slice_is(slice_of(name, name_len), names[i]) && h->field[i].len == 0) {
            if (value_len > FIELD_BYTES_MAX) {
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
            }
            buf_put(&h->field[i], value, value_len);
            h->failed |= !buf_ok(&h->field[i]);
        }
    }
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *ctx) {
    struct http2 *h = (struct http2 *)ctx;
    (void)session;
    if (frame->hd.stream_id == 0 || frame->hd.stream_id != h->stream) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS) {
        h->head_done = true;
    }
    if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        h->body_ended = true;
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data, size_t len, void *ctx) {
    struct http2 *h = (struct http2 *)ctx;
    (void)session;
    (void)flags;
    if (stream == h->stream) {
        buf_put(&h->body, data, len);
        h->failed |= !buf_ok(&h->body);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t error, void *ctx) {
    struct http2 *h = (struct http2 *)ctx;
    (void)session;
    (void)error;
    h->closed |= stream == h->stream;
    return 0;
}

/* The library takes what there is of the reply. */
static ssize_t give_reply(nghttp2_session *session, int32_t stream, uint8_t *to, size_t most, uint32_t *flags, nghttp2_data_source *source,
                          void *ctx) {
    struct http2 *h = (struct http2 *)ctx;
    size_t have = h->out.len - h->out_at;
    size_t n = have < most ? have : most;
    (void)session;
    (void)stream;
    (void)source;
    if (n > 0) {
        memcpy(to, h->out.data + h->out_at, n);
        h->out_at += n;
    }
    if (h->out_at < h->out.len) {
        return (ssize_t)n;
    }
    buf_reset(&h->out);
    h->out_at = 0;
    if (h->out_ends) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        h->out_done = true;
        return (ssize_t)n;
    }
    return n > 0 ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
}

static bool make_session(struct http2 *h) {
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    bool ok = nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0;
    if (ok) {
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
        nghttp2_option_set_no_auto_window_update(option, 1);
        ok = nghttp2_session_server_new2(&h->session, callbacks, h, option) == 0;
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return ok;
}

bool http2_new(const struct http2_options *options, struct http2 **ret, struct status *st) {
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1}, {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_WINDOW}};
    struct http2 *h = (struct http2 *)calloc(1, sizeof *h);
    if (h == NULL) {
        return status_no_memory(st);
    }
    h->options = *options;
    if (!make_session(h) || nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, sizeof settings / sizeof settings[0]) != 0 ||
        nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, HTTP2_WINDOW) != 0) {
        http2_free(h);
        return status_no_memory(st);
    }
    *ret = h;
    return true;
}

void http2_free(struct http2 *h) {
    if (h == NULL) {
        return;
    }
    for (size_t i = 0; i < HTTP2_FIELDS; i++) {
        buf_fini(&h->field[i]);
    }
    buf_fini(&h->body);
    buf_fini(&h->out);
    nghttp2_session_del(h->session);
    free(h);
}

struct slice http2_field(const struct http2 *h, enum http2_field field) {
    return buf_slice(&h->field[field]);
}

/* --- the socket ---------------------------------------------------------------------------------------------------------- */

static bool gone(struct http2 *h, struct status *st) {
    h->closed = true;
    return status_set(st, STATUS_MALFORMED, "the client is gone");
}

/* Waits at most `ms`. Returns the events that came, 0 for none. */
static short wait_for(const struct http2 *h, short events, int64_t ms) {
    struct pollfd p = {.fd = h->options.fd, .events = events};
    int64_t step = ms < STEP_MS ? ms : STEP_MS;
    const struct timespec limit = {.tv_sec = step / MS_PER_SECOND, .tv_nsec = step % MS_PER_SECOND * NS_PER_MS};
    h->options.alive(h->options.ctx);
    return ppoll(&p, 1, &limit, h->options.sleeping) > 0 ? p.revents : 0;
}

/* Takes in what has come. False: the peer is gone, or breaks the protocol. */
static bool receive_some(struct http2 *h, struct status *st) {
    uint8_t bytes[RECEIVE_BYTES];
    ssize_t n = recv(h->options.fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        return true;
    }
    if (n <= 0) {
        return gone(h, st);
    }
    ssize_t used = nghttp2_session_mem_recv(h->session, bytes, (size_t)n);
    if (h->failed || used == NGHTTP2_ERR_NOMEM) {
        h->closed = true;
        return status_no_memory(st);
    }
    return used == n || gone(h, st);
}

/* Sends what the library has to send, as far as the socket takes it. *ret_blocked: there is more. */
static bool send_some(struct http2 *h, bool *ret_blocked, struct status *st) {
    for (;;) {
        if (h->unsent.len == 0) {
            ssize_t n = nghttp2_session_mem_send(h->session, &h->unsent.data);
            if (n < 0) {
                return gone(h, st);
            }
            h->unsent.len = (size_t)n;
        }
        if (h->unsent.len == 0) {
            *ret_blocked = false;
            return true;
        }
        ssize_t sent = send(h->options.fd, h->unsent.data, h->unsent.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            h->unsent = slice_of(h->unsent.data + sent, h->unsent.len - (size_t)sent);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            *ret_blocked = true;
            return true;
        } else if (errno != EINTR) {
            return gone(h, st);
        }
    }
}

/* Nothing of the reply is left here: neither with us nor, for want of the peer's window, with the library. */
static bool all_given(const struct http2 *h) {
    return h->out.len == h->out_at && (!h->out_ends || h->out_done);
}

/* Sends all of it. Takes in what comes meanwhile, which may be the window that it needs. */
static bool flush(struct http2 *h, struct status *st) {
    int64_t deadline_us = clock_monotonic_us() + (int64_t)h->options.idle_ms * US_PER_MS;
    bool hurried = false;
    for (;;) {
        bool blocked = false;
        size_t before = h->unsent.len;
        size_t given = h->out_at;
        if ((h->closed && !h->out_done && !gone(h, st)) || !send_some(h, &blocked, st)) {
            return false;
        }
        if (!blocked && all_given(h)) {
            return true;
        }
        int64_t now = clock_monotonic_us();
        if (h->unsent.len != before || h->out_at != given) {
            deadline_us = now + (int64_t)h->options.idle_ms * US_PER_MS;
        }
        if (!hurried && h->options.told_to_go()) {
            hurried = true;
            deadline_us = deadline_us < now + LAST_MOMENT_MS * US_PER_MS ? deadline_us : now + LAST_MOMENT_MS * US_PER_MS;
        }
        if (now >= deadline_us) {
            h->closed = true;
            return status_set(st, STATUS_BUSY, "the client took nothing of the reply for too long");
        }
        short events = wait_for(h, (short)(POLLIN | (blocked ? POLLOUT : 0)), (deadline_us - now) / US_PER_MS + 1);
        if ((events & (POLLIN | POLLHUP | POLLERR)) != 0 && !receive_some(h, st)) {
            return false;
        }
    }
}

/* --- the request --------------------------------------------------------------------------------------------------------- */

bool http2_read_head(struct http2 *h, struct status *st) {
    int64_t deadline_us = clock_monotonic_us() + (int64_t)h->options.idle_ms * US_PER_MS;
    bool blocked = false;
    while (!h->head_done && !h->closed) {
        int64_t left_us = deadline_us - clock_monotonic_us();
        if (left_us <= 0) {
            return status_set(st, STATUS_MALFORMED, "the head of the request did not come");
        }
        if (!send_some(h, &blocked, st)) {
            return false;
        }
        if (wait_for(h, POLLIN, left_us / US_PER_MS + 1) != 0 && !receive_some(h, st)) {
            return false;
        }
    }
    return h->head_done || gone(h, st);
}

static void take_body(struct http2 *h, struct buf *to, size_t most) {
    size_t have = h->body.len - h->body_at;
    size_t n = have < most ? have : most;
    buf_put(to, h->body.data + h->body_at, n);
    h->body_at += n;
    if (h->body_at == h->body.len) {
        buf_reset(&h->body);
        h->body_at = 0;
    }
    (void)nghttp2_session_consume(h->session, h->stream, n); /* refused where the peer has closed the stream: then it sends no more */
}

enum api_stream_read http2_read(struct http2 *h, struct buf *to, size_t most, int64_t wait_ms, struct status *st) {
    int64_t patience_ms = wait_ms < 0 ? (int64_t)h->options.idle_ms : wait_ms;
    int64_t deadline_us = clock_monotonic_us() + patience_ms * US_PER_MS;
    bool blocked = false;
    h->options.alive(h->options.ctx);
    for (bool waited = false;; waited = true) {
        if (h->options.told_to_go()) {
            return API_STREAM_STOP;
        }
        if (h->body.len > h->body_at) {
            take_body(h, to, most);
            h->closed |= !send_some(h, &blocked, st); /* which the next call tells: these came */
            return API_STREAM_BYTES;
        }
        if (h->body_ended) {
            return API_STREAM_END;
        }
        if (h->closed) {
            (void)gone(h, st);
            return API_STREAM_GONE;
        }
        int64_t left_us = deadline_us - clock_monotonic_us();
        if (left_us <= 0 && waited) {
            return wait_ms < 0 ? API_STREAM_SILENT : API_STREAM_NOTHING;
        }
        if (!send_some(h, &blocked, st)) {
            return API_STREAM_GONE;
        }
        if (wait_for(h, POLLIN, left_us > 0 ? left_us / US_PER_MS : 0) != 0 && !receive_some(h, st) && h->body.len == h->body_at) {
            return API_STREAM_GONE;
        }
    }
}

/* --- the reply ----------------------------------------------------------------------------------------------------------- */

struct reply_head {
    nghttp2_nv field[HEADERS_MAX];
    size_t count;
    char status[16];
    struct buf names; /* in lower case, as HTTP/2 wants them */
};

static void add_field(struct reply_head *r, const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len) {
    if (r->count < HEADERS_MAX) {
        r->field[r->count++] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                                            .namelen = name_len,
                                            .value = (uint8_t *)(uintptr_t)value,
                                            .valuelen = value_len,
                                            .flags = NGHTTP2_NV_FLAG_NONE};
    }
}

/* Lines "Name: value\r\n". */
static void add_lines(struct reply_head *r, struct slice lines) {
    size_t at = 0;
    while (at < lines.len) {
        const uint8_t *line = lines.data + at;
        const uint8_t *end = (const uint8_t *)memmem(line, lines.len - at, "\r\n", 2);
        const uint8_t *colon = end == NULL ? NULL : (const uint8_t *)memmem(line, (size_t)(end - line), ": ", 2);
        if (colon == NULL) {
            return;
        }
        uint8_t *name = r->names.data + at; /* the copy has the lines' own places */
        for (size_t i = 0; i < (size_t)(colon - line); i++) {
            name[i] = (uint8_t)(line[i] >= 'A' && line[i] <= 'Z' ? line[i] + ('a' - 'A') : line[i]);
        }
        add_field(r, name, (size_t)(colon - line), colon + 2, (size_t)(end - colon) - 2);
        at += (size_t)(end - line) + 2;
    }
}

bool http2_respond(struct http2 *h, int status, struct slice headers, bool end, struct status *st) {
    static const char key[] = ":status";
    const nghttp2_data_provider body = {.read_callback = give_reply};
    struct reply_head r = {.count = 0};
    int len = snprintf(r.status, sizeof r.status, "%d", status);
    buf_put_slice(&r.names, headers);
    bool ok = buf_check(&r.names, st);
    if (ok) {
        add_field(&r, (const uint8_t *)key, sizeof key - 1, (const uint8_t *)r.status, (size_t)len);
        add_lines(&r, headers);
        h->out_ends = end;
        h->out_done = end;
        ok = nghttp2_submit_response(h->session, h->stream, r.field, r.count, end ? NULL : &body) == 0 || gone(h, st);
    }
    buf_fini(&r.names);
    return ok && flush(h, st);
}

bool http2_write(struct http2 *h, struct slice bytes, bool end, struct status *st) {
    buf_put_slice(&h->out, bytes);
    if (!buf_check(&h->out, st)) {
        return false;
    }
    h->out_ends = end;
    if (bytes.len == 0 && !end) {
        return true;
    }
    (void)nghttp2_session_resume_data(h->session, h->stream); /* refused where it was not deferred: then it goes on by itself */
    return flush(h, st);
}

static void reset_stream(struct http2 *h, uint32_t error) {
    struct status ignored;
    bool blocked = false;
    if (h->stream != 0 && nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, h->stream, error) == 0) {
        (void)send_some(h, &blocked, &ignored);
    }
}

void http2_abort(struct http2 *h) {
    reset_stream(h, NGHTTP2_INTERNAL_ERROR);
}

void http2_drain(struct http2 *h) {
    uint8_t nowhere[RECEIVE_BYTES];
    int64_t deadline_us = clock_monotonic_us() + DRAIN_MS * US_PER_MS;
    if (!h->body_ended && !h->closed) {
        reset_stream(h, NGHTTP2_NO_ERROR);
    }
    for (;;) {
        ssize_t n = recv(h->options.fd, nowhere, sizeof nowhere, MSG_DONTWAIT);
        int64_t left_us = deadline_us - clock_monotonic_us();
        bool again = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
        if (n == 0 || (n < 0 && !again) || left_us <= 0) {
            return;
        }
        if (again) {
            (void)wait_for(h, POLLIN, left_us / US_PER_MS + 1);
        }
    }
}
