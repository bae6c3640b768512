/*
 * io_fault.c - the fault hook that QUIRE_IO_FAULT arms; see io.h for the language.
 *
 * The rules are parsed once, before threads start, and live as long as the process. Only their counters change after that.
 */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { RULES_MAX = 16, PATH_TEXT_MAX = 256, ERRNO_LIMIT = 200, DELAY_MAX_MS = 600000 };
#define ENVIRONMENT_NAME "QUIRE_IO_FAULT"

enum fault_action { FAULT_ERRNO, FAULT_KILL, FAULT_DELAY, FAULT_SHORT, FAULT_NOTE };

struct fault_rule {
    enum io_call call; /* IO_CALLS: any */
    enum fault_action action;
    int error;         /* FAULT_ERRNO */
    uint64_t delay_ms; /* FAULT_DELAY */
    uint64_t most;     /* FAULT_SHORT: bytes */
    uint64_t after;
    uint64_t times;
    char path[PATH_TEXT_MAX]; /* "" matches all */
    char file[PATH_TEXT_MAX]; /* "" is always active */
    char note[PATH_TEXT_MAX]; /* FAULT_NOTE */
    _Atomic uint64_t matched; /* by any thread */
};

static struct fault_rule rules[RULES_MAX];
static size_t rule_count;

static const char *const call_names[IO_CALLS] = {
    [IO_OPEN] = "open",           [IO_READ] = "read",           [IO_WRITE] = "write",       [IO_FSYNC] = "fsync",
    [IO_FDATASYNC] = "fdatasync", [IO_FALLOCATE] = "fallocate", [IO_TRUNCATE] = "truncate", [IO_RENAME] = "rename",
    [IO_UNLINK] = "unlink",       [IO_MKDIR] = "mkdir",         [IO_MMAP] = "mmap",         [IO_MSYNC] = "msync",
    [IO_LINK] = "link",
    [IO_LIST] = "list"};

static void wait_ms(uint64_t ms) {
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

static bool rule_applies(struct fault_rule *r, enum io_call call, const char *path) {
    if ((r->call != call && r->call != IO_CALLS) || (r->path[0] != '\0' && (path == NULL || strstr(path, r->path) == NULL))) {
        return false;
    }
    if (r->file[0] != '\0' && access(r->file, F_OK) != 0) {
        return false;
    }
    uint64_t before = atomic_fetch_add_explicit(&r->matched, 1, memory_order_relaxed);
    return before >= r->after && before - r->after < r->times;
}

/* One line for a call. A worker cannot: its sandbox lets it write nowhere. */
static void note_call(const struct fault_rule *r, enum io_call call, const char *path) {
    int fd = open(r->note, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)dprintf(fd, "%ld %s %s\n", (long)getpid(), call_names[call], path != NULL ? path : "");
        (void)close(fd);
    }
}

static int environment_hook(enum io_call call, const char *path, void *ctx) {
    (void)ctx;
    for (size_t i = 0; i < rule_count; i++) {
        if (!rule_applies(&rules[i], call, path)) {
            continue;
        }
        switch (rules[i].action) {
        case FAULT_ERRNO:
            return rules[i].error;
        case FAULT_KILL:
            (void)kill(getpid(), SIGKILL);
            break;
        case FAULT_DELAY:
            wait_ms(rules[i].delay_ms);
            break;
        case FAULT_SHORT:
            return -(int)rules[i].most;
        case FAULT_NOTE:
            note_call(&rules[i], call, path);
            break;
        }
    }
    return 0;
}

/* Cuts the part up to `separator` (or all) off the front of *text. */
static struct slice take_part(struct slice *text, char separator) {
    const uint8_t *found = text->len == 0 ? NULL : (const uint8_t *)memchr(text->data, separator, text->len);
    size_t len = found != NULL ? (size_t)(found - text->data) : text->len;
    struct slice part = slice_of(text->data, len);
    size_t skip = found != NULL ? len + 1 : len;
    *text = slice_of(text->data + skip, text->len - skip);
    return part;
}

