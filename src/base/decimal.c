/*
 * decimal.c - numbers to text.
 *
 * printf with "%.9g" costs 250 ns and more; a page of search results with embeddings holds thousands of numbers. So both writers
 * have a fast way in double arithmetic that knows its own error, and take the slow and surely right way (printf and strtof of the
 * C library, in the "C" locale) whenever the answer lies within that error of a decision.
 *
 * Fast way: scale |v| by an exact power of ten to x with nine digits before the point, 1e8 <= x < 1e9. One
 * multiplication or division rounds once, so x is off by less than 2^-23.
 *   double: round x to an integer; too near to a half is undecided.
 *   float:  all decimals that read back as v lie within half a unit of v's last place; scaled like x that is a radius w >= 2.9.
 * Nine digits are always near enough; 8, 7 and 6 are tried as long as their distance from x is surely below w. Below six there is
 * nothing to try: a decimal of up to six digits survives the way through a normal float, so stripping zeros leaves it. Powers of
 * two have a smaller radius below than above and are left to the slow way.
 */
#include "base/decimal.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const double decimal_powers[DECIMAL_EXACT_POWERS + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                                         1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

enum {
    DIGITS_MAX = 9,           /* FLT_DECIMAL_DIG: enough for any float32 */
    DIGITS_ALWAYS_KEPT = 6,   /* FLT_DIG */
    PLAIN_EXPONENT_MIN = -5,  /* 0.00001 */
    PLAIN_EXPONENT_LIMIT = 9, /* 999999999 */
    SLOW_TEXT_MAX = 40
};
/* Far above the error of x, far below any radius. */
#define UNDECIDED 1e-3

/* digits * 10^(exponent - (number of digits) + 1), so that the first digit stands for 10^exponent. */
struct decimal {
    uint32_t digits;
    int exponent;
};

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void make_c_locale(void) {
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c_locale == (locale_t)0) {
        abort(); /* the C library has it built in */
    }
}

locale_t decimal_locale(void) {
    (void)pthread_once(&c_locale_once, make_c_locale);
    return c_locale;
}

