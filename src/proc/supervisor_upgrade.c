/*
 * supervisor_upgrade.c - USR2: another program of the same path takes over in this process, and no request fails.
 *
 *   1. check    the program that lies at our path now is run with -t: it reads the configuration and the formats of the data directory,
 *               and changes nothing. When it says no, this server goes on
 *   2. drain    workers finish what they have in hand. The sockets stay open: whoever connects now waits in their queues
 *   3. save     the log is closed and the arenas get their checkpoint. No snapshot: a start needs none behind a checkpoint, and who waits
 *               should not wait for it
 *   4. exec     in this process, so that the pid, the pid file and what the service manager knows of us stay true. The sockets go along
 *               (handover.h); the lock of the data directory is free for that moment and taken anew by the successor
 *
 * A successor that dies at its start takes the sockets with it, where nobody else holds them: that is why there is a check before. The
 * log says why it died, and a service manager starts it again. A stop that is asked for meanwhile wins.
 */
#include "proc/supervisor_internal.h"

#include "base/io.h"
#include "base/log.h"
#include "proc/children.h"
#include "proc/handover.h"
#include "proc/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Read while the file is there: later the kernel would call it deleted. */
void supervisor_note_program(struct run *r) {
    ssize_t n = readlink("/proc/self/exe", r->program, sizeof r->program - 1);
    r->program[n > 0 ? n : 0] = '\0';
}

/* The command line anew, from what was understood of it; --repair is for the start that it was given to. NULL: no memory. */
static char **command_line(const struct run *r, bool test) {
    enum { MOST_OTHERS = 5 };
    const struct supervisor_options *o = r->options;
    size_t n = 0;
    union {
        const char **written;
        char **read; /* exec takes strings that it does not change for ones that it may */
    } line = {.written = (const char **)calloc(2 * o->set_count + MOST_OTHERS, sizeof(const char *))};
    const char **argv = line.written;
    if (argv == NULL) {
        return NULL;
    }
    argv[n++] = r->program;
    if (o->config_path != NULL) {
        argv[n++] = "-c";
        argv[n++] = o->config_path;
    }
    for (size_t i = 0; i < o->set_count; i++) {
        argv[n++] = "--set";
        argv[n++] = o->sets[i];
    }
    argv[n] = test ? "-t" : NULL;
    return line.read;
}

/* What it says goes to the log. It begins with no signal blocked. */
static bool spawn_check(struct run *r, char **argv, struct status *st) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t none;
    (void)sigemptyset(&none);
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawnattr_init(&how);
    (void)posix_spawnattr_setsigmask(&how, &none);
    (void)posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK);
    (void)posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
    int err = posix_spawn(&r->checking, r->program, &files, &how, argv, environ);
    (void)posix_spawnattr_destroy(&how);
    (void)posix_spawn_file_actions_destroy(&files);
    if (err != 0) {
        r->checking = 0;
        return status_set_errno(st, err, "cannot execute %s", r->program);
    }
    return true;
}

void supervisor_begin_upgrade(struct run *r) {
    struct status st;
    if (r->checking != 0) {
        log_info("an upgrade is under way already");
        return;
    }
    char **argv = command_line(r, true);
    bool ok = argv == NULL ? status_no_memory(&st) : spawn_check(r, argv, &st);
    free(argv);
    if (!ok) {
        log_status(LOG_LEVEL_ERROR, "not upgraded, this server goes on", &st);
        return;
    }
    log_info("upgrade: %s checks configuration and data", r->program);
}

void supervisor_watch_upgrade(struct run *r) {
    int how = 0;
    if (r->checking == 0 || waitpid(r->checking, &how, WNOHANG) != r->checking) {
        return;
    }
    r->checking = 0;
    if (!WIFEXITED(how) || WEXITSTATUS(how) != 0) {
        log_error("not upgraded, this server goes on: the check of %s ended with %s %d; what it said stands above", r->program,
                  WIFEXITED(how) ? "exit code" : "signal", WIFEXITED(how) ? WEXITSTATUS(how) : WTERMSIG(how));
        return;
    }
    log_info("upgrade: the check is passed; who connects from now on waits for the new server");
    r->upgrading = true;
    supervisor_begin_drain(r);
}

void supervisor_keep_sockets(struct run *r, struct listener kept[LISTENERS]) {
    for (int i = 0; i < LISTENERS; i++) {
        kept[i] = r->s.listener[i];
        r->s.listener[i] = LISTENER_CLOSED;
    }
    r->s.pid_written = false; /* the successor has the same pid */
}

int supervisor_exec_successor(struct run *r, struct listener kept[LISTENERS]) {
    struct status st;
    char **argv = command_line(r, false);
    if (argv == NULL) {
        (void)status_no_memory(&st);
    } else {
        handover_exec(r->program, argv, kept, &st);
    }
    (void)fprintf(stderr, "quired: the upgrade failed: %s\n", st.detail);
    free(argv);
    return EXIT_FAILURE;
}
