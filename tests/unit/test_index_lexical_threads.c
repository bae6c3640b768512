/*
 * test_index_lexical_threads.c - one writer adds texts while others search: each search finds exactly the texts of its view, also where its map ends before
 * what the writer has made since.
 */
#include "lexical_fixture.h"

#include "shm/atomics.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { TEXTS = 20000, VOCABULARY = 3000, LONGEST = 20, READERS = 3, FILE_BYTES = 48 << 20, BATCH = 7 };

/* What a commit publishes; in the server under the lock. */
struct published {
    uint32_t slots;
    uint64_t terms_used;
    uint64_t postings_used;
};

struct shared {
    struct corpus c;
    pthread_mutex_t lock;
    struct published view;
    uint32_t *first_counts; /* [word * (TEXTS + 1) + n]: texts below n that have the word; for the first words only */
    uint32_t done;
};

enum { COUNTED_WORDS = 40 };

struct reader_thread {
    struct shared *shared;
    uint32_t searches;
    uint32_t unmapped;
    uint32_t wrong;
};

static bool any_slot(const void *ctx, uint32_t slot) {
    (void)ctx;
    (void)slot;
    return true;
}

static void *write_all(void *ctx) {
    struct shared *s = ctx;
    for (uint32_t i = 0; i < TEXTS; i++) {
        const struct corpus_text *t = &s->c.texts[i];
        struct terms terms = corpus_terms(t->words, t->counts, t->distinct, t->length);
        lexical_add(&s->c.x, i, &terms);
        if (i % BATCH == 0 || i + 1 == TEXTS) {
            pthread_mutex_lock(&s->lock);
            s->view = (struct published){i + 1, lexical_terms_used(&s->c.x), lexical_postings_used(&s->c.x)};
            pthread_mutex_unlock(&s->lock);
        }
    }
    store_release_u32(&s->done, 1); /* pairs with the load in read_all: the readers go on for one more search */
    return NULL;
}

/* One word in one view. */
static void search_once(struct reader_thread *r, struct lexical_scratch *scratch, struct scored *hits, uint32_t word) {
    struct shared *s = r->shared;
    uint32_t one = 1;
    struct terms terms = corpus_terms(&word, &one, 1, 1);
    uint64_t scored;
    pthread_mutex_lock(&s->lock);
    struct published view = s->view;
    pthread_mutex_unlock(&s->lock);
    struct lexical x = {.terms = s->c.x.terms, .terms_bytes = view.terms_used, .postings = s->c.x.postings, .postings_bytes = view.postings_used};
    struct lexical_query q = {.terms = &terms,
                              .k1 = LEXICAL_DEFAULT_K1,
                              .b = LEXICAL_DEFAULT_B,
                              .documents = view.slots,
                              .tokens = (uint64_t)view.slots * LONGEST / 2,
                              .slots = view.slots,
                              .accept = {any_slot, NULL}};
    size_t found = lexical_search(&x, &q, TEXTS, scratch, hits, &scored);
    while (found == LEXICAL_UNMAPPED) {
        r->unmapped++;
        x.terms_bytes = lexical_terms_used(&x);
        x.postings_bytes = lexical_postings_used(&x);
        found = lexical_search(&x, &q, TEXTS, scratch, hits, &scored);
    }
    r->wrong += found != s->first_counts[word * (TEXTS + 1) + view.slots];
    for (size_t i = 0; i < found && found <= TEXTS; i++) {
        r->wrong += hits[i].slot >= view.slots || corpus_count_in(&s->c.texts[hits[i].slot], word) == 0;
    }
    r->searches++;
}

static void *read_all(void *ctx) {
    struct reader_thread *r = ctx;
    struct lexical_scratch *scratch = lexical_scratch_new();
    struct scored *hits = calloc(TEXTS, sizeof *hits);
    uint32_t word = 0;
    bool last = false;
    for (; scratch != NULL && hits != NULL && !last; word = (word + 1) % COUNTED_WORDS) {
        last = load_acquire_u32(&r->shared->done) != 0;
        search_once(r, scratch, hits, word);
    }
    free(hits);
    lexical_scratch_free(scratch);
    return NULL;
}

static void count_first_words(struct shared *s) {
    s->first_counts = calloc((size_t)COUNTED_WORDS * (TEXTS + 1), sizeof *s->first_counts);
    assert_non_null(s->first_counts);
    for (uint32_t word = 0; word < COUNTED_WORDS; word++) {
        uint32_t *counts = s->first_counts + (size_t)word * (TEXTS + 1);
        for (uint32_t i = 0; i < TEXTS; i++) {
            counts[i + 1] = counts[i] + (corpus_count_in(&s->c.texts[i], word) > 0);
        }
    }
}

static void test_readers_beside_a_writer(void **unused) {
    struct shared *s = calloc(1, sizeof *s);
    struct reader_thread readers[READERS];
    pthread_t threads[READERS];
    pthread_t writer;
    char detail[160];
    uint32_t searches = 0;
    (void)unused;
    assert_non_null(s);
    corpus_init(&s->c, TEXTS, VOCABULARY, 5);
    corpus_make_texts(&s->c, TEXTS, LONGEST);
    count_first_words(s);
    free(s->c.x.terms);
    free(s->c.x.postings);
    s->c.x = (struct lexical){.terms = calloc(1, FILE_BYTES),
                              .terms_bytes = FILE_BYTES,
                              .postings = calloc(1, FILE_BYTES),
                              .postings_bytes = FILE_BYTES};
    assert_true(s->c.x.terms != NULL && s->c.x.postings != NULL);
    lexical_init(&s->c.x);
    s->view = (struct published){0, lexical_terms_used(&s->c.x), lexical_postings_used(&s->c.x)};
    assert_int_equal(pthread_mutex_init(&s->lock, NULL), 0);
    for (int i = 0; i < READERS; i++) {
        readers[i] = (struct reader_thread){.shared = s};
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, &readers[i]), 0);
    }
    assert_int_equal(pthread_create(&writer, NULL, write_all, s), 0);
    assert_int_equal(pthread_join(writer, NULL), 0);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(readers[i].wrong, 0);
        searches += readers[i].searches;
    }
    assert_true(searches >= READERS);
    s->c.count = TEXTS;
    assert_int_equal(lexical_validate(&s->c.x, TEXTS, detail), 0);
    pthread_mutex_destroy(&s->lock);
    free(s->first_counts);
    corpus_fini(&s->c);
    free(s);
}

