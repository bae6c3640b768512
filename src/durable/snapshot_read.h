/* snapshot_read.h - loading in two steps, for recovery: it verifies a snapshot with all that it rests on, looks at the log, and only then loads. These two,
 * and snapshot_load, which is both, are the only doors to what is in archives. Files are opened by io_open_at in the directory of snapshots, and none
 * beside. */
#ifndef QUIRE_DURABLE_SNAPSHOT_READ_H
#define QUIRE_DURABLE_SNAPSHOT_READ_H

#include "durable/oplog.h"
#include "durable/snapshot_archive.h"

struct snapshot_link {
    int fd;
    struct verified v;
    bool *taken; /* as v.library: whether it is part of the newest state */
};
struct snapshot_chain {
    struct snapshot_link *links; /* the newest first, a whole one last */
    size_t count;
};

/* Opens and verifies all of the chain. Not found: STATUS_NOT_FOUND (SUBJECT_SNAPSHOT); no good, or one of its bases: STATUS_CORRUPT, STATUS_MALFORMED or
 * STATUS_TOO_LARGE, which names the archive. */
MUST_CHECK bool snapshot_open_verified(int snapshots_dir_fd, const char *name, const struct limits *limits, struct snapshot_chain **ret,
                                       struct status *st);
/* The same, unless *cancel becomes true: then STATUS_BUSY. */
MUST_CHECK bool snapshot_open_until(int snapshots_dir_fd, const char *name, const struct limits *limits, const bool *cancel, struct snapshot_chain **ret,
                                    struct status *st);
const struct snapshot_info *snapshot_chain_info(const struct snapshot_chain *c); /* of the newest */
const struct buf *snapshot_chain_keys(const struct snapshot_chain *c);           /* its idempotency.jsonl; those of older links are history */
const struct buf *snapshot_chain_api_keys(const struct snapshot_chain *c);       /* its api_keys.jsonl, likewise */
/* Hands the libraries out, each from where it is, the oldest archive first. */
MUST_CHECK bool snapshot_load_verified(const struct snapshot_chain *c, const struct limits *limits, snapshot_op_fn fn, void *ctx,
                                       struct status *st);
/* An archive of another server, or of a copy that went another way, may be good in itself. Where the log reaches back to its LSN, it has the stretch in which
 * an archive of its own was cut, or was begun behind it. (Older programs did not say where.) */
bool snapshot_is_of_log(const struct snapshot_info *info, struct oplog *log);
void snapshot_chain_free(struct snapshot_chain *c); /* takes NULL */

#endif
