/* status, buf and bytes: what they keep, and that damaged lengths end in `failed` instead of in a read beyond the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>

static void status_carries_code_and_text(void **state) {
    (void)state;
    struct status st;
    assert_false(status_set(&st, STATUS_INVALID, "k is %d", 7));
    assert_int_equal(st.code, STATUS_INVALID);
    assert_int_equal(st.sys_errno, 0);
    assert_string_equal(st.detail, "k is 7");
    assert_false(status_set_subject(&st, STATUS_NOT_FOUND, 3, "no such thing"));
    assert_int_equal(st.subject, 3);
    assert_false(status_set(NULL, STATUS_INVALID, "nobody asks"));
    assert_false(status_set(&st, STATUS_INVALID, "again: %s", "other"));
    assert_int_equal(st.subject, 0);
    status_clear(&st);
    assert_int_equal(st.code, STATUS_OK);
    assert_string_equal(st.detail, "");
}

static void status_can_quote_itself(void **state) {
    (void)state;
    struct status st;
    (void)status_set(&st, STATUS_IO, "inner");
    (void)status_set(&st, st.code, "outer: %s", st.detail);
    assert_string_equal(st.detail, "outer: inner");
}

static void status_maps_errno(void **state) {
    (void)state;
    struct status st;
    (void)status_set_errno(&st, ENOSPC, "cannot write %s", "x");
    assert_int_equal(st.code, STATUS_NO_SPACE);
    assert_int_equal(st.sys_errno, ENOSPC);
    assert_string_equal(st.detail, "cannot write x: No space left on device");
    (void)status_set_errno(&st, EDQUOT, "x");
    assert_int_equal(st.code, STATUS_NO_SPACE);
    (void)status_set_errno(&st, ENOMEM, "x");
    assert_int_equal(st.code, STATUS_NO_MEMORY);
    static const int passing[] = {EMFILE, ENFILE, EAGAIN};
    for (size_t i = 0; i < sizeof passing / sizeof passing[0]; i++) {
        (void)status_set_errno(&st, passing[i], "x");
        assert_int_equal(st.code, STATUS_NO_MEMORY);
    }
    (void)status_set_errno(&st, EACCES, "x");
    assert_int_equal(st.code, STATUS_IO);
    (void)status_set_errno(&st, 100000, "x");
    assert_string_equal(st.detail, "x: errno 100000");
    assert_false(status_no_memory(&st));
    assert_int_equal(st.code, STATUS_NO_MEMORY);
}

static void status_cuts_between_code_points(void **state) {
    (void)state;
    char text[2 * STATUS_DETAIL_MAX + 1];
    for (size_t pad = 0; pad < 3; pad++) {
        struct status st;
        memset(text, 'a', sizeof text);
        for (size_t i = pad; i + 2 < sizeof text - 1; i += 3) {
            memcpy(text + i, "\xE2\x82\xAC", 3);
        }
        text[sizeof text - 1] = '\0';
        (void)status_set(&st, STATUS_INVALID, "%s", text);
        size_t len = strlen(st.detail);
        assert_in_range(len, STATUS_DETAIL_MAX - 3, STATUS_DETAIL_MAX - 1);
        assert_int_equal((len - pad) % 3, 0);
    }
}

static void every_code_has_a_name(void **state) {
    (void)state;
    for (int code = STATUS_OK; code <= STATUS_INTERNAL; code++) {
        const char *name = status_code_name((enum status_code)code);
        assert_string_not_equal(name, "unknown");
        for (int other = STATUS_OK; other < code; other++) {
            assert_string_not_equal(name, status_code_name((enum status_code)other));
        }
    }
    assert_string_equal(status_code_name((enum status_code)999), "unknown");
    assert_string_equal(status_code_name(STATUS_NO_SPACE), "no_space");
}

static void slices_compare_like_memcmp(void **state) {
    (void)state;
    assert_true(slice_compare(slice_str("a"), slice_str("ab")) < 0);
    assert_true(slice_compare(slice_str("b"), slice_str("ab")) > 0);
    assert_true(slice_compare(slice_str("\xff"), slice_str("a")) > 0);
    assert_int_equal(slice_compare(slice_str(NULL), slice_str("")), 0);
    assert_true(slice_equal(slice_of(NULL, 0), slice_str("")));
    assert_true(slice_is(slice_str("abc"), "abc"));
    assert_false(slice_is(slice_str("abc"), "ab"));
}

static void buf_keeps_what_is_put(void **state) {
    (void)state;
    struct buf b;
    struct status st;
    buf_init(&b);
    buf_put(&b, NULL, 0);
    buf_put_str(&b, "ab");
    buf_put_u8(&b, 0xFE);
    buf_put_u16le(&b, 0x0102);
    buf_put_u32le(&b, 0x03040506);
    buf_put_u64le(&b, UINT64_C(0x0708090A0B0C0D0E));
    buf_put_f32le(&b, 1.0F);
    buf_put_zero(&b, 2);
    buf_put_bytes(&b, slice_str("xyz"));
    static const uint8_t wanted[] = {'a', 'b', 0xFE, 2,    1,    6,    5,    4,    3,    0x0E, 0x0D, 0x0C, 0x0B, 0x0A,
                                     9,   8,   7,    0x00, 0x00, 0x80, 0x3F, 0x00, 0x00, 3,    'x',  'y',  'z'};
    assert_true(buf_check(&b, &st));
    assert_int_equal(b.len, sizeof wanted);
    assert_memory_equal(b.data, wanted, sizeof wanted);
    buf_reset(&b);
    assert_int_equal(buf_slice(&b).len, 0);
    assert_true(b.cap > 0);
    buf_fini(&b);
    buf_fini(&b);
    buf_fini(NULL);
}

static void buf_grows_over_a_million_puts(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b);
    for (uint32_t i = 0; i < 1000000; i++) {
        buf_put_u32le(&b, i);
    }
    assert_true(buf_ok(&b));
    for (uint32_t i = 0; i < 1000000; i++) {
        assert_int_equal(load_u32le(b.data + 4 * (size_t)i), i);
    }
    buf_fini(&b);
}

static void buf_prints_short_and_long(void **state) {
    (void)state;
    struct buf b;
    char text[300];
    memset(text, 'q', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    buf_init(&b);
    for (size_t len = 0; len < sizeof text; len++) {
        size_t before = b.len;
        buf_printf(&b, "%.*s|", (int)len, text);
        assert_int_equal(b.len - before, len + 1);
        assert_int_equal(b.data[b.len - 1], '|');
    }
    assert_true(buf_ok(&b));
    buf_fini(&b);
}

static void buf_remembers_failure(void **state) {
    (void)state;
    struct buf b;
    struct status st;
    size_t len;
    buf_init(&b);
    buf_put_str(&b, "kept");
    assert_false(buf_reserve(&b, SIZE_MAX - 2)); /* the sum would overflow */
    assert_false(buf_ok(&b));
    buf_put_str(&b, "ignored");
    assert_int_equal(b.len, 4);
    assert_false(buf_check(&b, &st));
    assert_int_equal(st.code, STATUS_NO_MEMORY);
    assert_null(buf_take(&b, &len));
    assert_int_equal(len, 0);
    assert_null(b.data);
}

