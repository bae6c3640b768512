/*
 * codes.c - making codes, and the plain kernel.
 *
 * Sums: a part is at most 15, a value at most 127, so a dot product of 4096 dimensions stays below 8 million: 32 bits suffice everywhere.
 */
#include "index/codes.h"

#include "index/distance_internal.h"

#include <math.h>
#include <string.h>

enum { HALF = CODE_PLANE_LINE, PART_MASK = 15, PART_BITS = 4, UNPACKED_OFFSET = 256 - (CODE_HIGH + 1) * CODE_OFFSET };
/* Low parts of zero. */
#define ONES_16 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11
#define ZEROS_16 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88

/* NaN: there is one. */
static float largest(const float *x, uint32_t dimension) {
    float max = 0.0F;

    for (uint32_t i = 0; i < dimension; i++) {
        float a = fabsf(x[i]);
        max = a > max || isnan(a) ? a : max;
    }
    return max;
}

/* round(x / scale) for every dimension, half away from zero, zeros behind. Returns the scale; 0: the vector is zero or not finite. */
static float quantize(const float *x, uint32_t dimension, uint32_t padded, int32_t levels, int8_t *out) {
    float max = largest(x, dimension);

    memset(out, 0, padded);
    if (!(max > 0.0F) || !isfinite(max)) {
        return 0.0F;
    }
    float inverse = (float)levels / max;
    if (!isfinite(inverse)) {
        return 0.0F; /* all that is there is denormal */
    }
    for (uint32_t i = 0; i < dimension; i++) {
        float scaled = x[i] * inverse;
        out[i] = (int8_t)(scaled + (scaled < 0.0F ? -0.5F : 0.5F));
    }
    return max / (float)levels;
}

/* The nearest multiple of CODE_HIGH, in such. */
static inline int high_part(int value) {
    return (value + CODE_OFFSET + 8 * CODE_HIGH) / CODE_HIGH - 8;
}

static inline uint8_t pack(int first, int second) {
    return (uint8_t)((unsigned)(first + CODE_OFFSET) | (unsigned)(second + CODE_OFFSET) << PART_BITS);
}

float code_encode(const float *x, uint32_t dimension, uint32_t bits, uint8_t *planes) {
    uint32_t plane = code_plane_bytes(dimension);
    int8_t values[2 * CODE_PLANE_LINE];
    float max = largest(x, dimension);
    float scale = max / CODE_LEVELS;
    float inverse = CODE_LEVELS / max; /* not finite: all that is there is denormal */
    bool usable = max > 0.0F && isfinite(max) && isfinite(inverse);

    for (uint32_t line = 0; line < plane / CODE_PLANE_LINE; line++) {
        uint32_t first = line * CODE_DIMENSIONS;
        for (uint32_t i = 0; i < CODE_DIMENSIONS; i++) {
            float scaled = usable && first + i < dimension ? x[first + i] * inverse : 0.0F;
            values[i] = (int8_t)(scaled + (scaled < 0.0F ? -0.5F : 0.5F));
        }
        for (uint32_t i = 0; i < HALF; i++) {
            int high[2] = {high_part(values[i]), high_part(values[i + HALF])};
            planes[line * CODE_PLANE_LINE + i] = pack(high[0], high[1]);
            if (code_planes(bits) > 1) {
                planes[plane + line * CODE_PLANE_LINE + i] =
                    pack(values[i] - CODE_HIGH * high[0], values[i + HALF] - CODE_HIGH * high[1]);
            }
        }
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

    ret->scale = quantize(x, dimension, padded, INT8_MAX, ret->values);
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

void code_kernel_use(enum distance_kernel k) {
    /* A CPU with AVX-512 but without VNNI takes the next best. */
    for (unsigned next = (unsigned)k + 1; next-- > 0;) {
        code_dots_fn fn = code_kernel_fn((enum distance_kernel)next);
        if (fn != NULL) {
            code_dots = fn;
            return;
        }
    }
}
