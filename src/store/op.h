/*
 * op.h - the op encoding: what a write is, in bytes. The same bytes go through the channel, into the log, through replay and to a replica.
 *
 *   op       = type u8, version u8 (1; DOCUMENT_PUT: 2; a definition with an exchange: 2; VECTORS of the other model: 2), library 16 bytes, then by type:
 *   LIBRARY_CREATE, LIBRARY_UPDATE
 *              created_at u64 (us), index type u8, m varint, ef_construction varint, ef_search varint,
 *              quantization strategy u8, bits u8, rerank_top_k varint, on_embedding_failure u8, snapshot_vectors u8, dimension varint,
 *              name, description, embedding_model, language, metadata (JSON object): each varint length + bytes
 *              (an update carries the whole new definition); then, where the model is being exchanged, or the one before is kept:
 *              state u8, since u64 (us), task 16 bytes, and of the other model: fingerprint u64, dimension varint, name (varint length + bytes)
 *   LIBRARY_MODEL
 *              switches u8 (1: from here on the vectors are another model's, and none of those before count), then as LIBRARY_UPDATE. Every step of an exchange
 *              (exchange.h) is one; those that switch are the supervisor's alone
 *   LIBRARY_DELETE
 *   DOCUMENT_PUT
 *              mode u8 (bits 0 and 1: create, or replace-or-create; bits 2 to 6: there is an author, document_type, source_url, tags, metadata),
 *              created_at u64 (us), document id, title, and those that there are of author, document_type (else it is "text"), source_url,
 *              tags (JSON array), metadata (JSON object): each varint length + bytes; number of chunks varint; per chunk:
 *              id, text, metadata (JSON object or empty), each varint length + bytes; page number varint (0: none, else number + 1);
 *              then vector dimension varint (0: the vectors are not part of the op) and chunks * dimension float32
 *   DOCUMENT_DELETE  document id, varint length + bytes
 *   CHUNKS_DELETE    number varint, then chunk ids, varint length + bytes each
 *   VECTORS          (written by the supervisor, when a provider has answered; no worker may send one)
 *              model fingerprint u64 (not 0), dimension varint, number varint; per chunk: id (varint length + bytes), hash of its text u64;
 *              then number * dimension float32. Number 0: what model the library's vectors are of is all that it says. Version 2: they are of the other model
 *              of an exchange under way (exchange.h), and none of what serves
 *   LOG_CLOSE        (written by the supervisor at an orderly stop, library zero, no payload)
 *   GROUP            (written by the supervisor for a request with an Idempotency-Key: op_group.h)
 *   KEY_ADD          (library zero) id 16 bytes, SHA-256 of the secret 32 bytes, created_at u64 (us), expires_at u64 (us; 0: never), scopes u8
 *                    (enum key_scope), reach u8 (0: all libraries, 1: those that follow), name (varint length + bytes), number of libraries
 *                    varint, their ids ascending, 16 bytes each
 *   KEY_REMOVE       (library zero) id 16 bytes
 *
 * Version 1 of a DOCUMENT_PUT, which is still read, has all five, empty ones as a length of 0, and no bits 2 to 6. Most documents have none of them, and each
 * durable write pays for each byte.
 *
 * A decoder accepts exactly what the encoder writes: every length is checked against what is left before anything is allocated,
 * trailing bytes are refused, texts are UTF-8, ids valid, metadata not checked beyond UTF-8 (a worker that lies there makes a reply that does
 * not parse, nothing worse). The bytes of a DOCUMENT_PUT up to the vector dimension are copied to the arena's records as they are; document
 * and chunk rows hold offsets into them.
 */
#ifndef QUIRE_STORE_OP_H
#define QUIRE_STORE_OP_H

#include "store/limits.h"
#include "store/model.h"

