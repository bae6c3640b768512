/*
 * test_store_backlog.c - missing vectors, links and rebuilds, by two threads while commits go on.
 *
 * Built twice: as it is, and with a first map of 64 KiB, so that files move to larger maps under the
 * threads.
 */
#include "store/backlog.h"

#include "index/distance.h"
#include "shm/atomics.h"

#include <pthread.h>
#include <sched.h>
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

enum { THREADS = 2, HANG_S = 300, SEARCH_K = 10 };

/* --- background threads: as the supervisor runs them --- */

struct background {
    struct fixture *f;
    struct uuid library;
    uint64_t stop;
    uint64_t linked; /* all threads */
    uint64_t embedded;
    uint64_t failed;
    pthread_t threads[THREADS];
};

static void *work(void *arg) {
    struct background *b = (struct background *)arg;
    struct backlog_linker *linker = backlog_linker_new();
    struct library *lib = catalog_acquire(b->f->catalog, &b->library);
    while (load_acquire_u64(&b->stop) == 0) {
        struct status st = {0};
        size_t embedded = 0;
        size_t linked = 0;
        if (!backlog_embed_some(lib, &b->f->models, 16, &embedded, &st) || !backlog_link_some(lib, linker, 16, &linked, &st)) {
            (void)add_relaxed_u64(&b->failed, 1);
        }
        (void)add_relaxed_u64(&b->embedded, embedded);
        (void)add_relaxed_u64(&b->linked, linked);
        if (embedded + linked == 0) {
            (void)sched_yield();
        }
    }
    catalog_release(b->f->catalog, lib);
    backlog_linker_free(linker);
    return NULL;
}

static void start(struct background *b, struct fixture *f, const struct uuid *library) {
    *b = (struct background){.f = f, .library = *library};
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&b->threads[i], NULL, work, b), 0);
    }
}

static void stop(struct background *b) {
    store_release_u64(&b->stop, 1);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(b->threads[i], NULL), 0);
    }
    assert_int_equal(load_relaxed_u64(&b->failed), 0);
}

static void wait_until_done(struct fixture *f, struct library *lib) {
    while (backlog_pending_vectors(lib) > 0 || backlog_tail(lib) > 0) {
        (void)sched_yield();
    }
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
}

static struct store_reader *open_reader(struct fixture *f, uint32_t slot) {
    struct store_reader *r = NULL;
    struct status st = {0};
    assert_true(store_reader_new(f->control, slot, f->dir_fd, &r, &st));
    return r;
}

/* The graph that serves is sound, and everything alive is in it. */
static void assert_graph(struct fixture *f, const struct uuid *library, uint32_t generation) {
    struct store_reader *r = open_reader(f, 3);
    struct reading rd;
    struct status st = {0};
    uint64_t unreachable = 0;
    char detail[160] = "";
    assert_true(reading_begin(r, library, &rd, &st));
    assert_int_equal(rd.view.graph_generation, generation);
    struct hnsw_graph graph = arena_graph(rd.arena);
    assert_int_equal(load_acquire_u64(&graph.head->linked), rd.view.chunk_slots);
    uint64_t faults = hnsw_validate(&graph, rd.view.chunk_slots, &unreachable, detail);
    assert_string_equal(detail, "");
    assert_int_equal(faults, 0);
    assert_int_equal(unreachable, 0);
    reading_end(&rd);
    store_reader_free(r);
}

/* Every chunk of the view has the vector of its text. */
static void assert_vectors(struct fixture *f, const struct uuid *library) {
    struct store_reader *r = open_reader(f, 3);
    struct reading rd;
    struct status st = {0};
    uint32_t embedded = 0;
    uint32_t total = 0;
    assert_true(reading_begin(r, library, &rd, &st));
    for (uint32_t slot = 0; slot < rd.view.chunk_slots; slot++) {
        struct stored_chunk c;
        float expected[FIXTURE_DIMENSION];
        if (!reading_chunk_visible(&rd, slot)) {
            continue;
        }
        assert_true(reading_chunk(&rd, slot, &c, &st));
        fixture_embed(c.fields.text, expected);
        assert_non_null(reading_vector(&rd, slot));
        assert_memory_equal(reading_vector(&rd, slot), expected, sizeof expected);
    }
    reading_coverage(&rd, &embedded, &total);
    assert_int_equal(embedded, total);
    assert_int_equal(rd.view.reembedding, 0);
    reading_end(&rd);
    store_reader_free(r);
}

