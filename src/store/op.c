/*
 * op.c - reading ops: the supervisor's gate against what a worker sends, and the way back from log and records.
 *
 * A worker may be broken into, so nothing here believes a length, a count or a number before it is compared with what is left or
 * with its limit, and nothing is allocated. The decoder is exact: whatever it accepts, the encoder would have written byte for
 * byte (varints in their shortest form, ids in their one form, nothing behind the end). So an op has one hash, one CRC, one
 * meaning.
 *
 * Records in the arena hold bytes that passed here once. They are read by the same functions, less the limits and the UTF-8 test.
 */
#include "store/op.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "index/hnsw.h"
#include "store/op_format.h"

#include <inttypes.h>

#define EF_CONSTRUCTION_MAX 65536
#define YEAR_1_US (-62135596800LL * 1000000)
#define YEAR_10000_US (253402300800LL * 1000000)
#define JSON_ESCAPE_MAX 6 /* one byte of text takes at most "\u00xx" */

struct decoding {
    struct reader in;
    const struct limits *limits; /* NULL: bytes that were accepted before */
    struct status *st;
};

static bool malformed(struct decoding *d, const char *what) {
    return status_set(d->st, STATUS_MALFORMED, "operation: %s", what);
}

/* A varint in its shortest form; any other fails the reader. */
static uint64_t read_number(struct reader *r) {
    const uint8_t *begin = r->at;
    uint64_t v = read_varint(r);
    if (!r->failed && r->at - begin > 1 && r->at[-1] == 0) {
        r->failed = true;
        return 0;
    }
    return v;
}

static struct slice read_field(struct reader *r) {
    uint64_t len = read_number(r);
    if (len > reader_left(r)) {
        r->failed = true;
        len = 0;
    }
    return read_slice(r, (size_t)len);
}

static bool take_number(struct decoding *d, uint64_t least, uint64_t most, const char *name, uint32_t *ret) {
    uint64_t v = read_number(&d->in);
    if (d->in.failed) {
        return malformed(d, "cut short");
    }
    if (v < least || v > most) {
        return status_set(d->st, STATUS_INVALID, "%s is %" PRIu64 "; it may be %" PRIu64 " to %" PRIu64, name, v, least, most);
    }
    *ret = (uint32_t)v;
    return true;
}

/* A one-byte choice of 0..most. */
static bool take_choice(struct decoding *d, uint8_t least, uint8_t most, const char *name, uint32_t *ret) {
    uint8_t v = read_u8(&d->in);
    if (d->in.failed) {
        return malformed(d, "cut short");
    }
    if (v < least || v > most) {
        return malformed(d, name);
    }
    *ret = v;
    return true;
}

static bool take_text(struct decoding *d, uint64_t most, const char *name, struct slice *ret) {
    struct slice s = read_field(&d->in);
    if (d->in.failed) {
        return malformed(d, "cut short");
    }
    if (d->limits != NULL) {
        if (s.len > most) {
            return status_set(d->st, STATUS_TOO_LARGE, "%s has %zu bytes; at most %" PRIu64 " are allowed", name, s.len, most);
        }
        if (!utf8_valid(s)) {
            return malformed(d, "text that is not UTF-8");
        }
    }
    *ret = s;
    return true;
}

static bool take_id(struct decoding *d, struct slice *ret) {
    struct slice s = read_field(&d->in);
    if (d->in.failed) {
        return malformed(d, "cut short");
    }
    if (d->limits != NULL) {
        if (!item_id_valid(s)) {
            return malformed(d, "an id that is none");
        }
        if (s.data[0] == ITEM_ID_TEXT && s.len - 1 > d->limits->max_id_bytes) {
            return status_set(d->st, STATUS_TOO_LARGE, "an id has %zu bytes; at most %" PRIu64 " are allowed", s.len - 1,
                              d->limits->max_id_bytes);
        }
    }
    *ret = s;
    return true;
}

static bool take_time(struct decoding *d, int64_t *ret) {
    int64_t t = (int64_t)read_u64le(&d->in);
    if (d->in.failed) {
        return malformed(d, "cut short");
    }
    if (t < YEAR_1_US || t >= YEAR_10000_US) {
        return malformed(d, "a time beyond the calendar");
    }
    *ret = t;
    return true;
}

/* --- libraries --- */

