/*
 * client.h - HTTPS to a Quire server, through libcurl: one connection, kept open; one request at a time.
 *
 * Where the server is and how to get in comes from the options, else from QUIRE_URL (https://127.0.0.1:8443), QUIRE_KEY and
 * QUIRE_CACERT.
 */
#ifndef QUIRE_CLI_CLIENT_H
#define QUIRE_CLI_CLIENT_H

#include "base/buf.h"

#include <json-c/json.h>

struct client_options {
    const char *url;    /* without a trailing slash */
    const char *key;    /* or NULL */
    const char *cacert; /* or NULL: the system's */
    const char *connect_to; /* "::ADDRESS:PORT", where it connects whatever the URL's host resolves to; NULL: there */
    long timeout_ms;
};

struct client;

struct client_reply {
    long status; /* HTTP */
    struct buf body;
    struct json_object *json; /* NULL where the body is none */
    char next[512];           /* path and query of Link: rel=next, or "" */
    long retry_after;         /* seconds; -1: not given */
};

/* Fills what is NULL from the environment. */
void client_options_from_environment(struct client_options *options);
MUST_CHECK bool client_new(const struct client_options *options, struct client **ret, struct status *st);
void client_free(struct client *c);

/* path begins with "/". body may be empty. False when no HTTP reply came; else true whatever its status. */
MUST_CHECK bool client_request(struct client *c, const char *method, const char *path, struct slice body,
                               struct client_reply *ret, struct status *st);
/* As client_request, but a status of 400 or more is a failure, told in the server's words and with a code of its kind: STATUS_UNAUTHENTICATED, _DENIED, _NOT_FOUND,
 * _CONFLICT, _PRECONDITION, _NO_SPACE; STATUS_IO where it may be otherwise later; STATUS_INVALID for the rest. Waits and tries again on 429 and 503,
 * up to a minute, where `again`. */
MUST_CHECK bool client_call(struct client *c, const char *method, const char *path, struct slice body, bool again,
                            struct client_reply *ret, struct status *st);
void client_reply_fini(struct client_reply *r);

/* A call whose body or reply is of any length. */
struct client_stream {
    const char *method;
    const char *path;
    /* Puts at most `room` bytes of the body; 0: it is complete. NULL: there is none. May wait. */
    size_t (*read)(void *ctx, char *to, size_t room);
    /* What came of a reply of 200. False: enough. */
    bool (*write)(void *ctx, const char *bytes, size_t len);
    void *ctx;
};
/* One attempt. True: answered with 200, to the end. STATUS_IO: the connection broke, or the server is busy or away: it can be tried again. The client is good for streams
 * alone from then on. */
MUST_CHECK bool client_run_stream(struct client *c, const struct client_stream *s, struct status *st);

/* The server's words of an error reply, with the code of its kind. */
void client_reply_error(const struct client *c, const struct client_reply *r, struct status *st);

void client_pause_ms(long ms);
/* A path segment, percent-encoded, appended. */
void client_escape(struct buf *out, struct slice segment);

#endif
