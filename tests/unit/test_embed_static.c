/*
 * test_embed_static.c - the bundled model: its bits on every way there is, what it knows, and files that are none.
 *
 * Files of the tests' own have two tokens and sixteen dimensions.
 */
#include "base/bytes.h"
#include "base/hash.h"
#include "base/io.h"
#include "embed/static_model.h"
#include "index/distance.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { THREADS = 4, ROUNDS = 50, LONG_TEXT = 3 << 20, MOST_DIMENSION = 512 };

static struct embedder model;

static int open_bundled(void) {
    int fd = -1;
    struct status st;
    assert_true(io_open_at(AT_FDCWD, STATIC_MODEL, O_RDONLY, 0, &fd, &st));
    return fd;
}

static int set_up(void **state) {
    struct status st;
    (void)state;
    int fd = open_bundled();
    assert_true(distance_init(NULL));
    if (!static_model_init(&model, fd, STATIC_MODEL, MODEL_VERIFY, &st)) {
        fail_msg("%s", st.detail);
    }
    io_close(&fd);
    assert_true(model.dimension <= MOST_DIMENSION);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    static_model_fini(&model);
    static_model_fini(&model);
    static_model_fini(NULL);
    return 0;
}

static void embed_one(const struct embedder *e, struct slice text, float *out) {
    struct status st;
    assert_true(e->embed(e, EMBED_DOCUMENT, &text, 1, out, &st));
}

static double similarity(const char *a, const char *b) {
    float va[MOST_DIMENSION];
    float vb[MOST_DIMENSION];
    double sum = 0;
    embed_one(&model, slice_str(a), va);
    embed_one(&model, slice_str(b), vb);
    for (size_t i = 0; i < model.dimension; i++) {
        sum += (double)va[i] * (double)vb[i];
    }
    return sum;
}

static const char *const texts[] = {"a", "How do I tie a bowline?", "The cat sat on the mat, and the cat sat on the hat.",
                                    "\u00c9t\u00e9 \u6771\u4eac \u0437\u0434\u0440\u0430\u0432\u0441\u0442\u0432\u0443\u0439",
                                    "data data data data base", "0123456789 !?"};
enum { TEXTS = sizeof texts / sizeof texts[0] };

static void unit_length_or_zero(void **state) {
    (void)state;
    static const char *const nothing[] = {"", " ", "\n\t", "\u0301", "\U0001f9ff", "\U0001f9ff \U0001f9ff"};
    float v[MOST_DIMENSION];
    for (size_t i = 0; i < TEXTS; i++) {
        assert_true(fabs(similarity(texts[i], texts[i]) - 1) < 1e-6);
    }
    for (size_t i = 0; i < sizeof nothing / sizeof nothing[0]; i++) {
        embed_one(&model, slice_str(nothing[i]), v);
        for (size_t k = 0; k < model.dimension; k++) {
            assert_true(v[k] == 0 && !signbit(v[k]));
        }
    }
}

static void meanings_meet(void **state) {
    (void)state;
    assert_true(similarity("CAR", "automobile") > 0.5);
    assert_true(similarity("repair a bicycle", "fixing my bike") > 0.4);
    assert_true(similarity("repair a bicycle", "fixing my bike") > similarity("repair a bicycle", "a repair of the budget") + 0.1);
    assert_true(similarity("how do I get rid of mice", "catching rodents in the house") > similarity("how do I get rid of mice", "which mouse fits my computer"));
    assert_true(fabs(similarity("bicycle chain", "lunar eclipse")) < 0.35);
    assert_true(similarity("na\u00efve caf\u00e9", "naive cafe") > 0.999999);
}

/* --- bits ----------------------------------------------------------------------------------------------------------- */

