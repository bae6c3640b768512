/*
 * test_durable_exchange.c - a library's model is exchanged, and comes back, on a whole data directory that is killed, closed, checkpointed or made anew in every
 * phase. Models and steps: durable_server_exchange.c.
 */
#include "durable_server.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { FIRST_STEPS = 150, STEPS_BETWEEN = 2, STEP_DOCUMENTS = 4 };

/* Where it is stopped. */
enum phase { PHASE_ASKED, PHASE_HALF, PHASE_SWITCHED, PHASE_FOLLOWED, PHASE_WANTED_BACK, PHASE_BACK, PHASES };
/* How, and what a start has to go by then. */
enum ending { END_KILLED, END_CHECKPOINTED, END_SNAPSHOT, END_CLOSED, END_BARE, ENDINGS };

static struct library *find(struct server *s) {
    struct library *lib = NULL;
    struct status st = {0};
    assert_true(server_exchange_find(s, &lib, &st));
    assert_non_null(lib);
    return lib;
}

static void definition_of(struct library *lib, struct library_definition *ret) {
    struct reading rd;
    struct status st = {0};
    library_reading(lib, &rd);
    assert_true(reading_definition(&rd, ret, &st));
}

static void step_to(struct server *s, struct library *lib, uint32_t state) {
    struct status st = {0};
    assert_true(server_exchange_step(s, lib, state, &st));
}

static void background(struct server *s) {
    struct status st = {0};
    assert_true(server_exchange_background(s, &st));
}

static struct model_exchange *begin(struct server *s, struct library *lib) {
    struct model_exchange *x = NULL;
    struct status st = {0};
    assert_true(server_exchange_begin(s, lib, &x, &st));
    return x;
}

static void write_some(struct server *s) {
    server_steps_ok(s, s->account->steps + STEPS_BETWEEN);
}

static void fill(struct server *s, struct model_exchange *x) {
    struct status st = {0};
    assert_true(server_exchange_fill(s, x, &st));
}

static struct library *switch_over(struct server *s, struct model_exchange *x) {
    struct library *lib = NULL;
    struct status st = {0};
    bool goes_on = false;
    assert_true(server_exchange_switch(s, x, &lib, &goes_on, &st));
    return lib;
}

/* Up to that phase; *ret_x: the side as it is then, or NULL. */
static struct library *advance(struct server *s, enum phase until, struct model_exchange **ret_x) {
    bool more = false;
    struct status st = {0};
    struct library *lib = find(s);
    *ret_x = NULL;
    step_to(s, lib, EXCHANGE_BUILDING);
    if (until == PHASE_ASKED) {
        return lib;
    }
    *ret_x = begin(s, lib);
    assert_true(exchange_step(*ret_x, STEP_DOCUMENTS, &more, &st));
    background(s);
    write_some(s);
    if (until == PHASE_HALF) {
        return lib;
    }
    fill(s, *ret_x);
    lib = switch_over(s, *ret_x);
    write_some(s);
    if (until == PHASE_SWITCHED) {
        return lib;
    }
    fill(s, *ret_x);
    write_some(s);
    if (until == PHASE_FOLLOWED) {
        return lib;
    }
    step_to(s, lib, EXCHANGE_RETURNING);
    if (until == PHASE_WANTED_BACK) {
        return lib;
    }
    lib = switch_over(s, *ret_x);
    server_exchange_drop(*ret_x, false);
    *ret_x = NULL;
    write_some(s);
    return lib;
}

static void end(struct server *s, enum ending how) {
    struct live_report report;
    struct snapshot_info info;
    struct status st = {0};
    if (how == END_CHECKPOINTED) {
        assert_true(server_live_checkpoint(s, &report, &st));
    } else if (how == END_SNAPSHOT) {
        assert_true(server_snapshot(s, &info, &st));
    }
    if (how == END_CLOSED) {
        assert_true(server_stop(s, &st));
        return;
    }
    server_crash(s);
    if (how == END_BARE) {
        assert_true(io_remove_tree(s->data.fd, "vectors", &st));
    }
}

