/*
 * test_embed_chunker.c - the chunker: what holds for any text, where it likes to cut, and that its work is linear.
 *
 * All is tried with the bundled model's own vocabulary and with estimated tokens, as plain text and as Markdown.
 */
#include "base/utf8.h"
#include "embed/chunker.h"
#include "embed/embedder.h"
#include "embed/segments.h"
#include "embed/static_model.h"
#include "embed/tokens.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { RANDOM_TEXTS = 1500, RANDOM_PIECES = 200, HOSTILE_BYTES = 1 << 15, MOST_STEPS = 12, CLUSTER_BYTES = 64 };

static struct embedder model;

static int open_model(void **state) {
    (void)state;
    struct status st;
    int fd = open(STATIC_MODEL, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && static_model_init(&model, fd, STATIC_MODEL, MODEL_VERIFIED, &st);
    close(fd);
    return good ? 0 : -1;
}

static int close_model(void **state) {
    (void)state;
    static_model_fini(&model);
    return 0;
}

static struct chunk_list cut(struct slice text, const struct chunking *how) {
    struct chunk_list list;
    struct status st;
    assert_true(chunker_cut(text, how, &list, &st));
    return list;
}

/* As the model counts, and nothing added. */
static uint32_t count_tokens(struct slice text, const struct wordpiece *vocabulary) {
    struct wordpiece_cursor cursor;
    struct token_counter words;
    uint32_t tokens[WORDPIECE_WORD_MAX];
    uint32_t all = 0;
    if (vocabulary != NULL) {
        wordpiece_begin(&cursor, vocabulary, text);
        for (uint32_t count; (count = wordpiece_next(&cursor, tokens)) > 0;) {
            all += count;
        }
        return all;
    }
    token_counter_begin(&words, NULL, text);
    for (struct counted_word w; token_counter_next(&words, &w);) {
        all += w.tokens;
    }
    return all;
}

/* Whether `at` is a place between grapheme clusters, where `from` is one; clusters of very many bytes may be parted. */
static bool between_clusters(struct slice text, size_t from, size_t at) {
    size_t last = from;
    while (from < at) {
        last = from;
        from = cluster_end(text, from);
    }
    return from == at || from - last > CLUSTER_BYTES;
}

/* And otherwise white space. */
static bool has_one_cluster(struct slice text, const struct wordpiece *vocabulary) {
    unsigned clusters = 0;
    for (size_t at = 0, end; at < text.len; at = end) {
        end = cluster_end(text, at);
        clusters += count_tokens(slice_of(text.data + at, end - at), vocabulary) > 0;
    }
    return clusters == 1;
}

/* Everything that chunker.h promises of each chunk. */
static void holds(struct slice text, const struct chunking *how) {
    struct chunk_list list = cut(text, how);
    size_t end = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct chunk_span *s = &list.spans[i];
        size_t before = i == 0 ? 0 : s[-1].begin;
        assert_int_equal(s->begin, end);
        assert_true(s->end > s->begin);
        assert_true(s->overlap <= s->begin - before);
        assert_true(between_clusters(text, before, s->begin - s->overlap));
        assert_true(between_clusters(text, s->begin, s->end));
        struct slice own = slice_of(text.data + s->begin, s->end - s->begin);
        struct slice all = slice_of(own.data - s->overlap, own.len + s->overlap);
        if (count_tokens(all, how->vocabulary) > how->max_tokens) {
            assert_int_equal(s->overlap, 0);
            assert_true(has_one_cluster(own, how->vocabulary));
        }
        assert_true(count_tokens(slice_of(all.data, s->overlap), how->vocabulary) <= how->overlap);
        assert_true(utf8_valid(all));
        assert_true(utf8_valid(chunk_section(&list, s)));
        assert_in_range(s->section_len, 0, CHUNKER_SECTION_MAX_BYTES);
        end = s->end;
    }
    assert_int_equal(end, text.len);
    chunk_list_fini(&list);
}

static void holds_in_all_ways(struct slice text, uint32_t max_tokens, uint32_t overlap) {
    for (unsigned way = 0; way < 4; way++) {
        const struct chunking how = {.max_tokens = max_tokens,
                                     .overlap = overlap,
                                     .format = way % 2 == 0 ? TEXT_PLAIN : TEXT_MARKDOWN,
                                     .vocabulary = way / 2 == 0 ? NULL : model.vocabulary,
                                     .max_chunks = SIZE_MAX};
        holds(text, &how);
    }
}

