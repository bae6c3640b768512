/*
 * engine_filters.c - searching what matches a filter, and the exact scan.
 *
 * The filters match an exact share of the vectors. Some have nothing to do with the query (a hash of the row); some have: the space is cut into cells around
 * vectors of the set, and what matches are the cells nearest to the query (as when the query's topic is also the filter's), or the
 * farthest (a filter that has nothing near the query, which is what a graph finds hardest).
 */
#include "engine.h"

#include "base/clock.h"
#include "index/distance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CELLS = 256, WORD_BITS = 64, WHAT_ROOM = 96 };
enum likeness { UNRELATED, NEAR, FAR, LIKENESSES };

static const char *const LIKENESS[] = {"unrelated to the query", "near the query", "far from the query"};
static const double SHARES[] = {0.5, 0.1, 0.01, 0.001};
enum { SHARE_COUNT = sizeof SHARES / sizeof *SHARES };

static const double RECALL_GOAL = 0.95;
static const double RATE_GOAL = 0.5;
static const double FLOAT_ERROR = 1e-5;

struct cells {
    uint16_t *of_row;
    uint32_t pivots[CELLS]; /* rows */
    uint32_t count;
};

/* A filter a query, or one for all. */
struct filters {
    struct slot_set *sets;
    uint64_t *words;
    uint32_t *truth;
    uint32_t matches;
};

static uint64_t mixed(uint64_t x) {
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
    return x ^ (x >> 33);
}

static void cells_make(struct cells *c, const struct data *d) {
    c->count = d->vectors < CELLS ? d->vectors : CELLS;
    c->of_row = allocate(d->vectors, sizeof *c->of_row);
    for (uint32_t i = 0; i < c->count; i++) {
        c->pivots[i] = (uint32_t)((uint64_t)i * d->vectors / c->count);
    }
    for (uint32_t row = 0; row < d->vectors; row++) {
        float best = -2.0F;
        for (uint32_t i = 0; i < c->count; i++) {
            float dot = dot_product(data_row(d, row), data_row(d, c->pivots[i]), d->dimension);
            if (dot > best) {
                best = dot;
                c->of_row[row] = (uint16_t)i;
            }
        }
    }
}

static int compare_neighbors(const void *a, const void *b) {
    float x = ((const struct neighbor *)a)->distance;
    float y = ((const struct neighbor *)b)->distance;
    return (x > y) - (x < y);
}

/* Each row's key: it is among the first `matches` by (key, row). */
static void rank_cells(const struct cells *c, const struct data *d, const float *query, enum likeness likeness,
                       uint16_t rank[CELLS]) {
    struct neighbor order[CELLS];
    for (uint32_t i = 0; i < c->count; i++) {
        float dot = dot_product(query, data_row(d, c->pivots[i]), d->dimension);
        order[i] = (struct neighbor){likeness == NEAR ? -dot : dot, i};
    }
    qsort(order, c->count, sizeof order[0], compare_neighbors);
    for (uint32_t i = 0; i < c->count; i++) {
        rank[order[i].slot] = (uint16_t)i;
    }
}

/* The rows of the cells in the order of their ranks, until there are enough; the last cell is taken in part. */
static void choose_rows(const struct cells *c, const struct data *d, const uint16_t rank[CELLS], uint32_t matches,
                        uint64_t *words) {
    uint32_t sizes[CELLS] = {0};
    uint32_t room[CELLS] = {0};
    uint32_t left = matches;

    for (uint32_t row = 0; row < d->vectors; row++) {
        sizes[rank[c->of_row[row]]]++;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        room[i] = sizes[i] < left ? sizes[i] : left;
        left -= room[i];
    }
    for (uint32_t row = 0; row < d->vectors; row++) {
        uint32_t *r = &room[rank[c->of_row[row]]];
        if (*r > 0) {
            --*r;
            words[row / WORD_BITS] |= UINT64_C(1) << row % WORD_BITS;
        }
    }
}

/* The rows with the smallest hashes. */
static void choose_unrelated(const struct data *d, uint32_t matches, uint64_t *words) {
    struct neighbor *order = allocate(d->vectors, sizeof *order);
    for (uint32_t row = 0; row < d->vectors; row++) {
        order[row] = (struct neighbor){(float)(mixed(row + 1) >> 40), row};
    }
    qsort(order, d->vectors, sizeof *order, compare_neighbors);
    for (uint32_t i = 0; i < matches; i++) {
        words[order[i].slot / WORD_BITS] |= UINT64_C(1) << order[i].slot % WORD_BITS;
    }
    free(order);
}

static void truth_of_one(const struct data *d, uint32_t q, const uint64_t *words, uint32_t *truth) {
    struct neighbor storage[K];
    struct topk best;

    topk_init(&best, storage, K);
    for (uint32_t row = 0; row < d->vectors; row++) {
        if ((words[row / WORD_BITS] >> row % WORD_BITS & 1) != 0) {
            topk_offer(&best, (struct neighbor){1.0F - dot_product(data_query(d, q), data_row(d, row), d->dimension), row});
        }
    }
    size_t n = topk_finish(&best);
    for (size_t i = 0; i < K; i++) {
        truth[i] = i < n ? storage[i].slot : CONTENDER_NONE;
    }
}

