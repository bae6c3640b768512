/*
 * import_front.c - YAML front matter: what stands between two lines "---" at the begin of a Markdown file.
 *
 * A small part of YAML, the one that such files have: "key: value" at the left edge, where a value is a scalar (plain, or in quotes), a list in brackets, or a list of
 * lines "- value" below; also "|" and ">" with an indented text. What is nested deeper is passed over; it is never an error. title, author (or authors) and tags (or
 * keywords) become members of the document, the rest its metadata. Members that the server or the import itself sets keep their meaning: such keys are passed over.
 */
#include "cli/import_file.h"

#include "base/utf8.h"

#include <ctype.h>
#include <json-c/json.h>
#include <stdlib.h>

enum { FRONT_MAX = 64 * 1024, KEY_MAX = 64, VALUE_MAX = 4096, LIST_MAX = 100, NUMBER_DIGITS = 15 };

struct line {
    struct slice text; /* without its end */
    size_t indent;
};

static size_t line_end(struct slice text, size_t at) {
    while (at < text.len && text.data[at] != '\n')
        at++;
    return at;
}

static struct slice trim(struct slice s) {
    while (s.len > 0 && isspace(s.data[0]))
        s = slice_of(s.data + 1, s.len - 1);
    while (s.len > 0 && isspace(s.data[s.len - 1]))
        s.len--;
    return s;
}

static bool is(struct slice s, const char *word) {
    return s.len == strlen(word) && memcmp(s.data, word, s.len) == 0;
}

size_t import_front_matter(struct slice text, struct slice *ret_yaml) {
    size_t end = line_end(text, 0);
    if (text.len < 4 || memcmp(text.data, "---", 3) != 0 || !is(trim(slice_of(text.data, end)), "---"))
        return 0;
    size_t begin = end + 1;
    for (size_t at = begin; at < text.len && at < FRONT_MAX;) {
        size_t stop = line_end(text, at);
        struct slice line = slice_of(text.data + at, stop - at);
        bool left = line.len > 0 && !isspace(line.data[0]);
        if (left && (is(trim(line), "---") || is(trim(line), "..."))) {
            *ret_yaml = slice_of(text.data + begin, at - begin);
            return stop < text.len ? stop + 1 : stop;
        }
        at = stop + 1;
    }
    return 0;
}

static bool next_line(struct slice yaml, size_t *at, struct line *ret) {
    if (*at >= yaml.len)
        return false;
    size_t stop = line_end(yaml, *at), indent = 0;
    struct slice s = slice_of(yaml.data + *at, stop - *at);
    while (indent < s.len && (s.data[indent] == ' ' || s.data[indent] == '\t'))
        indent++;
    ret->indent = indent;
    ret->text = trim(s);
    *at = stop + 1;
    return true;
}

/* A comment begins with # at the begin or behind a blank. */
static struct slice without_comment(struct slice s) {
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] == '#' && (i == 0 || s.data[i - 1] == ' ' || s.data[i - 1] == '\t'))
            return trim(slice_of(s.data, i));
    }
    return s;
}

/* The text in quotes; false: the closing one is missing. *ret_rest: behind it. */
static bool unquote(struct slice s, struct buf *out, struct slice *ret_rest) {
    uint8_t quote = s.data[0];
    for (size_t i = 1; i < s.len; i++) {
        uint8_t c = s.data[i], next = i + 1 < s.len ? s.data[i + 1] : 0;
        if (quote == '\'' && c == '\'' && next == '\'') {
            buf_put_u8(out, '\'');
            i++;
        } else if (c == quote) {
            *ret_rest = slice_of(s.data + i + 1, s.len - i - 1);
            return true;
        } else if (quote == '"' && c == '\\' && next != 0) {
            buf_put_u8(out, next == 'n' || next == 't' ? ' ' : next);
            i++;
        } else {
            buf_put_u8(out, c);
        }
    }
    return false;
}

static struct json_object *text_value(struct slice s) {
    s.len = utf8_prefix(s, VALUE_MAX);
    return utf8_valid(s) && !utf8_has_control(s) ? json_object_new_string_len((const char *)s.data, (int)s.len) : NULL;
}

