/* test_store_catalog.c - what an op may do, what it does, and what readers see of it. */
#include "store/catalog.h"

#include "base/crc32c.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "store_fixture.h"

static struct store_reader *open_reader(struct fixture *f, uint32_t slot) {
    struct store_reader *r = NULL;
    struct status st = {0};
    assert_true(store_reader_new(f->control, slot, f->dir_fd, &r, &st));
    return r;
}

static enum status_code try_code(struct fixture *f, struct buf *op, uint16_t *ret_subject) {
    struct status st = {0};
    enum status_code code = fixture_try(f, op, &st) ? STATUS_OK : st.code;
    if (ret_subject != NULL) {
        *ret_subject = st.subject;
    }
    buf_reset(op);
    return code;
}

static enum status_code put_code(struct fixture *f, const struct uuid *library, enum put_mode mode, const char *document,
                                 uint16_t *ret_subject) {
    struct buf op = {0};
    fixture_put_op(&op, library, mode, document, 2, "text");
    enum status_code code = try_code(f, &op, ret_subject);
    buf_fini(&op);
    return code;
}

static bool exists(struct fixture *f, const struct uuid *library) {
    char path[PATH_MAX + UUID_TEXT + 2];
    char name[UUID_TEXT + 1];
    uuid_format(library, name);
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, name);
    return access(path, F_OK) == 0;
}

static bool has_document(const struct reading *rd, const char *name) {
    struct buf id = {0};
    struct stored_document d;
    struct status st = {0};
    bool found = reading_find_document(rd, fixture_id(&id, name), &d, &st);
    assert_true(found || (st.code == STATUS_NOT_FOUND && st.subject == SUBJECT_DOCUMENT));
    buf_fini(&id);
    return found;
}

/* The text of a chunk, or "" when it is not there. */
static void chunk_text(const struct reading *rd, const char *name, char out[64]) {
    struct buf id = {0};
    struct stored_chunk c;
    struct status st = {0};
    out[0] = '\0';
    if (reading_find_chunk(rd, fixture_id(&id, name), &c, &st)) {
        (void)snprintf(out, 64, "%.*s", (int)c.fields.text.len, (const char *)c.fields.text.data);
        assert_true(reading_chunk_visible(rd, c.slot));
    } else {
        assert_int_equal(st.code, STATUS_NOT_FOUND);
        assert_int_equal(st.subject, SUBJECT_CHUNK);
    }
    buf_fini(&id);
}

static void assert_text(const struct reading *rd, const char *chunk, const char *text) {
    char found[64];
    chunk_text(rd, chunk, found);
    assert_string_equal(found, text);
}

/* --- libraries --- */

