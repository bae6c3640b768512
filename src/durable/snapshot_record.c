/*
 * snapshot_record.c - see snapshot_record.h.
 *
 *   snapshots/record, little-endian
 *     u64 magic "QUIRESNP", u32 format (1), i64 steady time (us), i64 wall time, i64 time since boot at that moment, 36 bytes id of that boot
 *     u32 number of archives, each: name (varint length and bytes), i64 first seen (steady), u64 LSN, i64 verified at (wall), u8 flags (1 good, 2 written here),
 *         32 bytes sum
 *     u32 number of marks, each: i64 steady time, u64 LSN
 *     u32 CRC-32C of all before it
 *
 * The steady clock. Retention asks how old something is, and the wall clock can be a day off for an hour. While the machine is up, time since boot is asked; it
 * counts sleep, too. Across a boot there is only the wall clock: a step forward counts as it says, a step back as nothing. So what is set while the machine
 * runs, by hand or by NTP, is never seen here.
 *
 * Threads: one mutex for all, alone: nothing is taken inside it. It is held while the file is written, a few kilobytes; nobody who must not wait asks here.
 */
#include "durable/snapshot_record.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define RECORD_PATH "record"
#define RECORD_MAGIC 0x504e534552495551ULL /* "QUIRESNP" */
#define RECORD_FORMAT 1
#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define US_PER_DAY INT64_C(86400000000)
#define MARK_EVERY_US (US_PER_DAY / 4)

enum { RECORD_BYTES_MAX = 16 << 20, RECORD_MODE = 0600, BOOT_ID_BYTES = 36, SUM_BYTES = 4, MARKS_MAX = 16000, FIRST_CAP = 16, FLAG_GOOD = 1, FLAG_WRITTEN = 2 };

struct moment {
    int64_t steady_us, wall_us, boot_us;
    char boot_id[BOOT_ID_BYTES];
};

struct mark {
    int64_t at_us;
    uint64_t lsn;
};

struct snapshot_record {
    int dir_fd; /* borrowed */
    pthread_mutex_t mutex;
    struct moment origin; /* steady time is counted from here: the moment of the start */
    struct snapshot_note *notes;
    size_t count, cap;
    struct mark *marks; /* ascending */
    size_t mark_count, mark_cap;
};

/* --- the clock --- */

