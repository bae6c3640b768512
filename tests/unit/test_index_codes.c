/*
 * test_index_codes.c - quantization against its own definition: what the bytes of a plane mean is computed here anew, dimension by dimension, from
 * what codes.h says, and never with the code under test.
 */
#include "index/codes.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ALIGN = 64, SMALL_MOST = 300, LARGEST = 4096, ROWS = 9, PART_MASK = 15 };
/* The products and sums of float32 in a distance, relative to numbers around 1. */
static const float ROUNDING = 2e-6F;

static const uint32_t LARGE[] = {384, 768, LARGEST};
enum { DIMENSIONS = SMALL_MOST + sizeof LARGE / sizeof *LARGE };

static uint32_t nth_dimension(uint32_t n) {
    return n < SMALL_MOST ? n + 1 : LARGE[n - SMALL_MOST];
}

static uint32_t next_random(void) {
    static uint64_t state = 5;

    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(state >> 32);
}

/* A sum of uniform ones: dense around zero, with some far out. */
static void random_vector(float *x, uint32_t dimension) {
    for (uint32_t i = 0; i < dimension; i++) {
        x[i] = 0.0F;
        for (int j = 0; j < 4; j++) {
            x[i] += (float)next_random() / (float)UINT32_MAX - 0.5F;
        }
    }
    (void)vector_normalize(x, dimension);
}

/* Room for a vector, a code and a query of any size that is tested. */
struct bench {
    float *x;
    float *y;
    uint8_t *planes;
    struct code_query query;
};

static struct bench *bench_new(void) {
    struct bench *b = calloc(1, sizeof *b);

    assert_non_null(b);
    b->x = calloc(LARGEST, sizeof(float));
    b->y = calloc(LARGEST, sizeof(float));
    b->planes = aligned_alloc(ALIGN, code_bytes(LARGEST, 8));
    b->query.values = aligned_alloc(ALIGN, 2 * code_plane_bytes(LARGEST));
    assert_true(b->x != NULL && b->y != NULL && b->planes != NULL && b->query.values != NULL);
    return b;
}

static void bench_free(struct bench *b) {
    free(b->x);
    free(b->y);
    free(b->planes);
    free(b->query.values);
    free(b);
}

/* A part as it is stored, 0 to 15. */
static int stored_part(const uint8_t *plane, uint32_t dimension) {
    uint8_t byte = plane[64 * (dimension / 128) + dimension % 64];
    return dimension % 128 < 64 ? byte & PART_MASK : byte >> 4;
}

static int decoded(const uint8_t *planes, uint32_t plane_bytes, uint32_t bits, uint32_t i) {
    int value = 16 * (stored_part(planes, i) - 8);
    return bits == 8 ? value + stored_part(planes + plane_bytes, i) - 8 : value;
}

/* --- sizes ------------------------------------------------------------------------------------------------------------ */

static void test_sizes(void **unused) {
    (void)unused;
    assert_int_equal(code_plane_bytes(1), 64);
    assert_int_equal(code_plane_bytes(128), 64);
    assert_int_equal(code_plane_bytes(129), 128);
    assert_int_equal(code_plane_bytes(384), 192);
    assert_int_equal(code_bytes(384, 0), 0);
    assert_int_equal(code_bytes(384, 4), 192);
    assert_int_equal(code_bytes(384, 8), 384);
}

/* --- encoding --------------------------------------------------------------------------------------------------------- */

static void check_encoded(struct bench *b, uint32_t dimension, uint32_t bits) {
    uint32_t plane = code_plane_bytes(dimension);
    float scale = code_encode(b->x, dimension, bits, b->planes);
    float max = 0.0F;

    for (uint32_t i = 0; i < dimension; i++) {
        max = fmaxf(max, fabsf(b->x[i]));
    }
    assert_true(scale == max / 119.0F);
    double square = 0.0;
    for (uint32_t i = 0; i < dimension; i++) {
        int c = decoded(b->planes, plane, bits, i);
        double error = fabs((double)b->x[i] - (double)scale * c);
        /* The 4-bit code is the nearest multiple of 16 to the 8-bit one. */
        double most = bits == 8 ? 0.5 : 8.5;
        assert_in_range(c + 119, bits == 8 ? 0 : 7, bits == 8 ? 238 : 231);
        assert_true(error <= (double)scale * (most + 1e-4));
        square += error * error;
    }
    assert_true(bits == 4 || sqrt(square) <= (double)code_error_bound(scale, dimension) * (1.0 + 1e-4));
    for (uint32_t i = dimension; i < 2 * plane; i++) {
        assert_int_equal(decoded(b->planes, plane, bits, i), 0);
        assert_int_equal(stored_part(b->planes, i), 8);
    }
}

