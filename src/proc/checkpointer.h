/* checkpointer.h - when live checkpoints are taken (durable/live_checkpoint.h), and the thread that takes them. */
#ifndef QUIRE_PROC_CHECKPOINTER_H
#define QUIRE_PROC_CHECKPOINTER_H

#include "proc/supervisor.h"

/* After recovery, whose report says what to go on from (its `live` is taken over). */
MUST_CHECK bool checkpointer_new(struct supervisor *s, struct recovery_report *report, struct checkpointer **ret, struct status *st);
/* Committer: that many ops and chunks were committed. */
void checkpointer_note(struct checkpointer *c, uint64_t ops);
/* An arena was exchanged: take one soon. Any thread. */
void checkpointer_wake(struct checkpointer *c);
/* Ends the thread; one that is being taken is given up where that is quick. Before the committer ends. */
void checkpointer_stop(struct checkpointer *c);
/* At an orderly stop, after the committer: the last one. */
MUST_CHECK bool checkpointer_final(struct checkpointer *c, struct status *st);
void checkpointer_free(struct checkpointer *c); /* stops first; takes NULL */

#endif
