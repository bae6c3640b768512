/* listener.c - see listener.h. */
#include "proc/listener.h"

#include "base/io.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BACKLOG = 1024, SOCKET_MODE = 0660, SOCKET_UMASK = 0177 };

bool listener_group(const char *group, gid_t *ret, struct status *st) {
    char *end = NULL;
    unsigned long number = strtoul(group, &end, 10);
    if (group[0] == '\0') {
        *ret = getegid();
        return true;
    }
    if (group[0] >= '0' && group[0] <= '9' && *end == '\0' && number < UINT32_MAX) {
        *ret = (gid_t)number;
        return true;
    }
    const struct group *entry = getgrnam(group);
    if (entry == NULL) {
        return status_set(st, STATUS_CONFIG, "socket_group: there is no group '%.100s'", group);
    }
    *ret = entry->gr_gid;
    return true;
}

/* Nobody but us may connect between bind and the change of owner, hence the umask. */
static bool bind_privately(int fd, const char *path, struct status *st) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    mode_t old = umask(SOCKET_UMASK);
    int err = bind(fd, (const struct sockaddr *)&address, sizeof address) == 0 ? 0 : errno;
    (void)umask(old);
    return err == 0 || status_set_errno(st, err, "cannot bind the socket %s", path);
}

static bool give_to_group(const char *path, gid_t group, struct status *st) {
    if (group != getegid() && lchown(path, (uid_t)-1, group) != 0) {
        return status_set_errno(st, errno, "cannot give the socket %s to group %lu (is the server's user a member of it?)", path,
                                (unsigned long)group);
    }
    return chmod(path, SOCKET_MODE) == 0 || status_set_errno(st, errno, "cannot set the mode of the socket %s", path);
}

/* Whoever waits for the socket to appear shall not find the one of a server that is gone. */
static bool remove_stale(const char *path, struct status *st) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return status_set_errno(st, errno, "cannot make a socket");
    }
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int err = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 ? 0 : errno;
    io_close(&fd);
    if (err == 0 || err == EAGAIN) { /* EAGAIN: its queue is full */
        return status_set(st, STATUS_CONFLICT, "another server listens on %s", path);
    }
    return err == ENOENT || io_unlink_at(AT_FDCWD, path, st);
}

bool listener_bind(struct listener *l, const char *path, gid_t group, struct status *st) {
    struct listener fresh = LISTENER_CLOSED;
    int length = snprintf(fresh.bound, sizeof fresh.bound, "%s" LISTENER_BOUND_SUFFIX, path);
    if (length < 0 || (size_t)length >= sizeof fresh.bound) {
        return status_set(st, STATUS_CONFIG, "the socket's path is too long: %.160s", path);
    }
    (void)snprintf(fresh.path, sizeof fresh.path, "%.*s", length - (int)(sizeof LISTENER_BOUND_SUFFIX - 1), fresh.bound);
    if (!remove_stale(fresh.path, st) || !io_unlink_at(AT_FDCWD, fresh.bound, st)) {
        return false;
    }
    /* Non-blocking: a worker that loses the race for a connection must come back to its signals. */
    fresh.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fresh.fd < 0) {
        return status_set_errno(st, errno, "cannot make a socket");
    }
    if (!bind_privately(fresh.fd, fresh.bound, st) || !give_to_group(fresh.bound, group, st)) {
        listener_close(&fresh);
        return false;
    }
    *l = fresh;
    return true;
}

void listener_adopt(struct listener *l, int fd, bool held, const char *path) {
    *l = (struct listener){.fd = fd, .published = true, .held = held};
    (void)snprintf(l->path, sizeof l->path, "%s", path);
}

bool listener_publish(struct listener *l, struct status *st) {
    if (l->published) {
        return true;
    }
    if (listen(l->fd, BACKLOG) != 0) {
        return status_set_errno(st, errno, "cannot listen on %s", l->path);
    }
    if (!io_rename_at(AT_FDCWD, l->bound, AT_FDCWD, l->path, st)) {
        return false;
    }
    l->published = true;
    return true;
}

void listener_close(struct listener *l) {
    if (l->fd >= 0) {
        struct status st;
        if (!l->held && !io_unlink_at(AT_FDCWD, l->published ? l->path : l->bound, &st)) {
            log_status(LOG_LEVEL_WARN, "the socket stays behind", &st);
        }
        io_close(&l->fd);
    }
    l->published = false;
}
