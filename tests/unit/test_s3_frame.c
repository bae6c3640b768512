/* test_s3_frame.c - client-side encryption: sizes around a chunk's, and that truncation, reordering, doubling, other names and each flipped bit are refused. */
#include "s3/frame.h"

#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define NAME "01a2/snapshot/x~00000000000000000001~whole~3~ab~enc"
static const uint8_t key[S3_KEY_BYTES] = {1, 2, 3};
static const uint8_t other_key[S3_KEY_BYTES] = {1, 2, 4};

/* Bytes that follow no simple pattern. */
static uint8_t *make_file(size_t len) {
    uint8_t *file = (uint8_t *)malloc(len + 1);
    uint32_t state = 12345;
    assert_non_null(file);
    for (size_t i = 0; i < len; i++) {
        state = state * 1664525U + 1013904223U;
        file[i] = (uint8_t)(state >> 24);
    }
    return file;
}

static void seal(const char *name, const uint8_t *file, size_t len, struct buf *out) {
    struct frame *f = NULL;
    struct status st = {0};
    size_t at = 0;
    assert_true(frame_new(key, name, len, &f, &st));
    do {
        size_t piece = len - at < FRAME_CHUNK_BYTES ? len - at : FRAME_CHUNK_BYTES;
        assert_true(frame_seal(f, slice_of(file + at, piece), out, &st));
        at += piece;
    } while (at < len);
    assert_int_equal(out->len, frame_stored_bytes(len));
    /* Nothing comes behind the end. */
    assert_false(frame_seal(f, slice_of(file, 0), out, &st));
    frame_free(f);
}

/* In pieces of `step` bytes. */
static bool opens(const uint8_t *with, const char *name, size_t len, struct slice stored, size_t step, struct buf *out, struct status *st) {
    struct frame *f = NULL;
    bool ok = true;
    assert_true(frame_new(with, name, len, &f, st));
    for (size_t at = 0; ok && at < stored.len; at += step) {
        ok = frame_open(f, slice_of(stored.data + at, stored.len - at < step ? stored.len - at : step), out, st);
    }
    ok = ok && frame_opened(f, st);
    frame_free(f);
    return ok;
}

static bool is_refused(struct slice stored, size_t len) {
    struct buf out = {0};
    struct status st = {0};
    bool ok = opens(key, NAME, len, stored, 4096, &out, &st);
    assert_true(ok || st.code == STATUS_CORRUPT || st.code == STATUS_CONFIG);
    assert_true(out.len <= len);
    buf_fini(&out);
    return !ok;
}

static void comes_back_in_all_sizes(void **state) {
    static const size_t sizes[] = {0, 1, 15, 16, FRAME_CHUNK_BYTES - 1, FRAME_CHUNK_BYTES, FRAME_CHUNK_BYTES + 1, 3 * FRAME_CHUNK_BYTES, 3 * FRAME_CHUNK_BYTES + 77};
    static const size_t steps[] = {1, 17, 65552, 1000000};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *file = make_file(sizes[i]);
        struct buf stored = {0};
        struct buf again = {0};
        seal(NAME, file, sizes[i], &stored);
        seal(NAME, file, sizes[i], &again);
        assert_true(slice_equal(buf_slice(&stored), buf_slice(&again))); /* a part that is sent again is what it was */
        for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
            struct buf out = {0};
            struct status st = {0};
            assert_true(opens(key, NAME, sizes[i], buf_slice(&stored), steps[s], &out, &st));
            assert_true(slice_equal(buf_slice(&out), slice_of(file, sizes[i])));
            buf_fini(&out);
        }
        /* What is there to be read says nothing of the text. */
        if (sizes[i] >= 15) {
            assert_null(memmem(stored.data, stored.len, file, sizes[i] < 32 ? sizes[i] : 32));
        }
        buf_fini(&stored);
        buf_fini(&again);
        free(file);
    }
}

