/*
 * campaign_program.c - see campaign_program.h.
 *
 * What children find stands in memory that they share with the parent. The parent only forks and waits, so a child that dies at any instruction takes
 * nothing with it; no lock is ever held across an item.
 */
#include "campaign_program.h"

#include "base/clock.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { JOBS_MAX = 8, JOBS_PRESET = 2, SHOWN = 30, COUNTS_MAX = 24, COUNT_NAME_MAX = 48, SEEN_MAX = 1 << 19, US_PER_MS = 1000 };
#define US_PER_S 1e6

struct count {
    char name[COUNT_NAME_MAX];
    uint64_t value;
};

struct campaign_shared {
    /* atomic */
    uint64_t next; /* item */
    uint64_t injections;
    uint64_t faults[CAMPAIGN_KINDS];
    int64_t worst_us;
    uint64_t seen[SEEN_MAX]; /* open addressing, 0: free */
    /* each child its own, read by the parent when the child has ended */
    char doing[JOBS_MAX + 1][CAMPAIGN_WHAT_MAX];
    uint64_t numbers[JOBS_MAX + 1][2];
    struct count counts[JOBS_MAX + 1][COUNTS_MAX];
};

static const char *const kind_names[CAMPAIGN_KINDS] = {"lost", "duplicated", "wrong"};
static unsigned me = JOBS_MAX; /* which child this is; JOBS_MAX: the parent */
static volatile sig_atomic_t interrupted;

static void on_signal(int number) {
    (void)number;
    interrupted = 1;
}

_Noreturn static void die(const char *what) {
    (void)fprintf(stderr, "campaign: %s: %s\n", what, strerror(errno));
    exit(2);
}

