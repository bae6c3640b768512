/*
 * test_api_access.c - who may do what to which library, on every path.
 *
 * One table says of each route which scope it needs, where its library stands, and how to call it. The test walks the server's own table of routes and fails
 * when one has no line here; then it calls each with keys of all scopes, for all libraries, for the one that the call is about and for another. What a key may
 * not see must be answered as what does not exist: the whole reply is compared, byte for byte but for the request id.
 */
#include "api_fixture.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIGURED "the key of the configuration"

enum needs { OPEN, ANY, READ, WRITE, ADMIN };
enum stands { NONE, ALL, PATH, INSIDE };

/* {L}: the library, {D}: a document of it, {T}: a task of it. */
struct line {
    const char *route;
    enum needs needs;
    enum stands stands;
    const char *path, *body; /* NULL: as the route says; no body */
};

static const struct line lines[] = {
    {"GET /health", OPEN, NONE, NULL, NULL},
    {"GET /liveness", OPEN, NONE, NULL, NULL},
    {"GET /readiness", OPEN, NONE, NULL, NULL},
    {"GET /health/detailed", ADMIN, ALL, NULL, NULL},
    {"GET /metrics", ADMIN, ALL, NULL, NULL},
    {"GET /openapi.json", ANY, NONE, NULL, NULL},
    {"GET /v1/models", READ, NONE, NULL, NULL},
    {"POST /v1/embeddings", READ, NONE, NULL, "{\"input\":\"a\",\"model\":\"hash-384\"}"},
    {"GET /v1/tasks", READ, NONE, NULL, NULL}, /* what it shows: test_lists */
    {"GET /v1/tasks/{id}", READ, INSIDE, "/v1/tasks/{T}", NULL},
    {"DELETE /v1/tasks/{id}", ADMIN, INSIDE, "/v1/tasks/{T}", NULL},
    {"GET /v1/snapshots", ADMIN, ALL, NULL, NULL},
    {"POST /v1/snapshots", ADMIN, ALL, NULL, NULL},
    {"GET /v1/snapshots/{name}", ADMIN, ALL, "/v1/snapshots/snapshot_20200101_000000.tar", NULL},
    {"POST /v1/snapshots/{name}/verify", ADMIN, ALL, "/v1/snapshots/snapshot_20200101_000000.tar/verify", NULL},
    {"POST /v1/libraries", WRITE, ALL, NULL, "{\"name\":\"another\"}"},
    {"GET /v1/libraries", READ, NONE, NULL, NULL}, /* what it shows: test_lists */
    {"GET /v1/libraries/{id}", READ, PATH, "/v1/libraries/{L}", NULL},
    {"PATCH /v1/libraries/{id}", ADMIN, PATH, "/v1/libraries/{L}", "{\"description\":\"changed\"}"},
    {"DELETE /v1/libraries/{id}", ADMIN, PATH, "/v1/libraries/{L}", NULL},
    {"GET /v1/libraries/{id}/statistics", READ, PATH, "/v1/libraries/{L}/statistics", NULL},
    {"POST /v1/libraries/{id}/index/rebuild", ADMIN, PATH, "/v1/libraries/{L}/index/rebuild", "{}"},
    {"POST /v1/libraries/{id}/index/optimize", ADMIN, PATH, "/v1/libraries/{L}/index/optimize", NULL},
    {"GET /v1/libraries/{id}/index/statistics", READ, PATH, "/v1/libraries/{L}/index/statistics", NULL},
    {"POST /v1/libraries/{id}/documents", WRITE, PATH, "/v1/libraries/{L}/documents", "{\"title\":\"t\",\"texts\":[\"a\"]}"},
    {"GET /v1/libraries/{id}/documents", READ, PATH, "/v1/libraries/{L}/documents", NULL},
    {"POST /v1/libraries/{id}/documents/with-embeddings", WRITE, PATH, "/v1/libraries/{L}/documents/with-embeddings",
     "{\"title\":\"t\",\"chunks\":[]}"},
    {"POST /v1/libraries/{id}/documents/batch", WRITE, PATH, "/v1/libraries/{L}/documents/batch", "{\"documents\":[{\"title\":\"t\",\"texts\":[\"a\"]}]}"},
    {"POST /v1/libraries/{id}/documents/batch-delete", WRITE, PATH, "/v1/libraries/{L}/documents/batch-delete", "{\"document_ids\":[\"{D}\"]}"},
    {"GET /v1/libraries/{id}/documents/{doc}", READ, PATH, "/v1/libraries/{L}/documents/{D}", NULL},
    {"PUT /v1/libraries/{id}/documents/{doc}", WRITE, PATH, "/v1/libraries/{L}/documents/{D}", "{\"title\":\"t\",\"texts\":[\"a\"]}"},
    {"DELETE /v1/libraries/{id}/documents/{doc}", WRITE, PATH, "/v1/libraries/{L}/documents/{D}", NULL},
    {"DELETE /v1/documents/batch", WRITE, INSIDE, NULL, "{\"document_ids\":[\"{D}\"]}"},
    {"GET /v1/documents/{doc}", READ, INSIDE, "/v1/documents/{D}", NULL},
    {"DELETE /v1/documents/{doc}", WRITE, INSIDE, "/v1/documents/{D}", NULL},
    {"POST /v1/libraries/{id}/chunks/get", READ, PATH, "/v1/libraries/{L}/chunks/get", "{\"ids\":[\"{D}\"]}"},
    {"GET /v1/libraries/{id}/chunks/{chunk}", READ, PATH, "/v1/libraries/{L}/chunks/{D}", NULL},
    {"POST /v1/libraries/{id}/chunks/delete", WRITE, PATH, "/v1/libraries/{L}/chunks/delete", "{\"ids\":[\"{D}\"]}"},
    {"POST /v1/libraries/{id}/search", READ, PATH, "/v1/libraries/{L}/search", "{\"query\":\"text\"}"},
    {"POST /v1/libraries/{id}/search/embedding", READ, PATH, "/v1/libraries/{L}/search/embedding", "{\"embedding\":[1,2]}"},
    {"POST /v1/libraries/{id}/search/filtered", READ, PATH, "/v1/libraries/{L}/search/filtered", "{\"query\":\"text\",\"metadata_filters\":[]}"},
    {"POST /v1/libraries/{id}/search/batch", READ, PATH, "/v1/libraries/{L}/search/batch", "{\"searches\":[{\"query\":\"text\"}]}"},
    {"POST /v1/search", READ, INSIDE, NULL, "{\"libraries\":[\"{L}\"],\"query\":\"text\"}"},
    {"POST /v1/libraries/{id}/documents/stream", WRITE, PATH, "/v1/libraries/{L}/documents/stream", "{\"title\":\"t\",\"texts\":[\"a\"]}\n"},
    {"GET /v1/libraries/{id}/export", READ, PATH, "/v1/libraries/{L}/export", NULL},
    {"PATCH /v1/libraries/{id}/documents/{doc}", WRITE, PATH, "/v1/libraries/{L}/documents/{D}", "{\"title\":\"u\"}"},
    {"POST /v1/libraries/{id}/documents/batch-with-embeddings", WRITE, PATH, "/v1/libraries/{L}/documents/batch-with-embeddings",
     "{\"documents\":[{\"title\":\"t\",\"chunks\":[]}]}"},
    {"POST /v1/libraries/{id}/reembed", ADMIN, PATH, "/v1/libraries/{L}/reembed", "{}"},
    {"DELETE /v1/libraries/{id}/reembed", ADMIN, PATH, "/v1/libraries/{L}/reembed", NULL},
    {"POST /v1/libraries/{id}/reembed/rollback", ADMIN, PATH, "/v1/libraries/{L}/reembed/rollback", NULL},
    {"POST /v1/keys", ADMIN, ALL, NULL, "{\"name\":\"k\",\"scopes\":[\"read\"]}"},
    {"GET /v1/keys", ADMIN, ALL, NULL, NULL},
    {"DELETE /v1/keys/{id}", ADMIN, ALL, "/v1/keys/00000000-0000-7000-8000-000000000000", NULL},
};
enum { LINES = sizeof lines / sizeof lines[0] };

