/*
 * filters.c - searching what matches a filter, through the store: evaluation of the filter, the choice between graph and scan, and the walk.
 *
 *   filters [--vectors N] [--queries N] [--rounds N] [--seed N] [--cache DIR] [--kernel NAME]    100000 500 3 42
 *
 * The vectors of bench/engine lie in a library, each chunk with three members of metadata: `u`, a number that has nothing to do with the vector, uniform
 * in [0, 1); `area` and `cell`, keywords: the nearest of a few vectors of the set, and of many. The filters match half, a tenth, a hundredth and a thousandth of
 * the chunks:
 *
 *   unrelated   u lt share: the same for all queries
 *   near        area (or cell, where few match) in the ones nearest to the query: as when the query's topic is the filter's, too
 *   far         in the farthest: nothing near the query matches, which is what a graph finds hardest. Each query has a filter of its own
 *
 * Recall is against a scan in float32 of what matches by the numbers here. The rate at a recall of 0.95 is set beside that of searches without a filter.
 */
#include "engine.h"

#include "base/clock.h"
#include "index/distance.h"
#include "store_fixture.h"

#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    AREAS = 64,
    CELLS = 2048,
    CELL_NAME_MAX = 8,
    WORD_BITS = 64,
    WHAT_ROOM = 96,
    CHUNKS_A_DOCUMENT = 1000,
    LINK_BATCH = 64,
    LINK_THREADS = 2,
    METADATA_ROOM = 96,
    QUERIES = 500,
    FILTER_CACHE_BYTES = 64 << 20
};
enum likeness { UNRELATED, NEAR, FAR, LIKENESSES };

static const char *const LIKENESS[] = {"unrelated to the query", "near the query", "far from the query"};
static const double SHARES[] = {0.5, 0.1, 0.01, 0.001};
enum { SHARE_COUNT = sizeof SHARES / sizeof *SHARES };
/* Above this share areas are named, below it cells. */
static const double AREA_SHARE = 0.05;

static const double RECALL_GOAL = 0.95;
static const double RATE_GOAL = 0.5;

/* A cutting of the space into the surroundings of some rows. */
struct cells {
    const char *field;
    char letter;
    uint32_t count;
    uint32_t *pivots; /* rows */
    uint32_t *sizes;
    uint16_t *of_row;
    char (*names)[CELL_NAME_MAX];
};

/* A filter of one query, and what it matches. */
struct question {
    struct filter filter;
    struct filter_value *values;
    uint64_t *matches; /* a bit a row */
    uint32_t truth[K];
};

struct run {
    struct options o;
    struct data data;
    struct fixture *fixture;
    struct uuid library;
    struct cells areas;
    struct cells cells;
    struct store_reader *reader;
    struct search_scratch *scratch;
    uint32_t *found;
};

static double uniform_of(uint32_t row) {
    uint64_t x = row + 1;
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
    x ^= x >> 33;
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
    return (double)((x ^ (x >> 33)) >> 40) * 0x1p-24; /* few enough bits to be written exactly in decimals */
}

static void cells_make(struct cells *c, const struct data *d, const char *field, uint32_t most) {
    uint32_t count = d->vectors < most ? d->vectors : most;

    *c = (struct cells){.field = field, .letter = field[0], .count = count};
    c->pivots = allocate(count, sizeof *c->pivots);
    c->sizes = allocate(count, sizeof *c->sizes);
    c->of_row = allocate(d->vectors, sizeof *c->of_row);
    c->names = allocate(count, sizeof *c->names);
    for (uint32_t i = 0; i < count; i++) {
        c->pivots[i] = (uint32_t)((uint64_t)i * d->vectors / count);
        (void)snprintf(c->names[i], sizeof c->names[i], "%c%u", c->letter, i % CELLS);
    }
    for (uint32_t row = 0; row < d->vectors; row++) {
        float best = -2.0F;
        for (uint32_t i = 0; i < count; i++) {
            float dot = dot_product(data_row(d, row), data_row(d, c->pivots[i]), d->dimension);
            if (dot > best) {
                best = dot;
                c->of_row[row] = (uint16_t)i;
            }
        }
        c->sizes[c->of_row[row]]++;
    }
}

static void cells_free(struct cells *c) {
    free(c->pivots);
    free(c->sizes);
    free(c->of_row);
    free(c->names);
}

/* --- the library ------------------------------------------------------------------------------------------------------ */

