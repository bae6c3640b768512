/* libraries.c - the calls on libraries. */
#include "api/json_in.h"
#include "api/library.h"

#include "api/remote.h"
#include "api/tasks.h"
#include "base/hash.h"
#include "store/library_version.h"
#include "text/analyzer.h"

#include <stdio.h>
#include <stdlib.h>

#define RERANK_MAX 10000
#define BITS_LEAST 4
#define BITS_DEFAULT 8
#define EF_CONSTRUCTION_MIN 8
#define EF_CONSTRUCTION_MAX 4096
#define PATCH_ATTEMPTS 16 /* each is lost only to another change of the same library */

/* --- the model --- */

bool library_model_of(const struct exchange *x, const struct reading *rd, struct library_model *ret, struct status *st) {
    struct library_definition d;
    if (!reading_definition(rd, &d, st)) {
        return false;
    }
    *ret = (struct library_model){.by_caller = slice_is(d.embedding_model, MODEL_NONE),
                                  .dimension = rd->view.dimension,
                                  .fingerprint = rd->view.model_fingerprint,
                                  .on_failure = d.on_embedding_failure};
    if (!ret->by_caller) {
        ret->model = embed_find(x->api->host.models, d.embedding_model);
    }
    if (ret->dimension == 0 && ret->model != NULL) {
        ret->dimension = ret->model->remote ? remote_dimension(x, ret->model) : ret->model->dimension;
    }
    return true;
}

bool library_model_read(const struct exchange *x, const struct uuid *library, struct library_model *ret, struct status *st) {
    struct reading rd;
    if (!reading_begin(x->api->host.reader, library, &rd, st)) {
        *ret = (struct library_model){.on_failure = ON_FAILURE_PENDING};
        return st->code == STATUS_NOT_FOUND && request_known(x); /* it was there when the request was done */
    }
    bool good = library_model_of(x, &rd, ret, st);
    reading_end(&rd);
    return good;
}

bool library_embed(struct exchange *x, const struct library_model *m, enum embed_role role, const struct slice *texts,
                   size_t count, float *out, struct status *st) {
    if (m->model != NULL && m->model->remote) {
        return remote_query(x, m, texts, count, out, st);
    }
    if (m->model == NULL || m->model->dimension != m->dimension) {
        return status_set(st, STATUS_NO_EMBEDDING, "the model that this library was made with is not configured here");
    }
    int64_t begun_ns = clock_monotonic_ns();
    if (!m->model->embed(m->model, role, texts, count, out, st)) {
        return false;
    }
    note_embedded(x, count, begun_ns);
    return true;
}

void note_embedded(struct exchange *x, size_t count, int64_t begun_ns) {
    x->response->embedded += count;
    x->response->embedding_ns += clock_monotonic_ns() - begun_ns;
}

/* --- reading a definition --- */

bool index_type_read(struct exchange *x, const struct place *at, struct json_object *v, uint32_t *ret) {
    struct slice text;
    if (!json_in_text(x, at, v, 0, SIZE_MAX, &text)) {
        return false;
    }
    if (slice_is(text, "hnsw")) {
        *ret = INDEX_HNSW;
    } else if (slice_is(text, "flat") || slice_is(text, "brute_force")) {
        *ret = INDEX_FLAT;
    } else {
        problem_add(x, at, "must be \"hnsw\" or \"flat\"");
        return false;
    }
    return true;
}

void index_config_read(struct exchange *x, const struct place *at, struct json_object *v, struct index_settings *settings) {
    static const char *const not_null[] = {"M", "ef_construction", "ef_search", NULL};
    struct json_object *m = NULL, *construction = NULL, *search = NULL;
    const struct member members[] = {{"M", &m}, {"ef_construction", &construction}, {"ef_search", &search}};
    if (v == NULL || !json_in_members(x, at, v, members, sizeof members / sizeof members[0])) {
        return;
    }
    json_in_no_nulls(x, at, v, not_null);
    struct place m_at = place_member(at, "M");
    struct place construction_at = place_member(at, "ef_construction");
    struct place search_at = place_member(at, "ef_search");
    (void)json_in_uint(x, &m_at, m, HNSW_MIN_M, HNSW_MAX_M, &settings->m);
    (void)json_in_uint(x, &construction_at, construction, EF_CONSTRUCTION_MIN, EF_CONSTRUCTION_MAX, &settings->ef_construction);
    (void)json_in_uint(x, &search_at, search, 1, x->api->host.limits->max_ef_search, &settings->ef_search);
}