enum op_type {
    OP_LIBRARY_CREATE = 1,
    OP_LIBRARY_UPDATE = 2,
    OP_LIBRARY_DELETE = 3,
    OP_DOCUMENT_PUT = 4,
    OP_DOCUMENT_DELETE = 5,
    OP_CHUNKS_DELETE = 6,
    OP_LOG_CLOSE = 7,
    OP_GROUP = 8, /* several ops in one log record: op_group.h; no op_decode takes it */
    OP_KEY_ADD = 9,
    OP_KEY_REMOVE = 10,
    OP_VECTORS = 11,
    OP_LIBRARY_MODEL = 12
};
#define OP_VERSION 1
#define OP_DOCUMENT_VERSION 2
#define OP_EXCHANGE_VERSION 2 /* of library ops whose definition has an exchange */
#define OP_OTHER_VERSION 2    /* of VECTORS of the other model */

enum put_mode { PUT_CREATE = 1, PUT_REPLACE = 2 };

/* The exchange of a library's model, as far as it is: what a restart goes on from. See exchange.h. */
struct library_exchange {
    uint32_t state;       /* enum exchange_state; EXCHANGE_NONE: nothing of the rest counts */
    int64_t since;        /* when it came to that state */
    struct uuid task;     /* which clients look at */
    uint64_t fingerprint; /* of the other model: the one that is built for, or the one before. 0: the caller brought the vectors */
    uint32_t dimension;
    struct slice model;
};

/* A library as its creator defined it. Slices point into somebody's bytes. */
struct library_definition {
    int64_t created_at;
    struct index_settings index;
    struct quantization_settings quantization;
    uint32_t on_embedding_failure;
    bool snapshot_vectors;
    uint32_t dimension; /* 0: not fixed yet (embedding_model "none" before its first vector) */
    struct slice name, description, embedding_model, language;
    struct slice metadata; /* JSON object; may be empty */
    struct library_exchange exchange;
};

struct op_document {
    uint8_t mode; /* enum put_mode */
    int64_t created_at;
    struct slice id; /* encoded */
    struct slice title, author, document_type, source_url;
    struct slice tags;     /* JSON array of strings; may be empty */
    struct slice metadata; /* JSON object; may be empty */
    uint32_t num_chunks;
    struct slice chunks;   /* their encoded bytes; walk with chunk_walk */
    size_t chunks_offset;  /* of `chunks` within the op */
    size_t record_length;  /* of the op up to the vector dimension: what goes to the records */
    uint32_t vector_dimension; /* 0: the op carries no vectors */
    struct slice vectors;  /* num_chunks * vector_dimension float32, little-endian, not aligned */
};

struct op_chunk {
    struct slice id; /* encoded */
    struct slice text;
    struct slice metadata;
    int64_t page_number; /* -1: none */
    size_t offset;       /* of this chunk's bytes within the op (or record) */
    size_t length;
};

/* An API key. Its secret is nowhere but with its holder. */
#define KEY_DIGEST_BYTES 32
#define KEY_NAME_MAX LIMIT_KEY_NAME_BYTES
#define KEY_LIBRARIES_MAX LIMIT_KEY_LIBRARIES
enum key_scope { KEY_READ = 1, KEY_WRITE = 2, KEY_ADMIN = 4, KEY_SCOPES = 7 };
struct op_key {
    struct uuid id;
    uint8_t digest[KEY_DIGEST_BYTES]; /* SHA-256 of the secret */
    int64_t created_at;
    int64_t expires_at;     /* 0: never */
    uint8_t scopes;         /* enum key_scope */
    bool all;               /* libraries, those to come included */
    struct slice name;
    uint32_t library_count; /* 0 where it is for all */
    struct slice libraries; /* ascending ids */
};

/* Vectors that a provider has made for chunks that are there already. */
struct op_vectors {
    bool other;           /* for the side of an exchange under way */
    uint64_t fingerprint; /* of the model; never 0 */
    uint32_t dimension;
    uint32_t count;
    struct slice chunks; /* their ids and hashes, encoded; walk with op_vectors_next */
    struct slice values; /* count * dimension float32, little-endian, not aligned */
};

struct op {
    uint8_t type;
    bool switches; /* LIBRARY_MODEL */
    struct uuid library;
    struct slice bytes; /* the whole encoded op */
    union {
        struct library_definition definition;
        struct op_document document;
        struct slice document_id;
        struct {
            uint32_t count;
            struct slice ids;
        } chunk_ids;
        struct op_key key; /* of a KEY_REMOVE: its id alone */
        struct op_vectors vectors;
    } as;
};