static void put_document(struct run *r, uint32_t first, uint32_t count) {
    const struct data *d = &r->data;
    char name[ITEM_ID_TEXT_MAX];
    struct buf op = {0};
    struct buf id = {0};
    float *values = allocate((size_t)count * d->dimension, sizeof *values);

    (void)snprintf(name, sizeof name, "rows from %u", first);
    struct op_document document = {.mode = PUT_CREATE,
                                   .created_at = 1,
                                   .id = fixture_id(&id, name),
                                   .title = slice_str("rows"),
                                   .document_type = slice_str("text"),
                                   .num_chunks = count};
    op_encode_document(&op, &r->library, &document);
    for (uint32_t row = first; row < first + count; row++) {
        char metadata[METADATA_ROOM];
        (void)snprintf(name, sizeof name, "v%u", row);
        (void)snprintf(metadata, sizeof metadata, "{\"u\":%.24g,\"area\":\"%s\",\"cell\":\"%s\"}", uniform_of(row),
                       r->areas.names[r->areas.of_row[row]], r->cells.names[r->cells.of_row[row]]);
        struct op_chunk chunk = {
            .id = fixture_id(&id, name), .text = slice_str(name), .metadata = slice_str(metadata), .page_number = -1};
        op_encode_chunk(&op, &chunk);
        memcpy(values + (size_t)(row - first) * d->dimension, data_row(d, row), d->dimension * sizeof *values);
    }
    op_encode_vectors(&op, values, count, d->dimension);
    fixture_commit(r->fixture, &op);
    free(values);
    buf_fini(&op);
    buf_fini(&id);
}

static void *link_share(void *ctx) {
    struct library *library = ctx;
    struct backlog_linker *linker = backlog_linker_new();
    struct status st = {0};
    size_t done = 1;

    while (linker != NULL && done > 0) {
        if (!backlog_link_some(library, linker, LINK_BATCH, &done, &st)) {
            die(st.detail);
        }
    }
    backlog_linker_free(linker);
    return NULL;
}

static void fill(struct run *r) {
    pthread_t thread[LINK_THREADS];
    struct library *library;
    int64_t start = clock_monotonic_us();
    void *state = NULL;

    if (fixture_set_up(&state) != 0) {
        die("no catalog");
    }
    r->fixture = state;
    r->library = fixture_library_id(1);
    fixture_create(r->fixture, &r->library, INDEX_HNSW, "none");
    for (uint32_t first = 0; first < r->data.vectors; first += CHUNKS_A_DOCUMENT) {
        uint32_t left = r->data.vectors - first;
        put_document(r, first, left < CHUNKS_A_DOCUMENT ? left : CHUNKS_A_DOCUMENT);
    }
    printf("  written in %.1f s", seconds_since(start));
    start = clock_monotonic_us();
    library = catalog_acquire(r->fixture->catalog, &r->library);
    for (size_t i = 0; i < LINK_THREADS; i++) {
        if (pthread_create(&thread[i], NULL, link_share, library) != 0) {
            die("no thread");
        }
    }
    for (size_t i = 0; i < LINK_THREADS; i++) {
        (void)pthread_join(thread[i], NULL);
    }
    printf(", linked in %.1f s, %llu left\n", seconds_since(start), (unsigned long long)backlog_tail(library));
    catalog_release(r->fixture->catalog, library);
}

/* --- filters ---------------------------------------------------------------------------------------------------------- */

static int compare_distances(const void *a, const void *b) {
    float x = ((const struct neighbor *)a)->distance;
    float y = ((const struct neighbor *)b)->distance;
    return (x > y) - (x < y);
}

/* Names cells from the nearest (or farthest) on, until they hold as many rows as are wanted. */
static void choose_cells(const struct data *d, const struct cells *c, const float *query, enum likeness likeness, double share,
                         struct question *ret) {
    struct neighbor *order = allocate(c->count, sizeof *order);
    bool *chosen = allocate(c->count, sizeof *chosen);
    uint64_t held = 0;

    for (uint32_t i = 0; i < c->count; i++) {
        float dot = dot_product(query, data_row(d, c->pivots[i]), d->dimension);
        order[i] = (struct neighbor){likeness == NEAR ? -dot : dot, i};
    }
    qsort(order, c->count, sizeof *order, compare_distances);
    ret->values = allocate(c->count, sizeof *ret->values);
    ret->filter = (struct filter){.kind = FILTER_LEAF, .path = slice_str(c->field), .op = OPERATOR_IN, .values = ret->values};
    for (uint32_t i = 0; i < c->count && (double)held < (double)d->vectors * share; i++) {
        uint32_t cell = order[i].slot;
        ret->values[ret->filter.value_count++] = (struct filter_value){.type = FILTER_TEXT, .text = slice_str(c->names[cell])};
        chosen[cell] = true;
        held += c->sizes[cell];
    }
    for (uint32_t row = 0; row < d->vectors; row++) {
        if (chosen[c->of_row[row]]) {
            ret->matches[row / WORD_BITS] |= UINT64_C(1) << row % WORD_BITS;
        }
    }
    free(order);
    free(chosen);
}

