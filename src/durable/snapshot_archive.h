/* snapshot_archive.h - reading the entries of a snapshot, trusting none of them: which names, how many, how large, and what their
 * sums are. */
#ifndef QUIRE_DURABLE_SNAPSHOT_ARCHIVE_H
#define QUIRE_DURABLE_SNAPSHOT_ARCHIVE_H

#include "durable/snapshot_format.h"

struct archive;

/* One pass over an archive. */
struct unpacking {
    int fd;             /* borrowed */
    const char *name;   /* of the archive, for messages */
    uint64_t size;      /* of the file */
    uint64_t entry_max; /* bytes of one entry */
    const bool *cancel; /* NULL: none. When it becomes true, reading ends with STATUS_BUSY */
    struct archive *archive;
    uint64_t offset;
    uint64_t unpacked;
    uint64_t entries;
    uint8_t *block;
    struct status st; /* of the call that failed inside libarchive */
};

struct unpacked_entry {
    char name[SNAPSHOT_ENTRY_MAX]; /* without a leading "./" */
    struct snapshot_entry_name what;
    uint64_t size; /* as its header says */
};

MUST_CHECK bool unpacking_begin(struct unpacking *u, int fd, const char *name, const struct limits *limits, struct status *st);
/* The next entry; directories are passed over. *ret_end: there is none. Anything but a regular file with a name that we give is
 * STATUS_MALFORMED. */
MUST_CHECK bool unpacking_next(struct unpacking *u, struct unpacked_entry *ret, bool *ret_end, struct status *st);
/* The content of the entry that was got last, into content (cleared first). */
MUST_CHECK bool unpacking_read(struct unpacking *u, const struct unpacked_entry *entry, struct buf *content, struct status *st);
void unpacking_end(struct unpacking *u); /* takes a zeroed one */

#define SHA256_BYTES 32
struct summed_entry {
    char name[SNAPSHOT_ENTRY_MAX];
    uint8_t sum[SHA256_BYTES];
};

/* manifest.json. */
struct manifest_library {
    struct uuid id;
    char archive[SNAPSHOT_NAME_MAX]; /* "": this one */
    bool vectors;                    /* that a model made are in it */
};
struct snapshot_manifest {
    struct snapshot_info info; /* but for name and bytes */
    uint8_t base_sum[SHA256_BYTES];
    struct manifest_library *libraries; /* ascending by id; of a whole archive as far as they can be read, for nothing rests on them */
    size_t library_count;
};
MUST_CHECK bool snapshot_parse_manifest(struct slice json, struct snapshot_manifest *ret, struct status *st);
void snapshot_manifest_fini(struct snapshot_manifest *m); /* takes a zeroed one */
const struct manifest_library *snapshot_manifest_find(const struct snapshot_manifest *m, const struct uuid *id);

/* What the first pass over an archive found, when all sums hold. */
struct verified {
    struct snapshot_manifest manifest; /* info with name and bytes */
    uint8_t sum[SHA256_BYTES];         /* of its SHA256SUMS: what those call it that rest on it */
    struct summed_entry *entries; /* ascending by name, SHA256SUMS not among them */
    size_t entry_count;
    struct buf libraries; /* every library.json, one after the other */
    struct verified_library {
        struct uuid id;
        size_t at; /* in libraries */
        size_t len;
    } * library; /* ascending by id */
    size_t library_count;
    struct buf keys; /* idempotency.jsonl */
    struct buf api_keys; /* api_keys.jsonl */
};

/* One archive, whatever it rests on. */
MUST_CHECK bool snapshot_verify_open(int fd, const char *name, const struct limits *limits, const bool *cancel, struct verified *ret,
                                     struct status *st);
void verified_fini(struct verified *v); /* takes a zeroed one */
/* Where it is in v->library. */
bool verified_find_library(const struct verified *v, const struct uuid *id, size_t *ret);
/* Whether content is that of the entry when it was verified. */
bool verified_matches(const struct verified *v, const char *entry, struct slice content);

/* All files that bear a snapshot's name, readable or not; malloc'd, in no order. */
MUST_CHECK bool snapshot_names(int snapshots_dir_fd, char (**ret)[SNAPSHOT_NAME_MAX], size_t *ret_count, struct status *st);

/* Says in the log which files bear a snapshot's name and are not in the list. */
MUST_CHECK bool snapshot_tell_unreadable(int snapshots_dir_fd, const struct snapshot_info *infos, size_t count, struct status *st);

#endif
