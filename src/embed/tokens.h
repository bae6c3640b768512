/*
 * tokens.h - a text's words and how many tokens a model makes of each.
 *
 * With a vocabulary they are counted as its model counts them. Without one (models behind the network have their own tokenizers, and the
 * caller's vectors any) they are estimated: a token for each 8 letters begun of ASCII, each 6 bytes begun of other letters, each punctuation
 * mark, each ideograph, two for what lies beyond the basic plane. The usual tokenizers stay below that in most languages.
 */
#ifndef QUIRE_EMBED_TOKENS_H
#define QUIRE_EMBED_TOKENS_H

#include "embed/wordpiece.h"

struct counted_word {
    size_t begin;
    size_t end;
    uint32_t tokens;  /* at least one for each 16 letters begun: a model that knows none of them has one for all */
    uint32_t letters; /* as the model has them, so no part of the word has more tokens than letters; a word of very many may say fewer */
};

struct token_counter {
    struct wordpiece_cursor cursor; /* of an estimate only text and at */
};

/* vocabulary NULL: estimate. text is valid UTF-8. */
void token_counter_begin(struct token_counter *r, const struct wordpiece *vocabulary, struct slice text);
/* The next word; false at the end of the text. What lies between two words makes no tokens. */
bool token_counter_next(struct token_counter *r, struct counted_word *ret);

#endif
