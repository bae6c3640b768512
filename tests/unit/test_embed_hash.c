/* test_embed_hash.c - hash-384: its bits, its geometry, and the table of models. */
#include "base/bytes.h"
#include "base/hash.h"
#include "embed/embedder.h"
#include "index/distance.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DIMENSION = 384, THREADS = 4, ROUNDS = 200, LONG_TEXT = 1 << 20 };

static struct embedder model;

static int set_up(void **state) {
    (void)state;
    embed_hash_init(&model);
    return 0;
}

static void embed_one(struct slice text, float out[DIMENSION]) {
    struct status st;
    assert_true(model.embed(&model, EMBED_DOCUMENT, &text, 1, out, &st));
}

static double product(const float *a, const float *b) {
    double sum = 0;
    for (size_t i = 0; i < DIMENSION; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static double similarity(const char *a, const char *b) {
    float va[DIMENSION];
    float vb[DIMENSION];
    embed_one(slice_str(a), va);
    embed_one(slice_str(b), vb);
    return product(va, vb);
}

static void unit_length_or_zero(void **state) {
    (void)state;
    static const char *const some[] = {"a", "the", "bread", "How do I tie a bowline?", "\u6771\u4eac", "\U0001f6b2", "0"};
    static const char *const nothing[] = {"", " ", "...!?", "\n\t", "\u0301", "\u3002"};
    float v[DIMENSION];
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        embed_one(slice_str(some[i]), v);
        assert_true(fabs(product(v, v) - 1) < 1e-6);
    }
    for (size_t i = 0; i < sizeof nothing / sizeof nothing[0]; i++) {
        embed_one(slice_str(nothing[i]), v);
        for (size_t k = 0; k < DIMENSION; k++) {
            assert_true(v[k] == 0 && !signbit(v[k]));
        }
    }
}

static void spelling_variants_meet(void **state) {
    (void)state;
    assert_true(similarity("Sailing KNOTS", "sailing knots!") > 0.999999);
    assert_true(similarity("\u00e9t\u00e9", "e\u0301te\u0301") > 0.999999);
    assert_true(similarity("sourdough, bread", "bread sourdough") > 0.999999);
    assert_true(similarity("sailing", "sailed") > 0.3);
    assert_true(similarity("database index", "databases and indexes") > 0.5);
    assert_true(similarity("the sailing of the knots", "sailing knots") > 0.9);
    assert_true(similarity("\u6771\u4eac\u99c5", "\u6771\u4eac\u90fd") > 0.4);
}

static void other_texts_are_far(void **state) {
    (void)state;
    assert_true(fabs(similarity("bicycle chain", "lunar eclipse")) < 0.25);
    assert_true(similarity("how to feed a sourdough starter", "Feed the starter with flour and water every day.") >
                similarity("how to feed a sourdough starter", "A bowline makes a loop that does not slip."));
}

/* A word that comes again counts more, but less than twice. */
static void repetition_is_sublinear(void **state) {
    (void)state;
    double once = similarity("anchor", "anchor rope");
    double twice = similarity("anchor", "anchor anchor rope");
    double often = similarity("anchor", "anchor anchor anchor anchor anchor anchor anchor anchor anchor anchor rope");
    assert_true(once < twice && twice < often && often < 0.99);
}

static void a_batch_is_its_texts(void **state) {
    (void)state;
    const char *const text[] = {"", "one", "a longer text about two things", "\u00fc", "three"};
    enum { TEXTS = sizeof text / sizeof text[0] };
    struct slice slices[TEXTS];
    for (size_t i = 0; i < TEXTS; i++) {
        slices[i] = slice_str(text[i]);
    }
    float batch[TEXTS * DIMENSION];
    struct status st;
    assert_true(model.embed(&model, EMBED_QUERY, slices, TEXTS, batch, &st));
    for (size_t i = 0; i < TEXTS; i++) {
        float alone[DIMENSION];
        embed_one(slices[i], alone);
        assert_memory_equal(alone, batch + i * DIMENSION, sizeof alone);
    }
    assert_true(model.embed(&model, EMBED_QUERY, NULL, 0, NULL, &st));
}

/* Texts over one window: of words, of one word, and with a code point across the window's end. */
static void long_texts(void **state) {
    (void)state;
    static const char *const pieces[] = {"harbour lights and tides ", "x", "\u00e9", "\u6771", "\U0001f6b2"};
    uint8_t *text = malloc(LONG_TEXT);
    assert_non_null(text);
    for (size_t p = 0; p < sizeof pieces / sizeof pieces[0]; p++) {
        size_t len = strlen(pieces[p]);
        size_t used = 0;
        text[used++] = 'y';
        while (used + len <= LONG_TEXT) {
            memcpy(text + used, pieces[p], len);
            used += len;
        }
        float v[DIMENSION];
        embed_one(slice_of(text, used), v);
        assert_true(fabs(product(v, v) - 1) < 1e-6);
        if (p == 0) {
            float few[DIMENSION];
            embed_one(slice_str(pieces[p]), few);
            assert_true(product(v, few) > 0.99);
        }
    }
    free(text);
}

static uint64_t bits_of(const char *text) {
    float v[DIMENSION];
    embed_one(slice_str(text), v);
    uint8_t bytes[4 * DIMENSION];
    for (size_t i = 0; i < DIMENSION; i++) {
        uint32_t word;
        memcpy(&word, &v[i], sizeof word);
        store_u32le(bytes + 4 * i, word);
    }
    return hash64(0, bytes, sizeof bytes);
}

/* The same bits on every machine, with every compiler. When this fails, some vector changed: raise HASH_MODEL_VERSION in
 * hash_model.c (which changes the fingerprint, so that libraries are embedded anew), and only then set the new values here. */
static void golden_vectors(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t bits;
    } golden[] = {
        {"sourdough", 0x447d97bd4662a76b},
        {"The bowline makes a loop that neither slips nor jams; tie it, tie it again, and tie it behind your back.",
         0x4deca4d85a2c5a1c},
        {"Donaudampfschifffahrtsgesellschaftskapit\u00e4n, Stra\u00dfe, \u0141\u00f3d\u017a", 0x50e238c950f575dd},
        {"\u0422\u0435\u043b\u0435\u0441\u043a\u043e\u043f \u0438 \u0437\u0432\u0451\u0437\u0434\u044b", 0x8c2466c165681630},
        {"\u6771\u4eac\u90fd\u306e\u5929\u6c17 \ud55c\uad6d\uc5b4 \U0001f6b2", 0xfa345bfb4ead2bd9},
        {"a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a "
         "a a a "
         "a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a a b",
         0xad5f3745bd840a7b},
    };
    assert_int_equal(model.fingerprint, 0xe5ac4ff75c6b0669);
    for (int k = 0; k < DISTANCE_KERNELS; k++) {
        if (!distance_init(distance_kernel_name((enum distance_kernel)k))) {
            continue; /* the CPU does not have it */
        }
        for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
            uint64_t bits = bits_of(golden[i].text);
            if (bits != golden[i].bits) {
                fail_msg("text %zu has bits 0x%016llx", i, (unsigned long long)bits);
            }
        }
    }
    assert_true(distance_init(NULL));
}

