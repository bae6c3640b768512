/* documents.c - the calls on single documents, and their list. */
#include "api/condition.h"
#include "api/document.h"
#include "api/document_write.h"
#include "api/json_in.h"
#include "api/search.h"

#include "store/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static struct vector_form asked_form(const struct exchange *x) {
    return (struct vector_form){x->query.include_embeddings, x->query.base64};
}

static struct status no_document(void) {
    struct status st;
    (void)status_set_subject(&st, STATUS_NOT_FOUND, SUBJECT_DOCUMENT, "there is no document with this id");
    return st;
}

bool item_param(struct exchange *x, unsigned which, uint16_t subject, struct slice *ret_encoded, struct status *st) {
    struct buf encoded;
    buf_init(&encoded);
    bool good = item_id_encode(x->param[which], &encoded);
    if (!good) {
        (void)status_set_subject(st, STATUS_NOT_FOUND, subject, "there is no %s with this id", subject == SUBJECT_CHUNK ? "chunk" : "document");
    } else if (!buf_ok(&encoded) || !pool_copy(&x->pool, buf_slice(&encoded), ret_encoded)) {
        good = status_no_memory(st);
    }
    buf_fini(&encoded);
    return good;
}

bool document_param(struct exchange *x, unsigned which, struct slice *ret_encoded, struct status *st) {
    return item_param(x, which, SUBJECT_DOCUMENT, ret_encoded, st);
}

/* --- writing one --- */

static void put_location(struct exchange *x, const struct uuid *library, struct slice id) {
    char library_text[UUID_TEXT + 1];
    char id_text[ITEM_ID_TEXT_MAX + 1];
    uuid_format(library, library_text);
    size_t len = item_id_text(id, id_text);
    buf_printf(&x->response->headers, "Location: /v1/libraries/%s/documents/", library_text);
    percent_encode(slice_of(id_text, len), &x->response->headers);
    buf_put_str(&x->response->headers, "\r\n");
}

/* Of a document that is there already only the vectors that are asked for are made again. */
static bool wants_vectors(const struct exchange *x) {
    return !request_known(x) || x->query.include_embeddings;
}

/* Submits the one document in `input` and shows it. */
static bool submit_and_reply(struct exchange *x, const struct uuid *library, const struct library_model *model,
                             const struct document_input *input, enum put_mode mode, struct status *st) {
    uint64_t version = DOCUMENT_VERSION_NONE;
    bool absent = false;
    if (x->route->method == METHOD_PUT && !condition_of_write(x, library, input->fields.id, &version, &absent, st)) {
        return false;
    }
    struct document_batch batch;
    document_batch_init(&batch);
    struct api_op_result result = {0};
    struct op op;
    bool good = document_batch_add(&batch, x, library, input, absent ? PUT_CREATE : mode, st) &&
                (!wants_vectors(x) || document_batch_embed(&batch, x, model, st)) &&
                op_decode(document_batch_op(&batch, 0), x->api->host.limits, &op, st) &&
                document_batch_submit(&batch, x, version, &result, st);
    if (good && result.status.code != STATUS_OK) {
        *st = result.status;
        good = false;
        if (absent && st->code == STATUS_CONFLICT && st->subject == SUBJECT_DOCUMENT) {
            st->code = STATUS_PRECONDITION;
        }
    }
    if (good) {
        struct json_out j = reply_json(x, mode == PUT_REPLACE && result.replaced ? 200 : 201);
        const float *vectors = input->vectors != NULL ? input->vectors : document_batch_vectors(&batch, 0);
        document_write_new(&j, &op.as.document, vectors, input->vectors != NULL ? input->dimension : model->dimension,
                           asked_form(x));
        reply_lsn(x, result.lsn);
        condition_reply(x, document_version(slice_of(op.bytes.data, op.as.document.record_length), input->num_chunks));
        if (x->response->status == 201) {
            put_location(x, library, input->fields.id);
        }
    }
    document_batch_fini(&batch);
    return good;
}

static bool write_document(struct exchange *x, enum document_shape shape, enum put_mode mode, struct slice id,
                           struct status *st) {
    struct uuid library;
    struct library_model model;
    struct document_input input;
    return library_param(x, &library, st) && json_in_body(x, st) && library_model_read(x, &library, &model, st) &&
           document_parse(x, NULL, x->document.root, shape, &model, id, &input, st) && problems_none(x, st) &&
           submit_and_reply(x, &library, &model, &input, mode, st);
}

bool handle_document_create(struct exchange *x, struct status *st) {
    return write_document(x, DOCUMENT_PLAIN, PUT_CREATE, (struct slice){NULL, 0}, st);
}

