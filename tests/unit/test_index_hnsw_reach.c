/*
 * test_index_hnsw_reach.c - how far a walk goes and what it may bring home: filters, the dead, k beyond ef and beyond what there is. The truth is
 * a plain comparison of all vectors that are accepted.
 */
#include "index/distance.h"
#include "index/scan.h"
#include "index_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    COUNT = 3000,
    QUERIES = 40,
    DIMENSION = 48,
    K = 10,
    EF = 64,
    HIGH_EF = 400,
    WORDS = COUNT / 64 + 1,
    MANY = 1000,
    PERCENT = 100
};

static uint32_t bits; /* of the codes, in this round */
static struct fixture f;

/* The graph as it is linked for these bits, so that it need not be linked for every test. */
static struct {
    uint8_t *base;
    uint32_t *upper;
    struct hnsw_head head;
} kept;

static void keep_graph(void) {
    size_t bytes = (size_t)COUNT * f.graph.head->block_bytes;
    kept.base = malloc(bytes);
    kept.upper = malloc((f.graph.upper_words + 1) * sizeof(uint32_t));
    assert_true(kept.base != NULL && kept.upper != NULL);
    memcpy(kept.base, f.graph.base, bytes);
    memcpy(kept.upper, f.graph.upper, f.graph.upper_words * sizeof(uint32_t));
    kept.head = *f.graph.head;
}

static void forget_graph(void) {
    free(kept.base);
    free(kept.upper);
    kept.base = NULL;
    kept.upper = NULL;
}

static int set_up(void **unused) {
    (void)unused;
    fixture_init(&f, COUNT, QUERIES, DIMENSION, HNSW_DEFAULT_M, bits);
    if (kept.base == NULL) {
        fixture_insert(&f, 0, COUNT);
        keep_graph();
    } else {
        memcpy(f.graph.base, kept.base, (size_t)COUNT * f.graph.head->block_bytes);
        memcpy(f.graph.upper, kept.upper, f.graph.upper_words * sizeof(uint32_t));
        *f.graph.head = kept.head;
    }
    return 0;
}

static int tear_down(void **unused) {
    (void)unused;
    fixture_fini(&f);
    return 0;
}

/* Which slots are wanted, and which of them live. */
struct subset {
    uint64_t matches[WORDS];
    uint64_t match_count;
    uint64_t alive[WORDS];
    uint32_t accepted;
};

static bool has(const uint64_t *set, uint32_t slot) {
    return (set[slot / 64] >> slot % 64 & 1) != 0;
}

static bool is_accepted(const void *ctx, uint32_t slot) {
    const struct subset *s = ctx;
    return has(s->matches, slot) && has(s->alive, slot);
}

static bool is_alive(const void *ctx, uint32_t slot) {
    return has(((const struct subset *)ctx)->alive, slot);
}

static uint32_t drawn(void) {
    static uint32_t state = 3;

    state = state * 1664525U + 1013904223U;
    return (state >> 8) % (PERCENT * PERCENT);
}

/* So many of ten thousand match, and live. */
static struct subset subset_of(uint32_t matching, uint32_t living) {
    struct subset s = {.match_count = 0};

    for (uint32_t slot = 0; slot < COUNT; slot++) {
        bool match = drawn() < matching;
        bool lives = drawn() < living;
        s.matches[slot / 64] |= (uint64_t)match << slot % 64;
        s.alive[slot / 64] |= (uint64_t)lives << slot % 64;
        s.match_count += match;
        s.accepted += match && lives;
    }
    return s;
}

static void kill_dead(const struct subset *s) {
    for (uint32_t slot = 0; slot < COUNT; slot++) {
        if (!has(s->alive, slot)) {
            hnsw_node_died(&f.graph, slot);
        }
    }
}

static struct hnsw_request request_for(const struct subset *s, uint32_t q, uint32_t k, uint32_t ef) {
    struct hnsw_request request = fixture_request(&f, fixture_query(&f, q), k, ef);

    request.matches = s->match_count < COUNT ? s->matches : NULL;
    request.match_count = s->match_count < COUNT ? s->match_count : 0;
    request.visible = (struct slot_filter){is_alive, s};
    return request;
}

