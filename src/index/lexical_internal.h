/*
 * lexical_internal.h - the two files of the lexical index, byte by byte, for the files lexical_*.c.
 *
 * Offsets are u32 in units of 8 bytes from the file's start; 0 is none. All is little-endian and aligned to its size.
 *
 * terms.mmap
 *   struct terms_head
 *   entries     struct entry, then `height` links of the skip list (u32), then the term's bytes; padded to 8
 *   tables      u32[1 << level]: offsets of entries, open addressing by the hash's low bits, 0 empty. A table that is over TABLE_LOAD full is copied to one
 *               of twice the size behind, a step with each new term; the old ones stay as they are, for readers whose map ends before the new one
 *
 * postings.mmap
 *   struct postings_head
 *   runs        struct run and its words: where a term's open postings are kept
 *   block lists struct block[]: a term's full blocks. Copied to twice the size when they are full
 *   blocks      BLOCK_POSTINGS postings: slots, counts, lengths, each bit-packed (lexical_block.c)
 *
 * A term's postings are those of its full blocks, then the open ones. The open ones are words of 64 bits (slot, count, length): the first in the entry, the
 * others in runs of 3, 4, 8, 16, 32 and 64, each made when it is first needed. When BLOCK_POSTINGS are open they become a block, and the same words
 * are filled again from the first on. So a term of one posting costs nothing beside its entry, and a frequent one a kilobyte beside its blocks.
 *
 * Readers. The writer overwrites open words, so a reader copies them first and then looks at entry.state once more: has the number of blocks
 * changed, it begins again. Everything else is written once, before what leads to it. Blocks and block lists are made by commits of which a reader's map may
 * know nothing: whoever meets an offset that is in use but not mapped answers LEXICAL_UNMAPPED.
 *
 * Invariants, held by lexical_validate: slots ascend in a term; a block's bound is at least what its postings have; the entry's bound likewise; the skip
 * list is in ascending order of bytes and holds what the table holds; used bytes end behind everything.
 */
#ifndef QUIRE_INDEX_LEXICAL_INTERNAL_H
#define QUIRE_INDEX_LEXICAL_INTERNAL_H

#include "index/lexical.h"

#include "shm/atomics.h"

#define TERMS_MAGIC UINT64_C(0x31734d7265546951)    /* "QiTerMs1" */
#define TERMS_GROWING UINT64_C(0x32734d7265546951)  /* "QiTerMs2": while the next table is being made, so that a version that does not know of that makes the file anew */
#define POSTINGS_MAGIC UINT64_C(0x31734f5069755169) /* "iQuiPOs1" */
#define UNIT 8U                                     /* bytes of an offset's unit */
#define BLOCK_POSTINGS 128U
#define FIRST_LEVEL 10U /* the first table has 1024 words */
#define MAX_LEVEL 31U
#define TABLE_LOAD_NUMERATOR 2U
#define TABLE_LOAD_DENOMINATOR 3U
#define GROWTH_WORDS 32U /* of the old table, copied in a step, and half of the words of the new one, cleared in a step before: done before the old one is three quarters full */
#define FULL_NUMERATOR 3U
#define FULL_DENOMINATOR 4U
#define SKIP_LEVELS 12U
#define RUN_FIRST 1U /* the open posting that the first run begins with */
#define FIRST_BLOCK_LIST 2U

struct terms_head {
    uint64_t magic;
    uint64_t used; /* bytes; written last (release) */
    uint64_t terms;
    uint64_t postings;
    uint64_t slots;            /* slots below are added */
    uint64_t table_bytes_lost; /* in tables that were outgrown */
    uint32_t level;            /* of the newest table */
    uint32_t tables[MAX_LEVEL + 1];
    uint32_t first[SKIP_LEVELS]; /* the skip list's heads */
    uint32_t growth;             /* 0: no table is being made; else one more than the steps done for that of level + 1 */
};

struct postings_head {
    uint64_t magic;
    uint64_t used;
    uint64_t open; /* postings that are in no block */
};

struct entry {
    uint64_t hash;
    uint64_t first_open; /* the first open posting */
    uint32_t state;      /* full blocks << 8 | open postings */
    uint32_t bound;      /* greatest count, least length, as bound_of */
    uint32_t live;       /* document frequency without the deleted */
    uint32_t runs;       /* the newest run */
    uint32_t blocks;     /* the block list */
    uint8_t height;      /* links of the skip list */
    uint8_t length;      /* bytes of the term */
    uint16_t unused;
    uint32_t next[]; /* height links, then the bytes */
};

struct run {
    uint32_t older; /* the run before */
    uint32_t first; /* its first word is this open posting: 1, 4, 8, 16, 32, 64 */
    uint64_t words[];
};

struct block {
    uint32_t last_slot;
    uint32_t data;
    uint32_t bound;
    uint8_t slot_bits; /* of a slot's difference from the fourth before */
    uint8_t count_bits;
    uint8_t length_bits;
    uint8_t unused;
};

_Static_assert(sizeof(struct entry) == 40, "an entry's fixed part");
_Static_assert(sizeof(struct block) == 16, "a block of a block list");
_Static_assert(sizeof(struct terms_head) % UNIT == 0 && sizeof(struct postings_head) % UNIT == 0, "what follows is aligned");

#define STATE_OPEN_BITS 8U
static inline uint32_t state_blocks(uint32_t state) {
    return state >> STATE_OPEN_BITS;
}
static inline uint32_t state_open(uint32_t state) {
    return state & ((1U << STATE_OPEN_BITS) - 1);
}

