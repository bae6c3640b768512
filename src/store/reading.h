/*
 * reading.h - how a process reads libraries: take a view, read on it without locks, let it go.
 *
 * A reader (one per worker process) keeps the arenas that it has mapped, by library. reading_begin takes the worker's own read
 * lock for the tens of nanoseconds in which it copies the library's view and pins the LSN in its slot, then maps what the view
 * counts. Between begin and end everything read through the reading is one state: each commit wholly or not at all.
 */
#ifndef QUIRE_STORE_READING_H
#define QUIRE_STORE_READING_H

#include "shm/control.h"
#include "store/arena.h"
#include "store/op.h"

struct store_reader;

/* One library at one LSN. `arena` belongs to the reader (or to the supervisor's library) and stays valid until reading_end. */
struct reading {
    struct library_view view;
    uint64_t changed_lsn; /* of the last op on this library; 0 in a supervisor's own reading */
    const struct arena *arena;
    struct store_reader *reader; /* NULL for a supervisor's own reading */
};

/* control: mapped; slot: this worker's index in it; vectors_dir_fd: the directory vectors/ (borrowed). */
MUST_CHECK bool store_reader_new(struct control *control, uint32_t slot, int vectors_dir_fd, struct store_reader **ret, struct status *st);
void store_reader_free(struct store_reader *r);

/* STATUS_NOT_FOUND (SUBJECT_LIBRARY) when there is no such library. One reading at a time per reader. */
MUST_CHECK bool reading_begin(struct store_reader *r, const struct uuid *library, struct reading *ret, struct status *st);
void reading_end(struct reading *rd);
/* A reading is under way. */
bool store_reader_reads(const struct store_reader *r);

/* Copies the views of all live libraries, ascending by id, malloc'd. Their records are not mapped. */
MUST_CHECK bool store_list_libraries(struct store_reader *r, struct library_view **ret, size_t *ret_count, struct status *st);
uint64_t store_published_lsn(struct store_reader *r);

/* The definition; slices point into the arena. STATUS_CORRUPT when it does not decode. */
MUST_CHECK bool reading_definition(const struct reading *rd, struct library_definition *ret, struct status *st);

/* A document as stored. Slices point into the arena. */
struct stored_document {
    uint32_t row;
    int64_t created_at;
    struct op_document fields; /* decoded record; fields.chunks holds all its chunks as first written */
    uint32_t first_chunk;
    uint32_t num_chunks;
};
struct stored_chunk {
    uint32_t slot;
    uint32_t document; /* row */
    uint32_t index;    /* chunk_index within its document */
    bool has_vector;
    struct op_chunk fields;
};

/* By id; STATUS_NOT_FOUND with SUBJECT_DOCUMENT or SUBJECT_CHUNK. */
MUST_CHECK bool reading_find_document(const struct reading *rd, struct slice encoded_id, struct stored_document *ret, struct status *st);
MUST_CHECK bool reading_find_chunk(const struct reading *rd, struct slice encoded_id, struct stored_chunk *ret, struct status *st);
/* By row or slot; the row must be within the view. */
MUST_CHECK bool reading_document(const struct reading *rd, uint32_t row, struct stored_document *ret, struct status *st);
MUST_CHECK bool reading_chunk(const struct reading *rd, uint32_t slot, struct stored_chunk *ret, struct status *st);
/* The next row at or after `row` whose document is in the view; ROW_NONE at the end. Walks documents in the order of writing. */
uint32_t reading_next_document(const struct reading *rd, uint32_t row);
bool reading_chunk_visible(const struct reading *rd, uint32_t slot); /* chunks can be deleted one by one */
uint32_t reading_live_chunks_of(const struct reading *rd, const struct stored_document *d);
/* dimension floats, or NULL when the chunk has none yet. */
const float *reading_vector(const struct reading *rd, uint32_t slot);
/* Chunks in the view, and how many of them have a vector. Exact when nothing is pending (cheap), else counted. */
void reading_coverage(const struct reading *rd, uint32_t *ret_embedded, uint32_t *ret_total);

#endif
