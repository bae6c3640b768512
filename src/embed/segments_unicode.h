/* segments_unicode.h - code points as UAX 29 sees them: a trie of three levels, made by tools/unicode/segment_tables.py. */
#ifndef QUIRE_EMBED_SEGMENTS_UNICODE_H
#define QUIRE_EMBED_SEGMENTS_UNICODE_H

#include <stdint.h>

/* Sentence_Break */
enum sentence_class {
    SENTENCE_OTHER,
    SENTENCE_CR,
    SENTENCE_LF,
    SENTENCE_SEPARATOR,
    SENTENCE_EXTEND,
    SENTENCE_FORMAT,
    SENTENCE_SPACE,
    SENTENCE_LOWER,
    SENTENCE_UPPER,
    SENTENCE_LETTER,
    SENTENCE_NUMERIC,
    SENTENCE_ATERM,
    SENTENCE_STERM,
    SENTENCE_CONTINUE,
    SENTENCE_CLOSE
};

/* Grapheme_Cluster_Break, and Extended_Pictographic */
enum cluster_class {
    CLUSTER_OTHER,
    CLUSTER_CR,
    CLUSTER_LF,
    CLUSTER_CONTROL,
    CLUSTER_EXTEND,
    CLUSTER_JOINER,
    CLUSTER_REGIONAL,
    CLUSTER_PREPEND,
    CLUSTER_SPACING,
    CLUSTER_HANGUL_L,
    CLUSTER_HANGUL_V,
    CLUSTER_HANGUL_T,
    CLUSTER_HANGUL_LV,
    CLUSTER_HANGUL_LVT,
    CLUSTER_PICTURE
};

struct segment_kind {
    uint8_t sentence; /* enum sentence_class */
    uint8_t cluster;  /* enum cluster_class */
};

#define SEGMENT_BLOCK 128 /* code points in a block */
#define SEGMENT_BRANCH 32 /* blocks in a branch */
#define SEGMENT_FIRST '(' /* the letter of segment_kinds[0] in a block */

extern const struct segment_kind segment_kinds[];
extern const uint8_t segment_branches[];                   /* [code point / (BLOCK * BRANCH)] */
extern const uint8_t segment_blocks_of[][SEGMENT_BRANCH]; /* [branch][block] */
extern const char *const segment_blocks[];                 /* [that][code point % BLOCK] */

#endif
