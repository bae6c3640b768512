/*
 * io.c - the seam to the file system.
 *
 * Each attempt at a call first asks the fault hook, and is told to the watch before and after; EINTR makes another attempt. Then file
 * and errno are named in the status. The fault hook wants to know the file by its path; descriptors are translated through
 * /proc/self/fd, but only while it is set. Production pays one load.
 *
 * A failed fsync is reported and never tried again: the kernel may have dropped the pages that it could not write, and a second
 * call would report success for them.
 */
#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { READ_STEP = 16 * 1024, TREE_DEPTH_MAX = 32, FD_LINK_MAX = 32 };

/* Set while the process is quiet (start, tests), read by every thread. Contexts are stored before `hooked` (release) and loaded after
 * it (acquire), so a thread that sees a hook sees its context. */
static _Atomic bool hooked; /* there is a fault hook or a watch */
static _Atomic(io_fault_fn) fault_hook;
static void *_Atomic fault_ctx;
static _Atomic(io_watch_fn) watch_hook;
static void *_Atomic watch_ctx;

static void note_hooks(void) {
    bool any = atomic_load_explicit(&fault_hook, memory_order_relaxed) != NULL ||
               atomic_load_explicit(&watch_hook, memory_order_relaxed) != NULL;
    atomic_store_explicit(&hooked, any, memory_order_release);
}

void io_set_fault(io_fault_fn hook, void *ctx) {
    if (hook != NULL) { /* a thread that still sees the old hook goes on with the old context */
        atomic_store_explicit(&fault_ctx, ctx, memory_order_relaxed);
    }
    atomic_store_explicit(&fault_hook, hook, memory_order_release);
    note_hooks();
}

void io_set_watch(io_watch_fn watch, void *ctx) {
    if (watch != NULL) {
        atomic_store_explicit(&watch_ctx, ctx, memory_order_relaxed);
    }
    atomic_store_explicit(&watch_hook, watch, memory_order_release);
    note_hooks();
}

/* The path that a descriptor was opened by, "" when there is none. */
static void path_of_fd(int fd, char out[PATH_MAX]) {
    char link[FD_LINK_MAX];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, out, PATH_MAX - 1);
    out[len > 0 ? len : 0] = '\0';
}

/* 0, or the errno that the hook wants; below 0: a short read or write. */
static int ask_hook(const struct io_event *e) {
    io_fault_fn hook = atomic_load_explicit(&fault_hook, memory_order_acquire);
    if (hook == NULL) {
        return 0;
    }
    char whole[PATH_MAX];
    whole[0] = '\0';
    if (e->fd >= 0 && (e->path == NULL || e->path[0] != '/')) {
        path_of_fd(e->fd, whole);
    }
    size_t used = strlen(whole);
    if (e->path != NULL) {
        (void)snprintf(whole + used, sizeof whole - used, "%s%s", used > 0 ? "/" : "", e->path);
    }
    return hook(e->call, whole[0] != '\0' ? whole : NULL, atomic_load_explicit(&fault_ctx, memory_order_relaxed));
}

static void tell_watch(const struct io_event *e, enum io_moment moment, int error) {
    io_watch_fn watch = atomic_load_explicit(&watch_hook, memory_order_acquire);
    if (watch != NULL) {
        watch(e, moment, error, atomic_load_explicit(&watch_ctx, memory_order_relaxed));
    }
}

/* One system call: returns 0 or an errno, and leaves in the event what came of it. */
typedef int (*system_call)(struct io_event *e);

/* One attempt. Returns 0 or an errno, also EINTR. */
static int attempt(struct io_event *e, system_call call) {
    if (!atomic_load_explicit(&hooked, memory_order_acquire)) {
        return call(e);
    }
    int err = ask_hook(e);
    if (err < 0) {
        size_t most = (size_t)-err;
        e->len = most < e->len && (e->call == IO_READ || e->call == IO_WRITE) ? most : e->len;
        err = 0;
    }
    if (err == 0) {
        tell_watch(e, IO_BEFORE, 0);
        err = call(e);
        tell_watch(e, IO_AFTER, err);
    }
    return err;
}

