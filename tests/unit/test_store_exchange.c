/*
 * test_store_exchange.c - a library gets another model while it is written, read, embedded and linked, and gets the one before back. Each test writes a second
 * library in the same way and leaves it alone: afterwards both must say the same, but for the vectors, which must be those of the model.
 */
#include "store/exchange.h"

#include "base/io.h"
#include "store/backlog.h"
#include "store/mirror.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store_fixture.h"

enum { DOCUMENTS = 40, CHUNKS = 8, NAME_BYTES = 32, SECOND_DIMENSION = 40 };

static struct uuid exchanged(void) {
    return fixture_library_id(1);
}

static struct uuid other(void) {
    return fixture_library_id(2);
}

/* --- two more models --- */

static void second_vector(struct slice text, float out[SECOND_DIMENSION]) {
    uint64_t random = text_hash(text) ^ 0x5ec0;
    fixture_unit_vector(&random, out, SECOND_DIMENSION);
}

static bool embed_second(const struct embedder *e, enum embed_role role, const struct slice *texts, size_t count, float *out, struct status *st) {
    (void)e;
    (void)role;
    if (fixture_model_fails) {
        return status_set(st, STATUS_NO_EMBEDDING, "the model does not answer");
    }
    for (size_t i = 0; i < count; i++) {
        second_vector(texts[i], out + i * SECOND_DIMENSION);
    }
    return true;
}

static int set_up(void **state) {
    int failed = fixture_set_up(state);
    struct fixture *f = (struct fixture *)*state;
    if (failed != 0) {
        return failed;
    }
    f->models.model[1] = (struct embedder){
        .name = "second", .dimension = SECOND_DIMENSION, .fingerprint = 88, .where = "here", .embed = embed_second};
    f->models.model[2] = f->models.model[0];
    memcpy(f->models.model[2].name, "twin", sizeof "twin");
    f->models.model[2].fingerprint = 99;
    f->models.count = 3;
    f->pending = true; /* all vectors are the backlog's */
    return 0;
}

/* --- writing both --- */

static void commit_both(struct fixture *f, struct buf *op) {
    enum { LIBRARY_AT = 2 };
    struct uuid ids[2] = {exchanged(), other()};
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
    struct uuid library = exchanged();
    char name[NAME_BYTES];
    char chunk[2 * NAME_BYTES];
    uint64_t what = fixture_random(random) % 10;
    (void)snprintf(name, sizeof name, "doc-%u", (unsigned)(fixture_random(random) % DOCUMENTS));
    (void)snprintf(chunk, sizeof chunk, "%s/%u", name, (unsigned)(fixture_random(random) % CHUNKS));
    if (what < 6) {
        char text[2 * NAME_BYTES];
        (void)snprintf(text, sizeof text, "words of %s, number %u", name, (unsigned)(fixture_random(random) % 1000));
        fixture_put_op(&op, &library, PUT_REPLACE, name, (uint32_t)(fixture_random(random) % CHUNKS), text);
    } else if (what < 8) {
        op_encode_document_delete(&op, &library, fixture_id(&id, name));
    } else {
        struct slice one = fixture_id(&id, chunk);
        op_encode_chunks_delete(&op, &library, &one, 1);
    }
    commit_both(f, &op);
    buf_fini(&op);
    buf_fini(&id);
}

static void commits(struct fixture *f, uint64_t *random, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        random_commit(f, random);
    }
}

static void create_both(struct fixture *f) {
    struct uuid ids[2] = {exchanged(), other()};
    fixture_create(f, &ids[0], INDEX_HNSW, "test");
    fixture_create(f, &ids[1], INDEX_HNSW, "test");
}

