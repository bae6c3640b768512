/*
 * seam_errors.c - campaign "seam-errors": the Nth call through the I/O seam fails, for every N, once or from then on, while a server does each of its deeds
 * (failing.h).
 *
 *   EIO      once; and every call from then on, as of a disk that is gone        nothing that was not acknowledged counts; the log may ask for a start
 *   ENOSPC   once, and from then on, where it can be                             as soon as there is room all goes on, without a start
 *   EMFILE   of opens, ENOMEM of maps, once and from then on                     the same
 *   EINTR, and reads and writes that come short                                  nobody notices
 *
 * What processes do about it, over their sockets, is for the campaign io-errors.
 */
#include "failing.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

enum { CALLS_MAX = 4096, CLOSELY_EVERY = 16 };

#define ALL_CALLS UINT32_MAX
/* A full disk says so when something is written or made. */
#define FULL_DISK_CALLS (FAULT_BIT(IO_WRITE) | FAULT_BIT(IO_FALLOCATE) | FAULT_BIT(IO_MKDIR) | FAULT_BIT(IO_RENAME))
#define READS_AND_WRITES (FAULT_BIT(IO_READ) | FAULT_BIT(IO_WRITE))
enum { ONE_BYTE = -1 };

static const struct variant {
    const char *name;
    uint32_t calls; /* that can fail so */
    int error;      /* below 0: so few bytes */
    bool on;        /* and all such calls from then on */
    enum failing_outcome outcome;
} variants[] = {
    {"EIO", ALL_CALLS, EIO, false, OUTCOME_ANY},
    {"EIO from then on", ALL_CALLS, EIO, true, OUTCOME_ANY},
    {"ENOSPC", FULL_DISK_CALLS, ENOSPC, false, OUTCOME_HEALS},
    {"ENOSPC from then on", FULL_DISK_CALLS, ENOSPC, true, OUTCOME_HEALS},
    {"EMFILE", FAULT_BIT(IO_OPEN), EMFILE, false, OUTCOME_ANY},
    {"EMFILE from then on", FAULT_BIT(IO_OPEN), EMFILE, true, OUTCOME_ANY},
    {"ENOMEM", FAULT_BIT(IO_MMAP), ENOMEM, false, OUTCOME_HEALS},
    {"ENOMEM from then on", FAULT_BIT(IO_MMAP), ENOMEM, true, OUTCOME_HEALS},
    {"EINTR", ALL_CALLS, EINTR, false, OUTCOME_SUCCESS},
    {"one byte", READS_AND_WRITES, ONE_BYTE, false, OUTCOME_SUCCESS},
    {"one byte from then on", FAULT_BIT(IO_WRITE), ONE_BYTE - 99, true, OUTCOME_SUCCESS}, /* a hundred bytes at a time */
};
enum { VARIANTS = sizeof variants / sizeof variants[0] };

struct errors {
    struct failing f;
    uint8_t kinds[DEEDS][CALLS_MAX]; /* of each call that a deed makes when nothing fails */
    uint32_t counts[DEEDS];
    /* of the item */
    const struct variant *variant; /* NULL: it only counts */
    enum failing_deed deed;
    uint32_t nth;
    uint32_t seen; /* atomic */
};

static int hook(enum io_call call, const char *path, void *ctx) {
    struct errors *e = (struct errors *)ctx;
    uint32_t number = __atomic_fetch_add(&e->seen, 1, __ATOMIC_RELAXED);
    (void)path;
    if (e->variant == NULL) {
        if (number < CALLS_MAX) {
            e->kinds[e->deed][number] = (uint8_t)call;
        }
        return 0;
    }
    bool hit = e->variant->on ? number >= e->nth : number == e->nth;
    return hit && (e->variant->calls & FAULT_BIT(call)) != 0 ? e->variant->error : 0;
}

static void begin(void *ctx) {
    struct errors *e = (struct errors *)ctx;
    e->seen = 0;
    io_set_fault(hook, e);
}

static void end(void *ctx) {
    struct errors *e = (struct errors *)ctx;
    io_set_fault(NULL, NULL);
    if (e->variant == NULL) {
        e->counts[e->deed] = e->seen < CALLS_MAX ? e->seen : CALLS_MAX;
    }
}

static void count_calls(struct campaign *c, struct errors *e) {
    for (int deed = 0; deed < DEEDS; deed++) {
        int dir_fd = campaign_room(c);
        e->deed = (enum failing_deed)deed;
        campaign_doing(c, "%s, and nothing fails", failing_deed_names[deed]);
        failing_run(c, &e->f, e->deed, OUTCOME_SUCCESS, true, dir_fd);
        io_close(&dir_fd);
        (void)printf("%12u  calls in %s\n", e->counts[deed], failing_deed_names[deed]);
    }
}

static uint64_t all_items(const struct errors *e) {
    uint64_t count = 0;
    for (int deed = 0; deed < DEEDS; deed++) {
        count += (uint64_t)e->counts[deed] * VARIANTS;
    }
    return count;
}

static void fail_one(struct campaign *c, uint64_t item, int dir_fd, void *ctx) {
    struct errors *e = (struct errors *)ctx;
    uint64_t all = all_items(e);
    uint64_t which = c->is_long ? item : (item * all / c->count + c->seed) % all;
    int deed = 0;
    while (which >= (uint64_t)e->counts[deed] * VARIANTS) {
        which -= (uint64_t)e->counts[deed++] * VARIANTS;
    }
    e->deed = (enum failing_deed)deed;
    e->nth = (uint32_t)(which / VARIANTS);
    e->variant = &variants[which % VARIANTS];
    if ((e->variant->calls & FAULT_BIT(e->kinds[deed][e->nth])) == 0) {
        return; /* such a call does not fail so */
    }
    campaign_doing(c, "%s, call %u of %u (kind %u): %s", failing_deed_names[deed], e->nth, e->counts[deed], e->kinds[deed][e->nth], e->variant->name);
    campaign_count(c, e->variant->name, 1);
    failing_run(c, &e->f, e->deed, e->variant->outcome, item % CLOSELY_EVERY == 0, dir_fd);
}

int main(int argc, char **argv) {
    static const struct campaign_sizes sizes = {60, 900, 0};
    static struct errors e;
    struct campaign c;
    campaign_begin(&c, argc, argv, "seam-errors", &sizes);
    log_set_level(LOG_LEVEL_ERROR);
    failing_collect(&e.f);
    e.f.begin = begin;
    e.f.end = end;
    e.f.ctx = &e;
    count_calls(&c, &e);
    if (c.is_long) {
        c.count = all_items(&e);
    }
    campaign_run(&c, c.count, fail_one, &e);
    failing_fini(&e.f);
    return campaign_end(&c);
}
