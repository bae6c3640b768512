/*
 * compact.c - compaction (compact.h).
 *
 * The new arena is a library of its own, which nobody finds by id; linkers alone get at it. Documents are put into it by the code that puts them when
 * they are committed, with the vectors that the old arena has, so rows, records, ids, terms, columns and graph come out as they would in a library
 * that never had anything else. Rows keep the LSN of their creation. A document that has lost chunks is written anew without them, as a
 * snapshot writes it: the chunks behind move up by one place.
 *
 * Commits go on meanwhile:
 *   - new documents have higher rows, and are copied when their turn comes;
 *   - a deletion is noted, after its rows were marked. A copy either sees the mark, or the note comes to it;
 *   - vectors that are made after their chunk was copied are fetched later;
 *   - the definition is compared at the end.
 * So the last part, in which the committer waits, is what came in since the step before.
 *
 * Rows and slots are copied in ascending order, so both maps from the new to the old are ascending and searched by halving.
 *
 * A crash at any point leaves the old arena whole under its name, or the new one under its name: the one rename is the border, and a start that finds
 * both asks both for vectors (durable/salvage.c). Whatever fails before that rename ends the compaction and changes nothing else.
 */
#include "store/compact.h"

#include "base/io.h"
#include "store/backlog.h"
#include "store/library_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The committer may be kept waiting for so many documents and noted deletions, and the tail may have so many chunks, or this share of all. */
#define READY_DOCUMENTS 64
#define READY_DELETIONS 512
#define READY_TAIL 512
#define READY_SHARE 64
#define LEAST_ROOM 1024
/* Disk space that must be left to commits while both arenas are there: this much, and this share of the new one. */
#define SPARE_BYTES ((uint64_t)16 << 20)
#define SPARE_SHARE 4

/* A growing list of numbers. */
struct numbers {
    uint32_t *at;
    uint32_t count;
    uint32_t room;
};

struct compaction {
    struct catalog *catalog;
    struct library *source;
    struct library *target;
    struct texts *texts;
    struct deletions deletions;
    struct deletion *taken; /* out of deletions */
    size_t taken_room;
    uint32_t next_row;      /* of the source's documents */
    struct numbers rows;    /* of the source, by the target's */
    struct numbers slots;   /* likewise */
    struct numbers missing; /* slots of the target that were copied without a vector */
    uint32_t rows_left;     /* at the last step */
    struct buf bytes;       /* a document that is written anew */
    float *vectors;
    size_t vectors_room; /* numbers */
    bool begun;
    bool switched;
};

uint64_t compaction_gain(const struct library_view *view) {
    return (uint64_t)(view->chunk_slots - view->live_chunks) + (view->document_rows - view->live_documents);
}

/* --- memory --- */

static bool numbers_room(struct numbers *n, uint64_t more, struct status *st) {
    uint64_t wanted = n->count + more;
    if (wanted <= n->room) {
        return true;
    }
    uint64_t room = wanted + wanted / 2 + LEAST_ROOM;
    room = room < UINT32_MAX ? room : UINT32_MAX;
    uint32_t *at = (uint32_t *)realloc(n->at, (size_t)room * sizeof *at);
    if (at == NULL || wanted > UINT32_MAX) {
        n->at = at != NULL ? at : n->at;
        return status_no_memory(st);
    }
    n->at = at;
    n->room = (uint32_t)room;
    return true;
}

