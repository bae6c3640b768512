/*
 * check_index.c - of one library: what is derived from its rows, that is graph, postings and columns (check.h).
 *
 * The validators beside the algorithms say whether the bytes hang together. What only the rows can tell is checked here: whether the index is the one
 * that these vectors, texts and fields give.
 */
#include "durable/check_internal.h"

#include "shm/atomics.h"
#include "store/texts.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define TERMS_FILE "terms.mmap"
#define POSTINGS_FILE "postings.mmap"
#define COLUMNS_FILE "columns.mmap"

enum { DETAIL_BYTES = 160 };

/* Says why a part is not checked; true: it can be. */
static bool part_begins(struct library_check *l, enum check_part part, bool has_files) {
    struct check_count *count = library_part(l, part);
    count->checked = l->has_rows && has_files;
    if (!count->checked) {
        (void)snprintf(count->note, sizeof count->note, "a file is missing, short, not to be read or of another kind");
    }
    return count->checked;
}

/* --- the graph --- */

/* The rows' side of one node. */
static void check_node(struct library_check *l, const struct hnsw_graph *g, const char *file, uint32_t slot) {
    const struct chunk_row *c = arena_chunk(&l->arena, slot);
    bool linked = hnsw_is_linked(g, slot);
    if (linked) {
        library_part(l, CHECK_GRAPH)->looked_at++;
    }
    if (linked && c->deleted_lsn != 0 && !hnsw_node_is_dead(g, slot)) {
        library_fault(l, CHECK_GRAPH, file, AT_SLOT(slot),
                      "it is deleted, but its node is not marked so: searches would find it");
    }
    if (linked && (c->state & CHUNK_HAS_VECTOR) == 0) {
        library_fault(l, CHECK_GRAPH, file, AT_SLOT(slot), "it is linked without a vector");
    }
    if (!linked && c->deleted_lsn == 0 && slot < g->head->linked) {
        library_fault(l, CHECK_GRAPH, file, AT_SLOT(slot), "it counts as linked and is not: searches would miss it");
    }
}

static void check_shape(struct library_check *l, const struct hnsw_head *head, const char *file) {
    const struct library_view *v = &l->rd.view;
    if (head->linked > v->chunk_slots) {
        library_fault(l, CHECK_GRAPH, file, AT_NO_PLACE, "%" PRIu64 " slots count as linked, of %" PRIu32, head->linked,
                      v->chunk_slots);
    }
}

/* A node that is not linked yet may have its code already, which exact scans go by. */
static bool unlinked_code_is_right(const struct hnsw_graph *g, const struct vector_rows *rows, uint32_t slot, uint8_t *fresh) {
    float scale = 0;
    const uint8_t *code = hnsw_code(g, slot, &scale);
    if (isnan(scale)) {
        return true;
    }
    float right = code_encode(vector_row(rows, slot), rows->dimension, g->head->bits, fresh);
    return memcmp(&right, &scale, sizeof scale) == 0 && memcmp(code, fresh, code_bytes(rows->dimension, g->head->bits)) == 0;
}

static void check_unlinked_codes(struct library_check *l, const struct hnsw_graph *g, const struct vector_rows *rows,
                                 const char *file) {
    uint8_t *fresh = (uint8_t *)malloc(code_bytes(rows->dimension, g->head->bits) + 1);
    l->k->no_memory = l->k->no_memory || fresh == NULL;
    for (uint32_t slot = 0; fresh != NULL && g->head->bits != 0 && slot < l->rd.view.chunk_slots; slot++) {
        if (!hnsw_is_linked(g, slot) && !unlinked_code_is_right(g, rows, slot, fresh)) {
            library_fault(l, CHECK_GRAPH, file, AT_SLOT(slot), "it is not linked yet, and its code is not that of its vector");
        }
    }
    free(fresh);
}

/* Linked nodes' codes, by the validator. */
static void check_codes(struct library_check *l, const struct hnsw_graph *g, const char *file) {
    struct vector_rows rows = arena_vectors(&l->arena, &l->rd.view);
    char detail[DETAIL_BYTES] = "";
    if (l->has_vectors) {
        library_faults(l, CHECK_GRAPH, file, hnsw_validate_codes(g, &rows, 0, l->rd.view.chunk_slots, detail), detail);
        check_unlinked_codes(l, g, &rows, file);
    }
}

