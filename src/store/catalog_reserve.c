/*
 * catalog_reserve.c - everything that can fail, done before an op is logged.
 *
 * A reservation is a promise in numbers: rows, bytes, nodes and words beyond those in use that the mapped files already hold.
 * Files are grown first, then the numbers are raised, so a full disk at any point leaves files that are longer than needed and
 * promises that stand.
 *
 * The graph's share goes to the graph that serves and to one that is being built; rebuilds begin on another thread, so slots and
 * promised slots are changed under graph_mutex, which is held for as long as growing the two files takes.
 */
#include "store/library_internal.h"

#include "base/io.h"

#include <fcntl.h>

#define CHUNKS_STEP 65536
#define DOCUMENTS_STEP 16384
#define RECORDS_STEP 65536
#define IDS_STEP 16384
#define VECTORS_STEP 262144
#define TERMS_STEP 65536
#define POSTINGS_STEP 65536
#define COLUMNS_STEP 65536
#define FIRST_FILE_BYTES 4096

static uint64_t aligned(uint64_t bytes) {
    return (bytes + RECORD_ALIGNMENT - 1) / RECORD_ALIGNMENT * RECORD_ALIGNMENT;
}

void reservation_of(const struct op *op, struct reservation *ret) {
    *ret = (struct reservation){0};
    if (op->type == OP_DOCUMENT_PUT) {
        ret->chunks = op->as.document.num_chunks;
        ret->documents = 1;
        ret->record_bytes = aligned(op->as.document.record_length);
        ret->id_nodes = idtable_nodes_for((uint64_t)ret->chunks + 1);
    } else if (op->type == OP_LIBRARY_CREATE || op->type == OP_LIBRARY_UPDATE || op->type == OP_LIBRARY_MODEL) {
        ret->record_bytes = aligned(op_definition_bytes(op).len);
    }
}

static bool create_file(const struct arena *a, struct mapfile *m, const char *name, uint64_t bytes, struct status *st) {
    return mapfile_create(m, a->dir_fd, name, arena_file_pages(name), bytes, st);
}

static bool grow_to(struct mapfile *m, uint64_t bytes, uint64_t step, struct status *st) {
    return m->size >= bytes || mapfile_grow(m, bytes, step, st);
}

/* --- rows, records, ids --- */

static bool grow_rows(struct library *lib, const struct reservation *need, struct status *st) {
    const struct library_view *view = &lib->view;
    const struct reservation *held = &lib->reserved;
    uint64_t chunks = (uint64_t)view->chunk_slots + held->chunks + need->chunks;
    uint64_t documents = (uint64_t)view->document_rows + held->documents + need->documents;
    if (chunks > IDTABLE_MAX_ROWS || documents > IDTABLE_MAX_ROWS) {
        return status_set(st, STATUS_TOO_LARGE, "a library cannot have more than %u chunks or documents, deleted ones included",
                          IDTABLE_MAX_ROWS);
    }
    struct arena *a = &lib->arena;
    return grow_to(&a->chunks, chunks * sizeof(struct chunk_row), CHUNKS_STEP, st) &&
           grow_to(&a->documents, documents * sizeof(struct document_row), DOCUMENTS_STEP, st) &&
           grow_to(&a->records, view->records_used + held->record_bytes + need->record_bytes, RECORDS_STEP, st) &&
           grow_to(&a->ids, (view->ids_used + held->id_nodes + need->id_nodes) * IDTABLE_NODE_BYTES, IDS_STEP, st);
}

/* --- terms and columns --- */

static bool grow_texts(struct library *lib, struct status *st) {
    struct arena *a = &lib->arena;
    struct lexical x = arena_lexical(a);
    struct columns columns = arena_columns(a);
    uint64_t terms = 0;
    uint64_t postings = 0;
    lexical_room(&x, &lib->stage.terms, &terms, &postings);
    return grow_to(&a->terms, terms, TERMS_STEP, st) && grow_to(&a->postings, postings, POSTINGS_STEP, st) &&
           grow_to(&a->columns, columns_used(&columns) + lib->stage.columns.bytes, COLUMNS_STEP, st) &&
           library_track_texts(lib, st);
}

/* Finds what the document's chunks put into the three files, and makes them that large. */
static bool reserve_texts(struct library *lib, const struct op_document *d, struct status *st) {
    struct text_stage before = lib->stage;
    struct lexical x = arena_lexical(&lib->arena);
    struct columns columns = arena_columns(&lib->arena);
    uint32_t slot = lib->view.chunk_slots + lib->reserved.chunks;
    if (!text_stage_add(lib->texts, &lib->stage, lib->language, d, slot, &x, &columns, st)) {
        return false;
    }
    if (!grow_texts(lib, st)) {
        text_stage_drop_last(&lib->stage, &before);
        return false;
    }
    return true;
}

