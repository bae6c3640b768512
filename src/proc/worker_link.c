/*
 * worker_link.c - the worker's end of its channel (worker_link.h).
 *
 * One frame of a request at a time: it is written, then the answer of the same number is awaited, all frames of a request within the write deadline. What
 * does not come in time is unknown (the write may still be done), and its answer, when it comes after all, is recognised by its
 * number and dropped. A request that shares the link with others is put aside meanwhile (worker_desk.c); whoever goes on with it has the frame in front that it
 * waits for, and it takes that before it pauses again.
 *
 * Ops that together exceed a frame go in several, one after the other; each op has its own result anyway. But those of a request
 * with an Idempotency-Key go in one, because they become one record: without their vectors where those do not fit.
 */
#include "proc/worker_link.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "proc/provider_frames.h"
#include "shm/atomics.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { US_PER_MS = 1000, READ_BYTES = 16384, FRAME_OVERHEAD = 128, KEEP_BYTES = 1048576, ANSWER_LEAST_BYTES = 4194304, PENDING_BYTES = 8192 };
enum { TEXTS_AT_ONCE = 64, TEXTS_BYTES = 1048576, TEXT_BYTES = 3145728, ANSWER_GRACE_US = 500000 /* for the supervisor to say that the deadline has passed */ };

void worker_link_init(struct worker_link *l, int fd, const struct control *control, const struct limits *limits,
                      uint64_t deadline_ms, uint64_t query_ms) {
    *l = (struct worker_link){.fd = fd,
                              .control = control,
                              .max_bytes = channel_max_bytes(limits),
                              .deadline_ms = (int64_t)deadline_ms,
                              .query_ms = (int64_t)query_ms};
}

void worker_link_begin(struct worker_call *c, int64_t waited_ms) {
    c->waited_ms = waited_ms;
    c->deadline_us = 0;
}

void worker_link_fini(struct worker_link *l) {
    buf_fini(&l->out);
    buf_fini(&l->pending);
    buf_fini(&l->in);
}

static bool lost(struct status *st) {
    return status_set(st, STATUS_NOT_READY, "this worker has lost the supervisor");
}

static bool unanswered(const struct worker_link *l, struct status *st) {
    return status_set(st, STATUS_BUSY, "no acknowledgement within %lld ms; the write may still be done",
                      (long long)l->deadline_ms);
}

/* Waits for the channel. False: the deadline has passed. */
static bool wait_for(const struct worker_link *l, short events, int64_t deadline_us) {
    for (;;) {
        int64_t left_us = deadline_us - clock_monotonic_us();
        struct pollfd p = {.fd = l->fd, .events = events};
        if (left_us <= 0) {
            return false;
        }
        int n = poll(&p, 1, (int)(left_us / US_PER_MS) + 1);
        if (n > 0) {
            return true;
        }
        if (n < 0 && errno != EINTR) {
            return false;
        }
    }
}

/* A big frame's memory is given back. */
static void slim(struct buf *b) {
    if (b->cap > KEEP_BYTES && b->len == 0) {
        buf_fini(b);
        buf_init(b);
    }
}

static bool send_frames(struct worker_link *l, const struct buf *frames, int64_t deadline_us, struct status *st) {
    size_t sent = 0;
    if (l->broken) {
        return lost(st);
    }
    while (sent < frames->len) {
        ssize_t n = send(l->fd, frames->data + sent, frames->len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            sent += (size_t)n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (!wait_for(l, POLLOUT, deadline_us)) {
                l->broken = sent > 0;
                return status_set(st, STATUS_BUSY, "the write could not be handed over within %lld ms",
                                  (long long)l->deadline_ms);
            }
        } else if (errno != EINTR) {
            l->broken = true;
            return lost(st);
        }
    }
    return true;
}

void worker_link_flush(struct worker_link *l) {
    struct status st;
    if (l->pending.len > 0 && !send_frames(l, &l->pending, clock_monotonic_us() + l->deadline_ms * US_PER_MS, &st)) {
        l->broken = true;
    }
    buf_reset(&l->pending);
    slim(&l->pending);
}

/* A request that is put aside has its frame sent with those of others, in one piece. */
static bool send_frame(struct worker_call *c, int64_t deadline_us, struct status *st) {
    struct worker_link *l = c->link;
    if (c->park == NULL) {
        return send_frames(l, &l->out, deadline_us, st);
    }
    if (l->broken) {
        return lost(st);
    }
    size_t before = l->pending.len;
    buf_put_slice(&l->pending, buf_slice(&l->out));
    if (!buf_ok(&l->pending)) {
        l->pending.failed = false;
        l->pending.len = before;
        return status_no_memory(st);
    }
    if (l->pending.len > PENDING_BYTES) {
        worker_link_flush(l);
    }
    return true;
}

