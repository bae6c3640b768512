/* json_front: what is taken and what is refused, where vectors may stand, and that json-c agrees with everything taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json_front.h"

#include <stdio.h>
#include <stdlib.h>

static const struct json_limits limits = {.max_depth = 16, .max_tokens = 10000, .max_vector_length = 512, .max_keys = 1000};

static bool parse_slice(struct slice body, const char *const *places, struct json_document *doc, struct status *st) {
    bool ok;
    /* An allocation of just that size, so that a read beyond it is noticed. */
    char *exact = (char *)malloc(body.len + (body.len == 0));
    assert_non_null(exact);
    memset(doc, 0, sizeof *doc);
    if (body.len > 0) {
        memcpy(exact, body.data, body.len);
    }
    ok = json_document_parse(slice_of(exact, body.len), &limits, places, doc, st);
    free(exact);
    return ok;
}

static void assert_taken(const char *text) {
    struct json_document doc;
    struct status st;
    if (!parse_slice(slice_str(text), NULL, &doc, &st)) {
        fail_msg("%s: %s", text, st.detail);
    }
    json_document_fini(&doc);
}

static void assert_refused_at(struct slice body, const char *const *places, enum status_code code, long at) {
    struct json_document doc;
    struct status st;
    char wanted[40];
    if (parse_slice(body, places, &doc, &st)) {
        fail_msg("taken: %.*s", (int)body.len, (const char *)body.data);
    }
    (void)snprintf(wanted, sizeof wanted, "byte %ld", at);
    const char *found = strstr(st.detail, wanted);
    size_t end = strlen(wanted);
    if (st.code != code || found == NULL || (found[end] >= '0' && found[end] <= '9')) {
        fail_msg("%.*s: %s (%s), not at %ld", (int)body.len, (const char *)body.data, st.detail, status_code_name(st.code), at);
    }
    assert_null(doc.root);
}

static void assert_malformed(const char *text, long at) {
    assert_refused_at(slice_str(text), NULL, STATUS_MALFORMED, at);
}

static void json_is_taken(void **state) {
    (void)state;
    static const char *const good[] = {"{}",
                                       "[]",
                                       " \t\r\n{ } \n",
                                       "null",
                                       "true",
                                       "1",
                                       "-0",
                                       "\"\"",
                                       "[1,-2.5e+3,0.1E-2,-0,0,-0.0,10]",
                                       "{\"a\":{\"b\":[{},[],{}]}}",
                                       "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\uD83D\\uDE00\"]",
                                       "[\"\x7f \xC2\x80 \xEF\xBF\xBD \xF0\x9F\x98\x80\"]",
                                       "{\"\":1}",
                                       "[9223372036854775807,-9223372036854775808,18446744073709551615]",
                                       "[1.7976931348623157e308,5e-324,1e-999999999999999999999]",
                                       "[0e999999999,0.000e309]",
                                       "{\"a\":1,\"A\":2,\"b\":{\"a\":1}}",
                                       "[{\"a\":1},{\"a\":1}]",
                                       "[null,true,false]",
                                       "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_taken(good[i]);
    }
}

static void values_arrive(void **state) {
    (void)state;
    struct json_document doc;
    struct status st;
    assert_true(parse_slice(slice_str("{\"a\\u0062\":[1,2.5,\"x\\ny\"],\"big\":18446744073709551615}"), NULL, &doc, &st));
    struct json_object *array = json_object_object_get(doc.root, "ab");
    assert_int_equal(json_object_array_length(array), 3);
    assert_int_equal(json_object_get_int64(json_object_array_get_idx(array, 0)), 1);
    assert_true(json_object_get_double(json_object_array_get_idx(array, 1)) == 2.5);
    assert_string_equal(json_object_get_string(json_object_array_get_idx(array, 2)), "x\ny");
    assert_true(json_object_get_uint64(json_object_object_get(doc.root, "big")) == UINT64_MAX);
    assert_int_equal(doc.vector_count, 0);
    json_document_fini(&doc);
    json_document_fini(&doc);
}

