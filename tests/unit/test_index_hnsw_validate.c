/* test_index_hnsw_validate.c - faults planted one by one into a sound graph: each is found, and named. */
#include "index/distance.h"
#include "index_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COUNT = 400, M = 8, BLOCK_LEVEL_WORD = 0, BLOCK_UPPER_WORD = 1 };

static struct fixture f;

static int set_up(void **unused) {
    (void)unused;
    fixture_init(&f, COUNT, 1, 24, M);
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

    while (n < (layer == 0 ? 2 * M : M) && fixture_list(&f, slot, layer)[n] != HNSW_NONE) {
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

static uint32_t *block_of(uint32_t slot) {
    return (uint32_t *)(void *)(f.graph.base + (size_t)slot * hnsw_base_block_bytes(M));
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

static void test_level_not_as_drawn(void **unused) {
    uint32_t slot = slot_of_level(0);

    (void)unused;
    block_of(slot)[BLOCK_LEVEL_WORD] = 1;
    assert_faults(1, "level 1, but 0 was drawn");
    block_of(slot)[BLOCK_LEVEL_WORD] = UINT32_MAX;
    assert_faults(1, "but 0 was drawn");
}

/* A node that lost its height: itself, and whoever links to it above. */
static void test_level_lost(void **unused) {
    uint32_t slot = slot_of_level(1);
    uint32_t links_to_it = 0;

    (void)unused;
    for (uint32_t other = 0; other < COUNT; other++) {
        for (uint32_t i = 0; hnsw_level_of(other, M) >= 1 && i < length_of(other, 1); i++) {
            links_to_it += fixture_list(&f, other, 1)[i] == slot;
        }
    }
    block_of(slot)[BLOCK_LEVEL_WORD] = 0;
    char detail[160];
    uint64_t unreachable;
    /* One for the node, one for each link to it, and one for each child that it no longer holds. */
    assert_true(links_to_it > 0);
    assert_in_range(hnsw_validate(&f.graph, COUNT, &unreachable, detail), 1 + links_to_it, 1 + 2 * links_to_it);
}

static void test_upper_out_of_bounds(void **unused) {
    uint32_t slot = slot_of_level(1);
    uint32_t right = block_of(slot)[BLOCK_UPPER_WORD];

    (void)unused;
    block_of(slot)[BLOCK_UPPER_WORD] = (uint32_t)f.graph.head->upper_used;
    char detail[160];
    uint64_t unreachable;
    assert_true(hnsw_validate(&f.graph, COUNT, &unreachable, detail) > 0);
    block_of(slot)[BLOCK_UPPER_WORD] = UINT32_MAX;
    assert_true(hnsw_validate(&f.graph, COUNT, &unreachable, detail) > 0);
    block_of(slot)[BLOCK_UPPER_WORD] = right;
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
            block_of(slot)[BLOCK_UPPER_WORD] = block_of(first)[BLOCK_UPPER_WORD];
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

/* A damaged graph must not crash a search either, nor keep it walking for ever. */
static void test_search_survives(void **unused) {
    uint32_t state = 11;
    uint32_t found[10];

    (void)unused;
    for (int round = 0; round < 300; round++) {
        for (int i = 0; i < 20; i++) {
            state = state * 1664525U + 1013904223U;
            uint32_t slot = (state >> 8) % COUNT;
            block_of(slot)[(state >> 4) % (2 + 2 * M)] = round % 2 == 0 ? state : state % (COUNT + 3);
        }
        if (round % 10 == 0) {
            f.graph.head->entry = round % 20 == 0 ? (uint64_t)state << 32 | state % COUNT : (uint64_t)state << 16;
        }
        assert_true(fixture_search(&f, fixture_query(&f, 0), 10, 20, NULL, found) <= 10);
        char detail[160];
        uint64_t unreachable;
        assert_true(hnsw_validate(&f.graph, COUNT, &unreachable, detail) > 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_link_out_of_range, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_link_to_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_link_twice, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_link_behind_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_level_not_as_drawn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_level_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_upper_out_of_bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_upper_shared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_neighbour_below_layer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_forgotten_child, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unreachable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_entry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_head_damaged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_search_survives, set_up, tear_down),
    };
    (void)distance_init(NULL);
    return cmocka_run_group_tests_name("index_hnsw_validate", tests, NULL, NULL);
}
