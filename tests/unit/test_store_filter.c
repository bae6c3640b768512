/*
 * test_store_filter.c - filters: what each operator means for each type, trees, what columns cannot hold. Random ones are in test_store_filter_random.c.
 *
 * The meaning is given by a table in which each row names the documents that match.
 */
#include "filter_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LONG = 300, JSON_ROOM = 32768 };

/* --- the table --- */

static const struct document_text fruits[] = {
    {"d0",
     "title 0",
     "",
     "",
     "",
     "{\"k\":\"apple\",\"n\":1,\"b\":true,\"t\":\"2024-01-01T00:00:00Z\",\"l\":[\"red\",\"green\"],\"o\":{\"p\":{\"q\":7}}}",
     0,
     1,
     {{"", 0}}},
    {"d1",
     "title 1",
     "",
     "",
     "",
     "{\"k\":\"\xc3\x84pfel\",\"n\":2.5,\"b\":false,\"t\":\"2024-01-01T02:00:00.5+02:00\",\"l\":[\"green\"],\"o\":{\"p\":\"s\"}}",
     1000000,
     1,
     {{"", 1}}},
    {"d2",
     "title 2",
     "",
     "",
     "",
     "{\"k\":5,\"n\":\"1\",\"b\":\"true\",\"t\":\"yesterday\",\"l\":\"green\",\"o\":null}",
     2000000,
     1,
     {{"", 2}}},
    {"d3",
     "title 3",
     "",
     "",
     "",
     "{\"k\":[\"apple\"],\"n\":-3,\"b\":null,\"t\":\"2023-12-31\",\"l\":[],\"o\":{\"p\":{\"q\":\"7\"}}}",
     3000000,
     1,
     {{"", -1}}},
    {"d4", "title 4", "", "", "", "{\"k\":\"\",\"n\":1e300,\"t\":1704067200,\"l\":[\"a\",1]}", 4000000, 1, {{"", -1}}},
    {"d5", "title 5", "Ann", "http://x/1", "[\"t1\",\"t2\",\"t1\"]", "", 5000000, 1, {{"", -1}}},
};
enum { FRUITS = sizeof fruits / sizeof *fruits };

#define T(text) {{FILTER_TEXT, false, 0, {(const uint8_t *)(text), sizeof(text) - 1}}}, 1
#define N(value) {{FILTER_NUMBER, false, (value), {0}}}, 1
#define B(value) {{FILTER_BOOL, (value), 0, {0}}}, 1
#define NIL {{FILTER_NULL, false, 0, {0}}}, 1

struct row {
    const char *path;
    enum filter_operator op;
    struct filter_value values[3];
    uint32_t count;
    const char *expected; /* numbers of documents */
};

