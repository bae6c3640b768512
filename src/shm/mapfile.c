/*
 * mapfile.c - growing a mapped file in place, or into a larger map.
 *
 *     first map     [ file ......|....................................]        max(64 MiB, 4 x file)
 *     growth        [ file ............|..............................]        same base, nothing to map
 *     beyond it     [ file ...........................................]        old base: stays
 *                   [ file ................................................|............................]   new base
 *
 * A map goes beyond the end of its file, where nobody may touch it yet, because to change a map takes a lock that the kernel holds while it writes pages of the same
 * file back, for whomever: a writer whose map grew waited until a thread of low priority had got its next turn on a processor.
 *
 * What is mapped costs address space only. Each map is twice the one before, so all that were ever made are less than twice the
 * last, and MAPFILE_MAX_MAPS of them are beyond any disk.
 *
 * Both maps show the same pages of the same file, so a store through one is seen through the other, and a thread that goes on
 * with an older base misses nothing but the room that was added since.
 *
 * Growing is: allocate, map where the last map is too small, publish. Whatever fails, the file is cut back to where it was: nobody has mapped what is cut off but
 * a reader that opened the file in this very moment, and that one has not been told of anything there.
 *
 * pairs with: MAPFILE_BASE. base is stored before size, both with release: a thread that loads a size and then the base gets a
 * base at which that size is mapped. Without it, it could reach behind the end of an older map.
 */
#include "shm/mapfile.h"

#include "base/io.h"
#include "shm/atomics.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* AHEAD_LEAST: reading ahead in what is smaller gains nothing. */
enum { AHEAD_LEAST = 67108864, FIRST_ROOM_FACTOR = 4, GROWTH_DIVISOR = 4, FILE_MODE = 0600, HUGE_PAGE = 2097152 };

static bool huge_pages_used = true;

void mapfile_use_huge_pages(bool use) {
    huge_pages_used = use;
}

