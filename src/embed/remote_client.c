/*
 * remote_client.c - see remote.h: from texts to calls, and who calls when.
 *
 * remote_embed makes one batch after the other, in order, so that what is paid for is a prefix of the texts. A batch is one call and its repetitions
 * (call_patiently); each call takes a place first (enter) and gives it back with a verdict (leave). What comes of a batch, besides vectors:
 *
 * | the provider | then |
 * |---|---|
 * | cannot be reached, hangs, breaks off, has trouble of its own (5xx) | repeat after a pause, as often as `retries` says; each is a failure for the breaker |
 * | has too much to do (429, 503 with Retry-After) | repeat after the pause that it asks for; all threads keep that |
 * | says that it is too much (413, or words to that effect) | half as many texts; of a single one half as much, down to SHORTEST_BYTES |
 * | refuses (400, 422) and has worked before | half as many, until the one that it refuses is alone: permanent |
 * | refuses all it is asked (401, 402, 403, 404; 400 from the beginning), or leads elsewhere | pass it on; the breaker opens at once |
 * | answers what is no answer | pass it on, not to pay twice for the same; a failure for the breaker |
 *
 * One lock, held for arithmetic, and for making a connection's object. Of the places for calls, one is kept for queries where there are several.
 */
#include "embed/remote.h"

#include "base/clock.h"
#include "embed/remote_batch.h"
#include "embed/remote_client.h"
#include "embed/remote_dialect.h"
#include "embed/remote_http.h"
#include "embed/remote_limits.h"
#include "embed/remote_probe.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

enum {
    LINES_MAX = 64, /* the most that `concurrency` may be */
    US_PER_MS = 1000,
    US_PER_SECOND = 1000000,
    NS_PER_US = 1000,
    SHORTEST_BYTES = 192, /* of a text that is refused as too long whatever is left of it */
    GROW_AFTER = 32,      /* whole batches that went well, before larger ones are tried again */
    WHY_MAX = 120         /* bytes of a reason that is remembered */
};

struct remote_client {
    struct remote_settings settings;
    struct remote_endpoint *endpoint;
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a place is free; it was cancelled */
    bool cancelled;         /* atomic: lines look at it without the mutex */
    /* under the mutex */
    struct remote_line *lines[LINES_MAX];
    bool busy[LINES_MAX];
    struct remote_breaker breaker;
    char failed_why[WHY_MAX]; /* of the last call that brought nothing; "": none yet */
    long failed_http_status;
    struct remote_pace calls_pace;
    struct remote_pace tokens_pace;
    int64_t pause_until_us; /* the provider has asked for it */
    bool proven;            /* a call has succeeded: the settings are right */
    size_t most_texts;      /* in a batch: less than the settings say where the provider took no more */
    unsigned went_well;
    uint64_t random;
    struct remote_state figures;
};

/* --- the client --------------------------------------------------------------------------------------------------------- */

static bool init_locks(struct remote_client *c, struct status *st) {
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0) {
        return status_no_memory(st);
    }
    bool ok = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0 && pthread_mutex_init(&c->mutex, NULL) == 0;
    if (ok && pthread_cond_init(&c->changed, &attributes) != 0) {
        (void)pthread_mutex_destroy(&c->mutex);
        ok = false;
    }
    (void)pthread_condattr_destroy(&attributes);
    return ok || status_no_memory(st);
}

bool remote_client_new(const struct remote_settings *settings, struct slice key, struct remote_client **ret, struct status *st) {
    struct remote_url url;
    if (!remote_settings_check(settings, st) || !remote_url_parse(settings->url, &url, st)) {
        return false;
    }
    size_t len = strlen(url.path);
    int added = snprintf(url.path + len, sizeof url.path - len, "%s", remote_dialect_path((enum remote_dialect)settings->dialect));
    if (added < 0 || len + (size_t)added >= sizeof url.path) {
        return status_set(st, STATUS_CONFIG, "[model %s]: url is too long", settings->name);
    }
    struct remote_client *c = (struct remote_client *)calloc(1, sizeof *c);
    if (c == NULL || !init_locks(c, st)) {
        free(c);
        return status_no_memory(st);
    }
    c->settings = *settings;
    c->most_texts = (size_t)settings->max_batch;
    c->calls_pace.per_minute = settings->requests_per_minute;
    c->tokens_pace.per_minute = settings->tokens_per_minute;
    remote_breaker_init(&c->breaker, settings->breaker_failures, (int64_t)settings->breaker_open_ms * US_PER_MS);
    /* For jitter alone: without it, clients that failed together would come back together. */
    if (getrandom(&c->random, sizeof c->random, 0) != (ssize_t)sizeof c->random) {
        c->random ^= (uint64_t)clock_monotonic_ns();
    }
    if (!remote_endpoint_new(settings, &url, key, &c->endpoint, st)) {
        remote_client_free(c);
        return false;
    }
    *ret = c;
    return true;
}

