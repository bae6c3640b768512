/*
 * asker.h - the threads that have missing vectors made by providers: they gather chunks across documents, ask the provider process in batches, and commit what
 * comes as VECTORS ops, so that it is paid for once. Beside them they say what model a new library's vectors will be of, as soon as that is known.
 */
#ifndef QUIRE_PROC_ASKER_H
#define QUIRE_PROC_ASKER_H

#include "proc/supervisor.h"

struct asker;

MUST_CHECK bool asker_new(struct supervisor *s, struct asker **ret, struct status *st);
/* Something was committed that may lack vectors. Any thread. */
void asker_wake(struct asker *a);
/* Pauses end: the configuration was read anew, and what kept the providers may be mended. Any thread; takes NULL. */
void asker_resume(struct asker *a);
/* Ends the threads: at once, but for an answer that is under way, which is waited for and committed. */
void asker_stop(struct asker *a);
void asker_free(struct asker *a); /* stops first; takes NULL */

#endif
