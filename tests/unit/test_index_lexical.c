/* test_index_lexical.c - the inverted index against BM25 by brute force, while it grows and texts are deleted. */
#include "lexical_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { TEXTS = 3000, VOCABULARY = 2000, MANY = 1000 };
#define TOLERANCE 1e-4F

/* The same scores in the same order; slots may change places only among scores that differ by rounding. */
static void assert_same_best(const struct scored *found, size_t count, const struct scored *expected, size_t expected_count,
                             const struct corpus *c, const struct lexical_query *q) {
    assert_int_equal(count, expected_count);
    for (size_t i = 0; i < count; i++) {
        assert_true(fabsf(found[i].score - expected[i].score) <= TOLERANCE);
        assert_true(lexical_score(&c->x, q, found[i].slot) == found[i].score);
        assert_true(q->prefix.len > 0 || found[i].score <= lexical_ceiling(&c->x, q) + TOLERANCE);
        assert_true(q->accept.accepts(q->accept.ctx, found[i].slot));
        if (i > 0) {
            assert_true(found[i - 1].score > found[i].score ||
                        (found[i - 1].score == found[i].score && found[i - 1].slot < found[i].slot));
        }
        if (found[i].slot != expected[i].slot) {
            assert_true(fabsf(lexical_score(&c->x, q, expected[i].slot) - found[i].score) <= TOLERANCE / 10);
        }
    }
}

static void check_queries(struct corpus *c, struct lexical_scratch *scratch, unsigned queries, float k1, float b) {
    static const size_t ks[] = {1, 3, 10, 100, MANY};
    struct scored *found = calloc(MANY, sizeof *found);
    struct scored *expected = calloc(MANY, sizeof *expected);
    assert_true(found != NULL && expected != NULL);
    for (unsigned i = 0; i < queries; i++) {
        uint32_t ids[CORPUS_WORDS_MAX];
        uint32_t counts[CORPUS_WORDS_MAX];
        struct terms terms;
        uint64_t scored;
        size_t k = ks[i % (sizeof ks / sizeof *ks)];
        struct lexical_query q = corpus_query(c, 1 + i % 13, &terms, ids);
        q.k1 = k1;
        q.b = b;
        for (uint32_t t = 0; t < terms.count; t++) {
            counts[t] = terms.items[t].count;
        }
        size_t count = lexical_search(&c->x, &q, k, scratch, found, &scored);
        size_t expected_count = corpus_reference(c, &q, ids, counts, terms.count, k, expected);
        assert_same_best(found, count, expected, expected_count, c, &q);
    }
    free(found);
    free(expected);
}

static void assert_valid(const struct corpus *c) {
    char detail[160];
    if (lexical_validate(&c->x, c->count, detail) != 0) {
        fail_msg("%s", detail);
    }
}

static void assert_holds_all(const struct corpus *c) {
    for (uint32_t i = 0; i < c->count; i++) {
        const struct corpus_text *t = &c->texts[i];
        struct terms terms = corpus_terms(t->words, t->counts, t->distinct, t->length);
        assert_true(lexical_holds(&c->x, i, &terms));
        if (t->distinct > 0) {
            t->counts[0]++;
            terms = corpus_terms(t->words, t->counts, t->distinct, t->length);
            assert_false(lexical_holds(&c->x, i, &terms));
            t->counts[0]--;
            terms = corpus_terms(t->words, t->counts, t->distinct, t->length);
            assert_false(lexical_holds(&c->x, i + 1, &terms) && t->distinct > 5);
        }
    }
}

/* Batches of many sizes, deletions between: the ten best are those of the formula at every moment. */
static void test_against_brute_force(void **unused) {
    static const uint32_t batches[] = {1, 1, 2, 5, 126, 1, 300, 7, 500, 1000, 900};
    struct corpus c;
    struct lexical_scratch *scratch = lexical_scratch_new();
    (void)unused;
    corpus_init(&c, TEXTS, VOCABULARY, 11);
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        corpus_add(&c, batches[i], i % 3 == 0 ? 200 : 25);
        assert_valid(&c);
        check_queries(&c, scratch, 20, LEXICAL_DEFAULT_K1, LEXICAL_DEFAULT_B);
        for (uint32_t d = 0; d < batches[i] / 3; d++) {
            corpus_delete(&c, (uint32_t)(corpus_random(&c) % c.count));
        }
        assert_valid(&c);
        check_queries(&c, scratch, 20, 0.9F, 0.4F);
    }
    check_queries(&c, scratch, 20, 0, 0.75F);
    check_queries(&c, scratch, 20, 2, 0);
    check_queries(&c, scratch, 20, 3, 1);
    assert_holds_all(&c);
    lexical_scratch_free(scratch);
    corpus_fini(&c);
}

