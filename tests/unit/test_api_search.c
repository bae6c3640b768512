/* test_api_search.c - the search calls: by text, by vector, in batches, over several libraries, and what they refuse. */
#include "api_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *fill(struct server *s, char path[64]) {
    (void)make_library(s, "animals", "", path);
    (void)expect(s, 201, "POST", join(path, "/documents"),
                 "{\"id\":\"d1\",\"title\":\"Animals\",\"texts\":[\"the red fox runs through the forest\",\"a blue whale swims "
                 "in the ocean\","
                 "\"the hedgehog sleeps under leaves\"],\"chunk_ids\":[\"fox\",\"whale\",\"hedgehog\"],\"metadata\":{\"a\":1},"
                 "\"chunk_metadata\":[{\"page_number\":3,\"x\":\"y\"},{},{}]}");
    (void)expect(
        s, 201, "POST", join(path, "/documents"),
        "{\"id\":\"d2\",\"title\":\"Machines\",\"texts\":[\"a compiler translates programs\",\"the database stores vectors\"]}");
    return path;
}

static void test_dense(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)fill(s, path);
    (void)expect(s, 200, "POST", join(path, "/search"),
                 "{\"query\":\"the red fox runs through the forest\",\"k\":3,\"mode\":\"dense\"}");
    struct json_object *r = s->json;
    assert_int_equal(json_object_array_length(at(r, "/results")), 3);
    assert_int_equal(number_at(r, "/total_results"), 3);
    assert_string_equal(text_at(r, "/results/0/chunk/id"), "fox");
    assert_string_equal(text_at(r, "/results/0/chunk/text"), "the red fox runs through the forest");
    assert_string_equal(text_at(r, "/results/0/document_id"), "d1");
    assert_string_equal(text_at(r, "/results/0/document_title"), "Animals");
    assert_int_equal(number_at(r, "/results/0/chunk/metadata/page_number"), 3);
    assert_int_equal(number_at(r, "/results/0/chunk/metadata/chunk_index"), 0);
    assert_string_equal(text_at(r, "/results/0/chunk/metadata/source_document_id"), "d1");
    assert_string_equal(text_at(r, "/results/0/chunk/metadata/x"), "y");
    assert_true(has(r, "/results/0/chunk/metadata/created_at"));
    assert_false(has(r, "/results/0/chunk/embedding"));
    assert_true(fabs(real_at(r, "/results/0/distance")) < 1e-3);
    double before = -1;
    for (unsigned i = 0; i < 3; i++) {
        char pointer[32];
        (void)snprintf(pointer, sizeof pointer, "/results/%u", i);
        double distance = real_at(r, join(pointer, "/distance"));
        assert_true(distance >= before && distance <= 2);
        assert_true(fabs(real_at(r, join(pointer, "/score")) - (1 - distance)) < 1e-6);
        before = distance;
    }
    assert_true(real_at(r, "/query_time_ms") >= 0);
    assert_string_equal(text_at(r, "/index/mode"), "dense");
    assert_string_equal(text_at(r, "/index/model"), "hash-384");
    assert_true(real_at(r, "/index/coverage") == 1.0);
    assert_true(has(r, "/index/exact"));
    assert_int_equal(s->response.searches[SEARCH_DENSE - 1], 1);
    assert_true(s->response.candidates[SEARCH_DENSE - 1] > 0);
    assert_int_equal(s->response.embedded, 1);
    assert_true(s->response.embedding_ns > 0);
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"fox\",\"distance_threshold\":null}");
    assert_int_equal(number_at(s->json, "/total_results"), 5); /* k is 10 */
}

static void test_options(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], second[64];
    (void)fill(s, path);
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"red fox\",\"k\":2}");
    (void)snprintf(second, sizeof second, "%s", text_at(s->json, "/results/1/chunk/id"));
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"red fox\",\"k\":1,\"offset\":1}");
    assert_int_equal(number_at(s->json, "/total_results"), 1);
    assert_string_equal(text_at(s->json, "/results/0/chunk/id"), second);
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"red fox\",\"offset\":100}");
    assert_int_equal(number_at(s->json, "/total_results"), 0);
    (void)expect(s, 200, "POST", join(path, "/search"),
                 "{\"query\":\"the red fox runs through the "
                 "forest\",\"distance_threshold\":0.01,\"mode\":\"dense\",\"exact\":true,\"ef_search\":100}");
    assert_int_equal(number_at(s->json, "/total_results"), 1);
    assert_true(json_object_get_boolean(at(s->json, "/index/exact")));
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"fox\",\"include_embeddings\":true,\"k\":1}");
    assert_int_equal(json_object_array_length(at(s->json, "/results/0/chunk/embedding")), 384);
    (void)expect(s, 200, "POST", join(path, "/search?encoding=base64"),
                 "{\"query\":\"fox\",\"include_embeddings\":true,\"k\":1}");
    assert_int_equal(strlen(text_at(s->json, "/results/0/chunk/embedding")), 2048);
    (void)expect(s, 200, "POST", join(path, "/search/filtered"),
                 "{\"query\":\"fox\",\"k\":2,\"metadata_filters\":[],\"distance_threshold\":2}");
    assert_int_equal(number_at(s->json, "/total_results"), 2);
    (void)expect(s, 204, "DELETE", join(path, "/documents/d1"), NULL);
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"fox\"}");
    assert_int_equal(number_at(s->json, "/total_results"), 2);
}

