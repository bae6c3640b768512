/* specimen.c - see specimen.h. */
#include "specimen.h"

#include <stdio.h>
#include <stdlib.h>

void specimen_must(bool ok, const char *what, const struct status *st) {
    if (!ok) {
        (void)fprintf(stderr, "%s: %s\n", what, st->detail);
        exit(2);
    }
}

static void begin(struct server *s) {
    struct status st = {0};
    server_make(s);
    specimen_must(server_start(s, &st), "a start", &st);
}

static void keep(struct specimen *x, const char *name, struct server *s) {
    x->name = name;
    x->steps = s->account->steps;
    x->lsn = s->account->next_lsn - 1;
    server_crash(s);
    tree_read(&x->tree, s->data.fd);
    server_remove(s);
}

static void work(struct server *s, uint32_t until) {
    struct status st = {0};
    while (s->account->steps < until) {
        uint32_t left = until - s->account->steps;
        specimen_must(server_batch(s, left < 6 ? left : 1 + s->account->steps % 6, &st), "a batch", &st);
    }
}

static void remove_arenas(struct server *s) {
    struct status st = {0};
    server_crash(s);
    specimen_must(io_remove_tree(s->data.fd, "vectors", &st), "vectors", &st);
}

void specimen_log(struct specimen *x, uint32_t steps) {
    struct server s;
    begin(&s);
    work(&s, steps);
    remove_arenas(&s);
    keep(x, "log", &s);
}

void specimen_quiet_log(struct specimen *x, uint32_t steps) {
    struct server s;
    struct status st = {0};
    begin(&s);
    work(&s, steps);
    specimen_must(server_idle(&s, &st), "a quiet moment", &st);
    remove_arenas(&s);
    keep(x, "quiet log", &s);
}

static void take_checkpoints(struct server *s) {
    struct status st = {0};
    work(s, 60);
    specimen_must(server_link(s, &st) && server_snapshot(s, NULL, &st) && server_live_checkpoint(s, NULL, &st), "a checkpoint", &st);
    work(s, 90);
    specimen_must(server_link(s, &st) && server_live_checkpoint(s, NULL, &st), "a checkpoint", &st);
}

void specimen_live(struct specimen *x) {
    struct server s;
    begin(&s);
    take_checkpoints(&s);
    work(&s, 100);
    keep(x, "live", &s);
}

void specimen_closed(struct specimen *x) {
    struct server s;
    struct status st = {0};
    begin(&s);
    take_checkpoints(&s);
    work(&s, 95);
    specimen_must(server_link(&s, &st) && server_stop(&s, &st), "a stop", &st);
    keep(x, "closed", &s);
}

void specimen_archived(struct specimen *x) {
    struct server s;
    struct status st = {0};
    begin(&s);
    s.chain_max = 3;
    for (uint32_t steps = 60; steps <= 140; steps += 40) {
        work(&s, steps);
        specimen_must(server_snapshot(&s, NULL, &st), "a snapshot", &st);
    }
    work(&s, 150);
    remove_arenas(&s);
    keep(x, "archived", &s);
}

void specimen_fini(struct specimen *x) {
    tree_fini(&x->tree);
}

void specimen_open(const struct specimen *x, struct server *s, int dir_fd) {
    tree_write(&x->tree, dir_fd);
    server_make_in(s, dir_fd);
    s->account->steps = x->steps;
    s->account->acknowledged = x->steps;
    s->account->begun = x->steps;
    s->account->next_lsn = x->lsn + 1;
    s->account->steps_at_lsn[x->lsn] = x->steps;
}
