/*
 * restore_state.c - what libraries, documents and chunks there are while ops are restored: as much as it takes to tell whether the next op can be one that
 * a server logged. A server's own check (store/catalog_check.c) asks the same of its arenas; here there are none, only ids.
 *
 * An id counts as its 128-bit digest under a random seed, with its library and that library's incarnation, so whatever belonged to a deleted library is
 * simply never met again. A chunk costs 36 bytes.
 */
#include "durable/restore_internal.h"

#include "base/hash.h"
#include "store/catalog.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>

enum { FIRST_CAP = 64, LIBRARIES_MAX = 16384 };
#define ITEMS_MAX ((uint32_t)1 << 28) /* documents, and chunks: 10 GB of memory */

struct key {
    uint64_t a, b;
};

struct document {
    struct key key;
    uint32_t first; /* of its chunks in refs */
    uint32_t count;
    bool live;
};

struct chunk {
    struct key key;
    uint32_t document;
    bool live;
};

/* Open addressing: index + 1, 0: free; at most half full. */
struct table {
    uint32_t *at;
    size_t mask;
    uint32_t used;
};

struct restore_state {
    bool libraries_only;
    uint64_t seed[2];
    struct restore_library *libraries;
    uint32_t library_count, library_cap;
    uint32_t incarnations;
    struct document *documents;
    uint32_t document_count, document_cap;
    struct chunk *chunks;
    uint32_t chunk_count, chunk_cap;
    uint32_t *refs; /* chunk numbers */
    uint32_t ref_count, ref_cap;
    struct table by_document, by_chunk;
};

struct restore_state *restore_state_new(bool libraries_only) {
    struct restore_state *s = (struct restore_state *)calloc(1, sizeof *s);
    if (s != NULL) {
        s->libraries_only = libraries_only;
        if (getrandom(s->seed, sizeof s->seed, 0) != (ssize_t)sizeof s->seed) {
            free(s);
            s = NULL;
        }
    }
    return s;
}

void restore_state_free(struct restore_state *s) {
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < s->library_count; i++) {
        free(s->libraries[i].name);
    }
    free(s->libraries);
    free(s->documents);
    free(s->chunks);
    free(s->refs);
    free(s->by_document.at);
    free(s->by_chunk.at);
    free(s);
}

/* --- room --- */

/* Room for `extra` more elements. */
static bool grow(void **data, uint32_t count, uint32_t *cap, uint32_t extra, size_t size, struct status *st) {
    if (extra > ITEMS_MAX - count) {
        return status_set(st, STATUS_TOO_LARGE, "there are more than %u documents or chunks, too many to restore at once", ITEMS_MAX);
    }
    if (count + extra <= *cap) {
        return true;
    }
    uint32_t wanted = *cap == 0 ? FIRST_CAP : *cap;
    while (wanted < count + extra) {
        wanted *= 2;
    }
    void *grown = realloc(*data, (size_t)wanted * size);
    if (grown == NULL) {
        return status_no_memory(st);
    }
    *data = grown;
    *cap = wanted;
    return true;
}

static struct key digest(const struct restore_state *s, const struct restore_library *lib, struct slice id) {
    uint64_t salt = (uint64_t)lib->incarnation * 0x9e3779b97f4a7c15ULL;
    return (struct key){hash64(s->seed[0] ^ salt, id.data, id.len), hash64(s->seed[1] + salt, id.data, id.len)};
}

static bool same(struct key x, struct key y) {
    return x.a == y.a && x.b == y.b;
}

/* The element's number, or the free place for it in the table; key_of reads the key of an element. */
typedef struct key (*key_of_fn)(const struct restore_state *s, uint32_t number);

static struct key key_of_document(const struct restore_state *s, uint32_t number) {
    return s->documents[number].key;
}

static struct key key_of_chunk(const struct restore_state *s, uint32_t number) {
    return s->chunks[number].key;
}

