/* test_api_service.c - health, metrics, tasks, snapshots, models, embeddings, the description. */
#include "api_fixture.h"

#include "api/count.h"
#include "base/clock.h"
#include "base/io.h"
#include "durable/snapshot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_health(void **state) {
    struct server *s = (struct server *)*state;
    (void)expect(s, 200, "GET", "/health", NULL);
    assert_string_equal(text_at(s->json, "/status"), "healthy");
    assert_true(has(s->json, "/version") && has(s->json, "/timestamp"));
    (void)expect(s, 200, "GET", "/liveness", NULL);
    (void)expect(s, 200, "GET", "/readiness", NULL);
    assert_true(json_object_get_boolean(at(s->json, "/ready")));
    assert_string_equal(text_at(s->json, "/checks/write_path"), "ok");
    assert_string_equal(text_at(s->json, "/message"), "ready");
    s->figures->disk_full = 1;
    (void)expect(s, 200, "GET", "/readiness", NULL); /* searches go on */
    assert_string_equal(text_at(s->json, "/checks/write_path"), "disk full");
    s->figures->write_path_failed = 1;
    (void)expect(s, 503, "GET", "/readiness", NULL);
    assert_false(json_object_get_boolean(at(s->json, "/ready")));
    assert_string_equal(text_at(s->json, "/checks/write_path"), "failed");
    (void)expect(s, 200, "GET", "/health", NULL);
}

static void test_health_detailed(void **state) {
    struct server *s = (struct server *)*state;
    char path[64];
    (void)make_library(s, "seen", "", path);
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"title\":\"t\",\"texts\":[\"a\",\"b\"]}");
    s->figures->wal_lsn = 42;
    s->figures->snapshot_lsn = 40;
    s->figures->snapshot_at = clock_wall_us();
    s->control->worker[0].state = WORKER_BUSY;
    (void)expect(s, 200, "GET", "/health/detailed", NULL);
    assert_string_equal(text_at(s->json, "/status"), "healthy");
    assert_true(real_at(s->json, "/uptime_seconds") >= 0 && real_at(s->json, "/uptime_seconds") < 3600);
    assert_int_equal(number_at(s->json, "/workers/alive"), 1);
    assert_int_equal(number_at(s->json, "/workers/busy"), 1);
    assert_int_equal(number_at(s->json, "/wal/lsn"), 42);
    assert_int_equal(number_at(s->json, "/wal/published_lsn"), 2);
    assert_int_equal(number_at(s->json, "/snapshots/last_lsn"), 40);
    assert_string_equal(text_at(s->json, "/libraries/0/name"), "seen");
    assert_int_equal(number_at(s->json, "/libraries/0/num_chunks"), 2);
    assert_string_equal(text_at(s->json, "/libraries/0/embedding/state"), "complete");
}

/* A clock that is set does not make the server older or younger. */
static void test_uptime_is_no_matter_of_the_wall_clock(void **state) {
    static const int64_t days[] = {INT64_C(-86400000000), INT64_C(86400000000)};
    struct server *s = (struct server *)*state;
    for (size_t i = 0; i < sizeof days / sizeof days[0]; i++) {
        clock_set_shift(&days[i]);
        (void)expect(s, 200, "GET", "/health/detailed", NULL);
        clock_set_shift(NULL);
        assert_true(real_at(s->json, "/uptime_seconds") >= 0 && real_at(s->json, "/uptime_seconds") < 3600);
    }
}

/* The number behind this series in the text. */
static double series(const char *text, const char *name) {
    size_t len = strlen(name);
    for (const char *line = text; line != NULL; line = strchr(line, '\n') != NULL ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, name, len) == 0 && line[len] == ' ') {
            return strtod(line + len, NULL);
        }
    }
    fail_msg("no series %s", name);
    return 0;
}