static uint64_t page_size(void) {
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t page_end(uint64_t at) {
    uint64_t page = page_size();
    return (at + page - 1) / page * page;
}

static bool check_size(const struct mapfile *m, uint64_t size, struct status *st) {
    return size <= MAPFILE_MAX_BYTES || status_set(st, STATUS_TOO_LARGE, "%s cannot grow to %llu bytes: the limit is %llu",
                                                   m->name, (unsigned long long)size, (unsigned long long)MAPFILE_MAX_BYTES);
}

/* --- address space ---------------------------------------------------------------------------------------------------- */

static uint64_t next_room(const struct mapfile *m, uint64_t size) {
    uint64_t room = MAPFILE_FIRST_ROOM;
    if (m->map_count == 0) {
        return size > room / FIRST_ROOM_FACTOR ? page_end(size * FIRST_ROOM_FACTOR) : room;
    }
    while (room < size || room < 2 * (uint64_t)m->maps[m->map_count - 1].room) {
        room *= 2;
    }
    return room;
}

/* Address space that begins at a multiple of a huge page; MAP_FAILED: none. */
static void *reserve(size_t bytes) {
    uint8_t *whole = mmap(NULL, bytes + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (whole == MAP_FAILED) {
        return MAP_FAILED;
    }
    size_t before = (HUGE_PAGE - (uintptr_t)whole % HUGE_PAGE) % HUGE_PAGE;
    if (before > 0) {
        (void)munmap(whole, before);
    }
    (void)munmap(whole + before + bytes, HUGE_PAGE - before);
    return whole + before;
}

/* A map with room for `size` bytes and more, which becomes the last. */
static bool map_anew(struct mapfile *m, uint64_t size, struct status *st) {
    size_t room = (size_t)next_room(m, size);
    void *map = NULL;
    if (m->map_count == MAPFILE_MAX_MAPS) {
        return status_set(st, STATUS_NO_MEMORY, "%s has been mapped anew too often", m->name);
    }
    uint8_t *base = reserve(room);
    if (base == MAP_FAILED) {
        return status_set_errno(st, errno, "cannot reserve %zu bytes of address space for %s", room, m->name);
    }
    if (!io_map(m->fd, base, 0, room, m->writable, m->name, &map, st)) {
        (void)munmap(base, room);
        return false;
    }
    if (m->pages == MAPFILE_HUGE_PAGES && huge_pages_used) {
        (void)madvise(base, room, MADV_HUGEPAGE); /* a wish */
    }
    m->maps[m->map_count].addr = base;
    m->maps[m->map_count].room = room;
    m->map_count++;
    return true;
}

/* Makes [0, size) of the file visible and publishes it. The file is that long already. */
static bool show(struct mapfile *m, uint64_t size, struct status *st) {
    if ((m->map_count == 0 || size > m->maps[m->map_count - 1].room) && !map_anew(m, size, st)) {
        return false;
    }
    __atomic_store_n(&m->base, m->maps[m->map_count - 1].addr, __ATOMIC_RELEASE); /* pairs with: MAPFILE_BASE */
    store_release_u64(&m->size, size);                                            /* pairs with: MAPFILE_BASE */
    return true;
}

/* --- opening ---------------------------------------------------------------------------------------------------------- */

static bool open_file(struct mapfile *m, int dir_fd, const char *name, enum mapfile_pages pages, int flags, struct status *st) {
    *m = MAPFILE_CLOSED;
    m->writable = (flags & O_ACCMODE) == O_RDWR;
    m->pages = pages;
    (void)snprintf(m->name, sizeof m->name, "%s", name);
    return io_open_at(dir_fd, name, flags, FILE_MODE, &m->fd, st);
}

bool mapfile_create(struct mapfile *m, int dir_fd, const char *name, enum mapfile_pages pages, uint64_t size, struct status *st) {
    if (!open_file(m, dir_fd, name, pages, O_RDWR | O_CREAT | O_EXCL, st)) {
        return false;
    }
    if (!check_size(m, size, st) || !io_allocate(m->fd, 0, (off_t)page_end(size), m->name, st) || !show(m, page_end(size), st)) {
        mapfile_close(m);
        bool removed = io_unlink_at(dir_fd, name, NULL);
        (void)removed; /* the first failure is the one to report */
        return false;
    }
    mapfile_unused_from(m, 0);
    return true;
}

/* The size to map: all of the file. A writer's file ends on a whole page, and has no holes. */
static bool prepare_existing(struct mapfile *m, uint64_t *ret_size, struct status *st) {
    off_t size = 0;
    if (!io_size(m->fd, &size, st) || !check_size(m, (uint64_t)size, st)) {
        return false;
    }
    *ret_size = m->writable ? page_end((uint64_t)size) : (uint64_t)size;
    return !m->writable || io_allocate(m->fd, 0, (off_t)*ret_size, m->name, st);
}

bool mapfile_open(struct mapfile *m, int dir_fd, const char *name, enum mapfile_pages pages, bool writable, struct status *st) {
    uint64_t size = 0;
    if (!open_file(m, dir_fd, name, pages, writable ? O_RDWR : O_RDONLY, st)) {
        if (st != NULL && st->sys_errno == ENOENT) {
            st->code = STATUS_NOT_FOUND;
        }
        return false;
    }
    if (!prepare_existing(m, &size, st) || !show(m, size, st)) {
        mapfile_close(m);
        return false;
    }
    return true;
}

/* The last map from there on. Of a closed one there is none. */
static void advise(const struct mapfile *m, uint64_t from, int advice) {
    size_t room = m->map_count > 0 ? m->maps[m->map_count - 1].room : 0;
    if (from < room) {
        (void)madvise(m->base + from, room - (size_t)from, advice); /* a wish */
    }
}

void mapfile_unused_from(struct mapfile *m, uint64_t at) {
    m->ahead = at;
    advise(m, 0, MADV_NORMAL);
    advise(m, page_end(at), MADV_RANDOM);
}

/* --- growing ---------------------------------------------------------------------------------------------------------- */

static bool grow_to(struct mapfile *m, uint64_t size, struct status *st) {
    uint64_t before = m->size;
    unsigned maps = m->map_count;
    if (io_allocate(m->fd, (off_t)m->size, (off_t)(size - m->size), m->name, st) && show(m, size, st)) {
        if (m->map_count > maps || (before >= AHEAD_LEAST && before >= 2 * m->ahead)) { /* seldom, see above */
            mapfile_unused_from(m, before);
        }
        return true;
    }
    /* Some file systems keep what they could allocate before the disk was full. */
    bool cut = io_truncate(m->fd, (off_t)m->size, m->name, NULL);
    (void)cut; /* the first failure is the one to report; a longer file is only larger than it need be */
    return false;
}

bool mapfile_grow(struct mapfile *m, uint64_t size, uint64_t step, struct status *st) {
    struct status why;
    assert(m->writable);
    if (size <= m->size) {
        return true;
    }
    if (!check_size(m, size, st) || !check_size(m, step, st)) {
        return false;
    }
    uint64_t growth = m->size / GROWTH_DIVISOR > step ? m->size / GROWTH_DIVISOR : step;
    uint64_t exact = page_end(size);
    uint64_t roomy = page_end(m->size + growth);
    if (roomy <= exact) {
        return grow_to(m, exact, st);
    }
    if (grow_to(m, roomy, &why)) {
        return true;
    }
    if (why.code == STATUS_NO_SPACE) {
        return grow_to(m, exact, st);
    }
    if (st != NULL) {
        *st = why;
    }
    return false;
}

bool mapfile_refresh(struct mapfile *m, uint64_t size, struct status *st) {
    off_t present = 0;
    if (size <= m->size) {
        return true;
    }
    if (!io_size(m->fd, &present, st)) {
        return false;
    }
    if ((uint64_t)present < size) {
        return status_set(st, STATUS_CORRUPT, "%s is shorter than it should be: %lld of %llu bytes", m->name, (long long)present,
                          (unsigned long long)size);
    }
    return check_size(m, (uint64_t)present, st) && show(m, (uint64_t)present, st);
}

bool mapfile_sync(struct mapfile *m, uint64_t used, struct status *st) {
    assert(used <= m->size);
    return used == 0 || io_msync(m->base, (size_t)used, m->name, st);
}

void mapfile_close(struct mapfile *m) {
    for (unsigned i = 0; i < m->map_count; i++) {
        (void)munmap(m->maps[i].addr, m->maps[i].room);
    }
    io_close(&m->fd);
    *m = MAPFILE_CLOSED;
}
