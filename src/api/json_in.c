/* json_in.c - see json_in.h. */
#include "api/json_in.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "index/distance.h"
#include "store/idempotency.h"
#include "store/model.h"

#include <inttypes.h>
#include <math.h>

/* Where vectors may stand in the bodies of this interface (json_front.h). */
static const char *const vector_places[] = {"embedding",
                                            "embeddings.[]",
                                            "chunks.[].embedding",
                                            "documents.[].embeddings.[]",
                                            "documents.[].chunks.[].embedding",
                                            "searches.[].embedding",
                                            NULL};

bool json_in_parse(const struct exchange *x, struct slice text, struct json_document *ret, struct status *st) {
    const struct limits *l = x->api->host.limits;
    struct json_limits limits = {.max_depth = (uint32_t)l->json_max_depth,
                                 .max_tokens = (uint32_t)l->json_max_tokens,
                                 .max_vector_length = (uint32_t)l->max_dimension,
                                 .max_keys = (uint32_t)l->json_max_keys};
    return json_document_parse(text, &limits, vector_places, ret, st);
}

bool json_in_body(struct exchange *x, struct status *st) {
    if (!json_in_parse(x, x->request->body, &x->document, st)) {
        return false;
    }
    if (!json_object_is_type(x->document.root, json_type_object)) {
        problem_add(x, NULL, "the body must be an object");
    }
    return problems_none(x, st);
}

static const struct member *member_named(const struct member *members, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(members[i].name, name) == 0) {
            return &members[i];
        }
    }
    return NULL;
}

bool json_in_members(struct exchange *x, const struct place *at, struct json_object *object, const struct member *members,
                     size_t count) {
    if (!json_object_is_type(object, json_type_object)) {
        problem_add(x, at, "must be an object");
        return false;
    }
    json_object_object_foreach(object, key, value) {
        const struct member *m = member_named(members, count, key);
        if (m != NULL) {
            *m->value = value;
        } else {
            struct place unknown = place_member(at, key);
            problem_add(x, &unknown, "is no member that is known here");
        }
    }
    return true;
}

void json_in_no_nulls(struct exchange *x, const struct place *at, struct json_object *object, const char *const *names) {
    struct json_object *value = NULL;
    for (unsigned i = 0; names[i] != NULL; i++) {
        if (json_object_is_type(object, json_type_object) && json_object_object_get_ex(object, names[i], &value) &&
            value == NULL) {
            struct place member = place_member(at, names[i]);
            problem_add(x, &member, "must not be null");
        }
    }
}

bool json_in_require(struct exchange *x, const struct place *at, const char *name, struct json_object *value) {
    if (value != NULL) {
        return true;
    }
    struct place missing = place_member(at, name);
    problem_add(x, &missing, "is required");
    return false;
}

bool json_in_text(struct exchange *x, const struct place *at, struct json_object *v, uint64_t least, uint64_t most,
                  struct slice *ret) {
    if (v == NULL) {
        return false;
    }
    if (!json_object_is_type(v, json_type_string)) {
        problem_add(x, at, "must be a string");
        return false;
    }
    struct slice text = slice_of(json_object_get_string(v), (size_t)json_object_get_string_len(v));
    if (text.len < least) {
        problem_add(x, at, "must not be empty");
        return false;
    }
    if (text.len > most) {
        problem_add(x, at, "has %zu bytes; at most %" PRIu64 " are taken", text.len, most);
        return false;
    }
    *ret = text;
    return true;
}

bool json_in_name(struct exchange *x, const struct place *at, struct json_object *v, uint64_t least, uint64_t most,
                  struct slice *ret) {
    struct slice text;
    if (!json_in_text(x, at, v, least, most, &text)) {
        return false;
    }
    if (utf8_has_control(text)) {
        problem_add(x, at, "must not hold control characters");
        return false;
    }
    *ret = text;
    return true;
}

bool json_in_uint(struct exchange *x, const struct place *at, struct json_object *v, uint64_t least, uint64_t most,
                  uint32_t *ret) {
    if (v == NULL) {
        return false;
    }
    if (!json_object_is_type(v, json_type_int)) {
        problem_add(x, at, "must be a whole number");
        return false;
    }
    int64_t n = json_object_get_int64(v);
    if (n < 0 || (uint64_t)n < least || (uint64_t)n > most) {
        problem_add(x, at, "must be from %" PRIu64 " to %" PRIu64, least, most);
        return false;
    }
    *ret = (uint32_t)n;
    return true;
}

bool json_in_number(struct exchange *x, const struct place *at, struct json_object *v, double least, double most, double *ret) {
    if (v == NULL) {
        return false;
    }
    if (!json_object_is_type(v, json_type_double) && !json_object_is_type(v, json_type_int)) {
        problem_add(x, at, "must be a number");
        return false;
    }
    double n = json_object_get_double(v);
    if (!(n >= least && n <= most)) {
        problem_add(x, at, "must be from %g to %g", least, most);
        return false;
    }
    *ret = n;
    return true;
}

bool json_in_bool(struct exchange *x, const struct place *at, struct json_object *v, bool *ret) {
    if (v == NULL) {
        return false;
    }
    if (!json_object_is_type(v, json_type_boolean)) {
        problem_add(x, at, "must be true or false");
        return false;
    }
    *ret = json_object_get_boolean(v) != 0;
    return true;
}

