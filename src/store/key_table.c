/* key_table.c - see key_table.h. */
#include "store/key_table.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "shm/atomics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#define KEY_TABLE_VERSION 1

struct key {
    struct key_entry entry; /* scopes 0: free */
    uint8_t digest[KEY_DIGEST_BYTES];
};

struct key_table {
    pthread_mutex_t mutex;
    uint64_t max_keys;
    /* under the mutex */
    size_t count;
    size_t end; /* slots from here on were never used */
    uint64_t lsn;
    bool has_configured;
    uint8_t configured[KEY_DIGEST_BYTES];
    struct key_page *page; /* NULL: nobody looks */
    const struct control *control;
    struct key key[KEYS_MOST];
};

_Static_assert(KEYS_MOST <= CONTROL_KEYS, "every key has a word for its last use");

bool key_table_new(uint64_t max_keys, struct key_table **ret, struct status *st) {
    struct key_table *t = (struct key_table *)calloc(1, sizeof *t);
    if (t == NULL) {
        return status_no_memory(st);
    }
    (void)pthread_mutex_init(&t->mutex, NULL);
    t->max_keys = max_keys < KEYS_MOST ? max_keys : KEYS_MOST;
    *ret = t;
    return true;
}

void key_table_free(struct key_table *t) {
    if (t != NULL) {
        (void)pthread_mutex_destroy(&t->mutex);
        free(t);
    }
}

static void take(struct key_table *t) {
    (void)pthread_mutex_lock(&t->mutex);
}

static void release(struct key_table *t) {
    (void)pthread_mutex_unlock(&t->mutex);
}

static struct key *find_locked(struct key_table *t, const struct uuid *id) {
    for (size_t i = 0; i < t->end; i++) {
        if (t->key[i].entry.scopes != 0 && uuid_equal(&t->key[i].entry.id, id)) {
            return &t->key[i];
        }
    }
    return NULL;
}

/* --- what workers see ------------------------------------------------------------------------------------------------- */

static void note_uses_locked(struct key_table *t) {
    for (size_t i = 0; t->control != NULL && i < t->end; i++) {
        struct key_entry *e = &t->key[i].entry;
        int64_t used = key_use_read(&t->control->key_use[i], &e->id);
        if (e->scopes != 0 && used > e->last_used_at && used <= clock_wall_us()) { /* a worker may have written anything */
            e->last_used_at = used;
        }
    }
}

static void show_locked(struct key_table *t) {
    if (t->page == NULL) {
        return;
    }
    note_uses_locked(t);
    struct key_copy *c = key_page_begin(t->page);
    uint64_t slots = c->slots > t->end ? c->slots : t->end; /* of an earlier state: to be cleared */
    for (size_t i = 0; i < slots; i++) {
        c->entry[i] = t->key[i].entry;
        memcpy(c->digest[i], t->key[i].digest, KEY_DIGEST_BYTES);
    }
    c->slots = slots > t->max_keys ? slots : t->max_keys;
    key_page_publish(t->page);
}

void key_table_show(struct key_table *t, struct key_page *page, const struct control *control) {
    take(t);
    t->page = page;
    t->control = control;
    show_locked(t);
    release(t);
}

/* --- ops -------------------------------------------------------------------------------------------------------------- */

static bool check_add_locked(struct key_table *t, const struct op_key *key, struct status *st) {
    if (t->count >= t->max_keys) {
        return status_set(st, STATUS_TOO_LARGE, "there are %zu keys; the limit max_keys is %" PRIu64, t->count, t->max_keys);
    }
    for (size_t i = 0; i < t->end; i++) {
        const struct key *k = &t->key[i];
        if (k->entry.scopes != 0 && (uuid_equal(&k->entry.id, &key->id) || memcmp(k->digest, key->digest, KEY_DIGEST_BYTES) == 0)) {
            return status_set_subject(st, STATUS_CONFLICT, SUBJECT_KEY, "there is such a key already");
        }
    }
    return true;
}

bool key_table_check(struct key_table *t, const struct op *op, struct status *st) {
    take(t);
    bool ok = op->type == OP_KEY_ADD ? check_add_locked(t, &op->as.key, st)
                                     : find_locked(t, &op->as.key.id) != NULL ||
                                           status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_KEY, "there is no key with this id");
    release(t);
    return ok;
}

static void put_locked(struct key_table *t, const struct op_key *key, int64_t last_used_at) {
    struct key *k = find_locked(t, &key->id);
    for (size_t i = 0; k == NULL && i < KEYS_MOST; i++) {
        k = t->key[i].entry.scopes == 0 ? &t->key[i] : NULL;
        t->end = k != NULL && i >= t->end ? i + 1 : t->end;
    }
    if (k == NULL) {
        return; /* no log of ours can hold so many; whoever made it has one key less that opens */
    }
    t->count += k->entry.scopes == 0 ? 1 : 0;
    *k = (struct key){.entry = {.id = key->id,
                                .created_at = key->created_at,
                                .expires_at = key->expires_at,
                                .last_used_at = last_used_at,
                                .scopes = key->scopes,
                                .all = key->all,
                                .name_bytes = (uint16_t)key->name.len,
                                .library_count = key->library_count}};
    memcpy(k->digest, key->digest, KEY_DIGEST_BYTES);
    if (key->name.len > 0) {
        memcpy(k->entry.name, key->name.data, key->name.len);
    }
    if (key->libraries.len > 0) {
        memcpy(k->entry.libraries, key->libraries.data, key->libraries.len);
    }
}

static void remove_locked(struct key_table *t, const struct uuid *id) {
    struct key *k = find_locked(t, id);
    if (k != NULL) {
        *k = (struct key){0};
        t->count--;
    }
}

