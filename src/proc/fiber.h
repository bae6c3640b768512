/*
 * fiber.h - a function that can be put aside and gone on with later, on one thread.
 *
 * It has a stack of its own with a page behind it that nobody may touch. Nothing runs at the same time as its owner: fiber_start and fiber_resume return when it
 * pauses or ends. It keeps the thread's signal mask.
 */
#ifndef QUIRE_PROC_FIBER_H
#define QUIRE_PROC_FIBER_H

#include "base/status.h"

struct fiber;
typedef void (*fiber_fn)(void *arg);

/* With the stack that requests need. STATUS_NO_MEMORY. */
MUST_CHECK bool fiber_new(struct fiber **ret, struct status *st);
/* It has ended, or never began. Takes NULL. */
void fiber_free(struct fiber *f);

/* Begins fn on it; it has ended, or never began. True: fn has returned. False: it paused. */
bool fiber_start(struct fiber *f, fiber_fn fn, void *arg);
/* Goes on with one that paused. True: fn has returned. */
bool fiber_resume(struct fiber *f);
/* From within: returns when it is resumed. */
void fiber_pause(struct fiber *f);

#endif
