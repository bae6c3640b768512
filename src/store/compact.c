/*
 * compact.c - compaction (compact.h): a mirror (mirror.h) that takes the place of what it was made from.
 *
 * Vectors that are made after their chunk was copied are fetched later, and the definition is compared at the end. So the last part, in which the committer
 * waits, is what came in since the step before.
 *
 * A crash at any point leaves the old arena whole under its name, or the new one under its name: the one rename is the border, and a start that finds
 * both asks both for vectors (durable/salvage.c). Whatever fails before that rename ends the compaction and changes nothing else.
 */
#include "store/compact.h"

#include "base/io.h"
#include "store/mirror.h"

#include <stdlib.h>

struct compaction {
    struct mirror m;
    bool begun;
    bool switched;
};

uint64_t compaction_gain(const struct library_view *view) {
    return (uint64_t)(view->chunk_slots - view->live_chunks) + (view->document_rows - view->live_documents);
}

/* --- begin --- */

static bool make_mirror(struct compaction *k, struct catalog *c, struct library *lib, struct status *st) {
    struct library_definition d;
    struct reading rd;
    library_reading(lib, &rd);
    if (rd.view.dimension == 0) {
        return status_set(st, STATUS_INVALID, "the library has no vectors yet");
    }
    if (!library_side_fits(lib, rd.view.dimension, st) || !library_present_definition(lib, &rd.view, &d, st)) {
        return false;
    }
    d.dimension = rd.view.dimension;
    if (!mirror_init(&k->m, c, lib, &d, ARENA_NEW_SUFFIX, st)) {
        mirror_fini(&k->m);
        return false;
    }
    k->m.same_model = true;
    if (rd.view.pinned != 0) {
        library_pin(k->m.target, rd.view.model_fingerprint);
    }
    return true;
}

bool compaction_new(struct catalog *c, struct library *lib, struct compaction **ret, struct status *st) {
    struct compaction *k = (struct compaction *)calloc(1, sizeof *k);
    if (k == NULL) {
        return status_no_memory(st);
    }
    if (!make_mirror(k, c, lib, st)) {
        free(k);
        return false;
    }
    *ret = k;
    return true;
}

bool compaction_begin(struct compaction *k, struct status *st) {
    struct library *lib = k->m.source;
    if (library_is_deleted(lib)) {
        return status_set(st, STATUS_NOT_FOUND, "the library was deleted");
    }
    (void)pthread_mutex_lock(&lib->graph_mutex);
    bool free_place = !lib->compacting && !lib->exchanging && !lib->rebuilding && lib->deletions == NULL;
    lib->compacting = lib->compacting || free_place;
    (void)pthread_mutex_unlock(&lib->graph_mutex);
    if (!free_place) {
        return status_set(st, STATUS_CONFLICT,
                          "the library's index is being rebuilt or compacted already, or it is kept with the model before");
    }
    mirror_begin(&k->m);
    k->begun = true;
    return true;
}

bool compaction_step(struct compaction *k, uint32_t documents, bool *ret_more, struct status *st) {
    return mirror_step(&k->m, documents, ret_more, st);
}

void compaction_progress(struct compaction *k, uint64_t *ret_done, uint64_t *ret_total, bool *ret_ready) {
    struct reading rd;
    uint64_t copied = 0;
    uint64_t linked = 0;
    library_reading(k->m.source, &rd);
    mirror_progress(&k->m, &copied, &linked);
    bool graph = k->m.target->view.graph_generation != 0;
    *ret_done = copied + linked;
    *ret_total = (uint64_t)rd.view.live_chunks * (graph ? 2 : 1);
    *ret_total = *ret_total > *ret_done ? *ret_total : *ret_done;
    *ret_ready = mirror_is_close(&k->m) && mirror_is_linked(&k->m);
}

/* --- the switch --- */

static struct slice definition_of(const struct library *lib) {
    return arena_record(&lib->arena, lib->view.definition, lib->view.definition_length);
}

/* Takes over a definition that was changed meanwhile. */
static bool copy_definition(struct compaction *k, struct status *st) {
    struct mirror *m = &k->m;
    struct library_definition d;
    struct op op;
    if (slice_equal(definition_of(m->source), definition_of(m->target))) {
        return true;
    }
    buf_reset(&m->bytes);
    if (!library_present_definition(m->source, &m->source->view, &d, st)) {
        return false;
    }
    op_encode_library(&m->bytes, OP_LIBRARY_UPDATE, &m->source->id, &d);
    if (!buf_check(&m->bytes, st) || !op_decode(buf_slice(&m->bytes), NULL, &op, st) || !library_reserve(m->target, &op, st)) {
        return false;
    }
    library_define(m->target, &op);
    return true;
}

static bool take_name(struct compaction *k, struct status *st) {
    struct library *lib = k->m.target;
    char name[ARENA_DIRECTORY_MAX];
    int fd = k->m.catalog->options.vectors_dir_fd;
    arena_directory_name(&lib->id, lib->view.directory, name);
    if (!io_rename_at(fd, lib->directory, fd, name, st)) {
        return false;
    }
    memcpy(lib->directory, name, sizeof name);
    return true;
}

bool compaction_switch(struct compaction *k, struct status *st) {
    struct catalog *c = k->m.catalog;
    struct library *from = k->m.source;
    struct library *to = k->m.target;
    if (library_is_deleted(from)) {
        return status_set(st, STATUS_NOT_FOUND, "the library was deleted");
    }
    if (!mirror_finish(&k->m, st) || !copy_definition(k, st) || !take_name(k, st)) {
        return false;
    }
    to->texts = c->texts; /* it has room for every text of the old one */
    to->view.live = 1;
    to->view.lsn = from->view.lsn;
    to->view.arena_generation = ++c->next_arena_generation;
    from->deletions = NULL;
    from->keep_files = c->options.keep_replaced;
    catalog_exchange(c, from, to, false);
    k->m.target = NULL;
    k->switched = true;
    return true;
}

void compaction_end(struct compaction *k) {
    if (k == NULL) {
        return;
    }
    if (k->switched) {
        catalog_release(k->m.catalog, k->m.source); /* the table's reference */
    } else if (k->begun) {
        (void)pthread_mutex_lock(&k->m.source->graph_mutex);
        k->m.source->compacting = false;
        (void)pthread_mutex_unlock(&k->m.source->graph_mutex);
        mirror_end(&k->m);
    }
    mirror_fini(&k->m);
    free(k);
}
