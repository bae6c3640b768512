/* decimal.h - inside base: what reading and writing of decimal numbers share. Outside, see scan_float and json_out.h. */
#ifndef QUIRE_BASE_DECIMAL_H
#define QUIRE_BASE_DECIMAL_H

#include <locale.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Powers of ten that a double holds exactly: 10^0 to 10^22. */
#define DECIMAL_EXACT_POWERS 22
extern const double decimal_powers[DECIMAL_EXACT_POWERS + 1];

/* The "C" locale, whatever setlocale was told; lives for ever. */
locale_t decimal_locale(void);

/* A JSON number (RFC 8259, section 6), read but not yet rounded to anything: kept * 10^exponent, plus what was cut. */
struct decimal_number {
    bool negative;
    bool integer;       /* no fraction, no exponent */
    int kept_count;     /* digits in kept: at most 19 */
    uint64_t kept;      /* the first significant digits; 0 for zero */
    int64_t cut;        /* how many digits follow that are not in kept */
    int64_t exponent;   /* of the last digit kept */
    const char *digits; /* the text from the first digit on */
    const char *mantissa_end;
    const char *end;
};

/* Reads the number that begins at `at`. On failure *ret_wrong is where the text stops being one. */
bool decimal_scan(const char *at, const char *end, struct decimal_number *ret, const char **ret_wrong);

/* A text of bounded length with a NUL that strtof and strtod round as they would round the number itself. */
#define DECIMAL_COPY_MAX 832
void decimal_copy(const struct decimal_number *n, char out[DECIMAL_COPY_MAX]);

/* Room for any number that the two below write. No NUL is put; the length is returned. `v` is finite. */
#define DECIMAL_TEXT_MAX 32
/* The shortest decimal that reads back as v. */
size_t decimal_format_float(float v, char out[DECIMAL_TEXT_MAX]);
/* Nine significant digits, rounded as printf rounds, without trailing zeros. */
size_t decimal_format_double(double v, char out[DECIMAL_TEXT_MAX]);

#endif
