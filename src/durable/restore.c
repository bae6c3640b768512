/*
 * restore.c - the parent of a restore: takes ops from the child that reads (restore_reader.c), believes none of them, and builds the new state of them.
 *
 * The new state is a log: DIR/restore.new/wal, written by the log's own driver, so that the next start replays it as it would any log. Old arenas are linked
 * beside it (restore_vectors.c), where the start looks for vectors that still fit.
 *
 * With --library into a directory that has a state, two sources are read one after the other: that state to its end, then the library out of the source. So
 * there is one way to build and one to switch, and a library that was half-added does not exist.
 */
#include "durable/restore_internal.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/utf8.h"
#include "durable/recovery.h"
#include "durable/wal.h"
#include "store/op_group.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BATCH_RECORDS = 4096, TELL_US = 2000000, LINE_MAX_BYTES = 512, NOTE_SHOWN_MAX = 400, LEAST_REST_OF_RECORD = 64, NAME_BYTES_MAX = 4096, LIBRARY_AT = 2 };
#define BATCH_BYTES ((size_t)4 << 20)
#define SEGMENT_BYTES ((uint64_t)16 << 20)
#define RESERVE_BYTES ((uint64_t)256 << 20) /* of the disk, that stay free for the server's start */
#define FRAME_BYTES_MAX ((uint64_t)(1U << 30) + ((uint64_t)64 << 20))

struct restoring {
    const struct restore_options *options;
    int dir_fd;
    int lock_fd;
    int new_fd; /* restore.new */
    int wal_fd; /* restore.new/wal */
    bool has_old;
    struct oplog *log;
    uint64_t max_bytes;
    uint64_t next_lsn;
    uint64_t written; /* bytes of records */
    struct restore_state *state;
    struct restore_report report;
    int64_t told_us;
    /* records that wait for their append; their ops lie in batch at these places */
    struct buf batch;
    struct oplog_record records[BATCH_RECORDS];
    size_t at[BATCH_RECORDS];
    size_t record_count;
    /* of the source at hand */
    struct restore_state *survey; /* only its libraries are asked for: nothing is written */
    bool own;                     /* it is the old state of the directory itself */
    bool only;                    /* that library and no other */
    struct uuid library;
    struct uuid new_id;
    struct buf rewritten;
    uint64_t ops;
};

/* --- telling --- */

