/* api_fixture.c - see api_fixture.h. */
#include "api_fixture.h"

#include "api_schema.h"

#include "base/clock.h"
#include "base/io.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIXTURE_LIBRARIES 64
#define FIXTURE_WORKERS 12

/* --- the host --- */

static bool made_for_it(struct server *s, const struct op *op, const struct api_submission *submission, struct status *st) {
    bool carried = submission->model != 0 && op->type == OP_DOCUMENT_PUT && op->as.document.vector_dimension != 0;
    return !carried || catalog_check_made_by(s->catalog, &op->library, op->as.document.vector_dimension, submission->model, st);
}

static void apply_one(struct server *s, const struct api_submission *submission, struct api_op_result *ret) {
    struct op op;
    struct op_effect effect = {0}, foreseen = {0};
    *ret = (struct api_op_result){0};
    if (s->op_refused.code != STATUS_OK) {
        ret->status = s->op_refused;
        return;
    }
    if (!op_decode(submission->op, &s->limits, &op, &ret->status) ||
        !catalog_check_version(s->catalog, &op, submission->version, &ret->status) ||
        !made_for_it(s, &op, submission, &ret->status) || !catalog_check(s->catalog, &op, &ret->status) ||
        !catalog_reserve(s->catalog, &op, &ret->status)) {
        assert_int_not_equal(ret->status.code, STATUS_OK);
        return;
    }
    if (submission->vectors != NULL) {
        assert_int_equal(op.type, OP_DOCUMENT_PUT);
        assert_int_equal(submission->vector_count, op.as.document.num_chunks);
        assert_true(catalog_check_made_by(s->catalog, &op.library, submission->dimension, submission->model, &ret->status));
    }
    assert_true(catalog_foresee(s->catalog, &op, &foreseen, &ret->status));
    ret->lsn = ++s->lsn;
    catalog_apply(s->catalog, &op, ret->lsn, clock_wall_us(), submission->vectors, &effect);
    catalog_publish(s->catalog, ret->lsn, 1000000, NULL, NULL);
    assert_int_equal(foreseen.replaced, effect.replaced);
    assert_int_equal(foreseen.chunks_added, effect.chunks_added);
    assert_int_equal(foreseen.chunks_deleted, effect.chunks_deleted);
    ret->replaced = effect.replaced;
    ret->chunks_added = effect.chunks_added;
    ret->chunks_deleted = effect.chunks_deleted;
}

/* What is remembered, as worker_link.c hands it over. False: it came with another body. */
static bool recall(struct server *s, struct api_keyed *key, struct status *st) {
    struct buf copy = {0};
    struct idempotency_entry e;
    struct idempotency_results_reader r;
    struct idempotency_result one;
    bool ok = true;
    if (idempotency_find(s->keys, key->id.scope, 0, &copy, &e)) {
        ok = memcmp(e.id.body, key->id.body, sizeof e.id.body) == 0 || status_set(st, STATUS_INVALID, "another body");
        key->known = ok;
        key->origin = e.origin;
        key->lsn = e.lsn;
        buf_reset(&key->results);
        assert_true(idempotency_results_open(e.results, &r));
        while (idempotency_results_next(&r, &one)) {
            struct api_op_result result = {.lsn = one.code == STATUS_OK ? e.lsn : 0,
                                           .status = {.code = (enum status_code)one.code, .subject = one.subject},
                                           .chunks_added = one.chunks_added,
                                           .chunks_deleted = one.chunks_deleted};
            if (one.detail.len > 0) {
                memcpy(result.status.detail, one.detail.data, one.detail.len);
            }
            buf_put(&key->results, &result, sizeof result);
        }
    }
    buf_fini(&copy);
    return ok;
}