static const struct line *line_of(const char *route) {
    for (size_t i = 0; i < LINES; i++) {
        if (strcmp(lines[i].route, route) == 0) {
            return &lines[i];
        }
    }
    fail_msg("%s has no line in the table of who may call it", route);
    return NULL;
}

/* --- a world: a library with a document and a task, and another library ---------------------------------------------------- */

struct world {
    char library[UUID_TEXT + 1], other[UUID_TEXT + 1], document[UUID_TEXT + 1], task[UUID_TEXT + 1];
};

static void as_admin(struct server *s, struct call c, int status) {
    c.x_api_key = CONFIGURED;
    int got = call(s, &c);
    if (got != status) {
        fail_msg("%s %s: %d: %s", c.method, c.path, got, s->response.body.len > 0 ? (const char *)s->response.body.data : "");
    }
}

static void make_one(struct server *s, char out[UUID_TEXT + 1]) {
    as_admin(s, (struct call){.method = "POST", .path = "/v1/libraries", .body = "{\"name\":\"l\",\"index_type\":\"flat\"}"}, 201);
    (void)snprintf(out, UUID_TEXT + 1, "%s", text_at(s->json, "/id"));
}

static void put_task(struct server *s, unsigned slot, enum task_kind kind, const char *library, char out[UUID_TEXT + 1]) {
    struct figures_task *t = &s->figures->task[slot];
    *t = (struct figures_task){.sequence = 2, .kind = (uint32_t)kind, .state = TASK_RUNNING};
    uuid_make(&t->id);
    if (library != NULL) {
        assert_true(uuid_parse(slice_str(library), &t->library));
    }
    uuid_format(&t->id, out);
}

