/* judge.c - see judge.h. */
#include "judge.h"

#include "durable/check.h"

#include <inttypes.h>

bool judge_starts(struct campaign *c, struct server *s, const char *what) {
    struct status st = {0};
    if (server_start(s, &st)) {
        return true;
    }
    campaign_fault(c, CAMPAIGN_WRONG, "%s: it does not start: %s", what, st.detail);
    return false;
}

bool judge_contents(struct campaign *c, struct server *s, const struct promise *p) {
    struct oplog_position at;
    oplog_position_get(s->log, &at);
    if (at.durable_lsn < p->lsn) {
        campaign_fault(c, CAMPAIGN_LOST, "the log ends with LSN %" PRIu64 ", %" PRIu64 " was promised", at.durable_lsn, p->lsn);
        return false;
    }
    if (server_find(s, (uint32_t)p->promised, (uint32_t)p->begun)) {
        (void)server_check(s);
        return true;
    }
    if (server_find(s, 0, (uint32_t)p->promised)) {
        campaign_fault(c, CAMPAIGN_LOST, "the contents are those of %u steps; %" PRIu64 " were promised", s->account->steps, p->promised);
    } else {
        campaign_fault(c, CAMPAIGN_WRONG, "the contents are not those of %" PRIu64 " to %" PRIu64 " steps, nor of fewer", p->promised, p->begun);
    }
    return false;
}

bool judge_again(struct campaign *c, struct server *s) {
    const struct promise found = {s->account->steps, s->account->steps, s->account->next_lsn - 1};
    server_crash(s);
    return judge_starts(c, s, "a second start") && judge_contents(c, s, &found);
}

static bool must_do(struct campaign *c, bool ok, const char *what, const struct status *st) {
    if (!ok) {
        campaign_fault(c, CAMPAIGN_WRONG, "%s: %s", what, st->detail);
    }
    return ok;
}

static bool files_are_sound(struct campaign *c, struct server *s) {
    const struct check_options options = {.data_dir_fd = s->data.fd};
    struct check_report report = {0};
    struct status st = {0};
    bool ok = must_do(c, check_run(&options, &report, &st), "check", &st);
    if (report.total_faults > 0) {
        const struct check_fault *f = &report.faults[0];
        campaign_fault(c, CAMPAIGN_WRONG, "%s, %s: %s", check_part_name(f->part), f->file, f->what);
        ok = false;
    }
    check_report_fini(&report);
    return ok;
}

static bool goes_on(struct campaign *c, struct server *s) {
    struct status st = {0};
    if (s->account->steps + 2 * SERVER_BATCH_MAX > SCRIPT_MAX) {
        return true; /* the script is at its end */
    }
    return must_do(c, server_batch(s, 3, &st), "a batch", &st) && must_do(c, server_live_checkpoint(s, NULL, &st), "a live checkpoint", &st) &&
           must_do(c, server_batch(s, 3, &st), "a batch behind it", &st) && judge_again(c, s);
}

bool judge_closely(struct campaign *c, struct server *s) {
    struct status st = {0};
    const struct promise all = {s->account->steps, s->account->steps, s->account->next_lsn - 1};
    bool ok = must_do(c, server_embed(s, &st), "embedding", &st) && must_do(c, server_link(s, &st), "linking", &st);
    ok = must_do(c, !ok || server_stop(s, &st), "the stop", &st) && ok;
    if (!ok || !files_are_sound(c, s) || !judge_starts(c, s, "the start after a stop") || !judge_contents(c, s, &all)) {
        return false;
    }
    if (!s->report.from_checkpoint || server_check(s) != 0) {
        campaign_fault(c, CAMPAIGN_WRONG, "what was saved is not taken: %s", s->report.why_not_checkpoint);
        return false;
    }
    campaign_count(c, "looked at closely", 1);
    return goes_on(c, s);
}

void judge_count_start(struct campaign *c, const struct server *s) {
    const struct recovery_report *r = &s->report;
    campaign_count(c, r->from_checkpoint ? "starts from a closing checkpoint" : r->from_live ? "starts from a live checkpoint" : "starts from snapshot and log", 1);
    campaign_count(c, "libraries made anew beside others", r->rebuilt);
    campaign_count(c, "torn tails cut off", r->torn_bytes > 0 ? 1 : 0);
}
