/*
 * codes.c - making codes, and the plain kernel.
 *
 * Rounding is half away from zero, under every kernel; what a code is made from decides whether a graph is taken over after a crash (hnsw_repair.c), so a code is the same
 * on every machine.
 *
 * Sums: a part is at most 15, a value at most 127, so a dot product of 4096 dimensions stays below 8 million: 32 bits suffice everywhere.
 */
#include "index/codes.h"

#include "index/distance_internal.h"

#include <math.h>
#include <string.h>

enum {
    HALF = CODE_PLANE_LINE,
    PART_MASK = 15,
    PART_BITS = 4,
    PACKED_OFFSET = (CODE_HIGH + 1) * CODE_OFFSET,
    UNPACKED_OFFSET = 256 - PACKED_OFFSET
};
/* Low parts of zero. */
#define ONES_16 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11
#define ZEROS_16 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88

/* --- rounding --------------------------------------------------------------------------------------------------------- */

static float largest_plain(const float *x, uint32_t n) {
    float max = 0.0F;

    for (uint32_t i = 0; i < n; i++) {
        float a = fabsf(x[i]);
        max = a > max || isnan(a) ? a : max;
    }
    return max;
}

static void round_plain(const float *x, uint32_t n, float factor, int8_t *out) {
    for (uint32_t i = 0; i < n; i++) {
        float scaled = x[i] * factor;
        out[i] = (int8_t)(scaled + (scaled < 0.0F ? -0.5F : 0.5F));
    }
}

static code_largest_fn largest = largest_plain;
static code_round_fn round_all = round_plain;

/* What to multiply x with, so that its largest part becomes `levels`, and the scale that makes up for it. False: it is zero, not finite, or so small that
 * it can be no scale. */
static bool find_scale(const float *x, uint32_t dimension, int32_t levels, float *ret_factor, float *ret_scale) {
    float max = largest(x, dimension);
    *ret_scale = max / (float)levels;
    *ret_factor = (float)levels / max;
    return max > 0.0F && isfinite(max) && isfinite(*ret_factor);
}

/* --- codes ------------------------------------------------------------------------------------------------------------ */

/* With 8 added to both parts, as they are stored: c + 136 = 16 * (high + 8) + low + 8, so the parts are the halves of a byte. low: NULL where there is one plane. */
static void pack_line(const int8_t values[CODE_DIMENSIONS], uint8_t *restrict high, uint8_t *restrict low) {
    uint8_t parts[CODE_DIMENSIONS];

    for (uint32_t i = 0; i < CODE_DIMENSIONS; i++) {
        parts[i] = (uint8_t)((uint8_t)values[i] + PACKED_OFFSET);
    }
    for (uint32_t i = 0; i < HALF; i++) {
        high[i] = (uint8_t)(parts[i] >> PART_BITS | (parts[i + HALF] & ~PART_MASK));
    }
    for (uint32_t i = 0; low != NULL && i < HALF; i++) {
        low[i] = (uint8_t)((parts[i] & PART_MASK) | parts[i + HALF] << PART_BITS);
    }
}

float code_encode(const float *x, uint32_t dimension, uint32_t bits, uint8_t *planes) {
    uint32_t plane = code_plane_bytes(dimension);
    int8_t values[CODE_DIMENSIONS] = {0};
    float factor = 0.0F;
    float scale = 0.0F;
    bool usable = find_scale(x, dimension, CODE_LEVELS, &factor, &scale);

    for (uint32_t at = 0; at < plane; at += CODE_PLANE_LINE) {
        uint32_t left = dimension - 2 * at;
        if (usable && left < CODE_DIMENSIONS) {
            memset(values, 0, sizeof values);
        }
        if (usable) {
            round_all(x + 2 * (size_t)at, left < CODE_DIMENSIONS ? left : CODE_DIMENSIONS, factor, values);
        }
        pack_line(values, planes + at, code_planes(bits) > 1 ? planes + plane + at : NULL);
    }
    return usable ? scale : 0.0F;
}

/* The sum of a query's values: its dot product with a plane of ones. */
static int32_t code_sum(const int8_t *values, uint32_t plane_bytes) {
    static const uint8_t ones[CODE_PLANE_LINE] = {ONES_16, ONES_16, ONES_16, ONES_16};
    int32_t sum = 0;

    for (uint32_t at = 0; at < plane_bytes; at += CODE_PLANE_LINE) {
        const uint8_t *const plane = ones;
        int32_t part;
        code_dots(values + 2 * (size_t)at, &plane, 1, CODE_PLANE_LINE, 0, &part);
        sum += part;
    }
    return sum;
}