static const char *const pieces[] = {
    /* words and marks */
    "a", "word", "Word", "\u00e9t\u00e9", "e\u0301", " ", " ", " ", " ", " ", ".", ". ", "! ", "? ", ",", "-", "42", "3.14 ", "\"", ")", "\u2026", "\u00a0",
    "antidisestablishmentarianismus", "supercalifragilisticexpialidocious ", "Donaudampfschifffahrtsgesellschaftskapit\u00e4nspatent ",
    /* other scripts */
    "\u6771\u4eac", "\u4eac\u3002", "\u300c\u4e2d\u300d", "\u043a\u043e\u0442 ", "\u0645\u0631\u062d\u0628\u0627\u061f ", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\ud55c\uad6d\uc5b4 ",
    "\u1112\u1161\u11ab", "\u0928\u092e\u0938\u094d\u0924\u0947\u0964 ",
    /* clusters */
    "\U0001f6b2", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "\u0301", "\u0301\u0323", "\u200d", "\u203c\ufe0f", "\u0600", "-\u093e", "\u00ad",
    /* lines and Markdown */
    "\n", "\n", "\n\n", "\r\n", "\r\n\r\n", "\u2029", "\u2028", "\f", "\t", "    ", "\n# ", "\n## B\n", "\n### *C* `d` [e](f)\n\n", "\nTitle\n===\n", "\nT\n---\n", "\n```\n", "\n~~~ c\n",
    "\n- ", "\n  - ", "\n1. ", "\n> ", "\n| a | b |\n|---|---|\n| 1 | 2 |\n", "\n***\n", "<!-- ", " -->", "\n<div>\n", "---\n", "  \n", "\\\n", "#", "*", "`", "\ufeff"};

static void random_text(struct buf *out) {
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
        holds_in_all_ways(buf_slice(&text), max_tokens, (uint32_t)random() % max_tokens);
    }
    buf_fini(&text);
}

/* Any code point beside any other. */
static void promises_on_random_code_points(void **state) {
    (void)state;
    struct buf text;
    buf_init(&text);
    srandom(4);
    for (int round = 0; round < RANDOM_TEXTS / 4; round++) {
        buf_reset(&text);
        for (int i = 0; i < RANDOM_PIECES; i++) {
            uint32_t c = 1 + (uint32_t)random() % (random() % 2 == 0 ? 0x3100U : 0x1fbffU);
            uint8_t encoded[4] = {(uint8_t)(0xf0 | c >> 18), (uint8_t)(0x80 | (c >> 12 & 63)), (uint8_t)(0x80 | (c >> 6 & 63)), (uint8_t)(0x80 | (c & 63))};
            if (c < 0x80) {
                buf_put_u8(&text, (uint8_t)c);
            } else if (c < 0x800) {
                buf_put_u8(&text, (uint8_t)(0xc0 | c >> 6));
                buf_put(&text, encoded + 3, 1);
            } else if (c < 0xd800 || (c >= 0xe000 && c < 0x10000)) {
                buf_put_u8(&text, (uint8_t)(0xe0 | c >> 12));
                buf_put(&text, encoded + 2, 2);
            } else if (c >= 0x10000) {
                buf_put(&text, encoded, 4);
            }
        }
        assert_true(buf_ok(&text));
        assert_true(utf8_valid(buf_slice(&text)));
        uint32_t max_tokens = 1 + (uint32_t)random() % 300;
        holds_in_all_ways(buf_slice(&text), max_tokens, (uint32_t)random() % max_tokens);
    }
    buf_fini(&text);
}

