/*
 * snapshot_json.c - the JSON of a snapshot, written.
 *
 * A snapshot must load again whatever the records hold: one value that the reader refuses would make the whole archive worthless.
 * JSON strings cannot carry everything that a string of bytes can (the reader takes no NUL and nothing but UTF-8), and metadata
 * comes from workers, unparsed. So what does not fit stands under another name: KEY_base64 for a text, KEY_raw (the JSON as a
 * string) for JSON that is none or would break the line. Quire's own workers never send such a value.
 */
#include <config.h>

#include "durable/snapshot_json.h"

#include "base/json_out.h"
#include "base/json_scan.h"
#include "base/utf8.h"
#include "durable/snapshot_archive.h"

#include <inttypes.h>
#include <stdio.h>

enum { KEY_MAX = 64, INDENT = 2 };

static void put_other_key(struct json_out *j, const char *key, const char *suffix) {
    char name[KEY_MAX];
    (void)snprintf(name, sizeof name, "%s_%s", key, suffix);
    json_key(j, name);
}

static bool fits_string(struct slice text) {
    return text.len == 0 || (memchr(text.data, '\0', text.len) == NULL && utf8_valid(text));
}

static void put_text(struct json_out *j, const char *key, struct slice text) {
    if (fits_string(text)) {
        json_member_string(j, key, text);
        return;
    }
    struct buf encoded = {0};
    base64_encode(text, &encoded);
    put_other_key(j, key, "base64");
    json_string(j, buf_slice(&encoded));
    j->buf->failed = j->buf->failed || !buf_ok(&encoded);
    buf_fini(&encoded);
}

static void put_text_if_any(struct json_out *j, const char *key, struct slice text) {
    if (text.len > 0) {
        put_text(j, key, text);
    }
}

/* JSON that begins with `opening`, and that the reader will take where it stands in a line. */
static bool fits_line(struct slice json, char opening) {
    if (json.data[0] != (uint8_t)opening || memchr(json.data, '\n', json.len) != NULL ||
        memchr(json.data, '\r', json.len) != NULL) {
        return false;
    }
    enum { AROUND = 8 }; /* levels that stand around a metadata object */
    struct json_limits limits = snapshot_json_limits;
    struct json_scan scan = {0};
    struct status ignored;
    limits.max_depth -= AROUND;
    bool ok = json_scan_body(json, &limits, NULL, &scan, &ignored);
    json_scan_fini(&scan);
    return ok;
}

static void put_json_if_any(struct json_out *j, const char *key, struct slice json, char opening) {
    if (json.len == 0) {
        return;
    }
    if (fits_line(json, opening)) {
        json_key(j, key);
        json_raw(j, json);
        return;
    }
    char name[KEY_MAX];
    (void)snprintf(name, sizeof name, "%s_raw", key);
    put_text(j, name, json);
}

static void put_id(struct json_out *j, struct slice encoded) {
    char text[ITEM_ID_TEXT_MAX + 1];
    size_t len = item_id_text(encoded, text);
    json_member_string(j, "id", slice_of(text, len));
}

static void put_vector(struct json_out *j, const char *key, const float *vector, uint32_t dimension) {
    /* Straight into the line: base64 needs no escapes. */
    json_key(j, key);
    struct buf encoded = {0};
    base64_encode(slice_of(vector, dimension * sizeof *vector), &encoded);
    json_string(j, buf_slice(&encoded));
    j->buf->failed = j->buf->failed || !buf_ok(&encoded);
    buf_fini(&encoded);
}

static void put_chunk(struct json_out *j, const struct reading *rd, const struct stored_chunk *c, bool vectors, const struct other_vectors *other) {
    json_begin_object(j);
    put_id(j, c->fields.id);
    put_text(j, "text", c->fields.text);
    if (c->fields.page_number >= 0 || c->fields.metadata.len > 0) {
        json_key(j, "metadata");
        json_begin_object(j);
        if (c->fields.page_number >= 0) {
            json_member_int(j, "page_number", c->fields.page_number);
        }
        put_json_if_any(j, "custom", c->fields.metadata, '{');
        json_end_object(j);
    }
    const float *vector = vectors ? reading_vector(rd, c->slot) : NULL;
    uint64_t text = text_hash(c->fields.text);
    const float *of_other = other != NULL ? other_vectors_find(other, item_id_hash(c->fields.id), text) : NULL;
    if (vector != NULL) {
        put_vector(j, "embedding", vector, rd->view.dimension);
    }
    if (of_other != NULL) {
        put_vector(j, "other_embedding", of_other, other_vectors_dimension(other));
    }
    if (of_other != NULL || (vector != NULL && rd->view.model_fingerprint != 0)) {
        char hash[17];
        (void)snprintf(hash, sizeof hash, "%016" PRIx64, text);
        json_member_cstring(j, "embedding_of", hash);
    }
    json_end_object(j);
}

