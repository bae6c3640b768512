/*
 * lexical.c - how fast the inverted index is built and searched, beside SQLite FTS5 and Xapian in the same run where they are installed.
 *
 *   lexical [--texts N] [--queries N] [--vocabulary N] [--seed N] [--alone]     1000000 1000 200000 42
 *
 * Texts of 8 to 25 words are drawn from a vocabulary in which the word of rank r comes with a chance of 1 / (r + 10): what is left of a language without
 * its stop words. Queries of two and of five words (any of them) are drawn alike, so frequent words are frequent in them, too. Everybody gets the
 * same texts and the same queries and gives the ten best by BM25 with k1 1.2 and b 0.75. FTS5 is in memory, without contents, optimized; Xapian in a database in
 * a temporary directory, whose pages are in the cache. A slow contender is stopped after SECONDS_MAX a kind of query, and the ratio is then over the
 * queries that it has answered.
 */
#include "index/lexical.h"
#include "base/clock.h"
#ifdef HAVE_XAPIAN
#include "xapian_baseline.h"
#endif
#ifdef HAVE_SQLITE3
#include <sqlite3.h>
#endif

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { K = 10, SHORTEST = 8, LONGEST = 25, QUERY_WORDS_MAX = 5, WORD_BYTES = 16, FLATTENING = 10, BATCH = 100, SECONDS_MAX = 15 };
#define FILE_BYTES (UINT64_C(4) << 30)
#define NS_PER_S 1e9
#define NS_PER_MS 1e6
#define GOAL_RATIO 2.0
#define GOAL_P99_MS 5.0

struct bench {
    uint32_t texts;
    uint32_t queries;
    uint32_t vocabulary;
    uint64_t state;
    bool alone;
    const char *directory;
    double *chances; /* summed up, of the words by rank */
    char (*names)[WORD_BYTES];
    uint32_t *starts; /* text i has words [starts[i], starts[i + 1]) */
    uint32_t *words;
};

/* One contender's answers to one kind of query. */
struct run {
    const char *name;
    uint32_t answered;
    int64_t *ns; /* of each query */
    uint32_t (*hits)[K];
    size_t *found;
};

/* --- texts --- */

static uint64_t next_random(struct bench *b) {
    b->state = b->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return b->state >> 24;
}

static void *must(void *p) {
    if (p == NULL) {
        fputs("lexical: no memory\n", stderr);
        exit(1);
    }
    return p;
}

/* Syllables, the frequent words shorter, no two the same. */
static void name_word(uint32_t rank, char name[WORD_BYTES]) {
    static const char consonants[] = "bdfgklmnprstvz";
    static const char vowels[] = "aeiou";
    size_t at = 0;
    uint32_t left = rank;
    do {
        name[at++] = consonants[left % (sizeof consonants - 1)];
        left /= sizeof consonants - 1;
        name[at++] = vowels[left % (sizeof vowels - 1)];
        left /= sizeof vowels - 1;
    } while (left > 0);
    name[at++] = 'x'; /* ends no syllable: so names are told apart, and no stemmer finds an ending */
    name[at] = '\0';
}

static uint32_t draw_word(struct bench *b) {
    double u = (double)(next_random(b) & 0xffffffff) / 4294967296.0 * b->chances[b->vocabulary - 1];
    uint32_t low = 0;
    uint32_t high = b->vocabulary - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (b->chances[middle] < u) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void make_texts(struct bench *b) {
    double sum = 0;
    b->chances = must(calloc(b->vocabulary, sizeof *b->chances));
    b->names = must(calloc(b->vocabulary, sizeof *b->names));
    b->starts = must(calloc((size_t)b->texts + 1, sizeof *b->starts));
    b->words = must(calloc((size_t)b->texts * LONGEST, sizeof *b->words));
    for (uint32_t i = 0; i < b->vocabulary; i++) {
        sum += 1.0 / (i + FLATTENING);
        b->chances[i] = sum;
        name_word(i, b->names[i]);
    }
    for (uint32_t i = 0; i < b->texts; i++) {
        uint32_t length = SHORTEST + (uint32_t)(next_random(b) % (LONGEST - SHORTEST + 1));
        b->starts[i + 1] = b->starts[i] + length;
        for (uint32_t w = b->starts[i]; w < b->starts[i + 1]; w++) {
            b->words[w] = draw_word(b);
        }
    }
}

static size_t write_text(const struct bench *b, uint32_t i, char *out) {
    size_t at = 0;
    for (uint32_t w = b->starts[i]; w < b->starts[i + 1]; w++) {
        size_t length = strlen(b->names[b->words[w]]);
        memcpy(out + at, b->names[b->words[w]], length);
        at += length;
        out[at++] = ' ';
    }
    out[at] = '\0';
    return at;
}

/* --- running --- */

typedef size_t (*search_fn)(void *ctx, const struct bench *b, const uint32_t *words, uint32_t count, uint32_t hits[K]);

/* Of this thread: nobody has others, nothing waits for a disk, and a busy machine disturbs no comparison. */
static int64_t processor_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * (int64_t)NS_PER_S + t.tv_nsec;
}

