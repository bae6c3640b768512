/*
 * lexical_terms.c - from a term to its entry, by hash and in order.
 *
 * The hash table is for terms, the skip list (Pugh 1990, one link in four goes up) for what begins so. Both are written by one thread and read without a
 * lock: an entry is whole before the first link to it is stored. A reader may find a term of a commit under way; it has no postings in the reader's
 * view then.
 */
#include "index/lexical_internal.h"

#include "base/hash.h"

#include <assert.h>

#define HEIGHT_SEED 1
#define BITS_PER_LEVEL 2U

const void *lexical_at(const uint8_t *file, uint64_t mapped, uint64_t used, uint64_t offset, uint64_t bytes, bool *ret_unmapped) {
    uint64_t at = offset * UNIT;
    if (offset == 0 || bytes > mapped || at > mapped - bytes) {
        *ret_unmapped = *ret_unmapped || (offset != 0 && at + bytes <= used);
        return NULL;
    }
    return file + at;
}

static const void *terms_at(const struct lexical *x, uint64_t offset, uint64_t bytes, bool *ret_unmapped) {
    return lexical_at(x->terms, x->terms_bytes, load_acquire_u64(&terms_head(x)->used) /* pairs with: LEXICAL_USED */, offset,
                      bytes, ret_unmapped);
}

const struct entry *entry_at(const struct lexical *x, uint32_t offset, bool *ret_unmapped) {
    const struct entry *e = terms_at(x, offset, sizeof *e, ret_unmapped);
    if (e == NULL || e->height == 0 || e->height > SKIP_LEVELS || e->length > TERM_BYTES_MAX) {
        return NULL;
    }
    return terms_at(x, offset, entry_size(e->height, e->length), ret_unmapped);
}

/* --- the hash table --- */

/* The newest table that the map holds, or NULL. One before it holds all terms of the views that this map was made for. */
static const uint32_t *table_of(const struct lexical *x, uint32_t *ret_level) {
    const struct terms_head *h = terms_head(x);
    uint32_t level = load_acquire_u32(&h->level); /* pairs with: LEXICAL_TERM */
    for (; level >= FIRST_LEVEL && level <= MAX_LEVEL; level--) {
        bool unmapped = false;
        const uint32_t *table = terms_at(x, h->tables[level], sizeof(uint32_t) << level, &unmapped);
        if (table != NULL) {
            *ret_level = level;
            return table;
        }
    }
    return NULL;
}

const struct entry *term_find(const struct lexical *x, struct slice bytes, uint64_t hash) {
    uint32_t level = 0;
    const uint32_t *table = table_of(x, &level);
    if (table == NULL) {
        return NULL;
    }
    uint64_t mask = (UINT64_C(1) << level) - 1;
    for (uint64_t i = 0; i <= mask; i++) {
        bool unmapped = false;
        /* pairs with: LEXICAL_TERM. Without it the entry could be read before it is filled. */
        uint32_t offset = load_acquire_u32(&table[(hash + i) & mask]);
        if (offset == 0) {
            return NULL;
        }
        const struct entry *e = entry_at(x, offset, &unmapped);
        if (e != NULL && e->hash == hash && slice_equal(entry_bytes(e), bytes)) {
            return e;
        }
    }
    return NULL;
}

/* Returns where. */
static uint64_t put_word(const struct lexical *x, uint32_t *table, uint32_t level, uint64_t hash, uint32_t offset) {
    uint64_t mask = (UINT64_C(1) << level) - 1;
    uint64_t i = hash & mask;
    for (uint64_t steps = 0; table[i] != 0 && steps < mask; steps++) {
        i = (i + 1) & mask;
    }
    dirty_touch(x->terms_dirty, x->terms, &table[i], sizeof table[i]);
    /* pairs with: LEXICAL_TERM. Without it a reader could follow the word to an entry that is not filled yet. */
    store_release_u32(&table[i], offset);
    return i;
}

static bool overfull(uint64_t terms, uint32_t level) {
    return terms * TABLE_LOAD_DENOMINATOR > TABLE_LOAD_NUMERATOR << level;
}

uint64_t tables_need(const struct terms_head *h, uint64_t new_terms) {
    uint64_t bytes = 0;
    for (uint32_t level = h->level + (h->growth != 0 ? 1 : 0); level < MAX_LEVEL && overfull(h->terms + new_terms, level); level++) {
        bytes += sizeof(uint32_t) << (level + 1);
    }
    return bytes;
}

