/*
 * backup.c - see backup.h.
 *
 * The log goes first: it is what a lost machine would lose, and a snapshot may take hours. While a large chain goes up, the log is looked at again between its
 * archives. Only on the first run there is nothing that the log could be rolled forward from; then the snapshot goes first.
 *
 * Segments at or below the LSN of the oldest snapshot that the storage keeps are of no use there and do not go up: else each pass would send what the one before
 * removed.
 *
 * Removal is last, dependents before what they rest on, so that an interruption leaves no snapshot without its base. What the storage does not let go (object
 * lock, a key that may not delete) is told and is no failure of the backup.
 */
#include "s3/backup.h"

#include "base/clock.h"
#include "base/io.h"
#include "durable/snapshot.h"
#include "durable/snapshot_format.h"
#include "durable/wal_scan.h"
#include "s3/retention.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_FILE "LOCK"
enum { LINE_MAX_BYTES = 512, FILE_MODE = 0600, DIRECTORY_MODE = 0700, FIRST_CAP = 16, REFUSALS_MAX = 16 };

struct segment_file {
    char name[WAL_NAME_MAX];
    uint64_t first_lsn;
    uint64_t size;
};
struct segment_files {
    struct segment_file *items;
    size_t count, cap;
};

struct s3_backup {
    struct s3_client *client;
    struct s3_sealing sealing;
    const struct s3_settings *settings;
    void (*tell)(void *ctx, const char *line);
    void *ctx;
    int data_fd;
    int state_fd; /* the directory <data>/backup */
    int lock_fd;
    struct backup_state state;
    bool cleared; /* what earlier runs left was aborted */
    /* of a pass */
    struct uuid instance;
    struct s3_listing there;
    struct s3_report report;
};

static void tell(struct s3_backup *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void tell(struct s3_backup *b, const char *fmt, ...) {
    char line[LINE_MAX_BYTES];
    va_list args;
    if (b->tell != NULL) {
        va_start(args, fmt);
        (void)vsnprintf(line, sizeof line, fmt, args);
        va_end(args);
        b->tell(b->ctx, line);
    }
}

/* --- the state file --------------------------------------------------------------------------------------------------------- */

static void read_state(struct s3_backup *b) {
    struct buf text = {0};
    struct status ignored;
    if (!io_read_file(b->state_fd, BACKUP_STATE_FILE, BACKUP_STATE_MAX, &text, &ignored) || !backup_state_parse(buf_slice(&text), &b->state)) {
        b->state = (struct backup_state){0};
    }
    buf_fini(&text);
}

static bool write_state(struct s3_backup *b, struct status *st) {
    char text[BACKUP_STATE_MAX];
    backup_state_format(&b->state, text);
    return io_replace_file(b->state_fd, BACKUP_STATE_FILE, slice_str(text), FILE_MODE, st);
}

/* --- opening ---------------------------------------------------------------------------------------------------------------- */

static bool take_lock(struct s3_backup *b, struct status *st) {
    if (!io_open_at(b->state_fd, LOCK_FILE, O_RDWR | O_CREAT | O_NOFOLLOW, FILE_MODE, &b->lock_fd, st)) {
        return false;
    }
    if (flock(b->lock_fd, LOCK_EX | LOCK_NB) == 0) {
        return true;
    }
    return errno == EWOULDBLOCK ? status_set(st, STATUS_BUSY, "another backup of this data directory is under way") : status_set_errno(st, errno, "cannot lock the backup");
}

/* Root backs up as whoever owns the directory does, so that what is left there is that user's. */
static bool become_owner(const struct s3_backup *b, struct status *st) {
    struct stat about;
    if (fstat(b->data_fd, &about) != 0) {
        return status_set_errno(st, errno, "cannot look at data_dir");
    }
    return geteuid() != 0 || about.st_uid == 0 || (fchown(b->state_fd, about.st_uid, about.st_gid) == 0 && fchown(b->lock_fd, about.st_uid, about.st_gid) == 0) ||
           status_set_errno(st, errno, "cannot give the backup's state to the owner of data_dir");
}

bool s3_backup_open(struct s3_client *client, const struct s3_sealing *sealing, void (*tell_fn)(void *ctx, const char *line), void *ctx, struct s3_backup **ret,
                    struct status *st) {
    struct s3_backup *b = (struct s3_backup *)calloc(1, sizeof *b);
    if (b == NULL) {
        return status_no_memory(st);
    }
    *b = (struct s3_backup){.client = client, .sealing = *sealing, .settings = s3_client_settings(client), .tell = tell_fn, .ctx = ctx, .data_fd = -1, .state_fd = -1,
                            .lock_fd = -1};
    bool ok = io_open_at(AT_FDCWD, b->settings->data_dir, O_RDONLY | O_DIRECTORY, 0, &b->data_fd, st) &&
              io_mkdir_at(b->data_fd, BACKUP_STATE_DIRECTORY, DIRECTORY_MODE, st) &&
              io_open_at(b->data_fd, BACKUP_STATE_DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &b->state_fd, st) && take_lock(b, st) && become_owner(b, st);
    if (!ok) {
        s3_backup_close(b);
        return false;
    }
    read_state(b);
    *ret = b;
    return true;
}

void s3_backup_close(struct s3_backup *b) {
    if (b != NULL) {
        s3_listing_fini(&b->there);
        io_close(&b->lock_fd);
        io_close(&b->state_fd);
        io_close(&b->data_fd);
        free(b);
    }
}

/* --- which log it is -------------------------------------------------------------------------------------------------------- */

static bool read_header(int dir_fd, const char *name, struct wal_header *ret, bool *ret_good, struct status *st) {
    uint8_t page[WAL_HEADER_BYTES];
    struct status ignored = {0};
    size_t have = 0;
    int fd = -1;
    *ret_good = false;
    if (!io_open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW, 0, &fd, &ignored)) {
        if (ignored.sys_errno != ENOENT) {
            *st = ignored;
        }
        return ignored.sys_errno == ENOENT;
    }
    bool ok = io_pread(fd, page, sizeof page, 0, &have, st);
    *ret_good = ok && have == sizeof page && wal_header_decode(page, ret, &ignored);
    io_close(&fd);
    return ok;
}

