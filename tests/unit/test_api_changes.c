/* test_api_changes.c - documents that change: PATCH, the ETags that tell their states apart, and lists by filter. */
#include "api_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAG_MAX 64

/* A document in a library of its own; out: its path. */
static const char *make_document(struct server *s, const char *more, const char *body, char out[128]) {
    char library[64];
    (void)make_library(s, "a", more, library);
    (void)expect(s, 201, "POST", join(library, "/documents"), body);
    (void)snprintf(out, 128, "%s/documents/d", library);
    return out;
}

static void take_tag(const struct server *s, char out[TAG_MAX]) {
    assert_true(header(s, "ETag", out, TAG_MAX));
    assert_int_equal(strlen(out), 18);
}

static int conditional(struct server *s, const char *method, const char *path, const char *body, const char *match, const char *none) {
    const struct call c = {.method = method, .path = path, .body = body, .if_match = match, .if_none_match = none};
    return call(s, &c);
}

static char *copy_of(struct json_object *json) {
    char *text = strdup(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN));
    assert_non_null(text);
    return text;
}

#define BODY                                                                                                                     \
    "{\"id\":\"d\",\"title\":\"T\",\"author\":\"A\",\"tags\":[\"x\"],\"metadata\":{\"k\":1},\"source_url\":\"u\","               \
    "\"document_type\":\"note\",\"texts\":[\"one\",\"two\"],\"chunk_ids\":[\"c1\",\"c2\"],\"chunk_metadata\":[{\"page_number\":3},{\"z\":2}]}"

static void test_patch(void **state) {
    struct server *s = (struct server *)*state;
    char path[128], lsn[32];
    (void)make_document(s, "", BODY, path);
    char *before = copy_of(expect(s, 200, "GET", join(path, "?include_embeddings=true"), NULL));
    (void)expect(s, 200, "PATCH", join(path, "?include_embeddings=true"), "{}");
    char *after = copy_of(s->json);
    assert_string_equal(after, before); /* ids, times, vectors: nothing moves */
    assert_true(header(s, "Quire-LSN", lsn, sizeof lsn));
    (void)expect(s, 200, "PATCH", path, "{\"title\":\"U\",\"tags\":[\"y\",\"z\"]}");
    assert_string_equal(text_at(s->json, "/metadata/title"), "U");
    assert_string_equal(text_at(s->json, "/metadata/author"), "A");
    assert_string_equal(text_at(s->json, "/metadata/tags/1"), "z");
    assert_int_equal(number_at(s->json, "/metadata/k"), 1);
    (void)expect(s, 200, "PATCH", path, "{\"author\":null,\"tags\":null,\"metadata\":{\"other\":true}}");
    char *shown = copy_of(s->json);
    char *stored = copy_of(expect(s, 200, "GET", path, NULL));
    assert_string_equal(shown, stored);
    assert_null(at(s->json, "/metadata/author"));
    assert_int_equal(json_object_array_length(at(s->json, "/metadata/tags")), 0);
    assert_false(has(s->json, "/metadata/k"));
    assert_true(has(s->json, "/metadata/other"));
    assert_string_equal(text_at(s->json, "/metadata/source_url"), "u");
    assert_string_equal(text_at(s->json, "/metadata/document_type"), "note");
    assert_string_equal(text_at(s->json, "/chunks/0/id"), "c1");
    assert_int_equal(number_at(s->json, "/chunks/0/metadata/page_number"), 3);
    (void)expect(s, 200, "PATCH", path, "{\"metadata\":null}");
    assert_false(has(s->json, "/metadata/other"));
    free(before);
    free(after);
    free(shown);
    free(stored);
}

static void refuse_no_more(struct server *s) {
    s->op_refused = (struct status){0};
}

static void get_another_model(struct server *s) {
    (void)status_set_subject(&s->op_refused, STATUS_CONFLICT, SUBJECT_LIBRARY, "another model");
    s->before_submit = refuse_no_more;
}

/* Its vectors are those of the model that the library had when it was read. */
static void test_patch_beside_an_exchange(void **state) {
    struct server *s = (struct server *)*state;
    char path[128], tag[TAG_MAX];
    (void)make_document(s, "", BODY, path);
    s->before_submit = get_another_model;
    (void)expect(s, 200, "PATCH", path, "{\"title\":\"U\"}");
    assert_string_equal(text_at(s->json, "/metadata/title"), "U");
    take_tag(s, tag);
    s->before_submit = get_another_model;
    assert_int_equal(conditional(s, "PATCH", path, "{\"title\":\"V\"}", tag, NULL), 200);
}

