/* recovery_internal.h - what the files of a recovery share; nobody else includes this. recovery_arenas.c takes arenas as they are, or goes on with them;
 * recovery.c makes them anew, replays the log, and has the whole. */
#ifndef QUIRE_DURABLE_RECOVERY_INTERNAL_H
#define QUIRE_DURABLE_RECOVERY_INTERNAL_H

#include "durable/checkpoint.h"
#include "durable/log_survey.h"
#include "durable/recovery.h"
#include "durable/salvage.h"

enum { RECOVERY_PATIENCE_US = 1000000 };

struct recovery {
    const struct recovery_options *options;
    struct catalog *catalog;
    int wal_fd;
    int snapshots_fd;
    int vectors_fd;
    struct oplog *log;
    struct salvage *salvage;
    struct checkpoint checkpoint;
    uint64_t reached_lsn;        /* of a checkpoint that could be read */
    struct live_checkpoint live; /* gone on from, or found beside closed arenas */
    bool *resumed;               /* by its libraries */
    bool from_live;
    struct log_survey survey;   /* of the log behind it */
    uint64_t surveyed_until;    /* in a damaged log */
    struct uuid_list exchanged; /* libraries that have got another model during the replay */
    float *leftover;
    size_t leftover_cap;
    struct recovery_report report;
    /* while ops are applied */
    uint64_t lsn; /* of a snapshot's ops: the snapshot's */
    uint64_t done;
    uint64_t total;
    int64_t told_us;
    const char *doing;
    bool no_way_on; /* what failed does not lie in the snapshot that was being loaded */
};

/* --- recovery.c --- */
void recovery_tell(struct recovery *r, const char *what, double fraction);
/* Closes the log first when it was open. */
MUST_CHECK bool recovery_open_log(struct recovery *r, uint64_t expect_lsn, struct status *st);
uint64_t recovery_last_lsn(const struct recovery *r);
/* Takes back what is in the catalog, but the libraries that are resumed. */
MUST_CHECK bool recovery_drop_all(struct recovery *r, struct status *st);

/* --- recovery_arenas.c --- */
/* The arenas of an orderly stop, where they can be taken as they are; *ret_done false: they cannot. */
MUST_CHECK bool recovery_take_arenas(struct recovery *r, bool *ret_done, struct status *st);
/* Those of a live checkpoint, to go on with; *ret_done false: there is none. Some of its libraries may have to be made anew. */
MUST_CHECK bool recovery_take_live(struct recovery *r, bool *ret_done, struct status *st);
bool recovery_is_resumed(const struct recovery *r, const struct uuid *id);

#endif
