/*
 * worker_desk.c - several writes in hand.
 *
 * What a write costs beside its own work is mostly processes that sleep and are woken. So a worker does not sleep over one write: it reads it, hands its op down the
 * channel, puts the request aside where it stands (fiber.h) and takes the next. Answers come by the channel, many at a time; each goes on with its request.
 *
 * What must not happen is that one holds up the others, so only those are taken side by side which lie whole in the socket and are short (PEEK_BYTES with their head):
 * then reading them cannot wait. What is longer, not whole yet, or a stream, is served alone: the worker takes nothing more, gives its desk to another (intake.c), finishes
 * what it has in hand, and serves that one as it serves what comes by the main socket. What is in hand may wait long, for a provider above all: after PATIENCE_US one that is no
 * stream is served beside it, since nothing but its own reading can hold the others up, and nginx has it whole. One that has said nothing yet is waited for, beside the answers; meanwhile nothing more is
 * taken. A short reply fits into the socket's buffer, so that writing it cannot wait either; timeouts are set for longer ones.
 *
 * A short body can ask for many vectors; when those in hand keep ENOUGH_BYTES of such, or are about to get them from a provider, nothing more is taken either. The supervisor
 * keeps them while this process does not read (channels.c).
 *
 * A request is put aside only in worker_link.c, while it waits for the supervisor, so never within a reading: all share the worker's one reader. Each has its own api, and a deadline of its own.
 */
#include "proc/worker_internal.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "shm/atomics.h"

#include <assert.h>
#include <fastcgi.h>
#include <stdlib.h>
#include <string.h>

enum { PEEK_BYTES = 16384, US_PER_MS = 1000, LAST_MOMENT_US = 1000000, ENOUGH_BYTES = 16777216, PATIENCE_US = 100000 };

/* --- what a connection has said -------------------------------------------------------------------------------------------- */

/* Whether it is one request with all of its body, and nothing that libfcgi would answer by itself. */
static bool is_whole(const uint8_t *data, size_t len) {
    bool has_params = false;
    size_t at = 0;
    while (len - at >= sizeof(FCGI_Header)) {
        FCGI_Header header;
        memcpy(&header, data + at, sizeof header);
        size_t content = (size_t)(header.contentLengthB1 << 8 | header.contentLengthB0);
        at += sizeof header + content + header.paddingLength;
        bool begins = header.type == FCGI_BEGIN_REQUEST && !has_params;
        bool params = header.type == FCGI_PARAMS;
        bool body = header.type == FCGI_STDIN && has_params;
        if (at > len || !(begins || params || body)) {
            return false;
        }
        has_params |= params && content == 0;
        if (body && content == 0) {
            return at == len;
        }
    }
    return false;
}

/* --- seats ----------------------------------------------------------------------------------------------------------------- */

/* worker_call.park */
static bool park(void *ctx, int64_t deadline_us) {
    struct seat *s = (struct seat *)ctx;
    assert(!store_reader_reads(s->worker->reader));
    s->until_us = deadline_us;
    s->late = false;
    s->bytes = s->call.sent_bytes + s->call.vector_bytes;
    s->worker->desk.bytes += s->bytes;
    fiber_pause(s->fiber);
    s->worker->desk.bytes -= s->bytes;
    return !s->late;
}

static void run_seat(void *arg) {
    struct seat *s = (struct seat *)arg;
    seat_serve(s, s->fd);
}

static struct seat *seat_new(struct worker *w) {
    struct status st;
    struct seat *s = (struct seat *)calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    bool ok = seat_init(s, w, &st) && fiber_new(&s->fiber, &st);
    if (!ok) {
        seat_fini(s);
        free(s);
        return NULL;
    }
    s->is_write = true;
    s->call.park = park;
    s->call.ctx = s;
    return s;
}