static void test_patch_is_found(void **state) {
    struct server *s = (struct server *)*state;
    char path[128], library[64];
    (void)make_document(s, "", BODY, path);
    (void)snprintf(library, sizeof library, "%.*s", (int)(strlen(path) - strlen("/documents/d")), path);
    (void)expect(s, 200, "PATCH", path, "{\"tags\":[\"found\"]}");
    for (int dense = 0; dense < 2; dense++) {
        char body[200];
        (void)snprintf(body, sizeof body, "{\"query\":\"two\",\"mode\":\"%s\",\"k\":5,\"filter\":{\"field\":\"tags\",\"operator\":\"eq\",\"value\":\"found\"}}",
                       dense ? "dense" : "lexical");
        (void)expect(s, 200, "POST", join(library, "/search"), body);
        assert_string_equal(text_at(s->json, "/results/0/chunk/id"), "c2");
    }
    (void)expect(s, 200, "GET", library, NULL);
    assert_int_equal(number_at(s->json, "/num_chunks"), 2);
    assert_int_equal(number_at(s->json, "/num_documents"), 1);
}

/* Vectors that the caller brought cannot be made again: they must come along. */
static void test_patch_of_own_vectors(void **state) {
    struct server *s = (struct server *)*state;
    char path[128];
    (void)make_document(s, ",\"embedding_model\":\"none\"",
                        "{\"id\":\"d\",\"title\":\"T\",\"texts\":[\"a\",\"b\",\"c\"],\"chunk_ids\":[\"1\",\"2\",\"3\"],\"embeddings\":[[1,0],[0,1],[0.6,0.8]]}", path);
    (void)expect(s, 200, "PATCH", join(path, "?include_embeddings=true"), "{\"title\":\"U\"}");
    assert_true(real_at(s->json, "/chunks/2/embedding/1") > 0.79);
    char library[64];
    (void)snprintf(library, sizeof library, "%.*s", (int)(strlen(path) - strlen("/documents/d")), path);
    (void)expect(s, 200, "POST", join(library, "/chunks/delete"), "{\"ids\":[\"1\"]}");
    (void)expect(s, 200, "PATCH", path, "{\"title\":\"V\"}");
    (void)expect(s, 200, "GET", join(path, "?include_embeddings=true"), NULL);
    assert_string_equal(text_at(s->json, "/metadata/title"), "V");
    assert_int_equal(json_object_array_length(at(s->json, "/chunks")), 2);
    assert_string_equal(text_at(s->json, "/chunks/0/id"), "2");
    assert_true(real_at(s->json, "/chunks/0/embedding/1") > 0.99);
}

static void test_patch_refusals(void **state) {
    struct server *s = (struct server *)*state;
    char path[128];
    (void)make_document(s, "", BODY, path);
    expect_error(s, 422, "ValidationError", "PATCH", path, "{\"title\":null}");
    expect_pointer(s, "/title");
    expect_error(s, 422, "ValidationError", "PATCH", path, "{\"texts\":[\"x\"]}");
    expect_pointer(s, "/texts");
    expect_error(s, 422, "ValidationError", "PATCH", path, "{\"title\":\"\",\"tags\":[\"\"],\"metadata\":[],\"author\":7}");
    expect_pointer(s, "/tags/0");
    expect_pointer(s, "/metadata");
    expect_pointer(s, "/author");
    expect_error(s, 422, "ValidationError", "PATCH", path, "{\"metadata\":{\"title\":1}}");
    expect_error(s, 400, "MalformedRequestError", "PATCH", path, "{");
    expect_error(s, 404, "DocumentNotFoundError", "PATCH", join(path, "x"), "{\"title\":\"U\"}");
    expect_error(s, 404, "LibraryNotFoundError", "PATCH", "/v1/libraries/" NOWHERE "/documents/d", "{\"title\":\"U\"}");
}

static void test_tags_tell_states_apart(void **state) {
    struct server *s = (struct server *)*state;
    char path[128], first[TAG_MAX], second[TAG_MAX], third[TAG_MAX], library[64];
    (void)make_document(s, "", BODY, path);
    take_tag(s, first);
    (void)expect(s, 200, "GET", path, NULL);
    take_tag(s, second);
    assert_string_equal(first, second);
    (void)expect(s, 200, "PATCH", path, "{\"title\":\"U\"}");
    take_tag(s, second);
    assert_string_not_equal(first, second);
    (void)snprintf(library, sizeof library, "%.*s", (int)(strlen(path) - strlen("/documents/d")), path);
    (void)expect(s, 200, "POST", join(library, "/chunks/delete"), "{\"ids\":[\"c1\"]}");
    (void)expect(s, 200, "GET", path, NULL);
    take_tag(s, third);
    assert_string_not_equal(second, third);
}

