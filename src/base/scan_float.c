/*
 * scan_float.c - one JSON number to float32, rounded correctly, without strtof in nearly all cases.
 *
 * Clinger's fast path, carried from double to float. Up to 19 digits are kept as an integer w, and the value is
 * d = w * 10^e in double arithmetic:
 *   - w below 2^53 and |e| <= 22: both factors are exact, so d is the true value x rounded once. Midpoints between two floats are
 *     doubles, and rounding is monotonic: unless d is a midpoint itself, x and d lie on the same side of every midpoint, and
 * (float)d is x rounded correctly.
 *   - otherwise (17 digits from a program that printed doubles, exponents to 44, digits cut off): w, its cut and up to two
 * operations are each off by at most one unit in the last place of d, so x is within 4 such units of d. Unless a midpoint is that
 * near, again (float)d is right. The low 29 bits of a double are what a float does not hold; a midpoint is the pattern 1 followed
 * by 28 zeros there. What is too near to it (one in 2^26), subnormal, or overflows is given to strtof_l in the "C" locale, on a
 * copy of bounded length: after 800 digits a single digit that says "something more follows" has the same effect as all the rest.
 */
#include "base/bytes.h"
#include "base/decimal.h"
#include "base/json_front.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    KEPT_DIGITS = 19,  /* 10^19 fits in 64 bits */
    COPY_DIGITS = 800, /* a midpoint between two doubles has at most 768 significant digits */
    ERROR_UNITS = 4
};
#define EXACT_INTEGERS (UINT64_C(1) << 53)
/* Beyond any exponent that matters, and small enough that adding a length cannot overflow. */
#define EXPONENT_CAP INT64_C(1000000000000)

/* The proof above counts roundings: there must be none to a wider format. */
_Static_assert(FLT_EVAL_METHOD == 0, "double arithmetic must round to double");

static inline bool is_digit(char c) {
    return (unsigned char)(c - '0') < 10;
}

/* Eight digits at once: adds them to *value (10^8 times what it was) when all of p[0..7] are digits. */
static inline bool take_eight(const char *p, uint64_t *value) {
    uint64_t v = load_u64le(p);
    const uint64_t high_nibbles = UINT64_C(0xF0F0F0F0F0F0F0F0);
    const uint64_t zeros = UINT64_C(0x3030303030303030);
    /* A digit has the high nibble 3, also after 6 was added. */
    if ((v & high_nibbles) != zeros || ((v + UINT64_C(0x0606060606060606)) & high_nibbles) != zeros) {
        return false;
    }
    v -= zeros;
    v = v * 10 + (v >> 8); /* pairs of digits in every other byte */
    const uint64_t pair = UINT64_C(0x000000FF000000FF);
    const uint64_t first = 100 + (UINT64_C(1000000) << 32);
    const uint64_t second = 1 + (UINT64_C(10000) << 32);
    v = ((v & pair) * first + (v >> 16 & pair) * second) >> 32;
    *value = *value * 100000000 + (uint32_t)v;
    return true;
}

/* The end of the digits from `at` on. *value takes them all, and wraps when they are too many. */
static inline const char *take_digits(const char *at, const char *end, uint64_t *value) {
    while (end - at >= 8 && take_eight(at, value)) {
        at += 8;
    }
    for (; at < end && is_digit(*at); at++) {
        *value = *value * 10 + (uint64_t)(*at - '0');
    }
    return at;
}

static inline const char *skip_zeros(const char *at, const char *end) {
    while (at < end && *at == '0') {
        at++;
    }
    return at;
}

/* The mantissa has more significant digits than fit: keep the first ones and count the rest. */
static void keep_first_digits(struct decimal_number *n) {
    n->kept = 0;
    n->kept_count = 0;
    for (const char *at = n->digits; at < n->mantissa_end; at++) {
        if (*at == '.' || (*at == '0' && n->kept_count == 0)) {
            continue;
        }
        if (n->kept_count < KEPT_DIGITS) {
            n->kept = n->kept * 10 + (uint64_t)(*at - '0');
            n->kept_count++;
        } else {
            n->cut++;
        }
    }
    n->exponent += n->cut;
}

/* The exponent behind 'e'. */
static bool scan_exponent(struct decimal_number *n, const char *at, const char *end) {
    int64_t value = 0;
    bool negative = false;
    if (at < end && (*at == '+' || *at == '-')) {
        negative = *at == '-';
        at++;
    }
    n->end = at;
    for (; at < end && is_digit(*at); at++) {
        value = value < EXPONENT_CAP ? value * 10 + (*at - '0') : value;
    }
    n->exponent += negative ? -value : value;
    bool any = at > n->end;
    n->end = at;
    return any;
}

