/* test_durable_formats.c - what a newer program wrote is refused by name and left alone; what is only damaged is not taken for it. */
#include "durable_server.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "durable/checkpoint.h"
#include "durable/formats.h"
#include "durable/live_internal.h"
#include "durable/wal.h"
#include "durable/wal_format.h"
#include "store/op.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { STEPS = 30, FORMAT_AT = 8, SUM_BYTES = 4, NAMES_MAX = 16, VERSION_AT = 1 };

static int set_up(void **state) {
    struct server *s = (struct server *)malloc(sizeof *s);
    server_make(s);
    server_start_ok(s);
    server_steps_ok(s, STEPS);
    *state = s;
    return 0;
}

static int tear_down(void **state) {
    struct server *s = (struct server *)*state;
    server_crash(s);
    server_remove(s);
    free(s);
    return 0;
}

static void stop_ok(struct server *s) {
    struct status st = {0};
    if (!server_stop(s, &st)) {
        fail_msg("stop: %s", st.detail);
    }
}

/* The format's number becomes another, and the checksum over [0, sum_at) right again; both stand where every format has them. */
static void set_format(int dir_fd, const char *path, uint32_t format, size_t sum_at) {
    struct buf content = {0};
    file_read(dir_fd, path, &content);
    size_t at = sum_at != 0 ? sum_at : content.len - SUM_BYTES;
    store_u32le(content.data + FORMAT_AT, format);
    store_u32le(content.data + at, crc32c(0, content.data, at));
    file_write(dir_fd, path, buf_slice(&content));
    buf_fini(&content);
}

/* By the check and by a start, which changes nothing, --repair or not. */
static void must_refuse(struct server *s, const char *path, uint32_t format, uint32_t known) {
    struct buf before = {0};
    struct buf after = {0};
    struct status st = {0};
    char numbers[64];
    (void)snprintf(numbers, sizeof numbers, "has format %u, and this program knows up to %u", (unsigned)format, (unsigned)known);
    file_read(s->data.fd, path, &before);
    for (int i = 0; i < 3; i++) {
        s->repair = i == 2;
        assert_false(i == 0 ? formats_check(s->data.fd, &st) : server_start(s, &st));
        assert_int_equal(st.code, STATUS_CORRUPT);
        assert_non_null(strstr(st.detail, path));
        assert_non_null(strstr(st.detail, numbers));
    }
    s->repair = false;
    file_read(s->data.fd, path, &after);
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, before.len);
    buf_fini(&before);
    buf_fini(&after);
}

static void good_data_is_passed(void **state) {
    struct server *s = (struct server *)*state;
    struct live_report report;
    struct status st = {0};
    assert_true(formats_check(s->data.fd, &st)); /* while a server is at work */
    assert_true(server_live_checkpoint(s, &report, &st));
    assert_true(formats_check(s->data.fd, &st));
    stop_ok(s);
    assert_true(formats_check(s->data.fd, &st));
    struct scratch empty;
    scratch_make(&empty);
    assert_true(formats_check(empty.fd, &st));
    scratch_remove(&empty);
    server_start_ok(s);
    assert_true(s->report.from_checkpoint);
}

static void a_newer_checkpoint(void **state) {
    struct server *s = (struct server *)*state;
    stop_ok(s);
    set_format(s->data.fd, CHECKPOINT_PATH, CHECKPOINT_FORMAT + 1, 0);
    must_refuse(s, CHECKPOINT_PATH, CHECKPOINT_FORMAT + 1, CHECKPOINT_FORMAT);
    /* The newer program goes on from it. */
    set_format(s->data.fd, CHECKPOINT_PATH, CHECKPOINT_FORMAT, 0);
    server_start_ok(s);
    assert_true(s->report.from_checkpoint);
    stop_ok(s);
    /* Whoever wants to go back moves the arenas away. */
    set_format(s->data.fd, CHECKPOINT_PATH, CHECKPOINT_FORMAT + 1, 0);
    assert_int_equal(renameat(s->data.fd, "vectors", s->data.fd, "vectors.newer"), 0);
    server_start_ok(s);
    assert_false(s->report.from_checkpoint);
    (void)server_check(s);
}

