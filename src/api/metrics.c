/*
 * metrics.c - GET /metrics in the text format of Prometheus, version 0.0.4.
 *
 * Everything is read from the page of figures and the workers' slots with relaxed loads: each number is whole, but numbers
 * written together may be seen one apart. What there is stands in metrics.def, with its type, unit and help; a new figure or count is
 * one line there, and what has labels is filled in here.
 *
 * Which series there are is bounded: labels are names of this program (routes, statuses, modes, models of the configuration), and of
 * libraries there are at most so many.
 */
#include "api/count.h"
#include "api/exchange.h"

#include "config.h"
#include "index/distance.h"
#include "shm/atomics.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_SECOND 1e9
#define US_PER_SECOND 1e6

/* --- the table --- */

enum metric {
#define FIGURE(name, type, unit, form, field, help)
#define COUNT(name, unit, field, help)
#define METRIC(id, name, type, unit, labels, help) METRIC_##id,
#include "api/metrics.def"
#undef METRIC
    METRICS
};

struct head {
    const char *name, *type, *help;
};

static const struct head heads[METRICS] = {
#define METRIC(id, name, type, unit, labels, help) [METRIC_##id] = {name, #type, help},
#include "api/metrics.def"
#undef METRIC
};
#define METRIC(id, name, type, unit, labels, help)
#undef FIGURE
#undef COUNT

enum figure_form { FORM_U32, FORM_U64, FORM_US /* int64_t microseconds, shown as seconds */ };

struct figure {
    struct head head;
    enum figure_form form;
    size_t offset;
};

static const struct figure figures[] = {
#define FIGURE(name, type, unit, form, field, help) {{name, #type, help}, FORM_##form, offsetof(struct service_figures, field)},
#define COUNT(name, unit, field, help)
#include "api/metrics.def"
#undef FIGURE
#undef COUNT
};

/* A word of each worker's slot. */
struct count {
    struct head head;
    size_t offset;
};

static const struct count counts[] = {
#define FIGURE(name, type, unit, form, field, help)
#define COUNT(name, unit, field, help) {{name, "counter", help}, offsetof(struct control_worker, field)},
#include "api/metrics.def"
#undef FIGURE
#undef COUNT
};
#undef METRIC

static void put_head(struct buf *b, const struct head *h) {
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", h->name, h->help, h->name, h->type);
}

static void begin(struct buf *b, enum metric m) {
    put_head(b, &heads[m]);
}

/* One without labels. */
static void put(struct buf *b, enum metric m, uint64_t value) {
    begin(b, m);
    buf_printf(b, "%s %" PRIu64 "\n", heads[m].name, value);
}

/* One of a metric with a label, whose value needs no escapes. */
static void put_labelled(struct buf *b, enum metric m, const char *label, const char *value, uint64_t number) {
    buf_printf(b, "%s{%s=\"%s\"} %" PRIu64 "\n", heads[m].name, label, value, number);
}

static void put_figures(struct buf *b, const struct service_figures *f) {
    const char *base = (const char *)f;
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        const struct figure *row = &figures[i];
        const void *at = base + row->offset;
        put_head(b, &row->head);
        switch (row->form) {
        case FORM_U32:
            buf_printf(b, "%s %" PRIu32 "\n", row->head.name, load_relaxed_u32((const uint32_t *)at));
            break;
        case FORM_U64:
            buf_printf(b, "%s %" PRIu64 "\n", row->head.name, load_relaxed_u64((const uint64_t *)at));
            break;
        case FORM_US:
            buf_printf(b, "%s %.6f\n", row->head.name, (double)__atomic_load_n((const int64_t *)at, __ATOMIC_RELAXED) / US_PER_SECOND);
            break;
        }
    }
}

/* --- histograms --- */

static void histogram_add(struct control_histogram *sum, const struct control_histogram *h) {
    sum->sum += load_relaxed_u64(&h->sum);
    for (unsigned i = 0; i < CONTROL_HISTOGRAM_BUCKETS; i++) {
        sum->bucket[i] += load_relaxed_u64(&h->bucket[i]);
    }
}

