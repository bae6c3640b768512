/* test_api_documents.c - the calls on documents and chunks: each happy path, each refusal. */
#include "api_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_create(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], value[256];
    (void)make_library(s, "a", "", path);
    (void)expect(
        s, 201, "POST", join(path, "/documents"),
        "{\"title\":\"T\",\"texts\":[\"one\",\"two\"],\"author\":\"A\",\"source_url\":\"http://x/\",\"tags\":[\"x\",\"y\\\"\"],"
        "\"metadata\":{\"year\":1999,\"deep\":{\"a\":[]}},\"chunk_metadata\":[{\"page_number\":7,\"k\":\"v\"},null]}");
    struct json_object *d = s->json;
    assert_int_equal(strlen(text_at(d, "/id")), UUID_TEXT);
    assert_int_equal(text_at(d, "/id")[14], '7'); /* version */
    assert_string_equal(text_at(d, "/chunks/0/text"), "one");
    assert_string_equal(text_at(d, "/chunks/1/text"), "two");
    assert_int_equal(number_at(d, "/chunks/0/metadata/page_number"), 7);
    assert_string_equal(text_at(d, "/chunks/0/metadata/k"), "v");
    assert_null(at(d, "/chunks/1/metadata/page_number"));
    assert_int_equal(number_at(d, "/chunks/1/metadata/chunk_index"), 1);
    assert_string_equal(text_at(d, "/chunks/1/metadata/source_document_id"), text_at(d, "/id"));
    assert_string_equal(text_at(d, "/chunks/1/metadata/created_at"), text_at(d, "/metadata/created_at"));
    assert_string_equal(text_at(d, "/metadata/title"), "T");
    assert_string_equal(text_at(d, "/metadata/author"), "A");
    assert_string_equal(text_at(d, "/metadata/document_type"), "text");
    assert_string_equal(text_at(d, "/metadata/source_url"), "http://x/");
    assert_string_equal(text_at(d, "/metadata/tags/1"), "y\"");
    assert_int_equal(number_at(d, "/metadata/year"), 1999);
    assert_true(has(d, "/metadata/deep/a"));
    assert_false(has(d, "/chunks/0/embedding"));
    assert_true(header(s, "Quire-LSN", value, sizeof value));
    assert_true(header(s, "Location", value, sizeof value));
    assert_int_equal(s->response.embedded, 2);
    char *created = strdup(json_object_to_json_string_ext(d, JSON_C_TO_STRING_PLAIN));
    (void)expect(s, 200, "GET", value, NULL);
    assert_string_equal(json_object_to_json_string_ext(s->json, JSON_C_TO_STRING_PLAIN), created);
    (void)expect(s, 200, "GET", join("/v1/documents/", text_at(s->json, "/id")), NULL);
    assert_string_equal(json_object_to_json_string_ext(s->json, JSON_C_TO_STRING_PLAIN), created);
    free(created);
    (void)expect(s, 200, "GET", path, NULL);
    assert_int_equal(number_at(s->json, "/num_chunks"), 2);
    assert_int_equal(json_object_array_length(at(s->json, "/documents")), 1);
    assert_string_equal(text_at(s->json, "/documents/0/metadata/title"), "T");
    assert_int_equal(number_at(s->json, "/documents/0/num_chunks"), 2);
}

static void test_own_ids(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], value[256];
    (void)make_library(s, "a", "", path);
    (void)expect(s, 201, "POST", join(path, "/documents"),
                 "{\"id\":\"a/b \xc3\xa4%\",\"title\":\"T\",\"texts\":[\"one\",\"two\"],\"chunk_ids\":[\"c1\",null]}");
    assert_string_equal(text_at(s->json, "/id"), "a/b \xc3\xa4%");
    assert_string_equal(text_at(s->json, "/chunks/0/id"), "c1");
    assert_int_equal(strlen(text_at(s->json, "/chunks/1/id")), UUID_TEXT);
    assert_true(header(s, "Location", value, sizeof value));
    assert_non_null(strstr(value, "/documents/a%2Fb%20%C3%A4%25"));
    (void)expect(s, 200, "GET", value, NULL);
    expect_error(s, 404, "DocumentNotFoundError", "GET", "/v1/documents/a%2Fb%20%C3%A4%25",
                 NULL); /* only server-made ids are unique */
    expect_error(s, 409, "ConflictError", "POST", join(path, "/documents"),
                 "{\"id\":\"a/b \xc3\xa4%\",\"title\":\"T\",\"texts\":[\"x\"]}");
    expect_error(s, 409, "ConflictError", "POST", join(path, "/documents"),
                 "{\"title\":\"T\",\"texts\":[\"x\"],\"chunk_ids\":[\"c1\"]}");
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"id\":\"batch\",\"title\":\"T\",\"texts\":[\"x\"]}");
    (void)expect(s, 200, "GET", join(path, "/documents/batch"), NULL);
    assert_string_equal(text_at(s->json, "/id"), "batch");
}