static uint64_t bits_of(const struct embedder *e, struct slice text) {
    float v[MOST_DIMENSION];
    uint8_t bytes[MOST_DIMENSION * 4];
    embed_one(e, text, v);
    for (size_t i = 0; i < e->dimension; i++) {
        uint32_t word;
        memcpy(&word, &v[i], sizeof word);
        store_u32le(bytes + i * sizeof word, word);
    }
    return hash64(0, bytes, (size_t)e->dimension * sizeof(uint32_t));
}

static void same_sums_either_way(void **state) {
    (void)state;
    static_add_fn fast = static_add_avx2();
    int32_t a[64] = {0};
    int32_t b[64] = {0};
    int8_t row[64];
    if (fast == NULL) {
        skip();
    }
    srandom(7);
    for (int round = 0; round < 1000; round++) {
        for (size_t i = 0; i < sizeof row; i++) {
            row[i] = (int8_t)(random() % 256 - 128);
        }
        int16_t weight = (int16_t)(random() % 256);
        int32_t times = (int32_t)(random() % 60);
        uint32_t n = 16U * (uint32_t)(1 + random() % 4);
        static_add_plain(a, row, weight, times, n);
        fast(b, row, weight, times, n);
        assert_memory_equal(a, b, sizeof a);
    }
}

/* Each kernel that the CPU has, forced as an administrator may force it. */
static void same_bits_on_every_way(void **state) {
    (void)state;
    for (int k = 0; k < DISTANCE_KERNELS; k++) {
        if (!distance_kernel_available((enum distance_kernel)k)) {
            continue;
        }
        struct embedder forced;
        struct status st;
        int fd = open_bundled();
        assert_true(distance_init(distance_kernel_name((enum distance_kernel)k)));
        assert_true(static_model_init(&forced, fd, STATIC_MODEL, MODEL_VERIFIED, &st));
        io_close(&fd);
        assert_int_equal(forced.fingerprint, model.fingerprint);
        for (size_t i = 0; i < TEXTS; i++) {
            assert_int_equal(bits_of(&forced, slice_str(texts[i])), bits_of(&model, slice_str(texts[i])));
        }
        static_model_fini(&forced);
    }
    assert_true(distance_init(NULL));
}

/* When this fails because the code changed, raise STATIC_MODEL_VERSION and only then set the new values; with a new model file set them at once. */
static void golden_bits(void **state) {
    (void)state;
    static const uint64_t golden[TEXTS] = {0x590cea8b9d01a444ULL, 0x00022650ac9e9762ULL, 0x2b7babf8e481515dULL, 0x13477c35b56dc873ULL, 0x8a26b73eef2d60d6ULL, 0xce58e7196dbf1ae4ULL};
    assert_string_equal(model.name, "static-en");
    for (size_t i = 0; i < TEXTS; i++) {
        uint64_t bits = bits_of(&model, slice_str(texts[i]));
        if (bits != golden[i]) {
            fail_msg("text %zu has 0x%016llx", i, (unsigned long long)bits);
        }
    }
}

static void *embed_often(void *arg) {
    uint64_t *sum = arg;
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < TEXTS; i++) {
            *sum += bits_of(&model, slice_str(texts[i]));
        }
    }
    return NULL;
}

static void same_bits_in_every_thread(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    uint64_t sums[THREADS] = {0};
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, embed_often, &sums[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(sums[i], sums[0]);
    }
}

