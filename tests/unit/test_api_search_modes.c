/* test_api_search_modes.c - modes, filters and what goes with them through the interface; hostile filters. */
#include "api_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *fill(struct server *s, char path[64]) {
    (void)make_library(s, "animals", "", path);
    (void)expect(
        s, 201, "POST", join(path, "/documents"),
        "{\"id\":\"d1\",\"title\":\"Animals\",\"author\":\"Ann\",\"tags\":[\"wild\",\"book\"],\"texts\":[\"the red fox runs "
        "through the "
        "forest\",\"a blue whale swims in the ocean\",\"the hedgehog sleeps under leaves\"],\"chunk_ids\":[\"fox\",\"whale\","
        "\"hedgehog\"],\"metadata\":{\"year\":1999,\"good\":true,\"deep\":{\"x\":\"y\"}},\"chunk_metadata\":[{\"page_number\":3,"
        "\"legs\":4},{\"page_number\":4},{\"legs\":4}]}");
    (void)expect(s, 201, "POST", join(path, "/documents"),
                 "{\"id\":\"d2\",\"title\":\"Machines\",\"author\":\"Bob\",\"tags\":[\"book\"],\"texts\":[\"a compiler "
                 "translates programs\",\"the "
                 "database stores large vectors of a "
                 "fox\"],\"chunk_ids\":[\"compiler\",\"database\"],\"metadata\":{\"year\":2020,\"good\":false}}");
    return path;
}

/* The ids of the hits, one after the other. */
static const char *hits(struct server *s) {
    static char out[512];
    struct json_object *results = at(s->json, "/results");
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < json_object_array_length(results); i++) {
        struct json_object *hit = json_object_array_get_idx(results, i);
        len += (size_t)snprintf(out + len, sizeof out - len, "%s%s", i == 0 ? "" : " ", text_at(hit, "/chunk/id"));
    }
    return out;
}

static bool is_null(struct json_object *json, const char *pointer) {
    return has(json, pointer) && at(json, pointer) == NULL;
}

/* --- modes --- */

static void test_modes(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)fill(s, path);
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"foxes\",\"mode\":\"lexical\"}");
    assert_string_equal(hits(s), "fox database"); /* the shorter first */
    assert_string_equal(text_at(s->json, "/index/mode"), "lexical");
    assert_true(json_object_get_boolean(at(s->json, "/index/exact")));
    assert_true(is_null(s->json, "/results/0/distance"));
    assert_true(real_at(s->json, "/results/0/score") > real_at(s->json, "/results/1/score"));
    assert_int_equal(s->response.embedded, 0); /* no vector was needed */
    assert_false(has(s->json, "/results/0/explain"));

    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"fox\",\"mode\":\"lexical\",\"distance_threshold\":2}");
    assert_true(real_at(s->json, "/results/0/distance") <= 2);
    assert_int_equal(s->response.embedded, 1);

    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"the red fox runs through the forest\"}");
    assert_string_equal(text_at(s->json, "/index/mode"), "hybrid");
    assert_int_equal(number_at(s->json, "/total_results"), 5);
    assert_string_equal(text_at(s->json, "/results/0/chunk/id"), "fox");
    assert_true(real_at(s->json, "/results/0/score") > 0.4); /* first on both sides; 1 would be all words without end */
    assert_true(real_at(s->json, "/results/0/score") < 1);
    assert_true(real_at(s->json, "/results/1/score") < 0.2);
    assert_true(fabs(real_at(s->json, "/results/0/distance")) < 1e-3);

    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"the of and\",\"k\":2}");
    assert_string_equal(text_at(s->json, "/index/mode"), "dense");
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"?!\",\"k\":2}"); /* no word at all */
    assert_int_equal(number_at(s->json, "/total_results"), 0);
    (void)expect(s, 200, "POST", join(path, "/search/filtered"), "{\"query\":\"fox\",\"k\":2}");
    assert_string_equal(text_at(s->json, "/index/mode"), "hybrid");
    assert_int_equal(number_at(s->json, "/total_results"), 2);

    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"datab\",\"mode\":\"lexical\"}");
    assert_string_equal(hits(s), "");
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"datab\",\"mode\":\"lexical\",\"prefix\":true}");
    assert_string_equal(hits(s), "database");
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"fox\",\"mode\":\"lexical\",\"bm25\":{\"k1\":0}}");
    assert_true(real_at(s->json, "/results/0/score") == real_at(s->json, "/results/1/score"));
    assert_string_equal(hits(s), "database fox"); /* equal: by id */
    (void)expect(s, 200, "POST", join(path, "/search"),
                 "{\"query\":\"fox\",\"mode\":\"lexical\",\"bm25\":{\"k1\":0},\"k\":1,\"offset\":1}");
    assert_string_equal(hits(s), "fox");
}

