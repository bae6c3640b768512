/* keyed.c - see keyed.h. */
#include "proc/keyed.h"

#include "base/clock.h"
#include "shm/atomics.h"
#include "store/op_group.h"

static int64_t table_clock(struct supervisor *s) {
    return idempotency_clock(s->idempotency, clock_monotonic_us());
}

static bool same_body(const struct idempotency_id *a, const struct idempotency_id *b) {
    return memcmp(a->body, b->body, sizeof a->body) == 0;
}

enum recall keyed_recall(struct supervisor *s, const struct idempotency_id *id, uint64_t request, struct buf *frame,
                         struct status *st) {
    struct buf copy = {0};
    struct idempotency_entry entry;
    enum recall found = RECALL_UNKNOWN;
    if (!idempotency_find(s->idempotency, id->scope, table_clock(s), &copy, &entry)) {
        goto out;
    }
    found = RECALL_REFUSED;
    if (!buf_check(&copy, st)) {
        goto out;
    }
    if (!same_body(&entry.id, id)) {
        (void)add_relaxed_u64(&s->figures->idempotency_mismatches, 1);
        (void)status_set(st, STATUS_INVALID, "this Idempotency-Key has come with another body or query before; take a new one");
        goto out;
    }
    channel_frame_begin(frame, CHANNEL_RESULTS, request);
    channel_put_remembered(frame, &entry);
    channel_frame_end(frame);
    if (buf_check(frame, st)) {
        (void)add_relaxed_u64(&s->figures->idempotency_replays, 1);
        found = RECALL_KNOWN;
    }
out:
    buf_fini(&copy);
    return found;
}

/* --- the record ------------------------------------------------------------------------------------------------------- */

static void put_results(const struct submission *sub, struct buf *out) {
    struct idempotency_results_writer w;
    idempotency_results_begin(&w, out, sub->count);
    for (size_t i = 0; i < sub->count; i++) {
        const struct api_op_result *r = &sub->results[i];
        bool good = r->status.code == STATUS_OK;
        idempotency_results_add(&w, &(struct idempotency_result){.code = (uint8_t)r->status.code,
                                                                 .subject = good ? 0 : r->status.subject,
                                                                 .replaced = r->replaced,
                                                                 .chunks_added = r->chunks_added,
                                                                 .chunks_deleted = r->chunks_deleted,
                                                                 .detail = slice_str(good ? "" : r->status.detail)});
    }
    idempotency_results_end(&w);
}

static void put_group(const struct submission *sub, struct slice entry, struct buf *out) {
    size_t good = 0, bytes = 0;
    for (size_t i = 0; i < sub->count; i++) {
        bool logged = sub->results[i].status.code == STATUS_OK;
        good += logged ? 1 : 0;
        bytes += logged ? sub->ops[i].op.bytes.len : 0;
    }
    if (!buf_reserve(out, op_group_bytes(entry.len, good, bytes))) {
        return;
    }
    op_group_begin(out, entry, good);
    for (size_t i = 0; i < sub->count; i++) {
        if (sub->results[i].status.code == STATUS_OK) {
            op_group_add(out, sub->ops[i].op.bytes);
        }
    }
}

bool keyed_make_record(struct supervisor *s, struct submission *sub, struct status *st) {
    struct buf entry = {0};
    idempotency_entry_begin(&entry, &sub->id, &sub->origin, table_clock(s));
    put_results(sub, &entry);
    put_group(sub, buf_slice(&entry), &sub->record);
    bool ok = buf_check(&entry, st) && buf_check(&sub->record, st);
    if (ok && sub->record.len > s->config.limits.max_op_bytes) {
        ok = status_set(st, STATUS_TOO_LARGE,
                        "what is to be written takes %zu bytes; with an Idempotency-Key at most %llu can be written at once",
                        sub->record.len, (unsigned long long)s->config.limits.max_op_bytes);
    }
    ok = ok && idempotency_prepare(buf_slice(&entry), &sub->held, st);
    buf_fini(&entry);
    return ok;
}

void keyed_show(struct supervisor *s) {
    store_relaxed_u64(&s->figures->idempotency_keys, idempotency_count(s->idempotency));
    store_relaxed_u64(&s->figures->idempotency_bytes, idempotency_bytes(s->idempotency));
}

void keyed_remember(struct supervisor *s, struct submission *sub, uint64_t lsn, int64_t time_us) {
    idempotency_insert(s->idempotency, sub->held, lsn, time_us);
    sub->held = NULL;
    sub->lsn = lsn;
    keyed_show(s);
}