static bool take_index(struct decoding *d, struct index_settings *ret) {
    if (!take_choice(d, INDEX_HNSW, INDEX_FLAT, "an unknown index type", &ret->type)) {
        return false;
    }
    /* a flat library may leave the graph's settings out */
    bool graph = ret->type == INDEX_HNSW;
    uint64_t most_ef = d->limits != NULL ? d->limits->max_ef_search : UINT32_MAX;
    return take_number(d, graph ? HNSW_MIN_M : 0, HNSW_MAX_M, "M", &ret->m) &&
           take_number(d, graph ? 1 : 0, EF_CONSTRUCTION_MAX, "ef_construction", &ret->ef_construction) &&
           take_number(d, graph ? 1 : 0, most_ef, "ef_search", &ret->ef_search);
}

static bool take_quantization(struct decoding *d, struct quantization_settings *ret) {
    return take_choice(d, QUANTIZATION_NONE, QUANTIZATION_HYBRID, "an unknown quantization", &ret->strategy) &&
           take_choice(d, 0, UINT8_MAX, "bits", &ret->bits) && take_number(d, 0, UINT32_MAX, "rerank_top_k", &ret->rerank_top_k);
}

static bool take_task(struct decoding *d, struct uuid *ret) {
    struct slice bytes = read_slice(&d->in, UUID_BYTES);
    if (d->in.failed) {
        return malformed(d, "cut short");
    }
    memcpy(ret->b, bytes.data, UUID_BYTES);
    return true;
}

/* Absent where there is none. */
static bool take_exchange(struct decoding *d, struct library_exchange *ret) {
    static const struct limits unlimited;
    const struct limits *l = d->limits != NULL ? d->limits : &unlimited;
    if (reader_left(&d->in) == 0) {
        return true;
    }
    if (!take_choice(d, EXCHANGE_BUILDING, EXCHANGE_RETURNING, "an unknown state of an exchange", &ret->state) ||
        !take_time(d, &ret->since) || !take_task(d, &ret->task)) {
        return false;
    }
    ret->fingerprint = read_u64le(&d->in);
    return take_number(d, 0, d->limits != NULL ? l->max_dimension : UINT32_MAX, "dimension", &ret->dimension) &&
           take_text(d, l->max_name_bytes, "embedding_model", &ret->model);
}

static bool take_definition(struct decoding *d, struct library_definition *ret) {
    static const struct limits unlimited;
    const struct limits *l = d->limits != NULL ? d->limits : &unlimited;
    uint32_t keep_vectors = 0;
    if (!take_time(d, &ret->created_at) || !take_index(d, &ret->index) || !take_quantization(d, &ret->quantization) ||
        !take_choice(d, ON_FAILURE_PENDING, ON_FAILURE_REJECT, "an unknown on_embedding_failure", &ret->on_embedding_failure) ||
        !take_choice(d, 0, 1, "snapshot_vectors is no boolean", &keep_vectors) ||
        !take_number(d, 0, d->limits != NULL ? l->max_dimension : UINT32_MAX, "dimension", &ret->dimension)) {
        return false;
    }
    ret->snapshot_vectors = keep_vectors != 0;
    return take_text(d, l->max_name_bytes, "name", &ret->name) &&
           take_text(d, l->max_description_bytes, "description", &ret->description) &&
           take_text(d, l->max_name_bytes, "embedding_model", &ret->embedding_model) &&
           take_text(d, l->max_name_bytes, "language", &ret->language) &&
           take_text(d, l->max_metadata_bytes, "metadata", &ret->metadata) && take_exchange(d, &ret->exchange);
}

/* Within an op: its version says whether there is an exchange. */
static bool take_versioned(struct decoding *d, uint8_t version, struct library_definition *ret) {
    return take_definition(d, ret) && ((version == OP_EXCHANGE_VERSION) == (ret->exchange.state != EXCHANGE_NONE) ||
                                       malformed(d, "an exchange that its version does not have"));
}

static bool take_model(struct decoding *d, uint8_t version, struct op *op) {
    uint32_t switches = 0;
    if (!take_choice(d, 0, 1, "a switch that is no boolean", &switches)) {
        return false;
    }
    op->switches = switches != 0;
    return take_versioned(d, version, &op->as.definition);
}

bool library_definition_decode(struct slice bytes, struct library_definition *ret) {
    struct decoding d = {.in = reader_of(bytes)};
    struct library_definition found = {0};
    if (!take_definition(&d, &found) || !reader_done(&d.in)) {
        return false;
    }
    *ret = found;
    return true;
}

