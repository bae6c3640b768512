/*
 * test_shm_mapfile.c - mapped files that grow: addresses stay valid, a full disk changes nothing, readers follow.
 *
 * Built twice: as it is, and with a first map of 64 KiB, so that growing beyond a map happens often without
 * gigabytes of disk.
 */
#include "base/io.h"
#include "shm/atomics.h"
#include "shm/mapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAGE = 4096, KIB = 1024, MIB = 1024 * 1024, HANG_S = 300, SKIPPED = 77 };
/* How often a test lets a file outgrow its map: each time needs twice the disk. */
enum { PASSES = MAPFILE_FIRST_ROOM < MIB ? 9 : 2 };

struct place {
    char path[PATH_MAX];
    int fd;
};

static int set_up(void **state) {
    static struct place place;
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(place.path, sizeof place.path, "%s/quire-mapfile-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(place.path) == NULL) {
        return -1;
    }
    place.fd = open(place.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = &place;
    (void)alarm(HANG_S);
    return place.fd >= 0 ? 0 : -1;
}

static int tear_down(void **state) {
    struct place *place = *state;
    struct status st;
    io_set_fault(NULL, NULL);
    (void)alarm(0);
    (void)close(place->fd);
    return io_remove_tree(AT_FDCWD, place->path, &st) ? 0 : -1;
}

static int dir_of(void **state) {
    return ((struct place *)*state)->fd;
}

static struct stat stat_of(const struct mapfile *m) {
    struct stat info;
    assert_int_equal(fstat(m->fd, &info), 0);
    return info;
}

static void create(struct mapfile *m, int dir, uint64_t size) {
    struct status st;
    if (!mapfile_create(m, dir, "file", MAPFILE_SMALL_PAGES, size, &st)) {
        fail_msg("%s", st.detail);
    }
}

static void grow(struct mapfile *m, uint64_t size, uint64_t step) {
    struct status st;
    if (!mapfile_grow(m, size, step, &st)) {
        fail_msg("%s", st.detail);
    }
}

/* One word a page, each different. */
static uint64_t word_for(uint64_t at) {
    return at * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static void fill_pages(uint8_t *base, uint64_t from, uint64_t to) {
    for (uint64_t at = from; at < to; at += PAGE) {
        *(uint64_t *)(void *)(base + at) = word_for(at);
    }
}

static bool pages_are_filled(const uint8_t *base, uint64_t from, uint64_t to) {
    for (uint64_t at = from; at < to; at += PAGE) {
        if (*(const uint64_t *)(const void *)(base + at) != word_for(at)) {
            return false;
        }
    }
    return true;
}

/* Pages of a map that are in memory. */
static size_t resident(const uint8_t *base, uint64_t bytes) {
    unsigned char pages[MIB / PAGE * 8];
    size_t count = 0;
    assert_true(bytes / PAGE <= sizeof pages);
    assert_int_equal(mincore((void *)(uintptr_t)base, bytes, pages), 0);
    for (size_t i = 0; i < bytes / PAGE; i++) {
        count += pages[i] & 1;
    }
    return count;
}

/* Of new room one page comes into memory for a store, whether it was made, added, or was there unused: else a store would wait for megabytes of zeros, and all of
 * them would go to the disk some time. */
static void test_new_room_comes_page_by_page(void **state) {
    struct mapfile m = MAPFILE_CLOSED;
    struct status st;
    create(&m, dir_of(state), 2 * MIB);
    if (resident(m.base, 2 * MIB) > 0) {
        mapfile_close(&m);
        skip(); /* a file system that fills what is allocated */
    }
    m.base[MIB] = 1;
    assert_int_equal(resident(m.base, 2 * MIB), 1);
    grow(&m, 4 * MIB, 2 * MIB);
    m.base[3 * MIB] = 1;
    assert_int_equal(resident(m.base, 4 * MIB), 2);
    mapfile_close(&m);
    assert_true(mapfile_open(&m, dir_of(state), "file", MAPFILE_SMALL_PAGES, true, &st));
    mapfile_unused_from(&m, 2 * MIB - 1);
    m.base[2 * MIB] = 1;
    assert_int_equal(resident(m.base, 4 * MIB), 3);
    mapfile_close(&m);
    mapfile_unused_from(&m, PAGE); /* a library without vectors has no file of them */
}

static void test_create_and_open(void **state) {
    struct mapfile m = MAPFILE_CLOSED;
    struct mapfile other = MAPFILE_CLOSED;
    struct status st;
    create(&m, dir_of(state), 10000);
    assert_int_equal(m.size, 3 * PAGE);
    assert_int_equal(stat_of(&m).st_size, m.size);
    assert_true((uint64_t)stat_of(&m).st_blocks * 512 >= m.size);
    for (uint64_t i = 0; i < m.size; i++) {
        assert_int_equal(mapfile_base(&m)[i], 0);
    }
    fill_pages(m.base, 0, m.size);
    assert_false(mapfile_create(&other, dir_of(state), "file", MAPFILE_SMALL_PAGES, PAGE, &st));
    assert_int_equal(st.sys_errno, EEXIST);
    assert_int_equal(other.fd, -1);
    mapfile_close(&m);
    mapfile_close(&m);
    assert_int_equal(m.fd, -1);
    assert_null(mapfile_base(&m));

    assert_true(mapfile_open(&m, dir_of(state), "file", MAPFILE_SMALL_PAGES, true, &st));
    assert_true(mapfile_open(&other, dir_of(state), "file", MAPFILE_SMALL_PAGES, false, &st));
    assert_int_equal(m.size, 3 * PAGE);
    assert_true(pages_are_filled(m.base, 0, m.size));
    assert_true(pages_are_filled(other.base, 0, other.size));
    m.base[5 * KIB] = 1;
    assert_int_equal(other.base[5 * KIB], 1);
    mapfile_close(&m);
    mapfile_close(&other);
    assert_false(mapfile_open(&m, dir_of(state), "none", MAPFILE_SMALL_PAGES, true, &st));
    assert_int_equal(st.code, STATUS_NOT_FOUND);
    assert_false(mapfile_open(&m, dir_of(state), "none", MAPFILE_SMALL_PAGES, false, NULL));
    mapfile_close(&m);
}

static void test_growth_in_place(void **state) {
    struct mapfile m;
    create(&m, dir_of(state), PAGE);
    uint8_t *base = m.base;
    fill_pages(base, 0, PAGE);
    grow(&m, 100, 1);
    assert_int_equal(m.size, PAGE);
    grow(&m, PAGE + 1, 1); /* a quarter of a page is less than what is asked for */
    assert_int_equal(m.size, 2 * PAGE);
    grow(&m, 2 * PAGE + 1, 3 * PAGE - 5); /* the step is more */
    assert_int_equal(m.size, 5 * PAGE);
    grow(&m, 8 * PAGE, 1);
    assert_int_equal(m.size, 8 * PAGE);
    grow(&m, 8 * PAGE + 1, PAGE); /* a quarter is more */
    assert_int_equal(m.size, 10 * PAGE);
    assert_ptr_equal(m.base, base);
    assert_int_equal(m.map_count, 1);
    assert_int_equal(stat_of(&m).st_size, m.size);
    assert_true((uint64_t)stat_of(&m).st_blocks * 512 >= m.size);
    assert_true(pages_are_filled(base, 0, PAGE));
    for (uint64_t i = PAGE; i < m.size; i++) {
        assert_int_equal(base[i], 0);
    }
    memset(base, 7, m.size);
    mapfile_close(&m);
}

static void test_growth_beyond_maps(void **state) {
    struct mapfile m;
    uint8_t *bases[PASSES + 1];
    uint64_t sizes[PASSES + 1];
    uint64_t room = 0;
    create(&m, dir_of(state), PAGE);
    assert_int_equal(m.maps[0].room, MAPFILE_FIRST_ROOM);
    for (unsigned i = 0; i <= PASSES; i++) {
        bases[i] = m.base;
        sizes[i] = m.size;
        fill_pages(m.base, i == 0 ? 0 : sizes[i - 1], m.size);
        if (i < PASSES) {
            grow(&m, m.maps[m.map_count - 1].room + 1, PAGE);
        }
        assert_int_equal(m.map_count, i < PASSES ? i + 2 : i + 1);
    }
    for (unsigned i = 0; i <= PASSES; i++) {
        assert_true(pages_are_filled(bases[i], 0, sizes[i]));
        /* Stored through any, seen through all. */
        uint64_t at = sizes[0] - 8 * (i + 1);
        bases[i][at] = (uint8_t)(i + 1);
        for (unsigned j = 0; j <= PASSES; j++) {
            assert_int_equal(bases[j][at], i + 1);
        }
        assert_true(i == 0 || m.maps[i].room >= 2 * m.maps[i - 1].room);
        room += m.maps[i].room;
    }
    assert_true(room < 2 * m.maps[PASSES].room);
    mapfile_close(&m);
}

static void test_first_map_of_a_large_file(void **state) {
    struct mapfile m;
    uint64_t size = MAPFILE_FIRST_ROOM / 4 + PAGE;
    create(&m, dir_of(state), size);
    assert_int_equal(m.maps[0].room, 4 * size);
    mapfile_close(&m);
}

static void test_limits(void **state) {
    struct mapfile m;
    struct status st;
    create(&m, dir_of(state), PAGE);
    assert_false(mapfile_grow(&m, MAPFILE_MAX_BYTES + 1, 1, &st));
    assert_int_equal(st.code, STATUS_TOO_LARGE);
    assert_false(mapfile_grow(&m, UINT64_MAX, 1, &st));
    assert_false(mapfile_grow(&m, 2 * PAGE, UINT64_MAX, &st));
    assert_int_equal(st.code, STATUS_TOO_LARGE);
    assert_int_equal(m.size, PAGE);
    mapfile_close(&m);
    assert_false(mapfile_create(&m, dir_of(state), "other", MAPFILE_SMALL_PAGES, UINT64_MAX, &st));
    assert_int_equal(st.code, STATUS_TOO_LARGE);
    assert_int_equal(faccessat(dir_of(state), "other", F_OK, 0), -1);
}

/* --- faults ----------------------------------------------------------------------------------------------------------- */

struct fault {
    enum io_call call;
    int error;
    unsigned times;
    int extend_fd;   /* >= 0: a file system that keeps a part of what it could not allocate whole */
    off_t extend_to; /* in this file, up to this size */
};

static int inject(enum io_call call, const char *path, void *ctx) {
    struct fault *fault = ctx;
    (void)path;
    if (call != fault->call || fault->times == 0) {
        return 0;
    }
    fault->times--;
    if (fault->extend_fd >= 0 && ftruncate(fault->extend_fd, fault->extend_to) != 0) {
        return EIO;
    }
    return fault->error;
}

/* Fails as it should, changes nothing, and goes on working when the fault is over. */
static void check_growth_fault(struct mapfile *m, uint64_t size, struct fault fault, enum status_code expected) {
    struct status st;
    struct mapfile before = *m;
    fault.extend_fd = fault.extend_to > 0 ? m->fd : -1;
    io_set_fault(inject, &fault);
    bool grown = mapfile_grow(m, size, PAGE, &st);
    io_set_fault(NULL, NULL);
    assert_false(grown);
    assert_int_equal(st.code, expected);
    assert_int_equal(m->size, before.size);
    assert_ptr_equal(m->base, before.base);
    assert_int_equal(m->map_count, before.map_count);
    assert_int_equal(stat_of(m).st_size, before.size);
    assert_true(pages_are_filled(m->base, 0, m->size));
    fill_pages(m->base, 0, m->size);
    grow(m, size, PAGE);
    fill_pages(m->base, before.size, m->size);
    assert_true(pages_are_filled(m->base, 0, m->size));
    assert_true(pages_are_filled(before.base, 0, before.size));
}

/* To change a map takes a lock that whoever writes the file back holds, too. */
static void test_growth_within_a_map_maps_nothing(void **state) {
    struct fault unmapped = {.call = IO_MMAP, .error = ENOMEM, .times = UINT_MAX, .extend_fd = -1};
    struct mapfile m;
    struct mapfile reader;
    struct status st;
    create(&m, dir_of(state), PAGE);
    assert_true(mapfile_open(&reader, dir_of(state), "file", MAPFILE_SMALL_PAGES, false, &st));
    io_set_fault(inject, &unmapped);
    grow(&m, MAPFILE_FIRST_ROOM, PAGE);
    assert_false(mapfile_grow(&m, MAPFILE_FIRST_ROOM + 1, PAGE, &st));
    assert_int_equal(st.code, STATUS_NO_MEMORY);
    fill_pages(m.base, 0, m.size);
    assert_true(mapfile_refresh(&reader, MAPFILE_FIRST_ROOM, &st));
    io_set_fault(NULL, NULL);
    assert_true(pages_are_filled(reader.base, 0, MAPFILE_FIRST_ROOM));
    mapfile_close(&reader);
    mapfile_close(&m);
}

static void test_growth_faults(void **state) {
    const struct fault full = {.call = IO_FALLOCATE, .error = ENOSPC, .times = UINT_MAX};
    const struct fault half = {.call = IO_FALLOCATE, .error = ENOSPC, .times = UINT_MAX, .extend_to = 300 * KIB};
    const struct fault broken = {.call = IO_FALLOCATE, .error = EIO, .times = UINT_MAX};
    const struct fault unmapped = {.call = IO_MMAP, .error = ENOMEM, .times = 1};
    struct mapfile m;
    struct status st;
    create(&m, dir_of(state), 2 * PAGE);
    fill_pages(m.base, 0, m.size);
    check_growth_fault(&m, 4 * PAGE, full, STATUS_NO_SPACE);
    check_growth_fault(&m, 7 * PAGE, half, STATUS_NO_SPACE);
    check_growth_fault(&m, 9 * PAGE, broken, STATUS_IO);
    check_growth_fault(&m, m.maps[m.map_count - 1].room + 1, full, STATUS_NO_SPACE); /* beyond the map */
    check_growth_fault(&m, m.maps[m.map_count - 1].room + 1, unmapped, STATUS_NO_MEMORY);
    io_set_fault(inject, &(struct fault){.call = IO_FALLOCATE, .error = ENOSPC, .times = UINT_MAX, .extend_fd = -1});
    assert_false(mapfile_grow(&m, m.size + 1, PAGE, NULL));
    assert_true(mapfile_grow(&m, m.size, PAGE, &st)); /* nothing to do needs no disk */
    mapfile_close(&m);
}

static void test_growth_without_room_to_spare(void **state) {
    struct fault fault = {.call = IO_FALLOCATE, .error = ENOSPC, .times = 1, .extend_fd = -1};
    struct mapfile m;
    create(&m, dir_of(state), PAGE);
    io_set_fault(inject, &fault);
    grow(&m, 2 * PAGE, 10 * PAGE);
    assert_int_equal(fault.times, 0);
    assert_int_equal(m.size, 2 * PAGE);
    fill_pages(m.base, 0, m.size);
    grow(&m, 3 * PAGE, 10 * PAGE);
    assert_int_equal(m.size, 12 * PAGE);
    mapfile_close(&m);
}

static void test_create_fails_whole(void **state) {
    enum io_call calls[] = {IO_FALLOCATE, IO_MMAP};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct mapfile m;
        struct status st;
        io_set_fault(inject, &(struct fault){.call = calls[i], .error = ENOSPC, .times = 1, .extend_fd = -1});
        assert_false(mapfile_create(&m, dir_of(state), "file", MAPFILE_SMALL_PAGES, PAGE, &st));
        assert_int_equal(st.code, STATUS_NO_SPACE);
        assert_int_equal(m.fd, -1);
        assert_int_equal(faccessat(dir_of(state), "file", F_OK, 0), -1);
        mapfile_close(&m);
    }
}

static void test_sync(void **state) {
    struct mapfile m;
    struct status st;
    create(&m, dir_of(state), 4 * PAGE);
    fill_pages(m.base, 0, m.size);
    assert_true(mapfile_sync(&m, 0, &st));
    assert_true(mapfile_sync(&m, PAGE + 10, &st));
    assert_true(mapfile_sync(&m, m.size, &st));
    io_set_fault(inject, &(struct fault){.call = IO_MSYNC, .error = EIO, .times = 1, .extend_fd = -1});
    assert_false(mapfile_sync(&m, m.size, &st));
    assert_int_equal(st.code, STATUS_IO);
    mapfile_close(&m);
}

/* --- odd files -------------------------------------------------------------------------------------------------------- */

static void write_file(int dir, const char *name, off_t size) {
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, size), 0);
    (void)close(fd);
}

