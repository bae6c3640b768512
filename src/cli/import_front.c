/*
 * import_front.c - YAML front matter: what stands between two lines "---" at the begin of a Markdown file.
 *
 * A small part of YAML, the one that such files have: "key: value" at the left edge, where a value is a scalar (plain, or in quotes), a list in brackets, or a list of
 * lines "- value" below; also an indented text below "|", which keeps its lines, and below ">", which makes one of them. What is nested deeper is passed over. Where no line
 * is "key:" there is no front matter, but a text between two rules; and where a quotation mark or a bracket is not closed nothing of it is taken, and all stays in the text,
 * so that nothing is lost. title, author (or authors) and tags (or keywords) become members of the document, the rest its metadata. Members that the server or the import
 * itself sets keep their meaning: such keys are passed over. The page reads the same (web/src/front.js).
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

size_t import_front_matter(struct slice text, struct slice *ret_yaml) {
    size_t end = line_end(text, 0);
    if (text.len < 4 || memcmp(text.data, "---", 3) != 0 || !is(trim(slice_of(text.data, end)), "---"))
        return 0;
    size_t begin = end + 1;
    bool keyed = false; /* else it is a text between two rules */
    for (size_t at = begin; at < text.len && at < FRONT_MAX;) {
        size_t stop = line_end(text, at);
        struct slice line = slice_of(text.data + at, stop - at);
        bool left = line.len > 0 && !isspace(line.data[0]);
        if (left && (is(trim(line), "---") || is(trim(line), "..."))) {
            if (!keyed)
                return 0;
            *ret_yaml = slice_of(text.data + begin, at - begin);
            return stop < text.len ? stop + 1 : stop;
        }
        char key[KEY_MAX];
        struct slice rest;
        keyed = keyed || (left && split(trim(line), key, &rest));
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

/* NULL where it is none: control characters other than the ends of lines, or no UTF-8. */
static struct json_object *text_value(struct slice s) {
    bool clean = true;
    s.len = utf8_prefix(s, VALUE_MAX);
    for (size_t at = 0; clean && at <= s.len; at++) {
        size_t stop = line_end(s, at);
        clean = !utf8_has_control(slice_of(s.data + at, stop - at));
        at = stop;
    }
    return clean && utf8_valid(s) ? json_object_new_string_len((const char *)s.data, (int)s.len) : NULL;
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

/* *closed becomes false where a quotation mark is not closed. */
static struct json_object *scalar(struct slice s, bool *closed) {
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
    if (!unquote(s, &text, &rest))
        *closed = false;
    else if (buf_ok(&text))
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

/* "[a, 'b, c']" on one line. *closed becomes false where the bracket, or a quotation mark in it, is not closed. */
static struct json_object *inline_list(struct slice s, bool *closed) {
    struct json_object *list = json_object_new_array();
    size_t begin = 1;
    for (size_t i = 1; i < s.len; i++) {
        uint8_t c = s.data[i];
        struct slice rest, before = trim(slice_of(s.data + begin, i - begin));
        struct buf skipped = {0};
        if ((c == '"' || c == '\'') && before.len == 0) {
            bool whole = unquote(slice_of(s.data + i, s.len - i), &skipped, &rest);
            buf_fini(&skipped);
            if (!whole)
                break;
            i = s.len - rest.len - 1;
        } else if (c == ',' || c == ']') {
            add_to_list(list, scalar(before, closed));
            begin = i + 1;
            if (c == ']')
                return list;
        }
    }
    *closed = false;
    return list;
}

/* A line of the text below "|" or ">". An empty one between two is an end of a line in both. */
static void put_block_line(struct buf *text, struct slice line, size_t indent, size_t *blanks, bool folded) {
    if (line.len == 0) {
        *blanks += text->len > 0 ? 1 : 0;
        return;
    }
    size_t ends = *blanks + (folded ? 0 : 1);
    for (size_t i = 0; text->len > 0 && i < ends; i++)
        buf_put_u8(text, '\n');
    if (text->len > 0 && ends == 0)
        buf_put_u8(text, ' ');
    for (size_t i = 0; !folded && i < indent; i++)
        buf_put_u8(text, ' ');
    buf_put_slice(text, line);
    *blanks = 0;
}

/* The lines of more indent than the key's below "|" or ">". *at is moved behind them. */
static struct json_object *block_text(struct slice yaml, size_t *at, bool folded) {
    struct buf text = {0};
    size_t indent = 0, blanks = 0;
    struct line l;
    for (size_t before = *at; next_line(yaml, at, &l); before = *at) {
        if (l.text.len > 0 && l.indent == 0) {
            *at = before;
            break;
        }
        if (text.len == 0)
            indent = l.indent;
        put_block_line(&text, l.text, l.indent > indent ? l.indent - indent : 0, &blanks, folded);
    }
    struct json_object *value = text.len > 0 && buf_ok(&text) ? text_value(buf_slice(&text)) : NULL;
    buf_fini(&text);
    return value;
}

/* Lines of more indent than the key's, or "- " at the same: what stands below a key without a value. *at is moved behind them. */
static struct json_object *block_list(struct slice yaml, size_t *at, bool *closed) {
    struct json_object *list = json_object_new_array();
    bool first = true, items = false; /* the first line decides whether it is a list, */
    size_t indent = 0;                /* and how deep */
    struct line l;
    for (size_t before = *at; next_line(yaml, at, &l); before = *at) {
        bool item = l.text.len > 0 && l.text.data[0] == '-' && (l.text.len == 1 || l.text.data[1] == ' ');
        if (l.text.len > 0 && l.indent == 0 && !item) {
            *at = before;
            break;
        }
        if (first && l.text.len > 0) {
            first = false;
            items = item;
            indent = l.indent;
        }
        if (items && item && l.indent == indent && l.text.len > 2)
            add_to_list(list, scalar(trim(slice_of(l.text.data + 2, l.text.len - 2)), closed));
    }
    if (json_object_array_length(list) > 0)
        return list;
    json_object_put(list);
    return NULL;
}

/* One string of a scalar or a list. */
static struct json_object *joined(struct json_object *value) {
    struct buf text = {0};
    size_t count = json_object_is_type(value, json_type_array) ? json_object_array_length(value) : 0;
    if (!json_object_is_type(value, json_type_array))
        buf_put_str(&text, json_object_get_string(value));
    for (size_t i = 0; i < count; i++)
        buf_printf(&text, "%s%s", i > 0 ? ", " : "", json_object_get_string(json_object_array_get_idx(value, i)));
    for (size_t i = 0; i < text.len; i++)
        text.data[i] = text.data[i] == '\n' ? ' ' : text.data[i];
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

/* False: a value is not closed; nothing is to be taken then. */
static bool read_yaml(struct slice yaml, struct json_object *document, struct json_object *metadata, char unclosed[KEY_MAX]) {
    struct line l;
    for (size_t at = 0; next_line(yaml, &at, &l);) {
        struct slice rest;
        struct json_object *value = NULL;
        bool closed = true;
        if (l.indent > 0 || !split(l.text, unclosed, &rest))
            continue;
        if (rest.len > 0 && (rest.data[0] == '|' || rest.data[0] == '>'))
            value = block_text(yaml, &at, rest.data[0] == '>');
        else if (rest.len == 0 || rest.data[0] == '#')
            value = block_list(yaml, &at, &closed);
        else if (rest.data[0] == '[')
            value = inline_list(rest, &closed);
        else
            value = scalar(rest, &closed);
        if (!closed) {
            json_object_put(value);
            return false;
        }
        if (value != NULL)
            take(unclosed, value, document, metadata);
    }
    return true;
}

static void add_members(struct json_object *to, struct json_object *from) {
    json_object_object_foreach(from, key, value) {
        json_object_object_add(to, key, json_object_get(value));
    }
}

bool import_front_take(struct slice yaml, struct json_object *document, struct json_object *metadata, struct status *st) {
    char key[KEY_MAX] = "";
    struct json_object *members = json_object_new_object(), *others = json_object_new_object();
    bool whole = read_yaml(yaml, members, others, key);
    if (whole) {
        add_members(document, members);
        add_members(metadata, others);
    } else {
        (void)status_set(st, STATUS_MALFORMED, "its front matter cannot be read whole and stays in the text: the value of '%s' has a quotation mark or a bracket that is not closed", key);
    }
    json_object_put(members);
    json_object_put(others);
    return whole;
}
