/*
 * restore_switch.c - one state of a data directory in the place of another, as a whole.
 *
 * The state are three directories: wal/, snapshots/, vectors/. A new one is built in restore.new/. The steps, each a rename that is synced before the next:
 *
 *   restore.new -> restore.ready             the decision. Before it everything is old; from it on everything is new, whoever completes it
 *   wal, snapshots, vectors -> <aside>/      the old state goes; <aside> stands in restore.ready/aside, so that every attempt takes the same
 *   restore.ready -> restore.entering        nothing old is in the way any more
 *   restore.entering/X -> X                  the new state comes
 *   restore.entering is removed
 *
 * Killed at any point, the same steps go on from what is there: in restore.ready any X in the directory is an old one, in restore.entering any X still
 * to come. restore_complete does so, for the command that runs again and for a server's start, both with the LOCK held.
 *
 * Undoing is the same with replaced.<time> as the new state; what it replaces is called restore.discarded and removed at the end.
 */
#include "durable/restore_internal.h"

#include "base/clock.h"
#include "base/io.h"
#include "durable/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { PATH_BYTES = 128, FILE_MODE = 0600, NAMES_OF_A_SECOND = 1000, TIME_AT = sizeof RESTORE_REPLACED_PREFIX - 1, TIME_BYTES = 15 };

static const char *const parts[] = {"wal", "snapshots", "vectors"};
enum { PARTS = sizeof parts / sizeof parts[0] };

static bool there(int dir_fd, const char *path, bool *ret, struct status *st) {
    struct stat about;
    *ret = fstatat(dir_fd, path, &about, AT_SYMLINK_NOFOLLOW) == 0;
    return *ret || errno == ENOENT || errno == ENOTDIR || status_set_errno(st, errno, "cannot look at %s", path);
}

/* "replaced.20261124_050000.000", exactly: whatever else somebody has called so is theirs. */
static bool is_replaced(const char *name) {
    static const char form[] = RESTORE_REPLACED_PREFIX "00000000_000000.000";
    size_t i = 0;
    for (; form[i] != '\0'; i++) {
        if (form[i] == '0' ? name[i] < '0' || name[i] > '9' : name[i] != form[i]) {
            return false;
        }
    }
    return name[i] == '\0';
}

static bool aside_valid(const char *name) {
    return strcmp(name, RESTORE_DISCARDED) == 0 || is_replaced(name);
}

static bool read_aside(int dir_fd, char out[RESTORE_NAME_MAX], struct status *st) {
    struct buf content = {0};
    bool ok = io_read_file(dir_fd, RESTORE_READY "/" RESTORE_ASIDE_FILE, RESTORE_NAME_MAX - 1, &content, st);
    if (ok) {
        memcpy(out, content.data, content.len);
        out[content.len] = '\0';
        ok = aside_valid(out) || status_set(st, STATUS_CORRUPT, RESTORE_READY "/" RESTORE_ASIDE_FILE " names no place for the old state");
    }
    buf_fini(&content);
    return ok;
}

/* Renames from/X to to/X where it is there; "" is the directory itself. */
static bool move_part(int dir_fd, const char *from, const char *to, const char *part, bool *ret_moved, struct status *st) {
    char old_path[PATH_BYTES];
    char new_path[PATH_BYTES];
    bool found = false;
    (void)snprintf(old_path, sizeof old_path, "%s%s%s", from, from[0] != '\0' ? "/" : "", part);
    (void)snprintf(new_path, sizeof new_path, "%s%s%s", to, to[0] != '\0' ? "/" : "", part);
    if (!there(dir_fd, old_path, &found, st)) {
        return false;
    }
    if (!found) {
        return true;
    }
    *ret_moved = true;
    return (to[0] == '\0' || io_mkdir_at(dir_fd, to, RESTORE_DIRECTORY_MODE, st)) && io_rename_at(dir_fd, old_path, dir_fd, new_path, st);
}

static bool move_parts(int dir_fd, const char *from, const char *to, struct status *st) {
    bool moved = false;
    for (size_t i = 0; i < PARTS; i++) {
        if (!move_part(dir_fd, from, to, parts[i], &moved, st)) {
            return false;
        }
    }
    return !moved || (io_fsync_dir(dir_fd, to[0] != '\0' ? to : ".", st) && io_fsync_dir(dir_fd, from[0] != '\0' ? from : ".", st));
}

static bool clear_the_place(int dir_fd, struct status *st) {
    char aside[RESTORE_NAME_MAX];
    return read_aside(dir_fd, aside, st) && move_parts(dir_fd, "", aside, st) && io_fsync_dir(dir_fd, ".", st) &&
           io_rename_at(dir_fd, RESTORE_READY, dir_fd, RESTORE_ENTERING, st) && io_fsync_dir(dir_fd, ".", st);
}

static bool enter(int dir_fd, struct status *st) {
    return move_parts(dir_fd, RESTORE_ENTERING, "", st) && io_remove_tree(dir_fd, RESTORE_ENTERING, st) && io_fsync_dir(dir_fd, ".", st);
}

static bool is_pending(int dir_fd, bool *ret_ready, bool *ret_entering, struct status *st) {
    return there(dir_fd, RESTORE_READY, ret_ready, st) && there(dir_fd, RESTORE_ENTERING, ret_entering, st);
}

bool restore_none_pending(int data_dir_fd, struct status *st) {
    bool ready = false;
    bool entering = false;
    if (!is_pending(data_dir_fd, &ready, &entering, st)) {
        return false;
    }
    return (!ready && !entering) ||
           status_set(st, STATUS_CONFLICT, "a restore was interrupted half-way in that data directory: start its server, which completes it, and stop it again");
}

