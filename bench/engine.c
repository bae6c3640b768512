/*
 * engine.c - how fast and how well the graph searches and is built, beside hnswlib in the same run where that is installed.
 *
 *   engine [--vectors N] [--queries N] [--dimension N] [--m N] [--ef-construction N] [--seed N] [--kernel NAME] [--alone]
 *
 * Prints the time to build on one thread and on two, then for several ef recall@10 (against an exact scan) and searches per
 * second of one thread. The rounds of both libraries alternate and the best of each counts, so that a busy machine disturbs both
 * alike. Vectors: clustered.h.
 * --alone leaves hnswlib out.
 */
#include "base/clock.h"
#include "clustered.h"
#include "index/distance.h"
#include "index/hnsw.h"
#include "index/scan.h"

#ifdef HAVE_HNSWLIB
#include "hnswlib_baseline.h"
#endif

#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { K = 10, ROUNDS = 3, CENTRES = 2000, STRIPES = 1024, TRUTH_BLOCK = 256, CACHE_LINE = 64, PAGE = 4096, MAX_THREADS = 2 };

static const uint32_t EFS[] = {32, 64, 100, 200, 400};
enum { EF_COUNT = sizeof EFS / sizeof *EFS };

struct options {
    uint32_t vectors;
    uint32_t queries;
    uint32_t dimension;
    uint32_t m;
    uint32_t ef_construction;
    uint64_t seed;
    const char *kernel;
    bool alone;
};

struct data {
    const struct options *o;
    float *base; /* rows of `stride` floats: vectors, then queries */
    size_t stride;
    struct neighbor *truth; /* K a query */
};

struct engine {
    struct hnsw_graph graph;
    struct vector_rows rows;
    pthread_mutex_t stripes[STRIPES];
    uint32_t next; /* slot to insert; taken with an atomic add */
    const struct options *o;
};

static void die(const char *what) {
    fprintf(stderr, "bench/engine: %s\n", what);
    exit(EXIT_FAILURE);
}

static void *allocate(size_t count, size_t size) {
    void *p = aligned_alloc(PAGE, (count * size + PAGE - 1) / PAGE * PAGE + PAGE);
    if (p == NULL) {
        die("out of memory");
    }
    memset(p, 0, count * size);
    return p;
}

/* Of all threads: on a busy machine it says more than the clock on the wall. */
static double cpu_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct took {
    double wall;
    double cpu;
};

static double seconds_since(int64_t start_us) {
    return (double)(clock_monotonic_us() - start_us) / 1e6;
}

static const float *query_of(const struct data *d, uint32_t q) {
    return d->base + (size_t)(d->o->vectors + q) * d->stride;
}

/* --- data ------------------------------------------------------------------------------------------------------------- */

/* In blocks of rows that stay in the cache for all queries. */
static void find_truth(struct data *d) {
    const struct options *o = d->o;
    struct vector_rows rows = {d->base, d->stride, o->dimension};
    struct topk *best = allocate(o->queries, sizeof *best);

    for (uint32_t q = 0; q < o->queries; q++) {
        topk_init(&best[q], d->truth + (size_t)q * K, K);
    }
    for (uint32_t first = 0; first < o->vectors; first += TRUTH_BLOCK) {
        uint32_t end = o->vectors - first < TRUTH_BLOCK ? o->vectors : first + TRUTH_BLOCK;
        for (uint32_t q = 0; q < o->queries; q++) {
            (void)scan_exact(&rows, first, end, query_of(d, q), NULL, &best[q]);
        }
    }
    for (uint32_t q = 0; q < o->queries; q++) {
        (void)topk_finish(&best[q]);
    }
    free(best);
}

