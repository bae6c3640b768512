/*
 * hash_model.c - hash-384: signed feature hashing (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning",
 * 2009).
 *
 * A text is a bag of words; a word is a bag of features: itself, and the character n-grams of 3 to 5 letters of "<word>", so that
 * "sailing" and "sailed" meet. A feature's hash chooses one of 384 dimensions and a sign. The texts' scalar product is then that
 * of their bags, but for collisions, whose signs cancel in the mean. It knows spelling and not meaning: "car" and "automobile"
 * stay strangers.
 *
 *   weight of a distinct word   1 + ln(how often it occurs in its window), times 1, or 1/10 for a stop word
 *   its features                the word: 1. Each of its c n-grams: c^(-2/5), three times that for the 4 and 5 letters that
 *                               begin the word
 *   Han, kana, Hangul, emoji    each character 1/4, each pair of neighbours 3/5, no n-grams
 *   each dimension v at last    sign(v) * |v|^(3/4), which tames the few that many features share; then scaled to unit length
 *
 * Chosen by finding a Debian package's long description (12,000 of them) by its one-line title, mean reciprocal rank at 10. Words
 * alone with every weight 1: 0.42; with stop words down: 0.51; n-grams at 0.3 beside them: 0.58; scaled by the length of the
 * word: 0.61; with the power 3/4 and weight on the word's beginning: 0.63. BM25 has 0.76 on the same. German, French, Russian,
 * Japanese descriptions and 12,000 others in English confirm the order of these. Around these values the figures hardly move.
 *
 * The same text must give the same bits on every machine, or an arena copied to another would not match its text. So all is
 * summed in integers (weights are fixed-point, logarithms come from a table), which no order of summation and no compiler can
 * change. Floating point enters at the end, with operations that IEEE 754 rounds correctly: conversion, *, /, sqrt, and one sum
 * in a fixed order, written so that no multiplication can be fused into an addition.
 *
 * Memory is bounded: a text is taken in windows of 64 KiB whose sums are added up, and one scratch serves a whole batch.
 *
 * Whatever changes a vector must raise HASH_MODEL_VERSION. The test with golden vectors fails until that is done.
 */
#include "base/hash.h"
#include "base/utf8.h"
#include "embed/embedder.h"
#include "embed/stop_words.h"
#include "embed/words.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <threads.h>

#if FLT_EVAL_METHOD != 0
#error "hash-384 needs float and double to be evaluated in their own precision (on 32-bit x86: -msse2 -mfpmath=sse)"
#endif

#define HASH_MODEL_VERSION 1
#define HASH_DIMENSION 384
#define HASH_DENSE_WEIGHT 0.1F /* it knows words only, as BM25 does: bench/hybrid */
#define WINDOW_BYTES ((size_t)64 * 1024)
#define GRAM_MIN 3
#define GRAM_MAX 5

/* Weights in units of 1/256. */
#define WEIGHT_WORD 256
#define WEIGHT_STOP_WORD 26
#define WEIGHT_ALONE 64
#define WEIGHT_PAIR 154
/* Times that of other n-grams. */
#define WEIGHT_BEGIN 3

/* 256 * (1 + ln n) for n = 1 to 63, rounded; [0] is not used. Above: half of n, and LN_2 more. */
#define TERM_TABLE 64
#define TERM_LN_2 177
static const int16_t term_weight[TERM_TABLE] = {0,    256,  433,  537,  611,  668,  715,  754,  788,  818,  845,  870,  892,
                                                913,  932,  949,  966,  981,  996,  1010, 1023, 1035, 1047, 1059, 1070, 1080,
                                                1090, 1100, 1109, 1118, 1127, 1135, 1143, 1151, 1159, 1166, 1173, 1180, 1187,
                                                1194, 1200, 1207, 1213, 1219, 1225, 1231, 1236, 1242, 1247, 1252, 1257, 1263,
                                                1268, 1272, 1277, 1282, 1286, 1291, 1295, 1300, 1304, 1308, 1313, 1317};

/* 256 * c^(-2/5), rounded, for the c n-grams of a word of the length that is the index. Above: half of that for a sixth of the
 * length. */
#define GRAM_TABLE 33
#define GRAM_HALVING 6
static const int16_t gram_weight[GRAM_TABLE] = {0,  256, 165, 125, 106, 95, 87, 81, 76, 72, 69, 66, 63, 61, 59, 57, 56,
                                                54, 53,  52,  51,  50,  49, 48, 47, 46, 46, 45, 44, 44, 43, 42, 42};

