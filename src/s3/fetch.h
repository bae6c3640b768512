/*
 * fetch.h - for `quire restore s3://...`: what a restore needs comes from a storage into <into>/restore.fetched/INSTANCE/, held against its names, and is read there by
 * the same code that reads archives and logs from anywhere (durable/restore.h).
 *
 * Of the newest snapshot at or before the target all that it rests on, and the log behind it. A snapshot that is damaged in the storage is passed over, with a
 * word, and the next older one taken. Nothing is fetched beyond max_bytes, or what the disk has room for. What an interrupted run had fetched stays and is used by the next
 * one, after it was held against its name again.
 */
#ifndef QUIRE_S3_FETCH_H
#define QUIRE_S3_FETCH_H

#include "s3/objects.h"

#include <limits.h>

struct s3_fetch_options {
    const char *into;   /* the data directory that will be restored into; made where it is not */
    uint64_t to_lsn;    /* 0: no such target */
    int64_t to_time_us; /* INT64_MAX: no such target */
    const struct uuid *instance; /* of the log; NULL: the one whose newest object is the last */
    uint64_t max_bytes; /* that may be fetched; 0: what is free, less a reserve */
    void (*tell)(void *ctx, const char *line); /* may be NULL */
    void *ctx;
};

struct s3_fetched {
    int into_fd; /* of the data directory; open until s3_fetched_close */
    char source[PATH_MAX];    /* for restore_options.source: the directory of snapshots; where there is none, that of the log */
    char log[PATH_MAX];
    struct uuid instance;
    uint64_t objects, bytes; /* that were fetched now */
};

/* Cuts an instance off the prefix's end, where it has one. */
bool s3_place_cut_instance(struct s3_place *place, struct uuid *ret);
/* STATUS_NOT_FOUND: there is no backup, or none at or before the target. STATUS_CONFLICT: there are several logs and none is clearly the last: give
 * s3://BUCKET/PREFIX/INSTANCE. STATUS_TOO_LARGE, STATUS_NO_SPACE. */
MUST_CHECK bool s3_fetch(struct s3_client *client, const struct s3_sealing *sealing, const struct s3_fetch_options *options, struct s3_fetched *ret, struct status *st);
/* The restore is done: what was fetched goes. Also as the owner of the directory, who may not be able to walk to it. */
MUST_CHECK bool s3_fetched_remove(const struct s3_fetched *f, struct status *st);
void s3_fetched_close(struct s3_fetched *f);

#endif
