/* test_durable_restore_log.c - which records a restore takes out of segments from several directories, and what it refuses by name. */
#include "durable_fixture.h"

#include "durable/restore_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LAST = 300, BATCH = 10, NAMES_MAX = 16, FILES_MAX = 48 };

/* A log of several segments, closed, and files out of it as a source has them. */
struct logs {
    struct scratch dir;
    struct scratch work;
    char names[NAMES_MAX][64];
    size_t count;
    struct restore_file files[FILES_MAX];
    size_t file_count;
};

static void write_log(const struct scratch *s, uint64_t last) {
    struct wal_options options = log_options(s);
    struct status st = {0};
    struct oplog *log = log_open_ok(&options, NULL);
    for (uint64_t lsn = 1; lsn <= last; lsn += BATCH) {
        assert_true(log_put(log, lsn, BATCH, 0, &st));
    }
    oplog_close(log);
}

static int set_up(void **state) {
    struct logs *l = (struct logs *)calloc(1, sizeof *l);
    scratch_make(&l->dir);
    scratch_make(&l->work);
    write_log(&l->dir, LAST);
    l->count = names_with(l->dir.fd, "wal_", l->names, NAMES_MAX);
    assert_true(l->count >= 4);
    *state = l;
    return 0;
}

static void forget_files(struct logs *l) {
    for (size_t i = 0; i < l->file_count; i++) {
        io_close(&l->files[i].fd);
    }
    l->file_count = 0;
}

static int tear_down(void **state) {
    struct logs *l = (struct logs *)*state;
    forget_files(l);
    scratch_remove(&l->dir);
    scratch_remove(&l->work);
    free(l);
    return 0;
}

static void add_file(struct logs *l, const struct scratch *s, const char *name) {
    struct restore_file *f = &l->files[l->file_count++];
    off_t size = 0;
    struct status st;
    assert_true(l->file_count <= FILES_MAX);
    *f = (struct restore_file){.dir_fd = s->fd, .fd = -1};
    (void)snprintf(f->name, sizeof f->name, "%s", name);
    assert_true(io_open_at(s->fd, name, O_RDONLY, 0, &f->fd, &st));
    assert_true(io_size(f->fd, &size, &st));
    f->size = (uint64_t)size;
}

static void add_all_but(struct logs *l, size_t missing) {
    for (size_t i = 0; i < l->count; i++) {
        if (i != missing) {
            add_file(l, &l->dir, l->names[i]);
        }
    }
}

/* What was sent: records from LSN `from` on, each as it was logged. Returns the last. */
static uint64_t check_frames(int fd, uint64_t from) {
    struct restore_frame frame;
    char text[LOG_TEXT_MAX];
    char found[LOG_TEXT_MAX];
    uint64_t lsn = from - 1;
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    while (read(fd, &frame, sizeof frame) == (ssize_t)sizeof frame) {
        assert_true(frame.length <= sizeof found);
        assert_int_equal(read(fd, found, frame.length), (ssize_t)frame.length);
        if (frame.kind != FRAME_RECORD) {
            continue;
        }
        size_t len = log_text(++lsn, 0, text);
        assert_int_equal(frame.lsn, lsn);
        assert_int_equal(frame.length, len);
        assert_memory_equal(found, text, len);
    }
    return lsn;
}

