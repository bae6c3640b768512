/*
 * check.c - the check of a data directory (check.h): log, snapshots and checkpoint, and the report of it all.
 *
 * The order matters. The snapshots are read first, because the log need only go back to the newest good one; the checkpoint says how far the log must
 * reach. So the log is held to what a start without arenas would ask of it: then, and only then, can an arena be thrown away (check_advice).
 */
#include "durable/check.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/io.h"
#include "base/utf8.h"
#include "durable/check_internal.h"
#include "durable/recovery.h"
#include "durable/restore.h"
#include "durable/snapshot_archive.h"
#include "durable/wal.h"
#include "store/op_group.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { FAULTS_FIRST_CAP = 32, SUM_BYTES = 4 };

static const char *const part_names[CHECK_PARTS] = {
    [CHECK_LOG] = "log",     [CHECK_SNAPSHOTS] = "snapshots", [CHECK_CHECKPOINT] = "checkpoint",
    [CHECK_FILES] = "files", [CHECK_ROWS] = "rows",           [CHECK_VECTORS] = "vectors",
    [CHECK_GRAPH] = "graph", [CHECK_POSTINGS] = "postings",   [CHECK_COLUMNS] = "columns"};

const char *check_part_name(enum check_part part) {
    return part_names[part];
}

/* --- faults --- */

static bool room_for_fault(struct checking *k, size_t *room) {
    struct check_report *r = &k->report;
    if (r->fault_count < *room) {
        return true;
    }
    size_t more = *room == 0 ? FAULTS_FIRST_CAP : *room * 2;
    struct check_fault *faults = (struct check_fault *)realloc(r->faults, more * sizeof *faults);
    k->no_memory = k->no_memory || faults == NULL;
    if (faults == NULL) {
        return false;
    }
    r->faults = faults;
    *room = more;
    return true;
}

static void add_fault(struct checking *k, struct check_count *count, enum check_part part, uint64_t faults, const char *file,
                      struct fault_place at, const char *fmt, va_list args) PRINTF_LIKE(7, 0);
static void add_fault(struct checking *k, struct check_count *count, enum check_part part, uint64_t faults, const char *file,
                      struct fault_place at, const char *fmt, va_list args) {
    struct check_report *r = &k->report;
    count->faults += faults;
    r->total_faults += faults;
    if (k->told[part] >= CHECK_FAULTS_TOLD || !room_for_fault(k, &k->room)) {
        return;
    }
    struct check_fault *f = &r->faults[r->fault_count++];
    *f = (struct check_fault){.part = part, .place = at.place, .number = at.number};
    (void)snprintf(f->file, sizeof f->file, "%s", file);
    (void)vsnprintf(f->what, sizeof f->what, fmt, args);
    k->told[part]++;
}

void check_fault(struct checking *k, struct check_count *count, enum check_part part, uint64_t faults, const char *file,
                 struct fault_place at, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    add_fault(k, count, part, faults, file, at, fmt, args);
    va_end(args);
}

struct check_count *library_part(struct library_check *l, enum check_part part) {
    return &l->result->parts[part];
}

static void library_path(const struct library_check *l, const char *file, char out[CHECK_FILE_MAX]) {
    (void)snprintf(out, CHECK_FILE_MAX, "vectors/%s/%s", l->result->directory, file);
}

void library_fault(struct library_check *l, enum check_part part, const char *file, struct fault_place at, const char *fmt, ...) {
    char path[CHECK_FILE_MAX];
    va_list args;
    library_path(l, file, path);
    va_start(args, fmt);
    add_fault(l->k, library_part(l, part), part, 1, path, at, fmt, args);
    va_end(args);
}

void library_faults(struct library_check *l, enum check_part part, const char *file, uint64_t faults, const char *detail) {
    char path[CHECK_FILE_MAX];
    if (faults == UINT64_MAX) {
        l->k->no_memory = true;
    } else if (faults > 0) {
        library_path(l, file, path);
        check_fault(l->k, library_part(l, part), part, faults, path, AT_NO_PLACE, "%s%s", detail,
                    faults > 1 ? " (the first of several)" : "");
    }
}

static struct check_count *whole(struct checking *k, enum check_part part) {
    return &k->report.parts[part];
}

static void whole_fault(struct checking *k, enum check_part part, const char *file, const char *what) {
    check_fault(k, whole(k, part), part, 1, file, AT_NO_PLACE, "%s", what);
}

/* --- snapshots --- */

static bool count_op(const struct snapshot_op *op, void *ctx, struct status *st) {
    (void)op;
    (void)ctx;
    (void)st;
    return true;
}

