/*
 * campaign_program.h - what the campaigns in C share: arguments, children that do the work, what they find, and the line at the end (tests/crash/campaign).
 *
 * Without arguments such a program takes its quickest form and is one of the unit tests; `--short` and `--long` are the campaign's forms. Work is done by
 * children, one item after the other: an item that ends its child (an assertion, a signal) is a fault, and another child goes on behind it.
 */
#ifndef QUIRE_TESTS_CAMPAIGN_PROGRAM_H
#define QUIRE_TESTS_CAMPAIGN_PROGRAM_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum campaign_kind { CAMPAIGN_LOST, CAMPAIGN_DUPLICATED, CAMPAIGN_WRONG, CAMPAIGN_KINDS };
enum { CAMPAIGN_WHAT_MAX = 320, CAMPAIGN_PATH_MAX = 256 };

struct campaign_sizes {
    uint64_t quick, short_form, long_form;
};

struct campaign {
    const char *name;
    uint64_t count; /* items wanted */
    uint64_t seed;
    unsigned jobs;
    bool quick;
    bool is_long;
    char place[CAMPAIGN_PATH_MAX]; /* a directory, removed at the end unless something was found */
    int place_fd;
    struct campaign_shared *shared;
    int64_t begun_us;
    /* Makes what was being done once more, in the place, for a look: called for the first findings, in the parent for those that a child died of. May be NULL. */
    void (*keep)(struct campaign *c, const uint64_t what[2], void *ctx);
    void *keep_ctx;
};

/* --count, --seed and --jobs override. Ends the program when the arguments are not these. */
void campaign_begin(struct campaign *c, int argc, char **argv, const char *name, const struct campaign_sizes *sizes);
/* Prints the last line and removes the place. Returns the exit code. */
int campaign_end(struct campaign *c);
bool campaign_interrupted(const struct campaign *c); /* by a signal: end soon */

/* One item, in a child. `dir_fd` is an empty directory of its own, made anew for each item. */
typedef void (*campaign_fn)(struct campaign *c, uint64_t item, int dir_fd, void *ctx);
int campaign_room(struct campaign *c); /* such a directory for the parent */
/* Items 0 .. count - 1, by c->jobs children. */
void campaign_run(struct campaign *c, uint64_t count, campaign_fn fn, void *ctx);

/* --- in the children, or in the parent when it does something itself --- */
/* What is being done, for the message should the child die of it. */
void campaign_doing(struct campaign *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
void campaign_doing_numbers(struct campaign *c, uint64_t first, uint64_t second); /* the same for c->keep */
void campaign_fault(struct campaign *c, enum campaign_kind kind, const char *fmt, ...) PRINTF_LIKE(3, 4);
void campaign_injected(struct campaign *c, uint64_t count);
void campaign_took(struct campaign *c, int64_t us); /* the worst is told at the end */
/* Whether this is seen for the first time, in whichever child. */
bool campaign_is_new(struct campaign *c, uint64_t hash);
/* Counts by name, for a line of their own: "from live checkpoint". */
void campaign_count(struct campaign *c, const char *what, uint64_t more);

/* A small fast generator. */
uint64_t campaign_random(uint64_t *state);

#endif
