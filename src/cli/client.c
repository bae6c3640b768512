/* client.c - see client.h. */
#include "cli/client.h"

#include "base/clock.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <time.h>

#define CLIENT_MAX_REPLY (1024L * 1024 * 1024)
#define CLIENT_RETRY_SECONDS 60
#define CLIENT_CONNECT_MS 10000L
#define CLIENT_STILL_SECONDS 120L

struct client {
    CURL *curl;
    struct curl_slist *headers;
    struct curl_slist *connect_to;
    char url[512];
    char error[CURL_ERROR_SIZE];
    bool keyed;    /* it sends a key */
    bool answered; /* once: a server that then falls silent is worth waiting for, one that never spoke is not */
};

void client_options_from_environment(struct client_options *options) {
    if (options->url == NULL)
        options->url = getenv("QUIRE_URL");
    if (options->url == NULL || options->url[0] == '\0')
        options->url = "https://127.0.0.1:8443";
    if (options->key == NULL)
        options->key = getenv("QUIRE_KEY");
    if (options->cacert == NULL)
        options->cacert = getenv("QUIRE_CACERT");
    if (options->timeout_ms == 0)
        options->timeout_ms = 120000;
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx) {
    struct client_reply *reply = ctx;
    size_t len = size * count;
    if (reply->body.len + len > (size_t)CLIENT_MAX_REPLY)
        return 0;
    buf_put(&reply->body, data, len);
    return buf_ok(&reply->body) ? len : 0;
}

/* Link: </v1/libraries?cursor=x>; rel="next" */
static void take_link(struct client_reply *reply, const char *value, size_t len) {
    const char *open = memchr(value, '<', len);
    if (open == NULL)
        return;
    const char *close = memchr(open, '>', len - (size_t)(open - value));
    if (close == NULL)
        return;
    size_t rest = len - (size_t)(close - value);
    if (memmem(close, rest, "next", 4) == NULL)
        return;
    size_t path = (size_t)(close - open - 1);
    if (path >= sizeof reply->next || open[1] != '/')
        return;
    memcpy(reply->next, open + 1, path);
    reply->next[path] = '\0';
}

static size_t on_header(char *data, size_t size, size_t count, void *ctx) {
    struct client_reply *reply = ctx;
    size_t len = size * count;
    if (len > 5 && strncasecmp(data, "link:", 5) == 0)
        take_link(reply, data + 5, len - 5);
    if (len > 12 && strncasecmp(data, "retry-after:", 12) == 0)
        reply->retry_after = strtol(data + 12, NULL, 10);
    return len;
}

static bool set_up(struct client *c, const struct client_options *options) {
    CURL *curl = c->curl;
    bool ok = curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, c->error) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, options->timeout_ms) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CLIENT_CONNECT_MS) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_PROXY, "") == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK;
    if (options->cacert != NULL && options->cacert[0] != '\0')
        ok = ok && curl_easy_setopt(curl, CURLOPT_CAINFO, options->cacert) == CURLE_OK;
    ok = ok && curl_easy_setopt(curl, CURLOPT_HTTPHEADER, c->headers) == CURLE_OK;
    if (ok && options->connect_to != NULL) {
        c->connect_to = curl_slist_append(NULL, options->connect_to);
        ok = c->connect_to != NULL && curl_easy_setopt(curl, CURLOPT_CONNECT_TO, c->connect_to) == CURLE_OK;
    }
    return ok;
}

static bool add_header(struct client *c, const char *line) {
    struct curl_slist *longer = curl_slist_append(c->headers, line);
    if (longer == NULL)
        return false;
    c->headers = longer;
    return true;
}

bool client_new(const struct client_options *options, struct client **ret, struct status *st) {
    bool ok = false;
    struct buf authorization;
    buf_init(&authorization);
    struct client *c = calloc(1, sizeof *c);
    if (c == NULL)
        return status_no_memory(st);
    size_t len = strlen(options->url);
    while (len > 0 && options->url[len - 1] == '/')
        len--;
    if (len == 0 || len >= sizeof c->url) {
        status_set(st, STATUS_INVALID, "'%s' is no URL of a server", options->url);
        goto out;
    }
    memcpy(c->url, options->url, len);
    c->curl = curl_easy_init();
    /* Expect: 100-continue would cost a round trip a batch. */
    bool headers =
        add_header(c, "Expect:") && add_header(c, "Content-Type: application/json") && add_header(c, "User-Agent: quire");
    if (headers && options->key != NULL && options->key[0] != '\0') {
        c->keyed = true;
        buf_printf(&authorization, "Authorization: Bearer %s", options->key);
        buf_put_u8(&authorization, 0);
        headers = buf_ok(&authorization) && add_header(c, (const char *)authorization.data);
    }
    if (c->curl == NULL || !headers || !set_up(c, options)) {
        status_set(st, STATUS_INTERNAL, "libcurl could not be set up");
        goto out;
    }
    *ret = c;
    c = NULL;
    ok = true;
out:
    buf_fini(&authorization);
    client_free(c);
    return ok;
}

