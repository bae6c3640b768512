/*
 * test_embed_wordpiece.c - the tokenizer against the reference's answers (tests/golden/wordpiece.tsv.gz), and what a vocabulary must be.
 *
 * The golden file has a vocabulary, an empty line, then texts with their tokens: see tests/golden/make_wordpiece.py.
 */
#include "base/bytes.h"
#include "embed/wordpiece.h"

#include <archive.h>
#include <archive_entry.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LEAST_TEXTS = 10000, MOST_SHOWN = 20, READ_BYTES = 65536 };

static struct buf golden;
static size_t texts_at; /* where its texts begin */
static struct buf bytes;
static struct buf ends;
static struct wordpiece vocabulary;

/* The golden file, unpacked. */
static void read_golden(struct buf *out) {
    const char *path = getenv("QUIRE_GOLDEN_WORDPIECE"); /* another one, made with --every */
    struct archive *a = archive_read_new();
    struct archive_entry *entry;
    assert_non_null(a);
    assert_int_equal(archive_read_support_format_raw(a), ARCHIVE_OK);
    assert_int_equal(archive_read_support_filter_gzip(a), ARCHIVE_OK);
    assert_int_equal(archive_read_open_filename(a, path != NULL ? path : GOLDEN_WORDPIECE, READ_BYTES), ARCHIVE_OK);
    assert_int_equal(archive_read_next_header(a, &entry), ARCHIVE_OK);
    for (;;) {
        uint8_t block[READ_BYTES];
        la_ssize_t got = archive_read_data(a, block, sizeof block);
        assert_true(got >= 0);
        if (got == 0) {
            break;
        }
        buf_put(out, block, (size_t)got);
    }
    assert_true(buf_ok(out));
    archive_read_free(a);
}

/* The line at *at without its end; steps behind it. */
static struct slice next_line(struct slice text, size_t *at) {
    const uint8_t *line = text.data + *at;
    const uint8_t *end = memchr(line, '\n', text.len - *at);
    assert_non_null(end);
    *at += (size_t)(end - line) + 1;
    return slice_of(line, (size_t)(end - line));
}

static int set_up(void **state) {
    struct status st;
    struct slice token;
    (void)state;
    buf_init(&golden);
    buf_init(&bytes);
    buf_init(&ends);
    read_golden(&golden);
    while ((token = next_line(buf_slice(&golden), &texts_at)).len > 0) {
        buf_put_slice(&bytes, token);
        buf_put_u32le(&ends, (uint32_t)bytes.len);
    }
    assert_true(wordpiece_init(&vocabulary, buf_slice(&bytes), buf_slice(&ends), &st));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    wordpiece_fini(&vocabulary);
    wordpiece_fini(&vocabulary);
    wordpiece_fini(NULL);
    buf_fini(&golden);
    buf_fini(&bytes);
    buf_fini(&ends);
    return 0;
}

/* --- the golden file ------------------------------------------------------------------------------------------------ */

static unsigned hex_digit(uint8_t c) {
    return c <= '9' ? c - (unsigned)'0' : c - (unsigned)'a' + 10U;
}

static void unescape(struct slice line, struct buf *out) {
    buf_reset(out);
    for (size_t i = 0; i < line.len; i++) {
        if (line.data[i] == '\\') {
            buf_put_u8(out, (uint8_t)(hex_digit(line.data[i + 2]) << 4 | hex_digit(line.data[i + 3])));
            i += 3;
        } else {
            buf_put_u8(out, line.data[i]);
        }
    }
}

/* The tokens of a text as the golden file writes them. */
static void tokens_of(struct slice text, struct buf *out) {
    struct wordpiece_cursor cursor;
    uint32_t tokens[WORDPIECE_WORD_MAX];
    uint32_t count;
    buf_reset(out);
    wordpiece_begin(&cursor, &vocabulary, text);
    while ((count = wordpiece_next(&cursor, tokens)) > 0) {
        for (uint32_t i = 0; i < count; i++) {
            buf_put_str(out, out->len > 0 ? " " : "");
            if (tokens[i] == WORDPIECE_UNKNOWN) {
                buf_put_str(out, "-");
            } else {
                buf_printf(out, "%u", tokens[i]);
            }
        }
    }
    assert_true(buf_ok(out));
}

