/*
 * provider_model.c - one remote model in the provider process: who it is, and the threads that ask it.
 *
 *   prober        asks for the fixed texts' vectors: at the start until it is answered, then every probe_interval seconds, so that a provider that has
 *                 exchanged its model is noticed
 *   hurry N       requests that somebody waits for: queries, and behind them writes of libraries that say `reject`, of which many may wait at a time
 *   bulk N        chunks that were committed without their vectors; one fewer than the provider takes calls at a time, so that a query never waits for them
 *
 * A request that comes before the model is known waits for the attempt that is under way, and gets what became of it.
 */
#include "proc/provider_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "proc/thread.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { US_PER_MS = 1000, FIRST_PAUSE_MS = 250, LONGEST_PAUSE_MS = 30000 };
#define US_PER_SECOND INT64_C(1000000)

/* Until deadline_us at most; false when it has passed. With the mutex. */
static bool wait_until(struct provider_model *m, pthread_cond_t *cond, int64_t deadline_us) {
    const struct timespec at = {.tv_sec = deadline_us / US_PER_SECOND, .tv_nsec = deadline_us % US_PER_SECOND * 1000};
    return pthread_cond_timedwait(cond, &m->mutex, &at) != ETIMEDOUT;
}

/* --- what is known --- */

/* With the mutex. st STATUS_OK: it went well. */
static void note_outcome(struct provider_model *m, const struct status *st, uint64_t retry_after_ms) {
    if (st->code != STATUS_OK) {
        m->failures++;
        m->retry_after_ms = retry_after_ms;
    }
    m->failure = *st;
}

static void note_identity(struct provider_model *m, const struct remote_identity *found) {
    bool known = m->identity.dimension != 0;
    if (known && m->identity.dimension == found->dimension && remote_same_model(m->identity.fingerprint, found->fingerprint)) {
        return;
    }
    m->identity = *found;
    query_cache_forget(m->cache, m->number);
    if (known) {
        log_warn("the provider of \"%s\" answers with another model than before, of %u dimensions; libraries that were made with the one before keep their "
                 "vectors and get no new ones (docs/models.md)",
                 m->settings->name, found->dimension);
    } else {
        log_info("the model \"%s\" has %u dimensions, fingerprint %016llx", m->settings->name, found->dimension, (unsigned long long)found->fingerprint);
    }
}

static void probe_once(struct provider_model *m, int64_t *pause_ms) {
    struct remote_identity found = {0};
    struct remote_outcome outcome = {0};
    struct status st = {0};
    bool ok = remote_probe(m->client, clock_monotonic_us() + (int64_t)m->settings->timeout_ms * US_PER_MS, &found, &outcome, &st);
    (void)pthread_mutex_lock(&m->mutex);
    bool told = m->failure.code != STATUS_OK;
    note_outcome(m, &st, outcome.retry_after_ms);
    if (ok) {
        note_identity(m, &found);
        *pause_ms = FIRST_PAUSE_MS;
        m->probe_at_us = clock_monotonic_us() + m->probe_interval_us;
    } else {
        int64_t pause = outcome.retry_after_ms > (uint64_t)*pause_ms ? (int64_t)outcome.retry_after_ms : *pause_ms;
        *pause_ms = *pause_ms * 2 < LONGEST_PAUSE_MS ? *pause_ms * 2 : LONGEST_PAUSE_MS;
        m->probe_at_us = clock_monotonic_us() + pause * US_PER_MS;
        m->probe_at_us = m->identity.dimension != 0 || pause <= LONGEST_PAUSE_MS ? m->probe_at_us : clock_monotonic_us() + LONGEST_PAUSE_MS * US_PER_MS;
        if (!told) {
            log_warn("the provider of \"%s\" does not answer: %s", m->settings->name, st.detail);
        }
    }
    m->probing = false;
    (void)pthread_cond_broadcast(&m->probed);
    (void)pthread_mutex_unlock(&m->mutex);
}

