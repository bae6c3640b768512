/*
 * library_internal.h - a library as the supervisor holds it, and the catalog that holds them all.
 *
 * Who may touch what is said at each group of fields. Locks, in the order in which they may be taken:
 *   catalog.mutex -> library.graph_mutex -> graph_work.mutex -> (graph stripes, inside hnsw_insert only)
 *   library.published_mutex, library.embed_mutex, library.busy_mutex: nothing is taken inside them
 */
#ifndef QUIRE_STORE_LIBRARY_INTERNAL_H
#define QUIRE_STORE_LIBRARY_INTERNAL_H

#include "shm/atomics.h"
#include "shm/dirty.h"
#include "store/catalog.h"
#include "store/idtable.h"
#include "store/texts.h"

#include <pthread.h>

#define GRAPH_STRIPES 1024 /* a power of two */
#define RECORD_ALIGNMENT 8
#define LINK_CLAIM_MAX 32 /* slots linked between two looks at whether to go on: some 30 ms */

/* A graph, serving or being built: its files, and what is linked in it. */
struct graph_work {
    uint32_t generation;
    struct mapfile graph;
    struct mapfile upper;
    /* under library.graph_mutex */
    uint32_t refs;
    uint32_t slots;          /* nodes initialised; before it is attached: the builder's own */
    uint64_t reserved_upper; /* words promised to ops that are not applied yet */
    struct graph_work *next_retired;
    /* under mutex: who links what. Bit sets are per slot. */
    pthread_mutex_t mutex;
    uint64_t *claimed;   /* handed to a linker, or linked */
    uint64_t *done;      /* linked */
    uint32_t room;       /* slots that the bit sets hold */
    uint32_t next;       /* claims go on from here */
    uint32_t low;        /* hnsw_head.linked */
    uint32_t done_above; /* done bits at or above low */
};

/* What tells whether anything was stored in an arena. */
struct arena_progress {
    uint64_t lsn, records_used, vectors;
    uint32_t chunk_slots;
    uint32_t generation[2], linked[2]; /* of the graph that serves, of the one that is being built */
};

struct reservation {
    uint32_t chunks;
    uint32_t documents;
    uint64_t record_bytes;
    uint64_t id_nodes;
    uint32_t dimension; /* that vectors.mmap was made for, and no applied op has fixed yet; 0: none */
};

/* Rows that were deleted while a compaction is under way, in the order of the commits. */
struct deletion {
    uint32_t row; /* of a document, or a chunk's slot */
    bool document;
    uint64_t lsn;
};
struct deletions {
    pthread_mutex_t mutex;
    /* under mutex */
    struct deletion *items;
    size_t count;
    size_t room;
    bool lost; /* there was no memory for one */
};

/* Of another model than the library that it stands beside (exchange.h): embedders work on it, too, and providers are asked for what it lacks when it is wanted. */
enum library_side { SIDE_NONE = 0, SIDE_FOLLOWS = 1, SIDE_WANTED = 2 };

struct library {
    struct catalog *catalog;
    struct uuid id;
    uint32_t entry;
    struct library *next_in_bucket; /* by id; under catalog.mutex */
    struct library *next_aside;     /* in catalog.pending (committer's), catalog.gone or catalog.shadows (under catalog.mutex) */
    uint32_t refs;                  /* under catalog.mutex */
    uint32_t deleted;               /* or replaced by its compacted self. written by: the committer (release); read by: anyone */

    /* the committer's own; `arena` has no graph open (see serving), its maps are read by anyone through their bases */
    struct arena arena;
    struct dirty_pages text_pages[ARENA_TEXT_FILES]; /* what checkpoints copy; arena.dirty points to it */
    char directory[ARENA_DIRECTORY_MAX]; /* its name under vectors/ */
    bool keep_files; /* replaced by its compacted self, and a checkpoint may still need the files */
    bool others_go;  /* deleted, and so are its other directories: what was kept of it, or replaced and not removed yet */
    struct library_view view; /* everything applied so far */
    bool dirty;
    struct reservation reserved; /* chunks: also under graph_mutex */
    struct graph_work *retired;  /* replaced by a switch, to be unlinked after its publication */
    struct text_stage stage;     /* terms and values of ops that are reserved */
    struct texts *texts;         /* of the thread that writes it: the catalog's, or a compaction's */
    struct deletions *deletions; /* of a compaction under way, which wants to know; else NULL */
    struct library *other;       /* the side of an exchange under way, which takes VECTORS of the other model; else NULL */

