/*
 * audit.h - the audit log: lines that workers make (api/audit.c), on their way to a file or the server's own log.
 *
 * A worker may open nothing for writing, and a descriptor of the file itself would let one that was broken into rewrite what stands there. So workers write to a
 * pipe, each line whole (it is shorter than PIPE_BUF), before the request is answered: what a client has heard of has left the worker, which may be killed then.
 * A thread of the supervisor takes the lines out, and gives on what has the form of one: a JSON object without control characters. A broken worker can therefore
 * add lines that are not true, and spoil one of a neighbour's, but neither take back nor change what is written, nor break the form.
 *
 * How much there can be: writes and admin calls need a key, so they are as many as those who have one let them be. Refusals anybody can cause; of them
 * AUDIT_REFUSALS_PER_SECOND are written in the long run, and the others counted, in the figures and in a line of their own.
 *
 * When the pipe is full for longer than AUDIT_PATIENCE_MS, or the file cannot be written, lines are lost, counted, and the log says so: requests go on.
 */
#ifndef QUIRE_PROC_AUDIT_H
#define QUIRE_PROC_AUDIT_H

#include "proc/supervisor.h"

enum { AUDIT_REFUSALS_PER_SECOND = 10, AUDIT_REFUSALS_AT_ONCE = 200, AUDIT_PATIENCE_MS = 100 };
#define AUDIT_NONE "none"

/* --- a worker's side --- */
/* One line, with its newline. False: it is lost. */
bool audit_send(int fd, struct slice line, bool refusal);

/* --- the supervisor's --- */
struct audit;
/* *ret_fd: the end for workers, which the caller closes when all of them have gone. */
MUST_CHECK bool audit_new(struct supervisor *s, int *ret_fd, struct audit **ret, struct status *st);
/* After the file was moved away: it is opened anew. Any thread. */
void audit_reopen(struct audit *a);
/* Writes what is still in the pipe. The workers have gone, and *fd, the end that they had, is closed. Takes NULL. */
void audit_free(struct audit *a, int *fd);

#endif
