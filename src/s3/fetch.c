/*
 * fetch.c - see fetch.h.
 *
 * Several logs under one prefix. A server that was restored begins a log of its own (another instance), so a prefix that it goes on to use has both. The one
 * whose newest object is the last by the storage's clock is meant, and it is said which; the other is had by its own name, s3://BUCKET/PREFIX/INSTANCE.
 *
 * A target in time chooses by the time in the archives' names, which is that of their cut, to the second; whether the archive fits exactly is for the restore to
 * say. All segments behind the snapshot are fetched: which of them ends before the target stands in none of their names.
 */
#include "s3/fetch.h"

#include "base/clock.h"
#include "base/io.h"
#include "durable/restore.h"
#include "s3/retention.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SNAPSHOTS "snapshots"
#define LOG "wal"
#define RESERVE_BYTES ((uint64_t)256 << 20)
#define US_PER_SECOND INT64_C(1000000)
enum { LINE_MAX_BYTES = 512, DIRECTORY_MODE = 0700, FILE_MODE = 0600, COPY_BYTES = 65536, STAMP_AT = sizeof "snapshot_" - 1 };

struct fetching {
    struct s3_client *client;
    const struct s3_sealing *sealing;
    const struct s3_fetch_options *options;
    struct s3_listing there;
    struct uuid instance;
    int into_fd, stage_fd, log_dir_fd, snapshots_fd, log_fd;
    bool give; /* root: what is made belongs to the owner of the directory */
    uid_t uid;
    gid_t gid;
    uint64_t left; /* bytes that may still be fetched */
    uint64_t objects, bytes;
};

