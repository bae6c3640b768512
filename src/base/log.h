/*
 * log.h - log lines, for people and for journald.
 *
 * One line an event, to one descriptor, in one write(2), so lines of several processes do not mix. Text form:
 *     2026-11-23T22:13:33.123Z info  quired[1234]: restored library ...
 * With LOG_FORMAT_JOURNAL the line begins with "<6>" and carries no time (journald adds it); with LOG_FORMAT_JSON it is one JSON object
 * {"time","level","process","pid","message"}; with LOG_FORMAT_JOURNAL_JSON that object behind "<6>", which journald takes off: each MESSAGE is JSON. Control characters of the message are escaped (\n, \x1b), so no request
 * can forge a line.
 */
#ifndef QUIRE_BASE_LOG_H
#define QUIRE_BASE_LOG_H

#include "base/status.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JOURNAL, LOG_FORMAT_JSON, LOG_FORMAT_JOURNAL_JSON };

/* `process` (kept by the log, copied) is "quired" or "worker 3". path NULL: standard error. */
MUST_CHECK bool log_open(const char *process, const char *path, enum log_level level, enum log_format format, struct status *st);
void log_set_level(enum log_level level);
/* Opens the path again (after rotation); keeps the old one when that fails. */
MUST_CHECK bool log_reopen(struct status *st);
void log_close(void);

void log_at(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
/* "<what>: <detail> (<code name>)". */
void log_status(enum log_level level, const char *what, const struct status *st);

#endif