struct newest {
    struct wal_header header;
    bool found;
};

static bool take_newest(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct newest *n = (struct newest *)ctx;
    struct wal_header header;
    uint64_t first_lsn = 0;
    bool good = false;
    if (!wal_name_parse(name, &first_lsn)) {
        return true;
    }
    if (!read_header(dir_fd, name, &header, &good, st)) {
        return false;
    }
    if (good && (!n->found || header.first_lsn > n->header.first_lsn)) {
        n->header = header;
        n->found = true;
    }
    return true;
}

static bool find_instance(struct s3_backup *b, struct status *st) {
    struct newest n = {0};
    int fd = -1;
    bool ok = io_open_at(b->data_fd, "wal", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, st) && io_each_entry(fd, "the log", take_newest, &n, st);
    io_close(&fd);
    if (ok && !n.found) {
        ok = status_set(st, STATUS_NOT_FOUND, "%.200s has no log: is it the data directory of a server?", b->settings->data_dir);
    }
    b->instance = n.header.instance;
    return ok;
}

/* --- putting up ------------------------------------------------------------------------------------------------------------- */

static bool put(struct s3_backup *b, struct s3_object *o, int fd, struct status *st) {
    bool ok = s3_measure(fd, &b->sealing, b->settings->max_file_bytes, o, st) && s3_put(b->client, &b->sealing, o, fd, st);
    if (!ok) {
        return false;
    }
    o->modified_us = b->there.date_us;
    b->report.uploaded++;
    b->report.uploaded_bytes += o->size;
    tell(b, "%s is up, %" PRIu64 " bytes", o->file, o->size);
    return s3_listing_add(&b->there, o, st);
}

/* --- the log ---------------------------------------------------------------------------------------------------------------- */

