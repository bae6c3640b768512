/*
 * test_index_hnsw.c - building and searching a graph: recall, what lies at the edges (nothing, one node, copies, zeros),
 * deletions, views that are older than the graph. After every building the validator and a walk over every layer must find it
 * whole.
 */
#include "index/distance.h"
#include "index/scan.h"
#include "index_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { EF = HNSW_DEFAULT_EF_SEARCH, K = 10, SMALL = 600 };

static uint32_t bits; /* of the codes, in this round */

static void test_levels(void **unused) {
    uint32_t counts[HNSW_MAX_LEVEL + 1] = {0};
    uint64_t words = 0;

    (void)unused;
    for (uint32_t slot = 0; slot < 160000; slot++) {
        uint32_t level = hnsw_level_of(slot, 16);
        assert_true(level <= HNSW_MAX_LEVEL);
        counts[level]++;
        words += level * 16;
    }
    /* One in 16 reaches layer 1, one in 256 layer 2: within five standard deviations. */
    assert_in_range(160000 - counts[0], 10000 - 500, 10000 + 500);
    assert_in_range(160000 - counts[0] - counts[1], 625 - 125, 625 + 125);
    assert_int_equal(hnsw_upper_words_for(0, 160000, 16), words);
    assert_int_equal(hnsw_upper_words_for(0, 99, 16) + hnsw_upper_words_for(99, 160000, 16), words);
    assert_int_equal(hnsw_upper_words_for(7, 7, 16), 0);
}

/* Levels stand in files: the same slots must reach the same layers in every version. */
static void test_levels_never_change(void **unused) {
    static const uint32_t reach_two[] = {381, 470, 889, 918, 982, 1047, 1502, 1769};
    size_t n = 0;

    (void)unused;
    for (uint32_t slot = 0; slot < 2000; slot++) {
        if (hnsw_level_of(slot, 16) >= 2) {
            assert_true(n < sizeof reach_two / sizeof *reach_two);
            assert_int_equal(slot, reach_two[n++]);
        }
    }
    assert_int_equal(n, sizeof reach_two / sizeof *reach_two);
}

static void check_recall(uint32_t count, uint32_t dimension, double at_least) {
    struct fixture f;

    fixture_init(&f, count, 200, dimension, HNSW_DEFAULT_M, bits);
    fixture_insert(&f, 0, count);
    fixture_assert_sound(&f, count);
    double recall = fixture_recall(&f, K, EF);
    print_message("# recall@%d of %u x %u at ef %d, %u bits: %.4f\n", K, count, dimension, EF, bits, recall);
    assert_true(recall >= at_least);
    assert_true(fixture_recall(&f, K, 4 * EF) >= recall);
    fixture_fini(&f);
}

static void test_recall_64(void **unused) {
    (void)unused;
    check_recall(5000, 64, 0.995);
}

static void test_recall_384(void **unused) {
    (void)unused;
    check_recall(2000, 384, 0.995);
}

/* The smallest M: short lists, many layers, and little room for children. */
static void test_smallest_m(void **unused) {
    struct fixture f;

    (void)unused;
    fixture_init(&f, 2000, 100, 32, HNSW_MIN_M, bits);
    fixture_insert(&f, 0, f.count);
    fixture_assert_sound(&f, f.count);
    assert_true(fixture_recall(&f, K, 200) > 0.9);
    fixture_fini(&f);
}

static void test_largest_m(void **unused) {
    struct fixture f;

    (void)unused;
    fixture_init(&f, SMALL, 50, 32, HNSW_MAX_M, bits);
    fixture_insert(&f, 0, f.count);
    fixture_assert_sound(&f, f.count);
    assert_true(fixture_recall(&f, K, EF) > 0.99);
    fixture_fini(&f);
}

