/*
 * resume.c - see resume.h.
 *
 * Of a row in use at the checkpoint, `deleted_lsn` above the checkpoint's LSN means that a later op deleted it: it is put back, and the replay deletes it again.
 * Whether a chunk has a vector is told by the vector: where its bytes have the CRC that the row names, it has one. A flag or a sum that was damaged makes the
 * vector missing, and it is made again from the text; where callers bring vectors that cannot be, and where a provider made them it would be paid for again, so there the number
 * of missing ones must be the checkpoint's.
 */
#include "store/resume.h"

#include "base/crc32c.h"
#include "base/io.h"
#include "base/log.h"
#include "base/parallel.h"
#include "store/library_internal.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { RANGE_ROWS = 16384, IDS_SPARE_NODES = 1024, GENERATIONS_MOST = 1 << 20 /* a name beyond is none of ours */ };

/* --- the files --- */

static bool take_newer_graph(int dir_fd, const char *name, void *ctx, struct status *st) {
    uint32_t *newest = (uint32_t *)ctx;
    unsigned number = 0;
    char end = '\0';
    (void)dir_fd;
    (void)st;
    if (sscanf(name, "graph.%9u.mmap%c", &number, &end) == 1 || sscanf(name, "upper.%9u.mmap%c", &number, &end) == 1) {
        *newest = number > *newest && number <= GENERATIONS_MOST ? number : *newest;
    }
    return true;
}

/* The greatest number of a graph in the directory; 0: there is none. */
static bool newest_graph(int dir_fd, uint32_t *ret, struct status *st) {
    *ret = 0;
    return io_each_entry(dir_fd, "the directory of a library", take_newer_graph, ret, st);
}

/* An empty id table with room for all rows. */
static bool make_ids(const struct library *lib, int dir_fd, struct status *st) {
    struct mapfile ids = MAPFILE_CLOSED;
    uint64_t rows = (uint64_t)lib->view.chunk_slots + lib->view.document_rows;
    uint64_t nodes = lib->view.ids_used + idtable_nodes_for(rows) + IDS_SPARE_NODES;
    bool ok = io_unlink_at(dir_fd, "ids.mmap", st) && mapfile_create(&ids, dir_fd, "ids.mmap", MAPFILE_SMALL_PAGES, nodes * IDTABLE_NODE_BYTES, st);
    mapfile_close(&ids);
    return ok;
}

static bool open_files(struct library *lib, struct status *st) {
    int dir_fd = -1;
    struct library_view without_graph = lib->view;
    without_graph.graph_generation = 0;
    without_graph.ids_used = 0;
    if (!io_open_at(lib->catalog->options.vectors_dir_fd, lib->directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &dir_fd, st)) {
        return false;
    }
    bool ok = newest_graph(dir_fd, &lib->last_generation, st) && make_ids(lib, dir_fd, st) &&
              arena_open_writable(&lib->arena, lib->catalog->options.vectors_dir_fd, &without_graph, st) &&
              library_track_texts(lib, st);
    io_close(&dir_fd);
    lib->slots = lib->view.chunk_slots;
    lib->last_generation = lib->last_generation > lib->view.graph_generation ? lib->last_generation : lib->view.graph_generation;
    return ok;
}

/* --- rows --- */

struct resuming {
    struct library *lib;
    uint64_t lsn;
    uint64_t present; /* atomic: rows with a vector */
    uint64_t missing; /* atomic: live chunks without */
};

/* The vector that stands where the slot's should, when it is the one that its row names. */
static bool vector_stands(const struct library *lib, const struct chunk_row *row, uint32_t slot) {
    uint32_t dimension = lib->view.dimension;
    return dimension != 0 && (row->state & CHUNK_HAS_VECTOR) != 0 &&
           crc32c(0, library_vector(lib, dimension, slot), dimension * sizeof(float)) == row->vector_crc;
}

static void resume_chunks(void *ctx, size_t range) {
    struct resuming *r = (struct resuming *)ctx;
    uint64_t end = ((uint64_t)range + 1) * RANGE_ROWS;
    uint64_t present = 0;
    uint64_t missing = 0;
    end = end < r->lib->view.chunk_slots ? end : r->lib->view.chunk_slots;
    for (uint32_t slot = (uint32_t)range * RANGE_ROWS; slot < end; slot++) {
        struct chunk_row *row = library_chunk(r->lib, slot);
        row->deleted_lsn = row->deleted_lsn > r->lsn ? 0 : row->deleted_lsn;
        bool stands = vector_stands(r->lib, row, slot);
        row->state = (stands ? CHUNK_HAS_VECTOR : 0) | (row->deleted_lsn != 0 ? CHUNK_COUNTED_DEAD : 0);
        present += stands ? 1 : 0;
        missing += !stands && row->deleted_lsn == 0 ? 1 : 0;
    }
    (void)__atomic_add_fetch(&r->present, present, __ATOMIC_RELAXED);
    (void)__atomic_add_fetch(&r->missing, missing, __ATOMIC_RELAXED);
}

