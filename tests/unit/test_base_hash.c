/* CRC-32C against RFC 3720 and against itself, hash64 against values that stand in files, SHA-256 against FIPS 180. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/hash.h"

#include <openssl/crypto.h>
#include <stdlib.h>

static uint64_t next_random(uint64_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static uint8_t *random_bytes(size_t len) {
    uint64_t x = 88172645463325252U;
    uint8_t *bytes = (uint8_t *)malloc(len);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)next_random(&x);
    }
    return bytes;
}

/* RFC 3720, appendix B.4. */
static void crc32c_matches_the_rfc(void **state) {
    (void)state;
    uint8_t block[32];
    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(crc32c(0, "", 0), 0);
    memset(block, 0, sizeof block);
    assert_int_equal(crc32c(0, block, sizeof block), 0x8A9136AA);
    memset(block, 0xFF, sizeof block);
    assert_int_equal(crc32c(0, block, sizeof block), 0x62A8AB43);
    for (size_t i = 0; i < sizeof block; i++) {
        block[i] = (uint8_t)i;
    }
    assert_int_equal(crc32c(0, block, sizeof block), 0x46DD794E);
    assert_int_equal(crc32c_portable(0, block, sizeof block), 0x46DD794E);
    for (size_t i = 0; i < sizeof block; i++) {
        block[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(crc32c(0, block, sizeof block), 0x113FDB5C);
    assert_int_equal(crc32c_portable(0, block, sizeof block), 0x113FDB5C);
}

/* Every length around the lanes of the hardware path, and every alignment. */
static void crc32c_is_one_function(void **state) {
    (void)state;
    enum { LEN = 40000 };
    uint8_t *bytes = random_bytes(LEN);
    uint64_t x = 1;
    for (size_t len = 0; len < 1300; len++) {
        assert_int_equal(crc32c(0, bytes + len % 9, len), crc32c_portable(0, bytes + len % 9, len));
    }
    for (int i = 0; i < 1000; i++) {
        size_t from = next_random(&x) % 64;
        size_t len = next_random(&x) % (LEN - 64);
        uint32_t start = (uint32_t)next_random(&x);
        assert_int_equal(crc32c(start, bytes + from, len), crc32c_portable(start, bytes + from, len));
    }
    free(bytes);
}

static void crc32c_continues(void **state) {
    (void)state;
    enum { LEN = 20000 };
    uint8_t *bytes = random_bytes(LEN);
    uint32_t whole = crc32c(0, bytes, LEN);
    for (size_t cut = 0; cut <= LEN; cut += 97) {
        assert_int_equal(crc32c(crc32c(0, bytes, cut), bytes + cut, LEN - cut), whole);
    }
    bytes[LEN / 2] ^= 1;
    assert_int_not_equal(crc32c(0, bytes, LEN), whole);
    free(bytes);
}

/* Computed once by another implementation of the description in hash.c. They stand in files: never change them. */
static void hash64_keeps_its_values(void **state) {
    (void)state;
    static const struct {
        uint64_t seed;
        size_t len;
        uint64_t hash;
    } known[] = {
        {0, 0, UINT64_C(0x44d350c13ff43f69)},   {0, 1, UINT64_C(0x11c487419e09c6b1)},    {1, 3, UINT64_C(0x901ae8b9f877bccd)},
        {2, 4, UINT64_C(0x23fd3d619a4c6525)},   {3, 7, UINT64_C(0xbb539899991db9dd)},    {4, 8, UINT64_C(0xce4256d81d0339b9)},
        {5, 16, UINT64_C(0xb15eff38ea6b50f9)},  {6, 17, UINT64_C(0x2bc99750583a4637)},   {7, 48, UINT64_C(0x28e79312af62fda9)},
        {8, 63, UINT64_C(0x3779e473a6412860)},  {9, 64, UINT64_C(0x570f2a84d85508c3)},   {10, 65, UINT64_C(0x29d2202157fe863e)},
        {11, 97, UINT64_C(0xfed2270ae7beb3a4)}, {12, 300, UINT64_C(0xaadbb7f481175525)},
    };
    uint8_t bytes[300];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 7 + 1);
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_true(hash64(known[i].seed, bytes, known[i].len) == known[i].hash);
    }
}