static size_t place_of(const struct restore_state *s, const struct table *t, struct key key, key_of_fn key_of) {
    size_t at = (size_t)key.a & t->mask;
    while (t->at[at] != 0 && !same(key_of(s, t->at[at] - 1), key)) {
        at = (at + 1) & t->mask;
    }
    return at;
}

static bool make_room(const struct restore_state *s, struct table *t, key_of_fn key_of, struct status *st) {
    if (t->at != NULL && 2 * ((size_t)t->used + 1) <= t->mask + 1) {
        return true;
    }
    size_t size = t->at == NULL ? 2 * (size_t)FIRST_CAP : 2 * (t->mask + 1);
    struct table wider = {.at = (uint32_t *)calloc(size, sizeof(uint32_t)), .mask = size - 1, .used = t->used};
    if (wider.at == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; t->at != NULL && i <= t->mask; i++) {
        if (t->at[i] != 0) {
            wider.at[place_of(s, &wider, key_of(s, t->at[i] - 1), key_of)] = t->at[i];
        }
    }
    free(t->at);
    *t = wider;
    return true;
}

/* --- libraries --- */

static struct restore_library *find_library(const struct restore_state *s, const struct uuid *id) {
    for (size_t i = 0; i < s->library_count; i++) {
        if (uuid_equal(&s->libraries[i].id, id)) {
            return &s->libraries[i];
        }
    }
    return NULL;
}

/* The last one takes its place. What it held in documents and chunks stays, and is found no more. */
static void drop_library(struct restore_state *s, struct restore_library *lib) {
    free(lib->name);
    *lib = s->libraries[--s->library_count];
}

static uint64_t word(struct slice text) {
    return hash64(0, text.data, text.len);
}

static bool set_name(struct restore_library *lib, struct slice name, struct status *st) {
    char *copy = (char *)malloc(name.len + 1);
    if (copy == NULL) {
        return status_no_memory(st);
    }
    if (name.len > 0) {
        memcpy(copy, name.data, name.len);
    }
    copy[name.len] = '\0';
    free(lib->name);
    lib->name = copy;
    return true;
}

static bool wrong(const struct op *op, const char *what, struct status *st) {
    char id[UUID_TEXT + 1];
    uuid_format(&op->library, id);
    return status_set(st, STATUS_CORRUPT, "%s in library %s: %s", op_type_name(op->type), id, what);
}

static bool create(struct restore_state *s, const struct op *op, struct status *st) {
    const struct library_definition *d = &op->as.definition;
    if (find_library(s, &op->library) != NULL) {
        return wrong(op, "its id is taken", st);
    }
    if (s->library_count == LIBRARIES_MAX) {
        return status_set(st, STATUS_TOO_LARGE, "there are more than %d libraries", LIBRARIES_MAX);
    }
    if (!grow((void **)&s->libraries, s->library_count, &s->library_cap, 1, sizeof *s->libraries, st)) {
        return false;
    }
    struct restore_library lib = {.id = op->library,
                                  .incarnation = ++s->incarnations,
                                  .brings_vectors = slice_is(d->embedding_model, "none"),
                                  .model = word(d->embedding_model),
                                  .language = word(d->language),
                                  .dimension = d->dimension};
    if (!set_name(&lib, d->name, st)) {
        return false;
    }
    s->libraries[s->library_count++] = lib;
    return true;
}

static bool update(struct restore_library *lib, const struct op *op, struct status *st) {
    const struct library_definition *d = &op->as.definition;
    if (lib->model != word(d->embedding_model) || lib->language != word(d->language)) {
        return wrong(op, "model and language do not change", st);
    }
    if (d->dimension != 0 && lib->dimension != 0 && d->dimension != lib->dimension) {
        return wrong(op, "its dimension does not change", st);
    }
    return set_name(lib, d->name, st);
}

/* A step of an exchange. Where it switches, vectors of before do not count, and those to come have the new dimension. */
static bool exchange_model(struct restore_library *lib, const struct op *op, struct status *st) {
    const struct library_definition *d = &op->as.definition;
    if (op->switches) {
        lib->brings_vectors = slice_is(d->embedding_model, "none");
        lib->model = word(d->embedding_model);
        lib->dimension = d->dimension;
    }
    return update(lib, op, st);
}

