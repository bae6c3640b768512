/* letters.h - what a code point is to words, and the folding of a word that is not plain ASCII. */
#ifndef QUIRE_TEXT_LETTERS_H
#define QUIRE_TEXT_LETTERS_H

#include "base/buf.h"

enum letter_kind {
    LETTER_NONE,   /* separates words */
    LETTER_WORD,   /* a letter or a number */
    LETTER_MARK,   /* goes on with a word, begins none */
    LETTER_JOINER, /* an apostrophe or a point: holds together what stands on both its sides */
    LETTER_ALONE   /* an ideograph or kana: a word by itself */
};

enum letter_kind letter_kind(uint32_t code_point);

#define FOLDED_BYTES_MAX 64

/* NFKC, case folding, marks off. `word`: UTF-8 of at most FOLD_INPUT_MAX bytes (what is beyond is not looked at). Returns the bytes written to out, at
 * most `max` (FOLDED_BYTES_MAX or less), cut at a code point. Nothing may be left: 0. */
#define FOLD_INPUT_MAX 256
size_t fold_word(struct slice word, uint8_t out[FOLDED_BYTES_MAX], size_t max);

#endif
