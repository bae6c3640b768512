/* test_cli_import.c - what `quire import` makes of files: front matter, HTML, ids, what is below a directory. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "cli/import_file.h"
#include "cli/import_html.h"
#include "cli/import_known.h"
#include "cli/import_message.h"
#include "cli/import_source.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- front matter -------------------------------------------------------------------------------------------------------- */

static void front_becomes(const char *text, const char *document, const char *metadata, const char *rest) {
    struct json_object *d = json_object_new_object(), *m = json_object_new_object();
    struct slice yaml = {0};
    size_t n = import_front_matter(slice_str(text), &yaml);
    struct status st = {0};
    if (n > 0 && !import_front_take(yaml, d, m, &st))
        n = 0;
    assert_string_equal(json_object_to_json_string_ext(d, JSON_C_TO_STRING_PLAIN), document);
    assert_string_equal(json_object_to_json_string_ext(m, JSON_C_TO_STRING_PLAIN), metadata);
    assert_string_equal(text + n, rest);
    json_object_put(d);
    json_object_put(m);
}

static void front_matter_is_taken_out_of_the_text(void **state) {
    (void)state;
    front_becomes("---\ntitle: A title\n---\nText", "{\"title\":\"A title\"}", "{}", "Text");
    front_becomes("---\r\ntitle: 'It''s'\r\n---\r\nText", "{\"title\":\"It's\"}", "{}", "Text");
    front_becomes("---\ntags: [one, \"two, three\"]\n...\n", "{\"tags\":[\"one\",\"two, three\"]}", "{}", "");
    front_becomes("---\ntags: one, two\nauthors:\n- Ida\n- Bo\n---\n", "{\"tags\":[\"one\",\"two\"],\"author\":\"Ida, Bo\"}", "{}", "");
    front_becomes("---\nkeywords:\n  - a # not this\n  - 7\nnext: 1\n---\n", "{\"tags\":[\"a\",\"7\"]}", "{\"next\":1}", "");
    front_becomes("---\nn: -3\nr: 1.50\nyes: true\nno: null\nzip: 007\nlong: 12345678901234567890\nversion: 1.2.3\n---\n", "{}",
                  "{\"n\":-3,\"r\":1.50,\"yes\":true,\"zip\":\"007\",\"long\":\"12345678901234567890\",\"version\":\"1.2.3\"}", "");
    front_becomes("---\nabout: >\n  folded\n  text\nurl: http://x/y#z\n# a comment\n---\n", "{}", "{\"about\":\"folded text\",\"url\":\"http:\\/\\/x\\/y#z\"}", "");
}

static void what_is_no_front_matter_stays(void **state) {
    (void)state;
    front_becomes("Text\n---\na: b\n---\n", "{}", "{}", "Text\n---\na: b\n---\n");
    front_becomes("---\nno end", "{}", "{}", "---\nno end");
    front_becomes("----\na: b\n---\n", "{}", "{}", "----\na: b\n---\n");
    front_becomes("", "{}", "{}", "");
    front_becomes("---", "{}", "{}", "---");
    front_becomes("---\nA rule, no front matter\n\n---\nafter rule", "{}", "{}", "---\nA rule, no front matter\n\n---\nafter rule");
    front_becomes("---\nhttp://x\n  a: b\n---\n", "{}", "{}", "---\nhttp://x\n  a: b\n---\n");
}