static void test_explain(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)fill(s, path);
    (void)expect(s, 200, "POST", join(path, "/search"),
                 "{\"query\":\"the red fox runs\",\"explain\":true,\"fusion\":{\"method\":\"rrf\"}}");
    struct json_object *r = s->json;
    assert_string_equal(text_at(r, "/results/0/chunk/id"), "fox");
    assert_int_equal(number_at(r, "/results/0/explain/dense/rank"), 1);
    assert_true(real_at(r, "/results/0/explain/dense/distance") == real_at(r, "/results/0/distance"));
    assert_int_equal(number_at(r, "/results/0/explain/lexical/rank"), 1);
    assert_true(real_at(r, "/results/0/explain/lexical/score") > 0);
    assert_string_equal(text_at(r, "/results/0/explain/fused/method"), "rrf");
    assert_true(real_at(r, "/results/0/explain/fused/score") == real_at(r, "/results/0/score"));
    assert_false(has(r, "/results/0/explain/mmr"));
    unsigned unranked = 0;
    for (unsigned i = 0; i < 5; i++) {
        char pointer[48];
        (void)snprintf(pointer, sizeof pointer, "/results/%u/explain/lexical/rank", i);
        unranked += is_null(r, pointer) ? 1 : 0;
    }
    assert_int_equal(unranked, 3); /* all but two have no word of it */

    (void)expect(s, 200, "POST", join(path, "/search"),
                 "{\"query\":\"fox\",\"explain\":true,\"fusion\":{\"weight\":0.25},\"mmr\":{\"lambda\":0.7},\"k\":3}");
    assert_string_equal(text_at(s->json, "/results/0/explain/fused/method"), "weighted");
    assert_true(has(s->json, "/results/0/explain/mmr"));
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"fox\",\"explain\":true,\"mode\":\"dense\",\"k\":1}");
    assert_true(is_null(s->json, "/results/0/explain/lexical") && is_null(s->json, "/results/0/explain/fused"));
    (void)expect(s, 200, "POST", join(path, "/search"), "{\"query\":\"fox\",\"explain\":true,\"mode\":\"lexical\",\"k\":1}");
    assert_true(is_null(s->json, "/results/0/explain/dense/rank"));
    assert_true(real_at(s->json, "/results/0/explain/dense/distance") < 1); /* explained, so measured */
    assert_true(is_null(s->json, "/results/0/explain/fused"));
}

static void test_groups_and_diversity(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)fill(s, path);
    static const char *const modes[] = {"dense", "lexical", "hybrid"};
    for (size_t i = 0; i < 3; i++) {
        char body[200];
        (void)snprintf(body, sizeof body, "{\"query\":\"fox leaves\",\"group_by\":\"document\",\"mode\":\"%s\"}", modes[i]);
        (void)expect(s, 200, "POST", join(path, "/search"), body);
        assert_int_equal(number_at(s->json, "/total_results"), 2);
        assert_string_not_equal(text_at(s->json, "/results/0/document_id"), text_at(s->json, "/results/1/document_id"));
        (void)snprintf(body, sizeof body, "{\"query\":\"fox leaves\",\"mmr\":{},\"mode\":\"%s\",\"k\":2}", modes[i]);
        (void)expect(s, 200, "POST", join(path, "/search"), body);
        assert_int_equal(number_at(s->json, "/total_results"), 2);
    }
    (void)expect(s, 200, "POST", join(path, "/search"),
                 "{\"query\":\"fox\",\"group_by\":null,\"mmr\":null,\"fusion\":null,\"bm25\":null,\"filter\":null}");
    assert_int_equal(number_at(s->json, "/total_results"), 5);
}

