/* library.c - making and closing a library in the supervisor, and what background threads may ask of it. */
#include "store/library_internal.h"

#include "base/io.h"
#include "base/log.h"

#include <stdlib.h>

struct library *library_new(struct catalog *c, const struct uuid *id) {
    struct library *lib = (struct library *)calloc(1, sizeof *lib);
    if (lib == NULL) {
        return NULL;
    }
    lib->catalog = c;
    lib->id = *id;
    lib->entry = UINT32_MAX;
    lib->texts = c->texts;
    lib->arena = ARENA_CLOSED;
    lib->arena.dirty = lib->text_pages;
    lib->view.id = *id;
    arena_directory_name(id, 0, lib->directory);
    (void)pthread_mutex_init(&lib->published_mutex, NULL);
    (void)pthread_mutex_init(&lib->graph_mutex, NULL);
    (void)pthread_mutex_init(&lib->embed_mutex, NULL);
    (void)pthread_mutex_init(&lib->busy_mutex, NULL);
    (void)pthread_cond_init(&lib->idle, NULL);
    return lib;
}

static bool remove_other(int dir_fd, const char *name, void *ctx, struct status *st) {
    const struct library *lib = (const struct library *)ctx;
    const char *suffix = NULL;
    struct uuid id;
    uint32_t number = 0;
    bool own = arena_directory_parse(name, &id, &number, &suffix) && uuid_equal(&id, &lib->id) && *suffix == '\0';
    return !own || io_remove_tree(dir_fd, name, st);
}

static void remove_directory(struct library *lib) {
    struct status st = {0};
    int fd = lib->catalog->options.vectors_dir_fd;
    bool removed = io_remove_tree(fd, lib->directory, &st) &&
                   (!lib->others_go || io_each_entry(fd, "the directory vectors/", remove_other, lib, &st));
    if (!removed) {
        log_status(LOG_LEVEL_WARN, "the files of a deleted library were not removed", &st);
    }
}

void library_close(struct library *lib, bool remove_files) {
    while (lib->retired != NULL) {
        struct graph_work *next = lib->retired->next_retired;
        graph_work_unlink(lib->arena.dir_fd, lib->retired->generation);
        graph_work_free(lib->retired);
        lib->retired = next;
    }
    graph_work_free(lib->serving);
    graph_work_free(lib->building);
    lib->serving = NULL;
    lib->building = NULL;
    arena_close(&lib->arena);
    if (remove_files && !lib->keep_files) {
        remove_directory(lib);
    }
}

void library_free(struct library *lib) {
    free(lib->embed_claimed);
    free(lib->embed_refused);
    for (int file = 0; file < ARENA_TEXT_FILES; file++) {
        dirty_fini(&lib->text_pages[file]);
    }
    text_stage_fini(&lib->stage);
    (void)pthread_mutex_destroy(&lib->published_mutex);
    (void)pthread_mutex_destroy(&lib->graph_mutex);
    (void)pthread_mutex_destroy(&lib->embed_mutex);
    (void)pthread_mutex_destroy(&lib->busy_mutex);
    (void)pthread_cond_destroy(&lib->idle);
    free(lib);
}

bool library_track_texts(struct library *lib, struct status *st) {
    const struct arena *a = &lib->arena;
    return dirty_room(&lib->text_pages[ARENA_TERMS], a->terms.size, st) &&
           dirty_room(&lib->text_pages[ARENA_POSTINGS], a->postings.size, st) &&
           dirty_room(&lib->text_pages[ARENA_COLUMNS], a->columns.size, st);
}

void library_set_definition(struct library *lib, const struct library_definition *d) {
    lib->language = texts_language(d->language);
    lib->brings_vectors = slice_is(d->embedding_model, "none");
    const struct embedder *model = lib->brings_vectors ? NULL : embed_find(lib->catalog->options.models, d->embedding_model);
    lib->model = model != NULL && !model->remote ? model : NULL;
    lib->remote = model != NULL && model->remote ? model : NULL;
    const struct quantization_settings *q = &d->quantization;
    bool none = q->strategy == QUANTIZATION_NONE;
    lib->code_bits = none ? 0 : (q->bits == 4 ? 4 : 8);
    store_relaxed_u32(&lib->exchange_state, d->exchange.state);
    lib->view.rerank = q->strategy == QUANTIZATION_SCALAR ? 0 : (q->rerank_top_k != 0 ? q->rerank_top_k : HNSW_DEFAULT_RERANK);
}

struct library_view library_newest(const struct library *lib) {
    struct library_view view = lib->view;
    view.lsn = UINT64_MAX;
    return view;
}

struct hnsw_shape library_shape(const struct library *lib, const struct index_settings *settings, uint32_t dimension) {
    return (struct hnsw_shape){settings->m, settings->ef_construction, dimension, lib->code_bits};
}

void library_count_missing(struct library *lib) {
    uint64_t missing = 0;
    for (uint32_t slot = 0; slot < lib->view.chunk_slots; slot++) {
        const struct chunk_row *c = library_chunk(lib, slot);
        missing += c->deleted_lsn == 0 && (c->state & CHUNK_HAS_VECTOR) == 0 ? 1 : 0;
    }
    store_relaxed_u64(&lib->without_vector, missing);
}

