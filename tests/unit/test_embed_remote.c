/*
 * test_embed_remote.c - the client of remote models against tests/lib/fake_provider.py, for each dialect and each way to misbehave.
 *
 * Where something has to end by a deadline, the deadline is short and the test asks only that it ends, and why.
 */
#include "remote_fixture.h"

#include "base/clock.h"
#include "embed/remote_client.h"

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { TEXTS = 10, ROOM = 64 };

/* In the place of libc's, for libcurl as well: names resolve to nothing, and only when the test lets them. Numbers, "localhost" and what
 * remote_client_resolve says never come here. */
static pthread_mutex_t names_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t names_changed = PTHREAD_COND_INITIALIZER;
static bool names_hang;
static unsigned names_asked;
static unsigned names_answered;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret) {
    (void)node;
    (void)service;
    (void)hints;
    *ret = NULL;
    (void)pthread_mutex_lock(&names_mutex);
    names_asked++;
    while (names_hang) {
        (void)pthread_cond_wait(&names_changed, &names_mutex);
    }
    names_answered++;
    (void)pthread_cond_broadcast(&names_changed);
    (void)pthread_mutex_unlock(&names_mutex);
    return EAI_NONAME;
}

static struct provider plain;
static struct slice texts[ROOM];
static char words[ROOM][32];
static float out[ROOM * FAKE_DIMENSION];

static int set_up(void **state) {
    static const char *const options[] = {"--key", FAKE_KEY, NULL};
    struct status st;
    (void)state;
    /* None of them may have a say. */
    (void)setenv("http_proxy", "http://127.0.0.1:9", 1);
    (void)setenv("https_proxy", "http://127.0.0.1:9", 1);
    (void)setenv("ALL_PROXY", "http://127.0.0.1:9", 1);
    assert_true(remote_global_init(&st));
    provider_start(&plain, options);
    for (size_t i = 0; i < ROOM; i++) {
        (void)snprintf(words[i], sizeof words[i], "word%zu and more", i);
        texts[i] = slice_str(words[i]);
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    provider_stop(&plain);
    remote_global_fini();
    return 0;
}

/* Asks for texts[0..count). The status is in *st, the outcome in *ret. */
static bool ask_for(struct remote_client *c, size_t count, struct remote_outcome *ret, struct status *st) {
    struct remote_request request = {.role = EMBED_DOCUMENT, .texts = texts, .count = count, .dimension = FAKE_DIMENSION, .deadline_us = far_away()};
    status_clear(st);
    return remote_embed(c, &request, out, ret, st);
}

static void expect_texts(struct remote_client *c, size_t count) {
    struct remote_outcome outcome;
    struct status st;
    memset(out, 0x55, sizeof out);
    if (!ask_for(c, count, &outcome, &st)) {
        fail_msg("%s", st.detail);
    }
    assert_int_equal(outcome.failure, REMOTE_DONE);
    assert_int_equal(outcome.done, count);
    for (size_t i = 0; i < count; i++) {
        expect_vector(out + i * FAKE_DIMENSION, texts[i], "fake");
    }
}

static void expect_failure(struct remote_client *c, size_t count, enum remote_failure failure, const char *in_detail, struct remote_outcome *ret) {
    struct status st;
    if (ask_for(c, count, ret, &st)) {
        fail_msg("answered");
    }
    if (ret->failure != failure || strstr(st.detail, in_detail) == NULL) {
        fail_msg("%s (%s) instead of: %s", st.detail, remote_failure_name(ret->failure), in_detail);
    }
    assert_int_equal(st.code, STATUS_NO_EMBEDDING);
    assert_null(strstr(st.detail, "sk-"));
}

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
    struct slice kept[3] = {texts[0], texts[3], texts[4]};
    int64_t before = provider_count(&plain, "texts");
    (void)state;
    texts[0] = slice_str("");
    texts[3] = slice_str(" \n");
    texts[4] = slice_str("\t");
    expect_texts(c, 5);
    assert_int_equal(provider_count(&plain, "texts") - before, 2);
    texts[1] = texts[2] = slice_str("");
    expect_texts(c, 5);
    expect_texts(c, 0);
    assert_int_equal(provider_count(&plain, "texts") - before, 2);
    texts[0] = kept[0];
    texts[1] = slice_str(words[1]);
    texts[2] = slice_str(words[2]);
    texts[3] = kept[1];
    texts[4] = kept[2];
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
    assert_true(remote_embed(c, &request, out, &outcome, &st));
    expect_vector(out, slice_str("query: word0 and more"), "fake");
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

static void hangs_and_drips_end_by_their_deadlines(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_COHERE, "hang");
    struct remote_outcome outcome;
    struct status st;
    (void)state;
    s.retries = 1;
    s.timeout_ms = 100;
    s.connect_timeout_ms = 100;
    struct remote_client *c = fake_client(&s);
    expect_failure(c, 1, REMOTE_TIMEOUT, "in time", &outcome);
    struct remote_request request = {.role = EMBED_QUERY, .texts = texts, .count = 1, .dimension = FAKE_DIMENSION, .deadline_us = clock_monotonic_us() + 50000};
    assert_false(remote_embed(c, &request, out, &outcome, &st));
    assert_int_equal(outcome.failure, REMOTE_TIMEOUT);
    request.deadline_us = clock_monotonic_us() - 1;
    assert_false(remote_embed(c, &request, out, &outcome, &st));
    assert_int_equal(outcome.failure, REMOTE_TIMEOUT);
    remote_client_free(c);

    s = fake_settings(&plain, REMOTE_COHERE, "drip");
    s.retries = 0;
    s.stall_timeout_ms = 100;
    c = fake_client(&s);
    expect_failure(c, 1, REMOTE_TIMEOUT, "too slowly", &outcome);
    remote_client_free(c);
}

