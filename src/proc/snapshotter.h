/* snapshotter.h - when snapshots are taken, and the thread that writes them. */
#ifndef QUIRE_PROC_SNAPSHOTTER_H
#define QUIRE_PROC_SNAPSHOTTER_H

#include "proc/supervisor.h"

/* What lies there and the next one may rest on, see the top of snapshotter.c. */
struct snapshot_candidate {
    char name[SNAPSHOT_NAME_MAX]; /* "": none */
    bool loaded;                  /* the recovery came from it */
};
/* latest: the newest snapshot there is, or NULL. news: whether the log holds changes after it. */
MUST_CHECK bool snapshotter_new(struct supervisor *s, const struct snapshot_info *latest, bool news, const struct snapshot_candidate *candidate,
                                struct snapshotter **ret, struct status *st);
/* A snapshot turned out to be no good: the next one is whole. Any thread. */
void snapshotter_distrust(struct snapshotter *sn);
/* Committer: that many ops were committed, library_ops of them create, change or delete libraries. */
void snapshotter_note(struct snapshotter *sn, uint64_t ops, uint64_t library_ops);
/* A task was added, or a setting changed. Any thread. */
void snapshotter_wake(struct snapshotter *sn);
/* Gives up what is being written, if it is for this task. Any thread. */
void snapshotter_cancel(struct snapshotter *sn, const struct uuid *task);
/* Ends the thread; one that is being written is given up. */
void snapshotter_stop(struct snapshotter *sn);
/* At an orderly stop, after the committer: takes one if there is something new, and not too much of it. *ret_taken. */
MUST_CHECK bool snapshotter_final(struct snapshotter *sn, bool *ret_taken, struct snapshot_info *ret, struct status *st);
void snapshotter_free(struct snapshotter *sn); /* stops first; takes NULL */

#endif
