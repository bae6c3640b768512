/*
 * catalog_apply.c - the one function by which libraries change, in operation and in replay.
 *
 * Nothing here can fail: the room was reserved. Nothing here disturbs a reader either, who may be walking the same files:
 *   - new rows, records and nodes lie beyond what any published view counts, and are filled before the id table names them;
 *   - a tombstone carries this op's LSN, which is above that of every published view, so those still see the chunk;
 *   - counts change in the committer's view only, until it is published.
 *
 * A replay may meet ops whose effect is there already. An op older than its library's last one changes nothing; nor does a
 * creation of what exists, or a deletion of what is missing.
 */
#include "store/library_internal.h"

#include "base/crc32c.h"
#include "store/op_format.h"

#include <stdlib.h>

uint32_t library_dimension(const struct library *lib, const struct library_definition *d) {
    return lib->model != NULL ? lib->model->dimension : d->dimension;
}

/* Appends bytes to the records and returns where they are. */
static uint64_t append_record(struct library *lib, struct slice bytes) {
    uint64_t at = lib->view.records_used;
    memcpy(mapfile_base(&lib->arena.records) + at, bytes.data, bytes.len);
    lib->view.records_used = (at + bytes.len + RECORD_ALIGNMENT - 1) / RECORD_ALIGNMENT * RECORD_ALIGNMENT;
    return at;
}

/* --- tombstones --- */

static struct slice text_of(const struct library *lib, const struct chunk_row *c) {
    struct op_chunk fields;
    bool ok = op_chunk_decode(arena_record(&lib->arena, c->record, c->record_length), &fields);
    return ok ? fields.text : slice_of(NULL, 0);
}

/* Takes a chunk's text out of the frequencies. */
static void forget_text(struct library *lib, const struct chunk_row *c) {
    struct slice text = text_of(lib, c);
    struct lexical x = arena_lexical(&lib->arena);
    struct terms terms;
    texts_analyze(lib->texts, lib->language, text, &terms);
    lexical_remove(&x, &terms);
    lib->view.text_bytes -= text.len;
    lib->view.live_tokens -= c->length;
}

/* After the row was marked, see compact.c. */
static void note_deletion(struct library *lib, uint32_t row, bool document, uint64_t lsn) {
    if (lib->deletions != NULL) {
        deletions_note(lib->deletions, row, document, lsn);
    }
}

static void delete_chunk(struct library *lib, uint32_t slot, uint64_t lsn, struct op_effect *effect) {
    struct chunk_row *c = library_chunk(lib, slot);
    store_release_u64(&c->deleted_lsn, lsn); /* pairs with: CHUNK_DELETED */
    library_node_died(lib, slot);
    /* Whoever of this and the re-embedder sets its flag second sees the other's: the chunk is taken off the missing ones once. */
    if ((or_release_u32(&c->state, CHUNK_COUNTED_DEAD) & CHUNK_HAS_VECTOR) == 0) {
        library_vector_settled(lib);
    }
    lib->view.live_chunks--;
    forget_text(lib, c);
    note_deletion(lib, slot, false, lsn);
    effect->chunks_deleted++;
}

static void delete_document(struct library *lib, uint32_t row, uint64_t lsn, struct op_effect *effect) {
    struct document_row *d = library_document(lib, row);
    for (uint32_t i = 0; i < d->num_chunks; i++) {
        if (library_chunk(lib, d->first_chunk + i)->deleted_lsn == 0) {
            delete_chunk(lib, d->first_chunk + i, lsn, effect);
        }
    }
    store_release_u64(&d->deleted_lsn, lsn); /* pairs with: CHUNK_DELETED */
    lib->view.live_documents--;
    note_deletion(lib, row, true, lsn);
}

void library_delete_chunk(struct library *lib, uint32_t slot, uint64_t lsn) {
    struct op_effect effect = {0};
    delete_chunk(lib, slot, lsn, &effect);
}

void library_delete_document(struct library *lib, uint32_t row, uint64_t lsn) {
    struct op_effect effect = {0};
    delete_document(lib, row, lsn, &effect);
}

/* --- vectors --- */

static bool all_finite(const float *values, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (!__builtin_isfinite(values[i])) {
            return false;
        }
    }
    return true;
}