bool json_in_choice(struct exchange *x, const struct place *at, struct json_object *v, const char *const *words, unsigned *ret) {
    struct slice text;
    if (!json_in_text(x, at, v, 0, SIZE_MAX, &text)) {
        return false;
    }
    struct buf known;
    buf_init(&known);
    for (unsigned i = 0; words[i] != NULL; i++) {
        if (slice_is(text, words[i])) {
            buf_fini(&known);
            *ret = i;
            return true;
        }
        buf_printf(&known, "%s%s", i == 0 ? "" : (words[i + 1] == NULL ? " or " : ", "), words[i]);
    }
    problem_add(x, at, "must be %.*s", (int)known.len, known.data != NULL ? (const char *)known.data : "");
    buf_fini(&known);
    return false;
}

bool json_in_array(struct exchange *x, const struct place *at, struct json_object *v, uint64_t least, uint64_t most,
                   size_t *ret_count) {
    if (v == NULL) {
        return false;
    }
    if (!json_object_is_type(v, json_type_array)) {
        problem_add(x, at, "must be an array");
        return false;
    }
    size_t count = json_object_array_length(v);
    if (count < least || count > most) {
        problem_add(x, at, "has %zu elements; it must have from %" PRIu64 " to %" PRIu64, count, least, most);
        return false;
    }
    *ret_count = count;
    return true;
}

bool json_in_time(struct exchange *x, const struct place *at, struct json_object *v, int64_t *ret) {
    struct slice text;
    int64_t time = 0;
    if (!json_in_text(x, at, v, 0, SIZE_MAX, &text)) {
        return false;
    }
    if (!rfc3339_parse(text, &time) || !idempotency_time_good(time)) {
        problem_add(x, at, "must be a time as RFC 3339 writes it, such as 2027-01-31T00:00:00Z");
        return false;
    }
    *ret = time;
    return true;
}

bool json_in_item_id(struct exchange *x, const struct place *at, struct json_object *v, struct slice *ret_encoded) {
    struct slice text;
    if (!json_in_name(x, at, v, 1, x->api->host.limits->max_id_bytes, &text)) {
        return false;
    }
    struct buf encoded;
    buf_init(&encoded);
    bool good = item_id_encode(text, &encoded);
    if (!good) {
        problem_add(x, at, "must be 1 to %d bytes of text without control characters", ITEM_ID_TEXT_MAX);
    } else if (!buf_ok(&encoded) || !pool_copy(&x->pool, buf_slice(&encoded), ret_encoded)) {
        problem_add(x, at, "cannot be kept: the server has no memory left");
        good = false;
    }
    buf_fini(&encoded);
    return good;
}

bool json_in_metadata(struct exchange *x, const struct place *at, struct json_object *v, const char *const *reserved,
                      struct slice *ret) {
    if (v == NULL) {
        return false;
    }
    if (!json_object_is_type(v, json_type_object)) {
        problem_add(x, at, "must be an object");
        return false;
    }
    bool good = true;
    for (unsigned i = 0; reserved != NULL && reserved[i] != NULL; i++) {
        if (json_object_object_get_ex(v, reserved[i], NULL)) {
            struct place member = place_member(at, reserved[i]);
            problem_add(x, &member, "is the name of a field of its own and cannot be custom metadata");
            good = false;
        }
    }
    size_t len = 0;
    const char *text = json_object_to_json_string_length(v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
    uint64_t most = x->api->host.limits->max_metadata_bytes;
    if (text == NULL) {
        problem_add(x, at, "cannot be kept: the server has no memory left");
        return false;
    }
    if (len > most) {
        problem_add(x, at, "has %zu bytes as JSON; at most %" PRIu64 " are taken", len, most);
        return false;
    }
    *ret = slice_of(text, len); /* belongs to the object, which lives as long as the parsed body */
    return good;
}

enum vector_read json_in_vector(struct exchange *x, const struct place *at, struct json_object *v, uint32_t *dimension,
                                float **ret, struct status *st) {
    if (!json_object_is_type(v, json_type_int) && !json_object_is_type(v, json_type_string)) {
        problem_add(x, at, "must be an array of numbers, or base64 of little-endian float32");
        return VECTOR_PROBLEM;
    }
    enum vector_read outcome = VECTOR_REFUSED;
    const float *values = NULL;
    uint32_t length = 0;
    struct buf scratch;
    buf_init(&scratch);
    if (!json_document_vector(&x->document, v, &scratch, &values, &length, st)) {
        goto out;
    }
    if (length == 0 || length > x->api->host.limits->max_dimension) {
        (void)status_set(st, STATUS_DIMENSION, "a vector has %u numbers; 1 to %" PRIu64 " are possible", length,
                         x->api->host.limits->max_dimension);
        goto out;
    }
    if (*dimension != 0 && length != *dimension) {
        (void)status_set(st, STATUS_DIMENSION, "a vector has %u numbers; this library's have %u", length, *dimension);
        goto out;
    }
    float *copy = (float *)pool_take_array(&x->pool, length, sizeof *copy);
    if (copy == NULL) {
        (void)status_no_memory(st);
        goto out;
    }
    memcpy(copy, values, length * sizeof *copy);
    for (uint32_t i = 0; i < length; i++) {
        if (!isfinite(copy[i])) {
            (void)status_set(st, STATUS_MALFORMED, "number %u of a vector is not finite as float32", i);
            goto out;
        }
    }
    if (!vector_normalize(copy, length)) {
        problem_add(x, at, "is a zero vector (or its length is not finite): it has no direction, so no cosine distance");
        outcome = VECTOR_PROBLEM;
        goto out;
    }
    *dimension = length;
    *ret = copy;
    outcome = VECTOR_READ;
out:
    buf_fini(&scratch);
    return outcome;
}

bool json_in_nothing(struct exchange *x, struct status *st) {
    if (x->request->body.len == 0) {
        return true;
    }
    if (!json_in_body(x, st)) {
        return false;
    }
    (void)json_in_members(x, NULL, x->document.root, NULL, 0);
    return problems_none(x, st);
}
