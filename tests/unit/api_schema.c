/*
 * api_schema.c - see api_schema.h. As much of JSON Schema as the description uses: type, enum, const, minimum, maximum,
 * minLength, maxLength, minItems, maxItems, uniqueItems, properties, required, additionalProperties, items, oneOf, anyOf, $ref. A word that is not
 * known here fails the test, so that no constraint is passed over in silence.
 */
#include "api_schema.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct checking {
    struct json_object *openapi;
    char *why; /* 512 bytes */
};

static bool fits(struct checking *c, struct json_object *schema, struct json_object *value, const char *at);

static bool wrong(struct checking *c, const char *at, const char *what) {
    (void)snprintf(c->why, 512, "%s: %s", at[0] != '\0' ? at : "/", what);
    return false;
}

static struct json_object *resolve(struct checking *c, struct json_object *node) {
    struct json_object *ref = NULL;
    while (node != NULL && json_object_object_get_ex(node, "$ref", &ref)) {
        const char *target = json_object_get_string(ref);
        assert_int_equal(target[0], '#');
        if (json_pointer_get(c->openapi, target + 1, &node) != 0) {
            fail_msg("the description refers to %s, which is not there", target);
        }
    }
    return node;
}

static bool has_type(const char *name, struct json_object *value) {
    if (strcmp(name, "null") == 0) {
        return value == NULL;
    }
    if (strcmp(name, "number") == 0) {
        return json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double);
    }
    static const struct {
        const char *name;
        enum json_type type;
    } types[] = {{"object", json_type_object},
                 {"array", json_type_array},
                 {"string", json_type_string},
                 {"boolean", json_type_boolean},
                 {"integer", json_type_int}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(name, types[i].name) == 0) {
            return value != NULL && json_object_is_type(value, types[i].type);
        }
    }
    fail_msg("the description has the type %s", name);
    return false;
}

static bool fits_type(struct checking *c, struct json_object *type, struct json_object *value, const char *at) {
    if (json_object_is_type(type, json_type_string)) {
        return has_type(json_object_get_string(type), value) || wrong(c, at, "is of a wrong type");
    }
    for (size_t i = 0; i < json_object_array_length(type); i++) {
        if (has_type(json_object_get_string(json_object_array_get_idx(type, i)), value)) {
            return true;
        }
    }
    return wrong(c, at, "is of none of the types");
}

static bool fits_enum(struct checking *c, struct json_object *words, struct json_object *value, const char *at) {
    for (size_t i = 0; i < json_object_array_length(words); i++) {
        if (json_object_equal(json_object_array_get_idx(words, i), value)) {
            return true;
        }
    }
    return wrong(c, at, "is none of the values");
}

static bool fits_object(struct checking *c, struct json_object *schema, struct json_object *value, const char *at) {
    struct json_object *properties = NULL, *required = NULL, *additional = NULL;
    (void)json_object_object_get_ex(schema, "properties", &properties);
    (void)json_object_object_get_ex(schema, "additionalProperties", &additional);
    if (json_object_object_get_ex(schema, "required", &required)) {
        for (size_t i = 0; i < json_object_array_length(required); i++) {
            const char *name = json_object_get_string(json_object_array_get_idx(required, i));
            if (!json_object_object_get_ex(value, name, NULL)) {
                return wrong(c, at, name);
            }
        }
    }
    json_object_object_foreach(value, key, member) {
        char place[256];
        struct json_object *of_member = NULL;
        (void)snprintf(place, sizeof place, "%s/%s", at, key);
        if (properties != NULL && json_object_object_get_ex(properties, key, &of_member)) {
            if (!fits(c, of_member, member, place)) {
                return false;
            }
        } else if (additional != NULL && !json_object_get_boolean(additional)) {
            return wrong(c, place, "is not described");
        }
    }
    return true;
}

static bool fits_array(struct checking *c, struct json_object *items, struct json_object *value, const char *at) {
    for (size_t i = 0; i < json_object_array_length(value); i++) {
        char place[256];
        (void)snprintf(place, sizeof place, "%s/%zu", at, i);
        if (!fits(c, items, json_object_array_get_idx(value, i), place)) {
            return false;
        }
    }
    return true;
}

/* One to `most` of the alternatives. */
static bool fits_some(struct checking *c, struct json_object *alternatives, unsigned most, struct json_object *value,
                      const char *at) {
    unsigned fitting = 0;
    for (size_t i = 0; i < json_object_array_length(alternatives); i++) {
        char why[512];
        struct checking each = {c->openapi, why};
        fitting += fits(&each, json_object_array_get_idx(alternatives, i), value, at) ? 1 : 0;
    }
    return (fitting >= 1 && fitting <= most) || wrong(c, at, "fits none, or too many, of the alternatives");
}

static bool fits_bound(struct checking *c, const char *word, double bound, struct json_object *value, const char *at) {
    double size = 0;
    if (strstr(word, "Length") != NULL) {
        if (!json_object_is_type(value, json_type_string)) {
            return true;
        }
        size = (double)json_object_get_string_len(value); /* bytes stand for characters: these tests stay far from the bounds */
    } else if (strstr(word, "Items") != NULL) {
        if (!json_object_is_type(value, json_type_array)) {
            return true;
        }
        size = (double)json_object_array_length(value);
    } else if (json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double)) {
        size = json_object_get_double(value);
    } else {
        return true;
    }
    bool good = strncmp(word, "min", 3) == 0 ? size >= bound : size <= bound;
    return good || wrong(c, at, word);
}