static void test_odd_sizes(void **state) {
    struct mapfile reader;
    struct mapfile writer;
    struct status st;
    write_file(dir_of(state), "odd", 5000);
    assert_true(mapfile_open(&reader, dir_of(state), "odd", MAPFILE_SMALL_PAGES, false, &st));
    assert_int_equal(reader.size, 5000);
    assert_false(mapfile_refresh(&reader, 5001, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    assert_true(mapfile_open(&writer, dir_of(state), "odd", MAPFILE_SMALL_PAGES, true, &st));
    assert_int_equal(writer.size, 2 * PAGE);
    grow(&writer, 20 * PAGE, PAGE);
    fill_pages(writer.base, 0, writer.size);
    assert_true(mapfile_refresh(&reader, writer.size, &st));
    assert_true(pages_are_filled(reader.base, 0, reader.size));
    mapfile_close(&reader);
    mapfile_close(&writer);
}

static void test_empty_file(void **state) {
    struct mapfile reader;
    struct mapfile writer;
    struct status st;
    write_file(dir_of(state), "empty", 0);
    assert_true(mapfile_open(&reader, dir_of(state), "empty", MAPFILE_SMALL_PAGES, false, &st));
    assert_true(mapfile_open(&writer, dir_of(state), "empty", MAPFILE_SMALL_PAGES, true, &st));
    assert_int_equal(writer.size, 0);
    assert_true(mapfile_sync(&writer, 0, &st));
    grow(&writer, 1, PAGE);
    fill_pages(writer.base, 0, writer.size);
    assert_true(mapfile_refresh(&reader, PAGE, &st));
    assert_true(pages_are_filled(reader.base, 0, PAGE));
    mapfile_close(&reader);
    mapfile_close(&writer);
}

static void test_holes_are_filled(void **state) {
    struct mapfile m;
    struct status st;
    write_file(dir_of(state), "sparse", 64 * PAGE);
    assert_true(mapfile_open(&m, dir_of(state), "sparse", MAPFILE_SMALL_PAGES, true, &st));
    assert_true((uint64_t)stat_of(&m).st_blocks * 512 >= m.size);
    mapfile_close(&m);
    io_set_fault(inject, &(struct fault){.call = IO_FALLOCATE, .error = ENOSPC, .times = 1, .extend_fd = -1});
    assert_false(mapfile_open(&m, dir_of(state), "sparse", MAPFILE_SMALL_PAGES, true, &st));
    assert_int_equal(st.code, STATUS_NO_SPACE);
    assert_int_equal(m.fd, -1);
}

/* --- a reading process ------------------------------------------------------------------------------------------------ */

struct told {
    uint64_t used;    /* written by the writer after the pages (release), read by the reader (acquire) */
    uint64_t checked; /* the other way round */
};

static _Noreturn void follow(int dir, const struct told *told, uint64_t *checked, uint64_t last) {
    struct mapfile m;
    struct status st;
    uint64_t done = 0;
    if (!mapfile_open(&m, dir, "file", MAPFILE_SMALL_PAGES, false, &st)) {
        _exit(2);
    }
    const uint8_t *first_base = m.base;
    while (done < last) {
        uint64_t used = load_acquire_u64(&told->used);
        if (used == done) {
            (void)sched_yield();
            continue;
        }
        if (!mapfile_refresh(&m, used, &st) || !pages_are_filled(mapfile_base(&m), 0, used) ||
            !pages_are_filled(first_base, 0, PAGE)) {
            _exit(3);
        }
        done = used;
        store_release_u64(checked, done);
    }
    if (m.map_count != PASSES + 1 || mapfile_refresh(&m, m.size + 1, &st) || st.code != STATUS_CORRUPT) {
        _exit(4);
    }
    mapfile_close(&m);
    _exit(0);
}

/* Half as much again, so that no map is skipped. */
static uint64_t next_use(uint64_t used, uint64_t last) {
    uint64_t next = used * 3 / 2 / PAGE * PAGE + PAGE;
    return next < last ? next : last;
}

static void test_reader_process(void **state) {
    struct mapfile m;
    int how = 0;
    struct told *told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(told, MAP_FAILED);
    create(&m, dir_of(state), PAGE);
    uint64_t last = (MAPFILE_FIRST_ROOM << (PASSES - 1)) + PAGE;
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        follow(dir_of(state), told, &told->checked, last);
    }
    for (uint64_t used = PAGE;; used = next_use(used, last)) {
        grow(&m, used, PAGE);
        fill_pages(m.base, 0, used);
        store_release_u64(&told->used, used);
        while (load_acquire_u64(&told->checked) < used && waitpid(pid, &how, WNOHANG) == 0) {
            (void)sched_yield();
        }
        if (used == last || load_acquire_u64(&told->checked) < used) {
            break;
        }
    }
    if (load_acquire_u64(&told->checked) == last) {
        assert_int_equal(waitpid(pid, &how, 0), pid);
    }
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
    mapfile_close(&m);
    assert_int_equal(munmap(told, sizeof *told), 0);
}

static void test_reader_cannot_write(void **state) {
    struct mapfile m;
    struct status st;
    create(&m, dir_of(state), PAGE);
    fill_pages(m.base, 0, PAGE);
    mapfile_close(&m);
    assert_true(mapfile_open(&m, dir_of(state), "file", MAPFILE_SMALL_PAGES, false, &st));
    /* The kernel stores for us, so that a refusal is an error and not the end. */
    assert_int_equal(pread(m.fd, m.base, 1, 1), -1);
    assert_int_equal(errno, EFAULT);
    /* And the reader cannot give itself the right. */
    assert_int_equal(mprotect(m.base, PAGE, PROT_READ | PROT_WRITE), -1);
    assert_int_equal(errno, EACCES);
    assert_true(pages_are_filled(m.base, 0, PAGE));
    mapfile_close(&m);
}

/* --- a thread that holds on to old addresses -------------------------------------------------------------------------- */

struct race {
    struct mapfile m;
    uint64_t used; /* written by the growing thread after the pages (release) */
    uint64_t stop;
    uint64_t rounds;
    uint64_t wrong;
};

static void *read_while_growing(void *arg) {
    struct race *race = arg;
    const uint8_t *oldest = mapfile_base(&race->m);
    while (load_acquire_u64(&race->stop) == 0) {
        uint64_t used = load_acquire_u64(&race->used);
        uint64_t size = load_acquire_u64(&race->m.size);
        const uint8_t *base = mapfile_base(&race->m);
        bool good = used <= size && pages_are_filled(base, 0, PAGE) && pages_are_filled(base, used - PAGE, used) &&
                    base[size - 1] == 0 && pages_are_filled(oldest, 0, PAGE);
        (void)add_relaxed_u64(&race->wrong, good ? 0 : 1);
        (void)add_relaxed_u64(&race->rounds, 1);
    }
    return NULL;
}

static void test_threads(void **state) {
    static struct race race;
    pthread_t thread;
    uint64_t last = (MAPFILE_FIRST_ROOM << (PASSES - 1)) + PAGE;
    uint64_t step = last / 500 / PAGE * PAGE + PAGE;
    race = (struct race){.m = MAPFILE_CLOSED};
    create(&race.m, dir_of(state), PAGE);
    fill_pages(race.m.base, 0, PAGE);
    race.used = PAGE;
    assert_int_equal(pthread_create(&thread, NULL, read_while_growing, &race), 0);
    while (race.used < last) {
        uint64_t used = race.used + step;
        grow(&race.m, used, PAGE);
        fill_pages(race.m.base, race.used, used);
        store_release_u64(&race.used, used);
    }
    uint64_t rounds = load_relaxed_u64(&race.rounds);
    while (load_relaxed_u64(&race.rounds) < rounds + 2) {
        (void)sched_yield();
    }
    store_release_u64(&race.stop, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(race.m.map_count, PASSES + 1);
    assert_int_equal(race.wrong, 0);
    mapfile_close(&race.m);
}

/* --- a disk that is really full --------------------------------------------------------------------------------------- */

static void expect(bool ok, const char *what) {
    if (!ok) {
        (void)fprintf(stderr, "on the full disk: %s\n", what);
        _exit(1);
    }
}

static uint64_t blocks_of(const struct mapfile *m) {
    struct stat info;
    expect(fstat(m->fd, &info) == 0, "fstat");
    return (uint64_t)info.st_blocks;
}

/* A tmpfs of 1 MiB that goes away with this process. */
static int mount_tiny_disk(const char *path) {
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", path, "tmpfs", 0, "size=1m") != 0) {
        (void)fprintf(stderr, "no tmpfs can be mounted here: %s\n", strerror(errno));
        _exit(SKIPPED);
    }
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static _Noreturn void use_full_disk(const char *path) {
    int dir = mount_tiny_disk(path);
    struct mapfile m;
    struct mapfile filler;
    struct mapfile sparse;
    struct status st;
    expect(mapfile_create(&m, dir, "file", MAPFILE_SMALL_PAGES, 64 * KIB, &st), "create");
    fill_pages(m.base, 0, m.size);
    expect(mapfile_create(&filler, dir, "filler", MAPFILE_SMALL_PAGES, 900 * KIB, &st), "filler");
    uint64_t blocks = blocks_of(&m);
    expect(!mapfile_grow(&m, 512 * KIB, 4 * KIB, &st) && st.code == STATUS_NO_SPACE, "growth is refused");
    expect(m.size == 64 * KIB && blocks_of(&m) == blocks, "nothing changed");
    fill_pages(m.base, 0, m.size);
    memset(filler.base, 1, filler.size);
    expect(mapfile_grow(&m, 68 * KIB, 256 * KIB, &st) && m.size == 68 * KIB, "just what is asked for still fits");
    fill_pages(m.base, 0, m.size);
    expect(!mapfile_create(&sparse, dir, "more", MAPFILE_SMALL_PAGES, 512 * KIB, &st) && st.code == STATUS_NO_SPACE, "no further file");
    write_file(dir, "sparse", 512 * KIB);
    expect(!mapfile_open(&sparse, dir, "sparse", MAPFILE_SMALL_PAGES, true, &st) && st.code == STATUS_NO_SPACE, "holes that cannot be filled");
    mapfile_close(&filler);
    expect(unlinkat(dir, "filler", 0) == 0, "unlink");
    expect(mapfile_grow(&m, 512 * KIB, 4 * KIB, &st), "growth goes on");
    fill_pages(m.base, 0, m.size);
    expect(pages_are_filled(m.base, 0, m.size), "contents");
    mapfile_close(&m);
    _exit(0);
}

static void test_full_disk(void **state) {
    int how = 0;
    pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGBUS, SIG_DFL);
        use_full_disk(((struct place *)*state)->path);
    }
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how)); /* no SIGBUS */
    if (WEXITSTATUS(how) == SKIPPED) {
        skip();
    }
    assert_int_equal(WEXITSTATUS(how), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_new_room_comes_page_by_page, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_create_and_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_growth_in_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_growth_within_a_map_maps_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_growth_beyond_maps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_first_map_of_a_large_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_growth_faults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_growth_without_room_to_spare, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_create_fails_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sync, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_odd_sizes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_empty_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_holes_are_filled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reader_process, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reader_cannot_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full_disk, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("shm_mapfile", tests, NULL, NULL);
}