static void read_quantization(struct exchange *x, const struct place *at, struct json_object *v,
                              struct quantization_settings *q) {
    static const char *const strategies[] = {"none", "scalar", "hybrid", NULL}; /* in the order of the enum */
    static const char *const not_null[] = {"strategy", "bits", "rerank_top_k", NULL};
    struct json_object *strategy = NULL, *bits = NULL, *rerank = NULL;
    const struct member members[] = {{"strategy", &strategy}, {"bits", &bits}, {"rerank_top_k", &rerank}};
    if (v == NULL || !json_in_members(x, at, v, members, sizeof members / sizeof members[0])) {
        return;
    }
    json_in_no_nulls(x, at, v, not_null);
    struct place strategy_at = place_member(at, "strategy");
    struct place bits_at = place_member(at, "bits");
    struct place rerank_at = place_member(at, "rerank_top_k");
    unsigned chosen = QUANTIZATION_HYBRID;
    if (json_in_choice(x, &strategy_at, strategy, strategies, &chosen)) {
        q->strategy = chosen;
    }
    if (json_in_uint(x, &bits_at, bits, BITS_LEAST, BITS_DEFAULT, &q->bits) && q->bits != BITS_LEAST && q->bits != BITS_DEFAULT) {
        problem_add(x, &bits_at, "must be %d or %d", BITS_LEAST, BITS_DEFAULT);
    }
    (void)json_in_uint(x, &rerank_at, rerank, 1, RERANK_MAX, &q->rerank_top_k);
}

void library_model_problem(struct exchange *x, const struct place *at, bool or_none) {
    const struct embed_registry *models = x->api->host.models;
    struct buf known;
    buf_init(&known);
    for (size_t i = 0; i < models->count; i++) {
        buf_printf(&known, "%s%s", i == 0 ? "" : ", ", models->model[i].name);
    }
    problem_add(x, at, "is no configured model; there are: %.*s%s", (int)known.len, known.data != NULL ? (const char *)known.data : "",
                or_none ? ", " MODEL_NONE : "");
    buf_fini(&known);
}

static void read_model(struct exchange *x, struct json_object *v, struct library_definition *d) {
    const struct embed_registry *models = x->api->host.models;
    struct place at = place_member(NULL, "embedding_model");
    if (v == NULL && models->count > 0) {
        d->embedding_model = slice_str(models->model[models->default_model].name);
    } else if (v == NULL) {
        d->embedding_model = slice_str(MODEL_NONE);
    } else if (!json_in_text(x, &at, v, 0, SIZE_MAX, &d->embedding_model)) {
        return;
    }
    if (slice_is(d->embedding_model, MODEL_NONE)) {
        return;
    }
    const struct embedder *model = embed_find(models, d->embedding_model);
    if (model != NULL) {
        d->dimension = model->dimension;
        return;
    }
    library_model_problem(x, &at, true);
}

/* The language of a library's texts, under the name that it is stored by. */
static void read_language(struct exchange *x, struct json_object *v, struct slice *ret) {
    struct place at = place_member(NULL, "language");
    struct slice text;
    *ret = slice_str(LANGUAGE_DEFAULT);
    if (!json_in_text(x, &at, v, 0, SIZE_MAX, &text)) {
        return;
    }
    const char *name = language_canonical(text);
    if (name != NULL) {
        *ret = slice_str(name);
        return;
    }
    struct buf known;
    buf_init(&known);
    for (const char *const *names = language_names(); *names != NULL; names++) {
        buf_printf(&known, "%s%s", known.len == 0 ? "" : ", ", *names);
    }
    problem_add(x, &at, "is none of %.*s", (int)known.len, known.data != NULL ? (const char *)known.data : "");
    buf_fini(&known);
}