/* Every line is a HELP, a TYPE or a sample of the family last announced; no family comes twice. */
static void check_exposition(const char *text) {
    char family[128] = "", seen[16384] = "";
    for (const char *line = text; *line != '\0';) {
        const char *end = strchr(line, '\n');
        assert_non_null(end);
        char name[160];
        if (strncmp(line, "# HELP ", 7) == 0) {
            assert_int_equal(sscanf(line + 7, "%126s", family), 1);
            (void)snprintf(name, sizeof name, " %s ", family);
            assert_null(strstr(seen, name));
            assert_true(strlen(seen) + strlen(name) < sizeof seen);
            (void)strcat(seen, name);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_int_equal(strncmp(line + 7, family, strlen(family)), 0);
        } else {
            assert_int_equal(strncmp(line, family, strlen(family)), 0);
            const char *value = end;
            while (value[-1] != ' ') {
                value--;
            }
            char *stop = NULL;
            (void)strtod(value, &stop);
            assert_ptr_equal(stop, end);
        }
        line = end + 1;
    }
}

static void test_metrics(void **state) {
    struct server *s = (struct server *)*state;
    char path[64], name[160];
    (void)make_library(s, "a", "", path);
    (void)expect(s, 201, "POST", join(path, "/documents"), "{\"title\":\"t\",\"texts\":[\"a\",\"bcd\"]}");
    struct control_worker *w = s->control->worker;
    struct api_response reply = {.status = 201, .route = s->response.route};
    count_reply(&reply, 3000, &w[0]);
    count_reply(&reply, 5000000000, &w[1]);
    reply = (struct api_response){.status = 201,
                                  .route = s->response.route,
                                  .searches = {0, 0, 2},
                                  .candidates = {0, 0, 70},
                                  .embedded = 3,
                                  .embedding_ns = 150000,
                                  .documents_in = 4};
    count_work(&reply, &w[1]);
    count_reply(&reply, -1, &w[1]); /* counts the work no second time, and no time */
    reply = (struct api_response){.status = 418, .route = CONTROL_ROUTES + 1};
    count_reply(&reply, 0, &w[0]);
    s->figures->commits = 17;
    s->figures->reembed_us = 1500000;
    (void)expect(s, 200, "GET", "/metrics", NULL);
    assert_string_equal(s->response.content_type, "text/plain; version=0.0.4; charset=utf-8");
    buf_put_u8(&s->response.body, 0);
    const char *text = (const char *)s->response.body.data;
    check_exposition(text);
    assert_true(series(text, "quire_http_requests_total{method=\"POST\",route=\"/v1/libraries/{id}/documents\",status=\"201\"}") == 3);
    assert_true(series(text, "quire_http_requests_total{method=\"none\",route=\"none\",status=\"0\"}") == 1);
    assert_null(strstr(text, "status=\"404\"")); /* there was none */
    assert_true(series(text, "quire_http_responses_total{class=\"2xx\"}") == 3);
    assert_true(series(text, "quire_http_responses_total{class=\"5xx\"}") == 0);
    assert_true(series(text, "quire_http_request_seconds_bucket{class=\"write\",le=\"0.0001\"}") == 1);
    assert_true(series(text, "quire_http_request_seconds_bucket{class=\"write\",le=\"2\"}") == 1);
    assert_true(series(text, "quire_http_request_seconds_bucket{class=\"write\",le=\"5\"}") == 2);
    assert_true(series(text, "quire_http_request_seconds_bucket{class=\"write\",le=\"+Inf\"}") == 2);
    assert_true(series(text, "quire_http_request_seconds_count{class=\"write\"}") == 2);
    assert_true(fabs(series(text, "quire_http_request_seconds_sum{class=\"write\"}") - 5.000003) < 1e-6);
    assert_true(series(text, "quire_http_request_seconds_count{class=\"search\"}") == 0);
    assert_true(series(text, "quire_http_request_seconds_count{class=\"other\"}") == 1);
    assert_true(series(text, "quire_searches_total{mode=\"hybrid\"}") == 2);
    assert_true(series(text, "quire_search_candidates_total{mode=\"hybrid\"}") == 70);
    assert_true(series(text, "quire_embedded_texts_total") == 3);
    assert_true(series(text, "quire_embedding_seconds_bucket{le=\"0.0002\"}") == 1);
    assert_true(series(text, "quire_streamed_documents_total") == 4);
    assert_true(series(text, "quire_commits_total") == 17);
    assert_true(series(text, "quire_reembed_seconds") == 1.5);
    assert_true(series(text, "quire_recovery_phase_seconds{phase=\"replay\"}") == 0);
    assert_true(series(text, "quire_libraries") == 1);
    (void)snprintf(name, sizeof name, "quire_library_chunks{library=\"%s\"}", path + strlen("/v1/libraries/"));
    assert_true(series(text, name) == 2);
    (void)snprintf(name, sizeof name, "quire_library_text_bytes{library=\"%s\"}", path + strlen("/v1/libraries/"));
    assert_true(series(text, name) == 4);
}

