/*
 * documents_batch.c - the calls on many documents or chunks at once.
 *
 * One bad document does not fail the others: what is wrong with it stands in its own result, and those that are right go down
 * in one submission, so they share one sync. Only what is wrong with the request itself, or with the server, fails the whole.
 */
#include "api/batch.h"
#include "api/condition.h"
#include "api/json_in.h"

#include "base/hash.h"
#include "store/model.h"

#include <stdlib.h>

struct batch_totals {
    uint64_t lsn;
    uint32_t successful;
    uint64_t chunks_added, chunks_deleted;
};

/* Takes the results of what was submitted over into their items, in order. */
static void take_results(struct batch_item *items, size_t count, const struct api_op_result *results,
                         struct batch_totals *totals) {
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (items[i].submitted) {
            const struct api_op_result *r = &results[at++];
            items[i].status = r->status;
            totals->chunks_added += r->chunks_added;
            totals->chunks_deleted += r->chunks_deleted;
            totals->lsn = r->lsn > totals->lsn ? r->lsn : totals->lsn;
        }
        totals->successful += items[i].status.code == STATUS_OK ? 1 : 0;
    }
}

void batch_item_write(struct json_out *j, const struct batch_item *item) {
    bool good = item->status.code == STATUS_OK;
    json_member_bool(j, "success", good);
    if (item->id.len > 0) {
        json_key(j, "document_id");
        item_id_write(j, item->id);
    }
    if (!good) {
        struct http_error error = http_error_of(&item->status);
        json_key(j, "error");
        json_begin_object(j);
        json_member_cstring(j, "error_type", error.type);
        json_member_cstring(j, "detail", public_detail(&item->status));
        json_end_object(j);
    }
}

static void reply_batch(struct exchange *x, const struct batch_item *items, size_t count, const struct batch_totals *totals) {
    struct json_out j = reply_json(x, 200);
    json_begin_object(&j);
    json_member_uint(&j, "total_requested", count);
    json_member_uint(&j, "successful", totals->successful);
    json_member_uint(&j, "failed", count - totals->successful);
    json_key(&j, "results");
    json_begin_array(&j);
    for (size_t i = 0; i < count; i++) {
        json_begin_object(&j);
        batch_item_write(&j, &items[i]);
        json_end_object(&j);
    }
    json_end_array(&j);
    json_member_uint(&j, "total_chunks_added", totals->chunks_added);
    if (totals->chunks_deleted > 0) {
        json_member_uint(&j, "total_chunks_deleted", totals->chunks_deleted);
    }
    json_member_double(&j, "processing_time_ms", (double)(clock_monotonic_ns() - x->begun_ns) / 1e6);
    json_end_object(&j);
    reply_lsn(x, totals->lsn);
}

bool batch_fails_all(const struct status *st) {
    return http_error_of(st).status >= 500;
}

/* The shape of a document where both are taken. */
static enum document_shape shape_of(struct json_object *v) {
    bool embedded = json_object_is_type(v, json_type_object) && json_object_object_get_ex(v, "chunks", NULL);
    return embedded ? DOCUMENT_EMBEDDED : DOCUMENT_PLAIN;
}

bool batch_add_document(struct exchange *x, struct batch_target *target, const struct place *at, struct json_object *v,
                        struct batch_item *item, struct status *st) {
    struct library_model *model = &target->model;
    enum document_shape shape = target->embedded_only ? DOCUMENT_EMBEDDED : shape_of(v);
    struct document_input input;
    problems_clear(&x->problems);
    bool good = document_parse(x, at, v, shape, model, (struct slice){NULL, 0}, &input,
                               &item->status) &&
                problems_none(x, &item->status) && document_batch_add(&target->batch, x, &target->library, &input, target->mode, &item->status);
    item->submitted = good;
    if (good) {
        item->id = input.fields.id;
        if (model->dimension == 0) {
            model->dimension = input.dimension; /* the first vectors fix it; what differs within the batch is refused here */
        }
        return true;
    }
    if (target->batch.full || batch_fails_all(&item->status)) {
        *st = item->status;
        return false;
    }
    return true;
}

