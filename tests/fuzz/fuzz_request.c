/*
 * fuzz_request.c - requests as nginx hands them over, FastCGI's parameters and the body, through the whole of the api and a catalog.
 *
 * An input is text: the first line is method, path and query; then header lines by a letter (t Content-Type, a Authorization, k X-API-Key, r request id, i
 * Idempotency-Key, m If-Match, n If-None-Match, h Host, l a Content-Length that need not be true), an empty line, the body. "@" in the path stands for a library with
 * two documents. The fixture holds each reply against the description, so an undescribed reply counts as found, too.
 */
#include "fuzz.h"

#include "../unit/api_fixture.h"

#include <string.h>

enum { RENEW_EVERY = 100, PATH_ROOM = 4096 };

static struct server server;
static char library[64];
static unsigned runs;

static void renew(void) {
    if (runs > 0) {
        server_stop(&server);
    }
    server_start(&server);
    (void)make_library(&server, "a", "", library);
    (void)expect(&server, 201, "POST", join(library, "/documents"),
                 "{\"id\":\"d\",\"title\":\"T\",\"texts\":[\"bread rises slowly\",\"steam makes the crust\"],\"chunk_ids\":[\"c1\",\"c2\"],"
                 "\"tags\":[\"x\"],\"metadata\":{\"n\":1,\"s\":\"v\",\"b\":true,\"deep\":{\"l\":[1,\"two\"]}}}");
    (void)expect(&server, 201, "POST", join(library, "/documents"), "{\"title\":\"U\",\"texts\":[\"a pan wants oil\"]}");
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    return 0;
}

/* The path with the library in place of "@". */
static struct slice fill_in(struct slice path, char out[PATH_ROOM]) {
    size_t len = 0;
    for (size_t i = 0; i < path.len && len < PATH_ROOM - sizeof library; i++) {
        if (path.data[i] == '@') {
            const char *id = library + sizeof "/v1/libraries/" - 1;
            memcpy(out + len, id, strlen(id));
            len += strlen(id);
        } else {
            out[len++] = (char)path.data[i];
        }
    }
    return slice_of(out, len);
}

static void read_headers(struct slice *in, struct api_request *r) {
    struct slice line;
    while (in->len > 0 && (line = fuzz_until(in, '\n')).len > 0) {
        uint8_t which = fuzz_byte(&line);
        struct slice *to = which == 't'   ? &r->content_type
                           : which == 'a' ? &r->authorization
                           : which == 'k' ? &r->x_api_key
                           : which == 'r' ? &r->request_id
                           : which == 'i' ? &r->idempotency_key
                           : which == 'm' ? &r->if_match
                           : which == 'n' ? &r->if_none_match
                           : which == 'h' ? &r->host
                           : which == 'o' ? &r->origin
                           : which == 'c' ? &r->cors_method
                                          : NULL;
        if (to != NULL) {
            *to = line;
        } else if (which == 'l') {
            r->content_length = (int64_t)line.len * INT64_C(1000003);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char path[PATH_ROOM];
    if (runs++ % RENEW_EVERY == 0) {
        runs--;
        renew();
        runs++;
    }
    struct slice in = slice_of(data, size);
    struct slice line = fuzz_until(&in, '\n');
    struct api_request r = {.method = fuzz_until(&line, ' '), .content_length = -1, .content_type = slice_str("application/json")};
    r.path = fill_in(fuzz_until(&line, '?'), path);
    r.query = line;
    read_headers(&in, &r);
    if (r.content_length < 0 && in.len > 0) {
        r.content_length = (int64_t)in.len;
    }
    uint64_t most = 0;
    api_response_reset(&server.response);
    if (!api_begin(server.api, &r, &server.response, &most)) {
        r.body = in.len <= most ? in : slice_of(in.data, (size_t)most);
        api_finish(server.api, &r, &server.response);
    }
    server_check_reply(&server, &r);
    return 0;
}