static void make_data(struct data *d, const struct options *o) {
    struct clustered *process = clustered_new(o->seed, o->dimension, CENTRES);
    size_t lane = CACHE_LINE / sizeof(float);

    if (process == NULL) {
        die("out of memory");
    }
    d->o = o;
    d->stride = (o->dimension + lane - 1) / lane * lane;
    d->base = allocate((size_t)o->vectors + o->queries, d->stride * sizeof(float));
    d->truth = allocate((size_t)o->queries * K, sizeof *d->truth);
    for (size_t i = 0; i < (size_t)o->vectors + o->queries; i++) {
        clustered_next(process, d->base + i * d->stride);
    }
    clustered_free(process);
    find_truth(d);
}

static uint32_t hits_of(const struct data *d, uint32_t q, const uint32_t *found, size_t count) {
    uint32_t hits = 0;

    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < K; j++) {
            hits += found[i] == d->truth[(size_t)q * K + j].slot;
        }
    }
    return hits;
}

/* --- ours ------------------------------------------------------------------------------------------------------------- */

static void stripe_enter(void *ctx, uint32_t slot) {
    (void)pthread_mutex_lock((pthread_mutex_t *)ctx + slot % STRIPES);
}
static void stripe_leave(void *ctx, uint32_t slot) {
    (void)pthread_mutex_unlock((pthread_mutex_t *)ctx + slot % STRIPES);
}

static void engine_init(struct engine *e, const struct data *d) {
    const struct options *o = d->o;

    e->o = o;
    e->next = 0;
    e->rows = (struct vector_rows){d->base, d->stride, o->dimension};
    e->graph.upper_words = hnsw_upper_words_for(0, o->vectors, o->m);
    e->graph.head = allocate(1, HNSW_HEAD_BYTES);
    e->graph.base = allocate(o->vectors, hnsw_base_block_bytes(o->m));
    e->graph.upper = allocate(e->graph.upper_words, sizeof(uint32_t));
    hnsw_head_init(e->graph.head, o->m, o->ef_construction);
    for (uint32_t slot = 0; slot < o->vectors; slot++) {
        hnsw_node_init(&e->graph, slot);
    }
    for (size_t i = 0; i < STRIPES; i++) {
        (void)pthread_mutex_init(&e->stripes[i], NULL);
    }
}

static void engine_fini(struct engine *e) {
    free(e->graph.head);
    free(e->graph.base);
    free(e->graph.upper);
    for (size_t i = 0; i < STRIPES; i++) {
        (void)pthread_mutex_destroy(&e->stripes[i]);
    }
}

static void *engine_insert_all(void *ctx) {
    struct engine *e = ctx;
    struct hnsw_guard guard = {stripe_enter, stripe_leave, e->stripes};
    struct hnsw_scratch *scratch = hnsw_scratch_new();
    uint32_t slot;

    if (scratch == NULL) {
        die("out of memory");
    }
    while ((slot = __atomic_fetch_add(&e->next, 1, __ATOMIC_RELAXED)) < e->o->vectors) {
        if (!hnsw_insert(&e->graph, &e->rows, e->o->vectors, slot, e->o->ef_construction, &guard, scratch)) {
            die("hnsw_insert failed");
        }
    }
    hnsw_scratch_free(scratch);
    return NULL;
}

static struct took build_with(unsigned threads, void *(*insert_all)(void *), void *ctx) {
    pthread_t thread[MAX_THREADS];
    int64_t start = clock_monotonic_us();
    double cpu = cpu_seconds();

    for (unsigned i = 0; i < threads; i++) {
        if (pthread_create(&thread[i], NULL, insert_all, ctx) != 0) {
            die("no thread");
        }
    }
    for (unsigned i = 0; i < threads; i++) {
        (void)pthread_join(thread[i], NULL);
    }
    return (struct took){seconds_since(start), cpu_seconds() - cpu};
}

static void print_build(const char *who, unsigned threads, struct took took) {
    printf("  %-8s %u thread%s %7.1f s (%.1f s of CPU)", who, threads, threads == 1 ? " " : "s", took.wall, took.cpu);
}

struct measured {
    double per_second;
    double recall;
    double distances;
};

