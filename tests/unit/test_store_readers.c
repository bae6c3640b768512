/*
 * test_store_readers.c - readers in other processes, while the catalog writes: each commit is seen wholly or not at all.
 *
 * Built twice: as it is, and with a first map of 64 KiB, so that files move to larger maps all the time.
 */
#include "store/catalog.h"

#include "shm/atomics.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store_fixture.h"

enum { CHUNKS = 3, COMMITS = 6000, READINGS = 4000, KILLS = 60, HANG_S = 300 };

/* Between the test and its reading processes. */
struct shared {
    uint64_t stop;
    uint64_t readings;
};

static struct shared *share(void) {
    void *p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    return (struct shared *)p;
}

/* --- in the reading process: no asserts of cmocka, an exit code instead --- */

static void expect(bool ok, const char *what) {
    if (!ok) {
        (void)fprintf(stderr, "reader: %s\n", what);
        _exit(1);
    }
}

/* The version that a chunk's text names: "version <n> <i>". */
static unsigned version_of(const struct stored_chunk *c, uint32_t index) {
    char text[64];
    unsigned version = 0;
    unsigned number = 0;
    (void)snprintf(text, sizeof text, "%.*s", (int)c->fields.text.len, (const char *)c->fields.text.data);
    expect(sscanf(text, "version %u %u", &version, &number) == 2 && number == index, "a text that was never written");
    return version;
}

/* Chunks are counted by walking all slots, as a scan would. */
static void check_slots(const struct reading *rd, uint32_t document, unsigned version) {
    uint32_t visible = 0;
    uint32_t of_document = 0;
    struct status st = {0};
    for (uint32_t slot = 0; slot < rd->view.chunk_slots; slot++) {
        if (reading_chunk_visible(rd, slot)) {
            struct stored_chunk c;
            visible++;
            expect(reading_chunk(rd, slot, &c, &st), "a chunk that does not decode");
            expect(c.has_vector && reading_vector(rd, slot) != NULL, "a chunk without a vector");
            if (c.document == document) {
                expect(version_of(&c, c.index) == version, "two versions in one view");
                of_document++;
            }
        }
    }
    expect(of_document == CHUNKS, "not three chunks");
    expect(visible == rd->view.live_chunks, "a count that is not what is there");
}

static void check_reading(const struct reading *rd, struct buf *id, unsigned *newest) {
    struct stored_document d;
    struct status st = {0};
    unsigned version = 0;
    expect(reading_find_document(rd, fixture_id(id, "doc"), &d, &st), "the document is missing");
    for (uint32_t i = 0; i < CHUNKS; i++) {
        struct stored_chunk c;
        char name[16];
        (void)snprintf(name, sizeof name, "doc/%u", i);
        expect(reading_find_chunk(rd, fixture_id(id, name), &c, &st), "a chunk is missing");
        expect(c.document == d.row && c.index == i, "a chunk of another document");
        unsigned found = version_of(&c, i);
        version = i == 0 ? found : version;
        expect(found == version, "two versions in one view");
    }
    expect(version >= *newest, "an older version than before");
    *newest = version;
    check_slots(rd, d.row, version);
}

static _Noreturn void read_all_the_time(struct fixture *f, uint32_t slot, const struct uuid *library, struct shared *s) {
    struct store_reader *r = NULL;
    struct status st = {0};
    struct buf id = {0};
    unsigned newest = 0;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    expect(store_reader_new(f->control, slot, f->dir_fd, &r, &st), "no reader");
    while (load_acquire_u64(&s->stop) == 0) {
        struct reading rd;
        expect(reading_begin(r, library, &rd, &st), st.detail);
        check_reading(&rd, &id, &newest);
        reading_end(&rd);
        (void)add_relaxed_u64(&s->readings, 1);
    }
    store_reader_free(r);
    buf_fini(&id);
    _exit(0);
}

static pid_t start_reader(struct fixture *f, uint32_t slot, const struct uuid *library, struct shared *s) {
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        read_all_the_time(f, slot, library, s);
    }
    return pid;
}

