/* test_durable_live.c - going on from a checkpoint that was taken while commits went on: whole, damaged, killed at every step. */
#include "durable_server.h"

#include "durable/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NAMES_MAX = 64, PATH_BYTES = 256, CALLS_MOST = 60 };

static int set_up(void **state) {
    struct server *s = (struct server *)malloc(sizeof *s);
    server_make(s);
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

static void snapshot_ok(struct server *s) {
    struct status st = {0};
    if (!server_snapshot(s, NULL, &st)) {
        fail_msg("snapshot: %s", st.detail);
    }
}

static struct live_report live_ok(struct server *s) {
    struct live_report report;
    struct status st = {0};
    if (!server_live_checkpoint(s, &report, &st)) {
        fail_msg("live checkpoint: %s", st.detail);
    }
    return report;
}

static void link_all(struct server *s) {
    struct status st = {0};
    if (!server_link(s, &st)) {
        fail_msg("link: %s", st.detail);
    }
}

/* Everything is there and in order: by the oracle, and after a stop by the check of all files. */
static void must_be_sound(struct server *s) {
    struct check_options options = {.data_dir_fd = s->data.fd};
    struct check_report report = {0};
    struct status st = {0};
    assert_int_equal(server_check(s), 0);
    link_all(s);
    assert_true(server_stop(s, &st));
    if (!check_run(&options, &report, &st)) {
        fail_msg("check: %s", st.detail);
    }
    if (report.total_faults > 0) {
        fail_msg("%s, %s: %s", check_part_name(report.faults[0].part), report.faults[0].file, report.faults[0].what);
    }
    assert_true(report.has_checkpoint);
    check_report_fini(&report);
    server_start_ok(s);
}

/* --- the good cases --- */

static void goes_on(void **state) {
    struct server *s = (struct server *)*state;
    server_start_ok(s);
    for (uint32_t steps = 20; steps < 300; steps += 40) {
        server_steps_ok(s, steps);
        link_all(s);
        struct live_report report = live_ok(s);
        server_steps_ok(s, steps + 15);
        server_crash(s);
        server_start_ok(s);
        assert_true(s->report.from_live);
        assert_int_equal(s->report.rebuilt, 0);
        assert_true(s->report.live_lsn == report.lsn);
        assert_true(s->report.replayed_ops <= 15);
        assert_int_equal(s->report.graph_dropped, 0);
        assert_int_equal(server_check(s), 0);
    }
    must_be_sound(s);
}

/* Each checkpoint is cut out of a stream of commits. */
static void cut_while_commits_go_on(void **state) {
    struct server *s = (struct server *)*state;
    server_start_ok(s);
    for (uint32_t steps = 30; steps < 390; steps += 60) {
        server_steps_ok(s, steps);
        s->steps_between = 3;
        s->steps_most = steps + 30;
        struct live_report report = live_ok(s);
        s->steps_between = 0;
        assert_true(s->account->steps > steps);
        server_crash(s);
        server_start_ok(s);
        assert_true(s->report.from_live && s->report.live_lsn == report.lsn && s->report.rebuilt == 0);
        must_be_sound(s);
    }
}

/* Nothing is written for libraries that did not change. */
static void unchanged_libraries_are_carried_over(void **state) {
    struct server *s = (struct server *)*state;
    server_start_ok(s);
    server_steps_ok(s, 120);
    struct live_report first = live_ok(s);
    struct live_report second = live_ok(s);
    assert_true(first.libraries_written > 0 && first.page_bytes > 0);
    assert_int_equal(second.libraries_written, 0);
    assert_int_equal(second.page_bytes, 0);
    server_steps_ok(s, 121);
    struct live_report third = live_ok(s);
    assert_int_equal(third.libraries_written, 1);
    assert_true(third.page_bytes < first.page_bytes);
    server_crash(s);
    server_start_ok(s);
    assert_true(s->report.from_live);
    assert_int_equal(s->report.replayed_ops, 0);
    must_be_sound(s);
}

/* A chain of many page files begins anew, and old ones go. */
static void long_chains(void **state) {
    struct server *s = (struct server *)*state;
    server_start_ok(s);
    for (uint32_t steps = 100; steps < 150; steps++) {
        server_steps_ok(s, steps);
        (void)live_ok(s);
    }
    char names[NAMES_MAX][64];
    size_t count = names_with(s->vectors_fd, "", names, NAMES_MAX);
    for (size_t i = 0; i < count; i++) {
        int fd = openat(s->vectors_fd, names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0) {
            char pages[NAMES_MAX][64];
            assert_true(names_with(fd, "pages.", pages, NAMES_MAX) <= 2 * LIVE_PAGE_FILES_MAX);
            assert_int_equal(close(fd), 0);
        }
    }
    server_crash(s);
    server_start_ok(s);
    assert_true(s->report.from_live && s->report.replayed_ops == 0);
    must_be_sound(s);
}

/* What a closed server had beside its arenas is gone on from, too. */
static void after_an_orderly_stop(void **state) {
    struct server *s = (struct server *)*state;
    struct status st = {0};
    server_start_ok(s);
    server_steps_ok(s, 100);
    (void)live_ok(s);
    assert_true(server_stop(s, &st));
    server_start_ok(s);
    assert_true(s->report.from_checkpoint);
    server_steps_ok(s, 101);
    struct live_report report = live_ok(s);
    assert_int_equal(report.libraries_written, 1);
    server_steps_ok(s, 120);
    server_crash(s);
    server_start_ok(s);
    assert_true(s->report.from_live && s->report.live_lsn == report.lsn);
    must_be_sound(s);
    /* A crash before the first checkpoint of this life. */
    server_steps_ok(s, 140);
    server_crash(s);
    server_start_ok(s);
    assert_true(s->report.from_live && s->report.live_lsn == report.lsn);
    must_be_sound(s);
}

/* --- damage --- */

static size_t files_below(int fd, const char *path, char (*out)[PATH_BYTES], size_t count, size_t most) {
    int dir_fd = openat(fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fdopendir(dir_fd);
    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e != NULL && count < most; e = readdir(dir)) {
        char whole[PATH_BYTES];
        struct stat info;
        if (e->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(whole, sizeof whole, "%.100s/%.120s", path, e->d_name);
        assert_int_equal(fstatat(fd, whole, &info, 0), 0);
        if (S_ISDIR(info.st_mode)) {
            count = files_below(fd, whole, out, count, most);
        } else if (info.st_size > 0) {
            memcpy(out[count++], whole, sizeof whole);
        }
    }
    assert_int_equal(closedir(dir), 0);
    return count;
}

static off_t size_of(int fd, const char *path) {
    struct stat info;
    assert_int_equal(fstatat(fd, path, &info, 0), 0);
    return info.st_size;
}

/* One byte anywhere below vectors/ is another after the crash: what is there afterwards is right all the same. */
static void flipped_bytes(void **state) {
    static char files[NAMES_MAX][PATH_BYTES];
    struct server *s = (struct server *)*state;
    unsigned rounds = getenv("QUIRE_TEST_QUICK") != NULL ? 20 : 160;
    unsigned noticed = 0;
    struct status st = {0};
    server_start_ok(s);
    server_steps_ok(s, 60);
    snapshot_ok(s);
    for (unsigned round = 0; round < rounds; round++) {
        uint32_t until = s->account->steps + 1 < SCRIPT_MAX ? s->account->steps + 1 : SCRIPT_MAX;
        link_all(s);
        (void)live_ok(s);
        server_steps_ok(s, until);
        server_crash(s);
        size_t count = files_below(s->data.fd, "vectors", files, 0, NAMES_MAX);
        const char *file = files[(unsigned)rand() % count];
        off_t size = size_of(s->data.fd, file);
        file_flip(s->data.fd, file, (size_t)(((uint64_t)rand() << 16 ^ (uint64_t)rand()) % (uint64_t)size), (uint8_t)(1U << (rand() % 8)));
        server_start_ok(s);
        noticed += !s->report.from_live || s->report.rebuilt > 0 ? 1 : 0;
        (void)server_check(s); /* vectors may be missing, and are made again */
        if (round % 4 == 0) {
            assert_true(server_embed(s, &st));
            must_be_sound(s);
        }
    }
    assert_true(noticed > 0 && noticed < rounds);
}

static void missing_files(void **state) {
    static char files[NAMES_MAX][PATH_BYTES];
    struct server *s = (struct server *)*state;
    server_start_ok(s);
    server_steps_ok(s, 60);
    snapshot_ok(s);
    for (size_t which = 0; which < NAMES_MAX; which++) {
        link_all(s);
        (void)live_ok(s);
        server_steps_ok(s, s->account->steps + 2);
        server_crash(s);
        size_t count = files_below(s->data.fd, "vectors", files, 0, NAMES_MAX);
        if (which >= count) {
            break;
        }
        assert_int_equal(unlinkat(s->data.fd, files[which], 0), 0);
        server_start_ok(s);
        (void)server_check(s);
    }
    server_crash(s);
    server_start_ok(s);
}

/* The newest checkpoint is no good: the one before is taken, with the log behind it. */
static void the_one_before(void **state) {
    struct server *s = (struct server *)*state;
    server_start_ok(s);
    server_steps_ok(s, 60);
    struct live_report first = live_ok(s);
    server_steps_ok(s, 80);
    (void)live_ok(s);
    server_steps_ok(s, 90);
    server_crash(s);
    file_flip(s->data.fd, LIVE_CHECKPOINT_PATH, 100, 4);
    server_start_ok(s);
    assert_true(s->report.from_live);
    assert_true(s->report.live_lsn == first.lsn);
    must_be_sound(s);
}

/* One library is made anew from a snapshot that is newer than the checkpoint from which the others go on. */
static void a_snapshot_newer_than_the_checkpoint(void **state) {
    struct server *s = (struct server *)*state;
    struct uuid id = fixture_library_id(1);
    char path[PATH_BYTES];
    char text[UUID_TEXT + 1];
    server_start_ok(s);
    server_steps_ok(s, 60);
    (void)live_ok(s);
    server_steps_ok(s, 90);
    snapshot_ok(s);
    server_steps_ok(s, 100);
    server_crash(s);
    uuid_format(&id, text);
    (void)snprintf(path, sizeof path, "vectors/%s/records.mmap", text);
    file_flip(s->data.fd, path, 0, 1);
    server_start_ok(s);
    assert_true(s->report.from_live);
    assert_true(s->report.resumed > 0);
    assert_int_equal(s->report.rebuilt, 1);
    must_be_sound(s);
}

/* A log that is put back from an older copy, or another server's, has nothing to do with the checkpoint that lies beside it. */
static void another_log(void **state) {
    struct server *s = (struct server *)*state;
    struct server *other = (struct server *)malloc(sizeof *other);
    assert_non_null(other);
    server_start_ok(s);
    server_steps_ok(s, 50);
    (void)live_ok(s);
    server_crash(s);
    server_make(other);
    server_start_ok(other);
    server_steps_ok(other, 70);
    server_crash(other);
    char names[NAMES_MAX][64];
    int from = openat(other->data.fd, "wal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int to = openat(s->data.fd, "wal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t count = names_with(to, "wal_", names, NAMES_MAX);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(unlinkat(to, names[i], 0), 0);
    }
    count = names_with(from, "wal_", names, NAMES_MAX);
    for (size_t i = 0; i < count; i++) {
        file_copy(from, names[i], to, names[i]);
    }
    assert_int_equal(close(from), 0);
    assert_int_equal(close(to), 0);
    *s->account = *other->account;
    server_start_ok(s);
    assert_false(s->report.from_live);
    assert_non_null(strstr(s->report.why_not_checkpoint, "another log"));
    (void)server_check(s);
    server_remove(other);
    free(other);
}

/* --- kills --- */

/* A child works and is killed at its Nth call of the seam; the parent starts on what it left. */
static void killed_while_taking(void **state) {
    struct server *s = (struct server *)*state;
    uint64_t step = getenv("QUIRE_TEST_QUICK") != NULL ? 7 : 1;
    server_start_ok(s);
    server_steps_ok(s, 40);
    (void)live_ok(s);
    server_crash(s);
    bool finished = false;
    for (uint64_t after = 0; !finished; after += step) {
        uint32_t until = s->account->steps + 3 < SCRIPT_MAX ? s->account->steps + 3 : SCRIPT_MAX;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct fault_plan plan = {.calls = FAULT_CHANGES, .after = after, .times = 1};
            server_start_ok(s);
            server_steps_ok(s, until);
            fault_arm(&plan);
            (void)live_ok(s);
            (void)live_ok(s);
            _exit(0);
        }
        int how = 0;
        assert_int_equal(waitpid(child, &how, 0), child);
        finished = WIFEXITED(how) && WEXITSTATUS(how) == 0;
        assert_true(finished || (WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL));
        server_start_ok(s);
        assert_true(s->report.from_live);
        assert_int_equal(s->report.rebuilt, 0);
        assert_int_equal(server_check(s), 0);
        server_crash(s);
    }
    server_start_ok(s);
    must_be_sound(s);
}

/* Recovery itself is killed at each of its calls. */
static void killed_while_going_on(void **state) {
    struct server *s = (struct server *)*state;
    uint64_t step = getenv("QUIRE_TEST_QUICK") != NULL ? 11 : 2;
    server_start_ok(s);
    server_steps_ok(s, 80);
    link_all(s);
    (void)live_ok(s);
    server_steps_ok(s, 110);
    server_crash(s);
    bool finished = false;
    for (uint64_t after = 0; !finished; after += step) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct fault_plan plan = {.calls = FAULT_CHANGES, .after = after, .times = 1};
            fault_arm(&plan);
            server_start_ok(s);
            _exit(0);
        }
        int how = 0;
        assert_int_equal(waitpid(child, &how, 0), child);
        finished = WIFEXITED(how) && WEXITSTATUS(how) == 0;
    }
    server_start_ok(s);
    assert_true(s->report.from_live && s->report.rebuilt == 0);
    must_be_sound(s);
}

