/*
 * spawn.h - another process of this program, by vfork and exec, in one of its roles. Main's alone: PR_SET_PDEATHSIG follows the thread that spawned, and vfork stops that
 * thread until the exec.
 */
#ifndef QUIRE_PROC_SPAWN_H
#define QUIRE_PROC_SPAWN_H

#include "base/status.h"

#include <sys/types.h>

enum { SPAWN_FDS_MAX = 16, SPAWN_ENVIRONMENT_MAX = 4 };

/* What the child needs before its exec, prepared by the parent: there it may not even allocate. */
struct spawn_plan {
    const char *what; /* for messages: "a worker" */
    int fd[SPAWN_FDS_MAX]; /* the child has them as 3, 4, ...; no others survive but the first three */
    int fds;
    char *argv[5];
    char *envp[SPAWN_ENVIRONMENT_MAX];
    pid_t parent;
};

/* Copies what is set of these into the plan's environment; the child gets nothing else. The copies live until the next call. */
void spawn_keep_environment(struct spawn_plan *p, const char *const *names);
/* Returns the child's pid. It dies with the calling thread. */
MUST_CHECK bool spawn(struct spawn_plan *p, pid_t *ret, struct status *st);
/* A SOCK_STREAM socketpair, closed on exec; our end, the first, does not block. */
MUST_CHECK bool spawn_channel(int pair[2], struct status *st);

#endif