/* Texts of one piece again and again. Anything quadratic takes thousands of steps a byte on them. */
static void promises_and_linear_work_on_hostile_text(void **state) {
    (void)state;
    static const char *const hostile[] = {
        "a", " ", "\n", ".", "\u0301", "e\u0301\u0301", "\u6771", "\u4eac\u3002", "\U0001f469\u200d", "\u203c\u200d", "\u0e2a\u0e27", "a ", "A. ", "a                    ", "A.\n\nb c d ", "1. ", "- ", "+ ",
        "> ", "# ", "# a\n", "#", "a\n-\n", "```\n", "* - + ", "[", "](", "](x) ", "<!-- ", "<a ", "| - ", "|-|\n", "---\n", "\t", "\r", "\r\n", "  - x\n    ", "\u2029", "\u0600", "-\u093e", "(.)", "\\", "x\n# ",
        "\xef\xbb\xbf", "\u200b", "0.", "\u1112\u1161"};
    static const uint32_t sizes[][2] = {{1, 0}, {2, 1}, {256, 32}, {4096, 4095}, {UINT32_MAX, UINT32_MAX - 1}};
    struct buf text;
    buf_init(&text);
    for (size_t p = 0; p < sizeof hostile / sizeof hostile[0]; p++) {
        buf_reset(&text);
        while (text.len < HOSTILE_BYTES) {
            buf_put_str(&text, hostile[p]);
        }
        assert_true(buf_ok(&text));
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            for (unsigned way = 0; way < 4; way++) {
                const struct chunking how = {.max_tokens = sizes[s][0],
                                             .overlap = sizes[s][1],
                                             .format = way % 2 == 0 ? TEXT_PLAIN : TEXT_MARKDOWN,
                                             .vocabulary = way / 2 == 0 ? NULL : model.vocabulary,
                                             .max_chunks = SIZE_MAX};
                struct chunk_list list = cut(buf_slice(&text), &how);
                assert_int_equal(list.spans[list.count - 1].end, text.len);
                if (list.steps > (uint64_t)MOST_STEPS * text.len) {
                    fail_msg("\"%s\", %u: %llu steps", hostile[p], how.max_tokens, (unsigned long long)list.steps);
                }
                chunk_list_fini(&list);
            }
        }
        holds_in_all_ways(slice_of(text.data, utf8_prefix(buf_slice(&text), HOSTILE_BYTES / 16)), 256, 32);
    }
    buf_fini(&text);
}

/* --- where it cuts -------------------------------------------------------------------------------------------------- */

/* "own|repeated>own|..." with the section in braces where there is one. */
static void cuts_are(enum text_format format, const char *text, uint32_t max_tokens, uint32_t overlap, const char *expected) {
    const struct chunking how = {max_tokens, overlap, format, model.vocabulary, SIZE_MAX};
    struct slice source = slice_str(text);
    struct chunk_list list = cut(source, &how);
    struct buf got;
    buf_init(&got);
    for (size_t i = 0; i < list.count; i++) {
        const struct chunk_span *s = &list.spans[i];
        buf_put_str(&got, i > 0 ? "|" : "");
        if (s->section_len > 0) {
            buf_put_str(&got, "{");
            buf_put_slice(&got, chunk_section(&list, s));
            buf_put_str(&got, "}");
        }
        buf_put(&got, source.data + s->begin - s->overlap, s->overlap);
        buf_put_str(&got, s->overlap > 0 ? ">" : "");
        buf_put(&got, source.data + s->begin, s->end - s->begin);
    }
    buf_put_u8(&got, 0);
    assert_true(buf_ok(&got));
    assert_string_equal((const char *)got.data, expected);
    buf_fini(&got);
    chunk_list_fini(&list);
}

static void text_is_cut(const char *text, uint32_t max_tokens, const char *expected) {
    cuts_are(TEXT_PLAIN, text, max_tokens, 0, expected);
}

static void markdown_is_cut(const char *text, uint32_t max_tokens, const char *expected) {
    cuts_are(TEXT_MARKDOWN, text, max_tokens, 0, expected);
}

static void cuts_where_people_would(void **state) {
    (void)state;
    text_is_cut("one two three", 8, "one two three");
    text_is_cut("one two three four five", 2, "one two |three four |five");
    text_is_cut("A b c d.\n\nE f g h i.", 8, "A b c d.\n\n|E f g h i.");
    text_is_cut("A b c d.\nE f g. H i j", 8, "A b c d.\n|E f g. H i j");
    text_is_cut("A b c. D e f g h i", 7, "A b c. |D e f g h i");
    text_is_cut("a b c d\ne f g h", 6, "a b c d\ne f |g h");
    text_is_cut("Go on, e.g. a b c d e", 11, "Go on, e.g. a b c |d e");
    text_is_cut("He said \"no.\" Then left now he", 9, "He said \"no.\" |Then left now he");
    text_is_cut("\u4e00\u4e8c\u3002\u4e09\u56db", 4, "\u4e00\u4e8c\u3002|\u4e09\u56db");
    text_is_cut("foo-bar baz-bar", 5, "foo-bar |baz-bar");
    text_is_cut("a b c\n\nC # D\n\nx y z w", 8, "a b c\n\nC # D\n\n|x y z w");
}

