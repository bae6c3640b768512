/* snapshot_parse.h - the JSON of a snapshot, read: from a library.json and from lines of documents to ops. */
#ifndef QUIRE_DURABLE_SNAPSHOT_PARSE_H
#define QUIRE_DURABLE_SNAPSHOT_PARSE_H

#include "durable/snapshot_format.h"

/* What a library's documents are read with. */
struct snapshot_library {
    struct uuid id;
    bool brings_vectors;        /* no model: its vectors are part of the ops */
    bool pinned;                /* a provider made its vectors: they come as VECTORS ops */
    uint64_t model_fingerprint; /* else of the model that made what vectors there are */
    uint32_t dimension;
    uint64_t other_fingerprint; /* of the other model of an exchange; 0: there is none */
    uint32_t other_dimension;
    int64_t created_at;
};

/* Encodes a LIBRARY_CREATE into op (cleared first). `entry` is for messages. */
MUST_CHECK bool snapshot_parse_library(struct slice json, const struct uuid *id, const char *entry, struct buf *op,
                                       struct snapshot_library *ret, struct status *st);

/* Working memory for documents; zero it first. */
struct document_parser {
    struct buf op;      /* the DOCUMENT_PUT */
    struct buf vectors; /* floats; of a model: for snapshot_op.vectors. */
    struct buf others;  /* likewise, of the other model */
    struct buf scratch;
    struct buf id;
    struct buf text;
    struct buf metadata;
};
void document_parser_fini(struct document_parser *p);

/* Encodes a DOCUMENT_PUT into p->op. *ret_vectors: num_chunks * dimension floats that a model made, valid until the next call, or
 * NULL. *ret_others: likewise, of the other model and its dimension. */
MUST_CHECK bool snapshot_parse_document(struct document_parser *p, const struct snapshot_library *library, struct slice line,
                                        struct op *ret_op, const float **ret_vectors, const float **ret_others, struct status *st);

#endif
