/*
 * import_source.h - what `quire import` reads: NDJSON (a file or standard input), a file of a kind that import_file.h knows, a directory of all of them, or several.
 *
 * Every document gets an id that is the same on every run, which is why an import can be run again: an NDJSON line's own "id", else "ndjson:" and half the
 * SHA-256 of the line; a file's "file:" and its real path. Lines come as they are; files are named only, and read and converted by whoever sends them
 * (import_file_load), so that several are at once.
 *
 * In a directory hidden files and folders and symbolic links are passed over and counted, and so is what an --exclude matches.
 */
#ifndef QUIRE_CLI_IMPORT_SOURCE_H
#define QUIRE_CLI_IMPORT_SOURCE_H

#include "cli/import_file.h"
#include "cli/import_known.h"

struct import_source_options {
    const char *const *excludes; /* globs of fnmatch(3), for a name or a path below the directory */
    size_t exclude_count;
    struct import_known *known; /* files that are met are marked as seen; may be NULL */
};

/* What was passed over. */
struct import_passed {
    uint64_t other_kinds, hidden, excluded, links, pdf; /* pdf: for want of pdftotext */
    char dangling[200];                                 /* one link that leads nowhere, or "" */
    uint64_t dangling_count;
    uint64_t unreadable; /* files or folders that could not be looked at */
};

struct import_source;
/* One path or several, one after the other; "-" is standard input. False: one of them is not there. paths and options live as long as the source. */
MUST_CHECK bool import_source_open(char *const *paths, size_t count, const struct import_source_options *options, struct import_source **ret, struct status *st);
void import_source_close(struct import_source *s);
/* The next document. 1: there is one (the caller frees it), maybe yet to be loaded; 0: the end; -1: this one cannot be read, *st says why and where, the
 * next call goes on; -2: the source itself failed. */
int import_source_next(struct import_source *s, struct import_document *ret, struct status *st);
/* The place of what import_source_next has returned last, from 1 on. */
uint64_t import_source_order(const struct import_source *s);
/* Bytes of lines read so far, and of all in all (0: not known). */
void import_source_progress(const struct import_source *s, uint64_t *ret_done, uint64_t *ret_total);
const struct import_passed *import_source_passed(const struct import_source *s);
bool import_source_has_files(const struct import_source *s); /* a directory, or a file that is no NDJSON */
const char *import_source_root(const struct import_source *s); /* the real path of a directory, the last where there are several, or NULL */

#endif
