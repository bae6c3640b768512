/*
 * exchanger.c - exchanges of models (exchanger.h): what a library's definition says of one is what this thread works on, so it needs no other memory and a
 * restart goes on by itself.
 *
 *   building    one library at a time: the side is filled, and background threads embed and link; when little is left the two models are compared and the
 *               committer's thread switches
 *   kept        the side that served before follows, until reembed_keep_seconds have passed. After a restart there is none, and nothing is made until it is
 *               wanted
 *   returning   as building, or at once where the side has followed
 *
 * Where a provider is to make the side's vectors, the exchange begins when it is known what model that has, and stands still while the provider does not answer or has another
 * model: then its task says that it is paused, and why. Such sides wait more than they work, so they are all built at once.
 *
 * A failure (no room on the disk, a model that is not configured any more) gives a building up and a returning back to kept, both logged, and stands in the
 * task. What is in the way (an optimization under way) is waited for.
 *
 * A task is a display of this. Its id stands in the definition, so a client finds it again after a restart; one that is cancelled is a step like any.
 */
#include "proc/exchanger.h"

#include "base/clock.h"
#include "base/log.h"
#include "embed/remote.h"
#include "proc/asker.h"
#include "proc/background.h"
#include "proc/checkpointer.h"
#include "proc/committer.h"
#include "proc/providers.h"
#include "proc/rebuild.h"
#include "proc/service_thread.h"
#include "proc/tasks.h"
#include "proc/thread.h"
#include "shm/atomics.h"
#include "store/backlog.h"
#include "store/exchange.h"

#include <stdlib.h>

enum {
    LOOK_US = 100000,       /* between two looks while there is a side */
    IDLE_LOOK_US = 5000000, /* and while there is none: a time may have passed */
    RETRY_US = 1000000,     /* while something is in the way */
    STEP_DOCUMENTS = 256,
    STEPS_PER_ROUND = 64, /* of one library, before the others are looked at */
    NICE = 5
};
#define US_PER_SECOND INT64_C(1000000)

/* A library whose exchange is not over. */
struct side {
    struct side *next;
    struct library *lib; /* that serves; acquired */
    struct uuid id;
    struct library_exchange now; /* as its definition says; `model` is not kept */
    const struct embedder *remote; /* the other model, where a provider has it; else NULL */
    struct model_exchange *x;          /* NULL: there is no side */
    bool found;                  /* by the first look: a restart has cut it off */
    bool may_follow;
    bool compared;
    bool seen; /* in this round */
    int64_t begun_us;
    int64_t not_before_us;
};

struct exchanger {
    struct supervisor *s;
    struct service_thread thread;
    /* the thread's own */
    struct side *sides;
    bool first_look_done;
    const struct side *building; /* whose turn it is; NULL: nobody's */
};

void exchanger_wake(struct exchanger *e) {
    if (e == NULL) {
        return; /* nobody is at work yet, and it will look */
    }
    service_thread_wake(&e->thread);
}

void exchanger_note(struct exchanger *e, const struct op *op) {
    const struct library_exchange *x = &op->as.definition.exchange;
    struct uuid task;
    struct status st;
    if (e == NULL) {
        return;
    }
    if (x->state == EXCHANGE_BUILDING || x->state == EXCHANGE_RETURNING) {
        (void)!tasks_add(e->s->tasks, TASK_REEMBED, &op->library, &x->task, &task, &st); /* else this thread tries again */
    }
    exchanger_wake(e);
}

static bool is_stopping(struct exchanger *e) {
    return service_thread_is_stopping(&e->thread);
}

/* --- on the committer's thread --- */

/* A step that does not switch: the library's definition with its exchange in another state. */
struct stepping {
    struct supervisor *s;
    struct library *lib;
    const struct uuid *task; /* of this exchange, */
    uint32_t from;           /* and only from this one; else nothing happens */
    uint32_t to;
};

static bool present(struct library *lib, struct library_definition *ret, struct status *st) {
    struct reading rd;
    library_reading(lib, &rd); /* between two commits: the newest */
    return reading_definition(&rd, ret, st);
}

