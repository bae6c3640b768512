/*
 * committer.c - group commit: whoever is the committer changes libraries, and nobody else.
 *
 * It is a part that threads take, one at a time: those of channels.c after they have read, when something waits and nobody else is at it
 * (committer_work). Who has it keeps it until nothing waits any more. What one had written the next one sees, because the part changes hands under the
 * mutex. So a lone write is committed by the thread that read it, and while a batch is synced the other thread reads the next one.
 *
 * A batch is everything that waits, in order of arrival, up to the first op that depends on another of the batch, and up to
 * batch_max_bytes. There is no timer: while one batch is synced the next one gathers.
 *
 *   1. check    each op against the catalog; a refused one has its answer and is not logged
 *   2. reserve  the room that applying it needs; what cannot be reserved is refused (a full disk: 507)
 *   3. log      all ops in one write and one sync. Everything that can fail is above this line or is this line
 *   4. apply    with the function that replay uses, too
 *   5. publish  the last LSN, under the write lock
 *   6. answer   each worker that has no op left undecided
 *
 * When the log refuses for want of space, memory or descriptors nothing was appended and the log stands; the ops of the batch are
 * refused, their reservations dropped, and searches go on. On any other failure of the log, above all a failed sync, nobody knows what is on the
 * disk: nothing is acknowledged, the log is not touched again, every op that waits is refused with STATUS_IO, and the main thread
 * is told to end the process. The next start reads what really is there.
 *
 * A batch that no other follows for a moment is the last one in the log, and only what comes later says of a batch that it was durable. So then the log is
 * told to say it by itself (oplog_guard): once, without a sync.
 *
 * Steps 1 and 2 are committer_batch.c. Requests with an Idempotency-Key go the same way, but as a whole (committer_keyed.c).
 *
 * Other threads get work done between two batches by committer_call (the cut of a snapshot, the switch to a rebuilt graph), so
 * that the catalog has one writer without a lock of its own. They do not take the part for it, as they are background work, unless the channels do not
 * serve yet or any more.
 */
#include "proc/committer_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "proc/archiver.h"
#include "proc/asker.h"
#include "proc/background.h"
#include "proc/channels.h"
#include "proc/checkpointer.h"
#include "proc/children.h"
#include "proc/exchanger.h"
#include "proc/keyed.h"
#include "proc/snapshotter.h"
#include "shm/atomics.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { US_PER_MS = 1000, NS_PER_US = 1000, QUIET_US = 10 * US_PER_MS, OUTBOX_MOST_BYTES = 65536, OUTBOX_KEPT_BYTES = 16384 };

static uint64_t now_us(void) {
    return (uint64_t)clock_monotonic_us();
}

static void latch_failure(struct committer *c, const struct status *st) {
    log_status(LOG_LEVEL_ERROR,
               "the log failed; nothing is acknowledged any more and the server ends, to recover at its next start", st);
    c->log_failed = true;
    store_relaxed_u32(&c->s->figures->write_path_failed, 1);
    store_release_u32(&c->s->log_failed, 1); /* pairs with: LOG_FAILED; else main could end before the figures say why */
    supervisor_wake(c->s);
}

/* --- the queue -------------------------------------------------------------------------------------------------------- */

static void show_queue_locked(const struct committer *c) {
    store_relaxed_u64(&c->s->figures->queue_ops, c->queue_ops);
    store_relaxed_u64(&c->s->figures->queue_bytes, c->queue_bytes);
}

bool committer_reserve(struct committer *c, uint64_t bytes) {
    lock_take(&c->mutex);
    uint64_t most = c->s->config.queue_max_bytes;
    bool ok = bytes <= most && c->queue_bytes <= most - bytes;
    if (ok) {
        c->queue_bytes += bytes;
        show_queue_locked(c);
    }
    lock_release(&c->mutex);
    return ok;
}

void committer_release(struct committer *c, uint64_t bytes) {
    lock_take(&c->mutex);
    c->queue_bytes -= bytes;
    show_queue_locked(c);
    lock_release(&c->mutex);
}

bool committer_enqueue(struct committer *c, struct submission *s, struct status *st) {
    bool ok = true;
    lock_take(&c->mutex);
    if (c->stopping) {
        ok = status_set(st, STATUS_NOT_READY, "the server is stopping");
    } else if (c->queue_ops + s->count > c->s->config.queue_max_ops) {
        (void)add_relaxed_u64(&c->s->figures->queue_full, 1);
        ok = status_set(st, STATUS_BUSY, "too many writes wait to be committed");
    } else {
        s->next = NULL;
        *c->waiting_end = s;
        c->waiting_end = &s->next;
        c->queue_ops += s->count;
        show_queue_locked(c);
    }
    lock_release(&c->mutex);
    return ok;
}

