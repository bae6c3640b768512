/* test_index_distance.c - every kernel against sums in double, at every length that has a tail of its own, and never beyond the
 * end. */
#include "index/distance.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { LONGEST = 1100, ALL_UP_TO = 140, ROWS = DOT_ROWS };

static const double TOLERANCE = 1e-5;

/* Memory whose end is the end of a page behind which nothing may be read. */
struct fenced {
    char *map;
    size_t size;
};

static struct fenced fenced_new(size_t floats) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t data = (floats * sizeof(float) + page - 1) / page * page;
    struct fenced f = {.size = data + page};

    f.map = mmap(NULL, f.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(f.map != MAP_FAILED);
    assert_int_equal(mprotect(f.map + data, page, PROT_NONE), 0);
    return f;
}

/* The last `floats` before the fence: at every length another alignment. */
static float *fenced_end(const struct fenced *f, size_t floats) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (float *)(void *)(f->map + f->size - page) - floats;
}

static void fill_random(float *v, size_t n, uint32_t *state) {
    for (size_t i = 0; i < n; i++) {
        *state = *state * 1664525U + 1013904223U;
        v[i] = (float)((double)*state / 2147483648.0 - 1.0);
    }
    (void)vector_normalize(v, n);
}

static double exact_dot(const float *a, const float *b, size_t n) {
    double sum = 0.0;

    for (size_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static void check_length(enum distance_kernel k, const struct fenced *memory, size_t n, uint32_t *state) {
    const float *rows[ROWS];
    float out[ROWS];
    float *a = fenced_end(&memory[0], n);

    fill_random(a, n, state);
    for (size_t r = 0; r < ROWS; r++) {
        float *row = fenced_end(&memory[r + 1], n);
        fill_random(row, n, state);
        rows[r] = row;
    }
    distance_kernel_rows_fn(k)(a, rows, n, out);
    for (size_t r = 0; r < ROWS; r++) {
        float one = distance_kernel_fn(k)(a, rows[r], n);
        assert_true(fabs((double)one - exact_dot(a, rows[r], n)) < TOLERANCE);
        assert_memory_equal(&one, &out[r], sizeof one); /* the same bits, one row or four */
    }
}

static void test_kernels_agree(void **unused) {
    struct fenced memory[ROWS + 1];
    uint32_t state = 1;

    (void)unused;
    for (size_t i = 0; i < ROWS + 1; i++) {
        memory[i] = fenced_new(LONGEST);
    }
    for (unsigned k = 0; k < DISTANCE_KERNELS; k++) {
        if (!distance_kernel_available((enum distance_kernel)k)) {
            assert_null(distance_kernel_fn((enum distance_kernel)k));
            assert_null(distance_kernel_rows_fn((enum distance_kernel)k));
            continue;
        }
        for (size_t n = 0; n <= ALL_UP_TO; n++) {
            check_length((enum distance_kernel)k, memory, n, &state);
        }
        check_length((enum distance_kernel)k, memory, 384, &state);
        check_length((enum distance_kernel)k, memory, 1027, &state);
    }
    for (size_t i = 0; i < ROWS + 1; i++) {
        assert_int_equal(munmap(memory[i].map, memory[i].size), 0);
    }
}

/* Equal vectors must have equal distances, wherever they stand. */
static void test_alignment_makes_no_difference(void **unused) {
    float a[400];
    float shifted[401];
    uint32_t state = 5;

    (void)unused;
    fill_random(a, 400, &state);
    memcpy(shifted + 1, a, sizeof a);
    for (unsigned k = 0; k < DISTANCE_KERNELS; k++) {
        if (distance_kernel_available((enum distance_kernel)k)) {
            float here = distance_kernel_fn((enum distance_kernel)k)(a, a, 400);
            float there = distance_kernel_fn((enum distance_kernel)k)(a, shifted + 1, 400);
            assert_memory_equal(&here, &there, sizeof here);
        }
    }
}

static void test_choice(void **unused) {
    (void)unused;
    assert_int_equal(distance_kernel_in_use(), DISTANCE_PLAIN); /* before anybody chose */
    assert_ptr_equal(dot_product, distance_kernel_fn(DISTANCE_PLAIN));
    assert_false(distance_init("sse9"));
    assert_int_equal(distance_kernel_in_use(), DISTANCE_PLAIN);
    for (unsigned k = 0; k < DISTANCE_KERNELS; k++) {
        bool there = distance_kernel_available((enum distance_kernel)k);
        assert_int_equal(distance_init(distance_kernel_name((enum distance_kernel)k)), there);
        if (there) {
            assert_int_equal(distance_kernel_in_use(), k);
            assert_ptr_equal(dot_product, distance_kernel_fn((enum distance_kernel)k));
            assert_ptr_equal(dot_product_rows, distance_kernel_rows_fn((enum distance_kernel)k));
        }
    }
    assert_true(distance_init("plain"));
    assert_true(distance_init(NULL));
    for (unsigned k = (unsigned)distance_kernel_in_use() + 1; k < DISTANCE_KERNELS; k++) {
        assert_false(distance_kernel_available((enum distance_kernel)k));
    }
    assert_string_equal(distance_kernel_name(DISTANCE_KERNELS), "unknown");
    assert_false(distance_kernel_available(DISTANCE_KERNELS));
}

static void test_normalize(void **unused) {
    float right[] = {3.0F, 0.0F, -4.0F};
    float tiny[] = {3e-45F, 0.0F};
    float huge[] = {3e38F, 3e38F, 3e38F, 3e38F, 3e38F};
    float expected[] = {0.6F, 0.0F, -0.8F};

    (void)unused;
    assert_true(vector_normalize(right, 3));
    assert_memory_equal(right, expected, sizeof right);
    assert_true(vector_normalize(tiny, 2));
    assert_true(tiny[0] == 1.0F);
    assert_true(vector_normalize(huge, 5));
    assert_true(fabs(exact_dot(huge, huge, 5) - 1.0) < 1e-6);
}

static void test_normalize_refuses(void **unused) {
    float bad[] = {0.0F, 0.0F, 0.0F, 0.0F};
    float zero[4] = {0};

    (void)unused;
    assert_false(vector_normalize(bad, 4));
    assert_memory_equal(bad, zero, sizeof bad);
    bad[1] = 1.0F;
    bad[2] = NAN;
    assert_false(vector_normalize(bad, 4));
    assert_memory_equal(bad, zero, sizeof bad);
    bad[0] = -INFINITY;
    assert_false(vector_normalize(bad, 4));
    assert_memory_equal(bad, zero, sizeof bad);
    assert_false(vector_normalize(bad, 0));
}

static void test_cosine_distance(void **unused) {
    (void)unused;
    assert_true(cosine_distance(1.0F) == 0.0F);
    assert_true(cosine_distance(1.0000001F) == 0.0F);
    assert_true(cosine_distance(-1.0000001F) == 2.0F);
    assert_true(cosine_distance(0.0F) == 1.0F);
    assert_true(isnan(cosine_distance(NAN)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_kernels_agree),
        cmocka_unit_test(test_alignment_makes_no_difference),
        cmocka_unit_test(test_normalize),
        cmocka_unit_test(test_normalize_refuses),
        cmocka_unit_test(test_cosine_distance),
    };
    return cmocka_run_group_tests_name("index_distance", tests, NULL, NULL);
}
