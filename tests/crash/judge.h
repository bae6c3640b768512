/* judge.h - what the campaigns hold a started server against: the oracle of durable_server.h and the check of all files, with findings of campaign_program.h. */
#ifndef QUIRE_TESTS_JUDGE_H
#define QUIRE_TESTS_JUDGE_H

#include "campaign_program.h"
#include "durable_server.h"

/* What must be there, and what may be. */
struct promise {
    uint64_t promised; /* steps of the script */
    uint64_t begun;
    uint64_t lsn;
};

/* A refusal is a fault. `what`: which start. */
bool judge_starts(struct campaign *c, struct server *s, const char *what);
/* The contents are those of a number of steps within the promise; the account goes on from there. */
bool judge_contents(struct campaign *c, struct server *s, const struct promise *p);
/* Starts again; what the first start found is found once more. */
bool judge_again(struct campaign *c, struct server *s);
/* Missing vectors are made, all is linked, it stops in order, the check of all files finds nothing; then it starts, goes on, and is killed and started once
 * more. The server runs before and afterwards, unless false is returned. */
bool judge_closely(struct campaign *c, struct server *s);
/* From what it started, for the counts. */
void judge_count_start(struct campaign *c, const struct server *s);

#endif
