/*
 * test_api_hostile.c - bodies that no honest client sends: cut short, deep, wide, doubled, not UTF-8, mutated. None may be
 * answered with 500, none may be taken for something else, and all memory is given back (the sanitizers look).
 */
#include "api_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char document[] = "{\"title\":\"T\",\"texts\":[\"one\",\"two\"],\"author\":\"A\",\"tags\":[\"x\"],\"metadata\":{"
                               "\"y\":1.5,\"z\":{\"a\":[true,null]}},"
                               "\"chunk_metadata\":[{\"page_number\":7},null],\"chunk_ids\":[null,null]}";

static void test_malformed(void **state) {
    struct server *s = (struct server *)*state;
    static const char *const bodies[] = {"{",
                                         "}",
                                         "{\"name\":\"a\"}}",
                                         "{\"name\":\"a\",}",
                                         "{\"name\":\"a\" \"b\":1}",
                                         "{'name':\"a\"}",
                                         "{name:\"a\"}",
                                         "{\"name\":\"a\"}//",
                                         "{\"name\":\"a\"} {\"name\":\"b\"}",
                                         "{\"name\":\"a\",\"name\":\"b\"}",
                                         "{\"name\":\"a\",\"n\\u0061me\":\"b\"}",
                                         "{\"name\":\"a\",\"metadata\":{\"x\":1,\"x\":2}}",
                                         "{\"name\":\"a\\u0000b\"}",
                                         "{\"name\":\"a\",\"metadata\":{\"k\\u0000\":1}}",
                                         "{\"name\":\"\\ud800\"}",
                                         "{\"name\":\"\\udc00\\ud800\"}",
                                         "{\"name\":\"\xff\"}",
                                         "{\"name\":\"\xc0\x80\"}",
                                         "{\"name\":\"\xed\xa0\x80\"}",
                                         "{\"name\":\"\xf5\x80\x80\x80\"}",
                                         "{\"name\":\"a\nb\"}",
                                         "{\"name\":\"\\x\"}",
                                         "{\"name\":NaN}",
                                         "{\"name\":Infinity}",
                                         "{\"name\":-Infinity}",
                                         "{\"name\":1e400}",
                                         "{\"name\":01}",
                                         "{\"name\":+1}",
                                         "{\"name\":1.}",
                                         "{\"name\":.5}",
                                         "{\"name\":0x10}",
                                         "{\"name\":tru}",
                                         "nul",
                                         " ",
                                         "\xef\xbb\xbf{\"name\":\"a\"}"};
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        expect_error(s, 400, "MalformedRequestError", "POST", "/v1/libraries", bodies[i]);
    }
    assert_int_equal(s->submits, 0);
}

static void test_large_integers(void **state) {
    struct server *s = (struct server *)*state;
    static const char *const kept[] = {
        "9223372036854775807", "-9223372036854775808", "18446744073709551615", "1.0", "1e3", "0.1"};
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        char body[128];
        (void)snprintf(body, sizeof body, "{\"name\":\"a\",\"metadata\":{\"n\":%s}}", kept[i]);
        (void)expect(s, 201, "POST", "/v1/libraries", body);
        assert_non_null(memmem(s->response.body.data, s->response.body.len, kept[i], strlen(kept[i])));
    }
    /* what does not fit into 64 bits may be refused, but never changed */
    const struct call c = {
        .method = "POST", .path = "/v1/libraries", .body = "{\"name\":\"a\",\"metadata\":{\"n\":99999999999999999999999}}"};
    if (call(s, &c) == 201) {
        assert_non_null(memmem(s->response.body.data, s->response.body.len, "99999999999999999999999", 23));
    } else {
        assert_int_equal(s->response.status, 400);
    }
}

static void put_many(struct buf *b, const char *text, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        buf_put_str(b, text);
    }
}

static int post(struct server *s, const char *path, const struct buf *body) {
    const struct call c = {.method = "POST", .path = path, .body = (const char *)body->data, .body_len = body->len};
    assert_true(buf_ok(body));
    return call(s, &c);
}

