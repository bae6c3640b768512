/*
 * providers.c - see providers.h.
 *
 * One thread sleeps on the process's channel: it sends what waits to be sent, takes answers, and lets those go whose time has come. Nothing blocks on the
 * process: its end of the channel does not block, what it does not take, or what comes while it starts, waits in a buffer of bounded size, and who asks when that is
 * full, or when processes die one after the other, is refused at once.
 *
 * Main alone spawns, kills and reaps. The thread sees the death as the end of the channel, and tells everybody who waits; main sees it as a pid that can be
 * reaped, and starts the next one. The number of the process (generation) keeps an answer from meeting a request that its predecessor was asked.
 */
#include "proc/providers.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "proc/channels.h"
#include "proc/children.h"
#include "proc/lock.h"
#include "proc/outbox.h"
#include "proc/spawn.h"
#include "proc/thread.h"
#include "shm/atomics.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ASKS_MAX = 1024,
    ASKS_OF_QUERIES = 64, /* of these; as many writes as wait leave them free */
    UNSENT_MAX = 33554432,
    READ_BYTES = 65536,
    US_PER_MS = 1000,
    TICK_MS = 250,
    SILENCE_US = 5000000,    /* so long it may say nothing */
    STARTING_US = 20000000,  /* its first word may take longer: it initialises a TLS library */
    YOUNG_US = 5000000,      /* one that died before is followed after a pause */
    FIRST_PAUSE_US = 20000,
    LONGEST_PAUSE_US = 5000000,
    LAST_WORDS_US = 2000000, /* for an answer that is under way when the server stops */
    RETRY_MS = 1000          /* for who asks while there is none */
};

/* Somebody who waits. */
struct ask {
    bool used;
    uint64_t id;
    int64_t deadline_us;
    /* a worker */
    uint32_t slot;
    uint64_t generation, request;
    bool query;
    /* or a thread of ours, whose wait this is */
    struct wait *wait;
};

struct wait {
    bool over;
    struct buf *payload;
    struct provider_answer *answer;
};

struct providers {
    struct supervisor *s;
    pthread_t thread;
    bool started;
    uint32_t stopping; /* atomic */
    int wake_fd;
    struct lock mutex;
    pthread_cond_t answered;
    /* under the mutex */
    int fd;          /* -1: there is no process */
    int incoming_fd; /* mailbox: of one that main has just spawned; -1: empty */
    struct outbox unsent;
    struct ask ask[ASKS_MAX];
    uint64_t last_id;
    int64_t heard_us; /* its last word, or its birth */
    bool spoke;
    bool kill; /* main is to do it */
    bool renewed; /* because of a reload: no failure */
    bool sickly; /* the last one died young, so that the next one is not waited for */
    int64_t hushed_us; /* when threads of ours are no longer answered; 0: not yet */
    struct figures_provider model[REMOTE_MODELS_MAX];
    /* the thread's own */
    struct figures_provider counted[REMOTE_MODELS_MAX]; /* counts of processes that are gone: a counter never goes back */
    struct buf in;
    /* main's own */
    pid_t pid;
    int64_t spawned_us, not_before_us, pause_us;
    bool no_more;
};

/* --- answering -------------------------------------------------------------------------------------------------------- */

static void wake(struct providers *p) {
    const uint64_t one = 1;
    ssize_t n = write(p->wake_fd, &one, sizeof one);
    (void)n; /* a full counter wakes as well */
}

static void answer_worker(struct providers *p, const struct ask *a, const struct provider_answer *answer) {
    struct buf frame = {0};
    channel_frame_begin(&frame, CHANNEL_EMBEDDED, a->request);
    provider_put_answer(&frame, answer);
    channel_frame_end(&frame);
    channels_send(p->s->channels, a->slot, a->generation, &frame);
    buf_fini(&frame);
}