uint64_t campaign_random(uint64_t *state) {
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* --- what is found --- */

PRINTF_LIKE(2, 0)
static void say(const char *first, const char *fmt, va_list args) {
    (void)printf("%s", first);
    (void)vprintf(fmt, args);
    (void)printf("\n");
    (void)fflush(stdout);
}

void campaign_doing(struct campaign *c, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(c->shared->doing[me], CAMPAIGN_WHAT_MAX, fmt, args);
    va_end(args);
}

void campaign_doing_numbers(struct campaign *c, uint64_t first, uint64_t second) {
    c->shared->numbers[me][0] = first;
    c->shared->numbers[me][1] = second;
}

static void keep(struct campaign *c, unsigned child) {
    if (c->keep != NULL) {
        c->keep(c, c->shared->numbers[child], c->keep_ctx);
    }
}

static bool note_fault(struct campaign *c, enum campaign_kind kind) {
    (void)__atomic_add_fetch(&c->shared->faults[kind], 1, __ATOMIC_RELAXED);
    uint64_t all = 0;
    for (int i = 0; i < CAMPAIGN_KINDS; i++) {
        all += __atomic_load_n(&c->shared->faults[i], __ATOMIC_RELAXED);
    }
    return all <= SHOWN;
}

void campaign_fault(struct campaign *c, enum campaign_kind kind, const char *fmt, ...) {
    if (note_fault(c, kind)) {
        char first[CAMPAIGN_WHAT_MAX + 32];
        va_list args;
        (void)snprintf(first, sizeof first, "%s: %s: ", kind_names[kind], c->shared->doing[me]);
        va_start(args, fmt);
        say(first, fmt, args);
        va_end(args);
        keep(c, me);
    }
}

void campaign_injected(struct campaign *c, uint64_t count) {
    (void)__atomic_add_fetch(&c->shared->injections, count, __ATOMIC_RELAXED);
}

void campaign_took(struct campaign *c, int64_t us) {
    int64_t worst = __atomic_load_n(&c->shared->worst_us, __ATOMIC_RELAXED);
    while (us > worst &&
           !__atomic_compare_exchange_n(&c->shared->worst_us, &worst, us, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        /* somebody else was slower meanwhile, or was not */
    }
}

bool campaign_is_new(struct campaign *c, uint64_t hash) {
    uint64_t key = hash != 0 ? hash : 1;
    for (size_t i = (size_t)(key % SEEN_MAX), tried = 0; tried < SEEN_MAX; i = (i + 1) % SEEN_MAX, tried++) {
        uint64_t there = 0;
        if (__atomic_compare_exchange_n(&c->shared->seen[i], &there, key, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            return true;
        }
        if (there == key) {
            return false;
        }
    }
    return true;
}

void campaign_count(struct campaign *c, const char *what, uint64_t more) {
    for (size_t i = 0; i < COUNTS_MAX; i++) {
        struct count *count = &c->shared->counts[me][i];
        if (count->name[0] == '\0') {
            (void)snprintf(count->name, sizeof count->name, "%s", what);
        }
        if (strcmp(count->name, what) == 0) {
            count->value += more;
            return;
        }
    }
}

/* --- children --- */

static int make_room(struct campaign *c, unsigned child) {
    char name[16];
    struct status st;
    int fd = -1;
    (void)snprintf(name, sizeof name, "%u", child);
    if (!io_remove_tree(c->place_fd, name, &st) || !io_mkdir_at(c->place_fd, name, 0700, &st) ||
        !io_open_at(c->place_fd, name, O_RDONLY | O_DIRECTORY, 0, &fd, &st)) {
        (void)fprintf(stderr, "campaign: %s\n", st.detail);
        exit(2);
    }
    return fd;
}

int campaign_room(struct campaign *c) {
    return make_room(c, JOBS_MAX);
}

_Noreturn static void work(struct campaign *c, unsigned child, uint64_t count, campaign_fn fn, void *ctx) {
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    me = child;
    for (;;) {
        uint64_t item = __atomic_fetch_add(&c->shared->next, 1, __ATOMIC_RELAXED);
        if (item >= count) {
            break;
        }
        int dir_fd = make_room(c, child);
        campaign_doing(c, "item %" PRIu64, item);
        fn(c, item, dir_fd, ctx);
        io_close(&dir_fd);
    }
    exit(0); /* not at once: so that a sanitizer tells what was lost */
}

static pid_t start_child(struct campaign *c, unsigned child, uint64_t count, campaign_fn fn, void *ctx) {
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        die("fork");
    }
    if (pid == 0) {
        work(c, child, count, fn, ctx);
    }
    return pid;
}

static void tell_death(struct campaign *c, unsigned child, int how) {
    if (note_fault(c, CAMPAIGN_WRONG)) {
        (void)printf("wrong: %s: the child ended with %s %d\n", c->shared->doing[child], WIFSIGNALED(how) ? "signal" : "code",
                     WIFSIGNALED(how) ? WTERMSIG(how) : WEXITSTATUS(how));
        keep(c, child);
    }
}

static void end_children(const pid_t *children, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        if (children[i] > 0) {
            (void)kill(children[i], SIGKILL);
            (void)waitpid(children[i], NULL, 0);
        }
    }
}

void campaign_run(struct campaign *c, uint64_t count, campaign_fn fn, void *ctx) {
    pid_t children[JOBS_MAX] = {0};
    unsigned alive = 0;
    c->shared->next = 0;
    for (unsigned i = 0; i < c->jobs && i < count; i++) {
        children[i] = start_child(c, i, count, fn, ctx);
        alive++;
    }
    while (alive > 0 && interrupted == 0) {
        int how = 0;
        pid_t pid = waitpid(-1, &how, 0);
        for (unsigned i = 0; pid > 0 && i < c->jobs; i++) {
            if (children[i] != pid) {
                continue;
            }
            children[i] = 0;
            alive--;
            if (WIFSIGNALED(how) || WEXITSTATUS(how) != 0) {
                tell_death(c, i, how);
                if (__atomic_load_n(&c->shared->next, __ATOMIC_RELAXED) < count) {
                    children[i] = start_child(c, i, count, fn, ctx);
                    alive++;
                }
            }
        }
    }
    end_children(children, c->jobs);
}

/* --- the whole --- */

static uint64_t number(const char *text) {
    char *end = NULL;
    uint64_t value = text != NULL ? strtoull(text, &end, 10) : 0;
    if (end == NULL || end == text || *end != '\0') {
        (void)fprintf(stderr, "usage: [--short | --long] [--count N] [--seed N] [--jobs N]\n");
        exit(2);
    }
    return value;
}

static void read_arguments(struct campaign *c, int argc, char **argv, const struct campaign_sizes *sizes) {
    c->quick = argc == 1;
    c->count = sizes->quick;
    c->jobs = JOBS_PRESET;
    c->seed = c->quick ? 1 : (uint64_t)clock_wall_us();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--short") == 0) {
            c->count = sizes->short_form;
        } else if (strcmp(argv[i], "--long") == 0) {
            c->count = sizes->long_form;
            c->is_long = true;
        } else {
            uint64_t *value = strcmp(argv[i], "--count") == 0 ? &c->count : strcmp(argv[i], "--seed") == 0 ? &c->seed : NULL;
            uint64_t given = number(argv[i + 1 < argc ? i + 1 : argc]);
            if (value != NULL) {
                *value = given;
            } else if (strcmp(argv[i], "--jobs") == 0 && given > 0 && given <= JOBS_MAX) {
                c->jobs = (unsigned)given;
            } else {
                (void)number(NULL);
            }
            i++;
        }
    }
}