/* {<name>: [1..most]}: nothing else. */
static bool read_list(struct exchange *x, const char *name, uint64_t most, struct json_object **ret, size_t *ret_count,
                      struct status *st) {
    struct json_object *list = NULL;
    const struct member members[] = {{name, &list}};
    if (!json_in_body(x, st)) {
        return false;
    }
    (void)json_in_members(x, NULL, x->document.root, members, sizeof members / sizeof members[0]);
    struct place at = place_member(NULL, name);
    (void)json_in_require(x, NULL, name, list);
    (void)json_in_array(x, &at, list, 1, most, ret_count);
    *ret = list;
    return problems_none(x, st);
}

/* Submits what the batch holds and puts each result to its item. */
static bool submit_batch(struct exchange *x, struct document_batch *batch, struct batch_item *items, size_t count,
                         struct batch_totals *totals, struct status *st) {
    size_t ops = document_batch_count(batch);
    struct api_op_result *results = (struct api_op_result *)pool_take_array(&x->pool, ops, sizeof *results);
    if (results == NULL) {
        return status_no_memory(st);
    }
    if (ops > 0 && !document_batch_submit(batch, x, DOCUMENT_VERSION_NONE, results, st)) {
        return false;
    }
    take_results(items, count, results, totals);
    return true;
}

static bool write_batch(struct exchange *x, bool embedded_only, struct status *st) {
    struct batch_target target = {.mode = PUT_CREATE, .embedded_only = embedded_only};
    struct json_object *documents = NULL;
    size_t count = 0;
    if (!library_param(x, &target.library, st) ||
        !read_list(x, "documents", x->api->host.limits->max_batch_documents, &documents, &count, st) ||
        !library_model_read(x, &target.library, &target.model, st)) {
        return false;
    }
    struct batch_item *items = (struct batch_item *)pool_take_array(&x->pool, count, sizeof *items);
    if (items == NULL) {
        return status_no_memory(st);
    }
    struct batch_totals totals = {0};
    document_batch_init(&target.batch);
    struct place list = place_member(NULL, "documents");
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        struct place at = place_element(&list, i);
        good = batch_add_document(x, &target, &at, json_object_array_get_idx(documents, i), &items[i], st);
    }
    problems_clear(&x->problems);
    good = good && (request_known(x) || document_batch_embed(&target.batch, x, &target.model, st)) &&
           submit_batch(x, &target.batch, items, count, &totals, st);
    if (good) {
        reply_batch(x, items, count, &totals);
    }
    document_batch_fini(&target.batch);
    return good;
}

bool handle_document_batch(struct exchange *x, struct status *st) {
    return write_batch(x, false, st);
}

bool handle_document_batch_embedded(struct exchange *x, struct status *st) {
    return write_batch(x, true, st);
}

/* --- deleting --- */

struct deletion {
    struct uuid library; /* meant where the item is to be submitted */
};

/* Reads the ids of a list into items; one that can be nobody's id is not found. */
static bool read_ids(struct exchange *x, const char *name, struct json_object *list, struct batch_item *items, size_t count,
                     struct status *st) {
    struct place at = place_member(NULL, name);
    for (size_t i = 0; i < count; i++) {
        struct place element = place_element(&at, i);
        struct json_object *v = json_object_array_get_idx(list, i);
        struct slice text;
        if (v == NULL) {
            problem_add(x, &element, "must be a string");
        }
        if (!json_in_text(x, &element, v, 0, SIZE_MAX, &text)) {
            continue;
        }
        struct buf encoded;
        buf_init(&encoded);
        bool fit = item_id_encode(text, &encoded);
        bool kept = !fit || (buf_ok(&encoded) && pool_copy(&x->pool, buf_slice(&encoded), &items[i].id));
        buf_fini(&encoded);
        if (!kept) {
            return status_no_memory(st);
        }
        (void)status_set_subject(&items[i].status, STATUS_NOT_FOUND, SUBJECT_DOCUMENT, "there is no document with this id");
    }
    return problems_none(x, st);
}

