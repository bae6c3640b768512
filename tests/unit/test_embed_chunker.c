/* test_embed_chunker.c - the chunker: what holds for any text, where it likes to cut, and that its time is linear. */
#include "base/utf8.h"
#include "embed/chunker.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { RANDOM_TEXTS = 3000, RANDOM_PIECES = 300, ALL = 1 << 30, HOSTILE_BYTES = 1 << 18 };

static size_t cut(struct slice text, uint32_t max_tokens, uint32_t overlap, struct chunk_span **ret) {
    size_t count;
    struct status st;
    assert_true(chunker_cut(text, max_tokens, overlap, ALL, ret, &count, &st));
    return count;
}

/* With one token a chunk, there are as many chunks as tokens; text without a token is one chunk all the same. */
static size_t count_tokens(struct slice text) {
    struct chunk_span *spans;
    size_t count = cut(text, 1, 0, &spans);
    free(spans);
    return count;
}

static bool at_code_point(struct slice text, size_t at) {
    return at == text.len || (text.data[at] & 0xc0) != 0x80;
}

/* Everything that chunker.h promises. */
static void holds(struct slice text, uint32_t max_tokens, uint32_t overlap) {
    struct chunk_span *spans = NULL;
    size_t count = cut(text, max_tokens, overlap, &spans);
    size_t end = 0;
    size_t own_tokens = 0;
    for (size_t i = 0; i < count; i++) {
        const struct chunk_span *s = &spans[i];
        assert_int_equal(s->begin, end);
        assert_true(s->end > s->begin);
        assert_true(s->overlap <= s->begin);
        assert_true(at_code_point(text, s->end));
        assert_true(at_code_point(text, s->begin - s->overlap));
        size_t begin = s->begin - s->overlap;
        size_t tokens = count_tokens(slice_of(text.data + begin, s->end - begin));
        assert_in_range(tokens, 1, max_tokens);
        if (i > 0) {
            size_t repeated = s->overlap == 0 ? 0 : count_tokens(slice_of(text.data + begin, s->overlap));
            assert_int_equal(repeated, own_tokens < overlap ? own_tokens : overlap);
            assert_true(begin >= spans[i - 1].begin - spans[i - 1].overlap);
        } else {
            assert_int_equal(s->overlap, 0);
        }
        own_tokens += count_tokens(slice_of(text.data + s->begin, s->end - s->begin));
        end = s->end;
    }
    assert_int_equal(end, text.len);
    free(spans);
}

static void random_text(struct buf *out) {
    static const char *const pieces[] = {"a",
                                         "word",
                                         "Word",
                                         "\u00e9t\u00e9",
                                         "e\u0301",
                                         "\u6771",
                                         "\u4eac\u3002",
                                         "\U0001f6b2",
                                         " ",
                                         " ",
                                         " ",
                                         "\n",
                                         "\n\n",
                                         ".",
                                         ". ",
                                         "! ",
                                         ",",
                                         "-",
                                         "# ",
                                         "\r\n",
                                         "\u2029",
                                         "\u00ad",
                                         "\u200d",
                                         "42",
                                         "\u0301",
                                         "antidisestablishmentarianismus",
                                         "\u043a\u043e\u0442",
                                         "\u00a0",
                                         "\t",
                                         "\u2026",
                                         ")",
                                         "\""};
    size_t count = (size_t)random() % RANDOM_PIECES;
    buf_reset(out);
    for (size_t i = 0; i < count; i++) {
        buf_put_str(out, pieces[(size_t)random() % (sizeof pieces / sizeof pieces[0])]);
    }
    assert_true(buf_ok(out));
    assert_true(utf8_valid(buf_slice(out)));
}

static void promises_on_random_text(void **state) {
    (void)state;
    struct buf text;
    buf_init(&text);
    srandom(3);
    for (int round = 0; round < RANDOM_TEXTS; round++) {
        random_text(&text);
        uint32_t max_tokens = 1 + (uint32_t)random() % 40;
        holds(buf_slice(&text), max_tokens, (uint32_t)random() % max_tokens);
    }
    buf_fini(&text);
}

static void tokens(void **state) {
    (void)state;
    assert_int_equal(count_tokens(slice_str("one two  three\n")), 3);
    assert_int_equal(count_tokens(slice_str("  one, two.")), 4);
    assert_int_equal(count_tokens(slice_str("\u6771\u4eac\u90fd")), 3);
    assert_int_equal(count_tokens(slice_str("e\u0301te\u0301")), 1);
    assert_int_equal(count_tokens(slice_str("sixteen16letters")), 1);
    assert_int_equal(count_tokens(slice_str("seventeen17letter")), 2);
    assert_int_equal(count_tokens(slice_str("   ")), 1);
    assert_int_equal(count_tokens(slice_str("")), 0);
}

static void cuts_are(const char *text, uint32_t max_tokens, uint32_t overlap, const char *expected) {
    struct chunk_span *spans;
    struct slice source = slice_str(text);
    size_t count = cut(source, max_tokens, overlap, &spans);
    struct buf got;
    buf_init(&got);
    for (size_t i = 0; i < count; i++) {
        buf_put_str(&got, i > 0 ? "|" : "");
        buf_put(&got, source.data + spans[i].begin - spans[i].overlap, spans[i].overlap);
        buf_put_str(&got, spans[i].overlap > 0 ? ">" : "");
        buf_put(&got, source.data + spans[i].begin, spans[i].end - spans[i].begin);
    }
    buf_put_u8(&got, 0);
    assert_true(buf_ok(&got));
    assert_string_equal((const char *)got.data, expected);
    buf_fini(&got);
    free(spans);
}

