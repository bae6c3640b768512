/*
 * fiber.c - see fiber.h.
 *
 * By ucontext, which POSIX once had and every libc of Linux that we build on still has. A switch costs one system call (rt_sigprocmask); what it saves, a process
 * that sleeps and is woken, costs many. Sanitizers are told of each switch, since they keep notes on stacks.
 */
#include "proc/fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifdef UNDER_ASAN
#include <sanitizer/common_interface_defs.h>
#define STACK_BYTES ((size_t)2 << 20)
#else
#define STACK_BYTES ((size_t)512 << 10)
#endif

struct fiber {
    ucontext_t here, owner;
    uint8_t *memory; /* the untouchable page, then the stack */
    size_t memory_bytes;
    size_t guard_bytes;
    fiber_fn fn;
    void *arg;
    bool ended;
#ifdef UNDER_ASAN
    void *own_stack; /* of the sanitizer */
    void *owner_stack;
    const void *owner_bottom;
    size_t owner_bytes;
#endif
};

static void to_owner(struct fiber *f) {
#ifdef UNDER_ASAN
    __sanitizer_start_switch_fiber(&f->own_stack, f->owner_bottom, f->owner_bytes);
#endif
    (void)swapcontext(&f->here, &f->owner);
#ifdef UNDER_ASAN
    __sanitizer_finish_switch_fiber(f->own_stack, &f->owner_bottom, &f->owner_bytes);
#endif
}

static void to_fiber(struct fiber *f) {
#ifdef UNDER_ASAN
    __sanitizer_start_switch_fiber(&f->owner_stack, f->memory + f->guard_bytes, STACK_BYTES);
#endif
    (void)swapcontext(&f->owner, &f->here);
#ifdef UNDER_ASAN
    __sanitizer_finish_switch_fiber(f->owner_stack, NULL, NULL);
#endif
}

/* makecontext hands over ints only. */
static void run(unsigned high, unsigned low) {
    struct fiber *f = (struct fiber *)((uintptr_t)high << 32 | (uintptr_t)low);
#ifdef UNDER_ASAN
    __sanitizer_finish_switch_fiber(NULL, &f->owner_bottom, &f->owner_bytes);
#endif
    for (;;) {
        f->fn(f->arg);
        f->ended = true;
        to_owner(f);
    }
}

bool fiber_new(struct fiber **ret, struct status *st) {
    struct fiber *f = (struct fiber *)calloc(1, sizeof *f);
    if (f == NULL) {
        return status_no_memory(st);
    }
    f->guard_bytes = (size_t)sysconf(_SC_PAGESIZE);
    f->memory_bytes = f->guard_bytes + STACK_BYTES;
    void *memory = mmap(NULL, f->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) {
        free(f);
        return status_no_memory(st);
    }
    f->memory = (uint8_t *)memory;
    if (mprotect(f->memory, f->guard_bytes, PROT_NONE) != 0 || getcontext(&f->here) != 0) {
        fiber_free(f);
        return status_no_memory(st);
    }
    f->here.uc_stack.ss_sp = f->memory + f->guard_bytes;
    f->here.uc_stack.ss_size = STACK_BYTES;
    f->here.uc_link = NULL;
    makecontext(&f->here, (void (*)(void))run, 2, (unsigned)((uint64_t)(uintptr_t)f >> 32), (unsigned)(uintptr_t)f);
    *ret = f;
    return true;
}

void fiber_free(struct fiber *f) {
    if (f == NULL) {
        return;
    }
    (void)munmap(f->memory, f->memory_bytes);
    free(f);
}

bool fiber_start(struct fiber *f, fiber_fn fn, void *arg) {
    f->fn = fn;
    f->arg = arg;
    return fiber_resume(f);
}

bool fiber_resume(struct fiber *f) {
    f->ended = false;
    to_fiber(f);
    return f->ended;
}

void fiber_pause(struct fiber *f) {
    to_owner(f);
}
