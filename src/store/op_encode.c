/* op_encode.c - writing ops. The format stands in op.h; op.c reads it and accepts exactly what is written here. */
#include "store/op.h"

#include "store/op_format.h"

static void put_version(struct buf *out, enum op_type type, uint8_t version, const struct uuid *library) {
    buf_put_u8(out, (uint8_t)type);
    buf_put_u8(out, version);
    buf_put(out, library->b, UUID_BYTES);
}

static void put_header(struct buf *out, enum op_type type, const struct uuid *library) {
    put_version(out, type, type == OP_DOCUMENT_PUT ? OP_DOCUMENT_VERSION : OP_VERSION, library);
}

static uint8_t version_of(const struct library_definition *d) {
    return d->exchange.state != EXCHANGE_NONE ? OP_EXCHANGE_VERSION : OP_VERSION;
}

static void put_exchange(struct buf *out, const struct library_exchange *e) {
    if (e->state == EXCHANGE_NONE) {
        return;
    }
    buf_put_u8(out, (uint8_t)e->state);
    buf_put_u64le(out, (uint64_t)e->since);
    buf_put(out, e->task.b, UUID_BYTES);
    buf_put_u64le(out, e->fingerprint);
    buf_put_varint(out, e->dimension);
    buf_put_bytes(out, e->model);
}

static void put_definition(struct buf *out, const struct library_definition *d) {
    buf_put_u64le(out, (uint64_t)d->created_at);
    buf_put_u8(out, (uint8_t)d->index.type);
    buf_put_varint(out, d->index.m);
    buf_put_varint(out, d->index.ef_construction);
    buf_put_varint(out, d->index.ef_search);
    buf_put_u8(out, (uint8_t)d->quantization.strategy);
    buf_put_u8(out, (uint8_t)d->quantization.bits);
    buf_put_varint(out, d->quantization.rerank_top_k);
    buf_put_u8(out, (uint8_t)d->on_embedding_failure);
    buf_put_u8(out, d->snapshot_vectors ? 1 : 0);
    buf_put_varint(out, d->dimension);
    buf_put_bytes(out, d->name);
    buf_put_bytes(out, d->description);
    buf_put_bytes(out, d->embedding_model);
    buf_put_bytes(out, d->language);
    buf_put_bytes(out, d->metadata);
    put_exchange(out, &d->exchange);
}

void op_encode_library(struct buf *out, enum op_type type, const struct uuid *library, const struct library_definition *d) {
    put_version(out, type, version_of(d), library);
    put_definition(out, d);
}

void op_encode_library_model(struct buf *out, const struct uuid *library, const struct library_definition *d, bool switches) {
    put_version(out, OP_LIBRARY_MODEL, version_of(d), library);
    buf_put_u8(out, switches ? 1 : 0);
    put_definition(out, d);
}

struct slice op_definition_bytes(const struct op *op) {
    size_t head = OP_HEADER_BYTES + (op->type == OP_LIBRARY_MODEL ? 1 : 0);
    return slice_of(op->bytes.data + head, op->bytes.len - head);
}

void op_encode_library_delete(struct buf *out, const struct uuid *library) {
    put_header(out, OP_LIBRARY_DELETE, library);
}

static void put_if(struct buf *out, bool present, struct slice field) {
    if (present) {
        buf_put_bytes(out, field);
    }
}

static unsigned present_fields(const struct op_document *d) {
    return (d->author.len > 0 ? OP_HAS_AUTHOR : 0U) | (!slice_is(d->document_type, OP_USUAL_TYPE) ? OP_HAS_DOCUMENT_TYPE : 0U) |
           (d->source_url.len > 0 ? OP_HAS_SOURCE_URL : 0U) | (d->tags.len > 0 ? OP_HAS_TAGS : 0U) |
           (d->metadata.len > 0 ? OP_HAS_METADATA : 0U);
}