static char *put_exponent(char *at, int exponent) {
    char digits[4];
    size_t n = 0;
    unsigned left = (unsigned)abs(exponent);
    *at++ = 'e';
    if (exponent < 0) {
        *at++ = '-';
    }
    do {
        digits[n++] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    while (n > 0) {
        *at++ = digits[--n];
    }
    return at;
}

/* 0.00012, 1200, 1.2 */
static char *put_plain(char *at, const char *digits, int count, int exponent) {
    if (exponent < 0) {
        *at++ = '0';
        *at++ = '.';
        for (int i = -1; i > exponent; i--) {
            *at++ = '0';
        }
        for (int i = 0; i < count; i++) {
            *at++ = digits[i];
        }
        return at;
    }
    for (int i = 0; i <= exponent || i < count; i++) {
        if (i == exponent + 1) {
            *at++ = '.';
        }
        *at++ = i < count ? digits[i] : '0';
    }
    return at;
}

/* 1.2e-9 */
static char *put_scientific(char *at, const char *digits, int count, int exponent) {
    *at++ = digits[0];
    if (count > 1) {
        *at++ = '.';
        memcpy(at, digits + 1, (size_t)count - 1);
        at += count - 1;
    }
    return put_exponent(at, exponent);
}

static size_t put_decimal(char out[DECIMAL_TEXT_MAX], bool negative, struct decimal d) {
    char digits[DIGITS_MAX + 1];
    int first = DIGITS_MAX + 1;
    char *at = out;
    while (d.digits % 10 == 0 && d.digits != 0) {
        d.digits /= 10;
    }
    do {
        digits[--first] = (char)('0' + d.digits % 10);
        d.digits /= 10;
    } while (d.digits > 0);
    int count = DIGITS_MAX + 1 - first;
    if (negative) {
        *at++ = '-';
    }
    bool plain = d.exponent >= PLAIN_EXPONENT_MIN && d.exponent < PLAIN_EXPONENT_LIMIT;
    at = plain ? put_plain(at, digits + first, count, d.exponent) : put_scientific(at, digits + first, count, d.exponent);
    return (size_t)(at - out);
}

/* Scales v > 0 into [1e8, 1e9) and says by what. False where an exact power of ten does not do it. */
static bool scale_to_nine(double v, double *ret_x, int *ret_power) {
    enum { BIAS = 1023, MANTISSA_BITS = 52 };
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    int binary = (int)(bits >> MANTISSA_BITS) - BIAS;
    /* floor(binary * log10(2)) is the decimal exponent, or one less; 78913 / 2^18 is log10(2) closely enough. */
    int power = DIGITS_MAX - 1 - (binary * 78913 >> 18);
    for (int attempt = 0; attempt < 2; attempt++, power--) {
        if (abs(power) > DECIMAL_EXACT_POWERS) {
            return false;
        }
        double x = power >= 0 ? v * decimal_powers[power] : v / decimal_powers[-power];
        if (x < 1e9) {
            *ret_x = x;
            *ret_power = power;
            return x >= 1e8;
        }
    }
    return false;
}

/* `digits` of `count` digits or one more (rounded up to a power of ten), where x was scaled to `count` digits. */
static struct decimal decimal_of(uint32_t digits, int count, int exponent) {
    if (digits >= decimal_powers[count]) {
        return (struct decimal){.digits = 1, .exponent = exponent + 1};
    }
    return (struct decimal){.digits = digits, .exponent = exponent};
}

/* The digits of "%.*e", read back from the text. */
static struct decimal slow_digits(double v, int count) {
    char text[SLOW_TEXT_MAX];
    locale_t before = uselocale(decimal_locale());
    (void)snprintf(text, sizeof text, "%.*e", count - 1, v);
    (void)uselocale(before);
    struct decimal d = {0};
    const char *at = text;
    for (; *at != 'e'; at++) {
        if (*at != '.') {
            d.digits = d.digits * 10 + (uint32_t)(*at - '0');
        }
    }
    d.exponent = (int)strtol(at + 1, NULL, 10);
    return d;
}

static bool reads_back(struct decimal d, float v) {
    char text[DECIMAL_TEXT_MAX + 1];
    size_t len = put_decimal(text, false, d);
    text[len] = '\0';
    return strtof_l(text, NULL, decimal_locale()) == v;
}

static struct decimal slow_float(float v) {
    struct decimal d = {0};
    /* What the fast way may take for granted does not hold for subnormals: they have fewer digits. */
    for (int count = v < FLT_MIN ? 1 : DIGITS_ALWAYS_KEPT; count <= DIGITS_MAX; count++) {
        d = slow_digits((double)v, count);
        if (reads_back(d, v)) {
            return d;
        }
        /* Above a power of two there is more room than below: its nearest decimal may miss where the next one hits. */
        struct decimal next = decimal_of(d.digits + 1, count, d.exponent);
        if (reads_back(next, v)) {
            return next;
        }
    }
    return d;
}

/* Half the distance from v to the float below it; 0 for a power of two, where it is not the distance to the one above. */
static double half_unit(float v) {
    enum { MANTISSA_MASK = 0x7FFFFF };
    uint32_t bits;
    float below;
    memcpy(&bits, &v, sizeof bits);
    if ((bits & MANTISSA_MASK) == 0) {
        return 0;
    }
    bits--;
    memcpy(&below, &bits, sizeof below);
    return (double)(v - below) / 2;
}

enum verdict { INSIDE, OUTSIDE, NOT_SURE };

/* x (nine digits before the point) to `count` digits, and whether that is within the radius. */
static enum verdict try_count(double x, double radius, int count, uint32_t *ret_digits) {
    static const uint32_t units[DIGITS_MAX + 1] = {1000000000, 100000000, 10000000, 1000000, 100000, 10000, 1000, 100, 10, 1};
    uint32_t unit = units[count];
    uint32_t digits = ((uint32_t)x + unit / 2) / unit;
    double distance = fabs((double)(digits * (uint64_t)unit) - x);
    *ret_digits = digits;
    if (distance < radius - UNDECIDED) {
        return INSIDE;
    }
    return distance > radius + UNDECIDED ? OUTSIDE : NOT_SURE;
}

/* Where n digits are enough n + 1 are, too; nearly all floats want 8 or 9, so the search begins there. */
static bool fast_float(float v, struct decimal *ret) {
    double x;
    int power;
    double half = half_unit(v);
    if (v < FLT_MIN || half == 0 || !scale_to_nine((double)v, &x, &power)) {
        return false;
    }
    double radius = power >= 0 ? half * decimal_powers[power] : half / decimal_powers[-power];
    int count = DIGITS_MAX;
    uint32_t digits = (uint32_t)(x + 0.5); /* at most half a unit off: inside */
    for (int fewer = DIGITS_MAX - 1; fewer >= DIGITS_ALWAYS_KEPT; fewer--) {
        uint32_t candidate;
        enum verdict verdict = try_count(x, radius, fewer, &candidate);
        if (verdict == NOT_SURE) {
            return false;
        }
        if (verdict == OUTSIDE) {
            break;
        }
        count = fewer;
        digits = candidate;
    }
    *ret = decimal_of(digits, count, DIGITS_MAX - 1 - power);
    return true;
}

size_t decimal_format_float(float v, char out[DECIMAL_TEXT_MAX]) {
    bool negative = signbit(v) != 0;
    float magnitude = fabsf(v);
    struct decimal d = {0};
    if (magnitude != 0 && !fast_float(magnitude, &d)) {
        d = slow_float(magnitude);
    }
    return put_decimal(out, negative, d);
}

size_t decimal_format_double(double v, char out[DECIMAL_TEXT_MAX]) {
    bool negative = signbit(v) != 0;
    double magnitude = fabs(v);
    struct decimal d = {0};
    double x;
    int power;
    if (magnitude != 0) {
        if (scale_to_nine(magnitude, &x, &power) && fabs(x - (uint32_t)x - 0.5) > UNDECIDED) {
            d = decimal_of((uint32_t)(x + 0.5), DIGITS_MAX, DIGITS_MAX - 1 - power);
        } else {
            d = slow_digits(magnitude, DIGITS_MAX);
        }
    }
    return put_decimal(out, negative, d);
}