    /* fixed when the library is made */
    const struct embedder *model; /* NULL: none that runs here */
    const struct embedder *remote; /* the provider's, when the library has one and it is configured; else NULL */
    bool brings_vectors;          /* embedding_model "none" */
    uint32_t code_bits;           /* of the graph's codes: 0, 4, 8 */
    const char *language;         /* of its texts, as analyzers know it */

    uint32_t side; /* enum library_side; atomic. written by: its thread, the committer; read by: embedders and those that ask providers */
    uint32_t exchange_state; /* enum exchange_state of its definition; atomic. written by: the committer; read by: anyone */

    pthread_mutex_t published_mutex;
    struct library_view published; /* under published_mutex */

    pthread_mutex_t graph_mutex;
    struct graph_work *serving;  /* under graph_mutex; changed by the committer only */
    struct graph_work *building; /* under graph_mutex */
    bool compacting;             /* under graph_mutex, with the next four */
    bool exchanging;             /* likewise a place that is taken: by a side that is being built, or was and is about to be let go */
    bool rebuilding;
    uint32_t rebuild_generation; /* 0: to flat */
    uint32_t last_generation;
    uint32_t slots; /* view.chunk_slots, for others than the committer; under graph_mutex */

    uint64_t without_vector; /* live chunks that have none; atomic */

    pthread_mutex_t embed_mutex;
    uint64_t *embed_claimed; /* bit per slot */
    uint32_t embed_room;
    uint32_t embed_next;
    uint64_t *embed_refused; /* likewise: the provider will never embed them; they stay claimed */
    uint32_t refused_room;

    pthread_mutex_t busy_mutex;
    pthread_cond_t idle;
    uint32_t busy;    /* background calls under way */
    uint32_t linking; /* those of them that link */
    bool held;        /* none of these begins */

    struct arena_progress written_back; /* whoever writes back: how far it had come then */
};

struct catalog {
    struct catalog_options options;
    /* Taken from the control segment once, when no worker has it yet: it is writable for workers, so nothing there is believed
     * later. */
    struct library_view *entries;
    uint32_t capacity;
    uint32_t workers;

    pthread_mutex_t mutex;
    struct library **buckets;  /* by id; changed by the committer under mutex */
    uint32_t bucket_count;     /* a power of two */
    struct library **by_entry; /* capacity; likewise */
    struct library *gone;      /* deleted, still acquired by somebody; under mutex */
    struct library *shadows;   /* made by compactions under way: nobody but linkers gets at them; under mutex */
    uint32_t count;            /* alive; under mutex */

    /* the committer's own */
    struct library *pending; /* reserved, not applied */
    struct library **dirty;  /* capacity */
    uint32_t dirty_count;
    uint32_t directory_end;
    uint32_t next_arena_generation;
    struct texts *texts;
    struct slice *check_ids; /* scratch of catalog_check */
    uint32_t *check_table;
    size_t check_room;

    uint64_t published_lsn;     /* written by: the committer (release); read by: anyone. pairs with: CATALOG_PUBLISHED */
    uint32_t embedding_settled; /* some library's last missing vector was made; atomic */
    pthread_mutex_t stripes[GRAPH_STRIPES];
};

/* --- catalog.c --- */
struct library *catalog_find(struct catalog *c, const struct uuid *id); /* the committer's; alive ones */
void catalog_add(struct catalog *c, struct library *lib);               /* the committer's: alive from now on */
void catalog_remove(struct catalog *c, struct library *lib);            /* the committer's: no longer found by id */
bool catalog_is_gone(struct catalog *c, const struct uuid *id);         /* deleted, still acquired by somebody, or its side is */
/* A free directory entry, or STATUS_TOO_LARGE. */
MUST_CHECK bool catalog_claim_entry(struct catalog *c, struct library *lib, struct status *st);
void catalog_free_entry(struct catalog *c, struct library *lib);
void catalog_mark_dirty(struct catalog *c, struct library *lib);
void catalog_unmark_dirty(struct catalog *c, struct library *lib);
void catalog_add_shadow(struct catalog *c, struct library *lib);
/* No background thread begins to work on it any more. The reference that it had as a shadow is the caller's, to be released with its files. */
void catalog_drop_shadow(struct catalog *c, struct library *lib);
/* The shadow takes the place of the library that it was made from. keep: that one becomes a shadow; else its reference of the table becomes the caller's, to
 * be released after the publication. */
