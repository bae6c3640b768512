/*
 * auth.c - who may call. Denied unless allowed: with authentication on, a call without the admin key gets 401 before anything
 * tells whether what it asks for exists. Only the hash of the key is known here, and hashes are compared in constant time.
 */
#include "api/exchange.h"

#include "base/hash.h"

#include <openssl/crypto.h>

#define KEY_MAX_BYTES 1024

static bool ascii_equal_ignoring_case(struct slice a, const char *lower) {
    if (a.len != strlen(lower)) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        uint8_t c = a.data[i];
        if (c >= 'A' && c <= 'Z') {
            c = (uint8_t)(c + ('a' - 'A'));
        }
        if (c != (uint8_t)lower[i]) {
            return false;
        }
    }
    return true;
}

static struct slice trimmed(struct slice s) {
    while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s = slice_of(s.data + 1, s.len - 1);
    }
    while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

/* The key of "Authorization: Bearer <key>", else of X-API-Key; empty when neither is there. */
struct slice auth_key(const struct api_request *request) {
    static const char scheme[] = "bearer";
    struct slice authorization = trimmed(request->authorization);
    size_t len = sizeof scheme - 1;
    if (authorization.len > len && authorization.data[len] == ' ' &&
        ascii_equal_ignoring_case(slice_of(authorization.data, len), scheme)) {
        return trimmed(slice_of(authorization.data + len, authorization.len - len));
    }
    return trimmed(request->x_api_key);
}

bool auth_check(const struct api *a, const struct api_request *request, struct status *st) {
    if (!a->host.auth_on) {
        return true;
    }
    struct slice key = auth_key(request);
    if (key.len == 0) {
        return status_set(st, STATUS_UNAUTHENTICATED,
                          "this server needs a key: send it as \"Authorization: Bearer <key>\" or X-API-Key");
    }
    uint8_t digest[32] = {0};
    if (key.len <= KEY_MAX_BYTES) {
        sha256(key.data, key.len, digest);
    }
    bool same = CRYPTO_memcmp(digest, a->host.admin_key_sha256, sizeof digest) == 0;
    if (!same || !a->host.has_admin_key || key.len > KEY_MAX_BYTES) {
        return status_set(st, STATUS_UNAUTHENTICATED, "the key is not known");
    }
    return true;
}
