/*
 * export.c - all documents of a library as NDJSON, each line as documents/stream takes it.
 *
 * A view may not be kept for as long as a client may read (watchdog_pin_ms), so an export is many views: one for each piece of PIECE_BYTES, walked in the order of
 * writing, and let go before the piece is sent. Rows are only appended and never used again, so each piece goes on behind the row of the one before. When the arena
 * was made anew meanwhile (a compaction, another model), rows have other numbers and the same order. Then it goes on behind the last of the shown documents that one
 * record of the log wrote (with an Idempotency-Key many have one LSN) and that is there as it was shown; one that was replaced meanwhile stands elsewhere. Where none
 * of them is left, it goes on behind all that is older than that record: whatever of it is there was not shown.
 *
 * So every document that is there from begin to end and is not changed meanwhile comes, once. One that is replaced meanwhile comes as it was, as it is, or
 * both, the newer one later; one that is written or deleted meanwhile may come or not. Where nothing is written, the export is the state at Quire-LSN.
 *
 * Vectors come along when they are asked for (those of one model: where the library gets another meanwhile, the export is cut), and always where a library has no model that could make them again. A document that has lost all its chunks is
 * left out, because none can be written without.
 */
#include "api/document.h"

#include "store/model.h"

#include <inttypes.h>

enum { PIECE_BYTES = 1 << 19, PIECE_ROWS = 4096 };

struct export {
    struct exchange *x;
    struct uuid library;
    bool head_only;
    bool begun;
    bool ended;
    uint32_t generation; /* of the arena that `row` belongs to */
    uint32_t row;        /* where to go on */
    uint64_t model;      /* fingerprint of the one that made the vectors; 0: none there yet, or the caller's */
    uint64_t lsn;        /* that wrote the document shown last; 0: none was shown */
    struct buf ids;      /* of the shown documents of that LSN, each before its length; at first the one of `after` */
};

/* --- one document -------------------------------------------------------------------------------------------------------- */

static void write_texts(struct json_out *j, const struct op_chunk *chunks, size_t count) {
    json_key(j, "texts");
    json_begin_array(j);
    for (size_t i = 0; i < count; i++) {
        json_string(j, chunks[i].text);
    }
    json_end_array(j);
    json_key(j, "chunk_ids");
    json_begin_array(j);
    for (size_t i = 0; i < count; i++) {
        item_id_write(j, chunks[i].id);
    }
    json_end_array(j);
}

static void write_chunk_metadata(struct json_out *j, const struct op_chunk *chunks, size_t count) {
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        any |= chunks[i].metadata.len > 0 || chunks[i].page_number >= 0;
    }
    if (!any) {
        return;
    }
    json_key(j, "chunk_metadata");
    json_begin_array(j);
    for (size_t i = 0; i < count; i++) {
        json_begin_object(j);
        if (chunks[i].page_number >= 0) {
            json_member_int(j, "page_number", chunks[i].page_number);
        }
        json_splice_members(j, chunks[i].metadata);
        json_end_object(j);
    }
    json_end_array(j);
}

/* None where one of the chunks has no vector yet: an array with gaps could not be read back. */
static void write_vectors(struct json_out *j, const struct reading *rd, const uint32_t *slots, size_t count, bool base64) {
    for (size_t i = 0; i < count; i++) {
        if (reading_vector(rd, slots[i]) == NULL) {
            return;
        }
    }
    json_key(j, "embeddings");
    json_begin_array(j);
    for (size_t i = 0; i < count; i++) {
        vector_write(j, reading_vector(rd, slots[i]), rd->view.dimension, base64);
    }
    json_end_array(j);
}

static void write_fields(struct json_out *j, const struct op_document *d) {
    json_key(j, "id");
    item_id_write(j, d->id);
    json_member_string(j, "title", d->title);
    if (d->author.len > 0) {
        json_member_string(j, "author", d->author);
    }
    json_member_time(j, "created_at", d->created_at);
    json_member_string(j, "document_type", d->document_type);
    if (d->source_url.len > 0) {
        json_member_string(j, "source_url", d->source_url);
    }
    if (d->tags.len > 0) {
        json_key(j, "tags");
        json_raw(j, d->tags);
    }
    if (d->metadata.len > 0) {
        json_key(j, "metadata");
        json_raw(j, d->metadata);
    }
}