bool snapshot_put_document(struct buf *out, const struct reading *rd, uint32_t row, bool vectors, const struct other_vectors *other,
                           struct status *st) {
    struct stored_document d;
    if (!reading_document(rd, row, &d, st)) {
        return false;
    }
    struct json_out j = json_out_to(out);
    json_begin_object(&j);
    put_id(&j, d.fields.id);
    json_key(&j, "metadata");
    json_begin_object(&j);
    put_text_if_any(&j, "title", d.fields.title);
    put_text_if_any(&j, "author", d.fields.author);
    json_member_time(&j, "created_at", d.created_at);
    put_text_if_any(&j, "document_type", d.fields.document_type);
    put_text_if_any(&j, "source_url", d.fields.source_url);
    put_json_if_any(&j, "tags", d.fields.tags, '[');
    put_json_if_any(&j, "custom", d.fields.metadata, '{');
    json_end_object(&j);
    json_key(&j, "chunks");
    json_begin_array(&j);
    for (uint32_t i = 0; i < d.num_chunks; i++) {
        struct stored_chunk c;
        if (!reading_chunk_visible(rd, d.first_chunk + i)) {
            continue;
        }
        if (!reading_chunk(rd, d.first_chunk + i, &c, st)) {
            return false;
        }
        put_chunk(&j, rd, &c, vectors, other);
    }
    json_end_array(&j);
    json_end_object(&j);
    buf_put_u8(out, '\n');
    return buf_check(out, st);
}

/* --- library.json --- */

bool snapshot_has_vectors(const struct library_view *view, const struct library_definition *d, bool include_embeddings) {
    return view->dimension != 0 && (slice_is(d->embedding_model, SNAPSHOT_NO_MODEL) || view->model_fingerprint == 0 ||
                                    view->pinned != 0 || d->snapshot_vectors || include_embeddings);
}

/* Small files are for people: one member a line. */
static void put_pretty(struct buf *out, struct slice compact) {
    unsigned depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < compact.len; i++) {
        char c = (char)compact.data[i];
        if (in_string) {
            buf_put_u8(out, (uint8_t)c);
            if (c == '\\' && i + 1 < compact.len) {
                buf_put_u8(out, compact.data[++i]);
            } else if (c == '"') {
                in_string = false;
            }
            continue;
        }
        bool opens = c == '{' || c == '[';
        bool closes = c == '}' || c == ']';
        bool empty = opens && i + 1 < compact.len && (compact.data[i + 1] == '}' || compact.data[i + 1] == ']');
        if (empty) {
            buf_put_u8(out, (uint8_t)c);
            buf_put_u8(out, compact.data[++i]);
            continue;
        }
        in_string = c == '"';
        depth += opens ? 1U : 0U;
        depth -= closes && depth > 0 ? 1U : 0U;
        if (closes) {
            buf_printf(out, "\n%*s", (int)(depth * INDENT), "");
        }
        buf_put_u8(out, (uint8_t)c);
        if (opens || c == ',') {
            buf_printf(out, "\n%*s", (int)(depth * INDENT), "");
        } else if (c == ':') {
            buf_put_u8(out, ' ');
        }
    }
    buf_put_u8(out, '\n');
}

static void put_index(struct json_out *j, const struct index_settings *index) {
    json_member_cstring(j, "index_type", snapshot_index_word(index->type));
    json_key(j, "index_config");
    json_begin_object(j);
    json_member_uint(j, "M", index->m);
    json_member_uint(j, "ef_construction", index->ef_construction);
    json_member_uint(j, "ef_search", index->ef_search);
    json_end_object(j);
}

static void put_quantization(struct json_out *j, const struct quantization_settings *q) {
    json_key(j, "quantization");
    json_begin_object(j);
    json_member_cstring(j, "strategy", snapshot_quantization_word(q->strategy));
    json_member_uint(j, "bits", q->bits);
    json_member_uint(j, "rerank_top_k", q->rerank_top_k);
    json_end_object(j);
}

static void put_hex64(struct json_out *j, const char *key, uint64_t value) {
    char hex[17];
    (void)snprintf(hex, sizeof hex, "%016" PRIx64, value);
    json_member_cstring(j, key, hex);
}

/* Of its model, where one is under way or the model before is kept. */
static void put_exchange(struct json_out *j, const struct library_exchange *e) {
    if (e->state == EXCHANGE_NONE) {
        return;
    }
    json_key(j, "exchange");
    json_begin_object(j);
    json_member_cstring(j, "state", snapshot_exchange_word(e->state));
    json_member_time(j, "since", e->since);
    json_key(j, "task");
    json_uuid(j, &e->task);
    put_text(j, "embedding_model", e->model);
    put_hex64(j, "model_fingerprint", e->fingerprint);
    json_member_uint(j, "dimension", e->dimension);
    json_end_object(j);
}