static void test_libraries(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid a = fixture_library_id(2);
    struct uuid b = fixture_library_id(1);
    struct buf op = {0};
    uint16_t subject = 0;
    struct status st = {0};
    struct reading rd;
    struct library_view *views = NULL;
    size_t count = 0;
    struct store_reader *r = open_reader(f, 0);
    assert_false(reading_begin(r, &a, &rd, &st));
    assert_int_equal(st.code, STATUS_NOT_FOUND);
    assert_int_equal(st.subject, SUBJECT_LIBRARY);

    fixture_create(f, &a, INDEX_HNSW, "test");
    fixture_create(f, &b, INDEX_FLAT, "none");
    fixture_library_op(&op, OP_LIBRARY_CREATE, &a, INDEX_FLAT, "none");
    assert_int_equal(try_code(f, &op, &subject), STATUS_CONFLICT);
    assert_int_equal(subject, SUBJECT_LIBRARY);
    struct uuid other = fixture_library_id(9);
    fixture_library_op(&op, OP_LIBRARY_CREATE, &other, INDEX_FLAT, "nobody");
    assert_int_equal(try_code(f, &op, NULL), STATUS_INVALID);

    assert_true(store_list_libraries(r, &views, &count, &st));
    assert_int_equal(count, 2);
    assert_true(uuid_equal(&views[0].id, &b) && uuid_equal(&views[1].id, &a));
    assert_int_equal(views[1].dimension, FIXTURE_DIMENSION);
    assert_int_equal(views[1].graph_generation, 1);
    assert_int_equal(views[0].graph_generation, 0);
    assert_int_equal(views[0].dimension, 0);
    free(views);

    struct library_definition d;
    assert_true(reading_begin(r, &a, &rd, &st));
    assert_true(reading_definition(&rd, &d, &st));
    assert_true(slice_is(d.name, "a library"));
    reading_end(&rd);

    /* an update: the settings change, the model may not */
    fixture_library_op(&op, OP_LIBRARY_UPDATE, &a, INDEX_FLAT, "test");
    assert_int_equal(try_code(f, &op, NULL), STATUS_OK);
    assert_true(reading_begin(r, &a, &rd, &st));
    assert_int_equal(rd.view.index.type, INDEX_FLAT);
    assert_int_equal(rd.view.graph_generation, 1); /* until a rebuild */
    reading_end(&rd);
    fixture_library_op(&op, OP_LIBRARY_UPDATE, &a, INDEX_FLAT, "none");
    assert_int_equal(try_code(f, &op, NULL), STATUS_INVALID);

    assert_true(exists(f, &a));
    op_encode_library_delete(&op, &a);
    assert_int_equal(try_code(f, &op, NULL), STATUS_OK);
    assert_false(exists(f, &a));
    assert_false(reading_begin(r, &a, &rd, &st));
    op_encode_library_delete(&op, &a);
    assert_int_equal(try_code(f, &op, &subject), STATUS_NOT_FOUND);
    assert_int_equal(subject, SUBJECT_LIBRARY);
    assert_int_equal(catalog_library_count(f->catalog), 1);

    /* the same id again: the reader must not go on with the old maps */
    fixture_create(f, &a, INDEX_HNSW, "test");
    fixture_put(f, &a, PUT_CREATE, "d", 1, "new");
    assert_true(reading_begin(r, &a, &rd, &st));
    assert_text(&rd, "d/0", "new 0");
    reading_end(&rd);
    store_reader_free(r);
    buf_fini(&op);
}

static bool is_mapped_here(const struct uuid *library) {
    char name[UUID_TEXT + 1];
    char line[2 * PATH_MAX];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    assert_non_null(maps);
    uuid_format(library, name);
    while (fgets(line, sizeof line, maps) != NULL) {
        found = found || strstr(line, name) != NULL;
    }
    (void)fclose(maps);
    return found;
}

/* A reader lets go of a deleted library although nobody asks it for that one again. */
static void test_deleted_library_is_unmapped(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid a = fixture_library_id(1);
    struct status st = {0};
    struct reading rd;
    struct buf op = {0};
    struct store_reader *r = open_reader(f, 0);
    fixture_create(f, &a, INDEX_HNSW, "test");
    fixture_put(f, &a, PUT_CREATE, "d", 1, "text");
    assert_true(reading_begin(r, &a, &rd, &st));
    op_encode_library_delete(&op, &a);
    fixture_commit(f, &op);
    assert_text(&rd, "d/0", "text 0"); /* read to the end */
    assert_true(is_mapped_here(&a));
    reading_end(&rd);
    assert_false(is_mapped_here(&a));
    store_reader_free(r);
    buf_fini(&op);
}

static void test_library_limit(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct buf op = {0};
    f->limits.max_libraries = 3;
    for (unsigned i = 0; i < 3; i++) {
        struct uuid id = fixture_library_id(i);
        fixture_create(f, &id, INDEX_FLAT, "none");
    }
    struct uuid more = fixture_library_id(3);
    fixture_library_op(&op, OP_LIBRARY_CREATE, &more, INDEX_FLAT, "none");
    assert_int_equal(try_code(f, &op, NULL), STATUS_TOO_LARGE);
    struct uuid first = fixture_library_id(0);
    op_encode_library_delete(&op, &first);
    assert_int_equal(try_code(f, &op, NULL), STATUS_OK);
    fixture_create(f, &more, INDEX_FLAT, "none");
    buf_fini(&op);
}

/* --- documents --- */

