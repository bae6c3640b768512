/* test_embed_remote.c - the client of remote models against tests/lib/fake_provider.py: each dialect, and each way to answer badly. What the network does is
 * in test_embed_remote_network.c. */
#include "remote_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { TEXTS = 10 };

/* With a client of its own: how one call to a provider of that behaviour ends, and that it is made `calls` times. */
static void expect_behaviour(enum remote_dialect dialect, const char *behaviour, enum remote_failure failure, const char *in_detail, int64_t calls) {
    struct remote_settings s = fake_settings(&plain, dialect, behaviour);
    struct remote_client *c = fake_client(&s);
    struct remote_outcome outcome;
    struct remote_state about;
    int64_t before = provider_count(&plain, "calls");
    expect_failure(c, 2, failure, in_detail, &outcome);
    assert_int_equal(provider_count(&plain, "calls") - before, calls);
    assert_int_equal(outcome.done, 0);
    assert_false(outcome.permanent);
    assert_int_equal(outcome.retry_after_ms > 0, calls > 1); /* when to ask again, where that is of use */
    remote_state(c, &about);
    assert_int_equal(about.calls, calls);
    assert_int_equal(about.failures[failure], calls);
    assert_int_equal(about.retries, calls - 1);
    assert_int_equal(about.in_flight, 0);
    remote_client_free(c);
}

/* --- as documented ------------------------------------------------------------------------------------------------------ */

static void every_dialect(void **state) {
    (void)state;
    for (unsigned dialect = REMOTE_OPENAI; dialect <= REMOTE_TEI; dialect++) {
        struct remote_settings s = fake_settings(&plain, (enum remote_dialect)dialect, NULL);
        struct remote_client *c = fake_client(&s);
        struct remote_state about;
        s.max_batch = 4;
        expect_texts(c, TEXTS);
        remote_state(c, &about);
        assert_int_equal(about.texts, TEXTS);
        assert_int_equal(about.calls, 1);
        assert_true(about.tokens > 0);
        remote_client_free(c);
        c = fake_client(&s);
        expect_texts(c, TEXTS);
        remote_state(c, &about);
        assert_int_equal(about.calls, 3);
        remote_client_free(c);
    }
    assert_int_equal(provider_count(&plain, "largest"), TEXTS);
}

static void base64_and_another_order(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_OPENAI, "shuffled");
    struct remote_client *c = fake_client(&s);
    (void)state;
    expect_texts(c, TEXTS);
    remote_client_free(c);
    s.encoding = REMOTE_ENCODING_BASE64;
    c = fake_client(&s);
    expect_texts(c, TEXTS);
    remote_client_free(c);
}

static void blank_texts_are_not_sent(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_TEI, NULL);
    struct remote_client *c = fake_client(&s);
    struct slice kept[ROOM];
    int64_t before = provider_count(&plain, "texts");
    (void)state;
    memcpy(kept, texts, sizeof kept);
    texts[0] = slice_str("");
    texts[3] = slice_str(" \n");
    texts[4] = slice_str("\t");
    expect_texts(c, 5);
    assert_int_equal(provider_count(&plain, "texts") - before, 2);
    texts[1] = texts[2] = slice_str("");
    expect_texts(c, 5);
    expect_texts(c, 0);
    assert_int_equal(provider_count(&plain, "texts") - before, 2);
    memcpy(texts, kept, sizeof kept);
    remote_client_free(c);
}

static int64_t input_types(const char *type) {
    struct json_object *about = provider_get(&plain, "/state");
    int64_t count = json_object_get_int64(json_object_object_get(json_object_object_get(about, "input_types"), type));
    json_object_put(about);
    return count;
}

