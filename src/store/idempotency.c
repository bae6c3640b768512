/*
 * idempotency.c - the table of entries, and their bytes (idempotency.h).
 *
 * Entries stand in a ring in the order of their records, the oldest at its head, and in chained buckets by scope. A place in the
 * ring has a number that is never used again, so whoever writes the table out may let go of the mutex between two stretches and
 * go on at the next number, whatever was dropped meanwhile. An entry that is replaced leaves its place empty.
 *
 * All room but the entries' own is taken at the begin, so putting in an entry that was prepared cannot fail.
 */
#include "store/idempotency.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/json_front.h"
#include "base/json_out.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    ENTRY_VERSION = 1,
    TABLE_VERSION = 1,
    STRETCH = 256, /* entries written out under one hold of the mutex */
    FLAG_REPLACED = 1,
    LEAST_ENTRY_BYTES = 1 + 3 * IDEMPOTENCY_HASH_BYTES + 2 * 8 + 1,
    RESULTS_MAX = 1000000,
    LEAST_BUCKETS = 16,
    TRUST_SHARE = 2 /* of the time that keys are kept, the wall clock is believed at a restart for 1/2 */
};
#define YEAR_1_US (-62135596800LL * 1000000)
#define YEAR_10000_US (253402300800LL * 1000000)

/* --- hashes and ids --- */

void idempotency_hash(const struct slice *parts, size_t count, uint8_t ret[IDEMPOTENCY_HASH_BYTES]) {
    uint8_t digests[8 * 32];
    uint8_t whole[32];
    size_t used = 0;
    /* the digest of the parts' digests: no part can lend its end to the next one */
    for (size_t i = 0; i < count && used < sizeof digests; i++, used += 32) {
        sha256(parts[i].data, parts[i].len, digests + used);
    }
    sha256(digests, used, whole);
    memcpy(ret, whole, IDEMPOTENCY_HASH_BYTES);
}

/* As uuid.c lays a UUIDv7 out, with the index where that has its counter: 12 bits, and 8 of the low 62. The rest is hash. */
void idempotency_uuid(const struct uuid *seed, uint64_t index, struct uuid *ret) {
    enum { TIME_BYTES = 6 };
    uint8_t source[UUID_BYTES + 8];
    uint8_t digest[32];
    memcpy(source, seed->b, UUID_BYTES);
    store_u64le(source + UUID_BYTES, index);
    sha256(source, sizeof source, digest);
    memcpy(ret->b, digest, UUID_BYTES);
    memcpy(ret->b, seed->b, TIME_BYTES);
    ret->b[6] = (uint8_t)(0x70 | (index >> 16 & 0xf));
    ret->b[7] = (uint8_t)(index >> 8);
    ret->b[8] = (uint8_t)(0x80 | (index >> 2 & 0x3f));
    ret->b[9] = (uint8_t)((index & 3) << 6 | (ret->b[9] & 0x3f));
}

/* --- results --- */

static bool same_result(const struct idempotency_result *a, const struct idempotency_result *b) {
    return a->code == b->code && a->subject == b->subject && a->replaced == b->replaced && a->chunks_added == b->chunks_added &&
           a->chunks_deleted == b->chunks_deleted && slice_equal(a->detail, b->detail);
}

void idempotency_results_begin(struct idempotency_results_writer *w, struct buf *out, size_t count) {
    *w = (struct idempotency_results_writer){.out = out};
    buf_put_varint(out, count);
}

void idempotency_results_end(struct idempotency_results_writer *w) {
    if (w->run == 0) {
        return;
    }
    buf_put_varint(w->out, w->run);
    buf_put_u8(w->out, w->last.code);
    if (w->last.code == STATUS_OK) {
        buf_put_u8(w->out, w->last.replaced ? FLAG_REPLACED : 0);
        buf_put_varint(w->out, w->last.chunks_added);
        buf_put_varint(w->out, w->last.chunks_deleted);
    } else {
        buf_put_varint(w->out, w->last.subject);
        buf_put_bytes(w->out, w->last.detail);
    }
    w->run = 0;
}

