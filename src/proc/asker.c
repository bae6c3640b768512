/*
 * asker.c - see asker.h.
 *
 * Each remote model has as many threads as calls may be under way at its provider, less one that is left to queries. A thread goes over all libraries of its
 * model, claims chunks (store/backlog.h), asks, and commits what came. Whatever goes wrong gives the claims back and rests the model: as long as
 * the provider says, or a pause that doubles. What was asked for and has not been committed when the server dies is asked for again; nothing else is.
 *
 * Sides of exchanges (store/exchange.h) are asked for as libraries are, while they are wanted; what comes is committed as of the other model. An answer that an exchange
 * has overtaken is committed as what it is by then, so that it was not paid for in vain.
 *
 * Two models never mix: a library's fingerprint was fixed by its first vectors. Where the provider's model is not the same any more, the library is left alone.
 */
#include "proc/asker.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "embed/remote.h"
#include "proc/background.h"
#include "proc/committer.h"
#include "proc/lock.h"
#include "proc/providers.h"
#include "proc/thread.h"
#include "shm/atomics.h"
#include "store/backlog.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    NICE = 5,
    US_PER_MS = 1000,
    THREADS_MAX = 8,          /* of one model */
    TEXTS_BYTES = 4194304,    /* in one request */
    TEXT_BYTES = 3145728,     /* of one text; models take less */
    FIRST_PAUSE_MS = 200,
    LONGEST_PAUSE_MS = 60000,
    LOOK_US = 1000000,        /* a library whose model was not known may be known by now */
    GRACE_US = 5000000        /* beyond the provider's own deadline */
};

struct asked_model {
    struct asker *asker;
    uint8_t number; /* of the configuration's sections */
    const struct remote_settings *settings;
    struct figures_provider_slot *figures;
    /* under the asker's mutex */
    int64_t not_before_us;
    int64_t pause_ms;
    bool resting; /* said in the log */
};

struct asker {
    struct supervisor *s;
    struct lock mutex;
    pthread_cond_t wake;
    /* under the mutex */
    uint64_t wakes;
    uint32_t stopping; /* written under it, read without (atomic) */
    struct asked_model model[REMOTE_MODELS_MAX];
    pthread_t threads[REMOTE_MODELS_MAX * THREADS_MAX];
    size_t started;
};

/* What a thread works with. */
struct hand {
    struct asked_model *m;
    struct wanted wanted;
    struct buf payload; /* of an answer */
    float *values;      /* aligned */
    size_t values_room;
};

static bool is_stopping(const struct asker *a) {
    return load_relaxed_u32(&a->stopping) != 0;
}

/* --- resting ---------------------------------------------------------------------------------------------------------- */

static void rest(struct asked_model *m, const struct provider_answer *answer) {
    struct asker *a = m->asker;
    lock_take(&a->mutex);
    int64_t pause = answer->retry_after_ms > (uint64_t)m->pause_ms ? (int64_t)answer->retry_after_ms : m->pause_ms;
    pause = pause < LONGEST_PAUSE_MS ? pause : LONGEST_PAUSE_MS;
    m->pause_ms = m->pause_ms * 2 < LONGEST_PAUSE_MS ? m->pause_ms * 2 : LONGEST_PAUSE_MS;
    m->not_before_us = clock_monotonic_us() + pause * US_PER_MS;
    store_relaxed_u64(&m->figures->waiting_until_us, (uint64_t)m->not_before_us);
    bool news = !m->resting;
    m->resting = true;
    lock_release(&a->mutex);
    if (news) {
        log_warn("vectors of \"%s\" are delayed, texts are found by their words: %s", m->settings->name, answer->status.detail);
    }
}

static void note_success(struct asked_model *m) {
    struct asker *a = m->asker;
    lock_take(&a->mutex);
    bool news = m->resting;
    m->resting = false;
    m->pause_ms = FIRST_PAUSE_MS;
    m->not_before_us = 0;
    store_relaxed_u64(&m->figures->waiting_until_us, 0);
    lock_release(&a->mutex);
    if (news) {
        log_info("vectors of \"%s\" are made again", m->settings->name);
    }
}

