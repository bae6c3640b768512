/* io and its faults: each call on a real directory, and each failure that the hook can cause. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct fixture {
    char path[PATH_MAX];
    int dir;
};

static int set_up(void **state) {
    static struct fixture f;
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(f.path, sizeof f.path, "%s/quire-io-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(f.path) == NULL) {
        return -1;
    }
    f.dir = open(f.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = &f;
    return f.dir < 0 ? -1 : 0;
}

static int tear_down(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    io_set_fault(NULL, NULL);
    io_set_opener(NULL, NULL);
    io_close(&f->dir);
    return io_remove_tree(AT_FDCWD, f->path, &st) ? 0 : -1;
}

static bool exists(const struct fixture *f, const char *name) {
    struct stat info;
    return fstatat(f->dir, name, &info, AT_SYMLINK_NOFOLLOW) == 0;
}

static void assert_content(const struct fixture *f, const char *name, const char *wanted) {
    struct status st;
    struct buf b;
    buf_init(&b);
    assert_true(io_read_file(f->dir, name, 1 << 20, &b, &st));
    assert_true(slice_is(buf_slice(&b), wanted));
    buf_fini(&b);
}

static void write_file(const struct fixture *f, const char *name, const char *content) {
    struct status st;
    assert_true(io_replace_file(f->dir, name, slice_str(content), 0600, &st));
}

static int new_file(const struct fixture *f, const char *name) {
    struct status st;
    int fd = -1;
    assert_true(io_open_at(f->dir, name, O_RDWR | O_CREAT | O_EXCL, 0600, &fd, &st));
    return fd;
}

static void opens_with_cloexec_and_names_what_fails(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    int fd = new_file(f, "a");
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    io_close(&fd);
    assert_int_equal(fd, -1);
    io_close(&fd);
    fd = 1234;
    assert_false(io_open_at(f->dir, "missing", O_RDONLY, 0, &fd, &st));
    assert_int_equal(fd, 1234);
    assert_int_equal(st.code, STATUS_IO);
    assert_int_equal(st.sys_errno, ENOENT);
    assert_string_equal(st.detail, "cannot open missing: No such file or directory");
}

static void reads_and_writes_at_offsets(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    char text[16] = {0};
    size_t got = 99;
    off_t size = 0;
    int fd = new_file(f, "a");
    assert_true(io_pwrite_full(fd, "0123456789", 10, 0, &st));
    assert_true(io_pwrite_full(fd, "AB", 2, 4, &st));
    assert_true(io_pread_full(fd, text, 10, 0, &st));
    assert_string_equal(text, "0123AB6789");
    assert_true(io_pread(fd, text, 16, 8, &got, &st));
    assert_int_equal(got, 2);
    assert_true(io_pread(fd, text, 16, 100, &got, &st));
    assert_int_equal(got, 0);
    assert_false(io_pread_full(fd, text, 3, 8, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    assert_true(io_truncate(fd, 3, "a", &st));
    assert_true(io_size(fd, &size, &st));
    assert_int_equal(size, 3);
    assert_true(io_allocate(fd, 0, 100000, "a", &st));
    assert_true(io_allocate(fd, 0, 0, "a", &st));
    assert_true(io_size(fd, &size, &st));
    assert_int_equal(size, 100000);
    assert_true(io_fdatasync(fd, "a", &st));
    assert_true(io_fsync(fd, "a", &st));
    io_close(&fd);
    assert_true(io_fsync_dir(f->dir, ".", &st));
    assert_false(io_pread(-1, text, 1, 0, &got, &st));
    assert_int_equal(st.sys_errno, EBADF);
    assert_false(io_fdatasync(-1, "a", &st));
    assert_int_equal(st.sys_errno, EBADF);
}

static void reads_whole_files_up_to_a_limit(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    struct buf b;
    buf_init(&b);
    enum { SIZE = 100000 };
    char *text = (char *)malloc(SIZE + 1);
    assert_non_null(text);
    for (size_t size = 0; size <= SIZE; size = size * 3 + 1) {
        memset(text, 'x', size);
        text[size] = '\0';
        write_file(f, "a", text);
        assert_true(io_read_file(f->dir, "a", size, &b, &st));
        assert_true(slice_is(buf_slice(&b), text));
        if (size > 0) {
            assert_false(io_read_file(f->dir, "a", size - 1, &b, &st));
            assert_int_equal(st.code, STATUS_TOO_LARGE);
        }
    }
    free(text);
    /* Files of /proc have no size. */
    assert_true(io_read_file(AT_FDCWD, "/proc/self/status", 1 << 20, &b, &st));
    assert_true(b.len > 100);
    buf_fini(&b);
}