static void test_conflicts(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid lib = fixture_library_id(1);
    struct uuid none = fixture_library_id(8);
    struct buf op = {0};
    struct buf id = {0};
    uint16_t subject = 0;
    fixture_create(f, &lib, INDEX_HNSW, "test");
    assert_int_equal(put_code(f, &none, PUT_CREATE, "d", &subject), STATUS_NOT_FOUND);
    assert_int_equal(subject, SUBJECT_LIBRARY);
    assert_int_equal(put_code(f, &lib, PUT_CREATE, "d", NULL), STATUS_OK);
    assert_int_equal(put_code(f, &lib, PUT_CREATE, "d", &subject), STATUS_CONFLICT);
    assert_int_equal(subject, SUBJECT_DOCUMENT);
    assert_int_equal(put_code(f, &lib, PUT_REPLACE, "d", NULL), STATUS_OK); /* its own chunk ids come again */
    assert_true(f->effect.replaced);
    assert_int_equal(f->effect.chunks_added, 2);
    assert_int_equal(f->effect.chunks_deleted, 2);

    /* another document with a chunk id of d */
    struct op_document d = {.mode = PUT_REPLACE, .id = fixture_id(&id, "e"), .num_chunks = 1};
    op_encode_document(&op, &lib, &d);
    struct op_chunk c = {.id = fixture_id(&id, "d/1"), .page_number = -1};
    op_encode_chunk(&op, &c);
    op_encode_vectors(&op, NULL, 0, 0);
    struct buf again = {0};
    buf_put_slice(&again, buf_slice(&op));
    assert_int_equal(try_code(f, &op, &subject), STATUS_CONFLICT);
    assert_int_equal(subject, SUBJECT_CHUNK);
    fixture_delete_chunk(f, &lib, "d/1");
    assert_int_equal(f->effect.chunks_deleted, 1);
    assert_int_equal(try_code(f, &again, NULL), STATUS_OK); /* free now */

    /* one id twice in a document */
    d = (struct op_document){.mode = PUT_CREATE, .id = fixture_id(&id, "twice"), .num_chunks = 2};
    op_encode_document(&op, &lib, &d);
    c.id = fixture_id(&id, "same");
    op_encode_chunk(&op, &c);
    op_encode_chunk(&op, &c);
    op_encode_vectors(&op, NULL, 0, 0);
    assert_int_equal(try_code(f, &op, &subject), STATUS_CONFLICT);
    assert_int_equal(subject, SUBJECT_CHUNK);

    op_encode_document_delete(&op, &lib, fixture_id(&id, "unknown"));
    assert_int_equal(try_code(f, &op, &subject), STATUS_NOT_FOUND);
    assert_int_equal(subject, SUBJECT_DOCUMENT);
    fixture_delete_chunk(f, &lib, "unknown"); /* no error */
    assert_int_equal(f->effect.chunks_deleted, 0);
    buf_fini(&op);
    buf_fini(&again);
    buf_fini(&id);
}

static void test_dimensions(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid own = fixture_library_id(1);
    struct uuid model = fixture_library_id(2);
    struct buf op = {0};
    struct status st = {0};
    struct reading rd;
    float values[FIXTURE_DIMENSION] = {0};
    uint64_t random = 5;
    fixture_create(f, &own, INDEX_FLAT, "none");
    fixture_create(f, &model, INDEX_FLAT, "test");
    fixture_unit_vector(&random, values, 3);

    /* "none": vectors are a must, and the first fix the dimension */
    fixture_put_op(&op, &own, PUT_CREATE, "d", 1, "x");
    assert_int_equal(try_code(f, &op, NULL), STATUS_INVALID);
    fixture_put_op(&op, &own, PUT_CREATE, "empty", 0, "x");
    assert_int_equal(try_code(f, &op, NULL), STATUS_OK);
    fixture_put_vectors_op(&op, &own, "d", 1, 3, values);
    assert_int_equal(try_code(f, &op, NULL), STATUS_OK);
    fixture_put_vectors_op(&op, &own, "e", 1, 4, values);
    assert_false(fixture_try(f, &op, &st));
    assert_int_equal(st.code, STATUS_DIMENSION);
    assert_non_null(strstr(st.detail, "4"));
    assert_non_null(strstr(st.detail, "3"));
    buf_reset(&op);

    /* with a model: vectors of its dimension are kept as they are */
    fixture_put_vectors_op(&op, &model, "d", 1, 3, values);
    assert_int_equal(try_code(f, &op, NULL), STATUS_DIMENSION);
    fixture_unit_vector(&random, values, FIXTURE_DIMENSION);
    fixture_put_vectors_op(&op, &model, "d", 1, FIXTURE_DIMENSION, values);
    assert_int_equal(try_code(f, &op, NULL), STATUS_OK);
    fixture_put(f, &model, PUT_CREATE, "e", 1, "y"); /* vectors beside the op */

    struct store_reader *r = open_reader(f, 1);
    assert_true(reading_begin(r, &model, &rd, &st));
    assert_memory_equal(reading_vector(&rd, 0), values, sizeof(float) * FIXTURE_DIMENSION);
    fixture_embed(slice_str("y 0"), values);
    assert_memory_equal(reading_vector(&rd, 1), values, sizeof(float) * FIXTURE_DIMENSION);
    assert_int_equal(arena_chunk(rd.arena, 1)->vector_crc, crc32c(0, values, sizeof(float) * FIXTURE_DIMENSION));
    assert_true(arena_chunk(rd.arena, 1)->text_hash == text_hash(slice_str("y 0")));
    reading_end(&rd);
    assert_true(reading_begin(r, &own, &rd, &st));
    assert_int_equal(rd.view.dimension, 3);
    assert_int_equal(rd.view.stride, 16);
    assert_non_null(reading_vector(&rd, 0));
    reading_end(&rd);
    store_reader_free(r);
    buf_fini(&op);
}

