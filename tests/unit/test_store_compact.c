/*
 * test_store_compact.c - a library is made anew without what was deleted, while it is written, read, embedded and linked. Each test writes a second
 * library in the same way and does not compact it: afterwards both must say the same.
 */
#include "store/compact.h"

#include "base/io.h"
#include "index/hnsw.h"
#include "store/backlog.h"
#include "store/library_internal.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "allocations.h"
#include "store_fixture.h"

enum { DOCUMENTS = 40, CHUNKS = 8, NAME_BYTES = 32, NEVER = 400 };

static struct uuid compacted(void) {
    return fixture_library_id(1);
}

static struct uuid other(void) {
    return fixture_library_id(2);
}

/* --- writing both --- */

static void commit_both(struct fixture *f, struct buf *op) {
    enum { LIBRARY_AT = 2 };
    struct uuid ids[2] = {compacted(), other()};
    for (size_t i = 0; i < 2; i++) {
        struct status st = {0};
        memcpy(op->data + LIBRARY_AT, ids[i].b, UUID_BYTES);
        bool done = fixture_try(f, op, &st);
        assert_true(done || st.code == STATUS_NOT_FOUND);
    }
}

static void random_commit(struct fixture *f, uint64_t *random) {
    struct buf op = {0};
    struct buf id = {0};
    struct uuid library = compacted();
    char name[NAME_BYTES];
    char chunk[2 * NAME_BYTES];
    uint64_t what = fixture_random(random) % 10;
    (void)snprintf(name, sizeof name, "doc-%u", (unsigned)(fixture_random(random) % DOCUMENTS));
    (void)snprintf(chunk, sizeof chunk, "%s/%u", name, (unsigned)(fixture_random(random) % CHUNKS));
    if (what < 5) {
        char text[2 * NAME_BYTES];
        (void)snprintf(text, sizeof text, "words of %s, number %u", name, (unsigned)(fixture_random(random) % 1000));
        fixture_put_op(&op, &library, PUT_REPLACE, name, (uint32_t)(fixture_random(random) % CHUNKS), text);
    } else if (what < 7) {
        op_encode_document_delete(&op, &library, fixture_id(&id, name));
    } else {
        struct slice one = fixture_id(&id, chunk);
        op_encode_chunks_delete(&op, &library, &one, 1);
    }
    f->pending = fixture_random(random) % 3 == 0;
    commit_both(f, &op);
    f->pending = false;
    buf_fini(&op);
    buf_fini(&id);
}

static void commits(struct fixture *f, uint64_t *random, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        random_commit(f, random);
    }
}

static void create_both(struct fixture *f, uint32_t index_type) {
    struct uuid ids[2] = {compacted(), other()};
    fixture_create(f, &ids[0], index_type, "test");
    fixture_create(f, &ids[1], index_type, "test");
}

/* --- compacting --- */

static void link_all(struct fixture *f) {
    struct library **libraries = NULL;
    size_t count = 0;
    struct status st = {0};
    struct backlog_linker *linker = backlog_linker_new();
    assert_non_null(linker);
    assert_true(catalog_acquire_linkable(f->catalog, &libraries, &count, &st));
    for (size_t i = 0; i < count; i++) {
        size_t done = 1;
        while (done > 0) {
            assert_true(backlog_link_some(libraries[i], linker, 100, &done, &st));
        }
        catalog_release(f->catalog, libraries[i]);
    }
    free(libraries);
    backlog_linker_free(linker);
}

static bool is_ready(struct compaction *k) {
    uint64_t done = 0;
    uint64_t total = 0;
    bool ready = false;
    compaction_progress(k, &done, &total, &ready);
    assert_true(done <= total);
    return ready;
}

static bool switch_now(struct fixture *f, struct compaction *k, struct status *st) {
    bool ok = compaction_switch(k, st);
    if (ok) {
        catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    }
    compaction_end(k);
    return ok;
}

