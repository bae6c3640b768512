/*
 * arena_cut.h - a library's arena as it is at one LSN, taken for a checkpoint while commits go on, and the sums by which a start knows it again.
 *
 * An arena after a crash holds what the checkpoint saw and some of what came later. Which is which can be told, file by file:
 *
 *   records, vectors      only appended; what the checkpoint counts does not change
 *   chunks, documents     rows are appended; of older ones `deleted_lsn` may have got an LSN above the checkpoint's, which means: alive then. `previous` belongs
 *                         to the id table; `state` and `vector_crc` are told by the vector itself. The sums leave those words out, and take
 *                         deleted_lsn as it was
 *   ids                   follow from the rows, and are made anew
 *   terms, postings, columns   change all over: the checkpoint keeps copies of their pages (shm/dirty.h)
 *   graph, upper          every node can be held against its vector and its neighbours (index/hnsw_repair.c); nothing of them is in the checkpoint
 */
#ifndef QUIRE_STORE_ARENA_CUT_H
#define QUIRE_STORE_ARENA_CUT_H

#include "shm/dirty.h"
#include "store/catalog.h"

struct arena_cut {
    struct library *lib; /* acquired */
    struct library_view view;
    uint64_t missing; /* live chunks without a vector */
};

/* --- the committer's, between two commits --- */
/* Begins a cut of a library; `all`: of all pages, not only of those changed since the last cut that succeeded. */
void arena_cut_begin(struct library *lib, bool all, struct arena_cut *ret);
/* Copies of up to `most` pages of one file that are still wanted; 0: none is left. */
size_t arena_cut_take(const struct arena_cut *cut, enum arena_text_file file, struct dirty_page *out, size_t most);
/* Ends it, and tells whether all pages were had. Not ok: they count as changed again. */
bool arena_cut_end(const struct arena_cut *cut, bool ok);
/* Bytes in use of one of the three files, as the cut's view says. */
uint64_t arena_cut_used(const struct library_view *view, enum arena_text_file file);
/* "terms.mmap" ... */
const char *arena_text_file_name(enum arena_text_file file);

/* --- any thread, while commits go on --- */
/* Makes durable what the cut counts and keeps no copy of: rows, records, vectors. */
MUST_CHECK bool arena_cut_sync(const struct arena_cut *cut, struct status *st);
/* Live chunks without a vector now. */
uint64_t library_missing(struct library *lib);
const uint8_t *arena_cut_records(const struct arena_cut *cut);

/* CRC-32C of rows as they were at `lsn`. */
uint32_t chunk_rows_sum(const struct chunk_row *rows, uint32_t count, uint64_t lsn);
uint32_t document_rows_sum(const struct document_row *rows, uint32_t count, uint64_t lsn);
const struct chunk_row *arena_cut_chunks(const struct arena_cut *cut);
const struct document_row *arena_cut_documents(const struct arena_cut *cut);

#endif
