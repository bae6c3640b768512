/* clock and uuid: RFC 3339 against the C library's calendar, UUIDv7 in order across threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/uuid.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const int64_t US = 1000000;

static void clocks_run(void **state) {
    (void)state;
    int64_t wall = clock_wall_us();
    assert_true(llabs(wall / US - (int64_t)time(NULL)) <= 1);
    int64_t ns = clock_monotonic_ns();
    int64_t us = clock_monotonic_us();
    assert_true(us >= ns / 1000);
    assert_true(clock_monotonic_ns() >= ns);
}

static void formats_known_times(void **state) {
    (void)state;
    char text[RFC3339_MAX];
    assert_int_equal(rfc3339_format(0, text), 27);
    assert_string_equal(text, "1970-01-01T00:00:00.000000Z");
    (void)rfc3339_format(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999999Z");
    (void)rfc3339_format(951782400 * US, text);
    assert_string_equal(text, "2000-02-29T00:00:00.000000Z");
    (void)rfc3339_format(INT64_MIN, text);
    assert_string_equal(text, "0000-01-01T00:00:00.000000Z");
    (void)rfc3339_format(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
    char date[9];
    char date_time[16];
    date_format(951782400 * US, date);
    assert_string_equal(date, "20000229");
    date_time_format(951782400 * US + 3723 * US, date_time);
    assert_string_equal(date_time, "20000229_010203");
}

/* One instant in each of many days over 2,400 years: the same digits as gmtime, and back again. */
static void agrees_with_the_c_library(void **state) {
    (void)state;
    for (int64_t day = -700000; day < 250000; day += 61) {
        int64_t seconds = day * 86400 + llabs(day * 7919) % 86400;
        time_t t = (time_t)seconds;
        struct tm tm;
        char wanted[64];
        char text[RFC3339_MAX];
        int64_t back;
        assert_non_null(gmtime_r(&t, &tm));
        size_t len = strftime(wanted, sizeof wanted, "%Y-%m-%dT%H:%M:%S", &tm);
        /* strftime does not pad years below 1000. */
        size_t pad = 19 - len;
        (void)rfc3339_format(seconds * US + 42, text);
        assert_memory_equal(text, "0000", pad);
        assert_memory_equal(text + pad, wanted, len);
        assert_string_equal(text + 19, ".000042Z");
        assert_true(rfc3339_parse(slice_str(text), &back));
        assert_true(back == seconds * US + 42);
    }
}

static void parses_what_the_rfc_allows(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t us;
    } good[] = {
        {"1985-04-12T23:20:50.52Z", 482196050520000},        {"1996-12-19T16:39:57-08:00", 851042397000000},
        {"1990-12-31T23:59:60Z", 662688000000000},           {"1990-12-31T15:59:60-08:00", 662688000000000},
        {"1937-01-01T12:00:27.87+00:20", -1041337172130000}, {"2000-01-01t00:00:00z", 946684800000000},
        {"2000-01-01 00:00:00.1234567Z", 946684800123456},   {"1970-01-01T00:00:00-00:00", 0},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        int64_t us = -1;
        assert_true(rfc3339_parse(slice_str(good[i].text), &us));
        assert_true(us == good[i].us);
    }
}

static void refuses_what_is_no_time(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "2000-01-01",
                                      "2000-01-01T00:00:00",
                                      "2000-13-01T00:00:00Z",
                                      "2000-00-01T00:00:00Z",
                                      "2001-02-29T00:00:00Z",
                                      "1900-02-29T00:00:00Z",
                                      "2000-04-31T00:00:00Z",
                                      "2000-01-00T00:00:00Z",
                                      "2000-01-01T24:00:00Z",
                                      "2000-01-01T00:60:00Z",
                                      "2000-01-01T00:00:61Z",
                                      "2000-01-01T00:00:60Z",
                                      "2000-01-01T00:00:00.Z",
                                      "2000-01-01T00:00:00+24:00",
                                      "2000-01-01T00:00:00+0100",
                                      "2000-01-01T00:00:00+01:60",
                                      "2000-1-01T00:00:00Z",
                                      "+2000-01-01T00:00:00Z",
                                      "2000-01-01T00:00:00Zx",
                                      " 2000-01-01T00:00:00Z",
                                      "2000-01-01T00:00:0",
                                      "-001-01-01T00:00:00Z"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t us = 77;
        assert_false(rfc3339_parse(slice_str(bad[i]), &us));
        assert_true(us == 77);
    }
    int64_t us;
    assert_false(rfc3339_parse(slice_of("2000-01-01T00:00:00\0", 20), &us));
}

static void uuids_are_version_7_and_of_now(void **state) {
    (void)state;
    struct uuid id;
    int64_t before = clock_wall_us() / 1000;
    uuid_make(&id);
    int64_t ms = 0;
    for (int i = 0; i < 6; i++) {
        ms = ms << 8 | id.b[i];
    }
    assert_true(ms >= before && ms <= clock_wall_us() / 1000 + 1);
    assert_int_equal(id.b[6] >> 4, 7);
    assert_int_equal(id.b[8] >> 6, 2);
}

enum { THREADS = 4, PER_THREAD = 50000 };