static void run_queries(const struct bench *b, const uint32_t *queries, uint32_t words, search_fn search, void *ctx,
                        struct run *r) {
    int64_t begun = clock_monotonic_ns();
    r->ns = must(calloc(b->queries, sizeof *r->ns));
    r->hits = must(calloc(b->queries, sizeof *r->hits));
    r->found = must(calloc(b->queries, sizeof *r->found));
    for (r->answered = 0; r->answered < b->queries; r->answered++) {
        int64_t from = processor_ns();
        r->found[r->answered] = search(ctx, b, queries + (size_t)r->answered * words, words, r->hits[r->answered]);
        r->ns[r->answered] = processor_ns() - from;
        if (r->found[r->answered] > K) {
            fprintf(stderr, "lexical: %s failed\n", r->name);
            exit(1);
        }
        if ((double)(clock_monotonic_ns() - begun) > SECONDS_MAX * NS_PER_S) {
            r->answered++;
            break;
        }
    }
}

static int by_ns(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static double mean_ns(const struct run *r, uint32_t count) {
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += (double)r->ns[i];
    }
    return sum / count;
}

static double percentile_ms(const struct run *r, double part) {
    int64_t *sorted = must(calloc(r->answered, sizeof *sorted));
    memcpy(sorted, r->ns, r->answered * sizeof *sorted);
    qsort(sorted, r->answered, sizeof *sorted, by_ns);
    double ms = (double)sorted[(uint32_t)(part * (r->answered - 1))] / NS_PER_MS;
    free(sorted);
    return ms;
}

/* Hits that two have in common, in percent: the formulas differ in small things. */
static double in_common(const struct run *a, const struct run *b, uint32_t count) {
    uint64_t same = 0;
    uint64_t all = 0;
    for (uint32_t q = 0; q < count; q++) {
        all += a->found[q];
        for (size_t i = 0; i < a->found[q]; i++) {
            for (size_t j = 0; j < b->found[q]; j++) {
                same += a->hits[q][i] == b->hits[q][j];
            }
        }
    }
    return all == 0 ? 100 : 100.0 * (double)same / (double)all;
}

static void print_run(const struct run *r, const struct run *ours) {
    printf("  %-8s %9.0f queries/s   p50 %8.3f ms   p99 %8.3f ms   (%u queries)", r->name, NS_PER_S / mean_ns(r, r->answered),
           percentile_ms(r, 0.5), percentile_ms(r, 0.99), r->answered);
    if (r == ours) {
        printf("   goal p99 < %.0f ms: %s\n", GOAL_P99_MS, percentile_ms(r, 0.99) < GOAL_P99_MS ? "reached" : "MISSED");
        return;
    }
    double ratio = mean_ns(r, r->answered) / mean_ns(ours, r->answered);
    printf("   ours %.1f times (goal %.0f: %s), %.0f%% of hits the same\n", ratio, GOAL_RATIO,
           ratio >= GOAL_RATIO ? "reached" : "MISSED", in_common(r, ours, r->answered));
}

/* --- ours --- */

struct ours {
    struct lexical x;
    struct lexical_scratch *scratch;
    struct analyzer *analyzer;
    uint64_t tokens;
    uint64_t scored;
};

static bool any_slot(const void *ctx, uint32_t slot) {
    (void)ctx;
    (void)slot;
    return true;
}

static void *reserve_file(void) {
    void *file = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return must(file == MAP_FAILED ? NULL : file);
}

