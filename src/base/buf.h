/*
 * buf.h - growable byte buffers and slices of bytes owned by somebody else.
 *
 * A buf remembers that an allocation failed (`failed`) and from then on ignores what is put; the caller checks once, at
 * the end, with buf_ok(). So encoders and writers need no check per byte.
 */
#ifndef QUIRE_BASE_BUF_H
#define QUIRE_BASE_BUF_H

#include "base/status.h"

#include <stddef.h>
#include <string.h>

/* Bytes that somebody else owns; not NUL-terminated. data may be NULL where len is 0. */
struct slice {
    const uint8_t *data;
    size_t len;
};

static inline struct slice slice_of(const void *data, size_t len) {
    return (struct slice){(const uint8_t *)data, len};
}
static inline struct slice slice_str(const char *text) {
    return (struct slice){(const uint8_t *)text, text == NULL ? 0 : strlen(text)};
}
static inline bool slice_equal(struct slice a, struct slice b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}
static inline bool slice_is(struct slice a, const char *text) {
    return slice_equal(a, slice_str(text));
}
/* memcmp order, the shorter first where one is a prefix. */
int slice_compare(struct slice a, struct slice b);

struct buf {
    uint8_t *data;
    size_t len;
    size_t cap;
    bool failed; /* an allocation failed; nothing more was added */
};

void buf_init(struct buf *b);
void buf_fini(struct buf *b); /* takes NULL and a zeroed buf */
void buf_reset(struct buf *b); /* len 0, failed false; keeps the memory */
/* Room for `extra` more bytes; false (and failed) when there is no memory. */
bool buf_reserve(struct buf *b, size_t extra);
void buf_put(struct buf *b, const void *data, size_t len);
void buf_put_slice(struct buf *b, struct slice s);
void buf_put_str(struct buf *b, const char *text);
void buf_put_u8(struct buf *b, uint8_t v);
void buf_put_u16le(struct buf *b, uint16_t v);
void buf_put_u32le(struct buf *b, uint32_t v);
void buf_put_u64le(struct buf *b, uint64_t v);
void buf_put_f32le(struct buf *b, float v);
void buf_put_f32le_array(struct buf *b, const float *values, size_t count); /* values may be NULL where count is 0 */
void buf_put_varint(struct buf *b, uint64_t v); /* LEB128, unsigned, at most 10 bytes */
void buf_put_zero(struct buf *b, size_t len);
/* varint length, then the bytes. */
void buf_put_bytes(struct buf *b, struct slice s);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool buf_ok(const struct buf *b);
MUST_CHECK bool buf_check(const struct buf *b, struct status *st); /* buf_ok, else STATUS_NO_MEMORY */
struct slice buf_slice(const struct buf *b);
/* Hands the memory to the caller (free it with free()) and empties b. NULL when b is empty or failed. */
uint8_t *buf_take(struct buf *b, size_t *ret_len);

#endif