/* Asks for all queries. None is a reject, at least `least` come home each time. Returns the share of the true neighbours that was found. */
static double recall_within(const struct subset *s, uint32_t k, uint32_t ef, uint32_t least) {
    static uint32_t found[FIXTURE_MAX_K];
    static struct neighbor storage[FIXTURE_MAX_K];
    uint64_t hits = 0;
    uint64_t possible = 0;

    for (uint32_t q = 0; q < QUERIES; q++) {
        struct hnsw_request request = request_for(s, q, k, ef);
        struct slot_filter filter = {is_accepted, s};
        struct topk truth;
        size_t count = fixture_ask(&f, &request, found);
        topk_init(&truth, storage, k);
        (void)scan_exact(&f.rows, 0, COUNT, request.query, &filter, &truth);
        size_t there = topk_finish(&truth);
        assert_in_range(count, least < there ? least : there, there);
        for (size_t i = 0; i < count; i++) {
            assert_true(is_accepted(s, found[i]));
            assert_true(i == 0 || found[i] != found[i - 1]);
            float distance = cosine_distance(dot_product(request.query, vector_row(&f.rows, found[i]), DIMENSION));
            hits += distance <= storage[there - 1].distance;
        }
        possible += there;
    }
    return possible > 0 ? (double)hits / (double)possible : 1.0;
}

/* --- filters ---------------------------------------------------------------------------------------------------------- */

static void test_matches(void **unused) {
    static const uint32_t share[] = {5000, 1000, 100};

    (void)unused;
    for (size_t i = 0; i < sizeof share / sizeof *share; i++) {
        struct subset s = subset_of(share[i], PERCENT * PERCENT);
        double usual = recall_within(&s, K, EF, K);
        double high = recall_within(&s, K, HIGH_EF, K);
        print_message("# recall@%d of %u of %d at ef %d: %.4f, at ef %d: %.4f\n", K, s.accepted, COUNT, EF, usual, HIGH_EF, high);
        assert_true(usual >= 0.97);
        assert_true(high >= 0.995);
    }
}

static void test_matches_and_deaths(void **unused) {
    struct subset s = subset_of(3000, 7000);

    (void)unused;
    kill_dead(&s);
    assert_true(recall_within(&s, K, EF, K) >= 0.97);
    assert_true(recall_within(&s, K, HIGH_EF, K) >= 0.995);
}

/* The dead are no filter that was counted beforehand, so where they are most, the room may not do. */
static void test_deaths(void **unused) {
    static const uint32_t living[] = {9000, 5000, 1000, 100};

    (void)unused;
    for (size_t i = 0; i < sizeof living / sizeof *living; i++) {
        struct subset s = subset_of(PERCENT * PERCENT, living[i]);
        kill_dead(&s);
        double recall = recall_within(&s, K, HIGH_EF, living[i] >= 1000 ? K : 0);
        assert_true(recall >= 0.995 || living[i] < 1000);
        tear_down(NULL);
        set_up(NULL);
    }
}

/* Fewer than k match: they are all found, however far they are, and the walk ends. */
static void test_fewer_than_wanted(void **unused) {
    (void)unused;
    for (uint32_t matching = 0; matching < K; matching += 3) {
        struct subset s = subset_of(0, PERCENT * PERCENT);
        s.match_count = s.accepted = matching;
        for (uint32_t i = 0; i < matching; i++) {
            uint32_t slot = i * (COUNT - 1) / K;
            s.matches[slot / 64] |= 1ULL << slot % 64;
        }
        assert_true(recall_within(&s, K, EF, K) >= 1.0);
        struct hnsw_request request = request_for(&s, 0, K, EF);
        struct neighbor storage[K];
        struct topk best;
        topk_init(&best, storage, K);
        assert_in_range(hnsw_search(&f.graph, &f.rows, &request, f.scratch, &best), 1, 2 * COUNT);
    }
}

static void test_all_dead(void **unused) {
    struct subset s = subset_of(PERCENT * PERCENT, 0);
    uint32_t found[K];

    (void)unused;
    kill_dead(&s);
    struct hnsw_request request = request_for(&s, 0, K, EF);
    assert_int_equal(fixture_ask(&f, &request, found), 0);
}

/* --- k and ef --------------------------------------------------------------------------------------------------------- */

static void test_k_beyond_ef(void **unused) {
    struct subset all = subset_of(PERCENT * PERCENT, PERCENT * PERCENT);

    (void)unused;
    assert_true(recall_within(&all, K, 1, K) >= 0.8);
    assert_true(recall_within(&all, 100, 1, 100) >= 0.95);
    assert_true(recall_within(&all, MANY, 1, MANY) >= 0.97);
}

/* Ranked by 4 bits alone, the last of a thousand are not told from those behind them. */
static void test_large_k(void **unused) {
    struct subset all = subset_of(PERCENT * PERCENT, PERCENT * PERCENT);
    struct subset half = subset_of(5000, PERCENT * PERCENT);
    double least = bits == 4 ? 0.95 : 0.99;

    (void)unused;
    double of_all = recall_within(&all, MANY, MANY + MANY / 2, MANY);
    double of_half = recall_within(&half, MANY, MANY + MANY / 2, MANY);
    print_message("# recall@%d, %u bits: %.4f, of half: %.4f\n", MANY, bits, of_all, of_half);
    assert_true(of_all >= least);
    assert_true(of_half >= least);
}

