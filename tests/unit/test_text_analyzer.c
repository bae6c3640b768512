/* test_text_analyzer.c - terms of texts: words, folding, stop words, stems, prefixes; hostile texts. */
#include "text/analyzer.h"

#include "base/hash.h"
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LARGE = 1 << 20 };

static struct analyzer *made(const char *language, size_t reserve) {
    struct status st;
    struct analyzer *a = NULL;
    assert_true(analyzer_new(language, &a, &st));
    assert_true(analyzer_reserve(a, reserve, &st));
    return a;
}

/* "term:count term ...", and what must hold of any answer. */
static void print_terms(const struct terms *t, char *out, size_t size) {
    uint64_t total = 0;
    size_t at = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < t->count; i++) {
        const struct term *term = &t->items[i];
        assert_in_range(term->bytes.len, 1, TERM_BYTES_MAX);
        assert_true(utf8_valid(term->bytes));
        assert_true(term->hash == hash64(0, term->bytes.data, term->bytes.len));
        total += term->count;
        at += (size_t)snprintf(out + at, size - at, term->count == 1 ? "%s%.*s" : "%s%.*s:%u", i == 0 ? "" : " ",
                               (int)term->bytes.len, (const char *)term->bytes.data, term->count);
        assert_true(at < size);
    }
    assert_int_equal(total, t->length);
}

struct golden {
    const char *language;
    const char *text;
    const char *terms;
};

static const struct golden cases[] = {
    {"english", "", ""},
    {"english", "The quick brown foxes jumped over the lazy dogs.", "quick brown fox jump lazi dog"},
    {"english", "Running, runner: RUNS! run", "run:3 runner"},
    {"english", "Don't panic; it's the cat's pyjamas, O\xe2\x80\x99Neil\xe2\x80\x99s too", "panic cat pyjama o'neil"},
    {"english", "to be or not to be", ""},
    {"none", "to be or not to be", "to:2 be:2 or not"},
    {"none", "don't U.S.A. 3.14 end. Next x..y 'quoted' a.", "don't u.s.a 3.14 end next x y quoted a"},
    {"none", "foo_bar foo-bar,baz/qux\tcr\r\nlf", "foo:2 bar:2 baz qux cr lf"},
    {"none", "Caf\xc3\xa9 CAFE\xcc\x81 cafe", "cafe:3"},
    {"none",
     "Stra\xc3\x9f"
     "e STRASSE",
     "strasse:2"},
    {"none", "\xef\xbc\xa1\xef\xbc\xa2\xef\xbc\xa3 \xef\xac\x81n m\xc2\xb2",
     "abc fin m2"}, /* full width, ligature, superscript */
    {"none", "\xce\x9f\xce\x94\xce\x9f\xce\xa3 \xce\xbf\xce\xb4\xcf\x8c\xcf\x82",
     "\xce\xbf\xce\xb4\xce\xbf\xcf\x83:2"}, /* final sigma */
    {"none", "\xd0\x9c\xd0\xbe\xd0\xb9 \xd1\x91\xd0\xbb\xd0\xba\xd0\xb0",
     "\xd0\xbc\xd0\xbe\xd0\xb9 \xd0\xb5\xd0\xbb\xd0\xba\xd0\xb0"}, /* breve kept */
    {"none", "\xe6\x9d\xb1\xe4\xba\xac\xe9\x83\xbd abc\xe6\x9d\xb1", "\xe6\x9d\xb1:2 \xe4\xba\xac \xe9\x83\xbd abc"},
    {"none", "\xe3\x81\x8c\xe3\x81\x8b \xef\xbd\xb6\xef\xbe\x9e",
     "\xe3\x81\x8c \xe3\x81\x8b \xe3\x82\xac"}, /* kana keep their voice */
    {"none", "\xed\x95\x9c\xea\xb5\xad\xec\x96\xb4 \xed\x95\x9c\xea\xb5\xad\xec\x96\xb4",
     "\xed\x95\x9c\xea\xb5\xad\xec\x96\xb4:2"},
    {"none", "soft\xc2\xadhyphen zero\xe2\x80\x8dwidth", "softhyphen zerowidth"},
    {"none", "\xcc\x81\xcc\x82 \xe2\x98\x83 \xf0\x9f\x98\x80 -- ''", ""},
    {"none",
     "a\xff"
     "b \xc3 c\xe2\x82",
     "a b c"},
    {"german",
     "Die H\xc3\xa4user der St\xc3\xa4"
     "dte",
     "haus stadt"},
    {"french", "L'\xc3\xa9t\xc3\xa9 dans les montagnes", "ete montagn"},
    {"russian",
     "\xd0\xba\xd1\x80\xd0\xb0\xd1\x81\xd0\xbd\xd1\x8b\xd0\xb9 \xd0\xb8 \xd0\xba\xd1\x80\xd0\xb0\xd1\x81\xd0\xbd\xd0\xb0\xd1\x8f",
     "\xd0\xba\xd1\x80\xd0\xb0\xd1\x81\xd0\xbd:2"},
};

static void test_golden(void **unused) {
    char got[512];
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct analyzer *a = made(cases[i].language, 256);
        struct terms t;
        for (int pass = 0; pass < 2; pass++) { /* the second time from the cache */
            analyze(a, slice_str(cases[i].text), &t);
            print_terms(&t, got, sizeof got);
            assert_string_equal(got, cases[i].terms);
        }
        analyzer_free(a);
    }
}

