/*
 * salvage.c - see salvage.h.
 *
 * Names in vectors/, and what a recovery that is killed leaves:
 *   <id>          the arena in use, or one that such a recovery had begun to build
 *   <id>.<n>      the arena in use after a compaction or an exchange of the model, the one before it, or a side of another model; each is asked for vectors
 *   <id>.<n>.new  of a compaction that did not end; it has no vector that another has not, and goes
 *   <id>[.<n>].old  set aside by a rename, whole. <id> is set aside before the others are, so where it stands beside one of these, a recovery had begun
 *                 to build it out of them: it goes
 *                 A numbered one beside an .old of its number is what a power loss leaves that kept the new name and brought back the old one: both
 *                 stay, under the next free number
 *   <id>.trash    on its way out. A tree is removed file by file, so it first gets a name under which nobody will look for vectors
 * So no kill ever costs a vector: at each moment the arena that has them stands under <id> or <id>.old, whole.
 *
 * What is shelved (store/other_vectors.h) gets a directory <id>.<n>, too: the next recovery, should this one be killed, sets it aside as any other.
 *
 * An old arena was left by a crash, perhaps of the machine, so nothing in it is taken for granted: its head must say the same
 * model and dimension, rows are those that lie within both files, and a vector must have the CRC that its row has. The row names
 * the text by 64 bits of SHA-256 and the id by its hash.
 */
#include "durable/salvage.h"

#include "base/io.h"
#include "base/log.h"
#include "store/backlog.h"
#include "store/exchange.h"
#include "store/other_vectors.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define OLD_SUFFIX ".old"
#define TRASH_SUFFIX ".trash"
enum { NAME_BYTES = ARENA_DIRECTORY_MAX + 8, DIRECTORIES_FIRST_CAP = 16 };

/* --- names --- */

enum directory_kind { DIRECTORY_ARENA, DIRECTORY_OLD, DIRECTORY_TRASH, DIRECTORY_NEW };

struct directory {
    struct uuid id;
    uint32_t number; /* of the name, 0: none */
    enum directory_kind kind;
};

struct directories {
    struct directory *at;
    size_t count;
    size_t cap;
};

static const char *const suffixes[] = {
    [DIRECTORY_ARENA] = "", [DIRECTORY_OLD] = OLD_SUFFIX, [DIRECTORY_TRASH] = TRASH_SUFFIX, [DIRECTORY_NEW] = ARENA_NEW_SUFFIX};
enum { KINDS = sizeof suffixes / sizeof suffixes[0] };

static void directory_name(const struct directory *d, enum directory_kind kind, char out[NAME_BYTES]) {
    char name[ARENA_DIRECTORY_MAX];
    arena_directory_name(&d->id, d->number, name);
    (void)snprintf(out, NAME_BYTES, "%s%s", name, suffixes[kind]);
}

static bool parse_name(const char *name, struct directory *ret) {
    const char *suffix = NULL;
    if (!arena_directory_parse(name, &ret->id, &ret->number, &suffix)) {
        return false;
    }
    for (size_t kind = 0; kind < KINDS; kind++) {
        if (strcmp(suffix, suffixes[kind]) == 0) {
            ret->kind = (enum directory_kind)kind;
            return true;
        }
    }
    return false;
}

