/* store_texts_fixture.c - inverted index and columns held against the records, by brute force. */
#include "store/fields.h"
#include "store/library_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store_fixture.h"

/* How often a term stands in each living chunk, for one term in so many. */
enum { TERM_SAMPLE = 7 };
static const double tolerance = 1e-4;

struct verifying {
    struct reading rd;
    struct analyzer *analyzer;
    struct field_reader *fields;
    struct lexical lexical;
    struct columns columns;
    uint64_t tokens;
    uint32_t alive;
};

static void verify_chunk(struct verifying *v, uint32_t slot, uint32_t *ret_document) {
    struct stored_chunk c;
    struct stored_document d;
    struct terms terms;
    struct field_values values;
    struct status st = {0};
    assert_true(reading_chunk(&v->rd, slot, &c, &st));
    assert_true(reading_document(&v->rd, c.document, &d, &st));
    if (*ret_document != c.document) {
        assert_true(fields_of_document(v->fields, &d.fields, &st));
        *ret_document = c.document;
    }
    assert_true(analyzer_reserve(v->analyzer, c.fields.text.len, &st));
    analyze(v->analyzer, c.fields.text, &terms);
    assert_true(fields_of_chunk(v->fields, &c.fields, c.index, &values, &st));
    assert_int_equal(arena_chunk(v->rd.arena, slot)->length, terms.length);
    assert_true(lexical_holds(&v->lexical, slot, &terms));
    assert_true(columns_hold(&v->columns, slot, &values));
    v->tokens += terms.length;
    v->alive++;
}

static struct slice text_of(const struct verifying *v, uint32_t slot) {
    struct stored_chunk c;
    struct status st = {0};
    assert_true(reading_chunk(&v->rd, slot, &c, &st));
    return c.fields.text;
}

static uint32_t count_in(struct verifying *v, uint32_t slot, uint64_t hash) {
    struct terms terms;
    analyze(v->analyzer, text_of(v, slot), &terms);
    for (uint32_t i = 0; i < terms.count; i++) {
        if (terms.items[i].hash == hash) {
            return terms.items[i].count;
        }
    }
    return 0;
}

/* The score of the slot's first term in it, against the formula over all living chunks. */
static void verify_score(struct verifying *v, uint32_t slot) {
    struct terms terms;
    uint8_t bytes[TERM_BYTES_MAX];
    uint32_t frequency = 0;
    analyze(v->analyzer, text_of(v, slot), &terms);
    if (terms.count == 0) {
        return;
    }
    struct term term = terms.items[slot % terms.count];
    double tf = term.count;
    double length = terms.length;
    memcpy(bytes, term.bytes.data, term.bytes.len);
    term = (struct term){.bytes = slice_of(bytes, term.bytes.len), .hash = term.hash, .count = 1};
    for (uint32_t other = 0; other < v->rd.view.chunk_slots; other++) {
        frequency += reading_chunk_visible(&v->rd, other) && count_in(v, other, term.hash) > 0 ? 1 : 0;
    }
    struct terms query = {.items = &term, .count = 1, .length = 1};
    struct lexical_query q = {.terms = &query,
                              .k1 = LEXICAL_DEFAULT_K1,
                              .b = LEXICAL_DEFAULT_B,
                              .documents = v->rd.view.live_chunks,
                              .tokens = v->rd.view.live_tokens,
                              .lengths = (const uint8_t *)&arena_chunk(v->rd.arena, 0)->length,
                              .lengths_stride = sizeof(struct chunk_row),
                              .slots = v->rd.view.chunk_slots};
    double n = v->rd.view.live_chunks;
    double average = (double)v->rd.view.live_tokens / n;
    double idf = log(1 + (n - frequency + 0.5) / (frequency + 0.5));
    double k1 = (double)LEXICAL_DEFAULT_K1;
    double b = (double)LEXICAL_DEFAULT_B;
    double wanted = idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / average));
    double score = (double)lexical_score(&v->lexical, &q, slot);
    if (fabs(score - wanted) > tolerance * (1 + wanted)) {
        fail_msg("slot %u, a term in %u chunks: score %f, by the formula %f", slot, frequency, score, wanted);
    }
}

static void verify(struct verifying *v) {
    char detail[160] = "";
    uint32_t document = ROW_NONE;
    uint32_t slots = v->rd.view.chunk_slots;
    if (!lexical_valid(&v->lexical) || lexical_validate(&v->lexical, slots, detail) != 0 ||
        columns_validate(&v->columns, slots, detail) != 0) {
        fail_msg("%s", detail);
    }
    for (uint32_t slot = 0; slot < slots; slot++) {
        if (reading_chunk_visible(&v->rd, slot)) {
            verify_chunk(v, slot, &document);
        }
    }
    assert_int_equal(v->tokens, v->rd.view.live_tokens);
    assert_int_equal(v->alive, v->rd.view.live_chunks);
    uint32_t step = slots / TERM_SAMPLE + 1;
    for (uint32_t slot = 0; slot < slots; slot += step) {
        if (reading_chunk_visible(&v->rd, slot)) {
            verify_score(v, slot);
        }
    }
}

void fixture_verify_texts(struct catalog *c, const struct uuid *library) {
    struct library *lib = catalog_acquire(c, library);
    struct verifying v = {0};
    struct status st = {0};
    assert_non_null(lib);
    library_reading(lib, &v.rd);
    assert_true(analyzer_new(lib->language, &v.analyzer, &st));
    v.fields = field_reader_new();
    assert_non_null(v.fields);
    v.lexical = arena_lexical(v.rd.arena);
    v.columns = arena_columns(v.rd.arena);
    assert_true(v.rd.view.terms_used <= v.lexical.terms_bytes && v.rd.view.terms_used > 0);
    assert_true(v.rd.view.postings_used <= v.lexical.postings_bytes && v.rd.view.postings_used > 0);
    assert_true(v.rd.view.columns_used <= v.columns.bytes && v.rd.view.columns_used > 0);
    verify(&v);
    analyzer_free(v.analyzer);
    field_reader_free(v.fields);
    catalog_release(c, lib);
}
