/*
 * test_shm_control.c - the control segment: inherited through fork and exec, refused when it is not ours, safe when scribbled
 * over.
 *
 * Run with the argument "worker" this program is the worker: it maps descriptor WORKER_FD and does what a worker does.
 */
#include "base/io.h"
#include "shm/atomics.h"
#include "shm/control.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { WORKERS = 3, ENTRY_SIZE = 104, CAPACITY = 50, FIGURES = 5000, WORKER_FD = 9, WORKER_SLOT = 2 };

static struct control *make(int *ret_fd) {
    struct status st;
    struct control *c = NULL;
    if (!control_create(WORKERS, ENTRY_SIZE, CAPACITY, FIGURES, ret_fd, &c, &st)) {
        print_error("%s\n", st.detail);
    }
    assert_non_null(c);
    return c;
}

static void test_create(void **state) {
    (void)state;
    int fd = -1;
    struct control *c = make(&fd);
    const uint8_t *begin = (const uint8_t *)c;
    assert_int_equal(c->magic, CONTROL_MAGIC);
    assert_int_equal(c->format, CONTROL_FORMAT);
    assert_int_equal(c->workers, WORKERS);
    assert_int_equal(c->lock.readers, WORKERS);
    assert_int_equal(c->ready, 0);
    assert_int_equal(c->published_lsn, 0);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal((uintptr_t)c % RWLOCK_CACHE_LINE, 0);
    assert_int_equal((uintptr_t)&c->worker[1] % RWLOCK_CACHE_LINE, 0);

    /* Directory and figures lie behind the struct, do not overlap, hold zeros and end inside the segment. */
    const uint8_t *end_of_directory = begin + sizeof *c;
    for (uint32_t i = 0; i < CAPACITY; i++) {
        const uint8_t *entry = control_directory_entry(c, i);
        assert_ptr_equal(entry, end_of_directory);
        end_of_directory = entry + ENTRY_SIZE;
    }
    const uint8_t *figures = control_figures(c);
    assert_true(figures >= end_of_directory);
    assert_true(figures + FIGURES <= begin + c->segment_bytes);
    for (const uint8_t *at = begin + sizeof *c; at < begin + c->segment_bytes; at++) {
        assert_int_equal(*at, 0);
    }
    control_unmap(c);
    (void)close(fd);
    control_unmap(NULL);
}

static void test_create_refuses(void **state) {
    (void)state;
    int fd = -1;
    struct control *c = NULL;
    struct status st;
    assert_false(control_create(0, ENTRY_SIZE, CAPACITY, FIGURES, &fd, &c, &st));
    assert_int_equal(st.code, STATUS_INVALID);
    assert_false(control_create(CONTROL_MAX_WORKERS + 1, ENTRY_SIZE, CAPACITY, FIGURES, &fd, &c, &st));
    assert_false(control_create(WORKERS, ENTRY_SIZE + 1, CAPACITY, FIGURES, &fd, &c, &st));
    assert_false(control_create(WORKERS, UINT32_MAX - 7, UINT32_MAX, FIGURES, &fd, &c, &st));
    assert_false(control_create(WORKERS, ENTRY_SIZE, CAPACITY, UINT64_MAX, &fd, &c, &st));
    assert_int_equal(st.code, STATUS_INVALID);
    assert_int_equal(fd, -1);
    assert_null(c);
    assert_true(control_create(CONTROL_MAX_WORKERS, 0, 0, 0, &fd, &c, &st));
    control_unmap(c);
    (void)close(fd);
}

static int fail_allocation(enum io_call call, const char *path, void *ctx) {
    (void)path;
    return call == *(const enum io_call *)ctx ? ENOSPC : 0;
}

