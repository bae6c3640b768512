/* engine_curves.c - what the graph is worth: recall against speed, the time to build it, its memory, and how that grows. */
#include "engine.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double RATE_GOAL = 4.0;
static const double BUILD_GOAL = 0.33;
static const double TOUCHED_GOAL = 0.32;
static const double TOUCHED_GOAL_4_BITS = 0.22;
static const double ALL_GOAL = 1.25;
static const double LARGE_GOAL = 2.0;

static const double RECALLS[] = {0.90, 0.95, 0.97, 0.99, 0.995};
enum {
    RECALL_COUNT = sizeof RECALLS / sizeof *RECALLS,
    SMALLER = 10,
    WHAT_ROOM = 96,
    RATE_MAX_THREADS = 64,
    US_PER_SECOND = 1000000,
    HALF_BYTE = 4
};

static void print_points(const struct bench *b) {
    printf("  ef    ");
    for (uint32_t j = 0; j < b->entrants; j++) {
        printf("%11s recall   per s", b->field[j].kind->name);
    }
    printf("\n");
    for (uint32_t i = 0; i < b->o->ef_count; i++) {
        printf("  %-6u", b->o->efs[i]);
        for (uint32_t j = 0; j < b->entrants; j++) {
            struct measured m = b->field[j].curve.points[i];
            printf("           %.4f %8.0f", m.recall, m.per_second);
        }
        printf("\n");
    }
}

static void print_rates(const struct bench *b) {
    printf("  interpolated\n");
    for (uint32_t i = 0; i < RECALL_COUNT; i++) {
        printf("  %-6.3f", RECALLS[i]);
        for (uint32_t j = 0; j < b->entrants; j++) {
            double rate = curve_rate(&b->field[j].curve, RECALLS[i]);
            if (rate > 0.0) {
                printf("   ef %8.1f %14.0f", curve_ef(&b->field[j].curve, RECALLS[i]), rate);
            } else {
                printf("   %26s", "not reached");
            }
        }
        printf("\n");
    }
}

void run_curves(struct bench *b) {
    static const double goals[] = {0.95, 0.99};
    char what[WHAT_ROOM];

    field_enter(b, false);
    field_measure(b);
    printf("\nsearches per second of one thread's processor time, k = %d, best of %u rounds\n", K, b->o->rounds);
    print_points(b);
    print_rates(b);
    const struct entrant *hnswlib = field_find(b, "hnswlib");
    for (size_t i = 0; hnswlib != NULL && i < sizeof goals / sizeof *goals; i++) {
        double theirs = curve_rate(&hnswlib->curve, goals[i]);
        if (theirs > 0.0) {
            (void)snprintf(what, sizeof what, "searches per second over hnswlib's at recall %.2f", goals[i]);
            verdict_at_least(what, curve_rate(&b->field[0].curve, goals[i]) / theirs, RATE_GOAL);
        }
    }
    (void)fflush(stdout);
}

/* --- building --------------------------------------------------------------------------------------------------------- */

/* At each point of our curve, our rate over theirs at the recall that we have there. What ef means is each engine's own matter. */
static void compare_graphs(const struct curve *ours, const struct curve *theirs) {
    double slowest = 0.0;

    for (uint32_t i = 0; i < ours->count; i++) {
        double rate = curve_rate(theirs, ours->points[i].recall);
        if (rate > 0.0 && (slowest == 0.0 || ours->points[i].per_second / rate < slowest)) {
            slowest = ours->points[i].per_second / rate;
        }
    }
    verdict_at_least("our rate over hnswlib's at the same recall, where it is least", slowest, 1.0);
}

void run_build(struct bench *b) {
    field_leave(b);
    printf("\n");
    field_enter(b, true);
    const struct entrant *ours = &b->field[0];
    const struct entrant *hnswlib = field_find(b, "hnswlib");
    if (hnswlib == NULL) {
        return;
    }
    field_measure(b);
    printf("\nbuilding %u vectors on two threads\n", b->data.vectors);
    verdict_at_most("our time over hnswlib's, by the clock", ours->took.wall / hnswlib->took.wall, BUILD_GOAL);
    verdict_at_most("our time over hnswlib's, of the processors", ours->took.cpu / hnswlib->took.cpu, BUILD_GOAL);
    compare_graphs(&ours->curve, &hnswlib->curve);
}

/* --- memory ----------------------------------------------------------------------------------------------------------- */

void run_memory(struct bench *b) {
    struct contender_bytes bytes[MAX_FIELD];

    field_enter(b, false);
    printf("\nbytes a vector         a search touches        all\n");
    for (uint32_t i = 0; i < b->entrants; i++) {
        b->field[i].kind->bytes(b->field[i].engine, &bytes[i]);
        printf("  %-24s %12.1f %12.1f\n", b->field[i].kind->name, bytes[i].touched, bytes[i].all);
    }
    const struct entrant *hnswlib = field_find(b, "hnswlib");
    if (hnswlib != NULL) {
        double theirs = bytes[hnswlib - b->field].all;
        verdict_at_most("what a search touches over hnswlib's", bytes[0].touched / theirs,
                        b->o->bits == HALF_BYTE ? TOUCHED_GOAL_4_BITS : TOUCHED_GOAL);
        verdict_at_most("everything over hnswlib's", bytes[0].all / theirs, ALL_GOAL);
    }
}

