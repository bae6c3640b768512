/* json_scan.h - inside base: the validating pass of json_front.h, before json-c. */
#ifndef QUIRE_BASE_JSON_SCAN_H
#define QUIRE_BASE_JSON_SCAN_H

#include "base/json_front.h"

/* What the pass leaves. Zero it before, json_scan_fini it after, whether the pass succeeded or not. */
struct json_scan {
    struct buf edited;  /* the body with each vector replaced by its number, and a NUL */
    struct buf floats;  /* float, host order */
    struct buf vectors; /* struct json_vector */
};

MUST_CHECK bool json_scan_body(struct slice body, const struct json_limits *limits, const char *const *vector_places,
                               struct json_scan *out, struct status *st);
void json_scan_fini(struct json_scan *out);

#endif