void client_free(struct client *c) {
    if (c == NULL)
        return;
    if (c->curl != NULL)
        curl_easy_cleanup(c->curl);
    curl_slist_free_all(c->headers);
    curl_slist_free_all(c->connect_to);
    free(c);
}

void client_reply_fini(struct client_reply *r) {
    if (r->json != NULL)
        json_object_put(r->json);
    buf_fini(&r->body);
    *r = (struct client_reply){0};
}

static const char *help_for(CURLcode code) {
    switch (code) {
    case CURLE_COULDNT_CONNECT:
        return " (is the server running, and is QUIRE_URL right?)";
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return " (set QUIRE_CACERT to the certificate of a server that signs its own)";
    default:
        return "";
    }
}

bool client_request(struct client *c, const char *method, const char *path, struct slice body, struct client_reply *ret,
                    struct status *st) {
    struct client_reply reply = {.retry_after = -1};
    struct buf url;
    bool ok = false;
    buf_init(&reply.body);
    buf_init(&url);
    buf_put_str(&url, c->url);
    buf_put_str(&url, path);
    buf_put_u8(&url, 0);
    if (!buf_check(&url, st))
        goto out;
    c->error[0] = '\0';
    curl_easy_setopt(c->curl, CURLOPT_URL, (const char *)url.data);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, &reply);
    curl_easy_setopt(c->curl, CURLOPT_HEADERDATA, &reply);
    curl_easy_setopt(c->curl, CURLOPT_HTTPGET, 1L);
    if (body.len > 0 || strcmp(method, "POST") == 0) {
        curl_easy_setopt(c->curl, CURLOPT_POST, 1L);
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body.len > 0 ? (const char *)body.data : "");
    }
    curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
    CURLcode code = curl_easy_perform(c->curl);
    if (code != CURLE_OK) {
        status_set(st, STATUS_IO, "%s: %s%s", c->url, c->error[0] != '\0' ? c->error : curl_easy_strerror(code), help_for(code));
        goto out;
    }
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &reply.status);
    c->answered = true;
    if (reply.body.len > 0) {
        buf_put_u8(&reply.body, 0);
        if (!buf_check(&reply.body, st))
            goto out;
        reply.body.len--;
        reply.json = json_tokener_parse((const char *)reply.body.data);
    }
    *ret = reply;
    reply = (struct client_reply){0};
    ok = true;
out:
    buf_fini(&url);
    client_reply_fini(&reply);
    return ok;
}

static const char *text_of(struct json_object *object, const char *key) {
    struct json_object *value;
    if (object != NULL && json_object_object_get_ex(object, key, &value) && json_object_is_type(value, json_type_string))
        return json_object_get_string(value);
    return NULL;
}

static enum status_code code_of(long http) {
    switch (http) {
    case 401:
        return STATUS_UNAUTHENTICATED;
    case 403:
        return STATUS_DENIED;
    case 404:
        return STATUS_NOT_FOUND;
    case 409:
        return STATUS_CONFLICT;
    case 412:
        return STATUS_PRECONDITION;
    case 507:
        return STATUS_NO_SPACE;
    default:
        return http == 429 || http >= 500 ? STATUS_IO : STATUS_INVALID;
    }
}

/* "/name: must not be empty; /foo: is no member that is known here" */
static bool list_errors(struct json_object *errors, struct buf *out) {
    size_t count = json_object_is_type(errors, json_type_array) ? json_object_array_length(errors) : 0;
    for (size_t i = 0; i < count; i++) {
        struct json_object *error = json_object_array_get_idx(errors, i);
        const char *pointer = text_of(error, "pointer"), *detail = text_of(error, "detail");
        buf_printf(out, "%s%s%s%s", i > 0 ? "; " : "", pointer != NULL ? pointer : "", pointer != NULL && pointer[0] != '\0' ? ": " : "", detail != NULL ? detail : "");
    }
    buf_put_u8(out, 0);
    return count > 0 && buf_ok(out);
}

/* The server's words of an error reply: all of "errors" where there are some, which say more than "detail" and repeat it, else "detail". */
void client_reply_error(const struct client *c, const struct client_reply *r, struct status *st) {
    const char *detail = text_of(r->json, "detail");
    struct json_object *errors = NULL;
    struct buf listed = {0};
    if (r->status == 401) {
        (void)status_set(st, STATUS_UNAUTHENTICATED, c->keyed ? "the server does not take this API key: it is wrong, revoked or past its time. Look at QUIRE_KEY (or --key)"
                                                              : "this server wants an API key: put one into QUIRE_KEY (`quire help key create` tells how one is made)");
    } else if (detail == NULL) {
        (void)status_set(st, code_of(r->status), "the server answered %ld", r->status);
    } else {
        bool more = json_object_object_get_ex(r->json, "errors", &errors) && list_errors(errors, &listed);
        (void)status_set(st, code_of(r->status), "%s", more ? (const char *)listed.data : detail);
    }
    buf_fini(&listed);
}

/* --- streams --- */

struct streaming {
    struct client *client;
    const struct client_stream *stream;
    struct client_reply refusal; /* what came in place of a 200 */
    bool stopped;                /* by stream->write */
};

