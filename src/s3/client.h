/*
 * client.h - requests to an S3-compatible storage: signed, repeated when they fail for a passing reason, bounded in time, memory and bandwidth.
 *
 * One request at a time. What the storage answers is not believed: bodies are bounded, and of an error only its code is shown.
 */
#ifndef QUIRE_S3_CLIENT_H
#define QUIRE_S3_CLIENT_H

#include "s3/settings.h"
#include "s3/sign.h"

#define S3_ETAG_MAX 128
#define S3_CODE_MAX 64

struct s3_client;
/* Looks at the settings, reads the keys, and sets libcurl up. The settings are copied. */
MUST_CHECK bool s3_client_new(const struct s3_settings *settings, const struct s3_place *place, struct s3_client **ret, struct status *st);
void s3_client_free(struct s3_client *c); /* takes NULL */
const struct s3_place *s3_client_place(const struct s3_client *c);

/* Takes what comes of a body. false, with the status set, ends the request. */
typedef bool (*s3_sink_fn)(struct slice piece, void *ctx, struct status *st);

struct s3_request {
    const char *method;
    const char *key; /* the object; NULL: the bucket */
    const struct s3_param *params;
    size_t param_count;
    struct slice body;
    uint64_t from;     /* of a GET: the first byte that is wanted */
    s3_sink_fn sink;   /* of a 200 or 206; NULL: the body goes into the reply */
    void *ctx;
    bool may_be_missing; /* 404 is an answer, and no failure */
    bool slow;           /* the storage may think about it for long: putting parts together */
};

struct s3_reply {
    long http_status;
    struct buf body;
    char etag[S3_ETAG_MAX];
    char code[S3_CODE_MAX]; /* of an error, "" */
    int64_t date_us;        /* the storage's clock; 0: it did not say */
    uint64_t content_length;
    bool has_length;
};
void s3_reply_fini(struct s3_reply *r);

/* Makes the request until it is answered with 2xx (or 404 where that may be), as often as the settings say. With a sink it is made once: who takes pieces knows
 * from where on to ask again. The caller frees *ret on success. STATUS_BUSY: it failed for a passing reason, as often as it may. STATUS_DENIED,
 * STATUS_NOT_FOUND, STATUS_INVALID, ...: for good; `code` of *ret_failed (may be NULL) is then the storage's. */
MUST_CHECK bool s3_do(struct s3_client *c, const struct s3_request *request, struct s3_reply *ret, char ret_code[S3_CODE_MAX], struct status *st);
/* Waits before attempt number `attempt` (from 1) is made again. */
void s3_pause(const struct s3_client *c, unsigned attempt);
const struct s3_settings *s3_client_settings(const struct s3_client *c);

#endif
