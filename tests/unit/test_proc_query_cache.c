/* test_proc_query_cache.c - the cache of query vectors: bounded, by the whole text, and one who asks for all. */
#include "proc/query_cache.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DIMENSION = 4, ROOM = 4096, THREADS = 4, ROUNDS = 20000 };

static struct query_cache *new_cache(uint64_t bytes) {
    struct query_cache *c = NULL;
    struct status st = {0};
    assert_true(query_cache_new(bytes, &c, &st));
    return c;
}

static enum query_found look(struct query_cache *c, uint32_t model, const char *text, uint64_t waiter, float *first) {
    struct buf vector = {0};
    enum query_found found = query_cache_look(c, model, slice_str(text), waiter, &vector);
    if (found == QUERY_HERE) {
        assert_int_equal(vector.len, DIMENSION * sizeof(float));
        memcpy(first, vector.data, sizeof *first);
    }
    buf_fini(&vector);
    return found;
}

/* Returns how many waited; their sum in *sum. */
static size_t settle(struct query_cache *c, uint32_t model, const char *text, const float *values, uint64_t *sum) {
    struct buf waiters = {0};
    query_cache_settle(c, model, slice_str(text), values, DIMENSION, &waiters);
    size_t count = waiters.len / sizeof(uint64_t);
    *sum = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t waiter;
        memcpy(&waiter, waiters.data + i * sizeof waiter, sizeof waiter);
        *sum += waiter;
    }
    buf_fini(&waiters);
    return count;
}

static void put(struct query_cache *c, uint32_t model, const char *text, float value) {
    const float values[DIMENSION] = {value};
    uint64_t sum = 0;
    float ignored = 0;
    assert_int_equal(look(c, model, text, 0, &ignored), QUERY_ASK);
    assert_int_equal(settle(c, model, text, values, &sum), 0);
}

static void test_by_model_and_text(void **state) {
    (void)state;
    struct query_cache *c = new_cache(ROOM);
    float value = 0;
    put(c, 0, "a text", 1);
    put(c, 1, "a text", 2);
    put(c, 0, "", 3);
    assert_int_equal(look(c, 0, "a text", 0, &value), QUERY_HERE);
    assert_true(value == 1);
    assert_int_equal(look(c, 1, "a text", 0, &value), QUERY_HERE);
    assert_true(value == 2);
    assert_int_equal(look(c, 0, "", 0, &value), QUERY_HERE);
    assert_true(value == 3);
    assert_int_equal(look(c, 0, "a tex", 0, &value), QUERY_ASK);
    struct query_cache_figures f;
    query_cache_figures(c, 0, &f);
    assert_int_equal(f.hits, 2);
    assert_int_equal(f.misses, 3);
    assert_int_equal(f.entries, 2);
    query_cache_free(c);
}

static void test_one_asks_for_all(void **state) {
    (void)state;
    struct query_cache *c = new_cache(ROOM);
    const float values[DIMENSION] = {7};
    uint64_t sum = 0;
    float value = 0;
    assert_int_equal(look(c, 0, "q", 1, &value), QUERY_ASK);
    assert_int_equal(look(c, 0, "q", 20, &value), QUERY_SHARED);
    assert_int_equal(look(c, 0, "q", 300, &value), QUERY_SHARED);
    assert_int_equal(settle(c, 0, "q", NULL, &sum), 2); /* nothing came: they are told, and the next one asks again */
    assert_int_equal(sum, 320);
    assert_int_equal(look(c, 0, "q", 1, &value), QUERY_ASK);
    assert_int_equal(look(c, 0, "q", 20, &value), QUERY_SHARED);
    assert_int_equal(settle(c, 0, "q", values, &sum), 1);
    assert_int_equal(look(c, 0, "q", 1, &value), QUERY_HERE);
    assert_true(value == 7);
    query_cache_free(c);
}

static void test_bounded_and_by_use(void **state) {
    (void)state;
    struct query_cache *c = new_cache(ROOM);
    char text[32];
    float value = 0;
    struct query_cache_figures f;
    put(c, 0, "kept", 1);
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(text, sizeof text, "text %d", i);
        put(c, 0, text, (float)i);
        assert_int_equal(look(c, 0, "kept", 0, &value), QUERY_HERE); /* what is used stays */
        query_cache_figures(c, 0, &f);
        assert_true(f.bytes <= ROOM);
    }
    assert_true(f.entries > 10 && f.entries < 40);
    assert_int_equal(look(c, 0, "text 999", 0, &value), QUERY_HERE);
    assert_int_equal(look(c, 0, "text 1", 0, &value), QUERY_ASK);
    query_cache_free(c);
}