/* From begin to end with `commits_between` random commits between any two steps. */
static void compact(struct fixture *f, uint64_t *random, unsigned commits_between) {
    struct uuid id = compacted();
    struct compaction *k = NULL;
    struct status st = {0};
    struct library *lib = catalog_acquire(f->catalog, &id);
    bool more = true;
    assert_true(compaction_new(f->catalog, lib, &k, &st));
    commits(f, random, commits_between);
    assert_true(compaction_begin(k, &st));
    while (more) {
        commits(f, random, commits_between);
        assert_true(compaction_step(k, 5 + 3 * commits_between, &more, &st)); /* faster than what comes in */
        if (fixture_random(random) % 2 == 0) {
            link_all(f);
        }
    }
    link_all(f);
    assert_true(is_ready(k));
    commits(f, random, commits_between);
    assert_true(switch_now(f, k, &st));
    catalog_release(f->catalog, lib);
}

/* --- looking --- */

static struct library_view view_of(struct fixture *f, struct uuid id) {
    struct library *lib = catalog_acquire(f->catalog, &id);
    struct reading rd;
    assert_non_null(lib);
    library_reading(lib, &rd);
    catalog_release(f->catalog, lib);
    return rd.view;
}

static uint32_t next_visible(const struct reading *rd, uint32_t slot) {
    while (slot < rd->view.chunk_slots && !reading_chunk_visible(rd, slot)) {
        slot++;
    }
    return slot;
}

static void assert_same_chunk(const struct reading *a, uint32_t slot_a, const struct reading *b, uint32_t slot_b) {
    struct stored_chunk one;
    struct stored_chunk two;
    struct stored_chunk found;
    struct status st = {0};
    assert_true(reading_chunk(a, slot_a, &one, &st) && reading_chunk(b, slot_b, &two, &st));
    assert_true(slice_equal(one.fields.id, two.fields.id));
    assert_true(slice_equal(one.fields.text, two.fields.text));
    assert_int_equal(one.has_vector, two.has_vector);
    const float *vector_a = reading_vector(a, slot_a);
    const float *vector_b = reading_vector(b, slot_b);
    assert_true((vector_a != NULL) == (vector_b != NULL));
    if (vector_a != NULL) {
        assert_memory_equal(vector_a, vector_b, FIXTURE_DIMENSION * sizeof(float));
    }
    assert_true(reading_find_chunk(a, one.fields.id, &found, &st));
    assert_int_equal(found.slot, slot_a);
    const struct chunk_row *row_a = arena_chunk(a->arena, slot_a);
    const struct chunk_row *row_b = arena_chunk(b->arena, slot_b);
    assert_int_equal(row_a->text_hash, row_b->text_hash);
    assert_int_equal(row_a->length, row_b->length);
    assert_int_equal(row_a->vector_crc, row_b->vector_crc);
}

static void assert_same_documents(const struct reading *a, const struct reading *b) {
    uint32_t row_a = reading_next_document(a, 0);
    uint32_t row_b = reading_next_document(b, 0);
    struct status st = {0};
    while (row_a != ROW_NONE && row_b != ROW_NONE) {
        struct stored_document one;
        struct stored_document two;
        struct stored_document found;
        assert_true(reading_document(a, row_a, &one, &st) && reading_document(b, row_b, &two, &st));
        assert_true(slice_equal(one.fields.id, two.fields.id));
        assert_true(slice_equal(one.fields.title, two.fields.title));
        assert_int_equal(one.created_at, two.created_at);
        assert_int_equal(reading_live_chunks_of(a, &one), reading_live_chunks_of(b, &two));
        assert_true(reading_find_document(a, one.fields.id, &found, &st));
        assert_int_equal(found.row, row_a);
        row_a = reading_next_document(a, row_a + 1);
        row_b = reading_next_document(b, row_b + 1);
    }
    assert_int_equal(row_a, ROW_NONE);
    assert_int_equal(row_b, ROW_NONE);
}