/* What the supervisor's threads do. */
static void background(struct fixture *f) {
    struct library **libraries = NULL;
    size_t count = 0;
    struct status st = {0};
    struct backlog_linker *linker = backlog_linker_new();
    assert_non_null(linker);
    assert_true(catalog_acquire_linkable(f->catalog, &libraries, &count, &st));
    for (size_t i = 0; i < count; i++) {
        size_t done = 1;
        while (done > 0) {
            assert_true(backlog_embed_some(libraries[i], &f->models, 7, &done, &st));
        }
        done = 1;
        while (done > 0) {
            assert_true(backlog_link_some(libraries[i], linker, 100, &done, &st));
        }
        catalog_release(f->catalog, libraries[i]);
    }
    free(libraries);
    backlog_linker_free(linker);
}

/* --- steps --- */

static struct library *acquire(struct fixture *f) {
    struct uuid id = exchanged();
    struct library *lib = catalog_acquire(f->catalog, &id);
    assert_non_null(lib);
    return lib;
}

static uint8_t first_task = 7;

/* The op that brings the library's exchange into that state. model: of a begin. */
static bool try_step(struct fixture *f, uint32_t to, const char *model, struct status *st) {
    struct library *lib = acquire(f);
    struct library_definition d;
    struct buf op = {0};
    assert_true(library_present_definition(lib, &lib->view, &d, st));
    if (to == EXCHANGE_NONE) {
        d.exchange = (struct library_exchange){0};
    } else if (model != NULL) {
        const struct embedder *e = embed_find(&f->models, slice_str(model));
        d.exchange = (struct library_exchange){.since = 10, .model = slice_str(model), .task = {{first_task}}};
        d.exchange.dimension = e != NULL ? e->dimension : 0;
        d.exchange.fingerprint = e != NULL ? e->fingerprint : 0;
    }
    d.exchange.state = to;
    op_encode_library_model(&op, &lib->id, &d, false);
    catalog_release(f->catalog, lib);
    bool ok = fixture_try(f, &op, st);
    buf_fini(&op);
    return ok;
}

static void step(struct fixture *f, uint32_t to, const char *model) {
    struct status st = {0};
    assert_true(try_step(f, to, model, &st));
}

static struct model_exchange *begin(struct fixture *f, struct library *lib, bool reuse) {
    struct model_exchange *x = NULL;
    struct status st = {0};
    assert_true(exchange_new(f->catalog, lib, reuse, &x, &st));
    assert_true(exchange_begin(x, &st));
    return x;
}

/* Copies, with commits between. */
static void follow(struct fixture *f, struct model_exchange *x, uint64_t *random, unsigned commits_between) {
    struct exchange_progress p = {0};
    struct status st = {0};
    bool more = true;
    while (!p.ready || more) {
        commits(f, random, commits_between);
        assert_true(exchange_step(x, 5 + 3 * commits_between, &more, &st)); /* faster than what comes in */
        if (fixture_random(random) % 3 == 0 || !more) {
            background(f);
        }
        exchange_progress(x, &p);
        assert_true(p.done <= p.total);
    }
}

static struct library *switch_now(struct fixture *f, struct model_exchange *x, bool *ret_goes_on) {
    struct slice op;
    struct status st = {0};
    assert_true(exchange_prepare(x, 20, &op, &st));
    struct library *lib = exchange_switch(x, ++f->lsn, ret_goes_on);
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    return lib;
}

static void end(struct model_exchange *x, bool keep_files) {
    exchange_end(x, keep_files);
    exchange_free(x);
}

/* --- looking --- */

static uint32_t next_visible(const struct reading *rd, uint32_t slot) {
    while (slot < rd->view.chunk_slots && !reading_chunk_visible(rd, slot)) {
        slot++;
    }
    return slot;
}

static void assert_vector(const struct reading *rd, uint32_t slot, struct slice text, bool second) {
    float wanted[SECOND_DIMENSION];
    const float *vector = reading_vector(rd, slot);
    assert_non_null(vector);
    if (second) {
        second_vector(text, wanted);
    } else {
        fixture_embed(text, wanted);
    }
    assert_memory_equal(vector, wanted, rd->view.dimension * sizeof(float));
}