static void tell(struct restoring *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void tell(struct restoring *r, const char *fmt, ...) {
    char line[LINE_MAX_BYTES];
    va_list args;
    if (r->options->tell == NULL) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    r->options->tell(r->options->ctx, line);
}

/* What the child says came out of files from anywhere. */
static void clean(struct slice text, char *out, size_t cap) {
    size_t n = 0;
    for (; n < text.len && n + 1 < cap; n++) {
        out[n] = text.data[n] >= ' ' && text.data[n] <= '~' ? (char)text.data[n] : '?';
    }
    out[n] = '\0';
}

static void tell_progress(struct restoring *r) {
    int64_t now = clock_monotonic_us();
    if (now - r->told_us > TELL_US) {
        r->told_us = now;
        tell(r, "%" PRIu64 " operations, %" PRIu64 " MB", r->next_lsn - 1, r->written / 1000000);
    }
}

/* --- writing the new log --- */

static bool flush(struct restoring *r, struct status *st) {
    if (r->record_count == 0) {
        return true;
    }
    for (size_t i = 0; i < r->record_count; i++) {
        r->records[i].op.data = r->batch.data + r->at[i];
    }
    bool ok = oplog_append(r->log, r->records, r->record_count, st);
    r->record_count = 0;
    buf_reset(&r->batch);
    tell_progress(r);
    return ok;
}

static bool log_op(struct restoring *r, struct slice op, int64_t time_us, struct status *st) {
    uint64_t needed = r->written + op.len + LEAST_REST_OF_RECORD;
    if (needed > r->max_bytes) {
        return status_set(st, STATUS_TOO_LARGE, "it would take more than %" PRIu64 " bytes (see --max-bytes, and what is free on that disk)", r->max_bytes);
    }
    if ((r->record_count == BATCH_RECORDS || (r->record_count > 0 && r->batch.len + op.len > BATCH_BYTES)) && !flush(r, st)) {
        return false;
    }
    r->at[r->record_count] = r->batch.len;
    r->records[r->record_count++] = (struct oplog_record){.lsn = r->next_lsn++, .time_us = time_us, .op = {.len = op.len}};
    r->written = needed;
    buf_put_slice(&r->batch, op);
    return buf_check(&r->batch, st);
}

/* --- one op --- */

/* A library's definition under its new name. */
static bool rename_definition(struct restoring *r, const struct op *op, struct status *st) {
    struct library_definition d = op->as.definition;
    d.name = slice_str(r->options->as);
    buf_reset(&r->rewritten);
    if (op->type == OP_LIBRARY_MODEL) {
        op_encode_library_model(&r->rewritten, &r->new_id, &d, op->switches);
    } else {
        op_encode_library(&r->rewritten, (enum op_type)op->type, &r->new_id, &d);
    }
    return buf_check(&r->rewritten, st);
}

/* The op as one of the library's new id. */
static bool move_op(struct restoring *r, const struct op *op, struct status *st) {
    if (op->type == OP_LIBRARY_CREATE || op->type == OP_LIBRARY_UPDATE || op->type == OP_LIBRARY_MODEL) {
        return rename_definition(r, op, st);
    }
    buf_reset(&r->rewritten);
    buf_put_slice(&r->rewritten, op->bytes);
    if (buf_ok(&r->rewritten)) {
        memcpy(r->rewritten.data + LIBRARY_AT, r->new_id.b, UUID_BYTES); /* behind type and version, see op.h */
    }
    return buf_check(&r->rewritten, st);
}

/* Whether a library that is added to others may come under its name and its id. */
static bool name_is_free(struct restoring *r, const struct op *op, struct status *st) {
    char name[NAME_BYTES_MAX + 1];
    char id[UUID_TEXT + 1];
    char shown[LINE_MAX_BYTES / 4];
    struct uuid found;
    struct slice given = op->as.definition.name;
    if (op->type != OP_LIBRARY_CREATE || !r->only || given.len > NAME_BYTES_MAX) {
        return true;
    }
    if (given.len > 0) {
        memcpy(name, given.data, given.len);
    }
    name[given.len] = '\0';
    uuid_format(&op->library, id);
    clean(given, shown, sizeof shown);
    if (restore_state_find(r->state, name, &found) > 0) {
        return status_set(st, STATUS_CONFLICT, "there is a library '%s' already; give the restored one another name with --as", shown);
    }
    return restore_state_find(r->state, id, &found) == 0 ||
           status_set(st, STATUS_CONFLICT, "the library '%s' (%s) is there already, under another name; with --as the restored one comes beside it", shown, id);
}

static bool take_op(struct restoring *r, const struct op *op, int64_t time_us, struct status *st) {
    struct op moved;
    if (op->type == OP_LOG_CLOSE) {
        return true;
    }
    if (r->survey != NULL) {
        return restore_state_apply(r->survey, op, st);
    }
    if (r->only && (op_is_of_keys(op) || !uuid_equal(&op->library, &r->library))) {
        return true; /* one library comes without the keys of the server that it was on */
    }
    if (r->only && r->options->as != NULL) {
        if (!move_op(r, op, st) || !op_decode(buf_slice(&r->rewritten), NULL, &moved, st)) {
            return false;
        }
        op = &moved;
    }
    return name_is_free(r, op, st) && restore_state_apply(r->state, op, st) && log_op(r, op->bytes, time_us, st);
}

/* A record is an op or several; it stays whole where all of it is taken. */
static bool take_record(struct restoring *r, struct slice bytes, int64_t time_us, struct status *st) {
    struct op_walk walk;
    struct op op;
    if (!op_walk_begin(&walk, bytes, NULL, st)) {
        return false;
    }
    bool whole = bytes.len > 0 && bytes.data[0] == OP_GROUP && r->survey == NULL && !r->only;
    while (op_walk_next(&walk, &op)) {
        if (whole ? !restore_state_apply(r->state, &op, st) : !take_op(r, &op, time_us, st)) {
            return false;
        }
    }
    return !whole || log_op(r, bytes, time_us, st);
}

/* --- what the child says --- */

static bool read_all(int fd, void *data, size_t len, size_t *ret_have, struct status *st) {
    size_t have = 0;
    while (have < len) {
        ssize_t n = read(fd, (uint8_t *)data + have, len - have);
        if (n == 0) {
            break;
        }
        if (n < 0 && errno != EINTR) {
            return status_set_errno(st, errno, "cannot read from the reader");
        }
        have += n > 0 ? (size_t)n : 0;
    }
    *ret_have = have;
    return true;
}

/* Memory grows with what comes, not with what the frame claims. */
static bool read_payload(int fd, uint32_t length, struct buf *payload, struct status *st) {
    enum { STEP = 1 << 20 };
    buf_reset(payload);
    while (payload->len < length) {
        size_t step = length - payload->len < STEP ? length - payload->len : STEP;
        size_t have = 0;
        if (!buf_reserve(payload, step)) {
            return status_no_memory(st);
        }
        if (!read_all(fd, payload->data + payload->len, step, &have, st)) {
            return false;
        }
        if (have < step) {
            return status_set(st, STATUS_INTERNAL, "the reader ended in the middle of a frame");
        }
        payload->len += have;
    }
    return true;
}

static bool failed_frame(const struct restore_frame *f, struct slice text, struct status *st) {
    char detail[NOTE_SHOWN_MAX];
    enum status_code code = f->count > STATUS_OK && f->count <= STATUS_LAST ? (enum status_code)f->count : STATUS_INTERNAL;
    clean(text, detail, sizeof detail);
    return status_set(st, code, "%.300s", detail);
}

static int64_t sane_time(int64_t time_us) {
    int64_t now = clock_wall_us();
    return time_us < 0 ? 0 : time_us > now ? now : time_us;
}

static bool take_frame(struct restoring *r, const struct restore_frame *f, struct slice payload, bool *ret_done, struct status *st) {
    char text[NOTE_SHOWN_MAX];
    switch (f->kind) {
    case FRAME_NOTE:
        clean(payload, text, sizeof text);
        tell(r, "%s", text);
        return true;
    case FRAME_BASE:
        if (!r->own) {
            clean(payload, r->report.base, sizeof r->report.base);
        }
        return true;
    case FRAME_OP:
    case FRAME_RECORD:
        r->ops++;
        return take_record(r, payload, sane_time(f->time_us), st);
    case FRAME_DONE:
        *ret_done = true;
        if (f->count != r->ops) {
            return status_set(st, STATUS_INTERNAL, "the reader sent %" PRIu64 " operations, %" PRIu64 " came", f->count, r->ops);
        }
        if (!r->own) {
            r->report.lsn = f->lsn;
            r->report.time_us = f->time_us;
        }
        return true;
    case FRAME_FAILED:
        return failed_frame(f, payload, st);
    default:
        return status_set(st, STATUS_INTERNAL, "the reader says what nobody understands");
    }
}

static bool take_frames(struct restoring *r, int fd, bool *ret_done, struct status *st) {
    struct buf payload = {0};
    bool ok = true;
    while (ok && !*ret_done) {
        struct restore_frame frame;
        size_t have = 0;
        ok = read_all(fd, &frame, sizeof frame, &have, st);
        if (!ok || have < sizeof frame) {
            break;
        }
        if (frame.length > FRAME_BYTES_MAX) {
            ok = status_set(st, STATUS_TOO_LARGE, "the reader sends more than any operation has");
        }
        ok = ok && read_payload(fd, frame.length, &payload, st) && take_frame(r, &frame, buf_slice(&payload), ret_done, st);
    }
    buf_fini(&payload);
    return ok;
}

/* A child that reads. */
struct child {
    pid_t pid; /* -1: none */
    int pipe;
};

/* Ends it and says how it ended. One that has ended by itself keeps its own way; one that was made to do otherwise is not waited for. */
static int end_child(struct child *c) {
    int how = 0;
    io_close(&c->pipe);
    if (c->pid > 0) {
        (void)kill(c->pid, SIGKILL);
        while (waitpid(c->pid, &how, 0) < 0 && errno == EINTR) {
        }
    }
    c->pid = -1;
    return how;
}

/* Why a child ended that did not say. */
static bool reader_died(int how, struct status *st) {
    if (WIFSIGNALED(how) && WTERMSIG(how) == SIGXCPU) {
        return status_set(st, STATUS_TOO_LARGE, "reading takes longer than any archive of that size does: given up");
    }
    if (WIFSIGNALED(how)) {
        return status_set(st, STATUS_CORRUPT, "the reader was ended by signal %d: what it read is not what it says to be", WTERMSIG(how));
    }
    return status_set(st, STATUS_INTERNAL, "the reader ended early");
}

/* Takes all that a reader has to say. */
static bool take_all(struct restoring *r, struct child *c, struct status *st) {
    bool done = false;
    r->ops = 0;
    bool ok = take_frames(r, c->pipe, &done, st);
    int how = end_child(c);
    if (ok && !done) {
        ok = reader_died(how, st);
    }
    return ok && (r->survey != NULL || flush(r, st));
}

/* --- the library that is asked for --- */

static bool find_library(struct restoring *r, const struct restore_source *source, const struct restore_target *target, struct status *st) {
    const char *wanted = r->options->library;
    struct child child = {.pid = -1, .pipe = -1};
    r->survey = restore_state_new(true);
    bool ok = r->survey != NULL || status_no_memory(st);
    ok = ok && restore_reader_start(source, target, &child.pid, &child.pipe, st) && take_all(r, &child, st);
    size_t found = ok ? restore_state_find(r->survey, wanted, &r->library) : 0;
    restore_state_free(r->survey);
    r->survey = NULL;
    if (ok && found != 1) {
        ok = found == 0 ? status_set(st, STATUS_NOT_FOUND, "there is no library '%.200s' in the source, at the moment asked for", wanted)
                        : status_set(st, STATUS_CONFLICT, "%zu libraries have the name '%.200s': give the id", found, wanted);
    }
    return ok;
}

/* --as, before anything is read. What the server's max_name_bytes is nobody knows here: the preset is what every server takes that was not told otherwise. */
static bool name_is_good(const char *name, struct status *st) {
    struct limits preset;
    struct slice given = slice_str(name != NULL ? name : "-");
    limits_default(&preset);
    return (given.len > 0 && given.len <= preset.max_name_bytes && utf8_valid(given) && !utf8_has_control(given)) ||
           status_set(st, STATUS_INVALID, "--as takes a name of 1 to %" PRIu64 " bytes of UTF-8, without control characters", preset.max_name_bytes);
}

static bool check_new_name(struct restoring *r, struct status *st) {
    struct uuid found;
    const char *name = r->options->as;
    if (name != NULL && restore_state_find(r->state, name, &found) > 0) {
        return status_set(st, STATUS_CONFLICT, "there is a library '%.200s' already; --as takes a name that is free", name);
    }
    return true;
}

/* --- the directories --- */

/* What a data directory has; what a new file system has. */
static bool is_ours(const char *name) {
    static const char *const known[] = {"LOCK", "wal", RESTORE_NEW, RESTORE_READY, RESTORE_ENTERING, RESTORE_FETCHED};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i]) == 0) {
            return true;
        }
    }
    return false;
}

