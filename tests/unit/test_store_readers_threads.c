/*
 * test_store_readers_threads.c - searches of every mode, with filters, as threads over the very memory that the committer writes and linkers link.
 *
 * Worker processes map the files again, each at addresses of its own, so ThreadSanitizer sees nothing of what they and the supervisor do to one
 * another. Here a reading takes its view and its pin as a worker does, and then reads through the supervisor's own maps: a store without the order that
 * its reader needs is a report. Without the sanitizer this still says that each answer is whole: as many hits as match, all visible.
 */
#include "store/search.h"

#include "index/lexical.h"
#include "shm/atomics.h"
#include "store/backlog.h"
#include "store/library_internal.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store_fixture.h"

enum { SEARCHERS = 2, DOCUMENTS = 60, PER_DOCUMENT = 50, COMMITS = 300, SEARCHES = 300, K = 20, KINDS = 5 };

struct running {
    struct fixture *f;
    struct uuid library;
    struct library *lib;
    uint64_t stop;
    uint64_t searches[SEARCHERS];
    uint64_t wrong;
};

struct searcher {
    struct running *run;
    uint32_t number;
    pthread_t thread;
};

static void expect(struct running *run, bool ok, const char *what) {
    if (!ok) {
        (void)fprintf(stderr, "searcher: %s\n", what);
        (void)add_relaxed_u64(&run->wrong, 1);
    }
}

/* --- the supervisor's maps, as an arena that a search can use --- */

static void share_file(struct mapfile *out, const struct mapfile *m) {
    *out = MAPFILE_CLOSED;
    out->fd = m->fd;
    out->size = load_acquire_u64(&m->size); /* first: a base that is newer maps at least as much. pairs with: MAPFILE_BASE */
    out->base = mapfile_base(m);
}

static void share_arena(struct arena *out, struct library *lib, struct graph_work *g) {
    const struct arena *a = &lib->arena;
    *out = ARENA_CLOSED;
    share_file(&out->vectors, &a->vectors);
    share_file(&out->chunks, &a->chunks);
    share_file(&out->documents, &a->documents);
    share_file(&out->records, &a->records);
    share_file(&out->ids, &a->ids);
    share_file(&out->terms, &a->terms);
    share_file(&out->postings, &a->postings);
    share_file(&out->columns, &a->columns);
    share_file(&out->graph, &g->graph);
    share_file(&out->upper, &g->upper);
    out->graph_generation = g->generation;
}

/* --- searching --- */

static const struct filter_value least_index[] = {{.type = FILTER_NUMBER, .number = 10}};
static const struct filter_value texts_type[] = {{.type = FILTER_TEXT, .text = {(const uint8_t *)"text", 4}}};
static const struct filter_value year_2000[] = {{.type = FILTER_TEXT, .text = {(const uint8_t *)"2000-01-01", 10}}};
static const struct filter by_index = {.kind = FILTER_LEAF,
                                       .path = {(const uint8_t *)"chunk_index", 11},
                                       .op = OPERATOR_GTE,
                                       .values = least_index,
                                       .value_count = 1};
static const struct filter by_type = {.kind = FILTER_LEAF,
                                      .path = {(const uint8_t *)"document_type", 13},
                                      .op = OPERATOR_EQ,
                                      .values = texts_type,
                                      .value_count = 1};
static const struct filter by_time = {
    .kind = FILTER_LEAF, .path = {(const uint8_t *)"created_at", 10}, .op = OPERATOR_LT, .values = year_2000, .value_count = 1};
static const struct filter *const leaves[] = {&by_index, &by_type, &by_time};
static const struct filter all_of_them = {.kind = FILTER_AND, .children = leaves, .count = 3};

static struct search_request request_of(uint64_t kind, const float *query, bool filtered) {
    static const enum search_mode modes[KINDS] = {SEARCH_DENSE, SEARCH_DENSE, SEARCH_LEXICAL, SEARCH_HYBRID, SEARCH_LEXICAL};
    bool prefix = kind == KINDS - 1;
    return (struct search_request){.mode = modes[kind],
                                   .query = modes[kind] == SEARCH_LEXICAL ? NULL : query,
                                   .text = slice_str(prefix ? "wor" : "words round 7"),
                                   .prefix = prefix,
                                   .k1 = LEXICAL_DEFAULT_K1,
                                   .b = LEXICAL_DEFAULT_B,
                                   .k = K,
                                   .exact = kind == 1,
                                   .filter = filtered ? &all_of_them : NULL,
                                   .fusion = {FUSION_RECIPROCAL_RANK, FUSION_DEFAULT_CONSTANT, FUSION_DEFAULT_WEIGHT}};
}

/* Every document holds the words that are asked for, and enough chunks for each filter; so there are always K. */
static void check_hits(struct running *run, const struct reading *rd, const struct search_result *result, bool filtered) {
    expect(run, result->count == K, "fewer hits than match");
    for (uint32_t i = 0; i < result->count; i++) {
        struct stored_chunk c;
        struct status st = {0};
        expect(run, reading_chunk_visible(rd, result->hits[i].slot), "a chunk that is not in the view");
        expect(run, reading_chunk(rd, result->hits[i].slot, &c, &st), "a chunk that does not decode");
        expect(run, !filtered || c.index >= 10, "a chunk that does not match");
    }
}