static void make_place(struct campaign *c) {
    const char *base = getenv("TMPDIR");
    const char *preset = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(c->place, sizeof c->place, "%s/quire-campaign-XXXXXX", base != NULL && base[0] != '\0' ? base : preset);
    if (mkdtemp(c->place) == NULL) {
        die(c->place);
    }
    c->place_fd = open(c->place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->place_fd < 0 || setenv("TMPDIR", c->place, 1) != 0) { /* so that whatever is made lies below it */
        die(c->place);
    }
}

void campaign_begin(struct campaign *c, int argc, char **argv, const char *name, const struct campaign_sizes *sizes) {
    const struct sigaction stop = {.sa_handler = on_signal};
    const struct rlimit no_core = {0};
    *c = (struct campaign){.name = name, .begun_us = clock_monotonic_us()};
    read_arguments(c, argc, argv, sizes);
    c->shared = (struct campaign_shared *)mmap(NULL, sizeof *c->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (c->shared == MAP_FAILED) {
        die("mmap");
    }
    (void)sigaction(SIGINT, &stop, NULL);
    (void)sigaction(SIGTERM, &stop, NULL);
    /* An assertion of cmocka's outside its own tests says what it is, and ends the child. */
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
    make_place(c);
    (void)printf("%s: %" PRIu64 " wanted, seed %" PRIu64 ", in %s\n", name, c->count, c->seed, c->place);
}

bool campaign_interrupted(const struct campaign *c) {
    (void)c;
    return interrupted != 0;
}

/* Adds the children's counts up in the parent's. */
static void tell_counts(struct campaign *c) {
    for (unsigned child = 0; child < JOBS_MAX; child++) {
        for (size_t i = 0; i < COUNTS_MAX && c->shared->counts[child][i].name[0] != '\0'; i++) {
            campaign_count(c, c->shared->counts[child][i].name, c->shared->counts[child][i].value);
        }
    }
    for (size_t i = 0; i < COUNTS_MAX && c->shared->counts[JOBS_MAX][i].name[0] != '\0'; i++) {
        (void)printf("%12" PRIu64 "  %s\n", c->shared->counts[JOBS_MAX][i].value, c->shared->counts[JOBS_MAX][i].name);
    }
}

int campaign_end(struct campaign *c) {
    struct campaign_shared *s = c->shared;
    struct status st;
    bool bad = interrupted != 0 || s->injections == 0;
    bool keep = false;
    for (int i = 0; i < CAMPAIGN_KINDS; i++) {
        keep = keep || s->faults[i] > 0;
    }
    tell_counts(c);
    double took = (double)(clock_monotonic_us() - c->begun_us) / US_PER_S;
    (void)printf("%" PRIu64 " in %.1f s, %.0f a second\n", s->injections, took, (double)s->injections / took);
    if (keep && interrupted == 0) {
        (void)printf("seed %" PRIu64 "; see %s\n", c->seed, c->place);
    } else if (!io_remove_tree(AT_FDCWD, c->place, &st)) {
        (void)printf("%s\n", st.detail);
        bad = true;
    }
    io_close(&c->place_fd);
    (void)printf("campaign %s injections=%" PRIu64 " lost=%" PRIu64 " duplicated=%" PRIu64 " wrong=%" PRIu64 " worst_ms=%" PRId64 "\n", c->name,
                 s->injections, s->faults[CAMPAIGN_LOST], s->faults[CAMPAIGN_DUPLICATED], s->faults[CAMPAIGN_WRONG],
                 s->worst_us / US_PER_MS);
    (void)munmap(s, sizeof *s);
    return bad || keep ? 1 : 0;
}
