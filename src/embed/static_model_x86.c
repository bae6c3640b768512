/* static_model_x86.c - rows added sixteen dimensions at a time. Integers: the same bits as the plain way. */
#include "embed/static_model.h"

#include <stddef.h>

#if defined(__x86_64__)
#include <immintrin.h>

#define WITH_AVX2 __attribute__((target("avx2")))

/* Eight products of 16 bits, times `times`, onto eight sums. */
WITH_AVX2 static inline void add_eight(int32_t *sums, __m128i products, __m256i times) {
    __m256i *at = (__m256i *)(void *)sums;
    _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), _mm256_mullo_epi32(_mm256_cvtepi16_epi32(products), times)));
}

WITH_AVX2 static void add_avx2(int32_t *sums, const int8_t *row, int16_t weight, int32_t times, uint32_t n) {
    const __m256i weights = _mm256_set1_epi16(weight);
    const __m256i all_times = _mm256_set1_epi32(times);
    for (uint32_t i = 0; i < n; i += 16) {
        __m256i levels = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(row + i)));
        __m256i products = _mm256_mullo_epi16(levels, weights);
        add_eight(sums + i, _mm256_castsi256_si128(products), all_times);
        add_eight(sums + i + 8, _mm256_extracti128_si256(products, 1), all_times);
    }
}

static_add_fn static_add_avx2(void) {
    return __builtin_cpu_supports("avx2") ? add_avx2 : NULL;
}
#else
static_add_fn static_add_avx2(void) {
    return NULL;
}
#endif
