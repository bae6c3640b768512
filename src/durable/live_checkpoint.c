/*
 * live_checkpoint.c - taking a checkpoint while commits go on.
 *
 *   on the committer's thread, between two commits        on the caller's
 *   1. the cut: one LSN, every library's view
 *   2. pages of text files, LIVE_HELPING at a time        into the library's page file
 *   3. the end of the cut
 *                                                         4. sync of rows, records, vectors and page files
 *                                                         5. sums of rows and records as they were at the LSN
 *                                                         6. the file: written, synced, renamed
 *                                                         7. what neither of the newest two names is removed
 *
 * A library of which nothing changed since the checkpoint before is carried over as it is. For one that changed, its page file holds the pages that changed;
 * when the files of a chain hold more than the text files themselves, or are too many, all of them, and the chain begins anew. Records are only appended, so the
 * sums of full blocks are carried over as well.
 *
 * The graph is not synced: a start can tell what of it is sound without being told.
 *
 * A failure anywhere leaves the checkpoint before; the cut gives its pages back to the changed ones. Once the file is being given its name it may be the newest,
 * whatever is said about that, and its page files stay until another one has taken its place.
 */
#include "durable/live_internal.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/io.h"
#include "base/log.h"
#include "store/exchange.h"
#include "store/other_vectors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

enum { FILE_MODE = 0600 };

/* One library in the making. */
struct taking {
    struct arena_cut cut;      /* of a changed library; lib NULL: it is carried over */
    struct live_library saved; /* as it will stand in the checkpoint */
    size_t record_sums_known;
    bool whole; /* the page file is a base */
    int dir_fd;
    int fd; /* page file; -1: nothing was written yet */
    uint64_t written;
    uint32_t crc;
};

struct live_checkpointer {
    struct live_options options;
    struct live_checkpoint last; /* what the newest says, as far as text files still go by it; no library: nothing is known */
    uint64_t last_lsn;           /* of the newest on the disk, 0: none */
    uint64_t before_lsn;         /* of the one before it */
    uint64_t next_number;
    struct dirty_page *helping;
    struct buf block; /* a helping as it stands in the page file */
    /* of the checkpoint under way */
    struct taking *taking;
    size_t count;
    struct library **acquired;
    size_t acquired_count;
    struct live_checkpoint made;
    int64_t cut_us, most_us;
    uint64_t page_bytes;
};

/* --- on the committer's thread --- */

static bool nothing_changed(const struct live_library *saved, const struct library_view *view, uint64_t missing) {
    return saved->view.lsn == view->lsn && saved->view.directory == view->directory &&
           saved->view.arena_generation == view->arena_generation && saved->missing == missing;
}

static uint64_t text_bytes(const struct library_view *view) {
    return view->terms_used + view->postings_used + view->columns_used;
}

/* Whether the page file must be a base: there is no chain to go on with, or it has grown too long. */
static bool needs_base(const struct live_library *saved, const struct library_view *view) {
    uint64_t bytes = 0;
    if (saved == NULL || saved->view.directory != view->directory || saved->view.arena_generation != view->arena_generation ||
        saved->page_files == 0 || saved->page_files == LIVE_PAGE_FILES_MAX) {
        return true;
    }
    for (uint32_t i = 1; i < saved->page_files; i++) {
        bytes += saved->pages[i].bytes;
    }
    return bytes > text_bytes(view);
}

static void cut_library(struct live_checkpointer *k, struct library *lib) {
    struct taking *t = &k->taking[k->count++];
    struct reading rd;
    library_reading(lib, &rd);
    const struct live_library *saved = live_checkpoint_find(&k->last, &rd.view.id);
    *t = (struct taking){.dir_fd = -1, .fd = -1};
    t->saved.view = rd.view;
    t->saved.missing = library_missing(lib);
    if (saved != NULL && nothing_changed(saved, &rd.view, t->saved.missing)) {
        return;
    }
    t->whole = needs_base(saved, &rd.view);
    arena_cut_begin(lib, t->whole, &t->cut);
    t->saved.view = t->cut.view;
    t->saved.missing = t->cut.missing;
    if (!t->whole) {
        t->saved.page_files = saved->page_files;
        memcpy(t->saved.pages, saved->pages, sizeof saved->pages);
    }
}

