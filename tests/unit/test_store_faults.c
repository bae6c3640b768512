/*
 * test_store_faults.c - a full disk, or a refusing system, at every call that store makes: nothing is half done, and it works
 * again afterwards.
 *
 * Each test does one thing again and again, with the first, second, third ... call of a kind failing, until it goes through
 * untouched. Allocations fail in the same way: see allocations.h.
 */
#include "store/backlog.h"

#include "base/io.h"

#include <errno.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "allocations.h"
#include "store_fixture.h"

/* Lets `pass` calls of one kind through and fails the next. */
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

/* A disk that is full for one file. */
static int fail_file(enum io_call call, const char *path, void *ctx) {
    return call == IO_FALLOCATE && path != NULL && strstr(path, (const char *)ctx) != NULL ? ENOSPC : 0;
}

static const struct {
    enum io_call call;
    int err;
    enum status_code code;
} kinds[] = {
    {IO_FALLOCATE, ENOSPC, STATUS_NO_SPACE},
    {IO_OPEN, EMFILE, STATUS_NO_MEMORY},
    {IO_OPEN, EACCES, STATUS_IO},
    {IO_MMAP, ENOMEM, STATUS_NO_MEMORY},
    {IO_MKDIR, EDQUOT, STATUS_NO_SPACE},
};
enum { KINDS = sizeof kinds / sizeof kinds[0], NEVER = 100 };

typedef bool (*attempt_fn)(struct fixture *f, struct status *st);
typedef void (*verify_fn)(struct fixture *f);

/* `attempt` with each call failing once; `unchanged` after each failure. Returns with the attempt done. */
static unsigned with_each_call_failing(struct fixture *f, size_t kind, attempt_fn attempt, verify_fn unchanged) {
    unsigned failures = 0;
    for (unsigned n = 0; n < NEVER; n++) {
        struct fault fault = {.call = kinds[kind].call, .err = kinds[kind].err, .pass = n};
        struct status st = {0};
        io_set_fault(fail_one, &fault);
        bool ok = attempt(f, &st);
        io_set_fault(NULL, NULL);
        if (ok) {
            return failures; /* it makes fewer calls than that, or could do without the one that failed */
        }
        assert_true(fault.seen > n);
        assert_int_equal(st.code, kinds[kind].code);
        unchanged(f);
        failures++;
    }
    fail_msg("it never went through");
    return failures;
}

static const unsigned the_library = 1;

static struct library_view view_of(struct fixture *f) {
    struct uuid id = fixture_library_id(the_library);
    struct library *lib = catalog_acquire(f->catalog, &id);
    struct reading rd;
    assert_non_null(lib);
    library_reading(lib, &rd);
    catalog_release(f->catalog, lib);
    return rd.view;
}

/* --- creation --- */

static bool attempt_create(struct fixture *f, struct status *st) {
    struct uuid id = fixture_library_id(the_library);
    struct buf op = {0};
    fixture_library_op(&op, OP_LIBRARY_CREATE, &id, INDEX_HNSW, "test");
    bool ok = fixture_try(f, &op, st);
    buf_fini(&op);
    return ok;
}

static bool library_files_exist(struct fixture *f) {
    struct uuid id = fixture_library_id(the_library);
    char path[PATH_MAX + UUID_TEXT + 2];
    char name[UUID_TEXT + 1];
    uuid_format(&id, name);
    (void)snprintf(path, sizeof path, "%s/%s", f->dir, name);
    return access(path, F_OK) == 0;
}

static void no_library_there(struct fixture *f) {
    struct uuid id = fixture_library_id(the_library);
    assert_null(catalog_acquire(f->catalog, &id));
    assert_int_equal(catalog_library_count(f->catalog), 0);
    assert_false(library_files_exist(f));
}

static void test_create(void **state) {
    struct fixture *f = (struct fixture *)*state;
    for (size_t kind = 0; kind < KINDS; kind++) {
        assert_true(with_each_call_failing(f, kind, attempt_create, no_library_there) > 0);
        struct uuid id = fixture_library_id(the_library);
        fixture_put(f, &id, PUT_CREATE, "a", 3, "text");
        struct buf op = {0};
        op_encode_library_delete(&op, &id);
        fixture_commit(f, &op);
        buf_fini(&op);
        assert_false(library_files_exist(f));
    }
}