/* Numbers and truth as such, unless they would not come back as they were written (007, 1e9999, a long row of digits). */
static struct json_object *plain_value(struct slice s) {
    char number[NUMBER_DIGITS + 1], *end;
    if (is(s, "true") || is(s, "false"))
        return json_object_new_boolean(s.data[0] == 't');
    if (s.len == 0 || is(s, "null") || is(s, "~"))
        return NULL;
    bool leading_zero = s.len > 1 && s.data[0] == '0' && s.data[1] != '.';
    if (s.len <= NUMBER_DIGITS && !leading_zero && strspn((const char *)s.data, "-0123456789.") >= s.len && isdigit(s.data[s.len - 1])) {
        memcpy(number, s.data, s.len);
        number[s.len] = '\0';
        if (memchr(number, '.', s.len) == NULL) {
            long long whole = strtoll(number, &end, 10);
            if (*end == '\0')
                return json_object_new_int64(whole);
        }
        double real = strtod(number, &end);
        if (*end == '\0')
            return json_object_new_double_s(real, number);
    }
    return text_value(s);
}

static struct json_object *scalar(struct slice s) {
    struct buf text = {0};
    struct slice rest;
    struct json_object *value = NULL;
    if (s.len == 0)
        return NULL;
    if (s.data[0] != '"' && s.data[0] != '\'') {
        s = without_comment(s);
        bool nested = s.len > 0 && (s.data[0] == '{' || s.data[0] == '&' || s.data[0] == '*' || s.data[0] == '!');
        return nested ? NULL : plain_value(s);
    }
    if (unquote(s, &text, &rest) && buf_ok(&text))
        value = text_value(buf_slice(&text));
    buf_fini(&text);
    return value;
}

static void add_to_list(struct json_object *list, struct json_object *value) {
    if (value != NULL && json_object_array_length(list) < LIST_MAX)
        json_object_array_add(list, value);
    else
        json_object_put(value);
}

/* "[a, 'b, c']" on one line. */
static struct json_object *inline_list(struct slice s) {
    struct json_object *list = json_object_new_array();
    size_t begin = 1;
    uint8_t quote = 0;
    for (size_t i = 1; i < s.len; i++) {
        uint8_t c = s.data[i];
        if (quote != 0 ? c == quote : (c == '"' || c == '\'')) {
            quote = quote != 0 ? 0 : c;
        } else if (quote == 0 && (c == ',' || c == ']')) {
            add_to_list(list, scalar(trim(slice_of(s.data + begin, i - begin))));
            begin = i + 1;
            if (c == ']')
                break;
        }
    }
    return list;
}

/* Lines of more indent than the key's, or "- " at the same: what stands below a key without a value. *at is moved behind them. */
static struct json_object *block_below(struct slice yaml, size_t *at, bool literal) {
    struct json_object *list = json_object_new_array();
    struct buf text = {0};
    bool first = true, items = false; /* the first line decides whether it is a list, */
    size_t indent = 0;                /* and how deep */
    for (;;) {
        size_t before = *at;
        struct line l;
        if (!next_line(yaml, at, &l))
            break;
        bool item = l.text.len > 0 && l.text.data[0] == '-' && (l.text.len == 1 || l.text.data[1] == ' ');
        if (l.text.len > 0 && l.indent == 0 && (literal || !item)) {
            *at = before;
            break;
        }
        if (first && l.text.len > 0) {
            first = false;
            items = item;
            indent = l.indent;
        }
        if (literal && l.text.len > 0)
            buf_printf(&text, "%s%.*s", text.len > 0 ? " " : "", (int)l.text.len, (const char *)l.text.data);
        else if (!literal && items && item && l.indent == indent && l.text.len > 2)
            add_to_list(list, scalar(trim(slice_of(l.text.data + 2, l.text.len - 2))));
    }
    struct json_object *value = list;
    if (literal) {
        json_object_put(list);
        value = text.len > 0 && buf_ok(&text) ? text_value(buf_slice(&text)) : NULL;
    } else if (json_object_array_length(list) == 0) {
        json_object_put(list);
        value = NULL;
    }
    buf_fini(&text);
    return value;
}

