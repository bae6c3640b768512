/* distance_internal.h - the kernels that distance.c chooses from; what each machine has is in distance_<machine>.c. */
#ifndef QUIRE_INDEX_DISTANCE_INTERNAL_H
#define QUIRE_INDEX_DISTANCE_INTERNAL_H

#include "index/distance.h"

#if defined(__x86_64__)
/* May be called only where the CPU has AVX2 and FMA, or AVX-512F. */
float dot_avx2(const float *a, const float *b, size_t n);
void dot_rows_avx2(const float *a, const float *const rows[DOT_ROWS], size_t n, float out[DOT_ROWS]);
float dot_avx512(const float *a, const float *b, size_t n);
void dot_rows_avx512(const float *a, const float *const rows[DOT_ROWS], size_t n, float out[DOT_ROWS]);
#endif

#endif
