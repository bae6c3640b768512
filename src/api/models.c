/* models.c - the configured embedding models, and OpenAI's call to use them. */
#include "api/document.h"
#include "api/json_in.h"
#include "api/remote.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>


static void write_model(struct json_out *j, const struct embedder *m) {
    char fingerprint[17];
    (void)snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64, m->fingerprint);
    json_member_uint(j, "dimension", m->dimension);
    json_member_cstring(j, "fingerprint", fingerprint);
    json_member_cstring(j, "where", m->where);
}

bool handle_models(struct exchange *x, struct status *st) {
    (void)st;
    const struct embed_registry *models = x->api->host.models;
    struct json_out j = reply_json(x, 200);
    json_begin_array(&j);
    for (size_t i = 0; i < models->count; i++) {
        const struct embedder *m = &models->model[i];
        json_begin_object(&j);
        json_member_cstring(&j, "name", m->name);
        if (m->remote) {
            remote_write_model(&j, x, m);
        } else {
            write_model(&j, m);
        }
        json_member_bool(&j, "default", i == models->default_model);
        json_end_object(&j);
    }
    json_end_array(&j);
    return true;
}

struct embedding_request {
    const struct embedder *model;
    struct slice *texts;
    size_t count;
    bool base64;
};

static void read_input(struct exchange *x, struct json_object *input, struct embedding_request *r, struct status *st,
                       bool *ret_no_memory) {
    struct place at = place_member(NULL, "input");
    uint64_t most = x->api->host.limits->max_text_bytes;
    bool single = json_object_is_type(input, json_type_string);
    size_t count = 1;
    if (!single && !json_in_array(x, &at, input, 1, LIMIT_EMBEDDING_INPUTS, &count)) {
        return;
    }
    r->texts = (struct slice *)pool_take_array(&x->pool, count, sizeof *r->texts);
    if (r->texts == NULL) {
        *ret_no_memory = !status_no_memory(st);
        return;
    }
    r->count = count;
    if (single) {
        (void)json_in_text(x, &at, input, 1, most, &r->texts[0]);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct place element = place_element(&at, i);
        struct json_object *v = json_object_array_get_idx(input, i);
        if (v == NULL) {
            problem_add(x, &element, "must be a string");
        }
        (void)json_in_text(x, &element, v, 1, most, &r->texts[i]);
    }
}

static bool read_request(struct exchange *x, struct embedding_request *r, struct status *st) {
    static const char *const formats[] = {"float", "base64", NULL};
    struct json_object *input = NULL, *model = NULL, *format = NULL, *user = NULL;
    const struct member members[] = {{"input", &input}, {"model", &model}, {"encoding_format", &format}, {"user", &user}};
    if (!json_in_body(x, st)) {
        return false;
    }
    (void)json_in_members(x, NULL, x->document.root, members, sizeof members / sizeof members[0]);
    struct place model_at = place_member(NULL, "model");
    struct place format_at = place_member(NULL, "encoding_format");
    struct place user_at = place_member(NULL, "user");
    unsigned chosen = 0;
    struct slice name, unused;
    bool no_memory = false;
    if (json_in_require(x, NULL, "input", input)) {
        read_input(x, input, r, st, &no_memory);
    }
    (void)json_in_require(x, NULL, "model", model);
    if (json_in_text(x, &model_at, model, 0, SIZE_MAX, &name)) {
        r->model = embed_find(x->api->host.models, name);
        if (r->model == NULL) {
            problem_add(x, &model_at, "is no configured model; GET /v1/models names them");
        }
    }
    (void)json_in_choice(x, &format_at, format, formats, &chosen);
    (void)json_in_text(x, &user_at, user, 0, SIZE_MAX, &unused); /* taken for the clients that send it */
    r->base64 = chosen == 1;
    return !no_memory && problems_none(x, st);
}

/* Words between white space: the model has no tokens to count, but clients of this shape expect a number. */
static uint64_t count_words(const struct embedding_request *r) {
    uint64_t words = 0;
    for (size_t i = 0; i < r->count; i++) {
        bool inside = false;
        for (size_t at = 0; at < r->texts[i].len; at++) {
            bool space = r->texts[i].data[at] <= ' ';
            words += !space && !inside ? 1 : 0;
            inside = !space;
        }
    }
    return words;
}

static void reply_embeddings(struct exchange *x, const struct embedding_request *r, const float *vectors, uint32_t dimension) {
    struct json_out j = reply_json(x, 200);
    json_begin_object(&j);
    json_member_cstring(&j, "object", "list");
    json_key(&j, "data");
    json_begin_array(&j);
    for (size_t i = 0; i < r->count; i++) {
        json_begin_object(&j);
        json_member_cstring(&j, "object", "embedding");
        json_member_uint(&j, "index", i);
        json_key(&j, "embedding");
        vector_write(&j, vectors + i * dimension, dimension, r->base64);
        json_end_object(&j);
    }
    json_end_array(&j);
    json_member_cstring(&j, "model", r->model->name);
    uint64_t words = count_words(r);
    json_key(&j, "usage");
    json_begin_object(&j);
    json_member_uint(&j, "prompt_tokens", words);
    json_member_uint(&j, "total_tokens", words);
    json_end_object(&j);
    json_end_object(&j);
}

static bool embed_remotely(struct exchange *x, const struct embedding_request *r, struct status *st) {
    const struct library_model model = {.model = r->model};
    struct buf values = {0};
    uint32_t dimension = 0;
    bool good = remote_documents(x, &model, r->texts, r->count, &values, &dimension, st);
    if (good) {
        reply_embeddings(x, r, (const float *)(const void *)values.data, dimension); /* malloc'd, so aligned */
    }
    buf_fini(&values);
    return good;
}

bool handle_embeddings(struct exchange *x, struct status *st) {
    struct embedding_request r = {0};
    if (!read_request(x, &r, st)) {
        return false;
    }
    if (r.model->remote) {
        return embed_remotely(x, &r, st);
    }
    float *vectors = (float *)malloc(r.count * r.model->dimension * sizeof *vectors);
    if (vectors == NULL) {
        return status_no_memory(st);
    }
    int64_t begun_ns = clock_monotonic_ns();
    bool good = r.model->embed(r.model, EMBED_DOCUMENT, r.texts, r.count, vectors, st);
    if (good) {
        note_embedded(x, r.count, begun_ns);
        reply_embeddings(x, &r, vectors, r.model->dimension);
    }
    free(vectors);
    return good;
}
