/*
 * exchange.h - another model for a library that goes on serving.
 *
 * What a restart goes on from stands in the library's definition (struct library_exchange), and each step is logged (LIBRARY_MODEL):
 *
 *   none --begin--> building --switch--> kept --return--> returning --switch--> none
 *
 *   building    a second arena, the side, is filled from the stored texts, embedded with the new model and linked, and follows what is committed. The old one
 *               serves
 *   kept        the new one serves. The old one has become the side: it follows, too, so that it can come back with no document missing
 *   returning   the old one is wanted back, and comes as soon as it is complete
 *
 * Every state but none can be given up, which leaves the arena that serves. The steps that switch are prepared and done here; the others are ops like any.
 *
 * A side is a cache. It is made by the running server and no start takes it over: after one, a side that is needed (building, returning) is made anew from the
 * texts, with the vectors that lie in the library's other directories (old_vectors.h). So a kept one costs nothing after a restart until it is
 * wanted back, and then as much as an optimization.
 *
 * Where a provider makes the side's vectors they are paid for, so they come as VECTORS ops of the other model, through the log; durable/salvage.c keeps them
 * in a replay, and snapshots hold them. A building begins when it is known which model the provider has: a step (LIBRARY_MODEL, still building) pins fingerprint and
 * dimension. It switches when what was there at some moment has its vectors and little has come since. What is wanted back comes at once, unless most of it lacks
 * its vectors, and the rest is asked for then.
 *
 *   exchange_new      (one thread)   makes an empty side in a directory of its own
 *   exchange_begin    (committer)    from now on it follows
 *   exchange_step     (that thread)  copies; embedders and linkers of the background do the rest
 *   exchange_prepare  (committer)    what is left of the copying and embedding; all that can fail
 *                     (committer)    logs the op
 *   exchange_switch   (committer)    the two change places; then catalog_publish
 *   exchange_end      (committer)    nobody works on the side any more
 *   exchange_free     (any thread)   it goes
 *
 * A replay that meets a switch drops the vectors in place (catalog_apply.c); recovery looks for those of the new model in what lies there.
 */
#ifndef QUIRE_STORE_EXCHANGE_H
#define QUIRE_STORE_EXCHANGE_H

#include "store/catalog.h"

struct model_exchange;

/* What a library's definition says now. */
uint32_t library_exchange_state(const struct library *lib);

/* For a library that is building or returning, and stays acquired by the caller until the end. reuse: vectors that lie in its other directories are taken.
 * STATUS_NO_SPACE, STATUS_INVALID (the model is not configured), STATUS_CONFLICT (it is in another state by now) and the like leave nothing behind. */
MUST_CHECK bool exchange_new(struct catalog *c, struct library *lib, bool reuse, struct model_exchange **ret, struct status *st);
/* STATUS_CONFLICT: a compaction or a rebuild of the index is under way. STATUS_NOT_FOUND: the library was deleted. */
MUST_CHECK bool exchange_begin(struct model_exchange *x, struct status *st);
/* Copies up to so many documents. *ret_more: there are others. On failure the exchange can only be ended. */
MUST_CHECK bool exchange_step(struct model_exchange *x, uint32_t documents, bool *ret_more, struct status *st);
struct exchange_progress {
    uint64_t done, total; /* chunks embedded and chunks linked, of twice as many as there are */
    uint64_t reused;      /* vectors that lay there */
    bool asks;            /* a provider is to make some */
    bool ready;           /* little is left to be copied, embedded and linked */
};
void exchange_progress(struct model_exchange *x, struct exchange_progress *ret);
/* While the side is being built: of the ten nearest chunks, how many both models agree on, 0 to 1, as a mean over *ret_queries random chunks. Queries are the
 * beginnings of their texts; where one of the models does not run here, their vectors, which cost nothing. *ret_queries 0: none could be compared. */
MUST_CHECK bool exchange_overlap(struct model_exchange *x, double *ret_overlap, uint32_t *ret_queries, struct status *st);
/* *ret_op: to be logged; valid until the next call. STATUS_CONFLICT: the library's exchange was given up. On other failures the exchange can only be ended. */
MUST_CHECK bool exchange_prepare(struct model_exchange *x, int64_t now_us, struct slice *ret_op, struct status *st);
/* Returns the library that serves now, acquired for the caller in place of the one that did. *ret_goes_on: the one before is kept and follows. */
struct library *exchange_switch(struct model_exchange *x, uint64_t lsn, bool *ret_goes_on);
/* Behind a switch, before the first step: whether the arena that served may be written by another thread than the committer already. */
bool exchange_may_follow(const struct model_exchange *x);
/* keep_files: for a restart. The committer's thread, for one that was begun; then any frees it. */
void exchange_end(struct model_exchange *x, bool keep_files);
void exchange_free(struct model_exchange *x); /* takes NULL */

#endif
