/*
 * reembed.c - the calls by which a library gets another model, and the one before back (store/exchange.h).
 *
 * Each is a step of the library's exchange, submitted as a write: whether the library is in the state for it is decided where all writes are. The id of the task is
 * drawn here and stands in the write, so that a task is found under it also after a restart of the server.
 */
#include "api/json_in.h"
#include "api/library.h"
#include "api/tasks.h"

/* The definition as it is, with its exchange in that state, as a write. */
static bool submit_step(struct exchange *x, const struct uuid *id, const struct library_definition *d, uint64_t *ret_lsn, struct status *st) {
    struct api_op_result result;
    struct buf op;
    buf_init(&op);
    op_encode_library_model(&op, id, d, false);
    const struct api_submission submission = {.op = buf_slice(&op)};
    bool good = buf_check(&op, st) && submit_one(x, &submission, &result, st);
    buf_fini(&op);
    if (good) {
        *ret_lsn = result.lsn;
    }
    return good;
}

/* A step that begins the definition's task. */
static bool begin(struct exchange *x, const struct uuid *id, const struct library_definition *d, struct status *st) {
    uint64_t lsn = 0;
    if (!submit_step(x, id, d, &lsn, st)) {
        return false;
    }
    task_reply(x, TASK_REEMBED, &d->exchange.task);
    reply_lsn(x, lsn);
    return true;
}

/* The model that is asked for; left out: the library's own, anew. */
static bool read_model(struct exchange *x, const struct library_definition *d, struct library_exchange *ret, struct status *st) {
    struct json_object *v = NULL;
    static const char *const not_null[] = {"embedding_model", NULL};
    const struct member members[] = {{"embedding_model", &v}};
    struct place at = place_member(NULL, "embedding_model");
    ret->model = d->embedding_model;
    if (x->request->body.len > 0) {
        if (!json_in_body(x, st)) {
            return false;
        }
        (void)json_in_members(x, NULL, x->document.root, members, sizeof members / sizeof members[0]);
        json_in_no_nulls(x, NULL, x->document.root, not_null);
        (void)json_in_text(x, &at, v, 1, SIZE_MAX, &ret->model);
    }
    const struct embedder *model = slice_is(ret->model, MODEL_NONE) ? NULL : embed_find(x->api->host.models, ret->model);
    if (model == NULL && !request_known(x)) {
        library_model_problem(x, &at, false);
    }
    ret->fingerprint = model != NULL ? model->fingerprint : 0;
    ret->dimension = model != NULL ? model->dimension : 0;
    return problems_none(x, st);
}

bool handle_reembed(struct exchange *x, struct status *st) {
    struct uuid id;
    struct library_definition d;
    struct library_exchange next = {.state = EXCHANGE_BUILDING, .since = request_time(x)};
    if (!library_param(x, &id, st) || !library_definition_read(x, &id, &d, NULL, st) || !read_model(x, &d, &next, st)) {
        return false;
    }
    request_uuid(x, &next.task);
    d.exchange = next;
    return begin(x, &id, &d, st);
}

bool handle_reembed_rollback(struct exchange *x, struct status *st) {
    struct uuid id;
    struct library_definition d;
    if (!library_param(x, &id, st) || !json_in_nothing(x, st) || !library_definition_read(x, &id, &d, NULL, st)) {
        return false;
    }
    d.exchange.state = EXCHANGE_RETURNING;
    request_uuid(x, &d.exchange.task);
    return begin(x, &id, &d, st);
}

bool handle_reembed_drop(struct exchange *x, struct status *st) {
    struct uuid id;
    struct library_definition d;
    if (!library_param(x, &id, st) || !library_definition_read(x, &id, &d, NULL, st)) {
        return false;
    }
    d.exchange = (struct library_exchange){0};
    uint64_t lsn = 0;
    if (!submit_step(x, &id, &d, &lsn, st)) {
        return false;
    }
    reply_empty(x, 204);
    reply_lsn(x, lsn);
    return true;
}