static void roles(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_COHERE, NULL);
    (void)state;
    (void)snprintf(s.query_prefix, sizeof s.query_prefix, "query: ");
    struct remote_client *c = fake_client(&s);
    struct remote_request request = {.role = EMBED_QUERY, .texts = texts, .count = 1, .dimension = FAKE_DIMENSION, .deadline_us = far_away()};
    struct remote_outcome outcome;
    struct status st;
    int64_t queries = input_types("search_query");
    int64_t documents = input_types("search_document");
    assert_true(remote_embed(c, &request, vectors, &outcome, &st));
    expect_vector(vectors, slice_str("query: word0 and more"), "fake");
    expect_texts(c, 1);
    assert_int_equal(input_types("search_query"), queries + 1);
    assert_int_equal(input_types("search_document"), documents + 1);
    remote_client_free(c);
}

static void probe(const struct remote_settings *s, struct remote_identity *ret) {
    struct remote_client *c = fake_client(s);
    struct remote_outcome outcome;
    struct status st;
    if (!remote_probe(c, far_away(), ret, &outcome, &st)) {
        fail_msg("%s", st.detail);
    }
    remote_client_free(c);
}

static void a_probe_knows_the_model(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_OPENAI, NULL);
    struct remote_settings other = fake_settings(&plain, REMOTE_OPENAI, "model~another");
    struct remote_identity first, again, changed;
    struct remote_outcome outcome;
    struct status st;
    (void)state;
    probe(&s, &first);
    assert_int_equal(first.dimension, FAKE_DIMENSION);
    s.max_batch = 1;
    s.encoding = REMOTE_ENCODING_BASE64;
    probe(&s, &again);
    assert_true(remote_same_model(first.fingerprint, again.fingerprint));
    probe(&other, &changed);
    assert_false(remote_same_model(first.fingerprint, changed.fingerprint));
    s.dimension = 32;
    struct remote_client *c = fake_client(&s);
    assert_false(remote_probe(c, far_away(), &again, &outcome, &st));
    assert_int_equal(outcome.failure, REMOTE_BAD_REPLY);
    remote_client_free(c);
    s.request_dimension = REMOTE_ON;
    probe(&s, &again);
    assert_int_equal(again.dimension, 32);
}

/* --- what passes, and what does not ------------------------------------------------------------------------------------- */

static void passing_failures_are_repeated(void **state) {
    static const char *const plans[] = {"{\"plan\":[\"close\",\"status:500\",\"cut\",\"ok\"]}", "{\"plan\":[\"throttle_ms:5\",\"throttle_bare\",\"status:503\"]}",
                                        "{\"plan\":[\"unavailable:0\",\"status:408\",\"throttle_date:-100\"]}"};
    struct remote_settings s = fake_settings(&plain, REMOTE_OLLAMA, NULL);
    struct remote_client *c = fake_client(&s);
    struct remote_state about;
    (void)state;
    for (size_t i = 0; i < COUNT(plans); i++) {
        provider_control(&plain, plans[i]);
        expect_texts(c, 3);
        remote_state(c, &about);
        assert_int_equal(about.retries, 3 * (i + 1));
    }
    remote_client_free(c);
    expect_behaviour(REMOTE_TEI, "status~502", REMOTE_BROKEN, "trouble of its own (HTTP 502)", 4);
    expect_behaviour(REMOTE_TEI, "close", REMOTE_UNREACHABLE, "", 4);
    expect_behaviour(REMOTE_TEI, "cut", REMOTE_UNREACHABLE, "", 4);
}

static void other_failures_are_not(void **state) {
    (void)state;
    expect_behaviour(REMOTE_OPENAI, "quota", REMOTE_EXHAUSTED, "quota is spent (HTTP 429)", 1);
    expect_behaviour(REMOTE_OPENAI, "status~402", REMOTE_EXHAUSTED, "quota is spent", 1);
    expect_behaviour(REMOTE_OPENAI, "status~403", REMOTE_DENIED, "the key (HTTP 403)", 1);
    expect_behaviour(REMOTE_OPENAI, "echo_key", REMOTE_DENIED, "the key (HTTP 401)", 1);
    expect_behaviour(REMOTE_OPENAI, "status~404", REMOTE_REFUSED, "(HTTP 404)", 1);
    expect_behaviour(REMOTE_OPENAI, "refuse_all", REMOTE_REFUSED, "(HTTP 400)", 1);
    expect_behaviour(REMOTE_OPENAI, "redirect", REMOTE_FORBIDDEN, "not followed (HTTP 307)", 1);
    expect_behaviour(REMOTE_OPENAI, "status~204", REMOTE_BAD_REPLY, "something else than vectors", 1);
}