/* --- vectors and links --- */

static void test_two_threads(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct background b;
    uint64_t random = 9;
    (void)alarm(HANG_S);
    fixture_create(f, &library, INDEX_HNSW, "test");
    struct library *lib = catalog_acquire(f->catalog, &library);
    start(&b, f, &library);
    for (int i = 0; i < 1500; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "doc-%d", i);
        f->pending = fixture_random(&random) % 2 == 0;
        fixture_put(f, &library, PUT_CREATE, name, 1 + (uint32_t)fixture_random(&random) % 6, name);
        if (i % 4 == 3) {
            (void)snprintf(name, sizeof name, "doc-%d", i - (int)(fixture_random(&random) % 3));
            fixture_put(f, &library, PUT_REPLACE, name, 2, name);
        }
        if (i % 5 == 4) {
            (void)snprintf(name, sizeof name, "doc-%d", i - 1);
            fixture_delete_document(f, &library, name);
        }
    }
    wait_until_done(f, lib);
    stop(&b);
    catalog_release(f->catalog, lib);
    fixture_catch_up(f, &library); /* what is dead at the end is passed over */
    assert_graph(f, &library, 1);
    assert_vectors(f, &library);
    (void)alarm(0);
}

static void test_model_that_fails(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct status st = {0};
    size_t done = 7;
    fixture_create(f, &library, INDEX_HNSW, "test");
    f->pending = true;
    fixture_put(f, &library, PUT_CREATE, "a", 50, "text");
    struct library *lib = catalog_acquire(f->catalog, &library);
    assert_int_equal(backlog_pending_vectors(lib), 50);
    assert_true(backlog_embed_some(lib, &f->models, 20, &done, &st));
    assert_int_equal(done, 20);
    fixture_model_fails = true;
    assert_false(backlog_embed_some(lib, &f->models, 20, &done, &st));
    assert_int_equal(st.code, STATUS_NO_EMBEDDING);
    assert_int_equal(backlog_pending_vectors(lib), 30);
    fixture_model_fails = false;
    assert_true(backlog_embed_some(lib, &f->models, 20, &done, &st));
    assert_int_equal(done, 20);
    fixture_delete_chunk(f, &library, "a/45"); /* not embedded yet */
    fixture_delete_chunk(f, &library, "a/3");  /* embedded */
    assert_int_equal(backlog_pending_vectors(lib), 9);
    assert_true(backlog_embed_some(lib, &f->models, 20, &done, &st));
    assert_int_equal(done, 9);
    assert_true(backlog_embed_some(lib, &f->models, 20, &done, &st));
    assert_int_equal(done, 0);
    /* another model under the same name makes other vectors: not these */
    fixture_put(f, &library, PUT_CREATE, "b", 1, "text");
    f->models.model[0].fingerprint++;
    struct embed_registry others = f->models;
    f->models.model[0].fingerprint--;
    assert_true(backlog_embed_some(lib, &others, 20, &done, &st));
    assert_int_equal(done, 0);
    catalog_release(f->catalog, lib);
}

static void delete_meanwhile(void *ctx) {
    struct uuid library = fixture_library_id(1);
    fixture_delete_chunk((struct fixture *)ctx, &library, "a/1");
}

/* A chunk that is deleted while its vector is being made is taken off the missing ones once. */
static void test_deleted_while_embedded(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct status st = {0};
    size_t done = 0;
    fixture_create(f, &library, INDEX_HNSW, "test");
    f->pending = true;
    fixture_put(f, &library, PUT_CREATE, "a", 5, "text");
    struct library *lib = catalog_acquire(f->catalog, &library);
    fixture_while_embedding = delete_meanwhile;
    fixture_while_embedding_ctx = f;
    assert_true(backlog_embed_some(lib, &f->models, 3, &done, &st));
    fixture_while_embedding = NULL;
    assert_int_equal(backlog_pending_vectors(lib), 2);
    catalog_release(f->catalog, lib);
    fixture_catch_up(f, &library);
    assert_graph(f, &library, 1);
    assert_vectors(f, &library);
}

