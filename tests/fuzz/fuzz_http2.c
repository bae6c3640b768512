/*
 * fuzz_http2.c - what can come over a connection that streams: frames of HTTP/2, whole, in pieces, and cut off.
 *
 * The first byte says how it comes: its lowest bit puts the preface and settings in front, so that chance need not find those; the others the size of pieces. Each piece is
 * given when the server waits for it, and behind the last one the peer closes. The second byte says what the server does: how much it reads at a time, whether it is told to go.
 */
#include "fuzz.h"

#include "proc/http2.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIELD_MOST = 16384, IDLE_MS = 60000, ROUNDS = 10000 };

static const uint8_t opening[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"; /* and an empty SETTINGS */

struct peer {
    int fd;
    struct slice rest;
    size_t piece;
    bool opened; /* the opening is to come, or has come */
    bool closed;
};

static void put(const struct peer *p, struct slice bytes) {
    FUZZ_CHECK(send(p->fd, bytes.data, bytes.len, MSG_NOSIGNAL) == (ssize_t)bytes.len);
}

/* The server is about to wait. */
static void alive(void *ctx) {
    struct peer *p = (struct peer *)ctx;
    if (!p->opened) {
        p->opened = true;
        put(p, slice_of(opening, sizeof opening - 1));
    } else if (p->rest.len > 0) {
        put(p, fuzz_take(&p->rest, p->piece));
    } else if (!p->closed) {
        p->closed = true;
        (void)shutdown(p->fd, SHUT_WR);
    }
}

static bool leaving;
static bool told_to_go(void) {
    return leaving;
}

static void check_fields(const struct http2 *h, size_t most) {
    for (unsigned i = 0; i < HTTP2_FIELDS; i++) {
        struct slice field = http2_field(h, (enum http2_field)i);
        FUZZ_CHECK(field.len <= FIELD_MOST);
        FUZZ_CHECK(most > 0 || field.len == 0);
    }
}

/* Reads the body, and answers while it does. */
static void serve(struct http2 *h, size_t at_a_time, size_t most) {
    static const char headers[] = "Content-Type: application/x-ndjson\r\nX-Request-Id: fuzz\r\n";
    struct status st = {0};
    struct buf body = {0};
    enum api_stream_read got = API_STREAM_BYTES;
    bool answers = http2_respond(h, 200, slice_str(headers), false, &st);
    fuzz_check_status(answers, &st);
    for (unsigned i = 0; got == API_STREAM_BYTES || got == API_STREAM_NOTHING; i++) {
        FUZZ_CHECK(i < ROUNDS);
        size_t before = body.len;
        got = http2_read(h, &body, at_a_time, i % 2 == 0 ? -1 : 0, &st);
        FUZZ_CHECK(body.len - before <= at_a_time && body.len <= most);
        FUZZ_CHECK(got == API_STREAM_BYTES || body.len == before);
        if (got == API_STREAM_BYTES && answers) {
            answers = http2_write(h, slice_of(body.data + before, body.len - before), false, &st);
        }
    }
    FUZZ_CHECK(got != API_STREAM_SILENT);
    if (got == API_STREAM_END && answers && http2_write(h, slice_str("end\n"), true, &st)) {
        http2_drain(h);
    } else {
        http2_abort(h);
    }
    buf_fini(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int ends[2];
    struct slice in = slice_of(data, size);
    uint8_t how = fuzz_byte(&in);
    uint8_t what = fuzz_byte(&in);
    size_t most = in.len;
    struct http2 *h = NULL;
    struct status st = {0};
    sigset_t none;
    (void)sigemptyset(&none);
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    struct peer peer = {.fd = ends[1], .rest = in, .piece = (size_t)(how >> 1) * 32 + 1, .opened = (how & 1) == 0};
    const struct http2_options options = {.fd = ends[0], .idle_ms = IDLE_MS, .sleeping = &none, .told_to_go = told_to_go, .alive = alive, .ctx = &peer};
    leaving = false;
    if (http2_new(&options, &h, &st)) {
        bool head = http2_read_head(h, &st);
        fuzz_check_status(head, &st);
        check_fields(h, most);
        if (head) {
            leaving = (what & 1) != 0;
            serve(h, (size_t)(what >> 1) + 1, most);
        }
    }
    http2_free(h);
    (void)close(ends[0]);
    (void)close(ends[1]);
    return 0;
}
