/*
 * chunker.c - see chunker.h.
 *
 * One pass of a token cursor. A token takes the white space behind it along, so the text is tokens and nothing else, and every
 * cut stands at a token's start. The cursor knows how good a cut before its token would be: paragraph, line, sentence, word, or
 * none of these. For a chunk it reads as many tokens as fit, remembers the last place of each quality, goes back to
 * the best that leaves the chunk at least half full, and else cuts where it stands.
 *
 * Going back costs at most half a chunk, so every byte is read at most about twice. A second cursor follows `overlap` tokens
 * behind to find where the repeated part begins; it only moves forward. So the whole is linear, and nothing is kept per token.
 *
 * Three rules for text as people write it: a line break before a small letter is a soft wrap, no more than a space; a full stop
 * before a small letter ends no sentence ("e.g. this"); a Markdown heading is not parted from what stands under it.
 */
#include "embed/chunker.h"

#include "base/utf8.h"
#include "embed/letters.h"

#include <stdlib.h>

#define WORD_TOKEN_LETTERS 16

/* Best first. */
enum cut { CUT_PARAGRAPH, CUT_LINE, CUT_SENTENCE, CUT_WORD, CUT_ANY, CUTS };

enum ending {
    ENDING_NONE,
    ENDING_SPACED, /* . ! ?: ends a sentence where white space follows */
    ENDING_SURE    /* the ideographic full stop and its like need none */
};

struct token_cursor {
    struct slice text;
    size_t at;    /* the next token's start; text.len at the end */
    size_t index; /* of that token */
    enum cut before;
    enum ending ending; /* of the tokens read last */
    bool heading;       /* the line of the tokens read last begins with '#' */
};

struct gap {
    size_t newlines;
    bool any;
};

static enum letter_class class_at(struct slice text, size_t at, uint32_t *ret_code_point, size_t *ret_next) {
    *ret_next = at;
    *ret_code_point = utf8_next(text, ret_next);
    return letter_class_of(*ret_code_point);
}

static size_t newlines_of(uint32_t c) {
    const uint32_t line_separator = 0x2028;
    const uint32_t paragraph_separator = 0x2029;
    return c == '\n' || c == line_separator ? 1 : c == paragraph_separator ? 2 : 0;
}

/* Steps over white space, and marks that have nothing to stand on. */
static struct gap skip_gap(struct token_cursor *c) {
    struct gap gap = {0, false};
    while (c->at < c->text.len) {
        uint32_t code_point;
        size_t next;
        enum letter_class class = class_at(c->text, c->at, &code_point, &next);
        if (class != LETTER_SPACE && class != LETTER_MARK) {
            break;
        }
        gap.any = gap.any || class == LETTER_SPACE;
        gap.newlines += newlines_of(code_point);
        c->at = next;
    }
    return gap;
}

static enum ending ending_of(uint32_t c, enum ending before) {
    switch (c) {
    case '.':
    case '!':
    case '?':
    case 0x2026: /* ellipsis */
    case 0x0964: /* danda */
    case 0x061f: /* Arabic question mark */
        return ENDING_SPACED;
    case 0x3002: /* ideographic full stop, full-width ! and ? */
    case 0xff01:
    case 0xff1f:
        return ENDING_SURE;
    case '"':
    case '\'':
    case ')':
    case ']':
    case '*':
    case 0x00bb: /* closing quotation marks and brackets */
    case 0x2019:
    case 0x201d:
    case 0x300d:
    case 0x300f:
    case 0xff09:
        return before;
    default:
        return ENDING_NONE;
    }
}

/* The token itself, without what follows. */
static void read_token(struct token_cursor *c) {
    uint32_t code_point;
    size_t next;
    enum letter_class class = class_at(c->text, c->at, &code_point, &next);
    c->at = next;
    c->ending = class == LETTER_PUNCT ? ending_of(code_point, c->ending) : ENDING_NONE;
    c->heading = c->heading || (code_point == '#' && c->before <= CUT_LINE);
    for (unsigned letters = 1; c->at < c->text.len; c->at = next) {
        enum letter_class follows = class_at(c->text, c->at, &code_point, &next);
        if (follows == LETTER_WORD && class == LETTER_WORD && letters < WORD_TOKEN_LETTERS) {
            letters++;
        } else if (follows != LETTER_MARK) {
            break;
        }
    }
}

