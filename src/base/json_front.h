/*
 * json_front.h - the gate before json-c: counts before it builds, and cuts vectors out.
 *
 * json-c builds about 260 bytes a token and believes what it is told: 8 MB of "[{},{},..." costs it 2.1 GB. So a single
 * pass over the body first checks, without allocating per token: well-formed JSON (RFC 8259, no leniency), valid UTF-8,
 * depth, number of tokens, no NUL (escaped ones too) in keys or strings, no duplicate keys within one object, no lone
 * surrogate escapes, numbers that are finite as a double, and integers that fit into 64 bits (json-c would write the largest
 * one instead). What fails is STATUS_MALFORMED with the byte offset, a limit too. Memory: 48 bytes a key and the edited copy.
 *
 * Vectors: arrays of numbers in the places that the caller names are parsed by our own scanner into float32 (json-c takes
 * 151 us for 384 numbers, this one 6 to 11), and do not count as tokens. A place is a path of keys with "[]" for "any
 * element", such as "embedding", "embeddings.[]", "chunks.[].embedding", "documents.[].chunks.[].embedding"; up to 32 places
 * of 8 steps. In the copy of the body that json-c parses, the array is replaced by its number in the table ("vector
 * reference"), so the tree keeps its shape; because such a place must hold an array or a base64 string, a plain number there
 * is refused (STATUS_INVALID), and a reference cannot be forged. An array there that holds anything but numbers is
 * STATUS_INVALID. Other values there (null, an object) are left for json_document_vector to refuse.
 */
#ifndef QUIRE_BASE_JSON_FRONT_H
#define QUIRE_BASE_JSON_FRONT_H

#include "base/buf.h"

#include <json-c/json.h>

struct json_limits {
    uint32_t max_depth;         /* containers inside one another */
    uint32_t max_tokens;        /* values and keys, vector elements not counted */
    uint32_t max_vector_length; /* numbers in one vector */
    uint32_t max_keys;          /* members of one object */
};

struct json_vector {
    uint32_t first; /* index into json_document.floats */
    uint32_t length;
};

struct json_document {
    struct json_object *root; /* NULL for the body "null" */
    float *floats; /* all vectors, one after the other */
    size_t float_count;
    struct json_vector *vectors;
    uint32_t vector_count;
};

/* Parses `body`. `vector_places`: NULL-terminated array of paths, or NULL. On success the caller frees with
 * json_document_fini. */
MUST_CHECK bool json_document_parse(struct slice body, const struct json_limits *limits, const char *const *vector_places,
                                    struct json_document *ret, struct status *st);
void json_document_fini(struct json_document *doc); /* takes a zeroed one */

/* The vector that the value at a vector place refers to. `value` is what json-c holds there: a reference, or a string, which is
 * decoded as base64 of little-endian float32 into *scratch (cleared first). Not finite, or a length that is no multiple of
 * 4: STATUS_MALFORMED. On success *ret_values points into doc or scratch. */
MUST_CHECK bool json_document_vector(const struct json_document *doc, struct json_object *value, struct buf *scratch,
                                     const float **ret_values, uint32_t *ret_length, struct status *st);

/* One JSON number at text (len bytes available) to float32, rounded as strtof does. Returns bytes used, 0 when it is none.
 * A magnitude beyond float32 is returned as infinity for the caller to refuse. */
size_t scan_float(const char *text, size_t len, float *ret);

/* Base64 (RFC 4648, with padding, no line breaks). */
bool base64_decode(struct slice text, struct buf *out);
void base64_encode(struct slice bytes, struct buf *out);

#endif
