/*
 * test_store_idtable.c - the id table against a plain array that remembers which row each id has, at every LSN.
 *
 * Once with all the nodes it wants, and once with far too few, so that most leaves are mixed.
 */
#include "base/io.h"
#include "store/idtable.h"

#include "base/io.h"
#include "shm/atomics.h"

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "store_fixture.h"

enum { IDS = 100000, OPS = 400000, VIEWS = 8, RECORD_MAX = 40 };

struct table {
    char dir[PATH_MAX];
    struct arena arena;
    struct library_view view; /* counts as the committer has them */
    uint64_t lsn;
    uint32_t row_of[IDS]; /* ROW_NONE: not alive */
};

/* A view of the past, and what it must show. */
struct past {
    struct library_view view;
    uint32_t *row_of;
};

static int set_up(void **state) {
    struct table *t = (struct table *)calloc(1, sizeof *t);
    const char *tmp = getenv("TMPDIR");
    if (t == NULL) {
        return -1;
    }
    (void)snprintf(t->dir, sizeof t->dir, "%s/quire-idtable-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(t->dir) == NULL) {
        return -1;
    }
    t->arena = ARENA_CLOSED;
    t->arena.writable = true;
    t->arena.dir_fd = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    t->view.ids_used = IDTABLE_FIRST_FREE;
    memset(t->row_of, 0xff, sizeof t->row_of);
    *state = t;
    return 0;
}

static int tear_down(void **state) {
    struct table *t = (struct table *)*state;
    struct status st = {0};
    arena_close(&t->arena);
    bool removed = io_remove_tree(AT_FDCWD, t->dir, &st);
    free(t);
    return removed ? 0 : -1;
}

static void open_files(struct table *t, uint64_t nodes) {
    struct status st = {0};
    int dir = t->arena.dir_fd;
    assert_true(mapfile_create(&t->arena.chunks, dir, "chunks.mmap", MAPFILE_SMALL_PAGES, OPS * sizeof(struct chunk_row), &st));
    assert_true(mapfile_create(&t->arena.documents, dir, "documents.mmap", MAPFILE_SMALL_PAGES, OPS * sizeof(struct document_row), &st));
    assert_true(mapfile_create(&t->arena.records, dir, "records.mmap", MAPFILE_SMALL_PAGES, (uint64_t)OPS * RECORD_MAX, &st));
    assert_true(mapfile_create(&t->arena.ids, dir, "ids.mmap", MAPFILE_SMALL_PAGES, nodes * IDTABLE_NODE_BYTES, &st));
}

static struct slice id_number(uint32_t number, struct buf *out) {
    char text[ITEM_ID_TEXT_MAX];
    (void)snprintf(text, sizeof text, "id-%u", number);
    return fixture_id(out, text);
}

/* Adds a chunk row with this id; its hash may be forged. */
static uint32_t add_row(struct table *t, struct slice id, uint64_t hash) {
    struct buf record = {0};
    uint32_t row = t->view.chunk_slots;
    buf_put_bytes(&record, id);
    memcpy(mapfile_base(&t->arena.records) + t->view.records_used, record.data, record.len);
    struct chunk_row *rows = (struct chunk_row *)(void *)mapfile_base(&t->arena.chunks);
    rows[row] = (struct chunk_row){.created_lsn = t->lsn,
                                   .record = t->view.records_used,
                                   .record_length = (uint32_t)record.len,
                                   .id_hash = hash,
                                   .previous = 12345};
    t->view.records_used += record.len;
    t->view.chunk_slots++;
    idtable_insert(&t->arena, ID_CHUNK, row, &t->view.ids_used);
    buf_fini(&record);
    return row;
}

static void delete_row(struct table *t, uint32_t row) {
    struct chunk_row *rows = (struct chunk_row *)(void *)mapfile_base(&t->arena.chunks);
    store_release_u64(&rows[row].deleted_lsn, t->lsn);
}

static uint32_t find_newest(const struct table *t, struct slice id) {
    struct library_view newest = t->view;
    newest.lsn = UINT64_MAX;
    return idtable_find(&t->arena, &newest, ID_CHUNK, id);
}

