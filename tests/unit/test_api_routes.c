/* test_api_routes.c - what holds for all calls: paths, methods, keys, readiness, media types, lengths, queries. */
#include "api_fixture.h"

#include "api/origins.h"
#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY "qk_0123456789abcdef"

/* "GET /v1/libraries/{id}" -> method and a path with ids that nothing has. */
static void example_of(const char *name, char method[16], char path[256]) {
    const char *space = strchr(name, ' ');
    size_t len = 0;
    (void)snprintf(method, 16, "%.*s", (int)(space - name), name);
    for (const char *p = space + 1; *p != '\0';) {
        if (*p == '{') {
            len += (size_t)snprintf(path + len, 256 - len, NOWHERE);
            p = strchr(p, '}') + 1;
        } else {
            path[len++] = *p++;
        }
    }
    path[len] = '\0';
}

static bool is_open(const char *name) {
    return strcmp(name, "GET /health") == 0 || strcmp(name, "GET /liveness") == 0 || strcmp(name, "GET /readiness") == 0;
}

static bool takes_body(const char *method, const char *path) {
    return strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0 ||
           (strcmp(method, "DELETE") == 0 && strstr(path, "/batch") != NULL);
}

static void test_table(void **state) {
    struct server *s = (struct server *)*state;
    unsigned routes = 0;
    for (unsigned i = 1; api_route_name(i) != NULL; i++) {
        char method[16], path[256];
        example_of(api_route_name(i), method, path);
        struct call c = {.method = method, .path = path, .body = takes_body(method, path) ? "{}" : NULL};
        (void)call(s, &c);
        assert_int_equal(s->response.route, i); /* the path of a route leads to that route */
        assert_true(s->response.status != 405 && s->response.status != 500);
        assert_true(s->response.status != 404 || strcmp(text_at(s->json, "/error_type"), "RouteNotFoundError") != 0);
        routes++;
    }
    assert_true(routes > 30);
    assert_string_equal(api_route_name(0), "none");
}

static void test_wrong_methods(void **state) {
    struct server *s = (struct server *)*state;
    for (unsigned i = 1; api_route_name(i) != NULL; i++) {
        char method[16], path[256], allow[128];
        example_of(api_route_name(i), method, path);
        expect_error(s, 405, "MethodNotAllowedError", "TRACE", path, NULL);
        assert_int_equal(s->response.route, 0);
        assert_true(header(s, "Allow", allow, sizeof allow));
        assert_non_null(strstr(allow, method));
        assert_non_null(strstr(allow, "OPTIONS"));
        assert_true((strstr(allow, "GET") != NULL) == (strstr(allow, "HEAD") != NULL));
        (void)expect(s, 204, "OPTIONS", path, NULL);
        assert_true(header(s, "Allow", allow, sizeof allow));
        assert_non_null(strstr(allow, method));
    }
    expect_error(s, 405, "MethodNotAllowedError", "POST", "/health", "{}");
    expect_error(s, 405, "MethodNotAllowedError", "PUT", "/v1/libraries", "{}");
    expect_error(s, 405, "MethodNotAllowedError", "", "/health", NULL);
}

static void test_unknown_paths(void **state) {
    struct server *s = (struct server *)*state;
    static const char *const paths[] = {"/",
                                        "",
                                        "//",
                                        "/v1",
                                        "/v1/",
                                        "/healthy",
                                        "/health/",
                                        "/v1//libraries",
                                        "/v1/libraries//documents",
                                        "/v2/libraries",
                                        "/v1/libraries/" NOWHERE "/nothing",
                                        "/v1/libraries/" NOWHERE "/reembedded",
                                        "health",
                                        "/v1/libraries/" NOWHERE "/documents/a/b"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (strcmp(paths[i], "/health/") == 0) {
            (void)expect(s, 200, "GET", paths[i], NULL); /* a slash at the end is no difference */
            continue;
        }
        expect_error(s, 404, "RouteNotFoundError", "GET", paths[i], NULL);
        expect_error(s, 404, "RouteNotFoundError", "OPTIONS", paths[i], NULL);
    }
    (void)expect(s, 200, "GET", "/v1/libraries/", NULL);
    expect_error(s, 404, "LibraryNotFoundError", "GET", "/v1/libraries/none", NULL);
    expect_error(s, 404, "LibraryNotFoundError", "GET", "/v1/libraries/" NOWHERE, NULL);
    expect_error(s, 404, "LibraryNotFoundError", "GET", "/v1/libraries/00000000-0000-7000-8000-00000000000A", NULL);
    expect_error(s, 404, "DocumentNotFoundError", "GET", "/v1/documents/none", NULL);
    expect_error(s, 400, "MalformedRequestError", "GET", "/v1/documents/%zz", NULL);
    expect_error(s, 400, "MalformedRequestError", "GET", "/v1/documents/%f", NULL);
    expect_error(s, 400, "MalformedRequestError", "GET", "/v1/documents/%ff", NULL);
    expect_error(s, 404, "DocumentNotFoundError", "GET", "/v1/documents/%00", NULL);
}

