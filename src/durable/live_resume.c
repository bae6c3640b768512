/* live_resume.c - from a live checkpoint back to a library: its text files from their pages, its rows by their sums. */
#include "durable/live_internal.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/io.h"
#include "store/resume.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

enum { RECORDS_AT_ONCE = 256 };

/* --- terms, postings, columns --- */

struct restoring {
    int dir_fd;
    const struct live_library *l;
    struct mapfile files[ARENA_TEXT_FILES];
    uint8_t *seen[ARENA_TEXT_FILES]; /* by page */
    uint64_t pages[ARENA_TEXT_FILES];
    uint8_t *block;
};

static bool make_file(struct restoring *r, enum arena_text_file file, struct status *st) {
    const char *name = arena_text_file_name(file);
    uint64_t used = arena_cut_used(&r->l->view, file);
    r->pages[file] = (used + DIRTY_PAGE_BYTES - 1) / DIRTY_PAGE_BYTES;
    r->seen[file] = (uint8_t *)calloc((size_t)r->pages[file] + 1, 1);
    if (r->seen[file] == NULL) {
        return status_no_memory(st);
    }
    return io_unlink_at(r->dir_fd, name, st) &&
           mapfile_create(&r->files[file], r->dir_fd, name, arena_file_pages(name), (r->pages[file] + 1) * DIRTY_PAGE_BYTES, st);
}

static bool apply_record(struct restoring *r, const uint8_t *record) {
    uint32_t file = load_u32le(record);
    uint32_t page = load_u32le(record + sizeof file);
    if (file >= ARENA_TEXT_FILES || page >= r->pages[file]) {
        return false;
    }
    memcpy(mapfile_base(&r->files[file]) + (size_t)page * DIRTY_PAGE_BYTES, record + 2 * sizeof file, DIRTY_PAGE_BYTES);
    r->seen[file][page] = 1;
    return true;
}

static bool bad_pages(const char *name, struct status *st) {
    return status_set(st, STATUS_CORRUPT, "%s is not the page file that the checkpoint names", name);
}

static bool apply_pages(struct restoring *r, int fd, const char *name, const struct live_pages *p, struct status *st) {
    uint8_t head[LIVE_PAGES_HEAD_BYTES];
    off_t size = 0;
    if (!io_size(fd, &size, st)) {
        return false;
    }
    if ((uint64_t)size != p->bytes || p->bytes < sizeof head || (p->bytes - sizeof head) % LIVE_PAGE_RECORD_BYTES != 0) {
        return bad_pages(name, st);
    }
    if (!io_pread_full(fd, head, sizeof head, 0, st)) {
        return false;
    }
    uint32_t crc = crc32c(0, head, sizeof head);
    bool sound = load_u64le(head) == LIVE_PAGES_MAGIC && load_u32le(head + 8) == LIVE_PAGES_FORMAT;
    for (uint64_t at = sizeof head; sound && at < p->bytes;) {
        uint64_t left = p->bytes - at;
        size_t len = left < RECORDS_AT_ONCE * LIVE_PAGE_RECORD_BYTES ? (size_t)left : RECORDS_AT_ONCE * LIVE_PAGE_RECORD_BYTES;
        if (!io_pread_full(fd, r->block, len, (off_t)at, st)) {
            return false;
        }
        crc = crc32c(crc, r->block, len);
        for (size_t i = 0; sound && i < len; i += LIVE_PAGE_RECORD_BYTES) {
            sound = apply_record(r, r->block + i);
        }
        at += len;
    }
    return (sound && crc == p->crc) || bad_pages(name, st);
}

static bool apply_file(struct restoring *r, const struct live_pages *p, struct status *st) {
    char name[LIVE_NAME_BYTES];
    int fd = -1;
    live_pages_name(p->number, name);
    bool ok = io_open_at(r->dir_fd, name, O_RDONLY | O_NOFOLLOW, 0, &fd, st) && apply_pages(r, fd, name, p, st);
    io_close(&fd);
    return ok;
}

static bool all_seen(const struct restoring *r) {
    for (int file = 0; file < ARENA_TEXT_FILES; file++) {
        if (memchr(r->seen[file], 0, (size_t)r->pages[file]) != NULL) {
            return false;
        }
    }
    return true;
}

static bool restore_texts(struct restoring *r, struct status *st) {
    for (int file = 0; file < ARENA_TEXT_FILES; file++) {
        if (!make_file(r, (enum arena_text_file)file, st)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < r->l->page_files; i++) {
        if (!apply_file(r, &r->l->pages[i], st)) {
            return false;
        }
    }
    return all_seen(r) || status_set(st, STATUS_CORRUPT, "the page files do not hold all pages");
}

bool live_restore_texts(int vectors_dir_fd, const struct live_library *l, struct status *st) {
    struct restoring r = {.dir_fd = -1, .l = l};
    char directory[ARENA_DIRECTORY_MAX];
    for (int file = 0; file < ARENA_TEXT_FILES; file++) {
        r.files[file] = MAPFILE_CLOSED;
    }
    arena_directory_name(&l->view.id, l->view.directory, directory);
    r.block = (uint8_t *)malloc(RECORDS_AT_ONCE * LIVE_PAGE_RECORD_BYTES);
    bool ok = r.block != NULL || status_no_memory(st);
    ok = ok && io_open_at(vectors_dir_fd, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &r.dir_fd, st) &&
         restore_texts(&r, st);
    for (int file = 0; file < ARENA_TEXT_FILES; file++) {
        mapfile_close(&r.files[file]);
        free(r.seen[file]);
    }
    io_close(&r.dir_fd);
    free(r.block);
    return ok;
}

/* --- rows and records --- */

struct standing {
    uint64_t lsn;
    const struct live_library *l;
};

static bool same(const uint32_t *a, const uint32_t *b, size_t count) {
    return memcmp(a, b, count * sizeof *a) == 0;
}

static bool rows_stand(const void *ctx, const struct chunk_row *chunks, const struct document_row *documents,
                       const uint8_t *records, struct status *why) {
    const struct standing *s = (const struct standing *)ctx;
    struct live_library now = {.view = s->l->view};
    bool ok = live_library_make_sums(&now, why);
    if (ok) {
        live_sum(&now, s->lsn, chunks, documents, records, 0);
        const char *bad = !same(now.chunk_sums, s->l->chunk_sums, live_chunk_sums(&now.view))            ? "chunks.mmap"
                          : !same(now.document_sums, s->l->document_sums, live_document_sums(&now.view)) ? "documents.mmap"
                          : !same(now.record_sums, s->l->record_sums, live_record_sums(&now.view))       ? "records.mmap"
                                                                                                         : NULL;
        ok = bad == NULL || status_set(why, STATUS_CORRUPT, "%s is not as the checkpoint left it", bad);
    }
    live_library_fini(&now);
    return ok;
}

bool live_resume(struct catalog *c, const struct live_checkpoint *from, const struct live_library *l, struct status *st) {
    const struct standing s = {.lsn = from->lsn, .l = l};
    const struct resume_point p = {.view = l->view, .lsn = from->lsn, .missing = l->missing, .rows_stand = rows_stand, .ctx = &s};
    return catalog_resume(c, &p, st);
}
