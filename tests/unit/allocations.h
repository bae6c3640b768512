/*
 * allocations.h - allocations that fail, in a test that is linked with --wrap=malloc,--wrap=calloc,--wrap=realloc: the linker hands those of our own
 * libraries to allocations.c.
 */
#ifndef QUIRE_TESTS_ALLOCATIONS_H
#define QUIRE_TESTS_ALLOCATIONS_H

#include <stdbool.h>
#include <stdint.h>

/* Any thread may allocate meanwhile. */
extern unsigned allocations_left; /* 0: all are granted, else the last of so many fails */
extern bool allocations_end;      /* and all that come after it, too, until it is set to false */
extern uint64_t allocations_seen; /* since it was set to 0 */

#endif
