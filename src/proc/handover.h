/*
 * handover.h - listening sockets that outlive a server: taken over from whoever started it, handed on to its successor.
 *
 * The protocol is systemd's (sd_listen_fds): LISTEN_FDS descriptors from 3 on, meant for the process LISTEN_PID. A server that execs its
 * successor speaks it, too, and says with QUIRE_OWN_SOCKETS, a number with a bit for each, which of them nobody else holds: their files are
 * removed by the last one that has them.
 */
#ifndef QUIRE_PROC_HANDOVER_H
#define QUIRE_PROC_HANDOVER_H

#include "proc/listener.h"

enum { HANDOVER_MAX = 8 };

struct handover {
    size_t count;
    int fd[HANDOVER_MAX]; /* -1: taken out */
    bool own[HANDOVER_MAX];
};

/* What was handed over, if anything. The environment says so no more. STATUS_CONFIG when it is too much. */
MUST_CHECK bool handover_receive(struct handover *ret, struct status *st);
/* Takes the listening socket with that path out. False: there is none. */
bool handover_take(struct handover *h, const char *path, int *ret_fd, bool *ret_own);
/* STATUS_CONFIG when one is left that nobody took. Closes it. */
MUST_CHECK bool handover_end(struct handover *h, struct status *st);

/* Executes `program` in this process with these sockets, all other descriptors above 2 closed; where it cannot be executed, the one that
 * runs now. Returns only when that fails, too; the sockets are closed then. */
void handover_exec(const char *program, char *const argv[], struct listener listeners[LISTENERS], struct status *st);

#endif
