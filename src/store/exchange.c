/*
 * exchange.c - see exchange.h. The side is the target of a mirror (mirror.h).
 *
 * The last chunks are embedded within the switch, on the committer's thread, where the model runs in process: there are LAST_VECTORS at most and what was
 * written since, which is milliseconds, and it means that what was acknowledged and found by its vector is never missed by a search for a moment.
 *
 * Directories: a side's number is above those of all others of the library, so after a switch the arena that serves has the highest, and whoever removes what
 * nobody needs goes by that. One that comes back takes a new number for it.
 */
#include "store/exchange.h"

#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"
#include "base/utf8.h"
#include "store/backlog.h"
#include "store/mirror.h"
#include "store/search.h"

#include <stdlib.h>

enum {
    LAST_VECTORS = 64,
    LAST_ASKED = 16, /* with LAST_SHARE of all: so many may wait for their provider beyond the switch */
    LAST_SHARE = 50, /* and no more than this share of all: the two models are compared before the last ones are embedded */
    EMBED_BATCH = 64,
    OVERLAP_QUERIES = 50,
    OVERLAP_TOP = 10,
    QUERY_BYTES = 200 /* of a chunk's text: about as long as a question gets */
};

struct model_exchange {
    struct mirror m;
    uint32_t state;   /* enum exchange_state that it works for */
    struct uuid task; /* of that: a library may be given another exchange before this one is let go */
    bool begun;
    bool claimed; /* the source's place for rebuilds and compactions */
    uint32_t asked_until; /* slots of the side below have their vectors from the provider, or never will */
    uint32_t asked_mark;  /* those that are waited for; 0: none yet */
    struct op update; /* of the side, decoded from m.bytes: the definition that the switch gives it */
    struct buf op;    /* that is logged */
};

uint32_t library_exchange_state(const struct library *lib) {
    return load_relaxed_u32(&lib->exchange_state);
}

/* --- making a side --- */

static bool find_old(struct model_exchange *x, const struct library_exchange *e, uint32_t serving, struct status *st) {
    struct mirror *m = &x->m;
    const uint32_t except[OTHER_EXCEPT] = {serving, m->target->view.directory};
    uint64_t fingerprint = m->target->model != NULL ? m->target->model->fingerprint : e->fingerprint;
    return other_vectors_open(m->catalog->options.vectors_dir_fd, &m->source->id, except, m->target->view.dimension, fingerprint, &m->old, st);
}

static bool check_state(const struct library_exchange *e, struct status *st) {
    return e->state == EXCHANGE_BUILDING || e->state == EXCHANGE_RETURNING ||
           status_set(st, STATUS_CONFLICT, "the exchange of the library's model was given up");
}

static bool check_model(const struct catalog *c, const struct library_exchange *e, struct status *st) {
    return e->state == EXCHANGE_RETURNING || embed_find(c->options.models, e->model) != NULL ||
           status_set(st, STATUS_INVALID, "the model that the library is to have is not configured here");
}

static bool make_side(struct model_exchange *x, struct catalog *c, struct library *lib, bool reuse, struct status *st) {
    struct library_definition d;
    struct reading rd;
    library_reading(lib, &rd);
    if (!library_present_definition(lib, &rd.view, &d, st)) {
        return false;
    }
    struct library_exchange e = d.exchange;
    if (!check_state(&e, st) || !check_model(c, &e, st)) {
        return false;
    }
    x->state = e.state;
    x->task = e.task;
    d.embedding_model = e.model;
    d.dimension = e.dimension;
    d.exchange = (struct library_exchange){0};
    if (!library_side_fits(lib, e.dimension, st)) {
        return false;
    }
    if (!mirror_init(&x->m, c, lib, &d, "", st) || (reuse && e.dimension != 0 && !find_old(x, &e, rd.view.directory, st))) {
        mirror_fini(&x->m);
        return false;
    }
    struct library *side = x->m.target;
    store_relaxed_u32(&side->side, SIDE_FOLLOWS);
    if (side->model == NULL && !side->brings_vectors && e.fingerprint != 0) {
        library_pin(side, e.fingerprint); /* of a provider */
        mirror_show(&x->m);
    }
    return true;
}