/* Deletes the items that are marked, each in the library that goes with it. */
static bool submit_deletions(struct exchange *x, struct batch_item *items, const struct deletion *where, size_t count,
                             struct status *st) {
    struct api_submission *ops = (struct api_submission *)pool_take_array(&x->pool, count, sizeof *ops);
    struct api_op_result *results = (struct api_op_result *)pool_take_array(&x->pool, count, sizeof *results);
    if (ops == NULL || results == NULL) {
        return status_no_memory(st);
    }
    size_t marked = 0;
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        if (!items[i].submitted) {
            continue;
        }
        struct buf op;
        buf_init(&op);
        op_encode_document_delete(&op, &where[i].library, items[i].id);
        good = (buf_ok(&op) && pool_copy(&x->pool, buf_slice(&op), &ops[marked++].op)) || status_no_memory(st);
        buf_fini(&op);
    }
    struct batch_totals totals = {0};
    if (!good || (marked > 0 && !submit_ops(x, ops, marked, results, st))) {
        return false;
    }
    take_results(items, count, results, &totals);
    reply_batch(x, items, count, &totals);
    return true;
}

static bool begin_deletion(struct exchange *x, struct batch_item **ret_items, struct deletion **ret_where, size_t *ret_count,
                           struct status *st) {
    struct json_object *ids = NULL;
    size_t count = 0;
    if (!read_list(x, "document_ids", x->api->host.limits->max_batch_documents, &ids, &count, st)) {
        return false;
    }
    struct batch_item *items = (struct batch_item *)pool_take_array(&x->pool, count, sizeof *items);
    struct deletion *where = (struct deletion *)pool_take_array(&x->pool, count, sizeof *where);
    if (items == NULL || where == NULL) {
        return status_no_memory(st);
    }
    *ret_items = items;
    *ret_where = where;
    *ret_count = count;
    return read_ids(x, "document_ids", ids, items, count, st);
}

bool handle_document_batch_delete(struct exchange *x, struct status *st) {
    struct uuid library;
    struct batch_item *items = NULL;
    struct deletion *where = NULL;
    size_t count = 0;
    struct library_model model;
    if (!library_param(x, &library, st) || !begin_deletion(x, &items, &where, &count, st) ||
        !library_model_read(x, &library, &model, st)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        items[i].submitted = items[i].id.len > 0;
        where[i].library = library;
    }
    return submit_deletions(x, items, where, count, st);
}

/* Marks the items that this library has and no earlier one had. */
static void mark_in_library(struct exchange *x, const struct reading *rd, struct batch_item *items, struct deletion *where,
                            size_t count) {
    (void)x;
    for (size_t i = 0; i < count; i++) {
        struct stored_document d;
        struct status st;
        if (items[i].submitted || items[i].id.len == 0 || items[i].id.data[0] != ITEM_ID_UUID ||
            !reading_find_document(rd, items[i].id, &d, &st)) {
            continue;
        }
        items[i].submitted = true;
        where[i].library = rd->view.id;
    }
}

bool handle_document_batch_delete_anywhere(struct exchange *x, struct status *st) {
    struct batch_item *items = NULL;
    struct deletion *where = NULL;
    size_t count = 0, libraries = 0;
    struct library_view *views = NULL;
    if (!begin_deletion(x, &items, &where, &count, st) || !store_list_libraries(x->api->host.reader, &views, &libraries, st)) {
        return false;
    }
    bool good = true;
    for (size_t i = 0; good && i < libraries; i++) {
        struct reading rd;
        if (!access_sees(x, &views[i].id)) {
            continue;
        }
        if (reading_begin(x->api->host.reader, &views[i].id, &rd, st)) {
            mark_in_library(x, &rd, items, where, count);
            reading_end(&rd);
        } else {
            good = st->code == STATUS_NOT_FOUND; /* deleted since the list was taken */
        }
    }
    free(views);
    return good && submit_deletions(x, items, where, count, st);
}

/* --- chunks by id --- */

static bool begin_chunks(struct exchange *x, struct uuid *library, struct batch_item **ret_items, size_t *ret_count,
                         struct status *st) {
    struct json_object *ids = NULL;
    size_t count = 0;
    if (!library_param(x, library, st) || !read_list(x, "ids", x->api->host.limits->max_batch_documents, &ids, &count, st)) {
        return false;
    }
    struct batch_item *items = (struct batch_item *)pool_take_array(&x->pool, count, sizeof *items);
    if (items == NULL) {
        return status_no_memory(st);
    }
    *ret_items = items;
    *ret_count = count;
    return read_ids(x, "ids", ids, items, count, st);
}