static void run_calls(struct committer *c, struct call *call) {
    while (call != NULL) {
        struct call *next = call->next; /* the caller's stack, gone once it is done */
        bool ok = call->fn(call->ctx, call->st);
        lock_take(&c->mutex);
        call->ok = ok;
        call->done = true;
        (void)pthread_cond_broadcast(&c->changed);
        lock_release(&c->mutex);
        call = next;
    }
}

/* A full disk or a lack of memory is none: a later batch meets it, or is guarded. */
static void guard_log(struct committer *c) {
    struct status st;
    c->unguarded = false;
    if (!oplog_guard(c->s->log, &st) && st.code != STATUS_NO_SPACE && st.code != STATUS_NO_MEMORY) {
        latch_failure(c, &st);
    }
}

/* Takes all that waits. */
static struct call *take_all_locked(struct committer *c) {
    struct call *calls = c->calls;
    c->calls = NULL;
    c->calls_end = &c->calls;
    if (c->waiting != NULL) {
        *c->taken_end = c->waiting;
        c->taken_end = c->waiting_end;
        c->waiting = NULL;
        c->waiting_end = &c->waiting;
    }
    return calls;
}

static bool something_waits(const struct committer *c) {
    return c->waiting != NULL || c->calls != NULL || c->taken != NULL;
}

/* --- answers ---------------------------------------------------------------------------------------------------------- */

void committer_refuse_op(struct committer *c, struct submission *sub, size_t index, const struct status *st) {
    sub->results[index] = (struct api_op_result){.status = *st};
    store_relaxed_u64(&c->s->figures->rejected_ops, c->s->figures->rejected_ops + 1);
}

static void tell_waiter(struct committer *c, const struct submission *sub) {
    lock_take(&c->mutex);
    sub->wait->outcome = sub->results[0].status;
    sub->wait->over = true;
    (void)pthread_cond_broadcast(&c->changed);
    lock_release(&c->mutex);
}

/* The answer of one submission, as a frame. */
static const struct buf *frame_of(const struct submission *sub, struct buf *frame) {
    static const struct uuid no_task = {{0}};
    if (sub->refused.code != STATUS_OK) {
        channel_frame_begin(frame, CHANNEL_ANSWER, sub->request);
        channel_put_answer(frame, &sub->refused, &no_task);
    } else if (sub->answer.len == 0) {
        channel_frame_begin(frame, CHANNEL_RESULTS, sub->request);
        channel_put_results(frame, sub->lsn, sub->results, sub->count);
    } else {
        return &sub->answer;
    }
    channel_frame_end(frame);
    return frame;
}

static void send_outbox(struct committer *c, uint32_t slot) {
    struct outbox *o = &c->outbox[slot];
    channels_send(c->s->channels, slot, o->generation, &o->frames);
    if (o->frames.cap > OUTBOX_KEPT_BYTES || o->frames.failed) {
        buf_fini(&o->frames);
        buf_init(&o->frames);
    }
    buf_reset(&o->frames);
}

/* What goes to one worker goes in one piece: it is woken once. */
static void post_results(struct committer *c, const struct submission *sub) {
    struct outbox *o = &c->outbox[sub->slot];
    const struct buf *frame = frame_of(sub, &c->frame);
    if (o->frames.len > 0 && (o->generation != sub->generation || o->frames.len + frame->len > OUTBOX_MOST_BYTES)) {
        send_outbox(c, sub->slot);
    }
    o->generation = sub->generation;
    buf_put_slice(&o->frames, buf_slice(frame));
    o->frames.failed |= frame->failed;
    buf_reset(&c->frame);
}

static void send_all(struct committer *c, const struct submission *decided) {
    for (const struct submission *sub = decided; sub != NULL; sub = sub->next) {
        if (sub->wait != NULL) {
            tell_waiter(c, sub);
        } else {
            post_results(c, sub);
        }
    }
    for (const struct submission *sub = decided; sub != NULL; sub = sub->next) {
        const struct buf *frames = &c->outbox[sub->slot].frames;
        if (sub->wait == NULL && (frames->len > 0 || frames->failed)) {
            send_outbox(c, sub->slot);
        }
    }
}

