/* sandbox.h - what a worker gives up before it answers its first request. */
#ifndef QUIRE_PROC_SANDBOX_H
#define QUIRE_PROC_SANDBOX_H

#include "base/status.h"

/* From now on this process and its threads cannot open anything for writing, nor create, rename, remove or truncate, nor run a
 * program, make a process, signal or trace another one: EPERM. Needs PR_SET_NO_NEW_PRIVS. For good. */
MUST_CHECK bool sandbox_enter(struct status *st);

#endif