/* Any bit of text or seed changes about half of the bits of the hash: over many trials each output bit flips 40 to 60 times in
 * 100. */
static void hash64_mixes(void **state) {
    (void)state;
    enum { TRIALS = 2000 };
    uint64_t x = 7;
    for (size_t len = 1; len <= 130; len += len < 20 ? 1 : 11) {
        unsigned flips[64] = {0};
        uint8_t bytes[130];
        for (int t = 0; t < TRIALS; t++) {
            for (size_t i = 0; i < len; i++) {
                bytes[i] = (uint8_t)next_random(&x);
            }
            uint64_t seed = next_random(&x);
            uint64_t before = hash64(seed, bytes, len);
            size_t bit = next_random(&x) % (len * 8);
            bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
            uint64_t changed = before ^ hash64(seed, bytes, len);
            for (unsigned i = 0; i < 64; i++) {
                flips[i] += (unsigned)(changed >> i & 1);
            }
        }
        for (unsigned i = 0; i < 64; i++) {
            assert_in_range(flips[i], TRIALS * 40 / 100, TRIALS * 60 / 100);
        }
    }
}

static int compare_u64(const void *a, const void *b) {
    const uint64_t *x = (const uint64_t *)a;
    const uint64_t *y = (const uint64_t *)b;
    return *x < *y ? -1 : *x > *y;
}

static void hash64_does_not_collide_on_counters(void **state) {
    (void)state;
    enum { COUNT = 300000 };
    uint64_t *hashes = (uint64_t *)calloc(COUNT, sizeof *hashes);
    unsigned *buckets = (unsigned *)calloc(1024, sizeof *buckets);
    assert_non_null(hashes);
    assert_non_null(buckets);
    for (uint32_t i = 0; i < COUNT; i++) {
        hashes[i] = hash64(0, &i, sizeof i);
        buckets[hashes[i] % 1024]++;
        buckets[hashes[i] >> 54]++;
    }
    for (int i = 0; i < 1024; i++) {
        assert_in_range(buckets[i], 2 * COUNT / 1024 * 3 / 4, 2 * COUNT / 1024 * 5 / 4);
    }
    qsort(hashes, COUNT, sizeof *hashes, compare_u64);
    for (size_t i = 1; i < COUNT; i++) {
        assert_true(hashes[i] != hashes[i - 1]);
    }
    free(hashes);
    free(buckets);
}

static void sha256_matches_fips(void **state) {
    (void)state;
    char hex[65];
    sha256_hex("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_hex(NULL, 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    uint8_t raw[32];
    sha256("abc", 3, raw);
    assert_int_equal(raw[0], 0xba);
    assert_int_equal(raw[31], 0xad);
}

/* An op is applied behind its log record, where nothing may fail any more, and that computes digests. */
static bool no_memory;
static void *allocate(size_t bytes, const char *file, int line) {
    (void)file;
    (void)line;
    return no_memory ? NULL : malloc(bytes);
}
static void *reallocate(void *old, size_t bytes, const char *file, int line) {
    (void)file;
    (void)line;
    return no_memory ? NULL : realloc(old, bytes);
}
static void release(void *memory, const char *file, int line) {
    (void)file;
    (void)line;
    free(memory);
}

static void sha256_needs_no_memory(void **state) {
    (void)state;
    char hex[65];
    no_memory = true;
    sha256_hex("abc", 3, hex);
    no_memory = false;
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

int main(void) {
    if (CRYPTO_set_mem_functions(allocate, reallocate, release) != 1) {
        return EXIT_FAILURE; /* libcrypto has begun already */
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_matches_the_rfc), cmocka_unit_test(crc32c_is_one_function),
        cmocka_unit_test(crc32c_continues),       cmocka_unit_test(hash64_keeps_its_values),
        cmocka_unit_test(hash64_mixes),           cmocka_unit_test(hash64_does_not_collide_on_counters),
        cmocka_unit_test(sha256_needs_no_memory), cmocka_unit_test(sha256_matches_fips),
    };
    return cmocka_run_group_tests_name("base hash", tests, NULL, NULL);
}