static bool write_chunk(struct exchange *x, struct json_out *j, const struct reading *rd, const struct stored_chunk *chunk, struct status *st) {
    struct stored_document d;
    if (!reading_document(rd, chunk->document, &d, st)) {
        return false;
    }
    struct vector_form form = {x->query.include_embeddings, x->query.base64};
    const struct chunk_frame frame = {d.created_at, d.fields.id, rd->view.dimension, form};
    chunk_write(j, &chunk->fields, chunk->index, form.include ? reading_vector(rd, chunk->slot) : NULL, &frame);
    return true;
}

static bool write_chunk_by_id(struct exchange *x, struct json_out *j, const struct reading *rd, struct slice id,
                              struct status *st) {
    struct stored_chunk chunk;
    if (id.len == 0) {
        return true;
    }
    if (!reading_find_chunk(rd, id, &chunk, st)) {
        return st->code == STATUS_NOT_FOUND;
    }
    return write_chunk(x, j, rd, &chunk, st);
}

/* Its tag is a hash of what is shown: a chunk never changes, but a vector may come, and not every form of the reply shows it. */
static bool reply_chunk(struct exchange *x, const struct reading *rd, const struct stored_chunk *chunk, struct status *st) {
    struct json_out j = reply_json(x, 200);
    bool unchanged = false;
    if (!write_chunk(x, &j, rd, chunk, st)) {
        return false;
    }
    uint64_t version = hash64(0, x->response->body.data, x->response->body.len);
    if (!condition_of_read(x, version, SUBJECT_CHUNK, &unchanged, st)) {
        return false;
    }
    if (unchanged) {
        reply_empty(x, 304);
    }
    condition_reply(x, version);
    return true;
}

bool handle_chunk_get(struct exchange *x, struct status *st) {
    struct uuid library;
    struct slice id;
    struct reading rd;
    struct stored_chunk chunk;
    if (!library_param(x, &library, st) || !item_param(x, 1, SUBJECT_CHUNK, &id, st) || !reading_begin(x->api->host.reader, &library, &rd, st)) {
        return false;
    }
    bool good = reading_find_chunk(&rd, id, &chunk, st) && reply_chunk(x, &rd, &chunk, st);
    reading_end(&rd);
    return good;
}

bool handle_chunks_get(struct exchange *x, struct status *st) {
    struct uuid library;
    struct batch_item *items = NULL;
    size_t count = 0;
    struct reading rd;
    if (!begin_chunks(x, &library, &items, &count, st) || !reading_begin(x->api->host.reader, &library, &rd, st)) {
        return false;
    }
    struct json_out j = reply_json(x, 200);
    bool good = true;
    json_begin_object(&j);
    json_key(&j, "chunks");
    json_begin_array(&j);
    for (size_t i = 0; good && i < count; i++) {
        good = write_chunk_by_id(x, &j, &rd, items[i].id, st) && reply_fits(x, &x->response->body, st);
    }
    if (good) {
        json_end_array(&j);
        json_end_object(&j);
    }
    reading_end(&rd);
    return good;
}

bool handle_chunks_delete(struct exchange *x, struct status *st) {
    struct uuid library;
    struct batch_item *items = NULL;
    size_t count = 0;
    struct library_model model;
    struct api_op_result result = {0};
    if (!begin_chunks(x, &library, &items, &count, st) || !library_model_read(x, &library, &model, st)) {
        return false;
    }
    struct slice *ids = (struct slice *)pool_take_array(&x->pool, count, sizeof *ids);
    if (ids == NULL) {
        return status_no_memory(st);
    }
    uint32_t wanted = 0;
    for (size_t i = 0; i < count; i++) {
        if (items[i].id.len > 0) {
            ids[wanted++] = items[i].id;
        }
    }
    struct buf op;
    buf_init(&op);
    op_encode_chunks_delete(&op, &library, ids, wanted);
    const struct api_submission submission = {.op = buf_slice(&op)};
    bool good = wanted == 0 || (buf_check(&op, st) && submit_one(x, &submission, &result, st));
    buf_fini(&op);
    if (good) {
        struct json_out j = reply_json(x, 200);
        json_begin_object(&j);
        json_member_uint(&j, "requested", count);
        json_member_uint(&j, "deleted", result.chunks_deleted);
        json_end_object(&j);
        reply_lsn(x, result.lsn);
    }
    return good;
}