static void a_newer_live_checkpoint(void **state) {
    static const char *const paths[] = {LIVE_CHECKPOINT_PATH, LIVE_CHECKPOINT_BEFORE_PATH};
    struct server *s = (struct server *)*state;
    struct live_report report;
    struct status st = {0};
    assert_true(server_live_checkpoint(s, &report, &st));
    server_steps_ok(s, 2 * STEPS);
    assert_true(server_live_checkpoint(s, &report, &st));
    server_crash(s);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        set_format(s->data.fd, paths[i], LIVE_FORMAT + 3, 0);
        must_refuse(s, paths[i], LIVE_FORMAT + 3, LIVE_FORMAT);
        set_format(s->data.fd, paths[i], LIVE_FORMAT, 0);
    }
    server_start_ok(s);
    assert_true(s->report.from_live);
}

static void a_newer_segment(void **state) {
    struct server *s = (struct server *)*state;
    char names[NAMES_MAX][64];
    char path[96];
    server_crash(s);
    int wal_fd = openat(s->data.fd, "wal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t count = names_with(wal_fd, "wal_", names, NAMES_MAX);
    assert_true(count > 0);
    const char *last = names[count - 1];
    (void)snprintf(path, sizeof path, "wal/%s", last);
    set_format(wal_fd, last, WAL_FORMAT + 1, WAL_HEADER_BYTES - SUM_BYTES);
    must_refuse(s, path, WAL_FORMAT + 1, WAL_FORMAT);
    assert_int_equal(names_with(wal_fd, "wal_", names, NAMES_MAX), count); /* --repair has set nothing aside */
    set_format(wal_fd, last, WAL_FORMAT, WAL_HEADER_BYTES - SUM_BYTES);
    server_start_ok(s);
    (void)server_check(s);
    (void)close(wal_fd);
}

/* What was not seen cannot be called known. */
static void a_log_that_cannot_be_listed(void **state) {
    struct server *s = (struct server *)*state;
    struct fault_plan broken = {.calls = FAULT_BIT(IO_LIST), .times = UINT64_MAX, .error = EIO, .path = "wal"};
    struct status st = {0};
    stop_ok(s);
    fault_arm(&broken);
    assert_false(formats_check(s->data.fd, &st));
    assert_int_equal(st.sys_errno, EIO);
    fault_disarm();
    assert_true(formats_check(s->data.fd, &st));
    server_start_ok(s);
}

/* A number that only looks newer: what becomes of damage is not this question's to say. */
static void damage_is_not_taken_for_a_newer_format(void **state) {
    struct server *s = (struct server *)*state;
    struct status st = {0};
    stop_ok(s);
    file_flip(s->data.fd, CHECKPOINT_PATH, FORMAT_AT, 0x10);
    assert_true(formats_check(s->data.fd, &st));
    server_start_ok(s);
    assert_false(s->report.from_checkpoint);
    (void)server_check(s);
}

/* The log's framing is ours, and what it holds is not: the record is named, and the arenas of before are still there. */
static void a_newer_operation(void **state) {
    struct server *s = (struct server *)*state;
    struct buf bytes = {0};
    struct status st = {0};
    char numbers[96];
    op_encode_log_close(&bytes);
    bytes.data[VERSION_AT] = OP_VERSION + 1;
    uint64_t lsn = s->account->next_lsn++;
    const struct oplog_record record = {.lsn = lsn, .time_us = 1763935200000000, .op = buf_slice(&bytes)};
    assert_true(oplog_append(s->log, &record, 1, &st));
    buf_fini(&bytes);
    server_crash(s);
    assert_false(server_start(s, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    (void)snprintf(numbers, sizeof numbers, "record %llu: operation: version %d, this server knows %d", (unsigned long long)lsn, OP_VERSION + 1, OP_VERSION);
    assert_non_null(strstr(st.detail, numbers));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(good_data_is_passed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_newer_checkpoint, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_newer_live_checkpoint, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_newer_segment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_log_that_cannot_be_listed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_not_taken_for_a_newer_format, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_newer_operation, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("durable_formats", tests, NULL, NULL);
}
