/*
 * data_lock.c - one server at a time on a data directory.
 *
 * The lock is a flock, so it ends with its holder however that dies; the file stays. The pid in it is for the message only.
 */
#include "base/buf.h"
#include "base/io.h"
#include "durable/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#define LOCK_NAME "LOCK"
enum { PID_TEXT_MAX = 24, LOCK_MODE = 0600 };

static bool held_by_another(int fd, struct status *st) {
    char pid[PID_TEXT_MAX] = "";
    size_t have = 0;
    struct status ignored;
    if (!io_pread(fd, pid, sizeof pid - 1, 0, &have, &ignored)) {
        have = 0;
    }
    pid[have] = '\0';
    pid[strspn(pid, "0123456789")] = '\0';
    return status_set(st, STATUS_CONFLICT, "the data directory is in use by another server (process %s)",
                      pid[0] != '\0' ? pid : "unknown");
}

static bool write_pid(int fd, struct status *st) {
    char pid[PID_TEXT_MAX];
    int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    return io_truncate(fd, 0, LOCK_NAME, st) && io_pwrite_full(fd, pid, (size_t)len, 0, st);
}

bool data_lock_shared(int data_dir_fd, int *ret_fd, struct status *st) {
    struct status failed = {0};
    int fd = -1;
    if (!io_open_at(data_dir_fd, LOCK_NAME, O_RDONLY | O_NOFOLLOW, 0, &fd, &failed)) {
        if (failed.sys_errno == ENOENT) {
            *ret_fd = -1;
            return true;
        }
        if (st != NULL) {
            *st = failed;
        }
        return false;
    }
    if (flock(fd, LOCK_SH | LOCK_NB) != 0) {
        int err = errno;
        bool ok = err == EWOULDBLOCK ? held_by_another(fd, st) : status_set_errno(st, err, "cannot lock the data directory");
        io_close(&fd);
        return ok;
    }
    *ret_fd = fd;
    return true;
}

bool data_lock(int data_dir_fd, int *ret_fd, struct status *st) {
    int fd = -1;
    if (!io_open_at(data_dir_fd, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW, LOCK_MODE, &fd, st)) {
        return false;
    }
    bool ok = flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (!ok) {
        int err = errno;
        ok = err == EWOULDBLOCK ? held_by_another(fd, st) : status_set_errno(st, err, "cannot lock the data directory");
    } else {
        ok = write_pid(fd, st);
    }
    if (!ok) {
        io_close(&fd);
        return false;
    }
    *ret_fd = fd;
    return true;
}