static void test_reading_conditions(void **state) {
    struct server *s = (struct server *)*state;
    char path[128], tag[TAG_MAX], list[3 * TAG_MAX];
    (void)make_document(s, "", BODY, path);
    take_tag(s, tag);
    assert_int_equal(conditional(s, "GET", path, NULL, NULL, tag), 304);
    assert_int_equal(s->response.body.len, 0);
    assert_int_equal(conditional(s, "GET", path, NULL, NULL, "*"), 304);
    (void)snprintf(list, sizeof list, "\"0\" ,\tW/%s", tag);
    assert_int_equal(conditional(s, "GET", path, NULL, NULL, list), 304);
    assert_int_equal(conditional(s, "GET", path, NULL, NULL, "\"0123456789abcdef\""), 200);
    assert_int_equal(conditional(s, "GET", path, NULL, NULL, ",,\"unended"), 200);
    assert_int_equal(conditional(s, "GET", path, NULL, tag, NULL), 200);
    assert_int_equal(conditional(s, "GET", path, NULL, "\"0123456789abcdef\"", NULL), 412);
}

static void test_writing_conditions(void **state) {
    struct server *s = (struct server *)*state;
    char path[128], tag[TAG_MAX], old[TAG_MAX];
    const char *put = "{\"title\":\"P\",\"texts\":[\"three\"]}";
    (void)make_document(s, "", BODY, path);
    take_tag(s, old);
    assert_int_equal(conditional(s, "PUT", path, put, old, NULL), 200);
    take_tag(s, tag);
    assert_int_equal(conditional(s, "PUT", path, put, old, NULL), 412);
    assert_string_equal(text_at(s->json, "/error_type"), "PreconditionFailedError");
    assert_int_equal(conditional(s, "PATCH", path, "{\"title\":\"Q\"}", old, NULL), 412);
    assert_int_equal(conditional(s, "DELETE", path, NULL, old, NULL), 412);
    assert_int_equal(conditional(s, "PUT", path, put, NULL, "*"), 412);
    assert_int_equal(conditional(s, "PUT", join(path, "2"), put, "*", NULL), 412);
    assert_int_equal(conditional(s, "PUT", join(path, "2"), put, old, NULL), 412);
    assert_int_equal(conditional(s, "PUT", join(path, "2"), put, NULL, "*"), 201);
    assert_int_equal(conditional(s, "PUT", path, put, NULL, tag), 422);
    assert_int_equal(conditional(s, "DELETE", path, NULL, NULL, "*"), 422);
    (void)expect(s, 200, "GET", path, NULL);
    assert_string_equal(text_at(s->json, "/metadata/title"), "P"); /* none of what was refused has done anything */
    assert_int_equal(conditional(s, "PATCH", path, "{\"title\":\"Q\"}", tag, NULL), 200);
    take_tag(s, tag);
    assert_int_equal(conditional(s, "DELETE", path, NULL, tag, NULL), 204);
    assert_int_equal(conditional(s, "DELETE", path, NULL, "*", NULL), 412);
    expect_error(s, 404, "DocumentNotFoundError", "DELETE", path, NULL);
}

static char raced[128];

/* Somebody else's write between the reading of a patch and its commit: through a worker of its own, as it were. */
static void other_writes(struct server *s) {
    struct api *mine = s->api;
    struct api_response response = s->response;
    struct status st;
    api_response_init(&s->response);
    assert_true(api_new(&s->host, &s->api, &st));
    (void)expect(s, 200, "PUT", raced, "{\"title\":\"other\",\"author\":\"B\",\"texts\":[\"new text\"]}");
    api_free(s->api);
    api_response_fini(&s->response);
    s->api = mine;
    s->response = response;
}