void op_encode_document(struct buf *out, const struct uuid *library, const struct op_document *d) {
    unsigned present = present_fields(d);
    put_header(out, OP_DOCUMENT_PUT, library);
    buf_put_u8(out, (uint8_t)(d->mode | present));
    buf_put_u64le(out, (uint64_t)d->created_at);
    buf_put_bytes(out, d->id);
    buf_put_bytes(out, d->title);
    put_if(out, (present & OP_HAS_AUTHOR) != 0, d->author);
    put_if(out, (present & OP_HAS_DOCUMENT_TYPE) != 0, d->document_type);
    put_if(out, (present & OP_HAS_SOURCE_URL) != 0, d->source_url);
    put_if(out, (present & OP_HAS_TAGS) != 0, d->tags);
    put_if(out, (present & OP_HAS_METADATA) != 0, d->metadata);
    buf_put_varint(out, d->num_chunks);
}

void op_encode_chunk(struct buf *out, const struct op_chunk *c) {
    buf_put_bytes(out, c->id);
    buf_put_bytes(out, c->text);
    buf_put_bytes(out, c->metadata);
    buf_put_varint(out, c->page_number < 0 ? 0 : (uint64_t)c->page_number + 1);
}

void op_encode_vectors(struct buf *out, const float *values, uint32_t count, uint32_t dimension) {
    if (count == 0 || dimension == 0) {
        buf_put_varint(out, 0);
        return;
    }
    buf_put_varint(out, dimension);
    /* the host is little-endian (op_format.h asserts it), so the floats go as they stand */
    buf_put(out, values, (size_t)count * dimension * sizeof(float));
}

void op_encode_document_delete(struct buf *out, const struct uuid *library, struct slice document_id) {
    put_header(out, OP_DOCUMENT_DELETE, library);
    buf_put_bytes(out, document_id);
}

void op_encode_chunks_delete(struct buf *out, const struct uuid *library, const struct slice *ids, uint32_t count) {
    put_header(out, OP_CHUNKS_DELETE, library);
    buf_put_varint(out, count);
    for (uint32_t i = 0; i < count; i++) {
        buf_put_bytes(out, ids[i]);
    }
}

void op_encode_vectors_of(struct buf *out, const struct uuid *library, const struct op_vectors *head, const struct op_vector_of *chunks) {
    put_version(out, OP_VECTORS, head->other ? OP_OTHER_VERSION : OP_VERSION, library);
    buf_put_u64le(out, head->fingerprint);
    buf_put_varint(out, head->dimension);
    buf_put_varint(out, head->count);
    for (uint32_t i = 0; i < head->count; i++) {
        buf_put_bytes(out, chunks[i].id);
        buf_put_u64le(out, chunks[i].text_hash);
    }
    for (uint32_t i = 0; i < head->count; i++) {
        buf_put(out, chunks[i].values, head->dimension * sizeof(float));
    }
}

void op_encode_log_close(struct buf *out) {
    static const struct uuid none;
    put_header(out, OP_LOG_CLOSE, &none);
}

void op_encode_key_add(struct buf *out, const struct op_key *key) {
    static const struct uuid none;
    put_header(out, OP_KEY_ADD, &none);
    buf_put(out, key->id.b, UUID_BYTES);
    buf_put(out, key->digest, KEY_DIGEST_BYTES);
    buf_put_u64le(out, (uint64_t)key->created_at);
    buf_put_u64le(out, (uint64_t)key->expires_at);
    buf_put_u8(out, key->scopes);
    buf_put_u8(out, key->all ? 0 : 1);
    buf_put_bytes(out, key->name);
    buf_put_varint(out, key->library_count);
    buf_put_slice(out, key->libraries);
}

void op_encode_key_remove(struct buf *out, const struct uuid *id) {
    static const struct uuid none;
    put_header(out, OP_KEY_REMOVE, &none);
    buf_put(out, id->b, UUID_BYTES);
}
