/* audit.c - see audit.h. The thread reads to the pipe's end, which comes when the last process has closed the end for writing. */
#include "proc/audit.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/json_out.h"
#include "base/log.h"
#include "base/utf8.h"
#include "proc/thread.h"
#include "shm/atomics.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum { READ_BYTES = 65536, PIPE_BYTES = 1048576, FILE_MODE = 0640, US_PER_SECOND = 1000000, TELL_EVERY_US = 60000000, LOOK_MS = 500 };

/* What leads a line in the pipe. */
enum { MARK_REFUSAL = 'r', MARK_CHANGE = 'w' };

struct audit {
    struct supervisor *s;
    pthread_t thread;
    bool started;
    int pipe;
    int file; /* -1: lines go to the server's log, or the file cannot be opened */
    uint32_t reopen; /* atomic */
    uint32_t stopping; /* atomic */
    /* the thread's own */
    struct buf in, out;
    int64_t refusals;    /* that may be written now, times US_PER_SECOND */
    int64_t refilled_us;
    uint64_t suppressed; /* since the last line that says so */
    int64_t told_us;     /* when that was, or a failure was said */
};

/* --- a worker ----------------------------------------------------------------------------------------------------------- */

bool audit_send(int fd, struct slice line, bool refusal) {
    char whole[PIPE_BUF];
    if (line.len + 1 > sizeof whole) {
        return false;
    }
    whole[0] = refusal ? MARK_REFUSAL : MARK_CHANGE;
    memcpy(whole + 1, line.data, line.len);
    for (int tries = 0; tries < 2; tries++) {
        if (write(fd, whole, line.len + 1) == (ssize_t)(line.len + 1)) { /* whole or not at all: POSIX says so up to PIPE_BUF */
            return true;
        }
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if ((errno != EAGAIN && errno != EINTR) || poll(&p, 1, AUDIT_PATIENCE_MS) <= 0) {
            return false;
        }
    }
    return false;
}

/* --- lines ------------------------------------------------------------------------------------------------------------- */

static bool has_form(struct slice line) {
    return line.len >= 2 && line.data[0] == '{' && line.data[line.len - 1] == '}' && utf8_valid(line) && !utf8_has_control(line);
}

/* Whether one more refusal may be written: a bucket of AUDIT_REFUSALS_AT_ONCE that fills by AUDIT_REFUSALS_PER_SECOND. */
static bool may_refuse(struct audit *a) {
    const int64_t full = (int64_t)AUDIT_REFUSALS_AT_ONCE * US_PER_SECOND;
    int64_t now = clock_monotonic_us();
    a->refusals += (now - a->refilled_us) * AUDIT_REFUSALS_PER_SECOND;
    a->refusals = a->refusals < full ? a->refusals : full;
    a->refilled_us = now;
    if (a->refusals < US_PER_SECOND) {
        return false;
    }
    a->refusals -= US_PER_SECOND;
    return true;
}

static void put_suppressed(struct audit *a) {
    struct json_out j = json_out_to(&a->out);
    json_begin_object(&j);
    json_member_time(&j, "time", clock_wall_us());
    json_member_uint(&j, "refusals_not_written", a->suppressed);
    json_end_object(&j);
    buf_put_u8(&a->out, '\n');
    a->suppressed = 0;
}

static void take_line(struct audit *a, struct slice line) {
    struct service_figures *f = a->s->figures;
    bool refusal = line.len > 0 && line.data[0] == MARK_REFUSAL;
    bool change = line.len > 0 && line.data[0] == MARK_CHANGE;
    struct slice text = slice_of(line.data + 1, line.len > 0 ? line.len - 1 : 0);
    if ((!refusal && !change) || !has_form(text)) {
        (void)add_relaxed_u64(&f->audit_lost, 1);
        return;
    }
    if (refusal && !may_refuse(a)) {
        a->suppressed++;
        (void)add_relaxed_u64(&f->audit_suppressed, 1);
        return;
    }
    if (a->suppressed > 0) {
        put_suppressed(a);
    }
    buf_put_slice(&a->out, text);
    buf_put_u8(&a->out, '\n');
    (void)add_relaxed_u64(&f->audit_lines, 1);
}

static void take_lines(struct audit *a) {
    size_t at = 0;
    for (;;) {
        const uint8_t *from = a->in.data + at;
        const uint8_t *newline = at < a->in.len ? (const uint8_t *)memchr(from, '\n', a->in.len - at) : NULL;
        if (newline == NULL) {
            break;
        }
        take_line(a, slice_of(from, (size_t)(newline - from)));
        at = (size_t)(newline - a->in.data) + 1;
    }
    size_t left = a->in.len - at;
    left = left < PIPE_BUF ? left : 0; /* longer than any line */
    if (left > 0) {
        memmove(a->in.data, a->in.data + at, left);
    }
    a->in.len = left;
}

/* --- where they go ------------------------------------------------------------------------------------------------------ */

