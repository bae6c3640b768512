/* check_internal.h - what the files of the check share. check.c: log, snapshots, checkpoint, the report; check_rows.c: files, rows and vectors of a library;
 * check_index.c: its graph, postings and columns. */
#ifndef QUIRE_DURABLE_CHECK_INTERNAL_H
#define QUIRE_DURABLE_CHECK_INTERNAL_H

#include "durable/check.h"
#include "durable/checkpoint.h"
#include "store/fields.h"
#include "store/reading.h"

struct checking {
    const struct check_options *options;
    struct check_report report;
    uint64_t told[CHECK_PARTS]; /* faults that are in the report, of this library */
    size_t room;                /* for faults */
    bool no_memory;
};

/* One library under check. A file that is missing or short leaves its map closed, and what needs it is not checked. */
struct library_check {
    struct checking *k;
    struct check_library *result;
    const struct checkpoint_library *saved;
    struct arena arena;
    struct reading rd; /* over arena */
    struct library_definition definition;
    bool has_definition;
    bool has_rows, has_vectors, has_graph, has_postings, has_columns;
    /* a bit per file, in the checkpoint's order */
    uint32_t unsound;    /* told already */
    uint32_t unreadable; /* not mapped: the disk fails, and to touch what it cannot give would end the process */
};

struct fault_place {
    enum check_place place;
    uint64_t number;
};
#define AT_SLOT(slot) ((struct fault_place){CHECK_SLOT, (slot)})
#define AT_ROW(row) ((struct fault_place){CHECK_ROW, (row)})
#define AT_NO_PLACE ((struct fault_place){CHECK_NOWHERE, 0})

/* file: within the data directory. `count` faults of which this one is told. */
void check_fault(struct checking *k, struct check_count *count, enum check_part part, uint64_t faults, const char *file,
                 struct fault_place at, const char *fmt, ...) PRINTF_LIKE(7, 8);
/* file: of the library's arena. */
void library_fault(struct library_check *l, enum check_part part, const char *file, struct fault_place at, const char *fmt, ...)
    PRINTF_LIKE(5, 6);
/* What a validator counted; UINT64_MAX is no memory. */
void library_faults(struct library_check *l, enum check_part part, const char *file, uint64_t faults, const char *detail);
struct check_count *library_part(struct library_check *l, enum check_part part);

/* --- check_rows.c --- */
/* Checks one library whole; l->k, result and saved are set. */
MUST_CHECK bool check_library(struct library_check *l, int vectors_dir_fd, struct status *st);

/* --- check_index.c --- */
void check_graph(struct library_check *l);
MUST_CHECK bool check_postings(struct library_check *l, struct status *st);
MUST_CHECK bool check_columns(struct library_check *l, struct status *st);

#endif
