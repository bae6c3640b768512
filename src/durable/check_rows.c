/*
 * check_rows.c - of one library: its files, rows and vectors (check.h).
 *
 * What is promised of rows, and checked here:
 *  - documents follow each other, in their records and in their chunks: the slots of one begin where those of the one before end, and the last ends at
 *    the view's count;
 *  - a chunk's row leads to the bytes that the document's record has at that place, and back to the document's row;
 *  - hashes are those of the ids and texts; the id table leads from a living one's id to its row, and from no other's;
 *  - what is deleted was created before, both within the view; with a document all of its chunks are.
 * Nothing that a row says is used before it is compared with the view or the size of a map.
 */
#include "durable/check_internal.h"

#include "base/crc32c.h"
#include "base/io.h"
#include "base/utf8.h"
#include "store/idtable.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define RECORD_ALIGNMENT 8
#define DETAIL_BYTES 160
#define READ_STEP 65536
#define CHUNKS_FILE "chunks.mmap"
#define DOCUMENTS_FILE "documents.mmap"
#define RECORDS_FILE "records.mmap"
#define IDS_FILE "ids.mmap"

/* --- files --- */

/* Where the checkpoint has a file; file_count: nowhere. */
static size_t saved_file(const struct library_check *l, const char *name) {
    size_t i = 0;
    while (i < l->saved->file_count && strcmp(l->saved->files[i].name, name) != 0) {
        i++;
    }
    return i;
}

static bool is_readable(struct library_check *l, const struct checkpoint_file *f) {
    uint8_t step[READ_STEP];
    struct status ignored;
    size_t have = sizeof step;
    int fd = -1;
    bool ok = io_open_at(l->arena.dir_fd, f->name, O_RDONLY | O_NOFOLLOW, 0, &fd, &ignored);
    for (off_t at = 0; ok && have == sizeof step; at += READ_STEP) {
        ok = io_pread(fd, step, sizeof step, at, &have, &ignored);
    }
    io_close(&fd);
    return ok;
}

/* Each file's sums by itself, so that one fault hides no other. Before anything is mapped. */
static bool check_sums(struct library_check *l, struct status *st) {
    for (size_t i = 0; i < l->saved->file_count; i++) {
        struct checkpoint_library one = {.view = l->saved->view, .file_count = 1};
        struct checkpoint c = {.libraries = &one, .library_count = 1};
        char why[CHECKPOINT_WHY_MAX] = "";
        bool sound = true;
        one.files[0] = l->saved->files[i];
        library_part(l, CHECK_FILES)->looked_at++;
        if (!l->k->options->skip_sums && !checkpoint_verify(l->k->options->data_dir_fd, &c, &sound, why, st)) {
            return false;
        }
        if (!sound) {
            l->unsound |= 1U << i;
            l->unreadable |= is_readable(l, &one.files[0]) ? 0 : 1U << i;
            library_fault(l, CHECK_FILES, one.files[0].name, AT_NO_PLACE, "%s", why);
        }
    }
    return true;
}

/* Maps `bytes` of a file, which the checkpoint must have as that long. */
static bool open_file(struct library_check *l, struct mapfile *m, const char *name, uint64_t bytes) {
    struct status why = {0};
    size_t i = saved_file(l, name);
    if (i == l->saved->file_count || l->saved->files[i].used != bytes) {
        library_fault(l, CHECK_FILES, name, AT_NO_PLACE,
                      "the checkpoint has it with another length than the library's view, or not at all");
    }
    if ((l->unreadable >> i & 1) != 0) {
        return false;
    }
    if (mapfile_open(m, l->arena.dir_fd, name, arena_file_pages(name), false, &why) && mapfile_refresh(m, bytes, &why)) {
        return true;
    }
    mapfile_close(m);
    if ((l->unsound >> i & 1) != 0) {
        return false;
    }
    l->unsound |= 1U << i;
    library_fault(l, CHECK_FILES, name, AT_NO_PLACE, "%s", why.code == STATUS_NOT_FOUND ? "the file is missing" : why.detail);
    return false;
}

