/*
 * worker_link.h - a worker's end of its channel: ops and commands go to the supervisor, answers come back.
 *
 * A worker may have several requests in hand: each has a struct worker_call, all share the link. Each has one frame under way at a time.
 */
#ifndef QUIRE_PROC_WORKER_LINK_H
#define QUIRE_PROC_WORKER_LINK_H

#include "proc/channel.h"

struct worker_link {
    int fd;
    const struct control *control;
    uint64_t max_bytes;
    int64_t deadline_ms; /* for all that one request sends */
    int64_t query_ms;    /* for a query's vector */
    uint64_t request;    /* the number of the last frame sent */
    bool broken;         /* a frame was cut short, or the supervisor is gone: nothing more can be sent */
    struct buf out;
    struct buf pending; /* whole frames of requests that are put aside, not sent yet */
    struct buf in; /* bytes received, not taken yet */
};

/* What one request asks for over the link. */
struct worker_call {
    struct worker_link *link;
    int64_t waited_ms;   /* of its time gone before the request came here */
    int64_t deadline_us; /* of the request under way; 0: nothing was sent yet */
    uint64_t request;    /* the number of its last frame */
    size_t sent_bytes;   /* of that frame */
    size_t vector_bytes; /* of vectors that a provider has made and that it is asked for */
    /* Puts the request aside until the frame in front is its answer, or the link is broken, and meanwhile others have their turn. False: the time is over. NULL:
     * nobody else is there, it waits by itself. */
    bool (*park)(void *ctx, int64_t deadline_us);
    void *ctx;
};

void worker_link_init(struct worker_link *l, int fd, const struct control *control, const struct limits *limits,
                      uint64_t deadline_ms, uint64_t query_ms);
void worker_link_fini(struct worker_link *l);

/* For whoever has put requests aside: sends what they have to say. What cannot be sent within their time breaks the link. */
void worker_link_flush(struct worker_link *l);
/* Reads what has come. False: the link is broken. */
MUST_CHECK bool worker_link_receive(struct worker_link *l);
/* The number of the request that the frame in front answers. False: no whole one is there, or the link is broken. */
bool worker_link_front(struct worker_link *l, uint64_t *ret_request);
/* Drops it: nobody waits for it any more. */
void worker_link_skip(struct worker_link *l);

/* Another request, which has waited so long already. Its time here begins with what it sends first. */
void worker_link_begin(struct worker_call *c, int64_t waited_ms);

/* For struct api_host; ctx is the struct worker_call. */
MUST_CHECK bool worker_link_submit(void *ctx, struct api_keyed *key, const struct api_submission *ops, size_t count,
                                   struct api_op_result *results, struct status *st);
MUST_CHECK bool worker_link_change_keys(void *ctx, struct slice credential, struct slice op, uint64_t *ret_lsn, struct status *st);
MUST_CHECK bool worker_link_embed(void *ctx, const struct embedder *model, enum embed_role role, const struct slice *texts, size_t count,
                                  struct buf *values, struct api_embedded *ret, struct status *st);
MUST_CHECK bool worker_link_recall(void *ctx, struct api_keyed *key, struct status *st);
MUST_CHECK bool worker_link_command(void *ctx, struct api_keyed *key, enum api_command command, const struct uuid *argument,
                                    struct uuid *ret_task, struct status *st);

#endif
