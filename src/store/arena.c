/*
 * arena.c - opening the files of a library and keeping up with them.
 *
 * A reader maps what its view counts and nothing else is needed, with two exceptions. The graph's upper layers are not counted by
 * the view; their head says how much is in use, and that can only be more than the view needs. And the id table is one for all
 * views: a walk may come upon a node or a row that the commit under way has just hung in, beyond the reader's map. The walk then
 * says so, and the reader maps up to the end of the files, which were grown before anything was stored there.
 */
#include "store/arena.h"

#include "base/io.h"
#include "shm/atomics.h"
#include "store/idtable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define ROW_PADDING_FLOATS 16 /* 64 bytes: a cache line, and the widest vector register */

uint32_t arena_stride(uint32_t dimension) {
    return (dimension + ROW_PADDING_FLOATS - 1) / ROW_PADDING_FLOATS * ROW_PADDING_FLOATS;
}

uint64_t arena_vectors_bytes(uint32_t stride, uint64_t slots) {
    return VECTORS_HEAD_BYTES + slots * stride * sizeof(float);
}

uint64_t arena_graph_bytes(const struct hnsw_head *head, uint64_t slots) {
    return HNSW_HEAD_BYTES + slots * head->block_bytes;
}

void arena_graph_names(uint32_t generation, char graph[ARENA_FILE_NAME_MAX], char upper[ARENA_FILE_NAME_MAX]) {
    (void)snprintf(graph, ARENA_FILE_NAME_MAX, "graph.%u.mmap", generation);
    (void)snprintf(upper, ARENA_FILE_NAME_MAX, "upper.%u.mmap", generation);
}

enum mapfile_pages arena_file_pages(const char *name) {
    static const char *const searched[] = {"graph.", "terms.", "postings."};
    for (size_t i = 0; i < sizeof searched / sizeof *searched; i++) {
        if (strncmp(name, searched[i], strlen(searched[i])) == 0) {
            return MAPFILE_HUGE_PAGES;
        }
    }
    return MAPFILE_SMALL_PAGES;
}

/* Opens m when it is closed, and maps at least `bytes` of it. */
static bool follow_file(struct arena *a, struct mapfile *m, const char *name, uint64_t bytes, struct status *st) {
    if (m->fd < 0 && !mapfile_open(m, a->dir_fd, name, arena_file_pages(name), a->writable, st)) {
        return false;
    }
    return load_acquire_u64(&m->size) >= bytes || mapfile_refresh(m, bytes, st);
}

static bool follow_rows(struct arena *a, const struct library_view *view, struct status *st) {
    return follow_file(a, &a->chunks, "chunks.mmap", (uint64_t)view->chunk_slots * sizeof(struct chunk_row), st) &&
           follow_file(a, &a->documents, "documents.mmap", (uint64_t)view->document_rows * sizeof(struct document_row), st) &&
           follow_file(a, &a->records, "records.mmap", view->records_used, st) &&
           follow_file(a, &a->ids, "ids.mmap", view->ids_used * IDTABLE_NODE_BYTES, st);
}

/* What BM25 and filters read. */
static bool follow_texts(struct arena *a, const struct library_view *view, struct status *st) {
    return follow_file(a, &a->terms, "terms.mmap", view->terms_used, st) &&
           follow_file(a, &a->postings, "postings.mmap", view->postings_used, st) &&
           follow_file(a, &a->columns, "columns.mmap", view->columns_used, st);
}

static bool follow_vectors(struct arena *a, const struct library_view *view, struct status *st) {
    if (view->dimension == 0) {
        return true;
    }
    if (!follow_file(a, &a->vectors, "vectors.mmap", arena_vectors_bytes(view->stride, view->chunk_slots), st)) {
        return false;
    }
    const struct vectors_head *head = (const struct vectors_head *)mapfile_base(&a->vectors);
    if (head->magic != VECTORS_MAGIC || head->format != ARENA_FORMAT || head->dimension != view->dimension ||
        head->stride != view->stride) {
        return status_set(st, STATUS_CORRUPT, "vectors.mmap does not begin as its library says");
    }
    return true;
}

static bool follow_graph(struct arena *a, const struct library_view *view, struct status *st) {
    if (a->graph_generation != view->graph_generation) {
        mapfile_close(&a->graph);
        mapfile_close(&a->upper);
        a->graph_generation = 0;
    }
    if (view->graph_generation == 0) {
        return true;
    }
    char graph[ARENA_FILE_NAME_MAX];
    char upper[ARENA_FILE_NAME_MAX];
    arena_graph_names(view->graph_generation, graph, upper);
    if (!follow_file(a, &a->graph, graph, HNSW_HEAD_BYTES, st)) {
        return false;
    }
    struct hnsw_head *head = (struct hnsw_head *)mapfile_base(&a->graph);
    if (!hnsw_head_valid(head) || head->dimension != view->dimension) {
        return status_set(st, STATUS_CORRUPT, "%s does not begin as a graph", graph);
    }
    uint64_t upper_bytes = load_relaxed_u64(&head->upper_used) * sizeof(uint32_t);
    if (!follow_file(a, &a->graph, graph, arena_graph_bytes(head, view->chunk_slots), st) ||
        !follow_file(a, &a->upper, upper, upper_bytes, st)) {
        return false;
    }
    a->graph_generation = view->graph_generation;
    return true;
}