static void resume_documents(const struct library *lib, uint64_t lsn) {
    for (uint32_t row = 0; row < lib->view.document_rows; row++) {
        struct document_row *d = library_document(lib, row);
        d->deleted_lsn = d->deleted_lsn > lsn ? 0 : d->deleted_lsn;
    }
}

static void resume_vectors_head(const struct library *lib, uint64_t present) {
    if (lib->view.dimension != 0) {
        library_begin_vectors(lib, lib->view.dimension);
        ((struct vectors_head *)(void *)mapfile_base(&lib->arena.vectors))->present = present;
    }
}

static void resume_ids(struct library *lib) {
    lib->view.ids_used = IDTABLE_FIRST_FREE;
    for (uint32_t row = 0; row < lib->view.document_rows; row++) {
        idtable_insert(&lib->arena, ID_DOCUMENT, row, &lib->view.ids_used);
    }
    for (uint32_t slot = 0; slot < lib->view.chunk_slots; slot++) {
        idtable_insert(&lib->arena, ID_CHUNK, slot, &lib->view.ids_used);
    }
}

static bool resume_rows(struct library *lib, const struct resume_point *p, struct status *st) {
    struct resuming r = {.lib = lib, .lsn = p->lsn};
    if (!p->rows_stand(p->ctx, library_chunk(lib, 0), library_document(lib, 0), mapfile_base(&lib->arena.records), st)) {
        return false;
    }
    parallel_for(((size_t)lib->view.chunk_slots + RANGE_ROWS - 1) / RANGE_ROWS, resume_chunks, &r);
    if (lib->brings_vectors && r.missing != p->missing) {
        return status_set(st, STATUS_CORRUPT, "%llu chunks have no sound vector, %llu had none", (unsigned long long)r.missing,
                          (unsigned long long)p->missing);
    }
    if (lib->view.pinned != 0 && r.missing > p->missing) { /* there may be fewer: those that the log behind the checkpoint brings */
        return status_set(st, STATUS_CORRUPT, "%llu chunks have no sound vector, %llu had none", (unsigned long long)r.missing,
                          (unsigned long long)p->missing);
    }
    resume_documents(lib, p->lsn);
    resume_vectors_head(lib, r.present);
    resume_ids(lib);
    return true;
}

/* --- the library --- */

/* The definition is read before the rows: it says whether vectors can be made again. Its record is summed with all others afterwards. */
static bool resume_library(struct library *lib, const struct resume_point *p, struct status *st) {
    return open_files(lib, st) && library_adopt_definition(lib, st) && resume_rows(lib, p, st) && library_prepare_texts(lib, st);
}

bool catalog_resume(struct catalog *c, const struct resume_point *p, struct status *st) {
    if (!library_view_check(&p->view, st)) {
        return false;
    }
    if (catalog_find(c, &p->view.id) != NULL) {
        return status_set_subject(st, STATUS_CONFLICT, SUBJECT_LIBRARY, "a library is in the checkpoint twice");
    }
    struct library *lib = library_new(c, &p->view.id);
    if (lib == NULL) {
        return status_no_memory(st);
    }
    lib->view = p->view;
    arena_directory_name(&p->view.id, p->view.directory, lib->directory);
    if (!resume_library(lib, p, st) || !catalog_claim_entry(c, lib, st)) {
        library_close(lib, false);
        library_free(lib);
        return false;
    }
    library_count_missing(lib);
    if (p->view.arena_generation > c->next_arena_generation) {
        c->next_arena_generation = p->view.arena_generation;
    }
    catalog_add(c, lib);
    catalog_mark_dirty(c, lib);
    return true;
}

/* --- the replay --- */

static bool is_leftover(const struct library *lib, uint32_t slot, const struct op_chunk *chunk) {
    const struct chunk_row *row = library_chunk(lib, slot);
    return row->id_hash == item_id_hash(chunk->id) && row->text_hash == text_hash(chunk->text) && vector_stands(lib, row, slot);
}