/* limits: the configuration's, for a write that a worker asks for; NULL for what is logged already, where only the widest limits hold (a limit that
 * was lowered since must not make the log unreadable). Slices of *ret point into bytes. */
MUST_CHECK bool op_decode(struct slice bytes, const struct limits *limits, struct op *ret, struct status *st);

/* Walks encoded chunks (of an op, or of a record). */
struct chunk_walk {
    struct slice bytes;
    size_t at;
    size_t base; /* added to op_chunk.offset */
};
bool chunk_walk_next(struct chunk_walk *w, struct op_chunk *ret);
/* Decodes one chunk whose bytes begin at `bytes`. */
bool op_chunk_decode(struct slice bytes, struct op_chunk *ret);
/* Decodes the document part of a record (a DOCUMENT_PUT up to its vectors). */
bool op_document_decode(struct slice record, struct op_document *ret);
/*
 * A number that changes with every change of a document: of its record (created or replaced, which is no difference) and of how many of its chunks still
 * live. Never 0 or 1. The same after a restart, a compaction and a restore.
 */
#define DOCUMENT_VERSION_NONE 0 /* in a condition: there is none */
#define DOCUMENT_VERSION_ANY 1  /* in a condition: the document must be there */
uint64_t document_version(struct slice record, uint32_t living_chunks);

/* Walks the encoded ids of a CHUNKS_DELETE. */
bool chunk_ids_next(struct slice ids, size_t *at, struct slice *ret_id);

/* Walks the chunks of a VECTORS. */
bool op_vectors_next(struct slice chunks, size_t *at, struct slice *ret_id, uint64_t *ret_text_hash);

void op_encode_library(struct buf *out, enum op_type type, const struct uuid *library, const struct library_definition *d);
/* LIBRARY_MODEL */
void op_encode_library_model(struct buf *out, const struct uuid *library, const struct library_definition *d, bool switches);
/* The definition within a LIBRARY_CREATE, LIBRARY_UPDATE or LIBRARY_MODEL, as it stands in records. */
struct slice op_definition_bytes(const struct op *op);
/* A creation, change or deletion of a library itself. */
bool op_is_of_library(const struct op *op);
void op_encode_library_delete(struct buf *out, const struct uuid *library);
/* Begins a DOCUMENT_PUT (fields of d before num_chunks are used), then num_chunks times op_encode_chunk, then op_encode_vectors. */
void op_encode_document(struct buf *out, const struct uuid *library, const struct op_document *d);
void op_encode_chunk(struct buf *out, const struct op_chunk *c);
/* dimension 0: none. values: count * dimension floats. */
void op_encode_vectors(struct buf *out, const float *values, uint32_t count, uint32_t dimension);
void op_encode_document_delete(struct buf *out, const struct uuid *library, struct slice document_id);
void op_encode_chunks_delete(struct buf *out, const struct uuid *library, const struct slice *ids, uint32_t count);
/* A chunk that a VECTORS is about. */
struct op_vector_of {
    struct slice id; /* encoded */
    uint64_t text_hash;
    const float *values; /* dimension floats */
};
/* head: what `chunks` and `values` do not say. chunks: head->count of them. */
void op_encode_vectors_of(struct buf *out, const struct uuid *library, const struct op_vectors *head, const struct op_vector_of *chunks);
void op_encode_log_close(struct buf *out);
void op_encode_key_add(struct buf *out, const struct op_key *key);
void op_encode_key_remove(struct buf *out, const struct uuid *id);
static inline bool op_is_of_keys(const struct op *op) {
    return op->type == OP_KEY_ADD || op->type == OP_KEY_REMOVE;
}
/* A library definition alone, as it stands in the records (the payload of LIBRARY_CREATE). */
bool library_definition_decode(struct slice bytes, struct library_definition *ret);

const char *op_type_name(uint8_t type);

#endif
