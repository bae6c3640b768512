/*
 * snapshot.h - plain archives of libraries, `snapshot_<YYYYMMDD>_<HHMMSS>.tar[.gz|.zst|.xz]` in <data>/snapshots/, for tar, jq and
 * sha256sum -c.
 *
 * The layout of the archive and of its JSON stands at the top of snapshot_write.c. Written through libarchive (pax) from an
 * immutable cut at one LSN to a temporary name; then fsync, rename, fsync of the directory. Only then may the log before it go.
 *
 * An archive is whole, or incremental: then it holds the libraries that changed since its base, and says of all others in which archive of the chain behind
 * it they are (snapshot_chain.c). Whoever verifies or loads one by its name gets all of its chain, verified before the first op.
 */
#ifndef QUIRE_DURABLE_SNAPSHOT_H
#define QUIRE_DURABLE_SNAPSHOT_H

#include "store/catalog.h"
#include "store/idempotency.h"

/* What an archive says it needs: 1 for a whole one, 2 for an incremental one. */
#define SNAPSHOT_FORMAT_WHOLE 1
#define SNAPSHOT_FORMAT 2
#define SNAPSHOT_NAME_MAX 64
#define SNAPSHOT_CHAIN_LINKS_MAX 256 /* that a reader follows, the newest included */

enum snapshot_compression { SNAPSHOT_PLAIN, SNAPSHOT_GZIP, SNAPSHOT_ZSTD, SNAPSHOT_XZ };

struct snapshot_info {
    char name[SNAPSHOT_NAME_MAX];
    int64_t created_at;
    uint64_t lsn;
    uint64_t bytes;
    uint32_t libraries; /* as all counts: of the state, wherever in the chain its parts are */
    uint64_t documents;
    uint64_t chunks;
    char base[SNAPSHOT_NAME_MAX]; /* of an incremental one; "": it is whole */
    uint64_t base_lsn;            /* what is in it changed after that */
    uint32_t depth;               /* archives behind it */
    uint64_t log_place;           /* oplog_position.place at the cut; 0: not said */
};

/* An immutable cut: the views of all libraries at one LSN, each library acquired. Taken by the committer's thread (or with
 * commits stopped). */
struct snapshot_cut {
    uint64_t lsn;
    uint64_t log_place; /* the caller's to set: oplog_position.place; 0: there is no log */
    struct library **libraries;
    struct reading *readings;
    uint64_t *changed; /* LSN of each library's last change: text, deletion or definition */
    size_t count;
    struct buf api_keys; /* api_keys.jsonl as of the LSN; the caller fills it in */
    struct idempotency *keys; /* what of it belongs to the LSN is written, too; the caller sets it. NULL: none */
};
MUST_CHECK bool snapshot_cut_take(struct catalog *c, struct snapshot_cut *ret, struct status *st);
void snapshot_cut_release(struct catalog *c, struct snapshot_cut *cut);

/* What an incremental archive must know of the one that it rests on. */
struct snapshot_base;
/* Of one that lies there: it is verified with its chain first, unless *cancel (may be NULL) becomes true: STATUS_BUSY. */
MUST_CHECK bool snapshot_base_open(int snapshots_dir_fd, const char *name, const bool *cancel, struct snapshot_base **ret, struct status *st);
void snapshot_base_free(struct snapshot_base *b); /* takes NULL */
const struct snapshot_info *snapshot_base_info(const struct snapshot_base *b);
#define SNAPSHOT_SUM_BYTES 32
const uint8_t *snapshot_base_sum(const struct snapshot_base *b); /* the SHA-256 of its SHA256SUMS */

struct snapshot_options {
    enum snapshot_compression compression;
    unsigned level;           /* 0: as the format presets it */
    bool include_embeddings;  /* vectors of models, whatever the library says */
    uint32_t chain_max;       /* archives behind an incremental one; 0: always whole */
    const struct snapshot_base *base; /* to rest on, of the same log and state as the cut; NULL: none. It is whole none the less when the chain is at its bound, a
                                       * link is gone, or less than a quarter would be saved */
};

/* Writes the cut. May run on any thread while commits go on. `cancel` (may be NULL) is looked at between documents; when it
 * becomes true: STATUS_BUSY. *ret_base (may be NULL): for the next one. */
MUST_CHECK bool snapshot_write(int snapshots_dir_fd, const struct snapshot_cut *cut, const struct snapshot_options *options, const bool *cancel,
                               struct snapshot_info *ret, struct snapshot_base **ret_base, struct status *st);

/* Complete ones, newest first (by LSN, then name), malloc'd. Looks at names and manifests only. Temporary files are ignored. */
MUST_CHECK bool snapshot_list(int snapshots_dir_fd, struct snapshot_info **ret, size_t *ret_count, struct status *st);
/* Reads the whole archive, and all that it rests on, and holds each against its SHA256SUMS. */
MUST_CHECK bool snapshot_verify(int snapshots_dir_fd, const char *name, struct snapshot_info *ret, struct status *st);

/* A valid name in the 16 bytes that a command and a task have for what they are about, and back. */
void snapshot_name_pack(const char *name, struct uuid *ret);
bool snapshot_name_unpack(const struct uuid *packed, char out[SNAPSHOT_NAME_MAX]); /* false: it is none */

/* One op out of a snapshot. Vectors that callers brought are part of the op, those of a provider are VECTORS ops of their own. */
struct snapshot_op {
    const struct op *op;
    const float
        *vectors; /* of a DOCUMENT_PUT, made by a model: num_chunks * dimension floats, NaN first where one is missing; or NULL */
    uint32_t dimension;
    uint64_t model_fingerprint; /* of that model */
};
/* Reads a chain of archives (twice: verify, then load) and hands out its content as ops: for each library a LIBRARY_CREATE, then its
 * documents in their order. The ops are valid during the call. Trusted no more than bytes from outside. limits: for the size of
 * an entry that is taken into memory; NULL: the widest. */
typedef bool (*snapshot_op_fn)(const struct snapshot_op *op, void *ctx, struct status *st);
MUST_CHECK bool snapshot_load(int snapshots_dir_fd, const char *name, const struct limits *limits, snapshot_op_fn fn, void *ctx,
                              struct snapshot_info *ret, struct status *st);

/* Restores it on trial: all of the chain is read, verified, parsed, and what comes out is held against itself and the manifest's counts; nothing is kept.
 * STATUS_BUSY: it was cancelled. */
struct snapshot_trial_options {
    const bool *cancel; /* may be NULL; looked at between documents */
    void (*tell)(void *ctx, uint64_t done, uint64_t total); /* documents; may be NULL */
    void *ctx;
};
MUST_CHECK bool snapshot_trial(int snapshots_dir_fd, const char *name, const struct snapshot_trial_options *options, struct snapshot_info *ret,
                               struct status *st);

/* What stays: the newest `keep` (at least 1), of each of the last keep_days days the newest, the last one that verified; and all that one of these rests on.
 * By LSN what is newer, by the record's clock what is a day (snapshot_record.h). Removes the others and stale temporary files. */
struct snapshot_record;
struct snapshot_retention {
    uint32_t keep, keep_days;
    struct snapshot_record *record; /* NULL: days and verifications are not known, and only `keep` counts */
};
struct snapshot_pruned {
    uint32_t removed;
    uint32_t kept;
    uint64_t oldest_lsn; /* of those that stay; 0: there is none */
};
MUST_CHECK bool snapshot_prune(int snapshots_dir_fd, const struct snapshot_retention *retention, struct snapshot_pruned *ret, struct status *st);

#endif
