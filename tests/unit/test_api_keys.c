/*
 * test_api_keys.c - requests with an Idempotency-Key: the first reply again, byte for byte, and nothing done twice. And min_lsn.
 */
#include "api_fixture.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REPLY_MAX = 65536 };

struct reply {
    int status;
    char body[REPLY_MAX];
    char lsn[32], location[256];
    bool replayed;
};

/* Cuts what may differ out of a reply: the time that it took. */
static void without_time(char *body) {
    char *at_time = strstr(body, "\"processing_time_ms\":");
    if (at_time != NULL) {
        char *end = strpbrk(at_time, ",}");
        assert_non_null(end);
        memmove(at_time, end, strlen(end) + 1);
    }
}

static void post(struct server *s, const char *path, const char *key, const char *body, struct reply *ret) {
    char replayed[16];
    char name[256];
    const char *question = strchr(path, '?');
    (void)snprintf(name, sizeof name, "%.*s", (int)(question == NULL ? strlen(path) : (size_t)(question - path)), path);
    *ret = (struct reply){0};
    ret->status = call(
        s, &(struct call){
               .method = "POST", .path = name, .query = question == NULL ? NULL : question + 1, .body = body, .idempotency_key = key});
    assert_true(s->response.body.len < REPLY_MAX);
    memcpy(ret->body, s->response.body.data, s->response.body.len);
    without_time(ret->body);
    (void)header(s, "Quire-LSN", ret->lsn, sizeof ret->lsn);
    (void)header(s, "Location", ret->location, sizeof ret->location);
    ret->replayed = header(s, "Idempotency-Replayed", replayed, sizeof replayed);
}

/* Twice with one key: the same reply, and no second write. Then with another body. Returns the first reply. */
static struct reply *twice(struct server *s, int status, const char *path, const char *key, const char *body) {
    static struct reply first, second;
    post(s, path, key, body, &first);
    if (first.status != status) {
        fail_msg("%s: %d %s", path, first.status, first.body);
    }
    assert_false(first.replayed);
    uint64_t lsn = s->lsn;
    unsigned submits = s->submits;
    post(s, path, key, body, &second);
    assert_int_equal(second.status, status);
    assert_string_equal(second.body, first.body);
    assert_string_equal(second.lsn, first.lsn);
    assert_string_equal(second.location, first.location);
    assert_true(second.replayed);
    assert_int_equal(s->lsn, lsn);
    assert_int_equal(s->submits, submits);
    /* the same when recall misses it, and the supervisor finds it with the submission */
    s->recall_misses = true;
    post(s, path, key, body, &second);
    s->recall_misses = false;
    assert_int_equal(second.status, status);
    assert_string_equal(second.body, first.body);
    assert_true(second.replayed);
    assert_int_equal(s->lsn, lsn);
    return &first;
}

static void other_body(struct server *s, const char *path, const char *key, const char *body) {
    struct reply r;
    uint64_t lsn = s->lsn;
    post(s, path, key, body, &r);
    assert_int_equal(r.status, 422);
    assert_non_null(strstr(r.body, "ValidationError"));
    assert_int_equal(s->lsn, lsn);
}

static void test_library(void **state) {
    struct server *s = (struct server *)*state;
    char path[256];
    const char *body = "{\"name\":\"x\",\"metadata\":{\"a\":1},\"description\":\"d\"}";
    struct reply *r = twice(s, 201, "/v1/libraries", "one", body);
    (void)snprintf(path, sizeof path, "%s", r->location);
    other_body(s, "/v1/libraries", "one", "{\"name\":\"y\"}");
    /* what was made is as the reply says */
    struct json_object *library = expect(s, 200, "GET", path, NULL);
    assert_string_equal(json_object_to_json_string_ext(library, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE), r->body);
    struct reply other;
    /* a slash at the end is no other path */
    post(s, "/v1/libraries/", "one", body, &other);
    assert_true(other.replayed);
    assert_string_equal(other.location, path);
    /* another key makes another one */
    post(s, "/v1/libraries", "two", body, &other);
    assert_int_equal(other.status, 201);
    assert_string_not_equal(other.location, path);
    /* even when it has changed, or is gone */
    (void)expect(s, 200, "PATCH", path, "{\"name\":\"z\"}");
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"title\":\"t\",\"texts\":[\"a\"]}");
    static struct reply again;
    post(s, "/v1/libraries", "one", body, &again);
    assert_string_equal(again.body, r->body);
    (void)expect(s, 204, "DELETE", path, NULL);
    post(s, "/v1/libraries", "one", body, &again);
    assert_int_equal(again.status, 201);
    assert_string_equal(again.body, r->body);
}

