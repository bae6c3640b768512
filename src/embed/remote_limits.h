/*
 * remote_limits.h - when a provider may be called, and when again: the circuit breaker, the pace, the pauses between repetitions.
 *
 * All of it is arithmetic on times that the caller passes (monotonic microseconds), under the caller's lock.
 */
#ifndef QUIRE_EMBED_REMOTE_LIMITS_H
#define QUIRE_EMBED_REMOTE_LIMITS_H

#include "embed/remote.h"

/* Closed, it lets all through and counts failures in a row. At `threshold` of them it opens: nothing goes through for open_us. Then it is half open: one call may
 * try. It closes when that succeeds; when it fails it opens again, for twice the time, up to BREAKER_DOUBLINGS times. */
struct remote_breaker {
    enum remote_breaker_state state;
    uint64_t threshold;
    int64_t open_us;
    uint64_t failures;  /* in a row */
    unsigned doublings; /* of open_us */
    int64_t until_us;   /* open: till then */
    bool trying;        /* half open: somebody does */
};
void remote_breaker_init(struct remote_breaker *b, uint64_t threshold, int64_t open_us);
/* Whether a call may be made now. If so, one of the three below has to follow. If not, *ret_wait_us says when to ask again. */
bool remote_breaker_ask(struct remote_breaker *b, int64_t now_us, int64_t *ret_wait_us);
void remote_breaker_succeeded(struct remote_breaker *b);
void remote_breaker_failed(struct remote_breaker *b, int64_t now_us, bool at_once); /* at_once: no use in counting up to the threshold */
void remote_breaker_forget(struct remote_breaker *b);                              /* the call says nothing about the provider */

/* So many units a minute, spread evenly, with a second's worth in advance (the leaky bucket as a meter: GCRA). */
struct remote_pace {
    uint64_t per_minute; /* 0: no limit */
    int64_t free_us;     /* what was taken is paid for then */
};
int64_t remote_pace_wait_us(const struct remote_pace *p, int64_t now_us); /* 0: now */
void remote_pace_take(struct remote_pace *p, int64_t now_us, uint64_t units);

/* The pause before repetition `attempt` (0 the first): half to one and a half times mean * 2^attempt, by the random number, and at most `most`. */
uint64_t remote_backoff_ms(uint64_t mean_ms, uint64_t most_ms, unsigned attempt, uint64_t random);

#define REMOTE_RETRY_AFTER_MAX_MS (24 * UINT64_C(3600000))
/* The value of Retry-After: seconds, or an HTTP date (RFC 9110, section 10.2.3, in all three forms). One beyond a day is a day; one in the past 0. */
bool remote_retry_after(struct slice value, int64_t wall_us, uint64_t *ret_ms);

#endif
