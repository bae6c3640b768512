/* doctor_disk.c - the file system that something lies on: room, inodes, kind, mount. */
#include "cli/doctor.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xFE534D42
#endif
#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xFF534D42
#endif

enum { MOUNTINFO_MAX = 1 << 22, OPTIONS_MAX = 1024 };

void doctor_judge_room(struct doctor *d, const char *path, const struct doctor_room *room, uint64_t needed) {
    enum { LOW_PERCENT = 5 };
    char free_text[32], total_text[32];
    cli_bytes(room->free_bytes, free_text);
    cli_bytes(room->total_bytes, total_text);
    if (room->free_bytes < needed)
        doctor_find(d, TROUBLE_DISK_FULL, path, "%s of %s are free, and the next log segment needs more", free_text, total_text);
    else if (room->free_bytes < room->total_bytes / 100 * LOW_PERCENT || room->free_bytes < 8 * needed)
        doctor_find(d, TROUBLE_DISK_LOW, path, "%s of %s are free", free_text, total_text);
    if (room->total_inodes > 0 && room->free_inodes < room->total_inodes / 100 + 64)
        doctor_find(d, TROUBLE_INODES_LOW, path, "%" PRIu64 " of %" PRIu64 " inodes are free", room->free_inodes, room->total_inodes);
}

static bool has_option(const char *options, const char *name) {
    size_t length = strlen(name);
    for (const char *at = options; *at != '\0'; at += strcspn(at, ",") + (at[strcspn(at, ",")] == ',' ? 1 : 0))
        if (strcspn(at, ",") == length && strncmp(at, name, length) == 0)
            return true;
    return false;
}

void doctor_judge_file_system(struct doctor *d, const char *path, uint64_t magic, const char *options) {
    if (magic == TMPFS_MAGIC || magic == RAMFS_MAGIC)
        doctor_find(d, TROUBLE_DATA_VOLATILE, path, "it is a %s", magic == TMPFS_MAGIC ? "tmpfs" : "ramfs");
    if (magic == NFS_SUPER_MAGIC || magic == CIFS_SUPER_MAGIC || magic == SMB2_SUPER_MAGIC || magic == SMB_SUPER_MAGIC || magic == CEPH_SUPER_MAGIC)
        doctor_find(d, TROUBLE_DATA_NETWORK, path, "it is a %s mount",
                    magic == NFS_SUPER_MAGIC    ? "NFS"
                    : magic == CEPH_SUPER_MAGIC ? "Ceph"
                                                : "SMB");
    if (has_option(options, "nobarrier") || has_option(options, "barrier=0"))
        doctor_find(d, TROUBLE_DATA_NO_BARRIER, path, "mounted with %s", options);
    if (has_option(options, "ro"))
        doctor_find(d, TROUBLE_DATA_READ_ONLY, path, "mounted with %s", options);
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue": the mount's options and, behind the dash, the file system's. */
bool doctor_mount_options(const char *mountinfo, unsigned device_major, unsigned device_minor, char *out, size_t room) {
    for (const char *line = mountinfo; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
        unsigned at_major, at_minor;
        int at = 0;
        line += *line == '\n' ? 1 : 0;
        if (sscanf(line, "%*d %*d %u:%u %*s %*s %n", &at_major, &at_minor, &at) < 2 || at == 0 || at_major != device_major || at_minor != device_minor)
            continue;
        const char *end = strchr(line, '\n');
        const char *dash = strstr(line, " - ");
        char more[OPTIONS_MAX] = "";
        if (dash != NULL && (end == NULL || dash < end))
            (void)sscanf(dash, " - %*s %*s %1023s", more);
        snprintf(out, room, "%.*s,%s", (int)strcspn(line + at, " \n"), line + at, more);
        return true;
    }
    return false;
}

static void look_at_mount(struct doctor *d, const char *path, uint64_t magic, dev_t device) {
    struct buf text = {0};
    struct status st;
    char options[OPTIONS_MAX] = "";
    if (io_read_file(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, &st)) {
        buf_put_u8(&text, 0);
        if (buf_ok(&text))
            (void)doctor_mount_options((const char *)text.data, major(device), minor(device), options, sizeof options);
    }
    buf_fini(&text);
    doctor_judge_file_system(d, path, magic, options);
}

void doctor_look_at_disk(struct doctor *d, const char *path) {
    struct statvfs v;
    struct statfs f;
    struct stat s;
    if (statvfs(path, &v) != 0 || statfs(path, &f) != 0 || stat(path, &s) != 0) {
        if (errno == EACCES)
            doctor_skip(d, path, "this user may not look at it");
        return;
    }
    struct doctor_room room = {.total_bytes = (uint64_t)v.f_blocks * v.f_frsize, .free_bytes = (uint64_t)v.f_bavail * v.f_frsize, .total_inodes = v.f_files,
                               .free_inodes = d->uid == 0 ? v.f_ffree : v.f_favail};
    doctor_judge_room(d, path, &room, 2 * d->config.wal_segment_bytes);
    look_at_mount(d, path, (uint32_t)f.f_type, s.st_dev);
}
