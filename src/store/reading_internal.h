/* reading_internal.h - what the two halves of reading share. */
#ifndef QUIRE_STORE_READING_INTERNAL_H
#define QUIRE_STORE_READING_INTERNAL_H

#include "store/reading.h"

/* Maps more of the library that is being read, see arena_follow_growth. */
MUST_CHECK bool store_reader_follow_growth(struct store_reader *r, struct status *st);

/* Whether a row belongs to a view at this LSN. */
static inline bool lsn_alive(uint64_t created_lsn, uint64_t deleted_lsn, uint64_t lsn) {
    return created_lsn <= lsn && (deleted_lsn == 0 || deleted_lsn > lsn);
}

#endif
