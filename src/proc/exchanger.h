/* exchanger.h - the thread that gives libraries another model while they serve (store/exchange.h). */
#ifndef QUIRE_PROC_EXCHANGER_H
#define QUIRE_PROC_EXCHANGER_H

#include "proc/supervisor.h"
#include "store/op.h"

/* Goes on with what the libraries' definitions say is under way. */
MUST_CHECK bool exchanger_new(struct supervisor *s, struct exchanger **ret, struct status *st);
/* A LIBRARY_MODEL was applied: its task is there from now on. The committer's. Takes NULL: nobody is at work yet. */
void exchanger_note(struct exchanger *e, const struct op *op);
void exchanger_wake(struct exchanger *e); /* a task was cancelled; takes NULL */
/* Leaves sides as they lie, for the next start. */
void exchanger_stop(struct exchanger *e);
void exchanger_free(struct exchanger *e); /* takes NULL */

#endif