static bool view_is_possible(const struct library_view *v) {
    return v->live != 0 && v->dimension <= HNSW_MAX_DIMENSION && v->stride == arena_stride(v->dimension) &&
           v->chunk_slots <= IDTABLE_MAX_ROWS && v->document_rows <= IDTABLE_MAX_ROWS && v->live_chunks <= v->chunk_slots &&
           v->live_documents <= v->document_rows && v->ids_used >= IDTABLE_FIRST_FREE && v->ids_used <= IDTABLE_MAX_ROWS &&
           v->records_used % RECORD_ALIGNMENT == 0;
}

static void open_vectors(struct library_check *l) {
    const struct library_view *v = &l->saved->view;
    if (v->dimension == 0 || !open_file(l, &l->arena.vectors, "vectors.mmap", arena_vectors_bytes(v->stride, v->chunk_slots))) {
        return;
    }
    const struct vectors_head *head = (const struct vectors_head *)(const void *)mapfile_base(&l->arena.vectors);
    l->has_vectors = head->magic == VECTORS_MAGIC && head->format == ARENA_FORMAT && head->dimension == v->dimension &&
                     head->stride == v->stride;
    if (!l->has_vectors) {
        library_fault(l, CHECK_VECTORS, "vectors.mmap", AT_NO_PLACE, "it does not begin as its library says");
    } else if (v->model_fingerprint != 0 && head->model_fingerprint != v->model_fingerprint) { /* else it may have become known since */
        library_fault(l, CHECK_VECTORS, "vectors.mmap", AT_NO_PLACE,
                      "the vectors are said to come from another model than the library's");
    }
}

static void open_graph(struct library_check *l) {
    const struct library_view *v = &l->saved->view;
    char names[2][ARENA_FILE_NAME_MAX];
    struct status why = {0};
    if (v->graph_generation == 0) {
        return;
    }
    arena_graph_names(v->graph_generation, names[0], names[1]);
    if ((l->unreadable >> saved_file(l, names[0]) & 1) != 0) {
        return;
    }
    if (!mapfile_open(&l->arena.graph, l->arena.dir_fd, names[0], arena_file_pages(names[0]), false, &why) ||
        !mapfile_refresh(&l->arena.graph, HNSW_HEAD_BYTES, &why)) {
        mapfile_close(&l->arena.graph);
        (void)open_file(l, &l->arena.graph, names[0], HNSW_HEAD_BYTES); /* says so */
        return;
    }
    const struct hnsw_head head = *(const struct hnsw_head *)(const void *)mapfile_base(&l->arena.graph);
    mapfile_close(&l->arena.graph);
    if (!hnsw_head_valid(&head) || head.dimension != v->dimension || head.upper_used > UINT32_MAX) {
        library_fault(l, CHECK_GRAPH, names[0], AT_NO_PLACE, "it does not begin as a graph of this library");
        return;
    }
    bool graph = open_file(l, &l->arena.graph, names[0], arena_graph_bytes(&head, v->chunk_slots));
    bool upper = open_file(l, &l->arena.upper, names[1], head.upper_used * sizeof(uint32_t));
    l->has_graph = graph && upper;
    l->arena.graph_generation = v->graph_generation;
}

static void open_files(struct library_check *l) {
    const struct library_view *v = &l->saved->view;
    struct arena *a = &l->arena;
    bool chunks = open_file(l, &a->chunks, CHUNKS_FILE, (uint64_t)v->chunk_slots * sizeof(struct chunk_row));
    bool documents = open_file(l, &a->documents, DOCUMENTS_FILE, (uint64_t)v->document_rows * sizeof(struct document_row));
    bool records = open_file(l, &a->records, RECORDS_FILE, v->records_used);
    bool ids = open_file(l, &a->ids, IDS_FILE, v->ids_used * IDTABLE_NODE_BYTES);
    bool terms = open_file(l, &a->terms, "terms.mmap", v->terms_used);
    bool postings = open_file(l, &a->postings, "postings.mmap", v->postings_used);
    l->has_columns = open_file(l, &a->columns, "columns.mmap", v->columns_used);
    l->has_rows = chunks && documents && records && ids;
    l->has_postings = terms && postings;
    open_vectors(l);
    open_graph(l);
}