bool exchange_new(struct catalog *c, struct library *lib, bool reuse, struct model_exchange **ret, struct status *st) {
    struct model_exchange *x = (struct model_exchange *)calloc(1, sizeof *x);
    if (x == NULL) {
        return status_no_memory(st);
    }
    if (!make_side(x, c, lib, reuse, st)) {
        free(x);
        return false;
    }
    *ret = x;
    return true;
}

static bool claim(struct library *lib) {
    (void)pthread_mutex_lock(&lib->graph_mutex);
    bool free_place = !lib->compacting && !lib->exchanging && !lib->rebuilding && lib->deletions == NULL;
    lib->exchanging = lib->exchanging || free_place;
    (void)pthread_mutex_unlock(&lib->graph_mutex);
    return free_place;
}

static void leave(struct model_exchange *x, struct library *lib) {
    if (x->claimed) {
        (void)pthread_mutex_lock(&lib->graph_mutex);
        lib->exchanging = false;
        (void)pthread_mutex_unlock(&lib->graph_mutex);
        x->claimed = false;
    }
}

bool exchange_begin(struct model_exchange *x, struct status *st) {
    if (library_is_deleted(x->m.source)) {
        return status_set(st, STATUS_NOT_FOUND, "the library was deleted");
    }
    if (!claim(x->m.source)) {
        return status_set(st, STATUS_CONFLICT, "the library's index is being rebuilt or optimized");
    }
    x->claimed = true;
    x->begun = true;
    x->m.source->other = x->m.target;
    mirror_begin(&x->m);
    return true;
}

/* The side has taken over what lay there: once it is durable itself that can go, so that many starts do not leave many of them. */
static void let_old_go(struct model_exchange *x) {
    struct mirror *m = &x->m;
    int fd = m->catalog->options.vectors_dir_fd;
    struct reading rd;
    struct status failed = {0};
    if (m->old == NULL) {
        return;
    }
    library_reading(m->source, &rd);
    if (!other_vectors_sync(fd, &m->source->id, rd.view.directory, &failed) ||
        !other_vectors_tidy(fd, &m->source->id, rd.view.directory, m->target->view.directory, &failed)) {
        log_status(LOG_LEVEL_WARN, "what lay there of a library's other model stays", &failed);
    }
    other_vectors_close(m->old);
    m->old = NULL;
}

bool exchange_step(struct model_exchange *x, uint32_t documents, bool *ret_more, struct status *st) {
    uint32_t state = library_exchange_state(x->m.source);
    store_relaxed_u32(&x->m.target->side, state == EXCHANGE_KEPT ? SIDE_FOLLOWS : SIDE_WANTED);
    if (!mirror_step(&x->m, documents, ret_more, st) || !mirror_may_invert(&x->m, st)) {
        return false;
    }
    if (!*ret_more && !x->m.inverted) {
        let_old_go(x);
    }
    return true;
}

/* --- how far it is --- */

static uint64_t without_vector(const struct library *lib) {
    return load_acquire_u64(&lib->without_vector);
}

/* Texts that came meanwhile are asked for meanwhile; so it waits for those that were there at a moment, then looks at how many came since. */
static bool is_asked_for(struct model_exchange *x, uint64_t copied, uint64_t missing) {
    struct library *side = x->m.target;
    uint32_t slots = side->view.chunk_slots;
    if (library_exchange_state(x->m.source) == EXCHANGE_RETURNING) {
        return missing <= copied / 2; /* it has served before: the rest comes while it does again */
    }
    x->asked_mark = x->asked_mark == 0 ? slots : x->asked_mark;
    x->asked_until = backlog_next_wanted(side, x->asked_until);
    if (x->asked_until < x->asked_mark) {
        return false;
    }
    uint64_t waiting = 0;
    for (uint32_t slot = x->asked_until; slot < slots; slot = backlog_next_wanted(side, slot + 1)) {
        waiting++;
    }
    bool few = waiting <= LAST_ASKED + copied / LAST_SHARE;
    x->asked_mark = few ? x->asked_mark : slots;
    return few;
}

