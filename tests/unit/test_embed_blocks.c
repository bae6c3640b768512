/* test_embed_blocks.c - how lines become blocks, in plain text and in Markdown. */
#include "embed/blocks.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* A letter for each block: p(rose), l(ines), h(eading) without a section or its rank; before it what a cut there is: H(eading), P(aragraph), I(tem), L(ine). */
static void blocks_are(enum text_format format, const char *text, const char *expected) {
    static const char cuts[] = "HPIL";
    char got[256];
    size_t len = 0;
    size_t end = 0;
    struct block_reader reader;
    struct block b;
    block_reader_begin(&reader, format, slice_str(text));
    while (block_next(&reader, &b)) {
        assert_true(b.begin >= end && b.end > b.begin && b.end <= strlen(text));
        end = b.end;
        got[len++] = cuts[b.before];
        got[len++] = b.kind == BLOCK_PROSE ? 'p' : b.kind == BLOCK_LINES ? 'l' : (b.rank == 0 ? 'h' : (char)('0' + b.rank));
        got[len++] = ' ';
    }
    got[len] = '\0';
    if (strcmp(got, expected) != 0) {
        fail_msg("%s\nis %s, not %s", text, got, expected);
    }
}

static void plain(void **state) {
    (void)state;
    blocks_are(TEXT_PLAIN, "", "");
    blocks_are(TEXT_PLAIN, " \n\t\n", "");
    blocks_are(TEXT_PLAIN, "a\nb\n\nc\r\n \r\nd", "Pp Pp Pp ");
    blocks_are(TEXT_PLAIN, "a\n\fb\n", "Pp Pp ");
    blocks_are(TEXT_PLAIN, "# a\n\n# b\nc\n\n- d\n- e", "Ph Pp Pp ");
}

static void headings(void **state) {
    (void)state;
    blocks_are(TEXT_MARKDOWN, "# a\nb\n## c ##\n###### d\n####### e\n#f\n", "H1 Lp H2 H6 Lp ");
    blocks_are(TEXT_MARKDOWN, "a\n===\nb\nc\n---\nd\n\n---\n\n===\n", "H1 H2 Lp Pp Pp ");
    blocks_are(TEXT_MARKDOWN, "   # a\n\n    # b\n\n\t# c\n", "H1 Pl ");
    blocks_are(TEXT_MARKDOWN, "#\n\n# \n", "H1 H1 ");
    blocks_are(TEXT_MARKDOWN, "> # a\n> b\n# c\n", "Pp H1 ");
    blocks_are(TEXT_MARKDOWN, "- # a\n\n  # b\n\n# c\n", "Pp Ih H1 ");
    blocks_are(TEXT_MARKDOWN, "- a\n---\nb\n", "Pp Lp Lp ");
}

static void code(void **state) {
    (void)state;
    blocks_are(TEXT_MARKDOWN, "a\n```sh\n# b\n\n# c\n```\n# d\n", "Pp Ll H1 ");
    blocks_are(TEXT_MARKDOWN, "~~~\n# a\n```\n# b\n~~~~ \n# c\n", "Pl H1 ");
    blocks_are(TEXT_MARKDOWN, "````\n```\n# a\n````\n# b\n", "Pl H1 ");
    blocks_are(TEXT_MARKDOWN, "``` a ``` b\n# c\n", "Pp H1 ");
    blocks_are(TEXT_MARKDOWN, "```\n# never closed\n", "Pl ");
    blocks_are(TEXT_MARKDOWN, "- a\n\n  ```\n  # b\n  ```\n\n      # c\n\n# d\n", "Pp Il Il H1 ");
    blocks_are(TEXT_MARKDOWN, "- ```\n  # a\n# b\n", "Pl H1 ");
    blocks_are(TEXT_MARKDOWN, "a\n    # goes on\n", "Pp ");
}

static void lists(void **state) {
    (void)state;
    blocks_are(TEXT_MARKDOWN, "- a\n- b\n  - c\n    1. d\n- e\n", "Pp Ip Lp Lp Ip ");
    blocks_are(TEXT_MARKDOWN, "1. a\n2) b\n\n3. c\n", "Pp Ip Pp ");
    blocks_are(TEXT_MARKDOWN, "a\n1985. b\n1. c\n", "Pp Ip ");
    blocks_are(TEXT_MARKDOWN, "a\n-\n- b\n", "H2 Ip ");
    blocks_are(TEXT_MARKDOWN, "*a* b\n**c**\n-d\n", "Pp ");
    blocks_are(TEXT_MARKDOWN, "* * *\n- - a\n", "Pp Ip ");
}

static void others(void **state) {
    (void)state;
    blocks_are(TEXT_MARKDOWN, "| a | b |\n|---|:-:|\n| # c | d |\n\ne | f\n", "Pl Pp ");
    blocks_are(TEXT_MARKDOWN, "<!-- # a\n\n# b -->\n# c\n", "Pl H1 ");
    blocks_are(TEXT_MARKDOWN, "<div>\n# a\n\n# b\n", "Pl H1 ");
    blocks_are(TEXT_MARKDOWN, "<b>a</b> c\n# d\n<https://e>\n# f\n", "Pp H1 Lp H1 ");
    blocks_are(TEXT_MARKDOWN, "<pre>\n\n# a\n</pre>\n# b\n", "Pl H1 ");
    blocks_are(TEXT_MARKDOWN, "---\ntitle: a\n# b\n---\n# c\n", "Pl H1 ");
    blocks_are(TEXT_MARKDOWN, "\xef\xbb\xbf---\n# a\n...\n# b\n", "Pl H1 ");
    blocks_are(TEXT_MARKDOWN, "+++\n# a\n+++\nb\n", "Pl Lp ");
    blocks_are(TEXT_MARKDOWN, "---\n# a\n", "Pp H1 ");
    blocks_are(TEXT_MARKDOWN, "\xef\xbb\xbf# a\n", "H1 ");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(plain), cmocka_unit_test(headings), cmocka_unit_test(code), cmocka_unit_test(lists), cmocka_unit_test(others)};
    return cmocka_run_group_tests_name("embed blocks", tests, NULL, NULL);
}
