/*
 * backlog.c - making missing vectors, and linking chunks into the graph: the calls of the supervisor's background threads.
 *
 * Vectors. Slots to embed are claimed in ascending order under embed_mutex, embedded without any lock, and settled by one atomic
 * flag a row. When the model fails the claims are given back. The linkers are told where new vectors are (link_queue_rewind), as
 * they have passed those slots by.
 *
 * Links. The graph that serves and one that is being rebuilt have a queue each; a linker takes turns, so that neither a stream of
 * commits starves a rebuild nor a rebuild lets the tail grow.
 *
 * Both work on the published state only: rows and nodes of a commit that is being applied are not touched.
 */
#include "store/backlog.h"

#include "base/crc32c.h"
#include "store/library_internal.h"

#include <stdlib.h>

#define LINK_ATTEMPTS 8

/* --- who is at work --- */

static void busy_enter(struct library *lib) {
    (void)pthread_mutex_lock(&lib->busy_mutex);
    lib->busy++;
    (void)pthread_mutex_unlock(&lib->busy_mutex);
}

/* The same for links. False: the library is held. */
static bool linking_enter(struct library *lib) {
    (void)pthread_mutex_lock(&lib->busy_mutex);
    bool may = !lib->held;
    if (may) {
        lib->busy++;
        lib->linking++;
    }
    (void)pthread_mutex_unlock(&lib->busy_mutex);
    return may;
}

static void busy_leave(struct library *lib, bool linking) {
    (void)pthread_mutex_lock(&lib->busy_mutex);
    lib->busy--;
    lib->linking -= linking ? 1 : 0;
    if (lib->busy == 0 || lib->linking == 0) {
        (void)pthread_cond_broadcast(&lib->idle);
    }
    (void)pthread_mutex_unlock(&lib->busy_mutex);
}

void backlog_quiesce(struct library *lib) {
    (void)pthread_mutex_lock(&lib->busy_mutex);
    while (lib->busy > 0) {
        (void)pthread_cond_wait(&lib->idle, &lib->busy_mutex);
    }
    (void)pthread_mutex_unlock(&lib->busy_mutex);
}

void backlog_hold(struct library *lib) {
    (void)pthread_mutex_lock(&lib->busy_mutex);
    lib->held = true;
    while (lib->linking > 0) {
        (void)pthread_cond_wait(&lib->idle, &lib->busy_mutex);
    }
    (void)pthread_mutex_unlock(&lib->busy_mutex);
}

void backlog_go_on(struct library *lib) {
    (void)pthread_mutex_lock(&lib->busy_mutex);
    lib->held = false;
    (void)pthread_mutex_unlock(&lib->busy_mutex);
}

static struct library_view published_view(struct library *lib) {
    struct reading rd;
    library_reading(lib, &rd);
    return rd.view;
}

/* --- vectors --- */

struct embed_batch {
    struct library *lib;
    const struct embedder *model;
    struct library_view view;
    uint32_t *slots;
    struct slice *texts;
    float *vectors;
    size_t count;
};

uint64_t backlog_pending_vectors(struct library *lib) {
    return (lib->model != NULL || lib->remote != NULL) && !library_is_deleted(lib) ? load_acquire_u64(&lib->without_vector) : 0;
}

static bool is_missing(const struct library *lib, uint32_t slot) {
    const struct chunk_row *c = library_chunk(lib, slot);
    return (load_acquire_u32(&c->state) & CHUNK_HAS_VECTOR) == 0 && load_acquire_u64(&c->deleted_lsn) == 0;
}

static bool embed_room_for(struct library *lib, uint32_t slots) {
    if (slots <= lib->embed_room) {
        return true;
    }
    uint32_t room = bits_room_for(slots);
    uint64_t *claimed = bits_grown(lib->embed_claimed, lib->embed_room, room);
    if (claimed == NULL) {
        return false;
    }
    lib->embed_claimed = claimed;
    lib->embed_room = room;
    return true;
}

static bool claim_missing(struct embed_batch *b, size_t most, struct status *st) {
    struct library *lib = b->lib;
    (void)pthread_mutex_lock(&lib->embed_mutex);
    bool ok = embed_room_for(lib, b->view.chunk_slots);
    if (ok) {
        uint32_t slot = lib->embed_next;
        for (; slot < b->view.chunk_slots && b->count < most; slot++) {
            if (!bit_is_set(lib->embed_claimed, slot) && is_missing(lib, slot)) {
                bit_set(lib->embed_claimed, slot);
                b->slots[b->count++] = slot;
            }
        }
        lib->embed_next = slot;
    }
    (void)pthread_mutex_unlock(&lib->embed_mutex);
    return ok || status_no_memory(st);
}

