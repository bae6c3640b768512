/*
 * io.h - the one seam to the file system: the only place that calls fsync, rename, fallocate, pwrite and unlink.
 *
 * Every call is named (enum io_call) and passes through a fault hook that tests set, so a test can make the Nth
 * fdatasync fail, or stop the process at the Nth rename; and through a watch, which sees what is written. In production both are NULL.
 *
 * The environment variable QUIRE_IO_FAULT arms the hook in a running server, for tests from outside; quired logs it loudly at
 * start. Its form: rules separated by ';', each
 *     call:errno=NAME[,after=N][,times=N][,path=SUBSTRING]     fail with that errno
 *     call:kill[,after=N][,path=SUBSTRING]                     raise SIGKILL instead of making the call
 *     call:delay=MS[,after=N][,times=N]                        wait, then make the call
 *     call:short=BYTES[,after=N][,times=N][,path=SUBSTRING]    read or write at most so many bytes in one attempt
 *     call:note=FILE[,path=SUBSTRING]                          append a line to FILE (process, call, path), then make the call
 * `call` is a name of enum io_call in lower case, or "any".
 * `after=N` lets N matching calls pass first (default 0); `times=N` applies N times (default: for ever).
 * A rule with file=PATH is active only while PATH exists: that lets a test switch a fault on and off in a running server.
 *
 * All calls restart on EINTR. Short reads and writes are continued. Descriptors are opened O_CLOEXEC.
 */
#ifndef QUIRE_BASE_IO_H
#define QUIRE_BASE_IO_H

#include "base/buf.h"

#include <dirent.h>
#include <sys/types.h>

enum io_call {
    IO_OPEN,
    IO_READ,
    IO_WRITE,
    IO_FSYNC, /* fsync of files and directories, and syncfs */
    IO_FDATASYNC,
    IO_FALLOCATE,
    IO_TRUNCATE,
    IO_RENAME,
    IO_UNLINK,
    IO_MKDIR,
    IO_MMAP,
    IO_MSYNC,
    IO_LINK,
    IO_LIST, /* readdir of io_each_entry: a name of a directory, or its end */
    IO_CALLS
};

/* Asked before each attempt at a call. Returns 0 to let it happen, an errno to fail with (EINTR: the seam makes another attempt), or
 * -n to let a read or write have at most n bytes. May not return (kill). Called by any thread at once. `path` is that of the file, as
 * far as it is known (the new name for a rename), else NULL. Set the hook while no other thread does I/O. */
typedef int (*io_fault_fn)(enum io_call call, const char *path, void *ctx);
void io_set_fault(io_fault_fn hook, void *ctx);

/* A call as it is made: for one who records them. What a call does not have is 0 or NULL. */
struct io_event {
    enum io_call call;
    int fd;           /* of the file; of the directory where there is a path */
    const char *path; /* of open, unlink, mkdir; a rename's or link's new name; what msync is about, for messages */
    int from_fd;      /* a rename's or link's old name */
    const char *from;
    int flags; /* of open; of unlink; O_RDWR of a map that can be written */
    mode_t mode;
    const void *data; /* of a write */
    void *into;       /* of a read; the address of a map and of msync; the directory of a listing, after it its entry */
    size_t len;       /* after a read or write: what was done of it */
    off_t at;         /* of read, write, allocate, mmap; the new size of truncate */
    int opened;       /* by open, after it */
};
enum io_moment { IO_BEFORE, IO_AFTER };
/* Told of every attempt that is really made, before and after it; `error` is what came of it. Otherwise as a fault hook. */
typedef void (*io_watch_fn)(const struct io_event *event, enum io_moment moment, int error, void *ctx);
void io_set_watch(io_watch_fn watch, void *ctx);
/* Arms the hook from QUIRE_IO_FAULT when it is set. false: the variable does not parse. *ret_armed: whether there is one. */
MUST_CHECK bool io_fault_from_environment(bool *ret_armed, struct status *st);

/* open(2) at a directory descriptor (AT_FDCWD for none). Returns the descriptor through *ret_fd. */
MUST_CHECK bool io_open_at(int dir_fd, const char *path, int flags, mode_t mode, int *ret_fd, struct status *st);
/* For a process that may open nothing any more (confine.h): from now on io_open_at asks fn, which has the descriptors that were opened before. Returns 0
 * and *ret_fd, which is the caller's to close, or an errno. */
