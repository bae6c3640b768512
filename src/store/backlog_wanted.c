/*
 * backlog_wanted.c - chunks whose vectors a provider has to make: which they are, and who asks for them.
 *
 * Unlike an in-process model's (backlog.c), these vectors are not written here: they come back as an op, through the log. A claim keeps two threads from
 * asking for the same text, and is given back when nothing came. Once the op has been applied the chunk has its vector, and its claim means nothing.
 */
#include "store/backlog.h"

#include "store/library_internal.h"

#include <stdlib.h>

const struct embedder *library_remote_model(struct library *lib) {
    struct reading rd;
    uint32_t side = load_relaxed_u32(&lib->side);
    if (lib->remote == NULL || side != SIDE_NONE) {
        return side == SIDE_WANTED ? lib->remote : NULL;
    }
    library_reading(lib, &rd);
    return rd.view.live != 0 ? lib->remote : NULL; /* else it is a compaction's */
}

bool backlog_is_side(const struct library *lib) {
    return load_relaxed_u32(&lib->side) != SIDE_NONE;
}

bool wanted_new(struct wanted *w, size_t room, struct status *st) {
    *w = (struct wanted){.room = room};
    w->slots = (uint32_t *)malloc(room * sizeof *w->slots);
    w->texts = (struct slice *)malloc(room * sizeof *w->texts);
    w->of = (struct op_vector_of *)malloc(room * sizeof *w->of);
    if (w->slots == NULL || w->texts == NULL || w->of == NULL) {
        wanted_free(w);
        return status_no_memory(st);
    }
    return true;
}

void wanted_free(struct wanted *w) {
    free(w->slots);
    free(w->texts);
    free(w->of);
    *w = (struct wanted){0};
}

static bool is_wanted(const struct library *lib, uint32_t slot) {
    const struct chunk_row *c = library_chunk(lib, slot);
    return (load_acquire_u32(&c->state) & CHUNK_HAS_VECTOR) == 0 && load_acquire_u64(&c->deleted_lsn) == 0; /* pairs with: CHUNK_STATE, CHUNK_DELETED */
}

static bool claims_room(struct library *lib, uint32_t slots, struct status *st) {
    if (slots <= lib->embed_room) {
        return true;
    }
    uint32_t room = bits_room_for(slots);
    uint64_t *claimed = bits_grown(lib->embed_claimed, lib->embed_room, room);
    if (claimed == NULL) {
        return status_no_memory(st);
    }
    lib->embed_claimed = claimed;
    lib->embed_room = room;
    return true;
}

/* Adds the chunk; false: its text would be too much. */
static bool take_chunk(struct library *lib, uint32_t slot, size_t most_bytes, size_t *bytes, struct wanted *w, struct status *st) {
    const struct chunk_row *c = library_chunk(lib, slot);
    struct op_chunk fields;
    if (!op_chunk_decode(arena_record(&lib->arena, c->record, c->record_length), &fields)) {
        return status_set(st, STATUS_CORRUPT, "the record of a chunk does not decode");
    }
    if (w->count > 0 && *bytes + fields.text.len > most_bytes) {
        return false;
    }
    *bytes += fields.text.len;
    w->slots[w->count] = slot;
    w->texts[w->count] = fields.text;
    w->of[w->count++] = (struct op_vector_of){.id = fields.id, .text_hash = c->text_hash};
    return true;
}

/* With embed_mutex. */
static bool is_refused(const struct library *lib, uint32_t slot) {
    return slot < lib->refused_room && bit_is_set(lib->embed_refused, slot);
}

bool backlog_refuse_wanted(struct library *lib, const struct wanted *w, size_t which, struct status *st) {
    uint32_t slot = w->slots[which];
    (void)pthread_mutex_lock(&lib->embed_mutex);
    if (slot >= lib->refused_room) {
        uint32_t room = bits_room_for(slot + 1);
        uint64_t *refused = bits_grown(lib->embed_refused, lib->refused_room, room);
        lib->embed_refused = refused != NULL ? refused : lib->embed_refused;
        lib->refused_room = refused != NULL ? room : lib->refused_room;
    }
    bool ok = slot < lib->refused_room;
    if (ok) {
        bit_set(lib->embed_refused, slot);
    }
    (void)pthread_mutex_unlock(&lib->embed_mutex);
    return ok || status_no_memory(st);
}

uint32_t backlog_next_wanted(struct library *lib, uint32_t from) {
    struct reading rd;
    library_reading(lib, &rd);
    (void)pthread_mutex_lock(&lib->embed_mutex);
    while (from < rd.view.chunk_slots && (!is_wanted(lib, from) || is_refused(lib, from))) {
        from++;
    }
    (void)pthread_mutex_unlock(&lib->embed_mutex);
    return from < rd.view.chunk_slots ? from : rd.view.chunk_slots;
}

static bool claim(struct library *lib, uint32_t end, size_t most_bytes, struct wanted *w, struct status *st) {
    uint32_t slot = lib->embed_next;
    size_t bytes = 0;
    if (!claims_room(lib, end, st)) {
        return false;
    }
    for (; slot < end && w->count < w->room; slot++) {
        if (bit_is_set(lib->embed_claimed, slot) || !is_wanted(lib, slot)) {
            continue;
        }
        if (!take_chunk(lib, slot, most_bytes, &bytes, w, st)) {
            break;
        }
        bit_set(lib->embed_claimed, slot);
    }
    lib->embed_next = slot;
    return st->code == STATUS_OK;
}

bool backlog_claim_wanted(struct library *lib, size_t most_bytes, struct wanted *w, struct status *st) {
    struct reading rd;
    struct status found;
    w->count = 0;
    if (load_acquire_u64(&lib->without_vector) == 0) {
        return true;
    }
    library_reading(lib, &rd);
    status_clear(&found);
    (void)pthread_mutex_lock(&lib->embed_mutex);
    bool ok = claim(lib, rd.view.chunk_slots, most_bytes, w, &found);
    (void)pthread_mutex_unlock(&lib->embed_mutex);
    if (!ok) {
        backlog_release_wanted(lib, w, 0);
        *st = found;
    }
    return ok;
}

void backlog_release_wanted(struct library *lib, struct wanted *w, size_t from) {
    (void)pthread_mutex_lock(&lib->embed_mutex);
    for (size_t i = from; i < w->count; i++) {
        bit_clear(lib->embed_claimed, w->slots[i]);
        lib->embed_next = w->slots[i] < lib->embed_next ? w->slots[i] : lib->embed_next;
    }
    (void)pthread_mutex_unlock(&lib->embed_mutex);
    w->count = from;
}