/* The linkers pass slots without a vector by, and come back for them. */
static void test_links_wait_for_vectors(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct status st = {0};
    struct backlog_linker *linker = backlog_linker_new();
    size_t done = 0;
    fixture_create(f, &library, INDEX_HNSW, "test");
    f->pending = true;
    fixture_put(f, &library, PUT_CREATE, "a", 10, "text");
    f->pending = false;
    fixture_put(f, &library, PUT_CREATE, "b", 10, "text");
    struct library *lib = catalog_acquire(f->catalog, &library);
    assert_int_equal(backlog_tail(lib), 10);
    assert_true(backlog_can_wait(lib, 20));
    assert_false(backlog_can_wait(lib, 19));
    assert_true(backlog_link_some(lib, linker, 100, &done, &st));
    assert_int_equal(done, 10);
    assert_true(backlog_link_some(lib, linker, 100, &done, &st));
    assert_int_equal(done, 0);
    assert_int_equal(backlog_tail(lib), 0);
    assert_true(backlog_embed_some(lib, &f->models, 4, &done, &st));
    assert_int_equal(backlog_tail(lib), 4);
    assert_true(backlog_embed_some(lib, &f->models, 100, &done, &st));
    assert_int_equal(backlog_tail(lib), 10);
    assert_true(backlog_link_some(lib, linker, 100, &done, &st));
    assert_int_equal(done, 10);
    assert_int_equal(backlog_tail(lib), 0);
    assert_true(backlog_can_wait(lib, 0));
    catalog_release(f->catalog, lib);
    backlog_linker_free(linker);
    assert_graph(f, &library, 1);
}

static uint64_t linked_of(struct fixture *f, const struct uuid *library) {
    struct store_reader *r = open_reader(f, 3);
    struct reading rd;
    struct status st = {0};
    assert_true(reading_begin(r, library, &rd, &st));
    struct hnsw_graph graph = arena_graph(rd.arena);
    uint64_t linked = load_acquire_u64(&graph.head->linked);
    reading_end(&rd);
    store_reader_free(r);
    return linked;
}

/* The watermark stops at a dead slot as long as a reader has it in its view. */
static void test_watermark_and_pins(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct status st = {0};
    struct reading rd;
    struct store_reader *r = open_reader(f, 0);
    fixture_create(f, &library, INDEX_HNSW, "test");
    fixture_put(f, &library, PUT_CREATE, "a", 5, "text");
    fixture_catch_up(f, &library);
    fixture_put(f, &library, PUT_CREATE, "b", 5, "text");
    assert_true(reading_begin(r, &library, &rd, &st));
    fixture_delete_chunk(f, &library, "b/1");
    fixture_catch_up(f, &library);
    assert_int_equal(linked_of(f, &library), 6);
    reading_end(&rd);
    fixture_catch_up(f, &library);
    assert_int_equal(linked_of(f, &library), 10);
    store_reader_free(r);
}

/* A library that was closed with half of its links made goes on from there. */
static void test_links_after_restart(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct status st = {0};
    struct backlog_linker *linker = backlog_linker_new();
    size_t done = 0;
    struct reading rd;
    fixture_create(f, &library, INDEX_HNSW, "test");
    f->pending = true;
    fixture_put(f, &library, PUT_CREATE, "late", 20, "text");
    f->pending = false;
    fixture_put(f, &library, PUT_CREATE, "a", 100, "text");
    struct library *lib = catalog_acquire(f->catalog, &library);
    assert_true(backlog_link_some(lib, linker, 20, &done, &st));
    assert_true(backlog_link_some(lib, linker, 20, &done, &st));
    assert_int_equal(backlog_tail(lib), 60);
    library_reading(lib, &rd);
    struct library_view view = rd.view;
    catalog_release(f->catalog, lib);
    fixture_reopen(f);
    assert_true(catalog_adopt(f->catalog, &view, &st));
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    lib = catalog_acquire(f->catalog, &library);
    assert_int_equal(backlog_tail(lib), 60);
    catalog_release(f->catalog, lib);
    fixture_catch_up(f, &library);
    assert_graph(f, &library, 1);
    assert_vectors(f, &library);
    backlog_linker_free(linker);
}

