/*
 * test_store_texts.c - terms and values on their way from an op into the inverted index and the columns: what is staged comes out as it went in,
 * what is dropped leaves nothing, and after any sequence of ops both hold what the living chunks say.
 */
#include "store/texts.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store/library_internal.h"
#include "store_fixture.h"

static const char *const words[] = {"river", "stone",   "winter", "running", "cathedrals", "of",   "the",  "light",
                                    "grain", "harbour", "seven",  "glass",   "wolves",     "over", "rain", "paper"};
enum { WORDS = sizeof words / sizeof words[0], TEXT_WORDS = 30, NAME_BYTES = 64, METADATA_BYTES = 512 };

static void random_text(uint64_t *random, struct buf *out) {
    uint64_t count = fixture_random(random) % TEXT_WORDS;
    buf_reset(out);
    for (uint64_t i = 0; i < count; i++) {
        buf_put_str(out, words[fixture_random(random) % WORDS]);
        buf_put_str(out, " ");
    }
}

/* Metadata with some fields, sometimes such that a chunk hides its document's. */
static void random_metadata(uint64_t *random, struct buf *out) {
    buf_reset(out);
    buf_put_str(out, "{");
    bool first = true;
    static const struct {
        const char *before, *behind; /* a digit */
    } members[] = {{"\"year\":", ""},
                   {"\"tagged\":[\"a", "\",\"b\",\"c\"]"},
                   {"\"source\":{\"lang\":\"l", "\"}"},
                   {"\"at\":\"2024-01-0", "T00:00:00Z\""},
                   {"\"on\":true,\"n", "\":null"},
                   {"\"name\":\"x", "\""}};
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (fixture_random(random) % 2 == 0) {
            unsigned digit = (unsigned)(fixture_random(random) % 9 + 1);
            buf_printf(out, "%s%s%u%s", first ? "" : ",", members[i].before, digit, members[i].behind);
            first = false;
        }
    }
    buf_put_str(out, "}");
}

static void put_op(struct buf *out, const struct uuid *library, enum put_mode mode, const char *document, uint32_t count,
                   uint64_t *random) {
    struct buf id = {0};
    struct buf text = {0};
    struct buf metadata = {0};
    random_metadata(random, &metadata);
    struct op_document d = {.mode = (uint8_t)mode,
                            .created_at = 5,
                            .id = fixture_id(&id, document),
                            .title = slice_str(words[fixture_random(random) % WORDS]),
                            .document_type = slice_str("text"),
                            .tags = slice_str("[\"one\",\"two\"]"),
                            .metadata = buf_slice(&metadata),
                            .num_chunks = count};
    op_encode_document(out, library, &d);
    for (uint32_t i = 0; i < count; i++) {
        char name[NAME_BYTES];
        (void)snprintf(name, sizeof name, "%s/%u", document, i);
        random_text(random, &text);
        buf_reset(&metadata);
        if (fixture_random(random) % 3 == 0) {
            random_metadata(random, &metadata);
        }
        struct op_chunk c = {.id = fixture_id(&id, name),
                             .text = buf_slice(&text),
                             .metadata = buf_slice(&metadata),
                             .page_number = i % 2 == 0 ? (int64_t)i : -1};
        op_encode_chunk(out, &c);
    }
    op_encode_vectors(out, NULL, 0, 0);
    assert_true(buf_ok(&id) && buf_ok(&text) && buf_ok(&metadata));
    buf_fini(&id);
    buf_fini(&text);
    buf_fini(&metadata);
}

/* --- the stage alone --- */

struct files {
    struct lexical lexical;
    struct columns columns;
};

