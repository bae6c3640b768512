/* library_json.c - libraries in replies: summaries, the library itself, its statistics. */
#include "api/document.h"
#include "api/library.h"
#include "api/remote.h"

#include "shm/atomics.h"
#include "store/texts.h"

#include <stdio.h>

static const char *strategy_name(uint32_t strategy) {
    switch ((enum quantization_strategy)strategy) {
    case QUANTIZATION_NONE:
        return "none";
    case QUANTIZATION_SCALAR:
        return "scalar";
    case QUANTIZATION_HYBRID:
        break;
    }
    return "hybrid";
}

const char *index_type_name(uint32_t type) {
    return type == INDEX_FLAT ? "flat" : "hnsw";
}

const char *library_embedding_state(const struct library_view *view, uint32_t embedded, uint32_t total) {
    if (embedded >= total) {
        return "complete";
    }
    return view->reembedding != 0 ? "running" : "pending";
}

static const char *exchange_name(uint32_t state) {
    return state == EXCHANGE_BUILDING ? "building" : state == EXCHANGE_RETURNING ? "returning" : "kept";
}

/* While it gets another model, and while it is kept with the one before: which one that is. */
static void write_exchange(struct json_out *j, const struct library_exchange *e) {
    json_key(j, "exchange");
    if (e->state == EXCHANGE_NONE) {
        json_null(j);
        return;
    }
    json_begin_object(j);
    json_member_cstring(j, "state", exchange_name(e->state));
    json_member_string(j, "embedding_model", e->model);
    json_member_time(j, "since", e->since);
    json_key(j, "task_id");
    json_uuid(j, &e->task);
    json_end_object(j);
}

/* Of a provider's model, before the first vector is there. */
static uint32_t known_dimension(const struct exchange *x, const struct library_definition *d) {
    const struct embedder *model = embed_find(x->api->host.models, d->embedding_model);
    return model != NULL && model->remote ? remote_dimension(x, model) : 0;
}

static void write_metadata(struct json_out *j, const struct exchange *x, const struct library_view *view, uint32_t embedded, uint32_t total,
                           const struct library_definition *d) {
    json_begin_object(j);
    json_key(j, "description");
    if (d->description.len > 0) {
        json_string(j, d->description);
    } else {
        json_null(j);
    }
    json_member_time(j, "created_at", d->created_at);
    json_member_cstring(j, "index_type", index_type_name(d->index.type));
    json_key(j, "embedding_dimension");
    uint32_t dimension = view->dimension > 0 ? view->dimension : known_dimension(x, d);
    if (dimension > 0) {
        json_uint(j, dimension);
    } else {
        json_null(j);
    }
    json_member_string(j, "embedding_model", d->embedding_model);
    json_member_cstring(j, "language", texts_language(d->language));
    json_key(j, "quantization");
    json_begin_object(j);
    json_member_cstring(j, "strategy", strategy_name(d->quantization.strategy));
    json_member_uint(j, "bits", d->quantization.bits);
    json_member_uint(j, "rerank_top_k", d->quantization.rerank_top_k);
    json_end_object(j);
    remote_write_embedding(j, x, view, d, embedded, total);
    write_exchange(j, &d->exchange);
    json_key(j, "custom");
    json_raw(j, d->metadata.len > 0 ? d->metadata : slice_str("{}"));
    json_end_object(j);
}

static bool write_first_documents(struct json_out *j, const struct reading *rd, struct status *st) {
    json_key(j, "documents");
    json_begin_array(j);
    uint32_t row = reading_next_document(rd, 0);
    for (unsigned i = 0; i < PAGE_DEFAULT && row != ROW_NONE; i++) {
        struct stored_document document;
        if (!reading_document(rd, row, &document, st)) {
            return false;
        }
        document_write_summary(j, rd, &document);
        row = reading_next_document(rd, row + 1);
    }
    json_end_array(j);
    return true;
}