void library_vector_settled(struct library *lib) {
    if (__atomic_sub_fetch(&lib->without_vector, 1, __ATOMIC_ACQ_REL) == 0) {
        store_release_u32(&lib->catalog->embedding_settled, 1); /* pairs with: EMBEDDING_SETTLED */
    }
}

bool library_is_deleted(const struct library *lib) {
    return load_acquire_u32(&lib->deleted) != 0; /* pairs with: LIBRARY_DELETED, stored in catalog_apply.c */
}

void library_reading(struct library *lib, struct reading *ret) {
    *ret = (struct reading){.arena = &lib->arena};
    (void)pthread_mutex_lock(&lib->published_mutex);
    ret->view = lib->published;
    (void)pthread_mutex_unlock(&lib->published_mutex);
}

/* --- files --- */

static void add_file(struct library_file *out, size_t *count, const char *name, uint64_t used) {
    struct library_file *f = &out[(*count)++];
    memcpy(f->name, name, strlen(name) + 1);
    f->used = used;
}

size_t library_files(struct library *lib, struct library_file out[LIBRARY_FILES_MAX]) {
    struct reading rd;
    size_t count = 0;
    library_reading(lib, &rd);
    const struct library_view *view = &rd.view;
    add_file(out, &count, "chunks.mmap", (uint64_t)view->chunk_slots * sizeof(struct chunk_row));
    add_file(out, &count, "documents.mmap", (uint64_t)view->document_rows * sizeof(struct document_row));
    add_file(out, &count, "records.mmap", view->records_used);
    add_file(out, &count, "ids.mmap", view->ids_used * IDTABLE_NODE_BYTES);
    add_file(out, &count, "terms.mmap", view->terms_used);
    add_file(out, &count, "postings.mmap", view->postings_used);
    add_file(out, &count, "columns.mmap", view->columns_used);
    if (view->dimension != 0) {
        add_file(out, &count, "vectors.mmap", arena_vectors_bytes(view->stride, view->chunk_slots));
    }
    struct graph_work *g = library_graph(lib, false);
    if (g != NULL) {
        struct hnsw_graph graph = graph_work_graph(g);
        char names[2][ARENA_FILE_NAME_MAX];
        arena_graph_names(g->generation, names[0], names[1]);
        add_file(out, &count, names[0], arena_graph_bytes(graph.head, view->chunk_slots));
        add_file(out, &count, names[1], load_relaxed_u64(&graph.head->upper_used) * sizeof(uint32_t));
    }
    library_graph_release(lib, g);
    return count;
}

static bool sync_graph(struct library *lib, uint32_t slots, struct status *st) {
    struct graph_work *g = library_graph(lib, false);
    bool ok = true;
    if (g != NULL) {
        const struct hnsw_head *head = graph_work_graph(g).head;
        ok = mapfile_sync(&g->graph, arena_graph_bytes(head, slots), st) &&
             mapfile_sync(&g->upper, load_relaxed_u64(&head->upper_used) * sizeof(uint32_t), st);
    }
    library_graph_release(lib, g);
    return ok;
}

bool catalog_settle(struct catalog *c, struct status *st) {
    struct library **libraries = NULL;
    size_t count = 0;
    if (!catalog_acquire_all(c, &libraries, &count, st)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct lexical x = arena_lexical(&libraries[i]->arena);
        lexical_settle(&x);
        catalog_release(c, libraries[i]);
    }
    free(libraries);
    return true;
}

void library_note_unused(struct library *lib) {
    struct arena *a = &lib->arena;
    const struct library_view *view = &lib->view;
    const struct lexical x = arena_lexical(a);
    const struct columns columns = arena_columns(a);
    mapfile_unused_from(&a->chunks, (uint64_t)view->chunk_slots * sizeof(struct chunk_row));
    mapfile_unused_from(&a->documents, (uint64_t)view->document_rows * sizeof(struct document_row));
    mapfile_unused_from(&a->records, view->records_used);
    mapfile_unused_from(&a->ids, view->ids_used * IDTABLE_NODE_BYTES);
    mapfile_unused_from(&a->vectors, arena_vectors_bytes(view->stride, view->chunk_slots));
    mapfile_unused_from(&a->terms, lexical_terms_used(&x));
    mapfile_unused_from(&a->postings, lexical_postings_used(&x));
    mapfile_unused_from(&a->columns, columns_used(&columns));
    if (lib->serving != NULL) {
        graph_work_note_unused(lib->serving);
    }
}

bool library_sync(struct library *lib, struct status *st) {
    struct reading rd;
    library_reading(lib, &rd);
    const struct library_view *view = &rd.view;
    struct arena *a = &lib->arena;
    return mapfile_sync(&a->chunks, (uint64_t)view->chunk_slots * sizeof(struct chunk_row), st) &&
           mapfile_sync(&a->documents, (uint64_t)view->document_rows * sizeof(struct document_row), st) &&
           mapfile_sync(&a->records, view->records_used, st) && mapfile_sync(&a->ids, view->ids_used * IDTABLE_NODE_BYTES, st) &&
           mapfile_sync(&a->terms, view->terms_used, st) && mapfile_sync(&a->postings, view->postings_used, st) &&
           mapfile_sync(&a->columns, view->columns_used, st) &&
           (view->dimension == 0 || mapfile_sync(&a->vectors, arena_vectors_bytes(view->stride, view->chunk_slots), st)) &&
           sync_graph(lib, view->chunk_slots, st);
}
