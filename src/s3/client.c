/*
 * client.c - see client.h.
 *
 * What libcurl may do is said option by option (set_options): one protocol, the certificate verified, no redirect followed (a signature is for one host), no proxy,
 * no credentials from anywhere, HTTP/1.1, nothing unpacked. http goes to addresses that are not public only: a backup in clear does not cross the internet by
 * mistake.
 *
 * Time. A request has no deadline as a whole, since a part may be large and the line slow; one that moves less than a kilobyte a second for stall_timeout_ms is
 * given up; ten times so long where a storage puts parts together. Pauses between attempts double, with jitter, so that many clients of a storage that is overloaded do not come back in step.
 *
 * The clock. A signature is good for 15 minutes. Where the storage says that ours is off (RequestTimeTooSkewed), its Date is believed from then on, for
 * signatures alone.
 */
#include "s3/client.h"

#include "base/clock.h"
#include "base/hash.h"
#include "embed/remote_address.h"
#include "s3/xml.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum {
    REPLY_BYTES_MAX = 8 << 20, /* a listing of 1,000 long names has half a megabyte */
    ERROR_BYTES_MAX = 65536,
    HEADERS_BYTES_MAX = 65536,
    HOST_ROOM = REMOTE_HOST_MAX + S3_BUCKET_MAX + 16,
    PATH_ROOM = 2048,
    HEADER_LINE_MAX = 8192,
    STALL_BYTES_PER_SECOND = 1024,
    MS_PER_SECOND = 1000,
    US_PER_SECOND = 1000000,
    NS_PER_MS = 1000000,
    DOUBLINGS_MAX = 20,
    SLOW_FACTOR = 10,
    FORBIDDEN = 403,
    MISSING = 404,
    REQUEST_TIMEOUT = 408,
    TOO_MANY = 429,
    INTERNAL = 500,
    NOT_IMPLEMENTED = 501
};

struct s3_client {
    struct s3_settings settings;
    struct s3_place place;
    struct s3_keys keys;
    struct remote_url url;
    char host[HOST_ROOM]; /* as in the Host header */
    CURL *easy;
    int64_t skew_us; /* what the storage's clock is ahead */
};

/* The request under way. */
struct transfer {
    struct s3_client *client;
    const struct s3_request *request;
    struct s3_reply *reply;
    size_t sent;
    size_t header_bytes;
    bool sink_failed;
    bool too_large;
    bool forbidden;
    struct status why; /* what the sink said */
};

/* --- the client ------------------------------------------------------------------------------------------------------------ */

static void make_host(struct s3_client *c) {
    bool brackets = strchr(c->url.host, ':') != NULL;
    bool usual = c->url.port == (c->url.https ? 443 : 80);
    char port[8] = "";
    if (!usual) {
        (void)snprintf(port, sizeof port, ":%u", (unsigned)c->url.port);
    }
    (void)snprintf(c->host, sizeof c->host, "%s%s%s%s%s%s", c->settings.path_style == S3_OFF ? c->place.bucket : "", c->settings.path_style == S3_OFF ? "." : "",
                   brackets ? "[" : "", c->url.host, brackets ? "]" : "", port);
}

bool s3_client_new(const struct s3_settings *settings, const struct s3_place *place, struct s3_client **ret, struct status *st) {
    struct s3_client *c = (struct s3_client *)calloc(1, sizeof *c);
    if (c == NULL) {
        return status_no_memory(st);
    }
    c->settings = *settings;
    c->place = *place;
    bool ok = s3_settings_check(settings, st) && remote_url_parse(settings->endpoint, &c->url, st) && s3_keys_read(settings, &c->keys, st);
    if (ok) {
        make_host(c);
        c->easy = curl_easy_init();
        ok = c->easy != NULL || status_no_memory(st);
    }
    if (!ok) {
        s3_client_free(c);
        return false;
    }
    *ret = c;
    return true;
}

void s3_client_free(struct s3_client *c) {
    if (c != NULL) {
        curl_easy_cleanup(c->easy);
        s3_keys_wipe(&c->keys);
        free(c);
    }
}

const struct s3_place *s3_client_place(const struct s3_client *c) {
    return &c->place;
}

const struct s3_settings *s3_client_settings(const struct s3_client *c) {
    return &c->settings;
}

