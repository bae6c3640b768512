/*
 * catalog.c - the table of libraries, who holds which, and publication.
 *
 * The committer changes the table under the catalog's mutex and reads it without; background threads take the mutex to acquire
 * and release.
 *
 * A library's life:  pending (reserved, its directory entry claimed) -> alive (applied, in the table) -> deleted (out of the
 * table, its entry kept until the publication) -> gone (published as deleted, acquired by somebody still) -> destroyed, files and
 * all.
 *
 * Publication copies the changed views into the control segment under the write lock, which is all that workers wait for. The
 * supervisor's own threads read a copy of the view beside it, because the segment is writable for workers and is never read back.
 */
#include "store/library_internal.h"

#include "base/hash.h"

#include <stdlib.h>

static bool allocate_tables(struct catalog *c) {
    c->bucket_count = 1;
    while (c->bucket_count < c->capacity) {
        c->bucket_count *= 2;
    }
    c->buckets = (struct library **)calloc(c->bucket_count, sizeof(struct library *));
    c->by_entry = (struct library **)calloc(c->capacity, sizeof(struct library *));
    c->dirty = (struct library **)calloc(c->capacity, sizeof(struct library *));
    return c->buckets != NULL && c->by_entry != NULL && c->dirty != NULL;
}

bool catalog_new(const struct catalog_options *options, struct catalog **ret, struct status *st) {
    struct control *control = options->control;
    if (control->directory_entry_size != sizeof(struct library_view) || control->directory_capacity == 0) {
        return status_set(st, STATUS_INTERNAL, "the control segment's directory is not made for libraries");
    }
    struct catalog *c = (struct catalog *)calloc(1, sizeof *c);
    if (c == NULL) {
        return status_no_memory(st);
    }
    c->options = *options;
    c->entries = (struct library_view *)control_directory_entry(control, 0);
    c->capacity = control->directory_capacity;
    c->workers = control->workers < CONTROL_MAX_WORKERS ? control->workers : CONTROL_MAX_WORKERS;
    (void)pthread_mutex_init(&c->mutex, NULL);
    for (size_t i = 0; i < GRAPH_STRIPES; i++) {
        (void)pthread_mutex_init(&c->stripes[i], NULL);
    }
    if (!allocate_tables(c)) {
        catalog_free(c);
        return status_no_memory(st);
    }
    if (!texts_new(&c->texts, st)) {
        catalog_free(c);
        return false;
    }
    *ret = c;
    return true;
}

void catalog_free(struct catalog *c) {
    if (c == NULL) {
        return;
    }
    for (uint32_t i = 0; c->by_entry != NULL && i < c->capacity; i++) {
        struct library *lib = c->by_entry[i];
        if (lib != NULL) {
            /* alive, or deleted but not published as that, or never applied; only the living keep their files */
            library_close(lib, lib->deleted != 0 || lib->refs == 0);
            library_free(lib);
        }
    }
    free(c->buckets);
    free(c->by_entry);
    free(c->dirty);
    texts_free(c->texts);
    free(c->check_ids);
    free(c->check_table);
    for (size_t i = 0; i < GRAPH_STRIPES; i++) {
        (void)pthread_mutex_destroy(&c->stripes[i]);
    }
    (void)pthread_mutex_destroy(&c->mutex);
    free(c);
}

/* --- the table --- */

static struct library **bucket_of(struct catalog *c, const struct uuid *id) {
    return &c->buckets[hash64(0, id->b, UUID_BYTES) & (c->bucket_count - 1)];
}

struct library *catalog_find(struct catalog *c, const struct uuid *id) {
    struct library *lib = *bucket_of(c, id);
    while (lib != NULL && !uuid_equal(&lib->id, id)) {
        lib = lib->next_in_bucket;
    }
    return lib;
}

void catalog_add(struct catalog *c, struct library *lib) {
    (void)pthread_mutex_lock(&c->mutex);
    struct library **bucket = bucket_of(c, &lib->id);
    lib->next_in_bucket = *bucket;
    *bucket = lib;
    lib->refs = 1; /* the table's */
    c->count++;
    (void)pthread_mutex_unlock(&c->mutex);
}

void catalog_remove(struct catalog *c, struct library *lib) {
    (void)pthread_mutex_lock(&c->mutex);
    struct library **at = bucket_of(c, &lib->id);
    while (*at != lib) {
        at = &(*at)->next_in_bucket;
    }
    *at = lib->next_in_bucket;
    lib->next_aside = c->gone;
    c->gone = lib;
    c->count--;
    (void)pthread_mutex_unlock(&c->mutex);
}

static bool is_among(const struct library *list, const struct uuid *id) {
    while (list != NULL && !uuid_equal(&list->id, id)) {
        list = list->next_aside;
    }
    return list != NULL;
}

