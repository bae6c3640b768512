/*
 * reordered_writes.c - campaign "reordered-writes": what the power takes from a disk that loses, tears and reorders whatever was not synced.
 *
 * A history is the recorded life of a server without processes (durable_server.h): batches over several libraries, segments of the log that come and go,
 * live checkpoints with commits between their steps, snapshots, compactions, missing vectors made, links, orderly stops, kills at any call, and the starts
 * behind those. Then the power fails, at a moment of it and with an outcome that seeds draw (disk.h), and on that disk a server is started:
 *
 *   1. it starts
 *   2. what was promised before the moment is there, each document with its text, and nothing that was not begun; vectors that are there are right
 *   3. a second start finds the same
 *   4. of some: missing vectors are made and linked, it stops in order, and the check of all files (durable/check.h) finds nothing; what it takes then stays
 *
 * What a start has shown counts as promised from then on. A history of the next depth begins on a disk that a power loss has left, so that recovery itself
 * is recorded, and torn. Only states that differ count.
 */
#include "disk.h"
#include "judge.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

enum {
    STATES_OF_ONE = 80, /* of a history */
    DEPTH = 3,
    ACTIONS_LEAST = 6,
    ACTIONS_MORE = 30,
    STEPS_OF_ONE = 130,
    DRAWS_MAX = 30,
    DEEP_EVERY = 5,
    KILL_WITHIN = 120,
    KILL_PERCENT = 20,
    HUNDRED = 100
};

struct history {
    struct campaign *c;
    struct disk *disk;
    uint64_t number;
    uint64_t random;
    uint32_t steps_most;
};

/* --- a history --- */

static void note(void *ctx, const struct account *a) {
    struct history *h = (struct history *)ctx;
    disk_note(h->disk, (struct disk_mark){.begun = a->begun, .promised = a->acknowledged, .promised_lsn = a->next_lsn - 1});
}

static uint32_t below(struct history *h, uint32_t most) {
    return (uint32_t)(campaign_random(&h->random) % most);
}

static bool has_steps(const struct history *h, const struct server *s) {
    return s->account->steps < h->steps_most;
}

static bool act_batches(struct history *h, struct server *s, struct status *st) {
    bool ok = true;
    for (uint32_t i = 1 + below(h, 4); ok && i > 0 && has_steps(h, s); i--) {
        ok = server_batch(s, 1 + below(h, below(h, 2) == 0 ? 3 : SERVER_BATCH_MAX), st) && (below(h, 3) > 0 || server_idle(s, st));
    }
    return ok;
}

static bool act_snapshot(struct history *h, struct server *s, struct status *st) {
    struct snapshot_retention retention = {.keep = 1 + below(h, 2)};
    struct snapshot_pruned pruned;
    return server_snapshot(s, NULL, st) && (below(h, 2) == 0 || snapshot_prune(s->snapshots_fd, &retention, &pruned, st));
}

static bool act_live(struct history *h, struct server *s, struct status *st) {
    s->steps_between = below(h, 3);
    bool ok = server_live_checkpoint(s, NULL, st);
    s->steps_between = 0;
    return ok;
}

static bool act_compact(struct history *h, struct server *s, struct status *st) {
    struct uuid id = fixture_library_id(1);
    s->steps_between = below(h, 2);
    bool ok = server_compact(s, &id, st);
    s->steps_between = 0;
    return ok;
}

static bool act_rebuild(struct history *h, struct server *s, struct status *st) {
    struct uuid id = fixture_library_id(1);
    s->steps_between = below(h, 2);
    bool ok = server_rebuild(s, &id, st);
    s->steps_between = 0;
    return ok;
}

static bool act_exchange(struct history *h, struct server *s, struct status *st) {
    s->steps_between = below(h, 2);
    bool ok = server_exchange(s, st);
    s->steps_between = 0;
    return ok;
}

static bool act_background(struct history *h, struct server *s, struct status *st) {
    return (below(h, 2) == 0 || server_embed(s, st)) && server_link(s, st);
}

