/*
 * engine.c - how fast and how well our engine searches, is built and changes, beside hnswlib and faiss in the same run where they are installed.
 *
 *   engine [PART]... [OPTION]...
 *
 *   --curves      recall@10 against searches per second of one thread, for all; the rate at 0.95 and 0.99 (the default)
 *   --build       the time to build on two threads, and whether the graph is as good as the other's
 *   --memory      bytes a vector
 *   --processes   two processes that search the same memory
 *   --insert      searching while 1,000 vectors a second come in
 *   --churn       half of all vectors replaced
 *   --exact       the exact scan
 *   --all         all of these
 *   --large       1,000,000 vectors: time, memory and latency (--vectors makes it smaller)
 *   --rate        searches per second at --recall on 1 to --threads threads, in lines that bench/http reads
 *
 *   --vectors N --queries N --dimension N --seed N    100000 1000 384 42
 *   --m N --ef-construction N    of our graph (the others have 16 and 200)
 *   --ef N,N,...     the points of the curves
 *   --rounds N       of which the best counts; they alternate between the contenders, so that a busy machine disturbs all alike (3)
 *   --seconds N      of the parts that go by time (5)
 *   --kernel NAME    plain, avx2 or avx512, for ours
 *   --cache DIR      keeps the data and the other libraries' graphs
 *   --bits N         of our codes: 8, 4 or 0 (8)
 *   --against NAME   only this other one: hnswlib, faiss or "faiss sq8"
 *   --alone          ours only
 *
 * Rates of one thread are by its own processor time, so that they mean something on a busy machine, too.
 * Each goal is printed with what was measured, and whether it was reached; nothing here fails a test.
 */
#include "engine.h"

#include "index/distance.h"
#include "index/hnsw.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROUNDS = 100, MAX_SECONDS = 3600, MAX_THREADS = 64 };

/* --- options ---------------------------------------------------------------------------------------------------------- */

struct part {
    const char *name;
    void (*run)(struct bench *b);
    bool in_all;
};

static const struct part PARTS[] = {
    {"build", run_build, true},         {"curves", run_curves, true}, {"memory", run_memory, true},
    {"processes", run_processes, true}, {"insert", run_insert, true}, {"churn", run_churn, true},
    {"exact", run_exact, true},         {"large", run_large, false},  {"rate", run_rate, false},
};
enum { PART_COUNT = sizeof PARTS / sizeof *PARTS, PART_CURVES = 1 };

static const uint32_t EFS[] = {10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};

static double share(const char *text) {
    char *end;
    double n = strtod(text, &end);

    if (end == text || *end != '\0' || !(n > 0.0 && n <= 1.0)) {
        die("--recall takes a number up to 1");
    }
    return n;
}

static void read_efs(struct options *o, const char *text) {
    o->ef_count = 0;
    while (*text != '\0') {
        char *end;
        unsigned long n = strtoul(text, &end, 10);
        if (end == text || n < 1 || n > UINT16_MAX || o->ef_count == MAX_POINTS || (*end != ',' && *end != '\0')) {
            die("--ef takes numbers with commas between");
        }
        o->efs[o->ef_count++] = (uint32_t)n;
        text = *end == ',' ? end + 1 : end;
    }
}

static unsigned part_of(const char *name) {
    unsigned all = 0;

    for (unsigned i = 0; i < PART_COUNT; i++) {
        if (strcmp(PARTS[i].name, name) == 0) {
            return 1U << i;
        }
        all |= PARTS[i].in_all ? 1U << i : 0;
    }
    return all;
}