static void a_resolver_that_hangs(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_TEI, NULL);
    struct remote_outcome outcome;
    (void)state;
    (void)snprintf(s.url, sizeof s.url, "https://embeddings.example.org");
    s.timeout_ms = 50;
    s.connect_timeout_ms = 50;
    s.retries = 0;
    struct remote_client *c = fake_client(&s);
    names_hang = true;
    expect_failure(c, 1, REMOTE_TIMEOUT, "in time", &outcome); /* though getaddrinfo has not returned */
    assert_int_equal(names_answered, 0);
    remote_client_free(c);
    (void)pthread_mutex_lock(&names_mutex);
    names_hang = false;
    (void)pthread_cond_broadcast(&names_changed);
    while (names_answered < names_asked) {
        (void)pthread_cond_wait(&names_changed, &names_mutex);
    }
    (void)pthread_mutex_unlock(&names_mutex);
    c = fake_client(&s);
    expect_failure(c, 1, REMOTE_UNREACHABLE, "resolve", &outcome);
    remote_client_free(c);
}

/* It takes connections, and that is all: the handshake of TLS never ends. */
static void a_handshake_that_hangs(void **state) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    struct provider silent = {0};
    struct remote_outcome outcome;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)(void *)&address, len), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)(void *)&address, &len), 0);
    silent.port = ntohs(address.sin_port);
    struct remote_settings s = fake_settings(&silent, REMOTE_TEI, NULL);
    (void)snprintf(s.url, sizeof s.url, "https://127.0.0.1:%u", silent.port);
    s.connect_timeout_ms = 50;
    s.retries = 0;
    struct remote_client *c = fake_client(&s);
    expect_failure(c, 1, REMOTE_TIMEOUT, "no connection", &outcome);
    remote_client_free(c);
    assert_int_equal(close(fd), 0);
}

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
    s.breaker_failures = 100;
    s.breaker_open_ms = 3600000;
    (void)snprintf(s.url, sizeof s.url, "http://127.0.0.1:%u/behave/status~401", plain.port);
    c = fake_client(&s);
    expect_failure(c, 1, REMOTE_DENIED, "", &outcome);
    expect_failure(c, 1, REMOTE_RESTING, "left alone", &outcome); /* a wrong key: at once */
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
        expect_vector(out + i * FAKE_DIMENSION, i == 4 ? slice_of(text, 400) : texts[i], "fake");
    }
    remote_client_free(c);
    s = fake_settings(&plain, REMOTE_OPENAI, NULL);
    s.max_text_tokens = 16;
    c = fake_client(&s);
    assert_true(ask_for(c, TEXTS, &outcome, &st));
    expect_vector(out + 4 * FAKE_DIMENSION, slice_of(text, 48), "fake");
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
        expect_vector(out + i * FAKE_DIMENSION, i == 20 ? slice_of(text, 450) : texts[i], "fake");
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
        expect_vector(out + i * FAKE_DIMENSION, texts[i], "fake");
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
    expect_vector(out + 7 * FAKE_DIMENSION, texts[7], "fake");
    remote_client_free(c);
}

/* --- where to ----------------------------------------------------------------------------------------------------------- */

