/*
 * fields.h - the fields of a document and its chunks that can be filtered on, read from their records.
 *
 * Paths: id, title, author, document_type, source_url, tags, created_at (of the document); chunk_id, text, page_number, chunk_index (of the chunk);
 * every other path is one of custom metadata, members joined by points ("year", "source.lang"; a leading "metadata." may be written and is dropped).
 * Custom metadata of the chunk comes before that of the document: a path that has a value in the chunk's hides the document's, of whatever types. Of two
 * members that make the same path ({"a.b":1,"a":{"b":2}}) the first counts, and members that make a path of the list above do not. Strings and arrays
 * of strings are keywords (and a string that is an RFC 3339 time or date a time as well), numbers numbers; null and arrays or objects of other things have
 * no value. Neither have paths over FIELD_PATH_BYTES_MAX bytes.
 *
 * Which have columns: all but id, chunk_id, title and text. Ids are found by the id table; a title is as good as an id in what it costs (some 150 bytes for
 * each document, for a filter that few write), and texts are for searching. These are read from the records. A source_url costs as much as a
 * title, but asking for one page's or file's chunks is common. Strings over FIELD_KEYWORD_BYTES_MAX bytes and arrays of over COLUMN_KEYWORDS_MAX strings
 * have a value without strings (count 0): filters read the record.
 */
#ifndef QUIRE_STORE_FIELDS_H
#define QUIRE_STORE_FIELDS_H

#include "index/columns.h"
#include "store/op.h"

#define FIELD_KEYWORD_BYTES_MAX 256
#define FIELD_PATH_BYTES_MAX 256

/* Working memory for extraction; slices of what it gives point into it or into the record. One per thread. */
struct field_reader;
struct field_reader *field_reader_new(void);
void field_reader_free(struct field_reader *r); /* takes NULL */
/* From now on values keep their strings, however long or many: for filters that read records. */
void field_reader_keep_all(struct field_reader *r);
/* Begins a document: parses its metadata once. False: no memory. Metadata that does not parse counts as empty. */
MUST_CHECK bool fields_of_document(struct field_reader *r, const struct op_document *d, struct status *st);
/* The values of one of its chunks, valid until the next call. */
MUST_CHECK bool fields_of_chunk(struct field_reader *r, const struct op_chunk *c, uint32_t chunk_index, struct field_values *ret,
                                struct status *st);

/* An RFC 3339 time, or a date (its midnight, UTC). */
bool field_time_parse(struct slice text, int64_t *ret_us);

#endif
