/* measure.c - see measure.h. */
#include "measure.h"

#include "base/clock.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAGE = 4096 };

void die(const char *what) {
    (void)fflush(stdout);
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
    exit(EXIT_FAILURE);
}

void *allocate(size_t count, size_t size) {
    void *p = aligned_alloc(PAGE, (count * size + PAGE - 1) / PAGE * PAGE + PAGE);
    if (p == NULL) {
        die("out of memory");
    }
    memset(p, 0, count * size);
    return p;
}

double seconds_since(int64_t start_us) {
    return (double)(clock_monotonic_us() - start_us) / 1e6;
}

double thread_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

uint64_t read_number(const char *text, uint64_t least, uint64_t most) {
    char *end;
    unsigned long long n = strtoull(text, &end, 10);

    if (end == text || *end != '\0' || n < least || n > most) {
        die("not a number, or one out of range");
    }
    return n;
}

static void verdict(const char *what, double value, const char *bound, double goal, bool reached) {
    printf("  %-66s %8.3f   %s %.3f: %s\n", what, value, bound, goal, reached ? "PASS" : "short of the goal");
    (void)fflush(stdout);
}

void verdict_at_least(const char *what, double value, double goal) {
    verdict(what, value, "at least", goal, value >= goal);
}

void verdict_at_most(const char *what, double value, double goal) {
    verdict(what, value, "at most", goal, value <= goal);
}

/* Where on the curve a recall is first reached: between points i - 1 and i, `share` of the way; i = count: nowhere. */
static uint32_t curve_at(const struct curve *c, double recall, double *ret_share) {
    uint32_t i = 0;

    while (i < c->count && c->points[i].recall < recall) {
        i++;
    }
    *ret_share = 1.0;
    if (i > 0 && i < c->count) {
        *ret_share = (recall - c->points[i - 1].recall) / (c->points[i].recall - c->points[i - 1].recall);
    }
    return i;
}

double curve_rate(const struct curve *c, double recall) {
    double share;
    uint32_t i = curve_at(c, recall, &share);

    if (i == c->count) {
        return 0.0;
    }
    double there = log(c->points[i].per_second);
    double before = i > 0 ? log(c->points[i - 1].per_second) : there;
    return exp(before + share * (there - before));
}

double curve_ef(const struct curve *c, double recall) {
    double share;
    uint32_t i = curve_at(c, recall, &share);

    if (i == c->count) {
        return 0.0;
    }
    double there = (double)c->points[i].ef;
    double before = i > 0 ? (double)c->points[i - 1].ef : there;
    return before + share * (there - before);
}