/* payload: where the answer's values lie. */
static void answer_thread(struct providers *p, const struct ask *a, const struct provider_answer *answer, struct slice payload) {
    struct status st;
    lock_take(&p->mutex);
    buf_put_slice(a->wait->payload, payload);
    *a->wait->answer = *answer;
    if (payload.len > 0 && (!buf_ok(a->wait->payload) || !provider_get_answer(buf_slice(a->wait->payload), a->wait->answer, &st))) {
        *a->wait->answer = (struct provider_answer){0};
        (void)status_no_memory(&a->wait->answer->status);
    }
    a->wait->over = true;
    (void)pthread_cond_broadcast(&p->answered);
    lock_release(&p->mutex);
}

static void answer(struct providers *p, const struct ask *a, const struct provider_answer *answer, struct slice payload) {
    if (a->wait != NULL) {
        answer_thread(p, a, answer, payload);
    } else {
        answer_worker(p, a, answer);
    }
}

static void fill_failure(struct provider_answer *a, const char *why) {
    *a = (struct provider_answer){.retry_after_ms = RETRY_MS};
    (void)status_set(&a->status, STATUS_NO_EMBEDDING, "%s", why);
}

/* Takes the first that fits out of the table. id 0: one whose deadline is not after before_us. */
static bool take_ask(struct providers *p, uint64_t id, int64_t before_us, struct ask *ret) {
    bool found = false;
    lock_take(&p->mutex);
    for (size_t i = 0; i < ASKS_MAX && !found; i++) {
        struct ask *a = &p->ask[i];
        if (a->used && (id != 0 ? a->id == id : a->deadline_us <= before_us)) {
            *ret = *a;
            a->used = false;
            found = true;
        }
    }
    lock_release(&p->mutex);
    return found;
}

static bool take_thread(struct providers *p, int64_t now_us, struct ask *ret) {
    bool found = false;
    lock_take(&p->mutex);
    for (size_t i = 0; i < ASKS_MAX && p->hushed_us != 0 && now_us >= p->hushed_us && !found; i++) {
        struct ask *a = &p->ask[i];
        if (a->used && a->wait != NULL) {
            *ret = *a;
            a->used = false;
            found = true;
        }
    }
    lock_release(&p->mutex);
    return found;
}

static void fail_until(struct providers *p, int64_t before_us, const char *why) {
    struct ask a;
    struct provider_answer failed;
    fill_failure(&failed, why);
    while (take_ask(p, 0, before_us, &a)) {
        answer(p, &a, &failed, slice_of(NULL, 0));
    }
}

static void fail_hushed(struct providers *p, int64_t now_us) {
    struct ask a;
    struct provider_answer failed;
    fill_failure(&failed, "the server is stopping");
    while (take_thread(p, now_us, &a)) {
        answer(p, &a, &failed, slice_of(NULL, 0));
    }
}

/* --- asking ----------------------------------------------------------------------------------------------------------- */

static struct ask *free_place(struct providers *p, bool query) {
    for (size_t i = query ? 0 : ASKS_OF_QUERIES; i < ASKS_MAX; i++) {
        if (!p->ask[i].used) {
            return &p->ask[i];
        }
    }
    return NULL;
}

static bool put_frame(struct providers *p, uint64_t id, struct slice payload) {
    struct buf frame = {0};
    channel_frame_begin(&frame, CHANNEL_EMBED, id);
    buf_put_slice(&frame, payload);
    channel_frame_end(&frame);
    bool ok = buf_ok(&frame) && outbox_waiting(&p->unsent) + frame.len <= UNSENT_MAX && outbox_put(&p->unsent, buf_slice(&frame));
    buf_fini(&frame);
    return ok;
}