static void read_name_and_rest(struct exchange *x, struct json_object *name, struct json_object *description,
                               struct json_object *metadata, struct library_definition *d) {
    const struct limits *l = x->api->host.limits;
    struct place name_at = place_member(NULL, "name");
    struct place description_at = place_member(NULL, "description");
    struct place metadata_at = place_member(NULL, "metadata");
    (void)json_in_name(x, &name_at, name, 1, l->max_name_bytes, &d->name);
    (void)json_in_text(x, &description_at, description, 0, l->max_description_bytes, &d->description);
    (void)json_in_metadata(x, &metadata_at, metadata, NULL, &d->metadata);
}

static bool read_definition(struct exchange *x, struct library_definition *d, struct status *st) {
    static const char *const not_null[] = {
        "index_type", "embedding_model", "quantization", "index_config", "on_embedding_failure", "snapshot_vectors", NULL};
    static const char *const failures[] = {"pending", "reject", NULL}; /* in the order of the enum */
    struct json_object *name = NULL, *description = NULL, *type = NULL, *model = NULL, *language = NULL, *metadata = NULL;
    struct json_object *quantization = NULL, *config = NULL, *failure = NULL, *vectors = NULL;
    const struct member members[] = {{"name", &name},
                                     {"description", &description},
                                     {"index_type", &type},
                                     {"embedding_model", &model},
                                     {"language", &language},
                                     {"metadata", &metadata},
                                     {"quantization", &quantization},
                                     {"index_config", &config},
                                     {"on_embedding_failure", &failure},
                                     {"snapshot_vectors", &vectors}};
    if (!json_in_body(x, st)) {
        return false;
    }
    *d = (struct library_definition){
        .created_at = request_time(x),
        .index = {INDEX_HNSW, HNSW_DEFAULT_M, HNSW_DEFAULT_EF_CONSTRUCTION, HNSW_DEFAULT_EF_SEARCH},
        .quantization = {QUANTIZATION_HYBRID, BITS_DEFAULT, HNSW_DEFAULT_RERANK},
        .on_embedding_failure = ON_FAILURE_PENDING,
    };
    (void)json_in_members(x, NULL, x->document.root, members, sizeof members / sizeof members[0]);
    json_in_no_nulls(x, NULL, x->document.root, not_null);
    (void)json_in_require(x, NULL, "name", name);
    read_name_and_rest(x, name, description, metadata, d);
    struct place type_at = place_member(NULL, "index_type");
    struct place quantization_at = place_member(NULL, "quantization");
    struct place config_at = place_member(NULL, "index_config");
    struct place failure_at = place_member(NULL, "on_embedding_failure");
    struct place vectors_at = place_member(NULL, "snapshot_vectors");
    (void)index_type_read(x, &type_at, type, &d->index.type);
    read_model(x, model, d);
    read_language(x, language, &d->language);
    read_quantization(x, &quantization_at, quantization, &d->quantization);
    index_config_read(x, &config_at, config, &d->index);
    unsigned on_failure = ON_FAILURE_PENDING;
    if (json_in_choice(x, &failure_at, failure, failures, &on_failure)) {
        d->on_embedding_failure = on_failure;
    }
    (void)json_in_bool(x, &vectors_at, vectors, &d->snapshot_vectors);
    return problems_none(x, st);
}

/* --- calls --- */

/* Submits a library's definition. */
static bool submit_definition(struct exchange *x, enum op_type type, const struct uuid *id, const struct library_definition *d,
                              uint64_t version, struct api_op_result *ret, struct status *st) {
    struct buf op;
    buf_init(&op);
    op_encode_library(&op, type, id, d);
    const struct api_submission submission = {.op = buf_slice(&op), .version = version};
    bool good = buf_check(&op, st) && submit_one(x, &submission, ret, st);
    buf_fini(&op);
    return good;
}

static struct library_state state_of(const struct reading *rd) {
    uint64_t definition = library_definition_version(arena_record(rd->arena, rd->view.definition, rd->view.definition_length));
    return (struct library_state){.definition = definition, .content = library_content_version(definition, rd->changed_lsn, &rd->view)};
}

