/* catalog_adopt.c - taking over an arena that lies on disk, as a checkpoint describes it. The caller has verified the files'
 * bytes. */
#include "store/library_internal.h"

bool library_view_check(const struct library_view *view, struct status *st) {
    bool sound = view->live != 0 && view->stride == arena_stride(view->dimension) && view->live_chunks <= view->chunk_slots &&
                 view->live_documents <= view->document_rows && view->chunk_slots <= IDTABLE_MAX_ROWS &&
                 view->document_rows <= IDTABLE_MAX_ROWS && view->ids_used >= IDTABLE_FIRST_FREE &&
                 view->records_used % RECORD_ALIGNMENT == 0;
    return sound || status_set(st, STATUS_CORRUPT, "the checkpoint's view of a library does not hold together");
}

static bool open_arena(struct library *lib, struct status *st) {
    struct library_view without_graph = lib->view;
    without_graph.graph_generation = 0; /* the supervisor keeps graphs apart, see graph_work.c */
    if (!arena_open_writable(&lib->arena, lib->catalog->options.vectors_dir_fd, &without_graph, st)) {
        return false;
    }
    lib->slots = lib->view.chunk_slots;
    lib->last_generation = lib->view.graph_generation;
    if (!library_track_texts(lib, st)) {
        return false;
    }
    return lib->view.graph_generation == 0 ||
           graph_work_open(lib->arena.dir_fd, lib->view.graph_generation, lib->slots, &lib->serving, st);
}

/* Deletions to come analyse texts without failing, see texts.h. A record is longer than its text. */
bool library_prepare_texts(struct library *lib, struct status *st) {
    uint32_t longest = 0;
    for (uint32_t slot = 0; slot < lib->view.chunk_slots; slot++) {
        uint32_t length = library_chunk(lib, slot)->record_length;
        longest = length > longest ? length : longest;
    }
    return texts_prepare(lib->catalog->texts, lib->language, longest, st);
}

static bool check_texts(const struct library *lib, struct status *st) {
    struct lexical x = arena_lexical(&lib->arena);
    struct columns columns = arena_columns(&lib->arena);
    bool sound = lexical_valid(&x) && columns_valid(&columns) && lexical_terms_used(&x) >= lib->view.terms_used &&
                 lexical_postings_used(&x) >= lib->view.postings_used && columns_used(&columns) >= lib->view.columns_used;
    return sound || status_set(st, STATUS_CORRUPT, "the inverted index or the columns of a library do not fit its view");
}

static bool check_model(const struct embedder *model, const struct library_view *view, struct status *st) {
    bool same = model == NULL || model->remote || (model->dimension == view->dimension && model->fingerprint == view->model_fingerprint);
    return same || status_set(st, STATUS_CORRUPT, "the library's vectors are of another version of the model %s", model->name);
}

bool library_adopt_definition(struct library *lib, struct status *st) {
    struct library_definition d;
    if (!library_definition_decode(arena_record(&lib->arena, lib->view.definition, lib->view.definition_length), &d)) {
        return status_set(st, STATUS_CORRUPT, "a library's definition does not decode");
    }
    library_set_definition(lib, &d);
    return check_model(lib->model, &lib->view, st) && check_texts(lib, st);
}

bool catalog_can_adopt(struct catalog *c, const struct library_view *view, const struct library_definition *d, struct status *st) {
    const struct embedder *model =
        slice_is(d->embedding_model, "none") ? NULL : embed_find(c->options.models, d->embedding_model);
    return library_view_check(view, st) && check_model(model, view, st);
}

bool catalog_adopt(struct catalog *c, const struct library_view *view, struct status *st) {
    if (!library_view_check(view, st)) {
        return false;
    }
    if (catalog_find(c, &view->id) != NULL) {
        return status_set_subject(st, STATUS_CONFLICT, SUBJECT_LIBRARY, "a library is in the checkpoint twice");
    }
    struct library *lib = library_new(c, &view->id);
    if (lib == NULL) {
        return status_no_memory(st);
    }
    lib->view = *view;
    arena_directory_name(&view->id, view->directory, lib->directory);
    if (!open_arena(lib, st) || !library_adopt_definition(lib, st) || !library_prepare_texts(lib, st) || !catalog_claim_entry(c, lib, st)) {
        library_close(lib, false);
        library_free(lib);
        return false;
    }
    library_count_missing(lib);
    if (view->arena_generation > c->next_arena_generation) {
        c->next_arena_generation = view->arena_generation;
    }
    catalog_add(c, lib);
    catalog_mark_dirty(c, lib);
    return true;
}
