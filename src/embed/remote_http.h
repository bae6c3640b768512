/*
 * remote_http.h - one POST to one endpoint, bounded in time and bytes, through libcurl.
 *
 * A line is a connection that is kept, or will be; it is one caller's at a time.
 */
#ifndef QUIRE_EMBED_REMOTE_HTTP_H
#define QUIRE_EMBED_REMOTE_HTTP_H

#include "embed/remote.h"

struct remote_endpoint; /* what is the same for all calls; read-only once it is made */
MUST_CHECK bool remote_endpoint_new(const struct remote_settings *s, const struct remote_url *url, struct slice key, struct remote_endpoint **ret,
                                    struct status *st);
void remote_endpoint_free(struct remote_endpoint *e); /* takes NULL; overwrites the key */
/* For tests: names resolve as "HOST:PORT:ADDRESS" says, instead of by the system. Before the first call. */
MUST_CHECK bool remote_endpoint_resolve(struct remote_endpoint *e, const char *entry, struct status *st);

struct remote_line;
MUST_CHECK bool remote_line_new(const struct remote_endpoint *e, struct remote_line **ret, struct status *st);
void remote_line_free(struct remote_line *l); /* takes NULL */
/* From any thread: the call under way on it ends at once. It asks *cancelled, which the caller has set before. */
void remote_line_wake(struct remote_line *l);

struct remote_post {
    struct slice body;
    int64_t deadline_us;     /* monotonic */
    uint64_t reply_max;      /* bytes of a reply */
    const bool *cancelled;   /* atomic */
};

#define REMOTE_ERROR_MAX 16384 /* bytes of an error's body that are kept */

struct remote_answer {
    enum remote_failure failure; /* REMOTE_DONE: there is a status, whatever it says */
    long http_status;
    bool has_retry_after;
    uint64_t retry_after_ms;
    struct buf body;  /* whole for 200; for others its beginning */
    const char *why;  /* a few fixed words for people; never NULL */
};
/* *ret may be zeroed or one that was used before; its buffer is kept. */
void remote_line_post(struct remote_line *l, const struct remote_post *post, struct remote_answer *ret);

#endif