static void replaces_files_whole(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    struct stat info;
    write_file(f, "a", "old");
    assert_true(io_mkdir_at(f->dir, "sub", 0700, &st));
    write_file(f, "sub/b", "in a directory");
    assert_content(f, "sub/b", "in a directory");
    /* A rest of an earlier crash is no obstacle, and does not lend its mode. */
    int fd = new_file(f, "a.tmp");
    assert_int_equal(fchmod(fd, 0666), 0);
    io_close(&fd);
    write_file(f, "a", "new");
    assert_content(f, "a", "new");
    assert_false(exists(f, "a.tmp"));
    assert_int_equal(fstatat(f->dir, "a", &info, 0), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    char whole[PATH_MAX + 8];
    (void)snprintf(whole, sizeof whole, "%s/abs", f->path);
    assert_true(io_replace_file(AT_FDCWD, whole, slice_str("absolute"), 0600, &st));
    assert_content(f, "abs", "absolute");
}

static int fail_call(enum io_call call, const char *path, void *ctx) {
    (void)path;
    return call == *(const enum io_call *)ctx ? EIO : 0;
}

/* Whichever step of a replacement fails, the old file is there, whole, and nothing else. */
static void a_failed_replacement_leaves_the_old_file(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    enum io_call steps[] = {IO_OPEN, IO_WRITE, IO_FSYNC, IO_RENAME};
    write_file(f, "a", "old");
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        io_set_fault(fail_call, &steps[i]);
        assert_false(io_replace_file(f->dir, "a", slice_str("new"), 0600, &st));
        assert_int_equal(st.sys_errno, EIO);
        io_set_fault(NULL, NULL);
        assert_content(f, "a", "old");
        assert_false(exists(f, "a.tmp"));
    }
}

static void makes_renames_and_removes(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    assert_true(io_mkdir_at(f->dir, "d", 0700, &st));
    assert_true(io_mkdir_at(f->dir, "d", 0700, &st));
    write_file(f, "a", "x");
    assert_false(io_mkdir_at(f->dir, "a", 0700, &st));
    assert_int_equal(st.sys_errno, ENOTDIR);
    assert_true(io_rename_at(f->dir, "a", f->dir, "d/b", &st));
    assert_false(exists(f, "a"));
    assert_content(f, "d/b", "x");
    assert_false(io_rename_at(f->dir, "a", f->dir, "c", &st));
    assert_int_equal(st.sys_errno, ENOENT);
    assert_true(io_unlink_at(f->dir, "d/b", &st));
    assert_true(io_unlink_at(f->dir, "d/b", &st));
    assert_false(exists(f, "d/b"));
}

static void removes_trees_but_not_through_links(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    assert_true(io_mkdir_at(f->dir, "outside", 0700, &st));
    write_file(f, "outside/kept", "x");
    assert_true(io_mkdir_at(f->dir, "tree", 0700, &st));
    assert_true(io_mkdir_at(f->dir, "tree/deep", 0700, &st));
    assert_true(io_mkdir_at(f->dir, "tree/deep/er", 0700, &st));
    write_file(f, "tree/deep/er/file", "x");
    write_file(f, "tree/file", "x");
    assert_int_equal(symlinkat("../outside", f->dir, "tree/link"), 0);
    assert_int_equal(symlinkat("outside", f->dir, "link"), 0);
    assert_true(io_remove_tree(f->dir, "tree", &st));
    assert_false(exists(f, "tree"));
    assert_true(io_remove_tree(f->dir, "link", &st));
    assert_false(exists(f, "link"));
    assert_true(io_remove_tree(f->dir, "tree", &st));
    assert_content(f, "outside/kept", "x");
}

struct entries {
    int dir; /* the one that each call has to name */
    unsigned seen;
    unsigned most; /* the call with this number says no */
};

static bool take_entry(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct entries *e = (struct entries *)ctx;
    assert_int_equal(dir_fd, e->dir);
    assert_int_equal(strlen(name), 1);
    assert_true(name[0] >= 'a' && name[0] <= 'd');
    e->seen++;
    return e->seen < e->most || status_set(st, STATUS_CONFLICT, "no more");
}