/* Two documents of one batch that both would fix the dimension: the second is refused when room is reserved, and alone. */
static void test_first_dimension_in_one_batch(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid lib = fixture_library_id(1);
    struct buf a = {0};
    struct buf b = {0};
    struct op first;
    struct op second;
    struct status st = {0};
    const float values[4] = {1, 0, 0, 0};
    fixture_create(f, &lib, INDEX_HNSW, "none");
    fixture_put_vectors_op(&a, &lib, "a", 1, 3, values);
    fixture_put_vectors_op(&b, &lib, "b", 1, 4, values);
    assert_true(op_decode(buf_slice(&a), &f->limits, &first, &st));
    assert_true(op_decode(buf_slice(&b), &f->limits, &second, &st));
    assert_true(catalog_check(f->catalog, &first, &st));
    assert_true(catalog_check(f->catalog, &second, &st));

    /* abandoned: the other may come with its dimension */
    assert_true(catalog_reserve(f->catalog, &first, &st));
    catalog_abandon(f->catalog);
    assert_true(catalog_reserve(f->catalog, &second, &st));
    assert_false(catalog_reserve(f->catalog, &first, &st));
    assert_int_equal(st.code, STATUS_DIMENSION);
    catalog_apply(f->catalog, &second, ++f->lsn, 0, NULL, NULL);
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    assert_false(catalog_check(f->catalog, &first, &st));
    assert_int_equal(st.code, STATUS_DIMENSION);
    buf_fini(&a);
    buf_fini(&b);
}

static void test_chunk_limit(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid lib = fixture_library_id(1);
    struct buf op = {0};
    f->limits.max_chunks_per_library = 10;
    fixture_create(f, &lib, INDEX_HNSW, "test");
    fixture_put(f, &lib, PUT_CREATE, "a", 6, "x");
    fixture_put_op(&op, &lib, PUT_CREATE, "b", 5, "x");
    assert_int_equal(try_code(f, &op, NULL), STATUS_TOO_LARGE);
    fixture_put(f, &lib, PUT_CREATE, "b", 4, "x");
    fixture_delete_document(f, &lib, "b"); /* its slots stay taken */
    fixture_put_op(&op, &lib, PUT_CREATE, "c", 1, "x");
    assert_int_equal(try_code(f, &op, NULL), STATUS_TOO_LARGE);
    buf_fini(&op);
}

/* --- views --- */

