/*
 * idtable.h - from an id to its row: a 16-way hash trie in ids.mmap that readers walk while it grows.
 *
 * Node: 16 words of uint32_t. A word is 0 (empty), a leaf (bit 31) with a row number in bits 0-29, or the number of a child node. Node 0 is
 * the root for documents, node 1 for chunks. The path is the id's 64-bit hash, four bits a level from the top. A leaf names the newest
 * row; rows with the same hash (older versions of the same id, or real collisions) hang behind it through `previous`. A new child is filled
 * before its number is stored with release (pairs with: IDTABLE_NODE), so a reader sees it whole; nothing is ever moved, there is no rehash.
 *
 * Inserting never fails: where no room for nodes is left (room is reserved for the expected number) or at the last level, the row is put
 * in front of the leaf's chain although its hash differs, and the leaf is marked mixed (bit 30) and never split. Lookups compare hash and id anyway.
 */
#ifndef QUIRE_STORE_IDTABLE_H
#define QUIRE_STORE_IDTABLE_H

#include "store/arena.h"

#define IDTABLE_NODE_BYTES 64
#define IDTABLE_FIRST_FREE 2 /* nodes in use in an empty table */
#define IDTABLE_MAX_ROWS 0x3fffffffU

enum id_kind { ID_DOCUMENT = 0, ID_CHUNK = 1 };

/* Nodes to reserve for `ids` new ids: expectation with a good margin. */
uint64_t idtable_nodes_for(uint64_t ids);

/* Puts row in front of its leaf and stores what stood there in the row's `previous`. `nodes_used`: in, out. The row's id_hash is set. */
void idtable_insert(struct arena *a, enum id_kind kind, uint32_t row, uint64_t *nodes_used);

/* A reader's map may end before a node or row that the commit under way has just linked in: IDTABLE_UNMAPPED, and the caller maps more
 * (arena_follow_growth) and asks again. The supervisor's own maps always suffice. */
enum idtable_answer { IDTABLE_FOUND, IDTABLE_ABSENT, IDTABLE_UNMAPPED };
enum idtable_answer idtable_lookup(const struct arena *a, const struct library_view *view, enum id_kind kind, struct slice encoded_id,
                                   uint32_t *ret_row);

/* The row of this id that is in the view (lsn), or ROW_NONE. `view` may be a published view, or the committer's own (lsn UINT64_MAX: newest). */
uint32_t idtable_find(const struct arena *a, const struct library_view *view, enum id_kind kind, struct slice encoded_id);
/* The validator: nodes within those in use, each reached once and from one before it; chains that descend; rows where their hashes lead; every row of the
 * view reached. Returns the number of faults (UINT64_MAX: no memory to check); the first is described. The maps hold what the view counts. For use while
 * nobody writes. */
uint64_t idtable_validate(const struct arena *a, const struct library_view *view, char detail[160]);

#endif
