/*
 * restore_source.c - finding and opening what is restored from. Only names, types and sizes are looked at here; what the files hold is for the child.
 */
#include "durable/restore_internal.h"

#include "base/io.h"
#include "durable/recovery.h"
#include "durable/snapshot_format.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { ARCHIVES_MAX = 4096, SEGMENTS_MAX = 262144, FILES_FIRST_CAP = 16, BLOCK_BYTES = 512 /* of st_blocks */ };

void restore_source_init(struct restore_source *s) {
    *s = (struct restore_source){.snapshots_fd = -1, .lock_fd = -1};
}

static void close_files(struct restore_file *files, size_t count) {
    for (size_t i = 0; i < count; i++) {
        io_close(&files[i].fd);
    }
    free(files);
}

void restore_source_close(struct restore_source *s) {
    close_files(s->archives, s->archive_count);
    close_files(s->segments, s->segment_count);
    for (size_t i = 0; i < s->dir_count; i++) {
        io_close(&s->dir_fds[i]);
    }
    io_close(&s->lock_fd);
    restore_source_init(s);
}

/* Every file of the source is open at once, a descriptor each. */
static bool allow_descriptors(struct status *st) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return status_set_errno(st, errno, "cannot read a limit");
    }
    files.rlim_cur = files.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &files) == 0 || status_set_errno(st, errno, "cannot open more files");
}

static bool keep_dir(struct restore_source *s, int fd, struct status *st) {
    if (s->dir_count == sizeof s->dir_fds / sizeof s->dir_fds[0]) {
        io_close(&fd);
        return status_set(st, STATUS_TOO_LARGE, "too many directories are given");
    }
    s->dir_fds[s->dir_count++] = fd;
    return true;
}

static bool open_dir(struct restore_source *s, int at, const char *path, int *ret_fd, struct status *st) {
    int fd = -1;
    if (!io_open_at(at, path, O_RDONLY | O_DIRECTORY, 0, &fd, st) || !keep_dir(s, fd, st)) {
        return false;
    }
    *ret_fd = fd;
    return true;
}

/* --- files --- */

