/* test_api_stream.c - documents in and out as NDJSON, over a connection that is a script: what comes piece by piece, and how it ends. */
#include "api_fixture.h"

#include "store/compact.h"
#include "store/exchange.h"
#include "store/mirror.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NDJSON "application/x-ndjson"

struct script {
    const char *body; /* what the client sends, */
    size_t len;
    size_t at;
    size_t piece;                   /* so many bytes at a time */
    bool pauses;                    /* after each piece nothing is there for a while */
    bool paused;
    enum api_stream_read end;       /* and how it ends */
    bool full;                      /* no place is free */
    unsigned takes;                 /* writes until the client is gone; 0: it stays */
    unsigned writes;
    void (*between)(struct server *s, unsigned write); /* called with each write */
    struct server *server;
    struct buf out; /* what it got */
};

static bool script_begin(void *ctx, struct status *st) {
    const struct script *c = (const struct script *)ctx;
    return !c->full || status_set(st, STATUS_BUSY, "no place");
}

static enum api_stream_read script_read(void *ctx, struct buf *to, size_t most, int64_t wait_ms, struct status *st) {
    struct script *c = (struct script *)ctx;
    if (c->pauses && c->paused && wait_ms >= 0) {
        c->paused = false;
        return API_STREAM_NOTHING;
    }
    c->paused = true;
    size_t n = c->len - c->at < c->piece ? c->len - c->at : c->piece;
    n = n < most ? n : most;
    if (n == 0) {
        if (c->end == API_STREAM_GONE) {
            (void)status_set(st, STATUS_MALFORMED, "gone");
        }
        return c->end;
    }
    buf_put(to, c->body + c->at, n);
    c->at += n;
    return API_STREAM_BYTES;
}

static bool script_write(void *ctx, struct api_response *r, struct status *st) {
    struct script *c = (struct script *)ctx;
    c->writes++;
    if (c->between != NULL) {
        c->between(c->server, c->writes);
    }
    if (c->takes != 0 && c->writes > c->takes) {
        return status_set(st, STATUS_MALFORMED, "gone");
    }
    buf_put_slice(&c->out, buf_slice(&r->body));
    buf_reset(&r->body);
    return true;
}

/* What the client has in the end, ended by a NUL, in c->out; the status. */
static int run(struct server *s, const char *method, const char *path, const char *query, const char *type, struct script *c) {
    const struct api_stream stream = {.begin = script_begin, .read = script_read, .write = script_write, .ctx = c};
    struct api_request request = {.method = slice_str(method),
                                  .path = slice_str(path),
                                  .query = slice_str(query),
                                  .content_type = slice_str(type),
                                  .content_length = -1};
    uint64_t most = 0;
    c->server = s;
    c->len = c->len == 0 && c->body != NULL ? strlen(c->body) : c->len;
    c->piece = c->piece == 0 ? SIZE_MAX : c->piece;
    api_response_reset(&s->response);
    if (!api_begin(s->api, &request, &s->response, &most)) {
        assert_true(s->response.streams);
        api_stream(s->api, &request, &stream, &s->response);
    }
    buf_put_slice(&c->out, buf_slice(&s->response.body));
    buf_put_u8(&c->out, 0);
    assert_true(buf_ok(&c->out));
    return s->response.status;
}

static int stream_in(struct server *s, const char *library, const char *query, struct script *c) {
    return run(s, "POST", join(library, "/documents/stream"), query, NDJSON, c);
}

/* The lines of the reply, parsed: an array, which the caller puts. */
static struct json_object *lines_of(const struct script *c) {
    struct json_object *lines = json_object_new_array();
    for (const char *at_byte = (const char *)c->out.data; *at_byte != '\0';) {
        const char *end = strchr(at_byte, '\n');
        assert_non_null(end);
        struct json_tokener *t = json_tokener_new();
        struct json_object *line = json_tokener_parse_ex(t, at_byte, (int)(end - at_byte));
        assert_non_null(line);
        json_object_array_add(lines, line);
        json_tokener_free(t);
        at_byte = end + 1;
    }
    return lines;
}

static struct json_object *line_at(struct json_object *lines, size_t i) {
    assert_true(i < json_object_array_length(lines));
    return json_object_array_get_idx(lines, i);
}

static struct json_object *summary_of(struct json_object *lines) {
    return at(line_at(lines, json_object_array_length(lines) - 1), "/summary");
}

