/*
 * cors.c - see cors.h.
 *
 * Keys come in headers that a page sets itself, never in cookies, so credentials in the sense of CORS are not allowed, and "*" gives away nothing that somebody
 * without a browser could not have. A browser asks first (a preflight), without the key: such a request is answered ahead of the check of keys, alike
 * for every path and every method, so that it tells nobody what is there. What is written into a reply is the configured origin, not the one that came.
 */
#include "api/cors.h"

#include "api/origins.h"

#include <string.h>

static const char *const preflight_headers =
    "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE\r\n"
    "Access-Control-Allow-Headers: Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-API-Key, X-Request-Id\r\n"
    "Access-Control-Max-Age: 600\r\n";

void cors_put(struct exchange *x) {
    const char *origins = x->api->host.cors_origins;
    struct buf *headers = &x->response->headers;
    if (origins == NULL || origins[0] == '\0') {
        return;
    }
    if (strcmp(origins, "*") != 0) {
        buf_put_str(headers, "Vary: Origin\r\n"); /* also where it is not allowed: a cache must not give this reply to one that is */
    }
    struct slice origin = origins_find(origins, x->request->origin);
    if (origin.len > 0) {
        buf_put_str(headers, "Access-Control-Allow-Origin: ");
        buf_put(headers, origin.data, origin.len);
        buf_put_str(headers, "\r\nAccess-Control-Expose-Headers: ETag, Idempotency-Replayed, Link, Location, Quire-LSN, Retry-After, X-Request-Id\r\n");
    }
}

bool cors_preflight(struct exchange *x) {
    const char *origins = x->api->host.cors_origins;
    if (!slice_is(x->request->method, "OPTIONS") || x->request->cors_method.len == 0 || origins == NULL ||
        origins_find(origins, x->request->origin).len == 0) {
        return false;
    }
    reply_empty(x, 204);
    buf_put_str(&x->response->headers, preflight_headers);
    return true;
}
