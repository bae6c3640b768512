/*
 * chunker.h - cutting a text into chunks for embedding.
 *
 * A chunk has at most max_tokens tokens, counted as the library's model counts them or estimated (tokens.h), with what it repeats of the chunk
 * before it. It ends, of all places that leave it at least half full, at the best and the last of these: before a heading, behind a paragraph, before an
 * item of a list, before a line, behind a sentence (UAX 29), behind a word. Further:
 *
 *   - A heading begins a chunk as soon as the one before it has a quarter of max_tokens; smaller sections join the next, or the one before where what follows is
 *     no longer theirs. A heading is not parted from what stands under it.
 *   - What would be left at the end of a section or of the text has at least a quarter, too: else the cut before it is made earlier, or not at all.
 *   - A chunk that does not begin with a heading repeats up to `overlap` tokens of the one before: from a sentence's begin, where one stands in the first
 *     half of them, else from a word's.
 *
 * Chunks never begin or end inside a code point, nor inside a grapheme cluster (but one of very many bytes). Only a
 * chunk of one cluster may have more tokens than max_tokens. Concatenating the chunks without what they repeat gives the text back, for any text.
 */
#ifndef QUIRE_EMBED_CHUNKER_H
#define QUIRE_EMBED_CHUNKER_H

#include "embed/blocks.h"
#include "embed/wordpiece.h"

#define CHUNKER_SECTION_MAX_BYTES 512

struct chunking {
    uint32_t max_tokens; /* at least 1 */
    uint32_t overlap;    /* less than max_tokens */
    enum text_format format;
    const struct wordpiece *vocabulary; /* the model's; NULL: tokens are estimated */
    size_t max_chunks;
};

struct chunk_span {
    size_t begin;   /* of the chunk's own part, in bytes of the source; spans follow one another without a gap */
    size_t end;
    size_t overlap; /* bytes before begin that are repeated at the chunk's start: its text is [begin - overlap, end) */
    size_t section_at; /* in the list's sections */
    size_t section_len;
};

struct chunk_list {
    struct chunk_span *spans;
    size_t count;
    struct buf sections; /* paths of headings: "Guide > Install > Debian", at most CHUNKER_SECTION_MAX_BYTES each */
    uint64_t steps;      /* how often an atom of the text was looked at: a measure of work, linear in its length */
};

/* Cuts text (valid UTF-8). An empty text gives no span. More than max_chunks: STATUS_TOO_LARGE. */
MUST_CHECK bool chunker_cut(struct slice text, const struct chunking *how, struct chunk_list *ret, struct status *st);
void chunk_list_fini(struct chunk_list *list); /* takes a zeroed one */

/* Of the heading that the chunk's own text stands under, first of all, and of those above; empty where there is none. */
static inline struct slice chunk_section(const struct chunk_list *list, const struct chunk_span *span) {
    return slice_of(span->section_len == 0 ? NULL : list->sections.data + span->section_at, span->section_len);
}

#endif