/* --- rows --- */

struct row_sums {
    uint64_t next_slot;  /* where the next document's chunks must begin */
    uint64_t record_end; /* of the records before */
    uint64_t live_documents;
    uint64_t live_chunks;
    uint64_t text_bytes;
    uint64_t live_tokens;
};

static void check_lsns(struct library_check *l, const char *file, struct fault_place at, uint64_t created, uint64_t deleted) {
    uint64_t lsn = l->rd.view.lsn;
    if (created == 0 || created > lsn) {
        library_fault(l, CHECK_ROWS, file, at, "created at LSN %" PRIu64 ", but the library's last is %" PRIu64, created, lsn);
    }
    if (deleted != 0 && (deleted < created || deleted > lsn)) {
        library_fault(l, CHECK_ROWS, file, at,
                      "deleted at LSN %" PRIu64 ", but created at %" PRIu64 " in a library whose last is %" PRIu64, deleted,
                      created, lsn);
    }
}

/* Whether the id table leads from an id to its row exactly when that lives. */
static void check_lookup(struct library_check *l, enum id_kind kind, struct slice id, uint32_t row, bool alive,
                         struct fault_place at) {
    struct library_view newest = l->rd.view;
    newest.lsn = UINT64_MAX;
    uint32_t found = idtable_find(&l->arena, &newest, kind, id);
    char text[ITEM_ID_TEXT_MAX + 1];
    if (alive != (found == row)) {
        (void)item_id_text(id, text);
        library_fault(l, CHECK_ROWS, IDS_FILE, at, "the id table does not lead from the id %.128s to it", text);
    }
}

static void check_chunk(struct library_check *l, const struct document_row *d, uint32_t row, uint32_t slot,
                        const struct op_chunk *fields, struct row_sums *sums) {
    const struct chunk_row *c = arena_chunk(&l->arena, slot);
    struct fault_place at = AT_SLOT(slot);
    bool alive = c->deleted_lsn == 0;
    check_lsns(l, CHUNKS_FILE, at, c->created_lsn, c->deleted_lsn);
    if (c->document != row || c->created_lsn != d->created_lsn) {
        library_fault(l, CHECK_ROWS, CHUNKS_FILE, at, "it is a chunk of document row %" PRIu32 ", but says otherwise", row);
    }
    if (d->deleted_lsn != 0 && (alive || c->deleted_lsn > d->deleted_lsn)) {
        library_fault(l, CHECK_ROWS, CHUNKS_FILE, at, "it lives on behind its document's deletion");
    }
    if (c->record != d->record + fields->offset || c->record_length != fields->length) {
        library_fault(l, CHECK_ROWS, CHUNKS_FILE, at, "it does not lead to its bytes in its document's record");
    }
    if (c->id_hash != item_id_hash(fields->id)) {
        library_fault(l, CHECK_ROWS, CHUNKS_FILE, at, "its hash is not that of its id");
    }
    if (c->text_hash != text_hash(fields->text)) {
        library_fault(l, CHECK_ROWS, CHUNKS_FILE, at, "its text's hash is not that of its text");
    }
    if ((c->state & ~(CHUNK_HAS_VECTOR | CHUNK_COUNTED_DEAD)) != 0 || alive != ((c->state & CHUNK_COUNTED_DEAD) == 0)) {
        library_fault(l, CHECK_ROWS, CHUNKS_FILE, at, "its state is none that it can have");
    }
    check_lookup(l, ID_CHUNK, fields->id, slot, alive, at);
    if (alive) {
        sums->live_chunks++;
        sums->text_bytes += fields->text.len;
        sums->live_tokens += c->length;
    }
}

