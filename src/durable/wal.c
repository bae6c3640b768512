/*
 * wal.c - the embedded log: appending, reading again, retiring.
 *
 * The log is a row of segment files. A segment begins with a header in a page of its own; records follow without gaps; what is
 * behind the last one is zeros, or records of an earlier life of the file. All numbers are little-endian, varints are LEB128.
 *
 *   header, 4096 bytes                                      record
 *      0  u64  magic "QUIREWAL"                              0  u32     CRC-32C of all that follows, seeded
 *      8  u32  format (1)                                    4  u8      check: low byte of the seeded CRC-32C of the head's varints
 *     12  u32  bytes of the header (4096)                    5  varint  batch index << 2 | type (1 op, 2 end of the segment)
 *     16  u64  id of the segment, random                        varint  length of the payload
 *     24  u64  id of the segment before it, 0: none             varint  LSN - first LSN of the segment
 *     32  16   instance: id of the log, random                  varint  zigzag(time - creation of the segment), microseconds
 *     48  u64  first LSN                                        payload: the op, as op.h encodes it
 *     56  i64  time of creation, microseconds
 *     64  u64  bytes of the segment
 *     72  u64  LSN up to which a snapshot must cover what was before, if this is the oldest
 *     80  u32  1: zero-filled, 0: used before
 *   4092  u32  CRC-32C of the bytes before it
 *
 * A record costs 15 to 18 bytes beyond its op: every durable write pays them, so they are few. The seed is the CRC-32C of the
 * segment's id.
 *
 * A batch is what one append call brought: written by one pwrite, made durable by one fdatasync. A record of LSN n and batch
 * index i says that everything up to n - i - 1 was durable when it was written: that is the durable LSN before its batch.
 *
 * When no batch follows for a moment, nothing would say so of the last one. So a guard is put behind it (type 3, no payload, the LSN that follows): all
 * before it is durable. It is no part of the row: the next record is written over it, in the same place. It is not synced, the kernel writes it in its
 * own time; a batch that is torn may have left it or destroyed it.
 *
 * Invariants
 *  1. LSNs ascend by one over all segments; a segment's first LSN is its predecessor's last + 1, and stands in its name and its
 * header.
 *  2. A file bears a segment's name only after its header is durable. So a named file with a bad header is damage, never a torn
 * write.
 *  3. A segment is created only when all records before it are durable. Its predecessor then gets an end marker, which is durable
 * before the first record of the new one is written. So a missing last segment shows, and a missing end marker is innocent only
 * before an empty segment.
 *  4. Segments go from the front only, each removal synced before the next, so a crash leaves no gap.
 *  5. A batch lies within one segment, and room for the end marker is always left behind it.
 *
 * Reading. A record is valid if and only if its CRC, under the seed of this segment, holds, it has the next LSN, and it continues
 * its batch or begins one. Reading ends at the first place without a valid record; say it wanted LSN n there. Then:
 *   - some valid record behind it claims a durable LSN >= n, or a later segment exists that begins above n, or the caller knows
 * that n was durable (a snapshot or a checkpoint covers it): damage. Starting is refused, naming file and offset; repair cuts
 * there.
 *   - otherwise no sync that covered n can have been answered for, or it was the very last one: a torn tail. It is cut off: what
 * it wrote is zeroed and synced before anything is appended, so that none of its records can ever come back. One case cannot be
 * told from a torn tail: damage in the last batch of all, when the guard behind it is damaged as well or did not reach the disk:
 * the process died within the moment, or the machine before the kernel wrote it. A file that was cut short loses both.
 *
 * What a start reads it may show, so it must stay, whatever happens to the machine later. The process that wrote the last batch may have died before its
 * sync, or of it. So a start writes that batch once more (after a failed sync the kernel takes pages for written that are not), before an empty
 * segment the end marker, too, and syncs both and the names.
 *
 * A crash leaves, beside a torn tail: a named segment without records (its predecessor gets its end marker at the next start), or
 * files under temporary names (wal_spare.c).
 *
 * Failures of append. No room: what was written is zeroed again, at once or before the next batch, and the log stays usable. A
 * sync that fails, or any other error while writing, latches the log: whether the bytes are on disk is unknown from then on, the
 * kernel may have dropped them, and a second sync would say that all is well. Only a restart, which reads what is really there,
 * helps.
 *
 * Threads. append and guard are called by one thread at a time; publish_snapshot, position and read_from by any.
 */
