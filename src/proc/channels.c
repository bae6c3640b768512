/*
 * channels.c - the supervisor's ends of the channels (channels.h).
 *
 * Two threads sleep in epoll on all of them. Whom a frame wakes reads what there is and, when nobody else is at it, commits what waits (committer.c): so
 * that a lone write meets no other thread on its way from the socket to the disk. While one of them syncs, the other reads; what it reads is the next batch,
 * and recalls and commands are answered at once. Reading is one thread's at a time (the mutex `reading`), committing, too, and no thread does both.
 *
 * An event comes once for what is new (EPOLLET), else what one thread is about to read would wake the other; so a channel is read until it is empty.
 * A frame goes through three steps: 16 bytes of header; the decision whether the queue has room for its payload; the payload, into the memory that then travels
 * through the committer. So a worker costs the supervisor no more than what it announced within the bounds of the queue, and a frame that stalls is a broken
 * worker's.
 *
 * Who closes descriptors or reads from them holds `reading`; sending threads hold the other mutex and look at the generation, so an answer never reaches the
 * successor of the worker that asked. A new worker's channel arrives through a mailbox per slot.
 *
 * Answers are sent by the thread that has them, at once: a worker has few frames under way and reads its answers between any two requests, so its socket takes any
 * answer but the largest; what it does not take is kept here and sent when it can be. A worker that lets answers pile up is
 * broken.
 */
#include "proc/channels.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"
#include "proc/channel.h"
#include "proc/children.h"
#include "proc/committer.h"
#include "proc/exchanger.h"
#include "proc/keyed.h"
#include "proc/lock.h"
#include "proc/outbox.h"
#include "proc/providers.h"
#include "proc/rebuild.h"
#include "proc/snapshotter.h"
#include "proc/submission.h"
#include "proc/tasks.h"
#include "proc/verifier.h"
#include "proc/thread.h"
#include "shm/atomics.h"
#include "store/exchange.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    EVENTS_AT_ONCE = 32,
    LOOK_MS = 1000, /* how often stalled frames are looked for */
    US_PER_MS = 1000,
    READS_AT_ONCE = 256, /* of one channel, before the others have their turn */
    COMMAND_MAX_BYTES = 128,
    AHEAD_BYTES = 16384,
    UNSENT_MOST_BYTES = 67108864, /* more than the answers to all that a worker has in hand take, vectors from providers among them (worker_desk.c) */
    THREADS = 2
};

enum frame_stage { STAGE_HEADER, STAGE_PAYLOAD, STAGE_SKIP };

struct channel {
    /* under the mutex */
    int fd; /* -1: none */
    uint64_t generation;
    struct outbox unsent;
    int incoming_fd; /* mailbox; -1: empty */
    uint64_t incoming_generation;
    /* under `reading` */
    enum frame_stage stage;
    uint8_t header_bytes[CHANNEL_HEADER_BYTES];
    struct channel_header header;
    size_t got;       /* of header or payload */
    uint8_t *payload; /* STAGE_PAYLOAD */
    uint64_t reserved;
    int64_t since_us; /* when the frame under way began; 0: none */
};

struct channels {
    struct supervisor *s;
    pthread_t threads[THREADS];
    size_t started;
    uint32_t stopping; /* atomic */
    int epoll_fd;
    int wake_fd;
    uint64_t max_frame;
    uint64_t looked_us; /* atomic: when one of the threads last came round */
    struct lock reading;
    int64_t stalled_us;         /* under `reading`: when frames that do not end were looked for last */
    uint8_t ahead[AHEAD_BYTES]; /* under `reading` */
    struct lock mutex;
    struct channel channel[CONTROL_MAX_WORKERS];
};

#define WAKE_TAG UINT64_MAX

/* --- answering -------------------------------------------------------------------------------------------------------- */

static void want_events(struct channels *c, uint32_t slot, uint32_t events) {
    struct epoll_event e = {.events = events | EPOLLET, .data.u64 = slot};
    (void)epoll_ctl(c->epoll_fd, EPOLL_CTL_MOD, c->channel[slot].fd, &e);
}

/* Sends what it takes now. False: the worker is gone, or broken. */
static bool send_some(int fd, const uint8_t *data, size_t len, size_t *ret_sent) {
    size_t sent = 0;
    while (sent < len) {
        ssize_t n = send(fd, data + sent, len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            *ret_sent = sent;
            return errno == EAGAIN || errno == EWOULDBLOCK;
        }
        sent += (size_t)n;
    }
    *ret_sent = sent;
    return true;
}