/* --- documents --- */

static unsigned document_number;
static struct library_view before;

static bool attempt_put(struct fixture *f, struct status *st) {
    struct uuid id = fixture_library_id(the_library);
    struct buf op = {0};
    char name[32];
    (void)snprintf(name, sizeof name, "doc-%u", document_number);
    fixture_put_op(&op, &id, PUT_CREATE, name, 3000, "text that takes some room in the records of the library");
    bool ok = fixture_try(f, &op, st);
    buf_fini(&op);
    return ok;
}

static void same_as_before(struct fixture *f) {
    struct uuid id = fixture_library_id(the_library);
    struct store_reader *r = NULL;
    struct reading rd;
    struct stored_chunk c;
    struct status st = {0};
    struct buf chunk = {0};
    struct library_view now = view_of(f);
    assert_memory_equal(&before, &now, sizeof before);
    /* searches go on, and small writes, where there is room */
    assert_true(store_reader_new(f->control, 0, f->dir_fd, &r, &st));
    assert_true(reading_begin(r, &id, &rd, &st));
    assert_true(reading_find_chunk(&rd, fixture_id(&chunk, "small/1"), &c, &st));
    assert_true(slice_is(c.fields.text, "small 1"));
    reading_end(&rd);
    store_reader_free(r);
    fixture_put(f, &id, PUT_REPLACE, "small", 2, "small");
    before = view_of(f);
    buf_fini(&chunk);
}

/* A library with two graphs to grow, and one document. */
static struct library *begin_puts(struct fixture *f) {
    struct uuid id = fixture_library_id(the_library);
    struct index_settings settings = {.type = INDEX_HNSW, .m = 8, .ef_construction = 20, .ef_search = 64};
    struct status st = {0};
    fixture_create(f, &id, INDEX_HNSW, "test");
    fixture_put(f, &id, PUT_REPLACE, "small", 2, "small");
    struct library *lib = catalog_acquire(f->catalog, &id);
    assert_true(backlog_rebuild_begin(lib, &settings, &st));
    before = view_of(f);
    document_number++;
    return lib;
}

/* The document is there, what was promised and taken back has left a library that is whole; and away with it. */
static void end_puts(struct fixture *f, struct library *lib) {
    struct uuid id = fixture_library_id(the_library);
    struct store_reader *r = NULL;
    struct reading rd;
    struct status st = {0};
    uint64_t unreachable = 0;
    char detail[160] = "";
    struct buf op = {0};
    assert_int_equal(view_of(f).live_chunks, before.live_chunks + 3000);
    fixture_verify_texts(f->catalog, &id);
    fixture_catch_up(f, &id);
    assert_true(backlog_rebuild_switch(f->catalog, lib, &st));
    catalog_release(f->catalog, lib);
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    assert_true(store_reader_new(f->control, 0, f->dir_fd, &r, &st));
    assert_true(reading_begin(r, &id, &rd, &st));
    struct hnsw_graph graph = arena_graph(rd.arena);
    assert_int_equal(hnsw_validate(&graph, rd.view.chunk_slots, &unreachable, detail), 0);
    reading_end(&rd);
    store_reader_free(r);
    op_encode_library_delete(&op, &id);
    fixture_commit(f, &op);
    buf_fini(&op);
}

static void test_put(void **state) {
    struct fixture *f = (struct fixture *)*state;
    f->pending = true;
    for (size_t kind = 0; kind < KINDS; kind++) {
        struct library *lib = begin_puts(f);
        unsigned failures = with_each_call_failing(f, kind, attempt_put, same_as_before);
        assert_true(failures > 0 || (kinds[kind].call != IO_FALLOCATE && kinds[kind].call != IO_MMAP));
        end_puts(f, lib);
    }
}