void remote_client_free(struct remote_client *c) {
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < LINES_MAX; i++) {
        remote_line_free(c->lines[i]);
    }
    remote_endpoint_free(c->endpoint);
    (void)pthread_cond_destroy(&c->changed);
    (void)pthread_mutex_destroy(&c->mutex);
    free(c);
}

bool remote_client_resolve(struct remote_client *c, const char *entry, struct status *st) {
    return remote_endpoint_resolve(c->endpoint, entry, st);
}

void remote_cancel(struct remote_client *c) {
    __atomic_store_n(&c->cancelled, true, __ATOMIC_RELAXED);
    (void)pthread_mutex_lock(&c->mutex);
    for (size_t i = 0; i < LINES_MAX; i++) {
        if (c->busy[i]) {
            remote_line_wake(c->lines[i]);
        }
    }
    (void)pthread_cond_broadcast(&c->changed);
    (void)pthread_mutex_unlock(&c->mutex);
}

void remote_state(struct remote_client *c, struct remote_state *ret) {
    (void)pthread_mutex_lock(&c->mutex);
    *ret = c->figures;
    ret->breaker = c->breaker.state;
    (void)pthread_mutex_unlock(&c->mutex);
}

/* --- a request under way ------------------------------------------------------------------------------------------------ */

struct job {
    struct remote_client *c;
    struct remote_request request;
    float *out;           /* the caller's; NULL: the dimension is open, and the vectors go to `vectors` */
    struct buf vectors;   /* float[count * dimension] */
    struct remote_batch batch;
    struct remote_bounds bounds;
    struct buf body;
    struct remote_answer answer;
    struct remote_reply reply;
    struct remote_outcome outcome;
    const char *why;
    char behind[WHY_MAX]; /* where it is resting: what was wrong before; "": nothing is known */
    long http_status; /* that `why`, or `behind`, is about; 0: none */
    bool sent;        /* the last call was made, and not only waited for */
    bool too_large;   /* of the last call: the provider would take less */
    bool too_many;    /* and it is about the whole, not about one text of several */
    bool alone;       /* the refusal may be about one text of several */
};

static bool fail(struct job *j, enum remote_failure failure, const char *why, uint64_t retry_after_ms) {
    j->outcome.failure = failure;
    j->outcome.retry_after_ms = retry_after_ms;
    j->why = why;
    j->behind[0] = '\0';
    j->http_status = 0;
    return false;
}

/* Rounds up, so that who comes back then does not come too early. */
static uint64_t to_ms(int64_t us) {
    return us <= 0 ? 0 : ((uint64_t)us + US_PER_MS - 1) / US_PER_MS;
}

static void wait_until_locked(struct remote_client *c, int64_t until_us) {
    struct timespec at = {.tv_sec = until_us / US_PER_SECOND, .tv_nsec = until_us % US_PER_SECOND * NS_PER_US};
    (void)pthread_cond_timedwait(&c->changed, &c->mutex, &at);
}

/* Of several places one is for queries, which somebody waits for. */
static unsigned places(const struct remote_client *c, enum embed_role role) {
    unsigned all = (unsigned)c->settings.concurrency;
    return role == EMBED_DOCUMENT && all > 1 ? all - 1 : all;
}

