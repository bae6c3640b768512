/* top_draw.c - figures as lines of text, as JSON, and as what a terminal of some size shows. See top.h. */
#include "cli/top.h"

#include "base/json_out.h"
#include "base/utf8.h"
#include "cli/cli.h"

enum { NAME_COLUMNS = 30, SHOWN_LIBRARIES = 200, JSON_FORMAT = 1 };

/* --- for people --- */

/* 9.9 s ago, 3 min ago: what an age is read for is whether it is alarming. */
static const char *age(double seconds, char out[32]) {
    if (seconds < 0)
        snprintf(out, 32, "never");
    else if (seconds < 120)
        snprintf(out, 32, "%.0f s ago", seconds);
    else if (seconds < 7200)
        snprintf(out, 32, "%.0f min ago", seconds / 60);
    else if (seconds < 172800)
        snprintf(out, 32, "%.0f h ago", seconds / 3600);
    else
        snprintf(out, 32, "%.0f days ago", seconds / 86400);
    return out;
}

static const char *span(double seconds, char out[32]) {
    long s = (long)seconds;
    if (s >= 86400)
        snprintf(out, 32, "%ldd %02ld:%02ld", s / 86400, s % 86400 / 3600, s % 3600 / 60);
    else
        snprintf(out, 32, "%ld:%02ld:%02ld", s / 3600, s % 3600 / 60, s % 60);
    return out;
}

/* Two significant places are enough to watch: 0.34, 3.4, 34, 340 ms. */
static const char *duration(double seconds, char out[32]) {
    double ms = seconds * 1000;
    if (ms <= 0)
        snprintf(out, 32, "-");
    else if (ms < 10)
        snprintf(out, 32, "%.2f ms", ms);
    else if (ms < 1000)
        snprintf(out, 32, "%.0f ms", ms);
    else
        snprintf(out, 32, "%.1f s", seconds);
    return out;
}

/* Names come from clients: no control characters, and so many columns. */
static void put_name(struct buf *out, const char *name, unsigned columns) {
    struct slice s = slice_str(name);
    unsigned n = 0;
    for (size_t at = 0; at < s.len && n < columns; n++) {
        size_t begin = at;
        uint32_t c = utf8_next(s, &at);
        if (c < 0x20 || (c >= 0x7f && c < 0xa0))
            buf_put_u8(out, '?');
        else
            buf_put(out, s.data + begin, at - begin);
    }
    for (; n < columns; n++)
        buf_put_u8(out, ' ');
}

static void put_text(struct buf *out, const char *text) {
    put_name(out, text, (unsigned)strlen(text));
}

static void draw_head(const struct top_figures *f, const char *url, struct buf *out) {
    char up[32];
    buf_put_u8(out, TOP_HEADING);
    buf_put_str(out, "quire ");
    put_text(out, f->version);
    buf_put_str(out, "  ");
    put_text(out, url);
    buf_printf(out, "  up %s  ", span(f->uptime, up));
    put_text(out, f->status);
    buf_put_str(out, ": ");
    put_text(out, f->message);
    buf_printf(out, "\nworkers  %lld of %lld ready, %lld busy, %lld restarted   streams %.0f   ", (long long)f->workers_ready, (long long)f->workers_wanted,
               (long long)f->workers_busy, (long long)f->worker_restarts, f->streams);
    buf_printf(out, "requests %.1f/s, refused %.1f/s, failed %.1f/s\n", f->requests, f->client_errors, f->server_errors);
}

static void draw_times(struct buf *out, const char *name, const struct top_times *t) {
    char mean[32], p50[32], p99[32];
    put_name(out, name, 12);
    buf_printf(out, " %10.1f %10s %10s %10s\n", t->rate, duration(t->p50, p50), duration(t->p99, p99), duration(t->mean, mean));
}

static void draw_requests(const struct top_figures *f, struct buf *out) {
    buf_printf(out, "\n%c%-12s %10s %10s %10s %10s\n", TOP_HEADING, "REQUESTS", "a second", "p50", "p99", "mean");
    for (size_t i = 0; i < f->classes; i++)
        draw_times(out, f->class_of_route[i].name, &f->class_of_route[i].times);
    draw_times(out, "commit", &f->commit);
    draw_times(out, "sync", &f->sync);
    buf_put_str(out, "searches");
    for (size_t i = 0; i < f->modes; i++) {
        buf_put_str(out, i == 0 ? "     " : ", ");
        put_text(out, f->mode[i].name);
        buf_printf(out, " %.1f/s", f->mode[i].rate);
    }
    buf_printf(out, "\nwrites       %.1f operations/s, %.1f a commit, %.0f wait\n", f->operations, f->commit.rate > 0 ? f->operations / f->commit.rate : 0, f->queue);
}

static void draw_log(const struct top_figures *f, struct buf *out) {
    char bytes[32], lag[32], snapshot[32], verified[32], checkpoint[32];
    buf_printf(out, "log          LSN %.0f, %s in %.0f segment%s, %s to be archived\n", f->lsn, cli_bytes((uint64_t)f->log_bytes, bytes), f->segments,
               f->segments > 1 || f->segments < 1 ? "s" : "", cli_bytes((uint64_t)f->archive_lag_bytes, lag));
    buf_printf(out, "saved        snapshot %s (%.0f behind), verified %s, checkpoint %s\n", age(f->snapshot_age, snapshot), f->lsn > f->snapshot_lsn ? f->lsn - f->snapshot_lsn : 0,
               age(f->verified_age, verified), age(f->checkpoint_age, checkpoint));
    buf_printf(out, "behind       %.0f chunks wait for vectors, %.0f for links", f->pending, f->tail);
    if (f->providers > 0)
        buf_printf(out, "; %.0f of %.0f providers answer", f->providers_up, f->providers);
    buf_put_str(out, "\n");
}

