/* recovered_keys.c - see recovered_keys.h. */
#include "durable/recovered_keys.h"

#include "base/log.h"

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