static void test_by_vector(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "none", ",\"embedding_model\":\"none\"", path);
    (void)expect(s, 200, "POST", join(path, "/search/embedding"), "{\"embedding\":[1,2],\"k\":3}"); /* no vectors yet */
    assert_int_equal(number_at(s->json, "/total_results"), 0);
    (void)expect(
        s, 201, "POST", join(path, "/documents"),
        "{\"title\":\"t\",\"texts\":[\"x\",\"y\",\"-x\"],\"chunk_ids\":[\"x\",\"y\",\"z\"],\"embeddings\":[[1,0],[0,1],[-1,0]]}");
    (void)expect(s, 200, "POST", join(path, "/search/embedding"), "{\"embedding\":[5,0],\"k\":3}");
    assert_string_equal(text_at(s->json, "/results/0/chunk/id"), "x");
    assert_true(fabs(real_at(s->json, "/results/0/distance")) < 1e-6);
    assert_true(fabs(real_at(s->json, "/results/1/distance") - 1) < 1e-6);
    assert_true(fabs(real_at(s->json, "/results/2/distance") - 2) < 1e-6);
    assert_string_equal(text_at(s->json, "/index/model"), "none");
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"embedding\":\"AACgQAAAAAA=\",\"k\":3,\"distance_threshold\":1.5}");
    assert_int_equal(number_at(s->json, "/total_results"), 2);
    expect_error(s, 400, "DimensionMismatchError", "POST", join(path, "/search/embedding"), "{\"embedding\":[1,2,3]}");
    expect_error(s, 400, "DimensionMismatchError", "POST", join(path, "/search"), "{\"embedding\":[]}");
    expect_error(s, 422, "ValidationError", "POST", join(path, "/search"), "{\"embedding\":[0,0]}");
    expect_pointer(s, "/embedding");
    expect_error(s, 400, "MalformedRequestError", "POST", join(path, "/search"), "{\"embedding\":[1,1e999]}");
    /* words are searched for without a model, distances are not */
    expect_error(s, 422, "ValidationError", "POST", join(path, "/search"), "{\"query\":\"x\",\"mode\":\"dense\"}");
    expect_pointer(s, "/query");
    expect_error(s, 422, "ValidationError", "POST", join(path, "/search"), "{\"query\":\"x\",\"distance_threshold\":1}");
    expect_pointer(s, "/distance_threshold");
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"y\"}");
    assert_string_equal(text_at(s->json, "/index/mode"), "lexical");
    assert_int_equal(number_at(s->json, "/total_results"), 1);
    assert_string_equal(text_at(s->json, "/results/0/chunk/id"), "y");
    assert_true(has(s->json, "/results/0/distance") && at(s->json, "/results/0/distance") == NULL);
    /* words and a vector of the caller's: both sides */
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"y\",\"embedding\":[1,0.1]}");
    assert_string_equal(text_at(s->json, "/index/mode"), "hybrid");
    assert_int_equal(number_at(s->json, "/total_results"), 3);
    assert_string_equal(text_at(s->json, "/results/0/chunk/id"), "y"); /* second on one side, first on the other */
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"y\",\"embedding\":[0,2],\"mode\":\"lexical\"}");
    assert_int_equal(number_at(s->json, "/total_results"), 1);
    assert_true(fabs(real_at(s->json, "/results/0/distance")) < 1e-6);
}

