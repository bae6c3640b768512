/* test_durable_wal_archive.c - copies of log segments: whole, in order, once; a failure loses nothing, and what is somebody else's is left alone. */
#include "durable_fixture.h"

#include "durable/wal_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAMES_MAX = 256, FAULTS_MAX = 200 };

struct archiving {
    struct scratch wal;
    struct scratch archive;
    struct oplog *log;
    uint64_t lsn;
    struct oplog_archived state;
};

static void open_log(struct archiving *a) {
    struct wal_options options = log_options(&a->wal);
    struct wal_report report;
    a->log = log_open_ok(&options, &report);
}

static int set_up(void **state) {
    struct archiving *a = (struct archiving *)calloc(1, sizeof *a);
    scratch_make(&a->wal);
    scratch_make(&a->archive);
    open_log(a);
    *state = a;
    return 0;
}

static int tear_down(void **state) {
    struct archiving *a = (struct archiving *)*state;
    fault_disarm();
    oplog_close(a->log);
    scratch_remove(&a->wal);
    scratch_remove(&a->archive);
    free(a);
    return 0;
}

static void put(struct archiving *a, size_t batches) {
    for (size_t i = 0; i < batches; i++) {
        struct status st = {0};
        if (!log_put(a->log, a->lsn + 1, 3, 0, &st)) {
            fail_msg("append: %s", st.detail);
        }
        a->lsn += 3;
    }
}

static size_t segments(struct archiving *a) {
    struct oplog_position p;
    oplog_position_get(a->log, &p);
    return (size_t)p.segments;
}

/* Until so many more segments are full. */
static void fill(struct archiving *a, size_t more) {
    for (size_t until = segments(a) + more; segments(a) < until;) {
        put(a, 1);
    }
}

static bool archive(struct archiving *a, bool with_last, struct status *st) {
    return oplog_archive(a->log, a->archive.fd, with_last, &a->state, st);
}

static void archive_ok(struct archiving *a, bool with_last) {
    struct status st = {0};
    if (!archive(a, with_last, &st)) {
        fail_msg("archive: %s", st.detail);
    }
}

static size_t archived_names(struct archiving *a, char (*names)[64]) {
    return names_with(a->archive.fd, "wal_", names, NAMES_MAX);
}

/* The archive as a log of its own: the last of the records that it gives. */
static uint64_t replayed(struct archiving *a) {
    struct scratch copy;
    char names[NAMES_MAX][64];
    struct wal_report report;
    scratch_make(&copy);
    size_t count = archived_names(a, names);
    for (size_t i = 0; i < count; i++) {
        file_copy(a->archive.fd, names[i], copy.fd, names[i]);
    }
    struct wal_options options = log_options(&copy);
    struct status st = {0};
    struct oplog *log = NULL;
    /* Of an archive the last segment ends with its end marker, and what follows is not there: that is known, and no loss here. */
    options.repair = true;
    if (!wal_open(&options, &log, &report, &st)) {
        fail_msg("the archive does not open: %s", st.detail);
    }
    assert_int_equal(report.lost_records_bound, 0);
    uint64_t last = log_check(log, 1, NULL);
    oplog_close(log);
    scratch_remove(&copy);
    return last;
}

static void replays(struct archiving *a, uint64_t last) {
    assert_int_equal(replayed(a), last);
}

static uint64_t finished_lsn(struct archiving *a) {
    struct oplog_archived all = {0};
    struct status st;
    uint64_t lsn = 0;
    char names[NAMES_MAX][64];
    size_t count = names_with(a->wal.fd, "wal_", names, NAMES_MAX);
    (void)!oplog_archive(a->log, -1, false, &all, &st);
    assert_int_equal(all.waiting, count - 1);
    assert_true(wal_name_parse(names[count - 1], &lsn));
    return lsn - 1;
}

/* --- tests --- */