static void test_tasks(void **state) {
    struct server *s = (struct server *)*state;
    char id[UUID_TEXT + 1], path[64];
    (void)expect(s, 200, "GET", "/v1/tasks", NULL);
    assert_int_equal(json_object_array_length(s->json), 0);
    struct figures_task *t = &s->figures->task[7];
    *t = (struct figures_task){.sequence = 4,
                               .id = s->command_task,
                               .kind = TASK_SNAPSHOT,
                               .state = TASK_RUNNING,
                               .done = 3,
                               .total = 9,
                               .started_at = 1};
    s->figures->task[8] =
        (struct figures_task){.sequence = 2, .kind = TASK_REBUILD, .state = TASK_FAILED, .finished_at = 5, .error = "disk"};
    (void)expect(s, 200, "GET", "/v1/tasks", NULL);
    assert_int_equal(json_object_array_length(s->json), 2);
    assert_string_equal(text_at(s->json, "/0/kind"), "snapshot");
    assert_string_equal(text_at(s->json, "/0/state"), "running");
    assert_int_equal(number_at(s->json, "/0/done"), 3);
    assert_int_equal(number_at(s->json, "/0/total"), 9);
    assert_null(at(s->json, "/0/finished_at"));
    assert_null(at(s->json, "/0/error"));
    assert_string_equal(text_at(s->json, "/1/error"), "disk");
    uuid_format(&s->command_task, id);
    (void)snprintf(path, sizeof path, "/v1/tasks/%s", id);
    (void)expect(s, 200, "GET", path, NULL);
    assert_string_equal(text_at(s->json, "/id"), id);
    (void)expect(s, 202, "DELETE", path, NULL);
    assert_int_equal(s->commanded, API_CANCEL_TASK);
    assert_true(uuid_equal(&s->command_argument, &t->id));
    (void)status_set(&s->command_fails, STATUS_CONFLICT, "finished already");
    expect_error(s, 409, "ConflictError", "DELETE", path, NULL);
    t->sequence = 5; /* its writer died within: nothing can be said of it, and nobody waits for ever */
    expect_error(s, 404, "TaskNotFoundError", "GET", path, NULL);
    expect_error(s, 404, "TaskNotFoundError", "GET", "/v1/tasks/none", NULL);
    expect_error(s, 404, "TaskNotFoundError", "DELETE", "/v1/tasks/" NOWHERE, NULL);
    memset(s->figures->task[8].error, 0xff, sizeof s->figures->task[8].error); /* scribbled over */
    s->figures->task[8].kind = 77;
    (void)expect(s, 200, "GET", "/v1/tasks", NULL);
    assert_string_equal(text_at(s->json, "/0/kind"), "unknown");
    assert_null(at(s->json, "/0/error"));
}