static void what_is_no_json_is_refused_at_its_byte(void **state) {
    (void)state;
    static const struct {
        const char *text;
        long at;
    } bad[] = {
        {"", 0},
        {"  ", 2},
        {"{", 1},
        {"[", 1},
        {"[1", 2},
        {"[1,", 3},
        {"[1,]", 3},
        {"[,1]", 1},
        {"[1 2]", 3},
        {"[1}", 2},
        {"{\"a\":1]", 6},
        {"{\"a\"}", 4},
        {"{\"a\":}", 5},
        {"{\"a\":1,}", 7},
        {"{a:1}", 1},
        {"{'a':1}", 1},
        {"['a']", 1},
        {"{1:1}", 1},
        {"[1] x", 4},
        {"{}{}", 2},
        {"[1]]", 3},
        {"tru", 0},
        {"truex", 4},
        {"[TRUE]", 1},
        {"[nulL]", 1},
        {"[NaN]", 1},
        {"[Infinity]", 1},
        {"[-Infinity]", 2},
        {"[inf]", 1},
        {"[01]", 2},
        {"[-01]", 3},
        {"[1.]", 3},
        {"[.5]", 1},
        {"[+1]", 1},
        {"[1e]", 3},
        {"[1e+]", 4},
        {"[-]", 2},
        {"[0x10]", 2},
        {"[1_000]", 2},
        {"-", 1},
        {"1.", 2},
        {"1e", 2},
        {"[1/*c*/]", 2},
        {"//c\n[]", 0},
        {"#c\n[]", 0},
        {"\xEF\xBB\xBF[]", 0},
        {"\v[]", 0},
        {"[\xC2\xA0]", 1},
        {"\"abc", 4},
        {"\"abc\\", 5},
        {"\"abc\\\"", 6},
        {"\"a\nb\"", 2},
        {"\"a\tb\"", 2},
        {"\"\\x41\"", 1},
        {"\"\\a\"", 1},
        {"\"\\'\"", 1},
        {"\"\\U0041\"", 1},
        {"\"\\u00g0\"", 1},
        {"\"\\u00\"", 1},
        {"\"\\u123", 1},
        {"\"a\\u0000\"", 2},
        {"{\"a\\u0000\":1}", 3},
        {"\"\\uD800\"", 1},
        {"\"\\uD800\\n\"", 1},
        {"\"\\uD800\\uD800\"", 1},
        {"\"\\uD800\\u0041\"", 1},
        {"\"\\uD800\\uDC0\"", 1},
        {"\"\\uDC00\"", 1},
        {"\"\\uDC00\\uD800\"", 1},
        {"[1e309]", 1},
        {"[-1e309]", 1},
        {"[1.7976931348623159e308]", 1},
        {"[0.0001e313]", 1},
        {"[1e999999999999999999999]", 1},
        {"[18446744073709551616]", 1},
        {"[-9223372036854775809]", 1},
        {"[100000000000000000000]", 1},
        {"[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]", 16},
        {"\"\x80\"", 1},
        {"[\"ok\",\"\xC3(\"]", 7},
        {"\"\xED\xA0\x80\"", 1},
        {"\"\xC0\x80\"", 1},
        {"\"\xF4\x90\x80\x80\"", 1},
        {"\"\xC3", 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_malformed(bad[i].text, bad[i].at);
    }
}

static void nul_bytes_are_refused_anywhere(void **state) {
    (void)state;
    static const char text[] = "{\"key\": [1, true, \"text\"]} ";
    char copy[sizeof text];
    for (size_t at = 0; at + 1 < sizeof text; at++) {
        struct json_document doc;
        struct status st;
        memcpy(copy, text, sizeof text);
        copy[at] = '\0';
        assert_false(parse_slice(slice_of(copy, sizeof text - 1), NULL, &doc, &st));
        assert_int_equal(st.code, STATUS_MALFORMED);
    }
}

/* Wherever it stands, also where eight bytes are looked at together. */
static void control_characters_are_refused_anywhere(void **state) {
    (void)state;
    char text[32];
    for (size_t at = 1; at + 1 < sizeof text; at++) {
        for (int c = 0; c < 0x20; c++) {
            memset(text, 'x', sizeof text);
            text[0] = '"';
            text[sizeof text - 1] = '"';
            text[at] = (char)c;
            assert_refused_at(slice_of(text, sizeof text), NULL, STATUS_MALFORMED, (long)at);
        }
    }
}

static void duplicate_keys_are_found_in_every_spelling(void **state) {
    (void)state;
    assert_malformed("{\"a\":1,\"a\":2}", 7);
    assert_malformed("{\"a\":1,\"\\u0061\":2}", 7);
    assert_malformed("{\"\\u0061\":1,\"a\":2}", 12);
    assert_malformed("{\"\\u00e4\":1,\"\xC3\xA4\":2}", 12);
    assert_malformed("{\"\\uD83D\\uDE00\":1,\"\xF0\x9F\x98\x80\":2}", 18);
    assert_malformed("{\"a\\/b\\n\":1,\"a/b\\u000A\":2}", 12);
    assert_malformed("{\"\":1,\"\":2}", 6);
    assert_malformed("[{\"x\":{\"b\":1}},{\"y\":{\"c\":1,\"b\":2,\"c\":3}}]", 33);
    assert_malformed("{\"a\":{\"a\":{\"a\":1}},\"a\":1}", 19);
}

static void duplicate_keys_are_found_among_many(void **state) {
    (void)state;
    struct buf b;
    struct json_document doc;
    struct status st;
    buf_init(&b);
    for (int again = -1; again < 900; again = again < 0 ? 0 : again * 2 + 1) {
        buf_reset(&b);
        buf_put_str(&b, "{");
        for (int i = 0; i < 900; i++) {
            buf_printf(&b, "\"key%d\":{\"key%d\":0},", i, i);
        }
        long at = (long)b.len;
        buf_printf(&b, "\"key%d\":0}", again);
        if (again < 0) {
            assert_true(parse_slice(buf_slice(&b), NULL, &doc, &st));
            json_document_fini(&doc);
        } else {
            assert_refused_at(buf_slice(&b), NULL, STATUS_MALFORMED, at);
        }
    }
    buf_fini(&b);
}

static void limits_hold(void **state) {
    (void)state;
    struct json_document doc;
    struct status st;
    /* {"a":[1,2],"b":{}}: two keys, five values, depth two. */
    struct slice body = slice_str("{\"a\":[1,2],\"b\":{}}");
    struct json_limits exact = {.max_depth = 2, .max_tokens = 7, .max_vector_length = 2, .max_keys = 2};
    static const char *const places[] = {"a", NULL};
    memset(&doc, 0, sizeof doc);
    assert_true(json_document_parse(body, &exact, NULL, &doc, &st));
    json_document_fini(&doc);
    exact.max_depth = 1;
    assert_false(json_document_parse(body, &exact, NULL, &doc, &st));
    assert_int_equal(st.code, STATUS_MALFORMED);
    exact.max_depth = 2;
    exact.max_tokens = 6;
    assert_false(json_document_parse(body, &exact, NULL, &doc, &st));
    assert_int_equal(st.code, STATUS_MALFORMED);
    /* Numbers of a vector are no tokens. */
    exact.max_tokens = 5;
    assert_true(json_document_parse(body, &exact, places, &doc, &st));
    json_document_fini(&doc);
    exact.max_vector_length = 1;
    assert_false(json_document_parse(body, &exact, places, &doc, &st));
    assert_int_equal(st.code, STATUS_MALFORMED);
    exact.max_vector_length = 2;
    exact.max_keys = 1;
    assert_false(json_document_parse(body, &exact, places, &doc, &st));
    assert_int_equal(st.code, STATUS_MALFORMED);
}

/* The body that costs json-c gigabytes ends at the limit. */
static void wide_and_deep_bodies_end_early(void **state) {
    (void)state;
    enum { SIZE = 8 << 20 };
    static const char *const patterns[] = {"{},", "[", "{\"a\":", "[],", "\"\",", "1,"};
    char *text = (char *)malloc(SIZE);
    assert_non_null(text);
    for (size_t p = 0; p < sizeof patterns / sizeof patterns[0]; p++) {
        struct json_document doc;
        struct status st;
        size_t len = strlen(patterns[p]);
        text[0] = '[';
        for (size_t i = 1; i < SIZE; i++) {
            text[i] = patterns[p][(i - 1) % len];
        }
        assert_false(parse_slice(slice_of(text, SIZE), NULL, &doc, &st));
        assert_int_equal(st.code, STATUS_MALFORMED);
    }
    free(text);
}

static struct json_object *member(struct json_object *object, const char *key) {
    struct json_object *value = NULL;
    assert_true(json_object_object_get_ex(object, key, &value));
    return value;
}

static void assert_vector(const struct json_document *doc, struct json_object *value, const float *wanted, uint32_t length) {
    struct status st;
    struct buf scratch;
    const float *values = NULL;
    uint32_t got = 0;
    buf_init(&scratch);
    assert_true(json_document_vector(doc, value, &scratch, &values, &got, &st));
    assert_int_equal(got, length);
    for (uint32_t i = 0; i < length; i++) {
        assert_true(values[i] == wanted[i]);
    }
    buf_fini(&scratch);
}

static const char *const all_places[] = {"embedding", "embeddings.[]", "chunks.[].embedding", "documents.[].chunks.[].embedding",
                                         NULL};

static void vectors_are_cut_out_of_their_places(void **state) {
    (void)state;
    struct json_document doc;
    struct status st;
    const char *body = "{\"k\":3,\"embedding\" : [ 1 , -2.5,3e-1 ] ,\"other\":[7,8],"
                       "\"embeddings\":[[4],[ ],[5,6]],"
                       "\"documents\":[{\"chunks\":[{\"embedding\":[9],\"text\":\"a\"},{\"em\\u0062edding\":[10]}]},"
                       "{\"chunks\":[],\"embedding\":[1,2]}],"
                       "\"chunks\":[{\"embedding\":\"AACAPwAAAMA=\"}]}";
    assert_true(parse_slice(slice_str(body), all_places, &doc, &st));
    assert_int_equal(doc.vector_count, 6);
    assert_int_equal(doc.float_count, 8);
    assert_vector(&doc, member(doc.root, "embedding"), (const float[]){1, -2.5F, 0.3F}, 3);
    struct json_object *several = member(doc.root, "embeddings");
    assert_int_equal(json_object_array_length(several), 3);
    assert_vector(&doc, json_object_array_get_idx(several, 0), (const float[]){4}, 1);
    assert_vector(&doc, json_object_array_get_idx(several, 1), NULL, 0);
    assert_vector(&doc, json_object_array_get_idx(several, 2), (const float[]){5, 6}, 2);
    struct json_object *first = json_object_array_get_idx(member(doc.root, "documents"), 0);
    struct json_object *chunks = member(first, "chunks");
    assert_vector(&doc, member(json_object_array_get_idx(chunks, 0), "embedding"), (const float[]){9}, 1);
    assert_vector(&doc, member(json_object_array_get_idx(chunks, 1), "embedding"), (const float[]){10}, 1);
    assert_string_equal(json_object_get_string(member(json_object_array_get_idx(chunks, 0), "text")), "a");
    struct json_object *encoded = json_object_array_get_idx(member(doc.root, "chunks"), 0);
    assert_vector(&doc, member(encoded, "embedding"), (const float[]){1, -2}, 2);
    /* What stands elsewhere is left to json-c: by another name, or by the same name in another place. */
    assert_int_equal(json_object_array_length(member(doc.root, "other")), 2);
    struct json_object *second = json_object_array_get_idx(member(doc.root, "documents"), 1);
    assert_true(json_object_is_type(member(second, "embedding"), json_type_array));
    json_document_fini(&doc);
}

static void a_key_named_like_an_element_is_no_element(void **state) {
    (void)state;
    struct json_document doc;
    struct status st;
    assert_true(
        parse_slice(slice_str("{\"embeddings\":{\"[]\":[1,2]},\"chunks\":[[{\"embedding\":[1]}]]}"), all_places, &doc, &st));
    assert_int_equal(doc.vector_count, 0);
    json_document_fini(&doc);
}

static void references_cannot_be_forged(void **state) {
    (void)state;
    assert_refused_at(slice_str("{\"embedding\":0}"), all_places, STATUS_INVALID, 13);
    assert_refused_at(slice_str("{\"embeddings\":[[1],0]}"), all_places, STATUS_INVALID, 19);
    assert_refused_at(slice_str("{\"e\\u006dbedding\":1.0}"), all_places, STATUS_INVALID, 18);
    assert_taken("{\"embedding\":0}");
}

static void wrong_vectors_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *text;
        enum status_code code;
        long at;
    } bad[] = {
        {"{\"embedding\":[1,\"2\"]}", STATUS_INVALID, 16},
        {"{\"embedding\":[null]}", STATUS_INVALID, 14},
        {"{\"embedding\":[[1]]}", STATUS_INVALID, 14},
        {"{\"embedding\":[1,true]}", STATUS_INVALID, 16},
        {"{\"embedding\":[1,{}]}", STATUS_INVALID, 16},
        {"{\"embedding\":[1,]}", STATUS_MALFORMED, 16},
        {"{\"embedding\":[,1]}", STATUS_MALFORMED, 14},
        {"{\"embedding\":[1 2]}", STATUS_MALFORMED, 16},
        {"{\"embedding\":[1", STATUS_MALFORMED, 15},
        {"{\"embedding\":[", STATUS_MALFORMED, 14},
        {"{\"embedding\":[1,", STATUS_MALFORMED, 16},
        {"{\"embedding\":[01]}", STATUS_MALFORMED, 15},
        {"{\"embedding\":[1e39]}", STATUS_MALFORMED, 14},
        {"{\"embedding\":[1e999]}", STATUS_MALFORMED, 14},
        {"{\"embedding\":[NaN]}", STATUS_MALFORMED, 14},
        {"{\"embedding\":[1}}", STATUS_MALFORMED, 15},
        {"{\"embedding\":[1],\"embedding\":[1]}", STATUS_MALFORMED, 17},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_refused_at(slice_str(bad[i].text), all_places, bad[i].code, bad[i].at);
    }
}

