/*
 * other_vectors.c - see other_vectors.h.
 *
 * A shelf has chunks.mmap and vectors.mmap as an arena has them (arena.h), of which only what old_vectors.c reads is filled in: the vectors' head, and of each row
 * the hashes of id and text, the checksum and the flag. A crash leaves rows without a flag behind the last one, or one whose vector has not its checksum.
 */
#include "store/other_vectors.h"

#include "base/crc32c.h"
#include "base/io.h"
#include "store/mirror.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

enum { FIRST_ROWS = 256, ROWS_STEP = 4096, OPEN_FIRST = 8 };
enum { DIRECTORY_MODE = 0750 };

bool other_is_provided(const struct embed_registry *models, const struct library_definition *d) {
    const struct library_exchange *e = &d->exchange;
    if (e->state == EXCHANGE_NONE || e->fingerprint == 0 || e->dimension == 0 || slice_is(e->model, "none")) {
        return false;
    }
    const struct embedder *model = embed_find(models, e->model);
    return model == NULL || model->remote; /* one that is not configured any more is taken for a provider's */
}

/* --- all directories of a library --- */

/* Calls fn for each of its directories that has no suffix and is not one of `except`. */
struct walk {
    const struct uuid *library;
    const uint32_t *except;
    bool (*fn)(struct walk *w, int vectors_dir_fd, const char *name, uint32_t number, struct status *st);
    void *ctx;
};

static bool take_directory(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct walk *w = (struct walk *)ctx;
    const char *suffix = NULL;
    struct uuid id;
    uint32_t number = 0;
    if (!arena_directory_parse(name, &id, &number, &suffix) || !uuid_equal(&id, w->library) || *suffix != '\0' || number == w->except[0] ||
        number == w->except[1]) {
        return true;
    }
    return w->fn(w, dir_fd, name, number, st);
}

static bool walk_directories(struct walk *w, int vectors_dir_fd, struct status *st) {
    return io_each_entry(vectors_dir_fd, "the directory vectors/", take_directory, w, st);
}

/* --- finding --- */

struct other_vectors {
    uint32_t dimension;
    uint64_t fingerprint;
    struct old_vectors **at;
    size_t count;
    size_t room;
};

static bool open_one(struct walk *w, int vectors_dir_fd, const char *name, uint32_t number, struct status *st) {
    struct other_vectors *o = (struct other_vectors *)w->ctx;
    struct old_vectors *old = NULL;
    (void)number;
    if (o->count == o->room) {
        size_t room = o->room * 2 + OPEN_FIRST;
        struct old_vectors **at = (struct old_vectors **)realloc(o->at, room * sizeof(struct old_vectors *));
        if (at == NULL) {
            return status_no_memory(st);
        }
        o->at = at;
        o->room = room;
    }
    if (!old_vectors_open(vectors_dir_fd, name, o->dimension, o->fingerprint, &old, st)) {
        return false;
    }
    if (old != NULL) {
        o->at[o->count++] = old;
    }
    return true;
}

bool other_vectors_open(int vectors_dir_fd, const struct uuid *library, const uint32_t except[OTHER_EXCEPT], uint32_t dimension, uint64_t fingerprint,
                        struct other_vectors **ret, struct status *st) {
    struct other_vectors *o = (struct other_vectors *)calloc(1, sizeof *o);
    if (o == NULL) {
        return status_no_memory(st);
    }
    *o = (struct other_vectors){.dimension = dimension, .fingerprint = fingerprint};
    struct walk w = {.library = library, .except = except, .fn = open_one, .ctx = o};
    if (!walk_directories(&w, vectors_dir_fd, st)) {
        other_vectors_close(o);
        return false;
    }
    *ret = o;
    return true;
}

const float *other_vectors_find(const struct other_vectors *o, uint64_t id_hash, uint64_t text) {
    const float *vector = NULL;
    for (size_t i = 0; o != NULL && i < o->count && vector == NULL; i++) {
        vector = old_vectors_find(o->at[i], id_hash, text);
    }
    return vector;
}

uint32_t other_vectors_dimension(const struct other_vectors *o) {
    return o->dimension;
}

void other_vectors_close(struct other_vectors *o) {
    if (o == NULL) {
        return;
    }
    for (size_t i = 0; i < o->count; i++) {
        old_vectors_close(o->at[i]);
    }
    free(o->at);
    free(o);
}

