/* old_vectors.c - see old_vectors.h. Rows are those that lie within both files; they are found by a table over id and text, made once. */
#include "store/old_vectors.h"

#include "base/crc32c.h"
#include "base/io.h"
#include "shm/atomics.h"

#include <fcntl.h>
#include <stdlib.h>

enum { TABLE_LEAST = 64, TABLE_TIMES = 2 };

struct old_vectors {
    struct mapfile chunks;
    struct mapfile vectors;
    uint32_t dimension;
    size_t stride;
    uint32_t *table; /* open addressing by chunk_key; row + 1, 0: free */
    size_t mask;
};

void old_vectors_close(struct old_vectors *o) {
    if (o == NULL) {
        return;
    }
    mapfile_close(&o->chunks);
    mapfile_close(&o->vectors);
    free(o->table);
    free(o);
}

static const struct chunk_row *row_at(const struct old_vectors *o, uint32_t row) {
    return (const struct chunk_row *)(const void *)mapfile_base(&o->chunks) + row;
}

static const float *vector_at(const struct old_vectors *o, uint32_t row) {
    return (const float *)(const void *)(mapfile_base(&o->vectors) + VECTORS_HEAD_BYTES) + row * o->stride;
}

static size_t chunk_key(uint64_t id_hash, uint64_t text) {
    return (size_t)(id_hash ^ text >> 17 ^ text << 47); /* both are well mixed already */
}

static bool has_vector(const struct chunk_row *row) {
    return (load_acquire_u32(&row->state) & CHUNK_HAS_VECTOR) != 0 && row->text_hash != 0;
}

/* False: more have a vector by now than when they were counted, and the table would get too full. */
static bool fill_table(struct old_vectors *o, uint32_t rows) {
    size_t left = (o->mask + 1) / TABLE_TIMES;
    for (uint32_t row = 0; row < rows; row++) {
        const struct chunk_row *r = row_at(o, row);
        if (!has_vector(r)) {
            continue;
        }
        if (left-- == 0) {
            return false;
        }
        size_t at = chunk_key(r->id_hash, r->text_hash) & o->mask;
        while (o->table[at] != 0) {
            at = (at + 1) & o->mask;
        }
        o->table[at] = row + 1;
    }
    return true;
}

/* The side of an exchange is read while it gets vectors: so what is counted may be more when it is looked at again. */
static bool build_table(struct old_vectors *o, uint32_t rows, struct status *st) {
    size_t wanted = 0;
    for (uint32_t row = 0; row < rows; row++) {
        wanted += has_vector(row_at(o, row)) ? 1 : 0;
    }
    size_t room = TABLE_LEAST;
    while (room < wanted * TABLE_TIMES) {
        room *= 2;
    }
    do {
        free(o->table);
        o->table = (uint32_t *)calloc(room, sizeof *o->table);
        if (o->table == NULL) {
            return status_no_memory(st);
        }
        o->mask = room - 1;
        room *= 2;
    } while (!fill_table(o, rows));
    return true;
}

static bool head_fits(const struct old_vectors *o, uint64_t model_fingerprint) {
    if (o->vectors.size < VECTORS_HEAD_BYTES) {
        return false;
    }
    const struct vectors_head *head = (const struct vectors_head *)(const void *)mapfile_base(&o->vectors);
    return head->magic == VECTORS_MAGIC && head->format == ARENA_FORMAT && head->dimension == o->dimension && head->stride == o->stride &&
           head->model_fingerprint == model_fingerprint;
}

static uint32_t rows_in_both(const struct old_vectors *o) {
    uint64_t rows = o->chunks.size / sizeof(struct chunk_row);
    uint64_t vectors = (o->vectors.size - VECTORS_HEAD_BYTES) / (o->stride * sizeof(float));
    rows = rows < vectors ? rows : vectors;
    return rows < UINT32_MAX ? (uint32_t)rows : UINT32_MAX - 1;
}

static bool open_files(struct old_vectors *o, int vectors_dir_fd, const char *directory) {
    struct status ignored;
    int fd = -1;
    bool there = io_open_at(vectors_dir_fd, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, &ignored) &&
                 mapfile_open(&o->chunks, fd, "chunks.mmap", MAPFILE_SMALL_PAGES, false, &ignored) &&
                 mapfile_open(&o->vectors, fd, "vectors.mmap", MAPFILE_SMALL_PAGES, false, &ignored);
    io_close(&fd);
    return there;
}

bool old_vectors_open(int vectors_dir_fd, const char *directory, uint32_t dimension, uint64_t model_fingerprint, struct old_vectors **ret,
                      struct status *st) {
    struct old_vectors *o = (struct old_vectors *)calloc(1, sizeof *o);
    *ret = NULL;
    if (o == NULL) {
        return status_no_memory(st);
    }
    o->chunks = MAPFILE_CLOSED;
    o->vectors = MAPFILE_CLOSED;
    o->dimension = dimension;
    o->stride = arena_stride(dimension);
    if (!open_files(o, vectors_dir_fd, directory) || !head_fits(o, model_fingerprint)) {
        old_vectors_close(o);
        return true;
    }
    if (!build_table(o, rows_in_both(o), st)) {
        old_vectors_close(o);
        return false;
    }
    *ret = o;
    return true;
}

const float *old_vectors_find(const struct old_vectors *o, uint64_t id_hash, uint64_t text) {
    for (size_t at = chunk_key(id_hash, text) & o->mask; o->table[at] != 0; at = (at + 1) & o->mask) {
        uint32_t row = o->table[at] - 1;
        const struct chunk_row *r = row_at(o, row);
        if (r->id_hash == id_hash && r->text_hash == text) {
            const float *vector = vector_at(o, row);
            if (crc32c(0, vector, o->dimension * sizeof *vector) == r->vector_crc) {
                return vector;
            }
        }
    }
    return NULL;
}