void catalog_exchange(struct catalog *c, struct library *from, struct library *shadow, bool keep);

/* --- catalog_reserve.c --- */
/* What an op takes. */
void reservation_of(const struct op *op, struct reservation *ret);
/* Directory and empty files, under lib->directory; dimension 0: no vectors yet. */
MUST_CHECK bool library_create(struct library *lib, const struct op *create, uint32_t dimension, struct status *st);
/* As catalog_reserve, for one that the calling thread alone writes. */
MUST_CHECK bool library_reserve(struct library *lib, const struct op *op, struct status *st);
void library_return_reservation(struct library *lib, const struct reservation *need);
/* The library that was reserved for a creation, taken off the pending ones; NULL: none. */
struct library *catalog_take_pending(struct catalog *c, const struct uuid *id);

/* In a replay, for a LIBRARY_MODEL that switches: an empty file of vectors and an empty graph for the other model. */
MUST_CHECK bool library_reserve_model(struct library *lib, const struct library_definition *d, struct status *st);
/* Writes the head of vectors.mmap. */
void library_begin_vectors(const struct library *lib, uint32_t dimension);

/* --- catalog_adopt.c --- */
/* Whether a view from outside can be one. */
MUST_CHECK bool library_view_check(const struct library_view *view, struct status *st);
/* Reads the definition that the view points to; the model must be the same still, and the text files fit the view. */
MUST_CHECK bool library_adopt_definition(struct library *lib, struct status *st);
/* Deletions to come analyse texts without failing, see texts.h. */
MUST_CHECK bool library_prepare_texts(struct library *lib, struct status *st);

/* --- catalog_apply.c --- */
/* The dimension that a library of this definition begins with; 0: the first vectors fix it. */
uint32_t library_dimension(const struct library *lib, const struct library_definition *d);
float *library_vector(const struct library *lib, uint32_t dimension, uint32_t slot);

/* Whether a VECTORS may apply: no model that runs here, none or the same fingerprint and dimension until now; and it is not for the other model. */
bool library_takes_vectors(const struct library *lib, const struct op_vectors *v);
/* Whether one for the other model may: there is a side, and it is of that model. *ret: the side as far as it is shown. */
bool library_other_takes(const struct library *lib, const struct op_vectors *v, struct library_view *ret);
/* The model of the vectors is known from now on. */
void library_pin(struct library *lib, uint64_t fingerprint);

/* The steps of a creation, a put and a deletion, for a library that the calling thread alone writes (compact.c). Reserved ops are put in order. */
void library_begin_view(struct library *lib, const struct op *create, uint32_t dimension);
void library_put(struct library *lib, const struct op *op, uint64_t lsn, const float *vectors);
void library_define(struct library *lib, const struct op *update);
void library_delete_chunk(struct library *lib, uint32_t slot, uint64_t lsn);
void library_delete_document(struct library *lib, uint32_t row, uint64_t lsn);
void deletions_note(struct deletions *d, uint32_t row, bool document, uint64_t lsn);

/* --- backlog.c --- */
/* A vector, `dimension` floats not aligned, for a chunk that had none; linkers are to be told. */
void library_settle_vector(struct library *lib, uint32_t dimension, uint32_t slot, const void *vector);
void library_tell_linkers(struct library *lib, uint32_t slot);

/* --- library.c --- */
struct library *library_new(struct catalog *c, const struct uuid *id);
void library_close(struct library *lib, bool remove_files);
void library_free(struct library *lib); /* closed before */
/* Room to note the changed pages of the three text files, as large as they are now. */
MUST_CHECK bool library_track_texts(struct library *lib, struct status *st);
/* Sets all that follows from it and does not change by an update. */
void library_set_definition(struct library *lib, const struct library_definition *d);
struct library_view library_newest(const struct library *lib); /* the committer's own state as a view for lookups */
/* Counts of what is missing, after an arena was adopted. */
void library_count_missing(struct library *lib);
/* Takes one off without_vector. */
void library_vector_settled(struct library *lib);

static inline struct chunk_row *library_chunk(const struct library *lib, uint32_t slot) {
    return (struct chunk_row *)(void *)mapfile_base(&lib->arena.chunks) + slot;
}
static inline struct document_row *library_document(const struct library *lib, uint32_t row) {
    return (struct document_row *)(void *)mapfile_base(&lib->arena.documents) + row;
}

