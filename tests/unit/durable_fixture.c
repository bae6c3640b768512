/* durable_fixture.c - see durable_fixture.h. */
#include "durable_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

void scratch_make(struct scratch *s) {
    /* These tests sync thousands of times; memory, where the caller names no place, makes that quick. */
    const char *base = getenv("TMPDIR");
    const char *preset = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(s->path, sizeof s->path, "%s/quire-test-XXXXXX", base != NULL && base[0] != '\0' ? base : preset);
    assert_non_null(mkdtemp(s->path));
    s->fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(s->fd >= 0);
}

void scratch_remove(struct scratch *s) {
    struct status st;
    io_close(&s->fd);
    assert_true(io_remove_tree(AT_FDCWD, s->path, &st));
}

void file_read(int dir_fd, const char *name, struct buf *out) {
    struct status st;
    if (!io_read_file(dir_fd, name, (size_t)1 << 30, out, &st)) {
        fail_msg("%s", st.detail);
    }
}

void file_write(int dir_fd, const char *name, struct slice content) {
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (size_t at = 0; at < content.len;) {
        ssize_t n = write(fd, content.data + at, content.len - at);
        assert_true(n > 0);
        at += (size_t)n;
    }
    assert_int_equal(close(fd), 0);
}

void file_flip(int dir_fd, const char *name, size_t at, uint8_t bits) {
    int fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC);
    uint8_t byte = 0;
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= bits;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    assert_int_equal(close(fd), 0);
}

void file_copy(int from_dir, const char *from, int to_dir, const char *to) {
    struct buf content = {0};
    file_read(from_dir, from, &content);
    file_write(to_dir, to, buf_slice(&content));
    buf_fini(&content);
}

bool file_exists(int dir_fd, const char *name) {
    return faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int by_text(const void *a, const void *b) {
    return strcmp((const char *)a, (const char *)b);
}

size_t names_with(int dir_fd, const char *prefix, char (*out)[64], size_t max) {
    size_t count = 0;
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fdopendir(fd);
    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strncmp(e->d_name, prefix, strlen(prefix)) == 0 && strlen(e->d_name) < sizeof out[0] && count < max) {
            memcpy(out[count++], e->d_name, strlen(e->d_name) + 1);
        }
    }
    (void)closedir(dir);
    qsort(out, count, sizeof out[0], by_text);
    return count;
}

/* --- faults --- */

static pthread_mutex_t fault_mutex = PTHREAD_MUTEX_INITIALIZER;

static int fault_hook(enum io_call call, const char *path, void *ctx) {
    struct fault_plan *plan = (struct fault_plan *)ctx;
    int err = 0;
    if ((plan->calls & FAULT_BIT(call)) == 0 || (plan->path != NULL && (path == NULL || strstr(path, plan->path) == NULL))) {
        return 0;
    }
    (void)pthread_mutex_lock(&fault_mutex);
    uint64_t number = plan->seen++;
    if (number >= plan->after && number - plan->after < plan->times) {
        if (plan->error == 0) {
            (void)raise(SIGKILL);
        }
        plan->failed++;
        plan->failed_syncs += call == IO_FDATASYNC || call == IO_FSYNC ? 1 : 0;
        err = plan->error;
    }
    (void)pthread_mutex_unlock(&fault_mutex);
    return err;
}

void fault_arm(struct fault_plan *plan) {
    io_set_fault(fault_hook, plan);
}

void fault_disarm(void) {
    io_set_fault(NULL, NULL);
}

/* --- a log --- */

size_t log_text(uint64_t lsn, uint32_t attempt, char out[LOG_TEXT_MAX]) {
    int len = snprintf(out, LOG_TEXT_MAX, "\x04record %llu attempt %u ", (unsigned long long)lsn, attempt);
    size_t whole = (size_t)len + (size_t)(lsn * 7919 % 97);
    for (size_t i = (size_t)len; i < whole; i++) {
        out[i] = (char)(lsn * 31 + i * 17);
    }
    return whole;
}

struct wal_options log_options(const struct scratch *s) {
    return (struct wal_options){.dir_fd = s->fd, .segment_bytes = 8192, .max_record_bytes = 1 << 20};
}

struct oplog *log_open_ok(const struct wal_options *o, struct wal_report *report) {
    struct oplog *log = NULL;
    struct status st = {0};
    if (!wal_open(o, &log, report, &st)) {
        fail_msg("wal_open: %s", st.detail);
    }
    return log;
}

bool log_put(struct oplog *log, uint64_t first, size_t count, uint32_t attempt, struct status *st) {
    enum { BATCH_MAX = 64 };
    static char texts[BATCH_MAX][LOG_TEXT_MAX];
    struct oplog_record records[BATCH_MAX];
    assert_true(count <= BATCH_MAX);
    for (size_t i = 0; i < count; i++) {
        size_t len = log_text(first + i, attempt, texts[i]);
        records[i] = (struct oplog_record){
            .lsn = first + i, .time_us = 1700000000000000 + (int64_t)(first + i), .op = slice_of(texts[i], len)};
    }
    return oplog_append(log, records, count, st);
}

struct checking {
    uint64_t next;
    const uint32_t *attempts;
};

static bool check_record(const struct oplog_record *record, void *ctx, struct status *st) {
    struct checking *c = (struct checking *)ctx;
    char text[LOG_TEXT_MAX];
    size_t len = log_text(record->lsn, c->attempts != NULL ? c->attempts[record->lsn] : 0, text);
    (void)st;
    assert_int_equal(record->lsn, c->next);
    assert_int_equal(record->time_us, 1700000000000000 + (int64_t)record->lsn);
    assert_true(slice_equal(record->op, slice_of(text, len)));
    c->next++;
    return true;
}

uint64_t log_check(struct oplog *log, uint64_t from, const uint32_t *attempts) {
    struct checking c = {.next = from, .attempts = attempts};
    struct status st = {0};
    if (!oplog_read_from(log, from, check_record, &c, &st)) {
        fail_msg("read_from: %s", st.detail);
    }
    return c.next - 1;
}