#include "durable/wal_internal.h"

#include "base/clock.h"
#include "base/io.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SEGMENT_LEAST = 2 * WAL_HEADER_BYTES,
    ERASE_STEP = 64 * 1024,
    SEGMENTS_FIRST_CAP = 16,
    SPARE_WANTED_AT = 4 /* when that part of a segment is used */
};

static const struct oplog_driver wal_driver;

static uint64_t whole_pages(uint64_t bytes) {
    enum { PAGE = 4096 };
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

static struct wal *wal_of(struct oplog *log) {
    return (struct wal *)log; /* log is its first member */
}

/* --- pieces that opening uses, too --- */

struct wal *wal_new(const struct wal_options *options) {
    struct wal *w = (struct wal *)calloc(1, sizeof *w);
    if (w == NULL) {
        return NULL;
    }
    w->log.driver = &wal_driver;
    w->dir_fd = -1;
    w->segment_bytes = whole_pages(options->segment_bytes < SEGMENT_LEAST ? SEGMENT_LEAST : options->segment_bytes);
    w->max_record_bytes = options->max_record_bytes;
    w->fd = -1;
    w->successor_fd = -1;
    w->next_lsn = 1;
    (void)pthread_mutex_init(&w->retire_mutex, NULL);
    (void)pthread_mutex_init(&w->mutex, NULL);
    (void)pthread_cond_init(&w->changed, NULL);
    return w;
}

void wal_free(struct wal *w) {
    if (w == NULL) {
        return;
    }
    wal_spare_stop(w);
    io_close(&w->fd);
    io_close(&w->successor_fd);
    io_close(&w->dir_fd);
    buf_fini(&w->batch);
    free(w->segments);
    (void)pthread_cond_destroy(&w->changed);
    (void)pthread_mutex_destroy(&w->mutex);
    (void)pthread_mutex_destroy(&w->retire_mutex);
    free(w);
}

/* Room for one segment more. */
static bool grow_segments(struct wal *w, struct status *st) {
    bool ok = true;
    (void)pthread_mutex_lock(&w->mutex);
    if (w->segment_count == w->segment_cap) {
        size_t cap = w->segment_cap == 0 ? SEGMENTS_FIRST_CAP : w->segment_cap * 2;
        struct wal_segment *grown = (struct wal_segment *)realloc(w->segments, cap * sizeof *grown);
        ok = grown != NULL;
        if (ok) {
            w->segments = grown;
            w->segment_cap = cap;
        }
    }
    (void)pthread_mutex_unlock(&w->mutex);
    return ok || status_no_memory(st);
}

/* There is room. */
static void put_segment(struct wal *w, const struct wal_segment *segment) {
    (void)pthread_mutex_lock(&w->mutex);
    w->segments[w->segment_count++] = *segment;
    w->durable_end = WAL_HEADER_BYTES; /* in one step with the new last segment: read_from takes both */
    (void)pthread_mutex_unlock(&w->mutex);
}

bool wal_add_segment(struct wal *w, const struct wal_segment *segment, struct status *st) {
    if (!grow_segments(w, st)) {
        return false;
    }
    put_segment(w, segment);
    return true;
}

bool wal_sync(int fd, const char *name, struct status *st) {
    struct status local;
    st = st != NULL ? st : &local;
    if (io_fdatasync(fd, name, st)) {
        return true;
    }
    st->code = STATUS_IO;
    return false;
}

bool wal_sync_dir(int dir_fd, struct status *st) {
    struct status local;
    st = st != NULL ? st : &local;
    if (io_fsync(dir_fd, "the directory of the log", st)) {
        return true;
    }
    st->code = STATUS_IO;
    return false;
}

bool wal_name_segment(struct wal *w, int fd, const char *temporary, struct wal_segment *segment, struct status *st) {
    uint8_t page[WAL_HEADER_BYTES];
    wal_header_renew(&segment->header);
    wal_header_encode(&segment->header, page);
    wal_name_format(segment->header.created_at, segment->header.first_lsn, segment->name);
    return io_pwrite_full(fd, page, sizeof page, 0, st) && wal_sync(fd, temporary, st) &&
           io_rename_at(w->dir_fd, temporary, w->dir_fd, segment->name, st) && wal_sync_dir(w->dir_fd, st);
}

bool wal_erase(int fd, uint64_t from, uint64_t to, const char *name, struct status *st) {
    static const uint8_t zeros[ERASE_STEP];
    for (uint64_t at = from; at < to; at += ERASE_STEP) {
        uint64_t left = to - at;
        if (!io_pwrite_full(fd, zeros, left < ERASE_STEP ? (size_t)left : ERASE_STEP, (off_t)at, st)) {
            return false;
        }
    }
    return from >= to || wal_sync(fd, name, st);
}

bool wal_write_end(int fd, const struct wal_segment *segment, uint64_t at, uint64_t next_lsn, struct status *st) {
    struct buf marker = {0};
    struct status local;
    struct wal_record end = {.type = WAL_RECORD_END, .lsn = next_lsn, .time_us = clock_wall_us()};
    st = st != NULL ? st : &local;
    wal_record_encode(&marker, &segment->header, &end, slice_of(NULL, 0));
    if (!buf_check(&marker, st)) {
        buf_fini(&marker);
        return false;
    }
    bool ok = io_pwrite_full(fd, marker.data, marker.len, (off_t)at, st) && wal_sync(fd, segment->name, st);
    if (!ok && st->code == STATUS_NO_MEMORY) {
        st->code = STATUS_IO; /* the system's, and something may have been written */
    }
    buf_fini(&marker);
    return ok;
}

/* --- failures --- */

/* After a failure while appending: every later append fails. `st` becomes what the caller sees; never STATUS_NO_SPACE, which
 * would promise that the log is usable. */
static bool latch(struct wal *w, struct status *st) {
    st->code = STATUS_IO;
    (void)pthread_mutex_lock(&w->mutex);
    w->latched = true;
    (void)snprintf(w->latched_why, sizeof w->latched_why, "%s", st->detail);
    (void)pthread_mutex_unlock(&w->mutex);
    return false;
}

/* Failed for want of room, and not in a sync (wal_sync sees to that): the log stays usable. */
static bool no_room(const struct status *st) {
    return st->code == STATUS_NO_SPACE;
}

/* What a failed write may have left is zeroed. Without room for even that it is tried again before the next batch. */
static bool cut_back(struct wal *w, const struct wal_segment *segment, struct status *st) {
    if (w->torn_until <= w->offset) {
        return true;
    }
    if (!wal_erase(w->fd, w->offset, w->torn_until, segment->name, st)) {
        return no_room(st) ? false : latch(w, st);
    }
    w->torn_until = 0;
    return true;
}

/* --- the next segment --- */

static uint64_t segment_room(const struct wal *w, size_t batch) {
    uint64_t bytes = whole_pages(WAL_HEADER_BYTES + (uint64_t)batch + WAL_RECORD_HEAD_MAX);
    return bytes > w->segment_bytes ? bytes : w->segment_bytes;
}

/* The successor under its name, in w->successor. On failure nothing has changed, or the log is latched. */
static bool prepare_successor(struct wal *w, const struct wal_segment *last, uint64_t bytes, struct status *st) {
    bool usual = bytes == w->segment_bytes;
    const char *temporary = usual ? WAL_SPARE_NAME : WAL_LARGE_NAME;
    struct wal_segment next = {.header = {.previous_id = last->header.segment_id,
                                          .instance = last->header.instance,
                                          .first_lsn = w->next_lsn,
                                          .needs_lsn = w->next_lsn - 1,
                                          .created_at = clock_wall_us(),
                                          .bytes = bytes,
                                          .zeroed = true}};
    int fd = -1;
    if (usual ? !wal_spare_take(w, &fd, &next.header.zeroed, &next.header.seed, st)
              : !wal_make_zeroed(w->dir_fd, temporary, bytes, &fd, st)) {
        return no_room(st) || st->code == STATUS_NO_MEMORY ? false : latch(w, st);
    }
    bool ok = wal_name_segment(w, fd, temporary, &next, st);
    if (!ok) {
        io_close(&fd);
        struct status ignored;
        (void)!io_unlink_at(w->dir_fd, temporary, &ignored);
        if (!no_room(st)) {
            (void)latch(w, st);
        }
    }
    if (usual) {
        wal_spare_gone(w);
    }
    if (!ok) {
        return false;
    }
    w->successor_fd = fd;
    w->successor = next;
    return true;
}

/* Ends the segment in use and goes over to w->successor. No room for the marker, or no memory, leaves all as it is, to be tried again. What needs memory comes
 * first: once the marker is written, all that follows must go to the successor. */
static bool enter_successor(struct wal *w, const struct wal_segment *last, struct status *st) {
    if (!grow_segments(w, st)) {
        return false;
    }
    if (!wal_write_end(w->fd, last, w->offset, w->next_lsn, st)) {
        w->guarded = false;
        if (st->code == STATUS_NO_MEMORY) {
            return false; /* nothing was written */
        }
        if (!no_room(st)) {
            return latch(w, st);
        }
        w->torn_until = w->offset + WAL_RECORD_HEAD_MAX;
        return false;
    }
    put_segment(w, &w->successor);
    io_close(&w->fd);
    w->fd = w->successor_fd;
    w->successor_fd = -1;
    w->offset = WAL_HEADER_BYTES;
    w->guarded = false;
    return true;
}

/* --- append --- */

static bool check_batch(const struct wal *w, const struct oplog_record *records, size_t count, struct status *st) {
    for (size_t i = 0; i < count; i++) {
        if (records[i].lsn != w->next_lsn + i) {
            return status_set(st, STATUS_INTERNAL, "the log was given LSN %" PRIu64 " where %" PRIu64 " follows", records[i].lsn,
                              w->next_lsn + i);
        }
        if (records[i].op.len > w->max_record_bytes) {
            return status_set(st, STATUS_TOO_LARGE, "a log record of %zu bytes; at most %" PRIu64 " are allowed",
                              records[i].op.len, w->max_record_bytes);
        }
    }
    return true;
}

static bool encode_batch(struct wal *w, const struct wal_header *h, const struct oplog_record *records, size_t count,
                         struct status *st) {
    buf_reset(&w->batch);
    for (size_t i = 0; i < count; i++) {
        struct wal_record r = {.type = WAL_RECORD_OP, .batch_index = i, .lsn = records[i].lsn, .time_us = records[i].time_us};
        wal_record_encode(&w->batch, h, &r, records[i].op);
    }
    return buf_check(&w->batch, st);
}

static bool fits(const struct wal *w, const struct wal_segment *segment) {
    uint64_t left = segment->header.bytes - w->offset;
    return w->batch.len <= left && left - w->batch.len >= WAL_RECORD_HEAD_MAX;
}

/* The segment in use, by value: publish_snapshot may move the array. */
static struct wal_segment current_segment(struct wal *w) {
    (void)pthread_mutex_lock(&w->mutex);
    struct wal_segment last = w->segments[w->segment_count - 1];
    (void)pthread_mutex_unlock(&w->mutex);
    return last;
}

/* The batch, encoded for the segment where it goes; *segment is that. */
static bool place_batch(struct wal *w, struct wal_segment *segment, const struct oplog_record *records, size_t count,
                        struct status *st) {
    for (;;) {
        if (!encode_batch(w, &segment->header, records, count, st)) {
            return false;
        }
        /* A successor may be left over from an earlier append that had no room for the end marker. */
        if (w->successor_fd < 0) {
            if (fits(w, segment)) {
                return true;
            }
            /* In another segment, LSNs and times can take other numbers of bytes. */
            if (!prepare_successor(w, segment, segment_room(w, w->batch.len + count * WAL_RECORD_HEAD_MAX), st)) {
                return false;
            }
        }
        if (!enter_successor(w, segment, st)) {
            return false;
        }
        *segment = current_segment(w);
    }
}

static bool write_batch(struct wal *w, const struct wal_segment *segment, size_t count, struct status *st) {
    w->guarded = false; /* the batch is written over the guard */
    if (!io_pwrite_full(w->fd, w->batch.data, w->batch.len, (off_t)w->offset, st)) {
        w->torn_until = w->offset + w->batch.len;
        if (!no_room(st)) {
            return latch(w, st);
        }
        struct status later;
        (void)!cut_back(w, segment, &later); /* tried again before the next batch, where failing is reported */
        return false;
    }
    int64_t begin = clock_monotonic_us();
    if (!wal_sync(w->fd, segment->name, st)) {
        return latch(w, st);
    }
    int64_t took = clock_monotonic_us() - begin;
    w->offset += w->batch.len;
    w->next_lsn += count;
    (void)pthread_mutex_lock(&w->mutex);
    w->syncs++;
    w->sync_us += (uint64_t)took;
    w->appended_bytes += w->batch.len;
    w->durable_end = w->offset;
    w->durable_lsn = w->next_lsn - 1;
    (void)pthread_mutex_unlock(&w->mutex);
    return true;
}

static bool refuse_latched(struct wal *w, struct status *st) {
    (void)pthread_mutex_lock(&w->mutex);
    bool latched = w->latched;
    if (latched) {
        (void)status_set(st, STATUS_IO, "the log takes nothing until a restart, because of an earlier failure: %s",
                         w->latched_why);
    }
    (void)pthread_mutex_unlock(&w->mutex);
    return !latched;
}

static bool append(struct oplog *log, const struct oplog_record *records, size_t count, struct status *st) {
    struct wal *w = wal_of(log);
    struct status local;
    st = st != NULL ? st : &local;
    if (count == 0) {
        return true;
    }
    if (!refuse_latched(w, st) || !check_batch(w, records, count, st)) {
        return false;
    }
    struct wal_segment segment = current_segment(w);
    if (!cut_back(w, &segment, st) || !place_batch(w, &segment, records, count, st) || !write_batch(w, &segment, count, st)) {
        return false;
    }
    if (w->offset - WAL_HEADER_BYTES > segment.header.bytes / SPARE_WANTED_AT) {
        wal_spare_want(w);
    }
    return true;
}

/* Behind an end marker, or before the first record of all, there is nothing to guard. */
static bool guard(struct oplog *log, struct status *st) {
    struct wal *w = wal_of(log);
    struct status local;
    st = st != NULL ? st : &local;
    if (!refuse_latched(w, st)) {
        return false;
    }
    if (w->guarded || w->offset == WAL_HEADER_BYTES) {
        return true;
    }
    struct wal_segment segment = current_segment(w);
    struct wal_record r = {.type = WAL_RECORD_GUARD, .lsn = w->next_lsn, .time_us = clock_wall_us()};
    buf_reset(&w->batch);
    wal_record_encode(&w->batch, &segment.header, &r, slice_of(NULL, 0));
    if (!cut_back(w, &segment, st) || !buf_check(&w->batch, st)) {
        return false;
    }
    if (!io_pwrite_full(w->fd, w->batch.data, w->batch.len, (off_t)w->offset, st)) {
        w->torn_until = w->offset + w->batch.len;
        return no_room(st) ? false : latch(w, st);
    }
    w->guarded = true;
    return true;
}

/* --- reading --- */

static bool read_segment(struct wal *w, const struct wal_segment *segment, uint64_t until, uint64_t from, oplog_record_fn fn,
                         void *ctx, uint64_t *ret_next, struct status *st) {
    int fd = -1;
    if (!io_open_at(w->dir_fd, segment->name, O_RDONLY | O_NOFOLLOW, 0, &fd, st)) {
        return false;
    }
    struct wal_window window;
    struct wal_scan scan;
    wal_window_init(&window, fd, until);
    bool ok = wal_scan_segment(&window, &segment->header, from, fn, ctx, &scan, st);
    wal_window_fini(&window);
    io_close(&fd);
    if (ok) {
        *ret_next = scan.next_lsn;
    }
    return ok;
}

static bool read_from(struct oplog *log, uint64_t from, oplog_record_fn fn, void *ctx, struct status *st) {
    struct wal *w = wal_of(log);
    (void)pthread_mutex_lock(&w->mutex);
    size_t count = w->segment_count;
    uint64_t end = w->durable_end;
    uint64_t durable = w->durable_lsn;
    struct wal_segment *segments = (struct wal_segment *)malloc(count * sizeof *segments);
    if (segments != NULL) {
        memcpy(segments, w->segments, count * sizeof *segments);
    }
    (void)pthread_mutex_unlock(&w->mutex);
    if (segments == NULL) {
        return status_no_memory(st);
    }
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        bool last = i + 1 == count;
        uint64_t expected = last ? durable + 1 : segments[i + 1].header.first_lsn;
        uint64_t next = 0;
        if (expected <= from) {
            continue;
        }
        ok = read_segment(w, &segments[i], last ? end : segments[i].header.bytes, from, fn, ctx, &next, st);
        if (ok && next != expected) {
            ok = status_set(st, STATUS_CORRUPT, "%s cannot be read from LSN %" PRIu64 " on, although it could be at start",
                            segments[i].name, next);
        }
    }
    free(segments);
    return ok;
}