static void choose_unrelated(const struct data *d, double share, struct question *ret) {
    ret->values = allocate(1, sizeof *ret->values);
    ret->values[0] = (struct filter_value){.type = FILTER_NUMBER, .number = share};
    ret->filter =
        (struct filter){.kind = FILTER_LEAF, .path = slice_str("u"), .op = OPERATOR_LT, .values = ret->values, .value_count = 1};
    for (uint32_t row = 0; row < d->vectors; row++) {
        if (uniform_of(row) < share) {
            ret->matches[row / WORD_BITS] |= UINT64_C(1) << row % WORD_BITS;
        }
    }
}

/* Returns how many match. */
static uint32_t find_truth(const struct data *d, const float *query, struct question *ret) {
    struct neighbor storage[K];
    struct topk best;
    uint32_t matches = 0;

    topk_init(&best, storage, K);
    for (uint32_t row = 0; row < d->vectors; row++) {
        if ((ret->matches[row / WORD_BITS] >> row % WORD_BITS & 1) != 0) {
            topk_offer(&best, (struct neighbor){1.0F - dot_product(query, data_row(d, row), d->dimension), row});
            matches++;
        }
    }
    size_t n = topk_finish(&best);
    for (size_t i = 0; i < K; i++) {
        ret->truth[i] = i < n ? storage[i].slot : CONTENDER_NONE;
    }
    return matches;
}

/* The mean number of matches. */
static double make_questions(const struct run *r, enum likeness likeness, double share, struct question *ret) {
    const struct data *d = &r->data;
    size_t words = ((size_t)d->vectors + WORD_BITS - 1) / WORD_BITS;
    uint64_t sum = 0;

    for (uint32_t q = 0; q < d->queries; q++) {
        ret[q].matches = allocate(words, sizeof *ret[q].matches);
        if (likeness == UNRELATED) {
            choose_unrelated(d, share, &ret[q]);
        } else {
            choose_cells(d, share > AREA_SHARE ? &r->areas : &r->cells, data_query(d, q), likeness, share, &ret[q]);
        }
        sum += find_truth(d, data_query(d, q), &ret[q]);
        free(ret[q].matches);
    }
    return (double)sum / d->queries;
}

/* --- searching -------------------------------------------------------------------------------------------------------- */

/* One search as a worker does it. Rows are named by their slots: they were written in this order. */
static void search_one(struct run *r, const float *query, uint32_t ef, const struct filter *filter, uint32_t *found) {
    struct search_hit hits[K];
    struct search_request request = {.mode = SEARCH_DENSE, .query = query, .k = K, .ef = ef, .filter = filter};
    struct search_result result = {.hits = hits};
    struct status st = {0};
    struct reading rd;

    if (!reading_begin(r->reader, &r->library, &rd, &st)) {
        die(st.detail);
    }
    if (!search_library(&rd, &request, r->scratch, &result, &st)) {
        die(st.detail);
    }
    for (size_t i = 0; i < K; i++) {
        found[i] = i < result.count ? hits[i].slot : CONTENDER_NONE;
    }
    reading_end(&rd);
}

/* questions NULL: without a filter. */
static struct measured search_round(struct run *r, const struct question *questions, uint32_t ef) {
    const struct data *d = &r->data;
    double start = thread_seconds();

    for (uint32_t q = 0; q < d->queries; q++) {
        search_one(r, data_query(d, q), ef, questions == NULL ? NULL : &questions[q].filter, r->found + (size_t)q * K);
    }
    struct measured m = {ef, 0.0, d->queries / (thread_seconds() - start)};
    uint32_t *truth = allocate((size_t)d->queries * K, sizeof *truth);
    for (size_t q = 0; questions != NULL && q < d->queries; q++) {
        memcpy(truth + q * K, questions[q].truth, sizeof questions[q].truth);
    }
    m.recall = data_recall(d, questions == NULL ? d->truth : truth, r->found);
    free(truth);
    return m;
}

/* Up to the first ef that reaches the goal, and one more; the best of the rounds. */
static void search_curve(struct run *r, const struct question *questions, struct curve *c) {
    bool reached = false;

    c->count = 0;
    for (uint32_t i = 0; i < r->o.ef_count; i++) {
        struct measured best = {0};
        for (uint32_t round = 0; round < r->o.rounds; round++) {
            struct measured m = search_round(r, questions, r->o.efs[i]);
            best = m.per_second > best.per_second ? m : best;
        }
        c->points[c->count++] = best;
        if (reached) {
            return;
        }
        reached = best.recall >= RECALL_GOAL;
    }
}

