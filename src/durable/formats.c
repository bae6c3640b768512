/*
 * formats.c - the question that a start and `quired -t` ask before anything else (formats.h).
 *
 * A newer program's file must be told from a damaged one: the first is refused and left alone, the second is repaired, made again, or refused for what it is. So only a
 * file that is sound is believed when it says that it is newer, and every later format keeps to this:
 *
 *   segment of the log    magic, format and the checksum at the end of the header stay where they are
 *   checkpoint, live one  magic and format come first, the CRC-32C of all before it is the file's last four bytes
 *   snapshot              manifest.json comes first, and has `kind` and `format`; a newer one is refused where it is wanted (snapshot_parse.c), and hinders nobody else
 *
 * The arenas' own files have formats, too, but are taken as they are only through a checkpoint, which has their checksums. Who changes the format of an arena file or of
 * a page file therefore raises both checkpoints' as well; then this question protects the arenas: an older program would make them anew, and the newer one's are gone.
 */
#include "durable/formats.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/io.h"
#include "durable/checkpoint.h"
#include "durable/live_internal.h"
#include "durable/wal.h"
#include "durable/wal_format.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

enum { HEAD_BYTES = 12, FORMAT_AT = 8, SUM_BYTES = 4 };

static bool refuse(const char *directory, const char *name, uint32_t format, int known, const char *advice, struct status *st) {
    return status_set(st, STATUS_CORRUPT, "%s%s has format %" PRIu32 ", and this program knows up to %d: a newer one wrote it. Start that one; %s", directory, name,
                      format, known, advice);
}

/* --- checkpoints --- */

static bool newer_head(int data_dir_fd, const char *path, uint64_t magic, uint32_t known, uint32_t *ret_format) {
    uint8_t head[HEAD_BYTES];
    size_t have = 0;
    struct status ignored;
    int fd = -1;
    if (!io_open_at(data_dir_fd, path, O_RDONLY | O_NOFOLLOW, 0, &fd, &ignored)) {
        return false;
    }
    bool newer = io_pread(fd, head, sizeof head, 0, &have, &ignored) && have == sizeof head && load_u64le(head) == magic &&
                 load_u32le(head + FORMAT_AT) > known;
    io_close(&fd);
    *ret_format = newer ? load_u32le(head + FORMAT_AT) : 0;
    return newer;
}

static bool sum_holds(int data_dir_fd, const char *path) {
    struct buf content = {0};
    struct status ignored;
    bool holds = io_read_file(data_dir_fd, path, CHECKPOINT_BYTES_MAX, &content, &ignored) && content.len >= HEAD_BYTES + SUM_BYTES &&
                 load_u32le(content.data + content.len - SUM_BYTES) == crc32c(0, content.data, content.len - SUM_BYTES);
    buf_fini(&content);
    return holds;
}

static bool check_checkpoints(int data_dir_fd, struct status *st) {
    static const struct {
        const char *path;
        uint64_t magic;
        uint32_t known;
    } kinds[] = {{CHECKPOINT_PATH, CHECKPOINT_MAGIC, CHECKPOINT_FORMAT},
                 {LIVE_CHECKPOINT_PATH, LIVE_MAGIC, LIVE_FORMAT},
                 {LIVE_CHECKPOINT_BEFORE_PATH, LIVE_MAGIC, LIVE_FORMAT}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        uint32_t format = 0;
        if (newer_head(data_dir_fd, kinds[i].path, kinds[i].magic, kinds[i].known, &format) && sum_holds(data_dir_fd, kinds[i].path)) {
            return refuse("", kinds[i].path, format, (int)kinds[i].known,
                          "or move vectors/ away, and all is made again from snapshots and log", st);
        }
    }
    return true;
}

/* --- the log --- */

static bool check_segment(int dir_fd, const char *name, void *ctx, struct status *st) {
    uint8_t head[WAL_HEADER_BYTES];
    size_t have = 0;
    uint64_t first_lsn = 0;
    uint32_t format = 0;
    struct status ignored;
    int fd = -1;
    (void)ctx;
    if (!wal_name_parse(name, &first_lsn) || !io_open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW, 0, &fd, &ignored)) {
        return true;
    }
    bool newer = io_pread(fd, head, sizeof head, 0, &have, &ignored) && have == sizeof head && wal_header_is_newer(head, &format);
    io_close(&fd);
    return !newer || refuse("wal/", name, format, WAL_FORMAT,
                            "an older program can only start on what an older one left: restore a snapshot of that time into an empty directory", st);
}

static bool check_log(int data_dir_fd, struct status *st) {
    struct status failed;
    int fd = -1;
    if (!io_open_at(data_dir_fd, "wal", O_RDONLY | O_DIRECTORY, 0, &fd, &failed)) {
        return failed.sys_errno == ENOENT || status_set_errno(st, failed.sys_errno, "cannot look at the log");
    }
    bool ok = io_each_entry(fd, "the directory of the log", check_segment, NULL, st);
    io_close(&fd);
    return ok;
}

bool formats_check(int data_dir_fd, struct status *st) {
    return check_log(data_dir_fd, st) && check_checkpoints(data_dir_fd, st);
}