static bool add_file(struct restore_file **files, size_t *count, size_t *cap, const struct restore_file *file, struct status *st) {
    if (*count == *cap) {
        size_t wider = *cap == 0 ? FILES_FIRST_CAP : 2 * *cap;
        struct restore_file *grown = (struct restore_file *)realloc(*files, wider * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        *files = grown;
        *cap = wider;
    }
    (*files)[(*count)++] = *file;
    return true;
}

/* Opens a regular file; anything else (a link, a pipe, a device) is refused without waiting for it. */
static bool open_regular(int dir_fd, const char *path, const char *as, struct restore_file *ret, struct status *st) {
    struct restore_file file = {.dir_fd = dir_fd, .fd = -1};
    struct stat about;
    (void)snprintf(file.name, sizeof file.name, "%s", as);
    struct status failed = {0};
    if (!io_open_at(dir_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0, &file.fd, &failed)) {
        *st = failed;
        return failed.sys_errno == ELOOP ? status_set(st, STATUS_MALFORMED, "%.200s is a link, and no file", path) : false;
    }
    if (fstat(file.fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        io_close(&file.fd);
        return status_set(st, STATUS_MALFORMED, "%.200s is no regular file", path);
    }
    file.size = (uint64_t)about.st_size;
    file.on_disk = (uint64_t)about.st_blocks * BLOCK_BYTES;
    *ret = file;
    return true;
}

static bool add_archive(struct restore_source *s, int dir_fd, const char *path, const char *as, struct status *st) {
    struct restore_file file;
    if (s->archive_count == ARCHIVES_MAX) {
        return status_set(st, STATUS_TOO_LARGE, "there are more than %d snapshots", ARCHIVES_MAX);
    }
    if (!open_regular(dir_fd, path, as, &file, st)) {
        return false;
    }
    file.dir_fd = s->snapshots_fd;
    s->bytes += file.on_disk;
    if (!add_file(&s->archives, &s->archive_count, &s->archive_cap, &file, st)) {
        io_close(&file.fd);
        return false;
    }
    return true;
}

static bool add_segment(struct restore_source *s, int dir_fd, const char *name, struct status *st) {
    struct restore_file file;
    if (s->segment_count == SEGMENTS_MAX) {
        return status_set(st, STATUS_TOO_LARGE, "there are more than %d log segments", SEGMENTS_MAX);
    }
    if (!open_regular(dir_fd, name, name, &file, st)) {
        return false;
    }
    s->bytes += file.on_disk;
    if (!add_file(&s->segments, &s->segment_count, &s->segment_cap, &file, st)) {
        io_close(&file.fd);
        return false;
    }
    return true;
}

/* --- directories --- */

static bool is_segment(const char *name) {
    uint64_t lsn = 0;
    return strlen(name) < RESTORE_NAME_MAX && wal_name_parse(name, &lsn);
}

static bool is_archive(const char *name) {
    return strlen(name) < SNAPSHOT_NAME_MAX && snapshot_name_valid(name);
}

static bool take_segment(int dir_fd, const char *name, void *ctx, struct status *st) {
    return !is_segment(name) || add_segment((struct restore_source *)ctx, dir_fd, name, st);
}

static bool take_archive(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct restore_source *s = (struct restore_source *)ctx;
    struct status ignored;
    if (!is_archive(name)) {
        return true;
    }
    /* One that cannot be opened is as good as missing: the child says so if it is needed. */
    return add_archive(s, dir_fd, name, name, &ignored) || ignored.code != STATUS_NO_MEMORY || status_no_memory(st);
}

static bool has_directory(int dir_fd, const char *name) {
    struct stat about;
    return fstatat(dir_fd, name, &about, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(about.st_mode);
}

static bool open_snapshots(struct restore_source *s, int at, const char *path, struct status *st) {
    return open_dir(s, at, path, &s->snapshots_fd, st) && io_each_entry(s->snapshots_fd, "a directory", take_archive, s, st);
}

static bool open_log(struct restore_source *s, int at, const char *path, struct status *st) {
    int fd = -1;
    return open_dir(s, at, path, &fd, st) && io_each_entry(fd, "a directory", take_segment, s, st);
}

static bool open_data_dir(struct restore_source *s, int dir_fd, struct status *st) {
    return (!has_directory(dir_fd, "snapshots") || open_snapshots(s, dir_fd, "snapshots", st)) &&
           (!has_directory(dir_fd, "wal") || open_log(s, dir_fd, "wal", st));
}

/* --- what it is --- */

static bool same_directory(int a, int b) {
    struct stat x;
    struct stat y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* A server that works on what is read would change it under the reader. */
static bool lock_source(struct restore_source *s, int dir_fd, int into_fd, struct status *st) {
    struct status failed = {0};
    if (into_fd >= 0 && same_directory(dir_fd, into_fd)) {
        return true;
    }
    if (data_lock_shared(dir_fd, &s->lock_fd, &failed)) {
        return restore_none_pending(dir_fd, st);
    }
    return status_set(st, failed.code == STATUS_CONFLICT ? STATUS_BUSY : failed.code, "the source: %.300s", failed.detail);
}

static bool open_directory_source(struct restore_source *s, const char *path, int into_fd, struct status *st) {
    int fd = -1;
    if (!open_dir(s, AT_FDCWD, path, &fd, st)) {
        return false;
    }
    if (has_directory(fd, "wal") || has_directory(fd, "snapshots")) {
        return lock_source(s, fd, into_fd, st) && open_data_dir(s, fd, st);
    }
    return open_snapshots(s, fd, ".", st) && open_log(s, fd, ".", st);
}

/* One archive, and those beside it, because it may need them. It may be given by a link. */
static bool open_archive_source(struct restore_source *s, const char *given, struct status *st) {
    char path[PATH_MAX];
    char directory[PATH_MAX];
    char file[PATH_MAX];
    if (realpath(given, path) == NULL) {
        return status_set_errno(st, errno, "cannot read %.200s", given);
    }
    (void)snprintf(directory, sizeof directory, "%s", path);
    (void)snprintf(file, sizeof file, "%s", path);
    const char *name = basename(file);
    (void)snprintf(s->archive_given, sizeof s->archive_given, "%.127s", name);
    (void)snprintf(s->archive, sizeof s->archive, "%s", is_archive(name) ? name : RESTORE_ONLY_NAME);
    return open_snapshots(s, AT_FDCWD, dirname(directory), st) && (is_archive(name) || add_archive(s, AT_FDCWD, path, RESTORE_ONLY_NAME, st));
}

static bool open_source(struct restore_source *s, const char *path, int into_fd, struct status *st) {
    struct stat about;
    if (stat(path, &about) != 0) {
        return errno == ENOENT ? status_set(st, STATUS_NOT_FOUND, "there is no %.280s", path) : status_set_errno(st, errno, "cannot read %.200s", path);
    }
    if (S_ISDIR(about.st_mode)) {
        return open_directory_source(s, path, into_fd, st);
    }
    if (!S_ISREG(about.st_mode)) {
        return status_set(st, STATUS_MALFORMED, "%.200s is neither an archive nor a directory", path);
    }
    return open_archive_source(s, path, st);
}

bool restore_source_open(const char *path, const char *const *logs, size_t log_count, int into_fd, struct restore_source *ret, struct status *st) {
    restore_source_init(ret);
    bool ok = allow_descriptors(st) && open_source(ret, path, into_fd, st);
    for (size_t i = 0; ok && i < log_count; i++) {
        ok = open_log(ret, AT_FDCWD, logs[i], st);
    }
    if (ok && ret->archive_count == 0 && ret->segment_count == 0) {
        ok = status_set(st, STATUS_NOT_FOUND, "there is neither a snapshot nor a log in %.200s", path);
    }
    if (!ok) {
        restore_source_close(ret);
    }
    return ok;
}

bool restore_source_own(int data_dir_fd, struct restore_source *ret, struct status *st) {
    restore_source_init(ret);
    bool ok = allow_descriptors(st) && open_data_dir(ret, data_dir_fd, st);
    if (!ok) {
        restore_source_close(ret);
    }
    return ok;
}