/* Each name once, every time anew; "." and ".." are none, and a no ends it. */
static void lists_directories(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct entries e = {.dir = f->dir, .most = 9};
    struct status st;
    assert_true(io_each_entry(f->dir, "it", take_entry, &e, &st));
    assert_int_equal(e.seen, 0);
    write_file(f, "a", "x");
    assert_true(io_mkdir_at(f->dir, "b", 0700, &st));
    assert_int_equal(symlinkat("b", f->dir, "c"), 0);
    assert_true(io_each_entry(f->dir, "it", take_entry, &e, &st));
    assert_int_equal(e.seen, 3);
    assert_true(io_each_entry(f->dir, "it", take_entry, &e, &st));
    assert_int_equal(e.seen, 6);
    e = (struct entries){.dir = f->dir, .most = 2};
    assert_false(io_each_entry(f->dir, "it", take_entry, &e, &st));
    assert_int_equal(e.seen, 2);
    assert_int_equal(st.code, STATUS_CONFLICT);
}

/* A table of one directory, as a process has that may open nothing. */
static int open_from_table(int dir_fd, const char *path, int flags, int *ret_fd, void *ctx) {
    (void)flags;
    *ret_fd = dir_fd == *(const int *)ctx && strcmp(path, ".") == 0 ? dup(dir_fd) : -1;
    return *ret_fd >= 0 ? 0 : ENOENT;
}

static void a_listing_is_opened_through_the_seam(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct entries e = {.dir = f->dir, .most = 9};
    enum io_call stopped = IO_OPEN;
    struct status st;
    DIR *dir = NULL;
    int file = new_file(f, "a");
    io_set_fault(fail_call, &stopped);
    assert_false(io_each_entry(f->dir, "it", take_entry, &e, &st));
    assert_int_equal(st.sys_errno, EIO);
    stopped = IO_LIST;
    assert_false(io_each_entry(f->dir, "it", take_entry, &e, &st));
    assert_int_equal(st.sys_errno, EIO);
    assert_string_equal(st.detail, "cannot read it: Input/output error");
    io_set_fault(NULL, NULL);
    io_set_opener(open_from_table, &f->dir);
    assert_true(io_each_entry(f->dir, "it", take_entry, &e, &st));
    assert_int_equal(e.seen, 1);
    /* What is opened and no directory after all is closed again. */
    int next = dup(file);
    assert_int_equal(close(next), 0);
    io_set_opener(open_from_table, &file);
    assert_false(io_open_dir(file, ".", 0, "it", &dir, &st));
    assert_null(dir);
    assert_int_equal(st.sys_errno, ENOTDIR);
    assert_string_equal(st.detail, "cannot read it: Not a directory");
    assert_int_equal(fcntl(next, F_GETFD), -1);
    io_close(&file);
}