static void assert_no_vector(const char *body, enum status_code code) {
    struct json_document doc;
    struct status st;
    struct buf scratch;
    const float *values;
    uint32_t length;
    buf_init(&scratch);
    assert_true(parse_slice(slice_str(body), all_places, &doc, &st));
    assert_false(json_document_vector(&doc, json_object_object_get(doc.root, "embedding"), &scratch, &values, &length, &st));
    assert_int_equal(st.code, code);
    buf_fini(&scratch);
    json_document_fini(&doc);
}

static void wrong_vector_strings_are_refused(void **state) {
    (void)state;
    assert_no_vector("{\"embedding\":\"AAAA\"}", STATUS_MALFORMED); /* three bytes */
    assert_no_vector("{\"embedding\":\"not base64\"}", STATUS_MALFORMED);
    assert_no_vector("{\"embedding\":\"AADAfw==\"}", STATUS_MALFORMED); /* NaN */
    assert_no_vector("{\"embedding\":\"AACAfw==\"}", STATUS_MALFORMED); /* infinity */
    assert_no_vector("{\"embedding\":null}", STATUS_INVALID);
    assert_no_vector("{\"embedding\":true}", STATUS_INVALID);
    assert_no_vector("{\"embedding\":{}}", STATUS_INVALID);
    assert_no_vector("{}", STATUS_INVALID);
}