static void complain(struct audit *a, const struct status *st) {
    int64_t now = clock_monotonic_us();
    (void)add_relaxed_u64(&a->s->figures->audit_lost, 1);
    if (a->told_us == 0 || now - a->told_us >= TELL_EVERY_US) {
        log_status(LOG_LEVEL_ERROR, "the audit log cannot be written, and lines of it are lost", st);
        a->told_us = now;
    }
}

static bool open_file(struct audit *a, struct status *st) {
    int fd = -1;
    if (!io_open_at(AT_FDCWD, a->s->config.audit_log, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, FILE_MODE, &fd, st)) {
        return false;
    }
    io_close(&a->file);
    a->file = fd;
    return true;
}

static void write_file(struct audit *a) {
    struct slice rest = buf_slice(&a->out);
    struct status st;
    while (rest.len > 0) {
        ssize_t n = write(a->file, rest.data, rest.len);
        if (n < 0 && errno != EINTR) {
            (void)status_set_errno(&st, errno, "%s", a->s->config.audit_log);
            complain(a, &st);
            return;
        }
        rest.data += n > 0 ? n : 0;
        rest.len -= n > 0 ? (size_t)n : 0;
    }
}

static void write_log(struct audit *a) {
    struct slice rest = buf_slice(&a->out);
    while (rest.len > 0) {
        const uint8_t *newline = (const uint8_t *)memchr(rest.data, '\n', rest.len);
        size_t len = newline != NULL ? (size_t)(newline - rest.data) : rest.len;
        log_info("audit %.*s", (int)len, (const char *)rest.data);
        len += newline != NULL ? 1 : 0;
        rest = slice_of(rest.data + len, rest.len - len);
    }
}

static void write_out(struct audit *a) {
    struct status st;
    bool to_file = a->s->config.audit_log[0] != '\0';
    if (to_file && (__atomic_exchange_n(&a->reopen, 0, __ATOMIC_RELAXED) != 0 || a->file < 0) && !open_file(a, &st)) {
        complain(a, &st); /* the old one goes on, where there is one */
    }
    if (to_file && a->file >= 0) {
        write_file(a);
    } else if (!to_file) {
        write_log(a);
    }
    buf_reset(&a->out);
}

static void *run(void *arg) {
    struct audit *a = (struct audit *)arg;
    for (;;) {
        struct pollfd p = {.fd = a->pipe, .events = POLLIN};
        /* Should a worker have outlived the server's end, it has the pipe still: that is waited for by nobody. */
        if (poll(&p, 1, LOOK_MS) <= 0) {
            if (load_relaxed_u32(&a->stopping) != 0) {
                break;
            }
            continue;
        }
        ssize_t n = read(a->pipe, a->in.data + a->in.len, READ_BYTES);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        a->in.len += (size_t)n;
        take_lines(a);
        write_out(a);
    }
    if (a->suppressed > 0) {
        put_suppressed(a);
        write_out(a);
    }
    return NULL;
}

/* --- begin and end ------------------------------------------------------------------------------------------------------ */

static bool make_pipe(struct audit *a, int *ret_fd, struct status *st) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return status_set_errno(st, errno, "cannot make the pipe of the audit log");
    }
    a->pipe = ends[0];
    *ret_fd = ends[1];
    (void)fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES); /* less is no failure */
    return fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0 || status_set_errno(st, errno, "cannot make the pipe of the audit log");
}

bool audit_new(struct supervisor *s, int *ret_fd, struct audit **ret, struct status *st) {
    struct audit *a = (struct audit *)calloc(1, sizeof *a);
    bool to_file = s->config.audit_log[0] != '\0' && strcmp(s->config.audit_log, AUDIT_NONE) != 0;
    if (a == NULL) {
        return status_no_memory(st);
    }
    *a = (struct audit){.s = s, .pipe = -1, .file = -1, .refusals = (int64_t)AUDIT_REFUSALS_AT_ONCE * US_PER_SECOND, .refilled_us = clock_monotonic_us()};
    bool ok = (buf_reserve(&a->in, READ_BYTES + PIPE_BUF) || status_no_memory(st)) && make_pipe(a, ret_fd, st) && (!to_file || open_file(a, st)) &&
              thread_start(&a->thread, "audit", run, a, st);
    a->started = ok;
    if (!ok) {
        audit_free(a, ret_fd);
        return false;
    }
    *ret = a;
    return true;
}

void audit_reopen(struct audit *a) {
    if (a != NULL) {
        __atomic_store_n(&a->reopen, 1, __ATOMIC_RELAXED);
    }
}

void audit_free(struct audit *a, int *fd) {
    io_close(fd); /* the thread reads to the end */
    if (a == NULL) {
        return;
    }
    if (a->started) {
        store_relaxed_u32(&a->stopping, 1);
        (void)pthread_join(a->thread, NULL);
    }
    io_close(&a->pipe);
    io_close(&a->file);
    buf_fini(&a->in);
    buf_fini(&a->out);
    free(a);
}