struct looking {
    bool any;
    bool ours;
};

static bool look_at_entry(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct looking *l = (struct looking *)ctx;
    (void)dir_fd;
    (void)st;
    l->any = l->any || strcmp(name, "lost+found") != 0;
    l->ours = l->ours || is_ours(name);
    return true;
}

/* A directory that is neither empty nor ours is not written into. */
bool restore_fits(int dir_fd, struct status *st) {
    struct looking l = {0};
    return io_each_entry(dir_fd, "the data directory", look_at_entry, &l, st) &&
           (!l.any || l.ours || status_set(st, STATUS_INVALID, "the directory to restore into is not empty, and no data directory of quire"));
}

static bool sync_parent(const char *path, struct status *st) {
    char copy[PATH_MAX];
    (void)snprintf(copy, sizeof copy, "%s", path);
    return io_fsync_dir(AT_FDCWD, dirname(copy), st);
}

/* Makes it where it is not. */
static bool open_directory(struct restoring *r, struct status *st) {
    const char *path = r->options->into;
    struct stat about;
    bool there = stat(path, &about) == 0;
    return (there || (io_mkdir_at(AT_FDCWD, path, RESTORE_DIRECTORY_MODE, st) && sync_parent(path, st))) &&
           io_open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, &r->dir_fd, st) && restore_fits(r->dir_fd, st);
}

