/*
 * key_table.h - the API keys as the supervisor holds them: changed by ops like libraries, by recovery first and then by the committer, and shown to workers
 * (key_page.h) with each change, before it is acknowledged. So a key that was removed opens nothing any more once its removal is answered.
 *
 * An op is checked before it is logged, and applying it cannot fail: there is room for KEYS_MOST keys from the beginning.
 *
 *   table    = version u8 (1), LSN varint, number of keys varint, then for each: last_used_at u64 (us; 0: never), its KEY_ADD (varint length + bytes)
 *
 * Any thread may ask; there is a mutex, held for a copy of the table at most.
 */
#ifndef QUIRE_STORE_KEY_TABLE_H
#define QUIRE_STORE_KEY_TABLE_H

#include "shm/control.h"
#include "store/key_page.h"

struct key_table;
MUST_CHECK bool key_table_new(uint64_t max_keys, struct key_table **ret, struct status *st);
void key_table_free(struct key_table *t); /* takes NULL */

/* Where the table is shown and the last uses are found, both borrowed; from then on, and at once. */
void key_table_show(struct key_table *t, struct key_page *page, const struct control *control);

/* STATUS_CONFLICT, STATUS_TOO_LARGE (max_keys); STATUS_NOT_FOUND with SUBJECT_KEY */
MUST_CHECK bool key_table_check(struct key_table *t, const struct op *op, struct status *st);
/* An op at or below the LSN that the table has is known already: nothing is done, and it returns false. */
bool key_table_apply(struct key_table *t, const struct op *op, uint64_t lsn);
size_t key_table_count(struct key_table *t);

/* The digest of the key that the configuration names (admin_key_file); NULL: none. */
void key_table_set_configured(struct key_table *t, const uint8_t digest[KEY_DIGEST_BYTES]);
/* Whether whoever has the secret with this digest may change keys: one for everything, with the scope admin, not expired. */
bool key_table_rules(struct key_table *t, const uint8_t digest[KEY_DIGEST_BYTES], int64_t now_us);

/* Each key, in no order, until fn returns false. The op is a KEY_ADD without `bytes`. */
typedef bool (*key_table_fn)(const struct op_key *key, int64_t last_used_at, void *ctx, struct status *st);
MUST_CHECK bool key_table_each(struct key_table *t, key_table_fn fn, void *ctx, struct status *st);

/* The whole in bytes, for a checkpoint, which brings its own checksum; nothing where there is no key. A failed allocation shows in `out`. */
void key_table_encode(struct key_table *t, struct buf *out);
/* Takes the place of what is there. `lsn`: of the checkpoint; ops up to it are known from then on. Empty bytes: there were no keys. */
MUST_CHECK bool key_table_decode(struct key_table *t, struct slice bytes, uint64_t lsn, struct status *st);
/* Puts in a key that a snapshot has, with its last use; ops up to the LSN are known when all have been put in (key_table_covers). */
void key_table_put(struct key_table *t, const struct op_key *key, int64_t last_used_at);
void key_table_covers(struct key_table *t, uint64_t lsn);
/* As it was at the beginning. */
void key_table_clear(struct key_table *t);

#endif
