/* secret.c - see secret.h. */
#include "base/secret.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

enum { MARK = 3, RANDOM = 30, CHECK = 6, BASE = 62, FAIR = 4 * BASE /* bytes below are spread evenly over the digits */, DRAW = 64 };
_Static_assert(MARK + RANDOM + CHECK == SECRET_TEXT, "all of it");

static const char mark[] = "qk_";
static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static uint32_t crc32_of(const char *text, size_t len) {
    const uint32_t polynomial = 0xedb88320;
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < len; i++) {
        crc ^= (uint8_t)text[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (polynomial & (0 - (crc & 1)));
        }
    }
    return ~crc;
}

static void put_check(const char *random, char *out) {
    uint32_t crc = crc32_of(random, RANDOM);
    for (int i = CHECK - 1; i >= 0; i--) {
        out[i] = digits[crc % BASE];
        crc /= BASE;
    }
}

static bool draw(uint8_t bytes[DRAW], struct status *st) {
    ssize_t n = getrandom(bytes, DRAW, 0);
    return n == DRAW || status_set_errno(st, n < 0 ? errno : EIO, "cannot draw random bytes");
}

bool secret_make(char out[SECRET_TEXT + 1], struct status *st) {
    char made[SECRET_TEXT + 1];
    size_t have = 0;
    memcpy(made, mark, MARK);
    while (have < RANDOM) {
        uint8_t bytes[DRAW];
        if (!draw(bytes, st)) {
            return false;
        }
        for (size_t i = 0; i < DRAW && have < RANDOM; i++) {
            if (bytes[i] < FAIR) {
                made[MARK + have++] = digits[bytes[i] % BASE];
            }
        }
        secret_wipe(bytes, sizeof bytes);
    }
    put_check(made + MARK, made + MARK + RANDOM);
    made[SECRET_TEXT] = '\0';
    memcpy(out, made, sizeof made);
    secret_wipe(made, sizeof made);
    return true;
}

bool secret_well_formed(struct slice text) {
    char check[CHECK];
    if (text.len != SECRET_TEXT || memcmp(text.data, mark, MARK) != 0) {
        return false;
    }
    for (size_t i = MARK; i < SECRET_TEXT; i++) {
        if (text.data[i] == '\0' || strchr(digits, text.data[i]) == NULL) {
            return false;
        }
    }
    put_check((const char *)text.data + MARK, check);
    return memcmp(text.data + MARK + RANDOM, check, CHECK) == 0;
}

void secret_wipe(void *at, size_t len) {
    explicit_bzero(at, len);
}