/* scale: what is one in the unit shown. labels: "" or "class=\"search\"". The count is the sum of the buckets, so that they never
 * disagree. */
static void put_buckets(struct buf *b, const char *name, const char *labels, const struct control_histogram *h, const uint64_t *bounds,
                        double scale) {
    const char *comma = labels[0] == '\0' ? "" : ",";
    const char *open = labels[0] == '\0' ? "" : "{";
    const char *close = labels[0] == '\0' ? "" : "}";
    uint64_t below = 0;
    for (unsigned i = 0; i + 1 < CONTROL_HISTOGRAM_BUCKETS; i++) {
        below += h->bucket[i];
        buf_printf(b, "%s_bucket{%s%sle=\"%.9g\"} %" PRIu64 "\n", name, labels, comma, (double)bounds[i] / scale, below);
    }
    below += h->bucket[CONTROL_HISTOGRAM_BUCKETS - 1];
    buf_printf(b, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, below);
    buf_printf(b, "%s_sum%s%s%s %.9g\n%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, (double)h->sum / scale, name, open,
               labels, close, below);
}

static void put_times(struct buf *b, enum metric m, const struct control_histogram *h) {
    struct control_histogram copy = {0};
    histogram_add(&copy, h);
    begin(b, m);
    put_buckets(b, heads[m].name, "", &copy, control_duration_bounds, NS_PER_SECOND);
}

static void put_sizes(struct buf *b, enum metric m, const struct control_histogram *h) {
    struct control_histogram copy = {0};
    histogram_add(&copy, h);
    begin(b, m);
    put_buckets(b, heads[m].name, "", &copy, control_size_bounds, 1);
}

/* --- workers --- */

struct worker_sums {
    uint64_t alive, audit_lost;
    uint64_t requests[CONTROL_ROUTES][CONTROL_STATUSES];
    uint64_t searches[CONTROL_SEARCH_MODES], candidates[CONTROL_SEARCH_MODES];
    uint64_t counts[sizeof counts / sizeof counts[0]];
    struct control_histogram request_time[CONTROL_ROUTE_CLASSES], embedding_time;
};

static void sum_requests(const struct control_worker *w, struct worker_sums *s) {
    for (size_t route = 0; route < CONTROL_ROUTES; route++) {
        for (size_t k = 0; k < CONTROL_STATUSES; k++) {
            s->requests[route][k] += load_relaxed_u64(&w->requests[route][k]);
        }
    }
    for (size_t class = 0; class < CONTROL_ROUTE_CLASSES; class++) {
        histogram_add(&s->request_time[class], &w->request_time[class]);
    }
}

static void sum_workers(const struct control *c, struct worker_sums *s) {
    uint32_t slots = c->workers < CONTROL_MAX_WORKERS ? c->workers : CONTROL_MAX_WORKERS;
    for (uint32_t i = 0; i < slots; i++) {
        const struct control_worker *w = &c->worker[i];
        s->alive += load_relaxed_u32(&w->state) != WORKER_ABSENT ? 1 : 0;
        s->audit_lost += load_relaxed_u64(&w->audit_lost);
        sum_requests(w, s);
        for (size_t mode = 0; mode < CONTROL_SEARCH_MODES; mode++) {
            s->searches[mode] += load_relaxed_u64(&w->searches[mode]);
            s->candidates[mode] += load_relaxed_u64(&w->candidates[mode]);
        }
        for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
            s->counts[k] += load_relaxed_u64((const uint64_t *)(const void *)((const char *)w + counts[k].offset));
        }
        histogram_add(&s->embedding_time, &w->embedding_time);
    }
}

/* "GET /v1/tasks" as two labels; "none" has no method. */
static void put_route(struct buf *b, const char *name) {
    const char *path = strchr(name, '/');
    if (path == NULL) {
        buf_printf(b, "method=\"none\",route=\"%s\"", name);
    } else {
        buf_printf(b, "method=\"%.*s\",route=\"%s\"", (int)(path - name - 1), name, path);
    }
}