static void make_world(struct server *s, struct world *w) {
    make_one(s, w->library);
    make_one(s, w->other);
    as_admin(s, (struct call){.method = "POST", .path = join("/v1/libraries/", join(w->library, "/documents")), .body = "{\"title\":\"t\",\"texts\":[\"text\"]}"}, 201);
    (void)snprintf(w->document, sizeof w->document, "%s", text_at(s->json, "/id"));
    put_task(s, 0, TASK_REBUILD, w->library, w->task);
}

static void drop_world(struct server *s, const struct world *w) {
    const char *ids[] = {w->library, w->other};
    for (size_t i = 0; i < 2; i++) {
        const struct call c = {.method = "DELETE", .path = join("/v1/libraries/", ids[i]), .x_api_key = CONFIGURED};
        (void)call(s, &c);
    }
}

/* `text` with what stands for {L}, {D} and {T}. */
static const char *fill(const char *text, const char *library, const char *document, const char *task, char out[512]) {
    size_t len = 0;
    if (text == NULL) {
        return NULL;
    }
    for (const char *c = text; *c != '\0'; c++) {
        const char *put = strncmp(c, "{L}", 3) == 0 ? library : strncmp(c, "{D}", 3) == 0 ? document : strncmp(c, "{T}", 3) == 0 ? task : NULL;
        int n = put != NULL ? snprintf(out + len, 512 - len, "%s", put) : snprintf(out + len, 512 - len, "%c", *c);
        len += (size_t)n;
        assert_true(len < 512);
        c += put != NULL ? 2 : 0;
    }
    return out;
}

/* --- keys ------------------------------------------------------------------------------------------------------------- */

struct key {
    char secret[SECRET_TEXT + 1], id[UUID_TEXT + 1];
    uint8_t scopes;
    const char *library; /* NULL: all */
};

static void make_key(struct server *s, uint8_t scopes, const char *library, struct key *ret) {
    char body[256], libraries[64] = "";
    if (library != NULL) {
        (void)snprintf(libraries, sizeof libraries, ",\"libraries\":[\"%s\"]", library);
    }
    (void)snprintf(body, sizeof body, "{\"name\":\"k\",\"scopes\":[%s%s%s]%s}", (scopes & KEY_READ) != 0 ? "\"read\"" : "",
                   (scopes & KEY_WRITE) != 0 ? ((scopes & KEY_READ) != 0 ? ",\"write\"" : "\"write\"") : "", (scopes & KEY_ADMIN) != 0 ? "\"admin\"" : "", libraries);
    as_admin(s, (struct call){.method = "POST", .path = "/v1/keys", .body = body}, 201);
    *ret = (struct key){.scopes = scopes, .library = library};
    (void)snprintf(ret->secret, sizeof ret->secret, "%s", text_at(s->json, "/secret"));
    (void)snprintf(ret->id, sizeof ret->id, "%s", text_at(s->json, "/id"));
    assert_true(secret_well_formed(slice_str(ret->secret)));
}