/* --- filters --- */

static void test_filters(void **state) {
    struct server *s = (struct server *)*state;
    static const struct {
        const char *filter, *hits; /* in the order of ids */
    } rows[] = {
        {"{}", "compiler database fox hedgehog whale"},
        {"{\"field\":\"author\",\"operator\":\"eq\",\"value\":\"Bob\"}", "compiler database"},
        {"{\"field\":\"author\",\"operator\":\"ne\",\"value\":\"Bob\"}", "fox hedgehog whale"},
        {"{\"field\":\"year\",\"operator\":\"gt\",\"value\":1999}", "compiler database"},
        {"{\"field\":\"metadata.year\",\"operator\":\"lte\",\"value\":1999.0}", "fox hedgehog whale"},
        {"{\"field\":\"legs\",\"operator\":\"eq\",\"value\":4}", "fox hedgehog"},
        {"{\"field\":\"legs\",\"operator\":\"eq\",\"value\":null}", "compiler database whale"},
        {"{\"field\":\"page_number\",\"operator\":\"in\",\"value\":[3,7]}", "fox"},
        {"{\"field\":\"tags\",\"operator\":\"eq\",\"value\":\"wild\"}", "fox hedgehog whale"},
        {"{\"field\":\"tags\",\"operator\":\"in\",\"value\":[\"book\",\"x\"]}", "compiler database fox hedgehog whale"},
        {"{\"field\":\"tags\",\"operator\":\"in\",\"value\":[]}", ""},
        {"{\"field\":\"good\",\"operator\":\"eq\",\"value\":true}", "fox hedgehog whale"},
        {"{\"field\":\"deep.x\",\"operator\":\"contains\",\"value\":\"y\"}", "fox hedgehog whale"},
        {"{\"field\":\"text\",\"operator\":\"contains\",\"value\":\"ocean\"}", "whale"},
        {"{\"field\":\"created_at\",\"operator\":\"gt\",\"value\":\"2001-01-01T00:00:00Z\"}",
         "compiler database fox hedgehog whale"},
        {"{\"and\":[]}", "compiler database fox hedgehog whale"},
        {"{\"or\":[]}", ""},
        {"{\"not\":{\"field\":\"chunk_id\",\"operator\":\"eq\",\"value\":\"fox\"}}", "compiler database hedgehog whale"},
        {"{\"or\":[{\"field\":\"chunk_index\",\"operator\":\"eq\",\"value\":2},{\"and\":[{\"field\":\"title\",\"operator\":"
         "\"eq\",\"value\":"
         "\"Machines\"},{\"not\":{\"field\":\"text\",\"operator\":\"contains\",\"value\":\"fox\"}}]}]}",
         "compiler hedgehog"},
    };
    static const char *const modes[] = {"dense", "hybrid"};
    char path[64];
    (void)fill(s, path);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t m = 0; m < 2; m++) {
            char body[1024], found[256];
            const char *ids[] = {"compiler", "database", "fox", "hedgehog", "whale"};
            (void)snprintf(body, sizeof body, "{\"query\":\"animals and machines\",\"mode\":\"%s\",\"filter\":%s}", modes[m],
                           rows[i].filter);
            (void)expect(s, 200, "POST", join(path, "/search"), body);
            (void)snprintf(found, sizeof found, " %s ", hits(s));
            size_t len = 0;
            char sorted[256] = "";
            for (size_t n = 0; n < 5; n++) {
                char word[32];
                (void)snprintf(word, sizeof word, " %s ", ids[n]);
                if (strstr(found, word) != NULL) {
                    len += (size_t)snprintf(sorted + len, sizeof sorted - len, "%s%s", len == 0 ? "" : " ", ids[n]);
                }
            }
            assert_string_equal(sorted, rows[i].hits);
        }
    }
    (void)expect(
        s, 200, "POST", join(path, "/search"),
        "{\"query\":\"fox\",\"mode\":\"lexical\",\"filter\":{\"field\":\"author\",\"operator\":\"eq\",\"value\":\"Bob\"}}");
    assert_string_equal(hits(s), "database");
    (void)expect(s, 200, "POST", join(path, "/search/filtered"),
                 "{\"query\":\"fox\",\"metadata_filters\":[{\"field\":\"author\",\"operator\":\"eq\",\"value\":\"Ann\"},{"
                 "\"field\":\"legs\","
                 "\"operator\":\"gte\",\"value\":4},{\"field\":\"page_number\",\"operator\":\"ne\",\"value\":3}]}");
    assert_string_equal(hits(s), "hedgehog");
}

