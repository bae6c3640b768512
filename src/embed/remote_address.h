/*
 * remote_address.h - which addresses a connection may be made to.
 *
 * What counts is the address that is about to be connected to, whatever name led there and whoever answered for it: a name that resolves to another address the
 * second time, or to one inside the network, gains nothing.
 */
#ifndef QUIRE_EMBED_REMOTE_ADDRESS_H
#define QUIRE_EMBED_REMOTE_ADDRESS_H

#include "embed/remote_settings.h"

#include <sys/socket.h>

enum remote_address {
    REMOTE_ADDRESS_PUBLIC,
    REMOTE_ADDRESS_PRIVATE,  /* RFC 1918, unique local, shared (RFC 6598) */
    REMOTE_ADDRESS_LOOPBACK,
    REMOTE_ADDRESS_NEVER /* link-local, the metadata services of clouds, "any", multicast, reserved, and what is no IP */
};
enum remote_address remote_address_kind(const struct sockaddr *address, socklen_t len);

/* Never: never. Public: with https alone. Private and loopback: where the URL has the address itself (or localhost, for loopback), or the section says
 * private_addresses = on. */
bool remote_address_allowed(enum remote_address kind, const struct remote_url *url, bool private_addresses);

#endif
