/*
 * segments.h - where sentences and grapheme clusters end: Unicode Standard Annex 29, without tailoring.
 *
 * Texts are valid UTF-8. Each call looks at the segment that begins at `at` and, for a sentence, at what decides its end; a walk over a
 * text from segment to segment is linear.
 */
#ifndef QUIRE_EMBED_SEGMENTS_H
#define QUIRE_EMBED_SEGMENTS_H

#include "base/buf.h"
#include "embed/segments_unicode.h"

struct segment_kind segment_kind_of(uint32_t code_point);

/* What CR and LF are. The standard's rules end a sentence at each; in prose that is wrapped they are spaces. */
enum sentence_lines { LINES_END_SENTENCES, LINES_ARE_WRAPPED };

/* Where the sentence that begins at `at` (< text.len) ends: the next one's begin, with white space between them on its side. */
size_t sentence_end(struct slice text, size_t at, enum sentence_lines lines);

/* Where the grapheme cluster that begins at `at` (< text.len) ends. */
size_t cluster_end(struct slice text, size_t at);

/* Whether a code point of this class belongs to the cluster before it, whatever that is (but a control character). */
static inline bool cluster_goes_on(uint8_t cluster_class) {
    return cluster_class == CLUSTER_EXTEND || cluster_class == CLUSTER_JOINER || cluster_class == CLUSTER_SPACING;
}

#endif
