/*
 * check.h - is a stopped server's data directory what it should be? Reads everything, believes nothing, writes nothing.
 *
 *   log          every segment and record, LSNs without gaps, up to what snapshots and checkpoint say was durable
 *   snapshots    every archive against its sums, every line of it as recovery would read it
 *   checkpoint   whether the arenas stand as an orderly stop left them; without one (a killed server) the next start makes them again, and there is
 *                nothing to check in them
 *   and of each library's arena:
 *   files        that they are there, as long as they should be, with the checkpoint's checksums
 *   rows         records decode; ids hash, are found through the id table and lead back; documents and chunks name each other; the view's counts are what the
 *                rows add up to
 *   vectors      the CRC of each
 *   graph        hnsw_validate; everything reachable; codes are those of the vectors; what is deleted is marked; what counts as linked is
 *   postings     lexical_validate; every living text analysed again is held; frequencies are those of the living texts
 *   columns      columns_validate; every living chunk's fields read again are held
 *
 * It goes on after a fault and counts. A file's sums tell a disk that forgot; the other checks tell what was wrong before the sums were made.
 */
#ifndef QUIRE_DURABLE_CHECK_H
#define QUIRE_DURABLE_CHECK_H

#include "store/arena.h"

enum check_part {
    CHECK_LOG,
    CHECK_SNAPSHOTS,
    CHECK_CHECKPOINT,
    CHECK_FILES, /* from here on: of each library */
    CHECK_ROWS,
    CHECK_VECTORS,
    CHECK_GRAPH,
    CHECK_POSTINGS,
    CHECK_COLUMNS,
    CHECK_PARTS
};
const char *check_part_name(enum check_part part);

enum { CHECK_NOTE_MAX = 256, CHECK_FILE_MAX = 128, CHECK_WHAT_MAX = 400, CHECK_FAULTS_TOLD = 8 };

struct check_count {
    bool checked;
    uint64_t looked_at; /* records, archives, libraries; files, rows, vectors, nodes, texts, chunks with their fields */
    uint64_t faults;
    char note[CHECK_NOTE_MAX]; /* what else there is to say, or why it could not be checked; or "" */
};

struct check_library {
    struct uuid id;
    char name[256];
    char directory[ARENA_DIRECTORY_MAX]; /* under vectors/ */
    struct check_count parts[CHECK_PARTS];
};

enum check_place { CHECK_NOWHERE, CHECK_SLOT, CHECK_ROW, CHECK_LSN };

struct check_fault {
    enum check_part part;
    char file[CHECK_FILE_MAX]; /* within the data directory */
    enum check_place place;
    uint64_t number; /* of the slot (chunk), row (document) or LSN */
    char what[CHECK_WHAT_MAX];
};

struct check_report {
    bool has_checkpoint;                   /* one that the next start would believe: the arenas were checked */
    uint64_t lsn;                          /* the checkpoint's */
    struct check_count parts[CHECK_PARTS]; /* of the whole; those of libraries are in `libraries` */
    struct check_library *libraries;
    size_t library_count;
    struct check_fault *faults; /* the first CHECK_FAULTS_TOLD of each part of each library */
    size_t fault_count;
    uint64_t total_faults;
};

struct check_options {
    int data_dir_fd;
    bool skip_sums; /* of the arenas' files: for tests, which look at what the sums would find first */
};

/* false: it could not check (a server is running, no data directory, no memory), and says so. */
MUST_CHECK bool check_run(const struct check_options *options, struct check_report *ret, struct status *st);
void check_report_fini(struct check_report *r); /* takes a zeroed one */
/* What to do about a fault of this part, for a sentence: "set it aside ...". */
void check_advice(const struct check_report *r, const struct check_fault *f, const char *data_dir, char *out, size_t room);

#endif
