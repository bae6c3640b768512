/*
 * search.c - the search calls: one request read, one view taken, the hits written straight into the reply.
 *
 * The text of a hit lies in the arena and is valid while the reading lasts, so it is copied once, into the reply's buffer.
 * Several searches in one request (batch) and several libraries in one search are loops around the same search_run.
 */
#include "api/document.h"
#include "api/json_in.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define K_DEFAULT 10
#define SEARCHES_MAX 100  /* searches in one batch */
#define LIBRARIES_MAX 100 /* libraries in one search */

/* Which names a search comes under. */
enum search_shape { SEARCH_FULL, SEARCH_BY_EMBEDDING, SEARCH_FILTERED, SEARCH_LIBRARIES };

struct search_input {
    struct slice query;     /* empty: by vector */
    float *vector;          /* unit length; NULL: by text */
    uint32_t dimension;     /* of vector */
    uint32_t k, offset, ef; /* ef 0: the library's */
    bool exact, include_embeddings, has_threshold;
    float threshold;
};

struct search_members {
    struct json_object *query, *k, *mode, *embedding, *threshold, *ef, *exact, *offset, *include, *libraries, *filters;
    struct json_object *filter, *group_by, *mmr, *explain, *min_lsn; /* of later versions */
};

/* --- reading --- */

static void refuse_later(struct exchange *x, const struct place *at, const struct search_members *m) {
    static const char *const modes[] = {"dense", "hybrid", "lexical", NULL};
    const struct {
        const char *name;
        struct json_object *value;
    } later[] = {
        {"filter", m->filter}, {"group_by", m->group_by}, {"mmr", m->mmr}, {"explain", m->explain}, {"min_lsn", m->min_lsn}};
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        if (later[i].value != NULL) {
            struct place member = place_member(at, later[i].name);
            problem_add(x, &member, "is not there yet: this version answers dense searches only");
        }
    }
    struct place mode_at = place_member(at, "mode");
    unsigned mode = 0;
    if (json_in_choice(x, &mode_at, m->mode, modes, &mode) && mode != 0) {
        problem_add(x, &mode_at, "is not there yet: this version answers dense searches only");
    }
}

static void read_filters(struct exchange *x, const struct place *at, struct json_object *filters) {
    struct place filters_at = place_member(at, "metadata_filters");
    size_t count = 0;
    if (json_in_array(x, &filters_at, filters, 0, SIZE_MAX, &count) && count > 0) {
        problem_add(x, &filters_at, "are not there yet: this version answers dense searches only, so the list must be empty");
    }
}

static void distribute(struct exchange *x, const struct place *at, struct json_object *object, enum search_shape shape,
                       struct search_members *m) {
    const struct member by_embedding[] = {{"embedding", &m->embedding}, {"k", &m->k}, {"distance_threshold", &m->threshold}};
    const struct member filtered[] = {
        {"query", &m->query}, {"k", &m->k}, {"metadata_filters", &m->filters}, {"distance_threshold", &m->threshold}};
    const struct member full[] = {{"query", &m->query},
                                  {"k", &m->k},
                                  {"mode", &m->mode},
                                  {"embedding", &m->embedding},
                                  {"distance_threshold", &m->threshold},
                                  {"ef_search", &m->ef},
                                  {"exact", &m->exact},
                                  {"offset", &m->offset},
                                  {"include_embeddings", &m->include},
                                  {"filter", &m->filter},
                                  {"group_by", &m->group_by},
                                  {"mmr", &m->mmr},
                                  {"explain", &m->explain},
                                  {"min_lsn", &m->min_lsn},
                                  {"libraries", &m->libraries}};
    size_t full_count = sizeof full / sizeof full[0];
    switch (shape) {
    case SEARCH_BY_EMBEDDING:
        (void)json_in_members(x, at, object, by_embedding, sizeof by_embedding / sizeof by_embedding[0]);
        (void)json_in_require(x, at, "embedding", m->embedding);
        break;
    case SEARCH_FILTERED:
        (void)json_in_members(x, at, object, filtered, sizeof filtered / sizeof filtered[0]);
        (void)json_in_require(x, at, "query", m->query);
        break;
    case SEARCH_LIBRARIES:
        (void)json_in_members(x, at, object, full, full_count);
        break;
    case SEARCH_FULL:
        (void)json_in_members(x, at, object, full, full_count - 1);
        break;
    }
}