/* Also starts again. */
static bool act_stop(struct history *h, struct server *s, struct status *st) {
    return (below(h, 2) == 0 || act_live(h, s, st)) && server_stop(s, st) && server_start(s, st);
}

typedef bool (*action_fn)(struct history *h, struct server *s, struct status *st);

static action_fn draw_action(struct history *h) {
    static const action_fn actions[] = {act_batches, act_batches, act_batches,    act_batches, act_batches,    act_live,
                                        act_live,    act_live,    act_background, act_snapshot, act_compact, act_rebuild, act_exchange,
                                        act_stop};
    return actions[below(h, sizeof actions / sizeof actions[0])];
}

/* From a drawn call on, nothing comes through: to the disk that is a kill. */
static void killed(struct history *h, struct server *s, action_fn action) {
    struct fault_plan plan = {.calls = UINT32_MAX, .after = below(h, KILL_WITHIN), .times = UINT64_MAX, .error = EIO};
    struct status ignored = {0};
    fault_arm(&plan);
    (void)!action(h, s, &ignored);
    fault_disarm();
}

static bool start_again(struct server *s, const char *after) {
    struct history *h = (struct history *)s->noted_ctx;
    struct status st = {0};
    server_crash(s);
    if (!server_start(s, &st)) {
        campaign_fault(h->c, CAMPAIGN_WRONG, "no start after %s: %s", after, st.detail);
        return false;
    }
    (void)server_check(s);
    return true;
}

static bool act(struct history *h, struct server *s) {
    action_fn action = draw_action(h);
    struct status st = {0};
    if (below(h, HUNDRED) < KILL_PERCENT) {
        killed(h, s, action);
        return start_again(s, "a kill");
    }
    if (!action(h, s, &st)) {
        campaign_fault(h->c, CAMPAIGN_WRONG, "%s", st.detail);
        return false;
    }
    return true;
}

/* before: the history on one of whose disks this one begins; NULL: on an empty one. */
static bool record(struct history *h, const struct history *before) {
    struct server s;
    struct disk_state drawn = {.how = "new"};
    struct disk_mark mark = {0};
    struct status st = {0};
    server_make(&s);
    if (before != NULL) {
        size_t moment = disk_moment(before->disk, campaign_random(&h->random));
        disk_make(before->disk, moment, campaign_random(&h->random), s.data.fd, &drawn);
        mark = disk_mark_at(before->disk, moment);
    }
    s.noted = note;
    s.noted_ctx = h;
    s.some_pending = below(h, 2) == 0;
    s.chain_max = below(h, 2) * 3;
    h->steps_most = (uint32_t)mark.begun + STEPS_OF_ONE < SCRIPT_MAX ? (uint32_t)mark.begun + STEPS_OF_ONE : SCRIPT_MAX;
    s.steps_most = h->steps_most;
    h->disk = disk_new(s.data.fd);
    disk_start(h->disk);
    disk_note(h->disk, mark);
    campaign_doing(h->c, "history %" PRIu64 " (%s)", h->number, drawn.how);
    bool ok = server_start(&s, &st);
    if (!ok || !server_find(&s, (uint32_t)mark.promised, (uint32_t)mark.begun)) {
        campaign_fault(h->c, CAMPAIGN_WRONG, "a history does not begin: %s", ok ? "other contents" : st.detail);
        ok = false;
    }
    if (ok) {
        note(h, s.account);
    }
    for (uint32_t actions = ACTIONS_LEAST + below(h, ACTIONS_MORE); ok && actions > 0 && !campaign_interrupted(h->c); actions--) {
        ok = act(h, &s);
    }
    disk_stop(h->disk);
    server_crash(&s);
    server_remove(&s);
    campaign_count(h->c, "histories", 1);
    campaign_count(h->c, "moments", disk_changes(h->disk) - disk_first(h->disk));
    return ok;
}

/* --- a state --- */