/* A cut near the begin would leave a chunk that says little: then the next worse place is taken. */
static void chunks_are_half_full(void **state) {
    (void)state;
    text_is_cut("A.\n\nb c d e f g h i", 8, "A.\n\nb c d e f g |h i");
}

/* The last chunk has a quarter of max_tokens, where there is anything to give. */
static void tails_are_not_left_alone(void **state) {
    (void)state;
    text_is_cut("a b c d e f g h i", 8, "a b c d e f g |h i");
    text_is_cut("a b c d. E f g h i. J", 12, "a b c d. E f g h i. J");
    text_is_cut("a b c d. E f g h i. J", 11, "a b c d. E f g h |i. J");
    text_is_cut("a b c d. E f g h i. J", 10, "a b c d. |E f g h i. J");
    markdown_is_cut("# A\n\nb c d e f g h i j\n\n# B\n\nk l m n o p", 10, "{A}# A\n\nb c d e f g h |{A}i j\n\n|{B}# B\n\nk l m n o p");
}

static void sections_are_kept(void **state) {
    (void)state;
    markdown_is_cut("# Guide\n\nBegin here.\n\n## Install\n\nHave a look.\n\n### Debian\n\nRun apt now.\n\n## Use\n\nStart it up.\n", 9,
                    "{Guide}# Guide\n\nBegin here.\n\n|{Guide > Install}## Install\n\nHave a look.\n\n|{Guide > Install > Debian}### Debian\n\n"
                    "Run apt now.\n\n|{Guide > Use}## Use\n\nStart it up.\n");
    /* Small ones join the next; what begins with several headings stands under the last of them. */
    markdown_is_cut("Before.\n\n# A\n\nx\n\n# B\n\n## C\n\ny z", 40, "Before.\n\n# A\n\nx\n\n# B\n\n## C\n\ny z");
    markdown_is_cut("# B\n\n## C\n\ny z", 40, "{B > C}# B\n\n## C\n\ny z");
    /* A small last one joins its siblings, not what follows. */
    markdown_is_cut("# A\n\n## B\n\none two three four five six\n\n## C\n\nx\n\n# D\n\none two three four five six seven", 20,
                    "{A > B}# A\n\n## B\n\none two three four five six\n\n## C\n\nx\n\n|{D}# D\n\none two three four five six seven");
    /* Without headings there is no section; behind one, chunks that begin later stand under it. */
    markdown_is_cut("a b c d e f", 3, "a b c |d e f");
    markdown_is_cut("# T\n\na b c d. E f g h.", 8, "{T}# T\n\na b c d. |{T}E f g h.");
}

static void titles_lose_their_marks(void **state) {
    (void)state;
    markdown_is_cut("## The *big* `map()` of [links](http://x) ##\na", 40, "{The big map() of links}## The *big* `map()` of [links](http://x) ##\na");
    markdown_is_cut("Two\nlines\n=====\na", 40, "{Two lines}Two\nlines\n=====\na");
    markdown_is_cut("# C\\# {#id}\na", 40, "{C#}# C\\# {#id}\na");
    markdown_is_cut("# snake_case ![pic](p)\na", 40, "{snake_case pic}# snake_case ![pic](p)\na");
    markdown_is_cut("#\na", 40, "#\na");
}

static void code_and_tables_keep_their_lines(void **state) {
    (void)state;
    markdown_is_cut("Run:\n\n```sh\n# no heading\nmake it all\n```\n\nThen go.", 12, "Run:\n\n```sh\n# no heading\nmake it all\n|```\n\nThen go.");
    markdown_is_cut("    a. B\n    c. D\n    e. F\n", 6, "    a. B\n    c. D\n|    e. F\n");
    markdown_is_cut("| a | b |\n|---|---|\n| 1. X | 2 |\n| 3. Y | 4 |\n", 26, "| a | b |\n|---|---|\n| 1. X | 2 |\n|| 3. Y | 4 |\n");
    markdown_is_cut("- a b\n  - c d\n- e f\n  - g h\n", 8, "- a b\n  - c d\n|- e f\n  - g h\n");
}