/* --- committing ------------------------------------------------------------------------------------------------------- */

static uint64_t pinned_fingerprint(struct library *lib) {
    struct reading rd;
    library_reading(lib, &rd);
    return rd.view.model_fingerprint;
}

/* The fingerprint under which the library takes vectors of that model; 0: it does not. */
static uint64_t fitting_fingerprint(struct library *lib, uint64_t fingerprint) {
    uint64_t pinned = pinned_fingerprint(lib);
    return pinned == 0 ? fingerprint : remote_same_model(pinned, fingerprint) ? pinned : 0;
}

static bool commit_vectors(struct hand *h, struct library *lib, const struct op_vectors *head, struct status *st) {
    struct buf op = {0};
    struct reading rd;
    library_reading(lib, &rd);
    for (uint32_t i = 0; i < head->count; i++) {
        h->wanted.of[i].values = h->values + (size_t)i * head->dimension;
    }
    op_encode_vectors_of(&op, &rd.view.id, head, h->wanted.of);
    bool ok = buf_check(&op, st) && committer_submit(h->m->asker->s->committer, &op, st);
    buf_fini(&op);
    return ok;
}

/* Of two threads that bring a library's first vectors one comes second, and may have to take the other's fingerprint; and a side may have become the library that
 * serves, or the other way round. */
static bool commit(struct hand *h, struct library *lib, const struct provider_answer *answer, uint32_t count, struct status *st) {
    struct op_vectors head = {.dimension = answer->dimension, .count = count};
    for (;;) {
        uint64_t fingerprint = fitting_fingerprint(lib, answer->fingerprint);
        bool side = backlog_is_side(lib);
        if (fingerprint == 0) {
            return status_set(st, STATUS_CONFLICT, "the provider has another model by now");
        }
        if (fingerprint == head.fingerprint && side == head.other) {
            return false;
        }
        head.fingerprint = fingerprint;
        head.other = side;
        if (commit_vectors(h, lib, &head, st)) {
            return true;
        }
    }
}

/* --- asking ----------------------------------------------------------------------------------------------------------- */

static bool copy_values(struct hand *h, const struct provider_answer *answer) {
    size_t count = answer->values.len / sizeof(float);
    if (count > h->values_room) {
        float *values = (float *)realloc(h->values, count * sizeof *values);
        if (values == NULL) {
            return false;
        }
        h->values = values;
        h->values_room = count;
    }
    if (count > 0) {
        memcpy(h->values, answer->values.data, answer->values.len);
    }
    return true;
}

/* The text that the provider will never take keeps its claim: it is not asked for again before the next start. */
static size_t note_refused(struct hand *h, struct library *lib, const struct provider_answer *answer) {
    struct status st = {0};
    if (!answer->permanent || answer->done >= h->wanted.count || !backlog_refuse_wanted(lib, &h->wanted, answer->done, &st)) {
        return answer->done;
    }
    (void)add_relaxed_u64(&h->m->figures->refused_texts, 1);
    log_warn("the provider of \"%s\" refuses a text, which is found by its words only: %s", h->m->settings->name, answer->status.detail);
    return answer->done + 1;
}

/* Nobody wants its vectors any more. */
static bool is_over(struct library *lib) {
    return library_is_deleted(lib) || library_remote_model(lib) == NULL;
}

