/*
 * filter_record.c - what a leaf means, said of one chunk and its record.
 *
 * This is the definition that columns are held to. A field of a chunk is a view: strings (one, or those of an array), perhaps a time, perhaps a number, perhaps a
 * boolean; none of them: it is absent. A leaf is asked of each of its values and the view:
 *
 *            eq, in                     gt lt gte lte                                    contains
 *   null     absent                     false                                            false
 *   boolean  the same                   false                                            false
 *   number   the same                   by size                                          false
 *   text     one of the strings; or     both times: by time; else any of the strings,    a string: has it in it;
 *            both times, and the same   byte by byte                                     an array: has it as a member
 *
 * Documents are decoded once for all chunks of theirs in a row.
 */
#include "store/filter_internal.h"

#include <stdlib.h>

struct record_reader {
    const struct reading *rd;
    struct field_reader *fields;
    uint32_t row; /* of the document that is decoded; ROW_NONE */
    bool fields_begun;
    struct stored_document document;
    char id_text[ITEM_ID_TEXT_MAX + 1];
    struct slice single; /* the string of a view that has one */
};

struct field_view {
    const struct slice *strings;
    uint32_t count;
    bool array;
    bool has_time;
    int64_t time_us;
    bool has_number;
    double number;
    bool has_boolean;
    bool boolean;
};

struct record_reader *record_reader_new(void) {
    struct record_reader *r = (struct record_reader *)calloc(1, sizeof *r);
    if (r == NULL) {
        return NULL;
    }
    r->fields = field_reader_new();
    if (r->fields == NULL) {
        free(r);
        return NULL;
    }
    field_reader_keep_all(r->fields);
    return r;
}

void record_reader_free(struct record_reader *r) {
    if (r != NULL) {
        field_reader_free(r->fields);
        free(r);
    }
}

void record_reader_begin(struct record_reader *r, const struct reading *rd) {
    r->rd = rd;
    r->row = ROW_NONE;
}

struct leaf leaf_of(const struct filter *f) {
    static const char prefix[] = "metadata.";
    size_t len = sizeof prefix - 1;
    struct slice path = f->path;
    if (path.len > len && memcmp(path.data, prefix, len) == 0) {
        path = slice_of(path.data + len, path.len - len);
    }
    return (struct leaf){.path = path,
                         .op = f->op == OPERATOR_NE ? OPERATOR_EQ : f->op,
                         .negated = f->op == OPERATOR_NE,
                         .values = f->values,
                         .value_count = f->value_count};
}

/* --- fields --- */

static void view_of_text(struct record_reader *r, struct slice text, struct field_view *ret) {
    r->single = text;
    *ret = (struct field_view){.strings = &r->single, .count = text.len > 0 ? 1 : 0};
    ret->has_time = field_time_parse(text, &ret->time_us);
}

static void view_of_id(struct record_reader *r, struct slice encoded, struct field_view *ret) {
    r->single = slice_of(r->id_text, item_id_text(encoded, r->id_text));
    *ret = (struct field_view){.strings = &r->single, .count = 1}; /* an id is never a time */
}

static void view_of_values(const struct field_values *values, struct slice path, struct field_view *ret) {
    *ret = (struct field_view){0};
    for (uint32_t i = 0; i < values->count; i++) {
        const struct field_value *v = &values->items[i];
        if (!slice_equal(v->path, path)) {
            continue;
        }
        switch (v->type) {
        case COLUMN_KEYWORD:
            ret->strings = v->as.keywords.items;
            ret->count = v->as.keywords.count;
            ret->array = v->as.keywords.array;
            break;
        case COLUMN_NUMBER:
            ret->has_number = true;
            ret->number = v->as.number;
            break;
        case COLUMN_TIME:
            ret->has_time = true;
            ret->time_us = v->as.time_us;
            break;
        case COLUMN_BOOL:
            ret->has_boolean = true;
            ret->boolean = v->as.boolean;
            break;
        }
    }
}