bool library_leftover_vectors(struct catalog *c, const struct op *op, float *rows) {
    const struct library *lib = catalog_find(c, &op->library);
    uint32_t dimension = lib != NULL ? lib->view.dimension : 0;
    struct chunk_walk walk = {.bytes = op->as.document.chunks, .base = op->as.document.chunks_offset};
    struct op_chunk chunk;
    bool any = false;
    if (dimension == 0) {
        return false;
    }
    for (uint32_t i = 0; i < op->as.document.num_chunks && chunk_walk_next(&walk, &chunk); i++) {
        uint32_t slot = lib->view.chunk_slots + i;
        float *row = rows + (size_t)i * dimension;
        row[0] = NAN;
        if (is_leftover(lib, slot, &chunk)) {
            memcpy(row, library_vector(lib, dimension, slot), dimension * sizeof *row);
            any = true;
        }
    }
    return any;
}

/* --- the graph --- */

static bool row_has_vector(const void *ctx, uint32_t slot) {
    return (library_chunk((const struct library *)ctx, slot)->state & CHUNK_HAS_VECTOR) != 0;
}

/* A graph file that can be of use, repaired; NULL in *ret: there is none. */
static bool take_graph(struct library *lib, uint32_t generation, struct graph_work **ret, uint64_t *ret_dropped,
                       struct status *st) {
    const struct slot_filter has_vector = {row_has_vector, lib};
    const struct vector_rows rows = {library_vector(lib, lib->view.dimension, 0), lib->view.stride, lib->view.dimension};
    struct hnsw_repair_report report = {0};
    struct status why = {0};
    *ret = NULL;
    if (!graph_work_resume(lib->arena.dir_fd, generation, &rows, lib->view.chunk_slots, lib->code_bits, &has_vector, ret, &report,
                           &why)) {
        if (why.code == STATUS_NO_MEMORY || why.code == STATUS_NO_SPACE) {
            *st = why;
            return false;
        }
        log_status(LOG_LEVEL_WARN, "a graph is begun anew", &why);
        return true;
    }
    *ret_dropped = report.dropped;
    return true;
}

static bool begin_graph(struct library *lib, struct graph_work **ret, struct status *st) {
    const struct hnsw_shape shape = library_shape(lib, &lib->view.index, lib->view.dimension);
    return lib->view.index.type != INDEX_HNSW ||
           graph_work_create(lib->arena.dir_fd, ++lib->last_generation, &shape, lib->view.chunk_slots, ret, st);
}

/* The checkpoint's, or the one that has taken its place since. */
static uint32_t graph_to_take(const struct library *lib) {
    char graph[ARENA_FILE_NAME_MAX];
    char upper[ARENA_FILE_NAME_MAX];
    struct status ignored;
    int fd = -1;
    arena_graph_names(lib->view.graph_generation, graph, upper);
    if (!io_open_at(lib->arena.dir_fd, graph, O_RDONLY | O_NOFOLLOW, 0, &fd, &ignored)) {
        return lib->last_generation;
    }
    io_close(&fd);
    return lib->view.graph_generation;
}

static void remove_others(const struct library *lib, uint32_t kept) {
    for (uint32_t generation = 1; generation <= lib->last_generation; generation++) {
        if (generation != kept) {
            graph_work_unlink(lib->arena.dir_fd, generation);
        }
    }
}

bool library_resume_graph(struct library *lib, uint64_t *ret_dropped, struct status *st) {
    struct graph_work *g = NULL;
    *ret_dropped = 0;
    if (lib->serving != NULL || lib->view.dimension == 0 || lib->view.graph_generation == 0) {
        return true; /* made during the replay, or there is none */
    }
    if (!take_graph(lib, graph_to_take(lib), &g, ret_dropped, st)) {
        return false;
    }
    if (g == NULL) {
        *ret_dropped = lib->view.chunk_slots;
        if (!begin_graph(lib, &g, st)) {
            return false;
        }
    }
    remove_others(lib, g != NULL ? g->generation : 0);
    if (g != NULL) {
        graph_work_mark_dead(g, lib, 0, lib->view.chunk_slots);
    }
    (void)pthread_mutex_lock(&lib->graph_mutex);
    lib->serving = g;
    (void)pthread_mutex_unlock(&lib->graph_mutex);
    lib->view.graph_generation = g != NULL ? g->generation : 0;
    catalog_mark_dirty(lib->catalog, lib);
    return true;
}