static void remember(struct server *s, struct api_keyed *key, const struct api_op_result *results, size_t count) {
    struct buf entry = {0};
    struct idempotency_results_writer w;
    struct status st = {0};
    bool good = count == 0;
    idempotency_entry_begin(&entry, &key->id, &key->origin, key->origin.created_at);
    idempotency_results_begin(&w, &entry, count);
    for (size_t i = 0; i < count; i++) {
        bool failed = results[i].status.code != STATUS_OK;
        good = good || !failed;
        idempotency_results_add(&w, &(struct idempotency_result){.code = (uint8_t)results[i].status.code,
                                                                 .subject = failed ? results[i].status.subject : 0,
                                                                 .chunks_added = results[i].chunks_added,
                                                                 .chunks_deleted = results[i].chunks_deleted,
                                                                 .detail = slice_str(failed ? results[i].status.detail : "")});
    }
    idempotency_results_end(&w);
    if (good) {
        key->lsn = count == 0 ? ++s->lsn : s->lsn;
        assert_true(idempotency_note(s->keys, buf_slice(&entry), key->lsn, key->origin.created_at, &st));
    }
    buf_fini(&entry);
}

static bool host_submit(void *ctx, struct api_keyed *key, const struct api_submission *ops, size_t count,
                        struct api_op_result *results, struct status *st) {
    struct server *s = (struct server *)ctx;
    void (*before)(struct server *) = s->before_submit;
    s->before_submit = NULL;
    if (before != NULL) {
        before(s);
    }
    s->submits++;
    s->submitted += count;
    if (s->submit_fails.code != STATUS_OK) {
        *st = s->submit_fails;
        return false;
    }
    if (key != NULL && !recall(s, key, st)) {
        return false;
    }
    if (key != NULL && key->known) {
        return true;
    }
    const uint64_t lsn_before = s->lsn;
    uint64_t last = lsn_before;
    for (size_t i = 0; i < count; i++) {
        s->lsn = key != NULL ? lsn_before : s->lsn; /* one record, one LSN */
        apply_one(s, &ops[i], &results[i]);
        last = s->lsn > last ? s->lsn : last;
    }
    s->lsn = last;
    if (key != NULL) {
        remember(s, key, results, count);
    }
    return true;
}

static bool host_recall(void *ctx, struct api_keyed *key, struct status *st) {
    struct server *s = (struct server *)ctx;
    s->recalls++;
    return s->recall_misses || recall(s, key, st);
}

static bool host_command(void *ctx, struct api_keyed *key, enum api_command command, const struct uuid *argument,
                         struct uuid *ret_task, struct status *st) {
    struct server *s = (struct server *)ctx;
    s->commanded = command;
    s->command_argument = *argument;
    if (s->command_fails.code != STATUS_OK) {
        *st = s->command_fails;
        return false;
    }
    if (key == NULL) {
        *ret_task = s->command_task;
    } else if (!recall(s, key, st)) {
        return false;
    } else if (!key->known) {
        remember(s, key, NULL, 0);
    }
    return true;
}

static bool host_change_keys(void *ctx, struct slice credential, struct slice bytes, uint64_t *ret_lsn, struct status *st) {
    struct server *s = (struct server *)ctx;
    struct op op;
    s->credential = credential;
    assert_true(op_decode(bytes, &s->limits, &op, st));
    assert_true(op_is_of_keys(&op));
    if (!key_table_check(s->api_keys, &op, st)) {
        return false;
    }
    *ret_lsn = ++s->lsn;
    (void)key_table_apply(s->api_keys, &op, s->lsn);
    return true;
}

/* --- start and stop --- */

static void fetch_description(struct server *s);

