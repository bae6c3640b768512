/*
 * tasks.h - the long works that clients can ask for and look at: what /v1/tasks shows.
 *
 * The table lives here; each change is copied to the figures in the control segment under that task's sequence number.
 */
#ifndef QUIRE_PROC_TASKS_H
#define QUIRE_PROC_TASKS_H

#include "api/figures.h"

struct tasks;

MUST_CHECK bool tasks_new(struct service_figures *figures, struct tasks **ret, struct status *st);
void tasks_free(struct tasks *t); /* takes NULL */

/* A new task, pending, in the place of the oldest finished one. STATUS_BUSY when all are pending or running. library may be NULL;
 * id: that of the task, NULL: one is made. */
MUST_CHECK bool tasks_add(struct tasks *t, enum task_kind kind, const struct uuid *library, const struct uuid *id,
                          struct uuid *ret_id, struct status *st);
/* Is there a pending one of that kind (for that library, unless NULL)? A pending or running one? */
bool tasks_find_pending(struct tasks *t, enum task_kind kind, const struct uuid *library, struct uuid *ret_id);
bool tasks_find_live(struct tasks *t, enum task_kind kind, const struct uuid *library, struct uuid *ret_id);
/* The oldest pending one of that kind becomes running. */
bool tasks_begin_next(struct tasks *t, enum task_kind kind, struct uuid *ret_id, struct uuid *ret_library);
/* What has become of it; TASK_NONE: it is not known, or no more. */
enum task_state tasks_state(struct tasks *t, const struct uuid *id);
void tasks_begin(struct tasks *t, const struct uuid *id); /* a pending one becomes running */
/* Of an exchange: how far both models agree, see figures_task. */
void tasks_overlap(struct tasks *t, const struct uuid *id, double overlap, uint32_t queries);
/* A pending one is cancelled at once; a running one is asked to stop (tasks_cancel_wanted). STATUS_NOT_FOUND, or STATUS_CONFLICT
 * when it is over. */
MUST_CHECK bool tasks_cancel(struct tasks *t, const struct uuid *id, enum task_kind *ret_kind, struct status *st);
bool tasks_cancel_wanted(struct tasks *t, const struct uuid *id);
/* What a running one waits for; why: for people. It goes on by itself (PAUSE_NONE). */
void tasks_pause(struct tasks *t, const struct uuid *id, enum task_pause pause, const char *why);
void tasks_progress(struct tasks *t, const struct uuid *id, uint64_t done, uint64_t total);
/* why: NULL: succeeded; a status of STATUS_OK: cancelled; else failed with its detail. */
void tasks_finish(struct tasks *t, const struct uuid *id, const struct status *why);

#endif
