/*
 * snapshot_api_keys.h - the API keys in a snapshot: api_keys.jsonl, a line a key, left out when there is none.
 *
 *   {"id", "name", "scopes": ["read", ...], "libraries"?: [ids] (left out: all), "created_at", "expires_at"?, "last_used_at"?, "sha256" (64 hex digits, of the
 *   secret, which nobody has but the key's holder)}
 */
#ifndef QUIRE_DURABLE_SNAPSHOT_API_KEYS_H
#define QUIRE_DURABLE_SNAPSHOT_API_KEYS_H

#include "store/key_table.h"

/* A failed allocation shows in `out`. */
void snapshot_put_api_keys(struct key_table *t, struct buf *out);
/* Calls fn with each. Trusted no more than other bytes from outside: STATUS_MALFORMED, with what was handed out before. */
MUST_CHECK bool snapshot_each_api_key(struct slice lines, key_table_fn fn, void *ctx, struct status *st);

#endif
