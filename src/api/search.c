/*
 * search.c - the search calls: one request read, one view taken, the hits written straight into the reply.
 *
 * The text of a hit lies in the arena and is valid while the reading lasts, so it is copied once, into the reply's buffer.
 *
 * A text becomes a vector where the search goes by one: always in dense and hybrid searches, in lexical ones only for a threshold or an explanation. A
 * hybrid search that gets no vector (the library's are its caller's, or the model cannot answer now) goes by the words alone, and its
 * reply says so; a dense search is refused then.
 */
#include "api/search.h"
#include "api/document.h"
#include "api/remote.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>


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

/* The vector to search with: the caller's, or the text's, put into `room`. NULL: the search goes without. */
static bool query_vector(struct exchange *x, const struct place *at, const struct library_model *model,
                         const struct search_input *in, float *room, const float **ret, struct status *st) {
    const struct search_request *r = &in->request;
    *ret = NULL;
    if (in->vector != NULL) {
        if (model->dimension != 0 && in->dimension != model->dimension) {
            return status_set(st, STATUS_DIMENSION, "the vector has %" PRIu32 " numbers; this library's have %" PRIu32,
                              in->dimension, model->dimension);
        }
        *ret = in->vector;
        return true;
    }
    if (r->mode == SEARCH_LEXICAL && !r->has_threshold && !r->explain) {
        return true;
    }
    bool needed = r->mode == SEARCH_DENSE || r->has_threshold;
    if (model->by_caller && needed) {
        struct place member = place_member(at, r->mode == SEARCH_DENSE ? "query" : "distance_threshold");
        problem_add(
            x, &member,
            r->mode == SEARCH_DENSE
                ? "cannot be searched for: this library has no embedding model; send \"embedding\", or the mode \"lexical\""
                : "needs a vector to measure from: this library has no embedding model; send \"embedding\"");
        return problems_none(x, st);
    }
    if (model->by_caller) {
        return true;
    }
    if (library_embed(x, model, EMBED_QUERY, &r->text, 1, room, st)) {
        *ret = room;
        return true;
    }
    if (needed || st->code != STATUS_NO_EMBEDDING) {
        return false;
    }
    status_clear(st);
    return true;
}

/* The request of one search. query: room for a vector, which lives as long as the request. */
static bool search_prepare(struct exchange *x, const struct place *at, const struct library_model *model,
                           const struct search_input *in, float *query, struct search_request *ret, struct status *st) {
    *ret = in->request;
    if (ret->fusion.weight < 0) { /* SEARCH_FUSION_BY_MODEL */
        ret->fusion.weight = model->model != NULL ? model->model->dense_weight : FUSION_DEFAULT_WEIGHT;
    }
    return query_vector(x, at, model, in, query, &ret->query, st);
}

/* For the counters. */
static void note_search(struct exchange *x, const struct search_result *result) {
    unsigned mode = (unsigned)result->mode - 1;
    x->response->searches[mode]++;
    x->response->candidates[mode] += result->candidates;
}

/* One search of one library: hits [offset, count) are the answer. ret->hits are the api's. */
static bool search_run(struct exchange *x, const struct reading *rd, const struct library_model *model,
                       const struct search_input *in, struct search_result *ret, struct status *st) {
    struct search_request request;
    if (!search_prepare(x, NULL, model, in, x->api->query, &request, st) || !hits_room(x->api, request.k, st)) {
        return false;
    }
    *ret = (struct search_result){.hits = x->api->hits};
    if (!search_library(rd, &request, x->api->scratch, ret, st)) {
        return false;
    }
    note_search(x, ret);
    return true;
}

/* --- replies --- */

static const char *mode_name(enum search_mode mode) {
    switch (mode) {
    case SEARCH_LEXICAL:
        return "lexical";
    case SEARCH_HYBRID:
        return "hybrid";
    case SEARCH_DENSE:
        break;
    }
    return "dense";
}

static void write_rank(struct json_out *j, uint32_t rank) {
    json_key(j, "rank");
    if (rank == RANK_NONE) {
        json_null(j);
    } else {
        json_uint(j, rank);
    }
}