static int64_t longer(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* How long the provider, or the settings, want nothing to be sent. */
static int64_t held_back_us(const struct remote_client *c, int64_t now_us) {
    int64_t pace = longer(remote_pace_wait_us(&c->calls_pace, now_us), remote_pace_wait_us(&c->tokens_pace, now_us));
    return longer(longer(c->pause_until_us - now_us, pace), 0);
}

static bool take_line(struct job *j, size_t *ret, struct status *st) {
    struct remote_client *c = j->c;
    size_t at = 0;
    while (c->busy[at]) {
        at++;
    }
    if (c->lines[at] == NULL && !remote_line_new(c->endpoint, &c->lines[at], st)) {
        remote_breaker_forget(&c->breaker);
        return fail(j, REMOTE_OURSELVES, "there is no memory for a connection", 0);
    }
    c->busy[at] = true;
    c->figures.in_flight++;
    c->figures.calls++;
    *ret = at;
    return true;
}

/* Waits for one's turn. false: it does not come in time, or at all. */
static bool enter_locked(struct job *j, size_t *ret_line, struct status *st) {
    struct remote_client *c = j->c;
    int64_t until_us = j->request.deadline_us;
    int64_t wait_us;
    for (;;) {
        int64_t now_us = clock_monotonic_us();
        if (__atomic_load_n(&c->cancelled, __ATOMIC_RELAXED)) {
            return fail(j, REMOTE_CANCELLED, "the server is stopping", 0);
        }
        if (now_us >= until_us) {
            return fail(j, REMOTE_TIMEOUT, "its turn did not come in time", 0);
        }
        wait_us = held_back_us(c, now_us);
        if (wait_us > 0 && (wait_us >= until_us - now_us || to_ms(wait_us) > c->settings.retry_wait_max_ms)) {
            return fail(j, REMOTE_THROTTLED, "no more calls are wanted for a while", to_ms(wait_us));
        }
        if (wait_us == 0 && c->figures.in_flight < places(c, j->request.role)) {
            break;
        }
        wait_until_locked(c, wait_us == 0 ? until_us : now_us + wait_us);
    }
    int64_t now_us = clock_monotonic_us();
    if (!remote_breaker_ask(&c->breaker, now_us, &wait_us)) {
        (void)fail(j, REMOTE_RESTING, "it is left alone after failures", to_ms(wait_us));
        memcpy(j->behind, c->failed_why, sizeof j->behind);
        j->http_status = c->failed_http_status;
        return false;
    }
    remote_pace_take(&c->calls_pace, now_us, 1);
    remote_pace_take(&c->tokens_pace, now_us, j->batch.tokens);
    return take_line(j, ret_line, st);
}

static bool enter(struct job *j, size_t *ret_line, struct status *st) {
    struct remote_client *c = j->c;
    (void)pthread_mutex_lock(&c->mutex);
    bool entered = enter_locked(j, ret_line, st);
    c->figures.failures[REMOTE_RESTING] += !entered && j->outcome.failure == REMOTE_RESTING ? 1 : 0;
    (void)pthread_mutex_unlock(&c->mutex);
    return entered;
}

/* What a call says about the provider, for those that come after it. */
static void judge_locked(struct remote_client *c, const struct job *j, int64_t now_us) {
    if (j->outcome.failure != REMOTE_DONE) {
        (void)snprintf(c->failed_why, sizeof c->failed_why, "%s", j->why);
        c->failed_http_status = j->http_status;
    }
    switch (j->outcome.failure) {
    case REMOTE_DONE:
        c->proven = true;
        remote_breaker_succeeded(&c->breaker);
        break;
    case REMOTE_THROTTLED:
        c->pause_until_us = longer(c->pause_until_us, now_us + (int64_t)j->outcome.retry_after_ms * US_PER_MS);
        remote_breaker_succeeded(&c->breaker); /* it is there */
        break;
    case REMOTE_UNREACHABLE:
    case REMOTE_TIMEOUT:
    case REMOTE_BROKEN:
    case REMOTE_BAD_REPLY:
        remote_breaker_failed(&c->breaker, now_us, false);
        break;
    case REMOTE_FORBIDDEN:
    case REMOTE_DENIED:
    case REMOTE_EXHAUSTED:
        remote_breaker_failed(&c->breaker, now_us, true);
        break;
    case REMOTE_REFUSED:
        if (j->too_large || j->alone) {
            remote_breaker_succeeded(&c->breaker);
        } else {
            remote_breaker_failed(&c->breaker, now_us, true);
        }
        break;
    default:
        remote_breaker_forget(&c->breaker);
        break;
    }
}

static void leave(struct job *j, size_t line, int64_t began_us) {
    struct remote_client *c = j->c;
    int64_t now_us = clock_monotonic_us();
    (void)pthread_mutex_lock(&c->mutex);
    judge_locked(c, j, now_us);
    c->busy[line] = false;
    c->figures.in_flight--;
    c->figures.busy_us += (uint64_t)(now_us - began_us);
    c->figures.failures[j->outcome.failure]++;
    if (j->outcome.failure == REMOTE_DONE) {
        c->figures.texts += j->batch.count;
        c->figures.tokens += j->reply.tokens > 0 ? j->reply.tokens : j->batch.tokens;
    }
    (void)pthread_cond_broadcast(&c->changed);
    (void)pthread_mutex_unlock(&c->mutex);
}

/* --- one call ----------------------------------------------------------------------------------------------------------- */

static bool proven(struct remote_client *c) {
    (void)pthread_mutex_lock(&c->mutex);
    bool is = c->proven;
    (void)pthread_mutex_unlock(&c->mutex);
    return is;
}

enum {
    HTTP_OK = 200,
    HTTP_REDIRECTS = 300,
    HTTP_BAD_REQUEST = 400,
    HTTP_UNAUTHORIZED = 401,
    HTTP_PAYMENT_REQUIRED = 402,
    HTTP_FORBIDDEN = 403,
    HTTP_REQUEST_TIMEOUT = 408,
    HTTP_TOO_LARGE = 413,
    HTTP_UNPROCESSABLE = 422,
    HTTP_FAILED_DEPENDENCY = 424,
    HTTP_TOO_EARLY = 425,
    HTTP_TOO_MANY = 429,
    HTTP_SERVER_ERRORS = 500,
    HTTP_UNAVAILABLE = 503
};

static bool refused(struct job *j, enum remote_complaint complaint) {
    long status = j->answer.http_status;
    bool about_texts = status == HTTP_BAD_REQUEST || status == HTTP_UNPROCESSABLE;
    j->too_large = status == HTTP_TOO_LARGE || (about_texts && complaint != REMOTE_COMPLAINT_OTHER);
    j->too_many = j->too_large && complaint != REMOTE_COMPLAINT_TOO_LONG;
    j->alone = about_texts && proven(j->c);
    return fail(j, REMOTE_REFUSED, j->too_large ? "it takes no text of that length" : "it does not take this request", 0);
}

/* A status other than 200. */
static bool judge_status(struct job *j) {
    const struct remote_answer *a = &j->answer;
    enum remote_complaint complaint = remote_dialect_complaint(buf_slice(&a->body));
    if (a->http_status >= HTTP_REDIRECTS && a->http_status < HTTP_BAD_REQUEST) {
        return fail(j, REMOTE_FORBIDDEN, "it leads to another address, which is not followed", 0);
    }
    if (a->http_status == HTTP_PAYMENT_REQUIRED || (a->http_status >= HTTP_BAD_REQUEST && complaint == REMOTE_COMPLAINT_QUOTA)) {
        return fail(j, REMOTE_EXHAUSTED, "the quota is spent", 0);
    }
    if (a->http_status == HTTP_UNAUTHORIZED || a->http_status == HTTP_FORBIDDEN) {
        return fail(j, REMOTE_DENIED, "it does not take the key", 0);
    }
    if (a->http_status == HTTP_TOO_MANY || (a->http_status == HTTP_UNAVAILABLE && a->has_retry_after)) {
        return fail(j, REMOTE_THROTTLED, "it has too much to do", a->retry_after_ms);
    }
    if (a->http_status == HTTP_REQUEST_TIMEOUT || a->http_status == HTTP_FAILED_DEPENDENCY || a->http_status == HTTP_TOO_EARLY ||
        a->http_status >= HTTP_SERVER_ERRORS) {
        return fail(j, REMOTE_BROKEN, "it has trouble of its own", a->retry_after_ms);
    }
    if (a->http_status < HTTP_BAD_REQUEST) {
        return fail(j, REMOTE_BAD_REPLY, "it answers something else than vectors", 0);
    }
    return refused(j, complaint);
}

/* From an answer to vectors in j->reply. */
static bool judge_answer(struct job *j, struct status *why) {
    j->too_large = false;
    j->too_many = false;
    j->alone = false;
    if (j->answer.failure != REMOTE_DONE) {
        return fail(j, j->answer.failure, j->answer.why, 0);
    }
    if (j->answer.http_status != HTTP_OK) {
        (void)judge_status(j);
        j->http_status = j->answer.http_status;
        return false;
    }
    if (!remote_dialect_parse((enum remote_dialect)j->c->settings.dialect, buf_slice(&j->answer.body), j->batch.count, j->request.dimension, &j->reply, why)) {
        return why->code == STATUS_NO_MEMORY ? fail(j, REMOTE_OURSELVES, "there is no memory for the reply", 0) : fail(j, REMOTE_BAD_REPLY, why->detail, 0);
    }
    j->outcome.failure = REMOTE_DONE;
    return true;
}

static uint64_t reply_max(const struct job *j) {
    uint32_t dimension = j->request.dimension > 0 ? j->request.dimension : EMBED_MAX_DIMENSION;
    uint64_t most = remote_dialect_reply_max(j->batch.count, dimension, j->body.len);
    return most < j->c->settings.max_response_bytes ? most : j->c->settings.max_response_bytes;
}

static bool call_once(struct job *j, struct status *why) {
    size_t line;
    j->sent = enter(j, &line, why);
    if (!j->sent) {
        return false;
    }
    int64_t began_us = clock_monotonic_us();
    int64_t timeout_us = began_us + (int64_t)j->c->settings.timeout_ms * US_PER_MS;
    struct remote_post post = {.body = buf_slice(&j->body),
                               .deadline_us = timeout_us < j->request.deadline_us ? timeout_us : j->request.deadline_us,
                               .reply_max = reply_max(j),
                               .cancelled = &j->c->cancelled};
    remote_line_post(j->c->lines[line], &post, &j->answer);
    bool ok = judge_answer(j, why);
    leave(j, line, began_us);
    buf_fini(&j->answer.body);
    return ok;
}

/* --- and again ---------------------------------------------------------------------------------------------------------- */

static bool passes(enum remote_failure failure) {
    return failure == REMOTE_UNREACHABLE || failure == REMOTE_TIMEOUT || failure == REMOTE_THROTTLED || failure == REMOTE_BROKEN;
}

/* Sleeps before repetition `attempt`. false: there are no more, or there is no time for it; the outcome says how long the pause would have been. */
static bool pause_before(struct job *j, unsigned attempt) {
    struct remote_client *c = j->c;
    const struct remote_settings *s = &c->settings;
    (void)pthread_mutex_lock(&c->mutex);
    c->random = c->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407); /* Knuth's LCG; its high half is what is random */
    uint64_t pause_ms = remote_backoff_ms(s->retry_wait_ms, s->retry_wait_max_ms, attempt, c->random >> 32);
    pause_ms = pause_ms > j->outcome.retry_after_ms ? pause_ms : j->outcome.retry_after_ms;
    int64_t until_us = clock_monotonic_us() + (int64_t)pause_ms * US_PER_MS;
    j->outcome.retry_after_ms = pause_ms;
    bool worth_it = attempt < s->retries && pause_ms <= s->retry_wait_max_ms && until_us < j->request.deadline_us;
    while (worth_it && clock_monotonic_us() < until_us && !__atomic_load_n(&c->cancelled, __ATOMIC_RELAXED)) {
        wait_until_locked(c, until_us);
    }
    c->figures.retries += worth_it ? 1 : 0;
    (void)pthread_mutex_unlock(&c->mutex);
    return worth_it;
}