static bool log_and_apply(struct supervisor *s, struct slice bytes, struct status *st) {
    struct op op;
    uint64_t lsn = 0;
    if (!op_decode(bytes, NULL, &op, st) || !catalog_check(s->catalog, &op, st) || !catalog_reserve(s->catalog, &op, st) ||
        !committer_log(s->committer, bytes, &lsn, st)) {
        return false;
    }
    catalog_apply(s->catalog, &op, lsn, 0, NULL, NULL);
    committer_logged(s->committer, true);
    return true;
}

static bool take_step(void *ctx, struct status *st) {
    struct stepping *w = (struct stepping *)ctx;
    struct library_definition d;
    struct reading rd;
    struct buf op = {0};
    if (library_is_deleted(w->lib) || !present(w->lib, &d, st)) {
        return library_is_deleted(w->lib);
    }
    if (d.exchange.state != w->from || !uuid_equal(&d.exchange.task, w->task)) {
        return true;
    }
    if (w->to == EXCHANGE_NONE) {
        d.exchange = (struct library_exchange){0};
    }
    d.exchange.state = w->to;
    library_reading(w->lib, &rd);
    op_encode_library_model(&op, &rd.view.id, &d, false);
    bool ok = buf_check(&op, st) && log_and_apply(w->s, buf_slice(&op), st);
    buf_fini(&op);
    return ok;
}

struct pinning {
    struct supervisor *s;
    struct side *side;
    struct figures_provider known;
};

/* Says which model the provider has: the one that the exchange is to. */
static bool pin_model(void *ctx, struct status *st) {
    struct pinning *w = (struct pinning *)ctx;
    struct library_definition d;
    struct reading rd;
    struct buf op = {0};
    if (library_is_deleted(w->side->lib) || !present(w->side->lib, &d, st)) {
        return library_is_deleted(w->side->lib);
    }
    if (d.exchange.state != EXCHANGE_BUILDING || d.exchange.fingerprint != 0 || !uuid_equal(&d.exchange.task, &w->side->now.task)) {
        return true;
    }
    d.exchange.fingerprint = w->known.fingerprint;
    d.exchange.dimension = w->known.dimension;
    library_reading(w->side->lib, &rd);
    op_encode_library_model(&op, &rd.view.id, &d, false);
    bool ok = buf_check(&op, st) && log_and_apply(w->s, buf_slice(&op), st);
    w->side->now.fingerprint = ok ? w->known.fingerprint : 0;
    w->side->now.dimension = ok ? w->known.dimension : 0;
    buf_fini(&op);
    return ok;
}

struct switching {
    struct supervisor *s;
    struct side *side;
    bool goes_on;
};

static bool begin_side(void *ctx, struct status *st) {
    return exchange_begin(((struct switching *)ctx)->side->x, st);
}

static bool end_side(void *ctx, struct status *st) {
    struct switching *w = (struct switching *)ctx;
    (void)st;
    exchange_end(w->side->x, w->goes_on);
    return true;
}

static bool ask_follow(void *ctx, struct status *st) {
    struct side *side = ((struct switching *)ctx)->side;
    (void)st;
    side->may_follow = exchange_may_follow(side->x);
    return true;
}

static bool switch_sides(void *ctx, struct status *st) {
    struct switching *w = (struct switching *)ctx;
    struct slice op;
    uint64_t lsn = 0;
    if (!exchange_prepare(w->side->x, clock_wall_us(), &op, st) || !committer_log(w->s->committer, op, &lsn, st)) {
        return false;
    }
    w->side->lib = exchange_switch(w->side->x, lsn, &w->goes_on);
    committer_logged(w->s->committer, true);
    return true;
}

static void call(struct exchanger *e, committer_fn fn, struct side *side, bool goes_on) {
    struct switching w = {.s = e->s, .side = side, .goes_on = goes_on};
    struct status ignored;
    (void)!committer_call(e->s->committer, fn, &w, &ignored);
}

/* --- giving up --- */

static void free_side(struct side *side) {
    exchange_free(side->x);
    side->x = NULL;
}

static void drop_side(struct exchanger *e, struct side *side, bool keep_files) {
    if (side->x != NULL) {
        call(e, end_side, side, keep_files);
        free_side(side);
    }
    side->compared = false;
    side->begun_us = 0;
    if (e->building == side) {
        e->building = NULL;
    }
}

