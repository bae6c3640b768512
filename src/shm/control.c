/*
 * control.c - making and mapping the control segment.
 *
 * What a process maps:
 *
 *     private page(s)   struct layout, read-only once written; never shared
 *     the memfd         struct control | directory: capacity entries | figures | zeros to the end of the page
 *
 * A caller holds the address of the second part. The first is found in front of it, so every access to directory and figures goes
 * by numbers that no other process can change, and unmapping by the length that was mapped.
 *
 * control_map does not believe the offsets in the segment either: it computes the layout anew from the few numbers that
 * determine it, and refuses the segment when the stored offsets, or its size, differ from the outcome.
 */
#include "shm/control.h"

#include "base/clock.h"
#include "base/io.h"
#include "shm/atomics.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A multiple of every page size that Linux has. */
#define PRIVATE_BYTES ((size_t)64 * 1024)
/* Far above any directory; bounds what a wrong configuration or a foreign descriptor makes us map. */
#define SEGMENT_MAX_BYTES (UINT64_C(1) << 30)
#define ENTRY_ALIGNMENT 8

enum { US_PER_SECOND = 1000000, NS_PER_US = 1000 };

/* The size is for ever: a worker that could shrink it would end the supervisor by SIGBUS. */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static const char segment_title[] = "the control segment";

struct layout {
    uint32_t workers;
    uint32_t entry_size;
    uint32_t capacity;
    uint64_t directory_offset;
    uint64_t figures_offset;
    uint64_t figures_size;
    uint64_t segment_bytes;
};

_Static_assert(sizeof(struct layout) <= PRIVATE_BYTES, "the private part holds the layout");
_Static_assert(sizeof(struct control) % RWLOCK_CACHE_LINE == 0, "the directory begins a cache line");

