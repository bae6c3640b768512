/* test_api_libraries.c - the calls on libraries: each happy path, each refusal. */
#include "api_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_library(struct json_object *library, const char *prefix) {
    static const char *const members[] = {"/id",
                                          "/name",
                                          "/num_documents",
                                          "/num_chunks",
                                          "/metadata/description",
                                          "/metadata/created_at",
                                          "/metadata/index_type",
                                          "/metadata/embedding_dimension",
                                          "/metadata/embedding_model",
                                          "/metadata/quantization/strategy",
                                          "/metadata/quantization/bits",
                                          "/metadata/quantization/rerank_top_k",
                                          "/metadata/embedding/state",
                                          "/metadata/embedding/done",
                                          "/metadata/embedding/total",
                                          "/metadata/custom"};
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        assert_true(has(library, join(prefix, members[i])));
    }
}

static void test_create(void **state) {
    struct server *s = (struct server *)*state;
    char value[256];
    (void)expect(s, 201, "POST", "/v1/libraries",
                 "{\"name\":\"B\xc3\xbc"
                 "cher\"}");
    check_library(s->json, "");
    assert_string_equal(text_at(s->json, "/name"), "B\xc3\xbc"
                                                   "cher");
    assert_int_equal(number_at(s->json, "/num_documents"), 0);
    assert_int_equal(number_at(s->json, "/num_chunks"), 0);
    assert_int_equal(json_object_array_length(at(s->json, "/documents")), 0);
    assert_string_equal(text_at(s->json, "/metadata/index_type"), "hnsw");
    assert_int_equal(number_at(s->json, "/metadata/embedding_dimension"), 384);
    assert_string_equal(text_at(s->json, "/metadata/embedding_model"), "hash-384");
    assert_string_equal(text_at(s->json, "/metadata/quantization/strategy"), "hybrid");
    assert_int_equal(number_at(s->json, "/metadata/quantization/bits"), 8);
    assert_string_equal(text_at(s->json, "/metadata/language"), "english");
    assert_null(at(s->json, "/metadata/description"));
    assert_string_equal(text_at(s->json, "/metadata/embedding/state"), "complete");
    assert_true(header(s, "Location", value, sizeof value));
    assert_string_equal(value, join("/v1/libraries/", text_at(s->json, "/id")));
    assert_true(header(s, "Quire-LSN", value, sizeof value));
    assert_string_equal(value, "1");
}

static void test_create_with_everything(void **state) {
    struct server *s = (struct server *)*state;
    (void)expect(s, 201, "POST", "/v1/libraries",
                 "{\"name\":\"all\",\"description\":\"two\\nlines\",\"index_type\":\"brute_force\",\"embedding_model\":\"none\","
                 "\"language\":\"de\","
                 "\"metadata\":{\"a\":[1,2.50,{\"b\":null}],\"c/"
                 "d\":\"\\u00e4\"},\"quantization\":{\"strategy\":\"none\",\"bits\":8,\"rerank_top_k\":7},"
                 "\"index_config\":{\"M\":8,\"ef_construction\":50,\"ef_search\":20},\"on_embedding_failure\":\"reject\","
                 "\"snapshot_vectors\":true}");
    assert_string_equal(text_at(s->json, "/metadata/description"), "two\nlines");
    assert_string_equal(text_at(s->json, "/metadata/index_type"), "flat");
    assert_string_equal(text_at(s->json, "/metadata/embedding_model"), "none");
    assert_string_equal(text_at(s->json, "/metadata/language"), "german");
    assert_null(at(s->json, "/metadata/embedding_dimension"));
    assert_string_equal(text_at(s->json, "/metadata/quantization/strategy"), "none");
    assert_int_equal(number_at(s->json, "/metadata/quantization/rerank_top_k"), 7);
    assert_string_equal(
        json_object_to_json_string_ext(at(s->json, "/metadata/custom"), JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE),
        "{\"a\":[1,2.50,{\"b\":null}],\"c/d\":\"\xc3\xa4\"}");
    char path[64];
    (void)snprintf(path, sizeof path, "/v1/libraries/%s", text_at(s->json, "/id"));
    (void)expect(s, 200, "GET", join(path, "/statistics"), NULL);
    assert_int_equal(number_at(s->json, "/index_stats/index_config/M"), 8);
    assert_int_equal(number_at(s->json, "/index_stats/index_config/ef_construction"), 50);
    assert_int_equal(number_at(s->json, "/index_stats/index_config/ef_search"), 20);
    assert_int_equal(number_at(s->json, "/index_stats/lexical/tokens"), 0);
    (void)expect(s, 201, "POST", join(path, "/documents"),
                 "{\"title\":\"t\",\"texts\":[\"die roten Katzen und der rote Katze\"],\"embeddings\":[[1,0]]}");
    (void)expect(s, 200, "GET", join(path, "/statistics"), NULL);
    assert_int_equal(number_at(s->json, "/index_stats/lexical/tokens"), 4); /* the stop words of German left out */
    assert_int_equal(number_at(s->json, "/index_stats/lexical/terms"), 2);  /* and its endings */
    assert_int_equal(number_at(s->json, "/index_stats/lexical/postings"), 2);
    assert_true(number_at(s->json, "/index_stats/columns/bytes") > 0);
}