/* How a hit came to its place: on each side that was asked, and together. */
static void write_explanation(struct json_out *j, const struct search_hit *hit, const struct search_request *r,
                              enum search_mode mode) {
    json_key(j, "explain");
    json_begin_object(j);
    json_key(j, "dense");
    json_begin_object(j);
    write_rank(j, hit->dense_rank);
    json_member_double(j, "distance", (double)hit->distance);
    json_end_object(j);
    json_key(j, "lexical");
    if (mode == SEARCH_DENSE) {
        json_null(j);
    } else {
        json_begin_object(j);
        write_rank(j, hit->lexical_rank);
        json_member_double(j, "score", (double)hit->lexical_score);
        json_end_object(j);
    }
    json_key(j, "fused");
    if (mode == SEARCH_HYBRID) {
        json_begin_object(j);
        json_member_cstring(j, "method", r->fusion.method == FUSION_WEIGHTED ? "weighted" : "rrf");
        json_member_double(j, "score", (double)hit->score);
        json_end_object(j);
    } else {
        json_null(j);
    }
    if (r->diverse) {
        json_member_double(j, "mmr", (double)hit->diversity);
    }
    json_end_object(j);
}

static bool write_hit(struct exchange *x, struct json_out *j, const struct reading *rd, const struct search_hit *hit,
                      const struct search_input *in, enum search_mode mode, bool with_library, struct status *st) {
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
    json_member_double(j, "distance", (double)hit->distance); /* NaN becomes null */
    json_member_double(j, "score", (double)hit->score);
    json_key(j, "document_id");
    item_id_write(j, d.fields.id);
    json_member_string(j, "document_title", d.fields.title);
    if (with_library) {
        json_key(j, "library_id");
        json_uuid(j, &rd->view.id);
    }
    if (in->request.explain) {
        write_explanation(j, hit, &in->request, mode);
    }
    json_end_object(j);
    return true;
}

struct search_summary {
    uint32_t results;
    uint64_t embedded, total; /* chunks */
    bool exact;
    enum search_mode mode;
    struct slice model;
};

