/* top_figures.c - two readings of a server to figures. See top.h. */
#include "cli/top.h"

#include "cli/cli.h"

#include <stdlib.h>

void top_reading_fini(struct top_reading *r) {
    metrics_fini(&r->metrics);
    json_object_put(r->health);
    json_object_put(r->tasks);
    *r = (struct top_reading){0};
}

void top_figures_fini(struct top_figures *f) {
    free(f->libraries);
    f->libraries = NULL;
    f->library_count = 0;
}

struct readings {
    const struct top_reading *now, *before;
    double seconds;
};

static double value_of(const struct readings *r, const char *name) {
    double value = 0;
    (void)metrics_sum(&r->now->metrics, name, NULL, NULL, &value);
    return value;
}

/* A counter that has gone back began anew with its server. */
static double rate_of(const struct readings *r, const char *name, const char *label, const char *value) {
    double now = 0, before = 0;
    (void)metrics_sum(&r->now->metrics, name, label, value, &now);
    (void)metrics_sum(&r->before->metrics, name, label, value, &before);
    return r->seconds > 0 ? (now >= before ? now - before : now) / r->seconds : 0;
}

static struct top_times times_of(const struct readings *r, const char *name, const char *label, const char *value) {
    struct metrics_histogram h;
    struct top_times t = {0};
    if (!metrics_histogram(&r->now->metrics, &r->before->metrics, name, label, value, &h))
        return t;
    double count = metrics_histogram_count(&h);
    t.rate = r->seconds > 0 ? count / r->seconds : 0;
    t.mean = count > 0 ? h.sum / count : 0;
    t.p50 = metrics_quantile(&h, 0.5);
    t.p99 = metrics_quantile(&h, 0.99);
    return t;
}

/* Seconds since the time that a metric gives; -1: it gives none. */
static double age_of(const struct readings *r, const char *name) {
    double then = value_of(r, name), now = (double)r->now->wall_us / 1e6;
    return then <= 0 ? -1 : now > then ? now - then : 0;
}

static void find_classes(const struct readings *r, struct top_figures *f) {
    const struct metrics_text *m = &r->now->metrics;
    for (size_t i = 0; i < m->count && f->classes < TOP_CLASSES; i++) {
        struct top_class *c = &f->class_of_route[f->classes];
        if (strcmp(m->all[i].name, "quire_http_request_seconds_count") != 0 || !metric_label(&m->all[i], "class", c->name, sizeof c->name))
            continue;
        c->times = times_of(r, "quire_http_request_seconds", "class", c->name);
        f->classes++;
    }
}

static void find_modes(const struct readings *r, struct top_figures *f) {
    const struct metrics_text *m = &r->now->metrics;
    for (size_t i = 0; i < m->count && f->modes < TOP_MODES; i++) {
        struct top_mode *mode = &f->mode[f->modes];
        if (strcmp(m->all[i].name, "quire_searches_total") != 0 || !metric_label(&m->all[i], "mode", mode->name, sizeof mode->name))
            continue;
        mode->rate = rate_of(r, "quire_searches_total", "mode", mode->name);
        f->modes++;
    }
}

static double change_of(const struct readings *r, const char *name, const char *id) {
    double now = 0, before = 0;
    bool both = metrics_sum(&r->now->metrics, name, "library", id, &now) && metrics_sum(&r->before->metrics, name, "library", id, &before);
    return !both || r->seconds <= 0 ? 0 : (now > before ? now - before : before - now) / r->seconds;
}

static int by_activity(const void *a, const void *b) {
    const struct top_library *x = a, *y = b;
    if (x->changes < y->changes || x->changes > y->changes)
        return x->changes < y->changes ? 1 : -1;
    if (x->chunks != y->chunks)
        return x->chunks < y->chunks ? 1 : -1;
    return strcmp(x->name, y->name);
}

