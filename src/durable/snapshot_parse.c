/*
 * snapshot_parse.c - from the JSON of a snapshot to ops.
 *
 * Members that this version does not know are passed over (a newer one may write more); those that it knows must have their type.
 * What comes out is decoded by op_decode like any op from outside, with the widest limits: what was once admitted must load
 * again.
 *
 * A document and its chunks keep their ids, so they must have them. Times that somebody's edit left out are the library's.
 */
#include "durable/snapshot_parse.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "durable/snapshot_archive.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* --- members --- */

static bool wrong(const char *key, const char *what, struct status *st) {
    return status_set(st, STATUS_MALFORMED, "\"%s\" %s", key, what);
}

static struct json_object *member(struct json_object *object, const char *key) {
    struct json_object *v = NULL;
    return json_object_object_get_ex(object, key, &v) ? v : NULL; /* null counts as left out */
}

static struct slice string_of(struct json_object *v) {
    return slice_of(json_object_get_string(v), (size_t)json_object_get_string_len(v));
}

/* A string, or what stands for it as KEY_base64. Left out: empty. Valid as long as the tree and `scratch` (appended to). */
static bool get_text(struct json_object *object, const char *key, struct buf *scratch, struct slice *ret, struct status *st) {
    char other[64];
    struct json_object *v = member(object, key);
    if (v != NULL) {
        *ret = string_of(v);
        return json_object_is_type(v, json_type_string) || wrong(key, "is no string", st);
    }
    (void)snprintf(other, sizeof other, "%s_base64", key);
    v = member(object, other);
    if (v == NULL) {
        *ret = slice_of(NULL, 0);
        return true;
    }
    buf_reset(scratch);
    if (!json_object_is_type(v, json_type_string) || !base64_decode(string_of(v), scratch)) {
        return buf_ok(scratch) ? wrong(other, "is no base64", st) : status_no_memory(st);
    }
    *ret = buf_slice(scratch);
    return true;
}

