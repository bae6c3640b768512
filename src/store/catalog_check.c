/*
 * catalog_check.c - would an op apply? Everything that depends on the present state is asked here, before the op is logged.
 *
 * A worker has checked what it could see, but other workers write, too: this is the only check that counts.
 */
#include "store/library_version.h"
#include "store/mirror.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <stdlib.h>

#define CHECK_LEAST_ROOM 64
#define LANGUAGE_SHOWN_MAX 64

static bool no_library(struct status *st) {
    return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_LIBRARY, "there is no such library");
}

static bool taken(enum subject subject, const char *what, struct slice encoded_id, struct status *st) {
    char id[ITEM_ID_TEXT_MAX + 1];
    (void)item_id_text(encoded_id, id);
    return status_set_subject(st, STATUS_CONFLICT, (uint16_t)subject, "the %s id %s is taken", what, id);
}

/* --- libraries --- */

static bool check_model(struct catalog *c, const struct library_definition *d, struct status *st) {
    if (slice_is(d->embedding_model, "none")) {
        return true;
    }
    const struct embedder *model = embed_find(c->options.models, d->embedding_model);
    if (model == NULL) {
        return status_set(st, STATUS_INVALID, "there is no embedding model %.*s here",
                          (int)utf8_prefix(d->embedding_model, EMBED_NAME_MAX), (const char *)d->embedding_model.data);
    }
    if (!model->remote && d->dimension != 0 && d->dimension != model->dimension) {
        return status_set(st, STATUS_DIMENSION, "dimension %u is asked for; the model %s has %u", d->dimension, model->name,
                          model->dimension);
    }
    return true;
}

static bool check_language(const struct library_definition *d, struct status *st) {
    return d->language.len == 0 || language_canonical(d->language) != NULL ||
           status_set(st, STATUS_INVALID, "texts of the language %.*s cannot be analysed here",
                      (int)utf8_prefix(d->language, LANGUAGE_SHOWN_MAX), (const char *)d->language.data);
}

static uint32_t pending_count(const struct catalog *c) {
    uint32_t count = 0;
    for (const struct library *lib = c->pending; lib != NULL; lib = lib->next_aside) {
        count++;
    }
    return count;
}

static bool check_create(struct catalog *c, const struct op *op, struct status *st) {
    if (catalog_find(c, &op->library) != NULL || catalog_is_gone(c, &op->library)) {
        char id[UUID_TEXT + 1];
        uuid_format(&op->library, id);
        return status_set_subject(st, STATUS_CONFLICT, SUBJECT_LIBRARY, "the library id %s is taken", id);
    }
    uint64_t count = (uint64_t)catalog_library_count(c) + pending_count(c);
    uint64_t most = c->options.limits->max_libraries < c->capacity ? c->options.limits->max_libraries : c->capacity;
    if (count >= most) {
        return status_set(st, STATUS_TOO_LARGE, "there are %" PRIu64 " libraries; the limit max_libraries is %" PRIu64, count,
                          most);
    }
    return check_model(c, &op->as.definition, st) && check_language(&op->as.definition, st);
}

static bool same_exchange(const struct library_exchange *a, const struct library_exchange *b) {
    return a->state == b->state && a->since == b->since && uuid_equal(&a->task, &b->task);
}

/* Who changes a definition has read it before; an exchange that took a step since would be undone. */
static bool changed_meanwhile(struct status *st) {
    return status_set_subject(st, STATUS_CONFLICT, SUBJECT_LIBRARY, "the library was changed at this moment; try again");
}

static bool check_update(struct library *lib, const struct library_definition *d, struct status *st) {
    struct library_definition now;
    if (!library_present_definition(lib, &lib->view, &now, st)) {
        return false;
    }
    if (!same_exchange(&now.exchange, &d->exchange)) {
        return changed_meanwhile(st);
    }
    if (!slice_equal(now.embedding_model, d->embedding_model)) {
        return status_set(st, STATUS_INVALID, "the embedding model of a library cannot be changed like that");
    }
    if (strcmp(texts_language(d->language), lib->language) != 0) {
        return status_set(st, STATUS_INVALID, "the language of a library cannot be changed: its texts are analysed by it");
    }
    if (d->dimension != 0 && lib->view.dimension != 0 && d->dimension != lib->view.dimension) {
        return status_set(st, STATUS_DIMENSION, "dimension %u is asked for; the library has %u", d->dimension,
                          lib->view.dimension);
    }
    return true;
}

