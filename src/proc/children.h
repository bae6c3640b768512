/*
 * children.h - the worker processes: spawning, watching, replacing.
 *
 * A slot is a worker's place: its mutex in the lock and its page in the control segment. There are more slots than workers
 * wanted, so that a reload can start new workers before the old ones go. Functions are the main thread's, but for those marked.
 */
#ifndef QUIRE_PROC_CHILDREN_H
#define QUIRE_PROC_CHILDREN_H

#include "proc/supervisor.h"

/* Slots for `workers` workers, spare ones included. */
uint32_t children_slots(uint64_t workers);
/* Workers that the configuration asks for. */
uint32_t children_wanted(const struct config *c);
/* How many of them may have a connection of the socket for writes at a time: fewer than there are, where there are two or more. */
uint32_t children_writers(const struct config *c);
/* How many of those may have several writes in hand. */
uint32_t children_desks(const struct config *c);
/* How many may have a request of the main socket at a time. */
uint32_t children_readers(const struct config *c);
/* How many of the latter may wait for a min_lsn at a time. */
uint32_t children_awaiting(const struct config *c);
/* How many of both may have a stream or an export at a time. */
uint32_t children_streams(const struct config *c);

MUST_CHECK bool children_new(struct supervisor *s, struct children **ret, struct status *st);
void children_free(struct children *ch);

/* The configuration that workers started from now on get; those started before are replaced, new ones first. */
MUST_CHECK bool children_configure(struct children *ch, const struct config *c, struct status *st);
/* Borrowed; -1 before children_configure. The provider process gets it, too. */
int children_config_fd(const struct children *ch);
/* Spawns what is missing, notes who has become ready, goes on with a replacement. */
void children_tend(struct children *ch, int64_t now_us);
/* All that died: clears their slots, then reaps them. */
void children_reap(struct children *ch);
/* Kills workers that keep a view or a request too long. */
void children_watch(struct children *ch, const struct config *c, int64_t now_us);
/* No more spawning; every worker is told to finish what it has in hand and go. */
void children_drain(struct children *ch);
void children_kill_all(struct children *ch);
/* Kills those that have waited longer than that for the rest of a request's head: they have nothing in hand yet. */
void children_kill_headless(struct children *ch, int64_t now_us, int64_t patience_us);

/* Time that living workers have had of processors, all together. */
int64_t children_cpu_us(const struct children *ch);
uint32_t children_alive(const struct children *ch);
uint32_t children_ready(const struct children *ch);
bool children_starting(const struct children *ch);
bool children_replacing(const struct children *ch);

/* Any thread: SIGKILL to the worker of a slot, if it is still that one (generation 0: whoever it is). */
void children_kill(struct children *ch, uint32_t slot, uint64_t generation, const char *why);

#endif