static void *quiesce_when_told(void *arg) {
    backlog_quiesce((struct library *)arg);
    return NULL;
}

static void test_quiesce(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct background b;
    pthread_t waiting;
    fixture_create(f, &library, INDEX_HNSW, "test");
    fixture_put(f, &library, PUT_CREATE, "a", 2000, "text");
    struct library *lib = catalog_acquire(f->catalog, &library);
    start(&b, f, &library);
    while (load_relaxed_u64(&b.linked) < 100) {
        (void)sched_yield();
    }
    store_release_u64(&b.stop, 1); /* told to stop; quiesce waits for those in the middle of it */
    assert_int_equal(pthread_create(&waiting, NULL, quiesce_when_told, lib), 0);
    assert_int_equal(pthread_join(waiting, NULL), 0);
    stop(&b);
    catalog_release(f->catalog, lib);
}

/* Nothing is linked while it is held, and all of it afterwards. Embedding goes on, as the committer waits for that at a switch. */
static void test_hold(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct background b;
    struct status st;
    struct backlog_linker *linker = backlog_linker_new();
    size_t done = 0;
    fixture_create(f, &library, INDEX_HNSW, "test");
    f->pending = true;
    fixture_put(f, &library, PUT_CREATE, "a", 500, "text");
    f->pending = false;
    struct library *lib = catalog_acquire(f->catalog, &library);
    backlog_hold(lib);
    start(&b, f, &library);
    while (backlog_pending_vectors(lib) > 0) {
        (void)sched_yield();
    }
    for (int i = 0; i < 100; i++) {
        assert_true(backlog_link_some(lib, linker, 16, &done, &st));
        assert_int_equal(done, 0);
        (void)sched_yield();
    }
    assert_int_equal(backlog_tail(lib), 500);
    backlog_go_on(lib);
    while (backlog_tail(lib) == 500) {
        (void)sched_yield();
    }
    backlog_hold(lib); /* in the middle of it, or behind */
    uint64_t tail = backlog_tail(lib);
    for (int i = 0; i < 100; i++) {
        (void)sched_yield();
    }
    assert_int_equal(backlog_tail(lib), tail);
    backlog_go_on(lib);
    wait_until_done(f, lib);
    stop(&b);
    assert_graph(f, &library, 1);
    catalog_release(f->catalog, lib);
    backlog_linker_free(linker);
}

/* --- rebuilds --- */

/* A chunk whose vector cannot be made holds no rebuild up: no graph has it. */
static void test_rebuild_without_all_vectors(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct index_settings settings = {.type = INDEX_HNSW, .m = 8, .ef_construction = 60, .ef_search = 64};
    struct backlog_linker *linker = backlog_linker_new();
    struct status st = {0};
    uint64_t done = 0;
    uint64_t total = 0;
    bool ready = false;
    fixture_create(f, &library, INDEX_HNSW, "test");
    f->pending = true;
    fixture_put(f, &library, PUT_CREATE, "a", 1, "text");
    f->pending = false;
    fixture_put(f, &library, PUT_CREATE, "b", 200, "text");
    struct library *lib = catalog_acquire(f->catalog, &library);
    assert_true(backlog_rebuild_begin(lib, &settings, &st));
    assert_false(backlog_can_wait(lib, 1000));
    backlog_rebuild_progress(lib, &done, &total, &ready);
    assert_false(ready);
    for (size_t linked = 1; linked > 0;) {
        assert_true(backlog_link_some(lib, linker, 32, &linked, &st));
    }
    backlog_rebuild_progress(lib, &done, &total, &ready);
    assert_true(ready);
    assert_int_equal(done, 200);
    assert_int_equal(total, 201);
    assert_true(backlog_rebuild_switch(f->catalog, lib, &st));
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    catalog_release(f->catalog, lib);
    backlog_linker_free(linker);
    fixture_catch_up(f, &library);
    assert_graph(f, &library, 2);
    assert_vectors(f, &library);
}

struct shared {
    uint64_t stop;
    uint64_t searches;
    uint64_t by_graph;
};