static size_t on_stream_read(char *to, size_t size, size_t count, void *ctx) {
    struct streaming *s = ctx;
    return s->stream->read(s->stream->ctx, to, size * count);
}

static size_t on_stream_write(char *data, size_t size, size_t count, void *ctx) {
    struct streaming *s = ctx;
    long status = 0;
    curl_easy_getinfo(s->client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        return on_body(data, size, count, &s->refusal);
    s->stopped = !s->stream->write(s->stream->ctx, data, size * count);
    return s->stopped ? 0 : size * count;
}

/* The client's headers, but for the type of the body. */
static bool stream_headers(struct client *c, struct curl_slist **ret) {
    struct curl_slist *longer = NULL;
    for (const struct curl_slist *h = c->headers; h != NULL; h = h->next) {
        const char *line = strncasecmp(h->data, "content-type:", 13) == 0 ? "Content-Type: application/x-ndjson" : h->data;
        longer = curl_slist_append(*ret, line);
        if (longer == NULL)
            return false;
        *ret = longer;
    }
    return true;
}

/* HTTP/1.1: an upload by HTTP/2 keeps libcurl busy. No time for the whole, but a stream that stands still ends. */
static void set_up_stream(struct streaming *s, struct curl_slist *headers) {
    CURL *curl = s->client->curl;
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 0L);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_stream_write);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &s->refusal);
    if (s->stream->read != NULL) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_stream_read);
        curl_easy_setopt(curl, CURLOPT_READDATA, s);
    } else {
        curl_easy_setopt(curl, CURLOPT_HTTPGET, 1L);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, CLIENT_STILL_SECONDS);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, s->stream->method);
}

static bool stream_outcome(struct streaming *s, CURLcode code, struct status *st) {
    const char *error = s->client->error;
    curl_easy_getinfo(s->client->curl, CURLINFO_RESPONSE_CODE, &s->refusal.status);
    if (s->refusal.status >= 400) {
        buf_put_u8(&s->refusal.body, 0);
        if (buf_ok(&s->refusal.body))
            s->refusal.json = json_tokener_parse((const char *)s->refusal.body.data);
        client_reply_error(s->client, &s->refusal, st);
        return false;
    }
    if (code != CURLE_OK && !s->stopped)
        return status_set(st, STATUS_IO, "%s: %s%s", s->client->url, error[0] != '\0' ? error : curl_easy_strerror(code), help_for(code));
    return true;
}

bool client_run_stream(struct client *c, const struct client_stream *stream, struct status *st) {
    struct streaming s = {.client = c, .stream = stream, .refusal = {.retry_after = -1}};
    struct curl_slist *headers = NULL;
    struct buf url;
    buf_init(&url);
    buf_put_str(&url, c->url);
    buf_put_str(&url, stream->path);
    buf_put_u8(&url, 0);
    bool ok = buf_check(&url, st) && (stream_headers(c, &headers) || status_no_memory(st));
    if (ok) {
        c->error[0] = '\0';
        set_up_stream(&s, headers);
        curl_easy_setopt(c->curl, CURLOPT_URL, (const char *)url.data);
        ok = stream_outcome(&s, curl_easy_perform(c->curl), st);
        curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, NULL);
    }
    curl_slist_free_all(headers);
    client_reply_fini(&s.refusal);
    buf_fini(&url);
    return ok;
}

void client_pause_ms(long ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000L};
    while (nanosleep(&t, &t) != 0) {
    }
}

bool client_call(struct client *c, const char *method, const char *path, struct slice body, bool again, struct client_reply *ret,
                 struct status *st) {
    int64_t deadline = clock_monotonic_us() + (int64_t)CLIENT_RETRY_SECONDS * 1000000;
    long wait_ms = 100;
    for (;;) {
        struct client_reply reply;
        struct status why = {0};
        bool answered = client_request(c, method, path, body, &reply, &why);
        if (answered && reply.status < 400) {
            *ret = reply;
            return true;
        }
        bool transient = answered ? reply.status == 429 || reply.status == 503 : c->answered;
        if (answered) {
            client_reply_error(c, &reply, &why);
            if (reply.retry_after > 0)
                wait_ms = reply.retry_after * 1000;
            client_reply_fini(&reply);
        }
        if (!transient || !again || clock_monotonic_us() + wait_ms * 1000 > deadline) {
            if (st != NULL)
                *st = why;
            return false;
        }
        client_pause_ms(wait_ms);
        wait_ms = wait_ms < 2000 ? wait_ms * 2 : wait_ms;
    }
}

void client_escape(struct buf *out, struct slice segment) {
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < segment.len; i++) {
        uint8_t b = segment.data[i];
        bool plain = (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') || b == '-' || b == '.' ||
                     b == '_' || b == '~';
        if (plain) {
            buf_put_u8(out, b);
        } else {
            buf_put_u8(out, '%');
            buf_put_u8(out, (uint8_t)digits[b >> 4]);
            buf_put_u8(out, (uint8_t)digits[b & 15]);
        }
    }
}
