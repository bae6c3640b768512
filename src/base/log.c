/*
 * log.c - log lines.
 *
 * A line is built on the stack and written by one write(2): no memory is asked for (a log line about missing memory must get
 * out), no lock is held, and on a descriptor opened O_APPEND lines of several processes do not mix. A message that does not fit
 * is cut and ends in "...". Reopening puts the new file under the old descriptor number with dup3, so writers need not know of
 * it.
 */
#include "base/log.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    MESSAGE_MAX = 2048,
    PROCESS_MAX = 32,
    ESCAPED_MAX = 6, /* "\\u001b" */
    FRAME_MAX = 256, /* time, level, member names */
    /* Whatever has to be escaped, the line is whole: cut JSON would be no JSON. */
    LINE_MAX_BYTES = ESCAPED_MAX * (MESSAGE_MAX + PROCESS_MAX) + FRAME_MAX,
    LOG_FILE_MODE = 0640
};

/* level is read by every thread at any time. All others are written by log_open and log_close, before threads start and after
 * they end. */
struct log {
    _Atomic int level;
    int fd;
    enum log_format format;
    char process[PROCESS_MAX];
    char *path; /* NULL: standard error */
};

static struct log logger = {.level = LOG_LEVEL_INFO, .fd = STDERR_FILENO, .process = "quire"};

static const char *const level_names[] = {"error", "warn", "info", "debug"};
/* syslog(3) priorities, as journald reads them. */
static const char level_priorities[] = {'3', '4', '6', '7'};

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
};

static void put(struct line *l, const char *text, size_t len) {
    /* The last byte is kept for the newline. */
    size_t room = sizeof l->text - 1 - l->len;
    size_t take = len < room ? len : room;
    memcpy(l->text + l->len, text, take);
    l->len += take;
}

static void put_str(struct line *l, const char *text) {
    put(l, text, strlen(text));
}

static void put_pid(struct line *l) {
    char digits[16];
    (void)snprintf(digits, sizeof digits, "%ld", (long)getpid());
    put_str(l, digits);
}

/* "2026-11-23T22:13:33.123Z": milliseconds are enough for people. */
static void put_time(struct line *l) {
    enum { UP_TO_MILLISECONDS = 23 };
    char text[RFC3339_MAX];
    (void)rfc3339_format(clock_wall_us(), text);
    put(l, text, UP_TO_MILLISECONDS);
    put_str(l, "Z");
}

static void put_hex(struct line *l, const char *prefix, uint8_t byte) {
    static const char digits[] = "0123456789abcdef";
    char two[2] = {digits[byte >> 4], digits[byte & 0xf]};
    put_str(l, prefix);
    put(l, two, sizeof two);
}

static bool is_control(uint32_t code) {
    return code < 0x20 || (code >= 0x7f && code < 0xa0);
}

static void put_escaped_text(struct line *l, const uint8_t *bytes, size_t len) {
    if (len == 1 && bytes[0] == '\n') {
        put_str(l, "\\n");
        return;
    }
    for (size_t i = 0; i < len; i++) {
        put_hex(l, "\\x", bytes[i]);
    }
}

static void put_escaped_json(struct line *l, uint32_t code) {
    if (code == '"' || code == '\\') {
        char pair[2] = {'\\', (char)code};
        put(l, pair, sizeof pair);
    } else if (code == '\n') {
        put_str(l, "\\n");
    } else {
        put_hex(l, "\\u00", (uint8_t)code);
    }
}

/* Control characters are escaped; what is no UTF-8 is escaped byte by byte in text, and replaced in JSON. */
static void put_message(struct line *l, struct slice message, bool json) {
    size_t at = 0;
    while (at < message.len) {
        size_t before = at;
        uint32_t code = utf8_next(message, &at);
        const uint8_t *bytes = message.data + before;
        bool broken = at - before == 1 && bytes[0] >= 0x80;
        if (json && broken) {
            put_str(l, "\xEF\xBF\xBD");
        } else if (!json && (broken || is_control(code))) {
            put_escaped_text(l, bytes, at - before);
        } else if (json && (is_control(code) || code == '"' || code == '\\')) {
            put_escaped_json(l, code);
        } else {
            put(l, (const char *)bytes, at - before);
        }
    }
}

