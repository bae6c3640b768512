/*
 * filter_read.c - a filter from its JSON to the tree that store evaluates.
 *
 *   condition = {"field": path, "operator": one of operators[], "value": what the operator compares with}
 *   filter    = condition, {"and": [filter...]}, {"or": [filter...]} or {"not": filter}; {} alone: no filter
 *
 * A client decides how deep and wide it is, so both are bounded here, before anything is evaluated: LIMIT_FILTER_DEPTH levels, LIMIT_FILTER_NODES conditions
 * and connectives, LIMIT_FILTER_VALUES values in all lists together. The tree lives in the request's pool, its texts in the parsed body.
 */
#include "api/search.h"

#include "store/fields.h"

#include <stdio.h>

static const char *const operators[] = {"eq", "ne", "gt", "lt", "gte", "lte", "in", "contains", NULL}; /* as the enum, from 1 */

struct filter_reading {
    struct exchange *x;
    uint32_t nodes;
    uint32_t values;
    bool full; /* the problem of having too many of either was said */
    struct status *st;
};

/* --- values --- */

/* Whether an operator can compare with a value of this type. */
static bool comparable(enum filter_operator op, enum filter_value_type type) {
    switch (op) {
    case OPERATOR_EQ:
    case OPERATOR_NE:
        return true;
    case OPERATOR_GT:
    case OPERATOR_LT:
    case OPERATOR_GTE:
    case OPERATOR_LTE:
        return type == FILTER_NUMBER || type == FILTER_TEXT;
    case OPERATOR_IN:
        return type != FILTER_NULL;
    case OPERATOR_CONTAINS:
        break;
    }
    return type == FILTER_TEXT;
}

static const char *comparable_words(enum filter_operator op) {
    switch (op) {
    case OPERATOR_EQ:
    case OPERATOR_NE:
        return "must be a string, a number, true, false or null";
    case OPERATOR_IN:
        return "must be a string, a number, true or false";
    case OPERATOR_CONTAINS:
        return "must be a string: contains looks for a part of a text or a member of a list";
    case OPERATOR_GT:
    case OPERATOR_LT:
    case OPERATOR_GTE:
    case OPERATOR_LTE:
        break;
    }
    return "must be a number or a string (a time as RFC 3339)";
}

static void read_value(struct filter_reading *r, const struct place *at, struct json_object *v, enum filter_operator op,
                       struct filter_value *ret) {
    bool known = true;
    switch (json_object_get_type(v)) {
    case json_type_null:
        *ret = (struct filter_value){.type = FILTER_NULL};
        break;
    case json_type_boolean:
        *ret = (struct filter_value){.type = FILTER_BOOL, .boolean = json_object_get_boolean(v) != 0};
        break;
    case json_type_int:
    case json_type_double:
        *ret = (struct filter_value){.type = FILTER_NUMBER, .number = json_object_get_double(v)};
        break;
    case json_type_string:
        *ret = (struct filter_value){.type = FILTER_TEXT};
        if (!json_in_text(r->x, at, v, 0, LIMIT_FILTER_TEXT_BYTES, &ret->text)) {
            return;
        }
        break;
    case json_type_object:
    case json_type_array:
        known = false;
        break;
    }
    if (!known || !comparable(op, ret->type)) {
        problem_add(r->x, at, "%s", comparable_words(op));
    }
}

static bool too_many(struct filter_reading *r, const struct place *at, const char *what, uint32_t most) {
    if (!r->full) {
        problem_add(r->x, at, "is where the filter has more than %u %s, which is the most that is taken", most, what);
    }
    r->full = true;
    return true;
}

/* --- conditions --- */

/* The values of a condition, in the pool. False: no memory. */
static bool read_values(struct filter_reading *r, const struct place *at, struct json_object *v, struct filter *leaf) {
    size_t count = 1;
    if (leaf->op == OPERATOR_IN && !json_object_is_type(v, json_type_array)) {
        problem_add(r->x, at, "must be an array of the values that are looked for");
        return true;
    }
    if (leaf->op == OPERATOR_IN) {
        count = json_object_array_length(v);
    }
    if (count > LIMIT_FILTER_VALUES - r->values) {
        return too_many(r, at, "values", LIMIT_FILTER_VALUES);
    }
    r->values += (uint32_t)count;
    struct filter_value *values = (struct filter_value *)pool_take_array(&r->x->pool, count, sizeof *values);
    if (values == NULL) {
        return status_no_memory(r->st);
    }
    for (size_t i = 0; leaf->op == OPERATOR_IN && i < count; i++) {
        struct place element = place_element(at, i);
        read_value(r, &element, json_object_array_get_idx(v, i), leaf->op, &values[i]);
    }
    if (leaf->op != OPERATOR_IN) {
        read_value(r, at, v, leaf->op, &values[0]);
    }
    leaf->values = values;
    leaf->value_count = (uint32_t)count;
    return true;
}

static bool read_condition(struct filter_reading *r, const struct place *at, struct json_object *v, struct filter *leaf) {
    static const char *const not_null[] = {"field", "operator", NULL};
    struct json_object *field = NULL, *op = NULL, *value = NULL;
    const struct member members[] = {{"field", &field}, {"operator", &op}, {"value", &value}};
    unsigned which = 0;
    leaf->kind = FILTER_LEAF;
    if (!json_in_members(r->x, at, v, members, sizeof members / sizeof members[0])) {
        return true;
    }
    json_in_no_nulls(r->x, at, v, not_null);
    struct place field_at = place_member(at, "field");
    struct place op_at = place_member(at, "operator");
    struct place value_at = place_member(at, "value");
    if (!json_object_object_get_ex(v, "field", NULL)) {
        problem_add(r->x, &field_at, "is required: a condition is {field, operator, value}, or one of and, or, not");
    }
    (void)json_in_text(r->x, &field_at, field, 1, FIELD_PATH_BYTES_MAX, &leaf->path);
    if (!json_object_object_get_ex(v, "operator", NULL)) {
        problem_add(r->x, &op_at, "is required");
    }
    bool known = json_in_choice(r->x, &op_at, op, operators, &which);
    if (!json_object_object_get_ex(v, "value", NULL)) { /* null is a value here */
        problem_add(r->x, &value_at, "is required");
        return true;
    }
    leaf->op = (enum filter_operator)(which + OPERATOR_EQ);
    return !known || read_values(r, &value_at, value, leaf);
}

