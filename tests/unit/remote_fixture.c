/* remote_fixture.c - see remote_fixture.h. */
#include "remote_fixture.h"

#include "base/clock.h"

#include <curl/curl.h>
#include <math.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { OPTIONS_MAX = 16, WORD_MAX = 32, LINE_MAX_BYTES = 64, URL_MAX = 128, MINUTE_US = 60000000 };

static void read_port(int fd, unsigned *ret) {
    char line[LINE_MAX_BYTES] = "";
    size_t len = 0;
    while (len < sizeof line - 1 && read(fd, line + len, 1) == 1 && line[len] != '\n') {
        len++;
    }
    assert_int_equal(sscanf(line, "ready %u", ret), 1);
}

void provider_start(struct provider *p, const char *const *options) {
    char *argv[OPTIONS_MAX] = {(char *)(uintptr_t)"python3", (char *)(uintptr_t)FAKE_PROVIDER};
    int in[2];
    int out[2];
    for (size_t i = 0; options[i] != NULL; i++) {
        argv[i + 2] = (char *)(uintptr_t)options[i];
    }
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0) {
        (void)dup2(in[0], STDIN_FILENO);
        (void)dup2(out[1], STDOUT_FILENO);
        (void)close(in[1]);
        (void)close(out[0]);
        (void)execvp(argv[0], argv);
        _exit(127);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    p->stdin_fd = in[1];
    read_port(out[0], &p->port);
    (void)close(out[0]);
}

void provider_stop(struct provider *p) {
    if (p->pid > 0) {
        (void)close(p->stdin_fd);
        (void)kill(p->pid, SIGKILL);
        (void)waitpid(p->pid, NULL, 0);
        p->pid = 0;
    }
}

static size_t collect(char *data, size_t size, size_t count, void *ctx) {
    buf_put((struct buf *)ctx, data, size * count);
    return size * count;
}

static void ask(const struct provider *p, const char *path, const char *post, struct buf *out) {
    char url[URL_MAX];
    CURL *c = curl_easy_init();
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u%s", p->port, path);
    assert_int_equal(curl_easy_setopt(c, CURLOPT_URL, url), CURLE_OK);
    assert_int_equal(curl_easy_setopt(c, CURLOPT_PROXY, ""), CURLE_OK);
    assert_int_equal(curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, collect), CURLE_OK);
    assert_int_equal(curl_easy_setopt(c, CURLOPT_WRITEDATA, out), CURLE_OK);
    if (post != NULL) {
        assert_int_equal(curl_easy_setopt(c, CURLOPT_POSTFIELDS, post), CURLE_OK);
    }
    assert_int_equal(curl_easy_perform(c), CURLE_OK);
    curl_easy_cleanup(c);
    buf_put_u8(out, 0);
}

struct json_object *provider_get(const struct provider *p, const char *path) {
    struct buf body = {0};
    ask(p, path, NULL, &body);
    struct json_object *parsed = json_tokener_parse((const char *)body.data);
    assert_non_null(parsed);
    buf_fini(&body);
    return parsed;
}

int64_t provider_count(const struct provider *p, const char *member) {
    struct json_object *state = provider_get(p, "/state");
    int64_t count = json_object_get_int64(json_object_object_get(state, member));
    json_object_put(state);
    return count;
}

void provider_control(const struct provider *p, const char *json) {
    struct buf body = {0};
    ask(p, "/control", json, &body);
    buf_fini(&body);
}

struct remote_settings fake_settings(const struct provider *p, enum remote_dialect dialect, const char *behaviour) {
    struct remote_settings s = {
        .name = "fake",
        .dialect = dialect,
        .model = "m",
        .max_batch = 32,
        .max_batch_tokens = 100000,
        .max_text_tokens = 8000,
        .concurrency = 4,
        .connect_timeout_ms = 10000,
        .timeout_ms = 30000,
        .stall_timeout_ms = 20000,
        .max_response_bytes = 67108864,
        .retries = 3,
        .retry_wait_ms = 1,
        .retry_wait_max_ms = 30000,
        .breaker_failures = 100,
        .breaker_open_ms = 3600000,
    };
    (void)snprintf(s.url, sizeof s.url, "http://127.0.0.1:%u%s%s%s", p->port, behaviour == NULL ? "" : "/behave/", behaviour == NULL ? "" : behaviour,
                   dialect == REMOTE_OPENAI ? "/v1" : "");
    return s;
}

