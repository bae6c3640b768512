/*
 * reading_items.c - documents, chunks and vectors of one view.
 *
 * Rows below the view's counts do not change but for the words that invariant 2 of arena.h names, so everything here is plain
 * loads from mapped memory, decoded on the way. What does not decode is damage (STATUS_CORRUPT), never a crash: offsets are
 * checked against the map.
 */
#include "shm/atomics.h"
#include "store/idtable.h"
#include "store/reading.h"
#include "store/reading_internal.h"

#define GROWTH_ATTEMPTS 64 /* each means that a commit made a file longer between two lines here */

static bool document_alive(const struct reading *rd, uint32_t row) {
    const struct document_row *d = arena_document(rd->arena, row);
    return lsn_alive(d->created_lsn, load_acquire_u64(&d->deleted_lsn), rd->view.lsn);
}

bool reading_chunk_visible(const struct reading *rd, uint32_t slot) {
    if (slot >= rd->view.chunk_slots) {
        return false;
    }
    const struct chunk_row *c = arena_chunk(rd->arena, slot);
    return lsn_alive(c->created_lsn, load_acquire_u64(&c->deleted_lsn), rd->view.lsn); /* pairs with: CHUNK_DELETED */
}

bool reading_definition(const struct reading *rd, struct library_definition *ret, struct status *st) {
    struct slice record = arena_record(rd->arena, rd->view.definition, rd->view.definition_length);
    return library_definition_decode(record, ret) || status_set(st, STATUS_CORRUPT, "a library's definition does not decode");
}

/* --- by id --- */

static bool find_row(const struct reading *rd, enum id_kind kind, struct slice id, enum idtable_answer *ret_answer,
                     uint32_t *ret_row, struct status *st) {
    for (unsigned attempt = 0; attempt < GROWTH_ATTEMPTS; attempt++) {
        *ret_answer = idtable_lookup(rd->arena, &rd->view, kind, id, ret_row);
        if (*ret_answer != IDTABLE_UNMAPPED) {
            return true;
        }
        if (rd->reader == NULL) {
            break;
        }
        if (!store_reader_follow_growth(rd->reader, st)) {
            return false;
        }
    }
    return status_set(st, STATUS_CORRUPT, "the id table points beyond its files");
}

static bool no_item(enum subject subject, const char *what, struct slice id, struct status *st) {
    char text[ITEM_ID_TEXT_MAX + 1];
    (void)item_id_text(id, text);
    return status_set_subject(st, STATUS_NOT_FOUND, (uint16_t)subject, "there is no %s %s", what, text);
}

bool reading_find_document(const struct reading *rd, struct slice encoded_id, struct stored_document *ret, struct status *st) {
    enum idtable_answer answer = IDTABLE_ABSENT;
    uint32_t row = ROW_NONE;
    if (!find_row(rd, ID_DOCUMENT, encoded_id, &answer, &row, st)) {
        return false;
    }
    if (answer != IDTABLE_FOUND) {
        return no_item(SUBJECT_DOCUMENT, "document", encoded_id, st);
    }
    return reading_document(rd, row, ret, st);
}

bool reading_find_chunk(const struct reading *rd, struct slice encoded_id, struct stored_chunk *ret, struct status *st) {
    enum idtable_answer answer = IDTABLE_ABSENT;
    uint32_t slot = ROW_NONE;
    if (!find_row(rd, ID_CHUNK, encoded_id, &answer, &slot, st)) {
        return false;
    }
    if (answer != IDTABLE_FOUND) {
        return no_item(SUBJECT_CHUNK, "chunk", encoded_id, st);
    }
    return reading_chunk(rd, slot, ret, st);
}

/* --- by row --- */

bool reading_document(const struct reading *rd, uint32_t row, struct stored_document *ret, struct status *st) {
    const struct document_row *d = arena_document(rd->arena, row);
    struct op_document fields;
    if (!op_document_decode(arena_record(rd->arena, d->record, d->record_length), &fields)) {
        return status_set(st, STATUS_CORRUPT, "the record of a document does not decode");
    }
    *ret = (struct stored_document){
        .row = row, .created_at = d->created_at, .fields = fields, .first_chunk = d->first_chunk, .num_chunks = d->num_chunks};
    return true;
}

bool reading_chunk(const struct reading *rd, uint32_t slot, struct stored_chunk *ret, struct status *st) {
    const struct chunk_row *c = arena_chunk(rd->arena, slot);
    struct op_chunk fields;
    if (c->document >= rd->view.document_rows ||
        !op_chunk_decode(arena_record(rd->arena, c->record, c->record_length), &fields)) {
        return status_set(st, STATUS_CORRUPT, "the record of a chunk does not decode");
    }
    *ret = (struct stored_chunk){.slot = slot,
                                 .document = c->document,
                                 .index = slot - arena_document(rd->arena, c->document)->first_chunk,
                                 .has_vector = (load_acquire_u32(&c->state) & CHUNK_HAS_VECTOR) != 0,
                                 .fields = fields};
    return true;
}

uint32_t reading_next_document(const struct reading *rd, uint32_t row) {
    for (; row < rd->view.document_rows; row++) {
        if (document_alive(rd, row)) {
            return row;
        }
    }
    return ROW_NONE;
}

uint32_t reading_live_chunks_of(const struct reading *rd, const struct stored_document *d) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < d->num_chunks; i++) {
        count += reading_chunk_visible(rd, d->first_chunk + i) ? 1 : 0;
    }
    return count;
}

/* --- vectors --- */

static bool has_vector(const struct reading *rd, uint32_t slot) {
    /* pairs with: CHUNK_STATE. Without it the vector could be read before it is whole. */
    return (load_acquire_u32(&arena_chunk(rd->arena, slot)->state) & CHUNK_HAS_VECTOR) != 0;
}

const float *reading_vector(const struct reading *rd, uint32_t slot) {
    struct vector_rows rows = arena_vectors(rd->arena, &rd->view);
    if (rd->view.dimension == 0 || rows.base == NULL || slot >= rd->view.chunk_slots || !has_vector(rd, slot)) {
        return NULL;
    }
    return vector_row(&rows, slot);
}

void reading_coverage(const struct reading *rd, uint32_t *ret_embedded, uint32_t *ret_total) {
    uint32_t embedded = rd->view.live_chunks;
    if (rd->view.reembedding != 0) {
        embedded = 0;
        for (uint32_t slot = 0; slot < rd->view.chunk_slots; slot++) {
            embedded += reading_chunk_visible(rd, slot) && has_vector(rd, slot) ? 1 : 0;
        }
    }
    *ret_embedded = embedded;
    *ret_total = rd->view.live_chunks;
}