static void test_patch_loses_no_other_write(void **state) {
    struct server *s = (struct server *)*state;
    char tag[TAG_MAX];
    (void)make_document(s, "", BODY, raced);
    take_tag(s, tag);
    s->before_submit = other_writes;
    (void)expect(s, 200, "PATCH", raced, "{\"tags\":[\"mine\"]}");
    (void)expect(s, 200, "GET", raced, NULL);
    assert_string_equal(text_at(s->json, "/metadata/author"), "B");
    assert_string_equal(text_at(s->json, "/chunks/0/text"), "new text");
    assert_string_equal(text_at(s->json, "/metadata/tags/0"), "mine");
    (void)expect(s, 200, "PATCH", raced, "{}");
    take_tag(s, tag);
    s->before_submit = other_writes;
    assert_int_equal(conditional(s, "PATCH", raced, "{\"title\":\"mine\"}", tag, NULL), 412);
    (void)expect(s, 200, "GET", raced, NULL);
    assert_string_equal(text_at(s->json, "/metadata/title"), "other");
    take_tag(s, tag);
    s->before_submit = other_writes;
    assert_int_equal(conditional(s, "DELETE", raced, NULL, tag, NULL), 412);
}

static void test_list_by_filter(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], body[200], query[600];
    (void)make_library(s, "a", "", path);
    for (int i = 0; i < 30; i++) {
        (void)snprintf(body, sizeof body, "{\"id\":\"d%02d\",\"title\":\"t\",\"texts\":[\"x\",\"y\"],\"metadata\":{\"n\":%d}}", i, i);
        (void)expect(s, 201, "POST", join(path, "/documents"), body);
    }
    /* {"field":"n","operator":"gte","value":25} */
    (void)snprintf(query, sizeof query, "%s/documents?limit=3&filter=%%7B%%22field%%22:%%22n%%22,%%22operator%%22:%%22gte%%22,%%22value%%22:25%%7D", path);
    (void)expect(s, 200, "GET", query, NULL);
    assert_int_equal(json_object_array_length(s->json), 3);
    assert_string_equal(text_at(s->json, "/0/id"), "d25");
    char link[512];
    assert_true(header(s, "Link", link, sizeof link));
    char *end = strchr(link, '>');
    assert_non_null(end);
    *end = '\0';
    (void)expect(s, 200, "GET", link + 1, NULL);
    assert_int_equal(json_object_array_length(s->json), 2);
    assert_string_equal(text_at(s->json, "/1/id"), "d29");
    assert_false(header(s, "Link", link, sizeof link));
    (void)expect(s, 200, "GET", join(path, "/documents?filter=%7B%22field%22:%22n%22,%22operator%22:%22eq%22,%22value%22:99%7D"), NULL);
    assert_int_equal(json_object_array_length(s->json), 0);
    expect_error(s, 400, "MalformedRequestError", "GET", join(path, "/documents?filter=%7B"), NULL);
    expect_error(s, 422, "ValidationError", "GET", join(path, "/documents?filter=%7B%22field%22:1%7D"), NULL);
    expect_error(s, 422, "ValidationError", "GET", join(path, "?filter=%7B%7D"), NULL);
}

static void test_batch_with_embeddings(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "a", ",\"embedding_model\":\"none\"", path);
    (void)expect(s, 200, "POST", join(path, "/documents/batch-with-embeddings"),
                 "{\"documents\":[{\"title\":\"t\",\"chunks\":[{\"text\":\"a\",\"embedding\":[1,0]}]},{\"title\":\"t\",\"texts\":[\"a\"]}]}");
    assert_int_equal(number_at(s->json, "/successful"), 1);
    assert_string_equal(text_at(s->json, "/results/1/error/error_type"), "ValidationError");
}

/* --- libraries --- */

static void take_library_tag(const struct server *s, char out[TAG_MAX]) {
    assert_true(header(s, "ETag", out, TAG_MAX));
    assert_int_equal(strlen(out), 50);
}