static void *run_prober(void *arg) {
    struct provider_model *m = (struct provider_model *)arg;
    int64_t pause_ms = FIRST_PAUSE_MS;
    for (;;) {
        (void)pthread_mutex_lock(&m->mutex);
        m->probing = m->probe_at_us == 0;
        while (!m->probing && !m->probe_now && clock_monotonic_us() < m->probe_at_us) {
            (void)wait_until(m, &m->probed, m->probe_at_us);
        }
        m->probing = true;
        m->probe_now = false;
        (void)pthread_mutex_unlock(&m->mutex);
        probe_once(m, &pause_ms);
    }
    return NULL;
}

bool provider_model_known(struct provider_model *m, struct remote_identity *ret) {
    (void)pthread_mutex_lock(&m->mutex);
    *ret = m->identity;
    (void)pthread_mutex_unlock(&m->mutex);
    return ret->dimension != 0;
}

/* Waits for an attempt that is under way. False: it failed, or none is. */
static bool await_identity(struct provider_model *m, int64_t deadline_us, struct remote_identity *ret, struct provider_answer *a) {
    (void)pthread_mutex_lock(&m->mutex);
    bool in_time = true;
    while (m->identity.dimension == 0 && in_time && (m->probing || m->probe_at_us == 0)) {
        in_time = wait_until(m, &m->probed, deadline_us);
    }
    *ret = m->identity;
    int64_t left_us = m->probe_at_us - clock_monotonic_us();
    a->status = m->failure;
    a->retry_after_ms = left_us > 0 ? (uint64_t)left_us / US_PER_MS + 1 : 1;
    (void)pthread_mutex_unlock(&m->mutex);
    if (ret->dimension == 0 && (a->status.code == STATUS_OK || !in_time)) {
        (void)status_set(&a->status, STATUS_NO_EMBEDDING, "the provider of %s has not said yet what its model is", m->settings->name);
    }
    return ret->dimension != 0;
}

/* --- asking --- */

static struct slice *texts_of(struct provider_job *job) {
    struct slice *texts = (struct slice *)malloc(job->ask.count * sizeof *texts);
    struct provider_ask walk = job->ask;
    for (uint32_t i = 0; texts != NULL && i < job->ask.count && provider_ask_next(&walk, &texts[i]); i++) {
    }
    return texts;
}

/* Several queries of one call: those that are remembered get their vectors from there. Returns how many are not, their texts moved to the front, their places in
 * `places`. */
static uint32_t recall_queries(struct provider_model *m, uint32_t dimension, struct slice *texts, uint32_t count, float *out, uint32_t *places) {
    uint32_t missing = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!query_cache_get(m->cache, m->number, texts[i], dimension, out + (size_t)i * dimension)) {
            texts[missing] = texts[i];
            places[missing++] = i;
        }
    }
    return missing;
}

/* What came for them goes to its place, and is remembered; but not what was asked of a model that has changed since. */
static void take_queries(struct provider_model *m, const struct remote_identity *identity, const struct slice *texts, uint32_t count, const float *fresh,
                         float *out, const uint32_t *places) {
    struct remote_identity now;
    bool same = provider_model_known(m, &now) && now.fingerprint == identity->fingerprint;
    for (uint32_t i = 0; i < count; i++) {
        const float *vector = fresh + (size_t)i * identity->dimension;
        memcpy(out + (size_t)places[i] * identity->dimension, vector, identity->dimension * sizeof *out);
        if (same) {
            query_cache_put(m->cache, m->number, texts[i], vector, identity->dimension);
        }
    }
}

/* As remote_embed, by way of what is remembered. All or none. */
static bool embed_queries(struct provider_model *m, const struct remote_identity *identity, const struct remote_request *request, struct slice *texts, float *out,
                          struct remote_outcome *outcome, struct status *st) {
    uint32_t count = (uint32_t)request->count;
    uint32_t *places = (uint32_t *)malloc(count * sizeof *places);
    float *fresh = (float *)malloc((size_t)count * identity->dimension * sizeof *fresh);
    bool ok = (places != NULL && fresh != NULL) || status_no_memory(st);
    if (ok) {
        struct remote_request rest = *request;
        rest.count = recall_queries(m, identity->dimension, texts, count, out, places);
        ok = rest.count == 0 || remote_embed(m->client, &rest, fresh, outcome, st);
        take_queries(m, identity, texts, (uint32_t)(ok ? rest.count : 0), fresh, out, places);
    }
    outcome->done = 0;
    outcome->permanent = false;
    free(places);
    free(fresh);
    return ok;
}