static void files_open(struct files *f) {
    f->lexical = (struct lexical){.terms = (uint8_t *)calloc(1, LEXICAL_TERMS_FIRST_BYTES),
                                  .terms_bytes = LEXICAL_TERMS_FIRST_BYTES,
                                  .postings = (uint8_t *)calloc(1, LEXICAL_POSTINGS_FIRST_BYTES),
                                  .postings_bytes = LEXICAL_POSTINGS_FIRST_BYTES};
    f->columns = (struct columns){.base = (uint8_t *)calloc(1, COLUMNS_FIRST_BYTES), .bytes = COLUMNS_FIRST_BYTES};
    assert_true(f->lexical.terms != NULL && f->lexical.postings != NULL && f->columns.base != NULL);
    lexical_init(&f->lexical);
    columns_init(&f->columns);
}

static void files_close(struct files *f) {
    free(f->lexical.terms);
    free(f->lexical.postings);
    free(f->columns.base);
}

static void assert_same_terms(const struct terms *a, const struct terms *b) {
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->length, b->length);
    for (uint32_t i = 0; i < a->count; i++) {
        assert_true(slice_equal(a->items[i].bytes, b->items[i].bytes));
        assert_int_equal(a->items[i].hash, b->items[i].hash);
        assert_int_equal(a->items[i].count, b->items[i].count);
    }
}

static void assert_same_value(const struct field_value *a, const struct field_value *b) {
    assert_true(slice_equal(a->path, b->path));
    assert_int_equal(a->type, b->type);
    switch (a->type) {
    case COLUMN_KEYWORD:
        assert_int_equal(a->as.keywords.count, b->as.keywords.count);
        assert_int_equal(a->as.keywords.array, b->as.keywords.array);
        for (uint32_t i = 0; i < a->as.keywords.count; i++) {
            assert_true(slice_equal(a->as.keywords.items[i], b->as.keywords.items[i]));
        }
        break;
    case COLUMN_NUMBER:
        assert_memory_equal(&a->as.number, &b->as.number, sizeof a->as.number);
        break;
    case COLUMN_TIME:
        assert_int_equal(a->as.time_us, b->as.time_us);
        break;
    case COLUMN_BOOL:
        assert_int_equal(a->as.boolean, b->as.boolean);
        break;
    }
}

/* Takes the oldest op and holds it against what analysing it again gives. Returns the values that it had in all. */
static size_t take_and_compare(struct texts *t, struct text_stage *stage, const struct op_document *d, struct analyzer *analyzer,
                               struct field_reader *fields) {
    struct text_taking taking;
    struct chunk_walk walk = {.bytes = d->chunks};
    struct op_chunk chunk;
    struct status st = {0};
    size_t total = 0;
    assert_true(fields_of_document(fields, d, &st));
    text_stage_begin(stage, &taking);
    for (uint32_t i = 0; i < d->num_chunks; i++) {
        struct terms terms;
        struct terms wanted;
        struct field_values values;
        struct field_values wanted_values;
        assert_true(chunk_walk_next(&walk, &chunk));
        assert_true(analyzer_reserve(analyzer, chunk.text.len, &st));
        analyze(analyzer, chunk.text, &wanted);
        assert_true(fields_of_chunk(fields, &chunk, i, &wanted_values, &st));
        text_stage_next(t, stage, &taking, &terms, &values);
        assert_same_terms(&terms, &wanted);
        assert_int_equal(values.count, wanted_values.count);
        for (uint32_t v = 0; v < values.count; v++) {
            assert_same_value(&values.items[v], &wanted_values.items[v]);
        }
        total += values.count;
    }
    text_stage_end(stage);
    return total;
}

enum { BATCH = 12 };

