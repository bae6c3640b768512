/*
 * distance.h - kernels over float32 vectors, chosen once at start from cpuid.
 *
 * Vectors are unit length (or zero), so cosine distance is 1 - dot(a, b). A zero vector has distance 1 to everything.
 * Lengths are any number; rows in arenas are padded with zeros to a multiple of 16 floats (64 bytes) and aligned to 64 bytes, kernels may rely on
 * neither and must handle tails.
 */
#ifndef QUIRE_INDEX_DISTANCE_H
#define QUIRE_INDEX_DISTANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum distance_kernel { DISTANCE_PLAIN, DISTANCE_AVX2, DISTANCE_AVX512, DISTANCE_KERNELS };

typedef float (*dot_fn)(const float *a, const float *b, size_t n);
/* One vector against DOT_ROWS others: out[i] = dot(a, rows[i]), the same bits as the dot_fn of that kernel gives for each row. Four
 * rows at once share the loads of `a` and keep four streams of memory reads going. */
#define DOT_ROWS 4
typedef void (*dot_rows_fn)(const float *a, const float *const rows[DOT_ROWS], size_t n, float out[DOT_ROWS]);

/* The dot products in use. Set by distance_init (default: plain), read-only afterwards. */
extern dot_fn dot_product;
extern dot_rows_fn dot_product_rows;

/* Picks the best kernel the CPU has, or the one named by `force` ("plain", "avx2", "avx512"; NULL: best). False when `force` is
 * unknown or the CPU has it not. */
bool distance_init(const char *force);
bool distance_kernel_available(enum distance_kernel k);
/* The functions of one kernel, NULL when it is not available. */
dot_fn distance_kernel_fn(enum distance_kernel k);
dot_rows_fn distance_kernel_rows_fn(enum distance_kernel k);
const char *distance_kernel_name(enum distance_kernel k);
enum distance_kernel distance_kernel_in_use(void);

/* The cosine distance that belongs to a dot product of unit vectors: 0 to 2, rounding cut off; NaN stays NaN. */
static inline float cosine_distance(float dot) {
    float d = 1.0F - dot;
    if (d < 0.0F) {
        return 0.0F;
    }
    return d > 2.0F ? 2.0F : d;
}

/* Scales v to unit length in place. Returns false, and makes it zero, when its length is 0 or not finite. The sum is in double,
 * in a fixed order, so the result is the same bit for bit on every CPU. */
bool vector_normalize(float *v, size_t n);

#endif