static void test_refusals(void **state) {
    struct server *s = (struct server *)*state;
    static const struct {
        const char *call, *body, *pointer;
    } rows[] = {{"/search", "{}", "/query"},
                {"/search", "{\"query\":\"\"}", "/query"},
                {"/search", "{\"query\":5}", "/query"},
                {"/search", "{\"query\":\"a\",\"embedding\":[1],\"mode\":\"dense\"}", "/query"},
                {"/search", "{\"embedding\":[1],\"mode\":\"hybrid\"}", "/query"},
                {"/search", "{\"embedding\":[1],\"mode\":\"lexical\"}", "/query"},
                {"/search", "{\"query\":\"a\",\"k\":0}", "/k"},
                {"/search", "{\"query\":\"a\",\"k\":1001}", "/k"},
                {"/search", "{\"query\":\"a\",\"k\":\"5\"}", "/k"},
                {"/search", "{\"query\":\"a\",\"k\":5.0}", "/k"},
                {"/search", "{\"query\":\"a\",\"k\":-3}", "/k"},
                {"/search", "{\"query\":\"a\",\"k\":null}", "/k"},
                {"/search", "{\"query\":\"a\",\"offset\":995}", "/offset"},
                {"/search", "{\"query\":\"a\",\"offset\":-1}", "/offset"},
                {"/search", "{\"query\":\"a\",\"ef_search\":0}", "/ef_search"},
                {"/search", "{\"query\":\"a\",\"exact\":1}", "/exact"},
                {"/search", "{\"query\":\"a\",\"distance_threshold\":-0.1}", "/distance_threshold"},
                {"/search", "{\"query\":\"a\",\"distance_threshold\":2.1}", "/distance_threshold"},
                {"/search", "{\"query\":\"a\",\"distance_threshold\":\"x\"}", "/distance_threshold"},
                {"/search", "{\"query\":\"a\",\"include_embeddings\":\"yes\"}", "/include_embeddings"},
                {"/search", "{\"query\":\"a\",\"top_k\":5}", "/top_k"},
                {"/search", "{\"query\":\"a\",\"mode\":\"x\"}", "/mode"},
                {"/search", "{\"query\":\"a\",\"mode\":null}", "/mode"},
                {"/search", "{\"query\":\"a\",\"mmr\":0.5}", "/mmr"},
                {"/search", "{\"query\":\"a\",\"mmr\":{\"lambda\":1.5}}", "/mmr/lambda"},
                {"/search", "{\"query\":\"a\",\"mmr\":{\"lambda\":null}}", "/mmr/lambda"},
                {"/search", "{\"query\":\"a\",\"mmr\":{\"mu\":1}}", "/mmr/mu"},
                {"/search", "{\"query\":\"a\",\"group_by\":\"chunk\"}", "/group_by"},
                {"/search", "{\"query\":\"a\",\"group_by\":1}", "/group_by"},
                {"/search", "{\"query\":\"a\",\"explain\":1}", "/explain"},
                {"/search", "{\"query\":\"a\",\"explain\":null}", "/explain"},
                {"/search", "{\"query\":\"a\",\"prefix\":\"yes\"}", "/prefix"},
                {"/search", "{\"query\":\"a\",\"fusion\":\"rrf\"}", "/fusion"},
                {"/search", "{\"query\":\"a\",\"fusion\":{\"method\":\"sum\"}}", "/fusion/method"},
                {"/search", "{\"query\":\"a\",\"fusion\":{\"constant\":0}}", "/fusion/constant"},
                {"/search", "{\"query\":\"a\",\"fusion\":{\"weight\":-0.1}}", "/fusion/weight"},
                {"/search", "{\"query\":\"a\",\"fusion\":{\"method\":\"rrf\",\"weight\":0.5}}", "/fusion/weight"},
                {"/search", "{\"query\":\"a\",\"fusion\":{\"method\":\"weighted\",\"constant\":60}}", "/fusion/constant"},
                {"/search", "{\"query\":\"a\",\"bm25\":{\"k1\":-1}}", "/bm25/k1"},
                {"/search", "{\"query\":\"a\",\"bm25\":{\"b\":1.1}}", "/bm25/b"},
                {"/search", "{\"query\":\"a\",\"bm25\":{\"b\":\"x\"}}", "/bm25/b"},
                {"/search", "{\"query\":\"a\",\"min_lsn\":\"one\"}", "/min_lsn"},
                {"/search", "{\"query\":\"a\",\"libraries\":[]}", "/libraries"},
                {"/search", "{\"embedding\":true}", "/embedding"},
                {"/search/embedding", "{\"k\":1}", "/embedding"},
                {"/search/embedding", "{\"embedding\":[1],\"query\":\"a\"}", "/query"},
                {"/search/filtered", "{\"k\":1}", "/query"},
                {"/search/filtered", "{\"query\":\"a\",\"metadata_filters\":{}}", "/metadata_filters"},
                {"/search/batch", "{}", "/searches"},
                {"/search/batch", "{\"searches\":[]}", "/searches"},
                {"/search/batch", "{\"searches\":[{\"query\":\"a\"},{\"query\":\"a\",\"k\":0}]}", "/searches/1/k"},
                {"/search/batch", "{\"searches\":[7]}", "/searches/0"}};
    char path[64];
    (void)fill(s, path);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        expect_error(s, 422, "ValidationError", "POST", join(path, rows[i].call), rows[i].body);
        expect_pointer(s, rows[i].pointer);
    }
    expect_error(s, 404, "LibraryNotFoundError", "POST", "/v1/libraries/" NOWHERE "/search", "{\"query\":\"a\"}");
    s->limits.max_query_bytes = 3;
    expect_error(s, 422, "ValidationError", "POST", join(path, "/search"), "{\"query\":\"four\"}");
}