static void turn_auth_on(struct server *s) {
    s->host.auth_on = true;
    s->host.has_admin_key = true;
    sha256(KEY, strlen(KEY), s->host.admin_key_sha256);
    server_renew_api(s);
}

static void test_keys(void **state) {
    struct server *s = (struct server *)*state;
    static const struct {
        const char *authorization, *x_api_key;
        bool good;
    } keys[] = {{NULL, NULL, false},
                {"Bearer " KEY, NULL, true},
                {"bearer " KEY, NULL, true},
                {"BEARER   " KEY "  ", NULL, true},
                {NULL, KEY, true},
                {"", KEY, true},
                {"Bearer " KEY "x", NULL, false},
                {"Bearer ", NULL, false},
                {"Bearer", NULL, false},
                {KEY, NULL, false},
                {"Basic " KEY, NULL, false},
                {NULL, "qk_", false},
                {"Bearer wrong", KEY, false}};
    turn_auth_on(s);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct call c = {
            .method = "GET", .path = "/v1/libraries", .authorization = keys[i].authorization, .x_api_key = keys[i].x_api_key};
        assert_int_equal(call(s, &c), keys[i].good ? 200 : 401);
    }
    char *long_key = (char *)calloc(1, 100000);
    assert_non_null(long_key);
    memset(long_key, 'k', 99999);
    struct call c = {.method = "GET", .path = "/v1/libraries", .x_api_key = long_key};
    assert_int_equal(call(s, &c), 401);
    free(long_key);
    s->host.has_admin_key = false;
    memset(s->host.admin_key_sha256, 0, sizeof s->host.admin_key_sha256);
    server_renew_api(s);
    c.x_api_key = KEY;
    assert_int_equal(call(s, &c), 401);
}

static void test_every_route_needs_a_key(void **state) {
    struct server *s = (struct server *)*state;
    turn_auth_on(s);
    for (unsigned i = 1; api_route_name(i) != NULL; i++) {
        char method[16], path[256];
        example_of(api_route_name(i), method, path);
        if (is_open(api_route_name(i))) {
            (void)expect(s, 200, method, path, NULL);
            continue;
        }
        expect_error(s, 401, "AuthenticationError", method, path, takes_body(method, path) ? "{}" : NULL);
        expect_error(s, 401, "AuthenticationError", "TRACE", path, NULL);
        expect_error(s, 401, "AuthenticationError", "OPTIONS", path, NULL);
        /* nor does a bad body or query say anything before the key was shown */
        expect_error(s, 401, "AuthenticationError", method, join(path, "?x=1"), takes_body(method, path) ? "{" : NULL);
    }
    expect_error(s, 401, "AuthenticationError", "GET", "/nothing", NULL);
}