static const struct row rows[] = {
    /* strings, arrays of them, and other types under the same path */
    {"k", OPERATOR_EQ, T("apple"), "03"},
    {"k", OPERATOR_NE, T("apple"), "1245"},
    {"k", OPERATOR_EQ, T("Apple"), ""},
    {"k", OPERATOR_EQ, T("appl"), ""},
    {"k", OPERATOR_EQ, T("\xc3\x84pfel"), "1"},
    {"k", OPERATOR_EQ, T(""), "4"},
    {"k", OPERATOR_CONTAINS, T("ppl"), "0"},
    {"k", OPERATOR_CONTAINS, T("apple"), "03"},
    {"k", OPERATOR_CONTAINS, T("\x84pf"), "1"},
    {"k", OPERATOR_CONTAINS, T(""), "014"},
    {"k", OPERATOR_GT, T("apple"), "1"},
    {"k", OPERATOR_GTE, T("apple"), "013"},
    {"k", OPERATOR_LT, T("b"), "034"},
    {"k", OPERATOR_LTE, T("apple"), "034"},
    {"k", OPERATOR_EQ, N(5), "2"},
    {"k", OPERATOR_GT, N(4), "2"},
    {"k", OPERATOR_EQ, NIL, "5"},
    {"k", OPERATOR_NE, NIL, "01234"},
    {"k", OPERATOR_GT, NIL, ""},
    {"k", OPERATOR_CONTAINS, NIL, ""},
    {"k",
     OPERATOR_IN,
     {{FILTER_TEXT, false, 0, {(const uint8_t *)"apple", 5}}, {FILTER_NUMBER, false, 5, {0}}, {FILTER_NULL, false, 0, {0}}},
     3,
     "0235"},
    {"k", OPERATOR_IN, {{FILTER_NULL, false, 0, {0}}}, 0, ""},
    {"absent", OPERATOR_EQ, T("apple"), ""},
    {"absent", OPERATOR_NE, T("apple"), "012345"},
    {"absent", OPERATOR_EQ, NIL, "012345"},
    {"absent", OPERATOR_GT, N(0), ""},
    /* numbers */
    {"n", OPERATOR_EQ, N(1), "0"},
    {"n", OPERATOR_NE, N(1), "12345"},
    {"n", OPERATOR_GTE, N(1), "014"},
    {"n", OPERATOR_GT, N(1), "14"},
    {"n", OPERATOR_LT, N(2), "03"},
    {"n", OPERATOR_LTE, N(2.5), "013"},
    {"n", OPERATOR_LT, N(2.5), "03"},
    {"n", OPERATOR_EQ, T("1"), "2"},
    {"n", OPERATOR_GT, T("0"), "2"},
    {"n", OPERATOR_CONTAINS, N(1), ""},
    {"n", OPERATOR_CONTAINS, T("1"), "2"},
    {"n", OPERATOR_EQ, B(true), ""},
    {"n",
     OPERATOR_IN,
     {{FILTER_NUMBER, false, 1, {0}}, {FILTER_NUMBER, false, 2.5, {0}}, {FILTER_TEXT, false, 0, {(const uint8_t *)"1", 1}}},
     3,
     "012"},
    /* booleans */
    {"b", OPERATOR_EQ, B(true), "0"},
    {"b", OPERATOR_EQ, B(false), "1"},
    {"b", OPERATOR_NE, B(true), "12345"},
    {"b", OPERATOR_EQ, T("true"), "2"},
    {"b", OPERATOR_EQ, NIL, "345"},
    {"b", OPERATOR_GT, B(false), ""},
    {"b", OPERATOR_GTE, B(true), ""},
    {"b", OPERATOR_EQ, N(1), ""},
    /* times: zones, fractions, dates; beside them strings that are none, and numbers */
    {"t", OPERATOR_EQ, T("2024-01-01"), "0"},
    {"t", OPERATOR_EQ, T("2024-01-01T01:00:00+01:00"), "0"},
    {"t", OPERATOR_NE, T("2024-01-01"), "12345"},
    {"t", OPERATOR_EQ, T("2024-01-01T00:00:00.500Z"), "1"},
    {"t", OPERATOR_GT, T("2024-01-01"), "12"},
    {"t", OPERATOR_GTE, T("2024-01-01"), "012"},
    {"t", OPERATOR_LT, T("2024-01-01"), "3"},
    {"t", OPERATOR_LTE, T("2024-01-01"), "03"},
    {"t", OPERATOR_LT, T("2024-01-01T00:00:00.6Z"), "013"},
    {"t", OPERATOR_LT, T("2024-01-01T00:00:00.5Z"), "03"},
    {"t", OPERATOR_GT, T("yes"), "2"},
    {"t", OPERATOR_LT, T("yes"), "013"},
    {"t", OPERATOR_LT, T("2024-13-01"), "013"}, /* no time, so all are strings */
    {"t", OPERATOR_EQ, N(1704067200), "4"},
    {"t", OPERATOR_CONTAINS, T("2024-01"), "01"},
    {"t", OPERATOR_IN, T("2024-01-01T00:00:00.500Z"), "1"},
    /* arrays */
    {"l", OPERATOR_EQ, T("green"), "012"},
    {"l", OPERATOR_CONTAINS, T("green"), "012"},
    {"l", OPERATOR_CONTAINS, T("gre"), "2"},
    {"l", OPERATOR_CONTAINS, T("red"), "0"},
    {"l", OPERATOR_IN, T("red"), "0"},
    {"l", OPERATOR_EQ, NIL, "345"},
    {"l", OPERATOR_GT, T("green"), "0"},
    {"l", OPERATOR_EQ, T("a"), ""},
    /* paths */
    {"o.p.q", OPERATOR_EQ, N(7), "0"},
    {"metadata.o.p.q", OPERATOR_EQ, N(7), "0"},
    {"o.p.q", OPERATOR_EQ, T("7"), "3"},
    {"o.p", OPERATOR_EQ, T("s"), "1"},
    {"o", OPERATOR_EQ, NIL, "012345"},
    {"o.p", OPERATOR_EQ, NIL, "02345"},
    /* standard fields */
    {"author", OPERATOR_EQ, T("Ann"), "5"},
    {"author", OPERATOR_EQ, NIL, "01234"},
    {"tags", OPERATOR_CONTAINS, T("t1"), "5"},
    {"tags", OPERATOR_CONTAINS, T("t"), ""},
    {"tags", OPERATOR_EQ, T("t2"), "5"},
    {"source_url", OPERATOR_EQ, T("http://x/1"), "5"},
    {"source_url", OPERATOR_CONTAINS, T("//x"), "5"},
    {"document_type", OPERATOR_EQ, T("text"), "012345"},
    {"created_at", OPERATOR_GTE, T("1970-01-01T00:00:03Z"), "345"},
    {"created_at", OPERATOR_EQ, T("1970-01-01T01:00:03+01:00"), "3"},
    {"created_at", OPERATOR_LT, T("1970-01-01T00:00:01.000001Z"), "01"},
    {"created_at", OPERATOR_CONTAINS, T("1970"), ""},
    {"created_at", OPERATOR_EQ, NIL, ""},
    {"chunk_index", OPERATOR_EQ, N(0), "012345"},
    {"page_number", OPERATOR_GTE, N(1), "12"},
    {"page_number", OPERATOR_EQ, NIL, "345"},
    {"id", OPERATOR_EQ, T("d0"), "0"},
    {"id", OPERATOR_NE, T("d0"), "12345"},
    {"id", OPERATOR_EQ, T("nobody"), ""},
    {"id", OPERATOR_EQ, NIL, ""},
    {"id", OPERATOR_GT, T("d3"), "45"},
    {"id", OPERATOR_CONTAINS, T("5"), "5"},
    {"id",
     OPERATOR_IN,
     {{FILTER_TEXT, false, 0, {(const uint8_t *)"d1", 2}},
      {FILTER_TEXT, false, 0, {(const uint8_t *)"d4", 2}},
      {FILTER_NUMBER, false, 5, {0}}},
     3,
     "14"},
    {"chunk_id", OPERATOR_EQ, T("d1/0"), "1"},
    {"chunk_id", OPERATOR_CONTAINS, T("/0"), "012345"},
    {"title", OPERATOR_EQ, T("title 3"), "3"},
    {"title", OPERATOR_GTE, T("title 4"), "45"},
    {"text", OPERATOR_CONTAINS, T("of d2"), "2"},
    {"text", OPERATOR_EQ, T("chunk 0 of d2"), "2"},
};