static bool find_libraries(const struct readings *r, struct top_figures *f, struct status *st) {
    struct json_object *list = member(r->now->health, "libraries");
    size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    f->libraries = calloc(count + 1, sizeof *f->libraries);
    if (f->libraries == NULL)
        return status_no_memory(st);
    for (size_t i = 0; i < count; i++) {
        struct json_object *one = json_object_array_get_idx(list, i), *embedding = member(one, "embedding");
        struct top_library *l = &f->libraries[f->library_count++];
        snprintf(l->id, sizeof l->id, "%s", member_text(one, "id"));
        snprintf(l->name, sizeof l->name, "%s", member_text(one, "name"));
        snprintf(l->state, sizeof l->state, "%s", member_text(embedding, "state"));
        l->documents = member_int(one, "num_documents");
        l->chunks = member_int(one, "num_chunks");
        l->embedded = member_int(embedding, "done");
        l->to_embed = member_int(embedding, "total");
        l->changes = change_of(r, "quire_library_documents", l->id) + change_of(r, "quire_library_chunks", l->id) + change_of(r, "quire_library_deleted_slots", l->id);
    }
    qsort(f->libraries, f->library_count, sizeof *f->libraries, by_activity);
    return true;
}

static void find_tasks(const struct readings *r, struct top_figures *f) {
    struct json_object *list = r->now->tasks;
    size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    for (size_t i = 0; i < count && f->tasks < TOP_TASKS; i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        struct top_task *t = &f->task[f->tasks++];
        snprintf(t->kind, sizeof t->kind, "%s", member_text(one, "kind"));
        snprintf(t->state, sizeof t->state, "%s", member_text(one, "state"));
        snprintf(t->error, sizeof t->error, "%s", member_text(one, "error"));
        t->done = member_int(one, "done");
        t->total = member_int(one, "total");
    }
}

static void find_health(const struct readings *r, struct top_figures *f) {
    struct json_object *health = r->now->health, *workers = member(health, "workers");
    snprintf(f->version, sizeof f->version, "%s", member_text(health, "version"));
    snprintf(f->status, sizeof f->status, "%s", member_text(health, "status"));
    snprintf(f->message, sizeof f->message, "%s", member_text(health, "message"));
    f->uptime = member_double(health, "uptime_seconds");
    f->workers_wanted = member_int(workers, "wanted");
    f->workers_ready = member_int(workers, "ready");
    f->workers_busy = member_int(workers, "busy");
    f->worker_restarts = member_int(workers, "restarts");
}

static void find_log(const struct readings *r, struct top_figures *f) {
    f->operations = rate_of(r, "quire_committed_ops_total", NULL, NULL);
    f->queue = value_of(r, "quire_queue_ops");
    f->commit = times_of(r, "quire_commit_seconds", NULL, NULL);
    f->sync = times_of(r, "quire_wal_sync_seconds", NULL, NULL);
    f->lsn = value_of(r, "quire_wal_lsn");
    f->log_bytes = value_of(r, "quire_wal_bytes");
    f->segments = value_of(r, "quire_wal_segments");
    f->archive_lag_bytes = value_of(r, "quire_wal_archive_lag_bytes");
    f->snapshot_age = age_of(r, "quire_snapshot_last_time_seconds");
    f->snapshot_lsn = value_of(r, "quire_snapshot_last_lsn");
    f->verified_age = age_of(r, "quire_snapshot_verified_time_seconds");
    f->checkpoint_age = age_of(r, "quire_checkpoint_last_time_seconds");
}

static void count_providers(const struct readings *r, struct top_figures *f) {
    const struct metrics_text *m = &r->now->metrics;
    for (size_t i = 0; i < m->count; i++)
        f->providers += strcmp(m->all[i].name, "quire_provider_up") == 0 ? 1 : 0;
    f->providers_up = value_of(r, "quire_provider_up");
}

bool top_figure(const struct top_reading *now, const struct top_reading *before, struct top_figures *ret, struct status *st) {
    struct readings r = {.now = now, .before = before, .seconds = (double)(now->at_us - before->at_us) / 1e6};
    struct top_figures f = {.seconds = r.seconds};
    find_health(&r, &f);
    f.requests = rate_of(&r, "quire_http_responses_total", NULL, NULL);
    f.client_errors = rate_of(&r, "quire_http_responses_total", "class", "4xx");
    f.server_errors = rate_of(&r, "quire_http_responses_total", "class", "5xx");
    find_classes(&r, &f);
    find_modes(&r, &f);
    find_log(&r, &f);
    f.pending = value_of(&r, "quire_pending_vectors");
    f.tail = value_of(&r, "quire_index_tail_chunks");
    f.streams = value_of(&r, "quire_streams");
    count_providers(&r, &f);
    find_tasks(&r, &f);
    if (!find_libraries(&r, &f, st))
        return false;
    *ret = f;
    return true;
}
