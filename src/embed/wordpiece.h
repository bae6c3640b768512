/*
 * wordpiece.h - BERT's tokenizer (uncased): text into tokens of a vocabulary.
 *
 * The basic step makes words: control characters dropped, ideographs set apart, accents off (NFD without Mn), small letters, each
 * punctuation mark a word. The WordPiece step cuts each word into tokens of the vocabulary, the longest first from the left; a token
 * that begins with "##" goes on a word. A word of over 100 characters, or with a part that no token fits, is one unknown token.
 *
 * Equal to Hugging Face's `tokenizers` for every text, but for one thing: there "[CLS]" and its like in a text are the special
 * tokens; here they are text.
 */
#ifndef QUIRE_EMBED_WORDPIECE_H
#define QUIRE_EMBED_WORDPIECE_H

#include "base/buf.h"

#define WORDPIECE_VOCABULARY_MAX 65534
#define WORDPIECE_TOKEN_BYTES_MAX 128
#define WORDPIECE_WORD_MAX 100      /* characters, so at most as many tokens */
#define WORDPIECE_UNKNOWN UINT32_MAX

/* Read-only after its init, so any threads may use one. */
struct wordpiece {
    const uint8_t *bytes;     /* the caller's: the tokens' texts, one behind the other */
    const uint8_t *ends;      /* the caller's: of each token, its end in bytes as uint32 little-endian */
    uint32_t count;
    uint32_t longest;         /* token, in bytes */
    uint32_t *slots;          /* open addressing: 16 bits of the hash, 16 of the token's number plus one. 0 is empty */
    unsigned slot_bits;
};

/* bytes and ends stay the caller's and must outlive w. STATUS_CORRUPT where they are no vocabulary: ends that do not ascend to
 * bytes.len, an empty or overlong token, the same token twice. */
MUST_CHECK bool wordpiece_init(struct wordpiece *w, struct slice bytes, struct slice ends, struct status *st);
void wordpiece_fini(struct wordpiece *w); /* takes NULL and a zeroed one */

struct wordpiece_cursor {
    const struct wordpiece *vocabulary;
    struct slice text;
    size_t at;       /* behind the word */
    size_t begin;    /* of its first character */
    uint32_t length; /* of the word, in characters */
    uint32_t bytes;  /* of it */
    uint8_t word[(WORDPIECE_WORD_MAX + 1) * 4];
};

/* text is valid UTF-8. */
void wordpiece_begin(struct wordpiece_cursor *c, const struct wordpiece *vocabulary, struct slice text);
/* The tokens of the next word; their number, 0 at the end of the text. An unknown word is one WORDPIECE_UNKNOWN. */
uint32_t wordpiece_next(struct wordpiece_cursor *c, uint32_t tokens[WORDPIECE_WORD_MAX]);

#endif
