/*
 * restore_reader.c - the child of a restore: reads archives and log segments, which may come from anywhere, and writes ops into a pipe.
 *
 * Whatever it is made to do by what it reads, it has no rights to do it with (base/confine.h): the files it needs were opened before, and io_open_at finds
 * them in a table. So what is known of hostile archives (links, upward names, devices) meets a process that cannot write anything anywhere, and a bomb
 * meets its limit of memory. The parent believes none of its words.
 *
 * The order: one frame with the archive it begins with (or none), the ops of that, the records behind it, one frame with the end.
 */
#include "durable/restore_internal.h"

#include "base/clock.h"
#include "base/confine.h"
#include "base/hash.h"
#include "base/io.h"
#include "durable/snapshot_api_keys.h"
#include "durable/snapshot_read.h"
#include "store/op_group.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

/* The largest entry that is taken into memory (512 MiB and 8 MiB, twice while its buffer grows), and the JSON of a line. */
#define READER_MEMORY ((uint64_t)2 << 30)
enum { CPU_SECONDS_LEAST = 600, CPU_BYTES_PER_SECOND = 500000, NOTE_MAX = 512 };

/* --- the pipe --- */

static bool write_all(int fd, const void *data, size_t len, struct status *st) {
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, (const uint8_t *)data + done, len - done);
        if (n < 0 && errno != EINTR) {
            return status_set_errno(st, errno, "the reader cannot write");
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

bool restore_send(struct restore_reader *r, enum restore_frame_kind kind, uint64_t lsn, int64_t time_us, uint64_t count, struct slice payload,
                  struct status *st) {
    struct restore_frame frame = {.kind = kind, .length = (uint32_t)payload.len, .lsn = lsn, .time_us = time_us, .count = count};
    if (payload.len > UINT32_MAX) {
        return status_set(st, STATUS_TOO_LARGE, "an op has %zu bytes", payload.len);
    }
    r->sent += kind == FRAME_OP || kind == FRAME_RECORD ? 1 : 0;
    return write_all(r->pipe, &frame, sizeof frame, st) && write_all(r->pipe, payload.data, payload.len, st);
}

/* A text for the user, who knows the archive by the name that he gave it. */
static bool send_text(struct restore_reader *r, enum restore_frame_kind kind, int64_t time_us, uint64_t count, const char *text, struct status *st) {
    struct buf told = {0};
    const char *found = NULL;
    while ((found = strstr(text, RESTORE_ONLY_NAME)) != NULL && r->source->archive_given[0] != '\0') {
        buf_put(&told, text, (size_t)(found - text));
        buf_put_slice(&told, slice_str(r->source->archive_given));
        text = found + strlen(RESTORE_ONLY_NAME);
    }
    buf_put_slice(&told, slice_str(text));
    bool ok = buf_check(&told, st) && restore_send(r, kind, 0, time_us, count, buf_slice(&told), st);
    buf_fini(&told);
    return ok;
}

void restore_note(struct restore_reader *r, const char *fmt, ...) {
    char text[NOTE_MAX];
    struct status ignored;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    (void)!send_text(r, FRAME_NOTE, 0, 0, text, &ignored);
}

/* --- giving up what it inherited --- */

static int by_number(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

static void close_between(int from, int end) {
    if (from < end) {
        (void)close_range((unsigned)from, (unsigned)end - 1, 0);
    }
}

/* Closes all descriptors but those that it reads from, the pipe, and the first three: the directory's LOCK above all, which would outlive the parent with it. */
static bool close_others(const struct restore_source *s, int pipe) {
    size_t count = 0;
    int *kept = (int *)calloc(s->archive_count + s->segment_count + 2, sizeof *kept);
    if (kept == NULL) {
        return false;
    }
    kept[count++] = pipe;
    kept[count++] = s->snapshots_fd;
    for (size_t i = 0; i < s->archive_count; i++) {
        kept[count++] = s->archives[i].fd;
    }
    for (size_t i = 0; i < s->segment_count; i++) {
        kept[count++] = s->segments[i].fd;
    }
    qsort(kept, count, sizeof *kept, by_number);
    int from = STDERR_FILENO + 1;
    for (size_t i = 0; i < count; i++) {
        close_between(from, kept[i]);
        from = kept[i] >= from ? kept[i] + 1 : from;
    }
    free(kept);
    return close_range((unsigned)from, UINT_MAX, 0) == 0;
}

/* Nothing but the pipe is there to be written to. */
static bool silence(void) {
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = STDIN_FILENO; nothing >= 0 && fd <= STDERR_FILENO; fd++) {
        if (dup2(nothing, fd) < 0) {
            return false;
        }
    }
    io_close(&nothing);
    return true;
}

/* --- opening without the right to --- */

static int open_from_table(int dir_fd, const char *path, int flags, int *ret_fd, void *ctx) {
    const struct restore_source *s = (const struct restore_source *)ctx;
    int fd = -1;
    (void)flags;
    if (dir_fd == s->snapshots_fd && strcmp(path, ".") == 0) {
        fd = dup(dir_fd);
        if (fd >= 0 && lseek(fd, 0, SEEK_SET) < 0) {
            io_close(&fd);
        }
        *ret_fd = fd;
        return fd >= 0 ? 0 : errno;
    }
    for (size_t i = 0; i < s->archive_count; i++) {
        if (s->archives[i].dir_fd == dir_fd && strcmp(s->archives[i].name, path) == 0) {
            fd = dup(s->archives[i].fd);
            *ret_fd = fd;
            return fd >= 0 ? 0 : errno;
        }
    }
    return ENOENT;
}

/* --- the archive --- */

struct sending {
    struct restore_reader *reader;
    uint64_t lsn;
    int64_t time_us;
};

/* Vectors beside an op are left out: they are of a model that runs in the server, which makes them again from the text sooner than a log with them is read. Those of
 * callers and providers are ops. */
static bool send_op(const struct snapshot_op *item, void *ctx, struct status *st) {
    const struct sending *s = (const struct sending *)ctx;
    return restore_send(s->reader, FRAME_OP, s->lsn, s->time_us, 0, item->op->bytes, st);
}

/* What is remembered of a request: a record without ops. */
static bool send_key(struct slice entry, uint64_t lsn, int64_t time_us, void *ctx, struct status *st) {
    const struct sending *s = (const struct sending *)ctx;
    struct buf record = {0};
    (void)lsn; /* the log that is made has LSNs of its own */
    op_group_begin(&record, entry, 0);
    bool ok = buf_check(&record, st) && restore_send(s->reader, FRAME_RECORD, s->lsn, time_us, 0, buf_slice(&record), st);
    buf_fini(&record);
    return ok;
}

/* Those behind a line that somebody has spoilt are lost, and nothing else. */
static bool send_keys(struct sending *s, const struct buf *lines, struct status *st) {
    struct status failed = {0};
    if (idempotency_each_line(buf_slice(lines), send_key, s, &failed)) {
        return true;
    }
    if (failed.code != STATUS_MALFORMED) {
        *st = failed;
        return false;
    }
    restore_note(s->reader, "idempotency keys of the archive are lost: %s", failed.detail);
    return true;
}

static bool send_api_key(const struct op_key *key, int64_t last_used_at, void *ctx, struct status *st) {
    const struct sending *s = (const struct sending *)ctx;
    struct buf op = {0};
    (void)last_used_at;
    op_encode_key_add(&op, key);
    bool ok = buf_check(&op, st) && restore_send(s->reader, FRAME_OP, s->lsn, s->time_us, 0, buf_slice(&op), st);
    buf_fini(&op);
    return ok;
}

static const char *shown_name(const struct restore_source *s, const char *name) {
    return s->archive[0] != '\0' ? s->archive_given : name;
}

static bool too_new(const struct restore_reader *r, const struct snapshot_info *info) {
    return (r->target.lsn != 0 && info->lsn > r->target.lsn) || info->created_at > r->target.time_us;
}

/* Verifies the archive and sends all of it. *ret_failed: it does not verify; nothing was sent. */
static bool send_archive(struct restore_reader *r, const char *name, bool *ret_failed, struct status *st) {
    struct limits limits;
    struct snapshot_chain *chain = NULL;
    limits_default(&limits);
    *ret_failed = !snapshot_open_verified(r->source->snapshots_fd, name, &limits, &chain, st);
    if (*ret_failed) {
        return false;
    }
    const struct snapshot_info *info = snapshot_chain_info(chain);
    bool ok = true;
    if (too_new(r, info)) {
        char time[RFC3339_MAX];
        (void)rfc3339_format(info->created_at, time);
        ok = status_set(st, STATUS_INVALID, "%.100s holds LSN %" PRIu64 ", written at %s: the target is before it", shown_name(r->source, name), info->lsn,
                        time);
    } else {
        struct sending sending = {.reader = r, .lsn = info->lsn, .time_us = info->created_at};
        r->lsn = info->lsn;
        r->time_us = info->created_at;
        r->place = info->log_place;
        (void)snprintf(r->base, sizeof r->base, "%s", shown_name(r->source, name));
        ok = restore_send(r, FRAME_BASE, info->lsn, info->created_at, info->documents, slice_str(shown_name(r->source, name)), st) &&
             snapshot_load_verified(chain, &limits, send_op, &sending, st) && send_keys(&sending, snapshot_chain_keys(chain), st) &&
             snapshot_each_api_key(buf_slice(snapshot_chain_api_keys(chain)), send_api_key, &sending, st);
    }
    snapshot_chain_free(chain);
    return ok;
}

static bool send_newest(struct restore_reader *r, struct status *st) {
    struct snapshot_info *infos = NULL;
    size_t count = 0;
    bool sent = false;
    if (!snapshot_list(r->source->snapshots_fd, &infos, &count, st)) {
        return false;
    }
    bool ok = true;
    bool passed_over = false;
    for (size_t i = 0; ok && !sent && i < count; i++) {
        struct status failed = {0};
        bool unverified = false;
        if (too_new(r, &infos[i])) {
            continue;
        }
        sent = send_archive(r, infos[i].name, &unverified, &failed);
        if (!sent && unverified && failed.code != STATUS_NO_MEMORY) {
            restore_note(r, "%s cannot be used, an older one is tried: %s", infos[i].name, failed.detail);
            passed_over = true;
        } else if (!sent) {
            *st = failed;
            ok = false;
        }
    }
    free(infos);
    if (ok && !sent && passed_over && r->source->segment_count == 0) {
        ok = status_set(st, STATUS_CORRUPT, "no snapshot can be used");
    } else if (ok && !sent && r->source->segment_count == 0) {
        ok = status_set(st, STATUS_NOT_FOUND, "there is no snapshot at or before the target");
    }
    return ok;
}

static bool send_base(struct restore_reader *r, struct status *st) {
    bool unverified = false;
    if (r->source->archive[0] != '\0') {
        return send_archive(r, r->source->archive, &unverified, st);
    }
    return r->source->snapshots_fd < 0 || send_newest(r, st);
}

/* --- the child --- */

static bool read_all(struct restore_reader *r, struct status *st) {
    return send_base(r, st) && restore_read_log(r, st) && restore_send(r, FRAME_DONE, r->lsn, r->time_us, r->sent, slice_of(NULL, 0), st);
}

/* libcrypto sets itself up at its first hash, with files that will be out of reach. */
static void warm_up(void) {
    uint8_t sum[32];
    sha256("", 0, sum);
}

static bool confine(const struct restore_source *s, struct status *st) {
    struct confinement c = {.memory_bytes = READER_MEMORY, .cpu_seconds = CPU_SECONDS_LEAST + s->bytes / CPU_BYTES_PER_SECOND};
    return confine_self(&c, st);
}

static _Noreturn void run_child(struct restore_reader *r, pid_t parent) {
    struct status st = {0};
    if (!close_others(r->source, r->pipe) || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != parent || !silence()) {
        _exit(1);
    }
    (void)signal(SIGPIPE, SIG_DFL);
    warm_up();
    bool ok = confine(r->source, &st);
    if (ok) {
        io_set_fault(NULL, NULL);
        io_set_opener(open_from_table, (void *)(uintptr_t)r->source);
        ok = read_all(r, &st);
    }
    if (!ok) {
        struct status ignored;
        if (st.code == STATUS_NO_MEMORY) {
            (void)status_set(&st, STATUS_TOO_LARGE, "reading it takes more memory than the %" PRIu64 " MB that a reader may have, or than there is",
                             READER_MEMORY / 1000000);
        }
        (void)!send_text(r, FRAME_FAILED, st.sys_errno, (uint64_t)st.code, st.detail, &ignored);
    }
    _exit(ok ? 0 : 1);
}

bool restore_reader_start(const struct restore_source *source, const struct restore_target *target, pid_t *ret_pid, int *ret_pipe, struct status *st) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return status_set_errno(st, errno, "cannot make a pipe");
    }
    (void)fcntl(ends[1], F_SETPIPE_SZ, 1 << 20); /* fewer switches; less is no failure */
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        struct restore_reader reader = {.source = source, .target = *target, .pipe = ends[1]};
        run_child(&reader, parent);
    }
    io_close(&ends[1]);
    if (pid < 0) {
        int err = errno;
        io_close(&ends[0]);
        return status_set_errno(st, err, "cannot start the reader");
    }
    *ret_pid = pid;
    *ret_pipe = ends[0];
    return true;
}