static void build_ours(const struct bench *b, struct ours *o) {
    char text[BATCH][LONGEST * WORD_BYTES];
    struct lexical_statistics s;
    struct status st;
    uint64_t furthest = 0;
    *o = (struct ours){.x = {reserve_file(), FILE_BYTES, reserve_file(), FILE_BYTES}, .scratch = must(lexical_scratch_new())};
    if (!analyzer_new(LANGUAGE_NONE, &o->analyzer, &st)) {
        must(NULL);
    }
    lexical_init(&o->x);
    int64_t from = processor_ns();
    for (uint32_t i = 0; i < b->texts; i += BATCH) {
        struct lexical_need need = {0};
        uint32_t count = b->texts - i < BATCH ? b->texts - i : BATCH;
        struct terms terms;
        uint64_t terms_bytes;
        uint64_t postings_bytes;
        for (uint32_t j = 0; j < count; j++) { /* as the committer does it: first the room of a batch, then the batch */
            analyze(o->analyzer, slice_of(text[j], write_text(b, i + j, text[j])), &terms);
            lexical_need(&o->x, &terms, &need);
        }
        lexical_room(&o->x, &need, &terms_bytes, &postings_bytes);
        furthest = terms_bytes + postings_bytes > furthest ? terms_bytes + postings_bytes : furthest;
        for (uint32_t j = 0; j < count; j++) {
            analyze(o->analyzer, slice_str(text[j]), &terms);
            lexical_add(&o->x, i + j, &terms);
            o->tokens += terms.length;
        }
    }
    double seconds = (double)(processor_ns() - from) / NS_PER_S;
    lexical_statistics(&o->x, &s);
    printf("ours     built in %6.1f s, %.1f us a text; %llu terms, %llu postings; %.1f MB: terms %.1f, postings %.1f; %.1f bytes "
           "a text, %.2f a posting "
           "(at most reserved: %.1f MB)\n",
           seconds, seconds * 1e6 / b->texts, (unsigned long long)s.terms, (unsigned long long)s.postings, (double)s.bytes / 1e6,
           (double)lexical_terms_used(&o->x) / 1e6, (double)lexical_postings_used(&o->x) / 1e6, (double)s.bytes / b->texts,
           (double)s.bytes / (double)s.postings, (double)furthest / 1e6);
}

static size_t search_ours(void *ctx, const struct bench *b, const uint32_t *words, uint32_t count, uint32_t hits[K]) {
    struct ours *o = ctx;
    char text[QUERY_WORDS_MAX * (WORD_BYTES + 1)];
    struct scored best[K];
    struct terms terms;
    uint64_t scored;
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s ", b->names[words[i]]);
    }
    analyze(o->analyzer, slice_of(text, at), &terms);
    struct lexical_query q = {.terms = &terms,
                              .k1 = LEXICAL_DEFAULT_K1,
                              .b = LEXICAL_DEFAULT_B,
                              .documents = b->texts,
                              .tokens = o->tokens,
                              .slots = b->texts,
                              .accept = {any_slot, NULL}};
    size_t found = lexical_search(&o->x, &q, K, o->scratch, best, &scored);
    o->scored += scored;
    for (size_t i = 0; i < found && found <= K; i++) {
        hits[i] = best[i].slot;
    }
    return found;
}

static void free_ours(struct ours *o) {
    munmap(o->x.terms, FILE_BYTES);
    munmap(o->x.postings, FILE_BYTES);
    lexical_scratch_free(o->scratch);
    analyzer_free(o->analyzer);
}

/* --- SQLite --- */

#ifdef HAVE_SQLITE3
struct fts5 {
    sqlite3 *db;
    sqlite3_stmt *search;
};

static void sqlite_must(struct fts5 *f, int rc, int wanted) {
    if (rc != wanted) {
        fprintf(stderr, "lexical: SQLite: %s\n", sqlite3_errmsg(f->db));
        exit(1);
    }
}

