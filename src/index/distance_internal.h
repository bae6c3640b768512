/* distance_internal.h - the kernels that distance.c chooses from; what each machine has is in distance_<machine>.c. */
#ifndef QUIRE_INDEX_DISTANCE_INTERNAL_H
#define QUIRE_INDEX_DISTANCE_INTERNAL_H

#include "index/codes.h"

/* Rows of codes are fetched so many ahead of the one that is measured. */
#define CODE_PREFETCH_AHEAD 4

static inline void code_prefetch(const uint8_t *plane, uint32_t plane_bytes, uint32_t beside) {
    for (uint32_t at = 0; at < plane_bytes; at += CODE_PLANE_LINE) {
        __builtin_prefetch(plane + at);
    }
    __builtin_prefetch(plane + beside);
}

/* The largest |x[i]|; NaN where there is one. */
typedef float (*code_largest_fn)(const float *x, uint32_t n);
/* out[i] = x[i] * factor, rounded half away from zero; no |x[i] * factor| is above 127. */
typedef void (*code_round_fn)(const float *x, uint32_t n, float factor, int8_t *out);

#if defined(__x86_64__)
/* May be called only where the CPU has AVX2 and FMA, or AVX-512F. */
float dot_avx2(const float *a, const float *b, size_t n);
void dot_rows_avx2(const float *a, const float *const rows[DOT_ROWS], size_t n, float out[DOT_ROWS]);
float dot_avx512(const float *a, const float *b, size_t n);
void dot_rows_avx512(const float *a, const float *const rows[DOT_ROWS], size_t n, float out[DOT_ROWS]);
void code_dots_avx2(const int8_t *query, const uint8_t *const *planes, uint32_t n, uint32_t plane_bytes, uint32_t beside, int32_t *out);
float code_largest_avx2(const float *x, uint32_t n);
void code_round_avx2(const float *x, uint32_t n, float factor, int8_t *out);
/* Only where there is VNNI. */
void code_dots_avx512(const int8_t *query, const uint8_t *const *planes, uint32_t n, uint32_t plane_bytes, uint32_t beside,
                      int32_t *out);
#endif

#endif
