/* engine_exact.c - the exact scan: how fast, and whether its answers are those of float32. */
#include "engine.h"

#include "index/distance.h"

#include <stdio.h>

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

void run_exact(struct bench *b) {
    const struct data *d = &b->data;
    struct neighbor found[K];
    double ours = 0.0;
    double floats = 0.0;
    uint32_t same = 0;

    field_enter(b, false);
    for (uint32_t round = 0; round < b->o->rounds; round++) {
        double start = thread_seconds();
        same = 0;
        for (uint32_t q = 0; q < d->queries; q++) {
            size_t n = quire_search_exact(b->field[0].engine, b->field[0].searcher, data_query(d, q), K, found);
            same += same_as_float(d, q, found, n);
        }
        double rate = d->queries / (thread_seconds() - start);
        ours = rate > ours ? rate : ours;
        rate = float_scan_rate(d, d->queries);
        floats = rate > floats ? rate : floats;
    }
    printf("\nexact scan of %u: %.0f per s; of float32 alone %.0f per s (%.2f)\n", d->vectors, ours, floats, ours / floats);
    verdict_at_least("share of answers that are those of float32", (double)same / d->queries, 1.0);
}
