/* test_base_secret.c - secrets have their form, and never come twice. */
#include "base/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DRAWN = 2000 };

static void test_form(void **state) {
    (void)state;
    char secret[SECRET_TEXT + 1];
    struct status st = {0};
    for (int i = 0; i < DRAWN; i++) {
        assert_true(secret_make(secret, &st));
        assert_int_equal(strlen(secret), SECRET_TEXT);
        assert_true(secret_well_formed(slice_str(secret)));
    }
    secret[10] = secret[10] == 'a' ? 'b' : 'a';
    assert_false(secret_well_formed(slice_str(secret)));
    assert_false(secret_well_formed(slice_str("qk_")));
    assert_false(secret_well_formed(slice_str("qk_000000000000000000000000000000/00000")));
}

static void test_check_is_the_crc_of_zip(void **state) {
    (void)state;
    /* python3 -c 'import zlib; print(zlib.crc32(b"abcdefghijklmnopqrstuvwxyz0123"))' says 2154666580 */
    assert_true(secret_well_formed(slice_str("qk_abcdefghijklmnopqrstuvwxyz01232LolCm")));
    assert_false(secret_well_formed(slice_str("qk_abcdefghijklmnopqrstuvwxyz01242LolCm")));
}

static int compare(const void *a, const void *b) {
    return memcmp(a, b, SECRET_TEXT);
}

/* All characters come in all places, and none more often than chance has it. */
static void test_spread(void **state) {
    (void)state;
    static char drawn[DRAWN][SECRET_TEXT + 1];
    unsigned seen[256] = {0};
    struct status st = {0};
    for (int i = 0; i < DRAWN; i++) {
        assert_true(secret_make(drawn[i], &st));
        for (int k = 3; k < SECRET_TEXT - 6; k++) {
            seen[(uint8_t)drawn[i][k]]++;
        }
    }
    qsort(drawn, DRAWN, sizeof drawn[0], compare);
    for (int i = 1; i < DRAWN; i++) {
        assert_true(compare(drawn[i - 1], drawn[i]) < 0);
    }
    unsigned kinds = 0;
    for (int c = 0; c < 256; c++) {
        kinds += seen[c] > 0 ? 1 : 0;
        assert_true(seen[c] == 0 || (seen[c] > 700 && seen[c] < 1250)); /* 968 on average; 9 standard deviations */
    }
    assert_int_equal(kinds, 62);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_check_is_the_crc_of_zip),
        cmocka_unit_test(test_spread),
    };
    return cmocka_run_group_tests_name("base_secret", tests, NULL, NULL);
}
