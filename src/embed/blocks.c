/*
 * blocks.c - see blocks.h.
 *
 * A block is found by its first line; how far it goes is asked line by line. A line that ends a paragraph is looked at again as the next block's
 * first, and front matter that is never closed is searched once: so every line is read three times at most.
 */
#include "embed/blocks.h"

#include "embed/markdown.h"

#define CODE_INDENT 4
#define NESTED_INDENT 2
#define BYTE_ORDER_MARK "\xef\xbb\xbf"

void block_reader_begin(struct block_reader *r, enum text_format format, struct slice text) {
    *r = (struct block_reader){.text = text, .format = format, .blank = true};
    r->start = text.len >= strlen(BYTE_ORDER_MARK) && memcmp(text.data, BYTE_ORDER_MARK, strlen(BYTE_ORDER_MARK)) == 0 ? strlen(BYTE_ORDER_MARK) : 0;
    r->at = r->start;
}

/* Steps over blank lines. False at the end. */
static bool next_line(struct block_reader *r, struct text_line *ret) {
    while (r->at < r->text.len) {
        *ret = text_line_at(r->text, r->at);
        if (!text_line_blank(ret)) {
            return true;
        }
        r->blank = true;
        r->at = ret->next;
    }
    return false;
}

/* The block ends where the reader stands. */
static void close_block(struct block_reader *r, struct block *b) {
    b->end = r->at;
    r->blank = false;
}

/* --- plain text ----------------------------------------------------------------------------------------------------- */

static void read_plain(struct block_reader *r, struct text_line l, struct block *b) {
    struct slice title;
    bool headed = markdown_heading(r->text, &l, &title) > 0;
    do {
        r->at = l.next;
        if (r->at == r->text.len) {
            break;
        }
        l = text_line_at(r->text, r->at);
    } while (!text_line_blank(&l) && r->text.data[l.begin] != '\f');
    bool one_line = text_line_at(r->text, b->begin).next == r->at;
    b->kind = headed && one_line ? BLOCK_HEADING : BLOCK_PROSE; /* texts are often Markdown without saying so */
    close_block(r, b);
}

/* --- Markdown ------------------------------------------------------------------------------------------------------- */

/* Takes lines to the end of the text, or so far that `end` stands in the last one, at `from` or behind. */
static void take_until(struct block_reader *r, size_t from, const char *end) {
    const uint8_t *found = (const uint8_t *)memmem(r->text.data + from, r->text.len - from, end, strlen(end));
    r->at = found == NULL ? r->text.len : text_line_at(r->text, (size_t)(found - r->text.data)).next;
}

static void take_until_blank(struct block_reader *r) {
    while (r->at < r->text.len) {
        struct text_line l = text_line_at(r->text, r->at);
        if (text_line_blank(&l)) {
            break;
        }
        r->at = l.next;
    }
}

/* From the line that opens the fence, whose marks stand at l->content. In a list, a line that leaves it ends the code, too. */
static void take_fence(struct block_reader *r, struct text_line l) {
    uint8_t mark = r->text.data[l.content];
    size_t marks = markdown_fence(r->text, &l);
    size_t least = l.indent < r->list_indent ? 0 : r->list_indent;
    r->at = l.next;
    while (r->at < r->text.len) {
        l = text_line_at(r->text, r->at);
        if (!text_line_blank(&l) && l.indent < least) {
            return;
        }
        r->at = l.next;
        if (l.indent < least + CODE_INDENT && markdown_fence_closes(r->text, &l, mark, marks)) {
            return;
        }
    }
}

static void take_indented(struct block_reader *r) {
    while (r->at < r->text.len) {
        struct text_line l = text_line_at(r->text, r->at);
        if (!text_line_blank(&l) && l.indent < r->list_indent + CODE_INDENT) {
            break;
        }
        r->at = l.next;
    }
}

/* Front matter of the text, if l opens it and another line closes it. */
static bool take_front_matter(struct block_reader *r, struct text_line l) {
    uint8_t mark = r->text.data[l.content];
    if (l.begin != r->start || (mark != '-' && mark != '+') || !markdown_front_matter(r->text, &l, mark)) {
        return false;
    }
    for (size_t at = l.next; at < r->text.len; at = l.next) {
        l = text_line_at(r->text, at);
        if (markdown_front_matter(r->text, &l, mark) || (mark == '-' && markdown_front_matter(r->text, &l, '.'))) {
            r->at = l.next;
            return true;
        }
    }
    return false;
}

/* Whether a paragraph ends before this line, because something else begins with it. */
static bool interrupts(const struct block_reader *r, const struct text_line *l) {
    struct slice title;
    bool weak = false;
    const char *html = NULL;
    if (l->indent >= r->list_indent + CODE_INDENT) {
        return false;
    }
    switch (r->text.data[l->content]) {
    case '#':
        return markdown_heading(r->text, l, &title) > 0;
    case '>':
        return true;
    case '`':
    case '~':
        return markdown_fence(r->text, l) > 0;
    case '<':
        html = markdown_html(r->text, l);
        return html != NULL && html[0] != '\0';
    default:
        return markdown_rule(r->text, l) || (markdown_item(r->text, l, &weak) > 0 && (!weak || r->list_indent > 0));
    }
}

