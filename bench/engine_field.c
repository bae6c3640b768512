/* engine_field.c - the contenders: built, searched in turns, and their curves of recall against searches per second. */
#include "engine.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BUILD_THREADS = 2, PATH_ROOM = 4096, OTHERS_M = 16, OTHERS_EF_CONSTRUCTION = 200 };

static const struct contender *const CONTENDERS[] = {
    &contender_quire,
#ifdef HAVE_HNSWLIB
    &contender_hnswlib,
#endif
#ifdef HAVE_FAISS
    &contender_faiss,
    &contender_faiss_sq8,
#endif
};
enum { CONTENDER_COUNT = sizeof CONTENDERS / sizeof *CONTENDERS };

/* Of all threads: on a busy machine it says more than the clock on the wall. */
static double cpu_seconds(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The others are always built as they are in the goals. */
static struct contender_shape shape_of(const struct entrant *e, const struct data *d) {
    if (e->kind == &contender_quire) {
        return (struct contender_shape){d->dimension, d->vectors, d->o->m, d->o->ef_construction, d->o->bits};
    }
    return (struct contender_shape){d->dimension, d->vectors, OTHERS_M, OTHERS_EF_CONSTRUCTION, 0};
}

struct took entrant_build(struct entrant *e, const struct data *d, unsigned threads) {
    struct contender_shape shape = shape_of(e, d);
    int64_t start = clock_monotonic_us();
    double cpu = cpu_seconds();

    e->engine = e->kind->create(&shape);
    if (e->engine == NULL || !e->kind->insert_all(e->engine, d->rows, d->stride, d->vectors, threads)) {
        die("a contender could not be built");
    }
    return (struct took){seconds_since(start), cpu_seconds() - cpu};
}

static void graph_path(const struct entrant *e, const struct data *d, char out[PATH_ROOM]) {
    (void)snprintf(out, PATH_ROOM, "%s/%s-%u-%u-%llu-%u-%u.graph", d->o->cache, e->kind->name, d->vectors, d->dimension,
                   (unsigned long long)d->o->seed, OTHERS_M, OTHERS_EF_CONSTRUCTION);
}

static bool load(struct entrant *e, const struct data *d) {
    char path[PATH_ROOM];
    struct contender_shape shape = shape_of(e, d);

    if (d->o->cache == NULL || e->kind->load == NULL) {
        return false;
    }
    graph_path(e, d, path);
    FILE *there = fopen(path, "rb");
    if (there == NULL) {
        return false;
    }
    (void)fclose(there);
    e->engine = e->kind->load(&shape, path);
    return e->engine != NULL;
}

static void save(const struct entrant *e, const struct data *d) {
    char path[PATH_ROOM];

    if (d->o->cache == NULL || e->kind->save == NULL) {
        return;
    }
    graph_path(e, d, path);
    if (!e->kind->save(e->engine, path)) {
        (void)remove(path);
        die("cannot write into the directory of --cache");
    }
}

static void enter(struct bench *b, const struct contender *kind, bool fresh) {
    struct entrant *e = &b->field[b->entrants++];

    *e = (struct entrant){.kind = kind};
    if (!fresh && load(e, &b->data)) {
        printf("  %-10s from the cache\n", kind->name);
    } else {
        e->took = entrant_build(e, &b->data, BUILD_THREADS);
        printf("  %-10s %7.1f s on %d threads (%.1f s of CPU)\n", kind->name, e->took.wall, BUILD_THREADS, e->took.cpu);
        save(e, &b->data);
    }
    (void)fflush(stdout);
    e->searcher = kind->searcher_new(e->engine);
}

void field_enter(struct bench *b, bool fresh) {
    if (b->entrants > 0) {
        return;
    }
    printf("building\n");
    for (uint32_t i = 0; i < CONTENDER_COUNT; i++) {
        if (i == 0 || b->o->against == NULL || strcmp(b->o->against, CONTENDERS[i]->name) == 0) {
            enter(b, CONTENDERS[i], fresh);
        }
    }
    quire_describe(b->field[0].engine);
}

void field_leave(struct bench *b) {
    for (uint32_t i = 0; i < b->entrants; i++) {
        struct entrant *e = &b->field[i];
        e->kind->searcher_free(e->searcher);
        e->kind->destroy(e->engine);
    }
    b->entrants = 0;
}

struct entrant *field_find(struct bench *b, const char *name) {
    for (uint32_t i = 0; i < b->entrants; i++) {
        if (strcmp(b->field[i].kind->name, name) == 0) {
            return &b->field[i];
        }
    }
    return NULL;
}

/* --- curves ----------------------------------------------------------------------------------------------------------- */

struct measured entrant_round(const struct entrant *e, const struct data *d, uint32_t ef) {
    uint32_t *found = allocate((size_t)d->queries * K, sizeof *found);
    struct contender_searches searches = {data_query(d, 0), d->stride, d->queries, K, ef, found};
    double start = thread_seconds();

    if (!e->kind->search(e->engine, e->searcher, &searches)) {
        die("a contender could not search");
    }
    struct measured m = {ef, 0.0, (double)d->queries / (thread_seconds() - start)};
    m.recall = data_recall(d, d->truth, found);
    free(found);
    return m;
}

uint32_t entrant_ef(const struct entrant *e, const struct data *d, double recall) {
    uint32_t i = 0;

    while (i + 1 < d->o->ef_count && entrant_round(e, d, d->o->efs[i]).recall < recall) {
        i++;
    }
    return d->o->efs[i];
}

void field_measure(struct bench *b) {
    if (b->field[0].curve.count > 0) {
        return;
    }
    for (uint32_t i = 0; i < b->o->ef_count; i++) {
        for (uint32_t round = 0; round < b->o->rounds; round++) {
            for (uint32_t j = 0; j < b->entrants; j++) {
                struct curve *c = &b->field[j].curve;
                struct measured m = entrant_round(&b->field[j], &b->data, b->o->efs[i]);
                c->count = i + 1;
                if (m.per_second > c->points[i].per_second) {
                    c->points[i] = m;
                }
            }
        }
    }
}
