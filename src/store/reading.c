/*
 * reading.c - a worker's way to a library: pin and copy its view under the lock, then map what it counts.
 *
 * The lock is held while one entry of the directory (128 bytes) is compared and copied. The pin is set within the same hold,
 * so the supervisor, once it has held the write lock, either sees the pin or knows that the view taken was the newer one.
 *
 * Where a library's entry stands is remembered from one reading to the next and verified under the lock. A library keeps its
 * entry as long as it lives, so the search for a new one's entry may let go of the lock every few entries.
 *
 * Between copying the view and opening its files the supervisor may have deleted the library or switched its graph. Then a file
 * is missing, and the reader takes the view again: the new one either is gone or names the new files. Files that are mapped
 * already stay readable after they were unlinked, so an old view can be read to its end.
 *
 * Maps of a deleted library keep its disk space from being freed. They go when the library is asked for again, when all are
 * listed, and in a sweep once a second at the end of a reading.
 */
#include "store/reading.h"

#include "base/clock.h"
#include "shm/atomics.h"
#include "store/reading_internal.h"

#include <stdlib.h>

#define DIRECTORY_PIECE 64  /* entries looked at within one hold of the lock */
#define READING_ATTEMPTS 16 /* each means that a deletion or a graph's switch fell between two lines here */
#define MAPPED_LEAST_ROOM 16
#define SWEEP_US 1000000 /* how often a reader looks for maps of deleted libraries, whose disk space they hold */

struct mapped_library {
    struct uuid id;
    uint32_t entry; /* where it stood last in the directory */
    uint32_t arena_generation;
    struct arena arena;
};

struct store_reader {
    struct control *control;
    const struct library_view *entries;
    uint32_t capacity;
    uint32_t slot;
    int vectors_dir_fd;
    struct mapped_library **mapped; /* ascending by id */
    size_t mapped_count;
    size_t mapped_room;
    struct mapped_library *current; /* of the reading under way */
    int64_t swept_us;
};

bool store_reader_new(struct control *control, uint32_t slot, int vectors_dir_fd, struct store_reader **ret, struct status *st) {
    if (control->directory_entry_size != sizeof(struct library_view) || slot >= control->workers) {
        return status_set(st, STATUS_INTERNAL, "the control segment was made for another directory or fewer workers");
    }
    struct store_reader *r = (struct store_reader *)calloc(1, sizeof *r);
    if (r == NULL) {
        return status_no_memory(st);
    }
    r->control = control;
    r->entries = (const struct library_view *)control_directory_entry(control, 0);
    r->capacity = control->directory_capacity;
    r->slot = slot;
    r->vectors_dir_fd = vectors_dir_fd;
    *ret = r;
    return true;
}

static void mapped_free(struct mapped_library *m) {
    arena_close(&m->arena);
    free(m);
}

void store_reader_free(struct store_reader *r) {
    if (r == NULL) {
        return;
    }
    for (size_t i = 0; i < r->mapped_count; i++) {
        mapped_free(r->mapped[i]);
    }
    free(r->mapped);
    free(r);
}

/* --- what is mapped --- */

static int compare_ids(const struct uuid *a, const struct uuid *b) {
    return memcmp(a->b, b->b, UUID_BYTES);
}

/* Where id stands among the mapped, or would stand. */
static size_t mapped_position(const struct store_reader *r, const struct uuid *id, bool *ret_found) {
    size_t low = 0;
    size_t high = r->mapped_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_ids(&r->mapped[middle]->id, id);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_found = false;
    return low;
}

static bool mapped_room_for_one(struct store_reader *r) {
    if (r->mapped_count < r->mapped_room) {
        return true;
    }
    size_t room = r->mapped_room == 0 ? MAPPED_LEAST_ROOM : r->mapped_room * 2;
    struct mapped_library **more = (struct mapped_library **)realloc(r->mapped, room * sizeof(struct mapped_library *));
    if (more == NULL) {
        return false;
    }
    r->mapped = more;
    r->mapped_room = room;
    return true;
}