static void test_stage(void **state) {
    (void)state;
    struct texts *t = NULL;
    struct analyzer *analyzer = NULL;
    struct field_reader *fields = field_reader_new();
    struct text_stage stage = {0};
    struct files files;
    struct status st = {0};
    struct uuid id = fixture_library_id(1);
    uint64_t random = 11;
    files_open(&files);
    assert_non_null(fields);
    assert_true(texts_new(&t, &st) && analyzer_new("english", &analyzer, &st));
    for (unsigned round = 0; round < 40; round++) {
        struct buf bytes[BATCH] = {{0}};
        struct op ops[BATCH];
        size_t values = 0;
        for (size_t i = 0; i < BATCH; i++) {
            put_op(&bytes[i], &id, PUT_CREATE, "d", (uint32_t)(fixture_random(&random) % 40), &random);
            assert_true(op_decode(buf_slice(&bytes[i]), NULL, &ops[i], &st));
            struct text_stage before = stage;
            assert_true(text_stage_add(t, &stage, "english", &ops[i].as.document, 0, &files.lexical, &files.columns, &st));
            if (i % 4 == 1) { /* refused after all, and tried again */
                text_stage_drop_last(&stage, &before);
                assert_int_equal(stage.bytes.len, before.bytes.len);
                assert_memory_equal(&stage.terms, &before.terms, sizeof stage.terms);
                assert_memory_equal(&stage.columns, &before.columns, sizeof stage.columns);
                assert_true(text_stage_add(t, &stage, "english", &ops[i].as.document, 0, &files.lexical, &files.columns, &st));
            }
        }
        for (size_t i = 0; i < BATCH; i++) {
            if (i % 5 == 3) {
                text_stage_end(&stage); /* not wanted */
            } else {
                values += take_and_compare(t, &stage, &ops[i].as.document, analyzer, fields);
            }
        }
        assert_true(values > 0);
        assert_int_equal(stage.bytes.len, 0);
        assert_int_equal(stage.terms.terms_bytes + stage.terms.postings_bytes + stage.terms.new_terms + stage.columns.bytes, 0);
        for (size_t i = 0; i < BATCH; i++) {
            buf_fini(&bytes[i]);
        }
    }
    text_stage_fini(&stage);
    texts_free(t);
    analyzer_free(analyzer);
    field_reader_free(fields);
    files_close(&files);
}

/* Values of the document are not staged for each of its chunks. */
static void test_many_chunks(void **state) {
    (void)state;
    struct texts *t = NULL;
    struct text_stage stage = {0};
    struct files files;
    struct status st = {0};
    struct buf id = {0};
    struct buf bytes = {0};
    struct buf metadata = {0};
    struct op op;
    struct uuid library = fixture_library_id(1);
    enum { CHUNKS = 5000, MEMBERS = 500 };
    buf_put_str(&metadata, "{");
    for (unsigned i = 0; i < MEMBERS; i++) {
        buf_printf(&metadata, "%s\"m%u\":\"some value of the document %u\"", i == 0 ? "" : ",", i, i);
    }
    buf_put_str(&metadata, "}");
    struct op_document d = {
        .mode = PUT_CREATE, .id = fixture_id(&id, "d"), .metadata = buf_slice(&metadata), .num_chunks = CHUNKS};
    op_encode_document(&bytes, &library, &d);
    for (unsigned i = 0; i < CHUNKS; i++) {
        char name[NAME_BYTES];
        (void)snprintf(name, sizeof name, "c%u", i);
        struct op_chunk c = {.id = fixture_id(&id, name), .text = slice_str("text"), .page_number = -1};
        op_encode_chunk(&bytes, &c);
    }
    op_encode_vectors(&bytes, NULL, 0, 0);
    assert_true(op_decode(buf_slice(&bytes), NULL, &op, &st));
    files_open(&files);
    assert_true(texts_new(&t, &st));
    assert_true(text_stage_add(t, &stage, "english", &op.as.document, 0, &files.lexical, &files.columns, &st));
    assert_true(stage.bytes.len < 2U * CHUNKS * 200);
    struct text_taking taking;
    text_stage_begin(&stage, &taking);
    for (unsigned i = 0; i < CHUNKS; i++) {
        struct terms terms;
        struct field_values values;
        text_stage_next(t, &stage, &taking, &terms, &values);
        assert_true(values.count >= MEMBERS);
        assert_int_equal(terms.length, 1);
    }
    text_stage_end(&stage);
    assert_true(stage.bytes.cap <= 1048576); /* its memory was given back */
    text_stage_fini(&stage);
    texts_free(t);
    files_close(&files);
    buf_fini(&id);
    buf_fini(&bytes);
    buf_fini(&metadata);
}