/* Reads behind LSN `base`, which an archive was cut at, in the segment `place` (0: it does not say). */
static bool take_behind(struct logs *l, uint64_t base, uint64_t place, const struct restore_target *target, uint64_t *ret_last, struct status *st) {
    struct restore_source source = {.segments = l->files, .segment_count = l->file_count};
    struct restore_reader reader = {.source = &source, .target = *target, .lsn = base, .place = place, .base = "the archive"};
    reader.pipe = openat(l->work.fd, "frames", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(reader.pipe >= 0);
    bool ok = restore_read_log(&reader, st);
    *ret_last = check_frames(reader.pipe, base + 1);
    if (ok) {
        assert_int_equal(reader.lsn, *ret_last);
    }
    io_close(&reader.pipe);
    return ok;
}

static bool take(struct logs *l, uint64_t base, const struct restore_target *target, uint64_t *ret_last, struct status *st) {
    return take_behind(l, base, 0, target, ret_last, st);
}

static const struct restore_target no_target = {.time_us = INT64_MAX};

static void expect_taken(struct logs *l, uint64_t base, const struct restore_target *target, uint64_t last) {
    struct status st = {0};
    uint64_t reached = 0;
    if (!take(l, base, target, &reached, &st)) {
        fail_msg("%s", st.detail);
    }
    assert_int_equal(reached, last);
}

static void expect_refused(struct logs *l, const struct restore_target *target, const char *name, const char *what) {
    struct status st = {0};
    uint64_t reached = 0;
    assert_false(take(l, 0, target, &reached, &st));
    assert_null(strstr(st.detail, "--to-lsn 0")); /* which is no target */
    if (strstr(st.detail, what) == NULL || (name != NULL && strstr(st.detail, name) == NULL)) {
        fail_msg("%s", st.detail);
    }
}

static void the_whole_log_behind_each_lsn(void **state) {
    struct logs *l = (struct logs *)*state;
    add_all_but(l, SIZE_MAX);
    for (uint64_t base = 0; base <= LAST; base += 7) {
        expect_taken(l, base, &no_target, LAST);
    }
    expect_taken(l, LAST, &no_target, LAST);
}

static void up_to_each_target(void **state) {
    struct logs *l = (struct logs *)*state;
    add_all_but(l, SIZE_MAX);
    for (uint64_t lsn = 1; lsn <= LAST; lsn++) {
        struct restore_target by_lsn = {.lsn = lsn, .time_us = INT64_MAX};
        struct restore_target by_time = {.time_us = 1700000000000000 + (int64_t)lsn};
        expect_taken(l, 0, &by_lsn, lsn);
        expect_taken(l, 0, &by_time, lsn);
    }
    struct restore_target beyond = {.lsn = LAST + 1, .time_us = INT64_MAX};
    struct restore_target later = {.time_us = 1800000000000000};
    expect_refused(l, &beyond, NULL, "what there is ends with LSN 300");
    expect_taken(l, 0, &later, LAST);
}

static void doubles_are_harmless_in_any_order(void **state) {
    struct logs *l = (struct logs *)*state;
    for (size_t i = l->count; i > 0; i--) {
        add_file(l, &l->dir, l->names[i - 1]);
    }
    add_all_but(l, 1);
    expect_taken(l, 0, &no_target, LAST);
}

static void each_missing_segment_is_named(void **state) {
    struct logs *l = (struct logs *)*state;
    for (size_t missing = 0; missing + 1 < l->count; missing++) {
        forget_files(l);
        add_all_but(l, missing);
        expect_refused(l, &no_target, l->names[missing + 1], "are in no segment");
        /* A target before the gap, and a base behind it, do not need it. */
        uint64_t first = 0;
        uint64_t next = 0;
        assert_true(wal_name_parse(l->names[missing], &first) && wal_name_parse(l->names[missing + 1], &next));
        if (first > 1) {
            struct restore_target before = {.lsn = first - 1, .time_us = INT64_MAX};
            expect_taken(l, 0, &before, first - 1);
        }
        expect_taken(l, next - 1, &no_target, LAST);
    }
}

/* The id of the segment that has the LSN. */
static uint64_t place_of(const struct logs *l, uint64_t lsn) {
    struct wal_header found = {0};
    for (size_t i = 0; i < l->count; i++) {
        uint8_t page[WAL_HEADER_BYTES];
        struct wal_header h;
        struct status st;
        int fd = -1;
        assert_true(io_open_at(l->dir.fd, l->names[i], O_RDONLY, 0, &fd, &st) && io_pread_full(fd, page, sizeof page, 0, &st));
        io_close(&fd);
        assert_true(wal_header_decode(page, &h, &st));
        found = h.first_lsn <= lsn ? h : found;
    }
    return found.segment_id;
}

static void segments_of_another_log(void **state) {
    struct logs *l = (struct logs *)*state;
    struct scratch other;
    char names[NAMES_MAX][64];
    scratch_make(&other);
    write_log(&other, LAST);
    assert_true(names_with(other.fd, "wal_", names, NAMES_MAX) >= 2);
    add_all_but(l, 1);
    add_file(l, &other, names[1]);
    expect_refused(l, &no_target, names[1], "belongs to another log than");
    /* Unless an archive says which one it is. */
    struct status st = {0};
    uint64_t reached = 0;
    add_file(l, &l->dir, l->names[1]);
    assert_true(take_behind(l, 30, place_of(l, 30), &no_target, &reached, &st));
    assert_int_equal(reached, LAST);
    assert_false(take_behind(l, 30, 12345, &no_target, &reached, &st));
    assert_non_null(strstr(st.detail, "belongs to another log than"));
    forget_files(l);
    scratch_remove(&other);
}

/* An archive says in which stretch of the log it was cut: with another one it is not mixed, also where LSNs would fit. */
static void an_archive_and_the_log_behind_it(void **state) {
    struct logs *l = (struct logs *)*state;
    struct status st = {0};
    uint64_t reached = 0;
    add_all_but(l, SIZE_MAX);
    for (uint64_t base = 1; base < LAST; base++) {
        if (!take_behind(l, base, place_of(l, base), &no_target, &reached, &st)) {
            fail_msg("%s", st.detail);
        }
        assert_int_equal(reached, LAST);
        assert_false(take_behind(l, base, 12345, &no_target, &reached, &st));
        assert_non_null(strstr(st.detail, "does not continue the archive"));
        assert_int_equal(reached, base);
    }
    /* One that covers all of the log needs nothing of it. */
    assert_true(take_behind(l, LAST, 12345, &no_target, &reached, &st));
}

/* Copies the log up to segment `segments`, cuts it there after some records, and lets it go on by itself. */
static void go_another_way(const struct logs *l, struct scratch *other, size_t segments, uint64_t more) {
    struct wal_options options;
    struct wal_report report = {0};
    struct status st = {0};
    scratch_make(other);
    for (size_t i = 0; i < segments; i++) {
        file_copy(l->dir.fd, l->names[i], other->fd, l->names[i]);
    }
    options = log_options(other);
    options.repair = true; /* the end marker names a successor that is not there */
    struct oplog *log = log_open_ok(&options, &report);
    for (uint64_t n = 0; n < more; n++) {
        assert_true(log_put(log, report.last_lsn + 1 + n * BATCH, BATCH, 0, &st));
    }
    oplog_close(log);
}

static void a_copy_that_went_another_way(void **state) {
    struct logs *l = (struct logs *)*state;
    struct scratch other;
    char names[NAMES_MAX][64];
    go_another_way(l, &other, 2, 20);
    size_t count = names_with(other.fd, "wal_", names, NAMES_MAX);
    assert_true(count >= 3);
    /* Its own segments are one log, and so are ours; a mixture is not. */
    add_all_but(l, 2);
    add_file(l, &other, names[count - 1]);
    struct status st = {0};
    uint64_t reached = 0;
    assert_false(take(l, 0, &no_target, &reached, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    forget_files(l);
    scratch_remove(&other);
}

static void damage_is_told_by_what_lies_behind_it(void **state) {
    struct logs *l = (struct logs *)*state;
    struct scratch copy;
    scratch_make(&copy);
    file_copy(l->dir.fd, l->names[1], copy.fd, l->names[1]);
    file_flip(copy.fd, l->names[1], WAL_HEADER_BYTES + 200, 0x10);
    add_all_but(l, 1);
    add_file(l, &copy, l->names[1]);
    expect_refused(l, &no_target, l->names[2], "are in no segment");
    /* The other copy has what this one lacks, whichever is met first. */
    add_file(l, &l->dir, l->names[1]);
    expect_taken(l, 0, &no_target, LAST);
    /* In the last segment only the records behind it can tell. */
    forget_files(l);
    file_copy(l->dir.fd, l->names[l->count - 1], copy.fd, l->names[l->count - 1]);
    file_flip(copy.fd, l->names[l->count - 1], WAL_HEADER_BYTES + 20, 0x10);
    add_all_but(l, l->count - 1);
    add_file(l, &copy, l->names[l->count - 1]);
    expect_refused(l, &no_target, NULL, "cannot be read, and later records say");
    forget_files(l);
    scratch_remove(&copy);
}

static void headers_that_are_none_are_passed_over(void **state) {
    struct logs *l = (struct logs *)*state;
    add_all_but(l, SIZE_MAX);
    file_write(l->work.fd, "wal_20260101_00000000000000000002.log", slice_str("short"));
    add_file(l, &l->work, "wal_20260101_00000000000000000002.log");
    file_copy(l->dir.fd, l->names[1], l->work.fd, l->names[1]);
    file_flip(l->work.fd, l->names[1], 50, 1);
    add_file(l, &l->work, l->names[1]);
    expect_taken(l, 0, &no_target, LAST);
}

static void records_that_a_repair_gave_up(void **state) {
    struct logs *l = (struct logs *)*state;
    struct scratch other;
    struct wal_report report = {0};
    char names[NAMES_MAX][64];
    struct status st = {0};
    uint64_t first = 0;
    enum { COVERED = 20 };
    scratch_make(&other);
    for (size_t i = 1; i < l->count; i++) {
        file_copy(l->dir.fd, l->names[i], other.fd, l->names[i]);
    }
    struct wal_options options = log_options(&other);
    options.repair = true;
    options.expect_lsn = COVERED; /* by a snapshot; what is between it and the second segment is gone */
    oplog_close(log_open_ok(&options, &report));
    size_t count = names_with(other.fd, "wal_", names, NAMES_MAX);
    assert_true(wal_name_parse(names[0], &first) && first > COVERED + 1);
    for (size_t i = 0; i < count; i++) {
        if (strstr(names[i], "damaged") == NULL) {
            add_file(l, &other, names[i]);
        }
    }
    struct restore_source source = {.segments = l->files, .segment_count = l->file_count};
    struct restore_reader reader = {.source = &source, .target = no_target, .lsn = COVERED};
    reader.pipe = openat(l->work.fd, "frames", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(restore_read_log(&reader, &st));
    assert_int_equal(reader.lsn, LAST);
    assert_int_equal(check_frames(reader.pipe, first), LAST);
    io_close(&reader.pipe);
    /* From further back it does not go. */
    expect_refused(l, &no_target, names[0], "are in no segment");
    forget_files(l);
    scratch_remove(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_whole_log_behind_each_lsn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(up_to_each_target, set_up, tear_down),
        cmocka_unit_test_setup_teardown(doubles_are_harmless_in_any_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(each_missing_segment_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(segments_of_another_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_archive_and_the_log_behind_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_copy_that_went_another_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_told_by_what_lies_behind_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(headers_that_are_none_are_passed_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(records_that_a_repair_gave_up, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