/* Returns why the worker is to be killed, or NULL. */
static const char *send_locked(struct channels *c, uint32_t slot, const struct buf *frame) {
    struct channel *ch = &c->channel[slot];
    size_t sent = 0;
    if (outbox_waiting(&ch->unsent) > UNSENT_MOST_BYTES) {
        return "it does not read its answers";
    }
    bool queue = outbox_waiting(&ch->unsent) > 0;
    if (!queue && !send_some(ch->fd, frame->data, frame->len, &sent)) {
        return NULL; /* gone */
    }
    if (sent < frame->len) {
        if (!outbox_put(&ch->unsent, slice_of(frame->data + sent, frame->len - sent))) {
            outbox_clear(&ch->unsent);
            return "there was no memory for its answer";
        }
        if (!queue) {
            want_events(c, slot, EPOLLIN | EPOLLOUT);
        }
    }
    return NULL;
}

void channels_send(struct channels *c, uint32_t slot, uint64_t generation, const struct buf *frame) {
    const char *kill_because = NULL;
    if (!buf_ok(frame)) {
        children_kill(c->s->children, slot, generation, "there was no memory for its answer");
        return;
    }
    lock_take(&c->mutex);
    if (c->channel[slot].fd >= 0 && c->channel[slot].generation == generation) {
        kill_because = send_locked(c, slot, frame);
    }
    lock_release(&c->mutex);
    if (kill_because != NULL) {
        children_kill(c->s->children, slot, generation, kill_because);
    }
}

static void send_rest(struct channels *c, uint32_t slot) {
    struct channel *ch = &c->channel[slot];
    lock_take(&c->mutex);
    size_t sent = 0;
    struct slice next = outbox_next(&ch->unsent);
    bool alive = send_some(ch->fd, next.data, next.len, &sent);
    outbox_sent(&ch->unsent, sent);
    if (!alive || outbox_waiting(&ch->unsent) == 0) {
        outbox_clear(&ch->unsent);
        want_events(c, slot, EPOLLIN);
    }
    lock_release(&c->mutex);
}

static void send_answer(struct channels *c, uint32_t slot, uint64_t request, const struct status *st, const struct uuid *task) {
    struct buf frame = {0};
    channel_frame_begin(&frame, CHANNEL_ANSWER, request);
    channel_put_answer(&frame, st, task);
    channel_frame_end(&frame);
    channels_send(c, slot, c->channel[slot].generation, &frame);
    buf_fini(&frame);
}

static void refuse(struct channels *c, uint32_t slot, uint64_t request, const struct status *st) {
    static const struct uuid no_task = {{0}};
    send_answer(c, slot, request, st, &no_task);
}

/* --- commands --------------------------------------------------------------------------------------------------------- */

/* id, here and below: of the task; NULL: any. */
static bool begin_snapshot(struct supervisor *s, const struct uuid *id, struct uuid *ret_task, struct status *st) {
    /* One that waits covers what is asked for now, too; one that is being written does not. */
    if ((id != NULL || !tasks_find_pending(s->tasks, TASK_SNAPSHOT, NULL, ret_task)) &&
        !tasks_add(s->tasks, TASK_SNAPSHOT, NULL, id, ret_task, st)) {
        return false;
    }
    snapshotter_wake(s->snapshotter);
    return true;
}

static bool begin_rebuild(struct supervisor *s, const struct uuid *library, const struct uuid *id, struct uuid *ret_task,
                          struct status *st) {
    struct library *lib = catalog_acquire(s->catalog, library);
    if (lib == NULL) {
        return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_LIBRARY, "there is no such library");
    }
    uint32_t exchange = library_exchange_state(lib);
    catalog_release(s->catalog, lib);
    if (exchange == EXCHANGE_BUILDING || exchange == EXCHANGE_RETURNING) {
        return status_set_subject(st, STATUS_CONFLICT, SUBJECT_LIBRARY, "the model of this library is being exchanged");
    }
    if (tasks_find_live(s->tasks, TASK_REBUILD, library, ret_task)) {
        return status_set_subject(st, STATUS_CONFLICT, SUBJECT_TASK, "the index of this library is being rebuilt already");
    }
    if (!tasks_add(s->tasks, TASK_REBUILD, library, id, ret_task, st)) {
        return false;
    }
    rebuilder_wake(s->rebuilder);
    return true;
}

