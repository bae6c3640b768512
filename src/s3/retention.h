/*
 * retention.h - which objects of a backup stay. Pure: a listing in, marks out.
 *
 * As the server keeps its snapshots (durable/snapshot.h), with one more, for going back to any moment of the days:
 *   - the newest `keep` snapshots;
 *   - of each of the last `keep_days` days the newest;
 *   - the newest of those that are older: what the days begin with is rolled forward from it;
 *   - all that one of these rests on.
 * A snapshot whose chain is not whole in the storage is none: it counts for nothing, so it takes no place of one that can be restored. It goes when it is older
 * than keep_days.
 * Every snapshot was verified before it went up, so the last one that verified is the newest, which stays for ever.
 * A segment goes when all of it is at or below the LSN of the oldest snapshot that stays; and when a longer copy of the same segment is there.
 *
 * Age is the storage's own: LastModified against its Date. A machine whose clock is wrong removes nothing by it. keep_days 0: nothing goes but segments that
 * have a longer copy.
 */
#ifndef QUIRE_S3_RETENTION_H
#define QUIRE_S3_RETENTION_H

#include "s3/objects.h"

struct s3_retention {
    uint64_t keep;
    uint64_t keep_days;
};

/* Sorts the listing: snapshots first, the newest (highest LSN) first; then segments by first LSN, of one the longest first. Then marks[i] says whether item i
 * stays. *ret_floor: the LSN of the oldest snapshot that stays, to which no segment is needed; 0: there is none. marks has room for l->count. */
MUST_CHECK bool s3_retain(struct s3_listing *l, const struct s3_retention *r, bool *marks, uint64_t *ret_floor, struct status *st);
/* Whether all that the snapshot at i rests on is there. */
bool s3_chain_whole(const struct s3_listing *l, size_t i);
/* Of that log and name; SIZE_MAX: none. */
size_t s3_find_snapshot(const struct s3_listing *l, const struct uuid *instance, const char *file);
void s3_listing_sort(struct s3_listing *l);

#endif