/* --- vectors --- */

void library_begin_vectors(const struct library *lib, uint32_t dimension) {
    struct vectors_head *head = (struct vectors_head *)(void *)mapfile_base(&lib->arena.vectors);
    *head = (struct vectors_head){.magic = VECTORS_MAGIC,
                                  .format = ARENA_FORMAT,
                                  .dimension = dimension,
                                  .stride = arena_stride(dimension),
                                  .model_fingerprint = lib->model != NULL ? lib->model->fingerprint : lib->view.model_fingerprint};
}

/* Makes vectors.mmap for a dimension that no view shows yet; one that an abandoned batch has left goes. */
static bool create_vectors(struct library *lib, uint32_t dimension, uint64_t slots, struct status *st) {
    struct arena *a = &lib->arena;
    mapfile_close(&a->vectors);
    if (!io_unlink_at(a->dir_fd, "vectors.mmap", st) ||
        !create_file(a, &a->vectors, "vectors.mmap", arena_vectors_bytes(arena_stride(dimension), slots), st)) {
        return false;
    }
    library_begin_vectors(lib, dimension);
    return true;
}

/* --- the first graph --- */

/* The words of `upper` that the next `chunks` slots after `first` need in g. */
static uint64_t upper_words(const struct graph_work *g, uint32_t first, uint32_t chunks) {
    return g == NULL ? 0 : hnsw_upper_words_for(first, first + chunks, graph_work_graph(g).head->m);
}

static void promise_words(struct graph_work *g, uint64_t words) {
    if (g != NULL) {
        g->reserved_upper += words;
    }
}

/* With nodes for the slots that there are, which wait for their vectors, and room for those promised already. */
static bool make_graph(struct library *lib, const struct index_settings *settings, uint32_t dimension, struct graph_work **ret, struct status *st) {
    const struct hnsw_shape shape = library_shape(lib, settings, dimension);
    struct graph_work *g = NULL;
    if (!graph_work_create(lib->arena.dir_fd, lib->last_generation + 1, &shape, lib->slots, &g, st)) {
        return false;
    }
    uint64_t words = upper_words(g, lib->slots, lib->reserved.chunks);
    if (!graph_work_grow(g, (uint64_t)lib->slots + lib->reserved.chunks, words, st)) {
        graph_work_unlink(lib->arena.dir_fd, g->generation);
        graph_work_free(g);
        return false;
    }
    promise_words(g, words);
    graph_work_mark_dead(g, lib, 0, lib->slots);
    *ret = g;
    return true;
}

/* Makes the first graph, when the dimension is known. Nobody links in it before a view has the dimension. */
static bool create_graph(struct library *lib, const struct index_settings *settings, uint32_t dimension, struct status *st) {
    struct graph_work *g = NULL;
    if (settings->type == INDEX_HNSW && !make_graph(lib, settings, dimension, &g, st)) {
        return false;
    }
    (void)pthread_mutex_lock(&lib->graph_mutex);
    struct graph_work *abandoned = lib->serving; /* of a batch that was not logged */
    lib->last_generation += g != NULL ? 1 : 0;
    lib->serving = g;
    (void)pthread_mutex_unlock(&lib->graph_mutex);
    if (abandoned != NULL) {
        graph_work_unlink(lib->arena.dir_fd, abandoned->generation);
        library_graph_release(lib, abandoned);
    }
    return true;
}

/* ret_dimension: of the vectors file when it was made for this op, else what was reserved before. */
static bool reserve_vectors(struct library *lib, const struct op_document *d, uint32_t *ret_dimension, struct status *st) {
    uint64_t slots = (uint64_t)lib->view.chunk_slots + lib->reserved.chunks + d->num_chunks;
    *ret_dimension = lib->reserved.dimension;
    uint32_t dimension = lib->view.dimension != 0 ? lib->view.dimension : lib->reserved.dimension;
    if (dimension != 0) {
        if (lib->view.dimension == 0 && d->vector_dimension != 0 && d->vector_dimension != dimension) {
            return status_set(st, STATUS_DIMENSION, "the vectors have %u numbers; another document has just fixed dimension %u",
                              d->vector_dimension, dimension);
        }
        return grow_to(&lib->arena.vectors, arena_vectors_bytes(arena_stride(dimension), slots), VECTORS_STEP, st);
    }
    if (d->vector_dimension == 0 || d->num_chunks == 0) {
        return true;
    }
    if (!create_vectors(lib, d->vector_dimension, slots, st) ||
        !create_graph(lib, &lib->view.index, d->vector_dimension, st)) {
        return false;
    }
    *ret_dimension = d->vector_dimension;
    return true;
}