void code_query_of_vector(const float *x, uint32_t dimension, struct code_query *ret) {
    uint32_t padded = 2 * code_plane_bytes(dimension);

    float factor = 0.0F;

    memset(ret->values, 0, padded);
    if (find_scale(x, dimension, INT8_MAX, &factor, &ret->scale)) {
        round_all(x, dimension, factor, ret->values);
    } else {
        ret->scale = 0.0F;
    }
    ret->sum = code_sum(ret->values, padded / 2);
}

/* One line of planes. In bytes, modulo 256: 16 * (high - 8) + (low - 8) = 16 * high + low - 136, and the sum fits into eight bits. */
static void unpack_line(const uint8_t *restrict high, const uint8_t *restrict low, uint8_t *restrict out) {
    for (uint32_t i = 0; i < HALF; i++) {
        out[i] = (uint8_t)((uint8_t)(high[i] << PART_BITS) + (low[i] & PART_MASK) + UNPACKED_OFFSET);
    }
    for (uint32_t i = 0; i < HALF; i++) {
        out[i + HALF] = (uint8_t)((high[i] & (uint8_t)~PART_MASK) + (low[i] >> PART_BITS) + UNPACKED_OFFSET);
    }
}

void code_query_of_code(const uint8_t *planes, float scale, uint32_t dimension, uint32_t bits, struct code_query *ret) {
    static const uint8_t no_low_parts[CODE_PLANE_LINE] = {ZEROS_16, ZEROS_16, ZEROS_16, ZEROS_16};
    uint32_t plane = code_plane_bytes(dimension);

    for (uint32_t at = 0; at < plane; at += CODE_PLANE_LINE) {
        const uint8_t *low = code_planes(bits) > 1 ? planes + plane + at : no_low_parts;
        unpack_line(planes + at, low, (uint8_t *)ret->values + 2 * (size_t)at);
    }
    ret->scale = scale;
    ret->sum = code_sum(ret->values, plane);
}

float code_error_bound(float scale, uint32_t dimension) {
    return 0.5F * scale * sqrtf((float)dimension);
}

/* --- the plain kernel ------------------------------------------------------------------------------------------------- */

static int32_t dot_plain(const int8_t *query, const uint8_t *plane, uint32_t plane_bytes) {
    int32_t sum = 0;

    for (uint32_t at = 0; at < plane_bytes; at += CODE_PLANE_LINE) {
        const int8_t *first = query + 2 * (size_t)at;
        const int8_t *second = first + HALF;
        for (uint32_t i = 0; i < HALF; i++) {
            sum += (plane[at + i] & PART_MASK) * first[i] + (plane[at + i] >> PART_BITS) * second[i];
        }
    }
    return sum;
}

static void dots_plain(const int8_t *query, const uint8_t *const *planes, uint32_t n, uint32_t plane_bytes, uint32_t beside,
                       int32_t *out) {
    for (uint32_t i = 0; i < n && i < CODE_PREFETCH_AHEAD; i++) {
        code_prefetch(planes[i], plane_bytes, beside);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (i + CODE_PREFETCH_AHEAD < n) {
            code_prefetch(planes[i + CODE_PREFETCH_AHEAD], plane_bytes, beside);
        }
        out[i] = dot_plain(query, planes[i], plane_bytes);
    }
}

code_dots_fn code_dots = dots_plain;

code_dots_fn code_kernel_fn(enum distance_kernel k) {
    switch (k) {
    case DISTANCE_PLAIN:
        return dots_plain;
#if defined(__x86_64__)
    case DISTANCE_AVX2:
        return distance_kernel_available(k) ? code_dots_avx2 : NULL;
    case DISTANCE_AVX512:
        return distance_kernel_available(k) && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw")
                   ? code_dots_avx512
                   : NULL;
#endif
    default:
        return NULL;
    }
}

static void use_rounding(enum distance_kernel k) {
    largest = largest_plain;
    round_all = round_plain;
#if defined(__x86_64__)
    if (k != DISTANCE_PLAIN && distance_kernel_available(DISTANCE_AVX2)) {
        largest = code_largest_avx2;
        round_all = code_round_avx2;
    }
#else
    (void)k;
#endif
}

void code_kernel_use(enum distance_kernel k) {
    use_rounding(k);
    /* A CPU with AVX-512 but without VNNI takes the next best. */
    for (unsigned next = (unsigned)k + 1; next-- > 0;) {
        code_dots_fn fn = code_kernel_fn((enum distance_kernel)next);
        if (fn != NULL) {
            code_dots = fn;
            return;
        }
    }
}