/* A batch gives what its texts give alone; millions of tokens, and of different ones, do not overflow. */
static void batches_and_long_texts(void **state) {
    (void)state;
    struct slice batch[TEXTS];
    float out[TEXTS * MOST_DIMENSION];
    float alone[MOST_DIMENSION];
    struct status st;
    for (size_t i = 0; i < TEXTS; i++) {
        batch[i] = slice_str(texts[i]);
    }
    assert_true(model.embed(&model, EMBED_QUERY, batch, TEXTS, out, &st));
    for (size_t i = 0; i < TEXTS; i++) {
        embed_one(&model, batch[i], alone);
        assert_memory_equal(alone, out + i * model.dimension, model.dimension * sizeof(float));
    }

    struct buf text;
    buf_init(&text);
    while (text.len < LONG_TEXT) {
        buf_put_str(&text, "cat ");
    }
    embed_one(&model, slice_str("cat"), alone);
    embed_one(&model, buf_slice(&text), out);
    for (size_t i = 0; i < model.dimension; i++) {
        assert_true(fabsf(out[i] - alone[i]) < 1e-6F);
    }
    buf_reset(&text);
    for (uint32_t i = 0; text.len < LONG_TEXT; i++) {
        buf_printf(&text, "%c%c%u ", 'a' + (int)(i % 26), 'a' + (int)(i / 26 % 26), i);
    }
    embed_one(&model, buf_slice(&text), out);
    double squares = 0;
    for (size_t i = 0; i < model.dimension; i++) {
        squares += (double)out[i] * (double)out[i];
    }
    assert_true(fabs(squares - 1) < 1e-5);
    buf_fini(&text);
}

/* --- files ---------------------------------------------------------------------------------------------------------- */

struct shape {
    uint32_t version;
    uint32_t dimension;
    uint32_t tokens;
    const char *vocabulary; /* tokens of three letters */
    const char *name;
    uint32_t dense_permille;
};

static void put_padding(struct buf *out) {
    buf_put_zero(out, (64 - out->len % 64) % 64);
}

static void make_file(const struct shape *s, struct buf *out) {
    uint8_t digest[32];
    char name[28] = {0};
    uint32_t bytes = (uint32_t)strlen(s->vocabulary);
    uint64_t length = 64 + 64 + (s->tokens > 0 ? 64U : 0) + ((uint64_t)s->tokens * s->dimension + 63) / 64 * 64 + 32;
    memcpy(name, s->name, strlen(s->name));
    buf_reset(out);
    buf_put_str(out, "QUIREMDL");
    buf_put_u32le(out, s->version);
    buf_put_u32le(out, s->dimension);
    buf_put_u32le(out, s->tokens);
    buf_put_u32le(out, bytes);
    buf_put_u64le(out, length);
    buf_put(out, name, sizeof name);
    buf_put_u32le(out, s->dense_permille);
    for (uint32_t i = 1; i <= s->tokens; i++) {
        buf_put_u32le(out, 3 * i);
    }
    buf_put_str(out, s->vocabulary);
    put_padding(out);
    for (uint32_t i = 0; i < s->tokens; i++) {
        buf_put_u8(out, (uint8_t)(100 * (i + 1)));
    }
    put_padding(out);
    for (uint32_t i = 0; i < s->tokens * s->dimension; i++) {
        buf_put_u8(out, i % (s->dimension + 1) == 0 ? 127 : 0);
    }
    put_padding(out);
    sha256(out->data, out->len, digest);
    buf_put(out, digest, sizeof digest);
    assert_true(buf_ok(out));
}

