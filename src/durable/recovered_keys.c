/* recovered_keys.c - see recovered_keys.h. */
#include "durable/recovered_keys.h"

#include "base/log.h"

void recovered_keys(struct idempotency *t, const struct buf *table) {
    struct status failed = {0};
    if (t != NULL && table->len > 0 && !idempotency_decode(t, buf_slice(table), &failed)) {
        log_status(LOG_LEVEL_WARN, "the idempotency keys of the checkpoint are lost", &failed);
    }
}

void recovered_keys_of_snapshot(struct idempotency *t, const struct buf *lines) {
    struct status failed = {0};
    if (t != NULL && !idempotency_read_jsonl(t, buf_slice(lines), &failed)) {
        log_status(LOG_LEVEL_WARN, "the idempotency keys of the snapshot are lost", &failed);
    }
}