/* The options that take a value; false: no such one. */
static bool set_option(struct options *o, int c, const char *value) {
    switch (c) {
    case 'n':
        o->vectors = (uint32_t)read_number(value, K, INT32_MAX);
        return true;
    case 'q':
        o->queries = (uint32_t)read_number(value, 1, INT32_MAX);
        return true;
    case 'd':
        o->dimension = (uint32_t)read_number(value, 1, UINT16_MAX);
        return true;
    case 'm':
        o->m = (uint32_t)read_number(value, HNSW_MIN_M, HNSW_MAX_M);
        return true;
    case 'e':
        o->ef_construction = (uint32_t)read_number(value, 1, UINT16_MAX);
        return true;
    case 'b':
        o->bits = (uint32_t)read_number(value, 0, 8);
        return o->bits % 4 == 0;
    case 'g':
        o->against = value;
        return true;
    case 's':
        o->seed = read_number(value, 0, INT64_MAX);
        return true;
    case 'f':
        read_efs(o, value);
        return true;
    case 'r':
        o->rounds = (uint32_t)read_number(value, 1, MAX_ROUNDS);
        return true;
    case 'w':
        o->seconds = (uint32_t)read_number(value, 1, MAX_SECONDS);
        return true;
    case 't':
        o->threads = (uint32_t)read_number(value, 1, MAX_THREADS);
        return true;
    case 'y':
        o->recall = share(value);
        return true;
    case 'k':
        o->kernel = value;
        return true;
    case 'c':
        o->cache = value;
        return true;
    default:
        return false;
    }
}

static struct options read_options(int argc, char **argv) {
    static const struct option names[] = {
        {"vectors", required_argument, NULL, 'n'},
        {"queries", required_argument, NULL, 'q'},
        {"dimension", required_argument, NULL, 'd'},
        {"m", required_argument, NULL, 'm'},
        {"ef-construction", required_argument, NULL, 'e'},
        {"seed", required_argument, NULL, 's'},
        {"ef", required_argument, NULL, 'f'},
        {"rounds", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 'w'},
        {"threads", required_argument, NULL, 't'},
        {"recall", required_argument, NULL, 'y'},
        {"kernel", required_argument, NULL, 'k'},
        {"cache", required_argument, NULL, 'c'},
        {"bits", required_argument, NULL, 'b'},
        {"against", required_argument, NULL, 'g'},
        {"alone", no_argument, NULL, 'a'},
        {"curves", no_argument, NULL, 'p'},
        {"build", no_argument, NULL, 'p'},
        {"memory", no_argument, NULL, 'p'},
        {"processes", no_argument, NULL, 'p'},
        {"insert", no_argument, NULL, 'p'},
        {"churn", no_argument, NULL, 'p'},
        {"exact", no_argument, NULL, 'p'},
        {"large", no_argument, NULL, 'p'},
        {"rate", no_argument, NULL, 'p'},
        {"all", no_argument, NULL, 'p'},
        {NULL, 0, NULL, 0},
    };
    struct options o = {.queries = 1000,
                        .dimension = 384,
                        .m = HNSW_DEFAULT_M,
                        .ef_construction = HNSW_DEFAULT_EF_CONSTRUCTION,
                        .bits = 8,
                        .seed = 42,
                        .rounds = 3,
                        .threads = 2,
                        .recall = 0.95,
                        .seconds = 5,
                        .ef_count = sizeof EFS / sizeof *EFS};
    int c;
    int which;

    memcpy(o.efs, EFS, sizeof EFS);
    while ((c = getopt_long(argc, argv, "", names, &which)) != -1) {
        if (c == 'a') {
            o.against = "";
        } else if (c == 'p') {
            o.modes |= part_of(names[which].name);
        } else if (!set_option(&o, c, optarg)) {
            exit(EXIT_FAILURE);
        }
    }
    if (o.modes == 0) {
        o.modes = 1U << PART_CURVES;
    }
    return o;
}

int main(int argc, char **argv) {
    struct options o = read_options(argc, argv);
    struct bench b = {.o = &o};
    unsigned large = part_of("large");

    if (!distance_init(o.kernel)) {
        die("this CPU has no such kernel");
    }
    if (o.vectors == 0) {
        o.vectors = o.modes == large ? 1000000 : 100000;
    }
    data_make(&b.data, &o, o.vectors);
    printf("%u vectors of %u, %u queries, seed %llu; M %u, ef_construction %u; kernel %s\n", o.vectors, o.dimension, o.queries,
           (unsigned long long)o.seed, o.m, o.ef_construction, distance_kernel_name(distance_kernel_in_use()));
    (void)fflush(stdout);
    for (unsigned i = 0; i < PART_COUNT; i++) {
        if ((o.modes & 1U << i) != 0) {
            PARTS[i].run(&b);
        }
    }
    field_leave(&b);
    data_free(&b.data);
    return EXIT_SUCCESS;
}
