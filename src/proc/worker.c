/*
 * worker.c - the worker role: one process, one request at a time. The only file that uses libfcgi; what streams comes by HTTP/2 (worker_stream.c).
 *
 * How it differs from the usual libfcgi loop: FCGX_Accept_r accepts by itself and then reads without a deadline, so
 * one silent client parks a worker for ever, and SIGTERM does not free it. Here the worker accepts (intake.c), checks who is there
 * (SO_PEERCRED), sets both timeouts, waits for the first bytes with SIGTERM let in, looks at them, and only then hands the
 * descriptor to libfcgi:
 *
 *   request.ipcFd = fd              FCGX_Accept_r parses from it instead of accepting
 *   request.listen_sock = -1        a bad begin makes it accept again, which fails, and it returns
 *   request.keepConnection = 1      else its first step, finishing the request before, closes the new descriptor
 *   FCGX_Detach                     closes without its lingering read (up to 2 s for a silent client)
 *
 * The first record must be the begin of a responder's request. So FCGI_GET_VALUES, whose answer overflows a stack buffer of
 * libfcgi 2.4.2, never reaches it in the first place; nginx sends none, and who else may connect is decided by the socket's
 * permissions.
 *
 * A write's deadline counts from when nginx had it whole (QUIRE_SENT_AT): what it waited in the socket's queue is part of it. One whose
 * time is over when its turn comes is refused before anything is done.
 *
 * Signals: SIGTERM is intake.c's: finish what is in hand and go. SIGQUIT ends at once. The worker may be killed at any
 * instruction; what that leaves in shared memory is the supervisor's to clear.
 */
#include "proc/worker.h"

#include "api/count.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "index/distance.h"
#include "proc/audit.h"
#include "proc/config.h"
#include "proc/heritage.h"
#include "proc/intake.h"
#include "proc/models.h"
#include "proc/sandbox.h"
#include "proc/worker_link.h"
#include "proc/worker_stream.h"
#include "shm/atomics.h"

#include <errno.h>
#include <fastcgi.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif

enum {
    US_PER_MS = 1000,
    NS_PER_US = 1000,
    MS_PER_SECOND = 1000,
    CONFIG_MAX_BYTES = 1048576,
    READ_STEP = 65536,
    SEND_STEP = 65536,
    TRIM_BYTES = 4194304,    /* after a larger request memory is given back to the system */
    MMAP_THRESHOLD = 262144, /* fixed: glibc would raise it with each large body and keep them all */
    KEEP_BYTES = 1048576     /* free at the heap's end: else requests that need more than 128 KiB get and give back their pages each */
};

/* A write that says it waited longer than any nginx waits has met another clock, not a long queue. */
#define LONGEST_WAIT_MS INT64_C(600000)

struct worker {
    uint32_t slot;
    struct config config;
    struct intake intake;
    struct embed_registry models;
    struct control *control;
    struct control_worker *page; /* this worker's slot */
    const struct key_page *keys;
    struct store_reader *reader;
    struct api *api;
    struct api_response response;
    struct worker_link link;
    struct buf body;
    int vectors_fd, snapshots_fd;
    FCGX_Request request;
};

/* --- one request ------------------------------------------------------------------------------------------------------ */

static const char *reason_of(int status) {
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {{200, "OK"},
                   {201, "Created"},
                   {202, "Accepted"},
                   {204, "No Content"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {409, "Conflict"},
                   {413, "Content Too Large"},
                   {415, "Unsupported Media Type"},
                   {422, "Unprocessable Content"},
                   {429, "Too Many Requests"},
                   {500, "Internal Server Error"},
                   {503, "Service Unavailable"},
                   {507, "Insufficient Storage"}};
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Status";
}

static struct slice param(const FCGX_Request *r, const char *name) {
    const char *value = FCGX_GetParam(name, r->envp);
    return slice_str(value == NULL ? "" : value);
}

/* CONTENT_LENGTH: empty is none. False: not a number. */
static bool parse_length(struct slice text, int64_t *ret) {
    int64_t value = 0;
    *ret = -1;
    if (text.len == 0) {
        return true;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || value > (INT64_MAX - 9) / 10) {
            return false;
        }
        value = value * 10 + (text.data[i] - '0');
    }
    *ret = value;
    return true;
}