static void draw_tasks(const struct top_figures *f, struct buf *out) {
    if (f->tasks == 0)
        return;
    buf_printf(out, "\n%c%-12s %-10s %10s\n", TOP_HEADING, "TASK", "state", "done");
    for (size_t i = 0; i < f->tasks; i++) {
        const struct top_task *t = &f->task[i];
        put_name(out, t->kind, 12);
        buf_put_str(out, " ");
        put_name(out, t->state, 10);
        if (t->total > 0)
            buf_printf(out, " %9.0f%%  ", 100.0 * (double)t->done / (double)t->total);
        else
            buf_printf(out, " %10s  ", "-");
        put_text(out, t->error);
        buf_put_str(out, "\n");
    }
}

static void draw_libraries(const struct top_figures *f, struct buf *out) {
    if (f->library_count == 0)
        return;
    buf_printf(out, "\n%c%-*s %10s %10s %10s %8s  %s\n", TOP_HEADING, NAME_COLUMNS, "LIBRARY", "documents", "chunks", "changes/s", "vectors", "state");
    for (size_t i = 0; i < f->library_count && i < SHOWN_LIBRARIES; i++) {
        const struct top_library *l = &f->libraries[i];
        double coverage = l->to_embed > 0 ? 100.0 * (double)l->embedded / (double)l->to_embed : 100.0;
        put_name(out, l->name, NAME_COLUMNS);
        buf_printf(out, " %10lld %10lld %10.1f %7.1f%%  ", (long long)l->documents, (long long)l->chunks, l->changes, coverage);
        put_text(out, l->state);
        buf_put_str(out, "\n");
    }
}

void top_draw(const struct top_figures *f, const char *url, struct buf *out) {
    draw_head(f, url, out);
    draw_requests(f, out);
    draw_log(f, out);
    draw_tasks(f, out);
    draw_libraries(f, out);
}

/* --- for a terminal --- */

/* As much of the line as fits; a newline would scroll at its end, so lines begin with where they stand. */
static void fit_line(struct slice line, unsigned row, unsigned columns, struct buf *out) {
    bool heading = line.len > 0 && line.data[0] == TOP_HEADING;
    size_t at = heading ? 1 : 0, begin = at;
    for (unsigned n = 0; at < line.len && n < columns; n++)
        (void)utf8_next(line, &at);
    buf_printf(out, "\033[%u;1H%s", row, heading ? "\033[1m" : "");
    buf_put(out, line.data + begin, at - begin);
    buf_put_str(out, heading ? "\033[0m\033[K" : "\033[K");
}

void top_fit(struct slice frame, unsigned columns, unsigned rows, struct buf *out) {
    unsigned row = 1;
    while (frame.len > 0 && row <= rows) {
        const uint8_t *newline = memchr(frame.data, '\n', frame.len);
        size_t length = newline == NULL ? frame.len : (size_t)(newline - frame.data);
        fit_line(slice_of(frame.data, length), row++, columns, out);
        length += newline == NULL ? 0 : 1;
        frame = slice_of(frame.data + length, frame.len - length);
    }
    if (row <= rows)
        buf_printf(out, "\033[%u;1H\033[J", row);
}

/* --- for programs --- */

static void json_times(struct json_out *j, const char *name, const struct top_times *t) {
    json_key(j, name);
    json_begin_object(j);
    json_member_double(j, "rate", t->rate);
    json_member_double(j, "mean_seconds", t->mean);
    json_member_double(j, "p50_seconds", t->p50);
    json_member_double(j, "p99_seconds", t->p99);
    json_end_object(j);
}

static void json_libraries(struct json_out *j, const struct top_figures *f) {
    json_key(j, "libraries");
    json_begin_array(j);
    for (size_t i = 0; i < f->library_count; i++) {
        const struct top_library *l = &f->libraries[i];
        struct slice name = slice_str(l->name);
        name.len = utf8_prefix(name, name.len);
        json_begin_object(j);
        json_member_cstring(j, "id", l->id);
        json_member_string(j, "name", name);
        json_member_int(j, "documents", l->documents);
        json_member_int(j, "chunks", l->chunks);
        json_member_double(j, "changes", l->changes);
        json_member_cstring(j, "state", l->state);
        json_end_object(j);
    }
    json_end_array(j);
}

void top_json(const struct top_figures *f, struct buf *out) {
    struct json_out j = json_out_to(out);
    json_begin_object(&j);
    json_member_uint(&j, "format", JSON_FORMAT);
    json_member_double(&j, "seconds", f->seconds);
    json_member_double(&j, "requests", f->requests);
    json_member_double(&j, "client_errors", f->client_errors);
    json_member_double(&j, "server_errors", f->server_errors);
    json_key(&j, "classes");
    json_begin_object(&j);
    for (size_t i = 0; i < f->classes; i++)
        json_times(&j, f->class_of_route[i].name, &f->class_of_route[i].times);
    json_end_object(&j);
    json_key(&j, "searches");
    json_begin_object(&j);
    for (size_t i = 0; i < f->modes; i++)
        json_member_double(&j, f->mode[i].name, f->mode[i].rate);
    json_end_object(&j);
    json_member_double(&j, "operations", f->operations);
    json_times(&j, "commit", &f->commit);
    json_times(&j, "sync", &f->sync);
    json_member_double(&j, "snapshot_age_seconds", f->snapshot_age);
    json_member_double(&j, "pending_vectors", f->pending);
    json_member_int(&j, "workers_ready", f->workers_ready);
    json_member_int(&j, "workers_wanted", f->workers_wanted);
    json_libraries(&j, f);
    json_end_object(&j);
}