void exchange_progress(struct model_exchange *x, struct exchange_progress *ret) {
    struct library *side = x->m.target;
    struct reading rd;
    uint64_t copied = 0;
    uint64_t linked = 0;
    library_reading(x->m.source, &rd);
    mirror_progress(&x->m, &copied, &linked);
    uint64_t missing = without_vector(side);
    bool graph = side->view.graph_generation != 0;
    bool embeds = side->model != NULL;
    bool asks = side->remote != NULL && load_relaxed_u32(&side->side) == SIDE_WANTED;
    ret->done = (missing < copied ? copied - missing : 0) + linked;
    ret->total = (uint64_t)rd.view.live_chunks * (graph ? 2 : 1);
    ret->total = ret->total > ret->done ? ret->total : ret->done;
    ret->reused = x->m.reused;
    ret->asks = asks && missing > 0;
    bool embedded = missing <= LAST_VECTORS && missing <= copied / LAST_SHARE;
    ret->ready = mirror_is_close(&x->m) && (!embeds || embedded) && (!asks || is_asked_for(x, copied, missing)) && mirror_is_linked(&x->m);
}

/* --- how much the two models agree --- */

/* One side as a search reads it, through maps of its own. */
struct looking {
    struct arena arena;
    struct reading rd;
    struct search_hit hits[OVERLAP_TOP];
    uint32_t count;
    float *query;
};

static bool look_begin(struct looking *l, struct library *lib, struct status *st) {
    library_reading(lib, &l->rd);
    l->arena = ARENA_CLOSED;
    l->rd.view.lsn = UINT64_MAX; /* what lives now */
    l->rd.arena = &l->arena;
    l->query = (float *)malloc(((size_t)l->rd.view.dimension + 1) * sizeof *l->query);
    if (l->query == NULL) {
        return status_no_memory(st);
    }
    return arena_follow(&l->arena, lib->catalog->options.vectors_dir_fd, &l->rd.view, st);
}

static void look_end(struct looking *l) {
    arena_close(&l->arena);
    free(l->query);
}

static bool look_for(struct looking *l, const float *query, struct search_scratch *scratch, struct status *st) {
    const struct search_request request = {.mode = SEARCH_DENSE, .query = query, .k = OVERLAP_TOP};
    struct search_result result = {.hits = l->hits};
    if (!search_library(&l->rd, &request, scratch, &result, st)) {
        return false;
    }
    l->count = result.count;
    return true;
}

static uint32_t in_common(const struct model_exchange *x, const struct looking *old, const struct looking *side) {
    const struct numbers *slots = &x->m.slots;
    uint32_t common = 0;
    for (uint32_t i = 0; i < side->count; i++) {
        uint32_t slot = side->hits[i].slot < slots->count ? slots->at[side->hits[i].slot] : ROW_NONE;
        for (uint32_t k = 0; k < old->count; k++) {
            common += old->hits[k].slot == slot ? 1 : 0;
        }
    }
    return common;
}

/* Queries for both. *ret_drawn false: this draw met no chunk that lives and has them. */
static bool draw_queries(const struct model_exchange *x, struct looking *old, struct looking *side, uint64_t draw, const float **ret_old,
                         const float **ret_side, bool *ret_drawn, struct status *st) {
    const struct embedder *old_model = x->m.source->model;
    const struct embedder *model = x->m.target->model;
    struct stored_chunk chunk;
    struct status ignored;
    uint32_t slot = (uint32_t)(hash64(draw, "overlap", sizeof "overlap") % side->rd.view.chunk_slots);
    *ret_drawn = slot < x->m.slots.count && reading_chunk_visible(&side->rd, slot) && reading_chunk(&side->rd, slot, &chunk, &ignored);
    if (!*ret_drawn) {
        return true;
    }
    if (old_model == NULL || model == NULL) {
        *ret_old = reading_vector(&old->rd, x->m.slots.at[slot]);
        *ret_side = reading_vector(&side->rd, slot);
        *ret_drawn = *ret_old != NULL && *ret_side != NULL;
        return true;
    }
    struct slice text = slice_of(chunk.fields.text.data, utf8_prefix(chunk.fields.text, QUERY_BYTES));
    *ret_drawn = text.len > 0;
    *ret_old = old->query;
    *ret_side = side->query;
    return old_model->embed(old_model, EMBED_QUERY, &text, 1, old->query, st) && model->embed(model, EMBED_QUERY, &text, 1, side->query, st);
}

