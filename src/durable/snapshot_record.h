/*
 * snapshot_record.h - what is known of snapshots that does not stand in them: how old they are by a clock that nobody sets, which ones verified, and what this
 * server wrote. <data>/snapshots/record. It can be lost without harm: then all of them count as just seen, and none as verified.
 */
#ifndef QUIRE_DURABLE_SNAPSHOT_RECORD_H
#define QUIRE_DURABLE_SNAPSHOT_RECORD_H

#include "durable/snapshot.h"

struct snapshot_record;

/* The file is not looked at again afterwards; one that is missing or cannot be read is begun anew. */
MUST_CHECK bool snapshot_record_open(int snapshots_dir_fd, struct snapshot_record **ret, struct status *st);
void snapshot_record_free(struct snapshot_record *r); /* takes NULL */

/* Microseconds since the record began. It goes on while the server is stopped, and never jumps when somebody sets the time. */
int64_t snapshot_record_now(struct snapshot_record *r);

/* What follows may be called by any thread. Those that change something save it; what cannot be saved is told, and counts until the end of the process. */

/* Written by this server, with this sum (SHA-256 of its SHA256SUMS). */
MUST_CHECK bool snapshot_record_written(struct snapshot_record *r, const struct snapshot_info *info, const uint8_t sum[SNAPSHOT_SUM_BYTES],
                                        struct status *st);
MUST_CHECK bool snapshot_record_verified(struct snapshot_record *r, const struct snapshot_info *info, bool good, struct status *st);
/* Forgets what is not in the list, notes what is new. */
MUST_CHECK bool snapshot_record_see(struct snapshot_record *r, const struct snapshot_info *list, size_t count, struct status *st);
/* Notes now and then: LSNs up to that are as old as now. For snapshot_record_lsn_before. */
MUST_CHECK bool snapshot_record_mark(struct snapshot_record *r, uint64_t lsn, struct status *st);

struct snapshot_note {
    char name[SNAPSHOT_NAME_MAX];
    int64_t seen_us; /* by snapshot_record_now */
    uint64_t lsn;
    int64_t verified_at; /* wall, when it was verified last; 0: never */
    bool good;           /* it did verify */
    bool written;        /* by this server, and `sum` is its sum */
    uint8_t sum[SNAPSHOT_SUM_BYTES];
};
bool snapshot_record_find(struct snapshot_record *r, const char *name, struct snapshot_note *ret);
/* Of those that verified the one of the highest LSN. */
bool snapshot_record_last_good(struct snapshot_record *r, struct snapshot_note *ret);
/* Everything up to this LSN is older than so many days; 0: nothing that is known. */
uint64_t snapshot_record_lsn_before(struct snapshot_record *r, uint32_t days);

#endif