void idempotency_results_add(struct idempotency_results_writer *w, const struct idempotency_result *r) {
    if (w->run > 0 && !same_result(&w->last, r)) {
        idempotency_results_end(w);
    }
    w->last = *r;
    w->run++;
}

static bool read_run(struct idempotency_results_reader *r) {
    struct idempotency_result now = {0};
    uint64_t run = read_varint(&r->in);
    uint64_t first = 0, second = 0;
    now.code = read_u8(&r->in);
    if (now.code == STATUS_OK) {
        uint8_t flags = read_u8(&r->in);
        first = read_varint(&r->in);
        second = read_varint(&r->in);
        r->in.failed |= flags > FLAG_REPLACED || first > UINT32_MAX || second > UINT32_MAX;
        now.replaced = flags == FLAG_REPLACED;
        now.chunks_added = (uint32_t)first;
        now.chunks_deleted = (uint32_t)second;
    } else {
        first = read_varint(&r->in);
        now.detail = read_bytes(&r->in);
        r->in.failed |= first > UINT16_MAX || now.code > STATUS_LAST || now.detail.len >= STATUS_DETAIL_MAX;
        now.subject = (uint16_t)first;
    }
    r->in.failed |= run == 0 || run > r->left;
    if (r->in.failed) {
        return false;
    }
    r->run = run;
    r->now = now;
    return true;
}

bool idempotency_results_next(struct idempotency_results_reader *r, struct idempotency_result *ret) {
    if (r->left == 0 || (r->run == 0 && !read_run(r))) {
        return false;
    }
    r->run--;
    r->left--;
    *ret = r->now;
    return true;
}

bool idempotency_results_open(struct slice results, struct idempotency_results_reader *ret) {
    struct idempotency_results_reader r = {.in = reader_of(results)};
    r.count = read_varint(&r.in);
    r.left = r.count;
    if (r.in.failed || r.count > RESULTS_MAX) {
        return false;
    }
    struct idempotency_results_reader whole = r;
    while (whole.left > 0) {
        if (!read_run(&whole)) {
            return false;
        }
        whole.left -= whole.run;
        whole.run = 0;
    }
    if (!reader_done(&whole.in)) {
        return false;
    }
    *ret = r;
    return true;
}

/* --- entries --- */

void idempotency_entry_begin(struct buf *out, const struct idempotency_id *id, const struct idempotency_origin *origin,
                             int64_t clock) {
    buf_put_u8(out, ENTRY_VERSION);
    buf_put(out, id->scope, sizeof id->scope);
    buf_put(out, id->body, sizeof id->body);
    buf_put(out, origin->seed.b, UUID_BYTES);
    buf_put_u64le(out, (uint64_t)origin->created_at);
    buf_put_u64le(out, (uint64_t)clock);
}

bool idempotency_time_good(int64_t t) {
    return t >= YEAR_1_US && t < YEAR_10000_US;
}

bool idempotency_entry_decode(struct slice bytes, struct idempotency_entry *ret, struct status *st) {
    struct reader r = reader_of(bytes);
    struct idempotency_entry e = {0};
    struct idempotency_results_reader results;
    uint8_t version = read_u8(&r);
    if (!r.failed && version != ENTRY_VERSION) {
        return status_set(st, STATUS_MALFORMED, "an idempotency key's entry: version %u, this server knows %d", (unsigned)version,
                          ENTRY_VERSION);
    }
    struct slice scope = read_slice(&r, IDEMPOTENCY_HASH_BYTES);
    struct slice body = read_slice(&r, IDEMPOTENCY_HASH_BYTES);
    struct slice seed = read_slice(&r, UUID_BYTES);
    e.origin.created_at = (int64_t)read_u64le(&r);
    e.clock = (int64_t)read_u64le(&r);
    if (r.failed || !idempotency_time_good(e.origin.created_at) || !idempotency_time_good(e.clock)) {
        return status_set(st, STATUS_MALFORMED, "an idempotency key's entry does not decode");
    }
    e.results = slice_of(r.at, reader_left(&r));
    if (!idempotency_results_open(e.results, &results)) {
        return status_set(st, STATUS_MALFORMED, "an idempotency key's results do not decode");
    }
    memcpy(e.id.scope, scope.data, sizeof e.id.scope);
    memcpy(e.id.body, body.data, sizeof e.id.body);
    memcpy(e.origin.seed.b, seed.data, UUID_BYTES);
    *ret = e;
    return true;
}