static bool is_decided(const struct submission *sub) {
    return sub->keyed ? sub->settled : sub->decided == sub->count;
}

/* Takes the submissions whose ops are all decided, which stand at the head, out of the queue. */
static struct submission *take_decided(struct committer *c) {
    struct submission *decided = NULL, **end = &decided;
    uint64_t ops = 0, bytes = 0;
    while (c->taken != NULL && is_decided(c->taken)) {
        *end = c->taken;
        end = &c->taken->next;
        ops += c->taken->count;
        bytes += c->taken->bytes;
        c->taken = c->taken->next;
    }
    *end = NULL;
    c->taken_end = c->taken == NULL ? &c->taken : c->taken_end;
    lock_take(&c->mutex);
    c->queue_ops -= ops;
    c->queue_bytes -= bytes;
    show_queue_locked(c);
    lock_release(&c->mutex);
    return decided;
}

/* Answers and drops what is decided. */
static void answer(struct committer *c) {
    struct submission *decided = take_decided(c);
    for (struct submission *sub = decided; sub != NULL; sub = sub->next) {
        control_histogram_time(&c->s->figures->queue_time, (c->begun_us - sub->arrived_us) * NS_PER_US);
    }
    send_all(c, decided);
    while (decided != NULL) {
        struct submission *sub = decided;
        decided = sub->next;
        submission_free(sub);
    }
}

void committer_note_full_disk(struct committer *c, const struct status *st) {
    if (!c->disk_full) {
        log_status(LOG_LEVEL_ERROR, "writes are refused, searches go on", st);
    }
    c->disk_full = true;
    c->batch.met_full_disk = true;
    store_relaxed_u32(&c->s->figures->disk_full, 1);
}

static void note_room(struct committer *c) {
    if (!c->disk_full || c->batch.met_full_disk) {
        return;
    }
    log_info("writes are taken again");
    c->disk_full = false;
    store_relaxed_u32(&c->s->figures->disk_full, 0);
}

/* --- committing it ---------------------------------------------------------------------------------------------------- */

static void on_stuck(uint32_t slot, int64_t waited_us, void *ctx) {
    struct committer *c = (struct committer *)ctx;
    char why[80];
    (void)snprintf(why, sizeof why, "it held its lock for %lld ms", (long long)(waited_us / US_PER_MS));
    (void)add_relaxed_u64(&c->s->figures->lock_waits, 1);
    children_kill(c->s->children, slot, 0, why);
}

static void publish(struct committer *c) {
    int64_t patience = (int64_t)load_relaxed_u64(&c->s->tunables.watchdog_lock_ms) * US_PER_MS;
    int64_t begun_ns = clock_monotonic_ns();
    catalog_publish(c->s->catalog, c->last_lsn, patience, on_stuck, c);
    control_histogram_time(&c->s->figures->publish_time, clock_monotonic_ns() - begun_ns);
    control_wake_waiters(c->s->control);
}

void committer_republish(struct committer *c) {
    publish(c);
}

static void refuse_batch(struct committer *c, const struct status *st) {
    for (size_t i = 0; i < c->batch.count; i++) {
        committer_refuse_op(c, c->batch.items[i].sub, c->batch.items[i].index, st);
    }
    for (struct submission *sub = c->batch.keyed; sub != NULL; sub = sub->next_keyed) {
        sub->refused = *st;
    }
}

/* Logs records, numbered on from the last. On failure reservations are dropped. */
static bool append(struct committer *c, struct oplog_record *records, size_t count, struct status *st) {
    int64_t time_us = clock_wall_us();
    for (size_t i = 0; i < count; i++) {
        records[i].lsn = c->last_lsn + 1 + i;
        records[i].time_us = time_us;
    }
    int64_t begun_ns = clock_monotonic_ns();
    bool ok = archiver_admits(c->s->archiver, st) && oplog_append(c->s->log, records, count, st);
    control_histogram_time(&c->s->figures->append_time, clock_monotonic_ns() - begun_ns);
    if (ok) {
        c->unguarded = true;
        c->logged_us = clock_monotonic_us();
        note_room(c);
        return true;
    }
    catalog_abandon(c->s->catalog);
    count_relaxed_u64(&c->s->figures->append_failures, 1);
    if (st->code == STATUS_NO_SPACE) {
        committer_note_full_disk(c, st);
    } else if (st->code == STATUS_NO_MEMORY) {
        log_status(LOG_LEVEL_ERROR, "writes are refused for want of memory or descriptors", st);
    } else {
        latch_failure(c, st);
        (void)status_set(st, STATUS_IO, "the write could not be made durable; it may be there after the server's restart");
    }
    return false;
}