/* The room asked for suffices, and is not far more than is used, for few words and for many, in batches of all sizes. */
static void test_room(void **unused) {
    static const uint32_t vocabularies[] = {2, 20, 60000};
    static const uint32_t batches[] = {1, 1, 1, 1, 1, 1, 1, 1, 64, 1, 130, 127, 128, 700};
    (void)unused;
    for (size_t v = 0; v < sizeof vocabularies / sizeof *vocabularies; v++) {
        struct corpus c;
        corpus_init(&c, 10000, vocabularies[v], v);
        for (uint32_t i = 0; c.count + 700 <= 10000; i++) {
            corpus_add(&c, batches[i % (sizeof batches / sizeof *batches)], v == 2 ? 60 : 5);
        }
        assert_valid(&c);
        assert_true(c.x.terms_bytes <= 2 * lexical_terms_used(&c.x) + LEXICAL_TERMS_FIRST_BYTES);
        corpus_fini(&c);
    }
}

static bool accepts_few(const void *ctx, uint32_t slot) {
    const struct corpus *c = ctx;
    return slot % 37 == 5 && !c->texts[slot].deleted;
}

static bool accepts_none(const void *ctx, uint32_t slot) {
    (void)ctx;
    (void)slot;
    return false;
}

/* A view that counts fewer slots than the index has, and filters that let few through or none. */
static void test_views_and_filters(void **unused) {
    struct corpus c;
    struct lexical_scratch *scratch = lexical_scratch_new();
    struct scored found[20];
    struct scored expected[20];
    uint64_t scored;
    (void)unused;
    corpus_init(&c, TEXTS, VOCABULARY, 12);
    corpus_add(&c, TEXTS, 25);
    for (uint32_t i = 0; i < 200; i++) {
        uint32_t ids[CORPUS_WORDS_MAX];
        uint32_t counts[CORPUS_WORDS_MAX];
        struct terms terms;
        struct lexical_query q = corpus_query(&c, 1 + i % 5, &terms, ids);
        for (uint32_t t = 0; t < terms.count; t++) {
            counts[t] = terms.items[t].count;
        }
        q.accept.accepts = i % 2 == 0 ? accepts_few : q.accept.accepts;
        q.slots = i % 3 == 0 ? TEXTS : i * 10;
        size_t count = lexical_search(&c.x, &q, 20, scratch, found, &scored);
        size_t expected_count = corpus_reference(&c, &q, ids, counts, terms.count, 20, expected);
        assert_same_best(found, count, expected, expected_count, &c, &q);
        q.accept.accepts = accepts_none;
        assert_int_equal(lexical_search(&c.x, &q, 20, scratch, found, &scored), 0);
        assert_int_equal(lexical_search(&c.x, &q, 0, scratch, found, &scored), 0);
    }
    lexical_scratch_free(scratch);
    corpus_fini(&c);
}

static bool begins(uint32_t word, const char *prefix) {
    char name[16];
    snprintf(name, sizeof name, "w%x", word);
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static uint32_t live_texts_with(const struct corpus *c, uint32_t word) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        count += !c->texts[i].deleted && corpus_count_in(&c->texts[i], word) > 0;
    }
    return count;
}

struct frequency {
    char name[16];
    uint32_t word;
    uint32_t live;
};

static int most_frequent_first(const void *a, const void *b) {
    const struct frequency *x = a;
    const struct frequency *y = b;
    if (x->live != y->live) {
        return x->live > y->live ? -1 : 1;
    }
    return strcmp(x->name, y->name);
}

/* The words that a prefix stands for: those with postings, the most frequent first, then by name. */
static uint32_t expand(const struct corpus *c, const char *prefix, uint32_t ids[CORPUS_WORDS_MAX]) {
    struct frequency *all = calloc(VOCABULARY + 1, sizeof *all);
    uint32_t count = 0;
    assert_non_null(all);
    for (uint32_t word = 0; word <= VOCABULARY; word++) {
        bool known = false;
        for (uint32_t i = 0; i < c->count && !known; i++) {
            known = corpus_count_in(&c->texts[i], word) > 0;
        }
        if (known && begins(word, prefix)) {
            all[count] = (struct frequency){"", word, live_texts_with(c, word)};
            snprintf(all[count++].name, sizeof all->name, "w%x", word);
        }
    }
    qsort(all, count, sizeof *all, most_frequent_first);
    count = count < LEXICAL_PREFIX_TERMS ? count : LEXICAL_PREFIX_TERMS;
    for (uint32_t i = 0; i < count; i++) {
        ids[i] = all[i].word;
    }
    free(all);
    return count;
}

