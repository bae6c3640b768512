/*
 * latency.h - how long many calls took, in fixed memory: a count for each of some two thousand ranges of microseconds, 64 in each power of two, so that a
 * quantile is exact to 1.6 percent up to an hour.
 */
#ifndef QUIRE_CLI_LATENCY_H
#define QUIRE_CLI_LATENCY_H

#include <stdint.h>

enum { LATENCY_STEPS = 64, LATENCY_POWERS = 27, LATENCY_RANGES = LATENCY_STEPS * LATENCY_POWERS };

struct latencies {
    uint64_t count, sum_us, most_us;
    uint64_t range[LATENCY_RANGES];
};

void latency_add(struct latencies *l, uint64_t us);
void latency_merge(struct latencies *into, const struct latencies *from);
/* Microseconds that the share q (0 to 1) took at most; 0 of none. */
uint64_t latency_quantile(const struct latencies *l, double q);

#endif