static bool make_cut(void *ctx, struct status *st) {
    struct live_checkpointer *k = (struct live_checkpointer *)ctx;
    struct oplog_position position;
    int64_t begun = clock_monotonic_us();
    k->made.lsn = catalog_published_lsn(k->options.catalog);
    k->made.number = k->next_number;
    oplog_position_get(k->options.log, &position);
    k->made.place = position.place;
    if (!catalog_acquire_all(k->options.catalog, &k->acquired, &k->acquired_count, st)) {
        return false;
    }
    k->taking = (struct taking *)calloc(k->acquired_count + 1, sizeof *k->taking);
    if (k->taking == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < k->acquired_count; i++) {
        struct reading rd;
        library_reading(k->acquired[i], &rd);
        if (rd.view.live != 0) { /* else created, but not published yet */
            cut_library(k, k->acquired[i]);
        }
    }
    k->cut_us = clock_monotonic_us() - begun;
    k->most_us = k->cut_us;
    return true;
}

struct helping {
    struct live_checkpointer *k;
    const struct taking *t;
    enum arena_text_file file;
    size_t count;
};

static bool take_helping(void *ctx, struct status *st) {
    struct helping *h = (struct helping *)ctx;
    int64_t begun = clock_monotonic_us();
    (void)st;
    h->count = arena_cut_take(&h->t->cut, h->file, h->k->helping, LIVE_HELPING);
    int64_t took = clock_monotonic_us() - begun;
    h->k->most_us = took > h->k->most_us ? took : h->k->most_us;
    return true;
}

struct ending {
    struct live_checkpointer *k;
    bool ok;
};

static bool end_cuts(void *ctx, struct status *st) {
    struct ending *e = (struct ending *)ctx;
    bool whole = true;
    for (size_t i = 0; i < e->k->count; i++) {
        if (e->k->taking[i].cut.lib != NULL) {
            whole = arena_cut_end(&e->k->taking[i].cut, e->ok) && whole;
        }
    }
    return whole || !e->ok || status_set(st, STATUS_NO_MEMORY, "there was no memory for pages that changed meanwhile");
}

/* --- page files --- */

static bool open_pages(struct live_checkpointer *k, struct taking *t, struct status *st) {
    char directory[ARENA_DIRECTORY_MAX];
    char path[LIVE_PATH_BYTES];
    char name[LIVE_NAME_BYTES];
    uint8_t head[LIVE_PAGES_HEAD_BYTES] = {0};
    arena_directory_name(&t->cut.view.id, t->cut.view.directory, directory);
    (void)snprintf(path, sizeof path, "vectors/%s", directory);
    live_pages_name(k->made.number, name);
    store_u64le(head, LIVE_PAGES_MAGIC);
    store_u32le(head + 8, LIVE_PAGES_FORMAT);
    store_u64le(head + 16, k->made.lsn);
    if (!io_open_at(k->options.data_dir_fd, path, O_RDONLY | O_DIRECTORY, 0, &t->dir_fd, st) ||
        !io_unlink_at(t->dir_fd, name, st) ||
        !io_open_at(t->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, FILE_MODE, &t->fd, st) ||
        !io_pwrite_full(t->fd, head, sizeof head, 0, st)) {
        return false;
    }
    t->written = sizeof head;
    t->crc = crc32c(0, head, sizeof head);
    return true;
}

static bool write_helping(struct live_checkpointer *k, struct taking *t, const struct helping *h, struct status *st) {
    if (t->fd < 0 && !open_pages(k, t, st)) {
        return false;
    }
    buf_reset(&k->block);
    for (size_t i = 0; i < h->count; i++) {
        buf_put_u32le(&k->block, (uint32_t)h->file);
        buf_put_u32le(&k->block, k->helping[i].number);
        buf_put(&k->block, k->helping[i].bytes, DIRTY_PAGE_BYTES);
    }
    if (!buf_check(&k->block, st) || !io_pwrite_full(t->fd, k->block.data, k->block.len, (off_t)t->written, st)) {
        return false;
    }
    t->crc = crc32c(t->crc, k->block.data, k->block.len);
    t->written += k->block.len;
    return true;
}