static void test_prefix(void **unused) {
    static const char *const prefixes[] = {"w", "w1", "w2f", "w7a0", "v", "wzz", "x", "w10000"};
    struct corpus c;
    struct lexical_scratch *scratch = lexical_scratch_new();
    struct scored found[30];
    struct scored expected[30];
    uint64_t scored;
    (void)unused;
    corpus_init(&c, 600, VOCABULARY, 13);
    corpus_add(&c, 600, 25);
    for (uint32_t i = 0; i < 100; i++) {
        corpus_delete(&c, (uint32_t)(corpus_random(&c) % c.count));
    }
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        uint32_t ids[CORPUS_WORDS_MAX];
        uint32_t counts[CORPUS_WORDS_MAX];
        uint32_t query_ids[CORPUS_WORDS_MAX];
        struct terms terms;
        uint32_t distinct = expand(&c, prefixes[i], ids);
        struct lexical_query q = corpus_query(&c, (uint32_t)i % 3, &terms, query_ids);
        for (uint32_t j = 0; j < distinct; j++) {
            counts[j] = 1;
        }
        for (uint32_t j = 0; j < terms.count; j++) { /* a word of both counts twice */
            counts[distinct] = terms.items[j].count;
            ids[distinct++] = query_ids[j];
        }
        q.prefix = slice_str(prefixes[i]);
        size_t count = lexical_search(&c.x, &q, 30, scratch, found, &scored);
        size_t expected_count = corpus_reference(&c, &q, ids, counts, distinct, 30, expected);
        assert_same_best(found, count, expected, expected_count, &c, &q);
    }
    lexical_scratch_free(scratch);
    corpus_fini(&c);
}

/* Texts that are the same score the same to the bit, and the lower slots come first, whichever term led to them. */
static void test_ties(void **unused) {
    static const uint32_t words[] = {1, 2, 3};
    static const uint32_t counts[] = {1, 2, 1};
    struct corpus c;
    struct lexical_scratch *scratch = lexical_scratch_new();
    struct scored found[300];
    uint64_t scored;
    (void)unused;
    corpus_init(&c, 0, 10, 1);
    free(c.x.terms);
    free(c.x.postings);
    c.x = (struct lexical){
        .terms = calloc(1, 1 << 20), .terms_bytes = 1 << 20, .postings = calloc(1, 1 << 20), .postings_bytes = 1 << 20};
    assert_true(c.x.terms != NULL && c.x.postings != NULL);
    lexical_init(&c.x);
    for (uint32_t i = 0; i < 1000; i++) {
        struct terms t = corpus_terms(words, counts, i % 10 == 0 ? 3 : 2, 10);
        lexical_add(&c.x, i, &t);
        lexical_add(&c.x, i, &t); /* replayed: ignored */
    }
    struct terms terms = corpus_terms(words, (const uint32_t[]){1, 1, 1}, 3, 3);
    struct lexical_query q = {.terms = &terms, .k1 = 1.2F, .b = 0.75F, .documents = 1000, .tokens = 10000, .slots = 1000};
    assert_int_equal(lexical_search(&c.x, &q, 300, scratch, found, &scored), 300);
    for (uint32_t i = 0; i < 300; i++) {
        assert_int_equal(found[i].slot, i < 100 ? i * 10 : (i - 100) / 9 * 10 + (i - 100) % 9 + 1);
        assert_true(found[i].score == found[i < 100 ? 0 : 100].score);
        assert_true(lexical_score(&c.x, &q, found[i].slot) == found[i].score);
    }
    assert_true(lexical_score(&c.x, &q, 1000) == 0);
    struct lexical_statistics s;
    lexical_statistics(&c.x, &s);
    assert_int_equal(s.terms, 3);
    assert_int_equal(s.postings, 2100);
    lexical_scratch_free(scratch);
    corpus_fini(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_brute_force),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_views_and_filters),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_ties),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