static void test_batch(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)fill(s, path);
    (void)expect(s, 200, "POST", join(path, "/search/batch"),
                 "{\"searches\":[{\"query\":\"blue whale in the ocean\",\"k\":1},{\"query\":\"the hedgehog sleeps under "
                 "leaves\",\"k\":2}]}");
    assert_int_equal(json_object_array_length(at(s->json, "/results")), 2);
    assert_string_equal(text_at(s->json, "/results/0/results/0/chunk/id"), "whale");
    assert_int_equal(number_at(s->json, "/results/0/total_results"), 1);
    assert_string_equal(text_at(s->json, "/results/1/results/0/chunk/id"), "hedgehog");
    assert_int_equal(number_at(s->json, "/results/1/total_results"), 2);
    expect_error(s, 400, "DimensionMismatchError", "POST", join(path, "/search/batch"),
                 "{\"searches\":[{\"query\":\"a\"},{\"embedding\":[1,2]}]}");
    expect_error(s, 404, "LibraryNotFoundError", "POST", "/v1/libraries/" NOWHERE "/search/batch",
                 "{\"searches\":[{\"query\":\"a\"}]}");
}

static void test_several_libraries(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], other[64], body[512];
    (void)fill(s, path);
    (void)make_library(s, "other", "", other);
    (void)expect(s, 201, "POST", join(other, "/documents"),
                 "{\"id\":\"o\",\"title\":\"O\",\"texts\":[\"the red fox rests\"],\"chunk_ids\":[\"rest\"]}");
    const char *first = path + strlen("/v1/libraries/"), *second = other + strlen("/v1/libraries/");
    (void)snprintf(body, sizeof body, "{\"libraries\":[\"%s\",\"%s\"],\"query\":\"the red fox rests\",\"k\":3}", first, second);
    (void)expect(s, 200, "POST", "/v1/search", body);
    assert_int_equal(number_at(s->json, "/total_results"), 3);
    assert_string_equal(text_at(s->json, "/results/0/chunk/id"), "rest");
    assert_string_equal(text_at(s->json, "/results/0/library_id"), second);
    assert_string_equal(text_at(s->json, "/results/1/chunk/id"), "fox");
    assert_string_equal(text_at(s->json, "/results/1/library_id"), first);
    assert_true(real_at(s->json, "/results/1/distance") <= real_at(s->json, "/results/2/distance"));
    (void)snprintf(body, sizeof body, "{\"libraries\":[\"%s\",\"%s\"],\"query\":\"the red fox rests\",\"k\":1,\"offset\":1}",
                   first, second);
    (void)expect(s, 200, "POST", "/v1/search", body);
    assert_int_equal(number_at(s->json, "/total_results"), 1);
    assert_string_equal(text_at(s->json, "/results/0/chunk/id"), "fox");
    expect_error(s, 404, "LibraryNotFoundError", "POST", "/v1/search", "{\"libraries\":[\"" NOWHERE "\"],\"query\":\"a\"}");
    expect_error(s, 404, "LibraryNotFoundError", "POST", "/v1/search", "{\"libraries\":[\"x\"],\"query\":\"a\"}");
    expect_error(s, 422, "ValidationError", "POST", "/v1/search", "{\"query\":\"a\"}");
    expect_pointer(s, "/libraries");
    expect_error(s, 422, "ValidationError", "POST", "/v1/search", "{\"libraries\":[1],\"query\":\"a\"}");
    expect_pointer(s, "/libraries/0");
    expect_error(s, 422, "ValidationError", "POST", "/v1/search", "{\"libraries\":[],\"query\":\"a\"}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_dense, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_options, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_by_vector, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_refusals, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_batch, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_several_libraries, server_setup, server_teardown),
    };
    return cmocka_run_group_tests_name("api search", tests, NULL, NULL);
}
