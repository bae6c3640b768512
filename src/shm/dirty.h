/*
 * dirty.h - which pages of a mapped file have changed, and a cut of them that stays as it was while the file goes on changing.
 *
 * A checkpoint wants a file as it is between two commits, and has no right to stop the commits for as long as copying takes. So the file's one writer says
 * dirty_touch before each store. It marks the page; and while a cut is under way, a page that the cut still wants is copied aside first. Those that
 * nobody touches are fetched from the map in small helpings, on the writer's own thread, between two commits.
 *
 *     cut           the pages changed since the cut before (or all) are wanted from now on, as they are now
 *     take ... take copies of wanted pages, in any order, each once, until there are none
 *     end           the cut is over; one that failed gives its pages back to the changed ones
 *
 * All calls are the writer's. A page is DIRTY_PAGE_BYTES, whatever the machine's own pages are.
 */
#ifndef QUIRE_SHM_DIRTY_H
#define QUIRE_SHM_DIRTY_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define DIRTY_PAGE_BYTES 4096

struct dirty_pages {
    /* bit sets, a bit per page */
    uint64_t *changed; /* since the last cut */
    uint64_t *wanted;  /* of the cut under way, not copied yet */
    uint64_t *cut;     /* of the cut under way, all */
    size_t words;      /* of each set */
    bool cutting;
    bool failed; /* a copy could not be made, or a page has no bit: the cut is worth nothing, and the next one takes all */
    size_t next; /* words of `wanted` before it are empty */
    struct dirty_copy *aside;
};

struct dirty_page {
    uint32_t number;
    uint8_t bytes[DIRTY_PAGE_BYTES];
};

void dirty_init(struct dirty_pages *d);
void dirty_fini(struct dirty_pages *d);
/* Makes sure that every page of a file of `bytes` has its bits. Called before the file grows. */
MUST_CHECK bool dirty_room(struct dirty_pages *d, uint64_t bytes, struct status *st);

void dirty_touch_page(struct dirty_pages *d, const uint8_t *base, size_t page);
/* Before [at, at + len) of the map that begins at `base` is stored to. d NULL: nobody asks. */
static inline void dirty_touch(struct dirty_pages *d, const uint8_t *base, const void *at, size_t len) {
    if (d == NULL || len == 0) {
        return;
    }
    size_t first = (size_t)((const uint8_t *)at - base) / DIRTY_PAGE_BYTES;
    size_t last = ((size_t)((const uint8_t *)at - base) + len - 1) / DIRTY_PAGE_BYTES;
    for (size_t page = first; page <= last; page++) {
        dirty_touch_page(d, base, page);
    }
}

/* Begins a cut of the first `used` bytes: of all their pages, or of those changed since the last cut that succeeded. */
void dirty_cut(struct dirty_pages *d, uint64_t used, bool all);
/* Copies up to `most` of the wanted pages. Returns how many; 0: there are none left. */
size_t dirty_take(struct dirty_pages *d, const uint8_t *base, struct dirty_page *out, size_t most);
/* Ends the cut. Returns whether it is whole; where it is not, or `ok` is false, its pages count as changed again. */
bool dirty_end(struct dirty_pages *d, bool ok);

#endif