static void test_full_disk(void **state) {
    struct fixture *f = (struct fixture *)*state;
    static char files[][16] = {"chunks",  "records", "ids",     "terms",   "postings", "columns",
                               "vectors", "graph.1", "upper.1", "graph.2", "upper.2"};
    f->pending = true;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct status st = {0};
        struct library *lib = begin_puts(f);
        for (int twice = 0; twice < 2; twice++) {
            io_set_fault(fail_file, files[i]);
            assert_false(attempt_put(f, &st));
            io_set_fault(NULL, NULL);
            assert_int_equal(st.code, STATUS_NO_SPACE);
            same_as_before(f);
        }
        assert_true(attempt_put(f, &st));
        end_puts(f, lib);
    }
}

/* The first vectors of a library that brings its own: vectors.mmap is made by them. */
static bool attempt_first_vectors(struct fixture *f, struct status *st) {
    struct uuid id = fixture_library_id(the_library);
    const float values[2] = {1, 0};
    struct buf op = {0};
    fixture_put_vectors_op(&op, &id, "first", 1, 2, values);
    bool ok = fixture_try(f, &op, st);
    buf_fini(&op);
    return ok;
}

static void no_vectors_yet(struct fixture *f) {
    assert_int_equal(view_of(f).dimension, 0);
    assert_int_equal(view_of(f).chunk_slots, 0);
}

static void test_first_vectors(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(the_library);
    for (size_t kind = 0; kind < KINDS; kind++) {
        fixture_create(f, &id, INDEX_FLAT, "none");
        (void)with_each_call_failing(f, kind, attempt_first_vectors, no_vectors_yet);
        assert_int_equal(view_of(f).dimension, 2);
        struct buf op = {0};
        op_encode_library_delete(&op, &id);
        fixture_commit(f, &op);
        buf_fini(&op);
    }
}

/* In a batch, the op whose reservation fails is refused alone. */
static void test_batch(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(the_library);
    struct buf bytes[2] = {{0}, {0}};
    struct op first;
    struct op second;
    struct status st = {0};
    fixture_create(f, &id, INDEX_HNSW, "test");
    fixture_put_op(&bytes[0], &id, PUT_CREATE, "a", 500, "text");
    fixture_put_op(&bytes[1], &id, PUT_CREATE, "b", 5000, "text");
    assert_true(op_decode(buf_slice(&bytes[0]), &f->limits, &first, &st));
    assert_true(op_decode(buf_slice(&bytes[1]), &f->limits, &second, &st));
    assert_true(catalog_reserve(f->catalog, &first, &st));
    static char files[][16] = {"chunks", "columns", "vectors", "upper.1"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        io_set_fault(fail_file, files[i]);
        assert_false(catalog_reserve(f->catalog, &second, &st));
        io_set_fault(NULL, NULL);
        assert_int_equal(st.code, STATUS_NO_SPACE);
    }
    catalog_apply(f->catalog, &first, ++f->lsn, 0, NULL, NULL);
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    assert_int_equal(view_of(f).live_chunks, 500);
    fixture_commit(f, &bytes[1]);
    assert_int_equal(view_of(f).live_chunks, 5500);
    fixture_verify_texts(f->catalog, &id);
    fixture_catch_up(f, &id);
    buf_fini(&bytes[0]);
    buf_fini(&bytes[1]);
}

/* --- memory --- */

/* Checks and reserves with each allocation failing once, until it goes through. Returns how often it was refused. */
static unsigned reserve_with_little_memory(struct fixture *f, const struct op *op) {
    for (unsigned n = 1; n < NEVER; n++) {
        struct status st = {0};
        allocations->left = n;
        bool ok = catalog_check(f->catalog, op, &st) && catalog_reserve(f->catalog, op, &st);
        allocations->left = 0;
        if (ok) {
            return n - 1;
        }
        assert_int_equal(st.code, STATUS_NO_MEMORY);
    }
    fail_msg("it never went through");
    return 0;
}

