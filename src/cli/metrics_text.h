/*
 * metrics_text.h - reading what /metrics says, in the text format of Prometheus. By names and labels only: a server of another version has others, and
 * what is not there is simply not there.
 */
#ifndef QUIRE_CLI_METRICS_TEXT_H
#define QUIRE_CLI_METRICS_TEXT_H

#include "base/buf.h"

enum { METRIC_NAME_MAX = 96, METRIC_LABELS_MAX = 192 };

struct metric {
    char name[METRIC_NAME_MAX];
    char labels[METRIC_LABELS_MAX]; /* what stands between the braces, as it stands there; "" without */
    double value;
};

/* In the order in which they came. */
struct metrics_text {
    struct metric *all;
    size_t count, cap;
};

/* Lines that are none are passed over. false: no memory. *ret is the caller's to free. */
MUST_CHECK bool metrics_parse(struct slice text, struct metrics_text *ret, struct status *st);
void metrics_fini(struct metrics_text *m); /* takes a zeroed one */

/* The value of a label; false: there is none. */
bool metric_label(const struct metric *m, const char *label, char *out, size_t room);
/* The first of that name; *ret untouched and false: there is none. */
bool metrics_value(const struct metrics_text *m, const char *name, double *ret);
/* The sum over all of that name; where `label` is not NULL, of those whose label has that value. false: there is none. */
bool metrics_sum(const struct metrics_text *m, const char *name, const char *label, const char *value, double *ret);

/* A histogram between two readings of it, summed over all labels but le, or over those whose `label` is `value`. */
enum { METRICS_BUCKETS_MAX = 128 };
struct metrics_histogram {
    double bound[METRICS_BUCKETS_MAX]; /* upper, ascending; the last may be INFINITY */
    double count[METRICS_BUCKETS_MAX]; /* cumulative */
    size_t buckets;
    double sum;
};
/* `name` without _bucket. before NULL, or without it, or greater (the server was started anew): since the server's start. False: there is none. */
bool metrics_histogram(const struct metrics_text *now, const struct metrics_text *before, const char *name, const char *label, const char *value,
                       struct metrics_histogram *ret);
double metrics_histogram_count(const struct metrics_histogram *h);
/* The value that the share q (0 to 1) of all is at or below, interpolated within its bucket; the last bound where it is above all of them; 0 of none. */
double metrics_quantile(const struct metrics_histogram *h, double q);

#endif
