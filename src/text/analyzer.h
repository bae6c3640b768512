/*
 * analyzer.h - from a text to its terms: what the lexical index stores, and what a query asks for.
 *
 *   words     by Unicode (UAX 29 in its essentials): letters, digits and marks hold together, also over an apostrophe or a point between letters or
 *             digits; ideographs and kana stand alone
 *   folding   NFKC, case folding, marks off (utf8proc)
 *   stop words, then stems (libstemmer), of the library's language; "none": neither
 *
 * The same text gives the same terms in every process. Terms over TERM_BYTES_MAX bytes are cut at a code point.
 */
#ifndef QUIRE_TEXT_ANALYZER_H
#define QUIRE_TEXT_ANALYZER_H

#include "base/buf.h"

#define TERM_BYTES_MAX 64
#define LANGUAGE_DEFAULT "english"
#define LANGUAGE_NONE "none"

/* The name of a language as it is stored ("english" for "english", "English" or "en"), or NULL: not known. */
const char *language_canonical(struct slice name);
/* All of them, ascending, NULL at the end: for error messages and the manual. */
const char *const *language_names(void);

struct term {
    struct slice bytes; /* in the analyzer's memory, until its next call */
    uint64_t hash;      /* hash64 of the bytes; stands in files */
    uint32_t count;     /* occurrences in the text; a query: how often it was asked for */
};

struct terms {
    const struct term *items; /* distinct, in order of first occurrence; the analyzer's memory */
    uint32_t count;
    uint32_t length; /* occurrences in all: the length of BM25. Stop words do not count */
};

struct analyzer; /* one per thread and language */

MUST_CHECK bool analyzer_new(const char *language, struct analyzer **ret, struct status *st);
void analyzer_free(struct analyzer *a); /* takes NULL */
/* Room for texts of up to so many bytes: analyze of such a text cannot fail. Room is never given back. */
MUST_CHECK bool analyzer_reserve(struct analyzer *a, size_t text_bytes, struct status *st);
/* text: UTF-8, no longer than was reserved (what is beyond is not looked at). Bytes that are not UTF-8 separate words. */
void analyze(struct analyzer *a, struct slice text, struct terms *ret);
/* The same for a query. When it ends within a word (no space or punctuation behind it), *ret_prefix is that word folded but not stemmed and not
 * counted among the terms; else it is empty. For search as one types. One exception: a word that does not begin its own stem ("running", "run") is
 * counted, too, or nothing would be found by it once it is typed whole. */
void analyze_prefix(struct analyzer *a, struct slice text, struct terms *ret, struct slice *ret_prefix);

#endif