/* On failure everybody in the batch has the reason. */
static bool log_batch(struct committer *c) {
    struct status st = {0};
    bool ok = append(c, c->batch.records, c->batch.record_count, &st);
    if (!ok) {
        refuse_batch(c, &st);
    }
    return ok;
}

bool committer_log(struct committer *c, struct slice op, uint64_t *ret_lsn, struct status *st) {
    struct oplog_record record = {.op = op};
    if (c->log_failed) {
        return status_set(st, STATUS_IO, "the log has failed");
    }
    if (!append(c, &record, 1, st)) {
        return false;
    }
    *ret_lsn = ++c->last_lsn;
    return true;
}

/* The vectors that a worker computed, when they are of the model that the library has; else they are made again here. */
static const float *vectors_for(struct committer *c, const struct submitted_op *o) {
    struct status ignored;
    return o->vectors != NULL && catalog_check_made_by(c->s->catalog, &o->op.library, o->dimension, o->model, &ignored) ? o->vectors : NULL;
}

static void apply_batch(struct committer *c) {
    struct batch *b = &c->batch;
    for (size_t i = 0; i < b->count; i++) {
        struct batch_item *item = &b->items[i];
        const struct submitted_op *o = &item->sub->ops[item->index];
        const struct oplog_record *record = &b->records[item->record];
        struct op_effect effect;
        struct api_op_result *result = &item->sub->results[item->index];
        if (op_is_of_keys(&o->op)) {
            (void)key_table_apply(c->s->keys, &o->op, record->lsn);
            store_relaxed_u64(&c->s->figures->api_keys, key_table_count(c->s->keys));
            *result = (struct api_op_result){.lsn = record->lsn};
            continue;
        }
        const float *vectors = vectors_for(c, o);
        catalog_apply(c->s->catalog, &o->op, record->lsn, record->time_us, vectors, &effect);
        b->to_embed |= (o->op.type == OP_DOCUMENT_PUT && vectors == NULL && o->op.as.document.vector_dimension == 0) || o->op.type == OP_LIBRARY_CREATE;
        b->chunks += effect.chunks_added;
        *result = (struct api_op_result){.lsn = record->lsn,
                                         .replaced = effect.replaced,
                                         .chunks_added = effect.chunks_added,
                                         .chunks_deleted = effect.chunks_deleted};
    }
    c->last_lsn += b->record_count;
}

/* After the publication: whoever asks with one of these keys is told of what he can see. */
static void remember_batch(struct committer *c) {
    for (struct submission *sub = c->batch.keyed; sub != NULL; sub = sub->next_keyed) {
        const struct oplog_record *record = &c->batch.records[sub->record_index];
        keyed_remember(c->s, sub, record->lsn, record->time_us);
    }
}

static void show_log(struct committer *c) {
    struct service_figures *f = c->s->figures;
    struct oplog_position position;
    oplog_position_get(c->s->log, &position);
    if (position.syncs == c->syncs + 1) { /* the one of this append */
        control_histogram_time(&f->sync_time, (int64_t)(position.sync_us - c->sync_us) * NS_PER_US);
    }
    c->syncs = position.syncs;
    c->sync_us = position.sync_us;
    __atomic_store_n(&f->wal_at, clock_wall_us(), __ATOMIC_RELAXED);
    store_relaxed_u64(&f->wal_oldest_lsn, position.oldest_lsn);
    archiver_note(c->s->archiver, position.place);
    store_relaxed_u64(&f->wal_lsn, position.durable_lsn);
    store_relaxed_u64(&f->wal_bytes, position.bytes);
    store_relaxed_u64(&f->wal_segments, position.segments);
    store_relaxed_u64(&f->wal_appended_bytes, position.appended_bytes);
}

void committer_logged(struct committer *c, bool of_library) {
    publish(c);
    show_log(c);
    snapshotter_note(c->s->snapshotter, 1, of_library ? 1 : 0);
    checkpointer_note(c->s->checkpointer, 1);
    background_wake(c->s->background, true);
}