static uint64_t round_up(uint64_t value, uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

/* False when the numbers are out of range. */
static bool layout_compute(uint32_t workers, uint32_t entry_size, uint32_t capacity, uint64_t figures_size, struct layout *ret) {
    uint64_t directory_bytes = (uint64_t)entry_size * capacity;
    if (workers == 0 || workers > CONTROL_MAX_WORKERS || entry_size % ENTRY_ALIGNMENT != 0 ||
        directory_bytes > SEGMENT_MAX_BYTES || figures_size > SEGMENT_MAX_BYTES) {
        return false;
    }
    struct layout l = {.workers = workers, .entry_size = entry_size, .capacity = capacity, .figures_size = figures_size};
    l.directory_offset = sizeof(struct control);
    l.figures_offset = round_up(l.directory_offset + directory_bytes, RWLOCK_CACHE_LINE);
    l.segment_bytes = round_up(l.figures_offset + figures_size, (uint64_t)sysconf(_SC_PAGESIZE));
    if (l.segment_bytes > SEGMENT_MAX_BYTES) {
        return false;
    }
    *ret = l;
    return true;
}

static struct layout *layout_of(struct control *c) {
    return (struct layout *)(void *)((uint8_t *)c - PRIVATE_BYTES);
}

/* Maps the segment behind a private part, which is still writable and knows nothing but the segment's size. */
static bool map_segment(int fd, uint64_t segment_bytes, struct control **ret, struct status *st) {
    size_t total = PRIVATE_BYTES + (size_t)segment_bytes;
    void *map = NULL;
    uint8_t *private_part = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (private_part == MAP_FAILED) {
        return status_set_errno(st, errno, "cannot reserve %zu bytes of address space for %s", total, segment_title);
    }
    if (!io_map(fd, private_part + PRIVATE_BYTES, 0, (size_t)segment_bytes, true, segment_title, &map, st)) {
        (void)munmap(private_part, total);
        return false;
    }
    *ret = (struct control *)map;
    layout_of(*ret)->segment_bytes = segment_bytes;
    return true;
}

static bool fix_layout(struct control *c, const struct layout *layout, struct status *st) {
    *layout_of(c) = *layout;
    return mprotect(layout_of(c), PRIVATE_BYTES, PROT_READ) == 0 ||
           status_set_errno(st, errno, "cannot protect the layout of %s", segment_title);
}

void control_unmap(struct control *c) {
    if (c != NULL) {
        (void)munmap(layout_of(c), PRIVATE_BYTES + (size_t)layout_of(c)->segment_bytes);
    }
}

/* --- waiting for a publication ---------------------------------------------------------------------------------------- */

/* The futex word: the low half of the LSN. Both architectures are little-endian, and nobody sleeps through 2^32 commits. */
static const uint32_t *waiting_word(const struct control *c) {
    return (const uint32_t *)(const void *)&c->published_lsn;
}

bool control_await_lsn(const struct control *c, uint64_t lsn, int64_t deadline_us) {
    for (;;) {
        uint64_t published = load_relaxed_u64(&c->published_lsn);
        int64_t left_us = deadline_us - clock_monotonic_us();
        if (published >= lsn) {
            return true;
        }
        if (left_us <= 0) {
            return false;
        }
        struct timespec limit = {.tv_sec = (time_t)(left_us / US_PER_SECOND),
                                 .tv_nsec = (long)(left_us % US_PER_SECOND) * NS_PER_US};
        (void)syscall(SYS_futex, waiting_word(c), FUTEX_WAIT, (uint32_t)published, &limit, NULL, 0);
    }
}

void control_wake_waiters(struct control *c) {
    (void)syscall(SYS_futex, waiting_word(c), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* --- the supervisor: create ------------------------------------------------------------------------------------------- */

static void fill_header(struct control *c, const struct layout *layout) {
    c->magic = CONTROL_MAGIC;
    c->format = CONTROL_FORMAT;
    c->workers = layout->workers;
    c->segment_bytes = layout->segment_bytes;
    c->directory_entry_size = layout->entry_size;
    c->directory_capacity = layout->capacity;
    c->directory_offset = layout->directory_offset;
    c->figures_offset = layout->figures_offset;
    c->figures_size = layout->figures_size;
}

/* A descriptor of the segment's final size, with every page allocated. */
static bool make_memfd(uint64_t size, int *ret_fd, struct status *st) {
    int fd = memfd_create("quire-control", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return status_set_errno(st, errno, "cannot create %s", segment_title);
    }
    bool ok = io_truncate(fd, (off_t)size, segment_title, st) && io_allocate(fd, 0, (off_t)size, segment_title, st);
    if (ok && fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
        ok = status_set_errno(st, errno, "cannot seal %s", segment_title);
    }
    if (!ok) {
        io_close(&fd);
        return false;
    }
    *ret_fd = fd;
    return true;
}

bool control_create(uint32_t workers, uint32_t entry_size, uint32_t capacity, uint64_t figures_size, int *ret_fd,
                    struct control **ret, struct status *st) {
    struct layout layout;
    struct control *c = NULL;
    int fd = -1;
    if (!layout_compute(workers, entry_size, capacity, figures_size, &layout)) {
        return status_set(st, STATUS_INVALID, "%s cannot be made for %u workers and %u entries of %u bytes", segment_title,
                          (unsigned)workers, (unsigned)capacity, (unsigned)entry_size);
    }
    if (!make_memfd(layout.segment_bytes, &fd, st) || !map_segment(fd, layout.segment_bytes, &c, st) ||
        !fix_layout(c, &layout, st) || !rwlock_init(&c->lock, workers, st)) {
        control_unmap(c);
        io_close(&fd);
        return false;
    }
    fill_header(c, &layout);
    *ret_fd = fd;
    *ret = c;
    return true;
}

/* --- a worker: map ---------------------------------------------------------------------------------------------------- */

static bool refuse(struct status *st, const char *why) {
    return status_set(st, STATUS_CORRUPT, "the inherited descriptor is not %s of this program: %s", segment_title, why);
}

/* Size and seals: what can be known without mapping. */
static bool check_descriptor(int fd, uint64_t *ret_bytes, struct status *st) {
    off_t size = 0;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SEALS) != SEALS) {
        return refuse(st, "it is not a sealed memory file");
    }
    if (!io_size(fd, &size, st)) {
        return false;
    }
    if (size < (off_t)sizeof(struct control) || size > (off_t)SEGMENT_MAX_BYTES) {
        return refuse(st, "its size is wrong");
    }
    *ret_bytes = (uint64_t)size;
    return true;
}

/* Each field is read once: another process may change it between a check and a use. */
static bool check_header(const struct control *c, uint64_t bytes, struct layout *ret, struct status *st) {
    struct layout layout;
    if (load_relaxed_u64(&c->magic) != CONTROL_MAGIC) {
        return refuse(st, "it does not begin as one");
    }
    uint32_t format = load_relaxed_u32(&c->format);
    if (format != CONTROL_FORMAT) {
        return status_set(st, STATUS_CORRUPT, "the inherited descriptor is not %s of this program: it has format %u, and ours is %d", segment_title,
                          (unsigned)format, CONTROL_FORMAT);
    }
    if (!layout_compute(load_relaxed_u32(&c->workers), load_relaxed_u32(&c->directory_entry_size),
                        load_relaxed_u32(&c->directory_capacity), load_relaxed_u64(&c->figures_size), &layout) ||
        load_relaxed_u64(&c->directory_offset) != layout.directory_offset ||
        load_relaxed_u64(&c->figures_offset) != layout.figures_offset ||
        load_relaxed_u64(&c->segment_bytes) != layout.segment_bytes) {
        return refuse(st, "its parts do not fit together");
    }
    if (layout.segment_bytes != bytes) {
        return refuse(st, "it is shorter or longer than it says");
    }
    *ret = layout;
    return true;
}

bool control_map(int fd, struct control **ret, struct status *st) {
    struct layout layout;
    struct control *c = NULL;
    uint64_t bytes = 0;
    if (!check_descriptor(fd, &bytes, st) || !map_segment(fd, bytes, &c, st)) {
        return false;
    }
    if (!check_header(c, bytes, &layout, st) || !fix_layout(c, &layout, st)) {
        control_unmap(c);
        return false;
    }
    *ret = c;
    return true;
}

/* --- use -------------------------------------------------------------------------------------------------------------- */

void *control_directory_entry(struct control *c, uint32_t entry) {
    const struct layout *layout = layout_of(c);
    assert(entry < layout->capacity);
    return (uint8_t *)c + layout->directory_offset + (uint64_t)entry * layout->entry_size;
}

void *control_figures(struct control *c) {
    return (uint8_t *)c + layout_of(c)->figures_offset;
}

const uint64_t control_duration_bounds[CONTROL_HISTOGRAM_BUCKETS - 1] = {
    100000,    200000,    500000,    1000000,   2000000,    5000000,    10000000,   20000000,
    50000000,  100000000, 200000000, 500000000, 1000000000, 2000000000, 5000000000, 10000000000};
const uint64_t control_size_bounds[CONTROL_HISTOGRAM_BUCKETS - 1] = {1,   2,   4,    8,    16,   32,   64,    128,
                                                                     256, 512, 1024, 2048, 4096, 8192, 16384, 32768};

static void add(struct control_histogram *h, const uint64_t bounds[CONTROL_HISTOGRAM_BUCKETS - 1], uint64_t value) {
    unsigned bucket = 0;
    while (bucket < CONTROL_HISTOGRAM_BUCKETS - 1 && value > bounds[bucket]) {
        bucket++;
    }
    count_relaxed_u64(&h->sum, value);
    count_relaxed_u64(&h->bucket[bucket], 1);
}

void control_histogram_time(struct control_histogram *h, int64_t ns) {
    add(h, control_duration_bounds, ns > 0 ? (uint64_t)ns : 0);
}

void control_histogram_size(struct control_histogram *h, uint64_t size) {
    add(h, control_size_bounds, size);
}
