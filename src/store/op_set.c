/*
 * op_set.c - do two ops of one batch touch the same thing?
 *
 * All ops of a batch are checked before any is applied, so each must find the state that the check saw. The set holds 64-bit
 * hashes of what the batch touches: documents, chunks, and libraries (those that are only used apart from those that are changed
 * themselves). Two things with the same hash only end a batch early.
 */
#include "store/catalog.h"

#include "base/hash.h"

#include <stdlib.h>

#define LEAST_ROOM 1024 /* a power of two */

enum touched { TOUCH_LIBRARY = 1, TOUCH_LIBRARY_ITSELF, TOUCH_DOCUMENT, TOUCH_CHUNK };

struct op_set {
    uint64_t *keys; /* open addressing; 0: free */
    size_t room;
    size_t count;
    bool full; /* there was no memory: whatever comes next conflicts */
};

struct op_set *op_set_new(void) {
    struct op_set *s = (struct op_set *)calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    s->room = LEAST_ROOM;
    s->keys = (uint64_t *)calloc(s->room, sizeof(uint64_t));
    if (s->keys == NULL) {
        free(s);
        return NULL;
    }
    return s;
}

void op_set_free(struct op_set *s) {
    if (s != NULL) {
        free(s->keys);
        free(s);
    }
}

void op_set_clear(struct op_set *s) {
    memset(s->keys, 0, s->room * sizeof(uint64_t));
    s->count = 0;
    s->full = false;
}

static uint64_t key_of(const struct uuid *library, enum touched what, struct slice id) {
    uint64_t key = hash64(hash64((uint64_t)what, library->b, UUID_BYTES), id.data, id.len);
    return key != 0 ? key : 1;
}

static size_t position(const uint64_t *keys, size_t room, uint64_t key) {
    size_t at = (size_t)key & (room - 1);
    while (keys[at] != 0 && keys[at] != key) {
        at = (at + 1) & (room - 1);
    }
    return at;
}

static bool grow(struct op_set *s) {
    size_t room = s->room * 2;
    uint64_t *keys = (uint64_t *)calloc(room, sizeof(uint64_t));
    if (keys == NULL) {
        return false;
    }
    for (size_t i = 0; i < s->room; i++) {
        if (s->keys[i] != 0) {
            keys[position(keys, room, s->keys[i])] = s->keys[i];
        }
    }
    free(s->keys);
    s->keys = keys;
    s->room = room;
    return true;
}

static bool contains(const struct op_set *s, uint64_t key) {
    return s->keys[position(s->keys, s->room, key)] == key;
}

static void add(struct op_set *s, uint64_t key) {
    if (2 * (s->count + 1) > s->room && !grow(s)) {
        s->full = true;
        return;
    }
    size_t at = position(s->keys, s->room, key);
    s->count += s->keys[at] == 0 ? 1 : 0;
    s->keys[at] = key;
}

/* Calls visit with the key of every document and chunk that op names; stops when it returns true, and returns that. */
static bool visit_items(struct op_set *s, const struct op *op, bool (*visit)(struct op_set *, uint64_t)) {
    const struct uuid *library = &op->library;
    struct slice id;
    size_t at = 0;
    if (op->type == OP_DOCUMENT_DELETE) {
        return visit(s, key_of(library, TOUCH_DOCUMENT, op->as.document_id));
    }
    if (op->type == OP_CHUNKS_DELETE) {
        while (chunk_ids_next(op->as.chunk_ids.ids, &at, &id)) {
            if (visit(s, key_of(library, TOUCH_CHUNK, id))) {
                return true;
            }
        }
    }
    if (op->type == OP_DOCUMENT_PUT) {
        struct chunk_walk walk = {.bytes = op->as.document.chunks};
        struct op_chunk chunk;
        if (visit(s, key_of(library, TOUCH_DOCUMENT, op->as.document.id))) {
            return true;
        }
        while (chunk_walk_next(&walk, &chunk)) {
            if (visit(s, key_of(library, TOUCH_CHUNK, chunk.id))) {
                return true;
            }
        }
    }
    return false;
}

static bool visit_contains(struct op_set *s, uint64_t key) {
    return contains(s, key);
}

static bool visit_add(struct op_set *s, uint64_t key) {
    add(s, key);
    return false;
}

/* Whatever is done to a library itself, or to the keys, which all count as one (the library zero): whether there is room for one more depends on the others. */
static bool is_alone(const struct op *op) {
    return op_is_of_library(op) || op_is_of_keys(op);
}

bool op_set_conflicts_or_add(struct op_set *s, const struct op *op) {
    uint64_t used = key_of(&op->library, TOUCH_LIBRARY, slice_of(NULL, 0));
    uint64_t itself = key_of(&op->library, TOUCH_LIBRARY_ITSELF, slice_of(NULL, 0));
    if (s->full || contains(s, itself) || (is_alone(op) && contains(s, used)) || visit_items(s, op, visit_contains)) {
        return true;
    }
    add(s, is_alone(op) ? itself : used);
    (void)visit_items(s, op, visit_add);
    return false;
}