static void finished_segments(void **state) {
    struct archiving *a = (struct archiving *)*state;
    char names[NAMES_MAX][64];
    archive_ok(a, false);
    assert_int_equal(archived_names(a, names), 0);
    assert_int_equal(a->state.lsn, 0);
    fill(a, 6);
    archive_ok(a, false);
    assert_int_equal(archived_names(a, names), segments(a) - 1);
    assert_int_equal(a->state.copied, segments(a) - 1);
    assert_int_equal(a->state.waiting, 0);
    assert_int_equal(a->state.lsn, finished_lsn(a));
    replays(a, a->state.lsn);
    /* no more than that, and no temporary file */
    archive_ok(a, false);
    assert_int_equal(a->state.copied, segments(a) - 1);
    assert_int_equal(names_with(a->archive.fd, ".wal", names, NAMES_MAX), 0);
    /* what is there is seen after a restart */
    a->state = (struct oplog_archived){0};
    archive_ok(a, false);
    assert_int_equal(a->state.copied, 0);
    assert_int_equal(a->state.lsn, finished_lsn(a));
}

static void the_last_one_at_a_stop(void **state) {
    struct archiving *a = (struct archiving *)*state;
    fill(a, 4);
    archive_ok(a, true);
    assert_true(a->state.lsn < a->lsn); /* it is needed where it is none the less */
    replays(a, a->lsn);
    archive_ok(a, true);
    uint64_t copied = a->state.copied;
    /* the log goes on in that segment, after a restart */
    oplog_close(a->log);
    open_log(a);
    a->state = (struct oplog_archived){0};
    put(a, 1);
    archive_ok(a, true);
    assert_int_equal(a->state.copied, 1);
    replays(a, a->lsn);
    fill(a, 4);
    archive_ok(a, true);
    replays(a, a->lsn);
    assert_true(copied > 0);
}

/* Nothing is taken for archived that could be lost: at each call that fails or is the last one. */
static void failures(void **state) {
    struct archiving *a = (struct archiving *)*state;
    static const int errors[] = {ENOSPC, EIO};
    char names[NAMES_MAX][64];
    fill(a, 4);
    for (size_t e = 0; e < sizeof errors / sizeof errors[0]; e++) {
        bool done = false;
        for (uint64_t after = 0; !done && after < FAULTS_MAX; after++) {
            struct fault_plan plan = {.calls = FAULT_CHANGES, .after = after, .times = UINT64_MAX, .error = errors[e]};
            struct status st = {0};
            size_t count = archived_names(a, names);
            for (size_t i = 0; i < count; i++) {
                assert_int_equal(unlinkat(a->archive.fd, names[i], 0), 0);
            }
            a->state = (struct oplog_archived){0};
            fault_arm(&plan);
            done = archive(a, false, &st);
            fault_disarm();
            assert_true(done || st.code == (errors[e] == ENOSPC ? STATUS_NO_SPACE : STATUS_IO));
            assert_int_equal(a->state.waiting > 0, !done);
            if (a->state.lsn > 0) {
                assert_true(replayed(a) >= a->state.lsn); /* what is said to be there is there */
            }
            archive_ok(a, false); /* it heals */
            replays(a, finished_lsn(a));
        }
        assert_true(done);
    }
}

