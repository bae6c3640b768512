/* op_format.h - constants of the op encoding (op.h) that encoder, decoder and the id table share. */
#ifndef QUIRE_STORE_OP_FORMAT_H
#define QUIRE_STORE_OP_FORMAT_H

#include "base/uuid.h"

#define OP_HEADER_BYTES (2 + UUID_BYTES) /* type, version, library */
/* In a DOCUMENT_PUT, and so in a document's record: where the length of the document's id stands. */
#define OP_DOCUMENT_ID_OFFSET (OP_HEADER_BYTES + 1 + 8) /* mode, created_at */

/* The fewest bytes that an element can take; a count is compared with what is left before anything is believed. */
#define OP_LEAST_ID_BYTES 3                                  /* length, tag, one character */
#define OP_LEAST_CHUNK_BYTES (OP_LEAST_ID_BYTES + 1 + 1 + 1) /* id, empty text, no metadata, no page */

/* Arenas are mapped and vectors copied as they stand, both little-endian. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Quire's files are little-endian and are mapped as they are");
_Static_assert(sizeof(float) == 4, "float32");

#endif