static void opens_directories_but_not_through_links(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    DIR *dir = NULL;
    assert_int_equal(symlinkat(".", f->dir, "link"), 0);
    assert_false(io_open_dir(f->dir, "link", O_NOFOLLOW, "it", &dir, &st));
    assert_true(st.sys_errno == ELOOP || st.sys_errno == ENOTDIR);
    assert_false(io_open_dir(f->dir, "missing", 0, "it", &dir, &st));
    assert_string_equal(st.detail, "cannot open missing: No such file or directory");
    assert_null(dir);
    assert_true(io_open_dir(f->dir, "link", 0, "it", &dir, &st));
    assert_non_null(dir);
    assert_true((fcntl(dirfd(dir), F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(closedir(dir), 0);
}

static void maps_files(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    enum { SIZE = 8192 };
    void *map = NULL;
    void *again = NULL;
    int fd = new_file(f, "a");
    assert_true(io_allocate(fd, 0, SIZE, "a", &st));
    assert_true(io_map(fd, NULL, 0, SIZE, true, "a", &map, &st));
    memcpy(map, "mapped", 6);
    assert_true(io_msync(map, SIZE, "a", &st));
    /* Into a reservation, at the address that was asked for. */
    void *reserved = mmap(NULL, 2 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(reserved != MAP_FAILED);
    assert_true(io_map(fd, (char *)reserved + SIZE, 0, SIZE, false, "a", &again, &st));
    assert_ptr_equal(again, (char *)reserved + SIZE);
    assert_memory_equal(again, "mapped", 6);
    assert_int_equal(munmap(reserved, 2 * SIZE), 0);
    assert_int_equal(munmap(map, SIZE), 0);
    io_close(&fd);
    assert_false(io_map(-1, NULL, 0, SIZE, false, "a", &map, &st));
    assert_int_equal(st.sys_errno, EBADF);
}

struct seen {
    unsigned calls[IO_CALLS];
    char last_path[PATH_MAX];
};

static int count_call(enum io_call call, const char *path, void *ctx) {
    struct seen *seen = (struct seen *)ctx;
    seen->calls[call]++;
    (void)snprintf(seen->last_path, sizeof seen->last_path, "%s", path != NULL ? path : "(none)");
    return 0;
}

/* Every call asks the hook under its own name and with the path of its file, also where only a descriptor is known. */
static void every_call_asks_the_hook(void **state) {
    struct fixture *f = (struct fixture *)*state;
    static struct seen seen;
    struct status st;
    size_t got;
    void *map = NULL;
    char path[PATH_MAX + 8];
    char byte = 'x';
    memset(&seen, 0, sizeof seen);
    (void)snprintf(path, sizeof path, "%s/a", f->path);
    io_set_fault(count_call, &seen);
    int fd = new_file(f, "a");
    assert_string_equal(seen.last_path, path);
    assert_true(io_pwrite_full(fd, &byte, 1, 0, &st));
    assert_string_equal(seen.last_path, path);
    assert_true(io_pread(fd, &byte, 1, 0, &got, &st));
    assert_true(io_fsync(fd, "a", &st));
    assert_true(io_fdatasync(fd, "a", &st));
    assert_string_equal(seen.last_path, path);
    assert_true(io_allocate(fd, 0, 4096, "a", &st));
    assert_true(io_truncate(fd, 4096, "a", &st));
    assert_true(io_map(fd, NULL, 0, 4096, true, "a", &map, &st));
    assert_true(io_msync(map, 4096, "a", &st));
    assert_int_equal(munmap(map, 4096), 0);
    assert_true(io_rename_at(f->dir, "a", f->dir, "b", &st));
    path[strlen(path) - 1] = 'b';
    assert_string_equal(seen.last_path, path);
    assert_true(io_link_at(f->dir, "b", f->dir, "c", &st));
    assert_true(io_unlink_at(f->dir, "b", &st));
    assert_true(io_mkdir_at(f->dir, "d", 0700, &st));
    for (int i = 0; i < IO_CALLS; i++) {
        assert_int_equal(seen.calls[i], i == IO_LIST ? 0 : 1);
    }
    struct entries e = {.dir = f->dir, .most = 9};
    assert_true(io_each_entry(f->dir, "it", take_entry, &e, &st));
    assert_int_equal(seen.calls[IO_LIST], 5); /* "c", "d", ".", ".." and the end */
    io_close(&fd);
}

static void arm(const char *rules) {
    struct status st;
    bool armed = false;
    assert_int_equal(setenv("QUIRE_IO_FAULT", rules, 1), 0);
    assert_true(io_fault_from_environment(&armed, &st));
    assert_true(armed);
}

static void rules_count_and_match(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    int fd = new_file(f, "target");
    int other = new_file(f, "other");
    arm("fdatasync:errno=ENOSPC,after=2,times=2,path=target;rename:errno=EACCES");
    static const bool wanted[] = {true, true, false, false, true, true};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        assert_true(io_fdatasync(other, "other", &st));
        assert_int_equal(io_fdatasync(fd, "target", &st), wanted[i]);
        if (!wanted[i]) {
            assert_int_equal(st.code, STATUS_NO_SPACE);
        }
    }
    for (int i = 0; i < 3; i++) {
        assert_false(io_rename_at(f->dir, "target", f->dir, "x", &st));
        assert_int_equal(st.sys_errno, EACCES);
    }
    io_close(&fd);
    io_close(&other);
}

static void rules_are_switched_by_a_file(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    char rule[PATH_MAX + 64];
    int fd = new_file(f, "a");
    (void)snprintf(rule, sizeof rule, "fdatasync:errno=EIO,file=%s/switch", f->path);
    arm(rule);
    assert_true(io_fdatasync(fd, "a", &st));
    int on = new_file(f, "switch");
    assert_false(io_fdatasync(fd, "a", &st));
    assert_true(io_unlink_at(f->dir, "switch", &st));
    assert_true(io_fdatasync(fd, "a", &st));
    io_close(&on);
    io_close(&fd);
}

static void rules_delay(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    int fd = new_file(f, "a");
    arm("fsync:delay=30,times=1;fsync:errno=EIO,after=1");
    int64_t start = clock_monotonic_us();
    assert_true(io_fsync(fd, "a", &st));
    assert_true(clock_monotonic_us() - start >= 30000);
    assert_false(io_fsync(fd, "a", &st));
    io_close(&fd);
}

static void rules_kill(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    int how = 0;
    int fd = new_file(f, "a");
    arm("truncate:kill,after=1");
    pid_t child = fork();
    if (child == 0) {
        bool first = io_truncate(fd, 10, "a", &st);
        bool second = io_truncate(fd, 20, "a", &st);
        _exit(first || second);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how));
    assert_int_equal(WTERMSIG(how), SIGKILL);
    off_t size;
    assert_true(io_size(fd, &size, &st));
    assert_int_equal(size, 10); /* killed before the call, not after it */
    io_close(&fd);
}

/* A campaign learns from the notes which calls there are to be hit. */
static void rules_note_any_call(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    struct buf notes = {0};
    char text[3 * (PATH_MAX + 64)];
    int fd = new_file(f, "a");
    (void)snprintf(text, sizeof text, "any:note=%s/notes,path=%s/a;any:errno=EACCES,after=2,path=/a", f->path, f->path);
    arm(text);
    assert_true(io_truncate(fd, 10, "a", &st));
    assert_true(io_fsync(fd, "a", &st));
    assert_false(io_fdatasync(fd, "a", &st));
    assert_int_equal(st.sys_errno, EACCES);
    io_set_fault(NULL, NULL);
    assert_true(io_read_file(f->dir, "notes", sizeof text, &notes, &st));
    (void)snprintf(text, sizeof text, "%ld truncate %s/a\n%ld fsync %s/a\n%ld fdatasync %s/a\n", (long)getpid(), f->path, (long)getpid(), f->path,
                   (long)getpid(), f->path);
    assert_int_equal(notes.len, strlen(text));
    assert_memory_equal(notes.data, text, notes.len);
    buf_fini(&notes);
    io_close(&fd);
}

static void wrong_rules_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"fsync",
                                      "fsync:",
                                      "sync:errno=EIO",
                                      "fsync:errno=",
                                      "fsync:errno=EWHAT",
                                      "fsync:errno=5",
                                      "fsync:kill=1",
                                      "fsync:note=",
                                      "any",
                                      "fsync:delay=",
                                      "fsync:delay=x",
                                      "fsync:delay=99999999999999999999",
                                      "fsync:errno=EIO,after",
                                      "fsync:errno=EIO,after=-1",
                                      "fsync:errno=EIO,sometimes=1",
                                      "fsync:errno=EIO,path=",
                                      "fsync:kill;fsync",
                                      "fsync:errno=EIO ,after=1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct status st;
        bool armed = true;
        assert_int_equal(setenv("QUIRE_IO_FAULT", bad[i], 1), 0);
        assert_false(io_fault_from_environment(&armed, &st));
        assert_int_equal(st.code, STATUS_CONFIG);
    }
    struct status st;
    bool armed = true;
    assert_int_equal(setenv("QUIRE_IO_FAULT", "", 1), 0);
    assert_true(io_fault_from_environment(&armed, &st));
    assert_false(armed);
    assert_int_equal(unsetenv("QUIRE_IO_FAULT"), 0);
    armed = true;
    assert_true(io_fault_from_environment(&armed, &st));
    assert_false(armed);
}

