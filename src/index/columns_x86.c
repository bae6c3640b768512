/*
 * columns_x86.c - comparing 64 values of a column with AVX2.
 *
 * Each function is compiled for its instruction set by an attribute; columns_read.c calls them only where cpuid says so. A comparison gives all ones or zeros in each
 * lane, and the signs of the lanes are the bits that are wanted.
 */
#include "index/columns_internal.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define WITH_AVX2 __attribute__((target("avx2")))
enum { WORD = 64, WIDE_LANES = 4, NARROW_LANES = 8 };

WITH_AVX2 static uint64_t numbers_avx2(const double *v, double least, double greatest) {
    __m256d low = _mm256_set1_pd(least);
    __m256d high = _mm256_set1_pd(greatest);
    uint64_t word = 0;
    for (unsigned i = 0; i < WORD; i += WIDE_LANES) {
        __m256d four = _mm256_loadu_pd(v + i);
        __m256d in = _mm256_and_pd(_mm256_cmp_pd(four, low, _CMP_GE_OQ), _mm256_cmp_pd(four, high, _CMP_LE_OQ));
        word |= (uint64_t)(unsigned)_mm256_movemask_pd(in) << i;
    }
    return word;
}

WITH_AVX2 static uint64_t times_avx2(const int64_t *v, int64_t least, int64_t greatest) {
    __m256i low = _mm256_set1_epi64x(least);
    __m256i high = _mm256_set1_epi64x(greatest);
    uint64_t out = 0;
    for (unsigned i = 0; i < WORD; i += WIDE_LANES) {
        __m256i four = _mm256_loadu_si256((const __m256i *)(const void *)(v + i));
        __m256i outside = _mm256_or_si256(_mm256_cmpgt_epi64(low, four), _mm256_cmpgt_epi64(four, high));
        out |= (uint64_t)(unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(outside)) << i;
    }
    return ~out;
}

WITH_AVX2 static uint64_t sets_avx2(const uint32_t *v, const uint32_t *sets, uint32_t count) {
    uint64_t word = 0;
    for (uint32_t s = 0; s < count; s++) {
        __m256i set = _mm256_set1_epi32((int)sets[s]);
        for (unsigned i = 0; i < WORD; i += NARROW_LANES) {
            __m256i eight = _mm256_loadu_si256((const __m256i *)(const void *)(v + i));
            __m256 same = _mm256_castsi256_ps(_mm256_cmpeq_epi32(eight, set));
            word |= (uint64_t)(unsigned)_mm256_movemask_ps(same) << i;
        }
    }
    return word;
}

const struct column_kernels column_kernels_avx2 = {.numbers = numbers_avx2, .times = times_avx2, .sets = sets_avx2};

#endif
