/*
 * utf8.c - UTF-8 as the Unicode standard has it (table 3-7, well-formed byte sequences).
 *
 * One function reads one sequence and knows the table; all others are built on it. Runs of ASCII are skipped eight bytes at a
 * time.
 */
#include "base/utf8.h"

#include "base/bytes.h"

#define HIGH_BITS UINT64_C(0x8080808080808080)
enum { REPLACEMENT = 0xFFFD };

static inline bool is_continuation(uint8_t c) {
    return (c & 0xC0) == 0x80;
}

/* The length of the well-formed sequence of two to four bytes at p, or 0. */
static size_t long_sequence(const uint8_t *p, size_t left) {
    uint8_t lead = p[0];
    uint8_t second_min = 0x80;
    uint8_t second_max = 0xBF;
    size_t len;

    if (lead < 0xC2 || lead > 0xF4) {
        return 0; /* a continuation, an overlong form, or beyond U+10FFFF */
    }
    len = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (lead == 0xE0) {
        second_min = 0xA0; /* overlong */
    } else if (lead == 0xED) {
        second_max = 0x9F; /* surrogates */
    } else if (lead == 0xF0) {
        second_min = 0x90; /* overlong */
    } else if (lead == 0xF4) {
        second_max = 0x8F; /* beyond U+10FFFF */
    }
    if (left < len || p[1] < second_min || p[1] > second_max) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if (!is_continuation(p[i])) {
            return 0;
        }
    }
    return len;
}

bool utf8_valid(struct slice s) {
    size_t at = 0;
    while (at < s.len) {
        if (s.len - at >= sizeof(uint64_t) && (load_u64le(s.data + at) & HIGH_BITS) == 0) {
            at += sizeof(uint64_t);
        } else if (s.data[at] < 0x80) {
            at++;
        } else {
            size_t len = long_sequence(s.data + at, s.len - at);
            if (len == 0) {
                return false;
            }
            at += len;
        }
    }
    return true;
}

bool utf8_has_control(struct slice s) {
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        /* U+0080 to U+009F are C2 80 to C2 9F. */
        if (c < 0x20 || c == 0x7F || (c == 0xC2 && i + 1 < s.len && s.data[i + 1] < 0xA0)) {
            return true;
        }
    }
    return false;
}

size_t utf8_prefix(struct slice s, size_t max) {
    size_t end = s.len < max ? s.len : max;
    size_t lead = end;
    /* Back to the lead of the last sequence: at most three continuations stand behind one. */
    for (int i = 0; i < 4 && lead > 0; i++) {
        lead--;
        if (!is_continuation(s.data[lead])) {
            break;
        }
    }
    if (lead < end && s.data[lead] >= 0xC2) {
        size_t wanted = s.data[lead] < 0xE0 ? 2 : s.data[lead] < 0xF0 ? 3 : 4;
        return end - lead < wanted ? lead : end;
    }
    return end;
}

uint32_t utf8_next(struct slice s, size_t *at) {
    const uint8_t *p = s.data + *at;
    if (p[0] < 0x80) {
        *at += 1;
        return p[0];
    }
    size_t len = long_sequence(p, s.len - *at);
    if (len == 0) {
        *at += 1;
        return REPLACEMENT;
    }
    uint32_t code = p[0] & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        code = code << 6 | (p[i] & 0x3Fu);
    }
    *at += len;
    return code;
}