/* A posting in a word; counts and lengths fit (LEXICAL_COUNT_MAX, LEXICAL_LENGTH_MAX). */
#define LENGTH_BITS 20U
#define SLOT_SHIFT 32U
struct posting {
    uint32_t slot;
    uint32_t count;
    uint32_t length;
};
static inline uint64_t posting_word(struct posting p) {
    return (uint64_t)p.slot << SLOT_SHIFT | p.count << LENGTH_BITS | p.length;
}
static inline struct posting word_posting(uint64_t word) {
    return (struct posting){(uint32_t)(word >> SLOT_SHIFT), (uint32_t)(word >> LENGTH_BITS) & LEXICAL_COUNT_MAX,
                            (uint32_t)word & LEXICAL_LENGTH_MAX};
}
/* Bounds pack a count and a length alike. */
static inline uint32_t bound_of(uint32_t count, uint32_t length) {
    return count << LENGTH_BITS | length;
}
static inline uint32_t bound_count(uint32_t bound) {
    return bound >> LENGTH_BITS;
}
static inline uint32_t bound_length(uint32_t bound) {
    return bound & LEXICAL_LENGTH_MAX;
}
static inline uint32_t bound_with(uint32_t bound, uint32_t count, uint32_t length) {
    uint32_t most = bound_count(bound) > count ? bound_count(bound) : count;
    uint32_t least = bound_length(bound) < length ? bound_length(bound) : length;
    return bound_of(most, least);
}

/* Words of the run whose first open posting is `first`. */
static inline uint32_t run_words(uint32_t first) {
    return first == RUN_FIRST ? 3 : first;
}
/* The run in which open posting i > 0 is. */
static inline uint32_t run_of(uint32_t i) {
    return i < 4 ? RUN_FIRST : 1U << (31 - (unsigned)__builtin_clz(i));
}

/* What stands at an offset, or NULL where it does not lie within the map. *ret_unmapped is set where it lies in what is in use, behind the map: a
 * reader maps more and tries again. */
const void *lexical_at(const uint8_t *file, uint64_t mapped, uint64_t used, uint64_t offset, uint64_t bytes, bool *ret_unmapped);
static inline const struct terms_head *terms_head(const struct lexical *x) {
    return (const struct terms_head *)(const void *)x->terms;
}
static inline const struct postings_head *postings_head(const struct lexical *x) {
    return (const struct postings_head *)(const void *)x->postings;
}
const struct entry *entry_at(const struct lexical *x, uint32_t offset, bool *ret_unmapped);
const void *postings_at(const struct lexical *x, uint32_t offset, uint64_t bytes, bool *ret_unmapped);
static inline struct slice entry_bytes(const struct entry *e) {
    return slice_of(&e->next[e->height], e->length);
}
static inline uint64_t entry_size(uint32_t height, size_t length) {
    return (sizeof(struct entry) + height * sizeof(uint32_t) + length + UNIT - 1) / UNIT * UNIT;
}

/* --- lexical_terms.c --- */
const struct entry *term_find(const struct lexical *x, struct slice bytes, uint64_t hash);
/* Links of the skip list that a term gets. */
uint32_t term_height(struct slice bytes);
/* A new entry, linked in; it has no postings yet. Room is there. */
struct entry *term_insert(const struct lexical *x, struct slice bytes, uint64_t hash);
/* Could the table that is being made be gone on with? */
bool growth_sound(const struct lexical *x);
/* One step of making the next table, and the first one's beginning and the last one's end. The caller has told of the head's page; room is there. */
void table_grow(const struct lexical *x, struct terms_head *h);
/* Bytes that so many new terms may need for tables. */
uint64_t tables_need(const struct terms_head *h, uint64_t new_terms);
/* The first entry whose bytes are not below `bytes`, or NULL; and the one behind another. A damaged order ends the list. */
const struct entry *term_at_or_after(const struct lexical *x, struct slice bytes, bool *ret_unmapped);
const struct entry *term_next(const struct lexical *x, const struct entry *e, bool *ret_unmapped);

/* --- lexical_block.c --- */
struct open_postings {
    uint32_t count;
    uint32_t slots[BLOCK_POSTINGS];
    uint32_t counts_lengths[BLOCK_POSTINGS]; /* as in a word's lower half */
};
#define BLOCK_DATA_MAX (BLOCK_POSTINGS / 8U * (32U + 12U + LENGTH_BITS))
/* Bytes of a block's data. */
static inline uint32_t block_bytes(const struct block *b) {
    return BLOCK_POSTINGS / 8U * ((uint32_t)b->slot_bits + b->count_bits + b->length_bits);
}
/* Bits in bounds. */
static inline bool block_sound(const struct block *b) {
    return b->slot_bits <= 32 && b->count_bits <= 12 && b->length_bits <= LENGTH_BITS;
}
/* Packs 128 postings; `before` is the last slot of the block before (0: none). Sets everything of *b but data; returns the bytes of `out`. */
uint32_t block_pack(const struct open_postings *p, uint32_t before, struct block *b, uint8_t out[BLOCK_DATA_MAX]);
void block_slots(const struct block *b, const uint8_t *data, uint32_t before, uint32_t slots[BLOCK_POSTINGS]);
/* Counts and lengths of all, and of one. */
void block_weights(const struct block *b, const uint8_t *data, uint32_t counts[BLOCK_POSTINGS], uint32_t lengths[BLOCK_POSTINGS]);
struct posting block_weight(const struct block *b, const uint8_t *data, uint32_t i);

/* --- lexical.c --- */
/* A term's postings as they are at one moment: the open ones copied. False: there is a fault, or (*ret_unmapped) the map is too short. */
struct term_postings {
    const struct block *blocks;
    uint32_t block_count;
    uint32_t bound;
    uint32_t live;
};
bool term_postings(const struct lexical *x, const struct entry *e, struct term_postings *ret, struct open_postings *open,
                   bool *ret_unmapped);

#endif