static bool begin_optimize(struct supervisor *s, const struct uuid *library, const struct uuid *id, struct uuid *ret_task,
                           struct status *st) {
    struct library *lib = catalog_acquire(s->catalog, library);
    if (lib == NULL) {
        return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_LIBRARY, "there is no such library");
    }
    uint32_t exchange = library_exchange_state(lib);
    catalog_release(s->catalog, lib);
    if (exchange != EXCHANGE_NONE) {
        return status_set_subject(st, STATUS_CONFLICT, SUBJECT_LIBRARY,
                                  exchange == EXCHANGE_KEPT ? "this library is kept with the model before: `quire reembed LIBRARY --drop` ends that, then it goes"
                                                            : "the model of this library is being exchanged: wait for it, or give it up with `quire reembed LIBRARY --drop`");
    }
    if (tasks_find_live(s->tasks, TASK_REBUILD, library, ret_task) ||
        tasks_find_live(s->tasks, TASK_OPTIMIZE, library, ret_task)) {
        return status_set_subject(st, STATUS_CONFLICT, SUBJECT_TASK,
                                  "the index of this library is being rebuilt or optimized already");
    }
    if (!tasks_add(s->tasks, TASK_OPTIMIZE, library, id, ret_task, st)) {
        return false;
    }
    rebuilder_wake(s->rebuilder);
    return true;
}

static bool begin_verification(struct supervisor *s, const struct uuid *packed, const struct uuid *id, struct uuid *ret_task,
                               struct status *st) {
    char name[SNAPSHOT_NAME_MAX];
    if (!snapshot_name_unpack(packed, name)) {
        return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_SNAPSHOT, "there is no such snapshot");
    }
    if ((id != NULL || !tasks_find_live(s->tasks, TASK_VERIFY, packed, ret_task)) &&
        !tasks_add(s->tasks, TASK_VERIFY, packed, id, ret_task, st)) {
        return false;
    }
    verifier_wake(s->verifier);
    return true;
}

static bool cancel_task(struct supervisor *s, const struct uuid *task, struct uuid *ret_task, struct status *st) {
    enum task_kind kind;
    if (!tasks_cancel(s->tasks, task, &kind, st)) {
        return false;
    }
    *ret_task = *task;
    if (kind == TASK_SNAPSHOT) {
        snapshotter_cancel(s->snapshotter, task);
    } else if (kind == TASK_VERIFY) {
        verifier_cancel(s->verifier, task);
    } else if (kind == TASK_REEMBED) {
        exchanger_wake(s->exchanger);
    } else {
        rebuilder_wake(s->rebuilder);
    }
    return true;
}

bool channels_obey(struct supervisor *s, const struct channel_command *c, struct uuid *ret_task, struct status *st) {
    const struct uuid *id = c->keyed ? &c->task : NULL;
    if (load_acquire_u32(&s->control->accepting) == 0) { /* pairs with: CONTROL_STATE; else a task begins that nobody ends */
        return status_set(st, STATUS_NOT_READY, "the server is stopping");
    }
    switch (c->command) {
    case API_TAKE_SNAPSHOT:
        return begin_snapshot(s, id, ret_task, st);
    case API_REBUILD_INDEX:
        return begin_rebuild(s, &c->argument, id, ret_task, st);
    case API_OPTIMIZE_INDEX:
        return begin_optimize(s, &c->argument, id, ret_task, st);
    case API_VERIFY_SNAPSHOT:
        return begin_verification(s, &c->argument, id, ret_task, st);
    case API_CANCEL_TASK:
        return cancel_task(s, &c->argument, ret_task, st);
    }
    return status_set(st, STATUS_INTERNAL, "an unknown command");
}

/* A task that a request with an Idempotency-Key asks for: the committer begins it when its turn comes, unless one that came before has, and answers when that
 * is remembered. So the worker that asked may die, and a retry does not begin another one. */
static bool enqueue_task(struct channels *c, uint32_t slot, const struct channel_command *command, struct status *st) {
    const struct channel *ch = &c->channel[slot];
    struct submission *sub = NULL;
    if (!submission_of_task(command, &sub, st)) {
        return false;
    }
    sub->slot = slot;
    sub->generation = ch->generation;
    sub->request = ch->header.request;
    if (!committer_enqueue(c->s->committer, sub, st)) {
        submission_free(sub);
        return false;
    }
    return true;
}