static void test_create_refusals(void **state) {
    struct server *s = (struct server *)*state;
    static const struct {
        const char *body, *pointer;
    } rows[] = {{"{}", "/name"},
                {"{\"name\":null}", "/name"},
                {"{\"name\":\"\"}", "/name"},
                {"{\"name\":1}", "/name"},
                {"{\"name\":\"a\\u0007\"}", "/name"},
                {"{\"name\":\"a\\nb\"}", "/name"},
                {"{\"name\":\"a\",\"nmae\":\"b\"}", "/nmae"},
                {"{\"name\":\"a\",\"x/y~z\":1}", "/x~1y~0z"},
                {"{\"name\":\"a\",\"index_type\":\"ivf\"}", "/index_type"},
                {"{\"name\":\"a\",\"index_type\":1}", "/index_type"},
                {"{\"name\":\"a\",\"index_type\":null}", "/index_type"},
                {"{\"name\":\"a\",\"quantization\":{\"bits\":null}}", "/quantization/bits"},
                {"{\"name\":\"a\",\"embedding_model\":\"gpt\"}", "/embedding_model"},
                {"{\"name\":\"a\",\"metadata\":[]}", "/metadata"},
                {"{\"name\":\"a\",\"metadata\":\"x\"}", "/metadata"},
                {"{\"name\":\"a\",\"description\":{}}", "/description"},
                {"{\"name\":\"a\",\"quantization\":{\"strategy\":\"binary\"}}", "/quantization/strategy"},
                {"{\"name\":\"a\",\"quantization\":{\"bits\":2}}", "/quantization/bits"},
                {"{\"name\":\"a\",\"quantization\":{\"bits\":6}}", "/quantization/bits"},
                {"{\"name\":\"a\",\"language\":\"klingon\"}", "/language"},
                {"{\"name\":\"a\",\"language\":7}", "/language"},
                {"{\"name\":\"a\",\"quantization\":{\"rerank_top_k\":0}}", "/quantization/rerank_top_k"},
                {"{\"name\":\"a\",\"quantization\":{\"x\":0}}", "/quantization/x"},
                {"{\"name\":\"a\",\"quantization\":8}", "/quantization"},
                {"{\"name\":\"a\",\"index_config\":{\"M\":3}}", "/index_config/M"},
                {"{\"name\":\"a\",\"index_config\":{\"M\":97}}", "/index_config/M"},
                {"{\"name\":\"a\",\"index_config\":{\"M\":16.5}}", "/index_config/M"},
                {"{\"name\":\"a\",\"index_config\":{\"m\":16}}", "/index_config/m"},
                {"{\"name\":\"a\",\"index_config\":{\"ef_search\":1000000}}", "/index_config/ef_search"},
                {"{\"name\":\"a\",\"index_config\":{\"ef_construction\":-1}}", "/index_config/ef_construction"},
                {"{\"name\":\"a\",\"on_embedding_failure\":\"ignore\"}", "/on_embedding_failure"},
                {"{\"name\":\"a\",\"snapshot_vectors\":\"yes\"}", "/snapshot_vectors"},
                {"{\"name\":\"a\",\"language\":\"0123456789012345678901234567890123456789\"}", "/language"},
                {"[]", ""},
                {"\"a\"", ""},
                {"null", ""}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        expect_error(s, 422, "ValidationError", "POST", "/v1/libraries", rows[i].body);
        expect_pointer(s, rows[i].pointer);
    }
    assert_int_equal(s->submits, 0);
    char long_name[600];
    memset(long_name, 'n', sizeof long_name);
    (void)memcpy(long_name, "{\"name\":\"", 9);
    (void)snprintf(long_name + 9 + 256, 16, "\"}"); /* 256 bytes of name */
    expect_error(s, 422, "ValidationError", "POST", "/v1/libraries", long_name);
    (void)snprintf(long_name + 9 + 255, 16, "\"}");
    (void)expect(s, 201, "POST", "/v1/libraries", long_name);
}

