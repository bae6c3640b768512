/*
 * tasks.c - long work of the supervisor, read from the page of figures.
 *
 * The ring of tasks is written while it is read. Each entry carries a sequence number, odd while it is being written; a copy is
 * good when the number was even and the same before and after. The page is written by the supervisor alone, but a broken worker
 * could scribble over it, so nothing in a copy is believed: texts are cut at their end, words are looked up with a bound.
 */
#include "api/tasks.h"

#include "api/json_in.h"
#include "base/utf8.h"
#include "shm/atomics.h"
#include "store/model.h"

#include <stdlib.h>

#define COPY_ATTEMPTS 1000 /* the writer holds an entry for nanoseconds; after that it must have died within */

static const char *kind_name(uint32_t kind) {
    switch ((enum task_kind)kind) {
    case TASK_REBUILD:
        return "rebuild";
    case TASK_SNAPSHOT:
        return "snapshot";
    case TASK_REEMBED:
        return "reembed";
    case TASK_OPTIMIZE:
        return "optimize";
    case TASK_VERIFY:
        return "verify";
    }
    return "unknown";
}

static const char *state_name(uint32_t state) {
    switch ((enum task_state)state) {
    case TASK_PENDING:
        return "pending";
    case TASK_RUNNING:
        return "running";
    case TASK_SUCCEEDED:
        return "succeeded";
    case TASK_FAILED:
        return "failed";
    case TASK_CANCELLED:
        return "cancelled";
    case TASK_NONE:
        break;
    }
    return "unknown";
}

/* NULL: it goes on. */
static const char *pause_name(uint32_t pause) {
    return pause == PAUSE_AWAY ? "waiting_for_provider" : pause == PAUSE_CHANGED ? "model_changed" : NULL;
}

/* A whole copy of entry i; false when there is none. */
static bool task_copy(const struct exchange *x, unsigned i, struct figures_task *ret) {
    const struct figures_task *t = &x->api->host.figures->task[i];
    for (unsigned attempt = 0; attempt < COPY_ATTEMPTS; attempt++) {
        uint64_t before =
            load_acquire_u64(&t->sequence); /* pairs with: FIGURES_TASK; without it the fields could be older than the number */
        if ((before & 1) != 0) {
            continue;
        }
        memcpy(ret, t, sizeof *ret);
        __atomic_thread_fence(__ATOMIC_ACQUIRE); /* the copy is done before the number is read again */
        if (load_relaxed_u64(&t->sequence) == before) {
            ret->error[sizeof ret->error - 1] = '\0';
            return ret->state != TASK_NONE;
        }
    }
    return false;
}

static void write_time_or_null(struct json_out *j, const char *key, int64_t at) {
    if (at != 0) {
        json_member_time(j, key, at);
    } else {
        json_key(j, key);
        json_null(j);
    }
}

/* Of an exchange: how far its two models agree, once that is known, and what it waits for. */
static void write_exchange(struct json_out *j, const struct figures_task *t) {
    json_key(j, "overlap_at_10");
    if (t->overlap_queries > 0) {
        json_double(j, t->overlap);
    } else {
        json_null(j);
    }
    json_member_uint(j, "overlap_queries", t->overlap_queries);
    json_key(j, "paused");
    if (pause_name(t->paused) != NULL) {
        json_string(j, slice_str(pause_name(t->paused)));
    } else {
        json_null(j);
    }
}

static void task_write(struct json_out *j, const struct figures_task *t) {
    json_begin_object(j);
    json_key(j, "id");
    json_uuid(j, &t->id);
    json_member_cstring(j, "kind", kind_name(t->kind));
    json_member_cstring(j, "state", state_name(t->state));
    json_member_uint(j, "done", t->done);
    json_member_uint(j, "total", t->total);
    write_time_or_null(j, "started_at", t->started_at);
    write_time_or_null(j, "finished_at", t->finished_at);
    if (t->kind == TASK_REEMBED) {
        write_exchange(j, t);
    }
    json_key(j, "error");
    struct slice error = slice_str(t->error);
    if (error.len > 0 && utf8_valid(error)) {
        json_string(j, error);
    } else {
        json_null(j);
    }
    json_end_object(j);
}

/* Tasks of one library are for who may see it; those of the server, snapshots above all, for who may see all. */
static bool task_is_seen(const struct exchange *x, const struct figures_task *t) {
    bool of_library = t->kind == TASK_REBUILD || t->kind == TASK_OPTIMIZE || t->kind == TASK_REEMBED;
    return x->who.entry.all || (of_library && access_sees(x, &t->library));
}

