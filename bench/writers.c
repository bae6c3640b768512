/*
 * writers.c - clients that write one document after the other straight to quired's FastCGI socket, for bench/durable: what a durable write costs without nginx and TLS.
 *
 *   writers SOCKET PATH BODIES CLIENTS SECONDS      BODIES: a file with one JSON body a line
 *
 * One thread and epoll serve all clients. As nginx does it, each request has a connection of its own, and is over with its END_REQUEST record. Prints
 *   RESULT requests requests/s p50_ms p99_ms errors longest_ms
 */
#include "base/clock.h"
#include "measure.h"

#include <errno.h>
#include <fastcgi.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CLIENTS_MAX = 1024, REQUEST_MAX = 65536, REPLY_MAX = 16384, SAMPLES_MAX = 1 << 22, EVENTS = 64, US_PER_SECOND = 1000000, PARAM_LONG = 128 };

struct request {
    uint8_t *bytes;
    size_t len;
};

struct client {
    int fd;
    int64_t begun_us;
    char reply[REPLY_MAX];
    size_t got;
};

struct writers {
    struct sockaddr_un address;
    struct request *requests;
    size_t count;
    size_t next;
    struct client *clients;
    int epoll_fd;
    uint32_t *samples; /* microseconds */
    size_t done;
    size_t errors;
};

/* --- requests --- */

static size_t put_record(uint8_t *out, uint8_t type, const void *content, size_t len) {
    const FCGI_Header header = {.version = FCGI_VERSION_1,
                                .type = type,
                                .requestIdB0 = 1,
                                .contentLengthB1 = (uint8_t)(len >> 8),
                                .contentLengthB0 = (uint8_t)len};
    memcpy(out, &header, sizeof header);
    if (len > 0) {
        memcpy(out + sizeof header, content, len);
    }
    return sizeof header + len;
}

static size_t put_param(uint8_t *out, const char *name, const char *value) {
    size_t name_len = strlen(name);
    size_t value_len = strlen(value);
    if (name_len >= PARAM_LONG || value_len >= PARAM_LONG) {
        die("a parameter is too long");
    }
    out[0] = (uint8_t)name_len;
    out[1] = (uint8_t)value_len;
    memcpy(out + 2, name, name_len);
    memcpy(out + 2 + name_len, value, value_len);
    return 2 + name_len + value_len;
}

static struct request make_request(const char *path, const char *body, size_t body_len) {
    static uint8_t params[REQUEST_MAX];
    const FCGI_BeginRequestBody begin = {.roleB0 = FCGI_RESPONDER};
    char length[24];
    size_t n = 0;
    (void)snprintf(length, sizeof length, "%zu", body_len);
    n += put_param(params + n, "REQUEST_METHOD", "POST");
    n += put_param(params + n, "REQUEST_URI", path);
    n += put_param(params + n, "CONTENT_TYPE", "application/json");
    n += put_param(params + n, "CONTENT_LENGTH", length);
    n += put_param(params + n, "HTTP_HOST", "localhost");
    struct request r = {.bytes = (uint8_t *)allocate(body_len + n + 512, 1)};
    r.len += put_record(r.bytes + r.len, FCGI_BEGIN_REQUEST, &begin, sizeof begin);
    r.len += put_record(r.bytes + r.len, FCGI_PARAMS, params, n);
    r.len += put_record(r.bytes + r.len, FCGI_PARAMS, NULL, 0);
    r.len += put_record(r.bytes + r.len, FCGI_STDIN, body, body_len);
    r.len += put_record(r.bytes + r.len, FCGI_STDIN, NULL, 0);
    return r;
}

static void read_requests(struct writers *w, const char *path, const char *bodies) {
    static char line[REQUEST_MAX / 2];
    FILE *f = fopen(bodies, "r");
    size_t room = 0;
    if (f == NULL) {
        die("the bodies cannot be read");
    }
    while (fgets(line, sizeof line, f) != NULL) {
        if (w->count == room) {
            room = room == 0 ? 1024 : 2 * room;
            w->requests = (struct request *)realloc(w->requests, room * sizeof *w->requests);
            if (w->requests == NULL) {
                die("out of memory");
            }
        }
        w->requests[w->count++] = make_request(path, line, strcspn(line, "\n"));
    }
    (void)fclose(f);
    if (w->count == 0) {
        die("there are no bodies");
    }
}

/* --- clients --- */

