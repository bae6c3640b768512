/*
 * wal_spare.c - the next segment, ready before it is needed.
 *
 * A sync of a file that grows writes metadata, too; a sync of bytes that overwrite bytes does not (here 135 us against 200). So a
 * segment is filled with zeros and synced before it is used. That takes as long as writing it twice, so a helper thread does it
 * when a quarter of the present segment is used; a commit does it itself only when it comes first. A segment that a snapshot made
 * superfluous is used again as it is, which spares even the zeros: the random id of its next life tells its old records from new
 * ones.
 *
 * A crash leaves at most WAL_FILLING_NAME or WAL_LARGE_NAME (of no use, removed at the next start) and WAL_SPARE_NAME (whole,
 * used again).
 */
#include "durable/wal_internal.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>

enum { FILL_STEP = 1024 * 1024 };

/* Written step by step: the sync of a commit waits for what the disk was given before it. */
static bool fill(int fd, uint64_t bytes, const char *name, struct status *st) {
    uint8_t *zeros = (uint8_t *)calloc(1, FILL_STEP);
    if (zeros == NULL) {
        return status_no_memory(st);
    }
    bool ok = true;
    for (uint64_t at = 0; ok && at < bytes; at += FILL_STEP) {
        uint64_t left = bytes - at;
        ok = io_pwrite_full(fd, zeros, left < FILL_STEP ? (size_t)left : FILL_STEP, (off_t)at, st) && io_write_back(fd, (off_t)at, FILL_STEP, name, st);
    }
    free(zeros);
    return ok && io_fsync(fd, name, st);
}

bool wal_make_zeroed(int dir_fd, const char *name, uint64_t bytes, int *ret_fd, struct status *st) {
    int fd = -1;
    if (!io_unlink_at(dir_fd, name, st) ||
        !io_open_at(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, WAL_FILE_MODE, &fd, st)) {
        return false;
    }
    if (!fill(fd, bytes, name, st)) {
        io_close(&fd);
        struct status ignored;
        /* What could not be filled gives its room back; when even that fails, the next start removes it. */
        (void)!io_unlink_at(dir_fd, name, &ignored);
        return false;
    }
    *ret_fd = fd;
    return true;
}

/* The caller has set BUSY. */
static bool make_spare(struct wal *w, struct status *st) {
    int fd = -1;
    if (!wal_make_zeroed(w->dir_fd, WAL_FILLING_NAME, w->segment_bytes, &fd, st)) {
        return false;
    }
    io_close(&fd);
    return io_rename_at(w->dir_fd, WAL_FILLING_NAME, w->dir_fd, WAL_SPARE_NAME, st);
}

static void set_spare(struct wal *w, enum wal_spare_state state, bool zeroed) {
    (void)pthread_mutex_lock(&w->mutex);
    w->spare = state;
    w->spare_zeroed = zeroed;
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->mutex);
}

static void *help(void *ctx) {
    struct wal *w = (struct wal *)ctx;
    (void)pthread_mutex_lock(&w->mutex);
    while (!w->closing) {
        if (!w->spare_wanted || w->spare != WAL_SPARE_NONE) {
            w->spare_wanted = false;
            (void)pthread_cond_wait(&w->changed, &w->mutex);
            continue;
        }
        w->spare_wanted = false;
        w->spare = WAL_SPARE_BUSY;
        (void)pthread_mutex_unlock(&w->mutex);
        struct status st;
        /* A failure here is nobody's yet: the commit that needs the room will try itself and report what it meets. */
        bool made = make_spare(w, &st);
        set_spare(w, made ? WAL_SPARE_READY : WAL_SPARE_NONE, true);
        (void)pthread_mutex_lock(&w->mutex);
    }
    (void)pthread_mutex_unlock(&w->mutex);
    return NULL;
}

/* Signals are for the main thread. Under the mutex. */
static void start_helper(struct wal *w) {
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0) {
        return;
    }
    w->helper_runs = pthread_create(&w->helper, NULL, help, w) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void wal_spare_want(struct wal *w) {
    (void)pthread_mutex_lock(&w->mutex);
    if (w->spare == WAL_SPARE_NONE && !w->spare_wanted) {
        if (!w->helper_runs) {
            start_helper(w);
        }
        w->spare_wanted = true;
        (void)pthread_cond_broadcast(&w->changed);
    }
    (void)pthread_mutex_unlock(&w->mutex);
}

