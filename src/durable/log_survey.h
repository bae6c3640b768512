/*
 * log_survey.h - inside durable: what the log behind a live checkpoint does to whole libraries, found before anything is gone on with.
 *
 * A library that is deleted there need not be good for anything. One whose model is exchanged there is made anew: its arena at the checkpoint has the vectors
 * of the model before.
 */
#ifndef QUIRE_DURABLE_LOG_SURVEY_H
#define QUIRE_DURABLE_LOG_SURVEY_H

#include "durable/oplog.h"
#include "store/op_group.h"

struct uuid_list {
    struct uuid *at;
    size_t count;
    size_t cap;
};

struct log_survey {
    struct uuid_list deleted;
    struct uuid_list exchanged;
};

MUST_CHECK bool uuid_list_add(struct uuid_list *l, const struct uuid *id, struct status *st);
bool uuid_list_has(const struct uuid_list *l, const struct uuid *id);
/* ctx: the struct log_survey, zeroed before the first. For oplog_read_from. */
MUST_CHECK bool log_survey_note(const struct oplog_record *record, void *ctx, struct status *st);
void log_survey_fini(struct log_survey *s);

#endif
