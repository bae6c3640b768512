/*
 * backlog_rebuild.c - a new graph beside the one that serves.
 *
 *   begin    (any thread)     makes the files of a new generation, with a node for every slot, and attaches them: from then on
 *                             commits give their new slots a node in both graphs, and linkers work on both
 *   switch   (committer)      the new one serves; the view names its generation; after the publication the old files are unlinked
 *   cancel   (any thread)     the new one goes, files and all
 *
 * Making the nodes of a large library takes a while, and commits go on meanwhile. So most are made before anybody else sees the
 * new graph; the few that came since are made under graph_mutex, with which the committer adds its slots.
 *
 * Generation numbers never come again while the supervisor runs, even when a library was flat in between: a worker knows its open
 * graph by the number alone.
 */
#include "store/backlog.h"

#include "store/library_internal.h"

#define ATTACH_SLOTS 1024 /* so many nodes are made under graph_mutex */
/* A switch may leave so many slots to be linked afterwards, and scanned until then: this many, and this share of all. */
#define READY_TAIL 512
#define READY_SHARE 64

static bool check_settings(const struct index_settings *s, struct status *st) {
    bool flat = s->type == INDEX_FLAT;
    bool graph = s->type == INDEX_HNSW && s->m >= HNSW_MIN_M && s->m <= HNSW_MAX_M && s->ef_construction > 0;
    return flat || graph || status_set(st, STATUS_INVALID, "these index settings cannot be built");
}

/* Takes the one place for a rebuild. */
static bool claim_rebuild(struct library *lib, const struct index_settings *s, uint32_t dimension, uint32_t *ret_generation,
                          uint32_t *ret_slots, struct status *st) {
    (void)pthread_mutex_lock(&lib->graph_mutex);
    bool free_place = !lib->rebuilding && !lib->compacting && !lib->exchanging;
    if (free_place) {
        lib->rebuilding = true;
        lib->rebuild_generation = s->type == INDEX_HNSW && dimension != 0 ? ++lib->last_generation : 0;
        *ret_generation = lib->rebuild_generation;
        *ret_slots = lib->slots;
    }
    (void)pthread_mutex_unlock(&lib->graph_mutex);
    return free_place || status_set(st, STATUS_CONFLICT, "the library's index is being rebuilt or compacted already");
}

static void leave_rebuild(struct library *lib, uint32_t generation) {
    (void)pthread_mutex_lock(&lib->graph_mutex);
    if (lib->rebuilding && lib->rebuild_generation == generation) {
        lib->rebuilding = false;
    }
    (void)pthread_mutex_unlock(&lib->graph_mutex);
}

/* Grows g for nodes up to `slots`, promised ones included, and makes those of the slots in use. */
static bool make_nodes(struct graph_work *g, uint32_t slots, uint32_t promised, struct status *st) {
    uint32_t m = graph_work_graph(g).head->m;
    uint64_t words = hnsw_upper_words_for(g->slots, slots + promised, m);
    if (!graph_work_grow(g, (uint64_t)slots + promised, words, st)) {
        return false;
    }
    graph_work_init_nodes(g, slots);
    return true;
}

enum attach { ATTACHED, ATTACH_CATCH_UP, ATTACH_CANCELLED, ATTACH_FAILED };

/* Attaches g when it lacks few nodes; *ret_slots says how many it has then, or up to where to make more. */
static enum attach try_attach(struct library *lib, struct graph_work *g, uint32_t *ret_slots, struct status *st) {
    enum attach outcome = ATTACHED;
    (void)pthread_mutex_lock(&lib->graph_mutex);
    if (!lib->rebuilding || lib->rebuild_generation != g->generation) {
        outcome = ATTACH_CANCELLED;
    } else if (lib->slots - g->slots > ATTACH_SLOTS) {
        *ret_slots = lib->slots;
        outcome = ATTACH_CATCH_UP;
    } else if (!make_nodes(g, lib->slots, lib->reserved.chunks, st)) {
        outcome = ATTACH_FAILED;
    } else {
        uint32_t m = graph_work_graph(g).head->m;
        g->reserved_upper = hnsw_upper_words_for(lib->slots, lib->slots + lib->reserved.chunks, m);
        lib->building = g;
        *ret_slots = lib->slots;
    }
    (void)pthread_mutex_unlock(&lib->graph_mutex);
    return outcome;
}

/* *ret_slots: of these none was added by a commit. */
static bool attach(struct library *lib, struct graph_work *g, uint32_t *ret_slots, struct status *st) {
    for (;;) {
        switch (try_attach(lib, g, ret_slots, st)) {
        case ATTACHED:
            return true;
        case ATTACH_CATCH_UP:
            if (!make_nodes(g, *ret_slots, 0, st)) {
                return false;
            }
            break;
        case ATTACH_CANCELLED:
            return status_set(st, STATUS_BUSY, "the rebuild was cancelled");
        case ATTACH_FAILED:
            return false;
        }
    }
}