static void expect_line(struct json_object *lines, size_t i, int64_t number, const char *error_type) {
    struct json_object *line = line_at(lines, i);
    assert_int_equal(number_at(line, "/line"), number);
    assert_int_equal(json_object_get_boolean(at(line, "/success")), error_type == NULL);
    if (error_type != NULL) {
        assert_string_equal(text_at(line, "/error/error_type"), error_type);
    }
}

static int64_t documents_in(struct server *s, const char *library) {
    return number_at(expect(s, 200, "GET", join(library, "/statistics"), NULL), "/num_documents");
}

static void done(struct script *c, struct json_object *lines) {
    buf_fini(&c->out);
    json_object_put(lines);
}

#define FIVE \
    "{\"id\":\"a\",\"title\":\"t\",\"texts\":[\"one\",\"two\"]}\n" \
    "\r\n" \
    "{\"title\": }\n" \
    "{\"id\":\"b\",\"title\":7,\"texts\":[\"x\"]}\n" \
    "{\"id\":\"c\",\"title\":\"t\",\"texts\":[\"three\"]}"

/* Each line has its result and its number, however the body is cut. */
static void test_lines(void **state) {
    struct server *s = (struct server *)*state;
    static const size_t pieces[] = {1, 2, 7, 50, SIZE_MAX};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        for (int pauses = 0; pauses < 2; pauses++) {
            char library[64];
            (void)make_library(s, "l", "", library);
            struct script c = {.body = FIVE, .piece = pieces[i], .pauses = pauses == 1, .end = API_STREAM_END};
            assert_int_equal(stream_in(s, library, "", &c), 200);
            assert_string_equal(s->response.content_type, NDJSON);
            struct json_object *lines = lines_of(&c);
            assert_int_equal(json_object_array_length(lines), 5);
            expect_line(lines, 0, 1, NULL);
            expect_line(lines, 1, 3, "MalformedRequestError");
            expect_line(lines, 2, 4, "ValidationError");
            expect_line(lines, 3, 5, NULL);
            assert_string_equal(text_at(line_at(lines, 3), "/document_id"), "c");
            struct json_object *sum = summary_of(lines);
            assert_true(json_object_get_boolean(at(sum, "/complete")));
            assert_int_equal(number_at(sum, "/lines"), 5);
            assert_int_equal(number_at(sum, "/successful"), 2);
            assert_int_equal(number_at(sum, "/failed"), 2);
            assert_int_equal(number_at(sum, "/total_chunks_added"), 3);
            assert_int_equal(number_at(sum, "/lsn"), (int64_t)s->lsn);
            assert_false(has(sum, "/next_line"));
            done(&c, lines);
            assert_int_equal(documents_in(s, library), 2);
        }
    }
}

static void test_empty(void **state) {
    struct server *s = (struct server *)*state;
    char library[64];
    (void)make_library(s, "l", "", library);
    struct script c = {.body = "", .end = API_STREAM_END};
    assert_int_equal(stream_in(s, library, "", &c), 200);
    struct json_object *lines = lines_of(&c);
    assert_int_equal(json_object_array_length(lines), 1);
    assert_int_equal(number_at(summary_of(lines), "/total_requested"), 0);
    done(&c, lines);
}

/* Many lines go down together; one that stands alone does not wait. */
static void test_batches(void **state) {
    struct server *s = (struct server *)*state;
    char library[64];
    struct buf body = {0};
    (void)make_library(s, "l", "", library);
    for (int i = 0; i < 2500; i++) {
        buf_printf(&body, "{\"id\":\"d%d\",\"title\":\"t\",\"texts\":[\"word %d\"]}\n", i, i);
    }
    s->submits = 0;
    struct script c = {.body = (const char *)body.data, .len = body.len, .piece = 10000, .end = API_STREAM_END};
    assert_int_equal(stream_in(s, library, "", &c), 200);
    assert_int_equal(s->submits, 3);
    struct json_object *lines = lines_of(&c);
    assert_int_equal(json_object_array_length(lines), 2501);
    for (size_t i = 0; i < 2500; i++) {
        expect_line(lines, i, (int64_t)i + 1, NULL);
    }
    done(&c, lines);
    s->submits = 0;
    c = (struct script){.body = (const char *)body.data, .len = body.len, .piece = 10000, .pauses = true, .end = API_STREAM_END};
    assert_int_equal(stream_in(s, library, "results=failed", &c), 200);
    assert_true(s->submits > 10);
    lines = lines_of(&c);
    assert_true(json_object_array_length(lines) >= 2501);
    assert_int_equal(number_at(summary_of(lines), "/failed"), 2500);
    done(&c, lines);
    buf_fini(&body);
    assert_int_equal(documents_in(s, library), 2500);
}