static void test_documents(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "x", "", path);
    const char *documents = join(path, "/documents");
    const char *body = "{\"title\":\"t\",\"texts\":[\"one two\",\"three\"],\"tags\":[\"a\"]}";
    static struct reply kept, again;
    kept = *twice(s, 201, documents, "k", body);
    other_body(s, documents, "k", "{\"title\":\"t\",\"texts\":[\"one two\"]}");
    /* the query is a part of the request; what it asks for comes again, too */
    char with_vectors[128];
    (void)snprintf(with_vectors, sizeof with_vectors, "%s?include_embeddings=true&encoding=base64", documents);
    other_body(s, with_vectors, "k", body);
    struct reply *vectors = twice(s, 201, with_vectors, "k2", body);
    assert_non_null(strstr(vectors->body, "\"embedding\":\""));
    (void)twice(s, 201, documents, "k3", "{\"id\":\"mine\",\"title\":\"t\",\"texts\":[\"a\"]}");
    assert_int_equal(number_at(expect(s, 200, "GET", path, NULL), "/num_documents"), 3);
    /* the same key elsewhere is another one */
    char other[64];
    (void)make_library(s, "y", "", other);
    post(s, join(other, "/documents"), "k", body, &again);
    assert_int_equal(again.status, 201);
    assert_false(again.replayed);
    /* the document is gone, then its library */
    const char *id = strstr(kept.location, "/documents/");
    assert_non_null(id);
    (void)expect(s, 204, "DELETE", join(path, id), NULL);
    post(s, documents, "k", body, &again);
    assert_string_equal(again.body, kept.body);
    (void)expect(s, 204, "DELETE", path, NULL);
    post(s, documents, "k", body, &again);
    assert_int_equal(again.status, 201);
    assert_string_equal(again.body, kept.body);
    assert_string_equal(again.location, kept.location);
}

static void test_own_vectors(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "x", ",\"embedding_model\":\"none\"", path);
    (void)twice(s, 201, join(path, "/documents/with-embeddings?include_embeddings=true"), "k",
                "{\"title\":\"t\",\"chunks\":[{\"text\":\"a\",\"embedding\":[1,0,0]},{\"text\":\"b\",\"embedding\":[0,1,0]}]}");
    (void)twice(s, 200, join(path, "/documents/batch"), "k",
                "{\"documents\":[{\"title\":\"t\",\"chunks\":[{\"text\":\"a\",\"embedding\":[1,0,0]}]},"
                "{\"title\":\"t\",\"chunks\":[{\"text\":\"a\",\"embedding\":[1,0]}]}]}");
    assert_int_equal(number_at(expect(s, 200, "GET", path, NULL), "/num_documents"), 2);
}