/* A batch, with its repetitions. When one of them could not be made, since the breaker has opened or the deadline has come meanwhile, what counts is the failure
 * before it. */
static bool call_patiently(struct job *j, struct status *why) {
    for (unsigned attempt = 0;; attempt++) {
        struct remote_outcome before = j->outcome;
        const char *before_why = j->why;
        long before_status = j->http_status;
        if (call_once(j, why)) {
            return true;
        }
        if (attempt > 0 && !j->sent && j->outcome.failure != REMOTE_CANCELLED) {
            (void)fail(j, before.failure, before_why, j->outcome.retry_after_ms);
            j->http_status = before_status;
            return false;
        }
        if (!passes(j->outcome.failure) || !pause_before(j, attempt)) {
            return false;
        }
    }
}

/* --- all texts ---------------------------------------------------------------------------------------------------------- */

/* To unit length; what is zero stays so. */
static void put_vector(const float *from, float *to, uint32_t dimension) {
    double sum = 0;
    for (uint32_t i = 0; i < dimension; i++) {
        sum += (double)from[i] * (double)from[i];
    }
    double scale = sum > 0 ? 1 / sqrt(sum) : 0;
    for (uint32_t i = 0; i < dimension; i++) {
        to[i] = (float)((double)from[i] * scale);
    }
}

