/*
 * test_api_limits.c - every limit of store/limits.def that a request can meet, provoked, and what comes of it held against the error that its line of the table names.
 *
 * A limit without an error refuses nothing. Those of proc/config.def, of time and queues, are in tests/integration/limits.bats. A line that is added to the table
 * without a provocation here fails.
 */
#include "api_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct limit_line {
    const char *name;
    const char *error; /* "422 ValidationError" */
    size_t offset;     /* of a LIMIT in struct limits */
    bool fixed;
};
static const struct limit_line lines[] = {
#define LIMIT(name, preset, least, most, unit, error, help) {#name, error, offsetof(struct limits, name), false},
#define FIXED(name, value, unit, error, help) {#name, error, 0, true},
#include "store/limits.def"
#undef LIMIT
#undef FIXED
};

/* What goes beyond one limit. */
struct provocation {
    const char *name;
    uint64_t value; /* that the limit is set to, where it is not a fixed one; small, so that the test is */
    const char *method;
    const char *path;         /* behind that of a library; from the root where it begins with '=' */
    char *(*body)(void);      /* or */
    const char *text;         /* as it is */
    const char *key;          /* Idempotency-Key */
    const char *before;       /* the same call is made with this body first, and is fine */
};

/* begin, then count times each, then end; freed by the caller. */
static char *repeated(const char *begin, const char *each, size_t count, const char *end) {
    size_t room = strlen(begin) + count * strlen(each) + strlen(end) + 1;
    char *out = (char *)malloc(room);
    assert_non_null(out);
    char *to = stpcpy(out, begin);
    for (size_t i = 0; i < count; i++) {
        to = stpcpy(to, each);
    }
    (void)stpcpy(to, end);
    return out;
}

static char *many_searches(void) {
    return repeated("{\"searches\":[{\"query\":\"x\"}", ",{\"query\":\"x\"}", LIMIT_SEARCHES, "]}");
}
static char *many_libraries(void) {
    return repeated("{\"query\":\"x\",\"libraries\":[\"" NOWHERE "\"", ",\"" NOWHERE "\"", LIMIT_SEARCH_LIBRARIES, "]}");
}
static char *many_inputs(void) {
    return repeated("{\"model\":\"hash-384\",\"input\":[\"x\"", ",\"x\"", LIMIT_EMBEDDING_INPUTS, "]}");
}
static char *deep_filter(void) {
    char *begin = repeated("{\"query\":\"x\",\"filter\":", "{\"not\":", LIMIT_FILTER_DEPTH, "{\"field\":\"a\",\"operator\":\"eq\",\"value\":1}");
    char *out = repeated(begin, "}", LIMIT_FILTER_DEPTH, "}");
    free(begin);
    return out;
}
#define CONDITION "{\"field\":\"a\",\"operator\":\"eq\",\"value\":1}"
static char *wide_filter(void) {
    return repeated("{\"query\":\"x\",\"filter\":{\"or\":[" CONDITION, "," CONDITION, LIMIT_FILTER_NODES, "]}}");
}
static char *long_list(void) {
    return repeated("{\"query\":\"x\",\"filter\":{\"field\":\"a\",\"operator\":\"in\",\"value\":[0", ",1", LIMIT_FILTER_VALUES, "]}}");
}
static char *long_value(void) {
    return repeated("{\"query\":\"x\",\"filter\":{\"field\":\"a\",\"operator\":\"eq\",\"value\":\"x", "x", LIMIT_FILTER_TEXT_BYTES, "\"}}");
}
static char *long_key_name(void) {
    return repeated("{\"scopes\":[\"read\"],\"name\":\"x", "x", LIMIT_KEY_NAME_BYTES, "\"}");
}
static char *wide_key(void) {
    return repeated("{\"scopes\":[\"read\"],\"name\":\"x\",\"libraries\":[\"" NOWHERE "\"", ",\"" NOWHERE "\"", LIMIT_KEY_LIBRARIES, "]}");
}