static void drop_key(struct server *s, const struct key *k) {
    as_admin(s, (struct call){.method = "DELETE", .path = join("/v1/keys/", k->id)}, 204);
}

static void turn_auth_on(struct server *s) {
    s->host.auth_on = true;
    s->host.has_admin_key = true;
    sha256(CONFIGURED, strlen(CONFIGURED), s->host.admin_key_sha256);
    server_renew_api(s);
}

/* --- calls ------------------------------------------------------------------------------------------------------------ */

struct reply {
    int status;
    char error_type[64];
    struct buf all; /* status, headers, body */
};

/* --- streams: a connection that brings the body at once, and drops what comes */

struct connection {
    struct server *s;
    const char *body;
    const char *revoke; /* a key, removed by the first write: its path */
};

static bool begin_stream(void *ctx, struct status *st) {
    (void)ctx;
    (void)st;
    return true;
}

static enum api_stream_read read_stream(void *ctx, struct buf *to, size_t most, int64_t wait_ms, struct status *st) {
    struct connection *c = (struct connection *)ctx;
    (void)most;
    (void)wait_ms;
    (void)st;
    if (c->body == NULL) {
        return API_STREAM_END;
    }
    buf_put_str(to, c->body);
    c->body = NULL;
    return API_STREAM_BYTES;
}

static bool write_stream(void *ctx, struct api_response *r, struct status *st) {
    struct connection *c = (struct connection *)ctx;
    (void)st;
    if (c->revoke != NULL) {
        struct uuid id;
        struct buf bytes = {0};
        struct op op;
        assert_true(uuid_parse(slice_str(c->revoke), &id));
        op_encode_key_remove(&bytes, &id);
        assert_true(op_decode(buf_slice(&bytes), NULL, &op, st));
        (void)key_table_apply(c->s->api_keys, &op, ++c->s->lsn);
        buf_fini(&bytes);
        c->revoke = NULL;
        buf_reset(&r->body);
    }
    return true;
}

/* The status; what the response holds in the end is the rest, or the problem. */
static int call_stream(struct server *s, const struct call *c, const char *revoke) {
    struct connection connection = {s, c->body, revoke};
    const struct api_stream stream = {.begin = begin_stream, .read = read_stream, .write = write_stream, .ctx = &connection};
    struct api_request request = {.method = slice_str(c->method),
                                  .path = slice_str(c->path),
                                  .content_type = slice_str("application/x-ndjson"),
                                  .content_length = -1,
                                  .x_api_key = slice_str(c->x_api_key),
                                  .request_id = slice_str(c->request_id)};
    uint64_t most = 0;
    api_response_reset(&s->response);
    if (!api_begin(s->api, &request, &s->response, &most)) {
        assert_true(s->response.streams);
        api_stream(s->api, &request, &stream, &s->response);
    }
    json_object_put(s->json);
    buf_put_u8(&s->response.body, 0);
    s->json = s->response.status >= 400 ? json_tokener_parse((const char *)s->response.body.data) : NULL;
    s->response.body.len--;
    return s->response.status;
}

static bool is_stream(const struct line *l) {
    return strstr(l->route, "/stream") != NULL || strstr(l->route, "/export") != NULL;
}

/* With a request id of its own, the same each time, so that replies can be compared. */
static void ask(struct server *s, const struct line *l, const char *secret, const char *library, const char *document, const char *task, struct reply *ret) {
    char method[16], path[512], body[512];
    const char *space = strchr(l->route, ' ');
    (void)snprintf(method, sizeof method, "%.*s", (int)(space - l->route), l->route);
    const struct call c = {.method = method,
                           .path = fill(l->path != NULL ? l->path : space + 1, library, document, task, path),
                           .body = fill(l->body, library, document, task, body),
                           .x_api_key = secret,
                           .request_id = "the-same"};
    *ret = (struct reply){.status = is_stream(l) ? call_stream(s, &c, NULL) : call(s, &c)};
    if (ret->status >= 400) {
        (void)snprintf(ret->error_type, sizeof ret->error_type, "%s", text_at(s->json, "/error_type"));
    }
    buf_printf(&ret->all, "%d ", ret->status);
    buf_put_slice(&ret->all, buf_slice(&s->response.headers));
    buf_put_slice(&ret->all, buf_slice(&s->response.body));
    buf_put_u8(&ret->all, 0);
}