/* Where vectors go; made with the first reply where the dimension was open. */
static float *room_for(struct job *j) {
    if (j->out == NULL) {
        j->request.dimension = j->reply.dimension;
        buf_put_zero(&j->vectors, j->request.count * j->reply.dimension * sizeof(float));
        j->out = buf_ok(&j->vectors) ? (float *)(void *)j->vectors.data : NULL;
    }
    return j->out;
}

/* The vectors of a batch that ends before text `end`; zero for blank texts. */
static bool put_batch(struct job *j, size_t end) {
    size_t at = j->outcome.done;
    const float *values = (const float *)(const void *)j->reply.floats.data;
    if (room_for(j) == NULL) {
        return fail(j, REMOTE_OURSELVES, "there is no memory for the vectors", 0);
    }
    size_t dimension = j->request.dimension;
    memset(j->out + at * dimension, 0, (end - at) * dimension * sizeof(float));
    for (size_t i = 0; i < j->batch.count; i++) {
        put_vector(values + i * dimension, j->out + j->batch.rows[i] * dimension, j->request.dimension);
    }
    j->outcome.done = end;
    return true;
}

/* After a batch of `texts` that was taken or was too large: what the next ones may be, of all requests. */
static void learn(struct remote_client *c, size_t texts, bool too_many) {
    (void)pthread_mutex_lock(&c->mutex);
    if (too_many && texts > 1) {
        c->most_texts = texts / 2 < c->most_texts ? texts / 2 : c->most_texts;
        c->went_well = 0;
    } else if (texts == c->most_texts && c->most_texts < c->settings.max_batch && ++c->went_well == GROW_AFTER) {
        c->most_texts = c->most_texts * 2 < c->settings.max_batch ? c->most_texts * 2 : (size_t)c->settings.max_batch;
        c->went_well = 0;
    }
    (void)pthread_mutex_unlock(&c->mutex);
}