/* The place of a value; n->count: it is not there. */
static uint32_t numbers_find(const struct numbers *n, uint32_t value) {
    uint32_t low = 0;
    uint32_t high = n->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (n->at[middle] < value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < n->count && n->at[low] == value ? low : n->count;
}

static bool vectors_room(struct compaction *k, size_t chunks, struct status *st) {
    size_t wanted = chunks * k->target->view.dimension;
    if (wanted <= k->vectors_room) {
        return true;
    }
    float *vectors = (float *)realloc(k->vectors, wanted * sizeof *vectors);
    if (vectors == NULL) {
        return status_no_memory(st);
    }
    k->vectors = vectors;
    k->vectors_room = wanted;
    return true;
}

/* --- what the committer notes --- */

void deletions_note(struct deletions *d, uint32_t row, bool document, uint64_t lsn) {
    (void)pthread_mutex_lock(&d->mutex);
    if (d->count == d->room && !d->lost) {
        size_t room = d->room * 2 + LEAST_ROOM;
        struct deletion *items = (struct deletion *)realloc(d->items, room * sizeof *items);
        d->lost = items == NULL; /* the compaction will fail; the deletion does not */
        d->items = items != NULL ? items : d->items;
        d->room = items != NULL ? room : d->room;
    }
    if (!d->lost) {
        d->items[d->count++] = (struct deletion){.row = row, .document = document, .lsn = lsn};
    }
    (void)pthread_mutex_unlock(&d->mutex);
}

static void apply_deletion(struct compaction *k, const struct deletion *d) {
    struct library *to = k->target;
    uint32_t at = numbers_find(d->document ? &k->rows : &k->slots, d->row);
    if (d->document) {
        if (at < k->rows.count && library_document(to, at)->deleted_lsn == 0) {
            library_delete_document(to, at, d->lsn);
        }
    } else if (at < k->slots.count && library_chunk(to, at)->deleted_lsn == 0) {
        library_delete_chunk(to, at, d->lsn);
    }
}

/* Takes over all deletions noted so far. */
static bool take_deletions(struct compaction *k, struct status *st) {
    struct deletions *d = &k->deletions;
    (void)pthread_mutex_lock(&d->mutex);
    struct deletion *items = d->items;
    size_t room = d->room;
    size_t count = d->count;
    bool lost = d->lost;
    d->items = k->taken;
    d->room = k->taken_room;
    d->count = 0;
    (void)pthread_mutex_unlock(&d->mutex);
    k->taken = items;
    k->taken_room = room;
    for (size_t i = 0; i < count; i++) {
        apply_deletion(k, &items[i]);
    }
    return !lost || status_no_memory(st);
}

static size_t deletions_waiting(struct compaction *k) {
    (void)pthread_mutex_lock(&k->deletions.mutex);
    size_t count = k->deletions.count;
    (void)pthread_mutex_unlock(&k->deletions.mutex);
    return count;
}

/* --- copying --- */

/* Appends the document's living slots to k->slots, uncounted; returns how many. */
static uint32_t living_slots(struct compaction *k, const struct document_row *d) {
    uint32_t *slots = k->slots.at + k->slots.count;
    uint32_t count = 0;
    for (uint32_t slot = d->first_chunk; slot < d->first_chunk + d->num_chunks; slot++) {
        /* pairs with: CHUNK_DELETED. One that is deleted after this look is noted. */
        if (load_acquire_u64(&library_chunk(k->source, slot)->deleted_lsn) == 0) {
            slots[count++] = slot;
        }
    }
    return count;
}

/* The put of a document without the chunks that are not in slots. */
static bool encode_without(struct compaction *k, const struct op_document *whole, uint32_t first_chunk, const uint32_t *slots,
                           uint32_t count, struct op *ret, struct status *st) {
    struct op_document d = *whole;
    struct chunk_walk walk = {.bytes = whole->chunks};
    struct op_chunk chunk;
    uint32_t kept = 0;
    d.num_chunks = count;
    buf_reset(&k->bytes);
    op_encode_document(&k->bytes, &k->source->id, &d);
    for (uint32_t i = 0; kept < count && chunk_walk_next(&walk, &chunk); i++) {
        if (slots[kept] == first_chunk + i) {
            op_encode_chunk(&k->bytes, &chunk);
            kept++;
        }
    }
    op_encode_vectors(&k->bytes, NULL, 0, 0);
    return buf_check(&k->bytes, st) && op_decode(buf_slice(&k->bytes), NULL, ret, st);
}

static bool document_op(struct compaction *k, const struct document_row *row, uint32_t count, struct op *ret, struct status *st) {
    struct slice record = arena_record(&k->source->arena, row->record, row->record_length);
    struct op_document d;
    if (!op_document_decode(record, &d) || d.num_chunks != row->num_chunks) {
        return status_set(st, STATUS_CORRUPT, "the record of a document does not decode");
    }
    if (count < d.num_chunks) {
        return encode_without(k, &d, row->first_chunk, k->slots.at + k->slots.count, count, ret, st);
    }
    *ret = (struct op){.type = OP_DOCUMENT_PUT, .library = k->source->id, .bytes = record, .as.document = d};
    return true;
}

/* The vectors of the slots, NaN first where there is none. */
static void gather_vectors(struct compaction *k, uint32_t count) {
    uint32_t dimension = k->target->view.dimension;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = k->slots.at[k->slots.count + i];
        float *out = k->vectors + (size_t)i * dimension;
        /* pairs with: CHUNK_STATE */
        if ((load_acquire_u32(&library_chunk(k->source, slot)->state) & CHUNK_HAS_VECTOR) != 0) {
            memcpy(out, library_vector(k->source, dimension, slot), dimension * sizeof *out);
        } else {
            out[0] = NAN;
            k->missing.at[k->missing.count++] = k->slots.count + i;
        }
    }
}