/* *best: the LSN of the newest good one. */
static bool check_snapshot(struct checking *k, int dir_fd, const char *name, uint64_t *best, struct status *st) {
    struct snapshot_info info;
    struct status failed = {0};
    char path[CHECK_FILE_MAX];
    (void)snprintf(path, sizeof path, "snapshots/%s", name);
    whole(k, CHECK_SNAPSHOTS)->looked_at++;
    if (snapshot_load(dir_fd, name, NULL, count_op, NULL, &info, &failed)) {
        *best = info.lsn > *best ? info.lsn : *best;
        return true;
    }
    if (failed.code == STATUS_NO_MEMORY) {
        return status_no_memory(st);
    }
    whole_fault(k, CHECK_SNAPSHOTS, path, failed.detail);
    return true;
}

static bool check_snapshots(struct checking *k, int dir_fd, uint64_t *best, struct status *st) {
    char(*names)[SNAPSHOT_NAME_MAX] = NULL;
    size_t count = 0;
    whole(k, CHECK_SNAPSHOTS)->checked = true;
    if (dir_fd < 0) {
        return true;
    }
    bool ok = snapshot_names(dir_fd, &names, &count, st);
    for (size_t i = 0; ok && i < count; i++) {
        ok = check_snapshot(k, dir_fd, names[i], best, st);
    }
    free(names);
    return ok;
}

/* --- the log --- */

struct log_reading {
    struct checking *k;
    uint64_t last_change; /* LSN of the last op that changes something */
};

static bool check_record(const struct oplog_record *record, void *ctx, struct status *st) {
    struct log_reading *reading = (struct log_reading *)ctx;
    struct check_count *count = whole(reading->k, CHECK_LOG);
    struct status failed = {0};
    struct op_walk walk;
    struct op op;
    count->looked_at++;
    bool ok = op_walk_begin(&walk, record->op, NULL, &failed);
    while (ok && op_walk_next(&walk, &op)) {
        if (op.type != OP_LOG_CLOSE && record->lsn > reading->last_change) {
            reading->last_change = record->lsn;
        }
    }
    if (ok) {
        return true;
    }
    if (failed.code == STATUS_NO_MEMORY) {
        return status_no_memory(st);
    }
    check_fault(reading->k, count, CHECK_LOG, 1, "wal", (struct fault_place){CHECK_LSN, record->lsn}, "%s", failed.detail);
    return true;
}

static bool check_log(struct checking *k, int dir_fd, uint64_t snapshot_lsn, uint64_t *last_change, struct status *st) {
    struct log_reading reading = {.k = k};
    struct wal_options options = {.dir_fd = dir_fd, .expect_lsn = snapshot_lsn, .reached_lsn = k->report.lsn};
    struct wal_report report = {0};
    struct status fault = {0};
    struct check_count *count = whole(k, CHECK_LOG);
    count->checked = true;
    if (dir_fd < 0) {
        whole_fault(k, CHECK_LOG, "wal", "the directory of the log is missing");
        return true;
    }
    if (!wal_check(&options, check_record, &reading, &report, &fault, st)) {
        return false;
    }
    *last_change = reading.last_change;
    if (fault.code != STATUS_OK) {
        whole_fault(k, CHECK_LOG, "wal", fault.detail);
    } else if (report.torn_bytes > 0) {
        (void)snprintf(count->note, sizeof count->note,
                       "a torn tail of %" PRIu64 " bytes at %s: the last write, not finished or damaged since; the next start cuts it off", report.torn_bytes,
                       report.torn_at);
    }
    return true;
}

/* --- the checkpoint --- */

/* Whether it is whole, and only of another format. */
static bool whole_but_foreign(int data_dir_fd) {
    struct buf content = {0};
    struct status ignored;
    bool whole_file = io_read_file(data_dir_fd, CHECKPOINT_PATH, CHECKPOINT_BYTES_MAX, &content, &ignored) &&
                      content.len > SUM_BYTES &&
                      load_u32le(content.data + content.len - SUM_BYTES) == crc32c(0, content.data, content.len - SUM_BYTES);
    buf_fini(&content);
    return whole_file;
}

static bool read_checkpoint(struct checking *k, struct checkpoint *ret, struct status *st) {
    char why[CHECKPOINT_WHY_MAX] = "";
    int data = k->options->data_dir_fd;
    struct check_count *count = whole(k, CHECK_CHECKPOINT);
    if (!checkpoint_read(data, ret, &k->report.has_checkpoint, why, st)) {
        return false;
    }
    count->checked = k->report.has_checkpoint;
    if (k->report.has_checkpoint) {
        k->report.lsn = ret->lsn;
        count->looked_at = ret->library_count;
    } else if (why[0] != '\0' && !whole_but_foreign(data)) {
        whole_fault(k, CHECK_CHECKPOINT, CHECKPOINT_PATH, why);
    } else {
        (void)snprintf(count->note, sizeof count->note, "%.100s: what is not sound of the arenas is made again at the next start",
                       why[0] != '\0' ? why : "none, the server was not stopped in order");
    }
    return true;
}

/* --- libraries --- */

