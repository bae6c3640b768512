/*
 * committer_batch.c - which of the ops that wait form the next batch: each is checked against the catalog, and the room that applying it needs is reserved. What is
 * refused has its answer and is not logged. Nothing here changes what readers see.
 */
#include "proc/committer_internal.h"

#include "proc/keyed.h"

#include <stdlib.h>

enum { BATCH_FIRST_ROOM = 64 };

bool committer_room(struct batch *b, size_t more) {
    size_t used = b->count > b->record_count ? b->count : b->record_count;
    size_t room = b->room == 0 ? BATCH_FIRST_ROOM : b->room;
    while (room < used + more) {
        room *= 2;
    }
    if (room == b->room) {
        return true;
    }
    struct batch_item *items = (struct batch_item *)realloc(b->items, room * sizeof *items);
    if (items == NULL) {
        return false;
    }
    b->items = items;
    struct oplog_record *records = (struct oplog_record *)realloc(b->records, room * sizeof *records);
    if (records == NULL) {
        return false;
    }
    b->records = records;
    b->room = room;
    return true;
}

void committer_add_item(struct committer *c, struct submission *sub, size_t index, size_t record) {
    struct batch *b = &c->batch;
    const struct op *op = &sub->ops[index].op;
    b->items[b->count++] = (struct batch_item){.sub = sub, .index = index, .record = record};
    b->library_ops += op_is_of_library(op) ? 1 : 0;
}

size_t committer_add_record(struct committer *c, struct slice bytes) {
    struct batch *b = &c->batch;
    b->records[b->record_count] = (struct oplog_record){.op = bytes};
    b->bytes += bytes.len;
    return b->record_count++;
}

/* Vectors of the library's model that are part of the op will be logged: they must be of the model that it has. */
static bool made_for_it(struct committer *c, const struct submitted_op *o, struct status *st) {
    bool carried = o->model != 0 && o->op.type == OP_DOCUMENT_PUT && o->op.as.document.vector_dimension != 0;
    return !carried || catalog_check_made_by(c->s->catalog, &o->op.library, o->op.as.document.vector_dimension, o->model, st);
}

static bool prepare_op(struct committer *c, const struct submitted_op *o, struct status *st) {
    const struct op *op = &o->op;
    if (!committer_room(&c->batch, 1)) {
        return status_no_memory(st);
    }
    if (op_is_of_keys(op)) {
        return key_table_check(c->s->keys, op, st);
    }
    return catalog_check_version(c->s->catalog, op, o->version, st) && made_for_it(c, o, st) && catalog_check(c->s->catalog, op, st) &&
           catalog_reserve(c->s->catalog, op, st);
}

/* Takes the next op of sub into the batch, or refuses it. False: the batch ends before it. */
static bool take_op(struct committer *c, struct submission *sub) {
    struct batch *b = &c->batch;
    const struct op *op = &sub->ops[sub->decided].op;
    struct status st;
    if (b->count > 0 && b->bytes + op->bytes.len > c->s->config.batch_max_bytes) {
        return false;
    }
    if (op_set_conflicts_or_add(c->touched, op)) {
        return false;
    }
    if (!prepare_op(c, &sub->ops[sub->decided], &st)) {
        if (st.code == STATUS_NO_SPACE && op->type != OP_LIBRARY_MODEL) { /* that needs room for a whole arena */
            committer_note_full_disk(c, &st);
        }
        committer_refuse_op(c, sub, sub->decided++, &st);
        return true;
    }
    committer_add_item(c, sub, sub->decided++, committer_add_record(c, op->bytes));
    return true;
}

void committer_form_batch(struct committer *c) {
    struct batch *b = &c->batch;
    b->count = 0;
    b->record_count = 0;
    b->keyed = NULL;
    b->keyed_end = &b->keyed;
    b->bytes = 0;
    b->library_ops = 0;
    b->chunks = 0;
    b->to_embed = false;
    b->met_full_disk = false;
    op_set_clear(c->touched);
    for (struct submission *sub = c->taken; sub != NULL; sub = sub->next) {
        if (sub->keyed && !sub->settled && !committer_take_keyed(c, sub)) {
            return;
        }
        while (sub->decided < sub->count) {
            if (!take_op(c, sub)) {
                return;
            }
        }
    }
}