/* Writes the reply of a library that is there, and says which state it shows. */
static bool reply_library(struct exchange *x, const struct uuid *id, struct library_state *ret_state, struct status *st) {
    struct reading rd;
    if (!reading_begin(x->api->host.reader, id, &rd, st)) {
        return false;
    }
    struct json_out j = reply_json(x, 200);
    bool good = library_write(&j, x, &rd, true, st);
    *ret_state = state_of(&rd);
    ret_state->shown = hash64(0, x->response->body.data, x->response->body.len);
    reading_end(&rd);
    return good;
}

/* The state of one that was just created, by an op that was given this LSN. */
static bool state_of_new(const struct exchange *x, const struct uuid *id, const struct library_definition *d, uint64_t lsn, struct library_state *ret, struct status *st) {
    const struct library_view empty = {0};
    struct buf bytes = {0};
    struct op op;
    op_encode_library(&bytes, OP_LIBRARY_CREATE, id, d);
    bool good = buf_check(&bytes, st) && op_decode(buf_slice(&bytes), x->api->host.limits, &op, st);
    if (good) {
        ret->definition = library_definition_version(op_definition_bytes(&op));
        ret->content = library_content_version(ret->definition, lsn, &empty);
        ret->shown = hash64(0, x->response->body.data, x->response->body.len);
    }
    buf_fini(&bytes);
    return good;
}

bool handle_library_create(struct exchange *x, struct status *st) {
    struct library_definition d;
    struct api_op_result result;
    struct uuid id;
    if (!read_definition(x, &d, st)) {
        return false;
    }
    request_uuid(x, &id);
    if (!submit_definition(x, OP_LIBRARY_CREATE, &id, &d, DOCUMENT_VERSION_NONE, &result, st)) {
        return false;
    }
    struct library_state state;
    struct json_out j = reply_json(x, 201);
    library_write_new(&j, x, &id, &d);
    if (!buf_check(&x->response->body, st) || !state_of_new(x, &id, &d, result.lsn, &state, st)) {
        return false;
    }
    reply_lsn(x, result.lsn);
    condition_reply_library(x, &state);
    char text[UUID_TEXT + 1];
    uuid_format(&id, text);
    buf_printf(&x->response->headers, "Location: /v1/libraries/%s\r\n", text);
    return true;
}

bool handle_library_get(struct exchange *x, struct status *st) {
    struct uuid id;
    struct library_state state;
    bool unchanged = false;
    if (!library_param(x, &id, st) || !reply_library(x, &id, &state, st) || !condition_of_library_read(x, &state, &unchanged, st)) {
        return false;
    }
    if (unchanged) {
        reply_empty(x, 304);
    }
    condition_reply_library(x, &state);
    return true;
}

/* Moves those that who calls may see to the front; returns how many they are. */
static size_t seen_only(const struct exchange *x, struct library_view *views, size_t count) {
    size_t seen = 0;
    for (size_t i = 0; i < count; i++) {
        if (access_sees(x, &views[i].id)) {
            views[seen++] = views[i];
        }
    }
    return seen;
}

bool handle_library_list(struct exchange *x, struct status *st) {
    struct uuid after = {{0}};
    if (x->query.cursor.len > 0 && !uuid_parse(x->query.cursor, &after)) {
        problem_add_query(x, slice_str("cursor"), "is none that this call gave");
        return problems_none(x, st);
    }
    struct library_view *views = NULL;
    size_t count = 0;
    if (!store_list_libraries(x->api->host.reader, &views, &count, st)) {
        return false;
    }
    count = seen_only(x, views, count);
    struct json_out j = reply_json(x, 200);
    bool good = true;
    uint32_t written = 0;
    json_begin_array(&j);
    for (size_t i = 0; i < count && good; i++) {
        if (x->query.cursor.len > 0 && memcmp(views[i].id.b, after.b, UUID_BYTES) <= 0) {
            continue;
        }
        if (written == x->query.limit) {
            char last[UUID_TEXT + 1];
            uuid_format(&views[i - 1].id, last);
            buf_printf(&x->response->headers, "Link: </v1/libraries?limit=%u&cursor=%s>; rel=\"next\"\r\n", x->query.limit, last);
            break;
        }
        written++;
        struct reading rd;
        if (reading_begin(x->api->host.reader, &views[i].id, &rd, st)) {
            good = library_write(&j, x, &rd, false, st);
            reading_end(&rd);
        } else {
            good = st->code == STATUS_NOT_FOUND; /* deleted since the list was taken */
        }
    }
    if (good) {
        json_end_array(&j);
    }
    free(views);
    return good;
}

