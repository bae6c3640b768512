/*
 * filter_cache.c - which slots leaves were found to match before.
 *
 * A value of a slot never changes, so what was found for the slots below some number stays true, and only slots above it are asked about when the library has
 * grown. An answer belongs to one generation of one library's arena; after a restore or an optimization its key is another, and the old one ages out.
 *
 * A set that takes one slot in SPARSE or fewer is kept as a roaring bitmap, a denser one as plain words: those are used where they lie, and a roaring bitmap
 * would hold them in bit sets of the same size, which its interface gives out one number at a time (1.5 ns each: 75 us for half of 100,000 slots).
 *
 * CRoaring 0.2.66 does not survive a failed allocation: its containers are written to without a look at what malloc gave. So before it is called, as much
 * as it can ask for is taken and given back. A process that has no other thread (a worker) then surely gets it; one with many threads has no limit
 * of memory that malloc would report.
 */
#include "store/filter_internal.h"

#include "base/hash.h"

#include <roaring/roaring.h>
#include <stdlib.h>

#define SPARSE 64
#define BUCKETS 16384 /* a power of two */
#define SEED_FINDING 0x71
#define ENTRY_ROOM 4096 /* what an entry may take beside its bits, generously */
#define VALUES_AT_ONCE 256
#define CONTAINER_SLOTS 65536

struct finding {
    struct finding *next_in_bucket;
    struct finding *newer, *older;
    uint64_t hash;
    uint8_t *key;
    size_t key_bytes;
    uint32_t known; /* slots below it */
    uint64_t count;
    uint64_t *words; /* dense; else NULL */
    uint32_t words_room;
    roaring_bitmap_t *sparse;
    uint64_t bytes; /* of it all, as counted against max_bytes */
};

struct findings {
    uint64_t max_bytes;
    uint64_t bytes;
    struct finding *newest, *oldest;
    struct finding *buckets[BUCKETS];
    void *probe;
};

/* Bits in words, eight bits' sums at a time; compilers turn the loop into vector instructions. */
uint64_t count_bits(const uint64_t *words, uint32_t count) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t v = words[i];
        v -= v >> 1 & UINT64_C(0x5555555555555555);
        v = (v & UINT64_C(0x3333333333333333)) + (v >> 2 & UINT64_C(0x3333333333333333));
        v = (v + (v >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
        v += v >> 8;
        v += v >> 16;
        v += v >> 32;
        sum += v & 0x7f;
    }
    return sum;
}

struct findings *findings_new(uint64_t max_bytes) {
    struct findings *f = (struct findings *)calloc(1, sizeof *f);
    if (f != NULL) {
        f->max_bytes = max_bytes;
    }
    return f;
}

/* --- the list and the table --- */

static struct finding **place_of(struct findings *f, uint64_t hash, struct slice key) {
    struct finding **at = &f->buckets[hash & (BUCKETS - 1)];
    while (*at != NULL && !((*at)->hash == hash && slice_equal(slice_of((*at)->key, (*at)->key_bytes), key))) {
        at = &(*at)->next_in_bucket;
    }
    return at;
}

static void list_remove(struct findings *f, struct finding *x) {
    *(x->newer != NULL ? &x->newer->older : &f->newest) = x->older;
    *(x->older != NULL ? &x->older->newer : &f->oldest) = x->newer;
}

static void list_put_first(struct findings *f, struct finding *x) {
    x->newer = NULL;
    x->older = f->newest;
    *(f->newest != NULL ? &f->newest->newer : &f->oldest) = x;
    f->newest = x;
}

static void finding_free(struct finding *x) {
    free(x->words);
    if (x->sparse != NULL) {
        roaring_bitmap_free(x->sparse);
    }
    free(x->key);
    free(x);
}

static void drop(struct findings *f, struct finding *x) {
    *place_of(f, x->hash, slice_of(x->key, x->key_bytes)) = x->next_in_bucket;
    list_remove(f, x);
    f->bytes -= x->bytes;
    finding_free(x);
}

void findings_free(struct findings *f) {
    while (f != NULL && f->newest != NULL) {
        drop(f, f->newest);
    }
    free(f);
}

/* Lets the oldest go until `bytes` more fit; false: they never do. keep: not that one. */
static bool make_room(struct findings *f, uint64_t bytes, const struct finding *keep) {
    while (f->bytes + bytes > f->max_bytes) {
        struct finding *x = f->oldest == keep && keep != NULL ? keep->newer : f->oldest;
        if (x == NULL) {
            return false;
        }
        drop(f, x);
    }
    return true;
}