static void test_many_problems(void **state) {
    struct server *s = (struct server *)*state;
    struct buf body;
    buf_init(&body);
    buf_put_str(&body, "{\"name\":1");
    for (int i = 0; i < 100; i++) {
        buf_printf(&body, ",\"m%d\":1", i);
    }
    buf_put_str(&body, "}");
    buf_put_u8(&body, 0);
    expect_error(s, 422, "ValidationError", "POST", "/v1/libraries", (const char *)body.data);
    assert_int_equal(json_object_array_length(at(s->json, "/errors")), 20);
    assert_non_null(strstr(text_at(s->json, "/detail"), "100 more"));
    buf_fini(&body);
}

static void test_list(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], link[256], previous[64] = "";
    (void)expect(s, 200, "GET", "/v1/libraries", NULL);
    assert_int_equal(json_object_array_length(s->json), 0);
    for (int i = 0; i < 5; i++) {
        (void)make_library(s, "a", "", path);
    }
    (void)expect(s, 200, "GET", "/v1/libraries", NULL);
    assert_int_equal(json_object_array_length(s->json), 5);
    check_library(s->json, "/4");
    assert_false(has(s->json, "/0/documents"));
    assert_false(header(s, "Link", link, sizeof link));
    const char *next = "/v1/libraries?limit=2";
    char page[256];
    unsigned seen = 0, pages = 0;
    for (; next != NULL; pages++) {
        (void)expect(s, 200, "GET", next, NULL);
        for (size_t i = 0; i < json_object_array_length(s->json); i++, seen++) {
            const char *id = text_at(json_object_array_get_idx(s->json, i), "/id");
            assert_true(strcmp(previous, id) < 0);
            (void)snprintf(previous, sizeof previous, "%s", id);
        }
        next = NULL;
        if (header(s, "Link", link, sizeof link)) {
            assert_non_null(strstr(link, ">; rel=\"next\""));
            (void)snprintf(page, sizeof page, "%.*s", (int)(strchr(link, '>') - link - 1), link + 1);
            next = page;
        }
    }
    assert_int_equal(seen, 5);
    assert_int_equal(pages, 3);
}

static void test_patch(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "before", ",\"description\":\"d\",\"metadata\":{\"a\":1}", path);
    (void)expect(s, 200, "PATCH", path, "{\"name\":\"after\"}");
    assert_string_equal(text_at(s->json, "/name"), "after");
    assert_string_equal(text_at(s->json, "/metadata/description"), "d");
    assert_int_equal(number_at(s->json, "/metadata/custom/a"), 1);
    (void)expect(s, 200, "PATCH", path, "{\"description\":null,\"metadata\":{\"b\":2},\"index_config\":{\"ef_search\":33}}");
    assert_null(at(s->json, "/metadata/description"));
    assert_false(has(s->json, "/metadata/custom/a"));
    assert_int_equal(number_at(s->json, "/metadata/custom/b"), 2);
    (void)expect(s, 200, "GET", path, NULL);
    assert_string_equal(text_at(s->json, "/name"), "after");
    (void)expect(s, 200, "GET", join(path, "/index/statistics"), NULL);
    assert_int_equal(number_at(s->json, "/index_config/ef_search"), 33);
    assert_int_equal(number_at(s->json, "/index_config/M"), 16);
    expect_error(s, 422, "ValidationError", "PATCH", path, "{\"index_type\":\"flat\"}");
    expect_pointer(s, "/index_type");
    expect_error(s, 422, "ValidationError", "PATCH", path, "{\"name\":null}");
    expect_error(s, 422, "ValidationError", "PATCH", path, "{\"name\":\"\"}");
    expect_error(s, 404, "LibraryNotFoundError", "PATCH", "/v1/libraries/" NOWHERE, "{\"name\":\"x\"}");
    expect_error(s, 400, "MalformedRequestError", "PATCH", path, "{\"name\":");
}

