/* specimen.h - data directories of servers that were killed or stopped, kept in memory, to be damaged or started on as often as wanted. */
#ifndef QUIRE_TESTS_SPECIMEN_H
#define QUIRE_TESTS_SPECIMEN_H

#include "durable_server.h"
#include "tree.h"

struct specimen {
    const char *name;
    struct tree tree;
    uint32_t steps; /* whose effect it holds */
    uint64_t lsn;
};

/* Failures end the program. */
void specimen_log(struct specimen *x, uint32_t steps); /* nothing but a log of several segments, with a last batch of several records */
void specimen_quiet_log(struct specimen *x, uint32_t steps); /* the same, with a guard behind that batch */
void specimen_live(struct specimen *x);                /* two live checkpoints, and work behind them; killed */
void specimen_closed(struct specimen *x);              /* the same, stopped in order */
void specimen_archived(struct specimen *x);            /* a chain of archives, the log behind the last but one, and no arena */
void specimen_fini(struct specimen *x);
/* Writes it, and makes a server of it that knows what it holds. */
void specimen_open(const struct specimen *x, struct server *s, int dir_fd);

void specimen_must(bool ok, const char *what, const struct status *st); /* else the program ends */

#endif