static void test_filter_refusals(void **state) {
    struct server *s = (struct server *)*state;
    static const struct {
        const char *filter, *pointer;
    } rows[] = {
        {"[]", "/filter"},
        {"\"x\"", "/filter"},
        {"7", "/filter"},
        {"{\"field\":\"a\"}", "/filter/operator"},
        {"{\"field\":\"a\",\"operator\":\"eq\"}", "/filter/value"},
        {"{\"operator\":\"eq\",\"value\":1}", "/filter/field"},
        {"{\"field\":\"\",\"operator\":\"eq\",\"value\":1}", "/filter/field"},
        {"{\"field\":null,\"operator\":\"eq\",\"value\":1}", "/filter/field"},
        {"{\"field\":[1],\"operator\":\"eq\",\"value\":1}", "/filter/field"},
        {"{\"field\":\"a\",\"operator\":\"like\",\"value\":1}", "/filter/operator"},
        {"{\"field\":\"a\",\"operator\":7,\"value\":1}", "/filter/operator"},
        {"{\"field\":\"a\",\"operator\":\"eq\",\"value\":[1]}", "/filter/value"},
        {"{\"field\":\"a\",\"operator\":\"eq\",\"value\":{}}", "/filter/value"},
        {"{\"field\":\"a\",\"operator\":\"gt\",\"value\":true}", "/filter/value"},
        {"{\"field\":\"a\",\"operator\":\"lte\",\"value\":null}", "/filter/value"},
        {"{\"field\":\"a\",\"operator\":\"in\",\"value\":1}", "/filter/value"},
        {"{\"field\":\"a\",\"operator\":\"in\",\"value\":null}", "/filter/value"},
        {"{\"field\":\"a\",\"operator\":\"in\",\"value\":[1,null]}", "/filter/value/1"},
        {"{\"field\":\"a\",\"operator\":\"in\",\"value\":[[1]]}", "/filter/value/0"},
        {"{\"field\":\"a\",\"operator\":\"contains\",\"value\":1}", "/filter/value"},
        {"{\"field\":\"a\",\"operator\":\"eq\",\"value\":1,\"boost\":2}", "/filter/boost"},
        {"{\"and\":{}}", "/filter/and"},
        {"{\"and\":null}", "/filter/and"},
        {"{\"and\":[1]}", "/filter/and/0"},
        {"{\"and\":[{}]}", "/filter/and/0/field"},
        {"{\"or\":[{\"field\":\"a\",\"operator\":\"eq\",\"value\":1},null]}", "/filter/or/1"},
        {"{\"not\":[]}", "/filter/not"},
        {"{\"not\":null}", "/filter/not"},
        {"{\"not\":{\"not\":{\"not\":{\"field\":\"a\",\"operator\":\"x\",\"value\":1}}}}", "/filter/not/not/not/operator"},
        {"{\"and\":[],\"or\":[]}", "/filter/or"},
        {"{\"and\":[],\"field\":\"a\"}", "/filter/field"},
    };
    char path[64], body[512];
    (void)fill(s, path);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        (void)snprintf(body, sizeof body, "{\"query\":\"a\",\"filter\":%s}", rows[i].filter);
        expect_error(s, 422, "ValidationError", "POST", join(path, "/search"), body);
        expect_pointer(s, rows[i].pointer);
    }
    expect_error(s, 422, "ValidationError", "POST", join(path, "/search/filtered"),
                 "{\"query\":\"a\",\"metadata_filters\":[{\"and\":[]}]}");
    expect_pointer(s, "/metadata_filters/0/field"); /* a flat list of conditions */
    expect_error(s, 422, "ValidationError", "POST", join(path, "/search/filtered"), "{\"query\":\"a\",\"metadata_filters\":[3]}");
    expect_pointer(s, "/metadata_filters/0");
    expect_error(s, 422, "ValidationError", "POST", join(path, "/search/batch"),
                 "{\"searches\":[{\"query\":\"a\"},{\"query\":\"b\",\"filter\":{\"or\":[{\"field\":\"a\",\"operator\":\"==\","
                 "\"value\":1}]}}]}");
    expect_pointer(s, "/searches/1/filter/or/0/operator");
}