/* --- graph_work.c --- */
/* Creates the files of a generation with nodes for `slots`. */
MUST_CHECK bool graph_work_create(int dir_fd, uint32_t generation, const struct hnsw_shape *shape, uint32_t slots,
                                  struct graph_work **ret, struct status *st);
void graph_work_note_unused(struct graph_work *g);
MUST_CHECK bool graph_work_open(int dir_fd, uint32_t generation, uint32_t slots, struct graph_work **ret, struct status *st);
/* A graph as a crash has left it, with nodes for `slots`, repaired (hnsw_repair). STATUS_CORRUPT: it cannot be of use. */
MUST_CHECK bool graph_work_resume(int dir_fd, uint32_t generation, const struct vector_rows *rows, uint32_t slots, uint32_t code_bits,
                                  const struct slot_filter *has_vector, struct graph_work **ret, struct hnsw_repair_report *ret_report,
                                  struct status *st);
struct hnsw_graph graph_work_graph(const struct graph_work *g);
/* Room for nodes [g->slots, slots) and `upper_words` more words. */
MUST_CHECK bool graph_work_grow(struct graph_work *g, uint64_t slots, uint64_t upper_words, struct status *st);
void graph_work_init_nodes(struct graph_work *g, uint32_t end);
/* Writes the code of a slot whose vector is written and not announced yet. g NULL: nothing. */
void graph_work_encode(const struct graph_work *g, const struct library *lib, uint32_t slot);
/* Sets the dead hint of the slots in [from, end) whose rows say so already. An exact search takes every node below the watermark that has no hint for
 * alive, linked or not; so a new graph needs the hints of those that died before it, too. */
void graph_work_mark_dead(const struct graph_work *g, const struct library *lib, uint32_t from, uint32_t end);
/* Sets the dead hint in every graph that is attached. The committer's, after it marked the row and before it publishes the deletion. */
void library_node_died(struct library *lib, uint32_t slot);
/* What a graph of these settings is for this library; dimension is not 0. */
struct hnsw_shape library_shape(const struct library *lib, const struct index_settings *settings, uint32_t dimension);
void graph_work_free(struct graph_work *g);
void graph_work_unlink(int dir_fd, uint32_t generation);
/* A reference for a background thread (NULL when there is none), and giving it back. */
struct graph_work *library_graph(struct library *lib, bool building);
void library_graph_release(struct library *lib, struct graph_work *g);

/* --- link_queue.c --- */
struct link_claim {
    struct library *lib;
    struct graph_work *graph;
    struct library_view view; /* what is linked: the slots that it counts */
    uint32_t slots[LINK_CLAIM_MAX];
    size_t count;
    size_t passed; /* dead slots that the watermark moved over meanwhile */
};
/* Claims up to `most` slots that have a vector and are not linked; view, graph and lib are set. */
MUST_CHECK bool link_queue_claim(struct link_claim *claim, size_t most, struct status *st);
/* The first `linked` of the claim are linked; the others were not, and can be claimed again. Moves the watermark. */
void link_queue_finish(struct link_claim *claim, size_t linked);
/* Slots from `slot` on have got vectors: look at them again. */
void link_queue_rewind(struct graph_work *g, uint32_t slot);
/* Slots below `slots` that are linked or dead and passed over. */
uint32_t link_queue_settled(struct graph_work *g, uint32_t slots);
/* Slots alive, with a vector, and not linked; counts no further than `most`. */
uint32_t link_queue_waiting(const struct library *lib, struct graph_work *g, uint32_t slots, uint32_t most);
void link_queue_free(struct graph_work *g);
/* After opening: which slots above the watermark are linked. */
MUST_CHECK bool link_queue_restore(struct graph_work *g, uint32_t slots, struct status *st);

/* Bit sets. */
static inline bool bit_is_set(const uint64_t *bits, uint32_t i) {
    return (bits[i / 64] >> (i % 64) & 1) != 0;
}
static inline void bit_set(uint64_t *bits, uint32_t i) {
    bits[i / 64] |= UINT64_C(1) << (i % 64);
}
static inline void bit_clear(uint64_t *bits, uint32_t i) {
    bits[i / 64] &= ~(UINT64_C(1) << (i % 64));
}
/* The set with room for more bits, the new ones clear. NULL: no memory, and the old one stands. */
uint64_t *bits_grown(uint64_t *bits, uint32_t old_room, uint32_t new_room);
/* A room for bits that holds `slots` and some to come. */
uint32_t bits_room_for(uint32_t slots);

#endif
