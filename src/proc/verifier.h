/* verifier.h - the thread that restores snapshots on trial, so that what is kept for a bad day is known to be good. */
#ifndef QUIRE_PROC_VERIFIER_H
#define QUIRE_PROC_VERIFIER_H

#include "proc/supervisor.h"

MUST_CHECK bool verifier_new(struct supervisor *s, struct verifier **ret, struct status *st);
/* A task was added, or a setting changed. Any thread. */
void verifier_wake(struct verifier *v);
/* Gives up what is being verified, if it is for this task. Any thread. */
void verifier_cancel(struct verifier *v, const struct uuid *task);
void verifier_stop(struct verifier *v);
void verifier_free(struct verifier *v); /* stops first; takes NULL */

#endif
