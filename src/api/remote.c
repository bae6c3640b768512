/*
 * remote.c - see remote.h.
 *
 * The vectors of a library are of one model for all its life: its fingerprint was fixed by the first of them. An answer of another model is as good as none, for
 * a query as for a text, so nothing is ever measured between two models.
 */
#include "api/remote.h"

#include "api/search.h"
#include "embed/remote.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A query, and what the provider said. */
struct asked_query {
    const struct embedder *model;
    struct slice text;
    float *vector; /* in the pool; NULL: why says why not */
    struct api_embedded answer;
    struct status why;
};

static void read_figures(const struct exchange *x, const struct embedder *model, struct figures_provider *ret) {
    *ret = (struct figures_provider){0};
    if (model->number < FIGURES_PROVIDERS && x->api->host.figures != NULL) {
        figures_provider_read(&x->api->host.figures->provider[model->number], ret);
    }
}

uint32_t remote_dimension(const struct exchange *x, const struct embedder *model) {
    struct figures_provider known;
    read_figures(x, model, &known);
    return known.dimension;
}

/* Whether vectors of this answer can stand beside the library's. */
static bool fits(const struct library_model *m, const struct api_embedded *answer, struct status *st) {
    bool same_model = m->fingerprint == 0 || remote_same_model(m->fingerprint, answer->fingerprint);
    if (!same_model || (m->dimension != 0 && m->dimension != answer->dimension)) {
        return status_set(st, STATUS_NO_EMBEDDING,
                          "the provider of \"%s\" has exchanged its model: it is not the one that this library's vectors are of. Put the old one back, or embed "
                          "the library anew (reembed)",
                          m->model->name);
    }
    return true;
}

/* --- queries --- */

static struct asked_query *find_asked(const struct exchange *x, const struct embedder *model, struct slice text) {
    for (size_t i = 0; i < x->asked_count; i++) {
        if (x->asked[i].model == model && slice_equal(x->asked[i].text, text)) {
            return &x->asked[i];
        }
    }
    return NULL;
}

static bool needs_vector(const struct search_input *in) {
    const struct search_request *r = &in->request;
    return in->vector == NULL && (r->mode != SEARCH_LEXICAL || r->has_threshold || r->explain);
}

/* The model of the library, when a provider makes its vectors; NULL: it does not, or there is no such library. */
static const struct embedder *remote_model_of(const struct exchange *x, const struct uuid *library) {
    struct reading rd;
    struct library_model m = {0};
    struct status ignored;
    if (!reading_begin(x->api->host.reader, library, &rd, &ignored)) {
        return NULL;
    }
    bool good = library_model_of(x, &rd, &m, &ignored);
    reading_end(&rd);
    return good && m.model != NULL && m.model->remote ? m.model : NULL;
}

/* Asks for `count` queries at the end of the list, all of one model. */
static bool ask(struct exchange *x, struct asked_query *queries, size_t count, struct status *st) {
    struct buf values = {0};
    struct api_embedded answer = {0};
    struct status why;
    struct slice *texts = (struct slice *)pool_take_array(&x->pool, count, sizeof *texts);
    if (texts == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < count; i++) {
        texts[i] = queries[i].text;
    }
    int64_t begun_ns = clock_monotonic_ns();
    bool good = x->api->host.embed(x->api->host.ctx, queries[0].model, EMBED_QUERY, texts, count, &values, &answer, &why);
    float *vectors = good ? (float *)pool_take_array(&x->pool, count, answer.dimension * sizeof *vectors) : NULL;
    if (good && vectors != NULL) {
        memcpy(vectors, values.data, values.len);
    } else if (good) {
        (void)status_no_memory(&why);
    }
    for (size_t i = 0; i < count; i++) {
        queries[i].vector = vectors != NULL ? vectors + i * answer.dimension : NULL;
        queries[i].answer = answer;
        queries[i].why = why;
    }
    if (vectors != NULL) {
        note_embedded(x, count, begun_ns);
    }
    buf_fini(&values);
    return true;
}