static void cuts_where_people_would(void **state) {
    (void)state;
    cuts_are("one two three", 8, 0, "one two three");
    cuts_are("one two three four five", 2, 0, "one two |three four |five");
    cuts_are("A b c d.\n\nE f g.", 8, 0, "A b c d.\n\n|E f g.");
    cuts_are("A b c d\nE f g. H i", 8, 0, "A b c d\n|E f g. H i");
    cuts_are("A b c. D e f g h i", 7, 0, "A b c. |D e f g h i");
    cuts_are("a b c d\ne f g h", 6, 0, "a b c d\ne f |g h");
    cuts_are("Go on, e.g. a b c d", 10, 0, "Go on, e.g. a b c |d");
    cuts_are("He said \"no.\" Then left now", 8, 0, "He said \"no.\" |Then left now");
    cuts_are("\u4e00\u4e8c\u3002\u4e09\u56db", 4, 0, "\u4e00\u4e8c\u3002|\u4e09\u56db");
    cuts_are("foo-bar baz-qux", 5, 0, "foo-bar |baz-qux");
}

/* A cut near the begin would leave a chunk that says little: then the next worse place is taken. */
static void chunks_are_half_full(void **state) {
    (void)state;
    cuts_are("A.\n\nb c d e f g h i", 8, 0, "A.\n\nb c d e f g |h i");
}

static void headings_stay_with_their_text(void **state) {
    (void)state;
    cuts_are("a b c d\n\n# Title\n\nx y z", 7, 0, "a b c d\n\n|# Title\n\nx y z");
    cuts_are("a b c\n\nC # Title\n\nx y z", 7, 0, "a b c\n\nC # Title\n\n|x y z");
}

static void overlap_repeats_tokens(void **state) {
    (void)state;
    cuts_are("a b c d e f", 3, 1, "a b c |c >d e |e >f");
    cuts_are("a b c d e", 3, 2, "a b c |b c >d |c d >e");
    cuts_are("a. B c d", 3, 2, "a. |a. >B |. B >c |B c >d");
}

static void white_space_belongs_somewhere(void **state) {
    (void)state;
    cuts_are("", 5, 0, "");
    cuts_are(" \n ", 5, 2, " \n ");
    cuts_are("  a  b  ", 1, 0, "  a  |b  ");
    cuts_are("\u0301a", 1, 0, "\u0301a");
}

static void limits(void **state) {
    (void)state;
    struct chunk_span *spans = NULL;
    size_t count = 99;
    struct status st;
    assert_true(chunker_cut(slice_str("a b c"), 1, 0, 3, &spans, &count, &st));
    assert_int_equal(count, 3);
    free(spans);
    spans = NULL;
    count = 99;
    assert_false(chunker_cut(slice_str("a b c"), 1, 0, 2, &spans, &count, &st));
    assert_int_equal(st.code, STATUS_TOO_LARGE);
    assert_false(chunker_cut(slice_str("a"), 0, 0, 9, &spans, &count, &st));
    assert_int_equal(st.code, STATUS_INVALID);
    assert_false(chunker_cut(slice_str("a"), 4, 4, 9, &spans, &count, &st));
    assert_int_equal(st.code, STATUS_INVALID);
    assert_null(spans);
    assert_int_equal(count, 99);
}

/* Anything quadratic takes minutes on these; what is linear, a moment, under valgrind seconds. */
static void hostile_texts_take_linear_time(void **state) {
    (void)state;
    static const char *const pieces[] = {"a",           " ", "\n", ".", "a ", "A. ", "\u0301", "\u6771", "a                    ",
                                         "A.\n\nb c d "};
    static const uint32_t sizes[][2] = {{1, 0}, {2, 1}, {256, 32}, {4096, 4095}, {UINT32_MAX, UINT32_MAX - 1}};
    struct buf text;
    buf_init(&text);
    for (size_t p = 0; p < sizeof pieces / sizeof pieces[0]; p++) {
        buf_reset(&text);
        while (text.len < HOSTILE_BYTES) {
            buf_put_str(&text, pieces[p]);
        }
        assert_true(buf_ok(&text));
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            struct chunk_span *spans;
            size_t count = cut(buf_slice(&text), sizes[s][0], sizes[s][1], &spans);
            assert_int_equal(spans[count - 1].end, text.len);
            free(spans);
        }
    }
    buf_fini(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(promises_on_random_text),        cmocka_unit_test(tokens),
        cmocka_unit_test(cuts_where_people_would),        cmocka_unit_test(chunks_are_half_full),
        cmocka_unit_test(headings_stay_with_their_text),  cmocka_unit_test(overlap_repeats_tokens),
        cmocka_unit_test(white_space_belongs_somewhere),  cmocka_unit_test(limits),
        cmocka_unit_test(hostile_texts_take_linear_time),
    };
    return cmocka_run_group_tests_name("embed chunker", tests, NULL, NULL);
}