static void put_requests(struct buf *b, const struct worker_sums *s) {
    enum { STATUS_CLASSES = 6, STATUS_CLASS = 100 };
    uint64_t by_class[STATUS_CLASSES] = {0};
    begin(b, METRIC_REQUESTS);
    for (unsigned route = 0; route < CONTROL_ROUTES && api_route_name(route) != NULL; route++) {
        for (unsigned k = 0; k < CONTROL_STATUSES; k++) {
            int status = count_status(k);
            if (s->requests[route][k] == 0) {
                continue;
            }
            buf_printf(b, "%s{", heads[METRIC_REQUESTS].name);
            put_route(b, api_route_name(route));
            buf_printf(b, ",status=\"%d\"} %" PRIu64 "\n", status, s->requests[route][k]);
            by_class[status / STATUS_CLASS] += s->requests[route][k];
        }
    }
    begin(b, METRIC_RESPONSES);
    for (unsigned class = 2; class < STATUS_CLASSES; class++) { /* 1xx: there are none */
        buf_printf(b, "%s{class=\"%uxx\"} %" PRIu64 "\n", heads[METRIC_RESPONSES].name, class, by_class[class]);
    }
    begin(b, METRIC_REQUEST_TIME);
    for (unsigned class = 0; class < ROUTE_CLASSES; class++) {
        char label[32];
        (void)snprintf(label, sizeof label, "class=\"%s\"", count_class_name((enum route_class)class));
        put_buckets(b, heads[METRIC_REQUEST_TIME].name, label, &s->request_time[class], control_duration_bounds, NS_PER_SECOND);
    }
}

static void put_workers(struct buf *b, const struct control *c, const struct worker_sums *s) {
    put(b, METRIC_WORKERS, s->alive);
    put(b, METRIC_WORKERS_WRITING, places_taken(&c->writers));
    put(b, METRIC_MIN_LSN_WAITS, places_taken(&c->awaiting));
    put(b, METRIC_STREAMS, places_taken(&c->streams));
    put_requests(b, s);
    begin(b, METRIC_SEARCHES);
    for (unsigned mode = 0; mode < CONTROL_SEARCH_MODES; mode++) {
        put_labelled(b, METRIC_SEARCHES, "mode", count_mode_name(mode), s->searches[mode]);
    }
    begin(b, METRIC_CANDIDATES);
    for (unsigned mode = 0; mode < CONTROL_SEARCH_MODES; mode++) {
        put_labelled(b, METRIC_CANDIDATES, "mode", count_mode_name(mode), s->candidates[mode]);
    }
    for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
        put_head(b, &counts[k].head);
        buf_printf(b, "%s %" PRIu64 "\n", counts[k].head.name, s->counts[k]);
    }
    put_times(b, METRIC_EMBEDDING_TIME, &s->embedding_time);
}

/* --- the server --- */

static void put_state(struct buf *b, const struct api_host *host) {
    static const char *const disks[FIGURES_DISKS] = {"data", "wal", "snapshots", "archive"};
    const struct service_figures *f = host->figures;
    bool latched = load_relaxed_u32(&f->write_path_failed) != 0;
    bool failing = !latched && load_relaxed_u32(&f->disk_full) != 0;
    begin(b, METRIC_BUILD_INFO);
    buf_printf(b, "%s{version=\"%s\",kernel=\"%s\"} 1\n", heads[METRIC_BUILD_INFO].name, PACKAGE_VERSION,
               distance_kernel_name(distance_kernel_in_use()));
    put(b, METRIC_READY, service_is_ready(host) ? 1 : 0);
    begin(b, METRIC_WRITE_PATH);
    put_labelled(b, METRIC_WRITE_PATH, "state", "ok", latched || failing ? 0 : 1);
    put_labelled(b, METRIC_WRITE_PATH, "state", "failing", failing ? 1 : 0);
    put_labelled(b, METRIC_WRITE_PATH, "state", "latched", latched ? 1 : 0);
    begin(b, METRIC_DISK_AVAILABLE);
    for (unsigned i = 0; i < FIGURES_DISKS; i++) {
        if (load_relaxed_u64(&f->disk[i].size) != 0) { /* else it is not known */
            put_labelled(b, METRIC_DISK_AVAILABLE, "of", disks[i], load_relaxed_u64(&f->disk[i].available));
        }
    }
    begin(b, METRIC_DISK_SIZE);
    for (unsigned i = 0; i < FIGURES_DISKS; i++) {
        if (load_relaxed_u64(&f->disk[i].size) != 0) {
            put_labelled(b, METRIC_DISK_SIZE, "of", disks[i], load_relaxed_u64(&f->disk[i].size));
        }
    }
}

