/* markdown.c - see markdown.h. */
#include "embed/markdown.h"

#include "base/utf8.h"

#include <strings.h>

#define TAB_WIDTH 4
#define HEADING_RANKS 6
#define FENCE_LEAST 3
#define RULE_LEAST 3
#define ITEM_DIGITS 9
#define MARKS_SHARE 8 /* of a title that much of its longest form is looked at */

static bool is_blank(uint8_t c) {
    return c == ' ' || c == '\t';
}

struct text_line text_line_at(struct slice text, size_t at) {
    const uint8_t *newline = (const uint8_t *)memchr(text.data + at, '\n', text.len - at);
    struct text_line l = {.begin = at, .content = at, .next = newline == NULL ? text.len : (size_t)(newline - text.data) + 1};
    l.end = newline == NULL ? text.len : l.next - 1;
    while (l.end > at && text.data[l.end - 1] == '\r') {
        l.end--;
    }
    for (; l.content < l.end && is_blank(text.data[l.content]); l.content++) {
        l.indent += text.data[l.content] == '\t' ? TAB_WIDTH - l.indent % TAB_WIDTH : 1;
    }
    return l;
}

/* How often `mark` stands at `at`. */
static size_t run_of(struct slice text, size_t at, size_t end, uint8_t mark) {
    size_t begin = at;
    while (at < end && text.data[at] == mark) {
        at++;
    }
    return at - begin;
}

static size_t skip_blanks(struct slice text, size_t at, size_t end) {
    while (at < end && is_blank(text.data[at])) {
        at++;
    }
    return at;
}

static struct slice trimmed(struct slice s) {
    while (s.len > 0 && is_blank(s.data[0])) {
        s = slice_of(s.data + 1, s.len - 1);
    }
    while (s.len > 0 && is_blank(s.data[s.len - 1])) {
        s.len--;
    }
    return s;
}

unsigned markdown_heading(struct slice text, const struct text_line *l, struct slice *ret_title) {
    size_t rank = run_of(text, l->content, l->end, '#');
    size_t at = l->content + rank;
    if (rank < 1 || rank > HEADING_RANKS || (at < l->end && !is_blank(text.data[at]))) {
        return 0;
    }
    struct slice title = trimmed(slice_of(text.data + at, l->end - at));
    size_t open = title.len;
    while (open > 0 && title.data[open - 1] == '#') {
        open--;
    }
    if (open == 0 || is_blank(title.data[open - 1])) {
        title.len = open;
    }
    *ret_title = trimmed(title);
    return (unsigned)rank;
}

unsigned markdown_underline(struct slice text, const struct text_line *l) {
    uint8_t mark = text_line_blank(l) ? 0 : text.data[l->content];
    if (l->indent >= TAB_WIDTH || (mark != '=' && mark != '-')) {
        return 0;
    }
    size_t at = l->content + run_of(text, l->content, l->end, mark);
    if (skip_blanks(text, at, l->end) < l->end) {
        return 0;
    }
    return mark == '=' ? 1 : 2;
}

bool markdown_rule(struct slice text, const struct text_line *l) {
    uint8_t mark = text_line_blank(l) ? 0 : text.data[l->content];
    size_t marks = 0;
    if (mark != '*' && mark != '-' && mark != '_') {
        return false;
    }
    for (size_t at = l->content; at < l->end; at++) {
        if (text.data[at] != mark && !is_blank(text.data[at])) {
            return false;
        }
        marks += text.data[at] == mark;
    }
    return marks >= RULE_LEAST;
}

size_t markdown_fence(struct slice text, const struct text_line *l) {
    uint8_t mark = text_line_blank(l) ? 0 : text.data[l->content];
    if (mark != '`' && mark != '~') {
        return 0;
    }
    size_t marks = run_of(text, l->content, l->end, mark);
    size_t at = l->content + marks;
    bool code_span = mark == '`' && memchr(text.data + at, '`', l->end - at) != NULL;
    return marks >= FENCE_LEAST && !code_span ? marks : 0;
}

bool markdown_fence_closes(struct slice text, const struct text_line *l, uint8_t mark, size_t marks) {
    size_t run = run_of(text, l->content, l->end, mark);
    return run >= marks && skip_blanks(text, l->content + run, l->end) == l->end;
}