static void test_chunking(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "a", "", path);
    (void)expect(
        s, 201, "POST", join(path, "/documents"),
        "{\"title\":\"T\",\"text\":\"one two three four five six seven eight\",\"chunking\":{\"max_tokens\":3,\"overlap\":0}}");
    size_t count = json_object_array_length(at(s->json, "/chunks"));
    char joined[128] = "";
    assert_true(count >= 3);
    for (size_t i = 0; i < count; i++) {
        (void)strncat(joined, text_at(json_object_array_get_idx(at(s->json, "/chunks"), i), "/text"), 40);
    }
    assert_string_equal(joined, "one two three four five six seven eight");
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"title\":\"T\",\"text\":\"short\"}");
    assert_int_equal(json_object_array_length(at(s->json, "/chunks")), 1);
    (void)expect(s, 201, "POST", join(path, "/documents"),
                 "{\"title\":\"T\",\"text\":\"a b c d e\",\"chunking\":{\"max_tokens\":1}}");
}

/* What is cut says where it stood; own metadata goes first, and filters find by section. */
static void test_chunk_places(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "a", "", path);
    (void)expect(s, 201, "POST", join(path, "/documents"),
                 "{\"id\":\"guide\",\"title\":\"T\",\"document_type\":\"markdown\",\"text\":\"Caf\u00e9.\\n\\n# Guide\\n\\n## *Install*\\n\\nRun it at once.\\n\","
                 "\"chunking\":{\"max_tokens\":12,\"overlap\":0}}");
    assert_int_equal(json_object_array_length(at(s->json, "/chunks")), 2);
    assert_false(has(s->json, "/chunks/0/metadata/section"));
    assert_int_equal(json_object_get_int(at(s->json, "/chunks/0/metadata/start")), 0);
    assert_int_equal(json_object_get_int(at(s->json, "/chunks/0/metadata/end")), 8); /* bytes, not characters */
    assert_string_equal(text_at(s->json, "/chunks/1/metadata/section"), "Guide > Install");
    assert_int_equal(json_object_get_int(at(s->json, "/chunks/1/metadata/start")), 8);
    assert_int_equal(json_object_get_int(at(s->json, "/chunks/1/metadata/end")), 47);
    (void)expect(s, 200, "GET", join(path, "/documents/guide"), NULL);
    assert_string_equal(text_at(s->json, "/chunks/1/metadata/section"), "Guide > Install");

    (void)expect(s, 200, "POST", join(path, "/search"),
                 "{\"query\":\"run\",\"filter\":{\"field\":\"section\",\"operator\":\"eq\",\"value\":\"Guide > Install\"}}");
    assert_int_equal(json_object_array_length(at(s->json, "/results")), 1);
    assert_string_equal(text_at(s->json, "/results/0/chunk/metadata/section"), "Guide > Install");

    (void)expect(s, 201, "POST", join(path, "/documents"),
                 "{\"title\":\"T\",\"document_type\":\"text/markdown\",\"text\":\"# A\\n\\nb\",\"chunk_metadata\":[{\"section\":7,\"own\":true}]}");
    assert_int_equal(json_object_get_int(at(s->json, "/chunks/0/metadata/section")), 7);
    assert_true(json_object_get_boolean(at(s->json, "/chunks/0/metadata/own")));
    assert_int_equal(json_object_get_int(at(s->json, "/chunks/0/metadata/end")), 6);

    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"title\":\"T\",\"text\":\"# A\\n\\nb\"}");
    assert_false(has(s->json, "/chunks/0/metadata/section"));
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"title\":\"T\",\"texts\":[\"# A\"]}");
    assert_false(has(s->json, "/chunks/0/metadata/start"));
}

/* Presets are limits, so an administrator may set them; small room for metadata leaves out the place. */
static void test_chunking_presets(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "a", "", path);
    s->limits.chunk_max_tokens = 2;
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"title\":\"T\",\"text\":\"a b c d\"}");
    assert_int_equal(json_object_array_length(at(s->json, "/chunks")), 2);
    s->limits.max_metadata_bytes = 20;
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"title\":\"T\",\"text\":\"a b\",\"chunk_metadata\":[{\"own\":1}]}");
    assert_false(has(s->json, "/chunks/0/metadata/start"));
    assert_int_equal(json_object_get_int(at(s->json, "/chunks/0/metadata/own")), 1);
}