static void show_commit(struct committer *c, int64_t begun_ns) {
    struct service_figures *f = c->s->figures;
    show_log(c);
    store_relaxed_u64(&f->commits, f->commits + 1);
    store_relaxed_u64(&f->committed_ops, f->committed_ops + c->batch.count);
    control_histogram_size(&f->batch_ops, c->batch.count);
    control_histogram_time(&f->commit_time, clock_monotonic_ns() - begun_ns);
}

/* Before the answers: the task that an exchange is told by is there when its id is. */
static void note_exchanges(struct committer *c) {
    for (size_t i = 0; c->batch.library_ops > 0 && i < c->batch.count; i++) {
        const struct op *op = &c->batch.items[i].sub->ops[c->batch.items[i].index].op;
        if (op->type == OP_LIBRARY_MODEL) {
            exchanger_note(c->s->exchanger, op);
        }
    }
}

static void commit_taken(struct committer *c) {
    int64_t begun_ns = clock_monotonic_ns();
    c->begun_us = begun_ns / NS_PER_US;
    committer_form_batch(c);
    bool committed = c->batch.record_count > 0 && log_batch(c);
    if (committed) {
        apply_batch(c);
        publish(c);
        remember_batch(c);
        note_exchanges(c);
    }
    answer(c);
    if (committed) {
        show_commit(c, begun_ns);
        snapshotter_note(c->s->snapshotter, c->batch.count, c->batch.library_ops);
        checkpointer_note(c->s->checkpointer, c->batch.count + c->batch.chunks);
        background_wake(c->s->background, c->batch.to_embed);
        if (c->batch.to_embed) {
            asker_wake(c->s->asker);
        }
    }
}

/* After the log has failed: whatever comes is refused. */
static void refuse_taken(struct committer *c) {
    struct status st;
    c->begun_us = clock_monotonic_us();
    (void)status_set(&st, STATUS_IO, "the log has failed; the server is about to restart");
    for (struct submission *sub = c->taken; sub != NULL; sub = sub->next) {
        while (sub->decided < sub->count) {
            committer_refuse_op(c, sub, sub->decided++, &st);
        }
        if (sub->keyed && !sub->settled) {
            sub->refused = st;
            sub->settled = true;
        }
    }
    answer(c);
}

/* --- who does it ------------------------------------------------------------------------------------------------------ */

static void begin_part_locked(struct committer *c) {
    c->busy = true;
    store_relaxed_u64(&c->busy_since_us, now_us());
}

static void end_part_locked(struct committer *c) {
    c->busy = false;
    store_relaxed_u64(&c->busy_since_us, 0);
    (void)pthread_cond_broadcast(&c->changed);
}

/* By whoever has the part: until nothing waits. */
static void work_locked(struct committer *c) {
    while (something_waits(c)) {
        struct call *calls = take_all_locked(c);
        lock_release(&c->mutex);
        store_relaxed_u64(&c->busy_since_us, now_us());
        run_calls(c, calls);
        if (c->taken != NULL && c->log_failed) {
            refuse_taken(c);
        } else if (c->taken != NULL) {
            commit_taken(c);
        }
        lock_take(&c->mutex);
    }
}

static bool needs_guard(const struct committer *c) {
    return c->unguarded && !c->log_failed;
}

static bool is_quiet(const struct committer *c) {
    return clock_monotonic_us() - c->logged_us >= QUIET_US;
}

int committer_work(struct committer *c) {
    int ms = INT_MAX;
    lock_take(&c->mutex);
    if (c->served && !c->busy && (something_waits(c) || (needs_guard(c) && is_quiet(c)))) {
        begin_part_locked(c);
        if (!something_waits(c)) {
            lock_release(&c->mutex);
            guard_log(c);
            lock_take(&c->mutex);
        }
        work_locked(c);
        end_part_locked(c);
    }
    if (!c->busy && needs_guard(c)) { /* who is at work comes by here later, and sees to it */
        ms = QUIET_US / US_PER_MS;
    }
    lock_release(&c->mutex);
    return ms;
}

/* While nobody serves. */
static bool call_alone_locked(struct committer *c, committer_fn fn, void *ctx, struct status *st) {
    while (c->busy) {
        lock_wait(&c->mutex, &c->changed);
    }
    begin_part_locked(c);
    lock_release(&c->mutex);
    bool ok = fn(ctx, st);
    lock_take(&c->mutex);
    end_part_locked(c);
    return ok;
}