struct script {
    enum io_call call;
    const int *answers;
    size_t count;
    size_t asked;
};

static int answer_by_script(enum io_call call, const char *path, void *ctx) {
    struct script *s = (struct script *)ctx;
    (void)path;
    if (call != s->call) {
        return 0;
    }
    return s->asked < s->count ? s->answers[s->asked++] : 0;
}

/* Short transfers are continued and interrupted ones made again; an error behind a short one is an error. */
static void short_and_interrupted_calls(void **state) {
    struct fixture *f = (struct fixture *)*state;
    static const int healing[] = {EINTR, -1, EINTR, EINTR, -3, -2};
    static const int failing[] = {-2, ENOSPC};
    static const enum io_call restarted[] = {IO_FSYNC, IO_FDATASYNC, IO_TRUNCATE, IO_FALLOCATE};
    struct script s = {.call = IO_WRITE, .answers = healing, .count = sizeof healing / sizeof healing[0]};
    struct status st;
    char back[11] = "";
    int fd = new_file(f, "a");
    io_set_fault(answer_by_script, &s);
    assert_true(io_pwrite_full(fd, "0123456789", 10, 0, &st));
    assert_int_equal(s.asked, s.count);
    s = (struct script){.call = IO_READ, .answers = healing, .count = s.count};
    assert_true(io_pread_full(fd, back, 10, 0, &st));
    assert_int_equal(s.asked, s.count);
    assert_string_equal(back, "0123456789");
    s = (struct script){.call = IO_WRITE, .answers = failing, .count = 2};
    assert_false(io_pwrite_full(fd, "abcdef", 6, 0, &st));
    assert_int_equal(st.code, STATUS_NO_SPACE);
    for (size_t i = 0; i < sizeof restarted / sizeof restarted[0]; i++) {
        s = (struct script){.call = restarted[i], .answers = healing, .count = 1};
        assert_true(io_fsync(fd, "a", &st) && io_fdatasync(fd, "a", &st) && io_truncate(fd, 8, "a", &st) &&
                    io_allocate(fd, 0, 8, "a", &st));
        assert_int_equal(s.asked, 1);
    }
    io_set_fault(NULL, NULL);
    io_close(&fd);
    assert_content(f, "a", "ab234567");
}