static void assert_same_readings(const struct reading *a, const struct reading *b) {
    uint32_t slot_a = next_visible(a, 0);
    uint32_t slot_b = next_visible(b, 0);
    assert_int_equal(a->view.live_chunks, b->view.live_chunks);
    assert_int_equal(a->view.live_documents, b->view.live_documents);
    assert_int_equal(a->view.text_bytes, b->view.text_bytes);
    assert_int_equal(a->view.live_tokens, b->view.live_tokens);
    assert_int_equal(a->view.reembedding, b->view.reembedding);
    for (; slot_a < a->view.chunk_slots && slot_b < b->view.chunk_slots;
         slot_a = next_visible(a, slot_a + 1), slot_b = next_visible(b, slot_b + 1)) {
        assert_same_chunk(a, slot_a, b, slot_b);
    }
    assert_int_equal(slot_a, a->view.chunk_slots);
    assert_int_equal(slot_b, b->view.chunk_slots);
    assert_same_documents(a, b);
}

static struct store_reader *begin_reading(struct fixture *f, uint32_t slot, struct uuid id, struct reading *ret) {
    struct store_reader *r = NULL;
    struct status st = {0};
    assert_true(store_reader_new(f->control, slot, f->dir_fd, &r, &st));
    assert_true(reading_begin(r, &id, ret, &st));
    return r;
}

/* Both libraries say the same, to workers and to the supervisor. */
static void assert_same(struct fixture *f) {
    struct uuid ids[2] = {compacted(), other()};
    struct reading rd[2];
    struct store_reader *r[2];
    for (uint32_t i = 0; i < 2; i++) {
        fixture_verify_texts(f->catalog, &ids[i]);
        r[i] = begin_reading(f, i, ids[i], &rd[i]);
    }
    assert_same_readings(&rd[0], &rd[1]);
    for (uint32_t i = 0; i < 2; i++) {
        reading_end(&rd[i]);
        store_reader_free(r[i]);
    }
}

/* What stands under vectors/, but for checkpoints. */
static void assert_directories(struct fixture *f, unsigned wanted) {
    DIR *dir = opendir(f->dir);
    unsigned count = 0;
    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        count += e->d_name[0] != '.' ? 1 : 0;
    }
    assert_int_equal(closedir(dir), 0);
    assert_int_equal(count, wanted);
}

/* --- tests --- */

static void test_compaction(void **state) {
    struct fixture *f = (struct fixture *)*state;
    uint64_t random = 3;
    struct uuid id = compacted();
    create_both(f, INDEX_HNSW);
    for (unsigned round = 0; round < 12; round++) {
        commits(f, &random, 150);
        assert_true(compaction_gain(&(struct library_view[1]){view_of(f, id)}[0]) > 0);
        compact(f, &random, round % 4 == 0 ? 0 : round);
        if (round % 4 == 0) {
            struct library_view view = view_of(f, id);
            assert_int_equal(compaction_gain(&view), 0);
            assert_int_equal(view.directory, round + 1);
        }
        assert_same(f);
        assert_directories(f, 2);
    }
    struct uuid ids[2] = {id, other()};
    fixture_catch_up(f, &ids[0]);
    fixture_catch_up(f, &ids[1]);
    assert_same(f);
    struct library *lib = catalog_acquire(f->catalog, &id);
    uint64_t unreachable = 0;
    char detail[160] = "";
    struct graph_work *g = library_graph(lib, false);
    struct hnsw_graph graph = graph_work_graph(g);
    assert_int_equal(hnsw_validate(&graph, view_of(f, id).chunk_slots, &unreachable, detail), 0);
    assert_int_equal(backlog_tail(lib), 0);
    library_graph_release(lib, g);
    catalog_release(f->catalog, lib);
}