/* --- making durable, and removing --- */

/* One that is not there has nothing to lose: an exchange may be given up at this moment. */
static bool sync_file(int dir_fd, const char *name, struct status *st) {
    struct status failed = {0};
    int fd = -1;
    if (!io_open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW, 0, &fd, &failed)) {
        if (failed.sys_errno == ENOENT) {
            return true;
        }
        *st = failed;
        return false;
    }
    bool ok = io_fdatasync(fd, name, st);
    io_close(&fd);
    return ok;
}

static bool sync_one(struct walk *w, int vectors_dir_fd, const char *name, uint32_t number, struct status *st) {
    struct status failed = {0};
    int fd = -1;
    (void)w;
    (void)number;
    if (!io_open_at(vectors_dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, &failed)) {
        if (failed.sys_errno == ENOENT || failed.sys_errno == ENOTDIR) {
            return true;
        }
        *st = failed;
        return false;
    }
    bool ok = sync_file(fd, "chunks.mmap", st) && sync_file(fd, "vectors.mmap", st) && io_fsync(fd, name, st);
    io_close(&fd);
    return ok;
}

bool other_vectors_sync(int vectors_dir_fd, const struct uuid *library, uint32_t serving, struct status *st) {
    const uint32_t except[OTHER_EXCEPT] = {serving, serving};
    struct walk w = {.library = library, .except = except, .fn = sync_one};
    return walk_directories(&w, vectors_dir_fd, st) && io_fsync(vectors_dir_fd, "vectors/", st);
}

static bool remove_one(struct walk *w, int vectors_dir_fd, const char *name, uint32_t number, struct status *st) {
    return number < w->except[0] || io_remove_tree(vectors_dir_fd, name, st);
}

bool other_vectors_tidy(int vectors_dir_fd, const struct uuid *library, uint32_t serving, uint32_t side, struct status *st) {
    const uint32_t except[OTHER_EXCEPT] = {serving, side};
    struct walk w = {.library = library, .except = except, .fn = remove_one};
    return walk_directories(&w, vectors_dir_fd, st);
}

/* --- of a library --- */

bool library_open_other(struct library *lib, const struct reading *rd, struct other_vectors **ret, struct status *st) {
    const struct catalog_options *options = &lib->catalog->options;
    const uint32_t except[OTHER_EXCEPT] = {rd->view.directory, rd->view.directory};
    struct library_definition d;
    *ret = NULL;
    if (!reading_definition(rd, &d, st)) {
        return false;
    }
    return !other_is_provided(options->models, &d) ||
           other_vectors_open(options->vectors_dir_fd, &rd->view.id, except, d.exchange.dimension, d.exchange.fingerprint, ret, st);
}

bool library_sync_other(struct library *lib, struct status *st) {
    struct library_definition d;
    struct reading rd;
    if (library_is_deleted(lib) || load_relaxed_u32(&lib->exchange_state) == EXCHANGE_NONE) {
        return true;
    }
    library_reading(lib, &rd);
    return reading_definition(&rd, &d, st) && (!other_is_provided(lib->catalog->options.models, &d) ||
                                               other_vectors_sync(lib->catalog->options.vectors_dir_fd, &rd.view.id, rd.view.directory, st));
}

bool library_other_fits(const struct library *lib, const struct op_vectors *v) {
    struct library_definition d;
    struct status ignored;
    return library_present_definition(lib, &lib->view, &d, &ignored) && other_is_provided(lib->catalog->options.models, &d) &&
           d.exchange.dimension == v->dimension && d.exchange.fingerprint == v->fingerprint;
}

bool library_is_provided(const struct library *lib, uint32_t *ret_dimension, uint64_t *ret_fingerprint) {
    *ret_dimension = lib->view.dimension;
    *ret_fingerprint = lib->view.model_fingerprint;
    return lib->view.pinned != 0 && lib->view.dimension != 0;
}

/* --- shelves --- */

struct vector_shelf {
    uint32_t directory;
    uint32_t dimension;
    uint64_t fingerprint;
    uint32_t rows;
    struct mapfile chunks;
    struct mapfile vectors;
};

