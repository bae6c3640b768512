/*
 * intake.c - which connection a worker serves next (intake.h).
 *
 * nginx sends writes to a socket of their own. A worker takes a connection only when it has a place: one of control->writers for a write, one
 * of control->readers for all else. There are many workers, since a write keeps one only waiting, and as many writes as wait together are made durable
 * together; but no more searches at a time than keep the cores busy, else each would only take longer. There are fewer places for writes than workers, so
 * writes that wait for a slow disk can occupy all of those and never all workers. Who finds no place waits in the socket's queue, which the
 * kernel keeps and bounds; being first in, first out, it gives each its turn by its own deadline, because whoever had the place before had an earlier one.
 *
 * Of those that have a place for writes as many as there are cores have a desk, too: each takes many writes at once (worker_desk.c), so few processes are woken
 * for many writes. Without a desk no write is taken. Whose write is long, or streams, leaves the desk to another. Should all who have one stand still, which is seen by
 * their having taken nothing for RETRY_MS while somebody waited, others take writes without.
 *
 * Nobody who waits may be forgotten:
 *
 *   1. Both sockets are watched with EPOLLEXCLUSIVE, so that a connection wakes one of those who sleep. The event comes once for each
 *      newcomer (EPOLLET): else all who find no place would be woken at once again and again.
 *   2. So whoever gives a place back looks at that queue after it. A worker that was turned away had seen the newcomer
 *      before it found the place taken; so the other, which looks later, sees him, too (places.c).
 *      A worker with a desk looks at the queue at each turn, that is whenever answers have come.
 *   3. Should that other die between the two, the one that was turned away still comes back every RETRY_MS while somebody waits. Between these it does not
 *      watch that queue: under load each newcomer would wake somebody for whom there is no place. Watching again tells of who came meanwhile.
 *   4. A worker that is told to go stops watching first, and then takes one more of each queue: a wake-up may have been meant for it.
 *      When the whole server stops it empties both queues instead: nobody new can get in, and nobody comes after it.
 *
 * When a connection cannot be taken for want of descriptors or memory, the event would come back at once: the worker pauses instead.
 *
 * nginx sends what streams by HTTP/2 (http2.h) and all else by FastCGI, to the same sockets; the first bytes tell which.
 *
 * SIGTERM is blocked except while the worker sleeps, because a socket with a timeout does not restart its read after a signal, and a
 * request would be lost.
 */
#include "proc/intake.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "proc/http2.h"
#include "shm/atomics.h"

#include <errno.h>
#include <fastcgi.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum {
    US_PER_MS = 1000,
    NS_PER_MS = 1000000,
    MS_PER_SECOND = 1000,
    LAST_MOMENT_MS = 1000, /* for who has connected and said nothing yet when the worker is told to go */
    RETRY_MS = 50,
    PAUSE_MS = 50,
    BEGIN_BYTES = 16, /* the first record: header and body */
    US_PER_SECOND = 1000000,
    NS_PER_US = 1000,
    DESK_SOURCES = 2,
    LINK_TAG = INTAKE_SOCKETS
};
_Static_assert(sizeof HTTP2_PREFACE - 1 == BEGIN_BYTES, "what comes first is told apart by as many bytes");

static volatile sig_atomic_t told_to_go;

static void on_terminate(int signal_number) {
    (void)signal_number;
    told_to_go = 1;
}

/* --- one connection ------------------------------------------------------------------------------------------------------ */

static bool peer_allowed(const struct intake *in, int fd) {
    struct ucred who;
    socklen_t len = sizeof who;
    if (in->peers.anyone) {
        return true;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0) {
        return false;
    }
    if (!peers_allow(&in->peers, who.uid)) {
        log_warn("user %lu may not connect (socket_peers)", (unsigned long)who.uid);
        return false;
    }
    return true;
}

bool intake_set_timeouts(const struct intake *in, int fd) {
    uint64_t ms = in->peer_timeout_ms;
    struct timeval limit = {.tv_sec = (time_t)(ms / MS_PER_SECOND), .tv_usec = (suseconds_t)(ms % MS_PER_SECOND * US_PER_MS)};
    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0;
}