/* Deletions tell a graph from when it is attached; those before are in the rows, which were marked before the graphs were told. */
static void catch_up_deaths(struct library *lib, uint32_t slots) {
    struct graph_work *g = library_graph(lib, true);
    if (g != NULL) {
        graph_work_mark_dead(g, lib, 0, slots);
    }
    library_graph_release(lib, g);
}

bool backlog_rebuild_begin(struct library *lib, const struct index_settings *settings, struct status *st) {
    uint32_t generation = 0;
    uint32_t slots = 0;
    struct reading rd;
    library_reading(lib, &rd);
    uint32_t dimension = rd.view.dimension; /* 0: there is no vector yet, and with the first one comes the graph */
    if (!check_settings(settings, st) || !claim_rebuild(lib, settings, dimension, &generation, &slots, st)) {
        return false;
    }
    if (generation == 0) {
        return true; /* there is nothing to build */
    }
    struct graph_work *g = NULL;
    const struct hnsw_shape shape = library_shape(lib, settings, dimension);
    if (!graph_work_create(lib->arena.dir_fd, generation, &shape, slots, &g, st)) {
        leave_rebuild(lib, generation);
        return false;
    }
    if (!attach(lib, g, &slots, st)) {
        leave_rebuild(lib, generation);
        graph_work_free(g);
        graph_work_unlink(lib->arena.dir_fd, generation);
        return false;
    }
    catch_up_deaths(lib, slots);
    return true;
}

/* Whether it can serve. Chunks without a vector are no reason to wait: no graph has them. While commits go on there is always a
 * tail. */
static bool is_ready(const struct library *lib, struct graph_work *g, uint32_t slots) {
    uint32_t few = slots / READY_SHARE < READY_TAIL ? slots / READY_SHARE : READY_TAIL;
    return link_queue_waiting(lib, g, slots, few + 1) <= few;
}

static uint32_t published_slots(struct library *lib) {
    struct reading rd;
    library_reading(lib, &rd);
    return rd.view.chunk_slots;
}

void backlog_rebuild_progress(struct library *lib, uint64_t *ret_done, uint64_t *ret_total, bool *ret_ready) {
    uint32_t slots = published_slots(lib);
    struct graph_work *g = library_graph(lib, true);
    *ret_done = 0;
    *ret_total = g != NULL ? slots : 0;
    if (g != NULL) {
        *ret_done = link_queue_settled(g, slots);
        *ret_ready = is_ready(lib, g, slots);
    } else {
        (void)pthread_mutex_lock(&lib->graph_mutex);
        *ret_ready = lib->rebuilding && lib->rebuild_generation == 0; /* to flat */
        (void)pthread_mutex_unlock(&lib->graph_mutex);
    }
    library_graph_release(lib, g);
}

bool backlog_rebuild_switch(struct catalog *c, struct library *lib, struct status *st) {
    uint64_t done = 0;
    uint64_t total = 0;
    bool ready = false;
    backlog_rebuild_progress(lib, &done, &total, &ready);
    if (!ready || library_is_deleted(lib)) {
        return status_set(st, STATUS_NOT_READY, "no rebuilt index is ready to serve");
    }
    (void)pthread_mutex_lock(&lib->graph_mutex);
    ready = lib->rebuilding && (lib->building != NULL) == (lib->rebuild_generation != 0); /* not cancelled since */
    if (ready) {
        struct graph_work *old = lib->serving;
        lib->serving = lib->building;
        lib->building = NULL;
        lib->rebuilding = false;
        lib->view.graph_generation = lib->rebuild_generation;
        if (old != NULL) {
            old->next_retired = lib->retired;
            lib->retired = old;
        }
    }
    (void)pthread_mutex_unlock(&lib->graph_mutex);
    if (!ready) {
        return status_set(st, STATUS_NOT_READY, "the rebuild was cancelled");
    }
    catalog_mark_dirty(c, lib);
    return true;
}

void backlog_rebuild_cancel(struct library *lib) {
    (void)pthread_mutex_lock(&lib->graph_mutex);
    struct graph_work *g = lib->building;
    lib->building = NULL;
    lib->rebuilding = false;
    (void)pthread_mutex_unlock(&lib->graph_mutex);
    if (g != NULL) {
        graph_work_unlink(lib->arena.dir_fd, g->generation);
        library_graph_release(lib, g);
    }
}

bool backlog_rebuild_wanted(struct library *lib, struct index_settings *ret) {
    struct reading rd;
    library_reading(lib, &rd);
    const struct index_settings *asked = &rd.view.index;
    struct graph_work *g = library_graph(lib, false);
    bool wanted = (g != NULL) != (asked->type == INDEX_HNSW) && rd.view.dimension != 0;
    if (g != NULL && !wanted) {
        const struct hnsw_head *head = graph_work_graph(g).head;
        wanted = head->m != asked->m || head->ef_construction != asked->ef_construction;
    }
    library_graph_release(lib, g);
    *ret = *asked;
    return wanted;
}