static void tell(const struct side *side, const char *what, const struct status *why) {
    char id[UUID_TEXT + 1];
    uuid_format(&side->id, id);
    if (why != NULL && why->code != STATUS_OK) {
        log_warn("library %s: %s: %s", id, what, why->detail);
    } else {
        log_info("library %s: %s", id, what);
    }
}

/* why: of STATUS_OK: it was cancelled. */
static void give_up(struct exchanger *e, struct side *side, const struct status *why) {
    struct stepping w = {.s = e->s, .lib = side->lib, .task = &side->now.task, .from = side->now.state};
    struct status st = {0};
    bool returning = side->now.state == EXCHANGE_RETURNING;
    w.to = returning ? EXCHANGE_KEPT : EXCHANGE_NONE;
    drop_side(e, side, returning);
    if (!committer_call(e->s->committer, take_step, &w, &st)) {
        tell(side, "the exchange of its model cannot be given up yet", &st);
        side->not_before_us = clock_monotonic_us() + RETRY_US;
        return;
    }
    tasks_finish(e->s->tasks, &side->now.task, why);
    (void)add_relaxed_u64(&e->s->figures->exchanges_failed, why->code != STATUS_OK ? 1 : 0);
    tell(side, returning ? "it does not go back to the model before" : "its model is not exchanged", why);
    checkpointer_wake(e->s->checkpointer); /* what lies there of the side goes with the next one */
}

static bool is_in_the_way(const struct status *st) {
    return st->code == STATUS_CONFLICT || st->code == STATUS_BUSY;
}

/* --- building and returning --- */

/* The task that is shown. False: it was cancelled. */
static bool keep_task(struct exchanger *e, const struct side *side) {
    struct tasks *tasks = e->s->tasks;
    enum task_state state = tasks_state(tasks, &side->now.task);
    struct uuid task;
    struct status st;
    if (state == TASK_NONE && tasks_add(tasks, TASK_REEMBED, &side->id, &side->now.task, &task, &st)) {
        state = TASK_PENDING;
    }
    return state != TASK_CANCELLED && (state == TASK_NONE || !tasks_cancel_wanted(tasks, &side->now.task));
}

/* Shows what keeps the provider from making the side's vectors, if anything does. */
static enum task_pause show_pause(struct exchanger *e, const struct side *side, bool asks) {
    struct figures_provider known = {0};
    enum task_pause pause = PAUSE_NONE;
    const char *why = "";
    if (side->remote != NULL && asks) {
        providers_model(e->s->providers, side->remote->number, &known);
        bool changed = known.dimension != 0 && side->now.fingerprint != 0 && !remote_same_model(known.fingerprint, side->now.fingerprint);
        pause = changed ? PAUSE_CHANGED : known.dimension == 0 || known.state == PROVIDER_AWAY ? PAUSE_AWAY : PAUSE_NONE;
        why = changed ? "the provider has another model than the one that the exchange began with: put that back, or give it up (DELETE .../reembed) and begin anew"
                      : pause == PAUSE_AWAY && known.error[0] == '\0' ? "the provider has not said yet what its model is" : known.error;
    }
    tasks_pause(e->s->tasks, &side->now.task, pause, pause != PAUSE_NONE ? why : "");
    return pause;
}

/* *ret_known: which model it will be. */
static bool know_model(struct exchanger *e, struct side *side, bool *ret_known, struct status *st) {
    struct pinning w = {.s = e->s, .side = side};
    *ret_known = side->remote == NULL || side->now.state != EXCHANGE_BUILDING || side->now.fingerprint != 0;
    if (*ret_known) {
        return true;
    }
    providers_model(e->s->providers, side->remote->number, &w.known);
    if (w.known.dimension == 0) {
        return true;
    }
    *ret_known = committer_call(e->s->committer, pin_model, &w, st);
    return *ret_known;
}

static bool begin(struct exchanger *e, struct side *side, struct status *st) {
    struct switching w = {.s = e->s, .side = side};
    bool reuse = side->found || side->now.state == EXCHANGE_RETURNING;
    if (!exchange_new(e->s->catalog, side->lib, reuse, &side->x, st)) {
        return false;
    }
    if (!committer_call(e->s->committer, begin_side, &w, st)) {
        free_side(side);
        return false;
    }
    side->begun_us = clock_monotonic_us();
    side->found = true; /* should it have to begin again, what it has by then is of use */
    side->may_follow = true;
    return true;
}