/* A line beyond the limit is skipped to its end, however long it is. */
static void test_long_line(void **state) {
    struct server *s = (struct server *)*state;
    char library[64];
    struct buf body = {0};
    s->limits.max_body_bytes = 4096;
    server_renew_api(s);
    (void)make_library(s, "l", "", library);
    buf_put_str(&body, "{\"id\":\"a\",\"title\":\"t\",\"texts\":[\"one\"]}\n{\"title\":\"");
    for (int i = 0; i < 300000; i++) {
        buf_put_u8(&body, 'x');
    }
    buf_put_str(&body, "\"}\n{\"id\":\"b\",\"title\":\"t\",\"texts\":[\"two\"]}\n");
    static const size_t pieces[] = {1000, SIZE_MAX};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct script c = {.body = (const char *)body.data, .len = body.len, .piece = pieces[i], .end = API_STREAM_END};
        assert_int_equal(stream_in(s, library, "on_conflict=replace", &c), 200);
        struct json_object *lines = lines_of(&c);
        assert_int_equal(json_object_array_length(lines), 4);
        expect_line(lines, 0, 1, NULL);
        expect_line(lines, 1, 2, "PayloadTooLargeError");
        expect_line(lines, 2, 3, NULL);
        done(&c, lines);
    }
    struct script last = {.body = (const char *)body.data, .len = 200000, .end = API_STREAM_END}; /* ends within it */
    assert_int_equal(stream_in(s, library, "on_conflict=skip", &last), 200);
    struct json_object *lines = lines_of(&last);
    assert_int_equal(json_object_array_length(lines), 3);
    expect_line(lines, 1, 2, "PayloadTooLargeError");
    done(&last, lines);
    buf_fini(&body);
}

static void test_conflicts(void **state) {
    struct server *s = (struct server *)*state;
    static const struct {
        const char *query;
        const char *error;
        const char *mark;
        const char *text; /* of the document in the end */
    } rules[] = {{"", "ConflictError", NULL, "old"},
                 {"on_conflict=fail", "ConflictError", NULL, "old"},
                 {"on_conflict=skip", NULL, "/skipped", "old"},
                 {"on_conflict=replace", NULL, "/replaced", "newest"}};
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        char library[64];
        (void)make_library(s, "l", "", library);
        (void)expect(s, 201, "POST", join(library, "/documents"), "{\"id\":\"a\",\"title\":\"t\",\"texts\":[\"old\"],\"chunk_ids\":[\"k\"]}");
        struct script c = {.body = "{\"id\":\"a\",\"title\":\"t\",\"texts\":[\"new\"]}\n"
                                   "{\"id\":\"a\",\"title\":\"t\",\"texts\":[\"newest\"]}\n",
                           .end = API_STREAM_END};
        assert_int_equal(stream_in(s, library, rules[i].query, &c), 200);
        struct json_object *lines = lines_of(&c);
        for (size_t k = 0; k < 2; k++) {
            expect_line(lines, k, (int64_t)k + 1, rules[i].error);
            assert_true(rules[i].mark == NULL || has(line_at(lines, k), rules[i].mark));
        }
        done(&c, lines);
        (void)expect(s, 200, "GET", join(library, "/documents/a"), NULL);
        assert_string_equal(text_at(s->json, "/chunks/0/text"), rules[i].text);
    }
    /* A chunk's id that another document has is no document that is there already. */
    char library[64];
    (void)make_library(s, "l", "", library);
    (void)expect(s, 201, "POST", join(library, "/documents"), "{\"id\":\"a\",\"title\":\"t\",\"texts\":[\"x\"],\"chunk_ids\":[\"k\"]}");
    struct script c = {.body = "{\"id\":\"b\",\"title\":\"t\",\"texts\":[\"y\"],\"chunk_ids\":[\"k\"]}", .end = API_STREAM_END};
    assert_int_equal(stream_in(s, library, "on_conflict=skip", &c), 200);
    struct json_object *lines = lines_of(&c);
    expect_line(lines, 0, 1, "ConflictError");
    done(&c, lines);
}

