/*
 * status.h - the one error type.
 *
 * A function that can fail returns bool (true: done) and takes a `struct status *st` last. The status is set once, where
 * the error arises, carried up unchanged, logged once by proc, and turned into HTTP once by api. On failure the other
 * outputs are untouched. `detail` is written for the person who sent the request or runs the server: what is wrong and
 * what to do. It never holds a file's content, a key or an address of memory.
 */
#ifndef QUIRE_BASE_STATUS_H
#define QUIRE_BASE_STATUS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

enum status_code {
    STATUS_OK = 0,
    STATUS_MALFORMED,       /* bytes that do not follow their format (JSON, op, snapshot from outside) */
    STATUS_INVALID,         /* well-formed, but of a wrong type or out of range */
    STATUS_DIMENSION,       /* a vector of another dimension than the library's */
    STATUS_UNAUTHENTICATED, /* no key, or an unknown one */
    STATUS_DENIED,          /* a known key without the right */
    STATUS_NOT_FOUND,
    STATUS_CONFLICT,        /* an id that is taken */
    STATUS_TOO_LARGE,       /* over a named limit */
    STATUS_UNSUPPORTED_MEDIA,
    STATUS_METHOD,          /* the path exists, the method does not */
    STATUS_BUSY,            /* a queue is full, a deadline passed: try again */
    STATUS_NOT_READY,       /* starting or stopping: try again */
    STATUS_NO_EMBEDDING,    /* the embedding model cannot answer now */
    STATUS_NO_SPACE,        /* disk full */
    STATUS_NO_MEMORY,
    STATUS_IO,              /* the operating system refused; sys_errno says why */
    STATUS_CORRUPT,         /* stored bytes fail their check */
    STATUS_CONFIG,          /* the configuration is wrong */
    STATUS_INTERNAL,        /* a bug */
    STATUS_PRECONDITION     /* what the request asks of the present state does not hold */
};

#define STATUS_LAST STATUS_PRECONDITION /* codes stand in the log: new ones go to the end */
#define STATUS_DETAIL_MAX 320

struct status {
    enum status_code code;
    uint16_t subject; /* what was not found or conflicts: an `enum subject` of store; 0 where it does not matter */
    int sys_errno;    /* 0, or the errno that caused it */
    char detail[STATUS_DETAIL_MAX];
};

/* Fill *st (st may be NULL) and return false, so that a failing function can end in `return status_set(...)`. */
bool status_set(struct status *st, enum status_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* As status_set, with the subject that NOT_FOUND and CONFLICT speak of. */
bool status_set_subject(struct status *st, enum status_code code, uint16_t subject, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* As status_set, for a failed system call: ENOSPC and EDQUOT become STATUS_NO_SPACE; ENOMEM, EMFILE, ENFILE and EAGAIN,
 * which pass as well, STATUS_NO_MEMORY; all others STATUS_IO; ": <strerror>" is appended to the text. errno is taken as an argument so that nothing between can lose it. */
bool status_set_errno(struct status *st, int err, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* STATUS_NO_MEMORY with a fixed text; allocates nothing. */
bool status_no_memory(struct status *st);

void status_clear(struct status *st);

/* A stable word for logs: "no_space". Never NULL. */
const char *status_code_name(enum status_code code);

#endif
