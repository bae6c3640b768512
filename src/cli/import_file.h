/*
 * import_file.h - from a file to a document: text and Markdown as they are (their front matter becomes metadata), HTML by import_html.h, PDF by import_pdf.h.
 */
#ifndef QUIRE_CLI_IMPORT_FILE_H
#define QUIRE_CLI_IMPORT_FILE_H

#include "base/buf.h"

enum import_kind { IMPORT_OTHER, IMPORT_NDJSON, IMPORT_MARKDOWN, IMPORT_TEXT, IMPORT_HTML, IMPORT_PDF };
#define IMPORT_KINDS ".md .markdown .txt .text .rst .html .htm .xhtml .pdf .ndjson .jsonl"

struct import_document {
    struct buf json; /* the document, as the server takes it; empty while `path` is not loaded */
    char id[160];
    char content_sha256[65]; /* of a file, once loaded; "" for NDJSON */
    char known_sha256[65];   /* what the server has under this id; "": nothing, or it is not known */
    char where[256];         /* "notes.ndjson:12" or a path, for messages */
    char *path;              /* real path of a file; NULL: a line */
    char *shown;             /* its path below the directory that was named */
    enum import_kind kind;
    uint64_t bytes; /* of the file */
    uint64_t order; /* its place in the source */
    char warning[STATUS_DETAIL_MAX]; /* once loaded: what is not as it should be, though it is taken; or "" */
};
void import_document_fini(struct import_document *d);

enum import_kind import_kind_of(const char *name);
/* "file:" and the path, or its hash where it is too long for an id or is no UTF-8. */
void import_file_id(const char *real_path, char ret_id[160]);

enum import_loaded { IMPORT_LOADED, IMPORT_UNCHANGED, IMPORT_EMPTY, IMPORT_FAILED };
/* Reads and converts d->path into d->json, unless it is what the server has and not `always`. IMPORT_FAILED: *st says why. */
enum import_loaded import_file_load(struct import_document *d, bool always, struct status *st);

/* --- pieces, for tests ------------------------------------------------------------------------------------------------- */

/* YAML between two lines "---" at the begin, with a line "key:" in it: how many bytes of the text it is, with both lines; 0: there is none. */
size_t import_front_matter(struct slice text, struct slice *ret_yaml);

struct json_object;
/* Adds what YAML says to a document: title, author and tags to `document`, all else to `metadata`. Scalars and lists of scalars are taken, the rest is passed over.
 * False: a value is not closed, and nothing was added. */
MUST_CHECK bool import_front_take(struct slice yaml, struct json_object *document, struct json_object *metadata, struct status *st);

/* Whether a text begins with the title as a heading ("# Title"), its words compared without regard to case. */
bool import_begins_with_title(struct slice text, struct slice title);

#endif
