/* bytes.c - the bounds-checked reader. Every length is compared with what is left before the position moves. */
#include "base/bytes.h"

enum { VARINT_LAST_SHIFT = 63 };

struct reader reader_of(struct slice s) {
    static const uint8_t none[1] = {0};
    const uint8_t *at = s.data != NULL ? s.data : none;
    return (struct reader){.at = at, .end = at + (s.data != NULL ? s.len : 0), .failed = false};
}

size_t reader_left(const struct reader *r) {
    return r->failed ? 0 : (size_t)(r->end - r->at);
}

/* NULL and failed when fewer than len bytes are left. */
static const uint8_t *advance(struct reader *r, size_t len) {
    if (len > reader_left(r) || r->failed) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *at = r->at;
    r->at += len;
    return at;
}

uint8_t read_u8(struct reader *r) {
    const uint8_t *p = advance(r, 1);
    return p != NULL ? *p : 0;
}

uint16_t read_u16le(struct reader *r) {
    const uint8_t *p = advance(r, sizeof(uint16_t));
    return p != NULL ? load_u16le(p) : 0;
}

uint32_t read_u32le(struct reader *r) {
    const uint8_t *p = advance(r, sizeof(uint32_t));
    return p != NULL ? load_u32le(p) : 0;
}

uint64_t read_u64le(struct reader *r) {
    const uint8_t *p = advance(r, sizeof(uint64_t));
    return p != NULL ? load_u64le(p) : 0;
}

float read_f32le(struct reader *r) {
    uint32_t bits = read_u32le(r);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

uint64_t read_varint(struct reader *r) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift <= VARINT_LAST_SHIFT; shift += 7) {
        uint8_t byte = read_u8(r);
        if (shift == VARINT_LAST_SHIFT && byte > 1) {
            break;
        }
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return r->failed ? 0 : v;
        }
    }
    r->failed = true;
    return 0;
}

struct slice read_slice(struct reader *r, size_t len) {
    const uint8_t *p = advance(r, len);
    return p != NULL ? slice_of(p, len) : slice_of(NULL, 0);
}

struct slice read_bytes(struct reader *r) {
    uint64_t len = read_varint(r);
    if (len > reader_left(r)) {
        r->failed = true;
        return slice_of(NULL, 0);
    }
    return read_slice(r, (size_t)len);
}

bool reader_done(const struct reader *r) {
    return !r->failed && r->at == r->end;
}
