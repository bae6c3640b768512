/*
 * query_cache.c - see query_cache.h.
 *
 * A hash table with chains, and a list by use. An entry is made when somebody is told to ask (it has no vector then, stands in no list, and counts no
 * bytes), and stays when a vector came. One that was forgotten while its text was asked for goes when it is settled.
 */
#include "proc/query_cache.h"

#include "base/hash.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { BUCKETS = 4096, MODELS = 8, ENTRY_OVERHEAD = 160 /* the entry and what malloc takes for it */ };

struct entry {
    struct entry *next; /* of the bucket */
    struct entry *newer, *older;
    uint64_t hash;
    uint32_t model;
    bool asked;     /* its vector is under way */
    bool forgotten; /* since: what comes is not kept */
    struct buf waiters;
    size_t vector_bytes;
    size_t text_len;
    uint8_t *vector; /* behind it nothing; NULL: none yet */
    uint8_t text[];
};

struct query_cache {
    pthread_mutex_t mutex;
    uint64_t seed; /* so that nobody outside can choose texts that share a bucket */
    uint64_t max_bytes;
    struct entry *bucket[BUCKETS];
    struct entry *newest, *oldest;
    struct query_cache_figures of[MODELS];
    uint64_t bytes;
};

bool query_cache_new(uint64_t max_bytes, struct query_cache **ret, struct status *st) {
    struct query_cache *c = (struct query_cache *)calloc(1, sizeof *c);
    if (c == NULL) {
        return status_no_memory(st);
    }
    c->max_bytes = max_bytes;
    if (getrandom(&c->seed, sizeof c->seed, 0) != (ssize_t)sizeof c->seed) {
        c->seed = (uint64_t)(uintptr_t)c;
    }
    (void)pthread_mutex_init(&c->mutex, NULL);
    *ret = c;
    return true;
}

static void entry_free(struct entry *e) {
    buf_fini(&e->waiters);
    free(e->vector);
    free(e);
}

void query_cache_free(struct query_cache *c) {
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        while (c->bucket[i] != NULL) {
            struct entry *e = c->bucket[i];
            c->bucket[i] = e->next;
            entry_free(e);
        }
    }
    (void)pthread_mutex_destroy(&c->mutex);
    free(c);
}

/* --- with the mutex --- */

static uint64_t hash_of(const struct query_cache *c, uint32_t model, struct slice text) {
    return hash64(c->seed + model, text.data, text.len);
}

static struct entry *find(const struct query_cache *c, uint64_t hash, uint32_t model, struct slice text) {
    struct entry *e = c->bucket[hash % BUCKETS];
    while (e != NULL && (e->hash != hash || e->model != model || e->forgotten || !slice_equal(slice_of(e->text, e->text_len), text))) {
        e = e->next;
    }
    return e;
}

static struct query_cache_figures *figures_of(struct query_cache *c, uint32_t model) {
    return &c->of[model < MODELS ? model : MODELS - 1];
}

static uint64_t bytes_of(const struct entry *e) {
    return ENTRY_OVERHEAD + e->text_len + e->vector_bytes;
}

static void unlist(struct query_cache *c, struct entry *e) {
    *(e->newer != NULL ? &e->newer->older : &c->newest) = e->older;
    *(e->older != NULL ? &e->older->newer : &c->oldest) = e->newer;
    e->newer = NULL;
    e->older = NULL;
}

static void list(struct query_cache *c, struct entry *e) {
    e->older = c->newest;
    *(c->newest != NULL ? &c->newest->newer : &c->oldest) = e;
    c->newest = e;
}

/* Out of its bucket, and where it has a vector out of the list and the sums. */
static void drop(struct query_cache *c, struct entry *e) {
    struct entry **at = &c->bucket[e->hash % BUCKETS];
    while (*at != e) {
        at = &(*at)->next;
    }
    *at = e->next;
    if (e->vector != NULL) {
        unlist(c, e);
        c->bytes -= bytes_of(e);
        figures_of(c, e->model)->bytes -= bytes_of(e);
        figures_of(c, e->model)->entries--;
    }
    entry_free(e);
}

static bool begin(struct query_cache *c, uint64_t hash, uint32_t model, struct slice text) {
    struct entry *e = (struct entry *)calloc(1, sizeof *e + text.len + 1);
    if (e == NULL) {
        return false;
    }
    e->hash = hash;
    e->model = model;
    e->asked = true;
    e->text_len = text.len;
    if (text.len > 0) {
        memcpy(e->text, text.data, text.len);
    }
    e->next = c->bucket[hash % BUCKETS];
    c->bucket[hash % BUCKETS] = e;
    return true;
}