/* False: the worker is broken. */
static bool take_command(struct channels *c, uint32_t slot, struct status *st) {
    struct channel *ch = &c->channel[slot];
    struct channel_command command;
    struct uuid task = {{0}};
    struct status outcome;
    if (!channel_get_command(slice_of(ch->payload, ch->header.payload_bytes), &command, st)) {
        return false;
    }
    status_clear(&outcome);
    bool ok = command.keyed ? enqueue_task(c, slot, &command, &outcome) : channels_obey(c->s, &command, &task, &outcome);
    if (!ok || !command.keyed) {
        send_answer(c, slot, ch->header.request, &outcome, &task);
    }
    return true;
}

/* False: the worker is broken. */
static bool take_recall(struct channels *c, uint32_t slot, struct status *st) {
    struct channel *ch = &c->channel[slot];
    struct idempotency_id id;
    struct buf frame = {0};
    struct status why = {0};
    if (!channel_get_recall(slice_of(ch->payload, ch->header.payload_bytes), &id, st)) {
        return false;
    }
    if (c->s->config.idempotency_max_keys == 0) {
        (void)status_set(&why, STATUS_INVALID, "this server remembers no Idempotency-Key (idempotency_max_keys is 0)");
        refuse(c, slot, ch->header.request, &why);
    } else if (keyed_recall(c->s, &id, ch->header.request, &frame, &why) == RECALL_KNOWN) {
        channels_send(c, slot, ch->generation, &frame);
    } else {
        refuse(c, slot, ch->header.request, &why); /* or nothing is remembered: STATUS_OK */
    }
    buf_fini(&frame);
    return true;
}

/* --- reading ---------------------------------------------------------------------------------------------------------- */

/* Ready for the next frame. Gives back what was reserved and not handed on. */
static void reset_frame(struct channels *c, struct channel *ch) {
    free(ch->payload);
    ch->payload = NULL;
    if (ch->reserved > 0) {
        committer_release(c->s->committer, ch->reserved);
    }
    ch->reserved = 0;
    ch->stage = STAGE_HEADER;
    ch->got = 0;
    ch->since_us = 0;
}

/* A worker has asked who calls. But it may have been broken into, so for what would outlive it, and open doors to others, its word is not enough: it must show
 * a secret that allows this, which it has only while somebody who may do it asks it to. */
static bool may_change_keys(const struct channels *c, const struct submission *sub) {
    uint8_t digest[KEY_DIGEST_BYTES];
    if (!sub->changes_keys || c->s->config.auth == CONFIG_AUTH_OFF) {
        return true;
    }
    sha256(sub->credential.data, sub->credential.len, digest);
    return key_table_rules(c->s->keys, digest, clock_wall_us());
}

static bool take_submission(struct channels *c, uint32_t slot, struct status *st) {
    struct channel *ch = &c->channel[slot];
    struct submission *sub = NULL;
    struct status why;
    if (!submission_decode(ch->payload, ch->header.payload_bytes, c->s->config.queue_max_ops, &c->s->config.limits, &sub, st)) {
        if (st->code != STATUS_NO_MEMORY) {
            return false;
        }
        refuse(c, slot, ch->header.request, st);
        return true;
    }
    ch->payload = NULL; /* the submission's now */
    if (!may_change_keys(c, sub)) {
        (void)status_set(&why, STATUS_DENIED, "the key that came with this does not allow it (any more)");
        submission_free(sub);
        refuse(c, slot, ch->header.request, &why);
        return true;
    }
    sub->slot = slot;
    sub->generation = ch->generation;
    sub->request = ch->header.request;
    sub->bytes = ch->reserved;
    if (!committer_enqueue(c->s->committer, sub, &why)) {
        submission_free(sub);
        refuse(c, slot, ch->header.request, &why);
        return true;
    }
    ch->reserved = 0; /* the committer gives it back */
    return true;
}

/* False: the worker is broken. */
static bool take_texts(struct channels *c, uint32_t slot, struct status *st) {
    const struct channel *ch = &c->channel[slot];
    return providers_relay(c->s->providers, slot, ch->generation, ch->header.request, slice_of(ch->payload, ch->header.payload_bytes), st);
}

