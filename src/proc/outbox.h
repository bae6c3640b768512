/*
 * outbox.h - bytes that wait until a channel that does not block takes them. What has been sent goes, also while more keeps coming: memory is bounded by what waits, not by
 * what has ever waited since it was last empty.
 */
#ifndef QUIRE_PROC_OUTBOX_H
#define QUIRE_PROC_OUTBOX_H

#include "base/buf.h"

/* Zero it first. */
struct outbox {
    struct buf bytes;
    size_t at; /* so many of them were sent */
};

size_t outbox_waiting(const struct outbox *o);
struct slice outbox_next(const struct outbox *o); /* what waits; valid until the next call */
/* False: there is no memory, and it is as it was. */
MUST_CHECK bool outbox_put(struct outbox *o, struct slice bytes);
/* The first n of what waits were sent. */
void outbox_sent(struct outbox *o, size_t n);
void outbox_clear(struct outbox *o); /* gives its memory back */

#endif