typedef int (*io_open_fn)(int dir_fd, const char *path, int flags, int *ret_fd, void *ctx);
void io_set_opener(io_open_fn fn, void *ctx);
void io_close(int *fd); /* closes when >= 0 and sets -1 */
/* Opens a directory for readdir(3); closedir(3) is the caller's. `flags` is 0 or O_NOFOLLOW; `what` names it in messages. */
MUST_CHECK bool io_open_dir(int dir_fd, const char *path, int flags, const char *what, DIR **ret, struct status *st);
/* Told each name in a directory. `dir_fd` is what io_each_entry was given; `name` lives until fn returns. false, with the status set, ends
 * the listing. */
typedef bool (*io_entry_fn)(int dir_fd, const char *name, void *ctx, struct status *st);
/* Calls fn for all that is in the directory dir_fd but "." and "..", in no order. It is opened anew, as ".": an opener (above) has to answer
 * that. `what` names it in messages. false: fn said so, or the directory cannot be opened or read to its end. */
MUST_CHECK bool io_each_entry(int dir_fd, const char *what, io_entry_fn fn, void *ctx, struct status *st);
/* An end of file before len is STATUS_CORRUPT. */
MUST_CHECK bool io_pread_full(int fd, void *data, size_t len, off_t at, struct status *st);
/* Like pread, but returns how much there was. */
MUST_CHECK bool io_pread(int fd, void *data, size_t len, off_t at, size_t *ret_read, struct status *st);
MUST_CHECK bool io_pwrite_full(int fd, const void *data, size_t len, off_t at, struct status *st);
MUST_CHECK bool io_fdatasync(int fd, const char *what, struct status *st);
MUST_CHECK bool io_fsync(int fd, const char *what, struct status *st);
/* Has the changed pages of [at, at + len) written, and waits for it. It makes nothing durable, as the device keeps what it likes; so it is no event that a fault hook or a watch would see. A failure
 * is one of a sync: the next sync through this descriptor may not tell of it. */
MUST_CHECK bool io_write_back(int fd, off_t at, off_t len, const char *what, struct status *st);
MUST_CHECK bool io_fsync_dir(int dir_fd, const char *path, struct status *st); /* opens, syncs and closes the directory */
/* Really allocates blocks [at, at+len) (posix_fallocate): later stores through a map cannot meet a full disk. */
MUST_CHECK bool io_allocate(int fd, off_t at, off_t len, const char *what, struct status *st);
MUST_CHECK bool io_truncate(int fd, off_t size, const char *what, struct status *st);
MUST_CHECK bool io_rename_at(int from_dir, const char *from, int to_dir, const char *to, struct status *st);
/* A second name for a file (not for what a link points to). */
MUST_CHECK bool io_link_at(int from_dir, const char *from, int to_dir, const char *to, struct status *st);
MUST_CHECK bool io_unlink_at(int dir_fd, const char *path, struct status *st);             /* a missing file is no error */
MUST_CHECK bool io_mkdir_at(int dir_fd, const char *path, mode_t mode, struct status *st); /* an existing directory is no error */
/* Removes a directory and what is in it; a missing one is no error. Never follows links. */
MUST_CHECK bool io_remove_tree(int dir_fd, const char *path, struct status *st);
MUST_CHECK bool io_size(int fd, off_t *ret_size, struct status *st);
/* Bytes that may still be written to the file system that fd is on. */
MUST_CHECK bool io_free_bytes(int fd, uint64_t *ret_bytes, struct status *st);
/* That, and how large the file system is. */
MUST_CHECK bool io_disk_bytes(int fd, uint64_t *ret_size, uint64_t *ret_available, struct status *st);
/* Reads a whole small file into *out (cleared first); over `max` bytes is STATUS_TOO_LARGE. */
MUST_CHECK bool io_read_file(int dir_fd, const char *path, size_t max, struct buf *out, struct status *st);
/* Writes path.tmp, syncs it, renames it to path, syncs the directory: after a crash the old or the new file is there, whole. */
MUST_CHECK bool io_replace_file(int dir_fd, const char *path, struct slice content, mode_t mode, struct status *st);
/* mmap of a file (shared). *ret is page-aligned. `addr` NULL, or an address inside a reservation of the caller's (MAP_FIXED). */
MUST_CHECK bool io_map(int fd, void *addr, off_t at, size_t len, bool writable, const char *what, void **ret, struct status *st);
MUST_CHECK bool io_msync(void *addr, size_t len, const char *what, struct status *st);

#endif
