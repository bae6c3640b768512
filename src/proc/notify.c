/*
 * notify.c - the sd_notify protocol: one datagram of "KEY=value" lines to the unix socket that $NOTIFY_SOCKET names.
 *
 * Written here and not taken from libsystemd: the protocol is these few lines and is documented as stable, while the library
 * would bring its own dependencies (liblzma, libzstd, libgcrypt) into every process that answers requests.
 */
#include "proc/notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MESSAGE_MAX = 512 };

/* Set by notify_init, before threads start; used by the main thread alone. */
static struct {
    struct sockaddr_un address;
    socklen_t length; /* 0: nobody listens */
    int64_t watchdog_us;
} notify;

void notify_init(void) {
    const char *path = getenv("NOTIFY_SOCKET");
    const char *watchdog = getenv("WATCHDOG_USEC");
    const char *watched = getenv("WATCHDOG_PID");
    size_t len = path == NULL ? 0 : strlen(path);
    if (len < 2 || len >= sizeof notify.address.sun_path || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    notify.address.sun_family = AF_UNIX;
    memcpy(notify.address.sun_path, path, len);
    if (path[0] == '@') {
        notify.address.sun_path[0] = '\0'; /* the abstract name space */
    }
    notify.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (watchdog != NULL && (watched == NULL || strtol(watched, NULL, 10) == (long)getpid())) {
        notify.watchdog_us = strtoll(watchdog, NULL, 10);
    }
}

int64_t notify_watchdog_us(void) {
    return notify.watchdog_us;
}

void notify_send(const char *fmt, ...) {
    char text[MESSAGE_MAX];
    va_list args;
    if (notify.length == 0) {
        return;
    }
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return;
    }
    if (len > 0) {
        size_t bytes = (size_t)len < sizeof text ? (size_t)len : sizeof text - 1;
        /* A lost message is the manager's to miss: the server goes on. */
        (void)sendto(fd, text, bytes, MSG_NOSIGNAL, (const struct sockaddr *)&notify.address, notify.length);
    }
    (void)close(fd);
}