/* A larger ef never costs recall that a smaller one had, and is not for nothing. */
static void test_ef_buys_recall(void **unused) {
    struct subset all = subset_of(PERCENT * PERCENT, PERCENT * PERCENT);
    double before = 0.0;

    (void)unused;
    for (uint32_t ef = 4; ef <= 256; ef *= 4) {
        double recall = recall_within(&all, K, ef, K);
        print_message("# recall@%d at ef %u, %u bits: %.4f\n", K, ef, bits, recall);
        assert_true(recall >= before - 0.005);
        before = recall;
    }
    assert_true(before >= 0.995);
}

/* Nothing is known of the spread in a graph of few nodes: then the pool of ef ends the walk, as in the paper. */
static void test_no_spread(void **unused) {
    struct subset all = subset_of(PERCENT * PERCENT, PERCENT * PERCENT);
    struct subset tenth = subset_of(1000, PERCENT * PERCENT);

    (void)unused;
    f.graph.head->spread = 0.0F;
    f.graph.head->samples = 0;
    assert_true(recall_within(&all, K, EF, K) >= 0.97);
    assert_true(recall_within(&all, 100, 1, 100) >= 0.9);
    assert_true(recall_within(&tenth, K, EF, K) >= 0.97);
}

static void test_same_question_same_answer(void **unused) {
    struct subset s = subset_of(2000, 8000);
    uint32_t first[K];
    uint32_t again[K];

    (void)unused;
    kill_dead(&s);
    for (uint32_t q = 0; q < 3; q++) {
        struct hnsw_request request = request_for(&s, q, K, EF);
        size_t count = fixture_ask(&f, &request, first);
        for (int i = 0; i < 256; i++) { /* past the 255 walks that tags can tell apart */
            assert_int_equal(fixture_ask(&f, &request, again), count);
        }
        assert_memory_equal(first, again, count * sizeof *first);
    }
}

/* A budget that is spent gives nothing rather than something bad; one that is not changes nothing. */
static void test_budget(void **unused) {
    uint32_t whole[K];
    uint32_t found[K];

    (void)unused;
    for (uint32_t q = 0; q < QUERIES; q++) {
        struct hnsw_request request = fixture_request(&f, fixture_query(&f, q), K, EF);
        assert_int_equal(fixture_ask(&f, &request, whole), K);
        request.budget = COUNT;
        assert_int_equal(fixture_ask(&f, &request, found), K);
        assert_memory_equal(found, whole, sizeof found);
        request.budget = K;
        assert_int_equal(fixture_ask(&f, &request, found), 0);
    }
}

/* --- exact scans by codes --------------------------------------------------------------------------------------------- */

/* Several requests in one pass over [first, below); each answer is that of a scan of the vectors, slot by slot and bit for bit. */
static void check_scan(const struct subset *sets, uint32_t count, uint32_t first, uint32_t linked, uint32_t k) {
    struct hnsw_request requests[HNSW_SCAN_QUERIES];
    struct topk best[HNSW_SCAN_QUERIES];
    struct neighbor *found = calloc((size_t)count * k, sizeof *found);
    struct neighbor *truth_storage = calloc(k, sizeof *truth_storage);

    assert_true(found != NULL && truth_storage != NULL);
    for (uint32_t i = 0; i < count; i++) {
        requests[i] = request_for(&sets[i], i, k, EF);
        topk_init(&best[i], found + (size_t)i * k, k);
    }
    assert_true(hnsw_scan_exact(&f.graph, &f.rows, requests, count, first, linked, f.scratch, best) != UINT64_MAX);
    for (uint32_t i = 0; i < count; i++) {
        struct slot_filter filter = {is_accepted, &sets[i]};
        struct topk truth;
        topk_init(&truth, truth_storage, k);
        (void)scan_exact(&f.rows, first, COUNT, requests[i].query, &filter, &truth);
        size_t there = topk_finish(&truth);
        assert_int_equal(topk_finish(&best[i]), there);
        for (size_t n = 0; n < there; n++) {
            assert_int_equal(best[i].heap[n].slot, truth_storage[n].slot);
            assert_true(best[i].heap[n].distance == truth_storage[n].distance);
        }
    }
    free(found);
    free(truth_storage);
}

static void test_scan_exact(void **unused) {
    static const uint32_t share[] = {10000, 5000, 1000, 100, 0};

    (void)unused;
    if (bits == 0) {
        return; /* it is by codes */
    }
    for (size_t i = 0; i < sizeof share / sizeof *share; i++) {
        struct subset s[HNSW_SCAN_QUERIES];
        s[0] = subset_of(share[i], PERCENT * PERCENT);
        for (uint32_t n = 1; n < HNSW_SCAN_QUERIES; n++) {
            s[n] = subset_of(share[(i + n) % 5], PERCENT * PERCENT);
        }
        check_scan(s, 1, 0, COUNT, K);
        check_scan(s, HNSW_SCAN_QUERIES, 0, COUNT, K);
        check_scan(s, 3, 100, COUNT, 1);
        check_scan(s, 2, COUNT - 1, COUNT, MANY);
        check_scan(s, 2, 0, COUNT, MANY);
    }
    struct subset s = subset_of(5000, 5000);
    kill_dead(&s);
    check_scan(&s, 1, 0, COUNT, K);
}