static const char *const not_null[] = {"k", "mode", "exact", "offset", "include_embeddings", "metadata_filters", NULL};

static void read_numbers(struct exchange *x, const struct place *at, const struct search_members *m, struct search_input *in) {
    const struct limits *l = x->api->host.limits;
    struct place k = place_member(at, "k");
    struct place offset = place_member(at, "offset");
    struct place ef = place_member(at, "ef_search");
    struct place exact = place_member(at, "exact");
    struct place include = place_member(at, "include_embeddings");
    struct place threshold = place_member(at, "distance_threshold");
    (void)json_in_uint(x, &k, m->k, 1, l->max_k, &in->k);
    (void)json_in_uint(x, &offset, m->offset, 0, l->max_k, &in->offset);
    if ((uint64_t)in->k + in->offset > l->max_k && m->offset != NULL) {
        problem_add(x, &offset, "and k together must be at most %" PRIu64, l->max_k);
    }
    (void)json_in_uint(x, &ef, m->ef, 1, l->max_ef_search, &in->ef);
    (void)json_in_bool(x, &exact, m->exact, &in->exact);
    (void)json_in_bool(x, &include, m->include, &in->include_embeddings);
    double limit = 0;
    if (json_in_number(x, &threshold, m->threshold, 0, 2, &limit)) {
        in->has_threshold = true;
        in->threshold = (float)limit;
    }
}

/* False: refused outright. Problems are collected. */
static bool read_search(struct exchange *x, const struct place *at, struct json_object *object, enum search_shape shape,
                        struct search_input *in, struct json_object **ret_libraries, struct status *st) {
    struct search_members m = {0};
    *in = (struct search_input){.k = K_DEFAULT};
    if (in->k > x->api->host.limits->max_k) {
        in->k = (uint32_t)x->api->host.limits->max_k;
    }
    distribute(x, at, object, shape, &m);
    json_in_no_nulls(x, at, object, not_null);
    refuse_later(x, at, &m);
    read_filters(x, at, m.filters);
    read_numbers(x, at, &m, in);
    *ret_libraries = m.libraries;
    struct place query = place_member(at, "query");
    struct place embedding = place_member(at, "embedding");
    (void)json_in_text(x, &query, m.query, 1, x->api->host.limits->max_query_bytes, &in->query);
    if (m.embedding != NULL && json_in_vector(x, &embedding, m.embedding, &in->dimension, &in->vector, st) == VECTOR_REFUSED) {
        return false;
    }
    if ((m.query == NULL) == (m.embedding == NULL) && (shape == SEARCH_FULL || shape == SEARCH_LIBRARIES)) {
        problem_add(x, &query, m.query == NULL ? "is required (or \"embedding\")" : "and \"embedding\" exclude each other");
    }
    return true;
}

/* --- searching --- */

static bool hits_room(struct api *a, size_t count, struct status *st) {
    if (count <= a->hits_room) {
        return true;
    }
    struct search_hit *more = (struct search_hit *)realloc(a->hits, count * sizeof *more);
    if (more == NULL) {
        return status_no_memory(st);
    }
    a->hits = more;
    a->hits_room = count;
    return true;
}

/* The vector to search with: the caller's, or the text's. */
static bool query_vector(struct exchange *x, const struct place *at, const struct library_model *model,
                         const struct search_input *in, const float **ret, struct status *st) {
    if (in->vector != NULL) {
        if (model->dimension != 0 && in->dimension != model->dimension) {
            return status_set(st, STATUS_DIMENSION, "the vector has %" PRIu32 " numbers; this library's have %" PRIu32,
                              in->dimension, model->dimension);
        }
        *ret = in->vector;
        return true;
    }
    if (model->by_caller) {
        struct place query = place_member(at, "query");
        problem_add(x, &query, "cannot be searched for: this library has no embedding model; send \"embedding\"");
        return problems_none(x, st);
    }
    *ret = x->api->query;
    return library_embed(x, model, EMBED_QUERY, &in->query, 1, x->api->query, st);
}