/* --- documents --- */

static bool take_chunk(struct decoding *d, struct op_chunk *ret) {
    static const struct limits unlimited;
    const struct limits *l = d->limits != NULL ? d->limits : &unlimited;
    if (!take_id(d, &ret->id) || !take_text(d, l->max_text_bytes, "text of a chunk", &ret->text) ||
        !take_text(d, l->max_metadata_bytes, "metadata of a chunk", &ret->metadata)) {
        return false;
    }
    uint64_t page = read_number(&d->in);
    if (d->in.failed || page > (uint64_t)INT64_MAX + 1) {
        return malformed(d, "a page number that is none");
    }
    ret->page_number = page == 0 ? -1 : (int64_t)(page - 1);
    return true;
}

/* Mode, and which fields there are: all of them before version 2. */
static bool take_mode(struct decoding *d, uint8_t version, uint8_t *ret_mode, unsigned *ret_present) {
    uint8_t mode = read_u8(&d->in);
    if (d->in.failed) {
        return malformed(d, "cut short");
    }
    *ret_present = version < OP_DOCUMENT_VERSION ? OP_HAS_ALL : mode & OP_HAS_ALL;
    *ret_mode = version < OP_DOCUMENT_VERSION ? mode : (uint8_t)(mode & ~OP_HAS_ALL);
    return (*ret_mode >= PUT_CREATE && *ret_mode <= PUT_REPLACE) || malformed(d, "an unknown mode");
}

struct present {
    uint8_t version;
    unsigned fields;
};

/* A field that may be absent. From version 2 on it is when it is as usual: empty, but for the type. */
static bool take_present(struct decoding *d, const struct present *p, enum op_present which, uint64_t most, const char *name,
                         struct slice *ret) {
    const char *usual = which == OP_HAS_DOCUMENT_TYPE ? OP_USUAL_TYPE : "";
    if ((p->fields & (unsigned)which) == 0) {
        *ret = slice_str(usual);
        return true;
    }
    return take_text(d, most, name, ret) &&
           (p->version < OP_DOCUMENT_VERSION || !slice_is(*ret, usual) || malformed(d, "a field that is as usual"));
}

/* The fields up to the chunks, and their number. */
static bool take_document_head(struct decoding *d, uint8_t version, struct op_document *ret) {
    static const struct limits unlimited;
    const struct limits *l = d->limits != NULL ? d->limits : &unlimited;
    uint64_t most_tags = l->max_tags * (l->max_tag_bytes * JSON_ESCAPE_MAX + sizeof "\"\",") + sizeof "[]";
    struct present p = {.version = version};
    if (!take_mode(d, version, &ret->mode, &p.fields) || !take_time(d, &ret->created_at) || !take_id(d, &ret->id) ||
        !take_text(d, l->max_title_bytes, "title", &ret->title) ||
        !take_present(d, &p, OP_HAS_AUTHOR, l->max_title_bytes, "author", &ret->author) ||
        !take_present(d, &p, OP_HAS_DOCUMENT_TYPE, l->max_title_bytes, "document_type", &ret->document_type) ||
        !take_present(d, &p, OP_HAS_SOURCE_URL, l->max_title_bytes, "source_url", &ret->source_url) ||
        !take_present(d, &p, OP_HAS_TAGS, most_tags, "tags", &ret->tags) ||
        !take_present(d, &p, OP_HAS_METADATA, l->max_metadata_bytes, "metadata", &ret->metadata)) {
        return false;
    }
    uint64_t count = read_number(&d->in);
    if (d->in.failed || count > reader_left(&d->in) / OP_LEAST_CHUNK_BYTES) {
        return malformed(d, "more chunks than bytes");
    }
    if (d->limits != NULL && count > l->max_chunks_per_document) {
        return status_set(d->st, STATUS_TOO_LARGE, "a document of %" PRIu64 " chunks; at most %" PRIu64 " are allowed", count,
                          l->max_chunks_per_document);
    }
    ret->num_chunks = (uint32_t)count;
    return true;
}

static bool finite_float32(struct slice values) {
    const uint32_t exponent = 0x7f800000;
    for (size_t at = 0; at < values.len; at += sizeof(float)) {
        if ((load_u32le(values.data + at) & exponent) == exponent) {
            return false;
        }
    }
    return true;
}

