/*
 * snapshot.h - plain archives of all libraries: `snapshot_<YYYYMMDD>_<HHMMSS>.tar.zst` in <data>/snapshots/, for tar, jq and
 * sha256sum -c.
 *
 * The layout of the archive and of its JSON stands at the top of snapshot_write.c. Written through libarchive (pax, zstd) from an
 * immutable cut at one LSN to a temporary name; then fsync, rename, fsync of the directory. Only then may the log before it go.
 */
#ifndef QUIRE_DURABLE_SNAPSHOT_H
#define QUIRE_DURABLE_SNAPSHOT_H

#include "store/catalog.h"
#include "store/idempotency.h"

#define SNAPSHOT_FORMAT 1
#define SNAPSHOT_NAME_MAX 64

struct snapshot_info {
    char name[SNAPSHOT_NAME_MAX];
    int64_t created_at;
    uint64_t lsn;
    uint64_t bytes;
    uint32_t libraries;
    uint64_t documents;
    uint64_t chunks;
};

/* An immutable cut: the views of all libraries at one LSN, each library acquired. Taken by the committer's thread (or with
 * commits stopped). */
struct snapshot_cut {
    uint64_t lsn;
    struct library **libraries;
    struct reading *readings;
    size_t count;
    struct idempotency *keys; /* what of it belongs to the LSN is written, too; the caller sets it. NULL: none */
};
MUST_CHECK bool snapshot_cut_take(struct catalog *c, struct snapshot_cut *ret, struct status *st);
void snapshot_cut_release(struct catalog *c, struct snapshot_cut *cut);

/* Writes the cut. May run on any thread while commits go on. `cancel` (may be NULL) is looked at between documents; when it
 * becomes true: STATUS_BUSY. */
MUST_CHECK bool snapshot_write(int snapshots_dir_fd, const struct snapshot_cut *cut, const bool *cancel,
                               struct snapshot_info *ret, struct status *st);

/* Complete ones, newest first (by LSN, then name), malloc'd. Looks at names and manifests only. Temporary files are ignored. */
MUST_CHECK bool snapshot_list(int snapshots_dir_fd, struct snapshot_info **ret, size_t *ret_count, struct status *st);
/* Reads the whole archive and holds it against SHA256SUMS. */
MUST_CHECK bool snapshot_verify(int snapshots_dir_fd, const char *name, struct snapshot_info *ret, struct status *st);

/* One op out of a snapshot. Vectors that callers brought are part of the op. */
struct snapshot_op {
    const struct op *op;
    const float
        *vectors; /* of a DOCUMENT_PUT, made by a model: num_chunks * dimension floats, NaN first where one is missing; or NULL */
    uint32_t dimension;
    uint64_t model_fingerprint; /* of that model */
};
/* Reads an archive (twice: verify, then load) and hands out its content as ops: for each library a LIBRARY_CREATE, then its
 * documents in their order. The ops are valid during the call. Trusted no more than bytes from outside. limits: for the size of
 * an entry that is taken into memory; NULL: the widest. */
typedef bool (*snapshot_op_fn)(const struct snapshot_op *op, void *ctx, struct status *st);
MUST_CHECK bool snapshot_load(int snapshots_dir_fd, const char *name, const struct limits *limits, snapshot_op_fn fn, void *ctx,
                              struct snapshot_info *ret, struct status *st);

/* Keeps the newest `keep` (at least 1), removes the others and stale temporary files. */
MUST_CHECK bool snapshot_prune(int snapshots_dir_fd, uint32_t keep, uint32_t *ret_removed, struct status *st);

#endif
