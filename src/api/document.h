/*
 * document.h - documents on their way in and out.
 *
 * In: document_parse reads one JSON object into a document_input, whose parts live in the request's pool and parsed body;
 * document_encode turns it into an op. Out: document_write shows a document as it is stored, or as it was just encoded.
 */
#ifndef QUIRE_API_DOCUMENT_H
#define QUIRE_API_DOCUMENT_H

#include "api/library.h"

struct chunk_input {
    struct slice id; /* encoded */
    struct slice text;
    struct slice metadata; /* JSON object, or empty */
    int64_t page_number;   /* -1: none */
    const float *vector;   /* the caller's, unit length; NULL: none */
    size_t source_begin;   /* of a chunk that was cut here: its text's place in the source, in bytes */
    struct slice section;  /* and the headings above it */
};

struct document_input {
    struct op_document fields; /* all but chunks */
    struct chunk_input *chunks;
    uint32_t num_chunks;
    bool has_vectors;     /* every chunk has the caller's */
    uint32_t dimension;   /* of those */
    const float *vectors; /* num_chunks * dimension, the chunks' one after the other; NULL: none */
    size_t text_bytes;
};

enum document_shape { DOCUMENT_PLAIN, DOCUMENT_EMBEDDED /* chunks:[{text, embedding}] */ };

/* `id`: the document's encoded id when the path gives it, else empty. What is wrong with members goes to the problems; false:
 * refused outright, *st says why. When problems were added the input is not to be used. */
MUST_CHECK bool document_parse(struct exchange *x, const struct place *at, struct json_object *object, enum document_shape shape,
                               const struct library_model *model, struct slice id, struct document_input *ret, struct status *st);

/* What a PATCH sets of a document. */
struct document_fields {
    bool sets_title, sets_author, sets_tags, sets_metadata; /* to what stands below, which is empty where null was given */
    struct slice title, author;
    struct slice tags;     /* JSON array, or empty */
    struct slice metadata; /* JSON object, or empty */
};
/* Problems are collected; the slices are the body's. */
void document_fields_read(struct exchange *x, const struct place *at, struct json_object *object, struct document_fields *ret);
void document_fields_apply(const struct document_fields *f, struct op_document *d);

/* Appends the DOCUMENT_PUT. */
void document_encode(struct buf *out, const struct uuid *library, const struct document_input *d, enum put_mode mode);

struct vector_form {
    bool include;
    bool base64;
};
void vector_write(struct json_out *j, const float *values, uint32_t dimension, bool base64);

/* What the chunks of one document share when they are shown. */
struct chunk_frame {
    int64_t created_at;
    struct slice document_id; /* encoded */
    uint32_t dimension;
    struct vector_form form;
};
/* vector: NULL where there is none. */
void chunk_write(struct json_out *j, const struct op_chunk *c, uint32_t index, const float *vector,
                 const struct chunk_frame *frame);
void document_write_summary(struct json_out *j, const struct reading *rd, const struct stored_document *d);
void document_write_stored(struct json_out *j, const struct reading *rd, const struct stored_document *d,
                           struct vector_form form);
/* As just submitted. vectors: num_chunks * dimension, or NULL. */
void document_write_new(struct json_out *j, const struct op_document *d, const float *vectors, uint32_t dimension,
                        struct vector_form form);
void item_id_write(struct json_out *j, struct slice encoded);

/* The document that the path's parameter `which` names, encoded into the pool; DocumentNotFoundError where it can be nobody's id.
 */
MUST_CHECK bool document_param(struct exchange *x, unsigned which, struct slice *ret_encoded, struct status *st);
/* The same for what `subject` says: SUBJECT_DOCUMENT or SUBJECT_CHUNK. */
MUST_CHECK bool item_param(struct exchange *x, unsigned which, uint16_t subject, struct slice *ret_encoded, struct status *st);

#endif
