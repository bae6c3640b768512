/*
 * test_index_hnsw_steps.c - what another thread may see and do between any two steps of an insertion, without threads.
 *
 * An insertion calls its guard around every change of a list. These guards use the moment: they search, or insert another node
 * whole, and go on. So each interleaving is met for certain and in the same order every time.
 */
#include "index/distance.h"
#include "index_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { EF = 64, K = 10, DIMENSION = 24, EVERY_MOMENT = 60 };

static uint32_t bits; /* of the codes, in this round */

struct moment {
    struct fixture *f;
    struct hnsw_scratch *scratch; /* of the "other thread" */
    const float *query;
    uint32_t count;  /* moments met */
    uint32_t act_at; /* at this one, insert `other` */
    uint32_t other;
    uint32_t held; /* the guarded slot */
    uint32_t short_answers;
};

static void moment_init(struct moment *mo, struct fixture *f) {
    *mo = (struct moment){.f = f, .scratch = hnsw_scratch_new(), .act_at = UINT32_MAX, .held = HNSW_NONE};
    assert_non_null(mo->scratch);
}

static void assert_one_guard_at_a_time(struct moment *mo, uint32_t slot, bool entering) {
    assert_int_equal(mo->held, entering ? HNSW_NONE : slot);
    mo->held = entering ? slot : HNSW_NONE;
}

/* --- a search at every moment ----------------------------------------------------------------------------------------- */

static void search_now(struct moment *mo) {
    struct neighbor storage[K];
    struct topk best;
    const struct fixture *f = mo->f;

    struct hnsw_request request = fixture_request(f, mo->query, K, EF);
    topk_init(&best, storage, K);
    assert_true(hnsw_search(&f->graph, &f->rows, &request, mo->scratch, &best) != UINT64_MAX);
    mo->short_answers += topk_finish(&best) < K;
    mo->count++;
}

static void search_entering(void *ctx, uint32_t slot) {
    assert_one_guard_at_a_time(ctx, slot, true);
    search_now(ctx);
}

static void search_leaving(void *ctx, uint32_t slot) {
    search_now(ctx);
    assert_one_guard_at_a_time(ctx, slot, false);
}

/* The search that is likeliest to step onto the new node: for its own vector. */
static void test_search_between_steps(void **unused) {
    struct fixture f;
    struct moment mo;
    struct hnsw_guard guard = {search_entering, search_leaving, &mo};

    (void)unused;
    fixture_init(&f, 400, 1, DIMENSION, HNSW_MIN_M, bits);
    fixture_insert(&f, 0, K);
    moment_init(&mo, &f);
    for (uint32_t slot = K; slot < f.count; slot++) {
        mo.query = fixture_row(&f, slot);
        assert_true(hnsw_insert(&f.graph, &f.rows, f.count, slot, EF, &guard, f.scratch));
    }
    assert_true(mo.count > 4 * f.count);
    assert_int_equal(mo.short_answers, 0);
    fixture_assert_sound(&f, f.count);
    hnsw_scratch_free(mo.scratch);
    fixture_fini(&f);
}

/* --- another insertion at one moment ---------------------------------------------------------------------------------- */

static void insert_entering(void *ctx, uint32_t slot) {
    struct moment *mo = ctx;
    struct fixture *f = mo->f;

    if (mo->count++ == mo->act_at) {
        assert_true(hnsw_insert(&f->graph, &f->rows, f->count, mo->other, EF, NULL, mo->scratch));
    }
    assert_one_guard_at_a_time(mo, slot, true);
}

static void insert_leaving(void *ctx, uint32_t slot) {
    assert_one_guard_at_a_time(ctx, slot, false);
}

static bool has_link(const struct fixture *f, uint32_t from, uint32_t to) {
    const uint32_t *links = fixture_list(f, from, 0);

    for (uint32_t i = 0; i < fixture_room(f, 0) && links[i] != HNSW_NONE; i++) {
        if (links[i] == to) {
            return true;
        }
    }
    return false;
}

/* Neither search could see the other node. Whoever links second must notice. */
static void test_twins_find_each_other(void **unused) {
    struct fixture f;

    (void)unused;
    fixture_init(&f, 1000, 1, DIMENSION, HNSW_DEFAULT_M, bits);
    fixture_insert(&f, 0, 600);
    for (uint32_t slot = 600; slot < f.count; slot += 2) {
        struct moment mo;
        struct hnsw_guard guard = {insert_entering, insert_leaving, &mo};
        moment_init(&mo, &f);
        float *twin = fixture_row(&f, slot + 1);
        memcpy(twin, fixture_row(&f, slot), DIMENSION * sizeof(float));
        twin[slot / 2 % DIMENSION] += 0.02F;
        (void)vector_normalize(twin, DIMENSION);
        mo.other = slot + 1;
        mo.act_at = 0; /* after the search of the first, before its first link */
        assert_true(hnsw_insert(&f.graph, &f.rows, f.count, slot, EF, &guard, f.scratch));
        assert_true(has_link(&f, slot, slot + 1));
        assert_true(has_link(&f, slot + 1, slot));
        hnsw_scratch_free(mo.scratch);
    }
    fixture_assert_sound(&f, f.count);
    fixture_fini(&f);
}