static int run(struct io_event *e, system_call call) {
    int err = EINTR;
    while (err == EINTR) {
        err = attempt(e, call);
    }
    return err;
}

static const char *named(const char *what) {
    return what != NULL ? what : "the file";
}

static io_open_fn opener; /* set by a process of one thread */
static void *opener_ctx;

void io_set_opener(io_open_fn fn, void *ctx) {
    opener = fn;
    opener_ctx = ctx;
}

static int call_open(struct io_event *e) {
    if (opener != NULL) {
        return opener(e->fd, e->path, e->flags, &e->opened, opener_ctx);
    }
    e->opened = openat(e->fd, e->path, e->flags, e->mode);
    return e->opened < 0 ? errno : 0;
}

bool io_open_at(int dir_fd, const char *path, int flags, mode_t mode, int *ret_fd, struct status *st) {
    struct io_event e = {.call = IO_OPEN, .fd = dir_fd, .path = path, .flags = flags | O_CLOEXEC, .mode = mode, .opened = -1};
    int err = run(&e, call_open);
    if (err != 0) {
        return status_set_errno(st, err, "cannot open %s", path);
    }
    *ret_fd = e.opened;
    return true;
}

void io_close(int *fd) {
    if (*fd >= 0) {
        int saved_errno = errno;
        /* Linux closes the descriptor also when it reports EINTR: no second try. */
        (void)close(*fd);
        errno = saved_errno;
    }
    *fd = -1;
}

bool io_open_dir(int dir_fd, const char *path, int flags, const char *what, DIR **ret, struct status *st) {
    int fd = -1;
    if (!io_open_at(dir_fd, path, O_RDONLY | O_DIRECTORY | flags, 0, &fd, st)) {
        return false;
    }
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int err = errno;
        io_close(&fd);
        return status_set_errno(st, err, "cannot read %s", what);
    }
    *ret = dir;
    return true;
}

static int call_list(struct io_event *e) {
    errno = 0;
    struct dirent *entry = readdir((DIR *)e->into);
    if (entry == NULL && errno != 0) {
        return errno;
    }
    e->into = entry;
    return 0;
}

/* The next name but "." and ".."; NULL at the end. Returns 0 or an errno. */
static int next_name(DIR *dir, const char **ret) {
    for (;;) {
        struct io_event e = {.call = IO_LIST, .fd = dirfd(dir), .into = dir};
        int err = run(&e, call_list);
        const struct dirent *entry = err == 0 ? (const struct dirent *)e.into : NULL;
        *ret = entry != NULL ? entry->d_name : NULL;
        if (*ret == NULL || (strcmp(*ret, ".") != 0 && strcmp(*ret, "..") != 0)) {
            return err;
        }
    }
}

static bool each_name(DIR *dir, int dir_fd, const char *what, io_entry_fn fn, void *ctx, struct status *st) {
    const char *name = NULL;
    do {
        int err = next_name(dir, &name);
        if (err != 0) {
            return status_set_errno(st, err, "cannot read %s", what);
        }
        if (name != NULL && !fn(dir_fd, name, ctx, st)) {
            return false;
        }
    } while (name != NULL);
    return true;
}

bool io_each_entry(int dir_fd, const char *what, io_entry_fn fn, void *ctx, struct status *st) {
    DIR *dir = NULL;
    if (!io_open_dir(dir_fd, ".", 0, what, &dir, st)) {
        return false;
    }
    bool ok = each_name(dir, dir_fd, what, fn, ctx, st);
    (void)closedir(dir);
    return ok;
}

static int call_pread(struct io_event *e) {
    ssize_t n = pread(e->fd, e->into, e->len, e->at);
    e->len = n > 0 ? (size_t)n : 0;
    return n < 0 ? errno : 0;
}

bool io_pread(int fd, void *data, size_t len, off_t at, size_t *ret_read, struct status *st) {
    size_t have = 0;
    int err = 0;
    bool end = false;
    while (err == 0 && have < len && !end) {
        struct io_event e = {
            .call = IO_READ, .fd = fd, .into = (uint8_t *)data + have, .len = len - have, .at = at + (off_t)have};
        err = run(&e, call_pread);
        have += err == 0 ? e.len : 0;
        end = e.len == 0;
    }
    if (err != 0) {
        return status_set_errno(st, err, "cannot read %zu bytes at offset %lld", len, (long long)at);
    }
    *ret_read = have;
    return true;
}