/* --- in a library --- */

static const unsigned documents = 60;

static void random_commit(struct fixture *f, const struct uuid *id, uint64_t *random) {
    struct buf op = {0};
    struct status st = {0};
    char name[NAME_BYTES];
    unsigned document = (unsigned)(fixture_random(random) % documents);
    (void)snprintf(name, sizeof name, "doc-%u", document);
    uint64_t what = fixture_random(random) % 10;
    if (what < 6) {
        put_op(&op, id, PUT_REPLACE, name, (uint32_t)(fixture_random(random) % 12), random);
        fixture_commit(f, &op);
    } else {
        struct buf encoded = {0};
        if (what < 8) {
            op_encode_document_delete(&op, id, fixture_id(&encoded, name));
        } else {
            char chunk[2 * NAME_BYTES];
            (void)snprintf(chunk, sizeof chunk, "%s/%u", name, (unsigned)(fixture_random(random) % 12));
            struct slice one = fixture_id(&encoded, chunk);
            op_encode_chunks_delete(&op, id, &one, 1);
        }
        bool done = fixture_try(f, &op, &st);
        assert_true(done || st.code == STATUS_NOT_FOUND);
        buf_fini(&encoded);
    }
    buf_fini(&op);
}

static void test_library(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(1);
    uint64_t random = 5;
    f->pending = true;
    fixture_create(f, &id, INDEX_FLAT, "test");
    fixture_verify_texts(f->catalog, &id);
    for (unsigned round = 0; round < 30; round++) {
        for (unsigned i = 0; i < 20; i++) {
            random_commit(f, &id, &random);
        }
        fixture_verify_texts(f->catalog, &id);
    }
    /* taken over by another start, deletions find room to analyse what they delete */
    struct library *lib = catalog_acquire(f->catalog, &id);
    struct reading rd;
    struct status st = {0};
    library_reading(lib, &rd);
    catalog_release(f->catalog, lib);
    fixture_reopen(f);
    assert_true(catalog_adopt(f->catalog, &rd.view, &st));
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    fixture_verify_texts(f->catalog, &id);
    for (unsigned i = 0; i < documents; i++) {
        struct buf op = {0};
        struct buf encoded = {0};
        char name[NAME_BYTES];
        (void)snprintf(name, sizeof name, "doc-%u", i);
        op_encode_document_delete(&op, &id, fixture_id(&encoded, name));
        (void)!fixture_try(f, &op, &st);
        buf_fini(&op);
        buf_fini(&encoded);
    }
    fixture_verify_texts(f->catalog, &id);
    lib = catalog_acquire(f->catalog, &id);
    library_reading(lib, &rd);
    assert_int_equal(rd.view.live_tokens, 0);
    assert_int_equal(rd.view.live_chunks, 0);
    catalog_release(f->catalog, lib);
}

/* Ops of a batch: reserved together, applied one after the other, or given up together. */
static void test_batches(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(1);
    struct status st = {0};
    uint64_t random = 9;
    fixture_create(f, &id, INDEX_FLAT, "test");
    for (unsigned round = 0; round < 20; round++) {
        struct buf bytes[BATCH] = {{0}};
        struct op ops[BATCH];
        for (unsigned i = 0; i < BATCH; i++) {
            char name[NAME_BYTES];
            (void)snprintf(name, sizeof name, "doc-%u-%u", round, i);
            put_op(&bytes[i], &id, PUT_CREATE, name, (uint32_t)(fixture_random(&random) % 50), &random);
            assert_true(op_decode(buf_slice(&bytes[i]), &f->limits, &ops[i], &st));
            assert_true(catalog_check(f->catalog, &ops[i], &st) && catalog_reserve(f->catalog, &ops[i], &st));
        }
        if (round % 3 == 1) {
            catalog_abandon(f->catalog);
        } else {
            for (unsigned i = 0; i < BATCH; i++) {
                catalog_apply(f->catalog, &ops[i], ++f->lsn, 0, NULL, NULL);
            }
            catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
        }
        fixture_verify_texts(f->catalog, &id);
        for (unsigned i = 0; i < BATCH; i++) {
            buf_fini(&bytes[i]);
        }
    }
}

