/*
 * compact.h - a library's arena made anew beside the one that serves, without what is deleted.
 *
 *   new      (any thread)      makes an empty arena in a directory of its own
 *   begin    (committer)       from now on deletions are noted for it
 *   step     (one thread)      copies documents in the order of their rows, takes noted deletions over, shows linkers what is there
 *   switch   (committer)       does what is left, and exchanges the two libraries in the catalog; then catalog_publish
 *   end      (committer)       lets go of the old one after a switch, of the new one without
 *
 * Readers with an older view go on in the old files, which are removed when the last background thread has let go of them; one that has a view and no
 * maps yet finds no directory and takes the view again. Nothing is logged: a start without a checkpoint makes the arena anew anyway.
 */
#ifndef QUIRE_STORE_COMPACT_H
#define QUIRE_STORE_COMPACT_H

#include "store/catalog.h"

struct compaction;

/* Chunk slots and document rows that a compaction would reclaim. */
uint64_t compaction_gain(const struct library_view *view);

/* lib stays acquired by the caller until the end. STATUS_NO_SPACE and the like leave nothing behind. */
MUST_CHECK bool compaction_new(struct catalog *c, struct library *lib, struct compaction **ret, struct status *st);
/* STATUS_CONFLICT: another one, or a rebuild of the index, is under way. STATUS_NOT_FOUND: the library was deleted. */
MUST_CHECK bool compaction_begin(struct compaction *k, struct status *st);
/* Copies up to so many documents. *ret_more: there are others. On failure the compaction can only be ended. */
MUST_CHECK bool compaction_step(struct compaction *k, uint32_t documents, bool *ret_more, struct status *st);
/* ready: little is left to copy and to link. */
void compaction_progress(struct compaction *k, uint64_t *ret_done, uint64_t *ret_total, bool *ret_ready);
/* On failure nothing has changed for anybody but the compaction, which can only be ended. */
MUST_CHECK bool compaction_switch(struct compaction *k, struct status *st);
void compaction_end(struct compaction *k); /* takes NULL, and one that was not begun */

#endif