static void filters_make(struct filters *f, const struct data *d, const struct cells *c, enum likeness likeness, double share) {
    size_t words_each = ((size_t)d->vectors + WORD_BITS - 1) / WORD_BITS;
    bool one = likeness == UNRELATED;
    uint16_t rank[CELLS];

    f->matches = (uint32_t)((double)d->vectors * share);
    f->words = allocate(one ? words_each : words_each * d->queries, sizeof *f->words);
    f->sets = allocate(d->queries, sizeof *f->sets);
    f->truth = allocate((size_t)d->queries * K, sizeof *f->truth);
    if (one) {
        choose_unrelated(d, f->matches, f->words);
    }
    for (uint32_t q = 0; q < d->queries; q++) {
        uint64_t *words = one ? f->words : f->words + words_each * q;
        if (!one) {
            rank_cells(c, d, data_query(d, q), likeness, rank);
            choose_rows(c, d, rank, f->matches, words);
        }
        f->sets[q] = (struct slot_set){words, d->vectors, f->matches};
        truth_of_one(d, q, words, f->truth + (size_t)q * K);
    }
}

static void filters_free(struct filters *f) {
    free(f->words);
    free(f->sets);
    free(f->truth);
}

static struct measured filtered_round(const struct entrant *e, const struct data *d, const struct filters *f, uint32_t ef) {
    uint32_t *found = allocate((size_t)d->queries * K, sizeof *found);
    struct neighbor best[K];
    int64_t start = clock_monotonic_us();

    for (uint32_t q = 0; q < d->queries; q++) {
        size_t n = quire_search(e->engine, e->searcher, data_query(d, q), K, ef, &f->sets[q], best);
        for (size_t i = 0; i < K; i++) {
            found[(size_t)q * K + i] = i < n ? best[i].slot : CONTENDER_NONE;
        }
    }
    struct measured m = {ef, 0.0, (double)d->queries / seconds_since(start)};
    m.recall = data_recall(d, f->truth, found);
    free(found);
    return m;
}

/* Up to the first ef that reaches the goal, and one more. */
static void filtered_curve(const struct bench *b, const struct filters *f, struct curve *c) {
    bool reached = false;

    c->count = 0;
    for (uint32_t i = 0; i < b->o->ef_count; i++) {
        struct measured best = {0};
        for (uint32_t round = 0; round < b->o->rounds; round++) {
            struct measured m = filtered_round(&b->field[0], &b->data, f, b->o->efs[i]);
            best = m.per_second > best.per_second ? m : best;
        }
        c->points[c->count++] = best;
        if (reached) {
            return;
        }
        reached = best.recall >= RECALL_GOAL;
    }
}

static void report_filters(const struct curve *c, const struct filters *f, double share, enum likeness likeness,
                           double unfiltered) {
    char what[WHAT_ROOM];
    double rate = curve_rate(c, RECALL_GOAL);
    uint32_t i = 0;

    while (i + 1 < c->count && c->points[i].recall < RECALL_GOAL) {
        i++;
    }
    printf("  %6.1f%% %-22s %7u match: ef %4u recall %.4f %8.0f per s; at recall %.2f %8.0f\n", share * 100.0, LIKENESS[likeness],
           f->matches, c->points[i].ef, c->points[i].recall, c->points[i].per_second, RECALL_GOAL, rate);
    (void)snprintf(what, sizeof what, "%.1f%% %s: recall reached", share * 100.0, LIKENESS[likeness]);
    verdict_at_least(what, c->points[i].recall, RECALL_GOAL);
    (void)snprintf(what, sizeof what, "%.1f%% %s: rate over the unfiltered", share * 100.0, LIKENESS[likeness]);
    verdict_at_least(what, rate / unfiltered, RATE_GOAL);
}

void run_filters(struct bench *b) {
    struct cells cells = {0};

    field_enter(b, false);
    field_measure(b);
    double unfiltered = curve_rate(&b->field[0].curve, RECALL_GOAL);
    printf("\nfilters; without one %.0f per s at recall %.2f\n", unfiltered, RECALL_GOAL);
    cells_make(&cells, &b->data);
    for (uint32_t i = 0; i < SHARE_COUNT; i++) {
        for (enum likeness likeness = UNRELATED; likeness < LIKENESSES; likeness++) {
            struct filters f = {0};
            struct curve c;
            filters_make(&f, &b->data, &cells, likeness, SHARES[i]);
            filtered_curve(b, &f, &c);
            report_filters(&c, &f, SHARES[i], likeness, unfiltered);
            filters_free(&f);
        }
    }
    free(cells.of_row);
}

/* --- the exact scan --------------------------------------------------------------------------------------------------- */

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
    int64_t start = clock_monotonic_us();

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
    return queries / seconds_since(start);
}

void run_exact(struct bench *b) {
    const struct data *d = &b->data;
    struct neighbor found[K];
    double ours = 0.0;
    double floats = 0.0;
    uint32_t same = 0;

    field_enter(b, false);
    for (uint32_t round = 0; round < b->o->rounds; round++) {
        int64_t start = clock_monotonic_us();
        same = 0;
        for (uint32_t q = 0; q < d->queries; q++) {
            size_t n = quire_search_exact(b->field[0].engine, b->field[0].searcher, data_query(d, q), K, found);
            same += same_as_float(d, q, found, n);
        }
        double rate = d->queries / seconds_since(start);
        ours = rate > ours ? rate : ours;
        rate = float_scan_rate(d, d->queries);
        floats = rate > floats ? rate : floats;
    }
    printf("\nexact scan of %u: %.0f per s; of float32 alone %.0f per s (%.2f)\n", d->vectors, ours, floats, ours / floats);
    verdict_at_least("share of answers that are those of float32", (double)same / d->queries, 1.0);
}
