/* engine_churn.c - half of all vectors replaced one by one, each by another of the same process: what is the graph worth then, beside
 * one that is built of the same vectors at once? This is the graph without any help: the store makes a library's files anew when a named
 * share of its slots is deleted, which gives the fresh build. */
#include "engine.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double LOSS_GOAL = 0.01;

struct churn {
    struct bench *b;
    struct quire *q;
    struct quire_searcher *searcher;
    float *rows;           /* as they are now; row i is vector i of the data, or what has replaced it */
    uint32_t *row_of_slot; /* room for capacity */
    uint32_t capacity;
    uint32_t *truth;
};

/* Every other row, in an order that has nothing to do with that of insertion. */
static uint32_t row_to_replace(const struct churn *c, uint32_t i) {
    static const uint64_t STEP = 7919; /* a prime */
    uint32_t half = c->b->data.vectors / 2;
    uint64_t step = half % STEP == 0 ? 1 : STEP;
    return (uint32_t)(i * step % half) * 2;
}

static void replace_half(struct churn *c) {
    const struct data *d = &c->b->data;
    uint32_t half = d->vectors / 2;
    float *more = data_more(d, half);
    int64_t start = clock_monotonic_us();

    for (uint32_t i = 0; i < half; i++) {
        uint32_t row = row_to_replace(c, i);
        const float *vector = more + (size_t)i * d->stride;
        memcpy(c->rows + (size_t)row * d->stride, vector, d->stride * sizeof *vector);
        /* The rows of the data lie in slots of their numbers, and each is replaced once. */
        uint32_t slot = quire_replace(c->q, c->searcher, row, vector);
        if (slot >= c->capacity) {
            die("a slot beyond the room");
        }
        c->row_of_slot[row] = CONTENDER_NONE;
        c->row_of_slot[slot] = row;
    }
    double seconds = seconds_since(start);
    printf("\n%u of %u vectors replaced, one thread: %.0f per s\n", half, d->vectors, half / seconds);
    free(more);
}

static struct measured churned_round(const struct churn *c, uint32_t ef) {
    const struct data *d = &c->b->data;
    uint32_t *found = allocate((size_t)d->queries * K, sizeof *found);
    struct contender_searches searches = {data_query(d, 0), d->stride, d->queries, K, ef, found};
    double start = thread_seconds();

    if (!contender_quire.search(c->q, c->searcher, &searches)) {
        die("out of memory");
    }
    struct measured m = {ef, 0.0, (double)d->queries / (thread_seconds() - start)};
    for (size_t i = 0; i < (size_t)d->queries * K; i++) {
        found[i] = found[i] < c->capacity ? c->row_of_slot[found[i]] : CONTENDER_NONE;
    }
    m.recall = data_recall(d, c->truth, found);
    free(found);
    return m;
}

static void churned_curve(const struct churn *c, struct curve *curve) {
    *curve = (struct curve){.count = c->b->o->ef_count};
    for (uint32_t i = 0; i < curve->count; i++) {
        for (uint32_t round = 0; round < c->b->o->rounds; round++) {
            struct measured m = churned_round(c, c->b->o->efs[i]);
            curve->points[i] = m.per_second > curve->points[i].per_second ? m : curve->points[i];
        }
    }
}

/* A graph of the rows as they are now, built at once. */
static void fresh_curve(const struct churn *c, struct curve *curve) {
    struct bench b = {.o = c->b->o, .data = c->b->data, .entrants = 1};

    b.data.rows = allocate((size_t)(b.data.vectors + b.data.queries) * b.data.stride, sizeof *b.data.rows);
    memcpy(b.data.rows, c->rows, (size_t)b.data.vectors * b.data.stride * sizeof *b.data.rows);
    memcpy(b.data.rows + (size_t)b.data.vectors * b.data.stride, data_query(&c->b->data, 0),
           (size_t)b.data.queries * b.data.stride * sizeof *b.data.rows);
    b.data.truth = c->truth;
    b.field[0] = (struct entrant){.kind = &contender_quire};
    b.field[0].took = entrant_build(&b.field[0], &b.data, b.o->threads);
    b.field[0].searcher = contender_quire.searcher_new(b.field[0].engine);
    field_measure(&b);
    *curve = b.field[0].curve;
    field_leave(&b);
    free(b.data.rows);
}

static double greatest_loss(const struct curve *fresh, const struct curve *churned) {
    double most = -1.0;
    for (uint32_t i = 0; i < fresh->count; i++) {
        double loss = fresh->points[i].recall - churned->points[i].recall;
        most = loss > most ? loss : most;
    }
    return most;
}

static void report(const struct curve *fresh, const struct curve *churned) {
    printf("  ef          fresh recall   per s      replaced recall   per s\n");
    for (uint32_t i = 0; i < fresh->count; i++) {
        printf("  %-6u            %.4f %7.0f             %.4f  %7.0f\n", fresh->points[i].ef, fresh->points[i].recall,
               fresh->points[i].per_second, churned->points[i].recall, churned->points[i].per_second);
    }
    verdict_at_most("recall lost at the same ef, where it is most", greatest_loss(fresh, churned), LOSS_GOAL);
}

void run_churn(struct bench *b) {
    const struct data *d = &b->data;
    struct churn c = {.b = b, .capacity = d->vectors + d->vectors / 2};
    struct contender_shape shape = {d->dimension, c.capacity, b->o->m, b->o->ef_construction, b->o->bits};
    struct curve churned;
    struct curve fresh;

    c.q = quire_new(&shape);
    if (c.q == NULL || !contender_quire.insert_all(c.q, d->rows, d->stride, d->vectors, b->o->threads)) {
        die("out of memory");
    }
    c.searcher = quire_searcher_new(c.q);
    c.rows = allocate((size_t)d->vectors * d->stride, sizeof *c.rows);
    c.row_of_slot = allocate(c.capacity, sizeof *c.row_of_slot);
    c.truth = allocate((size_t)d->queries * K, sizeof *c.truth);
    memcpy(c.rows, d->rows, (size_t)d->vectors * d->stride * sizeof *c.rows);
    for (uint32_t slot = 0; slot < c.capacity; slot++) {
        c.row_of_slot[slot] = slot < d->vectors ? slot : CONTENDER_NONE;
    }
    replace_half(&c);
    data_truth(d, c.rows, d->vectors, NULL, c.truth);
    churned_curve(&c, &churned);
    quire_describe(c.q);
    quire_searcher_free(c.searcher);
    quire_free(c.q);
    fresh_curve(&c, &fresh);
    report(&fresh, &churned);
    free(c.rows);
    free(c.row_of_slot);
    free(c.truth);
}
