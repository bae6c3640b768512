/* log: one line an event, no message can make two, JSON lines parse whatever is in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char dir[PATH_MAX];
    char path[PATH_MAX + 8];
    struct buf content; /* of the file when it was last read, with a NUL */
};

static int set_up(void **state) {
    static struct fixture f;
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(f.dir, sizeof f.dir, "%s/quire-log-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(f.dir) == NULL) {
        return -1;
    }
    (void)snprintf(f.path, sizeof f.path, "%s/log", f.dir);
    buf_init(&f.content);
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    log_close();
    buf_fini(&f->content);
    return io_remove_tree(AT_FDCWD, f->dir, &st) ? 0 : -1;
}

static const char *read_log(struct fixture *f) {
    struct status st;
    assert_true(io_read_file(AT_FDCWD, f->path, 1 << 24, &f->content, &st));
    buf_put_u8(&f->content, 0);
    return (const char *)f->content.data;
}

static void open_log(struct fixture *f, enum log_level level, enum log_format format) {
    struct status st;
    assert_true(log_open("quired", f->path, level, format, &st));
}

static size_t lines_in(const char *text) {
    size_t lines = 0;
    for (; *text != '\0'; text++) {
        lines += *text == '\n';
    }
    return lines;
}

static void text_lines_have_time_level_and_process(void **state) {
    struct fixture *f = (struct fixture *)*state;
    char wanted[100];
    int64_t when;
    open_log(f, LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_info("restored %d libraries", 3);
    const char *line = read_log(f);
    (void)snprintf(wanted, sizeof wanted, " info  quired[%d]: restored 3 libraries\n", (int)getpid());
    assert_string_equal(line + 24, wanted);
    assert_true(rfc3339_parse(slice_of(line, 24), &when));
    assert_true(llabs(clock_wall_us() - when) < 10 * 1000000);
}

static void levels_filter(void **state) {
    struct fixture *f = (struct fixture *)*state;
    open_log(f, LOG_LEVEL_WARN, LOG_FORMAT_TEXT);
    log_info("no");
    log_debug("no");
    log_warn("yes");
    log_error("yes");
    assert_int_equal(lines_in(read_log(f)), 2);
    log_set_level(LOG_LEVEL_DEBUG);
    log_debug("yes");
    assert_int_equal(lines_in(read_log(f)), 3);
    assert_null(strstr(read_log(f), "no"));
}

static void journal_lines_have_a_priority_and_no_time(void **state) {
    struct fixture *f = (struct fixture *)*state;
    char wanted[100];
    open_log(f, LOG_LEVEL_DEBUG, LOG_FORMAT_JOURNAL);
    log_error("e");
    log_warn("w");
    log_info("i");
    log_debug("d");
    int pid = (int)getpid();
    (void)snprintf(wanted, sizeof wanted, "<3>quired[%d]: e\n<4>quired[%d]: w\n<6>quired[%d]: i\n<7>quired[%d]: d\n", pid, pid,
                   pid, pid);
    assert_string_equal(read_log(f), wanted);
}

static void no_message_makes_two_lines(void **state) {
    struct fixture *f = (struct fixture *)*state;
    open_log(f, LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_info("a\nb\r\x1b[31m\x7f t\xC3\xA4xt \xC2\x85 \xFF\xC3|");
    const char *line = read_log(f);
    assert_int_equal(lines_in(line), 1);
    assert_non_null(strstr(line, "]: a\\nb\\x0d\\x1b[31m\\x7f t\xC3\xA4xt \\xc2\\x85 \\xff\\xc3|\n"));
}

static struct json_object *parse_line(struct fixture *f) {
    struct json_object *line = json_tokener_parse(read_log(f));
    assert_non_null(line);
    return line;
}

static void json_lines_parse_whatever_is_in_them(void **state) {
    struct fixture *f = (struct fixture *)*state;
    open_log(f, LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_warn("say \"hi\" \\ \n\x01\x1b \xC3\xA4 \xFF \xC2\x9F");
    struct json_object *line = parse_line(f);
    assert_string_equal(json_object_get_string(json_object_object_get(line, "message")),
                        "say \"hi\" \\ \n\x01\x1b \xC3\xA4 \xEF\xBF\xBD \xC2\x9F");
    assert_string_equal(json_object_get_string(json_object_object_get(line, "level")), "warn");
    assert_string_equal(json_object_get_string(json_object_object_get(line, "process")), "quired");
    assert_int_equal(json_object_get_int(json_object_object_get(line, "pid")), getpid());
    assert_int_equal(json_object_get_string_len(json_object_object_get(line, "time")), 24);
    assert_int_equal(lines_in(read_log(f)), 1);
    json_object_put(line);
}

static void journal_json_lines_have_a_priority_before_the_json(void **state) {
    struct fixture *f = (struct fixture *)*state;
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    static const char *const priorities[] = {"<3>{", "<4>{", "<6>{", "<7>{"};
    open_log(f, LOG_LEVEL_DEBUG, LOG_FORMAT_JOURNAL_JSON);
    for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
        log_at((enum log_level)level, "one\n<0>two");
    }
    const char *line = read_log(f);
    assert_int_equal(lines_in(line), 4);
    for (size_t i = 0; i < 4; i++) {
        assert_memory_equal(line, priorities[i], 4);
        struct json_object *json = json_tokener_parse(line + 3);
        assert_string_equal(json_object_get_string(json_object_object_get(json, "level")), levels[i]);
        assert_string_equal(json_object_get_string(json_object_object_get(json, "message")), "one\n<0>two");
        json_object_put(json);
        line = strchr(line, '\n') + 1;
    }
}

/* The longest message, of the characters that take most room escaped, still is a whole line. */
static void long_messages_are_cut_and_marked(void **state) {
    struct fixture *f = (struct fixture *)*state;
    char text[10000];
    memset(text, '\x01', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    open_log(f, LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_info("%s", text);
    struct json_object *line = parse_line(f);
    const char *message = json_object_get_string(json_object_object_get(line, "message"));
    assert_in_range(strlen(message), 1000, 4000);
    assert_string_equal(message + strlen(message) - 4, "\x01...");
    json_object_put(line);
    assert_int_equal(lines_in(read_log(f)), 1);
    memset(text, 'x', sizeof text - 1);
    log_info("%s", text);
    assert_int_equal(lines_in(read_log(f)), 2);
}

static void statuses_are_logged_with_their_name(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    open_log(f, LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    (void)status_set_errno(&st, ENOSPC, "cannot write the WAL");
    log_status(LOG_LEVEL_ERROR, "commit", &st);
    assert_non_null(strstr(read_log(f), "commit: cannot write the WAL: No space left on device (no_space)\n"));
}

static void reopening_follows_a_rotation(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    char rotated[PATH_MAX + 16];
    (void)snprintf(rotated, sizeof rotated, "%s.1", f->path);
    open_log(f, LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_info("before");
    assert_int_equal(rename(f->path, rotated), 0);
    log_info("to the old file");
    assert_true(log_reopen(&st));
    log_info("after");
    assert_null(strstr(read_log(f), "before"));
    assert_non_null(strstr(read_log(f), "after"));
    /* A path that cannot be opened: the old file goes on. */
    assert_int_equal(rename(f->path, rotated), 0);
    assert_int_equal(mkdir(f->path, 0700), 0);
    assert_false(log_reopen(&st));
    log_info("still here");
    assert_int_equal(rmdir(f->path), 0);
    assert_int_equal(rename(rotated, f->path), 0);
    assert_non_null(strstr(read_log(f), "still here"));
}

static void errno_survives_a_log_line(void **state) {
    struct fixture *f = (struct fixture *)*state;
    open_log(f, LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    errno = EBUSY;
    log_info("line");
    log_debug("filtered");
    assert_int_equal(errno, EBUSY);
    /* Also when the line cannot be written. */
    struct status st;
    assert_true(log_open("quired", "/dev/full", LOG_LEVEL_INFO, LOG_FORMAT_TEXT, &st));
    errno = EBUSY;
    log_info("lost");
    assert_int_equal(errno, EBUSY);
}

enum { WRITERS = 4, LINES_EACH = 500 };

static void *write_lines(void *arg) {
    for (int i = 0; i < LINES_EACH; i++) {
        log_info("%s", (const char *)arg);
    }
    return NULL;
}

/* Threads that write while the file is reopened lose no line and cut none. */
static void lines_of_threads_do_not_mix(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st;
    pthread_t threads[WRITERS];
    char text[500];
    memset(text, 'w', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    open_log(f, LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    for (int i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, text), 0);
    }
    for (int i = 0; i < 100; i++) {
        assert_true(log_reopen(&st));
    }
    for (int i = 0; i < WRITERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    const char *at = read_log(f);
    for (int i = 0; i < WRITERS * LINES_EACH; i++) {
        const char *end = strchr(at, '\n');
        assert_non_null(end);
        assert_memory_equal(end - (sizeof text - 1), text, sizeof text - 1);
        at = end + 1;
    }
    assert_string_equal(at, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(text_lines_have_time_level_and_process, set_up, tear_down),
        cmocka_unit_test_setup_teardown(levels_filter, set_up, tear_down),
        cmocka_unit_test_setup_teardown(journal_lines_have_a_priority_and_no_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_message_makes_two_lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(json_lines_parse_whatever_is_in_them, set_up, tear_down),
        cmocka_unit_test_setup_teardown(journal_json_lines_have_a_priority_before_the_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_messages_are_cut_and_marked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(statuses_are_logged_with_their_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reopening_follows_a_rotation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(errno_survives_a_log_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lines_of_threads_do_not_mix, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("base log", tests, NULL, NULL);
}