float *library_vector(const struct library *lib, uint32_t dimension, uint32_t slot) {
    float *rows = (float *)(void *)(mapfile_base(&lib->arena.vectors) + VECTORS_HEAD_BYTES);
    return rows + (size_t)slot * arena_stride(dimension);
}

/* Fills in the vector, as far as there is one, and says so in the row's state. */
static void put_vector(struct library *lib, const struct op_document *d, const float *vectors, uint32_t index, uint32_t slot) {
    uint32_t dimension = lib->view.dimension;
    struct chunk_row *c = library_chunk(lib, slot);
    size_t bytes = dimension * sizeof(float);
    const void *source = NULL;
    if (dimension != 0 && vectors != NULL && all_finite(vectors + (size_t)index * dimension, dimension)) {
        source = vectors + (size_t)index * dimension;
    } else if (dimension != 0 && d->vector_dimension == dimension) {
        source = d->vectors.data + index * bytes;
    }
    if (source == NULL) {
        (void)__atomic_add_fetch(&lib->without_vector, 1, __ATOMIC_RELAXED);
        return;
    }
    float *row = library_vector(lib, dimension, slot);
    memset(row, 0, arena_stride(dimension) * sizeof(float));
    memcpy(row, source, bytes);
    c->vector_crc = crc32c(0, row, bytes);
    c->state = CHUNK_HAS_VECTOR; /* nobody knows the slot yet; publication orders it */
    struct vectors_head *head = (struct vectors_head *)(void *)mapfile_base(&lib->arena.vectors);
    (void)add_relaxed_u64(&head->present, 1);
}

/* --- documents --- */

static void fix_dimension(struct library *lib, uint32_t dimension) {
    if (lib->view.dimension == 0 && dimension != 0) {
        lib->view.dimension = dimension;
        lib->view.stride = arena_stride(dimension);
        lib->view.graph_generation = lib->serving != NULL ? lib->serving->generation : 0; /* made when this was reserved */
    }
}

static void init_nodes(struct graph_work *g, uint32_t end) {
    if (g == NULL) {
        return;
    }
    const struct hnsw_head *head = graph_work_graph(g).head;
    uint64_t before = load_relaxed_u64(&head->upper_used);
    graph_work_init_nodes(g, end);
    uint64_t used = load_relaxed_u64(&head->upper_used) - before;
    g->reserved_upper -= used < g->reserved_upper ? used : g->reserved_upper;
}

/* Gives the new slots their nodes, and counts them. */
static void add_slots(struct library *lib, uint32_t count) {
    (void)pthread_mutex_lock(&lib->graph_mutex);
    lib->view.chunk_slots += count;
    lib->slots = lib->view.chunk_slots;
    init_nodes(lib->serving, lib->slots);
    init_nodes(lib->building, lib->slots);
    for (uint32_t slot = lib->slots - count; slot < lib->slots; slot++) {
        if ((library_chunk(lib, slot)->state & CHUNK_HAS_VECTOR) != 0) {
            graph_work_encode(lib->serving, lib, slot);
            graph_work_encode(lib->building, lib, slot);
        }
    }
    (void)pthread_mutex_unlock(&lib->graph_mutex);
}

/* The three files as far as they are in use now. */
static void count_texts(struct library *lib) {
    struct lexical x = arena_lexical(&lib->arena);
    struct columns columns = arena_columns(&lib->arena);
    lib->view.terms_used = lexical_terms_used(&x);
    lib->view.postings_used = lexical_postings_used(&x);
    lib->view.columns_used = columns_used(&columns);
}

/* Puts what was staged for the document into the inverted index and the columns. */
static void put_texts(struct library *lib, uint32_t first, uint32_t count) {
    struct texts *texts = lib->texts;
    struct lexical x = arena_lexical(&lib->arena);
    struct columns columns = arena_columns(&lib->arena);
    struct text_taking taking;
    text_stage_begin(&lib->stage, &taking);
    for (uint32_t slot = first; slot < first + count; slot++) {
        struct terms terms;
        struct field_values values;
        text_stage_next(texts, &lib->stage, &taking, &terms, &values);
        lexical_add(&x, slot, &terms);
        columns_put(&columns, slot, &values);
        library_chunk(lib, slot)->length = terms.length;
        lib->view.live_tokens += terms.length;
    }
    count_texts(lib);
}