static void *make_many(void *arg) {
    struct uuid *ids = (struct uuid *)arg;
    for (int i = 0; i < PER_THREAD; i++) {
        uuid_make(&ids[i]);
    }
    return NULL;
}

static int compare_ids(const void *a, const void *b) {
    return memcmp(a, b, sizeof(struct uuid));
}

/* Within each thread ascending, over all threads unique. */
static void uuids_ascend_and_never_repeat(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    struct uuid *ids = (struct uuid *)calloc(THREADS * PER_THREAD, sizeof *ids);
    assert_non_null(ids);
    for (int t = 0; t < THREADS; t++) {
        assert_int_equal(pthread_create(&threads[t], NULL, make_many, ids + t * PER_THREAD), 0);
    }
    for (int t = 0; t < THREADS; t++) {
        assert_int_equal(pthread_join(threads[t], NULL), 0);
        for (int i = 1; i < PER_THREAD; i++) {
            assert_true(compare_ids(&ids[t * PER_THREAD + i - 1], &ids[t * PER_THREAD + i]) < 0);
        }
    }
    qsort(ids, THREADS * PER_THREAD, sizeof *ids, compare_ids);
    for (size_t i = 1; i < THREADS * PER_THREAD; i++) {
        assert_false(uuid_equal(&ids[i - 1], &ids[i]));
    }
    free(ids);
}

static void uuids_are_text_and_back(void **state) {
    (void)state;
    struct uuid id;
    struct uuid back;
    char text[UUID_TEXT + 1];
    for (int i = 0; i < 1000; i++) {
        uuid_make(&id);
        uuid_format(&id, text);
        assert_int_equal(strlen(text), UUID_TEXT);
        assert_true(uuid_parse(slice_str(text), &back));
        assert_true(uuid_equal(&id, &back));
    }
    assert_true(uuid_parse(slice_str("00112233-4455-6677-8899-aabbccddeeff"), &id));
    for (int i = 0; i < UUID_BYTES; i++) {
        assert_int_equal(id.b[i], i * 0x11);
    }
}

static void uuids_have_one_spelling(void **state) {
    (void)state;
    struct uuid id;
    char text[] = "00112233-4455-6677-8899-aabbccddeeff";
    /* Any other character in any place is refused, but a hex digit for a hex digit. */
    for (size_t i = 0; i < UUID_TEXT; i++) {
        char kept = text[i];
        for (int c = 0; c < 256; c++) {
            bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
            text[i] = (char)c;
            assert_int_equal(uuid_parse(slice_of(text, UUID_TEXT), &id), kept == '-' ? c == '-' : digit);
        }
        text[i] = kept;
    }
    assert_false(uuid_parse(slice_of(text, UUID_TEXT - 1), &id));
    assert_false(uuid_parse(slice_str("00112233-4455-6677-8899-aabbccddeeff "), &id));
    assert_false(uuid_parse(slice_of(NULL, 0), &id));
}

/* The wall clock follows the file at once; the other one does not know it. An id is still later than the one before it. */
static void a_test_can_make_the_wall_clock_wrong(void **state) {
    (void)state;
    static const int64_t day_us = INT64_C(86400) * 1000000;
    static const int64_t shifts[] = {86400, -86400, 0};
    char path[] = "/tmp/quire-clock.XXXXXX";
    struct status st;
    struct uuid before;
    bool armed = false;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(setenv("QUIRE_CLOCK_SHIFT", path, 1), 0);
    assert_false(clock_shift_from_environment(&armed, &st)); /* it is empty */
    assert_int_equal(st.code, STATUS_CONFIG);
    assert_int_equal(ftruncate(fd, sizeof(int64_t)), 0);
    assert_true(clock_shift_from_environment(&armed, &st));
    assert_true(armed);
    int64_t wall = clock_wall_us();
    int64_t monotonic = clock_monotonic_us();
    uuid_make(&before);
    for (size_t i = 0; i < sizeof shifts / sizeof shifts[0]; i++) {
        int64_t shift = shifts[i] * 1000000;
        struct uuid id;
        assert_int_equal(pwrite(fd, &shift, sizeof shift, 0), sizeof shift);
        assert_true(llabs(clock_wall_us() - wall - shift) < day_us / 4);
        assert_true(clock_monotonic_us() - monotonic < day_us / 4);
        uuid_make(&id);
        assert_true(compare_ids(&before, &id) < 0);
        before = id;
    }
    assert_int_equal(unsetenv("QUIRE_CLOCK_SHIFT"), 0);
    assert_true(clock_shift_from_environment(&armed, &st));
    assert_false(armed);
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlink(path), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clocks_run),
        cmocka_unit_test(formats_known_times),
        cmocka_unit_test(agrees_with_the_c_library),
        cmocka_unit_test(parses_what_the_rfc_allows),
        cmocka_unit_test(refuses_what_is_no_time),
        cmocka_unit_test(uuids_are_version_7_and_of_now),
        cmocka_unit_test(uuids_ascend_and_never_repeat),
        cmocka_unit_test(uuids_are_text_and_back),
        cmocka_unit_test(uuids_have_one_spelling),
        cmocka_unit_test(a_test_can_make_the_wall_clock_wrong),
    };
    return cmocka_run_group_tests_name("base time", tests, NULL, NULL);
}