/* Its chunks that are in the view. */
static size_t visible_chunks(const struct reading *rd, const struct stored_document *d, struct op_chunk *chunks, uint32_t *slots) {
    struct chunk_walk walk = {.bytes = d->fields.chunks};
    struct op_chunk chunk;
    size_t count = 0;
    for (uint32_t i = 0; i < d->num_chunks && chunk_walk_next(&walk, &chunk); i++) {
        if (reading_chunk_visible(rd, d->first_chunk + i)) {
            chunks[count] = chunk;
            slots[count++] = d->first_chunk + i;
        }
    }
    return count;
}

static bool write_line(struct export *e, const struct reading *rd, const struct stored_document *d, bool vectors, struct status *st) {
    struct exchange *x = e->x;
    struct op_chunk *chunks = (struct op_chunk *)pool_take_array(&x->pool, d->num_chunks, sizeof *chunks);
    uint32_t *slots = (uint32_t *)pool_take_array(&x->pool, d->num_chunks, sizeof *slots);
    if (chunks == NULL || slots == NULL) {
        return status_no_memory(st);
    }
    size_t count = visible_chunks(rd, d, chunks, slots);
    if (count == 0) {
        return true;
    }
    struct json_out j = json_out_to(&x->response->body);
    json_begin_object(&j);
    write_fields(&j, &d->fields);
    write_texts(&j, chunks, count);
    write_chunk_metadata(&j, chunks, count);
    if (vectors) {
        write_vectors(&j, rd, slots, count, x->query.base64);
    }
    json_end_object(&j);
    buf_put_u8(&x->response->body, '\n');
    x->response->documents_out++;
    return buf_check(&x->response->body, st);
}

/* --- where to go on ------------------------------------------------------------------------------------------------------ */