void check_graph(struct library_check *l) {
    const struct library_view *v = &l->rd.view;
    struct check_count *count = library_part(l, CHECK_GRAPH);
    char files[2][ARENA_FILE_NAME_MAX];
    char detail[DETAIL_BYTES] = "";
    uint64_t unreachable = 0;
    if (v->graph_generation == 0) {
        count->checked = true;
        (void)snprintf(count->note, sizeof count->note, "none: searches scan");
        return;
    }
    if (!part_begins(l, CHECK_GRAPH, l->has_graph)) {
        return;
    }
    arena_graph_names(v->graph_generation, files[0], files[1]);
    struct hnsw_graph g = arena_graph(&l->arena);
    library_faults(l, CHECK_GRAPH, files[0], hnsw_validate(&g, v->chunk_slots, &unreachable, detail), detail);
    if (unreachable > 0) {
        library_fault(l, CHECK_GRAPH, files[0], AT_NO_PLACE,
                      "%" PRIu64 " linked nodes cannot be reached: searches would miss them", unreachable);
    }
    check_shape(l, g.head, files[0]);
    check_codes(l, &g, files[0]);
    for (uint32_t slot = 0; slot < v->chunk_slots; slot++) {
        check_node(l, &g, files[0], slot);
    }
}

/* --- postings --- */

/* In how many living texts each term is, by the term's hash; open addressing. */
struct frequency {
    uint64_t hash;
    uint32_t live; /* 0: a free place */
    bool seen;     /* in the index */
};

struct frequencies {
    struct frequency *items;
    size_t room; /* a power of two */
    size_t count;
};

enum { FREQUENCIES_FIRST = 1024 };

static struct frequency *frequency_place(const struct frequencies *f, uint64_t hash) {
    size_t i = (size_t)hash & (f->room - 1);
    while (f->items[i].live != 0 && f->items[i].hash != hash) {
        i = (i + 1) & (f->room - 1);
    }
    return &f->items[i];
}

static bool frequencies_grow(struct frequencies *f) {
    struct frequencies more = {.room = f->room == 0 ? FREQUENCIES_FIRST : f->room * 2, .count = f->count};
    more.items = (struct frequency *)calloc(more.room, sizeof *more.items);
    if (more.items == NULL) {
        return false;
    }
    for (size_t i = 0; i < f->room; i++) {
        if (f->items[i].live != 0) {
            *frequency_place(&more, f->items[i].hash) = f->items[i];
        }
    }
    free(f->items);
    *f = more;
    return true;
}

static bool frequencies_add(struct frequencies *f, const struct terms *t) {
    for (uint32_t i = 0; i < t->count; i++) {
        if (f->count * 2 >= f->room && !frequencies_grow(f)) {
            return false;
        }
        struct frequency *item = frequency_place(f, t->items[i].hash);
        f->count += item->live == 0 ? 1 : 0;
        item->hash = t->items[i].hash;
        item->live++;
    }
    return true;
}

struct postings_check {
    struct library_check *l;
    struct lexical lexical;
    struct analyzer *analyzer;
    struct frequencies frequencies;
    uint64_t postings; /* that the texts give */
};

static bool check_frequency(void *ctx, struct slice term, uint64_t hash, uint32_t live) {
    struct postings_check *p = (struct postings_check *)ctx;
    uint32_t counted = 0;
    if (p->frequencies.room > 0) {
        struct frequency *item = frequency_place(&p->frequencies, hash);
        counted = item->live;
        item->seen = true;
    }
    if (counted != live) {
        library_fault(p->l, CHECK_POSTINGS, TERMS_FILE, AT_NO_PLACE,
                      "the term \"%.*s\" is said to be in %" PRIu32 " living texts and is in %" PRIu32, (int)term.len,
                      (const char *)term.data, live, counted);
    }
    return true;
}

static bool check_text(struct postings_check *p, uint32_t slot, struct status *st) {
    struct library_check *l = p->l;
    const struct chunk_row *c = arena_chunk(&l->arena, slot);
    struct stored_chunk chunk;
    struct status ignored;
    struct terms terms;
    if (!reading_chunk(&l->rd, slot, &chunk, &ignored)) {
        return true; /* told with the rows */
    }
    if (!analyzer_reserve(p->analyzer, chunk.fields.text.len, st)) {
        return false;
    }
    analyze(p->analyzer, chunk.fields.text, &terms);
    bool held = lexical_holds(&p->lexical, slot, &terms);
    bool alive = c->deleted_lsn == 0;
    p->postings += held || alive ? terms.count : 0;
    if (!alive) {
        return true;
    }
    library_part(l, CHECK_POSTINGS)->looked_at++;
    if (!held) {
        library_fault(l, CHECK_POSTINGS, POSTINGS_FILE, AT_SLOT(slot), "the index does not hold the terms of its text");
    }
    if (terms.length != c->length) {
        library_fault(l, CHECK_POSTINGS, "chunks.mmap", AT_SLOT(slot), "its text has %" PRIu32 " terms, its row says %" PRIu32,
                      terms.length, c->length);
    }
    return frequencies_add(&p->frequencies, &terms) || status_no_memory(st);
}