static void report(const struct curve *c, double first_us, double matches, double share, enum likeness likeness,
                   double unfiltered) {
    char what[WHAT_ROOM];
    double rate = curve_rate(c, RECALL_GOAL);
    uint32_t i = 0;

    while (i + 1 < c->count && c->points[i].recall < RECALL_GOAL) {
        i++;
    }
    printf("  %5.1f%% %-22s %8.0f match: ef %4u recall %.4f %8.0f per s (%.0f us; the first time %.0f us)\n", share * 100.0,
           LIKENESS[likeness], matches, c->points[i].ef, c->points[i].recall, c->points[i].per_second,
           1e6 / c->points[i].per_second, first_us);
    (void)snprintf(what, sizeof what, "%.1f%% %s: recall reached", share * 100.0, LIKENESS[likeness]);
    verdict_at_least(what, c->points[i].recall, RECALL_GOAL);
    (void)snprintf(what, sizeof what, "%.1f%% %s: rate at that recall over the unfiltered", share * 100.0, LIKENESS[likeness]);
    verdict_at_least(what, rate / unfiltered, RATE_GOAL);
}

static void measure_filter(struct run *r, enum likeness likeness, double share, double unfiltered) {
    struct question *questions = allocate(r->data.queries, sizeof *questions);
    struct curve c;

    double matches = make_questions(r, likeness, share, questions);
    double first_us = 1e6 / search_round(r, questions, r->o.efs[0]).per_second;
    search_curve(r, questions, &c);
    report(&c, first_us, matches, share, likeness, unfiltered);
    for (uint32_t q = 0; q < r->data.queries; q++) {
        free(questions[q].values);
    }
    free(questions);
}

static void run(struct run *r) {
    struct curve unfiltered;
    struct status st = {0};

    data_make(&r->data, &r->o, r->o.vectors);
    printf("%u vectors of %u, %u queries, kernel %s\n", r->data.vectors, r->data.dimension, r->data.queries,
           distance_kernel_name(distance_kernel_in_use()));
    cells_make(&r->areas, &r->data, "area", AREAS);
    cells_make(&r->cells, &r->data, "cell", CELLS);
    fill(r);
    if (!store_reader_new(r->fixture->control, 0, r->fixture->dir_fd, &r->reader, &st)) {
        die(st.detail);
    }
    r->scratch = search_scratch_new(FILTER_CACHE_BYTES);
    r->found = allocate((size_t)r->data.queries * K, sizeof *r->found);
    if (r->scratch == NULL) {
        die("out of memory");
    }
    search_curve(r, NULL, &unfiltered);
    double rate = curve_rate(&unfiltered, RECALL_GOAL);
    printf("  without a filter %.0f per s at recall %.2f\n", rate, RECALL_GOAL);
    for (uint32_t i = 0; i < SHARE_COUNT; i++) {
        for (enum likeness likeness = UNRELATED; likeness < LIKENESSES; likeness++) {
            measure_filter(r, likeness, SHARES[i], rate);
        }
    }
}

static void done(struct run *r) {
    void *state = r->fixture;

    search_scratch_free(r->scratch);
    store_reader_free(r->reader);
    free(r->found);
    cells_free(&r->areas);
    cells_free(&r->cells);
    data_free(&r->data);
    if (fixture_tear_down(&state) != 0) {
        die("the library's directory was not removed");
    }
}

static struct options read_options(int argc, char **argv) {
    static const uint32_t efs[] = {10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};
    static const struct option names[] = {
        {"vectors", required_argument, NULL, 'n'},
        {"queries", required_argument, NULL, 'q'},
        {"rounds", required_argument, NULL, 'r'},
        {"seed", required_argument, NULL, 's'},
        {"cache", required_argument, NULL, 'c'},
        {"kernel", required_argument, NULL, 'k'},
        {NULL, 0, NULL, 0},
    };
    struct options o = {.vectors = 100000, .queries = QUERIES, .dimension = 384, .seed = 42, .rounds = 3};
    int c;

    memcpy(o.efs, efs, sizeof efs);
    o.ef_count = sizeof efs / sizeof *efs;
    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (c == 'n') {
            o.vectors = (uint32_t)read_number(optarg, K, INT32_MAX);
        } else if (c == 'q') {
            o.queries = (uint32_t)read_number(optarg, 1, INT32_MAX);
        } else if (c == 'r') {
            o.rounds = (uint32_t)read_number(optarg, 1, INT16_MAX);
        } else if (c == 's') {
            o.seed = read_number(optarg, 0, INT64_MAX);
        } else if (c == 'c') {
            o.cache = optarg;
        } else if (c == 'k') {
            o.kernel = optarg;
        } else {
            exit(EXIT_FAILURE);
        }
    }
    return o;
}

int main(int argc, char **argv) {
    static struct run r;

    r.o = read_options(argc, argv);
    if (!distance_init(r.o.kernel)) {
        die("this CPU has no such kernel");
    }
    run(&r);
    done(&r);
    return EXIT_SUCCESS;
}
