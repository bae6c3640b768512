/*
 * allocations.h - allocations that fail, in a test that is linked with --wrap=malloc,--wrap=calloc,--wrap=realloc: the linker hands those of our own
 * libraries to allocations.c.
 */
#ifndef QUIRE_TESTS_ALLOCATIONS_H
#define QUIRE_TESTS_ALLOCATIONS_H

#include <stdint.h>

/* Any thread may allocate meanwhile. */
struct allocations {
    uint32_t left; /* 0: all are granted, else the last of so many fails */
    uint32_t end;  /* not 0: and all that come after it, too, as long as this stands */
    uint64_t seen; /* to be set to 0 by whoever counts */
};
extern struct allocations *allocations; /* the program's own, unless somebody points it to others */

#endif