bool io_pread_full(int fd, void *data, size_t len, off_t at, struct status *st) {
    size_t have = 0;
    if (!io_pread(fd, data, len, at, &have, st)) {
        return false;
    }
    return have == len ||
           status_set(st, STATUS_CORRUPT, "the file ends early: %zu of %zu bytes at offset %lld", have, len, (long long)at);
}

static int call_pwrite(struct io_event *e) {
    ssize_t n = pwrite(e->fd, e->data, e->len, e->at);
    e->len = n > 0 ? (size_t)n : 0;
    if (n == 0) {
        return EIO; /* a write of something that writes nothing would go on for ever */
    }
    return n < 0 ? errno : 0;
}

bool io_pwrite_full(int fd, const void *data, size_t len, off_t at, struct status *st) {
    size_t done = 0;
    int err = 0;
    while (err == 0 && done < len) {
        struct io_event e = {
            .call = IO_WRITE, .fd = fd, .data = (const uint8_t *)data + done, .len = len - done, .at = at + (off_t)done};
        err = run(&e, call_pwrite);
        done += err == 0 ? e.len : 0;
    }
    return err == 0 || status_set_errno(st, err, "cannot write %zu bytes at offset %lld", len, (long long)at);
}

bool io_write_back(int fd, off_t at, off_t len, const char *what, struct status *st) {
    const unsigned how = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (sync_file_range(fd, at, len, how) == 0 || errno == ENOSYS || errno == EPERM || errno == EINVAL) { /* where there is no such call, a sync will do it */
        return true;
    }
    return status_set_errno(st, errno, "cannot write back %s", named(what));
}

static int call_fdatasync(struct io_event *e) {
    return fdatasync(e->fd) != 0 ? errno : 0;
}

bool io_fdatasync(int fd, const char *what, struct status *st) {
    int err = run(&(struct io_event){.call = IO_FDATASYNC, .fd = fd}, call_fdatasync);
    return err == 0 || status_set_errno(st, err, "cannot sync %s", named(what));
}

static int call_fsync(struct io_event *e) {
    return fsync(e->fd) != 0 ? errno : 0;
}

bool io_fsync(int fd, const char *what, struct status *st) {
    int err = run(&(struct io_event){.call = IO_FSYNC, .fd = fd}, call_fsync);
    return err == 0 || status_set_errno(st, err, "cannot sync %s", named(what));
}

bool io_fsync_dir(int dir_fd, const char *path, struct status *st) {
    int fd = -1;
    if (!io_open_at(dir_fd, path, O_RDONLY | O_DIRECTORY, 0, &fd, st)) {
        return false;
    }
    bool ok = io_fsync(fd, path, st);
    io_close(&fd);
    return ok;
}

static int call_allocate(struct io_event *e) {
    return posix_fallocate(e->fd, e->at, (off_t)e->len);
}

bool io_allocate(int fd, off_t at, off_t len, const char *what, struct status *st) {
    struct io_event e = {.call = IO_FALLOCATE, .fd = fd, .at = at, .len = (size_t)len};
    int err = len > 0 ? run(&e, call_allocate) : 0;
    return err == 0 || status_set_errno(st, err, "cannot allocate %lld bytes for %s", (long long)len, named(what));
}

static int call_truncate(struct io_event *e) {
    return ftruncate(e->fd, e->at) != 0 ? errno : 0;
}

bool io_truncate(int fd, off_t size, const char *what, struct status *st) {
    int err = run(&(struct io_event){.call = IO_TRUNCATE, .fd = fd, .at = size}, call_truncate);
    return err == 0 || status_set_errno(st, err, "cannot set the size of %s to %lld", named(what), (long long)size);
}

static int call_rename(struct io_event *e) {
    return renameat(e->from_fd, e->from, e->fd, e->path) != 0 ? errno : 0;
}