/* Vectors for chunks that are there: where they are the first, the file and the graph are made. */
static bool reserve_vectors_of(struct library *lib, const struct op_vectors *v, uint32_t *ret_dimension, struct status *st) {
    uint64_t slots = (uint64_t)lib->view.chunk_slots + lib->reserved.chunks;
    *ret_dimension = lib->reserved.dimension;
    if (!library_takes_vectors(lib, v) || lib->view.dimension != 0) {
        return true; /* a replay may meet such as do not fit any more */
    }
    if (lib->reserved.dimension != 0) {
        return lib->reserved.dimension == v->dimension ||
               status_set(st, STATUS_DIMENSION, "the vectors have %u numbers; another write has just fixed dimension %u", v->dimension,
                          lib->reserved.dimension);
    }
    if (!create_vectors(lib, v->dimension, slots, st) || !create_graph(lib, &lib->view.index, v->dimension, st)) {
        return false;
    }
    *ret_dimension = v->dimension;
    return true;
}

/* --- the graph --- */

static bool grow_graph(const struct library *lib, struct graph_work *g, uint32_t chunks, uint64_t words, struct status *st) {
    uint64_t slots = (uint64_t)lib->slots + lib->reserved.chunks + chunks;
    return g == NULL || graph_work_grow(g, slots, g->reserved_upper + words, st);
}

/* Also raises the promised chunks, as a rebuild that begins must find both together. */
static bool reserve_graphs(struct library *lib, uint32_t chunks, struct status *st) {
    (void)pthread_mutex_lock(&lib->graph_mutex);
    uint32_t first = lib->slots + lib->reserved.chunks;
    uint64_t serving = upper_words(lib->serving, first, chunks);
    uint64_t building = upper_words(lib->building, first, chunks);
    bool ok = grow_graph(lib, lib->serving, chunks, serving, st) && grow_graph(lib, lib->building, chunks, building, st);
    if (ok) {
        promise_words(lib->serving, serving);
        promise_words(lib->building, building);
        lib->reserved.chunks += chunks;
    }
    (void)pthread_mutex_unlock(&lib->graph_mutex);
    return ok;
}

void library_return_reservation(struct library *lib, const struct reservation *need) {
    struct reservation *held = &lib->reserved;
    (void)pthread_mutex_lock(&lib->graph_mutex);
    held->chunks -= need->chunks < held->chunks ? need->chunks : held->chunks;
    if (held->chunks == 0) {
        if (lib->serving != NULL) {
            lib->serving->reserved_upper = 0;
        }
        if (lib->building != NULL) {
            lib->building->reserved_upper = 0;
        }
    }
    (void)pthread_mutex_unlock(&lib->graph_mutex);
    held->documents -= need->documents < held->documents ? need->documents : held->documents;
    held->record_bytes -= need->record_bytes < held->record_bytes ? need->record_bytes : held->record_bytes;
    held->id_nodes -= need->id_nodes < held->id_nodes ? need->id_nodes : held->id_nodes;
    if (held->documents == 0) {
        held->dimension = 0;
    }
}

static bool drop_vectors(struct library *lib, struct status *st) {
    const struct index_settings none = {.type = INDEX_FLAT};
    mapfile_close(&lib->arena.vectors);
    return io_unlink_at(lib->arena.dir_fd, "vectors.mmap", st) && create_graph(lib, &none, 0, st);
}

bool library_reserve_model(struct library *lib, const struct library_definition *d, struct status *st) {
    const struct embedder *model = slice_is(d->embedding_model, "none") ? NULL : embed_find(lib->catalog->options.models, d->embedding_model);
    uint32_t dimension = model != NULL && !model->remote ? model->dimension : d->dimension;
    return dimension == 0 ? drop_vectors(lib, st)
                          : create_vectors(lib, dimension, lib->view.chunk_slots, st) && create_graph(lib, &d->index, dimension, st);
}

bool library_reserve(struct library *lib, const struct op *op, struct status *st) {
    struct reservation need;
    uint32_t dimension = lib->reserved.dimension;
    reservation_of(op, &need);
    if (!grow_rows(lib, &need, st)) {
        return false;
    }
    if (op->type == OP_LIBRARY_MODEL && op->switches && !library_reserve_model(lib, &op->as.definition, st)) {
        return false;
    }
    struct text_stage before = lib->stage;
    if (op->type == OP_DOCUMENT_PUT) {
        if (!reserve_texts(lib, &op->as.document, st)) {
            return false;
        }
        if (!reserve_vectors(lib, &op->as.document, &dimension, st) || !reserve_graphs(lib, need.chunks, st)) {
            text_stage_drop_last(&lib->stage, &before);
            return false;
        }
    }
    if (op->type == OP_VECTORS && !reserve_vectors_of(lib, &op->as.vectors, &dimension, st)) {
        return false;
    }
    lib->reserved.documents += need.documents;
    lib->reserved.record_bytes += need.record_bytes;
    lib->reserved.id_nodes += need.id_nodes;
    lib->reserved.dimension = dimension;
    return true;
}

