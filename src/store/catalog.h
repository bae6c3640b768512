/*
 * catalog.h - the supervisor's libraries: checking, reserving, applying and publishing ops.
 *
 * The recipe for a logged change (also in ARCHITECTURE.md): everything that can fail comes before the log record, nothing that can fail after it.
 *
 *   committer:  catalog_check -> catalog_reserve -> (log append + fdatasync) -> catalog_apply -> catalog_publish -> answer
 *   replay:                      catalog_reserve -> catalog_apply ... -> catalog_publish
 *
 * Threads: check, reserve, apply, publish and abandon are called by one thread (recovery, then the committer). Others (indexers, re-embedder,
 * snapshotter) get at a library only by catalog_acquire, which counts a reference; a library deleted meanwhile keeps its files open
 * until the last one is released, and loses its directory then.
 */
#ifndef QUIRE_STORE_CATALOG_H
#define QUIRE_STORE_CATALOG_H

#include "embed/embedder.h"
#include "shm/control.h"
#include "store/arena.h"
#include "store/op.h"
#include "store/reading.h"

struct catalog;
struct library; /* a library as the supervisor holds it */

struct catalog_options {
    int vectors_dir_fd; /* borrowed */
    struct control *control;
    const struct limits *limits;
    const struct embed_registry *models; /* dimensions and fingerprints by name */
    bool keep_replaced; /* the directory that a compaction has replaced stays: whoever takes checkpoints removes it */
};

MUST_CHECK bool catalog_new(const struct catalog_options *options, struct catalog **ret, struct status *st);
void catalog_free(struct catalog *c); /* closes the arenas; removes nothing */

/* What an op met, for the reply. */
struct op_effect {
    bool replaced;         /* DOCUMENT_PUT: there was one before */
    uint32_t chunks_added;
    uint32_t chunks_deleted;
};

/* Would it apply to the present state? Conflict, not found, dimension mismatch, library limits. Changes nothing. */
MUST_CHECK bool catalog_check(struct catalog *c, const struct op *op, struct status *st);
/* Is what op replaces or deletes still of this version? Of a document: op.h, document_version; NONE and ANY have their meaning. Of a library: library_version.h, the
 * definition's for a LIBRARY_UPDATE, the content's for a LIBRARY_DELETE. STATUS_PRECONDITION */
MUST_CHECK bool catalog_check_version(struct catalog *c, const struct op *op, uint64_t version, struct status *st);

/* Are vectors of this dimension that the model with this fingerprint made what the library has now? A worker may have made them just before it got another model,
 * perhaps of the same dimension. STATUS_CONFLICT */
MUST_CHECK bool catalog_check_made_by(struct catalog *c, const struct uuid *library, uint32_t dimension, uint64_t model, struct status *st);

/* What applying it to the present state would meet, for an op that passed catalog_check and touches nothing that an op before it in the batch
 * touches. STATUS_NO_MEMORY. */
MUST_CHECK bool catalog_foresee(struct catalog *c, const struct op *op, struct op_effect *ret, struct status *st);

/* Ops of one batch may not depend on one another, because all are checked before any is applied. True when op touches what an op already in the set touches (the
 * same library definition, document or chunk id; a library op touches all of its library); otherwise adds it. False positives are harmless: the batch ends there. */
struct op_set;
struct op_set *op_set_new(void);
void op_set_free(struct op_set *s);
void op_set_clear(struct op_set *s);
bool op_set_conflicts_or_add(struct op_set *s, const struct op *op);

/* Makes sure that applying it cannot fail: grows the files, creates the arena of a new library. Reservations add up until they are
 * applied, or dropped by catalog_abandon. STATUS_NO_SPACE when the disk is full. On failure this op has reserved nothing, and what others of
 * the batch reserved stands. (Two documents that would both fix the dimension of a library pass catalog_check together; the second
 * one's reservation is then refused with STATUS_DIMENSION, and is that op's failure alone.) */
MUST_CHECK bool catalog_reserve(struct catalog *c, const struct op *op, struct status *st);
void catalog_abandon(struct catalog *c);

/* The one function by which state changes. op was checked (or comes from the log) and reserved. vectors: num_chunks * dimension floats
 * for a DOCUMENT_PUT when somebody has them (computed by the worker, or salvaged); NULL: those in the op, else pending. They count
 * only where the library's model runs here: what a provider made comes in ops. A chunk whose vector row in `vectors` is NaN in its first number is pending. Replay may meet ops whose effect is already there or whose target is gone; they change nothing. */
void catalog_apply(struct catalog *c, const struct op *op, uint64_t lsn, int64_t time_us, const float *vectors, struct op_effect *ret);

/* Also to be called, with the last published LSN, when the backlog has made a library's last missing vector: the view's `reembedding` is brought up to date.
 * Makes everything applied so far visible to all workers at once: copies the changed views to the directory and sets the published LSN, under the write
 * lock. patience_us and stuck as in rwlock_write_lock. */
void catalog_publish(struct catalog *c, uint64_t lsn, int64_t patience_us, rwlock_stuck_fn stuck, void *ctx);
uint64_t catalog_published_lsn(const struct catalog *c);

/* --- for recovery and checkpoints --- */
/* Takes over an arena on disk as `view` says (its files were verified by the caller). */
MUST_CHECK bool catalog_adopt(struct catalog *c, const struct library_view *view, struct status *st);
/* Whether it would, as far as the view and the library's definition tell: is its model still the same? Asked for all before the first is taken over. */
MUST_CHECK bool catalog_can_adopt(struct catalog *c, const struct library_view *view, const struct library_definition *d, struct status *st);

/* --- for background threads --- */
size_t catalog_library_count(struct catalog *c);
/* All libraries alive now, each acquired; malloc'd array. */
MUST_CHECK bool catalog_acquire_all(struct catalog *c, struct library ***ret, size_t *ret_count, struct status *st);
/* The same with those that compactions (compact.h) and exchanges (exchange.h) are making: for linking, and embedding. */
MUST_CHECK bool catalog_acquire_linkable(struct catalog *c, struct library ***ret, size_t *ret_count, struct status *st);
struct library *catalog_acquire(struct catalog *c, const struct uuid *id); /* NULL: no such library */
void catalog_release(struct catalog *c, struct library *lib);
bool library_is_deleted(const struct library *lib);
/* The published state, for reading on this thread (snapshotter, statistics). Valid while the library is acquired. */
void library_reading(struct library *lib, struct reading *ret);
/* For an orderly stop, when nobody commits any more: what the writer does in steps is brought to an end, so that older versions take the files over as well. */
MUST_CHECK bool catalog_settle(struct catalog *c, struct status *st);
/* For the end of a recovery: room behind what is in use comes into memory a page at a time from now on, see mapfile_unused_from. */
void library_note_unused(struct library *lib);
/* Flush every file to disk (msync + fdatasync); for checkpoints. */
MUST_CHECK bool library_sync(struct library *lib, struct status *st);
/* The files of the published state and how many bytes of each are in use, for a checkpoint's checksums. Returns how many. */
#define LIBRARY_FILES_MAX 10
struct library_file {
    char name[ARENA_FILE_NAME_MAX];
    uint64_t used;
};
size_t library_files(struct library *lib, struct library_file out[LIBRARY_FILES_MAX]);

#endif