static void test_deep_and_wide(void **state) {
    struct server *s = (struct server *)*state;
    struct buf b;
    buf_init(&b);
    put_many(&b, "[", 100000);
    assert_int_equal(post(s, "/v1/libraries", &b), 400);
    buf_reset(&b);
    buf_put_str(&b, "{\"name\":\"a\",\"metadata\":");
    put_many(&b, "{\"a\":", 200);
    buf_put_str(&b, "1");
    put_many(&b, "}", 201);
    assert_int_equal(post(s, "/v1/libraries", &b), 400);
    buf_reset(&b);
    buf_put_str(&b, "{\"name\":\"a\",\"metadata\":{\"a\":[0");
    put_many(&b, ",{},{}", 400000);
    buf_put_str(&b, "]}}");
    assert_int_equal(post(s, "/v1/libraries", &b), 400);
    buf_reset(&b);
    buf_put_str(&b, "{\"name\":\"a\",\"metadata\":{\"a\":1");
    for (unsigned i = 0; i < 20000; i++) {
        buf_printf(&b, ",\"%u\":1", i);
    }
    buf_put_str(&b, "}}");
    assert_int_equal(post(s, "/v1/libraries", &b), 400);
    buf_reset(&b);
    buf_put_str(&b, "{\"");
    put_many(&b, "k", 100000); /* a very long name is not quoted whole */
    buf_put_str(&b, "\":1}");
    int status = post(s, "/v1/libraries", &b);
    assert_true(status == 422 || status == 400);
    assert_true(s->response.body.len < 4096);
    buf_fini(&b);
}

/* Every prefix of a good body, and the body with each byte changed. */
static void test_mutations(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], whole[80];
    (void)make_library(s, "a", "", path);
    (void)snprintf(whole, sizeof whole, "%s/documents", path);
    size_t len = sizeof document - 1;
    for (size_t cut = 1; cut < len; cut++) {
        const struct call c = {.method = "POST", .path = whole, .body = document, .body_len = cut};
        assert_int_equal(call(s, &c), 400);
    }
    static const uint8_t replacements[] = {'"', '{', '}', '[', ']', ',', ':', '\\', '0', 0, 0x80, 0xff, ' '};
    for (size_t i = 0; i < len; i++) {
        for (size_t r = 0; r < sizeof replacements; r++) {
            char changed[sizeof document];
            memcpy(changed, document, sizeof document);
            changed[i] = (char)replacements[r];
            const struct call c = {.method = "POST", .path = whole, .body = changed, .body_len = len};
            int status = call(s, &c);
            assert_true(status == 201 || status == 400 || status == 422 || status == 409);
        }
    }
    (void)expect(s, 200, "GET", whole, NULL);
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"one\"}");
}

/* Each route that takes a body meets values of every type in every place that a member could have. */
static void test_wrong_types_everywhere(void **state) {
    struct server *s = (struct server *)*state;
    static const char *const members[] = {
        "name",     "title", "texts",    "text",         "chunks",       "documents",  "document_ids",  "ids",
        "searches", "query", "k",        "metadata",     "embedding",    "embeddings", "libraries",     "input",
        "model",    "tags",  "chunking", "index_config", "quantization", "chunk_ids",  "chunk_metadata"};
    static const char *const values[] = {"null",   "true", "0",    "-1",  "1.5",     "\"\"", "\"x\"",     "[]",
                                         "[null]", "[[]]", "[{}]", "[1]", "[\"x\"]", "{}",   "{\"a\":1}", "[[1,2]]"};
    char path[64];
    (void)make_library(s, "a", "", path);
    for (unsigned i = 1; api_route_name(i) != NULL; i++) {
        const char *space = strchr(api_route_name(i), ' ');
        const char *id = strstr(space, "{id}");
        char target[256], method[16];
        (void)snprintf(method, sizeof method, "%.*s", (int)(space - api_route_name(i)), api_route_name(i));
        if (strcmp(method, "GET") == 0 || (strcmp(method, "DELETE") == 0 && strstr(space, "batch") == NULL)) {
            continue;
        }
        if (id != NULL && strstr(space, "tasks") == NULL) {
            (void)snprintf(target, sizeof target, "%s%s", path, id + strlen("{id}"));
        } else {
            (void)snprintf(target, sizeof target, "%s", space + 1);
        }
        if (strstr(target, "{doc}") != NULL) {
            strcpy(strstr(target, "{doc}"), "d");
        }
        for (size_t m = 0; m < sizeof members / sizeof members[0]; m++) {
            for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
                char body[128];
                (void)snprintf(body, sizeof body, "{\"%s\":%s}", members[m], values[v]);
                const struct call c = {.method = method, .path = target, .body = body};
                int status = call(s, &c);
                assert_true(status != 500 && status != 503);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_malformed, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_large_integers, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_deep_and_wide, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_mutations, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_wrong_types_everywhere, server_setup, server_teardown),
    };
    return cmocka_run_group_tests_name("api hostile", tests, NULL, NULL);
}
