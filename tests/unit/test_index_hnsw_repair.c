/* test_index_hnsw_repair.c - graphs as a power loss may leave them: each sector of its files from another time, or zeros. What repair leaves is sound at every
 * layer, and stays so while the rest is linked again. */
#include "index/distance.h"
#include "index_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COUNT = 600, M = 4, IMAGES = 6, SECTOR = 512, ROUNDS = 60, DIMENSION = 24, QUERIES = 20, HUNDRED = 100 };

/* The files of a graph at one time. */
struct image {
    uint8_t *head;
    uint8_t *base;
    uint8_t *upper;
};

struct specimen {
    struct fixture f;
    size_t base_bytes;
    size_t upper_bytes;
    struct image images[IMAGES];
    uint64_t random;
    uint8_t vectors[COUNT]; /* slots that have one */
};

static uint64_t draw(struct specimen *x) {
    x->random = x->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return x->random >> 33;
}

static uint8_t *copy_of(const void *from, size_t bytes) {
    uint8_t *copy = malloc(bytes + 1);
    assert_non_null(copy);
    memcpy(copy, from, bytes);
    return copy;
}

static void take_image(struct specimen *x, size_t i) {
    x->images[i] = (struct image){.head = copy_of(x->f.graph.head, HNSW_HEAD_BYTES),
                                  .base = copy_of(x->f.graph.base, x->base_bytes),
                                  .upper = copy_of(x->f.graph.upper, x->upper_bytes)};
}

static void specimen_init(struct specimen *x, uint32_t bits) {
    struct hnsw_shape shape = {M, HNSW_DEFAULT_EF_CONSTRUCTION, DIMENSION, bits};
    *x = (struct specimen){.random = bits + 1};
    fixture_init(&x->f, COUNT, QUERIES, DIMENSION, M, bits);
    x->base_bytes = COUNT * hnsw_block_bytes(&shape);
    x->upper_bytes = (size_t)x->f.graph.upper_words * sizeof(uint32_t);
    for (uint32_t i = 0; i < IMAGES; i++) {
        fixture_insert(&x->f, i * COUNT / IMAGES, (i + 1) * COUNT / IMAGES);
        take_image(x, i);
    }
}

static void specimen_fini(struct specimen *x) {
    for (size_t i = 0; i < IMAGES; i++) {
        free(x->images[i].head);
        free(x->images[i].base);
        free(x->images[i].upper);
    }
    fixture_fini(&x->f);
}

/* Sectors of the newest image, `percent` of them from an older one, one of a hundred from none. */
static void tear(struct specimen *x, uint8_t *to, size_t bytes, size_t member, uint32_t percent) {
    for (size_t at = 0; at < bytes; at += SECTOR) {
        size_t len = bytes - at < SECTOR ? bytes - at : SECTOR;
        size_t which = draw(x) % HUNDRED < percent ? draw(x) % IMAGES : IMAGES - 1;
        const uint8_t *from = *(uint8_t *const *)(const void *)((const uint8_t *)&x->images[which] + member);
        if (percent > 0 && draw(x) % HUNDRED == 0) {
            memset(to + at, 0, len);
        } else {
            memcpy(to + at, from + at, len);
        }
    }
}

static void tear_all(struct specimen *x, uint32_t round) {
    static const uint32_t percents[] = {0, 3, 20, 60};
    uint32_t lower = percents[round % 4];
    uint32_t upper = percents[round / 4 % 4];
    tear(x, x->f.graph.base, x->base_bytes, offsetof(struct image, base), lower);
    tear(x, (uint8_t *)x->f.graph.upper, x->upper_bytes, offsetof(struct image, upper), upper);
    memcpy(x->f.graph.head, x->images[draw(x) % IMAGES].head, HNSW_HEAD_BYTES);
    for (uint32_t slot = 0; slot < COUNT; slot++) {
        x->vectors[slot] = round % 3 != 0 || draw(x) % 10 > 0 ? 1 : 0;
    }
}

static bool has_vector(const void *ctx, uint32_t slot) {
    return ((const struct specimen *)ctx)->vectors[slot] != 0;
}

static void repair(struct specimen *x, struct hnsw_repair_report *ret) {
    const struct slot_filter filter = {has_vector, x};
    assert_true(hnsw_repair(&x->f.graph, &x->f.rows, COUNT, &filter, ret));
    fixture_assert_sound(&x->f, COUNT);
    for (uint32_t slot = 0; slot < COUNT; slot++) {
        assert_true(x->vectors[slot] != 0 || fixture_list(&x->f, slot, 0)[0] == HNSW_NONE);
        assert_true(slot >= x->f.graph.head->linked || hnsw_is_linked(&x->f.graph, slot));
    }
}

static void torn_anywhere(uint32_t bits) {
    struct specimen *x = malloc(sizeof *x);
    char detail[160];
    assert_non_null(x);
    specimen_init(x, bits);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct hnsw_repair_report report;
        struct hnsw_repair_report again;
        tear_all(x, round);
        repair(x, &report);
        repair(x, &again);
        assert_int_equal(again.dropped, 0);
        for (uint32_t slot = 0; slot < COUNT; slot++) { /* one by one, because a list is at its worst in between */
            if (x->vectors[slot] != 0) {
                uint64_t unreachable;
                fixture_insert(&x->f, slot, slot + 1);
                if (slot % 16 == 0) {
                    assert_int_equal(hnsw_validate(&x->f.graph, COUNT, &unreachable, detail), 0);
                }
            }
        }
        fixture_assert_sound(&x->f, COUNT);
        for (uint32_t slot = 0; slot < COUNT; slot++) {
            assert_int_equal(hnsw_is_linked(&x->f.graph, slot), x->vectors[slot] != 0);
        }
        assert_int_equal(hnsw_validate_codes(&x->f.graph, &x->f.rows, 0, bits != 0 ? COUNT : 0, detail), 0);
    }
    specimen_fini(x);
    free(x);
}

static void torn_without_codes(void **unused) {
    (void)unused;
    torn_anywhere(0);
}

static void torn_with_codes(void **unused) {
    (void)unused;
    torn_anywhere(8);
}

static void a_whole_graph_stays(void **unused) {
    struct specimen *x = malloc(sizeof *x);
    struct hnsw_repair_report report;
    (void)unused;
    assert_non_null(x);
    specimen_init(x, 8);
    memset(x->vectors, 1, sizeof x->vectors);
    repair(x, &report);
    assert_int_equal(report.dropped, 0);
    assert_int_equal(report.recoded, 0);
    assert_memory_equal(x->f.graph.base, x->images[IMAGES - 1].base, x->base_bytes);
    assert_memory_equal(x->f.graph.upper, x->images[IMAGES - 1].upper, x->upper_bytes);
    assert_int_equal(x->f.graph.head->entry, ((const struct hnsw_head *)(const void *)x->images[IMAGES - 1].head)->entry);
    specimen_fini(x);
    free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_graph_stays),
        cmocka_unit_test(torn_without_codes),
        cmocka_unit_test(torn_with_codes),
    };
    (void)distance_init(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
