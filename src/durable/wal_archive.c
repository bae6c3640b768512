/*
 * wal_archive.c - copies of finished segments in another directory, for going back to a point in time.
 *
 * A copy has the segment's name and its bytes up to its end marker: what lies behind is of an earlier life of the file. It is written to a temporary name,
 * synced, renamed, and the directory is synced; only then it counts. The source is read record by record first, so nothing is taken for archived that could
 * not be replayed. A segment of which a part was copied at a stop, when it was the last, is copied again when it is finished, over its part.
 *
 * Whether a copy is there is seen in the archive and nowhere else: a file of that name, of the same segment, with an end marker. A file of that name of another
 * segment is somebody else's, another server's or another history's, and is not touched: the copy fails until somebody has seen to it.
 *
 * Until its copy counts, a segment is needed (proc/log_floor.h), so it is neither removed nor used again.
 */
#include "durable/wal_internal.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { COPY_STEP = 1024 * 1024, TEMPORARY_MAX = WAL_NAME_MAX + 8, LIST_FIRST_CAP = 16 };

/* --- what is there --- */

static bool scan_file(int fd, const struct wal_header *h, uint64_t until, struct wal_scan *ret, struct status *st) {
    struct wal_window window;
    wal_window_init(&window, fd, until);
    bool ok = wal_scan_segment(&window, h, 0, NULL, NULL, ret, st);
    wal_window_fini(&window);
    return ok;
}

static bool read_header(int fd, struct wal_header *ret, bool *ret_good, struct status *st) {
    uint8_t page[WAL_HEADER_BYTES];
    struct status ignored;
    size_t have = 0;
    if (!io_pread(fd, page, sizeof page, 0, &have, st)) {
        return false;
    }
    *ret_good = have == sizeof page && wal_header_decode(page, ret, &ignored);
    return true;
}

/* What the archive has of the segment: *ret_next is the LSN behind its last record, 0 where it has nothing of it. */
static bool look(int dir_fd, const struct wal_segment *segment, uint64_t *ret_next, bool *ret_ended, struct status *st) {
    struct status failed = {0};
    struct wal_header header;
    struct wal_scan scan;
    bool good = false;
    off_t size = 0;
    int fd = -1;
    *ret_next = 0;
    *ret_ended = false;
    if (!io_open_at(dir_fd, segment->name, O_RDONLY | O_NOFOLLOW, 0, &fd, &failed)) {
        if (failed.sys_errno != ENOENT) {
            *st = failed;
        }
        return failed.sys_errno == ENOENT;
    }
    bool ok = io_size(fd, &size, st) && read_header(fd, &header, &good, st);
    if (ok && good && header.segment_id != segment->header.segment_id) {
        ok = status_set(st, STATUS_CONFLICT, "the archive has a %s that is of another log: does another server use that directory?", segment->name);
    } else if (ok && good) {
        ok = scan_file(fd, &header, (uint64_t)size < header.bytes ? (uint64_t)size : header.bytes, &scan, st);
        *ret_next = ok ? scan.next_lsn : 0;
        *ret_ended = ok && scan.ended;
    }
    io_close(&fd);
    return ok;
}

/* The log's own directory has every segment under its name already: each would count as archived, and then go. */
static bool is_elsewhere(const struct wal *w, int dir_fd, struct status *st) {
    struct stat own;
    struct stat other;
    if (fstat(w->dir_fd, &own) != 0 || fstat(dir_fd, &other) != 0) {
        return status_set_errno(st, errno, "cannot look at the archive of the log");
    }
    return own.st_dev != other.st_dev || own.st_ino != other.st_ino ||
           status_set(st, STATUS_CONFLICT, "archive_dir is the directory of the log itself");
}

/* --- copying --- */

static bool sync_archive(int dir_fd, struct status *st) {
    return io_fsync(dir_fd, "the archive of the log", st);
}