static bool has_entry(int dir_fd, const char *name) {
    struct stat about;
    return fstatat(dir_fd, name, &about, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Root restores for whoever owns the directory: what is made is that user's, so that the server can read it. *ret_other false: there is nobody to become. */
static bool owner_of(const struct restoring *r, uid_t *ret_uid, gid_t *ret_gid, bool *ret_other, struct status *st) {
    struct stat about;
    if (fstat(r->dir_fd, &about) != 0) {
        return status_set_errno(st, errno, "cannot look at the data directory");
    }
    *ret_uid = about.st_uid;
    *ret_gid = about.st_gid;
    *ret_other = geteuid() == 0 && about.st_uid != 0;
    return true;
}

/* An earlier restore that was interrupted. The sources are still to be opened, with the rights of whoever called, so this user is left again. */
static bool complete_as_owner(struct restoring *r, struct status *st) {
    uid_t uid = 0;
    gid_t gid = 0;
    bool other = false;
    if (!owner_of(r, &uid, &gid, &other, st)) {
        return false;
    }
    if (other && (fchown(r->lock_fd, uid, gid) != 0 || setegid(gid) != 0 || seteuid(uid) != 0)) {
        return status_set_errno(st, errno, "cannot work as the owner of the data directory");
    }
    bool ok = restore_complete(r->dir_fd, NULL, st);
    if (other && (seteuid(0) != 0 || setegid(0) != 0) && ok) {
        ok = status_set_errno(st, errno, "cannot work as the owner of the data directory");
    }
    return ok;
}

/* From here on for good. */
static bool become_owner(const struct restoring *r, struct status *st) {
    uid_t uid = 0;
    gid_t gid = 0;
    bool other = false;
    if (!owner_of(r, &uid, &gid, &other, st)) {
        return false;
    }
    return !other || (setgroups(0, NULL) == 0 && setresgid(gid, gid, gid) == 0 && setresuid(uid, uid, uid) == 0) ||
           status_set_errno(st, errno, "cannot go on as the owner of the data directory");
}

static bool open_into(struct restoring *r, struct status *st) {
    struct status failed = {0};
    if (!open_directory(r, st)) {
        return false;
    }
    if (!data_lock(r->dir_fd, &r->lock_fd, &failed)) {
        return status_set(st, failed.code == STATUS_CONFLICT ? STATUS_BUSY : failed.code, "%.300s", failed.detail);
    }
    if (!complete_as_owner(r, st)) {
        return false;
    }
    r->has_old = has_entry(r->dir_fd, "wal") || has_entry(r->dir_fd, "snapshots");
    return true;
}

static bool set_quota(struct restoring *r, struct status *st) {
    uint64_t available = 0;
    if (!io_free_bytes(r->dir_fd, &available, st)) {
        return false;
    }
    available = available > RESERVE_BYTES + 2 * SEGMENT_BYTES ? available - RESERVE_BYTES - 2 * SEGMENT_BYTES : 0;
    r->max_bytes = r->options->max_bytes != 0 && r->options->max_bytes < available ? r->options->max_bytes : available;
    return true;
}

static bool make_new(struct restoring *r, struct status *st) {
    return io_mkdir_at(r->dir_fd, RESTORE_NEW, RESTORE_DIRECTORY_MODE, st) &&
           io_open_at(r->dir_fd, RESTORE_NEW, O_RDONLY | O_DIRECTORY, 0, &r->new_fd, st) && io_mkdir_at(r->new_fd, "wal", RESTORE_DIRECTORY_MODE, st) &&
           io_mkdir_at(r->new_fd, "snapshots", RESTORE_DIRECTORY_MODE, st) && io_mkdir_at(r->new_fd, "vectors", RESTORE_DIRECTORY_MODE, st) &&
           io_open_at(r->new_fd, "wal", O_RDONLY | O_DIRECTORY, 0, &r->wal_fd, st);
}

static bool open_log(struct restoring *r, struct status *st) {
    struct limits widest;
    limits_widest(&widest);
    struct wal_options options = {.dir_fd = r->wal_fd, .segment_bytes = SEGMENT_BYTES, .max_record_bytes = widest.max_op_bytes};
    return wal_open(&options, &r->log, NULL, st);
}

static bool seal(struct restoring *r, struct status *st) {
    oplog_close(r->log);
    r->log = NULL;
    restore_link_vectors(r->dir_fd, r->new_fd);
    return io_fsync_dir(r->new_fd, "wal", st) && io_fsync_dir(r->new_fd, "snapshots", st) && io_fsync_dir(r->new_fd, "vectors", st) &&
           io_fsync_dir(r->dir_fd, RESTORE_NEW, st);
}

/* --- the whole --- */

/* The old state of the directory, in its own words. */
static bool start_own(struct restoring *r, struct child *ret, struct status *st) {
    struct restore_source own;
    struct restore_target end = {.time_us = INT64_MAX};
    bool ok = restore_source_own(r->dir_fd, &own, st) && restore_reader_start(&own, &end, &ret->pid, &ret->pipe, st);
    restore_source_close(&own);
    return ok;
}

/* All readers are started before the log is opened, whose driver has a thread: a child is made by a process of one thread. */
static bool start_readers(struct restoring *r, const struct restore_source *source, const struct restore_target *target, struct child *own,
                          struct child *child, struct status *st) {
    bool beside = r->options->library != NULL && r->has_old;
    return (!beside || start_own(r, own, st)) && restore_reader_start(source, target, &child->pid, &child->pipe, st);
}

static bool take_own(struct restoring *r, struct child *own, struct status *st) {
    r->own = true;
    bool ok = own->pid < 0 || take_all(r, own, st);
    r->own = false;
    return ok;
}

static bool build(struct restoring *r, const struct restore_source *source, const struct restore_target *target, struct status *st) {
    struct child own = {.pid = -1, .pipe = -1};
    struct child child = {.pid = -1, .pipe = -1};
    if (r->options->library != NULL && !find_library(r, source, target, st)) {
        return false;
    }
    bool ok = become_owner(r, st) && set_quota(r, st) && make_new(r, st) && start_readers(r, source, target, &own, &child, st) && open_log(r, st) &&
              take_own(r, &own, st);
    r->only = r->options->library != NULL;
    ok = ok && check_new_name(r, st) && take_all(r, &child, st) && seal(r, st);
    (void)end_child(&own);
    (void)end_child(&child);
    return ok;
}

static bool run(struct restoring *r, struct status *st) {
    const struct restore_options *o = r->options;
    struct restore_target target = {.lsn = o->to_lsn, .time_us = o->to_time_us};
    struct restore_source source;
    restore_source_init(&source);
    uuid_make(&r->new_id);
    r->state = restore_state_new(false);
    if (r->state == NULL) {
        return status_no_memory(st);
    }
    bool ok = name_is_good(o->as, st) && open_into(r, st);
    ok = ok && restore_source_open(o->source, o->logs, o->log_count, r->dir_fd, &source, st) && build(r, &source, &target, st);
    restore_source_close(&source);
    if (ok && r->report.lsn == 0 && r->next_lsn == 1) {
        ok = status_set(st, STATUS_INVALID, "nothing was there yet: that would be an empty server");
    }
    if (!ok) {
        return false;
    }
    restore_state_count(r->state, &r->report);
    r->report.log_bytes = r->written;
    ok = restore_switch(r->dir_fd, r->report.replaced_as, st);
    return ok;
}

bool restore_run(const struct restore_options *options, struct restore_report *ret, struct status *st) {
    struct restoring *r = (struct restoring *)calloc(1, sizeof *r);
    if (r == NULL) {
        return status_no_memory(st);
    }
    *r = (struct restoring){.options = options, .dir_fd = -1, .lock_fd = -1, .new_fd = -1, .wal_fd = -1, .next_lsn = 1, .told_us = clock_monotonic_us()};
    bool ok = run(r, st);
    oplog_close(r->log);
    io_close(&r->wal_fd);
    io_close(&r->new_fd);
    if (!ok && r->lock_fd >= 0) {
        struct status ignored;
        (void)!io_remove_tree(r->dir_fd, RESTORE_NEW, &ignored); /* else the next restore or start does it */
    }
    io_close(&r->lock_fd);
    io_close(&r->dir_fd);
    restore_state_free(r->state);
    buf_fini(&r->batch);
    buf_fini(&r->rewritten);
    if (ok) {
        *ret = r->report;
    }
    free(r);
    return ok;
}
