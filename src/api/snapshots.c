/*
 * snapshots.c - the archives on the disk: what there is, taking one, looking whether one can be restored, and getting one.
 *
 * A worker reads archives and writes none: taking and verifying are commands to the supervisor. Getting one is done by whoever sends the response, in pieces, so
 * an archive of any size takes no memory here; but it takes a worker, and its place among those for what is no write (proc/intake.c), for as long as the
 * client reads. So few may do it at once, or searches would wait for downloads.
 */
#include "api/tasks.h"

#include "api/json_in.h"
#include "base/io.h"
#include "durable/snapshot_format.h"
#include "durable/snapshot_record.h"
#include "shm/atomics.h"
#include "store/model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#define DOWNLOADS_PART 4 /* one in so many of those that have requests of the main socket in hand may send an archive */

static void write_verified(struct json_out *j, struct snapshot_record *record, const char *name) {
    struct snapshot_note note;
    json_key(j, "verified");
    if (!snapshot_record_find(record, name, &note) || note.verified_at == 0) {
        json_null(j);
        return;
    }
    json_begin_object(j);
    json_member_bool(j, "good", note.good);
    json_member_time(j, "at", note.verified_at);
    json_end_object(j);
}

static void write_snapshot(struct json_out *j, struct snapshot_record *record, const struct snapshot_info *info) {
    json_begin_object(j);
    json_member_cstring(j, "name", info->name);
    json_member_time(j, "created_at", info->created_at);
    json_member_uint(j, "lsn", info->lsn);
    json_member_uint(j, "bytes", info->bytes);
    json_member_uint(j, "libraries", info->libraries);
    json_member_uint(j, "documents", info->documents);
    json_member_uint(j, "chunks", info->chunks);
    json_key(j, "base");
    if (info->base[0] != '\0') {
        json_string(j, slice_str(info->base));
    } else {
        json_null(j);
    }
    json_member_uint(j, "depth", info->depth);
    write_verified(j, record, info->name);
    json_end_object(j);
}

bool handle_snapshot_list(struct exchange *x, struct status *st) {
    struct snapshot_info *list = NULL;
    struct snapshot_record *record = NULL;
    size_t count = 0;
    int dir_fd = x->api->host.snapshots_dir_fd;
    if (!snapshot_record_open(dir_fd, &record, st) || !snapshot_list(dir_fd, &list, &count, st)) {
        snapshot_record_free(record);
        return false;
    }
    struct json_out j = reply_json(x, 200);
    json_begin_array(&j);
    for (size_t i = 0; i < count; i++) {
        write_snapshot(&j, record, &list[i]);
    }
    json_end_array(&j);
    free(list);
    snapshot_record_free(record);
    return true;
}

static bool read_no_options(struct exchange *x, struct status *st) {
    if (request_known(x) || x->request->body.len == 0) {
        return true;
    }
    if (!json_in_body(x, st)) {
        return false;
    }
    (void)json_in_members(x, NULL, x->document.root, NULL, 0);
    return problems_none(x, st);
}

bool handle_snapshot_take(struct exchange *x, struct status *st) {
    return read_no_options(x, st) && task_begin(x, TASK_SNAPSHOT, API_TAKE_SNAPSHOT, NULL, 0, st);
}

/* --- one of them --- */

static bool not_found(struct status *st) {
    return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_SNAPSHOT, "there is no snapshot of this name");
}

/* The archive that the path names, open. */
static bool open_named(const struct exchange *x, char name[SNAPSHOT_NAME_MAX], int *ret_fd, struct stat *ret_about, struct status *st) {
    struct status failed = {0};
    struct slice given = x->param[0];
    if (given.len >= SNAPSHOT_NAME_MAX || memchr(given.data, '\0', given.len) != NULL) {
        return not_found(st);
    }
    memcpy(name, given.data, given.len);
    name[given.len] = '\0';
    if (!snapshot_name_valid(name)) {
        return not_found(st);
    }
    if (!io_open_at(x->api->host.snapshots_dir_fd, name, O_RDONLY | O_NOFOLLOW, 0, ret_fd, &failed)) {
        if (failed.sys_errno == ENOENT || failed.sys_errno == ELOOP) {
            return not_found(st);
        }
        *st = failed;
        return false;
    }
    if (fstat(*ret_fd, ret_about) != 0 || !S_ISREG(ret_about->st_mode)) {
        io_close(ret_fd);
        return not_found(st);
    }
    return true;
}

bool handle_snapshot_verify(struct exchange *x, struct status *st) {
    char name[SNAPSHOT_NAME_MAX];
    struct stat about;
    struct uuid packed;
    int fd = -1;
    if (request_known(x)) { /* the snapshot may be gone by now */
        return task_begin(x, TASK_VERIFY, API_VERIFY_SNAPSHOT, NULL, 0, st);
    }
    if (!read_no_options(x, st) || !open_named(x, name, &fd, &about, st)) {
        return false;
    }
    io_close(&fd);
    snapshot_name_pack(name, &packed);
    return task_begin(x, TASK_VERIFY, API_VERIFY_SNAPSHOT, &packed, 0, st);
}

/* --- getting it --- */

static const char *media_type(const char *name) {
    const char *suffix = strrchr(name, '.');
    return strcmp(suffix, ".gz") == 0    ? "application/gzip"
           : strcmp(suffix, ".zst") == 0 ? "application/zstd"
           : strcmp(suffix, ".xz") == 0  ? "application/x-xz"
                                         : "application/x-tar";
}

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Two that ask at once may both see the last place: one too many is no harm. */
static bool may_send(const struct exchange *x, struct status *st) {
    const struct control *c = x->api->host.control;
    uint32_t workers = least(c->workers, CONTROL_MAX_WORKERS);
    uint32_t alive = 0;
    uint32_t sending = 0;
    for (uint32_t i = 0; i < workers; i++) {
        alive += load_relaxed_u32(&c->worker[i].state) != WORKER_ABSENT ? 1 : 0;
        sending += load_relaxed_u64(&c->worker[i].sending) != 0 ? 1 : 0;
    }
    uint32_t most = least(alive, load_relaxed_u32(&c->readers.count)) / DOWNLOADS_PART;
    return sending < (most > 0 ? most : 1) || status_set(st, STATUS_BUSY, "as many snapshots as may be are being sent already");
}

bool handle_snapshot_get(struct exchange *x, struct status *st) {
    char name[SNAPSHOT_NAME_MAX];
    struct stat about;
    int fd = -1;
    if (!open_named(x, name, &fd, &about, st)) {
        return false;
    }
    if (!may_send(x, st)) {
        io_close(&fd);
        return false;
    }
    reply_empty(x, 200);
    x->response->content_type = media_type(name);
    x->response->file_fd = fd;
    x->response->file_bytes = (uint64_t)about.st_size;
    buf_printf(&x->response->headers, "Content-Disposition: attachment; filename=\"%s\"\r\n", name);
    return true;
}
