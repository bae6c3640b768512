/*
 * openapi.c - GET /openapi.json: the description of all calls, data/openapi.json, built in.
 *
 * The build turns the file into a list of numbers (openapi_bytes.inc), because C bounds the length of a string literal.
 */
#include "api/exchange.h"

static const uint8_t openapi_json[] = {
#include "src/api/openapi_bytes.inc"
};

bool handle_openapi(struct exchange *x, struct status *st) {
    (void)st;
    (void)reply_json(x, 200);
    buf_put(&x->response->body, openapi_json, sizeof openapi_json);
    return true;
}