static void test_few(void **unused) {
    struct fixture f;
    uint32_t found[K];
    struct hnsw_statistics s;

    (void)unused;
    fixture_init(&f, 3, 1, 24, HNSW_DEFAULT_M, bits);
    assert_int_equal(fixture_search(&f, fixture_query(&f, 0), K, EF, found), 0);
    fixture_assert_sound(&f, 3);
    hnsw_statistics(&f.graph, 3, &s);
    assert_true(s.nodes == 0 && s.levels == 0 && s.links == 0 && s.isolated == 0);

    fixture_insert(&f, 1, 2);
    assert_int_equal(fixture_search(&f, fixture_query(&f, 0), K, EF, found), 1);
    assert_int_equal(found[0], 1);
    fixture_assert_sound(&f, 3);
    hnsw_statistics(&f.graph, 3, &s);
    assert_true(s.nodes == 1 && s.isolated == 0);

    fixture_insert(&f, 0, 3); /* 1 is linked already, and is left alone */
    assert_int_equal(fixture_search(&f, fixture_row(&f, 2), K, EF, found), 3);
    assert_int_equal(found[0], 2);
    fixture_assert_sound(&f, 3);
    hnsw_statistics(&f.graph, 3, &s);
    assert_true(s.nodes == 3 && s.nodes_at_level[0] == 3 && s.isolated == 0 && s.max_degree == 2);
    fixture_fini(&f);
}

static void test_inserting_twice_changes_nothing(void **unused) {
    struct fixture f;
    uint8_t *before;

    (void)unused;
    fixture_init(&f, SMALL, 1, 24, HNSW_DEFAULT_M, bits);
    size_t bytes = SMALL * (size_t)f.graph.head->block_bytes;
    before = malloc(bytes);
    assert_non_null(before);
    fixture_insert(&f, 0, SMALL);
    memcpy(before, f.graph.base, bytes);
    fixture_insert(&f, 0, SMALL);
    assert_memory_equal(f.graph.base, before, bytes);
    free(before);
    fixture_fini(&f);
}

static void test_same_input_same_graph(void **unused) {
    struct fixture a;
    struct fixture b;

    (void)unused;
    fixture_init(&a, SMALL, 1, 24, HNSW_DEFAULT_M, bits);
    fixture_init(&b, SMALL, 1, 24, HNSW_DEFAULT_M, bits);
    fixture_insert(&a, 0, SMALL);
    fixture_insert(&b, 0, SMALL);
    assert_memory_equal(a.graph.base, b.graph.base, SMALL * (size_t)a.graph.head->block_bytes);
    assert_memory_equal(a.graph.upper, b.graph.upper, a.graph.upper_words * sizeof(uint32_t));
    fixture_fini(&a);
    fixture_fini(&b);
}

/* --- copies and zeros ------------------------------------------------------------------------------------------------- */

/* Each of the first `copies` slots can be found, alone, by a walk that passes through all others. */
static void assert_each_findable(struct fixture *f, uint32_t copies, uint32_t step) {
    uint64_t *wanted = calloc(f->count / 64 + 1, sizeof *wanted);

    assert_non_null(wanted);
    for (uint32_t slot = 0; slot < copies; slot += step) {
        struct hnsw_request request = fixture_request(f, fixture_row(f, slot), 1, 1);
        uint32_t found[1];
        request.matches = wanted;
        request.match_count = 1;
        wanted[slot / 64] = 1ULL << slot % 64;
        assert_int_equal(fixture_ask(f, &request, found), 1);
        assert_int_equal(found[0], slot);
        wanted[slot / 64] = 0;
    }
    free(wanted);
}

/* Links of a copy to those that are none. */
static uint32_t links_out_of(const struct fixture *f, uint32_t slot, uint32_t copies) {
    const uint32_t *links = fixture_list(f, slot, 0);
    uint32_t n = 0;

    for (uint32_t i = 0; i < HNSW_BASE_LINKS(HNSW_DEFAULT_M) && links[i] != HNSW_NONE; i++) {
        n += links[i] >= copies;
    }
    return n;
}

