/*
 * confine.h - giving up every right, for a process that reads bytes from strangers: it keeps what it has open, and can do nothing but read that, compute,
 * and write to a pipe that it was given.
 */
#ifndef QUIRE_BASE_CONFINE_H
#define QUIRE_BASE_CONFINE_H

#include "base/status.h"

struct confinement {
    uint64_t memory_bytes; /* of private memory (RLIMIT_DATA), above what is in use; not held under a sanitizer, which maps terabytes */
    uint64_t cpu_seconds;
};

/* From now on this process is nobody (where it was root), gains no rights by any program, writes no core and no file, has no more memory and time than
 * given, and of the system's calls only those that read, write and wait on descriptors it has, map memory, tell the time and end. All others, open
 * and socket among them, fail with EPERM. For good. One thread only. */
MUST_CHECK bool confine_self(const struct confinement *c, struct status *st);

#endif