static bool take_segment(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct segment_files *l = (struct segment_files *)ctx;
    struct segment_file f = {0};
    struct stat about;
    if (strlen(name) >= sizeof f.name || !wal_name_parse(name, &f.first_lsn) || fstatat(dir_fd, name, &about, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(about.st_mode)) {
        return true;
    }
    if (l->count == l->cap) {
        size_t cap = l->cap == 0 ? FIRST_CAP : 2 * l->cap;
        struct segment_file *grown = (struct segment_file *)realloc(l->items, cap * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        l->items = grown;
        l->cap = cap;
    }
    (void)snprintf(f.name, sizeof f.name, "%s", name);
    f.size = (uint64_t)about.st_size;
    l->items[l->count++] = f;
    return true;
}

static int by_first_lsn(const void *a, const void *b) {
    const struct segment_file *x = (const struct segment_file *)a;
    const struct segment_file *y = (const struct segment_file *)b;
    return x->first_lsn != y->first_lsn ? (x->first_lsn < y->first_lsn ? -1 : 1) : strcmp(x->name, y->name);
}

static bool has_segment(const struct s3_backup *b, const struct segment_file *f) {
    for (size_t i = 0; i < b->there.count; i++) {
        const struct s3_object *o = &b->there.items[i];
        if (o->kind == S3_SEGMENT && o->size == f->size && strcmp(o->file, f->name) == 0) {
            return true;
        }
    }
    return false;
}

/* The segment, if it is of this log, holds a record, and reads to its end. */
static bool examine(struct s3_backup *b, int fd, const struct segment_file *f, struct s3_object *o, bool *ret_wanted, struct status *st) {
    uint8_t page[WAL_HEADER_BYTES];
    struct wal_header header;
    struct wal_window window;
    struct wal_scan scan = {0};
    struct status why = {0};
    off_t size = 0;
    size_t have = 0;
    *ret_wanted = false;
    if (!io_size(fd, &size, st) || !io_pread(fd, page, sizeof page, 0, &have, st)) {
        return false;
    }
    if (have < sizeof page || !wal_header_decode(page, &header, &why)) {
        tell(b, "%s is passed over: it is no segment of a log", f->name);
        return true;
    }
    if (!uuid_equal(&header.instance, &b->instance)) {
        return true; /* of the log before a restore */
    }
    wal_window_init(&window, fd, (uint64_t)size < header.bytes ? (uint64_t)size : header.bytes);
    bool ok = wal_scan_segment(&window, &header, 0, NULL, NULL, &scan, st);
    wal_window_fini(&window);
    if (ok && scan.next_lsn > header.first_lsn) {
        *o = (struct s3_object){.kind = S3_SEGMENT, .instance = b->instance, .first_lsn = f->first_lsn, .lsn = scan.next_lsn - 1};
        (void)snprintf(o->file, sizeof o->file, "%s", f->name);
        *ret_wanted = true;
    }
    return ok;
}

static bool put_segment(struct s3_backup *b, int dir_fd, const struct segment_file *f, uint64_t floor, struct status *st) {
    struct status failed = {0};
    struct s3_object o;
    bool wanted = false;
    int fd = -1;
    if (!io_open_at(dir_fd, f->name, O_RDONLY | O_NOFOLLOW, 0, &fd, &failed)) {
        if (failed.sys_errno != ENOENT) { /* else it was let go meanwhile */
            *st = failed;
        }
        return failed.sys_errno == ENOENT;
    }
    bool ok = examine(b, fd, f, &o, &wanted, st) && (!wanted || o.lsn <= floor || put(b, &o, fd, st));
    io_close(&fd);
    return ok;
}

static bool find_floor(struct s3_backup *b, uint64_t *ret, struct status *st) {
    struct s3_retention r = {.keep = b->settings->keep, .keep_days = b->settings->keep_days};
    bool *marks = (bool *)calloc(b->there.count + 1, sizeof *marks);
    bool ok = (marks != NULL || status_no_memory(st)) && s3_retain(&b->there, &r, marks, ret, st);
    free(marks);
    return ok;
}

static bool put_log(struct s3_backup *b, struct status *st) {
    struct segment_files files = {0};
    uint64_t floor = 0;
    int fd = -1;
    if (b->settings->archive_dir[0] == '\0') {
        return true;
    }
    bool ok = find_floor(b, &floor, st) && io_open_at(AT_FDCWD, b->settings->archive_dir, O_RDONLY | O_DIRECTORY, 0, &fd, st) &&
              io_each_entry(fd, "archive_dir", take_segment, &files, st);
    if (ok && files.count > 1) {
        qsort(files.items, files.count, sizeof *files.items, by_first_lsn);
    }
    for (size_t i = 0; ok && i < files.count; i++) {
        bool below = i + 1 < files.count && files.items[i + 1].first_lsn <= floor + 1; /* what follows says that it ends there */
        if (!below && !has_segment(b, &files.items[i])) {
            ok = put_segment(b, fd, &files.items[i], floor, st);
        }
    }
    free(files.items);
    io_close(&fd);
    return ok;
}

/* --- snapshots -------------------------------------------------------------------------------------------------------------- */

static const struct snapshot_info *find_info(const struct snapshot_info *infos, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(infos[i].name, name) == 0) {
            return &infos[i];
        }
    }
    return NULL;
}