static bool copy_pages(struct live_checkpointer *k, struct taking *t, struct status *st) {
    for (int file = 0; file < ARENA_TEXT_FILES; file++) {
        struct helping h = {.k = k, .t = t, .file = (enum arena_text_file)file};
        do {
            if (k->options.cancelled != NULL && k->options.cancelled(k->options.host)) {
                return status_set(st, STATUS_BUSY, "the checkpoint was called off");
            }
            if (!k->options.call(k->options.host, take_helping, &h, st) || (h.count > 0 && !write_helping(k, t, &h, st))) {
                return false;
            }
        } while (h.count > 0);
    }
    if (t->fd >= 0) {
        t->saved.pages[t->saved.page_files++] = (struct live_pages){.number = k->made.number, .bytes = t->written, .crc = t->crc};
        k->page_bytes += t->written;
    }
    return true;
}

/* After a failure behind the end of the cut the changed pages are gone from the tracker, of some libraries at least: what was written of them is not in any checkpoint,
 * so libraries that were cut begin a new chain. */
static void forget_cut(struct live_checkpointer *k) {
    for (size_t i = 0; i < k->count; i++) {
        for (size_t l = 0; k->taking[i].cut.lib != NULL && l < k->last.library_count; l++) {
            if (uuid_equal(&k->last.libraries[l].view.id, &k->taking[i].cut.view.id)) {
                k->last.libraries[l].page_files = 0;
                k->last.libraries[l].view.lsn = 0;
            }
        }
    }
}

static bool copy_all_pages(struct live_checkpointer *k, struct status *st) {
    struct status failed = {0};
    struct ending e = {.k = k, .ok = true};
    for (size_t i = 0; e.ok && i < k->count; i++) {
        e.ok = k->taking[i].cut.lib == NULL || copy_pages(k, &k->taking[i], &failed);
    }
    bool ended = k->options.call(k->options.host, end_cuts, &e, e.ok ? &failed : NULL);
    if (e.ok && !ended) { /* one library lacks pages, and the others have let go of theirs */
        forget_cut(k);
    }
    if ((!e.ok || !ended) && st != NULL) {
        *st = failed;
    }
    return e.ok && ended;
}

/* --- making it durable --- */

static bool sync_library(struct taking *t, struct status *st) {
    return arena_cut_sync(&t->cut, st) &&
           (t->fd < 0 || (io_fsync(t->fd, "the pages of a checkpoint", st) && io_fsync(t->dir_fd, "a library's directory", st)));
}

/* Full blocks of records do not change. */
static void carry_record_sums(struct taking *t, const struct live_library *saved) {
    if (saved == NULL || saved->view.directory != t->saved.view.directory ||
        saved->view.arena_generation != t->saved.view.arena_generation) {
        return;
    }
    t->record_sums_known = (size_t)(saved->view.records_used / LIVE_SUM_BYTES);
    memcpy(t->saved.record_sums, saved->record_sums, t->record_sums_known * sizeof *saved->record_sums);
}

static bool carry_over(struct live_library *to, const struct live_library *saved, struct status *st) {
    struct library_view view = to->view; /* another graph may serve now */
    if (!live_library_make_sums(to, st)) {
        return false;
    }
    memcpy(to->chunk_sums, saved->chunk_sums, live_chunk_sums(&view) * sizeof(uint32_t));
    memcpy(to->document_sums, saved->document_sums, live_document_sums(&view) * sizeof(uint32_t));
    memcpy(to->record_sums, saved->record_sums, live_record_sums(&view) * sizeof(uint32_t));
    memcpy(to->pages, saved->pages, sizeof to->pages);
    to->page_files = saved->page_files;
    return true;
}