static void append(char **at, const char *text) {
    size_t len = strlen(text);
    memcpy(*at, text, len + 1);
    *at += len;
}

/* As deep, wide and long as it may be is answered; more is refused; neither costs much. */
static void test_hostile_filters(void **state) {
    struct server *s = (struct server *)*state;
    enum { ROOM = 1 << 18 };
    const char *leaf = "{\"field\":\"year\",\"operator\":\"gt\",\"value\":1}";
    char path[64];
    char *body = (char *)malloc(ROOM);
    assert_non_null(body);
    (void)fill(s, path);
    for (unsigned depth = 14; depth <= 17; depth++) {
        char *end = body;
        append(&end, "{\"query\":\"a fox\",\"filter\":");
        for (unsigned i = 1; i < depth; i++) {
            append(&end, i % 2 == 0 ? "{\"not\":" : "{\"and\":[");
        }
        append(&end, leaf);
        for (unsigned i = depth - 1; i >= 1; i--) {
            append(&end, i % 2 == 0 ? "}" : "]}");
        }
        append(&end, "}");
        if (depth <= 16) {
            (void)expect(s, 200, "POST", join(path, "/search"), body);
        } else {
            expect_error(s, 422, "ValidationError", "POST", join(path, "/search"), body);
        }
    }
    for (unsigned width = 998; width <= 1001; width++) {
        char *end = body;
        append(&end, "{\"query\":\"a fox\",\"filter\":{\"or\":[");
        for (unsigned i = 0; i < width; i++) {
            append(&end, i == 0 ? "" : ",");
            append(&end, leaf);
        }
        append(&end, "]}}");
        if (width <= 999) {
            (void)expect(s, 200, "POST", join(path, "/search"), body);
            assert_int_equal(number_at(s->json, "/total_results"), 5);
        } else {
            expect_error(s, 422, "ValidationError", "POST", join(path, "/search"), body);
            expect_pointer(s, "/filter/or");
        }
    }
    for (unsigned values = 10000; values <= 10001; values++) {
        char *end = body;
        append(&end, "{\"query\":\"a fox\",\"filter\":{\"field\":\"year\",\"operator\":\"in\",\"value\":[");
        for (unsigned i = 0; i < values; i++) {
            append(&end, i == 0 ? "1999" : ",7");
        }
        append(&end, "]}}");
        if (values <= 10000) {
            (void)expect(s, 200, "POST", join(path, "/search"), body);
            assert_int_equal(number_at(s->json, "/total_results"), 3);
        } else {
            expect_error(s, 422, "ValidationError", "POST", join(path, "/search"), body);
            expect_pointer(s, "/filter/value");
        }
    }
    char *end = body; /* fields that are no fields */
    append(
        &end,
        "{\"query\":\"a "
        "fox\",\"filter\":{\"or\":[{\"field\":\"....\",\"operator\":\"eq\",\"value\":\"\"},{\"field\":\"a.\\u0001\",\"operator\":"
        "\"contains\",\"value\":\"\"},{\"field\":\"metadata\",\"operator\":\"gt\",\"value\":-1e308},{\"field\":\"metadata.\","
        "\"operator\":"
        "\"lt\",\"value\":\"9999-12-31T23:59:60Z\"},{\"field\":\"created_at\",\"operator\":\"eq\",\"value\":\"no time\"}]}}");
    (void)expect(s, 200, "POST", join(path, "/search"), body);
    assert_int_equal(number_at(s->json, "/total_results"), 0);
    free(body);
}

/* --- several --- */

