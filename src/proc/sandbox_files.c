/*
 * sandbox_files.c - which files the provider process can still open (sandbox.h).
 *
 * Landlock, a list of what is allowed: the C library reads /etc/resolv.conf, /etc/hosts and modules of its own, a TLS library its configuration and
 * certificates. Data, snapshots and sockets of the server lie elsewhere. Quire's own filter (sandbox.c) takes away writing.
 */
#include "proc/sandbox.h"

#include "base/io.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HANDLED (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_EXECUTE)

static const char *const places[] = {"/etc", "/usr", "/lib", "/lib64", "/run/systemd/resolve", "/run/resolvconf", "/dev/urandom", "/dev/null", NULL};

/* A place that is not there needs no permission. */
static bool allow(int ruleset, const char *path, struct status *st) {
    struct landlock_path_beneath_attr rule = {.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR};
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) {
        return true;
    }
    rule.parent_fd = fd;
    long failed = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    if (failed != 0 && errno == EINVAL) { /* a file, no directory */
        rule.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE;
        failed = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    }
    int err = errno;
    io_close(&fd);
    return failed == 0 || status_set_errno(st, err, "cannot limit files");
}

static bool allow_all(int ruleset, const char *const *paths, struct status *st) {
    bool ok = true;
    for (; ok && *paths != NULL; paths++) {
        ok = allow(ruleset, *paths, st);
    }
    return ok;
}

bool sandbox_files(const char *const *others, struct status *st) {
    const struct landlock_ruleset_attr attributes = {.handled_access_fs = HANDLED};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0);
    if (ruleset < 0 && (errno == ENOSYS || errno == EOPNOTSUPP)) {
        log_info("this kernel cannot limit which files the provider process reads (no Landlock)");
        return true;
    }
    if (ruleset < 0) {
        return status_set_errno(st, errno, "cannot limit files");
    }
    bool ok = allow_all(ruleset, places, st) && allow_all(ruleset, others, st) &&
              (syscall(SYS_landlock_restrict_self, ruleset, 0) == 0 || status_set_errno(st, errno, "cannot limit files"));
    io_close(&ruleset);
    return ok;
}
