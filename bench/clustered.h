/*
 * clustered.h - vectors that are distributed as those of texts are: in clusters of uneven size and spread, on a curved surface of
 * few dimensions within many, with a little noise. Uniformly random vectors would be no test: in 384 dimensions they have no near
 * neighbours.
 *
 *   centre   N(0, I) in 40 dimensions, 2,000 of them, chosen with weight 1/sqrt(1 + rank), spread s uniform in [0.5, 1.5]
 *   z        centre + 0.9 s N(0, I)
 *   x        tanh(A z) + 0.25 N(0, I), A_ij from N(0, 1/40), scaled to unit length
 *
 * The same seed gives the same vectors (up to the libm's last bits).
 */
#ifndef QUIRE_BENCH_CLUSTERED_H
#define QUIRE_BENCH_CLUSTERED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct clustered;

/* NULL: no memory. */
struct clustered *clustered_new(uint64_t seed, uint32_t dimension, uint32_t centres);
void clustered_free(struct clustered *c);
/* The next vector of the process: `dimension` floats. */
void clustered_next(struct clustered *c, float *out);
/* Other random numbers from here on; the clusters stay. */
void clustered_go_on(struct clustered *c, uint64_t seed);

#endif