bool restore_complete(int data_dir_fd, bool *ret_done, struct status *st) {
    bool ready = false;
    bool entering = false;
    if (!is_pending(data_dir_fd, &ready, &entering, st)) {
        return false;
    }
    if (ready && !clear_the_place(data_dir_fd, st)) {
        return false;
    }
    if ((ready || entering) && !enter(data_dir_fd, st)) {
        return false;
    }
    if (ret_done != NULL) {
        *ret_done = ready || entering;
    }
    return io_remove_tree(data_dir_fd, RESTORE_DISCARDED, st) && io_remove_tree(data_dir_fd, RESTORE_NEW, st);
}

/* Makes the directory `from`, in which all is synced, the one that is decided for. */
static bool decide(int dir_fd, const char *from, const char *aside, struct status *st) {
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/" RESTORE_ASIDE_FILE, from);
    return io_replace_file(dir_fd, path, slice_str(aside), FILE_MODE, st) && io_fsync_dir(dir_fd, from, st) &&
           io_rename_at(dir_fd, from, dir_fd, RESTORE_READY, st) && io_fsync_dir(dir_fd, ".", st) && restore_complete(dir_fd, NULL, st);
}

static bool keep_newest(int dir_fd, const char *name, void *ctx, struct status *st) {
    char *newest = (char *)ctx;
    (void)dir_fd;
    (void)st;
    if (is_replaced(name) && strcmp(name, newest) > 0) {
        (void)snprintf(newest, RESTORE_NAME_MAX, "%s", name);
    }
    return true;
}

/* Behind all that there are, because the one that was replaced last is found by its name: where the clock has gone back, or two restores came in a second, it has
 * the time of the newest and the next number. */
static bool next_name(int dir_fd, char out[RESTORE_NAME_MAX], struct status *st) {
    char newest[RESTORE_NAME_MAX] = "";
    char now[16];
    unsigned number = 0;
    if (!io_each_entry(dir_fd, "the data directory", keep_newest, newest, st)) {
        return false;
    }
    date_time_format(clock_wall_us(), now);
    if (newest[0] != '\0' && strncmp(newest + TIME_AT, now, TIME_BYTES) >= 0) {
        memcpy(now, newest + TIME_AT, TIME_BYTES);
        number = (unsigned)strtoul(newest + TIME_AT + TIME_BYTES + 1, NULL, 10) + 1;
    }
    (void)snprintf(out, RESTORE_NAME_MAX, RESTORE_REPLACED_PREFIX "%s.%03u", now, number);
    return number < NAMES_OF_A_SECOND || status_set(st, STATUS_BUSY, "too many restores in one second");
}

bool restore_switch(int data_dir_fd, char ret_aside[RESTORE_NAME_MAX], struct status *st) {
    char aside[RESTORE_NAME_MAX];
    bool kept = false;
    if (!next_name(data_dir_fd, aside, st) || !decide(data_dir_fd, RESTORE_NEW, aside, st) || !there(data_dir_fd, aside, &kept, st)) {
        return false;
    }
    (void)snprintf(ret_aside, RESTORE_NAME_MAX, "%s", kept ? aside : "");
    return true;
}

/* --- what was replaced --- */

/* In two steps, so that nothing half-removed is taken for a state that could be put back. */
static bool remove_replaced(int dir_fd, const char *name, void *ctx, struct status *st) {
    uint32_t *removed = (uint32_t *)ctx;
    if (!is_replaced(name)) {
        return true;
    }
    (*removed)++;
    return io_remove_tree(dir_fd, RESTORE_DISCARDED, st) && io_rename_at(dir_fd, name, dir_fd, RESTORE_DISCARDED, st) && io_fsync_dir(dir_fd, ".", st) &&
           io_remove_tree(dir_fd, RESTORE_DISCARDED, st);
}

bool restore_accept(int data_dir_fd, uint32_t *ret_removed, struct status *st) {
    uint32_t removed = 0;
    if (!io_each_entry(data_dir_fd, "the data directory", remove_replaced, &removed, st)) {
        return false;
    }
    *ret_removed = removed;
    return removed == 0 || io_fsync_dir(data_dir_fd, ".", st);
}

static bool undo_locked(int dir_fd, char newest[RESTORE_NAME_MAX], struct status *st) {
    newest[0] = '\0';
    if (!restore_complete(dir_fd, NULL, st) || !io_each_entry(dir_fd, "the data directory", keep_newest, newest, st)) {
        return false;
    }
    if (newest[0] == '\0') {
        return status_set(st, STATUS_NOT_FOUND, "there is nothing to put back: no restore replaced anything here, or the server has started well since");
    }
    return decide(dir_fd, newest, RESTORE_DISCARDED, st);
}

bool restore_undo(const char *dir, char ret_from[RESTORE_NAME_MAX], struct status *st) {
    int dir_fd = -1;
    int lock_fd = -1;
    bool lock_is_there = false;
    if (!io_open_at(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0, &dir_fd, st)) {
        return false;
    }
    bool ok = there(dir_fd, "LOCK", &lock_is_there, st);
    if (ok && !lock_is_there) {
        ok = status_set(st, STATUS_NOT_FOUND, "%.200s is no data directory", dir);
    }
    struct status failed = {0};
    if (ok && !data_lock(dir_fd, &lock_fd, &failed)) {
        ok = status_set(st, failed.code == STATUS_CONFLICT ? STATUS_BUSY : failed.code, "%.300s", failed.detail);
    }
    ok = ok && undo_locked(dir_fd, ret_from, st);
    io_close(&lock_fd);
    io_close(&dir_fd);
    return ok;
}
