/*
 * columns_internal.h - the bytes of columns.mmap. Only src/index/columns*.c include it.
 *
 *   head     256 bytes: struct columns_head
 *   then, in the order of their making, each at a multiple of 16:
 *   string   struct columns_node (length: bytes; tag: the newest set that holds it), its bytes
 *   set      struct columns_node (length: members; tag: 1 for an array), per member: u32 string, u32 the next older set that holds that string
 *   column   struct columns_node (length: bytes of the path; tag: its type), struct column_body, the path
 *   table    64 references
 *   page     at a multiple of 64: struct column_page, then COLUMN_PAGE_SLOTS values
 *
 * A reference is an offset in units of 16 bytes; 0 is none. So the file ends at 64 GiB.
 *
 * Strings, sets and columns are found by three hash tries of one kind: a node is an entry and has four links. An entry hangs at the first free link on
 * the way that its 64-bit hash shows, two bits a level from the top (behind the last level, all on link 0). Nothing is ever moved or split, there is no
 * growing, and a new entry takes its own bytes and no others: that is what makes columns_need exact. The way to an entry is short, as hashes are well mixed:
 * log4 of a million entries is 10.
 *
 * A column's pages hang on a tree of three levels of 64 references: 2^18 pages, 2^28 slots.
 *
 * Invariants:
 *  1. A link is stored with release after what it leads to is filled (pairs with: COLUMN_LINK), and never changes but from 0, or (a string's newest set)
 *     to something newer. Without that order a reader would walk into a node, table or page that it still sees as zeros.
 *  2. What a link of a trie leads to lies behind the node that has it; an older set lies before the newer one. Readers hold the file to that and to its
 *     bounds, so a damaged one leads them neither out of the map nor round in circles.
 *  3. A value is stored once, before the view that counts its slot is published. least, greatest and count of a page change with slots that come later,
 *     but only so that they say less: every value of a counted slot lies between them at all times.
 *  4. A value that could not be put is told of in the head before its slot is published: no_column_from, no_room_from.
 */
#ifndef QUIRE_INDEX_COLUMNS_INTERNAL_H
#define QUIRE_INDEX_COLUMNS_INTERNAL_H

#include "index/columns.h"
#include "index/columns_read.h"
#include "shm/atomics.h"

#define COLUMNS_MAGIC 0x534e4d4c4f435551ULL
#define COLUMNS_FORMAT 1
#define COLUMNS_UNIT 16
#define COLUMNS_HEAD_BYTES 256
#define COLUMNS_BYTES_MAX ((uint64_t)UINT32_MAX * COLUMNS_UNIT)
#define COLUMN_PAGE_ALIGN 64
#define COLUMN_TABLE 64 /* references in a table */
#define COLUMN_TABLE_BITS 6
#define COLUMN_PAGES_MAX (1U << (3 * COLUMN_TABLE_BITS))

enum columns_trie { TRIE_STRINGS, TRIE_SETS, TRIE_COLUMNS, TRIES };

struct columns_head {
    uint64_t magic;
    uint32_t format;
    uint32_t reserved;
    /* written by: the committer; read by: whoever checks the file */
    uint64_t used;
    uint32_t next_slot;    /* the last that was put, and one */
    uint32_t root[TRIES];  /* pairs with: COLUMN_LINK */
    uint32_t count[TRIES]; /* entries */
    /* written by: the committer, before the slot is published; read by: searches */
    uint32_t no_column_from; /* from this slot on, fields that have no column may have values; UINT32_MAX: nowhere */
    uint32_t no_room_from;   /* from this slot on, any value may be missing */
};

struct columns_node {
    uint32_t child[4]; /* pairs with: COLUMN_LINK */
    uint64_t hash;
    uint32_t length;
    uint32_t tag; /* of a string: likewise a link */
};

struct set_member {
    uint32_t string;
    uint32_t older; /* set that holds the string */
};

struct column_body {
    uint32_t last;      /* what the slot before got (keywords): the committer's own */
    uint32_t elsewhere; /* 1: some slot has COLUMN_ELSEWHERE */
    uint32_t reserved[2];
    uint32_t table[COLUMN_TABLE];
};

struct column_page {
    uint32_t count; /* of slots with a value; this and the next two by: the committer, relaxed */
    uint32_t reserved;
    uint64_t least; /* as the type's bits, see column_zone */
    uint64_t greatest;
    uint8_t padding[COLUMN_PAGE_ALIGN - 24];
};

_Static_assert(sizeof(struct columns_head) <= COLUMNS_HEAD_BYTES, "the head has its place");
_Static_assert(sizeof(struct columns_node) == 32 && sizeof(struct set_member) == 8, "entries have no padding");
_Static_assert(sizeof(struct column_page) == COLUMN_PAGE_ALIGN, "values are aligned");

struct columns_head *columns_head_of(const struct columns *c);
/* The entry at ref with room for `extra` bytes behind it; NULL when it is not within the map. */
struct columns_node *columns_node_at(const struct columns *c, uint32_t ref, uint64_t extra);
/* `bytes` at ref, or NULL. */
void *columns_at(const struct columns *c, uint32_t ref, uint64_t bytes);
/* The link of the level that hash chooses. */
unsigned columns_turn(uint64_t hash, unsigned level);

uint64_t columns_string_hash(struct slice s);
uint64_t columns_set_hash(const uint32_t *strings, uint32_t count, bool array);
uint64_t columns_path_hash(struct slice path, enum column_type type);

/* What an entry of a trie is compared with: the fields of its kind. */
struct columns_key {
    enum columns_trie trie;
    uint64_t hash;
    struct slice bytes;      /* string; path */
    const uint32_t *strings; /* set */
    uint32_t length;         /* members */
    uint32_t tag;            /* set, column */
};
/* 0: there is none, and *ret_link (may be NULL) is where it would hang. */
uint32_t columns_lookup(const struct columns *c, const struct columns_key *key, uint32_t **ret_link);

/* Comparing 64 values at v; bit i is value i. */
struct column_kernels {
    uint64_t (*numbers)(const double *v, double least, double greatest);
    uint64_t (*times)(const int64_t *v, int64_t least, int64_t greatest);
    uint64_t (*sets)(const uint32_t *v, const uint32_t *sets, uint32_t count);
};
extern const struct column_kernels column_kernels_plain;
#if defined(__x86_64__)
extern const struct column_kernels column_kernels_avx2; /* only where the CPU has it */
#endif
const struct column_kernels *column_kernels(void); /* the best that this CPU has */

struct column_body *column_body_of(struct columns_node *node);
struct slice column_path_of(struct columns_node *node);
uint64_t column_page_bytes(enum column_type type);
struct column_page *column_page_at(const struct column *col, uint32_t page);
static inline struct set_member *set_members_of(struct columns_node *set) {
    return (struct set_member *)(void *)(set + 1);
}

#endif
