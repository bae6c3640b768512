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
    int desk_epoll_fd;          /* for who has writes in hand: the socket for writes and the channel */
    int link_fd;                /* the channel; the caller's */
    bool link_news;             /* something may have come by it */
    bool watched[INTAKE_SOCKETS]; /* newcomers there wake it */
    sigset_t sleeping;          /* the signal mask while it waits */
    bool news[INTAKE_SOCKETS];  /* somebody may wait there */
    bool has_place[INTAKE_SOCKETS]; /* of the socket that its connection came from */
    bool turned_away[INTAKE_SOCKETS]; /* somebody waits there, and all places were taken */
    uint64_t seen_took; /* control->desks_took when this worker found all desks taken */
    int64_t seen_us;
    bool http2;       /* the connection that intake_next gave begins as HTTP/2 does */
    bool exhausted;   /* accepting failed for want of descriptors or memory */
};

/* Catches SIGTERM, which is let in only while it waits. */
MUST_CHECK bool intake_begin(struct intake *in, struct control *control, uint32_t slot, const int sockets[INTAKE_SOCKETS],
                             struct status *st);
void intake_end(struct intake *in);

/* Waits for a connection; one of the main socket begins as FastCGI or HTTP/2 does. Returns its descriptor, the caller's from now on; -1: told to go, and nobody is
 * left whom only this worker would serve. in->has_place says from which socket it came. */
int intake_next(struct intake *in);

/* For a worker that has writes in hand and waits for their acknowledgements (worker_desk.h), which come by this descriptor. */
MUST_CHECK bool intake_watch_link(struct intake *in, int link_fd, struct status *st);
/* Another connection of the socket for writes, beside those in hand, whether it has said something or not. -1: nobody waits. */
int intake_another(struct intake *in);
/* Waits until something comes by the channel, or from coming_fd (-1: nobody), or, with `another`, to the socket for writes; until_us at most. */
void intake_wait(struct intake *in, bool another, int coming_fd, int64_t until_us);
/* What the connection begins with, which stays there. `into` has room for `most` bytes, INTAKE_BEGIN_BYTES at least. */
enum intake_begin { BEGINS_NOT, BEGINS_BADLY, BEGINS_REQUEST, BEGINS_STREAM };
enum intake_begin intake_look(int fd, uint8_t *into, size_t most, size_t *ret_len);
/* It is served alone, so its reads and writes must end. */
MUST_CHECK bool intake_set_timeouts(const struct intake *in, int fd);
/* The worker goes on with a write that is no desk's work, and somebody else may have a desk. */
void intake_leave_desk(struct intake *in);

/* SIGTERM came. For whoever waits with in->sleeping as the mask. */
bool intake_told_to_go(void);
/* The connection is served: gives its place back. */
void intake_done(struct intake *in);

#endif
