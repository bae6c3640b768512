/*
 * filter.c - a tree of conditions to a set of slots.
 *
 * Leaves come from what was found before (filter_cache.c), extended where the library has grown. Inner nodes are word-wise and, or, not over plain bit
 * sets, one buffer for each level of the tree that is under way. A leaf's words may lie in the cache; the next leaf may push it out, so an inner node copies
 * its first child before it asks for the second.
 */
#include "store/filter_internal.h"

#include <stdlib.h>

#define LEVELS_MAX 520   /* of json_max_depth the most, and some */
#define KEEP_WORDS 65536 /* larger buffers of the inner levels are given back after use */

struct filter_cache {
    struct findings *findings;
    struct record_reader *records;
    struct buf key;
    uint64_t *levels[LEVELS_MAX];
    uint64_t *spare;
    uint32_t room; /* words of each buffer */
};

struct filter_cache *filter_cache_new(uint64_t max_bytes) {
    struct filter_cache *c = (struct filter_cache *)calloc(1, sizeof *c);
    if (c == NULL) {
        return NULL;
    }
    c->findings = findings_new(max_bytes);
    c->records = record_reader_new();
    if (c->findings == NULL || c->records == NULL) {
        filter_cache_free(c);
        return NULL;
    }
    return c;
}

static void free_levels(struct filter_cache *c, unsigned from) {
    for (unsigned i = from; i < LEVELS_MAX && c->levels[i] != NULL; i++) {
        free(c->levels[i]);
        c->levels[i] = NULL;
    }
}

void filter_cache_free(struct filter_cache *c) {
    if (c == NULL) {
        return;
    }
    findings_free(c->findings);
    record_reader_free(c->records);
    buf_fini(&c->key);
    free_levels(c, 0);
    free(c->spare);
    free(c);
}

/* --- buffers --- */

static bool begin_buffers(struct filter_cache *c, uint32_t words, struct status *st) {
    if (words > c->room || c->spare == NULL) {
        free_levels(c, 0);
        free(c->spare);
        c->room = words + words / 8 + 1;
        c->spare = (uint64_t *)malloc(c->room * sizeof *c->spare);
    }
    return c->spare != NULL || status_no_memory(st);
}

static uint64_t *level_words(struct filter_cache *c, unsigned level) {
    if (c->levels[level] == NULL) {
        c->levels[level] = (uint64_t *)malloc(c->room * sizeof(uint64_t));
    }
    return c->levels[level];
}

/* --- nodes --- */

#define COUNT_UNKNOWN UINT64_MAX

struct answer {
    const uint64_t *words;
    uint64_t count; /* or COUNT_UNKNOWN */
};

struct walk {
    struct filter_cache *cache;
    struct evaluation e;
    struct status *st;
};

/* What was found before and covers fewer slots. `words` is a buffer. */
static bool extend_leaf(struct walk *w, const struct filter *f, struct finding *x, uint32_t known, uint64_t *words,
                        struct answer *ret) {
    struct findings *all = w->cache->findings;
    uint32_t slots = w->e.slots;
    uint32_t from = known / WORD_SLOTS * WORD_SLOTS;
    if (!leaf_evaluate(&w->e, f, from, words, w->st)) {
        return false;
    }
    x = findings_extend(all, x, words, slots);
    if (x != NULL) {
        *ret = (struct answer){.words = finding_words(x, slots, words), .count = finding_count(x)};
        return true;
    }
    if (from > 0 && !leaf_evaluate(&w->e, f, 0, words, w->st)) {
        return false;
    }
    *ret = (struct answer){.words = words, .count = COUNT_UNKNOWN};
    return true;
}

static bool answer_leaf(struct walk *w, const struct filter *f, uint64_t *words, struct answer *ret) {
    struct filter_cache *c = w->cache;
    uint32_t slots = w->e.slots;
    uint32_t known = 0;
    findings_key(&w->e.rd->view, f, &c->key);
    if (!buf_check(&c->key, w->st)) {
        return false;
    }
    struct finding *x = findings_find(c->findings, buf_slice(&c->key), &known);
    if (x != NULL && known < slots) {
        return extend_leaf(w, f, x, known, words, ret);
    }
    if (x == NULL || known > slots) { /* more is known than an older view counts: that one is answered by itself */
        if (!leaf_evaluate(&w->e, f, 0, words, w->st)) {
            return false;
        }
        *ret = (struct answer){.words = words, .count = COUNT_UNKNOWN};
        if (x == NULL) {
            x = findings_add(c->findings, buf_slice(&c->key), words, slots);
            ret->count = x != NULL ? finding_count(x) : COUNT_UNKNOWN;
        }
        return true;
    }
    *ret = (struct answer){.words = finding_words(x, slots, words), .count = finding_count(x)};
    return true;
}

