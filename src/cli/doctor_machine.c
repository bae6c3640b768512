/* doctor_machine.c - what the machine gives the server: open files, memory, a clock. */
#include "cli/doctor.h"

#include "base/io.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/timex.h>

enum { PROC_FILE_MAX = 65536 };

/* "Max open files            1024                 524288               files" */
void doctor_judge_limits(struct doctor *d, const char *limits) {
    static const char row[] = "Max open files";
    enum { LEAST = 1024 };
    const char *at = strstr(limits, row);
    if (at == NULL)
        return;
    unsigned long long soft = strtoull(at + sizeof row - 1, NULL, 10);
    at += sizeof row - 1;
    bool unlimited = strncmp(at + strspn(at, " "), "unlimited", 9) == 0;
    if (!unlimited && soft < LEAST)
        doctor_find(d, TROUBLE_FILES_LIMIT, "LimitNOFILE", "process %ld may have %llu files open; it needs %d and more with many libraries", (long)d->pid, soft, LEAST);
}

void doctor_judge_memory(struct doctor *d, const char *meminfo, const char *overcommit, uint64_t dense_bytes) {
    static const char row[] = "MemTotal:";
    enum { KIB = 1024, MOST_PERCENT = 80 };
    char have[32], need[32];
    const char *at = strstr(meminfo, row);
    uint64_t total = at == NULL ? 0 : strtoull(at + sizeof row - 1, NULL, 10) * KIB;
    if (total > 0 && dense_bytes > total / 100 * MOST_PERCENT)
        doctor_find(d, TROUBLE_MEMORY_LOW, "vectors/", "codes and links take %s, and the machine has %s", cli_bytes(dense_bytes, need), cli_bytes(total, have));
    if (strtol(overcommit, NULL, 10) == 2)
        doctor_find(d, TROUBLE_OVERCOMMIT, "/proc/sys/vm/overcommit_memory", "%s", "");
}

static bool add_graph(int dir_fd, const char *name, void *ctx, struct status *st) {
    uint64_t *bytes = ctx;
    struct stat s;
    (void)st;
    if (strncmp(name, "graph.", 6) == 0 && fstatat(dir_fd, name, &s, AT_SYMLINK_NOFOLLOW) == 0)
        *bytes += (uint64_t)s.st_size;
    return true;
}

/* What cannot be looked at does not count. */
static void add_entries(int dir_fd, const char *name, io_entry_fn fn, uint64_t *bytes) {
    struct status ignored;
    int fd = -1;
    bool whole = io_open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, &ignored) && io_each_entry(fd, name, fn, bytes, &ignored);
    (void)whole;
    io_close(&fd);
}

static bool add_library(int dir_fd, const char *name, void *ctx, struct status *st) {
    (void)st;
    add_entries(dir_fd, name, add_graph, ctx);
    return true;
}

static uint64_t dense_bytes(const struct doctor *d) {
    uint64_t bytes = 0;
    if (d->data_fd >= 0)
        add_entries(d->data_fd, "vectors", add_library, &bytes);
    return bytes;
}

static void read_text(const char *path, struct buf *out) {
    struct status st;
    if (!io_read_file(AT_FDCWD, path, PROC_FILE_MAX, out, &st))
        buf_reset(out);
    buf_put_u8(out, 0);
}

void doctor_look_at_machine(struct doctor *d) {
    struct buf meminfo = {0}, overcommit = {0};
    struct timex clock = {.modes = 0};
    read_text("/proc/meminfo", &meminfo);
    read_text("/proc/sys/vm/overcommit_memory", &overcommit);
    if (buf_ok(&meminfo) && buf_ok(&overcommit))
        doctor_judge_memory(d, (const char *)meminfo.data, (const char *)overcommit.data, dense_bytes(d));
    buf_fini(&meminfo);
    buf_fini(&overcommit);
    if (adjtimex(&clock) == TIME_ERROR || (clock.status & STA_UNSYNC) != 0)
        doctor_find(d, TROUBLE_CLOCK_UNSYNCHRONISED, "CLOCK_REALTIME", "%s", "");
}