static const uint32_t state_after[PHASES] = {[PHASE_ASKED] = EXCHANGE_BUILDING,      [PHASE_HALF] = EXCHANGE_BUILDING,
                                             [PHASE_SWITCHED] = EXCHANGE_KEPT,       [PHASE_FOLLOWED] = EXCHANGE_KEPT,
                                             [PHASE_WANTED_BACK] = EXCHANGE_RETURNING, [PHASE_BACK] = EXCHANGE_NONE};

/* What the supervisor does after a start: goes on with what the definition says, to the end and back. */
static void go_on(struct server *s, enum phase stopped) {
    struct library *lib = find(s);
    struct library_definition d;
    definition_of(lib, &d);
    assert_int_equal(d.exchange.state, state_after[stopped]);
    assert_true(slice_is(d.embedding_model, stopped == PHASE_ASKED || stopped == PHASE_HALF || stopped == PHASE_BACK ? "test" : "twin"));
    assert_int_equal(library_exchange_state(lib), d.exchange.state);
    while (library_exchange_state(lib) != EXCHANGE_NONE) {
        if (library_exchange_state(lib) == EXCHANGE_KEPT) {
            step_to(s, lib, EXCHANGE_RETURNING);
        }
        struct model_exchange *x = begin(s, lib);
        write_some(s);
        fill(s, x);
        lib = switch_over(s, x);
        server_exchange_drop(x, true);
        background(s);
        assert_int_equal(server_check(s), 0);
    }
    definition_of(lib, &d);
    assert_true(slice_is(d.embedding_model, "test"));
    catalog_release(s->catalog, lib);
}

static void try(enum phase phase, enum ending how, bool checkpoint_before) {
    struct server s;
    struct model_exchange *x = NULL;
    struct live_report report;
    struct status st = {0};
    server_make(&s);
    server_start_ok(&s);
    server_steps_ok(&s, FIRST_STEPS);
    if (checkpoint_before) {
        assert_true(server_live_checkpoint(&s, &report, &st));
    }
    struct library *lib = advance(&s, phase, &x);
    server_exchange_drop(x, true); /* as a kill leaves it: the files stay */
    catalog_release(s.catalog, lib);
    (void)server_check(&s);
    end(&s, how);
    server_start_ok(&s);
    (void)server_check(&s);
    background(&s);
    assert_int_equal(server_check(&s), 0);
    go_on(&s, phase);
    write_some(&s);
    background(&s);
    assert_int_equal(server_check(&s), 0);
    assert_true(server_stop(&s, &st));
    server_start_ok(&s);
    assert_true(s.report.from_checkpoint);
    assert_int_equal(server_check(&s), 0);
    server_crash(&s);
    server_remove(&s);
}

static void test_every_phase(void **state) {
    (void)state;
    for (int phase = 0; phase < PHASES; phase++) {
        for (int how = 0; how < ENDINGS; how++) {
            try((enum phase)phase, (enum ending)how, (phase + how) % 2 == 0);
        }
    }
}

/* What a side had is not made again: here nothing can be made. */
static void test_vectors_are_kept(void **state) {
    static const enum ending endings[] = {END_KILLED, END_CHECKPOINTED, END_CLOSED};
    (void)state;
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        struct server s;
        struct exchange_progress p = {0};
        struct status st = {0};
        bool more = true;
        server_make(&s);
        server_start_ok(&s);
        server_steps_ok(&s, FIRST_STEPS);
        struct library *lib = find(&s);
        struct reading rd;
        step_to(&s, lib, EXCHANGE_BUILDING);
        struct model_exchange *x = begin(&s, lib);
        fill(&s, x);
        server_exchange_drop(x, true);
        catalog_release(s.catalog, lib);
        end(&s, endings[i]);
        server_start_ok(&s);
        lib = find(&s);
        x = begin(&s, lib);
        while (more) {
            assert_true(exchange_step(x, STEP_DOCUMENTS, &more, &st));
        }
        exchange_progress(x, &p);
        library_reading(lib, &rd);
        assert_int_equal(p.reused, rd.view.live_chunks);
        server_exchange_drop(x, false);
        catalog_release(s.catalog, lib);
        server_crash(&s);
        server_remove(&s);
    }
}

/* --- a provider's model --- */

enum { PAID_BATCH = 8 };
static const uint64_t paid_fingerprint = 0xabcdef;

