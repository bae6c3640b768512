/* committer.h - what changes libraries, one thread at a time: group commit. */
#ifndef QUIRE_PROC_COMMITTER_H
#define QUIRE_PROC_COMMITTER_H

#include "proc/submission.h"
#include "proc/supervisor.h"

/* last_lsn: of the log, as recovered. */
MUST_CHECK bool committer_new(struct supervisor *s, uint64_t last_lsn, struct committer **ret, struct status *st);
/* From now on there are threads that call committer_work, and come for it when channels_wake is called. */
void committer_serve(struct committer *c);
/* Does what waits, unless another thread is at it, which then does this, too. To be called after committer_enqueue, after each wake-up, and within the
 * milliseconds that it returns. */
MUST_CHECK int committer_work(struct committer *c);
/* Takes nothing more, and commits what waits. From then on calls run on their caller's thread. */
void committer_stop(struct committer *c);
void committer_free(struct committer *c); /* after committer_stop; takes NULL */

/* Takes `bytes` from the queue's budget; false when there are not as many left. */
bool committer_reserve(struct committer *c, uint64_t bytes);
void committer_release(struct committer *c, uint64_t bytes);
/* Queues it for committer_work; its bytes were reserved. False: too many ops wait (STATUS_BUSY); the caller still owns it. */
MUST_CHECK bool committer_enqueue(struct committer *c, struct submission *s, struct status *st);

/* Commits an op of the supervisor's own (a copy of it) and waits until it is visible, or refused. While channels serve; not from within a call. */
MUST_CHECK bool committer_submit(struct committer *c, const struct buf *op, struct status *st);

/* Has the committer run fn between two batches, and waits for it. */
typedef bool (*committer_fn)(void *ctx, struct status *st);
MUST_CHECK bool committer_call(struct committer *c, committer_fn fn, void *ctx, struct status *st);

/* Makes what a call changed visible, at the LSN that stands. From within a call. */
void committer_republish(struct committer *c);
/* From within a call: logs an op of the supervisor's own, which the caller has checked and reserved and applies then. On failure nothing is applied; the log may have
 * failed for good. */
MUST_CHECK bool committer_log(struct committer *c, struct slice op, uint64_t *ret_lsn, struct status *st);
/* After it was applied: publishes it, and tells those who wait for news. */
void committer_logged(struct committer *c, bool of_library);
/* The last op that is in the log. After committer_stop, or from within a call. */
uint64_t committer_last_lsn(const struct committer *c);
/* Appends LOG_CLOSE and publishes its LSN. After committer_stop. */
MUST_CHECK bool committer_close_log(struct committer *c, struct status *st);
/* How long the committer has been at one batch or call, in microseconds; 0: nobody is. Any thread. */
int64_t committer_busy_us(const struct committer *c);

#endif