/* Ends that are not the body's: the summary says where to go on, and nothing is there that has no result. */
static void test_ends(void **state) {
    struct server *s = (struct server *)*state;
    static const struct {
        enum api_stream_read end;
        const char *error;
    } ends[] = {{API_STREAM_STOP, "NotReadyError"}, {API_STREAM_SILENT, "MalformedRequestError"}};
    const char *body = "{\"id\":\"a\",\"title\":\"t\",\"texts\":[\"one\"]}\n{\"id\":\"b\",\"title\":\"t\",\"te";
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        char library[64];
        (void)make_library(s, "l", "", library);
        struct script c = {.body = body, .pauses = true, .end = ends[i].end};
        assert_int_equal(stream_in(s, library, "", &c), 200);
        struct json_object *lines = lines_of(&c);
        assert_int_equal(json_object_array_length(lines), 2);
        struct json_object *sum = summary_of(lines);
        assert_false(json_object_get_boolean(at(sum, "/complete")));
        assert_int_equal(number_at(sum, "/next_line"), 2);
        assert_string_equal(text_at(sum, "/error/error_type"), ends[i].error);
        assert_false(s->response.cut);
        done(&c, lines);
        assert_int_equal(documents_in(s, library), 1);
    }
    char library[64];
    (void)make_library(s, "l", "", library);
    struct script gone = {.body = body, .end = API_STREAM_GONE};
    (void)stream_in(s, library, "", &gone);
    assert_true(s->response.cut);
    buf_fini(&gone.out);
    struct script deaf = {.body = FIVE, .piece = 1, .pauses = true, .end = API_STREAM_END, .takes = 2};
    (void)stream_in(s, library, "", &deaf);
    assert_true(s->response.cut);
    buf_fini(&deaf.out);
}

/* Trouble of the server's own ends the stream: every further line would meet it. */
static void test_server_trouble(void **state) {
    struct server *s = (struct server *)*state;
    char library[64];
    (void)make_library(s, "l", "", library);
    (void)status_set(&s->submit_fails, STATUS_BUSY, "no acknowledgement");
    struct script c = {.body = FIVE, .end = API_STREAM_END};
    assert_int_equal(stream_in(s, library, "", &c), 200);
    struct json_object *lines = lines_of(&c);
    assert_int_equal(json_object_array_length(lines), 1); /* nothing is known of any */
    assert_int_equal(number_at(summary_of(lines), "/next_line"), 1);
    assert_string_equal(text_at(summary_of(lines), "/error/error_type"), "OverloadedError");
    done(&c, lines);
    status_clear(&s->submit_fails);
    (void)status_set(&s->op_refused, STATUS_NO_SPACE, "full");
    c = (struct script){.body = FIVE, .end = API_STREAM_END};
    assert_int_equal(stream_in(s, library, "", &c), 200);
    lines = lines_of(&c);
    expect_line(lines, 0, 1, "InsufficientStorageError");
    assert_int_equal(number_at(summary_of(lines), "/next_line"), 1);
    assert_string_equal(text_at(summary_of(lines), "/error/error_type"), "InsufficientStorageError");
    done(&c, lines);
}

/* What is refused before anything is read is an ordinary reply. */
static void test_refusals(void **state) {
    struct server *s = (struct server *)*state;
    char library[64];
    (void)make_library(s, "l", "", library);
    struct script c = {.body = FIVE, .end = API_STREAM_END, .full = true};
    assert_int_equal(stream_in(s, library, "", &c), 503);
    assert_int_equal(c.writes, 0);
    buf_fini(&c.out);
    static const struct {
        const char *method, *path, *query, *type;
        int status;
    } wrong[] = {{"POST", "/v1/libraries/" NOWHERE "/documents/stream", "", NDJSON, 404},
                 {"POST", NULL, "", "application/json", 415},
                 {"POST", NULL, "", "", 415},
                 {"POST", NULL, "on_conflict=perhaps", NDJSON, 422},
                 {"POST", NULL, "results=none", NDJSON, 422},
                 {"GET", "/v1/libraries/" NOWHERE "/export", "", "", 404},
                 {"GET", NULL, "after=", "", 422},
                 {"GET", NULL, "after=nobody", "", 404},
                 {"GET", NULL, "limit=3", "", 422}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const char *path = wrong[i].path;
        path = path != NULL ? path : join(library, wrong[i].method[0] == 'G' ? "/export" : "/documents/stream");
        struct script each = {.body = FIVE, .end = API_STREAM_END};
        assert_int_equal(run(s, wrong[i].method, path, wrong[i].query, wrong[i].type, &each), wrong[i].status);
        assert_int_equal(each.writes, 0);
        buf_fini(&each.out);
    }
    assert_int_equal(documents_in(s, library), 0);
}

/* --- export -------------------------------------------------------------------------------------------------------------- */

