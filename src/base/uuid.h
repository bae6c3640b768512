/* uuid.h - UUIDs: version 7 (RFC 9562, section 5.7) made here, canonical text form read and written. */
#ifndef QUIRE_BASE_UUID_H
#define QUIRE_BASE_UUID_H

#include "base/buf.h"

#define UUID_BYTES 16
#define UUID_TEXT 36

struct uuid {
    uint8_t b[UUID_BYTES];
};

/* A new UUIDv7 from the wall clock and getrandom; within a process strictly ascending, also when the clock steps back. */
void uuid_make(struct uuid *out);
/* 36 characters, lower case, and a NUL. */
void uuid_format(const struct uuid *id, char out[UUID_TEXT + 1]);
/* Exactly the canonical 36 characters, lower-case hex only; false otherwise. Any version is taken. */
bool uuid_parse(struct slice text, struct uuid *ret);
bool uuid_equal(const struct uuid *a, const struct uuid *b);

#endif
