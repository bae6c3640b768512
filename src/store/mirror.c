/*
 * mirror.c - an arena that follows another one (mirror.h).
 *
 * A crash at any point leaves the source whole under its name. What the target had by then is asked for vectors by whoever makes it anew.
 */
#include "store/mirror.h"

#include "base/io.h"

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

static bool vectors_room(struct mirror *m, size_t chunks, struct status *st) {
    size_t wanted = chunks * m->target->view.dimension;
    if (wanted <= m->vectors_room) {
        return true;
    }
    float *vectors = (float *)realloc(m->vectors, wanted * sizeof *vectors);
    if (vectors == NULL) {
        return status_no_memory(st);
    }
    m->vectors = vectors;
    m->vectors_room = wanted;
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

/* The target's row (slot) of the source's; ROW_NONE: it has none. */
static uint32_t counterpart(const struct mirror *m, const struct numbers *n, uint32_t row) {
    if (m->inverted) {
        return row < n->count ? n->at[row] : ROW_NONE;
    }
    uint32_t at = numbers_find(n, row);
    return at < n->count ? at : ROW_NONE;
}

static void apply_deletion(struct mirror *m, const struct deletion *d) {
    struct library *to = m->target;
    uint32_t at = counterpart(m, d->document ? &m->rows : &m->slots, d->row);
    if (at == ROW_NONE) {
        return;
    }
    if (d->document && library_document(to, at)->deleted_lsn == 0) {
        library_delete_document(to, at, d->lsn);
    } else if (!d->document && library_chunk(to, at)->deleted_lsn == 0) {
        library_delete_chunk(to, at, d->lsn);
    }
}

/* Takes over all deletions noted so far. */
static bool take_deletions(struct mirror *m, struct status *st) {
    struct deletions *d = &m->deletions;
    (void)pthread_mutex_lock(&d->mutex);
    struct deletion *items = d->items;
    size_t room = d->room;
    size_t count = d->count;
    bool lost = d->lost;
    d->items = m->taken;
    d->room = m->taken_room;
    d->count = 0;
    (void)pthread_mutex_unlock(&d->mutex);
    m->taken = items;
    m->taken_room = room;
    for (size_t i = 0; i < count; i++) {
        apply_deletion(m, &items[i]);
    }
    return !lost || status_no_memory(st);
}

static size_t deletions_waiting(struct mirror *m) {
    (void)pthread_mutex_lock(&m->deletions.mutex);
    size_t count = m->deletions.count;
    (void)pthread_mutex_unlock(&m->deletions.mutex);
    return count;
}

/* --- copying --- */

/* The slots of the document that live, into `out`; returns how many. */
static uint32_t living_slots(const struct mirror *m, const struct document_row *d, uint32_t *out) {
    uint32_t count = 0;
    for (uint32_t slot = d->first_chunk; slot < d->first_chunk + d->num_chunks; slot++) {
        /* pairs with: CHUNK_DELETED. One that is deleted after this look is noted. */
        if (load_acquire_u64(&library_chunk(m->source, slot)->deleted_lsn) == 0) {
            out[count++] = slot;
        }
    }
    return count;
}

/* The put of a document without the chunks that are not in slots. */
static bool encode_without(struct mirror *m, const struct op_document *whole, uint32_t first_chunk, const uint32_t *slots, uint32_t count,
                           struct op *ret, struct status *st) {
    struct op_document d = *whole;
    struct chunk_walk walk = {.bytes = whole->chunks};
    struct op_chunk chunk;
    uint32_t kept = 0;
    d.num_chunks = count;
    buf_reset(&m->bytes);
    op_encode_document(&m->bytes, &m->source->id, &d);
    for (uint32_t i = 0; kept < count && chunk_walk_next(&walk, &chunk); i++) {
        if (slots[kept] == first_chunk + i) {
            op_encode_chunk(&m->bytes, &chunk);
            kept++;
        }
    }
    op_encode_vectors(&m->bytes, NULL, 0, 0);
    return buf_check(&m->bytes, st) && op_decode(buf_slice(&m->bytes), NULL, ret, st);
}

static bool document_op(struct mirror *m, const struct document_row *row, const uint32_t *slots, uint32_t count, struct op *ret,
                        struct status *st) {
    struct slice record = arena_record(&m->source->arena, row->record, row->record_length);
    struct op_document d;
    if (!op_document_decode(record, &d) || d.num_chunks != row->num_chunks) {
        return status_set(st, STATUS_CORRUPT, "the record of a document does not decode");
    }
    if (count < d.num_chunks) {
        return encode_without(m, &d, row->first_chunk, slots, count, ret, st);
    }
    *ret = (struct op){.type = OP_DOCUMENT_PUT, .library = m->source->id, .bytes = record, .as.document = d};
    return true;
}

static const float *old_vector(struct mirror *m, const struct chunk_row *c) {
    const float *vector = other_vectors_find(m->old, c->id_hash, c->text_hash);
    m->reused += vector != NULL ? 1 : 0;
    return vector;
}

/* What the target takes for a slot of the source; NULL: nobody has it yet. */
static const float *vector_for(struct mirror *m, uint32_t slot) {
    const struct chunk_row *c = library_chunk(m->source, slot);
    if (!m->same_model) {
        return old_vector(m, c);
    }
    /* pairs with: CHUNK_STATE */
    bool there = (load_acquire_u32(&c->state) & CHUNK_HAS_VECTOR) != 0;
    return there ? library_vector(m->source, m->target->view.dimension, slot) : NULL;
}

/* The vectors of the slots, NaN first where there is none. */
static void gather_vectors(struct mirror *m, const uint32_t *slots, uint32_t count) {
    uint32_t dimension = m->target->view.dimension;
    for (uint32_t i = 0; i < count && dimension != 0; i++) {
        float *out = m->vectors + (size_t)i * dimension;
        const float *vector = vector_for(m, slots[i]);
        if (vector != NULL) {
            memcpy(out, vector, dimension * sizeof *out);
            continue;
        }
        out[0] = NAN;
        if (m->same_model) {
            m->missing.at[m->missing.count++] = m->target->view.chunk_slots + i;
        }
    }
}

/* Notes which of the target's rows and slots a document of the source has become; count 0 of `copied` false: none. */
static void note_pairs(struct mirror *m, uint32_t row, const struct document_row *d, const uint32_t *slots, uint32_t count, bool copied,
                       uint32_t first_slot, uint32_t target_row) {
    if (!m->inverted) {
        if (copied) {
            m->rows.at[m->rows.count++] = row;
            memcpy(m->slots.at + m->slots.count, slots, count * sizeof *slots);
            m->slots.count += count;
        }
        return;
    }
    uint32_t next = 0;
    m->rows.at[m->rows.count++] = copied ? target_row : ROW_NONE;
    for (uint32_t slot = d->first_chunk; slot < d->first_chunk + d->num_chunks; slot++) {
        bool lives = copied && next < count && slots[next] == slot;
        m->slots.at[m->slots.count++] = lives ? first_slot + next : ROW_NONE;
        next += lives ? 1 : 0;
    }
}

static bool make_room(struct mirror *m, uint32_t chunks, struct status *st) {
    return numbers_room(&m->rows, 1, st) && numbers_room(&m->slots, chunks, st) && numbers_room(&m->living, chunks, st) &&
           (!m->same_model || numbers_room(&m->missing, chunks, st)) && vectors_room(m, chunks, st);
}

static bool copy_document(struct mirror *m, uint32_t row, struct status *st) {
    const struct document_row *d = library_document(m->source, row);
    uint32_t first_slot = m->target->view.chunk_slots;
    uint32_t target_row = m->target->view.document_rows;
    uint32_t count = 0;
    struct op op;
    if (!make_room(m, d->num_chunks, st)) {
        return false;
    }
    uint32_t *slots = m->living.at;
    bool lives = load_acquire_u64(&d->deleted_lsn) == 0;
    if (lives) {
        count = living_slots(m, d, slots);
        if (!document_op(m, d, slots, count, &op, st) || !library_reserve(m->target, &op, st)) {
            return false;
        }
        gather_vectors(m, slots, count);
        library_put(m->target, &op, d->created_lsn, m->target->view.dimension != 0 ? m->vectors : NULL);
    }
    note_pairs(m, row, d, slots, count, lives, first_slot, target_row);
    return true;
}

/* Vectors that have been made since their chunks were copied. */
static void fetch_missing(struct mirror *m) {
    struct numbers *missing = &m->missing;
    uint32_t dimension = m->target->view.dimension;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < missing->count; i++) {
        uint32_t slot = missing->at[i];
        uint32_t from = m->slots.at[slot];
        if (library_chunk(m->target, slot)->deleted_lsn != 0) {
            continue;
        }
        if ((load_acquire_u32(&library_chunk(m->source, from)->state) & CHUNK_HAS_VECTOR) == 0) { /* pairs with: CHUNK_STATE */
            missing->at[kept++] = slot;
            continue;
        }
        library_settle_vector(m->target, dimension, slot, library_vector(m->source, dimension, from));
        library_tell_linkers(m->target, slot);
    }
    missing->count = kept;
}

