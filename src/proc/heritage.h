/*
 * heritage.h - what a worker inherits from the supervisor: the whole contract. Nothing else survives the exec.
 *
 *   fd  what
 *   3   the listening FastCGI socket
 *   4   the one for writes, whose connections a worker takes only when it has a place (intake.h)
 *   5   the control segment (memfd)
 *   6   the channel: this worker's end of a SOCK_STREAM socketpair
 *   7   the data directory, O_RDONLY|O_DIRECTORY
 *   8   the configuration as the supervisor holds it: a sealed memfd with "key = value" lines, so that a worker started after a
 *       half-done edit of quire.conf still has the running configuration
 *   9   the model file of model_dir, read-only (/dev/null where there is none), so that all processes of a server have one model
 *   10  the page of API keys: a memfd that nobody but the supervisor can write (store/key_page.h)
 *   11  the pipe of the audit log, for whole lines (audit.h); the file itself is no worker's
 *   2   standard error: the log (a file the supervisor has open, or journald). When the supervisor reopens a file, it replaces
 *       its workers, new ones first, so that no worker needs the right to open it
 *
 * The provider process (provider.h) inherits less: its channel as 3, the configuration as 4, and standard error. argv: { "quired: provider", "--provider",
 * "<supervisor pid>" }; of the environment CREDENTIALS_DIRECTORY beside what tests set, because it reads keys that nobody else does.
 *
 * A worker's argv: { "quired: worker", "--worker", "<slot>", "<supervisor pid>" }. The environment is emptied but for
 * QUIRE_IO_FAULT and QUIRE_CLOCK_SHIFT, which only tests set.
 * The child sets PR_SET_PDEATHSIG to SIGKILL before exec (it survives exec of a binary without set-user-id), and the worker then
 * compares getppid() with the pid it was given, because its parent may have died before that. SIGPIPE, SIGINT and SIGHUP are
 * ignored, SIGTERM and SIGQUIT have their worker's meaning (finish and go, go), the mask is empty.
 */
#ifndef QUIRE_PROC_HERITAGE_H
#define QUIRE_PROC_HERITAGE_H

enum heritage_fd {
    HERITAGE_LISTEN = 3,
    HERITAGE_LISTEN_WRITES = 4,
    HERITAGE_CONTROL = 5,
    HERITAGE_CHANNEL = 6,
    HERITAGE_DATA = 7,
    HERITAGE_CONFIG = 8,
    HERITAGE_MODEL = 9,
    HERITAGE_KEYS = 10,
    HERITAGE_AUDIT = 11,
    HERITAGE_END = 12 /* descriptors from here on are closed */
};

enum provider_heritage_fd { PROVIDER_CHANNEL = 3, PROVIDER_CONFIG = 4 };

#endif
