/*
 * remote_http.c - see remote_http.h.
 *
 * What libcurl may do is said option by option (set_options): one protocol, the certificate verified, no redirect followed, no proxy, no credentials or cookies
 * from anywhere, HTTP/1.1, nothing unpacked. Before each connection it asks us (open_socket) about the address.
 *
 * A transfer is driven by a loop of ours (curl_multi), because libcurl's own timeouts do not know what we want of a reply that has begun: at least a kilobyte in
 * every stall_timeout_ms. The loop looks at least every TICK_MS, so that a deadline or a cancellation is late by that at most.
 *
 * Names are resolved by a thread of libcurl's, since getaddrinfo knows no deadline. A call that ends before that thread does would wait for it after all, for as long as
 * /etc/resolv.conf says, but for CURLOPT_QUICK_EXIT (libcurl 7.87): the thread is let go and cleans up behind itself.
 */
#include "embed/remote_http.h"

#include "base/clock.h"
#include "embed/remote_address.h"
#include "embed/remote_limits.h"

#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    HEADER_BYTES_MAX = 65536,
    STALL_BYTES = 1024,
    TICK_MS = 100,
    US_PER_MS = 1000,
    HTTP_OK = 200,
    FIELD_MAX = 64,
    URL_ROOM = REMOTE_TEXT_MAX + REMOTE_HOST_MAX + 64
};

struct remote_endpoint {
    char url[URL_ROOM];
    struct remote_url parts;
    struct curl_slist *headers; /* one of them has the key */
    struct curl_slist *resolve;
    char ca_file[REMOTE_TEXT_MAX];
    bool private_addresses;
    long connect_timeout_ms;
    int64_t stall_us;
};

/* The transfer under way. */
struct transfer {
    const struct remote_post *post;
    struct remote_answer *answer;
    size_t header_bytes;
    uint64_t received;      /* of the body */
    uint64_t stall_mark;    /* received when the stall clock was last set */
    int64_t stall_since_us; /* 0: nothing has come yet */
    bool forbidden;
    bool too_large;
};

struct remote_line {
    const struct remote_endpoint *endpoint;
    CURLM *multi;
    CURL *easy;
    struct transfer transfer;
};

/* --- the library -------------------------------------------------------------------------------------------------------- */

bool remote_global_init(struct status *st) {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return status_set(st, STATUS_INTERNAL, "libcurl does not start");
    }
    const curl_version_info_data *about = curl_version_info(CURLVERSION_NOW);
    int wanted = CURL_VERSION_SSL | CURL_VERSION_ASYNCHDNS;
    if ((about->features & wanted) != wanted) {
        curl_global_cleanup();
        return status_set(st, STATUS_CONFIG, "this libcurl has no TLS, or cannot resolve names beside other work");
    }
    /* OpenSSL writes to sockets whose other end may be gone. */
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        curl_global_cleanup();
        return status_set_errno(st, errno, "cannot ignore SIGPIPE");
    }
    return true;
}

void remote_global_fini(void) {
    curl_global_cleanup();
}

/* --- the endpoint ------------------------------------------------------------------------------------------------------- */

static void wipe_list(struct curl_slist *list) {
    for (struct curl_slist *at = list; at != NULL; at = at->next) {
        explicit_bzero(at->data, strlen(at->data));
    }
    curl_slist_free_all(list);
}

void remote_endpoint_free(struct remote_endpoint *e) {
    if (e != NULL) {
        wipe_list(e->headers);
        curl_slist_free_all(e->resolve);
        free(e);
    }
}

static bool append(struct curl_slist **list, const char *text, struct status *st) {
    struct curl_slist *grown = curl_slist_append(*list, text);
    if (grown == NULL) {
        return status_no_memory(st);
    }
    *list = grown;
    return true;
}

static bool append_key(struct remote_endpoint *e, struct slice key, struct status *st) {
    static const char field[] = "Authorization: Bearer ";
    if (key.len == 0) {
        return true;
    }
    size_t room = sizeof field + key.len;
    char *line = (char *)malloc(room);
    if (line == NULL) {
        return status_no_memory(st);
    }
    (void)snprintf(line, room, "%s%.*s", field, (int)key.len, (const char *)key.data);
    bool ok = append(&e->headers, line, st);
    explicit_bzero(line, room);
    free(line);
    return ok;
}

bool remote_endpoint_new(const struct remote_settings *s, const struct remote_url *url, struct slice key, struct remote_endpoint **ret,
                         struct status *st) {
    struct remote_endpoint *e = (struct remote_endpoint *)calloc(1, sizeof *e);
    if (e == NULL) {
        return status_no_memory(st);
    }
    e->parts = *url;
    e->private_addresses = s->private_addresses == REMOTE_ON;
    e->connect_timeout_ms = (long)s->connect_timeout_ms;
    e->stall_us = (int64_t)s->stall_timeout_ms * US_PER_MS;
    (void)snprintf(e->ca_file, sizeof e->ca_file, "%s", s->ca_file);
    bool brackets = strchr(url->host, ':') != NULL;
    (void)snprintf(e->url, sizeof e->url, "%s://%s%s%s:%u%s", url->https ? "https" : "http", brackets ? "[" : "", url->host, brackets ? "]" : "",
                   (unsigned)url->port, url->path);
    /* Without "Expect:" libcurl asks before it sends a large body, and waits a second where nobody answers that. */
    if (!append(&e->headers, "Content-Type: application/json", st) || !append(&e->headers, "Accept: application/json", st) ||
        !append(&e->headers, "Expect:", st) || !append_key(e, key, st)) {
        remote_endpoint_free(e);
        return false;
    }
    *ret = e;
    return true;
}

