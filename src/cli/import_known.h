/*
 * import_known.h - the files that a library holds already: which id, which content, and, once the directory has been walked, which of them are gone.
 *
 * Filled once before an import of files, so that what has not changed is neither converted nor sent. Only documents that `quire import` made of files are in it (they have
 * a content_sha256). Written by the thread that walks; others only read the sums.
 */
#ifndef QUIRE_CLI_IMPORT_KNOWN_H
#define QUIRE_CLI_IMPORT_KNOWN_H

#include "cli/cli.h"

struct import_known_file {
    char *id;
    char *path; /* below which root is told by it: of the source_url, or the id; NULL: not known */
    char content_sha256[65];
    bool seen;
};

struct import_known {
    struct import_known_file *files; /* by id */
    size_t count, room;
};

/* STATUS_DENIED: the key may not read; then nothing is known. */
MUST_CHECK bool import_known_load(struct import_known *k, struct cli *cli, const char *library, struct status *st);
void import_known_fini(struct import_known *k);
/* NULL: it is not there. */
struct import_known_file *import_known_find(const struct import_known *k, const char *id);
/* Below this directory (its real path), or that file itself. */
bool import_known_is_below(const struct import_known_file *f, const char *root);

#endif
