/*
 * document_write.c - see document_write.h.
 *
 * Bounds: small bodies can ask for much (a text cut into chunks of one token, overlaps that repeat nearly everything), so what is
 * made of a body is held against the worker's memory before it is made: encoded ops and computed vectors may each take a share.
 */
#include "api/document_write.h"

#include "api/remote.h"

#include <inttypes.h>
#include <stdlib.h>

#define MEMORY_SHARE 4 /* ops, and vectors, may each take 1/4 of worker_memory_bytes */

void document_batch_init(struct document_batch *b) {
    *b = (struct document_batch){0};
    buf_init(&b->ops);
    buf_init(&b->texts);
    buf_init(&b->entries);
}

void document_batch_fini(struct document_batch *b) {
    buf_fini(&b->ops);
    buf_fini(&b->texts);
    buf_fini(&b->entries);
    free(b->vectors);
    b->vectors = NULL;
}

static struct batch_entry entry_at(const struct document_batch *b, size_t i) {
    struct batch_entry e;
    memcpy(&e, b->entries.data + i * sizeof e, sizeof e);
    return e;
}

size_t document_batch_count(const struct document_batch *b) {
    return b->entries.len / sizeof(struct batch_entry);
}

static uint32_t text_count(const struct document_batch *b) {
    return (uint32_t)(b->texts.len / sizeof(struct slice));
}

/* What this document would add, beside what is there already, within the shares of memory? */
static bool room_for(struct document_batch *b, const struct exchange *x, const struct document_input *input, struct status *st) {
    uint64_t most = x->api->host.limits->worker_memory_bytes / MEMORY_SHARE;
    uint64_t texts = input->vectors == NULL ? (uint64_t)text_count(b) + input->num_chunks : 0;
    if (b->ops.len + input->text_bytes > most || texts * input->dimension * sizeof(float) > most) {
        b->full = true;
        return status_set(st, STATUS_TOO_LARGE,
                          "this request makes more chunks than a worker has memory for; send fewer documents at a time");
    }
    return true;
}

bool document_batch_add(struct document_batch *b, struct exchange *x, const struct uuid *library,
                        const struct document_input *input, enum put_mode mode, struct status *st) {
    const struct limits *l = x->api->host.limits;
    struct batch_entry e = {.op_begin = b->ops.len, .first_text = text_count(b)};
    if (!room_for(b, x, input, st)) {
        return false;
    }
    document_encode(&b->ops, library, input, mode);
    e.op_len = b->ops.len - e.op_begin;
    if (e.op_len > l->max_op_bytes) {
        b->ops.len = e.op_begin; /* as if it had not been tried: the others of the batch go on */
        return status_set(st, STATUS_TOO_LARGE, "a document takes %zu bytes; at most %" PRIu64 " can be written at once",
                          e.op_len, l->max_op_bytes);
    }
    for (uint32_t i = 0; input->vectors == NULL && i < input->num_chunks; i++) {
        buf_put(&b->texts, &input->chunks[i].text, sizeof input->chunks[i].text);
    }
    e.num_texts = text_count(b) - e.first_text;
    buf_put(&b->entries, &e, sizeof e);
    return buf_check(&b->ops, st) && buf_check(&b->texts, st) && buf_check(&b->entries, st);
}

struct slice document_batch_op(const struct document_batch *b, size_t i) {
    struct batch_entry e = entry_at(b, i);
    return slice_of(b->ops.data + e.op_begin, e.op_len);
}

const float *document_batch_vectors(const struct document_batch *b, size_t i) {
    struct batch_entry e = entry_at(b, i);
    return b->vectors == NULL || e.num_texts == 0 ? NULL : b->vectors + (size_t)e.first_text * b->dimension;
}

