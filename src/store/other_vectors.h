/*
 * other_vectors.h - vectors of a library's other model (exchange.h) as they lie on the disk, in the library's other directories under vectors/.
 *
 * What a provider has made was paid for, and the arena that serves has no place for it. So sides, and arenas that are kept, are synced with each checkpoint, snapshots
 * hold what lies there, and what a replay meets is put on a shelf: a directory of chunk rows and vectors alone, which whoever makes the side anew reads
 * as it reads what is left of an arena (old_vectors.h). Nothing here is ever believed more than that: each vector has its checksum.
 */
#ifndef QUIRE_STORE_OTHER_VECTORS_H
#define QUIRE_STORE_OTHER_VECTORS_H

#include "store/catalog.h"
#include "store/old_vectors.h"

/* Whether the definition's other model is a provider's, and known: its vectors are to be kept. */
bool other_is_provided(const struct embed_registry *models, const struct library_definition *d);

/* What lies there for the library's other model, when that is to be kept; *ret NULL: it is not. For a snapshot. */
struct other_vectors;
MUST_CHECK bool library_open_other(struct library *lib, const struct reading *rd, struct other_vectors **ret, struct status *st);

/* Of all directories of a library but those of the numbers in `except`, what may have vectors of that model. */
#define OTHER_EXCEPT 2
MUST_CHECK bool other_vectors_open(int vectors_dir_fd, const struct uuid *library, const uint32_t except[OTHER_EXCEPT], uint32_t dimension, uint64_t fingerprint,
                                   struct other_vectors **ret, struct status *st);
/* As old_vectors_find. o NULL: there is none. */
const float *other_vectors_find(const struct other_vectors *o, uint64_t id_hash, uint64_t text);
uint32_t other_vectors_dimension(const struct other_vectors *o);
void other_vectors_close(struct other_vectors *o); /* takes NULL */

/* Makes durable what lies in the library's other directories. */
MUST_CHECK bool other_vectors_sync(int vectors_dir_fd, const struct uuid *library, uint32_t serving, struct status *st);
/* Removes the directories above the one that serves, but for the side's: what the side has taken over, or nobody can use. After it was synced. */
MUST_CHECK bool other_vectors_tidy(int vectors_dir_fd, const struct uuid *library, uint32_t serving, uint32_t side, struct status *st);

/* other_vectors_sync for a library whose other model's vectors are to be kept. */
MUST_CHECK bool library_sync_other(struct library *lib, struct status *st);
/* Whether a VECTORS is of what the library's definition, as it is by now, says of the other model. In a replay. */
bool library_other_fits(const struct library *lib, const struct op_vectors *v);

/* A shelf: a new directory. Not synced. */
struct vector_shelf;
MUST_CHECK bool vector_shelf_new(int vectors_dir_fd, const struct uuid *library, uint32_t dimension, uint64_t fingerprint, struct vector_shelf **ret,
                                 struct status *st);
uint32_t vector_shelf_directory(const struct vector_shelf *s); /* its number */
/* values: dimension floats, not aligned. STATUS_NO_SPACE leaves it as it was. */
MUST_CHECK bool vector_shelf_put(struct vector_shelf *s, uint64_t id_hash, uint64_t text, const void *values, struct status *st);
/* All that lives in a library whose vectors are a provider's. In a replay. */
MUST_CHECK bool vector_shelf_put_all(struct vector_shelf *s, const struct library *lib, struct status *st);
/* Whether they are; of which model. */
bool library_is_provided(const struct library *lib, uint32_t *ret_dimension, uint64_t *ret_fingerprint);
void vector_shelf_close(struct vector_shelf *s); /* takes NULL; its files stay */

#endif