/* --- retiring --- */

/* The oldest segment, when a snapshot up to lsn covers all of it and it is not the one in use. */
static bool oldest_covered(struct wal *w, uint64_t lsn, struct wal_segment *ret) {
    (void)pthread_mutex_lock(&w->mutex);
    bool covered = w->segment_count > 1 && w->segments[1].header.first_lsn - 1 <= lsn;
    if (covered) {
        *ret = w->segments[0];
    }
    (void)pthread_mutex_unlock(&w->mutex);
    return covered;
}

static void forget_oldest(struct wal *w) {
    (void)pthread_mutex_lock(&w->mutex);
    w->segment_count--;
    memmove(w->segments, w->segments + 1, w->segment_count * sizeof *w->segments);
    (void)pthread_mutex_unlock(&w->mutex);
}

static bool publish_snapshot(struct oplog *log, uint64_t lsn, struct status *st) {
    struct wal *w = wal_of(log);
    struct wal_segment oldest;
    bool ok = true;
    (void)pthread_mutex_lock(&w->retire_mutex);
    while (ok && oldest_covered(w, lsn, &oldest)) {
        bool used = false; /* its name is gone */
        ok = wal_spare_offer(w, &oldest, &used, st);
        if (ok && !used) {
            ok = io_unlink_at(w->dir_fd, oldest.name, st);
            used = ok;
            ok = ok && wal_sync_dir(w->dir_fd, st);
        }
        if (used) {
            forget_oldest(w);
        }
    }
    (void)pthread_mutex_unlock(&w->retire_mutex);
    return ok;
}