static void assert_same_chunks(const struct reading *a, const struct reading *b, bool second) {
    uint32_t slot_a = next_visible(a, 0);
    uint32_t slot_b = next_visible(b, 0);
    for (; slot_a < a->view.chunk_slots && slot_b < b->view.chunk_slots;
         slot_a = next_visible(a, slot_a + 1), slot_b = next_visible(b, slot_b + 1)) {
        struct stored_chunk one;
        struct stored_chunk two;
        struct stored_chunk found;
        struct status st = {0};
        assert_true(reading_chunk(a, slot_a, &one, &st) && reading_chunk(b, slot_b, &two, &st));
        assert_true(slice_equal(one.fields.id, two.fields.id) && slice_equal(one.fields.text, two.fields.text));
        assert_true(reading_find_chunk(a, one.fields.id, &found, &st));
        assert_int_equal(found.slot, slot_a);
        assert_vector(a, slot_a, one.fields.text, second);
    }
    assert_int_equal(slot_a, a->view.chunk_slots);
    assert_int_equal(slot_b, b->view.chunk_slots);
}

static void assert_same_documents(const struct reading *a, const struct reading *b) {
    uint32_t row_a = reading_next_document(a, 0);
    uint32_t row_b = reading_next_document(b, 0);
    while (row_a != ROW_NONE && row_b != ROW_NONE) {
        struct stored_document one;
        struct stored_document two;
        struct status st = {0};
        assert_true(reading_document(a, row_a, &one, &st) && reading_document(b, row_b, &two, &st));
        assert_true(slice_equal(one.fields.id, two.fields.id));
        assert_int_equal(reading_live_chunks_of(a, &one), reading_live_chunks_of(b, &two));
        row_a = reading_next_document(a, row_a + 1);
        row_b = reading_next_document(b, row_b + 1);
    }
    assert_int_equal(row_a, ROW_NONE);
    assert_int_equal(row_b, ROW_NONE);
}

static void assert_same_readings(const struct reading *a, const struct reading *b, bool second) {
    assert_int_equal(a->view.live_chunks, b->view.live_chunks);
    assert_int_equal(a->view.live_documents, b->view.live_documents);
    assert_int_equal(a->view.text_bytes, b->view.text_bytes);
    assert_int_equal(a->view.live_tokens, b->view.live_tokens);
    assert_int_equal(a->view.dimension, second ? SECOND_DIMENSION : FIXTURE_DIMENSION);
    assert_same_chunks(a, b, second);
    assert_same_documents(a, b);
}

/* Both libraries say the same to workers, and the exchanged one has the vectors of that model. */
static void assert_same(struct fixture *f, bool second) {
    struct uuid ids[2] = {exchanged(), other()};
    struct reading rd[2];
    struct store_reader *r[2];
    struct status st = {0};
    background(f);
    for (uint32_t i = 0; i < 2; i++) {
        fixture_verify_texts(f->catalog, &ids[i]);
        assert_true(store_reader_new(f->control, i, f->dir_fd, &r[i], &st));
        assert_true(reading_begin(r[i], &ids[i], &rd[i], &st));
    }
    assert_same_readings(&rd[0], &rd[1], second);
    for (uint32_t i = 0; i < 2; i++) {
        reading_end(&rd[i]);
        store_reader_free(r[i]);
    }
}

static unsigned directories(struct fixture *f) {
    DIR *dir = opendir(f->dir);
    unsigned count = 0;
    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        count += e->d_name[0] != '.' ? 1 : 0;
    }
    assert_int_equal(closedir(dir), 0);
    return count;
}

/* --- tests --- */

