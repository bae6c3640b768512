/*
 * doctor_data.c - the data directory as files: rights, owners, names that are none of ours, times from the future. What is in the files is looked at by
 * doctor_log.c, and all of it by `quire check`.
 */
#include "cli/doctor.h"

#include "base/clock.h"
#include "base/io.h"
#include "durable/snapshot_format.h"
#include "durable/wal_format.h"
#include "store/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define FUTURE_US INT64_C(120000000) /* what two clocks may differ by */
#define LEFT_US INT64_C(3600000000)  /* a temporary file of a running server is at work so long at most */

/* Where a walk is, and what it has told already: one finding for each kind names the first and counts the others. */
struct walk {
    struct doctor *d;
    const char *directory; /* within the data directory: "", "wal/", ... */
    bool (*known)(const struct walk *w, const char *name);
    uid_t owner;
    bool enterable; /* by everybody */
    unsigned others, future, unknown, left;
    char first_other[PATH_MAX], first_future[PATH_MAX];
    int64_t future_us;
    uid_t other_uid;
};

static bool has_suffix(const char *name, const char *suffix) {
    size_t length = strlen(name), end = strlen(suffix);
    return length >= end && strcmp(name + length - end, suffix) == 0;
}

static bool known_at_top(const struct walk *w, const char *name) {
    static const char *const names[] = {"LOCK", "wal", "snapshots", "vectors", "backup", "restore.fetched", "restore.new", "restore.ready", "restore.discarded", "lost+found"};
    (void)w;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return strncmp(name, "replaced.", 9) == 0;
}

static bool known_in_log(const struct walk *w, const char *name) {
    uint64_t lsn;
    (void)w;
    return wal_name_parse(name, &lsn) || strcmp(name, "spare.log") == 0 || strcmp(name, "filling.tmp") == 0 || strcmp(name, "large.tmp") == 0 ||
           strstr(name, ".damaged.") != NULL;
}

static bool known_in_snapshots(const struct walk *w, const char *name) {
    (void)w;
    return snapshot_name_valid(name) || strcmp(name, "record") == 0 || has_suffix(name, ".tmp");
}

static bool known_in_vectors(const struct walk *w, const char *name) {
    struct uuid id;
    uint32_t directory;
    const char *suffix;
    (void)w;
    return arena_directory_parse(name, &id, &directory, &suffix) || strncmp(name, "checkpoint", 10) == 0 || strncmp(name, "pages", 5) == 0;
}

/* Something interrupted left it, when no server is there that may be at work on it. */
static bool is_left(const struct walk *w, const char *name, const struct stat *s) {
    bool temporary = has_suffix(name, ".tmp") && strcmp(name, "filling.tmp") != 0 && strcmp(name, "large.tmp") != 0;
    return temporary && (!w->d->in_use || w->d->now_us - (int64_t)s->st_mtime * 1000000 > LEFT_US);
}

static void judge_name(struct walk *w, const char *name, const char *path, const struct stat *s) {
    if (is_left(w, name, s)) {
        if (w->left++ == 0)
            doctor_find(w->d, TROUBLE_FILE_LEFT, path, "%s", "");
    } else if (strstr(name, ".damaged.") != NULL && strcmp(w->directory, "wal/") == 0) {
        doctor_find(w->d, TROUBLE_FILE_SET_ASIDE, path, "%s", "");
    } else if (strcmp(name, "restore.new") == 0 || strcmp(name, "restore.ready") == 0) {
        if (!w->d->in_use)
            doctor_find(w->d, TROUBLE_RESTORE_UNFINISHED, path, "%s", "");
    } else if (!w->known(w, name)) {
        if (w->unknown++ == 0)
            doctor_find(w->d, TROUBLE_FILE_UNKNOWN, path, "%s", "");
    }
}

/* The directory itself may be open, as scripts make it: what counts is whether its log, snapshots and arenas are. */
static void judge_openness(const struct walk *w, const char *path, const struct stat *s) {
    if (w->directory[0] == '\0' && w->enterable && S_ISDIR(s->st_mode) && (s->st_mode & (S_IROTH | S_IXOTH)) == (S_IROTH | S_IXOTH))
        doctor_find(w->d, TROUBLE_DATA_EXPOSED, path, "its mode is %04o", (unsigned)s->st_mode & 07777U);
}

