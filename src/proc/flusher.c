/*
 * flusher.c - see flusher.h.
 *
 * All libraries have their turn every write_back_interval seconds, which should be less than what the kernel waits before it writes by itself (30 s,
 * vm.dirty_expire_centisecs): only what it finds clean then makes no commit wait. Where a round takes long, on a slow disk, the next one is put off: linkers do
 * nothing meanwhile.
 */
#include "proc/flusher.h"

#include "base/clock.h"
#include "base/log.h"
#include "proc/background.h"
#include "proc/service_thread.h"
#include "shm/atomics.h"
#include "store/write_back.h"

#include <stdlib.h>

enum { PAUSE_TIMES = 4, LOOK_SECONDS = 20, COMPLAIN_SECONDS = 60, US_PER_MS = 1000 };
#define US_PER_SECOND INT64_C(1000000)
/* Smaller files are the kernel's: there may be thousands of them, and they make nobody wait. */
#define FILE_LEAST (UINT64_C(4) << 20)

struct flusher {
    struct supervisor *s;
    struct service_thread thread;
    uint32_t stop; /* atomic: a round looks at it */
    int64_t complained_us;
};

/* Once a minute: a disk that fails does so for all libraries. */
static void complain(struct flusher *f, const struct status *st) {
    int64_t now = clock_monotonic_us();
    if (f->complained_us == 0 || now - f->complained_us > COMPLAIN_SECONDS * US_PER_SECOND) {
        f->complained_us = now;
        log_status(LOG_LEVEL_WARN, "changed pages were not written back; checkpoints see to what must be durable", st);
    }
}

/* Takes the reference. */
static uint64_t write_library(struct flusher *f, struct library *lib) {
    struct status st;
    uint64_t bytes = 0;
    bool ok = library_write_back(lib, FILE_LEAST, &f->stop, &bytes, &st);
    catalog_release(f->s->catalog, lib);
    if (!ok) {
        complain(f, &st);
    }
    if (bytes > 0) {
        background_wake(f->s->background, false); /* linkers who found nothing to do meanwhile */
    }
    return bytes;
}

/* A round may take minutes on a slow disk: what is deleted meanwhile does not wait for its end. */
static void let_go_of_deleted(struct flusher *f, struct library **libraries, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (libraries[i] != NULL && library_is_deleted(libraries[i])) {
            catalog_release(f->s->catalog, libraries[i]);
            libraries[i] = NULL;
        }
    }
}

static void write_all(struct flusher *f) {
    struct library **libraries = NULL;
    size_t count = 0;
    uint64_t bytes = 0;
    struct status st;
    int64_t begun = clock_monotonic_us();
    if (!catalog_acquire_linkable(f->s->catalog, &libraries, &count, &st)) {
        return; /* no memory: at the next round */
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t written = libraries[i] != NULL ? write_library(f, libraries[i]) : 0;
        if (written > 0) {
            let_go_of_deleted(f, libraries + i + 1, count - i - 1);
        }
        bytes += written;
    }
    free(libraries);
    if (bytes > 0) {
        log_debug("changed pages of %llu bytes of arenas were written back in %lld ms", (unsigned long long)bytes,
                  (long long)((clock_monotonic_us() - begun) / US_PER_MS));
    }
}

/* When the next round is due. A reload may change the interval at any time, so it is looked at again every LOOK_SECONDS. */
static int64_t due_at(const struct flusher *f, int64_t begun, int64_t ended) {
    uint64_t interval = load_relaxed_u64(&f->s->tunables.write_back_interval);
    int64_t due = interval == 0 ? INT64_MAX : begun + (int64_t)interval * US_PER_SECOND;
    int64_t earliest = ended + PAUSE_TIMES * (ended - begun);
    return due > earliest ? due : earliest;
}

static void *run(void *arg) {
    struct flusher *f = (struct flusher *)arg;
    uint64_t seen = 0;
    int64_t begun = clock_monotonic_us();
    int64_t ended = begun;
    for (;;) {
        int64_t now = clock_monotonic_us();
        int64_t due = due_at(f, begun, ended);
        int64_t look = now + LOOK_SECONDS * US_PER_SECOND;
        if (due > now && !service_thread_wait(&f->thread, due < look ? due : look, &seen)) {
            return NULL;
        }
        if (due <= now) {
            begun = now;
            write_all(f);
            ended = clock_monotonic_us();
        }
    }
}

bool flusher_new(struct supervisor *s, struct flusher **ret, struct status *st) {
    struct flusher *f = (struct flusher *)calloc(1, sizeof *f);
    if (f == NULL) {
        return status_no_memory(st);
    }
    f->s = s;
    if (!service_thread_init(&f->thread, LOCK_REBUILDER, st)) {
        free(f);
        return false;
    }
    if (!service_thread_start(&f->thread, "flush", run, f, st)) {
        flusher_free(f);
        return false;
    }
    *ret = f;
    return true;
}

void flusher_stop(struct flusher *f) {
    store_relaxed_u32(&f->stop, 1);
    service_thread_stop(&f->thread);
}

void flusher_free(struct flusher *f) {
    if (f == NULL) {
        return;
    }
    flusher_stop(f);
    service_thread_fini(&f->thread);
    free(f);
}
