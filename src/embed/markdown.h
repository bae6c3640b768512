/* markdown.h - what a line of Markdown is, taken by itself, and the words of a heading. For blocks.c, which puts lines together. */
#ifndef QUIRE_EMBED_MARKDOWN_H
#define QUIRE_EMBED_MARKDOWN_H

#include "base/buf.h"

struct text_line {
    size_t begin;
    size_t content; /* the first character that is no blank; `end` in a blank line */
    size_t end;     /* without its line break */
    size_t next;    /* the next line's begin */
    size_t indent;  /* the column of `content`; a tab goes to the next fourth */
};
struct text_line text_line_at(struct slice text, size_t at);
static inline bool text_line_blank(const struct text_line *l) {
    return l->content == l->end;
}

/* "## Title ##": its rank, or 0. */
unsigned markdown_heading(struct slice text, const struct text_line *l, struct slice *ret_title);
/* "===" and "---" under a paragraph: the rank that it makes of that, or 0. */
unsigned markdown_underline(struct slice text, const struct text_line *l);
/* "***" and its like. */
bool markdown_rule(struct slice text, const struct text_line *l);
/* "```c" or "~~~": how many marks, or 0. */
size_t markdown_fence(struct slice text, const struct text_line *l);
/* Whether l closes a fence of `marks` times `mark`. */
bool markdown_fence_closes(struct slice text, const struct text_line *l, uint8_t mark, size_t marks);
/* "- " or "12. ": the length of the marker with one blank, or 0. *ret_weak: it cannot begin a list within a paragraph. */
size_t markdown_item(struct slice text, const struct text_line *l, bool *ret_weak);
/* "|---|:-:|", the line under a table's head. */
bool markdown_table_rule(struct slice text, const struct text_line *l);
/* What ends the HTML that begins with this line: "-->", "</pre>"; "" for a blank line; NULL: none begins here. */
const char *markdown_html(struct slice text, const struct text_line *l);
/* "---" alone, as around front matter, or "+++". */
bool markdown_front_matter(struct slice text, const struct text_line *l, uint8_t mark);

/* Appends a heading's words without their marks: emphasis, code, links, escapes, attributes. White space becomes one blank, at most max bytes. */
void markdown_title(struct slice title, size_t max, struct buf *out);

#endif