/* A checkpoint that fails at whichever call leaves one that is whole, and the next one is, too. */
static void failures_while_taking(void **state) {
    struct server *s = (struct server *)*state;
    uint64_t step = getenv("QUIRE_TEST_QUICK") != NULL ? 7 : 1;
    server_start_ok(s);
    server_steps_ok(s, 40);
    (void)live_ok(s);
    for (uint64_t after = 0; after < CALLS_MOST; after += step) {
        struct fault_plan plan = {.calls = FAULT_CHANGES & ~FAULT_BIT(IO_UNLINK), .after = after, .times = 1, .error = EIO};
        struct status st = {0};
        struct live_report report;
        server_steps_ok(s, s->account->steps + 1);
        fault_arm(&plan);
        (void)!server_live_checkpoint(s, &report, &st); /* some calls it can do without */
        fault_disarm();
        server_crash(s);
        server_start_ok(s);
        assert_true(s->report.from_live && s->report.rebuilt == 0);
        assert_int_equal(server_check(s), 0);
    }
    (void)live_ok(s);
    server_crash(s);
    server_start_ok(s);
    assert_true(s->report.from_live && s->report.rebuilt == 0 && s->report.replayed_ops == 0);
    must_be_sound(s);
}

static int fail_names(enum io_call call, const char *path, void *ctx) {
    static const char end[] = "/vectors";
    size_t len = path != NULL ? strlen(path) : 0;
    (void)ctx;
    return call == IO_FSYNC && len >= sizeof end && strcmp(path + len - (sizeof end - 1), end) == 0 ? EIO : 0;
}

