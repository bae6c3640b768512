/*
 * clock.c - reading clocks, and RFC 3339 without the C library's time zones.
 *
 * Days are counted in the proleptic Gregorian calendar with years that begin in March, so that the leap day is a year's last
 * and needs no special case.
 */
#include "base/clock.h"

#include <time.h>

#define US_PER_SECOND INT64_C(1000000)
#define NS_PER_US INT64_C(1000)
#define SECONDS_PER_DAY INT64_C(86400)
#define DAYS_PER_400_YEARS INT64_C(146097)
/* From 0000-03-01 to 1970-01-01. */
#define EPOCH_DAY INT64_C(719468)
/* 0000-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z: what four digits of year can say. */
#define WALL_MIN (INT64_C(-62167219200) * US_PER_SECOND)
#define WALL_MAX (INT64_C(253402300800) * US_PER_SECOND - 1)

struct civil {
    int year;
    int month; /* 1 to 12 */
    int day;
    int hour;
    int minute;
    int second;
    int micro;
};

/* In production NULL. */
static const int64_t *wall_shift;

void clock_set_shift(const int64_t *shift_us) {
    wall_shift = shift_us;
}

static struct timespec now(clockid_t id) {
    struct timespec ts = {0};
    /* Cannot fail: both clocks exist on every Linux. */
    (void)clock_gettime(id, &ts);
    return ts;
}

int64_t clock_wall_us(void) {
    struct timespec ts = now(CLOCK_REALTIME);
    int64_t shift = wall_shift == NULL ? 0 : __atomic_load_n(wall_shift, __ATOMIC_RELAXED);
    return (int64_t)ts.tv_sec * US_PER_SECOND + ts.tv_nsec / NS_PER_US + shift;
}

int64_t clock_monotonic_ns(void) {
    struct timespec ts = now(CLOCK_MONOTONIC);
    return (int64_t)ts.tv_sec * US_PER_SECOND * NS_PER_US + ts.tv_nsec;
}

int64_t clock_monotonic_us(void) {
    return clock_monotonic_ns() / NS_PER_US;
}

int64_t clock_thread_us(void) {
    struct timespec ts = now(CLOCK_THREAD_CPUTIME_ID);
    return (int64_t)ts.tv_sec * US_PER_SECOND + ts.tv_nsec / NS_PER_US;
}