/* False: the head itself is wrong, *st says how; what could be read stands in *ret. */
static bool read_head(const FCGX_Request *r, struct api_request *ret, struct status *st) {
    struct slice uri = param(r, "REQUEST_URI");
    const uint8_t *question = uri.len == 0 ? NULL : (const uint8_t *)memchr(uri.data, '?', uri.len);
    *ret = (struct api_request){
        .method = param(r, "REQUEST_METHOD"),
        .path = slice_of(uri.data, question == NULL ? uri.len : (size_t)(question - uri.data)),
        .query = param(r, "QUERY_STRING"),
        .content_type = param(r, "CONTENT_TYPE"),
        .authorization = param(r, "HTTP_AUTHORIZATION"),
        .x_api_key = param(r, "HTTP_X_API_KEY"),
        .request_id = param(r, "QUIRE_REQUEST_ID"),
        .idempotency_key = param(r, "HTTP_IDEMPOTENCY_KEY"),
        .if_match = param(r, "HTTP_IF_MATCH"),
        .if_none_match = param(r, "HTTP_IF_NONE_MATCH"),
        .host = param(r, "HTTP_HOST"),
        .origin = param(r, "HTTP_ORIGIN"),
        .cors_method = param(r, "HTTP_ACCESS_CONTROL_REQUEST_METHOD"),
        .remote_address = param(r, "REMOTE_ADDR"),
    };
    return parse_length(param(r, "CONTENT_LENGTH"), &ret->content_length) ||
           status_set(st, STATUS_MALFORMED, "Content-Length is not a number");
}

/* How long ago nginx had the request whole, as nginx tells it ("seconds.milliseconds" since 1970); 0 where it does not. */
static int64_t waited_ms(const FCGX_Request *r) {
    struct slice text = param(r, "QUIRE_SENT_AT");
    const uint8_t *point = text.len == 0 ? NULL : (const uint8_t *)memchr(text.data, '.', text.len);
    int64_t seconds = 0;
    int64_t ms = 0;
    if (point == NULL || !parse_length(slice_of(text.data, (size_t)(point - text.data)), &seconds) ||
        !parse_length(slice_of(point + 1, text.len - (size_t)(point - text.data) - 1), &ms) || seconds < 0 || ms < 0 ||
        seconds > INT64_MAX / MS_PER_SECOND / US_PER_MS || ms >= MS_PER_SECOND) {
        return 0;
    }
    int64_t waited = clock_wall_us() / US_PER_MS - (seconds * MS_PER_SECOND + ms);
    return waited > 0 && waited < LONGEST_WAIT_MS ? waited : 0;
}

/* A write's time begins with nginx. False: it is over already. */
static bool begin_deadline(struct worker *w, struct status *st) {
    int64_t waited = w->intake.has_place[INTAKE_WRITES] ? waited_ms(&w->request) : 0;
    if (waited >= (int64_t)w->config.write_deadline_ms) {
        (void)add_relaxed_u64(&w->page->overdue, 1);
        return status_set(st, STATUS_BUSY, "the write waited %lld ms for its turn; it was not done", (long long)waited);
    }
    worker_link_begin(&w->link, waited);
    return true;
}