/* Asks for what was claimed, and commits what came. False: the model is to rest. */
static bool ask_claimed(struct hand *h, struct library *lib, struct provider_answer *answer) {
    struct wanted *w = &h->wanted;
    for (size_t i = 0; i < w->count; i++) {
        w->texts[i].len = utf8_prefix(w->texts[i], TEXT_BYTES);
    }
    int64_t deadline_us = clock_monotonic_us() + (int64_t)h->m->settings->timeout_ms * US_PER_MS * 2 + GRACE_US;
    providers_ask(h->m->asker->s->providers, h->m->number, w->texts, (uint32_t)w->count, deadline_us, &h->payload, answer);
    uint32_t done = answer->done < w->count ? answer->done : (uint32_t)w->count;
    if (done > 0 && (!copy_values(h, answer) || !commit(h, lib, answer, done, &answer->status))) {
        backlog_release_wanted(lib, w, 0);
        answer->retry_after_ms = 0;
        return is_over(lib);
    }
    (void)add_relaxed_u64(&h->m->figures->vectors_logged, done);
    size_t settled = note_refused(h, lib, answer);
    bool ok = answer->status.code == STATUS_OK || settled > answer->done;
    backlog_release_wanted(lib, w, settled);
    return ok;
}

/* Says of what model the library's vectors will be, once that is known. */
static bool pin(struct hand *h, struct library *lib, const struct figures_provider *known, struct status *st) {
    const struct op_vectors head = {.fingerprint = known->fingerprint, .dimension = known->dimension};
    return commit_vectors(h, lib, &head, st);
}

/* One batch of one library. False: the model is to rest; *answer says why. */
static bool visit(struct hand *h, struct library *lib, bool *ret_worked, struct provider_answer *answer) {
    struct figures_provider known;
    providers_model(h->m->asker->s->providers, h->m->number, &known);
    uint64_t pinned = pinned_fingerprint(lib);
    if (known.dimension != 0 && pinned != 0 && !remote_same_model(pinned, known.fingerprint)) {
        return true; /* the provider's model has changed: this library waits until it is the old one again, or somebody exchanges the library's */
    }
    if (pinned == 0 && known.dimension != 0 && !pin(h, lib, &known, &answer->status)) {
        return is_over(lib) || answer->status.code == STATUS_CONFLICT; /* another thread has just done it */
    }
    if (!backlog_claim_wanted(lib, TEXTS_BYTES, &h->wanted, &answer->status)) {
        return false;
    }
    if (h->wanted.count == 0) {
        return true;
    }
    *ret_worked = true;
    return ask_claimed(h, lib, answer);
}

/* All libraries of the model, a batch each. */
static bool round_of(struct hand *h, bool *ret_worked, struct provider_answer *answer) {
    struct catalog *c = h->m->asker->s->catalog;
    struct library **libraries = NULL;
    size_t count = 0;
    bool ok = catalog_acquire_linkable(c, &libraries, &count, &answer->status);
    for (size_t i = 0; i < count; i++) {
        const struct embedder *model = library_remote_model(libraries[i]);
        bool ours = ok && model != NULL && !is_stopping(h->m->asker) && model->number == h->m->number;
        ok = ok && (!ours || visit(h, libraries[i], ret_worked, answer));
        catalog_release(c, libraries[i]);
    }
    free(libraries);
    return ok;
}

/* Sleeps until something was committed, the model's rest is over, or it is time to look. False: stop. */
static bool wait_for_work(struct asked_model *m, bool worked, uint64_t *seen) {
    struct asker *a = m->asker;
    lock_take(&a->mutex);
    int64_t look_us = clock_monotonic_us() + LOOK_US;
    bool in_time = true;
    while (a->stopping == 0 && m->not_before_us > clock_monotonic_us()) {
        (void)lock_wait_until(&a->mutex, &a->wake, m->not_before_us);
    }
    while (a->stopping == 0 && !worked && a->wakes == *seen && in_time) {
        in_time = lock_wait_until(&a->mutex, &a->wake, look_us);
    }
    *seen = a->wakes;
    bool go_on = a->stopping == 0;
    lock_release(&a->mutex);
    return go_on;
}