/* Reads what there is. False: the supervisor is gone, or there is no memory. */
static bool receive_some(struct worker_link *l, struct status *st) {
    if (!buf_reserve(&l->in, READ_BYTES)) {
        l->broken = true;
        return status_no_memory(st);
    }
    ssize_t n = recv(l->fd, l->in.data + l->in.len, READ_BYTES, MSG_DONTWAIT);
    if (n > 0) {
        l->in.len += (size_t)n;
    } else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
        l->broken = true;
        return lost(st);
    }
    return true;
}

static void drop_received(struct worker_link *l, size_t used) {
    memmove(l->in.data, l->in.data + used, l->in.len - used);
    l->in.len -= used;
}

static uint64_t longest_answer(const struct worker_link *l) {
    return l->max_bytes < ANSWER_LEAST_BYTES ? ANSWER_LEAST_BYTES : l->max_bytes;
}

/* Until the channel has news, with others having their turn meanwhile where there are any. False: the deadline has passed, or the link is broken. */
static bool await_news(struct worker_call *c, int64_t deadline_us, struct status *st) {
    struct worker_link *l = c->link;
    if (c->park != NULL) {
        bool in_time = c->park(c->ctx, deadline_us);
        return l->broken ? lost(st) : in_time || unanswered(l, st);
    }
    return wait_for(l, POLLIN, deadline_us) ? receive_some(l, st) : unanswered(l, st);
}

/* Waits for the frame that answers the call's last request. It lies in the link's `in` until drop_received(*ret_used). */
static bool await_answer(struct worker_call *c, int64_t deadline_us, struct channel_frame *ret, size_t *ret_used, struct status *st) {
    struct worker_link *l = c->link;
    for (;;) {
        size_t used = 0;
        if (channel_frame_parse(buf_slice(&l->in), longest_answer(l), ret, &used, st)) {
            if (ret->request == c->request) {
                *ret_used = used;
                return true;
            }
            if (c->park == NULL) { /* of a request that was given up; else another's that is put aside */
                drop_received(l, used);
                continue;
            }
        } else if (st->code != STATUS_OK) {
            l->broken = true;
            return false;
        }
        if (!await_news(c, deadline_us, st)) {
            return false;
        }
    }
}

bool worker_link_receive(struct worker_link *l) {
    struct status st;
    size_t before = 0;
    do { /* less than asked for is all there is */
        before = l->in.len;
        if (l->broken || !receive_some(l, &st)) {
            return false;
        }
    } while (l->in.len - before == READ_BYTES);
    return true;
}

bool worker_link_front(struct worker_link *l, uint64_t *ret_request) {
    struct channel_frame frame;
    struct status st = {0};
    size_t used = 0;
    if (channel_frame_parse(buf_slice(&l->in), longest_answer(l), &frame, &used, &st)) {
        *ret_request = frame.request;
        return true;
    }
    l->broken |= st.code != STATUS_OK;
    return false;
}

void worker_link_skip(struct worker_link *l) {
    struct channel_frame frame;
    struct status st;
    size_t used = 0;
    if (channel_frame_parse(buf_slice(&l->in), longest_answer(l), &frame, &used, &st)) {
        drop_received(l, used);
    }
}

/* Begins a frame of the call. */
static void begin_frame(struct worker_call *c, enum channel_kind kind) {
    c->request = ++c->link->request;
    channel_frame_begin(&c->link->out, kind, c->request);
}

static bool exchange_until(struct worker_call *c, int64_t deadline_us, struct channel_frame *ret, size_t *ret_used, struct status *st) {
    struct worker_link *l = c->link;
    channel_frame_end(&l->out);
    c->sent_bytes = l->out.len;
    bool ok = buf_check(&l->out, st) && send_frame(c, deadline_us, st);
    buf_reset(&l->out);
    slim(&l->out);
    return ok && await_answer(c, deadline_us, ret, ret_used, st);
}

/* The deadline begins with what a request sends first. */
static int64_t write_deadline(struct worker_call *c) {
    if (c->deadline_us == 0) {
        c->deadline_us = clock_monotonic_us() + (c->link->deadline_ms - c->waited_ms) * US_PER_MS;
    }
    return c->deadline_us;
}

static bool exchange(struct worker_call *c, struct channel_frame *ret, size_t *ret_used, struct status *st) {
    return exchange_until(c, write_deadline(c), ret, ret_used, st);
}