static void begin_request(struct writers *w, struct client *c) {
    const struct request *r = &w->requests[w->next++ % w->count];
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    c->begun_us = clock_monotonic_us();
    c->got = 0;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* A request fits into the socket's buffer, so this does not wait. */
    if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)&w->address, sizeof w->address) != 0 ||
        send(c->fd, r->bytes, r->len, MSG_NOSIGNAL) != (ssize_t)r->len || epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, c->fd, &e) != 0) {
        die("quired cannot be reached");
    }
}

static void end_request(struct writers *w, struct client *c) {
    (void)close(c->fd);
    /* The first record's head lies before it. */
    bool created = memmem(c->reply, c->got, "Status: 201", strlen("Status: 201")) != NULL;
    if (w->done < SAMPLES_MAX) {
        w->samples[w->done] = (uint32_t)(clock_monotonic_us() - c->begun_us);
    }
    w->done++;
    w->errors += created ? 0 : 1;
}

/* Whether what came holds the record that ends a request. */
static bool has_ended(const struct client *c) {
    size_t at = 0;
    while (c->got - at >= sizeof(FCGI_Header)) {
        const uint8_t *head = (const uint8_t *)c->reply + at;
        if (head[offsetof(FCGI_Header, type)] == FCGI_END_REQUEST) {
            return true;
        }
        size_t bytes = sizeof(FCGI_Header) + (size_t)(head[offsetof(FCGI_Header, contentLengthB1)] << 8) + head[offsetof(FCGI_Header, contentLengthB0)] +
                       head[offsetof(FCGI_Header, paddingLength)];
        if (bytes > c->got - at) {
            return false;
        }
        at += bytes;
    }
    return false;
}

/* True: the reply is whole, or nothing more comes. */
static bool read_reply(struct client *c) {
    char nowhere[REPLY_MAX];
    size_t room = sizeof c->reply - c->got;
    ssize_t n = recv(c->fd, room > 0 ? c->reply + c->got : nowhere, room > 0 ? room : sizeof nowhere, MSG_DONTWAIT);
    c->got += n > 0 && room > 0 ? (size_t)n : 0;
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || has_ended(c);
}

static double run(struct writers *w, size_t clients, double seconds) {
    struct epoll_event events[EVENTS];
    int64_t begun = clock_monotonic_us();
    int64_t end = begun + (int64_t)(seconds * US_PER_SECOND);
    size_t open = clients;
    for (size_t i = 0; i < clients; i++) {
        begin_request(w, &w->clients[i]);
    }
    while (open > 0) {
        int n = epoll_wait(w->epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct client *c = (struct client *)events[i].data.ptr;
            if (!read_reply(c)) {
                continue;
            }
            end_request(w, c);
            if (clock_monotonic_us() < end) {
                begin_request(w, c);
            } else {
                open--;
            }
        }
    }
    return (double)(clock_monotonic_us() - begun) / US_PER_SECOND;
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile_ms(struct writers *w, size_t percent) {
    size_t n = w->done < SAMPLES_MAX ? w->done : SAMPLES_MAX;
    return n == 0 ? 0 : w->samples[(n - 1) * percent / 100] / 1000.0;
}

int main(int argc, char **argv) {
    static struct writers w = {.address.sun_family = AF_UNIX};
    if (argc != 6 || strlen(argv[1]) >= sizeof w.address.sun_path) {
        (void)fprintf(stderr, "usage: writers SOCKET PATH BODIES CLIENTS SECONDS\n");
        return 64;
    }
    (void)snprintf(w.address.sun_path, sizeof w.address.sun_path, "%s", argv[1]);
    size_t clients = (size_t)read_number(argv[4], 1, CLIENTS_MAX);
    double seconds = (double)read_number(argv[5], 1, 3600);
    read_requests(&w, argv[2], argv[3]);
    w.clients = (struct client *)allocate(clients, sizeof *w.clients);
    w.samples = (uint32_t *)allocate(SAMPLES_MAX, sizeof *w.samples);
    w.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    double took = run(&w, clients, seconds);
    qsort(w.samples, w.done < SAMPLES_MAX ? w.done : SAMPLES_MAX, sizeof *w.samples, by_size);
    (void)printf("RESULT %zu %f %f %f %zu %f\n", w.done, (double)w.done / took, percentile_ms(&w, 50), percentile_ms(&w, 99), w.errors, percentile_ms(&w, 100));
    for (size_t i = 0; i < w.count; i++) {
        free(w.requests[i].bytes);
    }
    free(w.requests);
    free(w.clients);
    free(w.samples);
    (void)close(w.epoll_fd);
    return 0;
}