/* Reads the body to its end, at most `most` bytes. */
static bool read_body(struct worker *w, int64_t announced, uint64_t most, struct status *st) {
    struct buf *b = &w->body;
    size_t limit = most < SIZE_MAX - 1 ? (size_t)most : SIZE_MAX - 1;
    buf_reset(b);
    if (announced > 0 && (uint64_t)announced > most) {
        return status_set(st, STATUS_TOO_LARGE, "the body has %lld bytes; at most %llu are taken", (long long)announced,
                          (unsigned long long)most);
    }
    if (announced > 0 && !buf_reserve(b, (size_t)announced + 1)) {
        return status_no_memory(st);
    }
    for (;;) {
        /* One byte more than allowed is asked for: that tells a body of the limit from a longer one. */
        size_t room = limit + 1 - b->len;
        size_t want = room < READ_STEP ? room : READ_STEP;
        if (!buf_reserve(b, want)) {
            return status_no_memory(st);
        }
        int n = FCGX_GetStr((char *)b->data + b->len, (int)want, w->request.in);
        b->len += n > 0 ? (size_t)n : 0;
        if (b->len > limit) {
            return status_set(st, STATUS_TOO_LARGE, "the body has more than %llu bytes", (unsigned long long)most);
        }
        if (n < (int)want) {
            break;
        }
    }
    if (FCGX_GetError(w->request.in) != 0 || (announced >= 0 && (uint64_t)announced != b->len)) {
        return status_set(st, STATUS_MALFORMED, "the body ended after %zu bytes, and %lld were announced", b->len,
                          (long long)announced);
    }
    return true;
}

static void put(FCGX_Stream *out, struct slice s) {
    while (s.len > 0) {
        int step = s.len < INT32_MAX ? (int)s.len : INT32_MAX;
        if (FCGX_PutStr((const char *)s.data, step, out) != step) {
            return; /* nginx is gone */
        }
        s.data += step;
        s.len -= (size_t)step;
    }
}

/* In pieces. Each that nginx has taken is progress, so the watchdog counts anew; a client that takes nothing ends it by peer_timeout_ms. A file that turns out
 * shorter than announced ends the connection early, which nginx passes on as a response cut short. */
static void send_file(struct worker *w, int fd, uint64_t bytes) {
    char piece[SEND_STEP];
    struct status st;
    store_relaxed_u64(&w->page->sending, 1);
    for (uint64_t at = 0; at < bytes;) {
        size_t want = bytes - at < sizeof piece ? (size_t)(bytes - at) : sizeof piece;
        size_t have = 0;
        if (!io_pread(fd, piece, want, (off_t)at, &have, &st) || have == 0) {
            log_warn("a file that is being sent cannot be read to its end");
            break;
        }
        if (FCGX_PutStr(piece, (int)have, w->request.out) != (int)have) {
            break; /* nginx is gone */
        }
        at += have;
        store_relaxed_u64(&w->page->busy_since_us, (uint64_t)clock_monotonic_us());
    }
    store_relaxed_u64(&w->page->sending, 0);
}

static void send_response(struct worker *w, bool with_body) {
    const struct api_response *r = &w->response;
    FCGX_Stream *out = w->request.out;
    if (!buf_ok(&r->headers) || !buf_ok(&r->body)) {
        put(out, slice_str("Status: 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"));
        return;
    }
    FCGX_FPrintF(out, "Status: %d %s\r\n", r->status, reason_of(r->status));
    if (r->content_type != NULL) {
        uint64_t bytes = r->file_fd >= 0 ? r->file_bytes : r->body.len;
        FCGX_FPrintF(out, "Content-Type: %s\r\nContent-Length: %lu\r\n", r->content_type, (unsigned long)bytes);
    }
    put(out, buf_slice(&r->headers));
    put(out, slice_str("\r\n"));
    if (with_body && r->file_fd >= 0) {
        send_file(w, r->file_fd, r->file_bytes);
    } else if (with_body) {
        put(out, buf_slice(&r->body));
    }
}

/* A body that nobody wanted is still under way; closing on it would make nginx drop the reply. */
static void drain_body(struct worker *w, uint64_t most) {
    char nowhere[READ_STEP];
    uint64_t got = 0;
    int n = 0;
    (void)FCGX_FFlush(w->request.out);
    do {
        n = FCGX_GetStr(nowhere, sizeof nowhere, w->request.in);
        got += n > 0 ? (uint64_t)n : 0;
    } while (n == (int)sizeof nowhere && got <= most);
}

/* FastCGI through nginx cannot answer while it reads (http2.c). */
static bool no_streams_here(struct status *st) {
    return status_set(st, STATUS_CONFIG, "nginx sends a stream by FastCGI: its configuration is not the one of this version");
}

