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
        struct lexical_query q = corpus_query(c, 1 + i % 7, &terms, ids);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_brute_force),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