static bool open_spare(struct wal *w, bool zeroed, int *ret_fd, uint32_t *ret_old_seed, struct status *st) {
    int fd = -1;
    if (!io_open_at(w->dir_fd, WAL_SPARE_NAME, O_RDWR | O_NOFOLLOW, 0, &fd, st)) {
        return false;
    }
    *ret_old_seed = 0;
    if (!zeroed) {
        uint8_t page[WAL_HEADER_BYTES];
        struct wal_header old;
        struct status ignored;
        if (!io_pread_full(fd, page, sizeof page, 0, st)) {
            io_close(&fd);
            return false;
        }
        if (wal_header_decode(page, &old, &ignored)) {
            *ret_old_seed = old.seed;
        }
    }
    *ret_fd = fd;
    return true;
}

bool wal_spare_take(struct wal *w, int *ret_fd, bool *ret_zeroed, uint32_t *ret_old_seed, struct status *st) {
    (void)pthread_mutex_lock(&w->mutex);
    while (w->spare == WAL_SPARE_BUSY) {
        (void)pthread_cond_wait(&w->changed, &w->mutex);
    }
    bool ready = w->spare == WAL_SPARE_READY;
    bool zeroed = ready ? w->spare_zeroed : true;
    w->spare = WAL_SPARE_BUSY;
    (void)pthread_mutex_unlock(&w->mutex);

    if ((!ready && !make_spare(w, st)) || !open_spare(w, zeroed, ret_fd, ret_old_seed, st)) {
        wal_spare_gone(w);
        return false;
    }
    *ret_zeroed = zeroed;
    return true;
}

void wal_spare_gone(struct wal *w) {
    set_spare(w, WAL_SPARE_NONE, true);
}

bool wal_spare_offer(struct wal *w, const struct wal_segment *segment, bool *ret_used, struct status *st) {
    *ret_used = false;
    (void)pthread_mutex_lock(&w->mutex);
    bool wanted = w->spare == WAL_SPARE_NONE && segment->header.bytes == w->segment_bytes;
    if (wanted) {
        w->spare = WAL_SPARE_BUSY;
    }
    (void)pthread_mutex_unlock(&w->mutex);
    if (!wanted) {
        return true;
    }
    /* Its header is overwritten as soon as it is taken; should its old name come back after a crash of the machine, that would look like
     * damage. So the new name is durable first. */
    *ret_used = io_rename_at(w->dir_fd, segment->name, w->dir_fd, WAL_SPARE_NAME, st);
    bool ok = *ret_used && wal_sync_dir(w->dir_fd, st);
    set_spare(w, ok ? WAL_SPARE_READY : WAL_SPARE_NONE, false);
    return ok;
}

bool wal_spare_find(struct wal *w, struct status *st) {
    int fd = -1;
    off_t size = 0;
    struct status absent;
    if (!io_unlink_at(w->dir_fd, WAL_FILLING_NAME, st) || !io_unlink_at(w->dir_fd, WAL_LARGE_NAME, st)) {
        return false;
    }
    if (!io_open_at(w->dir_fd, WAL_SPARE_NAME, O_RDONLY | O_NOFOLLOW, 0, &fd, &absent)) {
        return absent.sys_errno == ENOENT || io_unlink_at(w->dir_fd, WAL_SPARE_NAME, st);
    }
    bool ok = io_size(fd, &size, st);
    io_close(&fd);
    if (!ok) {
        return false;
    }
    if ((uint64_t)size != w->segment_bytes) {
        return io_unlink_at(w->dir_fd, WAL_SPARE_NAME, st);
    }
    /* Whether it was used before cannot be seen, so it counts as used. */
    set_spare(w, WAL_SPARE_READY, false);
    return true;
}

void wal_spare_stop(struct wal *w) {
    (void)pthread_mutex_lock(&w->mutex);
    w->closing = true;
    bool runs = w->helper_runs;
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->mutex);
    if (runs) {
        (void)pthread_join(w->helper, NULL);
        w->helper_runs = false;
    }
}