/* --- one word, in every text: its open words are overwritten all the time --- */

enum { FAST_TEXTS = 300000, LOOK_BACK = 140 };

struct fast {
    struct lexical x;
    uint32_t slots; /* published by the writer, with release */
    uint32_t missed;
    uint32_t scores;
};

static void *write_fast(void *ctx) {
    struct fast *f = ctx;
    uint32_t word = 0;
    uint32_t one = 1;
    struct terms terms = corpus_terms(&word, &one, 1, 1);
    for (uint32_t i = 0; i < FAST_TEXTS; i++) {
        lexical_add(&f->x, i, &terms);
        store_release_u32(&f->slots, i + 1);
    }
    return NULL;
}

static void *read_fast(void *ctx) {
    struct fast *f = ctx;
    uint32_t word = 0;
    uint32_t one = 1;
    uint32_t missed = 0;
    uint32_t scores = 0;
    struct terms terms = corpus_terms(&word, &one, 1, 1);
    for (uint32_t slots = 0; slots < FAST_TEXTS; scores++) {
        slots = load_acquire_u32(&f->slots);
        struct lexical_query q = {.terms = &terms,
                                  .k1 = LEXICAL_DEFAULT_K1,
                                  .b = LEXICAL_DEFAULT_B,
                                  .documents = slots,
                                  .tokens = slots,
                                  .slots = slots};
        missed += slots > LOOK_BACK && !(lexical_score(&f->x, &q, slots - 1 - scores % LOOK_BACK) > 0);
    }
    (void)__atomic_fetch_add(&f->missed, missed, __ATOMIC_RELAXED);
    (void)__atomic_fetch_add(&f->scores, scores, __ATOMIC_RELAXED);
    return NULL;
}

static void test_overwritten_words(void **unused) {
    struct fast f = {.x = {.terms = calloc(1, FILE_BYTES), .terms_bytes = FILE_BYTES, .postings = calloc(1, FILE_BYTES), .postings_bytes = FILE_BYTES}};
    pthread_t threads[READERS];
    pthread_t writer;
    (void)unused;
    assert_true(f.x.terms != NULL && f.x.postings != NULL);
    lexical_init(&f.x);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_fast, &f), 0);
    }
    assert_int_equal(pthread_create(&writer, NULL, write_fast, &f), 0);
    assert_int_equal(pthread_join(writer, NULL), 0);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(f.missed, 0);
    assert_true(f.scores >= READERS);
    free(f.x.terms);
    free(f.x.postings);
}

/* A view's map that ends before a block list, a table and entries made since: told, and found again with a larger map. */
static void test_short_map(void **unused) {
    struct corpus c;
    struct lexical_scratch *scratch = lexical_scratch_new();
    uint32_t word = 0;
    uint32_t one = 1;
    uint32_t unmapped = 0;
    (void)unused;
    corpus_init(&c, 4000, VOCABULARY, 5);
    for (uint32_t batch = 0; batch < 40; batch++) {
        corpus_add(&c, 50, LONGEST);
        uint32_t slots = c.count;
        uint64_t terms_bytes = lexical_terms_used(&c.x);
        uint64_t postings_bytes = lexical_postings_used(&c.x);
        size_t expected = 0;
        for (uint32_t i = 0; i < slots; i++) {
            expected += corpus_count_in(&c.texts[i], word) > 0;
        }
        corpus_add(&c, 50, LONGEST);
        struct scored *hits = calloc(slots, sizeof *hits);
        uint64_t scored;
        struct terms terms = corpus_terms(&word, &one, 1, 1);
        struct lexical_query q = {.terms = &terms,
                                  .k1 = LEXICAL_DEFAULT_K1,
                                  .b = LEXICAL_DEFAULT_B,
                                  .documents = slots,
                                  .tokens = slots,
                                  .slots = slots,
                                  .accept = {any_slot, NULL}};
        struct lexical x = {.terms = c.x.terms, .terms_bytes = terms_bytes, .postings = c.x.postings, .postings_bytes = postings_bytes};
        assert_non_null(hits);
        size_t found = lexical_search(&x, &q, slots, scratch, hits, &scored);
        if (found == LEXICAL_UNMAPPED) {
            unmapped++;
            bool told = false;
            for (uint32_t i = 0; i < slots; i++) {
                told = told || lexical_score(&x, &q, i) < 0;
            }
            assert_true(told);
            found = lexical_search(&c.x, &q, slots, scratch, hits, &scored);
        }
        assert_int_equal(found, expected);
        free(hits);
    }
    assert_in_range(unmapped, 5, 40);
    lexical_scratch_free(scratch);
    corpus_fini(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readers_beside_a_writer),
        cmocka_unit_test(test_overwritten_words),
        cmocka_unit_test(test_short_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