static void what_is_no_answer_is_refused(void **state) {
    static const char *const openai[] = {"duplicate_index", "bad_index", "no_index", "base64_nan"};
    static const char *const all[] = {"fewer", "more", "ragged", "nan", "infinity", "null", "dimension~63", "dimension~65", "html", "empty", "deep", "error_200"};
    (void)state;
    for (unsigned dialect = REMOTE_OPENAI; dialect <= REMOTE_TEI; dialect++) {
        for (size_t i = 0; i < COUNT(all); i++) {
            expect_behaviour((enum remote_dialect)dialect, all[i], REMOTE_BAD_REPLY, "", 1);
        }
    }
    for (size_t i = 0; i < COUNT(openai); i++) {
        struct remote_settings s = fake_settings(&plain, REMOTE_OPENAI, openai[i]);
        struct remote_outcome outcome;
        s.encoding = REMOTE_ENCODING_BASE64;
        struct remote_client *c = fake_client(&s);
        expect_failure(c, 3, REMOTE_BAD_REPLY, "", &outcome);
        remote_client_free(c);
    }
}

static long peak_kilobytes(void) {
    char line[128];
    long found = -1;
    FILE *f = fopen("/proc/self/status", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0) {
            found = strtol(line + 6, NULL, 10);
        }
    }
    assert_int_equal(fclose(f), 0);
    return found;
}

static void a_reply_of_a_gigabyte(void **state) {
    long before = peak_kilobytes();
    (void)state;
    expect_behaviour(REMOTE_OPENAI, "huge", REMOTE_BAD_REPLY, "larger than", 1);
    expect_behaviour(REMOTE_OPENAI, "huge_header", REMOTE_BAD_REPLY, "larger than", 1);
    expect_behaviour(REMOTE_OPENAI, "huge_error", REMOTE_BROKEN, "(HTTP 500)", 4);
    long grown = peak_kilobytes() - before;
    print_message("peak memory has grown by %ld kB\n", grown);
    assert_true(grown < 16384);
}

/* --- time --------------------------------------------------------------------------------------------------------------- */

static void retry_after_is_kept_by_all(void **state) {
    static const char *const asking[] = {"throttle~3600", "throttle_date~3600", "unavailable~3600"};
    (void)state;
    for (size_t i = 0; i < COUNT(asking); i++) {
        struct remote_settings s = fake_settings(&plain, REMOTE_TEI, asking[i]);
        struct remote_client *c = fake_client(&s);
        struct remote_outcome outcome;
        struct remote_state about;
        expect_failure(c, 1, REMOTE_THROTTLED, "too much to do", &outcome);
        assert_true(outcome.retry_after_ms > 3000000 && outcome.retry_after_ms <= 3601000);
        expect_failure(c, 1, REMOTE_THROTTLED, "for a while", &outcome);
        assert_true(outcome.retry_after_ms > 3000000 && outcome.retry_after_ms <= 3601000);
        remote_state(c, &about);
        assert_int_equal(about.calls, 1);
        assert_int_equal(about.breaker, REMOTE_CLOSED);
        remote_client_free(c);
    }
}

static void the_pace_of_the_settings(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_TEI, NULL);
    struct remote_outcome outcome;
    (void)state;
    s.requests_per_minute = 1;
    s.retry_wait_max_ms = 10;
    struct remote_client *c = fake_client(&s);
    expect_texts(c, 3);
    expect_failure(c, 1, REMOTE_THROTTLED, "for a while", &outcome);
    assert_true(outcome.retry_after_ms > 10 && outcome.retry_after_ms <= 60000);
    remote_client_free(c);
}

