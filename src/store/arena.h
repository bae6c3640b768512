/*
 * arena.h - the mapped files of one library, `vectors/<library id>/`, or `<library id>.<n>/` after a compaction or an exchange of its model, which make them
 * anew. A cache:
 * text and log can always make them again.
 *
 *   vectors.mmap     4 KiB head (struct vectors_head), then a row of float32 per chunk slot, padded to 64 bytes
 *   chunks.mmap      struct chunk_row per slot
 *   documents.mmap   struct document_row per document
 *   records.mmap     library definitions and DOCUMENT_PUT ops, one after the other, 8-byte aligned
 *   ids.mmap         the id table (idtable.h)
 *   terms.mmap, postings.mmap   the inverted index of the chunks' texts (lexical.h)
 *   columns.mmap     a value per chunk slot and field, for filters (columns.h)
 *   graph.<g>.mmap, upper.<g>.mmap   the HNSW graph of generation g (hnsw.h); none for a flat library
 *
 * Invariants:
 *  1. Slots, rows and records are only appended; what a published view counts is never moved or reused. What deleted chunks take is reclaimed by
 *     compaction alone (compact.h), which makes another arena.
 *  2. After publication only single aligned words change: deleted_lsn, state, previous-independent id-table entries, graph links and heads. So a
 *     reader never sees a torn field, and a crash leaves each such word old or new.
 *  3. A chunk is in a view when created_lsn <= lsn and (deleted_lsn == 0 or deleted_lsn > lsn). A row above the view's count is not looked at.
 *  4. Only the supervisor maps files writable.
 *  5. What the three files hold of a row is written before the row is published. A view says how many bytes of them are in use at its LSN; an append
 *     that goes on meanwhile may lead beyond a reader's map, and the reader takes what lies there for absent (it is of no slot of its view).
 *  6. Vectors are written before CHUNK_HAS_VECTOR is set with release (pairs with: CHUNK_STATE); without it a search could read a half-written vector.
 */
#ifndef QUIRE_STORE_ARENA_H
#define QUIRE_STORE_ARENA_H

#include "index/columns.h"
#include "index/hnsw.h"
#include "index/lexical.h"
#include "shm/mapfile.h"
#include "store/model.h"

#define ARENA_FORMAT 1
#define VECTORS_MAGIC 0x5352544345565551ULL
#define VECTORS_HEAD_BYTES 4096
#define ROW_NONE UINT32_MAX

#define CHUNK_HAS_VECTOR 1u
#define CHUNK_COUNTED_DEAD 2u /* the supervisor's: set with deleted_lsn, so that deleter and re-embedder agree who counts the chunk as no longer pending */

struct chunk_row { /* 64 bytes */
    uint64_t created_lsn;
    uint64_t deleted_lsn; /* 0: alive. Written by: the committer (release); read by: searches (acquire). pairs with: CHUNK_DELETED */
    uint64_t record;      /* offset of the chunk's bytes in records */
    uint64_t id_hash;
    uint64_t text_hash;
    uint32_t record_length;
    uint32_t document;    /* row of its document */
    uint32_t previous;    /* older row in the same id-table leaf, or ROW_NONE */
    uint32_t state;       /* flags; pairs with: CHUNK_STATE */
    uint32_t vector_crc;  /* CRC-32C of the vector's float32 bytes (dimension * 4); set before CHUNK_HAS_VECTOR */
    uint32_t length;      /* terms in its text (struct terms), stop words not counted: what BM25 goes by */
};

struct document_row { /* 64 bytes */
    uint64_t created_lsn;
    uint64_t deleted_lsn; /* as in chunk_row */
    uint64_t record;
    uint64_t id_hash;
    int64_t created_at;
    uint32_t record_length;
    uint32_t first_chunk; /* slots [first_chunk, first_chunk + num_chunks) */
    uint32_t num_chunks;
    uint32_t previous;
    uint64_t reserved;
};
_Static_assert(sizeof(struct chunk_row) == 64, "chunk rows are 64 bytes in files");
_Static_assert(sizeof(struct document_row) == 64, "document rows are 64 bytes in files");

struct vectors_head {
    uint64_t magic;
    uint32_t format;
    uint32_t dimension;
    uint32_t stride; /* floats */
    uint32_t reserved;
    uint64_t model_fingerprint; /* 0: the caller brought the vectors; else as in the library's view, which comes first to know it */
    uint64_t present; /* chunks with a vector, dead ones included; written by: committer and re-embedder (atomic add); for progress only */
};

/* Everything a reader must know of a library to read it at one LSN: plain data, copied whole. The directory entries of the control segment
 * and the arena's checkpoint hold it. written by: the committer, under the write lock; read by: workers under their read lock. */
