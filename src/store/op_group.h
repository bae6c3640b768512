/*
 * op_group.h - several ops in one log record: the ops of one request that came with an Idempotency-Key, and what is remembered of
 * it. One record is there or not there, so after a crash a request was done as a whole, and is remembered, or neither.
 *
 *   group    = type u8 (8), version u8 (1), 16 zero bytes (where an op has its library),
 *              entry (idempotency.h), varint length + bytes; empty: none
 *              number of ops varint (0 to OP_GROUP_MAX_OPS), then the ops, varint length + bytes each. None only where there is an
 *              entry: of a request that began a task
 *
 * The record has one LSN, and so have all its ops. They do not depend on one another (op_set). A group holds no group and no
 * LOG_CLOSE.
 *
 * Whoever reads the log walks each record, be it a plain op or a group:
 *
 *     struct op_walk walk;
 *     struct op op;
 *     if (!op_walk_begin(&walk, record->op, NULL, st)) { ... the record does not decode; nothing of it was applied ... }
 *     while (op_walk_next(&walk, &op)) { ... apply at record->lsn ... }
 *     if (walk.entry.len > 0) { ... idempotency_note(table, walk.entry, record->lsn, record->time_us, st) ... }
 */
#ifndef QUIRE_STORE_OP_GROUP_H
#define QUIRE_STORE_OP_GROUP_H

#include "base/bytes.h"
#include "store/op.h"

#define OP_GROUP_VERSION 1
#define OP_GROUP_MAX_OPS 1000000 /* more than a submission can have (queue_max_ops) */

/* Begins a group of `count` ops, then count times op_group_add. */
void op_group_begin(struct buf *out, struct slice entry, size_t count);
void op_group_add(struct buf *out, struct slice op);
/* Bytes that op_group_begin and op_group_add write for ops and an entry of these lengths, at most. */
size_t op_group_bytes(size_t entry_bytes, size_t count, size_t op_bytes);

struct op_walk {
    struct slice entry; /* what is remembered of the request, which decodes; empty: nothing */
    uint64_t count;     /* ops in all */
    uint64_t left;
    struct reader rest; /* of a group */
    struct slice plain; /* a plain op's bytes; empty: it is a group */
    const struct limits *limits;
};

/* Decodes all of the record (limits: see op_decode), its entry, too, so that what follows cannot fail half-way. */
MUST_CHECK bool op_walk_begin(struct op_walk *w, struct slice record, const struct limits *limits, struct status *st);
/* The next op. Its slices point into the record. */
bool op_walk_next(struct op_walk *w, struct op *ret);

#endif