/* Some steps. *ret_ready: everything is copied, and little is left to embed and link. */
static bool work(struct exchanger *e, struct side *side, bool *ret_ready, struct status *st) {
    struct exchange_progress p;
    bool more = true;
    *ret_ready = false;
    for (int i = 0; more && i < STEPS_PER_ROUND && !is_stopping(e); i++) {
        if (!exchange_step(side->x, STEP_DOCUMENTS, &more, st)) {
            return false;
        }
        background_wake(e->s->background, true);
        asker_wake(e->s->asker);
        exchange_progress(side->x, &p);
        tasks_progress(e->s->tasks, &side->now.task, p.done, p.total);
        *ret_ready = !more && p.ready;
        enum task_pause pause = show_pause(e, side, p.asks || (*ret_ready && side->now.state == EXCHANGE_BUILDING));
        *ret_ready = *ret_ready && pause != PAUSE_CHANGED; /* nobody would make its vectors, and some may be of that model */
    }
    return true;
}

static void compare(struct exchanger *e, struct side *side) {
    double overlap = 0;
    uint32_t queries = 0;
    struct status st = {0};
    side->compared = true;
    if (!exchange_overlap(side->x, &overlap, &queries, &st)) {
        tell(side, "the two models cannot be compared", &st);
        return;
    }
    tasks_overlap(e->s->tasks, &side->now.task, overlap, queries);
}

static void show_switch(struct exchanger *e, const struct side *side, bool back) {
    struct service_figures *f = e->s->figures;
    struct library_definition d;
    struct reading rd;
    struct status st;
    char id[UUID_TEXT + 1];
    int64_t took = clock_monotonic_us() - side->begun_us;
    library_reading(side->lib, &rd);
    uuid_format(&side->id, id);
    if (reading_definition(&rd, &d, &st)) {
        log_info("library %s: %s the model %.*s: %u chunks in %lld ms", id, back ? "went back to" : "has", (int)d.embedding_model.len,
                 (const char *)d.embedding_model.data, rd.view.live_chunks, (long long)(took / 1000));
    }
    (void)add_relaxed_u64(back ? &f->exchanges_returned : &f->exchanges, 1);
    store_relaxed_u64(&f->exchange_chunks, rd.view.live_chunks);
    __atomic_store_n(&f->exchange_us, took, __ATOMIC_RELAXED);
}

/* An index whose settings were changed while the arena that serves now did not. */
static void rebuild_if_wanted(struct exchanger *e, const struct side *side) {
    struct index_settings settings;
    struct uuid task;
    struct status st;
    if (backlog_rebuild_wanted(side->lib, &settings) && tasks_add(e->s->tasks, TASK_REBUILD, &side->id, NULL, &task, &st)) {
        rebuilder_wake(e->s->rebuilder);
    }
}

static bool do_switch(struct exchanger *e, struct side *side, struct status *st) {
    struct switching w = {.s = e->s, .side = side};
    bool back = side->now.state == EXCHANGE_RETURNING;
    if (!committer_call(e->s->committer, switch_sides, &w, st)) {
        return false;
    }
    side->may_follow = false;
    if (!w.goes_on) {
        free_side(side);
    }
    show_switch(e, side, back);
    tasks_finish(e->s->tasks, &side->now.task, NULL);
    rebuild_if_wanted(e, side);
    checkpointer_wake(e->s->checkpointer); /* else a crash makes the library anew, and the old files stay */
    background_wake(e->s->background, true);
    asker_wake(e->s->asker);
    if (e->building == side) {
        e->building = NULL;
    }
    return true;
}

/* A side that is to serve. */
static bool advance(struct exchanger *e, struct side *side, struct status *st) {
    bool ready = false;
    bool known = false;
    if (!know_model(e, side, &known, st)) {
        return false;
    }
    tasks_begin(e->s->tasks, &side->now.task);
    if (!known) {
        (void)show_pause(e, side, true);
        return true;
    }
    if (side->x == NULL && !begin(e, side, st)) {
        return false;
    }
    if (side->begun_us == 0) {
        side->begun_us = clock_monotonic_us(); /* the side that has followed is wanted back */
    }
    if (!work(e, side, &ready, st)) {
        return false;
    }
    if (!ready) {
        return true;
    }
    if (!side->compared && side->now.state == EXCHANGE_BUILDING) {
        compare(e, side);
    }
    return do_switch(e, side, st);
}