static void give_back(struct embed_batch *b) {
    struct library *lib = b->lib;
    (void)pthread_mutex_lock(&lib->embed_mutex);
    for (size_t i = 0; i < b->count; i++) {
        bit_clear(lib->embed_claimed, b->slots[i]);
        lib->embed_next = b->slots[i] < lib->embed_next ? b->slots[i] : lib->embed_next;
    }
    (void)pthread_mutex_unlock(&lib->embed_mutex);
}

/* Its code stands in every graph before the vector is announced. */
static void encode(struct library *lib, uint32_t slot) {
    for (int building = 0; building <= 1; building++) {
        struct graph_work *g = library_graph(lib, building != 0);
        graph_work_encode(g, lib, slot);
        library_graph_release(lib, g);
    }
}

void library_settle_vector(struct library *lib, uint32_t dimension, uint32_t slot, const void *vector) {
    struct chunk_row *c = library_chunk(lib, slot);
    size_t bytes = dimension * sizeof(float);
    float *row = library_vector(lib, dimension, slot);
    memcpy(row, vector, bytes);
    c->vector_crc = crc32c(0, row, bytes);
    encode(lib, slot);
    /* pairs with: CHUNK_STATE. Without the release a search could read the row before it is whole. Whoever of this and a deletion
     * comes second sees the other's flag and leaves the count alone (delete_chunk in catalog_apply.c). */
    if ((or_release_u32(&c->state, CHUNK_HAS_VECTOR) & CHUNK_COUNTED_DEAD) == 0) {
        library_vector_settled(lib);
    }
    struct vectors_head *head = (struct vectors_head *)(void *)mapfile_base(&lib->arena.vectors);
    (void)add_relaxed_u64(&head->present, 1);
}

void library_tell_linkers(struct library *lib, uint32_t slot) {
    for (int building = 0; building <= 1; building++) {
        struct graph_work *g = library_graph(lib, building != 0);
        if (g != NULL) {
            link_queue_rewind(g, slot);
        }
        library_graph_release(lib, g);
    }
}

void backlog_give_vector(struct library *lib, uint32_t dimension, uint32_t slot, const float *vector) {
    library_settle_vector(lib, dimension, slot, vector);
    library_tell_linkers(lib, slot);
}

static bool embed_claimed(struct embed_batch *b, struct status *st) {
    for (size_t i = 0; i < b->count; i++) {
        const struct chunk_row *c = library_chunk(b->lib, b->slots[i]);
        struct op_chunk fields;
        if (!op_chunk_decode(arena_record(&b->lib->arena, c->record, c->record_length), &fields)) {
            return status_set(st, STATUS_CORRUPT, "the record of a chunk does not decode");
        }
        b->texts[i] = fields.text;
    }
    if (!b->model->embed(b->model, EMBED_DOCUMENT, b->texts, b->count, b->vectors, st)) {
        return false;
    }
    for (size_t i = 0; i < b->count; i++) {
        library_settle_vector(b->lib, b->view.dimension, b->slots[i], b->vectors + i * b->view.dimension);
    }
    library_tell_linkers(b->lib, b->slots[0]);
    return true;
}

/* The model by which this library's missing vectors can be made here and now; NULL: none. */
static const struct embedder *model_of(const struct library *lib, const struct embed_registry *models,
                                       const struct library_view *view) {
    if (lib->model == NULL || (view->live == 0 && load_relaxed_u32(&lib->side) == SIDE_NONE)) {
        return NULL;
    }
    const struct embedder *model = embed_find(models, slice_str(lib->model->name));
    return model != NULL && model->dimension == view->dimension && model->fingerprint == view->model_fingerprint ? model : NULL;
}

static bool embed_some(struct embed_batch *b, size_t batch, struct status *st) {
    b->slots = (uint32_t *)malloc(batch * sizeof(uint32_t));
    b->texts = (struct slice *)malloc(batch * sizeof(struct slice));
    b->vectors = (float *)malloc(batch * b->view.dimension * sizeof(float));
    bool ok = b->slots != NULL && b->texts != NULL && b->vectors != NULL;
    if (!ok) {
        (void)status_no_memory(st);
    }
    ok = ok && claim_missing(b, batch, st);
    if (ok && b->count > 0 && !embed_claimed(b, st)) {
        give_back(b);
        ok = false;
    }
    free(b->slots);
    free(b->texts);
    free(b->vectors);
    return ok;
}

bool backlog_embed_some(struct library *lib, const struct embed_registry *models, size_t batch, size_t *ret_done,
                        struct status *st) {
    struct embed_batch b = {.lib = lib, .view = published_view(lib)};
    b.model = model_of(lib, models, &b.view);
    *ret_done = 0;
    if (b.model == NULL || batch == 0 || backlog_pending_vectors(lib) == 0) {
        return true;
    }
    busy_enter(lib);
    bool ok = embed_some(&b, batch, st);
    busy_leave(lib, false);
    if (ok) {
        *ret_done = b.count;
    }
    return ok;
}

/* --- links --- */

struct backlog_linker {
    struct hnsw_scratch *scratch;
    bool building_next; /* whose turn it is */
};

