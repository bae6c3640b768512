/*
 * status.c - filling the one error type.
 *
 * The text is formatted aside and copied, so that a caller may quote the old detail in the new one, and it is cut between
 * code points, because it goes into JSON.
 */
#include "base/status.h"

#include "base/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void copy_detail(struct status *st, char text[STATUS_DETAIL_MAX], int wanted) {
    size_t len = strlen(text);
    if (wanted >= STATUS_DETAIL_MAX) {
        len = utf8_prefix(slice_of(text, len), len);
    }
    memcpy(st->detail, text, len);
    st->detail[len] = '\0';
}

__attribute__((format(printf, 5, 0))) static bool fill(struct status *st, enum status_code code, uint16_t subject, int err,
                                                       const char *fmt, va_list args) {
    if (st == NULL) {
        return false;
    }
    char text[STATUS_DETAIL_MAX];
    text[0] = '\0';
    int wanted = vsnprintf(text, sizeof text, fmt, args);
    if (err != 0 && wanted >= 0 && wanted < STATUS_DETAIL_MAX) {
        const char *reason = strerrordesc_np(err);
        size_t used = (size_t)wanted;
        int more = reason != NULL ? snprintf(text + used, sizeof text - used, ": %s", reason)
                                  : snprintf(text + used, sizeof text - used, ": errno %d", err);
        wanted += more > 0 ? more : 0;
    }
    st->code = code;
    st->subject = subject;
    st->sys_errno = err;
    copy_detail(st, text, wanted);
    return false;
}

bool status_set(struct status *st, enum status_code code, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    (void)fill(st, code, 0, 0, fmt, args);
    va_end(args);
    return false;
}

bool status_set_subject(struct status *st, enum status_code code, uint16_t subject, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    (void)fill(st, code, subject, 0, fmt, args);
    va_end(args);
    return false;
}

static enum status_code code_of_errno(int err) {
    switch (err) {
    case ENOSPC:
    case EDQUOT:
        return STATUS_NO_SPACE;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EAGAIN: /* of fork and threads */
        return STATUS_NO_MEMORY;
    default:
        return STATUS_IO;
    }
}

bool status_set_errno(struct status *st, int err, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    (void)fill(st, code_of_errno(err), 0, err, fmt, args);
    va_end(args);
    return false;
}

bool status_no_memory(struct status *st) {
    static const char text[] = "out of memory";
    if (st != NULL) {
        st->code = STATUS_NO_MEMORY;
        st->subject = 0;
        st->sys_errno = ENOMEM;
        memcpy(st->detail, text, sizeof text);
    }
    return false;
}

void status_clear(struct status *st) {
    if (st != NULL) {
        st->code = STATUS_OK;
        st->subject = 0;
        st->sys_errno = 0;
        st->detail[0] = '\0';
    }
}

const char *status_code_name(enum status_code code) {
    switch (code) {
    case STATUS_OK:
        return "ok";
    case STATUS_MALFORMED:
        return "malformed";
    case STATUS_INVALID:
        return "invalid";
    case STATUS_DIMENSION:
        return "dimension";
    case STATUS_UNAUTHENTICATED:
        return "unauthenticated";
    case STATUS_DENIED:
        return "denied";
    case STATUS_NOT_FOUND:
        return "not_found";
    case STATUS_CONFLICT:
        return "conflict";
    case STATUS_TOO_LARGE:
        return "too_large";
    case STATUS_UNSUPPORTED_MEDIA:
        return "unsupported_media";
    case STATUS_METHOD:
        return "method";
    case STATUS_BUSY:
        return "busy";
    case STATUS_NOT_READY:
        return "not_ready";
    case STATUS_NO_EMBEDDING:
        return "no_embedding";
    case STATUS_NO_SPACE:
        return "no_space";
    case STATUS_NO_MEMORY:
        return "no_memory";
    case STATUS_IO:
        return "io";
    case STATUS_CORRUPT:
        return "corrupt";
    case STATUS_CONFIG:
        return "config";
    case STATUS_PRECONDITION:
        return "precondition";
    case STATUS_INTERNAL:
        return "internal";
    }
    return "unknown";
}