/* A replay meets an op whose effect is there: its share of the stage goes with it, and the next op gets its own. */
static void test_replay(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(1);
    struct buf bytes[2] = {{0}, {0}};
    struct op ops[2];
    struct status st = {0};
    uint64_t random = 13;
    f->pending = true;
    fixture_create(f, &id, INDEX_FLAT, "test");
    put_op(&bytes[0], &id, PUT_CREATE, "a", 20, &random);
    put_op(&bytes[1], &id, PUT_CREATE, "b", 20, &random);
    fixture_commit(f, &bytes[0]);
    for (size_t i = 0; i < 2; i++) {
        assert_true(op_decode(buf_slice(&bytes[i]), NULL, &ops[i], &st));
        assert_true(catalog_reserve(f->catalog, &ops[i], &st));
    }
    catalog_apply(f->catalog, &ops[0], f->lsn - 1, 0, NULL, NULL); /* older than the library's last one */
    catalog_apply(f->catalog, &ops[1], ++f->lsn, 0, NULL, NULL);
    assert_true(catalog_reserve(f->catalog, &ops[0], &st));
    catalog_apply(f->catalog, &ops[0], ++f->lsn, 0, NULL, NULL); /* it is there already */
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    fixture_verify_texts(f->catalog, &id);
    struct library *lib = catalog_acquire(f->catalog, &id);
    struct reading rd;
    library_reading(lib, &rd);
    assert_int_equal(rd.view.live_chunks, 40);
    catalog_release(f->catalog, lib);
    buf_fini(&bytes[0]);
    buf_fini(&bytes[1]);
}

/* The language is the library's for good, and one that nobody knows is refused. */
static void test_language(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st = {0};
    struct library_definition d = {.created_at = 1,
                                   .index = {.type = INDEX_FLAT},
                                   .quantization = {.strategy = QUANTIZATION_NONE, .bits = 8},
                                   .name = slice_str("a library"),
                                   .embedding_model = slice_str("test"),
                                   .language = slice_str("en")};
    struct uuid id = fixture_library_id(1);
    struct uuid other = fixture_library_id(2);
    struct buf op = {0};
    d.on_embedding_failure = ON_FAILURE_PENDING;
    op_encode_library(&op, OP_LIBRARY_CREATE, &id, &d);
    fixture_commit(f, &op);
    buf_reset(&op);
    d.language = slice_str("");
    op_encode_library(&op, OP_LIBRARY_UPDATE, &id, &d); /* English, too */
    fixture_commit(f, &op);
    buf_reset(&op);
    d.language = slice_str("none");
    op_encode_library(&op, OP_LIBRARY_UPDATE, &id, &d);
    assert_false(fixture_try(f, &op, &st));
    assert_int_equal(st.code, STATUS_INVALID);
    buf_reset(&op);
    op_encode_library(&op, OP_LIBRARY_CREATE, &other, &d);
    fixture_commit(f, &op);
    fixture_put(f, &other, PUT_CREATE, "a", 3, "The running wolves");
    fixture_verify_texts(f->catalog, &other);
    buf_reset(&op);
    d.language = slice_str("klingon");
    struct uuid third = fixture_library_id(3);
    op_encode_library(&op, OP_LIBRARY_CREATE, &third, &d);
    assert_false(fixture_try(f, &op, &st));
    assert_int_equal(st.code, STATUS_INVALID);
    buf_fini(&op);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stage),
        cmocka_unit_test(test_many_chunks),
        cmocka_unit_test_setup_teardown(test_library, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_batches, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_replay, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_language, fixture_set_up, fixture_tear_down),
    };
    return cmocka_run_group_tests_name("store texts", tests, NULL, NULL);
}