static int export_all(struct server *s, const char *library, const char *query, struct script *c) {
    return run(s, "GET", join(library, "/export"), query, "", c);
}

/* What comes out goes in again, and comes out the same. */
static void test_round_trip(void **state) {
    struct server *s = (struct server *)*state;
    static const char *const libraries[] = {"", ",\"embedding_model\":\"none\""};
    static const char *const bodies[] = {
        "{\"id\":\"a\",\"title\":\"t\",\"created_at\":\"2020-02-29T01:02:03.000456Z\",\"author\":\"Ida\",\"source_url\":\"u\",\"tags\":[\"x\",\"y\"],\"metadata\":{\"n\":{\"m\":[1,null]}},"
        "\"document_type\":\"note\",\"texts\":[\"one\",\"two\"],\"chunk_ids\":[\"k\",null],\"chunk_metadata\":[{\"page_number\":3,\"p\":\"q\"},null]}\n"
        "{\"title\":\"made id\",\"text\":\"Some words. And more of them.\",\"chunking\":{\"max_tokens\":3,\"overlap\":0}}\n",
        "{\"id\":\"a\",\"title\":\"t\",\"texts\":[\"one\",\"two\"],\"embeddings\":[[1,0],[0.6,0.8]]}\n"
        "{\"id\":\"b\",\"title\":\"t\",\"chunks\":[{\"text\":\"one\",\"embedding\":[0,1],\"id\":\"own\"}]}\n"};
    for (size_t i = 0; i < 2; i++) {
        char first[64], second[64];
        (void)make_library(s, "l", libraries[i], first);
        (void)make_library(s, "l", libraries[i], second);
        struct script in = {.body = bodies[i], .end = API_STREAM_END};
        assert_int_equal(stream_in(s, first, "results=failed", &in), 200);
        assert_non_null(strstr((const char *)in.out.data, "\"failed\":0"));
        struct script out = {0};
        assert_int_equal(export_all(s, first, "", &out), 200);
        struct script again = {.body = (const char *)out.out.data, .end = API_STREAM_END};
        assert_int_equal(stream_in(s, second, "results=failed", &again), 200);
        assert_non_null(strstr((const char *)again.out.data, "\"successful\":2,\"failed\":0"));
        struct script copy = {0};
        assert_int_equal(export_all(s, second, "", &copy), 200);
        assert_string_equal((const char *)copy.out.data, (const char *)out.out.data);
        assert_true((strstr((const char *)out.out.data, "\"embeddings\"") != NULL) == (i == 1));
        assert_true((strstr((const char *)out.out.data, "\"created_at\":\"2020-02-29T01:02:03.000456Z\"") != NULL) == (i == 0));
        buf_fini(&in.out);
        buf_fini(&out.out);
        buf_fini(&again.out);
        buf_fini(&copy.out);
        struct script vectors = {0};
        assert_int_equal(export_all(s, first, "include_embeddings=true&encoding=base64", &vectors), 200);
        assert_non_null(strstr((const char *)vectors.out.data, "\"embeddings\":[\""));
        buf_fini(&vectors.out);
    }
}

static void fill(struct server *s, const char *library, int count) {
    struct buf body = {0};
    char words[600];
    memset(words, 'w', sizeof words - 1);
    words[sizeof words - 1] = '\0';
    for (int i = 0; i < count; i++) {
        buf_printf(&body, "{\"id\":\"d%d\",\"title\":\"t\",\"texts\":[\"%s %d\"]}\n", i, words, i);
    }
    struct script c = {.body = (const char *)body.data, .len = body.len, .end = API_STREAM_END};
    assert_int_equal(stream_in(s, library, "results=failed", &c), 200);
    buf_fini(&c.out);
    buf_fini(&body);
}

static int64_t id_number(struct json_object *line) {
    return strtoll(text_at(line, "/id") + 1, NULL, 10);
}