static bool look_at_entry(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct walk *w = ctx;
    char path[PATH_MAX];
    struct stat s;
    (void)st;
    if (fstatat(dir_fd, name, &s, AT_SYMLINK_NOFOLLOW) != 0)
        return true; /* gone meanwhile */
    snprintf(path, sizeof path, "%s/%s%s", w->d->data_dir, w->directory, name);
    judge_name(w, name, path, &s);
    judge_openness(w, path, &s);
    if (s.st_uid != w->owner && w->others++ == 0) {
        w->other_uid = s.st_uid;
        snprintf(w->first_other, sizeof w->first_other, "%s", path);
    }
    int64_t changed_us = (int64_t)s.st_mtime * 1000000;
    if (changed_us > w->d->now_us + FUTURE_US && w->future++ == 0) {
        w->future_us = changed_us - w->d->now_us;
        snprintf(w->first_future, sizeof w->first_future, "%s", path);
    }
    return true;
}

static void look_into(struct walk *w, const char *directory, bool (*known)(const struct walk *w, const char *name)) {
    struct status st = {0};
    int fd = -1;
    w->directory = directory;
    w->known = known;
    w->unknown = w->left = 0;
    bool ok = io_open_at(w->d->data_fd, directory[0] == '\0' ? "." : directory, O_RDONLY | O_DIRECTORY, 0, &fd, &st) &&
              io_each_entry(fd, "the data directory", look_at_entry, w, &st);
    if (!ok && st.sys_errno != ENOENT) {
        char path[CONFIG_PATH_MAX + 16];
        snprintf(path, sizeof path, "%s/%s", w->d->data_dir, directory);
        doctor_skip(w->d, path, "%s", st.detail);
    }
    io_close(&fd);
}

static void look_at_rights(struct doctor *d, const struct stat *s) {
    unsigned mode = (unsigned)s->st_mode & 07777U;
    if (d->knows_uid && d->uid != 0 && s->st_uid != d->uid)
        doctor_find(d, TROUBLE_DATA_OWNER, d->data_dir, "it belongs to user %u, and the server is %s", (unsigned)s->st_uid, d->user);
    if ((mode & S_IRWXU) != S_IRWXU)
        doctor_find(d, TROUBLE_DATA_MODE, d->data_dir, "its mode is %04o", mode);
    if ((mode & S_IWOTH) != 0)
        doctor_find(d, TROUBLE_DATA_EXPOSED, d->data_dir, "its mode is %04o", mode);
}

static void tell_walk(const struct walk *w) {
    if (w->others > 0)
        doctor_find(w->d, TROUBLE_DATA_FILE_OWNER, w->first_other, "it belongs to user %u, the directory to user %u%s", (unsigned)w->other_uid, (unsigned)w->owner,
                    w->others > 1 ? "; there are more such files" : "");
    if (w->future > 0)
        doctor_find(w->d, TROUBLE_CLOCK, w->first_future, "it was written %.1f hours from now%s", (double)w->future_us / 3.6e9,
                    w->future > 1 ? "; there are more such files" : "");
}

void doctor_look_at_data(struct doctor *d) {
    struct status st = {0};
    struct stat s;
    if (d->data_dir[0] == '\0')
        return;
    if (stat(d->data_dir, &s) != 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            doctor_find(d, TROUBLE_DATA_MISSING, d->data_dir, "%s", strerror(errno));
        else
            doctor_skip(d, d->data_dir, "%s", strerror(errno));
        return;
    }
    look_at_rights(d, &s);
    if (!io_open_at(AT_FDCWD, d->data_dir, O_RDONLY | O_DIRECTORY, 0, &d->data_fd, &st)) {
        doctor_skip(d, d->data_dir, "this user may not read it; run it as root or as %s", d->user[0] != '\0' ? d->user : "the server's user");
        return;
    }
    struct walk w = {.d = d, .owner = s.st_uid, .enterable = (s.st_mode & S_IXOTH) != 0};
    look_into(&w, "", known_at_top);
    look_into(&w, "wal/", known_in_log);
    look_into(&w, "snapshots/", known_in_snapshots);
    look_into(&w, "vectors/", known_in_vectors);
    tell_walk(&w);
}
