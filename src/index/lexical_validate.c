/*
 * lexical_validate.c - the validator of the inverted index, and whether it holds what the analysis of a text gives.
 *
 * Every term is reached three ways that must agree: along the skip list's lowest level, by the hash table, and (the higher levels) by the links that
 * pass over others. Each term's postings are unpacked and held against their bounds, the slots of the library and the counts in the heads.
 */
#include "index/lexical_internal.h"

#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define DETAIL_BYTES 160
#define HASH_SEED 0

struct check {
    const struct lexical *x;
    uint32_t slots;
    uint64_t faults;
    char *detail;
    uint64_t terms;
    uint64_t postings;
    uint64_t open;
    struct open_postings copied;
};

static void fault(struct check *c, const struct entry *e, const char *what) {
    if (c->faults++ == 0) {
        struct slice bytes = e == NULL ? slice_of("", 0) : entry_bytes(e);
        snprintf(c->detail, DETAIL_BYTES, "%s%s%.*s%s", what, e == NULL ? "" : ": term \"", (int)bytes.len,
                 (const char *)bytes.data, e == NULL ? "" : "\"");
    }
}

/* A posting, held against the one before (-1: none) and the bound of its block or term. */
static void check_posting(struct check *c, const struct entry *e, struct posting p, int64_t before, uint32_t bound) {
    if ((int64_t)p.slot <= before) {
        fault(c, e, "slots do not ascend");
    }
    if (p.slot >= c->slots) {
        fault(c, e, "a slot that the library has not");
    }
    if (p.count == 0 || p.count > bound_count(bound) || p.length < bound_length(bound)) {
        fault(c, e, "a posting outside its bound");
    }
    if (p.length < p.count && p.count < LEXICAL_COUNT_MAX) {
        fault(c, e, "a count above its text's length");
    }
}

/* Returns the last slot, or -2 when the block cannot be read. */
static int64_t check_block(struct check *c, const struct entry *e, const struct block *b, int64_t before, uint32_t bound) {
    uint32_t slots[BLOCK_POSTINGS];
    uint32_t counts[BLOCK_POSTINGS];
    uint32_t lengths[BLOCK_POSTINGS];
    bool unmapped = false;
    const uint8_t *data = block_sound(b) ? postings_at(c->x, b->data, block_bytes(b), &unmapped) : NULL;
    if (data == NULL || (uint64_t)b->data * UNIT + block_bytes(b) > lexical_postings_used(c->x)) {
        fault(c, e, "a block outside the file");
        return -2;
    }
    block_slots(b, data, before < 0 ? 0 : (uint32_t)before, slots);
    block_weights(b, data, counts, lengths);
    for (uint32_t i = 0; i < BLOCK_POSTINGS; i++) {
        check_posting(c, e, (struct posting){slots[i], counts[i], lengths[i]}, before, b->bound);
        before = slots[i];
    }
    if (slots[BLOCK_POSTINGS - 1] != b->last_slot) {
        fault(c, e, "a block's last slot is not the one stated");
    }
    if (bound_count(b->bound) > bound_count(bound) || bound_length(b->bound) < bound_length(bound)) {
        fault(c, e, "a block outside its term's bound");
    }
    return b->last_slot;
}

static void check_postings(struct check *c, const struct entry *e) {
    struct term_postings p;
    bool unmapped = false;
    int64_t before = -1;
    if (!term_postings(c->x, e, &p, &c->copied, &unmapped)) {
        fault(c, e, "runs or block list outside the file");
        return;
    }
    for (uint32_t i = 0; i < p.block_count; i++) {
        before = check_block(c, e, &p.blocks[i], before, p.bound);
        if (before == -2) {
            return;
        }
    }
    for (uint32_t i = 0; i < c->copied.count; i++) {
        struct posting posting = word_posting(c->copied.counts_lengths[i]);
        posting.slot = c->copied.slots[i];
        check_posting(c, e, posting, before, p.bound);
        before = posting.slot;
    }
    uint64_t postings = (uint64_t)p.block_count * BLOCK_POSTINGS + c->copied.count;
    if (p.live > postings) {
        fault(c, e, "more live texts than postings");
    }
    c->postings += postings;
    c->open += c->copied.count;
}

static void check_entry(struct check *c, const struct entry *e) {
    struct slice bytes = entry_bytes(e);
    if (e->hash != hash64(HASH_SEED, bytes.data, bytes.len)) {
        fault(c, e, "a hash that is not the term's");
    }
    if (e->height != term_height(bytes)) {
        fault(c, e, "a height that is not the term's");
    }
    if (term_find(c->x, bytes, e->hash) != e) {
        fault(c, e, "not found by its hash");
    }
    check_postings(c, e);
}

