/* peers.h - who may talk to a worker: the users of socket_peers, held against SO_PEERCRED. */
#ifndef QUIRE_PROC_PEERS_H
#define QUIRE_PROC_PEERS_H

#include "base/buf.h"

#include <sys/types.h>

#define PEERS_MAX 32

struct peers {
    bool anyone; /* no list: the socket's permissions decide alone */
    size_t count;
    uid_t user[PEERS_MAX];
};

/* "www-data, 33": names or numbers. An unknown name is STATUS_CONFIG. */
MUST_CHECK bool peers_parse(const char *text, struct peers *ret, struct status *st);
/* The list as numbers, so that a worker needs no user database. */
void peers_format(const struct peers *p, char *out, size_t size);
/* Root and the server's own user always may. */
bool peers_allow(const struct peers *p, uid_t user);

#endif