static void headings_stay_with_their_text(void **state) {
    (void)state;
    text_is_cut("a b c d\n\n# Title\n\nx y z", 7, "a b c d\n\n|# Title\n\nx y z");
    markdown_is_cut("a b c d\n\n# Title\n\nx y z", 7, "a b c d\n\n|{Title}# Title\n\nx y z");
}

static void overlaps_begin_with_sentences_or_words(void **state) {
    (void)state;
    cuts_are(TEXT_PLAIN, "a b c d e f", 3, 1, "a b c |c >d e |e >f");
    cuts_are(TEXT_PLAIN, "a b c. D e. F g h. I j", 10, 4, "a b c. D e. |D e. >F g h. I j");
    cuts_are(TEXT_PLAIN, "\u4e00\u4e8c\u4e09\u56db\u4e94", 4, 2, "\u4e00\u4e8c\u4e09\u56db|\u4e09\u56db>\u4e94");
    cuts_are(TEXT_MARKDOWN, "# A\n\na b c d\n\n# B\n\ne f g h", 8, 4, "{A}# A\n\na b c d\n\n|{B}# B\n\ne f g h");
}

static void white_space_belongs_somewhere(void **state) {
    (void)state;
    text_is_cut("", 5, "");
    text_is_cut(" \n ", 5, " \n ");
    text_is_cut("  a  b  ", 1, "  a  |b  ");
    text_is_cut("\u0301a", 1, "\u0301a");
    markdown_is_cut("a b\n\n    c d\n", 2, "a b\n\n|    c d\n");
}

static void limits(void **state) {
    (void)state;
    struct chunk_list list = {.count = 99};
    struct chunking how = {1, 0, TEXT_PLAIN, NULL, 3};
    struct status st;
    assert_true(chunker_cut(slice_str("a b c"), &how, &list, &st));
    assert_int_equal(list.count, 3);
    chunk_list_fini(&list);
    list.count = 99;
    how.max_chunks = 2;
    assert_false(chunker_cut(slice_str("a b c"), &how, &list, &st));
    assert_int_equal(st.code, STATUS_TOO_LARGE);
    how.max_tokens = 0;
    assert_false(chunker_cut(slice_str("a"), &how, &list, &st));
    assert_int_equal(st.code, STATUS_INVALID);
    how.max_tokens = how.overlap = 4;
    assert_false(chunker_cut(slice_str("a"), &how, &list, &st));
    assert_int_equal(st.code, STATUS_INVALID);
    assert_int_equal(list.count, 99);
}

static void estimates(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint32_t tokens;
    } texts[] = {{"one two  three\n", 3}, {"  one, two.", 4}, {"\u6771\u4eac\u90fd", 3}, {"eightlet", 1}, {"nineletter", 2}, {"\u043a\u043e\u0442\u044b", 2}, {"\U0001f6b2", 2}, {" \u0301 ", 0}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(count_tokens(slice_str(texts[i].text), NULL), texts[i].tokens);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_where_people_would),
        cmocka_unit_test(chunks_are_half_full),
        cmocka_unit_test(tails_are_not_left_alone),
        cmocka_unit_test(sections_are_kept),
        cmocka_unit_test(titles_lose_their_marks),
        cmocka_unit_test(code_and_tables_keep_their_lines),
        cmocka_unit_test(headings_stay_with_their_text),
        cmocka_unit_test(overlaps_begin_with_sentences_or_words),
        cmocka_unit_test(white_space_belongs_somewhere),
        cmocka_unit_test(limits),
        cmocka_unit_test(estimates),
        cmocka_unit_test(promises_on_random_text),
        cmocka_unit_test(promises_on_random_code_points),
        cmocka_unit_test(promises_and_linear_work_on_hostile_text),
    };
    return cmocka_run_group_tests_name("embed chunker", tests, open_model, close_model);
}