static void tell(const struct fetching *f, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void tell(const struct fetching *f, const char *fmt, ...) {
    char line[LINE_MAX_BYTES];
    va_list args;
    if (f->options->tell != NULL) {
        va_start(args, fmt);
        (void)vsnprintf(line, sizeof line, fmt, args);
        va_end(args);
        f->options->tell(f->options->ctx, line);
    }
}

/* --- the directory ---------------------------------------------------------------------------------------------------------- */

static bool give(const struct fetching *f, int fd, struct status *st) {
    return !f->give || fchown(fd, f->uid, f->gid) == 0 || status_set_errno(st, errno, "cannot give what is fetched to the owner of the data directory");
}

static bool open_under(const struct fetching *f, int at, const char *name, int *ret_fd, struct status *st) {
    return io_mkdir_at(at, name, DIRECTORY_MODE, st) && io_open_at(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, ret_fd, st) && give(f, *ret_fd, st);
}

static bool open_stage(struct fetching *f, struct status *st) {
    struct stat about;
    const char *into = f->options->into;
    if ((stat(into, &about) != 0 && !io_mkdir_at(AT_FDCWD, into, DIRECTORY_MODE, st)) || !io_open_at(AT_FDCWD, into, O_RDONLY | O_DIRECTORY, 0, &f->into_fd, st)) {
        return false;
    }
    if (fstat(f->into_fd, &about) != 0) {
        return status_set_errno(st, errno, "cannot look at %.200s", into);
    }
    if (!restore_fits(f->into_fd, st)) {
        return false;
    }
    f->give = geteuid() == 0 && about.st_uid != 0;
    f->uid = about.st_uid;
    f->gid = about.st_gid;
    if (!open_under(f, f->into_fd, RESTORE_FETCHED, &f->stage_fd, st)) {
        return false;
    }
    if (flock(f->stage_fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK ? status_set(st, STATUS_BUSY, "another restore into %.200s is under way", into) : status_set_errno(st, errno, "cannot lock %.200s", into);
    }
    char instance[UUID_TEXT + 1];
    uuid_format(&f->instance, instance);
    return open_under(f, f->stage_fd, instance, &f->log_dir_fd, st) && open_under(f, f->log_dir_fd, SNAPSHOTS, &f->snapshots_fd, st) &&
           open_under(f, f->log_dir_fd, LOG, &f->log_fd, st);
}

static bool set_quota(struct fetching *f, struct status *st) {
    uint64_t available = 0;
    if (!io_free_bytes(f->stage_fd, &available, st)) {
        return false;
    }
    available = available > RESERVE_BYTES ? available - RESERVE_BYTES : 0;
    f->left = f->options->max_bytes != 0 && f->options->max_bytes < available ? f->options->max_bytes : available;
    return true;
}

/* --- which log -------------------------------------------------------------------------------------------------------------- */

static bool choose_log(struct fetching *f, struct status *st) {
    char chosen[UUID_TEXT + 1];
    int64_t last = INT64_MIN;
    size_t others = 0;
    size_t kept = 0;
    bool tie = false;
    for (size_t i = 0; i < f->there.count; i++) {
        const struct s3_object *o = &f->there.items[i];
        bool same = uuid_equal(&o->instance, &f->instance) && last != INT64_MIN;
        if (o->modified_us > last) {
            tie = false;
            last = o->modified_us;
            f->instance = o->instance;
        } else if (o->modified_us == last && !same) {
            tie = true;
        }
    }
    for (size_t i = 0; i < f->there.count; i++) {
        if (uuid_equal(&f->there.items[i].instance, &f->instance)) {
            f->there.items[kept++] = f->there.items[i];
        } else {
            others++;
        }
    }
    uuid_format(&f->instance, chosen);
    if (others > 0 && tie) {
        return status_set(st, STATUS_CONFLICT, "there are backups of several logs, and none is clearly the last: give s3://BUCKET/PREFIX/INSTANCE, %s for one", chosen);
    }
    if (others > 0) {
        tell(f, "there are backups of several logs; %s is the last, and taken", chosen);
    }
    f->there.count = kept;
    return true;
}

bool s3_place_cut_instance(struct s3_place *place, struct uuid *ret) {
    char *slash = strrchr(place->prefix, '/');
    char *last = slash != NULL ? slash + 1 : place->prefix;
    if (!uuid_parse(slice_str(last), ret)) {
        return false;
    }
    *(slash != NULL ? slash : last) = '\0';
    return true;
}

static bool list(struct fetching *f, struct status *st) {
    if (!s3_list(f->client, f->options->instance, &f->there, st)) {
        return false;
    }
    if (f->there.damaged > 0) {
        tell(f, "%" PRIu64 " objects are not as long as their names say, and count as not there", f->there.damaged);
    }
    const struct s3_place *place = s3_client_place(f->client);
    return f->there.count > 0 || status_set(st, STATUS_NOT_FOUND, "there is no backup in s3://%s/%.200s", place->bucket, place->prefix);
}

/* --- one object ------------------------------------------------------------------------------------------------------------- */

/* What lies there already is used when it is what the name says. */
static bool has_already(const struct fetching *f, const struct s3_object *o, int dir_fd) {
    struct s3_object found = {0};
    struct status ignored;
    struct s3_sealing sealing = {.key = o->encrypted ? f->sealing->key : NULL};
    int fd = -1;
    if (!io_open_at(dir_fd, o->file, O_RDONLY | O_NOFOLLOW, 0, &fd, &ignored)) {
        return false;
    }
    bool same = s3_measure(fd, &sealing, o->size, &found, &ignored) && found.size == o->size && memcmp(found.hash, o->hash, sizeof o->hash) == 0;
    io_close(&fd);
    return same;
}

static bool get_new(struct fetching *f, const struct s3_object *o, int dir_fd, struct status *st) {
    char temporary[SNAPSHOT_NAME_MAX + 8];
    int fd = -1;
    (void)snprintf(temporary, sizeof temporary, ".%s.tmp", o->file);
    if (!io_unlink_at(dir_fd, temporary, st) || !io_open_at(dir_fd, temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, FILE_MODE, &fd, st)) {
        return false;
    }
    bool ok = give(f, fd, st) && s3_get(f->client, f->sealing, o, fd, st);
    io_close(&fd);
    ok = ok && io_rename_at(dir_fd, temporary, dir_fd, o->file, st);
    if (!ok) {
        struct status ignored;
        (void)!io_unlink_at(dir_fd, temporary, &ignored);
    }
    return ok;
}

static bool get(struct fetching *f, const struct s3_object *o, struct status *st) {
    int dir_fd = o->kind == S3_SNAPSHOT ? f->snapshots_fd : f->log_fd;
    if (o->encrypted && f->sealing->key == NULL) {
        return status_set(st, STATUS_CONFIG, "the backup is encrypted: set encryption_key");
    }
    if (o->size > s3_client_settings(f->client)->max_file_bytes) {
        return status_set(st, STATUS_TOO_LARGE, "%s has %" PRIu64 " bytes, more than max_file_bytes", o->file, o->size);
    }
    if (has_already(f, o, dir_fd)) {
        return true;
    }
    if (o->size > f->left) {
        return status_set(st, f->options->max_bytes != 0 ? STATUS_TOO_LARGE : STATUS_NO_SPACE,
                          "%s has %" PRIu64 " bytes, and only %" PRIu64 " more may be fetched (--max-bytes, or room on the disk)", o->file, o->size, f->left);
    }
    if (!get_new(f, o, dir_fd, st)) {
        return false;
    }
    f->left -= o->size;
    f->objects++;
    f->bytes += o->size;
    tell(f, "%s is here, %" PRIu64 " bytes", o->file, o->size);
    return true;
}

/* Whether there is no use in trying another object. */
static bool is_final(const struct status *st) {
    return st->code != STATUS_CORRUPT && st->code != STATUS_NOT_FOUND;
}

/* --- the snapshot ----------------------------------------------------------------------------------------------------------- */

/* "snapshot_20261130_010203.tar.zst": 2026-11-30T01:02:03Z. */
static int64_t time_of(const char *file) {
    char text[RFC3339_MAX];
    int64_t time_us = 0;
    const char *at = file + STAMP_AT;
    (void)snprintf(text, sizeof text, "%.4s-%.2s-%.2sT%.2s:%.2s:%.2sZ", at, at + 4, at + 6, at + 9, at + 11, at + 13);
    return rfc3339_parse(slice_str(text), &time_us) ? time_us : INT64_MAX;
}

static bool is_candidate(const struct fetching *f, size_t i) {
    const struct s3_object *o = &f->there.items[i];
    const struct s3_fetch_options *to = f->options;
    bool before = to->to_time_us == INT64_MAX || time_of(o->file) <= to->to_time_us - US_PER_SECOND;
    return o->kind == S3_SNAPSHOT && (to->to_lsn == 0 || o->lsn <= to->to_lsn) && before && s3_chain_whole(&f->there, i);
}

static bool get_chain(struct fetching *f, size_t i, struct status *st) {
    for (;;) {
        const struct s3_object *o = &f->there.items[i];
        if (!get(f, o, st)) {
            return false;
        }
        if (o->base[0] == '\0') {
            return true;
        }
        i = s3_find_snapshot(&f->there, &f->instance, o->base);
    }
}

/* *ret_lsn: of the one that is here; 0: there is none, and the log has to begin at its beginning. */
static bool get_snapshot(struct fetching *f, uint64_t *ret_lsn, struct status *st) {
    *ret_lsn = 0;
    for (size_t i = 0; i < f->there.count; i++) {
        struct status why = {0};
        if (!is_candidate(f, i)) {
            continue;
        }
        if (get_chain(f, i, &why)) {
            *ret_lsn = f->there.items[i].lsn;
            return true;
        }
        if (is_final(&why)) {
            *st = why;
            return false;
        }
        tell(f, "%s cannot be used, an older one is tried: %s", f->there.items[i].file, why.detail);
    }
    return true;
}

/* --- the log ---------------------------------------------------------------------------------------------------------------- */

/* Of a segment of which there is a part, too, the longest stands first. One that cannot be had leaves a gap, of which the restore says how far it goes. */
static bool get_log(struct fetching *f, uint64_t lsn, size_t *ret_count, struct status *st) {
    const char *before = "";
    for (size_t i = 0; i < f->there.count; i++) {
        const struct s3_object *o = &f->there.items[i];
        struct status why = {0};
        bool beyond = f->options->to_lsn != 0 && o->first_lsn > f->options->to_lsn;
        if (o->kind != S3_SEGMENT || o->lsn <= lsn || beyond || strcmp(before, o->file) == 0) {
            continue;
        }
        if (get(f, o, &why)) {
            before = o->file;
            (*ret_count)++;
        } else if (is_final(&why)) {
            *st = why;
            return false;
        } else {
            tell(f, "%s is lost: %s", o->file, why.detail);
        }
    }
    return true;
}

/* --- the whole -------------------------------------------------------------------------------------------------------------- */

static bool work(struct fetching *f, struct s3_fetched *ret, struct status *st) {
    uint64_t lsn = 0;
    size_t segments = 0;
    if (!list(f, st) || !choose_log(f, st) || !open_stage(f, st) || !set_quota(f, st)) {
        return false;
    }
    s3_listing_sort(&f->there);
    if (!get_snapshot(f, &lsn, st) || !get_log(f, lsn, &segments, st)) {
        return false;
    }
    if (lsn == 0 && segments == 0) {
        return status_set(st, STATUS_NOT_FOUND, "there is no snapshot at or before the target that can be used, and no log");
    }
    char instance[UUID_TEXT + 1];
    uuid_format(&f->instance, instance);
    int source = snprintf(ret->source, sizeof ret->source, "%s/" RESTORE_FETCHED "/%s/%s", f->options->into, instance, lsn > 0 ? SNAPSHOTS : LOG);
    int log = snprintf(ret->log, sizeof ret->log, "%s/" RESTORE_FETCHED "/%s/" LOG, f->options->into, instance);
    if (source < 0 || log < 0 || (size_t)source >= sizeof ret->source || (size_t)log >= sizeof ret->log) {
        return status_set(st, STATUS_INVALID, "the path of the data directory is too long");
    }
    ret->instance = f->instance;
    ret->objects = f->objects;
    ret->bytes = f->bytes;
    return true;
}

bool s3_fetch(struct s3_client *client, const struct s3_sealing *sealing, const struct s3_fetch_options *options, struct s3_fetched *ret, struct status *st) {
    struct fetching f = {.client = client, .sealing = sealing, .options = options, .into_fd = -1, .stage_fd = -1, .log_dir_fd = -1, .snapshots_fd = -1, .log_fd = -1};
    bool ok = work(&f, ret, st);
    s3_listing_fini(&f.there);
    io_close(&f.snapshots_fd);
    io_close(&f.log_fd);
    io_close(&f.log_dir_fd);
    io_close(&f.stage_fd);
    if (!ok) {
        io_close(&f.into_fd);
    }
    ret->into_fd = f.into_fd;
    return ok;
}

bool s3_fetched_remove(const struct s3_fetched *f, struct status *st) {
    return io_remove_tree(f->into_fd, RESTORE_FETCHED, st);
}

void s3_fetched_close(struct s3_fetched *f) {
    io_close(&f->into_fd);
}