/* Room in the terms file, which the caller has reserved; the offset, in units. */
static uint32_t take_room(const struct lexical *x, uint64_t bytes) {
    struct terms_head *h = (struct terms_head *)(void *)x->terms;
    uint64_t at = h->used;
    dirty_touch(x->terms_dirty, x->terms, h, sizeof *h);
    dirty_touch(x->terms_dirty, x->terms, x->terms + at, bytes);
    assert(at + bytes <= x->terms_bytes); /* lexical_room has told the caller */
    /* pairs with: LEXICAL_USED. Without it a reader could take a new offset for damage, and miss the term. */
    store_release_u64(&h->used, at + (bytes + UNIT - 1) / UNIT * UNIT);
    return (uint32_t)(at / UNIT);
}

/*
 * To make the next table at once would hold up a commit by 20 ms where there are 200,000 terms. So each new term takes a step: first the words of the new
 * table are cleared, as the file may have been in use there before a recovery, then those of the old one are copied. A term that comes meanwhile is put
 * into the old table, and into the new one where copying has passed its place. Readers know of the new one when it has all.
 */
static uint32_t *table_at(const struct lexical *x, uint32_t level) {
    return (uint32_t *)(void *)(x->terms + (uint64_t)terms_head(x)->tables[level] * UNIT);
}

static uint64_t steps_of_a_phase(uint32_t level) {
    return (UINT64_C(1) << level) / GROWTH_WORDS;
}

/* Words of the table that are copied. */
static uint64_t words_copied(const struct terms_head *h) {
    uint64_t cleared_after = steps_of_a_phase(h->level) + 1;
    return h->growth > cleared_after ? (h->growth - cleared_after) * GROWTH_WORDS : 0;
}

bool growth_sound(const struct lexical *x) {
    const struct terms_head *h = terms_head(x);
    return h->growth == 0 ||
           (h->level < MAX_LEVEL && h->growth <= 2 * steps_of_a_phase(h->level) && h->tables[h->level + 1] != 0 &&
            (uint64_t)h->tables[h->level + 1] * UNIT + (sizeof(uint32_t) << (h->level + 1)) <= lexical_terms_used(x));
}

static void begin_growth(const struct lexical *x, struct terms_head *h) {
    store_relaxed_u64(&h->magic, TERMS_GROWING);
    h->tables[h->level + 1] = take_room(x, sizeof(uint32_t) << (h->level + 1));
    h->growth = 1;
}

static void end_growth(struct terms_head *h) {
    h->table_bytes_lost += sizeof(uint32_t) << h->level;
    h->growth = 0;
    /* pairs with: LEXICAL_TERM. Without it a reader could search a table that is not copied yet, and miss its terms. */
    store_release_u32(&h->level, h->level + 1);
    store_relaxed_u64(&h->magic, TERMS_MAGIC);
}

static void clear_words(const struct lexical *x, uint32_t *words) {
    dirty_touch(x->terms_dirty, x->terms, words, 2 * GROWTH_WORDS * sizeof *words);
    memset(words, 0, 2 * GROWTH_WORDS * sizeof *words);
}

static void copy_words(const struct lexical *x, const uint32_t *words, uint32_t *table, uint32_t level) {
    for (uint32_t i = 0; i < GROWTH_WORDS; i++) {
        bool unmapped = false;
        const struct entry *e = entry_at(x, words[i], &unmapped);
        if (e != NULL) {
            (void)put_word(x, table, level, e->hash, words[i]);
        }
    }
}

void table_grow(const struct lexical *x, struct terms_head *h) {
    if (h->growth == 0) {
        begin_growth(x, h);
    }
    uint64_t step = h->growth - 1;
    uint64_t phase = steps_of_a_phase(h->level);
    uint32_t *table = table_at(x, h->level + 1);
    if (step < phase) {
        clear_words(x, table + step * 2 * GROWTH_WORDS);
    } else {
        copy_words(x, table_at(x, h->level) + (step - phase) * GROWTH_WORDS, table, h->level + 1);
    }
    h->growth++;
    if (step + 1 == 2 * phase) {
        end_growth(h);
    }
}