/* Pages of other origins: none, listed ones, any. A preflight has no key, and tells nothing of what is there. */
static void test_cors(void **state) {
    struct server *s = (struct server *)*state;
    static const struct {
        const char *origins, *origin, *allowed; /* NULL: not */
        bool varies;
    } rows[] = {{"", "https://a.example", NULL, false},
                {"https://a.example, http://b.example:8080", "https://a.example", "https://a.example", true},
                {"https://a.example, http://b.example:8080", "http://b.example:8080", "http://b.example:8080", true},
                {"https://a.example, http://b.example:8080", "https://b.example:8080", NULL, true},
                {"https://a.example", "https://a.example.evil", NULL, true},
                {"https://a.example", "https://a.exampl", NULL, true},
                {"https://a.example", "null", NULL, true},
                {"https://a.example", "", NULL, true},
                {"*", "https://a.example", "*", false},
                {"*", "", NULL, false}};
    turn_auth_on(s);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char got[128];
        bool allowed = rows[i].allowed != NULL;
        struct call c = {.method = "GET", .path = "/v1/libraries", .origin = rows[i].origin};
        s->host.cors_origins = rows[i].origins;
        server_renew_api(s);
        for (int with_key = 0; with_key < 2; with_key++) { /* an error is for the page, too */
            c.x_api_key = with_key != 0 ? KEY : "";
            assert_int_equal(call(s, &c), with_key != 0 ? 200 : 401);
            assert_true(header(s, "Access-Control-Allow-Origin", got, sizeof got) == allowed);
            assert_true(!allowed || strcmp(got, rows[i].allowed) == 0);
            assert_true(header(s, "Access-Control-Expose-Headers", got, sizeof got) == allowed);
            assert_true(header(s, "Vary", got, sizeof got) == rows[i].varies);
            assert_false(header(s, "Access-Control-Allow-Credentials", got, sizeof got));
        }
        c = (struct call){.method = "OPTIONS", .path = "/v1/nothing", .origin = rows[i].origin, .cors_method = "PUT"};
        assert_int_equal(call(s, &c), allowed ? 204 : 401);
        assert_true(header(s, "Access-Control-Allow-Methods", got, sizeof got) == allowed);
        assert_true(header(s, "Access-Control-Allow-Headers", got, sizeof got) == allowed);
        c.cors_method = ""; /* an OPTIONS that asks for Allow is no preflight */
        assert_int_equal(call(s, &c), 401);
    }
}

static void test_cors_origins(void **state) {
    static const char *const good[] = {"", "*", "https://a.example", "http://localhost:3000,https://a.example", " https://a.example , http://[::1]:80"};
    static const char *const bad[] = {"a.example", "https://", "https://a.example/", "https://A.example", "https://a.example,*", "https://a b", "null",
                                      ",", "https://a.example\r\nX: y", "://a"};
    struct status st = {0};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(origins_check(good[i], &st));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(origins_check(bad[i], &st));
        assert_int_equal(st.code, STATUS_CONFIG);
    }
}

static void test_not_ready(void **state) {
    struct server *s = (struct server *)*state;
    s->control->ready = 0;
    for (unsigned i = 1; api_route_name(i) != NULL; i++) {
        char method[16], path[256];
        example_of(api_route_name(i), method, path);
        if (strstr(path, "/v1/libraries") != NULL || strstr(path, "/v1/documents") != NULL || strstr(path, "search") != NULL) {
            expect_error(s, 503, "NotReadyError", method, path, takes_body(method, path) ? "{}" : NULL);
        }
    }
    (void)expect(s, 200, "GET", "/health", NULL);
    (void)expect(s, 200, "GET", "/metrics", NULL);
    (void)expect(s, 200, "GET", "/health/detailed", NULL);
    (void)expect(s, 503, "GET", "/readiness", NULL);
    assert_false(json_object_get_boolean(at(s->json, "/ready")));
    s->control->ready = 1;
    s->control->accepting = 0;
    expect_error(s, 503, "NotReadyError", "POST", "/v1/libraries", "{\"name\":\"a\"}");
    assert_int_equal(s->submits, 0);
    (void)expect(s, 200, "GET", "/v1/libraries", NULL);
    (void)expect(s, 503, "GET", "/readiness", NULL);
}

static void test_media_types(void **state) {
    struct server *s = (struct server *)*state;
    static const struct {
        const char *type;
        bool good;
    } types[] = {{"application/json", true},
                 {"application/json; charset=utf-8", true},
                 {"Application/JSON;charset=UTF-8", true},
                 {"application/json; charset=\"utf-8\"", true},
                 {"application/json;", true},
                 {"application/json; charset=latin-1", false},
                 {"application/jsonx", false},
                 {"application/x-ndjson", false},
                 {"text/plain", false},
                 {"application/json; charset=utf-8; and=a-very-long-parameter-that-never-ends", false},
                 {"", false}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct call c = {.method = "POST", .path = "/v1/libraries", .body = "{}", .content_type = types[i].type};
        assert_int_equal(call(s, &c), types[i].good ? 422 : 415);
    }
    assert_string_equal(text_at(s->json, "/error_type"), "UnsupportedMediaTypeError");
}