struct watched {
    unsigned before[IO_CALLS];
    unsigned after[IO_CALLS];
    struct io_event last;
    int last_error;
};

static void watch_call(const struct io_event *e, enum io_moment moment, int error, void *ctx) {
    struct watched *w = (struct watched *)ctx;
    if (moment == IO_BEFORE) {
        w->before[e->call]++;
    } else {
        w->after[e->call]++;
        w->last = *e;
        w->last_error = error;
    }
}

/* The watch sees what was written, where, and what became of it; of what the fault hook stops it sees nothing. */
static void the_watch_sees_every_call(void **state) {
    struct fixture *f = (struct fixture *)*state;
    static struct watched w;
    struct status st;
    enum io_call stopped = IO_FSYNC;
    memset(&w, 0, sizeof w);
    io_set_watch(watch_call, &w);
    int fd = new_file(f, "a");
    assert_int_equal(w.last.opened, fd);
    assert_string_equal(w.last.path, "a");
    assert_true(io_pwrite_full(fd, "abc", 3, 5, &st));
    assert_int_equal(w.last.fd, fd);
    assert_int_equal(w.last.len, 3);
    assert_int_equal(w.last.at, 5);
    assert_memory_equal(w.last.data, "abc", 3);
    assert_true(io_rename_at(f->dir, "a", f->dir, "b", &st));
    assert_string_equal(w.last.from, "a");
    assert_string_equal(w.last.path, "b");
    assert_true(io_unlink_at(f->dir, "a", &st));
    assert_int_equal(w.last_error, ENOENT);
    io_set_fault(fail_call, &stopped);
    assert_false(io_fsync(fd, "b", &st));
    io_set_fault(NULL, NULL);
    assert_int_equal(w.before[IO_FSYNC], 0);
    assert_true(io_fsync(fd, "b", &st));
    io_set_watch(NULL, NULL);
    assert_true(io_fsync(fd, "b", &st));
    assert_int_equal(w.before[IO_FSYNC], 1);
    assert_int_equal(w.after[IO_FSYNC], 1);
    io_close(&fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opens_with_cloexec_and_names_what_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reads_and_writes_at_offsets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reads_whole_files_up_to_a_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(replaces_files_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failed_replacement_leaves_the_old_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(makes_renames_and_removes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(removes_trees_but_not_through_links, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lists_directories, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_listing_is_opened_through_the_seam, set_up, tear_down),
        cmocka_unit_test_setup_teardown(opens_directories_but_not_through_links, set_up, tear_down),
        cmocka_unit_test_setup_teardown(maps_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_call_asks_the_hook, set_up, tear_down),
        cmocka_unit_test_setup_teardown(short_and_interrupted_calls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_watch_sees_every_call, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rules_count_and_match, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rules_are_switched_by_a_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rules_delay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rules_kill, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rules_note_any_call, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_rules_are_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("base io", tests, NULL, NULL);
}
