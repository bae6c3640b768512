/* submission.h - one SUBMIT frame as the supervisor holds it: decoded, checked, on its way through the committer. */
#ifndef QUIRE_PROC_SUBMISSION_H
#define QUIRE_PROC_SUBMISSION_H

#include "proc/channel.h"

struct submitted_op {
    struct op op;
    uint64_t version;     /* catalog_check_version */
    uint64_t model;       /* catalog_check_made_by */
    const float *vectors; /* num_chunks * dimension, or NULL */
    uint32_t dimension;
};

/* A thread of the supervisor's own that waits for what becomes of its op; under the committer's mutex. */
struct submission_wait {
    bool over;
    struct status outcome;
};

struct submission {
    struct submission *next;
    struct submission_wait *wait; /* else NULL: the worker of the next three waits */
    uint32_t slot; /* who waits for the answer */
    uint64_t generation;
    uint64_t request;
    int64_t arrived_us; /* monotonic */
    uint64_t bytes;     /* that it takes of the queue's budget */
    bool changes_keys; /* its one op is of API keys, and `credential` came with it */
    struct slice credential; /* in the payload */
    bool keyed; /* of a request with an Idempotency-Key: */
    struct idempotency_id id;
    struct idempotency_origin origin;
    struct channel_command command; /* of one without ops: the task to begin */
    size_t count;
    size_t decided; /* ops before this one have a result, or are in the batch under way; the committer's */
    struct submitted_op *ops;
    struct api_op_result *results;
    uint8_t *payload; /* the ops point into it */
    float *vectors;   /* aligned copies */
    /* of a keyed one, the committer's */
    bool settled;               /* it is decided as a whole, or in the batch under way */
    struct status refused;      /* code other than OK: as a whole, with this */
    struct buf answer;          /* not empty: the frame that tells what is remembered of the first request with this key */
    struct buf record;          /* the group that is logged */
    struct idempotency_held *held; /* what is remembered from then on */
    size_t record_index;        /* in the batch */
    uint64_t lsn;
    struct submission *next_keyed; /* in the batch */
};

/* Decodes a payload of malloc'd memory, which it takes over on success. STATUS_MALFORMED: the worker is broken. */
MUST_CHECK bool submission_decode(uint8_t *payload, size_t len, uint64_t max_ops, const struct limits *limits,
                                  struct submission **ret, struct status *st);
/* What a request with an Idempotency-Key becomes that begins a task: no ops, only the command and what is remembered of it. */
MUST_CHECK bool submission_of_task(const struct channel_command *command, struct submission **ret, struct status *st);
/* One op of the supervisor's own, of which a copy is made. */
MUST_CHECK bool submission_of_op(struct slice op, struct submission **ret, struct status *st);
void submission_free(struct submission *s); /* takes NULL */

#endif