/* The mapped library of this id, a closed one when there was none. NULL: no memory. */
static struct mapped_library *mapped_obtain(struct store_reader *r, const struct uuid *id) {
    bool found = false;
    size_t at = mapped_position(r, id, &found);
    if (found) {
        return r->mapped[at];
    }
    if (!mapped_room_for_one(r)) {
        return NULL;
    }
    struct mapped_library *m = (struct mapped_library *)calloc(1, sizeof *m);
    if (m == NULL) {
        return NULL;
    }
    m->id = *id;
    m->entry = UINT32_MAX;
    m->arena = ARENA_CLOSED;
    memmove(&r->mapped[at + 1], &r->mapped[at], (r->mapped_count - at) * sizeof(struct mapped_library *));
    r->mapped[at] = m;
    r->mapped_count++;
    return m;
}

static void mapped_drop(struct store_reader *r, const struct uuid *id) {
    bool found = false;
    size_t at = mapped_position(r, id, &found);
    if (!found) {
        return;
    }
    mapped_free(r->mapped[at]);
    r->mapped_count--;
    memmove(&r->mapped[at], &r->mapped[at + 1], (r->mapped_count - at) * sizeof(struct mapped_library *));
}

/* --- views --- */

static uint32_t directory_end(const struct store_reader *r) {
    uint32_t count = load_relaxed_u32(&r->control->directory_count);
    return count < r->capacity ? count : r->capacity;
}

static bool entry_is(const struct library_view *entry, const struct uuid *id) {
    return entry->live != 0 && uuid_equal(&entry->id, id);
}

static bool find_entry(struct store_reader *r, const struct uuid *id, uint32_t *ret_entry) {
    bool found = false;
    uint32_t end = 1;
    for (uint32_t at = 0; !found && at < end;) {
        rwlock_read_lock(&r->control->lock, r->slot);
        end = directory_end(r);
        for (uint32_t i = 0; i < DIRECTORY_PIECE && at < end && !found; i++, at++) {
            if (entry_is(&r->entries[at], id)) {
                *ret_entry = at;
                found = true;
            }
        }
        rwlock_read_unlock(&r->control->lock, r->slot);
    }
    return found;
}

static void unpin(struct store_reader *r) {
    struct control_worker *w = &r->control->worker[r->slot];
    /* pairs with: VIEW_PIN. Released, so that what was read under the pin was read before it goes. */
    store_release_u64(&w->pin_lsn, 0);
    store_relaxed_u64(&w->pin_since_us, 0);
}

/* Copies the view at this entry and pins its LSN, when it still is this library's. */
static bool pin_entry(struct store_reader *r, const struct uuid *id, uint32_t entry, struct reading *ret) {
    if (entry >= r->capacity) {
        return false;
    }
    struct control_worker *w = &r->control->worker[r->slot];
    uint64_t now = (uint64_t)clock_monotonic_us();
    rwlock_read_lock(&r->control->lock, r->slot);
    bool found = entry_is(&r->entries[entry], id);
    if (found) {
        ret->view = r->entries[entry];
        ret->changed_lsn = ret->view.lsn;
        ret->view.lsn = load_relaxed_u64(&r->control->published_lsn);
        store_relaxed_u64(&w->pin_since_us, now);
        store_release_u64(&w->pin_lsn, ret->view.lsn); /* pairs with: VIEW_PIN */
    }
    rwlock_read_unlock(&r->control->lock, r->slot);
    return found;
}

static bool take_view(struct store_reader *r, struct mapped_library *m, struct reading *ret) {
    if (pin_entry(r, &m->id, m->entry, ret)) {
        return true;
    }
    return find_entry(r, &m->id, &m->entry) && pin_entry(r, &m->id, m->entry, ret);
}

static bool no_library(struct status *st) {
    return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_LIBRARY, "there is no such library");
}

static bool follow_view(struct store_reader *r, struct mapped_library *m, const struct library_view *view, struct status *st) {
    if (m->arena_generation != view->arena_generation) {
        arena_close(&m->arena);
        m->arena_generation = view->arena_generation;
    }
    return arena_follow(&m->arena, r->vectors_dir_fd, view, st);
}

