/*
 * engine.h - what the files of bench/engine share.
 *
 *   engine.c            options, and which part of the run does what
 *   measure.c           figures and goals
 *   engine_data.c       vectors, queries, and what an exact search finds
 *   engine_field.c      the contenders: built once, searched in turns, their curves of recall against speed
 *   engine_curves.c     --curves --build --memory --large --rate
 *   engine_together.c   --processes --insert: searching while others do something
 *   engine_exact.c      --exact
 *   engine_churn.c      --churn
 *   engine_quire.c      our engine; hnswlib_contender.cpp and faiss_contender.cpp the others
 */
#ifndef QUIRE_BENCH_ENGINE_H
#define QUIRE_BENCH_ENGINE_H

#include "contender.h"
#include "engine_quire.h"
#include "measure.h"

enum { K = 10, MAX_FIELD = 4 };

struct options {
    uint32_t vectors;
    uint32_t queries;
    uint32_t dimension;
    uint32_t m;
    uint32_t ef_construction;
    uint32_t bits;
    uint64_t seed;
    const char *kernel;
    const char *cache;   /* directory for data and the other libraries' graphs; NULL: none */
    const char *against; /* the only other contender; NULL: all. An empty name: none */
    uint32_t efs[MAX_POINTS];
    uint32_t ef_count;
    uint32_t rounds;
    uint32_t threads;
    double recall;
    uint32_t seconds;
    unsigned modes;
};

struct data {
    uint32_t vectors;
    uint32_t queries;
    uint32_t dimension;
    size_t stride;   /* of a row, in floats */
    float *rows;     /* the vectors, then the queries */
    uint32_t *truth; /* K row numbers a query, nearest first */
    const struct options *o;
};

struct took {
    double wall;
    double cpu;
};

/* A contender with all of the data in it. */
struct entrant {
    const struct contender *kind;
    void *engine;
    void *searcher;
    struct took took; /* zero when it came from the cache */
    struct curve curve;
};

struct bench {
    const struct options *o;
    struct data data;
    struct entrant field[MAX_FIELD]; /* ours is the first */
    uint32_t entrants;
};

/* --- engine_data.c --- */
void data_make(struct data *d, const struct options *o, uint32_t vectors);
void data_free(struct data *d);
static inline const float *data_row(const struct data *d, uint32_t row) {
    return d->rows + (size_t)row * d->stride;
}
static inline const float *data_query(const struct data *d, uint32_t q) {
    return data_row(d, d->vectors + q);
}
/* `count` more vectors of the same process, rows of d->stride, none of them in the data; the caller's to free. */
float *data_more(const struct data *d, uint32_t count);
/* The nearest rows to each query, K each, by float32; rows that `accepted` (a bit a row, NULL: all) leaves out are not looked at. */
void data_truth(const struct data *d, const float *rows, uint32_t count, const uint64_t *accepted, uint32_t *truth);
/* How many of the K true ones are among what was found, over all queries, as a share. */
double data_recall(const struct data *d, const uint32_t *truth, const uint32_t *found);

/* --- engine_field.c --- */
/* Ours and the others, or the one that o->against names; those that can be kept in o->cache come from there. */
void field_enter(struct bench *b, bool fresh);
void field_leave(struct bench *b);
struct entrant *field_find(struct bench *b, const char *name);
struct took entrant_build(struct entrant *e, const struct data *d, unsigned threads);
struct measured entrant_round(const struct entrant *e, const struct data *d, uint32_t ef);
/* The curves of all, measured in turns; the best of the rounds counts. Does nothing where they are there. */
void field_measure(struct bench *b);
/* The first of o->efs that reaches a recall; the last where none does. */
uint32_t entrant_ef(const struct entrant *e, const struct data *d, double recall);

/* --- the parts of a run --- */
void run_curves(struct bench *b);
void run_build(struct bench *b);
void run_memory(struct bench *b);
void run_large(struct bench *b);
void run_rate(struct bench *b);
void run_processes(struct bench *b);
void run_insert(struct bench *b);
void run_exact(struct bench *b);
void run_churn(struct bench *b);

#endif