/* --- the rest of the driver --- */

static void position(struct oplog *log, struct oplog_position *ret) {
    struct wal *w = wal_of(log);
    (void)pthread_mutex_lock(&w->mutex);
    *ret = (struct oplog_position){
        .durable_lsn = w->durable_lsn,
        .oldest_lsn = w->segments[0].header.first_lsn,
        .segments = w->segment_count,
        .appended_bytes = w->appended_bytes,
        .syncs = w->syncs,
        .sync_us = w->sync_us,
        .place = w->segments[w->segment_count - 1].header.segment_id,
        .begun_behind = w->segments[0].header.previous_id == 0 ? w->segments[0].header.needs_lsn : UINT64_MAX,
    };
    for (size_t i = 0; i < w->segment_count; i++) {
        ret->bytes += w->segments[i].header.bytes;
    }
    (void)pthread_mutex_unlock(&w->mutex);
}

/* A segment that was retired since is known by its successor. */
static bool knows(struct oplog *log, uint64_t place) {
    struct wal *w = wal_of(log);
    (void)pthread_mutex_lock(&w->mutex);
    bool known = w->segments[0].header.previous_id == place;
    for (size_t i = 0; i < w->segment_count; i++) {
        known = known || w->segments[i].header.segment_id == place;
    }
    (void)pthread_mutex_unlock(&w->mutex);
    return known;
}

/* The right to append comes with the data directory's LOCK, so there is nothing to get or to lose. */
static bool keep_right(struct oplog *log, struct status *st) {
    return refuse_latched(wal_of(log), st);
}

static void close_log(struct oplog *log) {
    wal_free(wal_of(log));
}

static const struct oplog_driver wal_driver = {
    .name = "wal",
    .acquire = keep_right,
    .renew = keep_right,
    .append = append,
    .guard = guard,
    .read_from = read_from,
    .publish_snapshot = publish_snapshot,
    .knows = knows,
    .archive = wal_archive,
    .archive_prune = wal_archive_prune,
    .position = position,
    .close = close_log,
};