static int64_t floor_divide(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

static void civil_from_days(int64_t days, struct civil *ret) {
    int64_t shifted = days + EPOCH_DAY;
    int64_t era = floor_divide(shifted, DAYS_PER_400_YEARS);
    int64_t day_of_era = shifted - era * DAYS_PER_400_YEARS;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    /* 153 days in each five months from March on. */
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    ret->day = (int)(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    ret->month = (int)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
    ret->year = (int)(year_of_era + era * 400 + (ret->month <= 2));
}

static int64_t days_from_civil(int year, int month, int day) {
    int64_t y = year - (month <= 2);
    int64_t era = floor_divide(y, 400);
    int64_t year_of_era = y - era * 400;
    int64_t month_from_march = month > 2 ? month - 3 : month + 9;
    int64_t day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * DAYS_PER_400_YEARS + day_of_era - EPOCH_DAY;
}

static struct civil civil_of(int64_t wall_us) {
    struct civil c;
    int64_t clamped = wall_us < WALL_MIN ? WALL_MIN : wall_us > WALL_MAX ? WALL_MAX : wall_us;
    int64_t seconds = floor_divide(clamped, US_PER_SECOND);
    int64_t days = floor_divide(seconds, SECONDS_PER_DAY);
    int of_day = (int)(seconds - days * SECONDS_PER_DAY);
    civil_from_days(days, &c);
    c.hour = of_day / 3600;
    c.minute = of_day / 60 % 60;
    c.second = of_day % 60;
    c.micro = (int)(clamped - seconds * US_PER_SECOND);
    return c;
}

/* Decimal digits, zero-padded to `width`; returns the place after them. */
static char *put_digits(char *at, int value, int width) {
    for (int i = width - 1; i >= 0; i--) {
        at[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + width;
}

static char *put_date_part(char *at, int value, int width, char after) {
    at = put_digits(at, value, width);
    *at = after;
    return at + 1;
}

size_t rfc3339_format(int64_t wall_us, char out[RFC3339_MAX]) {
    struct civil c = civil_of(wall_us);
    char *at = out;
    at = put_date_part(at, c.year, 4, '-');
    at = put_date_part(at, c.month, 2, '-');
    at = put_date_part(at, c.day, 2, 'T');
    at = put_date_part(at, c.hour, 2, ':');
    at = put_date_part(at, c.minute, 2, ':');
    at = put_date_part(at, c.second, 2, '.');
    at = put_date_part(at, c.micro, 6, 'Z');
    *at = '\0';
    return (size_t)(at - out);
}

void date_format(int64_t wall_us, char out[9]) {
    struct civil c = civil_of(wall_us);
    char *at = put_digits(out, c.year, 4);
    at = put_digits(at, c.month, 2);
    at = put_digits(at, c.day, 2);
    *at = '\0';
}

void date_time_format(int64_t wall_us, char out[16]) {
    struct civil c = civil_of(wall_us);
    date_format(wall_us, out);
    char *at = out + 8;
    *at++ = '_';
    at = put_digits(at, c.hour, 2);
    at = put_digits(at, c.minute, 2);
    at = put_digits(at, c.second, 2);
    *at = '\0';
}

static bool take_digits(struct slice *text, size_t width, int *ret) {
    int value = 0;
    if (text->len < width) {
        return false;
    }
    for (size_t i = 0; i < width; i++) {
        if (text->data[i] < '0' || text->data[i] > '9') {
            return false;
        }
        value = value * 10 + (text->data[i] - '0');
    }
    *ret = value;
    *text = slice_of(text->data + width, text->len - width);
    return true;
}

/* One character out of `set`. */
static bool take_char(struct slice *text, const char *set, char *ret) {
    if (text->len == 0 || text->data[0] == '\0' || strchr(set, text->data[0]) == NULL) {
        return false;
    }
    *ret = (char)text->data[0];
    *text = slice_of(text->data + 1, text->len - 1);
    return true;
}

static bool take_fraction(struct slice *text, int *ret_micro) {
    int micro = 0;
    size_t digits = 0;
    char point;
    *ret_micro = 0;
    if (!take_char(text, ".", &point)) {
        return true;
    }
    for (int digit; take_digits(text, 1, &digit); digits++) {
        /* What is finer than a microsecond is cut off. */
        micro = digits < 6 ? micro * 10 + digit : micro;
    }
    for (size_t i = digits; i < 6; i++) {
        micro *= 10;
    }
    *ret_micro = micro;
    return digits > 0;
}

static bool take_offset(struct slice *text, int *ret_seconds) {
    char sign;
    char colon;
    int hours;
    int minutes;
    if (!take_char(text, "Zz+-", &sign)) {
        return false;
    }
    if (sign == 'Z' || sign == 'z') {
        *ret_seconds = 0;
        return true;
    }
    if (!take_digits(text, 2, &hours) || !take_char(text, ":", &colon) || !take_digits(text, 2, &minutes) || hours > 23 ||
        minutes > 59) {
        return false;
    }
    *ret_seconds = (sign == '-' ? -60 : 60) * (hours * 60 + minutes);
    return true;
}

static int days_in_month(int year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

static bool civil_possible(const struct civil *c) {
    /* A leap second stands in the last minute of an hour in every time zone, and counts as the next second. */
    return c->month >= 1 && c->month <= 12 && c->day >= 1 && c->day <= days_in_month(c->year, c->month) && c->hour <= 23 &&
           c->minute <= 59 && c->second <= (c->minute % 15 == 14 ? 60 : 59);
}

bool rfc3339_parse(struct slice text, int64_t *ret_wall_us) {
    struct civil c;
    char sep;
    int offset;
    bool ok = take_digits(&text, 4, &c.year) && take_char(&text, "-", &sep) && take_digits(&text, 2, &c.month) &&
              take_char(&text, "-", &sep) && take_digits(&text, 2, &c.day) && take_char(&text, "Tt ", &sep) &&
              take_digits(&text, 2, &c.hour) && take_char(&text, ":", &sep) && take_digits(&text, 2, &c.minute) &&
              take_char(&text, ":", &sep) && take_digits(&text, 2, &c.second) && take_fraction(&text, &c.micro) &&
              take_offset(&text, &offset) && text.len == 0 && civil_possible(&c);
    if (!ok) {
        return false;
    }
    int64_t days = days_from_civil(c.year, c.month, c.day);
    int64_t seconds = days * SECONDS_PER_DAY + c.hour * 3600 + c.minute * 60 + c.second - offset;
    *ret_wall_us = seconds * US_PER_SECOND + c.micro;
    return true;
}