static bool read_document(struct record_reader *r, uint32_t row, struct status *st) {
    if (r->row == row) {
        return true;
    }
    r->row = ROW_NONE;
    r->fields_begun = false;
    if (!reading_document(r->rd, row, &r->document, st)) {
        return false;
    }
    r->row = row;
    return true;
}

static bool view_of_fields(struct record_reader *r, const struct stored_chunk *c, struct slice path, struct field_view *ret,
                           struct status *st) {
    struct field_values values;
    if (!r->fields_begun && !fields_of_document(r->fields, &r->document.fields, st)) {
        return false;
    }
    r->fields_begun = true;
    if (!fields_of_chunk(r->fields, &c->fields, c->index, &values, st)) {
        return false;
    }
    view_of_values(&values, path, ret);
    return true;
}

static bool read_field(struct record_reader *r, uint32_t slot, struct slice path, struct field_view *ret, struct status *st) {
    struct stored_chunk c;
    if (!reading_chunk(r->rd, slot, &c, st) || !read_document(r, c.document, st)) {
        return false;
    }
    if (slice_is(path, "text")) {
        view_of_text(r, c.fields.text, ret);
    } else if (slice_is(path, "chunk_id")) {
        view_of_id(r, c.fields.id, ret);
    } else if (slice_is(path, "id")) {
        view_of_id(r, r->document.fields.id, ret);
    } else if (slice_is(path, "title")) {
        view_of_text(r, r->document.fields.title, ret);
    } else {
        return view_of_fields(r, &c, path, ret, st);
    }
    return true;
}

/* --- meaning --- */

bool order_matches(enum filter_operator op, int order) {
    switch (op) {
    case OPERATOR_GT:
        return order > 0;
    case OPERATOR_LT:
        return order < 0;
    case OPERATOR_GTE:
        return order >= 0;
    case OPERATOR_LTE:
        return order <= 0;
    default:
        return order == 0;
    }
}

bool text_contains(struct slice text, struct slice part) {
    return part.len == 0 || (text.len >= part.len && memmem(text.data, text.len, part.data, part.len) != NULL);
}

static bool string_matches(enum filter_operator op, bool array, struct slice string, struct slice value) {
    if (op == OPERATOR_CONTAINS) {
        return array ? slice_equal(string, value) : text_contains(string, value);
    }
    if (op == OPERATOR_EQ || op == OPERATOR_IN) {
        return slice_equal(string, value);
    }
    return order_matches(op, slice_compare(string, value));
}

static bool text_matches(enum filter_operator op, const struct field_view *v, struct slice value) {
    int64_t time_us = 0;
    if (op != OPERATOR_CONTAINS && v->has_time && field_time_parse(value, &time_us)) {
        return order_matches(op, (v->time_us > time_us) - (v->time_us < time_us));
    }
    for (uint32_t i = 0; i < v->count; i++) {
        if (string_matches(op, v->array, v->strings[i], value)) {
            return true;
        }
    }
    return false;
}

static bool value_matches(enum filter_operator op, const struct field_view *v, const struct filter_value *value) {
    bool same = op == OPERATOR_EQ || op == OPERATOR_IN;
    switch (value->type) {
    case FILTER_NULL:
        return same && v->count == 0 && !v->has_time && !v->has_number && !v->has_boolean;
    case FILTER_BOOL:
        return same && v->has_boolean && v->boolean == value->boolean;
    case FILTER_NUMBER:
        return op != OPERATOR_CONTAINS && v->has_number &&
               order_matches(op, (v->number > value->number) - (v->number < value->number));
    case FILTER_TEXT:
        return text_matches(op, v, value->text);
    }
    return false;
}

bool record_matches(struct record_reader *r, const struct leaf *l, uint32_t slot, bool *ret, struct status *st) {
    struct field_view v;
    if (!read_field(r, slot, l->path, &v, st)) {
        return false;
    }
    *ret = false;
    for (uint32_t i = 0; i < l->value_count && !*ret; i++) {
        *ret = value_matches(l->op, &v, &l->values[i]);
    }
    return true;
}
