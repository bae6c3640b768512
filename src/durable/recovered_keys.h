/*
 * recovered_keys.h - inside durable: what is remembered of requests, out of a checkpoint or a snapshot whose sums hold.
 *
 * A table that does not decode all the same (another version's, or a snapshot's that somebody has edited) is said to be lost and
 * passed over: without it the server is as good as ever, but for retries. For want of memory it is not given up: false.
 */
#ifndef QUIRE_DURABLE_RECOVERED_KEYS_H
#define QUIRE_DURABLE_RECOVERED_KEYS_H

#include "store/idempotency.h"
#include "store/key_table.h"

/* idempotency_encode's bytes; empty: there were none. t may be NULL. */
MUST_CHECK bool recovered_keys(struct idempotency *t, const struct buf *table, struct status *st);
/* idempotency.jsonl. What a live checkpoint has told already, which is newer, stands. */
MUST_CHECK bool recovered_keys_of_snapshot(struct idempotency *t, const struct buf *lines, struct status *st);

/* The API keys of a checkpoint of that LSN, and of a snapshot. Losing them is no way on: STATUS_CORRUPT. t may be NULL. */
MUST_CHECK bool recovered_api_keys(struct key_table *t, const struct buf *table, uint64_t lsn, struct status *st);
MUST_CHECK bool recovered_api_keys_of_snapshot(struct key_table *t, const struct buf *lines, uint64_t lsn, struct status *st);

#endif