/* slots are documents here, as each has one chunk */
static void assert_documents(struct asking *a, const struct filter *f, const char *expected, const char *what) {
    struct slot_set set = asking_evaluate(a, f);
    char found[64] = "";
    size_t n = 0;
    for (uint32_t slot = 0; slot < set.slots; slot++) {
        if (slot_set_has(&set, slot)) {
            found[n++] = (char)('0' + slot);
        }
    }
    found[n] = '\0';
    if (strcmp(found, expected) != 0) {
        fail_msg("%s: found %s, expected %s", what, found, expected);
    }
}

static void put_fruits(struct fixture *f, const struct uuid *library) {
    f->pending = true;
    fixture_create(f, library, INDEX_FLAT, "test");
    for (size_t i = 0; i < FRUITS; i++) {
        filter_put(f, library, &fruits[i]);
    }
}

static void test_table(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct asking a;
    put_fruits(f, &library);
    asking_begin(&a, f, &library, CACHE_BYTES);
    for (int pass = 0; pass < 2; pass++) { /* the second time from what was found */
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            char what[128];
            struct filter leaf = leaf_filter(rows[i].path, rows[i].op, rows[i].values, rows[i].count);
            (void)snprintf(what, sizeof what, "pass %d, row %zu: %s, operator %d", pass, i, rows[i].path, (int)rows[i].op);
            assert_documents(&a, &leaf, rows[i].expected, what);
            assert_as_records(&a, &leaf);
        }
    }
    asking_end(&a);
}

