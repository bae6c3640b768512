/* parallel.h - one loop, on all cores. */
#ifndef QUIRE_BASE_PARALLEL_H
#define QUIRE_BASE_PARALLEL_H

#include <stddef.h>

/* Calls fn(ctx, i) for each i below `count`, in no order, on as many threads as there are cores (this one among them; 16 at most). A thread that cannot be
 * had leaves more to the others. Returns when all calls have returned. */
void parallel_for(size_t count, void (*fn)(void *ctx, size_t i), void *ctx);

#endif