static bool fits_unique(struct checking *c, struct json_object *value, const char *at) {
    for (size_t i = 0; i < json_object_array_length(value); i++) {
        for (size_t j = 0; j < i; j++) {
            if (json_object_equal(json_object_array_get_idx(value, i), json_object_array_get_idx(value, j))) {
                return wrong(c, at, "has an item twice");
            }
        }
    }
    return true;
}

static bool is_one_of(const char *word, const char *const *words) {
    for (size_t i = 0; words[i] != NULL; i++) {
        if (strcmp(word, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool fits_word(struct checking *c, struct json_object *schema, const char *word, struct json_object *what,
                      struct json_object *value, const char *at) {
    static const char *const notes[] = {"description",          "format", "default", "contentEncoding", "required",
                                        "additionalProperties", "examples", NULL};
    static const char *const bounds[] = {"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", NULL};
    if (strcmp(word, "type") == 0) {
        return fits_type(c, what, value, at);
    }
    if (strcmp(word, "enum") == 0) {
        return fits_enum(c, what, value, at);
    }
    if (strcmp(word, "const") == 0) {
        return json_object_equal(what, value) || wrong(c, at, "is another value");
    }
    if (strcmp(word, "properties") == 0) {
        return !json_object_is_type(value, json_type_object) || fits_object(c, schema, value, at);
    }
    if (strcmp(word, "items") == 0) {
        return !json_object_is_type(value, json_type_array) || fits_array(c, what, value, at);
    }
    if (strcmp(word, "oneOf") == 0) {
        return fits_some(c, what, 1, value, at);
    }
    if (strcmp(word, "anyOf") == 0) {
        return fits_some(c, what, UINT_MAX, value, at);
    }
    if (strcmp(word, "uniqueItems") == 0) {
        return !json_object_is_type(value, json_type_array) || !json_object_get_boolean(what) || fits_unique(c, value, at);
    }
    if (is_one_of(word, bounds)) {
        return fits_bound(c, word, json_object_get_double(what), value, at);
    }
    if (!is_one_of(word, notes)) {
        fail_msg("the description has the word %s, which the tests do not know", word);
    }
    return true;
}

static bool fits(struct checking *c, struct json_object *schema, struct json_object *value, const char *at) {
    schema = resolve(c, schema);
    json_object_object_foreach(schema, word, what) {
        if (!fits_word(c, schema, word, what, value, at)) {
            return false;
        }
    }
    struct json_object *required = NULL;
    if (!json_object_object_get_ex(schema, "properties", NULL) && json_object_object_get_ex(schema, "required", &required) &&
        json_object_is_type(value, json_type_object)) {
        return fits_object(c, schema, value, at); /* an alternative that only asks for members */
    }
    return true;
}

static struct json_object *operation_of(struct json_object *openapi, const char *route) {
    const char *space = strchr(route, ' ');
    char method[16] = "";
    for (size_t i = 0; route + i < space && i + 1 < sizeof method; i++) {
        method[i] = (char)(route[i] + ('a' - 'A'));
    }
    struct json_object *paths = NULL, *path = NULL, *operation = NULL;
    (void)json_object_object_get_ex(openapi, "paths", &paths);
    if (!json_object_object_get_ex(paths, space + 1, &path) || !json_object_object_get_ex(path, method, &operation)) {
        return NULL;
    }
    return operation;
}

/* The schema of the JSON in an object with "content"; NULL: it has none in JSON. */
static struct json_object *schema_of_content(struct json_object *holder, bool *ret_has_content) {
    struct json_object *content = NULL, *media = NULL, *schema = NULL;
    *ret_has_content = json_object_object_get_ex(holder, "content", &content);
    if (*ret_has_content && (json_object_object_get_ex(content, "application/json", &media) ||
                             json_object_object_get_ex(content, "application/problem+json", &media))) {
        (void)json_object_object_get_ex(media, "schema", &schema);
    }
    return schema;
}

bool schema_reply_fits(struct json_object *openapi, const char *route, int status, struct json_object *reply, char why[512]) {
    struct checking c = {openapi, why};
    struct json_object *operation = operation_of(openapi, route), *responses = NULL, *response = NULL;
    char code[8];
    (void)snprintf(code, sizeof code, "%d", status);
    if (operation == NULL) {
        return wrong(&c, route, "is not described");
    }
    if (!json_object_object_get_ex(operation, "responses", &responses) ||
        !json_object_object_get_ex(responses, code, &response)) {
        return wrong(&c, code, "is not described as a status of this route");
    }
    bool has_content = false;
    struct json_object *schema = schema_of_content(resolve(&c, response), &has_content);
    if (reply == NULL) {
        return schema == NULL || wrong(&c, code, "should have a body in JSON");
    }
    return schema != NULL ? fits(&c, schema, reply, "") : wrong(&c, code, "has a body in JSON that is not described");
}

bool schema_request_fits(struct json_object *openapi, const char *route, struct json_object *body, char why[512]) {
    struct checking c = {openapi, why};
    struct json_object *operation = operation_of(openapi, route), *request = NULL;
    if (operation == NULL || !json_object_object_get_ex(operation, "requestBody", &request)) {
        return wrong(&c, route, "takes no body");
    }
    bool has_content = false;
    struct json_object *schema = schema_of_content(request, &has_content);
    return schema != NULL ? fits(&c, schema, body, "") : wrong(&c, route, "has no schema of its body");
}