/* Before the reply goes out, so that what a client has heard of has left this process, which may be killed at any moment. */
void worker_audit(const struct api_response *r, struct control_worker *page) {
    (void)add_relaxed_u64(&page->auth_failures, r->status == 401 ? 1 : 0);
    (void)add_relaxed_u64(&page->auth_denials, r->status == 403 ? 1 : 0);
    if (r->audit.len > 0 || r->audit.failed) {
        bool sent = buf_ok(&r->audit) && audit_send(HERITAGE_AUDIT, buf_slice(&r->audit), r->is_refusal);
        (void)add_relaxed_u64(&page->audit_lost, sent ? 0 : 1);
    }
}

static void answer_request(struct worker *w) {
    struct api_request request;
    struct status st;
    uint64_t body_max = 0;
    bool body_read = false;
    api_response_reset(&w->response);
    if (!read_head(&w->request, &request, &st) || !begin_deadline(w, &st)) {
        api_fail(w->api, &request, &st, &w->response);
    } else if (!api_begin(w->api, &request, &w->response, &body_max)) {
        body_read = w->response.streams ? no_streams_here(&st) : read_body(w, request.content_length, body_max, &st);
        if (body_read) {
            request.body = buf_slice(&w->body);
            api_finish(w->api, &request, &w->response);
        } else {
            api_fail(w->api, &request, &st, &w->response);
        }
    }
    worker_audit(&w->response, w->page);
    send_response(w, !slice_is(request.method, "HEAD"));
    if (!body_read && request.content_length > 0) {
        drain_body(w, w->config.limits.max_body_bytes);
    }
}

/* A large request's memory goes back to the system. */
static void slim(struct worker *w) {
    if (w->body.cap + w->response.body.cap > TRIM_BYTES) {
        buf_fini(&w->body);
        buf_init(&w->body);
        api_response_reset(&w->response);
        (void)malloc_trim(0);
    }
}

/* A connection by HTTP/2; its time says nothing about requests, so it is counted in no histogram. */
static void serve_stream(struct worker *w, int fd) {
    const struct worker_stream stream = {.fd = fd,
                                         .api = w->api,
                                         .response = &w->response,
                                         .page = w->page,
                                         .link = &w->link,
                                         .intake = &w->intake,
                                         .config = &w->config};
    store_relaxed_u64(&w->page->busy_since_us, (uint64_t)clock_monotonic_us());
    worker_stream_serve(&stream);
    if (load_relaxed_u32(&w->page->state) == WORKER_BUSY) {
        count_reply(&w->response, -1, w->page);
        (void)malloc_trim(0);
        store_release_u32(&w->page->state, WORKER_IDLE);
    }
    io_close(&fd);
    store_relaxed_u64(&w->page->busy_since_us, 0);
}

/* Hands the connection to libfcgi; it is closed in any case. */
static void serve(struct worker *w, int fd) {
    int64_t begun_ns = clock_monotonic_ns();
    store_relaxed_u64(&w->page->busy_since_us, (uint64_t)(begun_ns / NS_PER_US));
    w->request.ipcFd = fd;
    w->request.keepConnection = 1;
    (void)FCGX_Detach(&w->request);
    if (FCGX_Accept_r(&w->request) == 0) {
        w->request.keepConnection = 0; /* one request a connection, whatever the client asked for */
        store_release_u32(&w->page->state, WORKER_BUSY);
        answer_request(w);
        FCGX_Finish_r(&w->request);
        count_reply(&w->response, clock_monotonic_ns() - begun_ns, w->page);
        slim(w);
        store_release_u32(&w->page->state, WORKER_IDLE);
    } else {
        log_debug("a request did not parse");
        (void)FCGX_InitRequest(&w->request, -1, 0);
    }
    store_relaxed_u64(&w->page->busy_since_us, 0);
}

static void serve_all(struct worker *w) {
    int fd = -1;
    while (!w->link.broken && (fd = intake_next(&w->intake)) >= 0) {
        if (w->intake.http2) {
            serve_stream(w, fd);
        } else {
            serve(w, fd);
        }
        intake_done(&w->intake);
    }
}