/* --- keys --- */

static void put_value(struct buf *out, const struct filter_value *v) {
    double number = v->number + 0.0; /* no negative zero */
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    buf_put_u8(out, (uint8_t)v->type);
    switch (v->type) {
    case FILTER_BOOL:
        buf_put_u8(out, v->boolean ? 1 : 0);
        break;
    case FILTER_NUMBER:
        buf_put_u64le(out, bits);
        break;
    case FILTER_TEXT:
        buf_put_bytes(out, v->text);
        break;
    case FILTER_NULL:
        break;
    }
}

void findings_key(const struct library_view *view, const struct filter *f, struct buf *out) {
    struct leaf l = leaf_of(f);
    buf_reset(out);
    buf_put(out, view->id.b, UUID_BYTES);
    buf_put_u32le(out, view->arena_generation);
    buf_put_u8(out, (uint8_t)(l.op == OPERATOR_IN && l.value_count == 1 ? OPERATOR_EQ : l.op));
    buf_put_u8(out, l.negated ? 1 : 0);
    buf_put_bytes(out, l.path);
    for (uint32_t i = 0; i < l.value_count; i++) {
        put_value(out, &l.values[i]);
    }
}

struct finding *findings_find(struct findings *f, struct slice key, uint32_t *ret_known) {
    struct finding *x = *place_of(f, hash64(SEED_FINDING, key.data, key.len), key);
    if (x != NULL) {
        list_remove(f, x);
        list_put_first(f, x);
        *ret_known = x->known;
    }
    return x;
}

/* --- bits --- */

static void set_sparse(const roaring_bitmap_t *sparse, uint64_t *words) {
    uint32_t values[VALUES_AT_ONCE];
    roaring_uint32_iterator_t it;
    roaring_init_iterator(sparse, &it);
    for (uint32_t n; (n = roaring_read_uint32_iterator(&it, values, VALUES_AT_ONCE)) > 0;) {
        for (uint32_t i = 0; i < n; i++) {
            words[values[i] / WORD_SLOTS] |= UINT64_C(1) << (values[i] % WORD_SLOTS);
        }
    }
}

const uint64_t *finding_words(const struct finding *x, uint32_t slots, uint64_t *words) {
    if (x->words != NULL) {
        return x->words;
    }
    memset(words, 0, words_for(slots) * sizeof *words);
    set_sparse(x->sparse, words);
    return words;
}

uint64_t finding_count(const struct finding *x) {
    return x->count;
}

/* At most what CRoaring allocates for so many more values among so many slots, what it lets go on the way included. */
static uint64_t sparse_need(uint64_t count, uint32_t slots) {
    uint64_t containers = slots / CONTAINER_SLOTS + 1;
    return ENTRY_ROOM + containers * 256 + count * 16;
}

/* Whether malloc would give so much now. What was taken is shown to the outside, so that no compiler leaves it out. */
static bool memory_at_hand(struct findings *f, uint64_t bytes) {
    f->probe = malloc(bytes);
    bool there = f->probe != NULL;
    free(f->probe);
    f->probe = NULL;
    return there;
}

static void add_sparse(struct finding *x, const uint64_t *words, uint32_t from, uint32_t slots) {
    uint32_t values[VALUES_AT_ONCE];
    uint32_t n = 0;
    for (uint32_t i = from / WORD_SLOTS; i < words_for(slots); i++) {
        for (uint64_t left = words[i]; left != 0; left &= left - 1) {
            uint32_t slot = i * WORD_SLOTS + (uint32_t)__builtin_ctzll(left);
            if (slot < from) {
                continue;
            }
            values[n++] = slot;
            if (n == VALUES_AT_ONCE) {
                roaring_bitmap_add_many(x->sparse, n, values);
                n = 0;
            }
        }
    }
    if (n > 0) {
        roaring_bitmap_add_many(x->sparse, n, values);
    }
}

/* Bytes to count for a sparse set: what it has and what CRoaring may hold in reserve. */
static uint64_t sparse_bytes(uint64_t count, uint32_t slots) {
    return slots / CONTAINER_SLOTS * 32 + count * 4 + 256;
}

static uint64_t dense_bytes(uint32_t room) {
    return (uint64_t)room * sizeof(uint64_t);
}

static uint64_t head_bytes(const struct finding *x) {
    return sizeof *x + x->key_bytes;
}