static void expect_address(const char *host, bool https, const char *address, bool private_addresses, enum remote_failure failure) {
    struct remote_settings s = fake_settings(&plain, REMOTE_OLLAMA, NULL);
    struct remote_outcome outcome;
    struct status st;
    char entry[128];
    s.private_addresses = private_addresses ? REMOTE_ON : REMOTE_OFF;
    s.retries = 0;
    (void)snprintf(s.url, sizeof s.url, "%s://%s:%u", https ? "https" : "http", host, plain.port);
    (void)snprintf(entry, sizeof entry, "%s:%u:%s", host, plain.port, address);
    struct remote_client *c = fake_client(&s);
    assert_true(remote_client_resolve(c, entry, &st));
    (void)ask_for(c, 1, &outcome, &st);
    if (outcome.failure != failure) {
        fail_msg("%s at %s: %s", host, address, st.detail);
    }
    remote_client_free(c);
}

static void names_that_lead_where_nobody_pointed(void **state) {
    int64_t before = provider_count(&plain, "calls");
    (void)state;
    expect_address("api.example.org", true, "169.254.169.254", true, REMOTE_FORBIDDEN);
    expect_address("api.example.org", true, "[fd00:ec2::254]", true, REMOTE_FORBIDDEN);
    expect_address("api.example.org", true, "[::ffff:169.254.169.254]", true, REMOTE_FORBIDDEN);
    expect_address("api.example.org", true, "127.0.0.1", false, REMOTE_FORBIDDEN);
    expect_address("api.example.org", true, "10.0.0.1", false, REMOTE_FORBIDDEN);
    expect_address("api.example.org", true, "0.0.0.0", true, REMOTE_FORBIDDEN);
    expect_address("api.example.org", false, "8.8.8.8", true, REMOTE_FORBIDDEN); /* http to the internet */
    expect_address("localhost", false, "10.0.0.1", false, REMOTE_FORBIDDEN);
    assert_int_equal(provider_count(&plain, "calls"), before);
    expect_address("gpu.lan", false, "127.0.0.1", true, REMOTE_DONE);
    expect_address("localhost", false, "127.0.0.1", false, REMOTE_DONE);
}

static void nobody_there(void **state) {
    struct provider gone = {.port = 1};
    struct remote_settings s = fake_settings(&gone, REMOTE_TEI, NULL);
    struct remote_outcome outcome;
    (void)state;
    s.retries = 1;
    struct remote_client *c = fake_client(&s);
    expect_failure(c, 1, REMOTE_UNREACHABLE, "connect", &outcome);
    remote_client_free(c);
}

static void run_command(const char *command) {
    int status = system(command); /* NOLINT(cert-env33-c): a fixed command of the test's own */
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A certificate for localhost, signed by itself, in dir/NAME.pem and NAME.key. */
static void make_certificate(const char *dir, const char *name, int days) {
    char command[1024];
    (void)snprintf(command, sizeof command,
                   "cd %s && printf 'subjectAltName=DNS:localhost\\n' >ext && openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost "
                   "-keyout %s.key -out %s.csr 2>/dev/null && openssl x509 -req -in %s.csr -days %d -extfile ext -signkey %s.key -out %s.pem 2>/dev/null",
                   dir, name, name, name, days, name, name);
    run_command(command);
}

static void expect_tls(const struct provider *p, const char *host, const char *ca_file, enum remote_failure failure) {
    struct remote_settings s = fake_settings(p, REMOTE_OPENAI, NULL);
    struct remote_outcome outcome = {0};
    s.retries = 0;
    (void)snprintf(s.url, sizeof s.url, "https://%s:%u/v1", host, p->port);
    (void)snprintf(s.ca_file, sizeof s.ca_file, "%s", ca_file);
    struct remote_client *c = fake_client(&s);
    if (failure == REMOTE_DONE) {
        expect_texts(c, 3);
    } else {
        expect_failure(c, 3, failure, "certificate is not good", &outcome);
    }
    remote_client_free(c);
}

static void certificates(void **state) {
    static const struct {
        const char *name;
        int days;
    } kinds[] = {{"good", 3650}, {"expired", -1}};
    char dir[] = "/tmp/quire-test-tls.XXXXXX";
    char pem[2][64];
    char key[64];
    (void)state;
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < COUNT(kinds); i++) {
        struct provider p;
        make_certificate(dir, kinds[i].name, kinds[i].days);
        (void)snprintf(pem[i], sizeof pem[i], "%s/%s.pem", dir, kinds[i].name);
        (void)snprintf(key, sizeof key, "%s/%s.key", dir, kinds[i].name);
        const char *const options[] = {"--tls", pem[i], key, NULL};
        provider_start(&p, options);
        if (i == 0) {
            expect_tls(&p, "localhost", pem[0], REMOTE_DONE);
            expect_tls(&p, "localhost", "", REMOTE_UNREACHABLE);      /* nobody known has signed it */
            expect_tls(&p, "127.0.0.1", pem[0], REMOTE_UNREACHABLE);  /* it is another's */
        } else {
            expect_tls(&p, "localhost", pem[1], REMOTE_UNREACHABLE);
        }
        provider_stop(&p);
    }
    (void)snprintf(pem[0], sizeof pem[0], "rm -r %s", dir);
    run_command(pem[0]);
}

