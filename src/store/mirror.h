/*
 * mirror.h - inside store: an arena that is filled from another one, and then follows it. What compactions (compact.h) and exchanges of a model (exchange.h)
 * have in common.
 *
 *   source    the library that serves and is written by the committer
 *   target    a library that nobody finds by id, written by one thread that calls mirror_step; linkers, and embedders where it is of another model, get at it
 *
 * Documents are put into the target by the code that puts them when they are committed, in the order of their rows, so rows, records, ids, terms, columns and
 * graph come out as they would in a library that never had anything else. Rows keep the LSN of their creation. A document that has lost chunks is written
 * without them, as a snapshot writes it: the chunks behind move up by one place.
 *
 * Commits go on meanwhile:
 *   - new documents have higher rows, and are copied when their turn comes;
 *   - a deletion is noted, after its rows were marked. A copy either sees the mark, or the note comes to it.
 * So what is left at any moment is what came in since the step before, and a switch between two commits has little to do.
 *
 * Which row of the one is which of the other: rows and slots are lists with an element for each row (slot) of the side that is copied into. While the target
 * is built that side is the target, and both are ascending, because copying is in order; they are searched by halving. After an exchange has switched,
 * source and target change places (mirror_invert): the lists then have an element for each row of the source, ROW_NONE where the target has none.
 */
#ifndef QUIRE_STORE_MIRROR_H
#define QUIRE_STORE_MIRROR_H

#include "store/library_internal.h"
#include "store/other_vectors.h"

/* A growing list of numbers. */
struct numbers {
    uint32_t *at;
    uint32_t count;
    uint32_t room;
};

struct mirror {
    struct catalog *catalog;
    struct library *source;
    struct library *target;
    struct texts *texts; /* of the thread that writes the target */
    struct deletions deletions;
    struct deletion *taken; /* out of deletions */
    size_t taken_room;
    bool ended;
    bool same_model; /* the target takes the source's vectors */
    bool inverted;
    uint32_t next_row;      /* of the source's documents */
    struct numbers rows;    /* see above */
    struct numbers slots;   /* likewise */
    struct numbers living;  /* slots of the document at hand */
    struct numbers missing; /* same_model: slots of the target that were copied without a vector */
    uint32_t rows_left;     /* at the last step */
    uint32_t looked_at;     /* slots of the source whose record was asked for its length */
    uint32_t longest;       /* record of these */
    struct buf bytes;       /* a document that is written anew, or a definition */
    float *vectors;
    size_t vectors_room; /* numbers */
    struct other_vectors *old; /* what lies there and may have vectors for the target; or NULL */
    uint64_t reused; /* vectors that were found in them */
};

/* d: of the target, its model that which the target is for. suffix: behind the name of its directory, until it is switched to. On failure mirror_fini. */
MUST_CHECK bool mirror_init(struct mirror *m, struct catalog *c, struct library *source, const struct library_definition *d, const char *suffix,
                            struct status *st);
/* The target is removed, when the last background thread has let go of it. */
void mirror_fini(struct mirror *m);
/* From now on deletions are noted, and background threads work on the target. The committer's thread, as the next three. */
void mirror_begin(struct mirror *m);
void mirror_end(struct mirror *m); /* nobody gets at the target any more; mirror_fini lets go of it, files and all */
/* Copies all that is left. On failure the mirror can only be ended. */
MUST_CHECK bool mirror_finish(struct mirror *m, struct status *st);
/* The target has taken the source's place in the catalog, and goes on as the source. */
MUST_CHECK bool mirror_may_invert(struct mirror *m, struct status *st); /* before: what can fail. Any thread may have done most of it */
void mirror_invert(struct mirror *m);

/* What the target has so far becomes what background threads see. Its own thread's. */
void mirror_show(struct mirror *m);
/* Copies up to so many documents. *ret_more: there are others. */
MUST_CHECK bool mirror_step(struct mirror *m, uint32_t documents, bool *ret_more, struct status *st);
/* Little is left to copy. */
bool mirror_is_close(struct mirror *m);
/* Its graph leaves not much more to be scanned than a graph does while commits go on. */
bool mirror_is_linked(struct mirror *m);
void mirror_progress(struct mirror *m, uint64_t *ret_copied, uint64_t *ret_linked);

/* The definition of the library as the committer sees it (or as `view` says). Slices point into its arena. */
MUST_CHECK bool library_present_definition(const struct library *lib, const struct library_view *view, struct library_definition *ret,
                                           struct status *st);
/* STATUS_NO_SPACE unless an arena of the library's living content with that dimension fits beside it. */
MUST_CHECK bool library_side_fits(struct library *lib, uint32_t dimension, struct status *st);

#endif