/* --- birth ------------------------------------------------------------------------------------------------------------ */

static bool read_heritage_config(struct worker *w, struct status *st) {
    struct buf text = {0};
    off_t size = 0;
    bool ok = false;
    if (!io_size(HERITAGE_CONFIG, &size, st)) {
        return false;
    }
    if (size <= 0 || size > CONFIG_MAX_BYTES || !buf_reserve(&text, (size_t)size)) {
        return status_set(st, STATUS_CONFIG, "no configuration was inherited");
    }
    if (io_pread_full(HERITAGE_CONFIG, text.data, (size_t)size, 0, st)) {
        text.len = (size_t)size;
        ok = config_read_heritage(&w->config, buf_slice(&text), st);
    }
    buf_fini(&text);
    return ok;
}

/* What a worker that is broken into cannot get any more. A sanitizer needs memory, files and processes of its own. */
static bool give_up_rights(const struct worker *w, struct status *st) {
    const struct rlimit no_core = {0, 0};
    const struct rlimit memory = {w->config.limits.worker_memory_bytes, w->config.limits.worker_memory_bytes};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &no_core) != 0) {
        return status_set_errno(st, errno, "cannot give up rights");
    }
#ifdef UNDER_SANITIZER
    (void)memory;
    return true;
#else
    if (setrlimit(RLIMIT_DATA, &memory) != 0) {
        return status_set_errno(st, errno, "cannot limit memory");
    }
    return sandbox_enter(st);
#endif
}

/* Before libfcgi starts, which takes SIGTERM for itself: one that came while its handler stands would be lost, and a stop would wait for this worker in
 * vain. intake.c lets it in. */
static void hold_terminate(void) {
    sigset_t terminate;
    (void)sigemptyset(&terminate);
    (void)sigaddset(&terminate, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &terminate, NULL);
}

/* libfcgi has set handlers of its own. */
static void ignore_signals(void) {
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGUSR1, SIG_IGN);
    (void)signal(SIGUSR2, SIG_IGN);
}

static bool open_store(struct worker *w, struct status *st) {
    if (!control_map(HERITAGE_CONTROL, &w->control, st)) {
        return false;
    }
    if (w->slot >= CONTROL_MAX_WORKERS) {
        return status_set(st, STATUS_INTERNAL, "there is no slot %u", w->slot);
    }
    w->page = &w->control->worker[w->slot];
    return io_open_at(HERITAGE_DATA, "vectors", O_RDONLY | O_DIRECTORY, 0, &w->vectors_fd, st) &&
           io_open_at(HERITAGE_DATA, "snapshots", O_RDONLY | O_DIRECTORY, 0, &w->snapshots_fd, st) &&
           key_page_map(HERITAGE_KEYS, &w->keys, st) && store_reader_new(w->control, w->slot, w->vectors_fd, &w->reader, st);
}

static bool open_api(struct worker *w, struct status *st) {
    worker_link_init(&w->link, HERITAGE_CHANNEL, w->control, &w->config.limits, w->config.write_deadline_ms,
                     w->config.query_deadline_ms);
    struct api_host host = {.reader = w->reader,
                            .control = w->control,
                            .figures = (const struct service_figures *)control_figures(w->control),
                            .limits = &w->config.limits,
                            .models = &w->models,
                            .snapshots_dir_fd = w->snapshots_fd,
                            .min_lsn_wait_ms = (uint32_t)w->config.min_lsn_wait_ms,
                            .slot = w->slot,
                            .auth_on = w->config.auth != CONFIG_AUTH_OFF,
                            .has_admin_key = w->config.has_admin_key,
                            .keys = w->keys,
                            .audits = strcmp(w->config.audit_log, AUDIT_NONE) != 0,
                            .cors_origins = w->config.cors_origins,
                            .open_metrics = w->config.open_metrics != CONFIG_OPEN_METRICS_OFF,
                            .change_keys = worker_link_change_keys,
                            .embed = worker_link_embed,
                            .submit = worker_link_submit,
                            .recall = worker_link_recall,
                            .command = worker_link_command,
                            .ctx = &w->link};
    memcpy(host.admin_key_sha256, w->config.admin_key_sha256, sizeof host.admin_key_sha256);
    return api_new(&host, &w->api, st);
}

