/*
 * test_store_fields.c - the values of documents and chunks: types, paths, what hides what, what is left out.
 *
 * Values are written as one line of text, in the order of their paths and types, and compared with what is expected.
 */
#include "store/fields.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LINE = 4096, LONG = 300, DEEP = 600, MANY = 20000 };

static int compare_values(const void *a, const void *b) {
    const struct field_value *x = (const struct field_value *)a;
    const struct field_value *y = (const struct field_value *)b;
    int order = slice_compare(x->path, y->path);
    return order != 0 ? order : (int)x->type - (int)y->type;
}

static void put_value(struct buf *out, const struct field_value *v) {
    buf_put_slice(out, v->path);
    switch (v->type) {
    case COLUMN_KEYWORD:
        buf_put_str(out, v->as.keywords.array ? "=[" : "=");
        for (uint32_t i = 0; i < v->as.keywords.count; i++) {
            buf_put_str(out, i > 0 ? "|" : "");
            buf_put_slice(out, v->as.keywords.items[i]);
        }
        buf_put_str(out, v->as.keywords.count == 0 ? "(elsewhere)" : "");
        buf_put_str(out, v->as.keywords.array ? "]" : "");
        break;
    case COLUMN_NUMBER:
        buf_printf(out, "#%.17g", v->as.number);
        break;
    case COLUMN_TIME:
        buf_printf(out, "@%lld", (long long)v->as.time_us);
        break;
    case COLUMN_BOOL:
        buf_put_str(out, v->as.boolean ? "?yes" : "?no");
        break;
    }
    buf_put_u8(out, ' ');
}

/* All but the three that every document here has. */
static void assert_values(const struct field_values *values, const char *expected) {
    struct buf out = {0};
    struct field_value *sorted = (struct field_value *)malloc((values->count + 1) * sizeof *sorted);
    assert_non_null(sorted);
    memcpy(sorted, values->items, values->count * sizeof *sorted);
    qsort(sorted, values->count, sizeof *sorted, compare_values);
    for (uint32_t i = 0; i < values->count; i++) {
        if (!slice_is(sorted[i].path, "created_at") && !slice_is(sorted[i].path, "chunk_index") &&
            !slice_is(sorted[i].path, "document_type")) {
            put_value(&out, &sorted[i]);
        }
    }
    buf_put_u8(&out, 0);
    assert_string_equal((const char *)out.data, expected);
    buf_fini(&out);
    free(sorted);
}

static struct op_document document(const char *tags, const char *metadata) {
    return (struct op_document){
        .created_at = 1, .document_type = slice_str("text"), .tags = slice_str(tags), .metadata = slice_str(metadata)};
}

static void expect(struct field_reader *r, const char *metadata, const char *chunk_metadata, const char *expected) {
    struct op_document d = document("", metadata);
    struct op_chunk c = {.metadata = slice_str(chunk_metadata), .page_number = -1};
    struct field_values values;
    struct status st = {0};
    assert_true(fields_of_document(r, &d, &st));
    assert_true(fields_of_chunk(r, &c, 0, &values, &st));
    assert_values(&values, expected);
}

static int set_up(void **state) {
    *state = field_reader_new();
    return *state == NULL ? -1 : 0;
}

static int tear_down(void **state) {
    field_reader_free((struct field_reader *)*state);
    return 0;
}

static void test_types(void **state) {
    struct field_reader *r = (struct field_reader *)*state;
    expect(r, "", "", "");
    expect(r, "{}", "{}", "");
    expect(r, "{\"a\":1,\"b\":-2.5,\"c\":true,\"d\":false,\"e\":\"s\",\"f\":null,\"g\":\"\"}", "",
           "a#1 b#-2.5 c?yes d?no e=s g= ");
    expect(r,
           "{\"a\":[\"z\",\"x\",\"z\",\"y\"],\"b\":[],\"c\":[1,2],\"d\":[\"s\",1],\"e\":[[\"s\"]],\"f\":[null],\"g\":[\"one\"]}",
           "", "a=[x|y|z] g=[one] ");
    expect(r, "{\"a\":{\"b\":{\"c\":1,\"d\":\"x\"},\"e\":{}},\"f\":[{\"g\":1}]}", "", "a.b.c#1 a.b.d=x ");
    expect(r, "{\"a\":9007199254740993,\"b\":9223372036854775807,\"c\":1e308}", "",
           "a#9007199254740992 b#9.2233720368547758e+18 c#1e+308 ");
    expect(r, "{\"\xc3\xa9\":\"\xe6\x97\xa5\",\"u\":\"\\u00e9\"}", "", "u=\xc3\xa9 \xc3\xa9=\xe6\x97\xa5 ");
}