static bool copy_document(struct compaction *k, uint32_t row, struct status *st) {
    const struct document_row *d = library_document(k->source, row);
    struct op op;
    if (load_acquire_u64(&d->deleted_lsn) != 0) {
        return true;
    }
    if (!numbers_room(&k->rows, 1, st) || !numbers_room(&k->slots, d->num_chunks, st) ||
        !numbers_room(&k->missing, d->num_chunks, st) || !vectors_room(k, d->num_chunks, st)) {
        return false;
    }
    uint32_t count = living_slots(k, d);
    if (!document_op(k, d, count, &op, st) || !library_reserve(k->target, &op, st)) {
        return false;
    }
    gather_vectors(k, count);
    library_put(k->target, &op, d->created_lsn, k->vectors);
    k->rows.at[k->rows.count++] = row;
    k->slots.count += count;
    return true;
}

/* Vectors that have been made since their chunks were copied. */
static void fetch_missing(struct compaction *k) {
    struct numbers *missing = &k->missing;
    uint32_t dimension = k->target->view.dimension;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < missing->count; i++) {
        uint32_t slot = missing->at[i];
        uint32_t from = k->slots.at[slot];
        if (library_chunk(k->target, slot)->deleted_lsn != 0) {
            continue;
        }
        if ((load_acquire_u32(&library_chunk(k->source, from)->state) & CHUNK_HAS_VECTOR) == 0) { /* pairs with: CHUNK_STATE */
            missing->at[kept++] = slot;
            continue;
        }
        library_settle_vector(k->target, dimension, slot, library_vector(k->source, dimension, from));
        library_tell_linkers(k->target, slot);
    }
    missing->count = kept;
}

/* What was put so far becomes what background threads see. */
static void show(struct library *lib) {
    (void)pthread_mutex_lock(&lib->published_mutex);
    lib->published = lib->view;
    (void)pthread_mutex_unlock(&lib->published_mutex);
}

static bool copy_rows(struct compaction *k, uint32_t end, struct status *st) {
    for (; k->next_row < end; k->next_row++) {
        if (!copy_document(k, k->next_row, st)) {
            return false;
        }
    }
    return true;
}

static uint32_t published_rows(struct library *lib) {
    struct reading rd;
    library_reading(lib, &rd);
    return rd.view.document_rows;
}

bool compaction_step(struct compaction *k, uint32_t documents, bool *ret_more, struct status *st) {
    uint32_t rows = published_rows(k->source);
    uint32_t end = rows - k->next_row > documents ? k->next_row + documents : rows;
    if (!copy_rows(k, end, st) || !take_deletions(k, st)) {
        return false;
    }
    fetch_missing(k);
    show(k->target);
    k->rows_left = rows - end;
    *ret_more = k->rows_left > 0;
    return true;
}

/* --- begin --- */

/* The definition as it stands, as an op. d: decoded from it. */
static bool definition_op(struct compaction *k, struct slice record, struct op *ret, struct status *st) {
    struct library_definition d;
    if (!library_definition_decode(record, &d)) {
        return status_set(st, STATUS_CORRUPT, "a library's definition does not decode");
    }
    buf_reset(&k->bytes);
    op_encode_library(&k->bytes, OP_LIBRARY_CREATE, &k->source->id, &d);
    return buf_check(&k->bytes, st) && op_decode(buf_slice(&k->bytes), NULL, ret, st);
}

