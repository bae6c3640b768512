/* rebuild.h - the thread that carries the rebuilding of an index: begin, wait for the linkers, switch. One at a time. */
#ifndef QUIRE_PROC_REBUILD_H
#define QUIRE_PROC_REBUILD_H

#include "proc/supervisor.h"

MUST_CHECK bool rebuilder_new(struct supervisor *s, struct rebuilder **ret, struct status *st);
/* A task was added or cancelled. Any thread. */
void rebuilder_wake(struct rebuilder *r);
/* Gives up what is under way. */
void rebuilder_stop(struct rebuilder *r);
void rebuilder_free(struct rebuilder *r); /* stops first; takes NULL */

#endif