/* --- new libraries --- */

static bool create_directory(struct library *lib, struct status *st) {
    int parent = lib->catalog->options.vectors_dir_fd;
    return io_remove_tree(parent, lib->directory, st) && io_mkdir_at(parent, lib->directory, 0750, st) &&
           io_open_at(parent, lib->directory, O_RDONLY | O_DIRECTORY, 0, &lib->arena.dir_fd, st);
}

static bool create_files(struct library *lib, const struct op *op, struct status *st) {
    struct arena *a = &lib->arena;
    struct reservation need;
    reservation_of(op, &need);
    a->writable = true;
    return create_file(a, &a->chunks, "chunks.mmap", FIRST_FILE_BYTES, st) &&
           create_file(a, &a->documents, "documents.mmap", FIRST_FILE_BYTES, st) &&
           create_file(a, &a->ids, "ids.mmap", FIRST_FILE_BYTES, st) &&
           create_file(a, &a->records, "records.mmap",
                          need.record_bytes > FIRST_FILE_BYTES ? need.record_bytes : FIRST_FILE_BYTES, st);
}

/* An empty inverted index, and no columns. */
static bool create_texts(struct library *lib, struct status *st) {
    struct arena *a = &lib->arena;
    if (!create_file(a, &a->terms, "terms.mmap", LEXICAL_TERMS_FIRST_BYTES, st) ||
        !create_file(a, &a->postings, "postings.mmap", LEXICAL_POSTINGS_FIRST_BYTES, st) ||
        !create_file(a, &a->columns, "columns.mmap", COLUMNS_FIRST_BYTES, st) || !library_track_texts(lib, st)) {
        return false;
    }
    struct lexical x = arena_lexical(a);
    struct columns columns = arena_columns(a);
    lexical_init(&x);
    columns_init(&columns);
    return true;
}

bool library_create(struct library *lib, const struct op *create, uint32_t dimension, struct status *st) {
    const struct library_definition *d = &create->as.definition;
    library_set_definition(lib, d);
    return create_directory(lib, st) && create_files(lib, create, st) && create_texts(lib, st) &&
           (dimension == 0 || (create_vectors(lib, dimension, 0, st) && create_graph(lib, &d->index, dimension, st)));
}

static bool reserve_library(struct catalog *c, const struct op *op, struct status *st) {
    struct library *lib = library_new(c, &op->library);
    if (lib == NULL) {
        return status_no_memory(st);
    }
    library_set_definition(lib, &op->as.definition);
    if (!catalog_claim_entry(c, lib, st)) {
        library_free(lib);
        return false;
    }
    if (!library_create(lib, op, library_dimension(lib, &op->as.definition), st)) {
        catalog_free_entry(c, lib);
        library_close(lib, true);
        library_free(lib);
        return false;
    }
    lib->next_aside = c->pending;
    c->pending = lib;
    return true;
}

struct library *catalog_take_pending(struct catalog *c, const struct uuid *id) {
    struct library **at = &c->pending;
    while (*at != NULL && !uuid_equal(&(*at)->id, id)) {
        at = &(*at)->next_aside;
    }
    struct library *lib = *at;
    if (lib != NULL) {
        *at = lib->next_aside;
        lib->next_aside = NULL;
    }
    return lib;
}

bool catalog_reserve(struct catalog *c, const struct op *op, struct status *st) {
    struct library *lib = catalog_find(c, &op->library);
    if (op->type == OP_LIBRARY_CREATE) {
        return lib != NULL || reserve_library(c, op, st);
    }
    return lib == NULL || library_reserve(lib, op, st); /* in a replay its target may be gone */
}

void catalog_abandon(struct catalog *c) {
    while (c->pending != NULL) {
        struct library *lib = c->pending;
        c->pending = lib->next_aside;
        catalog_free_entry(c, lib);
        library_close(lib, true);
        library_free(lib);
    }
    for (uint32_t i = 0; i < c->directory_end; i++) {
        struct library *lib = c->by_entry[i];
        if (lib != NULL) {
            struct reservation all = lib->reserved;
            text_stage_clear(&lib->stage);
            library_return_reservation(lib, &all);
        }
    }
}
