/*
 * keyed.h - requests with an Idempotency-Key in the supervisor: asking what is remembered, and making the record that one becomes.
 *
 * A worker asks first (RECALL, answered by the channels thread), so that a request that was done is not looked at again as if it
 * were new. What counts is the committer's look, between two batches: requests with one key come one after the other there, so of
 * a hundred sent at once the first is done, and the others get its outcome.
 */
#ifndef QUIRE_PROC_KEYED_H
#define QUIRE_PROC_KEYED_H

#include "proc/submission.h"
#include "proc/supervisor.h"

enum recall {
    RECALL_UNKNOWN, /* nothing is remembered */
    RECALL_KNOWN,   /* *frame is the whole answer */
    RECALL_REFUSED  /* *st says why: the key came with another body, or there is no memory */
};
enum recall keyed_recall(struct supervisor *s, const struct idempotency_id *id, uint64_t request, struct buf *frame,
                         struct status *st);

/* Makes sub->record and sub->held of the ops whose result is good, and the results of all. Nothing can fail after it. */
MUST_CHECK bool keyed_make_record(struct supervisor *s, struct submission *sub, struct status *st);

/* The record is durable: remembers it. Committer. */
void keyed_remember(struct supervisor *s, struct submission *sub, uint64_t lsn, int64_t time_us);
/* How many there are, for the figures: the committer, or before it is there. */
void keyed_show(struct supervisor *s);

#endif