/* The members behind "results", which the caller has written. */
static void write_summary(struct json_out *j, int64_t took_ns, const struct search_summary *s) {
    json_member_double(j, "query_time_ms", (double)took_ns / 1e6);
    json_member_uint(j, "total_results", s->results);
    json_key(j, "index");
    json_begin_object(j);
    json_member_cstring(j, "mode", mode_name(s->mode));
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

/* The answer of one search as an object. */
static bool write_result(struct exchange *x, struct json_out *j, const struct reading *rd, const struct library_model *model,
                         const struct search_input *in, const struct search_result *result, int64_t begun_ns, struct status *st) {
    struct search_summary summary = {.exact = result->exact, .mode = result->mode, .model = model_name(model)};
    json_begin_object(j);
    json_key(j, "results");
    json_begin_array(j);
    for (uint32_t i = in->offset; i < result->count; i++) {
        if (!write_hit(x, j, rd, &result->hits[i], in, result->mode, false, st) || !reply_fits(x, j->buf, st)) {
            return false;
        }
        summary.results++;
    }
    json_end_array(j);
    add_coverage(rd, &summary);
    write_summary(j, clock_monotonic_ns() - begun_ns, &summary);
    json_end_object(j);
    return true;
}

static bool search_one(struct exchange *x, enum search_shape shape, struct status *st) {
    struct uuid library;
    struct search_input in;
    struct json_object *none = NULL;
    struct reading rd;
    if (!library_param(x, &library, st) || !json_in_body(x, st) ||
        !search_read(x, NULL, x->document.root, shape, &in, &none, st) || !problems_none(x, st) ||
        !search_await(x, st) || !remote_ask_ahead(x, &library, &in, 1, st) || !reading_begin(x->api->host.reader, &library, &rd, st)) {
        return false;
    }
    struct library_model model;
    struct search_result result;
    struct json_out j = reply_json(x, 200);
    int64_t begun_ns = clock_monotonic_ns();
    bool good = library_model_of(x, &rd, &model, st) && search_run(x, &rd, &model, &in, &result, st) &&
                write_result(x, &j, &rd, &model, &in, &result, begun_ns, st);
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
    if (!json_in_array(x, &list, searches, 1, LIMIT_SEARCHES, &count)) {
        return problems_none(x, st);
    }
    struct search_input *inputs = (struct search_input *)pool_take_array(&x->pool, count, sizeof *inputs);
    if (inputs == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < count; i++) {
        struct place at = place_element(&list, i);
        struct json_object *none = NULL;
        if (!search_read(x, &at, json_object_array_get_idx(searches, i), SEARCH_FULL, &inputs[i], &none, st)) {
            return false;
        }
    }
    *ret = inputs;
    *ret_count = count;
    return problems_none(x, st);
}

/* All searches of a batch at once, so that those that scan can share the pass over the data. *ret in the pool. */
static bool search_all(struct exchange *x, const struct reading *rd, const struct library_model *model,
                       const struct search_input *inputs, size_t count, struct search_result **ret, struct status *st) {
    const struct place list = place_member(NULL, "searches");
    struct search_request *requests = (struct search_request *)pool_take_array(&x->pool, count, sizeof *requests);
    struct search_result *results = (struct search_result *)pool_take_array(&x->pool, count, sizeof *results);
    if (requests == NULL || results == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < count; i++) {
        struct place at = place_element(&list, i);
        float *query = NULL;
        if (inputs[i].vector == NULL && !model->by_caller) {
            query = (float *)pool_take_array(&x->pool, model->dimension > 0 ? model->dimension : 1, sizeof *query);
        }
        results[i].hits = (struct search_hit *)pool_take_array(&x->pool, inputs[i].request.k, sizeof(struct search_hit));
        if (results[i].hits == NULL || (query == NULL && inputs[i].vector == NULL && !model->by_caller)) {
            return status_no_memory(st);
        }
        if (!search_prepare(x, &at, model, &inputs[i], query, &requests[i], st)) {
            return false;
        }
    }
    if (!search_library_batch(rd, requests, count, x->api->scratch, results, st)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        note_search(x, &results[i]);
    }
    *ret = results;
    return true;
}

bool handle_search_batch(struct exchange *x, struct status *st) {
    struct uuid library;
    struct search_input *inputs = NULL;
    struct search_result *results = NULL;
    size_t count = 0;
    struct reading rd;
    struct library_model model;
    if (!library_param(x, &library, st) || !read_searches(x, &inputs, &count, st) || !search_await(x, st) ||
        !remote_ask_ahead(x, &library, inputs, count, st) || !reading_begin(x->api->host.reader, &library, &rd, st)) {
        return false;
    }
    int64_t begun_ns = clock_monotonic_ns();
    struct json_out j = reply_json(x, 200);
    bool good = library_model_of(x, &rd, &model, st) && search_all(x, &rd, &model, inputs, count, &results, st);
    json_begin_object(&j);
    json_key(&j, "results");
    json_begin_array(&j);
    for (size_t i = 0; good && i < count; i++) {
        good = write_result(x, &j, &rd, &model, &inputs[i], &results[i], begun_ns, st);
    }
    if (good) {
        json_end_array(&j);
        json_end_object(&j);
    }
    reading_end(&rd);
    return good;
}

/* --- several libraries --- */

/*
 * Each library gives its best, and the best of these are taken: by distance in dense searches, by score in others. Scores of reciprocal ranks
 * compare between libraries as ranks do; those of BM25 go by how rare a word is in each library. Where some libraries could answer by one side only, their
 * hits count by their reciprocal rank there, as if they had been fused with an empty side; scores that are no such sums (weighted, diverse) then give way
 * to reciprocal ranks, too.
 */

/* A hit already written as JSON, because its text is valid only while its library is read. */
struct written_hit {
    double key;        /* the order: descending by this, then ascending by distance, then by id */
    float distance;    /* INFINITY: none is known */
    uint32_t rank;     /* in its library */
    bool fused;        /* key is a sum of reciprocal ranks */
    size_t begin, len; /* in the buffer */
    char id[ITEM_ID_TEXT_MAX + 1];
};

static int compare_written(const void *a, const void *b) {
    const struct written_hit *left = (const struct written_hit *)a;
    const struct written_hit *right = (const struct written_hit *)b;
    if (left->key != right->key) {
        return left->key > right->key ? -1 : 1;
    }
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
    bool answered; /* a library had hits */
    bool mixed;    /* such libraries' modes differ */
};

static double merging_key(const struct search_hit *hit, const struct search_input *in, enum search_mode mode) {
    if (in->request.diverse) {
        return (double)hit->diversity;
    }
    return mode == SEARCH_DENSE ? -(double)hit->distance : (double)hit->score;
}

static void add_library(struct merging *m, const struct reading *rd, const struct library_model *model,
                        const struct search_result *result) {
    struct slice name = model_name(model);
    add_coverage(rd, &m->summary);
    m->summary.exact = m->summary.exact && result->exact;
    m->summary.model = m->first || slice_equal(name, m->summary.model) ? name : (struct slice){NULL, 0};
    m->first = false;
    if (result->count > 0) { /* the others' modes change no order */
        m->mixed = m->mixed || (m->answered && result->mode != m->summary.mode);
        m->answered = true;
    }
    if (result->count > 0 || !m->answered) {
        m->summary.mode = result->mode;
    }
}

static bool collect_library(struct exchange *x, const struct uuid *library, const struct search_input *in, struct merging *m,
                            struct status *st) {
    struct reading rd;
    struct library_model model;
    struct search_result result;
    if (!remote_ask_ahead(x, library, in, 1, st) || !reading_begin(x->api->host.reader, library, &rd, st)) {
        return false;
    }
    /* every library's best offset + k, of which the best are taken */
    bool good = library_model_of(x, &rd, &model, st) && search_run(x, &rd, &model, in, &result, st);
    for (uint32_t i = 0; good && i < result.count; i++) {
        struct written_hit hit = {.key = merging_key(&result.hits[i], in, result.mode),
                                  .distance = isnan(result.hits[i].distance) ? INFINITY : result.hits[i].distance,
                                  .rank = i + 1,
                                  .fused = result.mode == SEARCH_HYBRID && !in->request.diverse &&
                                           in->request.fusion.method == FUSION_RECIPROCAL_RANK,
                                  .begin = m->json.len};
        struct stored_chunk chunk;
        struct json_out j = json_out_to(&m->json);
        good = reading_chunk(&rd, result.hits[i].slot, &chunk, st) &&
               write_hit(x, &j, &rd, &result.hits[i], in, result.mode, true, st) && reply_fits(x, &m->json, st);
        if (good) {
            hit.len = m->json.len - hit.begin;
            (void)item_id_text(chunk.fields.id, hit.id);
            buf_put(&m->hits, &hit, sizeof hit);
        }
    }
    if (good) {
        add_library(m, &rd, &model, &result);
    }
    reading_end(&rd);
    return good;
}

static void reply_merged(struct exchange *x, struct merging *m, const struct search_input *in) {
    size_t count = m->hits.len / sizeof(struct written_hit);
    struct written_hit *hits = (struct written_hit *)(void *)m->hits.data; /* malloc'd, so aligned */
    for (size_t i = 0; m->mixed && i < count; i++) {
        hits[i].key = hits[i].fused ? hits[i].key : 1.0 / (in->request.fusion.constant + hits[i].rank);
    }
    if (m->mixed) {
        m->summary.mode = SEARCH_HYBRID;
    }
    if (count > 0) {
        qsort(hits, count, sizeof *hits, compare_written);
    }
    struct json_out j = reply_json(x, 200);
    json_begin_object(&j);
    json_key(&j, "results");
    json_begin_array(&j);
    for (size_t i = in->offset; i < count && i < in->request.k; i++) {
        json_raw(&j, slice_of(m->json.data + hits[i].begin, hits[i].len));
        m->summary.results++;
    }
    json_end_array(&j);
    write_summary(&j, clock_monotonic_ns() - x->begun_ns, &m->summary);
    json_end_object(&j);
}

bool handle_search_libraries(struct exchange *x, struct status *st) {
    struct search_input in;
    struct json_object *libraries = NULL;
    struct place list = place_member(NULL, "libraries");
    size_t count = 0;
    if (!json_in_body(x, st) || !search_read(x, NULL, x->document.root, SEARCH_LIBRARIES, &in, &libraries, st)) {
        return false;
    }
    (void)json_in_require(x, NULL, "libraries", libraries);
    (void)json_in_array(x, &list, libraries, 1, LIMIT_SEARCH_LIBRARIES, &count);
    for (size_t i = 0; i < count; i++) {
        struct place at = place_element(&list, i);
        if (!json_object_is_type(json_object_array_get_idx(libraries, i), json_type_string)) {
            problem_add(x, &at, "must be a string");
            continue;
        }
        for (size_t j = 0; j < i; j++) {
            struct json_object *before = json_object_array_get_idx(libraries, j);
            if (json_object_is_type(before, json_type_string) &&
                strcmp(json_object_get_string(before), json_object_get_string(json_object_array_get_idx(libraries, i))) == 0) {
                problem_add(x, &at, "is in the list already");
                break;
            }
        }
    }
    if (!problems_none(x, st) || !search_await(x, st)) {
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
        if (good) {
            access_narrow(x, &id);
            good = collect_library(x, &id, &in, &m, st);
        }
    }
    good = good && buf_check(&m.json, st) && buf_check(&m.hits, st);
    if (good) {
        reply_merged(x, &m, &in);
    }
    buf_fini(&m.json);
    buf_fini(&m.hits);
    return good;
}