static bool has_scope(const struct key *k, enum needs needs) {
    uint8_t wanted = needs == READ ? KEY_READ : needs == WRITE ? KEY_WRITE : needs == ADMIN ? KEY_ADMIN : KEY_SCOPES;
    return (k->scopes & (wanted | KEY_ADMIN)) != 0;
}

static const char *blank_time(struct buf *all) {
    char *at_time = strstr((char *)all->data, "\"processing_time_ms\":");
    if (at_time != NULL) {
        for (char *c = at_time + strlen("\"processing_time_ms\":"); *c != '}' && *c != ','; c++) {
            *c = '0';
        }
        char *end = at_time + strlen("\"processing_time_ms\":");
        size_t digits = strspn(end, "0");
        memmove(end, end + digits, strlen(end + digits) + 1);
    }
    return (const char *)all->data;
}

/* What this key may not see is as what there is not: the reply to the one is the reply to the other, and nothing was changed. */
static void hidden_is_absent(struct server *s, const struct line *l, const struct key *k, const struct world *w) {
    struct reply hidden, absent;
    uint64_t lsn = s->lsn;
    ask(s, l, k->secret, w->library, w->document, w->task, &hidden);
    ask(s, l, k->secret, NOWHERE, l->stands == PATH ? w->document : NOWHERE, NOWHERE, &absent);
    assert_int_equal(s->lsn, lsn);
    const char *a = blank_time(&hidden.all);
    char *b = (char *)(uintptr_t)blank_time(&absent.all);
    /* A batch names what it was asked for. */
    for (char *c = strstr(b, NOWHERE); c != NULL; c = strstr(c, NOWHERE)) {
        memcpy(c, w->document, UUID_TEXT);
    }
    if (strcmp(a, b) != 0) {
        fail_msg("%s tells a library that is hidden from one that is not there:\n%s\n%s", l->route, a, b);
    }
    buf_fini(&hidden.all);
    buf_fini(&absent.all);
}

static void with_key(struct server *s, const struct line *l, uint8_t scopes, int reach) {
    struct world w;
    struct key k;
    struct reply r;
    make_world(s, &w);
    make_key(s, scopes, reach == 0 ? NULL : reach == 1 ? w.library : w.other, &k);
    uint64_t lsn = s->lsn;
    bool concerned = l->stands == PATH || l->stands == INSIDE;
    if (l->needs != OPEN && !has_scope(&k, l->needs)) {
        ask(s, l, k.secret, w.library, w.document, w.task, &r);
        assert_string_equal(r.error_type, "PermissionDeniedError");
        assert_int_equal(s->lsn, lsn);
    } else if (l->stands == ALL && reach != 0) {
        ask(s, l, k.secret, w.library, w.document, w.task, &r);
        assert_string_equal(r.error_type, "PermissionDeniedError");
        assert_int_equal(s->lsn, lsn);
    } else if (concerned && reach == 2) {
        hidden_is_absent(s, l, &k, &w);
        r = (struct reply){0};
    } else {
        ask(s, l, k.secret, w.library, w.document, w.task, &r);
        if (r.status == 401 || r.status == 403 || strcmp(r.error_type, "LibraryNotFoundError") == 0 || strcmp(r.error_type, "TaskNotFoundError") == 0) {
            fail_msg("%s with scopes %u and reach %d: %s", l->route, scopes, reach, (const char *)r.all.data);
        }
    }
    buf_fini(&r.all);
    drop_key(s, &k);
    drop_world(s, &w);
}

static void test_every_route(void **state) {
    struct server *s = (struct server *)*state;
    static const uint8_t scopes[] = {KEY_READ, KEY_WRITE, KEY_READ | KEY_WRITE, KEY_ADMIN};
    unsigned routes = 0;
    turn_auth_on(s);
    for (unsigned i = 1; api_route_name(i) != NULL; i++, routes++) {
        const struct line *l = line_of(api_route_name(i));
        for (size_t k = 0; k < sizeof scopes; k++) {
            for (int reach = 0; reach < 3; reach++) {
                with_key(s, l, scopes[k], reach);
            }
        }
    }
    assert_int_equal(routes, LINES);
}