static void test_after(void **state) {
    struct server *s = (struct server *)*state;
    char library[64];
    (void)make_library(s, "l", "", library);
    fill(s, library, 3000);
    struct script all = {0};
    assert_int_equal(export_all(s, library, "", &all), 200);
    assert_true(all.writes > 3); /* in pieces */
    char lsn[32];
    assert_true(header(s, "Quire-LSN", lsn, sizeof lsn));
    assert_int_equal(strtoll(lsn, NULL, 10), (int64_t)s->lsn);
    struct json_object *lines = lines_of(&all);
    assert_int_equal(json_object_array_length(lines), 3000);
    for (size_t i = 0; i < 3000; i++) {
        assert_int_equal(id_number(line_at(lines, i)), (int64_t)i);
    }
    done(&all, lines);
    struct script rest = {0};
    assert_int_equal(export_all(s, library, "after=d2989", &rest), 200);
    lines = lines_of(&rest);
    assert_int_equal(json_object_array_length(lines), 10);
    assert_int_equal(id_number(line_at(lines, 0)), 2990);
    done(&rest, lines);
    struct script none = {0};
    assert_int_equal(export_all(s, library, "after=d2999", &none), 200);
    assert_int_equal(none.out.len, 1);
    buf_fini(&none.out);
    struct script head = {0};
    assert_int_equal(run(s, "HEAD", join(library, "/export"), "", "", &head), 200);
    assert_true(header(s, "Quire-LSN", lsn, sizeof lsn));
    assert_int_equal(head.out.len, 1);
    buf_fini(&head.out);
}

static char changed_library[64];

static struct uuid changed_id(void) {
    struct uuid id;
    assert_true(uuid_parse(slice_str(changed_library + strlen("/v1/libraries/")), &id));
    return id;
}

/* Frees it. */
static void commit_if_good(struct server *s, struct buf *bytes) {
    struct op op;
    struct op_effect effect = {0};
    struct status st = {0};
    assert_true(op_decode(buf_slice(bytes), &s->limits, &op, &st));
    if (catalog_check(s->catalog, &op, &st)) {
        assert_true(catalog_reserve(s->catalog, &op, &st));
        catalog_apply(s->catalog, &op, ++s->lsn, 0, NULL, &effect);
    }
    buf_fini(bytes);
}

static void publish(struct server *s) {
    catalog_publish(s->catalog, s->lsn, 1000000, NULL, NULL);
}

static void delete_document(struct server *s, const char *name) {
    struct uuid library = changed_id();
    struct buf id = {0}, bytes = {0};
    assert_true(item_id_encode(slice_str(name), &id));
    op_encode_document_delete(&bytes, &library, buf_slice(&id));
    commit_if_good(s, &bytes);
    buf_fini(&id);
}

/* While the first pieces are sent, what was shown and what was not is deleted. */
static void change_meanwhile(struct server *s, unsigned write) {
    for (int i = 0; write <= 2 && i < 3000; i += write == 1 ? 2 : 5) {
        char text[16];
        (void)snprintf(text, sizeof text, "d%d", i);
        delete_document(s, text);
    }
    publish(s);
}

static void test_export_while_deleting(void **state) {
    struct server *s = (struct server *)*state;
    bool seen[3000] = {false};
    (void)make_library(s, "l", "", changed_library);
    fill(s, changed_library, 3000);
    struct script c = {.between = change_meanwhile};
    assert_int_equal(export_all(s, changed_library, "", &c), 200);
    struct json_object *lines = lines_of(&c);
    for (size_t i = 0; i < json_object_array_length(lines); i++) {
        int64_t n = id_number(line_at(lines, i));
        assert_false(seen[n]); /* none twice */
        seen[n] = true;
    }
    for (size_t i = 0; i < 3000; i++) {
        assert_true(seen[i] || i % 2 == 0 || i % 5 == 0); /* none missing that was there all the time */
    }
    done(&c, lines);
}

/* --- an export, and another arena --- */

static void replace_document(struct server *s, const char *name) {
    struct uuid library = changed_id();
    struct buf id = {0}, bytes = {0};
    assert_true(item_id_encode(slice_str(name), &id));
    const struct op_document d = {
        .mode = PUT_REPLACE, .id = buf_slice(&id), .title = slice_str("t"), .document_type = slice_str("text"), .num_chunks = 1};
    const struct op_chunk chunk = {.id = buf_slice(&id), .text = slice_str("another"), .page_number = -1};
    op_encode_document(&bytes, &library, &d);
    op_encode_chunk(&bytes, &chunk);
    op_encode_vectors(&bytes, NULL, 0, 0);
    commit_if_good(s, &bytes);
    buf_fini(&id);
}

static void compact(struct server *s) {
    struct uuid id = changed_id();
    struct status st = {0};
    struct compaction *k = NULL;
    struct library *lib = catalog_acquire(s->catalog, &id);
    bool more = false;
    assert_non_null(lib);
    assert_true(compaction_new(s->catalog, lib, &k, &st) && compaction_begin(k, &st));
    assert_true(compaction_step(k, 10000, &more, &st) && !more && compaction_switch(k, &st));
    publish(s);
    compaction_end(k);
    catalog_release(s->catalog, lib);
}

