/*
 * durable_server.h - a whole data directory at work, without processes: recovery, then the committer's way of a write, snapshots,
 * and stops of all kinds. And an oracle: what the libraries must look like after each step of a fixed script.
 */
#ifndef QUIRE_TESTS_DURABLE_SERVER_H
#define QUIRE_TESTS_DURABLE_SERVER_H

#include "durable_fixture.h"
#include "store_fixture.h"

#include "durable/recovery.h"
#include "store/exchange.h"
#include "store/op_group.h"

enum { SCRIPT_MAX = 400, LSN_MAX = 1024, SERVER_BATCH_MAX = 16 };

/* What must outlive the server, even one that is killed: shared memory. */
struct account {
    uint32_t steps;        /* of the script, begun */
    uint32_t acknowledged; /* of the script */
    uint32_t begun;        /* the most that may be on the disk: those begun and not acknowledged since the last acknowledgement count */
    uint64_t next_lsn;
    uint32_t steps_at_lsn[LSN_MAX]; /* steps whose effect a log that ends with this LSN has */
};

struct server {
    struct scratch data; /* path "": it is somebody else's */
    int vectors_fd;
    int snapshots_fd;
    int control_fd;
    struct control *control;
    struct limits limits;
    struct embed_registry models;
    struct catalog *catalog;
    struct oplog *log;
    struct recovery_report report;
    struct idempotency *keys; /* every third step has one, and is logged as a group */
    struct key_table *api_keys; /* some steps add one or remove it */
    struct account *account;
    bool repair;
    uint32_t told; /* times that recovery told how far it is */
    struct live_checkpointer *live; /* made with the first live checkpoint after a start */
    uint32_t steps_between;         /* so many steps are done after each call that a live checkpoint makes, up to steps_most */
    uint32_t steps_most;
    uint32_t chain_max;             /* of snapshots: archives behind an incremental one; 0: all are whole */
    struct snapshot_base *base;     /* the last one taken since the start */
    bool some_pending;              /* some documents come without vectors, for server_embed */
    void (*noted)(void *ctx, const struct account *a); /* told before a batch is appended and after it was published; may be NULL */
    void *noted_ctx;
    void (*own_work)(bool begins); /* around what the fixture does itself, so that nothing is made to fail there; may be NULL */
};

/* An empty data directory. */
void server_make(struct server *s);
/* The same on a directory of the caller's, with what it holds; server_remove leaves it. */
void server_make_in(struct server *s, int data_dir_fd);
void server_remove(struct server *s); /* closed before */

bool server_start(struct server *s, struct status *st);
void server_start_ok(struct server *s);
/* Does the next step of the script. false: it was not acknowledged. */
bool server_step(struct server *s, struct status *st);
void server_steps_ok(struct server *s, uint32_t until);
/* What the committer does when nothing comes for a moment. */
bool server_idle(struct server *s, struct status *st);
/* Up to `most` steps (at most SERVER_BATCH_MAX) in one batch, fewer where they depend on each other: as the committer does it. */
bool server_batch(struct server *s, uint32_t most, struct status *st);
bool server_snapshot(struct server *s, struct snapshot_info *ret, struct status *st); /* also tells the log */
/* A live checkpoint, with steps of the script between its calls; also tells the log. */
bool server_live_checkpoint(struct server *s, struct live_report *ret, struct status *st);
/* What threads of the supervisor do behind commits: make missing vectors, link. */
bool server_embed(struct server *s, struct status *st);
bool server_link(struct server *s, struct status *st);
/* Makes a library's arena anew without what is deleted, with steps between as above. */
bool server_compact(struct server *s, const struct uuid *library, struct status *st);
/* Builds a library's graph anew beside the one that serves, with steps between, and switches. */
bool server_rebuild(struct server *s, const struct uuid *library, struct status *st);
/* An exchange of the model of the largest library that has "test" (or "twin"), there and back; goes on with one that is under way. durable_server_exchange.c, which
 * has its parts, too. */
bool server_exchange(struct server *s, struct status *st);
bool server_exchange_find(struct server *s, struct library **ret, struct status *st); /* acquired; NULL: there is none */
/* Checks, logs, applies and publishes one op. */
bool server_exchange_apply(struct server *s, struct slice bytes, struct status *st);
bool server_exchange_step(struct server *s, struct library *lib, uint32_t state, struct status *st); /* that does not switch */
bool server_exchange_background(struct server *s, struct status *st);
bool server_exchange_begin(struct server *s, struct library *lib, struct model_exchange **ret, struct status *st);
bool server_exchange_fill(struct server *s, struct model_exchange *x, struct status *st);
bool server_exchange_switch(struct server *s, struct model_exchange *x, struct library **lib, bool *ret_goes_on, struct status *st);
void server_exchange_drop(struct model_exchange *x, bool keep_files); /* takes NULL */
/* Closes everything and leaves the files as they are, like a kill. */
void server_crash(struct server *s);
/* LOG_CLOSE and a checkpoint, then as above. */
bool server_stop(struct server *s, struct status *st);

/* --- the oracle --- */
/* Digests of the libraries after 0 .. SCRIPT_MAX steps; computed once. */
uint64_t oracle_digest(uint32_t steps);
/* Live chunks after so many steps. */
uint32_t oracle_chunks(uint32_t steps);
uint64_t catalog_digest(struct catalog *c, uint32_t *ret_chunks, uint32_t *ret_with_vector);
/* The libraries are what some number of steps, at least as many as were acknowledged, makes of them; every vector that is there
 * is right. Returns the chunks without a vector. */
uint32_t server_check(struct server *s);
/* The same for a start on files whose account is known only in part: finds the number of steps, between `promised` and `begun`, whose effect is there, and
 * goes on from it. false: there is none. */
bool server_find(struct server *s, uint32_t promised, uint32_t begun);

#endif