static void test_create_fails_whole(void **state) {
    (void)state;
    enum io_call failing[] = {IO_FALLOCATE, IO_TRUNCATE, IO_MMAP};
    for (size_t i = 0; i < sizeof failing / sizeof failing[0]; i++) {
        int fd = -1;
        struct control *c = NULL;
        struct status st;
        io_set_fault(fail_allocation, &failing[i]);
        bool made = control_create(WORKERS, ENTRY_SIZE, CAPACITY, FIGURES, &fd, &c, &st);
        io_set_fault(NULL, NULL);
        assert_false(made);
        assert_int_equal(st.code, STATUS_NO_SPACE);
        assert_int_equal(fd, -1);
        assert_null(c);
    }
}

/* --- the worker's side ------------------------------------------------------------------------------------------------ */

/* Returns an exit status: 0, or the number of the check that failed. */
static int be_worker(void) {
    struct status st;
    struct control *c = NULL;
    if (!control_map(WORKER_FD, &c, &st)) {
        return 1;
    }
    (void)close(WORKER_FD);
    const uint32_t *entry = control_directory_entry(c, CAPACITY - 1);
    const char *figures = control_figures(c);
    rwlock_read_lock(&c->lock, WORKER_SLOT);
    bool seen = c->published_lsn == 77 && c->directory_count == CAPACITY && *entry == 4711 && strcmp(figures, "figures") == 0;
    rwlock_read_unlock(&c->lock, WORKER_SLOT);
    count_relaxed_u64(&c->worker[WORKER_SLOT].requests[1][0], 5);
    control_histogram_time(&c->worker[WORKER_SLOT].request_time[0], 100);
    control_unmap(c);
    return seen ? 0 : 2;
}

/* This program again, as a worker that inherits `fd`. Returns its wait status. */
static int run_worker(int fd) {
    char self[4096] = {0};
    int how = 0;
    assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {self, (char[]){"worker"}, NULL};
        /* dup2 leaves the copy without O_CLOEXEC. */
        if (dup2(fd, WORKER_FD) == WORKER_FD) {
            (void)execv(self, argv);
        }
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &how, 0), pid);
    return how;
}

static void test_inherited(void **state) {
    (void)state;
    int fd = -1;
    struct control *c = make(&fd);
    rwlock_write_lock(&c->lock, 1, NULL, NULL);
    c->published_lsn = 77;
    c->directory_count = CAPACITY;
    *(uint32_t *)control_directory_entry(c, CAPACITY - 1) = 4711;
    (void)strcpy(control_figures(c), "figures");
    rwlock_write_unlock(&c->lock);
    int how = run_worker(fd);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
    assert_int_equal(c->worker[WORKER_SLOT].requests[1][0], 5);
    assert_int_equal(c->worker[WORKER_SLOT].request_time[0].bucket[0], 1);
    assert_int_equal(c->lock.reader[WORKER_SLOT].word, 0);
    control_unmap(c);
    (void)close(fd);
}