static void test_nothing_is_kept_without_room(void **state) {
    (void)state;
    struct query_cache *c = new_cache(0);
    float value = 0;
    put(c, 0, "q", 1);
    assert_int_equal(look(c, 0, "q", 0, &value), QUERY_ASK);
    query_cache_free(c);
}

static void test_a_changed_model_is_forgotten(void **state) {
    (void)state;
    struct query_cache *c = new_cache(ROOM);
    const float values[DIMENSION] = {7};
    uint64_t sum = 0;
    float value = 0;
    put(c, 0, "old", 1);
    put(c, 1, "other", 2);
    assert_int_equal(look(c, 0, "under way", 1, &value), QUERY_ASK);
    assert_int_equal(look(c, 0, "under way", 5, &value), QUERY_SHARED);
    query_cache_forget(c, 0);
    assert_int_equal(look(c, 0, "old", 0, &value), QUERY_ASK);
    assert_int_equal(look(c, 0, "under way", 9, &value), QUERY_ASK); /* nobody joins one that was asked of the model before */
    assert_int_equal(settle(c, 0, "under way", values, &sum), 0);
    assert_int_equal(settle(c, 0, "under way", values, &sum), 1);
    assert_int_equal(sum, 5);
    assert_int_equal(look(c, 1, "other", 0, &value), QUERY_HERE);
    query_cache_free(c);
}

static void *hammer(void *arg) {
    struct query_cache *c = (struct query_cache *)arg;
    unsigned seed = (unsigned)(uintptr_t)&seed;
    for (int i = 0; i < ROUNDS; i++) {
        char text[16];
        int number = rand_r(&seed) % 64;
        const float values[DIMENSION] = {(float)number};
        float value = -1;
        uint64_t sum = 0;
        (void)snprintf(text, sizeof text, "%d", number);
        enum query_found found = look(c, 0, text, 1, &value);
        if (found == QUERY_ASK) {
            (void)settle(c, 0, text, number % 7 == 0 ? NULL : values, &sum);
        } else if (found == QUERY_HERE && value != (float)number) {
            return arg;
        }
        if (i % 1000 == 0) {
            query_cache_forget(c, 0);
        }
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    struct query_cache *c = new_cache(ROOM);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, c), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *wrong = c;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    query_cache_free(c);
}

/* Many at once: what one of them has brought is there for all, and theirs for it; nobody waits. */
static void test_many_at_once(void **state) {
    (void)state;
    struct query_cache *c = new_cache(ROOM);
    const float values[DIMENSION] = {5};
    const float others[DIMENSION] = {6};
    float out[DIMENSION] = {0};
    float value = 0;
    uint64_t sum = 0;
    struct query_cache_figures f;
    assert_false(query_cache_get(c, 0, slice_str("q"), DIMENSION, out));
    query_cache_put(c, 0, slice_str("q"), values, DIMENSION);
    assert_true(query_cache_get(c, 0, slice_str("q"), DIMENSION, out));
    assert_true(out[0] == 5);
    assert_false(query_cache_get(c, 0, slice_str("q"), DIMENSION + 1, out));
    assert_false(query_cache_get(c, 1, slice_str("q"), DIMENSION, out));
    assert_int_equal(look(c, 0, "q", 1, &value), QUERY_HERE);
    query_cache_put(c, 0, slice_str("q"), others, DIMENSION); /* it is there */
    assert_true(query_cache_get(c, 0, slice_str("q"), DIMENSION, out) && out[0] == 5);
    assert_int_equal(look(c, 0, "under way", 1, &value), QUERY_ASK);
    assert_false(query_cache_get(c, 0, slice_str("under way"), DIMENSION, out));
    query_cache_put(c, 0, slice_str("under way"), others, DIMENSION); /* who asks settles it */
    assert_int_equal(settle(c, 0, "under way", values, &sum), 0);
    assert_true(query_cache_get(c, 0, slice_str("under way"), DIMENSION, out) && out[0] == 5);
    query_cache_figures(c, 0, &f);
    assert_int_equal(f.entries, 2);
    query_cache_free(c);
    c = new_cache(0);
    query_cache_put(c, 0, slice_str("q"), values, DIMENSION);
    assert_false(query_cache_get(c, 0, slice_str("q"), DIMENSION, out));
    query_cache_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_model_and_text),        cmocka_unit_test(test_one_asks_for_all),
        cmocka_unit_test(test_bounded_and_by_use),       cmocka_unit_test(test_nothing_is_kept_without_room),
        cmocka_unit_test(test_a_changed_model_is_forgotten), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_many_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