static void expect(bool ok, const char *what) {
    if (!ok) {
        (void)fprintf(stderr, "searcher: %s\n", what);
        _exit(1);
    }
}

/* Another process: k hits, all in the view, the chunk that is asked for first of all; whatever graph serves. */
static _Noreturn void search_all_the_time(struct fixture *f, uint32_t slot, const struct uuid *library, uint32_t documents,
                                          struct shared *s) {
    struct store_reader *r = NULL;
    struct status st = {0};
    struct search_scratch *scratch = search_scratch_new(0);
    struct search_hit hits[SEARCH_K];
    uint64_t random = slot;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    expect(scratch != NULL && store_reader_new(f->control, slot, f->dir_fd, &r, &st), "no reader");
    while (load_acquire_u64(&s->stop) == 0) {
        struct reading rd;
        char text[48];
        float query[FIXTURE_DIMENSION];
        struct search_result result = {.hits = hits};
        (void)snprintf(text, sizeof text, "doc-%u %u", (unsigned)(fixture_random(&random) % documents),
                       (unsigned)(fixture_random(&random) % 10));
        fixture_embed(slice_str(text), query);
        struct search_request request = {.mode = SEARCH_DENSE, .query = query, .k = SEARCH_K};
        expect(reading_begin(r, library, &rd, &st), st.detail);
        expect(search_library(&rd, &request, scratch, &result, &st), "no search");
        expect(result.count == SEARCH_K, "fewer than k");
        for (uint32_t i = 0; i < result.count; i++) {
            expect(reading_chunk_visible(&rd, hits[i].slot), "a hit that is not in the view");
        }
        struct stored_chunk c;
        expect(reading_chunk(&rd, hits[0].slot, &c, &st) && slice_is(c.fields.text, text) && hits[0].distance < 1e-6F,
               "another chunk is nearer to itself than itself");
        reading_end(&rd);
        (void)add_relaxed_u64(&s->searches, 1);
        (void)add_relaxed_u64(&s->by_graph, result.exact ? 0 : 1);
    }
    store_reader_free(r);
    search_scratch_free(scratch);
    _exit(0);
}

static bool file_exists(struct fixture *f, const struct uuid *library, const char *file) {
    char path[2 * PATH_MAX];
    char name[UUID_TEXT + 1];
    uuid_format(library, name);
    (void)snprintf(path, sizeof path, "%s/%s/%s", f->dir, name, file);
    return access(path, F_OK) == 0;
}