/* The first row of that LSN, or behind. Rows stand in the order of their LSNs. */
static uint32_t row_of_lsn(const struct reading *rd, uint64_t lsn) {
    uint32_t low = 0;
    uint32_t high = rd->view.document_rows;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (arena_document(rd->arena, middle)->created_lsn < lsn) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void add_id(struct export *e, struct slice id) {
    buf_put_slice(&e->ids, id);
    buf_put_u8(&e->ids, (uint8_t)id.len); /* behind it: they are read from the end */
}

/* The one before *end, which becomes its begin. False: there is none. */
static bool id_before(const struct export *e, size_t *end, struct slice *ret) {
    if (*end == 0) {
        return false;
    }
    size_t len = e->ids.data[*end - 1];
    *end -= len + 1;
    *ret = slice_of(e->ids.data + *end, len);
    return true;
}

/* Behind the document of `after`. */
static bool find_begin(struct export *e, const struct reading *rd, struct status *st) {
    struct stored_document d;
    struct slice id;
    size_t end = e->ids.len;
    e->row = 0;
    if (id_before(e, &end, &id)) {
        if (!reading_find_document(rd, id, &d, st)) {
            return false;
        }
        e->row = d.row + 1;
    }
    return true;
}

/* Behind what was shown, in an arena that is another one by now. */
static bool find_again(struct export *e, const struct reading *rd, struct status *st) {
    struct stored_document d;
    struct slice id;
    e->row = row_of_lsn(rd, e->lsn);
    for (size_t end = e->ids.len; id_before(e, &end, &id);) {
        bool there = reading_find_document(rd, id, &d, st);
        if (!there && st->code != STATUS_NOT_FOUND) {
            return false;
        }
        if (there && arena_document(rd->arena, d.row)->created_lsn == e->lsn) {
            e->row = d.row + 1;
            break;
        }
    }
    return true;
}

static bool find_place(struct export *e, const struct reading *rd, struct status *st) {
    e->generation = rd->view.arena_generation;
    return e->lsn == 0 ? find_begin(e, rd, st) : find_again(e, rd, st);
}

static bool note_shown(struct export *e, const struct reading *rd, const struct stored_document *d, struct status *st) {
    uint64_t lsn = arena_document(rd->arena, d->row)->created_lsn;
    if (lsn != e->lsn) {
        buf_reset(&e->ids);
    }
    e->lsn = lsn;
    add_id(e, d->fields.id);
    return buf_check(&e->ids, st);
}

/* --- pieces -------------------------------------------------------------------------------------------------------------- */

static bool begin_reply(struct export *e, const struct reading *rd, struct status *st) {
    if (!e->x->stream->begin(e->x->stream->ctx, st)) {
        return false;
    }
    reply_stream(e->x);
    reply_lsn(e->x, rd->view.lsn);
    e->begun = true;
    return true;
}

/* Nobody could tell vectors of two models in one export apart, and who reads it in again would search among both. */
static bool check_same_model(struct export *e, const struct reading *rd, struct status *st) {
    uint64_t before = e->model;
    e->model = rd->view.model_fingerprint;
    return before == 0 || before == e->model || !e->x->query.include_embeddings ||
           status_set_subject(st, STATUS_CONFLICT, SUBJECT_LIBRARY, "the library has got another model during the export of its vectors");
}

/* Writes what one view has from e->row on, up to a piece. */
static bool write_piece(struct export *e, const struct reading *rd, struct status *st) {
    struct exchange *x = e->x;
    struct library_model model;
    if (!library_model_of(x, rd, &model, st) || !check_same_model(e, rd, st)) {
        return false;
    }
    uint32_t seen = 0;
    uint32_t row = e->row < rd->view.document_rows ? reading_next_document(rd, e->row) : ROW_NONE;
    while (row != ROW_NONE && seen++ < PIECE_ROWS && x->response->body.len < PIECE_BYTES) {
        struct stored_document d;
        if (!reading_document(rd, row, &d, st) || !write_line(e, rd, &d, model.by_caller || x->query.include_embeddings, st) ||
            !note_shown(e, rd, &d, st)) {
            return false;
        }
        e->row = row + 1;
        row = reading_next_document(rd, e->row);
    }
    e->ended = row == ROW_NONE;
    return true;
}

static bool next_piece(struct export *e, struct status *st) {
    struct reading rd;
    if (!access_holds(e->x, st) || !reading_begin(e->x->api->host.reader, &e->library, &rd, st)) {
        return false;
    }
    bool good = (e->begun && e->generation == rd.view.arena_generation) || find_place(e, &rd, st);
    good = good && (e->begun || begin_reply(e, &rd, st));
    good = good && (e->head_only || write_piece(e, &rd, st));
    reading_end(&rd);
    return good;
}

/* The document to go on behind. */
static bool read_after(struct export *e, struct status *st) {
    if (e->x->query.after.len == 0) {
        return true;
    }
    struct buf id = {0};
    bool good = (item_id_encode(e->x->query.after, &id) && buf_check(&id, st)) ||
                status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_DOCUMENT, "there is no document with the id that `after` names");
    if (good) {
        add_id(e, buf_slice(&id));
        good = buf_check(&e->ids, st);
    }
    buf_fini(&id);
    return good;
}

bool handle_export(struct exchange *x, struct status *st) {
    struct export e = {.x = x, .head_only = slice_is(x->request->method, "HEAD")};
    struct pool head = {0};
    if (!library_param(x, &e.library, st) || !read_after(&e, st)) {
        buf_fini(&e.ids);
        return false;
    }
    head = x->pool;
    x->pool = (struct pool){0};
    bool good = true;
    while (good && !e.ended) {
        good = next_piece(&e, st) && reply_flush(x, st);
        e.ended |= e.head_only;
        pool_reset(&x->pool);
    }
    buf_fini(&e.ids);
    pool_fini(&x->pool);
    x->pool = head;
    return good;
}