bool remote_ask_ahead(struct exchange *x, const struct uuid *library, const struct search_input *inputs, size_t count, struct status *st) {
    const struct embedder *model = remote_model_of(x, library);
    if (model == NULL || x->api->host.embed == NULL) {
        return true;
    }
    struct asked_query *all = (struct asked_query *)pool_take_array(&x->pool, x->asked_count + count, sizeof *all);
    if (all == NULL) {
        return status_no_memory(st);
    }
    if (x->asked_count > 0) {
        memcpy(all, x->asked, x->asked_count * sizeof *all);
    }
    x->asked = all;
    size_t first = x->asked_count;
    for (size_t i = 0; i < count; i++) {
        struct slice text = inputs[i].request.text;
        if (needs_vector(&inputs[i]) && find_asked(x, model, text) == NULL) {
            all[x->asked_count++] = (struct asked_query){.model = model, .text = text};
        }
    }
    return x->asked_count == first || ask(x, all + first, x->asked_count - first, st);
}

bool remote_query(struct exchange *x, const struct library_model *m, const struct slice *texts, size_t count, float *out, struct status *st) {
    const struct asked_query *q = count == 1 ? find_asked(x, m->model, texts[0]) : NULL;
    if (q == NULL) {
        return status_set(st, STATUS_NO_EMBEDDING, "the library's model was exchanged at this moment");
    }
    if (q->vector == NULL) {
        x->retry_after_ms = q->answer.retry_after_ms;
        *st = q->why;
        return false;
    }
    if (!fits(m, &q->answer, st)) {
        return false;
    }
    if (m->dimension != 0) { /* else the library has no vectors, and nobody looks at this one */
        memcpy(out, q->vector, m->dimension * sizeof *out);
    }
    return true;
}

/* --- documents --- */

bool remote_documents(struct exchange *x, const struct library_model *m, const struct slice *texts, size_t count, struct buf *values,
                      uint32_t *ret_dimension, struct status *st) {
    struct api_embedded answer = {0};
    if (x->api->host.embed == NULL) {
        return status_set(st, STATUS_NO_EMBEDDING, "providers cannot be asked here");
    }
    int64_t begun_ns = clock_monotonic_ns();
    bool good = x->api->host.embed(x->api->host.ctx, m->model, EMBED_DOCUMENT, texts, count, values, &answer, st);
    x->retry_after_ms = answer.retry_after_ms;
    if (!good || !fits(m, &answer, st)) {
        return false;
    }
    note_embedded(x, count, begun_ns);
    *ret_dimension = answer.dimension;
    return true;
}

/* --- how far it is --- */

/* What a provider has to do with a library that is not complete, or never will be: a word, and a line for people. False: nothing. */
static bool provider_word(const struct figures_provider *known, const struct library_view *view, bool complete, const char **ret_word,
                          const char **ret_error) {
    bool changed = known->dimension != 0 && view->model_fingerprint != 0 && !remote_same_model(known->fingerprint, view->model_fingerprint);
    *ret_word = changed ? "model_changed" : "waiting_for_provider";
    *ret_error = changed ? "the provider has exchanged its model; the library's vectors are of the one before, and new texts get none" : known->error;
    return changed || (!complete && known->state == PROVIDER_AWAY);
}

void remote_write_embedding(struct json_out *j, const struct exchange *x, const struct library_view *view, const struct library_definition *d,
                            uint32_t embedded, uint32_t total) {
    const struct embedder *model = slice_is(d->embedding_model, MODEL_NONE) ? NULL : embed_find(x->api->host.models, d->embedding_model);
    struct figures_provider known = {0};
    const char *word = NULL;
    const char *error = "";
    bool said = false;
    if (model != NULL && model->remote) {
        read_figures(x, model, &known);
        said = provider_word(&known, view, embedded >= total, &word, &error);
    }
    json_key(j, "embedding");
    json_begin_object(j);
    json_member_cstring(j, "state", said ? word : library_embedding_state(view, embedded, total));
    json_member_uint(j, "done", embedded);
    json_member_uint(j, "total", total);
    if (said && error[0] != '\0') {
        json_member_cstring(j, "error", error);
    }
    json_end_object(j);
}

static const char *state_name(uint32_t state) {
    static const char *const names[] = {[PROVIDER_UNKNOWN] = "unknown", [PROVIDER_READY] = "ready", [PROVIDER_AWAY] = "away"};
    return state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

void remote_write_model(struct json_out *j, const struct exchange *x, const struct embedder *model) {
    struct figures_provider known;
    char fingerprint[17];
    read_figures(x, model, &known);
    (void)snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64, known.fingerprint);
    json_member_uint(j, "dimension", known.dimension);
    json_member_cstring(j, "fingerprint", fingerprint);
    json_member_cstring(j, "where", model->where);
    json_member_cstring(j, "state", state_name(known.state));
    if (known.error[0] != '\0') {
        json_member_cstring(j, "error", known.error);
    }
}