static void test_views_stay(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid lib = fixture_library_id(1);
    struct status st = {0};
    struct reading old;
    struct reading now;
    struct stored_document d;
    struct buf id = {0};
    uint32_t embedded = 0;
    uint32_t total = 0;
    struct store_reader *first = open_reader(f, 0);
    struct store_reader *second = open_reader(f, 1);
    fixture_create(f, &lib, INDEX_HNSW, "test");
    fixture_put(f, &lib, PUT_CREATE, "a", 3, "one");
    fixture_put(f, &lib, PUT_CREATE, "b", 2, "two");
    assert_true(reading_begin(first, &lib, &old, &st));
    assert_int_equal(f->control->worker[0].pin_lsn, f->lsn);

    fixture_put(f, &lib, PUT_REPLACE, "a", 1, "uno");
    fixture_delete_document(f, &lib, "b");
    fixture_put(f, &lib, PUT_CREATE, "c", 2, "three");
    fixture_delete_chunk(f, &lib, "c/0");
    for (int i = 0; i < 3000; i++) { /* the files grow and the id table splits under the old view */
        char name[32];
        (void)snprintf(name, sizeof name, "more-%d", i);
        fixture_put(f, &lib, PUT_CREATE, name, 2, "more");
    }
    assert_true(reading_begin(second, &lib, &now, &st));

    assert_text(&old, "a/0", "one 0");
    assert_text(&old, "a/2", "one 2");
    assert_text(&old, "b/1", "two 1");
    assert_text(&old, "c/1", "");
    assert_text(&old, "more-2999/1", "");
    assert_false(has_document(&old, "c"));
    assert_int_equal(old.view.live_chunks, 5);
    assert_int_equal(old.view.live_documents, 2);
    assert_int_equal(reading_next_document(&old, 0), 0);
    assert_int_equal(reading_next_document(&old, 1), 1);
    assert_int_equal(reading_next_document(&old, 2), ROW_NONE);
    assert_true(reading_find_document(&old, fixture_id(&id, "a"), &d, &st));
    assert_int_equal(reading_live_chunks_of(&old, &d), 3);
    reading_coverage(&old, &embedded, &total);
    assert_int_equal(embedded, 5);
    assert_int_equal(total, 5);

    assert_text(&now, "a/0", "uno 0");
    assert_text(&now, "a/2", "");
    assert_text(&now, "b/1", "");
    assert_text(&now, "c/0", "");
    assert_text(&now, "c/1", "three 1");
    assert_text(&now, "more-2999/1", "more 1");
    assert_false(has_document(&now, "b"));
    assert_int_equal(now.view.live_chunks, 2 + 6000);
    assert_int_equal(now.view.live_documents, 2 + 3000);
    assert_int_equal(now.view.text_bytes, strlen("uno 0") + strlen("three 1") + 6000 * strlen("more 0"));
    assert_true(reading_find_document(&now, fixture_id(&id, "c"), &d, &st));
    assert_int_equal(d.num_chunks, 2);
    assert_int_equal(reading_live_chunks_of(&now, &d), 1);
    assert_true(slice_is(d.fields.title, "three"));

    reading_end(&old);
    reading_end(&now);
    assert_int_equal(f->control->worker[0].pin_lsn, 0);
    store_reader_free(first);
    store_reader_free(second);
    buf_fini(&id);
}

/* A failed publication of nothing: what is applied but not published is not seen. */
static void test_apply_is_invisible_until_published(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid lib = fixture_library_id(1);
    struct buf bytes = {0};
    struct op op;
    struct status st = {0};
    struct reading rd;
    struct store_reader *r = open_reader(f, 0);
    fixture_create(f, &lib, INDEX_HNSW, "test");
    fixture_put(f, &lib, PUT_CREATE, "a", 2, "old");
    fixture_put_op(&bytes, &lib, PUT_REPLACE, "a", 2, "new");
    assert_true(op_decode(buf_slice(&bytes), &f->limits, &op, &st));
    assert_true(catalog_reserve(f->catalog, &op, &st));
    catalog_apply(f->catalog, &op, ++f->lsn, 0, NULL, NULL);
    assert_true(reading_begin(r, &lib, &rd, &st));
    assert_text(&rd, "a/0", "old 0");
    reading_end(&rd);
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    assert_int_equal(catalog_published_lsn(f->catalog), f->lsn);
    assert_int_equal(store_published_lsn(r), f->lsn);
    assert_true(reading_begin(r, &lib, &rd, &st));
    assert_text(&rd, "a/0", "new 0");
    reading_end(&rd);
    store_reader_free(r);
    buf_fini(&bytes);
}

static void test_deleted_while_acquired(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(1);
    struct buf op = {0};
    struct reading rd;
    fixture_create(f, &id, INDEX_HNSW, "test");
    fixture_put(f, &id, PUT_CREATE, "a", 3, "kept");
    struct library *lib = catalog_acquire(f->catalog, &id);
    assert_non_null(lib);
    library_reading(lib, &rd);
    op_encode_library_delete(&op, &id);
    assert_int_equal(try_code(f, &op, NULL), STATUS_OK);
    assert_true(library_is_deleted(lib));
    assert_null(catalog_acquire(f->catalog, &id));
    assert_true(exists(f, &id));
    assert_text(&rd, "a/2", "kept 2");
    fixture_library_op(&op, OP_LIBRARY_CREATE, &id, INDEX_FLAT, "none"); /* its files are still in use */
    assert_int_equal(try_code(f, &op, NULL), STATUS_CONFLICT);
    catalog_release(f->catalog, lib);
    assert_false(exists(f, &id));
    fixture_create(f, &id, INDEX_FLAT, "none");
    buf_fini(&op);
}