/* Begins a rebuild, commits until it is ready, switches. */
static void rebuild(struct fixture *f, const struct uuid *library, struct library *lib, const struct index_settings *settings,
                    unsigned *document) {
    struct status st = {0};
    uint64_t done = 0;
    uint64_t total = 0;
    bool ready = false;
    assert_true(backlog_rebuild_begin(lib, settings, &st));
    assert_false(backlog_rebuild_begin(lib, settings, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    while (!ready) {
        char name[32];
        (void)snprintf(name, sizeof name, "more-%u", (*document)++ % 400);
        fixture_put(f, library, PUT_REPLACE, name, 1, name);
        backlog_rebuild_progress(lib, &done, &total, &ready);
        assert_true(done <= total);
    }
    assert_true(backlog_rebuild_switch(f->catalog, lib, &st));
    /* a commit between switch and publication is in the new graph as well */
    fixture_put(f, library, PUT_REPLACE, "between", 3, "between");
    assert_false(backlog_rebuild_switch(f->catalog, lib, &st));
}

static void test_rebuild_under_readers(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct background b;
    enum { DOCUMENTS = 300 };
    struct index_settings dense = {.type = INDEX_HNSW, .m = 24, .ef_construction = 60, .ef_search = 64};
    struct index_settings flat = {.type = INDEX_FLAT};
    struct index_settings wanted;
    struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned document = 0;
    assert_true(s != MAP_FAILED);
    (void)alarm(HANG_S);
    fixture_create(f, &library, INDEX_HNSW, "test");
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "doc-%u", i);
        fixture_put(f, &library, PUT_CREATE, name, 10, name);
    }
    fixture_catch_up(f, &library);
    pid_t searcher = fork();
    assert_true(searcher >= 0);
    if (searcher == 0) {
        search_all_the_time(f, 0, &library, DOCUMENTS, s);
    }
    struct library *lib = catalog_acquire(f->catalog, &library);
    assert_false(backlog_rebuild_wanted(lib, &wanted));
    start(&b, f, &library);
    rebuild(f, &library, lib, &dense, &document);
    assert_true(file_exists(f, &library, "graph.2.mmap"));
    assert_false(file_exists(f, &library, "graph.1.mmap"));
    assert_false(file_exists(f, &library, "upper.1.mmap"));
    assert_true(backlog_rebuild_wanted(lib, &wanted)); /* the definition still says m = 16 */
    assert_int_equal(wanted.m, 16);
    wait_until_done(f, lib);
    uint64_t by_graph = load_relaxed_u64(&s->by_graph);
    while (load_relaxed_u64(&s->by_graph) < by_graph + 50) {
        (void)sched_yield();
    }
    rebuild(f, &library, lib, &flat, &document);
    assert_false(file_exists(f, &library, "graph.2.mmap"));
    rebuild(f, &library, lib, &dense, &document);
    assert_true(file_exists(f, &library, "graph.3.mmap")); /* a number never comes again */
    wait_until_done(f, lib);
    by_graph = load_relaxed_u64(&s->by_graph);
    int status = 0;
    while (load_relaxed_u64(&s->by_graph) < by_graph + 50 && waitpid(searcher, &status, WNOHANG) == 0) {
        (void)sched_yield();
    }
    stop(&b);
    store_release_u64(&s->stop, 1);
    assert_int_equal(waitpid(searcher, &status, 0), searcher);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    catalog_release(f->catalog, lib);
    fixture_catch_up(f, &library);
    assert_graph(f, &library, 3);
    (void)munmap(s, sizeof *s);
    (void)alarm(0);
}

static void test_rebuild_cancelled(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct status st = {0};
    struct index_settings settings = {.type = INDEX_HNSW, .m = 8, .ef_construction = 60, .ef_search = 64};
    uint64_t done = 0;
    uint64_t total = 0;
    bool ready = true;
    fixture_create(f, &library, INDEX_HNSW, "test");
    fixture_put(f, &library, PUT_CREATE, "a", 100, "text");
    struct library *lib = catalog_acquire(f->catalog, &library);
    assert_true(backlog_rebuild_begin(lib, &settings, &st));
    assert_true(file_exists(f, &library, "graph.2.mmap"));
    assert_false(backlog_rebuild_switch(f->catalog, lib, &st));
    backlog_rebuild_cancel(lib);
    assert_false(file_exists(f, &library, "graph.2.mmap"));
    backlog_rebuild_progress(lib, &done, &total, &ready);
    assert_false(ready);
    fixture_put(f, &library, PUT_CREATE, "b", 100, "text");
    settings.m = 1;
    assert_false(backlog_rebuild_begin(lib, &settings, &st));
    assert_int_equal(st.code, STATUS_INVALID);
    settings.m = 8;
    assert_true(backlog_rebuild_begin(lib, &settings, &st));
    fixture_catch_up(f, &library);
    assert_true(backlog_rebuild_switch(f->catalog, lib, &st));
    assert_graph(f, &library, 1); /* until the publication, a new reader still finds the old one */
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    assert_graph(f, &library, 3);
    /* deleted in the middle of a rebuild */
    assert_true(backlog_rebuild_begin(lib, &settings, &st));
    struct buf op = {0};
    op_encode_library_delete(&op, &library);
    fixture_commit(f, &op);
    buf_fini(&op);
    assert_false(backlog_rebuild_switch(f->catalog, lib, &st));
    catalog_release(f->catalog, lib);
    assert_false(file_exists(f, &library, ""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_two_threads, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_model_that_fails, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_deleted_while_embedded, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_links_wait_for_vectors, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_watermark_and_pins, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_links_after_restart, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_quiesce, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_hold, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_rebuild_without_all_vectors, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_rebuild_under_readers, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_rebuild_cancelled, fixture_set_up, fixture_tear_down),
    };
    return cmocka_run_group_tests_name("store backlog", tests, NULL, NULL);
}