/* --- the last start --- */

static void put_recovery(struct buf *b, const struct service_figures *f) {
    const struct {
        const char *name;
        const int64_t *us;
    } phases[] = {{"wal_open", &f->recovery_wal_open_us}, {"checkpoint", &f->recovery_checkpoint_us}, {"resume", &f->recovery_resume_us},
                  {"graph", &f->recovery_graph_us},       {"snapshot", &f->recovery_snapshot_us},     {"replay", &f->recovery_replay_us}};
    begin(b, METRIC_RECOVERY_PHASE);
    for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++) {
        buf_printf(b, "%s{phase=\"%s\"} %.6f\n", heads[METRIC_RECOVERY_PHASE].name, phases[i].name,
                   (double)__atomic_load_n(phases[i].us, __ATOMIC_RELAXED) / US_PER_SECOND);
    }
}

/* --- libraries --- */

static uint64_t library_figure(const struct library_view *v, enum metric which) {
    switch (which) {
    case METRIC_LIBRARY_DOCUMENTS:
        return v->live_documents;
    case METRIC_LIBRARY_CHUNKS:
        return v->live_chunks;
    case METRIC_LIBRARY_DELETED:
        return v->chunk_slots - v->live_chunks;
    case METRIC_LIBRARY_TEXT:
        return v->text_bytes;
    default:
        return v->records_used;
    }
}

/* In a label's value. */
static void put_escaped(struct buf *b, struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        char c = (char)text.data[i];
        if (c == '\\' || c == '"' || c == '\n') {
            buf_put_u8(b, '\\');
        }
        buf_put_u8(b, c == '\n' ? 'n' : (uint8_t)c);
    }
}

/* What only a reading knows of a library that is shown by itself. */
struct library_row {
    char id[UUID_TEXT + 1];
    uint64_t tail;
};

static uint64_t tail_of(const struct reading *rd) {
    if (rd->view.graph_generation == 0 || rd->arena->graph_generation == 0) {
        return 0;
    }
    /* pairs with: HNSW_LINKED; a figure only, so an older value does no harm */
    uint64_t linked = load_acquire_u64(&arena_graph(rd->arena).head->linked);
    return linked < rd->view.chunk_slots ? rd->view.chunk_slots - linked : 0;
}

/* Fills the rows and shows the names. One that was deleted since the list was taken has none. */
static bool read_libraries(struct exchange *x, struct buf *b, const struct library_view *views, size_t count, struct library_row *rows,
                           struct status *st) {
    begin(b, METRIC_LIBRARY_INFO);
    for (size_t i = 0; i < count; i++) {
        struct library_definition d;
        struct reading rd;
        uuid_format(&views[i].id, rows[i].id);
        rows[i].tail = 0;
        if (!reading_begin(x->api->host.reader, &views[i].id, &rd, st)) {
            if (st->code != STATUS_NOT_FOUND) {
                return false;
            }
            continue;
        }
        bool good = reading_definition(&rd, &d, st);
        if (good) {
            rows[i].tail = tail_of(&rd);
            buf_printf(b, "%s{library=\"%s\",name=\"", heads[METRIC_LIBRARY_INFO].name, rows[i].id);
            put_escaped(b, d.name);
            buf_put_str(b, "\"} 1\n");
        }
        reading_end(&rd);
        if (!good) {
            return false;
        }
    }
    return true;
}