static void test_trees(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct asking a;
    struct filter_value green = {.type = FILTER_TEXT, .text = slice_str("green")};
    struct filter_value two = {.type = FILTER_NUMBER, .number = 2};
    struct filter is_green = leaf_filter("l", OPERATOR_EQ, &green, 1);
    struct filter is_small = leaf_filter("n", OPERATOR_LT, &two, 1);
    const struct filter *both[] = {&is_green, &is_small};
    struct filter and = {.kind = FILTER_AND, .children = both, .count = 2};
    struct filter or = {.kind = FILTER_OR, .children = both, .count = 2};
    const struct filter *of_or[] = {& or };
    struct filter not_or = {.kind = FILTER_NOT, .children = of_or, .count = 1};
    const struct filter *of_green[] = {&is_green};
    struct filter not_green = {.kind = FILTER_NOT, .children = of_green, .count = 1};
    const struct filter *nested[] = {&not_green, & or };
    struct filter mixed = {.kind = FILTER_AND, .children = nested, .count = 2};
    struct filter all = {.kind = FILTER_AND};
    struct filter none = {.kind = FILTER_OR};
    const struct filter *of_all[] = {&all};
    struct filter not_all = {.kind = FILTER_NOT, .children = of_all, .count = 1};
    put_fruits(f, &library);
    asking_begin(&a, f, &library, CACHE_BYTES);
    for (int pass = 0; pass < 2; pass++) {
        assert_documents(&a, &and, "0", "and");
        assert_documents(&a, & or, "0123", "or");
        assert_documents(&a, &not_or, "45", "not or");
        assert_documents(&a, &not_green, "345", "not green");
        assert_documents(&a, &mixed, "3", "not green and (green or small)");
        assert_documents(&a, &all, "012345", "empty and");
        assert_documents(&a, &none, "", "empty or");
        assert_documents(&a, &not_all, "", "not of empty and");
    }
    asking_end(&a);
}

/* More values than are asked for one by one. */
static void test_many_values(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    enum { MANY = 40 };
    static char texts[MANY][32];
    struct filter_value numbers_in[MANY];
    struct filter_value times_in[MANY];
    struct asking a;
    for (int i = 0; i < MANY; i++) { /* -10 to 9.5, in no order; the last seconds of 2023 and the first of 2024 */
        numbers_in[i] = (struct filter_value){.type = FILTER_NUMBER, .number = (i * 7 % MANY) / 2.0 - 10};
        (void)snprintf(texts[i], sizeof texts[i], i < 20 ? "2023-12-31T23:59:%02dZ" : "2024-01-01T00:00:%02d.5Z",
                       i < 20 ? 40 + i : i - 20);
        times_in[i] = (struct filter_value){.type = FILTER_TEXT, .text = slice_str(texts[i])};
    }
    struct filter is_number = leaf_filter("n", OPERATOR_IN, numbers_in, MANY);
    struct filter is_time = leaf_filter("t", OPERATOR_IN, times_in, MANY);
    put_fruits(f, &library);
    asking_begin(&a, f, &library, CACHE_BYTES);
    assert_documents(&a, &is_number, "013", "many numbers");
    assert_documents(&a, &is_time, "1", "many times");
    assert_as_records(&a, &is_number);
    assert_as_records(&a, &is_time);
    asking_end(&a);
}