bool remote_endpoint_resolve(struct remote_endpoint *e, const char *entry, struct status *st) {
    return append(&e->resolve, entry, st);
}

/* --- what libcurl asks and brings --------------------------------------------------------------------------------------- */

static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address) {
    struct remote_line *l = (struct remote_line *)ctx;
    (void)purpose;
    enum remote_address kind = remote_address_kind(&address->addr, address->addrlen);
    if (!remote_address_allowed(kind, &l->endpoint->parts, l->endpoint->private_addresses)) {
        l->transfer.forbidden = true;
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

static void take_field(struct remote_answer *a, const char *line, size_t len) {
    uint64_t ms;
    struct slice value = field_value(line, len, "Retry-After");
    if (value.len > 0 && !a->has_retry_after && remote_retry_after(value, clock_wall_us(), &ms)) {
        a->has_retry_after = true;
        a->retry_after_ms = ms;
    }
    /* What OpenAI and Azure say beside it, in milliseconds; where it stands it counts. */
    value = field_value(line, len, "retry-after-ms");
    char *end;
    char text[FIELD_MAX];
    if (value.len > 0 && value.len < sizeof text && value.data[0] >= '0' && value.data[0] <= '9') {
        (void)snprintf(text, sizeof text, "%.*s", (int)value.len, (const char *)value.data);
        ms = strtoull(text, &end, 10);
        a->has_retry_after = true;
        a->retry_after_ms = ms < REMOTE_RETRY_AFTER_MAX_MS ? ms : REMOTE_RETRY_AFTER_MAX_MS;
    }
}

static size_t take_header(char *data, size_t size, size_t count, void *ctx) {
    struct transfer *t = &((struct remote_line *)ctx)->transfer;
    size_t len = size * count;
    t->header_bytes += len;
    if (t->header_bytes > HEADER_BYTES_MAX) {
        t->too_large = true;
        return 0;
    }
    if (t->stall_since_us == 0) {
        t->stall_since_us = clock_monotonic_us();
    }
    take_field(t->answer, data, len);
    return len;
}

static size_t take_body(char *data, size_t size, size_t count, void *ctx) {
    struct remote_line *l = (struct remote_line *)ctx;
    struct transfer *t = &l->transfer;
    size_t len = size * count;
    long http_status = 0;
    (void)curl_easy_getinfo(l->easy, CURLINFO_RESPONSE_CODE, &http_status);
    uint64_t most = http_status == HTTP_OK ? t->post->reply_max : REMOTE_ERROR_MAX;
    uint64_t room = most - t->answer->body.len;
    t->received += len;
    buf_put(&t->answer->body, data, len < room ? len : room);
    if (len > room || !buf_ok(&t->answer->body)) {
        t->too_large = len > room;
        return 0;
    }
    return len;
}

/* --- a line ------------------------------------------------------------------------------------------------------------- */

static bool set_options(struct remote_line *l) {
    const struct remote_endpoint *e = l->endpoint;
    CURL *c = l->easy;
    bool ok = curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, e->parts.https ? "https" : "http") == CURLE_OK && curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_URL, e->url) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK && curl_easy_setopt(c, CURLOPT_PROXY, "") == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED) == CURLE_OK && curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_HTTPHEADER, e->headers) == CURLE_OK && curl_easy_setopt(c, CURLOPT_USERAGENT, "quire") == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_POST, 1L) == CURLE_OK && curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L) == CURLE_OK && curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, e->connect_timeout_ms) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L) == CURLE_OK && curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, l) == CURLE_OK && curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, take_header) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_HEADERDATA, l) == CURLE_OK && curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_WRITEDATA, l) == CURLE_OK;
    if (ok && e->ca_file[0] != '\0') {
        ok = curl_easy_setopt(c, CURLOPT_CAINFO, e->ca_file) == CURLE_OK && curl_easy_setopt(c, CURLOPT_CAPATH, NULL) == CURLE_OK;
    }
    return ok && (e->resolve == NULL || curl_easy_setopt(c, CURLOPT_RESOLVE, e->resolve) == CURLE_OK);
}

bool remote_line_new(const struct remote_endpoint *e, struct remote_line **ret, struct status *st) {
    struct remote_line *l = (struct remote_line *)calloc(1, sizeof *l);
    if (l == NULL) {
        return status_no_memory(st);
    }
    l->endpoint = e;
    l->multi = curl_multi_init();
    l->easy = curl_easy_init();
    if (l->multi == NULL || l->easy == NULL || !set_options(l)) {
        remote_line_free(l);
        return status_no_memory(st);
    }
    *ret = l;
    return true;
}