static void buf_take_hands_the_memory_over(void **state) {
    (void)state;
    struct buf b;
    size_t len;
    buf_init(&b);
    buf_put_str(&b, "mine");
    uint8_t *data = buf_take(&b, &len);
    assert_int_equal(len, 4);
    assert_memory_equal(data, "mine", 4);
    assert_null(b.data);
    assert_int_equal(b.cap, 0);
    free(data);
    buf_put_str(&b, "still usable");
    assert_true(buf_ok(&b));
    buf_fini(&b);
}

static void reader_reads_what_buf_wrote(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b);
    buf_put_u8(&b, 200);
    buf_put_u16le(&b, 60000);
    buf_put_u32le(&b, 4000000000U);
    buf_put_u64le(&b, UINT64_MAX - 1);
    buf_put_f32le(&b, -0.25F);
    buf_put_bytes(&b, slice_str("text"));
    buf_put_bytes(&b, slice_str(""));
    struct reader r = reader_of(buf_slice(&b));
    assert_int_equal(read_u8(&r), 200);
    assert_int_equal(read_u16le(&r), 60000);
    assert_int_equal(read_u32le(&r), 4000000000U);
    assert_true(read_u64le(&r) == UINT64_MAX - 1);
    assert_true(read_f32le(&r) == -0.25F);
    assert_false(reader_done(&r));
    assert_true(slice_is(read_bytes(&r), "text"));
    assert_int_equal(read_bytes(&r).len, 0);
    assert_true(reader_done(&r));
    assert_int_equal(read_u8(&r), 0);
    assert_false(reader_done(&r));
    buf_fini(&b);
}

