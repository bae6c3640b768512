/*
 * models.h - the embedding models of a configuration: what is built in, the model file of model_dir, and those of providers.
 *
 * The supervisor opens the file, once, and its workers inherit the descriptor: an upgrade that puts another file in its place
 * cannot give two processes of one server two models.
 */
#ifndef QUIRE_PROC_MODELS_H
#define QUIRE_PROC_MODELS_H

#include "embed/embedder.h"
#include "proc/config.h"

/* Opens the model file. *ret_fd is of /dev/null where model_dir is empty. The caller closes it. */
MUST_CHECK bool models_open(const struct config *c, int *ret_fd, struct status *st);
/* Fills the table; fd is models_open's, and the caller's still. embed_registry_fini undoes it. Workers trust what the supervisor has verified, so
 * that a new one serves at once. */
MUST_CHECK bool models_init(struct embed_registry *r, const struct config *c, int fd, enum model_trust trust, struct status *st);

#endif