void snapshot_put_library(struct buf *out, const struct library_view *view, const struct library_definition *d) {
    struct buf compact = {0};
    struct json_out j = json_out_to(&compact);
    json_begin_object(&j);
    json_key(&j, "id");
    json_uuid(&j, &view->id);
    put_text(&j, "name", d->name);
    put_text_if_any(&j, "description", d->description);
    json_member_time(&j, "created_at", d->created_at);
    put_text_if_any(&j, "language", d->language);
    put_text(&j, "embedding_model", d->embedding_model);
    put_hex64(&j, "model_fingerprint", view->model_fingerprint);
    if (view->pinned != 0) {
        json_member_bool(&j, "model_pinned", true);
    }
    /* A dimension that the first vector fixed stays fixed, also when that vector is gone. */
    json_member_uint(&j, "dimension", view->dimension != 0 ? view->dimension : d->dimension);
    put_index(&j, &view->index); /* a rebuild may have changed it since the definition */
    put_quantization(&j, &d->quantization);
    json_member_cstring(&j, "on_embedding_failure", snapshot_failure_word(d->on_embedding_failure));
    json_member_bool(&j, "snapshot_vectors", d->snapshot_vectors);
    json_member_uint(&j, "num_documents", view->live_documents);
    json_member_uint(&j, "num_chunks", view->live_chunks);
    put_json_if_any(&j, "custom", d->metadata, '{');
    put_exchange(&j, &d->exchange);
    json_end_object(&j);
    put_pretty(out, buf_slice(&compact));
    out->failed = out->failed || !buf_ok(&compact);
    buf_fini(&compact);
}

/* --- manifest.json --- */

static void put_summary(struct json_out *j, const struct reading *rd, const struct library_definition *d, const char *where, bool vectors) {
    json_begin_object(j);
    json_key(j, "id");
    json_uuid(j, &rd->view.id);
    put_text(j, "name", d->name);
    json_member_uint(j, "num_documents", rd->view.live_documents);
    json_member_uint(j, "num_chunks", rd->view.live_chunks);
    json_member_bool(j, "vectors", vectors);
    if (where != NULL) {
        json_member_cstring(j, "archive", where);
    }
    json_end_object(j);
}

static void put_hex(struct json_out *j, const char *key, const uint8_t *bytes, size_t len) {
    char hex[2 * SHA256_BYTES + 1] = "";
    for (size_t i = 0; i < len; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    }
    json_member_cstring(j, key, hex);
}

static void put_base(struct json_out *j, const struct snapshot_base *base) {
    json_key(j, "base");
    if (base == NULL) {
        json_null(j);
        return;
    }
    json_begin_object(j);
    json_member_cstring(j, "archive", snapshot_base_info(base)->name);
    put_hex(j, "sha256sums", snapshot_base_sum(base), SHA256_BYTES);
    json_member_uint(j, "lsn", snapshot_base_info(base)->lsn);
    json_end_object(j);
    json_member_uint(j, "depth", snapshot_base_info(base)->depth + 1);
}

static void put_place(struct json_out *j, uint64_t place) {
    char hex[17];
    if (place != 0) {
        (void)snprintf(hex, sizeof hex, "%016" PRIx64, place);
        json_member_cstring(j, "log", hex);
    }
}

bool snapshot_put_manifest(struct buf *out, const struct snapshot_cut *cut, const struct snapshot_plan *plan, const struct snapshot_info *info,
                           struct status *st) {
    struct buf compact = {0};
    struct json_out j = json_out_to(&compact);
    bool ok = true;
    json_begin_object(&j);
    json_member_cstring(&j, "kind", SNAPSHOT_KIND);
    json_member_int(&j, "format", plan->base != NULL ? SNAPSHOT_FORMAT : SNAPSHOT_FORMAT_WHOLE);
    json_member_cstring(&j, "written_by", "quire " PACKAGE_VERSION);
    json_member_time(&j, "created_at", info->created_at);
    json_member_uint(&j, "lsn", info->lsn);
    put_place(&j, cut->log_place);
    put_base(&j, plan->base);
    json_member_uint(&j, "num_documents", info->documents);
    json_member_uint(&j, "num_chunks", info->chunks);
    json_key(&j, "libraries");
    json_begin_array(&j);
    for (size_t i = 0; ok && i < cut->count; i++) {
        struct library_definition d;
        ok = reading_definition(&cut->readings[i], &d, st);
        if (ok) {
            put_summary(&j, &cut->readings[i], &d, plan->where[i], plan->vectors[i]);
        }
    }
    if (ok) {
        json_end_array(&j);
        json_end_object(&j);
        put_pretty(out, buf_slice(&compact));
        ok = buf_check(&compact, st) && buf_check(out, st);
    }
    buf_fini(&compact);
    return ok;
}
