/*
 * http2.h - one HTTP/2 connection from nginx with one request on it, whose body is read and whose reply is written in pieces, both at once.
 *
 * The caller owns the descriptor. Nothing here waits longer than idle_ms for the peer; nothing is buffered beyond HTTP2_WINDOW bytes of the body, because
 * the peer may send only so much that was not taken.
 */
#ifndef QUIRE_PROC_HTTP2_H
#define QUIRE_PROC_HTTP2_H

#include "api/api.h"

#include <signal.h>

#define HTTP2_PREFACE "PRI * HTTP/2.0\r\n" /* how a connection begins: as many bytes as the begin of FastCGI's first record */
#define HTTP2_WINDOW (1 << 20)

enum http2_field {
    HTTP2_METHOD,
    HTTP2_PATH, /* with the query */
    HTTP2_AUTHORITY,
    HTTP2_CONTENT_TYPE,
    HTTP2_CONTENT_LENGTH,
    HTTP2_AUTHORIZATION,
    HTTP2_X_API_KEY,
    HTTP2_REQUEST_ID,
    HTTP2_REMOTE_ADDR,
    HTTP2_ORIGIN,
    HTTP2_CORS_METHOD,
    HTTP2_FIELDS
};

struct http2_options {
    int fd;                   /* the caller's */
    uint64_t idle_ms;         /* longest silence of the peer while something is awaited from it, or to be taken by it */
    const sigset_t *sleeping; /* the signal mask while it waits */
    bool (*told_to_go)(void); /* asked whenever it waits */
    void (*alive)(void *ctx); /* called at least once a second while it waits, and with each piece */
    void *ctx;
};

struct http2;
MUST_CHECK bool http2_new(const struct http2_options *options, struct http2 **ret, struct status *st);
void http2_free(struct http2 *h); /* takes NULL */

/* Waits for the request's head. */
MUST_CHECK bool http2_read_head(struct http2 *h, struct status *st);
/* Empty where it did not come. Valid until http2_free. */
struct slice http2_field(const struct http2 *h, enum http2_field field);

/* As struct api_stream has it. */
enum api_stream_read http2_read(struct http2 *h, struct buf *to, size_t most, int64_t wait_ms, struct status *st);

/* The head of the reply. headers: lines "Name: value\r\n". `end`: there is no body. */
MUST_CHECK bool http2_respond(struct http2 *h, int status, struct slice headers, bool end, struct status *st);
/* Returns when the peer has taken all of it. */
MUST_CHECK bool http2_write(struct http2 *h, struct slice bytes, bool end, struct status *st);
/* A reply that cannot be completed: the client shall not take what it has for the whole. */
void http2_abort(struct http2 *h);
/* After the end of the reply: waits for the peer to close, up to a moment, and reads off what is still under way. nginx takes a reply for cut short whose
 * connection ends before it has sent what it owes itself, such as an acknowledgement of settings. */
void http2_drain(struct http2 *h);

#endif