static bool copy_bytes(int from, int to, uint64_t bytes, struct status *st) {
    uint8_t *step = (uint8_t *)malloc(COPY_STEP);
    if (step == NULL) {
        return status_no_memory(st);
    }
    bool ok = true;
    for (uint64_t at = 0; ok && at < bytes; at += COPY_STEP) {
        size_t len = bytes - at < COPY_STEP ? (size_t)(bytes - at) : COPY_STEP;
        ok = io_pread_full(from, step, len, (off_t)at, st) && io_pwrite_full(to, step, len, (off_t)at, st);
    }
    free(step);
    return ok;
}

static bool write_copy(int dir_fd, const char *name, int from, uint64_t bytes, struct status *st) {
    char temporary[TEMPORARY_MAX];
    int to = -1;
    (void)snprintf(temporary, sizeof temporary, ".%s.tmp", name);
    if (!io_unlink_at(dir_fd, temporary, st) || !io_open_at(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, WAL_FILE_MODE, &to, st)) {
        return false;
    }
    bool ok = copy_bytes(from, to, bytes, st) && io_fsync(to, temporary, st);
    io_close(&to);
    if (!ok || !io_rename_at(dir_fd, temporary, dir_fd, name, st)) {
        struct status ignored;
        (void)!io_unlink_at(dir_fd, temporary, &ignored); /* its room is worth more than it is */
        return false;
    }
    if (!sync_archive(dir_fd, st)) {
        struct status ignored;
        (void)!io_unlink_at(dir_fd, name, &ignored); /* a second sync would say that all is well */
        return false;
    }
    return true;
}

/* `until`: of the last segment, its durable end. */
static bool copy_segment(struct wal *w, int dir_fd, const struct wal_segment *segment, bool finished, uint64_t until, bool *ret_copied, struct status *st) {
    uint64_t have = 0;
    bool ended = false;
    struct wal_scan scan;
    int fd = -1;
    *ret_copied = false;
    if (!look(dir_fd, segment, &have, &ended, st)) {
        return false;
    }
    if (ended) {
        return sync_archive(dir_fd, st); /* it may have been renamed right before a crash */
    }
    bool ok = io_open_at(w->dir_fd, segment->name, O_RDONLY | O_NOFOLLOW, 0, &fd, st) && scan_file(fd, &segment->header, until, &scan, st);
    if (ok && finished && !scan.ended) {
        ok = status_set(st, STATUS_CORRUPT, "%s is damaged at byte %" PRIu64 " and is not archived", segment->name, scan.end);
    } else if (ok && scan.next_lsn > have && (finished || scan.records > 0)) {
        ok = write_copy(dir_fd, segment->name, fd, scan.end, st);
        *ret_copied = ok;
    }
    io_close(&fd);
    return ok;
}

/* --- the log --- */

/* The next segment of which records behind lsn are missing; false: none. */
static bool next_segment(struct wal *w, uint64_t lsn, bool with_last, struct wal_segment *ret, bool *ret_finished, uint64_t *ret_last_lsn, uint64_t *ret_until) {
    bool found = false;
    (void)pthread_mutex_lock(&w->mutex);
    size_t count = with_last ? w->segment_count : w->segment_count - 1;
    for (size_t i = 0; i < count && !found; i++) {
        bool finished = i + 1 < w->segment_count;
        uint64_t last = finished ? w->segments[i + 1].header.first_lsn - 1 : w->durable_lsn;
        found = last > lsn;
        if (found) {
            *ret = w->segments[i];
            *ret_finished = finished;
            *ret_last_lsn = last;
            *ret_until = finished ? w->segments[i].header.bytes : w->durable_end;
        }
    }
    (void)pthread_mutex_unlock(&w->mutex);
    return found;
}

static void count_waiting(struct wal *w, struct oplog_archived *a) {
    a->waiting = 0;
    a->waiting_bytes = 0;
    (void)pthread_mutex_lock(&w->mutex);
    for (size_t i = 0; i + 1 < w->segment_count; i++) {
        if (w->segments[i + 1].header.first_lsn - 1 > a->lsn) {
            a->waiting++;
            a->waiting_bytes += w->segments[i].header.bytes;
        }
    }
    (void)pthread_mutex_unlock(&w->mutex);
}