/* All but the documents and the end. */
static void begin_library(struct json_out *j, const struct exchange *x, const struct library_view *view, uint32_t embedded, uint32_t total,
                          const struct library_definition *d) {
    json_begin_object(j);
    json_key(j, "id");
    json_uuid(j, &view->id);
    json_member_string(j, "name", d->name);
    json_member_uint(j, "num_documents", view->live_documents);
    json_member_uint(j, "num_chunks", view->live_chunks);
    json_key(j, "metadata");
    write_metadata(j, x, view, embedded, total, d);
}

void library_write_new(struct json_out *j, const struct exchange *x, const struct uuid *id, const struct library_definition *d) {
    const struct library_view view = {.id = *id, .dimension = d->dimension};
    begin_library(j, x, &view, 0, 0, d);
    json_key(j, "documents");
    json_begin_array(j);
    json_end_array(j);
    json_end_object(j);
}

bool library_write(struct json_out *j, const struct exchange *x, const struct reading *rd, bool with_documents,
                   struct status *st) {
    struct library_definition d;
    uint32_t embedded = 0, total = 0;
    if (!reading_definition(rd, &d, st)) {
        return false;
    }
    reading_coverage(rd, &embedded, &total);
    begin_library(j, x, &rd->view, embedded, total, &d);
    if (with_documents && !write_first_documents(j, rd, st)) {
        return false;
    }
    json_end_object(j);
    return true;
}

/* --- statistics --- */

struct index_state {
    bool has_graph;
    uint64_t linked;            /* slots below are linked or dead */
    uint64_t live_linked, tail; /* live chunks below and above */
    uint32_t levels;
    struct hnsw_graph graph;
};

static void index_state_of(const struct reading *rd, struct index_state *ret) {
    *ret = (struct index_state){0};
    if (rd->view.graph_generation == 0 || rd->arena->graph_generation == 0) {
        return;
    }
    ret->has_graph = true;
    ret->graph = arena_graph(rd->arena);
    /* pairs with: HNSW_LINKED, HNSW_ENTRY; figures only, so an older value does no harm */
    uint64_t linked = load_acquire_u64(&ret->graph.head->linked);
    uint64_t entry = load_acquire_u64(&ret->graph.head->entry);
    ret->linked = linked < rd->view.chunk_slots ? linked : rd->view.chunk_slots;
    ret->levels = entry == HNSW_NO_ENTRY ? 0 : (uint32_t)(entry >> 32) + 1;
    for (uint32_t slot = (uint32_t)ret->linked; slot < rd->view.chunk_slots; slot++) {
        ret->tail += reading_chunk_visible(rd, slot) ? 1 : 0;
    }
    ret->live_linked = rd->view.live_chunks > ret->tail ? rd->view.live_chunks - ret->tail : 0;
}

static void write_vector_stats(struct json_out *j, const struct reading *rd) {
    uint32_t embedded = 0, total = 0;
    reading_coverage(rd, &embedded, &total);
    const struct library_view *v = &rd->view;
    json_begin_object(j);
    json_member_uint(j, "vectors", embedded);
    json_member_uint(j, "pending", total - embedded);
    json_member_uint(j, "deleted", v->chunk_slots - v->live_chunks);
    json_member_uint(j, "bytes", (uint64_t)v->chunk_slots * v->stride * sizeof(float));
    json_member_uint(j, "record_bytes", v->records_used);
    json_member_uint(j, "text_bytes", v->text_bytes);
    json_end_object(j);
}

/* What words are looked up in, and what filters are evaluated on. */
static void write_text_stats(struct json_out *j, const struct reading *rd) {
    const struct lexical lexical = arena_lexical(rd->arena);
    const struct columns columns = arena_columns(rd->arena);
    struct lexical_statistics statistics;
    lexical_statistics(&lexical, &statistics);
    json_key(j, "lexical");
    json_begin_object(j);
    json_member_uint(j, "terms", statistics.terms);
    json_member_uint(j, "postings", statistics.postings);
    json_member_uint(j, "tokens", rd->view.live_tokens);
    json_member_uint(j, "bytes", statistics.bytes);
    json_end_object(j);
    json_key(j, "columns");
    json_begin_object(j);
    json_member_uint(j, "bytes", columns_used(&columns));
    json_end_object(j);
}