static bool check_libraries(struct checking *k, const struct checkpoint *c, struct status *st) {
    int vectors = -1;
    struct status failed = {0};
    k->report.libraries = (struct check_library *)calloc(c->library_count + 1, sizeof *k->report.libraries);
    if (k->report.libraries == NULL) {
        return status_no_memory(st);
    }
    if (c->library_count == 0) {
        return true;
    }
    if (!io_open_at(k->options->data_dir_fd, "vectors", O_RDONLY | O_DIRECTORY, 0, &vectors, st)) {
        return false;
    }
    bool ok = true;
    for (size_t i = 0; ok && i < c->library_count; i++) {
        struct library_check l = {.k = k, .result = &k->report.libraries[i], .saved = &c->libraries[i], .arena = ARENA_CLOSED};
        k->report.library_count = i + 1;
        memset(k->told + CHECK_FILES, 0, (CHECK_PARTS - CHECK_FILES) * sizeof k->told[0]);
        ok = check_library(&l, vectors, &failed);
        arena_close(&l.arena);
    }
    io_close(&vectors);
    if (!ok && st != NULL) {
        *st = failed;
    }
    return ok;
}

/* --- the whole --- */

struct directories {
    int wal, snapshots;
    int lock;
};

/* -1: it is not there. */
static bool open_directory(int data_dir_fd, const char *name, int *ret_fd, struct status *st) {
    struct status failed = {0};
    if (io_open_at(data_dir_fd, name, O_RDONLY | O_DIRECTORY, 0, ret_fd, &failed) || failed.sys_errno == ENOENT) {
        return true;
    }
    if (st != NULL) {
        *st = failed;
    }
    return false;
}

static bool check_all(struct checking *k, const struct directories *d, struct status *st) {
    struct checkpoint checkpoint = {0};
    uint64_t snapshot_lsn = 0;
    uint64_t last_change = 0;
    bool ok = read_checkpoint(k, &checkpoint, st) && check_snapshots(k, d->snapshots, &snapshot_lsn, st) &&
              check_log(k, d->wal, snapshot_lsn, &last_change, st);
    if (ok && k->report.has_checkpoint && last_change > k->report.lsn) {
        whole_fault(k, CHECK_CHECKPOINT, CHECKPOINT_PATH, "the log goes on behind it: it comes from another time than the log");
    }
    ok = ok && check_libraries(k, &checkpoint, st);
    checkpoint_fini(&checkpoint);
    return ok && (!k->no_memory || status_no_memory(st));
}

bool check_run(const struct check_options *options, struct check_report *ret, struct status *st) {
    struct checking k = {.options = options};
    struct directories d = {.wal = -1, .snapshots = -1, .lock = -1};
    bool ok = data_lock_shared(options->data_dir_fd, &d.lock, st) && restore_none_pending(options->data_dir_fd, st) &&
              open_directory(options->data_dir_fd, "wal", &d.wal, st) &&
              open_directory(options->data_dir_fd, "snapshots", &d.snapshots, st);
    if (ok && d.wal < 0 && d.snapshots < 0) {
        ok = status_set(
            st, STATUS_NOT_FOUND,
            "this is no data directory: there is neither wal/ nor snapshots/ in it (that of scripts/serve DIR is DIR/data)");
    }
    ok = ok && check_all(&k, &d, st);
    io_close(&d.wal);
    io_close(&d.snapshots);
    io_close(&d.lock);
    if (ok) {
        *ret = k.report;
    } else {
        check_report_fini(&k.report);
    }
    return ok;
}

void check_report_fini(struct check_report *r) {
    free(r->libraries);
    free(r->faults);
    *r = (struct check_report){0};
}

/* --- what to do --- */

void check_advice(const struct check_report *r, const struct check_fault *f, const char *data_dir, char *out, size_t room) {
    bool restorable = r->parts[CHECK_LOG].faults == 0;
    int directory = (int)(strrchr(f->file, '/') != NULL ? strrchr(f->file, '/') - f->file : 0);
    if (f->part == CHECK_LOG) {
        (void)snprintf(out, room, "put it back from a backup, or start once with `quired --repair`, which keeps what it can");
    } else if (f->part == CHECK_SNAPSHOTS) {
        (void)snprintf(out, room, "move %s/%s away, start the server and make another: quire snapshot create", data_dir, f->file);
    } else if (!restorable) {
        (void)snprintf(out, room,
                       "put the log in order first: only then can the arenas be made again. Delete nothing under %s/vectors",
                       data_dir);
    } else if (f->part == CHECK_CHECKPOINT) {
        (void)snprintf(out, room,
                       "delete %s/%s while the server is stopped: the arenas are made again from the log and the snapshots",
                       data_dir, f->file);
    } else {
        (void)snprintf(out, room, "delete %s/%.*s while the server is stopped: it is made again from the log and the snapshots",
                       data_dir, directory, f->file);
    }
}
