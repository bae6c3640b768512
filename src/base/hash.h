/* hash.h - hashes: a fast one for tables (not for adversaries who can see the seed), and SHA-256 through OpenSSL. */
#ifndef QUIRE_BASE_HASH_H
#define QUIRE_BASE_HASH_H

#include "base/buf.h"

/* 64-bit, well mixed (every bit usable as trie or table index), the same on every machine: it stands in files. */
uint64_t hash64(uint64_t seed, const void *data, size_t len);

void sha256(const void *data, size_t len, uint8_t out[32]);
/* 64 lower-case hex digits and a NUL. */
void sha256_hex(const void *data, size_t len, char out[65]);

#endif
