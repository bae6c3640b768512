/* test_index_hnsw_validate.c - faults planted one by one into a sound graph: each is found, and named. */
#include "index/distance.h"
#include "index_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COUNT = 400, M = 8, SHOWN = 160 };

static uint32_t bits; /* of the codes, in this round */

static struct fixture f;

static int set_up(void **unused) {
    (void)unused;
    fixture_init(&f, COUNT, 1, 24, M, bits);
    fixture_insert(&f, 0, COUNT);
    fixture_assert_sound(&f, COUNT);
    return 0;
}

static int tear_down(void **unused) {
    (void)unused;
    fixture_fini(&f);
    return 0;
}

static void assert_faults(uint64_t expected, const char *says) {
    char detail[160];
    uint64_t unreachable;
    uint64_t faults = hnsw_validate(&f.graph, COUNT, &unreachable, detail);

    if (faults != expected || strstr(detail, says) == NULL) {
        fail_msg("%llu faults: %s", (unsigned long long)faults, detail);
    }
}

static uint32_t length_of(uint32_t slot, uint32_t layer) {
    uint32_t n = 0;

    while (n < (layer == 0 ? HNSW_BASE_LINKS(M) : M) && fixture_list(&f, slot, layer)[n] != HNSW_NONE) {
        n++;
    }
    return n;
}

/* A slot that reaches exactly this level, with a list of at least two links at its highest layer that has room for more. */
static uint32_t slot_of_level(uint32_t level) {
    for (uint32_t slot = 1; slot < COUNT; slot++) {
        uint32_t n = length_of(slot, hnsw_level_of(slot, M) == level ? level : 0);
        if (hnsw_level_of(slot, M) == level && n >= 2 && n < M) {
            return slot;
        }
    }
    fail_msg("no slot of level %u", level);
    return 0;
}

static void test_link_out_of_range(void **unused) {
    uint32_t slot = slot_of_level(0);

    (void)unused;
    fixture_list(&f, slot, 0)[length_of(slot, 0)] = COUNT;
    assert_faults(1, "beyond the 400 slots");
}

static void test_link_to_itself(void **unused) {
    uint32_t slot = slot_of_level(0);

    (void)unused;
    fixture_list(&f, slot, 0)[length_of(slot, 0)] = slot;
    assert_faults(1, "linked to itself");
}

static void test_link_twice(void **unused) {
    uint32_t slot = slot_of_level(1);

    (void)unused;
    fixture_list(&f, slot, 1)[length_of(slot, 1)] = fixture_list(&f, slot, 1)[1];
    assert_faults(1, "listed twice");
}

static void test_link_behind_the_end(void **unused) {
    uint32_t slot = slot_of_level(0);

    (void)unused;
    fixture_list(&f, slot, 0)[length_of(slot, 0) + 1] = fixture_list(&f, slot, 0)[0];
    assert_faults(1, "behind the end");
}

static void test_upper_out_of_bounds(void **unused) {
    uint32_t slot = slot_of_level(1);
    uint32_t right = fixture_words(&f, slot)[FIXTURE_UPPER_WORD];

    (void)unused;
    fixture_words(&f, slot)[FIXTURE_UPPER_WORD] = (uint32_t)f.graph.head->upper_used;
    char detail[160];
    uint64_t unreachable;
    assert_true(hnsw_validate(&f.graph, COUNT, &unreachable, detail) > 0);
    fixture_words(&f, slot)[FIXTURE_UPPER_WORD] = UINT32_MAX;
    assert_true(hnsw_validate(&f.graph, COUNT, &unreachable, detail) > 0);
    fixture_words(&f, slot)[FIXTURE_UPPER_WORD] = right;
    assert_faults(0, "");
    f.graph.head->upper_used -= M; /* the highest used words are not counted */
    assert_faults(1, "are not within those in use");
}

static void test_upper_shared(void **unused) {
    uint32_t first = HNSW_NONE;

    (void)unused;
    for (uint32_t slot = 0; slot < COUNT; slot++) {
        if (hnsw_level_of(slot, M) != 1) {
            continue;
        }
        if (first != HNSW_NONE) {
            fixture_words(&f, slot)[FIXTURE_UPPER_WORD] = fixture_words(&f, first)[FIXTURE_UPPER_WORD];
            break;
        }
        first = slot;
    }
    char detail[160];
    uint64_t unreachable;
    assert_true(hnsw_validate(&f.graph, COUNT, &unreachable, detail) > 0);
    assert_true(strstr(detail, "overlap") != NULL || strstr(detail, "parent") != NULL);
}

static void test_neighbour_below_layer(void **unused) {
    uint32_t slot = slot_of_level(1);

    (void)unused;
    fixture_list(&f, slot, 1)[length_of(slot, 1)] = slot_of_level(0);
    assert_faults(1, "does not reach this layer");
}

