/*
 * hash.c - hash64 and SHA-256.
 *
 * hash64 folds 16 bytes at a time through one 64 x 64 -> 128 bit multiplication, whose two halves are XORed together (the
 * construction of wyhash and its relatives; the code and the constants here are our own). From 64 bytes on, three
 * independent lanes hide the latency of the multiplication. Its values stand in files: loads are little-endian on every machine,
 * and a change of anything here is a change of the file formats.
 */
#include "base/hash.h"

#include "base/bytes.h"

/* The calls of OpenSSL's new interface allocate for each digest, and so can fail. These do not, and digests are made where nothing may fail: behind the
 * log record of a write. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>
#include <openssl/sha.h>

/* Initial values of SHA-384 and SHA-512 (FIPS 180-4, 5.3.4 and 5.3.5) that are odd: numbers with nothing up their sleeve. */
static const uint64_t K0 = 0xbb67ae8584caa73bULL;
static const uint64_t K1 = 0x3c6ef372fe94f82bULL;
static const uint64_t K2 = 0xa54ff53a5f1d36f1ULL;
static const uint64_t K3 = 0x510e527fade682d1ULL;
static const uint64_t K4 = 0x9b05688c2b3e6c1fULL;

enum { LANE_BYTES = 16, LANES = 3, LANED_FROM = 64 };

__extension__ typedef unsigned __int128 uint128;

static inline uint64_t fold(uint64_t a, uint64_t b) {
    uint128 product = (uint128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t fold_block(const uint8_t *p, uint64_t state, uint64_t key) {
    return fold(load_u64le(p) ^ key, load_u64le(p + 8) ^ state);
}

/* Up to 16 bytes as two words; every byte is in at least one, and lengths are told apart by the caller. */
static void load_short(const uint8_t *p, size_t len, uint64_t *a, uint64_t *b) {
    if (len >= 8) {
        *a = load_u64le(p);
        *b = load_u64le(p + len - 8);
    } else if (len >= 4) {
        *a = load_u32le(p);
        *b = load_u32le(p + len - 4);
    } else if (len > 0) {
        *a = (uint64_t)p[0] << 16 | (uint64_t)p[len / 2] << 8 | p[len - 1];
        *b = 0;
    } else {
        *a = 0;
        *b = 0;
    }
}

uint64_t hash64(uint64_t seed, const void *data, size_t len) {
    const uint8_t *p = (const uint8_t *)data;
    size_t left = len;
    uint64_t state = seed ^ fold(seed ^ K0, K1);
    uint64_t a;
    uint64_t b;

    if (left >= LANED_FROM) {
        uint64_t lane1 = state;
        uint64_t lane2 = state;
        for (; left > LANES * LANE_BYTES; left -= LANES * LANE_BYTES, p += LANES * LANE_BYTES) {
            state = fold_block(p, state, K1);
            lane1 = fold_block(p + LANE_BYTES, lane1, K2);
            lane2 = fold_block(p + 2 * LANE_BYTES, lane2, K3);
        }
        state ^= lane1 ^ lane2;
    }
    for (; left > LANE_BYTES; left -= LANE_BYTES, p += LANE_BYTES) {
        state = fold_block(p, state, K1);
    }
    if (len > LANE_BYTES) {
        /* The last 16 bytes, also when they overlap what was read. */
        a = load_u64le(p + left - LANE_BYTES);
        b = load_u64le(p + left - LANE_BYTES / 2);
    } else {
        load_short(p, len, &a, &b);
    }
    uint128 product = (uint128)(a ^ K2) * (b ^ state);
    return fold((uint64_t)product ^ K3 ^ len, (uint64_t)(product >> 64) ^ K4);
}

void sha256(const void *data, size_t len, uint8_t out[32]) {
    SHA256_CTX c;
    /* None of these fails: all they need is on the stack. */
    (void)SHA256_Init(&c);
    (void)SHA256_Update(&c, data, len);
    (void)SHA256_Final(out, &c);
    OPENSSL_cleanse(&c, sizeof c);
}

void sha256_hex(const void *data, size_t len, char out[65]) {
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[32];
    sha256(data, len, digest);
    for (size_t i = 0; i < sizeof digest; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 0xf];
    }
    out[2 * sizeof digest] = '\0';
}