/* Waits until the peer has sent something, with signals let in. */
static bool wait_for_bytes(const struct intake *in, int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct timespec limit = {.tv_sec = (time_t)(in->peer_timeout_ms / MS_PER_SECOND),
                             .tv_nsec = (long)(in->peer_timeout_ms % MS_PER_SECOND) * NS_PER_MS};
    int n = told_to_go == 0 ? ppoll(&p, 1, &limit, &in->sleeping) : -1;
    if (n < 0 && told_to_go != 0) {
        n = poll(&p, 1, LAST_MOMENT_MS);
    }
    return n == 1;
}

enum intake_begin intake_look(int fd, uint8_t *into, size_t most, size_t *ret_len) {
    FCGI_BeginRequestRecord record;
    ssize_t n = recv(fd, into, most, MSG_PEEK | MSG_DONTWAIT);
    *ret_len = n > 0 ? (size_t)n : 0;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        return BEGINS_NOT;
    }
    if (n < (ssize_t)sizeof record) {
        return BEGINS_BADLY;
    }
    if (memcmp(into, HTTP2_PREFACE, BEGIN_BYTES) == 0) {
        return BEGINS_STREAM;
    }
    memcpy(&record, into, sizeof record);
    bool good = record.header.version == FCGI_VERSION_1 && record.header.type == FCGI_BEGIN_REQUEST && record.body.roleB1 == 0 &&
                record.body.roleB0 == FCGI_RESPONDER;
    return good ? BEGINS_REQUEST : BEGINS_BADLY;
}

/* Whether the connection begins with the begin of a responder's request, or as HTTP/2. nginx has mostly sent it already. */
static bool begins_well(struct intake *in, int fd) {
    uint8_t first[BEGIN_BYTES];
    size_t len = 0;
    enum intake_begin begin = intake_look(fd, first, sizeof first, &len);
    if (begin == BEGINS_NOT && wait_for_bytes(in, fd)) {
        begin = intake_look(fd, first, sizeof first, &len);
    }
    in->http2 = begin == BEGINS_STREAM;
    return begin == BEGINS_STREAM || begin == BEGINS_REQUEST;
}

/* Takes one out of the queue. Passes over those that a worker does not talk to. -1: the queue is empty, or in->exhausted. */
static int take_connection(struct intake *in, enum intake_socket which) {
    for (;;) {
        int fd = accept4(in->socket[which], NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == ECONNABORTED || errno == EINTR) {
                continue;
            }
            in->exhausted = errno != EAGAIN && errno != EWOULDBLOCK;
            return -1;
        }
        if (peer_allowed(in, fd) && (which == INTAKE_WRITES || (intake_set_timeouts(in, fd) && begins_well(in, fd)))) {
            return fd;
        }
        (void)close(fd);
    }
}

/* --- the two queues ------------------------------------------------------------------------------------------------------ */

static struct places *places_of(const struct intake *in, enum intake_socket which) {
    return which == INTAKE_WRITES ? &in->control->writers : &in->control->readers;
}