/* --- exchanges --- */

/* Of what is no part of an exchange. */
static bool same_settings(const struct library_definition *a, const struct library_definition *b) {
    return a->created_at == b->created_at && a->on_embedding_failure == b->on_embedding_failure &&
           a->snapshot_vectors == b->snapshot_vectors && memcmp(&a->index, &b->index, sizeof a->index) == 0 &&
           memcmp(&a->quantization, &b->quantization, sizeof a->quantization) == 0 && slice_equal(a->name, b->name) &&
           slice_equal(a->description, b->description) && slice_equal(a->embedding_model, b->embedding_model) &&
           slice_equal(a->language, b->language) && slice_equal(a->metadata, b->metadata);
}

/* An exchange that has been given up is in nobody's way: its side is let go before the next one is begun. */
static bool is_at_work(struct library *lib) {
    (void)pthread_mutex_lock(&lib->graph_mutex);
    bool at_work = lib->compacting || lib->rebuilding;
    (void)pthread_mutex_unlock(&lib->graph_mutex);
    return at_work;
}

static bool check_begin(struct catalog *c, struct library *lib, const struct library_exchange *e, struct status *st) {
    const struct embedder *model = slice_is(e->model, "none") ? NULL : embed_find(c->options.models, e->model);
    if (model == NULL) {
        return status_set(st, STATUS_INVALID, "there is no embedding model %.*s here", (int)utf8_prefix(e->model, EMBED_NAME_MAX),
                          (const char *)e->model.data);
    }
    if (e->dimension != model->dimension || e->fingerprint != model->fingerprint) {
        return status_set(st, STATUS_DIMENSION, "the model %s is not as it is said to be", model->name);
    }
    if (is_at_work(lib)) {
        return status_set_subject(st, STATUS_CONFLICT, SUBJECT_LIBRARY, "the library's index is being rebuilt or optimized");
    }
    return library_side_fits(lib, model->dimension, st);
}

/* A provider's model is known once it has been asked: from here on the exchange is to that one, whatever the provider has later. */
static bool is_pin(const struct library_exchange *from, const struct library_exchange *to) {
    return from->state == EXCHANGE_BUILDING && to->state == EXCHANGE_BUILDING && from->fingerprint == 0 && to->fingerprint != 0 && to->dimension != 0 &&
           from->since == to->since && uuid_equal(&from->task, &to->task) && slice_equal(from->model, to->model);
}

static bool is_step(uint32_t from, uint32_t to) {
    return to == EXCHANGE_NONE || (from == EXCHANGE_KEPT && to == EXCHANGE_RETURNING) ||
           (from == EXCHANGE_RETURNING && to == EXCHANGE_KEPT);
}

/* Every step but those that switch, which exchange.c prepares and checks by itself. */
static bool check_exchange(struct catalog *c, struct library *lib, const struct op *op, struct status *st) {
    const struct library_definition *d = &op->as.definition;
    struct library_definition now;
    if (!library_present_definition(lib, &lib->view, &now, st)) {
        return false;
    }
    uint32_t from = now.exchange.state;
    uint32_t to = d->exchange.state;
    if (!same_settings(&now, d)) {
        return changed_meanwhile(st);
    }
    if (from == EXCHANGE_NONE && to == EXCHANGE_BUILDING) {
        return check_begin(c, lib, &d->exchange, st);
    }
    if (is_pin(&now.exchange, &d->exchange)) {
        return library_side_fits(lib, d->exchange.dimension, st);
    }
    if (to == EXCHANGE_BUILDING) {
        return status_set_subject(st, STATUS_CONFLICT, SUBJECT_LIBRARY,
                                  from == EXCHANGE_KEPT ? "the library is kept with the model before: `quire reembed LIBRARY --drop` ends that, then it goes"
                                                        : "the model of this library is being exchanged already");
    }
    if (op->switches || from == EXCHANGE_NONE || !is_step(from, to)) {
        return status_set_subject(st, STATUS_CONFLICT, SUBJECT_LIBRARY,
                                  from == EXCHANGE_BUILDING ? "the exchange of this library's model has not come to its end yet"
                                                            : "nothing is kept of this library with the model before");
    }
    return to == EXCHANGE_NONE || (slice_equal(now.exchange.model, d->exchange.model) && now.exchange.fingerprint == d->exchange.fingerprint) ||
           changed_meanwhile(st);
}