static struct seat *free_seat(struct worker *w) {
    struct desk *d = &w->desk;
    for (size_t i = 0; i < d->made; i++) {
        if (d->seats[i]->begun_us == 0) {
            return d->seats[i];
        }
    }
    struct seat *s = seat_new(w);
    if (s != NULL) {
        d->seats[d->made++] = s;
    }
    return s;
}

/* For the watchdog: the longest in hand. */
static void show(const struct worker *w) {
    int64_t oldest = 0;
    for (size_t i = 0; i < w->desk.made; i++) {
        int64_t begun = w->desk.seats[i]->begun_us;
        oldest = begun != 0 && (oldest == 0 || begun < oldest) ? begun : oldest;
    }
    store_relaxed_u64(&w->page->busy_since_us, (uint64_t)oldest);
    store_release_u32(&w->page->state, oldest == 0 ? WORKER_IDLE : WORKER_BUSY);
}

static void ended(struct worker *w, struct seat *s, bool has_ended) {
    if (has_ended) {
        s->begun_us = 0;
        w->desk.in_hand--;
        show(w);
    }
}

static void begin(struct worker *w, struct seat *s, int fd) {
    s->fd = fd;
    s->begun_us = clock_monotonic_us();
    w->desk.in_hand++;
    show(w);
    ended(w, s, fiber_start(s->fiber, run_seat, s));
}

static void go_on(struct worker *w, struct seat *s, bool late) {
    s->late = late;
    ended(w, s, fiber_resume(s->fiber));
}

static struct seat *seat_of(const struct worker *w, uint64_t request) {
    for (size_t i = 0; i < w->desk.made; i++) {
        struct seat *s = w->desk.seats[i];
        if (s->begun_us != 0 && s->call.request == request) {
            return s;
        }
    }
    return NULL;
}

/* --- connections ----------------------------------------------------------------------------------------------------------- */

static void serve_later(struct worker *w, int fd, bool streams) {
    w->desk.alone_fd = fd;
    w->desk.alone_streams = streams;
    w->desk.alone_until_us = streams ? INT64_MAX : clock_monotonic_us() + PATIENCE_US;
    w->desk.ending = true;
    intake_leave_desk(&w->intake);
}

/* Looks at the connection that is coming. */
static void look(struct worker *w) {
    struct desk *d = &w->desk;
    static uint8_t bytes[PEEK_BYTES];
    size_t len = 0;
    enum intake_begin how = intake_look(d->coming_fd, bytes, sizeof bytes, &len);
    if (how == BEGINS_NOT) {
        if (clock_monotonic_us() >= d->coming_until_us) {
            io_close(&d->coming_fd);
        }
        return;
    }
    int fd = d->coming_fd;
    d->coming_fd = -1;
    if (how == BEGINS_BADLY) {
        io_close(&fd);
        return;
    }
    struct seat *s = how == BEGINS_REQUEST && len < sizeof bytes && is_whole(bytes, len) ? free_seat(w) : NULL;
    if (s != NULL) {
        begin(w, s, fd);
    } else if (intake_set_timeouts(&w->intake, fd)) {
        serve_later(w, fd, how == BEGINS_STREAM);
    } else {
        io_close(&fd);
    }
}

void desk_take(struct worker *w, int fd) {
    w->desk.ending = false;
    w->desk.coming_fd = fd;
    w->desk.coming_until_us = clock_monotonic_us() + (int64_t)w->config.peer_timeout_ms * US_PER_MS;
    look(w);
}

static bool may_take(const struct worker *w) {
    const struct desk *d = &w->desk;
    return d->in_hand < w->config.writes_in_hand && d->bytes < ENOUGH_BYTES && d->coming_fd < 0 && !d->ending && !d->leaving && !w->link.broken;
}

static void take_more(struct worker *w) {
    while (may_take(w)) {
        int fd = intake_another(&w->intake);
        if (fd < 0) {
            break;
        }
        desk_take(w, fd);
    }
}

/* --- a turn ---------------------------------------------------------------------------------------------------------------- */