static bool small_letter_at(const struct token_cursor *c) {
    return c->at < c->text.len && c->text.data[c->at] >= 'a' && c->text.data[c->at] <= 'z';
}

static enum cut cut_after(const struct token_cursor *c, struct gap gap) {
    if (gap.newlines > 0 && c->heading) {
        return CUT_ANY;
    }
    if (gap.newlines > 1) {
        return CUT_PARAGRAPH;
    }
    if (gap.newlines == 1 && !small_letter_at(c)) {
        return CUT_LINE;
    }
    if (c->ending == ENDING_SURE || (c->ending == ENDING_SPACED && gap.any && !small_letter_at(c))) {
        return CUT_SENTENCE;
    }
    return gap.any ? CUT_WORD : CUT_ANY;
}

static struct token_cursor token_cursor_of(struct slice text) {
    struct token_cursor c = {.text = text, .before = CUT_PARAGRAPH};
    (void)skip_gap(&c);
    return c;
}

/* From one token's start to the next one's. */
static void token_advance(struct token_cursor *c) {
    read_token(c);
    struct gap gap = skip_gap(c);
    c->before = cut_after(c, gap);
    if (gap.newlines > 0) {
        c->heading = false;
    }
    c->index++;
}

/* Moves c from a chunk's start to its end, at most `budget` tokens on. */
static void find_cut(struct token_cursor *c, size_t budget) {
    struct token_cursor best[CUTS];
    size_t start = c->index;
    for (size_t i = 0; i < CUTS; i++) {
        best[i] = *c;
    }
    while (c->index - start < budget) {
        token_advance(c);
        if (c->at == c->text.len) {
            return;
        }
        best[c->before] = *c;
    }
    for (size_t i = 0; i < CUT_ANY; i++) {
        size_t tokens = best[i].index - start;
        if (tokens >= budget - tokens) {
            *c = best[i];
            return;
        }
    }
}

struct span_list {
    struct chunk_span *spans;
    size_t count;
    size_t cap;
};

static bool span_add(struct span_list *list, struct chunk_span span, size_t max_chunks, struct status *st) {
    if (list->count == max_chunks) {
        return status_set(st, STATUS_TOO_LARGE, "the text gives more than %zu chunks; raise max_tokens or divide it", max_chunks);
    }
    if (list->count == list->cap) {
        size_t cap = list->cap == 0 ? 16 : 2 * list->cap;
        struct chunk_span *grown = realloc(list->spans, cap * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        list->spans = grown;
        list->cap = cap;
    }
    list->spans[list->count++] = span;
    return true;
}

bool chunker_cut(struct slice text, uint32_t max_tokens, uint32_t overlap, size_t max_chunks, struct chunk_span **ret_spans,
                 size_t *ret_count, struct status *st) {
    struct span_list list = {NULL, 0, 0};
    if (max_tokens < 1 || overlap >= max_tokens) {
        return status_set(st, STATUS_INVALID, "max_tokens must be at least 1, and overlap less than max_tokens");
    }
    struct token_cursor cursor = token_cursor_of(text);
    struct token_cursor behind = cursor;
    for (size_t begin = 0; begin < text.len;) {
        size_t repeated = cursor.index < overlap ? cursor.index : overlap;
        while (behind.index + repeated < cursor.index) {
            token_advance(&behind);
        }
        struct chunk_span span = {.begin = begin, .overlap = repeated == 0 ? 0 : begin - behind.at};
        if (cursor.at < text.len) {
            find_cut(&cursor, max_tokens - repeated);
        }
        span.end = cursor.at;
        if (!span_add(&list, span, max_chunks, st)) {
            free(list.spans);
            return false;
        }
        begin = span.end;
    }
    *ret_spans = list.spans;
    *ret_count = list.count;
    return true;
}