/* --- kept --- */

static bool is_over(const struct exchanger *e, const struct side *side) {
    int64_t keep = (int64_t)load_relaxed_u64(&e->s->tunables.reembed_keep_seconds) * US_PER_SECOND;
    return clock_wall_us() - side->now.since > keep;
}

static void follow(struct exchanger *e, struct side *side) {
    struct status st = {0};
    bool more = true;
    if (is_over(e, side)) {
        struct stepping w = {.s = e->s, .lib = side->lib, .task = &side->now.task, .from = EXCHANGE_KEPT, .to = EXCHANGE_NONE};
        if (committer_call(e->s->committer, take_step, &w, &st)) {
            tell(side, "what was kept of it with the model before goes, its time is over", NULL);
        }
        return; /* the next look finds it given up */
    }
    side->begun_us = 0;
    if (side->x != NULL && !side->may_follow) {
        call(e, ask_follow, side, false);
    }
    for (int i = 0; side->x != NULL && side->may_follow && more && i < STEPS_PER_ROUND && !is_stopping(e); i++) {
        if (!exchange_step(side->x, STEP_DOCUMENTS, &more, &st)) {
            tell(side, "what is kept of it does not follow any more; to go back takes as long as it did to come", &st);
            drop_side(e, side, true);
            return;
        }
        background_wake(e->s->background, true);
    }
}

/* --- all sides --- */

static void work_on(struct exchanger *e, struct side *side) {
    struct status st = {0};
    bool wanted = side->now.state == EXCHANGE_BUILDING || side->now.state == EXCHANGE_RETURNING;
    if (library_is_deleted(side->lib) || side->now.state == EXCHANGE_NONE) {
        return; /* it is dropped at the end of the round */
    }
    if (!wanted) {
        follow(e, side);
        return;
    }
    if (!keep_task(e, side)) {
        give_up(e, side, &st);
        return;
    }
    if (clock_monotonic_us() < side->not_before_us || (side->remote == NULL && e->building != NULL && e->building != side)) {
        return;
    }
    e->building = side->remote == NULL ? side : e->building;
    if (advance(e, side, &st) || is_stopping(e)) {
        return;
    }
    if (is_in_the_way(&st)) {
        side->not_before_us = clock_monotonic_us() + RETRY_US;
        e->building = e->building == side && side->x == NULL ? NULL : e->building;
        return;
    }
    give_up(e, side, &st);
}

/* Else the one before it was given up since the last look, and its side is let go. */
static bool is_of(const struct side *side, const struct library_exchange *now) {
    return now->state != EXCHANGE_BUILDING || uuid_equal(&side->now.task, &now->task);
}

static struct side *side_of(struct exchanger *e, struct library *lib, const struct uuid *id, const struct library_exchange *now) {
    struct side *side = e->sides;
    while (side != NULL && !(uuid_equal(&side->id, id) && side->lib == lib && is_of(side, now))) {
        side = side->next;
    }
    if (side != NULL) {
        return side;
    }
    side = (struct side *)calloc(1, sizeof *side);
    if (side == NULL) {
        return NULL; /* at the next look */
    }
    side->lib = catalog_acquire(e->s->catalog, id);
    if (side->lib != lib) { /* exchanged or deleted since */
        catalog_release(e->s->catalog, side->lib);
        free(side);
        return NULL;
    }
    side->id = *id;
    side->found = !e->first_look_done;
    side->next = e->sides;
    e->sides = side;
    return side;
}

static void look_at(struct exchanger *e, struct library *lib) {
    struct library_definition d;
    struct reading rd;
    struct status st;
    if (library_exchange_state(lib) == EXCHANGE_NONE) {
        return;
    }
    library_reading(lib, &rd);
    if (rd.view.live == 0 || !reading_definition(&rd, &d, &st) || d.exchange.state == EXCHANGE_NONE) {
        return;
    }
    struct side *side = side_of(e, lib, &rd.view.id, &d.exchange);
    if (side != NULL) {
        side->now = d.exchange;
        const struct embedder *model = embed_find(&e->s->models, d.exchange.model);
        side->remote = model != NULL && model->remote ? model : NULL;
        side->now.model = slice_of(NULL, 0);
        side->seen = true;
    }
}