static bool save_library(struct live_checkpointer *k, struct taking *t, struct status *st) {
    const struct live_library *saved = live_checkpoint_find(&k->last, &t->saved.view.id);
    if (t->cut.lib == NULL) {
        return carry_over(&t->saved, saved, st);
    }
    if (!sync_library(t, st) || !live_library_make_sums(&t->saved, st)) {
        return false;
    }
    carry_record_sums(t, saved);
    live_sum(&t->saved, k->made.lsn, arena_cut_chunks(&t->cut), arena_cut_documents(&t->cut), arena_cut_records(&t->cut),
             t->record_sums_known);
    return true;
}

/* Vectors of other models that the log up to here has: it may go. */
static bool sync_others(struct live_checkpointer *k, struct status *st) {
    bool ok = true;
    for (size_t i = 0; ok && i < k->acquired_count; i++) {
        ok = library_sync_other(k->acquired[i], st);
    }
    return ok;
}

static bool save_libraries(struct live_checkpointer *k, struct status *st) {
    k->made.libraries = (struct live_library *)calloc(k->count + 1, sizeof *k->made.libraries);
    if (k->made.libraries == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < k->count; i++) {
        bool ok = save_library(k, &k->taking[i], st);
        k->made.libraries[k->made.library_count++] = k->taking[i].saved;
        k->taking[i].saved = (struct live_library){0};
        if (!ok) {
            return false;
        }
    }
    return true;
}

/* The present one gets the name of the one before; a crash between the two renames leaves that, and it is good. */
static bool publish(struct live_checkpointer *k, struct status *st) {
    struct status failed = {0};
    struct buf content = {0};
    int fd = k->options.data_dir_fd;
    if (k->options.extra != NULL) {
        k->options.extra(k->options.host, k->made.lsn, &k->made.extra);
    }
    if (k->options.api_keys != NULL) {
        k->options.api_keys(k->options.host, &k->made.api_keys);
    }
    bool ok = buf_check(&k->made.extra, st) && buf_check(&k->made.api_keys, st);
    if (ok) {
        live_checkpoint_encode(&k->made, &content);
        ok = buf_check(&content, st);
    }
    if (ok && !io_rename_at(fd, LIVE_CHECKPOINT_PATH, fd, LIVE_CHECKPOINT_BEFORE_PATH, &failed) && failed.sys_errno != ENOENT) {
        ok = false;
        *st = failed;
    }
    ok = ok && io_replace_file(fd, LIVE_CHECKPOINT_PATH, buf_slice(&content), FILE_MODE, st);
    buf_fini(&content);
    return ok;
}

/* --- what nobody needs any more --- */

struct needed {
    const struct live_checkpoint *kept[2];
};

static bool names_pages(const struct needed *n, const struct library_view *view, uint64_t number) {
    for (size_t i = 0; i < sizeof n->kept / sizeof n->kept[0]; i++) {
        const struct live_library *l = live_checkpoint_find(n->kept[i], &view->id);
        for (uint32_t p = 0; l != NULL && l->view.directory == view->directory && p < l->page_files; p++) {
            if (l->pages[p].number == number) {
                return true;
            }
        }
    }
    return false;
}

static bool names_directory(const struct needed *n, const struct uuid *id, uint32_t directory) {
    for (size_t i = 0; i < sizeof n->kept / sizeof n->kept[0]; i++) {
        const struct live_library *l = live_checkpoint_find(n->kept[i], id);
        if (l != NULL && l->view.directory == directory) {
            return true;
        }
    }
    return false;
}

static void remove_pages(const struct live_checkpointer *k, const struct needed *n, const struct library_view *view) {
    char directory[ARENA_DIRECTORY_MAX];
    char path[LIVE_PATH_BYTES];
    struct status st;
    arena_directory_name(&view->id, view->directory, directory);
    (void)snprintf(path, sizeof path, "vectors/%s", directory);
    DIR *dir = NULL;
    if (!io_open_dir(k->options.data_dir_fd, path, O_NOFOLLOW, path, &dir, &st)) {
        return;
    }
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        uint64_t number = 0;
        if (live_pages_parse(e->d_name, &number) && !names_pages(n, view, number) && !io_unlink_at(dirfd(dir), e->d_name, &st)) {
            log_status(LOG_LEVEL_WARN, "an old page file stays", &st);
        }
    }
    (void)closedir(dir);
}