/* copies of one vector, then others, or the others first. */
static void check_copies(bool others_first, bool zero) {
    struct fixture f;
    uint32_t found[K];
    const uint32_t copies = 1000;

    fixture_init(&f, 2000, 50, 32, HNSW_DEFAULT_M, bits);
    for (uint32_t slot = 0; slot < copies; slot++) {
        if (zero) {
            memset(fixture_row(&f, slot), 0, 32 * sizeof(float));
        } else {
            memcpy(fixture_row(&f, slot), fixture_row(&f, 0), 32 * sizeof(float));
        }
    }
    fixture_insert(&f, others_first ? copies : 0, others_first ? f.count : copies);
    fixture_insert(&f, others_first ? 0 : copies, others_first ? copies : f.count);
    fixture_assert_sound(&f, f.count);
    assert_each_findable(&f, copies, 37);
    assert_int_equal(fixture_search(&f, fixture_row(&f, 5), K, EF, found), K);
    if (!zero) {
        for (size_t i = 0; i < K; i++) {
            assert_true(found[i] < copies);
        }
        /* The copies must not hide the others, nor those from them. */
        assert_true(fixture_recall(&f, K, EF) > 0.95);
        assert_true(links_out_of(&f, 0, copies) > 0);
    }
    fixture_fini(&f);
}

static void test_copies_first(void **unused) {
    (void)unused;
    check_copies(false, false);
}

static void test_copies_last(void **unused) {
    (void)unused;
    check_copies(true, false);
}

static void test_zeros_first(void **unused) {
    (void)unused;
    check_copies(false, true);
}

static void test_zeros_last(void **unused) {
    (void)unused;
    check_copies(true, true);
}

/* Nothing but copies: no outsider holds them together. */
static void test_only_copies(void **unused) {
    struct fixture f;

    (void)unused;
    fixture_init(&f, 1000, 1, 32, HNSW_DEFAULT_M, bits);
    for (uint32_t slot = 1; slot < f.count; slot++) {
        memcpy(fixture_row(&f, slot), fixture_row(&f, 0), 32 * sizeof(float));
    }
    fixture_insert(&f, 0, f.count);
    fixture_assert_sound(&f, f.count);
    assert_each_findable(&f, f.count, 41);
    fixture_fini(&f);
}

/* Two groups far apart, each too large for any list: the nodes of one must not forget the way to the other. */
static void test_two_islands(void **unused) {
    struct fixture f;

    (void)unused;
    fixture_init(&f, 1000, 1, 32, HNSW_DEFAULT_M, bits);
    for (uint32_t slot = 0; slot < f.count; slot++) {
        float *row = fixture_row(&f, slot);
        for (size_t i = 0; i < 32; i++) {
            row[i] = row[i] * 0.001F + (i == (slot < f.count / 2 ? 3 : 4) ? 1.0F : 0.0F);
        }
        (void)vector_normalize(row, 32);
    }
    fixture_insert(&f, 0, f.count);
    fixture_assert_sound(&f, f.count);
    assert_each_findable(&f, f.count, 7);
    fixture_fini(&f);
}

/* --- deletions and views ---------------------------------------------------------------------------------------------- */

static bool accepts_alive(const void *ctx, uint32_t slot) {
    const uint8_t *alive = ctx;
    return alive[slot] != 0;
}

/* Where most are dead a walk may run out of room and find fewer, but a dead one is never found. */
static void check_deletions(struct fixture *f, const uint8_t *alive, uint32_t left) {
    uint32_t found[K];

    for (uint32_t q = 0; q < f->queries; q++) {
        struct hnsw_request request = fixture_request(f, fixture_query(f, q), K, EF);
        request.visible = (struct slot_filter){accepts_alive, alive};
        size_t count = fixture_ask(f, &request, found);
        assert_in_range(count, left >= f->count / 4 ? K : 0, left < K ? left : K);
        for (uint32_t i = 0; i < count; i++) {
            assert_true(alive[found[i]]);
        }
    }
}

