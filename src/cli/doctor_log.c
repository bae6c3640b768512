/*
 * doctor_log.c - log, snapshots and the archive of the log: formats, sums, ages, trials.
 *
 * The log is read only where no server runs, which would be writing it; then its LOCK is held, shared, as `quire check` holds it. Archives are read up to
 * READ_MAX bytes unless --deep says all.
 */
#include "cli/doctor.h"

#include "base/clock.h"
#include "base/io.h"
#include "durable/formats.h"
#include "durable/recovery.h"
#include "durable/snapshot_record.h"
#include "durable/wal.h"
#include "durable/wal_format.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>

#define READ_MAX (UINT64_C(256) << 20)
#define US_PER_SECOND INT64_C(1000000)
#define DAY_US (INT64_C(86400) * US_PER_SECOND)
#define YOUNG_US (INT64_C(600) * US_PER_SECOND) /* a server that has just begun has taken no snapshot yet */

/* --- snapshots --- */

struct newest {
    int64_t changed_us;
    uint64_t bytes;
};

static bool take_segment(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct newest *n = ctx;
    struct stat s;
    uint64_t lsn;
    (void)st;
    if (!wal_name_parse(name, &lsn) || fstatat(dir_fd, name, &s, AT_SYMLINK_NOFOLLOW) != 0)
        return true;
    int64_t changed_us = (int64_t)s.st_mtime * US_PER_SECOND;
    n->changed_us = changed_us > n->changed_us ? changed_us : n->changed_us;
    n->bytes += (uint64_t)s.st_size;
    return true;
}

/* When the server began: it writes its LOCK then. */
static int64_t began_at(const struct doctor *d) {
    struct stat s;
    return fstatat(d->data_fd, "LOCK", &s, 0) == 0 ? (int64_t)s.st_mtime * US_PER_SECOND : 0;
}

