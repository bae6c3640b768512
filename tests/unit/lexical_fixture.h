/* lexical_fixture.h - random corpora in a lexical index, and BM25 by brute force over them. */
#ifndef QUIRE_TESTS_LEXICAL_FIXTURE_H
#define QUIRE_TESTS_LEXICAL_FIXTURE_H

#include "index/lexical.h"

#define CORPUS_WORDS_MAX 400 /* distinct words of one text or query */
#define CORPUS_FILLING 0xa5  /* what lies in new room: a file may have been in use there before */

struct corpus_text {
    uint32_t *words; /* distinct; ascending */
    uint32_t *counts;
    uint32_t distinct;
    uint32_t length;
    bool deleted;
};

struct corpus {
    struct lexical x; /* of exactly the bytes that lexical_room asked for */
    struct corpus_text *texts;
    uint32_t count;
    uint32_t capacity;
    uint32_t vocabulary;
    uint64_t state; /* of the random numbers */
    uint64_t live;
    uint64_t tokens;
};

uint64_t corpus_random(struct corpus *c);
void corpus_init(struct corpus *c, uint32_t capacity, uint32_t vocabulary, uint64_t seed);
void corpus_fini(struct corpus *c);
/* The terms of words and counts, in memory that the next call reuses. */
struct terms corpus_terms(const uint32_t *words, const uint32_t *counts, uint32_t distinct, uint32_t length);
/* Adds `texts` random ones of up to `longest` words in one batch: need of all, room, then all. */
void corpus_add(struct corpus *c, uint32_t texts, uint32_t longest);
/* The same texts without an index: for who adds them by itself. corpus.count stays. */
void corpus_make_texts(struct corpus *c, uint32_t texts, uint32_t longest);
/* Adds those of them that come next. */
void corpus_add_made(struct corpus *c, uint32_t texts);
uint32_t corpus_count_in(const struct corpus_text *t, uint32_t word);
void corpus_delete(struct corpus *c, uint32_t slot);
/* A word, the small numbers far more often. */
uint32_t corpus_word(struct corpus *c);
/* Of `words` random words; its terms live until the next corpus_terms. */
struct lexical_query corpus_query(struct corpus *c, uint32_t words, struct terms *terms, uint32_t ids[CORPUS_WORDS_MAX]);
/* The best k by the formula, over texts that live and that `accepts` (may be NULL) lets through. */
size_t corpus_reference(const struct corpus *c, const struct lexical_query *q, const uint32_t *ids, const uint32_t *counts,
                        uint32_t distinct, size_t k, struct scored *out);

#endif
