/* intake.h - which connection a worker serves next: the two sockets, the places, the signal to go. */
#ifndef QUIRE_PROC_INTAKE_H
#define QUIRE_PROC_INTAKE_H

#include "proc/peers.h"
#include "shm/control.h"

#include <signal.h>

enum intake_socket { INTAKE_MAIN, INTAKE_WRITES, INTAKE_SOCKETS };

struct intake {
    struct control *control;
    uint32_t slot;
    struct peers peers;
    uint64_t peer_timeout_ms;
    int socket[INTAKE_SOCKETS]; /* listening, non-blocking; the caller's */
    int epoll_fd;               /* -1: told to go, and new connections wake others */
    bool watched[INTAKE_SOCKETS]; /* newcomers there wake it */
    sigset_t sleeping;          /* the signal mask while it waits */
    bool news[INTAKE_SOCKETS];  /* somebody may wait there */
    bool has_place[INTAKE_SOCKETS]; /* of the socket that its connection came from */
    bool turned_away[INTAKE_SOCKETS]; /* somebody waits there, and all places were taken */
    bool http2;       /* the connection that intake_next gave begins as HTTP/2 does */
    bool exhausted;   /* accepting failed for want of descriptors or memory */
};

/* Catches SIGTERM, which is let in only while it waits. */
MUST_CHECK bool intake_begin(struct intake *in, struct control *control, uint32_t slot, const int sockets[INTAKE_SOCKETS],
                             struct status *st);
void intake_end(struct intake *in);

/* Waits for a connection that begins as FastCGI or HTTP/2 does. Returns its descriptor, the caller's from now on; -1: told to go, and nobody is
 * left whom only this worker would serve. in->has_place says from which socket it came. */
int intake_next(struct intake *in);
/* SIGTERM came. For whoever waits with in->sleeping as the mask. */
bool intake_told_to_go(void);
/* The connection is served: gives its place back. */
void intake_done(struct intake *in);

#endif
