/*
 * search_read.c - a search from its JSON to a search_request.
 *
 * The searches under their several names take some of the same members, so all are read by the same code, which is given NULL for what a
 * name does not take.
 */
#include "api/search.h"

#include "index/lexical.h"
#include "shm/atomics.h"

#include <inttypes.h>

#define K_DEFAULT 10
#define LAMBDA_DEFAULT 0.5F
#define BM25_K1_MAX 10
#define FUSION_CONSTANT_MAX 10000
#define LSN_DIGITS_MAX 20

struct search_members {
    struct json_object *query, *k, *mode, *embedding, *threshold, *ef, *exact, *offset, *include, *libraries, *filters;
    struct json_object *filter, *group_by, *mmr, *explain, *fusion, *bm25, *prefix;
    struct json_object *min_lsn;
};

static void distribute(struct exchange *x, const struct place *at, struct json_object *object, enum search_shape shape,
                       struct search_members *m) {
    const struct member by_embedding[] = {
        {"embedding", &m->embedding}, {"k", &m->k}, {"distance_threshold", &m->threshold}, {"min_lsn", &m->min_lsn}};
    const struct member filtered[] = {{"query", &m->query},
                                      {"k", &m->k},
                                      {"metadata_filters", &m->filters},
                                      {"distance_threshold", &m->threshold},
                                      {"min_lsn", &m->min_lsn}};
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
                                  {"fusion", &m->fusion},
                                  {"bm25", &m->bm25},
                                  {"prefix", &m->prefix},
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

static void read_numbers(struct exchange *x, const struct place *at, const struct search_members *m, struct search_input *in) {
    const struct limits *l = x->api->host.limits;
    struct place k_at = place_member(at, "k");
    struct place offset_at = place_member(at, "offset");
    struct place ef_at = place_member(at, "ef_search");
    struct place threshold_at = place_member(at, "distance_threshold");
    uint32_t k = K_DEFAULT < l->max_k ? K_DEFAULT : (uint32_t)l->max_k;
    (void)json_in_uint(x, &k_at, m->k, 1, l->max_k, &k);
    (void)json_in_uint(x, &offset_at, m->offset, 0, l->max_k, &in->offset);
    if ((uint64_t)k + in->offset > l->max_k && m->offset != NULL) {
        problem_add(x, &offset_at, "and k together must be at most %" PRIu64, l->max_k);
    }
    in->request.k = k + in->offset;
    (void)json_in_uint(x, &ef_at, m->ef, 1, l->max_ef_search, &in->request.ef);
    double limit = 0;
    if (json_in_number(x, &threshold_at, m->threshold, 0, 2, &limit)) {
        in->request.has_threshold = true;
        in->request.distance_threshold = (float)limit;
    }
}

static void read_switches(struct exchange *x, const struct place *at, const struct search_members *m, struct search_input *in) {
    struct place exact = place_member(at, "exact");
    struct place include = place_member(at, "include_embeddings");
    struct place explain = place_member(at, "explain");
    struct place prefix = place_member(at, "prefix");
    struct place group_by = place_member(at, "group_by");
    static const char *const groups[] = {"document", NULL};
    unsigned group = 0;
    (void)json_in_bool(x, &exact, m->exact, &in->request.exact);
    (void)json_in_bool(x, &include, m->include, &in->include_embeddings);
    (void)json_in_bool(x, &explain, m->explain, &in->request.explain);
    (void)json_in_bool(x, &prefix, m->prefix, &in->request.prefix);
    in->request.group_by_document = json_in_choice(x, &group_by, m->group_by, groups, &group);
}

static void read_fusion(struct exchange *x, const struct place *at, struct json_object *v, struct fusion *ret) {
    static const char *const not_null[] = {"method", "constant", "weight", NULL};
    static const char *const methods[] = {"rrf", "weighted", NULL}; /* as the enum, from 1 */
    struct json_object *method = NULL, *constant = NULL, *weight = NULL;
    const struct member members[] = {{"method", &method}, {"constant", &constant}, {"weight", &weight}};
    if (v == NULL || !json_in_members(x, at, v, members, sizeof members / sizeof members[0])) {
        return;
    }
    json_in_no_nulls(x, at, v, not_null);
    struct place method_at = place_member(at, "method");
    struct place constant_at = place_member(at, "constant");
    struct place weight_at = place_member(at, "weight");
    unsigned which = 0;
    double share = 0;
    if (json_in_choice(x, &method_at, method, methods, &which)) {
        ret->method = (enum fusion_method)(which + FUSION_RECIPROCAL_RANK);
    } else if (method == NULL && (constant == NULL) != (weight == NULL)) {
        ret->method = weight != NULL ? FUSION_WEIGHTED : FUSION_RECIPROCAL_RANK; /* the one that it belongs to */
    }
    if (json_in_uint(x, &constant_at, constant, 1, FUSION_CONSTANT_MAX, &ret->constant) && ret->method == FUSION_WEIGHTED) {
        problem_add(x, &constant_at, "belongs to the method \"rrf\"");
    }
    if (json_in_number(x, &weight_at, weight, 0, 1, &share)) {
        ret->weight = (float)share;
        if (ret->method != FUSION_WEIGHTED) {
            problem_add(x, &weight_at, "belongs to the method \"weighted\"");
        }
    }
}

static void read_bm25(struct exchange *x, const struct place *at, struct json_object *v, struct search_request *ret) {
    static const char *const not_null[] = {"k1", "b", NULL};
    struct json_object *k1 = NULL, *b = NULL;
    const struct member members[] = {{"k1", &k1}, {"b", &b}};
    double number = 0;
    if (v == NULL || !json_in_members(x, at, v, members, sizeof members / sizeof members[0])) {
        return;
    }
    json_in_no_nulls(x, at, v, not_null);
    struct place k1_at = place_member(at, "k1");
    struct place b_at = place_member(at, "b");
    if (json_in_number(x, &k1_at, k1, 0, BM25_K1_MAX, &number)) {
        ret->k1 = (float)number;
    }
    if (json_in_number(x, &b_at, b, 0, 1, &number)) {
        ret->b = (float)number;
    }
}

static void read_mmr(struct exchange *x, const struct place *at, struct json_object *v, struct search_request *ret) {
    static const char *const not_null[] = {"lambda", NULL};
    struct json_object *lambda = NULL;
    const struct member members[] = {{"lambda", &lambda}};
    double number = 0;
    if (v == NULL || !json_in_members(x, at, v, members, sizeof members / sizeof members[0])) {
        return;
    }
    json_in_no_nulls(x, at, v, not_null);
    struct place lambda_at = place_member(at, "lambda");
    ret->diverse = true;
    ret->lambda = json_in_number(x, &lambda_at, lambda, 0, 1, &number) ? (float)number : LAMBDA_DEFAULT;
}

/* The mode, by name or by what was sent; and whether what was sent is what it needs. */
static void read_mode(struct exchange *x, const struct place *at, const struct search_members *m, struct search_input *in) {
    static const char *const modes[] = {"dense", "lexical", "hybrid", NULL}; /* as the enum, from 1 */
    struct place mode_at = place_member(at, "mode");
    struct place query_at = place_member(at, "query");
    unsigned which = 0;
    bool text = m->query != NULL, vector = m->embedding != NULL;
    in->request.mode = text ? SEARCH_MODE_FOR_TEXT : SEARCH_MODE_FOR_VECTOR;
    if (json_in_choice(x, &mode_at, m->mode, modes, &which)) {
        in->request.mode = (enum search_mode)(which + SEARCH_DENSE);
    }
    if (!text && !vector) {
        problem_add(x, &query_at, "is required (or \"embedding\")");
    } else if (!text && in->request.mode != SEARCH_DENSE) {
        problem_add(x, &query_at,
                    "is required for this mode, which looks for words; an embedding alone is searched for in the mode \"dense\"");
    } else if (text && vector && in->request.mode == SEARCH_DENSE) {
        problem_add(x, &query_at, "and \"embedding\" exclude each other in the mode \"dense\"");
    }
}

/* A Quire-LSN: as a string, as the header has it, or as a number. Of several searches at once the highest counts. */
static void read_min_lsn(struct exchange *x, const struct place *at, struct json_object *v) {
    struct place lsn_at = place_member(at, "min_lsn");
    bool text = json_object_is_type(v, json_type_string);
    uint64_t lsn = 0;
    if (v == NULL) {
        return;
    }
    bool good = text || (json_object_is_type(v, json_type_int) && json_object_get_int64(v) >= 0);
    if (text) {
        const char *digits = json_object_get_string(v);
        size_t len = (size_t)json_object_get_string_len(v);
        good = len > 0 && len <= LSN_DIGITS_MAX;
        for (size_t i = 0; good && i < len; i++) {
            uint64_t digit = (uint64_t)(digits[i] - '0');
            good = digits[i] >= '0' && digits[i] <= '9' && lsn <= (UINT64_MAX - digit) / 10;
            lsn = good ? lsn * 10 + digit : 0;
        }
    } else if (good) {
        lsn = json_object_get_uint64(v);
    }
    if (!good) {
        problem_add(x, &lsn_at, "must be an LSN: the digits of a Quire-LSN header, or a number");
    } else if (lsn > x->min_lsn) {
        x->min_lsn = lsn;
    }
}

/* Who waits keeps a worker, so only some may: what never comes must not stop the searches that need not wait. */
bool search_await(struct exchange *x, struct status *st) {
    const struct api_host *host = &x->api->host;
    struct control *control = host->control;
    int64_t now_us = clock_monotonic_us();
    if (x->min_lsn == 0 || control_await_lsn(control, x->min_lsn, now_us)) {
        return true;
    }
    if (!places_take(&control->awaiting, host->slot)) {
        return status_set(st, STATUS_BUSY, "LSN %" PRIu64 " is not there yet, and as many searches as may wait for theirs already", x->min_lsn);
    }
    bool there = control_await_lsn(control, x->min_lsn, now_us + (int64_t)host->min_lsn_wait_ms * 1000);
    places_leave(&control->awaiting, host->slot);
    if (there) {
        return true;
    }
    return status_set(st, STATUS_NOT_READY, "LSN %" PRIu64 " is not there within %u ms; the newest that is visible is %" PRIu64,
                      x->min_lsn, host->min_lsn_wait_ms, load_relaxed_u64(&control->published_lsn));
}

bool search_read(struct exchange *x, const struct place *at, struct json_object *object, enum search_shape shape,
                 struct search_input *in, struct json_object **ret_libraries, struct status *st) {
    static const char *const not_null[] = {
        "k", "mode", "exact", "offset", "include_embeddings", "explain", "prefix", "metadata_filters", NULL};
    struct search_members m = {0};
    *in = (struct search_input){.request = {.k1 = LEXICAL_DEFAULT_K1,
                                            .b = LEXICAL_DEFAULT_B,
                                            .fusion = {SEARCH_FUSION_DEFAULT, FUSION_DEFAULT_CONSTANT, SEARCH_FUSION_BY_MODEL}}};
    distribute(x, at, object, shape, &m);
    json_in_no_nulls(x, at, object, not_null);
    struct place query_at = place_member(at, "query");
    struct place embedding_at = place_member(at, "embedding");
    struct place filter_at = place_member(at, "filter");
    struct place filters_at = place_member(at, "metadata_filters");
    struct place fusion_at = place_member(at, "fusion");
    struct place bm25_at = place_member(at, "bm25");
    struct place mmr_at = place_member(at, "mmr");
    read_min_lsn(x, at, m.min_lsn);
    (void)json_in_text(x, &query_at, m.query, 1, x->api->host.limits->max_query_bytes, &in->request.text);
    read_numbers(x, at, &m, in);
    read_switches(x, at, &m, in);
    read_fusion(x, &fusion_at, m.fusion, &in->request.fusion);
    read_bm25(x, &bm25_at, m.bm25, &in->request);
    read_mmr(x, &mmr_at, m.mmr, &in->request);
    if (shape == SEARCH_FULL || shape == SEARCH_LIBRARIES) {
        read_mode(x, at, &m, in);
    } else {
        in->request.mode = shape == SEARCH_FILTERED ? SEARCH_MODE_FOR_TEXT : SEARCH_MODE_FOR_VECTOR;
    }
    *ret_libraries = m.libraries;
    if (m.embedding != NULL && json_in_vector(x, &embedding_at, m.embedding, &in->dimension, &in->vector, st) == VECTOR_REFUSED) {
        return false;
    }
    return shape == SEARCH_FILTERED ? filter_read_list(x, &filters_at, m.filters, &in->request.filter, st)
                                    : filter_read(x, &filter_at, m.filter, &in->request.filter, st);
}
