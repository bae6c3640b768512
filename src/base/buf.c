/* buf.c - growable byte buffers. Growth is by doubling, so n puts cost O(n); a size that would overflow counts as no memory. */
#include "base/buf.h"

#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUF_FIRST_CAP = 64, VARINT_MAX = 10 };

int slice_compare(struct slice a, struct slice b) {
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter == 0 ? 0 : memcmp(a.data, b.data, shorter);
    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

void buf_init(struct buf *b) {
    *b = (struct buf){0};
}

void buf_fini(struct buf *b) {
    if (b != NULL) {
        free(b->data);
        buf_init(b);
    }
}

void buf_reset(struct buf *b) {
    b->len = 0;
    b->failed = false;
}

static bool grow(struct buf *b, size_t extra) {
    if (extra > SIZE_MAX / 2 - b->len) {
        b->failed = true;
        return false;
    }
    size_t need = b->len + extra;
    size_t cap = b->cap < BUF_FIRST_CAP ? BUF_FIRST_CAP : b->cap * 2;
    cap = cap < need ? need : cap;
    uint8_t *data = (uint8_t *)realloc(b->data, cap);
    if (data == NULL) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

bool buf_reserve(struct buf *b, size_t extra) {
    if (b->failed) {
        return false;
    }
    return extra <= b->cap - b->len || grow(b, extra);
}

void buf_put(struct buf *b, const void *data, size_t len) {
    if (len != 0 && buf_reserve(b, len)) {
        memcpy(b->data + b->len, data, len);
        b->len += len;
    }
}

void buf_put_slice(struct buf *b, struct slice s) {
    buf_put(b, s.data, s.len);
}

void buf_put_str(struct buf *b, const char *text) {
    buf_put_slice(b, slice_str(text));
}

void buf_put_u8(struct buf *b, uint8_t v) {
    if (buf_reserve(b, 1)) {
        b->data[b->len++] = v;
    }
}

void buf_put_u16le(struct buf *b, uint16_t v) {
    uint8_t bytes[sizeof v];
    store_u16le(bytes, v);
    buf_put(b, bytes, sizeof bytes);
}

void buf_put_u32le(struct buf *b, uint32_t v) {
    uint8_t bytes[sizeof v];
    store_u32le(bytes, v);
    buf_put(b, bytes, sizeof bytes);
}

void buf_put_u64le(struct buf *b, uint64_t v) {
    uint8_t bytes[sizeof v];
    store_u64le(bytes, v);
    buf_put(b, bytes, sizeof bytes);
}

void buf_put_f32le(struct buf *b, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    buf_put_u32le(b, bits);
}

void buf_put_f32le_array(struct buf *b, const float *values, size_t count) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    buf_put(b, values, count * sizeof *values);
#else
    for (size_t i = 0; i < count; i++) {
        buf_put_f32le(b, values[i]);
    }
#endif
}

void buf_put_varint(struct buf *b, uint64_t v) {
    uint8_t bytes[VARINT_MAX];
    size_t n = 0;
    while (v >= 0x80) {
        bytes[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    bytes[n++] = (uint8_t)v;
    buf_put(b, bytes, n);
}

void buf_put_zero(struct buf *b, size_t len) {
    if (len != 0 && buf_reserve(b, len)) {
        memset(b->data + b->len, 0, len);
        b->len += len;
    }
}

void buf_put_bytes(struct buf *b, struct slice s) {
    buf_put_varint(b, s.len);
    buf_put_slice(b, s);
}

/* The first try writes into what is there; only a longer text is formatted a second time. */
void buf_printf(struct buf *b, const char *fmt, ...) {
    va_list args;
    if (!buf_reserve(b, BUF_FIRST_CAP)) {
        return;
    }
    va_start(args, fmt);
    int wanted = vsnprintf((char *)b->data + b->len, b->cap - b->len, fmt, args);
    va_end(args);
    if (wanted < 0) {
        b->failed = true;
        return;
    }
    size_t len = (size_t)wanted;
    if (len >= b->cap - b->len) {
        if (!buf_reserve(b, len + 1)) {
            return;
        }
        va_start(args, fmt);
        (void)vsnprintf((char *)b->data + b->len, len + 1, fmt, args);
        va_end(args);
    }
    b->len += len;
}

bool buf_ok(const struct buf *b) {
    return !b->failed;
}

bool buf_check(const struct buf *b, struct status *st) {
    return buf_ok(b) || status_no_memory(st);
}

struct slice buf_slice(const struct buf *b) {
    return slice_of(b->data, b->len);
}

uint8_t *buf_take(struct buf *b, size_t *ret_len) {
    uint8_t *data = NULL;
    *ret_len = 0;
    if (buf_ok(b) && b->len > 0) {
        data = b->data;
        *ret_len = b->len;
        buf_init(b);
    } else {
        buf_fini(b);
    }
    return data;
}