/* Until when nothing has to be done unless something happens. */
static int64_t earliest(const struct worker *w) {
    const struct desk *d = &w->desk;
    int64_t until = d->coming_fd >= 0 ? d->coming_until_us : d->alone_fd >= 0 ? d->alone_until_us : INT64_MAX;
    for (size_t i = 0; i < d->made; i++) {
        const struct seat *s = d->seats[i];
        until = s->begun_us != 0 && s->until_us < until ? s->until_us : until;
    }
    return until;
}

/* Each answer goes on with its request; who waits for none that came too late is gone. */
static void deliver(struct worker *w) {
    uint64_t request = 0;
    if (!w->intake.link_news) {
        return;
    }
    w->intake.link_news = false;
    bool whole = worker_link_receive(&w->link);
    while (whole && worker_link_front(&w->link, &request)) {
        struct seat *s = seat_of(w, request);
        if (s != NULL) {
            go_on(w, s, false);
        } else {
            worker_link_skip(&w->link);
        }
    }
}

/* Whose time is over, and, when the supervisor is gone, all. */
static void give_up(struct worker *w) {
    int64_t now = clock_monotonic_us();
    for (size_t i = 0; i < w->desk.made; i++) {
        struct seat *s = w->desk.seats[i];
        if (s->begun_us != 0 && (s->until_us <= now || w->link.broken)) {
            go_on(w, s, true);
        }
    }
}

/* The one that was to be served alone, when those in hand do not come to their end. */
static void serve_beside(struct worker *w) {
    struct desk *d = &w->desk;
    if (d->alone_fd < 0 || d->in_hand == 0 || clock_monotonic_us() < d->alone_until_us) {
        return;
    }
    struct seat *s = d->in_hand < DESK_SEATS_MAX ? free_seat(w) : NULL;
    d->alone_until_us = INT64_MAX;
    if (s != NULL) {
        int fd = d->alone_fd;
        d->alone_fd = -1;
        begin(w, s, fd);
    }
}

bool desk_is_busy(const struct worker *w) {
    return w->desk.in_hand > 0 || w->desk.coming_fd >= 0 || w->desk.alone_fd >= 0;
}

void desk_turn(struct worker *w, int *ret_fd, bool *ret_streams) {
    struct desk *d = &w->desk;
    *ret_fd = -1;
    if (d->alone_fd >= 0 && d->in_hand == 0) {
        *ret_fd = d->alone_fd;
        *ret_streams = d->alone_streams;
        d->alone_fd = -1;
        return;
    }
    d->leaving = intake_told_to_go();
    if (d->in_hand == 1) { /* a lone one does not wait until nobody else is found */
        worker_link_flush(&w->link);
    }
    take_more(w);
    worker_link_flush(&w->link);
    if (d->in_hand == 0 && d->coming_fd < 0) {
        return;
    }
    if (d->coming_fd >= 0 && d->leaving) {
        int64_t last = clock_monotonic_us() + LAST_MOMENT_US;
        d->coming_until_us = d->coming_until_us < last ? d->coming_until_us : last;
    }
    intake_wait(&w->intake, may_take(w), d->coming_fd, earliest(w));
    deliver(w);
    give_up(w);
    serve_beside(w);
    if (d->coming_fd >= 0) {
        look(w);
    }
    worker_link_flush(&w->link);
}

/* --- begin and end --------------------------------------------------------------------------------------------------------- */

void desk_init(struct desk *d) {
    *d = (struct desk){.coming_fd = -1, .alone_fd = -1};
}

void desk_fini(struct worker *w) {
    struct desk *d = &w->desk;
    for (size_t i = 0; i < d->made; i++) {
        fiber_free(d->seats[i]->fiber);
        seat_fini(d->seats[i]);
        free(d->seats[i]);
    }
    d->made = 0;
    io_close(&d->coming_fd);
    io_close(&d->alone_fd);
}