static bool parse_count(struct slice text, uint64_t *ret) {
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || value > UINT64_MAX / 100) {
            return false;
        }
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    *ret = value;
    return text.len > 0;
}

static bool parse_call(struct slice text, enum io_call *ret) {
    if (slice_is(text, "any")) {
        *ret = IO_CALLS;
        return true;
    }
    for (int i = 0; i < IO_CALLS; i++) {
        if (slice_is(text, call_names[i])) {
            *ret = (enum io_call)i;
            return true;
        }
    }
    return false;
}

static bool parse_errno(struct slice text, int *ret) {
    for (int i = 1; i < ERRNO_LIMIT; i++) {
        const char *name = strerrorname_np(i);
        if (name != NULL && slice_is(text, name)) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static bool copy_text(struct slice text, char out[PATH_TEXT_MAX]) {
    if (text.len == 0 || text.len >= PATH_TEXT_MAX) {
        return false;
    }
    memcpy(out, text.data, text.len);
    out[text.len] = '\0';
    return true;
}

static bool parse_action(struct slice text, struct fault_rule *r) {
    struct slice value = text;
    struct slice name = take_part(&value, '=');
    if (slice_is(name, "errno")) {
        r->action = FAULT_ERRNO;
        return parse_errno(value, &r->error);
    }
    if (slice_is(name, "delay")) {
        r->action = FAULT_DELAY;
        return parse_count(value, &r->delay_ms) && r->delay_ms <= DELAY_MAX_MS;
    }
    if (slice_is(name, "short")) {
        r->action = FAULT_SHORT;
        return parse_count(value, &r->most) && r->most > 0 && r->most <= INT_MAX;
    }
    if (slice_is(name, "note")) {
        r->action = FAULT_NOTE;
        return copy_text(value, r->note);
    }
    r->action = FAULT_KILL;
    return slice_is(text, "kill");
}

static bool parse_option(struct slice text, struct fault_rule *r) {
    struct slice value = text;
    struct slice name = take_part(&value, '=');
    if (slice_is(name, "after")) {
        return parse_count(value, &r->after);
    }
    if (slice_is(name, "times")) {
        return parse_count(value, &r->times);
    }
    if (slice_is(name, "path")) {
        return copy_text(value, r->path);
    }
    return slice_is(name, "file") && copy_text(value, r->file);
}

static bool parse_rule(struct slice text, struct fault_rule *r) {
    struct slice rest = text;
    struct slice call = take_part(&rest, ':');
    *r = (struct fault_rule){.times = UINT64_MAX};
    if (!parse_call(call, &r->call) || !parse_action(take_part(&rest, ','), r)) {
        return false;
    }
    while (rest.len > 0) {
        if (!parse_option(take_part(&rest, ','), r)) {
            return false;
        }
    }
    return true;
}

bool io_fault_from_environment(bool *ret_armed, struct status *st) {
    const char *text = getenv(ENVIRONMENT_NAME);
    struct slice rest = slice_str(text);
    size_t count = 0;
    io_set_fault(NULL, NULL);
    while (rest.len > 0) {
        struct slice rule = take_part(&rest, ';');
        if (rule.len == 0) {
            continue;
        }
        if (count == RULES_MAX) {
            return status_set(st, STATUS_CONFIG, ENVIRONMENT_NAME " holds more than %d rules", RULES_MAX);
        }
        if (!parse_rule(rule, &rules[count])) {
            return status_set(st, STATUS_CONFIG, ENVIRONMENT_NAME ": \"%.*s\" is no rule", (int)rule.len,
                              (const char *)rule.data);
        }
        count++;
    }
    rule_count = count;
    if (count > 0) {
        io_set_fault(environment_hook, NULL);
    }
    *ret_armed = count > 0;
    return true;
}