static void test_times(void **state) {
    static const struct {
        const char *text;
        int64_t us; /* -1: none */
    } times[] = {{"1970-01-01", 0},
                 {"1970-01-02", INT64_C(86400000000)},
                 {"1970-01-01T00:00:01Z", 1000000},
                 {"1970-01-01T01:00:01.5+01:00", 1500000},
                 {"1970-01-01t00:00:00.000001z", 1},
                 {"2024-02-30", -1},
                 {"2024-02-29", INT64_C(1709164800000000)},
                 {"2023-02-29", -1},
                 {"1970-01-01 ", -1},
                 {"1970-1-1", -1},
                 {"1970-01-01T00:00:01", -1},
                 {"yesterday", -1},
                 {"", -1},
                 {"1234567890", -1}};
    struct field_reader *r = (struct field_reader *)*state;
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        char metadata[128];
        char expected[128];
        int64_t us = -1;
        (void)snprintf(metadata, sizeof metadata, "{\"t\":\"%s\"}", times[i].text);
        int n = snprintf(expected, sizeof expected, "t=%s ", times[i].text);
        if (times[i].us >= 0) {
            (void)snprintf(expected + n, sizeof expected - (size_t)n, "t@%lld ", (long long)times[i].us);
        }
        expect(r, metadata, "", expected);
        assert_int_equal(field_time_parse(slice_str(times[i].text), &us), times[i].us >= 0);
    }
    expect(r, "{\"t\":[\"1970-01-01\"]}", "", "t=[1970-01-01] "); /* an array is no time */
}

static void test_paths(void **state) {
    struct field_reader *r = (struct field_reader *)*state;
    expect(r, "{\"title\":\"x\",\"id\":1,\"tags\":\"y\",\"text\":\"z\",\"page_number\":5,\"o\":{\"title\":\"w\"}}", "",
           "o.title=w ");
    expect(r, "{\"a.b\":1,\"a\":{\"b\":\"s\"}}", "", "a.b#1 "); /* the first of two */
    expect(r, "{\"a\":{\"b\":\"s\"},\"a.b\":1}", "", "a.b=s ");
    expect(r, "{\"\":1,\"a\":{\"\":2}}", "", "#1 a.#2 ");
    char key[FIELD_PATH_BYTES_MAX + 2];
    char metadata[2 * sizeof key];
    char expected[2 * sizeof key];
    memset(key, 'k', sizeof key);
    (void)snprintf(metadata, sizeof metadata, "{\"%.*s\":1}", FIELD_PATH_BYTES_MAX, key);
    (void)snprintf(expected, sizeof expected, "%.*s#1 ", FIELD_PATH_BYTES_MAX, key);
    expect(r, metadata, "", expected);
    (void)snprintf(metadata, sizeof metadata, "{\"%.*s\":1}", FIELD_PATH_BYTES_MAX + 1, key);
    expect(r, metadata, "", "");
    (void)snprintf(metadata, sizeof metadata, "{\"%.*s\":{\"x\":1}}", FIELD_PATH_BYTES_MAX - 1, key);
    expect(r, metadata, "", "");
}

static void test_chunk_hides_document(void **state) {
    struct field_reader *r = (struct field_reader *)*state;
    struct op_document d = document("[\"t\"]", "{\"a\":\"1970-01-01\",\"b\":{\"c\":1,\"d\":2},\"e\":[\"x\"]}");
    struct op_chunk own = {.metadata = slice_str("{\"a\":5,\"b\":{\"c\":\"s\"},\"e\":null,\"f\":true}"), .page_number = 3};
    struct op_chunk none = {.page_number = -1};
    struct field_values values;
    struct status st = {0};
    const char *document_only = "a=1970-01-01 a@0 b.c#1 b.d#2 e=[x] tags=[t] ";
    assert_true(fields_of_document(r, &d, &st));
    assert_true(fields_of_chunk(r, &none, 0, &values, &st));
    assert_values(&values, document_only);
    assert_true(fields_of_chunk(r, &own, 1, &values, &st));
    assert_values(&values, "a#5 b.c=s b.d#2 e=[x] f?yes page_number#3 tags=[t] ");
    assert_true(fields_of_chunk(r, &none, 2, &values, &st));
    assert_values(&values, document_only);
    assert_true(fields_of_chunk(r, &own, 3, &values, &st));
    assert_true(fields_of_chunk(r, &own, 4, &values, &st));
    assert_values(&values, "a#5 b.c=s b.d#2 e=[x] f?yes page_number#3 tags=[t] ");
    bool index_found = false;
    for (uint32_t i = 0; i < values.count; i++) {
        index_found = index_found || (slice_is(values.items[i].path, "chunk_index") && values.items[i].as.number == 4);
    }
    assert_true(index_found);
}