static size_t most_texts(struct remote_client *c) {
    (void)pthread_mutex_lock(&c->mutex);
    size_t most = c->most_texts;
    (void)pthread_mutex_unlock(&c->mutex);
    return most;
}

/* After a refusal: asks for less, if there is less to ask for. */
static bool ask_for_less(struct job *j) {
    size_t sent = j->batch.texts[0].len;
    if (j->batch.count > 1) {
        j->bounds.texts = j->batch.count / 2;
        return true;
    }
    if (j->too_large && sent > SHORTEST_BYTES) {
        j->bounds.text_bytes = sent / 2;
        return true;
    }
    j->outcome.permanent = proven(j->c);
    j->outcome.done = j->batch.rows[0]; /* those before it are blank */
    return false;
}

/* After a batch that was taken, larger ones again: what was in the way of them may be behind. */
static bool go_on(struct job *j, size_t end) {
    struct remote_bounds whole = remote_bounds_of(&j->c->settings, j->request.role);
    learn(j->c, j->batch.count, false);
    j->bounds.texts = j->bounds.texts * 2 < whole.texts ? j->bounds.texts * 2 : whole.texts;
    j->bounds.text_bytes = whole.text_bytes;
    return put_batch(j, end);
}

/* One batch more. false: it is over. */
static bool step(struct job *j, struct status *why) {
    size_t learned = most_texts(j->c);
    j->bounds.texts = j->bounds.texts < learned ? j->bounds.texts : learned;
    size_t end = remote_batch_fill(&j->batch, &j->bounds, j->request.texts, j->request.count, j->outcome.done);
    if (j->batch.count == 0) {
        j->reply.dimension = j->request.dimension;
        return put_batch(j, end);
    }
    buf_reset(&j->body);
    remote_dialect_request(&j->c->settings, j->request.role, j->batch.texts, j->batch.count, &j->body);
    if (!buf_ok(&j->body)) {
        return fail(j, REMOTE_OURSELVES, "there is no memory for the request", 0);
    }
    if (call_patiently(j, why)) {
        return go_on(j, end);
    }
    if (j->outcome.failure != REMOTE_REFUSED || !(j->too_large || j->alone)) {
        return false;
    }
    if (j->too_many) {
        learn(j->c, j->batch.count, true);
    }
    return ask_for_less(j);
}