bool handle_document_create_embedded(struct exchange *x, struct status *st) {
    return write_document(x, DOCUMENT_EMBEDDED, PUT_CREATE, (struct slice){NULL, 0}, st);
}

bool handle_document_put(struct exchange *x, struct status *st) {
    struct buf encoded;
    struct slice id;
    buf_init(&encoded);
    bool fit = x->param[1].len <= x->api->host.limits->max_id_bytes && item_id_encode(x->param[1], &encoded);
    bool kept = fit && buf_ok(&encoded) && pool_copy(&x->pool, buf_slice(&encoded), &id);
    buf_fini(&encoded);
    if (!fit) {
        return status_set(st, STATUS_INVALID,
                          "the id in the path must be 1 to %" PRIu64 " bytes of text without control characters",
                          x->api->host.limits->max_id_bytes);
    }
    if (!kept) {
        return status_no_memory(st);
    }
    return write_document(x, DOCUMENT_PLAIN, PUT_REPLACE, id, st);
}

/* --- reading --- */

static bool reply_document(struct exchange *x, const struct reading *rd, const struct stored_document *d, struct status *st) {
    uint64_t version = condition_version(rd, d);
    bool unchanged = false;
    if (!condition_of_read(x, version, SUBJECT_DOCUMENT, &unchanged, st)) {
        return false;
    }
    if (unchanged) {
        reply_empty(x, 304);
    } else {
        struct json_out j = reply_json(x, 200);
        document_write_stored(&j, rd, d, asked_form(x));
    }
    condition_reply(x, version);
    return true;
}

bool handle_document_get(struct exchange *x, struct status *st) {
    struct uuid library;
    struct slice id;
    struct reading rd;
    if (!library_param(x, &library, st) || !document_param(x, 1, &id, st) ||
        !reading_begin(x->api->host.reader, &library, &rd, st)) {
        return false;
    }
    struct stored_document d;
    bool good = reading_find_document(&rd, id, &d, st) && reply_document(x, &rd, &d, st);
    reading_end(&rd);
    return good;
}

/* Looks for a document in all libraries; *ret is a reading of the one that has it, to be ended by the caller. */
static bool find_anywhere(struct exchange *x, struct slice id, struct reading *ret, struct stored_document *ret_document,
                          struct status *st) {
    struct library_view *views = NULL;
    size_t count = 0;
    if (id.data[0] != ITEM_ID_UUID) {
        *st = no_document(); /* only ids that are made here are unique among libraries */
        return false;
    }
    if (!store_list_libraries(x->api->host.reader, &views, &count, st)) {
        return false;
    }
    *st = no_document();
    bool found = false;
    for (size_t i = 0; i < count && !found; i++) {
        struct status each;
        if (!access_sees(x, &views[i].id)) {
            continue;
        }
        if (!reading_begin(x->api->host.reader, &views[i].id, ret, &each)) {
            if (each.code != STATUS_NOT_FOUND) {
                *st = each;
                break;
            }
            continue;
        }
        found = reading_find_document(ret, id, ret_document, &each);
        if (!found) {
            reading_end(ret);
            if (each.code != STATUS_NOT_FOUND) {
                *st = each;
                break;
            }
        }
    }
    free(views);
    return found;
}

bool handle_document_get_anywhere(struct exchange *x, struct status *st) {
    struct slice id;
    struct reading rd;
    struct stored_document d;
    if (!document_param(x, 0, &id, st) || !find_anywhere(x, id, &rd, &d, st)) {
        return false;
    }
    bool good = reply_document(x, &rd, &d, st);
    reading_end(&rd);
    return good;
}

/* The cursor: arena generation and row, so that one from before the arena was made anew is not taken for a place in the new one.
 */
static bool cursor_read(const struct exchange *x, const struct library_view *view, uint32_t *ret_row) {
    struct slice c = x->query.cursor;
    char text[24];
    unsigned generation = 0, row = 0;
    int used = 0;
    *ret_row = 0;
    if (c.len == 0) {
        return true;
    }
    if (c.len >= sizeof text) {
        return false;
    }
    memcpy(text, c.data, c.len);
    text[c.len] = '\0';
    if (sscanf(text, "%8x-%8x%n", &generation, &row, &used) != 2 || (size_t)used != c.len ||
        generation != view->arena_generation) {
        return false;
    }
    *ret_row = row;
    return true;
}

/* The filter of the query, in the pool; NULL: all match. */
static bool list_filter(struct exchange *x, const struct filter **ret, struct status *st) {
    const struct limits *l = x->api->host.limits;
    struct place at = place_member(NULL, "filter");
    *ret = NULL;
    if (x->query.filter.len == 0) {
        return true;
    }
    const struct json_limits limits = {.max_depth = (uint32_t)l->json_max_depth,
                                       .max_tokens = (uint32_t)l->json_max_tokens,
                                       .max_keys = (uint32_t)l->json_max_keys};
    return json_document_parse(x->query.filter, &limits, NULL, &x->document, st) &&
           filter_read(x, &at, x->document.root, ret, st) && problems_none(x, st);
}

