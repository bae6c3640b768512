/*
 * listener.h - a FastCGI socket: bound early under a temporary name, so that a path that cannot be used is found before a long
 * recovery, and published by a rename once workers can answer. A socket that a dead server left is removed; one that somebody
 * listens on is not touched. One that was handed over (handover.h) is there already, and those who connect wait in its queue.
 */
#ifndef QUIRE_PROC_LISTENER_H
#define QUIRE_PROC_LISTENER_H

#include "base/status.h"

#include <sys/types.h>
#include <sys/un.h>

#define LISTENER_BOUND_SUFFIX ".new"
#define LISTENER_PATH_MAX sizeof(((struct sockaddr_un *)0)->sun_path)

/* The one for searches and everything else, and the one for writes (intake.h). */
enum listener_kind { LISTENER_MAIN, LISTENER_WRITES, LISTENERS };

struct listener {
    int fd; /* -1: none */
    bool published;
    bool held; /* by somebody else, too, who made its file and removes it */
    char path[LISTENER_PATH_MAX];
    char bound[LISTENER_PATH_MAX]; /* path.new */
};
#define LISTENER_CLOSED ((struct listener){.fd = -1})

/* The group's number; "" is the server's own group. STATUS_CONFIG when there is none of that name. */
MUST_CHECK bool listener_group(const char *group, gid_t *ret, struct status *st);
/* Mode 0660, owned by the server's user and that group. STATUS_CONFLICT when another server listens at that path. */
MUST_CHECK bool listener_bind(struct listener *l, const char *path, gid_t group, struct status *st);
/* One that was handed over, already published. */
void listener_adopt(struct listener *l, int fd, bool held, const char *path);
MUST_CHECK bool listener_publish(struct listener *l, struct status *st);
/* Nobody can connect any more, unless it is held; who is in the queue stays there for the workers, who have the socket, too. */
void listener_close(struct listener *l);

#endif