static void recount(struct findings *f, struct finding *x, uint64_t bits) {
    uint64_t bytes = head_bytes(x) + bits;
    f->bytes = f->bytes - x->bytes + bytes;
    x->bytes = bytes;
}

/* Makes or grows the words, half as many again. */
static bool grow_words(struct findings *f, struct finding *x, uint32_t slots) {
    uint32_t wanted = words_for(slots);
    if (wanted <= x->words_room) {
        return true;
    }
    uint32_t room = x->words_room == 0 ? wanted : wanted + wanted / 8;
    if (!make_room(f, dense_bytes(room), x)) {
        return false;
    }
    uint64_t *words = (uint64_t *)realloc(x->words, dense_bytes(room));
    if (words == NULL) {
        return false;
    }
    x->words = words;
    x->words_room = room;
    recount(f, x, dense_bytes(room));
    return true;
}

static bool extend_dense(struct findings *f, struct finding *x, const uint64_t *words, uint32_t slots) {
    uint32_t first = x->known / WORD_SLOTS;
    uint32_t last = words_for(slots);
    uint64_t before = x->known % WORD_SLOTS != 0 ? count_bits(&x->words[first], 1) : 0;
    if (!grow_words(f, x, slots)) {
        return false;
    }
    memcpy(x->words + first, words + first, (last - first) * sizeof *words);
    x->count += count_bits(words + first, last - first) - before;
    return true;
}

/* A sparse set that has become dense. */
static bool turn_dense(struct findings *f, struct finding *x, uint32_t slots) {
    roaring_bitmap_t *sparse = x->sparse;
    if (!grow_words(f, x, slots)) {
        return false;
    }
    memset(x->words, 0, words_for(slots) * sizeof *x->words);
    set_sparse(sparse, x->words);
    x->sparse = NULL;
    roaring_bitmap_free(sparse);
    return true;
}

/* Bits at or above `from`. */
static uint64_t count_from(const uint64_t *words, uint32_t from, uint32_t slots) {
    uint32_t first = from / WORD_SLOTS;
    uint64_t below = words_for(slots) > first ? words[first] & ((UINT64_C(1) << (from % WORD_SLOTS)) - 1) : 0;
    return count_bits(words + first, words_for(slots) - first) - count_bits(&below, 1);
}

static bool extend_sparse(struct findings *f, struct finding *x, const uint64_t *words, uint32_t slots) {
    uint64_t more = count_from(words, x->known, slots);
    if ((x->count + more) * SPARSE > slots) {
        return turn_dense(f, x, slots) && extend_dense(f, x, words, slots);
    }
    uint64_t bytes = sparse_bytes(x->count + more, slots);
    if (!make_room(f, bytes, x) || !memory_at_hand(f, sparse_need(x->count + more, slots))) {
        return false;
    }
    add_sparse(x, words, x->known, slots);
    x->count += more;
    recount(f, x, bytes);
    return true;
}

struct finding *findings_extend(struct findings *f, struct finding *x, const uint64_t *words, uint32_t slots) {
    if (!(x->words != NULL ? extend_dense(f, x, words, slots) : extend_sparse(f, x, words, slots))) {
        drop(f, x);
        return NULL;
    }
    x->known = slots;
    return x;
}

static struct finding *finding_new(struct findings *f, struct slice key) {
    if (!memory_at_hand(f, ENTRY_ROOM + key.len)) {
        return NULL;
    }
    struct finding *x = (struct finding *)calloc(1, sizeof *x);
    if (x == NULL) {
        return NULL;
    }
    x->key = (uint8_t *)malloc(key.len);
    x->sparse = roaring_bitmap_create();
    if (x->key == NULL || x->sparse == NULL) {
        finding_free(x);
        return NULL;
    }
    memcpy(x->key, key.data, key.len);
    x->key_bytes = key.len;
    x->hash = hash64(SEED_FINDING, key.data, key.len);
    return x;
}

struct finding *findings_add(struct findings *f, struct slice key, const uint64_t *words, uint32_t slots) {
    if (!make_room(f, sizeof(struct finding) + key.len, NULL)) {
        return NULL;
    }
    struct finding *x = finding_new(f, key);
    if (x == NULL) {
        return NULL;
    }
    *place_of(f, x->hash, key) = x;
    list_put_first(f, x);
    recount(f, x, 0);
    return findings_extend(f, x, words, slots);
}