/* False: it cannot be kept. */
static bool keep(struct query_cache *c, struct entry *e, const float *values, size_t bytes) {
    e->vector_bytes = bytes;
    if (e->forgotten || bytes_of(e) > c->max_bytes) {
        return false;
    }
    while (c->bytes + bytes_of(e) > c->max_bytes) {
        drop(c, c->oldest);
    }
    e->vector = (uint8_t *)malloc(bytes);
    if (e->vector == NULL) {
        return false;
    }
    memcpy(e->vector, values, bytes);
    e->asked = false;
    list(c, e);
    c->bytes += bytes_of(e);
    figures_of(c, e->model)->bytes += bytes_of(e);
    figures_of(c, e->model)->entries++;
    return true;
}

/* --- the calls --- */

enum query_found query_cache_look(struct query_cache *c, uint32_t model, struct slice text, uint64_t waiter, struct buf *vector) {
    enum query_found found = QUERY_ASK;
    (void)pthread_mutex_lock(&c->mutex);
    uint64_t hash = hash_of(c, model, text);
    struct entry *e = find(c, hash, model, text);
    struct query_cache_figures *figures = figures_of(c, model);
    if (e != NULL && e->vector != NULL) {
        unlist(c, e);
        list(c, e);
        buf_put(vector, e->vector, e->vector_bytes);
        found = QUERY_HERE;
        figures->hits++;
    } else if (e != NULL) {
        buf_put(&e->waiters, &waiter, sizeof waiter);
        found = buf_ok(&e->waiters) ? QUERY_SHARED : QUERY_ASK;
        figures->shared++;
    } else {
        (void)begin(c, hash, model, text);
        figures->misses++;
    }
    (void)pthread_mutex_unlock(&c->mutex);
    return found;
}

void query_cache_settle(struct query_cache *c, uint32_t model, struct slice text, const float *values, uint32_t dimension, struct buf *ret_waiters) {
    (void)pthread_mutex_lock(&c->mutex);
    uint64_t hash = hash_of(c, model, text);
    struct entry *e = c->bucket[hash % BUCKETS];
    while (e != NULL && (!e->asked || e->hash != hash || e->model != model || !slice_equal(slice_of(e->text, e->text_len), text))) {
        e = e->next;
    }
    if (e != NULL) {
        buf_put_slice(ret_waiters, buf_slice(&e->waiters));
        buf_fini(&e->waiters);
        buf_init(&e->waiters);
        if (values == NULL || !keep(c, e, values, (size_t)dimension * sizeof(float))) {
            drop(c, e);
        }
    }
    (void)pthread_mutex_unlock(&c->mutex);
}

bool query_cache_get(struct query_cache *c, uint32_t model, struct slice text, uint32_t dimension, float *out) {
    (void)pthread_mutex_lock(&c->mutex);
    struct entry *e = find(c, hash_of(c, model, text), model, text);
    bool here = e != NULL && e->vector != NULL && e->vector_bytes == dimension * sizeof(float);
    if (here) {
        unlist(c, e);
        list(c, e);
        memcpy(out, e->vector, e->vector_bytes);
    }
    struct query_cache_figures *figures = figures_of(c, model);
    figures->hits += here ? 1 : 0;
    figures->misses += here ? 0 : 1;
    (void)pthread_mutex_unlock(&c->mutex);
    return here;
}

void query_cache_put(struct query_cache *c, uint32_t model, struct slice text, const float *values, uint32_t dimension) {
    (void)pthread_mutex_lock(&c->mutex);
    uint64_t hash = hash_of(c, model, text);
    if (find(c, hash, model, text) == NULL && begin(c, hash, model, text)) { /* else it is there, or somebody is asking who will settle it */
        struct entry *e = c->bucket[hash % BUCKETS];
        if (!keep(c, e, values, (size_t)dimension * sizeof(float))) {
            drop(c, e);
        }
    }
    (void)pthread_mutex_unlock(&c->mutex);
}

void query_cache_forget(struct query_cache *c, uint32_t model) {
    (void)pthread_mutex_lock(&c->mutex);
    for (size_t i = 0; i < BUCKETS; i++) {
        struct entry *next = NULL;
        for (struct entry *e = c->bucket[i]; e != NULL; e = next) {
            next = e->next;
            if (e->model == model && e->asked) {
                e->forgotten = true;
            } else if (e->model == model) {
                drop(c, e);
            }
        }
    }
    (void)pthread_mutex_unlock(&c->mutex);
}

void query_cache_figures(struct query_cache *c, uint32_t model, struct query_cache_figures *ret) {
    (void)pthread_mutex_lock(&c->mutex);
    *ret = *figures_of(c, model);
    (void)pthread_mutex_unlock(&c->mutex);
}
