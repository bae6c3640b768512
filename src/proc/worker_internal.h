/*
 * worker_internal.h - what the files of a worker share: worker.c (birth and loop), worker_request.c (one request), worker_desk.c (several in hand). Nobody else includes
 * this.
 */
#ifndef QUIRE_PROC_WORKER_INTERNAL_H
#define QUIRE_PROC_WORKER_INTERNAL_H

#include "proc/config.h"
#include "proc/fiber.h"
#include "proc/intake.h"
#include "proc/models.h"
#include "proc/worker.h"
#include "proc/worker_link.h"

#include <fcgiapp.h>

#define DESK_SEATS_MAX 256

struct worker;

/* What it takes to answer one request. A worker has one for what it serves alone, and its desk has one for each write that is in hand beside others. */
struct seat {
    struct worker *worker;
    FCGX_Request request;
    struct api *api;
    struct api_response response;
    struct buf body;
    struct worker_call call;
    bool is_write;    /* it came by the socket for writes, so its time began with nginx */
    int64_t begun_us; /* when the request under way began; 0: none is */
    /* of the desk's */
    struct fiber *fiber;
    int fd;           /* the connection */
    int64_t until_us; /* how long it may stay put aside */
    size_t bytes;     /* of the desk's, while it is */
    bool late;        /* that time is over */
};

/* worker_desk.c */
struct desk {
    struct seat *seats[DESK_SEATS_MAX];
    size_t made;
    size_t in_hand;
    size_t bytes; /* that those in hand have sent down the channel, which is about what they keep of it here, and of vectors from providers */
    int coming_fd; /* a connection that has said nothing yet; -1: none */
    int64_t coming_until_us;
    int alone_fd; /* one whose request is served when nothing is in hand any more; -1: none */
    bool alone_streams;
    int64_t alone_until_us; /* then it is served beside those in hand */
    bool ending; /* such a one has come: nothing more is taken until nothing is in hand */
    bool leaving; /* the worker is told to go: nothing more is taken */
};

struct worker {
    uint32_t slot;
    struct config config;
    struct intake intake;
    struct embed_registry models;
    struct control *control;
    struct control_worker *page; /* this worker's slot */
    const struct key_page *keys;
    struct store_reader *reader;
    struct search_scratch *scratch;
    struct worker_link link;
    struct seat alone;
    struct desk desk;
    int vectors_fd, snapshots_fd;
};

/* --- worker_request.c --- */

/* With an api of its own. */
MUST_CHECK bool seat_init(struct seat *s, struct worker *w, struct status *st);
/* Of one that seat_init has refused, too. */
void seat_fini(struct seat *s);
/* Hands the connection to libfcgi, and answers the request on it; it is closed in any case. */
void seat_serve(struct seat *s, int fd);

/* --- worker_desk.c --- */

void desk_init(struct desk *d);
void desk_fini(struct worker *w);
/* A connection of the socket for writes, which is the desk's now. */
void desk_take(struct worker *w, int fd);
/* Something is in hand. */
bool desk_is_busy(const struct worker *w);
/* While it is: takes more, waits until something happens, goes on with what can go on. *ret_fd, *ret_streams: a connection that is the caller's to serve now, nothing else
 * being in hand; -1: none. */
void desk_turn(struct worker *w, int *ret_fd, bool *ret_streams);

#endif
