/* test_embed_segments.c - sentences and grapheme clusters, held against the tests that come with Unicode. */
#include "base/utf8.h"
#include "embed/segments.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LINE_MAX_BYTES = 4096, GOLDEN_LEAST = 1000 };

static unsigned nibble(char digit) {
    return digit <= '9' ? (unsigned)(digit - '0') : (unsigned)(digit - 'a' + 10);
}

/* "S 61c3 62" -> the bytes, and where each segment ends. */
static size_t read_line(const char *line, uint8_t *bytes, size_t *ends, size_t *ret_segments) {
    size_t len = 0;
    *ret_segments = 0;
    for (const char *c = line + 1; *c == ' ';) {
        for (c++; *c > ' '; c += 2) {
            bytes[len++] = (uint8_t)(nibble(c[0]) << 4 | nibble(c[1]));
        }
        ends[(*ret_segments)++] = len;
    }
    return len;
}

static void unicode_agrees(void **state) {
    (void)state;
    char line[LINE_MAX_BYTES];
    uint8_t bytes[LINE_MAX_BYTES];
    size_t ends[LINE_MAX_BYTES];
    size_t lines = 0;
    FILE *golden = fopen(GOLDEN_SEGMENTS, "r");
    assert_non_null(golden);
    for (; fgets(line, sizeof line, golden) != NULL; lines++) {
        size_t count = 0;
        struct slice text = slice_of(bytes, 0);
        text.len = read_line(line, bytes, ends, &count);
        assert_true(utf8_valid(text));
        size_t at = 0;
        for (size_t i = 0; i < count; i++) {
            at = line[0] == 'S' ? sentence_end(text, at, LINES_END_SENTENCES) : cluster_end(text, at);
            if (at != ends[i]) {
                fail_msg("segment %zu of \"%s\" ends at %zu, not %zu", i, line, at, ends[i]);
            }
        }
        assert_int_equal(at, text.len);
    }
    fclose(golden);
    assert_true(lines > GOLDEN_LEAST);
}

static void sentences_are(const char *text, enum sentence_lines lines, const char *expected) {
    char got[LINE_MAX_BYTES];
    size_t len = 0;
    struct slice source = slice_str(text);
    for (size_t at = 0; at < source.len;) {
        size_t end = sentence_end(source, at, lines);
        assert_in_range(end, at + 1, source.len);
        memcpy(got + len, source.data + at, end - at);
        len += end - at;
        got[len++] = '|';
        at = end;
    }
    got[len] = '\0';
    assert_string_equal(got, expected);
}

static void sentences(void **state) {
    (void)state;
    sentences_are("", LINES_END_SENTENCES, "");
    sentences_are("It is 3.4 km, i.e. far. Go! \"Now?\" Yes.", LINES_END_SENTENCES, "It is 3.4 km, i.e. far. |Go! |\"Now?\" |Yes.|");
    sentences_are("\u4e00\u4e8c\u3002\u4e09\u3002\u300d\u56db", LINES_END_SENTENCES, "\u4e00\u4e8c\u3002|\u4e09\u3002\u300d|\u56db|");
    sentences_are("\u0645\u0631\u062d\u0628\u0627\u061f \u0646\u0639\u0645.", LINES_END_SENTENCES, "\u0645\u0631\u062d\u0628\u0627\u061f |\u0646\u0639\u0645.|");
    sentences_are("a\r\nb\nc", LINES_END_SENTENCES, "a\r\n|b\n|c|");
    sentences_are("One is\nwrapped. Two\r\nis.\nThree", LINES_ARE_WRAPPED, "One is\nwrapped. |Two\r\nis.\n|Three|");
}

/* Every code point has a place in the table, and a handful have the right one. */
static void classes(void **state) {
    (void)state;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        struct segment_kind kind = segment_kind_of(c);
        assert_in_range(kind.sentence, SENTENCE_OTHER, SENTENCE_CLOSE);
        assert_in_range(kind.cluster, CLUSTER_OTHER, CLUSTER_PICTURE);
    }
    assert_int_equal(segment_kind_of('a').sentence, SENTENCE_LOWER);
    assert_int_equal(segment_kind_of(0x3002).sentence, SENTENCE_STERM);
    assert_int_equal(segment_kind_of(0x1f469).cluster, CLUSTER_PICTURE);
    assert_int_equal(segment_kind_of(0xac00).cluster, CLUSTER_HANGUL_LV);
    assert_int_equal(segment_kind_of(0xe0100).cluster, CLUSTER_EXTEND);
    assert_int_equal(segment_kind_of(0x10ffff).sentence, SENTENCE_OTHER);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(unicode_agrees), cmocka_unit_test(sentences), cmocka_unit_test(classes)};
    return cmocka_run_group_tests_name("embed segments", tests, NULL, NULL);
}