static void test_deletions(void **unused) {
    struct fixture f;
    uint32_t left;
    uint8_t *alive = malloc(2000);

    (void)unused;
    assert_non_null(alive);
    fixture_init(&f, 2000, 20, 32, HNSW_DEFAULT_M, bits);
    fixture_insert(&f, 0, f.count);
    memset(alive, 1, f.count);
    left = f.count;
    for (uint32_t keep_every = 2; keep_every < 5000; keep_every *= 3) {
        for (uint32_t slot = 0; slot < f.count; slot++) {
            if (alive[slot] && slot % keep_every != keep_every / 2) {
                alive[slot] = 0;
                hnsw_node_died(&f.graph, slot);
                left--;
            }
        }
        check_deletions(&f, alive, left);
    }
    assert_int_equal(left, 0);
    fixture_assert_sound(&f, f.count); /* the hint has a bit of its own */
    free(alive);
    fixture_fini(&f);
}

/* A deletion that this view does not know yet: the hint is set, and the node is found all the same. Without a hint nobody is asked. */
static void test_hint_is_only_a_hint(void **unused) {
    struct fixture f;
    uint8_t *alive = calloc(SMALL, 1);
    uint32_t before[K];
    uint32_t after[K];

    (void)unused;
    assert_non_null(alive);
    fixture_init(&f, SMALL, 5, 32, HNSW_DEFAULT_M, bits);
    fixture_insert(&f, 0, SMALL);
    for (uint32_t q = 0; q < f.queries; q++) {
        struct hnsw_request request = fixture_request(&f, fixture_query(&f, q), K, EF);
        request.visible = (struct slot_filter){accepts_alive, alive};
        memset(alive, 0, SMALL); /* nobody would be accepted, but nobody has a hint */
        assert_int_equal(fixture_ask(&f, &request, before), K);
        memset(alive, 1, SMALL);
        for (uint32_t i = 0; i < K; i++) {
            hnsw_node_died(&f.graph, before[i]);
        }
        assert_int_equal(fixture_ask(&f, &request, after), K);
        assert_memory_equal(before, after, sizeof before);
        for (uint32_t i = 0; i < K; i++) {
            fixture_words(&f, before[i])[FIXTURE_UPPER_WORD] &= INT32_MAX;
        }
    }
    free(alive);
    fixture_fini(&f);
}

/* The rows of the first `view` slots in memory that ends with the last of them: what reads beyond dies. */
struct fenced {
    char *map;
    size_t size;
    struct vector_rows rows;
};

static struct fenced fenced_rows(const struct fixture *f, uint32_t view) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = view * f->rows.stride * sizeof(float);
    size_t whole = (bytes + page - 1) / page * page;
    struct fenced r = {.size = whole + page, .rows = f->rows};

    r.map = mmap(NULL, r.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(r.map != MAP_FAILED);
    assert_int_equal(mprotect(r.map + whole, page, PROT_NONE), 0);
    r.rows.base = (const float *)(const void *)(r.map + whole - bytes);
    memcpy(r.map + whole - bytes, f->rows.base, bytes);
    return r;
}

/* Searches in view of the first `view` slots only, of which those below `below` are offered. */
static size_t search_view(struct fixture *f, uint32_t view, uint32_t below, uint32_t q, uint32_t *found) {
    struct neighbor storage[K];
    struct topk best;
    struct fenced r = fenced_rows(f, view);

    struct hnsw_request request = fixture_request(f, fixture_query(f, q), K, EF);

    request.slots = view;
    request.below = below;
    topk_init(&best, storage, K);
    assert_true(hnsw_search(&f->graph, &r.rows, &request, f->scratch, &best) != UINT64_MAX);
    assert_int_equal(munmap(r.map, r.size), 0);
    size_t count = topk_finish(&best);
    for (size_t i = 0; i < count; i++) {
        found[i] = storage[i].slot;
    }
    return count;
}