/* NULL: it is under way. Else why not. */
static const char *enqueue(struct providers *p, struct ask wanted, struct slice payload) {
    const char *why = NULL;
    lock_take(&p->mutex);
    struct ask *a = free_place(p, wanted.query);
    wanted.id = ++p->last_id;
    wanted.used = true;
    if (p->s->config.model_count == 0) {
        why = "no remote model is configured here";
    } else if (wanted.wait != NULL && p->hushed_us != 0) {
        why = "the server is stopping";
    } else if (p->fd < 0 && p->incoming_fd < 0 && p->sickly) {
        why = "the process that asks providers ends again and again";
    } else if (a == NULL || !put_frame(p, wanted.id, payload)) {
        why = "too many requests for embeddings are under way";
    } else {
        *a = wanted;
    }
    lock_release(&p->mutex);
    if (why == NULL) {
        wake(p);
    }
    return why;
}

bool providers_relay(struct providers *p, uint32_t slot, uint64_t generation, uint64_t request, struct slice payload, struct status *st) {
    struct provider_ask ask;
    if (!provider_get_ask(payload, &ask, st)) {
        return false;
    }
    if (ask.model >= p->s->config.model_count) {
        return status_set(st, STATUS_MALFORMED, "a request for vectors of a model that is not there");
    }
    const struct ask wanted = {
        .slot = slot, .generation = generation, .request = request, .query = ask.role == EMBED_QUERY, .deadline_us = clock_monotonic_us() + (int64_t)ask.patience_ms * US_PER_MS};
    const char *why = enqueue(p, wanted, payload);
    if (why != NULL) {
        struct provider_answer failed;
        fill_failure(&failed, why);
        answer_worker(p, &wanted, &failed);
    }
    return true;
}

void providers_ask(struct providers *p, uint8_t model, const struct slice *texts, uint32_t count, int64_t deadline_us, struct buf *payload,
                   struct provider_answer *ret) {
    struct buf out = {0};
    struct wait wait = {.payload = payload, .answer = ret};
    int64_t patience_us = deadline_us - clock_monotonic_us();
    const struct provider_ask ask = {
        .model = model, .role = EMBED_DOCUMENT, .patience_ms = patience_us > 0 ? (uint32_t)(patience_us / US_PER_MS) : 0, .count = count};
    buf_reset(payload);
    provider_put_ask(&out, &ask, texts);
    const char *why = buf_ok(&out) ? enqueue(p, (struct ask){.wait = &wait, .deadline_us = deadline_us}, buf_slice(&out)) : "there is no memory";
    buf_fini(&out);
    if (why != NULL) {
        fill_failure(ret, why);
        return;
    }
    lock_take(&p->mutex);
    while (!wait.over) { /* the thread lets nobody wait beyond the deadline */
        lock_wait(&p->mutex, &p->answered);
    }
    lock_release(&p->mutex);
}

void providers_model(struct providers *p, uint8_t model, struct figures_provider *ret) {
    lock_take(&p->mutex);
    *ret = p->model[model];
    lock_release(&p->mutex);
}

/* --- the channel ------------------------------------------------------------------------------------------------------ */

static void send_some(struct providers *p) {
    lock_take(&p->mutex);
    while (p->fd >= 0 && outbox_waiting(&p->unsent) > 0) {
        struct slice next = outbox_next(&p->unsent);
        ssize_t n = send(p->fd, next.data, next.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            break; /* it takes no more now, or is gone, which is seen when it is read */
        }
        outbox_sent(&p->unsent, (size_t)n);
    }
    lock_release(&p->mutex);
}

static void add_counts(struct figures_provider *to, const struct figures_provider *from) {
    to->calls += from->calls;
    to->retries += from->retries;
    to->texts += from->texts;
    to->tokens += from->tokens;
    to->failures += from->failures;
    to->busy_us += from->busy_us;
    to->cache_hits += from->cache_hits;
    to->cache_misses += from->cache_misses;
    to->cache_shared += from->cache_shared;
    for (size_t i = 0; i < REMOTE_FAILURES; i++) {
        to->failed_calls[i] += from->failed_calls[i];
    }
}

