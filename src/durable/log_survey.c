/* log_survey.c - see log_survey.h. */
#include "durable/log_survey.h"

#include <stdlib.h>

enum { FIRST_CAP = 16 };

bool uuid_list_add(struct uuid_list *l, const struct uuid *id, struct status *st) {
    if (l->count == l->cap) {
        size_t cap = l->cap == 0 ? FIRST_CAP : 2 * l->cap;
        struct uuid *grown = (struct uuid *)realloc(l->at, cap * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        l->at = grown;
        l->cap = cap;
    }
    l->at[l->count++] = *id;
    return true;
}

bool uuid_list_has(const struct uuid_list *l, const struct uuid *id) {
    for (size_t i = 0; i < l->count; i++) {
        if (uuid_equal(&l->at[i], id)) {
            return true;
        }
    }
    return false;
}

bool log_survey_note(const struct oplog_record *record, void *ctx, struct status *st) {
    struct log_survey *s = (struct log_survey *)ctx;
    struct op_walk walk;
    struct op op;
    struct status ignored;
    uint8_t type = record->op.len > 0 ? record->op.data[0] : 0;
    bool ok = true;
    bool concerns = type == OP_LIBRARY_DELETE || type == OP_LIBRARY_MODEL || type == OP_GROUP;
    if (!concerns || !op_walk_begin(&walk, record->op, NULL, &ignored)) {
        return true; /* what does not decode is found by the replay */
    }
    while (ok && op_walk_next(&walk, &op)) {
        if (op.type == OP_LIBRARY_DELETE) {
            ok = uuid_list_add(&s->deleted, &op.library, st);
        } else if (op.type == OP_LIBRARY_MODEL && op.switches) {
            ok = uuid_list_add(&s->exchanged, &op.library, st);
        }
    }
    return ok;
}

void log_survey_fini(struct log_survey *s) {
    free(s->deleted.at);
    free(s->exchanged.at);
    *s = (struct log_survey){0};
}