static void equal_to_the_reference(void **state) {
    (void)state;
    struct buf text;
    struct buf made;
    size_t texts = 0;
    size_t wrong = 0;
    buf_init(&text);
    buf_init(&made);
    for (size_t at = texts_at; at < golden.len; texts++) {
        struct slice line = next_line(buf_slice(&golden), &at);
        const uint8_t *tab = memchr(line.data, '\t', line.len);
        assert_non_null(tab);
        size_t text_len = (size_t)(tab - line.data);
        struct slice expected = slice_of(tab + 1, line.len - text_len - 1);
        unescape(slice_of(line.data, text_len), &text);
        tokens_of(buf_slice(&text), &made);
        if (!slice_equal(expected, buf_slice(&made)) && wrong++ < MOST_SHOWN) {
            print_error("%.*s\n  got %.*s\n", (int)line.len, (const char *)line.data, (int)made.len, (const char *)made.data);
        }
    }
    assert_int_equal(wrong, 0);
    assert_true(texts >= LEAST_TEXTS);
    buf_fini(&text);
    buf_fini(&made);
}

/* --- vocabularies of the tests' own --------------------------------------------------------------------------------- */

/* Words separated by spaces. */
static void make_vocabulary(const char *words, struct buf *own_bytes, struct buf *own_ends) {
    buf_init(own_bytes);
    buf_init(own_ends);
    for (const char *at = words; *at != '\0';) {
        size_t len = strcspn(at, " ");
        buf_put(own_bytes, at, len);
        buf_put_u32le(own_ends, (uint32_t)own_bytes->len);
        at += len + (at[len] == ' ');
    }
}

static void refuse(const char *words) {
    struct buf own_bytes;
    struct buf own_ends;
    struct status st;
    struct wordpiece untouched = {.count = 7};
    make_vocabulary(words, &own_bytes, &own_ends);
    assert_false(wordpiece_init(&untouched, buf_slice(&own_bytes), buf_slice(&own_ends), &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    assert_int_equal(untouched.count, 7);
    buf_fini(&own_bytes);
    buf_fini(&own_ends);
}

static void vocabularies_that_are_none(void **state) {
    (void)state;
    char overlong[WORDPIECE_TOKEN_BYTES_MAX + 2];
    memset(overlong, 'a', sizeof overlong - 1);
    overlong[sizeof overlong - 1] = '\0';
    refuse("");
    refuse("one two one");
    refuse("##one two ##one");
    refuse(overlong);
    refuse("one  two"); /* an empty token */

    struct buf own_bytes;
    struct buf own_ends;
    struct status st;
    struct wordpiece w;
    make_vocabulary("one ##one two", &own_bytes, &own_ends);
    assert_true(wordpiece_init(&w, buf_slice(&own_bytes), buf_slice(&own_ends), &st));
    wordpiece_fini(&w);
    assert_false(wordpiece_init(&w, slice_of(own_bytes.data, own_bytes.len - 1), buf_slice(&own_ends), &st));
    assert_false(wordpiece_init(&w, buf_slice(&own_bytes), slice_of(own_ends.data, own_ends.len - 1), &st));
    assert_false(wordpiece_init(&w, buf_slice(&own_bytes), slice_of(own_ends.data, own_ends.len - 4), &st));
    store_u32le(own_ends.data, UINT32_MAX);
    assert_false(wordpiece_init(&w, buf_slice(&own_bytes), buf_slice(&own_ends), &st));
    buf_fini(&own_bytes);
    buf_fini(&own_ends);
}

static void longest_from_the_left(void **state) {
    (void)state;
    struct buf own_bytes;
    struct buf own_ends;
    struct buf made;
    struct status st;
    struct wordpiece mine;
    struct wordpiece saved = vocabulary;
    make_vocabulary("un unaff ##able ##aff ##ab ##le \u6771 ##\u6771 ! ##x", &own_bytes, &own_ends);
    assert_true(wordpiece_init(&mine, buf_slice(&own_bytes), buf_slice(&own_ends), &st));
    vocabulary = mine;
    buf_init(&made);
    tokens_of(slice_str("Unaffable!"), &made);
    assert_true(slice_is(buf_slice(&made), "1 2 8"));
    tokens_of(slice_str("unaffabl"), &made); /* no token for the "l": the whole word is unknown, the greedy choice is not taken back */
    assert_true(slice_is(buf_slice(&made), "-"));
    tokens_of(slice_str("un\u6771x un"), &made); /* ideographs stand apart, so the x begins a word */
    assert_true(slice_is(buf_slice(&made), "0 6 - 0"));
    vocabulary = saved;
    wordpiece_fini(&mine);
    buf_fini(&made);
    buf_fini(&own_bytes);
    buf_fini(&own_ends);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(equal_to_the_reference), cmocka_unit_test(vocabularies_that_are_none),
                                       cmocka_unit_test(longest_from_the_left)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
