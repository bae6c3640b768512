/* failing.c - see failing.h. */
#include "failing.h"

#include <stdio.h>
#include <string.h>

enum { BATCH_STEPS = 9, BATCHES = 8, BETWEEN = 2 };

const char *const failing_deed_names[DEEDS] = {
    [DEED_BATCHES] = "batches",
    [DEED_LIVE] = "a live checkpoint",
    [DEED_SNAPSHOT] = "a snapshot",
    [DEED_COMPACT] = "a compaction",
    [DEED_REBUILD] = "a rebuild",
    [DEED_EXCHANGE] = "an exchange of a model",
    [DEED_BACKGROUND] = "vectors and links",
    [DEED_STOP] = "a stop",
    [DEED_START_LIVE] = "a start from a live checkpoint",
    [DEED_START_CLOSED] = "a start from a closing checkpoint",
    [DEED_START_ARCHIVED] = "a start from archives and log",
};

void failing_collect(struct failing *f) {
    specimen_live(&f->live);
    specimen_closed(&f->closed);
    specimen_archived(&f->archived);
}

void failing_fini(struct failing *f) {
    specimen_fini(&f->live);
    specimen_fini(&f->closed);
    specimen_fini(&f->archived);
}

static bool is_start(enum failing_deed deed) {
    return deed >= DEED_START_LIVE;
}

static const struct specimen *specimen_for(const struct failing *f, enum failing_deed deed) {
    return deed == DEED_START_CLOSED ? &f->closed : deed == DEED_START_ARCHIVED ? &f->archived : &f->live;
}

/* So that the deed has something to do. */
static void prepare(struct server *s, enum failing_deed deed) {
    struct status st = {0};
    s->some_pending = true;
    s->chain_max = 2;
    s->steps_most = SCRIPT_MAX;
    specimen_must(server_start(s, &st), "the start before", &st);
    if (deed == DEED_SNAPSHOT) {
        specimen_must(server_snapshot(s, NULL, &st), "the snapshot before", &st);
    }
    specimen_must(deed == DEED_BATCHES || server_batch(s, BATCH_STEPS, &st), "the batch before", &st);
}

static bool commit_batches(struct server *s, struct status *st) {
    bool ok = true;
    for (int i = 0; ok && i < BATCHES; i++) {
        ok = server_batch(s, BATCH_STEPS, st) && server_idle(s, st);
    }
    return ok;
}

static bool perform(struct server *s, enum failing_deed deed, struct status *st) {
    struct uuid id = fixture_library_id(1);
    switch (deed) {
    case DEED_BATCHES:
        return commit_batches(s, st);
    case DEED_LIVE:
        s->steps_between = BETWEEN;
        return server_live_checkpoint(s, NULL, st);
    case DEED_SNAPSHOT:
        return server_snapshot(s, NULL, st);
    case DEED_COMPACT:
        s->steps_between = BETWEEN;
        return server_compact(s, &id, st);
    case DEED_REBUILD:
        s->steps_between = BETWEEN;
        return server_rebuild(s, &id, st);
    case DEED_EXCHANGE:
        s->steps_between = BETWEEN;
        return server_exchange(s, st);
    case DEED_BACKGROUND:
        return server_embed(s, st) && server_link(s, st);
    case DEED_STOP:
        return server_stop(s, st);
    default:
        return server_start(s, st);
    }
}

static struct promise promise_of(const struct server *s) {
    return (struct promise){s->account->acknowledged, s->account->begun, s->account->next_lsn - 1};
}

/* While the server runs: the libraries hold what was acknowledged, no more and no less. What the log may hold beyond it stays noted. */
static bool holds_acknowledged(struct campaign *c, struct server *s) {
    uint32_t begun = s->account->begun;
    uint64_t next_lsn = s->account->next_lsn;
    const struct promise exactly = {s->account->acknowledged, s->account->acknowledged, 0};
    bool ok = judge_contents(c, s, &exactly);
    s->account->begun = begun;
    s->account->next_lsn = next_lsn;
    return ok;
}

/* The log takes nothing until a start, and says so. */
static bool log_is_latched(struct server *s) {
    struct status st = {0};
    return !server_batch(s, 1, &st) && st.code == STATUS_IO;
}

/* The same once more, when nothing fails. */
static bool heals(struct campaign *c, struct server *s, enum failing_deed deed, enum failing_outcome outcome) {
    struct status st = {0};
    s->steps_between = 0;
    if (is_start(deed)) {
        server_crash(s);
    }
    if (perform(s, deed, &st)) {
        return true;
    }
    if (outcome == OUTCOME_ANY && deed != DEED_STOP && log_is_latched(s)) {
        campaign_count(c, "logs that asked for a start", 1);
        return true;
    }
    campaign_fault(c, CAMPAIGN_WRONG, "it does not heal: %s", st.detail);
    return false;
}

static bool judge_running(struct campaign *c, struct server *s, enum failing_deed deed, enum failing_outcome outcome) {
    return s->catalog == NULL || (holds_acknowledged(c, s) && heals(c, s, deed, outcome) && (s->catalog == NULL || holds_acknowledged(c, s)));
}

/* Whatever fails, there is a checkpoint whose files are all there; but what it has of a library whose model was exchanged since is of no use. */
static bool goes_on_with_all(struct campaign *c, const struct server *s, enum failing_deed deed) {
    bool exchanged = deed == DEED_EXCHANGE && strstr(s->report.why_not_checkpoint, "its model was exchanged") != NULL;
    if (is_start(deed) || s->report.rebuilt == 0 || exchanged) {
        return true;
    }
    campaign_fault(c, CAMPAIGN_WRONG, "a library had to be made anew: %s", s->report.why_not_checkpoint);
    return false;
}

void failing_run(struct campaign *c, struct failing *f, enum failing_deed deed, enum failing_outcome outcome, bool closely, int dir_fd) {
    struct server s;
    struct status st = {0};
    specimen_open(specimen_for(f, deed), &s, dir_fd);
    if (!is_start(deed)) {
        prepare(&s, deed);
    }
    s.own_work = f->own_work;
    f->begin(f->ctx);
    bool ok = perform(&s, deed, &st);
    f->end(f->ctx);
    s.own_work = NULL;
    campaign_injected(c, 1);
    campaign_count(c, ok ? "deeds that were done" : "deeds that failed", 1);
    if (!ok && outcome == OUTCOME_SUCCESS) {
        campaign_fault(c, CAMPAIGN_WRONG, "it fails: %s", st.detail);
    } else if (!ok && (st.code == STATUS_OK || st.detail[0] == '\0')) {
        campaign_fault(c, CAMPAIGN_WRONG, "it fails without a word");
    }
    ok = judge_running(c, &s, deed, outcome);
    const struct promise promise = promise_of(&s);
    server_crash(&s);
    if (ok && judge_starts(c, &s, "the start afterwards") && goes_on_with_all(c, &s, deed) && judge_contents(c, &s, &promise) && closely) {
        (void)judge_closely(c, &s);
    }
    server_crash(&s);
    server_remove(&s);
}
