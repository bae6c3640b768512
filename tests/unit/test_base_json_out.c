/* json_out: what is written is what json-c reads, commas and all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json_out.h"

#include <float.h>
#include <json-c/json.h>
#include <math.h>

static void assert_text(struct buf *b, const char *wanted) {
    assert_true(buf_ok(b));
    buf_put_u8(b, 0);
    assert_string_equal((const char *)b->data, wanted);
    buf_fini(b);
}

static void commas_stand_between(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b);
    struct json_out j = json_out_to(&b);
    json_begin_object(&j);
    json_key(&j, "a");
    json_begin_array(&j);
    json_end_array(&j);
    json_key(&j, "b");
    json_begin_array(&j);
    json_int(&j, 1);
    json_begin_object(&j);
    json_end_object(&j);
    json_begin_array(&j);
    json_null(&j);
    json_boolean(&j, true);
    json_end_array(&j);
    json_boolean(&j, false);
    json_end_array(&j);
    json_key_slice(&j, slice_of("cut off", 3));
    json_cstring(&j, NULL);
    json_key(&j, "again");
    json_begin_array(&j);
    json_int(&j, 2);
    json_end_array(&j);
    json_end_object(&j);
    assert_text(&b, "{\"a\":[],\"b\":[1,{},[null,true],false],\"cut\":null,\"again\":[2]}");
}

static void members_in_one_line(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b);
    struct json_out j = json_out_to(&b);
    struct uuid id;
    assert_true(uuid_parse(slice_str("00112233-4455-6677-8899-aabbccddeeff"), &id));
    json_begin_object(&j);
    json_member_string(&j, "s", slice_str("x"));
    json_member_cstring(&j, "c", "y");
    json_member_int(&j, "i", INT64_MIN);
    json_member_uint(&j, "u", UINT64_MAX);
    json_member_bool(&j, "b", true);
    json_member_double(&j, "d", 0.1);
    json_member_time(&j, "t", 0);
    json_key(&j, "id");
    json_uuid(&j, &id);
    json_end_object(&j);
    assert_text(&b, "{\"s\":\"x\",\"c\":\"y\",\"i\":-9223372036854775808,\"u\":18446744073709551615,\"b\":true,\"d\":0.1,"
                    "\"t\":\"1970-01-01T00:00:00.000000Z\",\"id\":\"00112233-4455-6677-8899-aabbccddeeff\"}");
}

static void strings_are_escaped_no_more_than_needed(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b);
    struct json_out j = json_out_to(&b);
    json_string(&j, slice_str("/ \" \\ \b\f\n\r\t\x01\x1f\x7f \xC3\xA4\xE2\x82\xAC <>&'"));
    assert_text(&b, "\"/ \\\" \\\\ \\b\\f\\n\\r\\t\\u0001\\u001f\x7f \xC3\xA4\xE2\x82\xAC <>&'\"");
    buf_init(&b);
    j = json_out_to(&b);
    json_string(&j, slice_of("a\0b", 3));
    assert_text(&b, "\"a\\u0000b\"");
    buf_init(&b);
    j = json_out_to(&b);
    json_string(&j, slice_of(NULL, 0));
    assert_text(&b, "\"\"");
}

/* Every string of one or two ASCII characters comes back through json-c. */
static void strings_come_back(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b);
    for (int c = 1; c < 128 * 128; c++) {
        char text[2] = {(char)(c & 127), (char)(c >> 7)};
        size_t len = c < 128 ? 1 : 2;
        buf_reset(&b);
        struct json_out j = json_out_to(&b);
        json_begin_array(&j);
        json_string(&j, slice_of(text, len));
        json_end_array(&j);
        buf_put_u8(&b, 0);
        struct json_object *back = json_tokener_parse((const char *)b.data);
        struct json_object *item = json_object_array_get_idx(back, 0);
        assert_int_equal(json_object_get_string_len(item), len);
        assert_memory_equal(json_object_get_string(item), text, len);
        json_object_put(back);
    }
    buf_fini(&b);
}

static void numbers_that_are_not_finite_are_null(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b);
    struct json_out j = json_out_to(&b);
    json_begin_array(&j);
    json_double(&j, NAN);
    json_double(&j, -INFINITY);
    json_float(&j, NAN);
    json_float(&j, INFINITY);
    json_double(&j, DBL_MAX);
    json_float(&j, 0.1F);
    json_double(&j, 1.0 / 3);
    json_end_array(&j);
    assert_text(&b, "[null,null,null,null,1.79769313e308,0.1,0.333333333]");
}

static void raw_and_spliced_json(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b);
    struct json_out j = json_out_to(&b);
    json_begin_object(&j);
    json_splice_members(&j, slice_str("{}"));
    json_splice_members(&j, slice_str(""));
    json_splice_members(&j, slice_str(" { } "));
    json_splice_members(&j, slice_str("{\"a\":1, \"b\":{}}"));
    json_splice_members(&j, slice_str("{\"c\":[]}\n"));
    json_splice_members(&j, slice_str("{}"));
    json_key(&j, "d");
    json_raw(&j, slice_str("[1,2]"));
    json_key(&j, "e");
    json_raw(&j, slice_of(NULL, 0));
    json_end_object(&j);
    assert_text(&b, "{\"a\":1, \"b\":{},\"c\":[],\"d\":[1,2],\"e\":null}");
}

static void depth_goes_to_63(void **state) {
    (void)state;
    enum { DEPTH = 63 };
    struct buf b;
    buf_init(&b);
    struct json_out j = json_out_to(&b);
    for (int i = 0; i < DEPTH; i++) {
        json_begin_array(&j);
        json_int(&j, i);
    }
    for (int i = 0; i < DEPTH; i++) {
        json_end_array(&j);
    }
    buf_put_u8(&b, 0);
    struct json_tokener *tokener = json_tokener_new_ex(DEPTH + 2);
    struct json_object *back = json_tokener_parse_ex(tokener, (const char *)b.data, (int)b.len);
    assert_non_null(back);
    assert_int_equal(json_object_array_length(back), 2);
    json_object_put(back);
    json_tokener_free(tokener);
    buf_fini(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commas_stand_between),
        cmocka_unit_test(members_in_one_line),
        cmocka_unit_test(strings_are_escaped_no_more_than_needed),
        cmocka_unit_test(strings_come_back),
        cmocka_unit_test(numbers_that_are_not_finite_are_null),
        cmocka_unit_test(raw_and_spliced_json),
        cmocka_unit_test(depth_goes_to_63),
    };
    return cmocka_run_group_tests_name("base json out", tests, NULL, NULL);
}