/* The op with its chunks' vectors as part of it, so that they are logged: what stands there ends with "no vectors", one byte. */
static void put_op_with_vectors(struct buf *out, struct slice op, const float *vectors, uint32_t count, uint32_t dimension) {
    buf_put(out, op.data, op.len - 1);
    op_encode_vectors(out, vectors, count, dimension);
}

/* Asks the provider for all, and writes the ops anew, with the vectors in them. */
static bool embed_remotely(struct document_batch *b, struct exchange *x, const struct library_model *model, struct status *st) {
    struct buf values = {0};
    struct buf ops = {0};
    uint32_t dimension = 0;
    const struct slice *texts = (const struct slice *)(const void *)b->texts.data; /* malloc'd, so aligned */
    bool ok = remote_documents(x, model, texts, text_count(b), &values, &dimension, st);
    const float *vectors = (const float *)(const void *)values.data;
    for (size_t i = 0; ok && i < document_batch_count(b); i++) {
        struct batch_entry e = entry_at(b, i);
        size_t begin = ops.len;
        if (e.num_texts == 0) {
            buf_put_slice(&ops, document_batch_op(b, i));
        } else {
            put_op_with_vectors(&ops, document_batch_op(b, i), vectors + (size_t)e.first_text * dimension, e.num_texts, dimension);
        }
        e.op_begin = begin;
        e.op_len = ops.len - begin;
        e.num_texts = 0; /* nothing comes beside the op */
        memcpy(b->entries.data + i * sizeof e, &e, sizeof e);
        ok = buf_check(&ops, st) && (e.op_len <= x->api->host.limits->max_op_bytes ||
                                     status_set(st, STATUS_TOO_LARGE, "a document takes %zu bytes with its vectors; at most %" PRIu64 " can be written at once",
                                                e.op_len, x->api->host.limits->max_op_bytes));
    }
    if (ok) {
        buf_fini(&b->ops);
        b->ops = ops;
        buf_init(&ops);
    }
    buf_fini(&ops);
    buf_fini(&values);
    return ok;
}

bool document_batch_embed(struct document_batch *b, struct exchange *x, const struct library_model *model, struct status *st) {
    size_t count = text_count(b);
    if (count == 0) {
        return true;
    }
    if (model->model != NULL && model->model->remote) {
        /* the supervisor asks behind the commit, unless the library wants none without */
        return model->on_failure == ON_FAILURE_PENDING || embed_remotely(b, x, model, st);
    }
    size_t bytes = count * model->dimension * sizeof(float);
    float *vectors = (float *)malloc(bytes > 0 ? bytes : sizeof *vectors);
    if (vectors == NULL) {
        return status_no_memory(st);
    }
    const struct slice *texts = (const struct slice *)(const void *)b->texts.data; /* malloc'd, so aligned */
    if (!library_embed(x, model, EMBED_DOCUMENT, texts, count, vectors, st)) {
        free(vectors);
        /* the text is the truth: it is kept, and its vectors are made when the model answers again */
        return st->code == STATUS_NO_EMBEDDING && model->on_failure == ON_FAILURE_PENDING;
    }
    b->vectors = vectors;
    b->dimension = model->dimension;
    b->model = model->model->fingerprint;
    return true;
}

bool document_batch_submit(struct document_batch *b, struct exchange *x, uint64_t version, struct api_op_result *results, struct status *st) {
    size_t count = document_batch_count(b);
    struct api_submission *submissions = (struct api_submission *)pool_take_array(&x->pool, count, sizeof *submissions);
    if (submissions == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < count; i++) {
        const float *vectors = document_batch_vectors(b, i);
        submissions[i].op = document_batch_op(b, i);
        submissions[i].version = version;
        submissions[i].vectors = vectors;
        submissions[i].model = vectors == NULL ? 0 : b->model;
        submissions[i].vector_count = vectors == NULL ? 0 : entry_at(b, i).num_texts;
        submissions[i].dimension = vectors == NULL ? 0 : b->dimension;
    }
    return submit_ops(x, submissions, count, results, st);
}