/* The supervisor refused the frame as a whole: each op has that reason. */
static bool spread_refusal(struct slice payload, struct api_op_result *results, size_t count, struct status *st) {
    struct status why;
    struct uuid task;
    if (!channel_get_answer(payload, &why, &task, st)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        results[i] = (struct api_op_result){.status = why};
    }
    return true;
}

/* What became of an earlier request with this key. */
static bool take_remembered(struct channel_results *from, struct api_keyed *key, struct status *st) {
    if (from->count > SIZE_MAX / sizeof(struct api_op_result)) {
        return status_set(st, STATUS_MALFORMED, "more results than can be");
    }
    size_t bytes = (size_t)from->count * sizeof(struct api_op_result);
    buf_reset(&key->results);
    if (!buf_reserve(&key->results, bytes + 1)) {
        return status_no_memory(st);
    }
    key->results.len = bytes;
    struct api_op_result *results = (struct api_op_result *)(void *)key->results.data; /* malloc'd, so aligned */
    if (!channel_results_take(from, results, st)) {
        return false;
    }
    key->origin = from->origin;
    key->lsn = from->lsn;
    key->known = true;
    return true;
}

/* results: of the `count` ops that were submitted. */
static bool take_results(struct slice payload, struct api_keyed *key, struct api_op_result *results, size_t count,
                         struct status *st) {
    struct channel_results from = {0};
    if (!channel_results_begin(payload, &from, st)) {
        return false;
    }
    if (from.remembered && key != NULL) {
        return take_remembered(&from, key, st);
    }
    if (from.remembered || from.count != count) {
        return status_set(st, STATUS_MALFORMED, "results for another number of ops");
    }
    if (key != NULL) {
        key->lsn = from.lsn;
    }
    return channel_results_take(&from, results, st);
}

/* Sends the SUBMIT that was put into l->out. */
static bool submit_put(struct worker_call *c, struct api_keyed *key, size_t count, struct api_op_result *results, struct status *st) {
    struct worker_link *l = c->link;
    struct channel_frame answer;
    size_t used = 0;
    if (!exchange(c, &answer, &used, st)) {
        return false;
    }
    bool ok = false;
    if (answer.kind == CHANNEL_RESULTS) {
        ok = take_results(answer.payload, key, results, count, st);
    } else if (answer.kind == CHANNEL_ANSWER && key != NULL) { /* refused as a whole, with nothing done */
        struct uuid task;
        struct status why = {0};
        ok = channel_get_answer(answer.payload, &why, &task, st);
        if (ok) {
            *st = why;
            ok = false;
        }
    } else if (answer.kind == CHANNEL_ANSWER) {
        ok = spread_refusal(answer.payload, results, count, st);
    } else {
        (void)status_set(st, STATUS_INTERNAL, "the supervisor answered with a frame of kind %u", answer.kind);
    }
    drop_received(l, used);
    slim(&l->in);
    return ok;
}

static bool submit_frame(struct worker_call *c, struct api_keyed *key, const struct api_submission *ops, size_t count,
                         struct api_op_result *results, struct status *st) {
    struct worker_link *l = c->link;
    begin_frame(c, CHANNEL_SUBMIT);
    channel_put_submission(&l->out, key, ops, count);
    return submit_put(c, key, count, results, st);
}

/* All of a keyed request in one frame, without any vectors where they do not fit. */
static bool submit_keyed(struct worker_call *c, struct api_keyed *key, const struct api_submission *ops, size_t count,
                         struct api_op_result *results, struct status *st) {
    struct worker_link *l = c->link;
    uint64_t bytes = FRAME_OVERHEAD;
    for (size_t i = 0; i < count; i++) {
        bytes += channel_submission_bytes(&ops[i]);
    }
    if (bytes <= l->max_bytes) {
        return submit_frame(c, key, ops, count, results, st);
    }
    struct api_submission *lean = (struct api_submission *)calloc(count, sizeof *lean);
    if (lean == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < count; i++) {
        lean[i].op = ops[i].op;
    }
    bool ok = submit_frame(c, key, lean, count, results, st);
    free(lean);
    return ok;
}

/* One op alone in a frame, without its vectors where they do not fit. */
static bool submit_alone(struct worker_call *c, const struct api_submission *op, struct api_op_result *result,
                         struct status *st) {
    struct worker_link *l = c->link;
    struct api_submission lean = *op;
    if (channel_submission_bytes(op) + FRAME_OVERHEAD > l->max_bytes) {
        lean.vectors = NULL;
        lean.vector_count = 0;
        lean.dimension = 0;
    }
    return submit_frame(c, NULL, &lean, 1, result, st);
}