static bool take_vectors(struct decoding *d, struct op_document *ret) {
    if (!take_number(d, 0, d->limits->max_dimension, "dimension", &ret->vector_dimension)) {
        return false;
    }
    if (ret->vector_dimension != 0 && ret->num_chunks == 0) {
        return malformed(d, "vectors without chunks");
    }
    /* both are bounded above by 2^32, so the product and its bytes fit in 64 bits only when taken one by one */
    uint64_t row = (uint64_t)ret->vector_dimension * sizeof(float);
    if (row != 0 && ret->num_chunks > reader_left(&d->in) / row) {
        return malformed(d, "cut short");
    }
    ret->vectors = read_slice(&d->in, (size_t)(row * ret->num_chunks));
    return finite_float32(ret->vectors) || malformed(d, "a vector that is not finite");
}

static bool take_document(struct decoding *d, const uint8_t *op_begin, uint8_t version, struct op_document *ret) {
    if (!take_document_head(d, version, ret)) {
        return false;
    }
    const uint8_t *begin = d->in.at;
    for (uint32_t i = 0; i < ret->num_chunks; i++) {
        struct op_chunk chunk;
        if (!take_chunk(d, &chunk)) {
            return false;
        }
    }
    ret->chunks = slice_of(begin, (size_t)(d->in.at - begin));
    ret->chunks_offset = (size_t)(begin - op_begin);
    ret->record_length = (size_t)(d->in.at - op_begin);
    return take_vectors(d, ret);
}

static bool has_definition(uint8_t type) {
    return type == OP_LIBRARY_CREATE || type == OP_LIBRARY_UPDATE || type == OP_LIBRARY_MODEL;
}

static uint8_t newest_version(uint8_t type) {
    return has_definition(type) ? OP_EXCHANGE_VERSION : type == OP_DOCUMENT_PUT ? OP_DOCUMENT_VERSION : type == OP_VECTORS ? OP_OTHER_VERSION : OP_VERSION;
}

static bool version_known(uint8_t type, uint8_t version) {
    return version >= OP_VERSION && version <= newest_version(type);
}

bool op_document_decode(struct slice record, struct op_document *ret) {
    struct decoding d = {.in = reader_of(record)};
    struct op_document found = {0};
    uint8_t type = read_u8(&d.in);
    uint8_t version = read_u8(&d.in);
    (void)read_slice(&d.in, UUID_BYTES);
    if (d.in.failed || type != OP_DOCUMENT_PUT || !version_known(type, version) || !take_document_head(&d, version, &found)) {
        return false;
    }
    found.chunks = slice_of(d.in.at, reader_left(&d.in));
    found.chunks_offset = record.len - found.chunks.len;
    found.record_length = record.len;
    *ret = found;
    return true;
}

uint64_t document_version(struct slice record, uint32_t living_chunks) {
    enum { MODE_AT = 2 + UUID_BYTES, MODE_BITS = PUT_CREATE | PUT_REPLACE };
    uint8_t begin[sizeof living_chunks + 1];
    store_u32le(begin, living_chunks);
    begin[sizeof living_chunks] = record.len > MODE_AT ? (uint8_t)(record.data[MODE_AT] & ~MODE_BITS) : 0;
    size_t skip = record.len > MODE_AT ? MODE_AT + 1 : record.len;
    uint64_t version = hash64(hash64(0, begin, sizeof begin), record.data + skip, record.len - skip);
    return version > DOCUMENT_VERSION_ANY ? version : version + DOCUMENT_VERSION_ANY + 1;
}

bool op_chunk_decode(struct slice bytes, struct op_chunk *ret) {
    struct decoding d = {.in = reader_of(bytes)};
    struct op_chunk found = {0};
    if (!take_chunk(&d, &found)) {
        return false;
    }
    found.length = bytes.len - reader_left(&d.in);
    *ret = found;
    return true;
}

bool chunk_walk_next(struct chunk_walk *w, struct op_chunk *ret) {
    if (w->at >= w->bytes.len || !op_chunk_decode(slice_of(w->bytes.data + w->at, w->bytes.len - w->at), ret)) {
        return false;
    }
    ret->offset = w->base + w->at;
    w->at += ret->length;
    return true;
}

/* --- deletions --- */