static void every_flipped_bit_is_refused(void **state) {
    enum { BYTES = 200 };
    uint8_t *file = make_file(BYTES);
    struct buf stored = {0};
    (void)state;
    seal(NAME, file, BYTES, &stored);
    for (size_t bit = 0; bit < 8 * stored.len; bit++) {
        stored.data[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        assert_true(is_refused(buf_slice(&stored), BYTES));
        stored.data[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    assert_false(is_refused(buf_slice(&stored), BYTES));
    buf_fini(&stored);
    free(file);
}

static void every_truncation_is_refused(void **state) {
    enum { BYTES = 2 * FRAME_CHUNK_BYTES + 5 };
    uint8_t *file = make_file(BYTES);
    struct buf stored = {0};
    (void)state;
    seal(NAME, file, BYTES, &stored);
    size_t chunk = FRAME_CHUNK_BYTES + FRAME_TAG_BYTES;
    size_t cuts[] = {0, 1, FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + chunk, FRAME_HEADER_BYTES + chunk + 1, FRAME_HEADER_BYTES + 2 * chunk, stored.len - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        assert_true(is_refused(slice_of(stored.data, cuts[i]), BYTES));
    }
    /* A name that says that it ends there, too. */
    assert_true(is_refused(slice_of(stored.data, FRAME_HEADER_BYTES + chunk), FRAME_CHUNK_BYTES));
    buf_put_u8(&stored, 0);
    assert_true(is_refused(buf_slice(&stored), BYTES));
    buf_fini(&stored);
    free(file);
}

static void reordered_doubled_and_exchanged_chunks_are_refused(void **state) {
    enum { CHUNKS = 3, BYTES = CHUNKS * FRAME_CHUNK_BYTES };
    size_t chunk = FRAME_CHUNK_BYTES + FRAME_TAG_BYTES;
    uint8_t *file = make_file(BYTES);
    struct buf stored = {0};
    struct buf other = {0};
    (void)state;
    seal(NAME, file, BYTES, &stored);
    seal(NAME "2", file, BYTES, &other);
    for (size_t i = 0; i < CHUNKS; i++) {
        for (size_t j = 0; j < CHUNKS; j++) {
            struct buf mixed = {0};
            buf_put_slice(&mixed, buf_slice(&stored));
            memcpy(mixed.data + FRAME_HEADER_BYTES + i * chunk, stored.data + FRAME_HEADER_BYTES + j * chunk, chunk);
            assert_int_equal(is_refused(buf_slice(&mixed), BYTES), i != j);
            /* The chunk in the same place of the same file under another name. */
            memcpy(mixed.data + FRAME_HEADER_BYTES + i * chunk, other.data + FRAME_HEADER_BYTES + i * chunk, chunk);
            assert_true(is_refused(buf_slice(&mixed), BYTES));
            buf_fini(&mixed);
        }
    }
    assert_true(is_refused(buf_slice(&other), BYTES));
    buf_fini(&stored);
    buf_fini(&other);
    free(file);
}

static void another_key_is_named_as_such(void **state) {
    struct buf stored = {0};
    struct buf out = {0};
    struct status st = {0};
    (void)state;
    seal(NAME, (const uint8_t *)"abc", 3, &stored);
    assert_false(opens(other_key, NAME, 3, buf_slice(&stored), 4096, &out, &st));
    assert_int_equal(st.code, STATUS_CONFIG);
    assert_non_null(strstr(st.detail, "another key"));
    assert_false(opens(key, NAME, 4, buf_slice(&stored), 4096, &out, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    assert_int_equal(out.len, 0);
    buf_fini(&stored);
    buf_fini(&out);
}

static void a_file_that_changes_is_not_sealed(void **state) {
    struct frame *f = NULL;
    struct buf out = {0};
    struct status st = {0};
    (void)state;
    assert_true(frame_new(key, NAME, 10, &f, &st));
    assert_false(frame_seal(f, slice_str("short"), &out, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    frame_free(f);
    assert_false(frame_new(key, NAME, UINT64_MAX, &f, &st));
    assert_int_equal(st.code, STATUS_TOO_LARGE);
    buf_fini(&out);
}

static void the_hash_in_a_name_needs_the_key(void **state) {
    uint8_t sum[FRAME_HASH_BYTES];
    uint8_t a[FRAME_HASH_BYTES];
    uint8_t b[FRAME_HASH_BYTES];
    struct status st = {0};
    (void)state;
    sha256("abc", 3, sum);
    assert_true(frame_hash(key, sum, a, &st) && frame_hash(other_key, sum, b, &st));
    assert_memory_not_equal(a, sum, sizeof a);
    assert_memory_not_equal(a, b, sizeof a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back_in_all_sizes),
        cmocka_unit_test(every_flipped_bit_is_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(reordered_doubled_and_exchanged_chunks_are_refused),
        cmocka_unit_test(another_key_is_named_as_such),
        cmocka_unit_test(a_file_that_changes_is_not_sealed),
        cmocka_unit_test(the_hash_in_a_name_needs_the_key),
    };
    return cmocka_run_group_tests_name("s3_frame", tests, NULL, NULL);
}