static void test_delete(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], value[64];
    (void)make_library(s, "a", "", path);
    (void)expect(s, 204, "DELETE", path, NULL);
    assert_true(header(s, "Quire-LSN", value, sizeof value));
    expect_error(s, 404, "LibraryNotFoundError", "GET", path, NULL);
    expect_error(s, 404, "LibraryNotFoundError", "DELETE", path, NULL);
    expect_error(s, 404, "LibraryNotFoundError", "GET", join(path, "/statistics"), NULL);
    expect_error(s, 404, "LibraryNotFoundError", "GET", join(path, "/documents"), NULL);
    (void)expect(s, 200, "GET", "/v1/libraries", NULL);
    assert_int_equal(json_object_array_length(s->json), 0);
}

static void test_statistics(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "counted", "", path);
    (void)expect(s, 201, "POST", join(path, "/documents"),
                 "{\"id\":\"d1\",\"title\":\"t\",\"texts\":[\"one\",\"two\",\"three\"]}");
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"id\":\"d2\",\"title\":\"t\",\"texts\":[\"four\"]}");
    (void)expect(s, 204, "DELETE", join(path, "/documents/d2"), NULL);
    (void)expect(s, 200, "GET", join(path, "/statistics"), NULL);
    assert_string_equal(text_at(s->json, "/library_id"), path + strlen("/v1/libraries/"));
    assert_string_equal(text_at(s->json, "/library_name"), "counted");
    assert_int_equal(number_at(s->json, "/num_documents"), 1);
    assert_int_equal(number_at(s->json, "/num_chunks"), 3);
    assert_int_equal(number_at(s->json, "/embedding_dimension"), 384);
    assert_string_equal(text_at(s->json, "/index_type"), "hnsw");
    assert_int_equal(number_at(s->json, "/vector_store_stats/vectors"), 3);
    assert_int_equal(number_at(s->json, "/vector_store_stats/deleted"), 1);
    assert_int_equal(number_at(s->json, "/vector_store_stats/bytes"), 4 * 384 * 4);
    assert_int_equal(number_at(s->json, "/index_stats/linked") + number_at(s->json, "/index_stats/tail"), 3);
    assert_int_equal(number_at(s->json, "/index_stats/tail"), 3); /* nobody links here */
    (void)expect(s, 200, "GET", join(path, "/index/statistics"), NULL);
    assert_int_equal(number_at(s->json, "/tail"), 3);
    assert_true(number_at(s->json, "/bytes") > 0);
    assert_true(has(s->json, "/mean_degree"));
    struct uuid id;
    struct status st;
    assert_true(uuid_parse(slice_str(path + strlen("/v1/libraries/")), &id));
    struct library *library = catalog_acquire(s->catalog, &id);
    struct backlog_linker *linker = backlog_linker_new();
    assert_non_null(library);
    assert_non_null(linker);
    for (size_t done = 1; done > 0;) {
        assert_true(backlog_link_some(library, linker, 16, &done, &st));
    }
    backlog_linker_free(linker);
    catalog_release(s->catalog, library);
    (void)expect(s, 200, "GET", join(path, "/statistics"), NULL);
    assert_int_equal(number_at(s->json, "/index_stats/linked"), 3);
    assert_int_equal(number_at(s->json, "/index_stats/tail"), 0);
    assert_true(number_at(s->json, "/index_stats/levels") >= 1);
    char flat[64];
    (void)make_library(s, "flat", ",\"index_type\":\"flat\"", flat);
    (void)expect(s, 200, "GET", join(flat, "/index/statistics"), NULL);
    assert_string_equal(text_at(s->json, "/index_type"), "flat");
    assert_int_equal(number_at(s->json, "/bytes"), 0);
}