static void varints_go_there_and_back(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b);
    for (unsigned shift = 0; shift < 64; shift++) {
        for (uint64_t near = 0; near < 3; near++) {
            uint64_t v = (UINT64_C(1) << shift) + near - 1;
            buf_reset(&b);
            buf_put_varint(&b, v);
            assert_in_range(b.len, 1, 10);
            struct reader r = reader_of(buf_slice(&b));
            assert_true(read_varint(&r) == v);
            assert_true(reader_done(&r));
            /* Cut anywhere, it fails. */
            r = reader_of(slice_of(b.data, b.len - 1));
            assert_int_equal(read_varint(&r), 0);
            assert_true(r.failed);
        }
    }
    buf_fini(&b);
}

static void varints_beyond_64_bits_fail(void **state) {
    (void)state;
    static const uint8_t eleven[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00};
    static const uint8_t too_large[] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02};
    static const uint8_t largest[] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01};
    struct reader r = reader_of(slice_of(eleven, sizeof eleven));
    assert_int_equal(read_varint(&r), 0);
    assert_true(r.failed);
    r = reader_of(slice_of(too_large, sizeof too_large));
    assert_int_equal(read_varint(&r), 0);
    assert_true(r.failed);
    r = reader_of(slice_of(largest, sizeof largest));
    assert_true(read_varint(&r) == UINT64_MAX);
    assert_true(reader_done(&r));
}

static void reader_survives_hostile_lengths(void **state) {
    (void)state;
    struct buf b;
    buf_init(&b);
    buf_put_varint(&b, UINT64_MAX);
    buf_put_str(&b, "short");
    struct reader r = reader_of(buf_slice(&b));
    struct slice s = read_bytes(&r);
    assert_null(s.data);
    assert_int_equal(s.len, 0);
    assert_true(r.failed);
    assert_int_equal(reader_left(&r), 0);
    assert_int_equal(read_slice(&r, 0).len, 0);
    r = reader_of(buf_slice(&b));
    assert_null(read_slice(&r, SIZE_MAX).data);
    assert_true(r.failed);
    r = reader_of(slice_of(NULL, 0));
    assert_int_equal(reader_left(&r), 0);
    assert_true(reader_done(&r));
    buf_fini(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_carries_code_and_text),
        cmocka_unit_test(status_can_quote_itself),
        cmocka_unit_test(status_maps_errno),
        cmocka_unit_test(status_cuts_between_code_points),
        cmocka_unit_test(every_code_has_a_name),
        cmocka_unit_test(slices_compare_like_memcmp),
        cmocka_unit_test(buf_keeps_what_is_put),
        cmocka_unit_test(buf_grows_over_a_million_puts),
        cmocka_unit_test(buf_prints_short_and_long),
        cmocka_unit_test(buf_remembers_failure),
        cmocka_unit_test(buf_take_hands_the_memory_over),
        cmocka_unit_test(reader_reads_what_buf_wrote),
        cmocka_unit_test(varints_go_there_and_back),
        cmocka_unit_test(varints_beyond_64_bits_fail),
        cmocka_unit_test(reader_survives_hostile_lengths),
    };
    return cmocka_run_group_tests_name("base buf", tests, NULL, NULL);
}