static void test_lengths(void **state) {
    struct server *s = (struct server *)*state;
    struct api_request request = {.method = slice_str("POST"),
                                  .path = slice_str("/v1/libraries"),
                                  .content_type = slice_str("application/json"),
                                  .content_length = (int64_t)s->limits.max_body_bytes + 1};
    uint64_t body_max = 0;
    api_response_reset(&s->response);
    assert_true(api_begin(s->api, &request, &s->response, &body_max));
    assert_int_equal(s->response.status, 413);
    request.content_length = 0;
    api_response_reset(&s->response);
    assert_true(api_begin(s->api, &request, &s->response, &body_max));
    assert_int_equal(s->response.status, 400);
    request.content_length = -1; /* no length given: the body decides */
    api_response_reset(&s->response);
    assert_false(api_begin(s->api, &request, &s->response, &body_max));
    api_finish(s->api, &request, &s->response);
    assert_int_equal(s->response.status, 400);
    s->limits.max_body_bytes = 1024;
    char big[2048];
    memset(big, ' ', sizeof big);
    api_response_reset(&s->response);
    assert_false(api_begin(s->api, &request, &s->response, &body_max));
    assert_int_equal(body_max, 1024);
    request.body = slice_of(big, sizeof big);
    api_finish(s->api, &request, &s->response);
    assert_int_equal(s->response.status, 413);
}

static void test_request_ids(void **state) {
    struct server *s = (struct server *)*state;
    static const struct {
        const char *given;
        bool kept;
    } ids[] = {{"abc-DEF_1.2", true},
               {"", false},
               {"a b", false},
               {"a\r\nX-Evil: 1", false},
               {"\xc3\xa4", false},
               {"0123456789012345678901234567890123456789012345678901234567890123", true},
               {"01234567890123456789012345678901234567890123456789012345678901234", false}};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        char got[128];
        struct call c = {.method = "GET", .path = "/health", .request_id = ids[i].given};
        assert_int_equal(call(s, &c), 200);
        assert_true(header(s, "X-Request-Id", got, sizeof got));
        assert_true((strcmp(got, ids[i].given) == 0) == ids[i].kept);
        assert_true(ids[i].kept || strlen(got) == UUID_TEXT);
    }
}

static void test_queries(void **state) {
    struct server *s = (struct server *)*state;
    expect_error(s, 422, "ValidationError", "GET", "/v1/libraries?nothing=1", NULL);
    expect_pointer(s, "?nothing");
    expect_error(s, 422, "ValidationError", "GET", "/v1/libraries?limit=0", NULL);
    expect_pointer(s, "?limit");
    expect_error(s, 422, "ValidationError", "GET", "/v1/libraries?limit=1001", NULL);
    expect_error(s, 422, "ValidationError", "GET", "/v1/libraries?limit=-1", NULL);
    expect_error(s, 422, "ValidationError", "GET", "/v1/libraries?limit=", NULL);
    expect_error(s, 422, "ValidationError", "GET", "/v1/libraries?limit=99999999999999999999", NULL);
    expect_error(s, 422, "ValidationError", "GET", "/v1/libraries?limit=1&limit=2", NULL);
    expect_error(s, 422, "ValidationError", "GET", "/v1/libraries?cursor=nonsense", NULL);
    expect_error(s, 422, "ValidationError", "GET", "/v1/libraries?a=1&b=2&limit=x", NULL);
    assert_int_equal(json_object_array_length(at(s->json, "/errors")), 3);
    expect_error(s, 400, "MalformedRequestError", "GET", "/v1/libraries?limit=%", NULL);
    expect_error(s, 400, "MalformedRequestError", "GET", "/v1/libraries?%ff=1", NULL);
    expect_error(s, 422, "ValidationError", "GET", "/health?x=1", NULL);
    (void)expect(s, 200, "GET", "/v1/libraries?l%69mit=%31%30&", NULL);
    (void)expect(s, 200, "HEAD", "/v1/libraries", NULL);
}