static void *run(void *arg) {
    struct asked_model *m = (struct asked_model *)arg;
    struct hand h = {.m = m};
    struct status st;
    uint64_t seen = 0;
    bool worked = true;
    uint64_t fit = m->asker->s->config.limits.max_op_bytes / (2 * EMBED_MAX_DIMENSION * sizeof(float)); /* in one op */
    uint64_t batch = m->settings->max_batch < PROVIDER_TEXTS_MAX ? m->settings->max_batch : PROVIDER_TEXTS_MAX;
    batch = batch < fit ? batch : fit;
    thread_set_nice(NICE);
    if (!wanted_new(&h.wanted, (size_t)batch, &st)) {
        log_status(LOG_LEVEL_ERROR, "a thread that asks providers ends; the others go on", &st);
        return NULL;
    }
    while (wait_for_work(m, worked, &seen)) {
        struct provider_answer answer = {0};
        worked = false;
        if (!round_of(&h, &worked, &answer)) {
            rest(m, &answer);
            worked = true;
        } else if (worked) {
            note_success(m);
            background_wake(m->asker->s->background, false); /* they can be linked now */
        }
    }
    wanted_free(&h.wanted);
    buf_fini(&h.payload);
    free(h.values);
    return NULL;
}

/* --- begin and end ---------------------------------------------------------------------------------------------------- */

static bool start_model(struct asker *a, size_t number, struct status *st) {
    const struct remote_settings *settings = &a->s->config.models[number];
    uint64_t threads = settings->concurrency > 1 ? settings->concurrency - 1 : 1;
    a->model[number] = (struct asked_model){.asker = a,
                                            .number = (uint8_t)number,
                                            .settings = settings,
                                            .figures = &a->s->figures->provider[number],
                                            .pause_ms = FIRST_PAUSE_MS};
    for (uint64_t i = 0; i < threads && i < THREADS_MAX; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "ask %zu", number);
        if (!thread_start(&a->threads[a->started], name, run, &a->model[number], st)) {
            return false;
        }
        a->started++;
    }
    return true;
}

bool asker_new(struct supervisor *s, struct asker **ret, struct status *st) {
    struct asker *a = (struct asker *)calloc(1, sizeof *a);
    if (a == NULL) {
        return status_no_memory(st);
    }
    a->s = s;
    a->wakes = 1; /* what recovery left is waiting already */
    lock_init(&a->mutex, LOCK_BACKGROUND);
    if (!thread_cond_init(&a->wake, st)) {
        lock_fini(&a->mutex);
        free(a);
        return false;
    }
    for (size_t i = 0; i < s->config.model_count; i++) {
        if (!start_model(a, i, st)) {
            asker_free(a);
            return false;
        }
    }
    *ret = a;
    return true;
}

void asker_wake(struct asker *a) {
    lock_take(&a->mutex);
    a->wakes++;
    (void)pthread_cond_broadcast(&a->wake);
    lock_release(&a->mutex);
}

void asker_resume(struct asker *a) {
    if (a == NULL) {
        return;
    }
    lock_take(&a->mutex);
    for (size_t i = 0; i < a->s->config.model_count; i++) {
        a->model[i].not_before_us = 0;
        a->model[i].pause_ms = FIRST_PAUSE_MS;
        store_relaxed_u64(&a->model[i].figures->waiting_until_us, 0);
    }
    a->wakes++;
    (void)pthread_cond_broadcast(&a->wake);
    lock_release(&a->mutex);
}

void asker_stop(struct asker *a) {
    lock_take(&a->mutex);
    store_relaxed_u32(&a->stopping, 1);
    (void)pthread_cond_broadcast(&a->wake);
    lock_release(&a->mutex);
    for (size_t i = 0; i < a->started; i++) {
        (void)pthread_join(a->threads[i], NULL);
    }
    a->started = 0;
}

void asker_free(struct asker *a) {
    if (a == NULL) {
        return;
    }
    asker_stop(a);
    (void)pthread_cond_destroy(&a->wake);
    lock_fini(&a->mutex);
    free(a);
}
