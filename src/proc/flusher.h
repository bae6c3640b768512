/* flusher.h - the thread that writes changed pages of the arenas back, a few at a time (store/write_back.h). */
#ifndef QUIRE_PROC_FLUSHER_H
#define QUIRE_PROC_FLUSHER_H

#include "proc/supervisor.h"

MUST_CHECK bool flusher_new(struct supervisor *s, struct flusher **ret, struct status *st);
void flusher_stop(struct flusher *f);
void flusher_free(struct flusher *f); /* stops first; takes NULL */

#endif
