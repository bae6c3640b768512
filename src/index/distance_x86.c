/*
 * distance_x86.c - dot products with AVX2 + FMA and with AVX-512.
 *
 * Each function is compiled for its own instruction set by an attribute, so the rest of the program runs on any x86-64.
 * distance.c calls them only where cpuid says so.
 *
 * A row is summed in two accumulators (one FMA needs the result of the last but one: two rows' worth of latency is hidden, and
 * with four rows at a time all of it), in an order that does not depend on how many rows are done at once. Both forms share the
 * functions below for that reason: change one, and equal vectors stop having equal distances.
 */
#include "index/distance_internal.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define WITH_AVX2 __attribute__((target("avx2,fma")))
#define WITH_AVX512 __attribute__((target("avx512f")))

enum { AVX2_FLOATS = 8, AVX2_STEP = 2 * AVX2_FLOATS, AVX512_FLOATS = 16, AVX512_STEP = 2 * AVX512_FLOATS };

/* --- AVX2 ------------------------------------------------------------------------------------------------------------- */

struct sum_avx2 {
    __m256 even;
    __m256 odd;
};

/* Low halves onto high ones, then pairs: ((0+4)+(2+6)) + ((1+5)+(3+7)). */
WITH_AVX2 static inline float total_avx2(struct sum_avx2 s) {
    __m256 sum = _mm256_add_ps(s.even, s.odd);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

WITH_AVX2 static inline void step_avx2(struct sum_avx2 *s, const float *row, __m256 a_even, __m256 a_odd) {
    s->even = _mm256_fmadd_ps(a_even, _mm256_loadu_ps(row), s->even);
    s->odd = _mm256_fmadd_ps(a_odd, _mm256_loadu_ps(row + AVX2_FLOATS), s->odd);
}

/* The floats that do not fill two registers. */
WITH_AVX2 static inline float tail_avx2(const float *a, const float *b, size_t n) {
    float sum = 0.0F;

    for (size_t i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

WITH_AVX2 float dot_avx2(const float *a, const float *b, size_t n) {
    struct sum_avx2 s = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t i = 0;

    for (; i + AVX2_STEP <= n; i += AVX2_STEP) {
        step_avx2(&s, b + i, _mm256_loadu_ps(a + i), _mm256_loadu_ps(a + i + AVX2_FLOATS));
    }
    return total_avx2(s) + tail_avx2(a + i, b + i, n - i);
}

WITH_AVX2 void dot_rows_avx2(const float *a, const float *const rows[DOT_ROWS], size_t n, float out[DOT_ROWS]) {
    struct sum_avx2 s0 = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    struct sum_avx2 s1 = s0;
    struct sum_avx2 s2 = s0;
    struct sum_avx2 s3 = s0;
    size_t i = 0;

    for (; i + AVX2_STEP <= n; i += AVX2_STEP) {
        __m256 a_even = _mm256_loadu_ps(a + i);
        __m256 a_odd = _mm256_loadu_ps(a + i + AVX2_FLOATS);
        step_avx2(&s0, rows[0] + i, a_even, a_odd);
        step_avx2(&s1, rows[1] + i, a_even, a_odd);
        step_avx2(&s2, rows[2] + i, a_even, a_odd);
        step_avx2(&s3, rows[3] + i, a_even, a_odd);
    }
    out[0] = total_avx2(s0) + tail_avx2(a + i, rows[0] + i, n - i);
    out[1] = total_avx2(s1) + tail_avx2(a + i, rows[1] + i, n - i);
    out[2] = total_avx2(s2) + tail_avx2(a + i, rows[2] + i, n - i);
    out[3] = total_avx2(s3) + tail_avx2(a + i, rows[3] + i, n - i);
}

/* --- AVX-512 ---------------------------------------------------------------------------------------------------------- */

struct sum_avx512 {
    __m512 even;
    __m512 odd;
};

WITH_AVX512 static inline float total_avx512(struct sum_avx512 s) {
    return _mm512_reduce_add_ps(_mm512_add_ps(s.even, s.odd));
}

WITH_AVX512 static inline void step_avx512(struct sum_avx512 *s, const float *row, __m512 a_even, __m512 a_odd) {
    s->even = _mm512_fmadd_ps(a_even, _mm512_loadu_ps(row), s->even);
    s->odd = _mm512_fmadd_ps(a_odd, _mm512_loadu_ps(row + AVX512_FLOATS), s->odd);
}

/* Which lanes of a register are filled when `left` floats remain. */
static inline __mmask16 lanes_filled(size_t left) {
    unsigned lanes = left >= AVX512_FLOATS ? 0xffffU : (1U << left) - 1U;
    return (__mmask16)lanes;
}

/* What does not fill two registers: one whole or part of one, then part of the other. Lanes beyond the end are not read. */
WITH_AVX512 static inline void tail_avx512(struct sum_avx512 *s, const float *a, const float *b, size_t n) {
    __mmask16 first = lanes_filled(n);
    s->even = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(first, a), _mm512_maskz_loadu_ps(first, b), s->even);
    if (n > AVX512_FLOATS) {
        __mmask16 second = lanes_filled(n - AVX512_FLOATS);
        s->odd = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(second, a + AVX512_FLOATS),
                                 _mm512_maskz_loadu_ps(second, b + AVX512_FLOATS), s->odd);
    }
}

WITH_AVX512 float dot_avx512(const float *a, const float *b, size_t n) {
    struct sum_avx512 s = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    size_t i = 0;

    for (; i + AVX512_STEP <= n; i += AVX512_STEP) {
        step_avx512(&s, b + i, _mm512_loadu_ps(a + i), _mm512_loadu_ps(a + i + AVX512_FLOATS));
    }
    if (i < n) {
        tail_avx512(&s, a + i, b + i, n - i);
    }
    return total_avx512(s);
}

WITH_AVX512 void dot_rows_avx512(const float *a, const float *const rows[DOT_ROWS], size_t n, float out[DOT_ROWS]) {
    struct sum_avx512 s0 = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    struct sum_avx512 s1 = s0;
    struct sum_avx512 s2 = s0;
    struct sum_avx512 s3 = s0;
    size_t i = 0;

    for (; i + AVX512_STEP <= n; i += AVX512_STEP) {
        __m512 a_even = _mm512_loadu_ps(a + i);
        __m512 a_odd = _mm512_loadu_ps(a + i + AVX512_FLOATS);
        step_avx512(&s0, rows[0] + i, a_even, a_odd);
        step_avx512(&s1, rows[1] + i, a_even, a_odd);
        step_avx512(&s2, rows[2] + i, a_even, a_odd);
        step_avx512(&s3, rows[3] + i, a_even, a_odd);
    }
    if (i < n) {
        tail_avx512(&s0, a + i, rows[0] + i, n - i);
        tail_avx512(&s1, a + i, rows[1] + i, n - i);
        tail_avx512(&s2, a + i, rows[2] + i, n - i);
        tail_avx512(&s3, a + i, rows[3] + i, n - i);
    }
    out[0] = total_avx512(s0);
    out[1] = total_avx512(s1);
    out[2] = total_avx512(s2);
    out[3] = total_avx512(s3);
}

#else
/* ISO C wants a file to declare something. */
typedef int distance_x86_has_nothing_here;
#endif