static void test_there_and_back(void **state) {
    struct fixture *f = (struct fixture *)*state;
    uint64_t random = 11;
    create_both(f);
    for (unsigned round = 0; round < 6; round++) {
        bool goes_on = false;
        struct library *lib = acquire(f);
        commits(f, &random, 150);
        step(f, EXCHANGE_BUILDING, "second");
        struct model_exchange *x = begin(f, lib, false);
        follow(f, x, &random, round);
        commits(f, &random, round);
        lib = switch_now(f, x, &goes_on);
        assert_true(goes_on);
        assert_int_equal(library_exchange_state(lib), EXCHANGE_KEPT);
        assert_true(exchange_may_follow(x));
        assert_same(f, true);
        commits(f, &random, 200);
        follow(f, x, &random, round);
        assert_same(f, true);
        step(f, EXCHANGE_RETURNING, NULL);
        commits(f, &random, round);
        lib = switch_now(f, x, &goes_on);
        assert_false(goes_on);
        assert_int_equal(library_exchange_state(lib), EXCHANGE_NONE);
        end(x, false);
        catalog_release(f->catalog, lib);
        assert_same(f, false);
        commits(f, &random, 30);
        assert_same(f, false);
        assert_int_equal(directories(f), 2);
    }
}

/* A kept side that is dropped, and one that is given up while it is built, leave what serves. */
static void test_given_up(void **state) {
    struct fixture *f = (struct fixture *)*state;
    uint64_t random = 12;
    struct slice op;
    struct status st = {0};
    bool goes_on = false;
    create_both(f);
    commits(f, &random, 150);
    step(f, EXCHANGE_BUILDING, "second");
    struct library *lib = acquire(f);
    struct model_exchange *x = begin(f, lib, false);
    follow(f, x, &random, 1);
    step(f, EXCHANGE_NONE, NULL);
    assert_false(exchange_prepare(x, 20, &op, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    first_task++;
    step(f, EXCHANGE_BUILDING, "twin"); /* before the side of the one that was given up is let go */
    assert_false(exchange_prepare(x, 20, &op, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    end(x, false);
    assert_int_equal(directories(f), 2);
    assert_same(f, false);
    step(f, EXCHANGE_NONE, NULL);
    step(f, EXCHANGE_BUILDING, "second");
    x = begin(f, lib, false);
    follow(f, x, &random, 1);
    lib = switch_now(f, x, &goes_on);
    follow(f, x, &random, 1);
    step(f, EXCHANGE_NONE, NULL);
    end(x, false);
    catalog_release(f->catalog, lib);
    assert_int_equal(directories(f), 2);
    commits(f, &random, 30);
    assert_same(f, true);
}

/* What a stopped server's side had is not embedded again by the next one. */
static void test_begun_again(void **state) {
    struct fixture *f = (struct fixture *)*state;
    uint64_t random = 13;
    struct exchange_progress p = {0};
    bool goes_on = false;
    create_both(f);
    commits(f, &random, 200);
    step(f, EXCHANGE_BUILDING, "second");
    struct library *lib = acquire(f);
    struct model_exchange *x = begin(f, lib, false);
    follow(f, x, &random, 0);
    background(f);
    end(x, true);
    assert_int_equal(directories(f), 3);
    fixture_model_fails = true; /* for the side nothing is to be made */
    x = begin(f, lib, true);
    bool more = true;
    struct status st = {0};
    while (more) {
        assert_true(exchange_step(x, 10, &more, &st));
    }
    exchange_progress(x, &p);
    assert_int_equal(p.reused, lib->view.live_chunks);
    assert_true(p.reused > 20);
    fixture_model_fails = false;
    follow(f, x, &random, 1);
    lib = switch_now(f, x, &goes_on);
    assert_same(f, true);
    end(x, true); /* kept, and the server is stopped */
    step(f, EXCHANGE_RETURNING, NULL);
    commits(f, &random, 20);
    x = begin(f, lib, true);
    follow(f, x, &random, 1);
    exchange_progress(x, &p);
    assert_true(p.reused > 10);
    lib = switch_now(f, x, &goes_on);
    assert_false(goes_on);
    end(x, false);
    catalog_release(f->catalog, lib);
    assert_same(f, false);
}

/* What a replay does: the same op without a side. */
static void test_replay(void **state) {
    struct fixture *f = (struct fixture *)*state;
    uint64_t random = 14;
    struct status st = {0};
    create_both(f);
    commits(f, &random, 150);
    background(f);
    step(f, EXCHANGE_BUILDING, "second");
    struct library *lib = acquire(f);
    struct library_definition d;
    struct buf bytes = {0};
    struct op op;
    assert_true(library_present_definition(lib, &lib->view, &d, &st));
    d.embedding_model = slice_str("second");
    d.dimension = SECOND_DIMENSION;
    d.exchange.state = EXCHANGE_KEPT;
    d.exchange.model = slice_str("test");
    op_encode_library_model(&bytes, &lib->id, &d, true);
    assert_true(op_decode(buf_slice(&bytes), NULL, &op, &st));
    assert_false(catalog_check(f->catalog, &op, &st));
    assert_true(catalog_reserve(f->catalog, &op, &st));
    catalog_apply(f->catalog, &op, ++f->lsn, 0, NULL, NULL);
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    assert_int_equal(backlog_pending_vectors(lib), lib->view.live_chunks);
    commits(f, &random, 50);
    assert_same(f, true);
    assert_int_equal(backlog_tail(lib), 0);
    catalog_release(f->catalog, lib);
    buf_fini(&bytes);
}

static enum status_code step_code(struct fixture *f, uint32_t to, const char *model) {
    struct status st = {0};
    return try_step(f, to, model, &st) ? STATUS_OK : (enum status_code)st.code;
}

static void test_what_is_refused(void **state) {
    struct fixture *f = (struct fixture *)*state;
    uint64_t random = 15;
    struct status st = {0};
    struct model_exchange *x = NULL;
    create_both(f);
    commits(f, &random, 20);
    struct library *lib = acquire(f);
    assert_int_equal(step_code(f, EXCHANGE_NONE, NULL), STATUS_CONFLICT);
    assert_int_equal(step_code(f, EXCHANGE_RETURNING, NULL), STATUS_CONFLICT);
    assert_int_equal(step_code(f, EXCHANGE_KEPT, NULL), STATUS_CONFLICT);
    assert_int_equal(step_code(f, EXCHANGE_BUILDING, "nobody's"), STATUS_INVALID);
    assert_int_equal(step_code(f, EXCHANGE_BUILDING, "none"), STATUS_INVALID);
    assert_false(exchange_new(f->catalog, lib, false, &x, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    const struct index_settings settings = lib->view.index;
    assert_true(backlog_rebuild_begin(lib, &settings, &st));
    assert_int_equal(step_code(f, EXCHANGE_BUILDING, "second"), STATUS_CONFLICT);
    backlog_rebuild_cancel(lib);
    step(f, EXCHANGE_BUILDING, "second");
    assert_int_equal(step_code(f, EXCHANGE_BUILDING, "second"), STATUS_CONFLICT);
    assert_int_equal(step_code(f, EXCHANGE_RETURNING, NULL), STATUS_CONFLICT);
    struct buf op = {0};
    fixture_library_op(&op, OP_LIBRARY_UPDATE, &lib->id, INDEX_HNSW, "test"); /* as one that was read before */
    assert_false(fixture_try(f, &op, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    buf_fini(&op);
    assert_true(backlog_rebuild_begin(lib, &settings, &st));
    assert_true(exchange_new(f->catalog, lib, false, &x, &st));
    assert_false(exchange_begin(x, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    backlog_rebuild_cancel(lib);
    assert_true(exchange_begin(x, &st));
    assert_false(backlog_rebuild_begin(lib, &settings, &st));
    end(x, false);
    catalog_release(f->catalog, lib);
}

static void test_deleted_meanwhile(void **state) {
    struct fixture *f = (struct fixture *)*state;
    uint64_t random = 16;
    struct slice logged;
    struct buf op = {0};
    struct status st = {0};
    create_both(f);
    commits(f, &random, 50);
    step(f, EXCHANGE_BUILDING, "second");
    struct library *lib = acquire(f);
    struct uuid id = lib->id;
    struct model_exchange *x = begin(f, lib, false);
    follow(f, x, &random, 0);
    op_encode_library_delete(&op, &lib->id);
    fixture_commit(f, &op);
    assert_false(exchange_prepare(x, 20, &logged, &st));
    assert_int_equal(st.code, STATUS_NOT_FOUND);
    end(x, false);
    catalog_release(f->catalog, lib);
    assert_int_equal(directories(f), 1);
    fixture_create(f, &id, INDEX_HNSW, "test"); /* its id is free again */
    buf_fini(&op);
}

static int fail_listing(enum io_call call, const char *path, void *ctx) {
    (void)path;
    (void)ctx;
    return call == IO_LIST ? EIO : 0;
}

/* A side that cannot even be given a name takes nothing with it. */
static void test_no_name_for_a_side(void **state) {
    struct fixture *f = (struct fixture *)*state;
    uint64_t random = 18;
    struct model_exchange *x = NULL;
    struct status st = {0};
    create_both(f);
    commits(f, &random, 50);
    step(f, EXCHANGE_BUILDING, "second");
    struct library *lib = acquire(f);
    io_set_fault(fail_listing, NULL);
    assert_false(exchange_new(f->catalog, lib, false, &x, &st));
    io_set_fault(NULL, NULL);
    assert_int_equal(st.code, STATUS_IO);
    assert_int_equal(directories(f), 2);
    catalog_release(f->catalog, lib);
    assert_same(f, false);
}

/* Models that find the same agree wholly; such as have nothing in common hardly. */
static void test_overlap(void **state) {
    struct fixture *f = (struct fixture *)*state;
    static const char *const models[] = {"twin", "second"};
    uint64_t random = 17;
    create_both(f);
    commits(f, &random, 400);
    background(f);
    struct library *lib = acquire(f);
    for (size_t i = 0; i < 2; i++) {
        double overlap = 0;
        uint32_t queries = 0;
        struct status st = {0};
        step(f, EXCHANGE_BUILDING, models[i]);
        struct model_exchange *x = begin(f, lib, false);
        follow(f, x, &random, 1);
        assert_true(exchange_overlap(x, &overlap, &queries, &st));
        assert_true(queries >= 20);
        assert_true(i == 0 ? overlap > 0.999 : overlap < 0.7);
        step(f, EXCHANGE_NONE, NULL);
        end(x, false);
    }
    catalog_release(f->catalog, lib);
}

/* A worker asked the model that served, and hands its vectors in when another one of the same dimension does. */
static void test_vectors_of_the_one_before(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = exchanged();
    struct status st = {0};
    uint64_t random = 5;
    bool goes_on = false;
    uint64_t before = f->models.model[0].fingerprint;
    uint64_t twin = f->models.model[2].fingerprint;
    create_both(f);
    commits(f, &random, 20);
    background(f);
    assert_true(catalog_check_made_by(f->catalog, &id, FIXTURE_DIMENSION, before, &st));
    struct library *lib = acquire(f);
    step(f, EXCHANGE_BUILDING, "twin");
    struct model_exchange *x = begin(f, lib, false);
    follow(f, x, &random, 0);
    assert_true(catalog_check_made_by(f->catalog, &id, FIXTURE_DIMENSION, before, &st));
    lib = switch_now(f, x, &goes_on);
    assert_false(catalog_check_made_by(f->catalog, &id, FIXTURE_DIMENSION, before, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    assert_true(catalog_check_made_by(f->catalog, &id, FIXTURE_DIMENSION, twin, &st));
    end(x, false);
    catalog_release(f->catalog, lib);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_there_and_back, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_given_up, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_begun_again, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_replay, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_refused, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_deleted_meanwhile, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_no_name_for_a_side, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_overlap, set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_vectors_of_the_one_before, set_up, fixture_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
