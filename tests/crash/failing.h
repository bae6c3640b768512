/*
 * failing.h - something fails while a server does something: what the campaigns "memory" and "seam-errors" share. They say what is made to fail; this says
 * what must hold:
 *
 *   - nothing crashes, and nothing leaks (children end by exit, where ASan looks)
 *   - what fails says so, and leaves the libraries as they were; what succeeds has its whole effect
 *   - when nothing fails any more, the same thing succeeds, in the same process; only a log that has met an error which room or memory does not heal asks for a
 *     start
 *   - after a kill and a start everything that was acknowledged is there, and nothing that was not begun
 */
#ifndef QUIRE_TESTS_FAILING_H
#define QUIRE_TESTS_FAILING_H

#include "judge.h"
#include "specimen.h"

enum failing_deed {
    DEED_BATCHES,  /* over segments of the log, with libraries that come and go */
    DEED_LIVE,     /* a live checkpoint, with commits between its steps */
    DEED_SNAPSHOT, /* one that rests on another */
    DEED_COMPACT,
    DEED_REBUILD,
    DEED_EXCHANGE, /* of a model, there and back */
    DEED_BACKGROUND, /* missing vectors, links */
    DEED_STOP,
    DEED_START_LIVE,
    DEED_START_CLOSED,
    DEED_START_ARCHIVED,
    DEEDS
};
extern const char *const failing_deed_names[DEEDS];

struct failing {
    struct specimen live, closed, archived;
    /* What begins and ends the failing; called around the deed. */
    void (*begin)(void *ctx);
    void (*end)(void *ctx);
    void *ctx;
    void (*own_work)(bool begins); /* see durable_server.h */
};

enum failing_outcome {
    OUTCOME_ANY,    /* it may fail */
    OUTCOME_HEALS,  /* it may, but not so that the log needs a start */
    OUTCOME_SUCCESS /* it may not */
};

void failing_collect(struct failing *f);
void failing_fini(struct failing *f);
/* The deed once, with its failing, on a directory of its own. closely: all files are looked at afterwards. */
void failing_run(struct campaign *c, struct failing *f, enum failing_deed deed, enum failing_outcome outcome, bool closely, int dir_fd);

#endif