/* --- documents --- */

static void delete_chunk(struct restore_state *s, struct restore_library *lib, uint32_t number) {
    if (s->chunks[number].live) {
        s->chunks[number].live = false;
        lib->chunks--;
    }
}

static void delete_document(struct restore_state *s, struct restore_library *lib, uint32_t number) {
    struct document *d = &s->documents[number];
    for (uint32_t i = 0; i < d->count; i++) {
        uint32_t chunk = s->refs[d->first + i];
        if (s->chunks[chunk].document == number) { /* else it is another document's by now */
            delete_chunk(s, lib, chunk);
        }
    }
    d->live = false;
    lib->documents--;
}

/* The element of that key, live or not; *ret_number UINT32_MAX: there is none. */
static void find_document(const struct restore_state *s, const struct restore_library *lib, struct slice id, uint32_t *ret_number) {
    *ret_number = UINT32_MAX;
    if (s->by_document.at != NULL) {
        uint32_t found = s->by_document.at[place_of(s, &s->by_document, digest(s, lib, id), key_of_document)];
        *ret_number = found != 0 ? found - 1 : UINT32_MAX;
    }
}

static bool add_chunk(struct restore_state *s, struct restore_library *lib, uint32_t document, struct slice id, const struct op *op, struct status *st) {
    struct key key = digest(s, lib, id);
    if (!make_room(s, &s->by_chunk, key_of_chunk, st) || !grow((void **)&s->refs, s->ref_count, &s->ref_cap, 1, sizeof *s->refs, st)) {
        return false;
    }
    size_t place = place_of(s, &s->by_chunk, key, key_of_chunk);
    uint32_t number = s->by_chunk.at[place];
    if (number == 0) {
        if (!grow((void **)&s->chunks, s->chunk_count, &s->chunk_cap, 1, sizeof *s->chunks, st)) {
            return false;
        }
        number = ++s->chunk_count;
        s->by_chunk.at[place] = number;
        s->by_chunk.used++;
    } else if (s->chunks[number - 1].live) {
        return wrong(op, "a chunk's id is taken", st);
    }
    s->chunks[number - 1] = (struct chunk){.key = key, .document = document, .live = true};
    s->refs[s->ref_count++] = number - 1;
    lib->chunks++;
    return true;
}

static bool fits_vectors(struct restore_library *lib, const struct op *op, struct status *st) {
    const struct op_document *d = &op->as.document;
    if (d->num_chunks == 0) {
        return true;
    }
    if (d->vector_dimension == 0) {
        return !lib->brings_vectors || wrong(op, "the chunks lack their vectors, and no model can make them", st);
    }
    if (lib->dimension != 0 && lib->dimension != d->vector_dimension) {
        return wrong(op, "the vectors have another dimension than the library", st);
    }
    lib->dimension = d->vector_dimension;
    return true;
}

static bool take_vectors(struct restore_library *lib, const struct op *op, struct status *st) {
    const struct op_vectors *v = &op->as.vectors;
    if (v->other) {
        return true; /* for the side of an exchange, if that is to have them */
    }
    if (lib->brings_vectors) {
        return wrong(op, "its vectors come from no provider", st);
    }
    if (lib->dimension != 0 && lib->dimension != v->dimension) {
        return wrong(op, "the vectors have another dimension than the library", st);
    }
    lib->dimension = v->dimension;
    return true;
}

static bool new_document(struct restore_state *s, struct restore_library *lib, struct slice id, uint32_t *ret, struct status *st) {
    if (!make_room(s, &s->by_document, key_of_document, st) ||
        !grow((void **)&s->documents, s->document_count, &s->document_cap, 1, sizeof *s->documents, st)) {
        return false;
    }
    struct key key = digest(s, lib, id);
    s->documents[s->document_count] = (struct document){.key = key};
    s->by_document.at[place_of(s, &s->by_document, key, key_of_document)] = s->document_count + 1;
    s->by_document.used++;
    *ret = s->document_count++;
    return true;
}