static struct measured engine_round(const struct engine *e, const struct data *d, uint32_t ef, struct hnsw_scratch *scratch) {
    uint32_t vectors = e->o->vectors;
    uint32_t queries = e->o->queries;
    int64_t start = clock_monotonic_us();
    uint64_t hits = 0;
    uint64_t distances = 0;

    for (uint32_t q = 0; q < queries; q++) {
        struct neighbor storage[K];
        uint32_t found[K];
        struct topk best;
        topk_init(&best, storage, K);
        distances += hnsw_search(&e->graph, &e->rows, vectors, vectors, query_of(d, q), ef, NULL, scratch, &best);
        size_t count = topk_finish(&best);
        for (size_t i = 0; i < count; i++) {
            found[i] = storage[i].slot;
        }
        hits += hits_of(d, q, found, count);
    }
    return (struct measured){(double)queries / seconds_since(start), (double)hits / K / (double)queries,
                             (double)distances / (double)queries};
}

static void report_graph(const struct engine *e, unsigned threads, struct took took) {
    struct hnsw_statistics s;
    uint64_t unreachable;
    char detail[160];
    uint64_t faults = hnsw_validate(&e->graph, e->o->vectors, &unreachable, detail);

    hnsw_statistics(&e->graph, e->o->vectors, &s);
    print_build("quire", threads, took);
    printf("   %u levels, degree %.1f, %llu unreachable, %llu faults %s\n", s.levels, s.mean_degree,
           (unsigned long long)unreachable, (unsigned long long)faults, detail);
    (void)fflush(stdout);
}

/* --- hnswlib ---------------------------------------------------------------------------------------------------------- */

#ifdef HAVE_HNSWLIB
struct other {
    struct baseline *graph;
    const struct data *d;
    uint32_t next;
};

static void other_init(struct other *b, const struct data *d) {
    const struct options *o = d->o;

    *b = (struct other){.d = d, .graph = baseline_new(o->dimension, o->vectors, o->m, o->ef_construction)};
    if (b->graph == NULL) {
        die("hnswlib: out of memory");
    }
}

static void *other_insert_all(void *ctx) {
    struct other *b = ctx;
    uint32_t slot;

    while ((slot = __atomic_fetch_add(&b->next, 1, __ATOMIC_RELAXED)) < b->d->o->vectors) {
        if (!baseline_insert(b->graph, b->d->base + (size_t)slot * b->d->stride, slot)) {
            die("hnswlib: insert failed");
        }
    }
    return NULL;
}

static struct measured other_round(const struct other *b, const struct data *d, uint32_t ef) {
    uint32_t queries = d->o->queries;
    int64_t start = clock_monotonic_us();
    uint64_t hits = 0;

    for (uint32_t q = 0; q < queries; q++) {
        uint32_t found[K];
        size_t count = baseline_search(b->graph, query_of(d, q), K, ef, found);
        hits += hits_of(d, q, found, count);
    }
    return (struct measured){(double)queries / seconds_since(start), (double)hits / K / (double)queries, 0.0};
}

static void other_fini(struct other *b) {
    baseline_free(b->graph);
}
#else
struct other {
    int none;
};
#endif

/* --- the run ---------------------------------------------------------------------------------------------------------- */

static void keep_best(struct measured *best, struct measured round) {
    if (round.per_second > best->per_second) {
        *best = round;
    }
}

static void compare_searches(const struct engine *e, const struct other *b, const struct data *d) {
    struct hnsw_scratch *scratch = hnsw_scratch_new();

    if (scratch == NULL) {
        die("out of memory");
    }
    printf("\nsearches, one thread, k = %d\n  ef     quire recall   per s  distances%s\n", K,
           b != NULL ? "   hnswlib recall   per s   ratio" : "");
    for (size_t i = 0; i < EF_COUNT; i++) {
        struct measured ours = {0};
        struct measured theirs = {0};
        for (int round = 0; round < ROUNDS; round++) {
            keep_best(&ours, engine_round(e, d, EFS[i], scratch));
#ifdef HAVE_HNSWLIB
            if (b != NULL) {
                keep_best(&theirs, other_round(b, d, EFS[i]));
            }
#endif
        }
        printf("  %-6u       %.4f  %6.0f  %9.0f", EFS[i], ours.recall, ours.per_second, ours.distances);
        if (b != NULL) {
            printf("           %.4f  %6.0f   %5.2f", theirs.recall, theirs.per_second, ours.per_second / theirs.per_second);
        }
        printf("\n");
        (void)fflush(stdout);
    }
    hnsw_scratch_free(scratch);
}

