/* supervisor_internal.h - the main thread's own, shared by supervisor.c, supervisor_start.c, supervisor_stop.c and supervisor_upgrade.c. */
#ifndef QUIRE_PROC_SUPERVISOR_INTERNAL_H
#define QUIRE_PROC_SUPERVISOR_INTERNAL_H

#include "proc/lock.h"
#include "proc/supervisor.h"

enum { US_PER_MS = 1000, EXTEND_US = 2000000 /* how often systemd is asked for more time */, EXTEND_BY_US = 30000000 };

enum phase { PHASE_RECOVERING, PHASE_SERVING, PHASE_DRAINING, PHASE_FINISHING, PHASE_OVER };

/* A thread that main waits for without blocking. */
struct errand {
    pthread_t thread;
    bool running;
    uint32_t done; /* atomic; pairs with: ERRAND_DONE */
    bool ok;
    struct status st;
};

struct run {
    struct supervisor s;
    const struct supervisor_options *options;
    enum phase phase;
    int exit_code;
    int signal_fd;
    struct errand recovery, finish;
    struct recovery_report report;
    struct reembed *reembed;
    int64_t begun_us; /* the start, then the stop */
    int64_t draining_us;
    int64_t looked_us, extended_us, beat_us;
    bool announced; /* READY was sent */
    bool reloading; /* RELOADING was sent, READY not yet */
    bool stop_asked;
    pid_t checking; /* the program that may take over, while it looks whether it can; 0: none */
    bool upgrading; /* this stop is for a successor */
    bool finishing_kills; /* the drain's deadline has passed */
    char program[CONFIG_PATH_MAX]; /* where ours lay when it started */
    /* what the recovery thread says, under its mutex */
    struct lock progress_mutex;
    char progress[160];
};

/* A thread's last step, and main's look at it: true once, when it is over and joined. */
void errand_end(struct run *r, struct errand *e, bool ok);
bool errand_over(struct errand *e);

/* The end of the process, with an exit code that fits the status. */
void supervisor_fail(struct run *r, const char *what, const struct status *st);

/* --- supervisor_start.c --- */
/* Everything up to the recovery thread. Returns what could not be done, or NULL. */
const char *supervisor_start(struct run *r, struct status *st);
/* While recovery goes on. */
void supervisor_tell_progress(struct run *r, int64_t now_us);
/* Recovery is over: threads, socket, workers. */
void supervisor_begin_serving(struct run *r);
MUST_CHECK bool supervisor_open_log_file(const char *path, struct status *st);
void supervisor_set_tunables(struct supervisor *s);
/* Gives everything back. Threads that run are stopped. */
void supervisor_tear_down(struct run *r);

/* --- supervisor_stop.c --- */
void supervisor_begin_drain(struct run *r);
void supervisor_watch_drain(struct run *r, int64_t now_us);
void supervisor_watch_finish(struct run *r, int64_t now_us);
/* After the log has failed, in any phase. */
void supervisor_watch_failed_log(struct run *r, int64_t now_us);
_Noreturn void supervisor_stop_at_once(struct run *r, const char *why);
/* In this order, because those above may still call those below. */
void supervisor_stop_threads(struct supervisor *s);
void supervisor_remove_files(struct supervisor *s);


/* --- supervisor_upgrade.c --- */
void supervisor_note_program(struct run *r);
void supervisor_begin_upgrade(struct run *r);
/* While serving: goes on when the new program has been checked. */
void supervisor_watch_upgrade(struct run *r);
/* Before and after everything was given back. The second returns an exit code, and only where it fails. */
void supervisor_keep_sockets(struct run *r, struct listener kept[LISTENERS]);
int supervisor_exec_successor(struct run *r, struct listener kept[LISTENERS]);

#endif