/* The chunks of a document as its record has them. */
static void check_chunks(struct library_check *l, uint32_t row, const struct op_document *fields, struct row_sums *sums) {
    const struct document_row *d = arena_document(&l->arena, row);
    struct chunk_walk walk = {.bytes = fields->chunks, .base = fields->chunks_offset};
    struct op_chunk chunk;
    uint32_t i = 0;
    for (; i < d->num_chunks && chunk_walk_next(&walk, &chunk); i++) {
        if (!item_id_valid(chunk.id) || !utf8_valid(chunk.text)) {
            library_fault(l, CHECK_ROWS, RECORDS_FILE, AT_SLOT(d->first_chunk + i), "its id or text is no text");
        }
        check_chunk(l, d, row, d->first_chunk + i, &chunk, sums);
    }
    if (i < d->num_chunks || i < fields->num_chunks) {
        library_fault(l, CHECK_ROWS, RECORDS_FILE, AT_ROW(row), "its record has other chunks than its row counts");
    }
}

static void check_document(struct library_check *l, uint32_t row, struct row_sums *sums) {
    const struct document_row *d = arena_document(&l->arena, row);
    const struct library_view *v = &l->rd.view;
    struct fault_place at = AT_ROW(row);
    struct op_document fields;
    uint64_t end = (uint64_t)d->first_chunk + d->num_chunks;
    check_lsns(l, DOCUMENTS_FILE, at, d->created_lsn, d->deleted_lsn);
    sums->live_documents += d->deleted_lsn == 0 ? 1 : 0;
    if (d->first_chunk != sums->next_slot || end > v->chunk_slots) {
        library_fault(l, CHECK_ROWS, DOCUMENTS_FILE, at, "its chunks are not those behind the document before");
    }
    sums->next_slot = end <= v->chunk_slots ? end : sums->next_slot;
    if (d->record % RECORD_ALIGNMENT != 0 || d->record < sums->record_end || d->record > v->records_used ||
        d->record_length > v->records_used - d->record ||
        !op_document_decode(arena_record(&l->arena, d->record, d->record_length), &fields)) {
        library_fault(l, CHECK_ROWS, RECORDS_FILE, at, "its record does not decode");
        return;
    }
    sums->record_end = d->record + d->record_length;
    if (d->created_at != fields.created_at || d->id_hash != item_id_hash(fields.id)) {
        library_fault(l, CHECK_ROWS, DOCUMENTS_FILE, at, "its hash or time of creation is not that of its record");
    }
    check_lookup(l, ID_DOCUMENT, fields.id, row, d->deleted_lsn == 0, at);
    if (end <= v->chunk_slots) {
        check_chunks(l, row, &fields, sums);
    }
}

static void compare(struct library_check *l, const char *what, uint64_t counted, uint64_t said) {
    if (counted != said) {
        check_fault(l->k, library_part(l, CHECK_ROWS), CHECK_ROWS, 1, CHECKPOINT_PATH, AT_NO_PLACE,
                    "the rows of library %s add up to %" PRIu64 " %s, its view says %" PRIu64, l->result->directory, counted,
                    what, said);
    }
}

static void check_definition(struct library_check *l) {
    const struct library_view *v = &l->rd.view;
    struct status ignored;
    l->has_definition = l->has_rows && reading_definition(&l->rd, &l->definition, &ignored);
    if (!l->has_rows) {
        return;
    }
    if (!l->has_definition) {
        library_fault(l, CHECK_ROWS, RECORDS_FILE, AT_NO_PLACE, "the library's definition does not decode");
        return;
    }
    if (memcmp(&l->definition.index, &v->index, sizeof v->index) != 0) {
        library_fault(l, CHECK_ROWS, RECORDS_FILE, AT_NO_PLACE, "the library's definition has another index than its view");
    }
    size_t len = utf8_prefix(l->definition.name, sizeof l->result->name - 1);
    memcpy(l->result->name, l->definition.name.data, len);
    l->result->name[len] = '\0';
}

