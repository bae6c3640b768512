/*
 * allocations.h - allocations that fail, in a test that is linked with --wrap=malloc,--wrap=calloc,--wrap=realloc: the linker hands those of our own
 * libraries to allocations.c.
 */
#ifndef QUIRE_TESTS_ALLOCATIONS_H
#define QUIRE_TESTS_ALLOCATIONS_H

extern unsigned allocations_left; /* 0: all are granted, else the last of so many fails. One thread only */

#endif
