/* utf8 against a slow reference that decodes a sequence and asks whether encoding gives the same bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/utf8.h"

static size_t encode(uint32_t code, uint8_t out[4]) {
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (uint8_t)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (uint8_t)(leads[len] | code);
    return len;
}

static bool is_scalar(uint32_t code) {
    return code < 0xD800 || (code > 0xDFFF && code <= 0x10FFFF);
}

/* Whether all `len` bytes are exactly one code point. */
static bool reference_single(const uint8_t *bytes, size_t len) {
    uint8_t again[4];
    uint32_t code = len == 1 ? bytes[0] : bytes[0] & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++) {
        code = code << 6 | (bytes[i] & 0x3Fu);
    }
    return is_scalar(code) && encode(code, again) == len && memcmp(again, bytes, len) == 0;
}

static bool reference_valid(const uint8_t *bytes, size_t len) {
    size_t at = 0;
    while (at < len) {
        size_t take = 1;
        while (take <= 4 && at + take <= len && !reference_single(bytes + at, take)) {
            take++;
        }
        if (take > 4 || at + take > len) {
            return false;
        }
        at += take;
    }
    return true;
}

static void every_code_point_is_taken(void **state) {
    (void)state;
    uint8_t bytes[4];
    for (uint32_t code = 0; code < 0x120000; code++) {
        size_t len = encode(code, bytes);
        struct slice s = slice_of(bytes, len);
        size_t at = 0;
        assert_int_equal(utf8_valid(s), is_scalar(code));
        if (is_scalar(code)) {
            assert_int_equal(utf8_next(s, &at), code);
            assert_int_equal(at, len);
        } else {
            assert_int_equal(utf8_next(s, &at), 0xFFFD);
            assert_int_equal(at, 1);
        }
    }
}

static void short_sequences_agree_with_the_reference(void **state) {
    (void)state;
    for (uint32_t v = 0; v < 1u << 24; v += v < 1u << 16 ? 1 : 7) {
        uint8_t b[3] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16)};
        for (size_t len = 1; len <= sizeof b; len++) {
            assert_int_equal(utf8_valid(slice_of(b, len)), reference_valid(b, len));
        }
    }
}

static void long_sequences_agree_with_the_reference(void **state) {
    (void)state;
    static const uint8_t edges[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
    for (int lead = 0xC0; lead <= 0xFF; lead++) {
        for (int second = 0; second < 256; second++) {
            for (size_t i = 0; i < sizeof edges * sizeof edges; i++) {
                uint8_t b[4] = {(uint8_t)lead, (uint8_t)second, edges[i / sizeof edges], edges[i % sizeof edges]};
                assert_int_equal(utf8_valid(slice_of(b, 4)), reference_valid(b, 4));
            }
        }
    }
}

/* A fault is found wherever it stands among ASCII, also where eight bytes are looked at together. */
static void faults_are_found_in_every_place(void **state) {
    (void)state;
    uint8_t text[40];
    for (size_t len = 1; len <= sizeof text; len++) {
        for (size_t at = 0; at < len; at++) {
            memset(text, 'x', sizeof text);
            assert_true(utf8_valid(slice_of(text, len)));
            text[at] = 0xC3;
            assert_false(utf8_valid(slice_of(text, len)));
            if (at + 1 < len) {
                text[at + 1] = 0xA4;
                assert_true(utf8_valid(slice_of(text, len)));
            }
        }
    }
    assert_true(utf8_valid(slice_of(NULL, 0)));
}

static void controls_are_found(void **state) {
    (void)state;
    uint8_t bytes[4];
    for (uint32_t code = 0; code < 0x3000; code++) {
        size_t len = encode(code, bytes);
        bool control = code < 0x20 || (code >= 0x7F && code <= 0x9F);
        assert_int_equal(utf8_has_control(slice_of(bytes, len)), control);
    }
    assert_false(utf8_has_control(slice_str("plain t\xC3\xA4xt \xE2\x82\xAC")));
    assert_true(utf8_has_control(slice_str("one\ttab")));
    assert_true(utf8_has_control(slice_str("next\xC2\x85line")));
}

static void prefixes_end_between_code_points(void **state) {
    (void)state;
    struct slice text = slice_str("a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80z");
    static const size_t ends[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
    for (size_t max = 0; max < sizeof ends / sizeof ends[0]; max++) {
        assert_int_equal(utf8_prefix(text, max), ends[max]);
    }
    assert_int_equal(utf8_prefix(text, SIZE_MAX), text.len);
    assert_int_equal(utf8_prefix(slice_of(NULL, 0), 5), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_is_taken),
        cmocka_unit_test(short_sequences_agree_with_the_reference),
        cmocka_unit_test(long_sequences_agree_with_the_reference),
        cmocka_unit_test(faults_are_found_in_every_place),
        cmocka_unit_test(controls_are_found),
        cmocka_unit_test(prefixes_end_between_code_points),
    };
    return cmocka_run_group_tests_name("base utf8", tests, NULL, NULL);
}