#define LONG_KEY                                                                                                                                                     \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"                              \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define TWO_CHUNKS "{\"title\":\"t\",\"texts\":[\"one\",\"two\"]}"

static const struct provocation provocations[] = {
    {"max_body_bytes", 30, "POST", "/documents", .text = TWO_CHUNKS},
    {"max_text_bytes", 2, "POST", "/documents", .text = TWO_CHUNKS},
    {"max_query_bytes", 4, "POST", "/search", .text = "{\"query\":\"heron\"}"},
    {"max_chunks_per_document", 1, "POST", "/documents", .text = TWO_CHUNKS},
    {"max_batch_documents", 1, "POST", "/documents/batch", .text = "{\"documents\":[{\"title\":\"a\",\"texts\":[\"x\"]},{\"title\":\"b\",\"texts\":[\"y\"]}]}"},
    {"max_k", 20, "POST", "/search", .text = "{\"query\":\"x\",\"k\":10,\"offset\":11}"},
    {"max_name_bytes", 4, "PATCH", "", .text = "{\"name\":\"heron\"}"},
    {"max_description_bytes", 4, "PATCH", "", .text = "{\"description\":\"heron\"}"},
    {"max_title_bytes", 4, "POST", "/documents", .text = "{\"title\":\"heron\",\"texts\":[\"x\"]}"},
    {"max_tags", 1, "POST", "/documents", .text = "{\"title\":\"t\",\"texts\":[\"x\"],\"tags\":[\"a\",\"b\"]}"},
    {"max_tag_bytes", 4, "POST", "/documents", .text = "{\"title\":\"t\",\"texts\":[\"x\"],\"tags\":[\"heron\"]}"},
    {"max_id_bytes", 4, "POST", "/documents", .text = "{\"id\":\"heron\",\"title\":\"t\",\"texts\":[\"x\"]}"},
    {"max_metadata_bytes", 8, "POST", "/documents", .text = "{\"title\":\"t\",\"texts\":[\"x\"],\"metadata\":{\"a\":1,\"b\":2}}"},
    {"max_page_size", 10, "GET", "/documents?limit=11", .text = NULL},
    {"max_dimension", 2, "POST", "/search/embedding", .text = "{\"embedding\":\"AACAPwAAAAAAAAAA\",\"k\":1}"},
    {"max_libraries", 1, "POST", "=/v1/libraries", .text = "{\"name\":\"another\"}"},
    {"max_keys", 1, "POST", "=/v1/keys", .text = "{\"name\":\"b\",\"scopes\":[\"read\"]}", .before = "{\"name\":\"a\",\"scopes\":[\"read\"]}"},
    {"max_chunks_per_library", 2, "POST", "/documents", .text = TWO_CHUNKS, .before = TWO_CHUNKS},
    {"max_ef_search", 16, "POST", "/search", .text = "{\"query\":\"x\",\"ef_search\":17}"},
    {"json_max_depth", 4, "POST", "/documents", .text = "{\"title\":\"t\",\"texts\":[\"x\"],\"metadata\":{\"a\":[[[1]]]}}"},
    {"json_max_tokens", 4, "POST", "/documents", .text = TWO_CHUNKS},
    {"json_max_keys", 1, "POST", "/documents", .text = TWO_CHUNKS},
    {"max_op_bytes", 40, "POST", "/documents", .text = TWO_CHUNKS},
    {"SEARCHES", 0, "POST", "/search/batch", .body = many_searches},
    {"SEARCH_LIBRARIES", 0, "POST", "=/v1/search", .body = many_libraries},
    {"EMBEDDING_INPUTS", 0, "POST", "=/v1/embeddings", .body = many_inputs},
    {"FILTER_DEPTH", 0, "POST", "/search", .body = deep_filter},
    {"FILTER_NODES", 0, "POST", "/search", .body = wide_filter},
    {"FILTER_VALUES", 0, "POST", "/search", .body = long_list},
    {"FILTER_TEXT_BYTES", 0, "POST", "/search", .body = long_value},
    {"KEY_NAME_BYTES", 0, "POST", "=/v1/keys", .body = long_key_name},
    {"KEY_LIBRARIES", 0, "POST", "=/v1/keys", .body = wide_key},
    {"IDEMPOTENCY_KEY_BYTES", 0, "POST", "/documents", .text = TWO_CHUNKS, .key = LONG_KEY},
};

