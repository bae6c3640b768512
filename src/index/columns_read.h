/*
 * columns_read.h - the reading side of columns.h: how a filter's leaf becomes a set of slots.
 *
 * All match functions set bits for the slots of [from, to) that match, and clear none: bit s of words[s / 64] is slot s, the caller has zeroed
 * them. `from` is a multiple of 64; slots at or above `to` are not looked at, as they may be under way. Whatever stands in the file, they stay within the map.
 */
#ifndef QUIRE_INDEX_COLUMNS_READ_H
#define QUIRE_INDEX_COLUMNS_READ_H

#include "index/columns.h"

struct columns_node;

struct column {
    struct columns c;
    struct columns_node *node;
    enum column_type type;
};

/* Whether the head is that of columns. The map may end before what a writer has in use by now: all that a view counts is before its end, and what
 * lies behind reads as absent. */
bool columns_readable(const struct columns *c);
/* False: no value of this path and type was ever put. */
bool column_find(const struct columns *c, struct slice path, enum column_type type, struct column *ret);

/* From which slot on the columns do not know everything, UINT32_MAX: they do. has_all_types: whether the path has a column of each type. */
uint32_t columns_known_below(const struct columns *c, bool has_all_types);

/* Slots that have a value at all. */
void column_match_any(const struct column *col, uint32_t from, uint32_t to, uint64_t *words);
/* least <= value <= greatest. */
void column_match_numbers(const struct column *col, double least, double greatest, uint32_t from, uint32_t to, uint64_t *words);
void column_match_times(const struct column *col, int64_t least, int64_t greatest, uint32_t from, uint32_t to, uint64_t *words);
/* Numbers or times whose bits `matches`: for many single values. Absent ones are asked about, too (NaN, INT64_MIN). */
void column_match_wide(const struct column *col, bool (*matches)(void *ctx, uint64_t bits), void *ctx, uint32_t from, uint32_t to,
                       uint64_t *words);
void column_match_bool(const struct column *col, bool value, uint32_t from, uint32_t to, uint64_t *words);

/* --- keywords --- */

#define COLUMN_ELSEWHERE 1 /* in place of a set: read the record */
/* Whether any slot of the column has that. */
bool column_has_elsewhere(const struct column *col);

/* Slots that have one of these sets (up to COLUMN_SETS_MAX), ascending. */
#define COLUMN_SETS_MAX 8
void column_match_sets(const struct column *col, const uint32_t *sets, uint32_t count, uint32_t from, uint32_t to,
                       uint64_t *words);
/* The same for many: bit i of bits stands for the set first + i. */
struct set_list {
    uint32_t first;
    uint32_t span;
    const uint64_t *bits;
};
void column_match_listed(const struct column *col, const struct set_list *list, uint32_t from, uint32_t to, uint64_t *words);
/* Slots of `among` (NULL: all) whose set `matches`; it is asked once for slots in a row with the same one, never about 0 and COLUMN_ELSEWHERE. */
void column_match_keywords(const struct column *col, bool (*matches)(void *ctx, uint32_t set), void *ctx, const uint64_t *among,
                           uint32_t from, uint32_t to, uint64_t *words);

/* 0: no slot has a set with this string. */
uint32_t columns_find_string(const struct columns *c, struct slice s);
/* The sets that hold the string, newest first, up to `room`. *ret_more: there are more, or the list leads out of the map (its newest sets are of slots to
 * come): then it says nothing about the older ones. */
uint32_t columns_sets_of(const struct columns *c, uint32_t string, uint32_t *sets, uint32_t room, bool *ret_more);

struct keyword_set {
    const void *members;
    uint32_t count; /* 0 as well for a damaged one */
    bool array;
};
struct keyword_set columns_set(const struct columns *c, uint32_t set);
uint32_t keyword_set_string(const struct keyword_set *s, uint32_t i);
/* Empty for a damaged one. */
struct slice columns_string(const struct columns *c, uint32_t string);

#endif