bool committer_call(struct committer *c, committer_fn fn, void *ctx, struct status *st) {
    struct call call = {.fn = fn, .ctx = ctx, .st = st};
    lock_take(&c->mutex);
    if (!c->served) {
        call.ok = call_alone_locked(c, fn, ctx, st);
        lock_release(&c->mutex);
        return call.ok;
    }
    *c->calls_end = &call;
    c->calls_end = &call.next;
    bool wake = !c->busy;
    lock_release(&c->mutex);
    if (wake) {
        channels_wake(c->s->channels);
    }
    lock_take(&c->mutex);
    while (!call.done) {
        lock_wait(&c->mutex, &c->changed);
    }
    lock_release(&c->mutex);
    return call.ok;
}

bool committer_submit(struct committer *c, const struct buf *op, struct status *st) {
    struct submission_wait wait = {0};
    struct submission *sub = NULL;
    if (!submission_of_op(buf_slice(op), &sub, st)) {
        return false;
    }
    uint64_t bytes = op->len;
    sub->wait = &wait;
    sub->bytes = bytes;
    if (!committer_reserve(c, bytes)) {
        submission_free(sub);
        return status_set(st, STATUS_BUSY, "too many bytes of writes wait to be committed");
    }
    if (!committer_enqueue(c, sub, st)) {
        committer_release(c, bytes);
        submission_free(sub);
        return false;
    }
    channels_wake(c->s->channels);
    lock_take(&c->mutex);
    while (!wait.over) {
        lock_wait(&c->mutex, &c->changed);
    }
    lock_release(&c->mutex);
    if (wait.outcome.code != STATUS_OK) {
        *st = wait.outcome;
    }
    return wait.outcome.code == STATUS_OK;
}

/* --- begin and end ---------------------------------------------------------------------------------------------------- */

bool committer_new(struct supervisor *s, uint64_t last_lsn, struct committer **ret, struct status *st) {
    struct committer *c = (struct committer *)calloc(1, sizeof *c);
    if (c == NULL) {
        return status_no_memory(st);
    }
    c->s = s;
    c->waiting_end = &c->waiting;
    c->calls_end = &c->calls;
    c->taken_end = &c->taken;
    c->last_lsn = last_lsn;
    c->unguarded = true; /* as far as is known */
    lock_init(&c->mutex, LOCK_COMMITTER);
    (void)pthread_cond_init(&c->changed, NULL);
    c->touched = op_set_new();
    if (c->touched == NULL || !committer_room(&c->batch, 1)) {
        committer_free(c);
        return status_no_memory(st);
    }
    *ret = c;
    return true;
}

void committer_serve(struct committer *c) {
    lock_take(&c->mutex);
    c->served = true;
    lock_release(&c->mutex);
}

void committer_stop(struct committer *c) {
    if (c == NULL) {
        return;
    }
    lock_take(&c->mutex);
    c->stopping = true;
    while (c->busy) {
        lock_wait(&c->mutex, &c->changed);
    }
    begin_part_locked(c);
    work_locked(c);
    c->served = false;
    end_part_locked(c);
    lock_release(&c->mutex);
}

void committer_free(struct committer *c) {
    if (c == NULL) {
        return;
    }
    committer_stop(c);
    op_set_free(c->touched);
    free(c->batch.items);
    free(c->batch.records);
    for (size_t i = 0; i < CONTROL_MAX_WORKERS; i++) {
        buf_fini(&c->outbox[i].frames);
    }
    buf_fini(&c->frame);
    lock_fini(&c->mutex);
    (void)pthread_cond_destroy(&c->changed);
    free(c);
}

uint64_t committer_last_lsn(const struct committer *c) {
    return c->last_lsn;
}

bool committer_close_log(struct committer *c, struct status *st) {
    struct buf op = {0};
    bool ok = false;
    if (c->log_failed) {
        return status_set(st, STATUS_IO, "the log has failed");
    }
    op_encode_log_close(&op);
    if (!buf_check(&op, st)) {
        goto out;
    }
    struct oplog_record record = {.lsn = c->last_lsn + 1, .time_us = clock_wall_us(), .op = buf_slice(&op)};
    if (!oplog_append(c->s->log, &record, 1, st)) {
        goto out;
    }
    (void)!oplog_guard(c->s->log, NULL); /* what was logged is durable without it */
    c->last_lsn++;
    publish(c);
    ok = true;
out:
    buf_fini(&op);
    return ok;
}

int64_t committer_busy_us(const struct committer *c) {
    uint64_t since = load_relaxed_u64(&c->busy_since_us);
    uint64_t now = now_us();
    return since == 0 || since > now ? 0 : (int64_t)(now - since);
}
