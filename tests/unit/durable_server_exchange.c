/*
 * durable_server_exchange.c - exchanges of a model on the server of durable_server.h, as the supervisor does them.
 *
 * The other model, "twin", makes the same vectors under another name and fingerprint, so the oracle holds on both sides. Whatever fails is said, and what is under way
 * then is gone on with by the next call, as by a supervisor that looks again.
 */
#include "durable_server.h"

#include <stdlib.h>

enum { PATIENCE_US = 1000000, EMBED_BATCH = 16, STEP_DOCUMENTS = 8 };

static bool definition_of(struct library *lib, struct library_definition *ret, struct status *st) {
    struct reading rd;
    library_reading(lib, &rd);
    return reading_definition(&rd, ret, st);
}

bool server_exchange_find(struct server *s, struct library **ret, struct status *st) {
    struct library **all = NULL;
    size_t count = 0;
    uint32_t most = 0;
    *ret = NULL;
    if (!catalog_acquire_all(s->catalog, &all, &count, st)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct reading rd;
        struct library_definition d;
        library_reading(all[i], &rd);
        bool fits = definition_of(all[i], &d, st) && (slice_is(d.embedding_model, "test") || slice_is(d.embedding_model, "twin"));
        if (fits && rd.view.live_chunks > most) {
            catalog_release(s->catalog, *ret);
            most = rd.view.live_chunks;
            *ret = all[i];
        } else {
            catalog_release(s->catalog, all[i]);
        }
    }
    free(all);
    return true;
}

static bool log_op(struct server *s, struct slice bytes, uint64_t *ret_lsn, struct status *st) {
    struct account *a = s->account;
    const struct oplog_record record = {.lsn = a->next_lsn, .time_us = 1763935200000000 + (int64_t)a->next_lsn, .op = bytes};
    a->steps_at_lsn[a->next_lsn] = a->steps;
    if (!oplog_append(s->log, &record, 1, st)) {
        catalog_abandon(s->catalog);
        return false;
    }
    *ret_lsn = a->next_lsn++;
    return true;
}

bool server_exchange_apply(struct server *s, struct slice bytes, struct status *st) {
    struct op op;
    uint64_t lsn = 0;
    if (!op_decode(bytes, NULL, &op, st) || !catalog_check(s->catalog, &op, st) || !catalog_reserve(s->catalog, &op, st) ||
        !log_op(s, bytes, &lsn, st)) {
        return false;
    }
    catalog_apply(s->catalog, &op, lsn, 0, NULL, NULL);
    catalog_publish(s->catalog, lsn, PATIENCE_US, NULL, NULL);
    return true;
}

bool server_exchange_step(struct server *s, struct library *lib, uint32_t state, struct status *st) {
    const struct embedder *other = NULL;
    struct library_definition d;
    struct reading rd;
    struct buf bytes = {0};
    if (!definition_of(lib, &d, st)) {
        return false;
    }
    library_reading(lib, &rd);
    if (state == EXCHANGE_BUILDING) {
        other = embed_find(&s->models, slice_str(slice_is(d.embedding_model, "test") ? "twin" : "test"));
        d.exchange = (struct library_exchange){.since = 5,
                                               .task = {{3}},
                                               .fingerprint = other->fingerprint,
                                               .dimension = other->dimension,
                                               .model = slice_str(other->name)};
    }
    d.exchange.state = state;
    op_encode_library_model(&bytes, &rd.view.id, &d, false);
    bool ok = buf_check(&bytes, st) && server_exchange_apply(s, buf_slice(&bytes), st);
    buf_fini(&bytes);
    return ok;
}

bool server_exchange_background(struct server *s, struct status *st) {
    struct library **all = NULL;
    size_t count = 0;
    bool ok = catalog_acquire_linkable(s->catalog, &all, &count, st);
    for (size_t i = 0; i < count; i++) {
        size_t done = 1;
        while (ok && done > 0) {
            ok = backlog_embed_some(all[i], &s->models, EMBED_BATCH, &done, st);
        }
        catalog_release(s->catalog, all[i]);
    }
    free(all);
    catalog_publish(s->catalog, s->account->next_lsn - 1, PATIENCE_US, NULL, NULL);
    return ok && server_link(s, st);
}

bool server_exchange_begin(struct server *s, struct library *lib, struct model_exchange **ret, struct status *st) {
    if (!exchange_new(s->catalog, lib, true, ret, st)) {
        return false;
    }
    if (!exchange_begin(*ret, st)) {
        exchange_free(*ret);
        *ret = NULL;
        return false;
    }
    return true;
}

bool server_exchange_fill(struct server *s, struct model_exchange *x, struct status *st) {
    struct exchange_progress p = {0};
    bool more = true;
    while (!p.ready || more) {
        if (!exchange_step(x, STEP_DOCUMENTS, &more, st) || !server_exchange_background(s, st)) {
            return false;
        }
        exchange_progress(x, &p);
    }
    return true;
}

bool server_exchange_switch(struct server *s, struct model_exchange *x, struct library **lib, bool *ret_goes_on, struct status *st) {
    struct slice op;
    uint64_t lsn = 0;
    if (!exchange_prepare(x, 9, &op, st) || !log_op(s, op, &lsn, st)) {
        return false;
    }
    *lib = exchange_switch(x, lsn, ret_goes_on);
    catalog_publish(s->catalog, lsn, PATIENCE_US, NULL, NULL);
    return true;
}

void server_exchange_drop(struct model_exchange *x, bool keep_files) {
    if (x != NULL) {
        exchange_end(x, keep_files);
        exchange_free(x);
    }
}

static bool steps_between(struct server *s, struct status *st) {
    bool ok = true;
    for (uint32_t i = 0; ok && i < s->steps_between && s->account->steps < s->steps_most; i++) {
        ok = server_step(s, st);
    }
    return ok;
}

/* One side, to its place; where the one before goes on, that one follows and comes back. */
static bool carry(struct server *s, struct library **lib, struct status *st) {
    struct model_exchange *x = NULL;
    bool goes_on = false;
    bool ok = server_exchange_begin(s, *lib, &x, st) && steps_between(s, st) && server_exchange_fill(s, x, st) &&
              server_exchange_switch(s, x, lib, &goes_on, st) && steps_between(s, st);
    if (ok && goes_on) {
        ok = server_exchange_fill(s, x, st) && server_exchange_step(s, *lib, EXCHANGE_RETURNING, st) && steps_between(s, st) &&
             server_exchange_switch(s, x, lib, &goes_on, st);
    }
    server_exchange_drop(x, !ok);
    return ok;
}

bool server_exchange(struct server *s, struct status *st) {
    struct library *lib = NULL;
    bool ok = server_exchange_find(s, &lib, st);
    while (ok && lib != NULL) {
        uint32_t state = library_exchange_state(lib);
        ok = (state == EXCHANGE_NONE   ? server_exchange_step(s, lib, EXCHANGE_BUILDING, st)
              : state == EXCHANGE_KEPT ? server_exchange_step(s, lib, EXCHANGE_RETURNING, st)
                                       : true) &&
             carry(s, &lib, st);
        if (ok && library_exchange_state(lib) == EXCHANGE_NONE) {
            break;
        }
    }
    catalog_release(s->catalog, lib);
    return ok;
}