static void test_every_dimension(void **unused) {
    struct bench *b = bench_new();

    (void)unused;
    for (uint32_t n = 0; n < DIMENSIONS; n++) {
        random_vector(b->x, nth_dimension(n));
        check_encoded(b, nth_dimension(n), 8);
        check_encoded(b, nth_dimension(n), 4);
    }
    bench_free(b);
}

/* Every value that a dimension can have, and halves between: away from zero. And the 4-bit plane is the same for both. */
static void test_every_value(void **unused) {
    struct bench *b = bench_new();
    uint8_t coarse[LARGEST];

    (void)unused;
    for (int i = -119; i <= 119; i++) {
        b->x[i + 119] = (float)i / 128.0F;
    }
    assert_true(code_encode(b->x, 239, 8, b->planes) == 119.0F / 128.0F / 119.0F);
    for (int i = -119; i <= 119; i++) {
        assert_int_equal(decoded(b->planes, code_plane_bytes(239), 8, (uint32_t)(i + 119)), i);
    }
    (void)code_encode(b->x, 239, 4, coarse);
    assert_memory_equal(coarse, b->planes, code_plane_bytes(239));
    bench_free(b);
}

static void assert_zero_code(struct bench *b, uint32_t dimension) {
    uint32_t plane = code_plane_bytes(dimension);

    for (uint32_t bits = 4; bits <= 8; bits += 4) {
        memset(b->planes, 0xa5, code_bytes(dimension, bits));
        assert_true(code_encode(b->x, dimension, bits, b->planes) == 0.0F);
        for (uint32_t i = 0; i < 2 * plane; i++) {
            assert_int_equal(decoded(b->planes, plane, bits, i), 0);
        }
    }
    memset(b->query.values, 0x5a, 2 * (size_t)plane);
    code_query_of_vector(b->x, dimension, &b->query);
    assert_true(b->query.scale == 0.0F && b->query.sum == 0);
    for (uint32_t i = 0; i < 2 * plane; i++) {
        assert_int_equal(b->query.values[i], 0);
    }
}

/* What no scale can stand for is zero: distance 1 to everything, and never an undefined conversion. */
static void test_no_vectors(void **unused) {
    static const float nothing[] = {0.0F, -0.0F, FLT_MIN / 64.0F, FLT_TRUE_MIN, -FLT_TRUE_MIN, INFINITY, -INFINITY, NAN};
    struct bench *b = bench_new();

    (void)unused;
    for (size_t n = 0; n < sizeof nothing / sizeof *nothing; n++) {
        for (uint32_t at = 0; at < 200; at += 199) {
            memset(b->x, 0, 200 * sizeof(float));
            b->x[at] = nothing[n];
            assert_zero_code(b, 200);
            if (!isfinite(nothing[n])) {
                random_vector(b->x, 200);
                b->x[at] = nothing[n];
                assert_zero_code(b, 200);
            }
        }
    }
    bench_free(b);
}

/* Lengths other than 1: as small and as large as there are numbers for. */
static void test_extreme_lengths(void **unused) {
    static const float lengths[] = {1e-30F, 1e-20F, 1e-6F, 100.0F, 1e20F, 1e38F};
    struct bench *b = bench_new();

    (void)unused;
    for (size_t n = 0; n < sizeof lengths / sizeof *lengths; n++) {
        random_vector(b->x, 300);
        for (uint32_t i = 0; i < 300; i++) {
            b->x[i] *= lengths[n];
        }
        check_encoded(b, 300, 8);
        check_encoded(b, 300, 4);
    }
    bench_free(b);
}

/* --- queries ---------------------------------------------------------------------------------------------------------- */

static int32_t sum_of(const int8_t *values, uint32_t count) {
    int32_t sum = 0;

    for (uint32_t i = 0; i < count; i++) {
        sum += values[i];
    }
    return sum;
}

