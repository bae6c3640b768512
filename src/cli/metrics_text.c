/* metrics_text.c - see metrics_text.h. */
#include "cli/metrics_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { FIRST_CAP = 512, NUMBER_MAX = 64 };

static bool add_metric(struct metrics_text *m, const struct metric *metric, struct status *st) {
    if (m->count == m->cap) {
        size_t cap = m->cap == 0 ? FIRST_CAP : m->cap * 2;
        struct metric *grown = realloc(m->all, cap * sizeof *grown);
        if (grown == NULL)
            return status_no_memory(st);
        m->all = grown;
        m->cap = cap;
    }
    m->all[m->count++] = *metric;
    return true;
}

/* Where the labels end: at the brace that is in no quotes. NULL: nowhere. */
static const char *labels_end(const char *at, const char *end) {
    bool quoted = false;
    for (; at < end; at++) {
        if (quoted && *at == '\\')
            at++;
        else if (*at == '"')
            quoted = !quoted;
        else if (*at == '}' && !quoted)
            return at;
    }
    return NULL;
}

/* "name{labels} value", with perhaps a time behind it. */
static bool parse_line(const char *line, const char *end, struct metric *ret) {
    char number[NUMBER_MAX];
    const char *at = line;
    while (at < end && *at != '{' && *at != ' ')
        at++;
    int name = (int)(at - line);
    if (name == 0 || name >= METRIC_NAME_MAX || at == end)
        return false;
    snprintf(ret->name, sizeof ret->name, "%.*s", name, line);
    ret->labels[0] = '\0';
    if (*at == '{') {
        const char *close = labels_end(at + 1, end);
        if (close == NULL || close - at > METRIC_LABELS_MAX)
            return false;
        snprintf(ret->labels, sizeof ret->labels, "%.*s", (int)(close - at - 1), at + 1);
        at = close + 1;
    }
    while (at < end && *at == ' ')
        at++;
    if (end - at >= NUMBER_MAX)
        end = at + NUMBER_MAX - 1;
    snprintf(number, sizeof number, "%.*s", (int)(end - at), at);
    char *stop;
    ret->value = strtod(number, &stop);
    return stop > number;
}

bool metrics_parse(struct slice text, struct metrics_text *ret, struct status *st) {
    const char *at = (const char *)text.data;
    const char *end = at + text.len;
    *ret = (struct metrics_text){0};
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline == NULL ? end : newline;
        struct metric metric;
        if (*at != '#' && parse_line(at, stop, &metric) && !add_metric(ret, &metric, st)) {
            metrics_fini(ret);
            return false;
        }
        at = stop + 1;
    }
    return true;
}

void metrics_fini(struct metrics_text *m) {
    free(m->all);
    *m = (struct metrics_text){0};
}

bool metric_label(const struct metric *m, const char *label, char *out, size_t room) {
    size_t length = strlen(label);
    const char *at = m->labels;
    while (*at != '\0') {
        const char *equals = strstr(at, "=\"");
        if (equals == NULL)
            return false;
        bool wanted = (size_t)(equals - at) == length && strncmp(at, label, length) == 0;
        size_t n = 0;
        for (at = equals + 2; *at != '\0' && *at != '"'; at++) {
            if (*at == '\\' && at[1] != '\0')
                at++;
            if (wanted && n + 1 < room)
                out[n++] = *at;
        }
        if (wanted && room > 0) {
            out[n] = '\0';
            return true;
        }
        at += *at == '"' ? 1 : 0;
        at += *at == ',' ? 1 : 0;
    }
    return false;
}

bool metrics_value(const struct metrics_text *m, const char *name, double *ret) {
    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->all[i].name, name) == 0) {
            *ret = m->all[i].value;
            return true;
        }
    return false;
}

static bool has_label(const struct metric *m, const char *label, const char *value) {
    char have[METRIC_LABELS_MAX];
    return label == NULL || (metric_label(m, label, have, sizeof have) && strcmp(have, value) == 0);
}

bool metrics_sum(const struct metrics_text *m, const char *name, const char *label, const char *value, double *ret) {
    double sum = 0;
    bool any = false;
    for (size_t i = 0; i < m->count; i++)
        if (strcmp(m->all[i].name, name) == 0 && has_label(&m->all[i], label, value)) {
            sum += m->all[i].value;
            any = true;
        }
    if (any)
        *ret = sum;
    return any;
}

/* --- histograms --- */

static void add_bucket(struct metrics_histogram *h, double bound, double count) {
    size_t i = 0;
    while (i < h->buckets && h->bound[i] < bound)
        i++;
    if (i == h->buckets || h->bound[i] > bound) {
        if (h->buckets == METRICS_BUCKETS_MAX)
            return;
        memmove(&h->bound[i + 1], &h->bound[i], (h->buckets - i) * sizeof h->bound[0]);
        memmove(&h->count[i + 1], &h->count[i], (h->buckets - i) * sizeof h->count[0]);
        h->bound[i] = bound;
        h->count[i] = 0;
        h->buckets++;
    }
    h->count[i] += count;
}

static bool read_histogram(const struct metrics_text *m, const char *name, const char *label, const char *value, struct metrics_histogram *ret) {
    char bucket[METRIC_NAME_MAX + 8], sum[METRIC_NAME_MAX + 8], bound[METRIC_LABELS_MAX];
    snprintf(bucket, sizeof bucket, "%s_bucket", name);
    snprintf(sum, sizeof sum, "%s_sum", name);
    *ret = (struct metrics_histogram){.buckets = 0};
    for (size_t i = 0; i < m->count; i++) {
        const struct metric *one = &m->all[i];
        if (strcmp(one->name, bucket) == 0 && has_label(one, label, value) && metric_label(one, "le", bound, sizeof bound))
            add_bucket(ret, strtod(bound, NULL), one->value);
    }
    (void)metrics_sum(m, sum, label, value, &ret->sum);
    return ret->buckets > 0;
}

bool metrics_histogram(const struct metrics_text *now, const struct metrics_text *before, const char *name, const char *label, const char *value,
                       struct metrics_histogram *ret) {
    struct metrics_histogram last;
    if (!read_histogram(now, name, label, value, ret))
        return false;
    if (before == NULL || !read_histogram(before, name, label, value, &last) || last.buckets != ret->buckets ||
        last.count[last.buckets - 1] > ret->count[ret->buckets - 1])
        return true;
    for (size_t i = 0; i < ret->buckets; i++)
        ret->count[i] -= last.count[i];
    ret->sum -= last.sum;
    return true;
}

double metrics_histogram_count(const struct metrics_histogram *h) {
    return h->buckets == 0 ? 0 : h->count[h->buckets - 1];
}

double metrics_quantile(const struct metrics_histogram *h, double q) {
    double wanted = q * metrics_histogram_count(h);
    double below = 0, lower = 0;
    if (metrics_histogram_count(h) <= 0)
        return 0;
    for (size_t i = 0; i < h->buckets; i++) {
        if (h->count[i] >= wanted && h->count[i] > below)
            return isinf(h->bound[i]) ? lower : lower + (h->bound[i] - lower) * (wanted - below) / (h->count[i] - below);
        below = h->count[i];
        lower = isinf(h->bound[i]) ? lower : h->bound[i];
    }
    return lower;
}
