/*
 * test_index_hnsw_threads.c - several threads insert at once while another searches. Run it under --enable-tsan, too: every word
 * of a graph that two threads touch must be touched by an atomic of the right order.
 *
 * Threads begin together at a barrier and take slots from one counter, so that neighbours in slot number are inserted at the same
 * time; nothing waits for time to pass.
 */
#include "index/distance.h"
#include "index_fixture.h"
#include "shm/atomics.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { INSERTERS = 2, CROWD = 4, STRIPES = 16, EF = 64, K = 10, HEAD_START = 50 };

static uint32_t bits; /* of the codes, in this round */

struct shared {
    struct fixture f;
    pthread_mutex_t stripes[STRIPES];
    pthread_barrier_t begin;
    uint64_t next;   /* slot to insert; atomic */
    uint64_t linked; /* how many are; atomic */
    uint64_t failures;
};

static void enter(void *ctx, uint32_t slot) {
    (void)pthread_mutex_lock((pthread_mutex_t *)ctx + slot % STRIPES);
}
static void leave(void *ctx, uint32_t slot) {
    (void)pthread_mutex_unlock((pthread_mutex_t *)ctx + slot % STRIPES);
}

static void shared_init(struct shared *s, uint32_t count, uint32_t dimension, uint32_t m, unsigned threads) {
    *s = (struct shared){0};
    fixture_init(&s->f, count, 20, dimension, m, bits);
    for (size_t i = 0; i < STRIPES; i++) {
        assert_int_equal(pthread_mutex_init(&s->stripes[i], NULL), 0);
    }
    assert_int_equal(pthread_barrier_init(&s->begin, NULL, threads), 0);
}

static void shared_fini(struct shared *s) {
    fixture_fini(&s->f);
    for (size_t i = 0; i < STRIPES; i++) {
        (void)pthread_mutex_destroy(&s->stripes[i]);
    }
    (void)pthread_barrier_destroy(&s->begin);
}

/* Threads count failures instead of asserting: cmocka's jump must not leave another thread's stack. */
static void *insert_all(void *ctx) {
    struct shared *s = ctx;
    struct hnsw_guard guard = {enter, leave, s->stripes};
    struct hnsw_scratch *scratch = hnsw_scratch_new();
    uint64_t slot;

    (void)pthread_barrier_wait(&s->begin);
    while (scratch != NULL && (slot = add_relaxed_u64(&s->next, 1)) < s->f.count) {
        if (!hnsw_insert(&s->f.graph, &s->f.rows, s->f.count, (uint32_t)slot, EF, &guard, scratch)) {
            (void)add_relaxed_u64(&s->failures, 1);
        }
        (void)add_relaxed_u64(&s->linked, 1);
    }
    if (scratch == NULL) {
        (void)add_relaxed_u64(&s->failures, 1);
    }
    hnsw_scratch_free(scratch);
    return NULL;
}

static bool search_once(struct shared *s, struct hnsw_scratch *scratch, uint32_t q) {
    struct neighbor storage[K];
    struct topk best;

    struct hnsw_request request = fixture_request(&s->f, fixture_query(&s->f, q), K, EF);
    topk_init(&best, storage, K);
    if (hnsw_search(&s->f.graph, &s->f.rows, &request, scratch, &best) == UINT64_MAX) {
        return false;
    }
    if (topk_finish(&best) < K) {
        return false;
    }
    for (size_t i = 0; i < K; i++) {
        if (storage[i].slot >= s->f.count || (i > 0 && !neighbor_before(storage[i - 1], storage[i]))) {
            return false; /* out of range, out of order, or twice */
        }
    }
    return true;
}

/* From the first search on there are K nodes, and so there are in every answer, whatever is being relinked. */
static void *search_all_along(void *ctx) {
    struct shared *s = ctx;
    struct hnsw_scratch *scratch = hnsw_scratch_new();

    (void)pthread_barrier_wait(&s->begin);
    for (uint32_t q = 0; scratch != NULL && load_relaxed_u64(&s->linked) < s->f.count; q = (q + 1) % s->f.queries) {
        if (!search_once(s, scratch, q)) {
            (void)add_relaxed_u64(&s->failures, 1);
        }
    }
    hnsw_scratch_free(scratch);
    return NULL;
}

static void run_threads(struct shared *s, unsigned inserters, bool search) {
    pthread_t thread[CROWD + 1];
    unsigned n = 0;

    for (; n < inserters; n++) {
        assert_int_equal(pthread_create(&thread[n], NULL, insert_all, s), 0);
    }
    if (search) {
        assert_int_equal(pthread_create(&thread[n++], NULL, search_all_along, s), 0);
    }
    while (n-- > 0) {
        assert_int_equal(pthread_join(thread[n], NULL), 0);
    }
    assert_int_equal(s->failures, 0);
}

static void test_insert_and_search(void **unused) {
    struct shared s;

    (void)unused;
    shared_init(&s, 3000, 32, HNSW_DEFAULT_M, INSERTERS + 1);
    fixture_insert(&s.f, 0, HEAD_START);
    s.next = s.linked = HEAD_START;
    run_threads(&s, INSERTERS, true);
    fixture_assert_sound(&s.f, s.f.count);
    assert_true(fixture_recall(&s.f, K, EF) > 0.97);
    shared_fini(&s);
}

/* Short lists and few guards: every insertion shortens lists that others are shortening. */
static void test_crowded(void **unused) {
    struct shared s;

    (void)unused;
    shared_init(&s, 2000, 8, HNSW_MIN_M, CROWD + 1);
    fixture_insert(&s.f, 0, HEAD_START);
    s.next = s.linked = HEAD_START;
    run_threads(&s, CROWD, true);
    fixture_assert_sound(&s.f, s.f.count);
    shared_fini(&s);
}

/* All begin on an empty graph: who is first, and whose level is the highest, is a race. Many rounds of few nodes. */
static void test_first_inserts(void **unused) {
    (void)unused;
    for (int round = 0; round < 100; round++) {
        struct shared s;
        shared_init(&s, 24, 16, HNSW_MIN_M, CROWD);
        run_threads(&s, CROWD, false);
        fixture_assert_sound(&s.f, s.f.count);
        shared_fini(&s);
    }
}

/* Copies, by several threads: the tree of parents is all that holds them together. */
static void test_copies(void **unused) {
    struct shared s;

    (void)unused;
    shared_init(&s, 1000, 16, HNSW_DEFAULT_M, CROWD);
    for (uint32_t slot = 1; slot < s.f.count; slot++) {
        memcpy(fixture_row(&s.f, slot), fixture_row(&s.f, 0), 16 * sizeof(float));
    }
    run_threads(&s, CROWD, false);
    fixture_assert_sound(&s.f, s.f.count);
    shared_fini(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_insert_and_search),
        cmocka_unit_test(test_crowded),
        cmocka_unit_test(test_first_inserts),
        cmocka_unit_test(test_copies),
    };
    int failed = 0;

    (void)distance_init(NULL);
    for (bits = 0; bits <= 8; bits += 4) {
        static const char *const names[] = {"index_hnsw_threads", "index_hnsw_threads, 4 bits", "index_hnsw_threads, 8 bits"};
        failed += cmocka_run_group_tests_name(names[bits / 4], tests, NULL, NULL);
    }
    return failed;
}
