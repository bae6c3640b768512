/* test_durable_restore.c - the parent of a restore, with a liar in the place of the child that reads: none of its words changes anything but what they say. */
#include "store_fixture.h"

#include "durable_fixture.h"

#include "durable/restore_internal.h"
#include "store/op_group.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINES_MAX = 8, LINE_MAX_BYTES = 600 };

/* --- the liar: takes the place of restore_reader.c --- */

static struct buf script; /* what the child says */
static int ends_by;       /* a signal; 0: by itself */
static bool stays;        /* it closes the pipe, and does not end */

bool restore_reader_start(const struct restore_source *source, const struct restore_target *target, pid_t *ret_pid, int *ret_pipe, struct status *st) {
    int ends[2];
    (void)source;
    (void)target;
    (void)st;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        for (size_t at = 0; at < script.len;) {
            ssize_t n = write(ends[1], script.data + at, script.len - at);
            if (n <= 0) {
                _exit(1);
            }
            at += (size_t)n;
        }
        if (ends_by != 0) {
            (void)signal(ends_by, SIG_DFL); /* cmocka has a handler */
            (void)raise(ends_by);
        }
        (void)close(ends[0]);
        (void)close(ends[1]);
        while (stays) {
            (void)pause();
        }
        _exit(0);
    }
    io_close(&ends[1]);
    *ret_pid = pid;
    *ret_pipe = ends[0];
    return true;
}

static void say_raw(uint32_t kind, uint32_t length, uint64_t count, struct slice payload) {
    struct restore_frame frame = {.kind = kind, .length = length, .lsn = 5, .time_us = 1700000000000000, .count = count};
    buf_put(&script, &frame, sizeof frame);
    buf_put_slice(&script, payload);
}

static void say(uint32_t kind, uint64_t count, struct slice payload) {
    say_raw(kind, (uint32_t)payload.len, count, payload);
}

static void say_op(struct buf *op) {
    say(FRAME_RECORD, 0, buf_slice(op));
    buf_fini(op);
}

static void say_library(unsigned number) {
    struct uuid id = fixture_library_id(number);
    struct buf op = {0};
    fixture_library_op(&op, OP_LIBRARY_CREATE, &id, INDEX_FLAT, "test");
    say_op(&op);
}

static void say_document(unsigned library, const char *document) {
    struct uuid id = fixture_library_id(library);
    struct buf op = {0};
    fixture_put_op(&op, &id, PUT_CREATE, document, 2, "text");
    say_op(&op);
}

/* --- the directories --- */

struct place {
    struct scratch dir;
    char source[300];
    char into[300];
    char lines[LINES_MAX][LINE_MAX_BYTES];
    size_t line_count;
};

static int set_up(void **state) {
    struct place *p = (struct place *)calloc(1, sizeof *p);
    scratch_make(&p->dir);
    (void)snprintf(p->source, sizeof p->source, "%s/source", p->dir.path);
    (void)snprintf(p->into, sizeof p->into, "%s/into", p->dir.path);
    assert_int_equal(mkdir(p->source, 0700), 0);
    file_write(p->dir.fd, "source/snapshot_20260101_000000.tar.zst", slice_str("nobody reads it"));
    buf_reset(&script);
    ends_by = 0;
    stays = false;
    *state = p;
    return 0;
}

static int tear_down(void **state) {
    struct place *p = (struct place *)*state;
    scratch_remove(&p->dir);
    free(p);
    buf_fini(&script);
    return 0;
}

static void keep_line(void *ctx, const char *line) {
    struct place *p = (struct place *)ctx;
    if (p->line_count < LINES_MAX) {
        (void)snprintf(p->lines[p->line_count++], LINE_MAX_BYTES, "%s", line);
    }
}

static bool run(struct place *p, struct restore_report *ret, struct status *st) {
    struct restore_options options = {.source = p->source, .into = p->into, .to_time_us = INT64_MAX, .tell = keep_line, .ctx = p};
    return restore_run(&options, ret, st);
}

static bool is_clean(const char *text) {
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~') {
            return false;
        }
    }
    return true;
}