static bool compare(struct model_exchange *x, struct looking *old, struct looking *side, struct search_scratch *scratch, double *sum, uint32_t *queries,
                    struct status *st) {
    enum { DRAWS = 4 * OVERLAP_QUERIES };
    for (uint64_t draw = 0; draw < DRAWS && *queries < OVERLAP_QUERIES && side->rd.view.chunk_slots > 0; draw++) {
        const float *query_old = NULL;
        const float *query_side = NULL;
        bool drawn = false;
        if (!draw_queries(x, old, side, draw, &query_old, &query_side, &drawn, st)) {
            return false;
        }
        if (!drawn) {
            continue;
        }
        if (!look_for(old, query_old, scratch, st) || !look_for(side, query_side, scratch, st)) {
            return false;
        }
        uint32_t of = old->count > side->count ? old->count : side->count;
        if (of > 0) {
            *sum += (double)in_common(x, old, side) / of;
            (*queries)++;
        }
    }
    return true;
}

bool exchange_overlap(struct model_exchange *x, double *ret_overlap, uint32_t *ret_queries, struct status *st) {
    struct looking old = {.arena = ARENA_CLOSED};
    struct looking side = {.arena = ARENA_CLOSED};
    struct search_scratch *scratch = NULL;
    double sum = 0;
    uint32_t queries = 0;
    *ret_overlap = 0;
    *ret_queries = 0;
    scratch = search_scratch_new(0);
    bool ok = scratch != NULL || status_no_memory(st);
    ok = ok && look_begin(&old, x->m.source, st) && look_begin(&side, x->m.target, st);
    bool comparable = ok && old.rd.view.dimension != 0 && side.rd.view.dimension != 0;
    ok = ok && (!comparable || compare(x, &old, &side, scratch, &sum, &queries, st));
    if (ok && queries > 0) {
        *ret_overlap = sum / queries;
        *ret_queries = queries;
    }
    look_end(&old);
    look_end(&side);
    search_scratch_free(scratch);
    return ok;
}

/* --- the switch --- */

/* No chunk is left without a vector where the model runs here. */
static bool embed_last(struct model_exchange *x, struct status *st) {
    struct library *side = x->m.target;
    size_t done = 1;
    while (done > 0) {
        if (!backlog_embed_some(side, x->m.catalog->options.models, EMBED_BATCH, &done, st)) {
            return false;
        }
    }
    if (backlog_pending_vectors(side) > 0) {
        backlog_quiesce(side); /* others have claimed them */
    }
    return true;
}

static bool take_new_name(struct model_exchange *x, struct status *st) {
    struct library *side = x->m.target;
    int fd = x->m.catalog->options.vectors_dir_fd;
    char name[ARENA_DIRECTORY_MAX];
    uint32_t number = 0;
    if (side->view.directory > x->m.source->view.directory) {
        return true;
    }
    if (!arena_free_directory(fd, &side->id, &number, st)) {
        return false;
    }
    arena_directory_name(&side->id, number, name);
    if (!io_rename_at(fd, side->directory, fd, name, st)) {
        return false;
    }
    memcpy(side->directory, name, sizeof name);
    side->view.directory = number;
    return true;
}

/* The definition that the side takes over with its place: now in `d`. */
static void define(const struct model_exchange *x, int64_t now_us, struct library_definition *d) {
    const struct library_view *view = &x->m.source->view;
    struct library_exchange before = d->exchange;
    const struct library_exchange kept = {.state = EXCHANGE_KEPT,
                                          .since = now_us,
                                          .task = before.task,
                                          .fingerprint = view->model_fingerprint,
                                          .dimension = view->dimension,
                                          .model = d->embedding_model};
    d->exchange = before.state == EXCHANGE_BUILDING ? kept : (struct library_exchange){0};
    d->embedding_model = before.model;
    d->dimension = x->m.target->view.dimension;
}

