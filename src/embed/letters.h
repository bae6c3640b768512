/*
 * letters.h - what a code point is to the tokenizers, and its folded form.
 *
 * Both are tables of our own and not a library's, because they are part of a model's fingerprint: a vector must have the same
 * bits on every machine, and the next Unicode version of a shared library must not move it.
 */
#ifndef QUIRE_EMBED_LETTERS_H
#define QUIRE_EMBED_LETTERS_H

#include <stdint.h>

enum letter_class {
    LETTER_SPACE, /* white space and control characters */
    LETTER_PUNCT, /* punctuation and symbols */
    LETTER_WORD,  /* a letter or digit of a script that makes words of several, or a sign that belongs to one */
    LETTER_ALONE, /* a word by itself: Han, kana, Hangul, emoji */
    LETTER_MARK   /* no character of its own: combining accents, variation selectors, joiners, soft hyphens */
};

enum letter_class letter_class_of(uint32_t code_point);

#define LETTER_FOLD_MAX 3
/* Case folding without accents, for Latin, Greek, Cyrillic, Armenian and full-width forms; all others stay as they are. Ligatures
 * and the sharp s become the letters that they stand for. Composed and decomposed spellings meet, once marks are left out.
 * Returns how many it wrote. */
unsigned letter_fold(uint32_t code_point, uint32_t out[LETTER_FOLD_MAX]);

#endif