static void put_chunks(struct library *lib, const struct op_document *d, uint64_t record, uint32_t document, uint64_t lsn,
                       const float *vectors) {
    uint32_t first = lib->view.chunk_slots;
    struct chunk_walk walk = {.bytes = d->chunks, .base = d->chunks_offset};
    struct op_chunk chunk;
    for (uint32_t i = 0; i < d->num_chunks && chunk_walk_next(&walk, &chunk); i++) {
        *library_chunk(lib, first + i) = (struct chunk_row){.created_lsn = lsn,
                                                            .record = record + chunk.offset,
                                                            .id_hash = item_id_hash(chunk.id),
                                                            .text_hash = text_hash(chunk.text),
                                                            .record_length = (uint32_t)chunk.length,
                                                            .document = document,
                                                            .previous = ROW_NONE};
        put_vector(lib, d, vectors, i, first + i);
        lib->view.text_bytes += chunk.text.len;
    }
    put_texts(lib, first, d->num_chunks);
    add_slots(lib, d->num_chunks);
    for (uint32_t i = 0; i < d->num_chunks; i++) {
        idtable_insert(&lib->arena, ID_CHUNK, first + i, &lib->view.ids_used);
    }
    lib->view.live_chunks += d->num_chunks;
}

static void put_document(struct library *lib, const struct op *op, uint64_t lsn, const float *vectors) {
    const struct op_document *d = &op->as.document;
    struct library_view *view = &lib->view;
    uint64_t record = append_record(lib, slice_of(op->bytes.data, d->record_length));
    uint32_t row = view->document_rows;
    *library_document(lib, row) = (struct document_row){.created_lsn = lsn,
                                                        .record = record,
                                                        .id_hash = item_id_hash(d->id),
                                                        .created_at = d->created_at,
                                                        .record_length = (uint32_t)d->record_length,
                                                        .first_chunk = view->chunk_slots,
                                                        .num_chunks = d->num_chunks,
                                                        .previous = ROW_NONE};
    view->document_rows++;
    view->live_documents++;
    fix_dimension(lib, d->num_chunks > 0 ? d->vector_dimension : 0);
    put_chunks(lib, d, record, row, lsn, vectors);
    idtable_insert(&lib->arena, ID_DOCUMENT, row, &view->ids_used);
}

/* Gives back what was reserved for an op that is applied, or does not apply any more. */
static void settle(struct library *lib, const struct op *op) {
    struct reservation need;
    reservation_of(op, &need);
    library_return_reservation(lib, &need);
    if (op->type == OP_DOCUMENT_PUT) {
        text_stage_end(&lib->stage);
    }
}

void library_put(struct library *lib, const struct op *op, uint64_t lsn, const float *vectors) {
    put_document(lib, op, lsn, vectors);
    settle(lib, op);
}

static void apply_put(struct library *lib, const struct op *op, uint64_t lsn, const float *vectors, struct op_effect *effect) {
    struct library_view newest = library_newest(lib);
    uint32_t old = idtable_find(&lib->arena, &newest, ID_DOCUMENT, op->as.document.id);
    if (old != ROW_NONE && op->as.document.mode == PUT_CREATE) {
        return;
    }
    if (old != ROW_NONE) {
        delete_document(lib, old, lsn, effect);
        effect->replaced = true;
    }
    put_document(lib, op, lsn, vectors);
    effect->chunks_added = op->as.document.num_chunks;
}

static void apply_document_delete(struct library *lib, struct slice id, uint64_t lsn, struct op_effect *effect) {
    struct library_view newest = library_newest(lib);
    uint32_t row = idtable_find(&lib->arena, &newest, ID_DOCUMENT, id);
    if (row != ROW_NONE) {
        delete_document(lib, row, lsn, effect);
    }
}

static void apply_chunks_delete(struct library *lib, struct slice ids, uint64_t lsn, struct op_effect *effect) {
    struct library_view newest = library_newest(lib);
    struct slice id;
    size_t at = 0;
    while (chunk_ids_next(ids, &at, &id)) {
        uint32_t slot = idtable_find(&lib->arena, &newest, ID_CHUNK, id);
        if (slot != ROW_NONE) {
            delete_chunk(lib, slot, lsn, effect);
        }
    }
}