void s3_reply_fini(struct s3_reply *r) {
    buf_fini(&r->body);
}

/* --- what libcurl asks and brings ------------------------------------------------------------------------------------------ */

static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address) {
    struct transfer *t = (struct transfer *)ctx;
    (void)purpose;
    enum remote_address kind = remote_address_kind(&address->addr, address->addrlen);
    if (!t->client->url.https && kind != REMOTE_ADDRESS_PRIVATE && kind != REMOTE_ADDRESS_LOOPBACK) {
        t->forbidden = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* "Name: value" without the blanks around the value; empty when it is another field. */
static struct slice field_value(const char *line, size_t len, const char *name) {
    size_t at = strlen(name);
    if (len <= at || strncasecmp(line, name, at) != 0 || line[at] != ':') {
        return slice_of(NULL, 0);
    }
    for (at++; at < len && (line[at] == ' ' || line[at] == '\t'); at++) {
    }
    for (; len > at && strchr(" \t\r\n", line[len - 1]) != NULL; len--) {
    }
    return slice_of(line + at, len - at);
}

static bool copy_value(char *out, size_t cap, struct slice value) {
    if (value.len == 0 || value.len >= cap) {
        return false;
    }
    memcpy(out, value.data, value.len);
    out[value.len] = '\0';
    return true;
}

static size_t take_header(char *data, size_t size, size_t count, void *ctx) {
    enum { VALUE_MAX = 64 };
    struct transfer *t = (struct transfer *)ctx;
    size_t len = size * count;
    char text[VALUE_MAX];
    t->header_bytes += len;
    if (t->header_bytes > HEADERS_BYTES_MAX) {
        return 0;
    }
    if (copy_value(text, sizeof text, field_value(data, len, "Date"))) {
        time_t seconds = curl_getdate(text, NULL);
        t->reply->date_us = seconds > 0 ? (int64_t)seconds * US_PER_SECOND : 0;
    }
    if (copy_value(text, sizeof text, field_value(data, len, "Content-Length"))) {
        t->reply->content_length = strtoull(text, NULL, 10);
        t->reply->has_length = true;
    }
    struct slice etag = field_value(data, len, "ETag");
    if (etag.len > 0) {
        (void)copy_value(t->reply->etag, sizeof t->reply->etag, etag);
    }
    return len;
}

static bool is_success(long http_status) {
    return http_status >= 200 && http_status < 300;
}

static size_t take_body(char *data, size_t size, size_t count, void *ctx) {
    struct transfer *t = (struct transfer *)ctx;
    size_t len = size * count;
    long http_status = 0;
    (void)curl_easy_getinfo(t->client->easy, CURLINFO_RESPONSE_CODE, &http_status);
    if (is_success(http_status) && t->request->sink != NULL) {
        t->sink_failed = !t->request->sink(slice_of(data, len), t->request->ctx, &t->why);
        return t->sink_failed ? 0 : len;
    }
    size_t most = is_success(http_status) ? REPLY_BYTES_MAX : ERROR_BYTES_MAX;
    size_t room = most - t->reply->body.len;
    t->too_large = len > room;
    buf_put(&t->reply->body, data, len < room ? len : room);
    return t->too_large || !buf_ok(&t->reply->body) ? 0 : len;
}

static size_t give_body(char *out, size_t size, size_t count, void *ctx) {
    struct transfer *t = (struct transfer *)ctx;
    size_t len = t->request->body.len - t->sent;
    len = len < size * count ? len : size * count;
    if (len > 0) {
        memcpy(out, t->request->body.data + t->sent, len);
    }
    t->sent += len;
    return len;
}

/* libcurl sends a body again on its own where a connection that it kept turned out to be dead. */
static int rewind_body(void *ctx, curl_off_t offset, int origin) {
    struct transfer *t = (struct transfer *)ctx;
    if (origin != SEEK_SET || offset < 0 || (size_t)offset > t->request->body.len) {
        return CURL_SEEKFUNC_FAIL;
    }
    t->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* --- one attempt ----------------------------------------------------------------------------------------------------------- */

static bool add(struct curl_slist **list, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool add(struct curl_slist **list, const char *fmt, ...) {
    char text[HEADER_LINE_MAX];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    struct curl_slist *grown = len > 0 && (size_t)len < sizeof text ? curl_slist_append(*list, text) : NULL;
    explicit_bzero(text, sizeof text);
    *list = grown != NULL ? grown : *list;
    return grown != NULL;
}

static void free_headers(struct curl_slist *list) {
    for (struct curl_slist *at = list; at != NULL; at = at->next) {
        explicit_bzero(at->data, strlen(at->data));
    }
    curl_slist_free_all(list);
}

static void make_path(const struct s3_client *c, const struct s3_request *r, char out[PATH_ROOM]) {
    bool in_path = c->settings.path_style == S3_ON;
    (void)snprintf(out, PATH_ROOM, "%s%s%s%s", in_path ? "/" : "", in_path ? c->place.bucket : "", r->key != NULL || !in_path ? "/" : "", r->key != NULL ? r->key : "");
}

static bool make_headers(struct s3_client *c, const struct s3_request *r, const char *path, struct curl_slist **ret, struct status *st) {
    char date[S3_DATE_MAX];
    char payload[S3_SHA256_HEX] = S3_EMPTY_SHA256;
    struct buf authorization = {0};
    if (r->body.len > 0) {
        sha256_hex(r->body.data, r->body.len, payload);
    }
    struct s3_signing signing = {.method = r->method, .host = c->host, .path = path, .params = r->params, .param_count = r->param_count, .payload_sha256 = payload,
                                 .region = c->settings.region, .keys = &c->keys, .time_us = clock_wall_us() + c->skew_us};
    bool ok = s3_sign(&signing, date, &authorization, st);
    if (ok) {
        /* Without "Expect:" libcurl asks before it sends a large body, and waits a second where nobody answers that. */
        ok = add(ret, "Host: %s", c->host) && add(ret, "x-amz-date: %s", date) && add(ret, "x-amz-content-sha256: %s", payload) && add(ret, "Expect:") &&
             add(ret, "Authorization: %.*s", (int)authorization.len, (const char *)authorization.data) &&
             (c->keys.session_token[0] == '\0' || add(ret, "x-amz-security-token: %s", c->keys.session_token)) &&
             (r->body.len == 0 || add(ret, "Content-Type: application/octet-stream")) && (r->from == 0 || add(ret, "Range: bytes=%llu-", (unsigned long long)r->from));
        ok = ok || status_no_memory(st);
    }
    buf_fini(&authorization);
    return ok;
}

static bool make_url(const struct s3_client *c, const struct s3_request *r, const char *path, struct buf *out, struct status *st) {
    buf_printf(out, "%s://%s", c->url.https ? "https" : "http", c->host);
    s3_encode(out, slice_str(path), true);
    if (r->param_count > 0) {
        buf_put_str(out, "?");
        s3_query(out, r->params, r->param_count);
    }
    buf_put_u8(out, 0);
    return buf_check(out, st);
}

static bool set_limits(const struct s3_client *c, bool slow) {
    CURL *e = c->easy;
    const struct s3_settings *s = &c->settings;
    curl_off_t most = (curl_off_t)s->max_bytes_per_second;
    long stall = (long)((s->stall_timeout_ms + MS_PER_SECOND - 1) / MS_PER_SECOND) * (slow ? SLOW_FACTOR : 1);
    return curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)s->connect_timeout_ms) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES_PER_SECOND) == CURLE_OK && curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, stall) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_MAX_SEND_SPEED_LARGE, most) == CURLE_OK && curl_easy_setopt(e, CURLOPT_MAX_RECV_SPEED_LARGE, most) == CURLE_OK;
}