static uint64_t next_random(uint64_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* json-c by itself, in the mode that json_document_parse uses. */
static bool json_c_takes(struct slice body, struct json_object **ret) {
    struct json_tokener *tokener = json_tokener_new_ex(64);
    struct buf copy;
    assert_non_null(tokener);
    buf_init(&copy);
    buf_put_slice(&copy, body);
    buf_put_u8(&copy, 0);
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    *ret = json_tokener_parse_ex(tokener, (const char *)copy.data, (int)copy.len);
    bool ok = json_tokener_get_error(tokener) == json_tokener_success;
    json_tokener_free(tokener);
    buf_fini(&copy);
    return ok;
}

/* Bodies damaged at random: whatever is taken json-c takes too, and sees the same in it. */
static void json_c_agrees_with_what_is_taken(void **state) {
    (void)state;
    enum { ROUNDS = 200000 };
    static const char *const seeds[] = {"{\"a\":[1,2.5,-3e2],\"b\":{\"c\":\"x\\u00e4y\",\"d\":null}}",
                                        "[true,false,null,\"\\ud83d\\ude00 \xC3\xA4\",-0.5,[],{}]",
                                        "{\"embedding\":[0.1,0.2],\"k\":10,\"q\":\"text \\\"quoted\\\"\"}"};
    static const char inserted[] = "[]{}\":,\\u0eE+-.19 \n\x80\xC3\xA4tfn";
    uint64_t x = 4711;
    unsigned taken = 0;
    for (int i = 0; i < ROUNDS; i++) {
        char text[128];
        struct json_document doc;
        struct json_object *other = NULL;
        struct status st;
        size_t len = strlen(seeds[i % 3]);
        memcpy(text, seeds[i % 3], len);
        for (uint64_t damage = next_random(&x) % 4; damage > 0; damage--) {
            size_t at = next_random(&x) % len;
            switch (next_random(&x) % 3) {
            case 0:
                text[at] = inserted[next_random(&x) % (sizeof inserted - 1)];
                break;
            case 1:
                memmove(text + at, text + at + 1, len - at - 1);
                len--;
                break;
            default:
                memmove(text + at + 1, text + at, len - at);
                text[at] = inserted[next_random(&x) % (sizeof inserted - 1)];
                len++;
            }
        }
        if (parse_slice(slice_of(text, len), NULL, &doc, &st)) {
            taken++;
            assert_true(json_c_takes(slice_of(text, len), &other));
            assert_true(json_object_equal(doc.root, other));
            json_object_put(other);
            json_document_fini(&doc);
        } else {
            assert_int_equal(st.code, STATUS_MALFORMED);
        }
        if (parse_slice(slice_of(text, len), all_places, &doc, &st)) {
            json_document_fini(&doc);
        }
    }
    assert_in_range(taken, ROUNDS / 10, ROUNDS * 9 / 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_is_taken),
        cmocka_unit_test(values_arrive),
        cmocka_unit_test(what_is_no_json_is_refused_at_its_byte),
        cmocka_unit_test(nul_bytes_are_refused_anywhere),
        cmocka_unit_test(control_characters_are_refused_anywhere),
        cmocka_unit_test(duplicate_keys_are_found_in_every_spelling),
        cmocka_unit_test(duplicate_keys_are_found_among_many),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(wide_and_deep_bodies_end_early),
        cmocka_unit_test(vectors_are_cut_out_of_their_places),
        cmocka_unit_test(a_key_named_like_an_element_is_no_element),
        cmocka_unit_test(references_cannot_be_forged),
        cmocka_unit_test(wrong_vectors_are_refused),
        cmocka_unit_test(wrong_vector_strings_are_refused),
        cmocka_unit_test(json_c_agrees_with_what_is_taken),
    };
    return cmocka_run_group_tests_name("base json front", tests, NULL, NULL);
}
