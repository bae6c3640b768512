/* engine_exact.c - the exact scan: how fast, and whether its answers are those of float32. */
#include "engine.h"

#include "index/distance.h"

#include <stdio.h>
#include <stdlib.h>

static const double FLOAT_ERROR = 1e-5;

/* Whether an answer is that of float32: the same rows in the same order, at the same distances. */
static bool same_as_float(const struct data *d, uint32_t q, const struct neighbor *found, size_t count) {
    for (size_t i = 0; i < K; i++) {
        uint32_t row = d->truth[(size_t)q * K + i];
        if (i >= count || row == CONTENDER_NONE || found[i].slot != row) {
            return i >= count && row == CONTENDER_NONE;
        }
        float distance = cosine_distance(dot_product(data_query(d, q), data_row(d, row), d->dimension));
        float difference = found[i].distance - distance;
        if (difference > (float)FLOAT_ERROR || difference < -(float)FLOAT_ERROR) {
            return false;
        }
    }
    return true;
}

/* One query after the other over all rows in float32, four rows at a time. */
static double float_scan_rate(const struct data *d, uint32_t queries) {
    double start = thread_seconds();

    for (uint32_t q = 0; q < queries; q++) {
        struct neighbor storage[K];
        struct topk best;
        topk_init(&best, storage, K);
        for (uint32_t row = 0; row + DOT_ROWS <= d->vectors; row += DOT_ROWS) {
            const float *rows[DOT_ROWS] = {data_row(d, row), data_row(d, row + 1), data_row(d, row + 2), data_row(d, row + 3)};
            float dots[DOT_ROWS];
            dot_product_rows(data_query(d, q), rows, d->dimension, dots);
            for (uint32_t i = 0; i < DOT_ROWS; i++) {
                topk_offer(&best, (struct neighbor){1.0F - dots[i], row + i});
            }
        }
    }
    return queries / (thread_seconds() - start);
}

/* All queries, `batch` at a time; *ret_same: how many answers are those of float32. */
static double scan_rate(const struct bench *b, uint32_t batch, uint32_t *ret_same) {
    const struct data *d = &b->data;
    struct neighbor *found = allocate((size_t)d->queries * K, sizeof *found);
    size_t *counts = allocate(d->queries, sizeof *counts);
    double start = thread_seconds();

    for (uint32_t q = 0; q < d->queries; q += batch) {
        uint32_t count = d->queries - q < batch ? d->queries - q : batch;
        quire_search_exact(b->field[0].engine, b->field[0].searcher, data_query(d, q), d->stride, count, K, found + (size_t)q * K,
                           counts + q);
    }
    double rate = d->queries / (thread_seconds() - start);
    *ret_same = 0;
    for (uint32_t q = 0; q < d->queries; q++) {
        *ret_same += same_as_float(d, q, found + (size_t)q * K, counts[q]);
    }
    free(found);
    free(counts);
    return rate;
}

static double greater(double a, double b) {
    return a > b ? a : b;
}

void run_exact(struct bench *b) {
    const struct data *d = &b->data;
    double alone = 0.0;
    double together = 0.0;
    double floats = 0.0;
    uint32_t same = d->queries;

    field_enter(b, false);
    for (uint32_t round = 0; round < b->o->rounds; round++) {
        uint32_t n;
        alone = greater(alone, scan_rate(b, 1, &n));
        same = n < same ? n : same;
        together = greater(together, scan_rate(b, QUIRE_EXACT_MOST, &n));
        same = n < same ? n : same;
        floats = greater(floats, float_scan_rate(d, d->queries));
    }
    printf("\nexact scans of %u a second: %.0f, with %d queries in one pass %.0f; of float32 alone %.0f (%.2f and %.2f)\n",
           d->vectors, alone, QUIRE_EXACT_MOST, together, floats, alone / floats, together / floats);
    verdict_at_least("share of answers that are those of float32", (double)same / d->queries, 1.0);
}