static bool look_at_all(struct exchanger *e) {
    struct library **libraries = NULL;
    size_t count = 0;
    struct status st;
    if (!catalog_acquire_all(e->s->catalog, &libraries, &count, &st)) {
        return false;
    }
    for (struct side *side = e->sides; side != NULL; side = side->next) {
        side->seen = false;
    }
    for (size_t i = 0; i < count; i++) {
        look_at(e, libraries[i]);
        catalog_release(e->s->catalog, libraries[i]);
    }
    free(libraries);
    e->first_look_done = true;
    return true;
}

/* Somebody has given it up, or the library was deleted. */
static void let_go(struct exchanger *e, struct side *side) {
    struct status why = {0};
    struct library *lib = catalog_acquire(e->s->catalog, &side->id);
    bool replaced = lib != NULL && lib != side->lib; /* by its optimized self, which is another side */
    if (lib == NULL) {
        (void)status_set(&why, STATUS_NOT_FOUND, "the library was deleted");
    }
    catalog_release(e->s->catalog, lib);
    drop_side(e, side, false);
    enum task_state state = tasks_state(e->s->tasks, &side->now.task);
    if (!replaced && (state == TASK_PENDING || state == TASK_RUNNING)) {
        tasks_finish(e->s->tasks, &side->now.task, &why);
    }
    checkpointer_wake(e->s->checkpointer);
    catalog_release(e->s->catalog, side->lib);
    free(side);
}

static void let_go_of_unseen(struct exchanger *e) {
    uint64_t kept = 0;
    for (struct side **at = &e->sides; *at != NULL;) {
        struct side *side = *at;
        if (side->seen) {
            kept += side->now.state == EXCHANGE_KEPT ? 1 : 0;
            at = &side->next;
            continue;
        }
        *at = side->next;
        let_go(e, side);
    }
    store_relaxed_u64(&e->s->figures->exchanges_kept, kept);
}

static void show_building(const struct exchanger *e) {
    bool under_way = e->building != NULL && e->building->begun_us != 0;
    int64_t begun_at = under_way ? clock_wall_us() - (clock_monotonic_us() - e->building->begun_us) : 0;
    __atomic_store_n(&e->s->figures->exchange_begun_at, begun_at, __ATOMIC_RELAXED);
}

static void round_of_all(struct exchanger *e) {
    if (!look_at_all(e)) {
        return;
    }
    let_go_of_unseen(e);
    for (struct side *side = e->sides; side != NULL && !is_stopping(e); side = side->next) {
        work_on(e, side);
        show_building(e);
    }
}

static void *run(void *arg) {
    struct exchanger *e = (struct exchanger *)arg;
    uint64_t seen = 0;
    thread_set_nice(NICE);
    do {
        round_of_all(e);
    } while (service_thread_wait(&e->thread, clock_monotonic_us() + (e->sides != NULL ? LOOK_US : IDLE_LOOK_US), &seen));
    while (e->sides != NULL) {
        struct side *side = e->sides;
        e->sides = side->next;
        drop_side(e, side, true);
        catalog_release(e->s->catalog, side->lib);
        free(side);
    }
    return NULL;
}

bool exchanger_new(struct supervisor *s, struct exchanger **ret, struct status *st) {
    struct exchanger *e = (struct exchanger *)calloc(1, sizeof *e);
    if (e == NULL) {
        return status_no_memory(st);
    }
    e->s = s;
    if (!service_thread_init(&e->thread, LOCK_REBUILDER, st)) {
        free(e);
        return false;
    }
    if (!service_thread_start(&e->thread, "exchange", run, e, st)) {
        exchanger_free(e);
        return false;
    }
    *ret = e;
    return true;
}

void exchanger_stop(struct exchanger *e) {
    if (e != NULL) {
        service_thread_stop(&e->thread);
    }
}

void exchanger_free(struct exchanger *e) {
    if (e == NULL) {
        return;
    }
    service_thread_fini(&e->thread);
    free(e);
}