static void test_nobody(void **state) {
    struct server *s = (struct server *)*state;
    struct world w;
    struct key k;
    turn_auth_on(s);
    make_world(s, &w);
    make_key(s, KEY_ADMIN, NULL, &k);
    drop_key(s, &k);
    uint64_t lsn = s->lsn;
    for (size_t i = 0; i < LINES; i++) {
        struct reply none, wrong, removed;
        ask(s, &lines[i], NULL, w.library, w.document, w.task, &none);
        ask(s, &lines[i], "qk_000000000000000000000000000000000000", w.library, w.document, w.task, &wrong);
        ask(s, &lines[i], k.secret, w.library, w.document, w.task, &removed);
        if (lines[i].needs != OPEN) {
            assert_string_equal(none.error_type, "AuthenticationError");
            assert_string_equal((const char *)none.all.data, (const char *)wrong.all.data);
            assert_string_equal((const char *)none.all.data, (const char *)removed.all.data);
        }
        buf_fini(&none.all);
        buf_fini(&wrong.all);
        buf_fini(&removed.all);
    }
    assert_int_equal(s->lsn, lsn);
}

static size_t listed(struct server *s, const char *path, const char *secret) {
    const struct call c = {.method = "GET", .path = path, .x_api_key = secret};
    assert_int_equal(call(s, &c), 200);
    return json_object_array_length(s->json);
}

static void test_lists(void **state) {
    struct server *s = (struct server *)*state;
    struct world w;
    struct key all, one;
    char id[UUID_TEXT + 1];
    turn_auth_on(s);
    make_world(s, &w);
    put_task(s, 1, TASK_OPTIMIZE, w.other, id);
    put_task(s, 2, TASK_SNAPSHOT, NULL, id);
    put_task(s, 3, TASK_VERIFY, w.library, id); /* its `library` is a snapshot's name */
    make_key(s, KEY_READ, NULL, &all);
    make_key(s, KEY_READ, w.library, &one);
    assert_int_equal(listed(s, "/v1/libraries", all.secret), 2);
    assert_int_equal(listed(s, "/v1/tasks", all.secret), 4);
    assert_int_equal(listed(s, "/v1/libraries", one.secret), 1);
    assert_string_equal(text_at(s->json, "/0/id"), w.library);
    assert_int_equal(listed(s, "/v1/tasks", one.secret), 1);
    assert_string_equal(text_at(s->json, "/0/id"), w.task);
    /* A page ends with what is seen, and names nothing else. */
    const struct call page = {.method = "GET", .path = "/v1/libraries", .query = "limit=1", .x_api_key = one.secret};
    char link[256];
    assert_int_equal(call(s, &page), 200);
    assert_false(header(s, "Link", link, sizeof link));
    assert_int_equal(listed(s, "/v1/keys", CONFIGURED), 2);
    assert_false(has(s->json, "/0/secret"));
    assert_true(has(s->json, "/0/last_used_at"));
    assert_non_null(at(s->json, "/1/last_used_at"));
}

static void test_expiry(void **state) {
    struct server *s = (struct server *)*state;
    char body[128], soon[RFC3339_MAX], secret[SECRET_TEXT + 1];
    turn_auth_on(s);
    (void)rfc3339_format(clock_wall_us() + 3600 * INT64_C(1000000), soon);
    (void)snprintf(body, sizeof body, "{\"name\":\"k\",\"scopes\":[\"read\"],\"expires_at\":\"%s\"}", soon);
    as_admin(s, (struct call){.method = "POST", .path = "/v1/keys", .body = body}, 201);
    (void)snprintf(secret, sizeof secret, "%s", text_at(s->json, "/secret"));
    const struct call c = {.method = "GET", .path = "/v1/libraries", .x_api_key = secret};
    assert_int_equal(call(s, &c), 200);
    int64_t later = 7200 * INT64_C(1000000);
    clock_set_shift(&later);
    assert_int_equal(call(s, &c), 401);
    clock_set_shift(NULL);
}