/* An object or array as text, or KEY_raw, which is that text. Left out: empty. */
static bool get_json(struct json_object *object, const char *key, enum json_type type, struct buf *scratch, struct slice *ret,
                     struct status *st) {
    char raw[64];
    struct json_object *v = member(object, key);
    if (v == NULL) {
        (void)snprintf(raw, sizeof raw, "%s_raw", key);
        return get_text(object, raw, scratch, ret, st);
    }
    if (!json_object_is_type(v, type)) {
        return wrong(key, type == json_type_object ? "is no object" : "is no array", st);
    }
    size_t len = 0;
    const char *text = json_object_to_json_string_length(v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
    if (text == NULL) {
        return status_no_memory(st);
    }
    *ret = slice_of(text, len);
    return true;
}

/* A number from 0 to `most`; left out: `preset`. */
static bool get_number(struct json_object *object, const char *key, uint64_t most, uint64_t preset, uint64_t *ret,
                       struct status *st) {
    struct json_object *v = member(object, key);
    if (v == NULL) {
        *ret = preset;
        return true;
    }
    int64_t number = json_object_get_int64(v);
    if (!json_object_is_type(v, json_type_int) || number < 0 || (uint64_t)number > most) {
        return wrong(key, "is no number, or out of range", st);
    }
    *ret = (uint64_t)number;
    return true;
}

static bool get_u32(struct json_object *object, const char *key, uint32_t preset, uint32_t *ret, struct status *st) {
    uint64_t number = 0;
    if (!get_number(object, key, UINT32_MAX, preset, &number, st)) {
        return false;
    }
    *ret = (uint32_t)number;
    return true;
}

static bool get_bool(struct json_object *object, const char *key, bool preset, bool *ret, struct status *st) {
    struct json_object *v = member(object, key);
    *ret = v != NULL ? json_object_get_boolean(v) != 0 : preset;
    return v == NULL || json_object_is_type(v, json_type_boolean) || wrong(key, "is neither true nor false", st);
}

static bool get_time(struct json_object *object, const char *key, int64_t preset, int64_t *ret, struct status *st) {
    struct json_object *v = member(object, key);
    if (v == NULL) {
        *ret = preset;
        return true;
    }
    return (json_object_is_type(v, json_type_string) && rfc3339_parse(string_of(v), ret)) || wrong(key, "is no time", st);
}

static bool hex_value(char c, uint8_t *ret) {
    static const char digits[] = "0123456789abcdef";
    const char *digit = c != '\0' ? strchr(digits, c) : NULL;
    *ret = digit != NULL ? (uint8_t)(digit - digits) : 0;
    return digit != NULL;
}

/* Exactly 2 * len lower-case digits. */
static bool hex_bytes(struct json_object *v, uint8_t *ret, size_t len) {
    struct slice hex = v != NULL && json_object_is_type(v, json_type_string) ? string_of(v) : slice_of(NULL, 0);
    if (hex.len != 2 * len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        uint8_t high = 0;
        uint8_t low = 0;
        if (!hex_value((char)hex.data[2 * i], &high) || !hex_value((char)hex.data[2 * i + 1], &low)) {
            return false;
        }
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool hex_number(struct json_object *v, uint64_t *ret) {
    uint8_t bytes[sizeof *ret];
    bool ok = hex_bytes(v, bytes, sizeof bytes);
    *ret = 0;
    for (size_t i = 0; ok && i < sizeof bytes; i++) {
        *ret = *ret << 8 | bytes[i];
    }
    return ok;
}

/* 16 hexadecimal digits; left out: 0. */
static bool get_hex(struct json_object *object, const char *key, uint64_t *ret, struct status *st) {
    struct json_object *v = member(object, key);
    *ret = 0;
    return v == NULL || hex_number(v, ret) || wrong(key, "is no number of 16 hexadecimal digits", st);
}

/* Left out: NULL. */
static bool get_object(struct json_object *object, const char *key, struct json_object **ret, struct status *st) {
    *ret = member(object, key);
    return *ret == NULL || json_object_is_type(*ret, json_type_object) || wrong(key, "is no object", st);
}

static bool parse_object(struct slice json, const char *const *places, struct json_document *ret, struct status *st) {
    struct json_document doc = {0};
    if (!json_document_parse(json, &snapshot_json_limits, places, &doc, st)) {
        return false;
    }
    if (!json_object_is_type(doc.root, json_type_object)) {
        json_document_fini(&doc);
        return status_set(st, STATUS_MALFORMED, "it is no JSON object");
    }
    *ret = doc;
    return true;
}

/* Puts where it was in front of what is wrong. */
static bool at_place(const char *place, struct status *st) {
    if (st != NULL) {
        struct status what = *st;
        (void)status_set(st, what.code, "%s: %.200s", place, what.detail);
        st->subject = what.subject;
        st->sys_errno = what.sys_errno;
    }
    return false;
}

/* --- manifest.json --- */

static bool archive_name(struct json_object *v, char out[SNAPSHOT_NAME_MAX]) {
    struct slice name = v != NULL && json_object_is_type(v, json_type_string) ? string_of(v) : slice_of(NULL, 0);
    if (name.len == 0 || name.len >= SNAPSHOT_NAME_MAX || memchr(name.data, '\0', name.len) != NULL) {
        return false;
    }
    memcpy(out, name.data, name.len);
    out[name.len] = '\0';
    return snapshot_name_valid(out);
}

static bool read_base(struct json_object *root, struct snapshot_manifest *m, struct status *st) {
    struct json_object *base = NULL;
    uint64_t depth = 0;
    if (member(root, "base") == NULL) {
        return true;
    }
    if (!get_object(root, "base", &base, st) || !get_number(base, "lsn", INT64_MAX, 0, &m->info.base_lsn, st) ||
        !get_number(root, "depth", SNAPSHOT_CHAIN_LINKS_MAX - 1, 1, &depth, st)) {
        return false;
    }
    m->info.depth = (uint32_t)depth;
    return (archive_name(member(base, "archive"), m->info.base) && hex_bytes(member(base, "sha256sums"), m->base_sum, SHA256_BYTES)) ||
           wrong("base", "does not name an archive and the SHA-256 of its " SNAPSHOT_SUMS, st);
}

static bool read_manifest_library(struct json_object *v, struct manifest_library *ret) {
    struct status ignored;
    if (!json_object_is_type(v, json_type_object)) {
        return false;
    }
    struct json_object *id = member(v, "id");
    struct json_object *archive = member(v, "archive");
    return id != NULL && json_object_is_type(id, json_type_string) && uuid_parse(string_of(id), &ret->id) &&
           (archive == NULL || archive_name(archive, ret->archive)) && get_bool(v, "vectors", false, &ret->vectors, &ignored);
}

static int by_id(const void *a, const void *b) {
    return memcmp(((const struct manifest_library *)a)->id.b, ((const struct manifest_library *)b)->id.b, UUID_BYTES);
}

/* What an incremental archive says of its libraries decides what is loaded, and must be sound. A whole one is what is in it. */
static bool read_manifest_libraries(struct json_object *root, struct snapshot_manifest *m, struct status *st) {
    struct json_object *list = member(root, "libraries");
    bool strict = m->info.base[0] != '\0';
    bool is_list = list != NULL && json_object_is_type(list, json_type_array);
    if (strict && !is_list) {
        return wrong("libraries", "is no array", st);
    }
    size_t count = is_list ? json_object_array_length(list) : 0;
    m->info.libraries = (uint32_t)count;
    m->libraries = (struct manifest_library *)calloc(count + 1, sizeof *m->libraries);
    if (m->libraries == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < count; i++) {
        struct manifest_library library = {0};
        if (read_manifest_library(json_object_array_get_idx(list, i), &library)) {
            m->libraries[m->library_count++] = library;
        } else if (strict) {
            return wrong("libraries", "has one that is none, or in no archive", st);
        }
    }
    qsort(m->libraries, m->library_count, sizeof *m->libraries, by_id);
    for (size_t i = 1; strict && i < m->library_count; i++) {
        if (by_id(&m->libraries[i - 1], &m->libraries[i]) == 0) {
            return wrong("libraries", "has one twice", st);
        }
    }
    return true;
}

static bool read_manifest(struct json_object *root, struct snapshot_manifest *m, struct status *st) {
    struct snapshot_info *info = &m->info;
    struct json_object *kind = member(root, "kind");
    uint64_t format = 0;
    if (kind == NULL || !json_object_is_type(kind, json_type_string) || !slice_is(string_of(kind), SNAPSHOT_KIND)) {
        return wrong("kind", "does not say that this is a snapshot of quire", st);
    }
    if (!get_number(root, "format", INT64_MAX, 0, &format, st)) {
        return false;
    }
    if (format == 0 || format > SNAPSHOT_FORMAT) {
        return status_set(st, STATUS_MALFORMED,
                          "it has format %" PRIu64 ", this program reads up to %d: was it written by a newer one?", format,
                          SNAPSHOT_FORMAT);
    }
    return get_number(root, "lsn", INT64_MAX, 0, &info->lsn, st) && get_time(root, "created_at", 0, &info->created_at, st) &&
           get_number(root, "num_documents", INT64_MAX, 0, &info->documents, st) &&
           get_number(root, "num_chunks", INT64_MAX, 0, &info->chunks, st) && get_hex(root, "log", &info->log_place, st) &&
           read_base(root, m, st) && read_manifest_libraries(root, m, st);
}

bool snapshot_parse_manifest(struct slice json, struct snapshot_manifest *ret, struct status *st) {
    struct json_document doc = {0};
    struct snapshot_manifest manifest = {0};
    bool ok = parse_object(json, NULL, &doc, st) && read_manifest(doc.root, &manifest, st);
    json_document_fini(&doc);
    if (!ok) {
        snapshot_manifest_fini(&manifest);
        return at_place(SNAPSHOT_MANIFEST, st);
    }
    *ret = manifest;
    return true;
}

void snapshot_manifest_fini(struct snapshot_manifest *m) {
    free(m->libraries);
    *m = (struct snapshot_manifest){0};
}

const struct manifest_library *snapshot_manifest_find(const struct snapshot_manifest *m, const struct uuid *id) {
    struct manifest_library wanted = {.id = *id};
    return m->library_count == 0
               ? NULL
               : (const struct manifest_library *)bsearch(&wanted, m->libraries, m->library_count, sizeof wanted, by_id);
}

/* --- library.json --- */

static bool get_word(struct json_object *object, const char *key, bool (*number_of)(struct slice word, uint32_t *ret),
                     uint32_t preset, uint32_t *ret, struct status *st) {
    struct json_object *v = member(object, key);
    *ret = preset;
    return v == NULL || (json_object_is_type(v, json_type_string) && number_of(string_of(v), ret)) ||
           wrong(key, "is an unknown word", st);
}

static bool read_index(struct json_object *root, struct index_settings *ret, struct status *st) {
    struct json_object *config = NULL;
    return get_word(root, "index_type", snapshot_index_type, INDEX_HNSW, &ret->type, st) &&
           get_object(root, "index_config", &config, st) && get_u32(config, "M", HNSW_DEFAULT_M, &ret->m, st) &&
           get_u32(config, "ef_construction", HNSW_DEFAULT_EF_CONSTRUCTION, &ret->ef_construction, st) &&
           get_u32(config, "ef_search", HNSW_DEFAULT_EF_SEARCH, &ret->ef_search, st);
}

static bool read_quantization(struct json_object *root, struct quantization_settings *ret, struct status *st) {
    enum { BITS = 8 };
    struct json_object *q = NULL;
    return get_object(root, "quantization", &q, st) &&
           get_word(q, "strategy", snapshot_quantization_strategy, QUANTIZATION_HYBRID, &ret->strategy, st) &&
           get_u32(q, "bits", BITS, &ret->bits, st) && get_u32(q, "rerank_top_k", 0, &ret->rerank_top_k, st);
}

struct library_texts { /* memory for what does not lie in the tree */
    struct buf name, description, model, language, metadata, other_model;
};

static bool get_uuid(struct json_object *object, const char *key, struct uuid *ret, struct status *st) {
    struct json_object *v = member(object, key);
    return (v != NULL && json_object_is_type(v, json_type_string) && uuid_parse(string_of(v), ret)) || wrong(key, "is no id", st);
}

static bool read_exchange(struct json_object *root, struct library_texts *t, struct library_exchange *e, struct status *st) {
    struct json_object *x = NULL;
    if (member(root, "exchange") == NULL) {
        return true;
    }
    return get_object(root, "exchange", &x, st) &&
           get_word(x, "state", snapshot_exchange_state, EXCHANGE_NONE, &e->state, st) &&
           (e->state != EXCHANGE_NONE || wrong("exchange", "is in no state", st)) && get_time(x, "since", 0, &e->since, st) &&
           get_uuid(x, "task", &e->task, st) && get_text(x, "embedding_model", &t->other_model, &e->model, st) &&
           get_hex(x, "model_fingerprint", &e->fingerprint, st) && get_u32(x, "dimension", 0, &e->dimension, st);
}

static bool read_definition(struct json_object *root, struct library_texts *t, struct library_definition *d, struct status *st) {
    return get_text(root, "name", &t->name, &d->name, st) &&
           get_text(root, "description", &t->description, &d->description, st) &&
           get_text(root, "embedding_model", &t->model, &d->embedding_model, st) &&
           get_text(root, "language", &t->language, &d->language, st) &&
           get_json(root, "custom", json_type_object, &t->metadata, &d->metadata, st) &&
           get_time(root, "created_at", 0, &d->created_at, st) && read_index(root, &d->index, st) &&
           read_quantization(root, &d->quantization, st) &&
           get_word(root, "on_embedding_failure", snapshot_failure_action, ON_FAILURE_PENDING, &d->on_embedding_failure, st) &&
           get_bool(root, "snapshot_vectors", false, &d->snapshot_vectors, st) &&
           get_u32(root, "dimension", 0, &d->dimension, st) && read_exchange(root, t, &d->exchange, st);
}

static bool library_op(struct json_object *root, const struct uuid *id, struct buf *op, struct snapshot_library *ret,
                       struct status *st) {
    struct library_texts texts = {0};
    struct library_definition d = {0};
    struct json_object *own = member(root, "id");
    struct uuid stated;
    if (own == NULL || !json_object_is_type(own, json_type_string) || !uuid_parse(string_of(own), &stated) ||
        !uuid_equal(&stated, id)) {
        return wrong("id", "is not the one of its folder", st);
    }
    bool ok = read_definition(root, &texts, &d, st) && get_hex(root, "model_fingerprint", &ret->model_fingerprint, st) &&
              get_bool(root, "model_pinned", false, &ret->pinned, st);
    if (ok && ret->pinned && (ret->model_fingerprint == 0 || d.dimension == 0 || slice_is(d.embedding_model, SNAPSHOT_NO_MODEL))) {
        ok = wrong("model_pinned", "says of no model that it is known", st);
    }
    if (ok) {
        ret->id = *id;
        ret->dimension = d.dimension;
        ret->brings_vectors = slice_is(d.embedding_model, SNAPSHOT_NO_MODEL);
        ret->created_at = d.created_at;
        ret->other_fingerprint = d.exchange.fingerprint;
        ret->other_dimension = d.exchange.fingerprint != 0 ? d.exchange.dimension : 0;
        buf_reset(op);
        op_encode_library(op, OP_LIBRARY_CREATE, id, &d);
        ok = buf_check(op, st);
    }
    buf_fini(&texts.name);
    buf_fini(&texts.description);
    buf_fini(&texts.model);
    buf_fini(&texts.language);
    buf_fini(&texts.metadata);
    buf_fini(&texts.other_model);
    return ok;
}

bool snapshot_parse_library(struct slice json, const struct uuid *id, const char *entry, struct buf *op,
                            struct snapshot_library *ret, struct status *st) {
    struct json_document doc = {0};
    struct snapshot_library library = {0};
    bool ok = parse_object(json, NULL, &doc, st) && library_op(doc.root, id, op, &library, st);
    json_document_fini(&doc);
    if (!ok) {
        return at_place(entry, st);
    }
    *ret = library;
    return true;
}

/* --- documents --- */

void document_parser_fini(struct document_parser *p) {
    buf_fini(&p->op);
    buf_fini(&p->vectors);
    buf_fini(&p->others);
    buf_fini(&p->scratch);
    buf_fini(&p->id);
    buf_fini(&p->text);
    buf_fini(&p->metadata);
}

static bool get_id(struct json_object *object, struct buf *encoded, struct slice *ret, struct status *st) {
    struct json_object *v = member(object, "id");
    buf_reset(encoded);
    if (v == NULL || !json_object_is_type(v, json_type_string) || !item_id_encode(string_of(v), encoded)) {
        return wrong("id", "is missing, or not what an id can be", st);
    }
    *ret = buf_slice(encoded);
    return buf_check(encoded, st);
}

/* Where the vectors of a document go as its chunks are read: each chunk's, or NaN. */
struct vector_rows_in {
    const char *key;
    struct buf *out;
    uint32_t dimension; /* 0: not known yet */
    uint32_t chunks;    /* read so far */
    uint32_t found;
};

static bool put_missing_rows(const struct vector_rows_in *rows, uint32_t count) {
    for (uint32_t i = 0; i < count && rows->dimension > 0; i++) {
        buf_put_f32le(rows->out, NAN);
        buf_put_zero(rows->out, (rows->dimension - 1) * sizeof(float));
    }
    return buf_ok(rows->out);
}

/* A vector that a model made names its text: when somebody changed the text, the vector is none of it any more. */
static bool still_fits(struct json_object *chunk) {
    char hash[17];
    struct json_object *text = member(chunk, "text");
    struct json_object *of = member(chunk, "embedding_of");
    if (of == NULL || text == NULL) {
        return true;
    }
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, text_hash(string_of(text)));
    return json_object_is_type(of, json_type_string) && slice_is(string_of(of), hash);
}

static bool read_vector(struct document_parser *p, const struct json_document *doc, struct json_object *chunk,
                        struct vector_rows_in *rows, struct status *st) {
    struct json_object *v = still_fits(chunk) ? member(chunk, rows->key) : NULL;
    const float *values = NULL;
    uint32_t length = 0;
    if (v != NULL) {
        if (!json_document_vector(doc, v, &p->scratch, &values, &length, st)) {
            return false;
        }
        if (length == 0 || (rows->dimension != 0 && length != rows->dimension)) {
            return wrong(rows->key, "has not as many numbers as the library's dimension", st);
        }
        rows->dimension = length;
        /* The rows before the first vector are only needed from here on: most documents have none. */
        if (rows->found == 0 && !put_missing_rows(rows, rows->chunks)) {
            return status_no_memory(st);
        }
        buf_put(rows->out, values, length * sizeof *values);
        rows->found++;
    } else if (rows->found > 0 && !put_missing_rows(rows, 1)) {
        return status_no_memory(st);
    }
    rows->chunks++;
    return buf_check(rows->out, st);
}

static bool read_chunk(struct document_parser *p, const struct json_document *doc, struct json_object *v,
                       struct vector_rows_in *rows, struct status *st) {
    struct op_chunk c = {.page_number = -1};
    struct json_object *metadata = NULL;
    if (!json_object_is_type(v, json_type_object)) {
        return wrong("chunks", "holds what is no object", st);
    }
    if (member(v, "text") == NULL && member(v, "text_base64") == NULL) {
        return wrong("text", "of a chunk is missing", st);
    }
    if (!get_id(v, &p->id, &c.id, st) || !get_text(v, "text", &p->text, &c.text, st) ||
        !get_object(v, "metadata", &metadata, st)) {
        return false;
    }
    uint64_t page = 0;
    if (!get_json(metadata, "custom", json_type_object, &p->metadata, &c.metadata, st) ||
        !get_number(metadata, "page_number", INT64_MAX, 0, &page, st)) {
        return false;
    }
    if (member(metadata, "page_number") != NULL) {
        c.page_number = (int64_t)page;
    }
    op_encode_chunk(&p->op, &c);
    return buf_check(&p->op, st) && read_vector(p, doc, v, &rows[0], st) && (rows[1].dimension == 0 || read_vector(p, doc, v, &rows[1], st));
}

static bool read_head(struct document_parser *p, const struct snapshot_library *library, struct json_object *root,
                      uint32_t num_chunks, struct status *st) {
    struct op_document d = {.mode = PUT_CREATE, .num_chunks = num_chunks};
    struct json_object *m = NULL;
    struct buf texts[6] = {0}; /* what does not lie in the tree */
    bool ok = get_id(root, &p->id, &d.id, st) && get_object(root, "metadata", &m, st) &&
              get_text(m, "title", &texts[0], &d.title, st) && get_text(m, "author", &texts[1], &d.author, st) &&
              get_text(m, "document_type", &texts[2], &d.document_type, st) &&
              get_text(m, "source_url", &texts[3], &d.source_url, st) &&
              get_json(m, "tags", json_type_array, &texts[4], &d.tags, st) &&
              get_json(m, "custom", json_type_object, &texts[5], &d.metadata, st) &&
              get_time(m, "created_at", library->created_at, &d.created_at, st);
    if (ok) {
        buf_reset(&p->op);
        op_encode_document(&p->op, &library->id, &d);
        ok = buf_check(&p->op, st);
    }
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        buf_fini(&texts[i]);
    }
    return ok;
}

static bool read_document(struct document_parser *p, const struct snapshot_library *library, const struct json_document *doc,
                          struct vector_rows_in *rows, struct status *st) {
    struct json_object *chunks = member(doc->root, "chunks");
    if (chunks != NULL && !json_object_is_type(chunks, json_type_array)) {
        return wrong("chunks", "is no array", st);
    }
    size_t count = chunks != NULL ? json_object_array_length(chunks) : 0;
    buf_reset(&p->vectors);
    buf_reset(&p->others);
    rows[0] = (struct vector_rows_in){.key = "embedding", .out = &p->vectors, .dimension = library->dimension};
    rows[1] = (struct vector_rows_in){.key = "other_embedding", .out = &p->others, .dimension = library->other_dimension};
    if (count > UINT32_MAX || !read_head(p, library, doc->root, (uint32_t)count, st)) {
        return count <= UINT32_MAX ? false : wrong("chunks", "are too many", st);
    }
    for (size_t i = 0; i < count; i++) {
        if (!read_chunk(p, doc, json_object_array_get_idx(chunks, i), rows, st)) {
            return false;
        }
    }
    return true;
}

bool snapshot_parse_document(struct document_parser *p, const struct snapshot_library *library, struct slice line,
                             struct op *ret_op, const float **ret_vectors, const float **ret_others, struct status *st) {
    static const char *const places[] = {"chunks.[].embedding", "chunks.[].other_embedding", NULL};
    struct json_document doc = {0};
    struct vector_rows_in all[2] = {{0}};
    bool ok = parse_object(line, places, &doc, st) && read_document(p, library, &doc, all, st);
    const struct vector_rows_in rows = all[0];
    json_document_fini(&doc);
    if (!ok) {
        return false;
    }
    const float *values = (const float *)(const void *)p->vectors.data;
    bool brought = library->brings_vectors && rows.found > 0;
    if (brought && rows.found != rows.chunks) {
        return wrong("embedding", "is missing in some chunks, and no model of the library can make it", st);
    }
    op_encode_vectors(&p->op, brought ? values : NULL, brought ? rows.chunks : 0, brought ? rows.dimension : 0);
    if (!buf_check(&p->op, st) || !op_decode(buf_slice(&p->op), NULL, ret_op, st)) {
        return false;
    }
    *ret_vectors = !brought && rows.found > 0 ? values : NULL;
    *ret_others = all[1].found > 0 ? (const float *)(const void *)p->others.data : NULL;
    return true;
}