struct backlog_linker *backlog_linker_new(void) {
    struct backlog_linker *l = (struct backlog_linker *)calloc(1, sizeof *l);
    if (l == NULL) {
        return NULL;
    }
    l->scratch = hnsw_scratch_new();
    if (l->scratch == NULL) {
        free(l);
        return NULL;
    }
    return l;
}

void backlog_linker_free(struct backlog_linker *l) {
    if (l != NULL) {
        hnsw_scratch_free(l->scratch);
        free(l);
    }
}

/* Lists of several nodes share a mutex; a linker holds one at a time, so they cannot wait for one another in a circle. */
static void stripe_enter(void *ctx, uint32_t slot) {
    (void)pthread_mutex_lock(&((pthread_mutex_t *)ctx)[slot & (GRAPH_STRIPES - 1)]);
}

static void stripe_leave(void *ctx, uint32_t slot) {
    (void)pthread_mutex_unlock(&((pthread_mutex_t *)ctx)[slot & (GRAPH_STRIPES - 1)]);
}

/* The published view, cut to what the graph has nodes for: one that a switch has replaced gets no more. */
static void take_view(struct link_claim *claim) {
    claim->view = published_view(claim->lib);
    (void)pthread_mutex_lock(&claim->lib->graph_mutex);
    uint32_t nodes = claim->graph->slots;
    (void)pthread_mutex_unlock(&claim->lib->graph_mutex);
    claim->view.chunk_slots = nodes < claim->view.chunk_slots ? nodes : claim->view.chunk_slots;
}

/* Links one slot. Others may have linked so much that is newer than the claim's view that there is nothing to begin from: then
 * the view is taken anew. Failing again and again can only be memory. */
static bool link_slot(struct link_claim *claim, uint32_t slot, struct backlog_linker *l) {
    struct library *lib = claim->lib;
    struct hnsw_guard guard = {.enter = stripe_enter, .leave = stripe_leave, .ctx = lib->catalog->stripes};
    for (unsigned attempt = 0; attempt < LINK_ATTEMPTS; attempt++) {
        struct hnsw_graph graph = graph_work_graph(claim->graph);
        struct vector_rows rows = arena_vectors(&lib->arena, &claim->view);
        if (hnsw_insert(&graph, &rows, claim->view.chunk_slots, slot, graph.head->ef_construction, &guard, l->scratch)) {
            return true;
        }
        take_view(claim);
    }
    return false;
}

static bool link_claimed(struct link_claim *claim, struct backlog_linker *l, struct status *st) {
    size_t linked = 0;
    while (linked < claim->count && link_slot(claim, claim->slots[linked], l)) {
        linked++;
    }
    bool ok = linked == claim->count;
    link_queue_finish(claim, linked);
    return ok || status_no_memory(st);
}

static bool link_in(struct library *lib, bool building, struct backlog_linker *l, size_t batch, size_t *done, struct status *st) {
    struct link_claim claim = {.lib = lib, .graph = library_graph(lib, building)};
    if (claim.graph == NULL) {
        return true;
    }
    take_view(&claim);
    /* A commit under way may give vectors to chunks of a view that does not know their dimension yet. */
    bool ok = claim.view.dimension == 0 || link_queue_claim(&claim, batch, st);
    if (ok && claim.count > 0) {
        ok = link_claimed(&claim, l, st);
    }
    *done += claim.count + claim.passed;
    library_graph_release(lib, claim.graph);
    return ok;
}

bool backlog_link_some(struct library *lib, struct backlog_linker *l, size_t batch, size_t *ret_done, struct status *st) {
    size_t done = 0;
    *ret_done = 0;
    if (library_is_deleted(lib) || !linking_enter(lib)) {
        return true;
    }
    bool building = l->building_next;
    l->building_next = !building;
    bool ok = link_in(lib, building, l, batch, &done, st);
    if (ok && done == 0) {
        ok = link_in(lib, !building, l, batch, &done, st);
    }
    busy_leave(lib, true);
    if (ok) {
        *ret_done = done;
    }
    return ok;
}

bool backlog_can_wait(struct library *lib, uint32_t most) {
    struct graph_work *building = library_graph(lib, true);
    struct graph_work *g = library_graph(lib, false);
    bool can = building == NULL && g != NULL;
    if (can) {
        can = published_view(lib).chunk_slots <= load_relaxed_u64(&graph_work_graph(g).head->linked) + most;
    }
    library_graph_release(lib, building);
    library_graph_release(lib, g);
    return can;
}

uint64_t backlog_tail(struct library *lib) {
    struct library_view view = published_view(lib);
    struct graph_work *g = library_graph(lib, false);
    if (g == NULL) {
        return 0;
    }
    uint64_t tail = link_queue_waiting(lib, g, view.chunk_slots, UINT32_MAX);
    library_graph_release(lib, g);
    return tail;
}