/* What was put so far becomes what background threads see. */
static void show(struct library *lib) {
    (void)pthread_mutex_lock(&lib->published_mutex);
    lib->published = lib->view;
    (void)pthread_mutex_unlock(&lib->published_mutex);
}

static bool copy_rows(struct mirror *m, uint32_t end, struct status *st) {
    for (; m->next_row < end; m->next_row++) {
        if (!copy_document(m, m->next_row, st)) {
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

void mirror_show(struct mirror *m) {
    show(m->target);
}

bool mirror_step(struct mirror *m, uint32_t documents, bool *ret_more, struct status *st) {
    uint32_t rows = published_rows(m->source);
    uint32_t end = rows - m->next_row > documents ? m->next_row + documents : rows;
    if (!copy_rows(m, end, st) || !take_deletions(m, st)) {
        return false;
    }
    fetch_missing(m);
    show(m->target);
    m->rows_left = rows - end;
    *ret_more = m->rows_left > 0;
    return true;
}

bool mirror_finish(struct mirror *m, struct status *st) {
    if (!copy_rows(m, m->source->view.document_rows, st) || !take_deletions(m, st)) {
        return false;
    }
    fetch_missing(m);
    show(m->target);
    m->rows_left = 0;
    return true;
}

/* --- how far it is --- */

/* Chunks that have a vector and are not linked. */
static uint64_t waiting(struct library *lib, uint32_t most) {
    struct reading rd;
    library_reading(lib, &rd);
    struct graph_work *g = library_graph(lib, false);
    uint64_t count = g != NULL ? link_queue_waiting(lib, g, rd.view.chunk_slots, most) : 0;
    library_graph_release(lib, g);
    return count;
}

bool mirror_is_linked(struct mirror *m) {
    uint32_t slots = m->target->view.chunk_slots;
    uint32_t few = slots / READY_SHARE < READY_TAIL ? slots / READY_SHARE : READY_TAIL;
    uint64_t tail = waiting(m->target, few + 1);
    /* where more is committed than is linked, the old graph has a tail as well */
    return tail <= few || waiting(m->target, UINT32_MAX) <= waiting(m->source, UINT32_MAX);
}

bool mirror_is_close(struct mirror *m) {
    return m->rows_left <= READY_DOCUMENTS && published_rows(m->source) - m->next_row <= READY_DOCUMENTS &&
           deletions_waiting(m) <= READY_DELETIONS;
}

void mirror_progress(struct mirror *m, uint64_t *ret_copied, uint64_t *ret_linked) {
    struct graph_work *g = library_graph(m->target, false);
    *ret_copied = m->target->view.live_chunks;
    *ret_linked = g != NULL ? link_queue_settled(g, m->target->view.chunk_slots) : 0;
    library_graph_release(m->target, g);
}

/* --- begin and end --- */

bool library_present_definition(const struct library *lib, const struct library_view *view, struct library_definition *ret, struct status *st) {
    return library_definition_decode(arena_record(&lib->arena, view->definition, view->definition_length), ret) ||
           status_set(st, STATUS_CORRUPT, "a library's definition does not decode");
}

static bool is_of_vectors(const char *name) {
    return strncmp(name, "vectors.", sizeof "vectors." - 1) == 0 || strncmp(name, "graph.", sizeof "graph." - 1) == 0;
}

/* Of a slot: its row of floats, and its node in a graph. */
static uint64_t bytes_per_slot(const struct library *lib, const struct index_settings *index, uint32_t dimension) {
    const struct hnsw_shape shape = library_shape(lib, index, dimension);
    return arena_stride(dimension) * sizeof(float) + (index->type == INDEX_HNSW ? hnsw_block_bytes(&shape) : 0);
}

/* One that fills the disk would fail by itself, but commits beside it would be refused, too. */
bool library_side_fits(struct library *lib, uint32_t dimension, struct status *st) {
    struct library_file files[LIBRARY_FILES_MAX];
    struct reading rd;
    size_t count = library_files(lib, files);
    uint64_t bytes = 0;
    uint64_t available = 0;
    library_reading(lib, &rd);
    for (size_t i = 0; i < count; i++) {
        bytes += is_of_vectors(files[i].name) ? 0 : files[i].used;
    }
    uint64_t needed = (uint64_t)((double)bytes * rd.view.live_chunks / (rd.view.chunk_slots + 1.0));
    needed += rd.view.live_chunks * bytes_per_slot(lib, &rd.view.index, dimension);
    needed += needed / SPARE_SHARE + SPARE_BYTES;
    if (!io_free_bytes(lib->catalog->options.vectors_dir_fd, &available, st)) {
        return false;
    }
    return available >= needed || status_set(st, STATUS_NO_SPACE, "the new files need about %llu bytes and %llu are free",
                                             (unsigned long long)needed, (unsigned long long)available);
}

static bool make_target(struct mirror *m, const struct library_definition *d, const char *suffix, struct status *st) {
    struct op op;
    uint32_t number = 0;
    buf_reset(&m->bytes);
    op_encode_library(&m->bytes, OP_LIBRARY_CREATE, &m->source->id, d);
    if (!buf_check(&m->bytes, st) || !op_decode(buf_slice(&m->bytes), NULL, &op, st) ||
        !arena_free_directory(m->catalog->options.vectors_dir_fd, &m->source->id, &number, st)) {
        return false;
    }
    struct library *lib = library_new(m->catalog, &m->source->id);
    if (lib == NULL) {
        return status_no_memory(st);
    }
    m->target = lib; /* with a name of its own from here on: whatever fails takes it away */
    lib->texts = m->texts;
    lib->view.directory = number;
    arena_directory_name(&lib->id, lib->view.directory, lib->directory);
    size_t len = strlen(lib->directory);
    (void)snprintf(lib->directory + len, sizeof lib->directory - len, "%s", suffix);
    library_set_definition(lib, &op.as.definition);
    uint32_t dimension = library_dimension(lib, &op.as.definition);
    if (!library_create(lib, &op, dimension, st)) {
        return false;
    }
    library_begin_view(lib, &op, dimension);
    show(lib);
    return true;
}

bool mirror_init(struct mirror *m, struct catalog *c, struct library *source, const struct library_definition *d, const char *suffix,
                 struct status *st) {
    *m = (struct mirror){.catalog = c, .source = source};
    (void)pthread_mutex_init(&m->deletions.mutex, NULL);
    return texts_new(&m->texts, st) && make_target(m, d, suffix, st);
}

void mirror_begin(struct mirror *m) {
    m->source->deletions = &m->deletions;
    catalog_add_shadow(m->catalog, m->target);
}

void mirror_end(struct mirror *m) {
    m->source->deletions = NULL;
    catalog_drop_shadow(m->catalog, m->target);
    m->ended = true;
}

bool mirror_may_invert(struct mirror *m, struct status *st) {
    struct reading rd;
    library_reading(m->source, &rd); /* nothing is newer than what was published when this counts: between two commits */
    for (; m->looked_at < rd.view.chunk_slots; m->looked_at++) {
        uint32_t length = library_chunk(m->source, m->looked_at)->record_length;
        m->longest = length > m->longest ? length : m->longest;
    }
    return texts_prepare(m->texts, m->source->language, m->longest, st);
}

void mirror_invert(struct mirror *m) {
    struct library *serving = m->target;
    m->target = m->source;
    m->source = serving;
    m->target->texts = m->texts;
    m->source->texts = m->catalog->texts; /* it has room for every text of the old one */
    m->target->deletions = NULL;
    m->source->deletions = &m->deletions;
    m->next_row = m->source->view.document_rows;
    m->missing.count = 0;
    m->inverted = true;
}

void mirror_fini(struct mirror *m) {
    if (m->ended) {
        catalog_release(m->catalog, m->target);
    } else if (m->target != NULL) {
        library_close(m->target, true);
        library_free(m->target);
    }
    other_vectors_close(m->old);
    texts_free(m->texts);
    (void)pthread_mutex_destroy(&m->deletions.mutex);
    free(m->deletions.items);
    free(m->taken);
    free(m->rows.at);
    free(m->slots.at);
    free(m->living.at);
    free(m->missing.at);
    free(m->vectors);
    buf_fini(&m->bytes);
}
