/*
 * backup.h - `quire backup --to s3://...`: what a server has on its disk goes up to a storage, and old things go from there.
 *
 * A pass: the log segments of archive_dir, then the newest snapshot that verifies with all that it rests on, then what of the log has come meanwhile, then
 * what is too old is removed. Nothing is remembered between passes but what the storage's listing says, so it can be killed at any moment and run again.
 * Files are read while the server goes on: both kinds appear by a rename and never change.
 *
 * One at a time: it holds a lock in <data>/backup/. There it also leaves `state`, which the server shows in /metrics (durable/backup_state.h).
 */
#ifndef QUIRE_S3_BACKUP_H
#define QUIRE_S3_BACKUP_H

#include "durable/backup_state.h"
#include "s3/objects.h"

struct s3_report {
    uint64_t uploaded, uploaded_bytes;
    uint64_t removed;
    uint64_t aborted; /* uploads that an earlier run left */
    uint64_t damaged; /* objects that the storage has, but not whole */
    struct backup_state state;
};

struct s3_backup;
/* Opens the data directory and takes the lock. STATUS_BUSY: another one holds it. The client and the key stay the caller's. tell may be NULL. */
MUST_CHECK bool s3_backup_open(struct s3_client *client, const struct s3_sealing *sealing, void (*tell)(void *ctx, const char *line), void *ctx,
                               struct s3_backup **ret, struct status *st);
void s3_backup_close(struct s3_backup *b); /* takes NULL */
/* One pass. The state is written, whatever comes of it. */
MUST_CHECK bool s3_backup_pass(struct s3_backup *b, struct s3_report *ret, struct status *st);

#endif