static bool task_find(const struct exchange *x, const struct uuid *id, struct figures_task *ret) {
    for (unsigned i = 0; i < FIGURES_TASKS; i++) {
        if (task_copy(x, i, ret) && uuid_equal(&ret->id, id)) {
            return true;
        }
    }
    return false;
}

bool task_is_running(const struct exchange *x, enum task_kind kind, const struct uuid *library) {
    struct figures_task t;
    for (unsigned i = 0; i < FIGURES_TASKS; i++) {
        if (task_copy(x, i, &t) && t.kind == (uint32_t)kind && uuid_equal(&t.library, library) &&
            (t.state == TASK_PENDING || t.state == TASK_RUNNING)) {
            return true;
        }
    }
    return false;
}

void task_reply(struct exchange *x, enum task_kind kind, const struct uuid *task) {
    struct figures_task t = {.id = *task, .kind = (uint32_t)kind, .state = TASK_PENDING};
    if (x->keyed) {
        t.started_at = request_time(x); /* as it was at first, however far it is by now */
    } else if (!task_find(x, task, &t)) {
        t = (struct figures_task){.id = *task, .kind = (uint32_t)kind, .state = TASK_PENDING};
    }
    struct json_out j = reply_json(x, 202);
    task_write(&j, &t);
    char text[UUID_TEXT + 1];
    uuid_format(task, text);
    buf_printf(&x->response->headers, "Location: /v1/tasks/%s\r\n", text);
}

/* With a key the task gets an id of its own, drawn as all that a request makes, so that the reply can be made again. A crash of the
 * server between its begin and its being remembered leaves neither: tasks end with the server. */
bool task_begin(struct exchange *x, enum task_kind kind, enum api_command command, const struct uuid *library, uint64_t lsn,
                struct status *st) {
    static const struct uuid nothing;
    const struct api_host *host = &x->api->host;
    struct uuid task;
    bool known = request_known(x);
    request_uuid(x, &task);
    if (!known && !host->command(host->ctx, x->keyed ? &x->key : NULL, command, library != NULL ? library : &nothing, &task, st)) {
        return false;
    }
    if (request_known(x) != known) {
        return status_set(st, STATUS_CONFLICT, "another request with this key was done meanwhile");
    }
    task_reply(x, kind, &task);
    reply_lsn(x, x->keyed ? x->key.lsn : lsn);
    return true;
}

static int newest_first(const void *a, const void *b) {
    const struct figures_task *left = (const struct figures_task *)a;
    const struct figures_task *right = (const struct figures_task *)b;
    return memcmp(right->id.b, left->id.b, UUID_BYTES); /* version 7 ids ascend with time */
}

bool handle_task_list(struct exchange *x, struct status *st) {
    struct figures_task *tasks = (struct figures_task *)pool_take_array(&x->pool, FIGURES_TASKS, sizeof *tasks);
    if (tasks == NULL) {
        return status_no_memory(st);
    }
    size_t count = 0;
    for (unsigned i = 0; i < FIGURES_TASKS; i++) {
        count += task_copy(x, i, &tasks[count]) && task_is_seen(x, &tasks[count]) ? 1 : 0;
    }
    qsort(tasks, count, sizeof *tasks, newest_first);
    struct json_out j = reply_json(x, 200);
    json_begin_array(&j);
    for (size_t i = 0; i < count; i++) {
        task_write(&j, &tasks[i]);
    }
    json_end_array(&j);
    return true;
}

static bool task_param(const struct exchange *x, struct figures_task *ret, struct status *st) {
    struct uuid id;
    if (!uuid_parse(x->param[0], &id) || !task_find(x, &id, ret) || !task_is_seen(x, ret)) {
        return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_TASK,
                                  "there is no task with this id (finished ones are forgotten in time)");
    }
    return true;
}

bool handle_task_get(struct exchange *x, struct status *st) {
    struct figures_task t;
    if (!task_param(x, &t, st)) {
        return false;
    }
    struct json_out j = reply_json(x, 200);
    task_write(&j, &t);
    return true;
}

bool handle_task_cancel(struct exchange *x, struct status *st) {
    struct figures_task t;
    struct uuid ignored;
    if (!task_param(x, &t, st) || !x->api->host.command(x->api->host.ctx, NULL, API_CANCEL_TASK, &t.id, &ignored, st)) {
        return false;
    }
    task_reply(x, (enum task_kind)t.kind, &t.id);
    return true;
}
