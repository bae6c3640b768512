/*
 * json_front.c - a body as a json-c tree and a table of vectors.
 *
 * json_scan.c decides what is taken; json-c then builds the tree of the edited copy, in its strictest mode. Should json-c refuse
 * what the pass took, the body is refused: the stricter of two opinions counts.
 */
#include "base/json_front.h"

#include "base/bytes.h"
#include "base/json_scan.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>

/* json-c counts the value inside the innermost container, and compares before it descends. */
enum { TOKENER_EXTRA_DEPTH = 2, BYTES_PER_FLOAT = 4 };

_Static_assert(sizeof(float) == BYTES_PER_FLOAT, "vectors are float32");

static bool build_tree(const struct buf *edited, const struct json_limits *limits, struct json_object **ret, struct status *st) {
    if (limits->max_depth > INT_MAX - TOKENER_EXTRA_DEPTH) {
        return status_set(st, STATUS_INTERNAL, "the limit of depth is too large");
    }
    struct json_tokener *tokener = json_tokener_new_ex((int)limits->max_depth + TOKENER_EXTRA_DEPTH);
    if (tokener == NULL) {
        return status_no_memory(st);
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *root = json_tokener_parse_ex(tokener, (const char *)edited->data, (int)edited->len);
    enum json_tokener_error error = json_tokener_get_error(tokener);
    json_tokener_free(tokener);
    if (error != json_tokener_success) {
        json_object_put(root);
        return status_set(st, STATUS_MALFORMED, "the JSON is malformed: %s", json_tokener_error_desc(error));
    }
    *ret = root;
    return true;
}

bool json_document_parse(struct slice body, const struct json_limits *limits, const char *const *vector_places,
                         struct json_document *ret, struct status *st) {
    struct json_scan scan = {0};
    struct json_document doc = {0};
    size_t bytes;
    bool ok = json_scan_body(body, limits, vector_places, &scan, st) && build_tree(&scan.edited, limits, &doc.root, st);
    if (ok) {
        doc.floats = (float *)(void *)buf_take(&scan.floats, &bytes);
        doc.float_count = bytes / sizeof *doc.floats;
        doc.vectors = (struct json_vector *)(void *)buf_take(&scan.vectors, &bytes);
        doc.vector_count = (uint32_t)(bytes / sizeof *doc.vectors);
        *ret = doc;
    }
    json_scan_fini(&scan);
    return ok;
}

void json_document_fini(struct json_document *doc) {
    json_object_put(doc->root);
    free(doc->floats);
    free(doc->vectors);
    *doc = (struct json_document){0};
}

static bool decode_vector(struct json_object *value, struct buf *scratch, const float **ret_values, uint32_t *ret_length,
                          struct status *st) {
    struct slice text = slice_of(json_object_get_string(value), (size_t)json_object_get_string_len(value));
    buf_reset(scratch);
    if (!base64_decode(text, scratch) || scratch->len % BYTES_PER_FLOAT != 0) {
        return status_set(st, STATUS_MALFORMED, "a vector string is base64 of 32-bit floats");
    }
    if (!buf_check(scratch, st)) {
        return false;
    }
    size_t length = scratch->len / BYTES_PER_FLOAT;
    struct reader r = reader_of(buf_slice(scratch));
    for (size_t i = 0; i < length; i++) {
        float v = read_f32le(&r);
        if (!isfinite(v)) {
            return status_set(st, STATUS_MALFORMED, "number %zu of a vector is not finite", i);
        }
        memcpy(scratch->data + i * BYTES_PER_FLOAT, &v, sizeof v);
    }
    *ret_values = (const float *)(const void *)scratch->data;
    *ret_length = (uint32_t)length;
    return true;
}

bool json_document_vector(const struct json_document *doc, struct json_object *value, struct buf *scratch,
                          const float **ret_values, uint32_t *ret_length, struct status *st) {
    if (json_object_is_type(value, json_type_string)) {
        return decode_vector(value, scratch, ret_values, ret_length, st);
    }
    int64_t reference = json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : -1;
    if (reference < 0 || reference >= (int64_t)doc->vector_count) {
        return status_set(st, STATUS_INVALID, "a vector is an array of numbers or a base64 string");
    }
    const struct json_vector *vector = &doc->vectors[reference];
    *ret_values = vector->length == 0 ? NULL : doc->floats + vector->first;
    *ret_length = vector->length;
    return true;
}