struct entry {
    struct word word;
    uint32_t count;
};

/* Room for one window. `slots` is an open-addressed table of indexes into entries, plus one; 0 is empty. Of it, a window uses as
 * much as it needs: a power of two, at least twice the entries that it can have. */
struct scratch {
    uint32_t *letters;
    struct entry *entries;
    uint32_t *slots;
    size_t entry_count;
    size_t slot_mask;
};

/* --- stop words ----------------------------------------------------------------------------------------------------- */

#define STOP_SLOTS 2048
static uint64_t stop_hash[STOP_SLOTS]; /* written once, under stop_once */
static once_flag stop_once = ONCE_FLAG_INIT;

static void stop_words_hash(void) {
    uint32_t letters[sizeof stop_words];
    struct word_cursor cursor = word_cursor_of(slice_str(stop_words), letters);
    struct word word;
    while (word_next(&cursor, &word)) {
        size_t at = word.hash % STOP_SLOTS;
        while (stop_hash[at] != 0) {
            at = (at + 1) % STOP_SLOTS;
        }
        stop_hash[at] = word.hash;
    }
}

static bool is_stop_word(uint64_t hash) {
    size_t at = hash % STOP_SLOTS;
    while (stop_hash[at] != 0) {
        if (stop_hash[at] == hash) {
            return true;
        }
        at = (at + 1) % STOP_SLOTS;
    }
    return false;
}

/* --- scratch -------------------------------------------------------------------------------------------------------- */

static void scratch_fini(struct scratch *s) {
    free(s->letters);
    free(s->entries);
    free(s->slots);
}

/* A word needs a byte and one between; a character that stands alone has 3 bytes and makes two entries. */
static size_t entries_of(size_t window) {
    return window * 2 / 3 + 2;
}

static size_t slots_of(size_t window) {
    size_t slots = 64;
    while (slots < 2 * entries_of(window)) {
        slots *= 2;
    }
    return slots;
}

static bool scratch_init(struct scratch *s, size_t text_max, struct status *st) {
    size_t window = text_max < WINDOW_BYTES ? text_max : WINDOW_BYTES;
    *s = (struct scratch){.letters = malloc((window + 1) * sizeof *s->letters),
                          .entries = malloc(entries_of(window) * sizeof *s->entries),
                          .slots = malloc(slots_of(window) * sizeof *s->slots)};
    if (s->letters == NULL || s->entries == NULL || s->slots == NULL) {
        scratch_fini(s);
        (void)status_no_memory(st);
        return false;
    }
    return true;
}

static void scratch_clear(struct scratch *s, size_t window) {
    size_t slots = slots_of(window);
    memset(s->slots, 0, slots * sizeof *s->slots);
    s->slot_mask = slots - 1;
    s->entry_count = 0;
}

static void count_word(struct scratch *s, const struct word *word) {
    size_t at = word->hash & s->slot_mask;
    while (s->slots[at] != 0) {
        struct entry *e = &s->entries[s->slots[at] - 1];
        if (e->word.hash == word->hash) {
            e->count++;
            return;
        }
        at = (at + 1) & s->slot_mask;
    }
    s->entries[s->entry_count++] = (struct entry){*word, 1};
    s->slots[at] = (uint32_t)s->entry_count;
}

/* --- features ------------------------------------------------------------------------------------------------------- */

static int64_t weight_of_count(uint32_t count) {
    int64_t weight = 0;
    while (count >= TERM_TABLE) {
        count /= 2;
        weight += TERM_LN_2;
    }
    return weight + term_weight[count];
}

static int64_t weight_of_grams(uint32_t length) {
    unsigned halvings = 0;
    while (length >= GRAM_TABLE) {
        length /= GRAM_HALVING;
        halvings++;
    }
    return gram_weight[length] >> halvings;
}

/* murmur3's 64-bit finalizer; then 32 bits choose the dimension and another the sign. */
static void add_feature(int64_t *sums, uint64_t h, int64_t weight) {
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdULL;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53ULL;
    h ^= h >> 33;
    size_t dimension = (size_t)((h >> 32) * HASH_DIMENSION >> 32);
    sums[dimension] += (h & 1) != 0 ? weight : -weight;
}

/* The n-grams of "<word>", each hash the one before continued by a letter. The marks are no letters, so nothing else hashes
 * alike. */