static void *search_all_the_time(void *arg) {
    struct searcher *me = (struct searcher *)arg;
    struct running *run = me->run;
    struct store_reader *reader = NULL;
    struct search_scratch *scratch = search_scratch_new(1 << 20);
    struct status st = {0};
    uint64_t random = 40 + me->number;
    expect(run, scratch != NULL && store_reader_new(run->f->control, me->number, run->f->dir_fd, &reader, &st), "no reader");
    while (load_acquire_u64(&run->stop) == 0 && load_relaxed_u64(&run->wrong) == 0) {
        struct reading rd;
        struct arena shared;
        struct search_hit hits[K];
        struct search_result result = {.hits = hits};
        float query[FIXTURE_DIMENSION];
        uint64_t kind = fixture_random(&random) % KINDS;
        bool filtered = fixture_random(&random) % 2 == 0;
        fixture_unit_vector(&random, query, FIXTURE_DIMENSION);
        struct search_request request = request_of(kind, query, filtered);
        expect(run, reading_begin(reader, &run->library, &rd, &st), "no reading");
        struct graph_work *g = library_graph(run->lib, false);
        share_arena(&shared, run->lib, g);
        struct reading through = {.view = rd.view, .arena = &shared};
        expect(run, search_library(&through, &request, scratch, &result, &st), st.detail);
        check_hits(run, &through, &result, filtered);
        library_graph_release(run->lib, g);
        reading_end(&rd);
        (void)add_relaxed_u64(&run->searches[me->number], 1);
    }
    store_reader_free(reader);
    search_scratch_free(scratch);
    return NULL;
}

static void *link_all_the_time(void *arg) {
    struct running *run = (struct running *)arg;
    struct backlog_linker *linker = backlog_linker_new();
    while (load_acquire_u64(&run->stop) == 0) {
        struct status st = {0};
        size_t embedded = 0;
        size_t linked = 0;
        expect(run, backlog_embed_some(run->lib, &run->f->models, 16, &embedded, &st), "no vectors");
        expect(run, backlog_link_some(run->lib, linker, 16, &linked, &st), "no links");
        if (embedded + linked == 0) {
            (void)sched_yield();
        }
    }
    backlog_linker_free(linker);
    return NULL;
}

/* --- writing --- */

static void put(struct fixture *f, const struct uuid *library, unsigned document, unsigned round) {
    char name[16];
    char text[64];
    (void)snprintf(name, sizeof name, "d%u", document);
    (void)snprintf(text, sizeof text, "words round %u of%u", round % 10, round);
    fixture_put(f, library, PUT_REPLACE, name, PER_DOCUMENT, text);
}

static bool enough(const struct running *run) {
    for (uint32_t i = 0; i < SEARCHERS; i++) {
        if (load_relaxed_u64(&run->searches[i]) < SEARCHES) {
            return false;
        }
    }
    return true;
}

static void write_meanwhile(struct running *run) {
    struct fixture *f = run->f;
    uint64_t random = 3;
    for (unsigned round = 0; (round < COMMITS || !enough(run)) && load_relaxed_u64(&run->wrong) == 0; round++) {
        unsigned document = (unsigned)(fixture_random(&random) % DOCUMENTS);
        char name[32];
        if (round >= COMMITS) {
            (void)sched_yield();
            continue;
        }
        if (round % 5 == 0) {
            (void)snprintf(name, sizeof name, "d%u", document);
            fixture_delete_document(f, &run->library, name);
        } else if (round % 5 == 1) {
            (void)snprintf(name, sizeof name, "d%u/3", document);
            fixture_delete_chunk(f, &run->library, name);
            f->pending = true; /* its vectors come later, by another thread */
        }
        put(f, &run->library, document, round);
        f->pending = false;
    }
}

static void test_searches_while_it_is_written(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct running run = {.f = f, .library = fixture_library_id(1)};
    struct searcher searchers[SEARCHERS];
    pthread_t linker;
    fixture_create(f, &run.library, INDEX_HNSW, "test");
    for (unsigned d = 0; d < DOCUMENTS; d++) {
        put(f, &run.library, d, 7);
    }
    fixture_catch_up(f, &run.library);
    run.lib = catalog_acquire(f->catalog, &run.library);
    assert_int_equal(pthread_create(&linker, NULL, link_all_the_time, &run), 0);
    for (uint32_t i = 0; i < SEARCHERS; i++) {
        searchers[i] = (struct searcher){.run = &run, .number = i};
        assert_int_equal(pthread_create(&searchers[i].thread, NULL, search_all_the_time, &searchers[i]), 0);
    }
    write_meanwhile(&run);
    store_release_u64(&run.stop, 1);
    for (uint32_t i = 0; i < SEARCHERS; i++) {
        assert_int_equal(pthread_join(searchers[i].thread, NULL), 0);
    }
    assert_int_equal(pthread_join(linker, NULL), 0);
    assert_int_equal(run.wrong, 0);
    catalog_release(f->catalog, run.lib);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_searches_while_it_is_written, fixture_set_up, fixture_tear_down),
    };
    return cmocka_run_group_tests_name("store readers, threads", tests, NULL, NULL);
}