static int64_t last_shown; /* in the first piece */

/* The number of the document that the piece which is just sent ends with. */
static int64_t last_in_piece(const struct server *s) {
    struct slice body = buf_slice(&s->response.body);
    int64_t found = -1;
    for (size_t i = 0; i + 8 < body.len; i++) {
        if (memcmp(body.data + i, "{\"id\":\"d", 8) == 0) {
            found = strtoll((const char *)body.data + i + 8, NULL, 10);
        }
    }
    assert_true(found > 10);
    return found;
}

static void replace_shown(struct server *s, unsigned write) {
    char name[32];
    if (write == 1) {
        last_shown = last_in_piece(s);
        (void)snprintf(name, sizeof name, "d%" PRId64, last_shown);
        replace_document(s, name);
        publish(s);
        compact(s);
    }
}

static void delete_shown(struct server *s, unsigned write) {
    char name[32];
    if (write == 1) {
        last_shown = last_in_piece(s);
        for (int64_t i = last_shown - 3; i <= last_shown; i++) {
            (void)snprintf(name, sizeof name, "d%" PRId64, i);
            delete_document(s, name);
        }
        publish(s);
        compact(s);
    }
}

/* All by one record of the log, so that they have one LSN. */
static void fill_at_once(struct server *s, const char *library, int count) {
    struct buf body = {0};
    buf_put_str(&body, "{\"documents\":[");
    for (int i = 0; i < count; i++) {
        buf_printf(&body, "%s{\"id\":\"d%d\",\"title\":\"t\",\"texts\":[\"%0700d\"]}", i > 0 ? "," : "", i, i);
    }
    buf_put_str(&body, "]}");
    const struct call c = {.method = "POST",
                           .path = join(library, "/documents/batch"),
                           .body = (const char *)body.data,
                           .body_len = body.len,
                           .idempotency_key = "once"};
    assert_int_equal(call(s, &c), 200);
    buf_fini(&body);
}

/* Rows have other numbers in the middle of an export, and what it showed last is not where it was. All the others come, once. */
static void export_across_arenas(struct server *s, bool at_once, bool replaced) {
    enum { COUNT = 990 };
    unsigned seen[COUNT] = {0};
    (void)make_library(s, "l", "", changed_library);
    if (at_once) {
        fill_at_once(s, changed_library, COUNT);
    } else {
        fill(s, changed_library, COUNT);
    }
    struct script c = {.between = replaced ? replace_shown : delete_shown};
    assert_int_equal(export_all(s, changed_library, "", &c), 200);
    struct json_object *lines = lines_of(&c);
    assert_true(c.writes > 1);
    for (size_t i = 0; i < json_object_array_length(lines); i++) {
        seen[id_number(line_at(lines, i))]++;
    }
    for (int64_t i = 0; i < COUNT; i++) {
        assert_true(seen[i] == 1 || (replaced && i == last_shown && seen[i] == 2)); /* as it was, and as it is */
    }
    done(&c, lines);
}

static void test_export_across_arenas(void **state) {
    struct server *s = (struct server *)*state;
    export_across_arenas(s, false, true);
    export_across_arenas(s, false, false);
    export_across_arenas(s, true, true);
    export_across_arenas(s, true, false);
}

static void begin_exchange(struct server *s, struct library *lib) {
    struct library_definition d;
    struct status st = {0};
    struct buf op = {0};
    const struct embedder *to = &s->models.model[1];
    assert_true(library_present_definition(lib, &lib->view, &d, &st));
    d.exchange = (struct library_exchange){.state = EXCHANGE_BUILDING, .since = 10, .model = slice_str("twin"), .task = {{7}},
                                           .dimension = to->dimension, .fingerprint = to->fingerprint};
    op_encode_library_model(&op, &lib->id, &d, false);
    commit_if_good(s, &op);
    publish(s);
}

static void embed_all(struct server *s) {
    struct library **libraries = NULL;
    size_t count = 0;
    struct status st = {0};
    assert_true(catalog_acquire_linkable(s->catalog, &libraries, &count, &st));
    for (size_t i = 0; i < count; i++) {
        for (size_t done = 1; done > 0;) {
            assert_true(backlog_embed_some(libraries[i], &s->models, 100, &done, &st));
        }
        catalog_release(s->catalog, libraries[i]);
    }
    free(libraries);
}