static void put_priority(struct line *l, enum log_level level) {
    char priority[3] = {'<', level_priorities[level], '>'};
    put(l, priority, sizeof priority);
}

static void put_text_line(struct line *l, enum log_level level, struct slice message) {
    if (logger.format == LOG_FORMAT_JOURNAL) {
        put_priority(l, level);
    } else {
        put_time(l);
        put_str(l, " ");
        put_str(l, level_names[level]);
        put_str(l, &"      "[strlen(level_names[level])]); /* to a column */
    }
    put_str(l, logger.process);
    put_str(l, "[");
    put_pid(l);
    put_str(l, "]: ");
    put_message(l, message, false);
}

static void put_json_line(struct line *l, enum log_level level, struct slice message) {
    if (logger.format == LOG_FORMAT_JOURNAL_JSON) {
        put_priority(l, level);
    }
    put_str(l, "{\"time\":\"");
    put_time(l);
    put_str(l, "\",\"level\":\"");
    put_str(l, level_names[level]);
    put_str(l, "\",\"process\":\"");
    put_message(l, slice_str(logger.process), true);
    put_str(l, "\",\"pid\":");
    put_pid(l);
    put_str(l, ",\"message\":\"");
    put_message(l, message, true);
    put_str(l, "\"}");
}

static void write_line(const struct line *l) {
    ssize_t n;
    do {
        n = write(logger.fd, l->text, l->len);
    } while (n < 0 && errno == EINTR);
    /* Nothing can be done where the log itself cannot be written. */
}

/* A message that vsnprintf cut ends in a mark, between code points. */
static struct slice cut_message(char text[MESSAGE_MAX], int wanted) {
    static const char mark[] = "...";
    if (wanted < MESSAGE_MAX) {
        return slice_str(text);
    }
    size_t keep = utf8_prefix(slice_str(text), MESSAGE_MAX - sizeof mark);
    memcpy(text + keep, mark, sizeof mark);
    return slice_str(text);
}

static void emit(enum log_level level, struct slice message) {
    struct line l;
    l.len = 0;
    if (logger.format == LOG_FORMAT_JSON || logger.format == LOG_FORMAT_JOURNAL_JSON) {
        put_json_line(&l, level, message);
    } else {
        put_text_line(&l, level, message);
    }
    l.text[l.len++] = '\n';
    write_line(&l);
}

void log_at(enum log_level level, const char *fmt, ...) {
    int saved_errno = errno;
    if ((int)level > atomic_load_explicit(&logger.level, memory_order_relaxed)) {
        return;
    }
    char text[MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    int wanted = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (wanted >= 0) {
        emit(level, cut_message(text, wanted));
    }
    errno = saved_errno;
}

void log_status(enum log_level level, const char *what, const struct status *st) {
    log_at(level, "%s: %s (%s)", what, st->detail, status_code_name(st->code));
}

static bool open_file(const char *path, int *ret_fd, struct status *st) {
    return io_open_at(AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY, LOG_FILE_MODE, ret_fd, st);
}

bool log_open(const char *process, const char *path, enum log_level level, enum log_format format, struct status *st) {
    int fd = STDERR_FILENO;
    char *copy = NULL;
    if (path != NULL) {
        copy = strdup(path);
        if (copy == NULL) {
            return status_no_memory(st);
        }
        if (!open_file(path, &fd, st)) {
            free(copy);
            return false;
        }
    }
    log_close();
    logger.fd = fd;
    logger.path = copy;
    logger.format = format;
    (void)snprintf(logger.process, sizeof logger.process, "%s", process);
    log_set_level(level);
    return true;
}

void log_set_level(enum log_level level) {
    atomic_store_explicit(&logger.level, (int)level, memory_order_relaxed);
}

bool log_reopen(struct status *st) {
    int fd = -1;
    if (logger.path == NULL) {
        return true;
    }
    if (!open_file(logger.path, &fd, st)) {
        return false;
    }
    bool ok = dup3(fd, logger.fd, O_CLOEXEC) >= 0 || status_set_errno(st, errno, "cannot reopen the log %s", logger.path);
    io_close(&fd);
    return ok;
}

void log_close(void) {
    if (logger.path != NULL) {
        io_close(&logger.fd);
        free(logger.path);
    }
    logger.path = NULL;
    logger.fd = STDERR_FILENO;
    logger.format = LOG_FORMAT_TEXT;
}