static void test_refusals(void **state) {
    struct server *s = (struct server *)*state;
    static const struct {
        const char *body, *pointer;
    } rows[] = {
        {"{\"texts\":[\"a\"]}", "/title"},
        {"{\"title\":\"\",\"texts\":[\"a\"]}", "/title"},
        {"{\"title\":7,\"texts\":[\"a\"]}", "/title"},
        {"{\"title\":\"t\"}", "/texts"},
        {"{\"title\":\"t\",\"texts\":[]}", "/texts"},
        {"{\"title\":\"t\",\"texts\":\"a\"}", "/texts"},
        {"{\"title\":\"t\",\"texts\":[\"a\",\"\"]}", "/texts/1"},
        {"{\"title\":\"t\",\"texts\":[\"a\",null]}", "/texts/1"},
        {"{\"title\":\"t\",\"texts\":[\"a\",{}]}", "/texts/1"},
        {"{\"title\":\"t\",\"text\":\"\"}", "/text"},
        {"{\"title\":\"t\",\"text\":\"a\",\"texts\":[\"a\"]}", "/texts"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"chunking\":{}}", "/chunking"},
        {"{\"title\":\"t\",\"text\":\"a\",\"chunking\":{\"max_tokens\":0}}", "/chunking/max_tokens"},
        {"{\"title\":\"t\",\"text\":\"a\",\"chunking\":{\"max_tokens\":4,\"overlap\":4}}", "/chunking/overlap"},
        {"{\"title\":\"t\",\"text\":\"a\",\"chunking\":{\"by\":4}}", "/chunking/by"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"chunk_ids\":[\"x\",\"y\"]}", "/chunk_ids"},
        {"{\"title\":\"t\",\"texts\":[\"a\",\"b\"],\"chunk_ids\":[\"x\",\"x\"]}", "/chunk_ids/1"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"chunk_ids\":[\"\"]}", "/chunk_ids/0"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"chunk_ids\":[\"a\\tb\"]}", "/chunk_ids/0"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"chunk_ids\":[5]}", "/chunk_ids/0"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"chunk_metadata\":[]}", "/chunk_metadata"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"chunk_metadata\":[1]}", "/chunk_metadata/0"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"chunk_metadata\":[{\"chunk_index\":1}]}", "/chunk_metadata/0/chunk_index"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"chunk_metadata\":[{\"source_document_id\":1}]}",
         "/chunk_metadata/0/source_document_id"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"chunk_metadata\":[{\"page_number\":\"7\"}]}", "/chunk_metadata/0/page_number"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"chunk_metadata\":[{\"page_number\":-1}]}", "/chunk_metadata/0/page_number"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[]}", "/embeddings"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":7}", "/embeddings"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[null]}", "/embeddings/0"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[{}]}", "/embeddings/0"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"metadata\":{\"title\":\"x\"}}", "/metadata/title"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"metadata\":{\"tags\":[]}}", "/metadata/tags"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"metadata\":{\"created_at\":1,\"author\":1}}", "/metadata/author"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"metadata\":[]}", "/metadata"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"tags\":\"x\"}", "/tags"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"tags\":[\"x\",3]}", "/tags/1"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"tags\":[\"\"]}", "/tags/0"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"id\":\"\"}", "/id"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"id\":\"a\\u0000\"}", NULL},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"id\":\"a\\u0085\"}", "/id"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"id\":5}", "/id"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"chunks\":[]}", "/chunks"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"author\":1}", "/author"},
        {"{\"title\":\"t\",\"texts\":[\"a\"],\"document_type\":\"\"}", "/document_type"},
        {"7", ""}};
    char path[64];
    (void)make_library(s, "a", "", path);
    unsigned before = s->submits;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].pointer == NULL) {
            expect_error(s, 400, "MalformedRequestError", "POST", join(path, "/documents"), rows[i].body);
            continue;
        }
        expect_error(s, 422, "ValidationError", "POST", join(path, "/documents"), rows[i].body);
        expect_pointer(s, rows[i].pointer);
    }
    assert_int_equal(s->submits, before);
    expect_error(s, 404, "LibraryNotFoundError", "POST", "/v1/libraries/" NOWHERE "/documents",
                 "{\"title\":\"t\",\"texts\":[\"a\"]}");
    s->limits.max_chunks_per_document = 2;
    expect_error(s, 422, "ValidationError", "POST", join(path, "/documents"), "{\"title\":\"t\",\"texts\":[\"a\",\"b\",\"c\"]}");
    s->limits.max_text_bytes = 4;
    expect_error(s, 422, "ValidationError", "POST", join(path, "/documents"), "{\"title\":\"t\",\"texts\":[\"abcde\"]}");
    s->limits.max_tags = 1;
    expect_error(s, 422, "ValidationError", "POST", join(path, "/documents"),
                 "{\"title\":\"t\",\"texts\":[\"a\"],\"tags\":[\"a\",\"b\"]}");
    s->limits.max_metadata_bytes = 10;
    expect_error(s, 422, "ValidationError", "POST", join(path, "/documents"),
                 "{\"title\":\"t\",\"texts\":[\"a\"],\"metadata\":{\"abcdefgh\":1}}");
    s->limits.max_op_bytes = 64;
    expect_error(s, 413, "PayloadTooLargeError", "POST", join(path, "/documents"),
                 "{\"title\":\"a title of some length\",\"texts\":[\"a\"]}");
}

