/*
 * snapshot_format.h - what writing and reading a snapshot share: the names of its entries, its words, its bounds. The layout
 * stands at the top of snapshot_write.c.
 */
#ifndef QUIRE_DURABLE_SNAPSHOT_FORMAT_H
#define QUIRE_DURABLE_SNAPSHOT_FORMAT_H

#include "base/json_front.h"
#include "durable/snapshot.h"
#include "embed/embedder.h"

#define SNAPSHOT_MANIFEST "manifest.json"
#define SNAPSHOT_SUMS "SHA256SUMS"
#define SNAPSHOT_KEYS "idempotency.jsonl"
#define SNAPSHOT_API_KEYS "api_keys.jsonl"
#define SNAPSHOT_TEMPORARY_PREFIX ".snapshot_"
#define SNAPSHOT_TEMPORARY_SUFFIX ".tmp"
#define SNAPSHOT_KIND "quire snapshot"
#define SNAPSHOT_NO_MODEL "none" /* the embedding_model of a library whose callers bring the vectors */

/* A file of documents is closed when it has reached that size, so an entry is at most that and one document. */
#define SNAPSHOT_DOCUMENTS_BYTES ((size_t)8 << 20)
#define SNAPSHOT_DOCUMENTS_FILES_MAX 999999

/* "libraries/", a UUID, "/documents-000001.jsonl" */
#define SNAPSHOT_ENTRY_MAX 80

enum snapshot_entry_kind { ENTRY_MANIFEST, ENTRY_SUMS, ENTRY_LIBRARY, ENTRY_DOCUMENTS, ENTRY_KEYS, ENTRY_API_KEYS, ENTRY_DIRECTORY, ENTRY_UNKNOWN };

struct snapshot_entry_name {
    enum snapshot_entry_kind kind;
    struct uuid library; /* of ENTRY_LIBRARY and ENTRY_DOCUMENTS */
    uint32_t number;     /* of ENTRY_DOCUMENTS, from 1 */
};

void snapshot_library_entry(const struct uuid *id, char out[SNAPSHOT_ENTRY_MAX]);
void snapshot_documents_entry(const struct uuid *id, uint32_t number, char out[SNAPSHOT_ENTRY_MAX]);
/* Exactly the names that are written; directories of them, too (ENTRY_DIRECTORY), which people's tar puts in. A leading "./" is
 * taken off by the caller. */
void snapshot_entry_parse(const char *name, struct snapshot_entry_name *ret);

/* snapshot_<YYYYMMDD>_<HHMMSS> and one of the four suffixes: the name of a complete archive. What it is compressed by is seen by its content, not by its
 * name. */
bool snapshot_name_valid(const char *name);
const char *snapshot_suffix(enum snapshot_compression compression); /* ".tar.zst" */

/* What a line of documents, a library.json or a manifest may hold. */
extern const struct json_limits snapshot_json_limits;

/* A number that stands for a word in the files, and back. NULL, false: there is none. */
const char *snapshot_index_word(uint32_t type);
bool snapshot_index_type(struct slice word, uint32_t *ret);
const char *snapshot_quantization_word(uint32_t strategy);
bool snapshot_quantization_strategy(struct slice word, uint32_t *ret);
const char *snapshot_failure_word(uint32_t on_failure);
bool snapshot_failure_action(struct slice word, uint32_t *ret);
const char *snapshot_exchange_word(uint32_t state);
bool snapshot_exchange_state(struct slice word, uint32_t *ret);

#endif
