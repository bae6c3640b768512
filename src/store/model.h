/*
 * model.h - the words of the product that all layers from store on share: libraries, documents, chunks, their ids and settings.
 */
#ifndef QUIRE_STORE_MODEL_H
#define QUIRE_STORE_MODEL_H

#include "base/buf.h"
#include "base/uuid.h"

/* What a status speaks of (struct status.subject). */
enum subject { SUBJECT_NONE, SUBJECT_LIBRARY, SUBJECT_DOCUMENT, SUBJECT_CHUNK, SUBJECT_TASK, SUBJECT_SNAPSHOT, SUBJECT_ROUTE, SUBJECT_KEY };

enum index_type { INDEX_HNSW = 1, INDEX_FLAT = 2 };
enum quantization_strategy { QUANTIZATION_NONE = 0, QUANTIZATION_SCALAR = 1, QUANTIZATION_HYBRID = 2 };
enum on_embedding_failure { ON_FAILURE_PENDING = 0, ON_FAILURE_REJECT = 1 };
/* Of a library's model, see exchange.h: an arena with another model is being built, the one before is kept, that one is to come back. */
enum exchange_state { EXCHANGE_NONE = 0, EXCHANGE_BUILDING = 1, EXCHANGE_KEPT = 2, EXCHANGE_RETURNING = 3 };

struct index_settings {
    uint32_t type; /* enum index_type */
    uint32_t m;
    uint32_t ef_construction;
    uint32_t ef_search;
};

struct quantization_settings { /* what a graph is walked on, see index/codes.h */
    uint32_t strategy;         /* enum quantization_strategy */
    uint32_t bits;
    uint32_t rerank_top_k;
};

/*
 * Ids of documents and chunks as they stand in ops and records: a tag byte, then either 16 bytes (the id is a canonical UUID) or the
 * text itself. So a server-made id costs 17 bytes. Both forms of one id cannot exist: encoding is canonical.
 */
#define ITEM_ID_UUID 0x01
#define ITEM_ID_TEXT 0x02
#define ITEM_ID_TEXT_MAX 128

/* text -> encoded, appended to out. False: empty, over 128 bytes, not UTF-8, or with control characters. */
bool item_id_encode(struct slice text, struct buf *out);
void item_id_encode_uuid(const struct uuid *id, struct buf *out);
/* Whether the bytes are a valid encoded id. */
bool item_id_valid(struct slice encoded);
/* encoded -> text. Returns its length; out has room for ITEM_ID_TEXT_MAX and a NUL, which is put. */
size_t item_id_text(struct slice encoded, char out[ITEM_ID_TEXT_MAX + 1]);
/* The hash that the id table uses; stands in files. */
uint64_t item_id_hash(struct slice encoded);
/* Order of the text forms: how ties between results are broken. */
int item_id_compare(struct slice a, struct slice b);

/* 64 bits of SHA-256 of a chunk's text: with the chunk's id it tells whether an old vector still fits. Never 0. */
uint64_t text_hash(struct slice text);

#endif