static void test_own_vectors(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], other[64];
    (void)make_library(s, "none", ",\"embedding_model\":\"none\"", path);
    expect_error(s, 422, "ValidationError", "POST", join(path, "/documents"), "{\"title\":\"t\",\"texts\":[\"a\"]}");
    expect_pointer(s, "/embeddings");
    (void)expect(s, 201, "POST", join(path, "/documents?include_embeddings=true"),
                 "{\"id\":\"d\",\"title\":\"t\",\"texts\":[\"a\",\"b\"],\"embeddings\":[[3,4,0],[0,0,-2e0]]}");
    assert_true(real_at(s->json, "/chunks/0/embedding/0") > 0.59 && real_at(s->json, "/chunks/0/embedding/0") < 0.61);
    assert_true(real_at(s->json, "/chunks/1/embedding/2") == -1.0);
    assert_int_equal(s->response.embedded, 0);
    (void)expect(s, 200, "GET", join(path, "/documents/d?include_embeddings=true&encoding=base64"), NULL);
    assert_string_equal(text_at(s->json, "/chunks/1/embedding"), "AAAAAAAAAAAAAIC/");
    expect_error(s, 400, "DimensionMismatchError", "POST", join(path, "/documents"),
                 "{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[[1,2]]}");
    expect_error(s, 400, "DimensionMismatchError", "POST", join(path, "/documents"),
                 "{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[[]]}");
    expect_error(s, 422, "ValidationError", "POST", join(path, "/documents"),
                 "{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[[0,0,0]]}");
    expect_pointer(s, "/embeddings/0");
    expect_error(s, 400, "MalformedRequestError", "POST", join(path, "/documents"),
                 "{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[[1,2,1e400]]}");
    expect_error(s, 400, "MalformedRequestError", "POST", join(path, "/documents"),
                 "{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[[1,2,1e39]]}");
    expect_error(s, 400, "MalformedRequestError", "POST", join(path, "/documents"),
                 "{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[[1,2,NaN]]}");
    /* base64: "AACAfwAAAAAAAAAA" is infinity, 0, 0 */
    expect_error(s, 400, "MalformedRequestError", "POST", join(path, "/documents"),
                 "{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[\"AACAfwAAAAAAAAAA\"]}");
    expect_error(s, 400, "MalformedRequestError", "POST", join(path, "/documents"),
                 "{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[\"AAC\"]}");
    (void)expect(s, 201, "POST", join(path, "/documents"),
                 "{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[\"AACAPwAAAAAAAAAA\"]}");
    (void)expect(s, 422, "POST", join(path, "/documents"), "{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[5]}");
    (void)expect(s, 422, "POST", join(path, "/documents"), "{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[[1,\"x\",3]]}");
    (void)expect(s, 200, "GET", path, NULL);
    assert_int_equal(number_at(s->json, "/metadata/embedding_dimension"), 3);
    (void)make_library(s, "hash", "", other);
    expect_error(s, 400, "DimensionMismatchError", "POST", join(other, "/documents"),
                 "{\"title\":\"t\",\"texts\":[\"a\"],\"embeddings\":[[1,2,3]]}");
}

static void test_with_embeddings(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "none", ",\"embedding_model\":\"none\"", path);
    const char *call_path = join(path, "/documents/with-embeddings");
    (void)expect(
        s, 201, "POST", call_path,
        "{\"title\":\"t\",\"chunks\":[{\"text\":\"a\",\"embedding\":[1,0],\"id\":\"c\",\"metadata\":{\"page_number\":2,\"x\":1}},"
        "{\"text\":\"b\",\"embedding\":\"AAAAAAAAgD8=\"}],\"tags\":[\"z\"]}");
    assert_string_equal(text_at(s->json, "/chunks/0/id"), "c");
    assert_int_equal(number_at(s->json, "/chunks/0/metadata/page_number"), 2);
    assert_int_equal(number_at(s->json, "/chunks/0/metadata/x"), 1);
    static const struct {
        const char *body, *pointer;
    } rows[] = {{"{\"title\":\"t\"}", "/chunks"},
                {"{\"title\":\"t\",\"chunks\":[]}", "/chunks"},
                {"{\"title\":\"t\",\"chunks\":[{\"text\":\"a\"}]}", "/chunks/0/embedding"},
                {"{\"title\":\"t\",\"chunks\":[{\"embedding\":[1,0]}]}", "/chunks/0/text"},
                {"{\"title\":\"t\",\"chunks\":[{\"text\":\"\",\"embedding\":[1,0]}]}", "/chunks/0/text"},
                {"{\"title\":\"t\",\"chunks\":[{\"text\":\"a\",\"embedding\":[1,0],\"y\":1}]}", "/chunks/0/y"},
                {"{\"title\":\"t\",\"chunks\":[5]}", "/chunks/0"},
                {"{\"title\":\"t\",\"chunks\":[null]}", "/chunks/0"},
                {"{\"title\":\"t\",\"chunks\":[{\"text\":\"a\",\"embedding\":[1,0],\"id\":\"q\"},{\"text\":\"a\",\"embedding\":["
                 "1,0],\"id\":\"q\"}]}",
                 "/chunks/1"},
                {"{\"title\":\"t\",\"texts\":[\"a\"],\"chunks\":[{\"text\":\"a\",\"embedding\":[1,0]}]}", "/texts"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        expect_error(s, 422, "ValidationError", "POST", call_path, rows[i].body);
        expect_pointer(s, rows[i].pointer);
    }
    expect_error(s, 400, "DimensionMismatchError", "POST", call_path,
                 "{\"title\":\"t\",\"chunks\":[{\"text\":\"a\",\"embedding\":[1,0,0]}]}");
    char fresh[64];
    (void)make_library(s, "fresh", ",\"embedding_model\":\"none\"", fresh);
    expect_error(s, 400, "DimensionMismatchError", "POST", join(fresh, "/documents/with-embeddings"),
                 "{\"title\":\"t\",\"chunks\":[{\"text\":\"a\",\"embedding\":[1,0,0]},{\"text\":\"b\",\"embedding\":[1,0]}]}");
}

