/* tasks.h - long work of the supervisor as this layer sees it in the page of figures. */
#ifndef QUIRE_API_TASKS_H
#define QUIRE_API_TASKS_H

#include "api/exchange.h"

/* Whether a task of this kind is pending or running for this library. */
bool task_is_running(const struct exchange *x, enum task_kind kind, const struct uuid *library);
/* library: or what else the task is about, as 16 bytes; NULL: nothing. Begins a task and replies with it: 202, Location, and as Quire-LSN that of what was written for it (0: nothing). */
MUST_CHECK bool task_begin(struct exchange *x, enum task_kind kind, enum api_command command, const struct uuid *library,
                           uint64_t lsn, struct status *st);
/* 202 with the task and its Location. */
void task_reply(struct exchange *x, enum task_kind kind, const struct uuid *task);

#endif
