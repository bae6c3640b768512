/*
 * remote.h - models that a provider computes, over HTTP: the client.
 *
 * A client belongs to one `[model NAME]` section. It knows nothing of processes: the provider process (proc) holds the clients, since neither the supervisor,
 * which alone writes data, nor a worker, which others can reach, is to talk to the internet. All functions are safe to call from several threads at once.
 *
 * Whatever a provider does, a call ends by its deadline, takes bounded memory, and says in words of ours what went wrong: neither the key nor anything that a
 * provider sent stands in a status, a log line or a figure.
 */
#ifndef QUIRE_EMBED_REMOTE_H
#define QUIRE_EMBED_REMOTE_H

#include "embed/remote_settings.h"

struct remote_client;

/* Why a call brought nothing. The order is that of the figures; remote_failure_name has a word for each. */
enum remote_failure {
    REMOTE_DONE = 0,
    REMOTE_UNREACHABLE, /* no such name, no connection, it broke; or the certificate is not good */
    REMOTE_FORBIDDEN,   /* it would have led somewhere that is not allowed: an address (remote_address.h), a redirect */
    REMOTE_TIMEOUT,     /* a deadline passed, or the reply came too slowly */
    REMOTE_THROTTLED,   /* 429, 503 with Retry-After, or our own limit a minute */
    REMOTE_BROKEN,      /* 5xx, 408, 424 */
    REMOTE_DENIED,      /* 401, 403: the key */
    REMOTE_EXHAUSTED,   /* 402, or the quota is spent */
    REMOTE_REFUSED,     /* any other 4xx: the texts, or the settings */
    REMOTE_BAD_REPLY,   /* not what the dialect says: no JSON, wrong count, index, dimension, a number that is none, too large */
    REMOTE_RESTING,     /* the circuit breaker is open: nothing was sent */
    REMOTE_CANCELLED,   /* remote_cancel */
    REMOTE_OURSELVES,   /* no memory */
    REMOTE_FAILURES
};
const char *remote_failure_name(enum remote_failure failure);

/* What a caller can do about it. */
struct remote_outcome {
    enum remote_failure failure;
    size_t done;             /* so many of the first texts have their vectors, paid for: ask only for the others again */
    bool permanent;          /* the provider refuses the text at `done`; asking again with the same text cannot help. Those behind it were not asked for */
    uint64_t retry_after_ms; /* when to ask again; 0: it is not known */
};

struct remote_request {
    enum embed_role role;
    const struct slice *texts; /* valid UTF-8 */
    size_t count;
    uint32_t dimension;  /* that `out` has room for; a reply with another one is REMOTE_BAD_REPLY */
    int64_t deadline_us; /* monotonic; retries and waiting for one's turn end with it as well */
};

/* The settings and the key are copied; the key may be empty. libcurl has to be initialised (remote_global_init) once by the process before. */
MUST_CHECK bool remote_global_init(struct status *st);
void remote_global_fini(void);
MUST_CHECK bool remote_client_new(const struct remote_settings *settings, struct slice key, struct remote_client **ret, struct status *st);
void remote_client_free(struct remote_client *c); /* takes NULL; nobody may be inside any more */
/* All calls under way and to come end soon with REMOTE_CANCELLED. */
void remote_cancel(struct remote_client *c);

/* Texts to out[count * dimension], each of unit length; a text without anything but white space has a zero vector and is not sent. Calls are cut by the
 * settings' limits, and halved where the provider says that one is too large; of a single text that is too long ever shorter beginnings are sent, so a vector is that
 * of what the model can take. false: out has the vectors of the first `done` texts. STATUS_NO_EMBEDDING, or STATUS_NO_MEMORY. */
MUST_CHECK bool remote_embed(struct remote_client *c, const struct remote_request *request, float *out, struct remote_outcome *ret,
                             struct status *st);

/* What a model is known by. The fingerprint has 24 bits of dialect, model, prefixes and dimension, and 40 bits that say on which side of 40 fixed planes the
 * vectors of a few fixed texts lie. So the noise of floats and of a provider's hardware moves a bit at most now and then, and another model half of
 * them. A fingerprint that was pinned is compared with remote_same_model, never for equality. */
struct remote_identity {
    uint32_t dimension;
    uint64_t fingerprint;
};
/* Asks the provider for the vectors of the fixed texts. */
MUST_CHECK bool remote_probe(struct remote_client *c, int64_t deadline_us, struct remote_identity *ret, struct remote_outcome *outcome,
                             struct status *st);
bool remote_same_model(uint64_t fingerprint, uint64_t other);

/* Figures since the client was made. */
enum remote_breaker_state { REMOTE_CLOSED, REMOTE_OPEN, REMOTE_HALF_OPEN };
struct remote_state {
    enum remote_breaker_state breaker;
    uint64_t calls; /* HTTP requests sent, repetitions included */
    uint64_t retries;
    uint64_t texts;  /* that have got their vectors */
    uint64_t tokens; /* as the provider counts them, where it says; else estimated */
    uint64_t failures[REMOTE_FAILURES]; /* of calls, by reason */
    uint64_t busy_us;                   /* time spent in calls */
    unsigned in_flight;
};
void remote_state(struct remote_client *c, struct remote_state *ret);

#endif
