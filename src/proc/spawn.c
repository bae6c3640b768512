/* spawn.c - see spawn.h. */
#include "proc/spawn.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FIRST_FD = STDERR_FILENO + 1,
    /* Above every number that a child inherits, so that moving a descriptor to its place never closes one that is still needed. */
    PARKING_FD = 64
};

void spawn_keep_environment(struct spawn_plan *p, const char *const *names) {
    static char kept[SPAWN_ENVIRONMENT_MAX - 1][4096];
    size_t count = 0;
    for (size_t i = 0; names[i] != NULL && count < SPAWN_ENVIRONMENT_MAX - 1; i++) {
        const char *value = getenv(names[i]);
        if (value != NULL) {
            (void)snprintf(kept[count], sizeof kept[count], "%s=%s", names[i], value);
            p->envp[count] = kept[count];
            count++;
        }
    }
    p->envp[count] = NULL;
}

/* Puts each descriptor at its number. All are moved out of the way first, since one may stand at another's place. */
static bool place_descriptors(const struct spawn_plan *p) {
    int parked[SPAWN_FDS_MAX];
    for (int i = 0; i < p->fds; i++) {
        parked[i] = fcntl(p->fd[i], F_DUPFD, PARKING_FD);
        if (parked[i] < 0) {
            return false;
        }
    }
    for (int i = 0; i < p->fds; i++) {
        if (dup2(parked[i], FIRST_FD + i) < 0) { /* without FD_CLOEXEC */
            return false;
        }
    }
    return close_range((unsigned)(FIRST_FD + p->fds), ~0U, 0) == 0;
}

/* Between vfork and exec: the memory is the parent's, whose other threads run on, so nothing of it is changed but this stack. */
static _Noreturn void become(const struct spawn_plan *p) {
    sigset_t none;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == p->parent && place_descriptors(p)) {
        (void)signal(SIGINT, SIG_IGN); /* Ctrl-C at a terminal reaches the whole group; the supervisor says when to go */
        (void)signal(SIGHUP, SIG_IGN);
        (void)signal(SIGPIPE, SIG_IGN);
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        (void)execve("/proc/self/exe", p->argv, p->envp);
    }
    _exit(EXIT_FAILURE);
}

bool spawn(struct spawn_plan *p, pid_t *ret, struct status *st) {
    p->parent = getpid();
    /* A fork would write-protect all memory of the supervisor and hold up the page faults of its other threads, while they commit. */
    pid_t pid = vfork();
    if (pid == 0) {
        become(p);
    }
    if (pid < 0) {
        return status_set_errno(st, errno, "cannot start %s", p->what);
    }
    *ret = pid;
    return true;
}

bool spawn_channel(int pair[2], struct status *st) {
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return status_set_errno(st, errno, "cannot make a channel");
    }
    if (fcntl(pair[0], F_SETFL, O_NONBLOCK) != 0) {
        int err = errno;
        io_close(&pair[0]);
        io_close(&pair[1]);
        return status_set_errno(st, err, "cannot set up a channel");
    }
    return true;
}