static int64_t since_boot_us(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void look_at_clocks(struct moment *m) {
    struct buf id = {0};
    struct status ignored;
    m->wall_us = clock_wall_us();
    m->boot_us = since_boot_us();
    memset(m->boot_id, 0, sizeof m->boot_id); /* where it cannot be had, each start counts as a boot */
    if (io_read_file(AT_FDCWD, BOOT_ID_PATH, 2 * BOOT_ID_BYTES, &id, &ignored) && id.len >= BOOT_ID_BYTES) {
        memcpy(m->boot_id, id.data, BOOT_ID_BYTES);
    }
    buf_fini(&id);
}

/* The steady time of `now`, which is after `before`. */
static void go_on(const struct moment *before, struct moment *now) {
    bool same_boot = now->boot_id[0] != '\0' && memcmp(before->boot_id, now->boot_id, BOOT_ID_BYTES) == 0;
    int64_t passed = same_boot ? now->boot_us - before->boot_us : now->wall_us - before->wall_us;
    now->steady_us = before->steady_us + (passed > 0 ? passed : 0);
}

int64_t snapshot_record_now(struct snapshot_record *r) {
    return r->origin.steady_us + since_boot_us() - r->origin.boot_us;
}

/* --- bytes --- */

static void put_moment(struct buf *out, const struct moment *m) {
    buf_put_u64le(out, (uint64_t)m->steady_us);
    buf_put_u64le(out, (uint64_t)m->wall_us);
    buf_put_u64le(out, (uint64_t)m->boot_us);
    buf_put(out, m->boot_id, sizeof m->boot_id);
}

static void encode(struct snapshot_record *r, struct buf *out) {
    struct moment now = r->origin;
    now.steady_us = snapshot_record_now(r);
    now.wall_us = clock_wall_us();
    now.boot_us = since_boot_us();
    buf_put_u64le(out, RECORD_MAGIC);
    buf_put_u32le(out, RECORD_FORMAT);
    put_moment(out, &now);
    buf_put_u32le(out, (uint32_t)r->count);
    for (size_t i = 0; i < r->count; i++) {
        const struct snapshot_note *n = &r->notes[i];
        buf_put_bytes(out, slice_str(n->name));
        buf_put_u64le(out, (uint64_t)n->seen_us);
        buf_put_u64le(out, n->lsn);
        buf_put_u64le(out, (uint64_t)n->verified_at);
        buf_put_u8(out, (uint8_t)((n->good ? FLAG_GOOD : 0) | (n->written ? FLAG_WRITTEN : 0)));
        buf_put(out, n->sum, sizeof n->sum);
    }
    buf_put_u32le(out, (uint32_t)r->mark_count);
    for (size_t i = 0; i < r->mark_count; i++) {
        buf_put_u64le(out, (uint64_t)r->marks[i].at_us);
        buf_put_u64le(out, r->marks[i].lsn);
    }
    buf_put_u32le(out, crc32c(0, out->data, out->len));
}

static bool save_locked(struct snapshot_record *r, struct status *st) {
    struct buf content = {0};
    encode(r, &content);
    bool ok = buf_check(&content, st) && io_replace_file(r->dir_fd, RECORD_PATH, buf_slice(&content), RECORD_MODE, st);
    buf_fini(&content);
    return ok;
}

static bool add_note(struct snapshot_record *r, const struct snapshot_note *note) {
    if (r->count == r->cap) {
        size_t cap = r->cap == 0 ? FIRST_CAP : 2 * r->cap;
        struct snapshot_note *grown = (struct snapshot_note *)realloc(r->notes, cap * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        r->notes = grown;
        r->cap = cap;
    }
    r->notes[r->count++] = *note;
    return true;
}

static bool add_mark(struct snapshot_record *r, int64_t at_us, uint64_t lsn) {
    if (r->mark_count == MARKS_MAX) {
        r->mark_count--;
        memmove(r->marks, r->marks + 1, r->mark_count * sizeof *r->marks);
    }
    if (r->mark_count == r->mark_cap) {
        size_t cap = r->mark_cap == 0 ? FIRST_CAP : 2 * r->mark_cap;
        struct mark *grown = (struct mark *)realloc(r->marks, cap * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        r->marks = grown;
        r->mark_cap = cap;
    }
    r->marks[r->mark_count++] = (struct mark){at_us, lsn};
    return true;
}

static bool decode_note(struct reader *in, struct snapshot_note *n) {
    struct slice name = read_bytes(in);
    n->seen_us = (int64_t)read_u64le(in);
    n->lsn = read_u64le(in);
    n->verified_at = (int64_t)read_u64le(in);
    uint8_t flags = read_u8(in);
    struct slice sum = read_slice(in, sizeof n->sum);
    if (in->failed || name.len >= sizeof n->name) {
        return false;
    }
    memcpy(n->name, name.data, name.len);
    n->name[name.len] = '\0';
    n->good = (flags & FLAG_GOOD) != 0;
    n->written = (flags & FLAG_WRITTEN) != 0;
    memcpy(n->sum, sum.data, sizeof n->sum);
    return true;
}

/* What was saved, as far as it is good; *ret: when. */
static bool decode(struct snapshot_record *r, struct slice content, struct moment *ret) {
    if (content.len < SUM_BYTES || load_u32le(content.data + content.len - SUM_BYTES) != crc32c(0, content.data, content.len - SUM_BYTES)) {
        return false;
    }
    struct reader in = reader_of(slice_of(content.data, content.len - SUM_BYTES));
    if (read_u64le(&in) != RECORD_MAGIC || read_u32le(&in) != RECORD_FORMAT) {
        return false;
    }
    ret->steady_us = (int64_t)read_u64le(&in);
    ret->wall_us = (int64_t)read_u64le(&in);
    ret->boot_us = (int64_t)read_u64le(&in);
    struct slice boot = read_slice(&in, sizeof ret->boot_id);
    if (in.failed) {
        return false;
    }
    memcpy(ret->boot_id, boot.data, sizeof ret->boot_id);
    bool ok = true;
    for (uint32_t left = read_u32le(&in); ok && left > 0; left--) {
        struct snapshot_note note = {0};
        ok = decode_note(&in, &note) && add_note(r, &note);
    }
    for (uint32_t left = read_u32le(&in); ok && !in.failed && left > 0; left--) {
        int64_t at = (int64_t)read_u64le(&in);
        uint64_t lsn = read_u64le(&in);
        ok = !in.failed && add_mark(r, at, lsn);
    }
    return ok && reader_done(&in);
}

/* --- from outside --- */

bool snapshot_record_open(int snapshots_dir_fd, struct snapshot_record **ret, struct status *st) {
    struct buf content = {0};
    struct moment before = {0};
    struct status ignored;
    struct snapshot_record *r = (struct snapshot_record *)calloc(1, sizeof *r);
    if (r == NULL) {
        return status_no_memory(st);
    }
    r->dir_fd = snapshots_dir_fd;
    (void)pthread_mutex_init(&r->mutex, NULL);
    look_at_clocks(&r->origin);
    if (io_read_file(snapshots_dir_fd, RECORD_PATH, RECORD_BYTES_MAX, &content, &ignored) && decode(r, buf_slice(&content), &before)) {
        go_on(&before, &r->origin);
    } else {
        r->count = 0;
        r->mark_count = 0;
    }
    buf_fini(&content);
    *ret = r;
    return true;
}

void snapshot_record_free(struct snapshot_record *r) {
    if (r != NULL) {
        (void)pthread_mutex_destroy(&r->mutex);
        free(r->notes);
        free(r->marks);
        free(r);
    }
}

static struct snapshot_note *find_locked(struct snapshot_record *r, const char *name) {
    for (size_t i = 0; i < r->count; i++) {
        if (strcmp(r->notes[i].name, name) == 0) {
            return &r->notes[i];
        }
    }
    return NULL;
}

static struct snapshot_note *find_or_add_locked(struct snapshot_record *r, const struct snapshot_info *info) {
    struct snapshot_note note = {.seen_us = snapshot_record_now(r), .lsn = info->lsn};
    struct snapshot_note *found = find_locked(r, info->name);
    if (found != NULL) {
        return found;
    }
    memcpy(note.name, info->name, sizeof note.name);
    return add_note(r, &note) ? &r->notes[r->count - 1] : NULL;
}

bool snapshot_record_written(struct snapshot_record *r, const struct snapshot_info *info, const uint8_t sum[SNAPSHOT_SUM_BYTES], struct status *st) {
    (void)pthread_mutex_lock(&r->mutex);
    struct snapshot_note *n = find_or_add_locked(r, info);
    bool ok = n != NULL || status_no_memory(st);
    if (ok) {
        n->written = true;
        memcpy(n->sum, sum, sizeof n->sum);
        ok = save_locked(r, st);
    }
    (void)pthread_mutex_unlock(&r->mutex);
    return ok;
}

bool snapshot_record_verified(struct snapshot_record *r, const struct snapshot_info *info, bool good, struct status *st) {
    (void)pthread_mutex_lock(&r->mutex);
    struct snapshot_note *n = find_or_add_locked(r, info);
    bool ok = n != NULL || status_no_memory(st);
    if (ok) {
        n->verified_at = clock_wall_us();
        n->good = good;
        n->lsn = good ? info->lsn : n->lsn;
        ok = save_locked(r, st);
    }
    (void)pthread_mutex_unlock(&r->mutex);
    return ok;
}

static bool is_listed(const struct snapshot_info *list, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

bool snapshot_record_see(struct snapshot_record *r, const struct snapshot_info *list, size_t count, struct status *st) {
    (void)pthread_mutex_lock(&r->mutex);
    size_t before = r->count;
    size_t kept = 0;
    for (size_t i = 0; i < r->count; i++) {
        if (is_listed(list, count, r->notes[i].name)) {
            r->notes[kept++] = r->notes[i];
        }
    }
    bool changed = kept != before;
    r->count = kept;
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        ok = find_or_add_locked(r, &list[i]) != NULL || status_no_memory(st);
    }
    ok = ok && ((!changed && r->count == kept) || save_locked(r, st));
    (void)pthread_mutex_unlock(&r->mutex);
    return ok;
}

bool snapshot_record_mark(struct snapshot_record *r, uint64_t lsn, struct status *st) {
    bool ok = true;
    (void)pthread_mutex_lock(&r->mutex);
    int64_t now = snapshot_record_now(r);
    if (r->mark_count == 0 || now - r->marks[r->mark_count - 1].at_us >= MARK_EVERY_US) {
        ok = (add_mark(r, now, lsn) || status_no_memory(st)) && save_locked(r, st);
    }
    (void)pthread_mutex_unlock(&r->mutex);
    return ok;
}

bool snapshot_record_find(struct snapshot_record *r, const char *name, struct snapshot_note *ret) {
    (void)pthread_mutex_lock(&r->mutex);
    const struct snapshot_note *n = find_locked(r, name);
    if (n != NULL) {
        *ret = *n;
    }
    (void)pthread_mutex_unlock(&r->mutex);
    return n != NULL;
}

bool snapshot_record_last_good(struct snapshot_record *r, struct snapshot_note *ret) {
    const struct snapshot_note *best = NULL;
    (void)pthread_mutex_lock(&r->mutex);
    for (size_t i = 0; i < r->count; i++) {
        const struct snapshot_note *n = &r->notes[i];
        best = n->verified_at != 0 && n->good && (best == NULL || n->lsn > best->lsn) ? n : best;
    }
    if (best != NULL) {
        *ret = *best;
    }
    (void)pthread_mutex_unlock(&r->mutex);
    return best != NULL;
}

uint64_t snapshot_record_lsn_before(struct snapshot_record *r, uint32_t days) {
    uint64_t lsn = 0;
    (void)pthread_mutex_lock(&r->mutex);
    int64_t until = snapshot_record_now(r) - (int64_t)days * US_PER_DAY;
    for (size_t i = 0; i < r->mark_count && r->marks[i].at_us <= until; i++) {
        lsn = r->marks[i].lsn;
    }
    (void)pthread_mutex_unlock(&r->mutex);
    return lsn;
}
