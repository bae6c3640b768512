/* engine_data.c - vectors, queries, and what an exact search in float32 finds. With --cache they are kept in a file:
 *
 *   clustered-<vectors>-<queries>-<dimension>-<seed>.bin    the rows (float32, padded to 16), then the truth (uint32, K a query)
 *
 * bench/http reads that file too. */
#include "engine.h"

#include "clustered.h"
#include "index/distance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CENTRES = 2000, TRUTH_BLOCK = 256, LANE = 16, WORD_BITS = 64, PATH_ROOM = 4096 };

/* What parts the vectors that come later from the first ones. */
static const uint64_t OTHER_STREAM = 0x5851f42d4c957f2dULL;

static size_t row_count(const struct data *d) {
    return (size_t)d->vectors + d->queries;
}

static struct clustered *process_of(const struct data *d) {
    struct clustered *process = clustered_new(d->o->seed, d->dimension, CENTRES);
    if (process == NULL) {
        die("out of memory");
    }
    return process;
}

float *data_more(const struct data *d, uint32_t count) {
    struct clustered *process = process_of(d);
    float *rows = allocate((size_t)count * d->stride, sizeof *rows);

    clustered_go_on(process, d->o->seed ^ OTHER_STREAM);
    for (size_t i = 0; i < count; i++) {
        clustered_next(process, rows + i * d->stride);
    }
    clustered_free(process);
    return rows;
}

/* In blocks of rows that stay in the cache for all queries. */
void data_truth(const struct data *d, const float *rows, uint32_t count, const uint64_t *accepted, uint32_t *truth) {
    struct topk *best = allocate(d->queries, sizeof *best);
    struct neighbor *storage = allocate((size_t)d->queries * K, sizeof *storage);

    for (uint32_t q = 0; q < d->queries; q++) {
        topk_init(&best[q], storage + (size_t)q * K, K);
    }
    for (uint32_t first = 0; first < count; first += TRUTH_BLOCK) {
        uint32_t end = count - first < TRUTH_BLOCK ? count : first + TRUTH_BLOCK;
        for (uint32_t q = 0; q < d->queries; q++) {
            for (uint32_t row = first; row < end; row++) {
                if (accepted == NULL || (accepted[row / WORD_BITS] >> row % WORD_BITS & 1) != 0) {
                    float dot = dot_product(data_query(d, q), rows + (size_t)row * d->stride, d->dimension);
                    topk_offer(&best[q], (struct neighbor){1.0F - dot, row});
                }
            }
        }
    }
    for (uint32_t q = 0; q < d->queries; q++) {
        size_t n = topk_finish(&best[q]);
        for (size_t i = 0; i < K; i++) {
            truth[(size_t)q * K + i] = i < n ? storage[(size_t)q * K + i].slot : CONTENDER_NONE;
        }
    }
    free(storage);
    free(best);
}

double data_recall(const struct data *d, const uint32_t *truth, const uint32_t *found) {
    uint64_t hits = 0;
    uint64_t wanted = 0;

    for (size_t q = 0; q < d->queries; q++) {
        for (size_t i = 0; i < K; i++) {
            uint32_t row = truth[q * K + i];
            wanted += row != CONTENDER_NONE;
            for (size_t j = 0; row != CONTENDER_NONE && j < K; j++) {
                hits += found[q * K + j] == row;
            }
        }
    }
    return (double)hits / (double)wanted;
}

/* --- the cache -------------------------------------------------------------------------------------------------------- */

static void cache_path(const struct data *d, char out[PATH_ROOM]) {
    (void)snprintf(out, PATH_ROOM, "%s/clustered-%u-%u-%u-%llu.bin", d->o->cache, d->vectors, d->queries, d->dimension,
                   (unsigned long long)d->o->seed);
}

static bool from_cache(struct data *d) {
    char path[PATH_ROOM];
    size_t floats = row_count(d) * d->stride;
    size_t labels = (size_t)d->queries * K;

    cache_path(d, path);
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        return false;
    }
    bool good = fread(d->rows, sizeof *d->rows, floats, f) == floats && fread(d->truth, sizeof *d->truth, labels, f) == labels;
    (void)fclose(f);
    return good;
}

static void to_cache(const struct data *d) {
    char path[PATH_ROOM];
    char unfinished[PATH_ROOM + sizeof ".new"];
    size_t floats = row_count(d) * d->stride;
    size_t labels = (size_t)d->queries * K;

    cache_path(d, path);
    (void)snprintf(unfinished, sizeof unfinished, "%s.new", path);
    FILE *f = fopen(unfinished, "wb");
    if (f == NULL) {
        die("cannot write into the directory of --cache");
    }
    bool good = fwrite(d->rows, sizeof *d->rows, floats, f) == floats && fwrite(d->truth, sizeof *d->truth, labels, f) == labels;
    if (fclose(f) != 0 || !good || rename(unfinished, path) != 0) {
        die("cannot write into the directory of --cache");
    }
}

void data_make(struct data *d, const struct options *o, uint32_t vectors) {
    *d = (struct data){.vectors = vectors, .queries = o->queries, .dimension = o->dimension, .o = o};
    d->stride = ((size_t)o->dimension + LANE - 1) / LANE * LANE;
    d->rows = allocate(row_count(d) * d->stride, sizeof *d->rows);
    d->truth = allocate((size_t)d->queries * K, sizeof *d->truth);
    if (o->cache != NULL && from_cache(d)) {
        return;
    }
    struct clustered *process = process_of(d);
    for (size_t i = 0; i < row_count(d); i++) {
        clustered_next(process, d->rows + i * d->stride);
    }
    clustered_free(process);
    data_truth(d, d->rows, d->vectors, NULL, d->truth);
    if (o->cache != NULL) {
        to_cache(d);
    }
}

void data_free(struct data *d) {
    free(d->rows);
    free(d->truth);
    *d = (struct data){0};
}