/* --- the table --- */

struct idempotency_held {
    struct idempotency_held *chain; /* of its bucket */
    uint64_t place;                 /* its number in the ring */
    struct idempotency_entry entry;
    size_t len;
    uint8_t bytes[]; /* the entry as it is encoded; entry.results points into it */
};

struct idempotency {
    struct idempotency_limits limits;
    pthread_mutex_t mutex;
    /* under the mutex */
    struct idempotency_held **ring;
    uint64_t head, tail; /* places in use: from head to before tail */
    struct idempotency_held **buckets;
    size_t bucket_count; /* a power of two */
    uint64_t count;
    uint64_t bytes;
    uint64_t last_lsn;
    int64_t last_clock, last_time; /* of the newest entry there ever was */
    int64_t clock_base, monotonic_base;
};

bool idempotency_new(const struct idempotency_limits *limits, struct idempotency **ret, struct status *st) {
    struct idempotency *t = (struct idempotency *)calloc(1, sizeof *t);
    if (t == NULL) {
        return status_no_memory(st);
    }
    t->limits = *limits;
    (void)pthread_mutex_init(&t->mutex, NULL);
    t->bucket_count = LEAST_BUCKETS;
    while (t->bucket_count < limits->max_keys) {
        t->bucket_count *= 2;
    }
    t->buckets = (struct idempotency_held **)calloc(t->bucket_count, sizeof(struct idempotency_held *));
    t->ring = (struct idempotency_held **)calloc(limits->max_keys + 1, sizeof(struct idempotency_held *));
    if (t->buckets == NULL || t->ring == NULL) {
        idempotency_free(t);
        return status_no_memory(st);
    }
    *ret = t;
    return true;
}

static struct idempotency_held **at_place(const struct idempotency *t, uint64_t place) {
    return &t->ring[place % (t->limits.max_keys + 1)];
}

static struct idempotency_held **bucket_of(const struct idempotency *t, const uint8_t *scope) {
    return &t->buckets[load_u64le(scope) & (t->bucket_count - 1)]; /* the bytes of a SHA-256 are mixed enough */
}

static struct idempotency_held *find(const struct idempotency *t, const uint8_t *scope) {
    struct idempotency_held *e = *bucket_of(t, scope);
    while (e != NULL && memcmp(e->entry.id.scope, scope, IDEMPOTENCY_HASH_BYTES) != 0) {
        e = e->chain;
    }
    return e;
}

static void forget(struct idempotency *t, struct idempotency_held *e) {
    struct idempotency_held **at = bucket_of(t, e->entry.id.scope);
    while (*at != e) {
        at = &(*at)->chain;
    }
    *at = e->chain;
    *at_place(t, e->place) = NULL;
    t->count--;
    t->bytes -= sizeof *e + e->len;
    free(e);
}

/* Frees the oldest place. */
static void forget_oldest(struct idempotency *t) {
    struct idempotency_held *e = *at_place(t, t->head);
    if (e != NULL) {
        forget(t, e);
    }
    t->head++;
}

void idempotency_free(struct idempotency *t) {
    if (t == NULL) {
        return;
    }
    while (t->head < t->tail) {
        forget_oldest(t);
    }
    (void)pthread_mutex_destroy(&t->mutex);
    free(t->buckets);
    free(t->ring);
    free(t);
}

bool idempotency_prepare(struct slice entry, struct idempotency_held **ret, struct status *st) {
    struct idempotency_entry decoded;
    if (!idempotency_entry_decode(entry, &decoded, st)) {
        return false;
    }
    struct idempotency_held *e = (struct idempotency_held *)malloc(sizeof *e + entry.len);
    if (e == NULL) {
        return status_no_memory(st);
    }
    memcpy(e->bytes, entry.data, entry.len);
    e->entry = decoded;
    e->entry.results = slice_of(e->bytes + (decoded.results.data - entry.data), decoded.results.len);
    e->len = entry.len;
    *ret = e;
    return true;
}

