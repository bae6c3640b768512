/*
 * graph_work.c - the files of one generation of a library's graph, in the supervisor.
 *
 * A graph is counted by reference: the library holds one, and so does every background call that works on it. So a switch to a
 * new generation need not wait for a linker in the old one: its maps go when the last of them is done.
 */
#include "store/library_internal.h"

#include "base/io.h"
#include "base/log.h"

#include <stdlib.h>

#define GRAPH_STEP 65536
#define UPPER_STEP 16384
#define UPPER_LEAST 4096

static struct graph_work *graph_work_new(uint32_t generation) {
    struct graph_work *g = (struct graph_work *)calloc(1, sizeof *g);
    if (g == NULL) {
        return NULL;
    }
    g->generation = generation;
    g->graph = MAPFILE_CLOSED;
    g->upper = MAPFILE_CLOSED;
    g->refs = 1;
    (void)pthread_mutex_init(&g->mutex, NULL);
    return g;
}

void graph_work_free(struct graph_work *g) {
    if (g == NULL) {
        return;
    }
    mapfile_close(&g->graph);
    mapfile_close(&g->upper);
    link_queue_free(g);
    (void)pthread_mutex_destroy(&g->mutex);
    free(g);
}

void graph_work_unlink(int dir_fd, uint32_t generation) {
    char graph[ARENA_FILE_NAME_MAX];
    char upper[ARENA_FILE_NAME_MAX];
    struct status st = {0};
    arena_graph_names(generation, graph, upper);
    if (!io_unlink_at(dir_fd, graph, &st) || !io_unlink_at(dir_fd, upper, &st)) {
        log_status(LOG_LEVEL_WARN, "an old graph was not removed", &st);
    }
}

struct hnsw_graph graph_work_graph(const struct graph_work *g) {
    uint64_t upper_bytes = load_acquire_u64(&g->upper.size);
    uint8_t *graph = mapfile_base(&g->graph);
    return (struct hnsw_graph){.head = (struct hnsw_head *)(void *)graph,
                               .base = graph + HNSW_HEAD_BYTES,
                               .upper = (uint32_t *)(void *)mapfile_base(&g->upper),
                               .upper_words = upper_bytes / sizeof(uint32_t)};
}

static bool grow_to(struct mapfile *m, uint64_t bytes, uint64_t step, struct status *st) {
    return m->size >= bytes || mapfile_grow(m, bytes, step, st);
}

bool graph_work_grow(struct graph_work *g, uint64_t slots, uint64_t upper_words, struct status *st) {
    const struct hnsw_head *head = graph_work_graph(g).head;
    uint64_t words = load_relaxed_u64(&head->upper_used) + upper_words;
    return grow_to(&g->graph, arena_graph_bytes(head, slots), GRAPH_STEP, st) &&
           grow_to(&g->upper, words * sizeof(uint32_t), UPPER_STEP, st);
}

void graph_work_encode(const struct graph_work *g, const struct library *lib, uint32_t slot) {
    if (g != NULL) {
        struct hnsw_graph graph = graph_work_graph(g);
        uint32_t dimension = graph.head->dimension;
        const struct vector_rows rows = {library_vector(lib, dimension, 0), arena_stride(dimension), dimension};
        hnsw_encode(&graph, &rows, slot);
    }
}

void library_node_died(struct library *lib, uint32_t slot) {
    (void)pthread_mutex_lock(&lib->graph_mutex);
    struct graph_work *const graphs[] = {lib->serving, lib->building};
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++) {
        if (graphs[i] != NULL && slot < graphs[i]->slots) {
            struct hnsw_graph graph = graph_work_graph(graphs[i]);
            hnsw_node_died(&graph, slot);
        }
    }
    (void)pthread_mutex_unlock(&lib->graph_mutex);
}

void graph_work_mark_dead(const struct graph_work *g, const struct library *lib, uint32_t from, uint32_t end) {
    for (uint32_t slot = from; slot < end; slot++) {
        if (load_acquire_u64(&library_chunk(lib, slot)->deleted_lsn) != 0) { /* pairs with: CHUNK_DELETED */
            struct hnsw_graph graph = graph_work_graph(g);
            hnsw_node_died(&graph, slot);
        }
    }
}

void graph_work_init_nodes(struct graph_work *g, uint32_t end) {
    struct hnsw_graph graph = graph_work_graph(g);
    for (; g->slots < end; g->slots++) {
        hnsw_node_init(&graph, g->slots);
    }
}