static void build_fts5(const struct bench *b, struct fts5 *f) {
    char text[LONGEST * WORD_BYTES];
    sqlite3_stmt *add;
    sqlite3_stmt *size;
    sqlite_must(f, sqlite3_open(":memory:", &f->db), SQLITE_OK);
    sqlite_must(f, sqlite3_exec(f->db, "CREATE VIRTUAL TABLE t USING fts5(x, content=''); BEGIN", NULL, NULL, NULL), SQLITE_OK);
    sqlite_must(f, sqlite3_prepare_v2(f->db, "INSERT INTO t(rowid, x) VALUES(?, ?)", -1, &add, NULL), SQLITE_OK);
    int64_t from = processor_ns();
    for (uint32_t i = 0; i < b->texts; i++) {
        size_t length = write_text(b, i, text);
        sqlite_must(f, sqlite3_bind_int64(add, 1, (sqlite3_int64)i + 1), SQLITE_OK);
        sqlite_must(f, sqlite3_bind_text(add, 2, text, (int)length, SQLITE_STATIC), SQLITE_OK);
        sqlite_must(f, sqlite3_step(add), SQLITE_DONE);
        sqlite_must(f, sqlite3_reset(add), SQLITE_OK);
    }
    sqlite3_finalize(add);
    sqlite_must(f, sqlite3_exec(f->db, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    double seconds = (double)(processor_ns() - from) / NS_PER_S;
    sqlite_must(f, sqlite3_exec(f->db, "INSERT INTO t(t) VALUES('optimize')", NULL, NULL, NULL), SQLITE_OK);
    sqlite_must(
        f,
        sqlite3_prepare_v2(f->db, "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()", -1, &size, NULL),
        SQLITE_OK);
    sqlite_must(f, sqlite3_step(size), SQLITE_ROW);
    printf("FTS5     built in %6.1f s; %.1f MB\n", seconds, (double)sqlite3_column_int64(size, 0) / 1e6);
    sqlite3_finalize(size);
    sqlite_must(f, sqlite3_prepare_v2(f->db, "SELECT rowid FROM t WHERE t MATCH ? ORDER BY rank LIMIT 10", -1, &f->search, NULL),
                SQLITE_OK);
}

static size_t search_fts5(void *ctx, const struct bench *b, const uint32_t *words, uint32_t count, uint32_t hits[K]) {
    struct fts5 *f = ctx;
    char text[QUERY_WORDS_MAX * (WORD_BYTES + 4)];
    size_t at = 0;
    size_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, i == 0 ? "%s" : " OR %s", b->names[words[i]]);
    }
    sqlite_must(f, sqlite3_bind_text(f->search, 1, text, (int)at, SQLITE_STATIC), SQLITE_OK);
    while (sqlite3_step(f->search) == SQLITE_ROW) {
        hits[found++] = (uint32_t)(sqlite3_column_int64(f->search, 0) - 1);
    }
    sqlite_must(f, sqlite3_reset(f->search), SQLITE_OK);
    return found;
}

static void free_fts5(struct fts5 *f) {
    sqlite3_finalize(f->search);
    sqlite3_close(f->db);
}
#endif

/* --- Xapian --- */

#ifdef HAVE_XAPIAN
static struct xapian_baseline *build_xapian(const struct bench *b) {
    const char *words[LONGEST];
    struct xapian_baseline *x = must(xapian_baseline_new(b->directory));
    int64_t from = processor_ns();
    int done = 1;
    for (uint32_t i = 0; i < b->texts && done != 0; i++) {
        uint32_t count = b->starts[i + 1] - b->starts[i];
        for (uint32_t w = 0; w < count; w++) {
            words[w] = b->names[b->words[b->starts[i] + w]];
        }
        done = xapian_baseline_add(x, words, count);
    }
    if (done == 0 || xapian_baseline_commit(x) == 0) {
        fputs("lexical: Xapian failed\n", stderr);
        exit(1);
    }
    printf("Xapian   built in %6.1f s\n", (double)(processor_ns() - from) / NS_PER_S);
    return x;
}

static size_t search_xapian(void *ctx, const struct bench *b, const uint32_t *words, uint32_t count, uint32_t hits[K]) {
    const char *names[QUERY_WORDS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        names[i] = b->names[words[i]];
    }
    return xapian_baseline_search(ctx, names, count, K, hits);
}

static void remove_directory(const char *directory) {
    static const char *const files[] = {"docdata.glass", "flintlock", "iamglass", "postlist.glass", "termlist.glass"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, files[i]);
        remove(path);
    }
    remove(directory);
}
#endif

/* --- analysis --- */

/* What English prose of 500 bytes takes. */
static void measure_analyzer(void) {
    static const char prose[] = "The harbour was quieter than she remembered. Where the fishing boats had once crowded against "
                                "each other three deep, only a handful "
                                "of small sailing yachts now rocked at their moorings, and the old warehouse at the end of the "
                                "pier had been turned into a restaurant with large "
                                "windows and expensive lamps. She walked slowly along the wall, reading the names painted on the "
                                "hulls, and wondered which of them belonged to "
                                "people who actually lived here. A dog barked twice and then fell silent again. Somebody was "
                                "repairing an engine; the smell of diesel drifted "
                                "over the water, mixed with salt and seaweed, and for a moment it was exactly as it had been "
                                "thirty years before. Her brother would have laughed "
                                "at her for being sentimental. He had never cared about the past, only about schedules, tides "
                                "and the price of mackerel on Thursday mornings. ";
    enum { PIECE = 500, ROUNDS = 20000 };
    struct analyzer *a = NULL;
    struct status st;
    struct terms t;
    uint64_t terms = 0;
    if (!analyzer_new("english", &a, &st)) {
        must(NULL);
    }
    int64_t from = processor_ns();
    for (uint32_t i = 0; i < ROUNDS; i++) {
        analyze(a, slice_of(prose + i * 7 % (sizeof prose - 1 - PIECE), PIECE), &t);
        terms += t.length;
    }
    printf("analysis of 500 bytes of English: %.2f us, %.1f terms (goal 4 us)\n", (double)(processor_ns() - from) / 1e3 / ROUNDS,
           (double)terms / ROUNDS);
    analyzer_free(a);
}