static bool open_directory(struct arena *a, int vectors_dir_fd, const struct library_view *view, struct status *st) {
    char name[ARENA_DIRECTORY_MAX];
    arena_directory_name(&view->id, view->directory, name);
    struct status failure = {0};
    if (io_open_at(vectors_dir_fd, name, O_RDONLY | O_DIRECTORY, 0, &a->dir_fd, &failure)) {
        return true;
    }
    if (failure.sys_errno == ENOENT) {
        return status_set(st, STATUS_NOT_FOUND, "there is no arena %s", name);
    }
    *st = failure;
    return false;
}

static bool follow(struct arena *a, int vectors_dir_fd, const struct library_view *view, struct status *st) {
    if ((a->dir_fd < 0 && !open_directory(a, vectors_dir_fd, view, st)) || !follow_rows(a, view, st) ||
        !follow_texts(a, view, st) || !follow_vectors(a, view, st) || !follow_graph(a, view, st)) {
        arena_close(a); /* the next attempt begins from nothing */
        return false;
    }
    return true;
}

bool arena_follow(struct arena *a, int vectors_dir_fd, const struct library_view *view, struct status *st) {
    if (a->dir_fd < 0) {
        a->writable = false;
    }
    return follow(a, vectors_dir_fd, view, st);
}

bool arena_open_writable(struct arena *a, int vectors_dir_fd, const struct library_view *view, struct status *st) {
    a->writable = true;
    return follow(a, vectors_dir_fd, view, st);
}

static bool follow_growth(struct mapfile *m, struct status *st) {
    off_t size = 0;
    return io_size(m->fd, &size, st) && ((uint64_t)size <= load_acquire_u64(&m->size) || mapfile_refresh(m, (uint64_t)size, st));
}

bool arena_follow_growth(struct arena *a, struct status *st) {
    return follow_growth(&a->ids, st) && follow_growth(&a->chunks, st) && follow_growth(&a->documents, st) &&
           follow_growth(&a->terms, st) && follow_growth(&a->postings, st) && follow_growth(&a->columns, st);
}

void arena_close(struct arena *a) {
    mapfile_close(&a->vectors);
    mapfile_close(&a->chunks);
    mapfile_close(&a->documents);
    mapfile_close(&a->records);
    mapfile_close(&a->ids);
    mapfile_close(&a->terms);
    mapfile_close(&a->postings);
    mapfile_close(&a->columns);
    mapfile_close(&a->graph);
    mapfile_close(&a->upper);
    a->graph_generation = 0;
    io_close(&a->dir_fd);
}

/* The base is taken at each call, after the caller has learned the row's number: in the supervisor another thread may have moved
 * the map since, and the number is published after the map (pairs with: MAPFILE_BASE). */
const struct chunk_row *arena_chunk(const struct arena *a, uint32_t slot) {
    return (const struct chunk_row *)mapfile_base(&a->chunks) + slot;
}

const struct document_row *arena_document(const struct arena *a, uint32_t row) {
    return (const struct document_row *)mapfile_base(&a->documents) + row;
}

struct slice arena_record(const struct arena *a, uint64_t offset, uint32_t length) {
    uint64_t size = load_acquire_u64(&a->records.size);
    if (offset > size || length > size - offset) {
        return slice_of(NULL, 0);
    }
    return slice_of(mapfile_base(&a->records) + offset, length);
}

struct vector_rows arena_vectors(const struct arena *a, const struct library_view *view) {
    if (view->dimension == 0 || a->vectors.fd < 0) {
        return (struct vector_rows){0};
    }
    return (struct vector_rows){.base = (const float *)(const void *)(mapfile_base(&a->vectors) + VECTORS_HEAD_BYTES),
                                .stride = view->stride,
                                .dimension = view->dimension};
}

struct hnsw_graph arena_graph(const struct arena *a) {
    uint64_t upper_bytes = load_acquire_u64(&a->upper.size);
    uint8_t *graph = mapfile_base(&a->graph);
    return (struct hnsw_graph){.head = (struct hnsw_head *)(void *)graph,
                               .base = graph + HNSW_HEAD_BYTES,
                               .upper = (uint32_t *)(void *)mapfile_base(&a->upper),
                               .upper_words = upper_bytes / sizeof(uint32_t)};
}

/* The size is loaded first: a base that is newer maps at least as much (pairs with: MAPFILE_BASE). */
struct lexical arena_lexical(const struct arena *a) {
    struct lexical x = {.terms_bytes = load_acquire_u64(&a->terms.size), .postings_bytes = load_acquire_u64(&a->postings.size)};
    x.terms = mapfile_base(&a->terms);
    x.postings = mapfile_base(&a->postings);
    if (a->dirty != NULL) {
        x.terms_dirty = &a->dirty[ARENA_TERMS];
        x.postings_dirty = &a->dirty[ARENA_POSTINGS];
    }
    return x;
}

struct columns arena_columns(const struct arena *a) {
    struct columns c = {.bytes = load_acquire_u64(&a->columns.size)};
    c.base = mapfile_base(&a->columns);
    c.dirty = a->dirty != NULL ? &a->dirty[ARENA_COLUMNS] : NULL;
    return c;
}