/* What a list walks over. */
struct listing {
    const struct reading *rd;
    bool filtered;
    struct slot_set matches; /* where it is */
};

static bool is_listed(const struct listing *l, const struct stored_document *d) {
    for (uint32_t i = 0; l->filtered && i < d->num_chunks; i++) {
        if (slot_set_has(&l->matches, d->first_chunk + i) && reading_chunk_visible(l->rd, d->first_chunk + i)) {
            return true;
        }
    }
    return !l->filtered;
}

/* The next that is listed, at or after *row, which becomes its row, or ROW_NONE. */
static bool list_next(const struct listing *l, uint32_t *row, struct stored_document *ret, struct status *st) {
    for (*row = reading_next_document(l->rd, *row); *row != ROW_NONE; *row = reading_next_document(l->rd, *row + 1)) {
        if (!reading_document(l->rd, *row, ret, st)) {
            return false;
        }
        if (is_listed(l, ret)) {
            break;
        }
    }
    return true;
}

static void put_next_page(struct exchange *x, const struct reading *rd, uint32_t row) {
    char library[UUID_TEXT + 1];
    struct buf *out = &x->response->headers;
    uuid_format(&rd->view.id, library);
    buf_printf(out, "Link: </v1/libraries/%s/documents?limit=%u&cursor=%x-%x", library, x->query.limit, rd->view.arena_generation, row);
    if (x->query.filter.len > 0) {
        buf_put_str(out, "&filter=");
        percent_encode(x->query.filter, out);
    }
    buf_put_str(out, ">; rel=\"next\"\r\n");
}

static bool list_documents(struct exchange *x, const struct listing *l, uint32_t row, struct status *st) {
    struct json_out j = reply_json(x, 200);
    struct stored_document d;
    json_begin_array(&j);
    if (!list_next(l, &row, &d, st)) {
        return false;
    }
    for (uint32_t i = 0; i < x->query.limit && row != ROW_NONE; i++) {
        document_write_summary(&j, l->rd, &d);
        row++;
        if (!list_next(l, &row, &d, st)) {
            return false;
        }
    }
    json_end_array(&j);
    if (row != ROW_NONE) {
        put_next_page(x, l->rd, row);
    }
    return true;
}

bool handle_document_list(struct exchange *x, struct status *st) {
    struct uuid library;
    struct reading rd;
    const struct filter *filter = NULL;
    if (!library_param(x, &library, st) || !list_filter(x, &filter, st) ||
        !reading_begin(x->api->host.reader, &library, &rd, st)) {
        return false;
    }
    uint32_t row = 0;
    bool good = false;
    struct listing l = {.rd = &rd, .filtered = filter != NULL};
    if (!cursor_read(x, &rd.view, &row)) {
        problem_add_query(x, slice_str("cursor"), "is none that this call gave, or too old: begin anew without it");
        good = problems_none(x, st);
    } else {
        row = row < rd.view.document_rows ? row : rd.view.document_rows;
        good = (filter == NULL || search_filter(&rd, filter, x->api->scratch, &l.matches, st)) && list_documents(x, &l, row, st);
    }
    reading_end(&rd);
    return good;
}

/* --- deleting --- */

static bool delete_document(struct exchange *x, const struct uuid *library, struct slice id, struct status *st) {
    struct api_op_result result;
    uint64_t version = DOCUMENT_VERSION_NONE;
    bool absent = false;
    if (!condition_of_write(x, library, id, &version, &absent, st)) {
        return false;
    }
    struct buf op;
    buf_init(&op);
    op_encode_document_delete(&op, library, id);
    const struct api_submission submission = {.op = buf_slice(&op), .version = version};
    bool good = buf_check(&op, st) && submit_one(x, &submission, &result, st);
    buf_fini(&op);
    if (good) {
        reply_empty(x, 204);
        reply_lsn(x, result.lsn);
    }
    return good;
}

bool handle_document_delete(struct exchange *x, struct status *st) {
    struct uuid library;
    struct slice id;
    return library_param(x, &library, st) && document_param(x, 1, &id, st) && delete_document(x, &library, id, st);
}

bool handle_document_delete_anywhere(struct exchange *x, struct status *st) {
    struct slice id;
    struct reading rd;
    struct stored_document d;
    if (!document_param(x, 0, &id, st) || !find_anywhere(x, id, &rd, &d, st)) {
        return false;
    }
    struct uuid library = rd.view.id;
    reading_end(&rd);
    return delete_document(x, &library, id, st);
}
