/*
 * test_durable_check.c - a sound data directory is called sound, and each of many planted faults is found, in the right part.
 *
 * Faults in arenas are planted with the sums left aside (check_options.skip_sums), as if they had been there before the sums were made; that the sums
 * find whatever else happens to the files is a test of its own. After each fault the file is put back.
 */
#include "durable_check_fixture.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/hash.h"
#include "base/log.h"
#include "index/columns_internal.h"
#include "index/lexical_internal.h"
#include "store/compact.h"
#include "store/idtable.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct stopped stopped; /* made once; each test leaves it as it found it */

static int make_stopped(void **state) {
    (void)state;
    stopped_make(&stopped);
    return 0;
}

static int remove_stopped(void **state) {
    (void)state;
    stopped_remove(&stopped);
    return 0;
}

static struct check_report run(const struct stopped *s, bool skip_sums) {
    struct check_options options = {.data_dir_fd = s->server.data.fd, .skip_sums = skip_sums};
    struct check_report report = {0};
    struct status st = {0};
    if (!check_run(&options, &report, &st)) {
        fail_msg("check: %s", st.detail);
    }
    return report;
}

static void must_be_sound(const struct stopped *s) {
    struct check_report r = run(s, false);
    if (r.total_faults != 0) {
        fail_msg("%s: %s", r.faults[0].file, r.faults[0].what);
    }
    check_report_fini(&r);
}

#define ALSO(part) (1U << (part))

static unsigned complaints;