static void test_library_tags(void **state) {
    struct server *s = (struct server *)*state;
    char library[64], created[TAG_MAX], first[TAG_MAX], second[TAG_MAX], weak[TAG_MAX + 2], lists[2 * TAG_MAX + 16];
    (void)make_library(s, "a", "", library);
    take_library_tag(s, created);
    (void)expect(s, 200, "GET", library, NULL);
    take_library_tag(s, first);
    assert_string_equal(first, created);
    assert_int_equal(conditional(s, "GET", library, NULL, NULL, first), 304);
    take_library_tag(s, second);
    assert_string_equal(second, first);
    (void)snprintf(weak, sizeof weak, "W/%s", first);
    assert_int_equal(conditional(s, "HEAD", library, NULL, NULL, weak), 304);
    assert_int_equal(conditional(s, "GET", library, NULL, NULL, "*"), 304);
    assert_int_equal(conditional(s, "GET", library, NULL, first, NULL), 200);
    assert_int_equal(conditional(s, "GET", library, NULL, "\"another\"", NULL), 412);
    assert_string_equal(text_at(s->json, "/error_type"), "PreconditionFailedError");
    /* A document changes what is shown and what would be deleted, but not what a PATCH is about. */
    (void)expect(s, 201, "POST", join(library, "/documents"), BODY);
    assert_int_equal(conditional(s, "GET", library, NULL, NULL, first), 200);
    take_library_tag(s, second);
    assert_string_not_equal(second, first);
    assert_int_equal(conditional(s, "DELETE", library, NULL, first, NULL), 412);
    assert_int_equal(conditional(s, "PATCH", library, "{\"description\":\"mine\"}", first, NULL), 200);
    assert_string_equal(text_at(s->json, "/metadata/description"), "mine");
    take_library_tag(s, second);
    assert_int_equal(conditional(s, "GET", library, NULL, NULL, second), 304);
    /* That was a change of the definition, which who has the old tag has not seen. */
    assert_int_equal(conditional(s, "PATCH", library, "{\"description\":\"theirs\"}", first, NULL), 412);
    assert_int_equal(conditional(s, "PATCH", library, "{\"description\":\"theirs\"}", "\"0123\"", NULL), 412);
    assert_int_equal(conditional(s, "PATCH", library, "{\"description\":\"theirs\"}", "*", NULL), 200);
    take_library_tag(s, second);
    assert_int_equal(conditional(s, "PATCH", library, "{}", NULL, second), 422); /* no condition of a change */
    assert_int_equal(conditional(s, "DELETE", library, NULL, NULL, "*"), 422);
    (void)snprintf(lists, sizeof lists, "\"x\", %s , %s", first, second);
    assert_int_equal(conditional(s, "DELETE", library, NULL, lists, NULL), 204);
    assert_int_equal(conditional(s, "DELETE", library, NULL, second, NULL), 404);
    assert_int_equal(conditional(s, "PATCH", library, "{}", second, NULL), 404);
}

static char changed_library[64];

static void change_it(struct server *s) {
    struct api *mine = s->api;
    struct api_response response = s->response;
    struct status st = {0};
    s->api = NULL;
    assert_true(api_new(&s->host, &s->api, &st));
    api_response_init(&s->response);
    (void)expect(s, 200, "PATCH", changed_library, "{\"description\":\"theirs\"}");
    api_response_fini(&s->response);
    s->response = response;
    api_free(s->api);
    s->api = mine;
}

static void test_two_patch_a_library(void **state) {
    struct server *s = (struct server *)*state;
    char tag[TAG_MAX];
    (void)make_library(s, "a", "", changed_library);
    take_library_tag(s, tag);
    s->before_submit = change_it;
    (void)expect(s, 200, "PATCH", changed_library, "{\"name\":\"mine\"}");
    assert_string_equal(text_at(s->json, "/name"), "mine"); /* on top of it, and not instead */
    assert_string_equal(text_at(s->json, "/metadata/description"), "theirs");
    (void)expect(s, 200, "PATCH", changed_library, "{\"description\":null}");
    take_library_tag(s, tag);
    s->before_submit = change_it;
    assert_int_equal(conditional(s, "PATCH", changed_library, "{\"name\":\"again\"}", tag, NULL), 412);
    (void)expect(s, 200, "GET", changed_library, NULL);
    take_library_tag(s, tag);
    s->before_submit = change_it;
    assert_int_equal(conditional(s, "DELETE", changed_library, NULL, tag, NULL), 412);
    (void)expect(s, 200, "PATCH", changed_library, "{\"description\":null}");
    s->before_submit = change_it;
    expect_error(s, 409, "ConflictError", "POST", join(changed_library, "/index/rebuild"), "{\"index_type\":\"flat\"}");
    (void)expect(s, 200, "GET", changed_library, NULL);
    assert_string_equal(text_at(s->json, "/name"), "mine");
    assert_string_equal(text_at(s->json, "/metadata/index_type"), "hnsw");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_patch, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_patch_beside_an_exchange, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_patch_is_found, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_patch_of_own_vectors, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_patch_refusals, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_tags_tell_states_apart, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_reading_conditions, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_writing_conditions, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_patch_loses_no_other_write, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_list_by_filter, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_batch_with_embeddings, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_library_tags, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_two_patch_a_library, server_setup, server_teardown),
    };
    return cmocka_run_group_tests_name("api changes", tests, NULL, NULL);
}
