/*
 * columns.h - typed columns of one library, a value per chunk slot and field: what filters are evaluated on. In memory that somebody else owns: one
 * mapped file, `columns.mmap`.
 *
 * A column is a field's path ("title", "tags", "metadata.year") with a type. A path whose values have several types has several columns. Values of a slot are
 * written once, when the chunk is written, and never change; slots come in ascending order. So whatever a reader has derived for the slots below
 * some number (a bitmap, a page's least and greatest value) stays true for ever, and is only extended.
 *
 *   COLUMN_KEYWORD  u32 per slot: 0 (absent), 1 (there, but not here: whoever filters reads the record), or the number of an interned set of strings
 *                   (most sets have one member)
 *   COLUMN_NUMBER   double per slot, and whether present (NaN: absent)
 *   COLUMN_TIME     int64 microseconds since 1970 (INT64_MIN: absent): for strings that are RFC 3339 times or dates
 *   COLUMN_BOOL     u8 per slot: 0 absent, 1 false, 2 true
 *
 * Values lie in pages of COLUMN_PAGE_SLOTS, made when the first value of a page is put (a page that is not there: all absent), each with the least
 * and greatest value and a count, so that a range skips pages. Growth copies nothing: page directories are a tree, strings and sets hash tries.
 *
 * One writer (the committer), many readers without a lock, who look only at slots that their view counts.
 */
#ifndef QUIRE_INDEX_COLUMNS_H
#define QUIRE_INDEX_COLUMNS_H

#include "base/buf.h"
#include "shm/dirty.h"

#define COLUMN_PAGE_SLOTS 1024 /* a field that stands in one document alone costs one page: 8 KiB at most */
#define COLUMNS_FIRST_BYTES 65536
#define COLUMNS_MAX 1024 /* columns of one library; further fields are filtered by reading the records, slowly but rightly */
#define COLUMN_KEYWORDS_MAX 1024 /* strings of one value; more are read from the record */

enum column_type { COLUMN_KEYWORD = 1, COLUMN_NUMBER = 2, COLUMN_TIME = 3, COLUMN_BOOL = 4 };

/* One value of one slot. */
struct field_value {
    struct slice path;
    enum column_type type;
    union {
        struct {
            const struct slice *items; /* distinct, ascending */
            uint32_t count;            /* 0: the strings are too long or too many for a column */
            bool array;                /* an array of strings, not a string: `contains` differs */
        } keywords;
        double number;
        int64_t time_us;
        bool boolean;
    } as;
};
struct field_values {
    const struct field_value *items; /* at most one per path and type */
    uint32_t count;
};

struct columns {
    uint8_t *base; /* readers: mapped read-only */
    uint64_t bytes;
    struct dirty_pages *dirty; /* the writer's: told before each store. NULL: nobody asks which pages change */
};

void columns_init(const struct columns *c);
bool columns_valid(const struct columns *c);
uint64_t columns_used(const struct columns *c);
/* What putting takes at most, in bytes beyond those in use, summed up over the calls for slots to come. What was counted once (the page of a column, a new
 * set of strings) is remembered and not counted for the slots behind it, so the sum holds for all of them together. Zero it when nothing of what was
 * counted is still to be put; a sum that counts too much does no harm. */
#define COLUMNS_NEED_GROUPS 16 /* remembered in small tables; what has to make place is counted again */
#define COLUMNS_NEED_WAYS 8
struct columns_need {
    uint64_t bytes;
    uint64_t page_bytes; /* counted for pages of the number `page`, of all columns: there is a most */
    uint64_t column_bytes;
    uint32_t page;
    uint64_t pages[COLUMNS_NEED_GROUPS * COLUMNS_NEED_WAYS];
    uint64_t sets[COLUMNS_NEED_GROUPS * COLUMNS_NEED_WAYS];
};
void columns_need(const struct columns *c, uint32_t slot, const struct field_values *v, struct columns_need *total);
/* Cannot fail: room was reserved. A slot that is not above the last is ignored (a replay). What exceeds COLUMNS_MAX is left out, and the head says so. */
void columns_put(const struct columns *c, uint32_t slot, const struct field_values *v);

/* The reading side (how a filter's leaf becomes a set of slots) is declared by the same author in columns_read.h. */

uint64_t columns_validate(const struct columns *c, uint32_t slots, char detail[160]);
/* Whether the slot has exactly these values: what `quire check` asks after reading the record again. */
bool columns_hold(const struct columns *c, uint32_t slot, const struct field_values *v);

#endif