static uint32_t next_of_level(uint32_t after, uint32_t least, uint32_t most, uint32_t count) {
    for (uint32_t slot = after + 1; slot < count; slot++) {
        uint32_t level = hnsw_level_of(slot, HNSW_MIN_M);
        if (level >= least && level <= most) {
            return slot;
        }
    }
    return HNSW_NONE;
}

/* A low graph; two nodes higher than it, the second inserted at some moment of the first. Returns whether the moment came. */
static bool race_for_the_top(uint32_t first, uint32_t second, uint32_t moment, uint32_t count) {
    struct fixture f;
    struct moment mo;
    struct hnsw_guard guard = {insert_entering, insert_leaving, &mo};
    uint32_t level_first = hnsw_level_of(first, HNSW_MIN_M);
    uint32_t level_second = hnsw_level_of(second, HNSW_MIN_M);

    fixture_init(&f, count, 1, DIMENSION, HNSW_MIN_M, bits);
    for (uint32_t slot = 0, n = 0; slot < count && n < 30; slot++) {
        if (hnsw_level_of(slot, HNSW_MIN_M) == 0) {
            fixture_insert(&f, slot, slot + 1);
            n++;
        }
    }
    moment_init(&mo, &f);
    mo.other = second;
    mo.act_at = moment;
    assert_true(hnsw_insert(&f.graph, &f.rows, f.count, first, EF, &guard, f.scratch));
    bool came = mo.count > moment;
    if (came) {
        assert_int_equal(f.graph.head->entry >> 32, level_first > level_second ? level_first : level_second);
        fixture_insert(&f, 0, f.count); /* the rest must be able to build on it */
        fixture_assert_sound(&f, f.count);
    }
    hnsw_scratch_free(mo.scratch);
    fixture_fini(&f);
    return came;
}

static void test_race_for_the_top(void **unused) {
    const uint32_t count = 300;
    uint32_t low = next_of_level(0, 1, 1, count);
    uint32_t high = next_of_level(0, 2, HNSW_MAX_LEVEL, count);
    uint32_t as_high = next_of_level(high, hnsw_level_of(high, HNSW_MIN_M), hnsw_level_of(high, HNSW_MIN_M), count);
    const uint32_t pairs[][2] = {{low, high}, {high, low}, {high, as_high}, {as_high, high}};

    (void)unused;
    assert_true(low != HNSW_NONE && high != HNSW_NONE && as_high != HNSW_NONE);
    for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++) {
        uint32_t moment = 0;
        while (race_for_the_top(pairs[p][0], pairs[p][1], moment, count)) {
            moment++;
        }
        assert_true(moment > 3);
    }
}

/* A copy comes at any moment of the insertion of a copy, in a group that overflows every list. */
static void test_copies_at_every_moment(void **unused) {
    (void)unused;
    for (uint32_t moment = 0; moment < EVERY_MOMENT; moment += 3) {
        struct fixture f;
        struct moment mo;
        struct hnsw_guard guard = {insert_entering, insert_leaving, &mo};
        fixture_init(&f, 120, 1, DIMENSION, HNSW_MIN_M, bits);
        for (uint32_t slot = 1; slot < 100; slot++) {
            memcpy(fixture_row(&f, slot), fixture_row(&f, 0), DIMENSION * sizeof(float));
        }
        moment_init(&mo, &f);
        for (uint32_t slot = 0; slot < f.count; slot += 2) {
            mo.count = 0;
            mo.act_at = moment;
            mo.other = slot + 1;
            assert_true(hnsw_insert(&f.graph, &f.rows, f.count, slot, EF, &guard, f.scratch));
            fixture_insert(&f, slot + 1, slot + 2); /* in case the moment did not come */
        }
        fixture_assert_sound(&f, f.count);
        hnsw_scratch_free(mo.scratch);
        fixture_fini(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_between_steps),
        cmocka_unit_test(test_twins_find_each_other),
        cmocka_unit_test(test_race_for_the_top),
        cmocka_unit_test(test_copies_at_every_moment),
    };
    int failed = 0;

    (void)distance_init(NULL);
    for (bits = 0; bits <= 8; bits += 4) {
        static const char *const names[] = {"index_hnsw_steps", "index_hnsw_steps, 4 bits", "index_hnsw_steps, 8 bits"};
        failed += cmocka_run_group_tests_name(names[bits / 4], tests, NULL, NULL);
    }
    return failed;
}
