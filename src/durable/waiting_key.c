/* waiting_key.c - see waiting_key.h. */
#include "durable/waiting_key.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAITING_KEY_MADE WAITING_KEY ".tmp"
enum { FILE_MODE = 0600, SUM_BYTES = 4, BYTES_MAX = 8192 };

/* Under a name of its own first, so that no server reads half of it. */
static bool write_made(int dir_fd, struct slice bytes, struct status *st) {
    struct stat dir;
    int fd = -1;
    if (!io_unlink_at(dir_fd, WAITING_KEY_MADE, st) || !io_open_at(dir_fd, WAITING_KEY_MADE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, FILE_MODE, &fd, st)) {
        return false;
    }
    bool ok = io_pwrite_full(fd, bytes.data, bytes.len, 0, st);
    if (ok && geteuid() == 0 && (fstat(dir_fd, &dir) != 0 || fchown(fd, dir.st_uid, dir.st_gid) != 0)) {
        ok = status_set_errno(st, errno, "cannot give the key to the owner of the data directory");
    }
    ok = ok && io_fsync(fd, WAITING_KEY_MADE, st);
    io_close(&fd);
    return ok;
}

bool waiting_key_leave(int data_dir_fd, const struct op_key *key, struct status *st) {
    struct buf bytes = {0};
    struct status failed = {0};
    op_encode_key_add(&bytes, key);
    buf_put_u32le(&bytes, crc32c(0, bytes.data, bytes.len));
    bool ok = buf_check(&bytes, st) && write_made(data_dir_fd, buf_slice(&bytes), st);
    if (ok && !io_link_at(data_dir_fd, WAITING_KEY_MADE, data_dir_fd, WAITING_KEY, &failed)) {
        *st = failed;
        ok = failed.sys_errno == EEXIST ? status_set(st, STATUS_CONFLICT, "another key waits in the data directory for the server to take it") : false;
    }
    ok = io_unlink_at(data_dir_fd, WAITING_KEY_MADE, ok ? st : NULL) && ok;
    buf_fini(&bytes);
    return ok && io_fsync(data_dir_fd, "the data directory", st);
}

bool waiting_key_is_there(int data_dir_fd) {
    return faccessat(data_dir_fd, WAITING_KEY, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool is_ours(int fd, int dir_fd, off_t *ret_size, struct status *st) {
    struct stat file, dir;
    if (fstat(fd, &file) != 0 || fstat(dir_fd, &dir) != 0) {
        return status_set_errno(st, errno, "cannot look at %s", WAITING_KEY);
    }
    *ret_size = file.st_size;
    bool owned = file.st_uid == 0 || file.st_uid == dir.st_uid;
    return (S_ISREG(file.st_mode) && owned && (file.st_mode & (S_IWGRP | S_IWOTH)) == 0) ||
           status_set(st, STATUS_DENIED, "%s in the data directory is not its owner's alone", WAITING_KEY);
}

static bool read_all(int fd, off_t size, struct buf *bytes, struct status *st) {
    if (size <= SUM_BYTES || size > BYTES_MAX) {
        return status_set(st, STATUS_CORRUPT, "%s in the data directory is no key", WAITING_KEY);
    }
    buf_reset(bytes);
    if (!buf_reserve(bytes, (size_t)size)) {
        return status_no_memory(st);
    }
    bytes->len = (size_t)size;
    return io_pread_full(fd, bytes->data, bytes->len, 0, st);
}

bool waiting_key_read(int data_dir_fd, struct buf *bytes, struct op *ret, struct status *st) {
    int fd = -1;
    off_t size = 0;
    if (!io_open_at(data_dir_fd, WAITING_KEY, O_RDONLY | O_NOFOLLOW, 0, &fd, st)) {
        return false;
    }
    bool ok = is_ours(fd, data_dir_fd, &size, st) && read_all(fd, size, bytes, st);
    io_close(&fd);
    if (!ok) {
        return false;
    }
    bytes->len -= SUM_BYTES;
    bool sound = load_u32le(bytes->data + bytes->len) == crc32c(0, bytes->data, bytes->len);
    return (sound && op_decode(buf_slice(bytes), NULL, ret, st) && ret->type == OP_KEY_ADD) ||
           status_set(st, STATUS_CORRUPT, "%s in the data directory is no key", WAITING_KEY);
}

bool waiting_key_remove(int data_dir_fd, struct status *st) {
    return io_unlink_at(data_dir_fd, WAITING_KEY, st) && io_fsync(data_dir_fd, "the data directory", st);
}