/* Who has the old view reads it to its end; the next reading of the same reader finds the new one; a start takes it over. */
static void test_readers_and_restart(void **state) {
    struct fixture *f = (struct fixture *)*state;
    uint64_t random = 8;
    struct uuid id = compacted();
    struct reading old;
    struct reading twin;
    struct status st = {0};
    create_both(f, INDEX_HNSW);
    commits(f, &random, 300);
    struct store_reader *r = begin_reading(f, 2, id, &old);
    struct store_reader *s = begin_reading(f, 3, other(), &twin);
    uint32_t slots = old.view.chunk_slots;
    compact(f, &random, 0);
    commits(f, &random, 100);
    assert_same_readings(&old, &twin);
    reading_end(&old);
    reading_end(&twin);
    assert_true(reading_begin(r, &id, &old, &st));
    assert_true(old.view.chunk_slots < slots + 100 * CHUNKS);
    assert_int_equal(old.view.directory, 1);
    reading_end(&old);
    store_reader_free(r);
    store_reader_free(s);
    assert_same(f);

    struct library_view views[2] = {view_of(f, id), view_of(f, other())};
    fixture_reopen(f);
    for (size_t i = 0; i < 2; i++) {
        assert_true(catalog_adopt(f->catalog, &views[i], &st));
    }
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    assert_same(f);
    compact(f, &random, 3);
    assert_int_equal(view_of(f, id).directory, 2);
    assert_same(f);
    assert_directories(f, 2);
}

