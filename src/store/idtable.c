/*
 * idtable.c - the id table: a 16-way hash trie that readers walk while the committer inserts.
 *
 * Writing is one thread's (the committer's). A row is filled, then `previous`, then the leaf is stored with release; a child node
 * is filled, then its number stored with release. A reader that follows a word with acquire therefore meets finished nodes and
 * rows only, whatever commit they belong to; which of them count is told by the view alone.
 *
 * Lookup walks a leaf's chain from the newest row. For one id the rows' lifetimes follow one another without overlap (an id is
 * taken while it lives), so the first row of that id that was created in the view decides: alive, or the id is gone. A document
 * that was replaced a million times costs one step, not a million.
 *
 * Rows behind a leaf have smaller numbers than the one before, as rows are numbered in the order of insertion. The walk holds
 * the table to that, so even a damaged file cannot make it run in circles.
 */
#include "store/idtable.h"

#include "base/bytes.h"
#include "shm/atomics.h"
#include "store/op_format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NODE_WORDS 16
#define LEVELS 16 /* nibbles of a 64-bit hash */
#define NIBBLE_BITS 4
#define LEAF 0x80000000U
#define LEAF_MIXED 0x40000000U
#define LEAF_ROW 0x3fffffffU

_Static_assert(NODE_WORDS * sizeof(uint32_t) == IDTABLE_NODE_BYTES, "a node is 16 words");

/* What the table needs of a row of either kind. */
struct item {
    uint64_t created_lsn;
    uint64_t deleted_lsn;
    uint64_t record;
    uint64_t id_hash;
    uint32_t record_length;
    uint32_t previous;
};

uint64_t idtable_nodes_for(uint64_t ids) {
    /* A trie of n random keys has about n / ln 16 = 0.36 n inner nodes; few keys may meet deep by chance, hence the constant. */
    return ids / 2 + NODE_WORDS;
}

static uint32_t nibble_of(uint64_t hash, unsigned level) {
    return (uint32_t)(hash >> ((LEVELS - 1 - level) * NIBBLE_BITS)) & (NODE_WORDS - 1);
}

static uint32_t *node_words(const struct arena *a, uint64_t node) {
    return (uint32_t *)(void *)(mapfile_base(&a->ids) + node * IDTABLE_NODE_BYTES);
}

static uint64_t nodes_mapped(const struct arena *a) {
    return load_acquire_u64(&a->ids.size) / IDTABLE_NODE_BYTES;
}

static bool row_mapped(const struct arena *a, enum id_kind kind, uint32_t row) {
    uint64_t end = (uint64_t)row + 1;
    return kind == ID_DOCUMENT ? end * sizeof(struct document_row) <= load_acquire_u64(&a->documents.size)
                               : end * sizeof(struct chunk_row) <= load_acquire_u64(&a->chunks.size);
}

static struct item item_at(const struct arena *a, enum id_kind kind, uint32_t row) {
    if (kind == ID_DOCUMENT) {
        const struct document_row *d = arena_document(a, row);
        return (struct item){d->created_lsn, load_acquire_u64(&d->deleted_lsn), d->record, d->id_hash, d->record_length,
                             d->previous};
    }
    const struct chunk_row *c = arena_chunk(a, row);
    return (struct item){c->created_lsn, load_acquire_u64(&c->deleted_lsn), c->record, c->id_hash, c->record_length, c->previous};
}

static void set_previous(struct arena *a, enum id_kind kind, uint32_t row, uint32_t previous) {
    if (kind == ID_DOCUMENT) {
        ((struct document_row *)(void *)mapfile_base(&a->documents))[row].previous = previous;
    } else {
        ((struct chunk_row *)(void *)mapfile_base(&a->chunks))[row].previous = previous;
    }
}

/* --- insertion --- */

