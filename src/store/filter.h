/*
 * filter.h - a filter as a tree, and which slots of a library it accepts.
 *
 * The api builds the tree from JSON; filter_evaluate makes it a set of slots for one reading: per leaf a compressed bitmap (CRoaring) of the slots whose
 * column matches, cached by the process and extended as slots are added (columns never change behind), then and, or, not over plain bit sets.
 * A field without a column (too many fields, too long a value, `text`) is read from the records.
 *
 * Meaning: eq, ne, in, gt, lt, gte, lte, contains. A leaf about a field that a chunk lacks is false; so is its comparison with another type; ne is the
 * negation of eq, and so true there (as `not`). On an array of keywords eq and in mean membership, gt .. lte that one of them is so. contains: a
 * substring of a keyword, or a member of an array; on text a substring. gt .. lte: numbers as numbers; strings that are RFC 3339 times (or dates: their
 * midnight, UTC) as times, others byte by byte; a time equals every way to write it. null: eq and in, the field is absent. (filter_record.c has the table.)
 */
#ifndef QUIRE_STORE_FILTER_H
#define QUIRE_STORE_FILTER_H

#include "store/reading.h"

enum filter_kind { FILTER_AND = 1, FILTER_OR, FILTER_NOT, FILTER_LEAF };
enum filter_operator {
    OPERATOR_EQ = 1,
    OPERATOR_NE,
    OPERATOR_GT,
    OPERATOR_LT,
    OPERATOR_GTE,
    OPERATOR_LTE,
    OPERATOR_IN,
    OPERATOR_CONTAINS
};
enum filter_value_type { FILTER_NULL = 1, FILTER_BOOL, FILTER_NUMBER, FILTER_TEXT };

struct filter_value {
    enum filter_value_type type;
    bool boolean;
    double number;
    struct slice text;
};

/* Memory is the caller's (the api's pool) and outlives the search. */
struct filter {
    enum filter_kind kind;
    /* and, or: count of them, none is true for and, false for or; not: one */
    const struct filter *const *children;
    uint32_t count;
    /* leaf; eq null: the field is absent */
    struct slice path;
    enum filter_operator op;
    const struct filter_value *values; /* one; in: value_count */
    uint32_t value_count;
};

/* What a process remembers between searches; one per process (thread). max_bytes: limit filter_cache_bytes; the least recently used goes first. */
struct filter_cache;
struct filter_cache *filter_cache_new(uint64_t max_bytes);
void filter_cache_free(struct filter_cache *c);

/* Bit s of words[s / 64]: slot s matches. Slots that are not in the view, or have no vector, may be set: searches ask for that themselves. */
struct slot_set {
    const uint64_t *words; /* the cache's memory, until the next evaluation */
    uint32_t slots;        /* view.chunk_slots */
    uint64_t count;        /* bits set */
};
MUST_CHECK bool filter_evaluate(struct filter_cache *cache, const struct reading *rd, const struct filter *f,
                                struct slot_set *ret, struct status *st);

static inline bool slot_set_has(const struct slot_set *s, uint32_t slot) {
    return slot < s->slots && (s->words[slot / 64] >> (slot % 64) & 1) != 0;
}

#endif