static struct slice definition_of(const struct library *lib, const struct library_view *view) {
    return arena_record(&lib->arena, view->definition, view->definition_length);
}

/* A compaction that fills the disk would fail by itself, but commits beside it would be refused, too. */
static bool check_space(struct compaction *k, const struct library_view *view, struct status *st) {
    struct library_file files[LIBRARY_FILES_MAX];
    size_t count = library_files(k->source, files);
    uint64_t bytes = 0;
    uint64_t available = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += files[i].used;
    }
    uint64_t needed = (uint64_t)((double)bytes * view->live_chunks / (view->chunk_slots + 1.0));
    needed += needed / SPARE_SHARE + SPARE_BYTES;
    if (!io_free_bytes(k->catalog->options.vectors_dir_fd, &available, st)) {
        return false;
    }
    return available >= needed || status_set(st, STATUS_NO_SPACE, "the new files need about %llu bytes and %llu are free",
                                             (unsigned long long)needed, (unsigned long long)available);
}

static bool make_target(struct compaction *k, struct status *st) {
    struct reading rd;
    struct op op;
    library_reading(k->source, &rd);
    if (rd.view.dimension == 0) {
        return status_set(st, STATUS_INVALID, "the library has no vectors yet");
    }
    if (!check_space(k, &rd.view, st)) {
        return false;
    }
    k->target = library_new(k->catalog, &k->source->id);
    if (k->target == NULL) {
        return status_no_memory(st);
    }
    struct library *lib = k->target;
    lib->texts = k->texts;
    lib->view.directory = rd.view.directory + 1;
    arena_directory_name(&lib->id, lib->view.directory, lib->directory);
    size_t len = strlen(lib->directory);
    (void)snprintf(lib->directory + len, sizeof lib->directory - len, ARENA_NEW_SUFFIX);
    if (!definition_op(k, definition_of(k->source, &rd.view), &op, st) || !library_create(lib, &op, rd.view.dimension, st)) {
        return false;
    }
    library_begin_view(lib, &op, rd.view.dimension);
    show(lib);
    return true;
}

bool compaction_new(struct catalog *c, struct library *lib, struct compaction **ret, struct status *st) {
    struct compaction *k = (struct compaction *)calloc(1, sizeof *k);
    if (k == NULL) {
        return status_no_memory(st);
    }
    k->catalog = c;
    k->source = lib;
    (void)pthread_mutex_init(&k->deletions.mutex, NULL);
    if (!texts_new(&k->texts, st) || !make_target(k, st)) {
        compaction_end(k);
        return false;
    }
    *ret = k;
    return true;
}

bool compaction_begin(struct compaction *k, struct status *st) {
    struct library *lib = k->source;
    if (library_is_deleted(lib)) {
        return status_set(st, STATUS_NOT_FOUND, "the library was deleted");
    }
    (void)pthread_mutex_lock(&lib->graph_mutex);
    bool free_place = !lib->compacting && !lib->rebuilding;
    lib->compacting = lib->compacting || free_place;
    (void)pthread_mutex_unlock(&lib->graph_mutex);
    if (!free_place) {
        return status_set(st, STATUS_CONFLICT, "the library's index is being rebuilt or compacted already");
    }
    lib->deletions = &k->deletions;
    catalog_add_shadow(k->catalog, k->target);
    k->begun = true;
    return true;
}

/* --- progress --- */

/* Chunks that have a vector and are not linked. */
static uint64_t waiting(struct library *lib, uint32_t most) {
    struct reading rd;
    library_reading(lib, &rd);
    struct graph_work *g = library_graph(lib, false);
    uint64_t count = g != NULL ? link_queue_waiting(lib, g, rd.view.chunk_slots, most) : 0;
    library_graph_release(lib, g);
    return count;
}

