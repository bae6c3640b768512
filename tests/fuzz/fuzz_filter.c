/*
 * fuzz_filter.c - filters: an input is the JSON of one. Whatever it is, a search by it answers or says what is wrong, and its hits are those of the documents
 * that a list by the same filter has.
 */
#include "fuzz.h"

#include "../unit/api_fixture.h"

#include <stdio.h>
#include <string.h>

static struct server server;
static char library[64];

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static const char *const documents[] = {
        "{\"id\":\"a\",\"title\":\"T\",\"texts\":[\"x one\"],\"tags\":[\"t\"],\"metadata\":{\"n\":1,\"s\":\"v\",\"when\":\"2026-01-02T03:04:05Z\"}}",
        "{\"id\":\"b\",\"title\":\"U\",\"texts\":[\"x two\"],\"author\":\"Z\",\"metadata\":{\"n\":2.5,\"b\":true,\"deep\":{\"l\":[\"p\",\"q\"]}}}",
        "{\"id\":\"c\",\"title\":\"V\",\"texts\":[\"x three\"],\"metadata\":{\"n\":-3,\"s\":\"w\",\"b\":false}}"};
    (void)argc;
    (void)argv;
    server_start(&server);
    (void)make_library(&server, "a", "", library);
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++) {
        (void)expect(&server, 201, "POST", join(library, "/documents"), documents[i]);
    }
    return 0;
}

/* Makes the call; the status. */
static int ask(const char *method, const char *path, struct slice query, struct slice body) {
    char full[128];
    struct api_request r = {.method = slice_str(method), .query = query, .body = body, .content_length = (int64_t)body.len, .content_type = slice_str("application/json")};
    uint64_t most = 0;
    (void)snprintf(full, sizeof full, "%s%s", library, path);
    r.path = slice_str(full);
    api_response_reset(&server.response);
    if (!api_begin(server.api, &r, &server.response, &most)) {
        api_finish(server.api, &r, &server.response);
    }
    server_check_reply(&server, &r);
    return server.response.status;
}

static void percent_all(struct slice s, struct buf *out) {
    for (size_t i = 0; i < s.len; i++) {
        buf_printf(out, "%%%02x", s.data[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buf body = {0}, query = {0};
    buf_put_str(&body, "{\"query\":\"x\",\"mode\":\"lexical\",\"k\":10,\"filter\":");
    buf_put(&body, data, size);
    buf_put_str(&body, "}");
    int status = ask("POST", "/search", (struct slice){NULL, 0}, buf_slice(&body));
    FUZZ_CHECK(status == 200 || status == 400 || status == 422);
    size_t hits = status == 200 ? json_object_array_length(at(server.json, "/results")) : 0;
    buf_put_str(&query, "filter=");
    percent_all(slice_of(data, size), &query);
    int listed = ask("GET", "/documents", buf_slice(&query), (struct slice){NULL, 0});
    FUZZ_CHECK(listed == 200 || listed == 400 || listed == 422);
    /* A body can hold more than the one member that is meant ('1,"k":2'), and null or nothing is no filter: then there is nothing to compare. */
    if (status == 200 && listed == 200 && size > 2 && data[0] == '{' && data[size - 1] == '}') {
        FUZZ_CHECK(json_object_array_length(server.json) == hits);
    }
    buf_fini(&body);
    buf_fini(&query);
    return 0;
}