static void test_bad_keys(void **state) {
    struct server *s = (struct server *)*state;
    static const struct {
        const char *body, *pointer;
    } bad[] = {{"{\"scopes\":[\"read\"]}", "/name"},
               {"{\"name\":\"\",\"scopes\":[\"read\"]}", "/name"},
               {"{\"name\":\"a\\nb\",\"scopes\":[\"read\"]}", "/name"},
               {"{\"name\":\"k\"}", "/scopes"},
               {"{\"name\":\"k\",\"scopes\":null}", "/scopes"},
               {"{\"name\":\"k\",\"scopes\":[]}", "/scopes"},
               {"{\"name\":\"k\",\"scopes\":[\"root\"]}", "/scopes/0"},
               {"{\"name\":\"k\",\"scopes\":[null]}", "/scopes/0"},
               {"{\"name\":\"k\",\"scopes\":[\"read\",\"read\"]}", "/scopes/1"},
               {"{\"name\":\"k\",\"scopes\":[\"read\"],\"libraries\":[]}", "/libraries"},
               {"{\"name\":\"k\",\"scopes\":[\"read\"],\"libraries\":[null]}", "/libraries/0"},
               {"{\"name\":\"k\",\"scopes\":[\"read\"],\"libraries\":[\"" NOWHERE "\"]}", "/libraries/0"},
               {"{\"name\":\"k\",\"scopes\":[\"read\"],\"libraries\":\"all\"}", "/libraries"},
               {"{\"name\":\"k\",\"scopes\":[\"read\"],\"expires_at\":\"tomorrow\"}", "/expires_at"},
               {"{\"name\":\"k\",\"scopes\":[\"read\"],\"expires_at\":\"2001-01-01T00:00:00Z\"}", "/expires_at"},
               {"{\"name\":\"k\",\"scopes\":[\"read\"],\"secret\":\"mine\"}", "/secret"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        expect_error(s, 422, "ValidationError", "POST", "/v1/keys", bad[i].body);
        expect_pointer(s, bad[i].pointer);
    }
    assert_int_equal(key_table_count(s->api_keys), 0);
    expect_error(s, 404, "KeyNotFoundError", "DELETE", "/v1/keys/none", NULL);
    const struct call keyed = {.method = "POST", .path = "/v1/keys", .body = "{\"name\":\"k\",\"scopes\":[\"read\"]}", .idempotency_key = "once"};
    assert_int_equal(call(s, &keyed), 422);
    /* null is as good as leaving it out */
    (void)expect(s, 201, "POST", "/v1/keys", "{\"name\":\"k\",\"scopes\":[\"read\"],\"libraries\":null,\"expires_at\":null}");
    assert_null(at(s->json, "/libraries"));
}

/* What goes on for long ends when its key does. */
static void test_streams_end_with_their_key(void **state) {
    struct server *s = (struct server *)*state;
    struct world w;
    struct key k;
    turn_auth_on(s);
    make_world(s, &w);
    make_key(s, KEY_WRITE, NULL, &k);
    const struct call in = {.method = "POST",
                            .path = join("/v1/libraries/", join(w.library, "/documents/stream")),
                            .body = "{\"title\":\"t\",\"texts\":[\"a\"]}\n",
                            .x_api_key = k.secret};
    assert_int_equal(call_stream(s, &in, k.id), 200); /* revoked when the head of the reply was sent */
    assert_non_null(strstr((const char *)s->response.body.data, "AuthenticationError"));
    as_admin(s, (struct call){.method = "GET", .path = join("/v1/libraries/", join(w.library, "/statistics"))}, 200);
    assert_int_equal(number_at(s->json, "/num_documents"), 1); /* the world's own */
}

/* The same Idempotency-Key from two keys is two requests. */
static void test_idempotency_keys_do_not_meet(void **state) {
    struct server *s = (struct server *)*state;
    struct world w;
    struct key k[2];
    char first[UUID_TEXT + 1];
    turn_auth_on(s);
    make_world(s, &w);
    make_key(s, KEY_WRITE, NULL, &k[0]);
    make_key(s, KEY_WRITE, w.library, &k[1]);
    struct call c = {.method = "POST",
                     .path = join("/v1/libraries/", join(w.library, "/documents")),
                     .body = "{\"title\":\"t\",\"texts\":[\"a\"]}",
                     .idempotency_key = "the-same",
                     .x_api_key = k[0].secret};
    assert_int_equal(call(s, &c), 201);
    (void)snprintf(first, sizeof first, "%s", text_at(s->json, "/id"));
    assert_int_equal(call(s, &c), 201);
    assert_string_equal(text_at(s->json, "/id"), first);
    c.x_api_key = k[1].secret;
    assert_int_equal(call(s, &c), 201);
    assert_string_not_equal(text_at(s->json, "/id"), first);
}

static void test_open_metrics(void **state) {
    struct server *s = (struct server *)*state;
    static const struct {
        const char *address;
        bool open;
    } from[] = {{"127.0.0.1", true}, {"127.9.9.9", true}, {"::1", true}, {"10.0.0.1", false}, {"128.0.0.1", false}, {"::2", false}, {"", false}, {NULL, false}};
    turn_auth_on(s);
    for (int on = 0; on < 2; on++) {
        s->host.open_metrics = on != 0;
        server_renew_api(s);
        for (size_t i = 0; i < sizeof from / sizeof from[0]; i++) {
            struct call c = {.method = "GET", .path = "/metrics", .remote_address = from[i].address};
            assert_int_equal(call(s, &c), on != 0 && from[i].open ? 200 : 401);
            c.path = "/health/detailed";
            assert_int_equal(call(s, &c), 401);
        }
    }
}

/* The status of a GET, and the line that it left, parsed; NULL: none. */
static struct json_object *audited(struct server *s, const char *path, const char *secret, const char *address, int status) {
    const struct call c = {.method = "GET", .path = path, .x_api_key = secret, .remote_address = address};
    assert_int_equal(call(s, &c), status);
    if (s->response.audit.len == 0) {
        return NULL;
    }
    assert_int_equal(s->response.audit.data[s->response.audit.len - 1], '\n');
    assert_null(memchr(s->response.audit.data, '\n', s->response.audit.len - 1));
    buf_put_u8(&s->response.audit, 0);
    struct json_object *line = json_tokener_parse((const char *)s->response.audit.data);
    assert_non_null(line);
    return line;
}

/* A refusal leaves the same line whether what it is about is hidden or not there; a read leaves none. */
static void test_audit_lines(void **state) {
    struct server *s = (struct server *)*state;
    struct world w;
    struct key k;
    s->host.audits = true;
    turn_auth_on(s);
    make_world(s, &w);
    make_key(s, KEY_READ, w.library, &k);
    assert_null(audited(s, join("/v1/libraries/", w.library), k.secret, NULL, 200));
    assert_null(audited(s, "/v1/libraries/" NOWHERE, CONFIGURED, NULL, 404));
    const char *const paths[] = {join("/v1/libraries/", w.other), "/v1/libraries/" NOWHERE};
    for (size_t i = 0; i < 2; i++) {
        struct json_object *line = audited(s, paths[i], k.secret, "10.1.2.3", 404);
        assert_true(s->response.is_refusal);
        assert_string_equal(text_at(line, "/key_id"), k.id);
        assert_string_equal(text_at(line, "/route"), "GET /v1/libraries/{id}");
        assert_string_equal(text_at(line, "/library"), paths[i] + strlen("/v1/libraries/"));
        assert_string_equal(text_at(line, "/remote"), "10.1.2.3");
        json_object_put(line);
    }
    struct json_object *line = audited(s, "/%22%0A", "\"}\n{", "\"}\n{", 401);
    assert_string_equal(text_at(line, "/route"), "none");
    assert_null(at(line, "/key_id"));
    assert_null(at(line, "/remote"));
    json_object_put(line);
    line = audited(s, "/v1/keys", CONFIGURED, "::1", 200);
    assert_false(s->response.is_refusal);
    assert_string_equal(text_at(line, "/key_name"), "admin_key_file");
    assert_null(at(line, "/about_key"));
    json_object_put(line);
    line = audited(s, join("/v1/libraries/", join(w.library, "/documents")), k.secret, NULL, 200); /* a read leaves none, one that its scope does not allow does */
    assert_null(line);
    struct key writes;
    make_key(s, KEY_WRITE, w.library, &writes);
    line = audited(s, join("/v1/libraries/", w.library), writes.secret, NULL, 403);
    assert_string_equal(text_at(line, "/library"), w.library);
    json_object_put(line);
    s->host.auth_on = false;
    server_renew_api(s);
    assert_null(audited(s, "/v1/keys", NULL, NULL, 200));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_route, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_nobody, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_lists, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_expiry, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_streams_end_with_their_key, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_bad_keys, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_idempotency_keys_do_not_meet, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_audit_lines, server_setup, server_teardown),
        cmocka_unit_test_setup_teardown(test_open_metrics, server_setup, server_teardown),
    };
    return cmocka_run_group_tests_name("api_access", tests, NULL, NULL);
}