static void keep_state(struct campaign *c, const uint64_t what[2], void *ctx) {
    const struct history *h = (const struct history *)ctx;
    char name[64];
    struct disk_state state;
    struct status st;
    int fd = -1;
    (void)snprintf(name, sizeof name, "found-%" PRIu64 "-%" PRIu64 "-%" PRIu64, h->number, what[0], what[1]);
    if (io_mkdir_at(c->place_fd, name, 0700, &st) && io_open_at(c->place_fd, name, O_RDONLY | O_DIRECTORY, 0, &fd, &st)) {
        disk_make(h->disk, (size_t)what[0], what[1], fd, &state);
    }
    io_close(&fd);
}

static void check_state(struct campaign *c, const struct history *h, size_t moment, uint64_t seed, int dir_fd, bool deep) {
    struct server s;
    struct disk_state state;
    struct disk_mark mark = disk_mark_at(h->disk, moment);
    const struct promise promise = {mark.promised, mark.begun, mark.promised_lsn};
    disk_make(h->disk, moment, seed, dir_fd, &state);
    campaign_doing(c, "history %" PRIu64 ", moment %zu of %zu, state %" PRIu64 " (%s: without %u names, %u pages, %u sizes; %u torn)", h->number, moment,
                   disk_changes(h->disk), seed, state.how, state.dropped_names, state.dropped_pages, state.dropped_sizes, state.torn_pages);
    campaign_doing_numbers(c, moment, seed);
    server_make_in(&s, dir_fd);
    int64_t begun = clock_monotonic_us();
    if (judge_starts(c, &s, "the start")) {
        campaign_took(c, clock_monotonic_us() - begun);
        judge_count_start(c, &s);
        if (judge_contents(c, &s, &promise) && judge_again(c, &s) && deep) {
            (void)judge_closely(c, &s);
        }
    }
    server_crash(&s);
    server_remove(&s);
}

/* Draws a state that nobody has seen. */
static void one_state(struct campaign *c, uint64_t item, int dir_fd, void *ctx) {
    const struct history *h = (const struct history *)ctx;
    uint64_t random = c->seed + h->number * UINT64_C(1000003) + item * UINT64_C(7919);
    for (int i = 0; i < DRAWS_MAX; i++) {
        struct disk_state state;
        size_t moment = disk_moment(h->disk, campaign_random(&random));
        uint64_t seed = campaign_random(&random);
        disk_make(h->disk, moment, seed, -1, &state);
        if (campaign_is_new(c, state.hash)) {
            check_state(c, h, moment, seed, dir_fd, item % DEEP_EVERY == 0);
            campaign_injected(c, 1);
            return;
        }
    }
    campaign_count(c, "drawn in vain", 1);
}

/* --- the whole --- */

int main(int argc, char **argv) {
    static const struct campaign_sizes sizes = {40, 400, 24000};
    struct campaign c;
    struct history row[DEPTH] = {{.number = 0}};
    uint64_t random = 0;
    campaign_begin(&c, argc, argv, "reordered-writes", &sizes);
    log_set_level(LOG_LEVEL_ERROR);
    (void)oracle_digest(0);
    random = c.seed;
    uint64_t of_one = c.count / DEPTH < STATES_OF_ONE ? c.count / DEPTH : STATES_OF_ONE;
    uint64_t left = c.count;
    for (uint64_t number = 0; left > 0 && !campaign_interrupted(&c); number++) {
        size_t depth = (size_t)(number % DEPTH);
        struct history *h = &row[depth];
        uint64_t states = left < of_one ? left : of_one;
        *h = (struct history){.c = &c, .number = number, .random = campaign_random(&random)};
        if (record(h, depth > 0 ? &row[depth - 1] : NULL)) {
            c.keep = keep_state;
            c.keep_ctx = h;
            campaign_run(&c, states, one_state, h);
            c.keep = NULL;
        }
        left -= states;
        if (depth == DEPTH - 1 || left == 0) {
            for (size_t i = 0; i <= depth; i++) {
                disk_free(row[i].disk);
            }
        }
    }
    return campaign_end(&c);
}