static void assert_ended_well(pid_t pid) {
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void replace(struct fixture *f, const struct uuid *library, unsigned version) {
    char text[32];
    (void)snprintf(text, sizeof text, "version %u", version);
    fixture_put(f, library, PUT_REPLACE, "doc", CHUNKS, text);
}

/* A document that comes, and goes the next time: so ids, rows and the graph's nodes grow, too. */
static void add_others(struct fixture *f, const struct uuid *library, unsigned version) {
    char name[32];
    (void)snprintf(name, sizeof name, "other-%u", version);
    fixture_put(f, library, PUT_CREATE, name, 1 + version % 3, name);
    (void)snprintf(name, sizeof name, "other-%u", version - 1);
    if (version > 1) {
        fixture_delete_document(f, library, name);
    }
}

static void test_whole_commits(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct shared *s = share();
    (void)alarm(HANG_S);
    fixture_create(f, &library, INDEX_HNSW, "test");
    replace(f, &library, 0);
    pid_t first = start_reader(f, 0, &library, s);
    pid_t second = start_reader(f, 1, &library, s);
    for (unsigned version = 1; version < COMMITS || load_relaxed_u64(&s->readings) < READINGS; version++) {
        replace(f, &library, version);
        if (version < COMMITS) {
            add_others(f, &library, version);
        }
        int status = 0;
        assert_int_equal(waitpid(-1, &status, WNOHANG), 0); /* no reader has given up */
    }
    store_release_u64(&s->stop, 1);
    assert_ended_well(first);
    assert_ended_well(second);
    (void)munmap(s, sizeof *s);
    (void)alarm(0);
}

/* Readers that are killed at any instruction: commits go on, and the next one in the same slot reads. */
static void test_killed_readers(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct shared *s = share();
    unsigned version = 0;
    uint64_t random = 11;
    (void)alarm(HANG_S);
    fixture_create(f, &library, INDEX_HNSW, "test");
    replace(f, &library, version++);
    for (int i = 0; i < KILLS; i++) {
        uint64_t before = load_relaxed_u64(&s->readings);
        pid_t pid = start_reader(f, 0, &library, s);
        uint64_t wait_for = before + 1 + fixture_random(&random) % 20;
        while (load_relaxed_u64(&s->readings) < wait_for) {
            replace(f, &library, version++);
        }
        assert_int_equal(kill(pid, SIGKILL), 0);
        replace(f, &library, version++);
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        store_release_u64(&f->control->worker[0].pin_lsn, 0); /* as the supervisor does between death and reaping */
        rwlock_reader_gone(&f->control->lock, 0);
    }
    (void)munmap(s, sizeof *s);
    (void)alarm(0);
}

/* --- libraries that come and go --- */

static _Noreturn void read_what_there_is(struct fixture *f, uint32_t slot, struct shared *s) {
    struct store_reader *r = NULL;
    struct status st = {0};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    expect(store_reader_new(f->control, slot, f->dir_fd, &r, &st), "no reader");
    while (load_acquire_u64(&s->stop) == 0) {
        struct library_view *views = NULL;
        size_t count = 0;
        expect(store_list_libraries(r, &views, &count, &st), "no list");
        for (size_t i = 0; i < count; i++) {
            struct reading rd;
            struct library_definition d;
            if (!reading_begin(r, &views[i].id, &rd, &st)) {
                expect(st.code == STATUS_NOT_FOUND && st.subject == SUBJECT_LIBRARY, st.detail);
                continue;
            }
            expect(reading_definition(&rd, &d, &st) && slice_is(d.name, "a library"), "no definition");
            for (uint32_t row = 0; (row = reading_next_document(&rd, row)) != ROW_NONE; row++) {
                struct stored_document document;
                expect(reading_document(&rd, row, &document, &st), "no document");
            }
            reading_end(&rd);
            (void)add_relaxed_u64(&s->readings, 1);
        }
        free(views);
    }
    store_reader_free(r);
    _exit(0);
}

static void test_libraries_come_and_go(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct shared *s = share();
    (void)alarm(HANG_S);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        read_what_there_is(f, 2, s);
    }
    for (unsigned round = 0; round < 150 || load_relaxed_u64(&s->readings) < READINGS / 4; round++) {
        struct uuid id = fixture_library_id(round % 3); /* the same ids again and again */
        struct uuid stays = fixture_library_id(9);
        struct buf op = {0};
        if (round == 0) {
            fixture_create(f, &stays, INDEX_FLAT, "test");
        }
        fixture_create(f, &id, round % 2 == 0 ? INDEX_HNSW : INDEX_FLAT, "test");
        fixture_put(f, &id, PUT_CREATE, "a", 2, "text");
        fixture_put(f, &stays, PUT_REPLACE, "a", 2, "text");
        op_encode_library_delete(&op, &id);
        fixture_commit(f, &op);
        buf_fini(&op);
        int status = 0;
        assert_int_equal(waitpid(-1, &status, WNOHANG), 0);
    }
    store_release_u64(&s->stop, 1);
    assert_ended_well(pid);
    (void)munmap(s, sizeof *s);
    (void)alarm(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whole_commits, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_killed_readers, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_libraries_come_and_go, fixture_set_up, fixture_tear_down),
    };
    return cmocka_run_group_tests_name("store readers", tests, NULL, NULL);
}
