/* engine_together.c - searching while others do something: another process that searches too, a writer that puts vectors in.
 *
 * The searchers are forked processes, as the workers of the server are, over memory that they share with the writer. */
#include "engine.h"

#include "base/clock.h"
#include "shm/atomics.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    SEARCHERS = 2,
    INSERTS_PER_SECOND = 1000,
    MAX_SAMPLES = 1 << 21,
    NS_PER_SECOND = 1000000000,
    US_PER_SECOND = 1000000,
    PHASES = 2
};

static const double PROCESSES_GOAL = 1.9;
static const double INSERT_GOAL = 1.5;
static const double SEARCH_RECALL = 0.95;
static const double PERCENTILE = 0.99;
static const double MEDIAN = 0.5;

static void *share(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        die("out of memory");
    }
    return p;
}

static void pause_for(double seconds) {
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * NS_PER_SECOND)};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) {
    }
}

static pid_t start_process(void (*body)(void *ctx), void *ctx) {
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        die("no process");
    }
    if (pid == 0) {
        body(ctx);
        _exit(EXIT_SUCCESS);
    }
    return pid;
}

static void await_process(pid_t pid) {
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || status != 0) {
        die("a searching process failed");
    }
}

/* --- two processes ---------------------------------------------------------------------------------------------------- */

/* In shared memory. */
struct race {
    uint32_t ready;
    uint32_t stop;
    uint64_t searches[SEARCHERS];
    uint64_t busy_us[SEARCHERS]; /* of a processor, when that many searches were done */
};

struct runner {
    struct bench *b;
    struct race *race;
    uint32_t which;
    uint32_t ef;
};

static void race_body(void *ctx) {
    struct runner *r = ctx;
    const struct data *d = &r->b->data;
    const struct quire *q = r->b->field[0].engine;
    struct quire_searcher *s = quire_searcher_new(q);
    struct neighbor found[K];
    uint64_t searches = 0;
    double before;

    if (s == NULL) {
        _exit(EXIT_FAILURE);
    }
    for (uint32_t i = 0; i < d->queries; i++) { /* so that its pages are mapped before the clock runs */
        (void)quire_search(q, s, data_query(d, i), K, r->ef, found);
    }
    before = thread_seconds();
    (void)__atomic_fetch_add(&r->race->ready, 1, __ATOMIC_RELEASE);
    while (load_acquire_u32(&r->race->stop) == 0) {
        (void)quire_search(q, s, data_query(d, (uint32_t)(searches % d->queries)), K, r->ef, found);
        searches++;
        store_relaxed_u64(&r->race->searches[r->which], searches);
    }
    store_relaxed_u64(&r->race->busy_us[r->which], (uint64_t)((thread_seconds() - before) * US_PER_SECOND));
    quire_searcher_free(s);
}

static uint64_t searches_of(const struct race *race) {
    uint64_t sum = 0;
    for (size_t i = 0; i < SEARCHERS; i++) {
        sum += load_relaxed_u64(&race->searches[i]);
    }
    return sum;
}

struct pace {
    double by_clock;
    double by_processor; /* the rates that the processes would have with a processor each, summed up */
};

static struct pace race_run(struct bench *b, struct race *race, uint32_t processes, uint32_t ef) {
    pid_t pids[SEARCHERS];
    struct runner runners[SEARCHERS];
    struct pace pace = {0};

    memset(race, 0, sizeof *race);
    for (uint32_t i = 0; i < processes; i++) {
        runners[i] = (struct runner){b, race, i, ef};
        pids[i] = start_process(race_body, &runners[i]);
    }
    while (load_acquire_u32(&race->ready) < processes) {
        pause_for(0.001);
    }
    uint64_t before = searches_of(race);
    int64_t start = clock_monotonic_us();
    pause_for((double)b->o->seconds);
    pace.by_clock = (double)(searches_of(race) - before) / seconds_since(start);
    store_release_u32(&race->stop, 1);
    for (uint32_t i = 0; i < processes; i++) {
        await_process(pids[i]);
        pace.by_processor += (double)race->searches[i] * US_PER_SECOND / (double)race->busy_us[i];
    }
    return pace;
}

