/*
 * mapfile.h - files that are mapped whole and grow while others read them.
 *
 * A file grows by posix_fallocate before anything is stored in the new room, so a full disk is a clean STATUS_NO_SPACE and never a
 * SIGBUS, and is never shrunk while it is mapped.
 *
 * Addresses: a map has more room than its file, and growth within it maps nothing. Beyond it, the file is mapped anew with at least
 * twice the room, `base` is published with release, and the old map stays valid (the same pages of the same file) until
 * mapfile_close: so a thread that still holds an older base goes on safely without any lock. Only one thread at a time grows a
 * mapfile (its owner's business). Whoever reads or stores behind `size` is ended by SIGBUS.
 *
 * A reading process maps the file read-only and calls mapfile_refresh when it learns that more of it is in use. It touches only
 * what its writer has told it of: the rest of the file may go away again, when a growth fails half-way.
 */
#ifndef QUIRE_SHM_MAPFILE_H
#define QUIRE_SHM_MAPFILE_H

#include "base/status.h"

#include <stddef.h>

#define MAPFILE_MAX_MAPS 40
/* Larger files are refused (64 TiB): it keeps every sum of sizes far from overflow. */
#define MAPFILE_MAX_BYTES (UINT64_C(1) << 46)
/* The first map has this much room, or four times the file. A unit test compiles mapfile.c with a small one. */
#ifndef MAPFILE_FIRST_ROOM
#define MAPFILE_FIRST_ROOM (UINT64_C(64) << 20)
#endif

/*
 * What size the pages have in which a file is in memory, where the kernel leaves a choice (ext4 since Linux 6.16, tmpfs).
 *
 * Huge ones make searches that go to a thousand places far apart twice as fast, as most of what these wait for are page tables. But a byte that is stored
 * makes the whole page one that must be written back: with 32 stores at places far apart 64 MiB go to the disk instead of 128 KiB. So they are for what a
 * search walks through, and only there.
 */
enum mapfile_pages { MAPFILE_SMALL_PAGES, MAPFILE_HUGE_PAGES };
/* false: small ones for all that this process maps from now on. At its start true. */
void mapfile_use_huge_pages(bool use);

struct mapfile {
    int fd;
    bool writable;
    enum mapfile_pages pages;
    uint64_t size;        /* bytes allocated; written by the growing thread after base (release), read with acquire */
    uint8_t *base;        /* likewise; pairs with: MAPFILE_BASE */
    uint64_t ahead;       /* the kernel reads ahead below it */
    struct {
        uint8_t *addr;
        size_t room;
    } maps[MAPFILE_MAX_MAPS]; /* all that were ever made; the last is in use */
    unsigned map_count;
    char name[64];        /* for messages */
};

/* A closed mapfile, safe to close again. */
#define MAPFILE_CLOSED ((struct mapfile){.fd = -1})

/* Creates (must not exist) a file of `size` allocated bytes, zeros, mapped read-write. */
MUST_CHECK bool mapfile_create(struct mapfile *m, int dir_fd, const char *name, enum mapfile_pages pages, uint64_t size, struct status *st);
/* Opens an existing one. A missing file is STATUS_NOT_FOUND. A writable one is allocated whole, so a file that was copied with holes
 * is either filled or refused with STATUS_NO_SPACE. */
MUST_CHECK bool mapfile_open(struct mapfile *m, int dir_fd, const char *name, enum mapfile_pages pages, bool writable, struct status *st);
/* The writer's: what lies before is in use, nothing from there on. That comes into memory a page at a time, as all room does that a file is made with and grows by: reading
 * ahead would only fill memory with zeros, up to 8 MiB of them before the first store is done. Of a file
 * that has grown since, most is read ahead again: this is called for one that has doubled. Takes a closed one. */
void mapfile_unused_from(struct mapfile *m, uint64_t at);
/* At least `size` bytes allocated, in a map. Grows by a quarter of the present size or by `step` bytes, whichever is more, to a
 * whole page. When that does not fit on the disk, tries just `size`. On failure nothing has changed. */
MUST_CHECK bool mapfile_grow(struct mapfile *m, uint64_t size, uint64_t step, struct status *st);
/* Reader: make at least `size` bytes visible. STATUS_CORRUPT when the file is shorter. */
MUST_CHECK bool mapfile_refresh(struct mapfile *m, uint64_t size, struct status *st);
static inline uint8_t *mapfile_base(const struct mapfile *m) {
    return (uint8_t *)__atomic_load_n(&m->base, __ATOMIC_ACQUIRE); /* pairs with: MAPFILE_BASE */
}
/* Flushes [0, used) to disk. */
MUST_CHECK bool mapfile_sync(struct mapfile *m, uint64_t used, struct status *st);
void mapfile_close(struct mapfile *m);

#endif