/* --- vectors of a provider --- */

bool library_takes_vectors(const struct library *lib, const struct op_vectors *v) {
    return !v->other && !lib->brings_vectors && lib->model == NULL &&
           (lib->view.model_fingerprint == 0 || lib->view.model_fingerprint == v->fingerprint) &&
           (lib->view.dimension == 0 || lib->view.dimension == v->dimension);
}

void library_pin(struct library *lib, uint64_t fingerprint) {
    lib->view.model_fingerprint = fingerprint;
    lib->view.pinned = 1;
    if (lib->view.dimension != 0) {
        ((struct vectors_head *)(void *)mapfile_base(&lib->arena.vectors))->model_fingerprint = fingerprint;
    }
}

/* A chunk that is gone, has another text by now, or has its vector already, is passed over. */
static void give_vectors(struct library *lib, const struct library_view *view, const struct op_vectors *v) {
    size_t row = v->dimension * sizeof(float);
    uint32_t lowest = UINT32_MAX;
    struct slice id;
    uint64_t hash;
    size_t at = 0;
    for (uint32_t i = 0; op_vectors_next(v->chunks, &at, &id, &hash); i++) {
        uint32_t slot = idtable_find(&lib->arena, view, ID_CHUNK, id);
        if (slot != ROW_NONE && library_chunk(lib, slot)->text_hash == hash && (load_acquire_u32(&library_chunk(lib, slot)->state) & CHUNK_HAS_VECTOR) == 0) {
            library_settle_vector(lib, v->dimension, slot, v->values.data + i * row);
            lowest = slot < lowest ? slot : lowest;
        }
    }
    if (lowest != UINT32_MAX) {
        library_tell_linkers(lib, lowest);
    }
}

/* The side is another thread's, which may be filling it: what it has shown is there, and others write the vectors. */
bool library_other_takes(const struct library *lib, const struct op_vectors *v, struct library_view *ret) {
    struct reading rd;
    if (lib->other == NULL) {
        return false;
    }
    library_reading(lib->other, &rd);
    *ret = rd.view;
    ret->lsn = UINT64_MAX;
    return rd.view.dimension == v->dimension && rd.view.model_fingerprint == v->fingerprint;
}

static void apply_vectors(struct library *lib, const struct op_vectors *v) {
    struct library_view view;
    if (v->other) {
        if (library_other_takes(lib, v, &view)) {
            give_vectors(lib->other, &view, v);
        }
        return; /* in a replay there is no side: durable/salvage.c keeps them for it */
    }
    if (library_takes_vectors(lib, v)) {
        fix_dimension(lib, v->dimension);
        library_pin(lib, v->fingerprint);
        view = library_newest(lib);
        give_vectors(lib, &view, v);
    }
}

/* --- libraries --- */

static void put_definition(struct library *lib, const struct op *op) {
    struct slice bytes = op_definition_bytes(op);
    lib->view.definition = append_record(lib, bytes);
    lib->view.definition_length = (uint32_t)bytes.len;
    lib->view.index = op->as.definition.index;
    store_relaxed_u32(&lib->exchange_state, op->as.definition.exchange.state);
}

void library_define(struct library *lib, const struct op *update) {
    put_definition(lib, update);
    settle(lib, update);
}

void library_begin_view(struct library *lib, const struct op *create, uint32_t dimension) {
    lib->view.ids_used = IDTABLE_FIRST_FREE;
    lib->view.model_fingerprint = lib->model != NULL ? lib->model->fingerprint : 0;
    fix_dimension(lib, dimension);
    put_definition(lib, create);
    count_texts(lib);
}

/* A switch to another model that is replayed: no chunk has a vector any more. What made room for it (library_reserve_model) has made the new files. In
 * operation another arena takes this one's place instead (exchange.c). */
