/*
 * remote_address.c - see remote_address.h. The blocks are those of the IANA special-purpose address registries (RFC 6890), and the addresses at which clouds
 * answer a machine's questions about itself, keys included.
 */
#include "embed/remote_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

struct block4 {
    uint32_t base;
    unsigned bits;
    enum remote_address kind;
};
#define V4(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))
/* The first that matches counts. */
static const struct block4 blocks4[] = {
    {V4(100, 100, 100, 200), 32, REMOTE_ADDRESS_NEVER}, /* Alibaba Cloud's metadata */
    {V4(168, 63, 129, 16), 32, REMOTE_ADDRESS_NEVER},   /* Azure's */
    {V4(0, 0, 0, 0), 8, REMOTE_ADDRESS_NEVER},          /* 0.0.0.0 is this machine, to connect() */
    {V4(10, 0, 0, 0), 8, REMOTE_ADDRESS_PRIVATE},
    {V4(100, 64, 0, 0), 10, REMOTE_ADDRESS_PRIVATE},
    {V4(127, 0, 0, 0), 8, REMOTE_ADDRESS_LOOPBACK},
    {V4(169, 254, 0, 0), 16, REMOTE_ADDRESS_NEVER}, /* link-local; 169.254.169.254 */
    {V4(172, 16, 0, 0), 12, REMOTE_ADDRESS_PRIVATE},
    {V4(192, 0, 0, 0), 24, REMOTE_ADDRESS_NEVER}, /* protocol assignments; Oracle's metadata */
    {V4(192, 0, 2, 0), 24, REMOTE_ADDRESS_NEVER},
    {V4(192, 88, 99, 0), 24, REMOTE_ADDRESS_NEVER},
    {V4(192, 168, 0, 0), 16, REMOTE_ADDRESS_PRIVATE},
    {V4(198, 18, 0, 0), 15, REMOTE_ADDRESS_NEVER},
    {V4(198, 51, 100, 0), 24, REMOTE_ADDRESS_NEVER},
    {V4(203, 0, 113, 0), 24, REMOTE_ADDRESS_NEVER},
    {V4(224, 0, 0, 0), 3, REMOTE_ADDRESS_NEVER}, /* multicast and reserved */
};

static enum remote_address kind4(uint32_t address) {
    for (size_t i = 0; i < sizeof blocks4 / sizeof *blocks4; i++) {
        if ((address ^ blocks4[i].base) >> (32 - blocks4[i].bits) == 0) {
            return blocks4[i].kind;
        }
    }
    return REMOTE_ADDRESS_PUBLIC;
}

enum embedded { EMBEDDED_NO, EMBEDDED_AT_2 = 2, EMBEDDED_AT_12 = 12 };
struct block6 {
    uint8_t base[16];
    unsigned bits;
    enum remote_address kind;
    enum embedded v4; /* it stands for an IPv4 address, which decides */
};
static const struct block6 blocks6[] = {
    {{0xfd, 0x00, 0x0e, 0xc2, [15] = 0x01}, 112, REMOTE_ADDRESS_NEVER, EMBEDDED_NO}, /* fd00:ec2::/112: Amazon's metadata, fd00:ec2::254 */
    {{0xfd, 0x20, 0x00, 0xce, [15] = 0x01}, 112, REMOTE_ADDRESS_NEVER, EMBEDDED_NO}, /* Google's, fd20:ce::254 */
    {{0xfd, 0x00, 0x00, 0x42, [15] = 0x42}, 112, REMOTE_ADDRESS_NEVER, EMBEDDED_NO}, /* Scaleway's, fd00:42::42 */
    {{[15] = 1}, 128, REMOTE_ADDRESS_LOOPBACK, EMBEDDED_NO},
    {{[10] = 0xff, [11] = 0xff}, 96, REMOTE_ADDRESS_NEVER, EMBEDDED_AT_12},             /* ::ffff:a.b.c.d */
    {{0x00, 0x64, 0xff, 0x9b}, 96, REMOTE_ADDRESS_NEVER, EMBEDDED_AT_12},               /* 64:ff9b::a.b.c.d, NAT64 */
    {{0x20, 0x02}, 16, REMOTE_ADDRESS_NEVER, EMBEDDED_AT_2},                            /* 2002:ab:cd::, 6to4 */
    {{0x20, 0x01, 0x00, 0x00}, 23, REMOTE_ADDRESS_NEVER, EMBEDDED_NO},                  /* protocol assignments, Teredo */
    {{0x20, 0x01, 0x0d, 0xb8}, 32, REMOTE_ADDRESS_NEVER, EMBEDDED_NO},
    {{0xfc}, 7, REMOTE_ADDRESS_PRIVATE, EMBEDDED_NO},
    {{0x20}, 3, REMOTE_ADDRESS_PUBLIC, EMBEDDED_NO},
};

static bool in_block(const uint8_t *address, const struct block6 *b) {
    enum { BYTE_BITS = 8, ALL = 0xff };
    unsigned whole = b->bits / BYTE_BITS;
    unsigned rest = b->bits % BYTE_BITS;
    return memcmp(address, b->base, whole) == 0 && (rest == 0 || ((address[whole] ^ b->base[whole]) & (ALL << (BYTE_BITS - rest) & ALL)) == 0);
}

static enum remote_address kind6(const uint8_t address[16]) {
    for (size_t i = 0; i < sizeof blocks6 / sizeof *blocks6; i++) {
        const struct block6 *b = &blocks6[i];
        if (!in_block(address, b)) {
            continue;
        }
        const uint8_t *v4 = address + b->v4;
        return b->v4 == EMBEDDED_NO ? b->kind : kind4(V4(v4[0], v4[1], v4[2], v4[3]));
    }
    return REMOTE_ADDRESS_NEVER; /* "any", link-local, multicast, and what nobody was given */
}

enum remote_address remote_address_kind(const struct sockaddr *address, socklen_t len) {
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (address->sa_family == AF_INET && len >= sizeof v4) {
        memcpy(&v4, address, sizeof v4);
        return kind4(ntohl(v4.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6 && len >= sizeof v6) {
        memcpy(&v6, address, sizeof v6);
        return kind6(v6.sin6_addr.s6_addr);
    }
    return REMOTE_ADDRESS_NEVER;
}

bool remote_address_allowed(enum remote_address kind, const struct remote_url *url, bool private_addresses) {
    switch (kind) {
    case REMOTE_ADDRESS_PUBLIC:
        return url->https;
    case REMOTE_ADDRESS_PRIVATE:
        return url->numeric || private_addresses;
    case REMOTE_ADDRESS_LOOPBACK:
        return url->numeric || url->local || private_addresses;
    case REMOTE_ADDRESS_NEVER:
        break;
    }
    return false;
}