/* How many of the ops fit into one frame together; at least 1. */
static size_t fitting(const struct worker_link *l, const struct api_submission *ops, size_t count) {
    uint64_t bytes = FRAME_OVERHEAD;
    size_t n = 0;
    while (n < count) {
        bytes += channel_submission_bytes(&ops[n]);
        if (bytes > l->max_bytes) {
            break;
        }
        n++;
    }
    return n == 0 ? 1 : n;
}

bool worker_link_submit(void *ctx, struct api_keyed *key, const struct api_submission *ops, size_t count,
                        struct api_op_result *results, struct status *st) {
    struct worker_call *c = (struct worker_call *)ctx;
    struct worker_link *l = c->link;
    size_t done = 0;
    if (load_acquire_u32(&l->control->accepting) ==
        0) { /* pairs with: CONTROL_STATE; else a write begins that nobody waits for */
        return status_set(st, STATUS_NOT_READY, "the server is stopping");
    }
    if (key != NULL) {
        return submit_keyed(c, key, ops, count, results, st);
    }
    while (done < count) {
        size_t n = fitting(l, ops + done, count - done);
        bool ok = n == 1 ? submit_alone(c, &ops[done], &results[done], st) : submit_frame(c, NULL, ops + done, n, results + done, st);
        if (!ok) {
            break;
        }
        done += n;
    }
    if (done == 0 && count > 0) {
        return false;
    }
    for (size_t i = done; i < count; i++) { /* earlier frames went through: their results must reach the client */
        results[i] = (struct api_op_result){.status = *st};
    }
    return true;
}

bool worker_link_change_keys(void *ctx, struct slice credential, struct slice op, uint64_t *ret_lsn, struct status *st) {
    struct worker_call *c = (struct worker_call *)ctx;
    struct worker_link *l = c->link;
    struct api_op_result result = {0};
    begin_frame(c, CHANNEL_SUBMIT);
    channel_put_key_change(&l->out, credential, op);
    if (!submit_put(c, NULL, 1, &result, st)) {
        return false;
    }
    if (result.status.code != STATUS_OK) {
        *st = result.status;
        return false;
    }
    *ret_lsn = result.lsn;
    return true;
}

/* An ANSWER as what it says: true where that is STATUS_OK. */
static bool take_answer(const struct channel_frame *answer, struct uuid *ret_task, struct status *st) {
    struct status outcome = {0};
    if (answer->kind != CHANNEL_ANSWER) {
        return status_set(st, STATUS_INTERNAL, "the supervisor answered with a frame of kind %u", answer->kind);
    }
    if (!channel_get_answer(answer->payload, &outcome, ret_task, st)) {
        return false;
    }
    if (outcome.code != STATUS_OK) {
        *st = outcome;
    }
    return outcome.code == STATUS_OK;
}

bool worker_link_recall(void *ctx, struct api_keyed *key, struct status *st) {
    struct worker_call *c = (struct worker_call *)ctx;
    struct worker_link *l = c->link;
    struct channel_frame answer;
    struct uuid nothing;
    size_t used = 0;
    begin_frame(c, CHANNEL_RECALL);
    channel_put_recall(&l->out, &key->id);
    if (!exchange(c, &answer, &used, st)) {
        return false;
    }
    bool ok = answer.kind == CHANNEL_RESULTS ? take_results(answer.payload, key, NULL, 0, st) : take_answer(&answer, &nothing, st);
    drop_received(l, used);
    slim(&l->in);
    return ok;
}

bool worker_link_command(void *ctx, struct api_keyed *key, enum api_command command, const struct uuid *argument,
                         struct uuid *ret_task, struct status *st) {
    struct channel_command asked = {.command = command, .argument = *argument, .keyed = key != NULL};
    struct worker_call *c = (struct worker_call *)ctx;
    struct worker_link *l = c->link;
    struct channel_frame answer;
    size_t used = 0;
    if (key != NULL) {
        asked.id = key->id;
        asked.origin = key->origin;
        asked.task = *ret_task;
    }
    begin_frame(c, CHANNEL_COMMAND);
    channel_put_command(&l->out, &asked);
    if (!exchange(c, &answer, &used, st)) {
        return false;
    }
    bool done = key != NULL && answer.kind == CHANNEL_RESULTS;
    bool ok = done ? take_results(answer.payload, key, NULL, 0, st) : take_answer(&answer, ret_task, st);
    drop_received(l, used);
    return ok;
}