static bool add_directory(struct directories *d, const struct directory *found, struct status *st) {
    if (d->count == d->cap) {
        size_t cap = d->cap == 0 ? DIRECTORIES_FIRST_CAP : d->cap * 2;
        struct directory *grown = (struct directory *)realloc(d->at, cap * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        d->at = grown;
        d->cap = cap;
    }
    d->at[d->count++] = *found;
    return true;
}

static bool take_directory(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct directory found;
    (void)dir_fd;
    return !parse_name(name, &found) || add_directory((struct directories *)ctx, &found, st);
}

static bool list_directories(int vectors_dir_fd, struct directories *ret, struct status *st) {
    return io_each_entry(vectors_dir_fd, "the directory vectors/", take_directory, ret, st);
}

static bool has(const struct directories *d, const struct uuid *id, enum directory_kind kind) {
    for (size_t i = 0; i < d->count; i++) {
        if (d->at[i].kind == kind && uuid_equal(&d->at[i].id, id)) {
            return true;
        }
    }
    return false;
}

static bool rename_directory(int fd, const struct directory *d, enum directory_kind from, enum directory_kind to,
                             struct status *st) {
    char old_name[NAME_BYTES];
    char new_name[NAME_BYTES];
    directory_name(d, from, old_name);
    directory_name(d, to, new_name);
    return io_rename_at(fd, old_name, fd, new_name, st);
}

static bool remove_directory(int fd, const struct directory *d, enum directory_kind kind, struct status *st) {
    char trash[NAME_BYTES];
    directory_name(d, DIRECTORY_TRASH, trash);
    if (kind != DIRECTORY_TRASH && (!io_remove_tree(fd, trash, st) || !rename_directory(fd, d, kind, DIRECTORY_TRASH, st))) {
        return false;
    }
    return io_remove_tree(fd, trash, st);
}

/* By id, and the newest first. */
static int by_id_and_number(const void *a, const void *b) {
    const struct directory *left = (const struct directory *)a;
    const struct directory *right = (const struct directory *)b;
    int order = memcmp(left->id.b, right->id.b, UUID_BYTES);
    return order != 0 ? order : (left->number < right->number) - (left->number > right->number);
}

static bool has_old(const struct directories *d, const struct directory *of) {
    for (size_t i = 0; i < d->count; i++) {
        if (d->at[i].kind == DIRECTORY_OLD && d->at[i].number == of->number && uuid_equal(&d->at[i].id, &of->id)) {
            return true;
        }
    }
    return false;
}

/* Sets a numbered arena aside, under another number where its own is taken. */
static bool set_numbered_aside(int fd, const struct directories *d, struct directory *found, struct status *st) {
    char from[NAME_BYTES];
    char to[NAME_BYTES];
    directory_name(found, DIRECTORY_ARENA, from);
    if (has_old(d, found) && !arena_free_directory(fd, &found->id, &found->number, st)) {
        return false;
    }
    directory_name(found, DIRECTORY_OLD, to);
    return io_rename_at(fd, from, fd, to, st);
}

/* Every arena gets the name <id>.old. *ret_changed: something was renamed or removed. */
static bool set_one_aside(int fd, const struct directories *d, struct directory *found, bool *ret_changed, struct status *st) {
    if (found->kind == DIRECTORY_TRASH || found->kind == DIRECTORY_NEW) {
        return remove_directory(fd, found, found->kind, st);
    }
    if (found->kind == DIRECTORY_OLD) {
        return true;
    }
    *ret_changed = true;
    if (found->number != 0) {
        return set_numbered_aside(fd, d, found, st);
    }
    return has(d, &found->id, DIRECTORY_OLD) ? remove_directory(fd, found, DIRECTORY_ARENA, st)
                                             : rename_directory(fd, found, DIRECTORY_ARENA, DIRECTORY_OLD, st);
}

static bool set_aside(int fd, struct directories *d, struct status *st) {
    bool changed = false;
    if (d->count > 1) {
        qsort(d->at, d->count, sizeof *d->at, by_id_and_number);
    }
    for (int numbered = 0; numbered <= 1; numbered++) {
        for (size_t i = 0; i < d->count; i++) {
            if ((d->at[i].number != 0) == (numbered != 0) && !set_one_aside(fd, d, &d->at[i], &changed, st)) {
                return false;
            }
        }
    }
    return !changed || io_fsync(fd, "vectors/", st);
}

/* --- old arenas --- */

struct old_arena {
    struct directory name;
    bool looked_at;
    uint32_t dimension;
    struct old_vectors *vectors; /* NULL: they are of no use for the library as it is now */
};

/* What is kept for a library's other model. */
struct shelved {
    struct uuid library;
    uint32_t dimension;
    uint64_t fingerprint;
    struct vector_shelf *shelf;
};

struct salvage {
    int vectors_dir_fd;
    struct old_arena *arenas; /* ascending by id, the newest of each first */
    size_t count;
    float *rows; /* of the document at hand */
    size_t rows_cap;
    struct shelved *shelves;
    size_t shelf_count;
    size_t shelf_cap;
    bool no_room; /* was said */
};

static void close_arena(struct old_arena *a) {
    old_vectors_close(a->vectors);
    a->vectors = NULL;
    a->looked_at = false;
}

/* Opens it when it can be of use for the library as it is now. false: no memory. */
static bool look_at(struct salvage *s, struct old_arena *a, const struct library_view *view, struct status *st) {
    char name[NAME_BYTES];
    a->looked_at = true;
    a->dimension = view->dimension;
    directory_name(&a->name, DIRECTORY_OLD, name);
    return old_vectors_open(s->vectors_dir_fd, name, view->dimension, view->model_fingerprint, &a->vectors, st);
}

/* --- for recovery --- */

/* Takes the spared ones off the list. */
static void leave_out(struct directories *d, salvage_spared_fn spared, const void *ctx) {
    size_t kept = 0;
    for (size_t i = 0; i < d->count; i++) {
        if (spared == NULL || !spared(ctx, &d->at[i].id)) {
            d->at[kept++] = d->at[i];
        }
    }
    d->count = kept;
}

static bool list_and_set_aside(int vectors_dir_fd, salvage_spared_fn spared, const void *ctx, struct directories *found,
                               struct status *st) {
    if (!list_directories(vectors_dir_fd, found, st)) {
        return false;
    }
    leave_out(found, spared, ctx);
    return set_aside(vectors_dir_fd, found, st);
}

bool salvage_begin(int vectors_dir_fd, salvage_spared_fn spared, const void *ctx, struct salvage **ret, struct status *st) {
    struct directories found = {0};
    struct salvage *s = (struct salvage *)calloc(1, sizeof *s);
    bool ok = s != NULL ? list_and_set_aside(vectors_dir_fd, spared, ctx, &found, st) : status_no_memory(st);
    if (ok) {
        s->arenas = (struct old_arena *)calloc(found.count + 1, sizeof *s->arenas);
        ok = s->arenas != NULL || status_no_memory(st);
    }
    if (!ok) {
        free(found.at);
        free(s);
        return false;
    }
    s->vectors_dir_fd = vectors_dir_fd;
    for (size_t i = 0; i < found.count; i++) {
        /* An <id> beside an .old was removed. */
        if (found.at[i].kind == DIRECTORY_OLD ||
            (found.at[i].kind == DIRECTORY_ARENA && (found.at[i].number != 0 || !has(&found, &found.at[i].id, DIRECTORY_OLD)))) {
            s->arenas[s->count++] = (struct old_arena){.name = found.at[i]};
        }
    }
    free(found.at);
    *ret = s;
    return true;
}

/* Room for the document's rows, all of them missing or as the caller has them. */
static bool begin_rows(struct salvage *s, uint32_t chunks, uint32_t dimension, const float *known, struct status *st) {
    size_t count = (size_t)chunks * dimension;
    if (count > s->rows_cap) {
        float *grown = (float *)realloc(s->rows, count * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        s->rows = grown;
        s->rows_cap = count;
    }
    if (known != NULL) {
        memcpy(s->rows, known, count * sizeof *known);
    } else {
        for (size_t i = 0; i < count; i += dimension) {
            s->rows[i] = NAN;
        }
    }
    return true;
}

static size_t first_of(const struct salvage *s, const struct uuid *id) {
    size_t first = 0;
    size_t high = s->count;
    while (first < high) {
        size_t middle = first + (high - first) / 2;
        if (memcmp(s->arenas[middle].name.id.b, id->b, UUID_BYTES) < 0) {
            first = middle + 1;
        } else {
            high = middle;
        }
    }
    return first;
}

/* The library's arenas: [*ret_first, the returned end). Those that can be of use are open. */
static bool arenas_of(struct salvage *s, const struct library_view *view, size_t *ret_first, size_t *ret_end, struct status *st) {
    size_t first = first_of(s, &view->id);
    size_t end = first;
    for (; end < s->count && uuid_equal(&s->arenas[end].name.id, &view->id); end++) {
        if (!s->arenas[end].looked_at && !look_at(s, &s->arenas[end], view, st)) {
            return false;
        }
    }
    *ret_first = first;
    *ret_end = end;
    return true;
}

static const float *find_in_all(const struct salvage *s, size_t first, size_t end, uint32_t dimension, uint64_t id_hash, uint64_t text) {
    const float *vector = NULL;
    for (size_t i = first; i < end && vector == NULL; i++) {
        const struct old_arena *a = &s->arenas[i];
        if (a->vectors != NULL && a->dimension == dimension) {
            vector = old_vectors_find(a->vectors, id_hash, text);
        }
    }
    return vector;
}

bool salvage_vectors(struct salvage *s, const struct op *op, const struct library_view *view, const float *known,
                     const float **ret, struct status *st) {
    const struct op_document *d = &op->as.document;
    size_t first = 0;
    size_t end = 0;
    *ret = known;
    if (d->num_chunks == 0 || view->dimension == 0) {
        return true;
    }
    if (!arenas_of(s, view, &first, &end, st)) {
        return false;
    }
    if (first == end) {
        return true;
    }
    if (!begin_rows(s, d->num_chunks, view->dimension, known, st)) {
        return false;
    }
    struct chunk_walk walk = {.bytes = d->chunks};
    struct op_chunk chunk;
    bool any = known != NULL;
    for (float *row = s->rows; chunk_walk_next(&walk, &chunk); row += view->dimension) {
        if (!isnan(row[0])) {
            continue;
        }
        const float *vector = find_in_all(s, first, end, view->dimension, item_id_hash(chunk.id), text_hash(chunk.text));
        if (vector != NULL) {
            memcpy(row, vector, view->dimension * sizeof *row);
            any = true;
        }
    }
    *ret = any ? s->rows : NULL;
    return true;
}

bool salvage_sacrifice(struct salvage *s) {
    bool any = s->count > 0;
    struct status failed;
    for (size_t i = 0; i < s->count; i++) {
        close_arena(&s->arenas[i]);
        if (!remove_directory(s->vectors_dir_fd, &s->arenas[i].name, DIRECTORY_OLD, &failed)) {
            log_status(LOG_LEVEL_WARN, "an old arena was not removed", &failed);
        }
    }
    s->count = 0;
    return any;
}

void salvage_look_again(struct salvage *s, const struct uuid *library) {
    for (size_t i = s != NULL ? first_of(s, library) : 0; s != NULL && i < s->count && uuid_equal(&s->arenas[i].name.id, library); i++) {
        close_arena(&s->arenas[i]);
    }
}

/* --- shelves --- */

static bool find_shelf(struct salvage *s, const struct uuid *id, uint32_t dimension, uint64_t fingerprint, struct vector_shelf **ret, struct status *st) {
    for (size_t i = 0; i < s->shelf_count; i++) {
        const struct shelved *at = &s->shelves[i];
        if (uuid_equal(&at->library, id) && at->dimension == dimension && at->fingerprint == fingerprint) {
            *ret = at->shelf;
            return true;
        }
    }
    if (s->shelf_count == s->shelf_cap) {
        size_t cap = s->shelf_cap * 2 + 1;
        struct shelved *grown = (struct shelved *)realloc(s->shelves, cap * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        s->shelves = grown;
        s->shelf_cap = cap;
    }
    if (!vector_shelf_new(s->vectors_dir_fd, id, dimension, fingerprint, ret, st)) {
        return false;
    }
    s->shelves[s->shelf_count++] = (struct shelved){.library = *id, .dimension = dimension, .fingerprint = fingerprint, .shelf = *ret};
    return true;
}

/* A server that does not start is worse than vectors that are made again. */
static bool forgive(struct salvage *s, const struct status *failed, struct status *st) {
    if (failed->code != STATUS_NO_SPACE) {
        *st = *failed;
        return false;
    }
    if (!s->no_room) {
        log_status(LOG_LEVEL_WARN, "vectors of another model than the library's are not kept", failed);
    }
    s->no_room = true;
    return true;
}

static bool put_on(struct vector_shelf *shelf, const struct op_vectors *v, struct status *st) {
    struct slice id;
    uint64_t hash = 0;
    size_t at = 0;
    bool ok = true;
    for (uint32_t i = 0; ok && op_vectors_next(v->chunks, &at, &id, &hash); i++) {
        ok = vector_shelf_put(shelf, item_id_hash(id), hash, v->values.data + (size_t)i * v->dimension * sizeof(float), st);
    }
    return ok;
}

bool salvage_shelve(struct salvage *s, struct library *lib, const struct op *op, struct status *st) {
    const struct op_vectors *v = &op->as.vectors;
    struct vector_shelf *shelf = NULL;
    struct status failed = {0};
    if (!library_other_fits(lib, v) || v->count == 0) {
        return true;
    }
    return (find_shelf(s, &op->library, v->dimension, v->fingerprint, &shelf, &failed) && put_on(shelf, v, &failed)) || forgive(s, &failed, st);
}

bool salvage_shelve_all(struct salvage *s, struct library *lib, const struct uuid *id, struct status *st) {
    struct vector_shelf *shelf = NULL;
    struct status failed = {0};
    uint32_t dimension = 0;
    uint64_t fingerprint = 0;
    if (!library_is_provided(lib, &dimension, &fingerprint)) {
        return true;
    }
    return (find_shelf(s, id, dimension, fingerprint, &shelf, &failed) && vector_shelf_put_all(shelf, lib, &failed)) || forgive(s, &failed, st);
}

void salvage_clear_shelves(struct salvage *s) {
    for (size_t i = 0; s != NULL && i < s->shelf_count; i++) {
        vector_shelf_close(s->shelves[i].shelf);
    }
    if (s != NULL) {
        s->shelf_count = 0;
    }
}

/* Those that hold what the library has by now, or that nobody can want, are in the way of nothing but room. */
static bool end_shelf(struct salvage *s, const struct shelved *shelf, struct catalog *c, struct status *st) {
    struct library *lib = catalog_acquire(c, &shelf->library);
    struct library_definition d = {0};
    struct reading rd = {0};
    bool wanted = false;
    if (lib != NULL) {
        library_reading(lib, &rd);
        wanted = reading_definition(&rd, &d, st) && d.exchange.state != EXCHANGE_NONE && d.exchange.fingerprint == shelf->fingerprint &&
                 d.exchange.dimension == shelf->dimension;
    }
    catalog_release(c, lib);
    char name[ARENA_DIRECTORY_MAX];
    arena_directory_name(&shelf->library, vector_shelf_directory(shelf->shelf), name);
    return wanted || io_remove_tree(s->vectors_dir_fd, name, st);
}

/* --- the end --- */

static void fill(struct salvage *s, struct library *lib, const struct reading *rd, size_t first, size_t end, const struct other_vectors *shelves) {
    for (uint32_t slot = 0; slot < rd->view.chunk_slots; slot++) {
        const struct chunk_row *c = arena_chunk(rd->arena, slot);
        if (c->deleted_lsn != 0 || (c->state & CHUNK_HAS_VECTOR) != 0) {
            continue;
        }
        const float *vector = find_in_all(s, first, end, rd->view.dimension, c->id_hash, c->text_hash);
        vector = vector != NULL ? vector : other_vectors_find(shelves, c->id_hash, c->text_hash);
        if (vector != NULL) {
            backlog_give_vector(lib, rd->view.dimension, slot, vector);
        }
    }
}

bool salvage_fill(struct salvage *s, struct catalog *c, const struct uuid *library, struct status *st) {
    struct library *lib = catalog_acquire(c, library);
    struct reading rd;
    size_t first = 0;
    size_t end = 0;
    if (lib == NULL) {
        return true; /* deleted since */
    }
    library_reading(lib, &rd);
    const uint32_t except[OTHER_EXCEPT] = {rd.view.directory, rd.view.directory};
    struct other_vectors *shelves = NULL;
    bool ok = rd.view.dimension == 0 ||
              (arenas_of(s, &rd.view, &first, &end, st) &&
               other_vectors_open(s->vectors_dir_fd, library, except, rd.view.dimension, rd.view.model_fingerprint, &shelves, st));
    if (ok && rd.view.dimension != 0) {
        fill(s, lib, &rd, first, end, shelves);
    }
    other_vectors_close(shelves);
    catalog_release(c, lib);
    return ok;
}

static bool is_exchanging(struct catalog *c, const struct uuid *id) {
    struct library *lib = catalog_acquire(c, id);
    bool exchanging = lib != NULL && library_exchange_state(lib) != EXCHANGE_NONE;
    catalog_release(c, lib);
    return exchanging;
}

/* One whose vectors were of use to the library as it is now has given them. */
static bool end_arena(struct salvage *s, struct old_arena *a, struct catalog *c, struct status *st) {
    bool given = a->vectors != NULL;
    uint32_t number = 0;
    close_arena(a);
    if (given || !is_exchanging(c, &a->name.id)) {
        return remove_directory(s->vectors_dir_fd, &a->name, DIRECTORY_OLD, st);
    }
    char old_name[NAME_BYTES];
    char new_name[NAME_BYTES];
    if (!arena_free_directory(s->vectors_dir_fd, &a->name.id, &number, st)) {
        return false;
    }
    directory_name(&a->name, DIRECTORY_OLD, old_name);
    arena_directory_name(&a->name.id, number, new_name);
    return io_rename_at(s->vectors_dir_fd, old_name, s->vectors_dir_fd, new_name, st);
}

bool salvage_end(struct salvage *s, struct catalog *c, struct status *st) {
    bool ok = true;
    for (size_t i = 0; i < s->count; i++) { /* salvage_free closes those behind a failure */
        ok = ok && end_arena(s, &s->arenas[i], c, st);
    }
    for (size_t i = 0; i < s->shelf_count; i++) {
        ok = ok && end_shelf(s, &s->shelves[i], c, st);
    }
    return ok;
}

void salvage_free(struct salvage *s) {
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < s->count; i++) {
        close_arena(&s->arenas[i]);
    }
    salvage_clear_shelves(s);
    free(s->shelves);
    free(s->arenas);
    free(s->rows);
    free(s);
}

/* Whether it is the arena of a library that lives, or may have vectors for the side of one. */
static bool in_use(struct catalog *c, const struct directory *d) {
    struct library *lib = d->kind == DIRECTORY_ARENA ? catalog_acquire(c, &d->id) : NULL;
    struct reading rd;
    if (lib == NULL) {
        return false;
    }
    library_reading(lib, &rd);
    bool used = rd.view.directory == d->number || library_exchange_state(lib) != EXCHANGE_NONE;
    catalog_release(c, lib);
    return used;
}

bool salvage_remove_strays(int vectors_dir_fd, struct catalog *c, struct status *st) {
    struct directories found = {0};
    bool ok = list_directories(vectors_dir_fd, &found, st);
    for (size_t i = 0; ok && i < found.count; i++) {
        ok = in_use(c, &found.at[i]) || remove_directory(vectors_dir_fd, &found.at[i], found.at[i].kind, st);
    }
    free(found.at);
    return ok;
}