static void put_term(const struct lexical *x, const struct terms_head *h, uint64_t hash, uint32_t offset) {
    uint64_t at = put_word(x, table_at(x, h->level), h->level, hash, offset);
    if (h->growth != 0 && at < words_copied(h)) {
        (void)put_word(x, table_at(x, h->level + 1), h->level + 1, hash, offset);
    }
}

/* --- the skip list --- */

uint32_t term_height(struct slice bytes) {
    uint64_t random = hash64(HEIGHT_SEED, bytes.data, bytes.len);
    uint32_t height = 1 + (random == 0 ? SKIP_LEVELS : (uint32_t)__builtin_ctzll(random) / BITS_PER_LEVEL);
    return height < SKIP_LEVELS ? height : SKIP_LEVELS;
}

/* The link of `e` (NULL: of the head) at a level. */
static const uint32_t *link_of(const struct lexical *x, const struct entry *e, uint32_t level) {
    return e == NULL ? &terms_head(x)->first[level] : &e->next[level];
}

/* The entry behind `e` at a level, or NULL at the end, or where the order or a height is damaged. */
static const struct entry *step(const struct lexical *x, const struct entry *e, uint32_t level, bool *ret_unmapped) {
    /* pairs with: LEXICAL_TERM. Without it the entry could be read before it is filled. */
    const struct entry *next = entry_at(x, load_acquire_u32(link_of(x, e, level)), ret_unmapped);
    if (next == NULL || next->height <= level || (e != NULL && slice_compare(entry_bytes(e), entry_bytes(next)) >= 0)) {
        return NULL;
    }
    return next;
}

/* The last entry below `bytes` at each level (NULL: the head). */
static void find_before(const struct lexical *x, struct slice bytes, const struct entry *before[SKIP_LEVELS],
                        bool *ret_unmapped) {
    const struct entry *e = NULL;
    const struct entry *known = NULL; /* not below `bytes`: met one level up */
    for (uint32_t level = SKIP_LEVELS; level-- > 0;) {
        for (;;) {
            const struct entry *next = step(x, e, level, ret_unmapped);
            if (next == NULL || next == known) {
                break;
            }
            if (slice_compare(entry_bytes(next), bytes) >= 0) {
                known = next;
                break;
            }
            e = next;
        }
        before[level] = e;
    }
}

const struct entry *term_at_or_after(const struct lexical *x, struct slice bytes, bool *ret_unmapped) {
    const struct entry *before[SKIP_LEVELS];
    find_before(x, bytes, before, ret_unmapped);
    return step(x, before[0], 0, ret_unmapped);
}

const struct entry *term_next(const struct lexical *x, const struct entry *e, bool *ret_unmapped) {
    return step(x, e, 0, ret_unmapped);
}

struct entry *term_insert(const struct lexical *x, struct slice bytes, uint64_t hash) {
    struct terms_head *h = (struct terms_head *)(void *)x->terms;
    const struct entry *before[SKIP_LEVELS];
    uint32_t height = term_height(bytes);
    bool unmapped = false;

    if (h->growth != 0 || (overfull(h->terms + 1, h->level) && h->level < MAX_LEVEL)) {
        table_grow(x, h);
    }
    find_before(x, bytes, before, &unmapped);
    uint32_t offset = take_room(x, entry_size(height, bytes.len));
    struct entry *e = (struct entry *)(void *)(x->terms + (uint64_t)offset * UNIT);
    *e = (struct entry){
        .hash = hash, .bound = bound_of(0, LEXICAL_LENGTH_MAX), .height = (uint8_t)height, .length = (uint8_t)bytes.len};
    for (uint32_t level = 0; level < height; level++) {
        e->next[level] = *link_of(x, before[level], level);
    }
    memcpy(&e->next[height], bytes.data, bytes.len);
    store_relaxed_u64(&h->terms, h->terms + 1);
    for (uint32_t level = 0; level < height; level++) {
        const struct entry *b = before[level];
        uint32_t *link =
            b == NULL ? &h->first[level] : (uint32_t *)(void *)(x->terms + ((const uint8_t *)&b->next[level] - x->terms));
        dirty_touch(x->terms_dirty, x->terms, link, sizeof *link);
        /* pairs with: LEXICAL_TERM. Without it a reader could step onto an entry that is not filled yet. */
        store_release_u32(link, offset);
    }
    put_term(x, h, hash, offset);
    return e;
}
