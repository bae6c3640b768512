/*
 * old_vectors.h - vectors out of an arena that nobody serves any more, or of one that serves nobody yet and gets more of them meanwhile.
 *
 * An arena that is made anew beside it takes over what fits: a vector belongs to a chunk when the chunk's id and text are the same, the arena's head says
 * the same model and dimension, and the vector has the checksum of its row. The arena may have been left by a crash, so nothing else in it is believed.
 */
#ifndef QUIRE_STORE_OLD_VECTORS_H
#define QUIRE_STORE_OLD_VECTORS_H

#include "store/arena.h"

struct old_vectors;

/* *ret NULL: it can be of no use. false: no memory. */
MUST_CHECK bool old_vectors_open(int vectors_dir_fd, const char *directory, uint32_t dimension, uint64_t model_fingerprint, struct old_vectors **ret,
                                 struct status *st);
/* dimension floats, valid until it is closed; NULL: it has none for this chunk. */
const float *old_vectors_find(const struct old_vectors *o, uint64_t id_hash, uint64_t text);
void old_vectors_close(struct old_vectors *o); /* takes NULL */

#endif