/* One search of one library: hits [offset, count) are the answer. *ret_result points into the api's hits. */
static bool search_run(struct exchange *x, const struct place *at, const struct reading *rd, const struct library_model *model,
                       const struct search_input *in, struct search_result *ret, struct status *st) {
    const float *query = NULL;
    if (!query_vector(x, at, model, in, &query, st) || !hits_room(x->api, (size_t)in->k + in->offset, st)) {
        return false;
    }
    *ret = (struct search_result){.hits = x->api->hits, .exact = true};
    if (rd->view.dimension == 0) {
        return true; /* no vectors yet, so no hits */
    }
    const struct search_request request = {.mode = SEARCH_DENSE,
                                           .query = query,
                                           .k = in->k + in->offset,
                                           .ef = in->ef,
                                           .exact = in->exact,
                                           .has_threshold = in->has_threshold,
                                           .distance_threshold = in->threshold};
    if (!search_library(rd, &request, x->api->scratch, ret, st)) {
        return false;
    }
    x->response->candidates += ret->candidates;
    return true;
}

static bool write_hit(struct exchange *x, struct json_out *j, const struct reading *rd, const struct search_hit *hit,
                      const struct search_input *in, bool with_library, struct status *st) {
    struct stored_chunk chunk;
    struct stored_document d;
    if (!reading_chunk(rd, hit->slot, &chunk, st) || !reading_document(rd, chunk.document, &d, st)) {
        return false;
    }
    struct vector_form form = {in->include_embeddings, x->query.base64};
    const struct chunk_frame frame = {d.created_at, d.fields.id, rd->view.dimension, form};
    json_begin_object(j);
    json_key(j, "chunk");
    chunk_write(j, &chunk.fields, chunk.index, form.include ? reading_vector(rd, hit->slot) : NULL, &frame);
    json_member_double(j, "distance", (double)hit->distance);
    json_member_double(j, "score", 1.0 - (double)hit->distance);
    json_key(j, "document_id");
    item_id_write(j, d.fields.id);
    json_member_string(j, "document_title", d.fields.title);
    if (with_library) {
        json_key(j, "library_id");
        json_uuid(j, &rd->view.id);
    }
    json_end_object(j);
    return true;
}

struct search_summary {
    uint32_t results;
    uint64_t embedded, total; /* chunks */
    bool exact;
    struct slice model;
};

/* The members behind "results", which the caller has written. */
static void write_summary(struct json_out *j, int64_t begun_ns, const struct search_summary *s) {
    json_member_double(j, "query_time_ms", (double)(clock_monotonic_ns() - begun_ns) / 1e6);
    json_member_uint(j, "total_results", s->results);
    json_key(j, "index");
    json_begin_object(j);
    json_member_cstring(j, "mode", "dense");
    json_key(j, "model");
    if (s->model.len > 0) {
        json_string(j, s->model);
    } else {
        json_null(j);
    }
    json_member_double(j, "coverage", s->total == 0 ? 1.0 : (double)s->embedded / (double)s->total);
    json_member_bool(j, "exact", s->exact);
    json_end_object(j);
}

static void add_coverage(const struct reading *rd, struct search_summary *s) {
    uint32_t embedded = 0, total = 0;
    reading_coverage(rd, &embedded, &total);
    s->embedded += embedded;
    s->total += total;
}

static struct slice model_name(const struct library_model *m) {
    return m->by_caller ? slice_str(MODEL_NONE) : (m->model != NULL ? slice_str(m->model->name) : (struct slice){NULL, 0});
}

/* One search of one library as an object. */
static bool search_to_json(struct exchange *x, struct json_out *j, const struct place *at, const struct reading *rd,
                           const struct library_model *model, const struct search_input *in, struct status *st) {
    struct search_result result;
    int64_t begun_ns = clock_monotonic_ns();
    if (!search_run(x, at, rd, model, in, &result, st)) {
        return false;
    }
    struct search_summary summary = {.exact = result.exact, .model = model_name(model)};
    json_begin_object(j);
    json_key(j, "results");
    json_begin_array(j);
    for (uint32_t i = in->offset; i < result.count; i++) {
        if (!write_hit(x, j, rd, &result.hits[i], in, false, st) || !reply_fits(x, j->buf, st)) {
            return false;
        }
        summary.results++;
    }
    json_end_array(j);
    add_coverage(rd, &summary);
    write_summary(j, begun_ns, &summary);
    json_end_object(j);
    return true;
}

