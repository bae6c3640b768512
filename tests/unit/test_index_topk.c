/* test_index_topk.c - the k nearest, and the exact scan that feeds them, against sorting everything. */
#include "index/distance.h"
#include "index/scan.h"
#include "index/topk.h"
#include "index_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MANY = 500 };

static int by_order(const void *a, const void *b) {
    const struct neighbor *x = a;
    const struct neighbor *y = b;
    return neighbor_before(*x, *y) ? -1 : neighbor_before(*y, *x);
}

static void shuffle(struct neighbor *n, size_t count, uint32_t *state) {
    for (size_t i = count; i > 1; i--) {
        *state = *state * 1664525U + 1013904223U;
        size_t j = (*state >> 8) % i;
        struct neighbor t = n[i - 1];
        n[i - 1] = n[j];
        n[j] = t;
    }
}

/* Few different distances, so that ties are many. */
static void test_any_order_same_answer(void **unused) {
    struct neighbor all[MANY];
    struct neighbor sorted[MANY];
    struct neighbor storage[MANY];
    uint32_t state = 3;

    (void)unused;
    for (uint32_t i = 0; i < MANY; i++) {
        all[i] = sorted[i] = (struct neighbor){(float)(i * 7 % 13) / 13.0F, i};
    }
    qsort(sorted, MANY, sizeof *sorted, by_order);
    for (size_t k = 1; k <= MANY; k = k * 2 + 1) {
        struct topk best;
        shuffle(all, MANY, &state);
        topk_init(&best, storage, k);
        for (size_t i = 0; i < MANY; i++) {
            topk_offer(&best, all[i]);
        }
        assert_true(topk_bound(&best) == sorted[k - 1].distance);
        assert_int_equal(topk_finish(&best), k);
        for (size_t i = 0; i < k; i++) {
            assert_int_equal(storage[i].slot, sorted[i].slot);
        }
    }
}

static void test_bound(void **unused) {
    struct neighbor storage[2];
    struct topk best;

    (void)unused;
    topk_init(&best, storage, 2);
    assert_true(isinf(topk_bound(&best)) && topk_bound(&best) > 0);
    topk_offer(&best, (struct neighbor){0.5F, 1});
    assert_true(isinf(topk_bound(&best)));
    topk_offer(&best, (struct neighbor){0.25F, 2});
    assert_true(topk_bound(&best) == 0.5F);
    topk_offer(&best, (struct neighbor){0.5F, 3}); /* a tie, but a later slot */
    topk_offer(&best, (struct neighbor){0.5F, 0});
    assert_int_equal(topk_finish(&best), 2);
    assert_int_equal(storage[0].slot, 2);
    assert_int_equal(storage[1].slot, 0);
}

static void test_nothing(void **unused) {
    struct neighbor storage[1];
    struct topk best;

    (void)unused;
    topk_init(&best, storage, 0);
    topk_offer(&best, (struct neighbor){0.0F, 0});
    assert_true(topk_bound(&best) < 0.0F);
    assert_int_equal(topk_finish(&best), 0);
    topk_init(&best, storage, 1);
    topk_offer(&best, (struct neighbor){NAN, 0});
    assert_int_equal(topk_finish(&best), 0);
}

/* --- the exact scan --------------------------------------------------------------------------------------------------- */

struct every {
    uint32_t nth;
    uint32_t asked;
};

static bool accepts_every(const void *ctx, uint32_t slot) {
    return slot % ((const struct every *)ctx)->nth == 0;
}

static size_t slow_scan(const struct fixture *f, uint32_t first, uint32_t end, uint32_t nth, struct neighbor *out) {
    size_t n = 0;

    for (uint32_t slot = first; slot < end; slot++) {
        if (slot % nth == 0) {
            double dot = 0.0;
            for (uint32_t i = 0; i < f->rows.dimension; i++) {
                dot += (double)fixture_query(f, 0)[i] * (double)vector_row(&f->rows, slot)[i];
            }
            out[n++] = (struct neighbor){(float)(1.0 - dot), slot};
        }
    }
    qsort(out, n, sizeof *out, by_order);
    return n;
}

static void check_scan(const struct fixture *f, uint32_t first, uint32_t end, uint32_t nth) {
    struct every every = {.nth = nth};
    struct slot_filter filter = {accepts_every, &every};
    struct neighbor expected[MANY];
    struct neighbor storage[10];
    struct topk best;
    size_t n = slow_scan(f, first, end, nth, expected);

    topk_init(&best, storage, 10);
    assert_int_equal(scan_exact(&f->rows, first, end, fixture_query(f, 0), nth == 1 ? NULL : &filter, &best), n);
    assert_int_equal(topk_finish(&best), n < 10 ? n : 10);
    for (size_t i = 0; i < best.count; i++) {
        assert_true(fabs((double)storage[i].distance - (double)expected[i].distance) < 1e-5);
        assert_int_equal(storage[i].slot, expected[i].slot);
    }
}

static void test_scan(void **unused) {
    struct fixture f;

    (void)unused;
    fixture_init(&f, MANY, 1, 50, HNSW_DEFAULT_M, 0);
    check_scan(&f, 0, MANY, 1);
    check_scan(&f, 0, MANY, 3);
    check_scan(&f, 17, 230, 1);
    check_scan(&f, 17, 230, 7);
    check_scan(&f, 17, 20, 1);
    check_scan(&f, 17, 17, 1);
    check_scan(&f, 1, 3, 5);
    fixture_fini(&f);
}

/* A zero vector has distance 1 to everything, and a damaged one is never found. */
static void test_scan_odd_rows(void **unused) {
    struct fixture f;
    struct neighbor storage[3];
    struct topk best;

    (void)unused;
    fixture_init(&f, 3, 1, 50, HNSW_DEFAULT_M, 0);
    for (uint32_t i = 0; i < 50; i++) {
        fixture_row(&f, 1)[i] = 0.0F;
        fixture_row(&f, 2)[i] = NAN;
    }
    topk_init(&best, storage, 3);
    assert_int_equal(scan_exact(&f.rows, 0, 3, fixture_row(&f, 0), NULL, &best), 3);
    assert_int_equal(topk_finish(&best), 2);
    assert_true(storage[0].slot == 0 && storage[0].distance < 1e-6F);
    assert_true(storage[1].slot == 1 && storage[1].distance == 1.0F);
    fixture_fini(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_order_same_answer),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_scan_odd_rows),
    };
    (void)distance_init(NULL);
    return cmocka_run_group_tests_name("index_topk", tests, NULL, NULL);
}