/* Refused, with clean words, and nothing is left. */
static void expect_refused(struct place *p, enum status_code code, const char *what) {
    struct restore_report report = {0};
    struct status st = {0};
    char names[8][64];
    assert_false(run(p, &report, &st));
    if (st.code != code || strstr(st.detail, what) == NULL || !is_clean(st.detail)) {
        fail_msg("%s: %s", status_code_name(st.code), st.detail);
    }
    int fd = open(p->into, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(names_with(fd, "", names, 8), 3); /* with "." and ".." */
    assert_true(file_exists(fd, "LOCK"));
    io_close(&fd);
}

static void an_honest_one(void **state) {
    struct place *p = (struct place *)*state;
    struct restore_report report = {0};
    struct status st = {0};
    say(FRAME_BASE, 1, slice_str("some\x1b[2Jarchive"));
    say_library(1);
    say_document(1, "a");
    say_document(1, "b");
    say(FRAME_NOTE, 0, slice_str("a \x07note\n"));
    say(FRAME_DONE, 3, slice_str(""));
    if (!run(p, &report, &st)) {
        fail_msg("%s", st.detail);
    }
    assert_int_equal(report.libraries, 1);
    assert_int_equal(report.documents, 2);
    assert_int_equal(report.chunks, 4);
    assert_int_equal(report.lsn, 5);
    assert_string_equal(report.base, "some?[2Jarchive");
    assert_int_equal(p->line_count, 1);
    assert_string_equal(p->lines[0], "a ?note?");
}

static void groups_stay_whole(void **state) {
    struct place *p = (struct place *)*state;
    struct restore_report report = {0};
    struct status st = {0};
    struct uuid id = fixture_library_id(1);
    struct buf group = {0};
    say_library(1);
    op_group_begin(&group, slice_str(""), 2);
    for (unsigned i = 0; i < 2; i++) {
        struct buf op = {0};
        fixture_put_op(&op, &id, PUT_CREATE, i == 0 ? "a" : "b", 1, "text");
        op_group_add(&group, buf_slice(&op));
        buf_fini(&op);
    }
    say_op(&group);
    say(FRAME_DONE, 2, slice_str(""));
    if (!run(p, &report, &st)) {
        fail_msg("%s", st.detail);
    }
    assert_int_equal(report.documents, 2);
    char path[400];
    struct scratch wal = {.fd = -1};
    (void)snprintf(path, sizeof path, "%s/wal", p->into);
    wal.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct wal_options options = {.dir_fd = wal.fd, .segment_bytes = 1 << 20, .max_record_bytes = 1 << 20};
    struct wal_report log = {0};
    oplog_close(log_open_ok(&options, &log));
    assert_int_equal(log.records, 2); /* the library, and the group */
    io_close(&wal.fd);
}

static void a_count_that_is_wrong(void **state) {
    struct place *p = (struct place *)*state;
    say_library(1);
    say(FRAME_DONE, 2, slice_str(""));
    expect_refused(p, STATUS_INTERNAL, "sent 2 operations, 1 came");
}

static void no_end(void **state) {
    struct place *p = (struct place *)*state;
    say_library(1);
    expect_refused(p, STATUS_INTERNAL, "ended early");
}

static void no_end_and_it_stays(void **state) {
    struct place *p = (struct place *)*state;
    say_library(1);
    stays = true;
    expect_refused(p, STATUS_CORRUPT, "ended by signal 9");
}

static void it_stays_behind_its_end(void **state) {
    struct place *p = (struct place *)*state;
    struct restore_report report = {0};
    struct status st = {0};
    say_library(1);
    say(FRAME_DONE, 1, slice_str(""));
    say_library(2);
    stays = true;
    assert_true(run(p, &report, &st));
    assert_int_equal(report.libraries, 1);
}

static void signals(void **state) {
    struct place *p = (struct place *)*state;
    say_library(1);
    ends_by = SIGSEGV;
    expect_refused(p, STATUS_CORRUPT, "ended by signal 11");
    ends_by = SIGXCPU;
    expect_refused(p, STATUS_TOO_LARGE, "takes longer than any archive");
}

static void frames_that_are_none(void **state) {
    struct place *p = (struct place *)*state;
    uint8_t noise[100];
    memset(noise, 0xff, sizeof noise);
    buf_put(&script, noise, 20);
    expect_refused(p, STATUS_INTERNAL, "ended early");
    buf_reset(&script);
    buf_put(&script, noise, sizeof noise);
    expect_refused(p, STATUS_TOO_LARGE, "more than any operation has");
    buf_reset(&script);
    say(99, 0, slice_str("x"));
    expect_refused(p, STATUS_INTERNAL, "nobody understands");
    buf_reset(&script);
    say_raw(FRAME_RECORD, UINT32_MAX, 0, slice_str("x"));
    expect_refused(p, STATUS_TOO_LARGE, "more than any operation has");
    buf_reset(&script);
    say_raw(FRAME_RECORD, 1U << 30, 0, slice_str("x"));
    expect_refused(p, STATUS_INTERNAL, "in the middle of a frame");
}

static void ops_that_are_none(void **state) {
    struct place *p = (struct place *)*state;
    static const char *const bad[] = {"", "x", "\x04\x01", "\x08\x01", "\xff\x01 and more of it, so that there is a header"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        buf_reset(&script);
        say(FRAME_RECORD, 0, slice_str(bad[i]));
        say(FRAME_DONE, 1, slice_str(""));
        expect_refused(p, STATUS_MALFORMED, "");
    }
}

static void ops_that_contradict_each_other(void **state) {
    struct place *p = (struct place *)*state;
    say_document(1, "a");
    expect_refused(p, STATUS_CORRUPT, "there is no such library");
    buf_reset(&script);
    say_library(1);
    say_library(1);
    expect_refused(p, STATUS_CORRUPT, "its id is taken");
    buf_reset(&script);
    say_library(1);
    say_document(1, "a");
    say_document(1, "a");
    expect_refused(p, STATUS_CORRUPT, "the document's id is taken");
}

static void a_failure_that_it_tells(void **state) {
    struct place *p = (struct place *)*state;
    say(FRAME_FAILED, STATUS_TOO_LARGE, slice_str("too \x1b[31mlarge\n"));
    expect_refused(p, STATUS_TOO_LARGE, "too ?[31mlarge?");
    buf_reset(&script);
    say(FRAME_FAILED, STATUS_OK, slice_str("fine"));
    expect_refused(p, STATUS_INTERNAL, "fine");
    buf_reset(&script);
    say(FRAME_FAILED, UINT64_MAX, slice_str("x"));
    expect_refused(p, STATUS_INTERNAL, "x");
}

static void nothing_at_all(void **state) {
    struct place *p = (struct place *)*state;
    say_raw(FRAME_DONE, 0, 0, slice_str(""));
    struct restore_frame *frame = (struct restore_frame *)(void *)script.data;
    frame->lsn = 0;
    expect_refused(p, STATUS_INVALID, "nothing was there yet");
}

static void more_than_is_allowed(void **state) {
    struct place *p = (struct place *)*state;
    struct restore_report report = {0};
    struct status st = {0};
    struct restore_options options = {.source = p->source, .into = p->into, .to_time_us = INT64_MAX, .max_bytes = 2000};
    char document[32];
    say_library(1);
    for (unsigned i = 0; i < 100; i++) {
        (void)snprintf(document, sizeof document, "d%u", i);
        say_document(1, document);
    }
    say(FRAME_DONE, 101, slice_str(""));
    assert_false(restore_run(&options, &report, &st));
    assert_int_equal(st.code, STATUS_TOO_LARGE);
    assert_non_null(strstr(st.detail, "more than 2000 bytes"));
}

/* What is there stays as it is when the restore fails. */
static void the_old_state_stays(void **state) {
    struct place *p = (struct place *)*state;
    struct restore_report report = {0};
    struct status st = {0};
    say_library(1);
    say(FRAME_DONE, 1, slice_str(""));
    assert_true(run(p, &report, &st));
    assert_string_equal(report.replaced_as, "");
    file_write(p->dir.fd, "into/vectors/mark", slice_str("old"));
    buf_reset(&script);
    say_library(2);
    assert_false(run(p, &report, &st));
    assert_true(file_exists(p->dir.fd, "into/vectors/mark"));
    say(FRAME_DONE, 1, slice_str(""));
    assert_true(run(p, &report, &st));
    assert_string_not_equal(report.replaced_as, "");
    assert_false(file_exists(p->dir.fd, "into/vectors/mark"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_honest_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(groups_stay_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_count_that_is_wrong, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_end_and_it_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_stays_behind_its_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(signals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(frames_that_are_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ops_that_are_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ops_that_contradict_each_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failure_that_it_tells, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_at_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_than_is_allowed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_old_state_stays, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