static void test_acquire_all(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct library **all = NULL;
    size_t count = 0;
    struct status st = {0};
    for (unsigned i = 0; i < 5; i++) {
        struct uuid id = fixture_library_id(i);
        fixture_create(f, &id, INDEX_FLAT, "none");
    }
    assert_true(catalog_acquire_all(f->catalog, &all, &count, &st));
    assert_int_equal(count, 5);
    for (size_t i = 0; i < count; i++) {
        catalog_release(f->catalog, all[i]);
    }
    free(all);
    assert_int_equal(catalog_library_count(f->catalog), 5);
}

/* --- replay and restart --- */

static void test_replay_changes_nothing_twice(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(1);
    struct uuid gone = fixture_library_id(2);
    struct buf bytes = {0};
    struct op op;
    struct status st = {0};
    struct reading rd;
    struct op_effect effect;
    fixture_create(f, &id, INDEX_HNSW, "test");
    fixture_put(f, &id, PUT_CREATE, "a", 3, "text");
    fixture_put(f, &id, PUT_REPLACE, "a", 2, "text");
    struct library *lib = catalog_acquire(f->catalog, &id);
    library_reading(lib, &rd);
    const struct library_view before = rd.view;

    /* ops of the past, and for libraries that are gone */
    fixture_library_op(&bytes, OP_LIBRARY_CREATE, &id, INDEX_FLAT, "none");
    assert_true(op_decode(buf_slice(&bytes), NULL, &op, &st));
    assert_true(catalog_reserve(f->catalog, &op, &st));
    catalog_apply(f->catalog, &op, 1, 0, NULL, NULL);
    buf_reset(&bytes);
    fixture_put_op(&bytes, &id, PUT_CREATE, "a", 3, "text");
    assert_true(op_decode(buf_slice(&bytes), NULL, &op, &st));
    assert_true(catalog_reserve(f->catalog, &op, &st));
    catalog_apply(f->catalog, &op, 2, 0, NULL, &effect);
    assert_int_equal(effect.chunks_added, 0);
    assert_true(catalog_reserve(f->catalog, &op, &st));
    catalog_apply(f->catalog, &op, f->lsn, 0, NULL, &effect); /* exists, and is to be created */
    assert_int_equal(effect.chunks_added, 0);
    buf_reset(&bytes);
    fixture_put_op(&bytes, &gone, PUT_CREATE, "a", 3, "text");
    assert_true(op_decode(buf_slice(&bytes), NULL, &op, &st));
    assert_true(catalog_reserve(f->catalog, &op, &st));
    catalog_apply(f->catalog, &op, f->lsn, 0, NULL, NULL);
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    library_reading(lib, &rd);
    assert_memory_equal(&before, &rd.view, sizeof before);
    catalog_release(f->catalog, lib);
    buf_fini(&bytes);
}