/* The new process counts from its birth on. */
static void keep_counts_locked(struct providers *p) {
    for (size_t i = 0; i < REMOTE_MODELS_MAX; i++) {
        add_counts(&p->counted[i], &p->model[i]);
        const struct figures_provider was = p->model[i];
        p->model[i] = (struct figures_provider){
            .state = was.state, .dimension = was.dimension, .fingerprint = was.fingerprint, .retry_after_ms = was.retry_after_ms};
        memcpy(p->model[i].error, was.error, sizeof was.error);
    }
}

static bool take_model(struct providers *p, struct slice payload, struct status *st) {
    struct figures_provider found;
    uint8_t number;
    if (!provider_get_model(payload, &number, &found, st)) {
        return false;
    }
    if (number >= p->s->config.model_count) {
        return status_set(st, STATUS_MALFORMED, "a model that is not there");
    }
    lock_take(&p->mutex);
    p->model[number] = found;
    lock_release(&p->mutex);
    struct figures_provider shown = found;
    add_counts(&shown, &p->counted[number]);
    figures_provider_write(&p->s->figures->provider[number], &shown);
    return true;
}

static bool take_frame(struct providers *p, const struct channel_frame *frame, struct status *st) {
    struct provider_answer found;
    struct ask a;
    if (frame->kind == CHANNEL_MODEL) {
        return take_model(p, frame->payload, st);
    }
    if (frame->kind != CHANNEL_EMBEDDED) {
        return status_set(st, STATUS_MALFORMED, "a frame of kind %u", frame->kind);
    }
    if (!provider_get_answer(frame->payload, &found, st)) {
        return false;
    }
    if (take_ask(p, frame->request, 0, &a)) { /* else it was given up meanwhile */
        answer(p, &a, &found, frame->payload);
    }
    return true;
}

/* False: it is gone, or has to go. */
static bool read_some(struct providers *p, struct status *st) {
    struct channel_frame frame;
    size_t used = 0;
    if (!buf_reserve(&p->in, READ_BYTES)) {
        return status_no_memory(st);
    }
    ssize_t n = recv(p->fd, p->in.data + p->in.len, READ_BYTES, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
        return status_set(st, STATUS_NOT_READY, "the process has ended");
    }
    p->in.len += n > 0 ? (size_t)n : 0;
    lock_take(&p->mutex);
    p->heard_us = n > 0 ? clock_monotonic_us() : p->heard_us;
    p->spoke = p->spoke || n > 0;
    lock_release(&p->mutex);
    size_t at = 0;
    while (channel_frame_parse(slice_of(p->in.data + at, p->in.len - at), PROVIDER_FRAME_BYTES, &frame, &used, st)) {
        if (!take_frame(p, &frame, st)) {
            return false;
        }
        at += used;
    }
    memmove(p->in.data, p->in.data + at, p->in.len - at);
    p->in.len -= at;
    return st->code == STATUS_OK;
}

static void let_go(struct providers *p, const struct status *why) {
    lock_take(&p->mutex);
    io_close(&p->fd);
    outbox_clear(&p->unsent);
    p->kill = true; /* where it is not dead by itself */
    lock_release(&p->mutex);
    buf_fini(&p->in);
    buf_init(&p->in);
    if (why->code != STATUS_NOT_READY) {
        log_status(LOG_LEVEL_ERROR, "the provider process is given up", why);
    }
    fail_until(p, INT64_MAX, "the process that asks providers has ended");
    supervisor_wake(p->s);
}

static void open_mail(struct providers *p) {
    lock_take(&p->mutex);
    if (p->fd < 0 && p->incoming_fd >= 0) {
        p->fd = p->incoming_fd;
        keep_counts_locked(p);
        p->incoming_fd = -1;
    }
    lock_release(&p->mutex);
}