/* --- documents --- */

static bool check_room(struct catalog *c, const struct library *lib, const struct op_document *d, struct status *st) {
    uint64_t slots = (uint64_t)lib->view.chunk_slots + lib->reserved.chunks;
    uint64_t most = c->options.limits->max_chunks_per_library;
    if (slots + d->num_chunks > most) {
        return status_set(st, STATUS_TOO_LARGE,
                          "the library has %" PRIu64 " chunk slots, deleted ones included; %u more would pass the limit "
                          "max_chunks_per_library of %" PRIu64,
                          slots, d->num_chunks, most);
    }
    if ((uint64_t)lib->view.document_rows + lib->reserved.documents >= most) {
        return status_set(st, STATUS_TOO_LARGE,
                          "the library has had %u documents, deleted ones included; the limit max_chunks_per_library of %" PRIu64
                          " holds for them, too",
                          lib->view.document_rows, most);
    }
    return true;
}

static bool check_dimension(const struct library *lib, const struct op_document *d, struct status *st) {
    uint32_t dimension = lib->view.dimension != 0 ? lib->view.dimension : lib->reserved.dimension;
    if (d->num_chunks == 0) {
        return true;
    }
    if (d->vector_dimension == 0) {
        return !lib->brings_vectors ||
               status_set(st, STATUS_INVALID, "the library has no embedding model: every chunk must bring its vector");
    }
    if (dimension != 0 && d->vector_dimension != dimension) {
        return status_set(st, STATUS_DIMENSION, "the vectors have %u numbers; the library has dimension %u", d->vector_dimension,
                          dimension);
    }
    return true;
}

/* Room for `count` ids and a table at most half full. */
static bool check_scratch(struct catalog *c, size_t count, size_t *ret_table) {
    size_t table = CHECK_LEAST_ROOM;
    while (table < 2 * count) {
        table *= 2;
    }
    if (table > c->check_room) {
        struct slice *ids = (struct slice *)malloc(table / 2 * sizeof(struct slice));
        uint32_t *places = (uint32_t *)malloc(table * sizeof(uint32_t));
        if (ids == NULL || places == NULL) {
            free(ids);
            free(places);
            return false;
        }
        free(c->check_ids);
        free(c->check_table);
        c->check_ids = ids;
        c->check_table = places;
        c->check_room = table;
    }
    memset(c->check_table, 0, table * sizeof(uint32_t));
    *ret_table = table;
    return true;
}

/* Remembers id as the op's chunk number `index`; false when an earlier one has the same. */
static bool remember_id(struct catalog *c, size_t table, uint32_t index, struct slice id) {
    size_t at = (size_t)item_id_hash(id) & (table - 1);
    while (c->check_table[at] != 0) {
        if (slice_equal(c->check_ids[c->check_table[at] - 1], id)) {
            return false;
        }
        at = (at + 1) & (table - 1);
    }
    c->check_ids[index] = id;
    c->check_table[at] = index + 1;
    return true;
}