static void change_model(struct library *lib, const struct library_definition *d, uint64_t fingerprint) {
    library_set_definition(lib, d);
    uint32_t dimension = library_dimension(lib, d);
    lib->view.model_fingerprint = lib->model != NULL ? lib->model->fingerprint : 0;
    lib->view.pinned = 0;
    lib->view.dimension = 0;
    lib->view.stride = arena_stride(0);
    lib->view.graph_generation = 0;
    fix_dimension(lib, dimension);
    if (lib->model == NULL && !lib->brings_vectors && fingerprint != 0) {
        library_pin(lib, fingerprint); /* a provider's, that it had before */
    } else if (dimension != 0) {
        library_begin_vectors(lib, dimension); /* again: by its model */
    }
    for (uint32_t slot = 0; slot < lib->view.chunk_slots; slot++) {
        struct chunk_row *c = library_chunk(lib, slot);
        c->state &= ~CHUNK_HAS_VECTOR;
        c->vector_crc = 0;
    }
    free(lib->embed_claimed); /* nobody is at work in a replay */
    lib->embed_claimed = NULL;
    lib->embed_room = 0;
    lib->embed_next = 0;
    library_count_missing(lib);
}

static void apply_model(struct library *lib, const struct op *op) {
    struct library_definition before = {0};
    (void)library_definition_decode(arena_record(&lib->arena, lib->view.definition, lib->view.definition_length), &before);
    put_definition(lib, op);
    if (op->switches) {
        change_model(lib, &op->as.definition, before.exchange.fingerprint);
    }
}

static void apply_create(struct catalog *c, const struct op *op, uint64_t lsn) {
    struct library *lib = catalog_take_pending(c, &op->library);
    if (lib == NULL) {
        return; /* it is there already */
    }
    lib->view.live = 1;
    lib->view.lsn = lsn;
    lib->view.arena_generation = ++c->next_arena_generation;
    library_begin_view(lib, op, library_dimension(lib, &op->as.definition));
    catalog_add(c, lib);
    catalog_mark_dirty(c, lib);
}

static void apply_delete(struct catalog *c, struct library *lib) {
    bool published = lib->published.live != 0; /* the committer alone writes it */
    lib->others_go = true;
    lib->view.live = 0;
    store_release_u32(&lib->deleted, 1); /* pairs with: LIBRARY_DELETED. Linkers that see it late do work for nothing, no more */
    catalog_remove(c, lib);
    if (published) {
        catalog_mark_dirty(c, lib);
        return;
    }
    /* no worker has heard of it (a replay): its files and its entry need not wait for the publication */
    catalog_unmark_dirty(c, lib);
    catalog_free_entry(c, lib);
    catalog_release(c, lib);
}

static void apply_to(struct catalog *c, struct library *lib, const struct op *op, uint64_t lsn, const float *vectors,
                     struct op_effect *effect) {
    lib->view.lsn = lsn;
    catalog_mark_dirty(c, lib);
    switch (op->type) {
    case OP_LIBRARY_UPDATE:
        put_definition(lib, op);
        break;
    case OP_LIBRARY_MODEL:
        apply_model(lib, op);
        break;
    case OP_DOCUMENT_PUT:
        apply_put(lib, op, lsn, lib->model != NULL ? vectors : NULL, effect);
        break;
    case OP_DOCUMENT_DELETE:
        apply_document_delete(lib, op->as.document_id, lsn, effect);
        break;
    case OP_CHUNKS_DELETE:
        apply_chunks_delete(lib, op->as.chunk_ids.ids, lsn, effect);
        break;
    case OP_VECTORS:
        apply_vectors(lib, &op->as.vectors);
        break;
    default:
        break;
    }
}

void catalog_apply(struct catalog *c, const struct op *op, uint64_t lsn, int64_t time_us, const float *vectors,
                   struct op_effect *ret) {
    struct op_effect effect = {0};
    (void)time_us; /* part of the record; no state depends on it yet */
    struct library *lib = catalog_find(c, &op->library);
    if (op->type == OP_LIBRARY_CREATE) {
        apply_create(c, op, lsn);
    } else if (lib != NULL && op->type == OP_LIBRARY_DELETE) {
        apply_delete(c, lib);
    } else if (lib != NULL) {
        if (lsn >= lib->view.lsn) {
            apply_to(c, lib, op, lsn, vectors, &effect);
        }
        settle(lib, op);
    }
    if (ret != NULL) {
        *ret = effect;
    }
}
