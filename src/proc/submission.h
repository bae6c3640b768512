/* submission.h - one SUBMIT frame as the supervisor holds it: decoded, checked, on its way through the committer. */
#ifndef QUIRE_PROC_SUBMISSION_H
#define QUIRE_PROC_SUBMISSION_H

#include "proc/channel.h"

struct submitted_op {
    struct op op;
    const float *vectors; /* num_chunks * dimension, or NULL */
    uint32_t dimension;
};

struct submission {
    struct submission *next;
    uint32_t slot; /* who waits for the answer */
    uint64_t generation;
    uint64_t request;
    int64_t arrived_us; /* monotonic */
    uint64_t bytes;     /* that it takes of the queue's budget */
    size_t count;
    size_t decided; /* ops before this one have a result, or are in the batch under way; the committer's */
    struct submitted_op *ops;
    struct api_op_result *results;
    uint8_t *payload; /* the ops point into it */
    float *vectors;   /* aligned copies */
};

/* Decodes a payload of malloc'd memory, which it takes over on success. STATUS_MALFORMED: the worker is broken. */
MUST_CHECK bool submission_decode(uint8_t *payload, size_t len, uint64_t max_ops, const struct limits *limits,
                                  struct submission **ret, struct status *st);
void submission_free(struct submission *s); /* takes NULL */

#endif