void idempotency_drop(struct idempotency_held *e) {
    free(e);
}

static bool expired(const struct idempotency *t, const struct idempotency_held *e, int64_t clock) {
    return clock - e->entry.clock >= t->limits.ttl_us;
}

/* Places at the head that are empty go, too. */
static void expire(struct idempotency *t, int64_t clock) {
    while (t->head < t->tail) {
        const struct idempotency_held *e = *at_place(t, t->head);
        if (e != NULL && !expired(t, e, clock)) {
            break;
        }
        forget_oldest(t);
    }
}

static void make_room(struct idempotency *t, const struct idempotency_held *e) {
    struct idempotency_held *same = find(t, e->entry.id.scope);
    if (same != NULL) {
        forget(t, same);
    }
    expire(t, e->entry.clock);
    while (t->head < t->tail &&
           (t->tail - t->head >= t->limits.max_keys || t->bytes + sizeof *e + e->len > t->limits.max_bytes)) {
        forget_oldest(t);
    }
}

static void insert(struct idempotency *t, struct idempotency_held *e, uint64_t lsn, int64_t time_us) {
    if (lsn <= t->last_lsn) {
        free(e);
        return;
    }
    e->entry.lsn = lsn;
    e->entry.time_us = time_us;
    t->last_lsn = lsn;
    t->last_time = time_us;
    t->last_clock = e->entry.clock > t->last_clock ? e->entry.clock : t->last_clock;
    make_room(t, e);
    if (t->limits.max_keys == 0 || sizeof *e + e->len > t->limits.max_bytes) {
        free(e);
        return;
    }
    e->place = t->tail++;
    *at_place(t, e->place) = e;
    struct idempotency_held **bucket = bucket_of(t, e->entry.id.scope);
    e->chain = *bucket;
    *bucket = e;
    t->count++;
    t->bytes += sizeof *e + e->len;
}

void idempotency_insert(struct idempotency *t, struct idempotency_held *e, uint64_t lsn, int64_t time_us) {
    (void)pthread_mutex_lock(&t->mutex);
    insert(t, e, lsn, time_us);
    (void)pthread_mutex_unlock(&t->mutex);
}

bool idempotency_note(struct idempotency *t, struct slice entry, uint64_t lsn, int64_t time_us, struct status *st) {
    struct idempotency_held *e = NULL;
    if (!idempotency_prepare(entry, &e, st)) {
        return false;
    }
    idempotency_insert(t, e, lsn, time_us);
    return true;
}

void idempotency_start(struct idempotency *t, int64_t wall_us, int64_t monotonic_us) {
    (void)pthread_mutex_lock(&t->mutex);
    if (t->last_lsn == 0) {
        t->clock_base = idempotency_time_good(wall_us) ? wall_us : 0;
    } else {
        int64_t trusted = t->limits.ttl_us / TRUST_SHARE;
        int64_t passed = wall_us > t->last_time ? wall_us - t->last_time : 0;
        t->clock_base = t->last_clock + (passed < trusted ? passed : trusted);
    }
    t->monotonic_base = monotonic_us;
    (void)pthread_mutex_unlock(&t->mutex);
}

int64_t idempotency_clock(struct idempotency *t, int64_t monotonic_us) {
    (void)pthread_mutex_lock(&t->mutex);
    int64_t clock = t->clock_base + (monotonic_us - t->monotonic_base);
    (void)pthread_mutex_unlock(&t->mutex);
    return clock;
}

void idempotency_expire(struct idempotency *t, int64_t clock) {
    (void)pthread_mutex_lock(&t->mutex);
    expire(t, clock);
    (void)pthread_mutex_unlock(&t->mutex);
}

bool idempotency_find(struct idempotency *t, const uint8_t scope[IDEMPOTENCY_HASH_BYTES], int64_t clock, struct buf *copy,
                      struct idempotency_entry *ret) {
    buf_reset(copy);
    (void)pthread_mutex_lock(&t->mutex);
    const struct idempotency_held *e = find(t, scope);
    bool known = e != NULL && !expired(t, e, clock);
    if (known) {
        buf_put(copy, e->bytes, e->len);
        if (buf_ok(copy)) {
            *ret = e->entry;
            ret->results = slice_of(copy->data + (e->entry.results.data - e->bytes), e->entry.results.len);
        }
    }
    (void)pthread_mutex_unlock(&t->mutex);
    return known;
}