/* Moves the leaf at *word one level down into a new node. False: there is no room. */
static bool split_leaf(struct arena *a, uint32_t *word, uint64_t hash, unsigned level, uint64_t *nodes_used) {
    uint64_t child = *nodes_used;
    if (child >= nodes_mapped(a) || child > LEAF_ROW) {
        return false;
    }
    uint32_t *words = node_words(a, child);
    memset(words, 0, IDTABLE_NODE_BYTES); /* an abandoned batch may have left something */
    words[nibble_of(hash, level + 1)] = *word;
    *nodes_used = child + 1;
    /* pairs with: IDTABLE_NODE. Without it a reader could walk a child whose words it still sees as zeros, and miss the leaf. */
    store_release_u32(word, (uint32_t)child);
    return true;
}

/* Puts row in front of the chain that *word names. */
static void push_row(struct arena *a, enum id_kind kind, uint32_t *word, uint32_t row, uint32_t flags) {
    uint32_t old = *word;
    set_previous(a, kind, row, old == 0 ? ROW_NONE : old & LEAF_ROW);
    /* pairs with: IDTABLE_NODE. Without it a reader could follow the leaf to a row that is not filled yet. */
    store_release_u32(word, LEAF | (old & LEAF_MIXED) | flags | row);
}

void idtable_insert(struct arena *a, enum id_kind kind, uint32_t row, uint64_t *nodes_used) {
    uint64_t hash = item_at(a, kind, row).id_hash;
    uint64_t node = (uint64_t)kind;
    for (unsigned level = 0; level < LEVELS; level++) {
        uint32_t *word = &node_words(a, node)[nibble_of(hash, level)];
        if (*word == 0) {
            push_row(a, kind, word, row, 0);
            return;
        }
        if ((*word & LEAF) != 0) {
            uint64_t other = item_at(a, kind, *word & LEAF_ROW).id_hash;
            if ((*word & LEAF_MIXED) != 0 || other == hash) {
                push_row(a, kind, word, row, 0);
                return;
            }
            if (!split_leaf(a, word, other, level, nodes_used)) {
                push_row(a, kind, word, row, LEAF_MIXED);
                return;
            }
        }
        node = *word;
    }
}

/* --- lookup --- */

static struct slice id_of(const struct arena *a, enum id_kind kind, const struct item *item) {
    struct slice record = arena_record(a, item->record, item->record_length);
    size_t at = kind == ID_DOCUMENT ? OP_DOCUMENT_ID_OFFSET : 0;
    if (record.len <= at) {
        return slice_of(NULL, 0);
    }
    struct reader r = reader_of(slice_of(record.data + at, record.len - at));
    return read_bytes(&r);
}

static enum idtable_answer search_chain(const struct arena *a, const struct library_view *view, enum id_kind kind,
                                        struct slice id, uint64_t hash, uint32_t row, uint32_t *ret_row) {
    uint32_t count = kind == ID_DOCUMENT ? view->document_rows : view->chunk_slots;
    for (;;) {
        if (!row_mapped(a, kind, row)) {
            return IDTABLE_UNMAPPED;
        }
        struct item item = item_at(a, kind, row);
        if (row < count && item.id_hash == hash && item.created_lsn <= view->lsn && slice_equal(id_of(a, kind, &item), id)) {
            bool alive = item.deleted_lsn == 0 || item.deleted_lsn > view->lsn;
            if (alive) {
                *ret_row = row;
            }
            return alive ? IDTABLE_FOUND : IDTABLE_ABSENT;
        }
        if (item.previous >= row) { /* ROW_NONE too */
            return IDTABLE_ABSENT;
        }
        row = item.previous;
    }
}

enum idtable_answer idtable_lookup(const struct arena *a, const struct library_view *view, enum id_kind kind,
                                   struct slice encoded_id, uint32_t *ret_row) {
    uint64_t hash = item_id_hash(encoded_id);
    uint64_t node = (uint64_t)kind;
    for (unsigned level = 0; level < LEVELS; level++) {
        if (node >= nodes_mapped(a)) {
            return IDTABLE_UNMAPPED;
        }
        /* pairs with: IDTABLE_NODE */
        uint32_t word = load_acquire_u32(&node_words(a, node)[nibble_of(hash, level)]);
        if (word == 0) {
            return IDTABLE_ABSENT;
        }
        if ((word & LEAF) != 0) {
            return search_chain(a, view, kind, encoded_id, hash, word & LEAF_ROW, ret_row);
        }
        node = word;
    }
    return IDTABLE_ABSENT;
}