/* The second op of a batch fails for want of memory, at each step; the first one's share stands. */
static void test_memory(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(the_library);
    struct buf bytes[3] = {{0}, {0}, {0}};
    struct op ops[3];
    struct status st = {0};
    unsigned refused = 0;
    f->pending = true;
    fixture_library_op(&bytes[0], OP_LIBRARY_CREATE, &id, INDEX_HNSW, "test");
    assert_true(op_decode(buf_slice(&bytes[0]), &f->limits, &ops[0], &st));
    assert_true(reserve_with_little_memory(f, &ops[0]) > 0);
    catalog_apply(f->catalog, &ops[0], ++f->lsn, 0, NULL, NULL);
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    for (unsigned round = 0; round < 8; round++) {
        char name[32];
        for (unsigned i = 1; i < 3; i++) {
            (void)snprintf(name, sizeof name, "doc-%u-%u", round, i);
            buf_reset(&bytes[i]);
            fixture_put_op(&bytes[i], &id, PUT_CREATE, name, 10U << round, name);
            assert_true(op_decode(buf_slice(&bytes[i]), &f->limits, &ops[i], &st));
        }
        assert_true(catalog_check(f->catalog, &ops[1], &st) && catalog_reserve(f->catalog, &ops[1], &st));
        refused += reserve_with_little_memory(f, &ops[2]);
        for (unsigned i = 1; i < 3; i++) {
            catalog_apply(f->catalog, &ops[i], ++f->lsn, 0, NULL, NULL);
        }
        catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    }
    assert_true(refused > 0);
    fixture_verify_texts(f->catalog, &id);
    for (unsigned i = 0; i < 3; i++) {
        buf_fini(&bytes[i]);
    }
}

/* --- rebuilds, readers, restarts --- */

static bool attempt_rebuild(struct fixture *f, struct status *st) {
    struct uuid id = fixture_library_id(the_library);
    struct index_settings settings = {.type = INDEX_HNSW, .m = 8, .ef_construction = 20, .ef_search = 64};
    struct library *lib = catalog_acquire(f->catalog, &id);
    bool ok = backlog_rebuild_begin(lib, &settings, st);
    if (ok) {
        backlog_rebuild_cancel(lib);
    }
    catalog_release(f->catalog, lib);
    return ok;
}

static void nothing(struct fixture *f) {
    assert_int_equal(view_of(f).graph_generation, 1);
}

static bool attempt_reading(struct fixture *f, struct status *st) {
    struct uuid id = fixture_library_id(the_library);
    struct store_reader *r = NULL;
    struct reading rd;
    assert_true(store_reader_new(f->control, 1, f->dir_fd, &r, st));
    bool ok = reading_begin(r, &id, &rd, st);
    if (!ok) {
        assert_int_equal(f->control->worker[1].pin_lsn, 0);
        io_set_fault(NULL, NULL);
        assert_true(reading_begin(r, &id, &rd, &(struct status){0})); /* the same reader, a moment later */
    }
    reading_end(&rd);
    store_reader_free(r);
    return ok;
}

static struct library_view adopted;

static bool attempt_adopt(struct fixture *f, struct status *st) {
    return catalog_adopt(f->catalog, &adopted, st);
}

static void nothing_adopted(struct fixture *f) {
    assert_int_equal(catalog_library_count(f->catalog), 0);
    assert_true(library_files_exist(f)); /* a failure must not cost data */
}

static void test_others(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(the_library);
    fixture_create(f, &id, INDEX_HNSW, "test");
    fixture_put(f, &id, PUT_CREATE, "a", 500, "text");
    fixture_catch_up(f, &id);
    adopted = view_of(f);
    for (size_t kind = 0; kind < KINDS; kind++) {
        bool makes_no_directory = kinds[kind].call == IO_MKDIR;
        unsigned rebuild = with_each_call_failing(f, kind, attempt_rebuild, nothing);
        assert_true(makes_no_directory || rebuild > 0);
        unsigned reading = with_each_call_failing(f, kind, attempt_reading, nothing);
        assert_true(makes_no_directory || kinds[kind].call == IO_FALLOCATE || reading > 0);
    }
    for (size_t kind = 0; kind < KINDS; kind++) {
        fixture_reopen(f);
        unsigned adopt = with_each_call_failing(f, kind, attempt_adopt, nothing_adopted);
        assert_true(kinds[kind].call == IO_MKDIR || adopt > 0);
        catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
        assert_int_equal(view_of(f).live_chunks, 500);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_create, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_put, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_full_disk, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_first_vectors, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_batch, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_memory, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_others, fixture_set_up, fixture_tear_down),
    };
    return cmocka_run_group_tests_name("store faults", tests, NULL, NULL);
}