static void test_put(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], value[256];
    (void)make_library(s, "a", "", path);
    (void)expect(s, 201, "PUT", join(path, "/documents/d"), "{\"title\":\"first\",\"texts\":[\"one\",\"two\"]}");
    assert_string_equal(text_at(s->json, "/id"), "d");
    assert_true(header(s, "Location", value, sizeof value));
    (void)expect(s, 200, "PUT", join(path, "/documents/d"), "{\"id\":\"d\",\"title\":\"second\",\"texts\":[\"three\"]}");
    assert_false(header(s, "Location", value, sizeof value));
    (void)expect(s, 200, "GET", join(path, "/documents/d"), NULL);
    assert_string_equal(text_at(s->json, "/metadata/title"), "second");
    assert_int_equal(json_object_array_length(at(s->json, "/chunks")), 1);
    (void)expect(s, 200, "GET", path, NULL);
    assert_int_equal(number_at(s->json, "/num_documents"), 1);
    assert_int_equal(number_at(s->json, "/num_chunks"), 1);
    expect_error(s, 422, "ValidationError", "PUT", join(path, "/documents/d"),
                 "{\"id\":\"e\",\"title\":\"t\",\"texts\":[\"x\"]}");
    expect_pointer(s, "/id");
    expect_error(s, 422, "ValidationError", "PUT", join(path, "/documents/a%0ab"), "{\"title\":\"t\",\"texts\":[\"x\"]}");
    char long_id[256];
    memset(long_id, 'x', 129);
    long_id[129] = '\0';
    expect_error(s, 422, "ValidationError", "PUT", join(join(path, "/documents/"), long_id),
                 "{\"title\":\"t\",\"texts\":[\"x\"]}");
    long_id[128] = '\0';
    (void)expect(s, 201, "PUT", join(join(path, "/documents/"), long_id), "{\"title\":\"t\",\"texts\":[\"x\"]}");
}

static void test_delete(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], value[64];
    (void)make_library(s, "a", "", path);
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"id\":\"d\",\"title\":\"t\",\"texts\":[\"x\"]}");
    (void)expect(s, 204, "DELETE", join(path, "/documents/d"), NULL);
    assert_true(header(s, "Quire-LSN", value, sizeof value));
    expect_error(s, 404, "DocumentNotFoundError", "DELETE", join(path, "/documents/d"), NULL);
    expect_error(s, 404, "DocumentNotFoundError", "GET", join(path, "/documents/d"), NULL);
    expect_error(s, 404, "LibraryNotFoundError", "DELETE", "/v1/libraries/" NOWHERE "/documents/d", NULL);
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"title\":\"t\",\"texts\":[\"x\"]}");
    char anywhere[128];
    (void)snprintf(anywhere, sizeof anywhere, "/v1/documents/%s", text_at(s->json, "/id"));
    (void)expect(s, 204, "DELETE", anywhere, NULL);
    expect_error(s, 404, "DocumentNotFoundError", "DELETE", anywhere, NULL);
    expect_error(s, 404, "DocumentNotFoundError", "GET", anywhere, NULL);
}

static void test_list(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], link[256], page[256], body[128];
    (void)make_library(s, "a", "", path);
    (void)expect(s, 200, "GET", join(path, "/documents"), NULL);
    assert_int_equal(json_object_array_length(s->json), 0);
    for (int i = 0; i < 7; i++) {
        (void)snprintf(body, sizeof body, "{\"id\":\"d%d\",\"title\":\"t%d\",\"texts\":[\"x\"]}", i, i);
        (void)expect(s, 201, "POST", join(path, "/documents"), body);
    }
    (void)expect(s, 204, "DELETE", join(path, "/documents/d3"), NULL);
    (void)snprintf(page, sizeof page, "%s/documents?limit=2", path);
    char seen[64] = "";
    unsigned pages = 0;
    for (bool more = true; more; pages++) {
        (void)expect(s, 200, "GET", page, NULL);
        for (size_t i = 0; i < json_object_array_length(s->json); i++) {
            (void)strncat(seen, text_at(json_object_array_get_idx(s->json, i), "/id"), 4);
        }
        more = header(s, "Link", link, sizeof link);
        if (more) {
            (void)snprintf(page, sizeof page, "%.*s", (int)(strchr(link, '>') - link - 1), link + 1);
        }
    }
    assert_string_equal(seen, "d0d1d2d4d5d6");
    assert_int_equal(pages, 3);
    expect_error(s, 422, "ValidationError", "GET", join(path, "/documents?cursor=zz"), NULL);
    expect_error(s, 422, "ValidationError", "GET", join(path, "/documents?cursor=ffff-1"), NULL);
    expect_error(s, 400, "MalformedRequestError", "GET", join(path, "/documents?filter=x"), NULL);
    expect_error(s, 404, "LibraryNotFoundError", "GET", "/v1/libraries/" NOWHERE "/documents", NULL);
}