static const struct provocation *provocation_of(const char *name) {
    for (size_t i = 0; i < sizeof provocations / sizeof provocations[0]; i++) {
        if (strcmp(provocations[i].name, name) == 0) {
            return &provocations[i];
        }
    }
    return NULL;
}

static void say_failed(const struct limit_line *l, const struct server *s) {
    fail_msg("%s: the table says %s, the server %d: %.*s", l->name, l->error, s->response.status, (int)s->response.body.len, (const char *)s->response.body.data);
}

static void provoke(const struct limit_line *l, const struct provocation *p) {
    struct server s;
    char library[64], path[128], error[128];
    server_start(&s);
    (void)make_library(&s, "a", "", library);
    if (!l->fixed) {
        uint64_t *limit = (uint64_t *)(void *)((uint8_t *)&s.limits + l->offset);
        *limit = p->value;
    }
    key_table_free(s.api_keys); /* knows its limit from its beginning on */
    struct status st = {0};
    assert_true(key_table_new(s.limits.max_keys, &s.api_keys, &st));
    server_renew_api(&s);
    (void)snprintf(path, sizeof path, "%s%s", p->path[0] == '=' ? "" : library, p->path[0] == '=' ? p->path + 1 : p->path);
    char *question = strchr(path, '?');
    if (question != NULL) {
        *question++ = '\0';
    }
    if (p->before != NULL) {
        (void)expect(&s, 201, p->method, path, p->before);
    }
    char *made = p->body != NULL ? p->body() : NULL;
    const struct call c = {.method = p->method, .path = path, .query = question, .body = made != NULL ? made : p->text, .idempotency_key = p->key};
    s.undescribed = true;
    (void)call(&s, &c);
    if (s.response.status < 400) {
        say_failed(l, &s);
    }
    (void)snprintf(error, sizeof error, "%d %s", s.response.status, text_at(s.json, "/error_type"));
    if (strcmp(error, l->error) != 0) {
        say_failed(l, &s);
    }
    free(made);
    server_stop(&s);
}

static void test_each(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        const struct provocation *p = provocation_of(lines[i].name);
        /* A worker's memory is a limit of its process: bad_input.bats, memory_server.py. */
        if (lines[i].error[0] == '\0' || strcmp(lines[i].name, "worker_memory_bytes") == 0) {
            assert_null(p);
        } else if (p == NULL) {
            fail_msg("%s has no provocation", lines[i].name);
        } else {
            provoke(&lines[i], p);
        }
    }
}

/* One below each, the same calls are fine: it is that limit which refused. */
static void test_at_their_presets(void **state) {
    struct server *s = (struct server *)*state;
    for (size_t i = 0; i < sizeof provocations / sizeof provocations[0]; i++) {
        const struct provocation *p = &provocations[i];
        char library[64];
        (void)make_library(s, "a", "", library);
        if (p->text == NULL || p->key != NULL || strcmp(p->name, "max_dimension") == 0) {
            continue;
        }
        const struct call c = {.method = p->method, .path = p->path[0] == '=' ? p->path + 1 : join(library, p->path), .body = p->text};
        int status = call(s, &c);
        if (status >= 300) {
            fail_msg("%s: %d without it: %.*s", p->name, status, (int)s->response.body.len, (const char *)s->response.body.data);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each),
        cmocka_unit_test_setup_teardown(test_at_their_presets, server_setup, server_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
