/* Numbers: scan_float against strtof, what is written against what reads back, base64 against RFC 4648. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/decimal.h"
#include "base/json_front.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { TEXT_MAX = 512, SCANNED = 2000000, WRITTEN = 300000, QUICK_SHARE = 50 };

/* Under memcheck, some forty times slower, scripts/check asks for fewer rounds. */
static int rounds(int all) {
    return getenv("QUIRE_TEST_QUICK") == NULL ? all : all / QUICK_SHARE;
}


static uint64_t next_random(uint64_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static float float_of_bits(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static bool same_bits(float a, float b) {
    return memcmp(&a, &b, sizeof a) == 0;
}

/* The text is copied to where it ends at the end of an allocation, so that a read beyond it is noticed. */
static void check_scan(const char *text) {
    size_t len = strlen(text);
    char *exact = (char *)malloc(len);
    float got = 77;
    assert_non_null(exact);
    memcpy(exact, text, len);
    size_t used = scan_float(exact, len, &got);
    if (used != len || !same_bits(got, strtof(text, NULL))) {
        fail_msg("%s: used %zu, got %a, strtof says %a", text, used, (double)got, (double)strtof(text, NULL));
    }
    free(exact);
}

/* The last digit of a text such as "1.234e-5" one up. */
static void nudge(char *text) {
    char *e = strchr(text, 'e');
    if (e != NULL && e[-1] >= '0' && e[-1] < '9') {
        e[-1]++;
    }
}

static void random_text(uint64_t *x, char text[TEXT_MAX]) {
    uint64_t r = next_random(x);
    uint64_t shifted = r >> (next_random(x) % 64);
    int small = (int)(next_random(x) % 20);
    switch (next_random(x) % 6) {
    case 0: /* doubles as programs print them */
        (void)snprintf(text, TEXT_MAX, "%.*g", small + 1, (double)(int64_t)r * pow(10, (double)(next_random(x) % 60) - 50));
        break;
    case 1:
        (void)snprintf(text, TEXT_MAX, "%llu.%llu", (unsigned long long)shifted, (unsigned long long)next_random(x));
        break;
    case 2:
        (void)snprintf(text, TEXT_MAX, "%llue%d", (unsigned long long)shifted, (int)(next_random(x) % 120) - 70);
        break;
    case 3: /* floats, near enough and not */
        (void)snprintf(text, TEXT_MAX, "%.*g", small % 12 + 1, (double)float_of_bits((uint32_t)r & 0xFF7FFFFFu));
        break;
    case 4: { /* the middle between two floats, cut short or written out, or just beside it */
        uint32_t bits = (uint32_t)r % 0x7F7FFFFFu;
        double middle = ((double)float_of_bits(bits) + (double)float_of_bits(bits + 1)) / 2;
        (void)snprintf(text, TEXT_MAX, "%.*e", 5 + small * 8, middle);
        if ((r >> 40 & 1) != 0) {
            nudge(text);
        }
        break;
    }
    default:
        (void)snprintf(text, TEXT_MAX, "0.%0*llu", small + 1, (unsigned long long)shifted);
    }
}

static void scan_agrees_with_strtof(void **state) {
    (void)state;
    uint64_t x = 88172645463325252U;
    char text[TEXT_MAX];
    for (int i = 0; i < rounds(SCANNED); i++) {
        random_text(&x, text);
        check_scan(text);
    }
}

/* Far more digits than are looked at: only the last one says which side of a midpoint it is. */
static void scan_looks_at_every_digit(void **state) {
    (void)state;
    enum { ZEROS = 3000 };
    static const char *const heads[] = {"16777217", "1.00000005960464477539062", "0.00000000000000000000000000000000000001"};
    char *text = (char *)malloc(ZEROS + 100);
    assert_non_null(text);
    for (size_t i = 0; i < 3; i++) {
        size_t len = (size_t)sprintf(text, "%s%s", heads[i], strchr(heads[i], '.') != NULL ? "" : ".");
        memset(text + len, '0', ZEROS);
        text[len + ZEROS] = '\0';
        check_scan(text);
        text[len + ZEROS - 1] = '1';
        check_scan(text);
    }
    /* A thousand zeros in front, and an exponent that takes them back. */
    memset(text, '0', ZEROS);
    text[1] = '.';
    (void)sprintf(text + ZEROS, "314159e%d", ZEROS);
    check_scan(text);
    free(text);
}

static void scan_takes_edges(void **state) {
    (void)state;
    static const char *const good[] = {"0",
                                       "-0",
                                       "-0.0",
                                       "0e5",
                                       "0.0e-999999999999999999999",
                                       "1",
                                       "3.4028234663852886e38",
                                       "3.40282356e38",
                                       "3.4028235677973366e38",
                                       "3.5e38",
                                       "-1e39",
                                       "1e999999999999999999999",
                                       "1e-999999999999999999999",
                                       "1.17549435e-38",
                                       "1.4e-45",
                                       "7.0e-46",
                                       "7.1e-46",
                                       "1E+5",
                                       "1e-05",
                                       "9007199254740993",
                                       "18446744073709551615",
                                       "18446744073709551616",
                                       "99999999999999999999",
                                       "0.1",
                                       "123456789012345678901234567890",
                                       "12345678",
                                       "1234567.8"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        check_scan(good[i]);
    }
}

static void scan_stops_or_refuses(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t used;
    } cases[] = {{"1.5,2", 3}, {"1.5]", 3}, {"01", 1},   {"-01", 2},      {"0x10", 1}, {"12 ", 2}, {"1e5e", 3}, {"", 0},
                 {"-", 0},     {"+1", 0},   {".5", 0},   {"1.", 0},       {"1.e5", 0}, {"1e", 0},  {"1e+", 0},  {"1e-x", 0},
                 {"NaN", 0},   {"inf", 0},  {"-Inf", 0}, {"Infinity", 0}, {" 1", 0},   {"--1", 0}, {"1.-5", 0}, {"e5", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float v = 77;
        assert_int_equal(scan_float(cases[i].text, strlen(cases[i].text), &v), cases[i].used);
        assert_true(cases[i].used != 0 || v == 77.0F);
    }
    float v = 0;
    assert_int_equal(scan_float("1234", 2, &v), 2);
    assert_true(v == 12.0F);
    assert_int_equal(scan_float("1e5", 2, &v), 0);
}

static unsigned significant_digits(const char *text) {
    unsigned count = 0;
    unsigned zeros = 0;
    for (; *text != '\0' && *text != 'e'; text++) {
        if (*text >= '1' && *text <= '9') {
            count += zeros + 1;
            zeros = 0;
        } else if (*text == '0' && count > 0) {
            zeros++;
        }
    }
    return count;
}

static unsigned fewest_digits(float v) {
    char text[64];
    for (unsigned digits = 1;; digits++) {
        (void)snprintf(text, sizeof text, "%.*e", (int)digits - 1, (double)v);
        if (digits == FLT_DECIMAL_DIG || strtof(text, NULL) == v) {
            return digits;
        }
    }
}

static void check_float_text(float v) {
    char text[DECIMAL_TEXT_MAX + 1];
    text[decimal_format_float(v, text)] = '\0';
    float back = strtof(text, NULL);
    if (!same_bits(back, v) || (v != 0 && significant_digits(text) > fewest_digits(v))) {
        fail_msg("%a is written as %s", (double)v, text);
    }
}

static void floats_are_written_short_and_read_back(void **state) {
    (void)state;
    uint64_t x = 12345;
    for (int i = 0; i < rounds(WRITTEN); i++) {
        float v = float_of_bits((uint32_t)next_random(&x));
        if (isfinite(v)) {
            check_float_text(v);
        }
        check_float_text((float)((double)(next_random(&x) >> 11) / (double)(1ULL << 53) - 0.5));
    }
    for (uint32_t exponent = 0; exponent < 255; exponent++) {
        check_float_text(float_of_bits(exponent << 23));
        check_float_text(float_of_bits((exponent << 23) + 1));
        check_float_text(float_of_bits((exponent << 23) + 0x7FFFFF));
    }
    for (uint32_t subnormal = 0; subnormal < 3000; subnormal++) {
        check_float_text(float_of_bits(subnormal));
    }
}

static void check_written(float v, const char *wanted) {
    char text[DECIMAL_TEXT_MAX + 1];
    text[decimal_format_float(v, text)] = '\0';
    assert_string_equal(text, wanted);
}

static void floats_look_like_numbers(void **state) {
    (void)state;
    check_written(0.0F, "0");
    check_written(-0.0F, "-0");
    check_written(1.0F, "1");
    check_written(-0.5F, "-0.5");
    check_written(0.1F, "0.1");
    check_written(100.0F, "100");
    check_written(16777216.0F, "16777216");
    check_written(1e9F, "1e9");
    check_written(1.5e20F, "1.5e20");
    check_written(1e-5F, "0.00001");
    check_written(1.25e-7F, "1.25e-7");
    check_written(FLT_MAX, "3.4028235e38");
    check_written(-FLT_TRUE_MIN, "-1e-45");
    check_written(0.3F, "0.3");
}

static void doubles_are_rounded_as_printf_rounds(void **state) {
    (void)state;
    uint64_t x = 999;
    for (int i = 0; i < rounds(WRITTEN); i++) {
        double v;
        uint64_t bits = next_random(&x);
        memcpy(&v, &bits, sizeof v);
        if ((i & 1) != 0) {
            v = (double)(int64_t)(bits >> (bits % 63)) * pow(10, -(double)(bits >> 8 & 15));
        }
        if (!isfinite(v)) {
            continue;
        }
        char text[DECIMAL_TEXT_MAX + 1];
        char wanted[64];
        text[decimal_format_double(v, text)] = '\0';
        (void)snprintf(wanted, sizeof wanted, "%.9g", v);
        if (strtod(text, NULL) != strtod(wanted, NULL)) {
            fail_msg("%a is written as %s, not %s", v, text, wanted);
        }
    }
}

static void check_base64(const char *bytes, const char *text) {
    struct buf b;
    buf_init(&b);
    base64_encode(slice_str(bytes), &b);
    assert_true(slice_is(buf_slice(&b), text));
    buf_reset(&b);
    assert_true(base64_decode(slice_str(text), &b));
    assert_true(slice_is(buf_slice(&b), bytes));
    buf_fini(&b);
}

/* RFC 4648, section 10. */
static void base64_matches_the_rfc(void **state) {
    (void)state;
    check_base64("", "");
    check_base64("f", "Zg==");
    check_base64("fo", "Zm8=");
    check_base64("foo", "Zm9v");
    check_base64("foob", "Zm9vYg==");
    check_base64("fooba", "Zm9vYmE=");
    check_base64("foobar", "Zm9vYmFy");
    check_base64("\xFB\xEF\xFF", "++//");
}

static void base64_is_canonical(void **state) {
    (void)state;
    static const char *const bad[] = {"Z",      "Zg",    "Zg=",  "Zh==",  "Zm9=", "Z===",       "====",  "=Zg=", "Zg==Zg==",
                                      "Zm9v\n", "Zm9v ", "Zm-_", "Zm9v=", "Zg=a", "\xC3\xA4zz", "Zm9vZ", "Z g="};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buf b;
        buf_init(&b);
        buf_put_str(&b, "before");
        assert_false(base64_decode(slice_str(bad[i]), &b));
        assert_true(slice_is(buf_slice(&b), "before"));
        buf_fini(&b);
    }
}

static void base64_goes_there_and_back(void **state) {
    (void)state;
    uint64_t x = 5;
    uint8_t bytes[200];
    struct buf text;
    struct buf back;
    buf_init(&text);
    buf_init(&back);
    for (size_t len = 0; len <= sizeof bytes; len++) {
        for (size_t i = 0; i < len; i++) {
            bytes[i] = (uint8_t)next_random(&x);
        }
        buf_reset(&text);
        buf_reset(&back);
        base64_encode(slice_of(bytes, len), &text);
        assert_int_equal(text.len, (len + 2) / 3 * 4);
        assert_true(base64_decode(buf_slice(&text), &back));
        assert_true(slice_equal(buf_slice(&back), slice_of(bytes, len)));
    }
    buf_fini(&text);
    buf_fini(&back);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan_agrees_with_strtof),
        cmocka_unit_test(scan_looks_at_every_digit),
        cmocka_unit_test(scan_takes_edges),
        cmocka_unit_test(scan_stops_or_refuses),
        cmocka_unit_test(floats_are_written_short_and_read_back),
        cmocka_unit_test(floats_look_like_numbers),
        cmocka_unit_test(doubles_are_rounded_as_printf_rounds),
        cmocka_unit_test(base64_matches_the_rfc),
        cmocka_unit_test(base64_is_canonical),
        cmocka_unit_test(base64_goes_there_and_back),
    };
    return cmocka_run_group_tests_name("base number", tests, NULL, NULL);
}
