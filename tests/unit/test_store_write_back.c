/*
 * test_store_write_back.c - after a round the kernel has no changed page of an arena left to write; what has not changed since is passed over.
 *
 * Whether a page is changed is read in /proc/self/smaps. In a file system in memory pages stay so: there is nothing to see there.
 */
#include "store/write_back.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include <cmocka.h>

#include "store_fixture.h"

enum { CHUNKS = 600, LINE = 1024, TMPFS = 0x01021994 };

/* KiB of changed pages in this process's maps of files in the fixture's directory whose names end like that. */
static uint64_t changed_kib(const struct fixture *f, const char *suffix) {
    char line[LINE];
    char dir[PATH_MAX];
    assert_non_null(realpath(f->dir, dir));
    uint64_t sum = 0;
    bool ours = false;
    FILE *maps = fopen("/proc/self/smaps", "r");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps) != NULL) {
        uint64_t kib = 0;
        char access[5];
        if (sscanf(line, "%*x-%*x %4s", access) == 1) { /* the next map */
            const char *path = strchr(line, '/');
            size_t length = path != NULL ? strcspn(path, "\n") : 0;
            size_t tail = strlen(suffix);
            ours = length >= tail && strncmp(path, dir, strlen(dir)) == 0 && strncmp(path + length - tail, suffix, tail) == 0;
        } else if (ours && (sscanf(line, "Private_Dirty: %" SCNu64, &kib) == 1 || sscanf(line, "Shared_Dirty: %" SCNu64, &kib) == 1)) {
            sum += kib;
        }
    }
    (void)fclose(maps);
    return sum;
}

static uint64_t write_back(struct library *lib, uint64_t least, uint32_t stop) {
    struct status st;
    uint64_t bytes = 0;
    if (!library_write_back(lib, least, &stop, &bytes, &st)) {
        fail_msg("%s", st.detail);
    }
    return bytes;
}

static void skip_in_memory(const struct fixture *f) {
    struct statfs fs;
    assert_int_equal(fstatfs(f->dir_fd, &fs), 0);
    if (fs.f_type == TMPFS) {
        skip();
    }
}

static void test_nothing_is_left(void **state) {
    static const char *const files[] = {"chunks.mmap", "documents.mmap", "records.mmap", "ids.mmap", "vectors.mmap", "terms.mmap", "postings.mmap",
                                        "columns.mmap", "graph.1.mmap"};
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(1);
    skip_in_memory(f);
    fixture_create(f, &id, INDEX_HNSW, "test");
    fixture_put(f, &id, PUT_CREATE, "a", CHUNKS, "some words of a text");
    fixture_catch_up(f, &id);
    struct library *lib = catalog_acquire(f->catalog, &id);
    bool changed = changed_kib(f, "graph.1.mmap") > 0; /* else somebody has had all files written just now */
    assert_true(write_back(lib, 1, 0) > 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        uint64_t left = changed_kib(f, files[i]);
        if (left != 0) {
            fail_msg("%s has %" PRIu64 " KiB of changed pages", files[i], left);
        }
    }
    catalog_release(f->catalog, lib);
    if (!changed) {
        skip();
    }
}

static void test_when(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(1);
    fixture_create(f, &id, INDEX_HNSW, "test");
    fixture_put(f, &id, PUT_CREATE, "a", CHUNKS, "some words of a text");
    struct library *lib = catalog_acquire(f->catalog, &id);
    assert_int_equal(write_back(lib, 1, 1), 0); /* told to stop: nothing, and not as if it were done */
    uint64_t all = write_back(lib, 1, 0);
    assert_true(all > 0);
    assert_int_equal(write_back(lib, 1, 0), 0); /* nothing has changed */
    fixture_catch_up(f, &id);                   /* links */
    assert_true(write_back(lib, 1, 0) > 0);
    fixture_put(f, &id, PUT_CREATE, "b", 1, "some words of a text");
    uint64_t more = write_back(lib, 1, 0);
    assert_true(more > all);
    fixture_delete_document(f, &id, "b");
    assert_int_equal(write_back(lib, more, 0), 0); /* all files are smaller */
    fixture_put(f, &id, PUT_CREATE, "c", 1, "some words of a text");
    uint64_t larger = write_back(lib, (uint64_t)CHUNKS * FIXTURE_DIMENSION * sizeof(float), 0);
    assert_true(larger > 0 && larger < more); /* those of vectors, at least, and not all */
    catalog_release(f->catalog, lib);
}

/* A new graph that is being built beside the one that serves. */
static void test_rebuild(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid id = fixture_library_id(1);
    struct status st;
    struct reading rd;
    size_t done = 0;
    skip_in_memory(f);
    struct backlog_linker *linker = backlog_linker_new();
    fixture_create(f, &id, INDEX_HNSW, "test");
    fixture_put(f, &id, PUT_CREATE, "a", CHUNKS, "some words of a text");
    fixture_catch_up(f, &id);
    struct library *lib = catalog_acquire(f->catalog, &id);
    library_reading(lib, &rd);
    assert_true(backlog_rebuild_begin(lib, &rd.view.index, &st));
    assert_true(backlog_link_some(lib, linker, CHUNKS / 2, &done, &st));
    assert_true(backlog_link_some(lib, linker, CHUNKS / 2, &done, &st));
    bool changed = changed_kib(f, "graph.2.mmap") > 0;
    assert_true(write_back(lib, 1, 0) > 0);
    assert_int_equal(changed_kib(f, "graph.2.mmap"), 0);
    backlog_rebuild_cancel(lib);
    catalog_release(f->catalog, lib);
    backlog_linker_free(linker);
    if (!changed) {
        skip();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_is_left, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_when, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_rebuild, fixture_set_up, fixture_tear_down),
    };
    return cmocka_run_group_tests_name("store write back", tests, NULL, NULL);
}