/* Copies what the slices of a definition point to, which is in the arena, so that the reading can end. */
static bool keep_definition(struct exchange *x, struct library_definition *d, struct status *st) {
    struct slice *texts[] = {&d->name, &d->description, &d->embedding_model, &d->language, &d->metadata, &d->exchange.model};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (!pool_copy(&x->pool, *texts[i], texts[i])) {
            return status_no_memory(st);
        }
    }
    return true;
}

bool library_definition_read(struct exchange *x, const struct uuid *id, struct library_definition *ret, struct library_state *ret_state, struct status *st) {
    struct reading rd;
    if (!reading_begin(x->api->host.reader, id, &rd, st)) {
        return false;
    }
    struct library_definition d;
    bool good = reading_definition(&rd, &d, st) && keep_definition(x, &d, st);
    if (good) {
        d.dimension = rd.view.dimension;
        *ret = d;
    }
    if (good && ret_state != NULL) {
        *ret_state = state_of(&rd);
    }
    reading_end(&rd);
    return good;
}

/* null clears what may be absent. */
static void clear_nulls(struct exchange *x, struct library_definition *d) {
    struct json_object *v = NULL;
    if (json_object_object_get_ex(x->document.root, "description", &v) && v == NULL) {
        d->description = (struct slice){NULL, 0};
    }
    if (json_object_object_get_ex(x->document.root, "metadata", &v) && v == NULL) {
        d->metadata = (struct slice){NULL, 0};
    }
}

/* One attempt: what stands there, and on it what the body says. */
static bool patch_library(struct exchange *x, const struct uuid *id, bool *ret_named, struct api_op_result *ret, struct status *st) {
    struct library_definition d;
    struct library_state state;
    static const char *const not_null[] = {"name", "index_config", NULL};
    struct json_object *name = NULL, *description = NULL, *metadata = NULL, *config = NULL;
    const struct member members[] = {
        {"name", &name}, {"description", &description}, {"metadata", &metadata}, {"index_config", &config}};
    if (!library_definition_read(x, id, &d, &state, st)) {
        return false;
    }
    (void)json_in_members(x, NULL, x->document.root, members, sizeof members / sizeof members[0]);
    json_in_no_nulls(x, NULL, x->document.root, not_null);
    clear_nulls(x, &d);
    read_name_and_rest(x, name, description, metadata, &d);
    struct place config_at = place_member(NULL, "index_config");
    index_config_read(x, &config_at, config, &d.index);
    return problems_none(x, st) && condition_of_library_write(x, &state, LIBRARY_DEFINITION, ret_named, st) &&
           submit_definition(x, OP_LIBRARY_UPDATE, id, &d, state.definition, ret, st);
}

bool handle_library_patch(struct exchange *x, struct status *st) {
    struct uuid id;
    struct api_op_result result = {0};
    struct library_state state;
    bool named = false;
    if (!library_param(x, &id, st) || !json_in_body(x, st)) {
        return false;
    }
    /* Another change between reading and writing is not undone: the attempt is made anew on top of it, unless the client wants to know. */
    bool good = false;
    for (unsigned i = 0; i < PATCH_ATTEMPTS && !good; i++) {
        good = patch_library(x, &id, &named, &result, st);
        if (!good && (named || st->code != STATUS_PRECONDITION)) {
            return false;
        }
    }
    if (!good) {
        return status_set_subject(st, STATUS_CONFLICT, SUBJECT_LIBRARY, "others change this library all the time; try again");
    }
    if (!reply_library(x, &id, &state, st)) {
        return false;
    }
    reply_lsn(x, result.lsn);
    condition_reply_library(x, &state);
    return true;
}

/* For a DELETE: what must still be so when it is done. */
static bool delete_version(struct exchange *x, const struct uuid *id, uint64_t *ret, struct status *st) {
    struct reading rd;
    bool named = false;
    if (!reading_begin(x->api->host.reader, id, &rd, st)) {
        return false;
    }
    const struct library_state state = state_of(&rd);
    reading_end(&rd);
    if (!condition_of_library_write(x, &state, LIBRARY_CONTENT, &named, st)) {
        return false;
    }
    *ret = named ? state.content : DOCUMENT_VERSION_NONE;
    return true;
}

