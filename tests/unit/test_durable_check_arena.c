/*
 * test_durable_check_arena.c - each of many faults planted in an arena is found, in the right part.
 *
 * They are planted with the sums left aside (check_options.skip_sums), as if they had been there before the sums were made, and once more for the sums. After
 * each the file is put back.
 */
#include "durable_check_fixture.h"

#include "base/crc32c.h"
#include "base/hash.h"
#include "base/log.h"
#include "index/columns_internal.h"
#include "index/lexical_internal.h"
#include "store/idtable.h"

#include <math.h>
#include <stdlib.h>

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

/* A row that is deleted is not looked for; the chain that it stands in is looked at. */
static void ids_leaf_of_another(struct image *m) {
    uint32_t *words = (uint32_t *)(void *)m->data;
    for (size_t i = 0; i < m->view->ids_used * IDTABLE_NODE_BYTES / sizeof *words; i++) {
        if (words[i] == (0x80000000U | DEAD_SLOT)) {
            words[i]++;
            return;
        }
    }
    fail();
}
static void ids_empty_word(struct image *m) {
    uint32_t *words = (uint32_t *)(void *)m->data;
    for (size_t i = 0; i < m->view->ids_used * IDTABLE_NODE_BYTES / sizeof *words; i++) {
        if (words[i] == 0) {
            words[i] = 0x00fffff0; /* an insertion would follow it */
            return;
        }
    }
    fail();
}
static void chunk_previous(struct image *m) {
    chunk_at(m, LIVE_SLOT)->previous = LIVE_SLOT;
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
static void graph_code_unlinked(struct image *m) {
    block_at(m, UNLINKED_SLOT)[5] ^= 1;
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
    { #damage, file, damage, part, also, mentions }
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
    PLANT(ids_leaf_of_another, "ids.mmap", CHECK_ROWS, 0, "where its hash does not lead"),
    PLANT(ids_empty_word, "ids.mmap", CHECK_ROWS, 0, "a link that cannot be"),
    PLANT(chunk_previous, "chunks.mmap", CHECK_ROWS, 0, "does not descend"),
    PLANT(vector_number, "vectors.mmap", CHECK_VECTORS, ALSO(CHECK_GRAPH), "checksum differs"),
    PLANT(vector_of_a_dead_chunk, "vectors.mmap", CHECK_VECTORS, ALSO(CHECK_GRAPH), "checksum differs"),
    PLANT(vectors_model, "vectors.mmap", CHECK_VECTORS, 0, "another model"),
    PLANT(vectors_magic, "vectors.mmap", CHECK_VECTORS, 0, "does not begin"),
    PLANT(graph_magic, "graph.1.mmap", CHECK_GRAPH, 0, "does not begin"),
    PLANT(graph_code, "graph.1.mmap", CHECK_GRAPH, 0, "its code is not that of its vector"),
    PLANT(graph_code_unlinked, "graph.1.mmap", CHECK_GRAPH, 0, "not linked yet, and its code"),
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

/* Whatever stands in the files, the check comes to its end. (Not everything is a fault: some bytes are padding, or of a speed only.) */
static void anything_at_all(void **state) {
    enum { ROUNDS = 400, ROUNDS_QUICK = 40, WORDS_MAX = 4 };
    static const uint32_t values[] = {0, 1, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff};
    (void)state;
    unsigned rounds = getenv("QUIRE_TEST_QUICK") != NULL ? ROUNDS_QUICK : ROUNDS;
    uint64_t seed = 11;
    unsigned found = 0;
    for (unsigned round = 0; round < rounds; round++) {
        const struct checkpoint_file *f = &stopped.saved->files[round % stopped.saved->file_count];
        struct buf sound = {0};
        struct buf damaged = {0};
        char path[128];
        stopped_path(&stopped, f->name, path);
        file_read(stopped.server.data.fd, path, &sound);
        buf_put_slice(&damaged, buf_slice(&sound));
        /* half of it near the head, where it leads furthest */
        uint64_t range = fixture_random(&seed) % 2 == 0 && f->used > 512 ? 512 : f->used;
        for (uint64_t n = fixture_random(&seed) % WORDS_MAX + 1; n > 0; n--) {
            uint32_t random = (uint32_t)fixture_random(&seed);
            uint32_t value = random % 3 == 0 ? random : values[random % (sizeof values / sizeof values[0])];
            memcpy(damaged.data + fixture_random(&seed) % (range / sizeof value) * sizeof value, &value, sizeof value);
        }
        file_write(stopped.server.data.fd, path, buf_slice(&damaged));
        struct check_report r = stopped_check(&stopped, true);
        found += r.total_faults > 0 ? 1 : 0;
        check_report_fini(&r);
        file_write(stopped.server.data.fd, path, buf_slice(&sound));
        buf_fini(&sound);
        buf_fini(&damaged);
    }
    print_message("%u of %u found\n", found, rounds);
    assert_true(found > rounds / 2);
    must_be_sound(&stopped);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_planted_fault, no_complaints),
        cmocka_unit_test_teardown(a_vector_that_is_none, no_complaints),
        cmocka_unit_test_teardown(anything_at_all, no_complaints),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, make_stopped, remove_stopped);
}
