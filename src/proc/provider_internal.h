/* provider_internal.h - what provider.c (the process) and provider_model.c (a model in it) share; nobody else includes this. */
#ifndef QUIRE_PROC_PROVIDER_INTERNAL_H
#define QUIRE_PROC_PROVIDER_INTERNAL_H

#include "embed/remote.h"
#include "proc/provider_frames.h"
#include "proc/query_cache.h"

#include <pthread.h>

enum { PROVIDER_LANES_MAX = 8 };

/* A request, from its frame to its answer. */
struct provider_job {
    struct provider_job *next;
    uint64_t request;
    struct provider_ask ask;
    int64_t deadline_us;
    bool cached;      /* a query that others may have joined: query_cache_settle is due */
    uint8_t *payload; /* the texts lie in it */
};

struct provider_queue {
    struct provider_job *first, **end;
    pthread_cond_t more;
};

struct provider_model {
    uint8_t number;
    const struct remote_settings *settings;
    struct query_cache *cache;    /* of all models */
    struct remote_client *client; /* NULL: its key cannot be read */
    int64_t probe_interval_us;
    pthread_mutex_t mutex;
    /* under mutex */
    struct provider_queue hurry, bulk;
    pthread_cond_t probed; /* an attempt has ended; or one is wanted at once */
    struct remote_identity identity; /* dimension 0: not known yet */
    bool probing;
    bool probe_now;
    int64_t probe_at_us;   /* the next attempt */
    struct status failure; /* the last call's; STATUS_OK: it went well */
    uint64_t retry_after_ms;
    uint64_t failures;
};

/* client NULL: why says why. Its threads run until the process ends. */
MUST_CHECK bool provider_model_begin(struct provider_model *m, struct status *st);
/* Takes the job over. */
void provider_model_take(struct provider_model *m, struct provider_job *job);
void provider_model_figures(struct provider_model *m, struct figures_provider *ret);
/* The identity; false: it is not known yet. */
bool provider_model_known(struct provider_model *m, struct remote_identity *ret);

/* provider.c. Any thread; waits until the supervisor has taken it. */
void provider_answer(uint64_t request, const struct provider_answer *a);

#endif