/* Chunk ids are distinct, and no living chunk but those of the document that is replaced has one of them. */
static bool check_chunk_ids(struct catalog *c, struct library *lib, const struct op_document *d, uint32_t replaced,
                            struct status *st) {
    struct library_view newest = library_newest(lib);
    struct chunk_walk walk = {.bytes = d->chunks};
    struct op_chunk chunk;
    size_t table = 0;
    if (!check_scratch(c, d->num_chunks, &table)) {
        return status_no_memory(st);
    }
    for (uint32_t i = 0; i < d->num_chunks && chunk_walk_next(&walk, &chunk); i++) {
        if (!remember_id(c, table, i, chunk.id)) {
            char id[ITEM_ID_TEXT_MAX + 1];
            (void)item_id_text(chunk.id, id);
            return status_set_subject(st, STATUS_CONFLICT, SUBJECT_CHUNK, "the chunk id %s comes twice in one document", id);
        }
        uint32_t slot = idtable_find(&lib->arena, &newest, ID_CHUNK, chunk.id);
        if (slot != ROW_NONE && (replaced == ROW_NONE || library_chunk(lib, slot)->document != replaced)) {
            return taken(SUBJECT_CHUNK, "chunk", chunk.id, st);
        }
    }
    return true;
}

static bool check_put(struct catalog *c, struct library *lib, const struct op_document *d, struct status *st) {
    struct library_view newest = library_newest(lib);
    uint32_t old = idtable_find(&lib->arena, &newest, ID_DOCUMENT, d->id);
    if (old != ROW_NONE && d->mode == PUT_CREATE) {
        return taken(SUBJECT_DOCUMENT, "document", d->id, st);
    }
    return check_room(c, lib, d, st) && check_dimension(lib, d, st) && check_chunk_ids(c, lib, d, old, st);
}

static bool check_document_delete(struct library *lib, struct slice id, struct status *st) {
    struct library_view newest = library_newest(lib);
    if (idtable_find(&lib->arena, &newest, ID_DOCUMENT, id) == ROW_NONE) {
        char text[ITEM_ID_TEXT_MAX + 1];
        (void)item_id_text(id, text);
        return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_DOCUMENT, "there is no document %s", text);
    }
    return true;
}

static bool check_vectors(const struct library *lib, const struct op_vectors *v, struct status *st) {
    struct library_view side;
    if (v->other) {
        return library_other_takes(lib, v, &side) ||
               status_set(st, STATUS_CONFLICT, "the library is not exchanging its model for the one that these vectors are of");
    }
    if (lib->brings_vectors || lib->model != NULL) {
        return status_set(st, STATUS_INVALID, "the library's vectors come from no provider");
    }
    if (lib->view.model_fingerprint != 0 && lib->view.model_fingerprint != v->fingerprint) {
        return status_set(st, STATUS_CONFLICT, "the library's vectors are of another version of its model");
    }
    return lib->view.dimension == 0 || lib->view.dimension == v->dimension ||
           status_set(st, STATUS_DIMENSION, "the vectors have %u numbers; the library has dimension %u", v->dimension, lib->view.dimension);
}

static uint32_t living_chunks(const struct library *lib, uint32_t row) {
    const struct document_row *d = library_document(lib, row);
    uint32_t living = 0;
    for (uint32_t i = 0; i < d->num_chunks; i++) {
        living += library_chunk(lib, d->first_chunk + i)->deleted_lsn == 0 ? 1 : 0;
    }
    return living;
}

static bool check_library_version(const struct library *lib, const struct op *op, uint64_t version, struct status *st) {
    const struct library_view *v = &lib->view;
    uint64_t definition = library_definition_version(arena_record(&lib->arena, v->definition, v->definition_length));
    uint64_t now = op->type == OP_LIBRARY_UPDATE ? definition : library_content_version(definition, v->lsn, v);
    return version == DOCUMENT_VERSION_ANY || version == now ||
           status_set_subject(st, STATUS_PRECONDITION, SUBJECT_LIBRARY, "the library has been changed meanwhile");
}