static bool take_chunk_ids(struct decoding *d, struct op *ret) {
    uint64_t count = read_number(&d->in);
    if (d->in.failed || count > reader_left(&d->in) / OP_LEAST_ID_BYTES) {
        return malformed(d, "more ids than bytes");
    }
    const uint8_t *begin = d->in.at;
    for (uint64_t i = 0; i < count; i++) {
        struct slice id;
        if (!take_id(d, &id)) {
            return false;
        }
    }
    ret->as.chunk_ids.count = (uint32_t)count;
    ret->as.chunk_ids.ids = slice_of(begin, (size_t)(d->in.at - begin));
    return true;
}

bool chunk_ids_next(struct slice ids, size_t *at, struct slice *ret_id) {
    if (*at >= ids.len) {
        return false;
    }
    struct reader r = reader_of(slice_of(ids.data + *at, ids.len - *at));
    struct slice id = read_field(&r);
    if (r.failed) {
        return false;
    }
    *at = ids.len - reader_left(&r);
    *ret_id = id;
    return true;
}

/* --- keys --- */

static bool ascending(struct slice ids) {
    for (size_t at = UUID_BYTES; at < ids.len; at += UUID_BYTES) {
        if (memcmp(ids.data + at - UUID_BYTES, ids.data + at, UUID_BYTES) >= 0) {
            return false;
        }
    }
    return true;
}

static bool take_reach(struct decoding *d, struct op_key *ret) {
    uint32_t named = 0;
    if (!take_choice(d, 0, 1, "an unknown reach of a key", &named) || !take_text(d, KEY_NAME_MAX, "name of a key", &ret->name) ||
        !take_number(d, named, named * KEY_LIBRARIES_MAX, "libraries of a key", &ret->library_count)) {
        return false;
    }
    ret->all = named == 0;
    ret->libraries = read_slice(&d->in, (size_t)ret->library_count * UUID_BYTES);
    return ascending(ret->libraries) || malformed(d, "libraries of a key out of order");
}

static bool take_key_id(struct decoding *d, struct uuid *ret) {
    struct slice id = read_slice(&d->in, UUID_BYTES);
    if (d->in.failed) {
        return malformed(d, "cut short");
    }
    memcpy(ret->b, id.data, UUID_BYTES);
    return true;
}

static bool take_key(struct decoding *d, struct op_key *ret) {
    uint32_t scopes = 0;
    if (!take_key_id(d, &ret->id)) {
        return false;
    }
    struct slice digest = read_slice(&d->in, KEY_DIGEST_BYTES);
    if (d->in.failed) {
        return malformed(d, "cut short");
    }
    memcpy(ret->digest, digest.data, KEY_DIGEST_BYTES);
    if (!take_time(d, &ret->created_at) || !take_time(d, &ret->expires_at) ||
        !take_choice(d, 1, KEY_SCOPES, "an unknown scope of a key", &scopes)) {
        return false;
    }
    ret->scopes = (uint8_t)scopes;
    return take_reach(d, ret);
}

/* --- vectors --- */

/* The number of chunks is bounded by what is left before anything else is believed. */
static bool take_vectors_of(struct decoding *d, struct op_vectors *ret) {
    ret->fingerprint = read_u64le(&d->in);
    if (!take_number(d, 1, d->limits->max_dimension, "dimension", &ret->dimension)) {
        return false;
    }
    uint64_t count = read_number(&d->in);
    uint64_t row = (uint64_t)ret->dimension * sizeof(float);
    if (d->in.failed || count > reader_left(&d->in) / (OP_LEAST_VECTOR_OF_BYTES + row)) {
        return malformed(d, "more vectors than bytes");
    }
    ret->count = (uint32_t)count;
    const uint8_t *begin = d->in.at;
    for (uint32_t i = 0; i < ret->count; i++) {
        struct slice id;
        if (!take_id(d, &id)) {
            return false;
        }
        if (read_u64le(&d->in) == 0 && !d->in.failed) {
            return malformed(d, "a hash that no text has");
        }
    }
    ret->chunks = slice_of(begin, (size_t)(d->in.at - begin));
    ret->values = read_slice(&d->in, (size_t)(row * ret->count));
    if (d->in.failed) {
        return malformed(d, "cut short");
    }
    return (ret->fingerprint != 0 || malformed(d, "vectors of no model")) &&
           (finite_float32(ret->values) || malformed(d, "a vector that is not finite"));
}

