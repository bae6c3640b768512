/* test_store_old_vectors.c - old_vectors.h: vectors of an arena that gets more of them while it is read, as the side of an exchange does while a snapshot is written. */
#include "store/old_vectors.h"

#include "base/io.h"
#include "shm/atomics.h"
#include "store/other_vectors.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { ROWS = 20000, OPENED = 2000, DIMENSION = 2, SECONDS_MOST = 60 };
static const uint64_t fingerprint = 7;

struct giving {
    struct chunk_row *rows;
    uint32_t stop; /* atomic */
};

/* Takes all vectors away and gives them back, over and over. */
static void *give(void *arg) {
    struct giving *g = (struct giving *)arg;
    for (uint32_t state = 0; load_acquire_u32(&g->stop) == 0; state ^= CHUNK_HAS_VECTOR) {
        for (uint32_t row = 0; row < ROWS; row++) {
            store_release_u32(&g->rows[row].state, state);
        }
    }
    return NULL;
}

static void make_shelf(int dir_fd, char directory[ARENA_DIRECTORY_MAX]) {
    const struct uuid library = {{1}};
    struct vector_shelf *shelf = NULL;
    struct status st;
    assert_true(vector_shelf_new(dir_fd, &library, DIMENSION, fingerprint, &shelf, &st));
    for (uint32_t row = 0; row < ROWS; row++) {
        const float values[DIMENSION] = {(float)row, 1};
        assert_true(vector_shelf_put(shelf, row * UINT64_C(0x9e3779b97f4a7c15), row + 1, values, &st));
    }
    arena_directory_name(&library, vector_shelf_directory(shelf), directory);
    vector_shelf_close(shelf);
}

static void test_more_come_meanwhile(void **state) {
    char dir[] = "/tmp/quire-old-vectors.XXXXXX";
    char directory[ARENA_DIRECTORY_MAX];
    char path[sizeof dir + ARENA_DIRECTORY_MAX + sizeof "/chunks.mmap"];
    struct giving g = {0};
    struct status st;
    pthread_t giver;
    int dir_fd = -1;
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_true(io_open_at(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0, &dir_fd, &st));
    make_shelf(dir_fd, directory);
    (void)snprintf(path, sizeof path, "%s/%s/chunks.mmap", dir, directory);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    g.rows = (struct chunk_row *)mmap(NULL, ROWS * sizeof *g.rows, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(g.rows != MAP_FAILED);
    (void)alarm(SECONDS_MOST); /* a table that is full is searched for ever */
    assert_int_equal(pthread_create(&giver, NULL, give, &g), 0);
    for (int i = 0; i < OPENED; i++) {
        struct old_vectors *old = NULL;
        assert_true(old_vectors_open(dir_fd, directory, DIMENSION, fingerprint, &old, &st));
        assert_non_null(old);
        assert_null(old_vectors_find(old, 3, 5));
        old_vectors_close(old);
    }
    store_release_u32(&g.stop, 1);
    assert_int_equal(pthread_join(giver, NULL), 0);
    (void)alarm(0);
    (void)munmap(g.rows, ROWS * sizeof *g.rows);
    (void)close(fd);
    assert_true(io_remove_tree(AT_FDCWD, dir, &st));
    io_close(&dir_fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_more_come_meanwhile)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
