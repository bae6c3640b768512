/*
 * crc32c.c - CRC-32C by the SSE4.2 instruction, or by tables (slicing by eight) where there is none.
 *
 * The instruction takes eight bytes, can start in every cycle, and answers three cycles later, so one chain of it reaches a third
 * of the speed. The hardware path therefore runs three chains over three neighbouring lanes of a block, and joins them: with
 * lanes of n bytes
 *
 *     crc(A B C) = shift(crc A, 2n) ^ shift(crc B, n) ^ crc C,        shift(c, m) = c * x^(8m) mod P
 *
 * A carry-less multiplication by the constant x^(8m - 33) mod P leaves 64 bits; feeding them to the crc32 instruction multiplies
 * by x^32 and reduces mod P in one step (one more x comes from the reflection of the bits: two 32-bit operands give 63 bits, not
 * 64). The constants are computed once from P, by the code below, instead of being copied from a table that nobody can check.
 */
#include "base/crc32c.h"

#include "base/bytes.h"

#include <pthread.h>

/* The polynomial 0x1EDC6F41 with its bits reflected: bit 31 is x^0. */
#define POLYNOMIAL 0x82F63B78u
#define X_TO_0 0x80000000u
enum { SLICES = 8, LONG_LANE = 2048, SHORT_LANE = 128, LANES = 3 };

/* Written once under tables_once, then only read. */
static uint32_t tables[SLICES][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static uint32_t times_x(uint32_t v) {
    return v >> 1 ^ ((v & 1) != 0 ? POLYNOMIAL : 0);
}

static void fill_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t v = byte;
        for (int bit = 0; bit < 8; bit++) {
            v = times_x(v);
        }
        tables[0][byte] = v;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        for (int slice = 1; slice < SLICES; slice++) {
            uint32_t before = tables[slice - 1][byte];
            tables[slice][byte] = before >> 8 ^ tables[0][before & 0xff];
        }
    }
}

static uint32_t eight_bytes(uint32_t crc, const uint8_t *p) {
    uint32_t low = crc ^ load_u32le(p);
    uint32_t high = load_u32le(p + 4);
    return tables[7][low & 0xff] ^ tables[6][low >> 8 & 0xff] ^ tables[5][low >> 16 & 0xff] ^ tables[4][low >> 24] ^
           tables[3][high & 0xff] ^ tables[2][high >> 8 & 0xff] ^ tables[1][high >> 16 & 0xff] ^ tables[0][high >> 24];
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len) {
    const uint8_t *p = (const uint8_t *)data;
    (void)pthread_once(&tables_once, fill_tables);
    crc = ~crc;
    for (; len >= 8; len -= 8, p += 8) {
        crc = eight_bytes(crc, p);
    }
    for (; len > 0; len--, p++) {
        crc = crc >> 8 ^ tables[0][(crc ^ *p) & 0xff];
    }
    return ~crc;
}

#if defined(__x86_64__)

#include <immintrin.h>

/* What moves a lane's CRC over the lanes behind it. */
struct lane_shift {
    size_t lane;
    uint64_t over_one;
    uint64_t over_two;
};

/* Written once under hardware_once, then only read. */
static struct lane_shift long_shift;
static struct lane_shift short_shift;
static bool hardware;
static pthread_once_t hardware_once = PTHREAD_ONCE_INIT;

static uint32_t x_to(size_t power) {
    uint32_t v = X_TO_0;
    for (; power > 0; power--) {
        v = times_x(v);
    }
    return v;
}

static struct lane_shift shift_for(size_t lane) {
    return (struct lane_shift){.lane = lane, .over_one = x_to(8 * lane - 33), .over_two = x_to(16 * lane - 33)};
}

static void probe_hardware(void) {
    __builtin_cpu_init();
    long_shift = shift_for(LONG_LANE);
    short_shift = shift_for(SHORT_LANE);
    hardware = __builtin_cpu_supports("sse4.2") != 0 && __builtin_cpu_supports("pclmul") != 0;
}

__attribute__((target("sse4.2,pclmul"))) static inline uint64_t shifted(uint64_t crc, uint64_t by) {
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc), _mm_cvtsi64_si128((long long)by), 0);
    return _mm_crc32_u64(0, (unsigned long long)_mm_cvtsi128_si64(product));
}

/* One block of three lanes. */
__attribute__((target("sse4.2,pclmul"))) static inline uint64_t three_lanes(uint64_t crc, const uint8_t *p,
                                                                            const struct lane_shift *shift) {
    uint64_t crc1 = 0;
    uint64_t crc2 = 0;
    for (const uint8_t *end = p + shift->lane; p < end; p += 8) {
        crc = _mm_crc32_u64(crc, load_u64le(p));
        crc1 = _mm_crc32_u64(crc1, load_u64le(p + shift->lane));
        crc2 = _mm_crc32_u64(crc2, load_u64le(p + 2 * shift->lane));
    }
    return shifted(crc, shift->over_two) ^ shifted(crc1, shift->over_one) ^ crc2;
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t crc32c_hardware(uint32_t start, const uint8_t *p, size_t len) {
    uint64_t crc = (uint32_t)~start;
    for (; len >= LANES * LONG_LANE; len -= LANES * LONG_LANE, p += LANES * LONG_LANE) {
        crc = three_lanes(crc, p, &long_shift);
    }
    for (; len >= LANES * SHORT_LANE; len -= LANES * SHORT_LANE, p += LANES * SHORT_LANE) {
        crc = three_lanes(crc, p, &short_shift);
    }
    for (; len >= 8; len -= 8, p += 8) {
        crc = _mm_crc32_u64(crc, load_u64le(p));
    }
    uint32_t rest = (uint32_t)crc;
    for (; len > 0; len--, p++) {
        rest = _mm_crc32_u8(rest, *p);
    }
    return ~rest;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len) {
    (void)pthread_once(&hardware_once, probe_hardware);
    return hardware ? crc32c_hardware(crc, (const uint8_t *)data, len) : crc32c_portable(crc, data, len);
}

#else

uint32_t crc32c(uint32_t crc, const void *data, size_t len) {
    return crc32c_portable(crc, data, len);
}

#endif