/* From a paragraph's first line, which the reader stands behind. `headed`: an underline makes a heading of it. */
static void take_paragraph(struct block_reader *r, struct block *b, bool headed) {
    size_t last = r->at;
    while (r->at < r->text.len) {
        struct text_line l = text_line_at(r->text, r->at);
        unsigned rank = headed ? markdown_underline(r->text, &l) : 0;
        if (rank > 0) {
            b->kind = BLOCK_HEADING;
            b->rank = rank;
            b->title = slice_of(r->text.data + b->begin, last - b->begin);
            r->at = l.next;
            return;
        }
        if (text_line_blank(&l) || interrupts(r, &l)) {
            return;
        }
        r->at = l.next;
        last = l.next;
    }
}

/* Quotations are prose, whatever stands in them. */
static void take_quotation(struct block_reader *r) {
    while (r->at < r->text.len) {
        struct text_line l = text_line_at(r->text, r->at);
        if (text_line_blank(&l) || r->text.data[l.content] != '>') {
            return;
        }
        r->at = l.next;
    }
}

static bool heads_table(const struct block_reader *r, const struct text_line *l) {
    if (l->next == r->text.len || memchr(r->text.data + l->content, '|', l->end - l->content) == NULL) {
        return false;
    }
    struct text_line rule = text_line_at(r->text, l->next);
    return markdown_table_rule(r->text, &rule);
}

static void take_table(struct block_reader *r) {
    while (r->at < r->text.len) {
        struct text_line l = text_line_at(r->text, r->at);
        if (text_line_blank(&l) || interrupts(r, &l)) {
            return;
        }
        r->at = l.next;
    }
}

/* Steps over the markers that l begins with ("- 1. text"), and makes their list the innermost. False: it has none. */
static bool enter_items(struct block_reader *r, struct text_line *l) {
    bool any = false;
    bool weak;
    size_t marker;
    if (markdown_rule(r->text, l)) {
        return false;
    }
    while ((marker = markdown_item(r->text, l, &weak)) > 0) {
        l->content = l->content + marker < l->end ? l->content + marker : l->end;
        l->indent += marker;
        r->list_indent = l->indent;
        any = true;
        size_t blanks = 0;
        for (; l->content < l->end && (r->text.data[l->content] == ' ' || r->text.data[l->content] == '\t'); l->content++) {
            blanks++;
        }
        l->indent += blanks;
    }
    return any;
}

static enum cut cut_before(const struct block_reader *r, const struct text_line *l, bool item) {
    bool nested = l->indent >= NESTED_INDENT && r->list_indent > 0;
    if (r->blank) {
        return nested ? CUT_ITEM : CUT_PARAGRAPH;
    }
    return item && !nested ? CUT_ITEM : CUT_LINE;
}

/* A line that stands further to the left than the list's text is in none any more, or in an outer one. */
static void leave_lists(struct block_reader *r, const struct text_line *l) {
    if (l->indent < r->list_indent) {
        r->list_indent = l->indent < NESTED_INDENT ? 0 : l->indent;
    }
}

/* From the first line, which the reader stands before, or behind where it says false. */
static bool read_lines_block(struct block_reader *r, struct text_line l) {
    const char *html = NULL;
    bool table = heads_table(r, &l);
    r->at = l.next;
    if (l.indent >= r->list_indent + CODE_INDENT) {
        take_indented(r);
    } else if (markdown_fence(r->text, &l) > 0) {
        take_fence(r, l);
    } else if ((html = markdown_html(r->text, &l)) != NULL) {
        if (html[0] != '\0') {
            take_until(r, l.content, html);
        } else {
            take_until_blank(r);
        }
    } else if (table) {
        take_table(r);
    } else {
        return false;
    }
    return true;
}

static void read_markdown(struct block_reader *r, struct text_line l, struct block *b) {
    struct text_line inner = l;
    leave_lists(r, &l);
    size_t outer = r->list_indent;
    bool code = l.indent >= outer + CODE_INDENT;
    bool item = !code && enter_items(r, &inner);
    b->before = cut_before(r, &l, item);
    unsigned rank = item || code ? 0 : markdown_heading(r->text, &l, &b->title);
    if (rank > 0) {
        r->at = l.next;
        b->kind = BLOCK_HEADING;
        b->rank = outer == 0 ? rank : 0;
    } else if (take_front_matter(r, l) || (!text_line_blank(&inner) && read_lines_block(r, inner))) {
        b->kind = BLOCK_LINES;
    } else if (r->text.data[l.content] == '>') {
        take_quotation(r);
    } else {
        bool rule = !item && markdown_rule(r->text, &l);
        r->at = l.next;
        if (!rule) {
            take_paragraph(r, b, !item && outer == 0);
        }
    }
    if (b->kind == BLOCK_HEADING && b->rank > 0) {
        b->before = CUT_HEADING;
    }
    close_block(r, b);
}

bool block_next(struct block_reader *r, struct block *ret) {
    struct text_line l;
    if (!next_line(r, &l)) {
        return false;
    }
    *ret = (struct block){.begin = l.begin, .kind = BLOCK_PROSE, .before = CUT_PARAGRAPH};
    if (r->format == TEXT_MARKDOWN) {
        read_markdown(r, l, ret);
    } else {
        read_plain(r, l, ret);
    }
    return true;
}