static void test_older_view(void **unused) {
    struct fixture f;
    uint32_t found[K];

    (void)unused;
    fixture_init(&f, 2000, 20, 32, HNSW_DEFAULT_M, bits);
    fixture_insert(&f, 0, f.count);
    uint32_t entry = (uint32_t)f.graph.head->entry;
    assert_true(entry >= 100 && entry < 1900); /* so that the views below lie on both sides of it */
    const uint32_t views[] = {2000, entry + 1, entry, 1000, 100};
    for (size_t v = 0; v < sizeof views / sizeof *views; v++) {
        for (uint32_t below = views[v]; below > K; below /= 2) {
            for (uint32_t q = 0; q < f.queries; q++) {
                size_t count = search_view(&f, views[v], below, q, found);
                /* Where most of the view is no result, a walk may run out of room first. */
                assert_in_range(count, below >= views[v] / 4 ? K : 0, K);
                for (size_t i = 0; i < count; i++) {
                    assert_true(found[i] < below);
                }
            }
        }
    }
    assert_int_equal(search_view(&f, 0, 0, 0, found), 0);
    fixture_fini(&f);
}

/* Moves the blocks to pages of their own, so that those beyond a count can be put out of reach. Returns the size of the map. */
static size_t move_blocks(struct fixture *f) {
    size_t bytes = f->count * (size_t)f->graph.head->block_bytes;
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(map != MAP_FAILED);
    memcpy(map, f->graph.base, bytes);
    free(f->graph.base);
    f->graph.base = map;
    return bytes;
}

static void hide_blocks_from(struct fixture *f, uint32_t slot, size_t bytes, int protection) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t first = (slot * (size_t)f->graph.head->block_bytes + page - 1) / page * page;

    assert_int_equal(mprotect(f->graph.base + first, bytes - first, protection), 0);
}

/* A linker that knows fewer slots than others have linked must not touch what it does not know, nor lose it. */
static void test_older_count_inserts(void **unused) {
    struct fixture f;

    (void)unused;
    fixture_init(&f, SMALL, 1, 32, HNSW_DEFAULT_M, bits);
    fixture_insert(&f, 100, SMALL);
    /* Nothing that is linked is known: refused, and nothing changed. */
    assert_false(hnsw_insert(&f.graph, &f.rows, 50, 7, EF, NULL, f.scratch));
    assert_int_equal(fixture_list(&f, 7, 0)[0], HNSW_NONE);
    /* With most of them known it finds its place among those, whether the entry point is one or not. */
    size_t bytes = move_blocks(&f);
    for (uint32_t slot = 0; slot < 100; slot++) {
        uint32_t known = 400 + slot;
        struct fenced r = fenced_rows(&f, known);
        hide_blocks_from(&f, known, bytes, PROT_NONE);
        assert_true(hnsw_insert(&f.graph, &r.rows, known, slot, EF, NULL, f.scratch));
        hide_blocks_from(&f, known, bytes, PROT_READ | PROT_WRITE);
        assert_int_equal(munmap(r.map, r.size), 0);
    }
    fixture_assert_sound(&f, SMALL);
    assert_each_findable(&f, SMALL, 1);
    assert_int_equal(munmap(f.graph.base, bytes), 0);
    f.graph.base = NULL;
    fixture_fini(&f);
}

static void test_statistics(void **unused) {
    struct fixture f;
    struct hnsw_statistics s;
    uint64_t links = 0;

    (void)unused;
    fixture_init(&f, SMALL, 1, 32, HNSW_DEFAULT_M, bits);
    fixture_insert(&f, 0, 500);
    hnsw_statistics(&f.graph, SMALL, &s);
    assert_int_equal(s.nodes, 500);
    assert_int_equal(s.nodes_at_level[0], 500);
    assert_int_equal(s.levels, (f.graph.head->entry >> 32) + 1);
    assert_int_equal(s.isolated, 0);
    assert_in_range(s.max_degree, 1, HNSW_BASE_LINKS(HNSW_DEFAULT_M));
    for (uint32_t slot = 0; slot < 500; slot++) {
        for (uint32_t i = 0; i < HNSW_BASE_LINKS(HNSW_DEFAULT_M) && fixture_list(&f, slot, 0)[i] != HNSW_NONE; i++) {
            links++;
        }
    }
    assert_true(s.mean_degree > (double)links / 500 - 0.001 && s.mean_degree < (double)links / 500 + 0.001);
    assert_true(s.links > links);
    fixture_fini(&f);
}

