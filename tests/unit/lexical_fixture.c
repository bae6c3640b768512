/* lexical_fixture.c - see lexical_fixture.h. */
#include "lexical_fixture.h"

#include "base/hash.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

uint64_t corpus_random(struct corpus *c) {
    c->state = c->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return c->state >> 33;
}

static void set_file(uint8_t **file, uint64_t *size, uint64_t bytes) {
    if (bytes > *size) {
        uint8_t *larger = malloc(bytes); /* not realloc: what lies behind is a fault at once */
        assert_non_null(larger);
        memset(larger, CORPUS_FILLING, bytes);
        if (*size > 0) {
            memcpy(larger, *file, *size);
        }
        free(*file);
        *file = larger;
        *size = bytes;
    }
}

void corpus_init(struct corpus *c, uint32_t capacity, uint32_t vocabulary, uint64_t seed) {
    *c = (struct corpus){.capacity = capacity, .vocabulary = vocabulary, .state = seed};
    c->texts = calloc(capacity, sizeof *c->texts);
    assert_non_null(c->texts);
    set_file(&c->x.terms, &c->x.terms_bytes, LEXICAL_TERMS_FIRST_BYTES);
    set_file(&c->x.postings, &c->x.postings_bytes, LEXICAL_POSTINGS_FIRST_BYTES);
    lexical_init(&c->x);
}

void corpus_fini(struct corpus *c) {
    for (uint32_t i = 0; i < c->capacity; i++) {
        free(c->texts[i].words);
        free(c->texts[i].counts);
    }
    free(c->texts);
    free(c->x.terms);
    free(c->x.postings);
}

struct terms corpus_terms(const uint32_t *words, const uint32_t *counts, uint32_t distinct, uint32_t length) {
    static _Thread_local char names[CORPUS_WORDS_MAX][16];
    static _Thread_local struct term items[CORPUS_WORDS_MAX];
    for (uint32_t i = 0; i < distinct; i++) {
        int bytes = snprintf(names[i], sizeof names[i], "w%x", words[i]);
        items[i] = (struct term){slice_of(names[i], (size_t)bytes), hash64(0, names[i], (size_t)bytes), counts[i]};
    }
    return (struct terms){items, distinct, length};
}

uint32_t corpus_word(struct corpus *c) {
    double u = (double)(corpus_random(c) & 0xffffff) / (double)0x1000000;
    return (uint32_t)(pow((double)c->vocabulary + 1, u) - 1);
}

