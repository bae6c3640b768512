/*
 * sandbox.c - a worker's system calls.
 *
 * A worker runs as the same user as the supervisor, so mapping the arenas read-only protects them from a worker that errs, but
 * not from one that is broken into: it could open the files again, for writing. This filter takes that away. It is a list of what
 * is refused, not of what is allowed: its purpose is that no worker can change data or another process, and everything else goes
 * on working when a library below makes a new call. What it refuses:
 *
 *   files        opening for writing; creating, renaming, linking, removing, truncating; changing modes, owners and attributes
 *   processes    exec, fork (threads are allowed), kill (but of itself, for abort), ptrace and its kin
 *   detours      io_uring, which opens files past any filter; openat2 and clone3, whose flags a filter cannot see (for clone3 the
 *                answer is ENOSYS, after which the C library uses clone); calls of a foreign architecture
 */
#include "proc/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define SANDBOX_ARCH AUDIT_ARCH_X86_64
#define FOREIGN_BIT 0x40000000U /* the x32 calls */
#elif defined(__aarch64__)
#define SANDBOX_ARCH AUDIT_ARCH_AARCH64
#endif

#define WRITING_FLAGS (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)

/* Numbers that an architecture has not are left out. */
static const int refused[] = {
#ifdef SYS_creat
    SYS_creat,
    SYS_rename,
    SYS_unlink,
    SYS_rmdir,
    SYS_mkdir,
    SYS_link,
    SYS_symlink,
    SYS_mknod,
    SYS_chmod,
    SYS_chown,
    SYS_lchown,
    SYS_fork,
    SYS_vfork,
#endif
    SYS_openat2,
    SYS_truncate,
    SYS_ftruncate,
    SYS_fallocate,
    SYS_renameat2,
    SYS_unlinkat,
    SYS_mkdirat,
    SYS_linkat,
    SYS_symlinkat,
    SYS_mknodat,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_fchown,
    SYS_fchownat,
    SYS_setxattr,
    SYS_lsetxattr,
    SYS_fsetxattr,
    SYS_removexattr,
    SYS_lremovexattr,
    SYS_fremovexattr,
    SYS_execve,
    SYS_execveat,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_pidfd_open,
    SYS_pidfd_getfd,
    SYS_pidfd_send_signal,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
#ifdef SYS_renameat
    SYS_renameat,
#endif
};

enum { PROGRAM_MAX = 192 };

struct program {
    struct sock_filter code[PROGRAM_MAX];
    unsigned short len;
};

static void put(struct program *p, uint16_t code, uint32_t k, uint8_t if_true, uint8_t if_false) {
    if (p->len < PROGRAM_MAX) {
        p->code[p->len++] = (struct sock_filter){.code = code, .jt = if_true, .jf = if_false, .k = k};
    }
}

static void put_load(struct program *p, size_t offset) {
    put(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* The low word of an argument; both architectures are little-endian. */
static void put_load_argument(struct program *p, unsigned n) {
    put_load(p, offsetof(struct seccomp_data, args) + n * sizeof(uint64_t));
}

static void put_return(struct program *p, uint32_t action) {
    put(p, BPF_RET | BPF_K, action, 0, 0);
}

#define REFUSE (SECCOMP_RET_ERRNO | EPERM)
#define NOT_THERE (SECCOMP_RET_ERRNO | ENOSYS)

/* The call numbers are compared with the accumulator; what loads something else into it returns in either case. */
static void put_refuse(struct program *p, int call, uint32_t action) {
    put(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1);
    put_return(p, action);
}

/* Refused when argument n has one of the flags. */
static void put_refuse_flags(struct program *p, int call, unsigned n, uint32_t flags) {
    put(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 4);
    put_load_argument(p, n);
    put(p, BPF_JMP | BPF_JSET | BPF_K, flags, 0, 1);
    put_return(p, REFUSE);
    put_return(p, SECCOMP_RET_ALLOW);
}

/* Refused unless the first argument is `value`. */
static void put_allow_only(struct program *p, int call, uint32_t value) {
    put(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 4);
    put_load_argument(p, 0);
    put(p, BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0);
    put_return(p, REFUSE);
    put_return(p, SECCOMP_RET_ALLOW);
}

/* Threads, not processes. */
static void put_clone(struct program *p) {
    put(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)SYS_clone, 0, 4);
    put_load_argument(p, 0);
    put(p, BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0);
    put_return(p, REFUSE);
    put_return(p, SECCOMP_RET_ALLOW);
}

static void put_architecture(struct program *p) {
#ifdef SANDBOX_ARCH
    put_load(p, offsetof(struct seccomp_data, arch));
    put(p, BPF_JMP | BPF_JEQ | BPF_K, SANDBOX_ARCH, 1, 0);
    put_return(p, REFUSE);
#endif
    put_load(p, offsetof(struct seccomp_data, nr));
#ifdef FOREIGN_BIT
    put(p, BPF_JMP | BPF_JGE | BPF_K, FOREIGN_BIT, 0, 1);
    put_return(p, REFUSE);
#endif
}

static void build(struct program *p) {
    uint32_t self = (uint32_t)getpid();
    put_architecture(p);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        put_refuse(p, refused[i], REFUSE);
    }
    put_refuse(p, SYS_clone3, NOT_THERE);
    put_clone(p);
#ifdef SYS_open
    put_refuse_flags(p, SYS_open, 1, WRITING_FLAGS);
#endif
    put_refuse_flags(p, SYS_openat, 2, WRITING_FLAGS);
    put_allow_only(p, SYS_kill, self);
    put_allow_only(p, SYS_tgkill, self);
    put_refuse(p, SYS_tkill, REFUSE);
    put_return(p, SECCOMP_RET_ALLOW);
}

bool sandbox_enter(struct status *st) {
    struct program p = {.len = 0};
    build(&p);
    struct sock_fprog program = {.len = p.len, .filter = p.code};
    if (p.len == PROGRAM_MAX) {
        return status_set(st, STATUS_INTERNAL, "the sandbox's program is too long");
    }
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 || status_set_errno(st, errno, "cannot limit system calls");
}