/* *out: malloc'd, a->values lie in it. */
static void ask_provider(struct provider_model *m, struct provider_job *job, struct provider_answer *a, float **out) {
    struct remote_identity identity;
    struct remote_outcome outcome = {0};
    if (!await_identity(m, job->deadline_us, &identity, a)) {
        return;
    }
    status_clear(&a->status);
    a->retry_after_ms = 0;
    struct slice *texts = texts_of(job);
    *out = (float *)malloc((size_t)job->ask.count * identity.dimension * sizeof **out);
    if (texts == NULL || *out == NULL) {
        free(texts);
        (void)status_no_memory(&a->status);
        return;
    }
    const struct remote_request request = {.role = (enum embed_role)job->ask.role,
                                           .texts = texts,
                                           .count = job->ask.count,
                                           .dimension = identity.dimension,
                                           .deadline_us = job->deadline_us};
    bool several = job->ask.role == EMBED_QUERY && job->ask.count > 1;
    bool ok = several ? embed_queries(m, &identity, &request, texts, *out, &outcome, &a->status)
                      : remote_embed(m->client, &request, *out, &outcome, &a->status);
    free(texts);
    a->done = (uint32_t)(ok ? job->ask.count : outcome.done);
    a->permanent = outcome.permanent;
    a->retry_after_ms = outcome.retry_after_ms;
    a->fingerprint = identity.fingerprint;
    a->dimension = identity.dimension;
    a->values = slice_of(*out, (size_t)a->done * identity.dimension * sizeof **out);
    (void)pthread_mutex_lock(&m->mutex);
    note_outcome(m, &a->status, outcome.retry_after_ms);
    if (outcome.failure == REMOTE_BAD_REPLY) { /* of another dimension, perhaps */
        m->probe_now = true;
        (void)pthread_cond_broadcast(&m->probed);
    }
    (void)pthread_mutex_unlock(&m->mutex);
}

static void settle(struct provider_model *m, struct provider_job *job, const struct provider_answer *a, const float *vector) {
    struct provider_ask walk = job->ask;
    struct slice text;
    struct buf waiters = {0};
    struct remote_identity now;
    if (!job->cached || !provider_ask_next(&walk, &text)) {
        return;
    }
    /* what was asked of a model that has changed since is not kept */
    bool same = provider_model_known(m, &now) && now.fingerprint == a->fingerprint;
    query_cache_settle(m->cache, m->number, text, a->done == 1 && same ? vector : NULL, a->dimension, &waiters);
    for (size_t at = 0; at + sizeof(uint64_t) <= waiters.len; at += sizeof(uint64_t)) {
        uint64_t request;
        memcpy(&request, waiters.data + at, sizeof request);
        provider_answer(request, a);
    }
    buf_fini(&waiters);
}

static void do_job(struct provider_model *m, struct provider_job *job) {
    struct provider_answer a = {0};
    float *out = NULL;
    if (m->client == NULL) {
        a.status = m->failure;
    } else if (clock_monotonic_us() >= job->deadline_us) {
        (void)status_set(&a.status, STATUS_NO_EMBEDDING, "the provider of %s had no time for this within its deadline", m->settings->name);
    } else {
        ask_provider(m, job, &a, &out);
    }
    settle(m, job, &a, out);
    provider_answer(job->request, &a);
    free(out);
    free(job->payload);
    free(job);
}

/* --- the lanes --- */

static _Noreturn void run_lane(struct provider_model *m, struct provider_queue *q) {
    for (;;) {
        (void)pthread_mutex_lock(&m->mutex);
        while (q->first == NULL) {
            (void)pthread_cond_wait(&q->more, &m->mutex);
        }
        struct provider_job *job = q->first;
        q->first = job->next;
        q->end = q->first == NULL ? &q->first : q->end;
        (void)pthread_mutex_unlock(&m->mutex);
        do_job(m, job);
    }
}

