/*
 * channel.h - the frames between a worker and the supervisor, over one socketpair per worker.
 *
 *   frame    length u32 (of what follows, at most the channel's maximum), kind u8, 3 zero bytes, request u64, payload
 *
 *   SUBMIT   worker -> supervisor: keyed u8 (1: of a request with an Idempotency-Key: scope and body, 16 bytes each, seed 16
 *            bytes, created_at u64; 2: one op that changes API keys, led by the key that the request came with, varint length + bytes, which the supervisor
 *            looks at itself); count varint; per op: op (varint length + bytes), version of the document that it may change u64 (0: any,
 *            or none), fingerprint of the model that made its vectors u64 (0: the caller's, or none), vector count varint, dimension varint, count * dimension float32 (count 0: none)
 *   RESULTS  supervisor -> worker: remembered u8 (1: of an earlier request with the key: seed 16 bytes, created_at u64); lsn varint
 *            of a keyed request; count varint; per op: status code u8, subject varint, lsn varint,
 *            flags varint (1: replaced), chunks added varint, chunks deleted varint, detail (varint length + text)
 *   COMMAND  worker -> supervisor: command u8, 16 bytes (argument), keyed u8 (1: scope and body, seed, created_at as above, and the
 *            id of the task to begin, 16 bytes). Its answer is an ANSWER; to a keyed one that is done, RESULTS of no ops
 *   ANSWER   supervisor -> worker: status code u8, subject varint, 16 bytes (task), detail (varint length + text);
 *            to a SUBMIT it means that all of it was refused, to a RECALL that nothing is remembered (STATUS_OK)
 *   RECALL   worker -> supervisor: scope and body, 16 bytes each
 *   EMBED, EMBEDDED   texts for a provider, and their vectors: provider_frames.h
 *
 * The supervisor believes nothing in a frame: lengths are checked before anything is allocated, ops go through op_decode,
 * vectors must be finite and of the right number. A worker that sends what does not decode is a broken worker: it is killed, its
 * frame dropped. Each request that a worker has in hand has one frame under way at a time. The supervisor's end is non-blocking; a worker that reads no answer
 * loses it.
 */
#ifndef QUIRE_PROC_CHANNEL_H
#define QUIRE_PROC_CHANNEL_H

#include "api/api.h"
#include "base/bytes.h"
#include "store/limits.h"

#define CHANNEL_HEADER_BYTES 16

/* The longest frame: an op with the vectors that were computed for it. A submission of several ops that would be longer goes in
 * several frames; vectors that do not fit are left out, and made again by the supervisor. */
static inline uint64_t channel_max_bytes(const struct limits *limits) {
    return 2 * limits->max_op_bytes + 65536;
}

enum channel_kind {
    CHANNEL_SUBMIT = 1,
    CHANNEL_RESULTS = 2,
    CHANNEL_COMMAND = 3,
    CHANNEL_ANSWER = 4,
    CHANNEL_RECALL = 5,
    CHANNEL_EMBED = 6,
    CHANNEL_EMBEDDED = 7,
    CHANNEL_MODEL = 8 /* from the provider process only */
};

struct channel_frame {
    uint8_t kind;
    uint64_t request;
    struct slice payload;
};

struct channel_header {
    uint8_t kind;
    uint64_t request;
    uint32_t payload_bytes;
};

/* Begins a frame in out (cleared) / fills in its length at the end. */
void channel_frame_begin(struct buf *out, enum channel_kind kind, uint64_t request);
void channel_frame_end(struct buf *out);
/* The first bytes of a frame, before the rest is there. */
MUST_CHECK bool channel_header_parse(const uint8_t header[CHANNEL_HEADER_BYTES], uint64_t max_bytes, struct channel_header *ret,
                                     struct status *st);
/* One whole frame at the begin of `bytes`? *ret_used: its bytes. false with STATUS_OK: not whole yet; with STATUS_MALFORMED:
 * never will be. */
bool channel_frame_parse(struct slice bytes, uint64_t max_bytes, struct channel_frame *ret, size_t *ret_used, struct status *st);

/* key: NULL: none. */
void channel_put_submission(struct buf *out, const struct api_keyed *key, const struct api_submission *ops, size_t count);
/* Bytes that one op takes in a submission, at most. */
size_t channel_submission_bytes(const struct api_submission *op);
/* A KEY_ADD or KEY_REMOVE. */
void channel_put_key_change(struct buf *out, struct slice credential, struct slice op);
/* lsn: of a keyed request, else 0. */
void channel_put_results(struct buf *out, uint64_t lsn, const struct api_op_result *results, size_t count);
void channel_put_remembered(struct buf *out, const struct idempotency_entry *entry);

struct channel_results {
    bool remembered;
    struct idempotency_origin origin; /* of the remembered request */
    uint64_t lsn;
    uint64_t count;
    struct reader rest;
};
MUST_CHECK bool channel_results_begin(struct slice payload, struct channel_results *ret, struct status *st);
/* All of them: r->count. */
MUST_CHECK bool channel_results_take(struct channel_results *r, struct api_op_result *results, struct status *st);

void channel_put_recall(struct buf *out, const struct idempotency_id *id);
MUST_CHECK bool channel_get_recall(struct slice payload, struct idempotency_id *ret, struct status *st);

/* The begin of a SUBMIT payload; what follows is walked. */
struct channel_submission {
    bool keyed;
    struct idempotency_id id;
    struct idempotency_origin origin;
    bool changes_keys;
    struct slice credential; /* then */
    uint64_t count;
    struct reader rest;
};
/* Walks the ops of a SUBMIT payload. `vectors` are copied to aligned memory by the caller (they lie unaligned in the frame). */
struct channel_op {
    struct slice op;
    uint64_t version; /* catalog_check_version */
    uint64_t model;   /* catalog_check_made_by */
    struct slice vectors;
    uint32_t vector_count, dimension;
};
MUST_CHECK bool channel_submission_begin(struct slice payload, uint64_t max_ops, struct channel_submission *ret,
                                         struct status *st);
MUST_CHECK bool channel_submission_next(struct reader *rest, struct channel_op *ret, struct status *st);

struct channel_command {
    enum api_command command;
    struct uuid argument;
    bool keyed; /* of a request with an Idempotency-Key: */
    struct idempotency_id id;
    struct idempotency_origin origin;
    struct uuid task; /* to begin under this id */
};
void channel_put_command(struct buf *out, const struct channel_command *c);
MUST_CHECK bool channel_get_command(struct slice payload, struct channel_command *ret, struct status *st);
void channel_put_answer(struct buf *out, const struct status *st, const struct uuid *task);
MUST_CHECK bool channel_get_answer(struct slice payload, struct status *ret_status, struct uuid *ret_task, struct status *st);

#endif