size_t markdown_item(struct slice text, const struct text_line *l, bool *ret_weak) {
    size_t at = l->content;
    if (text_line_blank(l)) {
        return 0;
    }
    bool bullet = text.data[at] == '-' || text.data[at] == '+' || text.data[at] == '*';
    bool first = bullet;
    if (bullet) {
        at++;
    } else {
        while (at < l->end && at - l->content < ITEM_DIGITS && text.data[at] >= '0' && text.data[at] <= '9') {
            at++;
        }
        if (at == l->content || at == l->end || (text.data[at] != '.' && text.data[at] != ')')) {
            return 0;
        }
        first = at == l->content + 1 && text.data[l->content] == '1';
        at++;
    }
    if (at < l->end && !is_blank(text.data[at])) {
        return 0;
    }
    *ret_weak = !first || skip_blanks(text, at, l->end) == l->end;
    return at + 1 - l->content;
}

bool markdown_table_rule(struct slice text, const struct text_line *l) {
    bool bar = false;
    bool dash = false;
    for (size_t at = l->content; at < l->end; at++) {
        uint8_t c = text.data[at];
        bar = bar || c == '|';
        dash = dash || c == '-';
        if (c != '|' && c != '-' && c != ':' && !is_blank(c)) {
            return false;
        }
    }
    return bar && dash;
}

static bool begins_with(struct slice s, const char *word) {
    size_t len = strlen(word);
    return s.len >= len && strncasecmp((const char *)s.data, word, len) == 0;
}

const char *markdown_html(struct slice text, const struct text_line *l) {
    static const char *const kept[][2] = {{"<!--", "-->"},         {"<pre", "</pre>"},           {"<script", "</script>"},
                                          {"<style", "</style>"}, {"<textarea", "</textarea>"}, {"<?", "?>"}};
    struct slice line = slice_of(text.data + l->content, l->end - l->content);
    if (line.len < 2 || line.data[0] != '<') {
        return NULL;
    }
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        if (begins_with(line, kept[i][0])) {
            return kept[i][1];
        }
    }
    size_t at = line.data[1] == '/' ? 2 : 1;
    size_t name = at;
    while (at < line.len && ((line.data[at] | 0x20) >= 'a') && ((line.data[at] | 0x20) <= 'z')) {
        at++;
    }
    bool named = at > name && (at == line.len || is_blank(line.data[at]) || line.data[at] == '>' || line.data[at] == '/' ||
                               (line.data[at] >= '0' && line.data[at] <= '9'));
    return named && trimmed(line).data[trimmed(line).len - 1] == '>' ? "" : NULL;
}

bool markdown_front_matter(struct slice text, const struct text_line *l, uint8_t mark) {
    return l->indent == 0 && run_of(text, l->begin, l->end, mark) == 3 && skip_blanks(text, l->begin + 3, l->end) == l->end;
}

/* --- titles --------------------------------------------------------------------------------------------------------- */

static bool is_punctuation(uint8_t c) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
}

/* Behind what stands at `at` and is no word of a title: a link's address, a picture's mark, attributes; `at` where there is nothing such. */
static size_t skip_marks(struct slice s, size_t at) {
    uint8_t c = s.data[at];
    bool address = c == ']' && at + 1 < s.len && (s.data[at + 1] == '(' || s.data[at + 1] == '[');
    bool attributes = c == '{' && at + 1 < s.len && (s.data[at + 1] == '#' || s.data[at + 1] == '.');
    if (address || attributes) {
        uint8_t closing = attributes ? '}' : (s.data[at + 1] == '(' ? ')' : ']');
        const uint8_t *end = (const uint8_t *)memchr(s.data + at + 1, closing, s.len - at - 1);
        if (end != NULL) {
            return (size_t)(end - s.data) + 1;
        }
    }
    return c == '*' || c == '`' || c == '[' || (c == '!' && at + 1 < s.len && s.data[at + 1] == '[') ? at + 1 : at;
}

static bool is_space(uint8_t c) {
    return c <= ' ';
}

void markdown_title(struct slice title, size_t max, struct buf *out) {
    size_t begin = out->len;
    bool space = false;
    title.len = utf8_prefix(title, max * MARKS_SHARE);
    for (size_t at = 0; at < title.len && out->len - begin <= max;) {
        size_t behind = skip_marks(title, at);
        if (behind > at) {
            at = behind;
            continue;
        }
        if (title.data[at] == '\\' && at + 1 < title.len && is_punctuation(title.data[at + 1])) {
            at++;
        }
        if (is_space(title.data[at])) {
            space = out->len > begin;
        } else {
            if (space) {
                buf_put_u8(out, ' ');
            }
            space = false;
            buf_put_u8(out, title.data[at]);
        }
        at++;
    }
    if (out->len - begin > max) {
        out->len = begin + utf8_prefix(slice_of(out->data + begin, out->len - begin), max);
    }
}
