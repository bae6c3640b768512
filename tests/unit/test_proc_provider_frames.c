/* test_proc_provider_frames.c - what is said about texts and vectors: read back as written, and nothing else is read. */
#include "proc/provider_frames.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MUTATIONS = 40000 };

static void put_ask(struct buf *out) {
    const struct slice texts[] = {slice_str("a text"), slice_str(""), slice_str("\xc3\xa4")};
    provider_put_ask(out, &(struct provider_ask){.model = 2, .role = EMBED_QUERY, .hurry = true, .patience_ms = 1500, .count = 3}, texts);
}

static void put_answer(struct buf *out, bool failed) {
    static const float values[] = {1, 2, 3, 4, 5, 6};
    struct provider_answer a = {
        .permanent = failed, .retry_after_ms = 77, .fingerprint = 0xabcdef, .dimension = 3, .done = 2, .values = slice_of(values, sizeof values)};
    if (failed) {
        (void)status_set(&a.status, STATUS_NO_EMBEDDING, "it does not want to");
    }
    provider_put_answer(out, &a);
}

static void test_ask(void **state) {
    (void)state;
    struct buf bytes = {0};
    struct provider_ask ask;
    struct status st = {0};
    struct slice text;
    put_ask(&bytes);
    assert_true(provider_get_ask(buf_slice(&bytes), &ask, &st));
    assert_int_equal(ask.model, 2);
    assert_int_equal(ask.role, EMBED_QUERY);
    assert_true(ask.hurry);
    assert_int_equal(ask.patience_ms, 1500);
    assert_int_equal(ask.count, 3);
    assert_true(provider_ask_next(&ask, &text) && slice_is(text, "a text"));
    assert_true(provider_ask_next(&ask, &text) && text.len == 0);
    assert_true(provider_ask_next(&ask, &text) && slice_is(text, "\xc3\xa4"));
    assert_false(provider_ask_next(&ask, &text));
    const uint32_t endless = UINT32_MAX; /* a place in the supervisor's table would be held for weeks */
    uint8_t whole[sizeof endless];
    memcpy(whole, bytes.data + 3, sizeof whole);
    memcpy(bytes.data + 3, &endless, sizeof endless);
    assert_false(provider_get_ask(buf_slice(&bytes), &ask, &st));
    memcpy(bytes.data + 3, whole, sizeof whole);
    assert_true(provider_get_ask(buf_slice(&bytes), &ask, &st));
    bytes.data[bytes.len - 1] = 'x'; /* no UTF-8 any more */
    assert_false(provider_get_ask(buf_slice(&bytes), &ask, &st));
    buf_fini(&bytes);
}

static void test_answer(void **state) {
    (void)state;
    struct buf bytes = {0};
    struct provider_answer a;
    struct status st = {0};
    float last;
    put_answer(&bytes, true);
    assert_true(provider_get_answer(buf_slice(&bytes), &a, &st));
    assert_int_equal(a.status.code, STATUS_NO_EMBEDDING);
    assert_string_equal(a.status.detail, "it does not want to");
    assert_true(a.permanent && a.retry_after_ms == 77 && a.fingerprint == 0xabcdef && a.dimension == 3 && a.done == 2);
    memcpy(&last, a.values.data + 5 * sizeof last, sizeof last);
    assert_true(last == 6);
    buf_reset(&bytes);
    put_answer(&bytes, false);
    const float infinite = INFINITY;
    assert_true(provider_get_answer(buf_slice(&bytes), &a, &st));
    memcpy(bytes.data + (size_t)(a.values.data - bytes.data), &infinite, sizeof infinite);
    assert_false(provider_get_answer(buf_slice(&bytes), &a, &st));
    buf_fini(&bytes);
}

static void test_model(void **state) {
    (void)state;
    struct buf bytes = {0};
    struct figures_provider in = {.state = PROVIDER_AWAY, .dimension = 5, .cache_hits = 9, .error = "a line"};
    struct figures_provider out;
    struct status st = {0};
    uint8_t number = 0;
    provider_put_model(&bytes, 3, &in);
    assert_true(provider_get_model(buf_slice(&bytes), &number, &out, &st));
    assert_int_equal(number, 3);
    assert_memory_equal(&in, &out, sizeof in);
    memset(in.error, 'x', sizeof in.error); /* no end */
    buf_reset(&bytes);
    provider_put_model(&bytes, 3, &in);
    assert_false(provider_get_model(buf_slice(&bytes), &number, &out, &st));
    buf_reset(&bytes);
    in = (struct figures_provider){.state = 9};
    provider_put_model(&bytes, 3, &in);
    assert_false(provider_get_model(buf_slice(&bytes), &number, &out, &st));
    buf_fini(&bytes);
}

/* In a block of its own, so that the sanitizer sees one byte too many. What is accepted is walked to its end. */
static bool survives(const struct buf *bytes, size_t len) {
    struct provider_ask ask;
    struct provider_answer answer;
    struct slice text;
    struct status st = {0};
    uint32_t count = 0;
    uint8_t *copy = (uint8_t *)malloc(len + 1);
    assert_non_null(copy);
    memcpy(copy, bytes->data, len);
    bool ask_good = provider_get_ask(slice_of(copy, len), &ask, &st);
    while (ask_good && provider_ask_next(&ask, &text)) {
        count++;
    }
    assert_true(!ask_good || count == ask.count);
    bool answer_good = provider_get_answer(slice_of(copy, len), &answer, &st);
    assert_true(!answer_good || answer.values.len == (size_t)answer.done * answer.dimension * sizeof(float));
    free(copy);
    return ask_good || answer_good;
}

static void test_mutations(void **state) {
    (void)state;
    unsigned seed = 7;
    unsigned accepted = 0;
    for (int i = 0; i < MUTATIONS; i++) {
        struct buf bytes = {0};
        if (i % 2 == 0) {
            put_ask(&bytes);
        } else {
            put_answer(&bytes, i % 4 == 1);
        }
        size_t len = i % 3 == 0 ? (size_t)rand_r(&seed) % (bytes.len + 1) : bytes.len;
        bytes.data[(size_t)rand_r(&seed) % bytes.len] = (uint8_t)rand_r(&seed);
        accepted += survives(&bytes, len) ? 1 : 0;
        buf_fini(&bytes);
    }
    assert_true(accepted > MUTATIONS / 50); /* else the test looks at refusals only */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ask), cmocka_unit_test(test_answer), cmocka_unit_test(test_model), cmocka_unit_test(test_mutations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
