/*
 * op_group.c - see op_group.h.
 *
 * A record is decoded twice: once as a whole before anything of it is handed out, and once op by op. That costs little beside
 * applying it, and a group whose last op is no good cannot leave its first ones behind.
 */
#include "store/op_group.h"

#include "store/idempotency.h"
#include "store/op_format.h"

#include <inttypes.h>

enum { VARINT_MAX = 10, LEAST_OP_BYTES = 1 + OP_HEADER_BYTES };

void op_group_begin(struct buf *out, struct slice entry, size_t count) {
    buf_put_u8(out, OP_GROUP);
    buf_put_u8(out, OP_GROUP_VERSION);
    buf_put_zero(out, UUID_BYTES);
    buf_put_bytes(out, entry);
    buf_put_varint(out, count);
}

void op_group_add(struct buf *out, struct slice op) {
    buf_put_bytes(out, op);
}

size_t op_group_bytes(size_t entry_bytes, size_t count, size_t op_bytes) {
    return OP_HEADER_BYTES + 2 * VARINT_MAX + entry_bytes + count * VARINT_MAX + op_bytes;
}

static bool malformed(struct status *st, const char *what) {
    return status_set(st, STATUS_MALFORMED, "a group of operations: %s", what);
}

static bool entry_decodes(struct slice entry, struct status *st) {
    struct idempotency_entry decoded;
    return entry.len == 0 || idempotency_entry_decode(entry, &decoded, st);
}

static bool take_head(struct op_walk *w, struct slice record, struct status *st) {
    static const uint8_t zero[UUID_BYTES];
    struct reader r = reader_of(record);
    (void)read_u8(&r); /* the type, which the caller has seen */
    uint8_t version = read_u8(&r);
    struct slice library = read_slice(&r, UUID_BYTES);
    struct slice entry = read_bytes(&r);
    uint64_t count = read_varint(&r);
    if (r.failed) {
        return malformed(st, "cut short");
    }
    if (version != OP_GROUP_VERSION) {
        return status_set(st, STATUS_MALFORMED, "a group of operations: version %u, this server knows %d", (unsigned)version,
                          OP_GROUP_VERSION);
    }
    if (memcmp(library.data, zero, UUID_BYTES) != 0) {
        return malformed(st, "it names a library");
    }
    if ((count == 0 && entry.len == 0) || count > OP_GROUP_MAX_OPS || count > reader_left(&r) / LEAST_OP_BYTES) {
        return malformed(st, "more operations than bytes, or nothing at all");
    }
    w->entry = entry;
    w->count = count;
    w->left = count;
    w->rest = r;
    return true;
}

/* Decodes the ops for good, leaving the walk where it was. */
static bool check_ops(const struct op_walk *w, struct status *st) {
    struct reader r = w->rest;
    for (uint64_t i = 0; i < w->count; i++) {
        struct slice bytes = read_bytes(&r);
        struct op op;
        if (r.failed) {
            return malformed(st, "cut short");
        }
        if (!op_decode(bytes, w->limits, &op, st)) {
            return false;
        }
        if (op.type == OP_LOG_CLOSE || op_is_of_keys(&op)) {
            return malformed(st, "the log's end, or a key, within it");
        }
    }
    return reader_done(&r) || malformed(st, "bytes behind its end");
}

bool op_walk_begin(struct op_walk *w, struct slice record, const struct limits *limits, struct status *st) {
    struct op op;
    *w = (struct op_walk){.count = 1, .left = 1, .limits = limits};
    if (record.len > 0 && record.data[0] == OP_GROUP) {
        return take_head(w, record, st) && entry_decodes(w->entry, st) && check_ops(w, st);
    }
    w->plain = record;
    return op_decode(record, limits, &op, st);
}

bool op_walk_next(struct op_walk *w, struct op *ret) {
    struct status ignored;
    if (w->left == 0) {
        return false;
    }
    w->left--;
    struct slice bytes = w->plain.len > 0 ? w->plain : read_bytes(&w->rest);
    return op_decode(bytes, w->limits, ret, &ignored); /* it did in op_walk_begin */
}
