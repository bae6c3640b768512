/* test_cli_words.c - what `quire` makes of the words it is given: conditions, JSON, exit codes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "cli/condition.h"
#include "cli/json_text.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

static void value_becomes(const char *condition, const char *value) {
    struct status st = {0};
    struct json_object *got = condition_of(condition, &st);
    assert_non_null(got);
    assert_string_equal(json_object_to_json_string_ext(member(got, "value"), JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE), value);
    json_object_put(got);
}

static void a_value_is_json_wholly_or_a_string(void **state) {
    (void)state;
    value_becomes("page gte 10", "10");
    value_becomes("rating lt -1.5e3", "-1.5e3");
    value_becomes("done eq true", "true");
    value_becomes("done eq null", "null");
    value_becomes("zip eq \"10\"", "\"10\"");
    value_becomes("author in [\"Bo\"]", "[\"Bo\"]");
    value_becomes("author eq Ida Lund", "\"Ida Lund\"");
    static const char *const strings[] = {"2024-05-11", "2026-01-01T00:00:00Z", "true-crime", "nullable", "3d-print", "90s", "false-friends", "nano", "NaN", "Infinity", "-Infinity", "007", "1.", "1e", "-", "TRUE", "[a", "{b}", "'a'", "true crime"};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        char condition[100], value[100];
        snprintf(condition, sizeof condition, "tags eq %s", strings[i]);
        snprintf(value, sizeof value, "\"%s\"", strings[i]);
        value_becomes(condition, value);
    }
    value_becomes("tags eq \"a\" b", "\"\\\"a\\\" b\"");
}

static void in_takes_commas(void **state) {
    (void)state;
    value_becomes("rating in 3,4", "[3,4]");
    value_becomes("tags in a b , \"7\",,2024-01-02,", "[\"a b\",\"7\",\"2024-01-02\"]");
    value_becomes("rating in 3", "[3]");
    value_becomes("rating in [3, 4]", "[3,4]");
    value_becomes("title eq 3,4", "\"3,4\"");
}

static void a_condition_has_three_parts(void **state) {
    static const char *const bad[] = {"", "author", "author eq", "author eq  ", " eq Ida"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct status st = {0};
        assert_null(condition_of(bad[i], &st));
        assert_int_equal(st.code, STATUS_INVALID);
    }
}

static void json_with_more_behind_it_is_none(void **state) {
    struct json_object *value = NULL;
    (void)state;
    assert_true(json_text_whole(" {\"a\": 1} ", 10, &value));
    json_object_put(value);
    static const char *const bad[] = {"{\"a\": 1} x", "[1,]", "[1", "\"a", "1 2", "", " "};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(json_text_whole(bad[i], strlen(bad[i]), &value));
}

static void a_missing_file_is_no_missing_server(void **state) {
    struct status st = {0};
    (void)state;
    (void)status_set_errno(&st, ENOENT, "nosuchdir");
    assert_int_equal(cli_exit_code(&st), EX_NOINPUT);
    (void)status_set(&st, STATUS_IO, "no connection");
    assert_int_equal(cli_exit_code(&st), EX_UNAVAILABLE);
}

static void one_is_no_plural(void **state) {
    char out[CLI_COUNTED_ROOM];
    (void)state;
    assert_string_equal(cli_counted(1, "library", "libraries", out), "1 library");
    assert_string_equal(cli_counted(0, "library", "libraries", out), "0 libraries");
    assert_string_equal(cli_counted(2, "chunk", "chunks", out), "2 chunks");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_json_wholly_or_a_string), cmocka_unit_test(in_takes_commas),
        cmocka_unit_test(a_condition_has_three_parts),        cmocka_unit_test(json_with_more_behind_it_is_none),
        cmocka_unit_test(a_missing_file_is_no_missing_server), cmocka_unit_test(one_is_no_plural),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