/* One string of a scalar or a list. */
static struct json_object *joined(struct json_object *value) {
    struct buf text = {0};
    size_t count = json_object_is_type(value, json_type_array) ? json_object_array_length(value) : 0;
    if (!json_object_is_type(value, json_type_array))
        buf_put_str(&text, json_object_get_string(value));
    for (size_t i = 0; i < count; i++)
        buf_printf(&text, "%s%s", i > 0 ? ", " : "", json_object_get_string(json_object_array_get_idx(value, i)));
    struct json_object *one = text.len > 0 && buf_ok(&text) ? text_value(buf_slice(&text)) : NULL;
    buf_fini(&text);
    return one;
}

/* A list of strings of a list, or of "a, b". */
static struct json_object *tags_of(struct json_object *value) {
    struct json_object *list = json_object_new_array();
    if (json_object_is_type(value, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(value); i++)
            json_object_array_add(list, json_object_new_string(json_object_get_string(json_object_array_get_idx(value, i))));
        return list;
    }
    const char *text = json_object_get_string(value);
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        struct slice tag = trim(slice_of(text, len));
        if (tag.len > 0)
            json_object_array_add(list, json_object_new_string_len((const char *)tag.data, (int)tag.len));
        text += len + (text[len] == ',' ? 1 : 0);
    }
    return list;
}

static bool set_member(struct json_object *object, const char *key, struct json_object *value) {
    if (value == NULL || (json_object_is_type(value, json_type_array) && json_object_array_length(value) == 0)) {
        json_object_put(value);
        return false;
    }
    json_object_object_add(object, key, value);
    return true;
}

/* Takes value. */
static void take(const char *key, struct json_object *value, struct json_object *document, struct json_object *metadata) {
    static const char *const kept[] = {"id", "created_at", "document_type", "source_url", "path", "content_sha256", "format", "section", "start", "end", "page_number", "chunk_index"};
    if (strcasecmp(key, "title") == 0) {
        (void)set_member(document, "title", joined(value));
    } else if (strcasecmp(key, "author") == 0 || strcasecmp(key, "authors") == 0) {
        (void)set_member(document, "author", joined(value));
    } else if (strcasecmp(key, "tags") == 0 || strcasecmp(key, "keywords") == 0) {
        (void)set_member(document, "tags", tags_of(value));
    } else {
        bool ours = false;
        for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
            ours = ours || strcasecmp(key, kept[i]) == 0;
        if (!ours)
            (void)set_member(metadata, key, json_object_get(value));
    }
    json_object_put(value);
}

/* "key: rest" at the left edge. */
static bool split(struct slice line, char key[KEY_MAX], struct slice *ret_rest) {
    size_t n = 0;
    while (n < line.len && (isalnum(line.data[n]) || line.data[n] == '_' || line.data[n] == '-'))
        n++;
    if (n == 0 || n >= KEY_MAX || n == line.len || line.data[n] != ':' || (n + 1 < line.len && line.data[n + 1] != ' ' && line.data[n + 1] != '\t'))
        return false;
    memcpy(key, line.data, n);
    key[n] = '\0';
    *ret_rest = trim(slice_of(line.data + n + 1, line.len - n - 1));
    return true;
}

void import_front_take(struct slice yaml, struct json_object *document, struct json_object *metadata) {
    struct line l;
    for (size_t at = 0; next_line(yaml, &at, &l);) {
        char key[KEY_MAX];
        struct slice rest;
        struct json_object *value = NULL;
        if (l.indent > 0 || !split(l.text, key, &rest))
            continue;
        bool literal = rest.len > 0 && (rest.data[0] == '|' || rest.data[0] == '>');
        if (rest.len == 0 || rest.data[0] == '#' || literal)
            value = block_below(yaml, &at, literal);
        else if (rest.data[0] == '[')
            value = inline_list(rest);
        else
            value = scalar(rest);
        if (value != NULL)
            take(key, value, document, metadata);
    }
}