/* A leaf's parent forgets it: one fault, and the leaf is out of reach unless others link to it. */
static void test_forgotten_child(void **unused) {
    uint32_t slot = COUNT - 1;
    uint32_t parent = fixture_list(&f, slot, 0)[0];
    uint32_t *list = fixture_list(&f, parent, 0);
    uint32_t n = length_of(parent, 0);

    (void)unused;
    for (uint32_t i = 0; i < n; i++) {
        if (list[i] == slot) {
            list[i] = list[n - 1];
            list[n - 1] = HNSW_NONE;
        }
    }
    assert_faults(1, "does not link to it");
}

static void test_unreachable(void **unused) {
    uint32_t slot = COUNT - 1;
    char detail[160];
    uint64_t unreachable;

    (void)unused;
    for (uint32_t other = 0; other < COUNT; other++) {
        uint32_t *list = fixture_list(&f, other, 0);
        uint32_t n = length_of(other, 0);
        for (uint32_t i = 0; i < n; i++) {
            if (list[i] == slot) {
                list[i] = list[n - 1];
                list[n - 1] = HNSW_NONE;
            }
        }
    }
    assert_true((uint32_t)f.graph.head->entry != slot);
    assert_int_equal(hnsw_validate(&f.graph, COUNT, &unreachable, detail), 1); /* its parent forgot it */
    assert_int_equal(unreachable, 1);
}

static void test_entry(void **unused) {
    uint64_t right = f.graph.head->entry;
    uint32_t low = slot_of_level(0);
    char detail[160];
    uint64_t unreachable;

    (void)unused;
    f.graph.head->entry = (right >> 32) << 32 | COUNT;
    assert_faults(1, "entry point 400 is beyond");
    f.graph.head->entry = (right >> 32) << 32 | low;
    assert_faults(1, "but has 0");
    f.graph.head->entry = low; /* level 0: all layers above hang in the air */
    assert_true(hnsw_validate(&f.graph, COUNT, &unreachable, detail) > 0);
    assert_non_null(strstr(detail, "above the entry point"));
    f.graph.head->entry = HNSW_NO_ENTRY;
    assert_true(hnsw_validate(&f.graph, COUNT, &unreachable, detail) >= COUNT);
    assert_int_equal(unreachable, COUNT);
    f.graph.head->entry = right;
    assert_faults(0, "");
}

static void test_head_damaged(void **unused) {
    (void)unused;
    f.graph.head->m = 0;
    assert_faults(1, "the head is not");
}

/* --- codes ------------------------------------------------------------------------------------------------------------ */

static void assert_code_faults(uint64_t expected, uint32_t first, uint32_t end, const char *says) {
    char detail[SHOWN];
    uint64_t faults = hnsw_validate_codes(&f.graph, &f.rows, first, end, detail);

    if (faults != expected || strstr(detail, says) == NULL || (expected == 0 && detail[0] != '\0')) {
        fail_msg("%llu faults: %s", (unsigned long long)faults, detail);
    }
}

/* Every byte of a code, and every bit of a scale; the structure has nothing to say of them. */
static void test_code_flipped(void **unused) {
    uint32_t bytes = code_bytes(f.rows.dimension, bits);
    const uint32_t slot = 123;

    (void)unused;
    assert_code_faults(0, 0, COUNT, "");
    for (uint32_t at = 0; at < bytes; at++) {
        fixture_block(&f, slot)[at] ^= (uint8_t)(1U << at % 8);
        assert_code_faults(1, 0, COUNT, "slot 123: its code is not that of its vector");
        assert_code_faults(0, 0, slot, "");
        assert_code_faults(0, slot + 1, COUNT, "");
        assert_faults(0, "");
        fixture_block(&f, slot)[at] ^= (uint8_t)(1U << at % 8);
    }
    assert_code_faults(0, 0, COUNT, "");
}

static void test_scale_changed(void **unused) {
    (void)unused;
    for (uint32_t bit = 0; bit < 32; bit++) {
        fixture_words(&f, bit)[FIXTURE_SCALE_WORD] ^= 1U << bit;
        assert_code_faults(bits == 0 ? 0 : bit + 1, 0, COUNT, bits == 0 ? "" : "slot 0: its code");
    }
    /* Another vector under a code is the same fault. */
    fixture_row(&f, 200)[3] += 0.25F;
    assert_code_faults(bits == 0 ? 0 : 1, 200, 201, "");
}

/* Who is not linked has no code yet. */
static void test_unlinked_has_no_code(void **unused) {
    struct fixture part;
    char detail[SHOWN];

    (void)unused;
    fixture_init(&part, 50, 1, 24, M, bits);
    fixture_insert(&part, 0, 30);
    assert_int_equal(hnsw_validate_codes(&part.graph, &part.rows, 0, 50, detail), 0);
    fixture_block(&part, 40)[0] ^= 1;
    assert_int_equal(hnsw_validate_codes(&part.graph, &part.rows, 0, 50, detail), 0);
    fixture_fini(&part);
}

/* --- searches in damaged memory --------------------------------------------------------------------------------------- */