/* One archive, unless it is there. *ret_gone: the server has removed it meanwhile. */
static bool put_archive(struct s3_backup *b, int dir_fd, const struct snapshot_info *info, bool *ret_gone, struct status *st) {
    struct s3_object o = {.kind = S3_SNAPSHOT, .instance = b->instance, .lsn = info->lsn};
    struct status failed = {0};
    int fd = -1;
    *ret_gone = false;
    if (s3_find_snapshot(&b->there, &b->instance, info->name) != SIZE_MAX) {
        return true;
    }
    (void)snprintf(o.file, sizeof o.file, "%s", info->name);
    (void)snprintf(o.base, sizeof o.base, "%s", info->base);
    if (!io_open_at(dir_fd, info->name, O_RDONLY | O_NOFOLLOW, 0, &fd, &failed)) {
        *ret_gone = failed.sys_errno == ENOENT;
        *st = failed;
        return false;
    }
    bool ok = put(b, &o, fd, st);
    io_close(&fd);
    return ok && put_log(b, st);
}

/* What it rests on first. */
static bool put_chain(struct s3_backup *b, int dir_fd, const struct snapshot_info *infos, size_t count, const struct snapshot_info *tip, bool *ret_gone, struct status *st) {
    const struct snapshot_info *chain[SNAPSHOT_CHAIN_LINKS_MAX];
    size_t links = 0;
    for (const struct snapshot_info *at = tip; at != NULL;) {
        if (links == SNAPSHOT_CHAIN_LINKS_MAX) {
            return status_set(st, STATUS_CORRUPT, "%s rests on too many archives", tip->name);
        }
        chain[links++] = at;
        const char *base = at->base;
        at = base[0] != '\0' ? find_info(infos, count, base) : NULL;
        if (at == NULL && base[0] != '\0' && s3_find_snapshot(&b->there, &b->instance, base) == SIZE_MAX) {
            *ret_gone = true;
            return status_set(st, STATUS_NOT_FOUND, "%s, which %s rests on, is not there", base, tip->name);
        }
    }
    while (links > 0) {
        if (!put_archive(b, dir_fd, chain[--links], ret_gone, st)) {
            return false;
        }
    }
    return true;
}

/* The newest snapshot that verifies; older ones are tried where it does not. */
static bool put_newest(struct s3_backup *b, int dir_fd, bool *ret_gone, struct status *st) {
    struct snapshot_info *infos = NULL;
    size_t count = 0;
    bool done = false;
    bool any_bad = false;
    struct status bad = {0};
    if (!snapshot_list(dir_fd, &infos, &count, st)) {
        return false;
    }
    bool ok = true;
    for (size_t i = 0; ok && !done && i < count; i++) {
        struct snapshot_info verified;
        size_t at = s3_find_snapshot(&b->there, &b->instance, infos[i].name);
        if (at != SIZE_MAX && s3_chain_whole(&b->there, at)) {
            break; /* it went up when it was the newest */
        }
        if (!snapshot_verify(dir_fd, infos[i].name, &verified, &bad)) {
            tell(b, "%s does not verify and does not go up: %s", infos[i].name, bad.detail);
            any_bad = bad.sys_errno != ENOENT;
            continue;
        }
        ok = put_chain(b, dir_fd, infos, count, &infos[i], ret_gone, st);
        done = ok;
    }
    free(infos);
    if (ok && any_bad) {
        ok = status_set(st, STATUS_CORRUPT, "the newest snapshot does not verify: %.200s", bad.detail);
    }
    return ok;
}

/* The server removes old snapshots while this goes on: then there is a newer one. */
static bool put_snapshots(struct s3_backup *b, struct status *st) {
    enum { TRIES = 3 };
    struct status failed = {0};
    int fd = -1;
    if (!io_open_at(b->data_fd, "snapshots", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, &failed)) {
        if (failed.sys_errno != ENOENT) {
            *st = failed;
        }
        return failed.sys_errno == ENOENT;
    }
    bool ok = false;
    bool gone = true;
    for (unsigned tries = 0; !ok && gone && tries < TRIES; tries++) {
        gone = false;
        ok = put_newest(b, fd, &gone, st);
    }
    io_close(&fd);
    return ok;
}