static void check_rows(struct library_check *l) {
    const struct library_view *v = &l->rd.view;
    struct check_count *count = library_part(l, CHECK_ROWS);
    struct row_sums sums = {0};
    if (!l->has_rows) {
        (void)snprintf(count->note, sizeof count->note, "a file is missing, short or not to be read");
        return;
    }
    count->checked = true;
    count->looked_at = (uint64_t)v->document_rows + v->chunk_slots;
    for (uint32_t row = 0; row < v->document_rows; row++) {
        check_document(l, row, &sums);
    }
    char detail[DETAIL_BYTES] = "";
    library_faults(l, CHECK_ROWS, IDS_FILE, idtable_validate(&l->arena, v, detail), detail);
    compare(l, "chunk slots", sums.next_slot, v->chunk_slots);
    compare(l, "living documents", sums.live_documents, v->live_documents);
    compare(l, "living chunks", sums.live_chunks, v->live_chunks);
    compare(l, "bytes of text", sums.text_bytes, v->text_bytes);
    compare(l, "terms", sums.live_tokens, v->live_tokens);
    (void)snprintf(count->note, sizeof count->note, "%" PRIu64 " documents and %" PRIu64 " chunks alive", sums.live_documents,
                   sums.live_chunks);
}

/* --- vectors --- */

static bool finite_vector(const float *x, uint32_t dimension) {
    for (uint32_t i = 0; i < dimension; i++) {
        if (!isfinite(x[i])) {
            return false;
        }
    }
    return true;
}

static void check_vector(struct library_check *l, const struct vector_rows *rows, uint32_t slot) {
    const float *x = vector_row(rows, slot);
    if (crc32c(0, x, rows->dimension * sizeof(float)) != arena_chunk(&l->arena, slot)->vector_crc) {
        library_fault(l, CHECK_VECTORS, "vectors.mmap", AT_SLOT(slot),
                      "its vector is not the one that was written: the checksum differs");
    } else if (!finite_vector(x, rows->dimension)) {
        library_fault(l, CHECK_VECTORS, "vectors.mmap", AT_SLOT(slot), "its vector has a number that is not finite");
    }
}

static void check_vectors(struct library_check *l) {
    const struct library_view *v = &l->rd.view;
    struct check_count *count = library_part(l, CHECK_VECTORS);
    struct vector_rows rows = arena_vectors(&l->arena, v);
    uint64_t missing = 0;
    if (!l->has_rows || (v->dimension != 0 && !l->has_vectors)) {
        (void)snprintf(count->note, sizeof count->note, "a file is missing, short or not to be read");
        return;
    }
    count->checked = true;
    for (uint32_t slot = 0; slot < v->chunk_slots; slot++) {
        const struct chunk_row *c = arena_chunk(&l->arena, slot);
        if ((c->state & CHUNK_HAS_VECTOR) == 0) {
            missing += c->deleted_lsn == 0 ? 1 : 0;
        } else if (v->dimension == 0) {
            library_fault(l, CHECK_VECTORS, CHUNKS_FILE, AT_SLOT(slot), "it has a vector in a library without vectors");
        } else {
            count->looked_at++;
            check_vector(l, &rows, slot);
        }
    }
    if (missing > 0) {
        (void)snprintf(count->note, sizeof count->note, "%" PRIu64 " still to be made", missing);
    }
}

/* --- the library --- */

static bool open_library(struct library_check *l, int vectors_dir_fd) {
    const struct library_view *v = &l->saved->view;
    struct status why = {0};
    l->result->id = v->id;
    arena_directory_name(&v->id, v->directory, l->result->directory);
    if (!view_is_possible(v)) {
        check_fault(l->k, library_part(l, CHECK_ROWS), CHECK_ROWS, 1, CHECKPOINT_PATH, AT_NO_PLACE,
                    "its view of library %s does not hold together", l->result->directory);
        return false;
    }
    if (!io_open_at(vectors_dir_fd, l->result->directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &l->arena.dir_fd, &why)) {
        library_fault(l, CHECK_FILES, "", AT_NO_PLACE, "the arena's directory cannot be opened: %.200s", why.detail);
        return false;
    }
    l->rd = (struct reading){.view = *v, .arena = &l->arena};
    return true;
}

bool check_library(struct library_check *l, int vectors_dir_fd, struct status *st) {
    if (!open_library(l, vectors_dir_fd)) {
        return true;
    }
    library_part(l, CHECK_FILES)->checked = true;
    if (!check_sums(l, st)) {
        return false;
    }
    open_files(l);
    check_definition(l);
    check_rows(l);
    check_vectors(l);
    check_graph(l);
    return check_postings(l, st) && check_columns(l, st);
}