static void apply(struct server *s, struct buf *op) {
    struct status st = {0};
    bool done = server_exchange_apply(s, buf_slice(op), &st);
    if (!done) {
        fail_msg("%s", st.detail);
    }
    buf_fini(op);
}

/* As somebody asks for it, and as the supervisor says it once it knows the provider's model. */
static void begin_paid(struct server *s, struct library *lib) {
    struct library_definition d;
    struct reading rd;
    for (int pinned = 0; pinned <= 1; pinned++) {
        struct buf op = {0};
        definition_of(lib, &d);
        library_reading(lib, &rd);
        d.exchange = (struct library_exchange){.state = EXCHANGE_BUILDING, .since = 5, .task = {{3}}, .model = slice_str("paid")};
        d.exchange.fingerprint = pinned != 0 ? paid_fingerprint : 0;
        d.exchange.dimension = pinned != 0 ? FIXTURE_DIMENSION : 0;
        op_encode_library_model(&op, &rd.view.id, &d, false);
        apply(s, &op);
    }
}

static void copy_all(struct model_exchange *x) {
    struct status st = {0};
    bool more = true;
    while (more) {
        assert_true(exchange_step(x, STEP_DOCUMENTS, &more, &st));
    }
}

/* What the provider answers for one library, or side: logged. Returns for how many chunks. */
static uint32_t pay_for(struct server *s, struct library *lib) {
    float values[PAID_BATCH][FIXTURE_DIMENSION];
    struct op_vectors head = {.other = backlog_is_side(lib), .fingerprint = paid_fingerprint, .dimension = FIXTURE_DIMENSION};
    struct wanted w;
    struct reading rd;
    struct status st = {0};
    uint32_t paid = 0;
    assert_true(wanted_new(&w, PAID_BATCH, &st));
    library_reading(lib, &rd);
    for (;;) {
        struct buf op = {0};
        assert_true(backlog_claim_wanted(lib, SIZE_MAX, &w, &st));
        if (w.count == 0) {
            break;
        }
        for (size_t i = 0; i < w.count; i++) {
            fixture_embed(w.texts[i], values[i]);
            w.of[i].values = values[i];
        }
        head.count = (uint32_t)w.count;
        op_encode_vectors_of(&op, &rd.view.id, &head, w.of);
        apply(s, &op);
        paid += head.count;
    }
    wanted_free(&w);
    return paid;
}

static uint32_t pay(struct server *s) {
    struct library **all = NULL;
    size_t count = 0;
    uint32_t paid = 0;
    struct status st = {0};
    assert_true(catalog_acquire_linkable(s->catalog, &all, &count, &st));
    for (size_t i = 0; i < count; i++) {
        const struct embedder *model = library_remote_model(all[i]);
        paid += model != NULL && strcmp(model->name, "paid") == 0 ? pay_for(s, all[i]) : 0;
        catalog_release(s->catalog, all[i]);
    }
    free(all);
    return paid;
}

static struct library *find_paid(struct server *s, const struct uuid *id) {
    struct library *lib = catalog_acquire(s->catalog, id);
    assert_non_null(lib);
    return lib;
}

static uint64_t missing(struct library *lib) {
    struct reading rd;
    library_reading(lib, &rd);
    uint64_t count = 0;
    for (uint32_t slot = 0; (slot = backlog_next_wanted(lib, slot)) < rd.view.chunk_slots; slot++) {
        count++;
    }
    return count;
}

static void restart(struct server *s, enum ending how, bool bare) {
    struct status st = {0};
    end(s, how);
    if (bare) {
        assert_true(io_remove_tree(s->data.fd, "vectors", &st));
    }
    server_start_ok(s);
}