static void test_query_of_vector(void **unused) {
    struct bench *b = bench_new();

    (void)unused;
    for (uint32_t n = 0; n < DIMENSIONS; n++) {
        uint32_t dimension = nth_dimension(n);
        uint32_t padded = 2 * code_plane_bytes(dimension);
        random_vector(b->x, dimension);
        memset(b->query.values, 0x5a, padded);
        code_query_of_vector(b->x, dimension, &b->query);
        for (uint32_t i = 0; i < dimension; i++) {
            double error = fabs((double)b->x[i] - (double)b->query.scale * b->query.values[i]);
            assert_true(error <= (double)b->query.scale * 0.5001);
        }
        for (uint32_t i = dimension; i < padded; i++) {
            assert_int_equal(b->query.values[i], 0);
        }
        assert_int_equal(b->query.sum, sum_of(b->query.values, padded));
    }
    bench_free(b);
}

static void check_query_of_code(struct bench *b, uint32_t dimension, uint32_t bits, float scale) {
    uint32_t plane = code_plane_bytes(dimension);

    memset(b->query.values, 0x5a, 2 * (size_t)plane);
    code_query_of_code(b->planes, scale, dimension, bits, &b->query);
    assert_true(b->query.scale == scale);
    for (uint32_t i = 0; i < 2 * plane; i++) {
        assert_int_equal(b->query.values[i], decoded(b->planes, plane, bits, i));
    }
    assert_int_equal(b->query.sum, sum_of(b->query.values, 2 * plane));
}

static void test_query_of_code(void **unused) {
    struct bench *b = bench_new();

    (void)unused;
    for (uint32_t n = 0; n < DIMENSIONS; n++) {
        for (uint32_t bits = 4; bits <= 8; bits += 4) {
            random_vector(b->x, nth_dimension(n));
            float scale = code_encode(b->x, nth_dimension(n), bits, b->planes);
            check_query_of_code(b, nth_dimension(n), bits, scale);
        }
    }
    bench_free(b);
}

/* --- distances -------------------------------------------------------------------------------------------------------- */

static float coded_distance(const struct bench *b, uint32_t dimension, uint32_t bits, float scale) {
    uint32_t plane = code_plane_bytes(dimension);
    const uint8_t *planes[2] = {b->planes, b->planes + plane};
    int32_t dots[2] = {0, 0};

    code_dots(b->query.values, planes, code_planes(bits), plane, 0, dots);
    return bits == 8 ? code_distance_fine(&b->query, scale, dots[0], dots[1]) : code_distance_coarse(&b->query, scale, dots[0]);
}

static double true_dot(const float *x, const float *y, uint32_t dimension) {
    double dot = 0.0;

    for (uint32_t i = 0; i < dimension; i++) {
        dot += (double)x[i] * (double)y[i];
    }
    return dot;
}

/* |x.q - x'.q'| <= e_x |q| + (|x| + e_x) e_q with unit vectors; and against the decoded integers the distance is exact but for rounding. */
static void check_distance(struct bench *b, uint32_t dimension, uint32_t bits) {
    uint32_t plane = code_plane_bytes(dimension);
    float scale = code_encode(b->x, dimension, bits, b->planes);
    double coded = 0.0;

    code_query_of_vector(b->y, dimension, &b->query);
    float distance = coded_distance(b, dimension, bits, scale);
    for (uint32_t i = 0; i < dimension; i++) {
        coded += (double)scale * decoded(b->planes, plane, bits, i) * (double)b->query.scale * b->query.values[i];
    }
    assert_true(fabs((double)distance - (1.0 - coded)) <= (double)ROUNDING);
    double error = bits == 8 ? (double)code_error_bound(scale, dimension) : 17.0 * (double)code_error_bound(scale, dimension);
    double query_error = (double)code_error_bound(b->query.scale, dimension);
    double most = error + (1.0 + error) * query_error + 10.0 * (double)ROUNDING;
    assert_true(fabs((double)distance - (1.0 - true_dot(b->x, b->y, dimension))) <= most);
}

static void test_distances(void **unused) {
    struct bench *b = bench_new();

    (void)unused;
    for (uint32_t n = 0; n < DIMENSIONS; n++) {
        uint32_t dimension = nth_dimension(n);
        random_vector(b->x, dimension);
        random_vector(b->y, dimension);
        check_distance(b, dimension, 8);
        check_distance(b, dimension, 4);
        memcpy(b->y, b->x, dimension * sizeof(float));
        check_distance(b, dimension, 8);
        check_distance(b, dimension, 4);
        memset(b->y, 0, dimension * sizeof(float));
        check_distance(b, dimension, 8);
    }
    bench_free(b);
}