static void test_adopt(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(1);
    struct status st = {0};
    struct reading rd;
    struct library_file files[LIBRARY_FILES_MAX];
    fixture_create(f, &id, INDEX_HNSW, "test");
    for (int i = 0; i < 500; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "doc-%d", i);
        fixture_put(f, &id, PUT_CREATE, name, 3, "some words");
    }
    f->pending = true;
    fixture_put(f, &id, PUT_CREATE, "later", 4, "not embedded");
    f->pending = false;
    struct library *lib = catalog_acquire(f->catalog, &id);
    assert_int_equal(backlog_pending_vectors(lib), 4);
    assert_true(library_sync(lib, &st));
    size_t count = library_files(lib, files);
    assert_int_equal(count, LIBRARY_FILES_MAX);
    for (size_t i = 0; i < count; i++) {
        char path[2 * PATH_MAX];
        char name[UUID_TEXT + 1];
        struct stat info;
        uuid_format(&id, name);
        (void)snprintf(path, sizeof path, "%s/%s/%s", f->dir, name, files[i].name);
        assert_int_equal(stat(path, &info), 0);
        assert_true((uint64_t)info.st_size >= files[i].used);
        assert_true(files[i].used > 0);
    }
    library_reading(lib, &rd);
    struct library_view view = rd.view;
    catalog_release(f->catalog, lib);

    fixture_reopen(f);
    assert_true(catalog_adopt(f->catalog, &view, &st));
    assert_false(catalog_adopt(f->catalog, &view, &st)); /* twice */
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    struct store_reader *r = open_reader(f, 0);
    assert_true(reading_begin(r, &id, &rd, &st));
    assert_text(&rd, "doc-499/2", "some words 2");
    assert_int_equal(rd.view.live_chunks, 1504);
    assert_int_equal(rd.view.reembedding, 1);
    uint32_t embedded = 0;
    uint32_t total = 0;
    reading_coverage(&rd, &embedded, &total);
    assert_int_equal(embedded, 1500);
    assert_int_equal(total, 1504);
    reading_end(&rd);
    lib = catalog_acquire(f->catalog, &id);
    assert_int_equal(backlog_pending_vectors(lib), 4);
    catalog_release(f->catalog, lib);
    assert_int_equal(put_code(f, &id, PUT_CREATE, "doc-7", NULL), STATUS_CONFLICT);
    fixture_put(f, &id, PUT_REPLACE, "doc-7", 2, "again");
    assert_true(reading_begin(r, &id, &rd, &st));
    assert_text(&rd, "doc-7/1", "again 1");
    reading_end(&rd);
    store_reader_free(r);

    /* what does not hold together is refused */
    fixture_reopen(f);
    struct library_view bad = view;
    bad.chunk_slots += 1000000;
    bad.live_chunks = 1;
    assert_false(catalog_adopt(f->catalog, &bad, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    bad = view;
    bad.dimension = 7;
    bad.stride = 16;
    assert_false(catalog_adopt(f->catalog, &bad, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    assert_true(catalog_adopt(f->catalog, &view, &st));
}

/* A vector that is not whole is none: the chunk waits for the re-embedder. */
static void test_vectors_that_are_none(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(1);
    struct buf bytes = {0};
    struct op op;
    struct status st = {0};
    float vectors[2 * FIXTURE_DIMENSION];
    uint64_t random = 3;
    fixture_create(f, &id, INDEX_HNSW, "test");
    fixture_put_op(&bytes, &id, PUT_CREATE, "a", 2, "text");
    assert_true(op_decode(buf_slice(&bytes), &f->limits, &op, &st));
    assert_true(catalog_reserve(f->catalog, &op, &st));
    fixture_unit_vector(&random, vectors, FIXTURE_DIMENSION);
    fixture_unit_vector(&random, vectors + FIXTURE_DIMENSION, FIXTURE_DIMENSION);
    vectors[FIXTURE_DIMENSION] = NAN;
    catalog_apply(f->catalog, &op, ++f->lsn, 0, vectors, NULL);
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    struct library *lib = catalog_acquire(f->catalog, &id);
    struct reading rd;
    library_reading(lib, &rd);
    assert_non_null(reading_vector(&rd, 0));
    assert_null(reading_vector(&rd, 1));
    assert_int_equal(backlog_pending_vectors(lib), 1);
    assert_int_equal(rd.view.reembedding, 1);
    fixture_delete_document(f, &id, "a");
    assert_int_equal(backlog_pending_vectors(lib), 0);
    catalog_release(f->catalog, lib);
    buf_fini(&bytes);
}

/* --- batches --- */

static struct op decoded(struct fixture *f, struct buf *bytes) {
    struct op op;
    struct status st = {0};
    assert_true(op_decode(buf_slice(bytes), &f->limits, &op, &st));
    return op;
}

static void test_op_set(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid a = fixture_library_id(1);
    struct uuid b = fixture_library_id(2);
    struct buf put_x = {0};
    struct buf put_y = {0};
    struct buf other_x = {0};
    struct buf chunk = {0};
    struct buf remove = {0};
    struct buf update = {0};
    struct buf id = {0};
    fixture_put_op(&put_x, &a, PUT_CREATE, "x", 3, "t");
    fixture_put_op(&put_y, &a, PUT_CREATE, "y", 3, "t");
    fixture_put_op(&other_x, &b, PUT_CREATE, "x", 3, "t");
    struct slice chunk_id = fixture_id(&id, "x/2");
    op_encode_chunks_delete(&chunk, &a, &chunk_id, 1);
    op_encode_document_delete(&remove, &a, fixture_id(&id, "y"));
    fixture_library_op(&update, OP_LIBRARY_UPDATE, &a, INDEX_FLAT, "none");
    struct op ops[6] = {decoded(f, &put_x), decoded(f, &put_y),  decoded(f, &other_x),
                        decoded(f, &chunk), decoded(f, &remove), decoded(f, &update)};
    struct op_set *s = op_set_new();
    assert_non_null(s);
    assert_false(op_set_conflicts_or_add(s, &ops[0]));
    assert_true(op_set_conflicts_or_add(s, &ops[0]));
    assert_false(op_set_conflicts_or_add(s, &ops[1]));
    assert_false(op_set_conflicts_or_add(s, &ops[2])); /* another library */
    assert_true(op_set_conflicts_or_add(s, &ops[3]));  /* a chunk of x */
    assert_true(op_set_conflicts_or_add(s, &ops[4]));  /* y */
    assert_true(op_set_conflicts_or_add(s, &ops[5]));  /* the library that is in use */
    op_set_clear(s);
    assert_false(op_set_conflicts_or_add(s, &ops[5]));
    assert_true(op_set_conflicts_or_add(s, &ops[0]));
    assert_true(op_set_conflicts_or_add(s, &ops[5]));
    assert_false(op_set_conflicts_or_add(s, &ops[2]));
    /* many */
    op_set_clear(s);
    for (int i = 0; i < 5000; i++) {
        char name[32];
        struct buf many = {0};
        (void)snprintf(name, sizeof name, "doc-%d", i);
        fixture_put_op(&many, &a, PUT_CREATE, name, 3, "t");
        struct op op = decoded(f, &many);
        assert_false(op_set_conflicts_or_add(s, &op));
        assert_true(op_set_conflicts_or_add(s, &op));
        buf_fini(&many);
    }
    op_set_free(s);
    buf_fini(&put_x);
    buf_fini(&put_y);
    buf_fini(&other_x);
    buf_fini(&chunk);
    buf_fini(&remove);
    buf_fini(&update);
    buf_fini(&id);
}

/* Many ops checked and reserved together, then applied together: as the committer does it. */
static void test_batch(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(1);
    enum { BATCH = 300, ROUNDS = 5 };
    struct buf *bytes = (struct buf *)calloc(BATCH, sizeof *bytes);
    struct status st = {0};
    struct reading rd;
    assert_non_null(bytes);
    f->pending = true;
    fixture_create(f, &id, INDEX_HNSW, "test");
    for (int round = 0; round < ROUNDS; round++) {
        for (int abandoned = 1; abandoned >= 0; abandoned--) {
            for (int i = 0; i < BATCH; i++) {
                char name[32];
                struct op op;
                (void)snprintf(name, sizeof name, "%d-%d", round, i);
                buf_reset(&bytes[i]);
                fixture_put_op(&bytes[i], &id, PUT_CREATE, name, 1 + (uint32_t)i % 7, "text");
                op = decoded(f, &bytes[i]);
                assert_true(catalog_check(f->catalog, &op, &st));
                assert_true(catalog_reserve(f->catalog, &op, &st));
            }
            if (abandoned) {
                catalog_abandon(f->catalog);
            }
        }
        for (int i = 0; i < BATCH; i++) {
            struct op op = decoded(f, &bytes[i]);
            catalog_apply(f->catalog, &op, ++f->lsn, 0, NULL, NULL);
        }
        catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    }
    struct store_reader *r = open_reader(f, 0);
    assert_true(reading_begin(r, &id, &rd, &st));
    assert_int_equal(rd.view.live_documents, BATCH * ROUNDS);
    assert_text(&rd, "4-299/5", "text 5");
    assert_text(&rd, "0-0/0", "text 0");
    reading_end(&rd);
    store_reader_free(r);
    for (int i = 0; i < BATCH; i++) {
        buf_fini(&bytes[i]);
    }
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_libraries, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_deleted_library_is_unmapped, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_library_limit, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_conflicts, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_dimensions, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_first_dimension_in_one_batch, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_chunk_limit, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_views_stay, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_apply_is_invisible_until_published, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_deleted_while_acquired, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_acquire_all, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_replay_changes_nothing_twice, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_adopt, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_vectors_that_are_none, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_op_set, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_batch, fixture_set_up, fixture_tear_down),
    };
    return cmocka_run_group_tests_name("store catalog", tests, NULL, NULL);
}