void run_processes(struct bench *b) {
    struct race *race = share(sizeof *race);
    struct pace best[SEARCHERS + 1] = {0};

    field_enter(b, false);
    uint32_t ef = entrant_ef(&b->field[0], &b->data, SEARCH_RECALL);
    for (uint32_t round = 0; round < b->o->rounds; round++) {
        for (uint32_t n = 1; n <= SEARCHERS; n++) {
            struct pace pace = race_run(b, race, n, ef);
            best[n].by_clock = pace.by_clock > best[n].by_clock ? pace.by_clock : best[n].by_clock;
            best[n].by_processor = pace.by_processor > best[n].by_processor ? pace.by_processor : best[n].by_processor;
        }
    }
    printf("\nprocesses searching the same memory, ef %u: one %.0f per s, two %.0f\n", ef, best[1].by_clock,
           best[SEARCHERS].by_clock);
    verdict_at_least("two processes' rate over one's, by the clock", best[SEARCHERS].by_clock / best[1].by_clock, PROCESSES_GOAL);
    verdict_at_least("the same by their processor time (where others run on the machine)",
                     best[SEARCHERS].by_processor / best[1].by_processor, PROCESSES_GOAL);
    (void)munmap(race, sizeof *race);
}

/* --- insertion while searching ---------------------------------------------------------------------------------------- */

enum phase { QUIET, BUSY, OVER };
/* The processor's does not count what others that run on the machine take, nor waiting. */
enum which_clock { ON_THE_WALL, OF_THE_PROCESSOR, CLOCKS };

/* In shared memory. */
struct watch {
    uint32_t ready;
    uint32_t phase;
    uint32_t count[PHASES];
    uint32_t ns[CLOCKS][PHASES][MAX_SAMPLES];
};

struct insertion {
    struct bench *b;
    struct quire *q;
    struct watch *watch;
    const float *more; /* vectors to come */
    uint32_t ef;
    uint32_t next;   /* of them */
    uint32_t missed; /* not found by their own vectors at once */
    sem_t put;       /* posted for each that is to be linked */
    bool over;
    double seconds; /* spent inserting */
};

static void watch_body(void *ctx) {
    const struct insertion *in = ctx;
    const struct data *d = &in->b->data;
    struct quire_searcher *s = quire_searcher_new(in->q);
    struct neighbor found[K];
    uint32_t phase;

    if (s == NULL) {
        _exit(EXIT_FAILURE);
    }
    for (uint32_t i = 0; (phase = load_acquire_u32(&in->watch->phase)) != OVER; i = (i + 1) % d->queries) {
        int64_t start = clock_monotonic_ns();
        double busy = thread_seconds();
        (void)quire_search(in->q, s, data_query(d, i), K, in->ef, found);
        busy = thread_seconds() - busy;
        int64_t took = clock_monotonic_ns() - start;
        uint32_t *count = &in->watch->count[phase];
        if (*count < MAX_SAMPLES) {
            in->watch->ns[ON_THE_WALL][phase][*count] = (uint32_t)took;
            in->watch->ns[OF_THE_PROCESSOR][phase][*count] = (uint32_t)(busy * NS_PER_SECOND);
            (*count)++;
        }
        store_release_u32(&in->watch->ready, 1);
    }
    quire_searcher_free(s);
}

static void *link_body(void *ctx) {
    struct insertion *in = ctx;
    struct quire_searcher *s = quire_searcher_new(in->q);

    if (s == NULL) {
        die("out of memory");
    }
    for (;;) {
        while (sem_wait(&in->put) != 0) {
        }
        if (__atomic_load_n(&in->over, __ATOMIC_ACQUIRE)) {
            break;
        }
        if (!quire_link_pending(in->q, s)) {
            die("linking failed");
        }
    }
    quire_searcher_free(s);
    return NULL;
}

/* At an even pace; one that comes late is followed by the next at once. */
static void insert_for(struct insertion *in, struct quire_searcher *s, double seconds) {
    const struct data *d = &in->b->data;
    int64_t start = clock_monotonic_us();
    uint32_t count = (uint32_t)(seconds * INSERTS_PER_SECOND);

    for (uint32_t i = 0; i < count; i++) {
        const float *vector = in->more + (size_t)in->next++ * d->stride;
        struct neighbor found[1];
        double early = (double)i / INSERTS_PER_SECOND - seconds_since(start);
        if (early > 0.0) {
            pause_for(early);
        }
        uint32_t slot = quire_put(in->q, vector);
        size_t n = quire_search(in->q, s, vector, 1, in->ef, found);
        in->missed += n == 0 || found[0].slot != slot;
        (void)sem_post(&in->put);
    }
    in->seconds += seconds_since(start);
}

