/*
 * write_back.h - changed pages of an arena go to the disk a few at a time.
 *
 * The kernel writes what has been changed for half a minute all at once, and whoever syncs a file meanwhile, a commit, waits behind that: some 30 ms for 60 MB where the
 * disk takes 2 GB a second. A graph is changed all over while it is being linked, so that all of it goes each time. What was written a few pages at a time just
 * before is not there to be written then.
 *
 * Nothing rests on it: durable is what a checkpoint has synced.
 */
#ifndef QUIRE_STORE_WRITE_BACK_H
#define QUIRE_STORE_WRITE_BACK_H

#include "store/catalog.h"

/* Files of which less than `least` bytes are in use are left alone. Linkers (backlog.h) find nothing to do in this library while its graph is written, and are to be woken behind it. Returns early
 * where *stop (atomic) becomes other than 0. *ret_bytes: looked through; 0 for a library that has not changed since the last call. A file that cannot be written holds none of the others
 * up. STATUS_IO and others. One thread at a time. */
MUST_CHECK bool library_write_back(struct library *lib, uint64_t least, const uint32_t *stop, uint64_t *ret_bytes, struct status *st);

#endif