uint32_t idtable_find(const struct arena *a, const struct library_view *view, enum id_kind kind, struct slice encoded_id) {
    uint32_t row = ROW_NONE;
    return idtable_lookup(a, view, kind, encoded_id, &row) == IDTABLE_FOUND ? row : ROW_NONE;
}

/* --- the validator --- */

enum { DETAIL_BYTES = 160, BITS = 8 };

struct id_check {
    const struct arena *a;
    const struct library_view *view;
    enum id_kind kind;
    uint8_t *seen; /* bit per node */
    uint64_t nodes;
    uint64_t rows;
    uint64_t faults;
    char *detail;
};

static void fault(struct id_check *c, const char *what, uint64_t number) {
    if (c->faults++ == 0) {
        (void)snprintf(c->detail, DETAIL_BYTES, "%s table, %s %" PRIu64, c->kind == ID_DOCUMENT ? "documents'" : "chunks'", what,
                       number);
    }
}

/* The rows of a leaf. way: the nibbles that led here, at the top of a hash. */
static void check_leaf(struct id_check *c, uint32_t word, uint64_t way, unsigned level) {
    uint32_t count = c->kind == ID_DOCUMENT ? c->view->document_rows : c->view->chunk_slots;
    unsigned below = (LEVELS - 1 - level) * NIBBLE_BITS;
    uint32_t row = word & LEAF_ROW;
    uint64_t first = row < count ? item_at(c->a, c->kind, row).id_hash : 0;
    for (uint32_t before = ROW_NONE; row < before; before = row, row = item_at(c->a, c->kind, row).previous) {
        if (row >= count) {
            fault(c, "a leaf or chain leads to a row that is not there:", row);
            return;
        }
        uint64_t hash = item_at(c->a, c->kind, row).id_hash;
        if (hash >> below != way >> below || ((word & LEAF_MIXED) == 0 && hash != first)) {
            fault(c, "where its hash does not lead: row", row);
        }
        c->rows++;
    }
    if (row != ROW_NONE) {
        fault(c, "a chain does not descend at row", row);
    }
}

static void check_node(struct id_check *c, uint64_t node, uint64_t way, unsigned level) {
    c->seen[node / BITS] |= (uint8_t)(1U << (node % BITS));
    c->nodes++;
    for (uint32_t i = 0; i < NODE_WORDS; i++) {
        uint32_t word = node_words(c->a, node)[i];
        uint64_t on = way | (uint64_t)i << ((LEVELS - 1 - level) * NIBBLE_BITS);
        if (word == 0) {
            continue;
        }
        if ((word & LEAF) != 0) {
            check_leaf(c, word, on, level);
        } else if (word <= node || word < IDTABLE_FIRST_FREE || word >= c->view->ids_used || level + 1 == LEVELS ||
                   (c->seen[word / BITS] >> (word % BITS) & 1) != 0) {
            fault(c, "a link that cannot be in node", node);
        } else {
            check_node(c, word, on, level + 1); /* no deeper than LEVELS */
        }
    }
}

uint64_t idtable_validate(const struct arena *a, const struct library_view *view, char detail[DETAIL_BYTES]) {
    struct id_check c = {.a = a, .view = view, .detail = detail};
    detail[0] = '\0';
    c.seen = (uint8_t *)calloc((size_t)view->ids_used / BITS + 1, 1);
    if (c.seen == NULL) {
        return UINT64_MAX;
    }
    const uint32_t counts[] = {[ID_DOCUMENT] = view->document_rows, [ID_CHUNK] = view->chunk_slots};
    for (unsigned kind = ID_DOCUMENT; kind <= ID_CHUNK; kind++) {
        c.kind = (enum id_kind)kind;
        c.rows = 0;
        check_node(&c, kind, 0, 0);
        if (c.rows != counts[kind]) {
            fault(&c, "rows reached:", c.rows);
        }
    }
    if (c.nodes != view->ids_used) {
        fault(&c, "nodes reached in all:", c.nodes);
    }
    free(c.seen);
    return c.faults;
}
