/*
 * committer_keyed.c - requests with an Idempotency-Key on their way into a batch.
 *
 * Such a request becomes one record: those of its ops that can be done, beside what is remembered of all (store/op_group.h). So what
 * an op will meet is foreseen before the record is made (catalog_foresee), and everything that can fail still comes before the log:
 *
 *   one op       is checked, its record made, its room reserved, in this order: the ops before it in the batch have reserved theirs,
 *                and a reservation cannot be undone alone
 *   several      begin a batch, so that nothing but their own can stand in their way. Where room or memory fails the whole is given
 *                up with its reservations: the client may send it again with the same key
 *   none         of a request for a task: it begins here, so that of several at once with one key the first begins one, and no other.
 *                Its record is only what is remembered; should the log refuse that, the task goes on and the client is told of the failure
 *
 * All ops of a record are checked before any is applied, so one that touches what an earlier one touches (op_set) is refused as if
 * that were done already. A request of which nothing can be done is not remembered: nothing was changed, it may come again.
 *
 * Two requests with one key never share a batch; the second finds what is remembered of the first, in the next one.
 */
#include "proc/committer_internal.h"
#include "proc/channels.h"
#include "proc/keyed.h"
#include "shm/atomics.h"

/* What nobody can help by changing the request. */
static bool is_shortage(const struct status *st) {
    return st->code == STATUS_NO_SPACE || st->code == STATUS_NO_MEMORY || st->code == STATUS_IO;
}

/* It is decided. refused: as a whole, with this; NULL: not so. */
static void settle(struct committer *c, struct submission *sub, const struct status *refused) {
    if (refused != NULL) {
        if (refused->code == STATUS_NO_SPACE) {
            committer_note_full_disk(c, refused);
        }
        sub->refused = *refused;
        store_relaxed_u64(&c->s->figures->rejected_ops, c->s->figures->rejected_ops + sub->count);
    }
    sub->settled = true;
    sub->decided = sub->count;
}

static void refuse_second(struct committer *c, struct submission *sub, size_t index) {
    struct status st;
    if (sub->ops[index].op.type == OP_DOCUMENT_DELETE) {
        (void)status_set_subject(&st, STATUS_NOT_FOUND, SUBJECT_DOCUMENT, "there is no document with this id any more");
    } else {
        (void)status_set_subject(&st, STATUS_CONFLICT, SUBJECT_DOCUMENT, "an id of it is taken by another part of this request");
    }
    committer_refuse_op(c, sub, index, &st);
}

static bool foresee(struct committer *c, struct submission *sub, size_t index, struct status *st) {
    struct op_effect effect;
    if (!catalog_foresee(c->s->catalog, &sub->ops[index].op, &effect, st)) {
        return false;
    }
    sub->results[index] = (struct api_op_result){
        .replaced = effect.replaced, .chunks_added = effect.chunks_added, .chunks_deleted = effect.chunks_deleted};
    return true;
}

/* After a failure: of this op alone, or (false) of the whole. */
static bool refuse_or_fail(struct committer *c, struct submission *sub, size_t index, const struct status *why) {
    if (is_shortage(why)) {
        return false;
    }
    committer_refuse_op(c, sub, index, why);
    return true;
}

/* *ret_good: ops that are to be logged. False: refused as a whole, with *st. */
static bool prepare_single(struct committer *c, struct submission *sub, size_t *ret_good, struct status *st) {
    const struct op *op = &sub->ops[0].op;
    (void)op_set_conflicts_or_add(c->touched, op); /* unless must_wait has */
    if (!catalog_check(c->s->catalog, op, st)) {
        return refuse_or_fail(c, sub, 0, st);
    }
    if (!foresee(c, sub, 0, st) || !keyed_make_record(c->s, sub, st)) {
        return false;
    }
    if (!catalog_reserve(c->s->catalog, op, st)) {
        return refuse_or_fail(c, sub, 0, st);
    }
    *ret_good = 1;
    return true;
}

static bool prepare_several(struct committer *c, struct submission *sub, size_t *ret_good, struct status *st) {
    for (size_t i = 0; i < sub->count; i++) {
        const struct op *op = &sub->ops[i].op;
        if (op_set_conflicts_or_add(c->touched, op)) {
            refuse_second(c, sub, i);
        } else if (catalog_check(c->s->catalog, op, st) && foresee(c, sub, i, st) && catalog_reserve(c->s->catalog, op, st)) {
            (*ret_good)++;
        } else if (!refuse_or_fail(c, sub, i, st)) {
            return false;
        }
    }
    return *ret_good == 0 || keyed_make_record(c->s, sub, st);
}

static bool prepare_task(struct committer *c, struct submission *sub, struct status *st) {
    struct uuid task;
    return keyed_make_record(c->s, sub, st) && channels_obey(c->s, &sub->command, &task, st);
}

static bool key_in_batch(const struct batch *b, const struct idempotency_id *id) {
    const struct submission *sub = b->keyed;
    while (sub != NULL && memcmp(sub->id.scope, id->scope, sizeof id->scope) != 0) {
        sub = sub->next_keyed;
    }
    return sub != NULL;
}

static bool must_wait(struct committer *c, const struct submission *sub) {
    const struct batch *b = &c->batch;
    if (b->record_count == 0) {
        return false;
    }
    return sub->count > 1 || b->bytes + sub->bytes > c->s->config.batch_max_bytes || key_in_batch(b, &sub->id) ||
           (sub->count == 1 && op_set_conflicts_or_add(c->touched, &sub->ops[0].op));
}

static void add_to_batch(struct committer *c, struct submission *sub) {
    sub->record_index = committer_add_record(c, buf_slice(&sub->record));
    for (size_t i = 0; i < sub->count; i++) {
        if (sub->results[i].status.code == STATUS_OK) {
            committer_add_item(c, sub, i, sub->record_index);
        }
    }
    *c->batch.keyed_end = sub;
    c->batch.keyed_end = &sub->next_keyed;
}

bool committer_take_keyed(struct committer *c, struct submission *sub) {
    struct batch *b = &c->batch;
    struct status st = {0};
    size_t good = 0;
    if (must_wait(c, sub)) {
        return false;
    }
    enum recall found = keyed_recall(c->s, &sub->id, sub->request, &sub->answer, &st);
    if (found != RECALL_UNKNOWN) {
        settle(c, sub, found == RECALL_REFUSED ? &st : NULL);
        return true;
    }
    bool ok = committer_room(b, sub->count + 1) || status_no_memory(&st);
    ok = ok && (sub->count == 0   ? prepare_task(c, sub, &st)
                : sub->count == 1 ? prepare_single(c, sub, &good, &st)
                                  : prepare_several(c, sub, &good, &st));
    if (!ok && b->record_count == 0) { /* only its own are there */
        catalog_abandon(c->s->catalog);
        op_set_clear(c->touched);
    }
    settle(c, sub, ok ? NULL : &st);
    if (ok && (good > 0 || sub->count == 0)) {
        add_to_batch(c, sub);
    }
    return true;
}