/* --- removing --------------------------------------------------------------------------------------------------------------- */

static bool remove_old(struct s3_backup *b, struct status *st) {
    struct s3_retention r = {.keep = b->settings->keep, .keep_days = b->settings->keep_days};
    uint64_t floor = 0;
    bool *marks = (bool *)calloc(b->there.count + 1, sizeof *marks);
    bool ok = (marks != NULL || status_no_memory(st)) && s3_retain(&b->there, &r, marks, &floor, st);
    unsigned refused = 0;
    size_t kept = 0;
    /* Snapshots descend by LSN, so what rests on another goes before it. */
    for (size_t i = 0; i < b->there.count; i++) {
        struct status failed = {0};
        bool asked = ok && !marks[i] && refused < REFUSALS_MAX;
        bool removed = asked && s3_remove(b->client, &b->there.items[i], &failed);
        if (asked && !removed) {
            tell(b, "%s is old and stays: %s", b->there.items[i].file, failed.detail);
            refused++;
            ok = failed.code == STATUS_DENIED || status_set(st, failed.code, "%s", failed.detail);
        }
        b->report.removed += removed ? 1 : 0;
        if (!removed) {
            b->there.items[kept++] = b->there.items[i];
        }
    }
    b->there.count = kept;
    free(marks);
    return ok;
}

/* --- a pass ----------------------------------------------------------------------------------------------------------------- */

static bool clear_away(struct s3_backup *b, struct status *st) {
    struct status failed = {0};
    if (!b->cleared && !s3_abort_uploads(b->client, &b->instance, &b->report.aborted, &failed)) {
        if (failed.code != STATUS_DENIED && failed.code != STATUS_INVALID) {
            *st = failed;
            return false;
        }
        tell(b, "what interrupted uploads may have left stays: %s", failed.detail);
    }
    b->cleared = true;
    return true;
}

static void sum_up(struct s3_backup *b) {
    struct backup_state *s = &b->state;
    uint64_t reached = 0;
    s->objects = b->there.count;
    s->bytes = 0;
    s->snapshot_lsn = 0;
    s3_listing_sort(&b->there);
    for (size_t i = 0; i < b->there.count; i++) {
        const struct s3_object *o = &b->there.items[i];
        s->bytes += s3_object_bytes(o);
        if (o->kind == S3_SNAPSHOT && s->snapshot_lsn == 0 && s3_chain_whole(&b->there, i)) {
            s->snapshot_lsn = o->lsn;
            reached = o->lsn;
        }
        if (o->kind == S3_SEGMENT && o->first_lsn <= reached + 1 && o->lsn > reached) {
            reached = o->lsn;
        }
    }
    s->lsn = reached;
}

static bool work(struct s3_backup *b, struct status *st) {
    s3_listing_fini(&b->there);
    if (!find_instance(b, st) || !s3_list(b->client, &b->instance, &b->there, st) || !clear_away(b, st)) {
        return false;
    }
    if (b->there.damaged > 0) {
        tell(b, "%" PRIu64 " objects are not as long as their names say, and count as not there", b->there.damaged);
    }
    b->report.damaged = b->there.damaged;
    bool first = b->there.count == 0;
    bool ok = (first || put_log(b, st)) && put_snapshots(b, st) && put_log(b, st) && remove_old(b, st);
    sum_up(b);
    return ok;
}

bool s3_backup_pass(struct s3_backup *b, struct s3_report *ret, struct status *st) {
    struct status failed = {0};
    struct status unsaved = {0};
    b->report = (struct s3_report){0};
    bool ok = work(b, &failed);
    if (ok) {
        b->state.succeeded_at = clock_wall_us();
        b->state.failures = 0;
    } else {
        b->state.failures++;
        b->cleared = false; /* it may have left something */
    }
    if (!write_state(b, &unsaved)) {
        tell(b, "the state of the backup is not saved: %s", unsaved.detail);
    }
    b->report.state = b->state;
    *ret = b->report;
    if (!ok && st != NULL) {
        *st = failed;
    }
    return ok;
}
