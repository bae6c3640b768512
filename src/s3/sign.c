/* sign.c - see sign.h. The names of steps are those of the specification. */
#include "s3/sign.h"

#include "base/clock.h"
#include "base/hash.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PARAMS_MAX = 16, HASH_BYTES = 32, DAY_DIGITS = 8, US_PER_SECOND = 1000000 };

void s3_encode(struct buf *out, struct slice text, bool slashes) {
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~' ||
                     (c == '/' && slashes);
        if (plain) {
            buf_put_u8(out, c);
        } else {
            buf_put_u8(out, '%');
            buf_put_u8(out, (uint8_t)digits[c >> 4]);
            buf_put_u8(out, (uint8_t)digits[c & 15]);
        }
    }
}

static int by_name(const void *a, const void *b) {
    const struct s3_param *x = (const struct s3_param *)a;
    const struct s3_param *y = (const struct s3_param *)b;
    int order = strcmp(x->name, y->name);
    return order != 0 ? order : strcmp(x->value, y->value);
}

void s3_query(struct buf *out, const struct s3_param *params, size_t count) {
    struct s3_param sorted[PARAMS_MAX];
    count = count < PARAMS_MAX ? count : PARAMS_MAX;
    for (size_t i = 0; i < count; i++) {
        sorted[i] = params[i];
    }
    if (count > 1) {
        qsort(sorted, count, sizeof sorted[0], by_name);
    }
    for (size_t i = 0; i < count; i++) {
        buf_put_str(out, i == 0 ? "" : "&");
        s3_encode(out, slice_str(sorted[i].name), false);
        buf_put_str(out, "=");
        s3_encode(out, slice_str(sorted[i].value), false);
    }
}

static void put_signed_names(struct buf *out, const struct s3_signing *s) {
    buf_put_str(out, s->keys->session_token[0] != '\0' ? "host;x-amz-content-sha256;x-amz-date;x-amz-security-token" : "host;x-amz-content-sha256;x-amz-date");
}

/* Task 1: the canonical request. */
static void put_canonical_request(struct buf *out, const struct s3_signing *s, const char *date) {
    buf_printf(out, "%s\n", s->method);
    s3_encode(out, slice_str(s->path), true);
    buf_put_str(out, "\n");
    s3_query(out, s->params, s->param_count);
    buf_printf(out, "\nhost:%s\nx-amz-content-sha256:%s\nx-amz-date:%s\n", s->host, s->payload_sha256, date);
    if (s->keys->session_token[0] != '\0') {
        buf_printf(out, "x-amz-security-token:%s\n", s->keys->session_token);
    }
    buf_put_str(out, "\n");
    put_signed_names(out, s);
    buf_printf(out, "\n%s", s->payload_sha256);
}

static bool hmac(const void *key, size_t key_len, struct slice data, uint8_t out[HASH_BYTES]) {
    unsigned len = HASH_BYTES;
    return HMAC(EVP_sha256(), key, (int)key_len, data.data, data.len, out, &len) != NULL && len == HASH_BYTES;
}

/* Task 3, the first half: the signing key. */
static bool make_signing_key(const struct s3_signing *s, const char *date, uint8_t out[HASH_BYTES]) {
    char secret[sizeof s->keys->secret_key + sizeof "AWS4"];
    uint8_t key[HASH_BYTES];
    int len = snprintf(secret, sizeof secret, "AWS4%s", s->keys->secret_key);
    bool ok = hmac(secret, (size_t)len, slice_of(date, DAY_DIGITS), key) && hmac(key, sizeof key, slice_str(s->region), out) &&
              hmac(out, HASH_BYTES, slice_str("s3"), key) && hmac(key, sizeof key, slice_str("aws4_request"), out);
    explicit_bzero(secret, sizeof secret);
    explicit_bzero(key, sizeof key);
    return ok;
}

static bool format_date(int64_t time_us, char out[S3_DATE_MAX]) {
    time_t seconds = (time_t)(time_us / US_PER_SECOND);
    struct tm utc;
    return gmtime_r(&seconds, &utc) != NULL && strftime(out, S3_DATE_MAX, "%Y%m%dT%H%M%SZ", &utc) == S3_DATE_MAX - 1;
}

bool s3_sign(const struct s3_signing *s, char date[S3_DATE_MAX], struct buf *authorization, struct status *st) {
    struct buf text = {0};
    char request[S3_SHA256_HEX];
    uint8_t key[HASH_BYTES];
    uint8_t signature[HASH_BYTES];
    if (!format_date(s->time_us, date)) {
        return status_set(st, STATUS_INVALID, "the clock is of no year that can be signed");
    }
    put_canonical_request(&text, s, date);
    bool ok = buf_check(&text, st);
    if (ok) {
        sha256_hex(text.data, text.len, request);
        buf_reset(&text);
        /* Task 2: the string to sign. */
        buf_printf(&text, "AWS4-HMAC-SHA256\n%s\n%.*s/%s/s3/aws4_request\n%s", date, DAY_DIGITS, date, s->region, request);
        ok = buf_check(&text, st);
    }
    if (ok && (!make_signing_key(s, date, key) || !hmac(key, sizeof key, buf_slice(&text), signature))) {
        ok = status_set(st, STATUS_INTERNAL, "OpenSSL makes no HMAC");
    }
    if (ok) {
        buf_printf(authorization, "AWS4-HMAC-SHA256 Credential=%s/%.*s/%s/s3/aws4_request, SignedHeaders=", s->keys->access_key, DAY_DIGITS, date, s->region);
        put_signed_names(authorization, s);
        buf_put_str(authorization, ", Signature=");
        for (size_t i = 0; i < sizeof signature; i++) {
            buf_printf(authorization, "%02x", signature[i]);
        }
        ok = buf_check(authorization, st);
    }
    explicit_bzero(key, sizeof key);
    buf_fini(&text);
    return ok;
}