bool wal_archive(struct oplog *log, int dir_fd, bool with_last, struct oplog_archived *a, struct status *st) {
    struct wal *w = (struct wal *)log;
    struct wal_segment segment;
    bool finished = false;
    uint64_t last = 0;
    uint64_t until = 0;
    bool ok = dir_fd < 0 || is_elsewhere(w, dir_fd, st);
    while (ok && dir_fd >= 0 && next_segment(w, a->lsn, with_last, &segment, &finished, &last, &until)) {
        bool copied = false;
        ok = copy_segment(w, dir_fd, &segment, finished, until, &copied, st);
        a->copied += copied ? 1 : 0;
        /* A part of the last one is there, and it is still needed where it is. */
        if (ok && !finished) {
            break;
        }
        a->lsn = ok ? last : a->lsn;
    }
    count_waiting(w, a);
    return ok;
}

/* --- letting copies go --- */

struct archived {
    char name[WAL_NAME_MAX];
    uint64_t first_lsn;
};
struct archived_list {
    struct archived *items;
    size_t count, cap;
};

static bool add_archived(struct archived_list *l, const char *name, uint64_t first_lsn, struct status *st) {
    if (l->count == l->cap) {
        size_t cap = l->cap == 0 ? LIST_FIRST_CAP : 2 * l->cap;
        struct archived *grown = (struct archived *)realloc(l->items, cap * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        l->items = grown;
        l->cap = cap;
    }
    struct archived *a = &l->items[l->count++];
    memcpy(a->name, name, strlen(name) + 1);
    a->first_lsn = first_lsn;
    return true;
}

static bool take_archived(int dir_fd, const char *name, void *ctx, struct status *st) {
    uint64_t first_lsn = 0;
    (void)dir_fd;
    return !wal_name_parse(name, &first_lsn) || add_archived((struct archived_list *)ctx, name, first_lsn, st);
}

static int by_first_lsn(const void *a, const void *b) {
    const struct archived *x = (const struct archived *)a;
    const struct archived *y = (const struct archived *)b;
    return x->first_lsn != y->first_lsn ? (x->first_lsn < y->first_lsn ? -1 : 1) : strcmp(x->name, y->name);
}

/* Whether the file is one of this log, so that nothing of another server's goes. */
static bool is_ours(struct wal *w, int dir_fd, const char *name, bool *ret, struct status *st) {
    struct wal_header header;
    bool good = false;
    int fd = -1;
    bool ok = io_open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW, 0, &fd, st) && read_header(fd, &header, &good, st);
    io_close(&fd);
    if (ok) {
        (void)pthread_mutex_lock(&w->mutex);
        *ret = good && uuid_equal(&header.instance, &w->segments[0].header.instance);
        (void)pthread_mutex_unlock(&w->mutex);
    }
    return ok;
}

bool wal_archive_prune(struct oplog *log, int dir_fd, uint64_t lsn, uint64_t *ret_removed, struct status *st) {
    struct wal *w = (struct wal *)log;
    struct archived_list l = {0};
    uint64_t removed = 0;
    bool ok = is_elsewhere(w, dir_fd, st) && io_each_entry(dir_fd, "the archive of the log", take_archived, &l, st);
    if (ok && l.count > 1) {
        qsort(l.items, l.count, sizeof *l.items, by_first_lsn);
    }
    /* From the front, so that what stays has no gap. */
    for (size_t i = 0; ok && i + 1 < l.count && l.items[i + 1].first_lsn - 1 <= lsn; i++) {
        bool ours = false;
        ok = is_ours(w, dir_fd, l.items[i].name, &ours, st) && (!ours || io_unlink_at(dir_fd, l.items[i].name, st));
        removed += ok && ours ? 1 : 0;
    }
    ok = ok && (removed == 0 || sync_archive(dir_fd, st));
    free(l.items);
    *ret_removed = removed;
    return ok;
}