bool key_table_apply(struct key_table *t, const struct op *op, uint64_t lsn) {
    take(t);
    bool fresh = lsn > t->lsn;
    if (fresh) {
        t->lsn = lsn;
        if (op->type == OP_KEY_ADD) {
            put_locked(t, &op->as.key, 0);
        } else {
            remove_locked(t, &op->as.key.id);
        }
        show_locked(t);
    }
    release(t);
    return fresh;
}

size_t key_table_count(struct key_table *t) {
    take(t);
    size_t count = t->count;
    release(t);
    return count;
}

/* --- who may change keys ---------------------------------------------------------------------------------------------- */

void key_table_set_configured(struct key_table *t, const uint8_t digest[KEY_DIGEST_BYTES]) {
    take(t);
    t->has_configured = digest != NULL;
    if (digest != NULL) {
        memcpy(t->configured, digest, KEY_DIGEST_BYTES);
    }
    release(t);
}

/* Its only askers are workers, which know all digests anyway, so it need not hide its time. */
bool key_table_rules(struct key_table *t, const uint8_t digest[KEY_DIGEST_BYTES], int64_t now_us) {
    take(t);
    bool rules = t->has_configured && memcmp(t->configured, digest, KEY_DIGEST_BYTES) == 0;
    for (size_t i = 0; !rules && i < t->end; i++) {
        const struct key_entry *e = &t->key[i].entry;
        rules = (e->scopes & KEY_ADMIN) != 0 && e->all && !key_entry_expired(e, now_us) && memcmp(t->key[i].digest, digest, KEY_DIGEST_BYTES) == 0;
    }
    release(t);
    return rules;
}

/* --- in bytes --------------------------------------------------------------------------------------------------------- */

static struct op_key op_of(const struct key *k) {
    struct op_key op = {.id = k->entry.id,
                        .created_at = k->entry.created_at,
                        .expires_at = k->entry.expires_at,
                        .scopes = k->entry.scopes,
                        .all = k->entry.all,
                        .name = slice_of(k->entry.name, k->entry.name_bytes),
                        .library_count = k->entry.library_count,
                        .libraries = slice_of(k->entry.libraries, k->entry.library_count * sizeof(struct uuid))};
    memcpy(op.digest, k->digest, KEY_DIGEST_BYTES);
    return op;
}

bool key_table_each(struct key_table *t, key_table_fn fn, void *ctx, struct status *st) {
    bool ok = true;
    take(t);
    note_uses_locked(t);
    for (size_t i = 0; ok && i < t->end; i++) {
        if (t->key[i].entry.scopes != 0) {
            struct op_key op = op_of(&t->key[i]);
            ok = fn(&op, t->key[i].entry.last_used_at, ctx, st);
        }
    }
    release(t);
    return ok;
}

static bool put_key(const struct op_key *key, int64_t last_used_at, void *ctx, struct status *st) {
    struct buf *out = (struct buf *)ctx;
    struct buf op = {0};
    (void)st;
    op_encode_key_add(&op, key);
    buf_put_u64le(out, (uint64_t)last_used_at);
    buf_put_bytes(out, buf_slice(&op));
    out->failed = out->failed || !buf_ok(&op);
    buf_fini(&op);
    return true;
}

void key_table_encode(struct key_table *t, struct buf *out) {
    struct status ignored;
    take(t);
    uint64_t lsn = t->lsn;
    size_t count = t->count;
    release(t);
    if (count == 0) {
        return;
    }
    buf_put_u8(out, KEY_TABLE_VERSION);
    buf_put_varint(out, lsn);
    buf_put_varint(out, count);
    (void)!key_table_each(t, put_key, out, &ignored); /* put_key does not fail */
}

static bool decode_key(struct key_table *t, struct reader *r, struct status *st) {
    struct op op;
    int64_t last_used_at = (int64_t)read_u64le(r);
    struct slice bytes = read_bytes(r);
    if (r->failed || !op_decode(bytes, NULL, &op, st) || op.type != OP_KEY_ADD) {
        return status_set(st, STATUS_MALFORMED, "a table of keys that does not decode");
    }
    key_table_put(t, &op.as.key, last_used_at);
    return true;
}

bool key_table_decode(struct key_table *t, struct slice bytes, uint64_t lsn, struct status *st) {
    struct reader r = reader_of(bytes);
    key_table_clear(t);
    if (bytes.len == 0) {
        key_table_covers(t, lsn);
        return true;
    }
    uint8_t version = read_u8(&r);
    uint64_t known = read_varint(&r);
    uint64_t count = read_varint(&r);
    if (r.failed || version != KEY_TABLE_VERSION || count > KEYS_MOST) {
        return status_set(st, STATUS_MALFORMED, "no table of keys, or one of version %u", (unsigned)version);
    }
    for (uint64_t i = 0; i < count; i++) {
        if (!decode_key(t, &r, st)) {
            key_table_clear(t);
            return false;
        }
    }
    key_table_covers(t, known > lsn ? known : lsn);
    return reader_done(&r) || status_set(st, STATUS_MALFORMED, "bytes behind a table of keys");
}

void key_table_put(struct key_table *t, const struct op_key *key, int64_t last_used_at) {
    take(t);
    put_locked(t, key, last_used_at);
    show_locked(t);
    release(t);
}

void key_table_covers(struct key_table *t, uint64_t lsn) {
    take(t);
    t->lsn = lsn > t->lsn ? lsn : t->lsn;
    release(t);
}

void key_table_clear(struct key_table *t) {
    take(t);
    memset(t->key, 0, sizeof t->key);
    t->count = 0;
    t->lsn = 0;
    show_locked(t);
    release(t);
}