bool catalog_check_version(struct catalog *c, const struct op *op, uint64_t version, struct status *st) {
    struct library *lib = catalog_find(c, &op->library);
    bool put = op->type == OP_DOCUMENT_PUT;
    if (version == DOCUMENT_VERSION_NONE || lib == NULL) {
        return true;
    }
    if (op->type == OP_LIBRARY_UPDATE || op->type == OP_LIBRARY_DELETE) {
        return check_library_version(lib, op, version, st);
    }
    if (!put && op->type != OP_DOCUMENT_DELETE) {
        return true;
    }
    struct library_view newest = library_newest(lib);
    uint32_t row = idtable_find(&lib->arena, &newest, ID_DOCUMENT, put ? op->as.document.id : op->as.document_id);
    if (row == ROW_NONE) {
        return status_set_subject(st, STATUS_PRECONDITION, SUBJECT_DOCUMENT, "there is no such document (any more)");
    }
    const struct document_row *d = library_document(lib, row);
    if (version != DOCUMENT_VERSION_ANY &&
        version != document_version(arena_record(&lib->arena, d->record, d->record_length), living_chunks(lib, row))) {
        return status_set_subject(st, STATUS_PRECONDITION, SUBJECT_DOCUMENT, "the document has been changed meanwhile");
    }
    return true;
}

bool catalog_check_made_by(struct catalog *c, const struct uuid *library, uint32_t dimension, uint64_t model, struct status *st) {
    const struct library *lib = catalog_find(c, library);
    bool same = lib == NULL || (lib->view.dimension == dimension && lib->view.model_fingerprint == model);
    return same || status_set_subject(st, STATUS_CONFLICT, SUBJECT_LIBRARY, "the library has got another model meanwhile");
}

bool catalog_check(struct catalog *c, const struct op *op, struct status *st) {
    if (op->type == OP_LIBRARY_CREATE) {
        return check_create(c, op, st);
    }
    if (op->type == OP_LOG_CLOSE) {
        return true;
    }
    struct library *lib = catalog_find(c, &op->library);
    if (lib == NULL) {
        return no_library(st);
    }
    switch (op->type) {
    case OP_LIBRARY_UPDATE:
        return check_update(lib, &op->as.definition, st);
    case OP_LIBRARY_MODEL:
        return check_exchange(c, lib, op, st);
    case OP_DOCUMENT_PUT:
        return check_put(c, lib, &op->as.document, st);
    case OP_DOCUMENT_DELETE:
        return check_document_delete(lib, op->as.document_id, st);
    case OP_VECTORS:
        return check_vectors(lib, &op->as.vectors, st);
    default: /* deletions of a library, or of chunks that may be missing */
        return true;
    }
}

/* --- foreseeing --- */

/* How many chunks there are with one of these ids, each id once. */
static bool count_chunks(struct catalog *c, struct library *lib, const struct op *op, uint32_t *ret, struct status *st) {
    struct library_view newest = library_newest(lib);
    struct slice id;
    size_t at = 0, table = 0;
    if (!check_scratch(c, op->as.chunk_ids.count, &table)) {
        return status_no_memory(st);
    }
    for (uint32_t i = 0; chunk_ids_next(op->as.chunk_ids.ids, &at, &id); i++) {
        bool first = remember_id(c, table, i, id);
        *ret += first && idtable_find(&lib->arena, &newest, ID_CHUNK, id) != ROW_NONE ? 1 : 0;
    }
    return true;
}

bool catalog_foresee(struct catalog *c, const struct op *op, struct op_effect *ret, struct status *st) {
    struct library *lib = catalog_find(c, &op->library);
    struct op_effect effect = {0};
    if (lib != NULL && (op->type == OP_DOCUMENT_PUT || op->type == OP_DOCUMENT_DELETE)) {
        struct library_view newest = library_newest(lib);
        bool put = op->type == OP_DOCUMENT_PUT;
        uint32_t row = idtable_find(&lib->arena, &newest, ID_DOCUMENT, put ? op->as.document.id : op->as.document_id);
        effect.replaced = put && row != ROW_NONE;
        effect.chunks_added = put ? op->as.document.num_chunks : 0;
        effect.chunks_deleted = row != ROW_NONE ? living_chunks(lib, row) : 0;
    } else if (lib != NULL && op->type == OP_CHUNKS_DELETE && !count_chunks(c, lib, op, &effect.chunks_deleted, st)) {
        return false;
    }
    *ret = effect;
    return true;
}