static bool open_bytes(struct slice bytes, struct embedder *out, struct status *st) {
    int fd = memfd_create("model", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(io_pwrite_full(fd, bytes.data, bytes.len, 0, st));
    bool ok = static_model_init(out, fd, "there/it.quire", MODEL_VERIFY, st);
    io_close(&fd);
    return ok;
}

static void refuse(struct slice bytes) {
    struct status st;
    struct embedder untouched = {.dimension = 7};
    assert_false(open_bytes(bytes, &untouched, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    assert_non_null(strstr(st.detail, "there/it.quire"));
    assert_int_equal(untouched.dimension, 7);
}

static const struct shape good = {1, 16, 2, "onetwo", "tiny", 250};

static void a_small_file(void **state) {
    (void)state;
    struct buf file;
    struct embedder tiny;
    struct status st;
    float v[16];
    buf_init(&file);
    make_file(&good, &file);
    assert_true(open_bytes(buf_slice(&file), &tiny, &st));
    assert_string_equal(tiny.name, "tiny");
    assert_int_equal(tiny.dimension, 16);
    assert_true(tiny.dense_weight == 0.25F);
    embed_one(&tiny, slice_str("One"), v);
    assert_true(v[0] == 1 && v[1] == 0);
    embed_one(&tiny, slice_str("one two"), v);
    assert_true(fabsf(v[1] / v[0] - 2) < 1e-6F); /* by their weights */
    embed_one(&tiny, slice_str("one two two"), v);
    assert_true(fabsf(v[1] / v[0] - 2 * 27.0F / 16) < 1e-6F); /* 1 + ln 2, in sixteenths */
    embed_one(&tiny, slice_str("three"), v);
    assert_true(v[0] == 0 && v[1] == 0);

    struct embed_registry r;
    assert_true(embed_registry_init(&r, NULL, &st));
    int fd = open_bundled();
    assert_true(embed_registry_add_file(&r, fd, STATIC_MODEL, MODEL_VERIFY, &st));
    assert_false(embed_registry_add_file(&r, fd, STATIC_MODEL, MODEL_VERIFY, &st));
    assert_int_equal(st.code, STATUS_CONFIG);
    io_close(&fd);
    assert_int_equal(r.count, 2);
    assert_false(embed_registry_prefer(&r, "gpt", &st));
    assert_non_null(strstr(st.detail, "hash-384, static-en"));
    assert_true(embed_registry_prefer(&r, "static-en", &st));
    assert_int_equal(r.default_model, 1);
    embed_registry_fini(&r);
    static_model_fini(&tiny);
    buf_fini(&file);
}

static void fingerprints_follow_the_file(void **state) {
    (void)state;
    struct buf file;
    struct embedder a;
    struct embedder b;
    struct status st;
    struct shape other = good;
    other.vocabulary = "onesix";
    buf_init(&file);
    make_file(&good, &file);
    assert_true(open_bytes(buf_slice(&file), &a, &st));
    make_file(&other, &file);
    assert_true(open_bytes(buf_slice(&file), &b, &st));
    assert_int_not_equal(a.fingerprint, b.fingerprint);
    static_model_fini(&a);
    static_model_fini(&b);
    buf_fini(&file);
}

static void files_that_are_none(void **state) {
    (void)state;
    const struct shape bad[] = {{2, 16, 2, "onetwo", "tiny", 250},  {1, 0, 2, "onetwo", "tiny", 250},   {1, 15, 2, "onetwo", "tiny", 250},
                                {1, 1040, 2, "onetwo", "tiny", 250}, {1, 16, 0, "", "tiny", 250},        {1, 16, 2, "oneone", "tiny", 250},
                                {1, 16, 2, "onetwosix", "tiny", 250}, {1, 16, 2, "one", "tiny", 250},    {1, 16, 2, "onetwo", "", 250},
                                {1, 16, 2, "onetwo", "tiny", 1001}};
    struct buf file;
    buf_init(&file);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        make_file(&bad[i], &file);
        refuse(buf_slice(&file));
    }
    make_file(&good, &file);
    for (size_t i = 0; i < file.len; i++) { /* any byte changed, any length cut */
        file.data[i] ^= 0x40;
        refuse(buf_slice(&file));
        file.data[i] ^= 0x40;
        refuse(slice_of(file.data, i));
    }
    buf_put_u8(&file, 0);
    refuse(buf_slice(&file));
    buf_fini(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unit_length_or_zero),      cmocka_unit_test(meanings_meet),          cmocka_unit_test(same_sums_either_way),
        cmocka_unit_test(same_bits_on_every_way),   cmocka_unit_test(golden_bits),            cmocka_unit_test(same_bits_in_every_thread),
        cmocka_unit_test(batches_and_long_texts),   cmocka_unit_test(a_small_file),           cmocka_unit_test(fingerprints_follow_the_file),
        cmocka_unit_test(files_that_are_none)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