static void make_directories(struct server *s) {
    struct status st = {0};
    const char *base = getenv("TMPDIR");
    (void)snprintf(s->path, sizeof s->path, "%s/quire-api-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(s->path));
    assert_true(io_open_at(AT_FDCWD, s->path, O_RDONLY | O_DIRECTORY, 0, &s->dir_fd, &st));
    assert_true(io_mkdir_at(s->dir_fd, "vectors", 0700, &st));
    assert_true(io_mkdir_at(s->dir_fd, "snapshots", 0700, &st));
    assert_true(io_open_at(s->dir_fd, "vectors", O_RDONLY | O_DIRECTORY, 0, &s->vectors_fd, &st));
    assert_true(io_open_at(s->dir_fd, "snapshots", O_RDONLY | O_DIRECTORY, 0, &s->snapshots_fd, &st));
}

void server_start(struct server *s) {
    struct status st = {0};
    *s = (struct server){.dir_fd = -1, .vectors_fd = -1, .snapshots_fd = -1, .control_fd = -1};
    make_directories(s);
    limits_default(&s->limits);
    assert_true(embed_registry_init(&s->models, "hash-384", &st));
    assert_true(control_create(FIXTURE_WORKERS, sizeof(struct library_view), FIXTURE_LIBRARIES, sizeof(struct service_figures),
                               &s->control_fd, &s->control, &st));
    places_init(&s->control->awaiting, 1);
    s->figures = (struct service_figures *)control_figures(s->control);
    s->figures->started_at = clock_wall_us();
    s->figures->started_us = clock_monotonic_us();
    s->control->ready = 1;
    s->control->accepting = 1;
    const struct catalog_options options = {
        .vectors_dir_fd = s->vectors_fd, .control = s->control, .limits = &s->limits, .models = &s->models};
    assert_true(catalog_new(&options, &s->catalog, &st));
    assert_true(store_reader_new(s->control, 0, s->vectors_fd, &s->reader, &st));
    assert_true(key_table_new(s->limits.max_keys, &s->api_keys, &st));
    assert_true(key_page_create(&s->key_page_fd, &s->key_page, &st));
    key_table_show(s->api_keys, s->key_page, s->control);
    s->host = (struct api_host){.reader = s->reader,
                                .control = s->control,
                                .figures = s->figures,
                                .limits = &s->limits,
                                .models = &s->models,
                                .snapshots_dir_fd = s->snapshots_fd,
                                .submit = host_submit,
                                .recall = host_recall,
                                .command = host_command,
                                .keys = s->key_page,
                                .change_keys = host_change_keys,
                                .ctx = s};
    const struct idempotency_limits keys = {.max_keys = 1000, .max_bytes = 1 << 20, .ttl_us = INT64_C(1) << 60};
    assert_true(idempotency_new(&keys, &s->keys, &st));
    uuid_make(&s->command_task);
    api_response_init(&s->response);
    server_renew_api(s);
    fetch_description(s);
}

void server_renew_api(struct server *s) {
    struct status st = {0};
    api_free(s->api);
    s->api = NULL;
    assert_true(api_new(&s->host, &s->api, &st));
}

void server_stop(struct server *s) {
    struct status st = {0};
    json_object_put(s->json);
    json_object_put(s->openapi);
    api_response_fini(&s->response);
    api_free(s->api);
    store_reader_free(s->reader);
    catalog_free(s->catalog);
    idempotency_free(s->keys);
    key_table_free(s->api_keys);
    key_page_unmap(s->key_page);
    io_close(&s->key_page_fd);
    control_unmap(s->control);
    embed_registry_fini(&s->models);
    io_close(&s->control_fd);
    io_close(&s->vectors_fd);
    io_close(&s->snapshots_fd);
    io_close(&s->dir_fd);
    assert_true(io_remove_tree(AT_FDCWD, s->path, &st));
}

int server_setup(void **state) {
    struct server *s = (struct server *)malloc(sizeof *s);
    if (s == NULL) {
        return -1;
    }
    server_start(s);
    *state = s;
    return 0;
}

int server_teardown(void **state) {
    server_stop((struct server *)*state);
    free(*state);
    return 0;
}

/* --- calls --- */

bool header(const struct server *s, const char *name, char *out, size_t room) {
    struct slice all = buf_slice(&s->response.headers);
    size_t name_len = strlen(name);
    for (size_t at_byte = 0; at_byte < all.len;) {
        const char *line = (const char *)all.data + at_byte;
        const char *end = (const char *)memmem(line, all.len - at_byte, "\r\n", 2);
        assert_non_null(end); /* every header line is ended */
        size_t len = (size_t)(end - line);
        if (len > name_len + 2 && strncmp(line, name, name_len) == 0 && line[name_len] == ':' && line[name_len + 1] == ' ') {
            size_t value_len = len - name_len - 2;
            assert_true(value_len < room);
            memcpy(out, line + name_len + 2, value_len);
            out[value_len] = '\0';
            return true;
        }
        at_byte += len + 2;
    }
    return false;
}

static void parse_reply(struct server *s) {
    json_object_put(s->json);
    s->json = NULL;
    const char *type = s->response.content_type;
    if (type == NULL || strstr(type, "json") == NULL) {
        return;
    }
    struct json_tokener *tokener = json_tokener_new();
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    s->json = json_tokener_parse_ex(tokener, (const char *)s->response.body.data, (int)s->response.body.len);
    if (json_tokener_get_error(tokener) == json_tokener_continue) { /* a bare number or so may still go on */
        s->json = json_tokener_parse_ex(tokener, "", 1);
    }
    if (json_tokener_get_error(tokener) != json_tokener_success) {
        fail_msg("the reply is no JSON: %.*s", (int)s->response.body.len, (const char *)s->response.body.data);
    }
    assert_int_equal(json_tokener_get_parse_end(tokener), s->response.body.len);
    json_tokener_free(tokener);
}

/* What holds for every reply. */
static void check_reply(const struct server *s) {
    char id[128], value[256];
    assert_true(header(s, "X-Request-Id", id, sizeof id));
    assert_true(s->response.status >= 200 && s->response.status < 600);
    assert_non_null(api_route_name(s->response.route));
    assert_true((s->response.content_type == NULL) == (s->response.body.len == 0 && s->response.file_fd < 0));
    if (s->response.status < 400 ||
        (s->response.content_type != NULL && strcmp(s->response.content_type, "application/json") == 0)) {
        return;
    }
    assert_string_equal(s->response.content_type, "application/problem+json");
    assert_int_equal(number_at(s->json, "/status"), s->response.status);
    assert_string_equal(text_at(s->json, "/request_id"), id);
    assert_true(strlen(text_at(s->json, "/title")) > 0);
    assert_true(strlen(text_at(s->json, "/detail")) > 0);
    assert_memory_equal(text_at(s->json, "/type"), "urn:quire:error:", 16);
    assert_string_equal(text_at(s->json, "/type") + 16, text_at(s->json, "/error_type"));
    assert_true(s->response.status != 503 || header(s, "Retry-After", value, sizeof value));
    assert_true(s->response.status != 401 || header(s, "WWW-Authenticate", value, sizeof value));
    assert_true(s->response.status != 405 || header(s, "Allow", value, sizeof value));
    assert_null(strstr(text_at(s->json, "/detail"), s->path));
}

static void check_description(const struct server *s, const struct api_request *r) {
    char why[512];
    const char *route = api_route_name(s->response.route);
    if (s->response.route == 0 || slice_is(r->method, "OPTIONS") || s->undescribed || s->openapi == NULL) {
        return;
    }
    if (!schema_reply_fits(s->openapi, route, s->response.status, s->json, why)) {
        fail_msg("%s %d: %s: %s", route, s->response.status, why, json_object_to_json_string(s->json));
    }
    if (s->response.status < 300 && r->body.len > 0) {
        struct json_tokener *tokener = json_tokener_new();
        struct json_object *body = json_tokener_parse_ex(tokener, (const char *)r->body.data, (int)r->body.len);
        if (!schema_request_fits(s->openapi, route, body, why)) {
            fail_msg("%s took a body that is not described: %s: %.*s", route, why, (int)r->body.len, (const char *)r->body.data);
        }
        json_object_put(body);
        json_tokener_free(tokener);
    }
}

void server_check_reply(struct server *s, const struct api_request *r) {
    parse_reply(s);
    check_reply(s);
    check_description(s, r);
}

/* The description, as the server gives it. */
static void fetch_description(struct server *s) {
    (void)expect(s, 200, "GET", "/openapi.json", NULL);
    s->openapi = json_object_get(s->json);
}

int call(struct server *s, const struct call *c) {
    size_t body_len = c->body == NULL ? 0 : (c->body_len > 0 ? c->body_len : strlen(c->body));
    const char *type = c->content_type != NULL ? c->content_type : (c->body != NULL ? "application/json" : "");
    struct api_request request = {.method = slice_str(c->method),
                                  .path = slice_str(c->path),
                                  .query = slice_str(c->query),
                                  .content_type = slice_str(type),
                                  .content_length = c->body == NULL ? -1 : (int64_t)body_len,
                                  .authorization = slice_str(c->authorization),
                                  .x_api_key = slice_str(c->x_api_key),
                                  .request_id = slice_str(c->request_id),
                                  .idempotency_key = slice_str(c->idempotency_key),
                                  .if_match = slice_str(c->if_match),
                                  .if_none_match = slice_str(c->if_none_match),
                                  .origin = slice_str(c->origin),
                                  .cors_method = slice_str(c->cors_method),
                                  .remote_address = slice_str(c->remote_address)};
    uint64_t body_max = 0;
    uint8_t *body = NULL;
    api_response_reset(&s->response);
    if (!api_begin(s->api, &request, &s->response, &body_max)) {
        assert_int_equal(body_max, s->limits.max_body_bytes);
        /* a copy of its exact size, so that a sanitizer sees a byte read too far */
        body = (uint8_t *)malloc(body_len > 0 ? body_len : 1);
        assert_non_null(body);
        memcpy(body, c->body != NULL ? c->body : "", body_len);
        request.body = slice_of(body, body_len);
        api_finish(s->api, &request, &s->response);
    }
    server_check_reply(s, &request);
    free(body);
    return s->response.status;
}

struct json_object *expect(struct server *s, int status, const char *method, const char *path, const char *body) {
    char plain[1024];
    const char *question = strchr(path, '?');
    size_t len = question != NULL ? (size_t)(question - path) : strlen(path);
    assert_true(len < sizeof plain);
    memcpy(plain, path, len);
    plain[len] = '\0';
    const struct call c = {.method = method, .path = plain, .query = question != NULL ? question + 1 : NULL, .body = body};
    int got = call(s, &c);
    if (got != status) {
        fail_msg("%s %s %s: %d in place of %d: %.*s", method, path, body != NULL ? body : "", got, status,
                 (int)s->response.body.len, s->response.body.len > 0 ? (const char *)s->response.body.data : "");
    }
    return s->json;
}

void expect_error(struct server *s, int status, const char *error_type, const char *method, const char *path, const char *body) {
    (void)expect(s, status, method, path, body);
    assert_string_equal(text_at(s->json, "/error_type"), error_type);
}

void expect_pointer(const struct server *s, const char *pointer) {
    struct json_object *errors = at(s->json, "/errors");
    for (size_t i = 0; i < json_object_array_length(errors); i++) {
        if (strcmp(text_at(json_object_array_get_idx(errors, i), "/pointer"), pointer) == 0) {
            return;
        }
    }
    fail_msg("no error at %s: %s", pointer, json_object_to_json_string(errors));
}

/* --- JSON --- */

bool has(struct json_object *json, const char *pointer) {
    struct json_object *found = NULL;
    return json_pointer_get(json, pointer, &found) == 0;
}

struct json_object *at(struct json_object *json, const char *pointer) {
    struct json_object *found = NULL;
    if (json_pointer_get(json, pointer, &found) != 0) {
        fail_msg("nothing at %s: %s", pointer, json_object_to_json_string(json));
    }
    return found;
}

const char *text_at(struct json_object *json, const char *pointer) {
    struct json_object *found = at(json, pointer);
    if (!json_object_is_type(found, json_type_string)) {
        fail_msg("no string at %s: %s", pointer, json_object_to_json_string(json));
    }
    return json_object_get_string(found);
}

int64_t number_at(struct json_object *json, const char *pointer) {
    struct json_object *found = at(json, pointer);
    if (!json_object_is_type(found, json_type_int)) {
        fail_msg("no whole number at %s: %s", pointer, json_object_to_json_string(json));
    }
    return json_object_get_int64(found);
}

double real_at(struct json_object *json, const char *pointer) {
    struct json_object *found = at(json, pointer);
    if (!json_object_is_type(found, json_type_int) && !json_object_is_type(found, json_type_double)) {
        fail_msg("no number at %s: %s", pointer, json_object_to_json_string(json));
    }
    return json_object_get_double(found);
}

/* --- shorthands --- */

const char *make_library(struct server *s, const char *name, const char *more, char out[64]) {
    char body[1024];
    (void)snprintf(body, sizeof body, "{\"name\":\"%s\"%s}", name, more);
    (void)expect(s, 201, "POST", "/v1/libraries", body);
    (void)snprintf(out, 64, "/v1/libraries/%s", text_at(s->json, "/id"));
    return out;
}

const char *join(const char *path, const char *suffix) {
    static char texts[8][512];
    static unsigned next;
    char *out = texts[next++ % 8];
    (void)snprintf(out, sizeof texts[0], "%s%s", path, suffix);
    return out;
}
