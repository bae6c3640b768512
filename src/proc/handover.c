/* handover.c - see handover.h. */
#include "proc/handover.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIRST_FD = 3, PARKING_FD = 64, DIGITS_MAX = 24 };

#define OWN_SOCKETS "QUIRE_OWN_SOCKETS"

static bool number_of(const char *name, long *ret) {
    const char *text = getenv(name);
    char *end = NULL;
    if (text == NULL || text[0] == '\0') {
        return false;
    }
    errno = 0;
    *ret = strtol(text, &end, 10);
    return errno == 0 && *end == '\0';
}

/* Blocking, as systemd may make them, a worker that loses the race for a connection would sleep in accept. */
static bool set_up(int fd, struct status *st) {
    int flags = fcntl(fd, F_GETFL);
    return (flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) ||
           status_set_errno(st, errno, "cannot use descriptor %d, which LISTEN_FDS names", fd);
}

bool handover_receive(struct handover *ret, struct status *st) {
    struct handover h = {.count = 0};
    long pid = 0;
    long count = 0;
    long own = 0;
    bool ours = number_of("LISTEN_PID", &pid) && pid == (long)getpid() && number_of("LISTEN_FDS", &count) && count > 0;
    (void)number_of(OWN_SOCKETS, &own);
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    (void)unsetenv(OWN_SOCKETS);
    if (ours && count > HANDOVER_MAX) {
        return status_set(st, STATUS_CONFIG, "%ld sockets are handed over; %d are wanted", count, LISTENERS);
    }
    for (int i = 0; ours && i < (int)count; i++) {
        if (!set_up(FIRST_FD + i, st)) {
            return false;
        }
        h.own[h.count] = (own >> i & 1) != 0;
        h.fd[h.count++] = FIRST_FD + i;
    }
    *ret = h;
    return true;
}

/* The path under which it was bound; "" where it is no listening unix socket. */
static void path_of(int fd, char out[LISTENER_PATH_MAX + 1]) {
    union {
        struct sockaddr any;
        struct sockaddr_un un;
    } address = {.un = {.sun_family = AF_UNSPEC}};
    socklen_t len = sizeof address;
    int listens = 0;
    socklen_t size = sizeof listens;
    out[0] = '\0';
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0 &&
        getsockname(fd, &address.any, &len) == 0 && address.any.sa_family == AF_UNIX) {
        (void)snprintf(out, LISTENER_PATH_MAX + 1, "%.*s", (int)LISTENER_PATH_MAX, address.un.sun_path);
    }
}

bool handover_take(struct handover *h, const char *path, int *ret_fd, bool *ret_own) {
    char bound[LISTENER_PATH_MAX + 1];
    size_t len = strlen(path);
    for (size_t i = 0; i < h->count; i++) {
        if (h->fd[i] < 0) {
            continue;
        }
        path_of(h->fd[i], bound);
        /* One of our own still has the name under which it was bound, whatever its file is called now. */
        if (strncmp(bound, path, len) == 0 && (bound[len] == '\0' || strcmp(bound + len, LISTENER_BOUND_SUFFIX) == 0)) {
            *ret_fd = h->fd[i];
            *ret_own = h->own[i];
            h->fd[i] = -1;
            return true;
        }
    }
    return false;
}

bool handover_end(struct handover *h, struct status *st) {
    char bound[LISTENER_PATH_MAX + 1];
    bool ok = true;
    for (size_t i = 0; i < h->count; i++) {
        if (h->fd[i] >= 0) {
            path_of(h->fd[i], bound);
            io_close(&h->fd[i]);
            ok = status_set(st, STATUS_CONFIG, "a socket is handed over that the configuration does not name (socket, write_socket): %s",
                            bound[0] == '\0' ? "no listening unix socket" : bound);
        }
    }
    h->count = 0;
    return ok;
}

static bool set_number(const char *name, long number) {
    char text[DIGITS_MAX];
    (void)snprintf(text, sizeof text, "%ld", number);
    return setenv(name, text, 1) == 0;
}

/* Moves all out of the way first, since one may stand at another's place. */
static bool place(struct listener listeners[LISTENERS]) {
    for (int i = 0; i < LISTENERS; i++) {
        int parked = fcntl(listeners[i].fd, F_DUPFD_CLOEXEC, PARKING_FD);
        io_close(&listeners[i].fd);
        listeners[i].fd = parked;
        if (parked < 0) {
            return false;
        }
    }
    for (int i = 0; i < LISTENERS; i++) {
        if (dup2(listeners[i].fd, FIRST_FD + i) < 0) { /* without FD_CLOEXEC */
            return false;
        }
        io_close(&listeners[i].fd);
        listeners[i].fd = FIRST_FD + i;
    }
    return close_range(FIRST_FD + LISTENERS, ~0U, 0) == 0;
}

void handover_exec(const char *program, char *const argv[], struct listener listeners[LISTENERS], struct status *st) {
    long own = 0;
    for (int i = 0; i < LISTENERS; i++) {
        own |= listeners[i].held ? 0 : 1L << i;
    }
    if (place(listeners) && set_number("LISTEN_PID", (long)getpid()) && set_number("LISTEN_FDS", LISTENERS) && set_number(OWN_SOCKETS, own)) {
        (void)execv(program, argv);
        (void)execv("/proc/self/exe", argv);
    }
    (void)status_set_errno(st, errno, "cannot execute %s", program);
    for (int i = 0; i < LISTENERS; i++) {
        listener_close(&listeners[i]);
    }
}
