/*
 * test_durable_exchange.c - a library's model is exchanged, and comes back, on a whole data directory that is killed, closed, checkpointed or made anew in every
 * phase. Models and steps: durable_server_exchange.c.
 */
#include "durable_server.h"

#include <setjmp.h>
#include <stddef.h>

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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_phase), cmocka_unit_test(test_vectors_are_kept)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
