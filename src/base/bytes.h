/*
 * bytes.h - little-endian loads and stores, and a bounds-checked reader for bytes from outside.
 *
 * Everything that Quire writes to a file or a channel is little-endian. A reader remembers the first overrun (`failed`)
 * and from then on yields zeros and empty slices, so a decoder reads straight through and checks once at its end. A
 * length is compared with what is left before anything is added to it, so no sum can overflow.
 */
#ifndef QUIRE_BASE_BYTES_H
#define QUIRE_BASE_BYTES_H

#include "base/buf.h"

static inline uint16_t load_u16le(const void *p) {
    const uint8_t *b = (const uint8_t *)p;
    return (uint16_t)(b[0] | (uint16_t)(b[1] << 8));
}
static inline uint32_t load_u32le(const void *p) {
    const uint8_t *b = (const uint8_t *)p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t load_u64le(const void *p) {
    return (uint64_t)load_u32le(p) | (uint64_t)load_u32le((const uint8_t *)p + 4) << 32;
}
static inline void store_u16le(void *p, uint16_t v) {
    uint8_t *b = (uint8_t *)p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}
static inline void store_u32le(void *p, uint32_t v) {
    uint8_t *b = (uint8_t *)p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
    b[2] = (uint8_t)(v >> 16);
    b[3] = (uint8_t)(v >> 24);
}
static inline void store_u64le(void *p, uint64_t v) {
    store_u32le(p, (uint32_t)v);
    store_u32le((uint8_t *)p + 4, (uint32_t)(v >> 32));
}

struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

struct reader reader_of(struct slice s);
size_t reader_left(const struct reader *r);
uint8_t read_u8(struct reader *r);
uint16_t read_u16le(struct reader *r);
uint32_t read_u32le(struct reader *r);
uint64_t read_u64le(struct reader *r);
float read_f32le(struct reader *r);
uint64_t read_varint(struct reader *r); /* fails on more than 10 bytes or on overflow of 64 bits */
struct slice read_slice(struct reader *r, size_t len);
struct slice read_bytes(struct reader *r); /* varint length, then the bytes */
/* True when nothing failed and everything was read. */
bool reader_done(const struct reader *r);

#endif