static void test_snapshots(void **state) {
    struct server *s = (struct server *)*state;
    char value[128];
    (void)expect(s, 200, "GET", "/v1/snapshots", NULL);
    assert_int_equal(json_object_array_length(s->json), 0);
    (void)expect(s, 202, "POST", "/v1/snapshots", NULL);
    assert_int_equal(s->commanded, API_TAKE_SNAPSHOT);
    assert_string_equal(text_at(s->json, "/kind"), "snapshot");
    assert_true(header(s, "Location", value, sizeof value));
    (void)expect(s, 202, "POST", "/v1/snapshots", "{}");
    expect_error(s, 422, "ValidationError", "POST", "/v1/snapshots", "{\"name\":\"x\"}");
    (void)status_set(&s->command_fails, STATUS_CONFLICT, "one is being taken");
    expect_error(s, 409, "ConflictError", "POST", "/v1/snapshots", NULL);
}

static void test_one_snapshot(void **state) {
    struct server *s = (struct server *)*state;
    static const char *const none[] = {"/v1/snapshots/snapshot_20260101_000001.tar.zst", "/v1/snapshots/record", "/v1/snapshots/..%2Fx", "/v1/snapshots/%2E%2E",
                                       "/v1/snapshots/snapshot_20260101_000000.tar.zst%2F", "/v1/snapshots/snapshot_20260101_000000.tar.bz2"};
    char name[SNAPSHOT_NAME_MAX];
    char value[128];
    char path[256];
    struct status st;
    assert_true(io_replace_file(s->snapshots_fd, "snapshot_20260101_000000.tar.zst", slice_str("no archive, but a file"), 0600, &st));
    (void)expect(s, 200, "GET", "/v1/snapshots/snapshot_20260101_000000.tar.zst", NULL);
    assert_string_equal(s->response.content_type, "application/zstd");
    assert_true(s->response.file_fd >= 0);
    assert_int_equal(s->response.file_bytes, 22);
    assert_true(header(s, "Content-Disposition", value, sizeof value));
    /* as many as may be are being sent already */
    s->control->worker[0].state = WORKER_BUSY;
    s->control->worker[0].sending = 1;
    expect_error(s, 503, "OverloadedError", "GET", "/v1/snapshots/snapshot_20260101_000000.tar.zst", NULL);
    assert_int_equal(s->response.file_fd, -1);
    s->control->worker[0].sending = 0;
    /* of many workers only so many take what is no write: of their places a part stays for searches */
    places_init(&s->control->readers, 8);
    for (size_t i = 0; i < s->control->workers; i++) {
        s->control->worker[i].state = WORKER_BUSY;
    }
    s->control->worker[0].sending = 1;
    (void)expect(s, 200, "GET", "/v1/snapshots/snapshot_20260101_000000.tar.zst", NULL);
    s->control->worker[1].sending = 1;
    expect_error(s, 503, "OverloadedError", "GET", "/v1/snapshots/snapshot_20260101_000000.tar.zst", NULL);
    s->control->worker[0].sending = 0;
    s->control->worker[1].sending = 0;

    (void)expect(s, 202, "POST", "/v1/snapshots/snapshot_20260101_000000.tar.zst/verify", NULL);
    assert_int_equal(s->commanded, API_VERIFY_SNAPSHOT);
    assert_true(snapshot_name_unpack(&s->command_argument, name));
    assert_string_equal(name, "snapshot_20260101_000000.tar.zst");
    assert_string_equal(text_at(s->json, "/kind"), "verify");
    assert_true(header(s, "Location", value, sizeof value));
    expect_error(s, 422, "ValidationError", "POST", "/v1/snapshots/snapshot_20260101_000000.tar.zst/verify", "{\"deep\":true}");
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        expect_error(s, 404, "SnapshotNotFoundError", "GET", none[i], NULL);
        (void)snprintf(path, sizeof path, "%s/verify", none[i]);
        expect_error(s, 404, "SnapshotNotFoundError", "POST", path, NULL);
    }
    expect_error(s, 405, "MethodNotAllowedError", "DELETE", "/v1/snapshots/snapshot_20260101_000000.tar.zst", NULL);
}