bool reading_begin(struct store_reader *r, const struct uuid *library, struct reading *ret, struct status *st) {
    struct mapped_library *m = mapped_obtain(r, library);
    if (m == NULL) {
        return status_no_memory(st);
    }
    for (unsigned attempt = 0; attempt < READING_ATTEMPTS; attempt++) {
        struct reading rd = {.arena = &m->arena, .reader = r};
        struct status failure = {0};
        if (!take_view(r, m, &rd)) {
            mapped_drop(r, library);
            return no_library(st);
        }
        if (follow_view(r, m, &rd.view, &failure)) {
            r->current = m;
            *ret = rd;
            return true;
        }
        unpin(r);
        if (failure.code != STATUS_NOT_FOUND) {
            *st = failure;
            return false;
        }
    }
    return status_set(st, STATUS_BUSY, "the library's files change too fast to be opened; try again");
}

/* Lets go of deleted libraries. One that lives keeps its entry, so looking there is enough. */
static void sweep(struct store_reader *r) {
    int64_t now = clock_monotonic_us();
    if (now - r->swept_us < SWEEP_US) {
        return;
    }
    r->swept_us = now;
    size_t kept = 0;
    for (size_t i = 0; i < r->mapped_count; i++) {
        struct mapped_library *m = r->mapped[i];
        rwlock_read_lock(&r->control->lock, r->slot);
        bool alive = m->entry < r->capacity && entry_is(&r->entries[m->entry], &m->id);
        rwlock_read_unlock(&r->control->lock, r->slot);
        if (alive) {
            r->mapped[kept++] = m;
        } else {
            mapped_free(m);
        }
    }
    r->mapped_count = kept;
}

void reading_end(struct reading *rd) {
    if (rd->reader != NULL) {
        rd->reader->current = NULL;
        unpin(rd->reader);
        sweep(rd->reader);
    }
    rd->arena = NULL;
    rd->reader = NULL;
}

bool store_reader_reads(const struct store_reader *r) {
    return r->current != NULL;
}

bool store_reader_follow_growth(struct store_reader *r, struct status *st) {
    if (r->current == NULL) {
        return status_set(st, STATUS_INTERNAL, "no reading is under way");
    }
    return arena_follow_growth(&r->current->arena, st);
}

uint64_t store_published_lsn(struct store_reader *r) {
    rwlock_read_lock(&r->control->lock, r->slot);
    uint64_t lsn = load_relaxed_u64(&r->control->published_lsn);
    rwlock_read_unlock(&r->control->lock, r->slot);
    return lsn;
}

/* --- the list --- */

static int compare_views(const void *a, const void *b) {
    return compare_ids(&((const struct library_view *)a)->id, &((const struct library_view *)b)->id);
}

/* Copies the live entries piece by piece. views has room for the directory's capacity. */
static size_t copy_views(struct store_reader *r, struct library_view *views) {
    size_t count = 0;
    uint32_t end = 1;
    for (uint32_t at = 0; at < end;) {
        rwlock_read_lock(&r->control->lock, r->slot);
        end = directory_end(r);
        uint64_t lsn = load_relaxed_u64(&r->control->published_lsn);
        for (uint32_t i = 0; i < DIRECTORY_PIECE && at < end; i++, at++) {
            if (r->entries[at].live != 0) {
                views[count] = r->entries[at];
                views[count++].lsn = lsn;
            }
        }
        rwlock_read_unlock(&r->control->lock, r->slot);
    }
    return count;
}

/* Lets go of the arenas whose library is not in the list (ascending). */
static void drop_missing(struct store_reader *r, const struct library_view *views, size_t count) {
    size_t kept = 0;
    size_t at = 0;
    for (size_t i = 0; i < r->mapped_count; i++) {
        struct mapped_library *m = r->mapped[i];
        while (at < count && compare_ids(&views[at].id, &m->id) < 0) {
            at++;
        }
        bool alive = at < count && uuid_equal(&views[at].id, &m->id);
        if (alive || m == r->current) {
            r->mapped[kept++] = m;
        } else {
            mapped_free(m);
        }
    }
    r->mapped_count = kept;
}

bool store_list_libraries(struct store_reader *r, struct library_view **ret, size_t *ret_count, struct status *st) {
    /* libraries may be made while we copy; there are never more than the directory holds */
    struct library_view *views = (struct library_view *)malloc((r->capacity + 1U) * sizeof(struct library_view));
    if (views == NULL) {
        return status_no_memory(st);
    }
    size_t count = copy_views(r, views);
    qsort(views, count, sizeof views[0], compare_views);
    drop_missing(r, views, count);
    *ret = views;
    *ret_count = count;
    return true;
}
