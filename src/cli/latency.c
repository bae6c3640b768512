/* latency.c - see latency.h. The first two powers have a range for each microsecond; from there on a range covers 1/64 of its power. */
#include "cli/latency.h"

enum { STEP_BITS = 6 };

static unsigned range_of(uint64_t us) {
    if (us < LATENCY_STEPS)
        return (unsigned)us;
    unsigned power = 63U - (unsigned)__builtin_clzll(us) - STEP_BITS; /* us >> power has STEP_BITS + 1 bits */
    uint64_t range = ((uint64_t)power << STEP_BITS) + (us >> power);
    return range < LATENCY_RANGES ? (unsigned)range : LATENCY_RANGES - 1;
}

/* The greatest value of a range. */
static uint64_t greatest(unsigned range) {
    if (range < 2 * LATENCY_STEPS)
        return range;
    unsigned power = (range >> STEP_BITS) - 1;
    uint64_t steps = range - ((uint64_t)power << STEP_BITS);
    return ((steps + 1) << power) - 1;
}

void latency_add(struct latencies *l, uint64_t us) {
    l->count++;
    l->sum_us += us;
    l->most_us = us > l->most_us ? us : l->most_us;
    l->range[range_of(us)]++;
}

void latency_merge(struct latencies *into, const struct latencies *from) {
    into->count += from->count;
    into->sum_us += from->sum_us;
    into->most_us = from->most_us > into->most_us ? from->most_us : into->most_us;
    for (unsigned i = 0; i < LATENCY_RANGES; i++)
        into->range[i] += from->range[i];
}

uint64_t latency_quantile(const struct latencies *l, double q) {
    double wanted = q * (double)l->count;
    uint64_t seen = 0;
    for (unsigned i = 0; i < LATENCY_RANGES && l->count > 0; i++) {
        seen += l->range[i];
        if ((double)seen >= wanted && seen > 0)
            return greatest(i) < l->most_us ? greatest(i) : l->most_us;
    }
    return l->most_us;
}