/* Stopped in the middle of it, behind the switch, and behind the switch back to the model that runs here; from arenas, and from log or snapshot alone. */
static void try_paid(enum ending how, bool bare) {
    struct server s;
    struct exchange_progress p = {0};
    struct library_definition d;
    struct reading rd;
    server_make(&s);
    server_start_ok(&s);
    server_steps_ok(&s, FIRST_STEPS);
    struct library *lib = find(&s);
    library_reading(lib, &rd);
    const struct uuid id = rd.view.id;
    begin_paid(&s, lib);
    struct model_exchange *x = begin(&s, lib);
    copy_all(x);
    exchange_progress(x, &p);
    assert_true(p.asks);
    assert_false(p.ready);
    uint32_t paid = pay(&s);
    assert_int_equal(paid, rd.view.live_chunks);
    server_exchange_drop(x, true);
    catalog_release(s.catalog, lib);
    restart(&s, how, bare);
    lib = find_paid(&s, &id);
    x = begin(&s, lib);
    copy_all(x);
    exchange_progress(x, &p);
    assert_int_equal(p.reused, paid);
    assert_int_equal(pay(&s), 0);
    write_some(&s);
    fill(&s, x);
    lib = switch_over(&s, x);
    server_exchange_drop(x, true);
    (void)pay(&s);
    assert_int_equal(missing(lib), 0);
    catalog_release(s.catalog, lib);
    (void)server_check(&s);
    restart(&s, how, bare);
    lib = find_paid(&s, &id);
    definition_of(lib, &d);
    assert_true(slice_is(d.embedding_model, "paid"));
    assert_int_equal(missing(lib), 0);
    background(&s);
    assert_int_equal(server_check(&s), 0);
    step_to(&s, lib, EXCHANGE_RETURNING);
    x = begin(&s, lib);
    fill(&s, x);
    lib = switch_over(&s, x);
    server_exchange_drop(x, false);
    background(&s);
    catalog_release(s.catalog, lib);
    assert_int_equal(server_check(&s), 0);
    server_crash(&s);
    server_remove(&s);
}

static void test_paid_vectors(void **state) {
    (void)state;
    for (int how = 0; how < ENDINGS; how++) {
        for (int bare = 0; bare <= (how == END_SNAPSHOT ? 1 : 0); bare++) {
            try_paid((enum ending)how, bare != 0);
        }
    }
}

/* A way back to a provider's model: what it has made is there, what was written meanwhile is pending, and the way is not kept up by it. */
static void test_back_to_paid(void **state) {
    (void)state;
    for (int how = 0; how < ENDINGS; how++) {
        struct server s;
        struct status st = {0};
        struct reading rd;
        server_make(&s);
        server_start_ok(&s);
        server_steps_ok(&s, FIRST_STEPS);
        struct library *lib = find(&s);
        library_reading(lib, &rd);
        const struct uuid id = rd.view.id;
        begin_paid(&s, lib);
        struct model_exchange *x = begin(&s, lib);
        copy_all(x);
        (void)pay(&s);
        fill(&s, x);
        lib = switch_over(&s, x);
        server_exchange_drop(x, false);
        step_to(&s, lib, EXCHANGE_NONE);
        /* now a provider's; away from it, and back */
        struct library_definition d;
        struct buf op = {0};
        definition_of(lib, &d);
        d.exchange = (struct library_exchange){.state = EXCHANGE_BUILDING, .since = 6, .task = {{4}}, .fingerprint = 77, .dimension = FIXTURE_DIMENSION, .model = slice_str("test")};
        op_encode_library_model(&op, &id, &d, false);
        apply(&s, &op);
        x = begin(&s, lib);
        fill(&s, x);
        lib = switch_over(&s, x);
        server_exchange_drop(x, true);
        catalog_release(s.catalog, lib);
        restart(&s, (enum ending)how, how == END_SNAPSHOT);
        lib = find_paid(&s, &id);
        assert_int_equal(library_exchange_state(lib), EXCHANGE_KEPT);
        write_some(&s);
        step_to(&s, lib, EXCHANGE_RETURNING);
        x = begin(&s, lib);
        fill(&s, x);
        lib = switch_over(&s, x);
        server_exchange_drop(x, false);
        library_reading(lib, &rd);
        assert_true(missing(lib) <= STEPS_BETWEEN * 3);
        assert_true(pay(&s) <= STEPS_BETWEEN * 3);
        assert_int_equal(missing(lib), 0);
        assert_true(server_link(&s, &st));
        catalog_release(s.catalog, lib);
        assert_int_equal(server_check(&s), 0);
        server_crash(&s);
        server_remove(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_phase), cmocka_unit_test(test_vectors_are_kept),
                                       cmocka_unit_test(test_paid_vectors), cmocka_unit_test(test_back_to_paid)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