static bool put(struct restore_state *s, struct restore_library *lib, const struct op *op, struct status *st) {
    const struct op_document *d = &op->as.document;
    uint32_t number = UINT32_MAX;
    if (!fits_vectors(lib, op, st)) {
        return false;
    }
    find_document(s, lib, d->id, &number);
    if (number != UINT32_MAX && s->documents[number].live) {
        if (d->mode == PUT_CREATE) {
            return wrong(op, "the document's id is taken", st);
        }
        delete_document(s, lib, number);
    }
    if (number == UINT32_MAX && !new_document(s, lib, d->id, &number, st)) {
        return false;
    }
    uint32_t first = s->ref_count;
    struct chunk_walk walk = {.bytes = d->chunks};
    struct op_chunk chunk;
    while (chunk_walk_next(&walk, &chunk)) {
        if (!add_chunk(s, lib, number, chunk.id, op, st)) {
            return false;
        }
    }
    s->documents[number].first = first;
    s->documents[number].count = s->ref_count - first;
    s->documents[number].live = true;
    lib->documents++;
    return true;
}

static bool remove_document(struct restore_state *s, struct restore_library *lib, const struct op *op, struct status *st) {
    uint32_t number = UINT32_MAX;
    find_document(s, lib, op->as.document_id, &number);
    if (number == UINT32_MAX || !s->documents[number].live) {
        return wrong(op, "there is no such document", st);
    }
    delete_document(s, lib, number);
    return true;
}

static void remove_chunks(struct restore_state *s, struct restore_library *lib, struct slice ids) {
    struct slice id;
    size_t at = 0;
    while (s->by_chunk.at != NULL && chunk_ids_next(ids, &at, &id)) {
        uint32_t found = s->by_chunk.at[place_of(s, &s->by_chunk, digest(s, lib, id), key_of_chunk)];
        if (found != 0) {
            delete_chunk(s, lib, found - 1);
        }
    }
}

/* --- the whole --- */

bool restore_state_apply(struct restore_state *s, const struct op *op, struct status *st) {
    if (op->type == OP_LOG_CLOSE || op_is_of_keys(op)) {
        return true;
    }
    if (op->type == OP_LIBRARY_CREATE) {
        return create(s, op, st);
    }
    struct restore_library *lib = find_library(s, &op->library);
    if (lib == NULL) {
        return wrong(op, "there is no such library", st);
    }
    if (op->type == OP_LIBRARY_UPDATE) {
        return update(lib, op, st);
    }
    if (op->type == OP_LIBRARY_MODEL) {
        return exchange_model(lib, op, st);
    }
    if (op->type == OP_LIBRARY_DELETE) {
        drop_library(s, lib);
        return true;
    }
    if (s->libraries_only) {
        return true;
    }
    switch (op->type) {
    case OP_DOCUMENT_PUT:
        return put(s, lib, op, st);
    case OP_DOCUMENT_DELETE:
        return remove_document(s, lib, op, st);
    case OP_CHUNKS_DELETE:
        remove_chunks(s, lib, op->as.chunk_ids.ids);
        return true;
    case OP_VECTORS:
        return take_vectors(lib, op, st);
    default:
        return wrong(op, "this program does not know such an op", st);
    }
}

void restore_state_count(const struct restore_state *s, struct restore_report *ret) {
    for (size_t i = 0; i < s->library_count; i++) {
        ret->libraries++;
        ret->documents += s->libraries[i].documents;
        ret->chunks += s->libraries[i].chunks;
    }
}

size_t restore_state_find(const struct restore_state *s, const char *name_or_id, struct uuid *ret) {
    struct uuid id;
    bool is_id = uuid_parse(slice_str(name_or_id), &id);
    size_t found = 0;
    for (size_t i = 0; i < s->library_count; i++) {
        const struct restore_library *lib = &s->libraries[i];
        if (strcmp(lib->name, name_or_id) == 0 || (is_id && uuid_equal(&lib->id, &id))) {
            *ret = lib->id;
            found++;
        }
    }
    return found;
}