/* What codes.h promises of unit vectors of 384 like dimensions. */
static void test_usual_error(void **unused) {
    struct bench *b = bench_new();

    (void)unused;
    for (int round = 0; round < 100; round++) {
        for (uint32_t i = 0; i < 384; i++) {
            b->x[i] = next_random() % 2 == 0 ? 1.0F : -1.0F;
        }
        (void)vector_normalize(b->x, 384);
        float bound = code_error_bound(code_encode(b->x, 384, 8, b->planes), 384);
        assert_true(bound > 0.0041F && bound < 0.0046F);
    }
    bench_free(b);
}

/* --- kernels ---------------------------------------------------------------------------------------------------------- */

enum fill { FILL_RANDOM, FILL_ONES, FILL_ZEROS, FILL_HIGHEST, FILL_LOWEST, FILLS };

static void fill_query(int8_t *values, uint32_t count, enum fill fill) {
    for (uint32_t i = 0; i < count; i++) {
        values[i] = fill == FILL_HIGHEST ? INT8_MAX : fill == FILL_LOWEST ? -INT8_MAX : (int8_t)(next_random() % 255 - 127);
    }
}

static void fill_plane(uint8_t *plane, uint32_t count, enum fill fill) {
    for (uint32_t i = 0; i < count; i++) {
        plane[i] = fill == FILL_RANDOM ? (uint8_t)next_random() : fill == FILL_ZEROS ? 0 : fill == FILL_ONES ? 0x11 : UINT8_MAX;
    }
}

static int32_t slow_dot(const int8_t *query, const uint8_t *plane, uint32_t plane_bytes) {
    int32_t sum = 0;

    for (uint32_t i = 0; i < 2 * plane_bytes; i++) {
        sum += query[i] * stored_part(plane, i);
    }
    return sum;
}

/* Several planes of one size, at any address, each ending where its own memory ends. */
static void check_kernel(code_dots_fn dots, uint32_t plane_bytes, uint32_t rows, enum fill fill) {
    int8_t *query = aligned_alloc(ALIGN, 2 * (size_t)plane_bytes);
    uint8_t *memory[ROWS] = {NULL};
    const uint8_t *planes[ROWS] = {NULL};
    int32_t out[ROWS + 1];

    assert_non_null(query);
    fill_query(query, 2 * plane_bytes, fill);
    for (uint32_t i = 0; i < rows; i++) {
        memory[i] = malloc(plane_bytes + i); /* i: unaligned by so many bytes */
        assert_non_null(memory[i]);
        fill_plane(memory[i] + i, plane_bytes, fill);
        planes[i] = memory[i] + i;
    }
    out[rows] = 12345;
    dots(query, planes, rows, plane_bytes, plane_bytes, out);
    assert_int_equal(out[rows], 12345);
    for (uint32_t i = 0; i < rows; i++) {
        assert_int_equal(out[i], slow_dot(query, planes[i], plane_bytes));
        free(memory[i]);
    }
    free(query);
}

static void test_kernels(void **unused) {
    uint32_t kernels = 0;

    (void)unused;
    for (enum distance_kernel k = DISTANCE_PLAIN; k < DISTANCE_KERNELS; k++) {
        code_dots_fn dots = code_kernel_fn(k);
        if (dots == NULL) {
            continue;
        }
        kernels++;
        for (enum fill fill = 0; fill < FILLS; fill++) {
            for (uint32_t plane_bytes = 64; plane_bytes <= LARGEST / 2; plane_bytes += plane_bytes < 512 ? 64 : 512) {
                for (uint32_t rows = 0; rows <= ROWS; rows++) {
                    check_kernel(dots, plane_bytes, rows, fill);
                }
            }
        }
    }
    assert_in_range(kernels, 1, DISTANCE_KERNELS);
}

