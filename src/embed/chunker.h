/*
 * chunker.h - cutting a text into chunks for embedding: at paragraphs, then lines, then sentences, then words; never inside a code point.
 *
 * Sizes are in tokens of a simple count, which stands near what subword tokenizers give: a word of letters or digits (each 16 letters begun
 * of a longer one), a CJK character, or a punctuation mark is one. `overlap` tokens of the chunk before are repeated at a chunk's begin
 * and count in its size. Concatenating the chunks without their overlaps gives the text back, for any text.
 */
#ifndef QUIRE_EMBED_CHUNKER_H
#define QUIRE_EMBED_CHUNKER_H

#include "base/buf.h"

#define CHUNKER_DEFAULT_MAX_TOKENS 256
#define CHUNKER_DEFAULT_OVERLAP 32

struct chunk_span {
    size_t begin;   /* of the chunk's own part, in bytes of the source; spans follow one another without a gap */
    size_t end;
    size_t overlap; /* bytes before begin that are repeated at the chunk's start: its text is [begin - overlap, end) */
};

/* Cuts text (valid UTF-8). *ret_spans is malloc'd; the caller frees it. An empty text gives no span. More than max_chunks: STATUS_TOO_LARGE.
 * Linear in the text's length. max_tokens >= 1, overlap < max_tokens. */
MUST_CHECK bool chunker_cut(struct slice text, uint32_t max_tokens, uint32_t overlap, size_t max_chunks,
                            struct chunk_span **ret_spans, size_t *ret_count, struct status *st);

#endif
