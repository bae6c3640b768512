/* tokens.c - see tokens.h. */
#include "embed/tokens.h"

#include "base/utf8.h"
#include "embed/letters.h"

#define ASCII 0x80
#define LETTERS_PER_TOKEN 16 /* at most */
#define ASCII_PER_TOKEN 8
#define BYTES_PER_TOKEN 6
#define BEYOND_BASIC_PLANE 0x10000

void token_counter_begin(struct token_counter *r, const struct wordpiece *vocabulary, struct slice text) {
    wordpiece_begin(&r->cursor, vocabulary, text);
}

static uint32_t parts_of(size_t whole, uint32_t part) {
    return (uint32_t)((whole + part - 1) / part);
}

static bool next_counted(struct wordpiece_cursor *c, struct counted_word *ret) {
    uint32_t tokens[WORDPIECE_WORD_MAX];
    uint32_t count = wordpiece_next(c, tokens);
    uint32_t least = parts_of(c->length, LETTERS_PER_TOKEN);
    *ret = (struct counted_word){c->begin, c->at, count > least ? count : least, c->length};
    return count > 0;
}

static enum letter_class class_at(struct slice text, size_t at, uint32_t *ret_code_point, size_t *ret_next) {
    *ret_next = at;
    *ret_code_point = utf8_next(text, ret_next);
    return letter_class_of(*ret_code_point);
}

/* Behind the letters of the word that begins at `at`. */
static void estimate_letters(struct slice text, struct counted_word *w) {
    size_t ascii = 0;
    size_t other_bytes = 0;
    uint32_t code_point;
    size_t next;
    for (; w->end < text.len; w->end = next) {
        enum letter_class class = class_at(text, w->end, &code_point, &next);
        if (class != LETTER_WORD && class != LETTER_MARK) {
            break;
        }
        ascii += code_point < ASCII;
        other_bytes += class == LETTER_WORD && code_point >= ASCII ? next - w->end : 0;
        w->letters++;
    }
    w->tokens = parts_of(ascii, ASCII_PER_TOKEN) + parts_of(other_bytes, BYTES_PER_TOKEN);
}

static bool next_estimated(struct wordpiece_cursor *c, struct counted_word *ret) {
    uint32_t code_point = 0;
    enum letter_class class = LETTER_SPACE;
    size_t begin = c->at;
    for (; c->at < c->text.len; begin = c->at) {
        class = class_at(c->text, begin, &code_point, &c->at);
        if (class != LETTER_SPACE && class != LETTER_MARK) {
            break;
        }
    }
    if (begin == c->text.len) {
        return false;
    }
    uint32_t tokens = code_point < BEYOND_BASIC_PLANE ? 1 : 2;
    *ret = (struct counted_word){begin, c->at, tokens, tokens};
    if (class == LETTER_WORD) {
        ret->end = begin;
        ret->letters = 0;
        estimate_letters(c->text, ret);
        c->at = ret->end;
    }
    return true;
}

bool token_counter_next(struct token_counter *r, struct counted_word *ret) {
    return r->cursor.vocabulary != NULL ? next_counted(&r->cursor, ret) : next_estimated(&r->cursor, ret);
}