static int by_number(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void random_text(struct corpus *c, struct corpus_text *t, uint32_t longest) {
    uint32_t all[CORPUS_WORDS_MAX];
    *t = (struct corpus_text){.length = (uint32_t)(corpus_random(c) % (longest + 1))};
    t->words = calloc(t->length + 1, sizeof *t->words);
    t->counts = calloc(t->length + 1, sizeof *t->counts);
    assert_true(longest <= CORPUS_WORDS_MAX && t->words != NULL && t->counts != NULL);
    for (uint32_t i = 0; i < t->length; i++) {
        all[i] = corpus_word(c);
    }
    qsort(all, t->length, sizeof *all, by_number);
    for (uint32_t i = 0; i < t->length; i++) {
        if (i == 0 || all[i] != all[i - 1]) {
            t->words[t->distinct++] = all[i];
        }
        t->counts[t->distinct - 1]++;
    }
}

void corpus_make_texts(struct corpus *c, uint32_t texts, uint32_t longest) {
    assert_true(texts <= c->capacity - c->count);
    for (uint32_t i = c->count; i < c->count + texts; i++) {
        random_text(c, &c->texts[i], longest);
    }
}

void corpus_add(struct corpus *c, uint32_t texts, uint32_t longest) {
    corpus_make_texts(c, texts, longest);
    corpus_add_made(c, texts);
}

void corpus_add_made(struct corpus *c, uint32_t texts) {
    struct lexical_need need = {0};
    uint64_t terms_bytes;
    uint64_t postings_bytes;
    for (uint32_t i = c->count; i < c->count + texts; i++) {
        struct corpus_text *t = &c->texts[i];
        struct terms terms = corpus_terms(t->words, t->counts, t->distinct, t->length);
        lexical_need(&c->x, &terms, &need);
    }
    lexical_room(&c->x, &need, &terms_bytes, &postings_bytes);
    set_file(&c->x.terms, &c->x.terms_bytes, terms_bytes);
    set_file(&c->x.postings, &c->x.postings_bytes, postings_bytes);
    for (uint32_t i = c->count; i < c->count + texts; i++) {
        struct corpus_text *t = &c->texts[i];
        struct terms terms = corpus_terms(t->words, t->counts, t->distinct, t->length);
        lexical_add(&c->x, i, &terms);
        c->live++;
        c->tokens += t->length;
    }
    c->count += texts;
    assert_true(lexical_terms_used(&c->x) <= terms_bytes && lexical_postings_used(&c->x) <= postings_bytes);
}

void corpus_delete(struct corpus *c, uint32_t slot) {
    struct corpus_text *t = &c->texts[slot];
    if (!t->deleted) {
        struct terms terms = corpus_terms(t->words, t->counts, t->distinct, t->length);
        lexical_remove(&c->x, &terms);
        t->deleted = true;
        c->live--;
        c->tokens -= t->length;
    }
}

static bool lives(const void *ctx, uint32_t slot) {
    const struct corpus *c = ctx;
    return !c->texts[slot].deleted;
}

struct lexical_query corpus_query(struct corpus *c, uint32_t words, struct terms *terms, uint32_t ids[CORPUS_WORDS_MAX]) {
    uint32_t counts[CORPUS_WORDS_MAX];
    uint32_t distinct = 0;
    for (uint32_t i = 0; i < words; i++) {
        uint32_t word = corpus_word(c);
        uint32_t at = 0;
        while (at < distinct && ids[at] != word) {
            at++;
        }
        if (at == distinct) {
            ids[distinct++] = word;
            counts[at] = 0;
        }
        counts[at]++;
    }
    *terms = corpus_terms(ids, counts, distinct, words);
    return (struct lexical_query){.terms = terms,
                                  .k1 = LEXICAL_DEFAULT_K1,
                                  .b = LEXICAL_DEFAULT_B,
                                  .documents = c->live,
                                  .tokens = c->tokens,
                                  .slots = c->count,
                                  .accept = {lives, c}};
}

uint32_t corpus_count_in(const struct corpus_text *t, uint32_t word) {
    for (uint32_t i = 0; i < t->distinct; i++) {
        if (t->words[i] == word) {
            return t->counts[i];
        }
    }
    return 0;
}

static int best_first(const void *a, const void *b) {
    const struct scored *x = a;
    const struct scored *y = b;
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    return x->slot < y->slot ? -1 : x->slot > y->slot;
}

size_t corpus_reference(const struct corpus *c, const struct lexical_query *q, const uint32_t *ids, const uint32_t *counts,
                        uint32_t distinct, size_t k, struct scored *out) {
    struct scored *all = calloc((size_t)c->count + 1, sizeof *all);
    double *idf = calloc((size_t)distinct + 1, sizeof *idf);
    size_t found = 0;
    assert_true(all != NULL && idf != NULL);
    for (uint32_t i = 0; i < distinct; i++) {
        double df = 0;
        for (uint32_t s = 0; s < c->count; s++) {
            df += !c->texts[s].deleted && corpus_count_in(&c->texts[s], ids[i]) > 0;
        }
        idf[i] = log(1 + ((double)q->documents - df + 0.5) / (df + 0.5));
    }
    double average = q->documents == 0 || q->tokens == 0 ? 1 : (double)q->tokens / (double)q->documents;
    for (uint32_t s = 0; s < q->slots; s++) {
        const struct corpus_text *t = &c->texts[s];
        double score = 0;
        bool any = false;
        for (uint32_t i = 0; i < distinct; i++) {
            double tf = corpus_count_in(t, ids[i]);
            double k1 = (double)q->k1;
            double b = (double)q->b;
            any = any || tf > 0;
            if (tf > 0) {
                score += counts[i] * idf[i] * tf * (k1 + 1) / (tf + k1 * (1 - b + b * t->length / average));
            }
        }
        if (any && q->accept.accepts(q->accept.ctx, s)) {
            all[found++] = (struct scored){(float)score, s};
        }
    }
    qsort(all, found, sizeof *all, best_first);
    found = found < k ? found : k;
    memcpy(out, all, found * sizeof *all);
    free(all);
    free(idf);
    return found;
}
