/* snapshot_read.h - loading in two steps, for recovery: it verifies a snapshot, looks at the log, and only then loads. */
#ifndef QUIRE_DURABLE_SNAPSHOT_READ_H
#define QUIRE_DURABLE_SNAPSHOT_READ_H

#include "durable/snapshot_archive.h"

/* *ret_fd is the caller's to close, *ret to free with verified_fini. */
MUST_CHECK bool snapshot_open_verified(int snapshots_dir_fd, const char *name, const struct limits *limits, int *ret_fd,
                                       struct verified *ret, struct status *st);
MUST_CHECK bool snapshot_load_verified(int fd, const struct verified *v, const struct limits *limits, snapshot_op_fn fn,
                                       void *ctx, struct status *st);

#endif