static int compare_u32(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile_us(struct watch *w, enum which_clock clock, enum phase phase, double share_below) {
    uint32_t n = w->count[phase];
    uint32_t *ns = w->ns[clock][phase];
    if (n == 0) {
        return 0.0;
    }
    qsort(ns, n, sizeof *ns, compare_u32);
    return ns[(uint32_t)((double)(n - 1) * share_below)] / 1e3;
}

static void report_insertion(struct insertion *in) {
    static const char *const clocks[] = {"by the clock", "of the processor"};
    struct watch *w = in->watch;
    double quiet[CLOCKS];
    double busy[CLOCKS];

    printf("\ninsertion while searching: %.0f inserts per s, ef %u; %u searches without, %u with\n", in->next / in->seconds,
           in->ef, w->count[QUIET], w->count[BUSY]);
    for (enum which_clock c = ON_THE_WALL; c < CLOCKS; c++) {
        quiet[c] = percentile_us(w, c, QUIET, PERCENTILE);
        busy[c] = percentile_us(w, c, BUSY, PERCENTILE);
        printf("  %-18s without: p50 %.1f us, p99 %.1f us; with: p50 %.1f us, p99 %.1f us\n", clocks[c],
               percentile_us(w, c, QUIET, MEDIAN), quiet[c], percentile_us(w, c, BUSY, MEDIAN), busy[c]);
    }
    verdict_at_most("p99 of searches over that without insertion, by the clock", busy[ON_THE_WALL] / quiet[ON_THE_WALL],
                    INSERT_GOAL);
    verdict_at_most("the same by their processor time (where others run on the machine)",
                    busy[OF_THE_PROCESSOR] / quiet[OF_THE_PROCESSOR], INSERT_GOAL);
    verdict_at_least("share of the inserted found at once by themselves", 1.0 - (double)in->missed / in->next, 1.0);
}

static void run_phases(struct insertion *in, struct quire_searcher *s) {
    pid_t pid = start_process(watch_body, in);
    pthread_t linker;

    if (pthread_create(&linker, NULL, link_body, in) != 0) {
        die("no thread");
    }
    while (load_acquire_u32(&in->watch->ready) == 0) {
        pause_for(0.001);
    }
    for (uint32_t round = 0; round < in->b->o->rounds; round++) {
        store_release_u32(&in->watch->phase, QUIET);
        pause_for((double)in->b->o->seconds);
        store_release_u32(&in->watch->phase, BUSY);
        insert_for(in, s, (double)in->b->o->seconds);
    }
    store_release_u32(&in->watch->phase, OVER);
    await_process(pid);
    __atomic_store_n(&in->over, true, __ATOMIC_RELEASE);
    (void)sem_post(&in->put);
    (void)pthread_join(linker, NULL);
}

void run_insert(struct bench *b) {
    const struct data *d = &b->data;
    uint32_t more = b->o->rounds * b->o->seconds * INSERTS_PER_SECOND;
    struct contender_shape shape = {d->dimension, d->vectors + more, b->o->m, b->o->ef_construction, b->o->bits};
    struct insertion in = {.b = b, .q = quire_new(&shape), .watch = share(sizeof *in.watch)};
    float *vectors = data_more(d, more);

    if (in.q == NULL || !contender_quire.insert_all(in.q, d->rows, d->stride, d->vectors, b->o->threads)) {
        die("out of memory");
    }
    struct quire_searcher *s = quire_searcher_new(in.q);
    if (s == NULL || sem_init(&in.put, 0, 0) != 0) {
        die("out of memory");
    }
    struct entrant e = {.kind = &contender_quire, .engine = in.q, .searcher = s};
    in.more = vectors;
    in.ef = entrant_ef(&e, d, SEARCH_RECALL);
    run_phases(&in, s);
    report_insertion(&in);
    (void)sem_destroy(&in.put);
    quire_searcher_free(s);
    quire_free(in.q);
    free(vectors);
    (void)munmap(in.watch, sizeof *in.watch);
}
