/*
 * resume.h - going on with an arena after a crash, from a checkpoint that was taken while commits went on.
 *
 *   1. catalog_resume            the arena is as it was at the checkpoint: rows cut and put back, vectors held against their sums, the id table made anew. The caller
 *                                has put terms, postings and columns back from the checkpoint's copies, and knows the sums of rows and records
 *   2. replay of the log         with library_leftover_vectors, since rows come to lie where they were, and their vectors are still there
 *   3. library_resume_graph      the graph's file, as it lies, is held against all that (index/hnsw_repair.c)
 *
 * arena_cut.h says what a crash may have changed. Everything here can be done again from the start when it is killed.
 */
#ifndef QUIRE_STORE_RESUME_H
#define QUIRE_STORE_RESUME_H

#include "store/catalog.h"

struct resume_point {
    struct library_view view;
    uint64_t lsn;     /* of the checkpoint */
    uint64_t missing; /* live chunks that had no vector then */
    /* Whether rows and records are those of the checkpoint, by sums; false with what is wrong. */
    bool (*rows_stand)(const void *ctx, const struct chunk_row *chunks, const struct document_row *documents, const uint8_t *records,
                       struct status *why);
    const void *ctx;
};

/* STATUS_NO_MEMORY, STATUS_NO_SPACE, STATUS_IO: it may go another time; any other code: this arena cannot be gone on with, and nothing of it is in the catalog. */
MUST_CHECK bool catalog_resume(struct catalog *c, const struct resume_point *p, struct status *st);

/* During the replay, for a DOCUMENT_PUT that was reserved: vectors that stand where its chunks will come to stand and are theirs, into `rows` (num_chunks *
 * dimension floats), NaN first where there is none. False: there is none at all, or the library has no dimension yet. */
bool library_leftover_vectors(struct catalog *c, const struct op *op, float *rows);

/* After the replay. STATUS_NO_MEMORY and the like; a graph that is no good is begun anew. *ret_dropped: nodes to be linked again. */
MUST_CHECK bool library_resume_graph(struct library *lib, uint64_t *ret_dropped, struct status *st);

#endif