static void test_batch(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], value[64];
    (void)make_library(s, "a", "", path);
    unsigned before = s->submits;
    (void)expect(s, 200, "POST", join(path, "/documents/batch"),
                 "{\"documents\":[{\"id\":\"a\",\"title\":\"t\",\"texts\":[\"one\",\"two\"]},"
                 "{\"title\":\"t\"},"
                 "{\"id\":\"a\",\"title\":\"again\",\"texts\":[\"x\"]},"
                 "{\"title\":\"t\",\"texts\":[\"x\"],\"embeddings\":[[1,2]]},"
                 "5,"
                 "{\"id\":\"b\",\"title\":\"t\",\"text\":\"three\"}]}");
    assert_int_equal(s->submits, before + 1);
    assert_int_equal(s->response.embedded, 4);
    assert_int_equal(number_at(s->json, "/total_requested"), 6);
    assert_int_equal(number_at(s->json, "/successful"), 2);
    assert_int_equal(number_at(s->json, "/failed"), 4);
    assert_int_equal(number_at(s->json, "/total_chunks_added"), 3);
    assert_true(real_at(s->json, "/processing_time_ms") > 0);
    assert_true(json_object_get_boolean(at(s->json, "/results/0/success")));
    assert_string_equal(text_at(s->json, "/results/0/document_id"), "a");
    assert_string_equal(text_at(s->json, "/results/1/error/error_type"), "ValidationError");
    assert_non_null(strstr(text_at(s->json, "/results/1/error/detail"), "/documents/1/texts"));
    assert_string_equal(text_at(s->json, "/results/2/error/error_type"), "ConflictError");
    assert_string_equal(text_at(s->json, "/results/3/error/error_type"), "DimensionMismatchError");
    assert_string_equal(text_at(s->json, "/results/4/error/error_type"), "ValidationError");
    assert_string_equal(text_at(s->json, "/results/5/document_id"), "b");
    assert_true(header(s, "Quire-LSN", value, sizeof value));
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"three\",\"k\":1}");
    assert_string_equal(text_at(s->json, "/results/0/document_id"), "b"); /* vectors went to their own documents */
    assert_true(real_at(s->json, "/results/0/distance") < 1e-3);
    expect_error(s, 422, "ValidationError", "POST", join(path, "/documents/batch"), "{}");
    expect_error(s, 422, "ValidationError", "POST", join(path, "/documents/batch"), "{\"documents\":[]}");
    expect_error(s, 422, "ValidationError", "POST", join(path, "/documents/batch"), "{\"documents\":[{}],\"x\":1}");
    expect_error(s, 404, "LibraryNotFoundError", "POST", "/v1/libraries/" NOWHERE "/documents/batch", "{\"documents\":[{}]}");
    (void)status_set(&s->submit_fails, STATUS_BUSY, "too much");
    expect_error(s, 503, "OverloadedError", "POST", join(path, "/documents/batch"),
                 "{\"documents\":[{\"title\":\"t\",\"texts\":[\"a\"]}]}");
    s->submit_fails = (struct status){0};
    before = s->submits;
    (void)expect(s, 200, "POST", join(path, "/documents/batch"),
                 "{\"documents\":[{}]}"); /* nothing right in it: nothing is sent */
    assert_int_equal(s->submits, before);
    s->limits.max_batch_documents = 1;
    expect_error(s, 422, "ValidationError", "POST", join(path, "/documents/batch"), "{\"documents\":[{},{}]}");
}

static void test_batch_with_vectors(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "none", ",\"embedding_model\":\"none\"", path);
    (void)expect(s, 200, "POST", join(path, "/documents/batch"),
                 "{\"documents\":[{\"id\":\"a\",\"title\":\"t\",\"texts\":[\"one\"],\"embeddings\":[[1,0,0]]},"
                 "{\"id\":\"b\",\"title\":\"t\",\"chunks\":[{\"text\":\"two\",\"embedding\":[0,1,0]}]},"
                 "{\"id\":\"c\",\"title\":\"t\",\"texts\":[\"one\"],\"embeddings\":[[1,0]]},"
                 "{\"id\":\"d\",\"title\":\"t\",\"texts\":[\"one\"]}]}");
    assert_int_equal(number_at(s->json, "/successful"), 2);
    assert_string_equal(text_at(s->json, "/results/2/error/error_type"), "DimensionMismatchError");
    assert_string_equal(text_at(s->json, "/results/3/error/error_type"), "ValidationError");
}

static void test_batch_delete(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], other[64], first[64], second[64], body[256];
    (void)make_library(s, "a", "", path);
    (void)make_library(s, "b", "", other);
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"id\":\"d\",\"title\":\"t\",\"texts\":[\"x\",\"y\"]}");
    (void)expect(s, 200, "POST", join(path, "/documents/batch-delete"), "{\"document_ids\":[\"d\",\"nothing\",\"\"]}");
    assert_int_equal(number_at(s->json, "/successful"), 1);
    assert_int_equal(number_at(s->json, "/failed"), 2);
    assert_int_equal(number_at(s->json, "/total_chunks_deleted"), 2);
    assert_string_equal(text_at(s->json, "/results/1/error/error_type"), "DocumentNotFoundError");
    assert_string_equal(text_at(s->json, "/results/2/error/error_type"), "DocumentNotFoundError");
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"title\":\"t\",\"texts\":[\"x\"]}");
    (void)snprintf(first, sizeof first, "%s", text_at(s->json, "/id"));
    (void)expect(s, 201, "POST", join(other, "/documents"), "{\"title\":\"t\",\"texts\":[\"x\"]}");
    (void)snprintf(second, sizeof second, "%s", text_at(s->json, "/id"));
    (void)snprintf(body, sizeof body, "{\"document_ids\":[\"%s\",\"%s\",\"" NOWHERE "\",\"text\"]}", second, first);
    (void)expect(s, 200, "DELETE", "/v1/documents/batch", body);
    assert_int_equal(number_at(s->json, "/successful"), 2);
    assert_true(json_object_get_boolean(at(s->json, "/results/0/success")));
    assert_true(json_object_get_boolean(at(s->json, "/results/1/success")));
    assert_string_equal(text_at(s->json, "/results/2/error/error_type"), "DocumentNotFoundError");
    expect_error(s, 404, "DocumentNotFoundError", "GET", join("/v1/documents/", second), NULL);
    expect_error(s, 422, "ValidationError", "DELETE", "/v1/documents/batch", "{\"document_ids\":[1,null]}");
    assert_int_equal(json_object_array_length(at(s->json, "/errors")), 2);
    expect_error(s, 404, "LibraryNotFoundError", "POST", "/v1/libraries/" NOWHERE "/documents/batch-delete",
                 "{\"document_ids\":[\"a\"]}");
}

