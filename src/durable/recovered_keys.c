/* recovered_keys.c - see recovered_keys.h. */
#include "durable/recovered_keys.h"

#include "base/log.h"
#include "durable/snapshot_api_keys.h"

static bool passed_over(const struct status *failed, const char *what, struct status *st) {
    if (failed->code == STATUS_NO_MEMORY) {
        return status_no_memory(st);
    }
    log_status(LOG_LEVEL_WARN, what, failed);
    return true;
}

bool recovered_keys(struct idempotency *t, const struct buf *table, struct status *st) {
    struct status failed = {0};
    return t == NULL || table->len == 0 || idempotency_decode(t, buf_slice(table), &failed) ||
           passed_over(&failed, "the idempotency keys of the checkpoint are lost", st);
}

bool recovered_keys_of_snapshot(struct idempotency *t, const struct buf *lines, struct status *st) {
    struct status failed = {0};
    return t == NULL || idempotency_read_jsonl(t, buf_slice(lines), &failed) ||
           passed_over(&failed, "the idempotency keys of the snapshot are lost", st);
}

static bool lost(const struct status *failed, const char *where, struct status *st) {
    if (failed->code == STATUS_NO_MEMORY) {
        return status_no_memory(st);
    }
    return status_set(st, STATUS_CORRUPT, "the API keys of the %s cannot be read: %.200s", where, failed->detail);
}

bool recovered_api_keys(struct key_table *t, const struct buf *table, uint64_t lsn, struct status *st) {
    struct status failed = {0};
    return t == NULL || key_table_decode(t, buf_slice(table), lsn, &failed) || lost(&failed, "checkpoint", st);
}

static bool put(const struct op_key *key, int64_t last_used_at, void *ctx, struct status *st) {
    (void)st;
    key_table_put((struct key_table *)ctx, key, last_used_at);
    return true;
}

bool recovered_api_keys_of_snapshot(struct key_table *t, const struct buf *lines, uint64_t lsn, struct status *st) {
    struct status failed = {0};
    if (t == NULL) {
        return true;
    }
    key_table_clear(t);
    if (!snapshot_each_api_key(buf_slice(lines), put, t, &failed)) {
        key_table_clear(t);
        return lost(&failed, "snapshot", st);
    }
    key_table_covers(t, lsn);
    return true;
}