static void *embed_again(void *expected) {
    for (int i = 0; i < ROUNDS; i++) {
        if (bits_of("many threads, one vector") != *(const uint64_t *)expected) {
            return expected;
        }
    }
    return NULL;
}

static void threads_agree(void **state) {
    (void)state;
    uint64_t expected = bits_of("many threads, one vector");
    pthread_t thread[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, embed_again, &expected), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        void *wrong;
        assert_int_equal(pthread_join(thread[i], &wrong), 0);
        assert_null(wrong);
    }
}

static void registry(void **state) {
    (void)state;
    struct embed_registry r;
    struct status st;
    assert_true(embed_registry_init(&r, "hash-384", &st));
    const struct embedder *found = embed_find(&r, slice_str("hash-384"));
    assert_ptr_equal(found, &r.model[r.default_model]);
    assert_string_equal(found->name, "hash-384");
    assert_int_equal(found->dimension, DIMENSION);
    assert_int_equal(found->fingerprint, model.fingerprint);
    assert_null(embed_find(&r, slice_str("none")));
    assert_null(embed_find(&r, slice_str("hash-38")));
    assert_null(embed_find(&r, slice_str("hash-3840")));
    assert_null(embed_find(&r, slice_str("")));
    embed_registry_fini(&r);
    embed_registry_fini(&r);
    embed_registry_fini(NULL);

    struct embed_registry untouched = {.count = 7};
    assert_false(embed_registry_init(&untouched, "gpt", &st));
    assert_int_equal(st.code, STATUS_CONFIG);
    assert_non_null(strstr(st.detail, "gpt"));
    assert_int_equal(untouched.count, 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unit_length_or_zero),
        cmocka_unit_test(spelling_variants_meet),
        cmocka_unit_test(other_texts_are_far),
        cmocka_unit_test(repetition_is_sublinear),
        cmocka_unit_test(a_batch_is_its_texts),
        cmocka_unit_test(long_texts),
        cmocka_unit_test(golden_vectors),
        cmocka_unit_test(threads_agree),
        cmocka_unit_test(registry),
    };
    return cmocka_run_group_tests_name("embed hash", tests, set_up, NULL);
}