static bool begin_log(struct worker *w, struct status *st) {
    char name[32];
    (void)snprintf(name, sizeof name, "worker %u", w->slot);
    return log_open(name, NULL, (enum log_level)w->config.log_level, (enum log_format)w->config.log_format, st);
}

static bool set_up(struct worker *w, struct status *st) {
    static const int sockets[INTAKE_SOCKETS] = {[INTAKE_MAIN] = HERITAGE_LISTEN, [INTAKE_WRITES] = HERITAGE_LISTEN_WRITES};
    char kernel[CONFIG_CHOICE_MAX];
    bool armed = false;
    (void)mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
    (void)mallopt(M_TRIM_THRESHOLD, KEEP_BYTES);
    if (!read_heritage_config(w, st) || !begin_log(w, st) || !io_fault_from_environment(&armed, st) || !clock_shift_from_environment(&armed, st) ||
        !give_up_rights(w, st) || !peers_parse(w->config.socket_peers, &w->intake.peers, st)) {
        return false;
    }
    config_kernel_name(&w->config, kernel);
    if (!distance_init(kernel[0] == '\0' ? NULL : kernel)) {
        return status_set(st, STATUS_CONFIG, "this CPU cannot run the distance kernel %s", kernel);
    }
    if (!models_init(&w->models, &w->config, HERITAGE_MODEL, MODEL_VERIFIED, st) || !open_store(w, st) || !open_api(w, st)) {
        return false;
    }
    hold_terminate();
    if (FCGX_Init() != 0 || FCGX_InitRequest(&w->request, -1, 0) != 0) {
        return status_set(st, STATUS_INTERNAL, "libfcgi does not start");
    }
    ignore_signals();
    w->intake.peer_timeout_ms = w->config.peer_timeout_ms;
    return intake_begin(&w->intake, w->control, w->slot, sockets, st);
}

static void tear_down(struct worker *w) {
    api_response_fini(&w->response);
    api_free(w->api);
    worker_link_fini(&w->link);
    store_reader_free(w->reader);
    embed_registry_fini(&w->models);
    buf_fini(&w->body);
    intake_end(&w->intake);
    io_close(&w->vectors_fd);
    io_close(&w->snapshots_fd);
    key_page_unmap(w->keys);
    control_unmap(w->control);
}

static bool parse_number(const char *text, long *ret) {
    char *end = NULL;
    errno = 0;
    *ret = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *ret >= 0;
}

int worker_main(const char *slot, const char *parent) {
    static struct worker w = {.vectors_fd = -1, .snapshots_fd = -1, .intake = {.epoll_fd = -1}};
    struct status st;
    long number = 0;
    long pid = 0;
    int code = EX_OK;
    if (!parse_number(slot, &number) || number >= CONTROL_MAX_WORKERS || !parse_number(parent, &pid) ||
        fcntl(HERITAGE_CONFIG, F_GETFD) < 0) {
        (void)fprintf(stderr, "quired: --worker is for quired itself\n");
        return EX_USAGE;
    }
    /* The supervisor may have died before PR_SET_PDEATHSIG was set; then this process is somebody else's child now. */
    if ((long)getppid() != pid) {
        return EX_TEMPFAIL;
    }
    (void)prctl(PR_SET_NAME, "quired"); /* exec of /proc/self/exe named it "exe" */
    w.slot = (uint32_t)number;
    api_response_init(&w.response);
    if (set_up(&w, &st)) {
        store_release_u32(&w.page->state, WORKER_IDLE);
        store_release_u64(&w.page->ready, 1);
        serve_all(&w);
    } else {
        log_status(LOG_LEVEL_ERROR, "the worker cannot start", &st);
        code = st.code == STATUS_CONFIG ? EX_CONFIG : EX_OSERR;
    }
    tear_down(&w);
    log_close();
    return code;
}
