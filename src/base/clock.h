/* clock.h - time: wall clock in microseconds since 1970 for records, monotonic for durations and deadlines. */
#ifndef QUIRE_BASE_CLOCK_H
#define QUIRE_BASE_CLOCK_H

#include "base/buf.h"

int64_t clock_wall_us(void);
int64_t clock_monotonic_us(void);
int64_t clock_monotonic_ns(void);
int64_t clock_thread_us(void); /* that this thread has had of a processor */

/* For tests from outside: makes the wall clock wrong by *shift_us, whatever that is at the moment. Before threads start; NULL: no more. */
void clock_set_shift(const int64_t *shift_us);
/* Does that when QUIRE_CLOCK_SHIFT is set: to a file of 8 bytes, microseconds in the machine's byte order, that the test may write to at any time. A server
 * that has it logs so loudly at its start. *ret_armed: whether there is one. false: it is no such file. */
MUST_CHECK bool clock_shift_from_environment(bool *ret_armed, struct status *st);

#define RFC3339_MAX 32
/* "2026-11-23T22:13:33.123456Z" and a NUL; microseconds always. Returns the length. */
size_t rfc3339_format(int64_t wall_us, char out[RFC3339_MAX]);
/* Any RFC 3339 time with offset; false when it is none. */
bool rfc3339_parse(struct slice text, int64_t *ret_wall_us);

/* "20261123" and "20261123_221333", UTC, with a NUL: for file names. */
void date_format(int64_t wall_us, char out[9]);
void date_time_format(int64_t wall_us, char out[16]);

#endif
