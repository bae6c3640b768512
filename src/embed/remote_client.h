/* remote_client.h - inside embed, and for its tests: what others have no use for. */
#ifndef QUIRE_EMBED_REMOTE_CLIENT_H
#define QUIRE_EMBED_REMOTE_CLIENT_H

#include "embed/remote.h"

/* Names resolve as "HOST:PORT:ADDRESS" says, instead of by the system. Before the first call. */
MUST_CHECK bool remote_client_resolve(struct remote_client *c, const char *entry, struct status *st);

#endif