/* --- providers --- */

/* As many texts as one frame takes, at least one; each cut to what models can take. */
static size_t fitting_texts(const struct slice *texts, size_t count, struct slice *ret) {
    size_t bytes = 0;
    size_t n = 0;
    for (; n < count && n < TEXTS_AT_ONCE; n++) {
        struct slice text = slice_of(texts[n].data, utf8_prefix(texts[n], TEXT_BYTES));
        if (n > 0 && bytes + text.len > TEXTS_BYTES) {
            break;
        }
        bytes += text.len;
        ret[n] = text;
    }
    return n;
}

static bool take_embedded(struct slice payload, size_t count, struct buf *values, struct api_embedded *ret, struct status *st) {
    struct provider_answer a = {0};
    if (!provider_get_answer(payload, &a, st)) {
        return false;
    }
    ret->retry_after_ms = a.retry_after_ms;
    if (a.status.code != STATUS_OK) {
        *st = a.status;
        return false;
    }
    bool same = ret->fingerprint == 0 || (ret->fingerprint == a.fingerprint && ret->dimension == a.dimension);
    if (a.done != count || !same) {
        return status_set(st, STATUS_NO_EMBEDDING, "the provider exchanged its model at this moment");
    }
    ret->fingerprint = a.fingerprint;
    ret->dimension = a.dimension;
    buf_put_slice(values, a.values);
    return buf_check(values, st);
}

/* The queue has no room for the texts, so nobody was asked. */
static bool take_refusal(const struct channel_frame *answer, struct status *st) {
    struct uuid nothing;
    bool said = take_answer(answer, &nothing, st);
    return !said && st->code == STATUS_BUSY ? status_set(st, STATUS_NO_EMBEDDING, "the provider was not asked: the server has too much to do")
           : !said                          ? false
                                            : status_set(st, STATUS_INTERNAL, "the supervisor answered without vectors");
}

/* Some of the texts. */
static bool embed_frame(struct worker_call *c, const struct provider_ask *ask, const struct slice *texts, int64_t deadline_us, struct buf *values,
                        struct api_embedded *ret, struct status *st) {
    struct worker_link *l = c->link;
    struct channel_frame answer;
    size_t used = 0;
    begin_frame(c, CHANNEL_EMBED);
    provider_put_ask(&l->out, ask, texts);
    if (!exchange_until(c, deadline_us + ANSWER_GRACE_US, &answer, &used, st)) {
        return st->code != STATUS_BUSY ? false : status_set(st, STATUS_NO_EMBEDDING, "the provider did not answer in time");
    }
    bool ok = answer.kind == CHANNEL_EMBEDDED ? take_embedded(answer.payload, ask->count, values, ret, st)
                                              : take_refusal(&answer, st);
    drop_received(l, used);
    slim(&l->in);
    return ok;
}

/* What came, and what is awaited for n more texts. */
static size_t bytes_of_vectors(const struct buf *values, const struct api_embedded *known, size_t n) {
    size_t dimension = known->dimension != 0 ? known->dimension : EMBED_MAX_DIMENSION;
    return values->len + n * dimension * sizeof(float);
}

bool worker_link_embed(void *ctx, const struct embedder *model, enum embed_role role, const struct slice *texts, size_t count, struct buf *values,
                       struct api_embedded *ret, struct status *st) {
    struct worker_call *c = (struct worker_call *)ctx;
    struct slice some[TEXTS_AT_ONCE];
    int64_t now_us = clock_monotonic_us();
    /* of a write's time a third is left to the write itself */
    int64_t patience_us = role == EMBED_QUERY ? c->link->query_ms * US_PER_MS : (write_deadline(c) - now_us) / 3 * 2;
    int64_t deadline_us = now_us + patience_us;
    *ret = (struct api_embedded){0};
    buf_reset(values);
    for (size_t done = 0; done < count;) {
        size_t n = fitting_texts(texts + done, count - done, some);
        int64_t left_us = deadline_us - clock_monotonic_us();
        const struct provider_ask ask = {.model = model->number,
                                         .role = (uint8_t)role,
                                         .hurry = true,
                                         .patience_ms = left_us > 0 ? (uint32_t)(left_us / US_PER_MS) : 0,
                                         .count = (uint32_t)n};
        c->vector_bytes = bytes_of_vectors(values, ret, n);
        bool ok = embed_frame(c, &ask, some, deadline_us, values, ret, st);
        c->vector_bytes = 0;
        if (!ok) {
            return false;
        }
        done += n;
    }
    return true;
}
