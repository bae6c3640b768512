/*
 * confine.c - see confine.h.
 *
 * The filter is a list of what is allowed, unlike that of a worker (proc/sandbox.c), which works with files: a process that only computes needs few calls,
 * so whatever a library below tries beyond them is refused with EPERM, which it takes as it takes any failure.
 */
#include "base/confine.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define CONFINE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define CONFINE_ARCH AUDIT_ARCH_AARCH64
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif

enum { NOBODY = 65534, PROGRAM_MAX = 128 };

static const int allowed[] = {
    /* descriptors that it has */
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_lseek, SYS_close, SYS_dup, SYS_fcntl, SYS_fstat, SYS_getdents64, SYS_ppoll,
#ifdef SYS_newfstatat
    SYS_newfstatat, /* what fstat is made of; it cannot open anything */
#endif
#ifdef SYS_poll
    SYS_poll,
#endif
    /* memory */
    SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_brk,
    /* time, waiting, randomness, itself */
    SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_futex, SYS_sched_yield, SYS_getrandom, SYS_getpid,
    SYS_gettid, SYS_getuid, SYS_geteuid, SYS_getrusage, SYS_sysinfo, SYS_sched_getaffinity, SYS_restart_syscall,
    /* signals and the end */
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack, SYS_exit, SYS_exit_group};

static bool limit(int what, uint64_t most, struct status *st) {
    struct rlimit now;
    if (getrlimit((__rlimit_resource_t)what, &now) != 0) {
        return status_set_errno(st, errno, "cannot read a limit");
    }
    rlim_t bound = now.rlim_max != RLIM_INFINITY && now.rlim_max < most ? now.rlim_max : (rlim_t)most;
    struct rlimit wanted = {.rlim_cur = bound, .rlim_max = bound};
    return setrlimit((__rlimit_resource_t)what, &wanted) == 0 || status_set_errno(st, errno, "cannot set a limit");
}

static bool set_limits(const struct confinement *c, struct status *st) {
#ifndef UNDER_SANITIZER
    if (!limit(RLIMIT_DATA, c->memory_bytes, st)) {
        return false;
    }
#endif
    return limit(RLIMIT_CORE, 0, st) && limit(RLIMIT_FSIZE, 0, st) && limit(RLIMIT_CPU, c->cpu_seconds, st);
}

static bool become_nobody(struct status *st) {
    if (geteuid() != 0) {
        return true;
    }
    return (setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0) ||
           status_set_errno(st, errno, "cannot give up the rights of root");
}

static bool filter_calls(struct status *st) {
    struct sock_filter code[PROGRAM_MAX];
    unsigned short n = 0;
    size_t count = sizeof allowed / sizeof allowed[0];
    _Static_assert(2 * sizeof allowed / sizeof allowed[0] + 8 < PROGRAM_MAX, "room for the program");
#ifdef CONFINE_ARCH
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CONFINE_ARCH, 1, 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
#endif
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < count; i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)allowed[i], 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    struct sock_fprog program = {.len = n, .filter = code};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 || status_set_errno(st, errno, "cannot limit system calls");
}

bool confine_self(const struct confinement *c, struct status *st) {
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return status_set_errno(st, errno, "cannot give up gaining rights");
    }
    return set_limits(c, st) && become_nobody(st) && filter_calls(st);
}