bool handle_library_delete(struct exchange *x, struct status *st) {
    struct uuid id;
    uint64_t version = DOCUMENT_VERSION_NONE;
    if (!library_param(x, &id, st) || !delete_version(x, &id, &version, st)) {
        return false;
    }
    struct api_op_result result;
    struct buf op;
    buf_init(&op);
    op_encode_library_delete(&op, &id);
    const struct api_submission submission = {.op = buf_slice(&op), .version = version};
    bool good = buf_check(&op, st) && submit_one(x, &submission, &result, st);
    buf_fini(&op);
    if (good) {
        reply_empty(x, 204);
        reply_lsn(x, result.lsn);
    }
    return good;
}

static bool index_settings_equal(const struct index_settings *a, const struct index_settings *b) {
    return a->type == b->type && a->m == b->m && a->ef_construction == b->ef_construction && a->ef_search == b->ef_search;
}

static bool change_settings(struct exchange *x, const struct uuid *id, const struct library_definition *d, uint64_t version,
                            struct api_op_result *ret, struct status *st) {
    bool keyed = x->keyed;
    x->keyed = false;
    bool good = submit_definition(x, OP_LIBRARY_UPDATE, id, d, version, ret, st);
    x->keyed = keyed;
    if (!good && st->code == STATUS_PRECONDITION) { /* the client has asked for none */
        return status_set_subject(st, STATUS_CONFLICT, SUBJECT_LIBRARY, "the library was changed at this moment; try again");
    }
    return good;
}

bool handle_index_rebuild(struct exchange *x, struct status *st) {
    struct uuid id;
    struct library_definition d;
    struct library_state state;
    struct api_op_result result = {0};
    static const char *const not_null[] = {"index_type", "index_config", NULL};
    struct json_object *type = NULL, *config = NULL;
    const struct member members[] = {{"index_type", &type}, {"index_config", &config}};
    if (request_known(x)) {
        return task_begin(x, TASK_REBUILD, API_REBUILD_INDEX, NULL, 0, st);
    }
    if (!library_param(x, &id, st) || !library_definition_read(x, &id, &d, &state, st)) {
        return false;
    }
    const struct index_settings before = d.index;
    if (x->request->body.len > 0) {
        if (!json_in_body(x, st)) {
            return false;
        }
        (void)json_in_members(x, NULL, x->document.root, members, sizeof members / sizeof members[0]);
        json_in_no_nulls(x, NULL, x->document.root, not_null);
        struct place type_at = place_member(NULL, "index_type");
        struct place config_at = place_member(NULL, "index_config");
        (void)index_type_read(x, &type_at, type, &d.index.type);
        index_config_read(x, &config_at, config, &d.index);
        if (!problems_none(x, st)) {
            return false;
        }
    }
    bool other_settings = !index_settings_equal(&before, &d.index);
    /* One that runs may be what this very key has begun a moment ago; the supervisor can tell. */
    if ((other_settings || !x->keyed) && task_is_running(x, TASK_REBUILD, &id)) {
        return status_set_subject(st, STATUS_CONFLICT, SUBJECT_LIBRARY, "the index of this library is being rebuilt already");
    }
    /* Logged by itself, whether there is a key or not: a retry finds the settings as they shall be, and goes on from there. */
    if (other_settings && !change_settings(x, &id, &d, state.definition, &result, st)) {
        return false;
    }
    return task_begin(x, TASK_REBUILD, API_REBUILD_INDEX, &id, result.lsn, st);
}

bool handle_index_optimize(struct exchange *x, struct status *st) {
    struct uuid id;
    struct library_definition d;
    if (request_known(x)) {
        return task_begin(x, TASK_OPTIMIZE, API_OPTIMIZE_INDEX, NULL, 0, st);
    }
    if (!library_param(x, &id, st) || !library_definition_read(x, &id, &d, NULL, st)) {
        return false;
    }
    return json_in_nothing(x, st) && task_begin(x, TASK_OPTIMIZE, API_OPTIMIZE_INDEX, &id, 0, st);
}
