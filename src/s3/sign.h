/*
 * sign.h - AWS signature version 4, as S3 wants it: over one request, in its Authorization header.
 *
 * libcurl can do it (CURLOPT_AWS_SIGV4), but the version of Debian 12 (7.88) leaves the body's hash of an upload and the order of queries wrong, so S3 refuses
 * what it signs. This is the whole of it, over OpenSSL's HMAC.
 *
 * Source: "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk", Amazon S3 API Reference. What differs for S3 from the
 * other services: the path is encoded once and not normalised, and x-amz-content-sha256 is signed.
 */
#ifndef QUIRE_S3_SIGN_H
#define QUIRE_S3_SIGN_H

#include "base/buf.h"
#include "s3/settings.h"

#define S3_DATE_MAX 17 /* "20261130T010203Z" and a NUL */
#define S3_SHA256_HEX 65
#define S3_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct s3_param {
    const char *name; /* as it is, not encoded */
    const char *value;
};

struct s3_signing {
    const char *method;
    const char *host; /* as in the Host header: with the port where it is not the scheme's */
    const char *path; /* as it is, from '/' on */
    const struct s3_param *params;
    size_t param_count;
    const char *payload_sha256; /* hex, of the body */
    const char *region;
    const struct s3_keys *keys;
    int64_t time_us;
};

/* Encodes for a URL: all but letters, digits, '-', '.', '_', '~', and '/' where `slashes` says so. */
void s3_encode(struct buf *out, struct slice text, bool slashes);
/* The query as it is signed and sent, sorted by name; "" where there are no parameters. At most 16. */
void s3_query(struct buf *out, const struct s3_param *params, size_t count);
/* date: the value of x-amz-date. *authorization (appended to): that of Authorization. */
MUST_CHECK bool s3_sign(const struct s3_signing *s, char date[S3_DATE_MAX], struct buf *authorization, struct status *st);

#endif
