/*
 * worker.c - the worker role: its birth, and its loop.
 *
 * It serves one request at a time, or several writes (worker_desk.c): while one waits for its acknowledgement, others are taken. What came by the main socket, what
 * streams and what is long it serves alone.
 *
 * Signals: SIGTERM is intake.c's: finish what is in hand and go. SIGQUIT ends at once. The worker may be killed at any
 * instruction; what that leaves in shared memory is the supervisor's to clear.
 */
#include "proc/worker_internal.h"

#include "api/count.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "index/distance.h"
#include "proc/heritage.h"
#include "proc/sandbox.h"
#include "proc/worker_stream.h"
#include "shm/atomics.h"
#include "shm/mapfile.h"

#include <errno.h>
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
    CONFIG_MAX_BYTES = 1048576,
    MMAP_THRESHOLD = 262144, /* fixed: glibc would raise it with each large body and keep them all */
    KEEP_BYTES = 1048576     /* free at the heap's end: else requests that need more than 128 KiB get and give back their pages each */
};

/* --- serving ------------------------------------------------------------------------------------------------------------- */

/* A connection by HTTP/2; its time says nothing about requests, so it is counted in no histogram. */
static void serve_stream(struct worker *w, int fd) {
    const struct worker_stream stream = {.fd = fd,
                                         .api = w->alone.api,
                                         .response = &w->alone.response,
                                         .page = w->page,
                                         .call = &w->alone.call,
                                         .intake = &w->intake,
                                         .config = &w->config};
    worker_stream_serve(&stream);
    if (load_relaxed_u32(&w->page->state) == WORKER_BUSY) {
        count_reply(&w->alone.response, -1, w->page);
        (void)malloc_trim(0);
    }
    io_close(&fd);
}

static void serve_alone(struct worker *w, int fd, bool streams) {
    store_relaxed_u64(&w->page->busy_since_us, (uint64_t)clock_monotonic_us());
    if (streams) {
        serve_stream(w, fd);
    } else {
        w->alone.is_write = w->intake.has_place[INTAKE_WRITES];
        seat_serve(&w->alone, fd);
    }
    store_release_u32(&w->page->state, WORKER_IDLE);
    store_relaxed_u64(&w->page->busy_since_us, 0);
}

static void serve_writes(struct worker *w, int fd) {
    desk_take(w, fd);
    while (desk_is_busy(w)) {
        bool streams = false;
        desk_turn(w, &fd, &streams);
        if (fd >= 0) {
            serve_alone(w, fd, streams);
        }
    }
}

static void serve_all(struct worker *w) {
    int fd = -1;
    while (!w->link.broken && (fd = intake_next(&w->intake)) >= 0) {
        if (w->intake.has_place[INTAKE_WRITES]) {
            serve_writes(w, fd);
        } else {
            serve_alone(w, fd, w->intake.http2);
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
    w->scratch = search_scratch_new(w->config.limits.filter_cache_bytes);
    return w->scratch != NULL ? seat_init(&w->alone, w, st) : status_no_memory(st);
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
    mapfile_use_huge_pages(w->config.huge_pages == CONFIG_ON);
    config_kernel_name(&w->config, kernel);
    if (!distance_init(kernel[0] == '\0' ? NULL : kernel)) {
        return status_set(st, STATUS_CONFIG, "this CPU cannot run the distance kernel %s", kernel);
    }
    if (!models_init(&w->models, &w->config, HERITAGE_MODEL, MODEL_VERIFIED, st) || !open_store(w, st)) {
        return false;
    }
    hold_terminate();
    if (FCGX_Init() != 0) {
        return status_set(st, STATUS_INTERNAL, "libfcgi does not start");
    }
    ignore_signals();
    w->intake.peer_timeout_ms = w->config.peer_timeout_ms;
    return open_api(w, st) && intake_begin(&w->intake, w->control, w->slot, sockets, st) && intake_watch_link(&w->intake, w->link.fd, st);
}

static void tear_down(struct worker *w) {
    desk_fini(w);
    seat_fini(&w->alone);
    search_scratch_free(w->scratch);
    worker_link_fini(&w->link);
    store_reader_free(w->reader);
    embed_registry_fini(&w->models);
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
    static struct worker w = {.vectors_fd = -1, .snapshots_fd = -1, .intake = {.epoll_fd = -1, .desk_epoll_fd = -1}};
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
    api_response_init(&w.alone.response);
    desk_init(&w.desk);
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
