/*
 * import_pdf.c - see import_pdf.h.
 *
 * A PDF may be anybody's, and pdftotext is large: it runs as a process of its own, without a shell, with an environment of two variables, and bounded: memory, processor time,
 * time by the clock, no file that it could write, and so many bytes of text. Whatever becomes of it, this import goes on with the next file.
 */
#include "cli/import_pdf.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TEXT_MAX = 64 * 1024 * 1024, CPU_SECONDS = 60, WALL_MS = 120000, PATH_ROOM = 4096 };
#define MEMORY_MAX ((rlim_t)2 * 1024 * 1024 * 1024)

static char program[PATH_ROOM];
static pthread_once_t looked = PTHREAD_ONCE_INIT;

static void look(void) {
    const char *at = getenv("PATH");
    while (at != NULL && *at != '\0') {
        size_t len = strcspn(at, ":");
        if (len > 0 && at[0] == '/' && snprintf(program, sizeof program, "%.*s/pdftotext", (int)len, at) < (int)sizeof program && access(program, X_OK) == 0)
            return;
        at += len + (at[len] == ':' ? 1 : 0);
    }
    program[0] = '\0';
}

bool import_pdf_available(void) {
    pthread_once(&looked, look);
    return program[0] != '\0';
}

static void limit(int what, rlim_t value) {
    struct rlimit r = {.rlim_cur = value, .rlim_max = value};
    (void)setrlimit((__rlimit_resource_t)what, &r);
}

/* In the child: only calls that are safe between fork and exec. */
static _Noreturn void become(char *name, char *file, int out) {
    static char locale[] = "LC_ALL=C.UTF-8", search[] = "PATH=/usr/bin:/bin";
    static char quiet[] = "-q", encoding[] = "-enc", utf8[] = "UTF-8", standard[] = "-";
    char *environment[] = {locale, search, NULL};
    char *arguments[] = {name, quiet, encoding, utf8, file, standard, NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    limit(RLIMIT_AS, MEMORY_MAX);
    limit(RLIMIT_CPU, CPU_SECONDS);
    limit(RLIMIT_FSIZE, 0);
    limit(RLIMIT_CORE, 0);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(null, STDERR_FILENO) < 0)
        _exit(126);
    execve(name, arguments, environment);
    _exit(127);
}

/* Everything that it writes, until it ends, has written too much, or takes too long. */
static bool collect(int fd, struct buf *out, struct status *st) {
    int64_t deadline = clock_monotonic_us() + (int64_t)WALL_MS * 1000;
    size_t begin = out->len;
    char block[65536];
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = (deadline - clock_monotonic_us()) / 1000;
        int ready = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return status_set(st, STATUS_INVALID, "pdftotext took longer than %d seconds", WALL_MS / 1000);
        ssize_t n = read(fd, block, sizeof block);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 || status_set_errno(st, errno, "the output of pdftotext");
        for (ssize_t i = 0; i < n; i++)
            buf_put_u8(out, block[i] == '\f' ? '\n' : (uint8_t)block[i]);
        if (out->len - begin > TEXT_MAX)
            return status_set(st, STATUS_TOO_LARGE, "its text is longer than %d MiB", TEXT_MAX >> 20);
        if (!buf_check(out, st))
            return false;
    }
}

bool import_pdf_text(const char *path, struct buf *out, struct status *st) {
    char name[PATH_ROOM], file[PATH_ROOM]; /* the child may only use what is there */
    int ends[2], how = 0;
    if (!import_pdf_available())
        return status_set(st, STATUS_INVALID, "pdftotext is not there (Debian: poppler-utils)");
    (void)snprintf(name, sizeof name, "%s", program);
    if (path[0] != '/' || snprintf(file, sizeof file, "%s", path) >= (int)sizeof file)
        return status_set(st, STATUS_INVALID, "the path is too long");
    if (pipe2(ends, O_CLOEXEC) != 0)
        return status_set_errno(st, errno, "pipe");
    pid_t pid = fork();
    if (pid == 0)
        become(name, file, ends[1]);
    close(ends[1]);
    if (pid < 0) {
        (void)status_set_errno(st, errno, "fork");
        close(ends[0]);
        return false;
    }
    bool ok = collect(ends[0], out, st);
    close(ends[0]);
    if (!ok)
        (void)kill(pid, SIGKILL);
    while (waitpid(pid, &how, 0) < 0 && errno == EINTR) {
    }
    if (!ok)
        return false;
    if (WIFSIGNALED(how))
        return status_set(st, STATUS_INVALID, "pdftotext was ended by signal %d: it needed too much, or has a fault", WTERMSIG(how));
    return WEXITSTATUS(how) == 0 || status_set(st, STATUS_INVALID, "pdftotext cannot read it (exit code %d): it is damaged, or wants a password", WEXITSTATUS(how));
}