static bool put_libraries(struct exchange *x, struct buf *b, const struct library_view *views, size_t count, struct status *st) {
    static const enum metric shown[] = {METRIC_LIBRARY_DOCUMENTS, METRIC_LIBRARY_CHUNKS, METRIC_LIBRARY_DELETED, METRIC_LIBRARY_TEXT,
                                        METRIC_LIBRARY_RECORDS};
    uint64_t most = x->api->host.limits->metrics_max_libraries;
    size_t alone = count < most ? count : (size_t)most;
    struct library_row *rows = (struct library_row *)pool_take_array(&x->pool, alone + 1, sizeof *rows);
    put(b, METRIC_LIBRARIES, count);
    put(b, METRIC_LIBRARIES_SHOWN, alone);
    if (rows == NULL) {
        return status_no_memory(st);
    }
    if (!read_libraries(x, b, views, alone, rows, st)) {
        return false;
    }
    for (size_t which = 0; which < sizeof shown / sizeof shown[0]; which++) {
        uint64_t others = 0;
        begin(b, shown[which]);
        for (size_t i = 0; i < alone; i++) {
            put_labelled(b, shown[which], "library", rows[i].id, library_figure(&views[i], shown[which]));
        }
        for (size_t i = alone; i < count; i++) {
            others += library_figure(&views[i], shown[which]);
        }
        if (alone < count) {
            put_labelled(b, shown[which], "library", "other", others);
        }
    }
    begin(b, METRIC_LIBRARY_TAIL);
    for (size_t i = 0; i < alone; i++) {
        put_labelled(b, METRIC_LIBRARY_TAIL, "library", rows[i].id, rows[i].tail);
    }
    return true;
}

static void put_arenas(struct buf *b, const struct service_figures *f) {
    begin(b, METRIC_ARENA_BYTES);
    for (unsigned kind = 0; kind < ARENA_KINDS; kind++) {
        put_labelled(b, METRIC_ARENA_BYTES, "kind", figures_arena_kind(kind), load_relaxed_u64(&f->arena_bytes[kind]));
    }
}

/* --- remote models --- */

struct provider_figure {
    enum metric metric;
    size_t offset;
};

#define OF(field) offsetof(struct figures_provider, field)

static const struct provider_figure provider_figures[] = {
    {METRIC_PROVIDER_CALLS, OF(calls)},
    {METRIC_PROVIDER_RETRIES, OF(retries)},
    {METRIC_PROVIDER_TEXTS, OF(texts)},
    {METRIC_PROVIDER_TOKENS, OF(tokens)},
    {METRIC_PROVIDER_FAILURES, OF(failures)},
    {METRIC_CACHE_HITS, OF(cache_hits)},
    {METRIC_CACHE_MISSES, OF(cache_misses)},
    {METRIC_CACHE_SHARED, OF(cache_shared)},
    {METRIC_CACHE_BYTES, OF(cache_bytes)},
    {METRIC_CACHE_ENTRIES, OF(cache_entries)},
};

/* The slots of the remote models among all; returns how many. */
static size_t remote_models(const struct embed_registry *r, const struct embedder *out[FIGURES_PROVIDERS]) {
    size_t count = 0;
    for (size_t i = 0; r != NULL && i < r->count; i++) {
        if (r->model[i].remote && count < FIGURES_PROVIDERS) {
            out[count++] = &r->model[i];
        }
    }
    return count;
}