static bool say(const struct job *j, struct status *st) {
    char status[32] = "";
    if (j->outcome.failure == REMOTE_OURSELVES) {
        return status_no_memory(st);
    }
    if (j->http_status != 0) {
        (void)snprintf(status, sizeof status, " (HTTP %ld)", j->http_status);
    }
    return status_set(st, STATUS_NO_EMBEDDING, "the embedding model %s: %s%s%s%s", j->c->settings.name, j->why, j->behind[0] != '\0' ? "; the last was: " : "",
                      j->behind, status);
}

static bool run(struct job *j, struct remote_outcome *ret, struct status *st) {
    struct status why;
    size_t room = j->request.count < j->c->settings.max_batch ? j->request.count : (size_t)j->c->settings.max_batch;
    bool ok = remote_batch_new(room > 0 ? room : 1, &j->batch, st);
    if (ok) {
        j->bounds = remote_bounds_of(&j->c->settings, j->request.role);
        while (ok && j->outcome.done < j->request.count) {
            ok = step(j, &why);
        }
        if (!ok) {
            (void)say(j, st);
        }
    } else {
        j->outcome.failure = REMOTE_OURSELVES;
    }
    if (ok) {
        j->outcome = (struct remote_outcome){.done = j->request.count};
    }
    *ret = j->outcome;
    remote_batch_free(&j->batch);
    remote_reply_fini(&j->reply);
    buf_fini(&j->body);
    return ok;
}

bool remote_embed(struct remote_client *c, const struct remote_request *request, float *out, struct remote_outcome *ret, struct status *st) {
    struct job j = {.c = c, .request = *request, .out = out};
    *ret = (struct remote_outcome){0};
    if (request->dimension == 0 || request->dimension > EMBED_MAX_DIMENSION) {
        ret->failure = REMOTE_OURSELVES;
        return status_set(st, STATUS_INTERNAL, "vectors of dimension %u are asked for", request->dimension);
    }
    return run(&j, ret, st);
}

bool remote_probe(struct remote_client *c, int64_t deadline_us, struct remote_identity *ret, struct remote_outcome *outcome, struct status *st) {
    struct slice texts[REMOTE_PROBE_TEXTS];
    for (size_t i = 0; i < REMOTE_PROBE_TEXTS; i++) {
        texts[i] = slice_str(remote_probe_texts[i]);
    }
    struct job j = {.c = c,
                    .request = {.role = EMBED_DOCUMENT,
                                .texts = texts,
                                .count = REMOTE_PROBE_TEXTS,
                                .dimension = (uint32_t)c->settings.dimension,
                                .deadline_us = deadline_us}};
    bool ok = run(&j, outcome, st);
    if (ok) {
        ret->dimension = j.request.dimension;
        ret->fingerprint = remote_fingerprint(&c->settings, j.out, j.request.dimension);
    }
    buf_fini(&j.vectors);
    return ok;
}