static void test_chunks(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "a", "", path);
    (void)expect(s, 201, "POST", join(path, "/documents"),
                 "{\"id\":\"d\",\"title\":\"t\",\"texts\":[\"x\",\"y\",\"z\"],\"chunk_ids\":[\"1\",\"2\",\"3\"]}");
    (void)expect(s, 200, "POST", join(path, "/chunks/get"), "{\"ids\":[\"3\",\"none\",\"1\"]}");
    assert_int_equal(json_object_array_length(at(s->json, "/chunks")), 2);
    assert_string_equal(text_at(s->json, "/chunks/0/text"), "z");
    assert_int_equal(number_at(s->json, "/chunks/0/metadata/chunk_index"), 2);
    assert_string_equal(text_at(s->json, "/chunks/1/text"), "x");
    (void)expect(s, 200, "POST", join(path, "/chunks/get?include_embeddings=true"), "{\"ids\":[\"3\"]}");
    assert_int_equal(json_object_array_length(at(s->json, "/chunks/0/embedding")), 384);
    (void)expect(s, 200, "POST", join(path, "/chunks/delete"), "{\"ids\":[\"2\",\"none\"]}");
    assert_int_equal(number_at(s->json, "/deleted"), 1);
    (void)expect(s, 200, "GET", join(path, "/documents/d"), NULL);
    assert_int_equal(json_object_array_length(at(s->json, "/chunks")), 2);
    assert_int_equal(number_at(s->json, "/chunks/1/metadata/chunk_index"), 2);
    expect_error(s, 422, "ValidationError", "POST", join(path, "/chunks/get"), "{\"ids\":\"1\"}");
    expect_error(s, 404, "LibraryNotFoundError", "POST", "/v1/libraries/" NOWHERE "/chunks/get", "{\"ids\":[\"1\"]}");
}

static void test_chunk(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], tag[64], other[64];
    (void)make_library(s, "a", "", path);
    (void)expect(s, 201, "POST", join(path, "/documents"),
                 "{\"id\":\"d\",\"title\":\"t\",\"texts\":[\"x\",\"y\"],\"chunk_ids\":[\"get\",\"a/b\"],\"chunk_metadata\":[{\"k\":1},null]}");
    (void)expect(s, 200, "GET", join(path, "/chunks/a%2Fb"), NULL);
    assert_string_equal(text_at(s->json, "/id"), "a/b");
    assert_string_equal(text_at(s->json, "/text"), "y");
    assert_int_equal(number_at(s->json, "/metadata/chunk_index"), 1);
    assert_string_equal(text_at(s->json, "/metadata/source_document_id"), "d");
    assert_false(has(s->json, "/embedding"));
    assert_true(header(s, "ETag", tag, sizeof tag));
    (void)expect(s, 200, "GET", join(path, "/chunks/get/"), NULL); /* POST is another call */
    assert_int_equal(number_at(s->json, "/metadata/k"), 1);
    (void)expect(s, 200, "GET", join(path, "/chunks/a%2Fb?include_embeddings=true"), NULL);
    assert_int_equal(json_object_array_length(at(s->json, "/embedding")), 384);
    assert_true(header(s, "ETag", other, sizeof other));
    assert_string_not_equal(other, tag); /* it shows more */
    const struct call same = {.method = "GET", .path = join(path, "/chunks/a%2Fb"), .if_none_match = tag};
    assert_int_equal(call(s, &same), 304);
    const struct call head = {.method = "HEAD", .path = join(path, "/chunks/a%2Fb"), .if_match = "\"another\""};
    assert_int_equal(call(s, &head), 412);
    (void)expect(s, 204, "OPTIONS", join(path, "/chunks/x"), NULL);
    assert_true(header(s, "Allow", other, sizeof other));
    assert_string_equal(other, "GET, HEAD, OPTIONS");
    expect_error(s, 405, "MethodNotAllowedError", "DELETE", join(path, "/chunks/a%2Fb"), NULL);
    (void)expect(s, 200, "POST", join(path, "/chunks/delete"), "{\"ids\":[\"a/b\"]}");
    expect_error(s, 404, "ChunkNotFoundError", "GET", join(path, "/chunks/a%2Fb"), NULL);
    expect_error(s, 404, "ChunkNotFoundError", "GET", join(path, "/chunks/none"), NULL);
    expect_error(s, 404, "ChunkNotFoundError", "GET", join(path, "/chunks/%07"), NULL); /* nobody's id */
    expect_error(s, 404, "LibraryNotFoundError", "GET", "/v1/libraries/" NOWHERE "/chunks/get", NULL);
}

