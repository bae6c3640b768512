/* filter_fixture.c - see filter_fixture.h. */
#include "filter_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* --- documents --- */

void filter_put(struct fixture *f, const struct uuid *library, const struct document_text *t) {
    struct buf op = {0};
    struct buf id = {0};
    struct op_document d = {.mode = PUT_REPLACE,
                            .created_at = t->created_at,
                            .id = fixture_id(&id, t->id),
                            .title = slice_str(t->title),
                            .author = slice_str(t->author),
                            .document_type = slice_str("text"),
                            .source_url = slice_str(t->url),
                            .tags = slice_str(t->tags),
                            .metadata = slice_str(t->metadata),
                            .num_chunks = t->chunks};
    op_encode_document(&op, library, &d);
    for (uint32_t i = 0; i < t->chunks; i++) {
        char name[64];
        char text[64];
        (void)snprintf(name, sizeof name, "%s/%u", t->id, i);
        (void)snprintf(text, sizeof text, "chunk %u of %s", i, t->id);
        struct op_chunk c = {.id = fixture_id(&id, name),
                             .text = slice_str(text),
                             .metadata = slice_str(t->chunk[i].metadata),
                             .page_number = t->chunk[i].page};
        op_encode_chunk(&op, &c);
    }
    op_encode_vectors(&op, NULL, 0, 0);
    fixture_commit(f, &op);
    buf_fini(&op);
    buf_fini(&id);
}

/* --- a filter and who asks it --- */

struct filter leaf_filter(const char *path, enum filter_operator op, const struct filter_value *values, uint32_t count) {
    return (struct filter){.kind = FILTER_LEAF, .path = slice_str(path), .op = op, .values = values, .value_count = count};
}

void asking_begin(struct asking *a, struct fixture *f, const struct uuid *library, uint64_t cache_bytes) {
    struct status st = {0};
    *a = (struct asking){.cache = filter_cache_new(cache_bytes), .records = record_reader_new()};
    assert_non_null(a->cache);
    assert_non_null(a->records);
    assert_true(store_reader_new(f->control, 3, f->dir_fd, &a->reader, &st));
    assert_true(reading_begin(a->reader, library, &a->rd, &st));
    record_reader_begin(a->records, &a->rd);
}

void asking_again(struct asking *a, const struct uuid *library) {
    struct status st = {0};
    reading_end(&a->rd);
    assert_true(reading_begin(a->reader, library, &a->rd, &st));
    record_reader_begin(a->records, &a->rd);
}

void asking_end(struct asking *a) {
    reading_end(&a->rd);
    store_reader_free(a->reader);
    filter_cache_free(a->cache);
    record_reader_free(a->records);
}

struct slot_set asking_evaluate(struct asking *a, const struct filter *f) {
    struct slot_set set = {0};
    struct status st = {0};
    if (!filter_evaluate(a->cache, &a->rd, f, &set, &st)) {
        fail_msg("%s", st.detail);
    }
    uint64_t count = 0;
    for (uint32_t slot = 0; slot < set.slots; slot++) {
        count += slot_set_has(&set, slot) ? 1 : 0;
    }
    assert_int_equal(set.slots, a->rd.view.chunk_slots);
    assert_int_equal(count, set.count);
    assert_true(set.slots % 64 == 0 || set.words[set.slots / 64] >> (set.slots % 64) == 0);
    return set;
}

bool asking_record(struct asking *a, const struct filter *f, uint32_t slot) {
    struct status st = {0};
    bool yes = false;
    if (f->kind == FILTER_LEAF) {
        struct leaf l = leaf_of(f);
        assert_true(record_matches(a->records, &l, slot, &yes, &st));
        return yes != l.negated;
    }
    if (f->kind == FILTER_NOT) {
        return !asking_record(a, f->children[0], slot);
    }
    for (uint32_t i = 0; i < f->count; i++) {
        if (asking_record(a, f->children[i], slot) == (f->kind == FILTER_OR)) {
            return f->kind == FILTER_OR;
        }
    }
    return f->kind == FILTER_AND;
}

static void describe(const struct filter *f, char *out, size_t room) {
    (void)snprintf(out, room, "kind %d, path %.*s, operator %d, value type %d, text %.*s, number %g", (int)f->kind,
                   (int)f->path.len, (const char *)f->path.data, (int)f->op, f->value_count > 0 ? (int)f->values[0].type : 0,
                   f->value_count > 0 ? (int)f->values[0].text.len : 0,
                   f->value_count > 0 ? (const char *)f->values[0].text.data : "", f->value_count > 0 ? f->values[0].number : 0);
}

void assert_as_records(struct asking *a, const struct filter *f) {
    struct slot_set set = asking_evaluate(a, f);
    for (uint32_t slot = 0; slot < set.slots; slot++) {
        if (reading_chunk_visible(&a->rd, slot) && slot_set_has(&set, slot) != asking_record(a, f, slot)) {
            char text[1024];
            describe(f, text, sizeof text);
            fail_msg("slot %u of %u: %s", slot, set.slots, text);
        }
    }
}