uint64_t idempotency_count(struct idempotency *t) {
    (void)pthread_mutex_lock(&t->mutex);
    uint64_t count = t->count;
    (void)pthread_mutex_unlock(&t->mutex);
    return count;
}

uint64_t idempotency_bytes(struct idempotency *t) {
    (void)pthread_mutex_lock(&t->mutex);
    uint64_t bytes = t->bytes;
    (void)pthread_mutex_unlock(&t->mutex);
    return bytes;
}

/* --- writing it out --- */

typedef void (*put_fn)(struct buf *out, const struct idempotency_held *e);

/* Puts a stretch of entries of records up to the LSN, from *place on. False: that was the last. */
static bool put_stretch(struct idempotency *t, uint64_t up_to_lsn, uint64_t *place, uint64_t *count, put_fn put,
                        struct buf *out) {
    bool more = false;
    (void)pthread_mutex_lock(&t->mutex);
    uint64_t at = *place > t->head ? *place : t->head;
    uint64_t end = t->tail - at < STRETCH ? t->tail : at + STRETCH;
    more = end < t->tail;
    for (; at < end; at++) {
        const struct idempotency_held *e = *at_place(t, at);
        if (e != NULL && e->entry.lsn > up_to_lsn) {
            more = false;
            break;
        }
        if (e != NULL) {
            put(out, e);
            (*count)++;
        }
    }
    *place = at;
    (void)pthread_mutex_unlock(&t->mutex);
    return more;
}

static uint64_t put_all(struct idempotency *t, uint64_t up_to_lsn, put_fn put, struct buf *out) {
    uint64_t place = 0, count = 0;
    while (put_stretch(t, up_to_lsn, &place, &count, put, out) && buf_ok(out)) {
    }
    return count;
}

static void put_binary(struct buf *out, const struct idempotency_held *e) {
    buf_put_varint(out, e->entry.lsn);
    buf_put_u64le(out, (uint64_t)e->entry.time_us);
    buf_put_bytes(out, slice_of(e->bytes, e->len));
}

void idempotency_encode(struct idempotency *t, uint64_t up_to_lsn, struct buf *out) {
    struct buf entries = {0};
    uint64_t count = put_all(t, up_to_lsn, put_binary, &entries);
    buf_put_u8(out, TABLE_VERSION);
    buf_put_varint(out, count);
    buf_put_slice(out, buf_slice(&entries));
    out->failed |= !buf_ok(&entries);
    buf_fini(&entries);
}

static void put_json(struct buf *out, const struct idempotency_held *e) {
    struct json_out j = json_out_to(out);
    json_begin_object(&j);
    json_member_uint(&j, "lsn", e->entry.lsn);
    json_member_time(&j, "time", e->entry.time_us);
    json_key(&j, "entry");
    struct buf text = {0};
    base64_encode(slice_of(e->bytes, e->len), &text);
    json_string(&j, buf_slice(&text));
    out->failed |= !buf_ok(&text);
    buf_fini(&text);
    json_end_object(&j);
    buf_put_u8(out, '\n');
}

void idempotency_write_jsonl(struct idempotency *t, uint64_t up_to_lsn, struct buf *out) {
    (void)put_all(t, up_to_lsn, put_json, out);
}

/* --- reading it back --- */

/* What was read and not put in yet. */
struct loading {
    struct idempotency_held *first, **last;
    uint64_t lsn;
};

static bool load(struct loading *l, uint64_t lsn, int64_t time_us, struct slice entry, struct status *st) {
    struct idempotency_held *e = NULL;
    if (lsn <= l->lsn || !idempotency_time_good(time_us)) {
        return status_set(st, STATUS_MALFORMED, "idempotency keys out of order, or of no time");
    }
    if (!idempotency_prepare(entry, &e, st)) {
        return false;
    }
    e->chain = NULL;
    e->entry.lsn = lsn;
    e->entry.time_us = time_us;
    l->lsn = lsn;
    *l->last = e;
    l->last = &e->chain;
    return true;
}

