/*
 * words.h - text into folded words: runs of letters and digits, without case and accents.
 *
 * Scripts that do not set spaces between words (Han, kana) and Hangul give every character as a word by itself (WORD_ALONE), and
 * each two neighbours as one more (WORD_PAIR): bigrams are what finds words in such text without a dictionary. Emoji count among
 * them. Marks (accents that stand alone, joiners, soft hyphens) are left out, so composed and decomposed spellings give the same
 * words.
 */
#ifndef QUIRE_EMBED_WORDS_H
#define QUIRE_EMBED_WORDS_H

#include "base/buf.h"

enum word_kind { WORD_PLAIN, WORD_ALONE, WORD_PAIR };

struct word {
    enum word_kind kind;
    uint32_t begin;  /* of its letters in word_cursor.letters */
    uint32_t length; /* in letters */
    uint64_t hash;   /* of kind and letters; the same on every machine */
};

struct word_cursor {
    struct slice text;
    size_t at;
    uint32_t *letters; /* the caller's; room for text.len of them is enough, whatever the text */
    uint32_t count;
    bool after_alone;  /* the letter before is a WORD_ALONE, and nothing stands between */
    bool pair_waiting; /* the pair of the last two letters is the next word */
};

/* text is valid UTF-8, under 4 GiB. */
struct word_cursor word_cursor_of(struct slice text, uint32_t *letters);
/* The next word, false at the end. Its letters stay in place, so words of the whole text can be looked at together. */
bool word_next(struct word_cursor *c, struct word *ret);

#endif