/* On failure n->end is where the text stops being a number. */
static inline bool scan_number(const char *at, const char *end, struct decimal_number *n) {
    uint64_t value = 0;
    int64_t significant = 0;
    *n = (struct decimal_number){.integer = true, .end = at};
    if (at < end && *at == '-') {
        n->negative = true;
        at++;
    }
    n->digits = at;
    if (at < end && *at == '0') {
        at++;
    } else {
        at = take_digits(at, end, &value);
        significant = at - n->digits;
    }
    n->end = at;
    if (at == n->digits) {
        return false;
    }
    if (at < end && *at == '.') {
        const char *fraction = at + 1;
        const char *first = significant == 0 ? skip_zeros(fraction, end) : fraction;
        at = take_digits(first, end, &value);
        significant += at - first;
        n->integer = false;
        n->exponent = fraction - at;
        n->end = at;
        if (at == fraction) {
            return false;
        }
    }
    n->mantissa_end = at;
    n->kept = value;
    n->kept_count = (int)significant;
    if (significant > KEPT_DIGITS) {
        keep_first_digits(n);
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        n->integer = false;
        return scan_exponent(n, at + 1, end);
    }
    return true;
}

bool decimal_scan(const char *at, const char *end, struct decimal_number *ret, const char **ret_wrong) {
    bool ok = scan_number(at, end, ret);
    if (!ok) {
        *ret_wrong = ret->end;
    }
    return ok;
}

static bool fast_value(const struct decimal_number *n, float *ret) {
    enum { DROPPED_BITS = 29 };
    const uint64_t dropped_mask = (UINT64_C(1) << DROPPED_BITS) - 1;
    const uint64_t midpoint = UINT64_C(1) << (DROPPED_BITS - 1);
    int64_t e = n->exponent;
    if (e < -2 * DECIMAL_EXACT_POWERS || e > DECIMAL_EXACT_POWERS) {
        return false;
    }
    double d = (double)n->kept;
    bool exact = n->kept <= EXACT_INTEGERS && e >= -DECIMAL_EXACT_POWERS && n->cut == 0;
    if (e < -DECIMAL_EXACT_POWERS) {
        d /= decimal_powers[DECIMAL_EXACT_POWERS];
        e += DECIMAL_EXACT_POWERS;
    }
    d = e < 0 ? d / decimal_powers[-e] : d * decimal_powers[e];
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    uint64_t margin = exact ? 0 : ERROR_UNITS;
    bool near_midpoint = (bits & dropped_mask) - (midpoint - margin) <= 2 * margin;
    if (near_midpoint || d < (double)FLT_MIN || d > (double)FLT_MAX) {
        return false;
    }
    *ret = n->negative ? -(float)d : (float)d;
    return true;
}

void decimal_copy(const struct decimal_number *n, char out[DECIMAL_COPY_MAX]) {
    size_t len = 0;
    int64_t dropped = 0; /* digits behind the copied ones */
    bool more = false;
    bool leading = true;
    if (n->negative) {
        out[len++] = '-';
    }
    size_t limit = len + COPY_DIGITS;
    for (const char *at = n->digits; at < n->mantissa_end; at++) {
        leading = leading && (*at == '0' || *at == '.');
        if (*at == '.' || leading) {
            continue;
        }
        if (len < limit) {
            out[len++] = *at;
        } else {
            more = more || *at != '0';
            dropped++;
        }
    }
    /* The exponent of the last digit kept becomes that of the last digit of all, then that of the last one copied. */
    int64_t exponent = n->exponent - n->cut + dropped;
    if (leading) {
        out[len++] = '0';
    }
    if (more) {
        out[len++] = '1';
        exponent--;
    }
    (void)snprintf(out + len, DECIMAL_COPY_MAX - len, "e%lld", (long long)exponent);
}

static float slow_value(const struct decimal_number *n) {
    char copy[DECIMAL_COPY_MAX];
    decimal_copy(n, copy);
    return strtof_l(copy, NULL, decimal_locale());
}

size_t scan_float(const char *text, size_t len, float *ret) {
    struct decimal_number n;
    if (!scan_number(text, text + len, &n)) {
        return 0;
    }
    if (n.kept == 0) {
        *ret = n.negative ? -0.0F : 0.0F;
    } else if (!fast_value(&n, ret)) {
        *ret = slow_value(&n);
    }
    return (size_t)(n.end - text);
}
