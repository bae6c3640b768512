/*
 * json_in.h - reading what json-c parsed, strictly: a member of a wrong type, out of range or unknown becomes a problem with its
 * JSON pointer.
 *
 * null means "none". It is as good as leaving the member out where there can be none (a description, a threshold); a member that
 * always has a value (k, index_type) cannot be none, and json_in_no_nulls refuses it there.
 *
 * A reader given NULL (the member is absent, or null) says nothing and returns false; whoever needs the member asks
 * json_in_require.
 */
#ifndef QUIRE_API_JSON_IN_H
#define QUIRE_API_JSON_IN_H

#include "api/exchange.h"

struct member {
    const char *name;
    struct json_object **value; /* NULL is stored for null; untouched when absent */
};

/* Parses a text within the limits of a body. */
MUST_CHECK bool json_in_parse(const struct exchange *x, struct slice text, struct json_document *ret, struct status *st);
/* Parses the body; it must be an object. */
MUST_CHECK bool json_in_body(struct exchange *x, struct status *st);
/* Distributes the members of `object` (a problem when it is none); unknown ones are problems. False: it is no object. */
bool json_in_members(struct exchange *x, const struct place *at, struct json_object *object, const struct member *members,
                     size_t count);
/* The members named (NULL-terminated) may be left out, but not null. */
void json_in_no_nulls(struct exchange *x, const struct place *at, struct json_object *object, const char *const *names);
bool json_in_require(struct exchange *x, const struct place *at, const char *name, struct json_object *value);

bool json_in_text(struct exchange *x, const struct place *at, struct json_object *v, uint64_t least, uint64_t most,
                  struct slice *ret);
/* As json_in_text, and free of control characters: what stands in a line of its own somewhere. */
bool json_in_name(struct exchange *x, const struct place *at, struct json_object *v, uint64_t least, uint64_t most,
                  struct slice *ret);
bool json_in_uint(struct exchange *x, const struct place *at, struct json_object *v, uint64_t least, uint64_t most,
                  uint32_t *ret);
bool json_in_number(struct exchange *x, const struct place *at, struct json_object *v, double least, double most, double *ret);
bool json_in_bool(struct exchange *x, const struct place *at, struct json_object *v, bool *ret);
/* One of the words; *ret is its index. `words` ends with NULL. */
bool json_in_choice(struct exchange *x, const struct place *at, struct json_object *v, const char *const *words, unsigned *ret);
bool json_in_array(struct exchange *x, const struct place *at, struct json_object *v, uint64_t least, uint64_t most,
                   size_t *ret_count);
/* An id of a caller's, encoded into the pool. */
/* A time as RFC 3339 writes it. */
bool json_in_time(struct exchange *x, const struct place *at, struct json_object *v, int64_t *ret);
bool json_in_item_id(struct exchange *x, const struct place *at, struct json_object *v, struct slice *ret_encoded);
/* A custom metadata object, as JSON text in the pool. Names in `reserved` (NULL-terminated, or NULL) are problems. */
bool json_in_metadata(struct exchange *x, const struct place *at, struct json_object *v, const char *const *reserved,
                      struct slice *ret);
enum vector_read { VECTOR_READ, VECTOR_PROBLEM, VECTOR_REFUSED };
/* A vector, copied to the pool and scaled to unit length. A problem: a wrong type, a zero vector. Refused, with *st: a number
 * that is not finite, a dimension other than *dimension (0 there is set by the first vector). */
enum vector_read json_in_vector(struct exchange *x, const struct place *at, struct json_object *v, uint32_t *dimension,
                                float **ret, struct status *st);
/* A body that may be left out, or be an object without members. */
MUST_CHECK bool json_in_nothing(struct exchange *x, struct status *st);

#endif