/* A tail that is not linked: some have a code, some only a vector, some neither; those `visible` refuses. */
static void test_scan_of_a_tail(void **unused) {
    enum { LINKED = 1000 };
    struct subset s = subset_of(PERCENT * PERCENT, 7000);

    (void)unused;
    if (bits == 0) {
        return;
    }
    tear_down(NULL);
    fixture_init(&f, COUNT, QUERIES, DIMENSION, HNSW_DEFAULT_M, bits);
    fixture_insert(&f, 0, LINKED);
    for (uint32_t slot = 0; slot < COUNT; slot++) {
        if (slot < LINKED && !has(s.alive, slot)) {
            hnsw_node_died(&f.graph, slot);
        }
        if (slot >= LINKED && slot % 3 == 0) {
            hnsw_encode(&f.graph, &f.rows, slot);
        }
    }
    check_scan(&s, 1, 0, LINKED, K);
    check_scan(&s, 1, LINKED, LINKED, K);
    check_scan(&s, 1, 0, LINKED, MANY);
}

/* Codes and scales that are anything: it ends, and what is found is a slot. */
static void test_scan_survives(void **unused) {
    static const uint32_t scales[] = {0x7f800000U, 0xff800000U, 0x7fc00001U, 0xffc00000U, 0x7f7fffffU, 1};
    struct neighbor storage[K];

    (void)unused;
    if (bits == 0) {
        return;
    }
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < 100; i++) {
            uint32_t slot = drawn() % COUNT;
            memset(fixture_block(&f, slot), (int)drawn() % 256, code_bytes(DIMENSION, bits));
            fixture_words(&f, slot)[FIXTURE_SCALE_WORD] = scales[(i + (size_t)round) % (sizeof scales / sizeof *scales)];
        }
        struct hnsw_request request = fixture_request(&f, fixture_query(&f, 0), K, EF);
        struct topk best;
        topk_init(&best, storage, K);
        assert_true(hnsw_scan_exact(&f.graph, &f.rows, &request, 1, 0, COUNT, f.scratch, &best) != UINT64_MAX);
        size_t count = topk_finish(&best);
        assert_in_range(count, 0, K);
        for (size_t n = 0; n < count; n++) {
            assert_in_range(storage[n].slot, 0, COUNT - 1);
        }
    }
}

/* --- near copies ------------------------------------------------------------------------------------------------------ */

/* Six dense groups, and nothing between them. */
static void test_near_copies(void **unused) {
    static const float SPREAD_OF_GROUP = 0.2F;
    static const double least[] = {0.97, 0.9, 0.97}; /* without codes, 4 bits, 8 bits */
    struct subset all = subset_of(PERCENT * PERCENT, PERCENT * PERCENT);
    enum { GROUPS = 6 };

    (void)unused;
    tear_down(NULL);
    fixture_init(&f, COUNT, QUERIES, DIMENSION, HNSW_DEFAULT_M, bits);
    for (uint32_t slot = GROUPS; slot < COUNT + QUERIES; slot++) {
        float *row = fixture_row(&f, slot);
        for (uint32_t i = 0; i < DIMENSION; i++) {
            row[i] = fixture_row(&f, slot % GROUPS)[i] + SPREAD_OF_GROUP * row[i];
        }
        (void)vector_normalize(row, DIMENSION);
    }
    fixture_insert(&f, 0, COUNT);
    fixture_assert_sound(&f, COUNT);
    double recall = recall_within(&all, K, EF, K);
    print_message("# recall@%d among near copies at ef %d, %u bits: %.4f\n", K, EF, bits, recall);
    assert_true(recall >= least[bits / 4]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_matches, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_matches_and_deaths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deaths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fewer_than_wanted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_all_dead, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_k_beyond_ef, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_k, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ef_buys_recall, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_spread, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_same_question_same_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_budget, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_scan_exact, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_scan_of_a_tail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_scan_survives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_near_copies, set_up, tear_down),
    };
    int failed = 0;

    (void)distance_init(NULL);
    for (bits = 0; bits <= 8; bits += 4) {
        static const char *const names[] = {"index_hnsw_reach", "index_hnsw_reach, 4 bits", "index_hnsw_reach, 8 bits"};
        failed += cmocka_run_group_tests_name(names[bits / 4], tests, NULL, NULL);
        forget_graph();
    }
    return failed;
}
