/*
 * base64.c - RFC 4648, section 4. Decoding takes the canonical form only: padding where it belongs, no other characters, no bits
 * set that the last character does not use, so a text and its bytes belong to each other one to one.
 */
#include "base/json_front.h"

enum { SEXTET_BITS = 6 };

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* A sextet is below 64, so the high bit marks what is none; several can be tested by one OR. */
static const uint8_t sextets[256] = {
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 62,  255, 255, 255, 63,
    52,  53,  54,  55,  56,  57,  58,  59,  60,  61,  255, 255, 255, 255, 255, 255, 255, 0,   1,   2,   3,   4,   5,   6,
    7,   8,   9,   10,  11,  12,  13,  14,  15,  16,  17,  18,  19,  20,  21,  22,  23,  24,  25,  255, 255, 255, 255, 255,
    255, 26,  27,  28,  29,  30,  31,  32,  33,  34,  35,  36,  37,  38,  39,  40,  41,  42,  43,  44,  45,  46,  47,  48,
    49,  50,  51,  255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

/* The last group, of two or three characters before its padding. */
static bool decode_tail(const uint8_t *in, size_t chars, uint8_t *out) {
    uint32_t a = sextets[in[0]];
    uint32_t b = sextets[in[1]];
    uint32_t c = chars == 3 ? sextets[in[2]] : 0;
    if (((a | b | c) & 0x80) != 0) {
        return false;
    }
    out[0] = (uint8_t)(a << 2 | b >> 4);
    if (chars == 2) {
        return (b & 0xF) == 0;
    }
    out[1] = (uint8_t)(b << 4 | c >> 2);
    return (c & 0x3) == 0;
}

bool base64_decode(struct slice text, struct buf *out) {
    if (text.len % 4 != 0) {
        return false;
    }
    if (text.len == 0) {
        return true;
    }
    size_t padding = text.data[text.len - 1] != '=' ? 0 : text.data[text.len - 2] != '=' ? 1 : 2;
    size_t whole = text.len / 4 - (padding > 0);
    size_t bytes = text.len / 4 * 3 - padding;
    if (!buf_reserve(out, bytes)) {
        return true; /* out remembers it */
    }
    const uint8_t *in = text.data;
    uint8_t *at = out->data + out->len;
    uint32_t bad = 0;
    for (size_t i = 0; i < whole; i++, in += 4, at += 3) {
        uint32_t a = sextets[in[0]];
        uint32_t b = sextets[in[1]];
        uint32_t c = sextets[in[2]];
        uint32_t d = sextets[in[3]];
        bad |= a | b | c | d;
        at[0] = (uint8_t)(a << 2 | b >> 4);
        at[1] = (uint8_t)(b << 4 | c >> 2);
        at[2] = (uint8_t)(c << 6 | d);
    }
    if ((bad & 0x80) != 0 || (padding > 0 && !decode_tail(in, 4 - padding, at))) {
        return false;
    }
    out->len += bytes;
    return true;
}

static void encode_group(const uint8_t *in, size_t bytes, uint8_t *out) {
    uint32_t group = (uint32_t)in[0] << 16;
    group |= bytes > 1 ? (uint32_t)in[1] << 8 : 0;
    group |= bytes > 2 ? (uint32_t)in[2] : 0;
    for (size_t i = 0; i < 4; i++) {
        uint32_t sextet = group >> (3 - i) * SEXTET_BITS & 0x3F;
        out[i] = i <= bytes ? (uint8_t)alphabet[sextet] : (uint8_t)'=';
    }
}

void base64_encode(struct slice bytes, struct buf *out) {
    size_t groups = bytes.len / 3 + (bytes.len % 3 != 0);
    if (groups == 0 || !buf_reserve(out, groups * 4)) {
        return;
    }
    const uint8_t *in = bytes.data;
    uint8_t *at = out->data + out->len;
    for (size_t left = bytes.len; left > 0; at += 4) {
        size_t take = left < 3 ? left : 3;
        encode_group(in, take, at);
        in += take;
        left -= take;
    }
    out->len += groups * 4;
}