/* --- the tree --- */

static bool read_node(struct filter_reading *r, const struct place *at, struct json_object *v, unsigned depth,
                      const struct filter **ret);

static bool read_children(struct filter_reading *r, const struct place *at, struct json_object *list, unsigned depth,
                          struct filter *node) {
    size_t count = 0;
    if (list == NULL) {
        problem_add(r->x, at, "must be an array of filters");
        return true;
    }
    if (!json_in_array(r->x, at, list, 0, SIZE_MAX, &count)) {
        return true;
    }
    if (count > LIMIT_FILTER_NODES - r->nodes) {
        return too_many(r, at, "conditions", LIMIT_FILTER_NODES);
    }
    const struct filter **children = (const struct filter **)pool_take_array(&r->x->pool, count, sizeof *children);
    if (children == NULL) {
        return status_no_memory(r->st);
    }
    for (size_t i = 0; i < count; i++) {
        struct place element = place_element(at, i);
        if (!read_node(r, &element, json_object_array_get_idx(list, i), depth, &children[i])) {
            return false;
        }
    }
    node->children = children;
    node->count = (uint32_t)count;
    return true;
}

/* {"and": [...]}, {"or": [...]}, {"not": {...}}. */
static bool read_connective(struct filter_reading *r, const struct place *at, struct json_object *v, const char *name,
                            unsigned depth, struct filter *node) {
    struct json_object *inner = NULL;
    const struct member members[] = {{name, &inner}};
    struct place inner_at = place_member(at, name);
    (void)json_in_members(r->x, at, v, members, 1);
    if (node->kind != FILTER_NOT) {
        return read_children(r, &inner_at, inner, depth, node);
    }
    const struct filter **child = (const struct filter **)pool_take_array(&r->x->pool, 1, sizeof *child);
    if (child == NULL) {
        return status_no_memory(r->st);
    }
    node->children = child;
    node->count = 1;
    return read_node(r, &inner_at, inner, depth, &child[0]);
}

/* What is wrong is a problem, and *ret then of no use; the request is refused before anything looks at it. */
static bool read_node(struct filter_reading *r, const struct place *at, struct json_object *v, unsigned depth,
                      const struct filter **ret) {
    static const struct {
        const char *name;
        enum filter_kind kind;
    } connectives[] = {{"and", FILTER_AND}, {"or", FILTER_OR}, {"not", FILTER_NOT}};
    if (!json_object_is_type(v, json_type_object)) {
        problem_add(r->x, at, "must be an object: {field, operator, value}, or one of and, or, not");
        return true;
    }
    if (depth == LIMIT_FILTER_DEPTH) {
        problem_add(r->x, at, "lies deeper than %d levels", LIMIT_FILTER_DEPTH);
        return true;
    }
    if (r->nodes++ == LIMIT_FILTER_NODES) {
        return too_many(r, at, "conditions", LIMIT_FILTER_NODES);
    }
    struct filter *node = (struct filter *)pool_take_array(&r->x->pool, 1, sizeof *node);
    if (node == NULL) {
        return status_no_memory(r->st);
    }
    *ret = node;
    for (size_t i = 0; i < sizeof connectives / sizeof connectives[0]; i++) {
        if (json_object_object_get_ex(v, connectives[i].name, NULL)) {
            node->kind = connectives[i].kind;
            return read_connective(r, at, v, connectives[i].name, depth + 1, node);
        }
    }
    return read_condition(r, at, v, node);
}

bool filter_read(struct exchange *x, const struct place *at, struct json_object *v, const struct filter **ret,
                 struct status *st) {
    struct filter_reading r = {.x = x, .st = st};
    *ret = NULL;
    if (v == NULL || (json_object_is_type(v, json_type_object) && json_object_object_length(v) == 0)) {
        return true;
    }
    return read_node(&r, at, v, 0, ret);
}

bool filter_read_list(struct exchange *x, const struct place *at, struct json_object *v, const struct filter **ret,
                      struct status *st) {
    struct filter_reading r = {.x = x, .st = st};
    size_t count = 0;
    *ret = NULL;
    if (!json_in_array(x, at, v, 0, LIMIT_FILTER_NODES - 1, &count) || count == 0) {
        return true;
    }
    struct filter *all = (struct filter *)pool_take_array(&x->pool, 1, sizeof *all);
    const struct filter **children = (const struct filter **)pool_take_array(&x->pool, count, sizeof *children);
    if (all == NULL || children == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < count; i++) {
        struct place element = place_element(at, i);
        struct json_object *condition = json_object_array_get_idx(v, i);
        struct filter *leaf = (struct filter *)pool_take_array(&x->pool, 1, sizeof *leaf);
        if (leaf == NULL) {
            return status_no_memory(st);
        }
        if (!read_condition(&r, &element, condition, leaf)) {
            return false;
        }
        children[i] = leaf;
    }
    *all = (struct filter){.kind = FILTER_AND, .children = children, .count = (uint32_t)count};
    *ret = all;
    return true;
}
