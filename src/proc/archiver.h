/* archiver.h - the thread that copies finished log segments into archive_dir. */
#ifndef QUIRE_PROC_ARCHIVER_H
#define QUIRE_PROC_ARCHIVER_H

#include "proc/supervisor.h"

/* Before anything may let log segments go: from now on they wait for their copies. Without archive_dir it does nothing, ever. */
MUST_CHECK bool archiver_new(struct supervisor *s, struct archiver **ret, struct status *st);
/* Committer: after each commit; `place` is the log's (oplog_position). */
void archiver_note(struct archiver *a, uint64_t place);
/* Committer: whether writes must wait because the archive is too far behind; then STATUS_NO_SPACE. */
MUST_CHECK bool archiver_admits(struct archiver *a, struct status *st);
/* What is kept as snapshots can be rolled forward from that LSN on. Any thread. */
void archiver_set_oldest(struct archiver *a, uint64_t lsn);
/* Ends the thread. */
void archiver_stop(struct archiver *a);
/* At an orderly stop, when the log is closed: copies what there is, the last segment included. */
void archiver_final(struct archiver *a);
void archiver_free(struct archiver *a); /* stops first; takes NULL */

#endif