static void what_is_not_closed_stays(void **state) {
    static const char *const bad[] = {"---\nauthor: Ida\ntitle: \"Unclosed\n---\nT", "---\ntags: [a, b\n---\nT", "---\ntags: [a, 'b]\n---\nT", "---\ntags:\n- 'a\n---\nT"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        front_becomes(bad[i], "{}", "{}", bad[i]);
}

static void texts_of_several_lines_are_kept_or_folded(void **state) {
    (void)state;
    front_becomes("---\na: |\n  one\n    two\n\n  three\nb: >-\n  one\n  two\n\n  three\ntitle: |\n  x\n  y\n---\n", "{\"title\":\"x y\"}",
                  "{\"a\":\"one\\n  two\\n\\nthree\",\"b\":\"one two\\nthree\"}", "");
}

static void odd_front_matter_is_no_error(void **state) {
    (void)state;
    front_becomes("---\nnested:\n  a: 1\n  b:\n    - 2\nmap: {a: 1}\nanchor: &x y\ntitle:\ntags: []\n: x\nkey without colon\n---\nT", "{}", "{}", "T");
    front_becomes("---\nid: mine\npath: /etc\ncontent_sha256: no\nsource_url: x\ncreated_at: y\n---\nT", "{}", "{}", "T");
    front_becomes("---\nlist: [a, it's, \"b], c\", [b, c], d\n---\nT", "{}", "{\"list\":[\"a\",\"it's\",\"b], c\",\"[b\",\"c\"]}", "T");
    front_becomes("---\nbad: \xff\xfe\ncontrol: a\x01z\n---\nT", "{}", "{}", "T");
}

/* --- HTML ---------------------------------------------------------------------------------------------------------------- */

static void page_becomes(const char *html, const char *title, const char *text) {
    struct buf out = {0}, got = {0};
    struct status st = {0};
    assert_true(import_html_text(slice_str(html), &out, &got, &st));
    buf_put_u8(&out, 0);
    buf_put_u8(&got, 0);
    assert_string_equal((const char *)out.data, text);
    assert_string_equal((const char *)got.data, title);
    buf_fini(&out);
    buf_fini(&got);
}

static void pages_become_markdown(void **state) {
    (void)state;
    page_becomes("<html><head><title>T &amp; U</title></head><body><h1>One</h1><p>A <b>bold</b>\n word.</p><h3>Three</h3>x</body></html>", "T & U",
                 "# One\n\nA bold word.\n\n### Three\n\nx\n");
    page_becomes("<h1>Only</h1><ul><li>a<li>b<ol><li>c</ol></ul><p>d", "Only", "# Only\n\n- a\n- b\n- c\n\nd\n");
    page_becomes("<p>a<br>b<hr>c<table><tr><td>1<td>2<tr><td>3</table>", "", "a\nb\n\nc\n\n1 2\n3\n");
    page_becomes("<pre>x\n  y</pre>z", "", "```\nx\n  y\n```\n\nz\n");
    page_becomes("<script>no</script><style>no</style><nav>no</nav><form>no<button>no</button></form>yes<svg><title>no</title></svg>", "", "yes\n");
    page_becomes("<meta charset=latin1><p>caf\xe9</p>", "", "caf\xc3\xa9\n");
    page_becomes("plain words &mdash; no tags", "", "plain words \xe2\x80\x94 no tags\n");
}

static void a_deep_page_is_no_recursion(void **state) {
    enum { DEEP = 20000 };
    struct buf html = {0}, out = {0}, title = {0};
    struct status st = {0};
    (void)state;
    for (int i = 0; i < DEEP; i++)
        buf_put_str(&html, "<div>");
    buf_put_str(&html, "bottom");
    bool read = import_html_text(buf_slice(&html), &out, &title, &st);
    assert_true(read || st.detail[0] != '\0'); /* either, but it has ended */
    buf_fini(&html);
    buf_fini(&out);
    buf_fini(&title);
}

/* --- files --------------------------------------------------------------------------------------------------------------- */

static void ids_are_paths_or_their_hash(void **state) {
    char id[160], longer[400];
    (void)state;
    import_file_id("/home/ida/a.md", id);
    assert_string_equal(id, "file:/home/ida/a.md");
    memset(longer, 'x', sizeof longer - 1);
    longer[0] = '/';
    longer[sizeof longer - 1] = '\0';
    import_file_id(longer, id);
    assert_int_equal(strlen(id), 5 + 64);
    import_file_id("/a\xff", id);
    assert_int_equal(strlen(id), 5 + 64);
}

static void kinds_go_by_endings(void **state) {
    (void)state;
    assert_int_equal(import_kind_of("a.MD"), IMPORT_MARKDOWN);
    assert_int_equal(import_kind_of("a.tar.html"), IMPORT_HTML);
    assert_int_equal(import_kind_of("a.pdf"), IMPORT_PDF);
    assert_int_equal(import_kind_of("pdf"), IMPORT_OTHER);
    assert_int_equal(import_kind_of("a.md/b"), IMPORT_OTHER);
}

static enum import_loaded load(const char *content, size_t len, enum import_kind kind, struct import_document *d, struct status *st) {
    char path[] = "/tmp/quire-test-import.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, content, len) == (ssize_t)len && close(fd) == 0);
    d->kind = kind;
    d->path = strdup(path);
    d->shown = strdup("shown.md");
    import_file_id(path, d->id);
    enum import_loaded how = import_file_load(d, false, st);
    unlink(path);
    return how;
}

static void files_are_loaded_once(void **state) {
    struct import_document d = {0};
    struct status st = {0};
    (void)state;
    assert_int_equal(load("---\ntitle: T\nk: v\n---\nText\n", 27, IMPORT_MARKDOWN, &d, &st), IMPORT_LOADED);
    buf_put_u8(&d.json, 0);
    struct json_object *got = json_tokener_parse((const char *)d.json.data);
    assert_string_equal(member_text(got, "title"), "T");
    assert_string_equal(member_text(got, "text"), "# T\n\nText\n");
    assert_string_equal(member_text(member(got, "metadata"), "k"), "v");
    assert_string_equal(member_text(member(got, "metadata"), "path"), "shown.md");
    assert_string_equal(member_text(member(got, "metadata"), "content_sha256"), d.content_sha256);
    json_object_put(got);
    struct import_document again = {0};
    memcpy(again.known_sha256, d.content_sha256, sizeof again.known_sha256);
    assert_int_equal(load("---\ntitle: T\nk: v\n---\nText\n", 27, IMPORT_MARKDOWN, &again, &st), IMPORT_UNCHANGED);
    import_document_fini(&again);
    import_document_fini(&d);
}

static void text_is(const char *content, enum import_kind kind, const char *text, const char *warning) {
    struct import_document d = {0};
    struct status st = {0};
    assert_int_equal(load(content, strlen(content), kind, &d, &st), IMPORT_LOADED);
    buf_put_u8(&d.json, 0);
    struct json_object *got = json_tokener_parse((const char *)d.json.data);
    assert_string_equal(member_text(got, "text"), text);
    assert_true(warning[0] == '\0' ? d.warning[0] == '\0' : strstr(d.warning, warning) != NULL);
    json_object_put(got);
    import_document_fini(&d);
}

static void a_title_can_be_found_by_its_words(void **state) {
    (void)state;
    text_is("---\ntitle: Rye bread\n---\n\nText", IMPORT_MARKDOWN, "# Rye bread\n\n\nText", "");
    text_is("---\ntitle: \xc3\x9c" "ber Brot\n---\n\n## \xc3\xbc" "BER  brot ##\nText", IMPORT_MARKDOWN, "\n## \xc3\xbc" "BER  brot ##\nText", "");
    text_is("---\ntitle: Rye\n---\n# Rye bread\n", IMPORT_MARKDOWN, "# Rye\n\n# Rye bread\n", "");
    text_is("---\ntitle: Rye bread\n---\n# Rye\n", IMPORT_MARKDOWN, "# Rye bread\n\n# Rye\n", "");
    text_is("---\ntitle: Rye\n---\nRye\n", IMPORT_MARKDOWN, "# Rye\n\nRye\n", "");
    text_is("---\ntitle: Rye\n---\n#\nRye\n", IMPORT_MARKDOWN, "# Rye\n\n#\nRye\n", "");
    text_is("No front matter\n", IMPORT_MARKDOWN, "No front matter\n", "");
    text_is("---\ntags: [a, b\n---\nText", IMPORT_MARKDOWN, "---\ntags: [a, b\n---\nText", "value of 'tags'");
    text_is("<title>Kites</title><h1>Wind</h1><p>x", IMPORT_HTML, "# Kites\n\n# Wind\n\nx\n", "");
    text_is("<h1>Wind</h1><p>x", IMPORT_HTML, "# Wind\n\nx\n", "");
}

static void empty_and_unreadable_files_say_so(void **state) {
    struct status st = {0};
    (void)state;
    struct import_document d = {0};
    assert_int_equal(load("", 0, IMPORT_TEXT, &d, &st), IMPORT_EMPTY);
    import_document_fini(&d);
    assert_int_equal(load("\xef\xbb\xbf \n", 5, IMPORT_TEXT, &d, &st), IMPORT_EMPTY);
    import_document_fini(&d);
    assert_int_equal(load("---\na: b\n---\n", 13, IMPORT_MARKDOWN, &d, &st), IMPORT_EMPTY);
    import_document_fini(&d);
    assert_int_equal(load("<script>x</script>", 18, IMPORT_HTML, &d, &st), IMPORT_EMPTY);
    import_document_fini(&d);
    assert_int_equal(load("\xff\xfe", 2, IMPORT_TEXT, &d, &st), IMPORT_FAILED);
    import_document_fini(&d);
    d = (struct import_document){.kind = IMPORT_TEXT, .path = strdup("/no/such/file"), .shown = strdup("x")};
    assert_int_equal(import_file_load(&d, false, &st), IMPORT_FAILED);
    import_document_fini(&d);
}

static void put_file(const char *dir, const char *name, char ret_path[200]) {
    (void)snprintf(ret_path, 200, "%s/%s", dir, name);
    FILE *out = fopen(ret_path, "we");
    assert_non_null(out);
    fputs("{\"id\":\"x\"}\n", out);
    assert_int_equal(fclose(out), 0);
}

static void several_paths_are_one_source(void **state) {
    char dir[] = "/tmp/quire-test-import.XXXXXX", sub[200], a[200], b[200], c[200];
    const char *const met[] = {"a.md", "b.md", "c.ndjson:1", "b.md"};
    struct import_source_options options = {0};
    struct import_source *source = NULL;
    struct status st = {0};
    (void)state;
    assert_non_null(mkdtemp(dir));
    put_file(dir, "a.md", a);
    put_file(dir, "c.ndjson", c);
    (void)snprintf(sub, sizeof sub, "%s/sub", dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    put_file(sub, "b.md", b);
    char *const paths[] = {a, sub, c, b};
    assert_true(import_source_open(paths, 4, &options, &source, &st));
    assert_true(import_source_has_files(source));
    uint64_t done, total;
    import_source_progress(source, &done, &total);
    assert_int_equal(total, 4 * 11);
    for (size_t i = 0; i < 4; i++) {
        struct import_document d;
        assert_int_equal(import_source_next(source, &d, &st), 1);
        assert_non_null(strstr(d.where, met[i]));
        import_document_fini(&d);
    }
    struct import_document none;
    assert_int_equal(import_source_next(source, &none, &st), 0);
    import_source_close(source);
    char missing[] = "/no/such/path";
    char *const bad[] = {a, missing};
    assert_false(import_source_open(bad, 2, &options, &source, &st));
    unlink(a);
    unlink(b);
    unlink(c);
    rmdir(sub);
    rmdir(dir);
}

static void reason_becomes(const char *detail, const char *reason) {
    struct buf out = {0};
    import_message_reason(detail, &out);
    buf_put_u8(&out, 0);
    assert_string_equal((const char *)out.data, reason);
    buf_fini(&out);
}

static void reasons_name_no_place_in_a_request(void **state) {
    (void)state;
    reason_becomes("/documents/2/metadata/tags: is the name of a field of its own and cannot be custom metadata",
                   "/metadata/tags: is the name of a field of its own and cannot be custom metadata: put tags at the top level");
    reason_becomes("/documents/10/year: is no member that is known here; /documents/10/texts/0: must not be empty",
                   "/year: is no member that is known here: put it under metadata; /texts/0: must not be empty");
    reason_becomes("/metadata/tags/0: is no member that is known here", "/metadata/tags/0: is no member that is known here");
    reason_becomes("/documents/3: must be an object", "must be an object");
    reason_becomes("cannot be read: No such file", "cannot be read: No such file");
    reason_becomes("/", "/");
    reason_becomes("", "");
}

static void messages_come_in_the_order_of_the_source(void **state) {
    struct import_messages *m = calloc(1, sizeof *m);
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    (void)state;
    assert_true(m != NULL && out != NULL);
    for (uint64_t i = 0; i < 20; i++) {
        char where[32];
        uint64_t order = (i * 7) % 20;
        (void)snprintf(where, sizeof where, "x:%u", (unsigned)order);
        import_messages_add(m, order, where, "no");
    }
    import_messages_print(m, out);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text, "quire: x:0: no\nquire: x:1: no\nquire: x:2: no\nquire: x:3: no\nquire: x:4: no\nquire: x:5: no\nquire: x:6: no\nquire: x:7: no\nquire: x:8: no\n"
                              "quire: x:9: no\nquire: and 10 more of this kind\n");
    free(text);
    free(m);
}

static void below_is_a_matter_of_whole_names(void **state) {
    struct import_known_file f = {.path = strdup("/a/bc/d.md")};
    (void)state;
    assert_true(import_known_is_below(&f, "/a/bc"));
    assert_true(import_known_is_below(&f, "/a/bc/"));
    assert_true(import_known_is_below(&f, "/"));
    assert_true(import_known_is_below(&f, "/a/bc/d.md"));
    assert_false(import_known_is_below(&f, "/a/b"));
    assert_false(import_known_is_below(&f, "/a/bc/d"));
    free(f.path);
    f.path = NULL;
    assert_false(import_known_is_below(&f, "/"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(front_matter_is_taken_out_of_the_text), cmocka_unit_test(what_is_no_front_matter_stays), cmocka_unit_test(odd_front_matter_is_no_error),
        cmocka_unit_test(pages_become_markdown),                 cmocka_unit_test(a_deep_page_is_no_recursion),    cmocka_unit_test(ids_are_paths_or_their_hash),
        cmocka_unit_test(kinds_go_by_endings),                   cmocka_unit_test(files_are_loaded_once),          cmocka_unit_test(empty_and_unreadable_files_say_so),
        cmocka_unit_test(below_is_a_matter_of_whole_names),      cmocka_unit_test(what_is_not_closed_stays),       cmocka_unit_test(texts_of_several_lines_are_kept_or_folded),
        cmocka_unit_test(a_title_can_be_found_by_its_words),     cmocka_unit_test(several_paths_are_one_source),   cmocka_unit_test(reasons_name_no_place_in_a_request),
        cmocka_unit_test(messages_come_in_the_order_of_the_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