static void the_breaker_opens_and_closes(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_TEI, NULL);
    struct remote_outcome outcome;
    struct remote_state about;
    struct status st;
    (void)state;
    s.retries = 0;
    s.breaker_failures = 2;
    s.breaker_open_ms = 20;
    struct remote_client *c = fake_client(&s);
    provider_control(&plain, "{\"behave\":\"status:500\"}");
    expect_failure(c, 1, REMOTE_BROKEN, "", &outcome);
    expect_failure(c, 1, REMOTE_BROKEN, "", &outcome);
    remote_state(c, &about);
    assert_int_equal(about.breaker, REMOTE_OPEN);
    while (ask_for(c, 1, &outcome, &st) || outcome.failure != REMOTE_BROKEN) { /* it rests, then one tries, and it rests longer */
        assert_int_equal(outcome.failure, REMOTE_RESTING);
        assert_true(outcome.retry_after_ms > 0 && outcome.retry_after_ms <= 20);
    }
    provider_control(&plain, "{\"behave\":\"ok\"}");
    while (!ask_for(c, 1, &outcome, &st)) {
        assert_int_equal(outcome.failure, REMOTE_RESTING);
    }
    remote_state(c, &about);
    assert_int_equal(about.breaker, REMOTE_CLOSED);
    assert_true(about.failures[REMOTE_RESTING] > 0);
    remote_client_free(c);
    s.retries = 3;
    s.breaker_open_ms = 3600000;
    (void)snprintf(s.url, sizeof s.url, "http://127.0.0.1:%u/behave/status~500", plain.port);
    c = fake_client(&s);
    expect_failure(c, 1, REMOTE_BROKEN, "(HTTP 500)", &outcome); /* the second has opened it: the third is not made, and the reason stays */
    assert_true(outcome.retry_after_ms > 3000000);
    remote_state(c, &about);
    assert_int_equal(about.calls, 2);
    remote_client_free(c);
    s.breaker_failures = 100;
    (void)snprintf(s.url, sizeof s.url, "http://127.0.0.1:%u/behave/status~401", plain.port);
    c = fake_client(&s);
    expect_failure(c, 1, REMOTE_DENIED, "", &outcome);
    expect_failure(c, 1, REMOTE_RESTING, "left alone", &outcome); /* a wrong key: at once */
    expect_failure(c, 1, REMOTE_RESTING, "(HTTP 401)", &outcome); /* and it still says why */
    remote_client_free(c);
}

/* --- too much ----------------------------------------------------------------------------------------------------------- */

static void expect_halves(enum remote_dialect dialect, const char *behaviour) {
    struct remote_settings s = fake_settings(&plain, dialect, behaviour);
    struct remote_client *c = fake_client(&s);
    struct remote_state about;
    expect_texts(c, ROOM);
    remote_state(c, &about);
    uint64_t first = about.calls;
    expect_texts(c, ROOM); /* it has learned */
    remote_state(c, &about);
    assert_true(about.calls - first < first);
    assert_int_equal(about.breaker, REMOTE_CLOSED);
    remote_client_free(c);
}

static void batches_are_halved(void **state) {
    (void)state;
    expect_halves(REMOTE_TEI, "too_many~3");
    expect_halves(REMOTE_COHERE, "too_many_400~3");
}

