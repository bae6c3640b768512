/* sandbox.h - what a worker gives up before it answers its first request. */
#ifndef QUIRE_PROC_SANDBOX_H
#define QUIRE_PROC_SANDBOX_H

#include "base/status.h"

/* From now on this process and its threads cannot open anything for writing, nor create, rename, remove or truncate, nor run a
 * program, make a process, signal or trace another one: EPERM. Needs PR_SET_NO_NEW_PRIVS. For good. */
MUST_CHECK bool sandbox_enter(struct status *st);

/* Of the file system only what resolving names and verifying certificates needs can be opened from now on, for reading, and `others` (NULL behind the
 * last). On a kernel without Landlock that is not so, and said in the log. Needs PR_SET_NO_NEW_PRIVS. For good, for the calling thread and those it starts. */
MUST_CHECK bool sandbox_files(const char *const *others, struct status *st);

#endif