static void test_too_deep(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    enum { DEPTH = 600 };
    static struct filter nodes[DEPTH];
    static const struct filter *children[DEPTH];
    struct asking a;
    struct slot_set set;
    struct status st = {0};
    put_fruits(f, &library);
    asking_begin(&a, f, &library, CACHE_BYTES);
    for (int i = 0; i + 1 < DEPTH; i++) {
        children[i] = &nodes[i + 1];
        nodes[i] = (struct filter){.kind = FILTER_NOT, .children = &children[i], .count = 1};
    }
    nodes[DEPTH - 1] = (struct filter){.kind = FILTER_AND};
    assert_false(filter_evaluate(a.cache, &a.rd, &nodes[0], &set, &st));
    assert_int_equal(st.code, STATUS_INVALID);
    assert_documents(&a, &nodes[DEPTH - 513], "012345", "512 times not"); /* 512 levels of not over true */
    asking_end(&a);
}

/* --- chunk and document --- */

static void test_chunk_hides_document(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct asking a;
    struct document_text d = {"d", "t", "",
                              "",  "",  "{\"x\":1,\"y\":\"s\",\"z\":{\"w\":true}}",
                              0,   3,   {{"{\"x\":\"own\"}", -1}, {"{\"x\":null,\"y\":2,\"z\":{\"v\":1}}", 4}, {"", -1}}};
    struct filter_value one = {.type = FILTER_NUMBER, .number = 1};
    struct filter_value own = {.type = FILTER_TEXT, .text = slice_str("own")};
    struct filter_value s = {.type = FILTER_TEXT, .text = slice_str("s")};
    struct filter_value yes = {.type = FILTER_BOOL, .boolean = true};
    const struct {
        const char *path;
        const struct filter_value *value;
        const char *expected;
    } cases[] = {{"x", &one, "12"},    {"x", &own, "0"},   {"y", &s, "02"},
                 {"z.w", &yes, "012"}, {"z.v", &one, "1"}, {"chunk_index", &one, "1"}};
    f->pending = true;
    fixture_create(f, &library, INDEX_FLAT, "test");
    filter_put(f, &library, &d);
    asking_begin(&a, f, &library, CACHE_BYTES);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct filter leaf = leaf_filter(cases[i].path, OPERATOR_EQ, cases[i].value, 1);
        assert_documents(&a, &leaf, cases[i].expected, cases[i].path);
        assert_as_records(&a, &leaf);
    }
    asking_end(&a);
}

/* --- what columns cannot hold --- */