/* Some documents of a batch fail: here, and in the supervisor. */
static void test_batch(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "x", "", path);
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"id\":\"taken\",\"title\":\"t\",\"texts\":[\"a\"]}");
    const char *body = "{\"documents\":[{\"title\":\"1\",\"texts\":[\"a\",\"b\"]},{\"texts\":[\"no title\"]},"
                       "{\"id\":\"taken\",\"title\":\"3\",\"texts\":[\"c\"]},{\"id\":\"four\",\"title\":\"4\",\"texts\":[\"d\"]}]}";
    struct reply *r = twice(s, 200, join(path, "/documents/batch"), "k", body);
    assert_non_null(strstr(r->body, "\"successful\":2"));
    assert_non_null(strstr(r->body, "\"total_chunks_added\":3"));
    assert_non_null(strstr(r->body, "ConflictError"));
    assert_int_equal(number_at(expect(s, 200, "GET", path, NULL), "/num_documents"), 3);
    r = twice(s, 200, join(path, "/documents/batch-delete"), "k", "{\"document_ids\":[\"four\",\"nobody\",\"taken\"]}");
    assert_non_null(strstr(r->body, "\"successful\":2"));
    assert_non_null(strstr(r->body, "\"total_chunks_deleted\":2"));
    (void)expect(s, 201, "POST", join(path, "/documents"),
                 "{\"title\":\"t\",\"texts\":[\"a\",\"b\"],\"chunk_ids\":[\"c1\",\"c2\"]}");
    r = twice(s, 200, join(path, "/chunks/delete"), "k", "{\"ids\":[\"c1\",\"c1\",\"c3\"]}");
    assert_non_null(strstr(r->body, "\"deleted\":1"));
}

static void test_tasks(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "x", "", path);
    struct reply *r = twice(s, 202, "/v1/snapshots", "k", NULL);
    assert_non_null(strstr(r->body, "\"state\":\"pending\""));
    (void)twice(s, 202, join(path, "/index/optimize"), "k", NULL);
    (void)twice(s, 202, join(path, "/index/rebuild"), "k", "{\"index_config\":{\"M\":24}}");
    assert_int_equal(number_at(expect(s, 200, "GET", join(path, "/index/statistics"), NULL), "/index_config/M"), 24);
    other_body(s, join(path, "/index/rebuild"), "k", "{\"index_config\":{\"M\":25}}");
    /* a task that does not begin is not remembered */
    (void)status_set_subject(&s->command_fails, STATUS_CONFLICT, SUBJECT_TASK, "it runs");
    static struct reply refused;
    post(s, join(path, "/index/optimize"), "k2", NULL, &refused);
    assert_int_equal(refused.status, 409);
    status_clear(&s->command_fails);
    (void)twice(s, 202, join(path, "/index/optimize"), "k2", NULL);
}

/* What changed nothing is not remembered: a retry is a new try. */
static void test_failures_are_not_remembered(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    static struct reply r;
    (void)make_library(s, "x", "", path);
    const char *documents = join(path, "/documents");
    const char *body = "{\"id\":\"a\",\"title\":\"t\",\"texts\":[\"a\"]}";
    post(s, documents, "k", "{}", &r);
    assert_int_equal(r.status, 422);
    (void)status_set(&s->op_refused, STATUS_NO_SPACE, "full");
    post(s, documents, "k", body, &r);
    assert_int_equal(r.status, 507);
    status_clear(&s->op_refused);
    (void)status_set(&s->submit_fails, STATUS_BUSY, "no answer");
    post(s, documents, "k", body, &r);
    assert_int_equal(r.status, 503);
    status_clear(&s->submit_fails);
    (void)twice(s, 201, documents, "k", body);
    /* nor is what was refused outright */
    post(s, documents, "k2", body, &r);
    assert_int_equal(r.status, 409);
    (void)expect(s, 204, "DELETE", join(path, "/documents/a"), NULL);
    post(s, documents, "k2", body, &r);
    assert_int_equal(r.status, 201);
}

