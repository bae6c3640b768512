/*
 * disk.h - what a disk may hold after a power loss: a recorder of all changes that go through the I/O seam, and directories made from any moment of its
 * trace.
 *
 * The recorder (disk_record.c) watches the seam. It keeps, in their order, each changed page of 4096 bytes, each change of a file's size, each change
 * of names, and each sync. Stores into shared maps pass no seam, so before each call the mapped files are compared with what they were; what differs is
 * a change of that moment.
 *
 * The model of a disk (disk_state.c), for a power loss after the first n changes. It follows ALICE (Pillai and others, OSDI 2014) and CrashMonkey (Mohan and
 * others, OSDI 2018), and is strict where file systems are kind:
 *
 *   1. A sync covers what was changed before it began, never what came while it ran.
 *   2. fsync and fdatasync of a file: its pages, also those changed through a map, and its size. Not its name, as POSIX says, although ext4 and XFS
 *      would sync that of a new file, too. msync: the pages of its range, and the size.
 *   3. fsync of a directory: its names. Not what the files hold, nor the names below, nor its own.
 *   4. A page without a sync has, sector by sector, any of the contents that it had since its last sync: by itself, whatever order they came in and
 *      whatever became of other pages of the same file or of others. So a write of several pages may be there in part, with holes, or torn within a page at
 *      sectors of 512 bytes. A sector is whole.
 *   5. A size without a sync is any of those since the last sync, whatever became of the pages. Pages that were not written read as zeros; what lies
 *      behind the size is gone. Bytes of strangers' files never show up.
 *   6. A change of names (creation, unlink, rename, mkdir, rmdir) without a sync is there or not, by itself: a rename without a sync of the file before
 *      may show the new name with any content that 4 and 5 admit. A rename is atomic. Only changes of the same name or the same file keep their order, and
 *      the removal of a directory comes behind those of its names; in some states all names keep their order, as a journal would have it.
 *   7. Calls before the recording are as if synced.
 *
 * A state is drawn by a seed, which also draws how: all or nothing of what has no sync, only names, only contents, each file with a probability of its
 * own, torn or not.
 */
#ifndef QUIRE_TESTS_DISK_H
#define QUIRE_TESTS_DISK_H

#include "base/io.h"

#include <stdint.h>

/* The caller's own note: all that it had begun, and all that was promised, when it was made. */
struct disk_mark {
    uint64_t begun;
    uint64_t promised;
    uint64_t promised_lsn;
};

struct disk;

/* What the directory holds is the beginning. Failures of memory and of the recorder itself end the program. */
struct disk *disk_new(int dir_fd);
void disk_free(struct disk *d); /* takes NULL */
/* From now on, until disk_stop, all calls through the seam that lie below the directory are recorded, by whichever thread. One disk at a time. */
void disk_start(struct disk *d);
void disk_stop(struct disk *d);
void disk_note(struct disk *d, struct disk_mark mark); /* before the first change: it is the beginning's */

/* Moments at which the power may fail: after disk_first .. disk_changes changes. Those before disk_first are what the directory held at the beginning. */
size_t disk_first(const struct disk *d);
size_t disk_changes(const struct disk *d);
/* One of them: every other time any, else one right before a sync or a change of names, when most is at stake. */
size_t disk_moment(const struct disk *d, uint64_t random);
/* The last note before the moment; zeros before the first. */
struct disk_mark disk_mark_at(const struct disk *d, size_t moment);

struct disk_state {
    uint64_t hash; /* of all names and contents: equal for equal states */
    unsigned dropped_names, dropped_pages, torn_pages, dropped_sizes;
    char how[32];
};
/* Draws a state of that moment. dir_fd: an empty directory that gets it; -1: only *ret is wanted. */
void disk_make(const struct disk *d, size_t moment, uint64_t seed, int dir_fd, struct disk_state *ret);

#endif