static bool search_one(struct exchange *x, enum search_shape shape, struct status *st) {
    struct uuid library;
    struct search_input in;
    struct json_object *none = NULL;
    struct reading rd;
    if (!library_param(x, &library, st) || !json_in_body(x, st) ||
        !read_search(x, NULL, x->document.root, shape, &in, &none, st) || !problems_none(x, st) ||
        !reading_begin(x->api->host.reader, &library, &rd, st)) {
        return false;
    }
    struct library_model model;
    struct json_out j = reply_json(x, 200);
    bool good = library_model_of(x, &rd, &model, st) && search_to_json(x, &j, NULL, &rd, &model, &in, st);
    reading_end(&rd);
    return good;
}

bool handle_search(struct exchange *x, struct status *st) {
    return search_one(x, SEARCH_FULL, st);
}

bool handle_search_embedding(struct exchange *x, struct status *st) {
    return search_one(x, SEARCH_BY_EMBEDDING, st);
}

bool handle_search_filtered(struct exchange *x, struct status *st) {
    return search_one(x, SEARCH_FILTERED, st);
}

/* --- several searches --- */

static bool read_searches(struct exchange *x, struct search_input **ret, size_t *ret_count, struct status *st) {
    struct json_object *searches = NULL;
    const struct member members[] = {{"searches", &searches}};
    size_t count = 0;
    if (!json_in_body(x, st)) {
        return false;
    }
    (void)json_in_members(x, NULL, x->document.root, members, sizeof members / sizeof members[0]);
    struct place list = place_member(NULL, "searches");
    (void)json_in_require(x, NULL, "searches", searches);
    if (!json_in_array(x, &list, searches, 1, SEARCHES_MAX, &count)) {
        return problems_none(x, st);
    }
    struct search_input *inputs = (struct search_input *)pool_take_array(&x->pool, count, sizeof *inputs);
    if (inputs == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < count; i++) {
        struct place at = place_element(&list, i);
        struct json_object *none = NULL;
        if (!read_search(x, &at, json_object_array_get_idx(searches, i), SEARCH_FULL, &inputs[i], &none, st)) {
            return false;
        }
    }
    *ret = inputs;
    *ret_count = count;
    return problems_none(x, st);
}

bool handle_search_batch(struct exchange *x, struct status *st) {
    struct uuid library;
    struct search_input *inputs = NULL;
    size_t count = 0;
    struct reading rd;
    struct library_model model;
    if (!library_param(x, &library, st) || !read_searches(x, &inputs, &count, st) ||
        !reading_begin(x->api->host.reader, &library, &rd, st)) {
        return false;
    }
    struct json_out j = reply_json(x, 200);
    struct place list = place_member(NULL, "searches");
    bool good = library_model_of(x, &rd, &model, st);
    json_begin_object(&j);
    json_key(&j, "results");
    json_begin_array(&j);
    for (size_t i = 0; good && i < count; i++) {
        struct place at = place_element(&list, i);
        good = search_to_json(x, &j, &at, &rd, &model, &inputs[i], st);
    }
    if (good) {
        json_end_array(&j);
        json_end_object(&j);
    }
    reading_end(&rd);
    return good;
}

/* --- several libraries --- */

/* A hit already written as JSON, because its text is valid only while its library is read. */
struct written_hit {
    float distance;
    size_t begin, len; /* in the buffer */
    char id[ITEM_ID_TEXT_MAX + 1];
};

static int compare_written(const void *a, const void *b) {
    const struct written_hit *left = (const struct written_hit *)a;
    const struct written_hit *right = (const struct written_hit *)b;
    if (left->distance != right->distance) {
        return left->distance < right->distance ? -1 : 1;
    }
    return strcmp(left->id, right->id);
}

