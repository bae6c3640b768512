/* tasks.h - long work of the supervisor as this layer sees it in the page of figures. */
#ifndef QUIRE_API_TASKS_H
#define QUIRE_API_TASKS_H

#include "api/exchange.h"

/* Whether a task of this kind is pending or running for this library. */
bool task_is_running(const struct exchange *x, enum task_kind kind, const struct uuid *library);
/* 202 with the task and its Location. */
void reply_task_begun(struct exchange *x, enum task_kind kind, const struct uuid *task);

#endif