struct library_view {
    struct uuid id;
    uint64_t lsn;              /* of the last op on this library; a reader sets it to the published LSN in its copy */
    uint32_t live;             /* 0: the entry is free */
    uint32_t arena_generation; /* changes when the arena's files are made anew: close the old maps */
    uint32_t graph_generation; /* 0: no graph */
    uint32_t dimension;        /* 0: no vectors yet */
    uint32_t stride;
    uint32_t chunk_slots;      /* in use, dead ones included */
    uint32_t document_rows;
    uint32_t live_chunks;
    uint32_t live_documents;
    uint32_t rerank;           /* candidates measured with float32; 0: codes alone rank */
    uint64_t records_used;     /* bytes */
    uint64_t ids_used;         /* nodes */
    uint64_t text_bytes;       /* of live chunks */
    uint64_t live_tokens;      /* sum of `length` of live chunks */
    uint64_t terms_used;       /* bytes of the three files that readers map, see invariant 5 */
    uint64_t postings_used;
    uint64_t columns_used;
    uint32_t directory;        /* n of the directory's name; 0: the bare id */
    uint32_t pinned;           /* 1: model_fingerprint was fixed by a VECTORS op: the vectors are a provider's, and are kept as carefully as texts */
    uint64_t definition;       /* offset of the library definition in records */
    uint32_t definition_length;
    uint32_t reembedding;      /* 1: vectors are being made (startup or pending); for embedding.state */
    uint64_t model_fingerprint;
    struct index_settings index;
};

/* Files that change all over, and of which checkpoints keep copies of their own (durable/running.h). */
enum arena_text_file { ARENA_TERMS, ARENA_POSTINGS, ARENA_COLUMNS, ARENA_TEXT_FILES };

struct arena {
    int dir_fd;
    bool writable;
    uint32_t graph_generation; /* of the open graph; 0: none */
    struct mapfile vectors, chunks, documents, records, ids, terms, postings, columns, graph, upper;
    /* The supervisor's, for checkpoints: which pages of the three change (ARENA_TERMS ...). NULL: nobody asks. */
    struct dirty_pages *dirty;
};

#define ARENA_CLOSED                                                                                                              \
    ((struct arena){.dir_fd = -1,                                                                                                 \
                    .vectors = MAPFILE_CLOSED,                                                                                    \
                    .chunks = MAPFILE_CLOSED,                                                                                     \
                    .documents = MAPFILE_CLOSED,                                                                                  \
                    .records = MAPFILE_CLOSED,                                                                                    \
                    .ids = MAPFILE_CLOSED,                                                                                        \
                    .terms = MAPFILE_CLOSED,                                                                                      \
                    .postings = MAPFILE_CLOSED,                                                                                   \
                    .columns = MAPFILE_CLOSED,                                                                                    \
                    .graph = MAPFILE_CLOSED,                                                                                      \
                    .upper = MAPFILE_CLOSED})

/* Opens (read-only) or refreshes `a` so that all that `view` counts is mapped; reopens the graph when its generation changed. A missing
 * file is STATUS_NOT_FOUND: the view is outdated, take a new one. `vectors_dir_fd`: the directory vectors/. */
MUST_CHECK bool arena_follow(struct arena *a, int vectors_dir_fd, const struct library_view *view, struct status *st);
/* Maps id table, rows and inverted index up to what the files hold now: a lookup may meet rows of a commit that is being applied (idtable.h), a search
 * postings that it has moved (LEXICAL_UNMAPPED). What was mapped stays mapped where it is. */
MUST_CHECK bool arena_follow_growth(struct arena *a, struct status *st);
/* The same, for the supervisor, which maps writable. An arena that is open must have been opened so. */
MUST_CHECK bool arena_open_writable(struct arena *a, int vectors_dir_fd, const struct library_view *view, struct status *st);
void arena_close(struct arena *a);

/* Rows and what they point to, as mapped now. Slots and rows are checked by the caller against the view. */
const struct chunk_row *arena_chunk(const struct arena *a, uint32_t slot);
const struct document_row *arena_document(const struct arena *a, uint32_t row);
/* Empty when [offset, offset+length) is not within the mapped records. */
struct slice arena_record(const struct arena *a, uint64_t offset, uint32_t length);
struct vector_rows arena_vectors(const struct arena *a, const struct library_view *view);
struct hnsw_graph arena_graph(const struct arena *a);
/* As mapped now: take them once for a search. Readers map both read-only, and only the supervisor may call what writes. */
struct lexical arena_lexical(const struct arena *a);
struct columns arena_columns(const struct arena *a);

/* Bytes of a vector row: dimension floats, padded to 64 bytes. In floats. */
uint32_t arena_stride(uint32_t dimension);
/* Bytes of vectors.mmap, graph.<g>.mmap for so many slots. */
uint64_t arena_vectors_bytes(uint32_t stride, uint64_t slots);
uint64_t arena_graph_bytes(const struct hnsw_head *head, uint64_t slots);

/* The name of a library's directory under vectors/. */
#define ARENA_DIRECTORY_MAX (UUID_TEXT + 24)
#define ARENA_NEW_SUFFIX ".new" /* behind the name of one that a compaction is making; nobody needs it after a restart */
void arena_directory_name(const struct uuid *id, uint32_t directory, char out[ARENA_DIRECTORY_MAX]);
/* The way back; *ret_suffix: what stands behind it, within name. False: it is no such name. */
bool arena_directory_parse(const char *name, struct uuid *ret_id, uint32_t *ret_directory, const char **ret_suffix);
/* A number above those of all directories of the library, whatever their suffix. */
MUST_CHECK bool arena_free_directory(int vectors_dir_fd, const struct uuid *id, uint32_t *ret, struct status *st);

#define ARENA_FILE_NAME_MAX 32
/* Huge ones for the files that a search walks through: graph.<g>.mmap, terms.mmap, postings.mmap. Whoever maps one asks here, as a page is shared by all. */
enum mapfile_pages arena_file_pages(const char *name);
void arena_graph_names(uint32_t generation, char graph[ARENA_FILE_NAME_MAX], char upper[ARENA_FILE_NAME_MAX]);

#endif