static bool somebody_waits(const struct intake *in, enum intake_socket which) {
    struct pollfd p = {.fd = in->socket[which], .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

/* All desks are taken: whether those who have them go on. */
static bool desks_go_on(struct intake *in) {
    int64_t now = clock_monotonic_us();
    uint64_t took = load_relaxed_u64(&in->control->desks_took);
    if (in->seen_us == 0 || took != in->seen_took) {
        in->seen_us = now;
        in->seen_took = took;
        return true;
    }
    return now - in->seen_us < RETRY_MS * US_PER_MS;
}

static bool take_place(struct intake *in, enum intake_socket which) {
    if (!places_take(places_of(in, which), in->slot)) {
        return false;
    }
    if (which == INTAKE_WRITES && !places_take(&in->control->desks, in->slot) && desks_go_on(in)) {
        places_leave(places_of(in, which), in->slot);
        return false;
    }
    return true;
}

static void leave_place(struct intake *in, enum intake_socket which) {
    if (which == INTAKE_WRITES) {
        places_leave(&in->control->desks, in->slot);
    }
    places_leave(places_of(in, which), in->slot);
}

void intake_leave_desk(struct intake *in) {
    places_leave(&in->control->desks, in->slot);
}

/* Looks once more after each place that it gives back without having used it. */
static int take_from(struct intake *in, enum intake_socket which) {
    in->turned_away[which] = false;
    while (!in->exhausted && somebody_waits(in, which)) {
        if (!take_place(in, which)) {
            in->turned_away[which] = true;
            break;
        }
        int fd = take_connection(in, which);
        if (fd >= 0) {
            in->has_place[which] = true;
            (void)add_relaxed_u64(&in->control->desks_took, which == INTAKE_WRITES ? 1 : 0);
            return fd;
        }
        leave_place(in, which);
    }
    in->news[which] = false;
    return -1;
}

static int take_any(struct intake *in) {
    int fd = -1;
    if (in->news[INTAKE_WRITES]) {
        fd = take_from(in, INTAKE_WRITES);
    }
    if (fd < 0 && in->news[INTAKE_MAIN]) {
        fd = take_from(in, INTAKE_MAIN);
    }
    return fd;
}

void intake_done(struct intake *in) {
    for (enum intake_socket i = 0; i < INTAKE_SOCKETS; i++) {
        if (in->has_place[i]) {
            leave_place(in, i);
            in->has_place[i] = false;
            in->news[i] = in->epoll_fd >= 0; /* who was turned away meanwhile; of one that goes, the others take care by rule 3 */
        }
    }
}

static void pause_exhausted(struct intake *in) {
    const struct timespec pause = {.tv_nsec = (long)PAUSE_MS * NS_PER_MS};
    (void)ppoll(NULL, 0, &pause, &in->sleeping);
    in->exhausted = false;
    in->news[INTAKE_MAIN] = true;
    in->news[INTAKE_WRITES] = true;
}

/* Begins to watch, or ends it. False: the kernel has no memory for it. */
static bool watch(struct intake *in, enum intake_socket which, bool on) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, .data.u32 = which};
    if (in->watched[which] != on && epoll_ctl(in->epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, in->socket[which], &event) == 0) {
        in->watched[which] = on;
    }
    return in->watched[which] == on;
}

static void wait_for_news(struct intake *in) {
    struct epoll_event event[INTAKE_SOCKETS];
    bool again = false;
    if (in->exhausted) {
        pause_exhausted(in);
        return;
    }
    for (enum intake_socket i = 0; i < INTAKE_SOCKETS; i++) {
        if (!watch(in, i, !in->turned_away[i])) {
            in->turned_away[i] = true; /* it cannot be watched, so it is looked at */
        }
        again |= in->turned_away[i];
    }
    int n = epoll_pwait(in->epoll_fd, event, INTAKE_SOCKETS, again ? RETRY_MS : -1, &in->sleeping);
    for (int i = 0; i < n; i++) {
        in->news[event[i].data.u32] = true;
    }
    in->news[INTAKE_MAIN] |= in->turned_away[INTAKE_MAIN];
    in->news[INTAKE_WRITES] |= in->turned_away[INTAKE_WRITES];
}

/* Told to go: one more of each queue, or all of both. */
static int take_last(struct intake *in) {
    bool server_stops = load_acquire_u32(&in->control->accepting) == 0; /* pairs with: CONTROL_STATE; else the queues are left */
    if (in->epoll_fd >= 0 || server_stops) {
        io_close(&in->epoll_fd);
        in->news[INTAKE_MAIN] = true;
        in->news[INTAKE_WRITES] = true;
    }
    int fd = take_any(in);
    in->news[INTAKE_MAIN] &= !in->has_place[INTAKE_MAIN];
    in->news[INTAKE_WRITES] &= !in->has_place[INTAKE_WRITES];
    return fd;
}

/* A wait that finds news at once returns without having let the signal in; under load each does. */
static void look_for_signal(void) {
    sigset_t pending;
    if (sigpending(&pending) == 0 && sigismember(&pending, SIGTERM) == 1) {
        told_to_go = 1;
    }
}

bool intake_told_to_go(void) {
    look_for_signal();
    return told_to_go != 0;
}