/* Inserts, deletes or replaces a random id. */
static void step(struct table *t, uint64_t *random) {
    struct buf buf = {0};
    uint32_t number = (uint32_t)(fixture_random(random) % IDS);
    struct slice id = id_number(number, &buf);
    uint32_t row = t->row_of[number];
    t->lsn++;
    assert_int_equal(find_newest(t, id), row);
    if (row != ROW_NONE) {
        delete_row(t, row);
        t->row_of[number] = ROW_NONE;
    }
    if (row == ROW_NONE || fixture_random(random) % 2 == 0) {
        t->row_of[number] = add_row(t, id, item_id_hash(id));
    }
    buf_fini(&buf);
}

static void remember(const struct table *t, struct past *past) {
    past->view = t->view;
    past->view.lsn = t->lsn;
    past->row_of = (uint32_t *)malloc(sizeof t->row_of);
    assert_non_null(past->row_of);
    memcpy(past->row_of, t->row_of, sizeof t->row_of);
}

static void verify_past(const struct table *t, const struct past *past) {
    struct buf buf = {0};
    for (uint32_t number = 0; number < IDS; number += 3) {
        assert_int_equal(idtable_find(&t->arena, &past->view, ID_CHUNK, id_number(number, &buf)), past->row_of[number]);
    }
    buf_fini(&buf);
}

static void run_model(struct table *t, uint64_t nodes) {
    struct past pasts[VIEWS];
    uint64_t random = nodes;
    struct buf buf = {0};
    open_files(t, nodes);
    for (int v = 0; v < VIEWS; v++) {
        for (int i = 0; i < OPS / VIEWS; i++) {
            step(t, &random);
        }
        remember(t, &pasts[v]);
    }
    for (uint32_t number = 0; number < IDS; number++) {
        assert_int_equal(find_newest(t, id_number(number, &buf)), t->row_of[number]);
    }
    assert_int_equal(find_newest(t, fixture_id(&buf, "never there")), ROW_NONE);
    for (int v = 0; v < VIEWS; v++) {
        verify_past(t, &pasts[v]);
        free(pasts[v].row_of);
    }
    assert_true(t->view.ids_used * IDTABLE_NODE_BYTES <= t->arena.ids.size);
    buf_fini(&buf);
}

static void test_model(void **state) {
    struct table *t = (struct table *)*state;
    run_model(t, idtable_nodes_for(OPS));
    /* the reservation is near what is used, and enough */
    assert_true(t->view.ids_used < idtable_nodes_for(IDS));
}

static void test_model_without_room(void **state) {
    struct table *t = (struct table *)*state;
    run_model(t, idtable_nodes_for(IDS) / 8);
    assert_int_equal(t->view.ids_used, t->arena.ids.size / IDTABLE_NODE_BYTES);
}

/* One id may cost many nodes, when its hash shares a long prefix with another; the rest of a hash decides on the last level. */
static void test_equal_hashes(void **state) {
    struct table *t = (struct table *)*state;
    struct buf a = {0};
    struct buf b = {0};
    open_files(t, 1000);
    struct slice first = fixture_id(&a, "first");
    struct slice second = fixture_id(&b, "second");
    uint64_t hash = item_id_hash(first);
    t->lsn = 1;
    uint32_t row = add_row(t, first, hash);
    /* rows of another id that claim the same hash, or one that differs in the last bit */
    (void)add_row(t, second, hash);
    assert_int_equal(find_newest(t, first), row);
    (void)add_row(t, second, hash ^ 1);
    assert_int_equal(t->view.ids_used, IDTABLE_FIRST_FREE + 15);
    assert_int_equal(find_newest(t, first), row);
    t->lsn = 2;
    delete_row(t, row);
    assert_int_equal(find_newest(t, first), ROW_NONE);
    uint32_t again = add_row(t, first, hash);
    assert_int_equal(find_newest(t, first), again);
    struct library_view old = t->view;
    old.lsn = 1;
    assert_int_equal(idtable_find(&t->arena, &old, ID_CHUNK, first), row);
    assert_int_equal(find_newest(t, second), ROW_NONE); /* its own hash leads elsewhere */
    buf_fini(&a);
    buf_fini(&b);
}