/* A whole payload is there. False: the worker is broken. */
static bool take_frame(struct channels *c, uint32_t slot, struct status *st) {
    struct channel *ch = &c->channel[slot];
    bool ok = ch->header.kind == CHANNEL_SUBMIT    ? take_submission(c, slot, st)
              : ch->header.kind == CHANNEL_EMBED   ? take_texts(c, slot, st)
              : ch->header.kind == CHANNEL_COMMAND ? take_command(c, slot, st)
                                                   : take_recall(c, slot, st);
    reset_frame(c, ch);
    return ok;
}

/* The header is there: where does the payload go? */
static bool begin_payload(struct channels *c, uint32_t slot, struct status *st) {
    struct channel *ch = &c->channel[slot];
    if (!channel_header_parse(ch->header_bytes, c->max_frame, &ch->header, st)) {
        return false;
    }
    uint64_t bytes = ch->header.payload_bytes;
    uint8_t kind = ch->header.kind;
    uint64_t most = kind == CHANNEL_SUBMIT ? c->max_frame : kind == CHANNEL_EMBED ? PROVIDER_ASK_BYTES : COMMAND_MAX_BYTES;
    bool known = kind == CHANNEL_SUBMIT || kind == CHANNEL_EMBED || kind == CHANNEL_COMMAND || kind == CHANNEL_RECALL;
    if (!known || bytes == 0 || bytes > most) {
        return status_set(st, STATUS_MALFORMED, "a frame of kind %u with %llu bytes", ch->header.kind, (unsigned long long)bytes);
    }
    ch->got = 0;
    ch->since_us = clock_monotonic_us();
    ch->stage = STAGE_SKIP;
    if (committer_reserve(c->s->committer, bytes)) {
        ch->reserved = bytes;
        ch->payload = (uint8_t *)malloc(bytes);
        ch->stage = ch->payload == NULL ? STAGE_SKIP : STAGE_PAYLOAD;
    }
    return true;
}

static void end_skip(struct channels *c, uint32_t slot) {
    struct channel *ch = &c->channel[slot];
    struct status st;
    (void)status_set(&st, STATUS_BUSY, "too many bytes of writes wait to be committed");
    (void)add_relaxed_u64(&c->s->figures->queue_full, 1);
    refuse(c, slot, ch->header.request, &st);
    reset_frame(c, ch);
}

/* The header is there, or the payload, or its end. False: the worker is broken. */
static bool end_step(struct channels *c, uint32_t slot, struct status *st) {
    switch (c->channel[slot].stage) {
    case STAGE_HEADER:
        return begin_payload(c, slot, st);
    case STAGE_PAYLOAD:
        return take_frame(c, slot, st);
    case STAGE_SKIP:
        end_skip(c, slot);
    }
    return true;
}

/* Takes bytes through the steps of frames. False: the worker is broken. */
static bool consume(struct channels *c, uint32_t slot, const uint8_t *data, size_t len, struct status *st) {
    struct channel *ch = &c->channel[slot];
    while (len > 0) {
        size_t left = (ch->stage == STAGE_HEADER ? CHANNEL_HEADER_BYTES : ch->header.payload_bytes) - ch->got;
        size_t n = len < left ? len : left;
        if (ch->stage == STAGE_HEADER) {
            memcpy(ch->header_bytes + ch->got, data, n);
        } else if (ch->stage == STAGE_PAYLOAD) {
            memcpy(ch->payload + ch->got, data, n);
        }
        ch->got += n;
        data += n;
        len -= n;
        if (n == left && !end_step(c, slot, st)) {
            return false;
        }
    }
    return true;
}

enum progress { PROGRESS_MORE, PROGRESS_EMPTY, PROGRESS_GONE, PROGRESS_BROKEN };

/* Reads once: a long payload straight to where it goes, all else ahead. Less than asked for is all there is. */
static enum progress read_some(struct channels *c, uint32_t slot, struct status *st) {
    struct channel *ch = &c->channel[slot];
    size_t left = ch->stage == STAGE_PAYLOAD ? ch->header.payload_bytes - ch->got : 0;
    bool direct = left >= sizeof c->ahead;
    size_t want = direct ? left : sizeof c->ahead;
    ssize_t n = recv(ch->fd, direct ? ch->payload + ch->got : c->ahead, want, MSG_DONTWAIT);
    if (n < 0) {
        bool empty = errno == EAGAIN || errno == EWOULDBLOCK;
        return empty ? PROGRESS_EMPTY : errno == EINTR ? PROGRESS_MORE : PROGRESS_GONE;
    }
    if (n == 0) {
        return PROGRESS_GONE;
    }
    bool ok = true;
    if (!direct) {
        ok = consume(c, slot, c->ahead, (size_t)n, st);
    } else {
        ch->got += (size_t)n;
        ok = (size_t)n < left || end_step(c, slot, st);
    }
    return !ok ? PROGRESS_BROKEN : (size_t)n < want ? PROGRESS_EMPTY : PROGRESS_MORE;
}