/* Linked, dead: what the owner of the queue and the committer ask and say of one node. */
static void test_node_states(void **unused) {
    struct fixture f;

    (void)unused;
    fixture_init(&f, SMALL, 1, 32, HNSW_DEFAULT_M, bits);
    assert_false(hnsw_is_linked(&f.graph, 5));
    fixture_insert(&f, 5, 6);
    assert_true(hnsw_is_linked(&f.graph, 5)); /* the entry point, without a link */
    fixture_insert(&f, 6, 300);
    for (uint32_t slot = 0; slot < SMALL; slot++) {
        assert_int_equal(hnsw_is_linked(&f.graph, slot), slot >= 5 && slot < 300);
    }
    for (uint32_t slot = 0; slot < SMALL; slot++) {
        uint32_t before = fixture_words(&f, slot)[FIXTURE_UPPER_WORD];
        hnsw_node_died(&f.graph, slot);
        hnsw_node_died(&f.graph, slot);
        assert_int_equal(fixture_words(&f, slot)[FIXTURE_UPPER_WORD], before | 0x80000000U);
        assert_int_equal(hnsw_is_linked(&f.graph, slot), slot >= 5 && slot < 300);
    }
    /* The dead are linked, and link others, as anybody. */
    fixture_insert(&f, 300, SMALL);
    fixture_assert_sound(&f, SMALL);
    fixture_fini(&f);
}

static void test_head(void **unused) {
    struct hnsw_head *head = calloc(1, HNSW_HEAD_BYTES);
    const struct hnsw_shape good = {16, 200, 384, bits};

    (void)unused;
    assert_non_null(head);
    assert_false(hnsw_head_valid(head));
    hnsw_head_init(head, &good);
    assert_true(hnsw_head_valid(head));
    assert_int_equal(head->block_bytes, bits == 0 ? 128 : bits == 4 ? 320 : 512);
    head->block_bytes += 64;
    assert_false(hnsw_head_valid(head));
    const struct hnsw_shape bad[] = {
        {HNSW_MAX_M + 1, 200, 384, bits}, {HNSW_MIN_M - 1, 200, 384, bits},        {16, 0, 384, bits}, {16, 200, 0, bits},
        {16, 200, 384, bits + 1},         {16, 200, HNSW_MAX_DIMENSION + 1, bits}, {16, 200, 384, 16},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hnsw_head_init(head, &bad[i]);
        assert_false(hnsw_head_valid(head));
    }
    hnsw_head_init(head, &good);
    head->format++;
    assert_false(hnsw_head_valid(head));
    free(head);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_levels_never_change),
        cmocka_unit_test(test_recall_64),
        cmocka_unit_test(test_recall_384),
        cmocka_unit_test(test_smallest_m),
        cmocka_unit_test(test_largest_m),
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_inserting_twice_changes_nothing),
        cmocka_unit_test(test_same_input_same_graph),
        cmocka_unit_test(test_copies_first),
        cmocka_unit_test(test_copies_last),
        cmocka_unit_test(test_zeros_first),
        cmocka_unit_test(test_zeros_last),
        cmocka_unit_test(test_only_copies),
        cmocka_unit_test(test_two_islands),
        cmocka_unit_test(test_deletions),
        cmocka_unit_test(test_hint_is_only_a_hint),
        cmocka_unit_test(test_node_states),
        cmocka_unit_test(test_older_view),
        cmocka_unit_test(test_older_count_inserts),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_head),
    };
    int failed = 0;

    (void)distance_init(NULL);
    for (bits = 0; bits <= 8; bits += 4) {
        static const char *const names[] = {"index_hnsw", "index_hnsw, 4 bits", "index_hnsw, 8 bits"};
        failed += cmocka_run_group_tests_name(names[bits / 4], tests, NULL, NULL);
    }
    return failed;
}
