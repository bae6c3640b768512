/*
 * codes_x86.c - dot products with planes of 4-bit parts: AVX2, and AVX-512 with VNNI; rounding for codes: AVX2. See codes.h for the layout.
 *
 * AVX2: maddubs adds two products of at most 15 * 127 in 16 bits, and eight such sums fit before they must be widened; one line gives
 * four. The integers are those of the plain kernel, in whatever order.
 */
#include "index/distance_internal.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define WITH_AVX2 __attribute__((target("avx2")))
#define WITH_VNNI __attribute__((target("avx512f,avx512bw,avx512vnni")))

enum { AVX2_BYTES = 32, AVX2_FLOATS = 8, PART_BITS = 4, PART_MASK = 15 };

WITH_AVX2 static inline __m256i load_avx2(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

WITH_AVX2 static inline int32_t total_avx2(__m256i v) {
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

WITH_AVX2 static inline int32_t plane_dot_avx2(const int8_t *query, const uint8_t *plane, uint32_t plane_bytes) {
    const __m256i mask = _mm256_set1_epi8(PART_MASK);
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum = _mm256_setzero_si256();

    for (uint32_t at = 0; at < plane_bytes; at += CODE_PLANE_LINE) {
        const int8_t *q = query + 2 * (size_t)at;
        __m256i a = load_avx2(plane + at);
        __m256i b = load_avx2(plane + at + AVX2_BYTES);
        __m256i s = _mm256_maddubs_epi16(_mm256_and_si256(a, mask), load_avx2(q));
        s = _mm256_add_epi16(s, _mm256_maddubs_epi16(_mm256_and_si256(b, mask), load_avx2(q + AVX2_BYTES)));
        a = _mm256_and_si256(_mm256_srli_epi16(a, PART_BITS), mask);
        b = _mm256_and_si256(_mm256_srli_epi16(b, PART_BITS), mask);
        s = _mm256_add_epi16(s, _mm256_maddubs_epi16(a, load_avx2(q + CODE_PLANE_LINE)));
        s = _mm256_add_epi16(s, _mm256_maddubs_epi16(b, load_avx2(q + CODE_PLANE_LINE + AVX2_BYTES)));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(s, ones));
    }
    return total_avx2(sum);
}

WITH_AVX2 void code_dots_avx2(const int8_t *query, const uint8_t *const *planes, uint32_t n, uint32_t plane_bytes,
                              uint32_t beside, int32_t *out) {
    for (uint32_t i = 0; i < n && i < CODE_PREFETCH_AHEAD; i++) {
        code_prefetch(planes[i], plane_bytes, beside);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (i + CODE_PREFETCH_AHEAD < n) {
            code_prefetch(planes[i + CODE_PREFETCH_AHEAD], plane_bytes, beside);
        }
        out[i] = plane_dot_avx2(query, planes[i], plane_bytes);
    }
}

/* The bits of floats without a sign ascend as the floats do, and those of NaN stand above all. */
WITH_AVX2 float code_largest_avx2(const float *x, uint32_t n) {
    const __m256i no_sign = _mm256_set1_epi32(INT32_MAX);
    __m256i max = _mm256_setzero_si256();
    int32_t bits[AVX2_FLOATS];
    float left[AVX2_FLOATS] = {0};
    float ret;
    uint32_t i = 0;

    for (; i + AVX2_FLOATS <= n; i += AVX2_FLOATS) {
        max = _mm256_max_epi32(max, _mm256_and_si256(load_avx2(x + i), no_sign));
    }
    for (uint32_t at = 0; i < n; i++, at++) {
        left[at] = x[i];
    }
    max = _mm256_max_epi32(max, _mm256_and_si256(load_avx2(left), no_sign));
    _mm256_storeu_si256((__m256i *)(void *)bits, max);
    for (i = 1; i < AVX2_FLOATS; i++) {
        bits[0] = bits[i] > bits[0] ? bits[i] : bits[0];
    }
    memcpy(&ret, bits, sizeof ret);
    return ret;
}

/* Eight of them. The half has the sign of what it is added to; then the fraction is cut off. */
WITH_AVX2 static inline __m256i round_eight(const float *x, __m256 factor) {
    const __m256 sign = _mm256_set1_ps(-0.0F);
    const __m256 half = _mm256_set1_ps(0.5F);
    __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x), factor);
    return _mm256_cvttps_epi32(_mm256_add_ps(scaled, _mm256_or_ps(half, _mm256_and_ps(scaled, sign))));
}

WITH_AVX2 static inline void round_32(const float *x, __m256 factor, int8_t *out) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* packing goes by halves of registers */
    __m256i first = _mm256_packs_epi32(round_eight(x, factor), round_eight(x + AVX2_FLOATS, factor));
    __m256i second = _mm256_packs_epi32(round_eight(x + 2 * AVX2_FLOATS, factor), round_eight(x + 3 * AVX2_FLOATS, factor));
    __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(first, second), order);
    _mm256_storeu_si256((__m256i *)(void *)out, bytes);
}

WITH_AVX2 void code_round_avx2(const float *x, uint32_t n, float factor, int8_t *out) {
    const __m256 factors = _mm256_set1_ps(factor);
    float left[AVX2_BYTES] = {0};
    int8_t rounded[AVX2_BYTES];
    uint32_t i = 0;

    for (; i + AVX2_BYTES <= n; i += AVX2_BYTES) {
        round_32(x + i, factors, out + i);
    }
    if (i < n) {
        memcpy(left, x + i, (n - i) * sizeof *x);
        round_32(left, factors, rounded);
        memcpy(out + i, rounded, n - i);
    }
}

WITH_VNNI static inline int32_t plane_dot_avx512(const int8_t *query, const uint8_t *plane, uint32_t plane_bytes) {
    const __m512i mask = _mm512_set1_epi8(PART_MASK);
    __m512i even = _mm512_setzero_si512();
    __m512i odd = even;

    for (uint32_t at = 0; at < plane_bytes; at += CODE_PLANE_LINE) {
        const int8_t *q = query + 2 * (size_t)at;
        __m512i parts = _mm512_loadu_si512(plane + at);
        __m512i upper = _mm512_and_si512(_mm512_srli_epi16(parts, PART_BITS), mask);
        even = _mm512_dpbusd_epi32(even, _mm512_and_si512(parts, mask), _mm512_loadu_si512(q));
        odd = _mm512_dpbusd_epi32(odd, upper, _mm512_loadu_si512(q + CODE_PLANE_LINE));
    }
    return _mm512_reduce_add_epi32(_mm512_add_epi32(even, odd));
}

WITH_VNNI void code_dots_avx512(const int8_t *query, const uint8_t *const *planes, uint32_t n, uint32_t plane_bytes,
                                uint32_t beside, int32_t *out) {
    for (uint32_t i = 0; i < n && i < CODE_PREFETCH_AHEAD; i++) {
        code_prefetch(planes[i], plane_bytes, beside);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (i + CODE_PREFETCH_AHEAD < n) {
            code_prefetch(planes[i + CODE_PREFETCH_AHEAD], plane_bytes, beside);
        }
        out[i] = plane_dot_avx512(query, planes[i], plane_bytes);
    }
}

#else
/* ISO C wants a file to declare something. */
typedef int codes_x86_has_nothing_here;
#endif
