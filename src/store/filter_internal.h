/*
 * filter_internal.h - what the files of filters share. Only src/store/filter*.c include it.
 */
#ifndef QUIRE_STORE_FILTER_INTERNAL_H
#define QUIRE_STORE_FILTER_INTERNAL_H

#include "index/columns_read.h"
#include "store/fields.h"
#include "store/filter.h"

#define WORD_SLOTS 64

static inline uint32_t words_for(uint32_t slots) {
    return slots / WORD_SLOTS + (slots % WORD_SLOTS != 0);
}

/* --- filter_record.c: leaves answered by reading records, slot by slot; the slow way, and the one that defines what is right --- */

struct record_reader;
struct record_reader *record_reader_new(void);
void record_reader_free(struct record_reader *r); /* takes NULL */
/* Another reading, or another state of one. */
void record_reader_begin(struct record_reader *r, const struct reading *rd);

/* A leaf made ready: `metadata.` dropped from the path, ne as the negation of eq, texts that are times parsed. */
struct leaf {
    struct slice path;
    enum filter_operator op; /* never OPERATOR_NE */
    bool negated;
    const struct filter_value *values;
    uint32_t value_count;
};
struct leaf leaf_of(const struct filter *f);
/* Whether the slot matches, the negation left aside. */
MUST_CHECK bool record_matches(struct record_reader *r, const struct leaf *l, uint32_t slot, bool *ret, struct status *st);
/* Whether a < b, or whichever the operator is, given the sign of their comparison. */
bool order_matches(enum filter_operator op, int order);
/* Whether a text has the string of `contains` in it. */
bool text_contains(struct slice text, struct slice part);

/* --- filter_leaf.c: leaves answered by columns where there are any --- */

struct evaluation {
    const struct reading *rd;
    struct columns columns;
    bool has_columns;
    uint32_t slots;
    struct record_reader *records;
    uint64_t *spare; /* words for all slots; for filter_leaf.c */
};
/* Sets words[from / 64] and all behind it (bits at or above the slots are 0). from: a multiple of 64. */
MUST_CHECK bool leaf_evaluate(struct evaluation *e, const struct filter *f, uint32_t from, uint64_t *words, struct status *st);

/* --- filter_cache.c: what was found before --- */

struct findings;
struct findings *findings_new(uint64_t max_bytes);
void findings_free(struct findings *f); /* takes NULL */
/* The key of a leaf over a library: everything that the answer for a slot depends on. Into out, cleared first. */
void findings_key(const struct library_view *view, const struct filter *f, struct buf *out);
/* The slots below *ret_known are known; NULL: nothing is. */
struct finding;
struct finding *findings_find(struct findings *f, struct slice key, uint32_t *ret_known);
/* All its bits: a pointer that holds until the next call of findings_*, or `words` filled (room for all slots). */
const uint64_t *finding_words(const struct finding *x, uint32_t slots, uint64_t *words);
uint64_t finding_count(const struct finding *x);
/* Adds what was found for [known, slots): words[known / 64] and behind. What it cannot keep it drops; x is gone then, too (NULL is returned). */
struct finding *findings_extend(struct findings *f, struct finding *x, const uint64_t *words, uint32_t slots);
/* A new one; NULL: it is not kept. */
struct finding *findings_add(struct findings *f, struct slice key, const uint64_t *words, uint32_t slots);

uint64_t count_bits(const uint64_t *words, uint32_t count);

#endif
