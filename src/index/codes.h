/*
 * codes.h - scalar quantization: a vector as one or two planes of 4-bit integers with a scale of its own.
 *
 *   c_i = round(x_i / scale), scale = max |x_i| / 119, so -119 <= c_i <= 119, and zero is exactly zero
 *   c_i = 16 * high_i + low_i, -7 <= high_i <= 7, -8 <= low_i <= 7
 *
 * The plane of high parts alone is a 4-bit code, which is what a graph is walked on: half the memory traffic of bytes. Both planes are the 8-bit
 * code, which puts the candidates in order. Parts are stored with 8 added, two to a byte: byte i of a plane holds dimension 128 * (i / 64) + i % 64 in its low
 * half and the one 64 further on in its high half, so that a register of bytes gives two registers of consecutive dimensions. Dimensions beyond the
 * vector's are zero.
 *
 * What is measured against codes is a struct code_query: eight bits a dimension, too. Its dot product with a plane is an integer, the same under every
 * kernel, bit for bit; the distance is made from it in one place (code_distance).
 *
 * Error: |x_i - scale * c_i| <= scale / 2, so |x - x'| <= scale * sqrt(dimension) / 2 (code_error_bound): about 0.0045 for unit
 * vectors of 384 like dimensions, which exact searches rely on.
 */
#ifndef QUIRE_INDEX_CODES_H
#define QUIRE_INDEX_CODES_H

#include "index/distance.h"

#define CODE_DIMENSIONS 128 /* dimensions are rounded up to a multiple of it */
#define CODE_PLANE_LINE 64  /* bytes of a plane that hold so many dimensions */
#define CODE_LEVELS 119
#define CODE_OFFSET 8 /* added to each part */
#define CODE_HIGH 16  /* what one step of a high part is worth */

/* bits: 4 (one plane) or 8 (two). */
static inline uint32_t code_planes(uint32_t bits) {
    return bits / 4;
}
static inline uint32_t code_plane_bytes(uint32_t dimension) {
    return (dimension + CODE_DIMENSIONS - 1) / CODE_DIMENSIONS * CODE_PLANE_LINE;
}
static inline uint32_t code_bytes(uint32_t dimension, uint32_t bits) {
    return code_planes(bits) * code_plane_bytes(dimension);
}

/* What codes are measured against. values: room for 2 * plane_bytes, aligned to 64 bytes, the caller's. */
struct code_query {
    int8_t *values;
    float scale;
    int32_t sum; /* of values */
};

/* Writes the planes of x and returns the scale; 0 for a zero vector, whose code is zero. */
float code_encode(const float *x, uint32_t dimension, uint32_t bits, uint8_t *planes);
void code_query_of_vector(const float *x, uint32_t dimension, struct code_query *ret);
/* A stored code as a query: exactly its integers. */
void code_query_of_code(const uint8_t *planes, float scale, uint32_t dimension, uint32_t bits, struct code_query *ret);

/* For each of n planes: the sum of (stored part) * (query value), offsets not taken off yet. Planes may lie anywhere; those to come are prefetched, with the cache
 * line at `beside` bytes behind a plane's begin. */
typedef void (*code_dots_fn)(const int8_t *query, const uint8_t *const *planes, uint32_t n, uint32_t plane_bytes, uint32_t beside,
                             int32_t *out);
extern code_dots_fn code_dots;
code_dots_fn code_kernel_fn(enum distance_kernel k); /* NULL: this CPU has it not */
/* Called by distance_init. */
void code_kernel_use(enum distance_kernel k);

/* Cosine distance from what code_dots gave for the high plane, or for both. */
static inline float code_distance_coarse(const struct code_query *q, float scale, int32_t high) {
    return 1.0F - q->scale * scale * (float)(CODE_HIGH * (high - CODE_OFFSET * q->sum));
}
static inline float code_distance_fine(const struct code_query *q, float scale, int32_t high, int32_t low) {
    return 1.0F - q->scale * scale * (float)(CODE_HIGH * (high - CODE_OFFSET * q->sum) + low - CODE_OFFSET * q->sum);
}

/* How far the 8-bit code of a vector with this scale can be from the vector. */
float code_error_bound(float scale, uint32_t dimension);

#endif