static void write_settings(struct json_out *j, const struct index_settings *s) {
    json_key(j, "index_config");
    json_begin_object(j);
    json_member_uint(j, "M", s->m);
    json_member_uint(j, "ef_construction", s->ef_construction);
    json_member_uint(j, "ef_search", s->ef_search);
    json_end_object(j);
}

bool handle_library_statistics(struct exchange *x, struct status *st) {
    struct uuid id;
    struct reading rd;
    if (!library_param(x, &id, st) || !reading_begin(x->api->host.reader, &id, &rd, st)) {
        return false;
    }
    struct library_definition d;
    bool good = reading_definition(&rd, &d, st);
    if (good) {
        struct index_state index;
        index_state_of(&rd, &index);
        struct json_out j = reply_json(x, 200);
        json_begin_object(&j);
        json_key(&j, "library_id");
        json_uuid(&j, &id);
        json_member_string(&j, "library_name", d.name);
        json_member_uint(&j, "num_documents", rd.view.live_documents);
        json_member_uint(&j, "num_chunks", rd.view.live_chunks);
        json_key(&j, "embedding_dimension");
        if (rd.view.dimension > 0) {
            json_uint(&j, rd.view.dimension);
        } else {
            json_null(&j);
        }
        json_member_cstring(&j, "index_type", index_type_name(rd.view.index.type));
        json_key(&j, "vector_store_stats");
        write_vector_stats(&j, &rd);
        json_key(&j, "index_stats");
        json_begin_object(&j);
        json_member_uint(&j, "linked", index.live_linked);
        json_member_uint(&j, "tail", index.tail);
        json_member_uint(&j, "levels", index.levels);
        json_member_uint(&j, "generation", rd.view.graph_generation);
        write_text_stats(&j, &rd);
        write_settings(&j, &rd.view.index);
        json_end_object(&j);
        json_end_object(&j);
    }
    reading_end(&rd);
    return good;
}

static void write_degrees(struct json_out *j, const struct hnsw_statistics *s) {
    json_member_uint(j, "links", s->links);
    json_member_double(j, "mean_degree", s->mean_degree);
    json_member_uint(j, "max_degree", s->max_degree);
    json_member_uint(j, "isolated", s->isolated);
    json_key(j, "nodes_at_level");
    json_begin_array(j);
    for (uint32_t level = 0; level < s->levels && level <= HNSW_MAX_LEVEL; level++) {
        json_uint(j, s->nodes_at_level[level]);
    }
    json_end_array(j);
}

static uint64_t graph_bytes(const struct reading *rd, const struct index_state *index) {
    return HNSW_HEAD_BYTES + rd->view.chunk_slots * (uint64_t)index->graph.head->block_bytes +
           index->graph.head->upper_used * sizeof(uint32_t);
}

bool handle_index_statistics(struct exchange *x, struct status *st) {
    struct uuid id;
    struct reading rd;
    if (!library_param(x, &id, st) || !reading_begin(x->api->host.reader, &id, &rd, st)) {
        return false;
    }
    struct index_state index;
    index_state_of(&rd, &index);
    struct hnsw_statistics statistics = {0};
    if (index.has_graph) {
        hnsw_statistics(&index.graph, rd.view.chunk_slots, &statistics);
    }
    struct json_out j = reply_json(x, 200);
    json_begin_object(&j);
    json_key(&j, "library_id");
    json_uuid(&j, &id);
    json_member_cstring(&j, "index_type", index_type_name(rd.view.index.type));
    json_member_uint(&j, "generation", rd.view.graph_generation);
    json_member_uint(&j, "linked", index.live_linked);
    json_member_uint(&j, "tail", index.tail);
    json_member_uint(&j, "deleted", rd.view.chunk_slots - rd.view.live_chunks);
    json_member_uint(&j, "levels", index.levels);
    json_member_uint(&j, "bytes", index.has_graph ? graph_bytes(&rd, &index) : 0);
    write_degrees(&j, &statistics);
    write_text_stats(&j, &rd);
    write_settings(&j, &rd.view.index);
    json_end_object(&j);
    reading_end(&rd);
    return true;
}