static void close_channel(struct channels *c, uint32_t slot) {
    struct channel *ch = &c->channel[slot];
    reset_frame(c, ch);
    lock_take(&c->mutex);
    io_close(&ch->fd); /* leaves the epoll set with it */
    outbox_clear(&ch->unsent);
    lock_release(&c->mutex);
}

static void kill_broken(struct channels *c, uint32_t slot, const char *what) {
    char why[STATUS_DETAIL_MAX + 64];
    uint64_t generation = c->channel[slot].generation;
    (void)snprintf(why, sizeof why, "it broke the channel's rules: %s", what);
    close_channel(c, slot);
    children_kill(c->s->children, slot, generation, why);
}

/* Until it is empty; of one that was hung up, to its end. */
static void read_channel(struct channels *c, uint32_t slot, bool hung_up) {
    struct status st;
    enum progress p = PROGRESS_MORE;
    for (int reads = 0; (p == PROGRESS_MORE || (hung_up && p == PROGRESS_EMPTY)) && reads < READS_AT_ONCE; reads++) {
        p = read_some(c, slot, &st);
    }
    if (p == PROGRESS_GONE) {
        close_channel(c, slot);
    } else if (p == PROGRESS_BROKEN) {
        kill_broken(c, slot, st.detail);
    } else if (p == PROGRESS_MORE) {
        lock_take(&c->mutex);
        want_events(c, slot, outbox_waiting(&c->channel[slot].unsent) > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN); /* so that the event comes again */
        lock_release(&c->mutex);
    }
}

/* --- the threads ----------------------------------------------------------------------------------------------------- */

/* Takes a new worker's channel out of the mailbox. */
static void open_mail(struct channels *c, uint32_t slot) {
    struct channel *ch = &c->channel[slot];
    lock_take(&c->mutex);
    int fd = ch->incoming_fd;
    uint64_t generation = ch->incoming_generation;
    ch->incoming_fd = -1;
    lock_release(&c->mutex);
    if (fd < 0) {
        return;
    }
    close_channel(c, slot); /* its predecessor's, where its end was not seen yet */
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u64 = slot};
    lock_take(&c->mutex);
    bool ok = epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &e) == 0;
    ch->fd = ok ? fd : -1;
    ch->generation = generation;
    lock_release(&c->mutex);
    if (!ok) {
        io_close(&fd);
        children_kill(c->s->children, slot, generation, "its channel cannot be watched");
    }
}

/* At a stop the wake-up is left there, for the other thread. */
static void open_all_mail(struct channels *c) {
    uint64_t count;
    if (load_acquire_u32(&c->stopping) != 0) { /* pairs with: CHANNELS_STOPPING; else the other thread hears of it a second late */
        return;
    }
    ssize_t n = read(c->wake_fd, &count, sizeof count);
    (void)n; /* it only wakes */
    for (uint32_t i = 0; i < CONTROL_MAX_WORKERS; i++) {
        open_mail(c, i);
    }
}

/* A frame that began and does not end would hold its room in the queue for ever. */
static void kill_stalled(struct channels *c, int64_t now_us) {
    int64_t deadline = now_us - (int64_t)c->s->config.write_deadline_ms * US_PER_MS;
    for (uint32_t i = 0; i < CONTROL_MAX_WORKERS; i++) {
        if (c->channel[i].since_us != 0 && c->channel[i].since_us < deadline) {
            kill_broken(c, i, "a frame that does not end");
        }
    }
}