/* Then the other directories are, or may become, a side's (store/exchange.h). One that is begun just now has a number above this view's. */
static bool is_exchanging(const struct live_checkpointer *k, const struct uuid *id) {
    struct library *lib = catalog_acquire(k->options.catalog, id);
    bool exchanging = lib == NULL || library_exchange_state(lib) != EXCHANGE_NONE;
    catalog_release(k->options.catalog, lib);
    return exchanging;
}

/* Directories that compactions and exchanges have replaced: an earlier number of a library that is alive. */
static void remove_directories(const struct live_checkpointer *k, const struct needed *n, const struct library_view *view) {
    struct status st;
    DIR *dir = NULL;
    char bare[ARENA_DIRECTORY_MAX];
    if (view->directory == 0 || is_exchanging(k, &view->id) || !io_open_dir(k->options.data_dir_fd, "vectors", O_NOFOLLOW, "the directory vectors/", &dir, &st)) {
        return;
    }
    arena_directory_name(&view->id, 0, bare);
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        char name[ARENA_DIRECTORY_MAX];
        uint32_t number = strncmp(e->d_name, bare, strlen(bare)) == 0 && e->d_name[strlen(bare)] == '.'
                              ? (uint32_t)strtoul(e->d_name + strlen(bare) + 1, NULL, 10)
                              : 0;
        arena_directory_name(&view->id, number, name);
        if (strcmp(e->d_name, name) == 0 && number < view->directory && !names_directory(n, &view->id, number) &&
            !io_remove_tree(dirfd(dir), e->d_name, &st)) {
            log_status(LOG_LEVEL_WARN, "the files of an arena that was replaced stay", &st);
        }
    }
    (void)closedir(dir);
}

static void collect(struct live_checkpointer *k) {
    struct live_checkpoint before = {0};
    struct needed n = {{&k->made, &before}};
    bool there = false;
    char why[200];
    struct status st;
    if (!live_checkpoint_read(k->options.data_dir_fd, LIVE_CHECKPOINT_BEFORE_PATH, &before, &there, why, &st)) {
        return;
    }
    k->before_lsn = there ? before.lsn : 0;
    for (size_t i = 0; i < k->made.library_count; i++) {
        remove_pages(k, &n, &k->made.libraries[i].view);
        remove_directories(k, &n, &k->made.libraries[i].view);
    }
    live_checkpoint_fini(&before);
}

/* --- the whole --- */

static void drop_taking(struct live_checkpointer *k, bool pages_stay) {
    for (size_t i = 0; i < k->count; i++) {
        struct taking *t = &k->taking[i];
        if (!pages_stay && t->fd >= 0) {
            char name[LIVE_NAME_BYTES];
            struct status ignored;
            live_pages_name(k->made.number, name);
            (void)!io_unlink_at(t->dir_fd, name, &ignored); /* what stays is removed after the next checkpoint */
        }
        io_close(&t->fd);
        io_close(&t->dir_fd);
        live_library_fini(&t->saved);
    }
    free(k->taking);
    k->taking = NULL;
    k->count = 0;
    for (size_t i = 0; i < k->acquired_count; i++) {
        catalog_release(k->options.catalog, k->acquired[i]);
    }
    free(k->acquired);
    k->acquired = NULL;
    k->acquired_count = 0;
}

static uint64_t libraries_cut(const struct live_checkpointer *k) {
    uint64_t count = 0;
    for (size_t i = 0; i < k->count; i++) {
        count += k->taking[i].cut.lib != NULL ? 1 : 0;
    }
    return count;
}