static bool is_linked(struct compaction *k, uint32_t slots) {
    uint32_t few = slots / READY_SHARE < READY_TAIL ? slots / READY_SHARE : READY_TAIL;
    uint64_t tail = waiting(k->target, few + 1);
    /* where more is committed than is linked, the old graph has a tail as well */
    return tail <= few || waiting(k->target, UINT32_MAX) <= waiting(k->source, UINT32_MAX);
}

void compaction_progress(struct compaction *k, uint64_t *ret_done, uint64_t *ret_total, bool *ret_ready) {
    struct reading rd;
    library_reading(k->source, &rd);
    uint32_t copied = k->target->view.live_chunks;
    struct graph_work *g = library_graph(k->target, false);
    uint64_t linked = g != NULL ? link_queue_settled(g, k->target->view.chunk_slots) : 0;
    *ret_done = copied + linked;
    *ret_total = (uint64_t)rd.view.live_chunks * (g != NULL ? 2 : 1);
    *ret_total = *ret_total > *ret_done ? *ret_total : *ret_done;
    library_graph_release(k->target, g);
    *ret_ready = k->rows_left <= READY_DOCUMENTS && rd.view.document_rows - k->next_row <= READY_DOCUMENTS &&
                 deletions_waiting(k) <= READY_DELETIONS && is_linked(k, k->target->view.chunk_slots);
}

/* --- the switch --- */

/* Takes over a definition that was changed meanwhile. */
static bool copy_definition(struct compaction *k, struct status *st) {
    struct slice now = definition_of(k->source, &k->source->view);
    struct op op;
    if (slice_equal(now, definition_of(k->target, &k->target->view))) {
        return true;
    }
    if (!definition_op(k, now, &op, st)) {
        return false;
    }
    op.type = OP_LIBRARY_UPDATE;
    if (!library_reserve(k->target, &op, st)) {
        return false;
    }
    library_define(k->target, &op);
    return true;
}

static bool take_name(struct compaction *k, struct status *st) {
    struct library *lib = k->target;
    char name[ARENA_DIRECTORY_MAX];
    int fd = k->catalog->options.vectors_dir_fd;
    arena_directory_name(&lib->id, lib->view.directory, name);
    if (!io_rename_at(fd, lib->directory, fd, name, st)) {
        return false;
    }
    memcpy(lib->directory, name, sizeof name);
    return true;
}

bool compaction_switch(struct compaction *k, struct status *st) {
    struct library *from = k->source;
    struct library *to = k->target;
    if (library_is_deleted(from)) {
        return status_set(st, STATUS_NOT_FOUND, "the library was deleted");
    }
    if (!copy_rows(k, from->view.document_rows, st) || !take_deletions(k, st) || !copy_definition(k, st)) {
        return false;
    }
    fetch_missing(k);
    if (!take_name(k, st)) {
        return false;
    }
    to->texts = k->catalog->texts; /* it has room for every text of the old one */
    to->view.live = 1;
    to->view.lsn = from->view.lsn;
    to->view.arena_generation = ++k->catalog->next_arena_generation;
    from->deletions = NULL;
    from->keep_files = k->catalog->options.keep_replaced;
    catalog_exchange(k->catalog, from, to);
    k->switched = true;
    return true;
}

static void give_up(struct compaction *k) {
    if (k->begun) {
        k->source->deletions = NULL;
        (void)pthread_mutex_lock(&k->source->graph_mutex);
        k->source->compacting = false;
        (void)pthread_mutex_unlock(&k->source->graph_mutex);
        catalog_drop_shadow(k->catalog, k->target);
    } else if (k->target != NULL) {
        library_close(k->target, true);
        library_free(k->target);
    }
}

void compaction_end(struct compaction *k) {
    if (k == NULL) {
        return;
    }
    if (k->switched) {
        catalog_release(k->catalog, k->source); /* the table's reference */
    } else {
        give_up(k);
    }
    texts_free(k->texts);
    (void)pthread_mutex_destroy(&k->deletions.mutex);
    free(k->deletions.items);
    free(k->taken);
    free(k->rows.at);
    free(k->slots.at);
    free(k->missing.at);
    free(k->vectors);
    buf_fini(&k->bytes);
    free(k);
}