static void test_given_up(void **state) {
    struct fixture *f = (struct fixture *)*state;
    uint64_t random = 21;
    struct uuid id = compacted();
    struct compaction *k = NULL;
    struct compaction *second = NULL;
    struct status st = {0};
    bool more = false;
    create_both(f, INDEX_HNSW);
    commits(f, &random, 200);
    struct library *lib = catalog_acquire(f->catalog, &id);

    /* before and after its begin; no rebuild and no second one beside it */
    assert_true(compaction_new(f->catalog, lib, &k, &st));
    compaction_end(k);
    assert_directories(f, 2);
    assert_true(compaction_new(f->catalog, lib, &k, &st) && compaction_begin(k, &st));
    assert_true(compaction_new(f->catalog, lib, &second, &st) == false || !compaction_begin(second, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    compaction_end(second);
    struct library_view view = view_of(f, id);
    assert_false(backlog_rebuild_begin(lib, &view.index, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    assert_true(compaction_step(k, 10, &more, &st));
    commits(f, &random, 20);
    compaction_end(k);
    assert_directories(f, 2);
    assert_same(f);

    /* a rebuild comes first */
    assert_true(backlog_rebuild_begin(lib, &view.index, &st));
    assert_true(compaction_new(f->catalog, lib, &k, &st));
    assert_false(compaction_begin(k, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    compaction_end(k);
    backlog_rebuild_cancel(lib);

    /* the library goes meanwhile */
    assert_true(compaction_new(f->catalog, lib, &k, &st) && compaction_begin(k, &st));
    assert_true(compaction_step(k, 1000, &more, &st));
    struct buf op = {0};
    op_encode_library_delete(&op, &id);
    fixture_commit(f, &op);
    assert_true(compaction_step(k, 1000, &more, &st));
    assert_false(compaction_switch(k, &st));
    assert_int_equal(st.code, STATUS_NOT_FOUND);
    compaction_end(k);
    catalog_release(f->catalog, lib);
    assert_directories(f, 1);
    buf_fini(&op);
}

/* Vectors that are made, and a definition that changes, while it goes on. */
static void test_what_changes_meanwhile(void **state) {
    struct fixture *f = (struct fixture *)*state;
    uint64_t random = 33;
    struct uuid id = compacted();
    struct compaction *k = NULL;
    struct status st = {0};
    struct buf op = {0};
    bool more = true;
    create_both(f, INDEX_HNSW);
    commits(f, &random, 200);
    f->pending = true;
    fixture_put_op(&op, &id, PUT_REPLACE, "late", 50, "their vectors come later");
    commit_both(f, &op);
    f->pending = false;
    struct library *lib = catalog_acquire(f->catalog, &id);
    assert_true(compaction_new(f->catalog, lib, &k, &st) && compaction_begin(k, &st));
    while (more) {
        assert_true(compaction_step(k, 100, &more, &st));
    }
    assert_true(backlog_pending_vectors(lib) > 0);
    struct uuid ids[2] = {id, other()};
    fixture_catch_up(f, &ids[0]);
    fixture_catch_up(f, &ids[1]);
    buf_reset(&op);
    fixture_library_op(&op, OP_LIBRARY_UPDATE, &id, INDEX_FLAT, "test");
    fixture_commit(f, &op);
    fixture_model_fails = true; /* none is embedded again */
    assert_true(switch_now(f, k, &st));
    catalog_release(f->catalog, lib);
    assert_int_equal(view_of(f, id).index.type, INDEX_FLAT);
    assert_int_equal(view_of(f, id).reembedding, 0);
    assert_same(f);
    buf_fini(&op);
}

/* --- faults --- */

struct fault {
    enum io_call call;
    int err;
    unsigned pass;
    unsigned seen;
};

static int fail_one(enum io_call call, const char *path, void *ctx) {
    struct fault *fault = (struct fault *)ctx;
    (void)path;
    return call == fault->call && fault->seen++ == fault->pass ? fault->err : 0;
}

static bool attempt(struct fixture *f, struct fault *fault, struct status *st) {
    struct uuid id = compacted();
    struct compaction *k = NULL;
    struct library *lib = catalog_acquire(f->catalog, &id);
    bool more = true;
    io_set_fault(fail_one, fault);
    bool ok = compaction_new(f->catalog, lib, &k, st) && compaction_begin(k, st);
    while (ok && more) {
        ok = compaction_step(k, 7, &more, st);
    }
    ok = ok && compaction_switch(k, st);
    io_set_fault(NULL, NULL); /* what is left to do cannot fail, or does not matter */
    if (ok) {
        catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    }
    compaction_end(k);
    catalog_release(f->catalog, lib);
    return ok;
}

static void test_faults(void **state) {
    struct fixture *f = (struct fixture *)*state;
    static const struct {
        enum io_call call;
        int err;
        enum status_code code;
    } kinds[] = {{IO_FALLOCATE, ENOSPC, STATUS_NO_SPACE},
                 {IO_OPEN, EMFILE, STATUS_NO_MEMORY},
                 {IO_MMAP, ENOMEM, STATUS_NO_MEMORY},
                 {IO_MKDIR, EDQUOT, STATUS_NO_SPACE},
                 {IO_RENAME, EIO, STATUS_IO}};
    uint64_t random = 44;
    create_both(f, INDEX_HNSW);
    for (size_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++) {
        unsigned failures = 0;
        struct buf op = {0};
        fixture_put_op(&op, &(struct uuid[1]){compacted()}[0], PUT_REPLACE, "large", 2000,
                       "text that takes some room in all the files");
        commit_both(f, &op);
        buf_fini(&op);
        commits(f, &random, 100);
        for (;; failures++) {
            struct fault fault = {.call = kinds[kind].call, .err = kinds[kind].err, .pass = failures};
            struct status st = {0};
            assert_true(failures < NEVER);
            if (attempt(f, &fault, &st)) {
                break;
            }
            assert_int_equal(st.code, kinds[kind].code);
            assert_directories(f, 2);
            if (failures % 8 == 0) {
                commits(f, &random, 5);
                assert_same(f);
            }
        }
        assert_true(failures > 0);
        assert_same(f);
        assert_directories(f, 2);
    }
}

/* Each allocation that a compaction makes fails once. */
static void test_memory(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = compacted();
    struct fault none = {.call = IO_CALLS};
    uint64_t random = 66;
    unsigned failures = 0;
    create_both(f, INDEX_HNSW);
    commits(f, &random, 300);
    for (;; failures++) {
        struct status st = {0};
        assert_true(failures < NEVER);
        allocations->left = failures + 1;
        bool ok = attempt(f, &none, &st);
        bool untouched = allocations->left > 0;
        allocations->left = 0;
        if (ok && untouched) {
            break;
        }
        assert_true(ok || st.code == STATUS_NO_MEMORY);
        commits(f, &random, 20);
        assert_directories(f, 2);
    }
    assert_true(failures > 10);
    assert_true(view_of(f, id).directory > 0);
    assert_same(f);
}

/* --- threads --- */

struct crowd {
    struct fixture *f;
    uint32_t stop;
};

static void *link_for_ever(void *arg) {
    struct crowd *c = (struct crowd *)arg;
    while (load_relaxed_u32(&c->stop) == 0) {
        link_all(c->f);
    }
    return NULL;
}

static void *embed_for_ever(void *arg) {
    struct crowd *c = (struct crowd *)arg;
    while (load_relaxed_u32(&c->stop) == 0) {
        struct library **libraries = NULL;
        size_t count = 0;
        struct status st = {0};
        assert_true(catalog_acquire_all(c->f->catalog, &libraries, &count, &st));
        for (size_t i = 0; i < count; i++) {
            size_t done = 0;
            assert_true(backlog_embed_some(libraries[i], &c->f->models, 8, &done, &st));
            catalog_release(c->f->catalog, libraries[i]);
        }
        free(libraries);
    }
    return NULL;
}

/* Each reading is one state: as many chunks as the view counts, each with the text that its id asks for. */
static void *read_for_ever(void *arg) {
    struct crowd *c = (struct crowd *)arg;
    struct uuid id = compacted();
    struct store_reader *r = NULL;
    struct status st = {0};
    assert_true(store_reader_new(c->f->control, 2, c->f->dir_fd, &r, &st));
    while (load_relaxed_u32(&c->stop) == 0) {
        struct reading rd;
        uint32_t alive = 0;
        assert_true(reading_begin(r, &id, &rd, &st));
        for (uint32_t slot = 0; slot < rd.view.chunk_slots; slot++) {
            struct stored_chunk chunk;
            struct stored_chunk found;
            if (reading_chunk_visible(&rd, slot)) {
                alive++;
                assert_true(reading_chunk(&rd, slot, &chunk, &st));
                assert_true(reading_find_chunk(&rd, chunk.fields.id, &found, &st));
                assert_int_equal(found.slot, slot);
            }
        }
        assert_int_equal(alive, rd.view.live_chunks);
        reading_end(&rd);
    }
    store_reader_free(r);
    return NULL;
}

struct stepping {
    struct compaction *k;
    uint32_t done;
};

static void *step_until_ready(void *arg) {
    struct stepping *s = (struct stepping *)arg;
    struct status st = {0};
    bool more = true;
    while (more || !is_ready(s->k)) {
        assert_true(compaction_step(s->k, 3, &more, &st));
    }
    store_release_u32(&s->done, 1);
    return NULL;
}

/* This thread is the committer; beside it one compacts, and others link, embed and read. */
static void test_threads(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct crowd c = {.f = f};
    pthread_t crowd[3];
    uint64_t random = 55;
    struct uuid id = compacted();
    struct status st = {0};
    create_both(f, INDEX_HNSW);
    commits(f, &random, 100);
    assert_int_equal(pthread_create(&crowd[0], NULL, link_for_ever, &c), 0);
    assert_int_equal(pthread_create(&crowd[1], NULL, embed_for_ever, &c), 0);
    assert_int_equal(pthread_create(&crowd[2], NULL, read_for_ever, &c), 0);
    for (unsigned round = 0; round < 6; round++) {
        struct stepping s = {0};
        pthread_t stepper;
        struct library *lib = catalog_acquire(f->catalog, &id);
        assert_true(compaction_new(f->catalog, lib, &s.k, &st) && compaction_begin(s.k, &st));
        assert_int_equal(pthread_create(&stepper, NULL, step_until_ready, &s), 0);
        for (unsigned i = 0; i < 150 || load_acquire_u32(&s.done) == 0; i++) {
            if (i < 150) {
                random_commit(f, &random);
            }
        }
        assert_int_equal(pthread_join(stepper, NULL), 0);
        assert_true(switch_now(f, s.k, &st));
        catalog_release(f->catalog, lib);
    }
    store_relaxed_u32(&c.stop, 1);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(crowd[i], NULL), 0);
    }
    struct uuid ids[2] = {id, other()};
    fixture_catch_up(f, &ids[0]);
    fixture_catch_up(f, &ids[1]);
    assert_same(f);
    assert_directories(f, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_compaction, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_readers_and_restart, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_given_up, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_what_changes_meanwhile, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_faults, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_memory, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_threads, fixture_set_up, fixture_tear_down),
    };
    return cmocka_run_group_tests_name("store compact", tests, NULL, NULL);
}