/* Puts all in when it is good, else frees all. */
static bool end_loading(struct idempotency *t, struct loading *l, bool good) {
    while (l->first != NULL) {
        struct idempotency_held *e = l->first;
        l->first = e->chain;
        if (good) {
            idempotency_insert(t, e, e->entry.lsn, e->entry.time_us);
        } else {
            free(e);
        }
    }
    return good;
}

static bool load_binary(struct loading *l, struct slice bytes, struct status *st) {
    struct reader r = reader_of(bytes);
    uint8_t version = read_u8(&r);
    uint64_t count = read_varint(&r);
    if (r.failed || version != TABLE_VERSION || count > reader_left(&r) / LEAST_ENTRY_BYTES) {
        return status_set(st, STATUS_MALFORMED, "a table of idempotency keys of version %u that does not decode",
                          (unsigned)version);
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t lsn = read_varint(&r);
        int64_t time_us = (int64_t)read_u64le(&r);
        struct slice entry = read_bytes(&r);
        if (r.failed) {
            return status_set(st, STATUS_MALFORMED, "a table of idempotency keys that is cut short");
        }
        if (!load(l, lsn, time_us, entry, st)) {
            return false;
        }
    }
    return reader_done(&r) || status_set(st, STATUS_MALFORMED, "bytes behind a table of idempotency keys");
}

bool idempotency_decode(struct idempotency *t, struct slice bytes, struct status *st) {
    struct loading l = {0};
    l.last = &l.first;
    return end_loading(t, &l, load_binary(&l, bytes, st));
}

static struct slice text_member(struct json_object *root, const char *name) {
    struct json_object *v = NULL;
    if (!json_object_object_get_ex(root, name, &v) || !json_object_is_type(v, json_type_string)) {
        return slice_of(NULL, 0);
    }
    return slice_of(json_object_get_string(v), (size_t)json_object_get_string_len(v));
}

static bool read_line(struct slice line, idempotency_line_fn fn, void *ctx, struct status *st) {
    static const struct json_limits limits = {.max_depth = 2, .max_tokens = 16, .max_keys = 8};
    struct json_document doc = {0};
    struct buf entry = {0};
    struct json_object *lsn = NULL;
    int64_t time_us = 0;
    bool ok = false;
    if (!json_document_parse(line, &limits, NULL, &doc, st)) {
        goto out;
    }
    if (!json_object_is_type(doc.root, json_type_object) || !json_object_object_get_ex(doc.root, "lsn", &lsn) ||
        !json_object_is_type(lsn, json_type_int) || !rfc3339_parse(text_member(doc.root, "time"), &time_us) ||
        !base64_decode(text_member(doc.root, "entry"), &entry)) {
        (void)status_set(st, STATUS_MALFORMED, "a line of idempotency keys without lsn, time and entry");
        goto out;
    }
    ok = buf_check(&entry, st) && fn(buf_slice(&entry), json_object_get_uint64(lsn), time_us, ctx, st);
out:
    buf_fini(&entry);
    json_document_fini(&doc);
    return ok;
}

bool idempotency_each_line(struct slice text, idempotency_line_fn fn, void *ctx, struct status *st) {
    while (text.len > 0) {
        const uint8_t *end = (const uint8_t *)memchr(text.data, '\n', text.len);
        size_t len = end == NULL ? text.len : (size_t)(end - text.data);
        if (len > 0 && !read_line(slice_of(text.data, len), fn, ctx, st)) {
            return false;
        }
        len += end == NULL ? 0 : 1;
        text = slice_of(text.data + len, text.len - len);
    }
    return true;
}

static bool load_line(struct slice entry, uint64_t lsn, int64_t time_us, void *ctx, struct status *st) {
    return load((struct loading *)ctx, lsn, time_us, entry, st);
}

bool idempotency_read_jsonl(struct idempotency *t, struct slice text, struct status *st) {
    struct loading l = {0};
    l.last = &l.first;
    return end_loading(t, &l, idempotency_each_line(text, load_line, &l, st));
}
