/* startlog.h - what an operator reads at the start and at the stop, and the figures that go with it. */
#ifndef QUIRE_PROC_STARTLOG_H
#define QUIRE_PROC_STARTLOG_H

#include "proc/supervisor.h"

/* What the environment has set for tests. */
struct test_hooks {
    bool io_fault, clock_shift;
};
void startlog_banner(const struct supervisor *s, const struct test_hooks *hooks);
/* After recovery: what came back, library by library, and how long each part took. */
void startlog_restored(const struct supervisor *s, const struct recovery_report *report, int64_t took_us);

/* --- embeddings that the start found missing, while the background makes them (main thread) --- */
struct reembed;
/* NULL in *ret when nothing is missing. */
MUST_CHECK bool reembed_new(struct supervisor *s, const struct recovery_report *report, struct reembed **ret, struct status *st);
/* Looks how far it is: a line now and then, one per library that is complete, one at the end. False: all is there. */
bool reembed_look(struct reembed *r, int64_t now_us);
void reembed_free(struct reembed *r); /* takes NULL */

#endif
