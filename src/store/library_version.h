/*
 * library_version.h - numbers by which a client knows whether a library is still as it saw it. The same after a restart; never DOCUMENT_VERSION_NONE or _ANY (op.h).
 *
 * There are two, because there are two questions. Who changes a name wants to know whether somebody else has changed the definition meanwhile, and documents are none of his
 * business: with one number for all, his change would never get through beside a stream of them. Who deletes a library wants to know whether anything is in it that he has not seen.
 */
#ifndef QUIRE_STORE_LIBRARY_VERSION_H
#define QUIRE_STORE_LIBRARY_VERSION_H

#include "store/arena.h"

/* Changes with the definition. record: as it stands in the arena, or is within an op (op_definition_bytes). */
uint64_t library_definition_version(struct slice record);
/* Changes with that and with every op on the library. changed_lsn: of the last one. */
uint64_t library_content_version(uint64_t definition, uint64_t changed_lsn, const struct library_view *view);

#endif