static bool create_files(struct vector_shelf *s, int dir_fd, struct status *st) {
    if (!mapfile_create(&s->chunks, dir_fd, "chunks.mmap", MAPFILE_SMALL_PAGES, FIRST_ROWS * sizeof(struct chunk_row), st) ||
        !mapfile_create(&s->vectors, dir_fd, "vectors.mmap", MAPFILE_SMALL_PAGES, arena_vectors_bytes(arena_stride(s->dimension), FIRST_ROWS), st)) {
        return false;
    }
    *(struct vectors_head *)(void *)mapfile_base(&s->vectors) = (struct vectors_head){.magic = VECTORS_MAGIC,
                                                                                      .format = ARENA_FORMAT,
                                                                                      .dimension = s->dimension,
                                                                                      .stride = arena_stride(s->dimension),
                                                                                      .model_fingerprint = s->fingerprint};
    return true;
}

static bool create_shelf(struct vector_shelf *s, int vectors_dir_fd, const struct uuid *library, struct status *st) {
    char name[ARENA_DIRECTORY_MAX];
    int fd = -1;
    if (!arena_free_directory(vectors_dir_fd, library, &s->directory, st)) {
        return false;
    }
    arena_directory_name(library, s->directory, name);
    bool ok = io_mkdir_at(vectors_dir_fd, name, DIRECTORY_MODE, st) && io_open_at(vectors_dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, st) &&
              create_files(s, fd, st);
    io_close(&fd);
    if (!ok) {
        struct status ignored;
        (void)!io_remove_tree(vectors_dir_fd, name, &ignored);
    }
    return ok;
}

bool vector_shelf_new(int vectors_dir_fd, const struct uuid *library, uint32_t dimension, uint64_t fingerprint, struct vector_shelf **ret,
                      struct status *st) {
    struct vector_shelf *s = (struct vector_shelf *)calloc(1, sizeof *s);
    if (s == NULL) {
        return status_no_memory(st);
    }
    *s = (struct vector_shelf){.dimension = dimension, .fingerprint = fingerprint, .chunks = MAPFILE_CLOSED, .vectors = MAPFILE_CLOSED};
    if (!create_shelf(s, vectors_dir_fd, library, st)) {
        vector_shelf_close(s);
        return false;
    }
    *ret = s;
    return true;
}

uint32_t vector_shelf_directory(const struct vector_shelf *s) {
    return s->directory;
}

static bool make_room(struct vector_shelf *s, struct status *st) {
    uint64_t rows = (uint64_t)s->rows + 1;
    uint64_t chunk_bytes = rows * sizeof(struct chunk_row);
    uint64_t vector_bytes = arena_vectors_bytes(arena_stride(s->dimension), rows);
    return (s->chunks.size >= chunk_bytes || mapfile_grow(&s->chunks, chunk_bytes, ROWS_STEP * sizeof(struct chunk_row), st)) &&
           (s->vectors.size >= vector_bytes || mapfile_grow(&s->vectors, vector_bytes, ROWS_STEP * sizeof(float), st));
}

bool vector_shelf_put(struct vector_shelf *s, uint64_t id_hash, uint64_t text, const void *values, struct status *st) {
    if (!make_room(s, st)) {
        return false;
    }
    size_t bytes = s->dimension * sizeof(float);
    uint8_t *vector = mapfile_base(&s->vectors) + VECTORS_HEAD_BYTES + (size_t)s->rows * arena_stride(s->dimension) * sizeof(float);
    struct chunk_row *row = (struct chunk_row *)(void *)mapfile_base(&s->chunks) + s->rows;
    memcpy(vector, values, bytes);
    *row = (struct chunk_row){.id_hash = id_hash, .text_hash = text, .vector_crc = crc32c(0, vector, bytes), .state = CHUNK_HAS_VECTOR};
    s->rows++;
    return true;
}

bool vector_shelf_put_all(struct vector_shelf *s, const struct library *lib, struct status *st) {
    bool ok = true;
    for (uint32_t slot = 0; ok && slot < lib->view.chunk_slots; slot++) {
        const struct chunk_row *c = library_chunk(lib, slot);
        if (c->deleted_lsn == 0 && (c->state & CHUNK_HAS_VECTOR) != 0) {
            ok = vector_shelf_put(s, c->id_hash, c->text_hash, library_vector(lib, lib->view.dimension, slot), st);
        }
    }
    return ok;
}

void vector_shelf_close(struct vector_shelf *s) {
    if (s != NULL) {
        mapfile_close(&s->chunks);
        mapfile_close(&s->vectors);
        free(s);
    }
}