static bool set_options(struct s3_client *c, const char *url, struct curl_slist *headers, bool slow) {
    CURL *e = c->easy;
    curl_easy_reset(e); /* connections stay */
    return curl_easy_setopt(e, CURLOPT_URL, url) == CURLE_OK && curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, c->url.https ? "https" : "http") == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK && curl_easy_setopt(e, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) == CURLE_OK && curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK && curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers) == CURLE_OK && curl_easy_setopt(e, CURLOPT_USERAGENT, "quire") == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK && curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L) == CURLE_OK && curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L) == CURLE_OK &&
           (c->settings.ca_file[0] == '\0' || curl_easy_setopt(e, CURLOPT_CAINFO, c->settings.ca_file) == CURLE_OK) && set_limits(c, slow);
}

static bool set_method(struct s3_client *c, struct transfer *t) {
    CURL *e = c->easy;
    const struct s3_request *r = t->request;
    bool ok = curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, take_header) == CURLE_OK && curl_easy_setopt(e, CURLOPT_HEADERDATA, t) == CURLE_OK &&
              curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK && curl_easy_setopt(e, CURLOPT_WRITEDATA, t) == CURLE_OK &&
              curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_socket) == CURLE_OK && curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, t) == CURLE_OK;
    if (strcmp(r->method, "GET") == 0) {
        return ok && curl_easy_setopt(e, CURLOPT_HTTPGET, 1L) == CURLE_OK;
    }
    if (strcmp(r->method, "HEAD") == 0) {
        return ok && curl_easy_setopt(e, CURLOPT_NOBODY, 1L) == CURLE_OK;
    }
    if (strcmp(r->method, "DELETE") == 0) {
        return ok && curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, "DELETE") == CURLE_OK;
    }
    /* PUT, or POST with a body of a length that is said, be it 0. */
    return ok && curl_easy_setopt(e, CURLOPT_UPLOAD, 1L) == CURLE_OK && curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, r->method) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body.len) == CURLE_OK && curl_easy_setopt(e, CURLOPT_READFUNCTION, give_body) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_READDATA, t) == CURLE_OK && curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, rewind_body) == CURLE_OK &&
           curl_easy_setopt(e, CURLOPT_SEEKDATA, t) == CURLE_OK;
}

