/* arena_cut.c - see arena_cut.h. */
#include "store/arena_cut.h"

#include "base/crc32c.h"
#include "base/io.h"
#include "store/library_internal.h"

static const char *const names[ARENA_TEXT_FILES] = {
    [ARENA_TERMS] = "terms.mmap", [ARENA_POSTINGS] = "postings.mmap", [ARENA_COLUMNS] = "columns.mmap"};

const char *arena_text_file_name(enum arena_text_file file) {
    return names[file];
}

uint64_t arena_cut_used(const struct library_view *view, enum arena_text_file file) {
    switch (file) {
    case ARENA_TERMS:
        return view->terms_used;
    case ARENA_POSTINGS:
        return view->postings_used;
    default:
        return view->columns_used;
    }
}

static const struct mapfile *text_file(const struct library *lib, enum arena_text_file file) {
    switch (file) {
    case ARENA_TERMS:
        return &lib->arena.terms;
    case ARENA_POSTINGS:
        return &lib->arena.postings;
    default:
        return &lib->arena.columns;
    }
}

uint64_t library_missing(struct library *lib) {
    return load_acquire_u64(&lib->without_vector);
}

void arena_cut_begin(struct library *lib, bool all, struct arena_cut *ret) {
    *ret = (struct arena_cut){.lib = lib, .view = lib->view, .missing = library_missing(lib)};
    for (int file = 0; file < ARENA_TEXT_FILES; file++) {
        dirty_cut(&lib->text_pages[file], arena_cut_used(&ret->view, (enum arena_text_file)file), all);
    }
}

size_t arena_cut_take(const struct arena_cut *cut, enum arena_text_file file, struct dirty_page *out, size_t most) {
    return dirty_take(&cut->lib->text_pages[file], mapfile_base(text_file(cut->lib, file)), out, most);
}

bool arena_cut_end(const struct arena_cut *cut, bool ok) {
    bool whole = true;
    for (int file = 0; file < ARENA_TEXT_FILES; file++) {
        whole = dirty_end(&cut->lib->text_pages[file], ok) && whole;
    }
    return whole;
}

static bool sync_file(const struct mapfile *m, struct status *st) {
    return m->fd < 0 || io_fdatasync(m->fd, m->name, st);
}

bool arena_cut_sync(const struct arena_cut *cut, struct status *st) {
    const struct arena *a = &cut->lib->arena;
    return sync_file(&a->records, st) && sync_file(&a->documents, st) && sync_file(&a->chunks, st) &&
           (cut->view.dimension == 0 || sync_file(&a->vectors, st));
}

const uint8_t *arena_cut_records(const struct arena_cut *cut) {
    return mapfile_base(&cut->lib->arena.records);
}

const struct chunk_row *arena_cut_chunks(const struct arena_cut *cut) {
    return library_chunk(cut->lib, 0);
}

const struct document_row *arena_cut_documents(const struct arena_cut *cut) {
    return library_document(cut->lib, 0);
}

/* --- sums --- */

static uint64_t deleted_at(uint64_t deleted_lsn, uint64_t lsn) {
    return deleted_lsn > lsn ? 0 : deleted_lsn;
}

uint32_t chunk_rows_sum(const struct chunk_row *rows, uint32_t count, uint64_t lsn) {
    uint32_t crc = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct chunk_row *r = &rows[i];
        const struct chunk_row then = {.created_lsn = r->created_lsn,
                                       .deleted_lsn = deleted_at(load_acquire_u64(&r->deleted_lsn), lsn),
                                       .record = r->record,
                                       .id_hash = r->id_hash,
                                       .text_hash = r->text_hash,
                                       .record_length = r->record_length,
                                       .document = r->document,
                                       .length = r->length};
        crc = crc32c(crc, &then, sizeof then);
    }
    return crc;
}

uint32_t document_rows_sum(const struct document_row *rows, uint32_t count, uint64_t lsn) {
    uint32_t crc = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct document_row *r = &rows[i];
        const struct document_row then = {.created_lsn = r->created_lsn,
                                          .deleted_lsn = deleted_at(load_acquire_u64(&r->deleted_lsn), lsn),
                                          .record = r->record,
                                          .id_hash = r->id_hash,
                                          .created_at = r->created_at,
                                          .record_length = r->record_length,
                                          .first_chunk = r->first_chunk,
                                          .num_chunks = r->num_chunks};
        crc = crc32c(crc, &then, sizeof then);
    }
    return crc;
}
