/*
 * gauges.c - see gauges.h.
 *
 * All of it is for display, so it is looked at now and then and not when it changes: sums twice a second, since tests and people wait for a backlog to be
 * done, the system every five. None of it waits for a disk, but statvfs on a file system that does not answer: on that of the data nothing else goes on
 * then either, and archive_dir, which may be a mount far away, is looked at by the thread that copies to it (archiver.c).
 */
#include "proc/gauges.h"

#include "base/clock.h"
#include "base/io.h"
#include "durable/backup_state.h"
#include "proc/children.h"
#include "shm/atomics.h"
#include "store/backlog.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SUMS_US = 500000, SYSTEM_US = 5000000 };
#define US_PER_SECOND INT64_C(1000000)

struct gauges {
    struct supervisor *s;
    int wal_fd; /* -1: not opened yet */
    int64_t sums_us, system_us; /* when the last looks were */
};

bool gauges_new(struct supervisor *s, struct gauges **ret, struct status *st) {
    struct gauges *g = (struct gauges *)calloc(1, sizeof *g);
    if (g == NULL) {
        return status_no_memory(st);
    }
    *g = (struct gauges){.s = s, .wal_fd = -1};
    *ret = g;
    return true;
}

void gauges_free(struct gauges *g) {
    if (g != NULL) {
        io_close(&g->wal_fd);
        free(g);
    }
}

/* --- over all libraries --- */

static void add_files(struct library *lib, uint64_t bytes[ARENA_KINDS]) {
    struct library_file files[LIBRARY_FILES_MAX];
    size_t count = library_files(lib, files);
    for (size_t i = 0; i < count; i++) {
        int kind = figures_arena_kind_of(files[i].name);
        if (kind >= 0) {
            bytes[kind] += files[i].used;
        }
    }
}

static void look_at_libraries(struct supervisor *s) {
    struct library **libraries = NULL;
    size_t count = 0;
    struct status st;
    uint64_t pending = 0;
    uint64_t tail = 0;
    uint64_t bytes[ARENA_KINDS] = {0};
    if (!catalog_acquire_all(s->catalog, &libraries, &count, &st)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        pending += backlog_pending_vectors(libraries[i]);
        tail += backlog_tail(libraries[i]);
        add_files(libraries[i], bytes);
        catalog_release(s->catalog, libraries[i]);
    }
    free(libraries);
    store_relaxed_u64(&s->figures->pending_vectors, pending);
    store_relaxed_u64(&s->figures->tail, tail);
    for (size_t i = 0; i < ARENA_KINDS; i++) {
        store_relaxed_u64(&s->figures->arena_bytes[i], bytes[i]);
    }
}

static void look_at_lock(struct supervisor *s) {
    uint64_t dead = 0;
    for (uint32_t i = 0; i < RWLOCK_MAX_READERS; i++) {
        dead += load_relaxed_u64(&s->control->lock.reader[i].recovered);
    }
    store_relaxed_u64(&s->figures->dead_readers, dead);
}

/* --- the system --- */

void gauges_disk(struct figures_disk *disk, int fd) {
    struct status ignored;
    uint64_t size = 0;
    uint64_t available = 0;
    if (io_disk_bytes(fd, &size, &available, &ignored)) {
        store_relaxed_u64(&disk->available, available);
        store_relaxed_u64(&disk->size, size);
    }
}

static void look_at_disks(struct gauges *g) {
    struct supervisor *s = g->s;
    struct status ignored;
    if (g->wal_fd < 0) {
        (void)!io_open_at(s->data_dir_fd, "wal", O_RDONLY | O_DIRECTORY, 0, &g->wal_fd, &ignored);
    }
    gauges_disk(&s->figures->disk[DISK_DATA], s->vectors_dir_fd);
    gauges_disk(&s->figures->disk[DISK_SNAPSHOTS], s->snapshots_dir_fd);
    if (g->wal_fd >= 0) {
        gauges_disk(&s->figures->disk[DISK_WAL], g->wal_fd);
    }
}

/* quire backup is a process of its own; what it leaves is a file. */
static void look_at_backup(struct supervisor *s) {
    struct service_figures *f = s->figures;
    struct backup_state b;
    if (backup_state_read(s->data_dir_fd, &b)) {
        __atomic_store_n(&f->backup_at, b.succeeded_at, __ATOMIC_RELAXED);
        store_relaxed_u64(&f->backup_lsn, b.lsn);
        store_relaxed_u64(&f->backup_snapshot_lsn, b.snapshot_lsn);
        store_relaxed_u64(&f->backup_objects, b.objects);
        store_relaxed_u64(&f->backup_bytes, b.bytes);
        store_relaxed_u64(&f->backup_failures, b.failures);
    }
}

/* Those of the look itself are not counted. */
static void count_descriptors(struct service_figures *f) {
    struct rlimit most;
    DIR *dir = opendir("/proc/self/fd");
    uint64_t count = 0;
    if (dir != NULL) {
        for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
            count += e->d_name[0] != '.' ? 1 : 0;
        }
        (void)closedir(dir);
        store_relaxed_u64(&f->open_fds, count - 1);
    }
    if (getrlimit(RLIMIT_NOFILE, &most) == 0) {
        store_relaxed_u64(&f->max_fds, (uint64_t)most.rlim_cur);
    }
}

static void look_at_memory(struct service_figures *f) {
    unsigned long long pages = 0;
    unsigned long long resident = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm != NULL) {
        if (fscanf(statm, "%llu %llu", &pages, &resident) == 2) {
            store_relaxed_u64(&f->resident_bytes, (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE));
        }
        (void)fclose(statm);
    }
}

static int64_t cpu_of(const struct rusage *u) {
    return ((int64_t)u->ru_utime.tv_sec + (int64_t)u->ru_stime.tv_sec) * US_PER_SECOND + u->ru_utime.tv_usec + u->ru_stime.tv_usec;
}

/* A child that was reaped between its clock and the sum of the dead would be missing for a moment, and a counter must not go back; main reaps them, but for the
 * provider process, which counts once it is gone. */
static void look_at_processors(struct supervisor *s) {
    struct service_figures *f = s->figures;
    struct rusage own;
    struct rusage gone;
    if (getrusage(RUSAGE_SELF, &own) == 0) {
        __atomic_store_n(&f->cpu_us, cpu_of(&own), __ATOMIC_RELAXED);
    }
    if (getrusage(RUSAGE_CHILDREN, &gone) == 0) {
        int64_t all = cpu_of(&gone) + children_cpu_us(s->children);
        if (all > f->children_cpu_us) {
            __atomic_store_n(&f->children_cpu_us, all, __ATOMIC_RELAXED);
        }
    }
}

void gauges_look(struct gauges *g, int64_t now_us) {
    if (now_us - g->sums_us >= SUMS_US) {
        g->sums_us = now_us;
        look_at_libraries(g->s);
        look_at_lock(g->s);
    }
    if (now_us - g->system_us >= SYSTEM_US) {
        g->system_us = now_us;
        look_at_disks(g);
        look_at_backup(g->s);
        count_descriptors(g->s->figures);
        look_at_memory(g->s->figures);
        look_at_processors(g->s);
    }
}