static bool check_texts(struct postings_check *p, struct status *st) {
    struct library_check *l = p->l;
    struct lexical_statistics statistics;
    for (uint32_t slot = 0; slot < l->rd.view.chunk_slots; slot++) {
        if (!check_text(p, slot, st)) {
            return false;
        }
    }
    lexical_each_term(&p->lexical, check_frequency, p);
    for (size_t i = 0; i < p->frequencies.room; i++) {
        if (p->frequencies.items[i].live != 0 && !p->frequencies.items[i].seen) {
            library_fault(l, CHECK_POSTINGS, TERMS_FILE, AT_NO_PLACE, "a term of the living texts is not in the list of terms");
        }
    }
    lexical_statistics(&p->lexical, &statistics);
    if (statistics.postings != p->postings) {
        library_fault(l, CHECK_POSTINGS, POSTINGS_FILE, AT_NO_PLACE,
                      "the index has %" PRIu64 " postings, the texts give %" PRIu64, statistics.postings, p->postings);
    }
    return true;
}

bool check_postings(struct library_check *l, struct status *st) {
    struct postings_check p = {.l = l, .lexical = arena_lexical(&l->arena)};
    char detail[DETAIL_BYTES] = "";
    if (!part_begins(l, CHECK_POSTINGS, l->has_postings && l->has_definition)) {
        return true;
    }
    uint64_t faults = lexical_validate(&p.lexical, l->rd.view.chunk_slots, detail);
    library_faults(l, CHECK_POSTINGS, TERMS_FILE, faults, detail);
    if (!lexical_valid(&p.lexical)) {
        return true;
    }
    if (lexical_terms_used(&p.lexical) != l->rd.view.terms_used ||
        lexical_postings_used(&p.lexical) != l->rd.view.postings_used) {
        library_fault(l, CHECK_POSTINGS, TERMS_FILE, AT_NO_PLACE,
                      "more or less of the index is in use than the library's view says");
    }
    if (!analyzer_new(texts_language(l->definition.language), &p.analyzer, st)) {
        return false;
    }
    bool ok = check_texts(&p, st);
    analyzer_free(p.analyzer);
    free(p.frequencies.items);
    return ok;
}

/* --- columns --- */

/* The fields of one living chunk; *document is the row that `reader` was begun with. */
static bool check_fields(struct library_check *l, const struct columns *columns, struct field_reader *reader, uint32_t slot,
                         uint32_t *document, struct status *st) {
    struct stored_chunk chunk;
    struct stored_document d;
    struct field_values values;
    struct status ignored;
    if (!reading_chunk(&l->rd, slot, &chunk, &ignored) || !reading_document(&l->rd, chunk.document, &d, &ignored)) {
        return true; /* told with the rows */
    }
    if (*document != chunk.document && !fields_of_document(reader, &d.fields, st)) {
        return false;
    }
    *document = chunk.document;
    if (!fields_of_chunk(reader, &chunk.fields, chunk.index, &values, st)) {
        return false;
    }
    library_part(l, CHECK_COLUMNS)->looked_at++;
    if (!columns_hold(columns, slot, &values)) {
        library_fault(l, CHECK_COLUMNS, COLUMNS_FILE, AT_SLOT(slot),
                      "the columns do not hold the values of its fields: filters would be wrong");
    }
    return true;
}

static bool check_all_fields(struct library_check *l, const struct columns *columns, struct status *st) {
    struct field_reader *reader = field_reader_new();
    uint32_t document = ROW_NONE;
    if (reader == NULL) {
        return status_no_memory(st);
    }
    bool ok = true;
    for (uint32_t slot = 0; ok && slot < l->rd.view.chunk_slots; slot++) {
        ok = arena_chunk(&l->arena, slot)->deleted_lsn != 0 || check_fields(l, columns, reader, slot, &document, st);
    }
    field_reader_free(reader);
    return ok;
}

bool check_columns(struct library_check *l, struct status *st) {
    struct columns columns = arena_columns(&l->arena);
    char detail[DETAIL_BYTES] = "";
    if (!part_begins(l, CHECK_COLUMNS, l->has_columns)) {
        return true;
    }
    library_faults(l, CHECK_COLUMNS, COLUMNS_FILE, columns_validate(&columns, l->rd.view.chunk_slots, detail), detail);
    if (!columns_valid(&columns)) {
        return true;
    }
    if (columns_used(&columns) != l->rd.view.columns_used) {
        library_fault(l, CHECK_COLUMNS, COLUMNS_FILE, AT_NO_PLACE,
                      "more or less of the columns is in use than the library's view says");
    }
    return check_all_fields(l, &columns, st);
}