static void *run_hurry(void *arg) {
    struct provider_model *m = (struct provider_model *)arg;
    run_lane(m, &m->hurry);
}

static void *run_bulk(void *arg) {
    struct provider_model *m = (struct provider_model *)arg;
    run_lane(m, &m->bulk);
}

/* A query goes before all that is none. */
static void put(struct provider_queue *q, struct provider_job *job) {
    struct provider_job **at = job->ask.role == EMBED_QUERY ? &q->first : q->end;
    while (*at != NULL && (*at)->ask.role == EMBED_QUERY) {
        at = &(*at)->next;
    }
    job->next = *at;
    *at = job;
    q->end = job->next == NULL ? &job->next : q->end;
}

void provider_model_take(struct provider_model *m, struct provider_job *job) {
    struct provider_queue *q = job->ask.hurry ? &m->hurry : &m->bulk;
    (void)pthread_mutex_lock(&m->mutex);
    put(q, job);
    (void)pthread_cond_signal(&q->more);
    (void)pthread_mutex_unlock(&m->mutex);
}

static bool start_some(struct provider_model *m, const char *what, void *(*run)(void *), uint64_t count, struct status *st) {
    for (uint64_t i = 0; i < count && i < PROVIDER_LANES_MAX; i++) {
        pthread_t thread;
        char name[16];
        (void)snprintf(name, sizeof name, "%s %u", what, m->number);
        if (!thread_start(&thread, name, run, m, st)) {
            return false;
        }
        (void)pthread_detach(thread);
    }
    return true;
}

bool provider_model_begin(struct provider_model *m, struct status *st) {
    uint64_t calls = m->settings->concurrency;
    m->hurry.end = &m->hurry.first;
    m->bulk.end = &m->bulk.first;
    (void)pthread_mutex_init(&m->mutex, NULL);
    (void)pthread_cond_init(&m->hurry.more, NULL);
    (void)pthread_cond_init(&m->bulk.more, NULL);
    return thread_cond_init(&m->probed, st) && start_some(m, "hurry", run_hurry, calls, st) &&
           start_some(m, "bulk", run_bulk, calls > 1 ? calls - 1 : 1, st) && (m->client == NULL || start_some(m, "probe", run_prober, 1, st));
}

void provider_model_figures(struct provider_model *m, struct figures_provider *ret) {
    struct query_cache_figures cache;
    struct remote_state client = {0};
    *ret = (struct figures_provider){0};
    query_cache_figures(m->cache, m->number, &cache);
    if (m->client != NULL) {
        remote_state(m->client, &client);
    }
    (void)pthread_mutex_lock(&m->mutex);
    bool known = m->identity.dimension != 0;
    ret->state = m->failure.code != STATUS_OK ? PROVIDER_AWAY : known ? PROVIDER_READY : PROVIDER_UNKNOWN;
    ret->dimension = m->identity.dimension;
    ret->fingerprint = m->identity.fingerprint;
    ret->retry_after_ms = ret->state == PROVIDER_AWAY ? m->retry_after_ms : 0;
    ret->failures = m->failures;
    if (ret->state == PROVIDER_AWAY) {
        (void)snprintf(ret->error, sizeof ret->error, "%.*s", PROVIDER_ERROR_MAX - 1, m->failure.detail);
    }
    (void)pthread_mutex_unlock(&m->mutex);
    ret->calls = client.calls;
    ret->retries = client.retries;
    ret->texts = client.texts;
    ret->tokens = client.tokens;
    ret->busy_us = client.busy_us;
    memcpy(ret->failed_calls, client.failures, sizeof ret->failed_calls);
    ret->failed_calls[REMOTE_DONE] = 0;
    ret->cache_hits = cache.hits;
    ret->cache_misses = cache.misses;
    ret->cache_shared = cache.shared;
    ret->cache_bytes = cache.bytes;
    ret->cache_entries = cache.entries;
}