bool op_vectors_next(struct slice chunks, size_t *at, struct slice *ret_id, uint64_t *ret_text_hash) {
    struct reader r = reader_of(slice_of(chunks.data + *at, chunks.len - *at));
    if (*at >= chunks.len) {
        return false;
    }
    struct slice id = read_field(&r);
    uint64_t hash = read_u64le(&r);
    if (r.failed) {
        return false;
    }
    *at = chunks.len - reader_left(&r);
    *ret_id = id;
    *ret_text_hash = hash;
    return true;
}

/* --- the whole --- */

static bool is_zero_uuid(const struct uuid *id) {
    static const struct uuid zero;
    return uuid_equal(id, &zero);
}

static bool take_payload(struct decoding *d, uint8_t version, struct op *op) {
    switch (op->type) {
    case OP_LIBRARY_CREATE:
    case OP_LIBRARY_UPDATE:
        return take_versioned(d, version, &op->as.definition);
    case OP_LIBRARY_MODEL:
        return take_model(d, version, op);
    case OP_LIBRARY_DELETE:
        return true;
    case OP_DOCUMENT_PUT:
        return take_document(d, op->bytes.data, version, &op->as.document);
    case OP_DOCUMENT_DELETE:
        return take_id(d, &op->as.document_id);
    case OP_CHUNKS_DELETE:
        return take_chunk_ids(d, op);
    case OP_VECTORS:
        op->as.vectors.other = version == OP_OTHER_VERSION;
        return take_vectors_of(d, &op->as.vectors);
    case OP_LOG_CLOSE:
        return is_zero_uuid(&op->library) || malformed(d, "a log's end that names a library");
    case OP_KEY_ADD:
        return is_zero_uuid(&op->library) ? take_key(d, &op->as.key) : malformed(d, "a key that names a library");
    case OP_KEY_REMOVE:
        return is_zero_uuid(&op->library) ? take_key_id(d, &op->as.key.id) : malformed(d, "a key that names a library");
    default:
        return status_set(d->st, STATUS_MALFORMED, "operation: unknown type %u", (unsigned)op->type);
    }
}

bool op_decode(struct slice bytes, const struct limits *limits, struct op *ret, struct status *st) {
    struct limits widest;
    if (limits == NULL) {
        limits_widest(&widest);
        limits = &widest;
    }
    struct decoding d = {.in = reader_of(bytes), .limits = limits, .st = st};
    if (bytes.len > limits->max_op_bytes) {
        return status_set(st, STATUS_TOO_LARGE, "an operation of %zu bytes; at most %" PRIu64 " are allowed (max_op_bytes)",
                          bytes.len, limits->max_op_bytes);
    }
    struct op op = {.bytes = bytes};
    op.type = read_u8(&d.in);
    uint8_t version = read_u8(&d.in);
    struct slice library = read_slice(&d.in, UUID_BYTES);
    if (d.in.failed) {
        return malformed(&d, "cut short");
    }
    if (!version_known(op.type, version)) {
        return status_set(st, STATUS_MALFORMED, "operation: version %u, this server knows %u: was it written by a newer one?", (unsigned)version,
                          (unsigned)newest_version(op.type));
    }
    memcpy(op.library.b, library.data, UUID_BYTES);
    if (!take_payload(&d, version, &op)) {
        return false;
    }
    if (!reader_done(&d.in)) {
        return malformed(&d, "bytes behind its end");
    }
    *ret = op;
    return true;
}

bool op_is_of_library(const struct op *op) {
    return has_definition(op->type) || op->type == OP_LIBRARY_DELETE;
}

const char *op_type_name(uint8_t type) {
    static const char *const names[] = {
        [OP_LIBRARY_CREATE] = "library_create", [OP_LIBRARY_UPDATE] = "library_update",   [OP_LIBRARY_DELETE] = "library_delete",
        [OP_DOCUMENT_PUT] = "document_put",     [OP_DOCUMENT_DELETE] = "document_delete", [OP_CHUNKS_DELETE] = "chunks_delete",
        [OP_LOG_CLOSE] = "log_close",           [OP_KEY_ADD] = "key_add",                 [OP_KEY_REMOVE] = "key_remove",
        [OP_LIBRARY_MODEL] = "library_model",   [OP_VECTORS] = "vectors",
    };
    return type < sizeof names / sizeof names[0] && names[type] != NULL ? names[type] : "unknown";
}