static void test_standard(void **state) {
    struct field_reader *r = (struct field_reader *)*state;
    struct op_document d = {.created_at = 7,
                            .id = slice_str("\x02x"),
                            .title = slice_str("a title"),
                            .author = slice_str("Ann"),
                            .source_url = slice_str("http://x"),
                            .document_type = slice_str("note"),
                            .tags = slice_str("[\"b\",\"a\"]")};
    struct op_chunk c = {.text = slice_str("a text"), .page_number = 0};
    struct field_values values;
    struct status st = {0};
    assert_true(fields_of_document(r, &d, &st));
    assert_true(fields_of_chunk(r, &c, 0, &values, &st));
    assert_values(&values, "author=Ann page_number#0 source_url=http://x tags=[a|b] ");
    bool created = false;
    bool typed = false;
    for (uint32_t i = 0; i < values.count; i++) {
        const struct field_value *v = &values.items[i];
        created = created || (slice_is(v->path, "created_at") && v->type == COLUMN_TIME && v->as.time_us == 7);
        typed = typed || (slice_is(v->path, "document_type") && slice_is(v->as.keywords.items[0], "note"));
    }
    assert_true(created && typed);
}

static void test_too_long(void **state) {
    struct field_reader *r = (struct field_reader *)*state;
    static char metadata[MANY * 8];
    static char expected[MANY * 8];
    char text[LONG];
    memset(text, 'x', sizeof text);
    (void)snprintf(metadata, sizeof metadata, "{\"a\":\"%.257s\",\"b\":\"%.256s\",\"c\":[\"%.257s\",\"s\"]}", text, text, text);
    (void)snprintf(expected, sizeof expected, "a=(elsewhere) b=%.256s c=[(elsewhere)] ", text);
    expect(r, metadata, "", expected);
    size_t at = (size_t)snprintf(metadata, sizeof metadata, "{\"a\":[\"s0\"");
    for (int i = 1; i <= COLUMN_KEYWORDS_MAX; i++) {
        at += (size_t)snprintf(metadata + at, sizeof metadata - at, ",\"s%d\"", i);
    }
    (void)snprintf(metadata + at, sizeof metadata - at, "]}");
    expect(r, metadata, "", "a=[(elsewhere)] ");
    field_reader_keep_all(r);
    (void)snprintf(metadata, sizeof metadata, "{\"a\":\"%.257s\"}", text);
    (void)snprintf(expected, sizeof expected, "a=%.257s ", text);
    expect(r, metadata, "", expected);
}

/* Metadata of a worker that lies, or of a time when limits were wider. */
static void test_what_does_not_parse(void **state) {
    struct field_reader *r = (struct field_reader *)*state;
    static char deep[DEEP * 8];
    static const char *const bad[] = {
        "{\"a\":1", "[1]", "7", "\"s\"", "null", "{a}", "xyz", "{\"a\":1}}", "{\"a\":\"\\ud800\"}", "{\"a\":nan}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct op_document d = document("{\"no\":\"array\"}", bad[i]);
        struct op_chunk c = {.metadata = slice_str(bad[i]), .page_number = -1};
        struct field_values values;
        struct status st = {0};
        assert_true(fields_of_document(r, &d, &st));
        assert_true(fields_of_chunk(r, &c, 0, &values, &st));
    }
    size_t at = 0;
    for (int i = 0; i < DEEP; i++) {
        at += (size_t)snprintf(deep + at, sizeof deep - at, "{\"\":");
    }
    deep[at++] = '1';
    memset(deep + at, '}', DEEP);
    expect(r, deep, "", "");
    expect(r, "{\"a\":1}", "", "a#1 "); /* and goes on */
}

/* Many fields: each is there once, and finding doubles does not take the square of their number. */
static void test_many(void **state) {
    struct field_reader *r = (struct field_reader *)*state;
    struct buf metadata = {0};
    struct field_values values;
    struct status st = {0};
    for (int i = 0; i < MANY; i++) {
        buf_printf(&metadata, "%c\"f.%d\":%d", i == 0 ? '{' : ',', i, i);
    }
    buf_put_u8(&metadata, '}');
    struct op_document d = {.metadata = buf_slice(&metadata)};
    struct op_chunk c = {.metadata = buf_slice(&metadata), .page_number = -1};
    int64_t begin = clock_monotonic_us();
    assert_true(fields_of_document(r, &d, &st));
    assert_true(fields_of_chunk(r, &c, 0, &values, &st));
    assert_true(clock_monotonic_us() - begin < 5000000);
    assert_int_equal(values.count, MANY + 2); /* created_at, chunk_index */
    buf_fini(&metadata);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_types, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_times, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_paths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chunk_hides_document, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_standard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_long, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_does_not_parse, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