static void test_prefix(void **unused) {
    static const struct {
        const char *text;
        const char *terms;
        const char *prefix;
    } queries[] = {
        {"", "", ""},
        {"quick bro", "quick", "bro"},
        {"quick brown ", "quick brown", ""},
        {"quick brown.", "quick brown", ""},
        {"Running", "run", "running"}, /* does not begin its stem */
        {"run run", "run", "run"},
        {"the", "", "the"},
        {"caf\xc3\xa9", "", "cafe"},
        {"x \xe6\x9d\xb1\xe4\xba\xac", "x \xe6\x9d\xb1", "\xe4\xba\xac"},
    };
    char got[256];
    struct analyzer *a = made("english", 256);
    (void)unused;
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
        struct terms t;
        struct slice prefix;
        for (int pass = 0; pass < 2; pass++) {
            analyze_prefix(a, slice_str(queries[i].text), &t, &prefix);
            print_terms(&t, got, sizeof got);
            assert_string_equal(got, queries[i].terms);
            assert_true(slice_is(prefix, queries[i].prefix));
        }
    }
    analyzer_free(a);
}

static void test_languages(void **unused) {
    const char *const *names = language_names();
    struct status st;
    struct analyzer *a = NULL;
    (void)unused;
    assert_string_equal(language_canonical(slice_str("English")), "english");
    assert_string_equal(language_canonical(slice_str("en")), "english");
    assert_string_equal(language_canonical(slice_str("DEU")), "german");
    assert_string_equal(language_canonical(slice_str("None")), LANGUAGE_NONE);
    assert_null(language_canonical(slice_str("")));
    assert_null(language_canonical(slice_str("e")));
    assert_null(language_canonical(slice_str("en fr")));
    assert_null(language_canonical(slice_str("klingon")));
    assert_null(language_canonical(slice_str("englishenglishenglish")));
    for (size_t i = 0; names[i] != NULL; i++) {
        assert_true(i == 0 || strcmp(names[i - 1], names[i]) < 0);
        assert_ptr_equal(language_canonical(slice_str(names[i])), language_canonical(slice_str(names[i])));
        analyzer_free(made(names[i], 16)); /* libstemmer knows them all */
    }
    assert_false(analyzer_new("klingon", &a, &st));
    assert_int_equal(st.code, STATUS_INVALID);
    assert_null(a);
}

static uint64_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* Texts of a megabyte that are one word, all marks, all distinct, all noise: done in a moment, within the room, under ASan. */
static void test_hostile(void **unused) {
    static const char *const patterns[] = {
        "a", "a ", "\xcc\x81", "a\xcc\x81",       "\xef\xb7\xba", "\xef\xb7\xba ", "\xe6\x9d\xb1",
        "'", "a'", "\xff",     "\xf0\x9f\x98\x80"};
    uint8_t *text = malloc(LARGE);
    struct analyzer *a = made("english", LARGE);
    struct terms t;
    uint64_t state = 7;
    (void)unused;
    assert_non_null(text);
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
        size_t length = strlen(patterns[p]);
        for (size_t i = 0; i < LARGE; i++) {
            text[i] = (uint8_t)patterns[p][i % length];
        }
        analyze(a, slice_of(text, LARGE), &t);
        assert_true(t.count <= 2);
    }
    for (size_t i = 0; i + 3 <= LARGE; i += 3) { /* as many distinct terms as there can be: ideographs */
        uint32_t point = 0x4e00 + (uint32_t)(i / 3 % 0x5000);
        text[i] = (uint8_t)(0xe0 | point >> 12);
        text[i + 1] = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        text[i + 2] = (uint8_t)(0x80 | (point & 0x3f));
    }
    analyze(a, slice_of(text, LARGE), &t);
    assert_int_equal(t.count, 0x5000);
    for (int pass = 0; pass < 4; pass++) {
        for (size_t i = 0; i < LARGE; i++) {
            uint64_t r = next_random(&state);
            text[i] = pass < 2 ? (uint8_t)(r >> 3) : (uint8_t)("abcdefghijklmnopqrstuvwxyz0123456789 .'\xc3\xa9"[r % 42]);
        }
        analyze(a, slice_of(text, LARGE), &t);
        for (uint32_t i = 0; i < t.count; i++) {
            assert_in_range(t.items[i].bytes.len, 1, TERM_BYTES_MAX);
            assert_true(utf8_valid(t.items[i].bytes));
        }
    }
    analyzer_free(a);
    free(text);
}

/* The same text gives the same terms whatever the analyzer met before and whatever its room. */
static void test_same_everywhere(void **unused) {
    static const char letters[] = "aabcdeefghiijklmnoprstuu  \xc3\xa9";
    struct analyzer *used = made("english", LARGE);
    uint64_t state = 3;
    (void)unused;
    for (int i = 0; i < 300; i++) {
        char text[300];
        size_t length = 1 + next_random(&state) % sizeof text;
        for (size_t j = 0; j < length; j++) {
            text[j] = letters[next_random(&state) % (sizeof letters - 1)];
        }
        struct analyzer *fresh = made("english", length);
        struct terms a;
        struct terms b;
        analyze(used, slice_of(text, length), &a);
        analyze(fresh, slice_of(text, length), &b);
        assert_int_equal(a.count, b.count);
        assert_int_equal(a.length, b.length);
        for (uint32_t t = 0; t < a.count; t++) {
            assert_true(slice_equal(a.items[t].bytes, b.items[t].bytes));
            assert_int_equal(a.items[t].count, b.items[t].count);
        }
        analyzer_free(fresh);
    }
    analyzer_free(used);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),  cmocka_unit_test(test_prefix),          cmocka_unit_test(test_languages),
        cmocka_unit_test(test_hostile), cmocka_unit_test(test_same_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