static void combine(enum filter_kind kind, uint64_t *into, const uint64_t *more, uint32_t words) {
    if (kind == FILTER_AND) {
        for (uint32_t i = 0; i < words; i++) {
            into[i] &= more[i];
        }
    } else {
        for (uint32_t i = 0; i < words; i++) {
            into[i] |= more[i];
        }
    }
}

/* Clears the bits at and above the slots. */
static void trim(uint64_t *words, uint32_t slots) {
    if (slots % WORD_SLOTS != 0) {
        words[slots / WORD_SLOTS] &= (UINT64_C(1) << (slots % WORD_SLOTS)) - 1;
    }
}

static bool answer_node(struct walk *w, const struct filter *f, unsigned level, struct answer *ret);

static bool answer_many(struct walk *w, const struct filter *f, unsigned level, uint64_t *words, struct answer *ret) {
    uint32_t count = words_for(w->e.slots);
    if (f->count == 0) {
        memset(words, f->kind == FILTER_AND ? 0xff : 0, count * sizeof *words);
        trim(words, w->e.slots);
    }
    for (uint32_t i = 0; i < f->count; i++) {
        struct answer child;
        if (!answer_node(w, f->children[i], level + 1, &child)) {
            return false;
        }
        if (i == 0) {
            memcpy(words, child.words, count * sizeof *words);
        } else {
            combine(f->kind, words, child.words, count);
        }
    }
    *ret = (struct answer){.words = words, .count = COUNT_UNKNOWN};
    return true;
}

static bool answer_not(struct walk *w, const struct filter *f, unsigned level, uint64_t *words, struct answer *ret) {
    struct answer child;
    if (!answer_node(w, f->children[0], level + 1, &child)) {
        return false;
    }
    for (uint32_t i = 0; i < words_for(w->e.slots); i++) {
        words[i] = ~child.words[i];
    }
    trim(words, w->e.slots);
    *ret = (struct answer){.words = words, .count = child.count == COUNT_UNKNOWN ? COUNT_UNKNOWN : w->e.slots - child.count};
    return true;
}

static bool answer_node(struct walk *w, const struct filter *f, unsigned level, struct answer *ret) {
    if (level >= LEVELS_MAX) {
        return status_set(w->st, STATUS_INVALID, "a filter may be nested %d levels deep", LEVELS_MAX);
    }
    uint64_t *words = level_words(w->cache, level);
    if (words == NULL) {
        return status_no_memory(w->st);
    }
    switch (f->kind) {
    case FILTER_LEAF:
        return answer_leaf(w, f, words, ret);
    case FILTER_NOT:
        return answer_not(w, f, level, words, ret);
    default:
        return answer_many(w, f, level, words, ret);
    }
}

bool filter_evaluate(struct filter_cache *cache, const struct reading *rd, const struct filter *f, struct slot_set *ret,
                     struct status *st) {
    struct walk w = {.cache = cache, .e = {.rd = rd, .slots = rd->view.chunk_slots, .records = cache->records}, .st = st};
    struct answer answer;
    uint32_t words = words_for(w.e.slots);
    if (!begin_buffers(cache, words, st)) {
        return false;
    }
    w.e.spare = cache->spare;
    w.e.columns = arena_columns(rd->arena);
    w.e.has_columns = columns_readable(&w.e.columns);
    record_reader_begin(cache->records, rd);
    bool ok = answer_node(&w, f, 0, &answer);
    if (words > KEEP_WORDS) {
        free_levels(cache, 2);
    }
    if (!ok) {
        return false;
    }
    uint64_t count = answer.count == COUNT_UNKNOWN ? count_bits(answer.words, words) : answer.count;
    *ret = (struct slot_set){.words = answer.words, .slots = w.e.slots, .count = count};
    return true;
}
