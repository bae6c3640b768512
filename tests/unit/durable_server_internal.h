/* durable_server_internal.h - what the script with its oracle and the server that follows it share; nobody else includes this. */
#ifndef QUIRE_TESTS_DURABLE_SERVER_INTERNAL_H
#define QUIRE_TESTS_DURABLE_SERVER_INTERNAL_H

#include "durable_server.h"

/* The op of a step. */
void script_op(uint32_t n, struct buf *out);
/* The vectors that a worker would send beside the op; malloc'd, or NULL. */
float *script_vectors(const struct op *op);
/* The record of a step: its op, or a group of it and its entry. */
void script_record(uint32_t step, struct slice op, struct buf *out);
/* s->noted, where somebody wants it. */
void server_tell(const struct server *s);

#endif