static void test_which_keys_are_taken(void **state) {
    struct server *s = (struct server *)*state;
    static struct reply r;
    char longest[257];
    memset(longest, 'k', sizeof longest);
    longest[256] = '\0';
    const char *const bad[] = {" ", "a b", "a\tb", "a, b", "D\xc3\xbcrer", "\x7f", longest};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        unsigned recalls = s->recalls;
        post(s, "/v1/libraries", bad[i], "{\"name\":\"x\"}", &r);
        assert_int_equal(r.status, 422);
        assert_non_null(strstr(r.body, "Idempotency-Key"));
        assert_int_equal(s->recalls, recalls);
    }
    longest[255] = '\0';
    (void)twice(s, 201, "/v1/libraries", longest, "{\"name\":\"x\"}");
    (void)twice(s, 201, "/v1/libraries", "!~\"\\", "{\"name\":\"x\"}");
    /* calls that write nothing, and other methods, do without */
    char path[64];
    (void)make_library(s, "y", "", path);
    unsigned recalls = s->recalls;
    post(s, join(path, "/search"), "a b", "{\"query\":\"a\"}", &r);
    assert_int_equal(r.status, 200);
    post(s, join(path, "/chunks/get"), "k", "{\"ids\":[\"a\"]}", &r);
    assert_int_equal(r.status, 200);
    assert_int_equal(s->recalls, recalls);
    /* an empty one is none */
    post(s, "/v1/libraries", "", "{\"name\":\"x\"}", &r);
    assert_int_equal(r.status, 201);
    assert_int_equal(s->recalls, recalls);
}

/* With authentication, who asks is a part of what a key stands for; the two ways to send it are the same asker. */
static void test_whose_key(void **state) {
    struct server *s = (struct server *)*state;
    static const uint8_t sum[32] = {0x2b, 0xb8, 0x0d, 0x53, 0x7b, 0x1d, 0xa3, 0xe3, 0x8b, 0xd3, 0x03, 0x61, 0xaa, 0x85, 0x56, 0x86,
                                    0xbd, 0xe0, 0xea, 0xcd, 0x71, 0x62, 0xfe, 0xf6, 0xa2, 0x5f, 0xe9, 0x7b, 0xf5, 0x27, 0xa2, 0x5b};
    s->host.auth_on = true;
    s->host.has_admin_key = true;
    memcpy(s->host.admin_key_sha256, sum, sizeof sum); /* of "secret" */
    server_renew_api(s);
    struct call c = {.method = "POST", .path = "/v1/libraries", .body = "{\"name\":\"x\"}", .idempotency_key = "k"};
    c.x_api_key = "secret";
    assert_int_equal(call(s, &c), 201);
    uint64_t lsn = s->lsn;
    c.x_api_key = NULL;
    c.authorization = "Bearer secret";
    assert_int_equal(call(s, &c), 201);
    assert_int_equal(s->lsn, lsn);
    c.authorization = NULL;
    assert_int_equal(call(s, &c), 401);
}

/* --- min_lsn --- */

static void test_min_lsn(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    char body[256];
    (void)make_library(s, "x", "", path);
    static struct reply r;
    post(s, join(path, "/documents"), NULL, "{\"title\":\"t\",\"texts\":[\"a\"]}", &r);
    (void)snprintf(body, sizeof body, "{\"query\":\"a\",\"min_lsn\":\"%s\"}", r.lsn);
    (void)expect(s, 200, "POST", join(path, "/search"), body);
    (void)expect(s, 200, "POST", join(path, "/search/filtered"), body);
    (void)snprintf(body, sizeof body, "{\"query\":\"a\",\"min_lsn\":%s}", r.lsn);
    (void)expect(s, 200, "POST", join(path, "/search"), body);
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"a\",\"min_lsn\":null}");
    /* of the future */
    const char *const futures[] = {"{\"query\":\"a\",\"min_lsn\":\"18446744073709551615\"}", "{\"query\":\"a\",\"min_lsn\":1000}"};
    s->host.min_lsn_wait_ms = 20;
    server_renew_api(s);
    for (size_t i = 0; i < 2; i++) {
        int64_t begun = clock_monotonic_us();
        char retry[16];
        expect_error(s, 503, "NotReadyError", "POST", join(path, "/search"), futures[i]);
        assert_true(header(s, "Retry-After", retry, sizeof retry));
        assert_true(clock_monotonic_us() - begun >= 20000);
    }
    (void)snprintf(body, sizeof body, "{\"searches\":[{\"query\":\"a\"},{\"query\":\"b\",\"min_lsn\":\"1000\"}]}");
    expect_error(s, 503, "NotReadyError", "POST", join(path, "/search/batch"), body);
    (void)snprintf(body, sizeof body, "{\"libraries\":[\"%s\"],\"query\":\"b\",\"min_lsn\":\"1000\"}", path + strlen("/v1/libraries/"));
    expect_error(s, 503, "NotReadyError", "POST", "/v1/search", body);
    const char *const bad[] = {"\"\"",   "\"-1\"", "-1",   "1.5",    "\"1 \"", "\"0x1\"", "\"18446744073709551616\"",
                               "\"x\"", "true",   "[]",   "{}",     "\"000000000000000000001\""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        (void)snprintf(body, sizeof body, "{\"query\":\"a\",\"min_lsn\":%s}", bad[i]);
        expect_error(s, 422, "ValidationError", "POST", join(path, "/search"), body);
        expect_pointer(s, "/min_lsn");
    }
}

