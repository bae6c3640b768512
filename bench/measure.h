/* measure.h - what the programs that measure share: time, memory that must be there, curves of recall against speed, and goals in words. */
#ifndef QUIRE_BENCH_MEASURE_H
#define QUIRE_BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_POINTS = 24 };

_Noreturn void die(const char *what);
/* Zeroed, aligned to a page; there is no failure. free() it. */
void *allocate(size_t count, size_t size);
double seconds_since(int64_t start_us);
/* What this thread has had of a processor: the clock for searches of one thread, since others that run on the machine do not count. */
double thread_seconds(void);
/* A whole number; ends the program when it is none or out of range. */
uint64_t read_number(const char *text, uint64_t least, uint64_t most);

/* Say in words whether a figure is what was wanted of it. */
void verdict_at_least(const char *what, double value, double goal);
void verdict_at_most(const char *what, double value, double goal);

/* One point of a curve. */
struct measured {
    uint32_t ef;
    double recall;
    double per_second; /* of the searching thread's own time */
};

struct curve {
    struct measured points[MAX_POINTS]; /* ascending by ef */
    uint32_t count;
};

/* Searches per second at a recall: the logarithm of the rate is taken as linear in recall between neighbouring points. 0: not reached.
 * Below the least recall measured it is the rate there, which is not too high. */
double curve_rate(const struct curve *c, double recall);
double curve_ef(const struct curve *c, double recall);

#endif
