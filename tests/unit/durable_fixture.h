/* durable_fixture.h - what the tests of the durable layer share: a directory of their own, faults, and a log whose every record
 * can be checked. */
#ifndef QUIRE_TESTS_DURABLE_FIXTURE_H
#define QUIRE_TESTS_DURABLE_FIXTURE_H

#include "base/io.h"
#include "durable/wal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* --- a directory --- */
struct scratch {
    char path[256];
    int fd;
};
void scratch_make(struct scratch *s);
void scratch_remove(struct scratch *s);
/* Whole files; failing fails the test. */
void file_read(int dir_fd, const char *name, struct buf *out);
void file_write(int dir_fd, const char *name, struct slice content);
void file_flip(int dir_fd, const char *name, size_t at, uint8_t bits);
void file_copy(int from_dir, const char *from, int to_dir, const char *to);
bool file_exists(int dir_fd, const char *name);
/* Names that begin with `prefix`, ascending; returns how many, at most `max`. */
size_t names_with(int dir_fd, const char *prefix, char (*out)[64], size_t max);

/* --- faults: the Nth matching call --- */
struct fault_plan {
    uint32_t calls;   /* bit per enum io_call */
    uint64_t after;   /* that many matching calls pass */
    uint64_t times;   /* then so many fail; UINT64_MAX: all */
    int error;        /* errno; 0: the process is killed instead */
    const char *path; /* only calls whose path contains it; NULL: all */
    /* counted */
    uint64_t seen;
    uint64_t failed;
    uint64_t failed_syncs;
};
#define FAULT_BIT(call) (1u << (call))
#define FAULT_CHANGES                                                                                                            \
    (FAULT_BIT(IO_OPEN) | FAULT_BIT(IO_WRITE) | FAULT_BIT(IO_FSYNC) | FAULT_BIT(IO_FDATASYNC) | FAULT_BIT(IO_FALLOCATE) |        \
     FAULT_BIT(IO_TRUNCATE) | FAULT_BIT(IO_RENAME) | FAULT_BIT(IO_UNLINK) | FAULT_BIT(IO_MKDIR) | FAULT_BIT(IO_MSYNC))
void fault_arm(struct fault_plan *plan);
void fault_disarm(void);

/* --- a log --- */
enum { LOG_TEXT_MAX = 4096 };
/* What record lsn holds when it was written in attempt `attempt`: an op-like text of a length of its own. */
size_t log_text(uint64_t lsn, uint32_t attempt, char out[LOG_TEXT_MAX]);
struct wal_options log_options(const struct scratch *s);
struct oplog *log_open_ok(const struct wal_options *o, struct wal_report *report);
bool log_put(struct oplog *log, uint64_t first, size_t count, uint32_t attempt, struct status *st);
/* Reads everything from `from` on and holds it against log_text (attempt[lsn], or 0 where attempt is NULL). Returns the last LSN,
 * from - 1 when there is none. */
uint64_t log_check(struct oplog *log, uint64_t from, const uint32_t *attempts);

#endif
