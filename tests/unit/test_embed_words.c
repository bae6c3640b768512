/* test_embed_words.c - letter classes, folding, and the words that come of them. */
#include "base/bytes.h"
#include "base/hash.h"
#include "embed/letters.h"
#include "embed/words.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LAST_CODE_POINT = 0x10ffff, RANDOM_TEXTS = 2000, RANDOM_MAX = 200 };

/* Words as "a|b|c": a pair is written in brackets. Letters are encoded again as UTF-8. */
static void put_letter(struct buf *out, uint32_t c) {
    if (c < 0x80) {
        buf_put_u8(out, (uint8_t)c);
    } else if (c < 0x800) {
        buf_put_u8(out, (uint8_t)(0xc0 | c >> 6));
        buf_put_u8(out, (uint8_t)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        buf_put_u8(out, (uint8_t)(0xe0 | c >> 12));
        buf_put_u8(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        buf_put_u8(out, (uint8_t)(0x80 | (c & 0x3f)));
    } else {
        buf_put_u8(out, (uint8_t)(0xf0 | c >> 18));
        buf_put_u8(out, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
        buf_put_u8(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        buf_put_u8(out, (uint8_t)(0x80 | (c & 0x3f)));
    }
}

static void words_are(const char *text, const char *expected) {
    struct buf got;
    buf_init(&got);
    uint32_t *letters = malloc((strlen(text) + 1) * sizeof *letters);
    assert_non_null(letters);
    struct word_cursor cursor = word_cursor_of(slice_str(text), letters);
    struct word word;
    while (word_next(&cursor, &word)) {
        buf_put_str(&got, got.len > 0 ? "|" : "");
        buf_put_str(&got, word.kind == WORD_PAIR ? "[" : "");
        for (uint32_t i = 0; i < word.length; i++) {
            put_letter(&got, letters[word.begin + i]);
        }
        buf_put_str(&got, word.kind == WORD_PAIR ? "]" : "");
    }
    buf_put_u8(&got, 0);
    assert_true(buf_ok(&got));
    assert_string_equal((const char *)got.data, expected);
    buf_fini(&got);
    free(letters);
}

static void words_of_ascii(void **state) {
    (void)state;
    words_are("", "");
    words_are(" ,.-\n\t", "");
    words_are("The Quick, brown FOX.", "the|quick|brown|fox");
    words_are("utf8 x86_64 3.14", "utf8|x86|64|3|14");
    words_are("don't", "don|t");
    words_are("a\x01z\x7f"
              "b",
              "a|z|b");
}

static void words_are_folded(void **state) {
    (void)state;
    words_are("\u00c9COLE \u00e9cole e\u0301cole", "ecole|ecole|ecole");
    words_are("Stra\u00dfe STRA\u1e9eE Strasse", "strasse|strasse|strasse");
    words_are("\u0152uvre \u00c6gir \ufb01le o\ufb03ce", "oeuvre|aegir|file|office");
    words_are("\u0141\u00f3d\u017a \u0130stanbul \u0110\u00e0 N\u1eb5ng", "lodz|istanbul|da|nang");
    words_are("\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3 \u1f48\u03b4\u03c5\u03c3\u03c3\u03b5\u03cd\u03c2",
              "\u03bf\u03b4\u03c5\u03c3\u03c3\u03b5\u03c5\u03c3|\u03bf\u03b4\u03c5\u03c3\u03c3\u03b5\u03c5\u03c3");
    words_are("\u0401\u041b\u041a\u0410 \u0435\u0308\u043b\u043a\u0430 \u0419 \u0438\u0306",
              "\u0435\u043b\u043a\u0430|\u0435\u043b\u043a\u0430|\u0438|\u0438");
    words_are("\uff21\uff42\uff13", "ab3");
    words_are("co\u00adoperate", "cooperate");
}

static void words_of_scripts_without_spaces(void **state) {
    (void)state;
    words_are("\u6771\u4eac\u90fd", "\u6771|\u4eac|[\u6771\u4eac]|\u90fd|[\u4eac\u90fd]");
    words_are("\u6771\u3001\u4eac", "\u6771|\u4eac");
    words_are("\u6771x\u4eac", "\u6771|x|\u4eac");
    words_are("\ud55c\uae00 ok", "\ud55c|\uae00|[\ud55c\uae00]|ok");
    words_are("go \U0001f6b2!", "go|\U0001f6b2");
}

static void hashes_tell_words_apart(void **state) {
    (void)state;
    uint32_t letters[16];
    struct word a;
    struct word b;
    struct word_cursor cursor = word_cursor_of(slice_str("ab ba"), letters);
    assert_true(word_next(&cursor, &a));
    assert_true(word_next(&cursor, &b));
    assert_true(a.hash != b.hash);
    cursor = word_cursor_of(slice_str("AB"), letters);
    assert_true(word_next(&cursor, &b));
    assert_true(a.hash == b.hash);
}

/* Spot checks against the general categories of Unicode, one or two of each kind and block. */
static void classes(void **state) {
    (void)state;
    static const struct {
        uint32_t code_point;
        enum letter_class class;
    } expected[] = {
        {'a', LETTER_WORD},      {'Z', LETTER_WORD},     {'0', LETTER_WORD},      {'_', LETTER_PUNCT},     {'@', LETTER_PUNCT},
        {'[', LETTER_PUNCT},     {'`', LETTER_PUNCT},    {'{', LETTER_PUNCT},     {' ', LETTER_SPACE},     {0, LETTER_SPACE},
        {0x7f, LETTER_SPACE},    {0x85, LETTER_SPACE},   {0xa0, LETTER_SPACE},    {0xa7, LETTER_PUNCT},    {0xaa, LETTER_WORD},
        {0xad, LETTER_MARK},     {0xbf, LETTER_PUNCT},   {0xc0, LETTER_WORD},     {0xd7, LETTER_PUNCT},    {0xff, LETTER_WORD},
        {0x301, LETTER_MARK},    {0x3b1, LETTER_WORD},   {0x416, LETTER_WORD},    {0x5d0, LETTER_WORD},    {0x5b0, LETTER_MARK},
        {0x60c, LETTER_PUNCT},   {0x639, LETTER_WORD},   {0x64e, LETTER_MARK},    {0x661, LETTER_WORD},    {0x905, LETTER_WORD},
        {0x93f, LETTER_WORD},    {0x964, LETTER_PUNCT},  {0xe01, LETTER_WORD},    {0x200b, LETTER_SPACE},  {0x200d, LETTER_MARK},
        {0x2019, LETTER_PUNCT},  {0x20ac, LETTER_PUNCT}, {0x2192, LETTER_PUNCT},  {0x3000, LETTER_SPACE},  {0x3002, LETTER_PUNCT},
        {0x3042, LETTER_ALONE},  {0x30a2, LETTER_ALONE}, {0x30fb, LETTER_PUNCT},  {0x4e00, LETTER_ALONE},  {0x9fff, LETTER_ALONE},
        {0xac00, LETTER_ALONE},  {0xd7a3, LETTER_ALONE}, {0xe000, LETTER_PUNCT},  {0xfe0f, LETTER_MARK},   {0xfeff, LETTER_MARK},
        {0xff21, LETTER_WORD},   {0xfffd, LETTER_PUNCT}, {0x1d400, LETTER_WORD},  {0x1f600, LETTER_ALONE}, {0x1f3fd, LETTER_MARK},
        {0x20000, LETTER_ALONE}, {0xe0100, LETTER_MARK}, {0x10ffff, LETTER_PUNCT}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        if (letter_class_of(expected[i].code_point) != expected[i].class) {
            fail_msg("U+%04X has class %d", (unsigned)expected[i].code_point, (int)letter_class_of(expected[i].code_point));
        }
    }
}

/* Folding what is folded changes nothing, gives letters only, and needs no more bytes than the text had: words.h promises that
 * text.len letters are room enough. */
static void folding_is_stable(void **state) {
    (void)state;
    for (uint32_t c = 0; c <= LAST_CODE_POINT; c++) {
        uint32_t once[LETTER_FOLD_MAX];
        unsigned count = letter_fold(c, once);
        unsigned bytes = c < 0x80 ? 1 : c < 0x800 ? 2 : 3;
        assert_in_range(count, 1, bytes < LETTER_FOLD_MAX ? bytes : LETTER_FOLD_MAX);
        for (unsigned i = 0; i < count; i++) {
            uint32_t twice[LETTER_FOLD_MAX];
            if (letter_fold(once[i], twice) != 1 || twice[0] != once[i] ||
                (letter_class_of(c) == LETTER_WORD && letter_class_of(once[i]) != LETTER_WORD)) {
                fail_msg("U+%04X folds to U+%04X, which is not stable", (unsigned)c, (unsigned)once[i]);
            }
        }
    }
}

/* The tables are part of hash-384. When this fails, raise HASH_MODEL_VERSION in hash_model.c, and only then set the new value
 * here. */
static void tables_are_those_of_the_model_version(void **state) {
    (void)state;
    uint64_t h = 0;
    for (uint32_t c = 0; c <= LAST_CODE_POINT; c++) {
        uint32_t folded[LETTER_FOLD_MAX] = {0};
        uint8_t bytes[4 * (LETTER_FOLD_MAX + 2)];
        store_u32le(bytes, (uint32_t)letter_class_of(c));
        store_u32le(bytes + 4, letter_fold(c, folded));
        for (size_t i = 0; i < LETTER_FOLD_MAX; i++) {
            store_u32le(bytes + 8 + 4 * i, folded[i]);
        }
        h = hash64(h, bytes, sizeof bytes);
    }
    assert_int_equal(h, 0x1ae68ab0b14449ab);
}

/* Whatever the bytes, the cursor ends, stays in its buffer (a sanitizer looks on), and its words follow one another. */
static void any_bytes_end(void **state) {
    (void)state;
    srandom(11);
    for (int round = 0; round < RANDOM_TEXTS; round++) {
        size_t len = (size_t)random() % RANDOM_MAX;
        uint8_t *text = malloc(len + 1);
        uint32_t *letters = malloc((len + 1) * sizeof *letters);
        assert_non_null(text);
        assert_non_null(letters);
        for (size_t i = 0; i < len; i++) {
            text[i] = (uint8_t)random();
        }
        struct word_cursor cursor = word_cursor_of(slice_of(text, len), letters);
        struct word word;
        uint32_t end = 0;
        while (word_next(&cursor, &word)) {
            assert_true(word.length > 0);
            assert_int_equal(word.begin, word.kind == WORD_PAIR ? end - 2 : end);
            end = word.begin + word.length;
            assert_in_range(end, 1, len);
        }
        assert_int_equal(end, cursor.count);
        free(text);
        free(letters);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_of_ascii),
        cmocka_unit_test(words_are_folded),
        cmocka_unit_test(words_of_scripts_without_spaces),
        cmocka_unit_test(hashes_tell_words_apart),
        cmocka_unit_test(classes),
        cmocka_unit_test(folding_is_stable),
        cmocka_unit_test(tables_are_those_of_the_model_version),
        cmocka_unit_test(any_bytes_end),
    };
    return cmocka_run_group_tests_name("embed words", tests, NULL, NULL);
}
