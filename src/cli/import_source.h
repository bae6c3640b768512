/*
 * import_source.h - what `quire import` reads: NDJSON (a file or standard input), a text or Markdown file, or a directory of all
 * of them.
 *
 * Every document gets an id that is the same on every run, which is why an import can be run again: an NDJSON line's own "id",
 * else "ndjson:" and half the SHA-256 of the line; a file's "file:" and its path below what was named, with the SHA-256 of its
 * content in the metadata as "content_sha256", so that a changed file is told from an unchanged one.
 */
#ifndef QUIRE_CLI_IMPORT_SOURCE_H
#define QUIRE_CLI_IMPORT_SOURCE_H

#include "base/buf.h"

struct import_document {
    struct buf json; /* the document, as the server takes it */
    char id[160];
    char content_sha256[65]; /* of a file; "" for NDJSON */
    char where[256];         /* "notes.ndjson:12" or a path, for messages */
};
void import_document_fini(struct import_document *d);

struct import_source;
MUST_CHECK bool import_source_open(const char *path, struct import_source **ret, struct status *st);
void import_source_close(struct import_source *s);
/* The next document. 1: there is one (the caller frees it); 0: the end; -1: this one cannot be read, *st says why and where, the
 * next call goes on; -2: the source itself failed. */
int import_source_next(struct import_source *s, struct import_document *ret, struct status *st);
/* Bytes read so far, and in all (0: not known). */
void import_source_progress(const struct import_source *s, uint64_t *ret_done, uint64_t *ret_total);
uint64_t import_source_skipped(const struct import_source *s); /* files of other kinds in directories */

#endif