static void run(const struct options *o) {
    struct data d = {0};
    struct engine engine;
    const struct other *baseline = NULL;

    make_data(&d, o);
    printf("%u vectors of %u, %u queries, seed %llu; M %u, ef_construction %u; kernel %s\n\nbuilding\n", o->vectors, o->dimension,
           o->queries, (unsigned long long)o->seed, o->m, o->ef_construction, distance_kernel_name(distance_kernel_in_use()));
#ifdef HAVE_HNSWLIB
    struct other other = {0};
    for (unsigned threads = 1; !o->alone && threads <= MAX_THREADS; threads++) {
        if (threads > 1) {
            other_fini(&other);
        }
        other_init(&other, &d);
        print_build("hnswlib", threads, build_with(threads, other_insert_all, &other));
        printf("\n");
        (void)fflush(stdout);
        baseline = &other;
    }
#endif
    for (unsigned threads = 1; threads <= MAX_THREADS; threads++) {
        if (threads > 1) {
            engine_fini(&engine);
        }
        engine_init(&engine, &d);
        report_graph(&engine, threads, build_with(threads, engine_insert_all, &engine));
    }
    compare_searches(&engine, baseline, &d);
    engine_fini(&engine);
#ifdef HAVE_HNSWLIB
    if (baseline != NULL) {
        other_fini(&other);
    }
#endif
    free(d.base);
    free(d.truth);
}

static uint64_t number(const char *text, uint64_t least) {
    char *end;
    unsigned long long n = strtoull(text, &end, 10);

    if (end == text || *end != '\0' || n < least || n > INT32_MAX) {
        die("not a number, or one out of range");
    }
    return n;
}

static struct options read_options(int argc, char **argv) {
    static const struct option names[] = {
        {"vectors", required_argument, NULL, 'n'},
        {"queries", required_argument, NULL, 'q'},
        {"dimension", required_argument, NULL, 'd'},
        {"m", required_argument, NULL, 'm'},
        {"ef-construction", required_argument, NULL, 'e'},
        {"seed", required_argument, NULL, 's'},
        {"kernel", required_argument, NULL, 'k'},
        {"alone", no_argument, NULL, 'a'},
        {NULL, 0, NULL, 0},
    };
    struct options o = {.vectors = 100000,
                        .queries = 1000,
                        .dimension = 384,
                        .m = HNSW_DEFAULT_M,
                        .ef_construction = HNSW_DEFAULT_EF_CONSTRUCTION,
                        .seed = 42};
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (c) {
        case 'n':
            o.vectors = (uint32_t)number(optarg, K);
            break;
        case 'q':
            o.queries = (uint32_t)number(optarg, 1);
            break;
        case 'd':
            o.dimension = (uint32_t)number(optarg, 1);
            break;
        case 'm':
            o.m = (uint32_t)number(optarg, HNSW_MIN_M);
            break;
        case 'e':
            o.ef_construction = (uint32_t)number(optarg, 1);
            break;
        case 's':
            o.seed = number(optarg, 0);
            break;
        case 'k':
            o.kernel = optarg;
            break;
        case 'a':
            o.alone = true;
            break;
        default:
            exit(EXIT_FAILURE);
        }
    }
    if (o.m > HNSW_MAX_M) {
        die("--m is too large");
    }
    return o;
}

int main(int argc, char **argv) {
    struct options o = read_options(argc, argv);

    if (!distance_init(o.kernel)) {
        die("this CPU has no such kernel");
    }
    run(&o);
    return EXIT_SUCCESS;
}