/* --- a large one ------------------------------------------------------------------------------------------------------ */

static double latency_at(struct bench *b, double recall) {
    b->entrants = 1;
    b->field[0] = (struct entrant){.kind = &contender_quire};
    b->field[0].took = entrant_build(&b->field[0], &b->data, b->o->threads);
    b->field[0].searcher = contender_quire.searcher_new(b->field[0].engine);
    printf("  %u vectors: built in %.1f s on %u threads (%.1f s of CPU)\n", b->data.vectors, b->field[0].took.wall, b->o->threads,
           b->field[0].took.cpu);
    quire_describe(b->field[0].engine);
    field_measure(b);
    struct contender_bytes bytes;
    contender_quire.bytes(b->field[0].engine, &bytes);
    printf("  %.1f MB touched by searches, %.1f MB in all\n", bytes.touched * (double)b->data.vectors / 1e6,
           bytes.all * (double)b->data.vectors / 1e6);
    print_points(b);
    double rate = curve_rate(&b->field[0].curve, recall);
    field_leave(b);
    return rate > 0.0 ? 1e6 / rate : 0.0;
}

void run_large(struct bench *b) {
    struct bench smaller = {.o = b->o};

    field_leave(b);
    printf("\n%u vectors, and a tenth of that\n", b->o->vectors);
    data_make(&smaller.data, b->o, b->o->vectors / SMALLER);
    double before = latency_at(&smaller, b->o->recall);
    data_free(&smaller.data);
    double after = latency_at(b, b->o->recall);
    printf("  a search at recall %.2f: %.1f us, and %.1f us\n", b->o->recall, before, after);
    if (before > 0.0 && after > 0.0) {
        verdict_at_most("the time of a search over that of a tenth", after / before, LARGE_GOAL);
    } else {
        printf("  the recall was not reached with the ef tried\n");
    }
}

/* --- rates for others to set themselves beside ------------------------------------------------------------------------- */

struct rate_share {
    const struct bench *b;
    const struct entrant *e;
    void *searcher;
    uint32_t ef;
    double per_second; /* by the clock */
    double busy_us;    /* of a processor for a search */
};

static void *rate_one(void *ctx) {
    struct rate_share *s = ctx;
    struct entrant own = *s->e;
    uint64_t searches = 0;
    int64_t start = clock_monotonic_us();
    double busy = thread_seconds();

    own.searcher = s->searcher;
    do {
        (void)entrant_round(&own, &s->b->data, s->ef);
        searches += s->b->data.queries;
    } while (seconds_since(start) < (double)s->b->o->seconds);
    s->per_second = (double)searches / seconds_since(start);
    s->busy_us = (thread_seconds() - busy) * US_PER_SECOND / (double)searches;
    return NULL;
}

static double rate_together(const struct bench *b, const struct entrant *e, uint32_t ef, uint32_t threads, double *ret_busy_us) {
    pthread_t thread[RATE_MAX_THREADS];
    struct rate_share shares[RATE_MAX_THREADS];
    double sum = 0.0;
    double busy_us = 0.0;

    for (uint32_t i = 0; i < threads; i++) {
        shares[i] = (struct rate_share){b, e, e->kind->searcher_new(e->engine), ef, 0.0, 0.0};
        if (pthread_create(&thread[i], NULL, rate_one, &shares[i]) != 0) {
            die("no thread");
        }
    }
    for (uint32_t i = 0; i < threads; i++) {
        (void)pthread_join(thread[i], NULL);
        e->kind->searcher_free(shares[i].searcher);
        sum += shares[i].per_second;
        busy_us += shares[i].busy_us / threads;
    }
    *ret_busy_us = busy_us;
    return sum;
}

/* The least ef that reaches the recall; 0: none up to the greatest of the curve. */
static uint32_t least_ef(const struct bench *b, const struct entrant *e) {
    uint32_t low = 1;
    uint32_t high = entrant_ef(e, &b->data, b->o->recall);

    if (entrant_round(e, &b->data, high).recall < b->o->recall) {
        return 0;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (entrant_round(e, &b->data, middle).recall < b->o->recall) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return high;
}

void run_rate(struct bench *b) {
    field_enter(b, false);
    for (uint32_t i = 0; i < b->entrants; i++) {
        const struct entrant *e = &b->field[i];
        uint32_t ef = least_ef(b, e);
        for (uint32_t threads = 1; ef > 0 && threads <= b->o->threads; threads++) {
            double busy_us;
            double rate = rate_together(b, e, ef, threads, &busy_us);
            printf("RATE %s %.0f RECALL %.4f EF %u THREADS %u MICROSECONDS %.2f\n", e->kind->name, rate,
                   entrant_round(e, &b->data, ef).recall, ef, threads, busy_us);
            (void)fflush(stdout);
        }
    }
}