static void test_optimize(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], id[UUID_TEXT + 1], value[128];
    (void)make_library(s, "a", "", path);
    unsigned before = s->submits;
    (void)expect(s, 202, "POST", join(path, "/index/optimize"), NULL);
    assert_int_equal(s->submits, before);
    assert_int_equal(s->commanded, API_OPTIMIZE_INDEX);
    uuid_format(&s->command_argument, id);
    assert_string_equal(id, path + strlen("/v1/libraries/"));
    uuid_format(&s->command_task, id);
    assert_string_equal(text_at(s->json, "/kind"), "optimize");
    assert_true(header(s, "Location", value, sizeof value));
    assert_string_equal(value, join("/v1/tasks/", id));
    (void)expect(s, 202, "POST", join(path, "/index/optimize"), "{}");
    (void)expect(s, 422, "POST", join(path, "/index/optimize"), "{\"now\":true}");
    (void)expect(s, 404, "POST", "/v1/libraries/01890000-0000-7000-8000-000000000000/index/optimize", NULL);
}

static void test_rebuild(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], value[128], id[UUID_TEXT + 1];
    (void)make_library(s, "a", "", path);
    unsigned before = s->submits;
    (void)expect(s, 202, "POST", join(path, "/index/rebuild"), NULL);
    assert_int_equal(s->submits, before); /* nothing changes, so nothing is written */
    assert_int_equal(s->commanded, API_REBUILD_INDEX);
    uuid_format(&s->command_argument, id);
    assert_string_equal(id, path + strlen("/v1/libraries/"));
    uuid_format(&s->command_task, id);
    assert_string_equal(text_at(s->json, "/id"), id);
    assert_string_equal(text_at(s->json, "/kind"), "rebuild");
    assert_string_equal(text_at(s->json, "/state"), "pending");
    assert_true(header(s, "Location", value, sizeof value));
    assert_string_equal(value, join("/v1/tasks/", id));
    (void)expect(s, 202, "POST", join(path, "/index/rebuild"), "{\"index_type\":\"hnsw\",\"index_config\":{\"M\":8}}");
    assert_int_equal(s->submits, before + 1);
    assert_true(header(s, "Quire-LSN", value, sizeof value));
    expect_error(s, 422, "ValidationError", "POST", join(path, "/index/rebuild"), "{\"index_type\":\"x\"}");
    expect_error(s, 422, "ValidationError", "POST", join(path, "/index/rebuild"), "{\"M\":8}");
    expect_error(s, 400, "MalformedRequestError", "POST", join(path, "/index/rebuild"), "{");
    expect_error(s, 404, "LibraryNotFoundError", "POST", "/v1/libraries/" NOWHERE "/index/rebuild", "{}");
    (void)status_set(&s->command_fails, STATUS_CONFLICT, "under way");
    expect_error(s, 409, "ConflictError", "POST", join(path, "/index/rebuild"), NULL);
    s->command_fails = (struct status){0};
    struct figures_task *t = &s->figures->task[3];
    *t = (struct figures_task){.sequence = 2, .kind = TASK_REBUILD, .state = TASK_RUNNING};
    assert_true(uuid_parse(slice_str(path + strlen("/v1/libraries/")), &t->library));
    before = s->submits;
    expect_error(s, 409, "ConflictError", "POST", join(path, "/index/rebuild"), "{\"index_config\":{\"M\":9}}");
    assert_int_equal(s->submits, before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_create, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_create_with_everything, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_create_refusals, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_many_problems, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_list, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_patch, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_delete, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_statistics, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_optimize, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_rebuild, server_setup, server_teardown),
    };
    return cmocka_run_group_tests_name("api libraries", tests, NULL, NULL);
}