bool io_rename_at(int from_dir, const char *from, int to_dir, const char *to, struct status *st) {
    int err =
        run(&(struct io_event){.call = IO_RENAME, .fd = to_dir, .path = to, .from_fd = from_dir, .from = from}, call_rename);
    return err == 0 || status_set_errno(st, err, "cannot rename %s to %s", from, to);
}

static int call_link(struct io_event *e) {
    return linkat(e->from_fd, e->from, e->fd, e->path, 0) != 0 ? errno : 0;
}

bool io_link_at(int from_dir, const char *from, int to_dir, const char *to, struct status *st) {
    int err = run(&(struct io_event){.call = IO_LINK, .fd = to_dir, .path = to, .from_fd = from_dir, .from = from}, call_link);
    return err == 0 || status_set_errno(st, err, "cannot link %s as %s", from, to);
}

static int call_unlink(struct io_event *e) {
    return unlinkat(e->fd, e->path, e->flags) != 0 ? errno : 0;
}

static bool unlink_at(int dir_fd, const char *path, int flags, struct status *st) {
    int err = run(&(struct io_event){.call = IO_UNLINK, .fd = dir_fd, .path = path, .flags = flags}, call_unlink);
    return err == 0 || err == ENOENT || status_set_errno(st, err, "cannot remove %s", path);
}

bool io_unlink_at(int dir_fd, const char *path, struct status *st) {
    return unlink_at(dir_fd, path, 0, st);
}

static int call_mkdir(struct io_event *e) {
    return mkdirat(e->fd, e->path, e->mode) != 0 ? errno : 0;
}

bool io_mkdir_at(int dir_fd, const char *path, mode_t mode, struct status *st) {
    int err = run(&(struct io_event){.call = IO_MKDIR, .fd = dir_fd, .path = path, .mode = mode}, call_mkdir);
    if (err == EEXIST) {
        struct stat info;
        if (fstatat(dir_fd, path, &info, 0) == 0) {
            err = S_ISDIR(info.st_mode) ? 0 : ENOTDIR;
        }
    }
    return err == 0 || status_set_errno(st, err, "cannot make the directory %s", path);
}

static bool empty_directory(DIR *dir, int depth, struct status *st);

/* A name in dir_fd: a directory with what is in it, or anything else. */
static bool remove_entry(int dir_fd, const char *name, int depth, struct status *st) {
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOTDIR || errno == ELOOP) {
            return unlink_at(dir_fd, name, 0, st);
        }
        return errno == ENOENT || status_set_errno(st, errno, "cannot open the directory %s", name);
    }
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int err = errno;
        io_close(&fd);
        return status_set_errno(st, err, "cannot read the directory %s", name);
    }
    bool ok = empty_directory(dir, depth + 1, st);
    (void)closedir(dir);
    return ok && unlink_at(dir_fd, name, AT_REMOVEDIR, st);
}

static bool remove_inside(int dir_fd, const char *name, void *ctx, struct status *st) {
    return remove_entry(dir_fd, name, *(const int *)ctx, st);
}

static bool empty_directory(DIR *dir, int depth, struct status *st) {
    if (depth > TREE_DEPTH_MAX) {
        return status_set(st, STATUS_IO, "cannot remove a tree of more than %d directories inside one another", TREE_DEPTH_MAX);
    }
    return each_name(dir, dirfd(dir), "a directory", remove_inside, &depth, st);
}

bool io_remove_tree(int dir_fd, const char *path, struct status *st) {
    return remove_entry(dir_fd, path, 0, st);
}

bool io_disk_bytes(int fd, uint64_t *ret_size, uint64_t *ret_available, struct status *st) {
    struct statvfs v;
    if (fstatvfs(fd, &v) != 0) {
        return status_set_errno(st, errno, "cannot ask how much room there is");
    }
    *ret_size = (uint64_t)v.f_blocks * v.f_frsize;
    *ret_available = (uint64_t)v.f_bavail * v.f_frsize;
    return true;
}

bool io_free_bytes(int fd, uint64_t *ret_bytes, struct status *st) {
    uint64_t size = 0;
    return io_disk_bytes(fd, &size, ret_bytes, st);
}