static void test_failures_around(void **state) {
    struct server *s = (struct server *)*state;
    struct api_request request = {.method = slice_str("POST"),
                                  .path = slice_str("/v1/libraries"),
                                  .content_type = slice_str("application/json"),
                                  .content_length = 10,
                                  .request_id = slice_str("abc")};
    uint64_t body_max = 0;
    struct status st;
    api_response_reset(&s->response);
    assert_false(api_begin(s->api, &request, &s->response, &body_max));
    (void)status_set(&st, STATUS_MALFORMED, "the body ended early");
    api_fail(s->api, &request, &st, &s->response);
    assert_int_equal(s->response.status, 400);
    assert_non_null(memmem(s->response.body.data, s->response.body.len, "the body ended early", 20));
    /* without a begin, and without an inside that shows */
    (void)status_set(&st, STATUS_INTERNAL, "secret");
    api_response_reset(&s->response);
    api_fail(s->api, &request, &st, &s->response);
    assert_int_equal(s->response.status, 500);
    assert_null(memmem(s->response.body.data, s->response.body.len, "secret", 6));
    assert_non_null(memmem(s->response.body.data, s->response.body.len, "\"abc\"", 5));
    api_response_reset(&s->response);
    api_finish(s->api, &request, &s->response);
    assert_int_equal(s->response.status, 500);
}

/* Each status of a refused op, as a client sees it. */
static void test_error_table(void **state) {
    struct server *s = (struct server *)*state;
    static const struct {
        enum status_code code;
        uint16_t subject;
        int status;
        const char *error_type;
        bool shows_detail;
    } rows[] = {{STATUS_MALFORMED, 0, 400, "MalformedRequestError", true},
                {STATUS_DIMENSION, 0, 400, "DimensionMismatchError", true},
                {STATUS_INVALID, 0, 422, "ValidationError", true},
                {STATUS_UNAUTHENTICATED, 0, 401, "AuthenticationError", true},
                {STATUS_DENIED, 0, 403, "PermissionDeniedError", true},
                {STATUS_NOT_FOUND, SUBJECT_LIBRARY, 404, "LibraryNotFoundError", true},
                {STATUS_NOT_FOUND, SUBJECT_DOCUMENT, 404, "DocumentNotFoundError", true},
                {STATUS_NOT_FOUND, SUBJECT_CHUNK, 404, "ChunkNotFoundError", true},
                {STATUS_NOT_FOUND, SUBJECT_TASK, 404, "TaskNotFoundError", true},
                {STATUS_NOT_FOUND, SUBJECT_SNAPSHOT, 404, "SnapshotNotFoundError", true},
                {STATUS_CONFLICT, SUBJECT_DOCUMENT, 409, "ConflictError", true},
                {STATUS_TOO_LARGE, 0, 413, "PayloadTooLargeError", true},
                {STATUS_BUSY, 0, 503, "OverloadedError", true},
                {STATUS_NOT_READY, 0, 503, "NotReadyError", true},
                {STATUS_NO_EMBEDDING, 0, 503, "EmbeddingUnavailableError", true},
                {STATUS_NO_SPACE, 0, 507, "InsufficientStorageError", false},
                {STATUS_NO_MEMORY, 0, 503, "OverloadedError", false},
                {STATUS_IO, 0, 500, "InternalError", false},
                {STATUS_CORRUPT, 0, 500, "InternalError", false},
                {STATUS_INTERNAL, 0, 500, "InternalError", false}};
    s->undescribed = true;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int whole = 0; whole < 2; whole++) {
            struct status refusal;
            (void)status_set_subject(&refusal, rows[i].code, rows[i].subject, "the inner reason");
            s->submit_fails = whole != 0 ? refusal : (struct status){0};
            s->op_refused = whole != 0 ? (struct status){0} : refusal;
            expect_error(s, rows[i].status, rows[i].error_type, "POST", "/v1/libraries", "{\"name\":\"a\"}");
            assert_true((strstr(text_at(s->json, "/detail"), "the inner reason") != NULL) == rows[i].shows_detail);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_table, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_wrong_methods, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_unknown_paths, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_keys, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_every_route_needs_a_key, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_cors, server_setup, server_teardown),
        cmocka_unit_test(test_cors_origins),
        cmocka_unit_test_setup_teardown(test_not_ready, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_media_types, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_lengths, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_request_ids, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_queries, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_failures_around, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_error_table, server_setup, server_teardown),
    };
    return cmocka_run_group_tests_name("api routes", tests, NULL, NULL);
}