static void somebody_elses(void **state) {
    struct archiving *a = (struct archiving *)*state;
    struct buf before = {0};
    struct buf after = {0};
    char names[NAMES_MAX][64];
    struct status st = {0};
    fill(a, 4);
    size_t count = names_with(a->wal.fd, "wal_", names, NAMES_MAX);
    assert_true(count > 3);
    /* another server's segment under the same name */
    struct scratch other;
    struct wal_report report;
    scratch_make(&other);
    struct wal_options options = log_options(&other);
    oplog_close(log_open_ok(&options, &report));
    char others[NAMES_MAX][64];
    assert_int_equal(names_with(other.fd, "wal_", others, NAMES_MAX), 1);
    file_copy(other.fd, others[0], a->archive.fd, names[1]);
    file_read(a->archive.fd, names[1], &before);
    assert_false(archive(a, false, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    assert_non_null(strstr(st.detail, names[1]));
    file_read(a->archive.fd, names[1], &after);
    assert_true(slice_equal(buf_slice(&before), buf_slice(&after)));
    assert_int_equal(a->state.waiting, count - 2);
    /* and nothing of it goes */
    uint64_t removed = 0;
    assert_true(oplog_archive_prune(a->log, a->archive.fd, UINT64_MAX, &removed, &st));
    assert_true(file_exists(a->archive.fd, names[1]));
    assert_int_equal(unlinkat(a->archive.fd, names[1], 0), 0);
    archive_ok(a, false);
    /* what is no segment at all is written over: it may be what a full disk left of another program's copy */
    file_write(a->archive.fd, names[1], slice_str("garbage"));
    a->state = (struct oplog_archived){0};
    archive_ok(a, false);
    replays(a, finished_lsn(a));
    scratch_remove(&other);
    buf_fini(&before);
    buf_fini(&after);
}

static void damaged_ones_are_no_copies(void **state) {
    struct archiving *a = (struct archiving *)*state;
    char names[NAMES_MAX][64];
    struct status st = {0};
    fill(a, 4);
    archive_ok(a, false);
    size_t count = archived_names(a, names);
    /* a copy that a disk has damaged is made again */
    file_flip(a->archive.fd, names[0], WAL_HEADER_BYTES + 100, 0x40);
    a->state = (struct oplog_archived){0};
    archive_ok(a, false);
    assert_int_equal(a->state.copied, 1);
    replays(a, finished_lsn(a));
    /* a source that is damaged is not archived, and said so */
    assert_int_equal(unlinkat(a->archive.fd, names[1], 0), 0);
    file_flip(a->wal.fd, names[1], WAL_HEADER_BYTES + 100, 0x40);
    a->state = (struct oplog_archived){0};
    assert_false(archive(a, false, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    assert_non_null(strstr(st.detail, names[1]));
    assert_int_equal(a->state.waiting, count - 1);
}

static void old_copies_go(void **state) {
    struct archiving *a = (struct archiving *)*state;
    char names[NAMES_MAX][64];
    struct status st;
    uint64_t removed = 0;
    uint64_t first[NAMES_MAX];
    fill(a, 8);
    archive_ok(a, false);
    size_t count = archived_names(a, names);
    for (size_t i = 0; i < count; i++) {
        assert_true(wal_name_parse(names[i], &first[i]));
    }
    assert_true(oplog_archive_prune(a->log, a->archive.fd, first[3] - 2, &removed, &st));
    assert_int_equal(removed, 2); /* the third holds first[3] - 1 */
    assert_true(oplog_archive_prune(a->log, a->archive.fd, first[3] - 1, &removed, &st));
    assert_int_equal(removed, 1);
    assert_true(file_exists(a->archive.fd, names[3]));
    assert_true(oplog_archive_prune(a->log, a->archive.fd, UINT64_MAX, &removed, &st));
    assert_int_equal(archived_names(a, names), 1); /* the last one stays in any case */
}

/* The log's own directory has every segment under its name, so each would count as archived; and then it is removed. */
static void the_log_itself(void **state) {
    struct archiving *a = (struct archiving *)*state;
    struct status st = {0};
    uint64_t removed = 0;
    fill(a, 3);
    assert_false(oplog_archive(a->log, a->wal.fd, false, &a->state, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    assert_int_equal(a->state.lsn, 0);
    assert_true(a->state.waiting > 0);
    assert_false(oplog_archive_prune(a->log, a->wal.fd, UINT64_MAX, &removed, &st));
    assert_int_equal(removed, 0);
    archive_ok(a, false);
}

/* A segment that a snapshot made superfluous is not used again before its time: that is the floor's, see proc/log_floor.c; here: what was retired is not
 * missed. */
static void retired_ones(void **state) {
    struct archiving *a = (struct archiving *)*state;
    struct status st;
    fill(a, 4);
    archive_ok(a, false);
    uint64_t lsn = a->state.lsn;
    assert_true(oplog_publish_snapshot(a->log, lsn, &st));
    fill(a, 4);
    a->state = (struct oplog_archived){0};
    archive_ok(a, false);
    assert_true(a->state.lsn > lsn);
    replays(a, a->state.lsn);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finished_segments, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_last_one_at_a_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(somebody_elses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_log_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_ones_are_no_copies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(old_copies_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(retired_ones, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