int intake_next(struct intake *in) {
    look_for_signal();
    while (told_to_go == 0) {
        int fd = take_any(in);
        if (fd >= 0) {
            return fd;
        }
        if (told_to_go == 0) { /* one that said nothing may have been waited for */
            wait_for_news(in);
        }
    }
    return take_last(in);
}

/* --- with writes in hand ------------------------------------------------------------------------------------------------ */

int intake_another(struct intake *in) {
    if (!in->news[INTAKE_WRITES] || in->exhausted) {
        return -1;
    }
    int fd = take_connection(in, INTAKE_WRITES);
    in->news[INTAKE_WRITES] = fd >= 0 || in->exhausted;
    (void)add_relaxed_u64(&in->control->desks_took, fd >= 0 ? 1 : 0);
    return fd;
}

void intake_wait(struct intake *in, bool another, int coming_fd, int64_t until_us) {
    in->news[INTAKE_WRITES] = true; /* whoever found all desks taken relies on this look */
    int64_t left_us = until_us - clock_monotonic_us();
    int64_t most_us = (int64_t)(in->exhausted ? PAUSE_MS : MS_PER_SECOND) * US_PER_MS; /* then it is asked again */
    left_us = left_us < 0 ? 0 : left_us < most_us ? left_us : most_us;
    if (another && told_to_go == 0 && !in->exhausted) {
        struct epoll_event event[DESK_SOURCES];
        int n = epoll_pwait(in->desk_epoll_fd, event, DESK_SOURCES, (int)((left_us + US_PER_MS - 1) / US_PER_MS), &in->sleeping);
        for (int i = 0; i < n; i++) {
            in->link_news |= event[i].data.u32 == LINK_TAG;
        }
        return;
    }
    struct pollfd p[] = {{.fd = in->link_fd, .events = POLLIN}, {.fd = coming_fd, .events = POLLIN}};
    const struct timespec limit = {.tv_sec = (time_t)(left_us / US_PER_SECOND), .tv_nsec = (long)(left_us % US_PER_SECOND) * NS_PER_US};
    int n = ppoll(p, sizeof p / sizeof p[0], &limit, &in->sleeping);
    in->link_news |= n > 0 && p[0].revents != 0;
    in->exhausted = false;
}

bool intake_watch_link(struct intake *in, int link_fd, struct status *st) {
    struct epoll_event newcomers = {.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, .data.u32 = INTAKE_WRITES};
    struct epoll_event answers = {.events = EPOLLIN | EPOLLET, .data.u32 = LINK_TAG};
    in->link_fd = link_fd;
    in->desk_epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (in->desk_epoll_fd < 0 || epoll_ctl(in->desk_epoll_fd, EPOLL_CTL_ADD, in->socket[INTAKE_WRITES], &newcomers) != 0 ||
        epoll_ctl(in->desk_epoll_fd, EPOLL_CTL_ADD, link_fd, &answers) != 0) {
        return status_set_errno(st, errno, "cannot watch the channel");
    }
    return true;
}

/* --- birth --------------------------------------------------------------------------------------------------------------- */

static void catch_signal(struct intake *in) {
    struct sigaction terminate = {.sa_handler = on_terminate};
    sigset_t blocked;
    told_to_go = 0;
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &blocked, &in->sleeping);
    (void)sigdelset(&in->sleeping, SIGTERM);
    (void)sigaction(SIGTERM, &terminate, NULL);
}

bool intake_begin(struct intake *in, struct control *control, uint32_t slot, const int sockets[INTAKE_SOCKETS], struct status *st) {
    in->control = control;
    in->slot = slot;
    in->desk_epoll_fd = -1;
    in->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (in->epoll_fd < 0) {
        return status_set_errno(st, errno, "cannot watch the sockets");
    }
    for (enum intake_socket i = 0; i < INTAKE_SOCKETS; i++) {
        in->socket[i] = sockets[i];
        in->watched[i] = false;
        if (!watch(in, i, true)) {
            io_close(&in->epoll_fd);
            return status_set_errno(st, errno, "cannot watch the sockets");
        }
    }
    catch_signal(in);
    return true;
}

void intake_end(struct intake *in) {
    io_close(&in->epoll_fd);
    io_close(&in->desk_epoll_fd);
}