bool graph_work_create(int dir_fd, uint32_t generation, const struct hnsw_shape *shape, uint32_t slots, struct graph_work **ret,
                       struct status *st) {
    struct graph_work *g = graph_work_new(generation);
    if (g == NULL) {
        return status_no_memory(st);
    }
    char graph[ARENA_FILE_NAME_MAX];
    char upper[ARENA_FILE_NAME_MAX];
    arena_graph_names(generation, graph, upper);
    uint64_t upper_bytes = hnsw_upper_words_for(0, slots, shape->m) * sizeof(uint32_t);
    uint64_t graph_bytes = HNSW_HEAD_BYTES + (uint64_t)slots * hnsw_block_bytes(shape);
    graph_work_unlink(dir_fd, generation); /* of a rebuild that a restart cut off */
    if (!mapfile_create(&g->graph, dir_fd, graph, arena_file_pages(graph), graph_bytes, st) ||
        !mapfile_create(&g->upper, dir_fd, upper, arena_file_pages(upper), upper_bytes > UPPER_LEAST ? upper_bytes : UPPER_LEAST, st)) {
        graph_work_free(g);
        graph_work_unlink(dir_fd, generation);
        return false;
    }
    hnsw_head_init(graph_work_graph(g).head, shape);
    graph_work_init_nodes(g, slots);
    graph_work_note_unused(g);
    *ret = g;
    return true;
}

static bool open_files(struct graph_work *g, int dir_fd, struct status *st) {
    char graph[ARENA_FILE_NAME_MAX];
    char upper[ARENA_FILE_NAME_MAX];
    arena_graph_names(g->generation, graph, upper);
    return mapfile_open(&g->graph, dir_fd, graph, arena_file_pages(graph), true, st) &&
           mapfile_open(&g->upper, dir_fd, upper, arena_file_pages(upper), true, st);
}

void graph_work_note_unused(struct graph_work *g) {
    const struct hnsw_head *head = graph_work_graph(g).head;
    mapfile_unused_from(&g->graph, arena_graph_bytes(head, g->slots));
    mapfile_unused_from(&g->upper, head->upper_used * sizeof(uint32_t));
}

bool graph_work_open(int dir_fd, uint32_t generation, uint32_t slots, struct graph_work **ret, struct status *st) {
    struct graph_work *g = graph_work_new(generation);
    if (g == NULL) {
        return status_no_memory(st);
    }
    if (!open_files(g, dir_fd, st)) {
        graph_work_free(g);
        return false;
    }
    const struct hnsw_head *head = graph_work_graph(g).head;
    if (g->graph.size < HNSW_HEAD_BYTES || !hnsw_head_valid(head) || g->graph.size < arena_graph_bytes(head, slots) ||
        g->upper.size / sizeof(uint32_t) < head->upper_used || head->linked > slots) {
        graph_work_free(g);
        return status_set(st, STATUS_CORRUPT, "graph.%u.mmap does not fit its library", generation);
    }
    g->slots = slots;
    if (!link_queue_restore(g, slots, st)) {
        graph_work_free(g);
        return false;
    }
    *ret = g;
    return true;
}

/* Opens the files and makes them long enough; the head must be that of such a graph. */
static bool resume_files(struct graph_work *g, int dir_fd, uint32_t dimension, uint32_t slots, uint32_t code_bits,
                         struct status *st) {
    if (!open_files(g, dir_fd, st)) {
        return false;
    }
    const struct hnsw_head *head = (const struct hnsw_head *)(const void *)mapfile_base(&g->graph);
    if (g->graph.size < HNSW_HEAD_BYTES || !hnsw_head_valid(head) || head->dimension != dimension || head->bits != code_bits) {
        return status_set(st, STATUS_CORRUPT, "graph.%u.mmap is not a graph of its library", g->generation);
    }
    return grow_to(&g->graph, arena_graph_bytes(head, slots), GRAPH_STEP, st) &&
           grow_to(&g->upper, hnsw_upper_words_for(0, slots, head->m) * sizeof(uint32_t), UPPER_STEP, st);
}

bool graph_work_resume(int dir_fd, uint32_t generation, const struct vector_rows *rows, uint32_t slots, uint32_t code_bits,
                       const struct slot_filter *has_vector, struct graph_work **ret, struct hnsw_repair_report *ret_report,
                       struct status *st) {
    struct graph_work *g = graph_work_new(generation);
    if (g == NULL) {
        return status_no_memory(st);
    }
    bool ok = resume_files(g, dir_fd, rows->dimension, slots, code_bits, st);
    if (ok) {
        const struct hnsw_graph graph = graph_work_graph(g);
        ok = hnsw_repair(&graph, rows, slots, has_vector, ret_report) || status_no_memory(st);
    }
    g->slots = slots;
    if (!ok || !link_queue_restore(g, slots, st)) {
        graph_work_free(g);
        return false;
    }
    *ret = g;
    return true;
}

struct graph_work *library_graph(struct library *lib, bool building) {
    (void)pthread_mutex_lock(&lib->graph_mutex);
    struct graph_work *g = building ? lib->building : lib->serving;
    if (g != NULL) {
        g->refs++;
    }
    (void)pthread_mutex_unlock(&lib->graph_mutex);
    return g;
}

void library_graph_release(struct library *lib, struct graph_work *g) {
    if (g == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&lib->graph_mutex);
    bool last = --g->refs == 0;
    (void)pthread_mutex_unlock(&lib->graph_mutex);
    if (last) {
        graph_work_free(g);
    }
}