bool catalog_is_gone(struct catalog *c, const struct uuid *id) {
    (void)pthread_mutex_lock(&c->mutex);
    bool found = is_among(c->gone, id) || is_among(c->shadows, id);
    (void)pthread_mutex_unlock(&c->mutex);
    return found;
}

bool catalog_claim_entry(struct catalog *c, struct library *lib, struct status *st) {
    for (uint32_t i = 0; i < c->capacity; i++) {
        if (c->by_entry[i] == NULL) {
            (void)pthread_mutex_lock(&c->mutex);
            c->by_entry[i] = lib;
            (void)pthread_mutex_unlock(&c->mutex);
            lib->entry = i;
            c->directory_end = i >= c->directory_end ? i + 1 : c->directory_end;
            return true;
        }
    }
    return status_set(st, STATUS_TOO_LARGE, "there is room for %u libraries (max_libraries) and as many exist", c->capacity);
}

void catalog_free_entry(struct catalog *c, struct library *lib) {
    if (lib->entry != UINT32_MAX) {
        (void)pthread_mutex_lock(&c->mutex);
        c->by_entry[lib->entry] = NULL;
        (void)pthread_mutex_unlock(&c->mutex);
        lib->entry = UINT32_MAX;
    }
}

void catalog_mark_dirty(struct catalog *c, struct library *lib) {
    if (!lib->dirty) {
        lib->dirty = true;
        c->dirty[c->dirty_count++] = lib;
    }
}

void catalog_unmark_dirty(struct catalog *c, struct library *lib) {
    for (uint32_t i = 0; lib->dirty && i < c->dirty_count; i++) {
        if (c->dirty[i] == lib) {
            c->dirty[i] = c->dirty[--c->dirty_count];
            lib->dirty = false;
        }
    }
}

/* --- shadows: libraries that compactions are making --- */

static void take_out(struct library **list, const struct library *lib) {
    while (*list != NULL && *list != lib) {
        list = &(*list)->next_aside;
    }
    if (*list != NULL) {
        *list = lib->next_aside;
    }
}

void catalog_add_shadow(struct catalog *c, struct library *lib) {
    (void)pthread_mutex_lock(&c->mutex);
    lib->refs = 1;
    lib->next_aside = c->shadows;
    c->shadows = lib;
    (void)pthread_mutex_unlock(&c->mutex);
}

void catalog_drop_shadow(struct catalog *c, struct library *lib) {
    (void)pthread_mutex_lock(&c->mutex);
    take_out(&c->shadows, lib);
    (void)pthread_mutex_unlock(&c->mutex);
    store_release_u32(&lib->deleted, 1); /* pairs with: LIBRARY_DELETED */
}

void catalog_exchange(struct catalog *c, struct library *from, struct library *shadow, bool keep) {
    catalog_unmark_dirty(c, from);
    (void)pthread_mutex_lock(&c->mutex);
    take_out(&c->shadows, shadow);
    struct library **at = bucket_of(c, &from->id);
    while (*at != from) {
        at = &(*at)->next_in_bucket;
    }
    shadow->next_in_bucket = from->next_in_bucket;
    *at = shadow;
    shadow->entry = from->entry;
    c->by_entry[shadow->entry] = shadow;
    from->entry = UINT32_MAX;
    struct library **list = keep ? &c->shadows : &c->gone;
    from->next_aside = *list;
    *list = from;
    (void)pthread_mutex_unlock(&c->mutex);
    if (!keep) {
        store_release_u32(&from->deleted, 1); /* pairs with: LIBRARY_DELETED */
    }
    catalog_mark_dirty(c, shadow);
}

/* --- publication --- */

/* The vectors that the backlog has made since: views that still say `reembedding`. */
static void settle_embedding(struct catalog *c) {
    /* pairs with: EMBEDDING_SETTLED. Cleared before the counts are read, so a count that falls to zero meanwhile sets it again.
     */
    if (__atomic_exchange_n(&c->embedding_settled, 0, __ATOMIC_ACQ_REL) == 0) {
        return;
    }
    for (uint32_t i = 0; i < c->directory_end; i++) {
        struct library *lib = c->by_entry[i];
        if (lib != NULL && lib->view.live != 0 && lib->view.reembedding != 0) {
            catalog_mark_dirty(c, lib);
        }
    }
}

static void copy_to_directory(struct catalog *c, uint64_t lsn) {
    struct control *control = c->options.control;
    for (uint32_t i = 0; i < c->dirty_count; i++) {
        const struct library *lib = c->dirty[i];
        c->entries[lib->entry] = lib->view.live != 0 ? lib->view : (struct library_view){0};
    }
    store_relaxed_u32(&control->directory_count, c->directory_end);
    store_relaxed_u64(&control->published_lsn, lsn);
}

