/* op_format.h - constants of the op encoding (op.h) that encoder, decoder and the id table share. */
#ifndef QUIRE_STORE_OP_FORMAT_H
#define QUIRE_STORE_OP_FORMAT_H

#include "base/uuid.h"

#define OP_HEADER_BYTES (2 + UUID_BYTES) /* type, version, library */
/* In a DOCUMENT_PUT, and so in a document's record: where the length of the document's id stands. */
#define OP_DOCUMENT_ID_OFFSET (OP_HEADER_BYTES + 1 + 8) /* mode, created_at */

/* In a DOCUMENT_PUT's mode, from version 2 on: which fields there are. A document has the usual type where none is said. */
#define OP_USUAL_TYPE "text"
#define OP_MODE_MASK 3
enum op_present { OP_HAS_AUTHOR = 4, OP_HAS_DOCUMENT_TYPE = 8, OP_HAS_SOURCE_URL = 16, OP_HAS_TAGS = 32, OP_HAS_METADATA = 64, OP_HAS_ALL = 124 };

/* The fewest bytes that an element can take; a count is compared with what is left before anything is believed. */
#define OP_LEAST_ID_BYTES 3                                  /* length, tag, one character */
#define OP_LEAST_VECTOR_OF_BYTES (OP_LEAST_ID_BYTES + 8)     /* id, hash of the text; the vector comes behind them all */
#define OP_LEAST_CHUNK_BYTES (OP_LEAST_ID_BYTES + 1 + 1 + 1) /* id, empty text, no metadata, no page */

/* Arenas are mapped and vectors copied as they stand, both little-endian. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Quire's files are little-endian and are mapped as they are");
_Static_assert(sizeof(float) == 4, "float32");

#endif
