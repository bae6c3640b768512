/*
 * document_patch.c - PATCH of a document: other fields for the same chunks.
 *
 * Rows and records are only appended, so a patch is a replacement: the document is read, its fields are exchanged, and it is submitted again with the
 * chunks, ids, time and vectors that it has. The vectors go into the op, so that a log which is replayed, or sent to another machine, need not make them
 * again, which may cost money. What was read may be changed by somebody else before the replacement is committed: so it is submitted for the version that
 * was read (store/op.h), and begun anew when that is no longer the present one, or refused, if the client named that version itself. It is begun anew, too, when the
 * library has got another model since, which the vectors are not of.
 */
#include "api/condition.h"
#include "api/document.h"
#include "api/json_in.h"

#include "store/model.h"

#include <stdlib.h>

#define ATTEMPTS 16 /* each is lost only to another write of the same document */

/* A document's replacement while it is made. */
struct patch {
    struct document_fields fields; /* of the body */
    struct library_model model;
    struct buf op;
    float *vectors; /* of the living chunks, one after the other; NULL: not all have one */
    uint32_t num_vectors;
    uint64_t version; /* that it replaces */
};

static void patch_fini(struct patch *p) {
    buf_fini(&p->op);
    free(p->vectors);
    p->vectors = NULL;
}

/* Copies the vectors of the living chunks, if all have one. */
static bool take_vectors(struct patch *p, const struct reading *rd, const struct stored_document *d, struct status *st) {
    size_t row = (size_t)rd->view.dimension * sizeof(float);
    p->num_vectors = 0;
    free(p->vectors);
    p->vectors = (float *)malloc(row * d->num_chunks + 1);
    if (p->vectors == NULL) {
        return status_no_memory(st);
    }
    for (uint32_t i = 0; i < d->num_chunks; i++) {
        uint32_t slot = d->first_chunk + i;
        if (!reading_chunk_visible(rd, slot)) {
            continue;
        }
        const float *vector = reading_vector(rd, slot);
        if (vector == NULL) {
            free(p->vectors);
            p->vectors = NULL;
            p->num_vectors = 0;
            return true;
        }
        memcpy((uint8_t *)p->vectors + row * p->num_vectors++, vector, row);
    }
    return true;
}

/* Encodes the replacement. */
static bool encode(struct exchange *x, struct patch *p, const struct reading *rd, const struct stored_document *d, struct status *st) {
    struct op_document fields = d->fields;
    struct chunk_walk walk = {.bytes = d->fields.chunks};
    struct op_chunk chunk;
    document_fields_apply(&p->fields, &fields);
    fields.mode = PUT_REPLACE;
    fields.created_at = d->created_at;
    fields.num_chunks = reading_live_chunks_of(rd, d);
    buf_reset(&p->op);
    op_encode_document(&p->op, &rd->view.id, &fields);
    for (uint32_t i = 0; i < d->num_chunks && chunk_walk_next(&walk, &chunk); i++) {
        if (reading_chunk_visible(rd, d->first_chunk + i)) {
            op_encode_chunk(&p->op, &chunk);
        }
    }
    if (!take_vectors(p, rd, d, st)) {
        return false;
    }
    size_t bytes = (size_t)p->num_vectors * rd->view.dimension * sizeof(float);
    bool fit = p->op.len + bytes <= x->api->host.limits->max_op_bytes || p->model.by_caller;
    op_encode_vectors(&p->op, p->vectors, fit ? p->num_vectors : 0, rd->view.dimension);
    return buf_check(&p->op, st);
}

static bool read_present(struct exchange *x, const struct uuid *library, struct slice id, struct patch *p, struct status *st) {
    struct reading rd;
    struct stored_document d;
    if (!reading_begin(x->api->host.reader, library, &rd, st)) {
        return false;
    }
    bool good = library_model_of(x, &rd, &p->model, st) && reading_find_document(&rd, id, &d, st) && encode(x, p, &rd, &d, st);
    if (good) {
        p->version = condition_version(&rd, &d);
    }
    reading_end(&rd);
    return good;
}

/* Submits, until nobody else was faster. asked: by the client, or DOCUMENT_VERSION_NONE. */
static bool replace(struct exchange *x, const struct uuid *library, struct slice id, uint64_t asked, struct patch *p, struct api_op_result *ret,
                    struct status *st) {
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        if (!read_present(x, library, id, p, st)) {
            return false;
        }
        bool named = asked > DOCUMENT_VERSION_ANY;
        const struct api_submission submission = {
            .op = buf_slice(&p->op), .version = named ? asked : p->version, .model = p->vectors != NULL ? p->model.fingerprint : 0};
        if (submit_one(x, &submission, ret, st)) {
            return true;
        }
        bool other_model = st->code == STATUS_CONFLICT && st->subject == SUBJECT_LIBRARY;
        if (!other_model && (st->code != STATUS_PRECONDITION || named)) {
            return false;
        }
    }
    return status_set_subject(st, STATUS_CONFLICT, SUBJECT_DOCUMENT, "others write this document all the time; try again");
}

static bool reply(struct exchange *x, const struct patch *p, const struct api_op_result *result, struct status *st) {
    struct op op;
    if (!op_decode(buf_slice(&p->op), x->api->host.limits, &op, st)) {
        return false;
    }
    struct json_out j = reply_json(x, 200);
    const struct vector_form form = {x->query.include_embeddings, x->query.base64};
    document_write_new(&j, &op.as.document, p->vectors, p->model.dimension, form);
    reply_lsn(x, result->lsn);
    condition_reply(x, document_version(slice_of(op.bytes.data, op.as.document.record_length), op.as.document.num_chunks));
    return true;
}

bool handle_document_patch(struct exchange *x, struct status *st) {
    struct uuid library;
    struct slice id;
    uint64_t asked = DOCUMENT_VERSION_NONE;
    bool absent = false;
    struct patch p = {0};
    struct api_op_result result = {0};
    if (!library_param(x, &library, st) || !json_in_body(x, st) || !library_model_read(x, &library, &p.model, st)) {
        return false;
    }
    document_fields_read(x, NULL, x->document.root, &p.fields);
    if (!problems_none(x, st) || !document_param(x, 1, &id, st) || !condition_of_write(x, &library, id, &asked, &absent, st)) {
        return false;
    }
    buf_init(&p.op);
    bool good = replace(x, &library, id, asked, &p, &result, st) && reply(x, &p, &result, st);
    patch_fini(&p);
    return good;
}
