/* remote_limits.c - see remote_limits.h. */
#include "embed/remote_limits.h"

#include <curl/curl.h>
#include <stdio.h>

enum { BREAKER_DOUBLINGS = 6, MS_PER_SECOND = 1000, US_PER_SECOND = 1000000, US_PER_MINUTE = 60000000, DATE_MAX = 64, DECIMAL = 10 };

/* --- the circuit breaker ------------------------------------------------------------------------------------------------ */

void remote_breaker_init(struct remote_breaker *b, uint64_t threshold, int64_t open_us) {
    *b = (struct remote_breaker){.state = REMOTE_CLOSED, .threshold = threshold, .open_us = open_us};
}

bool remote_breaker_ask(struct remote_breaker *b, int64_t now_us, int64_t *ret_wait_us) {
    *ret_wait_us = 0;
    if (b->state == REMOTE_OPEN && now_us >= b->until_us) {
        b->state = REMOTE_HALF_OPEN;
    }
    if (b->state == REMOTE_CLOSED) {
        return true;
    }
    if (b->state == REMOTE_HALF_OPEN && !b->trying) {
        b->trying = true;
        return true;
    }
    /* Whoever tries will be done in about the time that it was open at first. */
    *ret_wait_us = b->state == REMOTE_OPEN ? b->until_us - now_us : b->open_us;
    return false;
}

void remote_breaker_succeeded(struct remote_breaker *b) {
    remote_breaker_init(b, b->threshold, b->open_us);
}

void remote_breaker_failed(struct remote_breaker *b, int64_t now_us, bool at_once) {
    b->failures++;
    if (b->state == REMOTE_OPEN) {
        return; /* one that was under way when it opened */
    }
    if (b->state == REMOTE_HALF_OPEN) {
        b->doublings += b->doublings < BREAKER_DOUBLINGS ? 1 : 0;
    } else if (!at_once && b->failures < b->threshold) {
        return;
    }
    b->trying = false;
    b->state = REMOTE_OPEN;
    b->until_us = now_us + (b->open_us << b->doublings);
}

void remote_breaker_forget(struct remote_breaker *b) {
    b->trying = false;
}

/* --- the pace ----------------------------------------------------------------------------------------------------------- */

int64_t remote_pace_wait_us(const struct remote_pace *p, int64_t now_us) {
    int64_t wait = p->free_us - US_PER_SECOND - now_us;
    return p->per_minute == 0 || wait < 0 ? 0 : wait;
}

void remote_pace_take(struct remote_pace *p, int64_t now_us, uint64_t units) {
    if (p->per_minute == 0) {
        return;
    }
    int64_t from = p->free_us > now_us ? p->free_us : now_us;
    p->free_us = from + (int64_t)((double)units * US_PER_MINUTE / (double)p->per_minute);
}

/* --- pauses ------------------------------------------------------------------------------------------------------------- */

uint64_t remote_backoff_ms(uint64_t mean_ms, uint64_t most_ms, unsigned attempt, uint64_t random) {
    uint64_t mean = mean_ms;
    for (unsigned i = 0; i < attempt && mean < most_ms; i++) {
        mean *= 2;
    }
    mean = mean < most_ms ? mean : most_ms;
    uint64_t pause = mean / 2 + random % (mean + 1);
    return pause < most_ms ? pause : most_ms;
}

bool remote_retry_after(struct slice value, int64_t wall_us, uint64_t *ret_ms) {
    char text[DATE_MAX];
    uint64_t seconds = 0;
    size_t digits = 0;
    for (; digits < value.len && value.data[digits] >= '0' && value.data[digits] <= '9'; digits++) {
        seconds = seconds < REMOTE_RETRY_AFTER_MAX_MS ? seconds * DECIMAL + (uint64_t)(value.data[digits] - '0') : seconds;
    }
    if (value.len == 0 || value.len >= sizeof text) {
        return false;
    }
    if (digits < value.len) {
        (void)snprintf(text, sizeof text, "%.*s", (int)value.len, (const char *)value.data);
        time_t at = curl_getdate(text, NULL); /* -1: no date, or before 1970 */
        if (digits > 0 || at < 0) {
            return false;
        }
        int64_t now = wall_us / US_PER_SECOND;
        seconds = at > now ? (uint64_t)(at - now) : 0;
    }
    uint64_t most = REMOTE_RETRY_AFTER_MAX_MS / MS_PER_SECOND;
    *ret_ms = (seconds < most ? seconds : most) * MS_PER_SECOND;
    return true;
}