struct remote_client *fake_client(const struct remote_settings *s) {
    struct remote_client *c;
    struct status st;
    if (!remote_client_new(s, slice_str(FAKE_KEY), &c, &st)) {
        fail_msg("%s", st.detail);
    }
    return c;
}

static void add_word(double *sum, struct slice word, const char *model) {
    uint8_t bytes[FAKE_DIMENSION];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestInit_ex(md, EVP_shake256(), NULL), 1);
    assert_int_equal(EVP_DigestUpdate(md, model, strlen(model) + 1), 1);
    assert_int_equal(EVP_DigestUpdate(md, word.data, word.len), 1);
    assert_int_equal(EVP_DigestFinalXOF(md, bytes, sizeof bytes), 1);
    EVP_MD_CTX_free(md);
    for (size_t i = 0; i < FAKE_DIMENSION; i++) {
        sum[i] += (double)bytes[i] - 127.5;
    }
}

void expect_vector(const float *vector, struct slice text, const char *model) {
    double sum[FAKE_DIMENSION] = {0};
    double length = 0;
    for (size_t at = 0; at < text.len;) {
        size_t len = 0;
        while (at + len < text.len && strchr(" \t\n", text.data[at + len]) == NULL) {
            len++;
        }
        if (len > 0) {
            add_word(sum, slice_of(text.data + at, len), model);
        }
        at += len + 1;
    }
    for (size_t i = 0; i < FAKE_DIMENSION; i++) {
        length += sum[i] * sum[i];
    }
    for (size_t i = 0; i < FAKE_DIMENSION; i++) {
        double expected = length > 0 ? sum[i] / sqrt(length) : 0;
        if (!(fabs(expected - (double)vector[i]) < 1e-6)) {
            fail_msg("'%.*s' has %g at %zu instead of %g", (int)text.len, text.len == 0 ? "" : (const char *)text.data, (double)vector[i], i, expected);
        }
    }
}

int64_t far_away(void) {
    return clock_monotonic_us() + MINUTE_US;
}

/* --- what most tests ask ----------------------------------------------------------------------------------------------- */

struct provider plain;
struct slice texts[ROOM];
static char words[ROOM][WORD_MAX];
float vectors[ROOM * FAKE_DIMENSION];

int fixture_set_up(void **state) {
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

int fixture_tear_down(void **state) {
    (void)state;
    provider_stop(&plain);
    remote_global_fini();
    return 0;
}

bool ask_for(struct remote_client *c, size_t count, struct remote_outcome *ret, struct status *st) {
    struct remote_request request = {.role = EMBED_DOCUMENT, .texts = texts, .count = count, .dimension = FAKE_DIMENSION, .deadline_us = far_away()};
    status_clear(st);
    return remote_embed(c, &request, vectors, ret, st);
}

void expect_texts(struct remote_client *c, size_t count) {
    struct remote_outcome outcome;
    struct status st;
    memset(vectors, 0x55, sizeof vectors);
    if (!ask_for(c, count, &outcome, &st)) {
        fail_msg("%s", st.detail);
    }
    assert_int_equal(outcome.failure, REMOTE_DONE);
    assert_int_equal(outcome.done, count);
    for (size_t i = 0; i < count; i++) {
        expect_vector(vectors + i * FAKE_DIMENSION, texts[i], "fake");
    }
}

void expect_failure(struct remote_client *c, size_t count, enum remote_failure failure, const char *in_detail, struct remote_outcome *ret) {
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