struct merging {
    struct buf json; /* hits of all libraries, one after the other */
    struct buf hits; /* struct written_hit each */
    struct search_summary summary;
    bool first;
};

static bool collect_library(struct exchange *x, const struct uuid *library, const struct search_input *in, struct merging *m,
                            struct status *st) {
    struct reading rd;
    struct library_model model;
    struct search_result result;
    if (!reading_begin(x->api->host.reader, library, &rd, st)) {
        return false;
    }
    struct search_input all = *in; /* every library's best offset + k, of which the best are taken */
    all.k = in->k + in->offset;
    all.offset = 0;
    bool good = library_model_of(x, &rd, &model, st) && search_run(x, NULL, &rd, &model, &all, &result, st);
    for (uint32_t i = 0; good && i < result.count; i++) {
        struct written_hit hit = {.distance = result.hits[i].distance, .begin = m->json.len};
        struct stored_chunk chunk;
        struct json_out j = json_out_to(&m->json);
        good = reading_chunk(&rd, result.hits[i].slot, &chunk, st) && write_hit(x, &j, &rd, &result.hits[i], in, true, st) &&
               reply_fits(x, &m->json, st);
        if (good) {
            hit.len = m->json.len - hit.begin;
            (void)item_id_text(chunk.fields.id, hit.id);
            buf_put(&m->hits, &hit, sizeof hit);
        }
    }
    if (good) {
        add_coverage(&rd, &m->summary);
        struct slice name = model_name(&model);
        m->summary.exact = m->summary.exact && result.exact;
        m->summary.model = m->first || slice_equal(name, m->summary.model) ? name : (struct slice){NULL, 0};
        m->first = false;
    }
    reading_end(&rd);
    return good;
}

static void reply_merged(struct exchange *x, struct merging *m, const struct search_input *in) {
    size_t count = m->hits.len / sizeof(struct written_hit);
    struct written_hit *hits = (struct written_hit *)(void *)m->hits.data; /* malloc'd, so aligned */
    if (count > 0) {
        qsort(hits, count, sizeof *hits, compare_written);
    }
    struct json_out j = reply_json(x, 200);
    json_begin_object(&j);
    json_key(&j, "results");
    json_begin_array(&j);
    for (size_t i = in->offset; i < count && i < (size_t)in->offset + in->k; i++) {
        json_raw(&j, slice_of(m->json.data + hits[i].begin, hits[i].len));
        m->summary.results++;
    }
    json_end_array(&j);
    write_summary(&j, x->begun_ns, &m->summary);
    json_end_object(&j);
}

bool handle_search_libraries(struct exchange *x, struct status *st) {
    struct search_input in;
    struct json_object *libraries = NULL;
    struct place list = place_member(NULL, "libraries");
    size_t count = 0;
    if (!json_in_body(x, st) || !read_search(x, NULL, x->document.root, SEARCH_LIBRARIES, &in, &libraries, st)) {
        return false;
    }
    (void)json_in_require(x, NULL, "libraries", libraries);
    (void)json_in_array(x, &list, libraries, 1, LIBRARIES_MAX, &count);
    for (size_t i = 0; i < count; i++) {
        struct place at = place_element(&list, i);
        if (!json_object_is_type(json_object_array_get_idx(libraries, i), json_type_string)) {
            problem_add(x, &at, "must be a string");
        }
    }
    if (!problems_none(x, st)) {
        return false;
    }
    struct merging m = {.summary = {.exact = true}, .first = true};
    buf_init(&m.json);
    buf_init(&m.hits);
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        struct json_object *v = json_object_array_get_idx(libraries, i);
        struct uuid id;
        good = uuid_parse(slice_of(json_object_get_string(v), (size_t)json_object_get_string_len(v)), &id) ||
               status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_LIBRARY, "a library's id is a UUID in its canonical form");
        good = good && collect_library(x, &id, &in, &m, st);
    }
    good = good && buf_check(&m.json, st) && buf_check(&m.hits, st);
    if (good) {
        reply_merged(x, &m, &in);
    }
    buf_fini(&m.json);
    buf_fini(&m.hits);
    return good;
}
