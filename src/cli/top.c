/*
 * top.c - quire top: what a server is doing, again and again, until somebody presses q.
 *
 * Plain ANSI sequences on the terminal's second screen; whatever ends it, the first screen, the cursor and the modes are put back. Signals set flags and come through
 * in ppoll alone, so that none is missed between looking and waiting. Where the server cannot be reached for a moment, the last picture stays with a line that says so.
 */
#include "cli/top.h"

#include "base/clock.h"
#include "cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sysexits.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { INTERVAL = 2, INTERVAL_MOST = 3600, ASK_MS = 5000, COLUMNS = 80, ROWS = 24, CONTROL_D = 4 };
#define NS_PER_US 1000
#define US_PER_SECOND INT64_C(1000000)

/* --- reading the server --- */

/* Replies of 200 alone count; a key that may not is told. */
static bool ask(struct cli *cli, const char *path, struct client_reply *ret, struct status *st) {
    return client_call(cli->client, "GET", path, slice_of(NULL, 0), false, ret, st);
}

static bool ask_json(struct cli *cli, const char *path, struct json_object **ret, struct status *st) {
    struct client_reply reply;
    if (!ask(cli, path, &reply, st))
        return false;
    *ret = json_object_get(reply.json);
    client_reply_fini(&reply);
    return true;
}

static bool read_server(struct cli *cli, struct top_reading *ret, struct status *st) {
    struct top_reading r = {.at_us = clock_monotonic_us(), .wall_us = clock_wall_us()};
    struct client_reply reply;
    if (!ask(cli, "/metrics", &reply, st))
        return false;
    bool ok = metrics_parse(buf_slice(&reply.body), &r.metrics, st);
    client_reply_fini(&reply);
    ok = ok && ask_json(cli, "/health/detailed", &r.health, st) && ask_json(cli, "/v1/tasks", &r.tasks, st);
    if (!ok) {
        top_reading_fini(&r);
        return false;
    }
    *ret = r;
    return true;
}

/* --- the terminal --- */

static volatile sig_atomic_t ended, stopped, resized;

static void on_signal(int number) {
    if (number == SIGWINCH)
        resized = 1;
    else if (number == SIGTSTP)
        stopped = 1;
    else
        ended = 1;
}

struct screen {
    struct termios before;
    sigset_t open; /* the mask in ppoll */
    bool entered;
};

/* What cannot be written to a terminal that is gone need not be. */
static void write_all(const void *data, size_t len) {
    const char *at = data;
    while (len > 0) {
        ssize_t n = write(STDOUT_FILENO, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        at += n;
        len -= (size_t)n;
    }
}

static void write_text(const char *text) {
    write_all(text, strlen(text));
}

static void enter(struct screen *s) {
    struct termios raw = s->before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    write_text("\033[?1049h\033[?25l\033[?7l");
    s->entered = true;
}

static void leave(struct screen *s) {
    if (!s->entered)
        return;
    write_text("\033[?7h\033[?25h\033[?1049l");
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &s->before);
    s->entered = false;
}

static bool open_screen(struct screen *s, struct status *st) {
    static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t blocked;
    if (tcgetattr(STDIN_FILENO, &s->before) != 0 || isatty(STDOUT_FILENO) == 0)
        return status_set(st, STATUS_INVALID, "this is no terminal; `quire top --once` prints one reading");
    (void)sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++) {
        (void)sigaddset(&blocked, caught[i]);
        (void)sigaction(caught[i], &action, NULL);
    }
    (void)sigprocmask(SIG_BLOCK, &blocked, &s->open);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        (void)sigdelset(&s->open, caught[i]);
    enter(s);
    return true;
}

/* As after Ctrl-Z in any program: the terminal as it was, and back again after fg. */
static void stop_and_come_back(struct screen *s) {
    leave(s);
    (void)raise(SIGSTOP);
    enter(s);
    stopped = 0;
    resized = 1;
}

static void show(const struct buf *frame, const char *note) {
    struct winsize size = {0};
    struct buf out = {0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
        size.ws_col = COLUMNS;
        size.ws_row = ROWS;
    }
    top_fit(buf_slice(frame), size.ws_col, size.ws_row > 1 ? size.ws_row - 1U : 1U, &out);
    buf_printf(&out, "\033[%u;1H", (unsigned)size.ws_row);
    for (unsigned n = 0; note[n] != '\0' && n < size.ws_col; n++)
        buf_put_u8(&out, note[n] >= ' ' && note[n] <= '~' ? (uint8_t)note[n] : '?'); /* a server's words drive no terminal */
    buf_put_str(&out, "\033[K");
    if (buf_ok(&out))
        write_all(out.data, out.len);
    buf_fini(&out);
}