static void judge_ages(struct doctor *d, const struct snapshot_info *list, size_t count, const struct newest *log) {
    char path[CONFIG_PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/snapshots", d->data_dir);
    if (count == 0) {
        if (log->bytes > 0 && (!d->in_use || d->now_us - began_at(d) > YOUNG_US))
            doctor_find(d, TROUBLE_SNAPSHOT_NONE, path, "%s", "");
        return;
    }
    int64_t age_us = d->now_us - list[0].created_at;
    if (age_us > DAY_US && log->changed_us > list[0].created_at + 2 * US_PER_SECOND)
        doctor_find(d, TROUBLE_SNAPSHOT_OLD, list[0].name, "it is %.1f days old", (double)age_us / (double)DAY_US);
    if (age_us < -2 * 60 * US_PER_SECOND && !doctor_found(d, TROUBLE_CLOCK))
        doctor_find(d, TROUBLE_CLOCK, list[0].name, "it was taken %.1f hours from now", (double)-age_us / 3.6e9);
}

static void judge_trials(struct doctor *d, int dir_fd, const struct snapshot_info *list, size_t count) {
    struct snapshot_record *record = NULL;
    struct snapshot_note note;
    struct status st;
    int64_t last_us = 0, interval_us = (int64_t)d->config.snapshot_verify_interval * US_PER_SECOND;
    if (!snapshot_record_open(dir_fd, &record, &st))
        return;
    for (size_t i = 0; i < count; i++) {
        if (!snapshot_record_find(record, list[i].name, &note) || note.verified_at == 0)
            continue;
        if (!note.good)
            doctor_find(d, TROUBLE_VERIFY_FAILED, list[i].name, "%s", "");
        last_us = note.good && note.verified_at > last_us ? note.verified_at : last_us;
    }
    if (count > 0 && interval_us > 0 && d->now_us - last_us > 2 * interval_us && d->now_us - list[count - 1].created_at > 2 * interval_us)
        doctor_find(d, TROUBLE_VERIFY_NONE, list[0].name, "%s", "");
    snapshot_record_free(record);
}

/* Newest first, so that what a restore would take is always among what is read. */
static void verify_archives(struct doctor *d, int dir_fd, const struct snapshot_info *list, size_t count) {
    uint64_t bytes = 0;
    size_t i = 0;
    for (; i < count; i++) {
        struct snapshot_info info;
        struct status st = {0};
        struct stat s;
        bytes += list[i].bytes;
        if (bytes > READ_MAX && !d->deep)
            break;
        /* One that retention has removed meanwhile is none of the damaged ones. */
        if (!snapshot_verify(dir_fd, list[i].name, &info, &st) && fstatat(dir_fd, list[i].name, &s, 0) == 0)
            doctor_find(d, TROUBLE_SNAPSHOT_DAMAGED, list[i].name, "%s", st.detail);
    }
    if (i < count)
        doctor_skip(d, list[i].name, "it and %zu older archives were not read against their sums; --deep reads all", count - i - 1);
}

/* An archive that is too damaged to be listed has a name still. */
static bool find_unlisted(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct doctor *d = ctx;
    struct snapshot_info info;
    struct status why = {0};
    (void)st;
    if (strncmp(name, "snapshot_", 9) == 0 && !snapshot_verify(dir_fd, name, &info, &why))
        doctor_find(d, TROUBLE_SNAPSHOT_DAMAGED, name, "%s", why.detail);
    return true;
}

static bool count_names(int dir_fd, const char *name, void *ctx, struct status *st) {
    size_t *count = ctx;
    (void)dir_fd;
    (void)st;
    *count += strncmp(name, "snapshot_", 9) == 0 ? 1 : 0;
    return true;
}

static void look_at_snapshots(struct doctor *d, const struct newest *log) {
    struct snapshot_info *list = NULL;
    struct status st = {0};
    size_t count = 0, names = 0;
    int fd = -1;
    if (!io_open_at(d->data_fd, "snapshots", O_RDONLY | O_DIRECTORY, 0, &fd, &st))
        return; /* doctor_data.c has told that it cannot be read; one that is missing holds none */
    if (!snapshot_list(fd, &list, &count, &st)) {
        doctor_skip(d, "snapshots", "%s", st.detail);
    } else if (io_each_entry(fd, "the directory of snapshots", count_names, &names, &st) && names > count) {
        if (!io_each_entry(fd, "the directory of snapshots", find_unlisted, d, &st))
            doctor_skip(d, "snapshots", "%s", st.detail);
    } else {
        verify_archives(d, fd, list, count);
    }
    judge_ages(d, list, count, log);
    judge_trials(d, fd, list, count);
    free(list);
    io_close(&fd);
}

/* --- the log --- */

static void read_log(struct doctor *d, int dir_fd) {
    struct wal_options options = {.dir_fd = dir_fd};
    struct wal_report report = {0};
    struct status fault = {0}, st = {0};
    char path[CONFIG_PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/wal", d->data_dir);
    if (!wal_check(&options, NULL, NULL, &report, &fault, &st))
        doctor_skip(d, path, "%s", st.detail);
    else if (fault.code != STATUS_OK)
        doctor_find(d, TROUBLE_LOG_DAMAGED, path, "%s", fault.detail);
    else if (report.torn_bytes > 0)
        doctor_find(d, TROUBLE_LOG_TORN, path, "%" PRIu64 " bytes at %s", report.torn_bytes, report.torn_at);
}

static void look_at_segments(struct doctor *d, struct newest *ret) {
    struct status st = {0};
    int fd = -1, lock = -1;
    if (!io_open_at(d->data_fd, "wal", O_RDONLY | O_DIRECTORY, 0, &fd, &st))
        return;
    if (!io_each_entry(fd, "the log", take_segment, ret, &st)) {
        doctor_skip(d, "wal", "%s", st.detail);
    } else if (d->in_use) {
        /* the server reads its log itself, and would not be there */
    } else if (ret->bytes > 4 * READ_MAX && !d->deep) {
        doctor_skip(d, "wal", "the log is large, and was not read; --deep reads it");
    } else if (data_lock_shared(d->data_fd, &lock, &st)) {
        read_log(d, fd);
        io_close(&lock);
    } else {
        doctor_skip(d, "wal", "%s", st.detail);
    }
    io_close(&fd);
}

/* --- its archive --- */

static void look_at_archive(struct doctor *d) {
    enum { GROUPS_MOST = 64, WRITE_AND_ENTER = 3 };
    const char *path = d->config.archive_dir;
    gid_t groups[GROUPS_MOST];
    int count = GROUPS_MOST;
    struct stat s;
    if (path[0] == '\0')
        return;
    if (stat(path, &s) != 0) {
        if (errno == EACCES)
            doctor_skip(d, path, "this user may not look at it");
        else
            doctor_find(d, TROUBLE_ARCHIVE_MISSING, path, "%s", strerror(errno));
        return;
    }
    const struct passwd *entry = d->knows_uid ? getpwuid(d->uid) : NULL;
    if (!S_ISDIR(s.st_mode)) {
        doctor_find(d, TROUBLE_ARCHIVE_MISSING, path, "it is no directory");
    } else if (entry != NULL) {
        if (getgrouplist(entry->pw_name, entry->pw_gid, groups, &count) < 0)
            count = GROUPS_MOST;
        if (!doctor_may(d->uid, groups, (size_t)count, s.st_uid, s.st_gid, s.st_mode, WRITE_AND_ENTER))
            doctor_find(d, TROUBLE_ARCHIVE_UNWRITABLE, path, "it belongs to user %u with mode %04o, and the server is %s", (unsigned)s.st_uid,
                        (unsigned)s.st_mode & 07777U, d->user);
    }
}

void doctor_look_at_log(struct doctor *d) {
    struct newest log = {0};
    struct status st = {0};
    if (d->has_config)
        look_at_archive(d);
    if (d->data_fd < 0)
        return;
    if (!formats_check(d->data_fd, &st)) {
        if (st.code == STATUS_CORRUPT)
            doctor_find(d, TROUBLE_FORMAT_NEWER, d->data_dir, "%s", st.detail);
        else
            doctor_skip(d, d->data_dir, "%s", st.detail);
        return;
    }
    look_at_segments(d, &log);
    look_at_snapshots(d, &log);
}