static void get_another_model(struct server *s, unsigned write) {
    struct uuid id = changed_id();
    struct status st = {0};
    struct model_exchange *x = NULL;
    struct slice op;
    bool more = true, goes_on = false;
    if (write != 1) {
        return;
    }
    struct library *lib = catalog_acquire(s->catalog, &id);
    begin_exchange(s, lib);
    assert_true(exchange_new(s->catalog, lib, false, &x, &st) && exchange_begin(x, &st));
    assert_true(exchange_step(x, 10000, &more, &st) && !more);
    embed_all(s);
    assert_true(exchange_prepare(x, 20, &op, &st));
    lib = exchange_switch(x, ++s->lsn, &goes_on);
    publish(s);
    exchange_end(x, false);
    exchange_free(x);
    catalog_release(s->catalog, lib);
}

/* Texts are the same under any model; vectors of two would be taken for those of one. */
static void test_export_beside_an_exchange(void **state) {
    struct server *s = (struct server *)*state;
    s->models.model[1] = s->models.model[0];
    memcpy(s->models.model[1].name, "twin", sizeof "twin");
    s->models.model[1].fingerprint++;
    s->models.count = 2;
    for (int vectors = 0; vectors < 2; vectors++) {
        (void)make_library(s, "l", "", changed_library);
        fill(s, changed_library, 990);
        struct script c = {.between = get_another_model};
        assert_int_equal(export_all(s, changed_library, vectors ? "include_embeddings=true" : "", &c), 200);
        assert_int_equal(s->response.cut, vectors == 1);
        buf_fini(&c.out);
    }
    s->models.count = 1;
}

static unsigned drop_with; /* which write */

static void drop_library(struct server *s, unsigned write) {
    struct uuid library = changed_id();
    struct buf bytes = {0};
    if (write == drop_with) {
        op_encode_library_delete(&bytes, &library);
        commit_if_good(s, &bytes);
        publish(s);
    }
}

/* An export that cannot go on is cut, so that nobody takes it for whole; a stream says it. */
static void test_library_goes(void **state) {
    struct server *s = (struct server *)*state;
    (void)make_library(s, "l", "", changed_library);
    fill(s, changed_library, 3000);
    drop_with = 1;
    struct script c = {.between = drop_library};
    assert_int_equal(export_all(s, changed_library, "", &c), 200);
    assert_true(s->response.cut);
    buf_fini(&c.out);
    (void)make_library(s, "l", "", changed_library);
    struct script in = {.body = FIVE, .piece = 50, .pauses = true, .end = API_STREAM_END, .between = drop_library};
    assert_int_equal(stream_in(s, changed_library, "", &in), 200);
    struct json_object *lines = lines_of(&in);
    assert_int_equal(json_object_array_length(lines), 2); /* not each further line meets it */
    expect_line(lines, 0, 1, "LibraryNotFoundError");
    assert_false(json_object_get_boolean(at(summary_of(lines), "/complete")));
    assert_string_equal(text_at(summary_of(lines), "/error/error_type"), "LibraryNotFoundError");
    done(&in, lines);
}

/* The second line does not go with the first, so that is committed, and then nothing goes on: the second one is the first to be sent again. */
static void test_next_line_of_one_that_waits(void **state) {
    struct server *s = (struct server *)*state;
    (void)make_library(s, "l", "", changed_library);
    s->limits.worker_memory_bytes = 4 * 384 * 4; /* room for the vector of one chunk */
    drop_with = 2;
    struct script in = {.body = "{\"title\":\"t\",\"texts\":[\"a\"]}\n{\"title\":\"t\",\"texts\":[\"b\"]}\n", .end = API_STREAM_END, .between = drop_library};
    assert_int_equal(stream_in(s, changed_library, "", &in), 200);
    struct json_object *lines = lines_of(&in);
    expect_line(lines, 0, 1, NULL);
    assert_int_equal(json_object_array_length(lines), 2);
    assert_int_equal(number_at(summary_of(lines), "/next_line"), 2);
    assert_string_equal(text_at(summary_of(lines), "/error/error_type"), "LibraryNotFoundError");
    done(&in, lines);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, server_setup, server_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_lines),    TEST(test_empty),      TEST(test_batches),        TEST(test_long_line),
        TEST(test_conflicts), TEST(test_ends),      TEST(test_server_trouble), TEST(test_refusals),
        TEST(test_round_trip), TEST(test_after),    TEST(test_export_while_deleting), TEST(test_library_goes),
        TEST(test_export_across_arenas), TEST(test_next_line_of_one_that_waits),
        TEST(test_export_beside_an_exchange),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