/* --- several at once ---------------------------------------------------------------------------------------------------- */

struct crowd {
    struct remote_client *client;
    bool ok[16];
};

struct member {
    struct crowd *crowd;
    size_t number;
};

static void *run_member(void *ctx) {
    struct crowd *crowd = ((struct member *)ctx)->crowd;
    size_t i = ((struct member *)ctx)->number;
    float vector[FAKE_DIMENSION];
    struct remote_request request = {
        .role = i % 4 == 0 ? EMBED_QUERY : EMBED_DOCUMENT, .texts = texts + i, .count = 1, .dimension = FAKE_DIMENSION, .deadline_us = far_away()};
    struct remote_outcome outcome;
    struct status st;
    crowd->ok[i] = remote_embed(crowd->client, &request, vector, &outcome, &st);
    return NULL;
}

static void run_crowd(struct crowd *crowd) {
    pthread_t threads[COUNT(crowd->ok)];
    struct member members[COUNT(crowd->ok)];
    for (size_t i = 0; i < COUNT(crowd->ok); i++) {
        members[i] = (struct member){crowd, i};
        assert_int_equal(pthread_create(&threads[i], NULL, run_member, &members[i]), 0);
    }
    for (size_t i = 0; i < COUNT(crowd->ok); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

static void no_more_calls_at_a_time_than_wanted(void **state) {
    static const char *const options[] = {NULL};
    struct provider own;
    struct crowd crowd = {0};
    (void)state;
    provider_start(&own, options);
    struct remote_settings s = fake_settings(&own, REMOTE_TEI, "slow~20");
    s.concurrency = 3;
    crowd.client = fake_client(&s);
    run_crowd(&crowd);
    for (size_t i = 0; i < COUNT(crowd.ok); i++) {
        assert_true(crowd.ok[i]);
    }
    assert_true(provider_count(&own, "most_at_once") <= 3);
    assert_int_equal(provider_count(&own, "calls"), COUNT(crowd.ok));
    remote_client_free(crowd.client);
    provider_stop(&own);
}

static void *cancel_when_busy(void *ctx) {
    struct remote_client *c = (struct remote_client *)ctx;
    struct remote_state about;
    do {
        remote_state(c, &about);
    } while (about.in_flight == 0);
    remote_cancel(c);
    return NULL;
}

static void cancelling_ends_all(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_TEI, "hang");
    struct crowd crowd = {.client = fake_client(&s)};
    struct remote_state about;
    pthread_t thread;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, cancel_when_busy, crowd.client), 0);
    run_crowd(&crowd);
    assert_int_equal(pthread_join(thread, NULL), 0);
    for (size_t i = 0; i < COUNT(crowd.ok); i++) {
        assert_false(crowd.ok[i]);
    }
    remote_state(crowd.client, &about);
    assert_true(about.failures[REMOTE_CANCELLED] > 0);
    assert_int_equal(about.in_flight, 0);
    remote_client_free(crowd.client);
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
        cmocka_unit_test(hangs_and_drips_end_by_their_deadlines),
        cmocka_unit_test(a_resolver_that_hangs),
        cmocka_unit_test(a_handshake_that_hangs),
        cmocka_unit_test(retry_after_is_kept_by_all),
        cmocka_unit_test(the_pace_of_the_settings),
        cmocka_unit_test(the_breaker_opens_and_closes),
        cmocka_unit_test(batches_are_halved),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(one_long_text_among_many),
        cmocka_unit_test(a_text_that_is_refused_is_found),
        cmocka_unit_test(what_was_done_is_kept),
        cmocka_unit_test(names_that_lead_where_nobody_pointed),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(certificates),
        cmocka_unit_test(no_more_calls_at_a_time_than_wanted),
        cmocka_unit_test(cancelling_ends_all),
    };
    return cmocka_run_group_tests_name("embed_remote", tests, set_up, tear_down);
}
