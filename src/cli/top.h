/*
 * top.h - what `quire top` makes of two readings of a server: figures, and a picture of them. Pure: no terminal, no network.
 *
 * All rates are of the time between the readings. Metrics are found by name; those that a server does not have are 0 and lines about them are left out.
 */
#ifndef QUIRE_CLI_TOP_H
#define QUIRE_CLI_TOP_H

#include "cli/metrics_text.h"

#include <json-c/json.h>

enum { TOP_CLASSES = 8, TOP_MODES = 8, TOP_NAME_MAX = 96, TOP_TASKS = 10 };

/* What the server said at one moment; the JSON may be NULL. */
struct top_reading {
    struct metrics_text metrics;
    struct json_object *health, *tasks;
    int64_t at_us;   /* monotonic */
    int64_t wall_us;
};
void top_reading_fini(struct top_reading *r);

/* Times in seconds, rates a second. */
struct top_times {
    double rate, mean, p50, p99;
};

struct top_class {
    char name[TOP_NAME_MAX];
    struct top_times times;
};

struct top_mode {
    char name[TOP_NAME_MAX];
    double rate;
};

struct top_library {
    char id[64];
    char name[TOP_NAME_MAX];
    int64_t documents, chunks, embedded, to_embed;
    double changes; /* documents and chunks that came or went, a second */
    char state[32];
};

struct top_task {
    char kind[32], state[32], error[TOP_NAME_MAX];
    int64_t done, total;
};

struct top_figures {
    char version[32], status[32], message[TOP_NAME_MAX];
    double seconds, uptime;
    double requests, client_errors, server_errors;
    struct top_class class_of_route[TOP_CLASSES];
    size_t classes;
    struct top_mode mode[TOP_MODES];
    size_t modes;
    double operations, queue;
    struct top_times commit, sync;
    double lsn, log_bytes, segments, archive_lag_bytes;
    double snapshot_age, snapshot_lsn, verified_age, checkpoint_age; /* seconds; -1: there is none */
    double pending, tail;
    int64_t workers_wanted, workers_ready, workers_busy, worker_restarts;
    double streams, providers, providers_up;
    struct top_library *libraries; /* the busiest first, then the largest */
    size_t library_count;
    struct top_task task[TOP_TASKS]; /* the newest first */
    size_t tasks;
};

/* false: no memory. */
MUST_CHECK bool top_figure(const struct top_reading *now, const struct top_reading *before, struct top_figures *ret, struct status *st);
void top_figures_fini(struct top_figures *f); /* takes a zeroed one */

/* Lines, each with its newline; one that is a heading begins with TOP_HEADING. Control characters of names are '?'. */
#define TOP_HEADING '\001'
void top_draw(const struct top_figures *f, const char *url, struct buf *out);
void top_json(const struct top_figures *f, struct buf *out);
/* The frame for a terminal of that size: cut to it, headings bold, each line cleared to its end. */
void top_fit(struct slice frame, unsigned columns, unsigned rows, struct buf *out);

#endif
