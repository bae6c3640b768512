/* background.h - the threads behind the commit: missing vectors, then links in the graphs. They run at a lower priority. */
#ifndef QUIRE_PROC_BACKGROUND_H
#define QUIRE_PROC_BACKGROUND_H

#include "proc/supervisor.h"

MUST_CHECK bool background_new(struct supervisor *s, struct background **ret, struct status *st);
/* Something was committed: chunks to link, and perhaps to embed. Any thread. */
void background_wake(struct background *b, bool to_embed);
/* Ends the threads at their next batch. */
void background_stop(struct background *b);
void background_free(struct background *b); /* stops first; takes NULL */
unsigned background_cores(void);

#endif
