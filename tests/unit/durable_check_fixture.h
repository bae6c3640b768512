/* durable_check_fixture.h - a stopped server's data directory with something of everything, and ways to damage it, for the tests of the check. */
#ifndef QUIRE_TESTS_DURABLE_CHECK_FIXTURE_H
#define QUIRE_TESTS_DURABLE_CHECK_FIXTURE_H

#include "durable_server.h"

#include "durable/check.h"
#include "durable/checkpoint.h"

/*
 * Two libraries. The first: 40 documents "d<n>" of three chunks "d<n>/<i>", slots 3n to 3n + 2, with tags, metadata and a graph; then d5 and d11 are deleted,
 * d9 replaced (document row 40, slots 120 to 122), chunk d7/1 (slot 22) deleted, all after they were linked. Then d40 is added, which is not linked (slots from UNLINKED_SLOT on). The second: flat, with the caller's
 * vectors. A snapshot in the middle, several log segments behind it, stopped in order.
 */
enum {
    CHECKED_DOCUMENTS = 40,
    CHUNKS_OF_ONE = 3,
    DEAD_DOCUMENT = 5,
    DEAD_SLOT = DEAD_DOCUMENT * CHUNKS_OF_ONE,
    LIVE_SLOT = 6,
    LIVE_ROW = 2,
    UNLINKED_SLOT = (CHECKED_DOCUMENTS + 1) * CHUNKS_OF_ONE
};

struct stopped {
    struct server server;
    struct checkpoint checkpoint;
    const struct checkpoint_library *saved; /* of the first library */
    char directory[80];                     /* "vectors/<id>" of it */
    uint64_t digest;                        /* of what the catalog had */
    uint32_t chunks;
};

void stopped_make(struct stopped *s);
/* The same, still running: write more with stopped_commit, then stopped_stop. */
void stopped_begin(struct stopped *s);
void stopped_stop(struct stopped *s);
void stopped_remove(struct stopped *s);

void stopped_commit(struct server *s, const struct buf *op);
/* Links all of the first library. */
void stopped_link(struct server *s);
/* A record that is no op, right behind the last. */
void stopped_log_garbage(struct server *s);

/* "vectors/<id>/<name>" */
void stopped_path(const struct stopped *s, const char *name, char out[128]);
/* Has the checkpoint file name another view. */
void stopped_set_view(struct stopped *s, const struct library_view *view);

/* --- one for all tests of a program --- */
extern struct stopped stopped; /* each test leaves it as it found it */
int make_stopped(void **state);
int remove_stopped(void **state);
struct check_report stopped_check(const struct stopped *s, bool skip_sums);
void must_be_sound(const struct stopped *s);
/* Some fault is of this part, in this file, and says `mentions`; none is of a part that is not named (`also`: a bit each). Else it complains and goes
 * on, so that what was damaged is put back; no_complaints, as a test's teardown, fails. */
#define ALSO(part) (1U << (part))
void must_find(const char *label, bool skip_sums, enum check_part part, unsigned also, const char *file, const char *mentions);
int no_complaints(void **state);

#endif
