/*
 * uuid.c - UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, version, 12 bits, variant, 62 bits.
 *
 * The 74 bits behind the time are a counter (RFC 9562, 6.2, method 2): seeded at random with its highest bit clear in a new
 * millisecond, and moved on by a random step of 1 to 2^32 within one, or while the clock stands behind. So ids of one process
 * ascend strictly and still cannot be guessed from one another.
 */
#include "base/uuid.h"

#include "base/clock.h"

#include <pthread.h>
#include <sys/random.h>

enum { COUNTER_HIGH_BITS = 12 };
#define COUNTER_LOW_MASK ((UINT64_C(1) << 62) - 1)
#define COUNTER_HIGH_LIMIT (1u << COUNTER_HIGH_BITS)

struct generator {
    pthread_mutex_t lock;
    int64_t ms;
    uint32_t high; /* 12 bits */
    uint64_t low;  /* 62 bits */
};

/* Written and read under its own lock, by any thread. */
static struct generator generator = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct entropy {
    uint64_t low;
    uint32_t high;
    uint32_t step;
};

static struct entropy fresh_entropy(void) {
    struct entropy e;
    size_t have = 0;
    /* Requests of up to 256 bytes fail only with EINTR, before the kernel's pool is ready: ask again. */
    while (have < sizeof e) {
        ssize_t got = getrandom((uint8_t *)&e + have, sizeof e - have, 0);
        have += got > 0 ? (size_t)got : 0;
    }
    return e;
}

static void seed_counter(struct generator *g, int64_t ms, const struct entropy *e) {
    g->ms = ms;
    g->high = e->high & (COUNTER_HIGH_LIMIT / 2 - 1);
    g->low = e->low & COUNTER_LOW_MASK;
}

static void step_counter(struct generator *g, const struct entropy *e) {
    g->low += (uint64_t)e->step + 1;
    if (g->low > COUNTER_LOW_MASK) {
        g->low &= COUNTER_LOW_MASK;
        g->high++;
    }
    if (g->high >= COUNTER_HIGH_LIMIT) {
        /* Used up: borrow the next millisecond. */
        seed_counter(g, g->ms + 1, e);
    }
}

static void store_be(uint8_t *at, uint64_t v, size_t bytes) {
    for (size_t i = bytes; i-- > 0; v >>= 8) {
        at[i] = (uint8_t)v;
    }
}

void uuid_make(struct uuid *out) {
    struct entropy e = fresh_entropy();
    int64_t ms = clock_wall_us() / 1000;
    (void)pthread_mutex_lock(&generator.lock);
    if (ms > generator.ms) {
        seed_counter(&generator, ms, &e);
    } else {
        step_counter(&generator, &e);
    }
    store_be(out->b, (uint64_t)generator.ms, 6);
    store_be(out->b + 6, 0x7000u | generator.high, 2);
    store_be(out->b + 8, UINT64_C(1) << 63 | generator.low, 8);
    (void)pthread_mutex_unlock(&generator.lock);
}

/* A hyphen stands before these bytes. */
static bool hyphen_before(size_t byte) {
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_format(const struct uuid *id, char out[UUID_TEXT + 1]) {
    static const char digits[] = "0123456789abcdef";
    char *at = out;
    for (size_t i = 0; i < UUID_BYTES; i++) {
        if (hyphen_before(i)) {
            *at++ = '-';
        }
        *at++ = digits[id->b[i] >> 4];
        *at++ = digits[id->b[i] & 0xf];
    }
    *at = '\0';
}

static int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool uuid_parse(struct slice text, struct uuid *ret) {
    struct uuid id;
    if (text.len != UUID_TEXT) {
        return false;
    }
    const uint8_t *at = text.data;
    for (size_t i = 0; i < UUID_BYTES; i++) {
        if (hyphen_before(i) && *at++ != '-') {
            return false;
        }
        int high = hex_value(at[0]);
        int low = hex_value(at[1]);
        if (high < 0 || low < 0) {
            return false;
        }
        id.b[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    *ret = id;
    return true;
}

bool uuid_equal(const struct uuid *a, const struct uuid *b) {
    return memcmp(a->b, b->b, UUID_BYTES) == 0;
}