/* A reader whose maps end before what the commit under way has linked in is told so, and finds everything once it has mapped
 * more. */
static void test_reader_behind(void **state) {
    struct table *t = (struct table *)*state;
    struct status st = {0};
    struct buf buf = {0};
    int dir = t->arena.dir_fd;
    struct arena reader = ARENA_CLOSED;
    enum { FEW = 64, MANY = 4000 };
    assert_true(mapfile_create(&t->arena.chunks, dir, "chunks.mmap", MAPFILE_SMALL_PAGES, 4096, &st));
    assert_true(mapfile_create(&t->arena.documents, dir, "documents.mmap", MAPFILE_SMALL_PAGES, 4096, &st));
    assert_true(mapfile_create(&t->arena.records, dir, "records.mmap", MAPFILE_SMALL_PAGES, 1 << 20, &st));
    assert_true(mapfile_create(&t->arena.ids, dir, "ids.mmap", MAPFILE_SMALL_PAGES, 4096, &st));
    t->lsn = 1;
    for (uint32_t i = 0; i < FEW; i++) {
        struct slice id = id_number(i, &buf);
        t->row_of[i] = add_row(t, id, item_id_hash(id));
    }
    struct library_view view = t->view;
    view.lsn = t->lsn;
    reader.dir_fd = dup(dir);
    assert_true(mapfile_open(&reader.chunks, dir, "chunks.mmap", MAPFILE_SMALL_PAGES, false, &st));
    assert_true(mapfile_open(&reader.documents, dir, "documents.mmap", MAPFILE_SMALL_PAGES, false, &st));
    assert_true(mapfile_open(&reader.records, dir, "records.mmap", MAPFILE_SMALL_PAGES, false, &st));
    assert_true(mapfile_open(&reader.ids, dir, "ids.mmap", MAPFILE_SMALL_PAGES, false, &st));
    /* they grow with the rest, and are empty here */
    struct mapfile *others[] = {&reader.terms, &reader.postings, &reader.columns};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct mapfile made = MAPFILE_CLOSED;
        assert_true(mapfile_create(&made, dir, "other.mmap", MAPFILE_SMALL_PAGES, 4096, &st));
        mapfile_close(&made);
        assert_true(mapfile_open(others[i], dir, "other.mmap", MAPFILE_SMALL_PAGES, false, &st));
        assert_true(io_unlink_at(dir, "other.mmap", &st));
    }

    t->lsn = 2;
    assert_true(mapfile_grow(&t->arena.chunks, MANY * sizeof(struct chunk_row), 4096, &st));
    assert_true(mapfile_grow(&t->arena.ids, MANY * IDTABLE_NODE_BYTES, 4096, &st));
    for (uint32_t i = FEW; i < MANY; i++) {
        struct slice id = id_number(i, &buf);
        t->row_of[i] = add_row(t, id, item_id_hash(id));
    }
    unsigned unmapped = 0;
    for (uint32_t i = 0; i < FEW; i++) {
        uint32_t row = ROW_NONE;
        unmapped += idtable_lookup(&reader, &view, ID_CHUNK, id_number(i, &buf), &row) == IDTABLE_UNMAPPED ? 1 : 0;
    }
    assert_true(unmapped > 0);
    assert_true(arena_follow_growth(&reader, &st));
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t row = ROW_NONE;
        enum idtable_answer answer = idtable_lookup(&reader, &view, ID_CHUNK, id_number(i, &buf), &row);
        assert_int_equal(answer, i < FEW ? IDTABLE_FOUND : IDTABLE_ABSENT);
        assert_int_equal(row, i < FEW ? t->row_of[i] : ROW_NONE);
    }
    arena_close(&reader);
    buf_fini(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_model, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_model_without_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_equal_hashes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reader_behind, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("store idtable", tests, NULL, NULL);
}
