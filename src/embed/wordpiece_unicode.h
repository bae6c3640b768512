/*
 * wordpiece_unicode.h - code points as BERT's basic tokenizer sees them.
 *
 * Tables of our own and not a library's (utf8proc knows most of it), because they are part of a model's fingerprint: the reference
 * knows the code points of one Unicode version, and the next version of a shared library must not move a vector.
 */
#ifndef QUIRE_EMBED_WORDPIECE_UNICODE_H
#define QUIRE_EMBED_WORDPIECE_UNICODE_H

#include <stddef.h>
#include <stdint.h>

enum piece_kind {
    PIECE_LETTER,  /* part of a word; what stands in no run */
    PIECE_DROPPED, /* control characters, marks without a place of their own, U+FFFD */
    PIECE_SPACE,
    PIECE_ALONE,     /* a word by itself: punctuation, ideographs */
    PIECE_CLASS_LEAST /* from here on: a mark that is kept, with its canonical combining class as its kind */
};

/* All three ascending, without overlaps. */
struct piece_kind_run {
    uint32_t first;
    uint32_t last;
    uint8_t kind;
};
/* Code points that become another one: small letters, letters without their marks, the same ideograph elsewhere. */
struct piece_shift_run {
    uint32_t first;
    uint32_t last;
    uint8_t step; /* 1, or 2: only every second one */
    int32_t shift;
};
/* Those that become several. Hangul syllables are not among them: they are taken apart by arithmetic. */
#define PIECE_LETTERS_MAX 3
struct piece_letters {
    uint32_t code_point;
    uint32_t letters[PIECE_LETTERS_MAX]; /* 0: there is no more */
};

extern const struct piece_kind_run piece_kind_runs[];
extern const size_t piece_kind_run_count;
extern const struct piece_shift_run piece_shift_runs[];
extern const size_t piece_shift_run_count;
extern const struct piece_letters piece_letters[];
extern const size_t piece_letters_count;

#endif