static void test_batch_of_modes(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)fill(s, path);
    (void)expect(s, 200, "POST", join(path, "/search/batch"),
                 "{\"searches\":[{\"query\":\"fox\",\"mode\":\"lexical\"},{\"query\":\"blue whale swims in the "
                 "ocean\",\"mode\":\"dense\",\"k\":1},"
                 "{\"query\":\"hedgehog\",\"k\":2,\"explain\":true},{\"query\":\"compiler\",\"mode\":\"lexical\",\"explain\":"
                 "true,\"filter\":{"
                 "\"field\":\"author\",\"operator\":\"eq\",\"value\":\"Bob\"}}]}");
    assert_string_equal(text_at(s->json, "/results/0/index/mode"), "lexical");
    assert_int_equal(number_at(s->json, "/results/0/total_results"), 2);
    assert_string_equal(text_at(s->json, "/results/1/results/0/chunk/id"), "whale");
    assert_string_equal(text_at(s->json, "/results/2/index/mode"), "hybrid");
    assert_string_equal(text_at(s->json, "/results/2/results/0/chunk/id"), "hedgehog");
    assert_int_equal(number_at(s->json, "/results/2/results/0/explain/lexical/rank"), 1);
    assert_string_equal(text_at(s->json, "/results/3/results/0/chunk/id"), "compiler");
    assert_int_equal(s->response.embedded, 3); /* the first goes by words alone */
}

static void test_libraries_of_modes(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], other[64], bare[64], body[600];
    (void)fill(s, path);
    (void)make_library(s, "other", "", other);
    (void)make_library(s, "bare", ",\"embedding_model\":\"none\"", bare);
    (void)expect(s, 201, "POST", join(other, "/documents"),
                 "{\"id\":\"o\",\"title\":\"O\",\"texts\":[\"the red fox rests\"],\"chunk_ids\":[\"rest\"]}");
    const char *first = path + strlen("/v1/libraries/"), *second = other + strlen("/v1/libraries/"),
               *third = bare + strlen("/v1/libraries/");
    (void)snprintf(body, sizeof body, "{\"libraries\":[\"%s\",\"%s\"],\"query\":\"red fox\",\"mode\":\"lexical\"}", first,
                   second);
    (void)expect(s, 200, "POST", "/v1/search", body);
    assert_int_equal(number_at(s->json, "/total_results"), 3);
    for (unsigned i = 1; i < 3; i++) {
        char a[32], b[32];
        (void)snprintf(a, sizeof a, "/results/%u/score", i - 1);
        (void)snprintf(b, sizeof b, "/results/%u/score", i);
        assert_true(real_at(s->json, a) >= real_at(s->json, b));
    }
    /* fused: the one that has all the words is first, though each is the best of its library */
    (void)snprintf(body, sizeof body, "{\"libraries\":[\"%s\",\"%s\"],\"query\":\"the red fox rests\",\"k\":2}", first, second);
    (void)expect(s, 200, "POST", "/v1/search", body);
    assert_string_equal(text_at(s->json, "/index/mode"), "hybrid");
    assert_string_equal(hits(s), "rest fox");
    assert_true(real_at(s->json, "/results/0/score") > real_at(s->json, "/results/1/score"));
    /* one goes by words alone: its hits count as if the other side had none */
    (void)expect(s, 201, "POST", join(bare, "/documents"),
                 "{\"id\":\"b\",\"title\":\"B\",\"texts\":[\"the red fox rests and "
                 "rests\"],\"chunk_ids\":[\"bare\"],\"embeddings\":[[1,2]]}");
    (void)snprintf(body, sizeof body,
                   "{\"libraries\":[\"%s\",\"%s\"],\"query\":\"the red fox rests\",\"k\":3,\"group_by\":\"document\"}", second,
                   third);
    (void)expect(s, 200, "POST", "/v1/search", body);
    assert_string_equal(text_at(s->json, "/index/mode"), "hybrid");
    assert_string_equal(hits(s), "rest bare");
    assert_true(is_null(s->json, "/results/1/distance"));
    assert_true(is_null(s->json, "/index/model"));
    (void)snprintf(body, sizeof body, "{\"libraries\":[\"%s\"],\"query\":\"the red fox rests\"}", third);
    (void)expect(s, 200, "POST", "/v1/search", body);
    assert_string_equal(text_at(s->json, "/index/mode"), "lexical");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_modes, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_explain, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_groups_and_diversity, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_filters, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_filter_refusals, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_hostile_filters, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_batch_of_modes, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_libraries_of_modes, server_setup, server_teardown),
    };
    return cmocka_run_group_tests_name("api search modes", tests, NULL, NULL);
}
