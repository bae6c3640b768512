/*
 * distance.c - the plain kernel, the choice of a kernel at start, and the scaling of vectors to unit length.
 *
 * Every kernel adds in an order of its own, so the last bits differ between kernels (by less than 1e-5 for unit vectors, which
 * the unit test checks). Within one kernel, dot_fn and dot_rows_fn give the same bits for the same pair: equal vectors then have
 * exactly equal distances however they are met, which the graph and the ties of a search rely on.
 *
 * The choice is made once, before threads exist; dot_product and dot_product_rows are constants afterwards and need no
 * synchronisation.
 */
#include "index/distance_internal.h"

#include <math.h>
#include <string.h>

/* Sums side by side: enough for the compiler to use the widest registers that the baseline of the machine has. */
enum { PLAIN_LANES = 16, NORM_LANES = 4 };

static float dot_plain(const float *a, const float *b, size_t n) {
    float lanes[PLAIN_LANES] = {0};
    size_t i = 0;

    for (; i + PLAIN_LANES <= n; i += PLAIN_LANES) {
        for (size_t j = 0; j < PLAIN_LANES; j++) {
            lanes[j] += a[i + j] * b[i + j];
        }
    }
    for (size_t j = 0; i < n; i++, j++) {
        lanes[j] += a[i] * b[i];
    }
    for (size_t width = PLAIN_LANES / 2; width > 0; width /= 2) {
        for (size_t j = 0; j < width; j++) {
            lanes[j] += lanes[j + width];
        }
    }
    return lanes[0];
}

static void dot_rows_plain(const float *a, const float *const rows[DOT_ROWS], size_t n, float out[DOT_ROWS]) {
    for (size_t r = 0; r < DOT_ROWS; r++) {
        out[r] = dot_plain(a, rows[r], n);
    }
}

struct kernel {
    const char *name;
    dot_fn dot;
    dot_rows_fn dot_rows;
};

static const struct kernel kernels[DISTANCE_KERNELS] = {
    [DISTANCE_PLAIN] = {"plain", dot_plain, dot_rows_plain},
#if defined(__x86_64__)
    [DISTANCE_AVX2] = {"avx2", dot_avx2, dot_rows_avx2},
    [DISTANCE_AVX512] = {"avx512", dot_avx512, dot_rows_avx512},
#else
    [DISTANCE_AVX2] = {"avx2", NULL, NULL},
    [DISTANCE_AVX512] = {"avx512", NULL, NULL},
#endif
};

dot_fn dot_product = dot_plain;
dot_rows_fn dot_product_rows = dot_rows_plain;
static enum distance_kernel in_use = DISTANCE_PLAIN;

bool distance_kernel_available(enum distance_kernel k) {
    switch (k) {
    case DISTANCE_PLAIN:
        return true;
#if defined(__x86_64__)
    case DISTANCE_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case DISTANCE_AVX512:
        return __builtin_cpu_supports("avx512f");
#endif
    default:
        return false;
    }
}

dot_fn distance_kernel_fn(enum distance_kernel k) {
    return distance_kernel_available(k) ? kernels[k].dot : NULL;
}

dot_rows_fn distance_kernel_rows_fn(enum distance_kernel k) {
    return distance_kernel_available(k) ? kernels[k].dot_rows : NULL;
}

const char *distance_kernel_name(enum distance_kernel k) {
    return (unsigned)k < DISTANCE_KERNELS ? kernels[k].name : "unknown";
}

enum distance_kernel distance_kernel_in_use(void) {
    return in_use;
}

bool distance_init(const char *force) {
    for (unsigned k = DISTANCE_KERNELS; k-- > 0;) {
        bool wanted = force == NULL || strcmp(force, kernels[k].name) == 0;
        if (wanted && distance_kernel_available((enum distance_kernel)k)) {
            in_use = (enum distance_kernel)k;
            dot_product = kernels[k].dot;
            dot_product_rows = kernels[k].dot_rows;
            code_kernel_use((enum distance_kernel)k);
            return true;
        }
    }
    return false;
}

/* The product of two floats is exact in double, so it makes no difference whether a compiler fuses it with the addition. */
static double sum_of_squares(const float *v, size_t n) {
    double lanes[NORM_LANES] = {0};

    for (size_t i = 0; i < n; i++) {
        double x = (double)v[i];
        lanes[i % NORM_LANES] += x * x;
    }
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

bool vector_normalize(float *v, size_t n) {
    double length = sqrt(sum_of_squares(v, n));

    if (!(length > 0.0) || !isfinite(length)) {
        memset(v, 0, n * sizeof *v);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        v[i] = (float)((double)v[i] / length);
    }
    return true;
}