/* --- all --- */

static void draw_queries(struct bench *b, uint32_t *queries, uint32_t words) {
    for (uint32_t q = 0; q < b->queries; q++) {
        for (uint32_t i = 0; i < words;) {
            uint32_t word = draw_word(b);
            uint32_t j = 0;
            while (j < i && queries[q * words + j] != word) {
                j++;
            }
            if (j == i) {
                queries[q * words + i++] = word;
            }
        }
    }
}

static void bench_all(struct bench *b) {
    static const uint32_t kinds[] = {2, 5};
    struct ours o;
    make_texts(b);
    build_ours(b, &o);
#ifdef HAVE_SQLITE3
    struct fts5 f = {0};
    if (!b->alone) {
        build_fts5(b, &f);
    }
#endif
#ifdef HAVE_XAPIAN
    struct xapian_baseline *x = b->alone ? NULL : build_xapian(b);
#endif
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        uint32_t words = kinds[kind];
        uint32_t *queries = must(calloc((size_t)b->queries * words, sizeof *queries));
        struct run ours = {.name = "ours"};
        struct run warm = {.name = "warm"};
        draw_queries(b, queries, words);
        run_queries(b, queries, words, search_ours, &o, &warm);
        o.scored = 0;
        run_queries(b, queries, words, search_ours, &o, &ours);
        printf("%u words, any of them, %u texts\n", words, b->texts);
        print_run(&ours, &ours);
        printf("           %.0f postings scored a query\n", (double)o.scored / b->queries);
#ifdef HAVE_SQLITE3
        if (!b->alone) {
            struct run fts = {.name = "FTS5"};
            run_queries(b, queries, words, search_fts5, &f, &fts);
            print_run(&fts, &ours);
        }
#endif
#ifdef HAVE_XAPIAN
        if (!b->alone) {
            struct run xapian = {.name = "Xapian"};
            run_queries(b, queries, words, search_xapian, x, &xapian);
            print_run(&xapian, &ours);
        }
#endif
        free(queries);
    }
    free_ours(&o);
#ifdef HAVE_SQLITE3
    if (!b->alone) {
        free_fts5(&f);
    }
#endif
#ifdef HAVE_XAPIAN
    xapian_baseline_free(x);
#endif
}

static uint32_t number(const char *text, uint32_t least) {
    unsigned long v = strtoul(text, NULL, 10);
    if (v < least || v > UINT32_MAX / LONGEST) {
        fprintf(stderr, "lexical: %s is out of range\n", text);
        exit(2);
    }
    return (uint32_t)v;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"texts", required_argument, NULL, 't'},
                                            {"queries", required_argument, NULL, 'q'},
                                            {"vocabulary", required_argument, NULL, 'v'},
                                            {"seed", required_argument, NULL, 's'},
                                            {"alone", no_argument, NULL, 'a'},
                                            {NULL, 0, NULL, 0}};
    struct bench b = {.texts = 1000000, .queries = 1000, .vocabulary = 200000, .state = 42};
    const char *temporary = getenv("TMPDIR");
    char directory[PATH_MAX];
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 't':
            b.texts = number(optarg, 1000);
            break;
        case 'q':
            b.queries = number(optarg, 10);
            break;
        case 'v':
            b.vocabulary = number(optarg, 10);
            break;
        case 's':
            b.state = number(optarg, 0);
            break;
        case 'a':
            b.alone = true;
            break;
        default:
            return 2;
        }
    }
    measure_analyzer();
    snprintf(directory, sizeof directory, "%s/quire-lexical-XXXXXX", temporary == NULL ? P_tmpdir : temporary);
    b.directory = must(mkdtemp(directory));
    bench_all(&b);
#ifdef HAVE_XAPIAN
    remove_directory(b.directory);
#else
    remove(b.directory);
#endif
    return 0;
}