struct publisher {
    struct server *s;
    uint64_t lsn;
};

static void *publish_later(void *arg) {
    struct publisher *p = (struct publisher *)arg;
    (void)usleep(30000);
    catalog_publish(p->s->catalog, p->lsn, 1000000, NULL, NULL);
    control_wake_waiters(p->s->control);
    return NULL;
}

static void test_a_search_waits(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    char body[256];
    (void)make_library(s, "x", "", path);
    struct publisher p = {.s = s, .lsn = s->lsn + 5};
    pthread_t thread;
    s->host.min_lsn_wait_ms = 600000; /* it must be woken */
    server_renew_api(s);
    (void)snprintf(body, sizeof body, "{\"query\":\"a\",\"min_lsn\":%llu}", (unsigned long long)p.lsn);
    assert_int_equal(pthread_create(&thread, NULL, publish_later, &p), 0);
    (void)expect(s, 200, "POST", join(path, "/search"), body);
    assert_int_equal(pthread_join(thread, NULL), 0);
    s->lsn = p.lsn;
}

/* Each reply to a write says where it stands, also where nothing was to be written. */
static void test_every_write_says_its_lsn(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], lsn[32], now[32];
    (void)make_library(s, "x", "", path);
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"id\":\"a\",\"title\":\"t\",\"texts\":[\"a\"],\"chunk_ids\":[\"c\"]}");
    const struct {
        const char *method, *path, *body;
        int status;
    } writes[] = {
        {"PATCH", "", "{\"name\":\"y\"}", 200},
        {"PUT", "/documents/a", "{\"title\":\"t\",\"texts\":[\"a\"]}", 200},
        {"POST", "/documents/batch", "{\"documents\":[{\"title\":\"t\",\"texts\":[\"a\"]}]}", 200},
        {"POST", "/documents/batch", "{\"documents\":[{}]}", 200},
        {"POST", "/documents/batch-delete", "{\"document_ids\":[\"nobody\"]}", 200},
        {"POST", "/chunks/delete", "{\"ids\":[\"c\"]}", 200},
        {"DELETE", "/documents/a", NULL, 204},
        {"POST", "/index/rebuild", NULL, 202},
        {"POST", "/index/optimize", NULL, 202},
        {"DELETE", "", NULL, 204},
    };
    for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++) {
        (void)expect(s, writes[i].status, writes[i].method, join(path, writes[i].path), writes[i].body);
        assert_true(header(s, "Quire-LSN", lsn, sizeof lsn));
        (void)snprintf(now, sizeof now, "%llu", (unsigned long long)s->lsn);
        assert_string_equal(lsn, now);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_library, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_documents, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_own_vectors, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_batch, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_tasks, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_failures_are_not_remembered, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_which_keys_are_taken, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_whose_key, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_min_lsn, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_a_search_waits, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_every_write_says_its_lsn, server_setup, server_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