void remote_line_free(struct remote_line *l) {
    if (l != NULL) {
        curl_easy_cleanup(l->easy);
        (void)curl_multi_cleanup(l->multi);
        free(l);
    }
}

void remote_line_wake(struct remote_line *l) {
    (void)curl_multi_wakeup(l->multi);
}

/* --- a call ------------------------------------------------------------------------------------------------------------- */

static bool stalled(struct remote_line *l, int64_t now_us) {
    struct transfer *t = &l->transfer;
    if (t->stall_since_us == 0) {
        return false; /* a model may think as long as the deadline lets it */
    }
    if (t->received - t->stall_mark >= STALL_BYTES) {
        t->stall_mark = t->received;
        t->stall_since_us = now_us;
    }
    return now_us - t->stall_since_us > l->endpoint->stall_us;
}

static void give_up(struct remote_answer *a, enum remote_failure failure, const char *why) {
    a->failure = failure;
    a->why = why;
}

/* What ends a transfer that libcurl would go on with. */
static bool given_up(struct remote_line *l) {
    const struct remote_post *post = l->transfer.post;
    int64_t now_us = clock_monotonic_us();
    if (__atomic_load_n(post->cancelled, __ATOMIC_RELAXED)) {
        give_up(l->transfer.answer, REMOTE_CANCELLED, "the server is stopping");
    } else if (now_us >= post->deadline_us) {
        give_up(l->transfer.answer, REMOTE_TIMEOUT, "no whole reply came in time");
    } else if (stalled(l, now_us)) {
        give_up(l->transfer.answer, REMOTE_TIMEOUT, "the reply came too slowly");
    } else {
        return false;
    }
    return true;
}

static void judge_certificate(struct remote_answer *a) {
    give_up(a, REMOTE_UNREACHABLE, "its certificate is not good: expired, of another name, or signed by nobody who is known here (ca_file)");
}

/* A transfer that libcurl ended. */
static void judge(struct remote_line *l, CURLcode code) {
    struct remote_answer *a = l->transfer.answer;
    bool has_status = a->http_status != 0 && a->http_status != HTTP_OK;
    if (code == CURLE_OK || (has_status && l->transfer.too_large)) {
        give_up(a, REMOTE_DONE, "");
    } else if (l->transfer.forbidden) {
        give_up(a, REMOTE_FORBIDDEN, "its address is none that this section may use (private_addresses, or http to a public one)");
    } else if (l->transfer.too_large) {
        give_up(a, REMOTE_BAD_REPLY, "the reply is larger than one to these texts can be");
    } else if (a->body.failed || code == CURLE_OUT_OF_MEMORY) {
        give_up(a, REMOTE_OURSELVES, "there is no memory for the reply");
    } else if (code == CURLE_PEER_FAILED_VERIFICATION) {
        judge_certificate(a);
    } else if (code == CURLE_OPERATION_TIMEDOUT) {
        give_up(a, REMOTE_TIMEOUT, "no connection came to stand in time");
    } else if (code == CURLE_SSL_CACERT_BADFILE) {
        give_up(a, REMOTE_UNREACHABLE, "ca_file cannot be read");
    } else {
        give_up(a, REMOTE_UNREACHABLE, curl_easy_strerror(code));
    }
}

/* Until libcurl is done, or we are. */
static void drive(struct remote_line *l) {
    int running = 1;
    int left;
    while (curl_multi_perform(l->multi, &running) == CURLM_OK) {
        const CURLMsg *message = curl_multi_info_read(l->multi, &left);
        if (message != NULL && message->msg == CURLMSG_DONE) {
            (void)curl_easy_getinfo(l->easy, CURLINFO_RESPONSE_CODE, &l->transfer.answer->http_status);
            judge(l, message->data.result);
            return;
        }
        if (given_up(l) || running == 0 || curl_multi_poll(l->multi, NULL, 0, TICK_MS, NULL) != CURLM_OK) {
            return;
        }
    }
}

void remote_line_post(struct remote_line *l, const struct remote_post *post, struct remote_answer *ret) {
    buf_reset(&ret->body);
    *ret = (struct remote_answer){.failure = REMOTE_OURSELVES, .body = ret->body, .why = "libcurl cannot go on"};
    l->transfer = (struct transfer){.post = post, .answer = ret};
    if (curl_easy_setopt(l->easy, CURLOPT_POSTFIELDS, (const char *)post->body.data) == CURLE_OK &&
        curl_easy_setopt(l->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post->body.len) == CURLE_OK &&
        curl_multi_add_handle(l->multi, l->easy) == CURLM_OK) {
        if (!given_up(l)) {
            drive(l);
        }
        (void)curl_multi_remove_handle(l->multi, l->easy);
    }
    if (ret->failure != REMOTE_DONE) {
        buf_reset(&ret->body);
    }
    l->transfer = (struct transfer){0};
}