static uint32_t next_random(void) {
    static uint32_t state = 11;

    state = state * 1664525U + 1013904223U;
    return state >> 3;
}

/* Whatever is searched, it ends, and what is found is a slot. */
static void assert_searches_survive(void) {
    static const uint64_t some[COUNT / 64 + 1] = {0x8000000000000001ULL, 0, 0xff, 0, 0x10, 0, 0};
    uint32_t found[COUNT];

    for (int which = 0; which < 3; which++) {
        struct hnsw_request request = fixture_request(&f, fixture_query(&f, 0), which == 1 ? COUNT : 10, 20);
        request.matches = which == 2 ? some : NULL;
        request.match_count = which == 2 ? 11 : 0;
        size_t count = fixture_ask(&f, &request, found);
        assert_in_range(count, 0, request.k);
        for (size_t i = 0; i < count; i++) {
            assert_in_range(found[i], 0, COUNT - 1);
            assert_true(which != 2 || (some[found[i] / 64] >> found[i] % 64 & 1) != 0);
        }
    }
}

static void test_search_survives_links(void **unused) {
    (void)unused;
    for (int round = 0; round < 300; round++) {
        for (int i = 0; i < 20; i++) {
            uint32_t at = next_random() % (1 + HNSW_BASE_LINKS(M)) + FIXTURE_UPPER_WORD;
            uint32_t slot = next_random() % COUNT;
            fixture_words(&f, slot)[at] = round % 2 == 0 ? next_random() << 3 : next_random() % (COUNT + 3);
        }
        if (round % 10 == 0) {
            uint64_t word = next_random();
            f.graph.head->entry = round % 20 == 0 ? word << 32 | word % COUNT : word << 16;
        }
        assert_searches_survive();
        char detail[SHOWN];
        uint64_t unreachable;
        assert_true(hnsw_validate(&f.graph, COUNT, &unreachable, detail) > 0);
    }
}

/* Random codes, and scales that are no numbers, or too large for any. */
static void test_search_survives_codes(void **unused) {
    static const uint32_t scales[] = {0x7f800000U, 0xff800000U, 0x7fc00000U, 0xffc00001U, 0x7f7fffffU, 0xff7fffffU, 1, 0};

    (void)unused;
    for (int round = 0; round < 100; round++) {
        uint32_t bytes = code_bytes(f.rows.dimension, bits);
        for (int i = 0; i < 20; i++) {
            uint32_t slot = next_random() % COUNT;
            for (uint32_t at = 0; at < bytes; at++) {
                fixture_block(&f, slot)[at] = (uint8_t)next_random();
            }
            uint32_t kind = next_random() % 16;
            fixture_words(&f, slot)[FIXTURE_SCALE_WORD] = kind < 8 ? scales[kind] : next_random() << 3;
        }
        assert_searches_survive();
        assert_faults(0, "");
    }
}

/* So may an insertion: it writes lists and must keep within them. */
static void test_insert_survives(void **unused) {
    struct fixture part;

    (void)unused;
    for (int round = 0; round < 20; round++) {
        fixture_init(&part, 200, 1, 24, HNSW_MIN_M, bits);
        fixture_insert(&part, 0, 100);
        for (int i = 0; i < 100; i++) {
            uint32_t slot = next_random() % 100;
            uint32_t kind = next_random() % 3;
            if (kind == 0) {
                fixture_words(&part, slot)[FIXTURE_SCALE_WORD] = next_random() << 3;
            } else {
                fixture_list(&part, slot, 0)[next_random() % fixture_room(&part, 0)] = next_random() % (kind == 1 ? 210 : 100);
            }
        }
        for (uint32_t slot = 100; slot < part.count; slot++) {
            (void)hnsw_insert(&part.graph, &part.rows, part.count, slot, 50, NULL, part.scratch);
        }
        fixture_fini(&part);
    }
}

/* What a head says of the spread is believed only as far as it is a number. */
static void test_search_survives_spread(void **unused) {
    static const float spreads[] = {NAN, INFINITY, -INFINITY, -1.0F, 1e30F, 1e-30F, 0.0F};

    (void)unused;
    for (size_t i = 0; i < sizeof spreads / sizeof *spreads; i++) {
        f.graph.head->spread = spreads[i];
        assert_searches_survive();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_link_out_of_range, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_link_to_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_link_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_link_behind_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_upper_out_of_bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_upper_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_neighbour_below_layer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_forgotten_child, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unreachable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_entry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_head_damaged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_code_flipped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_scale_changed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unlinked_has_no_code, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_search_survives_links, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_search_survives_codes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_search_survives_spread, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_insert_survives, set_up, tear_down),
    };
    int failed = 0;

    (void)distance_init(NULL);
    for (bits = 0; bits <= 8; bits += 4) {
        static const char *const names[] = {"index_hnsw_validate", "index_hnsw_validate, 4 bits", "index_hnsw_validate, 8 bits"};
        failed += cmocka_run_group_tests_name(names[bits / 4], tests, NULL, NULL);
    }
    return failed;
}