/* A CPU that lacks the wanted kernel takes the next best, never none. */
static void test_kernel_in_use(void **unused) {
    (void)unused;
    for (enum distance_kernel k = DISTANCE_PLAIN; k < DISTANCE_KERNELS; k++) {
        code_kernel_use(k);
        enum distance_kernel best = k;
        while (code_kernel_fn(best) == NULL) {
            best--;
        }
        assert_true(code_dots == code_kernel_fn(best));
    }
    assert_true(distance_init(NULL));
}

/* Every float32 that a rounding can turn on, made anew by the plain kernel: halves and what lies just beside them, and no less the specials. */
static void fill_hard(float *x, uint32_t dimension, uint32_t round) {
    static const float specials[] = {0.0F, -0.0F, FLT_MIN, -FLT_MIN, FLT_TRUE_MIN, NAN, INFINITY, -INFINITY};

    random_vector(x, dimension);
    for (uint32_t i = 0; i < dimension; i++) {
        float half = ((float)(next_random() % 239) - 119.0F) / 119.0F + 0.5F / 119.0F;
        uint32_t roll = next_random() % 8;
        x[i] = roll < 2 ? half : roll < 3 ? nextafterf(half, 2.0F) : roll < 4 ? nextafterf(half, -2.0F) : x[i];
    }
    if (round > 0) {
        x[next_random() % dimension] = specials[next_random() % (sizeof specials / sizeof *specials)];
    }
}

static void test_same_codes_under_every_kernel(void **unused) {
    struct bench *b = bench_new();
    struct bench *plain = bench_new();

    (void)unused;
    for (uint32_t n = 0; n < 4 * DIMENSIONS; n++) {
        uint32_t dimension = nth_dimension(n % DIMENSIONS);
        fill_hard(b->x, dimension, n / DIMENSIONS);
        code_kernel_use(DISTANCE_PLAIN);
        float scale = code_encode(b->x, dimension, 8, plain->planes);
        code_query_of_vector(b->x, dimension, &plain->query);
        for (enum distance_kernel k = DISTANCE_PLAIN; k < DISTANCE_KERNELS; k++) {
            code_kernel_use(k);
            assert_true(code_encode(b->x, dimension, 8, b->planes) == scale);
            assert_memory_equal(b->planes, plain->planes, code_bytes(dimension, 8));
            code_query_of_vector(b->x, dimension, &b->query);
            assert_true(b->query.scale == plain->query.scale);
            assert_memory_equal(b->query.values, plain->query.values, 2 * code_plane_bytes(dimension));
        }
    }
    assert_true(distance_init(NULL));
    bench_free(b);
    bench_free(plain);
}

/* The code is the same whatever kernel sums. */
static void test_same_under_every_kernel(void **unused) {
    struct bench *b = bench_new();
    struct bench *plain = bench_new();

    (void)unused;
    for (uint32_t n = 0; n < DIMENSIONS; n++) {
        uint32_t dimension = nth_dimension(n);
        random_vector(b->x, dimension);
        random_vector(b->y, dimension);
        float scale = code_encode(b->x, dimension, 8, b->planes);
        memcpy(plain->planes, b->planes, code_bytes(dimension, 8));
        code_kernel_use(DISTANCE_PLAIN);
        code_query_of_vector(b->y, dimension, &plain->query);
        float expected = coded_distance(plain, dimension, 8, scale);
        for (enum distance_kernel k = DISTANCE_PLAIN; k < DISTANCE_KERNELS; k++) {
            code_kernel_use(k);
            code_query_of_vector(b->y, dimension, &b->query);
            assert_int_equal(b->query.sum, plain->query.sum);
            assert_true(coded_distance(b, dimension, 8, scale) == expected);
        }
    }
    assert_true(distance_init(NULL));
    bench_free(b);
    bench_free(plain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),           cmocka_unit_test(test_every_dimension),
        cmocka_unit_test(test_every_value),     cmocka_unit_test(test_no_vectors),
        cmocka_unit_test(test_extreme_lengths), cmocka_unit_test(test_query_of_vector),
        cmocka_unit_test(test_query_of_code),   cmocka_unit_test(test_distances),
        cmocka_unit_test(test_usual_error),     cmocka_unit_test(test_kernels),
        cmocka_unit_test(test_kernel_in_use),   cmocka_unit_test(test_same_under_every_kernel),
        cmocka_unit_test(test_same_codes_under_every_kernel),
    };
    (void)distance_init(NULL);
    return cmocka_run_group_tests_name("index_codes", tests, NULL, NULL);
}