static void handle(struct channels *c, const struct epoll_event *event) {
    if (event->data.u64 == WAKE_TAG) {
        open_all_mail(c);
        return;
    }
    uint32_t slot = (uint32_t)event->data.u64;
    if (c->channel[slot].fd < 0) {
        return; /* closed by an event before this one */
    }
    if ((event->events & EPOLLOUT) != 0) {
        send_rest(c, slot);
    }
    if ((event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        read_channel(c, slot, (event->events & (EPOLLHUP | EPOLLERR)) != 0);
    }
}

static void handle_all(struct channels *c, const struct epoll_event *events, int count) {
    int64_t now = clock_monotonic_us();
    lock_take(&c->reading);
    for (int i = 0; i < count; i++) {
        handle(c, &events[i]);
    }
    if (now - c->stalled_us >= (int64_t)LOOK_MS * US_PER_MS) {
        kill_stalled(c, now);
        c->stalled_us = now;
    }
    lock_release(&c->reading);
    store_relaxed_u64(&c->looked_us, (uint64_t)now);
}

static void *run(void *arg) {
    struct channels *c = (struct channels *)arg;
    struct epoll_event events[EVENTS_AT_ONCE];
    int sleep_ms = LOOK_MS;
    while (load_acquire_u32(&c->stopping) == 0) { /* pairs with: CHANNELS_STOPPING; else a stop is seen a wake-up late */
        int n = epoll_wait(c->epoll_fd, events, EVENTS_AT_ONCE, sleep_ms);
        handle_all(c, events, n);
        int quiet_ms = committer_work(c->s->committer);
        sleep_ms = quiet_ms < LOOK_MS ? quiet_ms : LOOK_MS;
    }
    return NULL;
}

void channels_wake(struct channels *c) {
    const uint64_t one = 1;
    ssize_t n = write(c->wake_fd, &one, sizeof one);
    (void)n; /* a full counter wakes as well */
}

void channels_adopt(struct channels *c, uint32_t slot, uint64_t generation, int fd) {
    struct channel *ch = &c->channel[slot];
    lock_take(&c->mutex);
    io_close(&ch->incoming_fd); /* of one that died before it was looked at */
    ch->incoming_fd = fd;
    ch->incoming_generation = generation;
    lock_release(&c->mutex);
    channels_wake(c);
}

int64_t channels_quiet_us(const struct channels *c) {
    int64_t looked = (int64_t)load_relaxed_u64(&c->looked_us);
    return clock_monotonic_us() - looked;
}

static bool open_descriptors(struct channels *c, struct status *st) {
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = WAKE_TAG};
    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->epoll_fd < 0 || c->wake_fd < 0 || epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->wake_fd, &e) != 0) {
        return status_set_errno(st, errno, "cannot watch channels");
    }
    return true;
}

static bool start_threads(struct channels *c, struct status *st) {
    for (; c->started < THREADS; c->started++) {
        if (!thread_start(&c->threads[c->started], "channels", run, c, st)) {
            return false;
        }
    }
    return true;
}

bool channels_new(struct supervisor *s, struct channels **ret, struct status *st) {
    struct channels *c = (struct channels *)calloc(1, sizeof *c);
    if (c == NULL) {
        return status_no_memory(st);
    }
    lock_init(&c->reading, LOCK_READING);
    lock_init(&c->mutex, LOCK_CHANNELS);
    c->s = s;
    c->epoll_fd = -1;
    c->wake_fd = -1;
    c->stalled_us = clock_monotonic_us();
    c->looked_us = (uint64_t)c->stalled_us;
    c->max_frame = channel_max_bytes(&s->config.limits);
    for (uint32_t i = 0; i < CONTROL_MAX_WORKERS; i++) {
        c->channel[i].fd = -1;
        c->channel[i].incoming_fd = -1;
    }
    if (!open_descriptors(c, st) || !start_threads(c, st)) {
        channels_free(c);
        return false;
    }
    *ret = c;
    committer_serve(s->committer);
    return true;
}

void channels_free(struct channels *c) {
    if (c == NULL) {
        return;
    }
    store_release_u32(&c->stopping, 1); /* pairs with: CHANNELS_STOPPING */
    channels_wake(c);
    for (size_t i = 0; i < c->started; i++) {
        (void)pthread_join(c->threads[i], NULL);
    }
    for (uint32_t i = 0; i < CONTROL_MAX_WORKERS; i++) {
        close_channel(c, i);
        io_close(&c->channel[i].incoming_fd);
    }
    io_close(&c->epoll_fd);
    io_close(&c->wake_fd);
    lock_fini(&c->reading);
    lock_fini(&c->mutex);
    free(c);
}