/* What the storage says is wrong: <Error><Code>. Letters and digits only, since it goes into messages. */
static bool take_code(const struct xml_item *item, void *ctx, struct status *st) {
    char *code = (char *)ctx;
    (void)st;
    if (item->end && strcmp(item->path, "Error/Code") == 0 && strlen(item->text) < S3_CODE_MAX &&
        item->text[strspn(item->text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.")] == '\0') {
        memcpy(code, item->text, strlen(item->text) + 1);
    }
    return true;
}

static void read_code(struct s3_reply *reply) {
    struct status ignored;
    reply->code[0] = '\0';
    (void)!xml_read(buf_slice(&reply->body), take_code, reply->code, &ignored);
}

enum outcome { DONE, AGAIN, FAILED };

static enum outcome connection_failed(const struct s3_client *c, const struct transfer *t, CURLcode code, struct status *st) {
    if (t->sink_failed) {
        *st = t->why;
        return FAILED;
    }
    if (t->too_large) {
        (void)status_set(st, STATUS_TOO_LARGE, "the storage's answer is longer than any answer is");
        return FAILED;
    }
    if (t->forbidden) {
        (void)status_set(st, STATUS_CONFIG, "endpoint: http:// goes to private and loopback addresses only, and %s is public: use https://", c->url.host);
        return FAILED;
    }
    bool for_good = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE || code == CURLE_OUT_OF_MEMORY || code == CURLE_UNSUPPORTED_PROTOCOL ||
                    code == CURLE_URL_MALFORMAT;
    (void)status_set(st, for_good ? STATUS_CONFIG : STATUS_BUSY, "%s: %s", c->host,
                     code == CURLE_PEER_FAILED_VERIFICATION ? "its certificate does not verify; ca_file names another authority" : curl_easy_strerror(code));
    return for_good ? FAILED : AGAIN;
}

static bool is_passing(const struct s3_reply *r) {
    static const char *const codes[] = {"RequestTimeout", "SlowDown", "InternalError", "XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody", "ServiceUnavailable",
                                        "OperationAborted", NULL};
    for (const char *const *code = codes; *code != NULL; code++) {
        if (strcmp(r->code, *code) == 0) {
            return true;
        }
    }
    return r->http_status == REQUEST_TIMEOUT || r->http_status == TOO_MANY || (r->http_status >= INTERNAL && r->http_status != NOT_IMPLEMENTED);
}

static enum outcome refused(struct s3_client *c, const struct s3_request *request, const struct s3_reply *r, struct status *st) {
    const char *code = r->code[0] != '\0' ? r->code : "no reason given";
    if (strcmp(r->code, "RequestTimeTooSkewed") == 0 && r->date_us != 0) {
        c->skew_us = r->date_us - clock_wall_us();
        (void)status_set(st, STATUS_BUSY, "%s: the clocks differ by %lld s", c->host, (long long)(c->skew_us / US_PER_SECOND));
        return AGAIN;
    }
    if (is_passing(r)) {
        (void)status_set(st, STATUS_BUSY, "%s answers with %ld (%s)", c->host, r->http_status, code);
        return AGAIN;
    }
    enum status_code kind = r->http_status == FORBIDDEN || r->http_status == 401 ? STATUS_DENIED : r->http_status == MISSING ? STATUS_NOT_FOUND : STATUS_INVALID;
    const char *help = strcmp(r->code, "NoSuchBucket") == 0                                                        ? ": make the bucket first"
                       : strcmp(r->code, "SignatureDoesNotMatch") == 0 || strcmp(r->code, "InvalidAccessKeyId") == 0 ? ": are credentials and region right?"
                       : kind == STATUS_DENIED                                                                      ? ": the key may not do that"
                                                                                                                    : "";
    (void)status_set(st, kind, "%s refuses %s of %.120s in bucket %s with %ld (%s)%s", c->host, request->method, request->key != NULL ? request->key : "the listing",
                     c->place.bucket, r->http_status, code, help);
    return FAILED;
}

static enum outcome attempt(struct s3_client *c, const struct s3_request *request, struct s3_reply *reply, struct status *st) {
    char path[PATH_ROOM];
    struct transfer t = {.client = c, .request = request, .reply = reply};
    struct curl_slist *headers = NULL;
    struct buf url = {0};
    enum outcome outcome = FAILED;
    *reply = (struct s3_reply){0};
    make_path(c, request, path);
    if (make_headers(c, request, path, &headers, st) && make_url(c, request, path, &url, st)) {
        if (!set_options(c, (const char *)url.data, headers, request->slow) || !set_method(c, &t)) {
            (void)status_set(st, STATUS_INTERNAL, "libcurl does not take an option");
        } else {
            CURLcode code = curl_easy_perform(c->easy);
            (void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &reply->http_status);
            read_code(reply);
            bool missing = reply->http_status == MISSING && request->may_be_missing && strcmp(reply->code, "NoSuchBucket") != 0;
            /* A storage that refuses early may close before the body is out: its answer counts. */
            bool answered = code == CURLE_OK || (reply->http_status >= 300 && code == CURLE_SEND_ERROR);
            outcome = !answered                                                                    ? connection_failed(c, &t, code, st)
                      : missing || (is_success(reply->http_status) && reply->code[0] == '\0')      ? DONE
                                                                                                   : refused(c, request, reply, st);
        }
    }
    free_headers(headers);
    buf_fini(&url);
    return outcome;
}

/* --- again ----------------------------------------------------------------------------------------------------------------- */

void s3_pause(const struct s3_client *c, unsigned attempt_number) {
    uint64_t mean = c->settings.retry_wait_ms << (attempt_number - 1 < DOUBLINGS_MAX ? attempt_number - 1 : DOUBLINGS_MAX);
    uint32_t chance = 0;
    (void)!getrandom(&chance, sizeof chance, 0);
    mean = mean < c->settings.retry_wait_max_ms ? mean : c->settings.retry_wait_max_ms;
    uint64_t ms = mean / 2 + (mean * (uint64_t)chance >> 32); /* half to one and a half of it */
    struct timespec left = {.tv_sec = (time_t)(ms / MS_PER_SECOND), .tv_nsec = (long)(ms % MS_PER_SECOND) * NS_PER_MS};
    while (nanosleep(&left, &left) != 0) {
    }
}

bool s3_do(struct s3_client *c, const struct s3_request *request, struct s3_reply *ret, char ret_code[S3_CODE_MAX], struct status *st) {
    for (unsigned number = 1;; number++) {
        struct s3_reply reply;
        struct status why = {0};
        enum outcome outcome = attempt(c, request, &reply, &why);
        if (ret_code != NULL) {
            (void)snprintf(ret_code, S3_CODE_MAX, "%s", reply.code);
        }
        if (outcome == DONE) {
            *ret = reply;
            return true;
        }
        s3_reply_fini(&reply);
        if (outcome == FAILED || request->sink != NULL || number > c->settings.retries) {
            if (st != NULL) {
                *st = why;
            }
            return false;
        }
        s3_pause(c, number);
    }
}