static void put_providers(struct buf *b, const struct api_host *host) {
    const struct embedder *models[FIGURES_PROVIDERS];
    struct figures_provider known[FIGURES_PROVIDERS];
    size_t count = remote_models(host->models, models);
    if (count == 0) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        figures_provider_read(&host->figures->provider[i], &known[i]);
    }
    begin(b, METRIC_PROVIDER_UP);
    for (size_t i = 0; i < count; i++) {
        put_labelled(b, METRIC_PROVIDER_UP, "model", models[i]->name, known[i].state == PROVIDER_READY ? 1 : 0);
    }
    for (size_t f = 0; f < sizeof provider_figures / sizeof provider_figures[0]; f++) {
        const struct provider_figure *p = &provider_figures[f];
        begin(b, p->metric);
        for (size_t i = 0; i < count; i++) {
            uint64_t value;
            memcpy(&value, (const uint8_t *)&known[i] + p->offset, sizeof value);
            put_labelled(b, p->metric, "model", models[i]->name, value); /* a section's name needs no escapes */
        }
    }
    begin(b, METRIC_PROVIDER_ERRORS);
    for (size_t i = 0; i < count; i++) {
        for (unsigned kind = REMOTE_DONE + 1; kind < REMOTE_FAILURES; kind++) {
            buf_printf(b, "%s{model=\"%s\",kind=\"%s\"} %" PRIu64 "\n", heads[METRIC_PROVIDER_ERRORS].name, models[i]->name,
                       remote_failure_name((enum remote_failure)kind), known[i].failed_calls[kind]);
        }
    }
    begin(b, METRIC_PROVIDER_BUSY);
    for (size_t i = 0; i < count; i++) {
        buf_printf(b, "%s{model=\"%s\"} %.6f\n", heads[METRIC_PROVIDER_BUSY].name, models[i]->name, (double)known[i].busy_us / US_PER_SECOND);
    }
    begin(b, METRIC_PROVIDER_LOGGED);
    for (size_t i = 0; i < count; i++) {
        put_labelled(b, METRIC_PROVIDER_LOGGED, "model", models[i]->name, load_relaxed_u64(&host->figures->provider[i].vectors_logged));
    }
    begin(b, METRIC_PROVIDER_REFUSED);
    for (size_t i = 0; i < count; i++) {
        put_labelled(b, METRIC_PROVIDER_REFUSED, "model", models[i]->name, load_relaxed_u64(&host->figures->provider[i].refused_texts));
    }
}

bool handle_metrics(struct exchange *x, struct status *st) {
    const struct api_host *host = &x->api->host;
    struct library_view *views = NULL;
    size_t count = 0;
    /* pairs with: CONTROL_STATE; before that the directory is being filled */
    if (load_acquire_u32(&host->control->ready) != 0 && !store_list_libraries(host->reader, &views, &count, st)) {
        return false;
    }
    struct worker_sums *sums = (struct worker_sums *)pool_take(&x->pool, sizeof *sums);
    if (sums == NULL) {
        free(views);
        return status_no_memory(st);
    }
    sum_workers(host->control, sums);
    (void)reply_json(x, 200);
    x->response->content_type = "text/plain; version=0.0.4; charset=utf-8";
    struct buf *b = &x->response->body;
    const struct service_figures *f = host->figures;
    put_state(b, host);
    put_figures(b, f);
    put_recovery(b, f);
    put(b, METRIC_PUBLISHED_LSN, load_relaxed_u64(&host->control->published_lsn));
    put(b, METRIC_AUDIT_LOST, sums->audit_lost + load_relaxed_u64(&f->audit_lost));
    put_times(b, METRIC_QUEUE_TIME, &f->queue_time);
    put_times(b, METRIC_COMMIT_TIME, &f->commit_time);
    put_times(b, METRIC_APPEND_TIME, &f->append_time);
    put_times(b, METRIC_SYNC_TIME, &f->sync_time);
    put_times(b, METRIC_PUBLISH_TIME, &f->publish_time);
    put_sizes(b, METRIC_BATCH_OPS, &f->batch_ops);
    put_workers(b, host->control, sums);
    put_arenas(b, f);
    put_providers(b, host);
    bool good = put_libraries(x, b, views, count, st);
    free(views);
    return good;
}