/* A key that ends it, or the terminal's end. */
static bool key_ends(void) {
    char key;
    ssize_t n = read(STDIN_FILENO, &key, 1);
    return n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN) || (n == 1 && (key == 'q' || key == 'Q' || key == CONTROL_D));
}

/* Until the time has come, something is pressed, or the window is another. */
static void wait_until(const struct screen *s, int64_t until_us) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    while (!ended && !stopped && !resized) {
        int64_t left_us = until_us - clock_monotonic_us();
        if (left_us <= 0)
            return;
        struct timespec left = {.tv_sec = left_us / US_PER_SECOND, .tv_nsec = left_us % US_PER_SECOND * NS_PER_US};
        int n = ppoll(&input, 1, &left, &s->open);
        if (n > 0 && key_ends())
            ended = 1;
    }
}

/* --- the command --- */

struct top {
    struct cli *cli;
    struct top_reading before, now;
    int64_t interval_us;
    struct buf frame;
};

static bool draw(struct top *t, struct status *st) {
    struct top_figures figures;
    if (!top_figure(&t->now, &t->before, &figures, st))
        return false;
    buf_reset(&t->frame);
    if (t->cli->json)
        top_json(&figures, &t->frame);
    else
        top_draw(&figures, t->cli->server.url, &t->frame);
    top_figures_fini(&figures);
    return buf_check(&t->frame, st);
}

/* The reading becomes the one before; the old one goes. */
static bool go_on(struct top *t, struct status *st) {
    struct top_reading fresh;
    if (!read_server(t->cli, &fresh, st))
        return false;
    top_reading_fini(&t->before);
    t->before = t->now;
    t->now = fresh;
    return true;
}

static bool print_once(struct top *t, struct status *st) {
    client_pause_ms((long)(t->interval_us / 1000));
    if (!go_on(t, st) || !draw(t, st))
        return false;
    for (size_t i = 0; i < t->frame.len; i++)
        if (t->frame.data[i] != TOP_HEADING)
            putchar(t->frame.data[i]);
    if (t->cli->json)
        putchar('\n');
    return true;
}

static bool watch(struct top *t, struct status *st) {
    struct screen screen = {.entered = false};
    char note[STATUS_DETAIL_MAX + 64] = "q: quit";
    bool ok = draw(t, st) && open_screen(&screen, st);
    int64_t next_us = clock_monotonic_us() + (t->interval_us < US_PER_SECOND ? t->interval_us : US_PER_SECOND); /* the first rates soon */
    while (ok && !ended) {
        show(&t->frame, note);
        resized = 0;
        wait_until(&screen, next_us);
        if (stopped)
            stop_and_come_back(&screen);
        if (ended || clock_monotonic_us() < next_us)
            continue;
        struct status why = {0};
        next_us = clock_monotonic_us() + t->interval_us;
        if (go_on(t, &why))
            snprintf(note, sizeof note, "q: quit");
        else
            snprintf(note, sizeof note, "not reached, trying again: %s", why.detail);
        ok = draw(t, st);
    }
    leave(&screen);
    return ok;
}

int command_top(struct cli *cli) {
    struct top t = {.cli = cli, .interval_us = cli_number(cli, OPTION_INTERVAL, INTERVAL) * US_PER_SECOND};
    struct status st = {0};
    bool once = cli_has(cli, OPTION_ONCE) || cli->json;
    if (cli_number(cli, OPTION_INTERVAL, INTERVAL) > INTERVAL_MOST)
        return cli_usage(cli, "--interval is at most 3600");
    cli->server.timeout_ms = ASK_MS;
    bool ok = cli_connect(cli, &st) && read_server(cli, &t.now, &st);
    if (ok && once) {
        ok = print_once(&t, &st);
    } else if (ok) {
        /* The first picture is of the whole time since the server's start: it begins with nothing. */
        t.before.at_us = t.now.at_us - (int64_t)(member_double(t.now.health, "uptime_seconds") * 1e6);
        ok = watch(&t, &st);
    }
    top_reading_fini(&t.before);
    top_reading_fini(&t.now);
    buf_fini(&t.frame);
    return ok ? EX_OK : cli_fail(&st);
}
