/*
 * test_proc_http2.c - one HTTP/2 connection with one request: what comes and goes in pieces, what is bounded, what a rude peer gets.
 *
 * The peer is the library's own client, at the other end of a socketpair, moved on by the test between the calls.
 */
#include "proc/http2.h"

#include <nghttp2/nghttp2.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { IDLE_MS = 150, BODY_MOST = 3 << 20 };

struct pair {
    int server_fd, client_fd;
    struct http2 *server;
    nghttp2_session *client;
    size_t to_send; /* of the body, from now on */
    bool ends;      /* the body does, behind that */
    struct buf got; /* of the reply */
    int status;
    uint32_t closed[2]; /* error code + 1 of streams 1 and 3 */
};

static bool go;
static unsigned lives;

static bool told_to_go(void) {
    return go;
}

static void alive(void *ctx) {
    (void)ctx;
    lives++;
}

/* --- the client ---------------------------------------------------------------------------------------------------------- */

static ssize_t give_body(nghttp2_session *session, int32_t stream, uint8_t *to, size_t most, uint32_t *flags, nghttp2_data_source *source,
                         void *ctx) {
    struct pair *p = (struct pair *)ctx;
    size_t n = p->to_send < most ? p->to_send : most;
    (void)session;
    (void)stream;
    (void)source;
    memset(to, 'b', n);
    p->to_send -= n;
    if (p->to_send == 0 && p->ends) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        return (ssize_t)n;
    }
    return n > 0 ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
                     size_t value_len, uint8_t flags, void *ctx) {
    struct pair *p = (struct pair *)ctx;
    (void)session;
    (void)frame;
    (void)flags;
    if (slice_is(slice_of(name, name_len), ":status")) {
        char text[8] = "";
        memcpy(text, value, value_len < 7 ? value_len : 7);
        p->status = atoi(text);
    }
    for (size_t i = 0; i < name_len; i++) {
        assert_false(name[i] >= 'A' && name[i] <= 'Z');
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data, size_t len, void *ctx) {
    struct pair *p = (struct pair *)ctx;
    (void)session;
    (void)flags;
    (void)stream;
    buf_put(&p->got, data, len);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t error, void *ctx) {
    struct pair *p = (struct pair *)ctx;
    (void)session;
    p->closed[stream / 2] = error + 1;
    return 0;
}

static void client_sends(struct pair *p) {
    const uint8_t *bytes = NULL;
    ssize_t n = 0;
    while ((n = nghttp2_session_mem_send(p->client, &bytes)) > 0) {
        assert_int_equal(send(p->client_fd, bytes, (size_t)n, MSG_NOSIGNAL), n);
    }
}

static void client_receives(struct pair *p) {
    uint8_t bytes[65536];
    ssize_t n = 0;
    while ((n = recv(p->client_fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
        assert_int_equal(nghttp2_session_mem_recv(p->client, bytes, (size_t)n), n);
    }
}

static void client_asks(struct pair *p, const char *path, bool with_body) {
    const nghttp2_data_provider body = {.read_callback = give_body};
#define FIELD(name, value) {(uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value), sizeof(name) - 1, strlen(value), NGHTTP2_NV_FLAG_NONE}
    const nghttp2_nv head[] = {FIELD(":method", "POST"),       FIELD(":scheme", "http"),     FIELD(":path", path),
                               FIELD(":authority", "somebody"), FIELD("x-api-key", "secret"), FIELD("quire-request-id", "r-1"),
                               FIELD("cookie", "nobody's")};
    assert_true(nghttp2_submit_request(p->client, NULL, head, sizeof head / sizeof head[0], with_body ? &body : NULL, p) > 0);
}

static void open_pair(struct pair *p) {
    static sigset_t nothing;
    int fds[2];
    struct status st;
    nghttp2_session_callbacks *callbacks = NULL;
    const int room = 4 << 20; /* so that the client need not wait */
    *p = (struct pair){0};
    go = false;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    p->server_fd = fds[0];
    p->client_fd = fds[1];
    assert_int_equal(setsockopt(p->client_fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
    (void)sigemptyset(&nothing);
    const struct http2_options options = {.fd = fds[0], .idle_ms = IDLE_MS, .sleeping = &nothing, .told_to_go = told_to_go, .alive = alive};
    assert_true(http2_new(&options, &p->server, &st));
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    assert_int_equal(nghttp2_session_client_new(&p->client, callbacks, p), 0);
    nghttp2_session_callbacks_del(callbacks);
    assert_int_equal(nghttp2_submit_settings(p->client, NGHTTP2_FLAG_NONE, NULL, 0), 0);
}

static void close_pair(struct pair *p) {
    http2_free(p->server);
    nghttp2_session_del(p->client);
    (void)close(p->server_fd);
    if (p->client_fd >= 0) {
        (void)close(p->client_fd);
    }
    buf_fini(&p->got);
}

static void read_head(struct pair *p) {
    struct status st;
    client_sends(p);
    assert_true(http2_read_head(p->server, &st));
}

static size_t read_some(struct pair *p, size_t most, int64_t wait_ms, enum api_stream_read want) {
    struct buf to = {0};
    struct status st;
    assert_int_equal(http2_read(p->server, &to, most, wait_ms, &st), want);
    size_t n = to.len;
    buf_fini(&to);
    return n;
}

/* --- tests --------------------------------------------------------------------------------------------------------------- */

static void test_both_ways(void **state) {
    struct pair p;
    struct status st;
    (void)state;
    open_pair(&p);
    p.to_send = 1000;
    client_asks(&p, "/a?b=c", true);
    read_head(&p);
    assert_true(slice_is(http2_field(p.server, HTTP2_METHOD), "POST"));
    assert_true(slice_is(http2_field(p.server, HTTP2_PATH), "/a?b=c"));
    assert_true(slice_is(http2_field(p.server, HTTP2_AUTHORITY), "somebody"));
    assert_true(slice_is(http2_field(p.server, HTTP2_X_API_KEY), "secret"));
    assert_true(slice_is(http2_field(p.server, HTTP2_REQUEST_ID), "r-1"));
    assert_int_equal(http2_field(p.server, HTTP2_AUTHORIZATION).len, 0);
    assert_int_equal(read_some(&p, 600, -1, API_STREAM_BYTES), 600);
    assert_int_equal(read_some(&p, 600, -1, API_STREAM_BYTES), 400);
    assert_int_equal(read_some(&p, 600, 0, API_STREAM_NOTHING), 0);
    assert_true(http2_respond(p.server, 200, slice_str("X-One: 1\r\nX-Two: 2\r\n"), false, &st));
    assert_true(http2_write(p.server, slice_str("first"), false, &st));
    client_receives(&p);
    assert_int_equal(p.status, 200);
    assert_true(slice_is(buf_slice(&p.got), "first")); /* before the request is complete */
    p.to_send = 50;
    p.ends = true;
    assert_int_equal(nghttp2_session_resume_data(p.client, 1), 0);
    client_sends(&p);
    assert_int_equal(read_some(&p, 600, -1, API_STREAM_BYTES), 50);
    assert_int_equal(read_some(&p, 600, -1, API_STREAM_END), 0);
    assert_true(http2_write(p.server, slice_str(", last"), false, &st));
    assert_true(http2_write(p.server, slice_str(""), true, &st));
    client_receives(&p);
    assert_true(slice_is(buf_slice(&p.got), "first, last"));
    assert_int_equal(p.closed[0], NGHTTP2_NO_ERROR + 1);
    close_pair(&p);
}

/* The peer may send no more than the window until somebody takes it. */
static void test_window(void **state) {
    struct pair p;
    (void)state;
    open_pair(&p);
    p.to_send = BODY_MOST;
    p.ends = true;
    client_asks(&p, "/", true);
    client_sends(&p);
    read_head(&p);
    size_t taken = 0;
    while (taken < BODY_MOST) {
        client_receives(&p); /* settings and window updates */
        client_sends(&p);
        size_t sent = BODY_MOST - p.to_send;
        assert_true(sent - taken <= HTTP2_WINDOW);
        taken += read_some(&p, 100000, -1, API_STREAM_BYTES);
    }
    assert_int_equal(taken, BODY_MOST);
    assert_int_equal(read_some(&p, 1, -1, API_STREAM_END), 0);
    close_pair(&p);
}

/* A long reply goes out as the peer takes it; to one that takes nothing, not for ever. */
static void test_deaf(void **state) {
    struct pair p;
    struct status st;
    struct buf much = {0};
    (void)state;
    buf_put_zero(&much, 8 << 20);
    open_pair(&p);
    client_asks(&p, "/", false);
    read_head(&p);
    assert_int_equal(read_some(&p, 1, -1, API_STREAM_END), 0);
    lives = 0;
    assert_true(http2_respond(p.server, 200, slice_str(""), false, &st));
    assert_false(http2_write(p.server, buf_slice(&much), true, &st));
    assert_int_equal(st.code, STATUS_BUSY);
    assert_true(lives > 0);
    assert_false(http2_write(p.server, buf_slice(&much), true, &st)); /* nor again */
    http2_drain(p.server);
    close_pair(&p);
    buf_fini(&much);
}

static void test_told_to_go(void **state) {
    struct pair p;
    (void)state;
    open_pair(&p);
    p.to_send = 10;
    client_asks(&p, "/", true);
    read_head(&p);
    go = true;
    assert_int_equal(read_some(&p, 100, -1, API_STREAM_STOP), 0);
    go = false;
    assert_int_equal(read_some(&p, 100, -1, API_STREAM_BYTES), 10);
    assert_int_equal(read_some(&p, 100, -1, API_STREAM_SILENT), 0);
    close_pair(&p);
}

/* The peer goes, resets, or asks for more than one thing. */
static void test_ends(void **state) {
    struct pair p;
    struct status st;
    (void)state;
    open_pair(&p); /* goes with a body half sent: what came of it is still had */
    p.to_send = 10;
    client_asks(&p, "/", true);
    read_head(&p);
    (void)close(p.client_fd);
    p.client_fd = -1;
    assert_int_equal(read_some(&p, 100, -1, API_STREAM_BYTES), 10);
    assert_int_equal(read_some(&p, 100, -1, API_STREAM_GONE), 0);
    close_pair(&p);
    open_pair(&p); /* resets */
    client_asks(&p, "/", true);
    read_head(&p);
    assert_int_equal(nghttp2_submit_rst_stream(p.client, NGHTTP2_FLAG_NONE, 1, NGHTTP2_CANCEL), 0);
    client_sends(&p);
    assert_int_equal(read_some(&p, 100, -1, API_STREAM_GONE), 0);
    assert_false(http2_write(p.server, slice_str("x"), true, &st));
    close_pair(&p);
    open_pair(&p); /* a second request is refused, the first goes on */
    client_asks(&p, "/one", false);
    client_asks(&p, "/two", false);
    read_head(&p);
    assert_true(slice_is(http2_field(p.server, HTTP2_PATH), "/one"));
    assert_true(http2_respond(p.server, 204, slice_str(""), true, &st));
    client_receives(&p);
    assert_int_equal(p.status, 204);
    assert_int_equal(p.closed[0], NGHTTP2_NO_ERROR + 1);
    assert_int_equal(p.closed[1], NGHTTP2_REFUSED_STREAM + 1);
    close_pair(&p);
    open_pair(&p); /* an abort is none that can be taken for the end */
    client_asks(&p, "/", false);
    read_head(&p);
    assert_true(http2_respond(p.server, 200, slice_str(""), false, &st));
    assert_true(http2_write(p.server, slice_str("half"), false, &st));
    http2_abort(p.server);
    client_receives(&p);
    assert_int_equal(p.closed[0], NGHTTP2_INTERNAL_ERROR + 1);
    close_pair(&p);
}

/* What is no HTTP/2, or begins as such and goes on otherwise. */
static void test_garbage(void **state) {
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    struct status st;
    (void)state;
    srand(4711);
    for (unsigned round = 0; round < 300; round++) {
        struct pair p;
        uint8_t bytes[600];
        size_t len = (size_t)rand() % sizeof bytes;
        open_pair(&p);
        for (size_t i = 0; i < len; i++) {
            bytes[i] = (uint8_t)(rand() % (round % 3 == 0 ? 256 : 12));
        }
        if (round % 4 != 0) {
            assert_int_equal(send(p.client_fd, preface, sizeof preface - 1, MSG_NOSIGNAL), sizeof preface - 1);
        }
        (void)send(p.client_fd, bytes, len, MSG_NOSIGNAL);
        (void)shutdown(p.client_fd, SHUT_WR);
        assert_false(http2_read_head(p.server, &st));
        assert_int_not_equal(st.code, STATUS_OK);
        close_pair(&p);
    }
}

static void test_long_field(void **state) {
    struct pair p;
    struct status st;
    char path[20000];
    (void)state;
    memset(path, 'x', sizeof path - 1);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    open_pair(&p);
    client_asks(&p, path, false);
    client_sends(&p);
    assert_false(http2_read_head(p.server, &st));
    close_pair(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways), cmocka_unit_test(test_window),  cmocka_unit_test(test_deaf),       cmocka_unit_test(test_told_to_go),
        cmocka_unit_test(test_ends),      cmocka_unit_test(test_garbage), cmocka_unit_test(test_long_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