/* The new checkpoint has its name, but that is not synced: it may be there after a crash, and so must be what it names. */
static void a_name_that_is_not_synced(void **state) {
    struct server *s = (struct server *)*state;
    struct status st = {0};
    server_start_ok(s);
    server_steps_ok(s, 40);
    (void)live_ok(s);
    for (uint32_t steps = 50; steps < 90; steps += 10) {
        server_steps_ok(s, steps);
        io_set_fault(fail_names, NULL);
        assert_false(server_live_checkpoint(s, NULL, &st));
        io_set_fault(NULL, NULL);
        if (steps % 20 == 0) {
            server_steps_ok(s, steps + 5);
            (void)live_ok(s);
        }
        server_crash(s);
        server_start_ok(s);
        assert_true(s->report.from_live && s->report.rebuilt == 0);
        must_be_sound(s);
    }
}

static int fail_reading(enum io_call call, const char *path, void *ctx) {
    (void)ctx;
    return call == IO_OPEN && path != NULL && strstr(path, "checkpoint.live") != NULL && strstr(path, ".tmp") == NULL ? EIO : 0;
}

/* The checkpoints that lie there cannot be read when the first one of this life is taken, and that one fails: what they name is untouched. */
static void numbers_are_not_used_again(void **state) {
    struct server *s = (struct server *)*state;
    struct status st = {0};
    server_start_ok(s);
    server_steps_ok(s, 40);
    (void)live_ok(s);
    server_crash(s);
    for (uint32_t steps = 50; steps < 80; steps += 10) {
        struct fault_plan plan = {.calls = FAULT_BIT(IO_RENAME), .times = UINT64_MAX, .error = EIO, .path = "checkpoint"};
        server_start_ok(s);
        server_steps_ok(s, steps);
        io_set_fault(fail_reading, NULL);
        (void)!server_live_checkpoint(s, NULL, &st);
        fault_arm(&plan);
        server_steps_ok(s, steps + 2);
        assert_false(server_live_checkpoint(s, NULL, &st));
        fault_disarm();
        server_crash(s);
        server_start_ok(s);
        assert_true(s->report.from_live && s->report.rebuilt == 0);
        assert_int_equal(server_check(s), 0);
        server_crash(s);
    }
    server_start_ok(s);
    must_be_sound(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cut_while_commits_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unchanged_libraries_are_carried_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_chains, set_up, tear_down),
        cmocka_unit_test_setup_teardown(after_an_orderly_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(flipped_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(missing_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_one_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_snapshot_newer_than_the_checkpoint, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown(killed_while_taking, set_up, tear_down),
        cmocka_unit_test_setup_teardown(killed_while_going_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(numbers_are_not_used_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_name_that_is_not_synced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(failures_while_taking, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