static void long_texts_are_cut(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_OPENAI, "too_long~500");
    struct remote_client *c = fake_client(&s);
    struct slice kept = texts[4];
    struct remote_outcome outcome;
    struct status st;
    char text[1600];
    (void)state;
    for (size_t i = 0; i < sizeof text; i += 8) {
        (void)memcpy(text + i, "fathoms ", 8);
    }
    texts[4] = slice_of(text, sizeof text);
    assert_true(ask_for(c, TEXTS, &outcome, &st));
    for (size_t i = 0; i < TEXTS; i++) {
        expect_vector(vectors + i * FAKE_DIMENSION, i == 4 ? slice_of(text, 400) : texts[i], "fake");
    }
    remote_client_free(c);
    s = fake_settings(&plain, REMOTE_OPENAI, NULL);
    s.max_text_tokens = 16;
    c = fake_client(&s);
    assert_true(ask_for(c, TEXTS, &outcome, &st));
    expect_vector(vectors + 4 * FAKE_DIMENSION, slice_of(text, 48), "fake");
    texts[4] = kept;
    remote_client_free(c);
}

/* One text that is too long makes small batches only for a while. */
static void one_long_text_among_many(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_OPENAI, "too_long~500");
    struct remote_client *c = fake_client(&s);
    struct slice kept = texts[20];
    struct remote_outcome outcome;
    struct remote_state about;
    struct status st;
    char text[900];
    (void)state;
    memset(text, 'x', sizeof text);
    texts[20] = slice_of(text, sizeof text);
    assert_true(ask_for(c, ROOM, &outcome, &st));
    for (size_t i = 0; i < ROOM; i++) {
        expect_vector(vectors + i * FAKE_DIMENSION, i == 20 ? slice_of(text, 450) : texts[i], "fake");
    }
    remote_state(c, &about);
    assert_true(about.calls < 24);
    texts[20] = kept;
    int64_t before = (int64_t)about.calls;
    expect_texts(c, ROOM);
    remote_state(c, &about);
    assert_int_equal((int64_t)about.calls - before, 2);
    remote_client_free(c);
}

static void a_text_that_is_refused_is_found(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_OPENAI, "refuse~word7");
    struct remote_client *c = fake_client(&s);
    struct remote_outcome outcome;
    struct remote_state about;
    (void)state;
    expect_texts(c, 3); /* the settings are right, then */
    expect_failure(c, 20, REMOTE_REFUSED, "(HTTP 422)", &outcome);
    assert_true(outcome.permanent);
    assert_int_equal(outcome.done, 7);
    for (size_t i = 0; i < 7; i++) {
        expect_vector(vectors + i * FAKE_DIMENSION, texts[i], "fake");
    }
    remote_state(c, &about);
    assert_int_equal(about.breaker, REMOTE_CLOSED);
    remote_client_free(c);
}

static void what_was_done_is_kept(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_TEI, NULL);
    struct remote_outcome outcome;
    (void)state;
    s.max_batch = 4;
    s.retries = 0;
    struct remote_client *c = fake_client(&s);
    provider_control(&plain, "{\"plan\":[\"ok\",\"ok\",\"status:500\"]}");
    expect_failure(c, TEXTS, REMOTE_BROKEN, "", &outcome);
    assert_int_equal(outcome.done, 8);
    expect_vector(vectors + 7 * FAKE_DIMENSION, texts[7], "fake");
    remote_client_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_dialect),
        cmocka_unit_test(base64_and_another_order),
        cmocka_unit_test(blank_texts_are_not_sent),
        cmocka_unit_test(roles),
        cmocka_unit_test(a_probe_knows_the_model),
        cmocka_unit_test(passing_failures_are_repeated),
        cmocka_unit_test(other_failures_are_not),
        cmocka_unit_test(what_is_no_answer_is_refused),
        cmocka_unit_test(a_reply_of_a_gigabyte),
        cmocka_unit_test(retry_after_is_kept_by_all),
        cmocka_unit_test(the_pace_of_the_settings),
        cmocka_unit_test(the_breaker_opens_and_closes),
        cmocka_unit_test(batches_are_halved),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(one_long_text_among_many),
        cmocka_unit_test(a_text_that_is_refused_is_found),
        cmocka_unit_test(what_was_done_is_kept),
    };
    return cmocka_run_group_tests_name("embed_remote", tests, fixture_set_up, fixture_tear_down);
}