bool io_size(int fd, off_t *ret_size, struct status *st) {
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return status_set_errno(st, errno, "cannot read the size of a file");
    }
    *ret_size = info.st_size;
    return true;
}

static bool read_all(int fd, const char *path, size_t max, struct buf *out, struct status *st) {
    for (;;) {
        size_t got = 0;
        /* One byte over the limit is asked for, so that a file of just the limit is told from a longer one. */
        size_t want = max - out->len < READ_STEP ? max - out->len + 1 : READ_STEP;
        if (!buf_reserve(out, want)) {
            return status_no_memory(st);
        }
        if (!io_pread(fd, out->data + out->len, want, (off_t)out->len, &got, st)) {
            return false;
        }
        out->len += got;
        if (out->len > max) {
            return status_set(st, STATUS_TOO_LARGE, "%s is larger than %zu bytes", path, max);
        }
        if (got < want) {
            return true;
        }
    }
}

bool io_read_file(int dir_fd, const char *path, size_t max, struct buf *out, struct status *st) {
    int fd = -1;
    buf_reset(out);
    if (!io_open_at(dir_fd, path, O_RDONLY, 0, &fd, st)) {
        return false;
    }
    bool ok = read_all(fd, path, max, out, st);
    io_close(&fd);
    return ok;
}

/* The directory that holds `path`, as a path: "a/b" gives "a", "b" gives ".", "/b" gives "/". False when it is too long. */
static bool parent_of(const char *path, char out[PATH_MAX]) {
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - path);
    if (len >= PATH_MAX) {
        return false;
    }
    memcpy(out, path, len);
    out[len] = '\0';
    if (len == 0) {
        memcpy(out, slash == NULL ? "." : "/", 2);
    }
    return true;
}

static bool write_new_file(int dir_fd, const char *path, struct slice content, mode_t mode, struct status *st) {
    int fd = -1;
    if (!io_open_at(dir_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode, &fd, st)) {
        return false;
    }
    bool ok = io_pwrite_full(fd, content.data, content.len, 0, st) && io_fsync(fd, path, st);
    io_close(&fd);
    return ok;
}

bool io_replace_file(int dir_fd, const char *path, struct slice content, mode_t mode, struct status *st) {
    char parent[PATH_MAX];
    char temporary[PATH_MAX];
    int len = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    if (len < 0 || len >= PATH_MAX || !parent_of(path, parent)) {
        return status_set_errno(st, ENAMETOOLONG, "cannot write %.64s...", path);
    }
    /* One that a crash left is of no use, and may have another mode. */
    if (!io_unlink_at(dir_fd, temporary, st)) {
        return false;
    }
    if (!write_new_file(dir_fd, temporary, content, mode, st) || !io_rename_at(dir_fd, temporary, dir_fd, path, st)) {
        (void)unlink_at(dir_fd, temporary, 0, NULL);
        return false;
    }
    return io_fsync_dir(dir_fd, parent, st);
}

static int call_map(struct io_event *e) {
    bool writable = (e->flags & O_ACCMODE) == O_RDWR;
    int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *map = mmap(e->into, e->len, protection, MAP_SHARED | (e->into != NULL ? MAP_FIXED : 0), e->fd, e->at);
    if (map == MAP_FAILED) {
        return errno;
    }
    e->into = map;
    return 0;
}

bool io_map(int fd, void *addr, off_t at, size_t len, bool writable, const char *what, void **ret, struct status *st) {
    struct io_event e = {.call = IO_MMAP, .fd = fd, .into = addr, .at = at, .len = len, .flags = writable ? O_RDWR : O_RDONLY};
    int err = run(&e, call_map);
    if (err != 0) {
        return status_set_errno(st, err, "cannot map %zu bytes of %s", len, named(what));
    }
    *ret = e.into;
    return true;
}

static int call_msync(struct io_event *e) {
    return msync(e->into, e->len, MS_SYNC) != 0 ? errno : 0;
}

bool io_msync(void *addr, size_t len, const char *what, struct status *st) {
    int err = run(&(struct io_event){.call = IO_MSYNC, .fd = -1, .path = what, .into = addr, .len = len}, call_msync);
    return err == 0 || status_set_errno(st, err, "cannot sync the map of %s", named(what));
}