static void add_grams(int64_t *sums, const uint32_t *letters, uint32_t length, int64_t weight) {
    const uint32_t begin_mark = '<';
    const uint32_t end_mark = '>';
    const uint64_t multiplier = 0x9e3779b97f4a7c15ULL;
    for (uint32_t first = 0; first + GRAM_MIN <= length + 2; first++) {
        uint64_t h = 0;
        for (uint32_t i = 0; i < GRAM_MAX && first + i < length + 2; i++) {
            uint32_t place = first + i;
            uint32_t letter = place == 0 ? begin_mark : place == length + 1 ? end_mark : letters[place - 1];
            h = (h + letter) * multiplier;
            if (i + 1 >= GRAM_MIN) {
                add_feature(sums, h + i, first == 0 && i + 1 > GRAM_MIN ? weight * WEIGHT_BEGIN : weight);
            }
        }
    }
}

static void add_entry(int64_t *sums, const uint32_t *letters, const struct entry *e) {
    int64_t weight = weight_of_count(e->count);
    if (e->word.kind != WORD_PLAIN) {
        add_feature(sums, e->word.hash, weight * (e->word.kind == WORD_PAIR ? WEIGHT_PAIR : WEIGHT_ALONE));
        return;
    }
    if (is_stop_word(e->word.hash)) {
        add_feature(sums, e->word.hash, weight * WEIGHT_STOP_WORD);
        return;
    }
    add_feature(sums, e->word.hash, weight * WEIGHT_WORD);
    add_grams(sums, letters + e->word.begin, e->word.length, weight * weight_of_grams(e->word.length));
}

/* Adds a window's features to sums. Under 2^40 a window, so the 2^17 windows of 4 GiB cannot overflow. */
static void add_window(struct scratch *s, struct slice window, int64_t *sums) {
    scratch_clear(s, window.len);
    struct word_cursor cursor = word_cursor_of(window, s->letters);
    struct word word;
    while (word_next(&cursor, &word)) {
        count_word(s, &word);
    }
    for (size_t i = 0; i < s->entry_count; i++) {
        add_entry(sums, s->letters, &s->entries[i]);
    }
}

/* How much of text the next window takes: all, or up to white space in its second half, or to a whole code point. */
static size_t window_length(struct slice text) {
    if (text.len <= WINDOW_BYTES) {
        return text.len;
    }
    for (size_t end = WINDOW_BYTES; end > WINDOW_BYTES / 2; end--) {
        if (text.data[end - 1] == ' ' || text.data[end - 1] == '\n') {
            return end;
        }
    }
    return utf8_prefix(text, WINDOW_BYTES);
}

/* sums to a vector of unit length. Each line rounds once: see the top of this file. */
static void finish(const int64_t *sums, float *out) {
    double squares = 0;
    for (size_t i = 0; i < HASH_DIMENSION; i++) {
        float v = (float)(sums[i] < 0 ? -sums[i] : sums[i]);
        float root = sqrtf(v);
        float square = v * root; /* of v^(3/4) */
        squares += (double)square;
        out[i] = sqrtf(square);
    }
    float scale = squares > 0 ? (float)(1 / sqrt(squares)) : 0;
    for (size_t i = 0; i < HASH_DIMENSION; i++) {
        out[i] *= sums[i] < 0 ? -scale : scale;
    }
}

static bool embed_hash(const struct embedder *e, enum embed_role role, const struct slice *texts, size_t count, float *out,
                       struct status *st) {
    (void)e;
    (void)role; /* a query is hashed as a document is, so a text finds itself at distance 0 */
    size_t longest = 0;
    for (size_t i = 0; i < count; i++) {
        longest = texts[i].len > longest ? texts[i].len : longest;
    }
    struct scratch scratch;
    if (!scratch_init(&scratch, longest, st)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        int64_t sums[HASH_DIMENSION] = {0};
        struct slice rest = texts[i];
        while (rest.len > 0) {
            size_t length = window_length(rest);
            add_window(&scratch, slice_of(rest.data, length), sums);
            rest = slice_of(rest.data + length, rest.len - length);
        }
        finish(sums, out + i * HASH_DIMENSION);
    }
    scratch_fini(&scratch);
    return true;
}

void embed_hash_init(struct embedder *out) {
    static const char name[] = "hash-384";
    call_once(&stop_once, stop_words_hash);
    *out = (struct embedder){
        .dimension = HASH_DIMENSION, .where = "in process", .dense_weight = HASH_DENSE_WEIGHT, .embed = embed_hash};
    memcpy(out->name, name, sizeof name);
    out->fingerprint = hash64(HASH_MODEL_VERSION, name, sizeof name - 1);
}