/* A memory file with these bytes; `seals` 0 for none. */
static int foreign(const void *bytes, size_t len, off_t size, int seals) {
    int fd = memfd_create("foreign", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, size), 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    assert_true(seals == 0 || fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

static void check_refused(int fd) {
    struct status st;
    struct control *c = NULL;
    assert_false(control_map(fd, &c, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    assert_null(c);
    (void)close(fd);
}

static void test_map_refuses_foreign(void **state) {
    (void)state;
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    int fd = -1;
    struct control *good = make(&fd);
    const size_t size = (size_t)good->segment_bytes;
    struct control *same = NULL;
    struct status st;

    int copy = foreign(good, size, (off_t)size, seals);
    assert_true(control_map(copy, &same, &st)); /* so it is the change that is refused below, not the copy */
    control_unmap(same);
    (void)close(copy);

    check_refused(foreign(good, size, (off_t)size, 0));
    check_refused(foreign(good, size, (off_t)size, F_SEAL_GROW));
    check_refused(foreign(good, 0, 0, seals));
    check_refused(foreign(good, 100, 100, seals));
    check_refused(foreign(good, sizeof *good, sizeof *good, seals));
    check_refused(foreign(good, size - 4096, (off_t)size - 4096, seals));
    check_refused(foreign(good, size, (off_t)size + 4096, seals));
    check_refused(foreign("", 1, (off_t)size, seals));
    check_refused(open("/dev/zero", O_RDWR | O_CLOEXEC));
    check_refused(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    check_refused(-1);
    control_unmap(good);
    (void)close(fd);
}

static void test_map_refuses_changed_header(void **state) {
    (void)state;
    const size_t header = offsetof(struct control, published_lsn);
    const size_t padding = offsetof(struct control, directory_offset) - offsetof(struct control, directory_capacity);
    assert_int_equal(padding, sizeof(uint32_t)); /* every byte of the header means something */
    int fd = -1;
    struct control *c = make(&fd);
    uint8_t *bytes = (uint8_t *)c;
    unsigned refused = 0;
    for (size_t i = 0; i < header; i++) {
        struct status st;
        struct control *mapped = NULL;
        uint8_t before = bytes[i];
        bytes[i] = (uint8_t)(before ^ 0x40);
        bool taken = control_map(fd, &mapped, &st);
        bytes[i] = before;
        control_unmap(mapped);
        /* Another number of workers could be, and so could a few more figures in the same page. All else hangs together. */
        bool harmless = i == offsetof(struct control, workers) || i == offsetof(struct control, figures_size);
        assert_true(taken == harmless && (taken || st.code == STATUS_CORRUPT));
        refused += taken ? 0 : 1;
    }
    assert_int_equal(refused, header - 2);
    control_unmap(c);
    (void)close(fd);
}

static void test_sealed(void **state) {
    (void)state;
    int fd = -1;
    struct control *c = make(&fd);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fd, (off_t)c->segment_bytes * 2), -1);
    assert_int_equal(c->magic, CONTROL_MAGIC);
    control_unmap(c);
    (void)close(fd);
}

static void test_scribbled_header_is_not_followed(void **state) {
    (void)state;
    int fd = -1;
    struct control *c = make(&fd);
    void *entry = control_directory_entry(c, 7);
    void *figures = control_figures(c);
    uint8_t *bytes = (uint8_t *)c;
    struct control *worker = NULL;
    struct status st;
    assert_true(control_map(fd, &worker, &st));
    memset(worker, 0xff, sizeof *worker);
    assert_int_equal(bytes[0], 0xff);
    assert_ptr_equal(control_directory_entry(c, 7), entry);
    assert_ptr_equal(control_figures(c), figures);
    control_unmap(worker);
    control_unmap(c); /* by the length that was mapped */
    (void)close(fd);
}

static void test_histogram(void **state) {
    (void)state;
    const struct {
        int64_t ns;
        unsigned bucket;
    } times[] = {{-5, 0},          {0, 0},          {100000, 0},      {100001, 1},         {200000, 1},
                 {200001, 2},      {1000000, 3},    {10000000, 6},    {10000000000, 15},   {10000000001, 16},
                 {INT64_MAX / 2, 16}};
    const struct {
        uint64_t size;
        unsigned bucket;
    } sizes[] = {{0, 0}, {1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {32768, 15}, {32769, 16}};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        struct control_histogram h = {0};
        control_histogram_time(&h, times[i].ns);
        assert_int_equal(h.sum, times[i].ns > 0 ? times[i].ns : 0);
        assert_int_equal(h.bucket[times[i].bucket], 1);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct control_histogram h = {0};
        control_histogram_size(&h, sizes[i].size);
        assert_int_equal(h.sum, sizes[i].size);
        assert_int_equal(h.bucket[sizes[i].bucket], 1);
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "worker") == 0) {
        return be_worker();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_create_refuses),
        cmocka_unit_test(test_create_fails_whole),
        cmocka_unit_test(test_inherited),
        cmocka_unit_test(test_map_refuses_foreign),
        cmocka_unit_test(test_map_refuses_changed_header),
        cmocka_unit_test(test_sealed),
        cmocka_unit_test(test_scribbled_header_is_not_followed),
        cmocka_unit_test(test_histogram),
    };
    return cmocka_run_group_tests_name("shm_control", tests, NULL, NULL);
}