static void test_long_strings(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct asking a;
    char text[LONG + 1];
    char metadata[4][2 * LONG + 64];
    memset(text, 'x', LONG);
    text[LONG] = '\0';
    (void)snprintf(metadata[0], sizeof metadata[0], "{\"s\":\"%s\"}", text);
    (void)snprintf(metadata[1], sizeof metadata[1], "{\"s\":[\"%s\",\"short\"]}", text);
    (void)snprintf(metadata[2], sizeof metadata[2], "{\"s\":\"%.256s\"}", text);
    (void)snprintf(metadata[3], sizeof metadata[3], "{\"s\":\"short\"}");
    f->pending = true;
    fixture_create(f, &library, INDEX_FLAT, "test");
    for (int i = 0; i < 4; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "d%d", i);
        struct document_text d = {id, "t", "", "", "", metadata[i], 0, 1, {{"", -1}}};
        filter_put(f, &library, &d);
    }
    struct filter_value whole = {.type = FILTER_TEXT, .text = slice_str(text)};
    struct filter_value part = {.type = FILTER_TEXT, .text = slice_of(text, LONG - 1)};
    struct filter_value shorter = {.type = FILTER_TEXT, .text = slice_of(text, 256)};
    struct filter_value word = {.type = FILTER_TEXT, .text = slice_str("short")};
    struct filter_value nil = {.type = FILTER_NULL};
    const struct {
        enum filter_operator op;
        const struct filter_value *value;
        const char *expected;
    } cases[] = {{OPERATOR_EQ, &whole, "01"},       {OPERATOR_EQ, &part, ""},        {OPERATOR_CONTAINS, &part, "0"},
                 {OPERATOR_CONTAINS, &whole, "01"}, {OPERATOR_EQ, &shorter, "2"},    {OPERATOR_EQ, &word, "13"},
                 {OPERATOR_NE, &word, "02"},        {OPERATOR_GT, &shorter, "01"},   {OPERATOR_EQ, &nil, ""},
                 {OPERATOR_NE, &nil, "0123"},       {OPERATOR_LTE, &shorter, "123"}, {OPERATOR_IN, &whole, "01"}};
    asking_begin(&a, f, &library, CACHE_BYTES);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[32];
        struct filter leaf = leaf_filter("s", cases[i].op, cases[i].value, 1);
        (void)snprintf(what, sizeof what, "case %zu", i);
        assert_documents(&a, &leaf, cases[i].expected, what);
    }
    asking_end(&a);
}

/* More fields than there may be columns: the others are read from the records, and so are they in documents that come later. */
static void test_too_many_fields(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    enum { FIELDS = COLUMNS_MAX + 100 };
    static char metadata[JSON_ROOM];
    struct asking a;
    size_t at = 0;
    for (int i = 0; i < FIELDS; i++) {
        at += (size_t)snprintf(metadata + at, sizeof metadata - at, "%c\"f%d\":%d", i == 0 ? '{' : ',', i, i);
    }
    (void)snprintf(metadata + at, sizeof metadata - at, "}");
    struct document_text first = {"d0", "t", "", "", "", "{\"f1100\":\"early\"}", 0, 1, {{"", -1}}};
    struct document_text wide = {"d1", "t", "", "", "", metadata, 0, 1, {{"", -1}}};
    struct document_text later = {"d2", "t", "", "", "", "{\"f1100\":7,\"f1101\":\"z\",\"f3\":3}", 0, 1, {{"", -1}}};
    f->pending = true;
    fixture_create(f, &library, INDEX_FLAT, "test");
    filter_put(f, &library, &first);
    filter_put(f, &library, &wide);
    filter_put(f, &library, &later);
    asking_begin(&a, f, &library, CACHE_BYTES);
    for (int i = 0; i < FIELDS; i++) {
        char path[16];
        struct filter_value value = {.type = FILTER_NUMBER, .number = i};
        (void)snprintf(path, sizeof path, "f%d", i);
        struct filter leaf = leaf_filter(path, OPERATOR_EQ, &value, 1);
        assert_documents(&a, &leaf, i == 3 ? "12" : "1", path);
    }
    struct filter_value seven = {.type = FILTER_NUMBER, .number = 7};
    struct filter_value z = {.type = FILTER_TEXT, .text = slice_str("z")};
    struct filter_value nil = {.type = FILTER_NULL};
    struct filter is_seven = leaf_filter("f1100", OPERATOR_EQ, &seven, 1);
    struct filter is_z = leaf_filter("f1101", OPERATOR_EQ, &z, 1);
    struct filter is_absent = leaf_filter("f1101", OPERATOR_EQ, &nil, 1);
    assert_documents(&a, &is_seven, "2", "f1100");
    assert_documents(&a, &is_z, "2", "f1101");
    assert_documents(&a, &is_absent, "0", "f1101 absent");
    asking_end(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_table, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_trees, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_many_values, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_too_deep, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_chunk_hides_document, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_long_strings, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_too_many_fields, fixture_set_up, fixture_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