static void test_models(void **state) {
    struct server *s = (struct server *)*state;
    (void)expect(s, 200, "GET", "/v1/models", NULL);
    assert_int_equal(json_object_array_length(s->json), s->models.count);
    assert_string_equal(text_at(s->json, "/0/name"), "hash-384");
    assert_int_equal(number_at(s->json, "/0/dimension"), 384);
    assert_int_equal(strlen(text_at(s->json, "/0/fingerprint")), 16);
    assert_true(has(s->json, "/0/where"));
}

static void test_embeddings(void **state) {
    struct server *s = (struct server *)*state;
    (void)expect(s, 200, "POST", "/v1/embeddings", "{\"input\":\"a text\",\"model\":\"hash-384\"}");
    assert_string_equal(text_at(s->json, "/object"), "list");
    assert_string_equal(text_at(s->json, "/data/0/object"), "embedding");
    assert_int_equal(json_object_array_length(at(s->json, "/data/0/embedding")), 384);
    assert_int_equal(number_at(s->json, "/usage/total_tokens"), 2);
    (void)expect(s, 200, "POST", "/v1/embeddings",
                 "{\"input\":[\"a\",\"b\"],\"model\":\"hash-384\",\"encoding_format\":\"base64\",\"user\":\"x\"}");
    assert_int_equal(number_at(s->json, "/data/1/index"), 1);
    assert_int_equal(strlen(text_at(s->json, "/data/1/embedding")), 2048);
    static const struct {
        const char *body, *pointer;
    } rows[] = {{"{\"model\":\"hash-384\"}", "/input"},
                {"{\"input\":\"a\"}", "/model"},
                {"{\"input\":\"a\",\"model\":\"x\"}", "/model"},
                {"{\"input\":\"\",\"model\":\"hash-384\"}", "/input"},
                {"{\"input\":[],\"model\":\"hash-384\"}", "/input"},
                {"{\"input\":[\"a\",3],\"model\":\"hash-384\"}", "/input/1"},
                {"{\"input\":5,\"model\":\"hash-384\"}", "/input"},
                {"{\"input\":\"a\",\"model\":\"hash-384\",\"encoding_format\":\"hex\"}", "/encoding_format"},
                {"{\"input\":\"a\",\"model\":\"hash-384\",\"user\":{}}", "/user"},
                {"{\"input\":\"a\",\"model\":\"hash-384\",\"x\":1}", "/x"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        expect_error(s, 422, "ValidationError", "POST", "/v1/embeddings", rows[i].body);
        expect_pointer(s, rows[i].pointer);
    }
}

/* The description names every route, and no other. */
static void test_openapi(void **state) {
    struct server *s = (struct server *)*state;
    (void)expect(s, 200, "GET", "/openapi.json", NULL);
    assert_memory_equal(text_at(s->json, "/openapi"), "3.1.", 4);
    struct json_object *paths = at(s->json, "/paths");
    unsigned described = 0, routes = 0;
    for (unsigned i = 1; api_route_name(i) != NULL; i++, routes++) {
        char method[16] = "";
        const char *space = strchr(api_route_name(i), ' ');
        for (size_t k = 0; api_route_name(i) + k < space; k++) {
            method[k] = (char)(api_route_name(i)[k] + ('a' - 'A'));
        }
        struct json_object *path = NULL, *operation = NULL;
        if (!json_object_object_get_ex(paths, space + 1, &path) || !json_object_object_get_ex(path, method, &operation)) {
            fail_msg("%s is not described", api_route_name(i));
        }
        assert_true(has(operation, "/summary") && has(operation, "/responses") && has(operation, "/operationId"));
    }
    json_object_object_foreach(paths, key, value) {
        (void)key;
        json_object_object_foreach(value, operation_key, operation) {
            (void)operation;
            described += strcmp(operation_key, "parameters") != 0 ? 1 : 0;
        }
    }
    assert_int_equal(described, routes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_health, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_health_detailed, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_uptime_is_no_matter_of_the_wall_clock, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_metrics, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_tasks, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_snapshots, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_one_snapshot, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_models, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_embeddings, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_openapi, server_setup, server_teardown),
    };
    return cmocka_run_group_tests_name("api service", tests, NULL, NULL);
}