/* Files of graphs that no new view names. Readers that have them mapped keep them. */
static void drop_retired(struct library *lib) {
    while (lib->retired != NULL) {
        struct graph_work *g = lib->retired;
        lib->retired = g->next_retired;
        graph_work_unlink(lib->arena.dir_fd, g->generation);
        library_graph_release(lib, g);
    }
}

static void after_publication(struct catalog *c, struct library *lib) {
    lib->dirty = false;
    (void)pthread_mutex_lock(&lib->published_mutex);
    lib->published = lib->view;
    (void)pthread_mutex_unlock(&lib->published_mutex);
    drop_retired(lib);
    if (lib->view.live == 0) {
        catalog_free_entry(c, lib);
        catalog_release(c, lib); /* the table's reference */
    }
}

void catalog_publish(struct catalog *c, uint64_t lsn, int64_t patience_us, rwlock_stuck_fn stuck, void *ctx) {
    settle_embedding(c);
    if (c->dirty_count == 0 && lsn == load_relaxed_u64(&c->published_lsn)) {
        return;
    }
    for (uint32_t i = 0; i < c->dirty_count; i++) {
        struct library *lib = c->dirty[i];
        lib->view.reembedding = load_acquire_u64(&lib->without_vector) != 0 ? 1 : 0;
    }
    rwlock_write_lock(&c->options.control->lock, patience_us, stuck, ctx);
    copy_to_directory(c, lsn);
    rwlock_write_unlock(&c->options.control->lock);
    store_release_u64(&c->published_lsn, lsn); /* pairs with: CATALOG_PUBLISHED */

    uint32_t count = c->dirty_count;
    c->dirty_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        after_publication(c, c->dirty[i]);
    }
}

uint64_t catalog_published_lsn(const struct catalog *c) {
    return load_acquire_u64(&c->published_lsn);
}

/* --- background threads --- */

size_t catalog_library_count(struct catalog *c) {
    (void)pthread_mutex_lock(&c->mutex);
    size_t count = c->count;
    (void)pthread_mutex_unlock(&c->mutex);
    return count;
}

struct library *catalog_acquire(struct catalog *c, const struct uuid *id) {
    (void)pthread_mutex_lock(&c->mutex);
    struct library *lib = catalog_find(c, id);
    if (lib != NULL) {
        lib->refs++;
    }
    (void)pthread_mutex_unlock(&c->mutex);
    return lib;
}

static uint32_t count_shadows(const struct catalog *c) {
    uint32_t count = 0;
    for (const struct library *lib = c->shadows; lib != NULL; lib = lib->next_aside) {
        count++;
    }
    return count;
}

static bool acquire_all(struct catalog *c, bool shadows, struct library ***ret, size_t *ret_count, struct status *st) {
    (void)pthread_mutex_lock(&c->mutex);
    size_t room = (size_t)c->count + (shadows ? count_shadows(c) : 0);
    struct library **all = (struct library **)malloc((room + 1) * sizeof(struct library *));
    size_t count = 0;
    for (uint32_t i = 0; all != NULL && i < c->capacity && count < c->count; i++) {
        struct library *lib = c->by_entry[i];
        if (lib != NULL && lib->refs > 0 && !library_is_deleted(lib)) {
            lib->refs++;
            all[count++] = lib;
        }
    }
    for (struct library *lib = c->shadows; all != NULL && shadows && lib != NULL; lib = lib->next_aside) {
        lib->refs++;
        all[count++] = lib;
    }
    (void)pthread_mutex_unlock(&c->mutex);
    if (all == NULL) {
        return status_no_memory(st);
    }
    *ret = all;
    *ret_count = count;
    return true;
}

bool catalog_acquire_all(struct catalog *c, struct library ***ret, size_t *ret_count, struct status *st) {
    return acquire_all(c, false, ret, ret_count, st);
}

bool catalog_acquire_linkable(struct catalog *c, struct library ***ret, size_t *ret_count, struct status *st) {
    return acquire_all(c, true, ret, ret_count, st);
}

void catalog_release(struct catalog *c, struct library *lib) {
    if (lib == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&c->mutex);
    bool last = --lib->refs == 0;
    (void)pthread_mutex_unlock(&c->mutex);
    if (!last) {
        return;
    }
    library_close(lib, true);
    /* forgotten only now: until the files are gone, no library of this id may be made */
    (void)pthread_mutex_lock(&c->mutex);
    take_out(&c->gone, lib);
    (void)pthread_mutex_unlock(&c->mutex);
    library_free(lib);
}