static void test_created_at(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "a", "", path);
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"id\":\"d\",\"title\":\"t\",\"texts\":[\"x\"],\"created_at\":\"2020-02-29T01:02:03+01:00\"}");
    assert_string_equal(text_at(s->json, "/metadata/created_at"), "2020-02-29T00:02:03.000000Z");
    assert_string_equal(text_at(s->json, "/chunks/0/metadata/created_at"), "2020-02-29T00:02:03.000000Z");
    (void)expect(s, 200, "PUT", join(path, "/documents/d"), "{\"title\":\"t\",\"texts\":[\"x\"]}");
    assert_string_not_equal(text_at(s->json, "/metadata/created_at"), "2020-02-29T00:02:03.000000Z");
    static const char *const wrong[] = {"\"yesterday\"", "7", "null", "\"2020-02-30T00:00:00Z\""};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char body[128];
        (void)snprintf(body, sizeof body, "{\"title\":\"t\",\"texts\":[\"x\"],\"created_at\":%s}", wrong[i]);
        expect_error(s, 422, "ValidationError", "POST", join(path, "/documents"), body);
        expect_pointer(s, "/created_at");
    }
    (void)expect(s, 200, "POST", join(path, "/documents/batch"),
                 "{\"documents\":[{\"id\":\"e\",\"title\":\"t\",\"texts\":[\"x\"],\"created_at\":\"1999-12-31T23:59:59.999999Z\"}]}");
    (void)expect(s, 200, "GET", join(path, "/documents/e"), NULL);
    assert_string_equal(text_at(s->json, "/metadata/created_at"), "1999-12-31T23:59:59.999999Z");
}

static void test_model_gone(void **state) {
    struct server *s = (struct server *)*state;
    char pending[64], reject[64];
    (void)make_library(s, "p", "", pending);
    (void)make_library(s, "r", ",\"on_embedding_failure\":\"reject\"", reject);
    size_t count = s->models.count;
    s->models.count = 0; /* the configuration knows no model any more */
    (void)expect(s, 201, "POST", join(pending, "/documents"), "{\"id\":\"d\",\"title\":\"t\",\"texts\":[\"x\"]}");
    expect_error(s, 503, "EmbeddingUnavailableError", "POST", join(reject, "/documents"), "{\"title\":\"t\",\"texts\":[\"x\"]}");
    expect_error(s, 503, "EmbeddingUnavailableError", "POST", join(pending, "/search"), "{\"query\":\"x\",\"mode\":\"dense\"}");
    /* the words still answer, and the reply says that they did */
    (void)expect(s, 200, "POST", join(pending, "/search"), "{\"query\":\"x\"}");
    assert_string_equal(text_at(s->json, "/index/mode"), "lexical");
    assert_int_equal(number_at(s->json, "/total_results"), 1);
    s->models.count = count;
    (void)expect(s, 200, "GET", pending, NULL);
    assert_string_not_equal(text_at(s->json, "/metadata/embedding/state"), "complete");
    assert_int_equal(number_at(s->json, "/metadata/embedding/done"), 0);
    assert_int_equal(number_at(s->json, "/metadata/embedding/total"), 1);
}

/* What a small body asks for is bounded, too. */
static void test_amplification(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    struct buf body;
    (void)make_library(s, "a", "", path);
    buf_init(&body);
    buf_put_str(&body, "{\"title\":\"t\",\"document_type\":\"markdown\",\"text\":\"# The title of all the chunks that are cut from this text goes with each");
    for (int i = 0; i < 9000; i++) {
        buf_put_str(&body, i == 0 ? "\\n" : "word ");
    }
    buf_put_str(&body, "\",\"chunking\":{\"max_tokens\":1}}");
    buf_put_u8(&body, 0);
    s->limits.max_op_bytes = 1 << 20;
    expect_error(s, 413, "PayloadTooLargeError", "POST", join(path, "/documents"), (const char *)body.data);
    buf_fini(&body);
    s->limits.worker_memory_bytes = 4 * 384 * 4; /* room for the vector of one chunk */
    expect_error(s, 413, "PayloadTooLargeError", "POST", join(path, "/documents"), "{\"title\":\"t\",\"texts\":[\"a\",\"b\"]}");
    expect_error(s, 413, "PayloadTooLargeError", "POST", join(path, "/documents/batch"),
                 "{\"documents\":[{\"title\":\"t\",\"texts\":[\"a\"]},{\"title\":\"t\",\"texts\":[\"b\"]}]}");
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"title\":\"t\",\"texts\":[\"a\"],\"chunk_ids\":[\"c\"]}");
    s->limits.worker_memory_bytes = 400; /* and now a reply may have 100 bytes */
    expect_error(s, 413, "PayloadTooLargeError", "POST", join(path, "/chunks/get"), "{\"ids\":[\"c\"]}");
    expect_error(s, 413, "PayloadTooLargeError", "POST", join(path, "/search"), "{\"query\":\"a\"}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_create, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_own_ids, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_chunking, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_chunk_places, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_chunking_presets, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_refusals, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_own_vectors, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_with_embeddings, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_put, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_delete, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_list, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_batch, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_batch_with_vectors, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_batch_delete, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_chunks, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_chunk, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_created_at, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_model_gone, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_amplification, server_setup, server_teardown),
    };
    return cmocka_run_group_tests_name("api documents", tests, NULL, NULL);
}