/* As the op that is logged, and as one that gives the side its definition. */
static bool encode(struct model_exchange *x, const struct library_definition *d, struct status *st) {
    struct mirror *m = &x->m;
    buf_reset(&x->op);
    buf_reset(&m->bytes);
    op_encode_library_model(&x->op, &m->source->id, d, true);
    op_encode_library(&m->bytes, OP_LIBRARY_UPDATE, &m->source->id, d);
    return buf_check(&x->op, st) && buf_check(&m->bytes, st) && op_decode(buf_slice(&m->bytes), NULL, &x->update, st) &&
           library_reserve(m->target, &x->update, st);
}

bool exchange_prepare(struct model_exchange *x, int64_t now_us, struct slice *ret_op, struct status *st) {
    struct mirror *m = &x->m;
    struct library_definition d;
    if (library_is_deleted(m->source)) {
        return status_set(st, STATUS_NOT_FOUND, "the library was deleted");
    }
    if (!library_present_definition(m->source, &m->source->view, &d, st)) {
        return false;
    }
    bool returns = m->inverted && d.exchange.state == EXCHANGE_RETURNING; /* the one that was kept is wanted back */
    bool ours = returns || (d.exchange.state == x->state && uuid_equal(&d.exchange.task, &x->task));
    if (!check_state(&d.exchange, st) || !ours) {
        return status_set(st, STATUS_CONFLICT, "the exchange of the library's model was given up");
    }
    if (!mirror_finish(m, st) || !embed_last(x, st) || !mirror_may_invert(m, st) || !take_new_name(x, st)) {
        return false;
    }
    define(x, now_us, &d);
    if (!encode(x, &d, st)) {
        return false;
    }
    *ret_op = buf_slice(&x->op);
    return true;
}

struct library *exchange_switch(struct model_exchange *x, uint64_t lsn, bool *ret_goes_on) {
    struct mirror *m = &x->m;
    struct catalog *c = m->catalog;
    struct library *from = m->source;
    struct library *to = m->target;
    leave(x, from);
    library_define(to, &x->update);
    to->view.live = 1;
    to->view.lsn = lsn;
    to->view.arena_generation = ++c->next_arena_generation;
    store_relaxed_u32(&to->side, SIDE_NONE);
    from->other = NULL;
    from->keep_files = c->options.keep_replaced;
    *ret_goes_on = x->update.as.definition.exchange.state == EXCHANGE_KEPT;
    catalog_exchange(c, from, to, *ret_goes_on);
    (void)pthread_mutex_lock(&c->mutex);
    to->refs++; /* the caller's */
    (void)pthread_mutex_unlock(&c->mutex);
    if (*ret_goes_on) {
        store_relaxed_u32(&from->side, SIDE_FOLLOWS);
        to->other = from;
        x->state = EXCHANGE_KEPT;
        mirror_invert(m);
    } else {
        from->deletions = NULL;
        to->texts = c->texts;
        m->target = NULL;
        catalog_release(c, from); /* the table's */
    }
    catalog_release(c, from); /* the caller's */
    return to;
}

bool exchange_may_follow(const struct model_exchange *x) {
    bool cutting = false;
    for (int file = 0; file < ARENA_TEXT_FILES; file++) {
        cutting = cutting || x->m.target->text_pages[file].cutting;
    }
    return !cutting;
}

void exchange_end(struct model_exchange *x, bool keep_files) {
    if (x->begun && x->m.target != NULL) {
        x->m.target->keep_files = x->m.target->keep_files || keep_files;
        leave(x, x->m.source);
        x->m.source->other = NULL;
        mirror_end(&x->m);
    }
}

void exchange_free(struct model_exchange *x) {
    if (x == NULL) {
        return;
    }
    mirror_fini(&x->m);
    buf_fini(&x->op);
    free(x);
}