static void watch_silence(struct providers *p, int64_t now_us) {
    lock_take(&p->mutex);
    bool silent = p->fd >= 0 && !p->kill && now_us - p->heard_us > (p->spoke ? SILENCE_US : STARTING_US);
    p->kill = p->kill || silent;
    lock_release(&p->mutex);
    if (silent) {
        log_warn("the provider process says nothing any more, and is killed");
        supervisor_wake(p->s);
    }
}

static void *run(void *arg) {
    struct providers *p = (struct providers *)arg;
    struct status st;
    while (load_acquire_u32(&p->stopping) == 0) { /* pairs with: PROVIDERS_STOPPING */
        open_mail(p);
        send_some(p);
        lock_take(&p->mutex);
        short events = outbox_waiting(&p->unsent) > 0 ? POLLIN | POLLOUT : POLLIN;
        lock_release(&p->mutex);
        struct pollfd fds[2] = {{.fd = p->wake_fd, .events = POLLIN}, {.fd = p->fd, .events = events}};
        (void)poll(fds, 2, TICK_MS);
        uint64_t count;
        ssize_t n = fds[0].revents != 0 ? read(p->wake_fd, &count, sizeof count) : 0;
        (void)n; /* it only wakes */
        status_clear(&st);
        if (p->fd >= 0 && (fds[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !read_some(p, &st)) {
            let_go(p, &st);
        }
        int64_t now_us = clock_monotonic_us();
        fail_until(p, now_us, "the provider did not answer in time");
        fail_hushed(p, now_us);
        watch_silence(p, now_us);
    }
    return NULL;
}

/* --- main: the process ------------------------------------------------------------------------------------------------ */

static bool spawn_provider(struct providers *p, int64_t now_us, struct status *st) {
    static char role_name[] = "quired: provider";
    static char role_option[] = "--provider";
    static const char *const kept[] = {"QUIRE_IO_FAULT", "QUIRE_CLOCK_SHIFT", "CREDENTIALS_DIRECTORY", NULL};
    static char parent_text[16];
    struct spawn_plan plan = {.what = "the provider process", .argv = {role_name, role_option, parent_text}};
    int pair[2] = {-1, -1};
    if (!spawn_channel(pair, st)) {
        return false;
    }
    (void)snprintf(parent_text, sizeof parent_text, "%ld", (long)getpid());
    plan.fd[plan.fds++] = pair[1];
    plan.fd[plan.fds++] = children_config_fd(p->s->children);
    spawn_keep_environment(&plan, kept);
    bool ok = spawn(&plan, &p->pid, st);
    io_close(&pair[1]);
    if (!ok) {
        io_close(&pair[0]);
        return false;
    }
    p->spawned_us = now_us;
    lock_take(&p->mutex);
    p->incoming_fd = pair[0];
    p->heard_us = now_us;
    p->spoke = false;
    p->kill = false;
    lock_release(&p->mutex);
    wake(p);
    log_debug("provider process [%ld] started", (long)p->pid);
    return true;
}

static bool was_renewed(struct providers *p) {
    lock_take(&p->mutex);
    bool renewed = p->renewed;
    p->renewed = false;
    lock_release(&p->mutex);
    return renewed;
}

static void note_death(struct providers *p, const siginfo_t *info, int64_t now_us) {
    if (was_renewed(p) && info->si_code != CLD_EXITED) {
        log_info("the provider process [%ld] makes way for one with the settings as they are now", (long)p->pid);
        p->pid = 0;
        return;
    }
    if (info->si_code == CLD_EXITED) {
        log_error("the provider process [%ld] exited with %d", (long)p->pid, info->si_status);
    } else {
        log_warn("the provider process [%ld] was killed by signal %d (%s)", (long)p->pid, info->si_status, strsignal(info->si_status));
    }
    bool young = now_us - p->spawned_us < YOUNG_US;
    p->pause_us = !young ? 0 : p->pause_us == 0 ? FIRST_PAUSE_US : p->pause_us * 2;
    p->pause_us = p->pause_us < LONGEST_PAUSE_US ? p->pause_us : LONGEST_PAUSE_US;
    p->not_before_us = now_us + p->pause_us;
    p->pid = 0;
    lock_take(&p->mutex);
    p->sickly = young;
    lock_release(&p->mutex);
    store_relaxed_u64(&p->s->figures->provider_restarts, p->s->figures->provider_restarts + 1);
}

/* Its channel is closed by the thread before the next one is started, or its predecessor's requests would meet the wrong process. */
static bool channel_is_free(struct providers *p) {
    lock_take(&p->mutex);
    bool is_free = p->fd < 0 && p->incoming_fd < 0;
    lock_release(&p->mutex);
    return is_free;
}

static bool must_die(struct providers *p) {
    lock_take(&p->mutex);
    bool must = p->kill;
    lock_release(&p->mutex);
    return must;
}

void providers_tend(struct providers *p, int64_t now_us) {
    struct status st;
    siginfo_t info = {0};
    if (p->s->config.model_count == 0) {
        return;
    }
    if (p->pid != 0 && must_die(p)) {
        (void)kill(p->pid, SIGKILL);
    }
    if (p->pid != 0 && waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG) == 0 && info.si_pid == p->pid) {
        note_death(p, &info, now_us);
    }
    if (p->pid == 0 && !p->no_more && now_us >= p->not_before_us && channel_is_free(p) && !spawn_provider(p, now_us, &st)) {
        log_status(LOG_LEVEL_ERROR, "no provider process", &st);
        p->not_before_us = now_us + LONGEST_PAUSE_US;
    }
}

void providers_renew(struct providers *p) {
    lock_take(&p->mutex);
    p->kill = true;
    p->renewed = true;
    lock_release(&p->mutex);
}

void providers_hush(struct providers *p) {
    lock_take(&p->mutex);
    p->hushed_us = clock_monotonic_us() + LAST_WORDS_US;
    lock_release(&p->mutex);
}

void providers_stop(struct providers *p) {
    p->no_more = true;
}

/* --- begin and end ---------------------------------------------------------------------------------------------------- */

bool providers_new(struct supervisor *s, struct providers **ret, struct status *st) {
    struct providers *p = (struct providers *)calloc(1, sizeof *p);
    if (p == NULL) {
        return status_no_memory(st);
    }
    p->s = s;
    p->fd = -1;
    p->incoming_fd = -1;
    lock_init(&p->mutex, LOCK_PROVIDERS);
    (void)pthread_cond_init(&p->answered, NULL);
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->wake_fd < 0) {
        (void)status_set_errno(st, errno, "cannot watch the provider process");
        providers_free(p);
        return false;
    }
    if (s->config.model_count > 0 && !thread_start(&p->thread, "provider", run, p, st)) {
        providers_free(p);
        return false;
    }
    p->started = s->config.model_count > 0;
    *ret = p;
    return true;
}

void providers_quit(struct providers *p) {
    if (p != NULL && p->started) {
        store_release_u32(&p->stopping, 1); /* pairs with: PROVIDERS_STOPPING; else a stop is seen a tick late */
        wake(p);
        (void)pthread_join(p->thread, NULL);
        p->started = false;
    }
    if (p != NULL && p->pid != 0) {
        (void)kill(p->pid, SIGKILL);
        (void)waitpid(p->pid, NULL, 0);
        p->pid = 0;
    }
}

void providers_free(struct providers *p) {
    if (p == NULL) {
        return;
    }
    providers_quit(p);
    io_close(&p->fd);
    io_close(&p->incoming_fd);
    io_close(&p->wake_fd);
    outbox_clear(&p->unsent);
    buf_fini(&p->in);
    (void)pthread_cond_destroy(&p->answered);
    lock_fini(&p->mutex);
    free(p);
}
