/*
 * document_write.h - several documents on their way to the supervisor in one submission: encoded one after the other, embedded in
 * one call.
 */
#ifndef QUIRE_API_DOCUMENT_WRITE_H
#define QUIRE_API_DOCUMENT_WRITE_H

#include "api/document.h"

struct batch_entry {
    size_t op_begin, op_len;        /* in ops */
    uint32_t first_text, num_texts; /* texts to embed; none where the caller brought vectors */
};
struct document_batch {
    struct buf ops;
    struct buf texts;   /* struct slice each */
    struct buf entries; /* struct batch_entry each */
    float *vectors;     /* of all texts; NULL: none, or the model cannot answer now and they stay pending */
    uint32_t dimension;
    uint64_t model;     /* its fingerprint */
    bool full; /* document_batch_add failed because the request as a whole asks for too much */
};

void document_batch_init(struct document_batch *b);
void document_batch_fini(struct document_batch *b);
/* Encodes one more. Its texts are not copied. */
MUST_CHECK bool document_batch_add(struct document_batch *b, struct exchange *x, const struct uuid *library,
                                   const struct document_input *input, enum put_mode mode, struct status *st);
size_t document_batch_count(const struct document_batch *b);
/* Valid until the next document_batch_add. */
struct slice document_batch_op(const struct document_batch *b, size_t i);
/* The vectors computed for entry i, or NULL. */
const float *document_batch_vectors(const struct document_batch *b, size_t i);
/* Computes the vectors of all texts. STATUS_TOO_LARGE where they would take too much of the worker's memory. */
MUST_CHECK bool document_batch_embed(struct document_batch *b, struct exchange *x, const struct library_model *model,
                                     struct status *st);
/* results: one for each entry. version: of the documents that they may replace (catalog_check_version). */
MUST_CHECK bool document_batch_submit(struct document_batch *b, struct exchange *x, uint64_t version, struct api_op_result *results,
                                      struct status *st);

#endif