/* Goes on, so that the file is put back and the next fault planted; no_complaints ends the test. */
static void complain(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void complain(const char *fmt, ...) {
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    print_error("%s\n", text);
    complaints++;
}

static int no_complaints(void **state) {
    (void)state;
    unsigned count = complaints;
    complaints = 0;
    return count == 0 ? 0 : -1;
}

/* Some fault is of this part, in this file, and says `mentions`; none is of a part that is not named. */
static void must_find(const char *label, bool skip_sums, enum check_part part, unsigned also, const char *file,
                      const char *mentions) {
    struct check_report r = run(&stopped, skip_sums);
    bool found = false;
    for (size_t i = 0; i < r.fault_count; i++) {
        const struct check_fault *f = &r.faults[i];
        if (f->part == part && strstr(f->file, file) != NULL && strstr(f->what, mentions) != NULL) {
            found = true;
        }
        if (f->part != part && (also & ALSO(f->part)) == 0) {
            complain("%s: %s, %s: %s", label, check_part_name(f->part), f->file, f->what);
        }
    }
    if (!found) {
        complain("%s: not found; %llu faults, the first: %s", label, (unsigned long long)r.total_faults,
                 r.fault_count > 0 ? r.faults[0].what : "");
    }
    check_report_fini(&r);
}

/* --- sound --- */

static void a_sound_directory(void **state) {
    (void)state;
    struct check_report r = run(&stopped, false);
    assert_true(r.has_checkpoint);
    assert_int_equal(r.library_count, 2);
    assert_int_equal(r.total_faults, 0);
    assert_true(r.parts[CHECK_LOG].looked_at > 0);
    assert_int_equal(r.parts[CHECK_SNAPSHOTS].looked_at, 1);
    const struct check_library *l = &r.libraries[r.libraries[0].id.b[15] == 1 ? 0 : 1];
    for (int part = CHECK_FILES; part < CHECK_PARTS; part++) {
        assert_true(l->parts[part].checked);
    }
    const struct library_view *v = &stopped.saved->view;
    assert_int_equal(v->chunk_slots, (CHECKED_DOCUMENTS + 1) * CHUNKS_OF_ONE);
    assert_int_equal(l->parts[CHECK_ROWS].looked_at, v->chunk_slots + v->document_rows);
    assert_int_equal(l->parts[CHECK_VECTORS].looked_at, v->chunk_slots);
    assert_true(l->parts[CHECK_GRAPH].looked_at >= v->live_chunks);
    assert_int_equal(l->parts[CHECK_POSTINGS].looked_at, v->live_chunks);
    assert_int_equal(l->parts[CHECK_COLUMNS].looked_at, v->live_chunks);
    assert_string_equal(l->name, "a library");
    check_report_fini(&r);
}

static void nothing_is_written(void **state) {
    (void)state;
    struct fault_plan plan = {.calls = FAULT_CHANGES & ~FAULT_BIT(IO_OPEN), .times = UINT64_MAX, .error = EIO};
    fault_arm(&plan);
    must_be_sound(&stopped);
    assert_int_equal(plan.seen, 0);
    fault_disarm();
}

static void a_running_server(void **state) {
    (void)state;
    struct check_options options = {.data_dir_fd = stopped.server.data.fd};
    struct check_report report = {0};
    struct status st = {0};
    int lock = -1;
    assert_true(data_lock(stopped.server.data.fd, &lock, &st));
    assert_false(check_run(&options, &report, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    io_close(&lock);
    must_be_sound(&stopped);
}

static void no_data_directory(void **state) {
    (void)state;
    struct scratch empty;
    struct check_report report = {0};
    struct status st = {0};
    scratch_make(&empty);
    struct check_options options = {.data_dir_fd = empty.fd};
    assert_false(check_run(&options, &report, &st));
    assert_int_equal(st.code, STATUS_NOT_FOUND);
    scratch_remove(&empty);
}

/* --- arenas: faults that were there before the sums were made --- */

/* A file of the arena in memory, and what is known of it. */
struct image {
    uint8_t *data;
    size_t len;
    const struct library_view *view;
};

static struct chunk_row *chunk_at(const struct image *m, uint32_t slot) {
    return (struct chunk_row *)(void *)m->data + slot;
}
static struct document_row *document_at(const struct image *m, uint32_t row) {
    return (struct document_row *)(void *)m->data + row;
}

static void chunk_id_hash(struct image *m) {
    chunk_at(m, LIVE_SLOT)->id_hash ^= 1;
}
static void chunk_text_hash(struct image *m) {
    chunk_at(m, LIVE_SLOT)->text_hash ^= UINT64_C(1) << 40;
}
static void chunk_record(struct image *m) {
    chunk_at(m, LIVE_SLOT)->record = chunk_at(m, LIVE_SLOT + 1)->record;
}
static void chunk_record_far_away(struct image *m) {
    chunk_at(m, LIVE_SLOT)->record = UINT64_MAX - 8;
}
static void chunk_document(struct image *m) {
    chunk_at(m, LIVE_SLOT)->document++;
}
static void chunk_document_far_away(struct image *m) {
    chunk_at(m, LIVE_SLOT)->document = UINT32_MAX - 1;
}
static void chunk_created(struct image *m) {
    chunk_at(m, LIVE_SLOT)->created_lsn = m->view->lsn + 1;
}
static void chunk_deleted(struct image *m) {
    chunk_at(m, LIVE_SLOT)->deleted_lsn = m->view->lsn;
}
static void chunk_alive_again(struct image *m) {
    chunk_at(m, DEAD_SLOT)->deleted_lsn = 0;
}
static void chunk_state(struct image *m) {
    chunk_at(m, LIVE_SLOT)->state |= CHUNK_COUNTED_DEAD;
}
static void chunk_without_vector(struct image *m) {
    chunk_at(m, LIVE_SLOT)->state &= ~CHUNK_HAS_VECTOR;
}
static void chunk_length(struct image *m) {
    chunk_at(m, LIVE_SLOT)->length++;
}
static void chunk_vector_crc(struct image *m) {
    chunk_at(m, LIVE_SLOT)->vector_crc ^= 0x100;
}
static void document_first_chunk(struct image *m) {
    document_at(m, LIVE_ROW)->first_chunk++;
}
static void document_chunks_far_away(struct image *m) {
    document_at(m, LIVE_ROW)->first_chunk = UINT32_MAX - 1;
}
static void document_num_chunks(struct image *m) {
    document_at(m, LIVE_ROW)->num_chunks--;
}
static void document_id_hash(struct image *m) {
    document_at(m, LIVE_ROW)->id_hash ^= UINT64_C(1) << 63;
}
static void document_created_at(struct image *m) {
    document_at(m, LIVE_ROW)->created_at++;
}
static void document_alive_again(struct image *m) {
    document_at(m, DEAD_DOCUMENT)->deleted_lsn = 0;
}
static void document_record(struct image *m) {
    document_at(m, LIVE_ROW)->record = m->view->records_used - 8;
}

static uint8_t *find(const struct image *m, const char *text) {
    uint8_t *at = (uint8_t *)memmem(m->data, m->len, text, strlen(text));
    assert_non_null(at);
    return at;
}

static void record_text(struct image *m) {
    find(m, "Document 7 tells")[10] = 'x';
}
static void record_metadata(struct image *m) {
    find(m, "\"year\":1987")[10] = '6';
}
static void record_lengths(struct image *m) {
    find(m, "A title")[-1] = 0x7f; /* its length */
}
static void record_definition(struct image *m) {
    m->data[m->view->definition] ^= 0xff; /* its time of creation */
    memset(m->data + m->view->definition + 8, 0xff, 8);
}

/* The words of the root for chunks. */
static void ids_word_gone(struct image *m) {
    uint32_t *words = (uint32_t *)(void *)(m->data + IDTABLE_NODE_BYTES);
    for (unsigned i = 0; i < IDTABLE_NODE_BYTES / sizeof *words; i++) {
        if (words[i] != 0) {
            words[i] = 0;
            return;
        }
    }
    fail();
}
static void ids_word_beyond(struct image *m) {
    uint32_t *words = (uint32_t *)(void *)m->data;
    for (unsigned i = 0; i < IDTABLE_NODE_BYTES / sizeof *words; i++) {
        words[i] = words[i] != 0 ? 0x3ffffff0 : 0;
    }
}

static float *vector_at(const struct image *m, uint32_t slot) {
    return (float *)(void *)(m->data + VECTORS_HEAD_BYTES) + (size_t)slot * m->view->stride;
}
static void vector_number(struct image *m) {
    vector_at(m, LIVE_SLOT)[3] += 0.25F;
}
static void vector_of_a_dead_chunk(struct image *m) {
    vector_at(m, DEAD_SLOT)[0] += 0.25F;
}
static void vectors_model(struct image *m) {
    ((struct vectors_head *)(void *)m->data)->model_fingerprint++;
}
static void vectors_magic(struct image *m) {
    m->data[0] ^= 1;
}

static struct hnsw_head *graph_head(const struct image *m) {
    return (struct hnsw_head *)(void *)m->data;
}
static uint8_t *block_at(const struct image *m, uint32_t slot) {
    return m->data + HNSW_HEAD_BYTES + (size_t)slot * graph_head(m)->block_bytes;
}
/* Scale, upper offset, links. */
static uint32_t *words_at(const struct image *m, uint32_t slot) {
    return (uint32_t *)(void *)(block_at(m, slot) + code_bytes(graph_head(m)->dimension, graph_head(m)->bits));
}
static void graph_magic(struct image *m) {
    m->data[2] ^= 1;
}
static void graph_code(struct image *m) {
    block_at(m, LIVE_SLOT)[5] ^= 1;
}
static void graph_scale(struct image *m) {
    words_at(m, LIVE_SLOT)[0] ^= 1;
}
static void graph_hint(struct image *m) {
    words_at(m, DEAD_SLOT)[1] &= 0x7fffffffU;
}
static void graph_link_beyond(struct image *m) {
    words_at(m, LIVE_SLOT)[2 + 1] = m->view->chunk_slots + 5;
}
static void graph_link_to_itself(struct image *m) {
    words_at(m, LIVE_SLOT)[2] = LIVE_SLOT;
}
static void graph_links_gone(struct image *m) {
    for (uint32_t i = 0; i < HNSW_BASE_LINKS(graph_head(m)->m); i++) {
        words_at(m, LIVE_SLOT)[2 + i] = HNSW_NONE;
    }
}
static void graph_entry(struct image *m) {
    graph_head(m)->entry = UINT64_C(3) << 32 | (m->view->chunk_slots + 1);
}
static void graph_no_entry(struct image *m) {
    graph_head(m)->entry = HNSW_NO_ENTRY;
}
static void graph_linked(struct image *m) {
    graph_head(m)->linked = m->view->chunk_slots + 1;
}
static void upper_words(struct image *m) {
    ((uint32_t *)(void *)m->data)[0] = 7777777;
}

/* The entry of a term that stands in every text. */
static struct entry *entry_of(const struct image *m, const char *term) {
    struct lexical x = {.terms = m->data, .terms_bytes = m->len};
    const struct entry *e = term_find(&x, slice_str(term), hash64(0, term, strlen(term)));
    assert_non_null(e);
    return (struct entry *)(void *)(m->data + ((const uint8_t *)e - m->data));
}
static void terms_frequency(struct image *m) {
    entry_of(m, "heron")->live--;
}
static void terms_posting(struct image *m) {
    /* the first open posting of a rare word, with another count: bounds and order still hold */
    struct entry *e = entry_of(m, "word6");
    struct posting p = word_posting(e->first_open);
    p.slot = LIVE_SLOT + 1;
    e->first_open = posting_word(p);
}
static void terms_name(struct image *m) {
    struct entry *e = entry_of(m, "word6");
    ((uint8_t *)&e->next[e->height])[0] = 'v';
}
static void terms_table(struct image *m) {
    struct terms_head *h = (struct terms_head *)(void *)m->data;
    memset(m->data + (size_t)h->tables[h->level] * UNIT, 0, sizeof(uint32_t) << h->level);
}
static void terms_magic(struct image *m) {
    m->data[1] ^= 1;
}
static void postings_counted(struct image *m) {
    ((struct postings_head *)(void *)m->data)->open++;
}
/* Whatever lies behind the head: runs and blocks. */
static void postings_overwritten(struct image *m) {
    memset(m->data + sizeof(struct postings_head), 0xa5, m->view->postings_used - sizeof(struct postings_head));
}

static struct column column_of(const struct image *m, const char *path, enum column_type type) {
    struct columns c = {.base = m->data, .bytes = m->len};
    struct column col;
    assert_true(column_find(&c, slice_str(path), type, &col));
    return col;
}
static void column_number(struct image *m) {
    struct column col = column_of(m, "year", COLUMN_NUMBER);
    ((double *)(void *)(column_page_at(&col, 0) + 1))[LIVE_SLOT] += 1; /* still between the page's least and greatest */
}
static void column_keyword(struct image *m) {
    struct column col = column_of(m, "lang", COLUMN_KEYWORD);
    uint32_t *values = (uint32_t *)(void *)(column_page_at(&col, 0) + 1);
    values[LIVE_SLOT] = values[LIVE_SLOT + CHUNKS_OF_ONE]; /* the next document's */
}
static void column_boolean(struct image *m) {
    struct column col = column_of(m, "draft", COLUMN_BOOL);
    uint8_t *values = (uint8_t *)(column_page_at(&col, 0) + 1);
    values[LIVE_SLOT] = values[LIVE_SLOT] == 1 ? 2 : 1;
}
static void column_time(struct image *m) {
    struct column col = column_of(m, "when", COLUMN_TIME);
    ((int64_t *)(void *)(column_page_at(&col, 0) + 1))[LIVE_SLOT] += 1;
}
static void column_count(struct image *m) {
    struct column col = column_of(m, "year", COLUMN_NUMBER);
    column_page_at(&col, 0)->count--;
}
static void column_string(struct image *m) {
    *find(m, "birds") = 'w';
}
static void column_type(struct image *m) {
    column_of(m, "year", COLUMN_NUMBER).node->tag = COLUMN_TIME;
}
static void columns_magic(struct image *m) {
    m->data[0] ^= 1;
}

struct plant {
    const char *label;
    const char *file;
    void (*damage)(struct image *m);
    enum check_part part;
    unsigned also;
    const char *mentions;
};

#define PLANT(damage, file, part, also, mentions)                                                                                \
    { #damage, file, damage, part, also, mentions, NULL }
#define INDEXES (ALSO(CHECK_GRAPH) | ALSO(CHECK_POSTINGS) | ALSO(CHECK_COLUMNS))

static const struct plant plants[] = {
    PLANT(chunk_id_hash, "chunks.mmap", CHECK_ROWS, 0, "hash is not that of its id"),
    PLANT(chunk_text_hash, "chunks.mmap", CHECK_ROWS, 0, "text's hash"),
    PLANT(chunk_record, "chunks.mmap", CHECK_ROWS, INDEXES, "does not lead to its bytes"),
    PLANT(chunk_record_far_away, "chunks.mmap", CHECK_ROWS, INDEXES, "does not lead to its bytes"),
    PLANT(chunk_document, "chunks.mmap", CHECK_ROWS, INDEXES, "chunk of document row 2"),
    PLANT(chunk_document_far_away, "chunks.mmap", CHECK_ROWS, INDEXES, "chunk of document row 2"),
    PLANT(chunk_created, "chunks.mmap", CHECK_ROWS, 0, "created at LSN"),
    PLANT(chunk_deleted, "chunks.mmap", CHECK_ROWS, INDEXES, "its state"),
    PLANT(chunk_alive_again, "chunks.mmap", CHECK_ROWS, INDEXES, "lives on behind"),
    PLANT(chunk_state, "chunks.mmap", CHECK_ROWS, 0, "its state"),
    PLANT(chunk_without_vector, "chunks.mmap", CHECK_GRAPH, 0, "without a vector"),
    PLANT(chunk_length, "chunks.mmap", CHECK_POSTINGS, ALSO(CHECK_ROWS), "terms, its row says"),
    PLANT(chunk_vector_crc, "chunks.mmap", CHECK_VECTORS, 0, "checksum differs"),
    PLANT(document_first_chunk, "documents.mmap", CHECK_ROWS, INDEXES, "behind the document before"),
    PLANT(document_chunks_far_away, "documents.mmap", CHECK_ROWS, INDEXES, "behind the document before"),
    PLANT(document_num_chunks, "documents.mmap", CHECK_ROWS, 0, "other chunks than its row counts"),
    PLANT(document_id_hash, "documents.mmap", CHECK_ROWS, 0, "hash or time"),
    PLANT(document_created_at, "documents.mmap", CHECK_ROWS, 0, "hash or time"),
    PLANT(document_alive_again, "documents.mmap", CHECK_ROWS, 0, "living documents"),
    PLANT(document_record, "documents.mmap", CHECK_ROWS, INDEXES, "does not decode"),
    PLANT(record_text, "records.mmap", CHECK_ROWS, ALSO(CHECK_POSTINGS), "text's hash"),
    PLANT(record_metadata, "records.mmap", CHECK_COLUMNS, 0, "do not hold the values"),
    PLANT(record_lengths, "records.mmap", CHECK_ROWS, INDEXES, "does not decode"),
    PLANT(record_definition, "records.mmap", CHECK_ROWS, INDEXES, "definition"),
    PLANT(ids_word_gone, "ids.mmap", CHECK_ROWS, 0, "the id table does not lead"),
    PLANT(ids_word_beyond, "ids.mmap", CHECK_ROWS, 0, "the id table does not lead"),
    PLANT(vector_number, "vectors.mmap", CHECK_VECTORS, ALSO(CHECK_GRAPH), "checksum differs"),
    PLANT(vector_of_a_dead_chunk, "vectors.mmap", CHECK_VECTORS, ALSO(CHECK_GRAPH), "checksum differs"),
    PLANT(vectors_model, "vectors.mmap", CHECK_VECTORS, 0, "another model"),
    PLANT(vectors_magic, "vectors.mmap", CHECK_VECTORS, 0, "does not begin"),
    PLANT(graph_magic, "graph.1.mmap", CHECK_GRAPH, 0, "does not begin"),
    PLANT(graph_code, "graph.1.mmap", CHECK_GRAPH, 0, "its code is not that of its vector"),
    PLANT(graph_scale, "graph.1.mmap", CHECK_GRAPH, 0, "its code is not that of its vector"),
    PLANT(graph_hint, "graph.1.mmap", CHECK_GRAPH, 0, "not marked so"),
    PLANT(graph_link_beyond, "graph.1.mmap", CHECK_GRAPH, 0, "beyond"),
    PLANT(graph_link_to_itself, "graph.1.mmap", CHECK_GRAPH, 0, "linked to itself"),
    PLANT(graph_links_gone, "graph.1.mmap", CHECK_GRAPH, 0, "counts as linked and is not"),
    PLANT(graph_entry, "graph.1.mmap", CHECK_GRAPH, 0, "the entry point"),
    PLANT(graph_no_entry, "graph.1.mmap", CHECK_GRAPH, 0, "cannot be reached"),
    PLANT(graph_linked, "graph.1.mmap", CHECK_GRAPH, 0, "slots count as linked"),
    PLANT(upper_words, "upper.1.mmap", CHECK_GRAPH, 0, "beyond"),
    PLANT(terms_frequency, "terms.mmap", CHECK_POSTINGS, 0, "\"heron\""),
    PLANT(terms_posting, "terms.mmap", CHECK_POSTINGS, 0, "does not hold the terms"),
    PLANT(terms_name, "terms.mmap", CHECK_POSTINGS, 0, "out of order"),
    PLANT(terms_table, "terms.mmap", CHECK_POSTINGS, 0, "not found by its hash"),
    PLANT(terms_magic, "terms.mmap", CHECK_POSTINGS, 0, "not the head"),
    PLANT(postings_counted, "postings.mmap", CHECK_POSTINGS, 0, "are others than counted"),
    PLANT(postings_overwritten, "postings.mmap", CHECK_POSTINGS, 0, "does not hold the terms"),
    PLANT(column_number, "columns.mmap", CHECK_COLUMNS, 0, "do not hold the values"),
    PLANT(column_keyword, "columns.mmap", CHECK_COLUMNS, 0, "do not hold the values"),
    PLANT(column_boolean, "columns.mmap", CHECK_COLUMNS, 0, "do not hold the values"),
    PLANT(column_time, "columns.mmap", CHECK_COLUMNS, 0, "do not hold the values"),
    PLANT(column_count, "columns.mmap", CHECK_COLUMNS, 0, "counts"),
    PLANT(column_string, "columns.mmap", CHECK_COLUMNS, 0, "has another hash"),
    PLANT(column_type, "columns.mmap", CHECK_COLUMNS, 0, "another hash"),
    PLANT(columns_magic, "columns.mmap", CHECK_COLUMNS, 0, "head"),
};

static void plant_one(const struct plant *p) {
    struct buf sound = {0};
    struct buf damaged = {0};
    char path[128];
    int fd = stopped.server.data.fd;
    stopped_path(&stopped, p->file, path);
    file_read(fd, path, &sound);
    buf_put_slice(&damaged, buf_slice(&sound));
    struct image m = {.data = damaged.data, .len = damaged.len, .view = &stopped.saved->view};
    p->damage(&m);
    assert_memory_not_equal(damaged.data, sound.data, sound.len);
    file_write(fd, path, buf_slice(&damaged));
    must_find(p->label, true, p->part, p->also, "vectors/", p->mentions);
    must_find(p->label, false, CHECK_FILES, UINT32_MAX, p->file, "is not as it was saved");
    file_write(fd, path, buf_slice(&sound));
    buf_fini(&sound);
    buf_fini(&damaged);
}

static void every_planted_fault(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof plants / sizeof plants[0]; i++) {
        plant_one(&plants[i]);
    }
    must_be_sound(&stopped);
}

/* NaN with a checksum that is right. */
static void a_vector_that_is_none(void **state) {
    (void)state;
    struct buf vectors = {0};
    struct buf chunks = {0};
    char paths[2][128];
    int fd = stopped.server.data.fd;
    const struct library_view *v = &stopped.saved->view;
    stopped_path(&stopped, "vectors.mmap", paths[0]);
    stopped_path(&stopped, "chunks.mmap", paths[1]);
    file_read(fd, paths[0], &vectors);
    file_read(fd, paths[1], &chunks);
    struct image of_vectors = {.data = vectors.data, .len = vectors.len, .view = v};
    struct image of_chunks = {.data = chunks.data, .len = chunks.len, .view = v};
    float *x = vector_at(&of_vectors, LIVE_SLOT);
    float before = x[1];
    uint32_t crc = chunk_at(&of_chunks, LIVE_SLOT)->vector_crc;
    x[1] = NAN;
    chunk_at(&of_chunks, LIVE_SLOT)->vector_crc = crc32c(0, x, v->dimension * sizeof *x);
    file_write(fd, paths[0], buf_slice(&vectors));
    file_write(fd, paths[1], buf_slice(&chunks));
    must_find("NaN", true, CHECK_VECTORS, ALSO(CHECK_GRAPH), "vectors.mmap", "not finite");
    x[1] = before;
    chunk_at(&of_chunks, LIVE_SLOT)->vector_crc = crc;
    file_write(fd, paths[0], buf_slice(&vectors));
    file_write(fd, paths[1], buf_slice(&chunks));
    buf_fini(&vectors);
    buf_fini(&chunks);
    must_be_sound(&stopped);
}

/* --- files --- */

static void every_file_gone_or_short(void **state) {
    (void)state;
    int fd = stopped.server.data.fd;
    for (size_t i = 0; i < stopped.saved->file_count; i++) {
        struct buf content = {0};
        char path[128];
        const struct checkpoint_file *f = &stopped.saved->files[i];
        stopped_path(&stopped, f->name, path);
        file_read(fd, path, &content);
        assert_int_equal(unlinkat(fd, path, 0), 0);
        must_find(f->name, true, CHECK_FILES, 0, f->name, "missing");
        file_write(fd, path, slice_of(content.data, f->used > 0 ? f->used - 1 : 0));
        if (f->used > 0) {
            must_find(f->name, true, CHECK_FILES, ALSO(CHECK_GRAPH), f->name, "shorter");
        }
        file_write(fd, path, buf_slice(&content));
        buf_fini(&content);
    }
    must_be_sound(&stopped);
}

static void the_arena_gone(void **state) {
    (void)state;
    int fd = stopped.server.data.fd;
    assert_int_equal(renameat(fd, stopped.directory, fd, "vectors/elsewhere"), 0);
    must_find("directory", false, CHECK_FILES, 0, stopped.directory, "cannot be opened");
    assert_int_equal(renameat(fd, "vectors/elsewhere", fd, stopped.directory), 0);
}

/* --- the checkpoint --- */

struct view_plant {
    const char *label;
    size_t offset;
    size_t bytes;
    enum check_part part;
    const char *mentions;
};
#define VIEW_PLANT(member, part, mentions)                                                                                       \
    { #member, offsetof(struct library_view, member), sizeof((struct library_view *)0)->member, part, mentions }

static void every_count_of_the_view(void **state) {
    static const struct view_plant views[] = {
        VIEW_PLANT(live_chunks, CHECK_ROWS, "living chunks"),    VIEW_PLANT(live_documents, CHECK_ROWS, "living documents"),
        VIEW_PLANT(text_bytes, CHECK_ROWS, "bytes of text"),     VIEW_PLANT(live_tokens, CHECK_ROWS, "terms"),
        VIEW_PLANT(stride, CHECK_ROWS, "hold together"),         VIEW_PLANT(terms_used, CHECK_FILES, "another length"),
        VIEW_PLANT(columns_used, CHECK_FILES, "another length"), VIEW_PLANT(document_rows, CHECK_FILES, "another length"),
        VIEW_PLANT(definition, CHECK_ROWS, "definition"),        VIEW_PLANT(model_fingerprint, CHECK_VECTORS, "another model"),
    };
    (void)state;
    struct buf sound = {0};
    file_read(stopped.server.data.fd, CHECKPOINT_PATH, &sound);
    for (size_t i = 0; i < sizeof views / sizeof views[0]; i++) {
        struct library_view v = stopped.saved->view;
        uint64_t value = 0;
        memcpy(&value, (const uint8_t *)&v + views[i].offset, views[i].bytes);
        value++;
        memcpy((uint8_t *)&v + views[i].offset, &value, views[i].bytes);
        stopped_set_view(&stopped, &v);
        must_find(views[i].label, true, views[i].part, UINT32_MAX, "vectors/", views[i].mentions);
        file_write(stopped.server.data.fd, CHECKPOINT_PATH, buf_slice(&sound));
    }
    buf_fini(&sound);
    must_be_sound(&stopped);
}

static void a_damaged_checkpoint(void **state) {
    (void)state;
    int fd = stopped.server.data.fd;
    file_flip(fd, CHECKPOINT_PATH, 100, 4);
    must_find("checkpoint", false, CHECK_CHECKPOINT, 0, CHECKPOINT_PATH, "damaged");
    file_flip(fd, CHECKPOINT_PATH, 100, 4);
}

static void no_checkpoint(void **state) {
    (void)state;
    int fd = stopped.server.data.fd;
    assert_int_equal(renameat(fd, CHECKPOINT_PATH, fd, "vectors/aside"), 0);
    struct check_report r = run(&stopped, false);
    assert_false(r.has_checkpoint);
    assert_int_equal(r.library_count, 0);
    assert_int_equal(r.total_faults, 0);
    assert_true(r.parts[CHECK_LOG].looked_at > 0);
    assert_non_null(strstr(r.parts[CHECK_CHECKPOINT].note, "made again at the next start"));
    check_report_fini(&r);
    assert_int_equal(renameat(fd, "vectors/aside", fd, CHECKPOINT_PATH), 0);
}

/* --- log and snapshots --- */

static void damage_in_the_log(void **state) {
    (void)state;
    char names[64][64];
    char path[128];
    int fd = stopped.server.data.fd;
    int wal = openat(fd, "wal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t count = names_with(wal, "wal_", names, 64);
    assert_true(count >= 3);
    for (size_t i = 0; i < count - 1; i++) {
        file_flip(wal, names[i], 4096 + 600, 1);
        must_find("a record", false, CHECK_LOG, 0, "wal", names[i]);
        file_flip(wal, names[i], 4096 + 600, 1);
    }
    file_flip(wal, names[1], 9, 1);
    must_find("a header", false, CHECK_LOG, 0, "wal", names[1]);
    file_flip(wal, names[1], 9, 1);
    assert_int_equal(renameat(wal, names[1], wal, "aside"), 0);
    must_find("a segment", false, CHECK_LOG, 0, "wal", "missing");
    assert_int_equal(renameat(wal, "aside", wal, names[1]), 0);
    assert_int_equal(renameat(fd, "wal", fd, "aside"), 0);
    must_find("the log", false, CHECK_LOG, 0, "wal", "missing");
    assert_int_equal(renameat(fd, "aside", fd, "wal"), 0);
    (void)snprintf(path, sizeof path, "wal/%s", names[0]);
    assert_true(file_exists(fd, path));
    assert_int_equal(close(wal), 0);
    must_be_sound(&stopped);
}

static void damage_in_a_snapshot(void **state) {
    (void)state;
    char names[4][64];
    struct buf content = {0};
    int fd = openat(stopped.server.data.fd, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(names_with(fd, "snapshot_", names, 4), 1);
    file_read(fd, names[0], &content);
    /* Without a good snapshot the log is short of its beginning. */
    file_flip(fd, names[0], content.len / 2, 1);
    must_find("a byte", false, CHECK_SNAPSHOTS, ALSO(CHECK_LOG), names[0], "");
    file_write(fd, names[0], slice_of(content.data, content.len - 40));
    must_find("cut", false, CHECK_SNAPSHOTS, ALSO(CHECK_LOG), names[0], "");
    file_write(fd, names[0], buf_slice(&content));
    assert_int_equal(renameat(fd, names[0], fd, "aside"), 0);
    must_find("no snapshot", false, CHECK_LOG, 0, "wal", "in no segment and in no good snapshot");
    assert_int_equal(renameat(fd, "aside", fd, names[0]), 0);
    assert_int_equal(close(fd), 0);
    buf_fini(&content);
    must_be_sound(&stopped);
}

static void a_record_that_is_no_op(void **state) {
    (void)state;
    struct stopped s;
    stopped_begin(&s);
    stopped_log_garbage(&s.server);
    stopped_stop(&s);
    struct check_report r = run(&s, false);
    assert_int_equal(r.total_faults, 1);
    assert_int_equal(r.faults[0].part, CHECK_LOG);
    assert_int_equal(r.faults[0].place, CHECK_LSN);
    check_report_fini(&r);
    stopped_remove(&s);
}

static void a_checkpoint_of_another_time(void **state) {
    (void)state;
    struct stopped s;
    struct buf old = {0};
    struct buf op = {0};
    struct uuid library = fixture_library_id(7);
    stopped_make(&s);
    file_read(s.server.data.fd, CHECKPOINT_PATH, &old);
    checkpoint_fini(&s.checkpoint);
    server_start_ok(&s.server);
    fixture_library_op(&op, OP_LIBRARY_CREATE, &library, INDEX_FLAT, "test");
    stopped_commit(&s.server, &op);
    server_crash(&s.server);
    file_write(s.server.data.fd, CHECKPOINT_PATH, buf_slice(&old));
    struct check_report r = run(&s, true);
    assert_int_equal(r.parts[CHECK_CHECKPOINT].faults, 1);
    assert_non_null(strstr(r.faults[0].what, "another time"));
    check_report_fini(&r);
    stopped_remove(&s);
    buf_fini(&old);
    buf_fini(&op);
}

/* --- what to do about it --- */

static void follow(struct stopped *s, const char *directory) {
    struct status st = {0};
    uint32_t chunks = 0;
    uint32_t with_vector = 0;
    assert_true(io_remove_tree(s->server.data.fd, directory, &st));
    server_start_ok(&s->server);
    assert_false(s->server.report.from_checkpoint);
    assert_true(catalog_digest(s->server.catalog, &chunks, &with_vector) == s->digest);
    assert_int_equal(chunks, s->chunks);
    stopped_link(&s->server);
    checkpoint_fini(&s->checkpoint);
}

/* A fault that no sum finds: the checkpoint is written with it. */
static void the_advice_is_true(void **state) {
    (void)state;
    struct stopped s;
    char advice[1024];
    char path[128];
    char full[640];
    stopped_begin(&s);
    stopped_stop(&s);
    stopped_path(&s, "terms.mmap", path);
    file_flip(s.server.data.fd, path, offsetof(struct terms_head, postings), 1);
    struct check_report r = run(&s, true);
    assert_true(r.total_faults > 0);
    assert_int_equal(r.faults[0].part, CHECK_POSTINGS);
    check_advice(&r, &r.faults[0], s.server.data.path, advice, sizeof advice);
    (void)snprintf(full, sizeof full, "delete %s/%s while the server is stopped: it is made again from the log and the snapshots",
                   s.server.data.path, s.directory);
    assert_string_equal(advice, full);
    check_report_fini(&r);
    follow(&s, s.directory);
    stopped_remove(&s);
}

/* Where the log could not make them again, nobody is told to delete arenas. */
static void no_bad_advice(void **state) {
    (void)state;
    char names[4][64];
    char advice[1024];
    int fd = openat(stopped.server.data.fd, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(names_with(fd, "snapshot_", names, 4), 1);
    assert_int_equal(renameat(fd, names[0], fd, "aside"), 0);
    struct check_report r = run(&stopped, false);
    struct check_fault f = {.part = CHECK_GRAPH, .file = "vectors/x/graph.1.mmap"};
    assert_true(r.total_faults > 0);
    check_advice(&r, &f, "DIR", advice, sizeof advice);
    assert_non_null(strstr(advice, "Delete nothing under DIR/vectors"));
    check_report_fini(&r);
    assert_int_equal(renameat(fd, "aside", fd, names[0]), 0);
    assert_int_equal(close(fd), 0);
}

/* --- other ways to a checkpoint --- */

static void after_a_recovery_and_a_compaction(void **state) {
    (void)state;
    struct stopped s;
    struct status st = {0};
    struct uuid id = fixture_library_id(1);
    struct compaction *k = NULL;
    bool more = true;
    stopped_begin(&s);
    server_crash(&s.server);
    server_start_ok(&s.server);
    struct library *lib = catalog_acquire(s.server.catalog, &id);
    assert_true(compaction_new(s.server.catalog, lib, &k, &st) && compaction_begin(k, &st));
    while (more) {
        assert_true(compaction_step(k, 10, &more, &st));
    }
    assert_true(compaction_switch(k, &st));
    catalog_publish(s.server.catalog, s.server.account->next_lsn - 1, 1000000, NULL, NULL);
    compaction_end(k);
    catalog_release(s.server.catalog, lib);
    stopped_link(&s.server);
    stopped_stop(&s);
    assert_int_equal(s.saved->view.chunk_slots, s.saved->view.live_chunks);
    must_be_sound(&s);
    stopped_remove(&s);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_sound_directory, no_complaints),
        cmocka_unit_test_teardown(nothing_is_written, no_complaints),
        cmocka_unit_test_teardown(a_running_server, no_complaints),
        cmocka_unit_test_teardown(no_data_directory, no_complaints),
        cmocka_unit_test_teardown(every_planted_fault, no_complaints),
        cmocka_unit_test_teardown(a_vector_that_is_none, no_complaints),
        cmocka_unit_test_teardown(every_file_gone_or_short, no_complaints),
        cmocka_unit_test_teardown(the_arena_gone, no_complaints),
        cmocka_unit_test_teardown(every_count_of_the_view, no_complaints),
        cmocka_unit_test_teardown(a_damaged_checkpoint, no_complaints),
        cmocka_unit_test_teardown(no_checkpoint, no_complaints),
        cmocka_unit_test_teardown(damage_in_the_log, no_complaints),
        cmocka_unit_test_teardown(damage_in_a_snapshot, no_complaints),
        cmocka_unit_test_teardown(a_record_that_is_no_op, no_complaints),
        cmocka_unit_test_teardown(a_checkpoint_of_another_time, no_complaints),
        cmocka_unit_test_teardown(the_advice_is_true, no_complaints),
        cmocka_unit_test_teardown(no_bad_advice, no_complaints),
        cmocka_unit_test_teardown(after_a_recovery_and_a_compaction, no_complaints),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, make_stopped, remove_stopped);
}