/* Walks each level: terms ascend, and each level has those of that height. */
static void check_order(struct check *c) {
    uint64_t heights[SKIP_LEVELS] = {0};
    for (uint32_t level = 0; level < SKIP_LEVELS; level++) {
        const struct entry *before = NULL;
        uint64_t count = 0;
        uint32_t offset = terms_head(c->x)->first[level];
        while (offset != 0) {
            bool unmapped = false;
            const struct entry *e = entry_at(c->x, offset, &unmapped);
            if (e == NULL || e->height <= level ||
                (const uint8_t *)e + entry_size(e->height, e->length) > c->x->terms + lexical_terms_used(c->x)) {
                fault(c, before, "a link to what is no term");
                return;
            }
            if (before != NULL && slice_compare(entry_bytes(before), entry_bytes(e)) >= 0) {
                fault(c, e, "out of order");
                return;
            }
            if (level == 0) {
                for (uint32_t l = 0; l < e->height; l++) {
                    heights[l]++;
                }
                check_entry(c, e);
            }
            count++;
            before = e;
            offset = e->next[level];
        }
        if (count != heights[level]) {
            fault(c, NULL, "a level of the term list passes over terms");
        }
    }
    c->terms = heights[0];
}

static void check_table(struct check *c) {
    const struct terms_head *h = terms_head(c->x);
    uint64_t words = UINT64_C(1) << h->level;
    uint64_t taken = 0;
    if (h->tables[h->level] == 0 || (uint64_t)h->tables[h->level] * UNIT + words * sizeof(uint32_t) > lexical_terms_used(c->x)) {
        fault(c, NULL, "the table of terms is outside the file");
        return;
    }
    const uint32_t *table = (const uint32_t *)(const void *)(c->x->terms + (uint64_t)h->tables[h->level] * UNIT);
    for (uint64_t i = 0; i < words; i++) {
        taken += table[i] != 0;
    }
    if (taken != c->terms) {
        fault(c, NULL, "the table of terms holds others than the list");
    }
    if (h->level < MAX_LEVEL && taken * FULL_DENOMINATOR > words * FULL_NUMERATOR) {
        fault(c, NULL, "the table of terms is too full");
    }
}

uint64_t lexical_validate(const struct lexical *x, uint32_t slots, char detail[160]) {
    struct check *c = malloc(sizeof *c);
    if (c == NULL) {
        return UINT64_MAX;
    }
    *c = (struct check){.x = x, .slots = slots, .detail = detail};
    detail[0] = '\0';
    if (!lexical_valid(x)) {
        fault(c, NULL, "not the head of a lexical index");
    } else {
        const struct terms_head *h = terms_head(x);
        check_order(c);
        check_table(c);
        if (c->terms != h->terms || c->postings != h->postings || c->open != postings_head(x)->open) {
            fault(c, NULL, "terms or postings are others than counted");
        }
        if (h->slots > slots) {
            fault(c, NULL, "slots that the library has not");
        }
    }
    uint64_t faults = c->faults;
    free(c);
    return faults;
}

void lexical_each_term(const struct lexical *x, lexical_term_fn fn, void *ctx) {
    bool unmapped = false;
    const struct entry *e = term_at_or_after(x, slice_of(NULL, 0), &unmapped);
    while (e != NULL && fn(ctx, entry_bytes(e), e->hash, e->live)) {
        e = term_next(x, e, &unmapped);
    }
}

/* --- one text --- */

static bool holds_posting(const struct lexical *x, const struct term *t, struct posting wanted, struct open_postings *open) {
    struct term_postings p;
    bool unmapped = false;
    const struct entry *e = term_find(x, t->bytes, t->hash);
    if (e == NULL || !term_postings(x, e, &p, open, &unmapped)) {
        return false;
    }
    for (uint32_t i = 0; i < open->count; i++) {
        if (open->slots[i] == wanted.slot) {
            struct posting found = word_posting(open->counts_lengths[i]);
            return found.count == wanted.count && found.length == wanted.length;
        }
    }
    uint32_t low = 0;
    for (uint32_t high = p.block_count; low < high;) {
        uint32_t middle = low + (high - low) / 2;
        if (p.blocks[middle].last_slot < wanted.slot) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    uint32_t slots[BLOCK_POSTINGS];
    if (low == p.block_count || !block_sound(&p.blocks[low])) {
        return false;
    }
    const struct block *b = &p.blocks[low];
    const uint8_t *data = postings_at(x, b->data, block_bytes(b), &unmapped);
    if (data == NULL) {
        return false;
    }
    block_slots(b, data, low == 0 ? 0 : b[-1].last_slot, slots);
    for (uint32_t i = 0; i < BLOCK_POSTINGS; i++) {
        if (slots[i] == wanted.slot) {
            struct posting found = block_weight(b, data, i);
            return found.count == wanted.count && found.length == wanted.length;
        }
    }
    return false;
}

bool lexical_holds(const struct lexical *x, uint32_t slot, const struct terms *t) {
    struct open_postings open;
    for (uint32_t i = 0; i < t->count; i++) {
        struct posting wanted = {slot, t->items[i].count < LEXICAL_COUNT_MAX ? t->items[i].count : LEXICAL_COUNT_MAX,
                                 t->length < LEXICAL_LENGTH_MAX ? t->length : LEXICAL_LENGTH_MAX};
        if (!holds_posting(x, &t->items[i], wanted, &open)) {
            return false;
        }
    }
    return true;
}