bool live_checkpoint_take(struct live_checkpointer *k, struct live_report *ret, struct status *st) {
    struct status local = {0};
    st = st != NULL ? st : &local;
    k->page_bytes = 0;
    k->next_number++;
    bool cut = k->options.call(k->options.host, make_cut, k, st);
    bool copied = cut && copy_all_pages(k, st);
    bool saved = copied && save_libraries(k, st) && sync_others(k, st);
    bool ok = saved && publish(k, st);
    if (ok) {
        *ret = (struct live_report){.lsn = k->made.lsn,
                                    .libraries_written = libraries_cut(k),
                                    .page_bytes = k->page_bytes,
                                    .cut_us = k->cut_us,
                                    .most_us = k->most_us};
        collect(k);
        live_checkpoint_fini(&k->last);
        k->last = k->made;
        k->last_lsn = k->made.lsn;
        k->made = (struct live_checkpoint){0};
    } else if (copied) {
        forget_cut(k);
    } else if (k->count > 0 && !copied) {
        struct ending e = {.k = k, .ok = false};
        if (!cut) {
            (void)!k->options.call(k->options.host, end_cuts, &e, NULL);
        }
    }
    drop_taking(k, saved);
    live_checkpoint_fini(&k->made);
    return ok;
}

/* Libraries whose text files are no longer as `found` has them begin anew. */
static void check_found(struct live_checkpointer *k, bool resumed) {
    for (size_t i = 0; i < k->last.library_count; i++) {
        struct live_library *saved = &k->last.libraries[i];
        struct library *lib = catalog_acquire(k->options.catalog, &saved->view.id);
        struct reading rd = {0};
        if (lib != NULL) {
            library_reading(lib, &rd);
            catalog_release(k->options.catalog, lib);
        }
        if (lib == NULL || rd.view.directory != saved->view.directory ||
            rd.view.arena_generation != saved->view.arena_generation || (!resumed && rd.view.lsn != saved->view.lsn)) {
            saved->page_files = 0;
            saved->view.lsn = 0;
        }
    }
}

static bool take_number(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct live_checkpointer *k = (struct live_checkpointer *)ctx;
    uint64_t number = 0;
    (void)dir_fd;
    (void)st;
    if (live_pages_parse(name, &number) && number > k->next_number) {
        k->next_number = number;
    }
    return true;
}

static bool find_number_in(int vectors_fd, const char *directory, void *ctx, struct status *st) {
    struct status failed = {0};
    int fd = -1;
    if (directory[0] == '.') {
        return true;
    }
    if (!io_open_at(vectors_fd, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, &failed)) {
        if (failed.sys_errno == ENOTDIR || failed.sys_errno == ELOOP || failed.sys_errno == ENOENT) {
            return true;
        }
        *st = failed;
        return false;
    }
    bool ok = io_each_entry(fd, "the directory of a library", take_number, ctx, st);
    io_close(&fd);
    return ok;
}

/* No page file that lies there is ever written again: a checkpoint that cannot be read at this moment may name it. */
static bool find_number(struct live_checkpointer *k, struct status *st) {
    int fd = -1;
    bool ok = io_open_at(k->options.data_dir_fd, "vectors", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, st) &&
              io_each_entry(fd, "the directory vectors/", find_number_in, k, st);
    io_close(&fd);
    return ok;
}

bool live_checkpointer_new(const struct live_options *options, struct live_checkpoint *found, bool resumed,
                           struct live_checkpointer **ret, struct status *st) {
    struct live_checkpointer *k = (struct live_checkpointer *)calloc(1, sizeof *k);
    if (k == NULL) {
        return status_no_memory(st);
    }
    k->options = *options;
    k->helping = (struct dirty_page *)malloc(LIVE_HELPING * sizeof *k->helping);
    if (k->helping == NULL ? !status_no_memory(st) : !find_number(k, st)) {
        live_checkpointer_free(k);
        return false;
    }
    if (found != NULL) {
        k->last = *found;
        k->last_lsn = found->lsn;
        k->before_lsn = found->lsn;
        *found = (struct live_checkpoint){0};
        check_found(k, resumed);
    }
    *ret = k;
    return true;
}

void live_checkpointer_free(struct live_checkpointer *k) {
    if (k != NULL) {
        live_checkpoint_fini(&k->last);
        buf_fini(&k->block);
        free(k->helping);
        free(k);
    }
}

uint64_t live_checkpoint_floor(const struct live_checkpointer *k) {
    return k->before_lsn != 0 ? k->before_lsn : k->last_lsn;
}
